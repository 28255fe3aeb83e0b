//! Watches that are refused, have lost their place, or say nothing.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Result, ensure};
use certmon_e2e::Authority;
use certmon_e2e::proxy::{Matching, Proxy, Request, Step, Verdict};
use chrono::TimeDelta;

use super::{behind, every_secret};
use crate::stories::{Monitor, Stage, monitor, ninety_days};
use serde_json::json;

/// The watch of TLS Secrets.
fn secrets() -> Matching {
    Matching::new(&["watch"], "secrets").asking("type%3Dkubernetes.io%2Ftls")
}

/// The server's word that a version is too old, within a watch.
const TOO_OLD: &str = r#"{"type":"ERROR","object":{"kind":"Status","apiVersion":"v1","metadata":{},"status":"Failure","message":"too old resource version: 1 (2)","reason":"Expired","code":410}}"#;

/// A monitor of two Secrets, one of which is critical.
async fn two_secrets(hint: &str) -> Result<(Proxy, Stage, Authority)> {
    let (proxy, stage) = behind(hint, |operator| operator).await?;
    let authority = Authority::new("Watch CA")?;
    stage
        .apply(&[
            ninety_days(&authority, "first", "first.example.com", 60)?,
            ninety_days(&authority, "second", "second.example.com", 3)?,
            monitor("shop", &json!({ "sources": every_secret() })),
        ])
        .await?;
    stage
        .until("shop", "that one is critical", |monitor| {
            monitor.count("total") == 2 && monitor.has_problem(&["Secret/second", "ExpiryCritical"])
        })
        .await?;
    Ok((proxy, stage, authority))
}

async fn only_the_first_has_expired(stage: &Stage) -> Result<()> {
    let truth = |monitor: &Monitor| {
        monitor.count("total") == 1
            && monitor.has_problem(&["Secret/first", "Expired"])
            && monitor.says("Ready", "True", "Monitoring")
    };
    stage.until("shop", "what changed while nobody watched", truth).await?;
    Ok(())
}

/// Changes both Secrets while nobody watches, and has the next watch answered so.
async fn lists_again(hint: &str, verdict: Verdict) -> Result<()> {
    let (proxy, stage, authority) = two_secrets(hint).await?;
    proxy.gone().await;
    stage.kubectl(&["delete", "secret", "second"]).await?;
    stage
        .apply(&[ninety_days(&authority, "first", "first.example.com", -1)?])
        .await?;
    let asked = Matching::new(&["list", "watch"], "secrets").asking("type%3Dkubernetes.io%2Ftls");
    let before = proxy.requests(&asked).len();
    proxy.fault(secrets(), 1, verdict);
    proxy.back().await?;
    only_the_first_has_expired(&stage).await?;
    let after = proxy.requests(&asked).split_off(before);
    // Streamed where the server can, in pages where it can't.
    let lists = |request: &Request| request.verb == "list" || request.query.contains("sendInitialEvents");
    ensure!(!lists(&after[0]) && lists(&after[1]), "{after:?}");
    Ok(())
}

#[tokio::test]
async fn a_watch_that_lost_its_place_lists_again_and_sees_what_it_missed() -> Result<()> {
    tokio::try_join!(
        lists_again("fault-410", Verdict::Status(410)),
        lists_again("fault-410-line", Verdict::Line(TOO_OLD.to_owned())),
    )?;
    Ok(())
}

#[tokio::test]
async fn a_source_whose_watch_fails_says_so_keeps_its_facts_and_heals() -> Result<()> {
    let (proxy, stage, authority) = two_secrets("fault-watch").await?;
    let broken = Arc::new(AtomicBool::new(true));
    let is_broken = Arc::clone(&broken);
    proxy.rule(move |request, step| {
        let meant = step == Step::Request && secrets().is(request) && is_broken.load(Ordering::SeqCst);
        meant.then_some(Verdict::Status(503))
    });
    proxy.break_connections().await?;
    stage
        .until("shop", "that the source is unavailable", |monitor| {
            monitor.says("Ready", "False", "SourceUnavailable")
                && monitor.count("total") == 2
                && monitor.has_problem(&["Secret/second", "ExpiryCritical"])
        })
        .await?;
    stage.kubectl(&["delete", "secret", "second"]).await?;
    stage
        .apply(&[ninety_days(&authority, "first", "first.example.com", -1)?])
        .await?;
    broken.store(false, Ordering::SeqCst);
    only_the_first_has_expired(&stage).await
}

#[tokio::test]
async fn a_watch_is_tried_again_when_the_server_allows() -> Result<()> {
    let (proxy, stage, authority) = two_secrets("fault-watch-429").await?;
    let before = proxy.requests(&secrets()).len();
    proxy.fault(secrets(), 1, Verdict::TooManyRequests(3));
    proxy.break_connections().await?;
    stage.kubectl(&["delete", "secret", "second"]).await?;
    stage
        .apply(&[ninety_days(&authority, "first", "first.example.com", -1)?])
        .await?;
    only_the_first_has_expired(&stage).await?;
    let after = proxy.requests(&secrets()).split_off(before);
    let pause = after[1].at - after[0].at;
    ensure!(pause >= TimeDelta::milliseconds(2990), "again after {pause}: {after:?}");
    Ok(())
}

#[tokio::test]
async fn a_watch_that_nobody_answers_is_opened_again() -> Result<()> {
    let (proxy, stage, authority) = two_secrets("fault-silent").await?;
    let before = proxy.requests(&secrets()).len();
    proxy.fault(secrets(), 1, Verdict::Silence);
    proxy.break_connections().await?;
    proxy
        .wait_for_requests(&secrets(), before + 1, Duration::from_secs(10))
        .await?;
    stage.kubectl(&["delete", "secret", "second"]).await?;
    stage
        .apply(&[ninety_days(&authority, "first", "first.example.com", -1)?])
        .await?;
    // The operator waits 30 s for an answer.
    proxy
        .wait_for_requests(&secrets(), before + 2, Duration::from_secs(45))
        .await?;
    only_the_first_has_expired(&stage).await
}
