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
use std::collections::BTreeMap;

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

impl Ledger {
    /// Puts facts in, once, and returns their key.
    pub fn intern(&mut self, facts: &Facts) -> ShortHash {
        let _ = facts;
        todo!()
    }

    /// Forgets the sinks that the spec doesn't name any more: what they were told is told to nobody again.
    pub fn retain_sinks(&mut self, keep: impl Fn(&str) -> bool) {
        self.sinks.retain(|name, _| keep(name));
    }

    /// Makes it fit into [`LEDGER_BYTES`], worst alerts first, and drops facts that nothing refers to. Returns how many
    /// alerts were left out.
    pub fn fit(&mut self) -> usize {
        todo!()
    }
}
