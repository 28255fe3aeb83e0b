//! Sinks: render a message (pure), and deliver it through the one door.

mod config;
mod door;
mod email;
mod http;
mod secret;
mod sinks;
mod slack;
mod tls;
mod webhook;
mod words;

pub use sinks::{Now, Sinks};

use certmon_core::{
    delivery::{Misconfigured, Outcome, Rung},
    message::Message,
    sink::SinkKind,
};
use futures::future::BoxFuture;
use std::{collections::BTreeMap, time::Duration};
use zeroize::Zeroizing;

/// What a sink's Secret holds. It has neither `Debug` nor `Display`.
#[derive(Clone)]
pub struct SinkSecret {
    /// The Secret's `type`.
    pub type_: String,
    /// Its values, trailing white space not yet cut. Wiped when dropped.
    pub values: BTreeMap<String, Zeroizing<Vec<u8>>>,
}

/// A message, where it goes, and how much patience there is.
#[derive(Clone)]
pub struct Delivery {
    /// The monitor's namespace: the egress policy is by namespace.
    pub namespace: String,
    /// Whom.
    pub kind: SinkKind,
    /// The sink's Secret as read just now; `None` where the sink has none.
    pub secret: Option<SinkSecret>,
    /// What.
    pub message: Message,
    /// How much of it.
    pub rung: Rung,
    /// What earlier messages left to refer to.
    pub thread: BTreeMap<String, String>,
    /// Attempts at this very message whose outcome was ambiguous: timeouts grow (15 → 30 → 60 s).
    pub attempt: u32,
}

/// What is wrong with a sink before anything was sent: which kind of fault, and the sentence with the next step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SinkFault {
    /// The kind.
    pub class: Misconfigured,
    /// For people; names of keys and objects, never a value.
    pub text: String,
}

/// The seam: tells one sink.
pub trait Sink: Send + Sync {
    /// Whether a message could be sent: the Secret's type, keys and values, and the address against the egress policy
    /// (names are resolved, nothing is dialled). `Ok` holds remarks (an unknown key, a channel that is ignored).
    fn check<'a>(
        &'a self,
        namespace: &'a str,
        kind: &'a SinkKind,
        secret: Option<&'a SinkSecret>,
    ) -> BoxFuture<'a, Result<Vec<String>, SinkFault>>;

    /// Delivers, once. Ends by [`Sink::longest_attempt`], and never fails: what went wrong is in the [`Outcome`].
    fn deliver(&self, delivery: Delivery) -> BoxFuture<'_, Outcome>;

    /// The longest that [`Sink::deliver`] takes.
    fn longest_attempt(&self, kind: &SinkKind, attempt: u32) -> Duration;
}

#[cfg(test)]
mod golden;
