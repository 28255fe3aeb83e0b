//! `Ready`, `Healthy`, `Notified`, and while they are true `Reconciling` and `Stalled`.

use super::{Report, SinkReport, Stalled, text};
use crate::controller::{hint::count, resolve::Trouble};
use certmon_core::{delivery::SinkResult, reason::Reason};
use certmon_crd::CertificateCounts;
use chrono::{DateTime, Utc};
use k8s_openapi::{
    apimachinery::pkg::apis::meta::v1::{Condition, Time},
    jiff::Timestamp,
};

/// A condition before it has its times.
struct Verdict {
    type_: &'static str,
    status: &'static str,
    reason: Reason,
    message: String,
}

fn verdict(type_: &'static str, status: &'static str, reason: Reason, message: impl Into<String>) -> Verdict {
    Verdict {
        type_,
        status,
        reason,
        message: message.into(),
    }
}

pub(super) fn build(
    old: &[Condition],
    report: &Report<'_>,
    counts: &CertificateCounts,
    now: DateTime<Utc>,
) -> Vec<Condition> {
    let mut verdicts = match (&report.stalled, report.suspended) {
        (Some(stalled), _) => of_stalled(stalled),
        (None, true) => suspended(),
        (None, false) => vec![ready(report, counts), healthy(report, counts), notified(report)],
    };
    if report.stalled.is_none() && !report.suspended && !report.resolved.complete && no_trouble(report) {
        verdicts.push(verdict(
            "Reconciling",
            "True",
            Reason::Discovering,
            "Reading what the sources select",
        ));
    }
    verdicts
        .into_iter()
        .map(|verdict| timed(old, verdict, report.generation, now))
        .collect()
}

/// The transition time moves only when the status does.
fn timed(old: &[Condition], verdict: Verdict, generation: i64, now: DateTime<Utc>) -> Condition {
    let before = old
        .iter()
        .find(|condition| condition.type_ == verdict.type_ && condition.status == verdict.status);
    let since = before.map_or_else(
        || Time(Timestamp::from_second(now.timestamp()).unwrap_or(Timestamp::MAX)),
        |condition| condition.last_transition_time.clone(),
    );
    Condition {
        type_: verdict.type_.to_owned(),
        status: verdict.status.to_owned(),
        reason: verdict.reason.name().to_owned(),
        message: text::cut(&verdict.message, 4096),
        last_transition_time: since,
        observed_generation: Some(generation),
    }
}

fn of_stalled(stalled: &Stalled) -> Vec<Verdict> {
    let (reason, message) = (text::stalled_reason(stalled), text::stalled(stalled));
    let unknown = ["Healthy", "Notified"].map(|type_| {
        let message = "Nothing is checked or told meanwhile, and what was known before no longer counts";
        verdict(type_, "Unknown", reason, message)
    });
    let mut verdicts = vec![verdict("Ready", "False", reason, message.clone())];
    verdicts.extend(unknown);
    verdicts.push(verdict("Stalled", "True", reason, message));
    verdicts
}

fn suspended() -> Vec<Verdict> {
    let message = "Suspended by `spec.suspend`: nothing is checked and nobody is told";
    vec![
        verdict("Ready", "True", Reason::Suspended, message),
        verdict("Healthy", "Unknown", Reason::Suspended, message),
        verdict("Notified", "Unknown", Reason::Suspended, message),
    ]
}

fn no_trouble(report: &Report<'_>) -> bool {
    report.trust_problem.is_none() && report.resolved.sources.iter().all(|source| source.trouble.is_none())
}

/// The worst trouble of a source or of the trust: a missing right before a missing kind before a missing object.
fn trouble(report: &Report<'_>) -> Option<(Reason, String)> {
    let of_source = report
        .resolved
        .sources
        .iter()
        .filter_map(|source| Some((source.trouble.as_ref()?, source)));
    let worst = of_source.min_by_key(|(trouble, _)| (*trouble).clone());
    let worst = worst.map(|(trouble, source)| {
        let reason = match trouble {
            Trouble::Forbidden(_) => Reason::SourceForbidden,
            Trouble::Unavailable(_) => Reason::SourceUnavailable,
            Trouble::NotFound(_) => Reason::ReferenceNotFound,
        };
        (reason, format!("Source {}: {}", source.name, trouble.text()))
    });
    worst.or_else(|| {
        report
            .trust_problem
            .map(|problem| (Reason::ReferenceNotFound, problem.to_owned()))
    })
}

fn ready(report: &Report<'_>, counts: &CertificateCounts) -> Verdict {
    if let Some((reason, message)) = trouble(report) {
        return verdict("Ready", "False", reason, message);
    }
    if !report.resolved.complete {
        return verdict("Ready", "Unknown", Reason::Pending, "Reading what the sources select");
    }
    let sources = count(report.resolved.sources.len(), "source");
    let mut message = format!(
        "Watching {} from {sources}",
        count(counts.total as usize, "certificate")
    );
    if counts.unchecked > 0 {
        message.push_str(&format!(
            "; {}, because `limits` allow no more",
            text::unchecked(counts.unchecked)
        ));
    }
    verdict("Ready", "True", Reason::Monitoring, message)
}

fn healthy(report: &Report<'_>, counts: &CertificateCounts) -> Verdict {
    if let Some(worst) = report.findings.iter().find(|finding| !finding.silenced) {
        let reason = Reason::from(worst.sighting.finding);
        let first = format!(
            "{}: {}",
            text::title_with_name(worst.sighting),
            worst.sighting.facts.message
        );
        let others = report.findings.iter().filter(|finding| !finding.silenced).count() - 1;
        let more = match others {
            0 => String::new(),
            1 => "; and 1 more finding".to_owned(),
            others => format!("; and {others} more findings"),
        };
        let lead = if counts.warning + counts.critical > 0 {
            text::attention(counts) + ": "
        } else {
            String::new()
        };
        return verdict("Healthy", "False", reason, format!("{lead}{first}{more}"));
    }
    if let Some((reason, message)) = trouble(report) {
        return verdict("Healthy", "Unknown", reason, message);
    }
    if counts.unknown > 0 || !report.resolved.complete {
        let message = match counts.unknown {
            0 => "Reading what the sources select".to_owned(),
            1 => "1 certificate has not been looked at yet".to_owned(),
            unknown => format!("{unknown} certificates have not been looked at yet"),
        };
        return verdict("Healthy", "Unknown", Reason::Pending, message);
    }
    if counts.total == 0 {
        let mut hints = report.resolved.sources.iter();
        let hint = hints.find_map(|source| {
            Some(format!(
                "Source {} selects nothing: {}",
                source.name,
                source.hint.as_ref()?
            ))
        });
        return verdict(
            "Healthy",
            "Unknown",
            Reason::NoCertificates,
            hint.unwrap_or("No source selects anything".to_owned()),
        );
    }
    let which = if counts.total == 1 {
        "The 1 certificate is".to_owned()
    } else {
        format!("All {} certificates are", counts.total)
    };
    let message = match counts.silenced {
        0 => format!("{which} valid and outside the thresholds"),
        silenced => format!("{which} valid and outside the thresholds, or silenced ({silenced} silenced)"),
    };
    verdict("Healthy", "True", Reason::AllValid, message)
}

fn notified(report: &Report<'_>) -> Verdict {
    let failing = |sink: &&SinkReport<'_>| sink.result == SinkResult::Failing;
    if let Some(sink) = report.sinks.iter().find(failing) {
        let problem = sink.problem.as_deref().unwrap_or("the last delivery failed");
        let waiting = match sink.pending {
            0 => String::new(),
            pending => format!("; {} waiting", count(pending as usize, "change")),
        };
        let others = report.sinks.iter().filter(failing).count() - 1;
        let more = if others > 0 {
            format!(" (and {others} more failing)")
        } else {
            String::new()
        };
        let reason = sink.reason.unwrap_or(Reason::DeliveryFailed);
        return verdict(
            "Notified",
            "False",
            reason,
            format!("Sink {}: {problem}{waiting}{more}", sink.name),
        );
    }
    if report.sinks.is_empty() {
        return verdict(
            "Notified",
            "True",
            Reason::NoSinks,
            "No sinks: findings are told in status and Events only",
        );
    }
    let pending: Vec<&str> = report
        .sinks
        .iter()
        // Later messages are on their way for a moment each: `status.sinks` says so, and the condition stays.
        .filter(|sink| sink.result == SinkResult::Pending && sink.sent.is_none())
        .map(|sink| sink.name)
        .collect();
    if !pending.is_empty() {
        return verdict(
            "Notified",
            "Unknown",
            Reason::Pending,
            format!("A message is on its way to {}", pending.join(", ")),
        );
    }
    if report.sinks.iter().any(|sink| sink.sent.is_some()) {
        let message = "Every sink has accepted its last message".to_owned() + &confirmed(report);
        return verdict("Notified", "True", Reason::Delivered, message);
    }
    let message = "Nothing to tell yet".to_owned() + &confirmed(report);
    verdict("Notified", "True", Reason::NothingToSend, message)
}

/// What stands in status and was told to nobody, since it may pass.
fn confirmed(report: &Report<'_>) -> String {
    let held = report
        .findings
        .iter()
        .filter(|finding| finding.held && !finding.silenced);
    match held.count() {
        0 => String::new(),
        1 => "; 1 finding is being confirmed, and is told if it lasts for 10 minutes".to_owned(),
        several => format!("; {several} findings are being confirmed, and are told if they last for 10 minutes"),
    }
}
