//! Issuers and strength: is there a path to whom the monitor trusts, and is any of it too weak?

use super::Case;
use crate::{
    certificate::Certificate,
    finding::{Finding, Hold},
    observation::{Chain, PathVerdict},
    place::Role,
};

/// `UntrustedIssuer`, `IncompleteChain`.
pub(super) fn path(case: &mut Case<'_>, chain: &Chain, path: Option<PathVerdict>) {
    let Some(severity) = case.policy.checks.chain else {
        return;
    };
    let top = top(chain);
    let (finding, message) = match path {
        Some(PathVerdict::Untrusted) if top.self_signed && std::ptr::eq(top, chain.leaf.as_ref()) => (
            Finding::UntrustedIssuer,
            "is self-signed, and is not trusted".to_owned(),
        ),
        Some(PathVerdict::Untrusted) => (
            Finding::UntrustedIssuer,
            format!("has no path to a trusted root; its chain ends at issuer {}", top.issuer),
        ),
        Some(PathVerdict::Incomplete) => (
            Finding::IncompleteChain,
            format!(
                "has an incomplete chain: the certificate of issuer {} is missing",
                top.issuer
            ),
        ),
        Some(PathVerdict::Trusted | PathVerdict::TrustedButWeak | PathVerdict::NotJudged) | None => return,
    };
    case.add(finding, severity, Role::Leaf, chain.leaf.facts(message), Hold::No);
}

/// The last certificate that names lead to from the leaf.
fn top(chain: &Chain) -> &Certificate {
    let mut top: &Certificate = &chain.leaf;
    // Names may go in circles: no further than there are certificates.
    for _ in &chain.intermediates {
        let issuer = chain.intermediates.iter().find(|one| one.subject_id == top.issuer_id);
        match issuer {
            Some(issuer) if !top.self_signed => top = issuer,
            _ => break,
        }
    }
    top
}

/// `WeakCrypto` of one certificate.
pub(super) fn weak(case: &mut Case<'_>, one: &Certificate, role: Role) {
    let Some(severity) = case.policy.checks.weak_crypto else {
        return;
    };
    let Some(weakness) = one.weakness else { return };
    let message = match role {
        Role::Leaf => format!("has weak cryptography: {weakness}"),
        Role::Member(_) => format!("has weak cryptography in certificate {}: {weakness}", one.name),
    };
    case.add(Finding::WeakCrypto, severity, role, one.facts(message), Hold::No);
}

/// `WeakCrypto` of a path whose weakness is in none of the certificates that are shown.
pub(super) fn weak_path(case: &mut Case<'_>, chain: &Chain, path: Option<PathVerdict>) {
    let shown = std::iter::once(&chain.leaf).chain(&chain.intermediates);
    if path != Some(PathVerdict::TrustedButWeak) || shown.into_iter().any(|one| one.weakness.is_some()) {
        return;
    }
    let Some(severity) = case.policy.checks.weak_crypto else {
        return;
    };
    let message = "has weak cryptography: only a path with a weak root leads to whom the monitor trusts".to_owned();
    case.add(
        Finding::WeakCrypto,
        severity,
        Role::Leaf,
        chain.leaf.facts(message),
        Hold::No,
    );
}
