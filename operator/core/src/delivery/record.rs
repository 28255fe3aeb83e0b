//! What an attempt leaves in the ledger, and when the next one may be made.

use super::{Failure, FailureClass, Outcome, Rung, later};
use crate::{
    alert::whole_seconds,
    ledger::{Intent, Retry, SinkLedger},
};
use chrono::{DateTime, TimeDelta, Utc};
use std::{collections::BTreeMap, time::Duration};
use strum::IntoEnumIterator;

/// The longest pause that a server may ask for, and the longest that anything waits.
pub(super) const LONGEST_WAIT: TimeDelta = TimeDelta::hours(6);
/// The first bound of the jitter after a passing failure, doubled from one to the next.
const FIRST_SECONDS: u64 = 10;
/// Its last bound.
const LAST_SECONDS: u64 = 15 * 60;
/// The first pause after what somebody may mend elsewhere, doubled from one to the next.
const FIRST_SLOW: TimeDelta = TimeDelta::minutes(5);
/// Its last; also for what a change mends, in case that the change isn't seen.
const LAST_SLOW: TimeDelta = TimeDelta::hours(1);

/// The sink's part of the ledger after an attempt; `jitter` is any number, another one each time. Where another intent
/// or none stands there by now, nothing changes.
///
/// A clear failure of an intent that can't have arrived clears it: what goes out later is the truth of then. One that
/// may have arrived (an ambiguous outcome, a process that died) stays, and goes out as it is until it is accepted.
#[must_use]
pub fn record(sink: &SinkLedger, intent: &Intent, outcome: &Outcome, jitter: u64, now: DateTime<Utc>) -> SinkLedger {
    let exactly = now;
    let now = whole_seconds(now);
    let mut after = sink.clone();
    let Some(stored) = after.intent.take_if(|stored| stored.id == intent.id) else {
        return after;
    };
    match (outcome, stored.token) {
        (Outcome::Delivered { .. }, Some(token)) => {
            after.tested = Some(token);
            // It works again: what waits needn't.
            if let Some(retry) = &mut after.retry {
                retry.at = now;
            }
        }
        // Tried once, whatever came of it.
        (Outcome::Failed(_), Some(token)) => after.tested = Some(token),
        (Outcome::Delivered { thread, .. }, None) => {
            // A new stretch of not being fine begins a new thread.
            after.thread = if stored.told.is_empty() {
                BTreeMap::new()
            } else {
                bounded(thread)
            };
            after.told = stored.told;
            after.last_sent = Some(now);
            after.retry = None;
        }
        (Outcome::Failed(failure), None) => {
            after.retry = Some(retry(sink.retry.as_ref(), stored.rung, *failure, jitter, now));
            if let (Some(retry), Some(asked)) = (&mut after.retry, failure.retry_after) {
                // Whole seconds are written; the pause that was asked for is not cut short by that.
                retry.at = retry.at.max(asked_until(exactly, asked));
            }
            let ambiguous = failure.class == FailureClass::Ambiguous;
            // What is too large now was too large before.
            let may_have_arrived = ambiguous || stored.attempt > 0 && failure.class != FailureClass::PayloadRejected;
            if may_have_arrived {
                after.intent = Some(Intent {
                    attempt: stored.attempt.saturating_add(u32::from(ambiguous)),
                    token: None,
                    ..stored
                });
            }
        }
    }
    after
}

/// Gives up a claim whose message isn't on the wire (SIGTERM): whoever comes may send it at once. It stays as it is,
/// for a process that died under the same name may have sent it.
#[must_use]
pub fn release(sink: &SinkLedger, intent: &Intent, now: DateTime<Utc>) -> SinkLedger {
    let mut after = sink.clone();
    if let Some(stored) = after.intent.as_mut().filter(|stored| stored.id == intent.id) {
        stored.deadline = stored.deadline.min(whole_seconds(now));
    }
    after
}

fn retry(before: Option<&Retry>, sent: Rung, failure: Failure, jitter: u64, now: DateTime<Utc>) -> Retry {
    let attempt = before.map_or(0, |retry| retry.attempt).saturating_add(1);
    let doublings = attempt.saturating_sub(1).min(16);
    let passing = {
        let bound = (FIRST_SECONDS << doublings).min(LAST_SECONDS);
        // At most 900 s.
        TimeDelta::seconds(i64::try_from(1 + jitter % bound).unwrap_or(1))
    };
    let slow = FIRST_SLOW
        .checked_mul(1 << doublings)
        .map_or(LAST_SLOW, |pause| pause.min(LAST_SLOW));
    let mut rung = before.map_or(Rung::All, |retry| retry.rung);
    let pause = match failure.class {
        FailureClass::PayloadRejected => match Rung::iter().find(|shorter| *shorter > sent) {
            Some(shorter) => {
                rung = shorter;
                TimeDelta::zero()
            }
            None => slow,
        },
        FailureClass::RateLimited
        | FailureClass::NoRecord
        | FailureClass::ResolverFailed
        | FailureClass::Connect
        | FailureClass::ServerError
        | FailureClass::Ambiguous => passing,
        FailureClass::CredentialsRejected
        | FailureClass::DestinationRejected
        | FailureClass::RecipientsRejected
        | FailureClass::Redirected
        | FailureClass::TlsUntrusted
        | FailureClass::Rejected => slow,
        FailureClass::Misconfigured(_) => LAST_SLOW,
    };
    Retry {
        at: later(now, pause),
        attempt,
        class: failure.class,
        since: before.map_or(now, |retry| retry.since),
        rung,
    }
}

/// The first whole second after the pause that a receiver asked for, of which [`LONGEST_WAIT`] is granted at most.
fn asked_until(now: DateTime<Utc>, asked: Duration) -> DateTime<Utc> {
    let asked = TimeDelta::from_std(asked).unwrap_or(LONGEST_WAIT).min(LONGEST_WAIT);
    let end = later(now, asked);
    let second = whole_seconds(end);
    if second < end {
        later(second, TimeDelta::seconds(1))
    } else {
        second
    }
}

/// A sink keeps a thread's id and its channel, not a store.
fn bounded(thread: &BTreeMap<String, String>) -> BTreeMap<String, String> {
    thread
        .iter()
        .filter(|(name, value)| name.len() <= 64 && value.len() <= 512)
        .take(4)
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect()
}
