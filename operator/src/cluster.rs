//! The seam to the API server, for everything but watching: the ledger, the status, Events, sinks' Secrets.

use certmon_core::ledger::Ledger;
use certmon_crd::CertificateMonitorStatus;
use certmon_notify::SinkSecret;
use chrono::{DateTime, Utc};
use futures::future::BoxFuture;
use std::{fmt, sync::Arc, time::Duration};

/// Namespace and name of an object, shared: thousands of objects have one namespace, and each name stands in several places.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Key {
    /// The namespace.
    pub namespace: Arc<str>,
    /// The name.
    pub name: Arc<str>,
}

impl Key {
    /// Of a namespace and a name.
    #[must_use]
    pub fn new(namespace: &str, name: &str) -> Self {
        Self {
            namespace: namespace.into(),
            name: name.into(),
        }
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A monitor as one object among those that had its name.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct MonitorRef {
    /// Namespace and name.
    pub key: Key,
    /// The object's uid: a monitor that is made again is another one.
    pub uid: Box<str>,
}

/// A ledger as the API server has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LedgerObject {
    /// The object's uid.
    pub uid: String,
    /// For compare-and-swap.
    pub resource_version: String,
    /// The uid of the monitor that owns it; another one is taken over by the next write.
    pub owner_uid: Option<String>,
    /// Its content.
    pub ledger: Ledger,
}

/// Why the API server didn't do what was asked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ApiFailure {
    /// 409: somebody else was faster, or the object exists.
    #[error("conflict")]
    Conflict,
    /// 404.
    #[error("not found")]
    NotFound,
    /// 401 or 403.
    #[error("forbidden")]
    Forbidden,
    /// 400 or 422: the server refuses the object.
    #[error("invalid: {0}")]
    Invalid(String),
    /// 500: the server fails over this request, as over a stored object that isn't of its schema's types.
    #[error("the API server failed (HTTP 500)")]
    Internal,
    /// The ledger's schema is newer than this program.
    #[error("the ledger has schema version {0}, which this version of certmon does not know")]
    NewerLedger(i64),
    /// 429, other 5xx, no connection, no answer in time.
    #[error("unavailable: {reason}")]
    Unavailable {
        /// In short.
        reason: String,
        /// The server asked for so long a pause.
        retry_after: Option<Duration>,
    },
}

/// An Event of a monitor (events.k8s.io/v1), a transition of something.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EventNote {
    /// When.
    pub at: DateTime<Utc>,
    /// Something is wrong.
    pub warning: bool,
    /// The reason, of the closed list.
    pub reason: String,
    /// What was done: Select, Evaluate, Notify, Read, Configure.
    pub action: &'static str,
    /// For people; at most 1,024 bytes.
    pub note: String,
    /// The object that it is about, in the monitor's namespace: kind and name.
    pub related: Option<(&'static str, String)>,
    /// It is published on that object too, for those who look there.
    pub mirrored: Option<Mirrored>,
}

/// The object that an Event is published on beside the monitor is [`EventNote::related`]; this is what else its reference needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mirrored {
    /// The object's uid, by which `kubectl describe` finds its Events; of a Secret, whose Events it doesn't show, none is known.
    pub uid: Option<Box<str>>,
}

/// The seam.
pub trait Cluster: Send + Sync {
    /// Reads a monitor's ledger afresh.
    fn ledger_get<'a>(&'a self, monitor: &'a MonitorRef) -> BoxFuture<'a, Result<Option<LedgerObject>, ApiFailure>>;

    /// Writes a monitor's ledger: creates it where `expected` is `None`, else replaces the version that `expected` names.
    fn ledger_put<'a>(
        &'a self,
        monitor: &'a MonitorRef,
        ledger: &'a Ledger,
        expected: Option<&'a LedgerObject>,
    ) -> BoxFuture<'a, Result<LedgerObject, ApiFailure>>;

    /// Writes a monitor's status.
    fn status_apply<'a>(
        &'a self,
        monitor: &'a MonitorRef,
        status: &'a CertificateMonitorStatus,
    ) -> BoxFuture<'a, Result<(), ApiFailure>>;

    /// Publishes an Event about a monitor. A failure costs the Event, nothing else.
    fn event<'a>(&'a self, monitor: &'a MonitorRef, note: &'a EventNote) -> BoxFuture<'a, Result<(), ApiFailure>>;

    /// Reads a sink's Secret.
    fn sink_secret_get<'a>(
        &'a self,
        namespace: &'a str,
        name: &'a str,
    ) -> BoxFuture<'a, Result<Option<SinkSecret>, ApiFailure>>;
}
