use super::*;
use crate::{
    finding::Facts,
    fixture::{Authority, day, parsed},
    hash::ShortHash,
    ledger::LastSeen,
};
use chrono::TimeDelta;

const ONE: &str = "192.0.2.1";
const TWO: &str = "192.0.2.2";

fn leaf(dns: &str) -> Vec<u8> {
    Authority::root("Root").leaf(dns, (0, 90))
}

type Answer<'a> = (&'a str, Result<&'a [u8], ProbeFailure>);

fn look(answers: &[Answer<'_>]) -> Look {
    Look {
        addresses: answers
            .iter()
            .map(|(ip, answer)| {
                let chain = answer.map(|der| ServedBytes {
                    chain: vec![der.to_vec()],
                });
                (ip.parse().unwrap(), 443, chain)
            })
            .collect(),
        unresolved: Vec::new(),
        refused: 0,
    }
}

fn unresolved(cause: ProbeFailure) -> Look {
    Look {
        addresses: Vec::new(),
        unresolved: vec![(Host::parse("a.example").unwrap(), cause)],
        refused: 0,
    }
}

struct Place {
    dialled: Dialled,
    context: LookContext,
    now: DateTime<Utc>,
}

impl Place {
    fn new() -> Self {
        Self::of(Dialled::new())
    }

    fn of(dialled: Dialled) -> Self {
        Self {
            dialled,
            context: LookContext {
                from_object: false,
                secret_leaf: None,
                failure_threshold: FailureThreshold(3),
            },
            now: day(1),
        }
    }

    fn look(&mut self, look: &Look) -> LookOutcome {
        self.now += TimeDelta::minutes(1);
        self.dialled
            .look(look, self.context, &mut |_| PathVerdict::Trusted, self.now)
    }

    fn down(&self) -> Vec<(String, ProbeFailure)> {
        self.dialled.down().map(|(what, cause, _)| (what, cause)).collect()
    }
}

#[test]
fn three_failures_in_a_row_open_and_two_successes_close() {
    let leaf = leaf("a.example");
    let (good, bad) = (look(&[(ONE, Ok(&leaf))]), look(&[(ONE, Err(ProbeFailure::Refused))]));
    let mut place = Place::new();
    // A success between starts the count anew.
    for one in [&bad, &bad, &good, &bad, &bad] {
        place.look(one);
        assert_eq!(place.down(), []);
    }
    place.look(&bad);
    let open = [(format!("{ONE}:443"), ProbeFailure::Refused)];
    assert_eq!(place.down(), open);
    for one in [&good, &bad, &good] {
        place.look(one);
        assert_eq!(place.down(), open, "one success in a row doesn't close");
    }
    place.look(&good);
    assert_eq!(place.down(), []);
}

#[test]
fn one_address_of_several_that_does_not_answer_counts() {
    let leaf = leaf("a.example");
    let mut place = Place::new();
    for _ in 0..3 {
        place.look(&look(&[(ONE, Ok(&leaf)), (TWO, Err(ProbeFailure::TimedOut))]));
    }
    assert_eq!(place.down(), [(format!("{TWO}:443"), ProbeFailure::TimedOut)]);
    assert_eq!(place.dialled.judged_at(), None);
    // It vanishes from DNS: it is nothing any more.
    place.look(&look(&[(ONE, Ok(&leaf))]));
    assert_eq!(place.down(), []);
    assert_eq!(place.dialled.judged_at(), Some(place.now));
}

#[test]
fn what_was_seen_survives_failures_and_goes_with_its_address() {
    let (one, two) = (leaf("a.example"), leaf("a.example"));
    let mut place = Place::new();
    assert!(place.look(&look(&[(ONE, Ok(&one)), (TWO, Ok(&two))])).seen_changed);
    assert!(
        !place
            .look(&look(&[(ONE, Ok(&one)), (TWO, Err(ProbeFailure::Closed))]))
            .seen_changed
    );
    assert!(!place.look(&unresolved(ProbeFailure::ResolverFailed)).seen_changed);
    assert!(!place.look(&unresolved(ProbeFailure::NoRecord)).seen_changed);
    assert_eq!(place.dialled.seen().count(), 2);
    assert!(place.look(&look(&[(ONE, Err(ProbeFailure::Closed))])).seen_changed);
    assert_eq!(place.dialled.seen().count(), 1);
    let renewed = leaf("a.example");
    assert!(place.look(&look(&[(ONE, Ok(&renewed))])).seen_changed);
}

#[test]
fn no_record_is_no_address_and_a_silent_resolver_is_unreachable() {
    let mut place = Place::new();
    place.look(&unresolved(ProbeFailure::NoRecord));
    assert_eq!(place.dialled.no_address(), Some(ProbeFailure::NoRecord));
    for _ in 0..3 {
        place.look(&unresolved(ProbeFailure::ResolverFailed));
        assert_eq!(place.dialled.no_address(), None);
    }
    assert_eq!(place.down(), [("a.example".to_owned(), ProbeFailure::ResolverFailed)]);
    // An Ingress without an address has none, for whatever reason.
    place.context.from_object = true;
    place.look(&unresolved(ProbeFailure::ResolverFailed));
    assert_eq!(place.dialled.no_address(), Some(ProbeFailure::ResolverFailed));
    assert_eq!(place.down(), []);
    place.look(&look(&[(ONE, Ok(&leaf("a.example")))]));
    assert_eq!(place.dialled.no_address(), None);
}

/// What the policy refuses is not named: only that something was refused.
fn refused() -> Look {
    Look {
        addresses: Vec::new(),
        unresolved: Vec::new(),
        refused: 1,
    }
}

#[test]
fn a_refusal_is_no_attempt() {
    let leaf = leaf("a.example");
    let (good, bad) = (look(&[(ONE, Ok(&leaf))]), look(&[(ONE, Err(ProbeFailure::Refused))]));
    let named = look(&[(ONE, Err(ProbeFailure::NotPermitted))]);
    let (no, silent) = (refused(), unresolved(ProbeFailure::ResolverFailed));
    for (what, looks, down) in [
        ("refused, however often", vec![&no, &no, &no, &no], false),
        ("refused by address", vec![&named, &named, &named, &named], false),
        ("refused, then one failure", vec![&no, &no, &no, &bad], false),
        ("refused, then two failures", vec![&no, &no, &no, &bad, &bad], false),
        (
            "refused, then three failures",
            vec![&no, &no, &no, &bad, &bad, &bad],
            true,
        ),
        ("two failures, refused, one failure", vec![&bad, &bad, &no, &bad], false),
        (
            "two failures to resolve, refused, one",
            vec![&silent, &silent, &no, &silent],
            false,
        ),
        ("it answered before", vec![&good, &no, &no, &no, &bad], false),
        (
            "it was down before, and still is",
            vec![&bad, &bad, &bad, &no, &no],
            true,
        ),
        (
            "it was down, and answers once",
            vec![&bad, &bad, &bad, &good, &no, &good],
            true,
        ),
    ] {
        let mut place = Place::new();
        for one in &looks {
            place.look(one);
        }
        assert_eq!(!place.down().is_empty(), down, "{what}: {:?}", place.dialled);
    }
}

#[test]
fn a_look_that_failed_is_one_too_and_says_whether_the_policy_refuses() {
    let leaf = leaf("a.example");
    let (good, bad) = (look(&[(ONE, Ok(&leaf))]), look(&[(ONE, Err(ProbeFailure::Refused))]));
    let half = Look {
        refused: 1,
        ..good.clone()
    };
    for (what, looks, permitted) in [
        ("never looked at", vec![], None),
        ("it answers", vec![refused(), good.clone()], None),
        ("one address of two", vec![half], None),
        ("refused", vec![refused()], Some(false)),
        ("refused again", vec![bad.clone(), refused()], Some(false)),
        ("it doesn't answer", vec![refused(), bad.clone()], Some(true)),
        (
            "nobody knows",
            vec![refused(), unresolved(ProbeFailure::NoRecord)],
            Some(false),
        ),
        (
            "it answers again, once",
            vec![bad.clone(), bad.clone(), bad, good],
            Some(true),
        ),
    ] {
        let mut place = Place::new();
        for one in &looks {
            place.look(one);
        }
        let expected = permitted.map(|permitted| (place.now, permitted));
        assert_eq!(place.dialled.unanswered(), expected, "{what}");
    }
    // What the ledger remembers is no look.
    let restored = Dialled::restore(&BTreeMap::new(), &BTreeMap::new(), true, day(1));
    assert_eq!((restored.looked_at(), restored.unanswered()), (Some(day(1)), None));
}

#[test]
fn no_route_for_a_whole_family_is_no_failure() {
    let leaf = leaf("a.example");
    let mut place = Place::new();
    for _ in 0..4 {
        place.look(&look(&[(ONE, Ok(&leaf)), ("2001:db8::1", Err(ProbeFailure::NoRoute))]));
    }
    assert_eq!(place.down(), []);
    assert_eq!(
        place.dialled.problems().collect::<Vec<_>>(),
        [DialProblem::NoRoute(Family::IPv6)]
    );
    assert_eq!(place.dialled.judged_at(), Some(place.now));
    let mut alone = Place::new();
    for _ in 0..3 {
        alone.look(&look(&[("2001:db8::1", Err(ProbeFailure::NoRoute))]));
    }
    assert_eq!(alone.down().len(), 1, "the only family counts");
}

#[test]
fn a_certificate_that_cannot_be_read_is_a_failure() {
    let mut place = Place::new();
    for _ in 0..3 {
        assert!(!place.look(&look(&[(ONE, Ok(b"garbage"))])).answered);
    }
    assert_eq!(place.down(), [(format!("{ONE}:443"), ProbeFailure::BadCertificate)]);
}

#[test]
fn differing_from_the_secret_is_counted_anew_when_the_secret_changes() {
    let (old, new, newer) = (leaf("a.example"), leaf("a.example"), leaf("a.example"));
    let id = |der: &[u8]| parsed(der).fingerprint;
    let served = look(&[(ONE, Ok(&old))]);
    let mut place = Place::new();
    place.context.secret_leaf = Some(id(&new));
    place.look(&served);
    assert!(!place.dialled.differs_from(id(&new)));
    place.context.secret_leaf = Some(id(&newer));
    place.look(&served);
    assert!(!place.dialled.differs_from(id(&newer)));
    // A failed look is no sight.
    place.look(&look(&[(ONE, Err(ProbeFailure::TimedOut))]));
    assert!(!place.dialled.differs_from(id(&newer)));
    place.look(&served);
    assert!(place.dialled.differs_from(id(&newer)));
    place.look(&look(&[(ONE, Ok(&newer))]));
    assert!(!place.dialled.differs_from(id(&newer)));
}

#[test]
fn the_ledger_gives_back_what_it_was_given() {
    let mut place = Place::new();
    place.look(&look(&[
        (ONE, Ok(&leaf("a.example"))),
        ("2001:db8::1", Ok(&leaf("b.example"))),
    ]));
    let mut facts: BTreeMap<ShortHash, Facts> = BTreeMap::new();
    let mut intern = |one: &Facts| {
        let id = ShortHash::of(&[&serde_json::to_vec(one).unwrap()]);
        facts.insert(id, one.clone());
        id
    };
    let seen = place.dialled.remember(&mut intern);
    assert_eq!(seen.keys().collect::<Vec<_>>(), ["192.0.2.1:443", "[2001:db8::1]:443"]);
    let text = serde_json::to_string(&seen).unwrap();
    let seen: BTreeMap<String, LastSeen> = serde_json::from_str(&text).unwrap();
    let restored = Dialled::restore(&seen, &facts, false, day(2));
    assert_eq!(restored.identity(), place.dialled.identity());
    assert_eq!(restored.earliest_not_after(), Some(day(90)));
    assert_eq!((restored.judged_at(), restored.is_unknown()), (None, false));
    let again = restored.remember(&mut |one| ShortHash::of(&[&serde_json::to_vec(one).unwrap()]));
    assert_eq!(again, seen);
    // The same look again writes nothing.
    let mut restored = Place::of(restored);
    let bad = look(&[
        (ONE, Err(ProbeFailure::Closed)),
        ("2001:db8::1", Err(ProbeFailure::Closed)),
    ]);
    assert!(!restored.look(&bad).seen_changed);
    let expiring = crate::assess::assess_dialled(
        &crate::place::Place::Monitor,
        &restored.dialled,
        &crate::assess::DialledExpectation {
            server_name: &Host::parse("a.example").unwrap(),
            secret: None,
            from_object: false,
        },
        &crate::policy::Policy::default(),
        day(91),
    );
    assert_eq!(expiring[0].finding, crate::finding::Finding::Expired);
    assert_eq!(
        expiring[0].facts.name.as_ref().map(ToString::to_string).as_deref(),
        Some("a.example")
    );
    assert!(Dialled::restore(&BTreeMap::new(), &facts, false, day(2)).is_unknown());
}

#[test]
fn only_intermediates_that_a_path_needs_are_remembered() {
    let (root, other) = (Authority::root("Root"), Authority::root("Other"));
    let sub = root.sub("Sub", (0, 80));
    let cross = sub.cross_signed_by(&other, "Sub", (0, 40));
    let leaf = sub.leaf("a.example", (0, 90));
    let chain = vec![leaf, sub.der.clone(), cross, root.der.clone()];
    let anchors = trust::Anchors::from_der([&root.der]);
    let look = Look {
        addresses: vec![(ONE.parse().unwrap(), 443, Ok(ServedBytes { chain }))],
        unresolved: Vec::new(),
        refused: 0,
    };
    let mut place = Place::new();
    let now = day(10);
    place.dialled.look(
        &look,
        place.context,
        &mut |chain| trust::judge(chain, &anchors, &[], now),
        now,
    );
    let seen = place
        .dialled
        .remember(&mut |one| ShortHash::of(&[&serde_json::to_vec(one).unwrap()]));
    let remembered: Vec<Fingerprint> = seen
        .values()
        .flat_map(|one| one.intermediates.iter().map(|one| one.fingerprint))
        .collect();
    assert_eq!(remembered, [parsed(&sub.der).fingerprint]);
}

#[test]
fn a_place_is_small() {
    assert!(size_of::<Dialled>() <= 256, "{}", size_of::<Dialled>());
    assert!(size_of::<Address>() <= 64, "{}", size_of::<Address>());
}

#[test]
fn after_a_restart_an_unreachable_place_counts_as_judged_after_two_successes() {
    let leaf = leaf("a.example");
    let (good, bad) = (look(&[(ONE, Ok(&leaf))]), look(&[(ONE, Err(ProbeFailure::Closed))]));
    let mut place = Place::of(Dialled::restore(&BTreeMap::new(), &BTreeMap::new(), true, day(1)));
    for one in [&good, &bad, &good] {
        place.look(one);
        assert_eq!(place.dialled.judged_at(), None);
    }
    place.look(&good);
    assert_eq!(place.dialled.judged_at(), Some(place.now));
}
