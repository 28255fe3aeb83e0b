//! What is wrong with a source or a monitor as a whole.

use super::Case;
use crate::{
    finding::{Facts, Finding, Hold, Severity, Sighting},
    place::{Place, Role},
    policy::Policy,
};
use chrono::{DateTime, Utc};

/// `TooFewCertificates`: fewer places of a source hold a certificate than its `minCertificates`.
#[must_use]
pub fn assess_too_few(
    source: &Place,
    holding: usize,
    wanted: usize,
    policy: &Policy,
    now: DateTime<Utc>,
) -> Vec<Sighting> {
    let noun = if wanted == 1 { "certificate" } else { "certificates" };
    let message = format!("has {holding} of at least {wanted} {noun}");
    when(
        holding < wanted,
        Finding::TooFewCertificates,
        source,
        message,
        Hold::Grace,
        policy,
        now,
    )
}

/// `LimitExceeded`: a monitor has more places than may be checked.
#[must_use]
pub fn assess_limit(
    monitor: &Place,
    places: usize,
    limit: usize,
    policy: &Policy,
    now: DateTime<Utc>,
) -> Vec<Sighting> {
    let left = places.saturating_sub(limit);
    let are = if left == 1 { "is" } else { "are" };
    let message = format!("watches {places} certificates, and {limit} may be checked: {left} {are} not");
    when(
        left > 0,
        Finding::LimitExceeded,
        monitor,
        message,
        Hold::No,
        policy,
        now,
    )
}

fn when(
    is_true: bool,
    finding: Finding,
    place: &Place,
    message: String,
    hold: Hold,
    policy: &Policy,
    now: DateTime<Utc>,
) -> Vec<Sighting> {
    let mut case = Case::new(place, policy, now);
    if is_true {
        let facts = Facts {
            message,
            ..Facts::default()
        };
        case.add(finding, Severity::Warning, Role::Leaf, facts, hold);
    }
    case.found()
}
