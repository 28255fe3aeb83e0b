//! Whether a private key belongs to a certificate. Only the public half is derived and compared.

use super::pem;
use crate::{
    certificate::Fingerprint,
    der::{self, INTEGER, OCTET_STRING, OID, PublicKey, Reader, SEQUENCE},
    observation::KeyVerdict,
};
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_ASN1_SIGNING, ECDSA_P256K1_SHA256_ASN1_SIGNING, ECDSA_P384_SHA384_ASN1_SIGNING,
    ECDSA_P521_SHA512_ASN1_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair,
};
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

/// rsaEncryption and id-RSASSA-PSS: the same key under either (RFC 4055 §1.2).
const RSA: [&[u8]; 2] = [
    &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01],
    &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x0a],
];
/// id-ecPublicKey.
const EC: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01];
/// id-Ed25519.
const ED25519: &[u8] = &[0x2b, 0x65, 0x70];

/// The public half of a private key.
#[derive(PartialEq, Eq)]
enum Public {
    /// Modulus and exponent, without leading zeros.
    Rsa(Vec<u8>, Vec<u8>),
    /// The uncompressed point.
    Ec(Vec<u8>),
    /// The key's 32 bytes.
    Ed25519(Vec<u8>),
}

/// Compares a private key (PEM or DER; PKCS#1, PKCS#8, SEC 1) with the certificate `leaf` of `certificates`.
pub(super) fn verdict(private_key: &[u8], certificates: &[u8], leaf: Fingerprint) -> KeyVerdict {
    if private_key.iter().all(u8::is_ascii_whitespace) {
        return KeyVerdict::Missing;
    }
    let is_leaf = |der: &[u8]| Fingerprint(Sha256::digest(der).into()) == leaf;
    let leaf = pem::blocks(certificates)
        .flatten()
        .find(|der| is_leaf(der))
        .or_else(|| is_leaf(certificates).then(|| certificates.to_vec()));
    let Some(parts) = leaf.as_deref().and_then(der::parts) else {
        return KeyVerdict::Unreadable;
    };
    let key = if private_key.first() == Some(&SEQUENCE) {
        Some(Zeroizing::new(private_key.to_vec()))
    } else {
        let labels: [&[u8]; 3] = [b"PRIVATE KEY", b"RSA PRIVATE KEY", b"EC PRIVATE KEY"];
        pem::first_with(private_key, |label| labels.contains(&label))
            .and_then(|(_, der)| der)
            .map(Zeroizing::new)
    };
    match key.and_then(|key| public(&key)) {
        None => KeyVerdict::Unreadable,
        Some(public) if belongs(&public, parts.key) => KeyVerdict::Matches,
        Some(_) => KeyVerdict::Differs,
    }
}

/// Derives the public half.
fn public(der: &[u8]) -> Option<Public> {
    let mut fields = Reader(Reader(der).expect(SEQUENCE)?.content);
    fields.expect(INTEGER)?;
    if let Some(algorithm) = fields.expect(SEQUENCE) {
        let oid = Reader(algorithm.content).expect(OID)?.content;
        let inner = fields.expect(OCTET_STRING)?.content;
        return if RSA.contains(&oid) {
            rsa(inner)
        } else if oid == EC {
            ec(der)
        } else if oid == ED25519 {
            let pair = Ed25519KeyPair::from_pkcs8_maybe_unchecked(der).ok()?;
            Some(Public::Ed25519(pair.public_key().as_ref().to_vec()))
        } else {
            None
        };
    }
    if fields.expect(OCTET_STRING).is_some() {
        return ec(der);
    }
    rsa(der)
}

/// RSAPrivateKey (RFC 8017 §A.1.2): version, modulus, exponent, then what is private.
fn rsa(der: &[u8]) -> Option<Public> {
    let mut fields = Reader(Reader(der).expect(SEQUENCE)?.content);
    fields.expect(INTEGER)?;
    rsa_public(&mut fields)
}

fn rsa_public(fields: &mut Reader<'_>) -> Option<Public> {
    let mut number = || {
        let content = fields.expect(INTEGER)?.content;
        let zeros = content.iter().take_while(|byte| **byte == 0).count();
        content.get(zeros..).map(<[u8]>::to_vec)
    };
    Some(Public::Rsa(number()?, number()?))
}

fn ec(der: &[u8]) -> Option<Public> {
    [
        &ECDSA_P256_SHA256_ASN1_SIGNING,
        &ECDSA_P384_SHA384_ASN1_SIGNING,
        &ECDSA_P521_SHA512_ASN1_SIGNING,
        &ECDSA_P256K1_SHA256_ASN1_SIGNING,
    ]
    .into_iter()
    .find_map(|curve| EcdsaKeyPair::from_private_key_der(curve, der).ok())
    .map(|pair| Public::Ec(pair.public_key().as_ref().to_vec()))
}

fn belongs(public: &Public, certificate: PublicKey<'_>) -> bool {
    let oid = certificate.oid().unwrap_or_default();
    match public {
        Public::Rsa(..) => {
            RSA.contains(&oid)
                && Reader(certificate.bits)
                    .expect(SEQUENCE)
                    .and_then(|key| rsa_public(&mut Reader(key.content)))
                    .is_some_and(|key| key == *public)
        }
        Public::Ec(point) => {
            oid == EC && (certificate.bits == point.as_slice() || certificate.bits == compressed(point))
        }
        Public::Ed25519(key) => oid == ED25519 && certificate.bits == key.as_slice(),
    }
}

/// The compressed form of an uncompressed point (SEC 1 §2.3.3).
fn compressed(point: &[u8]) -> Vec<u8> {
    let length = point.len().saturating_sub(1) / 2;
    let odd = point.last().is_some_and(|byte| byte & 1 == 1);
    let mut out = vec![if odd { 3 } else { 2 }];
    out.extend(point.get(1..=length).unwrap_or_default());
    out
}
