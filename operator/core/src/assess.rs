//! From facts to findings: what is wrong with what was seen, by a monitor's policy, at an instant. A chain of named
//! checks, each in the file of its family; nothing else decides what is a finding.

mod change;
mod counts;
mod data;
mod expiry;
mod issuer;
mod names;
mod served;
mod subject;
mod text;

pub use change::{next_change_dialled, next_change_stored};
pub use counts::{assess_limit, assess_too_few};
pub use data::{MissingSecret, NamedBy, assess_missing_secret};
pub use names::{assess_ingress_secret, covers};
pub use text::utc;

use crate::{
    certificate::{Certificate, Fingerprint},
    dial::{Dialled, Seen},
    finding::{Facts, Finding, Hold, Severity, Sighting},
    observation::{Chain, Content, PathVerdict, StoredValue},
    place::{Host, Place, Role},
    policy::Policy,
};
use chrono::{DateTime, Utc};
use std::collections::BTreeMap;
use subject::Subject;

/// What is expected of a value of a Secret.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StoredExpectation {
    /// The monitor names the key, rather than searching by a pattern: a value that holds no certificate is a fault.
    pub named: bool,
    /// `ca.crt` is among the chosen keys: the anchors are judged.
    pub with_anchors: bool,
    /// Whether a path leads to the roots that the monitor trusts; `None` where it doesn't say whom.
    pub path: Option<PathVerdict>,
    /// Intermediates that such a path doesn't need ([`crate::trust::dispensable`]).
    pub dispensable: Vec<Fingerprint>,
}

/// What is expected of a dialled place.
#[derive(Clone, Copy, Debug)]
pub struct DialledExpectation<'a> {
    /// The name that must be covered: of an Ingress, its host, wildcard or not.
    pub server_name: &'a Host,
    /// The `tls.crt` of the Secret that should be served, where there is one.
    pub secret: Option<&'a StoredValue>,
    /// The target comes from an object: what the policy refuses is no finding.
    pub from_object: bool,
}

/// Judges a value of a Secret. Worst first; at most one sighting of a kind per role.
#[must_use]
pub fn assess_stored(
    place: &Place,
    value: &StoredValue,
    expected: &StoredExpectation,
    policy: &Policy,
    now: DateTime<Utc>,
) -> Vec<Sighting> {
    let mut case = Case::new(place, policy, now);
    data::faults(&mut case, value, expected);
    match &value.content {
        Content::Nothing => {}
        Content::Chain(chain) => {
            if data::is_placeholder(&mut case, Subject::Parsed(&chain.leaf), "holds", Hold::Grace) {
                return case.found();
            }
            leaf(&mut case, Subject::Parsed(&chain.leaf), None);
            let intermediates: Vec<Subject<'_>> = chain.intermediates.iter().map(|one| Subject::Parsed(one)).collect();
            expiry::intermediates(
                &mut case,
                Subject::Parsed(&chain.leaf),
                &intermediates,
                &expected.dispensable,
            );
            chain_checks(&mut case, chain, expected.path);
            data::key(&mut case, value, &chain.leaf);
        }
        Content::Set(members) => {
            expiry::members(&mut case, members);
            for member in members.iter().filter(|member| !member.superseded) {
                issuer::weak(&mut case, &member.certificate, member.certificate.member_role());
            }
        }
    }
    if expected.with_anchors {
        expiry::anchors(&mut case, value);
    }
    case.found()
}

/// Judges a dialled place: every address that was seen, and how it answers.
#[must_use]
pub fn assess_dialled(
    place: &Place,
    dialled: &Dialled,
    expected: &DialledExpectation<'_>,
    policy: &Policy,
    now: DateTime<Utc>,
) -> Vec<Sighting> {
    let mut case = Case::new(place, policy, now);
    let several = served::differ(dialled);
    for (address, seen) in dialled.seen() {
        let at = several.then(|| address.to_string());
        let at = at.as_deref();
        let (subject, intermediates) = Subject::of_seen(seen);
        if data::is_placeholder(&mut case, subject, "serves", Hold::GraceAndLook) {
            continue;
        }
        let Seen::Served(one) = seen else {
            leaf(&mut case, subject, at);
            expiry::intermediates(&mut case, subject, &intermediates, &[]);
            continue;
        };
        let chain = &one.chain;
        leaf(&mut case, subject, at);
        names::served(&mut case, &chain.leaf, expected.server_name, at);
        expiry::intermediates(&mut case, subject, &intermediates, &one.dispensable);
        chain_checks(&mut case, chain, Some(one.path));
        served::differs_from_secret(&mut case, dialled, &chain.leaf, expected.secret, at);
    }
    if let Some(secret) = expected.secret {
        names::stored(&mut case, secret, expected.server_name);
    }
    served::inconsistent(&mut case, dialled);
    served::reach(&mut case, dialled, expected.from_object);
    case.found()
}

/// Judges a place whose host is none ([`Place::NoHost`]): it is not dialled, as one that the guard refuses.
#[must_use]
pub fn assess_no_host(place: &Place, policy: &Policy, now: DateTime<Utc>) -> Vec<Sighting> {
    let mut case = Case::new(place, policy, now);
    served::not_permitted(&mut case);
    case.found()
}

/// The dates of a leaf.
fn leaf(case: &mut Case<'_>, leaf: Subject<'_>, at: Option<&str>) {
    expiry::leaf(case, leaf, at);
    expiry::not_yet_valid(case, leaf, Role::Leaf, "", None);
}

/// The issuer and the strength of a chain.
fn chain_checks(case: &mut Case<'_>, chain: &Chain, path: Option<PathVerdict>) {
    issuer::path(case, chain, path);
    issuer::weak(case, &chain.leaf, Role::Leaf);
    for one in &chain.intermediates {
        issuer::weak(case, one, one.member_role());
    }
    issuer::weak_path(case, chain, path);
}

/// What is said of the certificate that stands at a place in a role now, in a value: of several, of the one that ends
/// first.
#[must_use]
pub fn present_stored(value: &StoredValue, role: Role) -> Option<Facts> {
    let has_role = |one: &&Certificate| role == one.member_role();
    let all = value.content.certificates().chain(&value.anchors).map(AsRef::as_ref);
    let found = match role {
        Role::Leaf => value.content.leaf().map(AsRef::as_ref),
        Role::Member(_) => all.filter(has_role).max_by_key(|one| one.not_after),
    };
    found.map(|one| one.facts(String::new()))
}

/// As [`present_stored`], of what is served.
#[must_use]
pub fn present_dialled(dialled: &Dialled, role: Role) -> Option<Facts> {
    let mut all: Vec<Subject<'_>> = Vec::new();
    for (_, seen) in dialled.seen() {
        let (leaf, intermediates) = Subject::of_seen(seen);
        match role {
            Role::Leaf => all.push(leaf),
            Role::Member(_) => all.extend(intermediates.into_iter().filter(|one| one.member_role() == role)),
        }
    }
    let first = all.into_iter().min_by_key(|one| one.not_after());
    first.map(|one| one.facts(String::new()))
}

/// What is being judged, and what was found so far.
struct Case<'a> {
    place: &'a Place,
    policy: &'a Policy,
    now: DateTime<Utc>,
    sightings: Vec<Sighting>,
}

impl<'a> Case<'a> {
    fn new(place: &'a Place, policy: &'a Policy, now: DateTime<Utc>) -> Self {
        Self {
            place,
            policy,
            now,
            sightings: Vec::new(),
        }
    }

    fn add(&mut self, finding: Finding, severity: Severity, role: Role, facts: Facts, hold: Hold) {
        self.sightings.push(Sighting {
            finding,
            severity,
            place: self.place.clone(),
            role,
            facts: Facts {
                message: text::bounded(facts.message),
                ..facts
            },
            hold,
        });
    }

    /// The worst of each kind and role, worst first.
    fn found(self) -> Vec<Sighting> {
        let mut worst: BTreeMap<_, Sighting> = BTreeMap::new();
        for one in self.sightings {
            match worst.entry((one.finding.kind(), one.role)) {
                std::collections::btree_map::Entry::Vacant(slot) => {
                    slot.insert(one);
                }
                std::collections::btree_map::Entry::Occupied(mut slot) => {
                    if one.order() < slot.get().order() {
                        slot.insert(one);
                    }
                }
            }
        }
        let mut all: Vec<Sighting> = worst.into_values().collect();
        all.sort_by(|one, other| one.order().cmp(&other.order()));
        all
    }
}

#[cfg(test)]
mod tests;
