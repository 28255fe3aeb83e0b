use super::*;
use crate::text::PeerText;
use crate::{ledger::SinkLedger, place::Host};
use proptest::prelude::*;

const DAY: i64 = 86_400;

fn at(seconds: i64) -> DateTime<Utc> {
    DateTime::from_timestamp(1_800_000_000 + seconds, 0).unwrap()
}

fn secret(name: &str) -> Place {
    Place::Secret {
        namespace: "shop".into(),
        name: name.into(),
        key: "tls.crt".into(),
    }
}

fn facts(fingerprint: u8, not_after: i64) -> Facts {
    Facts {
        name: Some(PeerText::sanitise("www.example.com")),
        serial: Some(PeerText::sanitise(&format!("{fingerprint:02x}"))),
        fingerprint: Some(Fingerprint([fingerprint; 32])),
        not_after: Some(at(not_after)),
        message: "a sentence".into(),
        ..Facts::default()
    }
}

fn sighting(place: &Place, finding: Finding, severity: Severity, facts: Facts) -> Sighting {
    Sighting {
        finding,
        severity,
        place: place.clone(),
        role: Role::Leaf,
        facts,
        hold: Hold::No,
    }
}

/// The expiry of a certificate as `assess` says it: 20 days a warning, 7 days critical.
fn expiry(place: &Place, fingerprint: u8, not_after: i64, now: i64) -> Option<Sighting> {
    let (finding, severity) = match not_after - now {
        left if left <= 0 => (Finding::Expired, Severity::Critical),
        left if left <= 7 * DAY => (Finding::ExpiryCritical, Severity::Critical),
        left if left <= 20 * DAY => (Finding::ExpiringSoon, Severity::Warning),
        _ => return None,
    };
    Some(sighting(place, finding, severity, facts(fingerprint, not_after)))
}

/// The operator's memory and ledger between rounds.
#[derive(Default)]
struct World {
    ledger: Ledger,
    held: Held,
    policy_changed: bool,
    present: Option<Facts>,
    standing: Option<Standing>,
}

impl World {
    fn told_to(sink: &str) -> Self {
        let mut world = Self::default();
        world.ledger.sinks.insert(sink.into(), SinkLedger::default());
        world
    }

    fn round(&mut self, sightings: &[Sighting], now: i64) -> Step {
        let standing = self.standing.unwrap_or(Standing::Judged { looked_at: at(now) });
        let step = step(
            &self.ledger,
            &self.held,
            &StepInput {
                namespace: "shop",
                monitor: "web",
                sightings,
                standing: &|_| standing,
                present: &|_, _| self.present.clone(),
                policy_changed: self.policy_changed,
            },
            at(now),
        );
        self.ledger = step.ledger.clone();
        self.held = step.held.clone();
        step
    }

    fn tell(&mut self, sink: &str) {
        let open = self.ledger.alerts.iter().filter(|(_, alert)| alert.ended.is_none());
        let told = open
            .map(|(id, alert)| (*id, Said::of(alert.finding, alert.severity)))
            .collect();
        self.ledger.sinks.entry(sink.into()).or_default().told = told;
    }

    fn only(&self) -> &Alert {
        assert_eq!(self.ledger.alerts.len(), 1, "{:?}", self.ledger.alerts);
        self.ledger.alerts.values().next().unwrap()
    }
}

fn changes(step: &Step) -> Vec<(Change, Finding)> {
    step.transitions.iter().map(|t| (t.change, t.finding)).collect()
}

#[test]
fn an_expiry_opens_rises_and_expires_as_one_alert() {
    let place = secret("web");
    let mut world = World::default();
    let mut story = Vec::new();
    for day in [0, 11, 24, 31, 40] {
        let sightings: Vec<_> = expiry(&place, 1, 30 * DAY, day * DAY).into_iter().collect();
        story.extend(changes(&world.round(&sightings, day * DAY)));
    }
    assert_eq!(
        story,
        [
            (Change::Opened, Finding::ExpiringSoon),
            (Change::Raised, Finding::ExpiryCritical),
            (Change::Raised, Finding::Expired)
        ]
    );
    assert_eq!(world.only().since, at(11 * DAY));
}

#[test]
fn a_renewal_closes_and_names_the_new_certificate() {
    let place = secret("web");
    let mut world = World::default();
    world.round(&[expiry(&place, 1, DAY, 0).unwrap()], 0);
    world.present = Some(facts(2, 90 * DAY));
    let step = world.round(&[], 10);
    assert_eq!(changes(&step), [(Change::Renewed, Finding::ExpiryCritical)]);
    assert_eq!(
        step.transitions[0].message,
        "Secret/web tls.crt (www.example.com) has a new certificate, serial 02 (was 01), valid until \
         2027-04-15T08:00:00Z"
    );
    assert!(world.ledger.alerts.is_empty(), "nobody was told, so nobody has to hear");
    assert!(world.ledger.facts.is_empty());
}

#[test]
fn what_a_sink_was_told_stays_until_it_has_heard_of_the_end() {
    let place = secret("web");
    let mut world = World::told_to("team");
    world.round(&[expiry(&place, 1, DAY, 0).unwrap()], 0);
    world.tell("team");
    world.present = Some(facts(2, 90 * DAY));
    world.round(&[], 10);
    assert_eq!(world.only().ended.as_ref().unwrap().as_, ResolvedAs::Renewed);
    world.tell("team");
    world.round(&[], 20);
    assert!(world.ledger.alerts.is_empty());
}

#[test]
fn what_is_on_its_way_to_a_sink_stays_too() {
    let place = secret("web");
    let mut world = World::told_to("team");
    world.round(&[expiry(&place, 1, DAY, 0).unwrap()], 0);
    let id = *world.ledger.alerts.keys().next().unwrap();
    let sink = world.ledger.sinks.get_mut("team").unwrap();
    sink.intent = Some(crate::delivery::tests::intent_telling(id));
    world.present = Some(facts(2, 90 * DAY));
    world.round(&[], 10);
    assert!(world.only().ended.is_some());
}

#[test]
fn another_leaf_with_the_same_finding_goes_on_with_the_episode() {
    let place = secret("web");
    let mut world = World::default();
    world.round(&[expiry(&place, 1, 10 * DAY, 0).unwrap()], 0);
    let step = world.round(&[expiry(&place, 2, 15 * DAY, 60).unwrap()], 60);
    assert_eq!(step.transitions, []);
    assert_eq!(world.only().since, at(0));
    assert_eq!(step.ledger.facts.len(), 1, "the former certificate's facts are gone");
}

#[test]
fn a_renewal_to_a_still_short_certificate_lowers_and_lasts() {
    let place = secret("web");
    let mut world = World::default();
    world.round(&[expiry(&place, 1, DAY, 0).unwrap()], 0);
    let step = world.round(&[expiry(&place, 2, 15 * DAY, 60).unwrap()], 60);
    assert_eq!(changes(&step), [(Change::Lowered, Finding::ExpiringSoon)]);
    assert_eq!(world.only().since, at(0));
}

#[test]
fn an_edited_threshold_ends_as_policy_changed_even_if_nobody_saw_the_edit() {
    let place = secret("web");
    for policy_changed in [true, false] {
        let mut world = World::default();
        world.round(&[expiry(&place, 1, 10 * DAY, 0).unwrap()], 0);
        world.present = Some(facts(1, 10 * DAY));
        world.policy_changed = policy_changed;
        let step = world.round(&[], 60);
        assert_eq!(changes(&step), [(Change::Resolved, Finding::ExpiringSoon)]);
        assert!(
            step.transitions[0].message.contains("thresholds"),
            "{}",
            step.transitions[0].message
        );
    }
}

#[test]
fn how_an_alert_ends_depends_on_place_and_policy() {
    let place = secret("web");
    for (finding, standing, policy_changed, present, expected) in [
        (
            Finding::HostnameMismatch,
            Standing::Gone,
            true,
            2,
            ResolvedAs::NoLongerMonitored,
        ),
        (
            Finding::HostnameMismatch,
            Standing::Judged { looked_at: at(5) },
            true,
            2,
            ResolvedAs::Renewed,
        ),
        (
            Finding::HostnameMismatch,
            Standing::Judged { looked_at: at(5) },
            true,
            1,
            ResolvedAs::PolicyChanged,
        ),
        (
            Finding::HostnameMismatch,
            Standing::Judged { looked_at: at(5) },
            false,
            1,
            ResolvedAs::Resolved,
        ),
        (
            Finding::Unreachable,
            Standing::Judged { looked_at: at(5) },
            false,
            2,
            ResolvedAs::Resolved,
        ),
        // A limit that was raised is neither a threshold, nor a check, nor trust.
        (
            Finding::LimitExceeded,
            Standing::Judged { looked_at: at(5) },
            true,
            1,
            ResolvedAs::Resolved,
        ),
        (
            Finding::ServedCertificateDiffers,
            Standing::Judged { looked_at: at(5) },
            false,
            2,
            ResolvedAs::Resolved,
        ),
    ] {
        let mut world = World::told_to("team");
        world.round(&[sighting(&place, finding, Severity::Warning, facts(1, 90 * DAY))], 0);
        world.tell("team");
        world.standing = Some(standing);
        world.policy_changed = policy_changed;
        world.present = Some(facts(present, 90 * DAY));
        world.round(&[], 10);
        let ended = world.only().ended.clone();
        assert_eq!(ended.map(|ended| ended.as_), Some(expected), "{finding} {standing:?}");
    }
}

#[test]
fn a_place_that_was_not_looked_at_keeps_what_is_open_and_still_gets_worse() {
    let place = secret("web");
    let mut world = World::default();
    world.round(&[expiry(&place, 1, 10 * DAY, 0).unwrap()], 0);
    world.standing = Some(Standing::NotLooked);
    assert_eq!(world.round(&[], 10).transitions, []);
    let step = world.round(&[expiry(&place, 1, 10 * DAY, 10 * DAY).unwrap()], 10 * DAY);
    assert_eq!(changes(&step), [(Change::Raised, Finding::Expired)]);
}

#[test]
fn what_ends_where_nobody_answers_and_where_nobody_is_trusted() {
    let place = secret("web");
    let looked_at = at(10);
    let unanswered = |permitted| Standing::Unanswered { looked_at, permitted };
    for finding in <Finding as strum::IntoEnumIterator>::iter().filter(|one| *one != Finding::LedgerOverflow) {
        let of_issuers = matches!(finding, Finding::UntrustedIssuer | Finding::IncompleteChain);
        for (standing, ends) in [
            (Standing::Judged { looked_at }, true),
            (Standing::WithoutTrust { looked_at }, !of_issuers),
            (unanswered(true), finding == Finding::TargetNotPermitted),
            (unanswered(false), false),
            (Standing::NotLooked, false),
            (Standing::Gone, true),
        ] {
            let mut world = World::told_to("team");
            world.present = Some(facts(2, 90 * DAY));
            world.round(&[sighting(&place, finding, Severity::Warning, facts(1, 90 * DAY))], 0);
            world.tell("team");
            world.standing = Some(standing);
            world.round(&[], 10);
            assert_eq!(world.only().ended.is_some(), ends, "{finding} {standing:?}");
        }
    }
}

#[test]
fn a_look_after_the_grace_is_asked_for_once_and_a_failed_one_confirms_that_nobody_answers() {
    let place = secret("web");
    let due = 600;
    let failed = |looked_at| Standing::Unanswered {
        looked_at: at(looked_at),
        permitted: true,
    };
    let looked = |looked_at| Standing::Judged {
        looked_at: at(looked_at),
    };
    let trusting_nobody = |looked_at| Standing::WithoutTrust {
        looked_at: at(looked_at),
    };
    for (finding, standing, opens, asks) in [
        (Finding::Unreachable, failed(due - 1), false, true),
        (Finding::Unreachable, failed(due), true, false),
        (Finding::NoAddress, failed(due), true, false),
        (Finding::Unreachable, Standing::NotLooked, false, true),
        (Finding::PlaceholderCertificate, looked(due - 1), false, true),
        (Finding::PlaceholderCertificate, looked(due), true, false),
        (Finding::PlaceholderCertificate, trusting_nobody(due), true, false),
        // What it serves isn't known now; the next look comes in its turn.
        (Finding::PlaceholderCertificate, failed(due), false, false),
        (Finding::ServedCertificateDiffers, failed(due - 1), false, true),
    ] {
        let mut world = World::default();
        let mut seen = sighting(&place, finding, Severity::Warning, Facts::default());
        seen.hold = Hold::GraceAndLook;
        world.standing = Some(failed(0));
        assert_eq!(world.round(std::slice::from_ref(&seen), 0).next, Some(at(due)));
        world.standing = Some(standing);
        let step = world.round(&[seen], due + 1);
        let found = (!step.ledger.alerts.is_empty(), step.looks.contains(&place));
        assert_eq!(found, (opens, asks), "{finding} {standing:?}");
    }
}

#[test]
fn the_worst_of_several_certificates_at_one_place_counts_in_any_order() {
    let place = secret("web");
    let two = [
        expiry(&place, 1, 15 * DAY, 0).unwrap(),
        expiry(&place, 2, DAY, 0).unwrap(),
    ];
    let mut other = two.clone();
    other.reverse();
    let (mut a, mut b) = (World::default(), World::default());
    assert_eq!(a.round(&two, 0), b.round(&other, 0));
    assert_eq!(a.only().finding, Finding::ExpiryCritical);
}

#[test]
fn a_held_finding_opens_after_its_grace_and_is_gone_without_a_trace_before() {
    let place = secret("web");
    let mut missing = sighting(&place, Finding::SecretMissing, Severity::Warning, Facts::default());
    missing.hold = Hold::Grace;
    let mut world = World::default();
    let step = world.round(std::slice::from_ref(&missing), 0);
    assert_eq!((step.transitions.len(), step.next), (0, Some(at(600))));
    assert_eq!(step.ledger, Ledger::default(), "it waits in memory only");
    assert_eq!(world.round(&[], 300).transitions, []);
    assert_eq!(
        world.round(std::slice::from_ref(&missing), 400).next,
        Some(at(1000)),
        "the grace begins anew"
    );
    let step = world.round(&[missing], 1000);
    assert_eq!(changes(&step), [(Change::Opened, Finding::SecretMissing)]);
    assert_eq!(world.only().since, at(400));
}

#[test]
fn a_finding_that_a_look_can_close_waits_for_a_look_after_its_grace() {
    let place = Place::Endpoint {
        host: Host::parse("a.example").unwrap(),
        port: 443,
        server_name: Host::parse("a.example").unwrap(),
    };
    let mut unreachable = sighting(&place, Finding::Unreachable, Severity::Warning, Facts::default());
    unreachable.hold = Hold::GraceAndLook;
    let mut world = World {
        standing: Some(Standing::Judged { looked_at: at(500) }),
        ..World::default()
    };
    assert_eq!(world.round(std::slice::from_ref(&unreachable), 0).next, Some(at(600)));
    let step = world.round(std::slice::from_ref(&unreachable), 600);
    assert_eq!((step.transitions.len(), step.next), (0, None));
    assert!(step.looks.contains(&place));
    world.standing = Some(Standing::Judged { looked_at: at(601) });
    assert_eq!(
        changes(&world.round(&[unreachable], 602)),
        [(Change::Opened, Finding::Unreachable)]
    );
}

#[test]
fn an_open_alert_is_not_held_again() {
    let place = secret("web");
    let mut missing = sighting(&place, Finding::Unreachable, Severity::Warning, Facts::default());
    let mut world = World::default();
    world.round(std::slice::from_ref(&missing), 0);
    missing.finding = Finding::NoAddress;
    missing.hold = Hold::GraceAndLook;
    assert_eq!(world.round(&[missing], 10).transitions, []);
    assert_eq!(world.only().finding, Finding::NoAddress, "one alert, another name");
}

#[test]
fn a_clock_set_back_neither_lowers_nor_ends_an_expiry() {
    let place = secret("web");
    let mut world = World::default();
    world.round(&[expiry(&place, 1, 30 * DAY, 15 * DAY).unwrap()], 15 * DAY);
    world.round(&[expiry(&place, 1, 30 * DAY, 31 * DAY).unwrap()], 31 * DAY);
    world.present = Some(facts(1, 30 * DAY));
    for (day, policy_changed) in [
        (24, false),
        (12, false),
        (0, false),
        (-4_000, false),
        (24, true),
        (0, true),
    ] {
        world.policy_changed = policy_changed;
        let sightings: Vec<_> = expiry(&place, 1, 30 * DAY, day * DAY).into_iter().collect();
        assert_eq!(world.round(&sightings, day * DAY).transitions, [], "day {day}");
        assert_eq!(world.only().finding, Finding::Expired);
    }
    world.present = Some(facts(2, 120 * DAY));
    assert_eq!(changes(&world.round(&[], 0)), [(Change::Renewed, Finding::Expired)]);
}

#[test]
fn a_clock_set_back_makes_a_grace_longer_and_never_shorter() {
    let mut held = sighting(
        &secret("web"),
        Finding::SecretMissing,
        Severity::Warning,
        Facts::default(),
    );
    held.hold = Hold::Grace;
    let mut world = World::default();
    world.round(std::slice::from_ref(&held), 500_000);
    assert_eq!(world.round(std::slice::from_ref(&held), 0).next, Some(at(600)));
    assert_eq!(world.round(&[held], 600).transitions.len(), 1);
}

#[test]
fn instants_have_whole_seconds() {
    let place = secret("web");
    let now = at(0) + TimeDelta::milliseconds(999);
    let step = step(
        &Ledger::default(),
        &Held::default(),
        &StepInput {
            namespace: "shop",
            monitor: "web",
            sightings: &[expiry(&place, 1, DAY, 0).unwrap()],
            standing: &|_| Standing::NotLooked,
            present: &|_, _| None,
            policy_changed: false,
        },
        now,
    );
    assert_eq!(step.ledger.alerts.values().next().unwrap().since, at(0));
}

#[test]
fn what_the_ledger_cannot_hold_is_an_alert_of_its_own_and_opens_once() {
    let sightings: Vec<_> = (0..4_000)
        .map(|n| {
            let mut sighting = expiry(&secret(&format!("web-{n:04}")), 1, 10 * DAY, 0).unwrap();
            sighting.facts.message = format!("{n:04} {}", "x".repeat(500));
            sighting
        })
        .chain([expiry(&secret("zz-worst"), 3, -DAY, 0).unwrap()])
        .collect();
    let mut world = World::told_to("team");
    let step = world.round(&sightings, 0);
    assert_eq!(
        step.overflow.as_ref().map(|sighting| sighting.finding),
        Some(Finding::LedgerOverflow)
    );
    let bytes = serde_json::to_vec(&world.ledger).unwrap().len();
    assert!(bytes <= crate::ledger::LEDGER_BYTES, "{bytes}");
    assert!(world.ledger.alerts.len() > 500, "{}", world.ledger.alerts.len());
    assert_eq!(step.transitions.len(), world.ledger.alerts.len());
    assert_eq!(step.transitions[0].finding, Finding::Expired, "worst first");
    assert_eq!(world.round(&sightings, 60).transitions, []);
    let step = world.round(&sightings[..10], 120);
    let overflow: Vec<_> = step
        .transitions
        .iter()
        .filter(|t| t.finding == Finding::LedgerOverflow)
        .collect();
    assert_eq!(overflow.len(), 1);
    assert_eq!(overflow[0].change, Change::Resolved);
    assert_eq!(step.overflow, None);
}

/// A life of one certificate: rounds at growing instants, renewals in between.
fn life() -> impl Strategy<Value = Vec<(i64, bool)>> {
    prop::collection::vec((0..12 * DAY, prop::bool::weighted(0.15)), 1..30)
}

proptest! {
    #[test]
    fn the_same_round_again_changes_nothing(life in life(), back in 0..40 * DAY) {
        let place = secret("web");
        let mut world = World::told_to("team");
        let (mut now, mut leaf, mut end) = (0, 1, 45 * DAY);
        for (pause, renewed) in life {
            now += pause;
            if renewed {
                leaf += 1;
                end = now + 45 * DAY;
            }
            world.present = Some(facts(leaf, end));
            for now in [now, now - back] {
                let sightings: Vec<_> = expiry(&place, leaf, end, now).into_iter().collect();
                world.round(&sightings, now);
                let before = world.ledger.clone();
                let again = world.round(&sightings, now);
                prop_assert_eq!(again.transitions, []);
                prop_assert_eq!(&again.ledger, &before);
            }
            world.tell("team");
        }
    }

    #[test]
    fn severity_never_falls_while_the_certificate_stays(pauses in prop::collection::vec(-40 * DAY..12 * DAY, 1..40)) {
        let place = secret("web");
        let mut world = World { present: Some(facts(1, 45 * DAY)), ..World::default() };
        let mut now = 0;
        let mut worst = None;
        for pause in pauses {
            now += pause;
            let sightings: Vec<_> = expiry(&place, 1, 45 * DAY, now).into_iter().collect();
            let step = world.round(&sightings, now);
            prop_assert!(step.transitions.iter().all(|t| matches!(t.change, Change::Opened | Change::Raised)));
            let level = world.ledger.alerts.values().next().map(|alert| Said::of(alert.finding, alert.severity));
            prop_assert!(level >= worst, "{:?} after {:?}", level, worst);
            worst = level;
        }
    }

    #[test]
    fn every_episode_ends_once(life in life()) {
        let place = secret("web");
        let mut world = World::default();
        let (mut now, mut leaf, mut end) = (0, 1, 45 * DAY);
        let mut open = 0;
        for (pause, renewed) in life {
            now += pause;
            if renewed {
                leaf += 1;
                end = now + 45 * DAY;
            }
            world.present = Some(facts(leaf, end));
            let sightings: Vec<_> = expiry(&place, leaf, end, now).into_iter().collect();
            for transition in world.round(&sightings, now).transitions {
                open += match transition.change {
                    Change::Opened => 1,
                    Change::Renewed | Change::Resolved => -1,
                    Change::Raised | Change::Lowered => 0,
                };
                prop_assert!(open == 0 || open == 1);
            }
            prop_assert_eq!(open == 1, !sightings.is_empty());
        }
    }
}
