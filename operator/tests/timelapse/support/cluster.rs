//! The API server: objects with uids and versions, watches as values, and faults on request.

use super::{
    objects::{Objects, SecretObject, watches_of_secret},
    status_rules,
    timeline::Timeline,
};
use certmon::{
    cluster::{ApiFailure, Cluster, EventNote, Key, LedgerObject, MonitorRef},
    world::{Ingress, Monitor, Seen, TrustKind, TrustObject, Wanted, WatchId, WatchState, WorldEvent},
};
use certmon_core::{ledger::Ledger, trust::Anchors};
use certmon_crd::{CertificateMonitorSpec, CertificateMonitorStatus};
use certmon_notify::SinkSecret;
use futures::{FutureExt, future::BoxFuture};
use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};
use tokio::sync::{mpsc, watch};
use zeroize::Zeroizing;

/// How long each call takes: different times, so that no two answers come at one instant.
const LIST: Duration = Duration::from_millis(2);
const READ: Duration = Duration::from_millis(7);
const WRITE_LEDGER: Duration = Duration::from_millis(9);
const WRITE_STATUS: Duration = Duration::from_millis(13);
const WRITE_EVENT: Duration = Duration::from_millis(17);

/// What goes wrong with the next write of a ledger.
#[derive(Clone, Debug)]
pub(crate) enum Fault {
    /// It isn't done.
    Fails(ApiFailure),
    /// It is done, and the answer is lost.
    AnswerLost,
}

/// Calls so far, whatever they came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Calls {
    pub(crate) status: u32,
    pub(crate) ledger: u32,
    pub(crate) events: u32,
}

type OnStatus = Box<dyn Fn(&Key) + Send>;

/// One process's watches.
struct Watcher {
    events: mpsc::Sender<WorldEvent>,
    wanted: Arc<Wanted>,
}

#[derive(Default)]
struct State {
    version: u64,
    objects: Objects,
    ledgers: BTreeMap<Key, LedgerObject>,
    watchers: BTreeMap<u64, Watcher>,
    away: bool,
    /// The right to list Secrets is missing.
    forbidden: bool,
    /// Ledgers whose schema is newer than the program.
    newer: BTreeSet<Key>,
    /// Called before each write of a status.
    on_status: Option<OnStatus>,
    faults: VecDeque<Fault>,
    calls: Calls,
    violations: Vec<String>,
    needless: u32,
}

impl State {
    fn next_version(&mut self) -> u64 {
        self.version += 1;
        self.version
    }

    /// Says something to every process that watches; nothing while the server is away.
    fn emit(&self, events: impl Fn(&Objects, &Wanted) -> Vec<WorldEvent>) {
        if self.away {
            return;
        }
        for watcher in self.watchers.values() {
            for event in events(&self.objects, &watcher.wanted) {
                if self.forbidden && is_about_secrets(&event) {
                    continue;
                }
                // A process that was killed doesn't listen.
                let _ = watcher.events.try_send(event);
            }
        }
    }

    fn emit_monitor(&self, key: &Key) {
        if let Some(monitor) = self.objects.monitors.get(key) {
            let seen = Seen::Monitor(Box::new(monitor.clone()));
            self.emit(|_, _| vec![WorldEvent::Applied(WatchId::Monitors, seen.clone())]);
        }
    }

    /// A process lists what one watch asks for.
    fn list(&self, watcher: &Watcher, id: &WatchId) {
        let said = |event| {
            let _ = watcher.events.try_send(event);
        };
        if self.away {
            said(WorldEvent::State(id.clone(), WatchState::Unavailable));
            return;
        }
        if self.forbidden && matches!(id, WatchId::Secrets { .. }) {
            said(WorldEvent::State(id.clone(), WatchState::Forbidden));
            return;
        }
        // What is about one object is listed in its namespace.
        let namespace = match id {
            WatchId::Secret(key) | WatchId::Trust(_, key) => Some(Box::from(&*key.namespace)),
            _ => None,
        };
        said(WorldEvent::State(id.clone(), WatchState::Working));
        said(WorldEvent::ListBegan(id.clone(), namespace.clone()));
        for seen in self.objects.list(id, &watcher.wanted) {
            said(WorldEvent::Applied(id.clone(), seen));
        }
        said(WorldEvent::ListEnded(id.clone(), namespace, watcher.wanted.clone()));
    }
}

/// The API server.
pub(crate) struct Api {
    state: Mutex<State>,
    timeline: Arc<Timeline>,
}

/// What a change of an object is made of.
impl Api {
    pub(crate) fn new(timeline: Arc<Timeline>) -> Self {
        Self {
            state: Mutex::default(),
            timeline,
        }
    }

    fn with<T>(&self, with: impl FnOnce(&mut State) -> T) -> T {
        with(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Applies a monitor: another spec is another generation.
    pub(crate) fn apply_monitor(&self, key: &Key, spec: CertificateMonitorSpec) {
        self.with(|state| {
            let version = state.next_version();
            match state.objects.monitors.get_mut(key) {
                Some(monitor) => {
                    let changed = monitor.spec.as_deref() != Ok(&spec);
                    monitor.generation += i64::from(changed);
                    monitor.spec = Ok(Arc::new(spec));
                }
                None => {
                    let monitor = Monitor {
                        key: key.clone(),
                        uid: format!("monitor-{version}").into(),
                        generation: 1,
                        spec: Ok(Arc::new(spec)),
                        check_requested: None,
                        test_requested: None,
                        status: None,
                    };
                    state.objects.monitors.insert(key.clone(), monitor);
                }
            }
            state.emit_monitor(key);
        });
    }

    /// Deletes a monitor; its ledger stays until the garbage collector comes.
    pub(crate) fn delete_monitor(&self, key: &Key) {
        self.with(|state| {
            state.objects.monitors.remove(key);
            state.emit(|_, _| vec![WorldEvent::Deleted(WatchId::Monitors, key.clone())]);
        });
    }

    /// Makes or changes a Secret.
    pub(crate) fn apply_secret(&self, key: &Key, type_: &str, values: BTreeMap<String, Vec<u8>>) {
        self.with(|state| {
            let version = state.next_version();
            let known = state.objects.secrets.get(key).map(|secret| secret.uid.to_string());
            let uid = known.unwrap_or_else(|| format!("secret-{version}"));
            let secret = SecretObject::new(key, &uid, version, type_, values);
            state.objects.secrets.insert(key.clone(), secret);
            state.emit(|objects, wanted| objects.secret_applied(key, wanted));
        });
    }

    /// Deletes a Secret.
    pub(crate) fn delete_secret(&self, key: &Key) {
        self.with(|state| {
            let Some(secret) = state.objects.secrets.remove(key) else {
                return;
            };
            state.emit(|_, wanted| {
                let watches = watches_of_secret(key, &secret.type_, wanted);
                watches
                    .into_iter()
                    .map(|id| WorldEvent::Deleted(id, key.clone()))
                    .collect()
            });
        });
    }

    /// Makes or changes an Ingress.
    pub(crate) fn apply_ingress(&self, ingress: &Ingress) {
        self.with(|state| {
            state.objects.ingresses.insert(ingress.key.clone(), ingress.clone());
            state.emit(|_, wanted| {
                let watched = wanted.ingresses.contains(&*ingress.key.namespace);
                let event = WorldEvent::Applied(WatchId::Ingresses, Seen::Ingress(ingress.clone()));
                watched.then_some(event).into_iter().collect()
            });
        });
    }

    /// Makes or changes a ConfigMap with a `ca.crt`; `None` deletes it.
    pub(crate) fn config_map(&self, key: &Key, ca: Option<&[u8]>) {
        self.with(|state| {
            let id = WatchId::Trust(TrustKind::ConfigMap, key.clone());
            let event = if let Some(ca) = ca {
                let object = TrustObject {
                    key: key.clone(),
                    values: BTreeMap::from([("ca.crt".into(), Arc::new(Anchors::from_pem(ca)))]),
                };
                state.objects.config_maps.insert(key.clone(), object.clone());
                WorldEvent::Applied(id.clone(), Seen::Trust(object))
            } else {
                state.objects.config_maps.remove(key);
                WorldEvent::Deleted(id.clone(), key.clone())
            };
            state.emit(|_, wanted| {
                let watched = wanted.watches().contains(&id);
                watched.then(|| event.clone()).into_iter().collect()
            });
        });
    }

    /// The admin has changed the egress policy.
    pub(crate) fn policy_changed(&self) {
        self.with(|state| state.emit(|_, _| vec![WorldEvent::EgressPolicy]));
    }

    /// The ledger is of a newer version of the operator.
    pub(crate) fn newer_ledger(&self, key: &Key) {
        self.with(|state| state.newer.insert(key.clone()));
    }

    /// The ledger is deleted.
    pub(crate) fn delete_ledger(&self, key: &Key) {
        self.with(|state| {
            state.newer.remove(key);
            state.ledgers.remove(key);
        });
    }

    /// What happens before each write of a status.
    pub(crate) fn on_status(&self, call: impl Fn(&Key) + Send + 'static) {
        self.with(|state| state.on_status = Some(Box::new(call)));
    }

    /// The server goes away: nothing is answered, and no watch says anything.
    pub(crate) fn go_away(&self) {
        self.all_list_again(|state| state.away = true);
    }

    /// It is there again, and everything is listed.
    pub(crate) fn come_back(&self) {
        self.all_list_again(|state| state.away = false);
    }

    /// The right to list Secrets is withdrawn, or granted.
    pub(crate) fn forbid_secrets(&self, forbidden: bool) {
        self.all_list_again(|state| state.forbidden = forbidden);
    }

    fn all_list_again(&self, change: impl FnOnce(&mut State)) {
        self.with(|state| {
            change(state);
            for watcher in state.watchers.values() {
                for id in watcher.wanted.watches() {
                    state.list(watcher, &id);
                }
            }
        });
    }

    /// Somebody asks for a test message, by annotation.
    pub(crate) fn ask_for_test(&self, key: &Key, token: &str) {
        self.with(|state| {
            if let Some(monitor) = state.objects.monitors.get_mut(key) {
                monitor.test_requested = Some(token.to_owned());
            }
            state.emit_monitor(key);
        });
    }

    /// Somebody asks for a check of everything, by annotation.
    pub(crate) fn ask_for_check(&self, key: &Key, token: &str) {
        self.with(|state| {
            if let Some(monitor) = state.objects.monitors.get_mut(key) {
                monitor.check_requested = Some(token.to_owned());
            }
            state.emit_monitor(key);
        });
    }

    /// The next write of a ledger goes wrong so.
    pub(crate) fn fail_next_put(&self, fault: Fault) {
        self.with(|state| state.faults.push_back(fault));
    }

    /// Runs the watches of one process: what it asks for is listed, and what happens is said, until it is killed.
    pub(crate) async fn watch(
        self: Arc<Self>,
        process: u64,
        events: mpsc::Sender<WorldEvent>,
        mut wanted: watch::Receiver<Arc<Wanted>>,
    ) {
        tokio::time::sleep(LIST).await;
        self.with(|state| {
            let watcher = Watcher {
                events,
                wanted: Arc::default(),
            };
            state.list(&watcher, &WatchId::Monitors);
            state.watchers.insert(process, watcher);
        });
        while wanted.changed().await.is_ok() {
            tokio::time::sleep(LIST).await;
            let now = wanted.borrow_and_update().clone();
            self.with(|state| {
                let Some(mut watcher) = state.watchers.remove(&process) else {
                    return;
                };
                let before = std::mem::replace(&mut watcher.wanted, now.clone());
                for id in now.watches() {
                    if is_asked_for_anew(&id, &before, &now) {
                        state.list(&watcher, &id);
                    }
                }
                state.watchers.insert(process, watcher);
            });
        }
    }

    /// A process that was killed watches nothing.
    pub(crate) fn forget_watches(&self, process: u64) {
        self.with(|state| state.watchers.remove(&process));
    }

    pub(crate) fn calls(&self) -> Calls {
        self.with(|state| state.calls)
    }

    pub(crate) fn status(&self, key: &Key) -> Option<CertificateMonitorStatus> {
        self.with(|state| state.objects.monitors.get(key)?.status.as_deref().cloned())
    }

    pub(crate) fn ledger(&self, key: &Key) -> Option<Ledger> {
        self.with(|state| Some(state.ledgers.get(key)?.ledger.clone()))
    }

    /// Rules that were broken so far.
    pub(crate) fn violations(&self) -> Vec<String> {
        self.with(|state| state.violations.clone())
    }

    /// Writes of a status that stood there already. A process that was killed may have to do it once more.
    pub(crate) fn needless_writes(&self) -> u32 {
        self.with(|state| state.needless)
    }

    async fn call<T>(
        &self,
        takes: Duration,
        with: impl FnOnce(&mut State) -> Result<T, ApiFailure>,
    ) -> Result<T, ApiFailure> {
        tokio::time::sleep(takes).await;
        self.with(|state| if state.away { Err(unavailable()) } else { with(state) })
    }
}

fn is_about_secrets(event: &WorldEvent) -> bool {
    use WorldEvent::{Applied, Deleted};
    matches!(
        event,
        Applied(WatchId::Secrets { .. }, _) | Deleted(WatchId::Secrets { .. }, _)
    )
}

fn is_asked_for_anew(id: &WatchId, before: &Wanted, now: &Wanted) -> bool {
    let grown = match id {
        WatchId::Secrets { type_ } => before.secrets.get(&**type_) != now.secrets.get(&**type_),
        WatchId::Ingresses => before.ingresses != now.ingresses,
        WatchId::SinkSecrets { type_ } => before.sink_secrets.get(type_) != now.sink_secrets.get(type_),
        WatchId::Monitors => return false,
        WatchId::Secret(_) | WatchId::Trust(..) => false,
    };
    grown || !before.watches().contains(id)
}

pub(crate) fn unavailable() -> ApiFailure {
    ApiFailure::Unavailable {
        reason: "no connection to the API server".to_owned(),
        retry_after: None,
    }
}

impl State {
    fn put(
        &mut self,
        monitor: &MonitorRef,
        ledger: &Ledger,
        expected: Option<&LedgerObject>,
    ) -> Result<LedgerObject, ApiFailure> {
        if self.newer.contains(&monitor.key) {
            self.violations
                .push("a ledger of a newer version was overwritten".to_owned());
        }
        let json = serde_json::to_vec(ledger).map_err(|error| ApiFailure::Invalid(error.to_string()))?;
        let ledger: Ledger = serde_json::from_slice(&json).map_err(|error| ApiFailure::Invalid(error.to_string()))?;
        let mut object = match (self.ledgers.get(&monitor.key), expected) {
            (None, Some(_)) => return Err(ApiFailure::NotFound),
            (Some(_), None) => return Err(ApiFailure::Conflict),
            (Some(stored), Some(expected))
                if stored.uid != expected.uid || stored.resource_version != expected.resource_version =>
            {
                return Err(ApiFailure::Conflict);
            }
            (Some(stored), Some(_)) => stored.clone(),
            (None, None) => LedgerObject {
                uid: format!("ledger-{}", self.next_version()),
                resource_version: String::new(),
                owner_uid: None,
                ledger: Ledger::default(),
            },
        };
        object.ledger = ledger;
        object.owner_uid = Some(monitor.uid.to_string());
        // A write that changes nothing is no new version.
        if self.ledgers.get(&monitor.key) != Some(&object) {
            object.resource_version = self.next_version().to_string();
        }
        self.ledgers.insert(monitor.key.clone(), object.clone());
        Ok(object)
    }
}

impl Cluster for Api {
    fn ledger_get<'a>(&'a self, monitor: &'a MonitorRef) -> BoxFuture<'a, Result<Option<LedgerObject>, ApiFailure>> {
        self.call(READ, |state| {
            if state.newer.contains(&monitor.key) {
                return Err(ApiFailure::NewerLedger(99));
            }
            Ok(state.ledgers.get(&monitor.key).cloned())
        })
        .boxed()
    }

    fn ledger_put<'a>(
        &'a self,
        monitor: &'a MonitorRef,
        ledger: &'a Ledger,
        expected: Option<&'a LedgerObject>,
    ) -> BoxFuture<'a, Result<LedgerObject, ApiFailure>> {
        self.with(|state| state.calls.ledger += 1);
        async move {
            let written = self
                .call(WRITE_LEDGER, |state| match state.faults.pop_front() {
                    Some(Fault::Fails(failure)) => Err(failure),
                    Some(Fault::AnswerLost) => state.put(monitor, ledger, expected).and(Err(unavailable())),
                    None => state.put(monitor, ledger, expected),
                })
                .await;
            self.timeline.ledger(&written);
            // The answer takes its time too: a process may be killed when all is written and it doesn't know.
            tokio::time::sleep(READ).await;
            written
        }
        .boxed()
    }

    fn status_apply<'a>(
        &'a self,
        monitor: &'a MonitorRef,
        status: &'a CertificateMonitorStatus,
    ) -> BoxFuture<'a, Result<(), ApiFailure>> {
        self.with(|state| {
            state.calls.status += 1;
            if let Some(call) = &state.on_status {
                call(&monitor.key);
            }
        });
        self.call(WRITE_STATUS, |state| {
            let key = &monitor.key;
            let alone = state.watchers.len() == 1;
            let object = state.objects.monitors.get_mut(key);
            let Some(object) = object.filter(|object| object.uid == monitor.uid) else {
                return Err(ApiFailure::NotFound);
            };
            let before = object.status.replace(Box::new(status.clone()));
            let now = self.timeline.now();
            // Each of two processes knows its own writes only.
            let broken = if alone {
                status_rules::broken(before.as_deref(), status, object.generation, now)
            } else {
                vec![]
            };
            state.violations.extend(broken);
            if before.as_deref() == Some(status) {
                state.needless += 1;
            }
            self.timeline.status(before.as_deref(), status);
            state.emit_monitor(key);
            Ok(())
        })
        .boxed()
    }

    fn event<'a>(&'a self, _monitor: &'a MonitorRef, note: &'a EventNote) -> BoxFuture<'a, Result<(), ApiFailure>> {
        self.with(|state| state.calls.events += 1);
        self.call(WRITE_EVENT, |_| {
            self.timeline.event(note);
            Ok(())
        })
        .boxed()
    }

    fn sink_secret_get<'a>(
        &'a self,
        namespace: &'a str,
        name: &'a str,
    ) -> BoxFuture<'a, Result<Option<SinkSecret>, ApiFailure>> {
        let key = Key::new(namespace, name);
        self.call(READ, move |state| {
            Ok(state.objects.secrets.get(&key).map(|secret| SinkSecret {
                type_: secret.type_.to_string(),
                values: secret
                    .values
                    .iter()
                    .map(|(name, value)| (name.clone(), Zeroizing::new(value.clone())))
                    .collect(),
            }))
        })
        .boxed()
    }
}
