//! When to worry, whom to trust, how to look, and what to keep quiet about.

use chrono::{DateTime, Utc};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::duration::WireDuration;
use crate::enums::{AddressChoice, CheckLevel, IntermediatesLevel, TrustRefKind, WellKnownCaCertificates};
use crate::rules;

/// The two levels before a certificate's expiry; an expired one is always Critical.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = rules::thresholds()))]
pub struct Thresholds {
    /// First level: the finding ExpiringSoon, of severity Warning. With both limits it fires at the
    /// later moment, so that one setting suits long and short lives. The default belongs to the level
    /// as a whole: a level that sets one limit has only that one.
    /// Default: `{remaining: 21d, remainingPercent: 25}`.
    /// Allowed: an object with `remaining`, `remainingPercent`, or both.
    /// Example: `{remaining: 30d}`.
    #[serde(default = "default_warning")]
    pub warning: ThresholdLevel,

    /// Second level: the finding ExpiryCritical, of severity Critical. With both limits it fires at
    /// the later moment. The default belongs to the level as a whole: a level that sets one limit has
    /// only that one.
    /// Default: `{remaining: 7d, remainingPercent: 10}`.
    /// Allowed: an object with `remaining`, `remainingPercent`, or both; none beyond the first level's.
    /// Example: `{remaining: 3d}`.
    #[serde(default = "default_critical")]
    pub critical: ThresholdLevel,
}

impl Default for Thresholds {
    fn default() -> Self {
        Self {
            warning: default_warning(),
            critical: default_critical(),
        }
    }
}

fn default_warning() -> ThresholdLevel {
    ThresholdLevel {
        remaining: Some("21d".into()),
        remaining_percent: Some(25),
    }
}

fn default_critical() -> ThresholdLevel {
    ThresholdLevel {
        remaining: Some("7d".into()),
        remaining_percent: Some(10),
    }
}

/// One level. Neither limit has a default of its own: a hidden one would move what somebody wrote.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = rules::threshold_level()))]
pub struct ThresholdLevel {
    /// Fires when less than this is left.
    /// Default: none of its own; see the level.
    /// Allowed: a duration from 1m to 3650d, one number and one unit (`d`, `h`, `m`, `s`).
    /// Example: `30d`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub remaining: Option<WireDuration>,

    /// Fires when less than this percentage of the certificate's whole life is left.
    /// Default: none of its own; see the level.
    /// Allowed: 1 to 99.
    /// Example: `25`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 99))]
    pub remaining_percent: Option<u8>,
}

/// What each check's finding amounts to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Checks {
    /// NotYetValid: the certificate is valid only from a later moment.
    /// Default: `Warning`.
    /// Allowed: `Ignore`, `Warning`, `Critical`.
    /// Example: `Critical`.
    pub not_yet_valid: CheckLevel,

    /// HostnameMismatch: no subject alternative name covers the host.
    /// Default: `Critical`.
    /// Allowed: `Ignore`, `Warning`, `Critical`.
    /// Example: `Warning`.
    pub hostname: CheckLevel,

    /// UntrustedIssuer and IncompleteChain: no path leads to a trusted root. Of what is stored this is
    /// judged only where `trust` is set.
    /// Default: `Warning`.
    /// Allowed: `Ignore`, `Warning`, `Critical`.
    /// Example: `Critical`.
    pub chain: CheckLevel,

    /// IntermediateExpiring: an intermediate expires before the leaf, and there is no path without it.
    /// `AsLeaf` rises with the leaf's thresholds.
    /// Default: `AsLeaf`.
    /// Allowed: `AsLeaf`, `Ignore`, `Warning`, `Critical`.
    /// Example: `Warning`.
    pub intermediates: IntermediatesLevel,

    /// KeyMismatch: the private key isn't the certificate's. By default no private key is looked at;
    /// where this is on, the key is compared and forgotten while the Secret is read.
    /// Default: `Ignore`.
    /// Allowed: `Ignore`, `Warning`, `Critical`.
    /// Example: `Critical`.
    pub key_match: CheckLevel,

    /// WeakCrypto: RSA below 2048 bits, an elliptic curve below 224 bits, SHA-1 or MD5.
    /// Default: `Warning`.
    /// Allowed: `Ignore`, `Warning`, `Critical`.
    /// Example: `Critical`.
    pub weak_crypto: CheckLevel,

    /// PlaceholderCertificate: a controller's stand-in for the certificate that is meant.
    /// Default: `Warning`.
    /// Allowed: `Ignore`, `Warning`, `Critical`.
    /// Example: `Critical`.
    pub placeholder: CheckLevel,

    /// ServedCertificateDiffers and InconsistentServers: what is served is not what is stored, or not
    /// the same on every address.
    /// Default: `Warning`.
    /// Allowed: `Ignore`, `Warning`, `Critical`.
    /// Example: `Critical`.
    pub served: CheckLevel,

    /// Unreachable and NoAddress: nothing answers, or there is nothing to dial. What was last seen
    /// keeps counting.
    /// Default: `Warning`.
    /// Allowed: `Ignore`, `Warning`, `Critical`.
    /// Example: `Critical`.
    pub unreachable: CheckLevel,

    /// SecretMissing: a Secret that an Ingress or a source's `names` names isn't there, or has no
    /// certificate.
    /// Default: `Warning`.
    /// Allowed: `Ignore`, `Warning`, `Critical`.
    /// Example: `Critical`.
    pub secret_missing: CheckLevel,

    /// BadCertificateData: something that must be a certificate can't be read as one.
    /// Default: `Warning`.
    /// Allowed: `Ignore`, `Warning`, `Critical`.
    /// Example: `Critical`.
    pub parse: CheckLevel,
}

impl Default for Checks {
    fn default() -> Self {
        Self {
            not_yet_valid: CheckLevel::Warning,
            hostname: CheckLevel::Critical,
            chain: CheckLevel::Warning,
            intermediates: IntermediatesLevel::AsLeaf,
            key_match: CheckLevel::Ignore,
            weak_crypto: CheckLevel::Warning,
            placeholder: CheckLevel::Warning,
            served: CheckLevel::Warning,
            unreachable: CheckLevel::Warning,
            secret_missing: CheckLevel::Warning,
            parse: CheckLevel::Warning,
        }
    }
}

/// Whom a chain must lead to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = rules::trust()))]
pub struct Trust {
    /// Whether the system's roots are trusted, beside `caCertificateRefs`.
    /// Default: `System`.
    /// Allowed: `System`, `None`.
    /// Example: `None`.
    #[serde(rename = "wellKnownCACertificates", default = "default_well_known")]
    pub well_known_ca_certificates: WellKnownCaCertificates,

    /// ConfigMaps and Secrets with certificates to trust, in PEM. One that is missing or empty makes
    /// Ready False, and chains aren't judged until it is there.
    /// Default: none.
    /// Allowed: at most 16; at least 1 where `wellKnownCACertificates` is `None`.
    /// Example: `[{name: corp-ca}]`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(
        length(max = 16),
        extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["kind", "name", "key"])
    )]
    pub ca_certificate_refs: Vec<TrustRef>,
}

impl Default for Trust {
    fn default() -> Self {
        Self {
            well_known_ca_certificates: default_well_known(),
            ca_certificate_refs: Vec::new(),
        }
    }
}

const fn default_well_known() -> WellKnownCaCertificates {
    WellKnownCaCertificates::System
}

/// Certificates to trust.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct TrustRef {
    /// Kind of the object, which is in the monitor's namespace.
    /// Default: `ConfigMap`.
    /// Allowed: `ConfigMap`, `Secret`.
    /// Example: `Secret`.
    #[serde(default = "default_trust_kind")]
    pub kind: TrustRefKind,

    /// Name of the object.
    /// Required.
    /// Allowed: the name of an object in the monitor's namespace, at most 253 characters.
    /// Example: `corp-ca`.
    #[schemars(length(min = 1, max = 253), regex(pattern = rules::OBJECT_NAME))]
    pub name: String,

    /// Key that holds the certificates.
    /// Default: `ca.crt`.
    /// Allowed: a key of at most 253 characters.
    /// Example: `root.pem`.
    #[serde(default = "default_trust_key")]
    #[schemars(length(min = 1, max = 253), regex(pattern = rules::DATA_KEY))]
    pub key: String,
}

const fn default_trust_kind() -> TrustRefKind {
    TrustRefKind::ConfigMap
}

fn default_trust_key() -> String {
    "ca.crt".to_owned()
}

/// How what is dialled is dialled. Secrets are watched, not polled.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
#[schemars(extend("x-kubernetes-validations" = rules::probe()))]
pub struct Probe {
    /// Time between two looks; near an expiry, and while something is wrong, looks come sooner.
    /// Default: `1h`.
    /// Allowed: a duration from 1m to 168h, one number and one unit (`d`, `h`, `m`, `s`).
    /// Example: `6h`.
    pub interval: WireDuration,

    /// Time that one address has to answer, handshake included.
    /// Default: `10s`.
    /// Allowed: a duration from 1s to 30s that is less than `interval`.
    /// Example: `5s`.
    pub timeout: WireDuration,

    /// Failures in a row that open the finding Unreachable.
    /// Default: `3`.
    /// Allowed: 1 to 10.
    /// Example: `2`.
    #[schemars(range(min = 1, max = 10))]
    pub failure_threshold: u8,

    /// Which addresses of a name are dialled: all (at most 16, and the worst counts) or the first.
    /// Default: `All`.
    /// Allowed: `All`, `First`.
    /// Example: `First`.
    pub addresses: AddressChoice,
}

impl Default for Probe {
    fn default() -> Self {
        Self {
            interval: "1h".into(),
            timeout: "10s".into(),
            failure_threshold: 3,
            addresses: AddressChoice::All,
        }
    }
}

/// Names of the findings that a silence can name.
pub const SILENCEABLE_FINDINGS: &[&str] = &[
    "ExpiringSoon",
    "ExpiryCritical",
    "Expired",
    "NotYetValid",
    "HostnameMismatch",
    "UntrustedIssuer",
    "IncompleteChain",
    "IntermediateExpiring",
    "KeyMismatch",
    "WeakCrypto",
    "PlaceholderCertificate",
    "ServedCertificateDiffers",
    "InconsistentServers",
    "Unreachable",
    "NoAddress",
    "SecretMissing",
    "TargetNotPermitted",
    "BadCertificateData",
    "TooFewCertificates",
    "LimitExceeded",
    "LedgerOverflow",
];

/// Findings that are known and accepted for a time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = rules::silence()))]
pub struct Silence {
    /// Name of the silence, unique in the monitor.
    /// Required.
    /// Allowed: a DNS label of at most 63 characters.
    /// Example: `legacy-host`.
    #[schemars(length(min = 1, max = 63), regex(pattern = rules::LABEL))]
    pub name: String,

    /// Which certificates: patterns for the object's name, `Kind/name`, the host, or a subject
    /// alternative name.
    /// Default: none, which means all.
    /// Allowed: at most 64 patterns of at most 253 characters; `*` stands for any characters, at
    /// most 8 times in a pattern, `?` for one.
    /// Example: `["legacy-*", api.partner.example]`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(
        length(max = 64),
        inner(length(min = 1, max = 253), regex(pattern = r"^[^\s]+$")),
        extend("x-kubernetes-list-type" = "set")
    )]
    pub certificates: Vec<String>,

    /// Which findings; an expiry's name silences that level, not the next.
    /// Default: none, which means all.
    /// Allowed: at most 32 of `ExpiringSoon`, `ExpiryCritical`, `Expired`, `NotYetValid`,
    /// `HostnameMismatch`, `UntrustedIssuer`, `IncompleteChain`, `IntermediateExpiring`, `KeyMismatch`,
    /// `WeakCrypto`, `PlaceholderCertificate`, `ServedCertificateDiffers`, `InconsistentServers`,
    /// `Unreachable`, `NoAddress`, `SecretMissing`, `TargetNotPermitted`, `BadCertificateData`,
    /// `TooFewCertificates`, `LimitExceeded`, `LedgerOverflow`.
    /// Example: `[ExpiringSoon]`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(
        length(max = 32),
        extend("items" = {"type": "string", "enum": SILENCEABLE_FINDINGS}, "x-kubernetes-list-type" = "set")
    )]
    pub findings: Vec<String>,

    /// When the silence ends; there is no silence without an end.
    /// Required.
    /// Allowed: an instant as in RFC 3339.
    /// Example: `"2027-02-01T00:00:00Z"`.
    #[schemars(regex(pattern = rules::INSTANT), length(max = 35))]
    pub until: DateTime<Utc>,

    /// Why, for whoever reads it later.
    /// Default: none.
    /// Allowed: at most 1024 characters.
    /// Example: `Partner replaces the host in January (INT-4711)`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 1024))]
    pub reason: Option<String>,
}

/// Bounds on what one monitor may cost.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Limits {
    /// How many places that hold a certificate are checked; more are counted as unchecked and are the
    /// finding LimitExceeded.
    /// Default: `1000`.
    /// Allowed: 1 to 10000.
    /// Example: `200`.
    #[schemars(range(min = 1, max = 10000))]
    pub max_certificates: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self { max_certificates: 1000 }
    }
}
