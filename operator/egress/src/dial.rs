//! The door: a request becomes vetted addresses, a vetted address becomes a stream.

use crate::{
    ConnectError, Denied, DialError, OwnAddresses, Policy, Request, Resolved, Resolver, Stream, Vetted, classify,
    lanes::{Lanes, Permits},
};
use certmon_core::place::Host;
use std::{
    net::SocketAddr,
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};
use tokio::{
    net::{TcpSocket, TcpStream},
    time::Instant,
};

/// How long one address gets to accept a connection.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// The one door out. Cheap to clone; all clones share the policy and the bounds.
#[derive(Clone)]
pub struct Egress {
    resolver: Resolver,
    rules: Arc<RwLock<Rules>>,
}

#[derive(Clone)]
struct Rules {
    policy: Arc<Policy>,
    own: Arc<OwnAddresses>,
    lanes: Arc<Lanes>,
}

impl Egress {
    /// A door under a policy. `own` is what may not be reached because it is the operator or the API server.
    #[must_use]
    pub fn new(policy: Policy, own: OwnAddresses, resolver: Resolver) -> Self {
        let rules = Rules {
            lanes: Arc::new(Lanes::new(policy.limits())),
            policy: Arc::new(policy),
            own: Arc::new(own),
        };
        Self {
            resolver,
            rules: Arc::new(RwLock::new(rules)),
        }
    }

    /// Puts another policy in force, at once: what was vetted and isn't dialled yet is judged by it too. Connections
    /// that are open stay, and don't count under changed limits.
    pub fn replace_policy(&self, policy: Policy) {
        let mut rules = self.rules.write().unwrap_or_else(PoisonError::into_inner);
        if rules.lanes.limits() != policy.limits() {
            rules.lanes = Arc::new(Lanes::new(policy.limits()));
        }
        rules.policy = Arc::new(policy);
    }

    fn rules(&self) -> Rules {
        self.rules.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Resolves a request's host once, and keeps what the policy permits. Nothing is dialled. Takes at most 3 s.
    ///
    /// # Errors
    /// [`Denied`] where nothing is left to dial.
    pub async fn resolve(&self, request: &Request) -> Result<Resolved, Denied> {
        let answer = match &request.host {
            Host::Ip(ip) => vec![*ip],
            Host::Name(name) if classify::is_metadata_name(name) => return Err(Denied::NotPermitted),
            Host::Name(_) if request.host.is_wildcard() => return Err(Denied::NoRecord),
            Host::Name(name) => self.resolver.addresses(name).await?,
        };
        let rules = self.rules();
        let all = answer.len();
        let request = Arc::new(request.clone());
        let addresses: Vec<Vetted> = answer
            .into_iter()
            .filter(|ip| rules.policy.permits(&rules.own, &request, *ip))
            .map(|ip| Vetted {
                address: SocketAddr::new(ip.to_canonical(), request.port),
                request: Arc::clone(&request),
            })
            .collect();
        if addresses.is_empty() {
            return Err(Denied::NotPermitted);
        }
        let refused = all - addresses.len();
        Ok(Resolved { addresses, refused })
    }

    /// Whether a request could be dialled. Resolves, and dials nothing: for sinks that have nothing to say yet.
    ///
    /// # Errors
    /// As [`Self::resolve`].
    pub async fn permitted(&self, request: &Request) -> Result<(), Denied> {
        self.resolve(request).await.map(|_| ())
    }

    /// Waits until the bounds of rate and concurrency leave room for this address. Without end: a deadline for the peer
    /// should begin when its turn comes. Giving up is dropping the future.
    pub async fn turn(&self, vetted: &Vetted) -> Turn {
        let lanes = self.rules().lanes;
        Turn {
            egress: self.clone(),
            vetted: vetted.clone(),
            permits: lanes.turn(vetted).await,
        }
    }

    /// Waits for a turn, then dials, all by the deadline, and the dial itself in at most [`CONNECT_TIMEOUT`].
    ///
    /// # Errors
    /// [`DialError`]; [`DialError::Busy`] where no turn came before the deadline.
    pub async fn dial(&self, vetted: &Vetted, deadline: Instant) -> Result<Stream, DialError> {
        let turn = tokio::time::timeout_at(deadline, self.turn(vetted))
            .await
            .map_err(|_| DialError::Busy)?;
        turn.dial(deadline).await
    }

    /// [`Self::resolve`] and [`Self::dial`]: the permitted addresses one after another until one answers. Each gets its
    /// part of the time that is left.
    ///
    /// # Errors
    /// [`ConnectError`]; of several failures the last.
    pub async fn connect(&self, request: &Request, deadline: Instant) -> Result<Stream, ConnectError> {
        let resolved = tokio::time::timeout_at(deadline, self.resolve(request))
            .await
            .map_err(|_| Denied::ResolverFailed)??;
        let mut last = DialError::TimedOut;
        let mut left = u32::try_from(resolved.addresses.len()).unwrap_or(u32::MAX);
        for vetted in &resolved.addresses {
            let now = Instant::now();
            let part = deadline.saturating_duration_since(now) / left.max(1);
            match self.dial(vetted, now + part).await {
                Ok(stream) => return Ok(stream),
                Err(error) => last = error,
            }
            left -= 1;
        }
        Err(last.into())
    }
}

/// The right to dial one vetted address now.
pub struct Turn {
    egress: Egress,
    vetted: Vetted,
    permits: Permits,
}

impl Turn {
    /// Dials, by the deadline and in at most [`CONNECT_TIMEOUT`]. The policy is asked once more: it may have changed
    /// while the turn was waited for.
    ///
    /// # Errors
    /// [`DialError`].
    pub async fn dial(self, deadline: Instant) -> Result<Stream, DialError> {
        let Self {
            egress,
            vetted,
            permits,
        } = self;
        let rules = egress.rules();
        if !rules.policy.permits(&rules.own, &vetted.request, vetted.address.ip()) {
            return Err(DialError::NotPermitted);
        }
        let by = deadline.min(Instant::now() + CONNECT_TIMEOUT);
        let tcp = tokio::time::timeout_at(by, open(vetted.address))
            .await
            .map_err(|_| DialError::TimedOut)??;
        Ok(Stream::new(tcp, vetted.address, permits))
    }
}

async fn open(address: SocketAddr) -> Result<TcpStream, DialError> {
    let fault = |error: std::io::Error| DialError::of(&error, address.ip());
    let socket = match address {
        SocketAddr::V4(_) => TcpSocket::new_v4(),
        SocketAddr::V6(_) => TcpSocket::new_v6(),
    }
    .map_err(fault)?;
    let tcp = socket.connect(address).await.map_err(fault)?;
    tcp.set_nodelay(true).map_err(fault)?;
    Ok(tcp)
}
