//! Going over one monitor: what its spec means now, what is found, what changed, what is said. A short list of steps, each of
//! which is a function of values in a room of its own; here they are only strung together.

use super::{
    Engine,
    monitored::{Monitored, SinkBook, Stored},
    telling::TEST_EVERY,
};
use crate::{
    cluster::{Key, MonitorRef},
    controller::{
        judge::{self, Judged, Judging},
        resolve::{Resolved, Watched, resolve},
        spec::{self, Parsed},
        status::Stalled,
    },
    world::Monitor,
};
use certmon_core::{
    alert::{self, StepInput},
    dial::Dialled,
    finding::Sighting,
    ledger::Ledger,
    place::Place,
    reason::Reason,
    schedule,
    silence::{self, Silencer},
    target::{DialTarget, Look},
};
use chrono::{DateTime, TimeDelta, Utc};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

/// After this, a new monitor (or one after a start) is told about even if a place was not looked at yet.
pub(super) const READY_WITHIN: TimeDelta = TimeDelta::seconds(30);

impl Engine {
    pub(super) fn pass(&mut self, key: &Key) {
        let now = self.now();
        let Some(object) = self.world.monitor(key).cloned() else {
            return;
        };
        if !self.monitors_are_ours(&object) {
            return;
        }
        if self.is_left_alone(key, &object, now) {
            return;
        }
        self.adopt(&object, now);
        let Some(state) = self.monitors.get_mut(key) else {
            return;
        };
        state.wake = None;
        state.silencer.round();
        let Ok(parsed) = state.parsed.clone() else {
            self.say_stalled(key, now);
            return;
        };
        if state.stored == Stored::Newer {
            // It may have been deleted.
            match state.reading.waits_until(now) {
                Some(at) => state.wake_at(at),
                None => state.stored = Stored::Unread,
            }
        }
        if state.stored == Stored::Unread {
            self.read_ledger(key);
            return;
        }
        self.take_requests(key, &object, now);
        self.refresh_trust(key, &parsed);
        let resolved = self.resolve(key, &parsed);
        if let Some(state) = self.monitors.get_mut(key) {
            state.see(&resolved, now);
        }
        self.sync_targets(key, &parsed, &resolved, now);
        let judged = self.judge(key, &parsed, &resolved, now);
        if !self.silences_known(key, &judged) {
            self.agenda.mark(key);
            return;
        }
        let sightings = if parsed.suspended {
            vec![]
        } else {
            self.step(key, &parsed, &resolved, &judged, now)
        };
        self.tell(key);
        self.say(key, &parsed, &resolved, &judged, &sightings, now);
        self.rearm(key);
    }

    /// Going over this monitor panicked a while ago, and its spec is the same. What it says of that is still to be written where
    /// that failed.
    fn is_left_alone(&mut self, key: &Key, object: &Monitor, now: DateTime<Utc>) -> bool {
        let Some(state) = self.monitors.get_mut(key) else {
            return false;
        };
        let same = state.reference.uid == object.uid;
        match state.quarantine {
            Some((until, generation)) if now < until && generation == object.generation && same => {
                state.wake = Some(until);
                self.say_stalled(key, now);
                true
            }
            _ => {
                state.quarantine = None;
                false
            }
        }
    }

    fn monitors_are_ours(&self, object: &Monitor) -> bool {
        let scope = &self.settings.scope;
        scope.is_empty() || scope.iter().any(|namespace| **namespace == *object.key.namespace)
    }

    /// Takes the object's present form in. A monitor of another uid is another monitor.
    fn adopt(&mut self, object: &Monitor, now: DateTime<Utc>) {
        let known = self.monitors.get(&object.key);
        if known.is_some_and(|state| state.reference.uid != object.uid) {
            self.forget(&object.key);
        }
        let state = self.monitors.entry(object.key.clone()).or_insert_with(|| {
            let reference = MonitorRef {
                key: object.key.clone(),
                uid: object.uid.clone(),
            };
            let mut state = Monitored::new(reference, now);
            state.status = object.status.as_deref().cloned();
            state.judged_generation = object.status.as_ref().and_then(|status| status.observed_generation);
            state.told_suspended = state
                .status
                .iter()
                .flat_map(|status| &status.conditions)
                .any(|known| known.type_ == "Ready" && known.reason == Reason::Suspended.name());
            state.check_handled = object
                .status
                .as_ref()
                .and_then(|status| status.last_handled_check_request.clone());
            state.test_handled = object
                .status
                .as_ref()
                .and_then(|status| status.last_handled_test_request.clone());
            state
        });
        if state.generation == object.generation && state.stalled.is_none() {
            return;
        }
        state.generation = object.generation;
        let spec = object.spec.as_ref().map_err(Clone::clone);
        state.parsed = spec.and_then(|spec| spec::parse(spec).map(Arc::new).map_err(|error| error.to_string()));
        let silences = state.parsed.as_ref().map(|parsed| parsed.policy.silences.clone());
        state.silencer = Silencer::new(silences.unwrap_or_default());
        state.stalled = state
            .parsed
            .as_ref()
            .err()
            .map(|problem| Stalled::InvalidSpec(problem.clone()));
    }

    /// Requests by annotation: a new value is handled once.
    fn take_requests(&mut self, key: &Key, object: &Monitor, now: DateTime<Utc>) {
        let Some(state) = self.monitors.get_mut(key) else {
            return;
        };
        let new = |asked: &Option<String>, handled: &Option<String>, running: &Option<(String, DateTime<Utc>)>| {
            let asked = asked.clone().filter(|token| !token.is_empty())?;
            let known = handled.as_ref() == Some(&asked) || running.as_ref().is_some_and(|(token, _)| *token == asked);
            (!known).then_some((asked, now))
        };
        if let Some(test) = new(&object.test_requested, &state.test_handled, &state.test) {
            // A clock that went back doesn't make the wait longer.
            match state.next_test.filter(|at| now < *at && *at <= now + TEST_EVERY) {
                Some(at) => state.wake_at(at),
                None => {
                    state.next_test = Some(now + TEST_EVERY);
                    state.test = Some(test);
                    state.sinks.values_mut().for_each(SinkBook::asked);
                }
            }
        }
        if let Some(check) = new(&object.check_requested, &state.check_handled, &state.check) {
            state.check = Some(check);
            state.sinks.values_mut().for_each(SinkBook::asked);
            for (place, target) in &state.targets {
                if let Some(dialled) = state.dialled.get_mut(place) {
                    dialled.look_now();
                }
                self.looks.subscribe(key, place, target, now);
            }
        }
    }

    fn refresh_trust(&mut self, key: &Key, parsed: &Parsed) {
        let Some(state) = self.monitors.get_mut(key) else {
            return;
        };
        let before = (state.trust.id(), state.trust.problem.is_some());
        state
            .trust
            .refresh(&key.namespace, parsed, &self.world, &self.settings.system_roots);
        if !state.targets.is_empty() && before != (state.trust.id(), state.trust.problem.is_some()) {
            // Another trust: what was judged by the old one is judged again, and what is dialled is dialled again.
            state.judged_generation = None;
            let now = self.seams.clock.now();
            for dialled in state.dialled.values_mut() {
                dialled.look_now();
            }
            // The egress policy's rates spread them out.
            for (place, target) in &state.targets {
                self.looks.subscribe(key, place, target, now);
            }
        }
    }

    fn resolve(&self, key: &Key, parsed: &Parsed) -> Resolved {
        let Some(state) = self.monitors.get(key) else {
            return Resolved::default();
        };
        let open: BTreeSet<&Place> = state.book.alerts.values().map(|alert| &alert.place).collect();
        resolve(&key.namespace, parsed, &self.world, &|place| open.contains(place))
    }

    /// Subscribes what is dialled now and drops what isn't any more.
    fn sync_targets(&mut self, key: &Key, parsed: &Parsed, resolved: &Resolved, now: DateTime<Utc>) {
        let Some(state) = self.monitors.get_mut(key) else {
            return;
        };
        let mut targets = BTreeMap::new();
        let mut watched_now = BTreeMap::new();
        for (place, watched) in resolved.places.iter().filter(|_| !parsed.suspended) {
            if let Watched::Served {
                target: Some(target), ..
            } = watched
            {
                targets.insert(place.clone(), target.clone());
                watched_now.insert(place.clone(), watched.clone());
            }
        }
        for (place, target) in &state.targets {
            if targets.get(place) != Some(target) {
                self.looks.unsubscribe(key, place, target);
            }
        }
        // Since it was judged last, perhaps while nobody watched.
        let edited = state.judged_generation.is_some_and(|judged| judged != state.generation);
        for (place, target) in &targets {
            let book = &state.book;
            let dialled = state
                .dialled
                .entry(place.clone())
                .or_insert_with(|| judge::recall(place, book, now));
            let new_target = state.targets.get(place) != Some(target);
            let beside = |watched: Option<&Watched>| match watched {
                Some(Watched::Served { secret, .. }) => judge::leaf_beside(secret),
                _ => None,
            };
            let renewed = beside(state.watched.get(place)) != beside(watched_now.get(place));
            if !new_target && !renewed {
                continue;
            }
            // Another address, or another certificate in the Secret (now, or while nobody watched): what is served is news.
            let fresh = !state.watched.contains_key(place);
            let missed = || {
                let stored = beside(watched_now.get(place));
                stored.is_some_and(|stored| judge::has_left_behind(place, dialled, stored, book))
            };
            if (new_target && state.targets.contains_key(place))
                || (renewed && !fresh)
                || (fresh && (edited || missed()))
            {
                dialled.look_now();
            }
            self.looks
                .subscribe(key, place, target, next_look(dialled, parsed, target, now));
        }
        state.targets = targets;
        state.watched = watched_now;
        if resolved.complete && !parsed.suspended {
            let targets = &state.targets;
            state.dialled.retain(|place, _| targets.contains_key(place));
            let places = &resolved.places;
            state.paths.retain(|place, _| places.contains_key(place));
        }
    }

    /// A look of a place came back.
    pub(super) fn record_look(
        &mut self,
        key: &Key,
        place: &Place,
        target: &DialTarget,
        look: &Look,
        at: DateTime<Utc>,
    ) {
        let Some(state) = self.monitors.get_mut(key) else {
            return;
        };
        let Ok(parsed) = state.parsed.clone() else { return };
        if state.targets.get(place) != Some(target) {
            return;
        }
        let Some(watched) = state.watched.get(place) else {
            return;
        };
        let dialled = state.dialled.entry(place.clone()).or_default();
        judge::take_look(
            dialled,
            look,
            watched,
            &state.trust,
            &parsed,
            &self.settings.system_roots,
            at,
        );
        self.metrics.probed(key, place, dialled.judged_at() == Some(at));
        self.looks
            .subscribe(key, place, target, next_look(dialled, &parsed, target, at));
    }

    fn judge(&mut self, key: &Key, parsed: &Parsed, resolved: &Resolved, now: DateTime<Utc>) -> Judged {
        let Some(state) = self.monitors.get_mut(key) else {
            return Judged::default();
        };
        let judging = Judging {
            dialled: &state.dialled,
            trust: &state.trust,
            paths: &mut state.paths,
        };
        let judged = judge::judge(judging, parsed, resolved, now);
        let news: Vec<Place> = judged.panicked.difference(&state.panicked).cloned().collect();
        state.panicked.clone_from(&judged.panicked);
        if let Some(next) = judged.next_change {
            state.wake_at(next);
        }
        let looked_at_all = state
            .targets
            .keys()
            .all(|place| state.dialled.get(place).is_some_and(|one| !one.is_unknown()));
        let waited = now - state.seen.max(self.started) >= READY_WITHIN;
        state.ready = state.ready || (resolved.complete && looked_at_all) || waited;
        if !state.ready {
            let ready_at = state.seen.max(self.started) + READY_WITHIN;
            state.wake_at(ready_at);
        }
        for place in news {
            self.metrics.panics.inc();
            tracing::error!(monitor = %key, %place, "judging a certificate panicked; this is a fault of certmon's, please report it");
            let note = format!("Judging {} failed inside certmon; please report it", place.title());
            self.publish(key, true, Reason::InternalError, "Evaluate", &note, None);
        }
        judged
    }

    /// Whether it is known what the silences match. Patterns that take long are gone over in several passes, between which
    /// others have their turn.
    fn silences_known(&mut self, key: &Key, judged: &Judged) -> bool {
        let Some(state) = self.monitors.get_mut(key) else {
            return true;
        };
        let sighted = judged.sightings.iter();
        let sighted = sighted.map(|one| (&one.place, one.facts.dns_names.as_slice()));
        let open = state.book.alerts.values().filter_map(|alert| {
            let facts = state.book.facts.get(&alert.facts)?;
            Some((&alert.place, facts.dns_names.as_slice()))
        });
        state.silencer.prepare(sighted.chain(open), silence::EFFORT)
    }

    /// Findings become alerts. Returns what stands in status, worst first.
    fn step(
        &mut self,
        key: &Key,
        parsed: &Parsed,
        resolved: &Resolved,
        judged: &Judged,
        now: DateTime<Utc>,
    ) -> Vec<Sighting> {
        let Some(state) = self.monitors.get_mut(key) else {
            return vec![];
        };
        let policy_changed = state.judged_generation != Some(state.generation);
        let standing = |place: &Place| judged.standing(place, resolved, now);
        let present = |place: &Place, role| judged.present(place, role);
        let input = StepInput {
            namespace: &key.namespace,
            monitor: &key.name,
            sightings: &judged.sightings,
            standing: &standing,
            present: &present,
            policy_changed,
        };
        let step = alert::step(&state.book, &state.held, &input, now);
        state.held = step.held;
        state.transitions.extend(step.transitions);
        let mut book = step.ledger;
        judge::remember(&mut book, &state.dialled, resolved.complete);
        state.book = book;
        state.judged_generation = Some(state.generation);
        if let Some(next) = step.next {
            state.wake_at(next);
        }
        if let Some(end) = silence::next_end(&parsed.policy.silences, now) {
            state.wake_at(end);
        }
        let mut sightings = judged.sightings.clone();
        sightings.extend(step.overflow);
        sightings.extend(state.unsighted(key, &sightings));
        let open: BTreeSet<&Place> = sightings.iter().map(|sighting| &sighting.place).collect();
        for (place, target) in &state.targets {
            let Some(dialled) = state.dialled.get_mut(place) else {
                continue;
            };
            let before = next_look(dialled, parsed, target, now);
            dialled.set_open(open.contains(place));
            if step.looks.contains(place) {
                dialled.look_now();
            }
            let due = next_look(dialled, parsed, target, now);
            if due < before {
                self.looks.subscribe(key, place, target, due);
            }
        }
        sightings.sort_by(|a, b| a.order().cmp(&b.order()));
        sightings
    }
}

fn next_look(dialled: &Dialled, parsed: &Parsed, target: &DialTarget, now: DateTime<Utc>) -> DateTime<Utc> {
    schedule::next_look(
        dialled,
        parsed.probe.interval,
        target.phase(),
        dialled.earliest_not_after(),
        now,
    )
}

impl Monitored {
    /// Takes a ledger that was just read as the truth. Outcomes that it doesn't have are put in again.
    pub(super) fn restore(&mut self, fresh: Ledger, now: DateTime<Utc>) {
        self.book = fresh;
        self.record(now);
    }
}
