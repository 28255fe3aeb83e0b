//! `CertificateMonitor`.

use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::policy::{Checks, Limits, Probe, Silence, Thresholds, Trust};
use crate::sink::Sink;
use crate::source::Source;
use crate::{CertificateMonitorStatus, schema};

/// What to watch, when to worry, and whom to tell.
#[derive(CustomResource, JsonSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "certmon.dev",
    version = "v1alpha1",
    kind = "CertificateMonitor",
    plural = "certificatemonitors",
    singular = "certificatemonitor",
    shortname = "certmon",
    namespaced,
    status = "CertificateMonitorStatus",
    derive = "PartialEq",
    doc = "A CertificateMonitor watches certificates of its namespace, and TLS servers, and tells people once and on time.",
    validation = Rule::new("self.metadata.name.size() <= 63").message("`metadata.name` must be no longer than 63 characters"),
    selectable = ".spec.suspend",
    printcolumn(
        name = "Ready",
        type_ = "string",
        description = "Whether the monitor works.",
        json_path = ".status.conditions[?(@.type==\"Ready\")].status"
    ),
    printcolumn(
        name = "Status",
        type_ = "string",
        description = "Whether the certificates are fine: the worst finding's name.",
        json_path = ".status.conditions[?(@.type==\"Healthy\")].reason"
    ),
    printcolumn(
        name = "Notified",
        type_ = "string",
        description = "Whether the sinks have been told.",
        json_path = ".status.conditions[?(@.type==\"Notified\")].status"
    ),
    printcolumn(
        name = "Certs",
        type_ = "integer",
        description = "How many certificates are watched.",
        json_path = ".status.certificates.total"
    ),
    printcolumn(
        name = "Warn",
        type_ = "integer",
        description = "How many have a finding of severity Warning at worst.",
        json_path = ".status.certificates.warning"
    ),
    printcolumn(
        name = "Crit",
        type_ = "integer",
        description = "How many have a finding of severity Critical.",
        json_path = ".status.certificates.critical"
    ),
    printcolumn(
        name = "Next Expiry",
        type_ = "string",
        description = "When the next certificate expires.",
        json_path = ".status.nextExpiry.time"
    ),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    printcolumn(
        name = "Suspended",
        type_ = "boolean",
        description = "Whether the monitor is suspended.",
        json_path = ".spec.suspend",
        priority = 1
    ),
    printcolumn(
        name = "Message",
        type_ = "string",
        description = "The certificates' state in words.",
        json_path = ".status.conditions[?(@.type==\"Healthy\")].message",
        priority = 1
    )
)]
#[serde(rename_all = "camelCase")]
#[schemars(transform = schema::structural)]
pub struct CertificateMonitorSpec {
    /// Stop checking and telling; status keeps its last values, and resuming tells what changed meanwhile.
    /// Default: `false`.
    /// Allowed: `true`, `false`.
    /// Example: `true`.
    #[serde(default)]
    pub suspend: bool,

    /// What is watched.
    /// Required.
    /// Allowed: 1 to 16 sources, each of exactly one kind.
    /// Example: `[{name: tls, secrets: {}}]`.
    #[schemars(
        length(min = 1, max = 16),
        extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"])
    )]
    pub sources: Vec<Source>,

    /// When a certificate's coming expiry is a finding.
    /// Default: `{warning: {remaining: 21d, remainingPercent: 25}, critical: {remaining: 7d, remainingPercent: 10}}`.
    /// Allowed: an object with `warning`, `critical`, or both.
    /// Example: `{warning: {remaining: 30d}}`.
    #[serde(default)]
    pub thresholds: Thresholds,

    /// What the other findings amount to.
    /// Default: each check's own, written at the check.
    /// Allowed: an object with some of the checks, each with its level.
    /// Example: `{hostname: Warning, keyMatch: Critical}`.
    #[serde(default)]
    pub checks: Checks,

    /// Whom a chain must lead to. Once this is set, stored certificates are judged by it too.
    /// Default: none; what is served must lead to the system's roots or to the `ca.crt` of the
    /// Ingress's Secret, and what is stored isn't judged.
    /// Allowed: an object with `wellKnownCACertificates`, `caCertificateRefs`, or both.
    /// Example: `{wellKnownCACertificates: None, caCertificateRefs: [{name: corp-ca}]}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trust: Option<Trust>,

    /// How endpoints and Ingresses' hosts are dialled.
    /// Default: `{interval: 1h, timeout: 10s, failureThreshold: 3, addresses: All}`.
    /// Allowed: an object with some of `interval`, `timeout`, `failureThreshold` and `addresses`.
    /// Example: `{interval: 6h}`.
    #[serde(default)]
    pub probe: Probe,

    /// Who is told.
    /// Default: none; findings then stand in status and Events alone.
    /// Allowed: at most 8 sinks, each of exactly one kind.
    /// Example: `[{name: team, slack: {channel: "#shop-alerts", secretRef: {name: slack-bot}}}]`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(
        length(max = 8),
        extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"])
    )]
    pub sinks: Vec<Sink>,

    /// Findings that nobody is told of for a time.
    /// Default: none.
    /// Allowed: at most 32 silences.
    /// Example: `[{name: legacy, certificates: ["legacy-*"], until: "2027-02-01T00:00:00Z"}]`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(
        length(max = 32),
        extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"])
    )]
    pub silences: Vec<Silence>,

    /// Bounds on what the monitor may cost.
    /// Default: `{maxCertificates: 1000}`.
    /// Allowed: an object with `maxCertificates`.
    /// Example: `{maxCertificates: 200}`.
    #[serde(default)]
    pub limits: Limits,
}
