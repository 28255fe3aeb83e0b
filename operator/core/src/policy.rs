//! What a monitor asks for, parsed: thresholds, checks, silences, sinks' manners.

use crate::{
    finding::{Finding, Severity},
    silence::NameGlob,
};
use chrono::{DateTime, TimeDelta, Utc};

/// When an expiry is worth a level: the later of the limits that are set. At least one is set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limit {
    /// So long before notAfter.
    pub remaining: Option<TimeDelta>,
    /// So much of the lifetime before notAfter, 1–99.
    pub remaining_percent: Option<u8>,
}

/// When an expiry becomes a warning, and when critical. Expired is always critical.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Thresholds {
    /// First level.
    pub warning: Limit,
    /// Second level.
    pub critical: Limit,
}

impl Default for Thresholds {
    fn default() -> Self {
        Self {
            warning: Limit {
                remaining: Some(TimeDelta::days(21)),
                remaining_percent: Some(25),
            },
            critical: Limit {
                remaining: Some(TimeDelta::days(7)),
                remaining_percent: Some(10),
            },
        }
    }
}

/// The level of a check: `None` ignores it.
pub type Level = Option<Severity>;

/// The level of each check.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs)] // the names of the API's `checks` keys, explained there
pub struct Checks {
    pub not_yet_valid: Level,
    pub hostname: Level,
    pub chain: Level,
    pub intermediates: Intermediates,
    pub key_match: Level,
    pub weak_crypto: Level,
    pub placeholder: Level,
    pub served: Level,
    pub unreachable: Level,
    pub secret_missing: Level,
    pub parse: Level,
}

impl Default for Checks {
    fn default() -> Self {
        let warning = Some(Severity::Warning);
        Self {
            not_yet_valid: warning,
            hostname: Some(Severity::Critical),
            chain: warning,
            intermediates: Intermediates::AsLeaf,
            key_match: None,
            weak_crypto: warning,
            placeholder: warning,
            served: warning,
            unreachable: warning,
            secret_missing: warning,
            parse: warning,
        }
    }
}

/// How an expiring intermediate is levelled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Intermediates {
    /// Rises as the leaf's expiry does.
    AsLeaf,
    /// Always this level, or ignored.
    Level(Level),
}

/// A silence: what matches is not told and not counted as a reason for `Healthy=False` until it ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Silence {
    /// Its name in the spec.
    pub name: Box<str>,
    /// Globs (`*`, `?`) over the object's name, `Kind/name`, the host and each SAN; empty matches all.
    pub certificates: Vec<NameGlob>,
    /// Findings; empty matches all. An expiry name silences that level, not the next.
    pub findings: Vec<Finding>,
    /// When it ends.
    pub until: DateTime<Utc>,
}

/// How a sink wants to be told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SinkManners {
    /// The sink's name in the spec.
    pub name: Box<str>,
    /// What is below isn't told.
    pub min_severity: Severity,
    /// Whether the end of an alert is told.
    pub send_resolved: bool,
    /// Reminder while the worst open alert is a warning; `None` = never.
    pub repeat_warning: Option<TimeDelta>,
    /// Reminder while the worst open alert is critical; `None` = never.
    pub repeat_critical: Option<TimeDelta>,
    /// The longest that one attempt takes; an intent's claim lasts this + 5 s.
    pub longest_attempt: TimeDelta,
}

/// What a monitor's places are judged by.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Policy {
    /// Expiry levels.
    pub thresholds: Thresholds,
    /// Levels of the other checks.
    pub checks: Checks,
    /// Silences, as written.
    pub silences: Vec<Silence>,
    /// The monitor says whom it trusts, so that stored chains are judged too.
    pub trust_is_set: bool,
    /// Failures in a row until `Unreachable` opens; 1–10.
    pub failure_threshold: FailureThreshold,
}

/// Failures in a row until `Unreachable` opens; 1–10, 3 by default.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FailureThreshold(pub u8);

impl Default for FailureThreshold {
    fn default() -> Self {
        Self(3)
    }
}
