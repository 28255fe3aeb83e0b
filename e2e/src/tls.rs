//! TLS servers of the world: well-behaved ones whose certificate can be changed while they run, and bad ones.
//!
//! All listen on loopback and end with the value that stands for them.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use anyhow::{Context as _, Result};
use rustls::ServerConfig;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinHandle, JoinSet};
use tokio_rustls::TlsAcceptor;

use crate::{Identity, install_crypto};

/// Ends a task when dropped.
#[derive(Debug)]
pub(crate) struct Task(JoinHandle<()>);

impl Task {
    pub(crate) fn spawn(future: impl Future<Output = ()> + Send + 'static) -> Self {
        Self(tokio::spawn(future))
    }

    /// Ends it, and waits until it has let go of everything.
    pub(crate) async fn end(mut self) {
        self.0.abort();
        let _cancelled = (&mut self.0).await;
    }
}

impl Drop for Task {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Accepts on `listener` and runs `serve` for each connection, until dropped.
pub(crate) fn accept<F>(listener: TcpListener, mut serve: impl FnMut(TcpStream) -> F + Send + 'static) -> Task
where
    F: Future<Output = ()> + Send + 'static,
{
    Task::spawn(async move {
        let mut connections = JoinSet::new();
        loop {
            tokio::select! {
                accepted = listener.accept() => if let Ok((stream, _peer)) = accepted {
                    connections.spawn(serve(stream));
                },
                Some(_ended) = connections.join_next() => {}
            }
        }
    })
}

pub(crate) async fn listen(address: SocketAddr) -> Result<(TcpListener, SocketAddr)> {
    let listener = TcpListener::bind(address)
        .await
        .with_context(|| format!("can't listen on {address}"))?;
    let address = listener.local_addr()?;
    Ok((listener, address))
}

pub(crate) const ANY_PORT: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 0);

/// What a server presents now, and the names that it was asked for.
#[derive(Debug)]
struct Presented {
    key: RwLock<Arc<CertifiedKey>>,
    server_names: Mutex<Vec<Option<String>>>,
}

impl ResolvesServerCert for Presented {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let name = hello.server_name().map(str::to_owned);
        self.server_names
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(name);
        Some(Arc::clone(&self.key.read().unwrap_or_else(PoisonError::into_inner)))
    }
}

/// A TLS 1.2 and 1.3 server that shakes hands and then waits for the client to leave.
#[derive(Debug)]
pub struct TlsServer {
    address: SocketAddr,
    presented: Arc<Presented>,
    connections: Arc<AtomicUsize>,
    _task: Task,
}

impl TlsServer {
    /// On a free port of 127.0.0.1.
    ///
    /// # Errors
    /// When it can't listen, or rustls can't use the key.
    pub async fn start(identity: &Identity) -> Result<Self> {
        Self::start_on(ANY_PORT, identity).await
    }

    /// On an address of its own, as a second address of one name, or one that comes back.
    ///
    /// # Errors
    /// When it can't listen, or rustls can't use the key.
    pub async fn start_on(address: SocketAddr, identity: &Identity) -> Result<Self> {
        let presented = Arc::new(Presented {
            key: RwLock::new(Arc::new(identity.certified_key()?)),
            server_names: Mutex::new(Vec::new()),
        });
        let acceptor = acceptor(Arc::clone(&presented) as Arc<dyn ResolvesServerCert>);
        let (listener, address) = listen(address).await?;
        let connections = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&connections);
        let task = accept(listener, move |stream| {
            counted.fetch_add(1, Ordering::SeqCst);
            let acceptor = acceptor.clone();
            async move {
                if let Ok(mut session) = acceptor.accept(stream).await {
                    let _left = session.read_to_end(&mut Vec::new()).await;
                }
            }
        });
        Ok(Self {
            address,
            presented,
            connections,
            _task: task,
        })
    }

    /// Presents another certificate from the next handshake on: a renewal.
    ///
    /// # Errors
    /// When rustls can't use the key.
    pub fn present(&self, identity: &Identity) -> Result<()> {
        *self.presented.key.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(identity.certified_key()?);
        Ok(())
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The port alone.
    pub fn port(&self) -> u16 {
        self.address.port()
    }

    /// How many connections were accepted so far.
    pub fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }

    /// The server name of each handshake so far.
    pub fn server_names(&self) -> Vec<Option<String>> {
        self.presented
            .server_names
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}

fn acceptor(resolver: Arc<dyn ResolvesServerCert>) -> TlsAcceptor {
    install_crypto();
    TlsAcceptor::from(Arc::new(
        ServerConfig::builder()
            .with_no_client_auth()
            .with_cert_resolver(resolver),
    ))
}

/// An acceptor for a server that presents `identity` alone.
pub(crate) fn acceptor_for(identity: &Identity) -> Result<TlsAcceptor> {
    let presented = Presented {
        key: RwLock::new(Arc::new(identity.certified_key()?)),
        server_names: Mutex::new(Vec::new()),
    };
    Ok(acceptor(Arc::new(presented)))
}

/// How a [`BadServer`] misbehaves.
#[derive(Debug, Clone)]
pub enum Misbehaviour {
    /// Accepts and says nothing.
    Silent,
    /// Says these bytes at once, then waits.
    Says(Vec<u8>),
    /// Says these bytes over and over, one per pause.
    Drips(Vec<u8>, Duration),
    /// Closes at once.
    HangsUp,
}

/// A server that doesn't speak TLS.
#[derive(Debug)]
pub struct BadServer {
    address: SocketAddr,
    connections: Arc<AtomicUsize>,
    _task: Task,
}

impl BadServer {
    /// On a free port of 127.0.0.1.
    ///
    /// # Errors
    /// When it can't listen.
    pub async fn start(misbehaviour: Misbehaviour) -> Result<Self> {
        Self::start_on(ANY_PORT, misbehaviour).await
    }

    /// On an address of its own: of one address only a few ports are dialled at a time.
    ///
    /// # Errors
    /// When it can't listen.
    pub async fn start_on(address: SocketAddr, misbehaviour: Misbehaviour) -> Result<Self> {
        let (listener, address) = listen(address).await?;
        let connections = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&connections);
        let task = accept(listener, move |stream| {
            counted.fetch_add(1, Ordering::SeqCst);
            misbehave(stream, misbehaviour.clone())
        });
        Ok(Self {
            address,
            connections,
            _task: task,
        })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The port alone.
    pub fn port(&self) -> u16 {
        self.address.port()
    }

    /// How many connections were accepted so far.
    pub fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }
}

async fn misbehave(stream: TcpStream, how: Misbehaviour) {
    let (mut from, mut to) = stream.into_split();
    let says = async {
        match how {
            Misbehaviour::HangsUp => return,
            Misbehaviour::Silent => {}
            Misbehaviour::Says(bytes) => {
                let _sent = to.write_all(&bytes).await;
            }
            Misbehaviour::Drips(bytes, pause) => {
                for byte in bytes.iter().cycle() {
                    if to.write_all(std::slice::from_ref(byte)).await.is_err() {
                        return;
                    }
                    tokio::time::sleep(pause).await;
                }
            }
        }
        std::future::pending::<()>().await;
    };
    let mut ignored = [0; 1024];
    let hears = async { while from.read(&mut ignored).await.is_ok_and(|read| read > 0) {} };
    tokio::select! { () = says => {}, () = hears => {} }
}

#[cfg(test)]
mod tests {
    use rustls::pki_types::pem::PemObject as _;
    use rustls::pki_types::{CertificateDer, ServerName};
    use rustls::{ClientConfig, RootCertStore};
    use tokio_rustls::TlsConnector;

    use super::*;
    use crate::{Authority, Leaf, Validity};

    /// The leaf that a client of `authority` gets, or why it doesn't.
    async fn leaf(server: SocketAddr, name: &str, authority: &Authority) -> Result<Vec<u8>> {
        install_crypto();
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(authority.pem().as_bytes())?)?;
        let config = ClientConfig::builder()
            .with_root_certificates(roots)
            .with_no_client_auth();
        let stream = TcpStream::connect(server).await?;
        let name = ServerName::try_from(name.to_owned())?;
        let session = TlsConnector::from(Arc::new(config)).connect(name, stream).await?;
        let chain = session.get_ref().1.peer_certificates().context("no chain")?;
        Ok(chain[0].to_vec())
    }

    #[tokio::test]
    async fn a_renewed_certificate_is_served_from_the_next_handshake_on() -> Result<()> {
        let root = Authority::new("Root")?;
        let intermediate = root.intermediate("Intermediate", Validity::ending_in(Duration::from_secs(3600)))?;
        let old = intermediate.issue(&Leaf::for_names(["shop.test"]))?;
        let new = intermediate.issue(&Leaf::for_names(["shop.test"]))?;
        let server = TlsServer::start(&old).await?;
        assert_eq!(
            leaf(server.address(), "shop.test", &root).await?,
            old.chain()[0].to_vec()
        );
        server.present(&new)?;
        assert_eq!(
            leaf(server.address(), "shop.test", &root).await?,
            new.chain()[0].to_vec()
        );
        assert_eq!(server.connections(), 2);
        assert_eq!(
            server.server_names(),
            [Some("shop.test".to_owned()), Some("shop.test".to_owned())]
        );
        Ok(())
    }

    #[tokio::test]
    async fn a_client_refuses_what_is_wrong_on_purpose() -> Result<()> {
        let root = Authority::new("Root")?;
        let intermediate = root.intermediate("Intermediate", Validity::ending_in(Duration::from_secs(3600)))?;
        let names = || Leaf::for_names(["shop.test"]);
        let cases = [
            (
                "expired",
                "certificate expired",
                root.issue(&names().expired(Duration::from_secs(86_400)))?,
            ),
            (
                "wrong name",
                "not valid for name",
                root.issue(&Leaf::for_names(["other.test"]))?,
            ),
            ("self-signed", "UnknownIssuer", names().self_signed()?),
            (
                "no intermediate",
                "UnknownIssuer",
                intermediate.issue(&names())?.without_intermediates(),
            ),
        ];
        for (case, expected, identity) in cases {
            let server = TlsServer::start(&identity).await?;
            let error = format!(
                "{:?}",
                leaf(server.address(), "shop.test", &root).await.expect_err(case)
            );
            assert!(error.contains(expected), "{case}: {error}");
        }
        Ok(())
    }

    #[tokio::test]
    async fn a_bad_server_never_shakes_hands() -> Result<()> {
        let root = Authority::new("Root")?;
        for how in [Misbehaviour::HangsUp, Misbehaviour::Says(b"SSH-2.0-test\r\n".to_vec())] {
            let server = BadServer::start(how).await?;
            assert!(leaf(server.address(), "shop.test", &root).await.is_err());
            assert_eq!(server.connections(), 1);
        }
        for how in [
            Misbehaviour::Silent,
            Misbehaviour::Drips(vec![22, 3, 3], Duration::from_millis(5)),
        ] {
            let server = BadServer::start(how).await?;
            let patience = Duration::from_millis(100);
            let outcome = tokio::time::timeout(patience, leaf(server.address(), "shop.test", &root)).await;
            assert!(
                !matches!(outcome, Ok(Ok(_))),
                "a handshake with a server that speaks no TLS"
            );
        }
        Ok(())
    }
}
