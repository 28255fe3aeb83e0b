//! The outside: what names resolve to, and what each address serves.

use super::certificates::Issued;
use certmon_core::{
    place::Host,
    target::{DialTarget, Look, ProbeFailure, ServedBytes},
};
use certmon_probe::Probe;
use futures::{FutureExt, future::BoxFuture};
use std::{
    collections::BTreeMap,
    net::IpAddr,
    sync::{Mutex, PoisonError},
    time::Duration,
};

/// How long a look takes.
const LOOK: Duration = Duration::from_millis(20);

/// What an address does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Serves {
    /// A chain.
    Chain(Vec<Vec<u8>>),
    /// Nothing: it fails so.
    Fails(ProbeFailure),
    /// The egress policy refuses it.
    NotPermitted,
    /// Whoever looks at it panics.
    Panics,
    /// It serves at one look and fails at the next, in turn.
    Flaps(Vec<Vec<u8>>, ProbeFailure),
}

#[derive(Default)]
struct State {
    records: BTreeMap<String, Vec<IpAddr>>,
    serving: BTreeMap<IpAddr, Serves>,
    looks: u64,
}

/// Names and servers; an address that nobody set up refuses connections.
#[derive(Default)]
pub(crate) struct Servers(Mutex<State>);

impl Servers {
    fn with<T>(&self, with: impl FnOnce(&mut State) -> T) -> T {
        with(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// A name has these addresses from now on.
    pub(crate) fn resolve(&self, name: &str, addresses: &[&str]) {
        let addresses = addresses.iter().map(|ip| ip.parse().expect("an address")).collect();
        self.with(|state| state.records.insert(name.to_owned(), addresses));
    }

    /// An address serves this certificate from now on.
    pub(crate) fn serve(&self, address: &str, certificate: &Issued) {
        self.set(address, Serves::Chain(vec![certificate.der.clone()]));
    }

    /// An address does this from now on.
    pub(crate) fn set(&self, address: &str, serves: Serves) {
        let address = address.parse().expect("an address");
        self.with(|state| state.serving.insert(address, serves));
    }

    /// Looks so far.
    pub(crate) fn looks(&self) -> u64 {
        self.with(|state| state.looks)
    }

    fn answer(&self, target: &DialTarget) -> Look {
        self.with(|state| {
            state.looks += 1;
            let (mut addresses, mut unresolved, mut refused) = (Vec::new(), Vec::new(), 0);
            for (host, port, _) in &target.hosts {
                let found = match host {
                    Host::Ip(ip) => vec![*ip],
                    Host::Name(name) => state.records.get(&**name).cloned().unwrap_or_default(),
                };
                if found.is_empty() {
                    unresolved.push((host.clone(), ProbeFailure::NoRecord));
                }
                for ip in found {
                    let result = match state.serving.get(&ip) {
                        None => Err(ProbeFailure::Refused),
                        Some(Serves::NotPermitted) => {
                            refused += 1;
                            continue;
                        }
                        Some(Serves::Panics) => panic!("a look at {ip} panics"),
                        Some(Serves::Fails(cause)) => Err(*cause),
                        Some(Serves::Flaps(_, cause)) if state.looks.is_multiple_of(2) => Err(*cause),
                        Some(Serves::Chain(chain) | Serves::Flaps(chain, _)) => {
                            Ok(ServedBytes { chain: chain.clone() })
                        }
                    };
                    addresses.push((ip, *port, result));
                }
            }
            Look {
                addresses,
                unresolved,
                refused,
            }
        })
    }
}

impl Probe for Servers {
    fn look(&self, target: DialTarget) -> BoxFuture<'_, Look> {
        async move {
            tokio::time::sleep(LOOK).await;
            self.answer(&target)
        }
        .boxed()
    }
}
