//! What the ledger remembers of a dialled place over a restart.

use super::{Dialled, RECOVERY, Seen, Served};
use crate::{
    certificate::{Certificate, Fingerprint},
    finding::Facts,
    hash::ShortHash,
    ledger::{LastSeen, SeenCertificate},
};
use chrono::{DateTime, Utc};
use std::{collections::BTreeMap, net::SocketAddr, sync::Arc};

/// A chain as the ledger remembers it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Remembered {
    /// The leaf.
    pub leaf: RememberedCertificate,
    /// The intermediates that a path needs.
    pub intermediates: Vec<RememberedCertificate>,
}

/// A certificate as the ledger remembers it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RememberedCertificate {
    /// SHA-256 of its DER encoding.
    pub fingerprint: Fingerprint,
    /// [`Certificate::member`].
    pub member: ShortHash,
    /// Valid from.
    pub not_before: DateTime<Utc>,
    /// Valid until.
    pub not_after: DateTime<Utc>,
    /// What is said of it, with an empty message.
    pub facts: Facts,
}

impl Dialled {
    /// A place as the ledger remembers it: by address (`IP:PORT`), with what is said by hash. `unreachable`: an alert
    /// says that it doesn't answer, so that two looks must succeed before anything there counts as judged.
    #[must_use]
    pub fn restore(
        seen: &BTreeMap<String, LastSeen>,
        facts: &BTreeMap<ShortHash, Facts>,
        unreachable: bool,
        now: DateTime<Utc>,
    ) -> Self {
        let mut dialled = Self {
            recovering: if unreachable { RECOVERY } else { 0 },
            ..Self::default()
        };
        for (address, last) in seen {
            let Ok(address) = address.parse::<SocketAddr>() else {
                continue;
            };
            let remembered = Remembered {
                leaf: RememberedCertificate::of(&last.leaf, facts),
                intermediates: last
                    .intermediates
                    .iter()
                    .map(|one| RememberedCertificate::of(one, facts))
                    .collect(),
            };
            dialled.update(address, |address| {
                address.seen = Some(Box::new(Seen::Remembered(remembered)));
            });
        }
        if unreachable || !dialled.addresses.is_empty() {
            dialled.base = Some(now);
        }
        dialled
    }

    /// What the ledger must remember. `intern` puts facts into the ledger, once, and returns their key.
    pub fn remember(&self, intern: &mut dyn FnMut(&Facts) -> ShortHash) -> BTreeMap<String, LastSeen> {
        self.seen()
            .map(|(address, seen)| (address.to_string(), seen.remember(intern)))
            .collect()
    }

    /// What [`Self::remember`] depends on.
    pub(super) fn identity(&self) -> Vec<(SocketAddr, Vec<Fingerprint>)> {
        self.seen()
            .map(|(address, seen)| (address, seen.fingerprints()))
            .collect()
    }
}

impl Seen {
    pub(super) fn leaf_not_after(&self) -> DateTime<Utc> {
        match self {
            Self::Served(served) => served.chain.leaf.not_after,
            Self::Remembered(remembered) => remembered.leaf.not_after,
        }
    }

    fn fingerprints(&self) -> Vec<Fingerprint> {
        match self {
            Self::Served(served) => std::iter::once(&served.chain.leaf)
                .chain(served.needed())
                .map(|one| one.fingerprint)
                .collect(),
            Self::Remembered(remembered) => std::iter::once(&remembered.leaf)
                .chain(&remembered.intermediates)
                .map(|one| one.fingerprint)
                .collect(),
        }
    }

    fn remember(&self, intern: &mut dyn FnMut(&Facts) -> ShortHash) -> LastSeen {
        match self {
            Self::Served(served) => LastSeen {
                leaf: of_certificate(&served.chain.leaf, intern),
                intermediates: served.needed().map(|one| of_certificate(one, intern)).collect(),
            },
            Self::Remembered(remembered) => LastSeen {
                leaf: remembered.leaf.seen(intern),
                intermediates: remembered.intermediates.iter().map(|one| one.seen(intern)).collect(),
            },
        }
    }
}

impl Served {
    /// The intermediates whose end would break something: only they are remembered, so that a restart, which knows of no
    /// paths, finds no more than was true before it.
    fn needed(&self) -> impl Iterator<Item = &Arc<Certificate>> {
        let is_needed = |one: &&Arc<Certificate>| !one.self_signed && !self.dispensable.contains(&one.fingerprint);
        self.chain.intermediates.iter().filter(is_needed)
    }
}

impl RememberedCertificate {
    fn of(seen: &SeenCertificate, facts: &BTreeMap<ShortHash, Facts>) -> Self {
        // The ledger may have lost the words to its size; the dates it has.
        let facts = facts.get(&seen.facts).cloned().unwrap_or_else(|| Facts {
            fingerprint: Some(seen.fingerprint),
            not_before: Some(seen.not_before),
            not_after: Some(seen.not_after),
            ..Facts::default()
        });
        Self {
            fingerprint: seen.fingerprint,
            member: seen.member,
            not_before: seen.not_before,
            not_after: seen.not_after,
            facts,
        }
    }

    fn seen(&self, intern: &mut dyn FnMut(&Facts) -> ShortHash) -> SeenCertificate {
        SeenCertificate {
            fingerprint: self.fingerprint,
            member: self.member,
            not_before: self.not_before,
            not_after: self.not_after,
            facts: intern(&self.facts),
        }
    }
}

fn of_certificate(one: &Certificate, intern: &mut dyn FnMut(&Facts) -> ShortHash) -> SeenCertificate {
    SeenCertificate {
        fingerprint: one.fingerprint,
        member: one.member(),
        not_before: one.not_before,
        not_after: one.not_after,
        facts: intern(&one.facts(String::new())),
    }
}
