//! Stored certificates: which are chosen, and how.

use super::{Stage, monitor, ninety_days, tls_secret};
use anyhow::Result;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use certmon_e2e::{Authority, Leaf};
use serde_json::{Value, json};

#[tokio::test]
async fn a_secret_that_expires_in_three_days_is_seen_in_get_describe_and_events() -> Result<()> {
    let stage = Stage::set("expiry", |operator| operator).await?;
    let authority = Authority::new("Story CA")?;
    let sources = json!([{ "name": "tls", "secrets": {} }]);
    stage
        .apply(&[
            ninety_days(&authority, "checkout-tls", "checkout.example.com", 3)?,
            monitor("shop", &json!({ "sources": sources })),
        ])
        .await?;
    stage.shows(&["get", "certmon"], &["ExpiryCritical", "True"]).await?;
    let described = stage
        .shows(&["describe", "certmon", "shop"], &["Events:", "ExpiryCritical  "])
        .await?;
    assert!(described.contains("1 of 1 certificate needs attention:"), "{described}");
    assert!(
        described.contains("CRITICAL  Secret/checkout-tls tls.crt  checkout.example.com  expires 2"),
        "{described}"
    );

    // A renewal resolves it.
    stage
        .apply(&[ninety_days(&authority, "checkout-tls", "checkout.example.com", 90)?])
        .await?;
    stage.shows(&["get", "certmon"], &["AllValid"]).await?;
    stage.shows(&["events", "--for", "certmon/shop"], &["Renewed"]).await?;
    // Who looks at the Secret sees the same.
    let told = ["ExpiryCritical", "Renewed"];
    stage.shows(&["events", "--for", "secret/checkout-tls"], &told).await?;
    Ok(())
}

/// A Secret of any type with bytes in it.
fn bytes_secret(name: &str, type_: &str, values: &[(&str, &[u8])]) -> Value {
    let data: serde_json::Map<String, Value> = values
        .iter()
        .map(|(key, bytes)| ((*key).to_owned(), STANDARD.encode(bytes).into()))
        .collect();
    json!({ "apiVersion": "v1", "kind": "Secret", "metadata": { "name": name }, "type": type_, "data": data })
}

fn selected(monitor: &super::Monitor, source: &str) -> u64 {
    let sources = monitor.0["status"]["sources"].as_array();
    let mut found = sources.into_iter().flatten();
    found
        .find(|state| state["name"] == source)
        .and_then(|state| state["selected"].as_u64())
        .unwrap_or_default()
}

#[tokio::test]
async fn secrets_are_chosen_by_label_name_type_and_key_in_pem_and_der() -> Result<()> {
    let stage = Stage::set("choice", |operator| operator).await?;
    let authority = Authority::new("Story CA")?;
    let labelled = |name: &str, left: i64| {
        let mut secret = ninety_days(&authority, name, &format!("{name}.example.com"), left)?;
        secret["metadata"]["labels"] = json!({ "team": "shop" });
        anyhow::Ok(secret)
    };
    let der = authority.issue(&Leaf::for_names(["der.example.com"]))?.chain()[0].to_vec();
    let pem = authority.issue(&Leaf::for_names(["pem.example.com"]))?.chain_pem();
    let bundle = format!(
        "{}{}",
        Authority::new("Bundled One")?.pem(),
        Authority::new("Bundled Two")?.pem()
    );
    stage
        .apply(&[
            labelled("by-label", 60)?,
            ninety_days(&authority, "by-name", "by-name.example.com", 60)?,
            ninety_days(&authority, "unchosen", "unchosen.example.com", -1)?,
            bytes_secret(
                "opaque",
                "Opaque",
                &[
                    ("server.der", &der),
                    ("server.pem", pem.as_bytes()),
                    ("roots.pem", bundle.as_bytes()),
                    ("password.pem", b"not a certificate, and searched for only"),
                    ("unasked", b"never read"),
                ],
            ),
            monitor(
                "shop",
                &json!({ "sources": [
                    { "name": "labelled", "secrets": { "selector": { "matchLabels": { "team": "shop" } } } },
                    { "name": "named", "secrets": { "names": ["by-name"] } },
                    { "name": "opaque", "secrets": { "types": ["Opaque"], "keys": ["*.der", "*.pem"] } },
                ]}),
            ),
        ])
        .await?;
    let monitor = stage
        .until("shop", "that all five are fine", |monitor| {
            monitor.says("Healthy", "True", "AllValid") && monitor.count("total") == 5
        })
        .await?;
    let of = |source| selected(&monitor, source);
    assert_eq!((of("labelled"), of("named"), of("opaque")), (1, 1, 3), "{monitor:?}");

    // What a label takes away or brings is followed.
    stage.kubectl(&["label", "secret", "unchosen", "team=shop"]).await?;
    stage
        .until("shop", "Expired", |monitor| {
            monitor.has_problem(&["Secret/unchosen", "Expired"])
        })
        .await?;
    stage.kubectl(&["label", "secret", "unchosen", "team-"]).await?;
    stage
        .until("shop", "AllValid", |monitor| {
            monitor.says("Healthy", "True", "AllValid")
        })
        .await?;
    stage.events(&["Expired", "Resolved", "SelectionChanged"]).await?;
    Ok(())
}

#[tokio::test]
async fn a_named_secret_that_is_missing_or_of_another_type_is_a_state_that_heals() -> Result<()> {
    let stage = Stage::set("named", |operator| operator).await?;
    let authority = Authority::new("Story CA")?;
    let spec = json!({ "sources": [{ "name": "named", "secrets": { "names": ["shop-tls"] } }] });
    stage.apply(&[monitor("shop", &spec)]).await?;
    let missing = |monitor: &super::Monitor| {
        monitor.says("Ready", "False", "ReferenceNotFound")
            && monitor.has_problem(&["Secret/shop-tls", "SecretMissing"])
    };
    let seen = stage.until("shop", "that it is missing", missing).await?;
    assert!(seen.message("Ready").contains("shop-tls does not exist"), "{seen:?}");
    stage.events(&["ReferenceNotFound"]).await?;

    let mut opaque = ninety_days(&authority, "shop-tls", "shop.example.com", 60)?;
    opaque["type"] = "Opaque".into();
    stage.apply(&[opaque]).await?;
    let other = "exists with type Opaque: list it under `types`";
    stage
        .until("shop", "that it is of another type", |monitor| {
            missing(monitor)
                && monitor.message("Ready").contains(other)
                && monitor.has_problem(&["SecretMissing", other])
        })
        .await?;
    stage.kubectl(&["delete", "secret", "shop-tls"]).await?;
    stage
        .apply(&[ninety_days(&authority, "shop-tls", "shop.example.com", 60)?])
        .await?;
    stage
        .until("shop", "that all is well", |monitor| {
            monitor.says("Ready", "True", "Monitoring") && monitor.says("Healthy", "True", "AllValid")
        })
        .await?;

    // There, but without any of the chosen keys.
    let spec = json!({ "sources": [{ "name": "named", "secrets": { "names": ["shop-tls"], "keys": ["other.crt"] } }] });
    stage.apply(&[monitor("shop", &spec)]).await?;
    stage
        .until("shop", "BadCertificateData", |monitor| {
            monitor.says("Ready", "True", "Monitoring")
                && monitor.has_problem(&["Secret/shop-tls", "BadCertificateData"])
        })
        .await?;
    Ok(())
}

#[tokio::test]
async fn a_key_that_is_another_certificates_is_seen_where_it_is_asked_for() -> Result<()> {
    let stage = Stage::set("keymatch", |operator| operator).await?;
    let authority = Authority::new("Story CA")?;
    let mine = authority.issue(&Leaf::for_names(["shop.example.com"]))?;
    let other = authority.issue(&Leaf::for_names(["other.example.com"]))?;
    let mut mixed = tls_secret(&mine.secret("shop-tls"));
    mixed["data"]["tls.key"] = STANDARD.encode(other.key_pem()).into();
    let sources = json!([{ "name": "tls", "secrets": {} }]);
    stage
        .apply(&[mixed, monitor("shop", &json!({ "sources": sources }))])
        .await?;
    let fine = |monitor: &super::Monitor| monitor.says("Healthy", "True", "AllValid");
    stage.until("shop", "AllValid while nobody asks", fine).await?;
    let asks = json!({ "sources": sources, "checks": { "keyMatch": "Critical" } });
    stage.apply(&[monitor("shop", &asks)]).await?;
    stage
        .until("shop", "KeyMismatch", |monitor| {
            monitor.says("Healthy", "False", "KeyMismatch")
        })
        .await?;
    stage.apply(&[tls_secret(&mine.secret("shop-tls"))]).await?;
    stage.until("shop", "AllValid", fine).await?;
    Ok(())
}
