//! What one verified look costs: CPU of this process per look at a TLS 1.3 server with a P-256 chain of two on loopback, which
//! runs in a process of its own; the chain is judged as the operator does it. `probe_cost [LOOKS] [ADDRESS:PORT ROOTS.pem]`:
//! 5,000 looks, unless said otherwise, one after another; with an address, at that server, whose root stands in the file.
//! Prints one line of JSON. Build it with `--release`.

#![allow(clippy::print_stdout, reason = "it is what it is for")]

use anyhow::{Context, ensure};
use certmon_core::{
    dial::{Dialled, LookContext},
    observation::PathVerdict,
    place::Host,
    policy::FailureThreshold,
    target::{Addresses, DialTarget, Provenance},
    trust::{self, Anchors},
};
use certmon_egress::{Egress, OwnAddresses, Policy, Resolver};
use certmon_probe::{Probe, TlsProbe};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use rustls::{ServerConfig, crypto::aws_lc_rs, pki_types::PrivateKeyDer};
use std::{
    io::{BufRead, BufReader},
    net::{Ipv4Addr, SocketAddr},
    process::{Child, Command, Stdio},
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::{io::AsyncReadExt, net::TcpListener};
use tokio_rustls::TlsAcceptor;

/// The argument by which this program is its own server.
const SERVE: &str = "serve";
const NAME: &str = "shop.example";

struct Server(Child);

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if arguments.first().is_some_and(|first| first == SERVE) {
        return serve().await;
    }
    let looks: u32 = match arguments.first() {
        Some(count) => count.parse().context("LOOKS is a number")?,
        None => 5_000,
    };
    ensure!((1..=60_000).contains(&looks), "1 to 60,000 looks");
    let (_server, address, roots) = match arguments.get(1) {
        Some(address) => {
            let roots = std::fs::read_to_string(arguments.get(2).context("ADDRESS:PORT ROOTS.pem")?)?;
            (None, address.parse().context("ADDRESS:PORT")?, roots)
        }
        None => {
            let (server, address, roots) = start()?;
            (Some(server), address, roots)
        }
    };
    measure(looks, address, &roots).await
}

async fn measure(looks: u32, address: SocketAddr, roots: &str) -> anyhow::Result<()> {
    let anchors = Anchors::from_pem(roots.as_bytes());
    let policy = format!(
        "allow: [{{namespaces: [bench], cidrs: [127.0.0.0/8], ports: [{}]}}]\n\
         limits: {{perSecond: 65536, perSecondPerNamespace: 65536, burstPerNamespace: 65536}}",
        address.port()
    );
    let egress = Egress::new(
        Policy::parse(&policy, "bench")?,
        OwnAddresses::default(),
        Resolver::server(SocketAddr::from((Ipv4Addr::LOCALHOST, 9)))?,
    );
    let probe = TlsProbe::new(egress);
    let target = DialTarget {
        namespace: "bench".into(),
        hosts: vec![(Host::Ip(address.ip()), address.port(), Provenance::FreeText)],
        server_name: Host::parse(NAME)?,
        addresses: Addresses::All,
        timeout: Duration::from_secs(10),
    };
    let context = LookContext {
        from_object: false,
        secret_leaf: None,
        failure_threshold: FailureThreshold(3),
    };
    let look = async || -> anyhow::Result<()> {
        let look = probe.look(target.clone()).await;
        #[expect(clippy::disallowed_methods, reason = "a measurement is its own clock")]
        let now = chrono::Utc::now();
        let mut dialled = Dialled::default();
        dialled.look(
            &look,
            context,
            &mut |chain| trust::judge(chain, &anchors, &[], now),
            now,
        );
        let verdict = dialled.served().next().map(|(_, served)| served.path);
        ensure!(verdict == Some(PathVerdict::Trusted), "{verdict:?} of {look:?}");
        Ok(())
    };
    // Code and caches warm.
    for _ in 0..looks.div_ceil(20) {
        look().await?;
    }
    let (cpu, wall) = (cpu_time()?, Instant::now());
    for _ in 0..looks {
        look().await?;
    }
    let (cpu, wall) = (cpu_time()? - cpu, wall.elapsed());
    println!(
        "{{\"looks\": {looks}, \"cpuMicrosPerLook\": {:.1}, \"wallMicrosPerLook\": {:.1}}}",
        cpu.as_secs_f64() * 1e6 / f64::from(looks),
        wall.as_secs_f64() * 1e6 / f64::from(looks),
    );
    Ok(())
}

/// Of the one thread that there is, in nanoseconds, user and kernel together (proc(5), `schedstat`).
fn cpu_time() -> anyhow::Result<Duration> {
    let text = std::fs::read_to_string("/proc/self/schedstat").context("needs Linux with scheduler statistics")?;
    let nanos = text.split_ascii_whitespace().next().context("an empty schedstat")?;
    Ok(Duration::from_nanos(nanos.parse()?))
}

fn start() -> anyhow::Result<(Server, SocketAddr, String)> {
    let child = Command::new(std::env::current_exe()?)
        .arg(SERVE)
        .stdout(Stdio::piped())
        .spawn()?;
    let mut server = Server(child);
    let output = server.0.stdout.take().context("its output is piped")?;
    let mut lines = BufReader::new(output).lines();
    let first = lines.next().context("the server said nothing")??;
    let address = first.parse().context("the server didn't say where it is")?;
    let mut roots = String::new();
    while !roots.contains("-----END") {
        roots.push_str(&lines.next().context("the server didn't say who signed for it")??);
        roots.push('\n');
    }
    Ok((server, address, roots))
}

async fn serve() -> anyhow::Result<()> {
    let mut authority = CertificateParams::new(Vec::new())?;
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let root = CertifiedIssuer::self_signed(authority.clone(), KeyPair::generate()?)?;
    // Another name than the root's, as in life: one name for both would look like a CA that signed itself.
    authority.distinguished_name.push(DnType::CommonName, "Issuing CA");
    let issuer = CertifiedIssuer::signed_by(authority, KeyPair::generate()?, &root)?;
    let key = KeyPair::generate()?;
    let leaf = CertificateParams::new(vec![NAME.to_owned()])?.signed_by(&key, &issuer)?;
    let config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(
            vec![leaf.der().clone(), issuer.der().clone()],
            PrivateKeyDer::Pkcs8(key.serialize_der().into()),
        )?;
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    println!("{}", listener.local_addr()?);
    // It ends with a line feed: what came after it, nobody would read.
    print!("{}", root.pem());
    loop {
        let (tcp, _) = listener.accept().await?;
        let acceptor = acceptor.clone();
        tokio::spawn(async move {
            if let Ok(mut tls) = acceptor.accept(tcp).await {
                let _ = tls.read_to_end(&mut Vec::new()).await;
            }
        });
    }
}
