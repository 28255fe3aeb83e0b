//! The engine: one task that owns what is known, and decides. Everything slow – looks, reads, writes, deliveries – runs beside it
//! and comes back as a value, so that nothing here waits and nothing here is shared.
//!
//! One turn: take in what happened; go over monitors that it concerns ([`pass`]), in the order of the [`agenda`] and for a moment
//! at most; start what is due; sleep until the next instant at which something is due by time alone.

mod agenda;
mod looks;
mod monitored;
mod notices;
mod pass;
mod saying;
mod telling;
mod writing;

use crate::{
    clock::Clock,
    cluster::{Cluster, Key, MonitorRef},
    metrics::Metrics,
    world::{Touched, Wanted, WatchState, World, WorldEvent},
};
use agenda::Agenda;
use certmon_core::{dial::DialProblem, reason::Reason, trust::Anchors};
use certmon_notify::Sink;
use certmon_probe::Probe;
use chrono::{DateTime, TimeDelta, Utc};
use futures::FutureExt;
use looks::Looks;
use monitored::Monitored;
use std::{
    collections::{BTreeMap, BTreeSet},
    future::Future,
    panic::AssertUnwindSafe,
    sync::Arc,
    time::Duration,
};
use tokio::{
    sync::{mpsc, watch},
    task::JoinSet,
    time::{Instant, sleep_until},
};
use tokio_util::sync::CancellationToken;
use writing::{Done, Work};

/// No sleep is longer: a suspended machine or a clock that was set is noticed within this.
const LONGEST_SLEEP: TimeDelta = TimeDelta::minutes(10);
/// After a request to stop, what is in flight may still end within this.
const DRAIN: Duration = Duration::from_secs(15);
/// So much that happened is taken in before the monitors that it concerns are gone over.
const BATCH: usize = 4096;
/// For so long monitors are gone over before what happened meanwhile is taken in.
const SLICE: Duration = Duration::from_millis(20);

/// What panicked is left alone for so long.
const QUARANTINE: TimeDelta = TimeDelta::minutes(10);

/// The four seams to the world.
#[derive(Clone)]
pub struct Seams {
    /// What time it is.
    pub clock: Arc<dyn Clock>,
    /// The API server.
    pub cluster: Arc<dyn Cluster>,
    /// Looks at TLS servers.
    pub probe: Arc<dyn Probe>,
    /// Tells people.
    pub sink: Arc<dyn Sink>,
}

/// What doesn't change while the operator runs.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Who holds the claims on messages: the Pod's uid.
    pub identity: String,
    /// The cluster's name in messages.
    pub cluster_name: Option<String>,
    /// The namespaces that are watched; empty means all.
    pub scope: Vec<Box<str>>,
    /// The system's roots.
    pub system_roots: Arc<Anchors>,
}

/// The operator, without a socket and without a Kubernetes client.
pub struct Engine {
    seams: Seams,
    settings: Settings,
    metrics: Arc<Metrics>,
    world: World,
    /// By namespace first: what happens in one concerns only its own.
    monitors: BTreeMap<Key, Monitored>,
    looks: Looks,
    /// When a monitor is gone over again though nothing happens.
    timers: BTreeSet<(DateTime<Utc>, Key)>,
    agenda: Agenda,
    /// What is asked for may have changed.
    asks_anew: bool,
    tasks: JoinSet<Done>,
    wanted: watch::Sender<Arc<Wanted>>,
    started: DateTime<Utc>,
    draining: bool,
}

impl Engine {
    /// Knows nothing yet. What it wants to be watched is sent to `wanted`.
    #[must_use]
    pub fn new(seams: Seams, settings: Settings, metrics: Arc<Metrics>, wanted: watch::Sender<Arc<Wanted>>) -> Self {
        let started = seams.clock.now();
        Self {
            world: World::new(settings.scope.clone()),
            seams,
            settings,
            metrics,
            monitors: BTreeMap::new(),
            looks: Looks::default(),
            timers: BTreeSet::new(),
            agenda: Agenda::default(),
            asks_anew: false,
            tasks: JoinSet::new(),
            wanted,
            started,
            draining: false,
        }
    }

    /// Runs until `stop`, then takes no new work, lets what is in flight end, and gives back the claims on messages that are
    /// not on the wire.
    pub async fn run(mut self, mut events: mpsc::Receiver<WorldEvent>, stop: CancellationToken) {
        loop {
            self.turn();
            let wake = self.wake();
            // In this order, so that the same happenings lead to the same order of writes: what was begun is ended first.
            tokio::select! {
                biased;
                () = stop.cancelled() => break,
                Some(done) = self.tasks.join_next() => self.joined(done),
                event = events.recv() => {
                    let Some(event) = event else { break };
                    self.take(event);
                }
                () = sleep_until(wake) => {}
            }
            self.take_in(&mut events);
        }
        self.drain().await;
    }

    /// Takes in all else that happened, of both kinds: neither can keep the other waiting, and a monitor that a hundred of them
    /// concern is gone over once.
    fn take_in(&mut self, events: &mut mpsc::Receiver<WorldEvent>) {
        for _ in 0..BATCH {
            let Some(done) = self.tasks.try_join_next() else { break };
            self.joined(done);
        }
        for _ in 0..BATCH {
            let Ok(event) = events.try_recv() else { break };
            self.take(event);
        }
    }

    /// Goes over what is dirty or due, and starts what that leads to.
    fn turn(&mut self) {
        let now = self.now();
        self.metrics.progress();
        self.refresh_wanted();
        while let Some((due, key)) = self.timers.first().cloned() {
            if due > now {
                break;
            }
            self.timers.remove(&(due, key.clone()));
            self.agenda.urge(&key);
        }
        let began = Instant::now();
        while let Some(key) = self.agenda.next(Instant::now()) {
            self.contained_pass(&key);
            if began.elapsed() >= SLICE {
                break;
            }
        }
        self.start_looks();
        self.metrics.synced(self.world.synced());
    }

    /// When there is something to do by time alone.
    fn wake(&self) -> Instant {
        let now = self.now();
        let timer = self.timers.first().map(|(due, _)| *due);
        let next = timer.into_iter().chain(self.looks.next_due()).min();
        let pause = next
            .map_or(LONGEST_SLEEP, |due| due - now)
            .clamp(TimeDelta::zero(), LONGEST_SLEEP);
        // A timer fires at its instant or just after, never before: a millisecond more than the difference.
        let timer = Instant::now() + pause.to_std().unwrap_or_default() + Duration::from_millis(1);
        let agenda = self.agenda.due(Instant::now());
        agenda.map_or(timer, |due| due.min(timer))
    }

    fn now(&self) -> DateTime<Utc> {
        self.seams.clock.now()
    }

    /// Takes one event in, and marks whom it concerns.
    fn take(&mut self, event: WorldEvent) {
        if let WorldEvent::State(id, state) = &event {
            match state {
                WatchState::Working => {}
                WatchState::Forbidden => self.metrics.source_failed(id.kind(), Reason::SourceForbidden),
                WatchState::Unavailable => self.metrics.source_failed(id.kind(), Reason::SourceUnavailable),
            }
        }
        if event == WorldEvent::EgressPolicy {
            self.ask_the_policy_again();
        }
        for touched in self.world.apply(event) {
            match touched {
                Touched::Nothing => {}
                Touched::Monitor(key) => {
                    self.asks_anew = true;
                    self.agenda.mark(&key);
                }
                Touched::MonitorGone(key) => {
                    self.forget(&key);
                    self.asks_anew = true;
                }
                Touched::Secret(key) => {
                    let wanted = self.world.wanted();
                    self.asks_anew |= wanted.ingresses.contains(&*key.namespace);
                    // One that a source names is watched by name while no watch of a type holds it.
                    let changes =
                        wanted.named_secrets.contains(&key) == self.world.is_held_by_type(&key.namespace, &key.name);
                    for (monitor, state) in of_namespace(&mut self.monitors, &key.namespace) {
                        self.asks_anew |= changes && state.names_secret(Some(&key.name));
                        if state.concerns_secret(&key.name, &self.world) {
                            self.agenda.mark(monitor);
                        }
                    }
                }
                Touched::SinkSecret(key) => {
                    for (monitor, state) in of_namespace(&mut self.monitors, &key.namespace) {
                        if state.sink_secret_changed(&key.name) {
                            self.agenda.mark(monitor);
                        }
                    }
                }
                Touched::Namespace(namespace) => {
                    // An Ingress or a source may name a Secret that nobody else asks for.
                    self.asks_anew |= self.world.wanted().ingresses.contains(&*namespace);
                    for (monitor, state) in of_namespace(&mut self.monitors, &namespace) {
                        self.asks_anew |= state.names_secret(None);
                        self.agenda.mark(monitor);
                    }
                }
                Touched::Everything => {
                    self.asks_anew = true;
                    for monitor in self.world.monitors() {
                        self.agenda.mark(&monitor.key);
                    }
                }
            }
        }
    }

    /// Sinks are checked again, and what was refused is dialled again.
    fn ask_the_policy_again(&mut self) {
        let now = self.now();
        for (key, state) in &mut self.monitors {
            for sink in state.sinks.values_mut() {
                sink.checked = None;
                sink.try_now = true;
            }
            for (place, target) in &state.targets {
                let Some(dialled) = state.dialled.get_mut(place) else {
                    continue;
                };
                if dialled.problems().any(|problem| problem == DialProblem::NotPermitted) {
                    dialled.look_now();
                    self.looks.subscribe(key, place, target, now);
                }
            }
        }
    }

    /// Says what all monitors together ask for, if that changed. Not before all monitors are known: what one of them asks for
    /// would be listed, and then listed again for the next.
    fn refresh_wanted(&mut self) {
        if !self.asks_anew || !self.monitors_listed() {
            return;
        }
        self.asks_anew = false;
        let wanted = monitored::wanted(&self.world);
        if wanted != **self.world.wanted() {
            let wanted = Arc::new(wanted);
            self.world.want(wanted.clone());
            self.wanted.send_replace(wanted);
        }
    }

    fn monitors_listed(&self) -> bool {
        if self.settings.scope.is_empty() {
            return self.world.listed(&crate::world::WatchId::Monitors, "").1;
        }
        self.settings
            .scope
            .iter()
            .all(|namespace| self.world.listed(&crate::world::WatchId::Monitors, namespace).1)
    }

    /// A monitor is gone: its timers, looks and series go too. Nothing is sent.
    fn forget(&mut self, key: &Key) {
        self.agenda.forget(key);
        if let Some(gone) = self.monitors.remove(key) {
            if let Some(armed) = gone.armed {
                self.timers.remove(&(armed, key.clone()));
            }
            for (place, target) in &gone.targets {
                self.looks.unsubscribe(key, place, target);
            }
            self.metrics.forget(key, &gone.reference.uid);
        }
    }

    /// One monitor's panic is that monitor's trouble.
    fn contained_pass(&mut self, key: &Key) {
        let began = Instant::now();
        let passed = std::panic::catch_unwind(AssertUnwindSafe(|| self.pass(key)));
        let took = began.elapsed();
        self.metrics.reconcile_duration.observe(took.as_secs_f64());
        if passed.is_err() {
            tracing::error!(monitor = %key, "going over a monitor panicked; this is a fault of certmon's, please report it");
            self.metrics.panics.inc();
            if std::panic::catch_unwind(AssertUnwindSafe(|| self.quarantine(key))).is_err() {
                tracing::error!(monitor = %key, "saying so panicked too");
            }
        }
        self.agenda.passed(key, took, Instant::now());
    }

    /// Runs something for a monitor beside the engine; a panic in it comes back as a value too.
    fn spawn(&mut self, of: &MonitorRef, work: Work, task: impl Future<Output = Done> + Send + 'static) {
        let of = of.clone();
        self.tasks.spawn(async move {
            AssertUnwindSafe(task)
                .catch_unwind()
                .await
                .unwrap_or(Done::Panicked(of, work))
        });
    }

    fn joined(&mut self, done: Result<Done, tokio::task::JoinError>) {
        match done {
            Ok(done) => self.done(done),
            Err(error) => tracing::error!(%error, "a task of the engine was lost"),
        }
    }

    /// Ends what is in flight, as far as that is possible in [`DRAIN`].
    async fn drain(mut self) {
        self.draining = true;
        let released = self.release_claims();
        let deadline = Instant::now() + DRAIN;
        loop {
            for key in &released {
                self.put_ledger(key, false);
            }
            if self.tasks.is_empty() {
                break;
            }
            tokio::select! {
                Some(done) = self.tasks.join_next() => self.joined(done),
                () = sleep_until(deadline) => {
                    tracing::warn!(tasks = self.tasks.len(), "stopping while something is still in flight");
                    break;
                }
            }
            self.record_outcomes();
        }
    }

    /// While it drains: what a delivery came to is still written down, so that whoever comes next need not send it again.
    fn record_outcomes(&mut self) {
        for key in self.agenda.drain() {
            let state = self.monitors.get(&key).filter(|state| !state.unrecorded.is_empty());
            match state.map(|state| &state.stored) {
                Some(monitored::Stored::Unread) => self.read_ledger(&key),
                Some(_) => self.put_ledger(&key, false),
                None => {}
            }
        }
    }
}

/// The monitors of a namespace.
fn of_namespace<'a>(
    monitors: &'a mut BTreeMap<Key, Monitored>,
    namespace: &'a str,
) -> impl Iterator<Item = (&'a Key, &'a mut Monitored)> {
    let first = Key::new(namespace, "");
    monitors
        .range_mut(first..)
        .take_while(move |(key, _)| *key.namespace == *namespace)
}
