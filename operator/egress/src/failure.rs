//! Why a way out was not taken, as closed enums: nothing of a peer's or a resolver's own words is kept.

use certmon_core::target::ProbeFailure;
use std::{io, net::IpAddr};

/// Why a host yields nothing to dial.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum Denied {
    /// The policy refuses every address of the host, or the port. Never says which, nor what is behind it.
    #[error("the address or port is not permitted by the egress policy")]
    NotPermitted,
    /// NXDOMAIN, or a name without A and AAAA records.
    #[error("the name has no address record")]
    NoRecord,
    /// The resolver didn't answer in 3 s, or answered with a failure.
    #[error("the name could not be resolved: the resolver failed")]
    ResolverFailed,
}

/// Why a vetted address could not be dialled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum DialError {
    /// The policy was changed after the address was vetted, and refuses it now.
    #[error("the address or port is not permitted by the egress policy")]
    NotPermitted,
    /// Nobody listens.
    #[error("connection refused")]
    Refused,
    /// No answer within 5 s or by the deadline.
    #[error("timed out")]
    TimedOut,
    /// Reset while connecting.
    #[error("connection closed")]
    Closed,
    /// No route to the address.
    #[error("no route to the address")]
    NoRoute,
    /// The bounds of concurrency or rate left no turn before the deadline: not the peer's fault.
    #[error("too many connections at once")]
    Busy,
    /// No socket, descriptor or local port left.
    #[error("the operator could not open a connection")]
    Local,
}

impl DialError {
    pub(crate) fn of(error: &io::Error, ip: IpAddr) -> Self {
        // EAFNOSUPPORT and, for IPv6, EADDRNOTAVAIL: a node without that family. The first has no kind of its own.
        const EAFNOSUPPORT: i32 = 97;
        match error.kind() {
            io::ErrorKind::ConnectionRefused => Self::Refused,
            io::ErrorKind::ConnectionReset | io::ErrorKind::ConnectionAborted | io::ErrorKind::BrokenPipe => {
                Self::Closed
            }
            io::ErrorKind::TimedOut => Self::TimedOut,
            // PermissionDenied is how a local packet filter says no.
            io::ErrorKind::HostUnreachable
            | io::ErrorKind::NetworkUnreachable
            | io::ErrorKind::NetworkDown
            | io::ErrorKind::PermissionDenied => Self::NoRoute,
            io::ErrorKind::AddrNotAvailable if ip.is_ipv6() => Self::NoRoute,
            _ if error.raw_os_error() == Some(EAFNOSUPPORT) => Self::NoRoute,
            _ => Self::Local,
        }
    }
}

/// Why [`crate::Egress::connect`] gave no stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum ConnectError {
    /// There is nothing to dial.
    #[error(transparent)]
    Denied(#[from] Denied),
    /// No address could be dialled; of several failures the last.
    #[error(transparent)]
    Dial(#[from] DialError),
}

impl From<Denied> for ProbeFailure {
    fn from(denied: Denied) -> Self {
        match denied {
            Denied::NotPermitted => Self::NotPermitted,
            Denied::NoRecord => Self::NoRecord,
            Denied::ResolverFailed => Self::ResolverFailed,
        }
    }
}

impl From<DialError> for ProbeFailure {
    fn from(error: DialError) -> Self {
        match error {
            DialError::NotPermitted => Self::NotPermitted,
            DialError::Refused => Self::Refused,
            DialError::TimedOut => Self::TimedOut,
            DialError::Closed => Self::Closed,
            DialError::NoRoute => Self::NoRoute,
            DialError::Busy | DialError::Local => Self::Local,
        }
    }
}

impl From<ConnectError> for ProbeFailure {
    fn from(error: ConnectError) -> Self {
        match error {
            ConnectError::Denied(denied) => denied.into(),
            ConnectError::Dial(error) => error.into(),
        }
    }
}
