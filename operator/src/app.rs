//! Puts the operator together, and takes it down in order.

use crate::{
    admin,
    args::Run,
    clock::{Clock, SystemClock},
    engine::{Engine, Seams, Settings},
    kubernetes::{self, Kubernetes, MANAGER},
    metrics::Metrics,
    watch::Watches,
    world::{Wanted, WorldEvent},
};
use anyhow::{Context, bail};
use certmon_core::{place::Host, trust::Anchors};
use certmon_egress::{Egress, OwnAddresses, Policy, Resolver};
use certmon_notify::Sinks;
use certmon_probe::TlsProbe;
use kube::{
    Config,
    config::{KubeConfigOptions, Kubeconfig},
};
use std::{net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::{mpsc, watch},
    task::JoinSet,
};
use tokio_util::sync::CancellationToken;

/// What was watched and not yet taken in. A bound, so that a flood waits in the API server and not here.
const EVENTS: usize = 1024;
/// How often the egress policy's file is looked at.
const POLICY_EVERY: Duration = Duration::from_secs(2);

/// Runs the operator until SIGTERM or SIGINT.
///
/// # Errors
/// What is wrong with the flags, the policy file, the kubeconfig or the address to listen on; or a part of the operator died.
pub async fn run(args: Run) -> anyhow::Result<()> {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let policy = args
        .egress_policy
        .as_ref()
        .map(read_policy)
        .transpose()?
        .unwrap_or_default();
    let helo = args
        .smtp_helo
        .as_deref()
        .map(Host::parse)
        .transpose()
        .context("--smtp-helo")?;
    let config = kube_config(&args).await?;
    let api_server = config.cluster_url.clone();
    let client = kubernetes::connect(config).context("the Kubernetes client can't be made")?;
    let resolver = match args.dns_server {
        Some(server) => Resolver::server(server),
        None => Resolver::system(),
    };
    let (listener, bound) = admin::bind(args.listen)
        .await
        .with_context(|| format!("--listen {} can't be bound", args.listen))?;
    let own = own_addresses(bound, &api_server).await;
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
    tracing::info!(version = env!("CARGO_PKG_VERSION"), listen = %bound, "certmon starts");

    let (events, received) = mpsc::channel(EVENTS);
    let (wanted, asked) = watch::channel(Arc::new(Wanted::default()));
    let engine = Engine::new(seams, settings, metrics.clone(), wanted);
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
    parts.spawn(async move {
        admin::serve(listener, metrics, clock, admin_stop).await;
        "admin"
    });
    if let Some(path) = args.egress_policy {
        parts.spawn(async move {
            follow_policy(path, egress, events).await;
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

fn read_policy(path: &PathBuf) -> anyhow::Result<Policy> {
    let name = path.display().to_string();
    let text = std::fs::read_to_string(path).with_context(|| format!("--egress-policy {name} can't be read"))?;
    Ok(Policy::parse(&text, &name)?)
}

/// Takes a changed policy over; keeps the last good one while the file is broken or gone, and says so once.
async fn follow_policy(path: PathBuf, egress: Egress, events: mpsc::Sender<WorldEvent>) {
    let mut last = tokio::fs::read_to_string(&path).await.ok();
    let mut every = tokio::time::interval(POLICY_EVERY);
    loop {
        every.tick().await;
        let now = tokio::fs::read_to_string(&path).await.ok();
        if now == last {
            continue;
        }
        match now
            .as_deref()
            .map(|text| Policy::parse(text, &path.display().to_string()))
        {
            Some(Ok(policy)) => {
                egress.replace_policy(policy);
                tracing::info!(file = %path.display(), "the egress policy was taken over");
                if events.send(WorldEvent::EgressPolicy).await.is_err() {
                    return;
                }
            }
            Some(Err(error)) => tracing::error!(%error, "the egress policy can't be used; the last good one holds"),
            None => tracing::error!(file = %path.display(), "the egress policy is gone; the last good one holds"),
        }
        last = now;
    }
}

async fn kube_config(args: &Run) -> anyhow::Result<Config> {
    let options = KubeConfigOptions::default();
    let mut config = match &args.kubeconfig {
        Some(path) => {
            let file = Kubeconfig::read_from(path)
                .with_context(|| format!("--kubeconfig {} can't be read", path.display()))?;
            Config::from_custom_kubeconfig(file, &options)
                .await
                .context("the kubeconfig can't be used")?
        }
        None => Config::infer().await.context(
            "neither a kubeconfig (KUBECONFIG, --kubeconfig, ~/.kube/config) nor a Pod's ServiceAccount was found",
        )?,
    };
    // The engine knows when to try again, and whether it is still wanted.
    config.default_retry = false;
    config.connect_timeout = Some(Duration::from_secs(10));
    let agent = format!("{MANAGER}/{}", env!("CARGO_PKG_VERSION"));
    config.headers.push((
        http::header::USER_AGENT,
        agent.parse().context("the version is no header value")?,
    ));
    Ok(config)
}

/// Where the operator itself and the API server listen: neither may be dialled on a tenant's word.
async fn own_addresses(bound: SocketAddr, api_server: &http::Uri) -> OwnAddresses {
    let https = if api_server.scheme_str() == Some("http") {
        80
    } else {
        443
    };
    let host = api_server
        .host()
        .unwrap_or_default()
        .trim_matches(['[', ']'])
        .to_owned();
    let port = api_server.port_u16().unwrap_or(https);
    let mut servers: Vec<SocketAddr> = tokio::net::lookup_host((host, port))
        .await
        .map(Iterator::collect)
        .unwrap_or_default();
    // Inside a cluster the Service has a name too.
    servers.extend(
        tokio::net::lookup_host(("kubernetes.default.svc", 443))
            .await
            .into_iter()
            .flatten(),
    );
    let mut own = vec![bound];
    // The address that packets leave by is the Pod's.
    for (any, target) in [
        ("0.0.0.0:0", servers.iter().find(|addr| addr.is_ipv4())),
        ("[::]:0", servers.iter().find(|addr| addr.is_ipv6())),
    ] {
        let Some(target) = target.filter(|target| !target.ip().is_loopback()) else {
            continue;
        };
        if let Ok(socket) = tokio::net::UdpSocket::bind(any).await
            && socket.connect(target).await.is_ok()
            && let Ok(local) = socket.local_addr()
        {
            own.push(SocketAddr::new(local.ip(), bound.port()));
        }
    }
    OwnAddresses {
        operator: own,
        api_server: servers,
    }
}

/// The machine's roots; in an image without any, those that the program brings.
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
