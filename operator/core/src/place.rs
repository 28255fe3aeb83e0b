//! Where a certificate is, or should be: the stable part of an alert's identity.

use crate::{hash::ShortHash, text::PeerText};
use serde::{Deserialize, Serialize};
use std::{fmt, net::IpAddr, sync::Arc};

/// A host in its normal form: a DNS name in lower case without the trailing dot, or an IP address.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Host {
    /// An IP literal.
    Ip(IpAddr),
    /// A DNS name: 1–253 characters of `a-z 0-9 - _ .`, possibly with a leading `*.`.
    Name(Box<str>),
}

/// Why a text is no host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("must be a DNS name or an IP address")]
pub struct HostError;

impl Host {
    /// Parses a host and brings it into its normal form. Brackets around an IPv6 address are accepted, a port isn't.
    ///
    /// # Errors
    /// [`HostError`] where it is neither a DNS name (RFC 1123, `_` allowed) nor an IP address, or where it is a number
    /// that some resolvers read as an IPv4 address (`127.1`, `0x7f.1`, `2130706433`).
    pub fn parse(text: &str) -> Result<Self, HostError> {
        let bare = text
            .strip_prefix('[')
            .and_then(|rest| rest.strip_suffix(']'))
            .unwrap_or(text);
        if let Ok(ip) = bare.parse::<IpAddr>() {
            return Ok(Self::Ip(ip));
        }
        let name = text.strip_suffix('.').unwrap_or(text).to_ascii_lowercase();
        let labels = name.strip_prefix("*.").unwrap_or(&name);
        let well_formed = !labels.is_empty()
            && name.len() <= 253
            && labels.split('.').all(|label| {
                (1..=63).contains(&label.len())
                    && !label.starts_with('-')
                    && !label.ends_with('-')
                    && label
                        .bytes()
                        .all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
            });
        // inet_aton(3) reads a name whose last label is a number, in any base, as an address.
        let numeric = labels
            .rsplit('.')
            .next()
            .is_some_and(|last| last.starts_with("0x") || last.bytes().all(|b| b.is_ascii_digit()));
        if well_formed && !numeric {
            Ok(Self::Name(name.into()))
        } else {
            Err(HostError)
        }
    }

    /// A name with a leading `*.`: it can be covered by a certificate, but not dialled.
    #[must_use]
    pub fn is_wildcard(&self) -> bool {
        matches!(self, Self::Name(name) if name.starts_with("*."))
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ip(IpAddr::V4(ip)) => write!(f, "{ip}"),
            Self::Ip(IpAddr::V6(ip)) => write!(f, "[{ip}]"),
            Self::Name(name) => f.write_str(name),
        }
    }
}

impl fmt::Debug for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl TryFrom<String> for Host {
    type Error = HostError;

    fn try_from(text: String) -> Result<Self, HostError> {
        Self::parse(&text)
    }
}

impl From<Host> for String {
    fn from(host: Host) -> Self {
        host.to_string()
    }
}

/// How the address of an Ingress's host is found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, strum::Display)]
pub enum Via {
    /// The address in the object's status; what DNS says while there is none.
    #[default]
    Status,
    /// What DNS says.
    #[strum(serialize = "DNS")]
    #[serde(rename = "DNS")]
    Dns,
}

/// Where a certificate is, or should be. Namespaced kinds stand in their monitor's namespace.
///
/// [`fmt::Display`] is the canonical form that identities are made of (`secret/NS/NAME#KEY`,
/// `endpoint/HOST:PORT?sni=NAME`, `ingress/NS/NAME/HOST:PORT?via=STATUS`); [`Place::title`] is for people.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", tag = "kind")]
pub enum Place {
    /// A value of a Secret.
    #[serde(rename_all = "camelCase")]
    Secret {
        /// The Secret's namespace.
        namespace: Arc<str>,
        /// The Secret's name.
        name: Arc<str>,
        /// The key under `data`.
        key: Arc<str>,
    },
    /// A host and port that a monitor names.
    #[serde(rename_all = "camelCase")]
    Endpoint {
        /// What is dialled.
        host: Host,
        /// The TCP port.
        port: u16,
        /// The server name that is asked for; the host where nothing else is said.
        server_name: Host,
    },
    /// A host and port that a monitor names, where what stands as host or as server name is neither a DNS name nor an
    /// address (an older schema let it in): it has a place, so that something can be said of it, and is never dialled.
    #[serde(rename_all = "camelCase")]
    NoHost {
        /// The host, as it was written.
        host: PeerText,
        /// The TCP port.
        port: u16,
        /// The server name, as it was written; the host where nothing else is said.
        server_name: PeerText,
    },
    /// A TLS host of an Ingress.
    #[serde(rename_all = "camelCase")]
    Ingress {
        /// The Ingress's namespace.
        namespace: Arc<str>,
        /// The Ingress's name.
        name: Arc<str>,
        /// The host, asked for as the server name.
        host: Host,
        /// The port of the spec (the one in the object's status wins when dialling, and isn't part of the identity).
        port: u16,
        /// How its address is found.
        via: Via,
    },
    /// A source of the monitor, for what is about none of its certificates.
    Source {
        /// The source's name.
        name: Arc<str>,
    },
    /// The monitor itself.
    Monitor,
}

impl Place {
    /// The Kubernetes object that an Event is related to, as (kind, name).
    #[must_use]
    pub fn object(&self) -> Option<(&'static str, &str)> {
        match self {
            Self::Secret { name, .. } => Some(("Secret", name)),
            Self::Ingress { name, .. } => Some(("Ingress", name)),
            Self::Endpoint { .. } | Self::NoHost { .. } | Self::Source { .. } | Self::Monitor => None,
        }
    }

    /// What is dialled there: host and port.
    #[must_use]
    pub fn host_port(&self) -> Option<(&Host, u16)> {
        match self {
            Self::Endpoint { host, port, .. } | Self::Ingress { host, port, .. } => Some((host, *port)),
            Self::Secret { .. } | Self::NoHost { .. } | Self::Source { .. } | Self::Monitor => None,
        }
    }

    /// The name that a client asks for there, where something is dialled.
    #[must_use]
    pub fn server_name(&self) -> Option<&Host> {
        match self {
            Self::Endpoint { server_name, .. } => Some(server_name),
            _ => self.host_port().map(|(host, _)| host),
        }
    }

    /// A certificate is, or should be, at this place; a source and the monitor hold none.
    #[must_use]
    pub fn holds_certificate(&self) -> bool {
        !matches!(self, Self::Source { .. } | Self::Monitor)
    }

    /// What people read: `Secret/shop-tls tls.crt`, `mail.example.com:465 (SNI smtp.example.com)`,
    /// `Ingress/shop shop.example.com:443`.
    #[must_use]
    pub fn title(&self) -> String {
        match self {
            Self::Secret { name, key, .. } => format!("Secret/{name} {key}"),
            Self::Endpoint {
                host,
                port,
                server_name,
            } if host == server_name => format!("{host}:{port}"),
            Self::Endpoint {
                host,
                port,
                server_name,
            } => format!("{host}:{port} (SNI {server_name})"),
            Self::NoHost {
                host,
                port,
                server_name,
            } if host == server_name => format!("{host}:{port}"),
            Self::NoHost {
                host,
                port,
                server_name,
            } => format!("{host}:{port} (SNI {server_name})"),
            Self::Ingress { name, host, port, .. } => format!("Ingress/{name} {host}:{port}"),
            Self::Source { name } => format!("source {name}"),
            Self::Monitor => "monitor".to_owned(),
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Secret { namespace, name, key } => write!(f, "secret/{namespace}/{name}#{key}"),
            Self::Endpoint {
                host,
                port,
                server_name,
            } => write!(f, "endpoint/{host}:{port}?sni={server_name}"),
            Self::NoHost {
                host,
                port,
                server_name,
            } => write!(f, "endpoint/{host}:{port}?sni={server_name}"),
            Self::Ingress {
                namespace,
                name,
                host,
                port,
                via,
            } => {
                let via = match via {
                    Via::Status => "STATUS",
                    Via::Dns => "DNS",
                };
                write!(f, "ingress/{namespace}/{name}/{host}:{port}?via={via}")
            }
            Self::Source { name } => write!(f, "source/{name}"),
            Self::Monitor => f.write_str("monitor"),
        }
    }
}

/// Which certificate at a place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Role {
    /// The leaf, or the place as a whole.
    Leaf,
    /// A member of a set, or an intermediate: by the hash of its subject and public key.
    Member(ShortHash),
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Leaf => f.write_str("leaf"),
            Self::Member(id) => write!(f, "member:{id}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_have_one_normal_form() {
        for (text, normal) in [
            ("WWW.Example.com.", Some("www.example.com")),
            ("*.example.com", Some("*.example.com")),
            ("192.0.2.7", Some("192.0.2.7")),
            ("2001:db8::1", Some("[2001:db8::1]")),
            ("[2001:db8::1]", Some("[2001:db8::1]")),
            ("_sip.example.com", Some("_sip.example.com")),
            ("127.1", None),
            ("0x7f.1", None),
            ("2130706433", None),
            ("0177.0.0.1", None),
            ("a.0x7f", None),
            ("https://x.example", None),
            ("x.example:443", None),
            ("a..b", None),
            ("-a.example", None),
            ("", None),
            (".", None),
            ("*.", None),
            ("[ok.example]", None),
            ("fe80::1%eth0", None),
        ] {
            assert_eq!(
                Host::parse(text).ok().map(|host| host.to_string()).as_deref(),
                normal,
                "{text}"
            );
        }
    }
}
