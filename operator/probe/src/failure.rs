//! What went wrong, by kind. The texts of rustls and of the peer end here.

use certmon_core::target::ProbeFailure;
use rustls::{Error, InvalidMessage};
use std::io;

/// Of a handshake that ended before a certificate came.
pub(crate) fn of_handshake(error: &io::Error) -> ProbeFailure {
    let tls = error.get_ref().and_then(|inner| inner.downcast_ref::<Error>());
    if let Some(tls) = tls {
        return of_tls(tls);
    }
    match error.kind() {
        io::ErrorKind::UnexpectedEof
        | io::ErrorKind::ConnectionReset
        | io::ErrorKind::ConnectionAborted
        | io::ErrorKind::BrokenPipe
        | io::ErrorKind::NotConnected => ProbeFailure::Closed,
        io::ErrorKind::TimedOut => ProbeFailure::TimedOut,
        io::ErrorKind::HostUnreachable | io::ErrorKind::NetworkUnreachable => ProbeFailure::NoRoute,
        _ => ProbeFailure::Local,
    }
}

fn of_tls(error: &Error) -> ProbeFailure {
    match error {
        Error::InvalidMessage(
            InvalidMessage::HandshakePayloadTooLarge | InvalidMessage::CertificatePayloadTooLarge,
        ) => ProbeFailure::TooLarge,
        Error::InvalidMessage(_)
        | Error::InappropriateMessage { .. }
        | Error::PeerSentOversizedRecord
        | Error::DecryptError => ProbeFailure::NotTls,
        // The server speaks TLS, but no version or algorithm of ours, or not as it should.
        Error::AlertReceived(_)
        | Error::PeerIncompatible(_)
        | Error::PeerMisbehaved(_)
        | Error::InappropriateHandshakeMessage { .. }
        | Error::NoCertificatesPresented
        | Error::NoApplicationProtocol => ProbeFailure::TlsAlert,
        _ => ProbeFailure::Local,
    }
}
