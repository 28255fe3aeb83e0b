//! From the ledger to a message.

use super::{
    AlertStatus, MESSAGE_VERSION, Message, MessageAlert, MessageCertificate, MessageCounts, MessageObject,
    MessageReason, sentence,
};
use crate::{
    delivery::{Rung, SinkContext},
    finding::{Facts, Severity},
    hash::ShortHash,
    ledger::{Alert, Ledger, Said, episode_id, json_bytes},
    place::Place,
    reason::Reason,
};
use chrono::{DateTime, Utc};
use std::{cmp::Reverse, collections::BTreeMap};

/// The most alerts in one message.
const MOST_ALERTS: usize = 500;
/// The most bytes of one message as JSON.
const MOST_BYTES: usize = 256 * 1024;
/// How many alerts are in a message that steps down.
const WORST: usize = 20;

/// What a message says: alerts by what is new about them.
pub(crate) struct Digest<'a> {
    pub(crate) reason: MessageReason,
    pub(crate) new: &'a [(ShortHash, &'a Alert)],
    pub(crate) worse: &'a [(ShortHash, &'a Alert)],
    pub(crate) ended: &'a [(ShortHash, &'a Alert)],
    pub(crate) lasting: &'a [(ShortHash, &'a Alert)],
    /// How many a silence holds back.
    pub(crate) silenced: u32,
    /// What the sink was told before.
    pub(crate) told: &'a BTreeMap<ShortHash, Said>,
}

/// A message without alerts.
pub(crate) fn frame(
    context: &SinkContext<'_>,
    reason: MessageReason,
    id: &str,
    counts: MessageCounts,
    as_of: DateTime<Utc>,
) -> Message {
    Message {
        version: MESSAGE_VERSION,
        id: id.to_owned(),
        reason,
        cluster: context.cluster.map(str::to_owned),
        namespace: context.namespace.to_owned(),
        monitor: context.monitor.to_owned(),
        sink: context.manners.name.to_string(),
        as_of,
        counts,
        truncated: 0,
        alerts: Vec::new(),
    }
}

/// The numbers of a message.
pub(crate) fn count(open: &[(ShortHash, &Alert)], resolved: usize, silenced: u32) -> MessageCounts {
    let critical = open
        .iter()
        .filter(|(_, alert)| alert.severity == Severity::Critical)
        .count();
    let number = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
    MessageCounts {
        critical: number(critical),
        warning: number(open.len() - critical),
        resolved: number(resolved),
        silenced,
    }
}

/// The message of a digest, as much of it as the rung says. A function of the ledger alone.
pub(crate) fn build(
    ledger: &Ledger,
    context: &SinkContext<'_>,
    digest: &Digest<'_>,
    id: &str,
    rung: Rung,
    as_of: DateTime<Utc>,
) -> Message {
    let open = [digest.new, digest.worse, digest.lasting].concat();
    let counts = count(&open, digest.ended.len(), digest.silenced);
    let mut message = frame(context, digest.reason, id, counts, as_of);
    let mut entries = entries(ledger, digest);
    let all = entries.len();
    entries.truncate(match rung {
        Rung::All => MOST_ALERTS,
        Rung::Worst20 => WORST,
        Rung::Counts | Rung::Text => 0,
    });
    let mut room = MOST_BYTES.saturating_sub(json_bytes(&message) + 16);
    let mut kept: Vec<(usize, MessageAlert)> = entries
        .into_iter()
        .map_while(|entry| {
            let alert = entry.alert(ledger, context, digest);
            room = room.checked_sub(json_bytes(&alert) + 1)?;
            Some((entry.place_in_list, alert))
        })
        .collect();
    kept.sort_by_key(|(place_in_list, _)| *place_in_list);
    message.truncated = u32::try_from(all - kept.len()).unwrap_or(u32::MAX);
    message.alerts = kept.into_iter().map(|(_, alert)| alert).collect();
    message
}

/// An alert on its way into a message.
struct Entry<'a> {
    id: ShortHash,
    alert: &'a Alert,
    /// Changed alerts first: new or worse, then ended, then those that last; worst first in each.
    place_in_list: usize,
}

/// All alerts of a digest in the order in which room is given to them: what is critical, then what else changed, then
/// the rest; so nothing that lasts is critical and left out for the end of a warning.
fn entries<'a>(ledger: &Ledger, digest: &Digest<'a>) -> Vec<Entry<'a>> {
    let mut listed: Vec<(u8, ShortHash, &Alert)> = Vec::new();
    for (group, alerts) in [
        (0, digest.new),
        (0, digest.worse),
        (1, digest.ended),
        (2, digest.lasting),
    ] {
        listed.extend(alerts.iter().map(|(id, alert)| (group, *id, *alert)));
    }
    listed.sort_by_cached_key(|(group, _, alert)| {
        let not_after = ledger.facts.get(&alert.facts).and_then(|facts| facts.not_after);
        (
            *group,
            Reverse(Said::of(alert.finding, alert.severity).severity()),
            alert.finding.kind(),
            not_after.unwrap_or(DateTime::<Utc>::MAX_UTC),
            alert.place.clone(),
            alert.role,
        )
    });
    let mut ranked: Vec<(u8, Entry<'_>)> = listed
        .into_iter()
        .enumerate()
        .map(|(place_in_list, (group, id, alert))| {
            let critical = alert.ended.is_none() && alert.severity == Severity::Critical;
            let rank = if critical { 0 } else { 1 + u8::from(group == 2) };
            let entry = Entry {
                id,
                alert,
                place_in_list,
            };
            (rank, entry)
        })
        .collect();
    // Stable: the list's order within a rank.
    ranked.sort_by_key(|(rank, _)| *rank);
    ranked.into_iter().map(|(_, entry)| entry).collect()
}

impl Entry<'_> {
    fn alert(&self, ledger: &Ledger, context: &SinkContext<'_>, digest: &Digest<'_>) -> MessageAlert {
        let none = Facts::default();
        let alert = self.alert;
        let facts = ledger.facts.get(&alert.facts).unwrap_or(&none);
        let reason = Reason::from(alert.finding);
        let (status, rest, next_step) = match &alert.ended {
            Some(ended) => (AlertStatus::Resolved, &ended.message, String::new()),
            None => (
                AlertStatus::Firing,
                &facts.message,
                next_step(reason, &alert.place, context.namespace, context.monitor),
            ),
        };
        let (host, port) = alert
            .place
            .host_port()
            .map_or((None, None), |(host, port)| (Some(host.to_string()), Some(port)));
        MessageAlert {
            id: self.id,
            episode: episode_id(self.id, alert.since),
            status,
            finding: alert.finding,
            severity: alert.severity,
            previous_severity: digest.told.get(&self.id).map(|said| said.severity()),
            place: alert.place.to_string(),
            title: alert.place.title(),
            object: object(&alert.place),
            host,
            port,
            certificate: certificate(facts),
            since: alert.since,
            resolved_as: alert.ended.as_ref().map(|ended| ended.as_),
            message: sentence(&alert.place, facts, rest),
            next_step,
            runbook: reason.runbook(),
        }
    }
}

fn object(place: &Place) -> Option<MessageObject> {
    let (kind, name) = place.object()?;
    let key = match place {
        Place::Secret { key, .. } => Some(key.to_string()),
        Place::Ingress { .. }
        | Place::Endpoint { .. }
        | Place::NoHost { .. }
        | Place::Source { .. }
        | Place::Monitor => None,
    };
    Some(MessageObject {
        kind: kind.to_owned(),
        name: name.to_owned(),
        key,
    })
}

fn certificate(facts: &Facts) -> Option<MessageCertificate> {
    Some(MessageCertificate {
        name: facts.name.clone()?,
        issuer: facts.issuer.clone(),
        serial: facts.serial.clone(),
        fingerprint: facts.fingerprint,
        dns_names: facts.dns_names.clone(),
        not_before: facts.not_before,
        not_after: facts.not_after,
    })
}

/// A reason's next step with the place's own names in it.
fn next_step(reason: Reason, place: &Place, namespace: &str, monitor: &str) -> String {
    let mut text = reason
        .next_step_at(place)
        .replace("NAMESPACE", namespace)
        .replace("MONITOR", monitor);
    if let Some((_, name)) = place.object() {
        text = text.replace("NAME", name);
    }
    if let Place::Source { name } = place {
        text = text.replace("NAME", name);
    }
    if let (Some((host, port)), Some(server_name)) = (place.host_port(), place.server_name()) {
        text = text
            .replace("-servername HOST", &format!("-servername {server_name}"))
            .replace("names HOST", &format!("names {server_name}"))
            .replace("HOST", &host.to_string())
            .replace("PORT", &port.to_string());
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::place::Host;

    #[test]
    fn an_endpoint_is_asked_for_its_server_name() {
        let host = |text| Host::parse(text).expect("a host");
        let place = Place::Endpoint {
            host: host("192.0.2.7"),
            port: 8443,
            server_name: host("api.example.com"),
        };
        let look = next_step(Reason::Expired, &place, "shop", "edge");
        assert!(
            look.contains("-connect 192.0.2.7:8443 -servername api.example.com"),
            "{look}"
        );
        let wrong = next_step(Reason::HostnameMismatch, &place, "shop", "edge");
        assert!(
            wrong.starts_with("Issue a certificate that names api.example.com and"),
            "{wrong}"
        );
    }
}
