//! `trust`: whom a monitor believes, and what happens while that can't be read.

use super::{Monitor, Stage, ca_config_map, monitor, of_ninety_days, text_secret, tls_secret};
use anyhow::Result;
use certmon_e2e::tls::TlsServer;
use certmon_e2e::{Authority, Leaf, egress_policy};
use serde_json::{Value, json};

fn trusting(source: &Value) -> Value {
    let spec = json!({
        "sources": [source],
        "trust": { "wellKnownCACertificates": "None", "caCertificateRefs": [{ "name": "corp-ca" }] },
    });
    monitor("shop", &spec)
}

fn is_fine(monitor: &Monitor) -> bool {
    monitor.says("Healthy", "True", "AllValid") && monitor.says("Ready", "True", "Monitoring")
}

fn is_unread(monitor: &Monitor) -> bool {
    monitor.says("Ready", "False", "ReferenceNotFound") && monitor.says("Healthy", "Unknown", "ReferenceNotFound")
}

/// What is stored and what is served, by the same steps.
async fn follows_the_config_map(stage: &Stage, authority: &Authority, source: Value) -> Result<()> {
    stage.apply(&[trusting(&source)]).await?;
    let monitor = stage.until("shop", "that the ConfigMap is missing", is_unread).await?;
    assert!(
        monitor.message("Ready").contains("corp-ca") && monitor.message("Ready").contains("does not exist"),
        "{monitor:?}"
    );
    stage.apply(&[ca_config_map("corp-ca", "")]).await?;
    stage
        .until("shop", "that the ConfigMap holds nothing", |monitor| {
            is_unread(monitor) && !monitor.message("Ready").contains("does not exist")
        })
        .await?;
    stage.apply(&[ca_config_map("corp-ca", &authority.pem())]).await?;
    stage.until("shop", "that the certificate is trusted", is_fine).await?;
    // Another root: what was judged by the old one is judged again, at once.
    stage
        .apply(&[ca_config_map("corp-ca", &Authority::new("Another CA")?.pem())])
        .await?;
    stage
        .until("shop", "UntrustedIssuer", |monitor| {
            monitor.says("Healthy", "False", "UntrustedIssuer")
        })
        .await?;
    stage.events(&["ReferenceNotFound", "UntrustedIssuer"]).await?;
    stage.apply(&[ca_config_map("corp-ca", &authority.pem())]).await?;
    stage.until("shop", "that it is trusted again", is_fine).await?;
    stage.kubectl(&["delete", "configmap", "corp-ca"]).await?;
    stage.until("shop", "that it is gone", is_unread).await?;
    Ok(())
}

#[tokio::test]
async fn stored_chains_follow_the_config_map_that_is_trusted() -> Result<()> {
    let stage = Stage::set("trust-stored", |operator| operator).await?;
    let authority = Authority::new("Corp CA")?;
    let intermediate = authority.intermediate("Corp Intermediate", of_ninety_days(80))?;
    let identity = intermediate.issue(&Leaf::for_names(["shop.example.com"]).valid(of_ninety_days(60)))?;
    stage.apply(&[tls_secret(&identity.secret("shop-tls"))]).await?;
    follows_the_config_map(&stage, &authority, json!({ "name": "tls", "secrets": {} })).await?;
    // The gap is named where the intermediate is missing.
    stage
        .apply(&[
            ca_config_map("corp-ca", &authority.pem()),
            tls_secret(&identity.without_intermediates().secret("shop-tls")),
        ])
        .await?;
    stage
        .until("shop", "that the chain leads nowhere", |monitor| {
            monitor.says("Healthy", "False", "UntrustedIssuer") || monitor.says("Healthy", "False", "IncompleteChain")
        })
        .await?;
    Ok(())
}

#[tokio::test]
async fn served_chains_follow_the_config_map_that_is_trusted() -> Result<()> {
    let authority = Authority::new("Corp CA")?;
    let server = TlsServer::start(&authority.issue(&Leaf::for_names(["shop.example.com"]))?).await?;
    let port = server.port();
    let stage = Stage::set("trust-served", |operator| operator.egress_policy(egress_policy([port]))).await?;
    let endpoint = json!({ "host": "127.0.0.1", "port": port, "serverName": "shop.example.com" });
    follows_the_config_map(&stage, &authority, json!({ "name": "public", "endpoints": [endpoint] })).await
}

/// A Secret of any type, with a key of its own name; the system's roots beside it change nothing for what it vouches for.
#[tokio::test]
async fn a_secret_is_trusted_as_a_config_map_is_beside_the_systems_roots() -> Result<()> {
    let authority = Authority::new("Corp CA")?;
    let issued = || authority.issue(&Leaf::for_names(["shop.example.com"]).valid(of_ninety_days(60)));
    let server = TlsServer::start(&issued()?).await?;
    let stage = Stage::set("trust-secret", |operator| {
        operator.egress_policy(egress_policy([server.port()]))
    })
    .await?;
    let trusting = |name, well_known: &str, references: &Value| {
        let endpoint = json!({ "host": "127.0.0.1", "port": server.port(), "serverName": "shop.example.com" });
        let spec = json!({
            "sources": [{ "name": "tls", "secrets": {} }, { "name": "public", "endpoints": [endpoint] }],
            "trust": { "wellKnownCACertificates": well_known, "caCertificateRefs": references },
        });
        monitor(name, &spec)
    };
    let of_secret = json!([{ "kind": "Secret", "name": "corp-ca", "key": "root.pem" }]);
    stage
        .apply(&[
            tls_secret(&issued()?.secret("shop-tls")),
            trusting("own", "None", &of_secret),
            trusting("both", "System", &of_secret),
            trusting("system", "System", &json!([])),
        ])
        .await?;
    for name in ["own", "both"] {
        let monitor = stage.until(name, "that the Secret is missing", is_unread).await?;
        let message = monitor.message("Ready");
        assert!(message.contains("Secret") && message.contains("corp-ca"), "{message}");
    }
    let keyless = text_secret("corp-ca", "Opaque", &json!({ "other.pem": authority.pem() }));
    stage.apply(&[keyless]).await?;
    for name in ["own", "both"] {
        stage
            .until(name, "that the key is missing", |monitor| {
                is_unread(monitor) && monitor.message("Ready").contains("root.pem")
            })
            .await?;
    }
    let whole = text_secret("corp-ca", "Opaque", &json!({ "root.pem": authority.pem() }));
    stage.apply(&[whole]).await?;
    for name in ["own", "both"] {
        let monitor = stage.until(name, "that all is trusted", is_fine).await?;
        assert_eq!(monitor.count("ok"), 2, "{monitor:?}");
    }
    // The positive control: the system's roots alone don't vouch for it.
    stage
        .until("system", "UntrustedIssuer", |monitor| {
            monitor.says("Healthy", "False", "UntrustedIssuer") && monitor.count("warning") == 2
        })
        .await?;
    let foreign = Authority::new("Another CA")?.pem();
    let changed = text_secret("corp-ca", "Opaque", &json!({ "root.pem": foreign }));
    stage.apply(&[changed]).await?;
    for name in ["own", "both"] {
        stage
            .until(name, "UntrustedIssuer of both", |monitor| {
                monitor.says("Healthy", "False", "UntrustedIssuer") && monitor.count("warning") == 2
            })
            .await?;
    }
    Ok(())
}
