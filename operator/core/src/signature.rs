//! Who signed a certificate. webpki's algorithms are what is trusted; beside them stand those that are too weak to be
//! trusted (SHA-1, RSA below 2048 bits), so that weakness can be told from a wrong issuer.

use crate::der::Parts;
use aws_lc_rs::signature::{self, VerificationAlgorithm};
use rustls_pki_types::{AlgorithmIdentifier, InvalidSignature, SignatureVerificationAlgorithm, alg_id};

/// What a signature is worth.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Signed {
    /// It is the issuer's.
    Valid,
    /// It is the issuer's, by an algorithm or a key that is too weak.
    Weakly,
    /// It isn't.
    Invalid,
    /// Nobody here can tell.
    Unknown,
}

/// Whether `issuer`'s key signed `certificate`.
pub(crate) fn signed_by(certificate: &Parts<'_>, issuer: &Parts<'_>) -> Signed {
    let mut known = false;
    let weak = WEAK.iter().map(|algorithm| (*algorithm, Signed::Weakly));
    let strong = webpki::ALL_VERIFICATION_ALGS
        .iter()
        .map(|algorithm| (*algorithm, Signed::Valid));
    for (algorithm, verdict) in strong.chain(weak) {
        if algorithm.signature_alg_id().as_ref() != certificate.algorithm
            || algorithm.public_key_alg_id().as_ref() != issuer.key.algorithm
        {
            continue;
        }
        known = true;
        let outcome = algorithm.verify_signature(issuer.key.bits, certificate.tbs, certificate.signature);
        if outcome.is_ok() {
            return verdict;
        }
    }
    if known { Signed::Invalid } else { Signed::Unknown }
}

/// An algorithm that is too weak to be trusted.
#[derive(Debug)]
struct Legacy {
    key: AlgorithmIdentifier,
    signature: AlgorithmIdentifier,
    algorithm: &'static dyn VerificationAlgorithm,
}

impl SignatureVerificationAlgorithm for Legacy {
    fn verify_signature(&self, public_key: &[u8], message: &[u8], signature: &[u8]) -> Result<(), InvalidSignature> {
        signature::UnparsedPublicKey::new(self.algorithm, public_key)
            .verify(message, signature)
            .map_err(|_| InvalidSignature)
    }

    fn public_key_alg_id(&self) -> AlgorithmIdentifier {
        self.key
    }

    fn signature_alg_id(&self) -> AlgorithmIdentifier {
        self.signature
    }
}

/// sha1WithRSAEncryption, NULL (RFC 3279 §2.2.1).
const RSA_SHA1: AlgorithmIdentifier = AlgorithmIdentifier::from_slice(&[
    0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x05, 0x05, 0x00,
]);
/// The same without parameters, as some issuers write it.
const RSA_SHA1_ABSENT: AlgorithmIdentifier =
    AlgorithmIdentifier::from_slice(&[0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x05]);
/// ecdsa-with-SHA1 (RFC 3279 §2.2.3).
const ECDSA_SHA1: AlgorithmIdentifier =
    AlgorithmIdentifier::from_slice(&[0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x01]);

/// The algorithms that are too weak; RSA keys from 1024 bits on.
pub(crate) static WEAK: &[&dyn SignatureVerificationAlgorithm] = &[
    &Legacy {
        key: alg_id::RSA_ENCRYPTION,
        signature: RSA_SHA1,
        algorithm: &signature::RSA_PKCS1_1024_8192_SHA1_FOR_LEGACY_USE_ONLY,
    },
    &Legacy {
        key: alg_id::RSA_ENCRYPTION,
        signature: RSA_SHA1_ABSENT,
        algorithm: &signature::RSA_PKCS1_1024_8192_SHA1_FOR_LEGACY_USE_ONLY,
    },
    &Legacy {
        key: alg_id::RSA_ENCRYPTION,
        signature: alg_id::RSA_PKCS1_SHA256,
        algorithm: &signature::RSA_PKCS1_1024_8192_SHA256_FOR_LEGACY_USE_ONLY,
    },
    &Legacy {
        key: alg_id::RSA_ENCRYPTION,
        signature: alg_id::RSA_PKCS1_SHA512,
        algorithm: &signature::RSA_PKCS1_1024_8192_SHA512_FOR_LEGACY_USE_ONLY,
    },
    &Legacy {
        key: alg_id::ECDSA_P256,
        signature: ECDSA_SHA1,
        algorithm: &signature::ECDSA_P256_SHA1_ASN1,
    },
];

/// What is trusted and what is too weak, together; the weak ones first, because webpki asks only the first one of those
/// that have the same identifiers.
pub(crate) fn all() -> Vec<&'static dyn SignatureVerificationAlgorithm> {
    WEAK.iter().chain(webpki::ALL_VERIFICATION_ALGS).copied().collect()
}
