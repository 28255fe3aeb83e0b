//! Certificates for tests: authorities, leaves with any dates and names, Secrets that hold them.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow};
use chrono::{DateTime, SubsecRound as _, Utc};
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use kube::api::ObjectMeta;
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyPair, KeyUsagePurpose, SerialNumber, date_time_ymd,
};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::sign::CertifiedKey;
use sha2::{Digest as _, Sha256};

/// From when to when a certificate holds, in whole seconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Validity {
    /// `notBefore`.
    pub not_before: DateTime<Utc>,
    /// `notAfter`.
    pub not_after: DateTime<Utc>,
}

impl Validity {
    /// From an hour ago until `remaining` from now.
    pub fn ending_in(remaining: Duration) -> Self {
        let now = Utc::now().trunc_subsecs(0);
        Self {
            not_before: now - Duration::from_secs(3600),
            not_after: now + remaining,
        }
    }

    /// Ten years, since yesterday.
    fn authority() -> Self {
        let now = Utc::now().trunc_subsecs(0);
        Self {
            not_before: now - Duration::from_secs(86_400),
            not_after: now + Duration::from_secs(3650 * 86_400),
        }
    }

    fn apply(self, params: &mut CertificateParams) -> Result<()> {
        let since_epoch = |at: DateTime<Utc>| {
            let seconds = u64::try_from(at.timestamp()).context("certificates of tests start after 1970")?;
            Ok::<_, anyhow::Error>(date_time_ymd(1970, 1, 1) + Duration::from_secs(seconds))
        };
        params.not_before = since_epoch(self.not_before)?;
        params.not_after = since_epoch(self.not_after)?;
        Ok(())
    }
}

fn common_name(name: &str) -> DistinguishedName {
    let mut subject = DistinguishedName::new();
    subject.push(DnType::CommonName, name);
    subject
}

/// What a leaf says.
#[derive(Debug, Clone)]
pub struct Leaf {
    names: Vec<String>,
    validity: Validity,
}

impl Leaf {
    /// A server certificate for DNS names and IP addresses, 90 days long. The common name is the first of them.
    pub fn for_names<'a>(names: impl IntoIterator<Item = &'a str>) -> Self {
        let names = names.into_iter().map(str::to_owned).collect();
        Self {
            names,
            validity: Validity::ending_in(Duration::from_secs(90 * 86_400)),
        }
    }

    /// Ends `remaining` from now.
    #[must_use]
    pub fn expires_in(self, remaining: Duration) -> Self {
        self.valid(Validity::ending_in(remaining))
    }

    /// Ended `since` ago, after 90 days.
    #[must_use]
    pub fn expired(self, since: Duration) -> Self {
        let not_after = Utc::now().trunc_subsecs(0) - since;
        self.valid(Validity {
            not_before: not_after - Duration::from_secs(90 * 86_400),
            not_after,
        })
    }

    /// With these dates.
    #[must_use]
    pub fn valid(mut self, validity: Validity) -> Self {
        self.validity = validity;
        self
    }

    fn params(&self) -> Result<CertificateParams> {
        let mut params = CertificateParams::new(self.names.clone())?;
        params.distinguished_name = common_name(self.names.first().map_or("nameless", String::as_str));
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        self.validity.apply(&mut params)?;
        Ok(params)
    }

    /// Issued by itself (and no authority).
    ///
    /// # Errors
    /// When a name is no name.
    pub fn self_signed(&self) -> Result<Identity> {
        let key = KeyPair::generate()?;
        let certificate = self.params()?.self_signed(&key)?;
        Ok(Identity {
            chain: vec![certificate.der().clone()],
            key: Arc::new(key),
            validity: self.validity,
        })
    }
}

/// A certificate authority.
#[derive(Debug)]
pub struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    /// The intermediates that its leaves come with; empty for a root.
    path: Vec<CertificateDer<'static>>,
}

impl Authority {
    fn params(name: &str, validity: Validity) -> Result<CertificateParams> {
        let mut params = CertificateParams::new(Vec::new())?;
        params.distinguished_name = common_name(name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        // Two authorities of one name differ in their serial, so that no store takes them for one.
        let name_and_time = Sha256::digest(format!("{name} {}", Utc::now()));
        params.serial_number = Some(SerialNumber::from_slice(&name_and_time[..8]));
        validity.apply(&mut params)?;
        Ok(params)
    }

    /// A root that holds for ten years.
    ///
    /// # Errors
    /// When the key can't be made.
    pub fn new(name: &str) -> Result<Self> {
        Self::root(name, Validity::authority())
    }

    /// A root with these dates.
    ///
    /// # Errors
    /// When the key can't be made.
    pub fn root(name: &str, validity: Validity) -> Result<Self> {
        let issuer = CertifiedIssuer::self_signed(Self::params(name, validity)?, KeyPair::generate()?)?;
        Ok(Self {
            issuer,
            path: Vec::new(),
        })
    }

    /// An intermediate below this authority.
    ///
    /// # Errors
    /// When the key can't be made.
    pub fn intermediate(&self, name: &str, validity: Validity) -> Result<Self> {
        let issuer = CertifiedIssuer::signed_by(Self::params(name, validity)?, KeyPair::generate()?, &self.issuer)?;
        let path = std::iter::once(issuer.der().clone())
            .chain(self.path.iter().cloned())
            .collect();
        Ok(Self { issuer, path })
    }

    /// Issues a leaf; its chain holds the intermediates, not the root.
    ///
    /// # Errors
    /// When a name is no name.
    pub fn issue(&self, leaf: &Leaf) -> Result<Identity> {
        let key = KeyPair::generate()?;
        let mut params = leaf.params()?;
        // As every public authority does.
        params.use_authority_key_identifier_extension = true;
        let certificate = params.signed_by(&key, &self.issuer)?;
        let chain = std::iter::once(certificate.der().clone())
            .chain(self.path.iter().cloned())
            .collect();
        Ok(Identity {
            chain,
            key: Arc::new(key),
            validity: leaf.validity,
        })
    }

    /// Its own certificate as PEM.
    pub fn pem(&self) -> String {
        self.issuer.pem()
    }
}

/// A certificate with its chain and key.
#[derive(Debug, Clone)]
pub struct Identity {
    chain: Vec<CertificateDer<'static>>,
    key: Arc<KeyPair>,
    validity: Validity,
}

impl Identity {
    /// The leaf's dates.
    pub fn validity(&self) -> Validity {
        self.validity
    }

    /// Leaf first, then the intermediates.
    pub fn chain(&self) -> &[CertificateDer<'static>] {
        &self.chain
    }

    /// The same leaf without its intermediates.
    #[must_use]
    pub fn without_intermediates(mut self) -> Self {
        self.chain.truncate(1);
        self
    }

    /// The chain as PEM, leaf first.
    pub fn chain_pem(&self) -> String {
        self.chain
            .iter()
            .map(|certificate| pem("CERTIFICATE", certificate))
            .collect()
    }

    /// The private key as PEM (PKCS#8).
    pub fn key_pem(&self) -> String {
        self.key.serialize_pem()
    }

    /// The public key as PEM.
    pub fn public_key_pem(&self) -> String {
        self.key.public_key_pem()
    }

    /// SHA-256 of the leaf, lower-case hex.
    pub fn fingerprint(&self) -> String {
        hex::encode(Sha256::digest(&self.chain[0]))
    }

    /// A Secret of type `kubernetes.io/tls`, without a namespace.
    pub fn secret(&self, name: &str) -> Secret {
        let data = [("tls.crt", self.chain_pem()), ("tls.key", self.key_pem())];
        Secret {
            metadata: ObjectMeta {
                name: Some(name.to_owned()),
                ..ObjectMeta::default()
            },
            type_: Some("kubernetes.io/tls".to_owned()),
            data: Some(
                data.into_iter()
                    .map(|(key, text)| (key.to_owned(), ByteString(text.into_bytes())))
                    .collect::<BTreeMap<_, _>>(),
            ),
            ..Secret::default()
        }
    }

    /// For a rustls server.
    ///
    /// # Errors
    /// When rustls can't use the key.
    pub fn certified_key(&self) -> Result<CertifiedKey> {
        let der = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(self.key.serialize_der()));
        let key = rustls::crypto::aws_lc_rs::sign::any_supported_type(&der).map_err(|error| anyhow!(error))?;
        Ok(CertifiedKey::new(self.chain.clone(), key))
    }
}

fn pem(label: &str, der: &[u8]) -> String {
    use base64::Engine as _;
    let body = base64::engine::general_purpose::STANDARD.encode(der);
    let lines: Vec<&str> = body
        .as_bytes()
        .chunks(64)
        .map(|line| std::str::from_utf8(line).expect("base64 is ASCII"))
        .collect();
    format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", lines.join("\n"))
}
