//! The closed list of findings: one name in status, conditions, Events, metrics, messages and `certmon explain`.

use crate::{
    hash::ShortHash,
    place::{Place, Role},
    text::PeerText,
};
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

/// How bad a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, strum::Display)]
pub enum Severity {
    /// Somebody should look.
    Warning,
    /// Somebody must act.
    Critical,
}

/// Every finding, in the order in which they are listed where severity is equal.
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
    strum::EnumString,
    strum::IntoStaticStr,
)]
#[allow(missing_docs)] // `certmon explain` has a text for each
pub enum Finding {
    ExpiringSoon,
    ExpiryCritical,
    Expired,
    NotYetValid,
    HostnameMismatch,
    UntrustedIssuer,
    IncompleteChain,
    IntermediateExpiring,
    KeyMismatch,
    WeakCrypto,
    PlaceholderCertificate,
    ServedCertificateDiffers,
    InconsistentServers,
    Unreachable,
    NoAddress,
    SecretMissing,
    TargetNotPermitted,
    BadCertificateData,
    TooFewCertificates,
    LimitExceeded,
    LedgerOverflow,
}

/// What an alert is about: findings of one kind are levels of one alert.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, strum::Display, strum::EnumIter,
)]
#[allow(missing_docs)]
pub enum AlertKind {
    Expiry,
    NotYetValid,
    HostnameMismatch,
    UntrustedIssuer,
    IncompleteChain,
    IntermediateExpiring,
    KeyMismatch,
    WeakCrypto,
    PlaceholderCertificate,
    ServedCertificateDiffers,
    InconsistentServers,
    Reach,
    SecretMissing,
    TargetNotPermitted,
    BadCertificateData,
    TooFewCertificates,
    LimitExceeded,
    LedgerOverflow,
}

impl Finding {
    /// The alert that this finding is a level of.
    #[must_use]
    pub fn kind(self) -> AlertKind {
        match self {
            Self::ExpiringSoon | Self::ExpiryCritical | Self::Expired => AlertKind::Expiry,
            Self::NotYetValid => AlertKind::NotYetValid,
            Self::HostnameMismatch => AlertKind::HostnameMismatch,
            Self::UntrustedIssuer => AlertKind::UntrustedIssuer,
            Self::IncompleteChain => AlertKind::IncompleteChain,
            Self::IntermediateExpiring => AlertKind::IntermediateExpiring,
            Self::KeyMismatch => AlertKind::KeyMismatch,
            Self::WeakCrypto => AlertKind::WeakCrypto,
            Self::PlaceholderCertificate => AlertKind::PlaceholderCertificate,
            Self::ServedCertificateDiffers => AlertKind::ServedCertificateDiffers,
            Self::InconsistentServers => AlertKind::InconsistentServers,
            Self::Unreachable | Self::NoAddress => AlertKind::Reach,
            Self::SecretMissing => AlertKind::SecretMissing,
            Self::TargetNotPermitted => AlertKind::TargetNotPermitted,
            Self::BadCertificateData => AlertKind::BadCertificateData,
            Self::TooFewCertificates => AlertKind::TooFewCertificates,
            Self::LimitExceeded => AlertKind::LimitExceeded,
            Self::LedgerOverflow => AlertKind::LedgerOverflow,
        }
    }
}

/// One finding about one certificate at one place, true now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sighting {
    /// What is wrong.
    pub finding: Finding,
    /// How bad.
    pub severity: Severity,
    /// Where.
    pub place: Place,
    /// Which certificate there.
    pub role: Role,
    /// What a message says of it.
    pub facts: Facts,
    /// It stands in status at once, and is told only after the grace, and after the look that would close it.
    pub hold: Hold,
}

/// Whether a sighting is told at once; in the order of patience.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Hold {
    /// Told at once.
    No,
    /// Somebody's work in progress, most likely: told when it is still true after the grace of 10 min.
    Grace,
    /// As [`Self::Grace`], and only once a look made after the grace has confirmed it.
    GraceAndLook,
}

/// What a message or an Event says of a finding; all of it sanitised, all of it bounded.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Facts {
    /// The certificate's name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<PeerText>,
    /// Its issuer's name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub issuer: Option<PeerText>,
    /// Its serial number.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub serial: Option<PeerText>,
    /// Its SHA-256 fingerprint.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fingerprint: Option<crate::certificate::Fingerprint>,
    /// Its DNS names, at most 20.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub dns_names: Vec<PeerText>,
    /// Valid from.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub not_before: Option<DateTime<Utc>>,
    /// Valid until.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub not_after: Option<DateTime<Utc>>,
    /// The rest of the sentence that begins with the place: "expires 2026-11-27T02:15:38Z; critical threshold is 7d or
    /// 10% of lifetime". At most 700 characters.
    pub message: String,
}

impl Facts {
    /// Their key in a ledger.
    #[must_use]
    pub fn key(&self) -> ShortHash {
        // Serialising to memory can't fail for this type: no map with other keys than strings, no fallible field.
        ShortHash::of(&[&serde_json::to_vec(self).unwrap_or_default()])
    }
}

/// Worst first: severity, then the table's order, then notAfter, then place.
impl Sighting {
    /// The key to sort by; the smallest is the worst.
    #[must_use]
    pub fn order(&self) -> impl Ord + '_ {
        (
            std::cmp::Reverse(self.severity),
            self.finding.kind(),
            self.facts.not_after.unwrap_or(DateTime::<Utc>::MAX_UTC),
            &self.place,
            self.role,
        )
    }
}
