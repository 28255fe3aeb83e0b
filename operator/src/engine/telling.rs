//! Telling: for each sink of a monitor, from the ledger as it is stored to a message and back.

use super::{
    Engine,
    monitored::{Monitored, SinkBook, Stored, Unrecorded},
    writing::{Done, Work},
};
use crate::{
    cluster::{ApiFailure, Key},
    controller::{hint::count, spec::Sink as SinkSpec},
};
use certmon_core::{
    delivery::{self, Decision, Failure, FailureClass, Misconfigured, Outcome, SinkContext},
    hash::ShortHash,
    ledger::{Alert, Intent},
    message::MessageReason,
    reason::Reason,
};
use certmon_notify::{Delivery, SinkFault};
use chrono::{DateTime, TimeDelta, Utc};
use std::time::Duration;

/// A sink's Secret is read again after this where the API server did not answer.
const READ_AGAIN: TimeDelta = TimeDelta::seconds(10);
/// A monitor sends no more tests than one in this time: each is a message for every sink, whoever may annotate.
pub(super) const TEST_EVERY: TimeDelta = TimeDelta::minutes(1);
/// A test is echoed as handled after this, even if a sink has no outcome.
pub(super) const TEST_WITHIN: TimeDelta = TimeDelta::seconds(60);

impl Engine {
    /// Goes over the sinks of a monitor: checks what changed, decides what is to be said, and starts what is decided.
    pub(super) fn tell(&mut self, key: &Key) {
        let now = self.now();
        let Some(state) = self.monitors.get(key) else { return };
        let Ok(parsed) = state.parsed.clone() else { return };
        for sink in &parsed.sinks {
            self.check_sink(key, sink);
        }
        if parsed.suspended || self.draining {
            return;
        }
        self.drop_sinks(key, &parsed.sinks);
        let (mut create, mut untestable) = (false, Vec::new());
        for sink in &parsed.sinks {
            let decision = self.decide(key, sink, now);
            let Some(state) = self.monitors.get_mut(key) else {
                return;
            };
            match decision {
                Some(Decision::Begin(intent) | Decision::Resume(intent)) => {
                    state.book = delivery::begin(&state.book, &sink.manners.name, &intent);
                    if let Some(book) = state.sinks.get_mut(&*sink.manners.name) {
                        book.try_now = false;
                        book.claimed = Some((intent.id, intent.attempt));
                    }
                }
                Some(Decision::Wait(at) | Decision::Held(at)) => state.wake_at(at),
                Some(Decision::Nothing { absorbed, next }) => {
                    if let Some(absorbed) = absorbed {
                        let known = state.book.sinks.get(&*sink.manners.name);
                        if absorbed.tested != known.and_then(|sink| sink.tested.clone()) {
                            untestable.push(sink);
                        }
                        state.book.sinks.insert(sink.manners.name.to_string(), absorbed);
                    }
                    if let Some(next) = next {
                        state.wake_at(next);
                    }
                    if let Some(book) = state.sinks.get_mut(&*sink.manners.name) {
                        book.try_now = false;
                    }
                }
                // A test of a monitor that has no ledger yet: its uid is needed first.
                Some(Decision::Blocked) => {}
                None => create |= state.stored == Stored::Missing && state.test.is_some(),
            }
        }
        for sink in untestable {
            self.publish_untestable(key, sink);
        }
        self.put_ledger(key, create);
        for sink in &parsed.sinks {
            self.send(key, sink, now);
        }
    }

    /// What a sink was told is forgotten with the sink.
    fn drop_sinks(&mut self, key: &Key, sinks: &[SinkSpec]) {
        let Some(state) = self.monitors.get_mut(key) else {
            return;
        };
        let named = |name: &str| sinks.iter().any(|sink| &*sink.manners.name == name);
        state.sinks.retain(|name, _| named(name));
        if !state.book.sinks.keys().all(|name| named(name)) {
            state.book.retain_sinks(named);
        }
    }

    /// Decides for one sink; `None` while the ledger isn't read, or not yet written as it should be.
    fn decide(&self, key: &Key, sink: &SinkSpec, now: DateTime<Utc>) -> Option<Decision> {
        let state = self.monitors.get(key)?;
        let object = state.settled()?;
        let stored = state.book.sinks.get(&*sink.manners.name);
        let intent = stored.and_then(|sink| sink.intent.as_ref());
        let on_its_way = |book: &SinkBook| {
            book.sending.is_some() || intent.is_some_and(|intent| now < intent.deadline && book.has_claimed(intent))
        };
        if state.sinks.get(&*sink.manners.name).is_some_and(on_its_way) {
            return Some(Decision::Blocked);
        }
        if let Some(until) = state.catches_up(now).filter(|_| intent.is_none()) {
            return Some(Decision::Wait(until));
        }
        self.with_context(state, sink, &object.uid, &object.resource_version, now, |context| {
            delivery::decide(&state.book, context, now)
        })
    }

    /// Calls `with` with what the decision must know.
    pub(super) fn with_context<T>(
        &self,
        state: &Monitored,
        sink: &SinkSpec,
        ledger_uid: &str,
        resource_version: &str,
        now: DateTime<Utc>,
        with: impl FnOnce(&SinkContext<'_>) -> T,
    ) -> Option<T> {
        let parsed = state.parsed.as_ref().ok()?;
        let ledger = &state.book;
        let silenced = |alert: &Alert| {
            let facts = ledger.facts.get(&alert.facts);
            facts.is_some_and(|facts| state.silencer.is_silenced(&alert.place, alert.finding, facts, now))
        };
        let book = state.sinks.get(&*sink.manners.name);
        let attempt = ledger
            .sinks
            .get(&*sink.manners.name)
            .and_then(|sink| sink.intent.as_ref())
            .map_or(0, |intent| intent.attempt);
        let longest = self.seams.sink.longest_attempt(&sink.kind, attempt);
        let mut manners = sink.manners.clone();
        manners.longest_attempt = TimeDelta::from_std(longest).unwrap_or(TimeDelta::minutes(15));
        Some(with(&SinkContext {
            namespace: &state.reference.key.namespace,
            monitor: &state.reference.key.name,
            cluster: self.settings.cluster_name.as_deref(),
            manners: &manners,
            silenced: &silenced,
            ready: state.ready,
            suspended: parsed.suspended,
            misconfigured: book.is_none_or(|book| book.fault.is_some() || book.checked.is_none()),
            holder: &self.settings.identity,
            ledger_uid,
            resource_version,
            // A sink that wasn't checked yet is no misconfigured one: its test waits for the check.
            test_token: state
                .test
                .as_ref()
                .filter(|_| book.is_some_and(|book| book.checked.is_some()))
                .map(|(token, _)| token.as_str()),
            try_now: book.is_some_and(|book| book.try_now),
        }))
    }

    /// Checks a sink whose spec or Secret changed since it was checked last.
    fn check_sink(&mut self, key: &Key, sink: &SinkSpec) {
        let secret_key = sink.kind.secret().map(|name| Key::new(&key.namespace, name));
        let version = secret_key
            .as_ref()
            .and_then(|key| self.world.sink_secret(key))
            .unwrap_or("none");
        let version = format!("{:?} {version}", sink.kind);
        let Some(state) = self.monitors.get_mut(key) else {
            return;
        };
        let book = state.sinks.entry(sink.manners.name.to_string()).or_default();
        if book.checking || book.checked.as_ref() == Some(&version) {
            return;
        }
        book.checking = true;
        let (cluster, notify) = (self.seams.cluster.clone(), self.seams.sink.clone());
        let (kind, name, reference) = (
            sink.kind.clone(),
            sink.manners.name.to_string(),
            state.reference.clone(),
        );
        let work = Work::Check {
            sink: name.clone(),
            version: version.clone(),
        };
        self.spawn(&reference.clone(), work, async move {
            let namespace = reference.key.namespace.clone();
            let secret = match kind.secret() {
                Some(secret) => match cluster.sink_secret_get(&namespace, secret).await {
                    Ok(secret) => secret,
                    Err(ApiFailure::Forbidden | ApiFailure::NotFound) => None,
                    Err(failure) => {
                        return Done::SinkChecked(reference.key, reference.uid, name, version, Err(failure));
                    }
                },
                None => None,
            };
            let checked = notify.check(&namespace, &kind, secret.as_ref()).await;
            Done::SinkChecked(reference.key, reference.uid, name, version, Ok(checked))
        });
    }

    pub(super) fn sink_checked(
        &mut self,
        key: &Key,
        uid: &str,
        sink: &str,
        version: String,
        result: Result<Result<Vec<String>, SinkFault>, ApiFailure>,
    ) {
        let now = self.now();
        let Some(state) = self.same(key, uid) else { return };
        let Some(book) = state.sinks.get_mut(sink) else { return };
        book.checking = false;
        match result {
            Ok(checked) => {
                let mended = book.fault.is_some() && checked.is_ok();
                book.try_now |= mended;
                book.checked = Some(version);
                match checked {
                    Ok(remarks) => (book.fault, book.remarks) = (None, remarks),
                    Err(fault) => (book.fault, book.remarks) = (Some(fault), vec![]),
                }
                self.publish_check(key, sink);
                self.agenda.urge(key);
            }
            Err(_) => {
                state.wake_at(now + READ_AGAIN);
                self.rearm(key);
            }
        }
    }

    /// Sends the sink's intent, if the stored ledger has one that this process holds and isn't sending yet.
    fn send(&mut self, key: &Key, sink: &SinkSpec, now: DateTime<Utc>) {
        let identity = self.settings.identity.clone();
        let Some(state) = self.monitors.get_mut(key) else {
            return;
        };
        let name = sink.manners.name.to_string();
        let Stored::Object(object) = &state.stored else { return };
        let Some(intent) = object.ledger.sinks.get(&name).and_then(|sink| sink.intent.clone()) else {
            return;
        };
        if intent.holder != identity || intent.deadline <= now {
            return;
        }
        // The book may be ahead of what is stored; only what both have is on its way.
        let in_book = state.book.sinks.get(&name).and_then(|sink| sink.intent.as_ref());
        if in_book != Some(&intent) {
            return;
        }
        let thread = object
            .ledger
            .sinks
            .get(&name)
            .map(|sink| sink.thread.clone())
            .unwrap_or_default();
        let book = state.sinks.entry(name.clone()).or_default();
        if book.sending.is_some() || !book.has_claimed(&intent) {
            return;
        }
        book.sending = Some(intent.id.clone());
        let (cluster, notify) = (self.seams.cluster.clone(), self.seams.sink.clone());
        let (kind, reference) = (sink.kind.clone(), state.reference.clone());
        let patience = (intent.deadline - now).to_std().unwrap_or(Duration::from_secs(1));
        let work = Work::Send {
            sink: name.clone(),
            intent: Box::new(intent.clone()),
        };
        self.spawn(&reference.clone(), work, async move {
            let namespace = reference.key.namespace.to_string();
            let secret = match kind.secret() {
                Some(secret) => match cluster.sink_secret_get(&namespace, secret).await {
                    Ok(secret) => secret,
                    Err(ApiFailure::Forbidden | ApiFailure::NotFound) => None,
                    Err(_) => {
                        return Done::Delivered {
                            key: reference.key,
                            uid: reference.uid,
                            sink: name,
                            intent: Box::new(intent),
                            outcome: None,
                        };
                    }
                },
                None => None,
            };
            let outcome = if kind.secret().is_some() && secret.is_none() {
                let class = FailureClass::Misconfigured(Misconfigured::SecretMissing);
                Outcome::Failed(Failure {
                    class,
                    code: None,
                    retry_after: None,
                })
            } else {
                let delivery = Delivery {
                    namespace,
                    kind,
                    secret,
                    message: intent.message.clone(),
                    rung: intent.rung,
                    thread,
                    attempt: intent.attempt,
                };
                // The claim ends then; whoever takes it over sends the same message again.
                let timed = tokio::time::timeout(patience, notify.deliver(delivery)).await;
                timed.unwrap_or(Outcome::Failed(Failure {
                    class: FailureClass::Ambiguous,
                    code: None,
                    retry_after: None,
                }))
            };
            Done::Delivered {
                key: reference.key,
                uid: reference.uid,
                sink: name,
                intent: Box::new(intent),
                outcome: Some(outcome),
            }
        });
    }

    /// An attempt ended: what it came to is recorded, sooner or later, whatever the API server does meanwhile.
    pub(super) fn delivered(&mut self, key: &Key, uid: &str, sink: &str, intent: Intent, outcome: Option<Outcome>) {
        let now = self.now();
        let Some(state) = self.same(key, uid) else { return };
        if let Some(book) = state.sinks.get_mut(sink) {
            book.sending = None;
        }
        let Some(outcome) = outcome else {
            // The Secret couldn't be read: nothing was sent. The claim stays, and is used again in a moment.
            state.wake_at(now + READ_AGAIN);
            self.rearm(key);
            return;
        };
        if let Some(book) = state.sinks.get_mut(sink) {
            book.claimed = None;
        }
        state.unrecorded.push(Unrecorded {
            sink: sink.to_owned(),
            intent: intent.clone(),
            outcome: outcome.clone(),
        });
        state.record(now);
        let kind = state.parsed.as_ref().ok().and_then(|parsed| {
            parsed
                .sinks
                .iter()
                .find(|spec| &*spec.manners.name == sink)
                .map(|spec| spec.kind.name())
        });
        self.metrics.delivered(kind.unwrap_or("none"), &outcome, key, sink, now);
        self.publish_delivery(key, sink, &intent, &outcome);
        self.agenda.urge(key);
    }

    /// The Events of an attempt: what was sent; what fails, once; that it works again.
    fn publish_delivery(&mut self, key: &Key, sink: &str, intent: &Intent, outcome: &Outcome) {
        let Some(state) = self.monitors.get_mut(key) else {
            return;
        };
        let Ok(parsed) = state.parsed.clone() else { return };
        let Some(spec) = parsed.sinks.iter().find(|spec| &*spec.manners.name == sink) else {
            return;
        };
        let secret = spec.kind.secret().map(|name| ("Secret", name.to_owned()));
        let to = format!("sink {sink} ({})", describe(spec));
        let test = intent.reason == MessageReason::Test;
        let book = state.sinks.entry(sink.to_owned()).or_default();
        match outcome {
            Outcome::Delivered {
                rejected_recipients, ..
            } => {
                let recovered = book.told_failure.take().is_some();
                let counts = intent.message.counts;
                let (reason, note) = if test {
                    (Reason::TestNotificationSent, format!("Sent a test message to {to}"))
                } else {
                    let open = (counts.critical + counts.warning) as usize;
                    let what = match (open, counts.resolved) {
                        (0, resolved) => format!("{} as resolved", count(resolved as usize, "finding")),
                        (open, 0) => count(open, "finding"),
                        (open, resolved) => format!("{} and {resolved} resolved", count(open, "finding")),
                    };
                    (
                        Reason::NotificationSent,
                        format!("Sent {what} to {to}: {}", intent.reason),
                    )
                };
                self.publish(key, false, reason, "Notify", &note, None);
                if recovered {
                    let note = format!("Deliveries to {to} work again");
                    self.publish(key, false, Reason::NotificationRecovered, "Notify", &note, None);
                }
                if *rejected_recipients > 0 {
                    let note = format!(
                        "{to}: {} refused by the mail server",
                        count(*rejected_recipients as usize, "recipient")
                    );
                    self.publish(key, true, Reason::RecipientRejected, "Notify", &note, secret);
                }
            }
            Outcome::Failed(failure) => {
                let reason = Reason::from(failure.class);
                let text = failure_text(failure);
                if test {
                    let note = format!("A test message to {to} failed: {text}");
                    self.publish(key, true, Reason::TestNotificationFailed, "Notify", &note, secret);
                } else if book.told_failure != Some(reason) {
                    book.told_failure = Some(reason);
                    self.publish(key, true, reason, "Notify", &format!("{to}: {text}"), secret);
                }
            }
        }
    }

    /// Gives back the claims on messages that are not on the wire, so that the next process need not wait for their end. Returns
    /// whose ledger has to be written for that: now, or when a write that is under way has ended.
    pub(super) fn release_claims(&mut self) -> Vec<Key> {
        let now = self.now();
        let mut released = Vec::new();
        for (key, state) in &mut self.monitors {
            let mut changed = false;
            for (name, sink) in &mut state.book.sinks {
                let sending = state.sinks.get(name).is_some_and(|book| book.sending.is_some());
                if let Some(intent) = sink
                    .intent
                    .clone()
                    .filter(|intent| !sending && intent.holder == self.settings.identity)
                {
                    *sink = delivery::release(sink, &intent, now);
                    changed = true;
                }
            }
            if changed {
                released.push(key.clone());
            }
        }
        released
    }
}

impl Monitored {
    /// Puts outcomes that the ledger doesn't have yet into the book, where it still holds their intents.
    pub(super) fn record(&mut self, now: DateTime<Utc>) {
        for record in &self.unrecorded {
            let Some(sink) = self.book.sinks.get_mut(&record.sink) else {
                continue;
            };
            let attempt = record.intent.attempt.to_be_bytes();
            let jitter =
                ShortHash::of(&[record.intent.id.as_bytes(), &attempt, &now.timestamp().to_be_bytes()]).number();
            if sink
                .intent
                .as_ref()
                .is_some_and(|intent| intent.id == record.intent.id && intent.attempt == record.intent.attempt)
            {
                *sink = delivery::record(sink, &record.intent, &record.outcome, jitter, now);
            }
        }
    }
}

/// What people call a sink: where it goes, as far as the spec says.
pub(super) fn describe(sink: &SinkSpec) -> String {
    use certmon_core::sink::{SinkKind, WebhookTarget};
    match &sink.kind {
        SinkKind::Slack {
            channel: Some(channel), ..
        } => format!("Slack {channel}"),
        SinkKind::Slack { channel: None, .. } => "Slack".to_owned(),
        SinkKind::Email { to, .. } => match to.as_slice() {
            [one] => format!("mail to {one}"),
            more => format!("mail to {}", count(more.len(), "recipient")),
        },
        SinkKind::Webhook(WebhookTarget::Secret(secret)) => format!("webhook of Secret {secret}"),
        SinkKind::Webhook(WebhookTarget::Url(_)) => "webhook".to_owned(),
    }
}

/// A failed attempt in words, with the next step.
fn failure_text(failure: &Failure) -> String {
    let code = failure.code.map(|code| format!(" ({code})")).unwrap_or_default();
    format!("{}{code}", failure.class.text())
}
