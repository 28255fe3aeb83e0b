//! What is kept of each kind of object, and what a watch says of it.

use super::Wanted;
use crate::cluster::Key;
use certmon_core::{observation::StoredValue, place::Host, trust::Anchors};
use certmon_crd::{CertificateMonitorSpec, CertificateMonitorStatus};
use std::{collections::BTreeMap, net::IpAddr, sync::Arc};

/// Labels of an object, shared between objects that have the same.
pub type Labels = Arc<BTreeMap<String, String>>;

/// Which watch an event came from. `namespace: None` is the whole cluster.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum WatchId {
    /// CertificateMonitors.
    Monitors,
    /// Secrets of one type.
    Secrets {
        /// `metadata.type`.
        type_: Arc<str>,
    },
    /// One Secret, whatever its type: one that an Ingress names.
    Secret(Key),
    /// Ingresses.
    Ingresses,
    /// The object of one trust reference.
    Trust(TrustKind, Key),
    /// Metadata of the Secrets of one sink type.
    SinkSecrets {
        /// `certmon.dev/slack` and its like.
        type_: Box<str>,
    },
}

impl WatchId {
    /// The kind of what is watched, for metrics.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Monitors => "CertificateMonitor",
            Self::Secrets { .. } | Self::Secret(_) | Self::SinkSecrets { .. } | Self::Trust(TrustKind::Secret, _) => {
                "Secret"
            }
            Self::Ingresses => "Ingress",
            Self::Trust(TrustKind::ConfigMap, _) => "ConfigMap",
        }
    }
}

/// What a trust reference points at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum TrustKind {
    /// A ConfigMap.
    ConfigMap,
    /// A Secret.
    Secret,
}

/// How a watch is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum WatchState {
    /// Listing and watching.
    Working,
    /// The API server says 403: the right is missing.
    Forbidden,
    /// The kind isn't installed, or the API server doesn't answer.
    Unavailable,
}

/// A CertificateMonitor as stored.
#[derive(Clone, Debug, PartialEq)]
pub struct Monitor {
    /// Namespace and name.
    pub key: Key,
    /// The object's uid.
    pub uid: Box<str>,
    /// The spec's generation.
    pub generation: i64,
    /// The spec, or why it can't be read.
    pub spec: Result<Arc<CertificateMonitorSpec>, String>,
    /// `certmon.dev/check-requested-at`.
    pub check_requested: Option<String>,
    /// `certmon.dev/test-requested-at`.
    pub test_requested: Option<String>,
    /// The status as stored; `None` too where it can't be read.
    pub status: Option<Box<CertificateMonitorStatus>>,
}

impl Monitor {
    /// Nothing but the status differs.
    #[must_use]
    pub fn asks_the_same(&self, other: &Self) -> bool {
        let Self {
            key,
            uid,
            generation,
            spec,
            check_requested,
            test_requested,
            status: _,
        } = self;
        *key == other.key
            && *uid == other.uid
            && *generation == other.generation
            && *spec == other.spec
            && *check_requested == other.check_requested
            && *test_requested == other.test_requested
    }
}

/// A Secret, as far as it holds certificates.
#[derive(Clone, Debug, PartialEq)]
pub struct StoredSecret {
    /// Namespace and name.
    pub key: Key,
    /// The Secret's type.
    pub type_: Arc<str>,
    /// Its labels.
    pub labels: Labels,
    /// What the wanted keys that are there hold, by key.
    pub values: Box<[(Arc<str>, Arc<StoredValue>)]>,
}

/// An Ingress, as far as TLS concerns it (networking.k8s.io/v1).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ingress {
    /// Namespace and name.
    pub key: Key,
    /// The object's uid.
    pub uid: Box<str>,
    /// Its labels.
    pub labels: Labels,
    /// `spec.tls`.
    pub tls: Vec<IngressTls>,
    /// `spec.rules[].host`.
    pub rule_hosts: Vec<Box<str>>,
    /// `status.loadBalancer.ingress[]` that names an address: IP or host name, and the ports that it names.
    pub addresses: Vec<IngressAddress>,
}

/// An entry of `spec.tls`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IngressTls {
    /// Its hosts; the rules' hosts count where there is none.
    pub hosts: Vec<Box<str>>,
    /// The Secret's name.
    pub secret: Option<Box<str>>,
}

/// An address in an Ingress's status.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct IngressAddress {
    /// `ip` or `hostname`.
    pub host: Host,
    /// `ports[].port`; empty mostly.
    pub ports: Vec<u16>,
}

impl IngressAddress {
    /// Its IP address, if it is one.
    #[must_use]
    pub fn ip(&self) -> Option<IpAddr> {
        match self.host {
            Host::Ip(ip) => Some(ip),
            Host::Name(_) => None,
        }
    }
}

/// What a ConfigMap or a Secret that a trust reference names holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TrustObject {
    /// Namespace and name.
    pub key: Key,
    /// The certificates under each key; whatever else stands there is not kept.
    pub values: BTreeMap<Box<str>, Arc<Anchors>>,
}

/// A sink's Secret, of which only this is watched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SinkSecretVersion {
    /// Namespace and name.
    pub key: Key,
    /// uid and resourceVersion: another one is another content.
    pub version: Box<str>,
}

/// What a watch saw.
#[derive(Clone, Debug, PartialEq)]
pub enum Seen {
    /// A monitor.
    Monitor(Box<Monitor>),
    /// A Secret.
    Secret(StoredSecret),
    /// An Ingress.
    Ingress(Ingress),
    /// A trust reference's object.
    Trust(TrustObject),
    /// A sink's Secret.
    SinkSecret(SinkSecretVersion),
}

impl Seen {
    pub(crate) fn key(&self) -> &Key {
        match self {
            Self::Monitor(monitor) => &monitor.key,
            Self::Secret(secret) => &secret.key,
            Self::Ingress(ingress) => &ingress.key,
            Self::Trust(object) => &object.key,
            Self::SinkSecret(version) => &version.key,
        }
    }
}

/// One thing that a watch has to say.
#[derive(Clone, Debug, PartialEq)]
pub enum WorldEvent {
    /// A list of everything (`None`) or of one namespace begins.
    ListBegan(WatchId, Option<Box<str>>),
    /// An object is there, or changed.
    Applied(WatchId, Seen),
    /// An object is gone.
    Deleted(WatchId, Key),
    /// The list is complete: what wasn't in it is gone. With what was asked for when it began.
    ListEnded(WatchId, Option<Box<str>>, Arc<Wanted>),
    /// The watch works, or doesn't.
    State(WatchId, WatchState),
    /// The admin's egress policy is another one: what it refused may be permitted now.
    EgressPolicy,
}
