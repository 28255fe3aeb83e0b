//! What the operator may do, does, and doesn't do.

use super::{Stage, ca_config_map, monitor, ninety_days, text_secret, tls_secret};
use anyhow::{Context as _, Result, anyhow, ensure};
use certmon_e2e::sinks::HttpSink;
use certmon_e2e::{AuditEvent, Authority, Cluster, Leaf, Options, Release, egress_policy, wait_for};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::time::{Duration, Instant};

/// With this much of it, whatever writes every few seconds would show. Longer stretches are shown by the time-lapse (days, in
/// paused time) and by `make bench`.
const QUIET: Duration = Duration::from_secs(10);

#[tokio::test]
async fn a_right_that_is_granted_later_heals_without_a_restart() -> Result<()> {
    let cluster = Cluster::shared().await?;
    cluster.crds().await?;
    let mut taken = Vec::new();
    let stage = Stage::on(
        cluster,
        "granted",
        |rules| {
            let (without, with): (Vec<_>, Vec<_>) = rules
                .drain(..)
                .partition(|rule| rule["resources"] == json!(["secrets"]));
            taken = without;
            *rules = with;
        },
        |operator| operator,
    )
    .await?;
    stage
        .apply(&[
            ninety_days(&Authority::new("Story CA")?, "shop-tls", "shop.example.com", 60)?,
            monitor("shop", &json!({ "sources": [{ "name": "tls", "secrets": {} }] })),
        ])
        .await?;
    stage
        .until("shop", "SourceForbidden", |monitor| {
            monitor.says("Ready", "False", "SourceForbidden")
        })
        .await?;
    let name = stage.account.rsplit(':').next().context("an account has a name")?;
    let more = json!({
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "Role",
        "metadata": { "name": "later" },
        "rules": taken,
    });
    let binding = json!({
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "RoleBinding",
        "metadata": { "name": "later" },
        "roleRef": { "apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "later" },
        "subjects": [{ "kind": "ServiceAccount", "name": name, "namespace": stage.namespace.name() }],
    });
    stage.apply(&[more, binding]).await?;
    stage
        .until("shop", "that all is well", |monitor| {
            monitor.says("Ready", "True", "Monitoring") && monitor.says("Healthy", "True", "AllValid")
        })
        .await?;
    Ok(())
}

/// `VERB RESOURCE` of a request, with its subresource.
fn right(event: &AuditEvent) -> String {
    let object = event.object_ref.clone().unwrap_or_default();
    let resource = match object.subresource.as_str() {
        "" => object.resource,
        subresource => format!("{}/{subresource}", object.resource),
    };
    format!("{} {resource}", event.verb)
}

/// `VERB RESOURCE` of all that rules grant.
fn granted(rules: &[Value]) -> BTreeSet<String> {
    let texts = |rule: &Value, field: &str| -> Vec<String> {
        let values = rule[field].as_array().cloned().unwrap_or_default();
        values.iter().filter_map(Value::as_str).map(str::to_owned).collect()
    };
    let of_rule = |rule: &Value| -> Vec<String> {
        let (verbs, resources) = (texts(rule, "verbs"), texts(rule, "resources"));
        let with = |verb: &String| {
            resources
                .iter()
                .map(move |resource| format!("{verb} {resource}"))
                .collect::<Vec<_>>()
        };
        verbs.iter().flat_map(with).collect()
    };
    rules.iter().flat_map(of_rule).collect()
}

/// Everything that a monitor can ask of the API server; returns what was asked, refused requests as errors.
async fn a_full_day(cluster: &Cluster) -> Result<(BTreeSet<String>, BTreeSet<String>)> {
    let audit = cluster.audit()?;
    let mark = audit.mark()?;
    let slack = HttpSink::slack().await?;
    let mut rules = Vec::new();
    let stage = Stage::on(
        cluster,
        "audit",
        |chart| rules.clone_from(chart),
        |operator| operator.egress_policy(egress_policy([slack.port()])),
    )
    .await?;
    let authority = Authority::new("Story CA")?;
    let values = json!({ "url": slack.url("/services/T0/B0/x"), "ca.crt": slack.ca_pem() });
    let leaf = Leaf::for_names(["shop.example.com"]);
    let mut named = tls_secret(&authority.issue(&leaf)?.secret("named"));
    named["type"] = "Opaque".into();
    let ingress = json!({
        "apiVersion": "networking.k8s.io/v1",
        "kind": "Ingress",
        "metadata": { "name": "web" },
        "spec": {
            "tls": [{ "hosts": ["shop.example.com"], "secretName": "named" }],
            "defaultBackend": { "service": { "name": "web", "port": { "number": 80 } } },
        },
    });
    let spec = json!({
        "sources": [
            { "name": "tls", "secrets": {} },
            { "name": "web", "ingresses": { "targets": ["Secret"] } },
        ],
        "trust": { "wellKnownCACertificates": "None", "caCertificateRefs": [{ "name": "corp-ca" }] },
        "sinks": [{ "name": "team", "slack": { "secretRef": { "name": "slack-hook" } } }],
    });
    stage
        .apply(&[
            ca_config_map("corp-ca", &authority.pem()),
            text_secret("slack-hook", "certmon.dev/slack", &values),
            ninety_days(&authority, "old-tls", "old.example.com", -1)?,
            named,
            ingress,
            monitor("shop", &spec),
        ])
        .await?;
    stage
        .until("shop", "that it told of what has expired", |monitor| {
            monitor.says("Healthy", "False", "Expired") && monitor.says("Notified", "True", "Delivered")
        })
        .await?;
    // Several monitors, so that more than one clock runs while it is quiet.
    for name in ["two", "three", "four"] {
        stage.apply(&[monitor(name, &spec)]).await?;
        stage
            .until(name, "that it told too", |monitor| {
                monitor.says("Notified", "True", "Delivered")
            })
            .await?;
    }
    stage
        .events(&["MonitoringStarted", "Expired", "NotificationSent"])
        .await?;
    settles(&stage, cluster).await?;

    let ours = |event: &AuditEvent| event.user.username == stage.account && event.user_agent.starts_with("certmon/");
    let all = audit.since(mark, ours)?;
    let refused: Vec<String> = all
        .iter()
        .filter(|event| matches!(event.code(), 401 | 403))
        .map(|event| format!("{} {}: {}", event.verb, event.request_uri, event.code()))
        .collect();
    ensure!(refused.is_empty(), "refused: {refused:#?}");
    // What the server is called may be asked by every account (system:public-info-viewer).
    let used = all.iter().filter(|event| event.request_uri != "/version").map(right);
    Ok((used.collect(), granted(&rules)))
}

/// Quiet: for a stretch of time, the operator writes nothing at all, though it is alive.
async fn settles(stage: &Stage, cluster: &Cluster) -> Result<()> {
    let audit = cluster.audit()?;
    let writes = |mark| {
        let ours = |event: &AuditEvent| event.user.username == stage.account && event.is_write();
        audit.since(mark, ours)
    };
    let mut begun = (Instant::now(), audit.mark()?);
    let first = begun.0;
    wait_for("a stretch without a write", Duration::from_secs(60), async || {
        let written = writes(begun.1)?;
        if !written.is_empty() {
            begun = (Instant::now(), audit.mark()?);
            let rights: Vec<String> = written.iter().map(right).collect();
            return Err(anyhow!("still written: {rights:?}"));
        }
        ensure!(begun.0.elapsed() >= QUIET, "quiet for {:?}", begun.0.elapsed());
        Ok(())
    })
    .await?;
    // What was still under way at the beginning is allowed a moment.
    ensure!(
        first.elapsed() < QUIET + Duration::from_secs(15),
        "quiet only after {:?}",
        first.elapsed()
    );
    let metrics = stage.operator.metrics().await?;
    ensure!(metrics.contains("certmon_certificates"), "{metrics}");
    Ok(())
}

#[tokio::test]
async fn every_right_of_the_chart_is_used_and_none_is_missing_by_either_way_of_listing() -> Result<()> {
    let streamed = Cluster::audited().await?;
    streamed.crds().await?;
    let mut options = Options::from_environment()?;
    options
        .api_server_flags
        .push("--feature-gates=WatchList=false".to_owned());
    let paged = Cluster::start(&options).await?;
    paged.crds().await?;
    let (by_stream, by_pages) = tokio::join!(a_full_day(streamed), a_full_day(&paged));
    let ((mut used, granted), (in_pages, _)) = (by_stream?, by_pages?);
    let listed: Vec<&String> = used.iter().filter(|right| right.starts_with("list ")).collect();
    // 1.33 has streaming lists behind a gate that is off.
    if Options::from_environment()?.release == Release::Newest {
        assert!(
            listed.is_empty(),
            "a server that streams is not asked for pages: {listed:?}"
        );
    }
    assert!(
        in_pages.contains("list secrets") && in_pages.contains("watch secrets"),
        "{in_pages:?}"
    );
    used.extend(in_pages);
    let unused: Vec<&String> = granted.difference(&used).collect();
    let missing: Vec<&String> = used.difference(&granted).collect();
    assert!(
        unused.is_empty() && missing.is_empty(),
        "granted and not used: {unused:?}; used and not granted: {missing:?}"
    );
    Ok(())
}
