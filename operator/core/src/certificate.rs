//! What is kept of a certificate: facts, never its private key, and its bytes only where a path must be built later.

mod parse;
mod strings;

pub use parse::CertificateError;

use crate::{finding::Facts, hash::ShortHash, place::Role, text::PeerText};
use chrono::{DateTime, TimeDelta, Utc};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::{fmt, net::IpAddr, sync::Arc};

/// SHA-256 of a certificate's DER encoding.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Fingerprint(pub [u8; 32]);

impl Fingerprint {
    pub(crate) fn of(der: &[u8]) -> Self {
        Self(Sha256::digest(der).into())
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for Fingerprint {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Fingerprint {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<str>::deserialize(deserializer)?;
        let mut bytes = [0; 32];
        hex::decode_to_slice(text.as_ref(), &mut bytes).map_err(serde::de::Error::custom)?;
        Ok(Self(bytes))
    }
}

/// A hash of a distinguished name or of a public key (SubjectPublicKeyInfo), both over their DER encoding.
pub type Identifier = crate::hash::ShortHash;

/// The facts of one X.509 certificate (RFC 5280) that any decision or text needs. Shared between its copies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Certificate {
    /// SHA-256 of the DER encoding.
    pub fingerprint: Fingerprint,
    /// Valid from.
    pub not_before: DateTime<Utc>,
    /// Valid until; 9999-12-31T23:59:59Z means "no end" (RFC 5280 §4.1.2.5).
    pub not_after: DateTime<Utc>,
    /// What people call it: first DNS SAN, else IP, URI, mail SAN, CN, another attribute of the subject, serial.
    pub name: PeerText,
    /// The issuer's name, as people know it: CN, else another attribute.
    pub issuer: PeerText,
    /// The serial number in hexadecimal, sign included where there is one.
    pub serial: PeerText,
    /// DNS names of the subject alternative name extension, lower case, as written otherwise.
    pub dns_names: Names,
    /// IP addresses of the subject alternative name extension.
    pub ip_addresses: Box<[IpAddr]>,
    /// Hash of the subject.
    pub subject_id: Identifier,
    /// Hash of the issuer.
    pub issuer_id: Identifier,
    /// Hash of the SubjectPublicKeyInfo.
    pub key_id: Identifier,
    /// Hash of the subject key identifier extension.
    pub subject_key: Option<Identifier>,
    /// Hash of the authority key identifier extension's key identifier.
    pub authority_key: Option<Identifier>,
    /// What kind of key it has.
    pub key_kind: KeyKind,
    /// The weakest thing about its key and signature, if it is weak. A root's own signature doesn't count.
    pub weakness: Option<Weakness>,
    /// BasicConstraints says CA.
    pub is_ca: bool,
    /// Issued by its own subject with its own key: by the key identifiers where it has both, else by the signature.
    pub self_signed: bool,
    /// It names its issuer's certificate by an Authority Information Access URL.
    pub names_issuer: bool,
    /// A controller's stand-in, by its well-known names.
    pub placeholder: Option<Placeholder>,
    /// The DER encoding, only where a path must be judged later.
    pub der: Option<Arc<[u8]>>,
}

impl Certificate {
    /// notAfter − notBefore; zero where the certificate ends before it begins.
    #[must_use]
    pub fn lifetime(&self) -> TimeDelta {
        (self.not_after - self.not_before).max(TimeDelta::zero())
    }

    /// Which one it is of those at a place where there are several: by subject and public key, over renewals.
    #[must_use]
    pub fn member(&self) -> ShortHash {
        ShortHash::of(&[
            &self.subject_id.number().to_be_bytes(),
            &self.key_id.number().to_be_bytes(),
        ])
    }

    /// Its role as one of several.
    #[must_use]
    pub fn member_role(&self) -> Role {
        Role::Member(self.member())
    }

    /// What is said of it: bounded, sanitised.
    #[must_use]
    pub fn facts(&self, message: String) -> Facts {
        Facts {
            name: Some(self.name.clone()),
            issuer: Some(self.issuer.clone()),
            serial: Some(self.serial.clone()),
            fingerprint: Some(self.fingerprint),
            dns_names: self.dns_names.iter().take(20).map(PeerText::sanitise).collect(),
            not_before: Some(self.not_before),
            not_after: Some(self.not_after),
            message,
        }
    }
}

/// DNS names in one allocation: a hostile certificate has thousands.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Names(Arc<str>);

impl Default for Names {
    fn default() -> Self {
        Self("".into())
    }
}

impl Names {
    /// Keeps the names in their order. A line feed, which no DNS name has, becomes `\u{fffd}`.
    pub fn new(names: impl IntoIterator<Item = impl AsRef<str>>) -> Self {
        let (mut joined, mut count) = (String::new(), 0);
        for name in names {
            joined.push_str(&name.as_ref().replace('\n', "\u{fffd}"));
            joined.push('\n');
            count += 1;
        }
        // One name has one form, with which it can be shared.
        if count == 1 && joined.len() > 1 {
            joined.pop();
        }
        Self(joined.into())
    }

    /// The same names; where they are `name` alone, in its memory.
    pub(crate) fn shared_with(self, name: &PeerText) -> Self {
        if *self.0 == *name.as_str() {
            Self(name.shared())
        } else {
            self
        }
    }

    /// The names.
    pub fn iter(&self) -> impl Iterator<Item = &str> {
        self.0.split_terminator('\n')
    }

    /// There is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl fmt::Debug for Names {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

/// The kind of a public key, as far as servers choose between certificates by it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum KeyKind {
    /// RSA, RSASSA-PSS.
    Rsa,
    /// An elliptic curve under id-ecPublicKey.
    Ec,
    /// Any other.
    Other,
}

/// Why a key or a signature is too weak (NIST SP 800-131A; CA/Browser Forum baseline requirements §6.1.5).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Weakness {
    /// An RSA modulus below 2048 bits.
    RsaKey(u16),
    /// An elliptic curve below 224 bits.
    EcKey(u16),
    /// Signed with MD5.
    Md5Signature,
    /// Signed with SHA-1.
    Sha1Signature,
}

impl fmt::Display for Weakness {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::RsaKey(bits) => write!(f, "RSA key of {bits} bits"),
            Self::EcKey(bits) => write!(f, "elliptic-curve key of {bits} bits"),
            Self::Md5Signature => f.write_str("MD5 signature"),
            Self::Sha1Signature => f.write_str("SHA-1 signature"),
        }
    }
}

/// Whose stand-in a certificate is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Placeholder {
    /// "Kubernetes Ingress Controller Fake Certificate".
    IngressNginx,
    /// "TRAEFIK DEFAULT CERT".
    Traefik,
    /// Issuer "cert-manager.local", written while the real one is on its way.
    CertManagerTemporary,
}

impl Placeholder {
    /// Whose stand-in a certificate with this common name, or with an issuer of this name, is. All of them are
    /// self-signed or have an issuer of their own.
    #[must_use]
    pub fn by_name(common_name: &str) -> Option<Self> {
        match common_name {
            "Kubernetes Ingress Controller Fake Certificate" => Some(Self::IngressNginx),
            "TRAEFIK DEFAULT CERT" => Some(Self::Traefik),
            "cert-manager.local" => Some(Self::CertManagerTemporary),
            _ => None,
        }
    }
}

impl fmt::Display for Placeholder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::IngressNginx => "ingress-nginx's fake certificate",
            Self::Traefik => "Traefik's default certificate",
            Self::CertManagerTemporary => "cert-manager's temporary certificate",
        })
    }
}

#[cfg(test)]
mod tests;
