//! Silences: what matches isn't told until they end.

use crate::{
    finding::{Facts, Finding},
    ledger::{Alert, Ledger},
    place::Place,
    policy::Silence,
};
use chrono::{DateTime, Utc};

/// Whether a running silence matches a finding at a place.
#[must_use]
pub fn is_silenced(silences: &[Silence], place: &Place, finding: Finding, facts: &Facts, now: DateTime<Utc>) -> bool {
    let _ = (silences, place, finding, facts, now);
    todo!()
}

/// [`is_silenced`] for alerts of a ledger, as [`crate::delivery::SinkContext::silenced`] wants it.
pub fn silenced_alert<'a>(
    ledger: &'a Ledger,
    silences: &'a [Silence],
    now: DateTime<Utc>,
) -> impl Fn(&Alert) -> bool + 'a {
    move |alert| {
        ledger
            .facts
            .get(&alert.facts)
            .is_some_and(|facts| is_silenced(silences, &alert.place, alert.finding, facts, now))
    }
}

/// When the next running silence ends.
#[must_use]
pub fn next_end(silences: &[Silence], now: DateTime<Utc>) -> Option<DateTime<Utc>> {
    silences
        .iter()
        .map(|silence| silence.until)
        .filter(|until| *until > now)
        .min()
}
