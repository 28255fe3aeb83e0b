//! Whom somebody trusts, and whether a path leads from a leaf to there. A path decides, not a library's verdict: dates,
//! names and key usage are judged elsewhere, each with a name of its own.

mod walk;

use crate::{
    bundle,
    certificate::{Certificate, Fingerprint, Identifier},
    hash::ShortHash,
    observation::{Chain, PathVerdict},
    signature,
};
use chrono::{DateTime, Utc};
use rustls_pki_types::{CertificateDer, SignatureVerificationAlgorithm, TrustAnchor, UnixTime};
use std::{
    collections::{BTreeSet, HashSet},
    sync::Arc,
    time::Duration,
};
use webpki::{EndEntityCert, Error, ExtendedKeyUsageValidator, KeyPurposeIdIter};

/// Certificates that are trusted. Copies share what they hold.
#[derive(Clone, Debug)]
pub struct Anchors {
    all: Arc<[Arc<Anchor>]>,
    id: ShortHash,
}

#[derive(Debug)]
struct Anchor {
    fingerprint: Fingerprint,
    subject: Identifier,
    not_before: DateTime<Utc>,
    not_after: DateTime<Utc>,
    weak: bool,
    der: Arc<[u8]>,
}

impl Default for Anchors {
    /// Nobody is trusted.
    fn default() -> Self {
        Self::new(Vec::new())
    }
}

/// Two sets are equal where they hold the same certificates.
impl PartialEq for Anchors {
    fn eq(&self, other: &Self) -> bool {
        self.id == other.id
    }
}

impl Eq for Anchors {}

impl Anchors {
    fn new(mut all: Vec<Arc<Anchor>>) -> Self {
        all.sort_by_key(|anchor| anchor.fingerprint);
        all.dedup_by_key(|anchor| anchor.fingerprint);
        let fingerprints: Vec<&[u8]> = all.iter().map(|anchor| anchor.fingerprint.0.as_slice()).collect();
        Self {
            id: ShortHash::of(&fingerprints),
            all: all.into(),
        }
    }

    /// Takes certificates in DER; what can't be read is left out.
    #[must_use]
    pub fn from_der<D: AsRef<[u8]>>(certificates: impl IntoIterator<Item = D>) -> Self {
        let read = certificates
            .into_iter()
            .filter_map(|der| Certificate::parse(der.as_ref(), true).ok());
        Self::new(read.filter_map(|one| Anchor::of(&one)).collect())
    }

    /// Takes the certificates of a text (`ca.crt`, a CA bundle; at most [`bundle::MAX_CERTIFICATES`], and
    /// [`bundle::MAX_VALUE_BYTES`]); what can't be read is left out.
    #[must_use]
    pub fn from_pem(text: &[u8]) -> Self {
        let (certificates, _) = bundle::read_certificates(text, true);
        Self::default().with(&certificates)
    }

    /// These and more; a certificate without its bytes adds nothing.
    #[must_use]
    pub fn with(&self, more: &[Arc<Certificate>]) -> Self {
        if more.is_empty() {
            return self.clone();
        }
        let more = more.iter().filter_map(|one| Anchor::of(one));
        Self::new(self.all.iter().cloned().chain(more).collect())
    }

    /// These and those of another.
    #[must_use]
    pub fn union(&self, other: &Self) -> Self {
        Self::new(self.all.iter().chain(other.all.iter()).cloned().collect())
    }

    /// A hash of what is held: it changes when somebody else is trusted.
    #[must_use]
    pub fn id(&self) -> ShortHash {
        self.id
    }

    /// Nobody is trusted.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    /// How many are trusted.
    #[must_use]
    pub fn len(&self) -> usize {
        self.all.len()
    }

    /// When the next of them begins or ceases to be one.
    #[must_use]
    pub fn next_change(&self, now: DateTime<Utc>) -> Option<DateTime<Utc>> {
        let instants = self.all.iter().flat_map(|anchor| [anchor.not_before, anchor.not_after]);
        instants.filter(|instant| *instant > now).min()
    }

    fn valid(&self, now: DateTime<Utc>) -> impl Iterator<Item = &Arc<Anchor>> {
        self.all
            .iter()
            .filter(move |anchor| anchor.not_before <= now && now < anchor.not_after)
    }
}

impl Anchor {
    fn of(certificate: &Certificate) -> Option<Arc<Self>> {
        Some(Arc::new(Self {
            fingerprint: certificate.fingerprint,
            subject: certificate.subject_id,
            not_before: certificate.not_before,
            not_after: certificate.not_after,
            weak: certificate.weakness.is_some(),
            der: certificate.der.clone()?,
        }))
    }
}

/// Takes a certificate list as it came, leaf first: duplicates are dropped, then what is past 16 is cut, and what can't
/// be read is left out. `None` where the leaf can't be read. The certificates keep their bytes; see [`forget_der`].
#[must_use]
pub fn chain_of<D: AsRef<[u8]>>(list: &[D]) -> Option<Chain> {
    let (leaf, rest) = list.split_first()?;
    let leaf = Arc::new(Certificate::parse(leaf.as_ref(), true).ok()?);
    let mut seen = BTreeSet::from([leaf.fingerprint]);
    let mut chain = Chain {
        leaf,
        intermediates: Vec::new(),
        cut: false,
    };
    for der in rest {
        if chain.intermediates.len() == crate::observation::MAX_INTERMEDIATES {
            let known = |one: &Certificate| one.der.as_deref() == Some(der.as_ref());
            chain.cut |= !known(&chain.leaf) && !chain.intermediates.iter().any(|one| known(one));
            continue;
        }
        let Ok(one) = Certificate::parse(der.as_ref(), true) else {
            continue;
        };
        if seen.insert(one.fingerprint) {
            chain.intermediates.push(Arc::new(one));
        }
    }
    Some(chain)
}

/// The chain without the bytes of its certificates.
#[must_use]
pub fn forget_der(chain: Chain) -> Chain {
    let forget = |mut one: Arc<Certificate>| {
        if one.der.is_some() {
            Arc::make_mut(&mut one).der = None;
        }
        one
    };
    Chain {
        leaf: forget(chain.leaf),
        intermediates: chain.intermediates.into_iter().map(forget).collect(),
        cut: chain.cut,
    }
}

/// Says whether a path leads from the chain's leaf to `anchors`, dates of the chain aside: it is looked for at `now`, at
/// an instant clamped into the leaf's validity, and at one clamped into that of all its certificates. An anchor that
/// has expired at `now` is none.
///
/// `known_intermediates` are certificates seen elsewhere in the namespace: they complete no path, but tell an
/// incomplete chain from an unknown issuer. The chain's certificates must have kept their bytes, else, as where the
/// chain was cut, nothing is judged. CPU is bounded: at most 100 signatures per attempt, and at most six attempts.
#[must_use]
pub fn judge(
    chain: &Chain,
    anchors: &Anchors,
    known_intermediates: &[Arc<Certificate>],
    now: DateTime<Utc>,
) -> PathVerdict {
    let Some(leaf) = chain.leaf.der.as_deref() else {
        return PathVerdict::NotJudged;
    };
    if chain.cut {
        return PathVerdict::NotJudged;
    }
    if anchors
        .valid(now)
        .any(|anchor| anchor.fingerprint == chain.leaf.fingerprint)
    {
        return PathVerdict::Trusted;
    }
    let presented: Vec<&Certificate> = chain.intermediates.iter().map(AsRef::as_ref).collect();
    let useful = walk::useful(&chain.leaf, &presented);
    let names: HashSet<Identifier> = useful
        .iter()
        .map(|one| one.issuer_id)
        .chain([chain.leaf.issuer_id])
        .collect();
    let trusted: Vec<&Arc<Anchor>> = anchors
        .valid(now)
        .filter(|anchor| names.contains(&anchor.subject))
        .collect();
    let attempt = Attempt {
        leaf: CertificateDer::from(leaf),
        facts: &chain.leaf,
        useful: &useful,
        trusted: &trusted,
        instants: instants(&chain.leaf, &useful, now),
    };
    if !trusted.is_empty() {
        if attempt.succeeds(webpki::ALL_VERIFICATION_ALGS, walk::Least::Strong) {
            return PathVerdict::Trusted;
        }
        let chain = useful.iter().copied().chain([chain.leaf.as_ref()]);
        let is_weak = chain.into_iter().any(|one| one.weakness.is_some()) || trusted.iter().any(|anchor| anchor.weak);
        if is_weak && attempt.succeeds(&signature::all(), walk::Least::Weak) {
            return PathVerdict::TrustedButWeak;
        }
    }
    if is_incomplete(chain, anchors, known_intermediates) {
        PathVerdict::Incomplete
    } else {
        PathVerdict::Untrusted
    }
}

/// Intermediates that end before the leaf and that a trusted path doesn't need: their end breaks nothing.
#[must_use]
pub fn dispensable(chain: &Chain, judge: &mut dyn FnMut(&Chain) -> PathVerdict) -> Vec<Fingerprint> {
    let short_lived = |one: &&Arc<Certificate>| one.not_after < chain.leaf.not_after;
    chain
        .intermediates
        .iter()
        .filter(short_lived)
        .filter(|one| {
            let without = Chain {
                leaf: Arc::clone(&chain.leaf),
                intermediates: chain
                    .intermediates
                    .iter()
                    .filter(|other| other.fingerprint != one.fingerprint)
                    .cloned()
                    .collect(),
                cut: chain.cut,
            };
            judge(&without) == PathVerdict::Trusted
        })
        .map(|one| one.fingerprint)
        .collect()
}

/// The instants at which a path is looked for.
fn instants(leaf: &Certificate, others: &[&Certificate], now: DateTime<Utc>) -> Vec<DateTime<Utc>> {
    let mut all = vec![now];
    let mut add = |low: DateTime<Utc>, high: DateTime<Utc>| {
        if low <= high {
            let instant = now.clamp(low, high);
            if !all.contains(&instant) {
                all.push(instant);
            }
        }
    };
    add(leaf.not_before, leaf.not_after);
    let low = others.iter().map(|one| one.not_before).max();
    let high = others.iter().map(|one| one.not_after).min();
    if let (Some(low), Some(high)) = (low, high) {
        add(low.max(leaf.not_before), high.min(leaf.not_after));
    }
    all
}

/// The missing issuer is known by a URL or from elsewhere, or the chain has a gap: it holds certificates that the leaf
/// doesn't lead to, and none that ends the path.
fn is_incomplete(chain: &Chain, anchors: &Anchors, known: &[Arc<Certificate>]) -> bool {
    let mut left: Vec<&Certificate> = chain.intermediates.iter().map(AsRef::as_ref).collect();
    let mut queue: Vec<&Certificate> = vec![&chain.leaf];
    let mut ends = Vec::new();
    while let Some(one) = queue.pop() {
        let issues = |other: &&Certificate| other.subject_id == one.issuer_id;
        if !one.self_signed && !chain.intermediates.iter().any(|other| issues(&other.as_ref())) {
            ends.push(one);
        }
        let (next, rest): (Vec<_>, Vec<_>) = left.into_iter().partition(issues);
        queue.extend(next);
        left = rest;
    }
    // An anchor of that name is there: it has expired, or didn't sign this. Nothing is missing.
    ends.retain(|end| !anchors.all.iter().any(|anchor| anchor.subject == end.issuer_id));
    if !left.is_empty() && !ends.is_empty() {
        return true;
    }
    ends.iter().any(|end| {
        end.names_issuer
            || known.iter().any(|known| {
                let fits = |key| end.authority_key.is_none_or(|authority| authority == key);
                known.is_ca && known.subject_id == end.issuer_id && known.subject_key.is_none_or(fits)
            })
    })
}

/// What webpki is asked with.
struct Attempt<'a> {
    leaf: CertificateDer<'a>,
    facts: &'a Certificate,
    useful: &'a [&'a Certificate],
    trusted: &'a [&'a Arc<Anchor>],
    instants: Vec<DateTime<Utc>>,
}

impl Attempt<'_> {
    fn succeeds(&self, algorithms: &[&dyn SignatureVerificationAlgorithm], least: walk::Least) -> bool {
        let ders: Vec<CertificateDer<'_>> = self
            .trusted
            .iter()
            .map(|anchor| CertificateDer::from(&*anchor.der))
            .collect();
        let anchors: Vec<TrustAnchor<'_>> = ders
            .iter()
            .filter_map(|der| webpki::anchor_from_trusted_cert(der).ok())
            .collect();
        let intermediates: Vec<CertificateDer<'_>> = self
            .useful
            .iter()
            .filter_map(|one| one.der.as_deref().map(CertificateDer::from))
            .collect();
        let refused_as_leaf = match EndEntityCert::try_from(&self.leaf) {
            Ok(leaf) => {
                let mut refused = false;
                for instant in &self.instants {
                    match leaf.verify_for_usage(
                        algorithms,
                        &anchors,
                        &intermediates,
                        unix(*instant),
                        AnyUsage,
                        None,
                        None,
                    ) {
                        Ok(_) => return true,
                        Err(Error::CaUsedAsEndEntity | Error::InvalidCertValidity) => refused = true,
                        Err(_) => {}
                    }
                }
                refused
            }
            // Version 1, or an extension that webpki doesn't know: the path may stand all the same.
            Err(Error::UnsupportedCertVersion | Error::UnsupportedCriticalExtension) => true,
            Err(_) => false,
        };
        refused_as_leaf && walk::leads(self.facts, self.useful, &ders, least)
    }
}

fn unix(instant: DateTime<Utc>) -> UnixTime {
    UnixTime::since_unix_epoch(Duration::from_secs(u64::try_from(instant.timestamp()).unwrap_or(0)))
}

/// Whatever a certificate is for: usage is no question of trust.
struct AnyUsage;

impl ExtendedKeyUsageValidator for AnyUsage {
    fn validate(&self, _: KeyPurposeIdIter<'_, '_>) -> Result<(), Error> {
        Ok(())
    }
}

#[cfg(test)]
mod tests;
