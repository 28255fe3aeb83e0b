//! Silences: what matches isn't told until they end.

use crate::{
    finding::{Facts, Finding},
    ledger::{Alert, Ledger},
    place::Place,
    policy::Silence,
};
use chrono::{DateTime, Utc};

/// Whether a running silence matches a finding at a place.
#[must_use]
pub fn is_silenced(silences: &[Silence], place: &Place, finding: Finding, facts: &Facts, now: DateTime<Utc>) -> bool {
    silences.iter().any(|silence| {
        now < silence.until
            && (silence.findings.is_empty() || silence.findings.contains(&finding))
            && (silence.certificates.is_empty() || silence.certificates.iter().any(|glob| names(glob, place, facts)))
    })
}

/// [`is_silenced`] for alerts of a ledger, as [`crate::delivery::SinkContext::silenced`] wants it.
pub fn silenced_alert<'a>(
    ledger: &'a Ledger,
    silences: &'a [Silence],
    now: DateTime<Utc>,
) -> impl Fn(&Alert) -> bool + 'a {
    let none = Facts::default();
    move |alert| {
        let facts = ledger.facts.get(&alert.facts).unwrap_or(&none);
        is_silenced(silences, &alert.place, alert.finding, facts, now)
    }
}

/// When the next running silence ends.
#[must_use]
pub fn next_end(silences: &[Silence], now: DateTime<Utc>) -> Option<DateTime<Utc>> {
    silences
        .iter()
        .map(|silence| silence.until)
        .filter(|until| *until > now)
        .min()
}

/// Whether a glob matches one of the names that a place goes by: the object's name, `Kind/name`, the host, each SAN.
fn names(glob: &str, place: &Place, facts: &Facts) -> bool {
    if let Place::Source { name } = place {
        return matches(glob, name);
    }
    let object = place
        .object()
        .is_some_and(|(kind, name)| matches(glob, name) || matches(glob, &format!("{kind}/{name}")));
    let host = || {
        place.host_port().is_some_and(|(host, _)| {
            let text = host.to_string();
            matches(glob, &text) || matches(glob, text.trim_matches(['[', ']']))
        })
    };
    object || host() || facts.dns_names.iter().any(|san| matches(glob, san.as_str()))
}

/// Whether a glob matches a whole text: `*` is any run of characters, `?` is one; ASCII case doesn't count. Linear in
/// memory, and at most the product of both lengths in time.
fn matches(glob: &str, text: &str) -> bool {
    let glob: Vec<char> = glob.chars().map(|c| c.to_ascii_lowercase()).collect();
    let text: Vec<char> = text.chars().map(|c| c.to_ascii_lowercase()).collect();
    let (mut g, mut t) = (0, 0);
    // Behind the last star, and how far into the text that star reaches.
    let mut star: Option<(usize, usize)> = None;
    while let Some(c) = text.get(t) {
        match (glob.get(g), star) {
            (Some('*'), _) => {
                g += 1;
                star = Some((g, t));
            }
            (Some(p), _) if *p == '?' || p == c => {
                g += 1;
                t += 1;
            }
            (_, Some((behind, reach))) => {
                g = behind;
                t = reach + 1;
                star = Some((behind, t));
            }
            (_, None) => return false,
        }
    }
    glob.iter().skip(g).all(|c| *c == '*')
}
