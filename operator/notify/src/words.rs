//! The words that every rendering shares: which alerts are listed, the headline, text that can't forge a line.

use certmon_core::{
    message::{AlertStatus, Message, MessageAlert, MessageReason, ResolvedAs},
    text::is_unsafe,
};
use chrono::{DateTime, Utc};

pub(crate) use certmon_core::finding::Severity;

/// The most alerts that people read in a chat or after a step down.
pub(crate) const WORST: usize = 20;

/// Replaces what could forge a line or reorder a text; line breaks too.
pub(crate) fn clean(text: &str) -> String {
    text.chars()
        .map(|c| if is_unsafe(c) { '\u{fffd}' } else { c })
        .collect()
}

/// The first `most` characters of the cleaned text; what was cut ends in `…`.
pub(crate) fn cut(text: &str, most: usize) -> String {
    let clean = clean(text);
    if clean.chars().count() <= most {
        return clean;
    }
    clean.chars().take(most.saturating_sub(1)).chain(['…']).collect()
}

/// What may stand in an identifier of a header or a block; all else becomes `-`.
pub(crate) fn token(text: &str) -> String {
    let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
    text.chars().take(200).map(|c| if fits(c) { c } else { '-' }).collect()
}

/// The alerts that a rendering lists, and how many it leaves out.
pub(crate) struct Listed<'a> {
    pub(crate) alerts: Vec<&'a MessageAlert>,
    pub(crate) omitted: u32,
}

/// The first `most` alerts: what changed stands first in a message.
pub(crate) fn first(message: &Message, most: usize) -> Listed<'_> {
    let alerts: Vec<_> = message.alerts.iter().take(most).collect();
    omitting(message, alerts)
}

/// The worst `most` alerts, worst first; what ended comes last.
pub(crate) fn worst(message: &Message, most: usize) -> Listed<'_> {
    let mut alerts: Vec<_> = message.alerts.iter().collect();
    alerts.sort_by_key(|alert| {
        (
            alert.status == AlertStatus::Resolved,
            std::cmp::Reverse(alert.severity),
            alert.finding.kind(),
            alert
                .certificate
                .as_ref()
                .and_then(|c| c.not_after)
                .unwrap_or(DateTime::<Utc>::MAX_UTC),
            &alert.place,
        )
    });
    alerts.truncate(most);
    omitting(message, alerts)
}

fn omitting<'a>(message: &'a Message, alerts: Vec<&'a MessageAlert>) -> Listed<'a> {
    let left_out = u32::try_from(message.alerts.len() - alerts.len()).unwrap_or(u32::MAX);
    Listed {
        alerts,
        omitted: message.truncated.saturating_add(left_out),
    }
}

/// What happened to an alert since this sink was last told.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Change {
    New,
    Worse,
    Lasts,
    Resolved,
}

/// As [`Change`] says.
pub(crate) fn change(alert: &MessageAlert) -> Change {
    match (alert.status, alert.previous_severity) {
        (AlertStatus::Resolved, _) => Change::Resolved,
        (AlertStatus::Firing, None) => Change::New,
        (AlertStatus::Firing, Some(before)) if before < alert.severity => Change::Worse,
        (AlertStatus::Firing, Some(_)) => Change::Lasts,
    }
}

/// "2 critical, 1 warning".
pub(crate) fn open(message: &Message) -> String {
    let counts = message.counts;
    let warnings = if counts.warning == 1 { "warning" } else { "warnings" };
    match (counts.critical, counts.warning) {
        (0, 0) => "nothing".to_owned(),
        (0, some) => format!("{some} {warnings}"),
        (some, 0) => format!("{some} critical"),
        (critical, warning) => format!("{critical} critical, {warning} {warnings}"),
    }
}

/// What a person should know who reads nothing else. Free of text from outside.
pub(crate) fn headline(message: &Message) -> String {
    let open = open(message);
    let resolved = message.counts.resolved;
    match message.reason {
        MessageReason::First => format!("{open} open"),
        MessageReason::New => {
            let new = message
                .alerts
                .iter()
                .filter(|alert| change(alert) == Change::New)
                .count();
            format!("New alert{}: {open} open", if new == 1 { "" } else { "s" })
        }
        MessageReason::Escalated => format!("Got worse: {open} open"),
        MessageReason::ResolvedSome => format!("{resolved} resolved: {open} still open"),
        MessageReason::ResolvedAll => format!("All clear: {resolved} resolved"),
        MessageReason::Reminder => format!("Still open: {open}"),
        MessageReason::Test => "Test message: certmon reaches you here".to_owned(),
    }
}

/// "shop/edge (prod-eu)".
pub(crate) fn monitor(message: &Message) -> String {
    let name = format!("{}/{}", clean(&message.namespace), clean(&message.monitor));
    match &message.cluster {
        Some(cluster) => format!("{name} ({})", cut(cluster, 64)),
        None => name,
    }
}

/// "2026-11-25 17:53 UTC".
pub(crate) fn instant(at: DateTime<Utc>) -> String {
    at.format("%Y-%m-%d %H:%M UTC").to_string()
}

/// What stands at a message's end: of when it is true, and what isn't said.
pub(crate) fn notes(message: &Message, omitted: u32) -> Vec<String> {
    let mut notes = vec![format!("As of {}.", instant(message.as_of))];
    if omitted > 0 {
        notes.push(format!("{omitted} more not listed here."));
    }
    match message.counts.silenced {
        0 => {}
        1 => notes.push("1 more is silenced.".to_owned()),
        many => notes.push(format!("{many} more are silenced.")),
    }
    notes
}

/// The whole message in one line, for a sink that takes nothing richer.
pub(crate) fn one_line(message: &Message) -> String {
    let mut line = format!("{} – certmon {}", headline(message), monitor(message));
    if let Some(alert) = worst(message, 1).alerts.first() {
        line.push_str(&format!(" – worst: {}: {}", alert.finding, cut(&alert.message, 300)));
    }
    line
}

/// The severity that a message is about: of what is open, else of what ended.
pub(crate) fn severity(message: &Message) -> Option<Severity> {
    match (message.counts.critical, message.counts.warning) {
        (0, 0) => message.alerts.iter().map(|alert| alert.severity).max(),
        (0, _) => Some(Severity::Warning),
        _ => Some(Severity::Critical),
    }
}

/// An alert in the words of people.
pub(crate) struct Told {
    /// A sign that can be told apart without colours.
    pub(crate) sign: &'static str,
    /// "CRITICAL · new".
    pub(crate) label: String,
    /// The finding's name.
    pub(crate) finding: String,
    /// The place.
    pub(crate) title: String,
    /// The rest of the sentence that begins with the title: put them side by side.
    pub(crate) rest: String,
    /// What to do, if anything is left to do.
    pub(crate) next_step: Option<String>,
    /// Where to read more: https only.
    pub(crate) runbook: Option<String>,
}

/// As [`Told`] says; every text of it is clean and bounded.
pub(crate) fn told(alert: &MessageAlert) -> Told {
    let change = change(alert);
    let severity = match alert.severity {
        Severity::Critical => "CRITICAL",
        Severity::Warning => "WARNING",
    };
    let label = match (change, alert.resolved_as) {
        (Change::New, _) => format!("{severity} · new"),
        (Change::Worse, _) => format!("{severity} · was a warning"),
        (Change::Lasts, _) => severity.to_owned(),
        (Change::Resolved, how) => format!("RESOLVED · {}", resolved(how)),
    };
    let sign = match (change, alert.severity) {
        (Change::Resolved, _) => "✅",
        (_, Severity::Critical) => "🔴",
        (_, Severity::Warning) => "🟡",
    };
    let title = cut(&alert.title, 256);
    let message = cut(&alert.message, 1000);
    let rest = message
        .strip_prefix(title.as_str())
        .map_or_else(|| format!(": {message}"), str::to_owned);
    let firing = change != Change::Resolved;
    Told {
        sign,
        label,
        finding: alert.finding.to_string(),
        rest,
        title,
        next_step: (firing && !alert.next_step.is_empty()).then(|| cut(&alert.next_step, 500)),
        runbook: runbook(alert).filter(|_| firing),
    }
}

fn runbook(alert: &MessageAlert) -> Option<String> {
    let url = url::Url::parse(&alert.runbook).ok()?;
    (url.scheme() == "https" && url.as_str().len() <= 500).then(|| url.to_string())
}

fn resolved(how: Option<ResolvedAs>) -> &'static str {
    match how {
        Some(ResolvedAs::Renewed) => "renewed",
        Some(ResolvedAs::PolicyChanged) => "the monitor's settings changed",
        Some(ResolvedAs::NoLongerMonitored) => "no longer monitored",
        Some(ResolvedAs::Resolved) | None => "no longer the case",
    }
}
