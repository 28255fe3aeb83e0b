//! What the tests of the sinks share: a certificate authority, the one door under a policy like everyone's, messages.
#![allow(dead_code, unreachable_pub, missing_docs)] // each test file uses its part

#[path = "../../../egress/tests/dns/mod.rs"]
#[allow(clippy::unwrap_used)]
pub mod dns;
pub mod http;
#[path = "../../../egress/tests/proxies/mod.rs"]
pub mod proxies;
pub mod smtp;

use certmon_core::{
    delivery::{Failure, FailureClass, Outcome, Rung},
    finding::{Finding, Severity},
    hash::ShortHash,
    message::{AlertStatus, MESSAGE_VERSION, Message, MessageAlert, MessageCounts, MessageReason},
    place::Host,
    sink::{SinkKind, WebhookTarget},
};
use certmon_egress::{Egress, OwnAddresses, Policy, Resolver};
use certmon_notify::{Delivery, Sink, SinkSecret, Sinks};
use chrono::{DateTime, Utc};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::{ServerConfig, pki_types::PrivatePkcs8KeyDer};
use std::{
    collections::BTreeMap,
    net::{Ipv4Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};
use zeroize::Zeroizing;

pub const NAMESPACE: &str = "shop";

/// A CA, and a server's certificate of it for 127.0.0.1 and sink.example.
pub struct Pki {
    pub ca_pem: String,
    pub server: Arc<ServerConfig>,
}

impl Pki {
    pub fn new() -> Self {
        let mut params = CertificateParams::new(Vec::<String>::new()).expect("no names");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let ca = CertifiedIssuer::self_signed(params, KeyPair::generate().expect("a key")).expect("a CA");
        let key = KeyPair::generate().expect("a key");
        let leaf = CertificateParams::new(["127.0.0.1", "sink.example"].map(str::to_owned)).expect("names");
        let leaf = leaf.signed_by(&key, &ca).expect("a certificate");
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let server = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("TLS 1.2 and 1.3")
            .with_no_client_auth()
            .with_single_cert(
                vec![leaf.der().clone()],
                PrivatePkcs8KeyDer::from(key.serialize_der()).into(),
            )
            .expect("a key for its certificate");
        Self {
            ca_pem: ca.pem(),
            server: Arc::new(server),
        }
    }
}

/// What time it is in every test: fixed, so that dates in headers mean something.
pub fn now() -> DateTime<Utc> {
    "2026-11-25T17:53:00Z".parse().expect("a date")
}

/// Sinks that may reach these servers on loopback, by an admin's file as anybody would write it.
pub fn sinks(servers: &[SocketAddr]) -> Arc<Sinks> {
    // No name is resolved, where no server is named.
    sinks_asking((Ipv4Addr::LOCALHOST, 9).into(), servers, None)
}

/// As [`sinks`], with a name server, and a name for EHLO.
pub fn sinks_asking(dns: SocketAddr, servers: &[SocketAddr], helo: Option<&str>) -> Arc<Sinks> {
    let ports: Vec<_> = servers.iter().map(|server| server.port().to_string()).collect();
    let policy = format!(
        "allow:\n  - namespaces: [{NAMESPACE}]\n    cidrs: [127.0.0.0/8]\n    ports: [{}]\n",
        ports.join(", ")
    );
    let policy = if servers.is_empty() {
        Policy::default()
    } else {
        Policy::parse(&policy, "test").expect("a policy")
    };
    let egress = Egress::new(
        policy,
        OwnAddresses::default(),
        Resolver::server(dns).expect("a resolver"),
    );
    Arc::new(Sinks::new(
        egress,
        Arc::new(now),
        helo.map(|name| Host::parse(name).expect("a host")),
    ))
}

pub fn message(reason: MessageReason) -> Message {
    Message {
        version: MESSAGE_VERSION,
        id: "MESSAGEID0001".to_owned(),
        reason,
        cluster: None,
        namespace: NAMESPACE.to_owned(),
        monitor: "edge".to_owned(),
        sink: "team".to_owned(),
        as_of: now(),
        counts: MessageCounts {
            critical: 1,
            ..MessageCounts::default()
        },
        truncated: 0,
        alerts: vec![MessageAlert {
            id: ShortHash::of(&[b"a"]),
            episode: ShortHash::of(&[b"a", b"1"]),
            status: AlertStatus::Firing,
            finding: Finding::Expired,
            severity: Severity::Critical,
            previous_severity: None,
            place: "secret/shop/api#tls.crt".to_owned(),
            title: "Secret shop/api".to_owned(),
            object: None,
            host: None,
            port: None,
            certificate: None,
            since: now(),
            resolved_as: None,
            message: "Secret shop/api: expired".to_owned(),
            next_step: "Renew it.".to_owned(),
            runbook: "https://certmon.dev/runbooks/Expired".to_owned(),
        }],
    }
}

pub fn secret(kind: &SinkKind, values: &[(&str, &str)]) -> SinkSecret {
    let values = values
        .iter()
        .map(|(key, value)| ((*key).to_owned(), Zeroizing::new(value.as_bytes().to_vec())))
        .collect();
    SinkSecret {
        type_: kind.secret_type().to_owned(),
        values,
    }
}

pub fn delivery(kind: SinkKind, values: &[(&str, &str)]) -> Delivery {
    Delivery {
        namespace: NAMESPACE.to_owned(),
        secret: Some(secret(&kind, values)),
        kind,
        message: message(MessageReason::First),
        rung: Rung::All,
        thread: BTreeMap::new(),
        attempt: 0,
    }
}

pub fn hook() -> SinkKind {
    SinkKind::Webhook(WebhookTarget::Secret("hook".to_owned()))
}

pub fn slack(channel: &str) -> SinkKind {
    SinkKind::Slack {
        channel: Some(channel.to_owned()),
        secret: "slack-bot".to_owned(),
    }
}

pub fn mail(to: &[&str]) -> SinkKind {
    SinkKind::Email {
        to: to.iter().map(|to| (*to).to_owned()).collect(),
        secret: "mail".to_owned(),
    }
}

#[track_caller]
pub fn failed(outcome: &Outcome) -> Failure {
    match outcome {
        Outcome::Failed(failure) => *failure,
        delivered @ Outcome::Delivered { .. } => panic!("{delivered:?}"),
    }
}

#[track_caller]
pub fn assert_failed(outcome: &Outcome, class: FailureClass, code: Option<u16>) {
    let failure = failed(outcome);
    assert_eq!((failure.class, failure.code), (class, code), "{outcome:?}");
}

#[track_caller]
pub fn thread(outcome: &Outcome) -> BTreeMap<String, String> {
    match outcome {
        Outcome::Delivered { thread, .. } => thread.clone(),
        failed @ Outcome::Failed(_) => panic!("{failed:?}"),
    }
}

/// Delivers to a server that falls silent; once it has, time runs out at once. Returns the outcome and whether it came
/// in the time that the sink promises.
pub async fn out_of_patience(sinks: Arc<Sinks>, delivery: Delivery, silent: impl Future<Output = ()>) -> Outcome {
    let longest = sinks.longest_attempt(&delivery.kind, delivery.attempt);
    let start = tokio::time::Instant::now();
    let attempt = tokio::spawn(async move { sinks.deliver(delivery).await });
    silent.await;
    tokio::time::pause();
    let outcome = attempt.await.expect("no panic");
    let took = start.elapsed();
    tokio::time::resume();
    assert!(
        took <= longest + Duration::from_millis(100),
        "took {took:?}, promised {longest:?}"
    );
    outcome
}
