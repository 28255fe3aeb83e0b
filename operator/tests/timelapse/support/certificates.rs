//! Certificates with chosen dates, of one authority. Keys are made once: they are slow.

use super::clock::epoch;
use certmon_core::trust::Anchors;
use chrono::TimeDelta;
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DistinguishedName, DnType, IsCa, KeyPair, PublicKeyData,
    SerialNumber, SignatureAlgorithm, date_time_ymd,
};
use std::{
    collections::HashMap,
    sync::{Arc, LazyLock, Mutex, PoisonError},
    time::Duration,
};

/// The root of the one authority, as people put it into a ConfigMap.
pub(crate) fn root_pem() -> Vec<u8> {
    AUTHORITY.issuer.pem().into_bytes()
}

/// A root that issued nothing.
pub(crate) fn other_root_pem() -> Vec<u8> {
    static OTHER: LazyLock<Vec<u8>> = LazyLock::new(|| {
        let mut params = params("Other Root", &[], TimeDelta::days(-1000), TimeDelta::days(3000));
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().expect("a key");
        params.self_signed(&key).expect("a root").pem().into_bytes()
    });
    OTHER.clone()
}

struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    leaf_key: KeyPair,
    anchors: Arc<Anchors>,
}

static AUTHORITY: LazyLock<Authority> = LazyLock::new(|| {
    let mut params = params("Example Root", &[], TimeDelta::days(-1000), TimeDelta::days(3000));
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().expect("a key")).expect("a root");
    let anchors = Arc::new(Anchors::from_der([issuer.der()]));
    Authority {
        issuer,
        leaf_key: KeyPair::generate().expect("a key"),
        anchors,
    }
});

/// The system's roots of every story: the one authority.
pub(crate) fn system_roots() -> Arc<Anchors> {
    AUTHORITY.anchors.clone()
}

/// A leaf of the one authority.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Issued {
    pub(crate) der: Vec<u8>,
    pub(crate) pem: Vec<u8>,
}

impl Issued {
    fn of(certificate: &rcgen::Certificate) -> Self {
        Self {
            der: certificate.der().to_vec(),
            pem: certificate.pem().into_bytes(),
        }
    }
}

type Known = HashMap<(String, TimeDelta, TimeDelta), Issued>;

static KNOWN: LazyLock<Mutex<Known>> = LazyLock::new(Mutex::default);

/// The certificate for `name` that is valid between two instants, which count from day 0: it is issued once.
pub(crate) fn leaf(name: &str, from: TimeDelta, until: TimeDelta) -> Issued {
    let mut known = KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
    known
        .entry((name.to_owned(), from, until))
        .or_insert_with(|| issue(name, from, until))
        .clone()
}

fn issue(name: &str, from: TimeDelta, until: TimeDelta) -> Issued {
    let certificate = params(name, &[name], from, until)
        .signed_by(&AUTHORITY.leaf_key, &AUTHORITY.issuer)
        .expect("a certificate");
    Issued::of(&certificate)
}

/// A leaf that ends on day 90, and the root that issued it, which ends on day 4.
pub(crate) fn of_short_root(name: &str) -> [Issued; 2] {
    let mut of_ca = params("Short Root", &[], TimeDelta::days(-86), TimeDelta::days(4));
    of_ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let ca = CertifiedIssuer::self_signed(of_ca, KeyPair::generate().expect("a key")).expect("a root");
    let leaf = params(name, &[name], TimeDelta::zero(), TimeDelta::days(90)).signed_by(&AUTHORITY.leaf_key, &ca);
    [Issued::of(&leaf.expect("a certificate")), Issued::of(ca.as_ref())]
}

/// A leaf that ends on day 90, and its intermediate, which ends on day 4.
pub(crate) fn with_short_intermediate(name: &str) -> Vec<Issued> {
    let mut of_ca = params("Short CA", &[], TimeDelta::days(-86), TimeDelta::days(4));
    of_ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let ca = CertifiedIssuer::signed_by(of_ca, KeyPair::generate().expect("a key"), &AUTHORITY.issuer);
    let ca = ca.expect("an intermediate");
    let leaf = params(name, &[name], TimeDelta::zero(), TimeDelta::days(90)).signed_by(&AUTHORITY.leaf_key, &ca);
    vec![Issued::of(&leaf.expect("a certificate")), Issued::of(ca.as_ref())]
}

/// One that ends on day 90, with an RSA key of 1024 bits, which nobody makes any more: its private half isn't needed.
pub(crate) fn weak(name: &str) -> Issued {
    struct Rsa1024(Vec<u8>);
    impl PublicKeyData for Rsa1024 {
        fn der_bytes(&self) -> &[u8] {
            &self.0
        }
        fn algorithm(&self) -> &'static SignatureAlgorithm {
            &rcgen::PKCS_RSA_SHA256
        }
    }
    // SEQUENCE { modulus INTEGER, publicExponent INTEGER }
    let key = [
        vec![0x30, 0x81, 0x89, 2, 0x81, 0x81, 0, 0xc3],
        vec![0x5b; 127],
        vec![2, 3, 1, 0, 1],
    ];
    let certificate = params(name, &[name], TimeDelta::zero(), TimeDelta::days(90))
        .signed_by(&Rsa1024(key.concat()), &AUTHORITY.issuer)
        .expect("a certificate");
    Issued::of(&certificate)
}

/// The private key of every leaf, and another.
pub(crate) fn keys_pem() -> [Vec<u8>; 2] {
    let other = KeyPair::generate().expect("a key");
    [&AUTHORITY.leaf_key, &other].map(|key| key.serialize_pem().into_bytes())
}

/// The one that is valid between two days.
pub(crate) fn days(name: &str, from: i64, until: i64) -> Issued {
    leaf(name, TimeDelta::days(from), TimeDelta::days(until))
}

fn params(common_name: &str, names: &[&str], from: TimeDelta, until: TimeDelta) -> CertificateParams {
    let names: Vec<String> = names.iter().map(ToString::to_string).collect();
    let mut params = CertificateParams::new(names).expect("names");
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, common_name);
    let day_0 = date_time_ymd(2027, 1, 1);
    debug_assert_eq!(day_0.unix_timestamp(), epoch().timestamp());
    let at = |by: TimeDelta| {
        let pause = Duration::from_secs(by.num_seconds().unsigned_abs());
        if by < TimeDelta::zero() {
            day_0 - pause
        } else {
            day_0 + pause
        }
    };
    (params.not_before, params.not_after) = (at(from), at(until));
    // The same certificate has the same serial in every run.
    let minutes = |by: TimeDelta| i32::try_from(by.num_minutes()).expect("a few years").to_be_bytes();
    let serial = [[0x10, 0, 0, 0], minutes(from), minutes(until)].concat();
    params.serial_number = Some(SerialNumber::from(serial));
    params
}
