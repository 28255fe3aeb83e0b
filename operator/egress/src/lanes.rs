//! Turns: how much may be open at once, and how fast it may be opened, so that nobody takes more than a share.

use crate::{Limits, Vetted};
use certmon_core::target::Purpose;
use std::{
    collections::HashMap,
    net::IpAddr,
    num::NonZeroU32,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    time::Duration,
};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::Instant,
};

/// Maps are swept when they have grown to twice what the last sweep left, and not below this.
const SWEEP_AT: usize = 256;

/// What an open connection holds, and gives back when it is dropped.
#[derive(Debug)]
pub(crate) struct Permits(#[expect(dead_code, reason = "held until it is dropped")] [OwnedSemaphorePermit; 3]);

/// The lanes under one set of limits.
pub(crate) struct Lanes {
    limits: Limits,
    endpoints: Arc<Semaphore>,
    sinks: Arc<Semaphore>,
    shares: Mutex<Swept<Share, Weak<Semaphore>>>,
    paces: Mutex<Paces>,
}

#[derive(PartialEq, Eq, Hash)]
struct Share {
    purpose: Purpose,
    namespace: Box<str>,
    address: Option<IpAddr>,
}

struct Paces {
    all: Pace,
    namespaces: Swept<Box<str>, Pace>,
}

struct Swept<K, V> {
    map: HashMap<K, V>,
    sweep_at: usize,
}

impl<K: std::hash::Hash + Eq, V> Swept<K, V> {
    fn new() -> Self {
        Self {
            map: HashMap::new(),
            sweep_at: SWEEP_AT,
        }
    }

    fn sweep(&mut self, live: impl Fn(&V) -> bool) {
        if self.map.len() >= self.sweep_at {
            self.map.retain(|_, value| live(value));
            self.sweep_at = (self.map.len() * 2).max(SWEEP_AT);
        }
    }
}

/// A rate with a burst, by reservation (GCRA): who comes first goes first, and nobody wakes to find the turn taken.
#[derive(Clone, Copy)]
struct Pace {
    /// When the reservations made so far are used up.
    until: Instant,
}

impl Pace {
    /// Reserves the next turn, and says when it is.
    fn reserve(&mut self, now: Instant, per_second: NonZeroU32, burst: NonZeroU32) -> Instant {
        let gap = Duration::from_secs(1) / per_second.get();
        self.until = self.until.max(now) + gap;
        let ahead = gap * burst.get();
        self.until.checked_sub(ahead).map_or(now, |turn| turn.max(now))
    }
}

impl Lanes {
    pub(crate) fn new(limits: Limits) -> Self {
        let all = || Arc::new(Semaphore::new(permits(limits.concurrent)));
        Self {
            limits,
            endpoints: all(),
            sinks: all(),
            shares: Mutex::new(Swept::new()),
            paces: Mutex::new(Paces {
                all: Pace { until: Instant::now() },
                namespaces: Swept::new(),
            }),
        }
    }

    pub(crate) fn limits(&self) -> Limits {
        self.limits
    }

    /// Waits for a turn, without end: who waits gives up by dropping the future. The narrow bound comes first, so that
    /// who waits for it doesn't hold a part of the wider ones.
    pub(crate) async fn turn(&self, vetted: &Vetted) -> Permits {
        let request = &vetted.request;
        if request.purpose == Purpose::Endpoint {
            self.pace(&request.namespace).await;
        }
        let share = |address| self.share(request.purpose, &request.namespace, address);
        let wide = match request.purpose {
            Purpose::Endpoint => &self.endpoints,
            Purpose::Sink => &self.sinks,
        };
        let address = acquire(share(Some(vetted.address.ip()))).await;
        let namespace = acquire(share(None)).await;
        let all = acquire(Arc::clone(wide)).await;
        Permits([address, namespace, all])
    }

    async fn pace(&self, namespace: &str) {
        let limits = self.limits;
        let turn = {
            let now = Instant::now();
            let mut paces = lock(&self.paces);
            paces.namespaces.sweep(|pace| pace.until > now);
            let pace = match paces.namespaces.map.get_mut(namespace) {
                Some(pace) => pace,
                None => paces
                    .namespaces
                    .map
                    .entry(namespace.into())
                    .or_insert(Pace { until: now }),
            };
            pace.reserve(now, limits.per_second_per_namespace, limits.burst_per_namespace)
        };
        tokio::time::sleep_until(turn).await;
        // Only now: a namespace that waits for its own turn takes none of the others'.
        let turn = lock(&self.paces)
            .all
            .reserve(Instant::now(), limits.per_second, limits.per_second);
        tokio::time::sleep_until(turn).await;
    }

    fn share(&self, purpose: Purpose, namespace: &str, address: Option<IpAddr>) -> Arc<Semaphore> {
        let share = Share {
            purpose,
            namespace: namespace.into(),
            address,
        };
        let mut shares = lock(&self.shares);
        if let Some(semaphore) = shares.map.get(&share).and_then(Weak::upgrade) {
            return semaphore;
        }
        shares.sweep(|semaphore| semaphore.strong_count() > 0);
        let bound = match address {
            Some(_) => self.limits.concurrent_per_address,
            None => self.limits.concurrent_per_namespace,
        };
        let semaphore = Arc::new(Semaphore::new(permits(bound)));
        shares.map.insert(share, Arc::downgrade(&semaphore));
        semaphore
    }
}

fn permits(bound: NonZeroU32) -> usize {
    usize::try_from(bound.get()).unwrap_or(Semaphore::MAX_PERMITS)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn acquire(semaphore: Arc<Semaphore>) -> OwnedSemaphorePermit {
    semaphore.acquire_owned().await.expect("no lane is ever closed")
}
