//! What must outlive the process: which alerts are open, what was last seen of what is dialled, and what each sink was
//! told. One object per monitor; every message is a pure function of it.

use crate::{
    certificate::Fingerprint,
    finding::{AlertKind, Facts, Finding, Severity},
    hash::ShortHash,
    message::{Message, MessageReason, ResolvedAs},
    place::{Place, Role},
};
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet},
};

/// The schema of [`Ledger`]. An object with a higher one is neither read nor overwritten.
pub const LEDGER_VERSION: i32 = 1;

/// The whole object's content. All instants have whole seconds.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Ledger {
    /// Alerts that are open, or that ended and some sink still has to hear of.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub alerts: BTreeMap<ShortHash, Alert>,
    /// What is said of certificates, once, by hash.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub facts: BTreeMap<ShortHash, Facts>,
    /// What was last seen of dialled places: by place in canonical form, then by address (`IP:PORT`).
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub seen: BTreeMap<String, BTreeMap<String, LastSeen>>,
    /// What each sink was told, by its name.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub sinks: BTreeMap<String, SinkLedger>,
}

/// One alert: (namespace, monitor, place, role, kind of finding).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Alert {
    /// Where.
    pub place: Place,
    /// Which certificate there.
    pub role: Role,
    /// The present level's finding; the last one of an alert that ended.
    pub finding: Finding,
    /// The present severity; the last one of an alert that ended.
    pub severity: Severity,
    /// When this episode began.
    pub since: DateTime<Utc>,
    /// When the present level was entered, where that is later than `since`.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub raised: Option<DateTime<Utc>>,
    /// What is said of it: a key of [`Ledger::facts`].
    pub facts: ShortHash,
    /// It ended; it stays until every sink that was told has heard so.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub ended: Option<Ended>,
}

/// How and when an alert ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Ended {
    /// When.
    pub at: DateTime<Utc>,
    /// How.
    #[serde(rename = "as")]
    pub as_: ResolvedAs,
    /// The sentence that says so ("renewed: serial … until …"); at most 700 characters.
    pub message: String,
}

/// What was last seen at one address of a dialled place.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LastSeen {
    /// The leaf, and what a message says of it.
    pub leaf: SeenCertificate,
    /// The intermediates.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub intermediates: Vec<SeenCertificate>,
}

/// One certificate that was seen.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SeenCertificate {
    /// SHA-256 of its DER encoding.
    pub fingerprint: Fingerprint,
    /// Hash of its subject and public key, as in [`Role::Member`].
    pub member: ShortHash,
    /// Valid from.
    pub not_before: DateTime<Utc>,
    /// Valid until.
    pub not_after: DateTime<Utc>,
    /// A key of [`Ledger::facts`] (with an empty `message`).
    pub facts: ShortHash,
}

/// The level of an alert as a sink was told it. `Expired` is critical as `ExpiryCritical` is, and still news.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[allow(missing_docs)]
pub enum Said {
    Warning,
    Critical,
    Expired,
}

impl Said {
    /// The level of a finding.
    #[must_use]
    pub fn of(finding: Finding, severity: Severity) -> Self {
        match (finding, severity) {
            (Finding::Expired, _) => Self::Expired,
            (_, Severity::Critical) => Self::Critical,
            (_, Severity::Warning) => Self::Warning,
        }
    }

    /// Its severity.
    #[must_use]
    pub fn severity(self) -> Severity {
        match self {
            Self::Warning => Severity::Warning,
            Self::Critical | Self::Expired => Severity::Critical,
        }
    }
}

/// What one sink was told, and what is on its way to it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct SinkLedger {
    /// Alerts that the sink knows of, each with the level that was said last.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub told: BTreeMap<ShortHash, Said>,
    /// When the last message was accepted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_sent: Option<DateTime<Utc>>,
    /// When a failed delivery is tried again.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retry: Option<Retry>,
    /// What a later message refers to (a Slack thread, a mail's Message-ID), by names of the sink's own.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub thread: BTreeMap<String, String>,
    /// The message that was decided and not yet recorded as sent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub intent: Option<Intent>,
    /// The last test that had an outcome: the annotation's value.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tested: Option<String>,
}

impl SinkLedger {
    /// The test with this token had an outcome.
    #[must_use]
    pub fn has_tested(&self, token: &str) -> bool {
        self.tested.as_deref() == Some(token)
    }
}

/// A failed delivery.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Retry {
    /// Not before.
    pub at: DateTime<Utc>,
    /// Failures in a row.
    pub attempt: u32,
    /// Why it failed.
    pub class: crate::delivery::FailureClass,
    /// When the failing began.
    pub since: DateTime<Utc>,
    /// How much the next message says; it steps down where the sink refuses the size.
    #[serde(default)]
    pub rung: crate::delivery::Rung,
}

/// A message that was decided: written before it is sent, cleared by the record of its outcome.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Intent {
    /// A hash of the ledger's uid, its resourceVersion when this was decided, and `told`; for a test, of its token.
    pub id: String,
    /// Why.
    pub reason: MessageReason,
    /// The instant that the message is true of.
    pub as_of: DateTime<Utc>,
    /// What the sink will have been told.
    pub told: BTreeMap<ShortHash, Said>,
    /// The token of a test.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub token: Option<String>,
    /// The process that may send it, until the deadline: the Pod's uid.
    pub holder: String,
    /// After this instant, any process may.
    pub deadline: DateTime<Utc>,
    /// Earlier attempts at this intent that may have arrived; each gets a longer timeout.
    pub attempt: u32,
    /// How much the message says.
    #[serde(default)]
    pub rung: crate::delivery::Rung,
    /// What is said, whole.
    pub message: Message,
}

/// The identity of an alert: stable over renewals, restarts, a new cluster name and a monitor that was made again.
#[must_use]
pub fn alert_id(namespace: &str, monitor: &str, place: &Place, role: Role, kind: AlertKind) -> ShortHash {
    ShortHash::of(&[
        b"v1",
        namespace.as_bytes(),
        monitor.as_bytes(),
        place.to_string().as_bytes(),
        role.to_string().as_bytes(),
        kind.to_string().as_bytes(),
    ])
}

/// The identity of one stretch of not being fine.
#[must_use]
pub fn episode_id(alert: ShortHash, since: DateTime<Utc>) -> ShortHash {
    ShortHash::of(&[alert.to_string().as_bytes(), &since.timestamp().to_be_bytes()])
}

/// The most bytes that a ledger takes as JSON: an object of etcd takes 1.5 MiB (`--max-request-bytes`), and the API
/// server adds its own.
pub const LEDGER_BYTES: usize = 1024 * 1024;

/// Kept free for the messages of intents.
const INTENT_BYTES: usize = 256 * 1024;
/// What a sink takes at most beside what it was told and its message: retry, thread, a test's token, an intent's frame.
const SINK_BYTES: usize = 6 * 1024;
/// An alert in `told` and in an intent's `told`: `"0123456789abcdef":"Critical",` twice.
const TOLD_BYTES: usize = 2 * 30;
/// The alert that says that something was left out, and the braces around everything.
const FRAME_BYTES: usize = 4 * 1024;

impl Ledger {
    /// Puts facts in, once, and returns their key.
    pub fn intern(&mut self, facts: &Facts) -> ShortHash {
        let key = facts.key();
        self.facts.entry(key).or_insert_with(|| facts.clone());
        key
    }

    /// Forgets the sinks that the spec doesn't name any more: nobody is left who was told.
    pub fn retain_sinks(&mut self, keep: impl Fn(&str) -> bool) {
        self.sinks.retain(|name, _| keep(name));
    }

    /// Drops ended alerts that no sink was told of or is being told of, and what sinks were told of alerts that aren't
    /// there any more.
    pub(crate) fn forget_the_heard(&mut self) {
        let Self { alerts, sinks, .. } = self;
        let knows = |id: &ShortHash| {
            sinks.values().any(|sink| {
                sink.told.contains_key(id) || sink.intent.as_ref().is_some_and(|intent| intent.told.contains_key(id))
            })
        };
        alerts.retain(|id, alert| alert.ended.is_none() || knows(id));
        for sink in sinks.values_mut() {
            sink.told.retain(|id, _| alerts.contains_key(id));
        }
    }

    /// Drops facts that nothing refers to; [`Self::fit`] does too.
    pub fn drop_unused_facts(&mut self) {
        let Self {
            alerts, facts, seen, ..
        } = self;
        let mut used: BTreeSet<ShortHash> = alerts.values().map(|alert| alert.facts).collect();
        used.extend(seen.values().flat_map(BTreeMap::values).flat_map(LastSeen::facts));
        facts.retain(|key, _| used.contains(key));
    }

    /// Makes it fit into [`LEDGER_BYTES`], intents to come included, and drops facts that nothing refers to: alerts
    /// first, the worst of them first, then what was last seen, what ends first of it first. Returns how many alerts
    /// were left out; what sinks were told of those is forgotten.
    pub fn fit(&mut self) -> usize {
        self.drop_unused_facts();
        if self.bytes_with(0) <= LEDGER_BYTES {
            return 0;
        }
        let told = self.sinks.len() * TOLD_BYTES;
        let reserve = self.reserve(0);
        let mut room = Room {
            free: LEDGER_BYTES.saturating_sub(reserve),
            facts: BTreeSet::new(),
        };
        let kept: BTreeSet<ShortHash> = self
            .by_worst()
            .into_iter()
            .map_while(|id| {
                let alert = self.alerts.get(&id)?;
                room.take(self, 24 + json_bytes(alert) + told, [alert.facts])
                    .then_some(id)
            })
            .collect();
        let mut places: Vec<_> = self.seen.iter().collect();
        places.sort_by_key(|(_, addresses)| addresses.values().map(|seen| seen.leaf.not_after).min());
        let seen: BTreeSet<String> = places
            .into_iter()
            .map_while(|(place, addresses)| {
                let facts = addresses.values().flat_map(LastSeen::facts);
                room.take(self, json_bytes(place) + json_bytes(addresses) + 2, facts)
                    .then(|| place.clone())
            })
            .collect();
        let before = self.alerts.len();
        self.alerts.retain(|id, _| kept.contains(id));
        self.seen.retain(|place, _| seen.contains(place));
        self.forget_the_heard();
        self.drop_unused_facts();
        before - kept.len()
    }

    /// The most bytes that it takes with one more message of `message` bytes, whatever sinks are told of what is in it.
    /// It doesn't grow while messages come and go, as long as they stay below [`INTENT_BYTES`]: what was let in stays.
    pub(crate) fn bytes_with(&self, message: usize) -> usize {
        let content = json_bytes(&self.alerts) + json_bytes(&self.facts) + json_bytes(&self.seen);
        content + self.alerts.len() * self.sinks.len() * TOLD_BYTES + self.reserve(message)
    }

    fn reserve(&self, message: usize) -> usize {
        let intents = self.sinks.values().filter_map(|sink| sink.intent.as_ref());
        let messages: usize = intents.map(|intent| json_bytes(&intent.message)).sum();
        (messages + message).max(INTENT_BYTES) + self.sinks.len() * SINK_BYTES + FRAME_BYTES
    }

    /// All alerts, worst first; what a sink knows of comes before its equals, so that little is said and not ended.
    fn by_worst(&self) -> Vec<ShortHash> {
        let mut ids: Vec<_> = self.alerts.iter().collect();
        ids.sort_by_cached_key(|(id, alert)| {
            let told = self.sinks.values().any(|sink| sink.told.contains_key(id));
            let not_after = self.facts.get(&alert.facts).and_then(|facts| facts.not_after);
            (
                alert.finding != Finding::LedgerOverflow,
                Reverse(alert.severity),
                !told,
                alert.ended.is_some(),
                alert.finding.kind(),
                not_after.unwrap_or(DateTime::<Utc>::MAX_UTC),
                alert.place.clone(),
                alert.role,
            )
        });
        ids.into_iter().map(|(id, _)| *id).collect()
    }
}

impl LastSeen {
    /// The keys of all facts that it refers to.
    fn facts(&self) -> impl Iterator<Item = ShortHash> + '_ {
        std::iter::once(self.leaf.facts).chain(self.intermediates.iter().map(|certificate| certificate.facts))
    }
}

/// What is left while a ledger is filled.
struct Room {
    free: usize,
    facts: BTreeSet<ShortHash>,
}

impl Room {
    /// Takes `bytes` and those of facts that weren't counted yet, if there is room for all of it.
    fn take(&mut self, ledger: &Ledger, bytes: usize, facts: impl IntoIterator<Item = ShortHash>) -> bool {
        let new: BTreeSet<ShortHash> = facts.into_iter().filter(|key| !self.facts.contains(key)).collect();
        let of_facts: usize = new
            .iter()
            .filter_map(|key| ledger.facts.get(key))
            .map(|facts| 20 + json_bytes(facts))
            .sum();
        let Some(free) = self.free.checked_sub(bytes + of_facts) else {
            return false;
        };
        self.free = free;
        self.facts.extend(new);
        true
    }
}

/// How many bytes a value takes as JSON, without writing it anywhere.
pub(crate) fn json_bytes<T: Serialize + ?Sized>(value: &T) -> usize {
    struct Counter(usize);
    impl std::io::Write for Counter {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0 += bytes.len();
            Ok(bytes.len())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let mut counter = Counter(0);
    match serde_json::to_writer(&mut counter, value) {
        Ok(()) => counter.0,
        // Never for the ledger's types; too big is the safe answer.
        Err(_) => LEDGER_BYTES,
    }
}

mod stored;
#[cfg(test)]
mod tests;
