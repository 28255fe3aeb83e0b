//! Steps from a certificate to who signed it, with signatures checked at each step, so that a hostile lattice of
//! certificates of one name costs no more than its signatures.

use crate::{
    certificate::Certificate,
    der::{self, Parts},
    signature::{Signed, signed_by},
};
use rustls_pki_types::CertificateDer;
use std::collections::BTreeMap;

/// Signatures that are checked for one chain; each takes 30–300 µs.
const MAX_SIGNATURES: usize = 100;

/// Past so many intermediates only those are offered to webpki that are really connected: it follows names, and 15
/// certificates of one name make 3.6 million paths of its greatest length.
const SMALL: usize = 4;

/// Certificates of one subject that are kept of a large chain: cross-signed ones come in pairs. With two choices a step,
/// what follows names ends after 128 steps.
const PER_SUBJECT: usize = 2;

/// The weakest signature that counts.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Least {
    /// One of webpki's.
    Strong,
    /// A legacy one too.
    Weak,
}

/// Those of `presented` that the leaf leads to, by names, and in a large chain by signatures.
pub(super) fn useful<'a>(leaf: &'a Certificate, presented: &[&'a Certificate]) -> Vec<&'a Certificate> {
    let check = presented.len() > SMALL;
    let mut budget = MAX_SIGNATURES;
    let mut per_subject: BTreeMap<_, usize> = BTreeMap::new();
    let mut left: Vec<&Certificate> = presented.to_vec();
    // The longest-lived of those with one subject are kept.
    left.sort_by_key(|one| std::cmp::Reverse(one.not_after));
    let mut found: Vec<&Certificate> = Vec::new();
    let mut at = 0;
    let mut child = Some(leaf);
    while let Some(one) = child {
        left.retain(|other| {
            let issues = other.subject_id == one.issuer_id && (!check || issued(one, other, &mut budget));
            if issues {
                let count = per_subject.entry(other.subject_id).or_default();
                *count += 1;
                if !check || *count <= PER_SUBJECT {
                    found.push(other);
                }
            }
            !issues
        });
        child = found.get(at).copied();
        at += 1;
    }
    found
}

fn issued(one: &Certificate, issuer: &Certificate, budget: &mut usize) -> bool {
    let Some(left) = budget.checked_sub(1) else {
        return false;
    };
    *budget = left;
    let (Some(one), Some(issuer)) = (&one.der, &issuer.der) else {
        return false;
    };
    let parts: (Option<Parts<'_>>, Option<Parts<'_>>) = (der::parts(one), der::parts(issuer));
    matches!(parts, (Some(one), Some(issuer)) if matches!(signed_by(&one, &issuer), Signed::Valid | Signed::Weakly))
}

/// Whether signatures lead from a leaf, which webpki refuses as one, to an anchor. Only certificates of a CA may stand
/// between.
pub(super) fn leads(leaf: &Certificate, useful: &[&Certificate], anchors: &[CertificateDer<'_>], least: Least) -> bool {
    let counts = |signed: Signed| signed == Signed::Valid || (least == Least::Weak && signed == Signed::Weakly);
    let anchors: Vec<Parts<'_>> = anchors.iter().filter_map(|anchor| der::parts(anchor)).collect();
    let Some(leaf) = leaf.der.as_deref().and_then(der::parts) else {
        return false;
    };
    let mut budget = MAX_SIGNATURES;
    let mut left: Vec<Parts<'_>> = useful
        .iter()
        .filter(|one| one.is_ca)
        .filter_map(|one| one.der.as_deref().and_then(der::parts))
        .collect();
    let mut queue = vec![leaf];
    while let Some(one) = queue.pop() {
        let mut signed = |issuer: &Parts<'_>| {
            budget = budget.saturating_sub(1);
            budget > 0 && issuer.subject == one.issuer && counts(signed_by(&one, issuer))
        };
        if anchors.iter().any(&mut signed) {
            return true;
        }
        let (next, rest): (Vec<_>, Vec<_>) = left.into_iter().partition(&mut signed);
        left = rest;
        queue.extend(next);
    }
    false
}
