//! What is served where, and whether anybody answers.

use super::{
    Case,
    text::{at, some, utc},
};
use crate::{
    certificate::Certificate,
    dial::{Dialled, Seen},
    finding::{Facts, Finding, Hold, Severity},
    observation::StoredValue,
    place::Role,
    target::ProbeFailure,
};
use std::collections::{BTreeMap, BTreeSet};

/// The addresses serve different leaves: texts say which.
pub(super) fn differ(dialled: &Dialled) -> bool {
    let leaves: BTreeSet<_> = dialled
        .seen()
        .map(|(_, seen)| match seen {
            Seen::Served(one) => one.chain.leaf.fingerprint,
            Seen::Remembered(one) => one.leaf.fingerprint,
        })
        .collect();
    leaves.len() > 1
}

/// `ServedCertificateDiffers`.
pub(super) fn differs_from_secret(
    case: &mut Case<'_>,
    dialled: &Dialled,
    leaf: &Certificate,
    secret: Option<&StoredValue>,
    address: Option<&str>,
) {
    let Some(severity) = case.policy.checks.served else {
        return;
    };
    let Some(stored) = secret.and_then(|secret| secret.content.leaf()) else {
        return;
    };
    if leaf.fingerprint == stored.fingerprint || !dialled.differs_from(stored.fingerprint) {
        return;
    }
    let message = format!(
        "serves another certificate{} than its Secret holds: served is serial {}, valid until {}; stored is serial {}, \
         valid until {}",
        at(address),
        leaf.serial,
        utc(leaf.not_after),
        stored.serial,
        utc(stored.not_after)
    );
    case.add(
        Finding::ServedCertificateDiffers,
        severity,
        Role::Leaf,
        leaf.facts(message),
        Hold::GraceAndLook,
    );
}

/// `InconsistentServers`.
pub(super) fn inconsistent(case: &mut Case<'_>, dialled: &Dialled) {
    let Some(severity) = case.policy.checks.served else {
        return;
    };
    if !dialled.is_inconsistent() {
        return;
    }
    let mut first: Option<&Certificate> = None;
    let served = dialled.served().map(|(address, served)| {
        let leaf = &served.chain.leaf;
        if first.is_none_or(|first| leaf.not_after < first.not_after) {
            first = Some(leaf);
        }
        format!("{address} serial {} until {}", leaf.serial, utc(leaf.not_after))
    });
    let message = format!("serves different certificates on its addresses: {}", some(served));
    let facts = first.map_or_else(Facts::default, |leaf| leaf.facts(String::new()));
    case.add(
        Finding::InconsistentServers,
        severity,
        Role::Leaf,
        Facts { message, ..facts },
        Hold::GraceAndLook,
    );
}

/// `TargetNotPermitted`, in the same words whatever is behind the address, and whether or not it is one.
pub(super) fn not_permitted(case: &mut Case<'_>) {
    let facts = Facts {
        message: format!("is not dialled: {}", ProbeFailure::NotPermitted.text()),
        ..Facts::default()
    };
    case.add(
        Finding::TargetNotPermitted,
        Severity::Warning,
        Role::Leaf,
        facts,
        Hold::No,
    );
}

/// `Unreachable`, `NoAddress`, `TargetNotPermitted`.
pub(super) fn reach(case: &mut Case<'_>, dialled: &Dialled, from_object: bool) {
    if dialled.is_refused() && !from_object {
        not_permitted(case);
    }
    let Some(severity) = case.policy.checks.unreachable else {
        return;
    };
    let last = dialled.seen().min_by_key(|(_, seen)| match seen {
        Seen::Served(one) => one.chain.leaf.not_after,
        Seen::Remembered(one) => one.leaf.not_after,
    });
    let facts = last.map_or_else(Facts::default, |(_, seen)| match seen {
        Seen::Served(one) => one.chain.leaf.facts(String::new()),
        Seen::Remembered(one) => one.leaf.facts.clone(),
    });
    let seen_text = match facts.not_after {
        Some(end) if end <= case.now => format!("; last seen certificate expired {}", utc(end)),
        Some(end) => format!("; last seen certificate expires {}", utc(end)),
        None => "; no certificate was ever seen".to_owned(),
    };
    if let Some(cause) = dialled.no_address() {
        let message = if from_object {
            format!("has no address: neither its status nor DNS gives one{seen_text}")
        } else {
            format!("has no address: {}{seen_text}", cause.text())
        };
        case.add(
            Finding::NoAddress,
            severity,
            Role::Leaf,
            Facts { message, ..facts },
            Hold::GraceAndLook,
        );
        return;
    }
    let mut causes: BTreeMap<ProbeFailure, Vec<String>> = BTreeMap::new();
    let mut attempts = 0;
    for (what, cause, after) in dialled.down() {
        causes.entry(cause).or_default().push(what);
        attempts = attempts.max(after);
    }
    if causes.is_empty() {
        return;
    }
    let causes = causes
        .into_iter()
        .map(|(cause, what)| format!("{} ({})", cause.text(), some(what.into_iter())));
    let times = if attempts == 1 { "attempt" } else { "attempts" };
    let message = format!(
        "cannot be checked: {}; {attempts} {times} in a row{seen_text}",
        causes.collect::<Vec<_>>().join("; ")
    );
    let never = facts.not_after.is_none();
    let hold = if never { Hold::GraceAndLook } else { Hold::No };
    case.add(
        Finding::Unreachable,
        severity,
        Role::Leaf,
        Facts { message, ..facts },
        hold,
    );
}
