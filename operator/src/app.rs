//! Puts the operator together, and takes it down in order.

use crate::{
    admin, apiserver,
    args::Run,
    clock::{Clock, SystemClock},
    egress_policy,
    engine::{Engine, Seams, Settings},
    kubernetes::Kubernetes,
    metrics::Metrics,
    watch::Watches,
    world::Wanted,
};
use anyhow::{Context, bail};
use certmon_core::{place::Host, trust::Anchors};
use certmon_egress::{Egress, Resolver};
use certmon_notify::Sinks;
use certmon_probe::TlsProbe;
use std::sync::Arc;
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::{mpsc, watch},
    task::JoinSet,
};
use tokio_util::sync::CancellationToken;

/// What was watched and not yet taken in. A bound, so that a flood waits in the API server and not here.
const EVENTS: usize = 1024;

/// Runs the operator until SIGTERM or SIGINT.
///
/// # Errors
/// What is wrong with the flags, the policy file, the kubeconfig or the address to listen on; or a part of the operator died.
pub async fn run(args: Run) -> anyhow::Result<()> {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let file = args.egress_policy.clone().map(egress_policy::File::read).transpose()?;
    let policy = file.as_ref().map(egress_policy::File::policy).unwrap_or_default();
    let helo = args
        .smtp_helo
        .as_deref()
        .map(Host::parse)
        .transpose()
        .context("--smtp-helo")?;
    let config = apiserver::config(&args.kubeconfigs()).await?;
    let api_server = config.cluster_url.clone();
    let client = apiserver::connect(config).context("the Kubernetes client can't be made")?;
    let resolver = match args.dns_server {
        Some(server) => Resolver::server(server),
        None => Resolver::system(),
    };
    let (listener, bound) = admin::bind(args.listen)
        .await
        .with_context(|| format!("--listen {} can't be bound", args.listen))?;
    let own = apiserver::own_addresses(bound, &api_server).await;
    let egress = Egress::new(policy, own, resolver.context("names can't be resolved")?);
    let identity = args
        .identity
        .clone()
        .unwrap_or_else(|| format!("{:032x}", rand::random::<u128>()));
    let stop = CancellationToken::new();
    let metrics = Metrics::new();
    let seams = Seams {
        clock: clock.clone(),
        cluster: Arc::new(Kubernetes::new(client.clone(), identity.clone())),
        probe: Arc::new(TlsProbe::new(egress.clone())),
        sink: Arc::new(Sinks::new(egress.clone(), sink_clock(clock.clone()), helo)),
    };
    let scope: Vec<Box<str>> = args.watch_namespaces.iter().map(|name| name.as_str().into()).collect();
    let settings = Settings {
        identity,
        cluster_name: args.cluster_name.clone(),
        scope: scope.clone(),
        system_roots: Arc::new(system_roots()),
    };
    tracing::info!(
        version = env!("CARGO_PKG_VERSION"),
        listen = %bound,
        api_server = apiserver::origin(&api_server),
        scope = if scope.is_empty() { "all namespaces".to_owned() } else { scope.join(", ") },
        egress_policy = file.as_ref().map_or_else(|| "built-in policy".to_owned(), egress_policy::File::name),
        cluster = settings.cluster_name,
        identity = settings.identity,
        "certmon starts"
    );

    let (events, received) = mpsc::channel(EVENTS);
    let (wanted, asked) = watch::channel(Arc::new(Wanted::default()));
    let engine = Engine::new(seams, settings, metrics.clone(), wanted);
    tokio::spawn(apiserver::greet(client.clone()));
    let watches = Watches::new(client, scope, events.clone(), metrics.watch_restarts.clone());
    let mut parts = JoinSet::new();
    let engine_stop = stop.clone();
    parts.spawn(async move {
        engine.run(received, engine_stop).await;
        "engine"
    });
    parts.spawn(async move {
        watches.run(asked).await;
        "watches"
    });
    let admin_stop = stop.clone();
    let reloaded = metrics.egress_policy_reloaded.clone();
    parts.spawn(async move {
        admin::serve(listener, metrics, admin_stop).await;
        "admin"
    });
    if let Some(file) = file {
        parts.spawn(async move {
            file.follow(egress, events, reloaded).await;
            "egress policy"
        });
    }
    supervise(parts, stop).await
}

/// Waits for a signal, then for the engine. A part that ends by itself ends the process: half alive is worse than gone.
async fn supervise(mut parts: JoinSet<&'static str>, stop: CancellationToken) -> anyhow::Result<()> {
    let mut term = signal(SignalKind::terminate()).context("signals can't be caught")?;
    let mut int = signal(SignalKind::interrupt()).context("signals can't be caught")?;
    let died = tokio::select! {
        _ = term.recv() => None,
        _ = int.recv() => None,
        ended = parts.join_next() => ended,
    };
    stop.cancel();
    if let Some(ended) = died {
        bail!("{} ended unexpectedly", ended.unwrap_or("a part of certmon"));
    }
    tracing::info!("certmon stops");
    while let Some(ended) = parts.join_next().await {
        if matches!(ended, Ok("engine")) {
            break;
        }
    }
    Ok(())
}

/// The machine's roots. The program brings none: where none are found, nothing is trusted, and that is said.
fn system_roots() -> Anchors {
    let found = rustls_native_certs::load_native_certs();
    let anchors = Anchors::from_der(&found.certs);
    if anchors.is_empty() {
        tracing::warn!("no root certificates were found on this system: nothing that is served can be trusted by them");
    }
    anchors
}

fn sink_clock(clock: Arc<dyn Clock>) -> certmon_notify::Now {
    Arc::new(move || clock.now())
}
