use super::*;
use crate::{
    bundle::{read_secret, read_value},
    certificate::Names,
    dial::LookContext,
    finding::AlertKind,
    fixture::{Authority, Raw, Spec, day, parsed, pem, self_signed},
    policy::{FailureThreshold, Intermediates, Limit, Thresholds},
    target::{Look, ProbeFailure, ServedBytes},
    text::PeerText,
    trust,
};
use chrono::TimeDelta;
use proptest::prelude::*;

fn secret() -> Place {
    Place::Secret {
        namespace: "shop".into(),
        name: "shop-tls".into(),
        key: "tls.crt".into(),
    }
}

fn endpoint() -> Place {
    let host = Host::parse("a.example").unwrap();
    Place::Endpoint {
        host: host.clone(),
        port: 443,
        server_name: host,
    }
}

fn named() -> StoredExpectation {
    StoredExpectation {
        named: true,
        with_anchors: true,
        ..StoredExpectation::default()
    }
}

fn stored(ders: &[&[u8]]) -> StoredValue {
    let text: String = ders.iter().map(|der| pem(der)).collect();
    read_value(text.as_bytes(), false)
}

/// Finding, severity, hold and sentence of each.
fn said(found: &[Sighting]) -> Vec<(Finding, Severity, Hold, &str)> {
    found
        .iter()
        .map(|one| (one.finding, one.severity, one.hold, one.facts.message.as_str()))
        .collect()
}

fn findings(found: &[Sighting]) -> Vec<Finding> {
    found.iter().map(|one| one.finding).collect()
}

fn assess(value: &StoredValue, now: DateTime<Utc>) -> Vec<Sighting> {
    assess_stored(&secret(), value, &named(), &Policy::default(), now)
}

#[test]
fn a_level_fires_at_the_later_of_its_limits_and_at_the_instant() {
    // 90 days: 25 % is 22.5 d, 10 % is 9 d; the later moments are 21 d and 7 d before the end.
    let value = stored(&[&Authority::root("Root").leaf("a.example", (0, 90))]);
    let second = TimeDelta::seconds(1);
    for (now, expected) in [
        (day(10), None),
        (day(69) - second, None),
        (day(69), Some((Finding::ExpiringSoon, Severity::Warning))),
        (day(83) - second, Some((Finding::ExpiringSoon, Severity::Warning))),
        (day(83), Some((Finding::ExpiryCritical, Severity::Critical))),
        (day(90) - second, Some((Finding::ExpiryCritical, Severity::Critical))),
        (day(90), Some((Finding::Expired, Severity::Critical))),
        (day(9000), Some((Finding::Expired, Severity::Critical))),
    ] {
        let found = assess(&value, now);
        assert_eq!(found.first().map(|one| (one.finding, one.severity)), expected, "{now}");
        assert!(found.len() <= 1);
    }
    let sentence = |now| assess(&value, now)[0].facts.message.clone();
    assert_eq!(
        sentence(day(69)),
        "expires 2026-04-01T00:00:00Z; warning threshold is 21d or 25% of lifetime"
    );
    assert_eq!(
        sentence(day(83)),
        "expires 2026-04-01T00:00:00Z; critical threshold is 7d or 10% of lifetime"
    );
    assert_eq!(sentence(day(90)), "expired 2026-04-01T00:00:00Z");
    // One day: 25 % is 6 h, and 21 d would always be true.
    let value = stored(&[&Authority::root("Root").leaf("a.example", (0, 1))]);
    assert_eq!(assess(&value, day(1) - TimeDelta::hours(6) - second), []);
    assert_eq!(
        findings(&assess(&value, day(1) - TimeDelta::hours(6))),
        [Finding::ExpiringSoon]
    );
}

#[test]
fn a_certificate_without_an_end_and_one_that_ends_before_it_begins_are_judged() {
    let endless = Raw {
        validity: ("20260101000000Z", "99991231235959Z"),
        ..Raw::default()
    };
    assert_eq!(assess(&stored(&[&endless.der()]), day(10)), []);
    let backwards = Raw {
        validity: ("20260201000000Z", "20260101000000Z"),
        ..Raw::default()
    };
    assert_eq!(
        findings(&assess(&stored(&[&backwards.der()]), day(0))),
        [Finding::Expired, Finding::NotYetValid]
    );
}

#[test]
fn clocks_may_differ_by_five_minutes() {
    let value = stored(&[&Authority::root("Root").leaf("a.example", (10, 90))]);
    let begins = day(10) - TimeDelta::minutes(5);
    assert_eq!(
        said(&assess(&value, begins - TimeDelta::seconds(1))),
        [(
            Finding::NotYetValid,
            Severity::Warning,
            Hold::No,
            "is not valid before 2026-01-11T00:00:00Z"
        )]
    );
    assert_eq!(assess(&value, begins), []);
}

#[test]
fn data_faults_are_one_finding_and_what_can_be_read_is_still_judged() {
    let leaf = pem(&Authority::root("Root").leaf("a.example", (0, 90)));
    let cases = [
        (String::new(), Hold::Grace, "is empty, where a certificate must be"),
        (
            "x".to_owned(),
            Hold::No,
            "holds no certificate that can be read as PEM or DER",
        ),
        (
            "x".repeat(400_000),
            Hold::No,
            "is too large to be read: a value may have 330000 bytes, a certificate 36500",
        ),
    ];
    for (text, hold, sentence) in &cases {
        let value = read_value(text.as_bytes(), false);
        assert_eq!(
            said(&assess(&value, day(1))),
            [(Finding::BadCertificateData, Severity::Warning, *hold, *sentence)]
        );
        // A pattern only searches.
        let searched = StoredExpectation::default();
        assert_eq!(
            assess_stored(&secret(), &value, &searched, &Policy::default(), day(1)),
            []
        );
    }
    let broken = read_value(format!("{leaf}-----BEGIN CERTIFICATE-----").as_bytes(), false);
    let found = assess_stored(
        &secret(),
        &broken,
        &StoredExpectation::default(),
        &Policy::default(),
        day(100),
    );
    assert_eq!(findings(&found), [Finding::Expired, Finding::BadCertificateData]);
    assert_eq!(
        found[1].facts.message,
        "is broken: 1 of 2 certificates in it can be read"
    );
}

#[test]
fn a_stand_in_gets_that_finding_alone() {
    let fake = self_signed(&Spec {
        common_name: "TRAEFIK DEFAULT CERT",
        days: (0, 1),
        ..Spec::default()
    });
    let value = stored(&[&fake]);
    assert_eq!(
        said(&assess(&value, day(100))),
        [(
            Finding::PlaceholderCertificate,
            Severity::Warning,
            Hold::Grace,
            "holds Traefik's default certificate, a stand-in for the real one"
        )]
    );
    let mut ignored = Policy::default();
    ignored.checks.placeholder = None;
    let found = assess_stored(&secret(), &value, &named(), &ignored, day(100));
    assert_eq!(findings(&found), [Finding::Expired]);
}

#[test]
fn a_stand_in_is_one_after_a_restart_too() {
    for name in ["TRAEFIK DEFAULT CERT", "Kubernetes Ingress Controller Fake Certificate"] {
        let fake = self_signed(&Spec {
            common_name: name,
            dns: &["ingress.local"],
            days: (0, 1),
            ..Spec::default()
        });
        let seen = dialled(&[look(&[("192.0.2.1", &[&fake])])], None, &[]);
        let before = judge(&seen, None, day(100));
        assert_eq!(findings(&before), [Finding::PlaceholderCertificate]);
        let mut facts = BTreeMap::new();
        let ledger = seen.remember(&mut |one| {
            let id = crate::hash::ShortHash::of(&[one.name.as_ref().unwrap().as_str().as_bytes()]);
            facts.insert(id, one.clone());
            id
        });
        let restored = Dialled::restore(&ledger, &facts, false, day(99));
        assert_eq!(judge(&restored, None, day(100)), before);
    }
}

#[test]
fn an_intermediate_is_a_finding_where_it_ends_before_the_leaf_and_is_needed() {
    let root = Authority::root("Root");
    let sub = root.sub("Sub", (0, 60));
    let leaf = sub.leaf("a.example", (0, 90));
    let value = stored(&[&leaf, &sub.der]);
    // Percentages are of the leaf's lifetime, 90 days: 21 d and 7 d before the end of the intermediate.
    let at = |now: i64, expected: &StoredExpectation, policy: &Policy| {
        let found = assess_stored(&secret(), &value, expected, policy, day(now));
        found
            .into_iter()
            .filter(|one| one.finding == Finding::IntermediateExpiring)
            .map(|one| (one.severity, one.role, one.facts.message))
            .collect::<Vec<_>>()
    };
    let policy = Policy::default();
    let role = parsed(&sub.der).member_role();
    assert_eq!(at(38, &named(), &policy), []);
    let warning = at(39, &named(), &policy);
    assert_eq!((warning[0].0, warning[0].1), (Severity::Warning, role));
    assert_eq!(
        warning[0].2,
        "intermediate certificate Sub expires 2026-03-02T00:00:00Z; warning threshold is 21d or 25% of lifetime; the \
         leaf lasts until 2026-04-01T00:00:00Z"
    );
    assert_eq!(at(53, &named(), &policy)[0].0, Severity::Critical);
    assert_eq!(at(61, &named(), &policy)[0].0, Severity::Critical);
    let dispensable = StoredExpectation {
        dispensable: vec![parsed(&sub.der).fingerprint],
        ..named()
    };
    assert_eq!(at(61, &dispensable, &policy), []);
    let mut always = Policy::default();
    always.checks.intermediates = Intermediates::Level(Some(Severity::Warning));
    assert_eq!(at(61, &named(), &always)[0].0, Severity::Warning);
    always.checks.intermediates = Intermediates::Level(None);
    assert_eq!(at(61, &named(), &always), []);
    let outlives = stored(&[&sub.leaf("a.example", (0, 60)), &sub.der]);
    let found = assess(&outlives, day(59));
    assert_eq!(findings(&found), [Finding::ExpiryCritical], "not before the leaf");
}

#[test]
fn members_of_a_set_are_judged_by_themselves_but_what_is_superseded_is_a_fact() {
    let one = Authority::root_for("One", (0, 100)).der;
    let old = Authority::root_for("Two", (0, 100)).der;
    let new = Authority::root_for("Two", (50, 500)).der;
    let found = assess(&stored(&[&one, &old, &new]), day(200));
    assert_eq!(found.len(), 1, "{found:?}");
    assert_eq!(
        (found[0].finding, found[0].role),
        (Finding::Expired, parsed(&one).member_role())
    );
    assert_eq!(found[0].facts.message, "certificate One expired 2026-04-11T00:00:00Z");
    assert_eq!(found[0].facts.name.as_ref().unwrap().as_str(), "One");
}

#[test]
fn of_members_with_one_subject_and_key_the_longest_lived_counts() {
    let (other, third) = (Authority::root("Other"), Authority::root("Third"));
    let sub = other.sub("Sub", (0, 100));
    let longer = sub.cross_signed_by(&third, "Sub", (0, 400));
    let value = stored(&[&sub.der, &longer, &third.der]);
    assert!(matches!(value.content, Content::Set(_)));
    assert_eq!(assess(&value, day(200)), []);
}

#[test]
fn anchors_of_a_tls_secret_are_warnings_by_the_lifetime_of_the_leaf() {
    let root = Authority::root_for("Root", (0, 3650));
    let ca = Authority::root_for("Private CA", (0, 120));
    let tls = pem(&root.leaf("a.example", (0, 400)));
    let ca_text = pem(&ca.der);
    let values = [("tls.crt", tls.as_bytes()), ("ca.crt", ca_text.as_bytes())];
    let value = read_secret("kubernetes.io/tls", &values, None, false).remove(0).1;
    // The leaf lives 400 days: 21 d is later than 100 d.
    assert_eq!(assess(&value, day(98)), []);
    for (now, finding, text) in [
        (
            99,
            Finding::ExpiringSoon,
            "expires 2026-05-01T00:00:00Z; warning threshold is 21d or 25% of lifetime",
        ),
        (
            119,
            Finding::ExpiringSoon,
            "expires 2026-05-01T00:00:00Z; warning threshold is 21d or 25% of lifetime",
        ),
        (120, Finding::Expired, "expired 2026-05-01T00:00:00Z"),
    ] {
        let found = assess(&value, day(now));
        let sentence = format!("CA certificate Private CA in ca.crt {text}");
        assert_eq!(
            said(&found),
            [(finding, Severity::Warning, Hold::No, sentence.as_str())]
        );
        assert_eq!(found[0].role, parsed(&ca.der).member_role());
    }
    let without = StoredExpectation {
        with_anchors: false,
        ..named()
    };
    assert_eq!(
        assess_stored(&secret(), &value, &without, &Policy::default(), day(120)),
        []
    );
}

#[test]
fn paths_keys_and_weakness_are_findings_where_they_are_asked_for() {
    let root = Authority::root("Root");
    let value = stored(&[&root.leaf("a.example", (0, 90))]);
    let with = |path| StoredExpectation {
        path: Some(path),
        ..named()
    };
    let find = |path, policy: &Policy| {
        let found = assess_stored(&secret(), &value, &with(path), policy, day(1));
        found
            .into_iter()
            .map(|one| (one.finding, one.facts.message))
            .collect::<Vec<_>>()
    };
    let policy = Policy::default();
    for silent in [PathVerdict::Trusted, PathVerdict::NotJudged] {
        assert_eq!(find(silent, &policy), []);
    }
    let untrusted = "has no path to a trusted root; its chain ends at issuer Root".to_owned();
    assert_eq!(
        find(PathVerdict::Untrusted, &policy),
        [(Finding::UntrustedIssuer, untrusted)]
    );
    let incomplete = "has an incomplete chain: the certificate of issuer Root is missing".to_owned();
    assert_eq!(
        find(PathVerdict::Incomplete, &policy),
        [(Finding::IncompleteChain, incomplete)]
    );
    assert_eq!(find(PathVerdict::TrustedButWeak, &policy)[0].0, Finding::WeakCrypto);
    let sha1 = read_value(include_bytes!("../../testdata/sha1-leaf.pem"), false);
    let now = DateTime::from_timestamp(1_800_000_000, 0).unwrap();
    assert_eq!(
        said(&assess(&sha1, now)),
        [(
            Finding::WeakCrypto,
            Severity::Warning,
            Hold::No,
            "has weak cryptography: SHA-1 signature"
        )]
    );
    let small = read_value(include_bytes!("../../testdata/small-root.pem"), false);
    let found = assess(&small, now);
    assert_eq!(
        found[0].facts.message,
        "has weak cryptography in certificate Small Root: RSA key of 1024 bits"
    );
    let mut asked = Policy::default();
    asked.checks.key_match = Some(Severity::Critical);
    let tls = pem(&root.leaf("a.example", (0, 90)));
    let value = read_secret("kubernetes.io/tls", &[("tls.crt", tls.as_bytes())], Some(b"x"), false)
        .remove(0)
        .1;
    let found = assess_stored(&secret(), &value, &named(), &asked, day(1));
    assert_eq!(
        said(&found),
        [(
            Finding::KeyMismatch,
            Severity::Critical,
            Hold::No,
            "has a private key beside it that cannot be read"
        )]
    );
    assert_eq!(assess(&value, day(1)), []);
}

#[test]
fn a_missing_secret_is_held_and_says_who_names_it() {
    let secret = Place::Secret {
        namespace: "shop".into(),
        name: "shop-tls".into(),
        key: "tls.crt".into(),
    };
    let opaque = || PeerText::sanitise("Opaque");
    let ingress = NamedBy::Ingress("shop".into());
    for (missing, named_by, text) in [
        (
            MissingSecret::Absent,
            &NamedBy::Monitor,
            "is named by the monitor and is not there",
        ),
        (
            MissingSecret::Absent,
            &ingress,
            "is named by Ingress/shop and is not there",
        ),
        (
            MissingSecret::OtherType(opaque()),
            &NamedBy::Monitor,
            "is named by the monitor and exists with type Opaque: list it under `types`",
        ),
        (
            MissingSecret::WithoutKey(None),
            &ingress,
            "is named by Ingress/shop and is not in the Secret",
        ),
        (
            MissingSecret::WithoutKey(Some(opaque())),
            &ingress,
            "is named by Ingress/shop and is not in the Secret, which exists with type Opaque",
        ),
    ] {
        let found = assess_missing_secret(&secret, &missing, named_by, &Policy::default(), day(1));
        assert_eq!(
            said(&found),
            [(Finding::SecretMissing, Severity::Warning, Hold::Grace, text)]
        );
    }
}

#[test]
fn a_host_that_is_none_is_not_permitted_in_the_words_of_any_other() {
    let place = Place::NoHost {
        host: PeerText::sanitise("2852039166"),
        port: 443,
        server_name: PeerText::sanitise("2852039166"),
    };
    assert_eq!(place.title(), "2852039166:443");
    let mut dialled = Dialled::new();
    let refused = Look {
        addresses: vec![],
        unresolved: vec![],
        refused: 1,
    };
    let context = LookContext {
        from_object: false,
        secret_leaf: None,
        failure_threshold: Policy::default().failure_threshold,
    };
    dialled.look(&refused, context, &mut |_| PathVerdict::NotJudged, day(1));
    let host = Host::parse("127.0.0.1").unwrap();
    let expected = DialledExpectation {
        server_name: &host,
        secret: None,
        from_object: false,
    };
    let permitted_by_nobody = assess_dialled(&place, &dialled, &expected, &Policy::default(), day(1));
    let no_host = assess_no_host(&place, &Policy::default(), day(1));
    assert_eq!(no_host, permitted_by_nobody);
    assert_eq!(no_host[0].finding, Finding::TargetNotPermitted);
}

#[test]
fn counts_of_a_source_and_a_monitor_are_findings() {
    let source = Place::Source { name: "tls".into() };
    let policy = Policy::default();
    assert_eq!(assess_too_few(&source, 2, 2, &policy, day(1)), []);
    assert_eq!(
        said(&assess_too_few(&source, 1, 2, &policy, day(1))),
        [(
            Finding::TooFewCertificates,
            Severity::Warning,
            Hold::Grace,
            "has 1 of at least 2 certificates"
        )]
    );
    assert_eq!(assess_limit(&Place::Monitor, 10, 10, &policy, day(1)), []);
    let found = assess_limit(&Place::Monitor, 12, 10, &policy, day(1));
    assert_eq!(
        found[0].facts.message,
        "watches 12 certificates, and 10 may be checked: 2 are not"
    );
}

#[test]
fn an_anchor_that_stands_in_tls_crt_too_is_nothing_there() {
    let root = Authority::root_for("Root", (0, 100));
    let tls = format!("{}{}", pem(&root.leaf("a.example", (0, 400))), pem(&root.der));
    let ca = pem(&root.der);
    let values = [("tls.crt", tls.as_bytes()), ("ca.crt", ca.as_bytes())];
    let value = read_secret("kubernetes.io/tls", &values, None, true).remove(0).1;
    assert_eq!(assess(&value, day(200)), []);
    // It is trusted all the same for what an Ingress serves.
    assert_eq!(trust::Anchors::default().with(&value.anchors).len(), 1);
}

#[test]
fn names_are_covered_as_rfc_9525_has_it() {
    for (san, host, expected) in [
        ("a.example.com", "a.example.com", true),
        ("A.Example.com", "a.EXAMPLE.com", true),
        ("a.example.com.", "a.example.com", true),
        ("*.example.com", "a.example.com", true),
        ("*.example.com", "a.b.example.com", false),
        ("*.example.com", "example.com", false),
        ("*.com", "example.com", false),
        ("a*.example.com", "ab.example.com", false),
        ("*", "example", false),
        ("*.example.com", "*.example.com", true),
        ("*.b.example.com", "*.example.com", false),
        ("a.example.com", "*.example.com", false),
        ("*.*.example.com", "a.b.example.com", false),
        ("192.0.2.7", "192.0.2.7", false),
        ("", "a.example.com", false),
    ] {
        let mut certificate = Certificate::clone(&parsed(&self_signed(&Spec {
            common_name: host,
            ..Spec::default()
        })));
        certificate.dns_names = Names::new([san.to_ascii_lowercase()]);
        assert_eq!(
            covers(&certificate, &Host::parse(host).unwrap()),
            expected,
            "{san} {host}"
        );
        certificate.dns_names = Names::default();
        assert!(
            !covers(&certificate, &Host::parse(host).unwrap()),
            "the common name never counts"
        );
    }
    let by_ip = parsed(
        &Raw {
            names: vec![(0x87, vec![192, 0, 2, 7])],
            ..Raw::default()
        }
        .der(),
    );
    assert!(covers(&by_ip, &Host::parse("192.0.2.7").unwrap()));
    assert!(!covers(&by_ip, &Host::parse("192.0.2.8").unwrap()));
}

/// One look at addresses, each with the chain it served.
fn look(served: &[(&str, &[&Vec<u8>])]) -> Look {
    Look {
        addresses: served
            .iter()
            .map(|(ip, chain)| {
                let chain = chain.iter().map(|der| der.to_vec()).collect();
                (ip.parse().unwrap(), 443, Ok(ServedBytes { chain }))
            })
            .collect(),
        unresolved: Vec::new(),
        refused: 0,
    }
}

fn context(secret: Option<&StoredValue>) -> LookContext {
    LookContext {
        from_object: false,
        secret_leaf: secret
            .and_then(|value| value.content.leaf())
            .map(|leaf| leaf.fingerprint),
        failure_threshold: FailureThreshold::default(),
    }
}

fn dialled(looks: &[Look], secret: Option<&StoredValue>, trusted: &[&Vec<u8>]) -> Dialled {
    let anchors = trust::Anchors::from_der(trusted);
    let mut dialled = Dialled::new();
    for (at, look) in looks.iter().enumerate() {
        let now = day(1) + TimeDelta::minutes(i64::try_from(at).unwrap());
        dialled.look(
            look,
            context(secret),
            &mut |chain| trust::judge(chain, &anchors, &[], now),
            now,
        );
    }
    dialled
}

fn judge(dialled: &Dialled, secret: Option<&StoredValue>, now: DateTime<Utc>) -> Vec<Sighting> {
    let host = Host::parse("a.example.com").unwrap();
    let expected = DialledExpectation {
        server_name: &host,
        secret,
        from_object: false,
    };
    assess_dialled(&endpoint(), dialled, &expected, &Policy::default(), now)
}

#[test]
fn what_is_served_is_judged_by_name_issuer_and_dates() {
    let root = Authority::root("Root");
    let good = root.leaf("a.example.com", (0, 90));
    let wrong = root.leaf("b.example.com", (0, 90));
    assert_eq!(
        judge(
            &dialled(&[look(&[("192.0.2.1", &[&good])])], None, &[&root.der]),
            None,
            day(1)
        ),
        []
    );
    let untrusted = dialled(&[look(&[("192.0.2.1", &[&wrong])])], None, &[]);
    assert_eq!(
        said(&judge(&untrusted, None, day(1))),
        [
            (
                Finding::HostnameMismatch,
                Severity::Critical,
                Hold::No,
                "serves a certificate that does not cover a.example.com: it is for b.example.com"
            ),
            (
                Finding::UntrustedIssuer,
                Severity::Warning,
                Hold::No,
                "has no path to a trusted root; its chain ends at issuer Root"
            ),
        ]
    );
}

#[test]
fn of_several_addresses_the_worst_counts_once_and_is_named() {
    let root = Authority::root("Root");
    let (long, short) = (root.leaf("a.example.com", (0, 90)), root.leaf("a.example.com", (0, 30)));
    let one = look(&[("192.0.2.1", &[&long]), ("192.0.2.2", &[&short])]);
    let seen = dialled(std::slice::from_ref(&one), None, &[&root.der]);
    let found = judge(&seen, None, day(80));
    assert_eq!(findings(&found), [Finding::Expired]);
    assert_eq!(found[0].facts.message, "expired 2026-01-31T00:00:00Z at 192.0.2.2:443");
    let twice = dialled(&[one.clone(), one], None, &[&root.der]);
    let found = judge(&twice, None, day(1));
    assert_eq!(findings(&found), [Finding::InconsistentServers]);
    assert_eq!(found[0].hold, Hold::GraceAndLook);
    assert!(
        found[0]
            .facts
            .message
            .starts_with("serves different certificates on its addresses: 192.0.2.1:443 serial")
    );
}

#[test]
fn an_rsa_and_an_ecdsa_leaf_of_the_same_names_are_consistent() {
    let root = Authority::root("Root");
    let spec = Spec {
        dns: &["a.example.com"],
        ..Spec::default()
    };
    let rsa_key = rcgen::KeyPair::generate_rsa_for(&rcgen::PKCS_RSA_SHA256, rcgen::RsaKeySize::_2048).unwrap();
    let (rsa, ec) = (root.issue_for(&spec, &rsa_key), root.issue(&spec));
    let other_name = root.leaf("b.example.com", (0, 90));
    let twice = |one: &Vec<u8>, other: &Vec<u8>| {
        let look = look(&[("192.0.2.1", &[one]), ("192.0.2.2", &[other])]);
        let seen = dialled(&[look.clone(), look], None, &[&root.der]);
        judge(&seen, None, day(1))
            .iter()
            .any(|one| one.finding == Finding::InconsistentServers)
    };
    assert!(!twice(&rsa, &ec));
    assert!(twice(&rsa, &other_name));
}

#[test]
fn another_leaf_than_the_secrets_is_a_finding_once_it_was_seen_twice() {
    let root = Authority::root("Root");
    let (old, new) = (
        root.issue(&Spec {
            dns: &["a.example.com"],
            serial: Some(1),
            ..Spec::default()
        }),
        root.issue(&Spec {
            dns: &["a.example.com"],
            serial: Some(2),
            ..Spec::default()
        }),
    );
    let secret = stored(&[&new]);
    let served = look(&[("192.0.2.1", &[&old])]);
    let once = dialled(std::slice::from_ref(&served), Some(&secret), &[&root.der]);
    assert_eq!(judge(&once, Some(&secret), day(1)), []);
    let twice = dialled(&[served.clone(), served.clone()], Some(&secret), &[&root.der]);
    assert_eq!(
        said(&judge(&twice, Some(&secret), day(1))),
        [(
            Finding::ServedCertificateDiffers,
            Severity::Warning,
            Hold::GraceAndLook,
            "serves another certificate than its Secret holds: served is serial 01, valid until 2026-04-01T00:00:00Z; \
             stored is serial 02, valid until 2026-04-01T00:00:00Z"
        )]
    );
    let reloaded = dialled(
        &[served.clone(), served, look(&[("192.0.2.1", &[&new])])],
        Some(&secret),
        &[&root.der],
    );
    assert_eq!(judge(&reloaded, Some(&secret), day(1)), []);
}

#[test]
fn a_secret_that_does_not_cover_the_host_is_found_at_the_host_too() {
    let root = Authority::root("Root");
    let secret = stored(&[&root.leaf("b.example.com", (0, 90))]);
    let host = Host::parse("a.example.com").unwrap();
    let found = assess_ingress_secret(&endpoint(), &host, &secret, &Policy::default(), day(1));
    let sentence = "has a certificate in its Secret that does not cover a.example.com: it is for b.example.com";
    assert_eq!(
        said(&found),
        [(Finding::HostnameMismatch, Severity::Critical, Hold::No, sentence)]
    );
    let nothing_served = judge(&Dialled::new(), Some(&secret), day(1));
    assert_eq!(nothing_served, found);
}

fn failing(ip: &str, cause: ProbeFailure) -> Look {
    Look {
        addresses: vec![(ip.parse().unwrap(), 443, Err(cause))],
        unresolved: Vec::new(),
        refused: 0,
    }
}

#[test]
fn unreachable_hides_no_expiry_and_says_what_was_seen() {
    let root = Authority::root("Root");
    let leaf = root.leaf("a.example.com", (0, 90));
    let down = failing("192.0.2.1", ProbeFailure::Refused);
    let looks = [look(&[("192.0.2.1", &[&leaf])]), down.clone(), down.clone(), down];
    let seen = dialled(&looks[..3], None, &[&root.der]);
    assert_eq!(judge(&seen, None, day(2)), []);
    let seen = dialled(&looks, None, &[&root.der]);
    assert_eq!(
        said(&judge(&seen, None, day(2))),
        [(
            Finding::Unreachable,
            Severity::Warning,
            Hold::No,
            "cannot be checked: connection refused (192.0.2.1:443); 3 attempts in a row; last seen certificate expires \
             2026-04-01T00:00:00Z"
        )]
    );
    assert_eq!(
        findings(&judge(&seen, None, day(91))),
        [Finding::Expired, Finding::Unreachable]
    );
    let never = dialled(&looks[1..], None, &[&root.der]);
    let found = judge(&never, None, day(2));
    assert_eq!(found[0].hold, Hold::GraceAndLook);
    assert!(
        found[0].facts.message.ends_with("no certificate was ever seen"),
        "{found:?}"
    );
}

#[test]
fn a_forbidden_target_says_the_same_whatever_is_behind_it() {
    let refused = Look {
        addresses: Vec::new(),
        unresolved: Vec::new(),
        refused: 1,
    };
    let found = [refused, failing("127.0.0.1", ProbeFailure::NotPermitted)]
        .map(|look| judge(&dialled(&[look], None, &[]), None, day(1)));
    assert_eq!(found[0], found[1]);
    assert_eq!(findings(&found[0]), [Finding::TargetNotPermitted]);
    assert!(!format!("{:?}", found[0][0].facts).contains("127"));
    let host = Host::parse("a.example.com").unwrap();
    let expected = DialledExpectation {
        server_name: &host,
        secret: None,
        from_object: true,
    };
    let seen = dialled(&[failing("127.0.0.1", ProbeFailure::NotPermitted)], None, &[]);
    assert_eq!(
        assess_dialled(&endpoint(), &seen, &expected, &Policy::default(), day(1)),
        []
    );
    assert_eq!(seen.problems().count(), 1);
}

#[test]
fn long_texts_are_bounded() {
    let names: Vec<(u8, Vec<u8>)> = (0..50)
        .map(|n| (0x82, format!("{n}{}", "x".repeat(300)).into_bytes()))
        .collect();
    let der = Raw {
        names,
        ..Raw::default()
    }
    .der();
    let seen = dialled(&[look(&[("192.0.2.1", &[&der])])], None, &[]);
    for one in judge(&seen, None, day(1)) {
        assert!(one.facts.message.chars().count() <= 700, "{}", one.facts.message);
        assert!(one.facts.dns_names.len() <= 20);
    }
}

#[test]
fn what_stands_in_a_role_is_known() {
    let root = Authority::root("Root");
    let sub = root.sub("Sub", (0, 60));
    let leaf = sub.leaf("a.example.com", (0, 90));
    let value = stored(&[&leaf, &sub.der]);
    let role = parsed(&sub.der).member_role();
    assert_eq!(present_stored(&value, Role::Leaf).unwrap().not_after, Some(day(90)));
    assert_eq!(present_stored(&value, role).unwrap().not_after, Some(day(60)));
    let seen = dialled(&[look(&[("192.0.2.1", &[&leaf, &sub.der])])], None, &[]);
    assert_eq!(present_dialled(&seen, Role::Leaf), present_stored(&value, Role::Leaf));
    assert_eq!(present_dialled(&seen, role), present_stored(&value, role));
    assert_eq!(present_stored(&value, parsed(&root.der).member_role()), None);
}

#[test]
fn every_finding_of_this_file_has_one_alert_per_role() {
    let root = Authority::root("Root");
    let (old, older) = (root.leaf("a.example.com", (0, 10)), root.leaf("a.example.com", (0, 5)));
    let seen = dialled(&[look(&[("192.0.2.1", &[&old]), ("192.0.2.2", &[&older])])], None, &[]);
    let found = judge(&seen, None, day(50));
    let kinds: Vec<(AlertKind, Role)> = found.iter().map(|one| (one.finding.kind(), one.role)).collect();
    let distinct: std::collections::BTreeSet<_> = kinds.iter().copied().collect();
    assert_eq!(kinds.len(), distinct.len(), "{kinds:?}");
    assert_eq!(found[0].facts.not_after, Some(day(5)), "the one that ends first");
}

fn thresholds() -> impl Strategy<Value = Thresholds> {
    let limit = || {
        (proptest::option::of(1i64..60), proptest::option::of(1u8..99)).prop_map(|(days, percent)| Limit {
            remaining: days
                .map(TimeDelta::days)
                .or(percent.is_none().then(|| TimeDelta::days(1))),
            remaining_percent: percent,
        })
    };
    (limit(), limit()).prop_map(|(warning, critical)| Thresholds { warning, critical })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn between_now_and_the_next_change_nothing_changes(
        thresholds in thresholds(),
        now in -10i64..500,
        fraction in 0.0f64..1.0,
        which in 0usize..4,
    ) {
        static VALUES: std::sync::LazyLock<Vec<StoredValue>> = std::sync::LazyLock::new(|| {
            let root = Authority::root_for("Root", (0, 300));
            let sub = root.sub("Sub", (0, 80));
            let tls = format!("{}{}", pem(&sub.leaf("a.example.com", (5, 120))), pem(&sub.der));
            let ca = pem(&Authority::root_for("Other", (0, 200)).der);
            let values = [("tls.crt", tls.as_bytes()), ("ca.crt", ca.as_bytes())];
            vec![
                read_secret("kubernetes.io/tls", &values, None, false).remove(0).1,
                stored(&[&root.der, &Authority::root_for("Third", (20, 90)).der]),
                stored(&[&self_signed(&Spec { common_name: "TRAEFIK DEFAULT CERT", ..Spec::default() })]),
                StoredValue::default(),
            ]
        });
        let policy = Policy { thresholds, ..Policy::default() };
        let (value, now) = (&VALUES[which], day(now));
        let assess = |now| assess_stored(&Place::Monitor, value, &named(), &policy, now);
        let present = assess(now);
        match next_change_stored(value, &named(), &policy, now) {
            Some(next) => {
                prop_assert!(next > now);
                prop_assert_ne!(assess(next), present.clone());
                let seconds = (next - now).num_seconds();
                #[allow(clippy::cast_precision_loss, clippy::cast_possible_truncation)]
                let between = now + TimeDelta::seconds((seconds as f64 * fraction) as i64);
                prop_assert_eq!(assess(between), present.clone());
                prop_assert_eq!(assess(next - TimeDelta::seconds(1)), present);
            }
            None => prop_assert_eq!(assess(day(100_000)), present),
        }
    }

    #[test]
    fn what_is_served_changes_at_the_next_change_alone(now in -10i64..500, fraction in 0.0f64..1.0) {
        static SEEN: std::sync::LazyLock<Dialled> = std::sync::LazyLock::new(|| {
            let root = Authority::root_for("Root", (0, 300));
            let sub = root.sub("Sub", (0, 80));
            let (one, other) = (sub.leaf("a.example.com", (5, 120)), sub.leaf("a.example.com", (5, 60)));
            let seen = look(&[("192.0.2.1", &[&one, &sub.der]), ("192.0.2.2", &[&other, &sub.der])]);
            let down = Look {
                addresses: vec![
                    ("192.0.2.1".parse().unwrap(), 443, Err(ProbeFailure::TimedOut)),
                    ("192.0.2.2".parse().unwrap(), 443, Err(ProbeFailure::TimedOut)),
                ],
                unresolved: Vec::new(),
                refused: 0,
            };
            dialled(&[seen, down.clone(), down.clone(), down], None, &[&root.der])
        });
        let now = day(now);
        let host = Host::parse("a.example.com").unwrap();
        let expected = DialledExpectation { server_name: &host, secret: None, from_object: false };
        let policy = Policy::default();
        let assess = |now| assess_dialled(&Place::Monitor, &SEEN, &expected, &policy, now);
        if let Some(next) = next_change_dialled(&SEEN, &expected, &policy, now) {
            prop_assert_ne!(assess(next), assess(now));
            let seconds = (next - now).num_seconds();
            #[allow(clippy::cast_precision_loss, clippy::cast_possible_truncation)]
            let between = now + TimeDelta::seconds((seconds as f64 * fraction) as i64);
            prop_assert_eq!(assess(between), assess(now));
            prop_assert_eq!(assess(next - TimeDelta::seconds(1)), assess(now));
        } else {
            prop_assert_eq!(assess(day(100_000)), assess(now));
        }
    }
}
