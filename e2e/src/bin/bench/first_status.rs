//! From the request that makes a monitor to its first status, among hundreds of others.

use std::time::{Duration, Instant};

use anyhow::Result;
use certmon_e2e::{Authority, Leaf, tls::TlsServer};
use serde_json::{Value, json};

use crate::measure::{millis, percentile};
use crate::report::{Report, Table};
use crate::stage::{Stage, is_ready};

const NAMESPACES: usize = 10;
const PRESENT: usize = 500;
const SAMPLES: usize = 100;

fn namespace(number: usize) -> String {
    format!("team-{:02}", number % NAMESPACES)
}

pub(crate) async fn measure(report: &mut Report) -> Result<()> {
    report.note(&format!("status: {PRESENT} monitors, then {SAMPLES} more of each kind"));
    let stage = Stage::set(&[]).await?;
    stage.namespaces((0..NAMESPACES).map(namespace)).await?;
    let authority = Authority::new("Bench CA")?;
    let secrets = (0..NAMESPACES * 10).map(|number| {
        let mut secret = authority
            .issue(&Leaf::for_names(["shop.example.com"]))?
            .secret(&format!("shop-{number}"));
        secret.metadata.namespace = Some(namespace(number));
        Ok(secret)
    });
    stage.secrets(secrets).await?;
    let server = TlsServer::start(&authority.issue(&Leaf::for_names(["127.0.0.1"]))?).await?;
    let stored = json!({ "sources": [{ "name": "tls", "secrets": {} }] });
    let dialled = json!({
        "sources": [{ "name": "shop", "endpoints": [{ "host": "127.0.0.1", "port": server.port() }] }],
    });
    for number in 0..PRESENT {
        let spec = if number % 2 == 0 { &stored } else { &dialled };
        stage
            .monitor(&namespace(number), &format!("present-{number}"), spec)
            .await?;
    }
    let operator = stage.operator([server.port()])?;
    operator.ready().await?;
    let mut ready = std::collections::HashSet::new();
    stage
        .watch_monitors(|monitor| {
            if is_ready(monitor) {
                ready.insert(monitor.metadata.name.clone());
            }
            ready.len() == PRESENT
        })
        .await?;
    let of_secrets = samples(&stage, "stored", &stored).await?;
    let of_endpoints = samples(&stage, "dialled", &dialled).await?;
    let mut table = Table::new(format!(
        "Apply → first status, {PRESENT} monitors present, {SAMPLES} samples"
    ));
    table.at_most("ten Secrets: p50", millis(percentile(&of_secrets, 0.5)), 100.0, "ms");
    table.at_most("ten Secrets: p99", millis(percentile(&of_secrets, 0.99)), 1000.0, "ms");
    table.at_most(
        "one endpoint, with its first probe: p50",
        millis(percentile(&of_endpoints, 0.5)),
        100.0,
        "ms",
    );
    table.at_most(
        "one endpoint, with its first probe: p99",
        millis(percentile(&of_endpoints, 0.99)),
        1000.0,
        "ms",
    );
    report.add(&table)
}

/// One after another, as people do.
async fn samples(stage: &Stage, kind: &str, spec: &Value) -> Result<Vec<Duration>> {
    let mut samples = Vec::new();
    for number in 0..SAMPLES {
        let (namespace, name) = (namespace(number), format!("{kind}-{number}"));
        let begun = Instant::now();
        stage.monitor(&namespace, &name, spec).await?;
        let mut first = None;
        stage
            .watch_monitor(&namespace, &name, |monitor| {
                let has = monitor.status.as_ref().is_some_and(|status| {
                    status
                        .conditions
                        .iter()
                        .any(|condition| condition.type_ == "Healthy" && condition.status != "Unknown")
                });
                if has {
                    first.get_or_insert_with(|| begun.elapsed());
                }
                has
            })
            .await?;
        samples.extend(first);
    }
    Ok(samples)
}
