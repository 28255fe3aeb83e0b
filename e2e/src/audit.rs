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
        self.next(&mut { mark }, "", wanted)
    }

    /// As [`since`](Self::since), and moves `mark` behind what was read, for whoever looks again and again. Only lines that
    /// hold `part` are looked into: bodies of others' make the log long.
    ///
    /// # Errors
    /// As for [`since`](Self::since).
    pub fn next(&self, mark: &mut u64, part: &str, wanted: impl Fn(&AuditEvent) -> bool) -> Result<Vec<AuditEvent>> {
        let mut file = File::open(&self.path).with_context(|| self.path.display().to_string())?;
        let before = mark.saturating_sub(1);
        file.seek(SeekFrom::Start(before))?;
        let mut reader = BufReader::new(file);
        let mut line = String::new();
        if *mark > 0 {
            // What was half written at the mark was answered before it.
            let rest = reader.read_line(&mut line)?;
            *mark = before + rest as u64;
        }
        let mut events = Vec::new();
        loop {
            line.clear();
            let read = reader.read_line(&mut line)?;
            if read == 0 || !line.ends_with('\n') {
                return Ok(events);
            }
            *mark += read as u64;
            if line.contains(part) {
                let event: AuditEvent =
                    serde_json::from_str(&line).with_context(|| format!("audit line {line:.200}"))?;
                events.extend(Some(event).filter(&wanted));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(verb: &str) -> String {
        format!(r#"{{"stage":"ResponseComplete","requestURI":"/","verb":"{verb}","user":{{}}}}"#) + "\n"
    }

    fn verbs(events: &[AuditEvent]) -> Vec<&str> {
        events.iter().map(|event| event.verb.as_str()).collect()
    }

    #[test]
    fn each_line_is_read_once_and_a_half_one_not_yet() -> Result<()> {
        let folder = tempfile::tempdir()?;
        let log = AuditLog::new(folder.path().join("audit.log"));
        let half = &line("patch")[..20];
        std::fs::write(log.path(), [&*line("get"), &*line("list"), half].concat())?;
        let mut mark = 0;
        assert_eq!(verbs(&log.next(&mut mark, "", |_event| true)?), ["get", "list"]);
        let whole = [&*line("get"), &*line("list"), &*line("patch"), &*line("watch")].concat();
        std::fs::write(log.path(), whole)?;
        assert_eq!(verbs(&log.next(&mut mark, "", AuditEvent::is_write)?), ["patch"]);
        assert!(log.next(&mut mark, "", |_event| true)?.is_empty());
        assert_eq!(verbs(&log.next(&mut 0, "\"list\"", |_event| true)?), ["list"]);
        // A mark in the middle of a line: that line is none of its reader's.
        assert_eq!(verbs(&log.since(10, |_event| true)?), ["list", "patch", "watch"]);
        Ok(())
    }
}
