use super::*;
use crate::{
    delivery::tests::{at, end, failed, intent_telling, open},
    text::PeerText,
};
use proptest::prelude::*;

fn certificate(ledger: &mut Ledger, n: u32, not_after: i64) -> SeenCertificate {
    let facts = Facts {
        name: Some(PeerText::sanitise(&format!("host-{n}.example.com"))),
        dns_names: (0..20)
            .map(|i| PeerText::sanitise(&format!("{i}-{}", "n".repeat(250))))
            .collect(),
        ..Facts::default()
    };
    SeenCertificate {
        fingerprint: Fingerprint([7; 32]),
        member: ShortHash::of(&[&n.to_be_bytes()]),
        not_before: at(0),
        not_after: at(not_after),
        facts: ledger.intern(&facts),
    }
}

fn see(ledger: &mut Ledger, n: u32, not_after: i64) {
    let leaf = certificate(ledger, n, not_after);
    let seen = LastSeen {
        leaf: leaf.clone(),
        intermediates: vec![leaf],
    };
    let place = format!("endpoint/host-{n}.example.com:443?sni=host-{n}.example.com");
    ledger
        .seen
        .entry(place)
        .or_default()
        .insert("192.0.2.1:443".into(), seen);
}

fn ledger(alerts: u32, places: u32, sinks: u32, long: usize) -> Ledger {
    let mut ledger = Ledger::default();
    for n in 0..alerts {
        let (finding, severity) = match n % 3 {
            0 => (Finding::Expired, Severity::Critical),
            1 => (Finding::ExpiringSoon, Severity::Warning),
            _ => (Finding::WeakCrypto, Severity::Warning),
        };
        open(
            &mut ledger,
            &format!("{n}-{}", "x".repeat(long)),
            finding,
            severity,
            i64::from(n),
        );
    }
    for n in 0..places {
        see(&mut ledger, n, i64::from(n));
    }
    for n in 0..sinks {
        let told = ledger
            .alerts
            .keys()
            .take(alerts as usize / 2)
            .map(|id| (*id, Said::Expired))
            .collect();
        let mut sink = SinkLedger {
            told,
            ..SinkLedger::default()
        };
        if let Some(id) = ledger.alerts.keys().nth(n as usize) {
            sink.intent = Some(intent_telling(*id));
        }
        ledger.sinks.insert(format!("sink-{n}"), sink);
    }
    if let Some(id) = ledger.alerts.keys().next().copied() {
        end(&mut ledger, id, 9);
    }
    ledger
}

#[test]
fn what_was_last_seen_gives_way_to_alerts_and_what_ends_last_goes_first() {
    let mut ledger = ledger(0, 400, 0, 0);
    assert_eq!(ledger.fit(), 0);
    let kept = ledger.seen.len();
    assert!((50..400).contains(&kept), "{kept}");
    for n in 0..kept {
        let place = format!("endpoint/host-{n}.example.com:443?sni=host-{n}.example.com");
        assert!(
            ledger.seen.contains_key(&place),
            "{n} of {kept} went before what ends later"
        );
    }
    assert_eq!(ledger.facts.len(), kept, "with its facts");
}

#[test]
fn facts_stand_once_and_go_with_the_last_reference() {
    let mut ledger = Ledger::default();
    let facts = Facts {
        message: "m".into(),
        ..Facts::default()
    };
    assert_eq!(ledger.intern(&facts), ledger.intern(&facts));
    assert_eq!(ledger.facts.len(), 1);
    ledger.fit();
    assert!(ledger.facts.is_empty());
}

#[test]
fn a_sink_that_is_gone_is_forgotten() {
    let mut ledger = ledger(3, 0, 2, 0);
    ledger.retain_sinks(|name| name == "sink-1");
    assert_eq!(ledger.sinks.keys().collect::<Vec<_>>(), ["sink-1"]);
}

#[test]
fn an_identity_is_stable() {
    let place = Place::Secret {
        namespace: "shop".into(),
        name: "web".into(),
        key: "tls.crt".into(),
    };
    let id = alert_id("shop", "web", &place, Role::Leaf, AlertKind::Expiry);
    // It stands in objects that outlive a release.
    insta::assert_snapshot!(format!("{id} {}", episode_id(id, at(0))), @"7e26864ae80fc10e 92bcdc150f3a38a3");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]

    #[test]
    fn it_fits_and_reads_back_whatever_is_in_it(
        alerts in 0..3_000_u32, places in 0..300_u32, sinks in 0..8_u32, long in 0..200_usize
    ) {
        let mut ledger = ledger(alerts, places, sinks, long);
        let critical =
            |ledger: &Ledger| ledger.alerts.values().filter(|alert| alert.severity == Severity::Critical).count();
        let (before, critical_before) = (ledger.alerts.len(), critical(&ledger));
        let left_out = ledger.fit();
        prop_assert_eq!(ledger.alerts.len() + left_out, before);
        let json = serde_json::to_vec(&ledger).unwrap();
        prop_assert!(json.len() <= LEDGER_BYTES, "{}", json.len());
        prop_assert_eq!(json_bytes(&ledger), json.len());
        prop_assert_eq!(&serde_json::from_slice::<Ledger>(&json).unwrap(), &ledger);
        if left_out > 0 && ledger.alerts.values().any(|alert| alert.severity == Severity::Warning) {
            prop_assert_eq!(critical(&ledger), critical_before, "worst first");
        }
        let again = ledger.clone();
        prop_assert_eq!(ledger.fit(), 0, "what fits stays");
        prop_assert_eq!(ledger, again);
    }
}

/// A ledger in which every instant that there can be is there.
fn with_every_instant() -> serde_json::Value {
    use crate::{
        delivery::FailureClass,
        message::{AlertStatus, MessageAlert, MessageCertificate},
    };
    let mut ledger = ledger(2, 1, 1, 1);
    let dates = (Some(at(0)), Some(at(9)));
    for facts in ledger.facts.values_mut() {
        (facts.not_before, facts.not_after) = dates;
    }
    for alert in ledger.alerts.values_mut() {
        alert.raised = Some(at(1));
    }
    let sink = ledger.sinks.values_mut().next().expect("one sink");
    sink.last_sent = Some(at(2));
    sink.retry = Some(Retry {
        at: at(3),
        attempt: 1,
        class: FailureClass::Connect,
        since: at(3),
        rung: crate::delivery::Rung::All,
    });
    let (id, message) = (
        ShortHash::of(&[b"a"]),
        &mut sink.intent.as_mut().expect("an intent").message,
    );
    message.alerts.push(MessageAlert {
        id,
        episode: id,
        status: AlertStatus::Firing,
        finding: Finding::Expired,
        severity: Severity::Critical,
        previous_severity: None,
        place: String::new(),
        title: String::new(),
        object: None,
        host: None,
        port: None,
        certificate: Some(MessageCertificate {
            name: PeerText::sanitise("a"),
            issuer: None,
            serial: None,
            fingerprint: None,
            dns_names: vec![],
            not_before: dates.0,
            not_after: dates.1,
        }),
        since: at(4),
        resolved_as: None,
        message: String::new(),
        next_step: String::new(),
        runbook: String::new(),
    });
    serde_json::to_value(&ledger).expect("JSON")
}

/// Every instant in a JSON value, to be looked at or changed.
fn instants(value: &mut serde_json::Value) -> Vec<&mut serde_json::Value> {
    use serde_json::Value;
    match value {
        Value::String(text) if text.parse::<DateTime<Utc>>().is_ok() => vec![value],
        Value::Array(list) => list.iter_mut().flat_map(instants).collect(),
        Value::Object(map) => map.values_mut().flat_map(instants).collect(),
        _ => vec![],
    }
}

#[test]
fn what_stands_in_a_ledger_by_right_is_read_as_it_stands() {
    let mut content = with_every_instant();
    assert_eq!(instants(&mut content).len(), 24, "{content:#}");
    assert_eq!(
        serde_json::to_value(Ledger::read(content.clone())).expect("JSON"),
        content
    );
    let mut endless = ledger(1, 1, 0, 1);
    let end: DateTime<Utc> = "9999-12-31T23:59:59Z".parse().expect("an instant");
    for seen in endless.seen.values_mut().flat_map(BTreeMap::values_mut) {
        seen.leaf.not_after = end;
    }
    let content = serde_json::to_value(&endless).expect("JSON");
    assert_eq!(Ledger::read(content), endless);
}

#[test]
fn absurd_instants_of_an_edited_ledger_can_be_reckoned_with_and_written() {
    use crate::delivery::{tests::context, tests::delivered, tests::manners, *};
    let mut manners = manners();
    manners.name = "sink-0".into();
    let some = with_every_instant();
    let all = instants(&mut some.clone()).len();
    for absurd in [
        "9999-12-31T23:59:59Z",
        "9999-12-31T23:59:59.999999999Z",
        "0000-01-01T00:00:00Z",
        "-0001-12-31T23:59:59Z",
        "+10000-01-01T00:00:00Z",
        "+262142-12-31T23:59:59Z",
        "-262143-01-01T00:00:00Z",
        "+262143-01-01T00:00:00Z",
        "+999999999-01-01T00:00:00Z",
        "0001-01-01T00:00:00Z",
        "soon",
        "",
    ] {
        // One of them, and all of them.
        for which in 0..=all {
            let mut content = some.clone();
            for (n, instant) in instants(&mut content).into_iter().enumerate() {
                if n == which || which == all {
                    *instant = absurd.into();
                }
            }
            let mut ledger = Ledger::read(content);
            for now in [at(0), at(1_000_000)] {
                for misconfigured in [false, true] {
                    let context = SinkContext {
                        misconfigured,
                        ..context(&manners)
                    };
                    let _ = (decide(&ledger, &context, now), sink_state(&ledger, &context));
                }
                for sink in ledger.sinks.values() {
                    let Some(intent) = &sink.intent else { continue };
                    let _ = (
                        release(sink, intent, now),
                        record(sink, intent, &delivered(), 7, now),
                        record(sink, intent, &failed(FailureClass::Connect), 7, now),
                    );
                }
            }
            ledger.fit();
            let mut written = serde_json::to_value(&ledger).expect("JSON");
            for instant in instants(&mut written) {
                let text = instant.as_str().expect("a text");
                // As RFC 3339 and the API server have it: a year of four digits.
                assert!(
                    text.find('-') == Some(4) && text.starts_with(|c: char| c.is_ascii_digit()),
                    "{absurd} at {which}: {text}"
                );
            }
        }
    }
}

#[test]
fn absurd_counts_of_an_edited_ledger_can_be_added_up() {
    let mut content = with_every_instant();
    let counts = content
        .pointer_mut("/sinks/sink-0/intent/message/counts")
        .and_then(serde_json::Value::as_object_mut)
        .expect("counts");
    for count in counts.values_mut() {
        *count = u32::MAX.into();
    }
    let ledger = Ledger::read(content);
    let intent = ledger
        .sinks
        .values()
        .find_map(|sink| sink.intent.as_ref())
        .expect("an intent");
    let counts = intent.message.counts;
    let sum = [counts.critical, counts.warning, counts.resolved, counts.silenced]
        .into_iter()
        .try_fold(0u32, u32::checked_add);
    assert_eq!(sum, Some(4_000_000));
}
