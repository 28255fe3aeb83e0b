use super::*;
use crate::fixture::{Authority, Spec, day, parsed, self_signed};
use rcgen::KeyPair;

fn chain(list: &[&Vec<u8>]) -> Chain {
    chain_of(list).unwrap()
}

fn anchors(list: &[&Vec<u8>]) -> Anchors {
    Anchors::from_der(list)
}

fn verdict(list: &[&Vec<u8>], trusted: &[&Vec<u8>], now: DateTime<Utc>) -> PathVerdict {
    judge(&chain(list), &anchors(trusted), &[], now)
}

#[test]
fn a_path_decides() {
    use PathVerdict::{Incomplete, Trusted, Untrusted};
    let (root, other) = (Authority::root("Root"), Authority::root("Other"));
    let rekeyed = Authority::root("Root");
    let sub = root.sub("Sub", (0, 400));
    let cross = sub.cross_signed_by(&other, "Sub", (0, 400));
    let leaf = sub.leaf("a.example", (0, 90));
    let with_url = sub.issue(&Spec {
        aia: true,
        ..Spec::default()
    });
    let pinned = self_signed(&Spec::default());
    let (root, other, sub, rekeyed) = (root.der, other.der, sub.der, rekeyed.der);
    type Case<'a> = (&'a str, Vec<&'a Vec<u8>>, Vec<&'a Vec<u8>>, PathVerdict);
    let cases: Vec<Case<'_>> = vec![
        ("plain", vec![&leaf, &sub], vec![&root], Trusted),
        ("root sent too", vec![&leaf, &sub, &root], vec![&root], Trusted),
        (
            "any order, twice",
            vec![&leaf, &root, &sub, &sub, &leaf],
            vec![&root],
            Trusted,
        ),
        (
            "many anchors",
            vec![&leaf, &sub],
            vec![&other, &root, &rekeyed],
            Trusted,
        ),
        ("another root", vec![&leaf, &sub], vec![&other], Untrusted),
        (
            "another root of that name",
            vec![&leaf, &sub],
            vec![&rekeyed],
            Untrusted,
        ),
        ("nobody trusted", vec![&leaf, &sub], vec![], Untrusted),
        (
            "the other way, cross-signed",
            vec![&leaf, &sub, &cross],
            vec![&other],
            Trusted,
        ),
        ("the intermediate is an anchor", vec![&leaf], vec![&sub], Trusted),
        ("missing intermediate", vec![&leaf], vec![&root], Untrusted),
        ("missing, named by a URL", vec![&with_url], vec![&root], Incomplete),
        ("gap", vec![&leaf, &root], vec![&root], Incomplete),
        ("self-signed, pinned", vec![&pinned], vec![&pinned], Trusted),
        ("self-signed, unknown", vec![&pinned], vec![&root], Untrusted),
        ("self-signed CA as a leaf, pinned", vec![&root], vec![&root], Trusted),
        ("a CA as a leaf", vec![&sub], vec![&root], Trusted),
        ("a CA as a leaf, another root", vec![&sub], vec![&rekeyed], Untrusted),
    ];
    for (what, list, trusted, expected) in cases {
        assert_eq!(verdict(&list, &trusted, day(10)), expected, "{what}");
    }
}

#[test]
fn an_intermediate_seen_elsewhere_tells_incomplete_from_untrusted() {
    let root = Authority::root("Root");
    let sub = root.sub("Sub", (0, 400));
    let leaf = sub.leaf("a.example", (0, 90));
    let rotated = root.sub("Sub", (0, 400));
    let judge = |known: &[Arc<Certificate>]| judge(&chain(&[&leaf]), &anchors(&[&root.der]), known, day(10));
    assert_eq!(judge(&[parsed(&sub.der)]), PathVerdict::Incomplete);
    assert_eq!(judge(&[parsed(&rotated.der)]), PathVerdict::Untrusted);
    assert_eq!(judge(&[parsed(&leaf)]), PathVerdict::Untrusted);
}

#[test]
fn dates_of_a_chain_do_not_decide_but_an_expired_anchor_is_none() {
    let root = Authority::root_for("Root", (0, 200));
    let sub = root.sub("Sub", (0, 60));
    let leaf = sub.leaf("a.example", (10, 90));
    let list = [&leaf, &sub.der];
    for (now, expected) in [
        (5, PathVerdict::Trusted),
        (50, PathVerdict::Trusted),
        (80, PathVerdict::Trusted),
        (150, PathVerdict::Trusted),
        (200, PathVerdict::Untrusted),
        (300, PathVerdict::Untrusted),
    ] {
        assert_eq!(verdict(&list, &[&root.der], day(now)), expected, "day {now}");
    }
    let pinned = self_signed(&Spec::default());
    assert_eq!(verdict(&[&pinned], &[&pinned], day(89)), PathVerdict::Trusted);
    assert_eq!(verdict(&[&pinned], &[&pinned], day(91)), PathVerdict::Untrusted);
    assert_eq!(anchors(&[&root.der]).next_change(day(5)), Some(day(200)));
}

#[test]
fn a_path_that_fails_on_weak_algorithms_alone_is_weak() {
    let now = DateTime::from_timestamp(1_800_000_000, 0).unwrap();
    for (text, expected) in [
        (
            include_str!("../../testdata/sha1-leaf.pem"),
            PathVerdict::TrustedButWeak,
        ),
        (
            include_str!("../../testdata/small-root.pem"),
            PathVerdict::TrustedButWeak,
        ),
        (include_str!("../../testdata/v1-leaf.pem"), PathVerdict::Trusted),
    ] {
        let (read, _) = bundle::read_certificates(text.as_bytes(), true);
        let ders: Vec<&[u8]> = read.iter().filter_map(|one| one.der.as_deref()).collect();
        let chain = chain_of(&ders[..1]).unwrap();
        assert_eq!(judge(&chain, &Anchors::from_der(&ders[1..]), &[], now), expected);
        let other = Authority::root("Legacy Root");
        assert_eq!(judge(&chain, &anchors(&[&other.der]), &[], now), PathVerdict::Untrusted);
    }
}

#[test]
fn a_cut_chain_and_one_without_bytes_are_not_judged() {
    let root = Authority::root("Root");
    let leaf = root.leaf("a.example", (0, 90));
    let others: Vec<Vec<u8>> = (0..16).map(|n| root.sub(&format!("Sub {n}"), (0, 90)).der).collect();
    let mut list = vec![&leaf];
    list.extend(&others);
    assert!(chain(&list).cut);
    assert_eq!(verdict(&list, &[&root.der], day(1)), PathVerdict::NotJudged);
    // Duplicates go before the cut.
    let mut list = vec![&leaf; 40];
    list.extend(&others[..15]);
    list.extend(&others[..15]);
    assert!(!chain(&list).cut);
    assert_eq!(verdict(&list, &[&root.der], day(1)), PathVerdict::Trusted);
    let forgotten = forget_der(chain(&[&leaf]));
    assert_eq!(
        judge(&forgotten, &anchors(&[&root.der]), &[], day(1)),
        PathVerdict::NotJudged
    );
}

#[test]
fn of_a_hostile_lattice_little_is_offered_to_the_path_builder() {
    // Fifteen CAs of one name, each signed by the next, none by the root that is trusted; then all under one key.
    let root = Authority::root("Root");
    let mut line = vec![Authority::root("X")];
    for _ in 0..14 {
        let next = line.last().unwrap().sub("X", (0, 400));
        line.push(next);
    }
    let leaf = line.last().unwrap().leaf("a.example", (0, 90));
    let lattice: Vec<Vec<u8>> = line.into_iter().map(|one| one.der).collect();
    let one_key = KeyPair::generate().unwrap().serialize_pem();
    let key = || KeyPair::from_pem(&one_key).unwrap();
    let base = Authority::root_with("Y", (0, 400), key());
    let same: Vec<Vec<u8>> = (0..15).map(|n| base.sub_with("Y", (0, 400 + n), key()).der).collect();
    let leaf_same = base.leaf("a.example", (0, 90));
    for (leaf, others) in [(leaf, lattice), (leaf_same, same)] {
        let mut list = vec![&leaf];
        list.extend(&others);
        let chain = chain(&list);
        let presented: Vec<&Certificate> = chain.intermediates.iter().map(AsRef::as_ref).collect();
        let useful = walk::useful(&chain.leaf, &presented);
        assert!((1..=2).contains(&useful.len()), "{}", useful.len());
        let verdict = judge(&chain, &anchors(&[&root.der]), &[], day(10));
        assert_eq!(verdict, PathVerdict::Untrusted);
    }
}

#[test]
fn long_honest_chains_are_trusted_in_any_order() {
    let mut line = vec![Authority::root("CA 0")];
    for n in 1..7 {
        let next = line.last().unwrap().sub(&format!("CA {n}"), (0, 400));
        line.push(next);
    }
    let leaf = line.last().unwrap().leaf("a.example", (0, 90));
    let mut list = vec![&leaf];
    list.extend(line[1..].iter().map(|one| &one.der));
    assert_eq!(verdict(&list, &[&line[0].der], day(10)), PathVerdict::Trusted);
}

#[test]
fn an_intermediate_that_another_path_avoids_is_dispensable() {
    let (root, other) = (Authority::root("Root"), Authority::root("Other"));
    let sub = root.sub("Sub", (0, 400));
    let short = sub.cross_signed_by(&other, "Sub", (0, 50));
    let leaf = sub.leaf("a.example", (0, 90));
    let chain = chain(&[&leaf, &short, &sub.der]);
    let ask = |trusted: &[&Vec<u8>]| {
        let anchors = anchors(trusted);
        dispensable(&chain, &mut |chain| judge(chain, &anchors, &[], day(10)))
    };
    assert_eq!(ask(&[&root.der]), [parsed(&short).fingerprint]);
    assert_eq!(ask(&[&other.der]), []);
}

#[test]
fn anchors_are_equal_by_what_they_hold() {
    let (one, two) = (Authority::root("One").der, Authority::root("Two").der);
    let both = anchors(&[&one, &two, &one]);
    assert_eq!(both.len(), 2);
    assert_eq!(both, anchors(&[&two, &one]));
    assert_eq!(both, anchors(&[&one]).union(&anchors(&[&two])));
    assert_eq!(both, anchors(&[&one]).with(&[parsed(&two)]));
    assert_ne!(both.id(), anchors(&[&one]).id());
    let text = format!("{}junk{}", crate::fixture::pem(&one), crate::fixture::pem(&two));
    assert_eq!(Anchors::from_pem(text.as_bytes()), both);
    assert!(Anchors::from_pem(b"nothing").is_empty());
}
