//! What holds for the messages of every story, sink by sink.

use super::receivers::Arrival;
use certmon_core::message::{AlertStatus, Message, MessageReason};
use chrono::TimeDelta;
use std::collections::{BTreeMap, BTreeSet};

/// What a receiver sees that drops repetitions by their id.
pub(crate) fn heard(arrivals: &[Arrival]) -> BTreeMap<String, Vec<Arrival>> {
    let mut seen = BTreeSet::new();
    let mut heard: BTreeMap<String, Vec<Arrival>> = BTreeMap::new();
    for arrival in arrivals {
        if seen.insert(arrival.message.id.clone()) {
            heard
                .entry(arrival.message.sink.clone())
                .or_default()
                .push(arrival.clone());
        }
    }
    heard
}

/// The rules that the messages of a story break.
pub(crate) fn broken(arrivals: &[Arrival]) -> Vec<String> {
    let mut broken = Vec::new();
    let mut by_id: BTreeMap<&str, &Message> = BTreeMap::new();
    for arrival in arrivals {
        let message = &arrival.message;
        if by_id.insert(&message.id, message).is_some_and(|first| first != message) {
            broken.push(format!("telling rule 1: one id, one content: {message:#?}"));
        }
    }
    for (sink, heard) in heard(arrivals) {
        of_sink(&sink, &heard, &mut broken);
    }
    broken
}

fn of_sink(sink: &str, heard: &[Arrival], broken: &mut Vec<String>) {
    let mut told = BTreeSet::new();
    let mut last: Option<TimeDelta> = None;
    for Arrival { at, message } in heard {
        if message.reason == MessageReason::Test {
            continue;
        }
        let mut say = |rule: &str| broken.push(format!("telling rule {rule} ({sink}): {message:#?}"));
        for alert in &message.alerts {
            match alert.status {
                AlertStatus::Firing => {
                    told.insert(alert.id);
                }
                AlertStatus::Resolved if !told.remove(&alert.id) => say("2: only what was told is resolved"),
                AlertStatus::Resolved => {}
            }
        }
        let firing = message
            .alerts
            .iter()
            .filter(|alert| alert.status == AlertStatus::Firing)
            .count();
        let counts = message.counts;
        if message.truncated == 0
            && (firing != (counts.critical + counts.warning) as usize
                || message.alerts.len() - firing != counts.resolved as usize)
        {
            say("3: the counts are those of the list");
        }
        // Between acceptance and arrival lie some milliseconds, and instants in the ledger have whole seconds.
        if last.is_some_and(|last| *at - last < TimeDelta::seconds(58)) {
            say("4: at most one message a minute");
        }
        if message.alerts.is_empty() {
            say("5: no message without an alert");
        }
        last = Some(*at);
    }
}

/// What a sink knows to be open after all its messages.
pub(crate) fn known_in_the_end(heard: &[Arrival]) -> BTreeSet<String> {
    let mut known = BTreeSet::new();
    for alert in heard.iter().flat_map(|arrival| &arrival.message.alerts) {
        let name = format!("{} {}", alert.place, alert.id);
        match alert.status {
            AlertStatus::Firing => known.insert(name),
            AlertStatus::Resolved => known.remove(&name),
        };
    }
    known
}

/// A message without what differs from one run to the next.
pub(crate) fn gist(message: &Message) -> String {
    let alerts: Vec<String> = message
        .alerts
        .iter()
        .map(|alert| {
            format!(
                "{:?} {} {} was {:?} {} {:?}: {}",
                alert.status,
                alert.finding,
                alert.severity,
                alert.previous_severity,
                alert.place,
                alert.resolved_as,
                alert.message
            )
        })
        .collect();
    format!("{} {:?} {alerts:#?}", message.reason, message.counts)
}
