//! Sinks by name: resolved by the door, dialled by address, and SNI, certificate and `Host` stay the name.

mod support;

use certmon_core::delivery::{FailureClass, Misconfigured, Outcome};
use certmon_notify::Sink;
use std::net::{IpAddr, Ipv4Addr};
use support::{
    NAMESPACE, Pki, assert_failed, delivery,
    dns::{Answer, Dns},
    hook,
    http::{Server, status},
    mail, sinks_asking, smtp,
};

/// `sink.example` and `other.example` are on loopback, `private.example` isn't, the rest doesn't exist.
async fn dns() -> Dns {
    Dns::start(|name, _| match name {
        "sink.example." | "other.example." => Answer::Addresses(vec![Ipv4Addr::LOCALHOST.into()]),
        "private.example." => Answer::Addresses(vec![IpAddr::from([10, 0, 0, 1])]),
        "failing.example." => Answer::ServFail,
        _ => Answer::NxDomain,
    })
    .await
}

#[tokio::test]
async fn a_name_is_dialled_by_address_and_verified_as_the_name() {
    let (pki, dns) = (Pki::new(), dns().await);
    let server = Server::start(&pki, [status(204, "", "")]).await;
    let port = server.address.port();
    let sinks = sinks_asking(dns.address, &[server.address], None);
    let to = |host: &str| {
        delivery(
            hook(),
            &[("url", &format!("https://{host}:{port}/")), ("ca.crt", &pki.ca_pem)],
        )
    };
    // A dot at the end changes neither the certificate's name nor who is asked for.
    for host in ["sink.example", "SINK.example", "sink.example."] {
        let outcome = sinks.deliver(to(host)).await;
        assert!(matches!(outcome, Outcome::Delivered { .. }), "{host}: {outcome:?}");
        let asked = server.asked();
        assert_eq!(
            asked[0].header("host"),
            Some(format!("{}:{port}", host.to_lowercase()).as_str())
        );
    }
    assert_failed(
        &sinks.deliver(to("other.example")).await,
        FailureClass::TlsUntrusted,
        None,
    );
    let mail = |host| {
        let values = [("host", host), ("port", &*port.to_string()), ("from", "a@example.com")];
        delivery(mail(&["a@example.com"]), &values)
    };
    for (host, class) in [
        ("missing.example", FailureClass::NoRecord),
        ("failing.example", FailureClass::ResolverFailed),
    ] {
        assert_failed(&sinks.deliver(to(host)).await, class, None);
        assert_failed(&sinks.deliver(mail(host)).await, class, None);
        // Whoever reads it knows what to check.
        assert!(class.text().contains("name of its host"), "{}", class.text());
    }
    let refused = FailureClass::Misconfigured(Misconfigured::NotPermitted);
    assert_failed(&sinks.deliver(to("private.example")).await, refused, None);
}

#[tokio::test]
async fn a_check_resolves_and_a_name_without_address_is_a_remark() {
    let dns = dns().await;
    let sinks = sinks_asking(dns.address, &[], None);
    let checked = async |host: &str| {
        let delivery = delivery(hook(), &[("url", &format!("https://{host}/"))]);
        sinks.check(NAMESPACE, &delivery.kind, delivery.secret.as_ref()).await
    };
    let missing = checked("missing.example").await;
    assert_eq!(
        missing,
        Ok(vec![
            "Secret shop/hook names a host that has no address record now".to_owned()
        ])
    );
    assert_eq!(
        checked("failing.example").await,
        Ok(Vec::new()),
        "the resolver's trouble is no fault of the sink"
    );
    assert_eq!(
        checked("private.example").await.map_err(|fault| fault.class),
        Err(Misconfigured::NotPermitted)
    );
    assert_eq!(
        checked("sink.example").await.map_err(|fault| fault.class),
        Err(Misconfigured::NotPermitted)
    );
}

#[tokio::test]
async fn a_mail_server_by_name_is_greeted_with_the_configured_name() {
    let (pki, dns) = (Pki::new(), dns().await);
    let server = smtp::Server::start(&pki, false, smtp::ordinary).await;
    let sinks = sinks_asking(dns.address, &[server.address], Some("certmon.example.com"));
    let port = server.address.port().to_string();
    let values = [
        ("host", "sink.example"),
        ("port", &*port),
        ("from", "certmon@example.com"),
        ("ca.crt", &*pki.ca_pem),
    ];
    let outcome = sinks.deliver(delivery(mail(&["a@example.com"]), &values)).await;
    assert!(matches!(outcome, Outcome::Delivered { .. }), "{outcome:?}");
    assert!(server.told().has("EHLO certmon.example.com"));
}
