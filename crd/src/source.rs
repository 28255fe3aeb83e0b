//! What is watched.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::enums::{ConnectVia, TargetKind};
use crate::{rules, schema};

/// Something that certificates come from.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = rules::source()))]
pub struct Source {
    /// Name of the source, unique in the monitor; it stands in status, Events, metrics and messages.
    /// Required.
    /// Allowed: a DNS label of at most 63 characters.
    /// Example: `tls-secrets`.
    #[schemars(length(min = 1, max = 63), regex(pattern = rules::LABEL))]
    pub name: String,

    /// How many certificates the source must yield; fewer are the finding TooFewCertificates.
    /// Default: none, any number will do.
    /// Allowed: 1 to 10000.
    /// Example: `1`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 10000))]
    pub min_certificates: Option<u32>,

    /// Certificates in Secrets of the monitor's namespace.
    /// Default: none; exactly one of `secrets`, `ingresses` and `endpoints` must be set.
    /// Allowed: `{}` for every Secret of type kubernetes.io/tls, or an object with some of `names`, `selector`, `types` and `keys`.
    /// Example: `{selector: {matchLabels: {app.kubernetes.io/part-of: shop}}}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secrets: Option<SecretSource>,

    /// Hosts of Ingresses of the monitor's namespace: the stored certificate, what is served, or both.
    /// Default: none; exactly one of `secrets`, `ingresses` and `endpoints` must be set.
    /// Allowed: `{}` for every Ingress, or an object with some of `selector`, `targets`, `connect` and `port`.
    /// Example: `{selector: {matchLabels: {app.kubernetes.io/part-of: shop}}}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ingresses: Option<IngressSource>,

    /// TLS servers that are dialled.
    /// Default: none; exactly one of `secrets`, `ingresses` and `endpoints` must be set.
    /// Allowed: at most 64, each combination of host, port and serverName once.
    /// Example: `[{host: www.example.com}]`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(
        length(max = 64),
        extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["host", "port", "serverName"])
    )]
    pub endpoints: Option<Vec<Endpoint>>,
}

/// The one kind of source that is set.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum SourceKind<'a> {
    /// `secrets`.
    Secrets(&'a SecretSource),
    /// `ingresses`.
    Ingresses(&'a IngressSource),
    /// `endpoints`.
    Endpoints(&'a [Endpoint]),
}

impl Source {
    /// `None` where not exactly one kind is set: the schema refuses that, an older one may not have.
    #[must_use]
    pub fn kind(&self) -> Option<SourceKind<'_>> {
        match (&self.secrets, &self.ingresses, &self.endpoints) {
            (Some(secrets), None, None) => Some(SourceKind::Secrets(secrets)),
            (None, Some(ingresses), None) => Some(SourceKind::Ingresses(ingresses)),
            (None, None, Some(endpoints)) => Some(SourceKind::Endpoints(endpoints)),
            _ => None,
        }
    }
}

/// Certificates in Secrets.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = rules::secret_source()))]
pub struct SecretSource {
    /// Secrets to watch by name, beside those that `selector` selects. One that is missing or of
    /// another type makes Ready False.
    /// Default: none; with neither `names` nor `selector` every Secret of the namespace is watched.
    /// Allowed: at most 64 names.
    /// Example: `[shop-tls]`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(
        length(max = 64),
        inner(length(min = 1, max = 253), regex(pattern = rules::OBJECT_NAME)),
        extend("x-kubernetes-list-type" = "set")
    )]
    pub names: Vec<String>,

    /// Secrets to watch by label, beside those in `names`.
    /// Default: none; with neither `names` nor `selector` every Secret of the namespace is watched.
    /// Allowed: a label selector; `{}` selects all.
    /// Example: `{matchLabels: {app.kubernetes.io/part-of: shop}}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::label_selector")]
    pub selector: Option<LabelSelector>,

    /// Types of Secret that are looked at; it also applies to `names`.
    /// Default: `[kubernetes.io/tls]`.
    /// Allowed: 1 to 16 types.
    /// Example: `[kubernetes.io/tls, Opaque]`.
    #[serde(default = "default_types")]
    #[schemars(
        length(min = 1, max = 16),
        inner(length(min = 1, max = 253), regex(pattern = rules::SECRET_TYPE)),
        extend("x-kubernetes-list-type" = "set")
    )]
    pub types: Vec<String>,

    /// Keys of a Secret that are looked at, in PEM or DER. A key without `*` that is there must hold
    /// a certificate; one with `*` only searches.
    /// Default: `[tls.crt, ca.crt]`.
    /// Allowed: 1 to 16 keys; `*` stands for any characters, at most 8 times in a key.
    /// Example: `["*.pem"]`.
    #[serde(default = "default_keys")]
    #[schemars(
        length(min = 1, max = 16),
        inner(length(min = 1, max = 253), regex(pattern = rules::DATA_KEY_GLOB)),
        extend("x-kubernetes-list-type" = "set")
    )]
    pub keys: Vec<String>,
}

impl Default for SecretSource {
    fn default() -> Self {
        Self {
            names: Vec::new(),
            selector: None,
            types: default_types(),
            keys: default_keys(),
        }
    }
}

fn default_types() -> Vec<String> {
    vec!["kubernetes.io/tls".to_owned()]
}

fn default_keys() -> Vec<String> {
    vec!["tls.crt".to_owned(), "ca.crt".to_owned()]
}

/// Hosts of Ingresses.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct IngressSource {
    /// Ingresses to watch by label.
    /// Default: none, every Ingress of the namespace is watched.
    /// Allowed: a label selector; `{}` selects all.
    /// Example: `{matchLabels: {app.kubernetes.io/part-of: shop}}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::label_selector")]
    pub selector: Option<LabelSelector>,

    /// What is watched of each host: the stored certificate, what a client gets, or both, which also
    /// shows that the two differ.
    /// Default: `[Secret, Endpoint]`.
    /// Allowed: `Secret`, `Endpoint`, or both.
    /// Example: `[Secret]`.
    #[serde(default = "default_targets")]
    #[schemars(length(min = 1, max = 2), extend("x-kubernetes-list-type" = "set"))]
    pub targets: Vec<TargetKind>,

    /// Where the address that is dialled comes from: the Ingress's status (while that has none, DNS),
    /// or always DNS.
    /// Default: `Status`.
    /// Allowed: `Status`, `DNS`.
    /// Example: `DNS`.
    #[serde(default = "default_connect")]
    pub connect: ConnectVia,

    /// Port that is dialled, unless the Ingress's status gives one.
    /// Default: `443`.
    /// Allowed: 1 to 65535.
    /// Example: `8443`.
    #[serde(default = "default_port")]
    #[schemars(range(min = 1, max = 65535))]
    pub port: u16,
}

impl Default for IngressSource {
    fn default() -> Self {
        Self {
            selector: None,
            targets: default_targets(),
            connect: default_connect(),
            port: default_port(),
        }
    }
}

fn default_targets() -> Vec<TargetKind> {
    vec![TargetKind::Secret, TargetKind::Endpoint]
}

const fn default_connect() -> ConnectVia {
    ConnectVia::Status
}

const fn default_port() -> u16 {
    443
}

/// A TLS server.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = rules::endpoint()))]
pub struct Endpoint {
    /// Host that is dialled. Addresses that are loopback, link-local or private are dialled only
    /// where the admin's egress policy allows it.
    /// Required.
    /// Allowed: a fully qualified DNS name or an IP address of at most 253 characters, without scheme or port;
    /// an IPv4 address as four decimal numbers.
    /// Example: `www.example.com`.
    #[schemars(length(min = 1, max = 253))]
    pub host: String,

    /// Port that is dialled; the admin's egress policy says which are allowed.
    /// Default: `443`.
    /// Allowed: 1 to 65535.
    /// Example: `8443`.
    #[serde(default = "default_port")]
    #[schemars(range(min = 1, max = 65535))]
    pub port: u16,

    /// Name that is asked for (SNI) and that the certificate must cover.
    /// Default: `""`, which means the host.
    /// Allowed: a DNS name of at most 253 characters.
    /// Example: `api.internal.example`.
    #[serde(default)]
    #[schemars(length(max = 253))]
    pub server_name: String,
}
