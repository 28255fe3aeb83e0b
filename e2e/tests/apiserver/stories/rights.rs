//! What the operator may do, does, and doesn't do.

use super::stage::{Listing, alone, nobody_is_left};
use super::{SOON, Stage, ca_config_map, monitor, ninety_days, text_secret, tls_secret};
use anyhow::{Context as _, Result, anyhow, ensure};
use certmon_e2e::sinks::HttpSink;
use certmon_e2e::{
    AuditEvent, AuditLog, Authority, Cluster, Leaf, OperatorBuilder, Options, Release, egress_policy, wait_for,
};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::time::{Duration, Instant};

/// Whatever writes by the minute shows in this. Longer stretches are shown by the time-lapse (days, in paused time) and by
/// `make bench`.
const MINUTE: Duration = Duration::from_secs(60);

/// Where that was seen elsewhere, this shows that it settles.
const MOMENT: Duration = Duration::from_secs(10);

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
    let metrics = stage.operator.metrics().await?;
    let counted = r#"certmon_source_errors_total{source_kind="Secret",reason="SourceForbidden"} 1"#;
    ensure!(metrics.contains(counted), "{metrics}");
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

/// How the chart is installed.
#[derive(Debug, Clone, Copy)]
enum Scope {
    Namespaces,
    Cluster,
}

/// Everything that a monitor can ask of the API server; returns what was asked and what was granted, refused requests as
/// errors.
async fn a_full_day(cluster: &Cluster, scope: Scope, quiet: Duration) -> Result<(BTreeSet<String>, BTreeSet<String>)> {
    let day = async {
        let audit = cluster.audit()?;
        let mark = audit.mark()?;
        let slack = HttpSink::slack().await?;
        let mut rules = Vec::new();
        let keep = |chart: &mut Vec<Value>| rules.clone_from(chart);
        let with = |operator: OperatorBuilder| operator.egress_policy(egress_policy([slack.port()]));
        let stage = match scope {
            Scope::Namespaces => Stage::on(cluster, "audit", keep, with).await?,
            Scope::Cluster => Stage::everywhere(cluster, "audit", keep, with).await?,
        };
        the_day_itself(&stage, &slack).await?;
        settles(&stage, cluster, quiet).await?;
        Ok::<_, anyhow::Error>((what_was_asked(&stage, audit, mark)?, granted(&rules)))
    };
    day.await.with_context(|| format!("{scope:?}"))
}

async fn the_day_itself(stage: &Stage, slack: &HttpSink) -> Result<()> {
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
    Ok(())
}

/// What the operator asked for since then.
fn what_was_asked(stage: &Stage, audit: &AuditLog, mark: u64) -> Result<BTreeSet<String>> {
    let ours = |event: &AuditEvent| event.user.username == stage.account && event.user_agent.starts_with("certmon/");
    let all = audit.next(&mut { mark }, &stage.account, ours)?;
    let refused: Vec<String> = all
        .iter()
        .filter(|event| matches!(event.code(), 401 | 403))
        .map(|event| format!("{} {}: {}", event.verb, event.request_uri, event.code()))
        .collect();
    ensure!(refused.is_empty(), "refused: {refused:#?}");
    // What the server is called may be asked by every account (system:public-info-viewer).
    let used = all.iter().filter(|event| event.request_uri != "/version").map(right);
    Ok(used.collect())
}

/// Quiet: for a stretch of time, the operator writes nothing at all, though it is alive.
async fn settles(stage: &Stage, cluster: &Cluster, quiet: Duration) -> Result<()> {
    let audit = cluster.audit()?;
    let ours = |event: &AuditEvent| event.user.username == stage.account && event.is_write();
    let mut mark = audit.mark()?;
    let first = Instant::now();
    let mut begun = first;
    wait_for("a stretch without a write", quiet + SOON, async || {
        let written = audit.next(&mut mark, &stage.account, ours)?;
        if !written.is_empty() {
            begun = Instant::now();
            let rights: Vec<String> = written.iter().map(right).collect();
            return Err(anyhow!("still written: {rights:?}"));
        }
        ensure!(begun.elapsed() >= quiet, "quiet for {:?}", begun.elapsed());
        Ok(())
    })
    .await?;
    // What was still under way at the beginning is allowed a moment.
    ensure!(
        first.elapsed() < quiet + Duration::from_secs(15),
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
    // One after the other where both watch all there is.
    let in_pages = async {
        let (paged, _turn) = alone(Listing::InPages).await?;
        let of_namespaces = a_full_day(paged, Scope::Namespaces, MOMENT).await?;
        nobody_is_left(paged).await?;
        Ok::<_, anyhow::Error>((of_namespaces, a_full_day(paged, Scope::Cluster, MOMENT).await?))
    };
    let everywhere = async {
        let (cluster, _turn) = alone(Listing::Streamed).await?;
        a_full_day(cluster, Scope::Cluster, MOMENT).await
    };
    let (of_namespaces, of_cluster, in_pages) =
        tokio::try_join!(a_full_day(streamed, Scope::Namespaces, MINUTE), everywhere, in_pages)?;
    compare(of_namespaces, in_pages.0).context("in chosen namespaces")?;
    compare(of_cluster, in_pages.1).context("in the whole cluster")
}

/// What was used either way is what is granted.
fn compare(
    (mut used, granted): (BTreeSet<String>, BTreeSet<String>),
    (in_pages, _): (BTreeSet<String>, BTreeSet<String>),
) -> Result<()> {
    let listed: Vec<&String> = used.iter().filter(|right| right.starts_with("list ")).collect();
    // 1.33 has streaming lists behind a gate that is off.
    if Options::from_environment()?.release == Release::Newest {
        ensure!(
            listed.is_empty(),
            "a server that streams is not asked for pages: {listed:?}"
        );
    }
    ensure!(
        in_pages.contains("list secrets") && in_pages.contains("watch secrets"),
        "{in_pages:?}"
    );
    used.extend(in_pages);
    let unused: Vec<&String> = granted.difference(&used).collect();
    let missing: Vec<&String> = used.difference(&granted).collect();
    ensure!(
        unused.is_empty() && missing.is_empty(),
        "granted and not used: {unused:?}; used and not granted: {missing:?}"
    );
    Ok(())
}
