//! What the engine knows of one monitor beyond its object.

use crate::{
    cluster::{Key, LedgerObject, MonitorRef},
    controller::{
        resolve::{Resolved, Trouble, Watched},
        spec::{Parsed, SecretChoice, SourceKind},
        status::Stalled,
        trust::{Paths, TrustBook},
    },
    world::{KeyFilter, TrustKind, Wanted, WatchId, World},
};
use certmon_core::{
    alert::{Held, Transition},
    delivery::Outcome,
    dial::Dialled,
    ledger::{Intent, Ledger},
    place::Place,
    silence::Silencer,
    target::DialTarget,
};
use certmon_crd::{CertificateMonitorStatus, TrustRefKind};
use certmon_notify::SinkFault;
use chrono::{DateTime, TimeDelta, Utc};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

/// What is known of a monitor's ledger.
#[derive(Debug, PartialEq)]
pub(super) enum Stored {
    /// It wasn't read yet, or somebody else wrote it.
    Unread,
    /// There is none.
    Missing,
    /// As the API server has it.
    Object(Box<LedgerObject>),
    /// Its schema is newer than this program: it is neither read nor overwritten, and nothing is sent.
    Newer,
}

/// A write or a read that is repeated until it works.
#[derive(Debug, Default)]
pub(super) struct Attempt {
    /// It is under way.
    pub(super) in_flight: bool,
    /// Failures in a row.
    pub(super) failures: u32,
    /// Not before.
    pub(super) not_before: Option<DateTime<Utc>>,
}

impl Attempt {
    /// It may start now.
    pub(super) fn may_start(&self, now: DateTime<Utc>) -> bool {
        !self.in_flight && self.not_before.is_none_or(|at| at <= now)
    }

    /// When it is tried again; a turn before that must not forget it.
    pub(super) fn waits_until(&self, now: DateTime<Utc>) -> Option<DateTime<Utc>> {
        self.not_before.filter(|at| !self.in_flight && *at > now)
    }

    /// It ended without a result, and isn't tried before that.
    pub(super) fn rests_until(&mut self, at: DateTime<Utc>) {
        self.in_flight = false;
        self.not_before = Some(at);
    }

    /// It worked. Returns whether it had not for a while.
    pub(super) fn works(&mut self) -> bool {
        std::mem::take(self).failures >= ABSENCE
    }
}

/// So many failures in a row are an absence: what happened meanwhile is not known when the first call succeeds.
const ABSENCE: u32 = 3;
/// A watch that is open again brings what it missed within this.
const CATCHES_UP: TimeDelta = TimeDelta::seconds(1);
/// A watch tries again within this, if it ever will.
const SEES_AGAIN: TimeDelta = TimeDelta::seconds(45);

/// What is known of one sink, beside the ledger.
#[derive(Debug, Default)]
pub(super) struct SinkBook {
    /// The spec's kind and the Secret's version that were checked last.
    pub(super) checked: Option<String>,
    /// A check is under way.
    pub(super) checking: bool,
    /// What the check found.
    pub(super) fault: Option<SinkFault>,
    /// Remarks of the check.
    pub(super) remarks: Vec<String>,
    /// The intent that is being delivered.
    pub(super) sending: Option<String>,
    /// The intent (and which attempt at it) that this process decided and has not put on the wire: only that one is sent. One
    /// that is merely found may have been sent by whoever wrote it.
    pub(super) claimed: Option<(String, u32)>,
    /// Backoffs don't hold for the next decision.
    pub(super) try_now: bool,
    /// The reason that the last Event of this sink gave, if it was of a failure.
    pub(super) told_failure: Option<certmon_core::reason::Reason>,
}

impl SinkBook {
    /// This process decided to make this attempt, and hasn't yet.
    pub(super) fn has_claimed(&self, intent: &Intent) -> bool {
        self.claimed
            .as_ref()
            .is_some_and(|(id, attempt)| *id == intent.id && *attempt == intent.attempt)
    }
}

impl SinkBook {
    /// Somebody asks by annotation: no backoff holds, and a fault that was found is looked for again, since the policy may
    /// have changed.
    pub(super) fn asked(&mut self) {
        self.try_now = true;
        if self.fault.is_some() {
            self.checked = None;
        }
    }
}

/// An outcome that the ledger doesn't have yet.
#[derive(Debug, Clone)]
pub(super) struct Unrecorded {
    pub(super) sink: String,
    pub(super) intent: Intent,
    pub(super) outcome: Outcome,
}

/// One monitor.
pub(super) struct Monitored {
    pub(super) reference: MonitorRef,
    pub(super) generation: i64,
    pub(super) parsed: Result<Arc<Parsed>, String>,
    /// When the engine first saw it.
    pub(super) seen: DateTime<Utc>,
    /// The ledger as it should be.
    pub(super) book: Ledger,
    pub(super) stored: Stored,
    pub(super) reading: Attempt,
    pub(super) putting: Attempt,
    pub(super) held: Held,
    /// Transitions whose Events wait for the ledger's write.
    pub(super) transitions: Vec<Transition>,
    pub(super) unrecorded: Vec<Unrecorded>,
    /// So many of them, from the first, are in the ledger that is being written.
    pub(super) recording: usize,
    /// The policy that the last round judged by.
    pub(super) judged_generation: Option<i64>,
    pub(super) trust: TrustBook,
    /// The last resolution's dialled places, with what each dials.
    pub(super) targets: BTreeMap<Place, DialTarget>,
    pub(super) dialled: BTreeMap<Place, Dialled>,
    /// The last resolution's places that are dialled, as they were watched then.
    pub(super) watched: BTreeMap<Place, Watched>,
    /// Path verdicts of stored values that still hold.
    pub(super) paths: Paths,
    /// Everything was looked at once, or the 30 s are over.
    pub(super) ready: bool,
    /// Since when the sources have not been read completely, and nothing is known to be wrong with them.
    pub(super) reading_since: Option<DateTime<Utc>>,
    /// When the API server, or the last watch that was missing, came back after an absence.
    pub(super) back: Option<DateTime<Utc>>,
    /// A source can't be watched now.
    pub(super) blind: bool,
    pub(super) status: Option<CertificateMonitorStatus>,
    pub(super) writing: Attempt,
    pub(super) recent_writes: Vec<DateTime<Utc>>,
    pub(super) sinks: BTreeMap<String, SinkBook>,
    /// The check request that is under way: its token, and when it came.
    pub(super) check: Option<(String, DateTime<Utc>)>,
    pub(super) check_handled: Option<String>,
    pub(super) test: Option<(String, DateTime<Utc>)>,
    pub(super) test_handled: Option<String>,
    /// When a test may be sent again.
    pub(super) next_test: Option<DateTime<Utc>>,
    pub(super) stalled: Option<Stalled>,
    /// Reason and message of the last Event about a spec that can't be used.
    pub(super) told_stalled: Option<(String, String)>,
    /// How many places each source selected when that was last told.
    pub(super) selection: Option<BTreeMap<Box<str>, BTreeSet<Place>>>,
    pub(super) told_condition: Option<certmon_core::reason::Reason>,
    /// The last Event about `spec.suspend`.
    pub(super) told_suspended: bool,
    pub(super) events: EventBudget,
    /// When it is gone over again by time alone.
    pub(super) wake: Option<DateTime<Utc>>,
    /// As it stands among the engine's timers.
    pub(super) armed: Option<DateTime<Utc>>,
    /// Going over it panicked: until then it is left alone, unless its spec changes from this generation.
    pub(super) quarantine: Option<(DateTime<Utc>, i64)>,
    /// Places whose judging panicked in the last round.
    pub(super) panicked: BTreeSet<Place>,
    /// Its silences.
    pub(super) silencer: Silencer,
}

/// Events that a monitor may still publish: a burst, then few.
#[derive(Debug)]
pub(super) struct EventBudget {
    left: u32,
    refilled: DateTime<Utc>,
}

impl EventBudget {
    const BURST: u32 = 25;
    const EVERY: chrono::TimeDelta = chrono::TimeDelta::seconds(30);

    pub(super) fn new(now: DateTime<Utc>) -> Self {
        Self {
            left: Self::BURST,
            refilled: now,
        }
    }

    /// Takes one, if there is one.
    pub(super) fn take(&mut self, now: DateTime<Utc>) -> bool {
        while self.left < Self::BURST && self.refilled + Self::EVERY <= now {
            self.left += 1;
            self.refilled += Self::EVERY;
        }
        if self.left == Self::BURST || self.refilled > now {
            self.refilled = now;
        }
        let has = self.left > 0;
        self.left = self.left.saturating_sub(1);
        has
    }
}

impl Monitored {
    /// Takes in whether every source is watched.
    pub(super) fn see(&mut self, resolved: &Resolved, now: DateTime<Utc>) {
        let unavailable = |trouble: &Trouble| matches!(trouble, Trouble::Unavailable(_));
        let blind = resolved
            .sources
            .iter()
            .any(|source| source.trouble.as_ref().is_some_and(unavailable));
        if std::mem::replace(&mut self.blind, blind) && !blind && self.back.is_some() {
            self.back = Some(now);
        }
    }

    /// Until when nothing new is said: the API server is back, and what is known is not yet the truth of now. A source that
    /// stays away doesn't hold it up for ever.
    pub(super) fn catches_up(&self, now: DateTime<Utc>) -> Option<DateTime<Utc>> {
        let until = self.back? + if self.blind { SEES_AGAIN } else { CATCHES_UP };
        (now < until).then_some(until)
    }

    pub(super) fn new(reference: MonitorRef, now: DateTime<Utc>) -> Self {
        Self {
            reference,
            generation: 0,
            parsed: Err(String::new()),
            seen: now,
            book: Ledger::default(),
            stored: Stored::Unread,
            reading: Attempt::default(),
            putting: Attempt::default(),
            held: Held::default(),
            transitions: Vec::new(),
            unrecorded: Vec::new(),
            recording: 0,
            judged_generation: None,
            trust: TrustBook::default(),
            targets: BTreeMap::new(),
            dialled: BTreeMap::new(),
            watched: BTreeMap::new(),
            paths: Paths::new(),
            ready: false,
            reading_since: None,
            back: None,
            blind: false,
            status: None,
            writing: Attempt::default(),
            recent_writes: Vec::new(),
            sinks: BTreeMap::new(),
            check: None,
            check_handled: None,
            test: None,
            test_handled: None,
            next_test: None,
            stalled: None,
            told_stalled: None,
            selection: None,
            told_condition: None,
            told_suspended: false,
            events: EventBudget::new(now),
            wake: None,
            armed: None,
            quarantine: None,
            panicked: BTreeSet::new(),
            silencer: Silencer::default(),
        }
    }

    /// The ledger object, if it was read and holds what it should.
    pub(super) fn settled(&self) -> Option<&LedgerObject> {
        match &self.stored {
            Stored::Object(object) if object.ledger == self.book && self.owns(object) => Some(object),
            Stored::Object(_) | Stored::Unread | Stored::Missing | Stored::Newer => None,
        }
    }

    /// The ledger names this very monitor as its owner.
    pub(super) fn owns(&self, object: &LedgerObject) -> bool {
        object.owner_uid.as_deref() == Some(&*self.reference.uid)
    }

    /// The Secret, or one of this name, may matter to this monitor.
    pub(super) fn concerns_secret(&self, name: &str, world: &World) -> bool {
        let Ok(parsed) = &self.parsed else { return false };
        let place = |place: &Place| matches!(place, Place::Secret { name: known, .. } if &**known == name);
        let namespace = &self.reference.key.namespace;
        parsed.sources.iter().any(|source| match &source.kind {
            SourceKind::Secrets(choice) => {
                let matched = world.secret(namespace, name).is_some_and(|secret| {
                    use kube::core::SelectorExt;
                    choice.types.contains(&*secret.type_)
                        && choice
                            .selector
                            .as_ref()
                            .is_some_and(|matcher| matcher.selector.matches(&secret.labels))
                });
                matched || choice.names.contains(name)
            }
            SourceKind::Ingresses(_) => {
                let mut named = world.ingresses(namespace).flat_map(|ingress| &ingress.tls);
                named.any(|entry| entry.secret.as_deref() == Some(name))
            }
            SourceKind::Endpoints(_) => false,
        }) || self.selection.iter().flat_map(BTreeMap::values).flatten().any(place)
    }

    /// A source names Secrets, one of them or this one.
    pub(super) fn names_secret(&self, name: Option<&str>) -> bool {
        let Ok(parsed) = &self.parsed else { return false };
        parsed.sources.iter().any(|source| match &source.kind {
            SourceKind::Secrets(choice) => match name {
                Some(name) => choice.names.contains(name),
                None => !choice.names.is_empty(),
            },
            SourceKind::Ingresses(_) | SourceKind::Endpoints(_) => false,
        })
    }

    /// A sink's Secret has another version. Returns whether this monitor has such a sink.
    pub(super) fn sink_secret_changed(&mut self, name: &str) -> bool {
        let Ok(parsed) = &self.parsed else { return false };
        let mut any = false;
        for sink in parsed.sinks.iter().filter(|sink| sink.kind.secret() == Some(name)) {
            if let Some(book) = self.sinks.get_mut(&*sink.manners.name) {
                book.try_now = true;
            }
            any = true;
        }
        any
    }

    /// What is missing between now and the time when there is nothing left to be done for time's sake.
    pub(super) fn wake_at(&mut self, at: DateTime<Utc>) {
        self.wake = Some(self.wake.map_or(at, |wake| wake.min(at)));
    }
}

/// What all monitors together ask to be watched.
pub(super) fn wanted(world: &World) -> Wanted {
    let mut wanted = Wanted::default();
    for monitor in world.monitors() {
        let Ok(spec) = &monitor.spec else { continue };
        // One that panics is said so when it is gone over, and asks for nothing.
        let parsed = std::panic::catch_unwind(|| crate::controller::spec::parse(spec));
        let Ok(Ok(parsed)) = parsed else { continue };
        let namespace = &monitor.key.namespace;
        let stored_paths = parsed.trust.is_some();
        for source in &parsed.sources {
            match &source.kind {
                SourceKind::Secrets(choice) => {
                    want_secrets(&mut wanted, namespace, choice, &parsed, stored_paths);
                    want_missing(&mut wanted, namespace, choice, world);
                }
                SourceKind::Ingresses(_) => want_ingresses(&mut wanted, namespace, world),
                SourceKind::Endpoints(_) => {}
            }
        }
        for (kind, name, _) in parsed.trust.iter().flat_map(|trust| &trust.references) {
            let kind = match kind {
                TrustRefKind::ConfigMap => TrustKind::ConfigMap,
                TrustRefKind::Secret => TrustKind::Secret,
            };
            wanted.trust.insert((kind, Key::new(namespace, name)));
        }
        for sink in parsed.sinks.iter().filter(|sink| sink.kind.secret().is_some()) {
            wanted
                .sink_secrets
                .entry(sink.kind.secret_type().into())
                .or_default()
                .insert((&**namespace).into());
        }
    }
    wanted.limit();
    wanted
}

fn want_secrets(wanted: &mut Wanted, namespace: &str, choice: &SecretChoice, parsed: &Parsed, keep_der: bool) {
    for type_ in &choice.types {
        let filter = KeyFilter {
            keys: choice.keys.iter().cloned().collect(),
            private_key: parsed.policy.checks.key_match.is_some() && &**type_ == "kubernetes.io/tls",
            keep_der,
        };
        wanted
            .secrets
            .entry(type_.clone())
            .or_default()
            .entry(namespace.into())
            .or_default()
            .extend(&filter);
    }
}

/// A Secret that `names` names and that isn't among those of its types may be there with another type: then that is said.
fn want_missing(wanted: &mut Wanted, namespace: &str, choice: &SecretChoice, world: &World) {
    let is_listed = |type_: &str| {
        let id = WatchId::Secrets { type_: type_.into() };
        world.listed(&id, namespace).1
    };
    if !choice.types.iter().all(|type_| is_listed(type_)) {
        return;
    }
    let absent = choice
        .names
        .iter()
        .filter(|name| !world.is_held_by_type(namespace, name));
    wanted
        .named_secrets
        .extend(absent.map(|name| Key::new(namespace, name)).take(64));
}

fn want_ingresses(wanted: &mut Wanted, namespace: &str, world: &World) {
    wanted.ingresses.insert(namespace.into());
    let filter = KeyFilter {
        keys: ["tls.crt".into(), "ca.crt".into()].into(),
        private_key: false,
        keep_der: true,
    };
    let tls = wanted.secrets.entry("kubernetes.io/tls".into()).or_default();
    tls.entry(namespace.into()).or_default().extend(&filter);
    // One that no watch of a type holds may be of another type, or may come as such.
    let named = world
        .ingresses(namespace)
        .flat_map(|ingress| &ingress.tls)
        .filter_map(|entry| entry.secret.as_ref());
    let absent = named.filter(|name| !world.is_held_by_type(namespace, name));
    wanted
        .named_secrets
        .extend(absent.map(|name| Key::new(namespace, name)).take(64));
}

/// The places of the last resolution, for the counts of Events.
pub(super) fn selection(resolved: &Resolved) -> BTreeMap<Box<str>, BTreeSet<Place>> {
    resolved
        .sources
        .iter()
        .map(|source| (source.name.clone(), source.places.clone()))
        .collect()
}
