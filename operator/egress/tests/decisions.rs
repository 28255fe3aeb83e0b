//! How the lists, the ports and provenance play together. Addresses are literals: nothing is resolved, nothing dialled.

#![allow(clippy::unwrap_used, reason = "a test may")]

use certmon_core::{
    place::Host,
    target::{Provenance, Purpose},
};
use certmon_egress::{Egress, OwnAddresses, Policy, Request, Resolver};

use Provenance::{FreeText, ObjectStatus, ObjectStatusPort};
use Purpose::{Endpoint, Sink};

async fn permits(policy: &str, namespace: &str, purpose: Purpose, provenance: Provenance, target: (&str, u16)) -> bool {
    let own = OwnAddresses {
        operator: Vec::new(),
        api_server: vec!["127.0.0.1:6443".parse().unwrap()],
    };
    let resolver = Resolver::server("127.0.0.1:9".parse().unwrap()).unwrap();
    let egress = Egress::new(Policy::parse(policy, "policy.yaml").unwrap(), own, resolver);
    let request = Request {
        namespace: namespace.into(),
        purpose,
        provenance,
        host: Host::parse(target.0).unwrap(),
        port: target.1,
    };
    egress.permitted(&request).await.is_ok()
}

const NOTHING: &str = "{}";
const DATABASES: &str = "allow: [{namespaces: [shop], cidrs: [10.20.0.0/16], ports: [5432]}]";
const PRIVATE: &str = "allow: [{namespaces: ['*'], cidrs: [10.0.0.0/8]}]";
const INSTEAD: &str = "allow: [{namespaces: ['*'], cidrs: [9.9.9.0/24], ports: [10443]}]";
const BOTH: &str =
    "allow: [{namespaces: ['*'], cidrs: [9.9.9.0/24], ports: [10443]}, {namespaces: ['*'], cidrs: [9.9.9.9/32]}]";
const WITHDRAWN: &str = "deny: [{namespaces: ['*'], cidrs: [10.0.0.0/8]}]";
const ONE_PORT_DENIED: &str = "deny: [{namespaces: [shop], cidrs: [0.0.0.0/0], ports: [443]}]";
const NAT64_DENIED: &str = "deny: [{namespaces: ['*'], cidrs: ['64:ff9b::/96']}]";
const DENY_WINS: &str =
    "allow: [{namespaces: ['*'], cidrs: [10.0.0.0/8]}]\ndeny: [{namespaces: [shop], cidrs: [10.1.0.0/16]}]";
const LINK_LOCAL: &str = "allow: [{namespaces: ['*'], cidrs: [169.254.0.0/16, 'fe80::/10']}]";
const LOOPBACK: &str = "allow: [{namespaces: ['*'], cidrs: [127.0.0.0/8, '::1/128'], ports: [443, 6443]}]";
const AROUND: &str =
    "allow: [{namespaces: ['*'], cidrs: [0.0.0.0/0, '::/0', 126.0.0.0/7, 169.0.0.0/8, '::/127', 'fe00::/7']}]";

#[tokio::test]
async fn lists_ports_and_provenance_decide_together() {
    for (policy, namespace, purpose, provenance, target, expected) in [
        // Ports by purpose.
        (NOTHING, "shop", Endpoint, FreeText, ("9.9.9.9", 8883), true),
        (NOTHING, "shop", Sink, FreeText, ("9.9.9.9", 8883), false),
        (NOTHING, "shop", Sink, FreeText, ("9.9.9.9", 587), true),
        (NOTHING, "shop", Endpoint, FreeText, ("9.9.9.9", 587), false),
        (NOTHING, "shop", Endpoint, FreeText, ("9.9.9.9", 22), false),
        (NOTHING, "shop", Endpoint, FreeText, ("9.9.9.9", 0), false),
        (
            "ports: {endpoints: [22]}",
            "shop",
            Endpoint,
            FreeText,
            ("9.9.9.9", 22),
            true,
        ),
        (
            "ports: {endpoints: [22]}",
            "shop",
            Endpoint,
            FreeText,
            ("9.9.9.9", 443),
            false,
        ),
        // An object's status vouches for 443, or for the port that it names.
        (NOTHING, "shop", Endpoint, ObjectStatus, ("10.1.2.3", 443), true),
        (NOTHING, "shop", Endpoint, ObjectStatus, ("10.1.2.3", 8443), false),
        (NOTHING, "shop", Endpoint, ObjectStatusPort, ("10.1.2.3", 31443), true),
        (NOTHING, "shop", Endpoint, ObjectStatusPort, ("9.9.9.9", 31443), true),
        (NOTHING, "shop", Endpoint, ObjectStatusPort, ("127.0.0.1", 443), false),
        (NOTHING, "shop", Endpoint, ObjectStatusPort, ("169.254.1.1", 443), false),
        (NOTHING, "shop", Endpoint, FreeText, ("10.1.2.3", 443), false),
        (NOTHING, "shop", Sink, ObjectStatusPort, ("10.1.2.3", 443), false),
        // Allow entries are of a namespace, a CIDR, and ports.
        (DATABASES, "shop", Endpoint, FreeText, ("10.20.3.4", 5432), true),
        (DATABASES, "shop", Endpoint, FreeText, ("10.20.3.4", 443), false),
        (DATABASES, "shop", Endpoint, ObjectStatus, ("10.20.3.4", 443), true),
        (DATABASES, "shop", Endpoint, FreeText, ("10.21.3.4", 5432), false),
        (DATABASES, "blog", Endpoint, FreeText, ("10.20.3.4", 5432), false),
        (PRIVATE, "blog", Endpoint, FreeText, ("10.20.3.4", 443), true),
        (PRIVATE, "blog", Endpoint, FreeText, ("10.20.3.4", 5432), false),
        (PRIVATE, "blog", Sink, FreeText, ("10.20.3.4", 25), true),
        (PRIVATE, "blog", Endpoint, FreeText, ("64:ff9b::a14:304", 443), false),
        (INSTEAD, "shop", Endpoint, FreeText, ("9.9.9.9", 10443), true),
        (INSTEAD, "shop", Endpoint, FreeText, ("9.9.9.9", 443), false),
        (INSTEAD, "shop", Endpoint, FreeText, ("9.9.8.9", 443), true),
        (BOTH, "shop", Endpoint, FreeText, ("9.9.9.9", 443), true),
        (BOTH, "shop", Endpoint, FreeText, ("9.9.9.9", 10443), true),
        // Deny wins, over provenance too, and over what is inside an address.
        (WITHDRAWN, "shop", Endpoint, ObjectStatus, ("10.1.2.3", 443), false),
        (
            WITHDRAWN,
            "shop",
            Endpoint,
            ObjectStatus,
            ("64:ff9b::a01:203", 443),
            false,
        ),
        (WITHDRAWN, "shop", Endpoint, ObjectStatus, ("192.168.1.1", 443), true),
        (ONE_PORT_DENIED, "shop", Endpoint, FreeText, ("9.9.9.9", 443), false),
        (ONE_PORT_DENIED, "shop", Endpoint, FreeText, ("9.9.9.9", 8443), true),
        (ONE_PORT_DENIED, "blog", Endpoint, FreeText, ("9.9.9.9", 443), true),
        (
            NAT64_DENIED,
            "shop",
            Endpoint,
            FreeText,
            ("64:ff9b::909:909", 443),
            false,
        ),
        (DENY_WINS, "shop", Endpoint, FreeText, ("10.1.2.3", 443), false),
        (DENY_WINS, "shop", Endpoint, FreeText, ("10.2.2.3", 443), true),
        (DENY_WINS, "blog", Endpoint, FreeText, ("10.1.2.3", 443), true),
        // Loopback and link-local only by an entry inside that range; metadata never.
        (LINK_LOCAL, "shop", Endpoint, FreeText, ("169.254.1.1", 443), true),
        (LINK_LOCAL, "shop", Endpoint, FreeText, ("169.254.169.254", 443), false),
        (LINK_LOCAL, "shop", Endpoint, FreeText, ("fe80::1", 443), true),
        (LINK_LOCAL, "shop", Endpoint, FreeText, ("fe80::a9fe:a9fe", 443), false),
        (LOOPBACK, "shop", Endpoint, FreeText, ("127.0.0.1", 443), true),
        (LOOPBACK, "shop", Endpoint, FreeText, ("::1", 443), true),
        (LOOPBACK, "shop", Endpoint, FreeText, ("::ffff:127.0.0.1", 443), true),
        (LOOPBACK, "shop", Endpoint, FreeText, ("::127.0.0.1", 443), false),
        (LOOPBACK, "shop", Endpoint, FreeText, ("127.0.0.1", 6443), true),
        (AROUND, "shop", Endpoint, FreeText, ("127.0.0.1", 443), false),
        (AROUND, "shop", Endpoint, FreeText, ("::1", 443), false),
        (AROUND, "shop", Endpoint, FreeText, ("169.254.1.1", 443), false),
        (AROUND, "shop", Endpoint, FreeText, ("fe80::1", 443), false),
        (AROUND, "shop", Endpoint, FreeText, ("10.1.2.3", 443), true),
    ] {
        assert_eq!(
            permits(policy, namespace, purpose, provenance, target).await,
            expected,
            "{target:?} in {namespace} for {purpose} by {provenance:?} under {policy:?}"
        );
    }
}
