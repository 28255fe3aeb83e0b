//! The API server's words in lists and watches, as far as they matter.

use serde::Deserialize;
use std::sync::Arc;

#[derive(Deserialize)]
pub(super) struct Line<'a> {
    #[serde(rename = "type")]
    pub(super) kind: &'a str,
    #[serde(borrow)]
    pub(super) object: &'a serde_json::value::RawValue,
}

#[derive(Deserialize)]
pub(super) struct Page<'a> {
    pub(super) metadata: PageMeta,
    #[serde(borrow)]
    pub(super) items: Vec<&'a serde_json::value::RawValue>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct PageMeta {
    #[serde(default)]
    pub(super) resource_version: String,
    #[serde(default, rename = "continue")]
    pub(super) next: Option<String>,
}

#[derive(Deserialize)]
pub(super) struct Meta {
    pub(super) metadata: ObjectMeta,
    pub(super) code: Option<u16>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct ObjectMeta {
    pub(super) namespace: Arc<str>,
    pub(super) name: Arc<str>,
    pub(super) resource_version: String,
    pub(super) annotations: Option<InitialEventsEnd>,
}

#[derive(Deserialize)]
pub(super) struct InitialEventsEnd {
    #[serde(rename = "k8s.io/initial-events-end")]
    pub(super) end: Option<String>,
}
