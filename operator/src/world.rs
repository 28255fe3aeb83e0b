//! What is known of the cluster, fed with watch events as values. Only what some monitor asks for is here, and of a Secret
//! only parsed facts.

mod by_name;
mod objects;
mod wanted;

pub use objects::{
    Ingress, IngressAddress, IngressTls, Labels, Monitor, Seen, SinkSecretVersion, StoredSecret, TrustKind,
    TrustObject, WatchId, WatchState, WorldEvent,
};
pub use wanted::{KeyFilter, MOST_NAMED_OF_NAMESPACE, MOST_TYPES, Wanted};

use crate::cluster::Key;
use by_name::SecretsByName;
use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::Arc,
};

/// An object, the watch that owns it, and when it was seen last, counted in lists that began.
#[derive(Debug)]
struct Held<T> {
    watch: Arc<WatchId>,
    round: u64,
    object: T,
}

impl Held<StoredSecret> {
    /// The watch of its type holds it, not one by name alone.
    fn is_held_by_type(&self) -> bool {
        matches!(*self.watch, WatchId::Secrets { .. })
    }
}

/// What one watch has told so far.
#[derive(Debug)]
struct WatchBook {
    state: WatchState,
    /// When the list that runs, or ran last, began: of everything, or of one namespace.
    began: HashMap<Option<Box<str>>, u64>,
    /// What the last complete list of a namespace was asked for.
    listed: HashMap<Box<str>, Arc<Wanted>>,
    /// What the last complete list of everything was asked for.
    listed_all: Option<Arc<Wanted>>,
}

impl Default for WatchBook {
    fn default() -> Self {
        Self {
            state: WatchState::Working,
            began: HashMap::new(),
            listed: HashMap::new(),
            listed_all: None,
        }
    }
}

/// What is known of the cluster.
#[derive(Debug, Default)]
pub struct World {
    monitors: HashMap<Key, Held<Monitor>>,
    secrets: HashMap<Arc<str>, SecretsByName>,
    ingresses: HashMap<Arc<str>, BTreeMap<Arc<str>, Held<Ingress>>>,
    trust: HashMap<WatchId, Held<TrustObject>>,
    sink_secrets: HashMap<Key, Held<SinkSecretVersion>>,
    watches: HashMap<WatchId, WatchBook>,
    /// Thousands of objects have one watch.
    ids: HashSet<Arc<WatchId>>,
    wanted: Arc<Wanted>,
    scope: Vec<Box<str>>,
    /// Lists that began so far.
    round: u64,
}

/// What an event changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Touched {
    /// Nothing that matters.
    Nothing,
    /// A monitor's object.
    Monitor(Key),
    /// A monitor is gone.
    MonitorGone(Key),
    /// A Secret of a namespace, by name.
    Secret(Key),
    /// A Secret of a sink.
    SinkSecret(Key),
    /// Something else in one namespace.
    Namespace(Arc<str>),
    /// What every monitor may depend on.
    Everything,
}

impl World {
    /// Knows nothing yet. `scope`: the namespaces that are watched; empty means all.
    #[must_use]
    pub fn new(scope: Vec<Box<str>>) -> Self {
        Self {
            scope,
            ..Self::default()
        }
    }

    /// Takes an event in.
    pub fn apply(&mut self, event: WorldEvent) -> Vec<Touched> {
        match event {
            WorldEvent::ListBegan(id, namespace) => {
                self.round += 1;
                self.watches.entry(id).or_default().began.insert(namespace, self.round);
                vec![]
            }
            WorldEvent::Applied(id, seen) => {
                // The end of a first list touches all that it brought, once; each of thousands would be a pass of its own.
                let of_many = matches!(id, WatchId::Secrets { .. } | WatchId::Ingresses);
                let listing = of_many && !self.listed(&id, &seen.key().namespace).1;
                let touched = self.insert(id, seen);
                if listing { vec![] } else { touched }
            }
            WorldEvent::Deleted(id, key) => self.remove(&id, &key),
            WorldEvent::ListEnded(id, namespace, wanted) => {
                let mut touched = self.sweep(&id, namespace.as_deref());
                let book = self.watches.entry(id).or_default();
                book.state = WatchState::Working;
                match namespace {
                    Some(namespace) => {
                        touched.push(Touched::Namespace((&*namespace).into()));
                        book.listed.insert(namespace, wanted);
                    }
                    None => {
                        touched.push(Touched::Everything);
                        book.listed.clear();
                        book.listed_all = Some(wanted);
                    }
                }
                touched
            }
            WorldEvent::EgressPolicy => vec![Touched::Everything],
            WorldEvent::State(id, state) => {
                let touched = match &id {
                    WatchId::Secret(key) | WatchId::Trust(_, key) => Touched::Namespace(key.namespace.clone()),
                    WatchId::Monitors | WatchId::Secrets { .. } | WatchId::Ingresses | WatchId::SinkSecrets { .. } => {
                        Touched::Everything
                    }
                };
                let book = self.watches.entry(id).or_default();
                if std::mem::replace(&mut book.state, state) == state {
                    vec![]
                } else {
                    vec![touched]
                }
            }
        }
    }

    /// Says what is asked for from now on; books and objects of watches that end are dropped.
    pub fn want(&mut self, wanted: Arc<Wanted>) {
        let live = wanted.watches();
        self.watches.retain(|id, _| live.contains(id));
        self.trust.retain(|id, _| live.contains(id));
        for objects in self.secrets.values_mut() {
            objects.retain(|held| live.contains(&*held.watch));
        }
        self.secrets.retain(|_, objects| !objects.is_empty());
        for (namespace, objects) in &mut self.ingresses {
            objects.retain(|_, held| live.contains(&*held.watch) && wanted.ingresses.contains(&**namespace));
        }
        self.ingresses.retain(|_, objects| !objects.is_empty());
        self.sink_secrets.retain(|_, held| live.contains(&*held.watch));
        self.ids.retain(|id| live.contains(&**id));
        self.wanted = wanted;
    }

    /// What is asked for.
    #[must_use]
    pub fn wanted(&self) -> &Arc<Wanted> {
        &self.wanted
    }

    /// A watch that monitors ask for and that [`Wanted::limit`] leaves out.
    #[must_use]
    pub fn leaves_out(&self, id: &WatchId) -> bool {
        match id {
            WatchId::Secrets { type_ } => {
                self.wanted.secrets.len() >= MOST_TYPES && !self.wanted.secrets.contains_key(&**type_)
            }
            WatchId::Secret(key) => self.wanted.leaves_out_named(key),
            WatchId::Monitors | WatchId::Ingresses | WatchId::Trust(..) | WatchId::SinkSecrets { .. } => false,
        }
    }

    /// How the watch does, as far as `namespace` is concerned: `None` until its first complete list of what is wanted there.
    #[must_use]
    pub fn listed(&self, id: &WatchId, namespace: &str) -> (WatchState, bool) {
        let Some(book) = self.watches.get(id) else {
            return (WatchState::Working, false);
        };
        let covered = |wanted: &Arc<Wanted>| wanted.covers(&self.wanted, id, namespace);
        let complete = book.listed.get(namespace).is_some_and(covered) || book.listed_all.as_ref().is_some_and(covered);
        (book.state, complete)
    }

    /// Every watch that is asked for has been listed, or can't be for a reason that is told on the monitors.
    #[must_use]
    pub fn synced(&self) -> bool {
        self.wanted.watches().iter().all(|id| {
            self.watches.get(id).is_some_and(|book| {
                let everywhere = match id {
                    WatchId::Secret(key) | WatchId::Trust(_, key) => book.listed.contains_key(&*key.namespace),
                    _ => {
                        !self.scope.is_empty() && self.scope.iter().all(|namespace| book.listed.contains_key(namespace))
                    }
                };
                everywhere || book.listed_all.is_some() || book.state != WatchState::Working
            })
        })
    }

    /// All monitors.
    pub fn monitors(&self) -> impl Iterator<Item = &Monitor> {
        self.monitors.values().map(|held| &held.object)
    }

    /// One monitor.
    #[must_use]
    pub fn monitor(&self, key: &Key) -> Option<&Monitor> {
        self.monitors.get(key).map(|held| &held.object)
    }

    /// The Secrets of a namespace that are held, by name.
    pub fn secrets(&self, namespace: &str) -> impl Iterator<Item = &StoredSecret> {
        self.secrets
            .get(namespace)
            .into_iter()
            .flat_map(SecretsByName::iter)
            .map(|held| &held.object)
    }

    /// One Secret.
    #[must_use]
    pub fn secret(&self, namespace: &str, name: &str) -> Option<&StoredSecret> {
        self.secrets.get(namespace)?.get(name).map(|held| &held.object)
    }

    /// The watch of some type holds the Secret: it needn't be watched by name.
    #[must_use]
    pub fn is_held_by_type(&self, namespace: &str, name: &str) -> bool {
        let held = self.secrets.get(namespace).and_then(|of| of.get(name));
        held.is_some_and(Held::is_held_by_type)
    }

    /// The Ingresses of a namespace, by name.
    pub fn ingresses(&self, namespace: &str) -> impl Iterator<Item = &Ingress> {
        self.ingresses
            .get(namespace)
            .into_iter()
            .flat_map(BTreeMap::values)
            .map(|held| &held.object)
    }

    /// A trust reference's object.
    #[must_use]
    pub fn trust(&self, id: &WatchId) -> Option<&TrustObject> {
        self.trust.get(id).map(|held| &held.object)
    }

    /// The version of a sink's Secret.
    #[must_use]
    pub fn sink_secret(&self, key: &Key) -> Option<&str> {
        self.sink_secrets.get(key).map(|held| &*held.object.version)
    }

    fn shared(&mut self, id: WatchId) -> Arc<WatchId> {
        if let Some(known) = self.ids.get(&id) {
            return known.clone();
        }
        let id = Arc::new(id);
        self.ids.insert(id.clone());
        id
    }

    fn insert(&mut self, id: WatchId, seen: Seen) -> Vec<Touched> {
        let round = self.round;
        let id = self.shared(id);
        let key = seen.key().clone();
        match seen {
            Seen::Monitor(monitor) => {
                let held = Held {
                    watch: id,
                    round,
                    object: *monitor,
                };
                let old = self.monitors.insert(key.clone(), held);
                let new = self.monitors.get(&key).map(|held| &held.object);
                match (old, new) {
                    // What is written to a status is nobody's question: mostly it is our own write that comes back.
                    (Some(old), Some(new)) if old.object.asks_the_same(new) => vec![],
                    _ => vec![Touched::Monitor(key)],
                }
            }
            Seen::Secret(secret) => {
                let of_namespace = self.secrets.entry(key.namespace.clone()).or_default();
                // What the watch of its type holds stays that watch's: one by name ends as soon as it isn't needed.
                let of_type = of_namespace
                    .get(&key.name)
                    .filter(|held| held.is_held_by_type() && held.object.type_ == secret.type_);
                let watch = of_type.map_or(id, |held| held.watch.clone());
                let old = of_namespace.insert(Held {
                    watch,
                    round,
                    object: secret,
                });
                let new = of_namespace.get(&key.name).map(|held| &held.object);
                if old.as_ref().map(|held| &held.object) == new {
                    vec![]
                } else {
                    vec![Touched::Secret(key)]
                }
            }
            Seen::Ingress(ingress) => {
                let of_namespace = self.ingresses.entry(key.namespace.clone()).or_default();
                let old = of_namespace.insert(
                    key.name.clone(),
                    Held {
                        watch: id,
                        round,
                        object: ingress,
                    },
                );
                let new = of_namespace.get(&key.name).map(|held| &held.object);
                if old.as_ref().map(|held| &held.object) == new {
                    vec![]
                } else {
                    vec![Touched::Namespace(key.namespace)]
                }
            }
            Seen::Trust(object) => {
                let same = self.trust.get(&*id).is_some_and(|held| held.object == object);
                self.trust.insert(
                    (*id).clone(),
                    Held {
                        watch: id,
                        round,
                        object,
                    },
                );
                if same {
                    vec![]
                } else {
                    vec![Touched::Namespace(key.namespace)]
                }
            }
            Seen::SinkSecret(version) => {
                let same = self.sink_secrets.get(&key).is_some_and(|held| held.object == version);
                self.sink_secrets.insert(
                    key.clone(),
                    Held {
                        watch: id,
                        round,
                        object: version,
                    },
                );
                if same { vec![] } else { vec![Touched::SinkSecret(key)] }
            }
        }
    }

    fn remove(&mut self, id: &WatchId, key: &Key) -> Vec<Touched> {
        match id {
            WatchId::Monitors => match self.monitors.remove(key) {
                Some(_) => vec![Touched::MonitorGone(key.clone())],
                None => vec![],
            },
            WatchId::Secrets { .. } | WatchId::Secret(_) => {
                let Some(of_namespace) = self.secrets.get_mut(&key.namespace) else {
                    return vec![];
                };
                // A Secret that was made again with another type is another watch's by now.
                if of_namespace.get(&key.name).is_some_and(|held| *held.watch == *id) {
                    of_namespace.remove(&key.name);
                    vec![Touched::Secret(key.clone())]
                } else {
                    vec![]
                }
            }
            WatchId::Ingresses => {
                let removed = self
                    .ingresses
                    .get_mut(&key.namespace)
                    .and_then(|of| of.remove(&key.name));
                removed
                    .map(|_| Touched::Namespace(key.namespace.clone()))
                    .into_iter()
                    .collect()
            }
            WatchId::Trust(..) => self
                .trust
                .remove(id)
                .map(|_| Touched::Namespace(key.namespace.clone()))
                .into_iter()
                .collect(),
            WatchId::SinkSecrets { .. } => {
                if self.sink_secrets.get(key).is_some_and(|held| *held.watch == *id) {
                    self.sink_secrets.remove(key);
                    vec![Touched::SinkSecret(key.clone())]
                } else {
                    vec![]
                }
            }
        }
    }

    /// Removes what the watch owned and the list that just ended didn't see.
    fn sweep(&mut self, id: &WatchId, namespace: Option<&str>) -> Vec<Touched> {
        let began = self
            .watches
            .get(id)
            .and_then(|book| book.began.get(&namespace.map(Into::into)));
        let round = began.copied().unwrap_or(0);
        let stale = |watch: &WatchId, seen: u64| watch == id && seen < round;
        let mut gone: HashSet<Key> = HashSet::new();
        gone.extend(
            self.monitors
                .iter()
                .filter(|(_, h)| stale(&h.watch, h.round))
                .map(|(key, _)| key.clone()),
        );
        gone.extend(
            self.sink_secrets
                .iter()
                .filter(|(_, h)| stale(&h.watch, h.round))
                .map(|(key, _)| key.clone()),
        );
        let secrets = self.secrets.values().flat_map(SecretsByName::iter);
        gone.extend(
            secrets
                .filter(|h| stale(&h.watch, h.round))
                .map(|h| h.object.key.clone()),
        );
        let ingresses = self.ingresses.values().flat_map(BTreeMap::values);
        gone.extend(
            ingresses
                .filter(|h| stale(&h.watch, h.round))
                .map(|h| h.object.key.clone()),
        );
        gone.extend(
            self.trust
                .values()
                .filter(|h| stale(&h.watch, h.round))
                .map(|h| h.object.key.clone()),
        );
        gone.retain(|key| namespace.is_none_or(|namespace| *key.namespace == *namespace));
        gone.iter().flat_map(|key| self.remove(id, key)).collect()
    }
}

#[cfg(test)]
mod tests;
