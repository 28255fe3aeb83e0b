use super::*;
use crate::{
    delivery::{
        Decision, begin, decide, record,
        tests::{at, context, delivered, end, failed, manners, open},
    },
    finding::AlertKind,
    ledger::{Alert, Ledger, SinkLedger, alert_id},
    place::{Host, Role},
};
use serde_json::Value;
use std::path::PathBuf;
use strum::IntoEnumIterator;

fn reference(file: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("../../docs/reference")
        .join(file)
}

fn schema() -> Value {
    serde_json::from_str(&std::fs::read_to_string(reference("message.schema.json")).unwrap()).unwrap()
}

fn add(ledger: &mut Ledger, place: Place, finding: Finding, severity: Severity, facts: &Facts) -> ShortHash {
    let id = alert_id("shop", "web", &place, Role::Leaf, finding.kind());
    let facts = ledger.intern(facts);
    let alert = Alert {
        place,
        role: Role::Leaf,
        finding,
        severity,
        since: at(0),
        raised: None,
        facts,
        ended: None,
    };
    ledger.alerts.insert(id, alert);
    id
}

fn host(name: &str) -> Host {
    Host::parse(name).unwrap()
}

/// A message that has every field: something new, worse, ended, lasting; a Secret, an Ingress, an endpoint.
fn example() -> Message {
    let mut ledger = Ledger::default();
    let certificate = Facts {
        name: Some(PeerText::sanitise("shop.example.com")),
        issuer: Some(PeerText::sanitise("Example Issuing CA 2")),
        serial: Some(PeerText::sanitise("04:8f:1c")),
        fingerprint: Some(Fingerprint([0xab; 32])),
        dns_names: vec![
            PeerText::sanitise("shop.example.com"),
            PeerText::sanitise("*.shop.example.com"),
        ],
        not_before: Some(at(-83 * 86_400)),
        not_after: Some(at(7 * 86_400)),
        message: "expires 2027-01-22T08:00:00Z; warning threshold is 21d or 25% of lifetime".into(),
    };
    let secret = Place::Secret {
        namespace: "shop".into(),
        name: "shop-tls".into(),
        key: "tls.crt".into(),
    };
    let ingress = Place::Ingress {
        namespace: "shop".into(),
        name: "shop".into(),
        host: host("shop.example.com"),
        port: 443,
        via: crate::place::Via::Status,
    };
    let mail = Place::Endpoint {
        host: host("mail.example.com"),
        port: 465,
        server_name: host("smtp.example.com"),
    };
    add(
        &mut ledger,
        secret.clone(),
        Finding::ExpiringSoon,
        Severity::Warning,
        &certificate,
    );
    let mismatch = Facts {
        message: "serves a certificate that doesn't cover shop.example.com".into(),
        ..certificate.clone()
    };
    let ended = add(
        &mut ledger,
        ingress,
        Finding::HostnameMismatch,
        Severity::Critical,
        &mismatch,
    );
    let weak = Facts {
        message: "has an RSA key of 1024 bits".into(),
        ..certificate.clone()
    };
    add(
        &mut ledger,
        secret.clone(),
        Finding::WeakCrypto,
        Severity::Warning,
        &weak,
    );
    let manners = manners();
    let context = crate::delivery::SinkContext {
        cluster: Some("prod-eu"),
        ..context(&manners)
    };
    let Decision::Begin(first) = decide(&ledger, &context, at(0)) else {
        panic!()
    };
    let ledger_with = begin(&ledger, "team", &first);
    let sink = record(&ledger_with.sinks["team"], &first, &delivered(), 0, at(0));
    ledger.sinks.insert("team".into(), sink);
    end(&mut ledger, ended, 1000);
    let critical = Facts {
        message: "expires 2027-01-22T08:00:00Z; critical threshold is 7d or 10% of lifetime".into(),
        ..certificate
    };
    add(
        &mut ledger,
        secret,
        Finding::ExpiryCritical,
        Severity::Critical,
        &critical,
    );
    let unreachable = Facts {
        message: "is unreachable: connection refused; 3 attempts in a row".into(),
        ..Facts::default()
    };
    add(&mut ledger, mail, Finding::Unreachable, Severity::Warning, &unreachable);
    match decide(&ledger, &context, at(1000)) {
        Decision::Begin(intent) => intent.message,
        other => panic!("{other:?}"),
    }
}

fn example_json() -> String {
    serde_json::to_string_pretty(&example()).unwrap() + "\n"
}

#[test]
fn the_example_is_what_is_committed() {
    let committed = std::fs::read_to_string(reference("message.example.json")).unwrap_or_default();
    assert!(
        committed == example_json(),
        "docs/reference/message.example.json is not what the code says: cargo test -p certmon-core -- --ignored \
         write_the_example\n{}",
        example_json()
    );
}

#[test]
#[ignore = "writes docs/reference/message.example.json"]
fn write_the_example() {
    std::fs::write(reference("message.example.json"), example_json()).unwrap();
}

#[test]
fn what_is_sent_is_valid_against_the_published_schema() {
    let schema = schema();
    let validator = jsonschema::validator_for(&schema).unwrap();
    let body = serde_json::to_value(example()).unwrap();
    let errors: Vec<_> = validator.iter_errors(&body).map(|error| error.to_string()).collect();
    assert!(errors.is_empty(), "{errors:#?}");
    for (field, value) in [("reason", "why"), ("id", "a.b"), ("asOf", "today"), ("alerts", "none")] {
        let mut wrong = body.clone();
        wrong[field] = value.into();
        assert!(!validator.is_valid(&wrong), "{field} may be anything");
    }
}

#[test]
fn the_schema_names_every_field_and_every_name() {
    fn same(schema: &Value, at: &str, body: &Value) {
        let known = schema
            .pointer(at)
            .and_then(Value::as_object)
            .unwrap_or_else(|| panic!("no {at}"));
        for field in body.as_object().unwrap().keys() {
            assert!(known.contains_key(field), "{at}/{field} isn't in the schema");
        }
    }
    let schema = schema();
    let body = serde_json::to_value(example()).unwrap();
    same(&schema, "/properties", &body);
    same(&schema, "/properties/counts/properties", &body["counts"]);
    for alert in body["alerts"].as_array().unwrap() {
        same(&schema, "/$defs/alert/properties", alert);
        for part in ["object", "certificate"] {
            if alert.get(part).is_some() {
                same(
                    &schema,
                    &format!("/$defs/alert/properties/{part}/properties"),
                    &alert[part],
                );
            }
        }
    }
    let names = |values: Vec<String>| Value::from(values);
    let findings = names(Finding::iter().map(|finding| finding.to_string()).collect());
    assert_eq!(schema["$defs"]["alert"]["properties"]["finding"]["examples"], findings);
    let reasons = names(MessageReason::iter().map(|reason| reason.to_string()).collect());
    assert_eq!(schema["properties"]["reason"]["enum"], reasons);
    let version = &schema["properties"]["version"]["const"];
    assert_eq!(version, MESSAGE_VERSION);
}

#[test]
fn a_message_says_what_is_new_then_what_ended_then_what_lasts() {
    let message = example();
    let said: Vec<_> = message
        .alerts
        .iter()
        .map(|alert| (alert.finding, alert.status))
        .collect();
    assert_eq!(
        said,
        [
            (Finding::ExpiryCritical, AlertStatus::Firing),
            (Finding::Unreachable, AlertStatus::Firing),
            (Finding::HostnameMismatch, AlertStatus::Resolved),
            (Finding::WeakCrypto, AlertStatus::Firing),
        ]
    );
    for alert in &message.alerts {
        assert!(alert.message.starts_with(&alert.title), "{}", alert.message);
        for placeholder in ["NAMESPACE", "MONITOR", "HOST", "PORT"] {
            assert!(!alert.next_step.contains(placeholder), "{}", alert.next_step);
        }
    }
}

fn many(count: usize) -> Ledger {
    let mut ledger = Ledger::default();
    for n in 0..count {
        open(
            &mut ledger,
            &format!("{n:04}"),
            Finding::WeakCrypto,
            Severity::Warning,
            0,
        );
    }
    ledger
}

fn first_of(ledger: &Ledger) -> Message {
    match decide(ledger, &context(&manners()), at(0)) {
        Decision::Begin(intent) => intent.message,
        other => panic!("{other:?}"),
    }
}

#[test]
fn what_does_not_fit_into_a_message_is_counted_and_never_the_worst() {
    let mut ledger = many(600);
    open(&mut ledger, "worst", Finding::Expired, Severity::Critical, 0);
    let message = first_of(&ledger);
    assert_eq!(message.alerts[0].finding, Finding::Expired);
    assert!((400..=500).contains(&message.alerts.len()), "{}", message.alerts.len());
    assert_eq!(message.alerts.len() + message.truncated as usize, 601);
    assert_eq!((message.counts.critical, message.counts.warning), (1, 600));
}

#[test]
fn a_message_has_at_most_256_kib() {
    let mut ledger = Ledger::default();
    let facts = Facts {
        name: Some(PeerText::sanitise("n")),
        dns_names: (0..20)
            .map(|n| PeerText::sanitise(&format!("{n}{}", "\u{1f512}".repeat(255))))
            .collect(),
        message: "\u{1f512}".repeat(700),
        ..Facts::default()
    };
    for n in 0..60 {
        let place = Place::Source {
            name: format!("{n}").into(),
        };
        add(
            &mut ledger,
            place,
            Finding::TooFewCertificates,
            Severity::Warning,
            &facts,
        );
    }
    let message = first_of(&ledger);
    let bytes = serde_json::to_vec(&message).unwrap().len();
    assert!(bytes <= 256 * 1024 && !message.alerts.is_empty(), "{bytes}");
    assert_eq!(message.alerts.len() + message.truncated as usize, 60);
}

#[test]
fn the_worst_twenty_never_leave_out_what_is_critical_for_what_is_new() {
    let mut ledger = many(30);
    open(&mut ledger, "lasting", Finding::Expired, Severity::Critical, 0);
    let id = alert_id(
        "shop",
        "web",
        &ledger
            .alerts
            .values()
            .find(|a| a.finding == Finding::Expired)
            .unwrap()
            .place,
        Role::Leaf,
        AlertKind::Expiry,
    );
    let mut sink = SinkLedger::default();
    sink.told.insert(id, crate::ledger::Said::Expired);
    ledger.sinks.insert("team".into(), sink);
    let Decision::Begin(intent) = decide(&ledger, &context(&manners()), at(0)) else {
        panic!()
    };
    let ledger = begin(&ledger, "team", &intent);
    let refused = failed(crate::delivery::FailureClass::PayloadRejected);
    let mut after = ledger.clone();
    after.sinks.insert(
        "team".into(),
        record(&ledger.sinks["team"], &intent, &refused, 0, at(0)),
    );
    let message = first_of(&after);
    assert_eq!((message.alerts.len(), message.truncated), (20, 11));
    assert_eq!(
        message.alerts.last().map(|alert| alert.finding),
        Some(Finding::Expired),
        "last, for it isn't new"
    );
}
