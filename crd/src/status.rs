//! What the operator says of a monitor. Fields that are absent are left out when written: a null in
//! a server-side apply is a value.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::Timestamp;
use crate::enums::{Severity, SinkResult};
use crate::schema;

/// What was found, and who was told. At most 32 KiB, and no relative times.
///
/// `kubectl describe` sorts fields by name: `summary` comes last, right above the Events.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(transform = schema::structural)]
pub struct CertificateMonitorStatus {
    /// How many certificates are in which state.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub certificates: Option<CertificateCounts>,

    /// `Ready`, `Healthy` and `Notified`, and `Reconciling` and `Stalled` while they are true.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::conditions")]
    pub conditions: Vec<Condition>,

    /// The last value of the annotation certmon.dev/check-requested-at that was acted on. One of more than
    /// 128 characters, or with others than printable ASCII, stands here in a form that has neither.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 256))]
    pub last_handled_check_request: Option<String>,

    /// The last value of the annotation certmon.dev/test-requested-at whose message has an outcome on
    /// every sink; a new value within a minute of the last test waits for the end of that minute. One of
    /// more than 128 characters, or with others than printable ASCII, stands here in a form that has
    /// neither.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 256))]
    pub last_handled_test_request: Option<String>,

    /// The certificate that expires next.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_expiry: Option<NextExpiry>,

    /// The generation of the spec that this status is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub observed_generation: Option<i64>,

    /// The worst findings, at most 10.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 10), extend("x-kubernetes-list-type" = "atomic"))]
    pub problems: Vec<Problem>,

    /// What each sink was told.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(
        length(max = 8),
        extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"])
    )]
    pub sinks: Vec<SinkState>,

    /// What each source yields.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(
        length(max = 16),
        extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"])
    )]
    pub sources: Vec<SourceState>,

    /// The state in words, at most 12 lines.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(
        length(max = 12),
        inner(length(max = 1024)),
        extend("x-kubernetes-list-type" = "atomic")
    )]
    pub summary: Vec<String>,
}

/// Places that hold or should hold a certificate, folded where they hold the same leaf; each counts
/// once, by its worst finding that isn't silenced.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct CertificateCounts {
    /// All of them.
    pub total: u32,
    /// Judged, and nothing was found.
    pub ok: u32,
    /// Of severity Warning at worst.
    pub warning: u32,
    /// Of severity Critical.
    pub critical: u32,
    /// Never judged yet, and without a finding.
    pub unknown: u32,
    /// With findings, all of which are silenced.
    pub silenced: u32,
    /// Not looked at, since `spec.limits.maxCertificates` is reached.
    pub unchecked: u32,
}

/// The certificate that expires next.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct NextExpiry {
    /// Where it is.
    #[schemars(length(max = 256))]
    pub certificate: String,
    /// When it expires.
    pub time: Timestamp,
}

/// A finding.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Problem {
    /// Where it was found.
    #[schemars(length(max = 256))]
    pub certificate: String,
    /// The finding's name and what it says.
    #[schemars(length(max = 1024))]
    pub finding: String,
    /// How bad it is.
    pub severity: Severity,
    /// Since when it is true.
    pub since: Timestamp,
}

/// What a source yields.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SourceState {
    /// Name of the source.
    #[schemars(length(max = 63))]
    pub name: String,
    /// How many places it yields.
    #[serde(default)]
    pub selected: u32,
    /// What keeps it from yielding more, and what to do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    pub problem: Option<String>,
}

/// What a sink was told.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SinkState {
    /// Name of the sink.
    #[schemars(length(max = 63))]
    pub name: String,
    /// How many messages wait.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pending: Option<u32>,
    /// What keeps them waiting, and what to do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    pub problem: Option<String>,
    /// What became of the last message.
    pub result: SinkResult,
    /// When a message was last accepted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sent_time: Option<Timestamp>,
    /// Since when the result is what it is, while it is Failing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<Timestamp>,
}
