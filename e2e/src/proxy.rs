//! A reverse proxy before the real API server, for what a network and an API server do on bad days.
//!
//! The operator goes through it with [`Proxy::kubeconfig`]. Rules see each request before it is forwarded and each answer
//! before it is returned, and may kill the operator at that moment, answer in the server's place, delay, cut a body short,
//! fall silent or hang up. What no rule is about passes unchanged.

mod relay;
mod request;

use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;
use tokio_rustls::TlsAcceptor;

pub use request::{Matching, Request};

use crate::kubeconfig::Access;
use crate::tls::{Task, accept, acceptor_for, listen};
use crate::{Authority, Leaf, ports, wait_for};
use relay::Upstream;

/// Where a request stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// It arrived whole, and was not forwarded.
    Request,
    /// The API server answered with this status, and nothing of it was returned.
    Answer(u16),
}

/// What is done with a request or an answer.
#[derive(Debug, Clone)]
pub enum Verdict {
    /// A `Status` with this code, in the server's place.
    Status(u16),
    /// 429 as the API server's priority and fairness says it: a line of text, and the seconds in `Retry-After`.
    TooManyRequests(u32),
    /// 200 and this line, in the place of a watch: as where the server's history doesn't reach back far enough.
    Line(String),
    /// Goes on after a while.
    Delay(Duration),
    /// Of the answer's body only so many bytes, then the connection breaks. Said of a request.
    CutShort(usize),
    /// Nothing is answered, and the connection stays.
    Silence,
    /// The connection is closed without an answer.
    HangUp,
}

/// `None` where the rule has nothing to say.
type Rule = Box<dyn FnMut(&Request, Step) -> Option<Verdict> + Send>;

struct Shared {
    upstream: Upstream,
    acceptor: TlsAcceptor,
    rules: Mutex<Vec<Rule>>,
    requests: Mutex<Vec<Request>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Shared {
    /// What the first rule says that says anything.
    fn verdict(&self, request: &Request, step: Step) -> Option<Verdict> {
        if step == Step::Request {
            lock(&self.requests).push(request.clone());
        }
        lock(&self.rules).iter_mut().find_map(|rule| rule(request, step))
    }
}

/// A proxy on a free port of 127.0.0.1: TLS on both sides, HTTP/1.1.
pub struct Proxy {
    address: SocketAddr,
    authority: Authority,
    shared: Arc<Shared>,
    serving: tokio::sync::Mutex<Option<Task>>,
}

impl fmt::Debug for Proxy {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let requests = lock(&self.shared.requests);
        let asked = requests.iter().map(ToString::to_string);
        formatter
            .debug_tuple("Proxy")
            .field(&self.address)
            .field(&asked.collect::<Vec<_>>())
            .finish()
    }
}

impl Proxy {
    /// One before this API server, without rules.
    ///
    /// # Errors
    /// When it can't listen, or the server's CA is unusable.
    pub async fn start(access: &Access) -> Result<Self> {
        let authority = Authority::new("certmon-e2e proxy")?;
        let acceptor = acceptor_for(&authority.issue(&Leaf::for_names(["localhost", "127.0.0.1"]))?)?;
        let address = ([127, 0, 0, 1], ports::free()?.1).into();
        let (listener, address) = listen(address).await?;
        let shared = Arc::new(Shared {
            upstream: Upstream::of(access)?,
            acceptor,
            rules: Mutex::new(Vec::new()),
            requests: Mutex::new(Vec::new()),
        });
        let serving = serve(listener, &shared);
        Ok(Self {
            address,
            authority,
            shared,
            serving: tokio::sync::Mutex::new(Some(serving)),
        })
    }

    /// A copy of a kubeconfig that goes through the proxy.
    ///
    /// # Errors
    /// When it isn't one of [`write_kubeconfig`](crate::write_kubeconfig)'s.
    pub fn kubeconfig(&self, original: &Path) -> Result<PathBuf> {
        let mut config: Value = serde_json::from_slice(&std::fs::read(original)?)
            .with_context(|| format!("{} is not written by the harness", original.display()))?;
        config["clusters"][0]["cluster"] = serde_json::json!({
            "server": format!("https://{}", self.address),
            "certificate-authority-data": STANDARD.encode(self.authority.pem()),
        });
        let path = original.with_extension(format!("through-{}.kubeconfig", self.address.port()));
        std::fs::write(&path, config.to_string()).with_context(|| path.display().to_string())?;
        Ok(path)
    }

    /// Asks this rule too, after those before it. It must not block for long.
    pub fn rule(&self, rule: impl FnMut(&Request, Step) -> Option<Verdict> + Send + 'static) {
        lock(&self.shared.rules).push(Box::new(rule));
    }

    /// Does this with the next `times` requests that match, before they are forwarded.
    pub fn fault(&self, matching: Matching, times: usize, verdict: Verdict) {
        let mut left = times;
        self.rule(move |request, step| {
            if step != Step::Request || left == 0 || !matching.is(request) {
                return None;
            }
            left -= 1;
            Some(verdict.clone())
        });
    }

    /// The requests so far that match, oldest first.
    pub fn requests(&self, matching: &Matching) -> Vec<Request> {
        let requests = lock(&self.shared.requests);
        requests
            .iter()
            .filter(|request| matching.is(request))
            .cloned()
            .collect()
    }

    /// Waits until at least `count` requests have come that match, and returns them.
    ///
    /// # Errors
    /// At the deadline, with those that did come.
    pub async fn wait_for_requests(
        &self,
        matching: &Matching,
        count: usize,
        deadline: Duration,
    ) -> Result<Vec<Request>> {
        wait_for(&format!("{count} requests of {matching:?}"), deadline, async || {
            let seen = self.requests(matching);
            (seen.len() >= count)
                .then(|| seen.clone())
                .ok_or_else(|| anyhow!("{} came: {seen:?}", seen.len()))
        })
        .await
    }

    /// Breaks all connections, and refuses new ones.
    pub async fn gone(&self) {
        if let Some(serving) = self.serving.lock().await.take() {
            serving.end().await;
        }
    }

    /// Is there again, at the same address.
    ///
    /// # Errors
    /// When somebody else took the port meanwhile.
    pub async fn back(&self) -> Result<()> {
        let (listener, _) = listen(self.address).await?;
        *self.serving.lock().await = Some(serve(listener, &self.shared));
        Ok(())
    }

    /// Breaks all connections, running watches too, and takes new ones.
    ///
    /// # Errors
    /// When somebody else took the port in between.
    pub async fn break_connections(&self) -> Result<()> {
        self.gone().await;
        self.back().await
    }
}

fn serve(listener: tokio::net::TcpListener, shared: &Arc<Shared>) -> Task {
    let shared = Arc::clone(shared);
    accept(listener, move |stream| relay::serve(stream, Arc::clone(&shared)))
}
