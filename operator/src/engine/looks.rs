//! When which target is dialled. Monitors of one namespace that name one target with one policy share its looks.

use super::{Engine, writing::Done};
use crate::cluster::Key;
use certmon_core::{place::Place, target::DialTarget};
use chrono::{DateTime, Utc};
use std::collections::{BTreeMap, BTreeSet, HashMap};

/// Looks in flight, of all namespaces and of one: a namespace can't take more than its share. The sockets have bounds of
/// their own, in the egress policy; these keep the queue in front of them short and fair.
const IN_FLIGHT: usize = 512;
const IN_FLIGHT_OF_NAMESPACE: usize = 32;

/// The schedule.
#[derive(Default)]
pub(super) struct Looks {
    slots: HashMap<DialTarget, Slot>,
    queue: BTreeSet<(DateTime<Utc>, DialTarget)>,
    in_flight: usize,
    of_namespace: HashMap<Box<str>, usize>,
}

struct Slot {
    due: DateTime<Utc>,
    in_flight: bool,
    subscribers: BTreeMap<(Key, Place), DateTime<Utc>>,
}

impl Looks {
    /// When the next look that may start is due.
    pub(super) fn next_due(&self) -> Option<DateTime<Utc>> {
        if self.in_flight >= IN_FLIGHT {
            return None;
        }
        self.queue
            .iter()
            .find(|(_, target)| self.has_share(&target.namespace))
            .map(|(due, _)| *due)
    }

    fn has_share(&self, namespace: &str) -> bool {
        self.of_namespace.get(namespace).copied().unwrap_or(0) < IN_FLIGHT_OF_NAMESPACE
    }

    /// A monitor's place wants its target looked at at `due`.
    pub(super) fn subscribe(&mut self, key: &Key, place: &Place, target: &DialTarget, due: DateTime<Utc>) {
        let slot = self.slots.entry(target.clone()).or_insert_with(|| Slot {
            due,
            in_flight: false,
            subscribers: BTreeMap::new(),
        });
        slot.subscribers.insert((key.clone(), place.clone()), due);
        self.requeue(target);
    }

    /// A monitor's place is of no interest any more, or dials another target now.
    pub(super) fn unsubscribe(&mut self, key: &Key, place: &Place, target: &DialTarget) {
        let Some(slot) = self.slots.get_mut(target) else { return };
        slot.subscribers.remove(&(key.clone(), place.clone()));
        if slot.subscribers.is_empty() && !slot.in_flight {
            self.queue.remove(&(slot.due, target.clone()));
            self.slots.remove(target);
        }
    }

    /// A monitor is gone.
    pub(super) fn forget(&mut self, key: &Key) {
        let targets: Vec<DialTarget> = self
            .slots
            .keys()
            .filter(|target| *target.namespace == *key.namespace)
            .cloned()
            .collect();
        for target in targets {
            if let Some(slot) = self.slots.get_mut(&target) {
                slot.subscribers.retain(|(of, _), _| of != key);
                if slot.subscribers.is_empty() && !slot.in_flight {
                    self.queue.remove(&(slot.due, target.clone()));
                    self.slots.remove(&target);
                }
            }
        }
    }

    fn requeue(&mut self, target: &DialTarget) {
        let Some(slot) = self.slots.get_mut(target) else { return };
        let due = slot.subscribers.values().min().copied().unwrap_or(slot.due);
        if slot.in_flight {
            // The result that is on its way was asked for earlier than this.
            return;
        }
        self.queue.remove(&(slot.due, target.clone()));
        slot.due = due;
        self.queue.insert((due, target.clone()));
    }

    /// Takes the next target that is due and has its share.
    fn start(&mut self, now: DateTime<Utc>) -> Option<DialTarget> {
        if self.in_flight >= IN_FLIGHT {
            return None;
        }
        let ready = self.queue.iter().take_while(|(due, _)| *due <= now);
        let (due, target) = ready
            .clone()
            .find(|(_, target)| self.has_share(&target.namespace))?
            .clone();
        self.queue.remove(&(due, target.clone()));
        if let Some(slot) = self.slots.get_mut(&target) {
            slot.in_flight = true;
        }
        self.in_flight += 1;
        *self.of_namespace.entry(target.namespace.clone()).or_default() += 1;
        Some(target)
    }

    /// A look ended. Returns whom it concerns.
    pub(super) fn ended(&mut self, target: &DialTarget) -> Vec<(Key, Place)> {
        self.in_flight = self.in_flight.saturating_sub(1);
        if let Some(count) = self.of_namespace.get_mut(&target.namespace) {
            *count -= 1;
            if *count == 0 {
                self.of_namespace.remove(&target.namespace);
            }
        }
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
                let look = std::panic::AssertUnwindSafe(probe.look(target.clone()))
                    .catch_unwind()
                    .await;
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
            self.record_look(&key, &place, target, look, at);
            self.dirty.insert(key);
        }
    }
}
