//! What the API server was asked, by whom, and what it answered: its audit log.

use std::fs::File;
use std::io::{BufRead as _, BufReader, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use serde::Deserialize;
use serde_json::Value;

/// How much of a request the API server writes down.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AuditLevel {
    /// Who, what, when and the outcome: for measurements.
    Metadata,
    /// The bodies too.
    RequestResponse,
}

impl AuditLevel {
    /// The policy file: everything, but not what the control plane asks of itself.
    pub(crate) fn policy(self) -> Value {
        serde_json::json!({
            "apiVersion": "audit.k8s.io/v1",
            "kind": "Policy",
            "omitStages": ["RequestReceived"],
            "omitManagedFields": true,
            "rules": [
                { "level": "None", "users": ["system:apiserver", "system:kube-controller-manager"] },
                { "level": "None", "nonResourceURLs": ["/readyz*", "/healthz*", "/livez*"] },
                { "level": match self { Self::Metadata => "Metadata", Self::RequestResponse => "RequestResponse" } },
            ],
        })
    }
}

/// One line of the log. A watch has two: `ResponseStarted`, and `ResponseComplete` when it ends.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AuditEvent {
    /// `ResponseStarted`, `ResponseComplete` or `Panic`.
    pub stage: String,
    /// The path with its query.
    #[serde(rename = "requestURI")]
    pub request_uri: String,
    /// `get`, `list`, `watch`, `create`, `update`, `patch`, `delete` …
    pub verb: String,
    /// Who asked.
    pub user: AuditUser,
    /// The client's User-Agent; the operator's is `certmon/VERSION`.
    #[serde(default)]
    pub user_agent: String,
    /// What it was about; absent for `/healthz` and the like.
    #[serde(default)]
    pub object_ref: Option<AuditObject>,
    /// The outcome; absent while a watch runs.
    #[serde(default)]
    pub response_status: Option<AuditStatus>,
    /// The request's body, at [`AuditLevel::RequestResponse`].
    #[serde(default)]
    pub request_object: Option<Value>,
    /// The response's body, at [`AuditLevel::RequestResponse`].
    #[serde(default)]
    pub response_object: Option<Value>,
}

/// The user of an [`AuditEvent`].
#[derive(Debug, Clone, Deserialize)]
pub struct AuditUser {
    /// `system:serviceaccount:NAMESPACE:NAME` for a ServiceAccount.
    #[serde(default)]
    pub username: String,
}

/// The object of an [`AuditEvent`].
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct AuditObject {
    /// Plural, lower case.
    pub resource: String,
    /// Empty where there is none.
    pub subresource: String,
    /// Empty for the core group.
    pub api_group: String,
    /// Empty for cluster-scoped objects and for lists over all namespaces.
    pub namespace: String,
    /// Empty for lists.
    pub name: String,
}

/// The outcome of an [`AuditEvent`].
#[derive(Debug, Clone, Deserialize)]
pub struct AuditStatus {
    /// The HTTP status.
    #[serde(default)]
    pub code: u16,
}

impl AuditEvent {
    /// The HTTP status; 0 while there is none.
    pub fn code(&self) -> u16 {
        self.response_status.as_ref().map_or(0, |status| status.code)
    }

    /// Whether it asked for a change.
    pub fn is_write(&self) -> bool {
        !matches!(self.verb.as_str(), "get" | "list" | "watch")
    }
}

/// The audit log of a control plane. Lines come just after the answer went out, so wait for those that must be there.
#[derive(Debug, Clone)]
pub struct AuditLog {
    path: PathBuf,
}

impl AuditLog {
    pub(crate) fn new(path: PathBuf) -> Self {
        Self { path }
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The present end of the log, to read on [`since`](Self::since) it.
    ///
    /// # Errors
    /// When the file can't be read.
    pub fn mark(&self) -> Result<u64> {
        Ok(std::fs::metadata(&self.path)
            .with_context(|| self.path.display().to_string())?
            .len())
    }

    /// The events written since `mark` that `wanted` accepts. A last line that is still being written is left for later.
    ///
    /// # Errors
    /// When the file can't be read, or holds something else than audit events.
    pub fn since(&self, mark: u64, wanted: impl Fn(&AuditEvent) -> bool) -> Result<Vec<AuditEvent>> {
        let mut file = File::open(&self.path).with_context(|| self.path.display().to_string())?;
        file.seek(SeekFrom::Start(mark))?;
        let mut reader = BufReader::new(file);
        let mut events = Vec::new();
        let mut line = String::new();
        while reader.read_line(&mut line)? > 0 && line.ends_with('\n') {
            let event: AuditEvent = serde_json::from_str(&line).with_context(|| format!("audit line {line:.200}"))?;
            if wanted(&event) {
                events.push(event);
            }
            line.clear();
        }
        Ok(events)
    }
}
