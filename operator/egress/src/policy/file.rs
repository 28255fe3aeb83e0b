//! The policy's file: strict, with the line of what is wrong.

use super::{Entry, Limits, Namespaces, Policy, PolicyError, Ports};
use crate::classify::{self, Class};
use ipnet::IpNet;
use serde::{Deserialize, Deserializer, de::Error};
use std::{borrow::Cow, net::IpAddr, num::NonZeroU32};

/// Larger than any bound that makes sense, and far from the descriptors a process may have.
const HIGHEST_LIMIT: u32 = 65_536;

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
struct File {
    allow: Vec<FileEntry>,
    deny: Vec<FileEntry>,
    ports: FilePorts,
    limits: FileLimits,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FileEntry {
    namespaces: Filled<Namespaces>,
    cidrs: Filled<Cidr>,
    #[serde(default)]
    ports: Option<Filled<Port>>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
struct FilePorts {
    sinks: Option<Vec<Port>>,
    endpoints: Option<Vec<Port>>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
struct FileLimits {
    concurrent: Option<Limit>,
    concurrent_per_namespace: Option<Limit>,
    concurrent_per_address: Option<Limit>,
    per_second: Option<Limit>,
    per_second_per_namespace: Option<Limit>,
    burst_per_namespace: Option<Limit>,
}

/// A list that says something.
struct Filled<T>(Vec<T>);

struct Cidr(IpNet);

struct Port(u16);

struct Limit(NonZeroU32);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Filled<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let list = Vec::deserialize(deserializer)?;
        if list.is_empty() {
            return Err(D::Error::custom("the list is empty: it would match nothing"));
        }
        Ok(Self(list))
    }
}

impl<'de> Deserialize<'de> for Namespaces {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Cow::<str>::deserialize(deserializer)?;
        if text == "*" {
            return Ok(Self::All);
        }
        let label = (1..=63).contains(&text.len())
            && !text.starts_with('-')
            && !text.ends_with('-')
            && text
                .bytes()
                .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
        if label {
            Ok(Self::One(text.as_ref().into()))
        } else {
            Err(D::Error::custom(format!(
                "`{text}` is neither the name of a namespace nor `*` (there are no other patterns)"
            )))
        }
    }
}

impl<'de> Deserialize<'de> for Cidr {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Cow::<str>::deserialize(deserializer)?;
        cidr(&text).map(Self).map_err(D::Error::custom)
    }
}

impl<'de> Deserialize<'de> for Port {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let port = i64::deserialize(deserializer)?;
        match u16::try_from(port) {
            Ok(port) if port > 0 => Ok(Self(port)),
            _ => Err(D::Error::custom(format!("{port} is no port: 1 to 65535"))),
        }
    }
}

impl<'de> Deserialize<'de> for Limit {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let limit = i64::deserialize(deserializer)?;
        u32::try_from(limit)
            .ok()
            .filter(|limit| *limit <= HIGHEST_LIMIT)
            .and_then(NonZeroU32::new)
            .map(Self)
            .ok_or_else(|| D::Error::custom(format!("{limit} is no limit: 1 to {HIGHEST_LIMIT}")))
    }
}

fn cidr(text: &str) -> Result<IpNet, String> {
    let Ok(net) = text.parse::<IpNet>() else {
        return Err(match text.parse::<IpAddr>() {
            Ok(ip) => format!("`{text}` is an address, not a CIDR: write `{}`", IpNet::from(ip)),
            Err(_) => format!("`{text}` is not a CIDR such as `10.0.0.0/8`"),
        });
    };
    if net != net.trunc() {
        return Err(format!(
            "`{text}` has bits set behind its prefix: write `{}`",
            net.trunc()
        ));
    }
    // Addresses are compared in their canonical form, where a mapped one is IPv4.
    if matches!(net, IpNet::V6(v6) if v6.prefix_len() >= 96 && v6.network().to_ipv4_mapped().is_some()) {
        return Err(format!("`{text}` is IPv4 written as IPv6: write the IPv4 CIDR"));
    }
    Ok(net)
}

/// An allow entry for one address that no entry can open is a misunderstanding; better said than ignored.
fn never_opens(net: &IpNet) -> bool {
    net.prefix_len() == net.max_prefix_len() && classify::class(net.addr()) == Class::Never
}

impl From<FileEntry> for Entry {
    fn from(entry: FileEntry) -> Self {
        Self {
            namespaces: entry.namespaces.0,
            cidrs: entry.cidrs.0.into_iter().map(|Cidr(net)| net).collect(),
            ports: entry.ports.map(|Filled(ports)| plain(ports)),
        }
    }
}

fn plain(ports: Vec<Port>) -> Vec<u16> {
    ports.into_iter().map(|Port(port)| port).collect()
}

pub(super) fn parse(text: &str, file_name: &str) -> Result<Policy, PolicyError> {
    let file: Option<File> = serde_saphyr::from_str(text).map_err(|error| {
        let error = error.without_snippet();
        let text = error.to_string();
        let (line, cause) = match error.location() {
            Some(at) => {
                let suffix = format!(" at line {}, column {}", at.line(), at.column());
                (Some(at.line()), text.strip_suffix(&suffix).unwrap_or(&text))
            }
            None => (None, text.as_str()),
        };
        PolicyError {
            file: file_name.to_owned(),
            line,
            cause: cause.to_owned(),
        }
    })?;
    let Some(file) = file else {
        // What is there while somebody writes the file anew must not open what the old one closed.
        return Err(PolicyError {
            file: file_name.to_owned(),
            line: None,
            cause: "the file is empty; write `{}` where the built-in rules are all that is wanted".to_owned(),
        });
    };
    let (default_ports, default_limits) = (Ports::default(), Limits::default());
    let ports = |listed: Option<Vec<Port>>, default: Vec<u16>| listed.map_or(default, plain);
    let limit = |set: Option<Limit>, default: NonZeroU32| set.map_or(default, |Limit(limit)| limit);
    let limits = file.limits;
    let allow: Vec<Entry> = file.allow.into_iter().map(Entry::from).collect();
    if let Some(net) = allow.iter().flat_map(|entry| &entry.cidrs).find(|net| never_opens(net)) {
        return Err(PolicyError {
            file: file_name.to_owned(),
            line: None,
            cause: format!("`{net}` in `allow` is a metadata, unspecified or reserved address: never dialled"),
        });
    }
    Ok(Policy {
        allow,
        deny: file.deny.into_iter().map(Entry::from).collect(),
        ports: Ports {
            sinks: ports(file.ports.sinks, default_ports.sinks),
            endpoints: ports(file.ports.endpoints, default_ports.endpoints),
        },
        limits: Limits {
            concurrent: limit(limits.concurrent, default_limits.concurrent),
            concurrent_per_namespace: limit(limits.concurrent_per_namespace, default_limits.concurrent_per_namespace),
            concurrent_per_address: limit(limits.concurrent_per_address, default_limits.concurrent_per_address),
            per_second: limit(limits.per_second, default_limits.per_second),
            per_second_per_namespace: limit(limits.per_second_per_namespace, default_limits.per_second_per_namespace),
            burst_per_namespace: limit(limits.burst_per_namespace, default_limits.burst_per_namespace),
        },
    })
}
