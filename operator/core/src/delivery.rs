//! What became of a delivery, and what is done next.

use crate::{
    ledger::{Alert, Intent, Ledger, SinkLedger},
    policy::SinkManners,
};
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use std::time::Duration;

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
    /// The name doesn't resolve, nobody listens, no route, TLS fails, the connection broke before anything was sent.
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

/// Decides what to do for one sink.
#[must_use]
pub fn decide(ledger: &Ledger, context: &SinkContext<'_>, now: DateTime<Utc>) -> Decision {
    let _ = (ledger, context, now);
    todo!()
}

/// The ledger with the intent in it, to be written before anything is sent.
#[must_use]
pub fn begin(ledger: &Ledger, sink: &str, intent: &Intent) -> Ledger {
    let _ = (ledger, sink, intent);
    todo!()
}

/// The sink's part of the ledger after an attempt. A ledger that holds another intent by now is left as it is.
#[must_use]
pub fn record(sink: &SinkLedger, intent: &Intent, outcome: &Outcome, jitter: u64, now: DateTime<Utc>) -> SinkLedger {
    let _ = (sink, intent, outcome, jitter, now);
    todo!()
}

/// Gives up a claim whose message isn't on the wire (SIGTERM).
#[must_use]
pub fn release(sink: &SinkLedger, intent: &Intent, now: DateTime<Utc>) -> SinkLedger {
    let _ = (sink, intent, now);
    todo!()
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
    let _ = (ledger, context);
    todo!()
}
