//! What is wrong with a value as data: not readable, not there, a stand-in, another's key.

use super::{Case, StoredExpectation, subject::Subject};
use crate::{
    bundle::{MAX_CERTIFICATES, MAX_VALUE_BYTES},
    certificate::Certificate,
    finding::{Facts, Finding, Hold, Sighting},
    observation::{Content, DataFault, KeyVerdict, StoredValue},
    place::{Place, Role},
    policy::Policy,
    text::PeerText,
};
use chrono::{DateTime, Utc};
use std::{fmt, sync::Arc};

/// `BadCertificateData`. Nothing of the value is quoted.
pub(super) fn faults(case: &mut Case<'_>, value: &StoredValue, expected: &StoredExpectation) {
    let searched = !expected.named && value.content == Content::Nothing;
    if let Some(fault) = value.fault.filter(|_| !searched) {
        add(case, fault, "");
    }
    if let Some(fault) = value.anchors_fault.filter(|_| expected.with_anchors) {
        add(case, fault, "has a ca.crt beside it that ");
    }
}

fn add(case: &mut Case<'_>, fault: DataFault, prefix: &str) {
    let Some(severity) = case.policy.checks.parse else {
        return;
    };
    let text = match fault {
        DataFault::Empty => "is empty, where a certificate must be".to_owned(),
        DataFault::NoCertificate => "holds no certificate that can be read as PEM or DER".to_owned(),
        DataFault::TooLarge => format!(
            "is too large to be read: a value may have {MAX_VALUE_BYTES} bytes, a certificate {}",
            Certificate::MAX_BYTES
        ),
        DataFault::TooMany => {
            format!("holds more than {MAX_CERTIFICATES} certificates; those past the limit are not checked")
        }
        DataFault::Broken { read, begun } => format!("is broken: {read} of {begun} certificates in it can be read"),
    };
    let facts = Facts {
        message: format!("{prefix}{text}"),
        ..Facts::default()
    };
    // An empty value is mostly one that a controller is about to fill.
    let hold = if fault == DataFault::Empty {
        Hold::Grace
    } else {
        Hold::No
    };
    case.add(Finding::BadCertificateData, severity, Role::Leaf, facts, hold);
}

/// `PlaceholderCertificate`; such a leaf gets this finding alone.
pub(super) fn is_placeholder(case: &mut Case<'_>, leaf: Subject<'_>, verb: &str, hold: Hold) -> bool {
    let (Some(severity), Some(placeholder)) = (case.policy.checks.placeholder, leaf.placeholder()) else {
        return false;
    };
    let facts = leaf.facts(format!("{verb} {placeholder}, a stand-in for the real one"));
    case.add(Finding::PlaceholderCertificate, severity, Role::Leaf, facts, hold);
    true
}

/// `KeyMismatch`.
pub(super) fn key(case: &mut Case<'_>, value: &StoredValue, leaf: &Certificate) {
    let Some(severity) = case.policy.checks.key_match else {
        return;
    };
    let message = match value.key {
        Some(KeyVerdict::Differs) => "has a private key beside it that is another certificate's",
        Some(KeyVerdict::Unreadable) => "has a private key beside it that cannot be read",
        Some(KeyVerdict::Missing) => "has no private key beside it",
        Some(KeyVerdict::Matches) | None => return,
    };
    let facts = leaf.facts(message.to_owned());
    case.add(Finding::KeyMismatch, severity, Role::Leaf, facts, Hold::No);
}

/// What of a Secret is missing.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum MissingSecret {
    /// There is no Secret of this name, as far as may be seen.
    Absent,
    /// It is there, with a type that isn't looked at.
    OtherType(PeerText),
    /// It is there, and has no certificate's key; its type, where that explains it.
    WithoutKey(Option<PeerText>),
}

/// Who names a Secret.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum NamedBy {
    /// A source's `names`.
    Monitor,
    /// The Ingress of this name.
    Ingress(Arc<str>),
}

impl fmt::Display for NamedBy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Monitor => f.write_str("the monitor"),
            Self::Ingress(name) => write!(f, "Ingress/{name}"),
        }
    }
}

/// `SecretMissing`: a Secret that an Ingress or a source's `names` names isn't there, or has no certificate's key.
#[must_use]
pub fn assess_missing_secret(
    place: &Place,
    missing: &MissingSecret,
    named_by: &NamedBy,
    policy: &Policy,
    now: DateTime<Utc>,
) -> Vec<Sighting> {
    let mut case = Case::new(place, policy, now);
    if let Some(severity) = policy.checks.secret_missing {
        let what = match missing {
            MissingSecret::Absent => "is not there".to_owned(),
            MissingSecret::OtherType(type_) => format!("exists with type {type_}: list it under `types`"),
            MissingSecret::WithoutKey(None) => "is not in the Secret".to_owned(),
            MissingSecret::WithoutKey(Some(type_)) => format!("is not in the Secret, which exists with type {type_}"),
        };
        let facts = Facts {
            message: format!("is named by {named_by} and {what}"),
            ..Facts::default()
        };
        case.add(Finding::SecretMissing, severity, Role::Leaf, facts, Hold::Grace);
    }
    case.found()
}
