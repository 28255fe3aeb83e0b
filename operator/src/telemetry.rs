//! Logging.

use crate::args::{LogFormat, LogLevel};
use std::io::IsTerminal;
use tracing_subscriber::{EnvFilter, fmt, layer::SubscriberExt, util::SubscriberInitExt};

/// Starts logging to standard error; colours only on a terminal.
///
/// kube logs an API server's answer that it can't decode, whole, as a warning: it might be a Secret. Its client is
/// capped at errors, whatever the level.
pub fn start(format: LogFormat, level: LogLevel) {
    let level = match level {
        LogLevel::Error => "error",
        LogLevel::Warn => "warn",
        LogLevel::Info => "info",
        LogLevel::Debug => "debug",
        LogLevel::Trace => "trace",
    };
    // Libraries have their say at warn: below that, they quote what peers and we send.
    let libraries = if level == "error" { "error" } else { "warn" };
    let ours = [
        "certmon",
        "certmon_core",
        "certmon_egress",
        "certmon_notify",
        "certmon_probe",
        "certmon_crd",
    ];
    let ours = ours.map(|target| format!("{target}={level}")).join(",");
    let filter = EnvFilter::new(format!(
        "{libraries},{ours},kube=error,kube_client=error,kube_client::client::builder=off,kube_core=error,lettre=error"
    ));
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
