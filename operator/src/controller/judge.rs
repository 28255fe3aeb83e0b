//! From what is watched to what is found: hands each place to the domain's judgement, with the trust that it is judged by.

use super::{
    resolve::{Resolved, StoredBeside, Watched},
    spec::Parsed,
    status::{Leaf, PlaceReport},
    trust::{Paths, TrustBook, stored_path},
};
use certmon_core::{
    alert::Standing,
    assess::{
        self, DialledExpectation, StoredExpectation, assess_dialled, assess_ingress_secret, assess_limit,
        assess_missing_secret, assess_no_host, assess_stored, assess_too_few,
    },
    certificate::{Certificate, Fingerprint},
    dial::{DialProblem, Dialled, LookContext, Seen},
    finding::{AlertKind, Facts, Sighting},
    ledger::Ledger,
    observation::{Content, PathVerdict, StoredValue},
    place::{Place, Role},
    policy::Policy,
    target::Look,
    trust::{self, Anchors},
};
use chrono::{DateTime, Utc};
use std::{
    collections::{BTreeMap, BTreeSet},
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
};

/// What judging needs of the monitor's state.
pub struct Judging<'a> {
    /// Dialled places, over their looks.
    pub dialled: &'a BTreeMap<Place, Dialled>,
    /// Whom the monitor trusts.
    pub trust: &'a TrustBook,
    /// Verdicts that still hold.
    pub paths: &'a mut Paths,
}

/// What was found.
#[derive(Clone, Debug, Default)]
pub struct Judged {
    /// Everything that is wrong, worst first.
    pub sightings: Vec<Sighting>,
    /// Every place that counts.
    pub places: Vec<PlaceReport>,
    /// When time alone changes something.
    pub next_change: Option<DateTime<Utc>>,
    /// Places whose judging panicked: nothing is known of them, and what was stays.
    pub panicked: BTreeSet<Place>,
    /// Why less is dialled than could be, by place.
    pub less_dialled: BTreeMap<Place, DialProblem>,
    present: BTreeMap<Place, Present>,
    standings: BTreeMap<Place, Standing>,
    looked_at: BTreeSet<Place>,
}

#[derive(Clone, Debug)]
enum Present {
    Stored(Arc<StoredValue>),
    Served(Box<Dialled>),
}

impl Judged {
    /// What is known about a place in this round.
    #[must_use]
    pub fn standing(&self, place: &Place, resolved: &Resolved, now: DateTime<Utc>) -> Standing {
        match place {
            Place::Monitor if resolved.complete => Standing::Judged { looked_at: now },
            Place::Monitor => Standing::NotLooked,
            Place::Source { name } => match resolved.sources.iter().find(|source| *source.name == **name) {
                Some(source) if source.complete && self.settled(&source.places) => Standing::Judged { looked_at: now },
                Some(_) => Standing::NotLooked,
                None => Standing::Gone,
            },
            place if !resolved.places.contains_key(place) => {
                // What a limit leaves out is not gone.
                if resolved.complete && resolved.unchecked == 0 {
                    Standing::Gone
                } else {
                    Standing::NotLooked
                }
            }
            place => self.standings.get(place).copied().unwrap_or(Standing::NotLooked),
        }
    }

    /// The certificate that stands at a place in a role now.
    #[must_use]
    pub fn present(&self, place: &Place, role: Role) -> Option<Facts> {
        match self.present.get(place)? {
            Present::Stored(value) => assess::present_stored(value, role),
            Present::Served(dialled) => assess::present_dialled(dialled, role),
        }
    }

    fn settled(&self, places: &BTreeSet<Place>) -> bool {
        places
            .iter()
            .all(|place| self.looked_at.contains(place) || matches!(place, Place::Secret { .. }))
    }
}

/// Judges every place of a monitor, its sources and the monitor itself.
#[must_use]
pub fn judge(mut judging: Judging<'_>, parsed: &Parsed, resolved: &Resolved, now: DateTime<Utc>) -> Judged {
    let mut judged = Judged::default();
    for (place, watched) in &resolved.places {
        if contained(|| judged.place(&mut judging, place, watched, parsed, now)).is_none() {
            judged.sightings.retain(|sighting| sighting.place != *place);
            judged.unseen(place);
            judged.standings.remove(place);
            judged.panicked.insert(place.clone());
        }
    }
    judged.of_sources(resolved, &parsed.policy, now);
    judged.of_limits(resolved, &parsed.policy, now);
    judged.sightings.sort_by(|a, b| a.order().cmp(&b.order()));
    judged
}

/// Certificates are hostile: what a parser or a check of ours makes of one may be a panic, and is that one's trouble alone.
fn contained<T>(judge: impl FnOnce() -> T) -> Option<T> {
    catch_unwind(AssertUnwindSafe(judge)).ok()
}

impl Judged {
    fn place(
        &mut self,
        judging: &mut Judging<'_>,
        place: &Place,
        watched: &Watched,
        parsed: &Parsed,
        now: DateTime<Utc>,
    ) {
        match watched {
            Watched::Stored { value, with_anchors } => {
                let path = stored_path(judging.trust, judging.paths, place, value, now);
                if path.is_some() {
                    self.next(
                        judging
                            .trust
                            .anchors
                            .as_ref()
                            .and_then(|anchors| anchors.next_change(now)),
                    );
                }
                let (path, dispensable) = path.map_or((None, vec![]), |(path, dispensable)| (Some(path), dispensable));
                let expected = StoredExpectation {
                    named: true,
                    with_anchors: *with_anchors,
                    path,
                    dispensable,
                };
                self.stored(place, value, &expected, parsed, now);
            }
            Watched::Missing { missing, named_by } => {
                let found = assess_missing_secret(place, missing, named_by, &parsed.policy, now);
                self.without_certificate(place, found, now);
            }
            Watched::NoHost => self.without_certificate(place, assess_no_host(place, &parsed.policy, now), now),
            Watched::Served {
                target,
                server_name,
                secret,
                from_object,
                without_address: _,
            } => {
                let beside = match secret {
                    StoredBeside::Value(value) => Some(value),
                    StoredBeside::None | StoredBeside::Missing => None,
                };
                let expected = DialledExpectation {
                    server_name,
                    secret: beside.map(AsRef::as_ref),
                    from_object: *from_object,
                };
                match (target, judging.dialled.get(place)) {
                    (Some(_), Some(dialled)) => self.served(place, dialled, &expected, parsed, now),
                    (Some(_), None) => self.unseen(place),
                    (None, _) => self.undialled(place, &expected, beside, parsed, now),
                }
            }
        }
    }

    fn next(&mut self, at: Option<DateTime<Utc>>) {
        self.next_change = self.next_change.into_iter().chain(at).min();
    }

    fn counts(&mut self, place: &Place, leaf: Option<Leaf>, judged: bool) {
        self.places.push(PlaceReport {
            place: place.clone(),
            leaf,
            judged,
        });
    }

    fn stored(
        &mut self,
        place: &Place,
        value: &Arc<StoredValue>,
        expected: &StoredExpectation,
        parsed: &Parsed,
        now: DateTime<Utc>,
    ) {
        self.sightings
            .extend(assess_stored(place, value, expected, &parsed.policy, now));
        self.next(assess::next_change_stored(value, expected, &parsed.policy, now));
        let unjudged = expected.path == Some(PathVerdict::NotJudged);
        self.standings.insert(place.clone(), judged(now, unjudged, parsed));
        self.present.insert(place.clone(), Present::Stored(value.clone()));
        self.counts(place, value.content.leaf().map(|leaf| leaf_of(leaf)), true);
    }

    /// A place that should hold a certificate and can't.
    fn without_certificate(&mut self, place: &Place, found: Vec<Sighting>, now: DateTime<Utc>) {
        self.sightings.extend(found);
        self.standings
            .insert(place.clone(), Standing::Judged { looked_at: now });
        self.counts(place, None, true);
    }

    fn served(
        &mut self,
        place: &Place,
        dialled: &Dialled,
        expected: &DialledExpectation<'_>,
        parsed: &Parsed,
        now: DateTime<Utc>,
    ) {
        if dialled.is_unknown() {
            self.unseen(place);
            return;
        }
        self.sightings
            .extend(assess_dialled(place, dialled, expected, &parsed.policy, now));
        self.next(assess::next_change_dialled(dialled, expected, &parsed.policy, now));
        self.looked_at.insert(place.clone());
        self.present
            .insert(place.clone(), Present::Served(Box::new(dialled.clone())));
        if let Some(problem) = dialled.problems().next() {
            self.less_dialled.insert(place.clone(), problem);
        }
        let unjudged = dialled.served().any(|(_, one)| one.path == PathVerdict::NotJudged);
        let unanswered = |(looked_at, permitted)| Standing::Unanswered { looked_at, permitted };
        let answered = dialled.judged_at().map(|at| judged(at, unjudged, parsed));
        if let Some(standing) = answered.or_else(|| dialled.unanswered().map(unanswered)) {
            self.standings.insert(place.clone(), standing);
        }
        let first = dialled
            .seen()
            .map(|(_, seen)| seen)
            .min_by_key(|seen| leaf_of_seen(seen).not_after);
        let refused = dialled.problems().any(|problem| problem == DialProblem::NotPermitted);
        // A target of an object that the guard refuses is no place.
        if first.is_some() || !(refused && expected.from_object) {
            self.counts(place, first.map(leaf_of_seen), first.is_some());
        }
    }

    fn unseen(&mut self, place: &Place) {
        self.counts(place, None, false);
    }

    /// A host that is covered by a stored certificate, or not, and isn't dialled.
    fn undialled(
        &mut self,
        place: &Place,
        expected: &DialledExpectation<'_>,
        value: Option<&Arc<StoredValue>>,
        parsed: &Parsed,
        now: DateTime<Utc>,
    ) {
        let Some(value) = value else { return };
        self.sightings.extend(assess_ingress_secret(
            place,
            expected.server_name,
            value,
            &parsed.policy,
            now,
        ));
        self.standings
            .insert(place.clone(), Standing::Judged { looked_at: now });
        self.looked_at.insert(place.clone());
        self.present.insert(place.clone(), Present::Stored(value.clone()));
        // It is counted where it is stored.
        if value.content.leaf().is_some() {
            self.counts(place, value.content.leaf().map(|leaf| leaf_of(leaf)), true);
        }
    }

    fn of_sources(&mut self, resolved: &Resolved, policy: &Policy, now: DateTime<Utc>) {
        for source in &resolved.sources {
            let Some(least) = source.min_certificates else { continue };
            let holds = |place: &&Place| match resolved.places.get(*place) {
                Some(Watched::Stored { value, .. }) => value.content != Content::Nothing,
                Some(Watched::Served { .. }) => {
                    matches!(self.present.get(*place), Some(Present::Served(dialled)) if dialled.seen().next().is_some())
                }
                Some(Watched::Missing { .. } | Watched::NoHost) | None => false,
            };
            if !source.complete || !self.settled(&source.places) {
                continue;
            }
            let found = source.places.iter().filter(holds).count();
            let place = Place::Source {
                name: (&*source.name).into(),
            };
            self.sightings
                .extend(assess_too_few(&place, found, least as usize, policy, now));
        }
    }

    fn of_limits(&mut self, resolved: &Resolved, policy: &Policy, now: DateTime<Utc>) {
        let checked = resolved.places.len();
        let all = checked + resolved.unchecked as usize;
        self.sightings
            .extend(assess_limit(&Place::Monitor, all, checked, policy, now));
    }
}

/// A place that was looked at. Where a path is asked for and nobody can say whom to trust, what was known of it stays.
fn judged(looked_at: DateTime<Utc>, unjudged: bool, parsed: &Parsed) -> Standing {
    match unjudged && parsed.policy.checks.chain.is_some() {
        true => Standing::WithoutTrust { looked_at },
        false => Standing::Judged { looked_at },
    }
}

fn leaf_of(leaf: &Certificate) -> Leaf {
    Leaf {
        fingerprint: leaf.fingerprint,
        name: leaf.name.clone(),
        not_before: leaf.not_before,
        not_after: leaf.not_after,
    }
}

fn leaf_of_seen(seen: &Seen) -> Leaf {
    match seen {
        Seen::Served(served) => leaf_of(&served.chain.leaf),
        Seen::Remembered(remembered) => Leaf {
            fingerprint: remembered.leaf.fingerprint,
            name: remembered
                .leaf
                .facts
                .name
                .clone()
                .unwrap_or_else(|| certmon_core::text::PeerText::sanitise("")),
            not_before: remembered.leaf.not_before,
            not_after: remembered.leaf.not_after,
        },
    }
}

/// The leaf of the certificate that is stored beside a host.
#[must_use]
pub fn leaf_beside(secret: &StoredBeside) -> Option<Fingerprint> {
    match secret {
        StoredBeside::Value(value) => value.content.leaf().map(|leaf| leaf.fingerprint),
        StoredBeside::None | StoredBeside::Missing => None,
    }
}

/// What was last seen at a place is another leaf than the Secret holds now, and that isn't known yet.
#[must_use]
pub fn has_left_behind(place: &Place, dialled: &Dialled, stored: Fingerprint, ledger: &Ledger) -> bool {
    let known = ledger.alerts.values().any(|alert| {
        alert.place == *place && alert.ended.is_none() && alert.finding.kind() == AlertKind::ServedCertificateDiffers
    });
    !known && dialled.seen().any(|(_, seen)| leaf_of_seen(seen).fingerprint != stored)
}

/// Takes a look of a place in.
pub fn take_look(
    dialled: &mut Dialled,
    look: &Look,
    watched: &Watched,
    book: &TrustBook,
    parsed: &Parsed,
    system: &Arc<Anchors>,
    now: DateTime<Utc>,
) {
    let Watched::Served {
        secret, from_object, ..
    } = watched
    else {
        return;
    };
    let value = match secret {
        StoredBeside::Value(value) => Some(value),
        StoredBeside::None | StoredBeside::Missing => None,
    };
    let anchors = match (&book.anchors, value) {
        (Some(anchors), _) => anchors.clone(),
        (None, Some(value)) if !value.anchors.is_empty() => Arc::new(system.with(&value.anchors)),
        (None, _) => system.clone(),
    };
    let context = LookContext {
        from_object: *from_object,
        secret_leaf: value
            .and_then(|value| value.content.leaf())
            .map(|leaf| leaf.fingerprint),
        failure_threshold: parsed.policy.failure_threshold,
    };
    let known: Vec<Arc<Certificate>> = value
        .map(|value| value.content.certificates().cloned().collect())
        .unwrap_or_default();
    let unjudged = book.problem.is_some() || !book.complete;
    let mut judge = |chain: &_| {
        if unjudged {
            PathVerdict::NotJudged
        } else {
            trust::judge(chain, &anchors, &known, now)
        }
    };
    dialled.look(look, context, &mut judge, now);
}

/// Puts into the ledger what is remembered of dialled places.
pub fn remember(ledger: &mut Ledger, dialled: &BTreeMap<Place, Dialled>, complete: bool) {
    let mut seen = BTreeMap::new();
    let mut facts = Vec::new();
    for (place, dialled) in dialled {
        let mut intern = |fact: &Facts| {
            facts.push(fact.clone());
            Ledger::default().intern(fact)
        };
        let remembered = dialled.remember(&mut intern);
        if !remembered.is_empty() {
            seen.insert(place.to_string(), remembered);
        }
    }
    if !complete {
        // A source that can't be read now says nothing about what is gone.
        for (place, known) in &ledger.seen {
            seen.entry(place.clone()).or_insert_with(|| known.clone());
        }
    }
    ledger.seen = seen;
    for fact in &facts {
        ledger.intern(fact);
    }
    // What was seen has the room that alerts leave.
    ledger.fit();
}

/// A dialled place as the ledger remembers it.
#[must_use]
pub fn recall(place: &Place, ledger: &Ledger, now: DateTime<Utc>) -> Dialled {
    let of_place = |alert: &&certmon_core::ledger::Alert| alert.place == *place && alert.ended.is_none();
    let unreachable = ledger
        .alerts
        .values()
        .filter(of_place)
        .any(|alert| alert.finding.kind() == AlertKind::Reach);
    let empty = BTreeMap::new();
    let seen = ledger.seen.get(&place.to_string()).unwrap_or(&empty);
    Dialled::restore(seen, &ledger.facts, unreachable, now)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_is_contained() {
        assert_eq!(contained(|| 1), Some(1));
        let panics = || -> u8 { [1].get(1).copied().expect("a fault of ours") };
        assert_eq!(contained(panics), None);
    }
}
