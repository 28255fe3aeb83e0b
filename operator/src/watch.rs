//! Watching: turns what monitors want into watches, and what the watches see into [`WorldEvent`]s. One watch per kind,
//! whatever the number of monitors.

mod decode;
mod secret;
mod stream;
mod wire;

use crate::world::{TrustKind, Wanted, WatchId, WorldEvent};
use decode::{IngressDecode, MonitorDecode, SinkSecretDecode, TrustDecode};
use kube::Client;
use prometheus_client::metrics::counter::Counter;
use secret::SecretDecode;
use std::{collections::HashMap, sync::Arc};
use stream::{Collection, Decode};
use tokio::{
    sync::{mpsc, watch},
    task::JoinSet,
};

/// Which namespaces are watched: all, or only these.
pub type Scope = Vec<Box<str>>;

/// The watches that run.
pub struct Watches {
    client: Client,
    scope: Scope,
    events: mpsc::Sender<WorldEvent>,
    restarts: Counter,
    running: HashMap<(WatchId, Option<Box<str>>), tokio::task::AbortHandle>,
    tasks: JoinSet<()>,
}

impl Watches {
    /// None yet. `scope` empty means all namespaces.
    #[must_use]
    pub fn new(client: Client, scope: Scope, events: mpsc::Sender<WorldEvent>, restarts: Counter) -> Self {
        Self {
            client,
            scope,
            events,
            restarts,
            running: HashMap::new(),
            tasks: JoinSet::new(),
        }
    }

    /// Starts and stops watches as `wanted` changes, until its sender is gone or a watch's task dies.
    pub async fn run(mut self, mut wanted: watch::Receiver<Arc<Wanted>>) {
        loop {
            let now = wanted.borrow_and_update().clone();
            self.reconcile(&now, &wanted);
            tokio::select! {
                changed = wanted.changed() => if changed.is_err() { return },
                Some(ended) = self.tasks.join_next() => {
                    if ended.is_err_and(|error| error.is_panic()) {
                        tracing::error!("a watch died; this is a fault of certmon's, please report it");
                        return;
                    }
                }
            }
        }
    }

    fn reconcile(&mut self, now: &Wanted, wanted: &watch::Receiver<Arc<Wanted>>) {
        let mut live = std::collections::HashSet::new();
        for id in now.watches() {
            for namespace in self.namespaces(&id) {
                live.insert((id.clone(), namespace));
            }
        }
        self.running.retain(|id, handle| {
            let keep = live.contains(id);
            if !keep {
                handle.abort();
            }
            keep
        });
        for (id, namespace) in live {
            if !self.running.contains_key(&(id.clone(), namespace.clone())) {
                let handle = self.start(&id, namespace.clone(), wanted.clone());
                self.running.insert((id, namespace), handle);
            }
        }
    }

    /// A single object is watched in its namespace; anything else in the cluster, or in each namespace of the scope.
    fn namespaces(&self, id: &WatchId) -> Vec<Option<Box<str>>> {
        match id {
            WatchId::Secret(key) | WatchId::Trust(_, key) => {
                let mut scope = self.scope.iter();
                let inside = self.scope.is_empty() || scope.any(|namespace| **namespace == *key.namespace);
                inside.then(|| Some((&*key.namespace).into())).into_iter().collect()
            }
            WatchId::Monitors | WatchId::Secrets { .. } | WatchId::Ingresses | WatchId::SinkSecrets { .. } => {
                if self.scope.is_empty() {
                    vec![None]
                } else {
                    self.scope.iter().cloned().map(Some).collect()
                }
            }
        }
    }

    fn start(
        &mut self,
        id: &WatchId,
        namespace: Option<Box<str>>,
        wanted: watch::Receiver<Arc<Wanted>>,
    ) -> tokio::task::AbortHandle {
        let collection =
            |group: &'static str, plural: &'static str, field_selector: Option<String>, metadata| Collection {
                id: id.clone(),
                group,
                plural,
                namespace: namespace.clone(),
                field_selector,
                metadata,
            };
        let by_name = |name: &str| Some(format!("metadata.name={name}"));
        match id {
            WatchId::Monitors => self.spawn(
                collection("certmon.dev/v1alpha1", "certificatemonitors", None, false),
                MonitorDecode,
                wanted,
            ),
            WatchId::Secrets { type_ } => {
                let decode = SecretDecode::new(wanted.clone());
                self.spawn(
                    collection("v1", "secrets", Some(format!("type={type_}")), false),
                    decode,
                    wanted,
                )
            }
            WatchId::Secret(key) => {
                let decode = SecretDecode::new(wanted.clone());
                self.spawn(collection("v1", "secrets", by_name(&key.name), false), decode, wanted)
            }
            WatchId::Ingresses => self.spawn(
                collection("networking.k8s.io/v1", "ingresses", None, false),
                IngressDecode::default(),
                wanted,
            ),
            WatchId::Trust(TrustKind::ConfigMap, key) => self.spawn(
                collection("v1", "configmaps", by_name(&key.name), false),
                TrustDecode::ConfigMap,
                wanted,
            ),
            WatchId::Trust(TrustKind::Secret, key) => self.spawn(
                collection("v1", "secrets", by_name(&key.name), false),
                TrustDecode::Secret,
                wanted,
            ),
            WatchId::SinkSecrets { type_ } => self.spawn(
                collection("v1", "secrets", Some(format!("type={type_}")), true),
                SinkSecretDecode,
                wanted,
            ),
        }
    }

    fn spawn<D: Decode>(
        &mut self,
        collection: Collection,
        decode: D,
        wanted: watch::Receiver<Arc<Wanted>>,
    ) -> tokio::task::AbortHandle {
        let (client, events, restarts) = (self.client.clone(), self.events.clone(), self.restarts.clone());
        self.tasks.spawn(async move {
            let restarted = || {
                restarts.inc();
            };
            stream::follow(client, collection, decode, wanted, events, restarted).await;
        })
    }
}
