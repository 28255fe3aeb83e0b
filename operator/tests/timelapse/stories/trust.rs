//! Whom a monitor trusts: a ConfigMap that is missing, comes, changes and goes.

use crate::support::{
    certificates::{days, other_root_pem, root_pem},
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
