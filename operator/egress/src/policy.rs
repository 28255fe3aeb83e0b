//! The admin's word: what may be dialled, by whom. Parsing is in `file`.

mod file;

use crate::{Request, classify, classify::Class};
use certmon_core::target::{Provenance, Purpose};
use ipnet::IpNet;
use std::{
    net::{IpAddr, SocketAddr},
    num::NonZeroU32,
};

/// Sinks: HTTPS, and SMTP in its three forms.
const SINK_PORTS: [u16; 6] = [443, 8443, 25, 465, 587, 2525];
/// Endpoints: what is commonly served over TLS from the first byte.
const ENDPOINT_PORTS: [u16; 11] = [443, 8443, 9443, 465, 636, 853, 993, 995, 5671, 6514, 8883];
/// The port that an Ingress's status vouches for where it names none.
const STATUS_PORT: u16 = 443;

/// What may be dialled, and how much of it at once. [`Policy::default`] is what holds without a file: public addresses
/// on the default ports, and what an object's status vouches for.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Policy {
    allow: Vec<Entry>,
    deny: Vec<Entry>,
    ports: Ports,
    limits: Limits,
}

/// One line of `allow:` or `deny:`.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Entry {
    namespaces: Vec<Namespaces>,
    cidrs: Vec<IpNet>,
    /// `None`: in `allow`, the list of the purpose; in `deny`, every port.
    ports: Option<Vec<u16>>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Namespaces {
    All,
    One(Box<str>),
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Ports {
    sinks: Vec<u16>,
    endpoints: Vec<u16>,
}

impl Default for Ports {
    fn default() -> Self {
        Self {
            sinks: SINK_PORTS.to_vec(),
            endpoints: ENDPOINT_PORTS.to_vec(),
        }
    }
}

impl Ports {
    fn of(&self, purpose: Purpose) -> &[u16] {
        match purpose {
            Purpose::Endpoint => &self.endpoints,
            Purpose::Sink => &self.sinks,
        }
    }
}

/// Bounds on what is open at once and on how fast it is opened. Sinks and endpoints have a budget each, so that
/// endpoints which hang never delay a message; the rates are of endpoints.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Connections at once. 512.
    pub concurrent: NonZeroU32,
    /// Connections at once of one namespace. 32.
    pub concurrent_per_namespace: NonZeroU32,
    /// Connections at once of one namespace to one address. 4. Of one namespace, so that no tenant can make another
    /// wait by holding an address that both use.
    pub concurrent_per_address: NonZeroU32,
    /// Endpoints dialled per second. 100, with a burst of as many.
    pub per_second: NonZeroU32,
    /// Endpoints dialled per second for one namespace. 10.
    pub per_second_per_namespace: NonZeroU32,
    /// How many of a namespace's may go at once after a pause. 50.
    pub burst_per_namespace: NonZeroU32,
}

impl Default for Limits {
    fn default() -> Self {
        const fn bound(value: u32) -> NonZeroU32 {
            NonZeroU32::new(value).expect("not zero")
        }
        const {
            Self {
                concurrent: bound(512),
                concurrent_per_namespace: bound(32),
                concurrent_per_address: bound(4),
                per_second: bound(100),
                per_second_per_namespace: bound(10),
                burst_per_namespace: bound(50),
            }
        }
    }
}

/// Addresses of the operator itself (never dialled) and of the API server (only by the admin's allow). On loopback
/// address and port are meant, elsewhere the address alone; `0.0.0.0` and `::` stand for every loopback address.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OwnAddresses {
    /// Where the operator listens: the Pod's addresses, its Service's, its metrics on loopback.
    pub operator: Vec<SocketAddr>,
    /// Where the API server listens: the kubeconfig's server, the `kubernetes` Service and the endpoints behind it.
    pub api_server: Vec<SocketAddr>,
}

impl OwnAddresses {
    fn hold(list: &[SocketAddr], address: SocketAddr) -> bool {
        list.iter().any(|own| {
            let (own_ip, ip) = (own.ip().to_canonical(), address.ip());
            if ip.is_loopback() {
                own.port() == address.port() && (own_ip == ip || own_ip.is_unspecified())
            } else {
                own_ip == ip
            }
        })
    }
}

/// Why a policy file can't be used: the file, the line where it is known, and the cause.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{file}{}: {cause}", .line.map(|line| format!(":{line}")).unwrap_or_default())]
pub struct PolicyError {
    /// The file's name as it was given.
    pub file: String,
    /// The line, from 1.
    pub line: Option<u64>,
    /// What is wrong there.
    pub cause: String,
}

impl Policy {
    /// Reads the admin's file (YAML): `allow:` and `deny:` lists of `{namespaces, cidrs, ports}`, `ports: {sinks,
    /// endpoints}`, `limits: {…}`. Everything is optional, and `{}` is the default. An empty file is none.
    ///
    /// # Errors
    /// [`PolicyError`] where it is empty (or holds comments alone), isn't YAML, has an unknown key, or a CIDR, a port, a namespace or a limit is wrong.
    pub fn parse(text: &str, file_name: &str) -> Result<Self, PolicyError> {
        file::parse(text, file_name)
    }

    /// The bounds.
    #[must_use]
    pub fn limits(&self) -> Limits {
        self.limits
    }

    /// The decision: may this address be dialled for this request?
    pub(crate) fn permits(&self, own: &OwnAddresses, request: &Request, ip: IpAddr) -> bool {
        let ip = ip.to_canonical();
        let address = SocketAddr::new(ip, request.port);
        let class = classify::class(ip);
        if class == Class::Never
            || request.port == 0
            || classify::forms(ip).any(|form| {
                OwnAddresses::hold(&own.operator, SocketAddr::new(form, request.port))
                    || self.deny.iter().any(|entry| entry.denies(request, form))
            })
        {
            return false;
        }
        let listed = self.ports.of(request.purpose).contains(&request.port);
        let mut covered = false;
        for entry in self.allow.iter().filter(|entry| entry.covers(request, ip, class)) {
            covered = true;
            if entry
                .ports
                .as_ref()
                .map_or(listed, |ports| ports.contains(&request.port))
            {
                return true;
            }
        }
        if classify::forms(ip).any(|form| OwnAddresses::hold(&own.api_server, SocketAddr::new(form, address.port()))) {
            return false;
        }
        let vouched = request.purpose == Purpose::Endpoint
            && match request.provenance {
                Provenance::FreeText => false,
                Provenance::ObjectStatus => request.port == STATUS_PORT,
                Provenance::ObjectStatusPort => true,
            };
        match class {
            // The ports of an allow entry stand instead of the list, for its CIDRs.
            Class::Public => vouched || (listed && !covered),
            Class::Private => vouched,
            Class::LinkLocal | Class::Loopback | Class::Never => false,
        }
    }
}

impl Entry {
    fn concerns(&self, namespace: &str) -> bool {
        self.namespaces.iter().any(|namespaces| match namespaces {
            Namespaces::All => true,
            Namespaces::One(name) => **name == *namespace,
        })
    }

    fn denies(&self, request: &Request, form: IpAddr) -> bool {
        self.concerns(&request.namespace)
            && self.ports.as_ref().is_none_or(|ports| ports.contains(&request.port))
            && self.cidrs.iter().any(|cidr| cidr.contains(&form))
    }

    /// An allow entry speaks of the address that is dialled, not of those inside it; and of loopback or link-local
    /// addresses only when its CIDR lies inside that range.
    fn covers(&self, request: &Request, ip: IpAddr, class: Class) -> bool {
        self.concerns(&request.namespace) && self.cidrs.iter().any(|cidr| cidr.contains(&ip) && reaches(cidr, class))
    }
}

fn reaches(cidr: &IpNet, class: Class) -> bool {
    match (class, cidr) {
        (Class::Public | Class::Private, _) => true,
        (Class::Loopback, IpNet::V4(net)) => classify::LOOPBACK_V4.contains(net),
        (Class::Loopback, IpNet::V6(net)) => classify::LOOPBACK_V6.contains(net),
        (Class::LinkLocal, IpNet::V4(net)) => classify::LINK_LOCAL_V4.contains(net),
        (Class::LinkLocal, IpNet::V6(net)) => classify::LINK_LOCAL_V6.contains(net),
        (Class::Never, _) => false,
    }
}
