//! When time alone changes an assessment: what timers wait for.

use super::{
    DialledExpectation, StoredExpectation, assess_dialled, assess_stored,
    expiry::{SKEW, crossing},
    subject::Subject,
};
use crate::{
    dial::Dialled,
    finding::Sighting,
    observation::StoredValue,
    place::Place,
    policy::{Policy, Thresholds},
};
use chrono::{DateTime, TimeDelta, Utc};

/// The next instant at which [`assess_stored`] says something else though nothing else changes. `None` where it never
/// will. (The path's verdict is the caller's: anchors have [`crate::trust::Anchors::next_change`].)
#[must_use]
pub fn next_change_stored(
    value: &StoredValue,
    expected: &StoredExpectation,
    policy: &Policy,
    now: DateTime<Utc>,
) -> Option<DateTime<Utc>> {
    let leaf = value.content.leaf().map(|leaf| Subject::Parsed(leaf));
    let lifetime = leaf.map(Subject::lifetime);
    let certificates = value.content.certificates().chain(&value.anchors);
    let instants = certificates.flat_map(|one| instants(Subject::Parsed(one), lifetime, &policy.thresholds));
    first_change(instants.collect(), now, |now| {
        assess_stored(&Place::Monitor, value, expected, policy, now)
    })
}

/// As [`next_change_stored`], for [`assess_dialled`].
#[must_use]
pub fn next_change_dialled(
    dialled: &Dialled,
    expected: &DialledExpectation<'_>,
    policy: &Policy,
    now: DateTime<Utc>,
) -> Option<DateTime<Utc>> {
    let mut all = Vec::new();
    for (_, seen) in dialled.seen() {
        let (leaf, others) = Subject::of_seen(seen);
        for one in std::iter::once(leaf).chain(others) {
            all.extend(instants(one, Some(leaf.lifetime()), &policy.thresholds));
        }
    }
    first_change(all, now, |now| {
        assess_dialled(&Place::Monitor, dialled, expected, policy, now)
    })
}

/// Every instant at which something about a certificate may change, whether it is judged by its own lifetime or by its
/// leaf's.
fn instants(one: Subject<'_>, leaf: Option<TimeDelta>, thresholds: &Thresholds) -> Vec<DateTime<Utc>> {
    let limits = [&thresholds.warning, &thresholds.critical];
    let leaf = leaf.filter(|lifetime| *lifetime != one.lifetime());
    let crossings = [Some(one.lifetime()), leaf]
        .into_iter()
        .flatten()
        .flat_map(|lifetime| limits.map(|limit| crossing(limit, one.not_after(), lifetime)));
    crossings
        .chain([Some(one.not_after()), one.not_before().checked_sub_signed(SKEW)])
        .flatten()
        .collect()
}

/// The first of the instants after `now` at which the assessment differs from the present one.
fn first_change(
    mut instants: Vec<DateTime<Utc>>,
    now: DateTime<Utc>,
    assess: impl Fn(DateTime<Utc>) -> Vec<Sighting>,
) -> Option<DateTime<Utc>> {
    instants.retain(|instant| *instant > now);
    if instants.is_empty() {
        return None;
    }
    instants.sort_unstable();
    instants.dedup();
    let present = assess(now);
    instants.into_iter().find(|instant| assess(*instant) != present)
}
