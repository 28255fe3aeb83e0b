//! Canaries: a word in every place that somebody else writes, and then a look at everything that certmon says.

use super::{SOON, Stage, monitor, ninety_days, of_ninety_days, text_secret, tls_secret};
use anyhow::{Context as _, Result};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use certmon_e2e::sinks::{Answer, HttpSink, SmtpScript, SmtpSecurity, SmtpSink, Stage as SmtpStage, quoted_printable};
use certmon_e2e::tls::{BadServer, Misbehaviour};
use certmon_e2e::{Authority, Leaf, egress_policy};
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// Every canary begins so, and none of this is found where it doesn't belong.
const CANARY: &str = "CANARY-7f3a";

#[tokio::test]
async fn nothing_that_is_secret_or_a_peers_is_in_anything_that_is_said() -> Result<()> {
    let canary = |what: &str| format!("{CANARY}-{what}");
    let slack = HttpSink::slack().await?;
    slack.answer_always(
        Answer::status(500)
            .header("x-peer", canary("slack-header"))
            .body(canary("slack-body")),
    );
    let hook = HttpSink::webhook(vec![]).await?;
    hook.answer_always(Answer::status(302).header("location", format!("https://{}.example.com/", canary("location"))));
    let relay = SmtpSink::start(SmtpSecurity::StartTls).await?;
    relay.script(SmtpScript {
        credentials: Some(("somebody".to_owned(), "else".to_owned())),
        replies: vec![
            (SmtpStage::Greeting, format!("220 {}", canary("banner"))),
            (SmtpStage::Auth, format!("535 5.7.8 {}", canary("auth-reply"))),
        ],
        ..SmtpScript::default()
    });
    let server = BadServer::start(Misbehaviour::Says(canary("server-banner").into_bytes())).await?;
    let ports = [slack.port(), hook.port(), relay.port(), server.port()];
    let stage = Stage::set("canary", |operator| {
        operator.egress_policy(egress_policy(ports)).arg("--log-level", "trace")
    })
    .await?;

    let signing = format!("whsec_{}", STANDARD.encode(canary("signing-key-of-32-bytes")));
    let mut tls = ninety_days(&Authority::new("Story CA")?, "old-tls", "old.example.com", -1)?;
    tls["data"]["unasked"] = STANDARD.encode(canary("unasked-value")).into();
    let mixed = Leaf::for_names(["mixed.example.com"])
        .valid(of_ninety_days(60))
        .self_signed()?;
    let key = mixed.key_pem();
    let mixed = tls_secret(&mixed.secret("mixed-tls"));
    let opaque = text_secret("opaque", "Opaque", &json!({ "tls.crt": canary("no-certificate") }));
    let spec = json!({
        "sources": [
            { "name": "tls", "secrets": { "types": ["kubernetes.io/tls", "Opaque"] } },
            { "name": "public", "endpoints": [{ "host": "127.0.0.1", "port": server.port() }] },
        ],
        "checks": { "keyMatch": "Critical" },
        "probe": { "failureThreshold": 1 },
        "sinks": [
            { "name": "team", "slack": { "secretRef": { "name": "slack-hook" } } },
            { "name": "cmdb", "webhook": { "secretRef": { "name": "hook" } } },
            { "name": "oncall", "email": { "to": ["oncall@example.com"], "secretRef": { "name": "smtp" } } },
            { "name": "wrong", "slack": { "secretRef": { "name": "opaque" } } },
        ],
    });
    stage
        .apply(&[
            text_secret(
                "slack-hook",
                "certmon.dev/slack",
                &json!({ "url": slack.url(&format!("/services/{}", canary("url-path"))), "ca.crt": slack.ca_pem(),
                    "unknown": canary("unknown-key") }),
            ),
            text_secret(
                "hook",
                "certmon.dev/webhook",
                &json!({ "url": hook.url(&format!("/{}?token={}", canary("hook-path"), canary("query"))), "signingKey": signing,
                    "authorization": format!("Bearer {}", canary("bearer")), "ca.crt": hook.ca_pem() }),
            ),
            text_secret(
                "smtp",
                "certmon.dev/smtp",
                &json!({ "host": "127.0.0.1", "port": relay.port().to_string(), "username": canary("user"),
                    "password": canary("password"), "from": "certmon@example.com", "ca.crt": relay.ca_pem() }),
            ),
            tls,
            mixed,
            opaque,
            monitor("shop", &spec),
        ])
        .await?;
    stage
        .until("shop", "that every sink fails, each in its way", |monitor| {
            ["team", "cmdb", "oncall", "wrong"]
                .iter()
                .all(|sink| monitor.sink(sink)["result"] == "Failing")
                && monitor.has_problem(&["Unreachable"])
                && monitor.has_problem(&["Secret/opaque", "BadCertificateData"])
        })
        .await?;
    stage.annotate("shop", "certmon.dev/test-requested-at=1").await?;
    stage
        .until("shop", "the test's echo", |monitor| {
            monitor.0["status"]["lastHandledTestRequest"] == "1"
        })
        .await?;

    // Positive controls: the canaries were sent where they belong, and they came from the peers.
    let posted = slack.wait_for_messages(1, SOON).await?;
    assert!(posted[0].path.contains(CANARY), "{posted:?}");
    let hooked = hook.wait_for_messages(1, SOON).await?;
    assert!(hooked[0].path.contains(CANARY), "{hooked:?}");
    assert!(hooked[0].headers["authorization"].contains(CANARY), "{hooked:?}");

    let monitor = stage.monitor("shop").await?;
    let mut said: BTreeMap<&str, String> = BTreeMap::new();
    said.insert("status", serde_json::to_string(&monitor.0["status"])?);
    said.insert("Events", stage.kubectl(&["get", "events", "-o", "json"]).await?);
    said.insert("ledger", stage.kubectl(&["get", "alertledgers", "-o", "json"]).await?);
    said.insert("metrics", stage.operator.metrics().await?);
    said.insert("log", stage.operator.log());
    let bodies = posted
        .iter()
        .chain(&hooked)
        .map(|message| String::from_utf8_lossy(&message.body).into_owned());
    said.insert("messages", bodies.collect());
    // The key as it would look in base64, PEM and JSON: its first line of data.
    let key = key.lines().nth(1).context("a key has data")?.to_owned();
    let encoded = STANDARD.encode(CANARY);
    // Without the last characters, which depend on what follows.
    let needles = [CANARY, &encoded[..encoded.len() - 4], &key, &signing];
    for (what, text) in &said {
        assert!(text.len() > 100, "{what} is empty");
        for needle in needles {
            let at = text.find(needle);
            let around = at.map(|at| text[at.saturating_sub(200)..].chars().take(400).collect::<String>());
            assert!(at.is_none(), "{needle} in {what}: {}", around.unwrap_or_default());
        }
    }
    let _: Value = serde_json::from_str(&said["ledger"])?;
    Ok(())
}

/// The bodies of mail: a canary in everything that is the relay's, none in what it is sent but where it belongs.
#[tokio::test]
async fn a_mail_says_nothing_of_how_it_was_sent() -> Result<()> {
    let canary = |what: &str| format!("{CANARY}-{what}");
    let relay = SmtpSink::start(SmtpSecurity::StartTls).await?;
    relay.script(SmtpScript {
        credentials: Some((canary("user"), canary("password"))),
        replies: vec![
            (SmtpStage::Greeting, format!("220 {}", canary("banner"))),
            (SmtpStage::Auth, format!("235 2.7.0 {}", canary("auth-reply"))),
            (
                SmtpStage::Final,
                format!("250 2.0.0 queued as {}", canary("final-reply")),
            ),
        ],
        ..SmtpScript::default()
    });
    let stage = Stage::set("canary-mail", |operator| {
        operator
            .egress_policy(egress_policy([relay.port()]))
            .arg("--log-level", "trace")
    })
    .await?;
    let values = json!({ "host": "127.0.0.1", "port": relay.port().to_string(), "username": canary("user"),
        "password": canary("password"), "from": "Certificates <certmon@example.com>", "ca.crt": relay.ca_pem(),
        "unknown": canary("unknown-key") });
    let mut secret = text_secret("smtp", "certmon.dev/smtp", &values);
    secret["metadata"]["annotations"] = json!({ "note": canary("annotation") });
    let spec = json!({
        "sources": [{ "name": "tls", "secrets": {} }],
        "sinks": [{ "name": "oncall", "email": { "to": ["oncall@example.com"], "secretRef": { "name": "smtp" } } }],
    });
    let mut tls = ninety_days(&Authority::new("Story CA")?, "old-tls", "old.example.com", -1)?;
    tls["data"]["unasked"] = STANDARD.encode(canary("unasked-value")).into();
    let key = tls["data"]["tls.key"].as_str().context("a TLS Secret has a key")?;
    let key = String::from_utf8(STANDARD.decode(key)?)?;
    let key = key.lines().nth(1).context("a key has data")?.to_owned();
    stage.apply(&[secret, tls, monitor("shop", &spec)]).await?;
    let mail = relay.wait_for_mails(1, SOON).await?.remove(0);
    let monitor = stage
        .until("shop", "Delivered", |monitor| {
            monitor.says("Notified", "True", "Delivered")
        })
        .await?;
    // The positive control: the relay let nobody in who didn't know the canaries.
    assert_eq!(mail.user, Some(canary("user")));
    let decoded = quoted_printable(&mail.data);
    assert!(
        decoded.contains("old.example.com") && decoded.contains("Expired"),
        "{decoded}"
    );
    assert!(!decoded.contains("base64"), "a part that was not decoded: {decoded}");
    let said = [
        ("mail", mail.data),
        ("decoded mail", decoded),
        ("status", serde_json::to_string(&monitor.0["status"])?),
        ("Events", stage.kubectl(&["get", "events", "-o", "json"]).await?),
        ("ledger", stage.kubectl(&["get", "alertledgers", "-o", "json"]).await?),
        ("metrics", stage.operator.metrics().await?),
        ("log", stage.operator.log()),
    ];
    let encoded = STANDARD.encode(CANARY);
    for (what, text) in said {
        for needle in [CANARY, &encoded[..encoded.len() - 4], &key] {
            assert!(!text.contains(needle), "{needle} in {what}: {text}");
        }
    }
    Ok(())
}
