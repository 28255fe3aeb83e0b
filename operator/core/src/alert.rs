//! From findings to alerts: what opens, gets worse, gets better and ends.

use crate::{
    finding::{Facts, Finding, Severity, Sighting},
    hash::ShortHash,
    ledger::Ledger,
    place::{Place, Role},
};
use chrono::{DateTime, TimeDelta, Utc};
use std::collections::{BTreeMap, BTreeSet};

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
    /// It wasn't looked at since the start, or its last look failed: sightings count, their absence doesn't.
    NotLooked,
    /// It isn't the monitor's any more: what is open there ends.
    Gone,
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
#[must_use]
pub fn step(ledger: &Ledger, held: &Held, input: &StepInput<'_>, now: DateTime<Utc>) -> Step {
    let _ = (ledger, held, input, now);
    todo!()
}
