//! What a sink was told against what is true, and when that is worth a message.

use super::{Rung, SinkContext, claim, later};
use crate::{
    finding::Severity,
    hash::ShortHash,
    ledger::{Alert, Intent, LEDGER_BYTES, Ledger, Said, SinkLedger, json_bytes},
    message::{self, Digest, Message, MessageReason},
    policy::SinkManners,
};
use chrono::{DateTime, TimeDelta, Utc};
use sha2::{Digest as _, Sha256};
use std::collections::BTreeMap;
use strum::IntoEnumIterator;

/// The pause between two messages of one sink.
const INTERVAL: TimeDelta = TimeDelta::minutes(5);
/// The pause before what can't wait: entering Critical or Expired, and an end.
const SHORT_INTERVAL: TimeDelta = TimeDelta::minutes(1);

/// What a sink was told against what is true. What it wasn't told of an alert below its `minSeverity`, or of one that
/// is silenced, it goes on not being told.
#[derive(Default)]
pub(super) struct Difference<'a> {
    /// Open, and never told.
    new: Vec<(ShortHash, &'a Alert)>,
    /// Open, and told at a lower level.
    worse: Vec<(ShortHash, &'a Alert)>,
    /// Ended, told, and to be told.
    ended: Vec<(ShortHash, &'a Alert)>,
    /// Open, and told as bad as it is.
    lasting: Vec<(ShortHash, &'a Alert)>,
    /// Open, and held back by a silence.
    silenced: u32,
    /// What the sink will have been told when it has a message of all this.
    told: BTreeMap<ShortHash, Said>,
    /// What the sink was told, without what needs no message to be forgotten.
    pub(super) absorbed: BTreeMap<ShortHash, Said>,
}

impl<'a> Difference<'a> {
    pub(super) fn of(ledger: &'a Ledger, sink: &SinkLedger, context: &SinkContext<'_>) -> Self {
        let mut this = Self::default();
        for (id, alert) in &ledger.alerts {
            let told = sink.told.get(id).copied();
            if alert.ended.is_some() {
                if let Some(told) = told.filter(|_| context.manners.send_resolved) {
                    this.ended.push((*id, alert));
                    this.absorbed.insert(*id, told);
                }
                continue;
            }
            this.absorbed.extend(told.map(|told| (*id, told)));
            let below = alert.severity < context.manners.min_severity;
            let silenced = (context.silenced)(alert);
            if below || silenced {
                this.silenced += u32::from(silenced && !below);
                this.told.extend(told.map(|told| (*id, told)));
                continue;
            }
            let is = Said::of(alert.finding, alert.severity);
            match told {
                None => this.new.push((*id, alert)),
                Some(told) if told < is => this.worse.push((*id, alert)),
                Some(_) => this.lasting.push((*id, alert)),
            }
            this.told.insert(*id, is);
        }
        this
    }

    /// How many alerts the sink has to be told of.
    pub(super) fn len(&self) -> u32 {
        u32::try_from(self.new.len() + self.worse.len() + self.ended.len()).unwrap_or(u32::MAX)
    }

    /// When a message of what changed may leave; `None` where nothing did.
    pub(super) fn leaves_at(&self, last_sent: Option<DateTime<Utc>>, now: DateTime<Utc>) -> Option<DateTime<Utc>> {
        if self.len() == 0 {
            return None;
        }
        let urgent = self
            .new
            .iter()
            .chain(&self.worse)
            .any(|(_, alert)| alert.severity == Severity::Critical);
        let pause = if urgent || !self.ended.is_empty() {
            SHORT_INTERVAL
        } else {
            INTERVAL
        };
        // After a clock went back, the last message lies ahead and says nothing about the pause since.
        Some(match last_sent.filter(|sent| *sent <= now) {
            Some(sent) => later(sent, pause),
            None => now,
        })
    }

    /// When what lasts is said again; `None` where nothing lasts, or never.
    pub(super) fn reminder_at(
        &self,
        sink: &SinkLedger,
        manners: &SinkManners,
        now: DateTime<Utc>,
    ) -> Option<DateTime<Utc>> {
        let worst = self.lasting.iter().map(|(_, alert)| alert.severity).max()?;
        let repeat = match worst {
            Severity::Critical => manners.repeat_critical,
            Severity::Warning => manners.repeat_warning,
        }?;
        let sent = sink.last_sent?.min(now);
        Some(later(sent, repeat))
    }

    fn reason(&self, sink: &SinkLedger) -> MessageReason {
        if !self.new.is_empty() {
            if sink.told.is_empty() {
                MessageReason::First
            } else {
                MessageReason::New
            }
        } else if !self.worse.is_empty() {
            MessageReason::Escalated
        } else if self.ended.is_empty() {
            MessageReason::Reminder
        } else if self.told.is_empty() {
            MessageReason::ResolvedAll
        } else {
            MessageReason::ResolvedSome
        }
    }

    /// The message of all this, as long as the sink takes it and the ledger has room for it.
    pub(super) fn intent(
        &self,
        ledger: &Ledger,
        sink: &SinkLedger,
        context: &SinkContext<'_>,
        now: DateTime<Utc>,
    ) -> Intent {
        let id = id(&[
            b"v1",
            context.ledger_uid.as_bytes(),
            context.resource_version.as_bytes(),
            context.manners.name.as_bytes(),
            &serde_json::to_vec(&self.told).unwrap_or_default(),
        ]);
        let lowest = sink.retry.as_ref().map_or(Rung::All, |retry| retry.rung);
        let digest = Digest {
            reason: self.reason(sink),
            new: &self.new,
            worse: &self.worse,
            ended: &self.ended,
            lasting: &self.lasting,
            silenced: self.silenced,
            told: &sink.told,
        };
        let build = |rung| Intent {
            id: id.clone(),
            reason: digest.reason,
            as_of: now,
            told: self.told.clone(),
            token: None,
            holder: context.holder.to_owned(),
            deadline: later(now, claim(context.manners)),
            attempt: 0,
            rung,
            message: message::build(ledger, context, &digest, &id, rung, now),
        };
        Rung::iter()
            .filter(|rung| *rung >= lowest)
            .map(build)
            .find(|intent| intent.rung == Rung::Text || ledger.bytes_with(json_bytes(&intent.message)) <= LEDGER_BYTES)
            .unwrap_or_else(|| build(Rung::Text))
    }

    /// A test: marked as such, without alerts, and without a trace in what the sink was told.
    pub(super) fn test(
        &self,
        sink: &SinkLedger,
        token: String,
        context: &SinkContext<'_>,
        now: DateTime<Utc>,
    ) -> Intent {
        let id = id(&[
            b"v1 test",
            context.ledger_uid.as_bytes(),
            context.manners.name.as_bytes(),
            token.as_bytes(),
        ]);
        let open = [self.new.as_slice(), &self.worse, &self.lasting].concat();
        Intent {
            reason: MessageReason::Test,
            as_of: now,
            told: sink.told.clone(),
            token: Some(token),
            holder: context.holder.to_owned(),
            deadline: later(now, claim(context.manners)),
            attempt: 0,
            rung: Rung::All,
            message: Message {
                truncated: 0,
                ..message::frame(
                    context,
                    MessageReason::Test,
                    &id,
                    message::count(&open, 0, self.silenced),
                    now,
                )
            },
            id,
        }
    }
}

/// 26 hexadecimal digits: short enough for every header, without a dot, and the same for the same decision.
fn id(parts: &[&[u8]]) -> String {
    let mut sha = Sha256::new();
    for part in parts {
        sha.update((part.len() as u64).to_be_bytes());
        sha.update(part);
    }
    hex::encode(sha.finalize()).chars().take(26).collect()
}
