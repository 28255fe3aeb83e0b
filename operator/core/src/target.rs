//! What is dialled, and on whose word.

use crate::{hash::ShortHash, place::Host};
use std::{net::IpAddr, time::Duration};

/// What a connection is for. Ports are allowed by purpose.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, strum::Display)]
#[strum(serialize_all = "lowercase")]
pub enum Purpose {
    /// Looking at what a server serves.
    Endpoint,
    /// Telling a sink.
    Sink,
}

/// Who vouches for an address. It decides whether private ranges may be dialled without the admin's word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Provenance {
    /// Free text of a tenant: private ranges need the admin's allow.
    FreeText,
    /// The status of an Ingress, written by a controller: private ranges are allowed on 443.
    ObjectStatus,
    /// As [`Self::ObjectStatus`], and the status names this port: private ranges are allowed on it too.
    ObjectStatusPort,
}

/// Which addresses of a name are dialled.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Addresses {
    /// Every address, at most 16; the worst counts.
    #[default]
    All,
    /// The first one.
    First,
}

/// What is dialled for one place.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct DialTarget {
    /// The namespace on whose behalf; the egress policy and the shares of bounds are by namespace.
    pub namespace: Box<str>,
    /// What is resolved and dialled: names by DNS, fully qualified.
    pub hosts: Vec<(Host, u16, Provenance)>,
    /// The server name that is asked for (SNI, RFC 6066 §3; none is sent for an IP address) and judged against.
    pub server_name: Host,
    /// Which addresses of each name.
    pub addresses: Addresses,
    /// The whole of one address's look: connect, handshake. 1–30 s.
    pub timeout: Duration,
}

impl DialTarget {
    /// A stable hash, for the phase in the schedule.
    #[must_use]
    pub fn phase(&self) -> ShortHash {
        let mut parts: Vec<String> = vec![self.namespace.to_string(), self.server_name.to_string()];
        parts.extend(self.hosts.iter().map(|(host, port, _)| format!("{host}:{port}")));
        let parts: Vec<&[u8]> = parts.iter().map(String::as_bytes).collect();
        ShortHash::of(&parts)
    }
}

/// Why a place could not be looked at. A closed enum: nothing of the peer's own words is kept.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize, serde::Deserialize, strum::EnumIter,
)]
#[serde(rename_all = "camelCase")]
pub enum ProbeFailure {
    /// The name has no address record (NXDOMAIN or no data).
    NoRecord,
    /// The resolver did not answer, or answered with a failure.
    ResolverFailed,
    /// Nobody listens: the connection was refused.
    Refused,
    /// No answer in time, at whatever stage.
    TimedOut,
    /// The connection was reset or closed before a certificate came.
    Closed,
    /// No route to the address.
    NoRoute,
    /// The server answered with a TLS alert before its certificate.
    TlsAlert,
    /// The server answers, but not with TLS.
    NotTls,
    /// The server's certificate list is larger than 64 KiB.
    TooLarge,
    /// The certificate that the server sent can't be read.
    BadCertificate,
    /// The egress policy forbids the address or the port. Never says which.
    NotPermitted,
    /// The operator has no socket or descriptor left, or another fault of its own.
    Local,
}

impl ProbeFailure {
    /// What people read; it says nothing about what is behind a forbidden address.
    #[must_use]
    pub fn text(self) -> &'static str {
        match self {
            Self::NoRecord => "the name has no address record",
            Self::ResolverFailed => "the name could not be resolved: the resolver failed",
            Self::Refused => "connection refused",
            Self::TimedOut => "timed out",
            Self::Closed => "connection closed before a certificate came",
            Self::NoRoute => "no route to the address",
            Self::TlsAlert => "the server refused the TLS handshake before it sent a certificate",
            Self::NotTls => "the server answers, but not with TLS",
            Self::TooLarge => "the server's certificate list is larger than 64 KiB",
            Self::BadCertificate => "the server's certificate cannot be read",
            Self::NotPermitted => "the address or port is not permitted by the egress policy",
            Self::Local => "the operator could not open a connection",
        }
    }
}

/// What one address served: the certificate list as it came, leaf first, not judged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServedBytes {
    /// DER encodings, at most 64 KiB together.
    pub chain: Vec<Vec<u8>>,
}

/// One look at a [`DialTarget`]: a value, whatever the world did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Look {
    /// Per address that was dialled. An address that was refused by policy is never named here.
    pub addresses: Vec<(IpAddr, u16, Result<ServedBytes, ProbeFailure>)>,
    /// Per host of the target that yielded no address at all, and why.
    pub unresolved: Vec<(Host, ProbeFailure)>,
    /// Addresses left out: refused by the policy.
    pub refused: usize,
}
