//! What a monitor's spec means in the world as it is: places, and for each source how many, and what is wrong with it.

use super::{
    hint,
    spec::{IngressChoice, Parsed, SecretChoice, SourceKind},
};
use crate::{
    cluster::Key,
    world::{Ingress, MOST_TYPES, StoredSecret, WatchId, WatchState, World},
};
use certmon_core::{
    observation::{Content, DataFault, StoredValue},
    place::{Host, Place, Via},
    silence::glob,
    target::{DialTarget, Provenance},
};
use kube::core::SelectorExt;
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

/// The most targets of one monitor that are dialled.
pub const MOST_DIALLED: usize = 500;
/// The most addresses of an Ingress's status that are dialled.
const MOST_ADDRESSES: usize = 16;

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
        /// What it holds; `None` where the Secret or the key isn't there.
        value: Option<Arc<StoredValue>>,
        /// The certificates of `ca.crt` beside it are judged too.
        with_anchors: bool,
    },
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
                for (host, port, server_name) in endpoints {
                    found.endpoint(host, *port, server_name);
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
            resolved.places.entry(place).or_insert(watched);
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

    fn endpoint(&mut self, host: &Host, port: u16, server_name: &Host) {
        let place = Place::Endpoint {
            host: host.clone(),
            port,
            server_name: server_name.clone(),
        };
        let watched = Watched::Served {
            target: Some(self.target(vec![(host.clone(), port, Provenance::FreeText)], server_name)),
            server_name: server_name.clone(),
            secret: StoredBeside::None,
            from_object: false,
            without_address: false,
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
                    value: Some(Arc::new(value)),
                    with_anchors: false,
                };
                let place = self.secret_place(secret.key.name.clone(), main_key);
                self.places.insert(place, watched);
            }
            for (key, value) in values {
                let watched = Watched::Stored {
                    value: Some(value.clone()),
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
        for name in &missing {
            let watched = Watched::Stored {
                value: None,
                with_anchors: false,
            };
            let place = self.secret_place(&***name, main_key);
            self.places.insert(place, watched);
        }
        if let Some(first) = missing.first() {
            let more = if missing.len() > 1 {
                format!(" (and {} more)", missing.len() - 1)
            } else {
                String::new()
            };
            let text = format!(
                "Secret {}/{first} does not exist, or is not of type {}{more}",
                self.namespace,
                hint::any_of(&choice.types)
            );
            self.trouble = self.trouble.take().or(Some(Trouble::NotFound(text)));
        }
        if self.places.is_empty() {
            self.hint = Some(hint::no_secret(self.namespace, choice, self.world));
        }
    }

    fn ingresses(&mut self, choice: &IngressChoice) {
        let world = self.world;
        let complete = self.watch(&WatchId::Ingresses, "Ingresses");
        let tls = WatchId::Secrets {
            type_: "kubernetes.io/tls".into(),
        };
        let secrets_complete = self.watch(&tls, "Secrets of type kubernetes.io/tls");
        let mut plain = 0;
        for ingress in world.ingresses(self.namespace) {
            if !choice.selector.selector.matches(&ingress.labels) {
                continue;
            }
            plain += usize::from(ingress.tls.is_empty());
            for entry in &ingress.tls {
                let beside = self.stored_beside(entry.secret.as_deref(), choice.stored, secrets_complete);
                let hosts = if entry.hosts.is_empty() {
                    &ingress.rule_hosts
                } else {
                    &entry.hosts
                };
                for host in hosts.iter().filter_map(|host| Host::parse(host).ok()) {
                    self.ingress_host(ingress, host, choice, &beside);
                }
            }
        }
        if complete && self.places.is_empty() {
            let all = world.ingresses(self.namespace).count();
            let namespace = self.namespace;
            self.hint = Some(match (all, plain) {
                (0, _) => format!("no Ingress exists in namespace {namespace}"),
                (_, 0) => format!(
                    "none of the {all} Ingresses in namespace {namespace} matches {}",
                    choice.selector.text
                ),
                (_, 1) => format!("1 Ingress in namespace {namespace} is selected, but has no `spec.tls`"),
                _ => format!("{plain} Ingresses in namespace {namespace} are selected, but have no `spec.tls`"),
            });
        }
    }

    /// The Secret of a TLS entry, which becomes a place of its own where stored certificates are asked for.
    fn stored_beside(&mut self, name: Option<&str>, stored: bool, secrets_complete: bool) -> StoredBeside {
        let Some(name) = name else { return StoredBeside::None };
        let secret = self.world.secret(self.namespace, name);
        let value = secret.and_then(|secret| secret.values.iter().find(|(key, _)| &**key == "tls.crt"));
        let value = value.map(|(_, value)| value.clone());
        let by_name = WatchId::Secret(Key::new(self.namespace, name));
        let read = secret.is_some() || (secrets_complete && self.world.listed(&by_name, self.namespace).1);
        self.complete &= read;
        if stored && read {
            let watched = Watched::Stored {
                value: value.clone(),
                with_anchors: true,
            };
            let place = self.secret_place(name, "tls.crt");
            self.places.insert(place, watched);
        }
        value.map_or(StoredBeside::Missing, StoredBeside::Value)
    }

    fn ingress_host(&mut self, ingress: &Ingress, host: Host, choice: &IngressChoice, beside: &StoredBeside) {
        let dialled = choice.served && !host.is_wildcard();
        // Without a look and without a stored certificate there is nothing to judge.
        let stored = choice.stored && matches!(beside, StoredBeside::Value(_));
        if !dialled && !stored {
            return;
        }
        let place = Place::Ingress {
            namespace: self.namespace.into(),
            name: ingress.key.name.clone(),
            host: host.clone(),
            port: choice.port,
            via: choice.via,
        };
        let without_address = ingress.addresses.is_empty() && choice.via == Via::Status;
        let watched = Watched::Served {
            target: dialled.then(|| self.target(dialled_hosts(ingress, &host, choice), &host)),
            server_name: host,
            secret: beside.clone(),
            from_object: true,
            without_address,
        };
        self.places.insert(place, watched);
    }
}

/// The addresses of an Ingress's status; what DNS says of the host while there is none.
fn dialled_hosts(ingress: &Ingress, host: &Host, choice: &IngressChoice) -> Vec<(Host, u16, Provenance)> {
    if choice.via == Via::Dns || ingress.addresses.is_empty() {
        return vec![(host.clone(), choice.port, Provenance::FreeText)];
    }
    let addresses = ingress.addresses.iter().map(|address| {
        // One port per address: 443 where the status names it, else the first that it names.
        let named = address
            .ports
            .iter()
            .find(|&&named| named == 443)
            .or(address.ports.first());
        match named {
            Some(&named) => (address.host.clone(), named, Provenance::ObjectStatusPort),
            None => (address.host.clone(), choice.port, Provenance::ObjectStatus),
        }
    });
    addresses
        .collect::<BTreeSet<_>>()
        .into_iter()
        .take(MOST_ADDRESSES)
        .collect()
}

/// The values of a Secret that a source chooses. A pattern only searches: what holds no certificate there is nothing.
fn chosen_values<'a>(secret: &'a StoredSecret, choice: &SecretChoice) -> Vec<(&'a Arc<str>, &'a Arc<StoredValue>)> {
    let chosen = secret.values.iter().filter(|(key, value)| {
        let named = choice.keys.iter().any(|chosen| **chosen == **key);
        let searched = choice.keys.iter().any(|chosen| glob(chosen, key));
        named || (searched && value.content != Content::Nothing)
    });
    chosen.map(|(key, value)| (key, value)).collect()
}
