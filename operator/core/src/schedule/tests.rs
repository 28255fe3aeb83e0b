use super::*;
use crate::{
    dial::LookContext,
    fixture::{Authority, day},
    observation::PathVerdict,
    policy::FailureThreshold,
    target::{Look, ProbeFailure, ServedBytes},
};
use proptest::prelude::*;
use std::collections::BTreeMap;

const HOUR: Duration = Duration::from_secs(3600);

fn phase() -> ShortHash {
    ShortHash::of(&[b"target"])
}

fn look(dialled: &mut Dialled, answer: Result<Vec<u8>, ProbeFailure>, now: DateTime<Utc>) {
    let look = Look {
        addresses: vec![(
            "192.0.2.1".parse().unwrap(),
            443,
            answer.map(|der| ServedBytes { chain: vec![der] }),
        )],
        unresolved: Vec::new(),
        refused: 0,
    };
    let context = LookContext {
        from_object: false,
        secret_leaf: None,
        failure_threshold: FailureThreshold(3),
    };
    dialled.look(&look, context, &mut |_| PathVerdict::Trusted, now);
}

fn leaf(days: u32) -> Vec<u8> {
    Authority::root("Root").leaf("a.example", (0, days))
}

#[test]
fn an_unknown_place_is_looked_at_at_once_and_a_remembered_one_at_its_slot() {
    let now = day(1);
    assert_eq!(next_look(&Dialled::new(), HOUR, phase(), None, now), now);
    let restored = Dialled::restore(&BTreeMap::new(), &BTreeMap::new(), true, now);
    let next = next_look(&restored, HOUR, phase(), None, now + TimeDelta::seconds(1));
    assert!(next > now && next <= now + TimeDelta::hours(1), "{next}");
    assert_eq!(next, slot(TimeDelta::hours(1), phase(), now));
}

#[test]
fn trouble_is_looked_at_after_30_s_2_min_then_every_15_min() {
    let mut dialled = Dialled::new();
    let mut now = day(1);
    for minutes in [0.5, 2.0, 15.0, 15.0] {
        look(&mut dialled, Err(ProbeFailure::TimedOut), now);
        let next = next_look(&dialled, Duration::from_secs(168 * 3600), phase(), None, now);
        #[allow(clippy::cast_precision_loss)]
        let pause = (next - now).num_seconds() as f64;
        assert_eq!(pause, minutes * 60.0);
        now = next;
    }
    let next = next_look(&dialled, Duration::from_secs(60), phase(), None, now);
    assert!(next - now <= TimeDelta::minutes(1), "never rarer than the interval");
}

#[test]
fn an_open_finding_brings_looks_and_its_end_ends_them() {
    let mut dialled = Dialled::new();
    let now = day(1);
    look(&mut dialled, Ok(leaf(3650)), now);
    let regular = next_look(&dialled, HOUR, phase(), None, now);
    dialled.set_open(true);
    dialled.set_open(true);
    assert_eq!(
        next_look(&dialled, HOUR, phase(), None, now),
        regular.min(now + TimeDelta::seconds(30))
    );
    look(&mut dialled, Ok(leaf(3650)), now);
    dialled.set_open(true);
    assert_eq!(
        next_look(&dialled, HOUR, phase(), None, now),
        regular.min(now + TimeDelta::minutes(2))
    );
    dialled.set_open(false);
    assert_eq!(next_look(&dialled, HOUR, phase(), None, now), regular);
    dialled.look_now();
    assert_eq!(next_look(&dialled, HOUR, phase(), None, now), now);
}

#[test]
fn what_was_open_before_a_restart_is_looked_at_within_fifteen_minutes_and_not_all_at_once() {
    let now = day(1);
    let mut places = std::collections::BTreeSet::new();
    for name in 0..100u8 {
        let mut restored = Dialled::restore(&BTreeMap::new(), &BTreeMap::new(), true, now);
        restored.set_open(true);
        let next = next_look(&restored, HOUR, ShortHash::of(&[&[name]]), None, now);
        assert!(next > now && next <= now + TimeDelta::minutes(15), "{next}");
        places.insert(next);
    }
    assert!(places.len() > 90, "{}", places.len());
}

#[test]
fn looks_are_closer_near_an_expiry_and_not_after_it() {
    let mut dialled = Dialled::new();
    let now = day(1);
    look(&mut dialled, Ok(leaf(3650)), now);
    let pause = |left: TimeDelta| next_look(&dialled, HOUR, phase(), Some(now + left), now) - now;
    assert_eq!(
        pause(TimeDelta::minutes(100)),
        TimeDelta::minutes(5).min(pause(TimeDelta::days(9)))
    );
    assert_eq!(
        pause(TimeDelta::minutes(2)),
        TimeDelta::minutes(1).min(pause(TimeDelta::days(9)))
    );
    assert_eq!(pause(TimeDelta::minutes(-2)), pause(TimeDelta::days(9)));
}

proptest! {
    #[test]
    fn slots_are_an_interval_apart_and_do_not_depend_on_the_start(name: [u8; 4], seconds in 60i64..604_800, start in 0i64..10_000_000) {
        let phase = ShortHash::of(&[&name]);
        let interval = TimeDelta::seconds(seconds);
        let now = day(0) + TimeDelta::seconds(start);
        let next = slot(interval, phase, now);
        prop_assert!(next > now && next <= now + interval);
        prop_assert_eq!(slot(interval, phase, next), next + interval);
        prop_assert_eq!(slot(interval, phase, next - TimeDelta::milliseconds(1)), next);
    }
}
