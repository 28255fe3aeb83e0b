//! What is dialled because a spec says so.

use super::{Stage, ca_config_map, monitor, of_ninety_days};
use anyhow::{Result, ensure};
use certmon_e2e::tls::{BadServer, Misbehaviour, TlsServer};
use certmon_e2e::{Authority, Leaf, egress_policy};
use serde_json::{Value, json};
use std::time::Duration;

fn endpoint(port: u16) -> Value {
    json!({ "host": "127.0.0.1", "port": port, "serverName": "shop.example.com" })
}

#[tokio::test]
async fn each_server_gets_the_finding_that_it_deserves() -> Result<()> {
    let authority = Authority::new("Story CA")?;
    let named = |left| Leaf::for_names(["shop.example.com"]).valid(of_ninety_days(left));
    let fine = TlsServer::start(&authority.issue(&named(60))?).await?;
    let ending = TlsServer::start(&authority.issue(&named(3))?).await?;
    let expired = TlsServer::start(&authority.issue(&named(-2))?).await?;
    let misnamed = TlsServer::start(&authority.issue(&Leaf::for_names(["other.example.com"]))?).await?;
    let foreign = TlsServer::start(&Authority::new("Foreign CA")?.issue(&named(60))?).await?;
    let silent = BadServer::start(Misbehaviour::Silent).await?;
    let garbage = BadServer::start(Misbehaviour::Says(b"SSH-2.0-not-tls\r\n".to_vec())).await?;
    let drips = BadServer::start(Misbehaviour::Drips(vec![22, 3, 3, 64, 0], Duration::from_millis(300))).await?;
    let expected = [
        (ending.port(), "ExpiryCritical"),
        (expired.port(), "Expired"),
        (misnamed.port(), "HostnameMismatch"),
        (foreign.port(), "UntrustedIssuer"),
        (silent.port(), "Unreachable"),
        (garbage.port(), "Unreachable"),
        (drips.port(), "Unreachable"),
    ];
    let ports: Vec<u16> = expected.iter().map(|(port, _)| *port).chain([fine.port()]).collect();
    let stage = Stage::set("servers", |operator| {
        operator.egress_policy(egress_policy(ports.clone()))
    })
    .await?;
    let endpoints: Vec<Value> = ports.iter().map(|port| endpoint(*port)).collect();
    let spec = json!({
        "sources": [{ "name": "public", "endpoints": endpoints }],
        "probe": { "failureThreshold": 1, "timeout": "2s" },
        "trust": { "wellKnownCACertificates": "None", "caCertificateRefs": [{ "name": "story-ca" }] },
    });
    stage
        .apply(&[ca_config_map("story-ca", &authority.pem()), monitor("shop", &spec)])
        .await?;
    let monitor = stage
        .until("shop", "what is wrong with each", |monitor| {
            monitor.count("unknown") == 0 && monitor.count("total") == 8
        })
        .await?;
    assert_eq!(monitor.problems().len(), expected.len(), "{:#?}", monitor.problems());
    for (port, finding) in expected {
        assert!(
            monitor.has_problem(&[&format!("127.0.0.1:{port} "), finding]),
            "{finding} at {port} in {:#?}",
            monitor.problems()
        );
    }
    assert!(!format!("{:?}", monitor.0).contains("SSH-2.0"), "a peer is echoed");
    assert_eq!(monitor.count("ok"), 1);
    for names in [fine.server_names(), expired.server_names()] {
        assert!(
            names.iter().all(|name| name.as_deref() == Some("shop.example.com")),
            "{names:?}"
        );
    }
    Ok(())
}

/// Nothing reaches a listener that the policy doesn't allow, and nobody learns whether there is one.
#[tokio::test]
async fn what_is_not_permitted_is_not_dialled_and_looks_the_same_whatever_is_behind_it() -> Result<()> {
    let authority = Authority::new("Story CA")?;
    // An own address of loopback, so that the port is one that endpoints may use by default.
    let listener = TlsServer::start_on(
        "127.83.7.1:8443".parse()?,
        &authority.issue(&Leaf::for_names(["shop.example.com"]))?,
    )
    .await?;
    let stage = Stage::set("refused", |operator| operator).await?;
    let hosts = [
        "127.83.7.1",
        "127.83.7.2",
        "169.254.169.254",
        "::1",
        "::ffff:127.83.7.1",
        "64:ff9b::7f53:701",
        "0.0.0.0",
        "10.1.2.3",
        "192.168.1.1",
        "fd00::1",
    ];
    let endpoints: Vec<Value> = hosts.iter().map(|host| json!({ "host": host, "port": 8443 })).collect();
    let spec = json!({ "sources": [{ "name": "inside", "endpoints": endpoints }] });
    stage.apply(&[monitor("shop", &spec)]).await?;
    let refused = stage
        .until("shop", "TargetNotPermitted of all", |monitor| {
            monitor.count("warning") == hosts.len() as u64
        })
        .await?;
    let texts: std::collections::BTreeSet<String> = refused
        .problems()
        .iter()
        .filter_map(|problem| {
            problem
                .split_once("TargetNotPermitted")
                .map(|(_, text)| text.to_owned())
        })
        .collect();
    assert_eq!(texts.len(), 1, "{texts:?}");
    assert_eq!(refused.problems().len(), hosts.len());
    // A look that is asked for changes nothing.
    stage.annotate("shop", "certmon.dev/check-requested-at=again").await?;
    stage
        .until("shop", "that it looked again", |monitor| {
            monitor.0["status"]["lastHandledCheckRequest"] == "again"
        })
        .await?;
    assert_eq!(listener.connections(), 0);

    // The positive control: the admin's word changes that, and the operator takes it over as it runs.
    drop(stage);
    let stage = Stage::set("permitted", |operator| operator.egress_policy(egress_policy([8443]))).await?;
    let spec = json!({
        "sources": [{ "name": "inside", "endpoints": [{ "host": "127.83.7.1", "port": 8443 }] }],
        "checks": { "chain": "Ignore", "hostname": "Ignore" },
    });
    stage.apply(&[monitor("shop", &spec)]).await?;
    stage
        .until("shop", "AllValid", |monitor| {
            monitor.says("Healthy", "True", "AllValid")
        })
        .await?;
    ensure!(listener.connections() > 0, "nobody came");
    Ok(())
}

#[tokio::test]
async fn a_check_that_is_asked_for_is_made_at_once_and_echoed() -> Result<()> {
    let authority = Authority::new("Story CA")?;
    let server = TlsServer::start(&authority.issue(&Leaf::for_names(["shop.example.com"]))?).await?;
    let stage = Stage::set("check", |operator| {
        operator.egress_policy(egress_policy([server.port()]))
    })
    .await?;
    let spec = json!({
        "sources": [{ "name": "public", "endpoints": [endpoint(server.port())] }],
        "checks": { "chain": "Ignore" },
    });
    stage.apply(&[monitor("shop", &spec)]).await?;
    stage
        .until("shop", "AllValid", |monitor| {
            monitor.says("Healthy", "True", "AllValid")
        })
        .await?;
    let before = server.connections();
    server.present(&authority.issue(&Leaf::for_names(["shop.example.com"]).valid(of_ninety_days(-2)))?)?;
    stage.annotate("shop", "certmon.dev/check-requested-at=now").await?;
    stage
        .until("shop", "Expired, asked for", |monitor| {
            monitor.says("Healthy", "False", "Expired") && monitor.0["status"]["lastHandledCheckRequest"] == "now"
        })
        .await?;
    assert!(server.connections() > before);

    // A value of any length and any letters is handled once, and echoed in a form that is short and plain.
    let odd = format!("certmon.dev/check-requested-at={}\u{202e}ä", "x".repeat(2000));
    stage.annotate("shop", &odd).await?;
    let echo = |monitor: &super::Monitor| {
        let echo = monitor.0["status"]["lastHandledCheckRequest"].as_str();
        echo.unwrap_or_default().to_owned()
    };
    let handled = stage
        .until("shop", "the odd value's echo", |monitor| {
            echo(monitor).starts_with("xxx")
        })
        .await?;
    let echoed = echo(&handled);
    assert!(
        echoed.len() <= 128 && echoed.bytes().all(|byte| (b' '..=b'~').contains(&byte)),
        "{echoed}"
    );
    Ok(())
}
