//! Which monitors are to be gone over, and which of them is next. Namespaces share the engine's time as processes share a CPU:
//! whoever has used least of it goes first, so that a monitor with a thousand dead targets costs its own namespace's patience
//! and nobody else's.

use crate::cluster::Key;
use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
    time::Duration,
};
use tokio::time::Instant;

/// After it was gone over, a monitor rests for so many times as long as that took, so that what happens to it in the
/// meantime is gone over together.
const REST: u32 = 10;
/// But not longer than this.
const LONGEST_REST: Duration = Duration::from_secs(1);

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Agenda {
    /// Namespaces with something to be done.
    shares: BTreeMap<Arc<str>, Share>,
    /// Monitors that were gone over just now, and until when they rest.
    resting: HashMap<Key, Instant>,
    /// Those of them that are to be gone over again then.
    waiting: BTreeSet<(Instant, Key)>,
}

/// One namespace.
#[derive(Debug, Default)]
struct Share {
    /// The time that going over its monitors took, on a clock that all namespaces share.
    used: Duration,
    next: BTreeSet<Key>,
}

impl Agenda {
    /// Something happened to a monitor. It is gone over when it has rested.
    pub(super) fn mark(&mut self, key: &Key) {
        match self.resting.get(key) {
            Some(until) => {
                self.waiting.insert((*until, key.clone()));
            }
            None => self.urge(key),
        }
    }

    /// A monitor goes on with what it has begun: it doesn't rest before that.
    pub(super) fn urge(&mut self, key: &Key) {
        // Who comes anew has no credit for the time in which nothing was to be done.
        let least = self.shares.values().map(|share| share.used).min().unwrap_or_default();
        let share = self.shares.entry(key.namespace.clone()).or_insert_with(|| Share {
            used: least,
            ..Share::default()
        });
        share.next.insert(key.clone());
    }

    /// Takes the monitor that is next.
    pub(super) fn next(&mut self, now: Instant) -> Option<Key> {
        self.wake(now);
        let (_, share) = self.shares.iter_mut().min_by_key(|(_, share)| share.used)?;
        share.next.pop_first()
    }

    /// The monitor that was taken last was gone over, in so long.
    pub(super) fn passed(&mut self, key: &Key, took: Duration, now: Instant) {
        if let Some(share) = self.shares.get_mut(&key.namespace) {
            share.used += took;
            if share.next.is_empty() {
                self.shares.remove(&key.namespace);
            }
        }
        if let Some(until) = self.resting.remove(key) {
            self.waiting.remove(&(until, key.clone()));
        }
        if !took.is_zero() {
            let rest = (took * REST).min(LONGEST_REST);
            self.resting.insert(key.clone(), now + rest);
        }
    }

    /// When there is something to do, if nothing happens.
    pub(super) fn due(&self, now: Instant) -> Option<Instant> {
        if self.shares.is_empty() {
            self.waiting.first().map(|(until, _)| *until)
        } else {
            Some(now)
        }
    }

    /// A monitor is gone.
    pub(super) fn forget(&mut self, key: &Key) {
        if let Some(until) = self.resting.remove(key) {
            self.waiting.remove(&(until, key.clone()));
        }
        if let Some(share) = self.shares.get_mut(&key.namespace) {
            share.next.remove(key);
            if share.next.is_empty() {
                self.shares.remove(&key.namespace);
            }
        }
    }

    /// Takes every monitor that is to be gone over, whether it has rested or not.
    pub(super) fn drain(&mut self) -> Vec<Key> {
        let shares = std::mem::take(&mut self.shares);
        let mut all: BTreeSet<Key> = shares.into_values().flat_map(|share| share.next).collect();
        all.extend(std::mem::take(&mut self.waiting).into_iter().map(|(_, key)| key));
        all.into_iter().collect()
    }

    fn wake(&mut self, now: Instant) {
        while let Some((until, key)) = self.waiting.first().cloned().filter(|(until, _)| *until <= now) {
            self.waiting.remove(&(until, key.clone()));
            self.resting.remove(&key);
            self.urge(&key);
        }
        // Each of those rests for a second at most: there are as many as were gone over in it.
        if self.resting.len() > 2 * (self.waiting.len() + 64) {
            self.resting.retain(|_, until| *until > now);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(namespace: &str, name: &str) -> Key {
        Key::new(namespace, name)
    }

    const MILLISECOND: Duration = Duration::from_millis(1);

    #[test]
    fn a_namespace_that_takes_long_lets_the_others_go_first() {
        let mut agenda = Agenda::default();
        let (start, mut now) = (Instant::now(), Instant::now());
        let mut order = Vec::new();
        let took = |key: &Key| {
            if &*key.namespace == "big" {
                50 * MILLISECOND
            } else {
                MILLISECOND
            }
        };
        while now - start < Duration::from_secs(20) {
            for name in ["a", "b"] {
                agenda.mark(&key("big", name));
            }
            agenda.urge(&key("small", "s"));
            let next = agenda.next(now).unwrap();
            now += took(&next);
            agenda.passed(&next, took(&next), now);
            order.push(next);
        }
        let small = order.iter().filter(|key| &*key.namespace == "small").count();
        let big = order.len() - small;
        assert!(big > 10, "the other goes on too: {big}");
        assert!(small >= 40 * big, "{small} of one, {big} of the other");
    }

    #[test]
    fn who_comes_anew_goes_first_but_brings_no_credit() {
        let mut agenda = Agenda::default();
        let now = Instant::now();
        for name in ["a", "b", "c"] {
            agenda.urge(&key("old", name));
        }
        let first = agenda.next(now).unwrap();
        agenda.passed(&first, Duration::from_secs(10), now);
        agenda.urge(&key("new", "x"));
        agenda.urge(&key("new", "y"));
        // Both have used as much as the other: the newcomer isn't ten seconds ahead.
        assert_eq!(agenda.next(now), Some(key("new", "x")));
        agenda.passed(&key("new", "x"), MILLISECOND, now);
        assert_eq!(agenda.next(now), Some(key("old", "b")));
    }

    #[test]
    fn what_happens_while_a_monitor_rests_is_gone_over_together() {
        let mut agenda = Agenda::default();
        let now = Instant::now();
        let one = key("shop", "web");
        agenda.mark(&one);
        assert_eq!(agenda.next(now), Some(one.clone()));
        agenda.passed(&one, 5 * MILLISECOND, now);
        for _ in 0..100 {
            agenda.mark(&one);
        }
        assert_eq!(agenda.next(now + 49 * MILLISECOND), None);
        assert_eq!(agenda.due(now), Some(now + 50 * MILLISECOND));
        assert_eq!(agenda.next(now + 50 * MILLISECOND), Some(one.clone()));
        agenda.passed(&one, 5 * MILLISECOND, now + 55 * MILLISECOND);
        assert_eq!(agenda.due(now), None);
    }

    #[test]
    fn no_rest_is_longer_than_a_second_and_what_is_urged_has_none() {
        let mut agenda = Agenda::default();
        let now = Instant::now();
        let one = key("shop", "web");
        agenda.mark(&one);
        agenda.next(now).unwrap();
        agenda.passed(&one, Duration::from_secs(3600), now);
        agenda.mark(&one);
        assert_eq!(agenda.due(now), Some(now + LONGEST_REST));
        agenda.urge(&one);
        assert_eq!(agenda.next(now), Some(one.clone()));
        // That covered what waited.
        agenda.passed(&one, MILLISECOND, now);
        assert_eq!(agenda.due(now), None);
    }

    #[test]
    fn a_monitor_that_is_gone_is_on_no_list() {
        let mut agenda = Agenda::default();
        let now = Instant::now();
        let one = key("shop", "web");
        agenda.mark(&one);
        agenda.next(now).unwrap();
        agenda.passed(&one, MILLISECOND, now);
        agenda.mark(&one);
        agenda.urge(&one);
        agenda.forget(&one);
        assert!(agenda.shares.is_empty() && agenda.resting.is_empty() && agenda.waiting.is_empty());
    }
}
