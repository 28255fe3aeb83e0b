use super::*;
use crate::{
    fixture::{Authority, Raw, Spec, pem, self_signed},
    observation::KeyVerdict,
};
use proptest::prelude::*;
use rcgen::KeyPair;

const TLS: &str = "kubernetes.io/tls";

fn read(bytes: &[u8]) -> StoredValue {
    read_value(bytes, false)
}

fn names(value: &StoredValue) -> Vec<String> {
    value.content.certificates().map(|one| one.name.to_string()).collect()
}

fn leaf_pem() -> String {
    pem(&self_signed(&Spec {
        dns: &["a.example"],
        ..Spec::default()
    }))
}

#[test]
fn pem_is_read_however_it_was_written() {
    let root = Authority::root("Root");
    let (leaf, root) = (pem(&root.leaf("a.example", (0, 90))), pem(&root.der));
    let plain = format!("{leaf}{root}");
    let indented: String = plain.lines().map(|line| format!("    {line}\n")).collect();
    let latin1 = [b"Zertifikat f\xfcr Z\xfcrich\n", plain.as_bytes(), b"\xa9 2026"].concat();
    let cases: Vec<(&str, Vec<u8>)> = vec![
        ("plain", plain.clone().into()),
        ("BOM", format!("\u{feff}{plain}").into()),
        ("CRLF", plain.replace('\n', "\r\n").into()),
        ("CR", plain.replace('\n', "\r").into()),
        ("indented", indented.into()),
        (
            "text",
            format!("subject: a\nissuer: b - c\n{leaf}and\n{root}bye").into(),
        ),
        ("Latin-1", latin1),
        (
            "one line END BEGIN",
            plain.replace("-----\n-----BEGIN", "----------BEGIN").into(),
        ),
        ("shared dashes", plain.replace("-----\n-----BEGIN", "-----BEGIN").into()),
        ("no last line feed", plain.trim_end().into()),
        ("one line each", plain.replace('\n', " ").into()),
        ("X509 label", plain.replace("CERTIFICATE", "X509 CERTIFICATE").into()),
        (
            "headers",
            plain
                .replace("BEGIN CERTIFICATE-----\n", "BEGIN CERTIFICATE-----\nProc-Type: 4\n\n")
                .into(),
        ),
        ("twice", format!("{plain}{plain}").into()),
    ];
    for (how, bytes) in cases {
        let value = read(&bytes);
        assert_eq!(value.fault, None, "{how}");
        assert_eq!(names(&value), ["a.example", "Root"], "{how}");
        assert!(matches!(value.content, Content::Chain(_)), "{how}");
    }
    let trusted = read(include_bytes!("../../testdata/trusted.pem"));
    assert_eq!(
        (trusted.fault, names(&trusted)),
        (None, vec!["ec.example.com".to_owned()])
    );
}

#[test]
fn der_is_read() {
    let der = self_signed(&Spec {
        dns: &["a.example"],
        ..Spec::default()
    });
    let value = read(&der);
    assert_eq!((value.fault, names(&value)), (None, vec!["a.example".to_owned()]));
}

#[test]
fn what_is_no_certificate_is_one_fault() {
    let key = KeyPair::generate().unwrap().serialize_pem();
    let leaf = leaf_pem();
    let cut = leaf.replace("-----END CERTIFICATE-----", "");
    let bad = leaf.replacen("MII", "!!!", 1);
    let huge_names = (0..20_000)
        .map(|n| (0x82, format!("host-{n}.example.com").into_bytes()))
        .collect();
    let huge = Raw {
        names: huge_names,
        ..Raw::default()
    }
    .der();
    let short_huge = Raw {
        names: (0..2_500)
            .map(|n| (0x82, format!("host-{n}.example.com").into_bytes()))
            .collect(),
        ..Raw::default()
    }
    .der();
    let cases: Vec<(&str, Vec<u8>, DataFault, usize)> = vec![
        ("garbage", b"\x00\x01garbage".to_vec(), DataFault::NoCertificate, 0),
        ("empty", Vec::new(), DataFault::Empty, 0),
        ("blank", b"\n \n".to_vec(), DataFault::Empty, 0),
        (
            "a key in the certificate's place",
            key.clone().into(),
            DataFault::NoCertificate,
            0,
        ),
        ("no end", cut.clone().into(), DataFault::Broken { read: 0, begun: 1 }, 0),
        (
            "broken base64",
            bad.clone().into(),
            DataFault::Broken { read: 0, begun: 1 },
            0,
        ),
        (
            "one of two cut",
            format!("{cut}{leaf}").into(),
            DataFault::Broken { read: 1, begun: 2 },
            1,
        ),
        (
            "the last one cut",
            format!("{leaf}{cut}").into(),
            DataFault::Broken { read: 1, begun: 2 },
            1,
        ),
        (
            "another's end",
            leaf.replace("END CERTIFICATE", "END PRIVATE KEY").into(),
            DataFault::Broken { read: 0, begun: 1 },
            0,
        ),
        (
            "a begin alone",
            b"-----BEGIN CERTIFICATE-----".to_vec(),
            DataFault::Broken { read: 0, begun: 1 },
            0,
        ),
        ("20,000 SANs", huge, DataFault::TooLarge, 0),
        ("20,000 SANs in PEM", pem(&short_huge).into(), DataFault::TooLarge, 0),
        ("1 MiB", vec![b'x'; 1 << 20], DataFault::TooLarge, 0),
    ];
    for (what, bytes, fault, count) in cases {
        let value = read(&bytes);
        assert_eq!(value.fault, Some(fault), "{what}");
        assert_eq!(names(&value).len(), count, "{what}");
    }
    let beside = read(format!("{key}{leaf}").as_bytes());
    assert_eq!(
        (beside.fault, names(&beside).len()),
        (None, 1),
        "a key beside a certificate"
    );
}

#[test]
fn two_hundred_certificates_are_read_and_no_more() {
    let root = Authority::root("Root");
    let key = KeyPair::generate().unwrap();
    let mut text = String::new();
    for serial in 0..201 {
        text.push_str(&pem(&root.issue_for(
            &Spec {
                serial: Some(serial + 1),
                dns: &["a.example"],
                ..Spec::default()
            },
            &key,
        )));
        if serial == 199 {
            let value = read(text.as_bytes());
            assert_eq!((value.fault, names(&value).len()), (None, 200));
        }
    }
    let value = read(text.as_bytes());
    assert_eq!((value.fault, names(&value).len()), (Some(DataFault::TooMany), 200));
}

#[test]
fn hostile_bundles_come_to_an_end() {
    let begins = "-----BEGIN CERTIFICATE-----".repeat(12_000);
    let dashes = "-".repeat(MAX_VALUE_BYTES);
    let almost = "-----BEGIN ".repeat(30_000);
    // 170 CAs of one name without key identifiers: each may have issued each.
    let mut lattice = String::new();
    for n in 0..170u8 {
        let subject = vec![(3, 12, b"Hand".to_vec())];
        lattice.push_str(&pem(&Raw {
            serial: vec![1, n],
            subject,
            ..Raw::default()
        }
        .der()));
    }
    for (what, text) in [
        ("begins", begins),
        ("dashes", dashes),
        ("almost", almost),
        ("lattice", lattice),
    ] {
        // Nothing here is timed: with quadratic work this wouldn't end.
        let value = read(text.as_bytes());
        assert!(value.fault.is_some() || value.content != Content::Nothing, "{what}");
    }
}

/// A chain in some order is a chain with this leaf, a set is one.
fn kind(ders: &[Vec<u8>]) -> Option<String> {
    let text: String = ders.iter().map(|der| pem(der)).collect();
    let value = read(text.as_bytes());
    assert_eq!(value.fault, None);
    value.content.leaf().map(|leaf| leaf.name.to_string())
}

#[test]
fn chain_or_set_depends_on_who_issued_whom() {
    let root = Authority::root("Root");
    let other = Authority::root("Other");
    let rotated = Authority::root("Root");
    let sub = root.sub("Sub", (0, 400));
    let leaf = sub.leaf("a.example", (0, 90));
    let cross = sub.cross_signed_by(&other, "Sub", (0, 400));
    let chain = Some("a.example".to_owned());
    type Case<'a> = (&'a str, Vec<Vec<u8>>, Option<String>);
    let cases: Vec<Case<'_>> = vec![
        ("leaf", vec![leaf.clone()], chain.clone()),
        ("leaf, sub", vec![leaf.clone(), sub.der.clone()], chain.clone()),
        (
            "whole",
            vec![root.der.clone(), leaf.clone(), sub.der.clone()],
            chain.clone(),
        ),
        (
            "two roots, cross-signed",
            vec![
                leaf.clone(),
                sub.der.clone(),
                cross,
                root.der.clone(),
                other.der.clone(),
            ],
            chain,
        ),
        ("gap", vec![leaf.clone(), root.der.clone()], None),
        (
            "a stranger",
            vec![leaf.clone(), sub.der.clone(), other.der.clone()],
            None,
        ),
        (
            "a rotated root of the same name",
            vec![leaf.clone(), sub.der.clone(), rotated.der.clone()],
            None,
        ),
        (
            "CA bundle",
            vec![root.der.clone(), other.der.clone(), rotated.der.clone()],
            None,
        ),
        ("two leaves", vec![leaf, sub.leaf("b.example", (0, 90)), sub.der], None),
    ];
    for (what, ders, expected) in cases {
        assert_eq!(kind(&ders), expected, "{what}");
    }
}

#[test]
fn without_key_identifiers_the_signature_says_who_issued() {
    let read = |text: &str| read_value(text.as_bytes(), false);
    let chain = read(include_str!("../../testdata/v1-leaf.pem"));
    assert_eq!(
        chain.content.leaf().map(|leaf| leaf.serial.to_string()).as_deref(),
        Some("0a")
    );
    assert_eq!(names(&chain), ["old.example.com", "Legacy Root"]);
}

#[test]
fn of_one_subject_the_later_supersedes() {
    let old = Authority::root_for("Root", (0, 100));
    let new = Authority::root_for("Root", (50, 500));
    let value = read(format!("{}{}", pem(&old.der), pem(&new.der)).as_bytes());
    let Content::Set(members) = value.content else {
        panic!("{value:?}")
    };
    assert_eq!(
        members.iter().map(|member| member.superseded).collect::<Vec<_>>(),
        [true, false]
    );
}

#[test]
fn leaves_without_a_subject_supersede_each_other_only_with_the_same_names() {
    let root = Authority::root_for("Root", (0, 900));
    let leaf = |name: &str, valid| pem(&root.leaf_without_subject(name, valid));
    let superseded = |text: String| {
        let value = read(text.as_bytes());
        let Content::Set(members) = value.content else {
            panic!("{value:?}")
        };
        members.iter().map(|member| member.superseded).collect::<Vec<_>>()
    };
    let (pay, shop) = (leaf("pay.example", (0, 10)), leaf("shop.example", (0, 90)));
    assert_eq!(superseded(format!("{pay}{shop}")), [false, false]);
    assert_eq!(
        superseded(format!("{pay}{}", leaf("pay.example", (5, 95)))),
        [true, false]
    );
}

#[test]
fn ca_crt_of_a_tls_secret_is_anchors_of_its_leaf() {
    let root = Authority::root("Root");
    let other = Authority::root("Other");
    let tls = format!("{}{}", pem(&root.leaf("a.example", (0, 90))), pem(&root.der));
    let ca = format!("{}{}", pem(&root.der), pem(&other.der));
    let values = [("tls.crt", tls.as_bytes()), ("ca.crt", ca.as_bytes())];
    let read = read_secret(TLS, &values, None, false);
    assert_eq!(
        read.iter().map(|(key, _)| &**key).collect::<Vec<_>>(),
        ["tls.crt", "ca.crt"]
    );
    assert!(
        matches!(read[1].1.content, Content::Set(_)),
        "a value of its own, too: {read:?}"
    );
    assert_eq!(
        read[0]
            .1
            .anchors
            .iter()
            .map(|one| one.name.as_str())
            .collect::<Vec<_>>(),
        ["Root", "Other"]
    );
    assert_eq!(read_secret("Opaque", &values, None, false).len(), 2);
    let alone = read_secret(TLS, &values[1..], None, false);
    assert_eq!(&*alone[0].0, "ca.crt");
    for type_ in [TLS, "Opaque"] {
        let empty = read_secret(type_, &[values[0], ("ca.crt", b"")], None, false);
        assert_eq!((empty.len(), empty[0].1.anchors_fault), (1, None));
    }
    let broken = read_secret(TLS, &[values[0], ("ca.crt", b"x")], None, false);
    assert_eq!(broken[0].1.anchors_fault, Some(DataFault::NoCertificate));
    assert_eq!(broken[0].1.fault, None);
}

#[test]
fn a_private_key_is_compared_by_its_public_half() {
    let verdict = |text: &str, key: &str| {
        read_secret(TLS, &[("tls.crt", text.as_bytes())], Some(key.as_bytes()), false)[0]
            .1
            .key
    };
    let pairs = [
        ("PKCS#1", include_str!("../../testdata/pkcs1.pem")),
        ("RSASSA-PSS", include_str!("../../testdata/pss.pem")),
        ("SEC 1", include_str!("../../testdata/sec1.pem")),
        ("Ed25519", include_str!("../../testdata/ed25519.pem")),
    ];
    for (one, key) in pairs {
        for (other, certificate) in pairs {
            let expected = if one == other {
                KeyVerdict::Matches
            } else {
                KeyVerdict::Differs
            };
            assert_eq!(verdict(certificate, key), Some(expected), "{one} {other}");
        }
        assert_eq!(verdict(key, ""), Some(KeyVerdict::Missing), "{one}");
        assert_eq!(
            verdict(key, "-----BEGIN PRIVATE KEY-----\nMII\n-----END PRIVATE KEY-----"),
            Some(KeyVerdict::Unreadable)
        );
        assert_eq!(verdict(key, "garbage"), Some(KeyVerdict::Unreadable), "{one}");
    }
    let key = KeyPair::generate().unwrap();
    let der = Spec::default().params().self_signed(&key).unwrap().der().to_vec();
    assert_eq!(verdict(&pem(&der), &key.serialize_pem()), Some(KeyVerdict::Matches));
    let other = KeyPair::generate().unwrap();
    assert_eq!(verdict(&pem(&der), &other.serialize_pem()), Some(KeyVerdict::Differs));
    let not_asked = read_secret(TLS, &[("tls.crt", &der)], None, false);
    assert_eq!(not_asked[0].1.key, None);
}

#[test]
fn long_chains_are_cut_and_say_so() {
    let mut authorities = vec![Authority::root("CA 0")];
    for n in 1..17 {
        let next = authorities[n - 1].sub(&format!("CA {n}"), (0, 400));
        authorities.push(next);
    }
    let mut text = pem(&authorities[16].leaf("a.example", (0, 90)));
    text.extend(authorities.iter().rev().map(|one| pem(&one.der)));
    let Content::Chain(chain) = read(text.as_bytes()).content else {
        panic!("no chain")
    };
    assert_eq!((chain.intermediates.len(), chain.cut), (15, true));
}

#[test]
fn an_issuer_that_is_known_is_shared_and_not_read_again() {
    let root = Authority::root("Root");
    let sub = root.sub("Sub", (0, 400));
    let text = format!("{}{}", pem(&sub.leaf("a.example", (0, 90))), pem(&sub.der));
    for keep_der in [false, true] {
        let values = [("tls.crt", text.as_bytes())];
        let plain = read_secret(TLS, &values, None, keep_der);
        let issuer = Arc::new(Certificate::parse(&sub.der, keep_der).unwrap());
        let known = |fingerprint| (fingerprint == issuer.fingerprint).then(|| issuer.clone());
        let shared = read_secret_knowing(TLS, &values, None, keep_der, &known);
        assert_eq!(shared, plain);
        assert!(shared[0].1.content.certificates().any(|one| Arc::ptr_eq(one, &issuer)));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_value_is_read_without_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        let _ = read_secret(TLS, &[("tls.crt", &bytes), ("ca.crt", &bytes)], Some(&bytes), true);
    }

    #[test]
    fn any_text_around_lines_of_pem_is_read_without_a_panic(parts in proptest::collection::vec(prop_oneof![
        Just("-----BEGIN CERTIFICATE-----".to_owned()),
        Just("-----END CERTIFICATE-----".to_owned()),
        Just("-----BEGIN ".to_owned()),
        Just("-----".to_owned()),
        Just("MAMCAQE=".to_owned()),
        "[ -~\n]{0,12}",
    ], 0..12)) {
        let value = read(parts.concat().as_bytes());
        prop_assert!(value.content == Content::Nothing);
        prop_assert!(value.fault.is_some());
    }

    #[test]
    fn chain_or_set_does_not_depend_on_the_order(order in Just((0..5usize).collect::<Vec<_>>()).prop_shuffle(), keep in proptest::collection::vec(any::<bool>(), 5)) {
        static CERTIFICATES: std::sync::LazyLock<Vec<Vec<u8>>> = std::sync::LazyLock::new(|| {
            let (root, other) = (Authority::root("Root"), Authority::root("Other"));
            let sub = root.sub("Sub", (0, 400));
            let cross = sub.cross_signed_by(&other, "Sub", (0, 400));
            vec![sub.leaf("a.example", (0, 90)), sub.der.clone(), cross, root.der, other.der]
        });
        let chosen = |order: &[usize]| -> Vec<Vec<u8>> {
            order.iter().filter(|at| keep[**at]).map(|at| CERTIFICATES[*at].clone()).collect()
        };
        let sorted: Vec<usize> = (0..5).collect();
        prop_assume!(keep.contains(&true));
        prop_assert_eq!(kind(&chosen(&order)), kind(&chosen(&sorted)));
    }
}
