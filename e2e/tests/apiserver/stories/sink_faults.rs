//! Sinks that can't work as they are written: said at once, even with nothing to send.

use super::{Monitor, SOON, Stage, monitor, ninety_days, text_secret};
use anyhow::Result;
use certmon_e2e::sinks::HttpSink;
use certmon_e2e::{Authority, egress_policy};
use serde_json::{Value, json};

/// Each sink is a monitor of its own, so that each is the one that `Notified` names.
fn told_by(name: &str, sink: &Value) -> Value {
    let mut sink = sink.clone();
    sink["name"] = "team".into();
    monitor(
        name,
        &json!({ "sources": [{ "name": "tls", "secrets": {} }], "sinks": [sink] }),
    )
}

fn slack(secret: &str) -> Value {
    json!({ "slack": { "secretRef": { "name": secret } } })
}

fn hook(secret: &str) -> Value {
    json!({ "webhook": { "secretRef": { "name": secret } } })
}

#[tokio::test]
async fn every_misconfiguration_is_said_at_once_with_the_next_step() -> Result<()> {
    let stage = Stage::set("faults", |operator| operator).await?;
    let url = "https://hooks.example.com/x";
    let mail = json!({ "email": { "to": ["oncall@example.com"], "secretRef": { "name": "plain-smtp" } } });
    let cases: Vec<(&str, Value, Option<Value>, &[&str])> = vec![
        (
            "missing",
            slack("nowhere"),
            None,
            &["nowhere", "create it with `type: certmon.dev/slack`"],
        ),
        (
            "wrong-type",
            slack("opaque"),
            Some(text_secret("opaque", "Opaque", &json!({ "url": url }))),
            &["opaque", "type certmon.dev/slack", "create it again"],
        ),
        (
            "missing-key",
            slack("keyless"),
            Some(text_secret("keyless", "certmon.dev/slack", &json!({ "webhook": url }))),
            &["keyless", "has no key", "keys: webhook"],
        ),
        (
            "both-keys",
            slack("both"),
            Some(text_secret(
                "both",
                "certmon.dev/slack",
                &json!({ "url": url, "token": "xoxb-1" }),
            )),
            &["both", "`url`", "`token`"],
        ),
        (
            "plain-http",
            hook("http"),
            Some(text_secret(
                "http",
                "certmon.dev/webhook",
                &json!({ "url": "http://hooks.example.com/x" }),
            )),
            &["http", "https"],
        ),
        (
            "forbidden",
            hook("inside"),
            Some(text_secret(
                "inside",
                "certmon.dev/webhook",
                &json!({ "url": "https://10.1.2.3/hook" }),
            )),
            &["egress policy doesn't permit", "ask an admin"],
        ),
        (
            "metadata",
            hook("meta"),
            Some(text_secret(
                "meta",
                "certmon.dev/webhook",
                &json!({ "url": "https://169.254.169.254/hook" }),
            )),
            &["egress policy doesn't permit", "ask an admin"],
        ),
        (
            "clear-password",
            mail,
            Some(text_secret(
                "plain-smtp",
                "certmon.dev/smtp",
                &json!({ "host": "mail.example.com", "tls": "None", "username": "u", "password": "p", "from": "a@example.com" }),
            )),
            &["plain-smtp", "username"],
        ),
    ];
    let mut objects: Vec<Value> = cases.iter().filter_map(|(_, _, secret, _)| secret.clone()).collect();
    objects.extend(cases.iter().map(|(name, sink, ..)| told_by(name, sink)));
    stage.apply(&objects).await?;
    for (name, _, _, parts) in &cases {
        let monitor = stage
            .until(name, "SinkMisconfigured", |monitor| {
                monitor.says("Notified", "False", "SinkMisconfigured") && monitor.sink("team")["result"] == "Failing"
            })
            .await?;
        let message = monitor.message("Notified");
        for part in *parts {
            assert!(message.contains(part), "{name}: {part:?} is not in {message:?}");
        }
        assert!(monitor.says("Ready", "True", "Monitoring"), "{name}: {monitor:?}");
        assert_eq!(monitor.sink("team")["pending"], Value::Null, "{name}: nothing waits");
    }
    let events = stage.events(&["SinkMisconfigured"]).await?;
    for (name, _, _, parts) in &cases {
        let told =
            |line: &&str| line.starts_with("SinkMisconfigured: ") && parts.iter().all(|part| line.contains(part));
        assert!(events.lines().any(|line| told(&line)), "{name}: no Event in\n{events}");
    }
    // Plain `get` shows it too.
    let get = stage.kubectl(&["get", "certmon"]).await?;
    let rows: Vec<Vec<&str>> = get.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(rows[0][3], "NOTIFIED", "{get}");
    assert!(rows[1..].iter().all(|row| row[3] == "False"), "{get}");
    Ok(())
}

#[tokio::test]
async fn what_waits_is_delivered_once_when_the_sink_is_mended() -> Result<()> {
    let receiver = HttpSink::slack().await?;
    let stage = Stage::set("mended", |operator| {
        operator.egress_policy(egress_policy([receiver.port()]))
    })
    .await?;
    stage
        .apply(&[
            ninety_days(&Authority::new("Story CA")?, "old-tls", "old.example.com", -1)?,
            told_by("shop", &slack("slack-hook")),
        ])
        .await?;
    let waits = |monitor: &Monitor| {
        monitor.says("Notified", "False", "SinkMisconfigured") && monitor.sink("team")["pending"] == 1
    };
    stage.until("shop", "that one change waits", waits).await?;
    let values = json!({ "url": receiver.url("/services/T0/B0/x"), "ca.crt": receiver.ca_pem() });
    stage
        .apply(&[text_secret("slack-hook", "certmon.dev/slack", &values)])
        .await?;
    receiver.wait_for_messages(1, SOON).await?;
    stage
        .until("shop", "Delivered", |monitor| {
            monitor.says("Notified", "True", "Delivered")
        })
        .await?;

    // Gone again, with nothing to send: said all the same, and nothing is sent twice when it is back.
    stage.kubectl(&["delete", "secret", "slack-hook"]).await?;
    stage
        .until("shop", "SinkMisconfigured again", |monitor| {
            monitor.says("Notified", "False", "SinkMisconfigured")
        })
        .await?;
    stage
        .apply(&[text_secret("slack-hook", "certmon.dev/slack", &values)])
        .await?;
    stage
        .until("shop", "Delivered", |monitor| {
            monitor.says("Notified", "True", "Delivered")
        })
        .await?;
    assert_eq!(receiver.received().len(), 1);
    Ok(())
}

/// An address that the policy forbids gets no packet, whoever listens there.
#[tokio::test]
async fn a_forbidden_receiver_sees_nobody_until_the_admin_allows_it() -> Result<()> {
    let receiver = HttpSink::slack().await?;
    let stage = Stage::set("closed", |operator| operator.egress_policy(egress_policy([1]))).await?;
    let values = json!({ "url": receiver.url("/services/T0/B0/x"), "ca.crt": receiver.ca_pem() });
    stage
        .apply(&[
            text_secret("slack-hook", "certmon.dev/slack", &values),
            ninety_days(&Authority::new("Story CA")?, "old-tls", "old.example.com", -1)?,
            told_by("shop", &slack("slack-hook")),
        ])
        .await?;
    let monitor = stage
        .until("shop", "SinkMisconfigured", |monitor| {
            monitor.says("Notified", "False", "SinkMisconfigured")
        })
        .await?;
    assert!(
        monitor.message("Notified").contains("egress policy doesn't permit"),
        "{monitor:?}"
    );
    assert!(receiver.received().is_empty());

    stage
        .operator
        .replace_egress_policy(&egress_policy([receiver.port()]))?;
    // It heals by itself: the sink is checked again by the policy that was taken over.
    receiver.wait_for_messages(1, SOON).await.map(drop)
}
