//! Whom a monitor trusts: a ConfigMap that is missing, comes, changes and goes.

use crate::support::{
    certificates::{days, of_short_root, other_root_pem, root_pem},
    stage::{Stage, monitor_key, paused},
    story::{Story, day, hours, minutes, seconds},
};
use certmon::cluster::Key;
use tokio::time::sleep_until;

const SECRETS_OF_CORP: &str = "
sources:
- name: tls
  secrets: {}
trust:
  wellKnownCACertificates: None
  caCertificateRefs:
  - name: corp-ca
sinks:
- name: hook
  webhook: {url: https://hooks.example/one}
";

fn corp_ca(stage: &Stage, pem: Option<&[u8]>) {
    stage.api.config_map(&Key::new("shop", "corp-ca"), pem);
}

#[test]
fn trust_comes_and_changes() {
    Story::new(
        "trust_comes_and_changes",
        "A monitor trusts a CA whose ConfigMap isn't there: chains are not judged, and nothing is fine. The ConfigMap comes
with another CA, and what is stored is untrusted at once. It is emptied: that is said, and what was known is not taken back.
It gets the right CA, and all is fine at once. When it is deleted, and back, nothing is told.",
    )
    .at(minutes(0), "a monitor and a Secret; no ConfigMap", |stage| {
        stage.secret("shop-tls", &days("shop.example.com", 0, 90));
        stage.monitor(SECRETS_OF_CORP);
    })
    .quiet(minutes(5), hours(20))
    .at(day(1), "the ConfigMap comes, with another CA", |stage| corp_ca(stage, Some(&other_root_pem())))
    .at(day(2), "it is emptied", |stage| corp_ca(stage, Some(b"")))
    .quiet(day(2) + hours(1), day(2) + hours(20))
    .at(day(3), "it gets the right CA", |stage| corp_ca(stage, Some(&root_pem())))
    .quiet(day(3) + hours(1), day(9))
    .at(day(9), "it is deleted", |stage| corp_ca(stage, None))
    .quiet(day(9) + hours(1), day(12))
    .at(day(12), "it is back", |stage| corp_ca(stage, Some(&root_pem())))
    .quiet(day(12) + hours(1), day(20))
    .tell();
}

#[test]
fn what_is_served_is_looked_at_again_when_trust_changes() {
    paused(async {
        let mut stage = Stage::new();
        stage.start("pod-a");
        stage.servers.resolve("www.example.com", &["192.0.2.10"]);
        stage.servers.serve("192.0.2.10", &days("www.example.com", 0, 90));
        let served = SECRETS_OF_CORP.replace("secrets: {}", "endpoints: [{host: www.example.com}]");
        stage.monitor(&served);
        let untrusted = || -> (u64, Vec<String>) {
            let status = stage.api.status(&monitor_key()).unwrap_or_default();
            let healthy = status.conditions.iter().filter(|one| one.type_ == "Healthy");
            let healthy = healthy.map(|one| format!("{} {}", one.status, one.reason));
            (stage.servers.looks(), healthy.collect())
        };
        let (other, right) = (other_root_pem(), root_pem());
        let mut looks = 1;
        for (minute, ca, healthy) in [
            (5, None, "Unknown ReferenceNotFound"),
            (10, Some(&*other), "False UntrustedIssuer"),
            // What was known is not taken back.
            (40, Some(&b""[..]), "False UntrustedIssuer"),
            (70, Some(&*right), "True AllValid"),
            (75, None, "Unknown ReferenceNotFound"),
            (80, Some(&*right), "True AllValid"),
        ] {
            let at = minutes(minute);
            sleep_until(stage.clock.instant(at)).await;
            let before = stage.servers.looks();
            if minute > 5 {
                corp_ca(&stage, ca);
            }
            sleep_until(stage.clock.instant(at + seconds(2))).await;
            let (now, found) = untrusted();
            assert_eq!(found, [healthy], "at minute {minute}\n{}", stage.timeline.text());
            assert!(minute == 5 || now > before, "at minute {minute}: not looked at again");
            looks = now;
        }
        assert!(looks < 20, "{looks} looks");
        assert_eq!(stage.broken(), Vec::<String>::new());
    });
}

/// What the conditions of a monitor say.
fn healthy(stage: &Stage, key: &Key) -> Vec<String> {
    let status = stage.api.status(key).unwrap_or_default();
    let healthy = status.conditions.iter().filter(|one| one.type_ == "Healthy");
    healthy.map(|one| format!("{} {}", one.status, one.reason)).collect()
}

#[test]
fn a_root_that_ends_is_trusted_no_longer_from_that_instant() {
    paused(async {
        let mut stage = Stage::new();
        stage.start("pod-a");
        let [leaf, root] = of_short_root("shop.example.com");
        stage.secret("shop-tls", &leaf);
        corp_ca(&stage, Some(&root.pem));
        stage.monitor(SECRETS_OF_CORP);
        sleep_until(stage.clock.instant(day(4) - minutes(1))).await;
        assert_eq!(healthy(&stage, &monitor_key()), ["True AllValid"]);
        sleep_until(stage.clock.instant(day(4) + seconds(2))).await;
        let found = healthy(&stage, &monitor_key());
        assert_eq!(found, ["False UntrustedIssuer"], "{}", stage.timeline.text());
        assert_eq!(stage.broken(), Vec::<String>::new());
    });
}

#[test]
fn what_others_ask_for_changes_nothing_for_who_watches_a_ca() {
    paused(async {
        let mut stage = Stage::new();
        stage.start("pod-a");
        let [_, root] = of_short_root("shop.example.com");
        let leaf = days("shop.example.com", 0, 90);
        let values: [(&str, &[u8]); 2] = [("tls.crt", &leaf.pem), ("ca.crt", &root.pem)];
        stage.secret_of(&Key::new("shop", "shop-tls"), &values);
        let of_keys = |keys: &str| format!("sources:\n- name: cas\n  secrets: {{keys: [{keys}]}}\n");
        let cas = Key::new("shop", "cas");
        stage.another(&cas, &of_keys("ca.crt"));
        sleep_until(stage.clock.instant(minutes(5))).await;
        assert_eq!(
            healthy(&stage, &cas),
            ["False ExpiryCritical"],
            "{}",
            stage.timeline.text()
        );
        let both = Key::new("shop", "both");
        stage.another(&both, &of_keys("tls.crt, ca.crt"));
        let in_order = Key::new("shop", "in-order");
        let sources =
            "sources:\n- name: one\n  secrets: {keys: [tls.crt]}\n- name: two\n  secrets: {keys: [tls.crt, ca.crt]}\n";
        stage.another(&in_order, sources);
        sleep_until(stage.clock.instant(minutes(10))).await;
        let found = [&cas, &both, &in_order].map(|key| healthy(&stage, key).concat());
        // Beside a leaf a CA's end is told as that leaf's matter, and as a warning.
        let expected = ["False ExpiryCritical", "False ExpiringSoon", "False ExpiringSoon"];
        assert_eq!(found, expected, "{}", stage.timeline.text());
        assert!(
            !stage.timeline.text().contains("no longer monitored"),
            "{}",
            stage.timeline.text()
        );
    });
}
