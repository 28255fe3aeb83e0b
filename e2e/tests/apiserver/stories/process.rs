//! The operator as a process: how it ends, and how it takes the admin's word.

use super::{SOON, Stage, monitor, ninety_days, text_secret};
use anyhow::Result;
use certmon_e2e::sinks::{Answer, HttpSink};
use certmon_e2e::tls::TlsServer;
use certmon_e2e::{Authority, Cluster, Leaf, OperatorBuilder, egress_policy};
use serde_json::json;
use std::time::{Duration, Instant};

#[tokio::test]
async fn sigterm_ends_it_in_time_though_a_receiver_hangs() -> Result<()> {
    let hook = HttpSink::webhook(vec![]).await?;
    hook.answer_always(Answer::accept().after(Duration::from_secs(600)));
    let mut stage = Stage::set("sigterm", |operator| {
        operator.egress_policy(egress_policy([hook.port()]))
    })
    .await?;
    let values = json!({ "url": hook.url("/hook"), "ca.crt": hook.ca_pem() });
    let spec = json!({
        "sources": [{ "name": "tls", "secrets": {} }],
        "sinks": [{ "name": "cmdb", "webhook": { "secretRef": { "name": "hook" } } }],
    });
    stage
        .apply(&[
            text_secret("hook", "certmon.dev/webhook", &values),
            ninety_days(&Authority::new("Story CA")?, "old-tls", "old.example.com", -1)?,
            monitor("shop", &spec),
        ])
        .await?;
    hook.wait_for_messages(1, SOON).await?;
    let begun = Instant::now();
    let ended = stage.operator.terminate().await?;
    assert!(begun.elapsed() < Duration::from_secs(20), "{:?}", begun.elapsed());
    assert_eq!(ended.code(), Some(0), "{}", stage.operator.log());
    Ok(())
}

#[tokio::test]
async fn a_broken_egress_policy_keeps_it_from_starting() -> Result<()> {
    let cluster = Cluster::shared().await?;
    let broken = "allow:\n- namespaces: [\"*\"]\n  cidrs: [127.0.0.0/99]\n";
    let mut operator = OperatorBuilder::new(cluster.kubeconfig())
        .egress_policy(broken)
        .start()?;
    let ended = operator.exit().await?;
    assert!(!ended.success());
    let log = operator.log();
    assert!(
        log.contains("egress-policy.yaml:3") && log.contains("127.0.0.0/99"),
        "file, line and cause in:\n{log}"
    );
    Ok(())
}

#[tokio::test]
async fn a_policy_that_breaks_later_leaves_the_last_good_one_in_force() -> Result<()> {
    let authority = Authority::new("Story CA")?;
    let server = TlsServer::start(&authority.issue(&Leaf::for_names(["shop.example.com"]))?).await?;
    let stage = Stage::set("policy", |operator| {
        operator.egress_policy(egress_policy([server.port()]))
    })
    .await?;
    stage.operator.replace_egress_policy("allow: [{cidrs: none of this}]")?;
    let log = stage.shows_in_log("the last good one holds").await?;
    assert!(log.contains("egress-policy.yaml:1"), "{log}");
    let spec = json!({
        "sources": [{ "name": "inside", "endpoints": [
            { "host": "127.0.0.1", "port": server.port(), "serverName": "shop.example.com" },
        ]}],
        "checks": { "chain": "Ignore" },
    });
    stage.apply(&[monitor("shop", &spec)]).await?;
    stage
        .until("shop", "AllValid", |monitor| {
            monitor.says("Healthy", "True", "AllValid")
        })
        .await?;

    // A good one that allows nothing is taken over.
    stage.operator.replace_egress_policy("allow: []")?;
    stage.shows_in_log("the egress policy was taken over").await?;
    stage.annotate("shop", "certmon.dev/check-requested-at=1").await?;
    stage
        .until("shop", "TargetNotPermitted", |monitor| {
            monitor.has_problem(&["TargetNotPermitted"])
        })
        .await?;
    Ok(())
}
