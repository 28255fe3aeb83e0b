//! When which target is dialled. Monitors of one namespace that name one target with one policy share its looks.

use super::{Engine, QUARANTINE, writing::Done};
use crate::cluster::Key;
use certmon_core::{place::Place, reason::Reason, target::DialTarget};
use chrono::{DateTime, Utc};
use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    panic::{AssertUnwindSafe, catch_unwind},
};

/// Looks in flight, of all namespaces and of one: a namespace can't take more than its share. The sockets have bounds of
/// their own, in the egress policy; these keep the queue in front of them short and fair.
const IN_FLIGHT: usize = 512;
const IN_FLIGHT_OF_NAMESPACE: usize = 32;

/// The schedule: a queue for each namespace, so that one with thousands of targets that are due stands in nobody's way.
#[derive(Default)]
pub(super) struct Looks {
    slots: HashMap<DialTarget, Slot>,
    lanes: HashMap<Box<str>, Lane>,
    /// The namespaces that may start a look: by how many of theirs are in flight, then by when their next one is due.
    heads: BTreeSet<(usize, DateTime<Utc>, Box<str>)>,
    in_flight: usize,
}

struct Slot {
    due: DateTime<Utc>,
    in_flight: bool,
    subscribers: BTreeMap<(Key, Place), DateTime<Utc>>,
}

/// One namespace.
#[derive(Default)]
struct Lane {
    queue: BTreeSet<(DateTime<Utc>, DialTarget)>,
    in_flight: usize,
    /// As it stands in [`Looks::heads`].
    head: Option<(usize, DateTime<Utc>)>,
}

impl Looks {
    /// When the next look that may start is due.
    pub(super) fn next_due(&self) -> Option<DateTime<Utc>> {
        let next = self.by_load().map(|(_, due, _)| *due).min();
        next.filter(|_| self.in_flight < IN_FLIGHT)
    }

    /// For each number of looks in flight, the namespace with so many whose next one is due first.
    fn by_load(&self) -> impl Iterator<Item = &(usize, DateTime<Utc>, Box<str>)> {
        (0..IN_FLIGHT_OF_NAMESPACE).filter_map(|load| {
            let of_load =
                (load, DateTime::<Utc>::MIN_UTC, Box::default())..(load + 1, DateTime::<Utc>::MIN_UTC, Box::default());
            self.heads.range(of_load).next()
        })
    }

    /// A monitor's place wants its target looked at at `due`.
    pub(super) fn subscribe(&mut self, key: &Key, place: &Place, target: &DialTarget, due: DateTime<Utc>) {
        let slot = self.slots.entry(target.clone()).or_insert_with(|| Slot {
            due,
            in_flight: false,
            subscribers: BTreeMap::new(),
        });
        slot.subscribers.insert((key.clone(), place.clone()), due);
        if slot.in_flight {
            // The result that is on its way was asked for earlier than this.
            return;
        }
        let before = slot.due;
        slot.due = slot.subscribers.values().min().copied().unwrap_or(due);
        let after = slot.due;
        self.lane(target, |lane| {
            lane.queue.remove(&(before, target.clone()));
            lane.queue.insert((after, target.clone()));
        });
    }

    /// A monitor's place is of no interest any more, or dials another target now.
    pub(super) fn unsubscribe(&mut self, key: &Key, place: &Place, target: &DialTarget) {
        let Some(slot) = self.slots.get_mut(target) else { return };
        slot.subscribers.remove(&(key.clone(), place.clone()));
        if slot.subscribers.is_empty() && !slot.in_flight {
            let due = slot.due;
            self.slots.remove(target);
            self.lane(target, |lane| {
                lane.queue.remove(&(due, target.clone()));
            });
        }
    }

    /// Changes the lane of a target, and keeps its head.
    fn lane<T>(&mut self, target: &DialTarget, change: impl FnOnce(&mut Lane) -> T) -> T {
        let lane = self.lanes.entry(target.namespace.clone()).or_default();
        let result = change(lane);
        let first = lane.queue.first().map(|(due, _)| *due);
        let head = first.map(|due| (lane.in_flight, due));
        let head = head.filter(|(load, _)| *load < IN_FLIGHT_OF_NAMESPACE);
        let before = std::mem::replace(&mut lane.head, head);
        if lane.queue.is_empty() && lane.in_flight == 0 {
            self.lanes.remove(&target.namespace);
        }
        if before != head {
            let of = |(load, due)| (load, due, target.namespace.clone());
            before.map(|head| self.heads.remove(&of(head)));
            self.heads.extend(head.map(of));
        }
        result
    }

    /// Takes the next target that is due and has its share.
    fn start(&mut self, now: DateTime<Utc>) -> Option<DialTarget> {
        if self.in_flight >= IN_FLIGHT {
            return None;
        }
        // Who has least in flight goes first, however long others have been due.
        let (_, due, namespace) = self.by_load().find(|(_, due, _)| *due <= now)?.clone();
        let (_, target) = self.lanes.get(&namespace)?.queue.first()?.clone();
        self.lane(&target, |lane| {
            lane.queue.remove(&(due, target.clone()));
            lane.in_flight += 1;
        });
        if let Some(slot) = self.slots.get_mut(&target) {
            slot.in_flight = true;
        }
        self.in_flight += 1;
        Some(target)
    }

    /// A look ended. Returns whom it concerns; each of them says when it wants the next.
    pub(super) fn ended(&mut self, target: &DialTarget) -> Vec<(Key, Place)> {
        self.in_flight = self.in_flight.saturating_sub(1);
        self.lane(target, |lane| lane.in_flight = lane.in_flight.saturating_sub(1));
        let Some(slot) = self.slots.get_mut(target) else {
            return vec![];
        };
        slot.in_flight = false;
        let concerned: Vec<(Key, Place)> = slot.subscribers.keys().cloned().collect();
        if concerned.is_empty() {
            self.slots.remove(target);
        }
        concerned
    }
}

impl Engine {
    /// Starts every look that is due and has its share.
    pub(super) fn start_looks(&mut self) {
        let now = self.now();
        if self.draining {
            return;
        }
        while let Some(target) = self.looks.start(now) {
            let (probe, clock) = (self.seams.probe.clone(), self.seams.clock.clone());
            let lost = target.clone();
            let duration = self.metrics.probe_duration.clone();
            self.tasks.spawn(async move {
                use futures::FutureExt;
                let began = tokio::time::Instant::now();
                let look = AssertUnwindSafe(probe.look(target.clone())).catch_unwind().await;
                duration.observe(began.elapsed().as_secs_f64());
                match look {
                    Ok(look) => Done::Looked {
                        target,
                        look,
                        at: clock.now(),
                    },
                    Err(_) => Done::LookPanicked(lost),
                }
            });
        }
    }

    /// A look came back: each place that dials this target takes it in, and its monitor is gone over.
    pub(super) fn looked(&mut self, target: &DialTarget, look: &certmon_core::target::Look, at: DateTime<Utc>) {
        for (key, place) in self.looks.ended(target) {
            // What the peer served is parsed in there.
            let taken = catch_unwind(AssertUnwindSafe(|| self.record_look(&key, &place, target, look, at)));
            if taken.is_err() {
                self.look_failed_inside(&key, &place, target);
            }
            self.agenda.mark(&key);
        }
    }

    /// A look panicked.
    pub(super) fn look_panicked(&mut self, target: &DialTarget) {
        for (key, place) in self.looks.ended(target) {
            self.look_failed_inside(&key, &place, target);
            self.agenda.mark(&key);
        }
    }

    /// Looking panicked, or taking in what was seen: whom it concerns is told so, and the target is looked at again in a while.
    fn look_failed_inside(&mut self, key: &Key, place: &Place, target: &DialTarget) {
        self.metrics.panics.inc();
        tracing::error!(monitor = %key, %place, "a look panicked; this is a fault of certmon's, please report it");
        self.looks.subscribe(key, place, target, self.now() + QUARANTINE);
        let note = format!("Looking at {} failed inside certmon; please report it", place.title());
        self.publish(key, true, Reason::InternalError, "Probe", &note, None);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use certmon_core::{
        place::Host,
        target::{Addresses, Provenance},
    };
    use chrono::TimeDelta;

    fn target(namespace: &str, name: &str) -> DialTarget {
        let host = Host::parse(name).unwrap();
        DialTarget {
            namespace: namespace.into(),
            hosts: vec![(host.clone(), 443, Provenance::FreeText)],
            server_name: host,
            addresses: Addresses::All,
            timeout: std::time::Duration::from_secs(10),
        }
    }

    fn at(seconds: i64) -> DateTime<Utc> {
        DateTime::from_timestamp(1_800_000_000 + seconds, 0).unwrap()
    }

    #[test]
    fn monitors_of_a_namespace_share_a_look_and_those_of_two_dont() {
        let mut looks = Looks::default();
        let (shop, pay) = (target("shop", "www.example.com"), target("pay", "www.example.com"));
        let [a, b, c] = [Key::new("shop", "a"), Key::new("shop", "b"), Key::new("pay", "c")];
        looks.subscribe(&a, &Place::Monitor, &shop, at(20));
        looks.subscribe(&b, &Place::Monitor, &shop, at(10));
        looks.subscribe(&c, &Place::Monitor, &pay, at(15));
        assert_eq!(looks.next_due(), Some(at(10)), "as early as any of them asks");
        assert_eq!(looks.start(at(9)), None);
        assert_eq!(looks.start(at(15)), Some(shop.clone()));
        assert_eq!(looks.start(at(15)), Some(pay.clone()));
        assert_eq!(looks.start(at(30)), None, "one look for both");
        let concerned: Vec<Key> = looks.ended(&shop).into_iter().map(|(key, _)| key).collect();
        assert_eq!(concerned, [a.clone(), b.clone()]);
        for key in [&a, &b] {
            looks.subscribe(key, &Place::Monitor, &shop, at(3600));
        }
        looks.unsubscribe(&a, &Place::Monitor, &shop);
        assert_eq!(looks.next_due(), Some(at(3600)), "the other goes on");
        looks.unsubscribe(&b, &Place::Monitor, &shop);
        assert_eq!(looks.next_due(), None);
        looks.unsubscribe(&c, &Place::Monitor, &pay);
        assert!(looks.ended(&pay).is_empty(), "nobody is left whom it concerns");
        assert!(looks.slots.is_empty() && looks.lanes.is_empty() && looks.heads.is_empty());
    }

    #[test]
    fn who_has_least_in_flight_goes_first_however_long_others_have_been_due() {
        let mut looks = Looks::default();
        for namespace in 0..20 {
            let namespace = format!("busy-{namespace}");
            for number in 0..300 {
                let target = target(&namespace, &format!("h{number}.example"));
                looks.subscribe(&Key::new(&namespace, "m"), &Place::Monitor, &target, at(0));
            }
        }
        let mut started: Vec<DialTarget> = std::iter::from_fn(|| looks.start(at(60))).collect();
        assert_eq!(started.len(), IN_FLIGHT);
        let calm = target("calm", "www.example.com");
        looks.subscribe(&Key::new("calm", "c"), &Place::Monitor, &calm, at(61));
        assert_eq!(looks.start(at(61)), None, "all is in flight");
        looks.ended(&started.remove(0));
        assert_eq!(looks.start(at(61)), Some(calm), "the next one is the calm one's");
    }

    #[test]
    fn a_namespace_with_many_due_targets_is_in_nobodys_way() {
        let mut looks = Looks::default();
        let (many, one) = (Key::new("many", "m"), Key::new("one", "o"));
        for number in 0..1000 {
            looks.subscribe(
                &many,
                &Place::Monitor,
                &target("many", &format!("h{number}.example")),
                at(0),
            );
        }
        let lonely = target("one", "www.example.com");
        looks.subscribe(&one, &Place::Monitor, &lonely, at(5));
        let started: Vec<DialTarget> = std::iter::from_fn(|| looks.start(at(5))).collect();
        assert_eq!(started.len(), IN_FLIGHT_OF_NAMESPACE + 1);
        assert!(
            started.iter().position(|one| *one == lonely).is_some_and(|at| at <= 1),
            "{started:?}"
        );
        assert_eq!(looks.next_due(), None, "until one of them ends");
        let first = started.first().unwrap();
        for (key, place) in looks.ended(first) {
            looks.subscribe(&key, &place, first, at(5) + TimeDelta::hours(1));
        }
        assert_eq!(looks.next_due(), Some(at(0)));
    }
}
