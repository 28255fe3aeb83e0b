//! What is kept of a certificate: facts, never its private key, and its bytes only where a path must be built later.

use crate::text::PeerText;
use chrono::{DateTime, TimeDelta, Utc};
use serde::{Deserialize, Serialize};
use std::{fmt, net::IpAddr, sync::Arc};

/// SHA-256 of a certificate's DER encoding.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Fingerprint(pub [u8; 32]);

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
    pub dns_names: Box<[Box<str>]>,
    /// IP addresses of the subject alternative name extension.
    pub ip_addresses: Box<[IpAddr]>,
    /// Hash of the subject.
    pub subject_id: Identifier,
    /// Hash of the issuer.
    pub issuer_id: Identifier,
    /// Hash of the SubjectPublicKeyInfo.
    pub key_id: Identifier,
    /// The weakest thing about its key and signature, if it is weak.
    pub weakness: Option<Weakness>,
    /// BasicConstraints says CA.
    pub is_ca: bool,
    /// Issued by its own subject, and the signature verifies with its own key.
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

impl fmt::Display for Placeholder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::IngressNginx => "ingress-nginx's fake certificate",
            Self::Traefik => "Traefik's default certificate",
            Self::CertManagerTemporary => "cert-manager's temporary certificate",
        })
    }
}
