//! The operator: the only crate with a Kubernetes client. `docs/architecture.md` is the map.

pub mod admin;
pub mod apiserver;
pub mod app;
#[expect(missing_docs, reason = "clap prints the comments as help")]
pub mod args;
pub mod clock;
pub mod cluster;
pub mod controller;
pub mod egress_policy;
pub mod engine;
pub mod explain;
pub mod kubernetes;
pub mod metrics;
pub mod telemetry;
pub mod watch;
pub mod world;

/// Runs the operator until it is asked to stop.
///
/// # Errors
/// See [`app::run`].
pub fn start(args: args::Run) -> anyhow::Result<()> {
    rustls::crypto::aws_lc_rs::default_provider()
        .install_default()
        .map_err(|_| anyhow::anyhow!("another TLS provider is installed"))?;
    telemetry::start(args.log_format, args.log_level);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?;
    let result = runtime.block_on(app::run(args));
    runtime.shutdown_timeout(std::time::Duration::from_secs(1));
    result
}
