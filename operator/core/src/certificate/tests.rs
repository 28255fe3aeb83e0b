use super::*;
use crate::fixture::{Authority, Raw, Spec, day, self_signed, tlv};
use proptest::prelude::*;

fn parse(der: &[u8]) -> Certificate {
    Certificate::parse(der, false).unwrap_or_else(|error| panic!("{error}: {}", hex::encode(der)))
}

fn name_of(raw: &Raw) -> String {
    parse(&raw.der()).name.to_string()
}

const DNS: u8 = 0x82;
const MAIL: u8 = 0x81;
const URI: u8 = 0x86;
const IP: u8 = 0x87;
const CN: u8 = 3;
const ORGANISATION: u8 = 10;
const UTF8: u8 = 12;

#[test]
fn a_certificate_is_known_by_its_first_name_of_the_best_kind() {
    let cn = (CN, UTF8, b"common".to_vec());
    let all = [
        (MAIL, b"a@example.com".to_vec()),
        (URI, b"spiffe://x/y".to_vec()),
        (IP, vec![192, 0, 2, 7]),
        (DNS, b"A.example.com".to_vec()),
        (DNS, b"b.example.com".to_vec()),
    ];
    for (names, subject, expected) in [
        (&all[..], vec![cn.clone()], "A.example.com"),
        (&all[..3], vec![cn.clone()], "192.0.2.7"),
        (&all[..2], vec![cn.clone()], "spiffe://x/y"),
        (&all[..1], vec![cn.clone()], "a@example.com"),
        (&all[..0], vec![cn.clone()], "common"),
        (&all[..0], vec![(ORGANISATION, UTF8, b"Org".to_vec())], "Org"),
        (&all[..0], vec![], "01"),
    ] {
        let raw = Raw {
            names: names.to_vec(),
            subject,
            ..Raw::default()
        };
        assert_eq!(name_of(&raw), expected);
    }
}

#[test]
fn every_string_type_is_decoded() {
    let utf16: Vec<u8> = "Zürich 😀".encode_utf16().flat_map(u16::to_be_bytes).collect();
    let utf32: Vec<u8> = "Zürich 😀".chars().flat_map(|c| (c as u32).to_be_bytes()).collect();
    for (tag, bytes, expected) in [
        (30, utf16, "Zürich 😀"),
        (28, utf32, "Zürich 😀"),
        (20, b"Z\xfcrich".to_vec(), "Zürich"),
        (12, "Zürich".into(), "Zürich"),
        (19, b"Zurich*".to_vec(), "Zurich*"),
        (22, b"Zurich".to_vec(), "Zurich"),
        (18, b"1234".to_vec(), "1234"),
        (26, b"visible".to_vec(), "visible"),
        (27, b"general".to_vec(), "general"),
    ] {
        let raw = Raw {
            subject: vec![(CN, tag, bytes)],
            ..Raw::default()
        };
        assert_eq!(name_of(&raw), expected, "tag {tag}");
    }
}

#[test]
fn an_ip_address_written_as_a_dns_name_stays_a_dns_name() {
    let certificate = parse(
        &Raw {
            names: vec![(DNS, b"192.0.2.7".to_vec())],
            ..Raw::default()
        }
        .der(),
    );
    assert_eq!(certificate.dns_names.iter().collect::<Vec<_>>(), ["192.0.2.7"]);
    assert!(certificate.ip_addresses.is_empty());
}

#[test]
fn line_breaks_and_bidi_in_names_do_not_survive() {
    let hostile = "a\r\nBcc: x\u{202e}evil\u{1b}[2J";
    let certificate = parse(
        &Raw {
            names: vec![(DNS, hostile.as_bytes().to_vec())],
            subject: vec![(CN, UTF8, hostile.as_bytes().to_vec())],
            ..Raw::default()
        }
        .der(),
    );
    let facts = certificate.facts(String::new());
    let texts = facts.dns_names.iter().chain(&facts.name).map(PeerText::as_str);
    for text in texts {
        assert!(!text.contains(['\r', '\n', '\u{202e}', '\u{1b}']), "{text:?}");
    }
    assert_eq!(certificate.dns_names.iter().count(), 1, "{:?}", certificate.dns_names);
}

#[test]
fn odd_serials_versions_and_dates_are_read() {
    for (serial, text) in [
        (vec![0x80], "-80"),
        (vec![0xff], "-01"),
        (vec![0xff, 0x00], "-0100"),
        (vec![0x00, 0xff], "ff"),
        (vec![0], "00"),
        (vec![0x7f, 1], "7f01"),
    ] {
        let raw = Raw {
            serial,
            ..Raw::default()
        };
        assert_eq!(parse(&raw.der()).serial.as_str(), text);
    }
    let version_one = Raw {
        version: None,
        ..Raw::default()
    };
    assert_eq!(parse(&version_one.der()).name.as_str(), "01");
    let endless = Raw {
        validity: ("20260101000000Z", "99991231235959Z"),
        ..Raw::default()
    };
    assert_eq!(
        parse(&endless.der()).not_after.to_rfc3339(),
        "9999-12-31T23:59:59+00:00"
    );
    let backwards = Raw {
        validity: ("20260101000000Z", "20250101000000Z"),
        ..Raw::default()
    };
    assert_eq!(parse(&backwards.der()).lifetime(), TimeDelta::zero());
}

#[test]
fn a_certificate_past_the_bound_is_not_parsed() {
    let names = (0..20_000)
        .map(|n| (DNS, format!("host-{n}.example.com").into_bytes()))
        .collect();
    let der = Raw {
        names,
        ..Raw::default()
    }
    .der();
    assert_eq!(Certificate::parse(&der, false), Err(CertificateError::TooLarge));
}

#[test]
fn thousands_of_names_cost_little_more_than_their_bytes() {
    let names = (0..2_000)
        .map(|n| (DNS, format!("h{n}.example").into_bytes()))
        .collect();
    let der = Raw {
        names,
        ..Raw::default()
    }
    .der();
    let certificate = parse(&der);
    assert_eq!(certificate.dns_names.iter().count(), 2_000);
    assert!(certificate.dns_names.iter().map(|name| name.len() + 1).sum::<usize>() <= der.len());
    assert!(size_of::<Certificate>() <= 320, "{}", size_of::<Certificate>());
}

#[test]
fn only_a_signature_by_the_own_key_makes_self_signed() {
    let root = Authority::root("Root");
    assert!(parse(&root.der).self_signed && parse(&root.der).is_ca);
    let same_name = root.issue(&Spec {
        common_name: "Root",
        ..Spec::default()
    });
    assert!(!parse(&same_name).self_signed);
    assert!(parse(&self_signed(&Spec::default())).self_signed);
}

#[test]
fn weakness_is_of_the_key_first_and_a_roots_own_signature_does_not_count() {
    let read = |text: &str| crate::bundle::read_certificates(text.as_bytes(), false).0;
    let sha1 = read(include_str!("../../testdata/sha1-leaf.pem"));
    assert_eq!(sha1[0].weakness, Some(Weakness::Sha1Signature));
    assert_eq!(sha1[1].weakness, None);
    let small = read(include_str!("../../testdata/small-root.pem"));
    assert_eq!(small[0].weakness, None);
    assert_eq!(small[1].weakness, Some(Weakness::RsaKey(1024)));
    assert!(small[1].self_signed);
    let md5 = read(include_str!("../../testdata/md5-leaf.pem"));
    assert_eq!(md5[0].weakness, Some(Weakness::Md5Signature));
    let p192 = read(include_str!("../../testdata/p192.pem"));
    assert_eq!(p192[0].weakness, Some(Weakness::EcKey(192)));
    let pss = read(include_str!("../../testdata/pss.pem"));
    assert_eq!((pss[0].weakness, pss[0].key_kind), (None, KeyKind::Rsa));
}

#[test]
fn stand_ins_are_known_by_their_names() {
    for (name, expected) in [
        (
            "Kubernetes Ingress Controller Fake Certificate",
            Some(Placeholder::IngressNginx),
        ),
        ("TRAEFIK DEFAULT CERT", Some(Placeholder::Traefik)),
        ("shop.example.com", None),
    ] {
        let der = self_signed(&Spec {
            common_name: name,
            ..Spec::default()
        });
        assert_eq!(parse(&der).placeholder, expected);
    }
    let temporary = Authority::root("cert-manager.local").leaf("a.example", (0, 90));
    assert_eq!(parse(&temporary).placeholder, Some(Placeholder::CertManagerTemporary));
}

#[test]
fn bytes_are_kept_only_on_request_and_dates_are_exact() {
    let der = Authority::root("Root").leaf("a.example", (1, 91));
    let certificate = parse(&der);
    assert_eq!(certificate.der, None);
    assert_eq!((certificate.not_before, certificate.not_after), (day(1), day(91)));
    assert_eq!(Certificate::parse(&der, true).unwrap().der.as_deref(), Some(&der[..]));
    let mut longer = der;
    longer.push(0);
    assert_eq!(Certificate::parse(&longer, false), Err(CertificateError::Malformed));
}

#[test]
fn the_url_of_the_issuer_is_noticed() {
    let root = Authority::root("Root");
    assert!(!parse(&root.leaf("a.example", (0, 90))).names_issuer);
    assert!(
        parse(&root.issue(&Spec {
            aia: true,
            ..Spec::default()
        }))
        .names_issuer
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn arbitrary_bytes_do_not_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        let _ = Certificate::parse(&bytes, false);
        let _ = Certificate::parse(&tlv(0x30, &tlv(0x30, &bytes)), false);
    }

    #[test]
    fn texts_of_any_name_are_sanitised(raw in "\\PC{0,40}|(?s).{0,40}", tag in prop::sample::select(vec![12u8, 20, 28, 30, 22])) {
        let bytes: Vec<u8> = match tag {
            28 => raw.chars().flat_map(|c| (c as u32).to_be_bytes()).collect(),
            30 => raw.encode_utf16().flat_map(u16::to_be_bytes).collect(),
            _ => raw.as_bytes().to_vec(),
        };
        let names = vec![(DNS, raw.as_bytes().to_vec())];
        for names in [names, Vec::new()] {
            let certificate = parse(&Raw { subject: vec![(CN, tag, bytes.clone())], names, ..Raw::default() }.der());
            let facts = certificate.facts(String::new());
            let texts = facts.dns_names.iter().chain(&facts.name).chain(&facts.issuer);
            for text in texts {
                // Sanitising what is sanitised changes nothing.
                prop_assert_eq!(&PeerText::sanitise(text.as_str()), text);
            }
        }
    }

    #[test]
    fn mutated_certificates_do_not_panic(edits in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8), cut in any::<prop::sample::Index>(), truncate in any::<bool>()) {
        let mut der = Raw {
            names: vec![(DNS, b"a.example.com".to_vec()), (IP, vec![1, 2, 3, 4])],
            subject: vec![(CN, 30, vec![0, 65, 0, 66])],
            ..Raw::default()
        }.der();
        for (at, byte) in edits {
            let at = at.index(der.len());
            der[at] = byte;
        }
        if truncate {
            der.truncate(cut.index(der.len()));
        }
        if let Ok(certificate) = Certificate::parse(&der, false) {
            let facts = certificate.facts(String::new());
            for text in [facts.name, facts.issuer, facts.serial].into_iter().flatten() {
                prop_assert!(!text.as_str().chars().any(char::is_control), "{text:?}");
            }
        }
    }
}
