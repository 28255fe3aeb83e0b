//! Ingresses: what is stored, and what is served from the address in their status.

use super::{Monitor, Stage, monitor, ninety_days, of_ninety_days, tls_secret};
use anyhow::{Result, anyhow};
use certmon_e2e::tls::TlsServer;
use certmon_e2e::{Authority, DnsServer, Leaf, egress_policy};
use k8s_openapi::api::networking::v1::Ingress;
use kube::Api;
use kube::api::{Patch, PatchParams};
use serde_json::{Value, json};

const HOST: &str = "shop.example.com";

fn ingress(name: &str, host: &str, secret: &str) -> Value {
    let backend = json!({ "service": { "name": "web", "port": { "number": 80 } } });
    let paths = json!([{ "path": "/", "pathType": "Prefix", "backend": backend }]);
    json!({
        "apiVersion": "networking.k8s.io/v1",
        "kind": "Ingress",
        "metadata": { "name": name },
        "spec": {
            "tls": [{ "hosts": [host], "secretName": secret }],
            "rules": [{ "host": host, "http": { "paths": paths } }],
        },
    })
}

/// Writes into an Ingress's status that it answers at these ports of 127.0.0.1, as its controller would.
async fn answers_at(stage: &Stage, name: &str, ports: &[u16]) -> Result<()> {
    let addresses: Vec<Value> = ports
        .iter()
        .map(|port| json!({ "ip": "127.0.0.1", "ports": [{ "port": port, "protocol": "TCP" }] }))
        .collect();
    let status = json!({ "status": { "loadBalancer": { "ingress": addresses } } });
    let ingresses: Api<Ingress> = Api::namespaced(stage.namespace.client(), stage.namespace.name());
    ingresses
        .patch_status(name, &PatchParams::default(), &Patch::Merge(&status))
        .await?;
    Ok(())
}

/// Watches every Ingress; whom the servers' certificates lead to is another story.
fn watching() -> Value {
    let spec = json!({
        "sources": [{ "name": "web", "ingresses": {} }],
        "checks": { "chain": "Ignore" },
        "probe": { "failureThreshold": 1 },
    });
    monitor("shop", &spec)
}

fn is_fine(monitor: &Monitor) -> bool {
    monitor.says("Healthy", "True", "AllValid")
}

#[tokio::test]
async fn what_is_served_is_compared_with_what_is_stored() -> Result<()> {
    let authority = Authority::new("Story CA")?;
    let leaf = |left| Leaf::for_names([HOST]).valid(of_ninety_days(left));
    let first = authority.issue(&leaf(60))?;
    let server = TlsServer::start(&first).await?;
    let stage = Stage::set("served", |operator| {
        operator.egress_policy(egress_policy([server.port()]))
    })
    .await?;
    stage
        .apply(&[
            tls_secret(&first.secret("shop-tls")),
            ingress("web", HOST, "shop-tls"),
            watching(),
        ])
        .await?;
    answers_at(&stage, "web", &[server.port()]).await?;
    let monitor = stage
        .until("shop", "AllValid of one certificate", |monitor| {
            is_fine(monitor) && monitor.count("total") == 1
        })
        .await?;
    assert_eq!(monitor.count("ok"), 1, "stored and served are one: {monitor:?}");
    assert!(server.server_names().contains(&Some(HOST.to_owned())));

    // Renewed, and not reloaded yet: in status as soon as it was seen twice, told only after the grace.
    let second = authority.issue(&leaf(90))?;
    stage.apply(&[tls_secret(&second.secret("shop-tls"))]).await?;
    stage.annotate("shop", "certmon.dev/check-requested-at=1").await?;
    let monitor = stage
        .until("shop", "ServedCertificateDiffers", |monitor| {
            monitor.says("Healthy", "False", "ServedCertificateDiffers")
        })
        .await?;
    assert!(monitor.has_problem(&["Ingress/web", HOST]), "{monitor:?}");
    server.present(&second)?;
    stage.annotate("shop", "certmon.dev/check-requested-at=2").await?;
    stage.until("shop", "AllValid again", is_fine).await?;
    let events = stage.events(&["MonitoringStarted"]).await?;
    assert!(
        !events.contains("ServedCertificateDiffers"),
        "told within its grace: {events}"
    );
    Ok(())
}

#[tokio::test]
async fn who_describes_the_ingress_sees_what_is_wrong_with_it() -> Result<()> {
    let authority = Authority::new("Story CA")?;
    let server = TlsServer::start(&authority.issue(&Leaf::for_names(["other.example.com"]))?).await?;
    let stage = Stage::set("mirrored", |operator| {
        operator.egress_policy(egress_policy([server.port()]))
    })
    .await?;
    let stored = authority.issue(&Leaf::for_names([HOST]))?;
    stage
        .apply(&[
            tls_secret(&stored.secret("shop-tls")),
            ingress("web", HOST, "shop-tls"),
            watching(),
        ])
        .await?;
    answers_at(&stage, "web", &[server.port()]).await?;
    let told = ["HostnameMismatch", "other.example.com"];
    stage.shows(&["describe", "ingress", "web"], &told).await?;
    Ok(())
}

#[tokio::test]
async fn an_ingress_without_address_and_secret_heals_as_they_come() -> Result<()> {
    let authority = Authority::new("Story CA")?;
    let identity = authority.issue(&Leaf::for_names([HOST]))?;
    let server = TlsServer::start(&identity).await?;
    let stage = Stage::set("fresh", |operator| {
        operator.egress_policy(egress_policy([server.port()]))
    })
    .await?;
    stage.apply(&[ingress("web", HOST, "shop-tls"), watching()]).await?;
    stage
        .until("shop", "what is missing", |monitor| {
            monitor.has_problem(&["Secret/shop-tls", "SecretMissing", "is named by Ingress/web"])
        })
        .await?;

    // Of a type that no source asks for: read by its name all the same.
    let mut opaque = tls_secret(&identity.secret("shop-tls"));
    opaque["type"] = "Opaque".into();
    stage.apply(&[opaque]).await?;
    stage
        .until("shop", "that the Secret is there", |monitor| {
            !monitor.has_problem(&["SecretMissing"]) && monitor.0["status"]["nextExpiry"].is_object()
        })
        .await?;
    let empty = json!({ "status": { "loadBalancer": { "ingress": [{}] } } });
    let ingresses: Api<Ingress> = Api::namespaced(stage.namespace.client(), stage.namespace.name());
    ingresses
        .patch_status("web", &PatchParams::default(), &Patch::Merge(&empty))
        .await?;
    stage
        .until("shop", "NoAddress", |monitor| {
            monitor.has_problem(&["Ingress/web", "NoAddress"])
        })
        .await?;
    answers_at(&stage, "web", &[server.port()]).await?;
    stage.until("shop", "AllValid", is_fine).await.map(drop)
}

#[tokio::test]
async fn two_addresses_that_serve_different_certificates_are_seen() -> Result<()> {
    let authority = Authority::new("Story CA")?;
    let stored = authority.issue(&Leaf::for_names([HOST]).valid(of_ninety_days(80)))?;
    let old = authority.issue(&Leaf::for_names([HOST]).valid(of_ninety_days(60)))?;
    let (new_server, old_server) = (TlsServer::start(&stored).await?, TlsServer::start(&old).await?);
    let ports = [new_server.port(), old_server.port()];
    let stage = Stage::set("mixed", |operator| operator.egress_policy(egress_policy(ports))).await?;
    stage
        .apply(&[
            tls_secret(&stored.secret("shop-tls")),
            ingress("web", HOST, "shop-tls"),
            watching(),
        ])
        .await?;
    answers_at(&stage, "web", &ports).await?;
    stage
        .until("shop", "that all was looked at", |monitor| {
            monitor.count("unknown") == 0 && monitor.count("total") > 0
        })
        .await?;
    stage.annotate("shop", "certmon.dev/check-requested-at=1").await?;
    stage
        .until("shop", "InconsistentServers", |monitor| {
            monitor.has_problem(&["Ingress/web", "InconsistentServers"])
        })
        .await?;
    old_server.present(&stored)?;
    stage.annotate("shop", "certmon.dev/check-requested-at=2").await?;
    stage.until("shop", "AllValid", is_fine).await.map(drop)
}

/// A stored certificate for another host is seen where nothing is dialled; a host without TLS is no target.
#[tokio::test]
async fn a_stored_certificate_must_cover_the_host() -> Result<()> {
    let stage = Stage::set("stored", |operator| operator).await?;
    let authority = Authority::new("Story CA")?;
    let spec = json!({ "sources": [{ "name": "web", "ingresses": { "targets": ["Secret"] } }] });
    let mut plain = ingress("plain", "plain.example.com", "none");
    let _tls = plain["spec"]
        .as_object_mut()
        .ok_or_else(|| anyhow!("an object"))?
        .remove("tls");
    stage
        .apply(&[
            ninety_days(&authority, "shop-tls", "other.example.com", 60)?,
            ingress("web", HOST, "shop-tls"),
            plain,
            monitor("shop", &spec),
        ])
        .await?;
    let monitor = stage
        .until("shop", "HostnameMismatch", |monitor| {
            monitor.says("Healthy", "False", "HostnameMismatch")
        })
        .await?;
    assert!(!format!("{:?}", monitor.0).contains("plain.example.com"), "{monitor:?}");
    stage.apply(&[ninety_days(&authority, "shop-tls", HOST, 60)?]).await?;
    stage.until("shop", "AllValid", is_fine).await.map(drop)
}

/// Writes into an Ingress's status that it answers at 127.0.0.1, without a port.
async fn answers_without_a_port(stage: &Stage, name: &str) -> Result<()> {
    let status = json!({ "status": { "loadBalancer": { "ingress": [{ "ip": "127.0.0.1" }] } } });
    let ingresses: Api<Ingress> = Api::namespaced(stage.namespace.client(), stage.namespace.name());
    ingresses
        .patch_status(name, &PatchParams::default(), &Patch::Merge(&status))
        .await?;
    Ok(())
}

/// Three servers, each with another end: which one was dialled is seen in the status.
#[tokio::test]
async fn what_is_dialled_comes_from_the_status_or_from_dns_with_the_port_of_either() -> Result<()> {
    let authority = Authority::new("Story CA")?;
    let ending = |left| authority.issue(&Leaf::for_names([HOST]).valid(of_ninety_days(left)));
    let of_status = TlsServer::start(&ending(15)?).await?;
    let of_port = TlsServer::start(&ending(3)?).await?;
    let of_dns = TlsServer::start_on(([127, 0, 0, 2], of_port.port()).into(), &ending(-2)?).await?;
    let dns = DnsServer::start().await?;
    dns.name(HOST, [of_dns.address().ip()]);
    let stage = Stage::set("connect", |operator| {
        let operator = operator.dns_server(dns.address().to_string());
        operator.egress_policy(egress_policy([of_status.port(), of_port.port()]))
    })
    .await?;
    let connecting = |name, connect: &str| {
        let ingresses = json!({ "targets": ["Endpoint"], "connect": connect, "port": of_port.port() });
        let spec = json!({
            "sources": [{ "name": "web", "ingresses": ingresses }],
            "checks": { "chain": "Ignore" },
            "probe": { "failureThreshold": 1 },
        });
        monitor(name, &spec)
    };
    stage.apply(&[ingress("web", HOST, "shop-tls")]).await?;
    answers_at(&stage, "web", &[of_status.port()]).await?;
    stage
        .apply(&[connecting("by-status", "Status"), connecting("by-dns", "DNS")])
        .await?;
    let says = |finding: &'static str| move |monitor: &Monitor| monitor.says("Healthy", "False", finding);
    stage
        .until("by-status", "what the status's port serves", says("ExpiringSoon"))
        .await?;
    stage
        .until("by-dns", "what is served where DNS leads", says("Expired"))
        .await?;
    assert_eq!(of_port.connections(), 0);

    // An address without a port: the spec's.
    answers_without_a_port(&stage, "web").await?;
    stage
        .until("by-status", "what the spec's port serves", says("ExpiryCritical"))
        .await?;

    // No address at all: what DNS says.
    answers_at(&stage, "web", &[]).await?;
    stage
        .until("by-status", "what is served where DNS leads", says("Expired"))
        .await?;
    for server in [&of_status, &of_port, &of_dns] {
        let names = server.server_names();
        assert!(names.iter().all(|name| name.as_deref() == Some(HOST)), "{names:?}");
    }
    Ok(())
}
