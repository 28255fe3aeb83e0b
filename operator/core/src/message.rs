//! What is said to a sink: data, not text. The webhook's Native body is this type's JSON; Slack and mail render it.

use crate::{
    certificate::Fingerprint,
    finding::{Facts, Finding, Severity},
    hash::ShortHash,
    place::Place,
    text::PeerText,
};
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

mod build;

pub(crate) use build::{Digest, build, count, frame};

/// Why a message leaves.
#[derive(
    Clone,
    Copy,
    Debug,
    PartialEq,
    Eq,
    Hash,
    PartialOrd,
    Ord,
    Serialize,
    Deserialize,
    strum::Display,
    strum::EnumIter,
    strum::IntoStaticStr,
)]
#[serde(rename_all = "kebab-case")]
#[strum(serialize_all = "kebab-case")]
pub enum MessageReason {
    /// This sink was never told anything, or nothing was open.
    First,
    /// A new alert beside those that were told.
    New,
    /// An alert got worse.
    Escalated,
    /// Some alerts ended, others last.
    ResolvedSome,
    /// All alerts ended.
    ResolvedAll,
    /// Nothing changed, but it still lasts.
    Reminder,
    /// Somebody asked for a test.
    Test,
}

/// How an alert ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, strum::Display)]
pub enum ResolvedAs {
    /// Another certificate is there, without the finding.
    Renewed,
    /// The finding isn't true any more, with the same certificate.
    Resolved,
    /// The monitor's thresholds, checks or trust changed.
    PolicyChanged,
    /// The place isn't watched any more, or is gone.
    NoLongerMonitored,
}

/// Numbers of a message.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct MessageCounts {
    /// Open alerts that are critical, of those that this sink is told.
    pub critical: u32,
    /// Open alerts that are warnings, of those that this sink is told.
    pub warning: u32,
    /// Alerts that this message says ended.
    pub resolved: u32,
    /// Open alerts that a silence holds back.
    pub silenced: u32,
}

/// The version of the body's schema; it rises when a field changes its meaning.
pub const MESSAGE_VERSION: u32 = 1;

/// One digest for one sink. A published format: fields are added, never renamed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Message {
    /// [`MESSAGE_VERSION`].
    pub version: u32,
    /// The same for every attempt at this message; receivers drop what they have seen.
    pub id: String,
    /// Why it leaves.
    pub reason: MessageReason,
    /// The cluster's name, if the operator was given one.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub cluster: Option<String>,
    /// The monitor's namespace.
    pub namespace: String,
    /// The monitor's name.
    pub monitor: String,
    /// The sink's name in the monitor's spec.
    pub sink: String,
    /// The instant that this is true of.
    pub as_of: DateTime<Utc>,
    /// Numbers, of all alerts, listed or not.
    pub counts: MessageCounts,
    /// So many alerts aren't in the list.
    pub truncated: u32,
    /// Changed alerts first (new, worse, ended), then those that last, worst first.
    pub alerts: Vec<MessageAlert>,
}

/// Firing or resolved.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AlertStatus {
    /// It lasts.
    Firing,
    /// It ended.
    Resolved,
}

/// The Kubernetes object that an alert is about.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MessageObject {
    /// `Secret` or `Ingress`.
    pub kind: String,
    /// Its name, in the monitor's namespace.
    pub name: String,
    /// The key under a Secret's `data`.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub key: Option<String>,
}

/// The certificate that an alert is about.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct MessageCertificate {
    /// Its name, sanitised.
    pub name: PeerText,
    /// Its issuer's name, sanitised.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub issuer: Option<PeerText>,
    /// Its serial number in hexadecimal.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub serial: Option<PeerText>,
    /// SHA-256 of its DER encoding.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub fingerprint: Option<Fingerprint>,
    /// Its DNS names, at most 20.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub dns_names: Vec<PeerText>,
    /// Valid from.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub not_before: Option<DateTime<Utc>>,
    /// Valid until.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub not_after: Option<DateTime<Utc>>,
}

/// One alert of a message.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct MessageAlert {
    /// The alert's identity: the same in every episode.
    pub id: ShortHash,
    /// This stretch of not being fine.
    pub episode: ShortHash,
    /// Firing or resolved.
    pub status: AlertStatus,
    /// The finding's name; of a resolved alert, the last one.
    pub finding: Finding,
    /// How bad; of a resolved alert, the last one.
    pub severity: Severity,
    /// The severity that this sink was told before, if it was.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub previous_severity: Option<Severity>,
    /// The place in its canonical form.
    pub place: String,
    /// The place for people.
    pub title: String,
    /// The object, if the place is one.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub object: Option<MessageObject>,
    /// The host that is dialled, if it is.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub host: Option<String>,
    /// The port that is dialled, if it is.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub port: Option<u16>,
    /// The certificate, if one is known.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub certificate: Option<MessageCertificate>,
    /// When the episode began.
    pub since: DateTime<Utc>,
    /// How it ended.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub resolved_as: Option<ResolvedAs>,
    /// The sentence that begins with the title.
    pub message: String,
    /// What to do.
    pub next_step: String,
    /// Where to read more.
    pub runbook: String,
}

/// The sentence about a place: its title, the certificate's name where the title doesn't have it, and the rest.
#[must_use]
pub fn sentence(place: &Place, facts: &Facts, rest: &str) -> String {
    let title = place.title();
    match (&facts.name, place) {
        (Some(name), Place::Secret { .. }) => format!("{title} ({name}) {rest}"),
        _ => format!("{title} {rest}"),
    }
}

#[cfg(test)]
mod tests;
