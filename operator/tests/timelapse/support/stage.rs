//! Everything that a story moves: the clock, the API server, the servers, the sinks, and the operator itself.

use super::{
    certificates::{Issued, system_roots},
    clock::StageClock,
    cluster::Api,
    receivers::Receivers,
    servers::Servers,
    timeline::Timeline,
};
use certmon::{
    cluster::Key,
    engine::{Engine, Seams, Settings},
    metrics::Metrics,
    world::{Ingress, IngressAddress, IngressTls, Wanted},
};
use certmon_core::place::Host;
use std::{collections::BTreeMap, sync::Arc};
use tokio::{
    sync::{mpsc, watch},
    task::JoinHandle,
};
use tokio_util::sync::CancellationToken;

/// The namespace and the monitor of every story.
pub(crate) fn monitor_key() -> Key {
    Key::new("shop", "shop")
}

/// Runs a story's future to its end, under paused time, in one thread.
pub(crate) fn paused<T>(story: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .expect("a runtime")
        .block_on(story)
}

/// One process of the operator.
struct Process {
    number: u64,
    identity: String,
    engine: JoinHandle<()>,
    watches: JoinHandle<()>,
    metrics: Arc<Metrics>,
    stop: CancellationToken,
}

/// The stage.
pub(crate) struct Stage {
    pub(crate) clock: Arc<StageClock>,
    pub(crate) api: Arc<Api>,
    pub(crate) servers: Arc<Servers>,
    pub(crate) sinks: Arc<Receivers>,
    pub(crate) timeline: Arc<Timeline>,
    processes: Vec<Process>,
    started: u64,
}

impl Stage {
    pub(crate) fn new() -> Self {
        let clock = Arc::new(StageClock::new());
        let timeline = Arc::new(Timeline::new(clock.clone()));
        Self {
            api: Arc::new(Api::new(timeline.clone())),
            servers: Arc::default(),
            sinks: Arc::new(Receivers::new(timeline.clone())),
            timeline,
            clock,
            processes: Vec::new(),
            started: 0,
        }
    }

    /// Starts a process of this identity. It knows nothing but what the API server has.
    pub(crate) fn start(&mut self, identity: &str) {
        self.started += 1;
        let (events, received) = mpsc::channel(100_000);
        let (wanted, asked) = watch::channel(Arc::new(Wanted::default()));
        let seams = Seams {
            clock: self.clock.clone(),
            cluster: self.api.clone(),
            probe: self.servers.clone(),
            sink: self.sinks.clone(),
        };
        let settings = Settings {
            identity: identity.to_owned(),
            cluster_name: None,
            scope: vec![],
            system_roots: system_roots(),
        };
        let stop = CancellationToken::new();
        let metrics = Metrics::new();
        let engine = Engine::new(seams, settings, metrics.clone(), wanted);
        self.processes.push(Process {
            number: self.started,
            identity: identity.to_owned(),
            engine: tokio::spawn(engine.run(received, stop.clone())),
            watches: tokio::spawn(self.api.clone().watch(self.started, events, asked)),
            metrics,
            stop,
        });
    }

    /// What the process that was started last counts.
    pub(crate) fn metrics(&self) -> Arc<Metrics> {
        self.processes.last().expect("a process runs").metrics.clone()
    }

    /// Kills every process, as `kill -9` does. Returns their identities.
    pub(crate) async fn kill(&mut self) -> Vec<String> {
        let mut identities = Vec::new();
        for process in self.processes.drain(..) {
            process.engine.abort();
            process.watches.abort();
            self.api.forget_watches(process.number);
            let ended = process.engine.await;
            assert!(
                ended.is_err_and(|error| error.is_cancelled()),
                "the engine ended by itself"
            );
            identities.push(process.identity);
        }
        identities
    }

    /// No process runs.
    pub(crate) fn is_down(&self) -> bool {
        self.processes.is_empty()
    }

    /// Kills every process and starts it again, with the same identity.
    pub(crate) async fn restart(&mut self) {
        for identity in self.kill().await {
            self.start(&identity);
        }
    }

    /// Asks every process to stop (SIGTERM), and waits until it has.
    pub(crate) async fn stop(&mut self) {
        for process in self.processes.drain(..) {
            process.stop.cancel();
            process.engine.await.expect("the engine stops by itself");
            process.watches.abort();
            self.api.forget_watches(process.number);
        }
    }

    /// Applies a monitor of this name beside the story's.
    pub(crate) fn another(&self, key: &Key, yaml: &str) {
        let spec = serde_saphyr::from_str(yaml).unwrap_or_else(|error| panic!("{error}\n{yaml}"));
        self.api.apply_monitor(key, spec);
    }

    /// Applies the monitor.
    pub(crate) fn monitor(&self, yaml: &str) {
        self.another(&monitor_key(), yaml);
    }

    /// Makes or renews a TLS Secret.
    pub(crate) fn secret(&self, name: &str, certificate: &Issued) {
        let values = BTreeMap::from([("tls.crt".to_owned(), certificate.pem.clone())]);
        self.api
            .apply_secret(&Key::new("shop", name), "kubernetes.io/tls", values);
    }

    /// Makes a TLS Secret of another namespace, or of unusual content.
    pub(crate) fn secret_of(&self, key: &Key, values: &[(&str, &[u8])]) {
        let values = values.iter().map(|(name, value)| ((*name).to_owned(), value.to_vec()));
        self.api.apply_secret(key, "kubernetes.io/tls", values.collect());
    }

    pub(crate) fn delete_secret(&self, name: &str) {
        self.api.delete_secret(&Key::new("shop", name));
    }

    /// Makes the Secret of a Slack sink.
    pub(crate) fn slack_secret(&self, name: &str) {
        let values = BTreeMap::from([("url".to_owned(), b"https://hooks.example/one".to_vec())]);
        self.api
            .apply_secret(&Key::new("shop", name), "certmon.dev/slack", values);
    }

    /// Makes or changes an Ingress with one TLS entry.
    pub(crate) fn ingress(&self, name: &str, host: &str, secret: &str, address: Option<&str>) {
        let address = address.map(|ip| IngressAddress {
            host: Host::Ip(ip.parse().expect("an address")),
            ports: vec![],
        });
        self.api.apply_ingress(&Ingress {
            key: Key::new("shop", name),
            uid: format!("ingress-{name}").into(),
            labels: Arc::default(),
            tls: vec![IngressTls {
                hosts: vec![host.into()],
                secret: Some(secret.into()),
            }],
            rule_hosts: vec![host.into()],
            addresses: address.into_iter().collect(),
        });
    }

    /// The rules that were broken so far.
    pub(crate) fn broken(&self) -> Vec<String> {
        let mut broken = self.api.violations();
        if self.started == 1 && self.api.needless_writes() > 0 {
            broken.push("a status was written that stood there already".to_owned());
        }
        broken.extend(super::telling_rules::broken(&self.sinks.arrivals()));
        broken
    }
}
