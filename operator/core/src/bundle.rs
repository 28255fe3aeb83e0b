//! Reading the values of a Secret: PEM or DER, one certificate or many, a chain or a set, and whether a private key
//! belongs to the leaf.

mod chain;
mod key;
mod pem;

use crate::{
    certificate::{Certificate, CertificateError, Fingerprint},
    observation::{Content, DataFault, StoredValue},
};
use std::sync::Arc;

/// The largest value that is read, in bytes: what a bundle may be in cert-manager (`internal/pem`). Real trust bundles
/// of 150 roots fit.
pub const MAX_VALUE_BYTES: usize = 330_000;

/// The most certificates that are read from one value.
pub const MAX_CERTIFICATES: usize = 200;

/// Reads the chosen values of a Secret of type `type_`, each under its key.
///
/// In `kubernetes.io/tls`, `ca.crt` goes to the value of `tls.crt` as its anchors and is no entry of its own. An empty
/// `ca.crt` is nothing, whatever the type. `private_key` is `None` where the monitor doesn't ask whether it belongs to
/// `tls.crt`'s leaf, and empty where there is none; wiping it is the caller's. With `keep_der` the certificates keep
/// their bytes, so that [`crate::trust::judge`] can build a path.
#[must_use]
pub fn read_secret(
    type_: &str,
    values: &[(&str, &[u8])],
    private_key: Option<&[u8]>,
    keep_der: bool,
) -> Vec<(Box<str>, StoredValue)> {
    read_secret_knowing(type_, values, private_key, keep_der, &|_| None)
}

/// A certificate that was read before, by its fingerprint; with its bytes where they are to be kept.
pub type Known<'a> = dyn Fn(Fingerprint) -> Option<Arc<Certificate>> + 'a;

/// As [`read_secret`]; what is `known` is shared, not read again: thousands of leaves have one issuer.
#[must_use]
pub fn read_secret_knowing(
    type_: &str,
    values: &[(&str, &[u8])],
    private_key: Option<&[u8]>,
    keep_der: bool,
    known: &Known<'_>,
) -> Vec<(Box<str>, StoredValue)> {
    let has = |name: &str| values.iter().any(|(key, _)| *key == name);
    // Both what stands beside `tls.crt` and a value like any other: one monitor may ask for both keys, another for `ca.crt` alone.
    let anchors = type_ == "kubernetes.io/tls" && has("tls.crt");
    let mut read: Vec<(Box<str>, StoredValue)> = Vec::with_capacity(values.len());
    for (key, bytes) in values {
        if *key != "ca.crt" || !is_blank(bytes) {
            read.push((Box::from(*key), value(bytes, keep_der, known)));
        }
    }
    if anchors
        && let Some((_, value)) = read.iter_mut().find(|(key, _)| &**key == "tls.crt")
        && let Some((_, bytes)) = values.iter().find(|(key, bytes)| *key == "ca.crt" && !is_blank(bytes))
    {
        (value.anchors, value.anchors_fault) = kept(certificates(bytes, known), keep_der);
        share(value);
    }
    if let Some(private_key) = private_key
        && let Some(value) = read.iter_mut().find(|(key, _)| &**key == "tls.crt")
        && let Content::Chain(chain) = &value.1.content
    {
        let leaf = values.iter().find(|(key, _)| *key == "tls.crt");
        value.1.key = leaf.map(|(_, bytes)| key::verdict(private_key, bytes, chain.leaf.fingerprint));
    }
    read
}

/// Reads one value.
#[must_use]
pub fn read_value(bytes: &[u8], keep_der: bool) -> StoredValue {
    value(bytes, keep_der, &|_| None)
}

fn value(bytes: &[u8], keep_der: bool, known: &Known<'_>) -> StoredValue {
    let Found { certificates, fault } = certificates(bytes, known);
    StoredValue {
        content: chain::arrange(certificates, keep_der),
        fault,
        ..StoredValue::default()
    }
}

/// Reads the certificates of a text or a DER file, each once, in their order, without asking how they belong together.
#[must_use]
pub fn read_certificates(bytes: &[u8], keep_der: bool) -> (Vec<Arc<Certificate>>, Option<DataFault>) {
    kept(certificates(bytes, &|_| None), keep_der)
}

fn kept(found: Found, keep_der: bool) -> (Vec<Arc<Certificate>>, Option<DataFault>) {
    let certificates = found.certificates.into_iter().map(|one| one.keep(keep_der)).collect();
    (certificates, found.fault)
}

/// A certificate whose bytes are still at hand.
struct Read {
    certificate: Arc<Certificate>,
    der: Vec<u8>,
}

impl Read {
    fn new(der: Vec<u8>, known: &Known<'_>) -> Result<Self, CertificateError> {
        if der.len() > Certificate::MAX_BYTES {
            return Err(CertificateError::TooLarge);
        }
        let fingerprint = Fingerprint::of(&der);
        let certificate = match known(fingerprint) {
            Some(certificate) => certificate,
            None => Arc::new(Certificate::parse_of(fingerprint, &der, false)?),
        };
        Ok(Self { certificate, der })
    }

    fn keep(self, der: bool) -> Arc<Certificate> {
        let mut certificate = self.certificate;
        if certificate.der.is_some() != der {
            Arc::make_mut(&mut certificate).der = der.then(|| Arc::from(self.der));
        }
        certificate
    }
}

/// What a value holds: each certificate once.
#[derive(Default)]
struct Found {
    certificates: Vec<Read>,
    fault: Option<DataFault>,
}

fn certificates(bytes: &[u8], known: &Known<'_>) -> Found {
    let fault = |fault| Found {
        fault: Some(fault),
        ..Found::default()
    };
    if is_blank(bytes) {
        return fault(DataFault::Empty);
    }
    if bytes.len() > MAX_VALUE_BYTES {
        return fault(DataFault::TooLarge);
    }
    let (mut read, mut begun, mut too_large) = (0u16, 0u16, false);
    let mut found = Found::default();
    for block in pem::blocks(bytes) {
        if usize::from(read) == MAX_CERTIFICATES {
            found.fault = Some(DataFault::TooMany);
            return found;
        }
        begun = begun.saturating_add(1);
        let Some(der) = block else { continue };
        match Read::new(der, known) {
            Ok(one) => {
                read += 1;
                let same = |other: &Read| other.certificate.fingerprint == one.certificate.fingerprint;
                if !found.certificates.iter().any(same) {
                    found.certificates.push(one);
                }
            }
            Err(error) => too_large |= error == CertificateError::TooLarge,
        }
    }
    if begun == 0 {
        return match Read::new(bytes.to_vec(), known) {
            Ok(one) => Found {
                certificates: vec![one],
                fault: None,
            },
            Err(CertificateError::TooLarge) if bytes.first() == Some(&crate::der::SEQUENCE) => {
                fault(DataFault::TooLarge)
            }
            Err(_) => fault(DataFault::NoCertificate),
        };
    }
    if read < begun {
        found.fault = Some(if too_large {
            DataFault::TooLarge
        } else {
            DataFault::Broken { read, begun }
        });
    }
    found
}

fn is_blank(bytes: &[u8]) -> bool {
    bytes.iter().all(u8::is_ascii_whitespace)
}

/// A certificate that is an anchor and in the chain is kept once.
fn share(value: &mut StoredValue) {
    let StoredValue { content, anchors, .. } = value;
    for anchor in anchors {
        if let Some(same) = content.certificates().find(|one| one.fingerprint == anchor.fingerprint) {
            *anchor = Arc::clone(same);
        }
    }
}

#[cfg(test)]
mod tests;
