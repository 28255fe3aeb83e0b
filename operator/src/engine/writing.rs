//! What runs beside the engine and what comes back: reads and writes of the ledger, writes of the status, Events.

use super::{
    Engine, QUARANTINE,
    monitored::{Attempt, Monitored, Stored},
};
use crate::cluster::{ApiFailure, EventNote, Key, LedgerObject, MonitorRef};
use certmon_core::{
    delivery::{Failure, FailureClass, Misconfigured, Outcome},
    hash::ShortHash,
    ledger::{Intent, Ledger},
    reason::Reason,
    target::{DialTarget, Look},
};
use certmon_notify::SinkFault;
use chrono::{DateTime, TimeDelta, Utc};

/// Status writes at once, and the window that they count in; past it, one per [`WRITE_EVERY`].
const WRITE_BURST: usize = 5;
const WRITE_WINDOW: TimeDelta = TimeDelta::minutes(1);
const WRITE_EVERY: TimeDelta = TimeDelta::seconds(10);

/// A ledger of a newer version is looked at again after this: it may have been deleted.
const NEWER_AGAIN: TimeDelta = TimeDelta::minutes(10);
pub(super) const NEWER_LEDGER: &str =
    "its AlertLedger was written by a newer certmon; install that version again, or delete the AlertLedger";

/// What came back.
pub(super) enum Done {
    /// A look at a target.
    Looked {
        target: DialTarget,
        look: Look,
        at: DateTime<Utc>,
    },
    /// A look panicked.
    LookPanicked(DialTarget),
    /// The ledger was read.
    LedgerRead(Key, Box<str>, Result<Option<Box<LedgerObject>>, ApiFailure>),
    /// The ledger was written, as it was meant then.
    LedgerPut(Key, Box<str>, Result<Box<LedgerObject>, ApiFailure>),
    /// The status was written.
    StatusApplied(
        Key,
        Box<str>,
        Box<certmon_crd::CertificateMonitorStatus>,
        Result<(), ApiFailure>,
    ),
    /// A sink was checked, for this version of it.
    SinkChecked(
        Key,
        Box<str>,
        String,
        String,
        Result<Result<Vec<String>, SinkFault>, ApiFailure>,
    ),
    /// A message was delivered, or not.
    Delivered {
        key: Key,
        uid: Box<str>,
        sink: String,
        intent: Box<Intent>,
        outcome: Option<Outcome>,
    },
    /// Nothing to take in.
    Nothing,
    /// Something panicked that was done for this monitor.
    Panicked(MonitorRef, Work),
}

/// What is done for a monitor beside the engine.
pub(super) enum Work {
    /// Its ledger is read.
    Read,
    /// Its ledger is written.
    Put,
    /// Its status is written.
    Status,
    /// An Event about it is published.
    Event,
    /// A sink of it is checked.
    Check { sink: String, version: String },
    /// A message to a sink of it is sent.
    Send { sink: String, intent: Box<Intent> },
}

/// A pause that grows, with jitter that needs no dice: the same failure of two monitors doesn't come back at once.
pub(super) fn backoff(attempt: &mut Attempt, failure: &ApiFailure, seed: &str, now: DateTime<Utc>) -> DateTime<Utc> {
    let exponent = attempt.failures.min(5);
    attempt.failures += 1;
    attempt.in_flight = false;
    let full = TimeDelta::seconds(1 << exponent).min(TimeDelta::seconds(30));
    let share = ShortHash::of(&[seed.as_bytes(), &attempt.failures.to_be_bytes()]).number() % 500;
    let jittered = full / 2 + full * i32::try_from(share).unwrap_or(0) / 1000;
    let floor = match failure {
        ApiFailure::Unavailable {
            retry_after: Some(after),
            ..
        } => TimeDelta::from_std(*after).unwrap_or_default(),
        _ => TimeDelta::zero(),
    };
    let at = now + jittered.max(floor.min(TimeDelta::minutes(5)));
    attempt.not_before = Some(at);
    at
}

impl Engine {
    /// Takes in what came back.
    pub(super) fn done(&mut self, done: Done) {
        match done {
            Done::Looked { target, look, at } => self.looked(&target, &look, at),
            Done::LookPanicked(target) => self.look_panicked(&target),
            Done::LedgerRead(key, uid, result) => {
                self.ledger_read(&key, &uid, result.map(|object| object.map(|it| *it)));
            }
            Done::LedgerPut(key, uid, result) => self.ledger_put(&key, &uid, result.map(|object| *object)),
            Done::StatusApplied(key, uid, status, result) => self.status_applied(&key, &uid, *status, result),
            Done::SinkChecked(key, uid, sink, version, result) => self.sink_checked(&key, &uid, &sink, version, result),
            Done::Delivered {
                key,
                uid,
                sink,
                intent,
                outcome,
            } => self.delivered(&key, &uid, &sink, *intent, outcome),
            Done::Nothing => {}
            Done::Panicked(of, work) => self.panicked(&of, work),
        }
    }

    /// What was done beside the engine panicked: it has ended, in the worst way, and is tried again in a while.
    fn panicked(&mut self, of: &MonitorRef, work: Work) {
        self.metrics.panics.inc();
        let key = &of.key;
        tracing::error!(monitor = %key, "work for a monitor panicked; this is a fault of certmon's, please report it");
        let now = self.now();
        let Some(state) = self.same(key, &of.uid) else { return };
        let again = now + QUARANTINE;
        let what = match work {
            Work::Read => {
                state.reading.rests_until(again);
                "Reading the ledger".to_owned()
            }
            Work::Put => {
                state.putting.rests_until(again);
                "Writing the ledger".to_owned()
            }
            Work::Status => {
                state.writing.rests_until(again);
                "Writing the status".to_owned()
            }
            Work::Event => return,
            Work::Check { sink, version } => {
                let what = format!("Checking sink {sink}");
                if let Some(book) = state.sinks.get_mut(&sink) {
                    book.checking = false;
                    book.checked = Some(version);
                    book.fault = Some(SinkFault {
                        class: Misconfigured::BadValue,
                        text: "checking it failed inside certmon; please report it".to_owned(),
                    });
                }
                what
            }
            Work::Send { sink, intent } => {
                // Nobody knows how far it came.
                let failure = Failure {
                    class: FailureClass::Ambiguous,
                    code: None,
                    retry_after: None,
                };
                self.delivered(key, &of.uid, &sink, *intent, Some(Outcome::Failed(failure)));
                format!("Sending to sink {sink}")
            }
        };
        let note = format!("{what} failed inside certmon; please report it");
        self.publish(key, true, Reason::InternalError, "Evaluate", &note, None);
        if let Some(state) = self.monitors.get_mut(key) {
            state.wake_at(again);
        }
        self.rearm(key);
        self.agenda.mark(key);
    }

    /// The monitor, if it is still the same object.
    pub(super) fn same(&mut self, key: &Key, uid: &str) -> Option<&mut Monitored> {
        self.monitors.get_mut(key).filter(|state| &*state.reference.uid == uid)
    }

    /// Reads the ledger, if it wasn't.
    pub(super) fn read_ledger(&mut self, key: &Key) {
        let now = self.now();
        let Some(state) = self.monitors.get_mut(key) else {
            return;
        };
        if !state.reading.may_start(now) || state.putting.in_flight {
            if let Some(at) = state.reading.waits_until(now) {
                state.wake_at(at);
                self.rearm(key);
            }
            return;
        }
        state.reading.in_flight = true;
        let (cluster, reference) = (self.seams.cluster.clone(), state.reference.clone());
        self.spawn(&reference.clone(), Work::Read, async move {
            let result = cluster.ledger_get(&reference).await.map(|object| object.map(Box::new));
            Done::LedgerRead(reference.key, reference.uid, result)
        });
    }

    fn ledger_read(&mut self, key: &Key, uid: &str, result: Result<Option<LedgerObject>, ApiFailure>) {
        let now = self.now();
        let Some(state) = self.same(key, uid) else { return };
        // What was decided without it, or on another one, is decided afresh.
        state.transitions.clear();
        match result {
            Ok(object) => {
                state.back = state.reading.works().then_some(now).or(state.back);
                let fresh = object.as_ref().map(|object| object.ledger.clone()).unwrap_or_default();
                state.restore(fresh, now);
                state.stored = object.map_or(Stored::Missing, |object| Stored::Object(Box::new(object)));
            }
            Err(ApiFailure::NewerLedger(version)) => {
                state.reading = Attempt::default();
                state.reading.not_before = Some(now + NEWER_AGAIN);
                // Said once: what was said before a restart stands in status.
                let told = state.status.iter().flat_map(|status| &status.conditions);
                let news = state.stored != Stored::Newer
                    && !told
                        .into_iter()
                        .any(|known| known.reason == Reason::LedgerUnreadable.name());
                state.stored = Stored::Newer;
                if news {
                    tracing::error!(monitor = %key, version, "the ledger is of a newer certmon: nothing is sent for this monitor");
                    let note = format!("Nothing is told: {NEWER_LEDGER}");
                    self.publish(key, true, Reason::LedgerUnreadable, "Notify", &note, None);
                }
            }
            Err(failure) => {
                let at = backoff(&mut state.reading, &failure, &key.to_string(), now);
                state.wake_at(at);
                self.rearm(key);
                tracing::debug!(monitor = %key, %failure, "the ledger can't be read; trying again");
                return;
            }
        }
        self.agenda.urge(key);
    }

    /// Writes the ledger, if it isn't what it should be. An empty one is only written where a message needs its uid.
    pub(super) fn put_ledger(&mut self, key: &Key, even_empty: bool) {
        let now = self.now();
        let Some(state) = self.monitors.get_mut(key) else {
            return;
        };
        let needed = match &state.stored {
            Stored::Unread | Stored::Newer => false,
            Stored::Missing => even_empty || state.book != Ledger::default(),
            Stored::Object(object) => object.ledger != state.book || !state.owns(object),
        };
        if needed && let Some(at) = state.putting.waits_until(now) {
            state.wake_at(at);
        }
        if !needed || !state.putting.may_start(now) || state.reading.in_flight {
            return;
        }
        state.putting.in_flight = true;
        state.recording = state.unrecorded.len();
        let expected = match &state.stored {
            Stored::Object(object) => Some(object.clone()),
            Stored::Unread | Stored::Missing | Stored::Newer => None,
        };
        let (cluster, reference, book) = (self.seams.cluster.clone(), state.reference.clone(), state.book.clone());
        self.spawn(&reference.clone(), Work::Put, async move {
            let result = cluster
                .ledger_put(&reference, &book, expected.as_deref())
                .await
                .map(Box::new);
            Done::LedgerPut(reference.key, reference.uid, result)
        });
    }

    fn ledger_put(&mut self, key: &Key, uid: &str, result: Result<LedgerObject, ApiFailure>) {
        let now = self.now();
        let Some(state) = self.same(key, uid) else { return };
        match result {
            Ok(object) => {
                state.back = state.putting.works().then_some(now).or(state.back);
                state.unrecorded.drain(..state.recording.min(state.unrecorded.len()));
                state.stored = Stored::Object(Box::new(object));
                let transitions = std::mem::take(&mut state.transitions);
                self.publish_transitions(key, &transitions);
                self.agenda.urge(key);
            }
            // Somebody else wrote it, or made or deleted it: read it afresh, and decide afresh.
            Err(ApiFailure::Conflict | ApiFailure::NotFound) => {
                state.putting = Attempt::default();
                state.stored = Stored::Unread;
                state.transitions.clear();
                self.agenda.urge(key);
            }
            Err(failure) => {
                let at = backoff(&mut state.putting, &failure, &key.to_string(), now);
                state.wake_at(at);
                self.rearm(key);
                tracing::warn!(monitor = %key, %failure, "the ledger can't be written; trying again");
            }
        }
    }

    /// Writes the status, if it says something else than what was written last.
    pub(super) fn apply_status(&mut self, key: &Key, status: certmon_crd::CertificateMonitorStatus) {
        let now = self.now();
        let Some(state) = self.monitors.get_mut(key) else {
            return;
        };
        if state.status.as_ref() == Some(&status) {
            return;
        }
        if state.writing.in_flight {
            return;
        }
        state.recent_writes.retain(|at| *at <= now && now - *at < WRITE_WINDOW);
        let spaced = state
            .recent_writes
            .last()
            .filter(|_| state.recent_writes.len() >= WRITE_BURST);
        let spaced = spaced.map(|last| *last + WRITE_EVERY);
        let not_before = state.writing.not_before.into_iter().chain(spaced).max();
        if let Some(at) = not_before.filter(|at| *at > now) {
            state.wake_at(at);
            return;
        }
        state.writing.in_flight = true;
        state.recent_writes.push(now);
        let (cluster, reference) = (self.seams.cluster.clone(), state.reference.clone());
        self.metrics.status_writes.inc();
        self.spawn(&reference.clone(), Work::Status, async move {
            let result = cluster.status_apply(&reference, &status).await;
            Done::StatusApplied(reference.key, reference.uid, Box::new(status), result)
        });
    }

    fn status_applied(
        &mut self,
        key: &Key,
        uid: &str,
        status: certmon_crd::CertificateMonitorStatus,
        result: Result<(), ApiFailure>,
    ) {
        let now = self.now();
        let Some(state) = self.same(key, uid) else { return };
        match result {
            Ok(()) => {
                state.back = state.writing.works().then_some(now).or(state.back);
                state.status = Some(status);
                self.agenda.urge(key);
            }
            // The monitor is gone; its Deleted event is on its way.
            Err(ApiFailure::NotFound) => state.writing = Attempt::default(),
            Err(failure) => {
                let refused = matches!(failure, ApiFailure::Invalid(_));
                let first = state.writing.failures == 0;
                let at = backoff(&mut state.writing, &failure, &key.to_string(), now);
                // What the server refuses today it refuses in a second too.
                let at = if refused { now + TimeDelta::minutes(10) } else { at };
                state.writing.not_before = Some(at);
                state.wake_at(at);
                self.rearm(key);
                tracing::warn!(monitor = %key, %failure, "the status can't be written; trying again");
                if refused && first {
                    let note = format!("The API server refuses this monitor's status: {failure}");
                    self.publish(key, true, Reason::InvalidSpec, "Configure", &note, None);
                    self.metrics.invalid_objects.inc();
                }
            }
        }
    }

    /// Publishes an Event about a monitor, within its budget.
    pub(super) fn publish(
        &mut self,
        key: &Key,
        warning: bool,
        reason: Reason,
        action: &'static str,
        note: &str,
        related: Option<(&'static str, String)>,
    ) {
        let note = EventNote {
            at: self.now(),
            warning,
            reason: reason.name().to_owned(),
            action,
            note: bytes(note, 1024),
            related,
            mirrored: None,
        };
        self.publish_note(key, note);
    }

    /// [`Self::publish`] of an Event that is made already.
    pub(super) fn publish_note(&mut self, key: &Key, note: EventNote) {
        let Some(state) = self.monitors.get_mut(key) else {
            return;
        };
        if !state.events.take(note.at) {
            self.metrics.dropped_events.inc();
            return;
        }
        let (cluster, reference) = (self.seams.cluster.clone(), state.reference.clone());
        self.spawn(&reference.clone(), Work::Event, async move {
            if let Err(failure) = cluster.event(&reference, &note).await {
                tracing::debug!(monitor = %reference.key, %failure, reason = note.reason, "an Event was lost");
            }
            Done::Nothing
        });
    }

    /// Arms the monitor's timer for its next wake.
    pub(super) fn rearm(&mut self, key: &Key) {
        let Some(state) = self.monitors.get_mut(key) else {
            return;
        };
        let before = std::mem::replace(&mut state.armed, state.wake);
        if before != state.armed {
            before.map(|at| self.timers.remove(&(at, key.clone())));
        }
        self.timers.extend(state.armed.map(|at| (at, key.clone())));
    }
}

/// Cuts at a character, so that no more than `most` bytes are left, `…` included.
pub(super) fn bytes(text: &str, most: usize) -> String {
    if text.len() <= most {
        return text.to_owned();
    }
    let mut end = most - '…'.len_utf8();
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    format!("{}…", &text[..end])
}
