//! The words of findings: absolute UTC times, whole units, bounded.

use crate::policy::Limit;
use chrono::{DateTime, SecondsFormat, TimeDelta, Utc};

/// The most characters of a sentence.
const MAX_CHARS: usize = 700;

/// An instant as people and machines read it: `2026-11-27T02:15:38Z`.
#[must_use]
pub fn utc(instant: DateTime<Utc>) -> String {
    instant.to_rfc3339_opts(SecondsFormat::Secs, true)
}

/// `7d or 10% of lifetime`.
pub(super) fn limit(limit: &Limit) -> String {
    let remaining = limit.remaining.map(duration);
    let percent = limit.remaining_percent.map(|percent| format!("{percent}% of lifetime"));
    match (remaining, percent) {
        (Some(remaining), Some(percent)) => format!("{remaining} or {percent}"),
        (Some(one), None) | (None, Some(one)) => one,
        (None, None) => "not set".to_owned(),
    }
}

/// One number and one unit, the largest that is exact.
fn duration(delta: TimeDelta) -> String {
    let seconds = delta.num_seconds();
    [(86_400, "d"), (3_600, "h"), (60, "m")]
        .into_iter()
        .find(|(unit, _)| seconds != 0 && seconds % unit == 0)
        .map_or_else(
            || format!("{seconds}s"),
            |(unit, name)| format!("{}{name}", seconds / unit),
        )
}

/// The first five, then how many more.
pub(super) fn some(mut names: impl Iterator<Item = String>) -> String {
    let mut text = String::new();
    for name in names.by_ref().take(5) {
        if !text.is_empty() {
            text.push_str(", ");
        }
        text.push_str(&name);
    }
    match names.count() {
        0 => text,
        more => format!("{text} and {more} more"),
    }
}

/// Cuts a sentence to its bound.
pub(super) fn bounded(mut sentence: String) -> String {
    if let Some((at, _)) = sentence.char_indices().nth(MAX_CHARS) {
        let last = sentence.char_indices().nth(MAX_CHARS - 1).map_or(at, |(last, _)| last);
        sentence.truncate(last);
        sentence.push('…');
    }
    sentence
}

/// ` at 192.0.2.7:443`, where addresses must be told apart.
pub(super) fn at(address: Option<&str>) -> String {
    address.map(|address| format!(" at {address}")).unwrap_or_default()
}
