//! What kubectl prints, to the letter but for times, ages, identities and ports.

use super::{Monitor, SOON, Stage, ca_config_map, monitor, ninety_days, of_ninety_days, text_secret};
use anyhow::{Result, ensure};
use certmon_e2e::sinks::{Answer, HttpSink};
use certmon_e2e::{Authority, Cluster, Leaf, egress_policy, tls::TlsServer, wait_for};
use serde_json::{Value, json};
use std::collections::BTreeSet;

/// Everything that differs from run to run.
const FILTERS: [(&str, &str); 13] = [
    (r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", "[time]"),
    (r"\d{4}-\d\d-\d\d \d\d:\d\dZ", "[minute]"),
    (r"\d{4}-\d\d-\d\d", "[date]"),
    (r"(?m)^(  UID: +)\S+", "$1[uid]"),
    (r"(?m)^(  Resource Version: +)\S+", "$1[version]"),
    (r"serial [0-9a-f:]+", "serial [serial]"),
    (r"127\.0\.0\.1:\d+", "127.0.0.1:[port]"),
    (r"(Port: +)\d+", "$1[port]"),
    (r" [\dm]+s +certmon.dev/operator", " [age]  certmon.dev/operator"),
    (r"(?m)^[\dm]+s +(Normal|Warning)", "[age]  $1"),
    (r"(?m)^(shop .*?) +[\dm]+s( +|$)", "$1   [age]   "),
    // kubectl splits this word otherwise since 1.34, and with it the columns of its neighbours.
    (r"Well Known CA ?Certificates: +", "Well Known CA Certificates: "),
    (
        r"(?m)^(      (?:Key|Kind|Name): ) +(ca\.crt|ConfigMap|story-ca)$",
        "$1$2",
    ),
];

fn tls_source() -> Value {
    json!([{ "name": "tls-secrets", "secrets": {} }])
}

/// Waits for what the monitor must say and for its Events, then takes everything that people look at.
async fn snapshot(stage: &Stage, name: &str, wanted: impl Fn(&Monitor) -> bool, reasons: &[&str]) -> Result<Monitor> {
    let monitor = stage.until("shop", name, wanted).await?;
    if !reasons.is_empty() {
        stage.events(reasons).await?;
    }
    let get = stage.kubectl(&["get", "certmon"]).await?;
    let wide = stage.kubectl(&["get", "certmon", "-o", "wide"]).await?;
    let describe = stage.kubectl(&["describe", "certmon", "shop"]).await?;
    let events = stage.kubectl(&["events", "--for", "certmon/shop"]).await?;
    let shown = format!(
        "$ kubectl get certmon\n{get}\n$ kubectl get certmon -o wide\n{wide}\n$ kubectl describe certmon shop\n{}\n$ kubectl \
         events --for certmon/shop\n{}",
        events_sorted(&describe, "Events:"),
        events_sorted(&events, "LAST SEEN"),
    );
    let shown = shown.replace(stage.namespace.name(), "[namespace]");
    insta::with_settings!({ filters => FILTERS, omit_expression => true }, { insta::assert_snapshot!(name, shown) });
    Ok(monitor)
}

/// kubectl sorts Events by the second: within one, their order is by chance.
fn events_sorted(text: &str, from: &str) -> String {
    let Some(at) = text.find(from) else {
        return text.to_owned();
    };
    let (before, events) = text.split_at(at);
    let is_event = |line: &&str| line.contains("Normal ") || line.contains("Warning ");
    let mut lines: Vec<&str> = events.lines().filter(is_event).collect();
    // By what comes after the age.
    let key = |line: &&str| {
        line.find("Normal ")
            .or_else(|| line.find("Warning "))
            .map(|at| line[at..].to_owned())
    };
    lines.sort_by_key(key);
    let heading: Vec<&str> = events.lines().filter(|line| !is_event(line)).collect();
    format!("{before}{}\n{}\n", heading.join("\n"), lines.join("\n"))
}

#[tokio::test]
async fn all_is_fine() -> Result<()> {
    let stage = Stage::set("fine", |operator| operator).await?;
    let authority = Authority::new("Story CA")?;
    stage
        .apply(&[
            ninety_days(&authority, "shop-tls", "shop.example.com", 60)?,
            ninety_days(&authority, "cart-tls", "cart.example.com", 80)?,
            monitor("shop", &json!({ "sources": tls_source() })),
        ])
        .await?;
    let fine = |monitor: &Monitor| monitor.says("Healthy", "True", "AllValid") && monitor.count("total") == 2;
    snapshot(&stage, "all_is_fine", fine, &["MonitoringStarted"]).await?;
    Ok(())
}

#[tokio::test]
async fn two_are_expiring() -> Result<()> {
    let stage = Stage::set("expiring", |operator| operator).await?;
    let authority = Authority::new("Story CA")?;
    stage
        .apply(&[
            ninety_days(&authority, "checkout-tls", "checkout.example.com", 3)?,
            ninety_days(&authority, "legacy-tls", "legacy.example.com", 15)?,
            ninety_days(&authority, "shop-tls", "shop.example.com", 60)?,
            monitor("shop", &json!({ "sources": tls_source() })),
        ])
        .await?;
    let expiring = |monitor: &Monitor| monitor.count("critical") == 1 && monitor.count("warning") == 1;
    let reasons = ["MonitoringStarted", "ExpiringSoon", "ExpiryCritical"];
    snapshot(&stage, "two_are_expiring", expiring, &reasons).await?;
    Ok(())
}

#[tokio::test]
async fn one_has_expired() -> Result<()> {
    let stage = Stage::set("expired", |operator| operator).await?;
    let authority = Authority::new("Story CA")?;
    stage
        .apply(&[
            ninety_days(&authority, "old-tls", "old.example.com", -2)?,
            ninety_days(&authority, "shop-tls", "shop.example.com", 60)?,
            monitor("shop", &json!({ "sources": tls_source() })),
        ])
        .await?;
    let expired = |monitor: &Monitor| monitor.says("Healthy", "False", "Expired") && monitor.count("total") == 2;
    snapshot(&stage, "one_has_expired", expired, &["MonitoringStarted", "Expired"]).await?;
    Ok(())
}

/// It was seen before, so that its last known end is told with it.
#[tokio::test]
async fn a_server_stops_answering() -> Result<()> {
    let authority = Authority::new("Story CA")?;
    let server =
        TlsServer::start(&authority.issue(&Leaf::for_names(["shop.example.com"]).valid(of_ninety_days(60)))?).await?;
    let port = server.port();
    let stage = Stage::set("unreachable", |operator| operator.egress_policy(egress_policy([port]))).await?;
    let endpoint = json!({ "host": "127.0.0.1", "port": port, "serverName": "shop.example.com" });
    let spec = json!({
        "sources": [{ "name": "public", "endpoints": [endpoint] }],
        "probe": { "failureThreshold": 1 },
        "trust": { "wellKnownCACertificates": "None", "caCertificateRefs": [{ "name": "story-ca" }] },
    });
    stage
        .apply(&[ca_config_map("story-ca", &authority.pem()), monitor("shop", &spec)])
        .await?;
    stage
        .until("shop", "AllValid", |monitor| {
            monitor.says("Healthy", "True", "AllValid")
        })
        .await?;
    drop(server);
    stage.annotate("shop", "certmon.dev/check-requested-at=1").await?;
    let gone = |monitor: &Monitor| {
        monitor.says("Healthy", "False", "Unreachable") && monitor.0["status"]["lastHandledCheckRequest"] == "1"
    };
    snapshot(
        &stage,
        "a_server_stops_answering",
        gone,
        &["MonitoringStarted", "Unreachable"],
    )
    .await?;
    Ok(())
}

#[tokio::test]
async fn a_sink_fails() -> Result<()> {
    let slack = HttpSink::slack().await?;
    slack.answer_always(Answer::status(404).body("no_service"));
    let stage = Stage::set("sinkfails", |operator| {
        operator.egress_policy(egress_policy([slack.port()]))
    })
    .await?;
    let authority = Authority::new("Story CA")?;
    let spec = json!({
        "sources": tls_source(),
        "sinks": [{ "name": "team", "slack": { "secretRef": { "name": "slack-hook" } } }],
    });
    let values = json!({ "url": slack.url("/services/T0/B0/x"), "ca.crt": slack.ca_pem() });
    stage
        .apply(&[
            text_secret("slack-hook", "certmon.dev/slack", &values),
            ninety_days(&authority, "legacy-tls", "legacy.example.com", 15)?,
            monitor("shop", &spec),
        ])
        .await?;
    let failing = |monitor: &Monitor| monitor.sink("team")["result"] == "Failing";
    let reasons = ["MonitoringStarted", "ExpiringSoon", "DeliveryFailed"];
    snapshot(&stage, "a_sink_fails", failing, &reasons).await?;
    Ok(())
}

#[tokio::test]
async fn nothing_is_selected_but_something_near() -> Result<()> {
    let stage = Stage::set("nothing", |operator| operator).await?;
    let authority = Authority::new("Story CA")?;
    let mut secret = ninety_days(&authority, "shop-tls", "shop.example.com", 60)?;
    secret["metadata"]["labels"] = json!({ "app.kubernetes.io/part-of": "shop" });
    let selector = json!({ "matchLabels": { "app.kubernetes.io/part-of": "shopp" } });
    let sources = json!([{ "name": "tls-secrets", "secrets": { "selector": selector } }]);
    stage
        .apply(&[secret, monitor("shop", &json!({ "sources": sources }))])
        .await?;
    let nothing = |monitor: &Monitor| monitor.message("Healthy").contains("part-of=shop");
    snapshot(
        &stage,
        "nothing_is_selected_but_something_near",
        nothing,
        &["NoCertificates"],
    )
    .await?;
    Ok(())
}

#[tokio::test]
async fn a_source_is_forbidden() -> Result<()> {
    let cluster = Cluster::shared().await?;
    cluster.crds().await?;
    let without_secrets = |rules: &mut Vec<Value>| rules.retain(|rule| rule["resources"] != json!(["secrets"]));
    let stage = Stage::on(cluster, "forbidden", without_secrets, |operator| operator).await?;
    stage
        .apply(&[monitor("shop", &json!({ "sources": tls_source() }))])
        .await?;
    let forbidden = |monitor: &Monitor| monitor.says("Ready", "False", "SourceForbidden");
    snapshot(&stage, "a_source_is_forbidden", forbidden, &["SourceForbidden"]).await?;
    Ok(())
}

/// What was known stays to be read; nothing new is found or told; what changed is told after it.
#[tokio::test]
async fn a_monitor_is_suspended_and_resumed() -> Result<()> {
    let stage = Stage::set("suspended", |operator| operator).await?;
    let authority = Authority::new("Story CA")?;
    stage
        .apply(&[
            ninety_days(&authority, "shop-tls", "shop.example.com", 60)?,
            monitor("shop", &json!({ "sources": tls_source() })),
        ])
        .await?;
    stage
        .until("shop", "AllValid", |monitor| {
            monitor.says("Healthy", "True", "AllValid")
        })
        .await?;
    stage
        .apply(&[monitor("shop", &json!({ "sources": tls_source(), "suspend": true }))])
        .await?;
    let suspended = |monitor: &Monitor| monitor.says("Ready", "True", "Suspended");
    snapshot(&stage, "a_monitor_is_suspended_and_resumed", suspended, &["Suspended"]).await?;
    stage
        .apply(&[
            ninety_days(&authority, "old-tls", "old.example.com", -2)?,
            monitor("shop", &json!({ "sources": tls_source(), "suspend": false })),
        ])
        .await?;
    stage
        .until("shop", "Expired", |monitor| monitor.says("Healthy", "False", "Expired"))
        .await?;
    stage.events(&["Resumed", "Expired"]).await?;
    Ok(())
}

#[tokio::test]
async fn there_are_thirty_problems() -> Result<()> {
    let stage = Stage::set("thirty", |operator| operator).await?;
    let authority = Authority::new("Story CA")?;
    let mut objects = Vec::new();
    for number in 10..40 {
        let name = format!("host-{number}.example.com");
        objects.push(ninety_days(&authority, &format!("tls-{number}"), &name, -2)?);
    }
    stage.apply(&objects).await?;
    stage
        .apply(&[monitor("shop", &json!({ "sources": tls_source() }))])
        .await?;
    let thirty = |monitor: &Monitor| monitor.count("critical") == 30;
    let monitor = stage.until("shop", "thirty problems", thirty).await?;
    assert_eq!(monitor.problems().len(), 10);
    wait_for("the Events that the budget allows", SOON, async || {
        let events = stage.events(&["Expired"]).await?;
        ensure!(events.matches("Expired: ").count() >= 10, "{events}");
        Ok(())
    })
    .await?;
    let describe = stage.kubectl(&["describe", "certmon", "shop"]).await?;
    let (status, described_events) = describe.split_once("Events:").unwrap_or((&describe, ""));
    let get = stage.kubectl(&["get", "certmon"]).await?;
    let wide = stage.kubectl(&["get", "certmon", "-o", "wide"]).await?;
    let events = stage.kubectl(&["events", "--for", "certmon/shop"]).await?;
    ensure!(described_events.matches(" Expired ").count() >= 10, "{describe}");
    let shown = format!(
        "$ kubectl get certmon\n{get}\n$ kubectl get certmon -o wide\n{wide}\n$ kubectl describe certmon shop\n{status}\n$ \
         kubectl events --for certmon/shop\n{}",
        one_of_each(&events),
    );
    let shown = shown.replace(stage.namespace.name(), "[namespace]");
    insta::with_settings!({ filters => FILTERS, omit_expression => true }, {
        insta::assert_snapshot!("there_are_thirty_problems", shown);
    });
    Ok(())
}

/// Which of many get their Event is the budget's business: of those that differ in a number alone, one.
fn one_of_each(events: &str) -> String {
    let mut seen = BTreeSet::new();
    for line in events.lines().skip(1) {
        let mut words: Vec<&str> = line.split_whitespace().skip(1).collect();
        for word in &mut words {
            if word.starts_with("Secret/tls-") {
                *word = "Secret/tls-[number]";
            } else if word.starts_with("(host-") {
                *word = "(host-[number].example.com)";
            }
        }
        seen.insert(words.join(" "));
    }
    seen.into_iter().collect::<Vec<_>>().join("\n")
}

/// Everything as long as it may be: names, hosts, sources, sinks that fail, each in its own words.
#[tokio::test]
async fn a_status_of_the_longest_names_stays_below_its_bound() -> Result<()> {
    let stage = Stage::set("longest", |operator| operator).await?;
    let authority = Authority::new("Story CA")?;
    let label = |number: usize| format!("{number:02}{}", "x".repeat(61));
    let mut objects = Vec::new();
    for number in 0..30 {
        let name = [label(number), label(number), label(number), "y".repeat(61)].join(".");
        objects.push(ninety_days(&authority, &name, &name, -2)?);
    }
    for chunk in objects.chunks(10) {
        stage.apply(chunk).await?;
    }
    let sources: Vec<Value> = (0..16)
        .map(|number| {
            let missing = [label(number), label(number), "z".repeat(63), "z".repeat(61)].join(".");
            json!({ "name": label(number), "secrets": { "selector": {}, "names": [missing] }, "minCertificates": 100 })
        })
        .collect();
    let sinks: Vec<Value> = (0..8)
        .map(|number| {
            let secret = [label(number), label(number), "s".repeat(63), "s".repeat(61)].join(".");
            json!({ "name": label(number), "slack": { "secretRef": { "name": secret } } })
        })
        .collect();
    stage
        .apply(&[monitor("shop", &json!({ "sources": sources, "sinks": sinks }))])
        .await?;
    let monitor = stage
        .until("shop", "all that is wrong", |monitor| {
            monitor.count("critical") == 30 && monitor.says("Notified", "False", "SinkMisconfigured")
        })
        .await?;
    let bytes = serde_json::to_vec(&monitor.0["status"])?.len();
    assert!(bytes <= 32 * 1024, "{bytes} bytes of status");
    assert!(bytes > 8 * 1024, "only {bytes} bytes: {:#}", monitor.0["status"]);
    Ok(())
}

#[tokio::test]
async fn kubectl_explains_a_threshold() -> Result<()> {
    let cluster = Cluster::shared().await?;
    cluster.crds().await?;
    let said = cluster
        .kubectl()?
        .run(["explain", "certmon.spec.thresholds.warning"])
        .await?;
    insta::assert_snapshot!("kubectl_explains_a_threshold", said);
    Ok(())
}
