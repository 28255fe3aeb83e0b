//! Names: does a certificate cover what it is used for (RFC 9525 §6)?

use super::{
    Case,
    text::{at, some},
};
use crate::{
    certificate::Certificate,
    finding::{Finding, Hold, Sighting},
    observation::StoredValue,
    place::{Host, Place, Role},
    policy::Policy,
    text::PeerText,
};
use chrono::{DateTime, Utc};

/// Whether one of the certificate's alternative names covers a host. The common name never counts, a wildcard stands
/// for exactly one label and not above a registry's own (`*.com`), and a host that is itself a wildcard is covered by
/// the same wildcard alone.
#[must_use]
pub fn covers(certificate: &Certificate, host: &Host) -> bool {
    match host {
        Host::Ip(ip) => certificate.ip_addresses.contains(ip),
        Host::Name(name) => certificate.dns_names.iter().any(|san| {
            let san = san.strip_suffix('.').unwrap_or(san);
            san == &**name || (!host.is_wildcard() && wildcard_covers(san, name))
        }),
    }
}

fn wildcard_covers(san: &str, name: &str) -> bool {
    let (Some(parent), Some((label, rest))) = (san.strip_prefix("*."), name.split_once('.')) else {
        return false;
    };
    !label.is_empty() && parent == rest && parent.contains('.')
}

/// `HostnameMismatch` of what is served.
pub(super) fn served(case: &mut Case<'_>, leaf: &Certificate, host: &Host, address: Option<&str>) {
    mismatch(case, leaf, host, |text| {
        format!("serves a certificate{} that {text}", at(address))
    });
}

/// `HostnameMismatch` of the Secret that should be served.
pub(super) fn stored(case: &mut Case<'_>, secret: &StoredValue, host: &Host) {
    if let Some(leaf) = secret.content.leaf()
        && leaf.placeholder.is_none()
    {
        mismatch(case, leaf, host, |text| {
            format!("has a certificate in its Secret that {text}")
        });
    }
}

/// Judges whether the certificate in an Ingress's Secret covers its host, where what is served isn't looked at; where
/// it is, [`super::assess_dialled`] says it too.
#[must_use]
pub fn assess_ingress_secret(
    place: &Place,
    host: &Host,
    secret: &StoredValue,
    policy: &Policy,
    now: DateTime<Utc>,
) -> Vec<Sighting> {
    let mut case = Case::new(place, policy, now);
    stored(&mut case, secret, host);
    case.found()
}

fn mismatch(case: &mut Case<'_>, leaf: &Certificate, host: &Host, sentence: impl Fn(&str) -> String) {
    let Some(severity) = case.policy.checks.hostname else {
        return;
    };
    if covers(leaf, host) {
        return;
    }
    let names = leaf.dns_names.iter().map(|name| PeerText::sanitise(name).to_string());
    let names = names.chain(leaf.ip_addresses.iter().map(ToString::to_string));
    let reason = match host {
        _ if leaf.dns_names.is_empty() && leaf.ip_addresses.is_empty() => {
            "it has no DNS name and no IP address (a common name doesn't count)".to_owned()
        }
        Host::Ip(ip) if leaf.dns_names.iter().any(|name| name == ip.to_string()) => {
            "it has that IP address as a DNS name, which covers nothing".to_owned()
        }
        _ => format!("it is for {}", some(names)),
    };
    let message = sentence(&format!("does not cover {host}: {reason}"));
    case.add(
        Finding::HostnameMismatch,
        severity,
        Role::Leaf,
        leaf.facts(message),
        Hold::No,
    );
}
