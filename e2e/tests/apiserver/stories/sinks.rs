//! Telling, end to end: messages as they arrive at real receivers.

use super::{Monitor, SOON, Stage, monitor, ninety_days, text_secret};
use anyhow::{Context as _, Result, ensure};
use certmon_e2e::sinks::{Answer, HttpSink, SigningKey, SmtpScript, SmtpSecurity, SmtpSink, Stage as SmtpStage};
use certmon_e2e::{Authority, egress_policy};
use serde_json::{Value, json};
use std::time::Duration;

pub(crate) const KEY: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

/// A resolve waits for the sink's last message to be a minute old.
const RESOLVED: Duration = Duration::from_secs(90);

fn slack_secret(name: &str, slack: &HttpSink) -> Value {
    let values = json!({ "url": slack.url("/services/T0/B0/x"), "ca.crt": slack.ca_pem() });
    text_secret(name, "certmon.dev/slack", &values)
}

pub(crate) fn webhook_secret(name: &str, hook: &HttpSink) -> Value {
    let values = json!({ "url": hook.url("/hook"), "signingKey": KEY, "ca.crt": hook.ca_pem() });
    text_secret(name, "certmon.dev/webhook", &values)
}

fn smtp_secret(name: &str, relay: &SmtpSink) -> Value {
    let values = json!({
        "host": "127.0.0.1",
        "port": relay.port().to_string(),
        "username": "certmon",
        "password": "correct horse",
        "from": "Certificates <certmon@example.com>",
        "ca.crt": relay.ca_pem(),
    });
    text_secret(name, "certmon.dev/smtp", &values)
}

fn slack_sink(name: &str, secret: &str) -> Value {
    json!({ "name": name, "slack": { "secretRef": { "name": secret } } })
}

fn email_sink(name: &str, secret: &str) -> Value {
    json!({ "name": name, "email": { "to": ["oncall@example.com", "team@example.com"], "secretRef": { "name": secret } } })
}

pub(crate) fn webhook_sink(name: &str, secret: &str) -> Value {
    json!({ "name": name, "webhook": { "secretRef": { "name": secret } } })
}

fn telling(sinks: &[Value]) -> Value {
    monitor(
        "shop",
        &json!({ "sources": [{ "name": "tls", "secrets": {} }], "sinks": sinks }),
    )
}

fn is_delivered(monitor: &Monitor, sinks: &[&str]) -> bool {
    sinks.iter().all(|sink| monitor.sink(sink)["result"] == "Delivered")
}

fn relay_credentials() -> SmtpScript {
    SmtpScript {
        credentials: Some(("certmon".to_owned(), "correct horse".to_owned())),
        ..SmtpScript::default()
    }
}

/// The status and id of each alert of a Native body.
pub(crate) fn alerts(body: &Value) -> Vec<(&str, &str)> {
    let alerts = body["alerts"].as_array();
    alerts
        .into_iter()
        .flatten()
        .map(|alert| {
            (
                alert["status"].as_str().unwrap_or(""),
                alert["id"].as_str().unwrap_or(""),
            )
        })
        .collect()
}

#[tokio::test]
async fn slack_mail_and_webhook_are_told_of_a_finding_and_of_its_end() -> Result<()> {
    let slack = HttpSink::slack().await?;
    let relay = SmtpSink::start(SmtpSecurity::StartTls).await?;
    relay.script(relay_credentials());
    let hook = HttpSink::webhook(vec![SigningKey::parse(KEY)?]).await?;
    let ports = [slack.port(), relay.port(), hook.port()];
    let stage = Stage::set("told", |operator| {
        operator
            .egress_policy(egress_policy(ports))
            .arg("--cluster-name", "story")
    })
    .await?;
    let authority = Authority::new("Story CA")?;
    stage
        .apply(&[
            slack_secret("slack-hook", &slack),
            smtp_secret("smtp", &relay),
            webhook_secret("cmdb-hook", &hook),
            ninety_days(&authority, "checkout-tls", "checkout.example.com", 3)?,
            telling(&[
                slack_sink("team", "slack-hook"),
                email_sink("oncall", "smtp"),
                webhook_sink("cmdb", "cmdb-hook"),
            ]),
        ])
        .await?;
    let told = slack.wait_for_messages(1, SOON).await?;
    let text = String::from_utf8_lossy(&told[0].body).into_owned();
    assert!(
        text.contains("checkout.example.com") && text.contains("ExpiryCritical"),
        "{text}"
    );
    let mail = relay.wait_for_mails(1, SOON).await?.remove(0);
    assert!(mail.over_tls, "{mail:?}");
    assert_eq!(mail.user.as_deref(), Some("certmon"));
    assert_eq!(mail.to, ["oncall@example.com", "team@example.com"]);
    assert!(mail.data.contains("checkout.example.com"), "{}", mail.data);
    let first = hook.wait_for_messages(1, SOON).await?.remove(0);
    assert_eq!(first.signature_fault, None);
    let body = first.json()?;
    assert_eq!(body["cluster"], "story");
    assert_eq!(body["namespace"], stage.namespace.name());
    let firing = alerts(&body);
    ensure!(firing.len() == 1 && firing[0].0 == "firing", "{body:#}");
    let sinks = ["team", "oncall", "cmdb"];
    let monitor = stage
        .until("shop", "that all are told", |monitor| is_delivered(monitor, &sinks))
        .await?;
    assert!(monitor.says("Notified", "True", "Delivered"), "{monitor:?}");
    stage.events(&["NotificationSent", "ExpiryCritical"]).await?;

    stage
        .apply(&[ninety_days(&authority, "checkout-tls", "checkout.example.com", 90)?])
        .await?;
    let last = hook.wait_for_messages(2, RESOLVED).await?.remove(1);
    assert_eq!(last.signature_fault, None);
    let resolved = last.json()?;
    assert_eq!(alerts(&resolved), [("resolved", firing[0].1)], "{resolved:#}");
    let text = String::from_utf8_lossy(&slack.wait_for_messages(2, RESOLVED).await?[1].body).to_lowercase();
    assert!(text.contains("resolved"), "{text}");
    relay.wait_for_mails(2, RESOLVED).await?;
    stage
        .until("shop", "that all are told again", |monitor| {
            monitor.says("Healthy", "True", "AllValid") && is_delivered(monitor, &sinks)
        })
        .await?;
    assert_eq!(
        (slack.received().len(), hook.received().len(), relay.mails().len()),
        (2, 2, 2)
    );
    Ok(())
}

#[tokio::test]
async fn a_test_that_is_asked_for_reaches_every_sink_and_is_echoed() -> Result<()> {
    let slack = HttpSink::slack().await?;
    let hook = HttpSink::webhook(vec![SigningKey::parse(KEY)?]).await?;
    let stage = Stage::set("test", |operator| {
        operator.egress_policy(egress_policy([slack.port(), hook.port()]))
    })
    .await?;
    stage
        .apply(&[
            slack_secret("slack-hook", &slack),
            webhook_secret("cmdb-hook", &hook),
            telling(&[slack_sink("team", "slack-hook"), webhook_sink("cmdb", "cmdb-hook")]),
        ])
        .await?;
    stage
        .until("shop", "that there is nothing to tell", |monitor| {
            monitor.says("Notified", "True", "NothingToSend")
        })
        .await?;
    stage.annotate("shop", "certmon.dev/test-requested-at=first").await?;
    let body = hook.wait_for_messages(1, SOON).await?[0].json()?;
    assert_eq!(body["reason"], "test", "{body:#}");
    let text = String::from_utf8_lossy(&slack.wait_for_messages(1, SOON).await?[0].body).to_lowercase();
    assert!(text.contains("test"), "{text}");
    let echoed = |token: &'static str| move |monitor: &Monitor| monitor.0["status"]["lastHandledTestRequest"] == token;
    stage.until("shop", "the test's echo", echoed("first")).await?;
    stage.events(&["TestNotificationSent"]).await?;

    // One that fails is said to have failed, tried once, and echoed all the same. (Of another monitor: each sends one a minute.)
    hook.answer_always(Answer::status(500));
    let mut other = telling(&[webhook_sink("cmdb", "cmdb-hook")]);
    other["metadata"] = json!({ "name": "other", "annotations": { "certmon.dev/test-requested-at": "second" } });
    stage.apply(&[other]).await?;
    stage.until("other", "the second test's echo", echoed("second")).await?;
    stage.events(&["TestNotificationFailed"]).await?;
    assert_eq!(hook.received().len(), 2);
    Ok(())
}

#[tokio::test]
async fn rejected_credentials_are_told_and_a_new_secret_is_tried_at_once() -> Result<()> {
    let relay = SmtpSink::start(SmtpSecurity::StartTls).await?;
    relay.script(SmtpScript {
        credentials: Some(("certmon".to_owned(), "another".to_owned())),
        ..SmtpScript::default()
    });
    let slack = HttpSink::slack().await?;
    slack.answer_always(Answer::status(403).body("invalid_token"));
    let stage = Stage::set("rejected", |operator| {
        operator.egress_policy(egress_policy([slack.port(), relay.port()]))
    })
    .await?;
    stage
        .apply(&[
            smtp_secret("smtp", &relay),
            slack_secret("slack-hook", &slack),
            ninety_days(&Authority::new("Story CA")?, "old-tls", "old.example.com", -1)?,
            telling(&[email_sink("oncall", "smtp"), slack_sink("team", "slack-hook")]),
        ])
        .await?;
    let failing = |monitor: &Monitor| {
        monitor.says("Notified", "False", "CredentialsRejected")
            && ["oncall", "team"]
                .iter()
                .all(|sink| monitor.sink(sink)["result"] == "Failing")
    };
    stage.until("shop", "CredentialsRejected", failing).await?;
    stage.events(&["CredentialsRejected"]).await?;
    assert_eq!(relay.mails().len(), 0);

    relay.script(relay_credentials());
    slack.answer_always(Answer::accept());
    let mut renewed = smtp_secret("smtp", &relay);
    renewed["stringData"]["note"] = "renewed".into();
    let mut hook = slack_secret("slack-hook", &slack);
    hook["stringData"]["url"] = slack.url("/services/T0/B0/renewed").into();
    stage.apply(&[renewed, hook]).await?;
    let mail = relay.wait_for_mails(1, SOON).await?.remove(0);
    assert!(mail.data.contains("old.example.com"), "{}", mail.data);
    stage
        .until("shop", "that both are told", |monitor| {
            is_delivered(monitor, &["oncall", "team"])
        })
        .await?;
    stage.events(&["NotificationRecovered"]).await?;
    assert_eq!((relay.mails().len(), slack.received().len()), (1, 2));
    assert!(slack.received()[1].path.ends_with("/renewed"));
    Ok(())
}

#[tokio::test]
async fn a_receiver_that_asks_for_a_pause_gets_it() -> Result<()> {
    let hook = HttpSink::webhook(vec![SigningKey::parse(KEY)?]).await?;
    hook.answer_next(Answer::status(429).header("retry-after", "12"));
    let stage = Stage::set("limited", |operator| {
        operator.egress_policy(egress_policy([hook.port()]))
    })
    .await?;
    stage
        .apply(&[
            webhook_secret("cmdb-hook", &hook),
            ninety_days(&Authority::new("Story CA")?, "old-tls", "old.example.com", -1)?,
            telling(&[webhook_sink("cmdb", "cmdb-hook")]),
        ])
        .await?;
    stage
        .until("shop", "RateLimited", |monitor| {
            monitor.says("Notified", "False", "RateLimited")
        })
        .await?;
    let received = hook.wait_for_messages(2, SOON).await?;
    let pause = (received[1].at - received[0].at).to_std().context("in order")?;
    assert!(pause >= Duration::from_secs(12), "{pause:?}");
    let told: Vec<_> = received
        .iter()
        .map(certmon_e2e::sinks::Received::json)
        .collect::<Result<_>>()?;
    assert_eq!(told[0]["alerts"], told[1]["alerts"], "the same truth");
    stage
        .until("shop", "Delivered", |monitor| {
            monitor.says("Notified", "True", "Delivered")
        })
        .await?;
    let metrics = stage.operator.metrics().await?;
    for result in ["RateLimited", "delivered"] {
        let counted = format!("certmon_notifications_total{{sink_type=\"webhook\",result=\"{result}\"}} 1");
        assert!(metrics.contains(&counted), "{counted} in {metrics}");
    }
    let namespace = stage.namespace.name();
    let last = format!(
        "certmon_notification_last_success_timestamp_seconds{{namespace=\"{namespace}\",monitor=\"shop\",sink=\"cmdb\"}}"
    );
    assert!(metrics.contains(&last), "{last} in {metrics}");
    Ok(())
}

#[tokio::test]
async fn a_recipient_that_is_refused_does_not_stop_the_others() -> Result<()> {
    let relay = SmtpSink::start(SmtpSecurity::StartTls).await?;
    relay.script(SmtpScript {
        refused_recipients: vec![("team@example.com".to_owned(), "550 5.1.1 no such user".to_owned())],
        delays: vec![(SmtpStage::Final, Duration::from_millis(50))],
        ..relay_credentials()
    });
    let stage = Stage::set("recipient", |operator| {
        operator.egress_policy(egress_policy([relay.port()]))
    })
    .await?;
    stage
        .apply(&[
            smtp_secret("smtp", &relay),
            ninety_days(&Authority::new("Story CA")?, "old-tls", "old.example.com", -1)?,
            telling(&[email_sink("oncall", "smtp")]),
        ])
        .await?;
    let mail = relay.wait_for_mails(1, SOON).await?.remove(0);
    assert_eq!(mail.to, ["oncall@example.com"]);
    stage.events(&["RecipientRejected", "NotificationSent"]).await?;
    Ok(())
}
