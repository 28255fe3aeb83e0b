use super::*;
use crate::{
    delivery::tests::{at, end, intent_telling, open},
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
