//! A certificate to judge by its dates: parsed, or remembered by the ledger.

use crate::{
    certificate::{Certificate, Fingerprint, Placeholder},
    dial::{RememberedCertificate, Seen},
    finding::Facts,
    hash::ShortHash,
    place::Role,
};
use chrono::{DateTime, TimeDelta, Utc};

#[derive(Clone, Copy)]
pub(super) enum Subject<'a> {
    Parsed(&'a Certificate),
    Remembered(&'a RememberedCertificate),
}

impl<'a> Subject<'a> {
    /// The leaf and the intermediates of what an address served last.
    pub(super) fn of_seen(seen: &'a Seen) -> (Self, Vec<Self>) {
        match seen {
            Seen::Served(one) => (
                Self::Parsed(&one.chain.leaf),
                one.chain.intermediates.iter().map(|one| Self::Parsed(one)).collect(),
            ),
            Seen::Remembered(one) => (
                Self::Remembered(&one.leaf),
                one.intermediates.iter().map(Self::Remembered).collect(),
            ),
        }
    }

    pub(super) fn not_before(self) -> DateTime<Utc> {
        match self {
            Self::Parsed(one) => one.not_before,
            Self::Remembered(one) => one.not_before,
        }
    }

    pub(super) fn not_after(self) -> DateTime<Utc> {
        match self {
            Self::Parsed(one) => one.not_after,
            Self::Remembered(one) => one.not_after,
        }
    }

    pub(super) fn lifetime(self) -> TimeDelta {
        (self.not_after() - self.not_before()).max(TimeDelta::zero())
    }

    pub(super) fn fingerprint(self) -> Fingerprint {
        match self {
            Self::Parsed(one) => one.fingerprint,
            Self::Remembered(one) => one.fingerprint,
        }
    }

    pub(super) fn member(self) -> ShortHash {
        match self {
            Self::Parsed(one) => one.member(),
            Self::Remembered(one) => one.member,
        }
    }

    pub(super) fn member_role(self) -> Role {
        Role::Member(self.member())
    }

    /// A root among the intermediates: its end is the anchor's affair. What is remembered doesn't say.
    pub(super) fn is_root(self) -> bool {
        matches!(self, Self::Parsed(one) if one.self_signed)
    }

    pub(super) fn placeholder(self) -> Option<Placeholder> {
        match self {
            Self::Parsed(one) => one.placeholder,
            Self::Remembered(one) => one
                .facts
                .issuer
                .as_ref()
                .and_then(|name| Placeholder::by_name(name.as_str())),
        }
    }

    pub(super) fn name(self) -> String {
        match self {
            Self::Parsed(one) => one.name.to_string(),
            Self::Remembered(one) => one
                .facts
                .name
                .as_ref()
                .map_or_else(|| one.fingerprint.to_string(), ToString::to_string),
        }
    }

    pub(super) fn facts(self, message: String) -> Facts {
        match self {
            Self::Parsed(one) => one.facts(message),
            Self::Remembered(one) => Facts {
                message,
                ..one.facts.clone()
            },
        }
    }
}
