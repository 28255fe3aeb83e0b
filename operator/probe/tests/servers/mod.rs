//! Chains, TLS servers and raw TCP servers on loopback.

#[path = "../../../egress/tests/proxies/mod.rs"]
#[allow(dead_code, unreachable_pub, reason = "each test file uses its part")]
pub mod proxies;

use certmon_core::{
    place::Host,
    target::{Addresses, DialTarget, Provenance},
};
use certmon_egress::{Egress, OwnAddresses, Policy, Resolver};
use certmon_probe::TlsProbe;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair, SignatureAlgorithm};
use rustls::{
    RootCertStore, ServerConfig, SupportedProtocolVersion,
    crypto::{CryptoProvider, aws_lc_rs},
    pki_types::{CertificateDer, PrivateKeyDer},
    server::WebPkiClientVerifier,
};
use std::{
    io,
    net::{Ipv4Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};
use tokio::{
    io::AsyncReadExt,
    net::{TcpListener, TcpStream},
    sync::mpsc,
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};

/// Root, intermediate, and what they issue.
pub(crate) struct Authority {
    root: CertifiedIssuer<'static, KeyPair>,
    intermediate: CertifiedIssuer<'static, KeyPair>,
}

/// A chain as it is served, and the leaf's key.
pub(crate) struct Identity {
    pub(crate) chain: Vec<CertificateDer<'static>>,
    pub(crate) key: KeyPair,
}

impl Identity {
    pub(crate) fn ders(&self) -> Vec<Vec<u8>> {
        self.chain.iter().map(|certificate| certificate.to_vec()).collect()
    }
}

fn authority_params() -> CertificateParams {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params
}

pub(crate) fn leaf_params(name: &str) -> CertificateParams {
    CertificateParams::new(vec![name.to_owned()]).unwrap()
}

impl Authority {
    pub(crate) fn new() -> Self {
        let root = CertifiedIssuer::self_signed(authority_params(), KeyPair::generate().unwrap()).unwrap();
        let intermediate = CertifiedIssuer::signed_by(authority_params(), KeyPair::generate().unwrap(), &root).unwrap();
        Self { root, intermediate }
    }

    pub(crate) fn issue(&self, params: &CertificateParams) -> Identity {
        self.issue_for(params, &rcgen::PKCS_ECDSA_P256_SHA256)
    }

    pub(crate) fn issue_for(&self, params: &CertificateParams, algorithm: &'static SignatureAlgorithm) -> Identity {
        let key = KeyPair::generate_for(algorithm).unwrap();
        let leaf = params.signed_by(&key, &self.intermediate).unwrap();
        Identity {
            chain: vec![leaf.der().clone(), self.intermediate.der().clone()],
            key,
        }
    }
}

/// How a TLS server behaves.
pub(crate) struct Manner {
    pub(crate) versions: &'static [&'static SupportedProtocolVersion],
    pub(crate) provider: CryptoProvider,
    /// It demands a client certificate.
    pub(crate) demands_certificate: bool,
}

impl Default for Manner {
    fn default() -> Self {
        Self {
            versions: rustls::ALL_VERSIONS,
            provider: aws_lc_rs::default_provider(),
            demands_certificate: false,
        }
    }
}

impl Manner {
    pub(crate) fn of(self, authority: &Authority, identity: &Identity) -> TlsAcceptor {
        let provider = Arc::new(self.provider);
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_protocol_versions(self.versions)
            .unwrap();
        let builder = if self.demands_certificate {
            let mut roots = RootCertStore::empty();
            roots.add(authority.root.der().clone()).unwrap();
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider)
                .build()
                .unwrap();
            builder.with_client_cert_verifier(verifier)
        } else {
            builder.with_no_client_auth()
        };
        let key = PrivateKeyDer::Pkcs8(identity.key.serialize_der().into());
        TlsAcceptor::from(Arc::new(builder.with_single_cert(identity.chain.clone(), key).unwrap()))
    }
}

/// What a TLS server saw of one visit.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Visit {
    /// The server name that was asked for; `Err` where the handshake failed on the server's side.
    pub(crate) server_name: Result<Option<String>, ()>,
    /// How the client left, after so many bytes of application data.
    pub(crate) end: Result<usize, io::ErrorKind>,
}

/// Serves TLS, and tells of each visit.
pub(crate) async fn serve(at: SocketAddr, acceptor: TlsAcceptor) -> (SocketAddr, mpsc::UnboundedReceiver<Visit>) {
    let (tell, visits) = mpsc::unbounded_channel();
    let address = serve_raw(at, move |tcp| {
        let (acceptor, tell) = (acceptor.clone(), tell.clone());
        async move {
            let visit = match acceptor.accept(tcp).await {
                Ok(mut tls) => Visit {
                    server_name: Ok(tls.get_ref().1.server_name().map(str::to_owned)),
                    end: read_to_end(&mut tls).await,
                },
                Err(error) => Visit {
                    server_name: Err(()),
                    end: Err(error.kind()),
                },
            };
            let _ = tell.send(visit);
        }
    })
    .await;
    (address, visits)
}

async fn read_to_end(tls: &mut TlsStream<TcpStream>) -> Result<usize, io::ErrorKind> {
    tls.read_to_end(&mut Vec::new()).await.map_err(|error| error.kind())
}

/// Serves TCP, one task per connection.
pub(crate) async fn serve_raw<F>(at: SocketAddr, behave: impl Fn(TcpStream) -> F + Send + 'static) -> SocketAddr
where
    F: Future<Output = ()> + Send + 'static,
{
    let listener = TcpListener::bind(at).await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((tcp, _)) = listener.accept().await {
            tokio::spawn(behave(tcp));
        }
    });
    address
}

pub(crate) fn loopback(last: u8, port: u16) -> SocketAddr {
    (Ipv4Addr::new(127, 0, 0, last), port).into()
}

/// A probe to which 127.0.0.1–127.0.0.15 is allowed, by a policy file like everyone's.
pub(crate) fn probe(ports: &[u16], resolver: Resolver) -> TlsProbe {
    let policy = format!("allow: [{{namespaces: [demo], cidrs: [127.0.0.0/28], ports: {ports:?}}}]");
    let policy = Policy::parse(&policy, "policy.yaml").unwrap();
    TlsProbe::new(Egress::new(policy, OwnAddresses::default(), resolver))
}

pub(crate) fn no_resolver() -> Resolver {
    Resolver::server(loopback(1, 9)).unwrap()
}

pub(crate) fn target(hosts: &[(&str, u16)], server_name: &str, timeout: Duration) -> DialTarget {
    DialTarget {
        namespace: "demo".into(),
        hosts: hosts
            .iter()
            .map(|(host, port)| (Host::parse(host).unwrap(), *port, Provenance::FreeText))
            .collect(),
        server_name: Host::parse(server_name).unwrap(),
        addresses: Addresses::All,
        timeout,
    }
}
