use super::*;
use certmon_core::{
    finding::{Facts, Hold},
    place::Role,
};
use chrono::TimeDelta;

fn at(days: i64) -> DateTime<Utc> {
    DateTime::UNIX_EPOCH + TimeDelta::days(days)
}

fn secret(number: usize) -> Place {
    Place::Secret {
        namespace: "shop".into(),
        name: format!("tls-{number}").into(),
        key: "tls.crt".into(),
    }
}

/// A place whose certificate ends on the day of its number.
fn place(number: usize) -> PlaceReport {
    let mut fingerprint = [0; 32];
    fingerprint[..8].copy_from_slice(&number.to_be_bytes());
    PlaceReport {
        place: secret(number),
        leaf: Some(Leaf {
            fingerprint: Fingerprint(fingerprint),
            name: PeerText::sanitise("shop.example.com"),
            not_before: at(-90),
            not_after: at(i64::try_from(number).unwrap()),
        }),
        judged: true,
    }
}

fn sighting(number: usize, finding: Finding) -> Sighting {
    Sighting {
        finding,
        severity: Severity::Warning,
        place: secret(number),
        role: Role::Leaf,
        facts: Facts {
            message: "is so".to_owned(),
            ..Facts::default()
        },
        hold: Hold::No,
    }
}

/// The status of these places and findings, each silenced or not, and held or not.
fn status(places: &[PlaceReport], found: &[(Sighting, bool, bool)]) -> crd::CertificateMonitorStatus {
    let findings: Vec<FindingReport<'_>> = found
        .iter()
        .map(|(sighting, silenced, held)| FindingReport {
            sighting,
            since: at(0),
            silenced: *silenced,
            held: *held,
        })
        .collect();
    let sink = SinkReport {
        name: "team",
        result: SinkResult::Idle,
        pending: 0,
        problem: None,
        reason: None,
        sent: None,
        since: None,
    };
    let resolved = Resolved {
        complete: true,
        ..Resolved::default()
    };
    let report = Report {
        generation: 1,
        stalled: None,
        unread: false,
        suspended: false,
        resolved: &resolved,
        trust_problem: None,
        places,
        less_dialled: &BTreeMap::new(),
        findings: &findings,
        sinks: &[sink],
        check_handled: None,
        test_handled: None,
    };
    build(None, &report, at(5))
}

fn message<'a>(status: &'a crd::CertificateMonitorStatus, type_: &str) -> &'a str {
    let mut conditions = status.conditions.iter();
    let found = conditions.find(|condition| condition.type_ == type_);
    &found.unwrap().message
}

fn next(status: &crd::CertificateMonitorStatus) -> Option<&str> {
    status.next_expiry.as_ref().map(|next| next.certificate.as_str())
}

#[test]
fn what_expires_next_is_neither_expired_nor_silenced() {
    let places = [place(9), place(4), place(6), place(8)];
    let mut found = vec![
        (sighting(4, Finding::Expired), false, false),
        (sighting(6, Finding::ExpiringSoon), true, false),
    ];
    assert_eq!(next(&status(&places, &found)), Some("Secret/tls-8"));
    // One finding beside it that isn't silenced: then its end counts too.
    found.push((sighting(6, Finding::WeakCrypto), false, false));
    assert_eq!(next(&status(&places, &found)), Some("Secret/tls-6"));
    // Whatever the order of the places.
    assert_eq!(next(&status(&places, &[])), Some("Secret/tls-4"));
}

/// Not timed; but a search of all findings for each place would take minutes here.
#[test]
fn fifty_thousand_places_with_a_finding_each_are_counted() {
    let places: Vec<PlaceReport> = (0..50_000).map(place).collect();
    let found: Vec<_> = (0..50_000)
        .map(|number| (sighting(number, Finding::Expired), number % 2 == 0, false))
        .collect();
    let status = status(&places, &found);
    let counts = status.certificates.unwrap();
    assert_eq!(
        (counts.total, counts.warning, counts.silenced),
        (50_000, 25_000, 25_000)
    );
    assert_eq!(next(&status), None);
}

#[test]
fn what_is_being_confirmed_is_said_while_nobody_is_told() {
    let places = [place(90)];
    let held = |number| (sighting(number, Finding::Unreachable), false, true);
    let silenced = (sighting(92, Finding::Unreachable), true, true);
    let one = status(&places, &[held(90), silenced]);
    assert_eq!(
        message(&one, "Notified"),
        "Nothing to tell yet; 1 finding is being confirmed, and is told if it lasts for 10 minutes"
    );
    let two = status(&places, &[held(90), held(91)]);
    assert!(
        message(&two, "Notified").ends_with("2 findings are being confirmed, and are told if they last for 10 minutes")
    );
    assert_eq!(message(&status(&places, &[]), "Notified"), "Nothing to tell yet");
}

#[test]
fn one_and_many_are_words_of_their_own() {
    assert_eq!(text::unchecked(1), "1 more is not checked");
    assert_eq!(text::unchecked(2), "2 more are not checked");
    let one = status(&[place(4), place(90)], &[(sighting(4, Finding::Expired), false, false)]);
    assert_eq!(one.summary[0], "1 of 2 certificates needs attention:");
    let found = [4, 90].map(|number| (sighting(number, Finding::Expired), false, false));
    let two = status(&[place(4), place(90)], &found);
    assert_eq!(two.summary[0], "2 of 2 certificates need attention:");
    let mut unseen = [place(3), place(4)];
    unseen[0].judged = false;
    assert_eq!(
        status(&unseen, &[]).summary[0],
        "1 of 2 certificates has not been looked at yet."
    );
}

#[test]
fn a_spec_that_cannot_be_read_is_what_describe_shows_last() {
    let old = status(&[place(4)], &[(sighting(4, Finding::Expired), false, false)]);
    let report = Report {
        generation: 2,
        stalled: Some(Stalled::InvalidSpec(
            "`spec.probe.interval` must be a duration".to_owned(),
        )),
        unread: true,
        suspended: false,
        resolved: &Resolved::default(),
        trust_problem: None,
        places: &[],
        less_dialled: &BTreeMap::new(),
        findings: &[],
        sinks: &[],
        check_handled: None,
        test_handled: None,
    };
    let new = build(Some(&old), &report, at(6));
    assert_eq!(
        new.summary[0],
        "The spec can't be used: `spec.probe.interval` must be a duration."
    );
    assert_eq!(new.problems, old.problems, "what was known stays");
    // The same again is no other status.
    assert_eq!(build(Some(&new), &report, at(7)), new);
}
