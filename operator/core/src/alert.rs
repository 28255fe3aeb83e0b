//! From findings to alerts: what opens, gets worse, gets better and ends.

mod words;

use crate::{
    certificate::Fingerprint,
    finding::{AlertKind, Facts, Finding, Hold, Severity, Sighting},
    hash::ShortHash,
    ledger::{Alert, Ended, Ledger, Said, alert_id},
    message::{ResolvedAs, sentence},
    place::{Place, Role},
};
use chrono::{DateTime, TimeDelta, Utc};
use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet},
};
use words::{is_by_policy, renewal, resolution};

/// How long a held finding must last before it is told.
pub const GRACE: TimeDelta = TimeDelta::minutes(10);

/// What is known about a place in this round.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It was looked at: what isn't among the sightings isn't true any more.
    Judged {
        /// When the last look at it ended; for what is watched (a Secret), `now`.
        looked_at: DateTime<Utc>,
    },
    /// As [`Self::Judged`], but nobody can say now whom to trust: that no issuer is found wanting says nothing.
    WithoutTrust {
        /// As above.
        looked_at: DateTime<Utc>,
    },
    /// Its last look failed: sightings count, their absence doesn't. That it can't be reached is confirmed by it.
    Unanswered {
        /// When it ended.
        looked_at: DateTime<Utc>,
        /// It dialled, and the policy refused nothing: that isn't true any more.
        permitted: bool,
    },
    /// It wasn't looked at since the start: sightings count, their absence doesn't.
    NotLooked,
    /// It isn't the monitor's any more: what is open there ends.
    Gone,
}

impl Standing {
    fn looked_at(self) -> Option<DateTime<Utc>> {
        match self {
            Self::Judged { looked_at } | Self::WithoutTrust { looked_at } | Self::Unanswered { looked_at, .. } => {
                Some(looked_at)
            }
            Self::NotLooked | Self::Gone => None,
        }
    }
}

/// One round's input.
#[derive(Clone, Copy)]
pub struct StepInput<'a> {
    /// The monitor's namespace.
    pub namespace: &'a str,
    /// The monitor's name.
    pub monitor: &'a str,
    /// All that is true now, silenced or not, in any order.
    pub sightings: &'a [Sighting],
    /// What is known about a place.
    pub standing: &'a dyn Fn(&Place) -> Standing,
    /// The certificate that stands at a place in a role now (of several, the one that ends first); it tells a renewal
    /// from another end. Only asked where something ends.
    pub present: &'a dyn Fn(&Place, Role) -> Option<Facts>,
    /// Thresholds, checks or trust differ from those of the last round; after a start: the monitor's generation isn't
    /// the one that was observed.
    pub policy_changed: bool,
}

/// Findings in their grace. They live in memory only: a restart begins the grace anew.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Held {
    first_seen: BTreeMap<ShortHash, DateTime<Utc>>,
}

impl Held {
    /// When a held finding was first seen, by its alert's id.
    #[must_use]
    pub fn since(&self, alert: ShortHash) -> Option<DateTime<Utc>> {
        self.first_seen.get(&alert).copied()
    }
}

/// What changed about an alert.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Change {
    /// An episode begins.
    Opened,
    /// It got worse (a higher severity, or `Expired` after `ExpiryCritical`).
    Raised,
    /// It got better and isn't fine yet.
    Lowered,
    /// It ended because another certificate is there.
    Renewed,
    /// It ended otherwise.
    Resolved,
}

/// A change of one alert: what an Event needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transition {
    /// The alert.
    pub alert: ShortHash,
    /// What changed.
    pub change: Change,
    /// The finding now; of what ended, the last one.
    pub finding: Finding,
    /// The severity now; of what ended, the last one.
    pub severity: Severity,
    /// Where.
    pub place: Place,
    /// Which certificate there.
    pub role: Role,
    /// What is said of the certificate (what a silence matches).
    pub facts: Facts,
    /// The whole sentence, beginning with the place's title.
    pub message: String,
}

/// What a round comes to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// The ledger now; equal to the input's where nothing has to be written.
    pub ledger: Ledger,
    /// What waits for its grace.
    pub held: Held,
    /// What changed, worst first.
    pub transitions: Vec<Transition>,
    /// When a grace ends: step again then.
    pub next: Option<DateTime<Utc>>,
    /// Places whose held finding has outlasted its grace and waits for a look made after it.
    pub looks: BTreeSet<Place>,
    /// More is open than the ledger holds: this finding stands in status too.
    pub overflow: Option<Sighting>,
}

/// Takes what is true now and says what changed. The same input at the same `now` again changes nothing.
///
/// A level falls, and an expiry ends, only with another certificate or another policy: with the same ones the clock
/// went back, and the alert stays.
#[must_use]
pub fn step(ledger: &Ledger, held: &Held, input: &StepInput<'_>, now: DateTime<Utc>) -> Step {
    let mut round = Round {
        input,
        now: whole_seconds(now),
        ledger: ledger.clone(),
        held: Held::default(),
        transitions: Vec::new(),
        next: None,
        looks: BTreeSet::new(),
    };
    let worst = worst_by_alert(input);
    for (id, (sighting, hold)) in &worst {
        match round
            .ledger
            .alerts
            .get(id)
            .filter(|alert| alert.ended.is_none())
            .cloned()
        {
            Some(alert) => round.go_on(*id, alert, sighting),
            None => round.begin(*id, sighting, *hold, held.since(*id)),
        }
    }
    let absent: Vec<_> = round
        .ledger
        .alerts
        .iter()
        .map(|(id, alert)| (*id, alert.clone()))
        .collect();
    for (id, alert) in absent {
        if alert.ended.is_none() && !worst.contains_key(&id) && alert.finding != Finding::LedgerOverflow {
            round.end_if_untrue(id, alert);
        }
    }
    round.ledger.forget_the_heard();
    let overflow = round.fit();
    round.finish(overflow)
}

/// An instant as the ledger holds it.
pub(crate) fn whole_seconds(now: DateTime<Utc>) -> DateTime<Utc> {
    DateTime::from_timestamp(now.timestamp(), 0).unwrap_or(now)
}

/// Per alert the worst of its sightings, and the least that any of them asks to be held: several certificates at one
/// place in one role are one alert.
fn worst_by_alert<'a>(input: &StepInput<'a>) -> BTreeMap<ShortHash, (&'a Sighting, Hold)> {
    let mut worst: BTreeMap<ShortHash, (&Sighting, Hold)> = BTreeMap::new();
    for sighting in input.sightings {
        let id = alert_id(
            input.namespace,
            input.monitor,
            &sighting.place,
            sighting.role,
            sighting.finding.kind(),
        );
        let (present, hold) = worst.entry(id).or_insert((sighting, sighting.hold));
        let order = |of: &Sighting| (Reverse(Said::of(of.finding, of.severity)), of.facts.key());
        if (sighting.order(), order(sighting)) < (present.order(), order(present)) {
            *present = sighting;
        }
        *hold = (*hold).min(sighting.hold);
    }
    worst
}

/// One round while it runs.
struct Round<'a, 'b> {
    input: &'a StepInput<'b>,
    now: DateTime<Utc>,
    ledger: Ledger,
    held: Held,
    transitions: Vec<Transition>,
    next: Option<DateTime<Utc>>,
    looks: BTreeSet<Place>,
}

impl Round<'_, '_> {
    /// An alert that isn't open was sighted.
    fn begin(&mut self, id: ShortHash, sighting: &Sighting, hold: Hold, seen: Option<DateTime<Utc>>) {
        // A clock that went back makes a grace longer, never shorter.
        let first = seen.map_or(self.now, |seen| seen.min(self.now));
        let due = first.checked_add_signed(GRACE).unwrap_or(DateTime::<Utc>::MAX_UTC);
        let in_grace = hold != Hold::No && self.now < due;
        let standing = (self.input.standing)(&sighting.place);
        let looked = standing.looked_at().is_some_and(|at| at >= due);
        let failed = matches!(standing, Standing::Unanswered { .. });
        let confirmed = looked && (!failed || sighting.finding.kind() == AlertKind::Reach);
        let unconfirmed = hold == Hold::GraceAndLook && !confirmed;
        if in_grace {
            self.next = Some(self.next.map_or(due, |next| next.min(due)));
        } else if unconfirmed && !looked {
            // Once: a look that failed is followed by the next in its turn.
            self.looks.insert(sighting.place.clone());
        }
        if in_grace || unconfirmed {
            self.held.first_seen.insert(id, first);
            return;
        }
        let alert = Alert {
            place: sighting.place.clone(),
            role: sighting.role,
            finding: sighting.finding,
            severity: sighting.severity,
            since: if hold == Hold::No { self.now } else { first },
            raised: None,
            facts: self.ledger.intern(&sighting.facts),
            ended: None,
        };
        self.say(id, Change::Opened, &alert, &sighting.facts.message);
        self.ledger.alerts.insert(id, alert);
    }

    /// An open alert was sighted again.
    fn go_on(&mut self, id: ShortHash, mut alert: Alert, sighting: &Sighting) {
        let was = Said::of(alert.finding, alert.severity);
        let is = Said::of(sighting.finding, sighting.severity);
        let fingerprint = sighting.facts.fingerprint;
        if is < was && self.is_clock_gone_back(&alert, fingerprint.is_some_and(|now| Some(now) == self.of(&alert))) {
            return;
        }
        alert.finding = sighting.finding;
        alert.severity = sighting.severity;
        alert.facts = self.ledger.intern(&sighting.facts);
        if is != was {
            alert.raised = Some(self.now);
            let change = if is > was { Change::Raised } else { Change::Lowered };
            self.say(id, change, &alert, &sighting.facts.message);
        }
        self.ledger.alerts.insert(id, alert);
    }

    /// An open alert was not sighted.
    fn end_if_untrue(&mut self, id: ShortHash, alert: Alert) {
        let (as_, message) = match (self.input.standing)(&alert.place) {
            Standing::NotLooked => return,
            Standing::Unanswered { permitted, .. } => {
                if !permitted || alert.finding.kind() != AlertKind::TargetNotPermitted {
                    return;
                }
                (ResolvedAs::Resolved, resolution(alert.finding))
            }
            Standing::WithoutTrust { .. } if is_of_issuers(alert.finding.kind()) => return,
            Standing::Gone => (ResolvedAs::NoLongerMonitored, "is no longer monitored".to_owned()),
            Standing::Judged { .. } | Standing::WithoutTrust { .. } => {
                let present = (self.input.present)(&alert.place, alert.role);
                let fingerprint = present.as_ref().and_then(|facts| facts.fingerprint);
                let same = fingerprint.is_some() && fingerprint == self.of(&alert);
                if self.is_clock_gone_back(&alert, same) {
                    return;
                }
                if present.is_none() && is_of_certificate(alert.finding.kind()) && self.of(&alert).is_some() {
                    let gone = "holds no certificate any more".to_owned();
                    return self.end(id, alert, ResolvedAs::NoLongerMonitored, gone);
                }
                let renewed = present.filter(|_| !same && fingerprint.is_some() && self.of(&alert).is_some());
                self.how_it_ended(&alert, renewed.as_ref(), same)
            }
        };
        self.end(id, alert, as_, message);
    }

    fn end(&mut self, id: ShortHash, mut alert: Alert, as_: ResolvedAs, message: String) {
        let change = if as_ == ResolvedAs::Renewed {
            Change::Renewed
        } else {
            Change::Resolved
        };
        self.say(id, change, &alert, &message);
        alert.ended = Some(Ended {
            at: self.now,
            as_,
            message,
        });
        self.ledger.alerts.insert(id, alert);
    }

    /// The levels of an expiry only rise while certificate and policy stay, so that a fall before the instant at which
    /// the level was entered is the clock's doing. (A fall after it is a policy's that changed while nobody watched.)
    fn is_clock_gone_back(&self, alert: &Alert, same_certificate: bool) -> bool {
        let by_time = matches!(
            alert.finding.kind(),
            AlertKind::Expiry | AlertKind::IntermediateExpiring
        );
        let not_after = self.ledger.facts.get(&alert.facts).and_then(|facts| facts.not_after);
        let unexpired = alert.finding == Finding::Expired && not_after.is_some_and(|end| self.now < end);
        let before_level = self.now < alert.raised.unwrap_or(alert.since);
        by_time && same_certificate && (unexpired || before_level && !self.input.policy_changed)
    }

    fn how_it_ended(&self, alert: &Alert, renewed: Option<&Facts>, same: bool) -> (ResolvedAs, String) {
        if let Some(new) = renewed.filter(|_| is_of_certificate(alert.finding.kind())) {
            let old = self
                .ledger
                .facts
                .get(&alert.facts)
                .and_then(|facts| facts.serial.as_ref());
            return (ResolvedAs::Renewed, renewal(old, new));
        }
        // With the same certificate and a clock that goes on, only another threshold can end an expiry.
        let thresholds = alert.finding.kind() == AlertKind::Expiry && alert.role == Role::Leaf && same;
        if (self.input.policy_changed && is_by_policy(alert.finding.kind())) || thresholds {
            let message = format!(
                "{} no longer applies: the monitor's thresholds, checks or trust changed",
                alert.finding
            );
            return (ResolvedAs::PolicyChanged, message);
        }
        (ResolvedAs::Resolved, resolution(alert.finding))
    }

    /// The fingerprint that an alert is about.
    fn of(&self, alert: &Alert) -> Option<Fingerprint> {
        self.ledger.facts.get(&alert.facts).and_then(|facts| facts.fingerprint)
    }

    fn say(&mut self, id: ShortHash, change: Change, alert: &Alert, rest: &str) {
        let facts = self.ledger.facts.get(&alert.facts).cloned().unwrap_or_default();
        self.transitions.push(Transition {
            alert: id,
            change,
            finding: alert.finding,
            severity: alert.severity,
            place: alert.place.clone(),
            role: alert.role,
            message: sentence(&alert.place, &facts, rest),
            facts,
        });
    }

    /// Leaves out what the ledger can't hold, and says so by an alert of its own.
    fn fit(&mut self) -> Option<Sighting> {
        let left_out = self.ledger.fit();
        let input = self.input;
        let id = alert_id(
            input.namespace,
            input.monitor,
            &Place::Monitor,
            Role::Leaf,
            AlertKind::LedgerOverflow,
        );
        let open = self
            .ledger
            .alerts
            .get(&id)
            .filter(|alert| alert.ended.is_none())
            .cloned();
        let sighting = (left_out > 0).then(|| Sighting {
            finding: Finding::LedgerOverflow,
            severity: Severity::Warning,
            place: Place::Monitor,
            role: Role::Leaf,
            facts: Facts {
                message: "has more open findings than its ledger holds (1 MiB): the least severe are in status and                           metrics only, and are not told"
                    .to_owned(),
                ..Facts::default()
            },
            hold: Hold::No,
        });
        match (&sighting, open) {
            (Some(sighting), None) => self.begin(id, sighting, Hold::No, None),
            (None, Some(mut alert)) => {
                let message = resolution(alert.finding);
                self.say(id, Change::Resolved, &alert, &message);
                alert.ended = Some(Ended {
                    at: self.now,
                    as_: ResolvedAs::Resolved,
                    message,
                });
                self.ledger.alerts.insert(id, alert);
                self.ledger.forget_the_heard();
            }
            (Some(_), Some(_)) | (None, None) => {}
        }
        sighting
    }

    fn finish(self, overflow: Option<Sighting>) -> Step {
        let Self {
            ledger,
            held,
            mut transitions,
            next,
            looks,
            ..
        } = self;
        // What was left out will be sighted again in every round.
        transitions.retain(|transition| {
            matches!(transition.change, Change::Renewed | Change::Resolved)
                || ledger.alerts.contains_key(&transition.alert)
        });
        transitions.sort_by(|a, b| a.order().cmp(&b.order()));
        Step {
            ledger,
            held,
            transitions,
            next,
            looks,
            overflow,
        }
    }
}

impl Transition {
    fn order(&self) -> impl Ord + '_ {
        (
            Reverse(self.severity),
            self.finding.kind(),
            self.facts.not_after.unwrap_or(DateTime::<Utc>::MAX_UTC),
            &self.place,
            self.role,
        )
    }
}

/// Whether an alert is about a path to whom the monitor trusts.
fn is_of_issuers(kind: AlertKind) -> bool {
    matches!(kind, AlertKind::UntrustedIssuer | AlertKind::IncompleteChain)
}

/// Whether another certificate ends an alert by itself: what is about reaching a place, or about the data there, isn't
/// renewed.
fn is_of_certificate(kind: AlertKind) -> bool {
    match kind {
        AlertKind::Expiry
        | AlertKind::NotYetValid
        | AlertKind::HostnameMismatch
        | AlertKind::UntrustedIssuer
        | AlertKind::IncompleteChain
        | AlertKind::IntermediateExpiring
        | AlertKind::KeyMismatch
        | AlertKind::WeakCrypto
        | AlertKind::PlaceholderCertificate => true,
        AlertKind::ServedCertificateDiffers
        | AlertKind::InconsistentServers
        | AlertKind::Reach
        | AlertKind::SecretMissing
        | AlertKind::TargetNotPermitted
        | AlertKind::BadCertificateData
        | AlertKind::TooFewCertificates
        | AlertKind::LimitExceeded
        | AlertKind::LedgerOverflow => false,
    }
}

#[cfg(test)]
mod tests;
