//! `samples/`: each applies as it is, and does what its comments say, as far as that can be seen without the Internet.

use super::{Monitor, Stage, ca_config_map, of_ninety_days, tls_secret};
use anyhow::{Context as _, Result, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use certmon_e2e::{Authority, Leaf, Validity, repository};
use chrono::{TimeDelta, Utc};
use serde_json::{Value, json};

/// The objects of a sample. Its silences end at dates that will be past one day: they are moved to the next century.
fn sample(name: &str) -> Result<Vec<Value>> {
    let path = repository().join("samples").join(name);
    let text = std::fs::read_to_string(&path).with_context(|| path.display().to_string())?;
    let text = text.replace("\"2027-", "\"2127-");
    let documents = text.split("\n---").map(serde_saphyr::from_str::<Value>);
    Ok(documents.collect::<Result<_, _>>()?)
}

#[tokio::test]
async fn every_sample_applies_and_its_monitor_works() -> Result<()> {
    let stage = Stage::set("samples", |operator| operator).await?;
    let mut names = Vec::new();
    for entry in std::fs::read_dir(repository().join("samples"))? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        let objects = sample(&name)?;
        stage.apply(&objects).await.with_context(|| name.clone())?;
        let monitors = objects.iter().filter(|object| object["kind"] == "CertificateMonitor");
        names.extend(monitors.filter_map(|object| object["metadata"]["name"].as_str().map(str::to_owned)));
    }
    ensure!(names.len() >= 6, "{names:?}");
    for name in names {
        let monitor = stage
            .until(&name, "that it was read", |monitor| {
                monitor.0["status"]["observedGeneration"].is_i64() && monitor.condition("Ready")["status"] != "Unknown"
            })
            .await?;
        assert!(monitor.condition("Stalled").is_null(), "{name}: {monitor:?}");
        // One says itself that it waits for its root.
        let expected = if name == "mesh-identities" {
            "ReferenceNotFound"
        } else {
            "Monitoring"
        };
        assert_eq!(monitor.condition("Ready")["reason"], expected, "{name}: {monitor:?}");
    }
    Ok(())
}

#[tokio::test]
async fn the_sample_of_secrets_compares_keys_and_searches_other_types() -> Result<()> {
    let stage = Stage::set("s-secrets", |operator| operator).await?;
    let authority = Authority::new("Story CA")?;
    let issue = |name| authority.issue(&Leaf::for_names([name]).valid(of_ninety_days(60)));
    let mut mixed = tls_secret(&issue("shop.example.com")?.secret("shop-tls"));
    mixed["data"]["tls.key"] = STANDARD.encode(issue("other.example.com")?.key_pem()).into();
    let keystore = json!({
        "apiVersion": "v1", "kind": "Secret", "type": "Opaque",
        "metadata": { "name": "store", "labels": { "certificates": "yes" } },
        "stringData": {
            "server.pem": authority.issue(&Leaf::for_names(["store.example.com"]).valid(of_ninety_days(-1)))?.chain_pem(),
            "notes.pem": "no certificate: a pattern only searches",
        },
    });
    stage.apply(&[mixed, keystore]).await?;
    stage.apply(&sample("secrets.yaml")?).await?;
    let monitor = stage
        .until("secrets", "both", |monitor| {
            monitor.has_problem(&["Secret/shop-tls", "KeyMismatch"])
                && monitor.has_problem(&["Secret/store server.pem", "Expired"])
        })
        .await?;
    assert_eq!(monitor.count("total"), 2, "{monitor:?}");
    Ok(())
}

#[tokio::test]
async fn the_sample_of_short_lives_waits_for_its_root_and_counts_in_percent() -> Result<()> {
    let stage = Stage::set("s-short", |operator| operator).await?;
    let root = Authority::new("Corp Root")?;
    let of_a_day = |name: &str, hours: i64| {
        let not_after = Utc::now() + TimeDelta::hours(hours);
        let not_before = not_after - TimeDelta::hours(24);
        let leaf = Leaf::for_names([name]).valid(Validity { not_before, not_after });
        let mut secret = tls_secret(&root.issue(&leaf)?.secret(name));
        secret["metadata"]["labels"] = json!({ "pki.example.com/issued": "true" });
        anyhow::Ok(secret)
    };
    stage
        .apply(&[of_a_day("fresh", 20)?, of_a_day("warned", 5)?, of_a_day("critical", 2)?])
        .await?;
    stage.apply(&sample("short-lived.yaml")?).await?;
    let waits = |monitor: &Monitor| monitor.says("Ready", "False", "ReferenceNotFound");
    stage
        .until("mesh-identities", "that its root is missing", waits)
        .await?;
    stage.apply(&[ca_config_map("corp-ca", &root.pem())]).await?;
    let monitor = stage
        .until("mesh-identities", "each level", |monitor| {
            monitor.says("Ready", "True", "Monitoring")
                && monitor.has_problem(&["Secret/warned", "ExpiringSoon"])
                && monitor.has_problem(&["Secret/critical", "ExpiryCritical"])
        })
        .await?;
    assert_eq!((monitor.count("ok"), monitor.problems().len()), (1, 2), "{monitor:?}");
    Ok(())
}

#[tokio::test]
async fn the_sample_of_silences_counts_what_it_silences() -> Result<()> {
    let stage = Stage::set("s-silences", |operator| operator).await?;
    let authority = Authority::new("Story CA")?;
    let secret = |name: &str, left| {
        let leaf = Leaf::for_names(["legacy.example.com"]).valid(of_ninety_days(left));
        anyhow::Ok(tls_secret(&authority.issue(&leaf)?.secret(name)))
    };
    stage
        .apply(&[
            secret("legacy-soon", 15)?,
            secret("legacy-late", 3)?,
            secret("shop-soon", 15)?,
        ])
        .await?;
    stage.apply(&sample("silences.yaml")?).await?;
    let monitor = stage
        .until("with-silences", "what isn't silenced", |monitor| {
            monitor.has_problem(&["Secret/legacy-late", "ExpiryCritical"])
                && monitor.has_problem(&["Secret/shop-soon", "ExpiringSoon"])
                && monitor.count("silenced") >= 1
        })
        .await?;
    assert!(!monitor.has_problem(&["Secret/legacy-soon"]), "{monitor:?}");
    Ok(())
}
