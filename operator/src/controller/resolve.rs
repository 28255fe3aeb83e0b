//! What a monitor's spec means in the world as it is: places, and for each source how many, and what is wrong with it.

mod ingresses;

use super::{
    hint,
    spec::{Endpoint, Parsed, SecretChoice, SourceKind},
};
use crate::{
    cluster::Key,
    world::{MOST_TYPES, StoredSecret, WatchId, WatchState, World},
};
use certmon_core::{
    assess::{MissingSecret, NamedBy},
    observation::{Content, DataFault, StoredValue},
    place::{Host, Place},
    silence::glob,
    target::{DialTarget, Provenance},
    text::PeerText,
};
use kube::core::SelectorExt;
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

/// The most targets of one monitor that are dialled.
pub const MOST_DIALLED: usize = 500;

/// What a monitor watches, now.
#[derive(Clone, Debug, Default)]
pub struct Resolved {
    /// Every place that is checked, once.
    pub places: BTreeMap<Place, Watched>,
    /// Places beyond the monitor's limits.
    pub unchecked: u32,
    /// Every source, in the spec's order.
    pub sources: Vec<SourceReport>,
    /// Every source was read completely: a place that isn't here is gone.
    pub complete: bool,
}

/// One place.
#[derive(Clone, Debug)]
pub enum Watched {
    /// A value of a Secret.
    Stored {
        /// What it holds.
        value: Arc<StoredValue>,
        /// The certificates of `ca.crt` beside it are judged too.
        with_anchors: bool,
    },
    /// A Secret, or its key, that something names and that isn't there.
    Missing {
        /// What of it.
        missing: MissingSecret,
        /// Who names it.
        named_by: NamedBy,
    },
    /// An endpoint whose host is none: it is not dialled.
    NoHost,
    /// What a server serves.
    Served {
        /// What is dialled; `None` where nothing can be (a wildcard host, a target beyond the limit).
        target: Option<DialTarget>,
        /// The name that must be covered.
        server_name: Host,
        /// The stored certificate of an Ingress's host.
        secret: StoredBeside,
        /// It comes from an object, not from the spec.
        from_object: bool,
        /// The object's status has no address.
        without_address: bool,
    },
}

/// The stored certificate that belongs to a host.
#[derive(Clone, Debug)]
pub enum StoredBeside {
    /// No Secret belongs to it.
    None,
    /// It isn't there (yet).
    Missing,
    /// It is there.
    Value(Arc<StoredValue>),
}

/// What a source yields.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SourceReport {
    /// Its name.
    pub name: Box<str>,
    /// The places that it selects.
    pub places: BTreeSet<Place>,
    /// Why it can't be read, or not completely.
    pub trouble: Option<Trouble>,
    /// It was read completely.
    pub complete: bool,
    /// Why it selects nothing, and what is near.
    pub hint: Option<String>,
    /// Fewer places that hold a certificate are a finding.
    pub min_certificates: Option<u32>,
}

/// Why a source can't be read.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Trouble {
    /// RBAC.
    Forbidden(String),
    /// Not installed, or the API server doesn't answer.
    Unavailable(String),
    /// A Secret that the source names isn't there, or is of another type.
    NotFound(String),
}

impl Trouble {
    /// The sentence for people.
    #[must_use]
    pub fn text(&self) -> &str {
        match self {
            Self::Forbidden(text) | Self::Unavailable(text) | Self::NotFound(text) => text,
        }
    }
}

/// Resolves a monitor's spec. `open` says which places have an open alert: they stay checked where a limit bites.
#[must_use]
pub fn resolve(namespace: &str, parsed: &Parsed, world: &World, open: &dyn Fn(&Place) -> bool) -> Resolved {
    let mut resolved = Resolved {
        complete: true,
        ..Resolved::default()
    };
    for source in &parsed.sources {
        let mut found = Found::new(namespace, parsed, world);
        match &source.kind {
            SourceKind::Secrets(choice) => found.secrets(choice),
            SourceKind::Ingresses(choice) => found.ingresses(choice),
            SourceKind::Endpoints(endpoints) => {
                for endpoint in endpoints {
                    found.endpoint(endpoint);
                }
            }
        }
        resolved.complete &= found.complete;
        resolved.sources.push(SourceReport {
            name: source.name.clone(),
            places: found.places.keys().cloned().collect(),
            trouble: found.trouble,
            complete: found.complete,
            hint: found.hint,
            min_certificates: source.min_certificates,
        });
        for (place, watched) in found.places {
            let known = resolved.places.entry(place).or_insert_with(|| watched.clone());
            // Two sources may select one place: what either asks for is judged.
            if let (
                Watched::Stored {
                    with_anchors: asked, ..
                },
                Watched::Stored { with_anchors, .. },
            ) = (known, watched)
            {
                *asked |= with_anchors;
            }
        }
    }
    limit(&mut resolved, parsed.max_certificates, open);
    resolved
}

/// Keeps the places with an open alert, then the first by name: `max` in all, [`MOST_DIALLED`] of those that are dialled.
fn limit(resolved: &mut Resolved, max: usize, open: &dyn Fn(&Place) -> bool) {
    let is_dialled = |watched: &Watched| matches!(watched, Watched::Served { target: Some(_), .. });
    let mut by_rank: Vec<(bool, Place)> = resolved
        .places
        .keys()
        .map(|place| (!open(place), place.clone()))
        .collect();
    by_rank.sort();
    let (mut kept, mut dialled) = (0, 0);
    for (_, place) in by_rank {
        let dials = resolved.places.get(&place).is_some_and(is_dialled);
        if kept < max && (!dials || dialled < MOST_DIALLED) {
            kept += 1;
            dialled += usize::from(dials);
        } else {
            resolved.places.remove(&place);
            resolved.unchecked += 1;
        }
    }
}

/// What one source has yielded so far.
struct Found<'a> {
    namespace: &'a str,
    /// The same, as thousands of places share it.
    shared_namespace: Arc<str>,
    parsed: &'a Parsed,
    world: &'a World,
    places: BTreeMap<Place, Watched>,
    trouble: Option<Trouble>,
    complete: bool,
    hint: Option<String>,
}

impl<'a> Found<'a> {
    fn new(namespace: &'a str, parsed: &'a Parsed, world: &'a World) -> Self {
        Self {
            namespace,
            shared_namespace: namespace.into(),
            parsed,
            world,
            places: BTreeMap::new(),
            trouble: None,
            complete: true,
            hint: None,
        }
    }

    fn endpoint(&mut self, endpoint: &Endpoint) {
        let (place, watched) = match endpoint.clone() {
            Endpoint::Dialled {
                host,
                port,
                server_name,
            } => {
                let watched = Watched::Served {
                    target: Some(self.target(vec![(host.clone(), port, Provenance::FreeText)], &server_name)),
                    server_name: server_name.clone(),
                    secret: StoredBeside::None,
                    from_object: false,
                    without_address: false,
                };
                let place = Place::Endpoint {
                    host,
                    port,
                    server_name,
                };
                (place, watched)
            }
            Endpoint::NoHost {
                host,
                port,
                server_name,
            } => {
                let place = Place::NoHost {
                    host,
                    port,
                    server_name,
                };
                (place, Watched::NoHost)
            }
        };
        self.places.insert(place, watched);
    }

    fn target(&self, hosts: Vec<(Host, u16, Provenance)>, server_name: &Host) -> DialTarget {
        DialTarget {
            namespace: self.namespace.into(),
            hosts,
            server_name: server_name.clone(),
            addresses: self.parsed.probe.addresses,
            timeout: self.parsed.probe.timeout,
        }
    }

    fn secret_place(&self, name: impl Into<Arc<str>>, key: impl Into<Arc<str>>) -> Place {
        Place::Secret {
            namespace: self.shared_namespace.clone(),
            name: name.into(),
            key: key.into(),
        }
    }

    /// Notes how a watch does. Returns whether it was read completely.
    fn watch(&mut self, id: &WatchId, what: &str) -> bool {
        let namespace = self.namespace;
        let (state, complete) = self.world.listed(id, namespace);
        let trouble = match state {
            WatchState::Working => None,
            WatchState::Forbidden => Some(Trouble::Forbidden(format!(
                "certmon may not list and watch {what} in namespace {namespace}; grant it `list` and `watch` there \
                 (values `scope` and `rbac` of the chart)"
            ))),
            WatchState::Unavailable => Some(Trouble::Unavailable(format!(
                "{what} can't be listed: the API server does not answer, or the kind is not installed"
            ))),
        };
        let crowded = trouble.is_none() && !complete && self.world.leaves_out(id);
        let trouble = trouble.or_else(|| {
            crowded.then(|| {
                Trouble::Unavailable(format!(
                    "{what} are not watched: the monitors of this cluster name more than {MOST_TYPES} types of Secrets"
                ))
            })
        });
        let fine = trouble.is_none() && complete;
        self.complete &= fine;
        self.trouble = self.trouble.take().or(trouble);
        fine
    }

    fn secrets(&mut self, choice: &SecretChoice) {
        let mut complete = true;
        for type_ in &choice.types {
            let id = WatchId::Secrets {
                type_: (&**type_).into(),
            };
            complete &= self.watch(&id, &format!("Secrets of type {type_}"));
        }
        let with_anchors = choice.keys.iter().any(|key| glob(key, "ca.crt"));
        let main_key = choice
            .keys
            .iter()
            .find(|key| !key.contains('*'))
            .map_or("tls.crt", |key| &**key);
        let mut seen = BTreeSet::new();
        for secret in self
            .world
            .secrets(self.namespace)
            .filter(|secret| choice.types.contains(&*secret.type_))
        {
            let by_name = choice.names.contains(&*secret.key.name);
            let by_label = choice
                .selector
                .as_ref()
                .is_some_and(|matcher| matcher.selector.matches(&secret.labels));
            if !by_name && !by_label {
                continue;
            }
            seen.insert(secret.key.name.clone());
            let values = chosen_values(secret, choice);
            if by_name && values.is_empty() {
                let value = StoredValue {
                    fault: Some(DataFault::NoCertificate),
                    ..StoredValue::default()
                };
                let watched = Watched::Stored {
                    value: Arc::new(value),
                    with_anchors: false,
                };
                let place = self.secret_place(secret.key.name.clone(), main_key);
                self.places.insert(place, watched);
            }
            for (key, value) in values {
                let watched = Watched::Stored {
                    value: value.clone(),
                    with_anchors,
                };
                let place = self.secret_place(secret.key.name.clone(), key.clone());
                self.places.insert(place, watched);
            }
        }
        if !complete {
            return;
        }
        let missing: Vec<&Box<str>> = choice.names.iter().filter(|name| !seen.contains(&***name)).collect();
        for (at, name) in missing.iter().enumerate() {
            let (missing_as, text) = self.why_missing(name, choice);
            let watched = Watched::Missing {
                missing: missing_as,
                named_by: NamedBy::Monitor,
            };
            let place = self.secret_place(&***name, main_key);
            self.places.insert(place, watched);
            if at == 0 {
                let more = match missing.len() {
                    1 => String::new(),
                    several => format!(" (and {} more)", several - 1),
                };
                self.trouble = self.trouble.take().or(Some(Trouble::NotFound(text + &more)));
            }
        }
        if self.places.is_empty() {
            self.hint = Some(hint::no_secret(self.namespace, choice, self.world));
        }
    }

    /// Why a Secret that `names` names is not among those that are looked at.
    fn why_missing(&self, name: &str, choice: &SecretChoice) -> (MissingSecret, String) {
        let what = format!("Secret {}/{name}", self.namespace);
        if let Some(secret) = self.world.secret(self.namespace, name) {
            let type_ = PeerText::sanitise(&secret.type_);
            let text = format!("{what} exists with type {type_}: list it under `types`");
            return (MissingSecret::OtherType(type_), text);
        }
        let by_name = WatchId::Secret(Key::new(self.namespace, name));
        let text = if self.world.listed(&by_name, self.namespace).1 {
            format!("{what} does not exist")
        } else {
            format!(
                "{what} does not exist, or is not of type {}",
                hint::any_of(&choice.types)
            )
        };
        (MissingSecret::Absent, text)
    }
}

/// The values of a Secret that a source chooses. A pattern only searches: what holds no certificate there is nothing.
fn chosen_values<'a>(secret: &'a StoredSecret, choice: &SecretChoice) -> Vec<(&'a Arc<str>, &'a Arc<StoredValue>)> {
    let chosen = secret.values.iter().filter(|(key, value)| {
        let named = choice.keys.iter().any(|chosen| **chosen == **key);
        let searched = choice.keys.iter().any(|chosen| glob(chosen, key));
        named || (searched && value.content != Content::Nothing)
    });
    let mut chosen: Vec<_> = chosen.map(|(key, value)| (key, value)).collect();
    // Beside a leaf it is that leaf's anchors, and told of with it.
    if &*secret.type_ == "kubernetes.io/tls" && chosen.iter().any(|(key, _)| &***key == "tls.crt") {
        chosen.retain(|(key, _)| &***key != "ca.crt");
    }
    chosen
}
