//! Whatever can be wrong with what a server serves has a name and a sentence: real servers on loopback, the real probe, and
//! the domain's judgement of what it saw.

#![allow(clippy::unwrap_used, reason = "a test may")]

#[path = "../../egress/tests/dns/mod.rs"]
mod dns;
#[allow(dead_code, reason = "each test crate has its own use of it")]
mod servers;

use certmon_core::{
    assess::{DialledExpectation, assess_dialled},
    bundle,
    dial::{Dialled, LookContext},
    finding::{Finding, Severity},
    observation::StoredValue,
    place::{Host, Place},
    policy::{FailureThreshold, Policy},
    trust::{self, Anchors},
};
use certmon_egress::{Egress, OwnAddresses, Policy as EgressPolicy, Resolver};
use certmon_probe::{Probe, TlsProbe};
use chrono::{DateTime, Utc};
use dns::{Answer, Dns};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, CustomExtension, DistinguishedName, DnType, IsCa, KeyPair,
    PublicKeyData, SignatureAlgorithm, SigningKey, date_time_ymd,
};
use rustls::{
    ServerConfig,
    crypto::aws_lc_rs,
    pki_types::PrivateKeyDer,
    sign::{CertifiedKey, SingleCertAndKey},
};
use servers::{loopback, no_resolver, probe, serve, serve_raw, target};
use std::{
    collections::BTreeSet,
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};
use strum::IntoEnumIterator;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_rustls::TlsAcceptor;

const NAME: &str = "shop.example";
const PATIENCE: Duration = Duration::from_secs(10);

/// The day of every look: 2027-06-01.
fn now() -> DateTime<Utc> {
    DateTime::from_timestamp(1_811_808_000, 0).unwrap()
}

// ---- Certificates ----

/// Valid between two days, which count from the look's.
fn params(common_name: &str, dns: &[&str], days: (i64, i64)) -> CertificateParams {
    let dns: Vec<String> = dns.iter().map(ToString::to_string).collect();
    let mut params = CertificateParams::new(dns).unwrap();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, common_name);
    let at = |days: i64| {
        let by = Duration::from_secs(days.unsigned_abs() * 86_400);
        let day = date_time_ymd(2027, 6, 1);
        if days < 0 { day - by } else { day + by }
    };
    (params.not_before, params.not_after) = (at(days.0), at(days.1));
    params.use_authority_key_identifier_extension = true;
    params
}

fn leaf(days: (i64, i64)) -> CertificateParams {
    params(NAME, &[NAME], days)
}

fn authority(common_name: &str, days: (i64, i64)) -> CertificateParams {
    let mut params = params(common_name, &[], days);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params
}

/// As [`leaf`], with the URL of its issuer's certificate (RFC 5280 §4.2.2.1, id-ad-caIssuers).
fn with_issuer_url(mut params: CertificateParams) -> CertificateParams {
    let access = [
        tlv(6, &[0x2b, 0x06, 0x01, 0x05, 0x05, 0x07, 0x30, 0x02]),
        tlv(0x86, b"http://ca.example/ca.der"),
    ];
    let content = tlv(0x30, &tlv(0x30, &access.concat()));
    let extension = CustomExtension::from_oid_content(&[1, 3, 6, 1, 5, 5, 7, 1, 1], content);
    params.custom_extensions.push(extension);
    params
}

type Ca = CertifiedIssuer<'static, KeyPair>;

struct Pki {
    key: KeyPair,
    root: Ca,
    ca: Ca,
    other_root: Ca,
    rsa_root: Ca,
}

impl Pki {
    fn new() -> Self {
        let root = |name, key| CertifiedIssuer::self_signed(authority(name, (-1000, 3000)), key).unwrap();
        let first = root("Root", KeyPair::generate().unwrap());
        Self {
            key: KeyPair::generate().unwrap(),
            ca: Self::below(&first, "CA", (-500, 1000)),
            root: first,
            other_root: root("Other Root", KeyPair::generate().unwrap()),
            rsa_root: root("Old Root", KeyPair::generate_for(&rcgen::PKCS_RSA_SHA256).unwrap()),
        }
    }

    fn below(root: &Ca, name: &str, days: (i64, i64)) -> Ca {
        CertifiedIssuer::signed_by(authority(name, days), KeyPair::generate().unwrap(), root).unwrap()
    }

    /// The roots that are trusted: not the other one.
    fn anchors(&self) -> Anchors {
        Anchors::from_der([self.root.der(), self.rsa_root.der()])
    }

    fn issue(&self, by: &Ca, params: &CertificateParams) -> Vec<u8> {
        params.signed_by(&self.key, by).unwrap().der().to_vec()
    }

    fn self_signed(&self, params: &CertificateParams) -> Vec<u8> {
        params.self_signed(&self.key).unwrap().der().to_vec()
    }

    /// A leaf of the intermediate, and that.
    fn chain(&self, params: &CertificateParams) -> Vec<Vec<u8>> {
        vec![self.issue(&self.ca, params), self.ca.der().to_vec()]
    }
}

/// A public key that no library makes any more, in the bytes of its kind. Its private half isn't needed: what signs the
/// handshake is no affair of the looks'.
struct Legacy(&'static SignatureAlgorithm, Vec<u8>);

impl Legacy {
    /// An RSA key: its modulus has so many bytes.
    fn rsa(bytes: usize) -> Self {
        let modulus = [vec![0, 0xc3], vec![0x5b; bytes - 1]].concat();
        let key = [tlv(2, &modulus), tlv(2, &[1, 0, 1])].concat();
        Self(&rcgen::PKCS_RSA_SHA256, tlv(0x30, &key))
    }

    /// A point whose coordinates have 192 bits.
    fn p192() -> Self {
        Self(&rcgen::PKCS_ECDSA_P256_SHA256, [vec![4], vec![7; 48]].concat())
    }
}

impl PublicKeyData for Legacy {
    fn der_bytes(&self) -> &[u8] {
        &self.1
    }

    fn algorithm(&self) -> &'static SignatureAlgorithm {
        self.0
    }
}

fn tlv(tag: u8, content: &[u8]) -> Vec<u8> {
    let length = content.len();
    let mut out = vec![tag];
    match u8::try_from(length) {
        Ok(short @ ..=0x7f) => out.push(short),
        Ok(long) => out.extend([0x81, long]),
        Err(_) => {
            out.push(0x82);
            out.extend(u16::try_from(length).unwrap().to_be_bytes());
        }
    }
    out.extend_from_slice(content);
    out
}

/// The bytes of an element's head, and of its content.
fn lengths(der: &[u8]) -> (usize, usize) {
    match der[1] {
        short @ ..=0x7f => (2, usize::from(short)),
        0x81 => (3, usize::from(der[2])),
        _ => (4, usize::from(u16::from_be_bytes([der[2], der[3]]))),
    }
}

/// The same bytes, with one identifier in the place of another of its length.
fn replaced(der: &[u8], from: &[u8], to: &[u8]) -> Vec<u8> {
    let mut der = der.to_vec();
    let places: Vec<usize> = (0..=der.len() - from.len())
        .filter(|at| der[*at..].starts_with(from))
        .collect();
    assert!(!places.is_empty());
    for at in places {
        der[at..at + to.len()].copy_from_slice(to);
    }
    der
}

/// id-ecPublicKey's prime256v1 becomes prime192v1 (RFC 5480 §2.1.1.1), and the issuer signs that.
fn on_p192(der: &[u8], issuer: &KeyPair) -> Vec<u8> {
    let patched = replaced(
        der,
        &[0x2a, 0x86, 0x48, 0xce, 0x3d, 3, 1, 7],
        &[0x2a, 0x86, 0x48, 0xce, 0x3d, 3, 1, 1],
    );
    // SEQUENCE { tbsCertificate, signatureAlgorithm, signatureValue }
    let (head, _) = lengths(&patched);
    let body = &patched[head..];
    let (head, length) = lengths(body);
    let signed = &body[..head + length];
    let algorithm = tlv(0x30, &tlv(6, &[0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 3, 2]));
    let signature = tlv(3, &[vec![0], issuer.sign(signed).unwrap()].concat());
    tlv(0x30, &[signed.to_vec(), algorithm, signature].concat())
}

/// sha256WithRSAEncryption becomes another algorithm of PKCS #1 (RFC 8017 §A.2.4). No library signs so any more: what stands
/// under it is no signature, and so there is no path either.
fn signed_by_rsa_with(der: &[u8], last_arc: u8) -> Vec<u8> {
    let pkcs_1 = |arc: u8| [0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, arc];
    replaced(der, &pkcs_1(11), &pkcs_1(last_arc))
}

// ---- Looking and judging ----

/// Serves these bytes as they are. What signs the handshake is another key than the certificate's, which a look doesn't mind.
async fn serving(at: SocketAddr, chain: &[Vec<u8>], key: &KeyPair) -> SocketAddr {
    let signs = aws_lc_rs::sign::any_supported_type(&PrivateKeyDer::Pkcs8(key.serialize_der().into())).unwrap();
    let chain = chain.iter().map(|der| der.clone().into()).collect();
    let config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(SingleCertAndKey::from(CertifiedKey::new(chain, signs))));
    serve(at, TlsAcceptor::from(Arc::new(config))).await.0
}

type Found = (Finding, Severity, String);

fn found(finding: Finding, severity: Severity, text: &str) -> Found {
    (finding, severity, text.to_owned())
}

fn warning(finding: Finding, text: &str) -> Found {
    found(finding, Severity::Warning, text)
}

fn critical(finding: Finding, text: &str) -> Found {
    found(finding, Severity::Critical, text)
}

/// One place over its looks.
struct Watched<'a> {
    probe: TlsProbe,
    hosts: Vec<(&'a str, u16)>,
    timeout: Duration,
    anchors: Anchors,
    secret: Option<StoredValue>,
    from_object: bool,
    dialled: Dialled,
}

impl<'a> Watched<'a> {
    fn new(probe: TlsProbe, hosts: &[(&'a str, u16)], anchors: Anchors) -> Self {
        Self {
            probe,
            hosts: hosts.to_vec(),
            timeout: PATIENCE,
            anchors,
            secret: None,
            from_object: false,
            dialled: Dialled::new(),
        }
    }

    async fn look(&mut self) -> Vec<Found> {
        let look = self.probe.look(target(&self.hosts, NAME, self.timeout)).await;
        let server_name = Host::parse(NAME).unwrap();
        let place = Place::Endpoint {
            host: server_name.clone(),
            port: self.hosts[0].1,
            server_name: server_name.clone(),
        };
        let policy = Policy {
            failure_threshold: FailureThreshold(1),
            ..Policy::default()
        };
        let stored = self.secret.as_ref().and_then(|secret| secret.content.leaf());
        let context = LookContext {
            from_object: self.from_object,
            secret_leaf: stored.map(|leaf| leaf.fingerprint),
            failure_threshold: policy.failure_threshold,
        };
        let anchors = &self.anchors;
        let mut judge = |chain: &_| trust::judge(chain, anchors, &[], now());
        self.dialled.look(&look, context, &mut judge, now());
        let expected = DialledExpectation {
            server_name: &server_name,
            secret: self.secret.as_ref(),
            from_object: self.from_object,
        };
        assess_dialled(&place, &self.dialled, &expected, &policy, now())
            .into_iter()
            .map(|sighting| (sighting.finding, sighting.severity, sighting.facts.message))
            .collect()
    }
}

/// What is found at a server that serves this chain.
async fn found_at(pki: &Pki, chain: &[Vec<u8>]) -> Vec<Found> {
    let address = serving(loopback(1, 0), chain, &pki.key).await;
    let probe = probe(&[address.port()], no_resolver());
    Watched::new(probe, &[("127.0.0.1", address.port())], pki.anchors())
        .look()
        .await
}

/// Findings that one served chain can't have.
const OF_OTHERS: [Finding; 12] = [
    // Of a Secret, a source or a monitor.
    Finding::KeyMismatch,
    Finding::SecretMissing,
    Finding::BadCertificateData,
    Finding::TooFewCertificates,
    Finding::LimitExceeded,
    Finding::LedgerOverflow,
    // Of several servers, of a server and a Secret, and of servers that aren't there: the tests below.
    Finding::ServedCertificateDiffers,
    Finding::InconsistentServers,
    Finding::Unreachable,
    Finding::NoAddress,
    Finding::TargetNotPermitted,
    // One alert with the two other levels: in the table too.
    Finding::ExpiryCritical,
];

#[tokio::test]
async fn every_finding_that_a_served_chain_can_have_is_found() {
    use Finding::*;
    let pki = Pki::new();
    let good = leaf((-10, 80));
    let (short, ended) = (
        Pki::below(&pki.root, "Short CA", (-100, 10)),
        Pki::below(&pki.root, "Ended CA", (-100, -1)),
    );
    let stray = Pki::below(&pki.root, "Stray CA", (-100, 1000));
    let soon = Pki::below(&pki.root, "Soon CA", (-100, 3));
    let temporary =
        CertifiedIssuer::self_signed(authority("cert-manager.local", (-1, 30)), KeyPair::generate().unwrap()).unwrap();
    let with_key = |key: &Legacy| good.signed_by(key, &pki.ca).unwrap().der().to_vec();
    let by = |ca: &Ca, params: &CertificateParams| vec![pki.issue(ca, params), ca.der().to_vec()];
    let alone = |params: &CertificateParams| vec![pki.issue(&pki.ca, params)];
    let untrusted = |issuer: &str| {
        warning(
            UntrustedIssuer,
            &format!("has no path to a trusted root; its chain ends at issuer {issuer}"),
        )
    };
    let incomplete = |issuer: &str| {
        warning(
            IncompleteChain,
            &format!("has an incomplete chain: the certificate of issuer {issuer} is missing"),
        )
    };
    let stand_in = |whose: &str| {
        vec![warning(
            PlaceholderCertificate,
            &format!("serves {whose}, a stand-in for the real one"),
        )]
    };
    let weak = |what: &str| warning(WeakCrypto, &format!("has weak cryptography: {what}"));
    let self_signed = || warning(UntrustedIssuer, "is self-signed, and is not trusted");
    let expiring = |text: &str| format!("intermediate certificate {text}; the leaf lasts until 2027-08-20T00:00:00Z");
    let early = {
        let mut params = good.clone();
        params.not_before = date_time_ymd(2027, 6, 1) + Duration::from_secs(240);
        params
    };
    let table = [
        ("fine", pki.chain(&good), vec![]),
        (
            "fine, without a gap, and with the root",
            [pki.chain(&good), vec![pki.root.der().to_vec()]].concat(),
            vec![],
        ),
        (
            "in its warning",
            pki.chain(&leaf((-80, 10))),
            vec![warning(
                ExpiringSoon,
                "expires 2027-06-11T00:00:00Z; warning threshold is 21d or 25% of lifetime",
            )],
        ),
        (
            "in its critical level",
            pki.chain(&leaf((-85, 5))),
            vec![critical(
                ExpiryCritical,
                "expires 2027-06-06T00:00:00Z; critical threshold is 7d or 10% of lifetime",
            )],
        ),
        (
            "expired",
            pki.chain(&leaf((-90, 0))),
            vec![critical(Expired, "expired 2027-06-01T00:00:00Z")],
        ),
        (
            "not valid yet",
            pki.chain(&leaf((1, 91))),
            vec![warning(NotYetValid, "is not valid before 2027-06-02T00:00:00Z")],
        ),
        ("valid in four minutes: clocks differ", pki.chain(&early), vec![]),
        (
            "another's name",
            pki.chain(&params("other", &["other.example", "www.other.example"], (-10, 80))),
            vec![critical(
                HostnameMismatch,
                "serves a certificate that does not cover shop.example: it is for other.example, www.other.example",
            )],
        ),
        (
            "a wildcard two labels away",
            pki.chain(&params("wide", &["*.example"], (-10, 80))),
            vec![critical(
                HostnameMismatch,
                "serves a certificate that does not cover shop.example: it is for *.example",
            )],
        ),
        (
            "its name as a common name only",
            pki.chain(&params(NAME, &[], (-10, 80))),
            vec![critical(
                HostnameMismatch,
                "serves a certificate that does not cover shop.example: it has no DNS name and no IP address (a common \
                 name doesn't count)",
            )],
        ),
        ("self-signed", vec![pki.self_signed(&good)], vec![self_signed()]),
        (
            "of a root that nobody trusts",
            by(&pki.other_root, &good),
            vec![untrusted("Other Root")],
        ),
        (
            "alone, and nobody knows its issuer",
            alone(&good),
            vec![untrusted("CA")],
        ),
        (
            "alone, with its issuer's URL",
            alone(&with_issuer_url(good.clone())),
            vec![incomplete("CA")],
        ),
        (
            "with another's intermediate",
            vec![pki.issue(&pki.ca, &good), stray.der().to_vec()],
            vec![incomplete("CA")],
        ),
        (
            "an intermediate in its warning",
            by(&short, &good),
            vec![warning(
                IntermediateExpiring,
                &expiring("Short CA expires 2027-06-11T00:00:00Z; warning threshold is 21d or 25% of lifetime"),
            )],
        ),
        (
            "an intermediate in its critical level",
            by(&soon, &good),
            vec![critical(
                IntermediateExpiring,
                &expiring("Soon CA expires 2027-06-04T00:00:00Z; critical threshold is 7d or 10% of lifetime"),
            )],
        ),
        (
            "an intermediate that has expired",
            by(&ended, &good),
            vec![critical(
                IntermediateExpiring,
                &expiring("Ended CA expired 2027-05-31T00:00:00Z"),
            )],
        ),
        (
            "an RSA key of 1024 bits",
            vec![with_key(&Legacy::rsa(128)), pki.ca.der().to_vec()],
            vec![weak("RSA key of 1024 bits")],
        ),
        (
            "an RSA key of 2048 bits",
            vec![with_key(&Legacy::rsa(256)), pki.ca.der().to_vec()],
            vec![],
        ),
        (
            "a key on P-192",
            vec![on_p192(&with_key(&Legacy::p192()), pki.ca.key()), pki.ca.der().to_vec()],
            vec![weak("elliptic-curve key of 192 bits")],
        ),
        (
            "signed with SHA-1",
            vec![signed_by_rsa_with(&pki.issue(&pki.rsa_root, &good), 5)],
            vec![untrusted("Old Root"), weak("SHA-1 signature")],
        ),
        (
            "signed with MD5",
            vec![signed_by_rsa_with(&pki.issue(&pki.rsa_root, &good), 4)],
            vec![untrusted("Old Root"), weak("MD5 signature")],
        ),
        (
            "ingress-nginx's stand-in, which has expired too",
            vec![pki.self_signed(&params(
                "Kubernetes Ingress Controller Fake Certificate",
                &["ingress.local"],
                (-400, -35),
            ))],
            stand_in("ingress-nginx's fake certificate"),
        ),
        (
            "Traefik's stand-in",
            vec![pki.self_signed(&params("TRAEFIK DEFAULT CERT", &["a.b.traefik.default"], (-1, 364)))],
            stand_in("Traefik's default certificate"),
        ),
        (
            "cert-manager's stand-in",
            by(&temporary, &leaf((-1, 30))),
            stand_in("cert-manager's temporary certificate"),
        ),
        (
            "everything at once, the worst first",
            vec![pki.self_signed(&params("old", &["old.example"], (-400, -35)))],
            vec![
                critical(Expired, "expired 2027-04-27T00:00:00Z"),
                critical(
                    HostnameMismatch,
                    "serves a certificate that does not cover shop.example: it is for old.example",
                ),
                self_signed(),
            ],
        ),
    ];
    let mut named = BTreeSet::from([ExpiryCritical]);
    for (what, chain, expected) in table {
        let found = found_at(&pki, &chain).await;
        assert_eq!(found, expected, "{what}");
        named.extend(found.iter().map(|(finding, ..)| *finding));
    }
    let missing: Vec<Finding> = Finding::iter()
        .filter(|finding| !named.contains(finding) && !OF_OTHERS.contains(finding))
        .collect();
    assert!(missing.is_empty(), "no server of the table has {missing:?}");
}

#[tokio::test]
async fn two_servers_of_one_name_are_compared_at_the_second_sight() {
    let pki = Pki::new();
    let (old, new) = (pki.chain(&leaf((-40, 50))), pki.chain(&leaf((-10, 80))));
    let first = serving(loopback(2, 0), &old, &pki.key).await;
    let second = serving(loopback(3, first.port()), &new, &pki.key).await;
    let hosts = [("127.0.0.2", first.port()), ("127.0.0.3", first.port())];
    let mut watched = Watched::new(probe(&[first.port()], no_resolver()), &hosts, pki.anchors());
    assert_eq!(watched.look().await, []);
    let found = watched.look().await;
    let [(Finding::InconsistentServers, Severity::Warning, text)] = found.as_slice() else {
        panic!("{found:?}");
    };
    for said in [
        format!("serves different certificates on its addresses: {first} serial "),
        " until 2027-07-21T00:00:00Z, ".to_owned(),
        format!("{second} serial "),
    ] {
        assert!(text.contains(&said), "no {said:?} in {text:?}");
    }
}

#[tokio::test]
async fn what_is_served_is_compared_with_what_is_stored_at_the_second_sight() {
    let pki = Pki::new();
    let (served, stored) = (pki.chain(&leaf((-40, 50))), pki.chain(&leaf((-10, 80))));
    let address = serving(loopback(1, 0), &served, &pki.key).await;
    let probe = probe(&[address.port()], no_resolver());
    let mut watched = Watched::new(probe, &[("127.0.0.1", address.port())], pki.anchors());
    // A value may be DER.
    let read = bundle::read_secret("kubernetes.io/tls", &[("tls.crt", &stored[0])], None, true);
    watched.secret = read.into_iter().map(|(_, value)| value).next();
    assert!(watched.secret.as_ref().unwrap().content.leaf().is_some());
    assert_eq!(watched.look().await, []);
    let found = watched.look().await;
    let [(Finding::ServedCertificateDiffers, Severity::Warning, text)] = found.as_slice() else {
        panic!("{found:?}");
    };
    assert!(
        text.starts_with("serves another certificate than its Secret holds: served is serial "),
        "{text}"
    );
    assert!(
        text.contains(", valid until 2027-07-21T00:00:00Z; stored is serial "),
        "{text}"
    );
    assert!(text.ends_with(", valid until 2027-08-20T00:00:00Z"), "{text}");
}

/// How a server that shows no certificate behaves.
#[derive(Clone, Copy, Debug)]
enum Hostile {
    Silent,
    Drips,
    Garbage,
    Chatters,
    HangsUp,
}

async fn hostile(manner: Hostile) -> SocketAddr {
    serve_raw(loopback(1, 0), move |mut tcp| async move {
        // A record of 16 KiB that begins a ServerHello.
        let mut drip = [22, 3, 3, 64, 0, 2, 0, 63, 0].into_iter().chain(std::iter::repeat(3));
        let mut hello = [0; 4096];
        let _ = tcp.read(&mut hello).await;
        match manner {
            Hostile::Silent => std::future::pending().await,
            Hostile::Drips => {
                let mut tick = tokio::time::interval(Duration::from_millis(20));
                loop {
                    tick.tick().await;
                    if tcp.write_all(&[drip.next().unwrap()]).await.is_err() {
                        break;
                    }
                }
            }
            Hostile::Garbage => {
                let _ = tcp.write_all(&[0x5a; 64 * 1024]).await;
                let _ = tcp.read(&mut hello).await;
            }
            Hostile::Chatters => {
                let _ = tcp.write_all(b"220 mail.example ESMTP\r\n").await;
                let _ = tcp.read(&mut hello).await;
            }
            Hostile::HangsUp => {}
        }
    })
    .await
}

#[tokio::test]
async fn a_server_that_shows_no_certificate_is_unreachable_by_its_cause_and_by_its_deadline() {
    let pki = Pki::new();
    let short = Duration::from_millis(400);
    for (manner, cause, at_deadline) in [
        (Hostile::Silent, "timed out", true),
        (Hostile::Drips, "timed out", true),
        (Hostile::Garbage, "the server answers, but not with TLS", false),
        (Hostile::Chatters, "the server answers, but not with TLS", false),
        (Hostile::HangsUp, "connection closed before a certificate came", false),
    ] {
        let address = hostile(manner).await;
        let probe = probe(&[address.port()], no_resolver());
        let mut watched = Watched::new(probe, &[("127.0.0.1", address.port())], pki.anchors());
        watched.timeout = if at_deadline { short } else { PATIENCE };
        let start = Instant::now();
        let found = watched.look().await;
        let took = start.elapsed();
        let text = format!("cannot be checked: {cause} ({address}); 1 attempt in a row; no certificate was ever seen");
        assert_eq!(found, [warning(Finding::Unreachable, &text)], "{manner:?}");
        // Machines are busy: what hangs ends at its deadline, not before and not long after, and what speaks ends at once.
        let within = if at_deadline {
            short..short * 6
        } else {
            Duration::ZERO..short * 6
        };
        assert!(within.contains(&took), "{manner:?}: {took:?}");
    }
}

#[tokio::test]
async fn a_chain_of_64_kib_is_unreachable_and_one_that_no_one_can_read_is_too() {
    let pki = Pki::new();
    let mut large = pki.chain(&leaf((-10, 80)));
    while large.iter().map(Vec::len).sum::<usize>() < 64 * 1024 {
        large.push(pki.ca.der().to_vec());
    }
    for (chain, cause) in [
        (large, "the server's certificate list is larger than 64 KiB"),
        (
            vec![b"no certificate".to_vec()],
            "the server's certificate cannot be read",
        ),
    ] {
        let address = serving(loopback(1, 0), &chain, &pki.key).await;
        let probe = probe(&[address.port()], no_resolver());
        let mut watched = Watched::new(probe, &[("127.0.0.1", address.port())], pki.anchors());
        let start = Instant::now();
        let text = format!("cannot be checked: {cause} ({address}); 1 attempt in a row; no certificate was ever seen");
        assert_eq!(watched.look().await, [warning(Finding::Unreachable, &text)]);
        assert!(start.elapsed() < PATIENCE / 2, "{:?}", start.elapsed());
    }
}

#[tokio::test]
async fn what_was_seen_goes_on_ending_while_nobody_answers() {
    let pki = Pki::new();
    let address = serving(loopback(1, 0), &pki.chain(&leaf((-90, 0))), &pki.key).await;
    let probe = probe(&[address.port(), 9], no_resolver());
    let mut watched = Watched::new(probe, &[("127.0.0.1", address.port())], pki.anchors());
    let expired = critical(Finding::Expired, "expired 2027-06-01T00:00:00Z");
    assert_eq!(watched.look().await, std::slice::from_ref(&expired));
    // The name moves to where nobody listens, and something doesn't resolve, so that the old address is still one of its.
    watched.hosts = vec![("127.0.0.9", 9), ("gone.example", 9)];
    watched.timeout = Duration::from_millis(300);
    let found = watched.look().await;
    assert_eq!(found[0], expired);
    let (finding, severity, text) = &found[1];
    assert_eq!((*finding, *severity), (Finding::Unreachable, Severity::Warning));
    assert!(text.starts_with("cannot be checked: "), "{text}");
    assert!(text.contains("connection refused (127.0.0.9:9)"), "{text}");
    assert!(
        text.ends_with("; last seen certificate expired 2027-06-01T00:00:00Z"),
        "{text}"
    );
}

#[tokio::test]
async fn a_name_without_a_record_has_no_address() {
    let dns = Dns::start(|_, _| Answer::NxDomain).await;
    let probe = || probe(&[9], Resolver::server(dns.address).unwrap());
    let mut watched = Watched::new(probe(), &[("gone.example", 9)], Anchors::default());
    let text = "has no address: the name has no address record; no certificate was ever seen";
    assert_eq!(watched.look().await, [warning(Finding::NoAddress, text)]);
    let mut of_object = Watched::new(probe(), &[("gone.example", 9)], Anchors::default());
    of_object.from_object = true;
    let text = "has no address: neither its status nor DNS gives one; no certificate was ever seen";
    assert_eq!(of_object.look().await, [warning(Finding::NoAddress, text)]);
}

#[tokio::test]
async fn what_the_policy_refuses_is_one_sentence_whatever_is_there() {
    let pki = Pki::new();
    let there = serving(loopback(1, 0), &pki.chain(&leaf((-10, 80))), &pki.key).await;
    let text = "is not dialled: the address or port is not permitted by the egress policy";
    for host in ["127.0.0.1", "127.0.0.200", "169.254.169.254", "10.0.0.1", "::1"] {
        let policy = format!("ports: {{endpoints: [{}]}}", there.port());
        let policy = EgressPolicy::parse(&policy, "policy.yaml").unwrap();
        let probe = TlsProbe::new(Egress::new(policy, OwnAddresses::default(), no_resolver()));
        let mut watched = Watched::new(probe, &[(host, there.port())], pki.anchors());
        assert_eq!(
            watched.look().await,
            [warning(Finding::TargetNotPermitted, text)],
            "{host}"
        );
        // However often it is refused, that is no attempt that failed.
        assert_eq!(
            watched.look().await,
            [warning(Finding::TargetNotPermitted, text)],
            "{host}"
        );
        // Of an object's address it is a line in the source's problem.
        watched.from_object = true;
        assert_eq!(watched.look().await, [], "{host}");
    }
}
