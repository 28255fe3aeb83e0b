//! Bad days of the API server and of the way to it, by a proxy before the real one: whatever fails, nothing is lost, nothing
//! is told twice, and what a Secret holds is in no log.

mod away;
mod cut_short;
mod watches;

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, ensure};
use certmon_e2e::proxy::{Matching, Proxy, Step, Verdict};
use certmon_e2e::sinks::{HttpSink, Received, SigningKey};
use certmon_e2e::{Authority, Cluster, Leaf, OperatorBuilder, egress_policy, wait_for};
use chrono::{TimeDelta, Utc};
use serde_json::{Value, json};

use crate::stories::sinks::{KEY, alerts, webhook_secret, webhook_sink};
use crate::stories::{SOON, Stage, monitor, ninety_days, tls_secret};

/// The pause between two messages to one sink, and what comes on top.
const NEXT_MESSAGE: Duration = Duration::from_secs(120);

/// An operator behind a proxy of its own.
async fn behind(hint: &str, with: impl FnOnce(OperatorBuilder) -> OperatorBuilder) -> Result<(Proxy, Stage)> {
    let proxy = Proxy::start(Cluster::shared().await?.access()).await?;
    let stage = Stage::set(hint, |operator| {
        let through = proxy.kubeconfig(operator.kubeconfig()).expect("the harness wrote it");
        with(operator.with_kubeconfig(&through))
    })
    .await?;
    Ok((proxy, stage))
}

/// A receiver that knows the story's signing key.
async fn receiver() -> Result<HttpSink> {
    HttpSink::webhook(vec![SigningKey::parse(KEY)?]).await
}

/// A monitor of all TLS Secrets that tells the webhook of Secret `hook`.
fn telling(name: &str, sources: &Value) -> Value {
    monitor(
        name,
        &json!({ "sources": sources, "sinks": [webhook_sink("team", "hook")] }),
    )
}

fn every_secret() -> Value {
    json!([{ "name": "tls", "secrets": {} }])
}

fn ids(messages: &[Received]) -> BTreeSet<&str> {
    let ids = messages.iter().filter_map(|message| message.headers.get("webhook-id"));
    ids.map(String::as_str).collect()
}

fn writes() -> [Matching; 3] {
    [
        Matching::new(&["create"], "alertledgers"),
        Matching::new(&["update"], "alertledgers"),
        Matching::new(&["patch"], "certificatemonitors/status"),
    ]
}

fn reads() -> [Matching; 2] {
    [
        Matching::new(&["get"], "alertledgers"),
        Matching::new(&["get"], "secrets"),
    ]
}

/// One alert opens while the proxy does this; it must be told once, and status must come to say so.
async fn told_once_while(hint: &str, faults: impl FnOnce(&Proxy)) -> Result<Proxy> {
    let hook = receiver().await?;
    let (proxy, stage) = behind(hint, |operator| operator.egress_policy(egress_policy([hook.port()]))).await?;
    faults(&proxy);
    let story = async {
        stage
            .apply(&[
                webhook_secret("hook", &hook),
                ninety_days(&Authority::new("Fault CA")?, "shop-tls", "shop.example.com", 3)?,
                telling("shop", &every_secret()),
            ])
            .await?;
        hook.wait_for_messages(1, NEXT_MESSAGE).await?;
        stage
            .until("shop", "what is true, and that it is told", |monitor| {
                monitor.says("Healthy", "False", "ExpiryCritical") && monitor.says("Notified", "True", "Delivered")
            })
            .await?;
        ensure!(hook.received().len() == 1, "{:?}", hook.received());
        Ok(())
    };
    story.await.with_context(|| format!("{hint}: {proxy:#?}"))?;
    Ok(proxy)
}

/// Writes and reads fail twice each so.
fn twice(proxy: &Proxy, matching: &[Matching], verdict: &Verdict) {
    for matching in matching {
        proxy.fault(matching.clone(), 2, verdict.clone());
    }
}

#[tokio::test]
async fn conflicts_errors_lost_and_late_answers_on_ledger_and_status_are_told_once() -> Result<()> {
    let conflict = told_once_while("fault-409", |proxy| twice(proxy, &writes(), &Verdict::Status(409)));
    let broken = |hint: &'static str, code: u16| {
        told_once_while(hint, move |proxy| {
            twice(proxy, &writes(), &Verdict::Status(code));
            twice(proxy, &reads(), &Verdict::Status(code));
        })
    };
    let hung_up = told_once_while("fault-hangup", |proxy| {
        twice(proxy, &writes(), &Verdict::HangUp);
        twice(proxy, &reads(), &Verdict::HangUp);
    });
    // Done, but the operator never hears of it.
    let unheard = told_once_while("fault-unheard", |proxy| {
        let mut left = [1, 2, 2];
        proxy.rule(move |request, step| {
            let which = writes().iter().position(|matching| matching.is(request))?;
            if !matches!(step, Step::Answer(200 | 201)) || left[which] == 0 {
                return None;
            }
            left[which] -= 1;
            Some(Verdict::HangUp)
        });
    });
    // Slower than anybody's patience with a server that works, and faster than the operator's.
    let slow = told_once_while("fault-slow", |proxy| {
        proxy.rule(|_request, step| (step == Step::Request).then_some(Verdict::Delay(Duration::from_secs(3))));
    });
    tokio::try_join!(
        conflict,
        broken("fault-500", 500),
        broken("fault-503", 503),
        hung_up,
        unheard,
        slow
    )?;
    Ok(())
}

#[tokio::test]
async fn too_many_requests_is_tried_again_when_the_server_allows_and_told_once() -> Result<()> {
    let proxy = told_once_while("fault-429", |proxy| {
        for matching in writes() {
            proxy.fault(matching, 1, Verdict::TooManyRequests(3));
        }
    })
    .await?;
    for matching in writes() {
        let seen = proxy.requests(&matching);
        ensure!(seen.len() >= 2, "{matching:?}: {proxy:#?}");
        let pause = seen[1].at - seen[0].at;
        ensure!(
            pause >= TimeDelta::milliseconds(2990),
            "{matching:?} again after {pause}: {proxy:#?}"
        );
    }
    Ok(())
}

#[tokio::test]
async fn an_api_server_that_was_gone_is_followed_by_one_digest_of_the_truth() -> Result<()> {
    let hook = receiver().await?;
    let (proxy, stage) = behind("fault-gone", |operator| {
        operator.egress_policy(egress_policy([hook.port()]))
    })
    .await?;
    let authority = Authority::new("Fault CA")?;
    let expires = Leaf::for_names(["expires.example.com"]).expires_in(Duration::from_secs(40));
    stage
        .apply(&[
            webhook_secret("hook", &hook),
            ninety_days(&authority, "renewed-tls", "renewed.example.com", 3)?,
            tls_secret(&authority.issue(&expires)?.secret("expires-tls")),
            telling("shop", &every_secret()),
        ])
        .await?;
    let first = hook.wait_for_messages(1, SOON).await?.remove(0);
    let told = |monitor: &crate::stories::Monitor| monitor.says("Notified", "True", "Delivered");
    stage.until("shop", "that it is told", told).await?;
    ensure!(alerts(&first.json()?).len() == 2, "{:#}", first.json()?);

    proxy.gone().await;
    stage
        .apply(&[ninety_days(&authority, "renewed-tls", "renewed.example.com", 90)?])
        .await?;
    // Away until the next message is overdue: what is said on return is not held back by the pause between messages.
    let overdue = first.at + TimeDelta::seconds(65);
    wait_for("the next message to be overdue", NEXT_MESSAGE, async || {
        let now = Utc::now();
        (now >= overdue).then_some(()).ok_or_else(|| anyhow!("it is {now}"))
    })
    .await?;
    ensure!(
        hook.received().len() == 1,
        "told without an intent: {:?}",
        hook.received()
    );
    proxy.back().await?;
    let digest = hook.wait_for_messages(2, NEXT_MESSAGE).await?.remove(1).json()?;
    let said: BTreeSet<(&str, &str)> = digest["alerts"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|alert| {
            (
                alert["status"].as_str().unwrap_or(""),
                alert["finding"].as_str().unwrap_or(""),
            )
        })
        .collect();
    ensure!(
        said == BTreeSet::from([("firing", "Expired"), ("resolved", "ExpiryCritical")]),
        "{digest:#}\n{}",
        stage.operator.log()
    );
    stage
        .until("shop", "the truth, and that it is told", |monitor| {
            monitor.says("Healthy", "False", "Expired")
                && monitor.says("Ready", "True", "Monitoring")
                && monitor.says("Notified", "True", "Delivered")
        })
        .await?;
    ensure!(hook.received().len() == 2, "{:?}", hook.received());
    Ok(())
}

#[tokio::test]
async fn two_operators_at_once_lose_nothing_and_repeat_only_with_the_same_id() -> Result<()> {
    const MONITORS: usize = 6;
    let hook = receiver().await?;
    let mut second = None;
    let stage = Stage::set("fault-two", |operator| {
        let operator = operator.egress_policy(egress_policy([hook.port()]));
        second = Some(operator.clone().arg("--identity", "two"));
        operator.arg("--identity", "one")
    })
    .await?;
    let second = second.context("the second operator")?.start()?;
    second.ready().await?;
    let authority = Authority::new("Fault CA")?;
    let certificates = |left| -> Result<Vec<Value>> {
        (0..MONITORS)
            .map(|number| {
                ninety_days(
                    &authority,
                    &format!("shop-{number}"),
                    &format!("{number}.example.com"),
                    left,
                )
            })
            .collect()
    };
    let mut objects = certificates(3)?;
    objects.push(webhook_secret("hook", &hook));
    objects.extend((0..MONITORS).map(|number| {
        let name = format!("shop-{number}");
        telling(&name, &json!([{ "name": "tls", "secrets": { "names": [name] } }]))
    }));
    stage.apply(&objects).await?;
    for status in ["firing", "resolved"] {
        if status == "resolved" {
            stage.apply(&certificates(90)?).await?;
        }
        for number in 0..MONITORS {
            let name = format!("shop-{number}");
            wait_for(&format!("{name} to be {status}"), NEXT_MESSAGE, async || {
                let messages = of(&hook, &name, status)?;
                ensure!(
                    !messages.is_empty(),
                    "nothing\n{}\n{}",
                    stage.operator.log(),
                    second.log()
                );
                Ok(())
            })
            .await?;
        }
    }
    let done = |monitor: &crate::stories::Monitor| {
        monitor.says("Healthy", "True", "AllValid") && monitor.says("Notified", "True", "Delivered")
    };
    for number in 0..MONITORS {
        let name = format!("shop-{number}");
        stage.until(&name, "that its end is told", done).await?;
        for status in ["firing", "resolved"] {
            let messages = of(&hook, &name, status)?;
            let bodies: BTreeSet<&[u8]> = messages.iter().map(|message| &*message.body).collect();
            ensure!(
                ids(&messages).len() == 1 && bodies.len() == 1,
                "{name} {status}: {messages:?}"
            );
        }
    }
    Ok(())
}

/// The messages of a monitor in which its alert has this status.
fn of(hook: &HttpSink, monitor: &str, status: &str) -> Result<Vec<Received>> {
    let mut found = Vec::new();
    for message in hook.received() {
        let body = message.json()?;
        if body["monitor"] == monitor && alerts(&body).iter().any(|(is, _)| *is == status) {
            found.push(message);
        }
    }
    Ok(found)
}
