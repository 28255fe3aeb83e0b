//! The door with real sockets on loopback: what is refused gets no packet, what is vetted is what is dialled.
#![allow(clippy::unwrap_used, reason = "a test may")]

mod dns;

use certmon_core::{
    place::Host,
    target::{ProbeFailure, Provenance, Purpose},
};
use certmon_egress::{ConnectError, Denied, DialError, Egress, MOST_READ, OwnAddresses, Policy, Request, Resolver};
use dns::{Answer, Dns};
use std::{
    io,
    net::{IpAddr, SocketAddr},
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::watch,
    time::Instant,
};

fn request(namespace: &str, host: &str, port: u16) -> Request {
    Request {
        namespace: namespace.into(),
        purpose: Purpose::Endpoint,
        provenance: Provenance::FreeText,
        host: Host::parse(host).unwrap(),
        port,
    }
}

fn soon() -> Instant {
    Instant::now() + Duration::from_secs(10)
}

fn nobody() -> Resolver {
    Resolver::server("127.0.0.1:9".parse().unwrap()).unwrap()
}

fn door(policy: &str, resolver: Resolver) -> Egress {
    Egress::new(
        Policy::parse(policy, "policy.yaml").unwrap(),
        OwnAddresses::default(),
        resolver,
    )
}

fn allowing(port: u16) -> String {
    format!("allow: [{{namespaces: [demo], cidrs: [127.0.0.0/8, '::1/128'], ports: [{port}]}}]")
}

/// Writes down who comes in, and keeps the connections.
struct Listener {
    address: SocketAddr,
    seen: watch::Receiver<Vec<SocketAddr>>,
}

impl Listener {
    async fn at(address: SocketAddr) -> Self {
        let listener = TcpListener::bind(address).await.unwrap();
        let address = listener.local_addr().unwrap();
        let (write, seen) = watch::channel(Vec::new());
        tokio::spawn(async move {
            let mut kept = Vec::new();
            while let Ok((stream, from)) = listener.accept().await {
                write.send_modify(|seen| seen.push(from));
                kept.push(stream);
            }
        });
        Self { address, seen }
    }

    async fn on_loopback() -> Self {
        Self::at("127.0.0.1:0".parse().unwrap()).await
    }

    fn port(&self) -> u16 {
        self.address.port()
    }

    /// How many came. Comes itself: who came earlier was accepted earlier.
    async fn visitors(mut self) -> usize {
        let last = TcpStream::connect(self.address).await.unwrap();
        let last = last.local_addr().unwrap();
        self.seen.wait_for(|seen| seen.contains(&last)).await.unwrap().len() - 1
    }
}

#[tokio::test]
async fn a_refused_address_gets_no_packet_and_looks_the_same_open_or_closed() {
    let open = Listener::on_loopback().await;
    let closed = {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        listener.local_addr().unwrap().port()
    };
    let dns = Dns::start(|_, _| Answer::Addresses(vec![[127, 0, 0, 1].into()])).await;
    let policy = format!(
        "ports: {{endpoints: [{}, {closed}], sinks: [{}, {closed}]}}",
        open.port(),
        open.port()
    );
    let egress = door(&policy, Resolver::server(dns.address).unwrap());
    for host in [
        "127.0.0.1",
        "127.0.0.2",
        "::ffff:127.0.0.1",
        "::127.0.0.1",
        "0.0.0.0",
        "localhost",
        "inside.example",
    ] {
        for port in [open.port(), closed] {
            for purpose in [Purpose::Endpoint, Purpose::Sink] {
                let request = Request {
                    purpose,
                    ..request("shop", host, port)
                };
                let refused = egress.connect(&request, soon()).await.unwrap_err();
                assert_eq!(refused, ConnectError::Denied(Denied::NotPermitted), "{host}:{port}");
                assert_eq!(ProbeFailure::from(refused), ProbeFailure::NotPermitted);
            }
        }
    }
    assert_eq!(open.visitors().await, 0);
}

#[tokio::test]
async fn an_allow_entry_inside_loopback_opens_it_for_its_namespace_and_ports() {
    let open = Listener::on_loopback().await;
    let egress = door(&allowing(open.port()), nobody());
    let stream = egress
        .connect(&request("demo", "127.0.0.1", open.port()), soon())
        .await
        .unwrap();
    assert_eq!(stream.peer_address(), open.address);
    assert!(stream.local_address().unwrap().ip().is_loopback());
    for (namespace, host, port) in [
        ("shop", "127.0.0.1", open.port()),
        ("demo", "127.0.0.1", 443),
        ("demo", "64:ff9b::7f00:1", open.port()),
        ("demo", "2002:7f00:1::", open.port()),
    ] {
        let refused = egress
            .connect(&request(namespace, host, port), soon())
            .await
            .unwrap_err();
        assert_eq!(refused, Denied::NotPermitted.into(), "{namespace} {host} {port}");
    }
    let wide = format!(
        "allow: [{{namespaces: ['*'], cidrs: [0.0.0.0/0, 126.0.0.0/7], ports: [{}]}}]",
        open.port()
    );
    let refused = door(&wide, nobody())
        .connect(&request("demo", "127.0.0.1", open.port()), soon())
        .await
        .unwrap_err();
    assert_eq!(refused, Denied::NotPermitted.into());
    let denied = format!(
        "{}\ndeny: [{{namespaces: ['*'], cidrs: [127.0.0.1/32]}}]",
        allowing(open.port())
    );
    let refused = door(&denied, nobody())
        .connect(&request("demo", "127.0.0.1", open.port()), soon())
        .await
        .unwrap_err();
    assert_eq!(refused, Denied::NotPermitted.into());
    assert_eq!(open.visitors().await, 1);
}

#[tokio::test]
async fn on_loopback_the_operator_and_the_api_server_are_an_address_and_a_port() {
    let open = Listener::on_loopback().await;
    let other = Listener::on_loopback().await;
    let policy = "allow: [{namespaces: [demo], cidrs: [127.0.0.0/8], ports: [PORTS]}]"
        .replace("PORTS", &format!("{}, {}", open.port(), other.port()));
    let own = OwnAddresses {
        operator: vec![SocketAddr::new("0.0.0.0".parse().unwrap(), open.port())],
        api_server: Vec::new(),
    };
    let egress = Egress::new(Policy::parse(&policy, "policy.yaml").unwrap(), own, nobody());
    for host in ["127.0.0.1", "127.0.0.7"] {
        let refused = egress
            .connect(&request("demo", host, open.port()), soon())
            .await
            .unwrap_err();
        assert_eq!(refused, Denied::NotPermitted.into(), "{host}");
    }
    assert!(
        egress
            .connect(&request("demo", "127.0.0.1", other.port()), soon())
            .await
            .is_ok()
    );
    assert_eq!(open.visitors().await, 0);
}

#[tokio::test]
async fn a_name_that_is_rebound_is_never_dialled_where_it_is_refused() {
    let inside = Listener::at("127.0.0.2:0".parse().unwrap()).await;
    let outside = Listener::at(SocketAddr::new([127, 0, 0, 1].into(), inside.port())).await;
    let turns = AtomicUsize::new(0);
    let dns = Dns::start(move |_, v6| match (v6, turns.fetch_add(1, Ordering::SeqCst) % 4) {
        (true, _) => Answer::Addresses(Vec::new()),
        (false, 0 | 1) => Answer::Addresses(vec![[127, 0, 0, 1].into()]),
        (false, _) => Answer::Addresses(vec![[127, 0, 0, 2].into(), [169, 254, 169, 254].into()]),
    })
    .await;
    // 127.0.0.1 plays the public address, 127.0.0.2 the one inside.
    let policy = format!(
        "allow: [{{namespaces: [demo], cidrs: [127.0.0.1/32], ports: [{}]}}]\nlimits: {{burstPerNamespace: 1000}}",
        inside.port()
    );
    let egress = door(&policy, Resolver::server(dns.address).unwrap());
    let mut reached = 0;
    let mut refused = 0;
    for _ in 0..200 {
        match egress
            .connect(&request("demo", "rebound.example", inside.port()), soon())
            .await
        {
            Ok(stream) => {
                assert_eq!(stream.peer_address(), outside.address);
                reached += 1;
            }
            Err(error) => {
                assert_eq!(error, Denied::NotPermitted.into());
                refused += 1;
            }
        }
    }
    assert!(reached > 0 && refused > 0, "reached {reached}, refused {refused}");
    assert_eq!(inside.visitors().await, 0);
}

#[tokio::test]
async fn of_a_mixed_answer_only_the_permitted_addresses_remain() {
    let dns = Dns::start(|_, _| {
        Answer::Addresses(vec![
            [9, 9, 9, 9].into(),
            [10, 0, 0, 1].into(),
            "::1".parse().unwrap(),
            "2620:fe::fe".parse().unwrap(),
            [9, 9, 9, 9].into(),
        ])
    })
    .await;
    let egress = door("{}", Resolver::server(dns.address).unwrap());
    let resolved = egress.resolve(&request("shop", "mixed.example", 443)).await.unwrap();
    let addresses: Vec<String> = resolved.addresses.iter().map(|v| v.address().to_string()).collect();
    assert_eq!(addresses, ["9.9.9.9:443", "[2620:fe::fe]:443"]);
    assert_eq!(resolved.refused, 2);
}

#[tokio::test]
async fn at_most_sixteen_addresses_of_an_answer_are_kept_and_names_are_asked_fully_qualified() {
    let dns = Dns::start(|_, _| Answer::Addresses((1..=40).map(|last| IpAddr::from([9, 9, 9, last])).collect())).await;
    let egress = door("{}", Resolver::server(dns.address).unwrap());
    let resolved = egress.resolve(&request("shop", "many", 443)).await.unwrap();
    assert_eq!(resolved.addresses.len(), 16);
    assert!(dns.asked().iter().all(|name| name == "many."), "{:?}", dns.asked());
}

#[tokio::test]
async fn no_record_and_a_failing_resolver_are_told_apart() {
    let dns = Dns::start(|name, v6| match (name, v6) {
        ("nx.example.", _) => Answer::NxDomain,
        ("empty.example.", _) => Answer::Addresses(Vec::new()),
        ("half.example.", true) | ("broken.example.", _) => Answer::ServFail,
        ("half.example.", false) => Answer::Addresses(vec![[9, 9, 9, 9].into()]),
        ("half-empty.example.", true) => Answer::ServFail,
        _ => Answer::Addresses(Vec::new()),
    })
    .await;
    let egress = door("{}", Resolver::server(dns.address).unwrap());
    for (name, expected) in [
        ("nx.example", Err(Denied::NoRecord)),
        ("empty.example", Err(Denied::NoRecord)),
        ("*.example", Err(Denied::NoRecord)),
        ("broken.example", Err(Denied::ResolverFailed)),
        ("half-empty.example", Err(Denied::ResolverFailed)),
        ("half.example", Ok(())),
    ] {
        assert_eq!(egress.permitted(&request("shop", name, 443)).await, expected, "{name}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_silent_resolver_fails_after_three_seconds() {
    let dns = Dns::start(|_, _| Answer::Silence).await;
    let egress = door("{}", Resolver::server(dns.address).unwrap());
    let start = Instant::now();
    let denied = egress.permitted(&request("shop", "silent.example", 443)).await;
    assert_eq!(denied, Err(Denied::ResolverFailed));
    assert!(start.elapsed() <= Duration::from_millis(3100), "{:?}", start.elapsed());
}

#[tokio::test]
async fn a_policy_that_changes_after_the_vetting_is_obeyed_when_dialling() {
    let open = Listener::on_loopback().await;
    let egress = door(&allowing(open.port()), nobody());
    let resolved = egress
        .resolve(&request("demo", "127.0.0.1", open.port()))
        .await
        .unwrap();
    egress.replace_policy(Policy::default());
    let error = egress.dial(&resolved.addresses[0], soon()).await.unwrap_err();
    assert_eq!(error, DialError::NotPermitted);
    assert_eq!(open.visitors().await, 0);
}

#[tokio::test]
async fn a_closed_port_is_refused() {
    let closed = {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        listener.local_addr().unwrap()
    };
    let egress = door(&allowing(closed.port()), nobody());
    let error = egress
        .connect(&request("demo", "127.0.0.1", closed.port()), soon())
        .await
        .unwrap_err();
    assert_eq!(error, DialError::Refused.into());
}

#[tokio::test]
async fn a_second_address_is_dialled_when_the_first_refuses() {
    let open = Listener::on_loopback().await;
    let dns = Dns::start(|_, _| Answer::Addresses(vec![[127, 0, 0, 9].into(), [127, 0, 0, 1].into()])).await;
    let egress = door(&allowing(open.port()), Resolver::server(dns.address).unwrap());
    let stream = egress
        .connect(&request("demo", "two.example", open.port()), soon())
        .await
        .unwrap();
    assert_eq!(stream.peer_address(), open.address);
}

#[tokio::test]
async fn a_stream_that_is_dropped_is_reset_and_one_that_is_shut_down_is_closed() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let egress = door(&allowing(port), nobody());
    for (shut_down, expected) in [(false, Err(io::ErrorKind::ConnectionReset)), (true, Ok(0))] {
        let mut stream = egress
            .connect(&request("demo", "127.0.0.1", port), soon())
            .await
            .unwrap();
        let (mut peer, _) = listener.accept().await.unwrap();
        if shut_down {
            stream.shutdown().await.unwrap();
        }
        drop(stream);
        let seen = peer.read(&mut [0; 8]).await.map_err(|error| error.kind());
        assert_eq!(seen, expected, "shut down: {shut_down}");
    }
}

#[tokio::test]
async fn a_namespace_that_has_its_share_waits_and_no_other_does() {
    let open = Listener::on_loopback().await;
    let policy = format!(
        "allow: [{{namespaces: [demo, shop], cidrs: [127.0.0.0/8], ports: [{}]}}]\n\
         limits: {{concurrentPerNamespace: 2, concurrentPerAddress: 1}}",
        open.port()
    );
    let egress = door(&policy, nobody());
    let port = open.port();
    let past = Instant::now();
    let first = egress
        .connect(&request("demo", "127.0.0.1", port), soon())
        .await
        .unwrap();
    let vetted = |namespace, host| {
        let (egress, request) = (egress.clone(), request(namespace, host, port));
        async move { egress.resolve(&request).await.unwrap().addresses.remove(0) }
    };
    let same_address = vetted("demo", "127.0.0.1").await;
    assert_eq!(egress.dial(&same_address, past).await.unwrap_err(), DialError::Busy);
    let elsewhere = egress.turn(&vetted("demo", "127.0.0.2").await).await;
    let third = vetted("demo", "127.0.0.3").await;
    assert_eq!(egress.dial(&third, past).await.unwrap_err(), DialError::Busy);
    assert!(
        egress
            .connect(&request("shop", "127.0.0.1", port), soon())
            .await
            .is_ok()
    );
    let sink = Request {
        purpose: Purpose::Sink,
        ..request("demo", "127.0.0.1", port)
    };
    assert!(egress.connect(&sink, soon()).await.is_ok(), "sinks have their own");
    drop((first, elsewhere));
    assert!(egress.dial(&same_address, soon()).await.is_ok());
    assert_eq!(ProbeFailure::from(DialError::Busy), ProbeFailure::Local);
    assert_eq!(open.visitors().await, 4);
}

#[tokio::test(start_paused = true)]
async fn a_namespace_has_its_burst_and_then_its_rate() {
    let egress = door("{}", nobody());
    let resolved = egress.resolve(&request("shop", "9.9.9.9", 443)).await.unwrap();
    let start = Instant::now();
    for turn in 1..=70 {
        drop(egress.turn(&resolved.addresses[0]).await);
        let seconds = start.elapsed().as_secs_f64();
        let due = f64::from(turn - 50).max(0.0) / 10.0;
        assert!(
            (seconds - due).abs() < 0.05,
            "turn {turn} came after {seconds} s, not {due} s"
        );
    }
    let other = egress.resolve(&request("blog", "9.9.9.9", 443)).await.unwrap();
    let before = Instant::now();
    drop(egress.turn(&other.addresses[0]).await);
    assert!(before.elapsed() < Duration::from_millis(50), "{:?}", before.elapsed());
}

#[tokio::test]
async fn a_peer_that_never_stops_is_read_up_to_a_bound() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        while stream.write_all(&[b'x'; 64 * 1024]).await.is_ok() {}
    });
    let egress = door(&allowing(port), nobody());
    let mut stream = egress
        .connect(&request("demo", "127.0.0.1", port), soon())
        .await
        .unwrap();
    let (mut read, mut bytes) = (0, vec![0; 64 * 1024]);
    let error = loop {
        match stream.read(&mut bytes).await {
            Ok(more) => read += more,
            Err(error) => break error,
        }
        assert!(read < 2 * MOST_READ, "{read} bytes, and no end");
    };
    assert_eq!(error.kind(), io::ErrorKind::InvalidData);
    assert!((MOST_READ..MOST_READ + bytes.len()).contains(&read), "{read}");
}
