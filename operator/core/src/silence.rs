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
    now: HashMap<Place, ByNames>,
    before: HashMap<Place, ByNames>,
}

/// By the DNS names of a certificate.
type ByNames = HashMap<Vec<PeerText>, Matched>;

/// The silences, by their places in the list, whose globs match a certificate at a place.
#[derive(Clone, Debug, Default)]
struct Matched {
    /// So many of the list were gone over.
    done: usize,
    silences: Vec<usize>,
}

/// What [`Silencer::prepare`] may spend in one go, in bytes of patterns and names that are compared: some ten
/// milliseconds at worst.
pub const EFFORT: usize = 10_000_000;

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

    /// Finds out beforehand which silences match these places and DNS names, and stops when `effort` is spent: a tenant's
    /// patterns can be dear. Returns whether all of it is known; else what is known stays for the next time.
    pub fn prepare<'a>(&mut self, all: impl Iterator<Item = (&'a Place, &'a [PeerText])>, mut effort: usize) -> bool {
        let known = self.known.get_mut().unwrap_or_else(PoisonError::into_inner);
        let mut complete = true;
        for (place, dns_names) in all.filter(|_| !self.silences.is_empty()) {
            // What is known already has to be asked for all the same, so that it is not forgotten.
            let matched = known.of(place, dns_names);
            complete &= matched.go_on(&self.silences, (place, dns_names), &mut effort);
        }
        complete
    }

    /// See [`is_silenced`].
    pub fn is_silenced(&self, place: &Place, finding: Finding, facts: &Facts, now: DateTime<Utc>) -> bool {
        if self.silences.is_empty() {
            return false;
        }
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let matched = known.of(place, &facts.dns_names);
        matched.go_on(&self.silences, (place, &facts.dns_names), &mut { usize::MAX });
        until(&self.silences, &matched.silences, finding).is_some_and(|end| now < end)
    }
}

impl Known {
    fn of(&mut self, place: &Place, dns_names: &[PeerText]) -> &mut Matched {
        let of_place = self.now.entry(place.clone()).or_default();
        of_place.entry(dns_names.to_vec()).or_insert_with(|| {
            let before = self.before.get_mut(place);
            before.and_then(|all| all.remove(dns_names)).unwrap_or_default()
        })
    }
}

impl Matched {
    /// Goes over silences that it wasn't compared with yet, as long as there is effort left for one.
    fn go_on(&mut self, silences: &[Silence], of: (&Place, &[PeerText]), effort: &mut usize) -> bool {
        if self.done >= silences.len() {
            return true;
        }
        let names = names(of.0, of.1);
        for (at, silence) in silences.iter().enumerate().skip(self.done) {
            if *effort == 0 {
                return false;
            }
            *effort = effort.saturating_sub(silence.effort(&names));
            if silence.matches(&names) {
                self.silences.push(at);
            }
            self.done = at + 1;
        }
        true
    }
}

impl Silence {
    fn matches(&self, names: &[String]) -> bool {
        let mut globs = self.certificates.iter();
        self.certificates.is_empty() || globs.any(|glob| names.iter().any(|name| glob.matches(name)))
    }

    /// What comparing takes at most, in bytes.
    fn effort(&self, names: &[String]) -> usize {
        let bytes: usize = names.iter().map(String::len).sum();
        let globs = self.certificates.iter();
        globs.map(|glob| glob.effort(bytes, names.len())).sum::<usize>() + 1
    }
}

/// Which silences match by name.
fn by_name(silences: &[Silence], place: &Place, dns_names: &[PeerText]) -> Vec<usize> {
    let names = names(place, dns_names);
    let all = silences.iter().enumerate();
    all.filter(|(_, silence)| silence.matches(&names))
        .map(|(at, _)| at)
        .collect()
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

    /// What comparing it with so many names of so many bytes takes at most, in bytes.
    fn effort(&self, bytes: usize, names: usize) -> usize {
        if self.0.contains('?') {
            return bytes * self.0.len();
        }
        // Runs of plain characters are searched in linear time, several bytes at once.
        bytes / 4 + 8 * names
    }
}

/// Whether a glob matches a whole text: `*` is any run of characters, `?` is one. Allocates nothing. Without `?` it takes
/// time in proportion to both lengths together, with it at most their product.
#[must_use]
pub fn glob(pattern: &str, text: &str) -> bool {
    let Some((first, rest)) = pattern.split_once('*') else {
        return begins(text, pattern).is_some_and(|end| end == text.len());
    };
    let Some(mut at) = begins(text, first) else {
        return false;
    };
    let (middle, last) = rest.rsplit_once('*').unwrap_or(("", rest));
    // What stands between two stars is taken where it comes first: the most is left for the others.
    for run in middle.split('*') {
        let Some(found) = text.get(at..).and_then(|left| find(left, run)) else {
            return false;
        };
        at += found;
    }
    let start = match last.chars().count() {
        0 => return true,
        characters => text.char_indices().rev().nth(characters - 1).map(|(start, _)| start),
    };
    let end = start.filter(|start| *start >= at).and_then(|start| text.get(start..));
    end.is_some_and(|end| begins(end, last).is_some())
}

/// Where the text goes on behind a run of characters that it begins with.
fn begins(text: &str, run: &str) -> Option<usize> {
    if !run.contains('?') {
        return text.starts_with(run).then_some(run.len());
    }
    let mut left = text.chars();
    for wanted in run.chars() {
        let character = left.next()?;
        if wanted != '?' && wanted != character {
            return None;
        }
    }
    Some(text.len() - left.as_str().len())
}

/// Where the text goes on behind the first place at which it has a run of characters.
fn find(text: &str, run: &str) -> Option<usize> {
    if !run.contains('?') {
        return memchr::memmem::find(text.as_bytes(), run.as_bytes()).map(|at| at + run.len());
    }
    let starts = text.char_indices().map(|(at, _)| at).chain([text.len()]);
    starts.filter_map(|at| Some(at + begins(text.get(at..)?, run)?)).next()
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
    fn what_is_too_dear_for_one_go_is_found_out_in_several() {
        let patterns: Vec<String> = (0..64).map(|number| format!("*{}?{number}", "a".repeat(120))).collect();
        let patterns: Vec<&str> = patterns.iter().map(String::as_str).collect();
        let silences = vec![silence(&patterns, &[]); 8];
        let places: Vec<Place> = (0..16)
            .map(|number| Place::Source {
                name: format!("{}{number}", "a".repeat(120)).into(),
            })
            .collect();
        let mut silencer = Silencer::new(silences);
        let mut goes = 1;
        while !silencer.prepare(places.iter().map(|place| (place, &[][..])), EFFORT) {
            goes += 1;
            silencer.round();
            assert!(goes < 1000, "it gets nowhere");
        }
        assert!(goes > 3, "{goes}: all of it at once");
        silencer.round();
        assert!(
            silencer.prepare(places.iter().map(|place| (place, &[][..])), 0),
            "it is known"
        );
    }

    proptest::proptest! {
        #[test]
        fn a_glob_matches_what_its_definition_says(pattern in "[ab?*é]{0,8}", text in "[abé]{0,8}") {
            proptest::prop_assert_eq!(glob(&pattern, &text), defined(&pattern, &text));
        }
    }

    /// By the definition, and slow.
    fn defined(pattern: &str, text: &str) -> bool {
        let (mut rest, mut left) = (pattern.chars(), text.chars());
        match rest.next() {
            None => text.is_empty(),
            Some('*') => defined(rest.as_str(), text) || left.next().is_some() && defined(pattern, left.as_str()),
            Some(wanted) => {
                left.next().is_some_and(|one| wanted == '?' || wanted == one) && defined(rest.as_str(), left.as_str())
            }
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
