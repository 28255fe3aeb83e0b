//! Chain or set: several certificates are a chain when one of them is no issuer of another and the rest connect to it,
//! whatever their order; else each stands for itself.

use super::Read;
use crate::{
    certificate::Certificate,
    der::{self, Parts},
    observation::{Chain, Content, MAX_INTERMEDIATES, SetMember},
    signature::{Signed, signed_by},
};
use chrono::{DateTime, Utc};
use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
};

/// Signatures that are checked for one value; past it a name alone is believed. Key identifiers, which nearly every
/// certificate has, need none.
const MAX_SIGNATURES: usize = 64;

/// Says how the certificates of a value, each once, belong together.
pub(super) fn arrange(read: Vec<Read>, keep_der: bool) -> Content {
    let Some(leaf) = leaf_of(&read) else {
        return if read.is_empty() {
            Content::Nothing
        } else {
            set(read, keep_der)
        };
    };
    let cut = read.len() > MAX_INTERMEDIATES + 1;
    let mut chain = None;
    let mut intermediates = Vec::with_capacity(read.len().min(MAX_INTERMEDIATES + 1) - 1);
    for (at, one) in read.into_iter().enumerate() {
        if at == leaf {
            chain = Some(one.keep(keep_der));
        } else if intermediates.len() < MAX_INTERMEDIATES {
            intermediates.push(one.keep(keep_der));
        }
    }
    chain.map_or(Content::Nothing, |leaf| {
        Content::Chain(Chain {
            leaf,
            intermediates,
            cut,
        })
    })
}

/// The place of the one certificate that issued none of the others and that all others lead to.
fn leaf_of(read: &[Read]) -> Option<usize> {
    if read.len() == 1 {
        return Some(0);
    }
    let issuers = issuers(read);
    let mut issues = vec![false; read.len()];
    for issuer in issuers.iter().flatten() {
        *issues.get_mut(*issuer)? = true;
    }
    let mut leaves = issues.iter().enumerate().filter(|(_, issues)| !**issues);
    let (leaf, _) = leaves.next()?;
    if leaves.next().is_some() {
        return None;
    }
    let mut reached = vec![false; read.len()];
    let mut queue = VecDeque::from([leaf]);
    while let Some(at) = queue.pop_front() {
        let seen = reached.get_mut(at)?;
        if !std::mem::replace(seen, true) {
            queue.extend(issuers.get(at)?);
        }
    }
    reached.into_iter().all(|reached| reached).then_some(leaf)
}

/// Per certificate, which others issued it.
fn issuers(read: &[Read]) -> Vec<Vec<usize>> {
    let mut budget = MAX_SIGNATURES;
    let mut all = Vec::with_capacity(read.len());
    for (at, one) in read.iter().enumerate() {
        // Of a few hundred at most: comparing each with each costs less than a map of them.
        let named = |other: &Read| other.certificate.subject_id == one.certificate.issuer_id;
        let candidates = read.iter().enumerate().filter(|(_, other)| named(other));
        all.push(
            candidates
                .filter(|(other, issuer)| *other != at && issued(one, issuer, &mut budget))
                .map(|(other, _)| other)
                .collect(),
        );
    }
    all
}

/// Whether `issuer`, whose subject is `one`'s issuer, issued it: by key identifiers where both have them, else by the
/// signature. A CA that was rotated keeps its name.
fn issued(one: &Read, issuer: &Read, budget: &mut usize) -> bool {
    if let (Some(authority), Some(subject)) = (one.certificate.authority_key, issuer.certificate.subject_key) {
        return authority == subject;
    }
    let Some(left) = budget.checked_sub(1) else { return true };
    *budget = left;
    let parts: (Option<Parts<'_>>, Option<Parts<'_>>) = (der::parts(&one.der), der::parts(&issuer.der));
    matches!(parts, (Some(one), Some(issuer)) if signed_by(&one, &issuer) != Signed::Invalid)
}

fn set(read: Vec<Read>, keep_der: bool) -> Content {
    let certificates: Vec<Arc<Certificate>> = read.into_iter().map(|one| one.keep(keep_der)).collect();
    // A renewal is for the same subject and the same names: many leaves have no subject, or share their organisation's.
    let identity = |one: &Certificate| (one.subject_id, one.dns_names.clone(), one.ip_addresses.clone());
    let mut latest: HashMap<_, DateTime<Utc>> = HashMap::new();
    for one in &certificates {
        let end = latest.entry(identity(one)).or_insert(one.not_after);
        *end = one.not_after.max(*end);
    }
    Content::Set(
        certificates
            .into_iter()
            .map(|certificate| SetMember {
                superseded: latest
                    .get(&identity(&certificate))
                    .is_some_and(|end| certificate.not_after < *end),
                certificate,
            })
            .collect(),
    )
}
