//! What holds for every status that is written, whatever the story. Each rule has a number, so that one that is broken can be
//! looked up here.

use certmon_core::reason::Reason;
use certmon_crd::{CertificateMonitorStatus, Severity, SinkResult};
use chrono::{DateTime, Timelike, Utc};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use std::collections::BTreeSet;

const ORDER: [&str; 5] = ["Ready", "Healthy", "Notified", "Reconciling", "Stalled"];

/// The rules that a status breaks. `before`: what stood there, where the same process wrote it; `generation`: the object's.
pub(crate) fn broken(
    before: Option<&CertificateMonitorStatus>,
    status: &CertificateMonitorStatus,
    generation: i64,
    now: DateTime<Utc>,
) -> Vec<String> {
    let rules = [
        ("1: condition types are unique and in order", types_in_order(status)),
        ("2: Ready, Healthy and Notified are always there", always_there(status)),
        (
            "3: reasons are of the closed list, statuses True, False or Unknown",
            words(status),
        ),
        (
            "4: observedGeneration is a generation that there was",
            observed(status, generation),
        ),
        (
            "5: lastTransitionTime moves if and only if the status does",
            transitions(before, status, now),
        ),
        (
            "6: messages are one line of at most 1,024 characters, and end without a full stop",
            messages(status),
        ),
        ("7: the counts add up", counts(status)),
        ("8: at most 10 problems, 12 lines, 32 KiB", sizes(status)),
        ("9: no relative times", absolute(status)),
        (
            "10: Healthy is False if and only if something unsilenced is found",
            healthy(status),
        ),
        ("11: Healthy=True leaves nothing in doubt", doubtless(status)),
        (
            "12: Reconciling and Stalled stand there only while true",
            only_while_true(status),
        ),
        (
            "13: the worst problem comes first, and is Healthy's reason",
            worst_first(status),
        ),
        (
            "14: nothing began in the future, and instants have whole seconds",
            instants(status, now),
        ),
        ("15: Notified is False if and only if a sink fails", notified(status)),
        (
            "16: a suspended monitor keeps what was known",
            suspended(before, status),
        ),
        ("17: names of sources and sinks are unique", unique_names(status)),
    ];
    let broken = rules.into_iter().filter(|(_, holds)| !holds);
    broken
        .map(|(rule, _)| {
            let json = serde_json::to_string_pretty(status).unwrap_or_default();
            format!("status rule {rule}; at {now}, generation {generation}:\n{json}")
        })
        .collect()
}

fn condition<'a>(status: &'a CertificateMonitorStatus, type_: &str) -> Option<&'a Condition> {
    status.conditions.iter().find(|condition| condition.type_ == type_)
}

fn has(status: &CertificateMonitorStatus, type_: &str, reason: Reason) -> bool {
    condition(status, type_).is_some_and(|condition| condition.reason == reason.name())
}

/// Nothing is judged: the lists are of an earlier time.
fn is_kept(status: &CertificateMonitorStatus) -> bool {
    has(status, "Ready", Reason::Suspended) || condition(status, "Stalled").is_some()
}

fn types_in_order(status: &CertificateMonitorStatus) -> bool {
    let places: Vec<Option<usize>> = status
        .conditions
        .iter()
        .map(|condition| ORDER.iter().position(|type_| *type_ == condition.type_))
        .collect();
    places.iter().all(Option::is_some) && places.is_sorted_by(|one, next| one < next)
}

fn always_there(status: &CertificateMonitorStatus) -> bool {
    ORDER.iter().take(3).all(|type_| condition(status, type_).is_some())
}

fn words(status: &CertificateMonitorStatus) -> bool {
    status.conditions.iter().all(|condition| {
        condition.reason.parse::<Reason>().is_ok() && ["True", "False", "Unknown"].contains(&condition.status.as_str())
    })
}

fn observed(status: &CertificateMonitorStatus, generation: i64) -> bool {
    let is_known = |observed: Option<i64>| observed.is_some_and(|observed| (1..=generation).contains(&observed));
    let same = |condition: &Condition| condition.observed_generation == status.observed_generation;
    is_known(status.observed_generation) && status.conditions.iter().all(same)
}

fn transitions(
    before: Option<&CertificateMonitorStatus>,
    status: &CertificateMonitorStatus,
    now: DateTime<Utc>,
) -> bool {
    status.conditions.iter().all(|new| {
        let old = before.and_then(|before| condition(before, &new.type_));
        match old.filter(|old| old.status == new.status) {
            Some(old) => old.last_transition_time == new.last_transition_time,
            // Between the decision and the write, a call's time may pass.
            None => (0..=2).contains(&(now.timestamp() - new.last_transition_time.0.as_second())),
        }
    })
}

fn messages(status: &CertificateMonitorStatus) -> bool {
    status.conditions.iter().all(|condition| {
        let text = &condition.message;
        !text.is_empty() && text.chars().count() <= 1024 && !text.contains(char::is_control) && !text.ends_with('.')
    })
}

fn counts(status: &CertificateMonitorStatus) -> bool {
    let counts = status.certificates.unwrap_or_default();
    counts.total == counts.ok + counts.warning + counts.critical + counts.unknown + counts.silenced
}

fn sizes(status: &CertificateMonitorStatus) -> bool {
    let bytes = serde_json::to_vec(status).map_or(usize::MAX, |json| json.len());
    let short = status.summary.iter().all(|line| line.chars().count() <= 1024);
    status.problems.len() <= 10 && status.summary.len() <= 12 && short && bytes <= 32 * 1024
}

fn absolute(status: &CertificateMonitorStatus) -> bool {
    let conditions = status.conditions.iter().map(|condition| &condition.message);
    let problems = status.problems.iter().map(|problem| &problem.finding);
    let mut texts = conditions.chain(problems).chain(&status.summary);
    !texts.any(|text| is_relative(text))
}

/// `in 3 days`, `2 hours ago`, `5d left`.
fn is_relative(text: &str) -> bool {
    let words: Vec<&str> = text
        .split([' ', ',', ';', ':', '.', '(', ')'])
        .filter(|word| !word.is_empty())
        .collect();
    let is_number = |word: &str| word.parse::<u64>().is_ok();
    let is_unit = |word: &str| {
        let unit = word.trim_end_matches('s');
        ["day", "hour", "minute", "second", "week"].contains(&unit)
    };
    let ahead = words
        .windows(3)
        .any(|three| three[0] == "in" && is_number(three[1]) && is_unit(three[2]));
    ahead || words.iter().any(|word| ["ago", "left", "remaining"].contains(word))
}

fn healthy(status: &CertificateMonitorStatus) -> bool {
    let unhealthy = condition(status, "Healthy").is_some_and(|condition| condition.status == "False");
    is_kept(status) || unhealthy != status.problems.is_empty()
}

fn doubtless(status: &CertificateMonitorStatus) -> bool {
    let fine = condition(status, "Healthy").is_some_and(|condition| condition.status == "True");
    let counts = status.certificates.unwrap_or_default();
    let ready = condition(status, "Ready").is_some_and(|condition| condition.status == "True");
    !fine || (ready && counts.total > 0 && counts.warning + counts.critical + counts.unknown == 0)
}

fn only_while_true(status: &CertificateMonitorStatus) -> bool {
    let passing = ["Reconciling", "Stalled"]
        .iter()
        .filter_map(|type_| condition(status, type_));
    passing.into_iter().all(|condition| condition.status == "True")
}

fn worst_first(status: &CertificateMonitorStatus) -> bool {
    let ranks: Vec<bool> = status
        .problems
        .iter()
        .map(|problem| problem.severity == Severity::Warning)
        .collect();
    let Some(first) = status.problems.first().filter(|_| !is_kept(status)) else {
        return true;
    };
    let reason = condition(status, "Healthy").map(|condition| condition.reason.as_str());
    ranks.is_sorted() && first.finding.split(':').next() == reason
}

fn instants(status: &CertificateMonitorStatus, now: DateTime<Utc>) -> bool {
    let problems = status.problems.iter().map(|problem| problem.since);
    let sinks = status
        .sinks
        .iter()
        .flat_map(|sink| [sink.sent_time, sink.since])
        .flatten();
    let next = status.next_expiry.iter().map(|next| next.time.instant());
    // A clock that was set back is no reason to rewrite history: what it was set back by is at most an hour in the stories.
    let latest = now + chrono::TimeDelta::hours(1);
    let past: BTreeSet<DateTime<Utc>> = problems.chain(sinks).map(Into::into).collect();
    past.iter().all(|at| *at <= latest) && past.iter().copied().chain(next).all(|at| at.nanosecond() == 0)
}

fn notified(status: &CertificateMonitorStatus) -> bool {
    let failing = status.sinks.iter().any(|sink| sink.result == SinkResult::Failing);
    let said = condition(status, "Notified").is_some_and(|condition| condition.status == "False");
    is_kept(status) || failing == said
}

fn suspended(before: Option<&CertificateMonitorStatus>, status: &CertificateMonitorStatus) -> bool {
    let Some(before) = before.filter(|_| has(status, "Ready", Reason::Suspended)) else {
        return true;
    };
    before.certificates == status.certificates
        && before.problems == status.problems
        && before.next_expiry == status.next_expiry
        && before.sinks == status.sinks
}

fn unique_names(status: &CertificateMonitorStatus) -> bool {
    let sources: BTreeSet<&str> = status.sources.iter().map(|source| source.name.as_str()).collect();
    let sinks: BTreeSet<&str> = status.sinks.iter().map(|sink| sink.name.as_str()).collect();
    sources.len() == status.sources.len() && sinks.len() == status.sinks.len()
}

#[test]
fn relative_times_are_recognised_and_absolute_ones_are_not() {
    assert!(is_relative("expires in 3 days"));
    assert!(is_relative("failed 2 hours ago"));
    assert!(!is_relative("expires on 2027-03-03 00:00Z; renew it"));
    assert!(!is_relative("did not answer 2 times in a row"));
}

#[test]
fn an_empty_status_breaks_the_rules_about_conditions() {
    let broken = broken(None, &CertificateMonitorStatus::default(), 1, DateTime::UNIX_EPOCH);
    assert!(
        broken.iter().any(|rule| rule.starts_with("status rule 2:")),
        "{broken:#?}"
    );
}
