//! From DER to facts. What comes here is hostile: sizes are bounded before anything is parsed, nothing panics, and what
//! RFC 5280 forbids but people have (version 1, negative serials, an end before the beginning) is read all the same.

use super::{Certificate, Fingerprint, KeyKind, Names, Placeholder, Weakness, strings};
use crate::{
    der,
    hash::ShortHash,
    signature::{self, Signed},
    text::PeerText,
};
use chrono::{DateTime, Utc};
use std::{net::IpAddr, sync::Arc};
use x509_parser::{
    asn1_rs::Oid,
    certificate::X509Certificate,
    extensions::{GeneralName, ParsedExtension},
    oid_registry as oid,
    prelude::FromDer,
    public_key::RSAPublicKey,
    signature_algorithm::RsaSsaPssParams,
    time::ASN1Time,
    x509::{AlgorithmIdentifier, SubjectPublicKeyInfo},
};

/// Why bytes are no certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CertificateError {
    /// Larger than [`Certificate::MAX_BYTES`].
    #[error("larger than {} bytes", Certificate::MAX_BYTES)]
    TooLarge,
    /// Not the DER encoding of an X.509 certificate, or something stands behind it.
    #[error("not an X.509 certificate in DER")]
    Malformed,
}

impl Certificate {
    /// The largest certificate that is read, in bytes of DER: what a leaf may be in cert-manager (`internal/pem`).
    pub const MAX_BYTES: usize = 36_500;

    /// Reads one certificate. Its bytes are kept only with `keep_der`.
    ///
    /// # Errors
    /// [`CertificateError`] where `der` is larger than [`Self::MAX_BYTES`] or isn't exactly one certificate.
    pub fn parse(der: &[u8], keep_der: bool) -> Result<Self, CertificateError> {
        Self::parse_of(Fingerprint::of(der), der, keep_der)
    }

    /// The same, where the fingerprint is known.
    pub(crate) fn parse_of(fingerprint: Fingerprint, der: &[u8], keep_der: bool) -> Result<Self, CertificateError> {
        if der.len() > Self::MAX_BYTES {
            return Err(CertificateError::TooLarge);
        }
        let (rest, certificate) = X509Certificate::from_der(der).map_err(|_| CertificateError::Malformed)?;
        let parts = der::parts(der).ok_or(CertificateError::Malformed)?;
        if !rest.is_empty() {
            return Err(CertificateError::Malformed);
        }
        let extensions = Extensions::of(&certificate);
        let key = &certificate.subject_pki;
        let self_signed = parts.subject == parts.issuer && extensions.is_own_issuer(&parts);
        // A root is trusted for its key; nobody relies on its own signature.
        let weak_signature = (!self_signed)
            .then(|| signature_weakness(&certificate.signature_algorithm))
            .flatten();
        let serial = serial(certificate.raw_serial());
        let name = extensions
            .first_name()
            .or_else(|| strings::any_name(&certificate.subject).and_then(non_empty))
            .unwrap_or_else(|| serial.clone());
        let issuer = strings::any_name(&certificate.issuer)
            .and_then(non_empty)
            .unwrap_or_else(|| PeerText::sanitise("unnamed"));
        Ok(Self {
            fingerprint,
            not_before: instant(certificate.validity.not_before)?,
            not_after: instant(certificate.validity.not_after)?,
            dns_names: Names::new(extensions.dns.iter().map(|name| name.to_ascii_lowercase())).shared_with(&name),
            name,
            issuer,
            serial,
            ip_addresses: extensions.ips.into(),
            subject_id: ShortHash::of(&[parts.subject]),
            issuer_id: ShortHash::of(&[parts.issuer]),
            key_id: ShortHash::of(&[key.raw]),
            subject_key: extensions.subject_key,
            authority_key: extensions.authority_key,
            key_kind: key_kind(key),
            weakness: key_weakness(key).or(weak_signature),
            is_ca: extensions.is_ca,
            self_signed,
            names_issuer: extensions.names_issuer,
            placeholder: placeholder(&certificate),
            der: keep_der.then(|| Arc::from(der)),
        })
    }
}

/// What the extensions say (RFC 5280 §4.2). One that can't be read says nothing.
#[derive(Default)]
struct Extensions<'a> {
    dns: Vec<&'a str>,
    ips: Vec<IpAddr>,
    uri: Option<&'a str>,
    mail: Option<&'a str>,
    is_ca: bool,
    names_issuer: bool,
    subject_key: Option<ShortHash>,
    authority_key: Option<ShortHash>,
}

impl<'a> Extensions<'a> {
    fn of(certificate: &'a X509Certificate<'a>) -> Self {
        let mut found = Self::default();
        for extension in certificate.iter_extensions() {
            match extension.parsed_extension() {
                ParsedExtension::SubjectAlternativeName(names) => {
                    for name in &names.general_names {
                        found.take_name(name);
                    }
                }
                ParsedExtension::BasicConstraints(constraints) => found.is_ca |= constraints.ca,
                ParsedExtension::AuthorityInfoAccess(access) => {
                    found.names_issuer |= access.iter().any(|access| {
                        access.access_method == oid::OID_PKIX_ACCESS_DESCRIPTOR_CA_ISSUERS
                            && matches!(access.access_location, GeneralName::URI(_))
                    });
                }
                ParsedExtension::SubjectKeyIdentifier(id) => found.subject_key = Some(ShortHash::of(&[id.0])),
                ParsedExtension::AuthorityKeyIdentifier(id) => {
                    found.authority_key = id.key_identifier.as_ref().map(|id| ShortHash::of(&[id.0]));
                }
                _ => {}
            }
        }
        found
    }

    /// Of a certificate with one name for issuer and subject: whether the key is the same, too. Key identifiers say it
    /// for a thousandth of what a signature costs.
    fn is_own_issuer(&self, parts: &der::Parts<'_>) -> bool {
        if let (Some(authority), Some(subject)) = (self.authority_key, self.subject_key) {
            return authority == subject;
        }
        match signature::signed_by(parts, parts) {
            Signed::Valid | Signed::Weakly => true,
            Signed::Invalid => false,
            Signed::Unknown => self.authority_key.is_none(),
        }
    }

    fn take_name(&mut self, name: &GeneralName<'a>) {
        match name {
            // An IP address that is written as a DNS name covers nothing (RFC 9525 §6.5): it stays a DNS name.
            GeneralName::DNSName(name) => self.dns.push(name),
            GeneralName::IPAddress(bytes) => {
                if let Ok(four) = <[u8; 4]>::try_from(*bytes) {
                    self.ips.push(four.into());
                } else if let Ok(sixteen) = <[u8; 16]>::try_from(*bytes) {
                    self.ips.push(sixteen.into());
                }
            }
            GeneralName::URI(uri) => self.uri = self.uri.or(Some(uri)),
            GeneralName::RFC822Name(mail) => self.mail = self.mail.or(Some(mail)),
            _ => {}
        }
    }

    /// What people call it, by its alternative names.
    fn first_name(&self) -> Option<PeerText> {
        let dns = self.dns.iter().find_map(non_empty);
        dns.or_else(|| self.ips.first().and_then(|ip| non_empty(ip.to_string())))
            .or_else(|| self.uri.and_then(non_empty))
            .or_else(|| self.mail.and_then(non_empty))
    }
}

fn non_empty(raw: impl AsRef<str>) -> Option<PeerText> {
    Some(PeerText::sanitise(raw.as_ref())).filter(|text| !text.as_str().is_empty())
}

fn instant(time: ASN1Time) -> Result<DateTime<Utc>, CertificateError> {
    DateTime::from_timestamp(time.timestamp(), 0).ok_or(CertificateError::Malformed)
}

/// Two's complement, big-endian, as RFC 5280 §4.1.2.2 has it; a negative one gets its sign.
fn serial(raw: &[u8]) -> PeerText {
    let negative = raw.first().is_some_and(|byte| byte & 0x80 != 0);
    let mut magnitude: Vec<u8> = raw.iter().take(PeerText::MAX_CHARS).copied().collect();
    if negative {
        let mut carry = true;
        for byte in magnitude.iter_mut().rev() {
            let (sum, over) = (!*byte).overflowing_add(u8::from(carry));
            *byte = sum;
            carry = over;
        }
    }
    let zeros = magnitude.iter().take_while(|byte| **byte == 0).count();
    let zeros = zeros.min(magnitude.len().saturating_sub(1));
    let digits = hex::encode(magnitude.get(zeros..).unwrap_or_default());
    PeerText::sanitise(&format!("{}{digits}", if negative { "-" } else { "" }))
}

fn key_kind(key: &SubjectPublicKeyInfo<'_>) -> KeyKind {
    let algorithm = &key.algorithm.algorithm;
    if is_rsa(key) {
        KeyKind::Rsa
    } else if *algorithm == oid::OID_KEY_TYPE_EC_PUBLIC_KEY {
        KeyKind::Ec
    } else {
        KeyKind::Other
    }
}

/// A key under RSA, or one that is for RSASSA-PSS alone: both are an RSAPublicKey (RFC 4055 §1.2).
fn is_rsa(key: &SubjectPublicKeyInfo<'_>) -> bool {
    key.algorithm.algorithm == oid::OID_PKCS1_RSAENCRYPTION || key.algorithm.algorithm == oid::OID_PKCS1_RSASSAPSS
}

fn key_weakness(key: &SubjectPublicKeyInfo<'_>) -> Option<Weakness> {
    let bits = &key.subject_public_key.data;
    match key_kind(key) {
        KeyKind::Rsa => {
            let (_, rsa) = RSAPublicKey::from_der(bits).ok()?;
            let leading = rsa.modulus.iter().take_while(|byte| **byte == 0).count();
            let modulus = rsa.modulus.get(leading..)?;
            let size = modulus.len() * 8 - usize::try_from(modulus.first()?.leading_zeros()).ok()?;
            (size < 2048).then(|| Weakness::RsaKey(u16::try_from(size).unwrap_or(0)))
        }
        KeyKind::Ec => {
            // SEC 1 §2.3.3: 04 x y, or 02/03 x.
            let coordinate = match bits.first()? {
                4 => (bits.len() - 1) / 2,
                2 | 3 => bits.len() - 1,
                _ => return None,
            };
            let size = coordinate * 8;
            (size < 224).then(|| Weakness::EcKey(u16::try_from(size).unwrap_or(0)))
        }
        KeyKind::Other => None,
    }
}

/// RFC 3279 §2.2.3.
const ECDSA_WITH_SHA1: Oid<'static> = x509_parser::asn1_rs::oid!(1.2.840.10045.4.1);

fn signature_weakness(algorithm: &AlgorithmIdentifier<'_>) -> Option<Weakness> {
    let used = &algorithm.algorithm;
    let md5 = [&oid::OID_PKCS1_MD5WITHRSAENC, &oid::OID_PKCS1_MD2WITHRSAENC];
    let sha1 = [
        &oid::OID_PKCS1_SHA1WITHRSA,
        &oid::OID_SHA1_WITH_RSA,
        &ECDSA_WITH_SHA1,
        &oid::OID_SIG_DSA_WITH_SHA1,
    ];
    if md5.contains(&used) {
        return Some(Weakness::Md5Signature);
    }
    let pss_sha1 = || {
        *used == oid::OID_PKCS1_RSASSAPSS
            && match &algorithm.parameters {
                // SHA-1 is what RFC 4055 §3.1 means where nothing is said.
                None => true,
                Some(parameters) => {
                    RsaSsaPssParams::try_from(parameters).is_ok_and(|it| *it.hash_algorithm_oid() == oid::OID_HASH_SHA1)
                }
            }
    };
    (sha1.contains(&used) || pss_sha1()).then_some(Weakness::Sha1Signature)
}

fn placeholder(certificate: &X509Certificate<'_>) -> Option<Placeholder> {
    let by_name = |name| strings::common_name(name).and_then(|name| Placeholder::by_name(&name));
    by_name(&certificate.subject)
        .filter(|one| *one != Placeholder::CertManagerTemporary)
        .or_else(|| by_name(&certificate.issuer))
}
