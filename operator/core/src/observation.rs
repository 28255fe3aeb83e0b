//! What was seen: in a Secret's value, or at an address. Facts and verdicts; judging them by a monitor's policy comes
//! later and needs no bytes any more.

use crate::certificate::Certificate;
use std::sync::Arc;

/// The most intermediates that are kept of a chain.
pub const MAX_INTERMEDIATES: usize = 15;

/// A leaf and what stands or is sent beside it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chain {
    /// The certificate that is no issuer of another.
    pub leaf: Arc<Certificate>,
    /// The rest, without duplicates, in the order in which they came; at most 15.
    pub intermediates: Vec<Arc<Certificate>>,
    /// More came than are kept: a path can't be judged.
    pub cut: bool,
}

/// What a value holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Content {
    /// No certificate.
    #[default]
    Nothing,
    /// One leaf with its issuers.
    Chain(Chain),
    /// Certificates that don't form one chain, such as a CA bundle: each is judged by itself.
    Set(Vec<SetMember>),
}

impl Content {
    /// Every certificate that was read, the leaf of a chain first.
    pub fn certificates(&self) -> impl Iterator<Item = &Arc<Certificate>> {
        let (chain, members) = match self {
            Self::Nothing => (None, None),
            Self::Chain(chain) => (Some(chain), None),
            Self::Set(members) => (None, Some(members)),
        };
        let chain = chain
            .into_iter()
            .flat_map(|chain| std::iter::once(&chain.leaf).chain(&chain.intermediates));
        chain.chain(members.into_iter().flatten().map(|member| &member.certificate))
    }

    /// The leaf, where it is a chain.
    #[must_use]
    pub fn leaf(&self) -> Option<&Arc<Certificate>> {
        match self {
            Self::Chain(chain) => Some(&chain.leaf),
            Self::Nothing | Self::Set(_) => None,
        }
    }
}

/// One certificate of a set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SetMember {
    /// The certificate.
    pub certificate: Arc<Certificate>,
    /// A later member of the same subject stands beside it: its end is a fact, not a finding.
    pub superseded: bool,
}

/// What a value of a Secret was read as.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StoredValue {
    /// The certificates that could be read.
    pub content: Content,
    /// Why it isn't what it should be; what could be read is still judged.
    pub fault: Option<DataFault>,
    /// The certificates of `ca.crt` beside a `kubernetes.io/tls` Secret's `tls.crt`: judged by their dates only, and not
    /// at all where they stand in `tls.crt` too; trusted for what an Ingress with this Secret serves.
    pub anchors: Vec<Arc<Certificate>>,
    /// Why that `ca.crt` isn't what it should be.
    pub anchors_fault: Option<DataFault>,
    /// Whether the private key belongs to the leaf; `None` where the monitor doesn't ask.
    pub key: Option<KeyVerdict>,
}

/// What is wrong with a value as data.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum DataFault {
    /// Zero bytes where a certificate must be.
    Empty,
    /// Neither PEM nor DER of a certificate.
    NoCertificate,
    /// Larger than may be read.
    TooLarge,
    /// More certificates than may be read from one value (200).
    TooMany,
    /// A block of several can't be read: so many were, of so many that begin.
    Broken {
        /// Certificates that could be read.
        read: u16,
        /// `BEGIN CERTIFICATE` lines.
        begun: u16,
    },
}

/// Whether a private key belongs to a certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyVerdict {
    /// It does.
    Matches,
    /// It is another's.
    Differs,
    /// There is none.
    Missing,
    /// It can't be read.
    Unreadable,
}

/// Whether a path leads from a leaf to the roots that are trusted, dates aside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PathVerdict {
    /// There is a path.
    Trusted,
    /// There is one only with a signature or key that is too weak.
    TrustedButWeak,
    /// The missing issuer is named by AIA, or the chain has a gap.
    Incomplete,
    /// No path.
    Untrusted,
    /// Nobody to judge by: the trust can't be read, or the chain was cut.
    NotJudged,
}
