//! TLS from the first byte: one look.

use crate::{Probe, failure, record::Recorder};
use certmon_core::{
    place::Host,
    target::{Addresses, DialTarget, Look, ProbeFailure, Provenance, Purpose, ServedBytes},
};
use certmon_egress::{Denied, DialError, Egress, Request, Stream, Vetted};
use futures::future::{BoxFuture, FutureExt, join_all};
use rustls::{
    CipherSuite, ClientConfig,
    client::Resumption,
    crypto::{CryptoProvider, aws_lc_rs},
    pki_types::ServerName,
};
use std::{net::IpAddr, sync::Arc, time::Duration};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    time::Instant,
};
use tokio_rustls::{TlsConnector, client::TlsStream};

/// Of one target so many addresses are dialled at most.
pub const MOST_DIALLED: usize = 16;
/// The longest that an address waits for its turn under the policy's bounds, before the look says that it could not be
/// made. Longer than a namespace with all the targets it may have needs at the default rate.
pub const LONGEST_WAIT: Duration = Duration::from_secs(300);
/// How long the server gets to say goodbye, so that it doesn't see a reset.
const FAREWELL: Duration = Duration::from_millis(200);
/// What it may say meanwhile (session tickets, an alert).
const FAREWELL_BYTES: usize = 16 * 1024;

/// Looks over TLS 1.2 and 1.3. Sends a ClientHello and what the handshake needs: no request, no client certificate.
pub struct TlsProbe {
    egress: Egress,
    config: ClientConfig,
}

impl TlsProbe {
    /// A probe that dials through this door.
    #[must_use]
    pub fn new(egress: Egress) -> Self {
        let mut config = ClientConfig::builder_with_provider(Arc::new(provider()))
            .with_safe_default_protocol_versions()
            .expect("the provider has cipher suites for both versions")
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(Recorder::default()))
            .with_no_client_auth();
        // A resumed session shows no chain, or an old one.
        config.resumption = Resumption::disabled();
        Self { egress, config }
    }

    async fn look_at(&self, target: DialTarget) -> Look {
        let start = Instant::now();
        let resolved = join_all(target.hosts.iter().map(|(host, port, provenance)| {
            let request = request(&target, host, *port, *provenance);
            async move { self.resolve(&request, target.timeout, target.addresses).await }
        }))
        .await;
        let mut look = Look {
            addresses: Vec::new(),
            unresolved: Vec::new(),
            refused: 0,
        };
        let mut dialled: Vec<Vetted> = Vec::new();
        for ((host, ..), outcome) in target.hosts.iter().zip(resolved) {
            match outcome {
                Ok((addresses, refused)) => {
                    look.refused += refused;
                    for vetted in addresses {
                        let known = dialled.iter().any(|other| other.address() == vetted.address());
                        if !known && dialled.len() < MOST_DIALLED {
                            dialled.push(vetted);
                        }
                    }
                }
                // Refused is refused, whether the host has an address that may be dialled beside it or none.
                Err(Denied::NotPermitted) => look.refused += 1,
                Err(denied) => look.unresolved.push((host.clone(), denied.into())),
            }
        }
        let left = target.timeout.saturating_sub(start.elapsed());
        let looks = join_all(
            dialled
                .iter()
                .map(|vetted| self.address(vetted, &target.server_name, left)),
        )
        .await;
        for (vetted, outcome) in dialled.iter().zip(looks) {
            let address = vetted.address();
            match outcome {
                // The policy was changed meanwhile: an address that is refused is never named.
                Err(ProbeFailure::NotPermitted) => look.refused += 1,
                outcome => look.addresses.push((address.ip(), address.port(), outcome)),
            }
        }
        look
    }

    async fn resolve(
        &self,
        request: &Request,
        timeout: Duration,
        addresses: Addresses,
    ) -> Result<(Vec<Vetted>, usize), Denied> {
        let mut resolved = tokio::time::timeout(timeout, self.egress.resolve(request))
            .await
            .map_err(|_| Denied::ResolverFailed)??;
        if addresses == Addresses::First {
            resolved.addresses.truncate(1);
        }
        Ok((resolved.addresses, resolved.refused))
    }

    /// One address, all of it within `timeout` from when its turn comes.
    async fn address(
        &self,
        vetted: &Vetted,
        server_name: &Host,
        timeout: Duration,
    ) -> Result<ServedBytes, ProbeFailure> {
        let turn = tokio::time::timeout(LONGEST_WAIT, self.egress.turn(vetted))
            .await
            .map_err(|_| ProbeFailure::from(DialError::Busy))?;
        let deadline = Instant::now() + timeout;
        let stream = turn.dial(deadline).await?;
        let recorder = Arc::new(Recorder::default());
        let mut config = self.config.clone();
        config.dangerous().set_certificate_verifier(recorder.clone());
        let name = name_asked_for(server_name, vetted.address().ip());
        let handshake = TlsConnector::from(Arc::new(config)).connect(name, stream);
        let failed = match tokio::time::timeout_at(deadline, handshake).await {
            Ok(Ok(tls)) => {
                part(tls, deadline).await;
                None
            }
            Ok(Err(error)) => Some(failure::of_handshake(&error)),
            Err(_) => Some(ProbeFailure::TimedOut),
        };
        // A server that wants a client certificate, or dislikes ours of none, has shown its own by then.
        recorder.served().ok_or_else(|| failed.unwrap_or(ProbeFailure::NotTls))
    }
}

impl Probe for TlsProbe {
    fn look(&self, target: DialTarget) -> BoxFuture<'_, Look> {
        self.look_at(target).boxed()
    }
}

fn request(target: &DialTarget, host: &Host, port: u16, provenance: Provenance) -> Request {
    Request {
        namespace: target.namespace.clone(),
        purpose: Purpose::Endpoint,
        provenance,
        host: host.clone(),
        port,
    }
}

/// X25519 stands first, so that it alone is sent as a key share; the hybrid group is offered without one. A ClientHello of
/// more than 1 kB is dropped by some servers; a server that insists on the hybrid group asks for its share. Of the suites
/// the one whose hash is done in hardware comes first: there is nothing to keep secret, and it saves a tenth of a look.
fn provider() -> CryptoProvider {
    let mut provider = CryptoProvider {
        kx_groups: vec![
            aws_lc_rs::kx_group::X25519,
            aws_lc_rs::kx_group::SECP256R1,
            aws_lc_rs::kx_group::SECP384R1,
            aws_lc_rs::kx_group::X25519MLKEM768,
        ],
        ..aws_lc_rs::default_provider()
    };
    provider
        .cipher_suites
        .sort_by_key(|suite| suite.suite() != CipherSuite::TLS13_AES_128_GCM_SHA256);
    provider
}

/// No SNI is sent for an address (RFC 6066 §3), nor for what is no name for one, such as a wildcard.
fn name_asked_for(server_name: &Host, dialled: IpAddr) -> ServerName<'static> {
    match server_name {
        Host::Ip(ip) => ServerName::IpAddress((*ip).into()),
        Host::Name(name) => {
            ServerName::try_from(name.to_string()).unwrap_or_else(|_| ServerName::IpAddress(dialled.into()))
        }
    }
}

/// Says goodbye, and waits a little for the server's, so that what it still had to say doesn't turn our close into a reset.
async fn part(mut tls: TlsStream<Stream>, deadline: Instant) {
    let by = deadline.min(Instant::now() + FAREWELL);
    let farewell = async {
        tls.shutdown().await?;
        let (stream, _) = tls.get_mut();
        let mut rest = stream.take(FAREWELL_BYTES as u64);
        let mut buffer = [0; 1024];
        while rest.read(&mut buffer).await? > 0 {}
        std::io::Result::Ok(())
    };
    // What comes of it is of no interest: the chain is there.
    let _ = tokio::time::timeout_at(by, farewell).await;
}
