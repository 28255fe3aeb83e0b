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

/// [`glob`] where ASCII case doesn't count.
fn matches(pattern: &str, text: &str) -> bool {
    glob(&pattern.to_ascii_lowercase(), &text.to_ascii_lowercase())
}

/// Whether a glob matches a whole text: `*` is any run of characters, `?` is one. Linear in memory, and at most the
/// product of both lengths in time.
#[must_use]
pub fn glob(pattern: &str, text: &str) -> bool {
    if !pattern.contains(['*', '?']) {
        return pattern == text;
    }
    let glob: Vec<char> = pattern.chars().collect();
    let text: Vec<char> = text.chars().collect();
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{finding::Finding, place::Host, text::PeerText};

    fn at(seconds: i64) -> DateTime<Utc> {
        DateTime::from_timestamp(seconds, 0).unwrap()
    }

    fn silence(certificates: &[&str], findings: &[Finding]) -> Silence {
        Silence {
            name: "s".into(),
            certificates: certificates.iter().map(|glob| (*glob).into()).collect(),
            findings: findings.to_vec(),
            until: at(100),
        }
    }

    #[test]
    fn globs_match_whole_texts_whatever_the_case() {
        for (glob, text, expected) in [
            ("legacy-*", "legacy-tls", true),
            ("legacy-*", "my-legacy-tls", false),
            ("*", "", true),
            ("", "", true),
            ("", "a", false),
            ("?", "", false),
            ("a?c", "abc", true),
            ("a*b*c", "a-b-b-c", true),
            ("a*b*c", "a-b-b-d", false),
            ("*.EXAMPLE.com", "api.example.COM", true),
            ("*.example.com", "*.example.com", true),
            ("**", "x", true),
            ("tls", "tls2", false),
        ] {
            assert_eq!(matches(glob, text), expected, "{glob} {text}");
        }
    }

    #[test]
    fn a_key_s_glob_minds_the_case() {
        assert!(glob("*.crt", "tls.crt"));
        assert!(!glob("TLS.crt", "tls.crt"));
        assert!(!glob("*.CRT", "tls.crt"));
    }

    #[test]
    fn a_glob_of_many_stars_ends_in_time() {
        assert!(!matches(&"*a".repeat(120), &"a".repeat(100)));
    }

    #[test]
    fn an_object_a_host_and_a_san_are_names_of_a_place() {
        let secret = Place::Secret {
            namespace: "shop".into(),
            name: "web-tls".into(),
            key: "tls.crt".into(),
        };
        let endpoint = Place::Endpoint {
            host: Host::parse("2001:db8::1").unwrap(),
            port: 443,
            server_name: Host::parse("www.example.com").unwrap(),
        };
        let facts = Facts {
            dns_names: vec![PeerText::sanitise("api.partner.example")],
            ..Facts::default()
        };
        for (glob, place, expected) in [
            ("web-*", &secret, true),
            ("Secret/web-tls", &secret, true),
            ("Ingress/web-tls", &secret, false),
            ("api.partner.example", &secret, true),
            ("tls.crt", &secret, false),
            ("2001:db8::1", &endpoint, true),
            ("[2001:db8::1]", &endpoint, true),
            ("other.example", &endpoint, false),
        ] {
            let silences = [silence(&[glob], &[])];
            assert_eq!(
                is_silenced(&silences, place, Finding::Expired, &facts, at(0)),
                expected,
                "{glob}"
            );
        }
    }

    #[test]
    fn an_expiry_name_silences_that_level_and_not_the_next() {
        let silences = [silence(&[], &[Finding::ExpiringSoon])];
        let is = |finding| is_silenced(&silences, &Place::Monitor, finding, &Facts::default(), at(0));
        assert!(is(Finding::ExpiringSoon));
        assert!(!is(Finding::ExpiryCritical));
    }

    #[test]
    fn a_silence_ends_at_its_instant_and_the_end_is_a_timer() {
        let silences = [silence(&[], &[])];
        let is = |now| is_silenced(&silences, &Place::Monitor, Finding::Expired, &Facts::default(), now);
        assert!(is(at(99)));
        assert!(!is(at(100)));
        assert_eq!(next_end(&silences, at(99)), Some(at(100)));
        assert_eq!(next_end(&silences, at(100)), None);
    }
}
