//! The one door out: resolve once, classify every address in binary form, dial the vetted address.
//!
//! Every socket that a tenant can influence is opened here. A [`Vetted`] address can be made only by
//! [`Egress::resolve`], so nothing that was refused can be dialled, and no name is resolved a second time between the
//! check and the dial. Refusals look the same whatever is behind them, and not one packet goes to a refused address.
//! No proxy is read from the environment, and nothing here speaks a protocol that could redirect.

pub mod classify;
mod dial;
mod failure;
mod lanes;
mod policy;
mod resolve;
mod stream;

pub use dial::{CONNECT_TIMEOUT, Egress, Turn};
pub use failure::{ConnectError, Denied, DialError};
pub use policy::{Limits, OwnAddresses, Policy, PolicyError};
pub use resolve::{MOST_ADDRESSES, RESOLVE_TIMEOUT, Resolver, ResolverError};
pub use stream::{MOST_READ, Stream};

use certmon_core::{
    place::Host,
    target::{Provenance, Purpose},
};
use std::{net::SocketAddr, sync::Arc};

/// Who wants to go where, for what, and on whose word.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Request {
    /// The namespace on whose behalf: the policy and the shares of bounds are by namespace.
    pub namespace: Box<str>,
    /// What the connection is for. Ports are allowed by purpose.
    pub purpose: Purpose,
    /// Who vouches for the address. A sink is always free text, whatever stands here.
    pub provenance: Provenance,
    /// A DNS name (resolved as fully qualified, never with a search domain) or an IP literal (vetted like any answer).
    pub host: Host,
    /// The TCP port.
    pub port: u16,
}

/// An address that the policy permits for a [`Request`]. Only [`Egress::resolve`] makes one; the policy is asked again
/// when it is dialled, since an admin may have withdrawn it meanwhile.
#[derive(Clone, Debug)]
pub struct Vetted {
    pub(crate) address: SocketAddr,
    pub(crate) request: Arc<Request>,
}

impl Vetted {
    /// What will be dialled. An address that was dialled may be named to people; one that was refused never is.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

/// What a request's host resolved to.
#[derive(Clone, Debug)]
pub struct Resolved {
    /// Permitted addresses, 1–16, in the order of the answer, IPv4 before IPv6.
    pub addresses: Vec<Vetted>,
    /// Addresses of the answer that the policy refuses: left out, and not told.
    pub refused: usize,
}
