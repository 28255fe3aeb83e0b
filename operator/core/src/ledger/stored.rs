//! What is read of a stored ledger. Somebody may have edited it: whatever stands there, what comes out can be reckoned with
//! and written into a status.

use super::{Intent, LastSeen, Ledger, SinkLedger};
use chrono::{DateTime, Utc};

/// More alerts than a ledger has room for.
const MOST_COUNTED: u32 = 1_000_000;
/// 1970-01-01: no clock that certmon ran by was before it.
const EARLIEST: DateTime<Utc> = DateTime::UNIX_EPOCH;

/// The last second that RFC 3339 can write; certificates that never expire say so with it (RFC 5280 §4.1.2.5).
fn latest() -> DateTime<Utc> {
    at(253_402_300_799)
}

/// The first second that RFC 3339 can write.
fn first() -> DateTime<Utc> {
    at(-62_167_219_200)
}

fn at(seconds: i64) -> DateTime<Utc> {
    DateTime::from_timestamp(seconds, 0).unwrap_or(EARLIEST)
}

/// An instant that a clock of ours can have said.
fn ours(instant: &mut DateTime<Utc>) {
    *instant = (*instant).clamp(EARLIEST, latest());
}

/// A date that a certificate can have.
fn of_certificate(instant: &mut DateTime<Utc>) {
    *instant = (*instant).clamp(first(), latest());
}

impl Ledger {
    /// Reads the content of a stored ledger. One that can't be read is begun anew: at worst, what is true is told once more.
    /// Instants that can't be true are moved to the nearest that can.
    #[must_use]
    pub fn read(content: serde_json::Value) -> Self {
        let mut ledger: Self = serde_json::from_value(content).unwrap_or_default();
        for alert in ledger.alerts.values_mut() {
            ours(&mut alert.since);
            alert.raised.iter_mut().for_each(ours);
            alert.ended.iter_mut().for_each(|ended| ours(&mut ended.at));
        }
        for facts in ledger.facts.values_mut() {
            facts.not_before.iter_mut().for_each(of_certificate);
            facts.not_after.iter_mut().for_each(of_certificate);
        }
        for LastSeen { leaf, intermediates } in ledger.seen.values_mut().flat_map(|seen| seen.values_mut()) {
            for certificate in std::iter::once(leaf).chain(intermediates) {
                of_certificate(&mut certificate.not_before);
                of_certificate(&mut certificate.not_after);
            }
        }
        ledger.sinks.values_mut().for_each(sink);
        ledger
    }
}

fn sink(sink: &mut SinkLedger) {
    sink.last_sent.iter_mut().for_each(ours);
    if let Some(retry) = &mut sink.retry {
        ours(&mut retry.at);
        ours(&mut retry.since);
    }
    sink.intent.iter_mut().for_each(intent);
}

fn intent(intent: &mut Intent) {
    ours(&mut intent.as_of);
    ours(&mut intent.deadline);
    let message = &mut intent.message;
    ours(&mut message.as_of);
    let counts = &mut message.counts;
    for count in [
        &mut counts.critical,
        &mut counts.warning,
        &mut counts.resolved,
        &mut counts.silenced,
        &mut message.truncated,
    ] {
        *count = (*count).min(MOST_COUNTED);
    }
    for alert in &mut message.alerts {
        ours(&mut alert.since);
        if let Some(certificate) = &mut alert.certificate {
            certificate.not_before.iter_mut().for_each(of_certificate);
            certificate.not_after.iter_mut().for_each(of_certificate);
        }
    }
}
