//! Saying what was found: the status and the Events of a monitor.

use super::{
    Engine, QUARANTINE,
    monitored::{Monitored, Stored, selection},
    pass::READY_WITHIN,
    telling::TEST_WITHIN,
    writing::{NEWER_LEDGER, bytes},
};
use crate::{
    cluster::{EventNote, Key, Mirrored},
    controller::{
        hint::count,
        judge::Judged,
        resolve::Resolved,
        spec::{self, Parsed},
        status::{self, FindingReport, Report, SinkReport, Stalled},
    },
};
use certmon_core::{
    alert::{Change, Transition},
    delivery::{self, SinkContext},
    finding::{Hold, Sighting},
    hash::ShortHash,
    ledger::{Alert, alert_id},
    place::Place,
    reason::Reason,
};
use chrono::{DateTime, TimeDelta, Utc};
use std::collections::{BTreeMap, BTreeSet};

impl Engine {
    /// Writes the status, and the Events about the monitor as a whole.
    pub(super) fn say(
        &mut self,
        key: &Key,
        parsed: &Parsed,
        resolved: &Resolved,
        judged: &Judged,
        sightings: &[Sighting],
        now: DateTime<Utc>,
    ) {
        self.end_requests(key, parsed, now);
        if self.still_reads(key, parsed, resolved, now) {
            return;
        }
        let Some(state) = self.monitors.get_mut(key) else {
            return;
        };
        state.told_stalled = None;
        let Some(state) = self.monitors.get(key) else { return };
        let findings: Vec<FindingReport<'_>> = sightings
            .iter()
            .map(|sighting| FindingReport {
                sighting,
                since: state.since(key, sighting).unwrap_or(now),
                silenced: state
                    .silencer
                    .is_silenced(&sighting.place, sighting.finding, &sighting.facts, now),
                held: state.is_held(key, sighting),
            })
            .collect();
        let sinks = self.sink_reports(state, parsed, now);
        let report = Report {
            generation: state.generation,
            stalled: None,
            unread: !resolved.complete && state.selection.is_none(),
            suspended: parsed.suspended,
            resolved,
            trust_problem: state.trust.problem.as_deref(),
            places: &judged.places,
            less_dialled: &judged.less_dialled,
            findings: &findings,
            sinks: &sinks,
            check_handled: state.check_handled.as_deref(),
            test_handled: state.test_handled.as_deref(),
        };
        let new = status::build(state.status.as_ref(), &report, now);
        self.metrics
            .observe(key, &state.reference.uid, &new, judged, sightings, now);
        self.publish_selection(key, parsed, resolved, &new);
        self.apply_status(key, new);
    }

    /// Sources are being read, after a start or because more is asked for: for a moment, what stands in status says more than
    /// could be said now, and stays.
    fn still_reads(&mut self, key: &Key, parsed: &Parsed, resolved: &Resolved, now: DateTime<Utc>) -> bool {
        let Some(state) = self.monitors.get_mut(key) else {
            return false;
        };
        let troubled = resolved.sources.iter().any(|source| source.trouble.is_some());
        if resolved.complete || troubled || parsed.suspended {
            state.reading_since = None;
            return false;
        }
        let until = *state.reading_since.get_or_insert(now) + READY_WITHIN;
        let known = state.status.as_ref();
        let holds = known.is_some_and(|status| status.observed_generation == Some(state.generation)) && now < until;
        if holds {
            state.wake_at(until);
        }
        holds
    }

    fn sink_reports<'a>(&self, state: &Monitored, parsed: &'a Parsed, now: DateTime<Utc>) -> Vec<SinkReport<'a>> {
        if state.stored == Stored::Newer {
            return unreadable(state, parsed);
        }
        let of = |sink: &'a spec::Sink| {
            let name: &str = &sink.manners.name;
            let book = state.sinks.get(name);
            let fault = book.and_then(|book| book.fault.as_ref());
            // Nothing is known against it before it was checked.
            let facts = self.with_context(state, sink, "", "", now, |context| {
                let misconfigured = fault.is_some();
                delivery::sink_state(
                    &state.book,
                    &SinkContext {
                        misconfigured,
                        ..*context
                    },
                )
            })?;
            let failed = facts.class.map(|class| (class.text().to_owned(), Reason::from(class)));
            let checked = book.is_some_and(|book| book.checked.is_some());
            // After a start, what stands in status holds until then.
            let known = state.status.iter().flat_map(|status| &status.sinks);
            let known = known.filter(|_| !checked).find(|known| known.name == name);
            let (result, problem, reason) = match (fault, failed) {
                (Some(fault), _) => (
                    delivery::SinkResult::Failing,
                    Some(fault.text.clone()),
                    Some(Reason::SinkMisconfigured),
                ),
                (None, Some((text, reason))) => (facts.result, Some(text), Some(reason)),
                (None, None) => match known {
                    Some(known) if known.result == certmon_crd::SinkResult::Failing => (
                        delivery::SinkResult::Failing,
                        known.problem.clone(),
                        Some(Reason::SinkMisconfigured),
                    ),
                    Some(known) => (facts.result, known.problem.clone(), None),
                    None => {
                        let remarks = book
                            .map(|book| book.remarks.join("; "))
                            .filter(|remarks| !remarks.is_empty());
                        (facts.result, remarks, None)
                    }
                },
            };
            Some(SinkReport {
                name,
                result,
                pending: facts.pending,
                problem,
                reason,
                sent: facts.sent,
                since: facts.since,
            })
        };
        parsed.sinks.iter().filter_map(of).collect()
    }

    /// A request is handled once everything that it asks for has happened, or its time is up.
    fn end_requests(&mut self, key: &Key, parsed: &Parsed, now: DateTime<Utc>) {
        let Some(state) = self.monitors.get_mut(key) else {
            return;
        };
        if let Some((token, at)) = state.check.clone() {
            let looked = |place: &Place| {
                state
                    .dialled
                    .get(place)
                    .and_then(certmon_core::dial::Dialled::looked_at)
                    .is_some_and(|last| last >= at)
            };
            let end = at + TimeDelta::minutes(2);
            if parsed.suspended || state.targets.keys().all(looked) || now >= end {
                state.check_handled = Some(token);
                state.check = None;
            } else {
                state.wake_at(end);
            }
        }
        if let Some((token, at)) = state.test.clone() {
            let tested = |name: &str| state.book.sinks.get(name).is_some_and(|sink| sink.has_tested(&token));
            let end = at + TEST_WITHIN;
            if parsed.suspended || parsed.sinks.iter().all(|sink| tested(&sink.manners.name)) || now >= end {
                state.test_handled = Some(token);
                state.test = None;
            } else {
                state.wake_at(end);
            }
        }
    }

    /// A spec that can't be used: nothing is done for it, and everything that was known stays.
    pub(super) fn say_stalled(&mut self, key: &Key, now: DateTime<Utc>) {
        let Some(state) = self.monitors.get_mut(key) else {
            return;
        };
        let resolved = Resolved::default();
        let report = Report {
            generation: state.generation,
            stalled: state.stalled.clone(),
            unread: true,
            suspended: false,
            resolved: &resolved,
            trust_problem: None,
            places: &[],
            less_dialled: &BTreeMap::new(),
            findings: &[],
            sinks: &[],
            check_handled: state.check_handled.as_deref(),
            test_handled: state.test_handled.as_deref(),
        };
        let new = status::build(state.status.as_ref(), &report, now);
        for (place, target) in std::mem::take(&mut state.targets) {
            self.looks.unsubscribe(key, &place, &target);
        }
        self.publish_stalled(key, &new);
        self.apply_status(key, new);
        self.rearm(key);
    }

    /// The Event of a spec that can't be used: one for each thing that is wrong with it, and none for what the stored status
    /// says already.
    fn publish_stalled(&mut self, key: &Key, new: &certmon_crd::CertificateMonitorStatus) {
        let Some(state) = self.monitors.get_mut(key) else {
            return;
        };
        let stalled = |status: &certmon_crd::CertificateMonitorStatus| {
            let mut conditions = status.conditions.iter();
            let stalled = conditions.find(|condition| condition.type_ == "Stalled")?;
            Some((stalled.reason.clone(), stalled.message.clone()))
        };
        let said = state.told_stalled.take().or_else(|| stalled(state.status.as_ref()?));
        let says = stalled(new).filter(|(reason, _)| reason == Reason::InvalidSpec.name());
        state.told_stalled.clone_from(&says);
        if let Some((_, message)) = says.clone().filter(|_| says != said) {
            self.publish(key, true, Reason::InvalidSpec, "Configure", &message, None);
        }
    }

    /// Going over a monitor panicked: it says so, and is left alone for a while.
    pub(super) fn quarantine(&mut self, key: &Key) {
        let now = self.now();
        let Some(state) = self.monitors.get_mut(key) else {
            return;
        };
        state.stalled = Some(Stalled::InternalError);
        state.quarantine = Some((now + QUARANTINE, state.generation));
        state.wake = Some(now + QUARANTINE);
        self.rearm(key);
        self.publish(
            key,
            true,
            Reason::InternalError,
            "Evaluate",
            "Going over this monitor failed inside certmon; please report it",
            None,
        );
        self.say_stalled(key, now);
    }

    /// The Events of what changed about alerts.
    pub(super) fn publish_transitions(&mut self, key: &Key, transitions: &[Transition]) {
        let now = self.now();
        for transition in transitions {
            let Some(state) = self.monitors.get(key) else { return };
            let quiet = state
                .silencer
                .is_silenced(&transition.place, transition.finding, &transition.facts, now);
            let (warning, reason) = match transition.change {
                Change::Opened | Change::Raised if !quiet => (true, Reason::from(transition.finding)),
                Change::Renewed => (false, Reason::Renewed),
                Change::Resolved => (false, Reason::Resolved),
                Change::Opened | Change::Raised | Change::Lowered => continue,
            };
            let related = transition.place.object().map(|(kind, name)| (kind, name.to_owned()));
            // Who looks at the object learns what is wrong with it, and that it was renewed.
            let mirrored = related.as_ref().filter(|_| reason != Reason::Resolved);
            let mirrored = mirrored.map(|(kind, name)| Mirrored {
                uid: self.uid_of(&key.namespace, kind, name),
            });
            let note = EventNote {
                at: now,
                warning,
                reason: reason.name().to_owned(),
                action: "Evaluate",
                note: bytes(&transition.message, 1024),
                related,
                mirrored,
            };
            self.publish_note(key, note);
        }
    }

    fn uid_of(&self, namespace: &str, kind: &str, name: &str) -> Option<Box<str>> {
        let mut ingresses = self.world.ingresses(namespace).filter(|_| kind == "Ingress");
        ingresses
            .find(|ingress| *ingress.key.name == *name)
            .map(|ingress| ingress.uid.clone())
    }

    /// The Events about what is selected, and about what can't be read.
    fn publish_selection(
        &mut self,
        key: &Key,
        parsed: &Parsed,
        resolved: &Resolved,
        new: &certmon_crd::CertificateMonitorStatus,
    ) {
        let Some(state) = self.monitors.get_mut(key) else {
            return;
        };
        let condition = |type_: &str| new.conditions.iter().find(|condition| condition.type_ == type_);
        let told: Option<(Reason, String)> = ["Ready", "Healthy"].into_iter().find_map(|type_| {
            let condition = condition(type_)?;
            let reason: Reason = condition.reason.parse().ok()?;
            let tells = match type_ {
                "Ready" => condition.status == "False",
                _ => reason == Reason::NoCertificates,
            };
            tells.then(|| (reason, condition.message.clone()))
        });
        // After a start, what the stored status says already was told.
        let stored = state.status.as_ref().is_some_and(|status| {
            told.as_ref()
                .is_some_and(|(reason, _)| status.conditions.iter().any(|known| known.reason == reason.name()))
        });
        let before = std::mem::replace(&mut state.told_condition, told.as_ref().map(|(reason, _)| *reason));
        let first = state.selection.is_none();
        let now_selected = selection(resolved);
        let changed = state
            .selection
            .as_ref()
            .filter(|old| resolved.complete && **old != now_selected)
            .cloned();
        // A status that was written while the sources were still being read is no beginning.
        let told_before = state.status.iter().flat_map(|status| &status.conditions);
        let started = first
            && resolved.complete
            && !told_before
                .into_iter()
                .any(|known| known.type_ == "Ready" && known.reason != Reason::Pending.name());
        if resolved.complete {
            state.selection = Some(now_selected.clone());
        }
        if let Some((reason, message)) =
            told.filter(|(reason, _)| before != Some(*reason) && !(before.is_none() && stored))
        {
            let action = if reason == Reason::NoCertificates {
                "Select"
            } else {
                "Read"
            };
            self.publish(key, true, reason, action, &message, None);
        }
        self.publish_suspension(key, parsed.suspended);
        if parsed.suspended {
            return;
        }
        if started && let Some(ready) = condition("Ready").filter(|ready| ready.status == "True") {
            self.publish(key, false, Reason::MonitoringStarted, "Select", &ready.message, None);
        }
        for (source, old) in changed.into_iter().flatten() {
            let Some(new) = now_selected.get(&source) else { continue };
            if let Some(note) = selection_note(&source, &old, new) {
                self.publish(key, false, Reason::SelectionChanged, "Select", &note, None);
            }
        }
    }
}

impl Engine {
    /// The Events of `spec.suspend`.
    fn publish_suspension(&mut self, key: &Key, suspended: bool) {
        let Some(state) = self.monitors.get_mut(key) else {
            return;
        };
        if std::mem::replace(&mut state.told_suspended, suspended) == suspended {
            return;
        }
        let (reason, note) = if suspended {
            (Reason::Suspended, "Suspended by `spec.suspend`")
        } else {
            (Reason::Resumed, "Not suspended any more")
        };
        self.publish(key, false, reason, "Configure", note, None);
    }
}

/// How the sinks stand where the ledger can't be read: what status knows of them stays.
fn unreadable<'a>(state: &Monitored, parsed: &'a Parsed) -> Vec<SinkReport<'a>> {
    let of = |sink: &'a spec::Sink| {
        let name: &str = &sink.manners.name;
        let mut known = state.status.iter().flat_map(|status| &status.sinks);
        let known = known.find(|known| known.name == name);
        SinkReport {
            name,
            result: delivery::SinkResult::Failing,
            pending: 0,
            problem: Some(NEWER_LEDGER.to_owned()),
            reason: Some(Reason::LedgerUnreadable),
            sent: known.and_then(|known| known.sent_time).map(Into::into),
            since: None,
        }
    };
    parsed.sinks.iter().map(of).collect()
}

/// "Source tls now selects 13 certificates (was 12): + Secret/new-tls tls.crt".
fn selection_note(source: &str, old: &BTreeSet<Place>, new: &BTreeSet<Place>) -> Option<String> {
    let changes: Vec<String> = new
        .difference(old)
        .map(|place| format!("+ {}", place.title()))
        .chain(old.difference(new).map(|place| format!("- {}", place.title())))
        .collect();
    let more = changes.len().saturating_sub(5);
    let listed = changes.iter().take(5).cloned().collect::<Vec<_>>().join(", ");
    let more = if more > 0 {
        format!(" and {more} more")
    } else {
        String::new()
    };
    (!changes.is_empty()).then(|| {
        format!(
            "Source {source} now selects {} (was {}): {listed}{more}",
            count(new.len(), "place"),
            old.len()
        )
    })
}

impl Monitored {
    /// What is open and was not sighted: at places that nobody could look at since the start, or that can't be read now, or
    /// before the time at which it began, since the clock was set back. It is still true.
    pub(super) fn unsighted(&self, key: &Key, seen: &[Sighting]) -> Vec<Sighting> {
        let seen: BTreeSet<ShortHash> = seen.iter().map(|one| id_of(key, one)).collect();
        let open = self
            .book
            .alerts
            .iter()
            .filter(|(id, alert)| alert.ended.is_none() && !seen.contains(id));
        let sighting = |alert: &Alert| Sighting {
            finding: alert.finding,
            severity: alert.severity,
            place: alert.place.clone(),
            role: alert.role,
            facts: self.book.facts.get(&alert.facts).cloned().unwrap_or_default(),
            hold: Hold::No,
        };
        open.map(|(_, alert)| sighting(alert)).collect()
    }

    /// When the sighting's episode began, or it was first seen.
    fn since(&self, key: &Key, sighting: &Sighting) -> Option<DateTime<Utc>> {
        let id = id_of(key, sighting);
        let open = self.book.alerts.get(&id).filter(|alert| alert.ended.is_none());
        open.map(|alert| alert.since).or_else(|| self.held.since(id))
    }

    /// The sighting waits to be confirmed.
    fn is_held(&self, key: &Key, sighting: &Sighting) -> bool {
        sighting.hold != Hold::No && self.held.since(id_of(key, sighting)).is_some()
    }
}

fn id_of(key: &Key, sighting: &Sighting) -> ShortHash {
    let kind = sighting.finding.kind();
    alert_id(&key.namespace, &key.name, &sighting.place, sighting.role, kind)
}
