//! Silences: what matches isn't told until they end.

use crate::{
    finding::{Facts, Finding},
    place::Place,
    policy::Silence,
    text::PeerText,
};
use chrono::{DateTime, Utc};
use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
};

/// Whether a running silence matches a finding at a place. Who asks again and again asks [`Silencer`].
#[must_use]
pub fn is_silenced(silences: &[Silence], place: &Place, finding: Finding, facts: &Facts, now: DateTime<Utc>) -> bool {
    until(silences, &by_name(silences, place, &facts.dns_names), finding).is_some_and(|end| now < end)
}

/// Silences that remember which places they match: a thousand globs are not gone over again for each of a thousand findings
/// whenever a monitor is.
#[derive(Debug, Default)]
pub struct Silencer {
    silences: Vec<Silence>,
    known: Mutex<Known>,
}

/// What was asked for since the last [`Silencer::round`], and in the one before it.
#[derive(Debug, Default)]
struct Known {
    now: HashMap<Place, Vec<Matched>>,
    before: HashMap<Place, Vec<Matched>>,
}

/// The silences, by their places in the list, whose globs match a certificate of these DNS names at a place.
#[derive(Clone, Debug)]
struct Matched {
    dns_names: Vec<PeerText>,
    silences: Vec<usize>,
}

impl Silencer {
    /// Knows nothing yet.
    #[must_use]
    pub fn new(silences: Vec<Silence>) -> Self {
        Self {
            silences,
            known: Mutex::default(),
        }
    }

    /// A round begins: what wasn't asked for in the one that ends is forgotten.
    pub fn round(&mut self) {
        let known = self.known.get_mut().unwrap_or_else(PoisonError::into_inner);
        known.before = std::mem::take(&mut known.now);
    }

    /// See [`is_silenced`].
    pub fn is_silenced(&self, place: &Place, finding: Finding, facts: &Facts, now: DateTime<Utc>) -> bool {
        if self.silences.is_empty() {
            return false;
        }
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let matched = known.matched(&self.silences, place, &facts.dns_names);
        until(&self.silences, matched, finding).is_some_and(|end| now < end)
    }
}

impl Known {
    fn matched(&mut self, silences: &[Silence], place: &Place, dns_names: &[PeerText]) -> &[usize] {
        if !self.now.contains_key(place) {
            let known = self.before.remove(place).unwrap_or_default();
            self.now.insert(place.clone(), known);
        }
        let of_place = self.now.entry(place.clone()).or_default();
        let at = of_place.iter().position(|matched| matched.dns_names == dns_names);
        let at = at.unwrap_or_else(|| {
            // Leaf, intermediates and their anchors at most; more are of certificates that stand there no longer.
            of_place.truncate(MOST_CERTIFICATES - 1);
            of_place.insert(
                0,
                Matched {
                    dns_names: dns_names.to_vec(),
                    silences: by_name(silences, place, dns_names),
                },
            );
            0
        });
        of_place.get(at).map_or(&[], |matched| &matched.silences)
    }
}

/// So many certificates of one place are remembered.
const MOST_CERTIFICATES: usize = 16;

/// Which silences match by name.
fn by_name(silences: &[Silence], place: &Place, dns_names: &[PeerText]) -> Vec<usize> {
    let names = names(place, dns_names);
    let matches = |silence: &Silence| {
        let globs = &silence.certificates;
        globs.is_empty() || globs.iter().any(|glob| names.iter().any(|name| glob.matches(name)))
    };
    let all = silences.iter().enumerate();
    all.filter(|(_, silence)| matches(silence)).map(|(at, _)| at).collect()
}

/// When the last of these silences ends for a finding.
fn until(silences: &[Silence], matched: &[usize], finding: Finding) -> Option<DateTime<Utc>> {
    let matched = matched.iter().filter_map(|at| silences.get(*at));
    let of_finding = matched.filter(|silence| silence.findings.is_empty() || silence.findings.contains(&finding));
    of_finding.map(|silence| silence.until).max()
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

/// The names that a place goes by, in lower case: the object's name, `Kind/name`, the host, each SAN.
fn names(place: &Place, dns_names: &[PeerText]) -> Vec<String> {
    let lower = |text: &str| text.to_ascii_lowercase();
    if let Place::Source { name } = place {
        return vec![lower(name)];
    }
    let mut names = Vec::new();
    if let Some((kind, name)) = place.object() {
        names.extend([lower(name), lower(&format!("{kind}/{name}"))]);
    }
    if let Some((host, _)) = place.host_port() {
        let host = lower(&host.to_string());
        let bare = host.trim_matches(['[', ']']);
        if bare != host {
            names.push(bare.to_owned());
        }
        names.push(host);
    }
    if let Place::NoHost { host, .. } = place {
        names.push(lower(host.as_str()));
    }
    names.extend(dns_names.iter().map(|san| lower(san.as_str())));
    names
}

/// A [`glob`] where ASCII case doesn't count.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NameGlob(Box<str>);

impl NameGlob {
    /// The pattern, as somebody wrote it.
    #[must_use]
    pub fn new(pattern: &str) -> Self {
        Self(pattern.to_ascii_lowercase().into())
    }

    /// Whether it matches a whole text that is in lower case.
    fn matches(&self, lower: &str) -> bool {
        glob(&self.0, lower)
    }
}

/// Whether a glob matches a whole text: `*` is any run of characters, `?` is one. Allocates nothing, and takes at most the
/// product of both lengths in time.
#[must_use]
pub fn glob(pattern: &str, text: &str) -> bool {
    let (pattern, text) = (pattern.as_bytes(), text.as_bytes());
    let (mut p, mut t) = (0, 0);
    // Behind the last star, and how far into the text that star reaches.
    let mut star: Option<(usize, usize)> = None;
    while let Some(byte) = text.get(t) {
        match (pattern.get(p), star) {
            (Some(b'*'), _) => {
                p += 1;
                if p == pattern.len() {
                    return true;
                }
                star = Some((p, t));
            }
            (Some(b'?'), _) => {
                p += 1;
                t = next_character(text, t);
            }
            (Some(literal), _) if literal == byte => {
                p += 1;
                t += 1;
            }
            (_, Some((behind, reach))) => {
                p = behind;
                t = next_character(text, reach);
                star = Some((behind, t));
            }
            (_, None) => return false,
        }
    }
    pattern.iter().skip(p).all(|byte| *byte == b'*')
}

/// Where the character behind the one at `at` begins (UTF-8, RFC 3629 §3).
fn next_character(text: &[u8], at: usize) -> usize {
    let rest = text.iter().skip(at + 1);
    at + 1 + rest.take_while(|byte| **byte & 0xC0 == 0x80).count()
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
            certificates: certificates.iter().copied().map(NameGlob::new).collect(),
            findings: findings.to_vec(),
            until: at(100),
        }
    }

    fn matches(glob: &str, text: &str) -> bool {
        NameGlob::new(glob).matches(&text.to_ascii_lowercase())
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
            ("*-tls", "shop-tls-tls", true),
            ("m?nchen", "münchen", true),
            ("m??nchen", "münchen", false),
            ("*?", "é", true),
            ("*??", "é", false),
            ("*é", "caféé", true),
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
        let no_host = Place::NoHost {
            host: PeerText::sanitise("127.1"),
            port: 443,
            server_name: PeerText::sanitise("127.1"),
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
            ("127.*", &no_host, true),
            ("128.*", &no_host, false),
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
    fn what_is_remembered_is_what_would_be_found() {
        let place = Place::Secret {
            namespace: "shop".into(),
            name: "web-tls".into(),
            key: "tls.crt".into(),
        };
        let facts = |san: &str| Facts {
            dns_names: vec![PeerText::sanitise(san)],
            ..Facts::default()
        };
        let silences = vec![
            silence(&["*.old.example"], &[]),
            silence(&["web-*"], &[Finding::Expired]),
        ];
        let mut silencer = Silencer::new(silences.clone());
        for round in 0..3 {
            for san in ["a.old.example", "a.new.example", "b.old.example"] {
                for finding in [Finding::Expired, Finding::ExpiringSoon] {
                    for now in [at(99), at(100)] {
                        assert_eq!(
                            silencer.is_silenced(&place, finding, &facts(san), now),
                            is_silenced(&silences, &place, finding, &facts(san), now),
                            "{round} {san} {finding} {now}"
                        );
                    }
                }
            }
            silencer.round();
        }
    }

    #[test]
    fn what_nobody_asks_for_any_more_is_forgotten() {
        let mut silencer = Silencer::new(vec![silence(&["x"], &[])]);
        silencer.is_silenced(&Place::Monitor, Finding::Expired, &Facts::default(), at(0));
        silencer.round();
        silencer.round();
        let known = silencer.known.get_mut().unwrap();
        assert!(known.now.is_empty() && known.before.is_empty());
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
