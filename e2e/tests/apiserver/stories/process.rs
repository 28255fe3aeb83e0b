//! The operator as a process: how it ends, and how it takes the admin's word.

use super::{Monitor, SOON, Stage, monitor, ninety_days, text_secret};
use anyhow::{Context as _, Result, ensure};
use certmon_e2e::sinks::{Answer, HttpSink, SmtpSecurity, SmtpSink};
use certmon_e2e::tls::TlsServer;
use certmon_e2e::{Authority, Cluster, DnsServer, Leaf, OperatorBuilder, egress_policy};
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
async fn a_policy_that_breaks_later_or_goes_leaves_the_last_good_one_in_force() -> Result<()> {
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
    let is_fine = |monitor: &Monitor| monitor.says("Healthy", "True", "AllValid");
    stage.until("shop", "AllValid", is_fine).await?;

    // Gone altogether: the same.
    stage.operator.remove_egress_policy()?;
    stage
        .shows_in_log("egress-policy.yaml is gone, or can't be read")
        .await?;
    let before = server.connections();
    stage.annotate("shop", "certmon.dev/check-requested-at=0").await?;
    stage
        .until("shop", "that it looked again, and all is fine", |monitor| {
            is_fine(monitor) && monitor.0["status"]["lastHandledCheckRequest"] == "0"
        })
        .await?;
    assert!(server.connections() > before);

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

/// All that a flag can say, said so or in the environment, by what comes of it.
async fn does_as_it_is_told(hint: &str, with: impl FnOnce(OperatorBuilder) -> OperatorBuilder) -> Result<()> {
    let authority = Authority::new("Story CA")?;
    let expired = Leaf::for_names(["shop.example.com"]).expired(Duration::from_secs(86_400));
    let server = TlsServer::start(&authority.issue(&expired)?).await?;
    let relay = SmtpSink::start(SmtpSecurity::StartTls).await?;
    let hook = HttpSink::webhook(vec![]).await?;
    let dns = DnsServer::start().await?;
    dns.name("shop.example.com", [server.address().ip()]);
    let cluster = Cluster::shared().await?;
    cluster.crds().await?;
    let namespaces = vec![cluster.namespace(hint).await?, cluster.namespace(hint).await?];
    let unwatched = cluster.namespace(hint).await?;
    let stage = Stage::of(
        cluster,
        namespaces,
        |_rules| {},
        |operator| {
            let operator = operator
                .dns_server(dns.address().to_string())
                .egress_policy(egress_policy([server.port(), relay.port(), hook.port()]))
                .arg("--cluster-name", "told")
                .arg("--identity", "who-it-is")
                .arg("--smtp-helo", "certmon.example.com")
                .arg("--log-level", "error");
            with(operator)
        },
    )
    .await?;
    let mail = json!({ "host": "127.0.0.1", "port": relay.port().to_string(), "from": "certmon@example.com", "ca.crt": relay.ca_pem() });
    let values = json!({ "url": hook.url("/hook"), "ca.crt": hook.ca_pem() });
    let spec = json!({
        "sources": [{ "name": "public", "endpoints": [{ "host": "shop.example.com", "port": server.port() }] }],
        "sinks": [
            { "name": "oncall", "email": { "to": ["oncall@example.com"], "secretRef": { "name": "smtp" } } },
            { "name": "cmdb", "webhook": { "secretRef": { "name": "hook" } } },
        ],
    });
    let objects = [
        text_secret("smtp", "certmon.dev/smtp", &mail),
        text_secret("hook", "certmon.dev/webhook", &values),
        monitor("shop", &spec),
    ];
    let other = stage.others.first().context("two namespaces")?;
    stage.tenant(&unwatched).apply(&objects).await?;
    for tenant in [stage.tenant(&stage.namespace), stage.tenant(other)] {
        tenant.apply(&objects).await?;
        tenant
            .until(
                "shop",
                "what is served where DNS leads, and that it is told",
                SOON,
                |monitor| monitor.says("Healthy", "False", "Expired") && monitor.says("Notified", "True", "Delivered"),
            )
            .await?;
    }
    assert_eq!(relay.mails()[0].helo, "certmon.example.com");
    for message in hook.wait_for_messages(2, SOON).await? {
        let body = message.json()?;
        assert_eq!(body["cluster"], "told", "{body:#}");
        assert!(body["namespace"] != unwatched.name(), "{body:#}");
    }
    let events = stage
        .shows(&["get", "events", "-o", "json"], &["MonitoringStarted"])
        .await?;
    assert!(events.contains("who-it-is"), "{events}");
    // It logs errors alone, and each as JSON.
    assert_eq!(stage.operator.log(), "");
    stage.operator.replace_egress_policy("broken")?;
    stage.shows_in_log("the last good one holds").await?;
    let lines = stage.operator.log_lines();
    ensure!(
        lines.len() == 1 && lines[0]["level"] == "ERROR",
        "{}",
        stage.operator.log()
    );
    let monitor = stage.tenant(&unwatched).monitor("shop").await?;
    assert!(monitor.0["status"].is_null(), "{monitor:?}");
    Ok(())
}

#[tokio::test]
async fn every_flag_does_what_it_says() -> Result<()> {
    does_as_it_is_told("flags", |operator| operator).await
}

#[tokio::test]
async fn what_a_flag_says_can_be_said_in_the_environment() -> Result<()> {
    does_as_it_is_told("variables", OperatorBuilder::by_environment).await
}
