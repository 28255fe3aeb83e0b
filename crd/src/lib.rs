//! Wire types of `certmon.dev`: what tenants write, and what stands in the API server.
//!
//! Nothing here decides anything. The schema (defaults, bounds, CEL rules and the descriptions that
//! `kubectl explain` shows) comes from these types alone; `crd/generated` holds it as YAML.
//!
//! Reading is lenient: a field that is missing gets the schema's default and one that isn't known is
//! passed over, so that an object that another version let in can still be read and named.

mod duration;
mod enums;
mod ledger;
mod monitor;
mod policy;
mod rules;
mod schema;
mod sink;
mod source;
mod status;
mod timestamp;

pub use duration::{Repeat, RepeatInterval, WireDuration};
pub use enums::{
    AddressChoice, CheckLevel, ConnectVia, IntermediatesLevel, Severity, SinkResult, TargetKind, TrustRefKind,
    WebhookFormat, WellKnownCaCertificates,
};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::CustomResourceExt;
pub use ledger::{AlertLedger, AlertLedgerContent};
pub use monitor::{CertificateMonitor, CertificateMonitorSpec};
pub use policy::{Checks, Limits, Probe, SILENCEABLE_FINDINGS, Silence, ThresholdLevel, Thresholds, Trust, TrustRef};
pub use sink::{EmailSink, RepeatIntervals, SecretRef, Sink, SinkKind, SlackSink, WebhookSink};
pub use source::{Endpoint, IngressSource, SecretSource, Source, SourceKind};
pub use status::{CertificateCounts, CertificateMonitorStatus, NextExpiry, Problem, SinkState, SourceState};
pub use timestamp::Timestamp;

/// API group of every kind of ours, and the prefix of our annotations and Secret types.
pub const GROUP: &str = "certmon.dev";

/// The only version of the API.
pub const VERSION: &str = "v1alpha1";

/// Annotation on a monitor: a new value asks for a look at everything now.
pub const CHECK_REQUESTED_AT: &str = "certmon.dev/check-requested-at";

/// Annotation on a monitor: a new value asks for a test message through every sink.
pub const TEST_REQUESTED_AT: &str = "certmon.dev/test-requested-at";

/// Type of the Secrets that `slack.secretRef` names.
pub const SLACK_SECRET_TYPE: &str = "certmon.dev/slack";

/// Type of the Secrets that `email.secretRef` names.
pub const SMTP_SECRET_TYPE: &str = "certmon.dev/smtp";

/// Type of the Secrets that `webhook.secretRef` names.
pub const WEBHOOK_SECRET_TYPE: &str = "certmon.dev/webhook";

/// The definitions of all our kinds, in a fixed order.
#[must_use]
pub fn crds() -> Vec<CustomResourceDefinition> {
    vec![CertificateMonitor::crd(), AlertLedger::crd()]
}

/// One definition as a YAML document, without a separator. The same input gives the same bytes.
#[must_use]
pub fn crd_yaml(crd: &CustomResourceDefinition) -> String {
    serde_saphyr::to_string(crd).expect("a definition holds nothing but strings, numbers, lists and maps")
}

/// All definitions as one YAML stream, each document behind a `---`.
#[must_use]
pub fn crds_yaml() -> String {
    crds().iter().map(|crd| format!("---\n{}", crd_yaml(crd))).collect()
}
