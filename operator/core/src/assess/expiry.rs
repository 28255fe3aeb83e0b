//! Dates: expiry of leaves, members of sets, anchors and intermediates, and certificates from the future.

use super::{
    Case,
    subject::Subject,
    text::{at, limit, utc},
};
use crate::{
    certificate::{Certificate, Fingerprint},
    finding::{Finding, Hold, Severity},
    observation::{SetMember, StoredValue},
    place::Role,
    policy::{Intermediates, Limit, Thresholds},
};
use chrono::{DateTime, TimeDelta, Utc};
use std::collections::BTreeMap;

/// Clocks differ so much, and issuers that don't backdate are so early.
pub(super) const SKEW: TimeDelta = TimeDelta::minutes(5);

/// How far an expiry has come.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Level {
    Warning,
    Critical,
    Expired,
}

/// When a limit is crossed: the later of its two moments.
pub(super) fn crossing(limit: &Limit, not_after: DateTime<Utc>, lifetime: TimeDelta) -> Option<DateTime<Utc>> {
    let percent = |percent: u8| {
        let seconds =
            lifetime.num_seconds() / 100 * i64::from(percent) + lifetime.num_seconds() % 100 * i64::from(percent) / 100;
        TimeDelta::seconds(seconds)
    };
    let before = [limit.remaining, limit.remaining_percent.map(percent)];
    before
        .into_iter()
        .flatten()
        .map(|before| not_after.checked_sub_signed(before).unwrap_or(DateTime::<Utc>::MIN_UTC))
        .max()
}

fn level(thresholds: &Thresholds, not_after: DateTime<Utc>, lifetime: TimeDelta, now: DateTime<Utc>) -> Option<Level> {
    let crossed = |limit: &Limit| crossing(limit, not_after, lifetime).is_some_and(|instant| instant <= now);
    if not_after <= now {
        Some(Level::Expired)
    } else if crossed(&thresholds.critical) {
        Some(Level::Critical)
    } else if crossed(&thresholds.warning) {
        Some(Level::Warning)
    } else {
        None
    }
}

/// The rest of the sentence, from the verb on.
fn sentence(level: Level, thresholds: &Thresholds, not_after: DateTime<Utc>, at: &str) -> String {
    let end = utc(not_after);
    match level {
        Level::Warning => format!("expires {end}{at}; warning threshold is {}", limit(&thresholds.warning)),
        Level::Critical => format!(
            "expires {end}{at}; critical threshold is {}",
            limit(&thresholds.critical)
        ),
        Level::Expired => format!("expired {end}{at}"),
    }
}

fn finding(level: Level) -> (Finding, Severity) {
    match level {
        Level::Warning => (Finding::ExpiringSoon, Severity::Warning),
        Level::Critical => (Finding::ExpiryCritical, Severity::Critical),
        Level::Expired => (Finding::Expired, Severity::Critical),
    }
}

/// `ExpiringSoon`, `ExpiryCritical`, `Expired` of a leaf.
pub(super) fn leaf(case: &mut Case<'_>, leaf: Subject<'_>, address: Option<&str>) {
    one(case, leaf, Role::Leaf, "", address);
}

fn one(case: &mut Case<'_>, subject: Subject<'_>, role: Role, prefix: &str, address: Option<&str>) {
    let thresholds = case.policy.thresholds;
    if let Some(level) = level(&thresholds, subject.not_after(), subject.lifetime(), case.now) {
        let (finding, severity) = finding(level);
        let text = sentence(level, &thresholds, subject.not_after(), &at(address));
        let facts = subject.facts(format!("{prefix}{text}"));
        case.add(finding, severity, role, facts, Hold::No);
    }
}

/// `NotYetValid`, with a tolerance for clocks that differ.
pub(super) fn not_yet_valid(
    case: &mut Case<'_>,
    subject: Subject<'_>,
    role: Role,
    prefix: &str,
    cap: Option<Severity>,
) {
    let Some(severity) = case.policy.checks.not_yet_valid else {
        return;
    };
    // A notBefore that lies before all times is no reason to panic.
    let begins = subject.not_before().checked_sub_signed(SKEW);
    if begins.is_some_and(|begins| begins > case.now) {
        let facts = subject.facts(format!("{prefix}is not valid before {}", utc(subject.not_before())));
        let severity = cap.map_or(severity, |cap| severity.min(cap));
        case.add(Finding::NotYetValid, severity, role, facts, Hold::No);
    }
}

/// The members of a set: each by itself, but not one that a later one of its subject supersedes; of those with one
/// subject and key the longest-lived counts.
pub(super) fn members(case: &mut Case<'_>, members: &[SetMember]) {
    let standing = members.iter().filter(|member| !member.superseded);
    for certificate in longest_lived(standing.map(|member| Subject::Parsed(&member.certificate))) {
        let prefix = format!("certificate {} ", certificate.name());
        one(case, certificate, certificate.member_role(), &prefix, None);
        not_yet_valid(case, certificate, certificate.member_role(), &prefix, None);
    }
}

/// The anchors beside a TLS Secret's leaf: at most a warning, with percentages of the leaf's lifetime.
pub(super) fn anchors(case: &mut Case<'_>, value: &StoredValue) {
    let thresholds = case.policy.thresholds;
    let leaf = value.content.leaf();
    let later = |one: &Certificate| {
        let mut others = value.anchors.iter();
        others.any(|other| other.subject_id == one.subject_id && other.not_after > one.not_after)
    };
    let judged_elsewhere = |one: &Certificate| {
        let mut own = value.content.certificates();
        own.any(|own| own.fingerprint == one.fingerprint)
    };
    let standing = value.anchors.iter().filter(|one| !later(one) && !judged_elsewhere(one));
    for anchor in longest_lived(standing.map(|one| Subject::Parsed(one))) {
        let lifetime = leaf.map_or_else(|| anchor.lifetime(), |leaf| leaf.lifetime());
        let prefix = format!("CA certificate {} in ca.crt ", anchor.name());
        not_yet_valid(case, anchor, anchor.member_role(), &prefix, Some(Severity::Warning));
        let Some(level) = level(&thresholds, anchor.not_after(), lifetime, case.now) else {
            continue;
        };
        let (level, finding) = match level {
            Level::Warning | Level::Critical => (Level::Warning, Finding::ExpiringSoon),
            Level::Expired => (level, Finding::Expired),
        };
        let text = sentence(level, &thresholds, anchor.not_after(), "");
        let facts = anchor.facts(format!("{prefix}{text}"));
        case.add(finding, Severity::Warning, anchor.member_role(), facts, Hold::No);
    }
}

/// `IntermediateExpiring`: inside the leaf's thresholds, before the leaf itself, and needed.
pub(super) fn intermediates(
    case: &mut Case<'_>,
    leaf: Subject<'_>,
    intermediates: &[Subject<'_>],
    dispensable: &[Fingerprint],
) {
    let thresholds = case.policy.thresholds;
    let candidates = intermediates.iter().copied().filter(|one| !one.is_root());
    for one in longest_lived(candidates) {
        if one.not_after() >= leaf.not_after() || dispensable.contains(&one.fingerprint()) {
            continue;
        }
        let Some(level) = level(&thresholds, one.not_after(), leaf.lifetime(), case.now) else {
            continue;
        };
        let severity = match case.policy.checks.intermediates {
            Intermediates::AsLeaf => finding(level).1,
            Intermediates::Level(Some(severity)) => severity,
            Intermediates::Level(None) => continue,
        };
        let text = sentence(level, &thresholds, one.not_after(), "");
        let facts = one.facts(format!(
            "intermediate certificate {} {text}; the leaf lasts until {}",
            one.name(),
            utc(leaf.not_after())
        ));
        case.add(
            Finding::IntermediateExpiring,
            severity,
            one.member_role(),
            facts,
            Hold::No,
        );
    }
}

/// Of those with one subject and key, the one that lasts longest.
fn longest_lived<'a>(all: impl Iterator<Item = Subject<'a>>) -> impl Iterator<Item = Subject<'a>> {
    let mut longest: BTreeMap<_, Subject<'a>> = BTreeMap::new();
    for one in all {
        let slot = longest.entry(one.member()).or_insert(one);
        if slot.not_after() < one.not_after() {
            *slot = one;
        }
    }
    longest.into_values()
}
