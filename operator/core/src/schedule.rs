//! When a dialled place is looked at next.

use crate::{dial::Dialled, hash::ShortHash};
use chrono::{DateTime, TimeDelta, Utc};
use std::time::Duration;

/// The first looks after trouble began.
const QUICK: [TimeDelta; 2] = [TimeDelta::seconds(30), TimeDelta::minutes(2)];

/// The longest pause while trouble lasts.
const TROUBLED: TimeDelta = TimeDelta::minutes(15);

/// The shortest pause near an expiry.
const SHORTEST: TimeDelta = TimeDelta::minutes(1);

/// The next look, never before `now`.
///
/// An unknown place, and one where a look was asked for, is looked at at once. Else there is a slot every `interval` (1 min – 168 h), at `phase` modulo the
/// interval, so that neither a restart nor an edit makes a herd; sooner after the last look where a leaf that still
/// runs has less than 20 intervals left, and, while something is there that a look can close, after 30 s, 2 min, then
/// every min(interval, 15 min); the first look after a start comes in such a slot of 15 min.
#[must_use]
pub fn next_look(
    dialled: &Dialled,
    interval: Duration,
    phase: ShortHash,
    earliest_not_after: Option<DateTime<Utc>>,
    now: DateTime<Utc>,
) -> DateTime<Utc> {
    let Some(last) = dialled.looked_at() else { return now };
    if dialled.due {
        return now;
    }
    let interval = TimeDelta::from_std(interval)
        .unwrap_or(TimeDelta::MAX)
        .clamp(SHORTEST, TimeDelta::hours(168));
    let mut next = slot(interval, phase, last);
    // An expired certificate is found renewed by the looks that its open alert brings.
    if let Some(remaining) = earliest_not_after
        .map(|end| end - last)
        .filter(|left| *left > TimeDelta::zero())
    {
        let pause = (remaining / 20).clamp(SHORTEST, interval);
        if pause < interval {
            next = next.min(last + pause);
        }
    }
    if let Some(pause) = dialled.quick_pause() {
        // What the last process knew of is not news: all of it at once would be a herd.
        let sooner = if dialled.looked {
            last + pause.min(interval)
        } else {
            slot(TROUBLED.min(interval), phase, last)
        };
        next = next.min(sooner);
    }
    next.max(now)
}

/// The first instant after `after` that is `phase` modulo `interval`.
fn slot(interval: TimeDelta, phase: ShortHash, after: DateTime<Utc>) -> DateTime<Utc> {
    let interval = interval.num_milliseconds().max(1);
    let phase = i64::try_from(phase.number() % interval.unsigned_abs()).unwrap_or(0);
    let since = (after.timestamp_millis() - phase).rem_euclid(interval);
    after + TimeDelta::milliseconds(interval - since)
}

impl Dialled {
    /// How soon a look comes because of what is open; `None` where nothing is.
    fn quick_pause(&self) -> Option<TimeDelta> {
        let done = usize::try_from(self.troubled.checked_sub(1)?).unwrap_or(usize::MAX);
        Some(QUICK.get(done).copied().unwrap_or(TROUBLED))
    }
}

#[cfg(test)]
mod tests;
