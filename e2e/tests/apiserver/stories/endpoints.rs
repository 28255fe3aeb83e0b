//! What is dialled because a spec says so.

use super::{SOON, Stage, ca_config_map, monitor, of_ninety_days};
use anyhow::{Result, ensure};
use certmon_e2e::tls::{BadServer, Misbehaviour, TlsServer};
use certmon_e2e::{Authority, Cluster, DnsServer, Identity, Leaf, OperatorBuilder, egress_policy, wait_for};
use serde_json::{Value, json};
use std::net::SocketAddr;
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

/// What was refused was never dialled, so it can't have been unreachable; once it may be, it is, and judged.
#[tokio::test]
async fn what_the_admin_allows_later_is_dialled_and_judged_without_a_restart() -> Result<()> {
    let authority = Authority::new("Story CA")?;
    let server = TlsServer::start(&authority.issue(&Leaf::for_names(["shop.example.com"]))?).await?;
    let expired = Leaf::for_names(["shop.example.com"]).valid(of_ninety_days(-2));
    let bad_server = TlsServer::start(&authority.issue(&expired)?).await?;
    let ports = [server.port(), bad_server.port()];
    let cluster = Cluster::audited().await?;
    cluster.crds().await?;
    let mark = cluster.audit()?.mark()?;
    let shut = |operator: OperatorBuilder| operator.egress_policy(egress_policy([1]));
    let stage = Stage::on(cluster, "allowed", |_rules| {}, shut).await?;
    let spec = json!({
        "sources": [{ "name": "inside", "endpoints": ports.map(endpoint) }],
        "checks": { "chain": "Ignore" },
        "probe": { "failureThreshold": 1 },
    });
    stage.apply(&[monitor("shop", &spec)]).await?;
    stage
        .until("shop", "TargetNotPermitted of both", |monitor| {
            monitor.count("warning") == 2 && monitor.says("Healthy", "False", "TargetNotPermitted")
        })
        .await?;
    assert_eq!((server.connections(), bad_server.connections()), (0, 0));

    stage.operator.replace_egress_policy(&egress_policy(ports))?;
    let monitor = stage
        .until("shop", "what the two serve", |monitor| {
            monitor.says("Healthy", "False", "Expired") && monitor.count("ok") == 1
        })
        .await?;
    assert_eq!(monitor.problems().len(), 1, "{monitor:?}");
    let statuses = cluster.audit()?.since(mark, |event| {
        let object = event.object_ref.clone().unwrap_or_default();
        event.user.username == stage.account && object.subresource == "status" && event.is_write()
    })?;
    assert!(!statuses.is_empty());
    for status in statuses {
        let text = status.request_object.unwrap_or_default().to_string();
        assert!(!text.contains("Unreachable"), "{text}");
    }
    Ok(())
}

#[tokio::test]
async fn of_a_name_all_addresses_are_dialled_or_the_first_as_the_spec_says() -> Result<()> {
    let authority = Authority::new("Story CA")?;
    let named = |left| Leaf::for_names(["shop.example.com"]).valid(of_ninety_days(left));
    let first = TlsServer::start(&authority.issue(&named(60))?).await?;
    let second_address = SocketAddr::new("127.0.0.2".parse()?, first.port());
    let second = TlsServer::start_on(second_address, &authority.issue(&named(-2))?).await?;
    let dns = DnsServer::start().await?;
    dns.name("shop.example.com", [first.address().ip(), second_address.ip()]);
    let stage = Stage::set("addresses", |operator| {
        let operator = operator.dns_server(dns.address().to_string());
        operator.egress_policy(egress_policy([first.port()]))
    })
    .await?;
    let of = |addresses| {
        json!({
            "sources": [{ "name": "public", "endpoints": [{ "host": "shop.example.com", "port": first.port() }] }],
            "checks": { "chain": "Ignore" },
            "probe": { "addresses": addresses, "failureThreshold": 1 },
        })
    };
    stage.apply(&[monitor("first", &of("First"))]).await?;
    stage
        .until("first", "AllValid", |monitor| {
            monitor.says("Healthy", "True", "AllValid")
        })
        .await?;
    assert_eq!((first.connections(), second.connections()), (1, 0));
    stage.apply(&[monitor("all", &of("All"))]).await?;
    let seen = stage
        .until("all", "the worst of both", |monitor| {
            monitor.says("Healthy", "False", "Expired")
        })
        .await?;
    assert!(seen.has_problem(&["shop.example.com", "Expired"]), "{seen:?}");
    assert_eq!((first.connections(), second.connections()), (2, 1));
    Ok(())
}

/// A chain of so many intermediates, each below the one before it.
fn deep(authority: &Authority, levels: usize) -> Result<Identity> {
    let mut issuer = authority.intermediate("Level 0", of_ninety_days(80))?;
    for level in 1..levels {
        issuer = issuer.intermediate(&format!("Level {level}"), of_ninety_days(80))?;
    }
    issuer.issue(&Leaf::for_names(["shop.example.com"]).valid(of_ninety_days(60)))
}

/// While twenty say nothing, and two send more than anybody should, the good one is judged.
#[tokio::test]
async fn servers_that_are_silent_or_talk_too_much_make_no_other_late() -> Result<()> {
    let authority = Authority::new("Story CA")?;
    let good = TlsServer::start(&authority.issue(&Leaf::for_names(["shop.example.com"]))?).await?;
    let long = TlsServer::start(&deep(&authority, 60)?).await?;
    let too_long = TlsServer::start(&deep(&authority, 200)?).await?;
    let mut silent = Vec::new();
    for number in 1..=20 {
        let address = ([127, 0, 1, number], 0).into();
        silent.push(BadServer::start_on(address, Misbehaviour::Silent).await?);
    }
    let mut addresses: Vec<SocketAddr> = silent.iter().map(BadServer::address).collect();
    addresses.extend([long.address(), too_long.address()]);
    let ports: Vec<u16> = addresses.iter().map(SocketAddr::port).chain([good.port()]).collect();
    let stage = Stage::set("late", |operator| operator.egress_policy(egress_policy(ports.clone()))).await?;
    let spec = |addresses: &[SocketAddr], timeout: &str| {
        let endpoint =
            |at: &SocketAddr| json!({ "host": at.ip(), "port": at.port(), "serverName": "shop.example.com" });
        let endpoints: Vec<Value> = addresses.iter().map(endpoint).collect();
        json!({
            "sources": [{ "name": "public", "endpoints": endpoints }],
            "probe": { "failureThreshold": 1, "timeout": timeout },
            "trust": { "wellKnownCACertificates": "None", "caCertificateRefs": [{ "name": "story-ca" }] },
        })
    };
    let bad = monitor("bad", &spec(&addresses, "8s"));
    stage.apply(&[ca_config_map("story-ca", &authority.pem()), bad]).await?;
    wait_for("all of the silent ones to be called", SOON, async || {
        let called = silent.iter().filter(|server| server.connections() > 0).count();
        ensure!(called == silent.len(), "{called}");
        Ok(())
    })
    .await?;
    stage.apply(&[monitor("good", &spec(&[good.address()], "1s"))]).await?;
    stage
        .tenant(&stage.namespace)
        .until("good", "AllValid", Duration::from_secs(5), |monitor| {
            monitor.says("Healthy", "True", "AllValid")
        })
        .await?;
    let seen = stage
        .until("bad", "what is wrong with each", |monitor| {
            monitor.count("warning") >= 21
        })
        .await?;
    let too_long = format!("127.0.0.1:{} ", too_long.port());
    assert!(seen.has_problem(&["Unreachable", "timed out"]), "{seen:?}");
    let metrics = stage.operator.metrics().await?;
    let refused = metrics.lines().any(|line| {
        line.starts_with("certmon_certificate_finding")
            && line.contains(too_long.trim())
            && line.contains("Unreachable")
    });
    assert!(refused, "{too_long}: {metrics}");
    Ok(())
}
