//! What became of a delivery, and what is done next.

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
