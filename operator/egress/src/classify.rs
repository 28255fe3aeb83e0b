//! What kind of address an address is, in binary form, with every IPv4 address inside an IPv6 address unwrapped. Pure.
//!
//! Sources: the IANA special-purpose address registries (RFC 6890), and the clouds' documentation for metadata services.

use ipnet::{Ipv4Net, Ipv6Net};
use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    sync::LazyLock,
};

/// What kind of address it is; of an address with others inside it, the worst. Ordered from best to worst.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Class {
    /// Globally reachable unicast.
    Public,
    /// 10/8, 172.16/12, 192.168/16, 100.64/10, fc00::/7: by provenance, or by the admin's allow.
    Private,
    /// 169.254/16, fe80::/10: by an allow entry inside that range only.
    LinkLocal,
    /// 127/8, ::1: by an allow entry inside that range only.
    Loopback,
    /// Metadata services, unspecified, multicast, broadcast, documentation, benchmarking, everything reserved: never.
    Never,
}

/// 127/8.
pub(crate) const LOOPBACK_V4: Ipv4Net = v4(127, 0, 0, 0, 8);
/// ::1.
pub(crate) const LOOPBACK_V6: Ipv6Net = v6([0, 0, 0, 0, 0, 0, 0, 1], 128);
/// 169.254/16.
pub(crate) const LINK_LOCAL_V4: Ipv4Net = v4(169, 254, 0, 0, 16);
/// fe80::/10.
pub(crate) const LINK_LOCAL_V6: Ipv6Net = v6([0xfe80, 0, 0, 0, 0, 0, 0, 0], 10);

const PRIVATE_V4: [Ipv4Net; 4] = [
    v4(10, 0, 0, 0, 8),
    v4(172, 16, 0, 0, 12),
    v4(192, 168, 0, 0, 16),
    v4(100, 64, 0, 0, 10),
];
const PRIVATE_V6: Ipv6Net = v6([0xfc00, 0, 0, 0, 0, 0, 0, 0], 7);

const NEVER_V4: [Ipv4Net; 9] = [
    v4(0, 0, 0, 0, 8),
    v4(192, 0, 0, 0, 24),
    v4(192, 0, 2, 0, 24),
    v4(192, 88, 99, 0, 24),
    v4(198, 18, 0, 0, 15),
    v4(198, 51, 100, 0, 24),
    v4(203, 0, 113, 0, 24),
    v4(224, 0, 0, 0, 4),
    v4(240, 0, 0, 0, 4),
];

/// Inside 2000::/3 (all else but the ranges above is reserved anyway), without Teredo and 6to4, which are unwrapped.
const NEVER_V6: [Ipv6Net; 3] = [
    v6([0x2001, 0, 0, 0, 0, 0, 0, 0], 23),
    v6([0x2001, 0xdb8, 0, 0, 0, 0, 0, 0], 32),
    v6([0x3fff, 0, 0, 0, 0, 0, 0, 0], 20),
];
const GLOBAL_V6: Ipv6Net = v6([0x2000, 0, 0, 0, 0, 0, 0, 0], 3);

/// Where clouds hand out credentials to whoever asks.
static METADATA: LazyLock<Vec<IpAddr>> = LazyLock::new(|| {
    let v4 = [
        Ipv4Addr::new(169, 254, 169, 254), // AWS, GCP, Azure, OpenStack, most others
        Ipv4Addr::new(169, 254, 169, 253), // AWS resolver
        Ipv4Addr::new(169, 254, 170, 2),   // AWS ECS task credentials
        Ipv4Addr::new(169, 254, 170, 23),  // AWS EKS pod identity
        Ipv4Addr::new(169, 254, 0, 23),    // Tencent
        Ipv4Addr::new(169, 254, 42, 42),   // Scaleway
        Ipv4Addr::new(100, 100, 100, 200), // Alibaba
        Ipv4Addr::new(192, 0, 0, 192),     // Oracle
        Ipv4Addr::new(168, 63, 129, 16),   // Azure wire server
    ];
    let v6 = [
        Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254),      // AWS
        Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x253),      // AWS resolver
        Ipv6Addr::new(0xfd00, 0xc1, 0, 0, 0, 0, 0xa9fe, 0xa9fe), // Oracle
        Ipv6Addr::new(0xfd00, 0xa9fe, 0xa9fe, 0, 0, 0, 0, 1),    // Akamai
        Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x23),       // AWS EKS pod identity
        Ipv6Addr::new(0xfd20, 0xce, 0, 0, 0, 0, 0, 0x254),       // GCP
        Ipv6Addr::new(0xfd00, 0x42, 0, 0, 0, 0, 0, 0x42),        // Scaleway
        Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0xa9fe, 0xa9fe),    // OpenStack
    ];
    v4.map(IpAddr::V4).into_iter().chain(v6.map(IpAddr::V6)).collect()
});

/// Names that mean a metadata service, in the normal form of a host. What they resolve to is refused anyway; the names
/// are refused so that a resolver of the cloud that answers with something else makes no difference.
const METADATA_NAMES: [&str; 8] = [
    "instance-data",
    "instance-data.ec2.internal",
    "metadata",
    "metadata.azure.com",
    "metadata.azure.internal",
    "metadata.goog",
    "metadata.google.internal",
    "metadata.tencentyun.com",
];

const fn v4(a: u8, b: u8, c: u8, d: u8, prefix: u8) -> Ipv4Net {
    Ipv4Net::new_assert(Ipv4Addr::new(a, b, c, d), prefix)
}

const fn v6(s: [u16; 8], prefix: u8) -> Ipv6Net {
    Ipv6Net::new_assert(Ipv6Addr::new(s[0], s[1], s[2], s[3], s[4], s[5], s[6], s[7]), prefix)
}

/// What kind of address it is.
#[must_use]
pub fn class(ip: IpAddr) -> Class {
    let own = match ip.to_canonical() {
        IpAddr::V4(ip) => class_v4(ip),
        IpAddr::V6(ip) => class_v6(ip),
    };
    embedded(ip).into_iter().map(class_v4).fold(own, Class::max)
}

/// The address itself, canonical, and every IPv4 address inside it.
pub(crate) fn forms(ip: IpAddr) -> impl Iterator<Item = IpAddr> {
    std::iter::once(ip.to_canonical()).chain(embedded(ip).into_iter().map(IpAddr::V4))
}

/// Whether a host name, in its normal form, is a metadata service's.
#[must_use]
pub fn is_metadata_name(name: &str) -> bool {
    METADATA_NAMES.contains(&name)
}

fn class_v4(ip: Ipv4Addr) -> Class {
    if METADATA.contains(&IpAddr::V4(ip)) || NEVER_V4.iter().any(|net| net.contains(&ip)) {
        Class::Never
    } else if LOOPBACK_V4.contains(&ip) {
        Class::Loopback
    } else if LINK_LOCAL_V4.contains(&ip) {
        Class::LinkLocal
    } else if PRIVATE_V4.iter().any(|net| net.contains(&ip)) {
        Class::Private
    } else {
        Class::Public
    }
}

/// Of an IPv6 address that isn't IPv4-mapped. Where the prefix is only a wrapping, what is wrapped decides.
fn class_v6(ip: Ipv6Addr) -> Class {
    if METADATA.contains(&IpAddr::V6(ip)) {
        Class::Never
    } else if LOOPBACK_V6.contains(&ip) {
        Class::Loopback
    } else if LINK_LOCAL_V6.contains(&ip) {
        Class::LinkLocal
    } else if PRIVATE_V6.contains(&ip) {
        Class::Private
    } else if Wrapping::of(ip).is_some() {
        Class::Public
    } else if !GLOBAL_V6.contains(&ip) || NEVER_V6.iter().any(|net| net.contains(&ip)) {
        Class::Never
    } else {
        Class::Public
    }
}

/// A prefix whose only meaning is an IPv4 address inside.
#[derive(Clone, Copy)]
enum Wrapping {
    /// `::a.b.c.d` (RFC 4291 §2.5.5.1), `::ffff:0:a.b.c.d` (RFC 2765), `64:ff9b::a.b.c.d` (RFC 6052): the last 32 bits.
    Low,
    /// `64:ff9b:1::/48` (RFC 8215): at any of RFC 6052's places.
    LocalNat64,
    /// `2002:AABB:CCDD::` (RFC 3056).
    SixToFour,
    /// `2001::/32` (RFC 4380): the server, and the client with its bits flipped.
    Teredo,
}

impl Wrapping {
    fn of(ip: Ipv6Addr) -> Option<Self> {
        match ip.segments() {
            // `::` and `::1` are addresses of their own.
            [0, 0, 0, 0, 0, 0, 0, 0 | 1] => None,
            [0, 0, 0, 0, 0, 0, _, _] | [0, 0, 0, 0, 0xffff, 0, _, _] | [0x64, 0xff9b, 0, 0, 0, 0, _, _] => {
                Some(Self::Low)
            }
            [0x64, 0xff9b, 1, ..] => Some(Self::LocalNat64),
            [0x2002, ..] => Some(Self::SixToFour),
            [0x2001, 0, ..] => Some(Self::Teredo),
            _ => None,
        }
    }
}

/// IPv4 addresses that an IPv6 address carries to a translator or tunnel. A mapped address *is* its IPv4 address, and
/// isn't unwrapped here.
fn embedded(ip: IpAddr) -> Vec<Ipv4Addr> {
    let IpAddr::V6(ip) = ip.to_canonical() else {
        return Vec::new();
    };
    let o = ip.octets();
    let at = |a: usize, b: usize, c: usize, d: usize| Ipv4Addr::new(o[a], o[b], o[c], o[d]);
    let low = at(12, 13, 14, 15);
    let mut inside = match Wrapping::of(ip) {
        Some(Wrapping::Low) => vec![low],
        // With zeros down to the last 32 bits it can only be the /96 form; else which form it is depends on the network.
        Some(Wrapping::LocalNat64) if o[6..12].iter().all(|byte| *byte == 0) => vec![low],
        // A reading in 0/8 is a sign that this form isn't meant: no translator forwards it.
        Some(Wrapping::LocalNat64) => [at(6, 7, 9, 10), at(7, 9, 10, 11), at(9, 10, 11, 12), low]
            .into_iter()
            .filter(|ip| ip.octets()[0] != 0)
            .collect(),
        Some(Wrapping::SixToFour) => vec![at(2, 3, 4, 5)],
        Some(Wrapping::Teredo) => vec![at(4, 5, 6, 7), Ipv4Addr::from(!u32::from(low))],
        None => Vec::new(),
    };
    // ISATAP (RFC 5214 §6.1) is a form of the interface identifier, under any prefix.
    if matches!(o[8..12], [0 | 2, 0, 0x5e, 0xfe]) {
        inside.push(low);
    }
    inside
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Every form in which an IPv6 address carries an IPv4 address.
    fn wrapped([a, b, c, d]: [u8; 4]) -> Vec<(&'static str, Ipv6Addr)> {
        let high = u16::from_be_bytes([a, b]);
        let low = u16::from_be_bytes([c, d]);
        let mut forms = vec![
            ("mapped", Ipv6Addr::new(0, 0, 0, 0, 0, 0xffff, high, low)),
            ("translated", Ipv6Addr::new(0, 0, 0, 0, 0xffff, 0, high, low)),
            ("NAT64", Ipv6Addr::new(0x64, 0xff9b, 0, 0, 0, 0, high, low)),
            ("local NAT64", Ipv6Addr::new(0x64, 0xff9b, 1, 0, 0, 0, high, low)),
            ("6to4", Ipv6Addr::new(0x2002, high, low, 0, 0, 0, 0, 1)),
            ("Teredo", Ipv6Addr::new(0x2001, 0, 0x909, 0x909, 0, 0, !high, !low)),
            (
                "Teredo server",
                Ipv6Addr::new(0x2001, 0, high, low, 0, 0, !0x909, !0x909),
            ),
            ("ISATAP", Ipv6Addr::new(0x2620, 0xfe, 0, 0, 0, 0x5efe, high, low)),
            (
                "ISATAP, global",
                Ipv6Addr::new(0x2620, 0xfe, 0, 0, 0x200, 0x5efe, high, low),
            ),
        ];
        if [a, b, c] != [0, 0, 0] || d > 1 {
            forms.push(("compatible", Ipv6Addr::new(0, 0, 0, 0, 0, 0, high, low)));
        }
        forms
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(4096))]

        #[test]
        fn any_address_inside_another_classifies_like_the_bare_one(octets: [u8; 4]) {
            let bare = class(IpAddr::from(octets));
            for (form, ip) in wrapped(octets) {
                prop_assert_eq!(class(IpAddr::V6(ip)), bare, "{} {}", form, ip);
            }
        }

        #[test]
        fn local_nat64_is_refused_where_any_reading_of_it_is(octets: [u8; 4], rest: [u8; 10]) {
            let worst = class(IpAddr::from(octets));
            prop_assume!(octets[0] != 0);
            let [a, b, c, d] = octets;
            let mut ip = [0x00, 0x64, 0xff, 0x9b, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
            ip[6..].copy_from_slice(&rest);
            for places in [[6, 7, 9, 10], [7, 9, 10, 11], [9, 10, 11, 12]] {
                let mut ip = ip;
                ip[8] = 0;
                for (place, octet) in places.into_iter().zip([a, b, c, d]) {
                    ip[place] = octet;
                }
                prop_assume!(ip[6..12] != [0; 6]);
                prop_assert!(class(IpAddr::from(ip)) >= worst);
            }
        }

        #[test]
        fn no_address_of_a_special_range_is_public(ip: [u8; 16], range in 0..6usize) {
            let nets: [(Ipv6Net, Class); 6] = [
                (LINK_LOCAL_V6, Class::LinkLocal),
                (PRIVATE_V6, Class::Private),
                (v6([0xff00, 0, 0, 0, 0, 0, 0, 0], 8), Class::Never),
                (v6([0x2001, 0xdb8, 0, 0, 0, 0, 0, 0], 32), Class::Never),
                (v6([0xfec0, 0, 0, 0, 0, 0, 0, 0], 10), Class::Never),
                (v6([0x4000, 0, 0, 0, 0, 0, 0, 0], 3), Class::Never),
            ];
            let (net, least) = nets[range];
            let mask = u128::from(net.netmask());
            let ip = (u128::from_be_bytes(ip) & !mask) | u128::from(net.network());
            prop_assert!(class(IpAddr::from(ip.to_be_bytes())) >= least);
        }
    }
}
