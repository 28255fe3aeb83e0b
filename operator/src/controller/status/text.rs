//! Sentences and lines of the status.

use super::{FindingReport, MOST_LINES, Report, Stalled};
use crate::controller::{hint::count, resolve::SourceReport};
use certmon_core::{
    delivery::SinkResult,
    dial::DialProblem,
    finding::{Severity, Sighting},
    place::Place,
    reason::Reason,
};
use certmon_crd::{CertificateCounts, CertificateMonitorStatus};
use chrono::{DateTime, Utc};
use std::collections::BTreeMap;

/// Cuts at a character, and says so.
pub(super) fn cut(text: &str, chars: usize) -> String {
    if text.chars().count() <= chars {
        return text.to_owned();
    }
    text.chars().take(chars - 1).chain(['…']).collect()
}

/// The object or the address, without a Secret's key: `Secret/shop-tls`.
pub(super) fn short_title(place: &Place) -> String {
    match place {
        Place::Secret { name, .. } => format!("Secret/{name}"),
        other => cut(&other.title(), 256),
    }
}

/// `Secret/shop-tls tls.crt (shop.example.com)`.
pub(super) fn title_with_name(sighting: &Sighting) -> String {
    let title = sighting.place.title();
    match &sighting.facts.name {
        Some(name) if !title.contains(name.as_str()) => format!("{title} ({name})"),
        _ => title,
    }
}

/// Places of a source that come from an object and aren't dialled as they could be, and why. (An endpoint that is refused is a
/// finding.)
pub(super) fn less_dialled(source: &SourceReport, less: &BTreeMap<Place, DialProblem>) -> Option<String> {
    let of_source = |place: &&Place| source.places.contains(*place) && matches!(place, Place::Ingress { .. });
    let mut places = less.keys().filter(of_source);
    let first = places.next()?;
    let more = match places.count() {
        0 => String::new(),
        more => format!(" (and {more} more)"),
    };
    let why = match less.get(first)? {
        DialProblem::NotPermitted => "the egress policy does not permit its address or port".to_owned(),
        DialProblem::NoRoute(family) => format!("there is no route to its {family} addresses"),
    };
    Some(format!("{} is not looked at everywhere{more}: {why}", first.title()))
}

/// The reason why nothing can be done for a monitor.
pub(super) fn stalled_reason(stalled: &Stalled) -> Reason {
    match stalled {
        Stalled::InvalidSpec(_) => Reason::InvalidSpec,
        Stalled::InternalError => Reason::InternalError,
    }
}

/// Why nothing can be done for a monitor.
pub(super) fn stalled(stalled: &Stalled) -> String {
    match stalled {
        Stalled::InvalidSpec(problem) => format!("The spec can't be used: {}", cut(problem.trim_end_matches('.'), 900)),
        Stalled::InternalError => {
            "Going over this monitor failed inside certmon; it is tried again. Please report it".to_owned()
        }
    }
}

/// [`stalled`] as what `kubectl describe` shows last.
pub(super) fn stalled_summary(of: &Stalled) -> Vec<String> {
    vec![
        format!("{}.", stalled(of)),
        "Nothing of this monitor is checked or told meanwhile; what status says of certificates is as it was."
            .to_owned(),
    ]
}

/// "1 more is not checked".
pub(super) fn unchecked(number: u32) -> String {
    let are = if number == 1 { "is" } else { "are" };
    format!("{number} more {are} not checked")
}

/// "1 of 14 certificates needs attention".
pub(super) fn attention(counts: &CertificateCounts) -> String {
    let bad = counts.warning + counts.critical;
    let needs = if bad == 1 { "needs" } else { "need" };
    format!(
        "{bad} of {} {needs} attention",
        count(counts.total as usize, "certificate")
    )
}

/// What `kubectl describe` shows last, above the Events.
pub(super) fn summary(
    report: &Report<'_>,
    counts: &CertificateCounts,
    status: &CertificateMonitorStatus,
) -> Vec<String> {
    let mut lines = Vec::new();
    let open: Vec<&FindingReport<'_>> = report.findings.iter().filter(|finding| !finding.silenced).collect();
    if counts.warning + counts.critical > 0 {
        lines.push(format!("{}:", attention(counts)));
    } else if !open.is_empty() {
        lines.push(match counts.total {
            0 => "No certificate was found, and:".to_owned(),
            total => format!("{} valid, but:", all(total)),
        });
    } else if counts.total == 0 {
        lines.extend(report.resolved.sources.iter().filter_map(|source| {
            let hint = source.hint.as_ref()?;
            Some(format!(
                "Nothing is watched: source {} selects nothing: {hint}.",
                source.name
            ))
        }));
    } else if counts.unknown > 0 {
        let have = if counts.unknown == 1 { "has" } else { "have" };
        let all = count(counts.total as usize, "certificate");
        lines.push(format!("{} of {all} {have} not been looked at yet.", counts.unknown));
    } else {
        let next = status.next_expiry.as_ref();
        let next = next.map(|next| {
            format!(
                " Next to expire: {} on {}.",
                next.certificate,
                next.time.instant().format("%Y-%m-%d")
            )
        });
        let silenced = if counts.silenced > 0 {
            format!(" ({} silenced)", counts.silenced)
        } else {
            String::new()
        };
        lines.push(format!(
            "{} valid{silenced}.{}",
            all(counts.total),
            next.unwrap_or_default()
        ));
    }
    lines.extend(problem_lines(&open, &tail(report)));
    lines.extend(tail(report));
    lines.truncate(MOST_LINES);
    lines.iter().map(|line| cut(line, 1024)).collect()
}

fn all(total: u32) -> String {
    if total == 1 {
        "The 1 certificate is".to_owned()
    } else {
        format!("All {total} certificates are")
    }
}

/// The worst, one a line, in columns.
fn problem_lines(open: &[&FindingReport<'_>], tail: &[String]) -> Vec<String> {
    // The first line, the tail and "… and n more" take their room.
    let room = MOST_LINES - 1 - tail.len().min(4);
    let shown = if open.len() > room { room - 1 } else { open.len() };
    let columns: Vec<[String; 3]> = open.iter().take(shown).map(|finding| row(finding.sighting)).collect();
    let width = |column: usize| {
        columns
            .iter()
            .map(|row| row[column].chars().count())
            .max()
            .unwrap_or(0)
            .min(60)
    };
    let (first, second) = (width(0), width(1));
    let mut lines: Vec<String> = columns
        .iter()
        .zip(open)
        .map(|([title, name, message], finding)| {
            let severity = match finding.sighting.severity {
                Severity::Warning => "WARNING ",
                Severity::Critical => "CRITICAL",
            };
            format!("{severity}  {title:first$}  {name:second$}  {message}")
                .trim_end()
                .to_owned()
        })
        .collect();
    if open.len() > shown {
        lines.push(format!("… and {} more", open.len() - shown));
    }
    lines
}

fn row(sighting: &Sighting) -> [String; 3] {
    let title = sighting.place.title();
    let name = sighting
        .facts
        .name
        .as_ref()
        .map(certmon_core::text::PeerText::as_str)
        .filter(|name| !title.contains(name));
    // The whole sentence stands in `problems`; a line has its first part.
    let message = sighting.facts.message.split("; ").next().unwrap_or_default();
    [cut(&title, 60), cut(name.unwrap_or_default(), 60), cut(message, 160)]
}

/// Sinks that fail, sources that can't be read, what isn't checked.
fn tail(report: &Report<'_>) -> Vec<String> {
    let mut lines = Vec::new();
    for sink in report.sinks.iter().filter(|sink| sink.result == SinkResult::Failing) {
        let since = sink
            .since
            .map(|since| format!(" since {}", minute(since)))
            .unwrap_or_default();
        let problem = sink.problem.as_deref().unwrap_or("the last delivery failed");
        let waiting = if sink.pending > 0 {
            format!("; {} waiting", count(sink.pending as usize, "change"))
        } else {
            String::new()
        };
        lines.push(format!("Sink {} is failing{since}: {problem}{waiting}.", sink.name));
    }
    for source in &report.resolved.sources {
        if let Some(trouble) = &source.trouble {
            lines.push(format!("Source {}: {}.", source.name, trouble.text()));
        }
    }
    lines.extend(report.trust_problem.map(|problem| format!("Trust: {problem}.")));
    if report.resolved.unchecked > 0 {
        lines.push(format!(
            "{}: `limits` allow no more.",
            unchecked(report.resolved.unchecked)
        ));
    }
    lines
}

/// `2026-11-27 02:15Z`.
fn minute(instant: DateTime<Utc>) -> String {
    instant.format("%Y-%m-%d %H:%MZ").to_string()
}
