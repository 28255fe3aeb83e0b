//! What is larger, or later, than anything that makes sense: never taken for nothing, and nothing else suffers.

use super::{SOON, Stage, monitor, ninety_days, text_secret};
use anyhow::{Context as _, Result, ensure};
use certmon_e2e::sinks::HttpSink;
use certmon_e2e::{Authority, egress_policy};
use serde_json::{Value, json};

fn told_by_hook() -> Value {
    let sink = json!({ "name": "team", "webhook": { "secretRef": { "name": "hook" } } });
    monitor(
        "shop",
        &json!({ "sources": [{ "name": "tls", "secrets": {} }], "sinks": [sink] }),
    )
}

/// The Secret of the sink anew; not by apply, which keeps a copy of it in an annotation that is too small.
async fn write_hook(stage: &Stage, values: &Value) -> Result<()> {
    stage
        .kubectl(&["delete", "secret", "hook", "--ignore-not-found"])
        .await?;
    let secret = text_secret("hook", "certmon.dev/webhook", values).to_string();
    let kubectl = stage.namespace.kubectl();
    let created = kubectl.output(["create", "-f", "-"], &secret).await?;
    ensure!(created.success, "{}", created.stderr);
    Ok(())
}

/// Taken for none, a `ca.crt` would fall back to the system's roots, and a `signingKey` to no signature.
#[tokio::test]
async fn a_sink_whose_secret_holds_a_value_that_is_too_large_sends_nothing_until_it_is_mended() -> Result<()> {
    let hook = HttpSink::webhook(vec![]).await?;
    let stage = Stage::set("too-large", |operator| {
        operator.egress_policy(egress_policy([hook.port()]))
    })
    .await?;
    let good = json!({ "url": hook.url("/hook"), "ca.crt": hook.ca_pem() });
    stage
        .apply(&[
            ninety_days(&Authority::new("Story CA")?, "old-tls", "old.example.com", -1)?,
            told_by_hook(),
        ])
        .await?;
    for (key, kib) in [("signingKey", 64), ("ca.crt", 256)] {
        let mut values = good.clone();
        values[key] = "x".repeat(kib * 1024 + 1).into();
        write_hook(&stage, &values).await?;
        let text = format!(
            "Secret {}/hook key `{key}` is larger than {kib} KiB",
            stage.namespace.name()
        );
        stage
            .until("shop", &text, |monitor| {
                monitor.says("Notified", "False", "SinkMisconfigured") && monitor.message("Notified").contains(&text)
            })
            .await?;
    }
    assert!(hook.received().is_empty(), "{:?}", hook.received());
    write_hook(&stage, &good).await?;
    hook.wait_for_messages(1, SOON).await?;
    Ok(())
}

#[tokio::test]
async fn a_ledger_with_absurd_instants_keeps_no_status_from_being_written() -> Result<()> {
    let hook = HttpSink::webhook(vec![]).await?;
    let mut stage = Stage::set("edited", |operator| {
        operator.egress_policy(egress_policy([hook.port()]))
    })
    .await?;
    let authority = Authority::new("Story CA")?;
    let values = json!({ "url": hook.url("/hook"), "ca.crt": hook.ca_pem() });
    stage
        .apply(&[
            text_secret("hook", "certmon.dev/webhook", &values),
            ninety_days(&authority, "old-tls", "old.example.com", -1)?,
            told_by_hook(),
        ])
        .await?;
    stage
        .until("shop", "Delivered", |monitor| {
            monitor.says("Notified", "True", "Delivered")
        })
        .await?;

    stage.operator.kill()?;
    let stored = stage.kubectl(&["get", "alertledger", "shop", "-o", "json"]).await?;
    let mut ledger: Value = serde_json::from_str(&stored)?;
    let state = &mut ledger["state"];
    let alerts = state["alerts"].as_object_mut().context("no alerts")?;
    for alert in alerts.values_mut() {
        alert["since"] = "+262142-12-31T23:59:59Z".into();
    }
    state["sinks"]["team"]["lastSent"] = "-262143-01-01T00:00:00Z".into();
    stage.kubectl(&["delete", "alertledger", "shop"]).await?;
    ledger["metadata"] = json!({
        "name": "shop",
        "ownerReferences": ledger["metadata"]["ownerReferences"],
    });
    stage.apply(&[ledger]).await?;
    stage.operator.restart()?;

    stage
        .apply(&[ninety_days(&authority, "new-tls", "new.example.com", 1)?])
        .await?;
    let monitor = stage
        .until("shop", "both certificates", |monitor| monitor.problems().len() == 2)
        .await?;
    assert!(
        monitor.has_problem(&["new.example.com", "ExpiryCritical"]),
        "{monitor:?}"
    );
    // Renewed, both are fine, and that is said.
    stage
        .apply(&[
            ninety_days(&authority, "old-tls", "old.example.com", 80)?,
            ninety_days(&authority, "new-tls", "new.example.com", 80)?,
        ])
        .await?;
    stage
        .until("shop", "AllValid", |monitor| {
            monitor.says("Healthy", "True", "AllValid")
        })
        .await?;
    Ok(())
}
