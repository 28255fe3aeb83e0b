//! What is watched, how often, and when it counts as read.

use super::stage::{Listing, alone};
use super::{SOON, Stage, monitor, ninety_days};
use anyhow::{Result, ensure};
use certmon_e2e::proxy::{Matching, Proxy, Step, Verdict};
use certmon_e2e::{AuditEvent, Authority, Cluster, Operator, get, wait_for};
use serde_json::json;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

const MONITORS: usize = 10;

/// The field selector of a request, decoded; empty where it has none.
fn field_selector(uri: &str) -> String {
    let query = uri.split_once('?').map_or("", |(_, query)| query);
    let selector = query.split('&').find_map(|pair| pair.strip_prefix("fieldSelector="));
    selector.unwrap_or_default().replace("%3D", "=").replace("%2F", "/")
}

/// How often each collection was watched, by resource and field selector.
fn watches(cluster: &Cluster, mark: u64, account: &str) -> Result<BTreeMap<String, usize>> {
    // A server without streaming lists refuses the first try of each.
    let begun = |event: &AuditEvent| {
        event.user.username == account
            && event.verb == "watch"
            && event.stage == "ResponseStarted"
            && event.code() == 200
    };
    let mut counted = BTreeMap::new();
    for event in cluster.audit()?.next(&mut { mark }, account, begun)? {
        let object = event.object_ref.clone().unwrap_or_default();
        ensure!(object.namespace.is_empty(), "in one namespace: {}", event.request_uri);
        let selector = field_selector(&event.request_uri);
        *counted.entry(format!("{} {selector}", object.resource)).or_default() += 1;
    }
    Ok(counted)
}

/// Each of these is watched once, and nothing else is. A list in pages comes before its watch.
async fn are_watched(cluster: &Cluster, mark: u64, account: &str, collections: &[&str]) -> Result<()> {
    let once = |collection: &&str| ((*collection).to_owned(), 1);
    let expected: BTreeMap<String, usize> = collections.iter().map(once).collect();
    wait_for("one watch of each kind", SOON, async || {
        let counted = watches(cluster, mark, account)?;
        ensure!(counted == expected, "{counted:#?}");
        Ok(())
    })
    .await
}

#[tokio::test]
async fn ten_monitors_in_three_namespaces_are_one_watch_of_each_kind_by_either_way_of_listing() -> Result<()> {
    tokio::try_join!(
        ten_monitors_in_three_namespaces(Listing::Streamed),
        ten_monitors_in_three_namespaces(Listing::InPages)
    )?;
    Ok(())
}

async fn ten_monitors_in_three_namespaces(listing: Listing) -> Result<()> {
    let (cluster, _turn) = alone(listing).await?;
    let mark = cluster.audit()?.mark()?;
    let stage = Stage::everywhere(cluster, "watched", |_rules| {}, |operator| operator).await?;
    let namespaces = [cluster.namespace("watched").await?, cluster.namespace("watched").await?];
    let authority = Authority::new("Story CA")?;
    let tenants = [
        stage.tenant(&stage.namespace),
        stage.tenant(&namespaces[0]),
        stage.tenant(&namespaces[1]),
    ];
    // A sink's Secret is watched too, whether it is there or not.
    let spec = json!({
        "sources": [{ "name": "tls", "secrets": {} }, { "name": "web", "ingresses": {} }],
        "sinks": [{ "name": "cmdb", "webhook": { "secretRef": { "name": "hook" } } }],
    });
    for (tenant, number) in tenants.iter().cycle().zip(0..MONITORS) {
        let name = format!("shop-{number}");
        tenant
            .apply(&[
                ninety_days(&authority, &name, &format!("{name}.example.com"), 60)?,
                monitor(&name, &spec),
            ])
            .await?;
    }
    for (tenant, number) in tenants.iter().cycle().zip(0..MONITORS) {
        tenant
            .until(&format!("shop-{number}"), "that all is well", SOON, |monitor| {
                monitor.says("Ready", "True", "Monitoring") && monitor.count("total") >= 3
            })
            .await?;
    }
    let mut collections = vec![
        "certificatemonitors ",
        "ingresses ",
        "secrets type=certmon.dev/webhook",
        "secrets type=kubernetes.io/tls",
    ];
    are_watched(cluster, mark, &stage.account, &collections).await?;

    // Another type is one watch more, whoever asks for it.
    let opaque = json!({ "sources": [{ "name": "opaque", "secrets": { "types": ["Opaque"] } }] });
    for tenant in &tenants {
        tenant.apply(&[monitor("opaque", &opaque)]).await?;
        tenant
            .until("opaque", "that its source is read", SOON, |monitor| {
                monitor.says("Ready", "True", "Monitoring")
            })
            .await?;
    }
    collections.push("secrets type=Opaque");
    are_watched(cluster, mark, &stage.account, &collections).await?;
    Ok(())
}

/// As where an Ingress isn't among what the API server knows.
#[tokio::test]
async fn a_kind_that_is_not_installed_is_a_state_that_heals_when_it_is() -> Result<()> {
    let proxy = Proxy::start(Cluster::shared().await?.access()).await?;
    let installed = Arc::new(AtomicBool::new(false));
    let is_installed = Arc::clone(&installed);
    proxy.rule(move |request, step| {
        let meant = step == Step::Request && request.resource == "ingresses" && !is_installed.load(Ordering::SeqCst);
        meant.then_some(Verdict::Status(404))
    });
    let stage = Stage::set("kinds", |operator| {
        let through = proxy.kubeconfig(operator.kubeconfig()).expect("the harness wrote it");
        operator.with_kubeconfig(&through)
    })
    .await?;
    let web = json!({ "name": "web", "ingresses": { "targets": ["Secret"] } });
    let tls = json!({ "name": "tls", "secrets": {} });
    stage
        .apply(&[
            ninety_days(&Authority::new("Story CA")?, "shop-tls", "shop.example.com", -1)?,
            monitor("both", &json!({ "sources": [web, tls] })),
            monitor("tls", &json!({ "sources": [tls] })),
        ])
        .await?;
    let seen = stage
        .until("both", "SourceUnavailable", |monitor| {
            monitor.says("Ready", "False", "SourceUnavailable")
        })
        .await?;
    ensure!(seen.message("Ready").contains("not installed"), "{seen:?}");
    ensure!(
        seen.has_problem(&["Secret/shop-tls", "Expired"]),
        "the other source: {seen:?}"
    );
    stage
        .until("tls", "that it works", |monitor| {
            monitor.says("Ready", "True", "Monitoring") && monitor.says("Healthy", "False", "Expired")
        })
        .await?;
    installed.store(true, Ordering::SeqCst);
    stage
        .until("both", "that it works", |monitor| {
            monitor.says("Ready", "True", "Monitoring")
        })
        .await?;
    Ok(())
}

/// What `/healthz` and `/readyz` say.
async fn health(operator: &Operator) -> Result<(u16, u16)> {
    let (live, _) = get(operator.address(), "/healthz").await?;
    let (ready, _) = get(operator.address(), "/readyz").await?;
    Ok((live, ready))
}

#[tokio::test]
async fn it_is_alive_at_once_and_ready_once_it_has_read_what_it_watches() -> Result<()> {
    let proxy = Proxy::start(Cluster::shared().await?.access()).await?;
    let mut stage = Stage::set("ready", |operator| {
        let through = proxy.kubeconfig(operator.kubeconfig()).expect("the harness wrote it");
        operator.with_kubeconfig(&through)
    })
    .await?;
    ensure!(health(&stage.operator).await? == (200, 200));
    stage
        .apply(&[monitor(
            "shop",
            &json!({ "sources": [{ "name": "tls", "secrets": {} }] }),
        )])
        .await?;
    stage
        .until("shop", "that it works", |monitor| {
            monitor.says("Ready", "True", "Monitoring")
        })
        .await?;

    // The same again, while the lists of Secrets don't come.
    let held = Arc::new(AtomicBool::new(true));
    let is_held = Arc::clone(&held);
    proxy.rule(move |request, step| {
        let meant = step == Step::Request && request.resource == "secrets" && is_held.load(Ordering::SeqCst);
        meant.then_some(Verdict::Silence)
    });
    let lists = Matching::new(&["list", "watch"], "secrets");
    let before = proxy.requests(&lists).len();
    stage.operator.restart()?;
    proxy.wait_for_requests(&lists, before + 1, SOON).await?;
    let (live, ready) = health(&stage.operator).await?;
    ensure!((live, ready) == (200, 503), "/healthz {live}, /readyz {ready}");
    held.store(false, Ordering::SeqCst);
    proxy.break_connections().await?;
    stage.operator.ready().await?;
    ensure!(health(&stage.operator).await? == (200, 200));

    // An API server that is away later is no reason to be restarted.
    proxy.gone().await;
    ensure!(health(&stage.operator).await? == (200, 200));
    Ok(())
}
