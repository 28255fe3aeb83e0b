//! Servers that don't answer, answer slowly, answer with something else, or want to be quoted.

#![allow(clippy::unwrap_used, reason = "a test may")]

mod servers;

use certmon_core::target::{Look, ProbeFailure, ServedBytes};
use certmon_egress::{Egress, OwnAddresses, Policy};
use certmon_probe::{Probe, TlsProbe};
use servers::{Authority, Manner, leaf_params, loopback, no_resolver, probe, serve, serve_raw, target};
use std::{
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, copy},
    net::{TcpListener, TcpStream},
    sync::{mpsc, oneshot},
};

const PATIENCE: Duration = Duration::from_secs(10);
const SHORT: Duration = Duration::from_millis(300);
const CANARY: &str = "CANARY-5f1d";

async fn look_at(port: u16, timeout: Duration) -> (Look, Duration) {
    let start = Instant::now();
    let look = probe(&[port], no_resolver())
        .look(target(&[("127.0.0.1", port)], "shop.example", timeout))
        .await;
    (look, start.elapsed())
}

fn failure(look: &Look) -> ProbeFailure {
    match look.addresses.as_slice() {
        [(_, _, Err(failure))] => *failure,
        _ => panic!("{look:?}"),
    }
}

#[tokio::test]
async fn what_isnt_tls_is_told_by_kind_and_never_quoted() {
    let record = |kind: u8, body: &[u8]| {
        let mut record = vec![kind, 3, 3];
        record.extend(u16::try_from(body.len()).unwrap().to_be_bytes());
        record.extend(body);
        record
    };
    let alert = record(21, &[2, 40]);
    let unknown_alert = record(21, &[2, 199]);
    let old_server_hello = record(22, &[&[2, 0, 0, 38, 3, 1][..], &[7; 32], &[0, 0xc0, 0x13, 0]].concat());
    let endless_message = record(22, &[2, 0xff, 0xff, 0xff, 0, 0, 0, 0]);
    let data = record(23, CANARY.as_bytes());
    let text = |text: &str| format!("{text} {CANARY}\r\n\r\n").into_bytes();
    for (what, says, expected) in [
        (
            "HTTP",
            text("HTTP/1.1 400 Bad Request\r\nServer:"),
            ProbeFailure::NotTls,
        ),
        ("SMTP", text("220 mail.example ESMTP"), ProbeFailure::NotTls),
        ("SSH", text("SSH-2.0-OpenSSH_9"), ProbeFailure::NotTls),
        ("zeros", vec![0; 512], ProbeFailure::NotTls),
        (
            "a garbage record",
            record(22, CANARY.as_bytes()),
            ProbeFailure::TooLarge,
        ),
        ("application data first", data, ProbeFailure::NotTls),
        ("a handshake failure", alert, ProbeFailure::TlsAlert),
        ("an alert nobody knows", unknown_alert, ProbeFailure::TlsAlert),
        ("TLS 1.0", old_server_hello, ProbeFailure::TlsAlert),
        ("a message of 16 MiB", endless_message, ProbeFailure::TooLarge),
        ("nothing", Vec::new(), ProbeFailure::Closed),
    ] {
        let address = serve_raw(loopback(1, 0), move |mut tcp| {
            let says = says.clone();
            async move {
                let mut hello = [0; 4096];
                let _ = tcp.read(&mut hello).await;
                let _ = tcp.write_all(&says).await;
                let _ = tcp.shutdown().await;
                while matches!(tcp.read(&mut hello).await, Ok(1..)) {}
            }
        })
        .await;
        let (look, _) = look_at(address.port(), PATIENCE).await;
        assert_eq!(failure(&look), expected, "{what}");
        let said = format!("{look:?} {}", failure(&look).text());
        assert!(!said.contains(CANARY), "{what}: {said}");
    }
}

#[tokio::test]
async fn a_closed_port_is_refused_and_a_reset_is_a_close() {
    let closed = {
        let listener = TcpListener::bind(loopback(1, 0)).await.unwrap();
        listener.local_addr().unwrap().port()
    };
    assert_eq!(failure(&look_at(closed, PATIENCE).await.0), ProbeFailure::Refused);
    for reads in [false, true] {
        let address = serve_raw(loopback(1, 0), move |mut tcp| async move {
            if reads {
                let _ = tcp.read(&mut [0; 4096]).await;
            }
            tcp.set_zero_linger().unwrap();
        })
        .await;
        let (look, _) = look_at(address.port(), PATIENCE).await;
        assert_eq!(failure(&look), ProbeFailure::Closed, "reads: {reads}");
    }
}

#[tokio::test]
async fn silence_and_a_drip_end_at_the_deadline_and_the_connection_is_gone() {
    for drips in [false, true] {
        let (tell, mut told) = mpsc::unbounded_channel();
        let address = serve_raw(loopback(1, 0), move |mut tcp| {
            let tell = tell.clone();
            async move {
                let mut tick = tokio::time::interval(Duration::from_millis(20));
                // A record of 16 KiB that begins a ServerHello, byte by byte.
                let mut says = [22, 3, 3, 64, 0, 2, 0, 63, 0].into_iter().chain(std::iter::repeat(3));
                let mut hello = [0; 4096];
                let end = loop {
                    tokio::select! {
                        read = tcp.read(&mut hello) => match read {
                            Ok(0) => break None,
                            Ok(_) => {}
                            Err(error) => break Some(error.kind()),
                        },
                        _ = tick.tick(), if drips => {
                            if let Err(error) = tcp.write_all(&[says.next().unwrap()]).await {
                                break Some(error.kind());
                            }
                        }
                    }
                };
                let _ = tell.send(end);
            }
        })
        .await;
        let (look, took) = look_at(address.port(), SHORT).await;
        assert_eq!(failure(&look), ProbeFailure::TimedOut, "drips: {drips}");
        assert!(took >= SHORT && took < PATIENCE / 2, "drips: {drips}: {took:?}");
        let end = told.recv().await.unwrap();
        assert_eq!(end, Some(std::io::ErrorKind::ConnectionReset), "drips: {drips}");
    }
}

#[tokio::test]
async fn addresses_that_hang_hang_side_by_side() {
    let first = serve_raw(loopback(1, 0), |tcp| async move {
        let _kept = tcp;
        std::future::pending::<()>().await;
    })
    .await;
    let port = first.port();
    let mut kept = Vec::new();
    let mut hosts = vec![("127.0.0.1".to_owned(), port)];
    for last in 2..=8 {
        kept.push(TcpListener::bind(loopback(last, port)).await.unwrap());
        hosts.push((format!("127.0.0.{last}"), port));
    }
    let hosts: Vec<(&str, u16)> = hosts.iter().map(|(host, port)| (host.as_str(), *port)).collect();
    // One after another they would take eight times as long.
    let timeout = Duration::from_millis(800);
    let start = Instant::now();
    let look = probe(&[port], no_resolver())
        .look(target(&hosts, "shop.example", timeout))
        .await;
    let took = start.elapsed();
    assert_eq!(look.addresses.len(), 8);
    assert!(
        look.addresses
            .iter()
            .all(|(_, _, outcome)| *outcome == Err(ProbeFailure::TimedOut)),
        "{look:?}"
    );
    assert!(took < timeout * 4, "{took:?}");
}

#[tokio::test]
async fn only_a_small_client_hello_is_sent_to_who_says_nothing() {
    let (tell, told) = oneshot::channel();
    let tell = Arc::new(Mutex::new(Some(tell)));
    let address = serve_raw(loopback(1, 0), move |mut tcp| {
        let tell = Arc::clone(&tell);
        async move {
            let mut bytes = Vec::new();
            let mut buffer = [0; 4096];
            while let Ok(read @ 1..) = tcp.read(&mut buffer).await {
                bytes.extend(&buffer[..read]);
            }
            let tell = tell.lock().unwrap().take();
            if let Some(tell) = tell {
                let _ = tell.send(bytes);
            }
        }
    })
    .await;
    // The longest name there is.
    let label = "a".repeat(59);
    let name = format!("{label}.{label}.{label}.{label}.example.com");
    let look = probe(&[address.port()], no_resolver())
        .look(target(&[("127.0.0.1", address.port())], &name, SHORT))
        .await;
    assert_eq!(failure(&look), ProbeFailure::TimedOut);
    let bytes = told.await.unwrap();
    assert_eq!(bytes[0], 22, "a handshake record");
    assert_eq!(bytes[5], 1, "a ClientHello");
    assert_eq!(
        usize::from(u16::from_be_bytes([bytes[3], bytes[4]])) + 5,
        bytes.len(),
        "one record"
    );
    assert!(bytes.len() < 1024, "{} bytes", bytes.len());
    let holds = |needle: &[u8]| bytes.windows(needle.len()).any(|window| window == needle);
    assert!(holds(name.as_bytes()));
    assert!(!holds(b"Bearer") && !holds(b"HTTP"));
}

/// What the client sent, record by record.
fn records(mut bytes: &[u8]) -> Vec<u8> {
    let mut kinds = Vec::new();
    while let [kind, _, _, high, low, rest @ ..] = bytes {
        kinds.push(*kind);
        bytes = &rest[usize::from(u16::from_be_bytes([*high, *low]))..];
    }
    kinds
}

#[tokio::test]
async fn nothing_but_a_handshake_and_a_goodbye_is_sent() {
    let authority = Authority::new();
    let identity = authority.issue(&leaf_params("shop.example"));
    for version in rustls::ALL_VERSIONS {
        let expected = match version.version {
            // ClientHello, ChangeCipherSpec, then Finished and close_notify under encryption.
            rustls::ProtocolVersion::TLSv1_3 => vec![22, 20, 23, 23],
            // ClientHello, ClientKeyExchange, ChangeCipherSpec, Finished, close_notify: no application data.
            _ => vec![22, 22, 20, 22, 21],
        };
        let manner = Manner {
            versions: std::slice::from_ref(version),
            ..Manner::default()
        };
        let (server, mut visits) = serve(loopback(1, 0), manner.of(&authority, &identity)).await;
        let sent = Arc::new(Mutex::new(Vec::new()));
        let log = Arc::clone(&sent);
        let between = serve_raw(loopback(1, 0), move |mut client| {
            let log = Arc::clone(&log);
            async move {
                let mut server = TcpStream::connect(server).await.unwrap();
                let (mut from_client, mut to_client) = client.split();
                let (mut from_server, mut to_server) = server.split();
                let up = async {
                    let mut buffer = [0; 4096];
                    while let Ok(read @ 1..) = from_client.read(&mut buffer).await {
                        log.lock().unwrap().extend(&buffer[..read]);
                        let _ = to_server.write_all(&buffer[..read]).await;
                    }
                    let _ = to_server.shutdown().await;
                };
                let down = async {
                    let _ = copy(&mut from_server, &mut to_client).await;
                    let _ = to_client.shutdown().await;
                };
                tokio::join!(up, down);
            }
        })
        .await;
        let (look, _) = look_at(between.port(), PATIENCE).await;
        assert_eq!(look.addresses[0].2, Ok(ServedBytes { chain: identity.ders() }));
        assert_eq!(visits.recv().await.unwrap().end, Ok(0), "no byte of data");
        assert_eq!(records(&sent.lock().unwrap()), expected, "{:?}", version.version);
    }
}

#[tokio::test]
async fn a_target_that_the_policy_refuses_gets_no_connection() {
    let (server, mut visits) = {
        let authority = Authority::new();
        let identity = authority.issue(&leaf_params("shop.example"));
        serve(loopback(1, 0), Manner::default().of(&authority, &identity)).await
    };
    let policy = Policy::parse(&format!("ports: {{endpoints: [{}]}}", server.port()), "policy.yaml").unwrap();
    let probe = TlsProbe::new(Egress::new(policy, OwnAddresses::default(), no_resolver()));
    let target = target(&[("127.0.0.1", server.port())], "shop.example", PATIENCE);
    let look = probe.look(target).await;
    assert!(look.addresses.is_empty(), "{look:?}");
    assert!(look.unresolved.is_empty(), "{look:?}");
    assert_eq!(look.refused, 1);
    // Who comes next is the first.
    drop(TcpStream::connect(server).await.unwrap());
    assert!(visits.recv().await.unwrap().server_name.is_err());
    assert!(visits.try_recv().is_err());
}

#[tokio::test]
async fn a_namespace_full_of_servers_that_hang_delays_no_other() {
    let authority = Authority::new();
    let identity = authority.issue(&leaf_params("shop.example"));
    let (tell, mut hanging) = mpsc::unbounded_channel();
    let tarpit = serve_raw(loopback(1, 0), move |tcp| {
        let _ = tell.send(());
        async move {
            let _kept = tcp;
            std::future::pending::<()>().await;
        }
    })
    .await;
    let (server, _visits) = serve(loopback(1, 0), Manner::default().of(&authority, &identity)).await;
    let policy = format!(
        "allow: [{{namespaces: ['*'], cidrs: [127.0.0.0/28], ports: [{}, {}]}}]",
        tarpit.port(),
        server.port()
    );
    let policy = Policy::parse(&policy, "policy.yaml").unwrap();
    let probe = Arc::new(TlsProbe::new(Egress::new(
        policy,
        OwnAddresses::default(),
        no_resolver(),
    )));
    let looks: Vec<_> = (0..200)
        .map(|_| {
            let (probe, target) = (
                Arc::clone(&probe),
                target(&[("127.0.0.1", tarpit.port())], "a.example", PATIENCE),
            );
            tokio::spawn(async move { probe.look(target).await })
        })
        .collect();
    // The namespace's share of one address is taken, and stays taken.
    for _ in 0..4 {
        hanging.recv().await.unwrap();
    }
    let mut other = target(&[("127.0.0.1", server.port())], "shop.example", PATIENCE);
    other.namespace = "shop".into();
    let start = Instant::now();
    for _ in 0..20 {
        let look = probe.look(other.clone()).await;
        assert_eq!(look.addresses[0].2, Ok(ServedBytes { chain: identity.ders() }));
    }
    assert!(start.elapsed() < PATIENCE / 2, "{:?}", start.elapsed());
    assert!(hanging.try_recv().is_err(), "more than the share was dialled");
    for look in looks {
        look.abort();
    }
}
