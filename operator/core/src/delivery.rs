//! What became of a delivery, and what is done next.

use crate::{
    alert::whole_seconds,
    ledger::{Alert, Intent, Ledger, SinkLedger},
    policy::SinkManners,
};
use chrono::{DateTime, TimeDelta, Utc};
use difference::Difference;
use serde::{Deserialize, Serialize};
use std::time::Duration;

mod difference;
mod record;

pub use record::{record, release};

/// What a sink's secret or spec lacks. Only a change of either mends it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Misconfigured {
    /// The Secret isn't there, or may not be read; tenants can't tell which.
    SecretMissing,
    /// The Secret is not of the sink's type.
    WrongType,
    /// A key that is needed is missing or empty.
    KeyMissing,
    /// A value isn't what its key wants (a URL that doesn't parse, a port that is none, `ca.crt` without a certificate).
    BadValue,
    /// Both of two keys that exclude each other.
    Conflict,
    /// A URL with `http:`.
    PlainHttp,
    /// A user name with `tls: None`.
    PlainCredentials,
    /// The address or port is not permitted by the egress policy.
    NotPermitted,
}

/// Why a delivery failed. A closed enum: nothing that a peer wrote is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum FailureClass {
    /// The sink's Secret or spec is wrong: waits for a change.
    Misconfigured(Misconfigured),
    /// 401, 403, SMTP 535, Slack's `invalid_auth` and its like: may be mended elsewhere.
    CredentialsRejected,
    /// 404, 410, Slack's `channel_not_found`, `not_in_channel`: may be mended elsewhere.
    DestinationRejected,
    /// Every recipient was refused.
    RecipientsRejected,
    /// 429 or its like.
    RateLimited,
    /// The payload is too large or not accepted as it is: the next try steps down.
    PayloadRejected,
    /// A redirect, which is never followed.
    Redirected,
    /// The name of its host has no address.
    NoRecord,
    /// The name of its host can't be resolved: the resolver fails.
    ResolverFailed,
    /// Nobody listens, no route, TLS fails, the connection broke before anything was sent.
    Connect,
    /// The certificate of the sink is not trusted.
    TlsUntrusted,
    /// 5xx, SMTP 4xx: the server's own trouble.
    ServerError,
    /// Any other refusal.
    Rejected,
    /// It may have been accepted: timed out or cut off after the message was on the wire.
    Ambiguous,
}

impl Misconfigured {
    /// What people read; the caller says which Secret, key or value it is.
    #[must_use]
    pub fn text(self) -> &'static str {
        match self {
            Self::SecretMissing => "its Secret does not exist; create it",
            Self::WrongType => "the Secret has another type",
            Self::KeyMissing => "the Secret lacks a key, or the key is empty",
            Self::BadValue => "a value isn't what its key wants",
            Self::Conflict => "the Secret has two keys that exclude each other",
            Self::PlainHttp => "the URL is http:, only https: is accepted",
            Self::PlainCredentials => "a username is refused where tls is None",
            Self::NotPermitted => "its address or port is not permitted by the egress policy; ask the cluster's admin",
        }
    }
}

impl FailureClass {
    /// What people read, with the next step.
    #[must_use]
    pub fn text(self) -> &'static str {
        match self {
            Self::Misconfigured(what) => what.text(),
            Self::CredentialsRejected => "the credentials were rejected; renew them in its Secret",
            Self::DestinationRejected => {
                "the destination does not exist, or does not let the sender in; check channel and URL"
            }
            Self::RecipientsRejected => "every recipient was refused by the mail server; check the addresses",
            Self::RateLimited => "the receiver asks for fewer messages; it is tried again when it allows",
            Self::PayloadRejected => "the receiver refused the message as it is; a shorter one follows",
            Self::Redirected => "the receiver answered with a redirect, which is not followed; write the final URL",
            Self::NoRecord => "the name of its host does not resolve; check how the host is spelt",
            Self::ResolverFailed => {
                "the name of its host could not be resolved: the name server failed; check the cluster's DNS"
            }
            Self::Connect => "no connection could be made",
            Self::TlsUntrusted => {
                "the receiver's certificate is not accepted: the CA that issued it must be a public one or stand in `ca.crt` \
                 of the Secret, and it must be in date, name the host and be no CA itself"
            }
            Self::ServerError => "the receiver has trouble of its own",
            Self::Rejected => "the receiver refused the message",
            Self::Ambiguous => "the connection ended before the receiver confirmed; the same message is sent again",
        }
    }
}

/// What became of one attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Accepted.
    Delivered {
        /// What the next message refers to, by names of the sink's own.
        thread: std::collections::BTreeMap<String, String>,
        /// Of several mail recipients, how many were refused.
        rejected_recipients: u32,
    },
    /// Not accepted, or not known to be.
    Failed(Failure),
}

/// A failed attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Failure {
    /// Why.
    pub class: FailureClass,
    /// The server's status code (HTTP or SMTP), if there was one.
    pub code: Option<u16>,
    /// The server asked for so long a pause.
    pub retry_after: Option<Duration>,
}

/// What is told of a too large digest.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, strum::EnumIter,
)]
#[serde(rename_all = "camelCase")]
pub enum Rung {
    /// Everything.
    #[default]
    All,
    /// The worst 20 and counts.
    Worst20,
    /// Counts.
    Counts,
    /// One line of plain text.
    Text,
}

/// What [`decide`] must know beside the ledger.
#[derive(Clone, Copy)]
pub struct SinkContext<'a> {
    /// The monitor's namespace.
    pub namespace: &'a str,
    /// The monitor's name.
    pub monitor: &'a str,
    /// The cluster's name, if the operator was given one.
    pub cluster: Option<&'a str>,
    /// How the sink wants to be told.
    pub manners: &'a SinkManners,
    /// Whether a running silence matches an alert.
    pub silenced: &'a dyn Fn(&Alert) -> bool,
    /// Every place was looked at, or 30 s have passed since the start or the monitor's creation.
    pub ready: bool,
    /// The monitor is suspended.
    pub suspended: bool,
    /// The sink's Secret or spec is wrong, as far as that can be told without sending.
    pub misconfigured: bool,
    /// This process: `--identity`.
    pub holder: &'a str,
    /// The ledger object's uid.
    pub ledger_uid: &'a str,
    /// The resourceVersion at which the ledger was read.
    pub resource_version: &'a str,
    /// The value of the test annotation, if there is one.
    pub test_token: Option<&'a str>,
    /// Once, after the sink's Secret or spec changed or a request annotation did: backoffs don't hold.
    pub try_now: bool,
}

/// What to do for a sink.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Nothing to say.
    Nothing {
        /// What the sink's part of the ledger must become without a message (write it).
        absorbed: Option<SinkLedger>,
        /// When a reminder is due.
        next: Option<DateTime<Utc>>,
    },
    /// Something to say, and not before this instant (spacing, backoff).
    Wait(DateTime<Utc>),
    /// Something to say, once something changes: not ready yet, or misconfigured.
    Blocked,
    /// Write this intent by compare-and-swap ([`begin`]), then send its message, then [`record`].
    Begin(Intent),
    /// As [`Self::Begin`] for an intent that was found: same id and content, claimed anew.
    Resume(Intent),
    /// Another process holds the intent until this instant.
    Held(DateTime<Utc>),
}

/// A process that died may have claimed by a clock that was ahead; what is further off than this isn't believed.
const CLOCK_TOLERANCE: TimeDelta = TimeDelta::minutes(1);

/// Decides what to do for one sink. While a message of this sink is in flight in this process, don't ask.
///
/// An intent that is found is sent again as stored, same id and content; only then the next difference is taken.
#[must_use]
pub fn decide(ledger: &Ledger, context: &SinkContext<'_>, now: DateTime<Utc>) -> Decision {
    let now = whole_seconds(now);
    let none = SinkLedger::default();
    let sink = ledger.sinks.get(context.manners.name.as_ref()).unwrap_or(&none);
    if context.suspended {
        return Decision::Nothing {
            absorbed: None,
            next: None,
        };
    }
    if let Some(intent) = &sink.intent {
        return found(sink, intent, context, now);
    }
    if let Some(token) = context
        .test_token
        .map(test_token)
        .filter(|token| !sink.has_tested(token))
    {
        return test(ledger, sink, token, context, now);
    }
    let difference = Difference::of(ledger, sink, context);
    let reminder = difference.reminder_at(sink, context.manners, now);
    let due = difference
        .leaves_at(sink.last_sent, now)
        .or(reminder.filter(|at| *at <= now));
    let Some(due) = due else {
        return nothing(sink, &difference, reminder, now);
    };
    if !context.ready || context.misconfigured {
        return Decision::Blocked;
    }
    let due = match backoff(sink, context, now) {
        Some(at) => due.max(at),
        None => due,
    };
    if now < due {
        return Decision::Wait(due);
    }
    Decision::Begin(difference.intent(ledger, sink, context, now))
}

/// What is done about an intent that stands in the ledger.
fn found(sink: &SinkLedger, intent: &Intent, context: &SinkContext<'_>, now: DateTime<Utc>) -> Decision {
    let claim = claim(context.manners);
    let believable = later(later(now, claim), CLOCK_TOLERANCE);
    if intent.holder != context.holder && now < intent.deadline && intent.deadline <= believable {
        return Decision::Held(intent.deadline);
    }
    if context.misconfigured {
        return match &intent.token {
            Some(token) => tested(sink, token),
            None => Decision::Blocked,
        };
    }
    if let Some(at) = backoff(sink, context, now).filter(|at| now < *at) {
        return Decision::Wait(at);
    }
    Decision::Resume(Intent {
        holder: context.holder.to_owned(),
        deadline: later(now, claim),
        // Whoever wrote it may have sent it.
        attempt: intent.attempt.max(1),
        ..intent.clone()
    })
}

/// What is done about a test that was asked for and has no outcome yet.
fn test(ledger: &Ledger, sink: &SinkLedger, token: String, context: &SinkContext<'_>, now: DateTime<Utc>) -> Decision {
    if context.misconfigured {
        return tested(sink, &token);
    }
    let difference = Difference::of(ledger, sink, context);
    Decision::Begin(difference.test(sink, token, context, now))
}

/// A test that failed before anything could be sent.
fn tested(sink: &SinkLedger, token: &str) -> Decision {
    Decision::Nothing {
        absorbed: Some(SinkLedger {
            tested: Some(token.to_owned()),
            intent: None,
            ..sink.clone()
        }),
        next: None,
    }
}

fn nothing(
    sink: &SinkLedger,
    difference: &Difference<'_>,
    reminder: Option<DateTime<Utc>>,
    now: DateTime<Utc>,
) -> Decision {
    let mut after = sink.clone();
    after.told.clone_from(&difference.absorbed);
    // The difference is gone, and with it what failed.
    after.retry = None;
    // The clock went back: reminders count from now on, not from a day to come.
    after.last_sent = sink.last_sent.map(|sent| sent.min(now));
    Decision::Nothing {
        absorbed: (after != *sink).then_some(after),
        next: reminder,
    }
}

/// Until when a failed delivery waits. A wait longer than any that is granted is the work of a clock that was set back; what is
/// granted is rounded up to a whole second, so that second is believed too.
fn backoff(sink: &SinkLedger, context: &SinkContext<'_>, now: DateTime<Utc>) -> Option<DateTime<Utc>> {
    sink.retry
        .as_ref()
        .map(|retry| retry.at)
        .filter(|at| !context.try_now && *at <= later(now, record::LONGEST_WAIT + TimeDelta::seconds(1)))
}

/// How long an intent is claimed.
fn claim(manners: &SinkManners) -> TimeDelta {
    manners.longest_attempt + TimeDelta::seconds(5)
}

/// `at` + `by`, or the end of time.
fn later(at: DateTime<Utc>, by: TimeDelta) -> DateTime<Utc> {
    at.checked_add_signed(by).unwrap_or(DateTime::<Utc>::MAX_UTC)
}

/// The value of the test annotation as it is kept: an annotation may be as long as 256 KiB.
#[must_use]
pub fn test_token(annotation: &str) -> String {
    annotation.chars().take(128).collect()
}

/// The ledger with the intent in it, to be written before anything is sent.
#[must_use]
pub fn begin(ledger: &Ledger, sink: &str, intent: &Intent) -> Ledger {
    let mut ledger = ledger.clone();
    ledger.sinks.entry(sink.to_owned()).or_default().intent = Some(intent.clone());
    ledger
}

/// How a sink stands, for status.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, strum::Display)]
pub enum SinkResult {
    /// Never anything to say.
    Idle,
    /// Something is to be said, and nothing has failed.
    Pending,
    /// The last message was accepted, and nothing is to be said.
    Delivered,
    /// The last attempt failed, or the sink is misconfigured.
    Failing,
}

/// What status says of a sink.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SinkState {
    /// How it stands.
    pub result: SinkResult,
    /// Alerts whose change it hasn't been told (new, worse, ended).
    pub pending: u32,
    /// When it accepted the last message.
    pub sent: Option<DateTime<Utc>>,
    /// Why the last attempt failed.
    pub class: Option<FailureClass>,
    /// When the failing began.
    pub since: Option<DateTime<Utc>>,
    /// When it is tried again.
    pub retry_at: Option<DateTime<Utc>>,
}

/// How a sink stands.
#[must_use]
pub fn sink_state(ledger: &Ledger, context: &SinkContext<'_>) -> SinkState {
    let none = SinkLedger::default();
    let sink = ledger.sinks.get(context.manners.name.as_ref()).unwrap_or(&none);
    let pending = Difference::of(ledger, sink, context).len();
    let in_flight = sink.intent.as_ref().is_some_and(|intent| intent.token.is_none());
    let result = if context.misconfigured || sink.retry.is_some() {
        SinkResult::Failing
    } else if pending > 0 || in_flight {
        SinkResult::Pending
    } else if sink.last_sent.is_some() {
        SinkResult::Delivered
    } else {
        SinkResult::Idle
    };
    SinkState {
        result,
        pending,
        sent: sink.last_sent,
        class: sink.retry.as_ref().map(|retry| retry.class),
        since: sink.retry.as_ref().map(|retry| retry.since),
        retry_at: sink.retry.as_ref().map(|retry| retry.at),
    }
}

#[cfg(test)]
pub(crate) mod tests;

#[cfg(test)]
mod model;
