//! What is known of one dialled place: what each of its addresses served last, and since when it doesn't answer. Looks
//! go in; judging comes later.

mod remember;

pub use remember::{Remembered, RememberedCertificate};

use crate::{
    certificate::{Certificate, Fingerprint},
    observation::{Chain, PathVerdict},
    place::Host,
    policy::FailureThreshold,
    target::{Look, ProbeFailure, ServedBytes},
    trust,
};
use chrono::{DateTime, Utc};
use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

/// Successes in a row after which an address counts as answering again.
const RECOVERY: u8 = 2;

/// Looks in a row that must agree before two sights are believed to differ.
const SIGHTS: u32 = 2;

/// One dialled place, over its looks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Dialled {
    /// Sorted; at most 16 for each name. A list, because most places have one and there are 100,000 of them.
    addresses: Vec<Address>,
    /// Names that could not be resolved, beside addresses that could.
    names: BTreeMap<Host, Counter>,
    no_address: Option<ProbeFailure>,
    refused: bool,
    /// The last look dialled something, and the policy refused nothing.
    permitted: bool,
    unrouted: Option<Family>,
    /// Looks in a row at which another leaf was served than this one of the Secret.
    differs: Option<(Fingerprint, u32)>,
    /// Looks in a row at which the addresses served different leaves.
    inconsistent: u32,
    /// The ledger says that it doesn't answer: so many successes are still needed before a look counts.
    recovering: u8,
    /// The last look; before the first one, when the ledger was read.
    base: Option<DateTime<Utc>>,
    /// This process has looked.
    pub(crate) looked: bool,
    answered: Option<DateTime<Utc>>,
    open: bool,
    pub(crate) due: bool,
    /// Looks since there was something that a look can close, or that waits for its second sight.
    pub(crate) troubled: u32,
}

/// One address: what it served last, and how it answers.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Address {
    at: SocketAddr,
    seen: Option<Box<Seen>>,
    counter: Counter,
}

/// What one address served last. It survives failures.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Seen {
    /// Seen by this process.
    Served(Served),
    /// What the ledger remembers: enough for expiry and for words.
    Remembered(Remembered),
}

/// What was served, and the verdict of the look.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Served {
    /// The certificates, without their bytes.
    pub chain: Chain,
    /// Whether a path led to the trusted roots.
    pub path: PathVerdict,
    /// Intermediates that the trusted path doesn't need.
    pub dispensable: Vec<Fingerprint>,
}

/// How often something failed or worked in a row, and whether it counts as not answering.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Counter {
    failures: u32,
    successes: u8,
    /// The cause, and the failures in a row that made it so.
    down: Option<(ProbeFailure, u8)>,
}

impl Counter {
    fn fail(&mut self, cause: ProbeFailure, threshold: FailureThreshold) {
        self.failures = self.failures.saturating_add(1);
        self.successes = 0;
        if self.down.is_some() || self.failures >= u32::from(threshold.0) {
            self.down = Some((cause, self.down.map_or(threshold.0, |(_, after)| after)));
        }
    }

    fn succeed(&mut self) {
        self.failures = 0;
        self.successes = self.successes.saturating_add(1);
        if self.successes >= RECOVERY {
            self.down = None;
        }
    }
}

/// A family of addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, strum::Display)]
pub enum Family {
    /// IPv4.
    IPv4,
    /// IPv6.
    IPv6,
}

impl Family {
    fn of(ip: IpAddr) -> Self {
        if ip.is_ipv4() { Self::IPv4 } else { Self::IPv6 }
    }
}

/// What a look needs to know beside what it saw.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LookContext {
    /// The addresses come from an object (an Ingress), not from a tenant's own text.
    pub from_object: bool,
    /// The leaf of the Secret that should be served, where there is one.
    pub secret_leaf: Option<Fingerprint>,
    /// Failures in a row until an address counts as not answering.
    pub failure_threshold: FailureThreshold,
}

/// What a look changed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LookOutcome {
    /// What is remembered of the place differs: the ledger must be written.
    pub seen_changed: bool,
    /// Every address answered with a certificate.
    pub answered: bool,
}

/// Why an address list is shorter than it could be: lines of a source's `problem`, not findings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DialProblem {
    /// The egress policy refuses an address or a port.
    NotPermitted,
    /// There is no route to any address of this family.
    NoRoute(Family),
}

impl Dialled {
    /// A place that nobody has looked at yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes in a look. `judge` says whether a path leads from a chain to the trusted roots ([`trust::judge`]); it is
    /// asked with the certificates' bytes, which are forgotten afterwards.
    pub fn look(
        &mut self,
        look: &Look,
        context: LookContext,
        judge: &mut dyn FnMut(&Chain) -> PathVerdict,
        now: DateTime<Utc>,
    ) -> LookOutcome {
        let (before, troubles) = (self.identity(), self.troubles());
        let mut results = permitted(look);
        self.refused = look.refused > 0 || results.len() < look.addresses.len();
        self.permitted = !self.refused && !results.is_empty();
        if self.refused && results.is_empty() {
            self.break_rows();
        }
        self.unrouted = drop_unrouted(&mut results);
        let complete = look.unresolved.is_empty() && !results.is_empty();
        if complete {
            let listed: BTreeSet<SocketAddr> = results.iter().map(|(address, _)| *address).collect();
            self.addresses.retain(|address| listed.contains(&address.at));
        }
        let mut answered = complete;
        for (address, result) in &results {
            match read(result) {
                Ok(chain) => {
                    let served = Box::new(Seen::Served(Served::of(chain, judge)));
                    self.update(*address, |address| {
                        address.seen = Some(served);
                        address.counter.succeed();
                    });
                }
                Err(cause) => {
                    self.update(*address, |address| {
                        address.counter.fail(cause, context.failure_threshold);
                    });
                    answered = false;
                }
            }
        }
        self.take_unresolved(look, results.is_empty(), context);
        self.compare(answered, context.secret_leaf);
        self.base = Some(now);
        self.looked = true;
        self.due = false;
        if !answered {
            self.recovering = if self.recovering > 0 { RECOVERY } else { 0 };
        } else {
            self.recovering = self.recovering.saturating_sub(1);
            // Until it counts as answering again nothing there ends, whether or not this process saw it fail.
            if self.recovering == 0 && self.down().next().is_none() {
                self.answered = Some(now);
            }
        }
        // New trouble wants to be confirmed soon, whatever else has lasted for long.
        let is_new = self
            .troubles()
            .iter()
            .zip(troubles)
            .any(|(now, before)| *now && !before);
        let row = if is_new { 0 } else { self.troubled };
        self.troubled = if self.is_troubled() { row.saturating_add(1) } else { 0 };
        LookOutcome {
            seen_changed: before != self.identity(),
            answered,
        }
    }

    /// Nothing was dialled: a refusal is no attempt, and what failed before it and what fails after it is no row.
    fn break_rows(&mut self) {
        let addresses = self.addresses.iter_mut().map(|address| &mut address.counter);
        for counter in addresses.chain(self.names.values_mut()) {
            (counter.failures, counter.successes) = (0, 0);
        }
    }

    fn update(&mut self, at: SocketAddr, change: impl FnOnce(&mut Address)) {
        let (place, mut address) = match self.addresses.binary_search_by_key(&at, |address| address.at) {
            Ok(place) => (place, self.addresses.remove(place)),
            Err(place) => {
                let new = Address {
                    at,
                    seen: None,
                    counter: Counter::default(),
                };
                (place, new)
            }
        };
        change(&mut address);
        self.addresses.insert(place, address);
    }

    /// Hosts without an address: a place without any has none, as a whole; beside others they fail by themselves.
    fn take_unresolved(&mut self, look: &Look, nothing: bool, context: LookContext) {
        let cause = |host: &Host| {
            look.unresolved
                .iter()
                .find(|(name, _)| name == host)
                .map(|(_, cause)| *cause)
        };
        let gone = |cause: ProbeFailure| context.from_object || cause == ProbeFailure::NoRecord;
        self.no_address = None;
        if nothing
            && !self.refused
            && let Some((_, first)) = look.unresolved.first()
            && look.unresolved.iter().all(|(_, cause)| gone(*cause))
        {
            self.no_address = Some(*first);
            self.names.clear();
            return;
        }
        for (host, counter) in &mut self.names {
            if cause(host).is_none() {
                counter.succeed();
            }
        }
        self.names
            .retain(|host, counter| counter.down.is_some() || cause(host).is_some());
        for (host, cause) in &look.unresolved {
            let counter = self.names.entry(host.clone()).or_default();
            counter.fail(*cause, context.failure_threshold);
        }
    }

    /// Counts the looks in a row at which leaves differ.
    fn compare(&mut self, answered: bool, secret: Option<Fingerprint>) {
        let leaves: Vec<&Arc<Certificate>> = self.served().map(|(_, served)| &served.chain.leaf).collect();
        let differs = |secret: &Fingerprint| leaves.iter().any(|leaf| leaf.fingerprint != *secret);
        let inconsistent = are_inconsistent(&leaves);
        match secret {
            Some(secret) if differs(&secret) => {
                let before = self
                    .differs
                    .filter(|(of, _)| *of == secret)
                    .map_or(0, |(_, count)| count);
                self.differs = Some((secret, before.saturating_add(u32::from(answered))));
            }
            _ => self.differs = None,
        }
        self.inconsistent = match (inconsistent, answered) {
            (false, _) => 0,
            (true, true) => self.inconsistent.saturating_add(1),
            (true, false) => self.inconsistent,
        };
    }

    fn is_troubled(&self) -> bool {
        self.open || self.recovering > 0 || self.troubles().contains(&true)
    }

    /// What looks show: it doesn't answer, has no address, serves another certificate than its Secret, or several.
    fn troubles(&self) -> [bool; 4] {
        let failing = |counter: &Counter| counter.failures > 0 || counter.down.is_some();
        let silent = self.addresses.iter().any(|address| failing(&address.counter)) || self.names.values().any(failing);
        [
            silent,
            self.no_address.is_some(),
            self.differs.is_some(),
            self.inconsistent > 0,
        ]
    }

    /// Says whether a finding that a look can close is open here: then looks come sooner.
    pub fn set_open(&mut self, open: bool) {
        self.open = open;
        self.troubled = if self.is_troubled() { self.troubled.max(1) } else { 0 };
    }

    /// A look is due now, and the row of quick looks begins anew: the Secret behind the place or the trust has changed,
    /// a held finding has outlasted its grace, or somebody asks.
    pub fn look_now(&mut self) {
        self.troubled = 0;
        self.due = true;
    }

    /// Nobody has looked at it, and the ledger remembers nothing.
    #[must_use]
    pub fn is_unknown(&self) -> bool {
        self.base.is_none()
    }

    /// The last look at which every address answered: what isn't seen since isn't true any more. `None` before the first
    /// one, and while the last look failed.
    #[must_use]
    pub fn judged_at(&self) -> Option<DateTime<Utc>> {
        self.answered.filter(|at| Some(*at) == self.base)
    }

    /// The last look, whatever it came to; after a start, when the ledger was read.
    #[must_use]
    pub fn looked_at(&self) -> Option<DateTime<Utc>> {
        self.base
    }

    /// What each address served last.
    pub fn seen(&self) -> impl Iterator<Item = (SocketAddr, &Seen)> {
        self.addresses
            .iter()
            .filter_map(|address| address.seen.as_deref().map(|seen| (address.at, seen)))
    }

    /// What each address served to this process.
    pub fn served(&self) -> impl Iterator<Item = (SocketAddr, &Served)> {
        self.seen().filter_map(|(address, seen)| match seen {
            Seen::Served(served) => Some((address, served)),
            Seen::Remembered(_) => None,
        })
    }

    /// The earliest end of a leaf that was seen.
    #[must_use]
    pub fn earliest_not_after(&self) -> Option<DateTime<Utc>> {
        self.seen().map(|(_, seen)| seen.leaf_not_after()).min()
    }

    /// Why not everything is dialled.
    pub fn problems(&self) -> impl Iterator<Item = DialProblem> {
        let refused = self.refused.then_some(DialProblem::NotPermitted);
        refused.into_iter().chain(self.unrouted.map(DialProblem::NoRoute))
    }

    /// The place has no address, and why.
    pub(crate) fn no_address(&self) -> Option<ProbeFailure> {
        self.no_address
    }

    pub(crate) fn is_refused(&self) -> bool {
        self.refused
    }

    /// The last look of this process, where it isn't [`Self::judged_at`]; and whether it dialled and was refused nothing.
    #[must_use]
    pub fn unanswered(&self) -> Option<(DateTime<Utc>, bool)> {
        let last = self.base.filter(|_| self.looked && self.judged_at().is_none());
        last.map(|at| (at, self.permitted))
    }

    /// What doesn't answer: which address or name, why, and the failures in a row that made it so.
    pub(crate) fn down(&self) -> impl Iterator<Item = (String, ProbeFailure, u8)> {
        let addresses = self
            .addresses
            .iter()
            .map(|address| (address.at.to_string(), address.counter));
        let names = self.names.iter().map(|(host, counter)| (host.to_string(), *counter));
        addresses
            .chain(names)
            .filter_map(|(what, counter)| counter.down.map(|(cause, after)| (what, cause, after)))
    }

    /// Another leaf than this one was served at the last looks.
    pub(crate) fn differs_from(&self, secret: Fingerprint) -> bool {
        self.differs.is_some_and(|(of, count)| of == secret && count >= SIGHTS)
    }

    /// The addresses served different leaves at the last looks.
    pub(crate) fn is_inconsistent(&self) -> bool {
        self.inconsistent >= SIGHTS
    }
}

impl Served {
    fn of(chain: Chain, judge: &mut dyn FnMut(&Chain) -> PathVerdict) -> Self {
        let path = judge(&chain);
        let dispensable = if path == PathVerdict::Trusted {
            trust::dispensable(&chain, judge)
        } else {
            Vec::new()
        };
        Self {
            chain: trust::forget_der(chain),
            path,
            dispensable,
        }
    }
}

/// What was dialled; an address that the policy refused is not named again.
fn permitted(look: &Look) -> Vec<(SocketAddr, &Result<ServedBytes, ProbeFailure>)> {
    look.addresses
        .iter()
        .filter(|(_, _, result)| !matches!(result, Err(ProbeFailure::NotPermitted)))
        .map(|(ip, port, result)| (SocketAddr::new(*ip, *port), result))
        .collect()
}

fn read(result: &Result<ServedBytes, ProbeFailure>) -> Result<Chain, ProbeFailure> {
    match result {
        Ok(served) => trust::chain_of(&served.chain).ok_or(ProbeFailure::BadCertificate),
        Err(cause) => Err(*cause),
    }
}

/// Leaves out a family that has no route at all, while the other one has.
fn drop_unrouted<T>(results: &mut Vec<(SocketAddr, &Result<T, ProbeFailure>)>) -> Option<Family> {
    let no_route = |result: &Result<T, ProbeFailure>| matches!(result, Err(ProbeFailure::NoRoute));
    let unrouted = [Family::IPv6, Family::IPv4].into_iter().find(|family| {
        let (mut own, mut other) = (false, false);
        for (address, result) in results.iter() {
            if Family::of(address.ip()) == *family {
                own = true;
                if !no_route(result) {
                    return false;
                }
            } else {
                other |= !no_route(result);
            }
        }
        own && other
    });
    results.retain(|(address, _)| Some(Family::of(address.ip())) != unrouted);
    unrouted
}

/// Different leaves, and not just one RSA and one other of the same names: servers choose between such by what a client
/// offers.
fn are_inconsistent(leaves: &[&Arc<Certificate>]) -> bool {
    let mut distinct: Vec<&Arc<Certificate>> = Vec::new();
    for leaf in leaves {
        if !distinct.iter().any(|other| other.fingerprint == leaf.fingerprint) {
            distinct.push(leaf);
        }
    }
    match distinct.as_slice() {
        [] | [_] => false,
        [one, other] => {
            let names = |leaf: &Certificate| leaf.dns_names.iter().map(str::to_owned).collect::<BTreeSet<_>>();
            let addresses = |leaf: &Certificate| leaf.ip_addresses.iter().copied().collect::<BTreeSet<_>>();
            let kinds = BTreeSet::from([one.key_kind, other.key_kind]);
            let pair = BTreeSet::from([crate::certificate::KeyKind::Rsa, crate::certificate::KeyKind::Ec]);
            kinds != pair || names(one) != names(other) || addresses(one) != addresses(other)
        }
        _ => true,
    }
}

#[cfg(test)]
mod tests;
