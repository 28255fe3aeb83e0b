//! What the operator does about a story, line by line, to be read like documentation.

use super::{
    clock::{StageClock, label},
    receivers::Answer,
};
use certmon::{
    clock::Clock,
    cluster::{ApiFailure, EventNote, LedgerObject},
};
use certmon_core::{
    finding::Severity,
    message::{AlertStatus, Message, MessageAlert},
};
use certmon_crd::{CertificateMonitorStatus, SinkState};
use chrono::{DateTime, Utc};
use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};

#[derive(Default)]
struct State {
    lines: Vec<String>,
    /// Messages by id: which number each has.
    numbers: BTreeMap<String, usize>,
    ledger_writes: u32,
    /// What the last line says of the ledger, how often, and its beginning.
    in_a_row: Option<(String, u32, String)>,
}

/// The recorder.
pub(crate) struct Timeline {
    clock: Arc<StageClock>,
    state: Mutex<State>,
}

impl Timeline {
    pub(crate) fn new(clock: Arc<StageClock>) -> Self {
        Self {
            clock,
            state: Mutex::default(),
        }
    }

    pub(crate) fn clock(&self) -> &StageClock {
        &self.clock
    }

    pub(crate) fn now(&self) -> DateTime<Utc> {
        self.clock.now()
    }

    fn with<T>(&self, with: impl FnOnce(&mut State) -> T) -> T {
        with(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Everything so far.
    pub(crate) fn text(&self) -> String {
        self.with(|state| state.lines.join("\n"))
    }

    fn line(&self, kind: &str, text: &str) {
        let line = format!("{}  {kind:<8} {text}", label(self.now()));
        self.with(|state| {
            state.in_a_row = None;
            state.lines.push(line.trim_end().to_owned());
        });
    }

    /// Something happens in the story.
    pub(crate) fn step(&self, text: &str) {
        self.with(|state| state.lines.push(String::new()));
        self.line("▶", text);
    }

    /// Nothing happened since the last step.
    pub(crate) fn quiet(&self, text: &str) {
        self.line("quiet", text);
    }

    pub(crate) fn ledger(&self, written: &Result<LedgerObject, ApiFailure>) {
        let (text, now) = match written {
            Ok(_) => ("written".to_owned(), true),
            Err(failure) => (format!("not written: {failure}"), false),
        };
        let line = self.with(|state| {
            state.ledger_writes += u32::from(now);
            // Attempts in a row are one line, at the instant of the first.
            if state.in_a_row.as_ref().is_some_and(|(known, ..)| *known == text) {
                let (_, times, line) = state.in_a_row.as_mut()?;
                *times += 1;
                let (times, writes) = (*times, state.ledger_writes);
                let numbers = if now {
                    format!("; {writes} writes so far")
                } else {
                    String::new()
                };
                *state.lines.last_mut()? = format!("{line}, {times} times in a row{numbers}");
                return None;
            }
            Some(text.clone())
        });
        let Some(line) = line else { return };
        let writes = self.with(|state| state.ledger_writes);
        self.line("ledger", &if now { format!("written; {writes} so far") } else { line });
        self.with(|state| {
            let first = format!("{}  {:<8} {text}", label(self.now()), "ledger");
            state.in_a_row = Some((text, 1, first));
        });
    }

    pub(crate) fn event(&self, note: &EventNote) {
        let kind = if note.warning { "Warning" } else { "Normal" };
        let related = note
            .related
            .as_ref()
            .map(|(kind, name)| format!(" [{kind}/{name}]"))
            .unwrap_or_default();
        self.line(
            "event",
            &format!("{kind} {} {}{related}: {}", note.action, note.reason, note.note),
        );
    }

    pub(crate) fn status(&self, before: Option<&CertificateMonitorStatus>, after: &CertificateMonitorStatus) {
        let before = before.map(facts).unwrap_or_default();
        let after = facts(after);
        for (name, text) in &after {
            if before.get(name) != Some(text) {
                self.line("status", text);
            }
        }
        for (name, text) in &before {
            if !after.contains_key(name) {
                self.line("status", &format!("no longer: {text}"));
            }
        }
    }

    pub(crate) fn message(&self, message: &Message, answer: Answer, refused: u32) {
        // Of many attempts in a row that fail, the first says enough.
        if matches!(answer, Answer::Refuses(_)) && refused > 1 {
            return;
        }
        let (number, again) = self.with(|state| {
            let next = state.numbers.len() + 1;
            let number = *state.numbers.entry(message.id.clone()).or_insert(next);
            (number, if number == next { "" } else { ", again" })
        });
        let counts = message.counts;
        let numbers = [
            (counts.critical, "critical"),
            (counts.warning, "warning"),
            (counts.resolved, "resolved"),
            (counts.silenced, "silenced"),
        ];
        let numbers: Vec<String> = numbers
            .iter()
            .filter(|(number, _)| *number > 0)
            .map(|(number, what)| format!("{number} {what}"))
            .collect();
        let became = match answer {
            Answer::Accepts if refused > 0 => format!("accepted, after {refused} attempts that failed"),
            Answer::Accepts => "accepted".to_owned(),
            Answer::Refuses(class) => format!("fails: {}", class.text()),
            Answer::BreaksOff => "arrives, and the connection breaks".to_owned(),
            Answer::Hangs => "arrives, and no answer comes".to_owned(),
            Answer::Panics => "arrives, and the operator panics over it".to_owned(),
        };
        let (sink, reason) = (&message.sink, message.reason);
        self.line(
            "message",
            &format!("#{number}{again} to {sink}: {reason} ({}) {became}", numbers.join(", ")),
        );
        for alert in &message.alerts {
            self.line("", &format!("  {}", alert_line(alert)));
        }
    }
}

fn alert_line(alert: &MessageAlert) -> String {
    let severity = alert.severity;
    let was = alert
        .previous_severity
        .filter(|was| *was != severity)
        .map(|was| format!(", was {was}"))
        .unwrap_or_default();
    match alert.status {
        AlertStatus::Firing => format!("firing {severity}{was} {}: {}", alert.finding, alert.message),
        AlertStatus::Resolved => {
            let how = alert.resolved_as.map(|how| how.to_string()).unwrap_or_default();
            format!("resolved as {how} {}: {}", alert.finding, alert.message)
        }
    }
}

/// The facts of a status, each by a name that stays.
fn facts(status: &CertificateMonitorStatus) -> BTreeMap<String, String> {
    let mut facts = BTreeMap::new();
    for (place, condition) in (0..).zip(&status.conditions) {
        facts.insert(
            format!("0 {place} {}", condition.type_),
            format!(
                "{}={} {}: {}",
                condition.type_, condition.status, condition.reason, condition.message
            ),
        );
    }
    if let Some(counts) = status.certificates {
        let numbers = [
            (counts.ok, "ok"),
            (counts.warning, "warning"),
            (counts.critical, "critical"),
            (counts.unknown, "unknown"),
            (counts.silenced, "silenced"),
            (counts.unchecked, "unchecked"),
        ];
        let numbers: Vec<String> = numbers
            .iter()
            .filter(|(number, _)| *number > 0)
            .map(|(number, what)| format!("{number} {what}"))
            .collect();
        let text = format!("certificates: {} ({})", counts.total, numbers.join(", "));
        facts.insert("1".to_owned(), text);
    }
    if let Some(next) = &status.next_expiry {
        let text = format!("next expiry: {} on {}", next.certificate, label(next.time.instant()));
        facts.insert("2".to_owned(), text);
    }
    for problem in &status.problems {
        let severity = match problem.severity {
            certmon_crd::Severity::Warning => Severity::Warning,
            certmon_crd::Severity::Critical => Severity::Critical,
        };
        let since = label(problem.since.instant());
        let text = format!(
            "problem: {severity} {} {} (since {since})",
            problem.certificate, problem.finding
        );
        let finding = problem.finding.split(':').next().unwrap_or_default();
        facts.insert(format!("3 {} {finding}", problem.certificate), text);
    }
    for source in status.sources.iter().filter(|source| source.problem.is_some()) {
        let text = format!(
            "source {}: {}",
            source.name,
            source.problem.as_deref().unwrap_or_default()
        );
        facts.insert(format!("4 {}", source.name), text);
    }
    for sink in &status.sinks {
        facts.insert(format!("5 {}", sink.name), sink_line(sink));
    }
    for (name, token) in [
        ("check", &status.last_handled_check_request),
        ("test", &status.last_handled_test_request),
    ] {
        if let Some(token) = token {
            facts.insert(format!("6 {name}"), format!("the {name} of {token} is done"));
        }
    }
    facts
}

fn sink_line(sink: &SinkState) -> String {
    let pending = sink
        .pending
        .map(|pending| format!(", {pending} pending"))
        .unwrap_or_default();
    let sent = sink
        .sent_time
        .map(|sent| format!(", last sent {}", label(sent.instant())))
        .unwrap_or_default();
    let since = sink
        .since
        .map(|since| format!(" since {}", label(since.instant())))
        .unwrap_or_default();
    let problem = sink
        .problem
        .as_ref()
        .map(|problem| format!(": {problem}"))
        .unwrap_or_default();
    format!("sink {}: {:?}{since}{pending}{sent}{problem}", sink.name, sink.result)
}
