//! Looks at what a TLS server serves, through the one door. The chain is captured without judging it: an expired, untrusted
//! or mis-named certificate is a fact, not a failed handshake.

mod failure;
mod record;
mod tls;

pub use tls::{LONGEST_WAIT, MOST_DIALLED, TlsProbe};

use certmon_core::target::{DialTarget, Look};
use futures::future::BoxFuture;

/// The seam: looks at a target, once, on every address that the target asks for.
pub trait Probe: Send + Sync {
    /// One look. Ends by the target's deadline (per address, addresses side by side, from when the bounds of the policy
    /// give the address its turn) whatever the peer does, and never fails: what went wrong is in the [`Look`].
    fn look(&self, target: DialTarget) -> BoxFuture<'_, Look>;
}
