//! Two tenants who don't trust each other, one operator: what one asks for is not the other's to wait for.

use super::{SOON, Stage, monitor, ninety_days};
use anyhow::{Context as _, Result, ensure};
use certmon_e2e::{Authority, Cluster, DnsServer, wait_for};
use serde_json::{Value, json};
use std::time::Duration;

/// What the neighbour's own monitor may take, whatever the other does.
const AT_ONCE: Duration = Duration::from_secs(5);

/// Half of what the other asks for is refused at once, half is never answered.
const SILENT: &str = ".silent.example";
const ABSENT: &str = ".absent.example";

/// As much as the schema lets one monitor ask for, and as dear as that can be made.
fn greedy() -> Value {
    // Long, and almost what the patterns ask for.
    let long = format!("{}.{}", "a".repeat(60), "a".repeat(60));
    let endpoint = |source: usize, number: usize| {
        let suffix = if number.is_multiple_of(2) { SILENT } else { ABSENT };
        json!({ "host": format!("h{source}-{number}.{long}{suffix}") })
    };
    let source = |source: usize| {
        let endpoints: Vec<Value> = (0..64).map(|number| endpoint(source, number)).collect();
        json!({ "name": format!("source-{source}"), "endpoints": endpoints })
    };
    let silence = |silence: usize| {
        // As many stars as may be, and every run that they take fails at its end only.
        let pattern = |number: usize| format!("{}{number:02}", format!("*{}", "a".repeat(14)).repeat(8));
        let patterns: Vec<String> = (0..64).map(pattern).collect();
        json!({ "name": format!("silence-{silence}"), "certificates": patterns, "until": "2127-01-01T00:00:00Z" })
    };
    json!({
        "sources": (0..16).map(source).collect::<Vec<_>>(),
        "silences": (0..32).map(silence).collect::<Vec<_>>(),
        "probe": { "interval": "1m", "failureThreshold": 1 },
    })
}

#[tokio::test]
async fn a_greedy_monitor_takes_nothing_from_its_neighbour() -> Result<()> {
    let cluster = Cluster::shared().await?;
    cluster.crds().await?;
    let dns = DnsServer::start().await?;
    dns.silent_about(SILENT);
    let namespaces = vec![cluster.namespace("modest").await?, cluster.namespace("greedy").await?];
    let stage = Stage::of(
        cluster,
        namespaces,
        |_rules| {},
        |operator| operator.dns_server(dns.address().to_string()),
    )
    .await?;
    let greedy_namespace = stage.others.first().context("two namespaces")?;
    let greedy_tenant = stage.tenant(greedy_namespace);
    let modest = stage.tenant(&stage.namespace);
    greedy_tenant
        .create("certificatemonitors", &monitor("greedy", &greedy()))
        .await?;
    wait_for("the greedy monitor's names to be asked for", SOON, async || {
        let asked = dns.asked();
        let absent = asked.iter().filter(|name| name.ends_with(ABSENT)).count();
        ensure!(
            absent >= 20,
            "{absent} of {} questions\n{}",
            asked.len(),
            stage.operator.log()
        );
        Ok(())
    })
    .await?;

    let authority = Authority::new("Story CA")?;
    modest
        .apply(&[
            ninety_days(&authority, "shop-tls", "shop.example.com", -1)?,
            monitor("shop", &json!({ "sources": [{ "name": "tls", "secrets": {} }] })),
        ])
        .await?;
    modest
        .until("shop", "its first status", AT_ONCE, |monitor| {
            monitor.says("Healthy", "False", "Expired")
        })
        .await?;
    modest
        .apply(&[ninety_days(&authority, "shop-tls", "shop.example.com", 60)?])
        .await?;
    modest
        .until("shop", "that it was renewed", AT_ONCE, |monitor| {
            monitor.says("Healthy", "True", "AllValid")
        })
        .await?;

    // The greedy one isn't cheated either: what it may have looked at is looked at.
    greedy_tenant
        .until("greedy", "what it found", SOON, |monitor| {
            monitor.has_problem(&["Unreachable"])
                && monitor.has_problem(&["NoAddress"])
                && monitor.count("unchecked") > 0
        })
        .await?;
    let name = greedy_namespace.name();
    ensure!(stage.operator.metrics().await?.contains(name), "it has no series");
    stage.kubectl(&["delete", "namespace", name, "--wait=false"]).await?;
    wait_for("the greedy namespace to be forgotten", SOON, async || {
        let metrics = stage.operator.metrics().await?;
        let left = metrics.lines().filter(|line| line.contains(name)).count();
        ensure!(left == 0, "{left} series\n{}", stage.operator.log());
        Ok(())
    })
    .await
}
