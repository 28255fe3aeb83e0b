//! Logging.

use crate::args::{LogFormat, LogLevel};
use std::io::IsTerminal;
use tracing_subscriber::{EnvFilter, fmt, layer::SubscriberExt, util::SubscriberInitExt};

/// Libraries that speak with peers. What they log, a peer can make them log, as often as it likes and at any level; what is
/// worth knowing of it stands in status, metrics and our own lines.
const OF_PEERS: [&str; 11] = [
    "rustls",
    "tokio_rustls",
    "hyper",
    "hyper_util",
    "h2",
    "lettre",
    "hickory_net",
    "hickory_proto",
    "hickory_resolver",
    "tower",
    "axum",
];

/// Starts logging to standard error; colours only on a terminal.
pub fn start(format: LogFormat, level: LogLevel) {
    std::panic::set_hook(Box::new(|panic| say_panic(panic.location())));
    let filter = EnvFilter::new(directives(level));
    let registry = tracing_subscriber::registry().with(filter);
    match format {
        LogFormat::Json => registry.with(fmt::layer().json().with_writer(std::io::stderr)).init(),
        LogFormat::Text => {
            let colours = std::io::stderr().is_terminal();
            registry
                .with(fmt::layer().with_ansi(colours).with_writer(std::io::stderr))
                .init();
        }
    }
}

/// Where it was, and no more: the message of a panic may quote what was read.
fn say_panic(location: Option<&std::panic::Location<'_>>) {
    let at = location.map_or_else(|| "an unknown place".to_owned(), ToString::to_string);
    tracing::error!(at, "a panic; this is a fault of certmon's, please report it");
}

/// Which lines are written. Below error, libraries quote what peers and we send; kube logs an API server's answer that it
/// can't decode, whole, as a warning: it might be a Secret. So of libraries errors alone are written, whatever the level,
/// and of those that speak with peers nothing.
fn directives(level: LogLevel) -> String {
    let level = match level {
        LogLevel::Error => "error",
        LogLevel::Warn => "warn",
        LogLevel::Info => "info",
        LogLevel::Debug => "debug",
        LogLevel::Trace => "trace",
    };
    let ours = [
        "certmon",
        "certmon_core",
        "certmon_egress",
        "certmon_notify",
        "certmon_probe",
        "certmon_crd",
    ];
    let ours = ours.map(|target| format!("{target}={level}")).join(",");
    let off = OF_PEERS.map(|target| format!("{target}=off")).join(",");
    format!("error,{ours},kube_client::client::builder=off,{off}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{
        io::{self, Write},
        sync::{Arc, Mutex, PoisonError},
    };

    #[derive(Clone, Default)]
    struct Log(Arc<Mutex<Vec<u8>>>);

    impl Write for Log {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let mut log = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            log.extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn written(level: LogLevel, work: impl FnOnce()) -> String {
        let log = Log::default();
        let writer = log.clone();
        let layer = fmt::layer().with_ansi(false).with_writer(move || writer.clone());
        let filter = EnvFilter::new(directives(level));
        tracing::subscriber::with_default(tracing_subscriber::registry().with(filter).with(layer), work);
        let bytes = log.0.lock().unwrap_or_else(PoisonError::into_inner);
        String::from_utf8_lossy(&bytes).into_owned()
    }

    #[test]
    fn what_a_peer_can_provoke_in_a_library_is_never_written() {
        for level in [LogLevel::Error, LogLevel::Info, LogLevel::Trace] {
            let log = written(level, || {
                tracing::error!(target: "rustls::common_state", "peer");
                tracing::warn!(target: "rustls::common_state", "peer");
                tracing::warn!(target: "rustls::client::hs", "peer");
                tracing::error!(target: "hyper::proto::h1::conn", "peer");
                tracing::warn!(target: "hyper_util::client::legacy", "peer");
                tracing::warn!(target: "h2::proto::streams", "peer");
                tracing::error!(target: "hickory_resolver::name_server_pool", "peer");
                tracing::warn!(target: "hickory_net::udp", "peer");
                tracing::warn!(target: "hickory_proto::op", "peer");
                tracing::warn!(target: "lettre::transport", "peer");
                tracing::warn!(target: "kube_client::client", "peer");
                tracing::error!(target: "kube_client::client::builder", "peer");
                tracing::warn!(target: "any_other::library", "peer");
                tracing::error!(target: "certmon::app", "ours");
            });
            assert!(!log.contains("peer") && log.contains("ours"), "{level:?}: {log}");
        }
    }

    #[test]
    fn of_a_panic_only_its_place_is_written() {
        let log = written(LogLevel::Error, || {
            let before = std::panic::take_hook();
            std::panic::set_hook(Box::new(|panic| say_panic(panic.location())));
            let panicked = std::panic::catch_unwind(|| panic!("canary of a certificate"));
            std::panic::set_hook(before);
            assert!(panicked.is_err());
        });
        assert!(log.contains("telemetry.rs:") && !log.contains("canary"), "{log}");
    }

    #[test]
    fn the_level_is_that_of_our_own_lines() {
        let lines = || {
            tracing::warn!(target: "certmon_notify::sinks", "one");
            tracing::info!(target: "certmon::engine", "two");
            tracing::debug!(target: "certmon_core", "three");
            tracing::error!(target: "kube_client", "four");
        };
        let count = |level| written(level, lines).lines().count();
        let counts = [
            LogLevel::Error,
            LogLevel::Warn,
            LogLevel::Info,
            LogLevel::Debug,
            LogLevel::Trace,
        ]
        .map(count);
        assert_eq!(counts, [1, 2, 3, 4, 4]);
    }
}
