//! The way out for every sink: `egress` for the socket, one place for TLS.

use crate::tls::{Roots, Tls};
use certmon_core::{
    delivery::{FailureClass, Misconfigured},
    place::Host,
    target::{Provenance, Purpose},
};
use certmon_egress::{ConnectError, Denied, DialError, Egress, Request, Stream};
use rustls::ClientConfig;
use std::sync::Arc;
use tokio::time::Instant;

/// The one door, and what TLS behind it trusts.
pub(crate) struct Door {
    egress: Egress,
    tls: Tls,
}

impl Door {
    pub(crate) fn new(egress: Egress) -> Self {
        Self {
            egress,
            tls: Tls::default(),
        }
    }

    /// TLS that trusts `roots`.
    pub(crate) fn tls(&self, roots: &Roots) -> Arc<ClientConfig> {
        self.tls.config(roots)
    }

    /// Whether the policy lets a namespace's sink go there. Dials nothing.
    pub(crate) async fn permitted(&self, namespace: &str, host: &Host, port: u16) -> Result<(), Denied> {
        self.egress.permitted(&request(namespace, host, port)).await
    }

    /// Dials in at most half of the time that is left, so that the other half is for talking. One address gets at most
    /// 5 s of it.
    ///
    /// # Errors
    /// The class of the failure; all of them are clear.
    pub(crate) async fn dial(
        &self,
        namespace: &str,
        host: &Host,
        port: u16,
        deadline: Instant,
    ) -> Result<Stream, FailureClass> {
        let now = Instant::now();
        let by = now + deadline.saturating_duration_since(now) / 2;
        self.egress
            .connect(&request(namespace, host, port), by)
            .await
            .map_err(|error| match error {
                ConnectError::Denied(Denied::NotPermitted) | ConnectError::Dial(DialError::NotPermitted) => {
                    FailureClass::Misconfigured(Misconfigured::NotPermitted)
                }
                ConnectError::Denied(Denied::NoRecord) => FailureClass::NoRecord,
                ConnectError::Denied(Denied::ResolverFailed) => FailureClass::ResolverFailed,
                ConnectError::Dial(_) => FailureClass::Connect,
            })
    }
}

fn request(namespace: &str, host: &Host, port: u16) -> Request {
    Request {
        namespace: namespace.into(),
        purpose: Purpose::Sink,
        provenance: Provenance::FreeText,
        host: host.clone(),
        port,
    }
}
