//! From the instant at which a certificate crosses a threshold to the message about it.

use std::time::Duration;

use anyhow::{Context as _, Result};
use certmon_e2e::{Authority, Leaf, sinks::HttpSink};
use chrono::{TimeDelta, Utc};
use serde_json::json;

use crate::measure::{list, millis, percentile};
use crate::report::{Report, Table};
use crate::stage::{Stage, is_ready};

const SAMPLES: usize = 10;
/// The first crossing is so far away; the others follow each three seconds later.
const FIRST: Duration = Duration::from_secs(15);
const EVERY: Duration = Duration::from_secs(3);
const THRESHOLD: Duration = Duration::from_secs(3600);
const NAMESPACE: &str = "crossing";

pub(crate) async fn measure(report: &mut Report) -> Result<()> {
    report.note(&format!("threshold: {SAMPLES} crossings"));
    let stage = Stage::set(&[]).await?;
    stage.namespaces([NAMESPACE.to_owned()]).await?;
    let authority = Authority::new("Bench CA")?;
    let mut hooks = Vec::new();
    for _ in 0..SAMPLES {
        hooks.push(HttpSink::webhook(Vec::new()).await?);
    }
    let operator = stage.operator(hooks.iter().map(HttpSink::port))?;
    operator.ready().await?;
    let mut crossings = Vec::new();
    for (number, hook) in (0u32..).zip(&hooks) {
        let leaf = Leaf::for_names(["shop.example.com"]).expires_in(THRESHOLD + FIRST + EVERY * number);
        let identity = authority.issue(&leaf)?;
        crossings.push(identity.validity().not_after - TimeDelta::from_std(THRESHOLD)?);
        let mut secret = identity.secret(&format!("shop-{number}"));
        secret.metadata.namespace = Some(NAMESPACE.to_owned());
        let destination = serde_json::from_value(json!({
            "metadata": { "name": format!("hook-{number}"), "namespace": NAMESPACE },
            "type": "certmon.dev/webhook",
            "stringData": { "url": hook.url("/"), "ca.crt": hook.ca_pem() },
        }))?;
        stage.secrets([Ok(secret), Ok(destination)]).await?;
        let spec = json!({
            "sources": [{ "name": "tls", "secrets": { "names": [format!("shop-{number}")] } }],
            "thresholds": { "warning": { "remaining": "1h" }, "critical": { "remaining": "30m" } },
            "sinks": [{ "name": "hook", "webhook": { "secretRef": { "name": format!("hook-{number}") } } }],
        });
        stage.monitor(NAMESPACE, &format!("shop-{number}"), &spec).await?;
    }
    let mut ready = std::collections::HashSet::new();
    stage
        .watch_monitors(|monitor| {
            if is_ready(monitor) {
                ready.insert(monitor.metadata.name.clone());
            }
            ready.len() == SAMPLES
        })
        .await?;
    let known = Utc::now();
    let mut late = Vec::new();
    for (hook, crossing) in hooks.iter().zip(crossings) {
        let patience = (crossing - Utc::now()).to_std().unwrap_or_default() + Duration::from_secs(30);
        let first = hook.wait_for_messages(1, patience).await?.remove(0);
        // What crossed before its monitor was ready tells nothing.
        if crossing > known {
            late.push(
                (first.at - crossing)
                    .to_std()
                    .context("a message before its crossing")?,
            );
        }
    }
    let mut table = Table::new(format!("Threshold crossed → message arrived, {} samples", late.len()));
    table.fact("each", list(&late));
    table.at_most("the latest", millis(percentile(&late, 1.0)), 1000.0, "ms");
    report.add(&table)
}
