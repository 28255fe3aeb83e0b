//! The objects of the API server, and what a watch says of them.

use certmon::{
    cluster::Key,
    world::{
        Ingress, Monitor, Seen, SinkSecretVersion, StoredSecret, TrustKind, TrustObject, Wanted, WatchId, WorldEvent,
    },
};
use certmon_core::bundle;
use std::{collections::BTreeMap, sync::Arc};

/// A Secret, whole.
pub(crate) struct SecretObject {
    pub(crate) uid: Box<str>,
    pub(crate) version: u64,
    pub(crate) type_: Arc<str>,
    pub(crate) values: BTreeMap<String, Vec<u8>>,
    /// As the lean watch reads it.
    stored: StoredSecret,
}

impl SecretObject {
    pub(crate) fn new(key: &Key, uid: &str, version: u64, type_: &str, values: BTreeMap<String, Vec<u8>>) -> Self {
        let wanted: Vec<(&str, &[u8])> = values
            .iter()
            .filter(|(name, _)| matches!(name.as_str(), "tls.crt" | "ca.crt"))
            .map(|(name, value)| (name.as_str(), value.as_slice()))
            .collect();
        let private_key = values.get("tls.key").map(Vec::as_slice);
        let read = bundle::read_secret(type_, &wanted, private_key, true);
        let stored = StoredSecret {
            key: key.clone(),
            type_: type_.into(),
            labels: Arc::default(),
            values: read
                .into_iter()
                .map(|(name, value)| (name.into(), Arc::new(value)))
                .collect(),
        };
        Self {
            uid: uid.into(),
            version,
            type_: type_.into(),
            values,
            stored,
        }
    }
}

/// All objects.
#[derive(Default)]
pub(crate) struct Objects {
    pub(crate) monitors: BTreeMap<Key, Monitor>,
    pub(crate) secrets: BTreeMap<Key, SecretObject>,
    pub(crate) ingresses: BTreeMap<Key, Ingress>,
    pub(crate) config_maps: BTreeMap<Key, TrustObject>,
}

impl Objects {
    /// What the list of one watch holds.
    pub(crate) fn list(&self, id: &WatchId, wanted: &Wanted) -> Vec<Seen> {
        match id {
            WatchId::Monitors => self
                .monitors
                .values()
                .cloned()
                .map(Box::new)
                .map(Seen::Monitor)
                .collect(),
            WatchId::Ingresses => self.ingresses.values().cloned().map(Seen::Ingress).collect(),
            WatchId::Secrets { .. } | WatchId::Secret(_) | WatchId::SinkSecrets { .. } => self
                .secrets
                .iter()
                .filter(|(key, secret)| watches_of_secret(key, &secret.type_, wanted).contains(id))
                .map(|(key, secret)| seen(id, key, secret))
                .collect(),
            WatchId::Trust(TrustKind::ConfigMap, key) => {
                let found = self.config_maps.get(key).cloned();
                found.map(Seen::Trust).into_iter().collect()
            }
            WatchId::Trust(TrustKind::Secret, _) => vec![],
        }
    }

    /// What watches say of a Secret that was made or changed.
    pub(crate) fn secret_applied(&self, key: &Key, wanted: &Wanted) -> Vec<WorldEvent> {
        let Some(secret) = self.secrets.get(key) else {
            return vec![];
        };
        let watches = watches_of_secret(key, &secret.type_, wanted);
        watches
            .into_iter()
            .map(|id| WorldEvent::Applied(id.clone(), seen(&id, key, secret)))
            .collect()
    }
}

/// Which of the watches that are asked for see a Secret.
pub(crate) fn watches_of_secret(key: &Key, type_: &str, wanted: &Wanted) -> Vec<WatchId> {
    let mut watches = Vec::new();
    if wanted
        .secrets
        .get(type_)
        .is_some_and(|by| by.contains_key(&*key.namespace))
    {
        watches.push(WatchId::Secrets { type_: type_.into() });
    }
    if wanted.named_secrets.contains(key) {
        watches.push(WatchId::Secret(key.clone()));
    }
    let sinks = wanted.sink_secrets.get(type_);
    if sinks.is_some_and(|namespaces| namespaces.contains(&*key.namespace)) {
        watches.push(WatchId::SinkSecrets { type_: type_.into() });
    }
    watches
}

fn seen(id: &WatchId, key: &Key, secret: &SecretObject) -> Seen {
    match id {
        WatchId::SinkSecrets { .. } => Seen::SinkSecret(SinkSecretVersion {
            key: key.clone(),
            version: format!("{}/{}", secret.uid, secret.version).into(),
        }),
        _ => Seen::Secret(secret.stored.clone()),
    }
}
