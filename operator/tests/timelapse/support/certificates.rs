//! Certificates with chosen dates, of one authority. Keys are made once: they are slow.

use super::clock::epoch;
use certmon_core::trust::Anchors;
use chrono::TimeDelta;
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DistinguishedName, DnType, IsCa, KeyPair, SerialNumber,
    date_time_ymd,
};
use std::{
    collections::HashMap,
    sync::{Arc, LazyLock, Mutex, PoisonError},
    time::Duration,
};

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
    Issued {
        der: certificate.der().to_vec(),
        pem: certificate.pem().into_bytes(),
    }
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
