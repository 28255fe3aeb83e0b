//! What is said of a monitor: a function of its last status, of what was found, and of `now`. It holds no relative times, so that
//! it changes when a fact does.

mod conditions;
mod text;

use super::resolve::{Resolved, SourceReport};
use certmon_core::{
    certificate::Fingerprint,
    delivery::SinkResult,
    dial::DialProblem,
    finding::{Finding, Severity, Sighting},
    place::Place,
    text::PeerText,
};
use certmon_crd as crd;
use chrono::{DateTime, SubsecRound, Utc};
use std::collections::BTreeMap;

/// The most problems that are listed.
pub const MOST_PROBLEMS: usize = 10;
/// The most lines of the summary.
pub const MOST_LINES: usize = 12;
/// The most bytes of the whole, in JSON.
pub const MOST_BYTES: usize = 32 * 1024;

/// What the status says.
pub struct Report<'a> {
    /// The spec's generation that this is about.
    pub generation: i64,
    /// Why the spec can't be used, or the monitor can't be gone over.
    pub stalled: Option<Stalled>,
    /// Since the start a source could not be read: what was counted before counts still.
    pub unread: bool,
    /// `spec.suspend`.
    pub suspended: bool,
    /// What is watched.
    pub resolved: &'a Resolved,
    /// What is wrong with the trust references.
    pub trust_problem: Option<&'a str>,
    /// Every place that counts.
    pub places: &'a [PlaceReport],
    /// Why less is dialled than could be.
    pub less_dialled: &'a BTreeMap<Place, DialProblem>,
    /// What is wrong, worst first.
    pub findings: &'a [FindingReport<'a>],
    /// The sinks, in the spec's order.
    pub sinks: &'a [SinkReport<'a>],
    /// The check annotation's value that was handled last.
    pub check_handled: Option<&'a str>,
    /// The test annotation's value that was handled last.
    pub test_handled: Option<&'a str>,
}

/// Why nothing can be done for a monitor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Stalled {
    /// The spec can't be used.
    InvalidSpec(String),
    /// Going over it panicked.
    InternalError,
}

/// One place, for the counts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlaceReport {
    /// Where.
    pub place: Place,
    /// The leaf that is there, or was seen last: places with the same leaf count once.
    pub leaf: Option<Leaf>,
    /// It was judged, ever.
    pub judged: bool,
}

/// A leaf, for the counts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Leaf {
    /// Its fingerprint.
    pub fingerprint: Fingerprint,
    /// Its name.
    pub name: PeerText,
    /// Its beginning.
    pub not_before: DateTime<Utc>,
    /// Its end.
    pub not_after: DateTime<Utc>,
}

/// One finding, for the lists.
pub struct FindingReport<'a> {
    /// What was found.
    pub sighting: &'a Sighting,
    /// When its episode began, or it was first seen.
    pub since: DateTime<Utc>,
    /// A silence holds it back.
    pub silenced: bool,
    /// It waits for its grace, or for the look that confirms it: nobody has been told yet.
    pub held: bool,
}

/// One sink, for the list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SinkReport<'a> {
    /// Its name.
    pub name: &'a str,
    /// How it stands.
    pub result: SinkResult,
    /// Changes that it has not been told.
    pub pending: u32,
    /// What is wrong, or a remark, with the next step.
    pub problem: Option<String>,
    /// The reason of `Notified`, where something is wrong.
    pub reason: Option<certmon_core::reason::Reason>,
    /// When it accepted the last message.
    pub sent: Option<DateTime<Utc>>,
    /// When the failing began.
    pub since: Option<DateTime<Utc>>,
}

/// Builds the status.
#[must_use]
pub fn build(
    old: Option<&crd::CertificateMonitorStatus>,
    report: &Report<'_>,
    now: DateTime<Utc>,
) -> crd::CertificateMonitorStatus {
    let mut new = match (&report.stalled, report.suspended, old) {
        // What was known stays as it was.
        (Some(_), _, Some(old)) | (None, true, Some(old)) => old.clone(),
        (Some(_), _, None) | (None, true, None) => crd::CertificateMonitorStatus::default(),
        (None, false, Some(old)) if report.unread => counted_before(facts(report), old),
        (None, false, _) => facts(report),
    };
    new.observed_generation = Some(report.generation);
    new.last_handled_check_request = report.check_handled.map(ToOwned::to_owned);
    new.last_handled_test_request = report.test_handled.map(ToOwned::to_owned);
    let counts = new.certificates.unwrap_or_default();
    new.conditions = conditions::build(
        old.map_or(&[], |old| &old.conditions),
        report,
        &counts,
        now.trunc_subsecs(0),
    );
    match &report.stalled {
        Some(stalled) => new.summary = text::stalled_summary(stalled),
        None if report.suspended => {}
        None => new.summary = text::summary(report, &counts, &new),
    }
    fit(&mut new);
    new
}

/// Numbers and names of what nobody could look at since.
fn counted_before(
    mut new: crd::CertificateMonitorStatus,
    old: &crd::CertificateMonitorStatus,
) -> crd::CertificateMonitorStatus {
    new.certificates = old.certificates;
    new.next_expiry.clone_from(&old.next_expiry);
    for source in &mut new.sources {
        if let Some(known) = old.sources.iter().find(|known| known.name == source.name) {
            source.selected = known.selected;
        }
    }
    new
}

fn facts(report: &Report<'_>) -> crd::CertificateMonitorStatus {
    let found = by_place(report);
    let unsilenced = report.findings.iter().filter(|finding| !finding.silenced);
    crd::CertificateMonitorStatus {
        certificates: Some(counts(report, &found)),
        next_expiry: next_expiry(report, &found),
        problems: unsilenced.take(MOST_PROBLEMS).map(problem).collect(),
        sources: report.resolved.sources.iter().map(|of| source(of, report)).collect(),
        sinks: report.sinks.iter().map(sink).collect(),
        ..crd::CertificateMonitorStatus::default()
    }
}

/// Places that hold the same leaf are one; each counts by its worst finding that isn't silenced.
fn groups<'a>(report: &'a Report<'_>) -> Vec<Vec<&'a PlaceReport>> {
    let mut by_leaf: BTreeMap<Fingerprint, Vec<&PlaceReport>> = BTreeMap::new();
    let mut alone = Vec::new();
    for place in report.places {
        match &place.leaf {
            Some(leaf) => by_leaf.entry(leaf.fingerprint).or_default().push(place),
            None => alone.push(vec![place]),
        }
    }
    by_leaf.into_values().chain(alone).collect()
}

/// What was found at one place.
#[derive(Default)]
struct Found {
    /// The worst of what no silence holds back.
    worst: Option<Severity>,
    /// A silence holds something back.
    silenced: bool,
    /// The leaf has expired, silenced or not.
    expired: bool,
}

fn by_place<'a>(report: &'a Report<'_>) -> BTreeMap<&'a Place, Found> {
    let mut by_place: BTreeMap<&Place, Found> = BTreeMap::new();
    for finding in report.findings {
        let found = by_place.entry(&finding.sighting.place).or_default();
        found.expired |= finding.sighting.finding == Finding::Expired;
        if finding.silenced {
            found.silenced = true;
        } else {
            found.worst = found.worst.max(Some(finding.sighting.severity));
        }
    }
    by_place
}

fn counts(report: &Report<'_>, found: &BTreeMap<&Place, Found>) -> crd::CertificateCounts {
    let mut counts = crd::CertificateCounts {
        unchecked: report.resolved.unchecked,
        ..crd::CertificateCounts::default()
    };
    for group in groups(report) {
        counts.total += 1;
        let found = || group.iter().filter_map(|place| found.get(&place.place));
        let worst = found().filter_map(|found| found.worst).max();
        match (worst, found().any(|found| found.silenced)) {
            (Some(Severity::Critical), _) => counts.critical += 1,
            (Some(Severity::Warning), _) => counts.warning += 1,
            (None, true) => counts.silenced += 1,
            (None, false) if group.iter().any(|place| place.judged) => counts.ok += 1,
            (None, false) => counts.unknown += 1,
        }
    }
    counts
}

/// The first end that is still to come, of places that aren't silenced.
fn next_expiry(report: &Report<'_>, found: &BTreeMap<&Place, Found>) -> Option<crd::NextExpiry> {
    let is_to_come = |place: &Place| {
        found
            .get(place)
            .is_none_or(|found| !found.expired && (found.worst.is_some() || !found.silenced))
    };
    let ends = report.places.iter().filter_map(|place| {
        let leaf = place.leaf.as_ref()?;
        is_to_come(&place.place).then_some((leaf.not_after, &place.place))
    });
    ends.min().map(|(end, place)| crd::NextExpiry {
        certificate: text::short_title(place),
        time: end.into(),
    })
}

fn problem(finding: &FindingReport<'_>) -> crd::Problem {
    crd::Problem {
        certificate: text::cut(&text::title_with_name(finding.sighting), 256),
        finding: text::cut(
            &format!("{}: {}", finding.sighting.finding, finding.sighting.facts.message),
            1024,
        ),
        severity: severity(finding.sighting.severity),
        since: finding.since.into(),
    }
}

fn severity(severity: Severity) -> crd::Severity {
    match severity {
        Severity::Warning => crd::Severity::Warning,
        Severity::Critical => crd::Severity::Critical,
    }
}

fn source(source: &SourceReport, report: &Report<'_>) -> crd::SourceState {
    let problem = source
        .trouble
        .as_ref()
        .map(|trouble| trouble.text().to_owned())
        .or_else(|| source.hint.clone())
        .or_else(|| text::less_dialled(source, report.less_dialled));
    crd::SourceState {
        name: source.name.to_string(),
        selected: u32::try_from(source.places.len()).unwrap_or(u32::MAX),
        problem: problem.map(|text| text::cut(&text, 1024)),
    }
}

fn sink(sink: &SinkReport<'_>) -> crd::SinkState {
    crd::SinkState {
        name: sink.name.to_owned(),
        pending: (sink.pending > 0).then_some(sink.pending),
        problem: sink.problem.as_ref().map(|text| text::cut(text, 1024)),
        result: match sink.result {
            SinkResult::Idle => crd::SinkResult::Idle,
            SinkResult::Pending => crd::SinkResult::Pending,
            SinkResult::Delivered => crd::SinkResult::Delivered,
            SinkResult::Failing => crd::SinkResult::Failing,
        },
        sent_time: sink.sent.map(Into::into),
        since: sink.since.map(Into::into),
    }
}

/// Drops lines and problems until the whole fits; each part is bounded, so a few always do.
fn fit(status: &mut crd::CertificateMonitorStatus) {
    let size = |status: &crd::CertificateMonitorStatus| serde_json::to_vec(status).map_or(0, |json| json.len());
    while size(status) > MOST_BYTES && (status.problems.pop().is_some() || status.summary.pop().is_some()) {}
}

#[cfg(test)]
mod tests;
