//! TLS towards sinks: always verified, by the system's roots or by those of the sink's Secret instead.

use certmon_core::{delivery::FailureClass, place::Host};
use rustls::{
    ClientConfig, RootCertStore,
    client::Resumption,
    pki_types::{CertificateDer, ServerName, pem::PemObject},
};
use std::sync::{Arc, OnceLock};

/// The most certificates that are read from a `ca.crt`.
const MOST_ROOTS: usize = 200;

/// Whom a sink's server must be vouched for by.
#[derive(Clone)]
pub(crate) enum Roots {
    /// Whom the operator's own system trusts.
    System,
    /// The `ca.crt` of the sink's Secret, and nobody else.
    Own(Arc<RootCertStore>),
}

/// Reads a `ca.crt`.
///
/// # Errors
/// What is wrong with it, in words that quote nothing of it.
pub(crate) fn own_roots(pem: &[u8]) -> Result<Roots, &'static str> {
    let mut roots = RootCertStore::empty();
    for (read, certificate) in CertificateDer::pem_slice_iter(pem).enumerate() {
        if read == MOST_ROOTS {
            return Err("holds more than 200 certificates");
        }
        let certificate = certificate.map_err(|_| "is not PEM: a block is broken")?;
        roots
            .add(certificate)
            .map_err(|_| "holds a certificate that can't be read")?;
    }
    if roots.is_empty() {
        return Err("holds no certificate in PEM");
    }
    Ok(Roots::Own(Arc::new(roots)))
}

/// TLS configurations, that of the system's roots kept.
#[derive(Default)]
pub(crate) struct Tls {
    system: OnceLock<Arc<ClientConfig>>,
}

impl Tls {
    /// The configuration for a sink. TLS 1.2 and 1.3, no client certificate, no resumption: a session's ticket would
    /// tie one tenant's delivery to another's.
    pub(crate) fn config(&self, roots: &Roots) -> Arc<ClientConfig> {
        match roots {
            Roots::System => Arc::clone(self.system.get_or_init(|| config(system_roots()))),
            Roots::Own(own) => config(Arc::clone(own)),
        }
    }
}

/// What the system trusts. Certificates that can't be read, and a system without any, leave fewer roots: then what is
/// not vouched for is refused, and the sink says so.
fn system_roots() -> Arc<RootCertStore> {
    let mut roots = RootCertStore::empty();
    let found = rustls_native_certs::load_native_certs();
    let (added, ignored) = roots.add_parsable_certificates(found.certs);
    tracing::debug!(
        added,
        ignored,
        failed = found.errors.len(),
        "read the system's trusted roots for sinks"
    );
    Arc::new(roots)
}

fn config(roots: Arc<RootCertStore>) -> Arc<ClientConfig> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("the provider speaks TLS 1.2 and 1.3")
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.resumption = Resumption::disabled();
    Arc::new(config)
}

/// The name that the server's certificate must carry.
pub(crate) fn server_name(host: &Host) -> Option<ServerName<'static>> {
    match host {
        Host::Name(name) => ServerName::try_from(name.to_string()).ok(),
        Host::Ip(ip) => Some(ServerName::from(*ip)),
    }
}

/// Whether a handshake failed for want of trust, or for another reason. The text of the error is not kept: it may
/// quote the peer.
pub(crate) fn handshake_failure(error: &std::io::Error) -> FailureClass {
    let rustls = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
    match rustls {
        Some(rustls::Error::InvalidCertificate(_)) => FailureClass::TlsUntrusted,
        _ => FailureClass::Connect,
    }
}
