//! Bounds that a spec sets: how many certificates a monitor checks, and how many a source must yield.

use super::{Monitor, Stage, monitor, ninety_days};
use anyhow::Result;
use certmon_e2e::Authority;
use serde_json::{Value, json};

fn limited(max: u32) -> Value {
    let spec = json!({ "sources": [{ "name": "tls", "secrets": {} }], "limits": { "maxCertificates": max } });
    monitor("shop", &spec)
}

#[tokio::test]
async fn past_its_limit_a_monitor_works_on_and_keeps_to_what_is_wrong() -> Result<()> {
    let stage = Stage::set("limits", |operator| operator).await?;
    let authority = Authority::new("Story CA")?;
    let secret = |letter: char, left| {
        ninety_days(
            &authority,
            &format!("{letter}-tls"),
            &format!("{letter}.example.com"),
            left,
        )
    };
    let mut objects = vec![limited(10), secret('z', -2)?];
    for letter in ['a', 'b', 'c', 'd'] {
        objects.push(secret(letter, 60)?);
    }
    stage.apply(&objects).await?;
    stage
        .until("shop", "Expired of one in five", |monitor| {
            monitor.count("total") == 5 && monitor.has_problem(&["Secret/z-tls", "Expired"])
        })
        .await?;

    // The last by name has an open alert: it stays, with the first of the others.
    stage.apply(&[limited(2)]).await?;
    let seen = stage
        .until("shop", "LimitExceeded", |monitor| {
            monitor.count("unchecked") == 3 && monitor.has_problem(&["LimitExceeded"])
        })
        .await?;
    assert!(seen.says("Ready", "True", "Monitoring"), "{seen:?}");
    assert!(seen.says("Healthy", "False", "Expired"), "{seen:?}");
    assert!(seen.has_problem(&["Secret/z-tls", "Expired"]), "{seen:?}");
    assert!(
        seen.has_problem(&["watches 5 certificates, and 2 may be checked"]),
        "{seen:?}"
    );
    stage.events(&["LimitExceeded"]).await?;

    // What isn't checked is nobody's problem; what is checked is noticed when it heals, and then leaves its place.
    stage.apply(&[secret('d', -1)?, secret('z', 80)?]).await?;
    let healed = stage
        .until("shop", "LimitExceeded alone", |monitor| {
            monitor.says("Healthy", "False", "LimitExceeded") && monitor.problems().len() == 1
        })
        .await?;
    assert!(!healed.has_problem(&["Secret/d-tls"]), "{healed:?}");
    stage.events(&["Renewed"]).await?;

    stage.apply(&[limited(5)]).await?;
    stage
        .until("shop", "Expired, and no limit", |monitor: &Monitor| {
            monitor.count("unchecked") == 0
                && monitor.has_problem(&["Secret/d-tls", "Expired"])
                && !monitor.has_problem(&["LimitExceeded"])
        })
        .await?;
    Ok(())
}

#[tokio::test]
async fn a_source_with_fewer_certificates_than_it_must_have_is_a_finding_that_heals() -> Result<()> {
    let stage = Stage::set("fewer", |operator| operator).await?;
    let authority = Authority::new("Story CA")?;
    let spec = json!({ "sources": [
        { "name": "tls", "minCertificates": 2, "secrets": {} },
        { "name": "any", "secrets": {} },
    ]});
    stage
        .apply(&[
            ninety_days(&authority, "one", "one.example.com", 60)?,
            monitor("shop", &spec),
        ])
        .await?;
    let seen = stage
        .until("shop", "TooFewCertificates", |monitor| {
            monitor.says("Healthy", "False", "TooFewCertificates")
        })
        .await?;
    assert!(
        seen.has_problem(&["tls", "has 1 of at least 2 certificates"]),
        "{seen:?}"
    );
    assert!(
        seen.says("Ready", "True", "Monitoring") && seen.problems().len() == 1,
        "{seen:?}"
    );
    stage
        .apply(&[ninety_days(&authority, "two", "two.example.com", 60)?])
        .await?;
    stage
        .until("shop", "AllValid", |monitor| {
            monitor.says("Healthy", "True", "AllValid")
        })
        .await?;
    stage.kubectl(&["delete", "secret", "one"]).await?;
    stage
        .until("shop", "TooFewCertificates again", |monitor| {
            monitor.says("Healthy", "False", "TooFewCertificates")
        })
        .await?;
    Ok(())
}
