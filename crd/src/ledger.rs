//! `AlertLedger`.

use kube::CustomResource;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::schema;

/// What a ledger holds beside its metadata.
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "certmon.dev",
    version = "v1alpha1",
    kind = "AlertLedger",
    plural = "alertledgers",
    singular = "alertledger",
    namespaced,
    no_spec,
    derive = "PartialEq",
    doc = "An AlertLedger remembers what a CertificateMonitor of the same name found and whom it told. Only certmon writes it; don't edit it."
)]
#[serde(rename_all = "camelCase")]
#[schemars(transform = schema::structural)]
pub struct AlertLedgerContent {
    /// Layout of `state`. A reader that doesn't know it must leave the ledger alone.
    #[serde(default)]
    #[schemars(range(min = 0, max = 1000))]
    pub schema_version: i32,

    /// The ledger as the operator wrote it, at most 1 MiB with the rest of the object.
    #[serde(default, skip_serializing_if = "Value::is_null")]
    #[schemars(schema_with = "opaque")]
    pub state: Value,
}

fn opaque(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"type": "object", "x-kubernetes-preserve-unknown-fields": true})
}
