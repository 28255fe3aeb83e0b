//! The [`Cluster`] seam over a real API server. Every call has a deadline; nothing is retried here, because the engine knows
//! better when, and whether it is still wanted.

use crate::cluster::{ApiFailure, Cluster, EventNote, Key, LedgerObject, MonitorRef};
use certmon_core::ledger::{LEDGER_VERSION, Ledger};
use certmon_crd::{AlertLedger, AlertLedgerContent, CertificateMonitorStatus, GROUP, VERSION};
use certmon_notify::SinkSecret;
use futures::future::{BoxFuture, FutureExt};
use k8s_openapi::{
    apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta, OwnerReference},
    jiff::Timestamp,
};
use kube::{
    Api, Client,
    api::{Patch, PatchParams, PostParams},
    core::Request,
};
use serde::Deserialize;
use serde_json::{Value, json};
use std::{
    collections::BTreeMap,
    future::Future,
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};
use zeroize::Zeroizing;

/// Who writes, in `metadata.managedFields` and as Events' reporter.
pub const MANAGER: &str = "certmon";
const CONTROLLER: &str = "certmon.dev/operator";
/// Every call ends within this.
const DEADLINE: Duration = Duration::from_secs(30);

/// A real API server.
pub struct Kubernetes {
    client: Client,
    identity: String,
    /// Makes Events' names unique in this process.
    events: AtomicU64,
}

impl Kubernetes {
    /// `identity` names this process among those that ever wrote Events.
    #[must_use]
    pub fn new(client: Client, identity: String) -> Self {
        Self {
            client,
            identity,
            events: AtomicU64::new(0),
        }
    }

    /// Patches a monitor's status. The answer isn't decoded: an object of a looser schema can't be.
    async fn patch_status<P: serde::Serialize + std::fmt::Debug>(
        &self,
        monitor: &MonitorRef,
        params: &PatchParams,
        patch: &Patch<P>,
    ) -> Result<(), ApiFailure> {
        let path = format!(
            "/apis/{GROUP}/{VERSION}/namespaces/{}/certificatemonitors",
            monitor.key.namespace
        );
        let request = Request::new(path)
            .patch_subresource("status", &monitor.key.name, params, patch)
            .map_err(|_| ApiFailure::Invalid("a status".to_owned()))?;
        call(self.client.request_text(request)).await.map(drop)
    }

    fn ledgers(&self, key: &Key) -> Api<AlertLedger> {
        Api::namespaced(self.client.clone(), &key.namespace)
    }
}

/// Waits for a call, at most [`DEADLINE`].
async fn call<T>(work: impl Future<Output = Result<T, kube::Error>>) -> Result<T, ApiFailure> {
    match tokio::time::timeout(DEADLINE, work).await {
        Ok(result) => result.map_err(|error| failure(&error)),
        Err(_) => Err(ApiFailure::Unavailable {
            reason: "no answer in time".to_owned(),
            retry_after: None,
        }),
    }
}

/// Sorts an error of the client. Texts of the server are kept only where they are about our own object.
fn failure(error: &kube::Error) -> ApiFailure {
    match error {
        kube::Error::Api(status) => match status.code {
            401 | 403 => ApiFailure::Forbidden,
            404 => ApiFailure::NotFound,
            409 => ApiFailure::Conflict,
            500 => ApiFailure::Internal,
            400 | 413 | 422 => ApiFailure::Invalid(status.message.chars().take(512).collect()),
            code => {
                let seconds = status.details.as_ref().map(|details| details.retry_after_seconds);
                let retry_after = seconds.map(u64::from).filter(|seconds| *seconds > 0);
                ApiFailure::Unavailable {
                    reason: format!("HTTP {code}"),
                    retry_after: retry_after.map(Duration::from_secs),
                }
            }
        },
        kube::Error::SerdeError(_) => ApiFailure::Unavailable {
            reason: "the answer can't be read".to_owned(),
            retry_after: None,
        },
        _ => ApiFailure::Unavailable {
            reason: "no connection to the API server".to_owned(),
            retry_after: None,
        },
    }
}

/// The ledger as the domain knows it.
fn read(object: AlertLedger) -> Result<LedgerObject, ApiFailure> {
    let version = i64::from(object.spec.schema_version);
    if version > i64::from(LEDGER_VERSION) {
        return Err(ApiFailure::NewerLedger(version));
    }
    let owner = object
        .metadata
        .owner_references
        .iter()
        .flatten()
        .find(|owner| owner.controller == Some(true));
    Ok(LedgerObject {
        uid: object.metadata.uid.clone().unwrap_or_default(),
        resource_version: object.metadata.resource_version.clone().unwrap_or_default(),
        owner_uid: owner.map(|owner| owner.uid.clone()),
        ledger: Ledger::read(object.spec.state.clone()),
    })
}

/// The server doesn't take this status with this object, and never will: it says so, or fails over an object that isn't
/// of its schema's types.
fn is_refusal(failure: &ApiFailure, status: &CertificateMonitorStatus) -> bool {
    let stalled = || status.conditions.iter().any(|condition| condition.type_ == "Stalled");
    match failure {
        ApiFailure::Invalid(_) => true,
        ApiFailure::Internal => stalled(),
        _ => false,
    }
}

impl Kubernetes {
    async fn create_event(
        &self,
        monitor: &MonitorRef,
        note: &EventNote,
        regarding: &Value,
        related: Option<&Value>,
    ) -> Result<(), ApiFailure> {
        let number = self.events.fetch_add(1, Ordering::Relaxed);
        // Not built from the object's name, which may be too long for it.
        let hash = certmon_core::hash::ShortHash::of(&[self.identity.as_bytes(), monitor.uid.as_bytes()]);
        let micros = note.at.timestamp_micros();
        let mut event = json!({
            "apiVersion": "events.k8s.io/v1",
            "kind": "Event",
            "metadata": {"name": format!("certmon-{hash}.{micros:x}.{number:x}"), "namespace": monitor.key.namespace},
            "eventTime": MicroTime(Timestamp::from_microsecond(micros).unwrap_or(Timestamp::UNIX_EPOCH)),
            "reportingController": CONTROLLER,
            "reportingInstance": self.identity.chars().take(128).collect::<String>(),
            "type": if note.warning { "Warning" } else { "Normal" },
            "reason": note.reason,
            "action": note.action,
            "note": note.note,
            "regarding": regarding,
        });
        if let (Some(related), Some(event)) = (related, event.as_object_mut()) {
            event.insert("related".to_owned(), related.clone());
        }
        let body = serde_json::to_vec(&event).map_err(|_| ApiFailure::Invalid("an Event".to_owned()))?;
        let path = format!("/apis/events.k8s.io/v1/namespaces/{}/events", monitor.key.namespace);
        let request = Request::new(path)
            .create(&PostParams::default(), body)
            .map_err(|_| ApiFailure::Invalid("an Event".to_owned()))?;
        call(self.client.request_text(request)).await.map(|_| ())
    }
}

impl Cluster for Kubernetes {
    fn ledger_get<'a>(&'a self, monitor: &'a MonitorRef) -> BoxFuture<'a, Result<Option<LedgerObject>, ApiFailure>> {
        async move {
            match call(self.ledgers(&monitor.key).get(&monitor.key.name)).await {
                Ok(object) => read(object).map(Some),
                Err(ApiFailure::NotFound) => Ok(None),
                Err(failure) => Err(failure),
            }
        }
        .boxed()
    }

    fn ledger_put<'a>(
        &'a self,
        monitor: &'a MonitorRef,
        ledger: &'a Ledger,
        expected: Option<&'a LedgerObject>,
    ) -> BoxFuture<'a, Result<LedgerObject, ApiFailure>> {
        async move {
            let state = serde_json::to_value(ledger)
                .map_err(|_| ApiFailure::Invalid("the ledger can't be written as JSON".to_owned()))?;
            let owner = OwnerReference {
                api_version: format!("{GROUP}/{VERSION}"),
                kind: "CertificateMonitor".to_owned(),
                name: monitor.key.name.to_string(),
                uid: monitor.uid.to_string(),
                controller: Some(true),
                block_owner_deletion: None,
            };
            let metadata = ObjectMeta {
                name: Some(monitor.key.name.to_string()),
                namespace: Some(monitor.key.namespace.to_string()),
                owner_references: Some(vec![owner]),
                resource_version: expected.map(|object| object.resource_version.clone()),
                uid: expected.map(|object| object.uid.clone()),
                ..ObjectMeta::default()
            };
            let object = AlertLedger {
                metadata,
                spec: AlertLedgerContent {
                    schema_version: LEDGER_VERSION,
                    state,
                },
            };
            let params = PostParams {
                dry_run: false,
                field_manager: Some(MANAGER.to_owned()),
            };
            let ledgers = self.ledgers(&monitor.key);
            let written = match expected {
                None => call(ledgers.create(&params, &object)).await?,
                Some(_) => call(ledgers.replace(&monitor.key.name, &params, &object)).await?,
            };
            read(written)
        }
        .boxed()
    }

    fn status_apply<'a>(
        &'a self,
        monitor: &'a MonitorRef,
        status: &'a CertificateMonitorStatus,
    ) -> BoxFuture<'a, Result<(), ApiFailure>> {
        async move {
            let object = json!({
                "apiVersion": format!("{GROUP}/{VERSION}"),
                "kind": "CertificateMonitor",
                // The uid keeps the status of a monitor that is gone from its successor.
                "metadata": {"uid": monitor.uid},
                "status": status,
            });
            let apply = PatchParams::apply(MANAGER).force();
            let refused = match self.patch_status(monitor, &apply, &Patch::Apply(&object)).await {
                Err(failure) if is_refusal(&failure, status) => failure,
                done => return done,
            };
            // A stored object that today's schema refuses, elsewhere than in its status.
            let merge = json!({"metadata": {"uid": monitor.uid}, "status": status});
            let params = PatchParams {
                field_manager: Some(MANAGER.to_owned()),
                ..PatchParams::default()
            };
            match self.patch_status(monitor, &params, &Patch::Merge(&merge)).await {
                Err(ApiFailure::Internal) if is_refusal(&refused, status) => Err(ApiFailure::Invalid(
                    "the stored object has a value of a wrong type; delete it and apply it again".to_owned(),
                )),
                done => done,
            }
        }
        .boxed()
    }

    fn event<'a>(&'a self, monitor: &'a MonitorRef, note: &'a EventNote) -> BoxFuture<'a, Result<(), ApiFailure>> {
        async move {
            let on_monitor = json!({
                "apiVersion": format!("{GROUP}/{VERSION}"),
                "kind": "CertificateMonitor",
                "namespace": monitor.key.namespace,
                "name": monitor.key.name,
                "uid": monitor.uid,
            });
            let related = note.related.as_ref().map(|(kind, name)| {
                let api_version = if *kind == "Ingress" {
                    "networking.k8s.io/v1"
                } else {
                    "v1"
                };
                json!({"apiVersion": api_version, "kind": kind, "namespace": monitor.key.namespace, "name": name})
            });
            self.create_event(monitor, note, &on_monitor, related.as_ref()).await?;
            let Some((mirrored, mut object)) = note.mirrored.as_ref().zip(related) else {
                return Ok(());
            };
            if let (Some(uid), Some(object)) = (&mirrored.uid, object.as_object_mut()) {
                object.insert("uid".to_owned(), json!(uid));
            }
            self.create_event(monitor, note, &object, Some(&on_monitor)).await
        }
        .boxed()
    }

    fn sink_secret_get<'a>(
        &'a self,
        namespace: &'a str,
        name: &'a str,
    ) -> BoxFuture<'a, Result<Option<SinkSecret>, ApiFailure>> {
        async move {
            let request = Request::new(format!("/api/v1/namespaces/{namespace}/secrets"))
                .get(name, &kube::api::GetParams::default())
                .map_err(|_| ApiFailure::NotFound)?;
            // Not `Api<Secret>::get`: the client logs a body that it can't decode.
            match call(self.client.request_text(request)).await.map(Zeroizing::new) {
                Ok(body) => sink_secret(&body).map(Some),
                Err(ApiFailure::NotFound) => Ok(None),
                Err(failure) => Err(failure),
            }
        }
        .boxed()
    }
}

/// Decodes a sink's Secret. Of one that is no sink's type, only the type is taken. Values are taken whole (the API server
/// bounds a Secret at 1 MiB): which is too large is a fault for its reader to tell, and no value is ever left out.
///
/// # Errors
/// The body is no Secret, or was cut short.
fn sink_secret(body: &str) -> Result<SinkSecret, ApiFailure> {
    use base64::Engine;
    #[derive(Deserialize)]
    struct Object<'a> {
        #[serde(rename = "type", default)]
        type_: String,
        #[serde(borrow, default)]
        data: Option<BTreeMap<String, std::borrow::Cow<'a, str>>>,
    }
    let unreadable = || ApiFailure::Unavailable {
        reason: "the answer can't be read".to_owned(),
        retry_after: None,
    };
    let object: Object<'_> = serde_json::from_str(body).map_err(|_| unreadable())?;
    let data = object
        .data
        .filter(|_| object.type_.starts_with("certmon.dev/"))
        .unwrap_or_default();
    let values = data
        .into_iter()
        .map(|(key, text)| {
            let bytes = base64::engine::general_purpose::STANDARD.decode(text.as_bytes());
            bytes
                .map(|bytes| (key, Zeroizing::new(bytes)))
                .map_err(|_| unreadable())
        })
        .collect::<Result<_, _>>()?;
    Ok(SinkSecret {
        values,
        type_: object.type_,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use base64::{Engine, engine::general_purpose::STANDARD};

    fn body(type_: &str, values: &[(&str, Vec<u8>)]) -> String {
        let data: BTreeMap<_, _> = values
            .iter()
            .map(|(key, value)| (*key, STANDARD.encode(value)))
            .collect();
        json!({"type": type_, "data": data}).to_string()
    }

    #[test]
    fn a_large_value_of_a_sinks_secret_is_there_whole() {
        let large = vec![b'x'; 300 * 1024];
        let secret = sink_secret(&body(
            "certmon.dev/webhook",
            &[("ca.crt", large.clone()), ("url", vec![])],
        ));
        let values = secret.map(|secret| secret.values).unwrap_or_default();
        assert!(values.get("ca.crt").is_some_and(|value| **value == large));
        assert!(values.get("url").is_some_and(|value| value.is_empty()));
    }

    #[test]
    fn of_another_secret_nothing_but_its_type_is_taken() {
        let secret = sink_secret(&body("kubernetes.io/tls", &[("tls.key", vec![1])]));
        let secret = secret.map(|secret| (secret.type_, secret.values.len()));
        assert_eq!(secret, Ok(("kubernetes.io/tls".to_owned(), 0)));
    }

    #[test]
    fn an_answer_that_was_cut_short_is_no_missing_secret() {
        for body in [
            "",
            "{",
            r#"{"type":"certmon.dev/slack","data":{"token":"a"#,
            r#"{"type":"certmon.dev/slack","data":{"token":"%"}}"#,
        ] {
            let failure = sink_secret(body).err();
            assert!(
                matches!(failure, Some(ApiFailure::Unavailable { .. })),
                "{body}: {failure:?}"
            );
        }
    }
}
