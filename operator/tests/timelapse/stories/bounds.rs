//! Bounds that a monitor sets: at least so many certificates, at most so many, and what each check is worth.

use super::{ENDPOINT, SECRETS};
use crate::support::{
    certificates::{Issued, days, keys_pem, leaf, other_root_pem, weak, with_short_intermediate},
    servers::Serves,
    stage::{Stage, monitor_key, paused},
    story::{Story, day, hours, minutes},
};
use certmon::cluster::Key;
use certmon_core::{message::AlertStatus, target::ProbeFailure};
use chrono::TimeDelta;
use std::collections::BTreeSet;
use tokio::time::sleep_until;

#[test]
fn fewer_certificates_than_there_must_be() {
    Story::new(
        "fewer_certificates_than_there_must_be",
        "A source must hold two certificates. One of its Secrets is deleted and made again within the ten minutes that such
a finding is held back: nobody is told. Then it is deleted for good, and that is told, until another one comes.",
    )
    .at(minutes(0), "a monitor that wants two certificates, and two Secrets", |stage| {
        stage.secret("shop-tls", &days("shop.example.com", 0, 90));
        stage.secret("api-tls", &days("api.example.com", 0, 90));
        stage.monitor(
            "
sources:
- name: tls
  secrets: {}
  minCertificates: 2
sinks:
- name: hook
  webhook: {url: https://hooks.example/one}
",
        );
    })
    .quiet(minutes(15), day(1))
    .at(day(1), "one is deleted", |stage| stage.delete_secret("api-tls"))
    .at(day(1) + minutes(8), "it is back", |stage| {
        stage.secret("api-tls", &days("api.example.com", 0, 90));
    })
    .quiet(day(1) + minutes(20), day(2))
    .at(day(2), "it is deleted for good", |stage| stage.delete_secret("api-tls"))
    .at(day(3), "a Secret comes that holds no certificate", |stage| {
        stage.secret_of(&Key::new("shop", "new-tls"), &[("tls.crt", b"soon")]);
    })
    .at(day(4), "it gets one", |stage| stage.secret("new-tls", &days("new.example.com", 4, 94)))
    .quiet(day(4) + hours(1), day(20))
    .tell();
}

#[test]
fn more_certificates_than_may_be_checked() {
    Story::new(
        "more_certificates_than_may_be_checked",
        "A monitor may check two certificates, and has one that ends soon. Two more come whose names stand before all
others: the one with the open alert stays checked, and nothing is resolved because it was left out. That there are too many
is told; when the limit is raised, all are checked.",
    )
    .at(minutes(0), "a monitor with a limit of two, and two Secrets", |stage| {
        stage.secret("shop-tls", &days("shop.example.com", -80, 10));
        stage.secret("fine-tls", &days("fine.example.com", 0, 90));
        stage.monitor(&format!("{SECRETS}limits: {{maxCertificates: 2}}\n"));
    })
    .quiet(minutes(5), day(1))
    .at(day(1), "two more come; one of them ends soon too", |stage| {
        stage.secret("a-tls", &days("a.example.com", 0, 90));
        stage.secret("b-tls", &days("b.example.com", -80, 11));
    })
    .at(day(2), "the limit is raised", |stage| {
        stage.monitor(&format!("{SECRETS}limits: {{maxCertificates: 10}}\n"));
    })
    .at(day(2) + hours(5), "those that end soon are renewed", |stage| {
        stage.secret("shop-tls", &days("shop.example.com", 2, 92));
        stage.secret("b-tls", &days("b.example.com", 2, 92));
    })
    .quiet(day(2) + hours(6), day(20))
    .tell();
}

#[test]
fn a_check_that_is_edited() {
    let weak_crypto = |level: &str| format!("{SECRETS}checks: {{weakCrypto: {level}}}\n");
    let (critical, warning, ignored) = (weak_crypto("Critical"), weak_crypto("Warning"), weak_crypto("Ignore"));
    let again = critical.clone();
    Story::new(
        "a_check_that_is_edited",
        "A certificate has a short RSA key, and its monitor calls that critical. Then it is a warning: that is a fall, which
isn't told. Then it is ignored: the alert ends for that reason. Critical again, it is an episode of its own.",
    )
    .at(minutes(0), "a monitor whose check of cryptography is critical, and a Secret", move |stage| {
        stage.secret("shop-tls", &weak("shop.example.com"));
        stage.monitor(&critical);
    })
    .at(hours(5), "the check is a warning", move |stage| stage.monitor(&warning))
    .at(hours(10), "it is ignored", move |stage| stage.monitor(&ignored))
    .quiet(hours(11), hours(20))
    .at(day(1), "it is critical again", move |stage| stage.monitor(&again))
    .end(day(1) + hours(5))
    .tell();
}

/// One check: its key, what is found where it isn't ignored, and the objects that make it so with the monitor of them.
type Check = (&'static str, &'static str, fn(&Stage) -> String);

fn endpoint(stage: &Stage, certificate: &Issued) -> String {
    stage.servers.resolve("www.example.com", &["192.0.2.10"]);
    stage.servers.serve("192.0.2.10", certificate);
    ENDPOINT.to_owned()
}

const CHECKS: [Check; 11] = [
    ("notYetValid", "NotYetValid", |stage| {
        stage.secret("shop-tls", &days("shop.example.com", 5, 95));
        SECRETS.to_owned()
    }),
    ("hostname", "HostnameMismatch", |stage| {
        endpoint(stage, &days("other.example.com", 0, 90))
    }),
    ("chain", "UntrustedIssuer", |stage| {
        stage
            .api
            .config_map(&Key::new("shop", "corp-ca"), Some(&other_root_pem()));
        let monitor = endpoint(stage, &days("www.example.com", 0, 90));
        let trust = "trust: {wellKnownCACertificates: None, caCertificateRefs: [{name: corp-ca}]}";
        format!("{monitor}{trust}\n")
    }),
    ("intermediates", "IntermediateExpiring", |stage| {
        let chain: Vec<Vec<u8>> = with_short_intermediate("shop.example.com")
            .into_iter()
            .map(|one| one.pem)
            .collect();
        stage.secret_of(&Key::new("shop", "shop-tls"), &[("tls.crt", &chain.concat())]);
        SECRETS.to_owned()
    }),
    ("keyMatch", "KeyMismatch", |stage| {
        let [own, other] = keys_pem();
        let certificate = days("shop.example.com", 0, 90).pem;
        let key = Key::new("shop", "shop-tls");
        stage.secret_of(&key, &[("tls.crt", &certificate), ("tls.key", &other)]);
        stage.secret_of(
            &Key::new("shop", "good-tls"),
            &[("tls.crt", &certificate), ("tls.key", &own)],
        );
        SECRETS.to_owned()
    }),
    ("weakCrypto", "WeakCrypto", |stage| {
        stage.secret("shop-tls", &weak("shop.example.com"));
        SECRETS.to_owned()
    }),
    ("placeholder", "PlaceholderCertificate", |stage| {
        stage.secret("shop-tls", &days("TRAEFIK DEFAULT CERT", 0, 90));
        SECRETS.to_owned()
    }),
    ("served", "ServedCertificateDiffers", |stage| {
        stage.secret("shop-tls", &days("www.example.com", 0, 90));
        stage.ingress("shop", "www.example.com", "shop-tls", Some("192.0.2.10"));
        endpoint(stage, &days("www.example.com", -10, 80));
        SECRETS.replace("secrets: {}", "ingresses: {}")
    }),
    ("unreachable", "Unreachable", |stage| {
        let monitor = endpoint(stage, &days("www.example.com", 0, 90));
        stage.servers.set("192.0.2.10", Serves::Fails(ProbeFailure::TimedOut));
        monitor
    }),
    ("secretMissing", "SecretMissing", |_| {
        SECRETS.replace("secrets: {}", "secrets: {names: [gone]}")
    }),
    ("parse", "BadCertificateData", |stage| {
        stage.secret_of(&Key::new("shop", "shop-tls"), &[("tls.crt", b"garbage")]);
        SECRETS.to_owned()
    }),
];

/// What stands in status and what was told of one finding.
fn severities((key, finding, arrange): Check, level: &str) -> [BTreeSet<String>; 2] {
    paused(async {
        let mut stage = Stage::new();
        stage.start("pod-a");
        let monitor = arrange(&stage);
        stage.monitor(&format!("{monitor}checks: {{{key}: {level}}}\n"));
        sleep_until(stage.clock.instant(minutes(45))).await;
        let broken = stage.broken();
        assert!(
            broken.is_empty(),
            "{key}: {level}: {broken:#?}\n{}",
            stage.timeline.text()
        );
        let status = stage.api.status(&monitor_key()).unwrap_or_default();
        let of_finding = status
            .problems
            .iter()
            .filter(|one| one.finding.split(':').next() == Some(finding));
        let shown = of_finding.map(|one| format!("{:?}", one.severity)).collect();
        let arrivals = stage.sinks.arrivals();
        let alerts = arrivals.iter().flat_map(|arrival| &arrival.message.alerts);
        let firing = alerts.filter(|alert| alert.status == AlertStatus::Firing && alert.finding.to_string() == finding);
        [shown, firing.map(|alert| alert.severity.to_string()).collect()]
    })
}

#[test]
fn each_check_has_the_severity_that_is_written() {
    for check in CHECKS {
        for level in ["Ignore", "Warning", "Critical"] {
            let expected = BTreeSet::from_iter((level != "Ignore").then(|| level.to_owned()));
            assert_eq!(
                severities(check, level),
                [expected.clone(), expected],
                "{}: {level}",
                check.0
            );
        }
    }
    // An intermediate four days before its end is as bad as a leaf would be.
    let as_leaf = severities(CHECKS[3], "AsLeaf");
    assert_eq!(
        as_leaf.map(|all| all.into_iter().collect::<Vec<_>>()),
        [["Critical"], ["Critical"]]
    );
}

#[test]
fn the_table_of_checks_has_every_check() {
    let checks = serde_json::to_value(certmon_crd::Checks::default()).expect("it is JSON");
    let keys: BTreeSet<&str> = checks
        .as_object()
        .into_iter()
        .flatten()
        .map(|(key, _)| key.as_str())
        .collect();
    assert_eq!(keys, CHECKS.iter().map(|(key, ..)| *key).collect());
}

/// One monitor with far more targets than are dialled at a time, whose looks end at one instant, beside another one.
#[test]
fn a_thousand_dead_targets_keep_nobody_waiting() {
    use std::sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    };
    paused(async {
        let mut stage = Stage::new();
        stage.start("pod-a");
        let metrics = stage.metrics();
        let passes = move || -> usize {
            let text = metrics.encode().expect("text");
            let count = text
                .lines()
                .find_map(|line| line.strip_prefix("certmon_reconcile_duration_seconds_count "));
            count.and_then(|count| count.parse().ok()).expect("a count")
        };
        let calm = Key::new("calm", "calm");
        let before = Arc::new(AtomicUsize::new(0));
        let waited: Arc<Mutex<Vec<usize>>> = Arc::default();
        {
            let (passes, calm, before, waited) = (passes.clone(), calm.clone(), before.clone(), waited.clone());
            stage.api.on_status(move |key| {
                let before = before.swap(0, Ordering::Relaxed);
                if *key == calm && before > 0 {
                    waited.lock().expect("no panic").push(passes() - before);
                }
            });
        }
        let mut crowd = String::from("sources:\n- name: many\n  endpoints:\n");
        for number in 0..1024 {
            let name = format!("h{number}.example.com");
            stage.servers.resolve(&name, &["192.0.2.99"]);
            crowd.push_str(&format!("  - host: {name}\n"));
        }
        stage.another(&calm, SECRETS);
        sleep_until(stage.clock.instant(minutes(5))).await;
        let start = passes();
        stage.another(&Key::new("crowd", "crowd"), &crowd);
        // While its looks end, 32 at an instant, something happens to the calm one.
        for round in 0..4 {
            sleep_until(
                stage
                    .clock
                    .instant(minutes(5) + TimeDelta::milliseconds(26 + 20 * round)),
            )
            .await;
            before.store(passes(), Ordering::Relaxed);
            let certificate = leaf("calm.example.com", hours(round) - day(80), hours(round) + day(90));
            stage.secret_of(
                &Key::new("calm", &format!("tls-{round}")),
                &[("tls.crt", &certificate.pem)],
            );
        }
        sleep_until(stage.clock.instant(minutes(6))).await;
        let (all, waited) = (passes() - start, waited.lock().expect("no panic").clone());
        assert_eq!(waited.len(), 4, "{waited:?}");
        assert!(
            waited.iter().all(|passes| *passes <= 2),
            "passes before the calm one's: {waited:?}"
        );
        // 500 of them are dialled, 32 at a time, and each is seen to fail twice within the minute.
        assert!(stage.servers.looks() >= 1000, "{} looks", stage.servers.looks());
        assert!(all < 150, "{all} passes for {} looks", stage.servers.looks());
    });
}

/// An event touches the monitors that it concerns, and no others: neither those of another namespace, nor those beside it that
/// select something else.
#[test]
fn what_happens_to_a_secret_is_gone_over_by_those_who_watch_it() {
    paused(async {
        let mut stage = Stage::new();
        stage.start("pod-a");
        let metrics = stage.metrics();
        let passes = || -> usize {
            let text = metrics.encode().expect("text");
            let mut lines = text.lines();
            let count = lines.find_map(|line| line.strip_prefix("certmon_reconcile_duration_seconds_count "));
            count.and_then(|count| count.parse().ok()).expect("a count")
        };
        let watching = |name: &str| format!("sources:\n- name: tls\n  secrets:\n    names: [{name}]\n");
        for number in 0..50 {
            let other = format!("other-{number}");
            stage.another(&Key::new("shop", &other), &watching("other-tls"));
            stage.another(&Key::new("pay", &other), &watching("shop-tls"));
        }
        stage.another(&Key::new("shop", "one"), &watching("shop-tls"));
        sleep_until(stage.clock.instant(minutes(5))).await;
        let before = passes();
        let certificate = leaf("shop.example.com", hours(0) - day(30), day(60));
        stage.secret_of(&Key::new("shop", "shop-tls"), &[("tls.crt", &certificate.pem)]);
        sleep_until(stage.clock.instant(minutes(6))).await;
        let all = passes() - before;
        // What was found, and what comes of it: an Event, a status that is written.
        assert!((1..=10).contains(&all), "{all} passes of 101 monitors");
    });
}
