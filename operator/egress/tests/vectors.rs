//! Every vector of `testdata/egress_vectors.yaml`, for every purpose and provenance.
#![allow(clippy::unwrap_used, reason = "a test may")]

mod dns;

use certmon_core::{
    place::Host,
    target::{Provenance, Purpose},
};
use certmon_egress::{Denied, Egress, OwnAddresses, Policy, Request, Resolver};
use dns::{Answer, Dns};
use serde::Deserialize;
use std::{collections::BTreeMap, net::IpAddr};

const VECTORS: &str = include_str!("../testdata/egress_vectors.yaml");

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Vectors {
    names: BTreeMap<String, Vec<IpAddr>>,
    groups: Vec<Group>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Group {
    what: String,
    expect: Expect,
    hosts: Vec<String>,
}

#[derive(Deserialize, Clone, Copy, PartialEq, Eq, Debug)]
#[serde(rename_all = "camelCase")]
enum Expect {
    Unparsable,
    Never,
    Private,
    ApiServer,
    Public,
}

const POLICY: &str = "
allow:
  - namespaces: [trusted]
    cidrs: [0.0.0.0/0, '::/0', 10.0.0.0/8, 172.16.0.0/12, 192.168.0.0/16, 100.64.0.0/10, 'fc00::/7']
";

fn expected(expect: Expect, namespace: &str, purpose: Purpose, provenance: Provenance) -> Result<(), Denied> {
    let vouched = purpose == Purpose::Endpoint && provenance != Provenance::FreeText;
    let permitted = match expect {
        Expect::Unparsable | Expect::Never => false,
        Expect::Private => vouched || namespace == "trusted",
        Expect::ApiServer => namespace == "trusted",
        Expect::Public => true,
    };
    if permitted { Ok(()) } else { Err(Denied::NotPermitted) }
}

#[tokio::test]
async fn every_vector_is_decided_as_written() {
    let vectors: Vectors = serde_saphyr::from_str(VECTORS).unwrap();
    let names = vectors.names;
    let dns = Dns::start(move |name, _| match names.get(name.trim_end_matches('.')) {
        Some(addresses) => Answer::Addresses(addresses.clone()),
        None => Answer::NxDomain,
    })
    .await;
    let own = OwnAddresses {
        operator: vec!["10.1.2.3:8080".parse().unwrap(), "10.96.7.7:8080".parse().unwrap()],
        api_server: vec![
            "10.96.0.1:443".parse().unwrap(),
            "172.18.0.2:6443".parse().unwrap(),
            "20.30.40.50:6443".parse().unwrap(),
        ],
    };
    let egress = Egress::new(
        Policy::parse(POLICY, "policy.yaml").unwrap(),
        own,
        Resolver::server(dns.address).unwrap(),
    );
    let mut wrong = Vec::new();
    let mut tried = 0;
    for group in &vectors.groups {
        for text in &group.hosts {
            let Ok(host) = Host::parse(text) else {
                if group.expect != Expect::Unparsable {
                    wrong.push(format!("{}: `{text}` can't be parsed", group.what));
                }
                continue;
            };
            for namespace in ["tenant", "trusted"] {
                for purpose in [Purpose::Endpoint, Purpose::Sink] {
                    for provenance in [
                        Provenance::FreeText,
                        Provenance::ObjectStatus,
                        Provenance::ObjectStatusPort,
                    ] {
                        tried += 1;
                        let request = Request {
                            namespace: namespace.into(),
                            purpose,
                            provenance,
                            host: host.clone(),
                            port: 443,
                        };
                        let decided = egress.permitted(&request).await;
                        let expected = expected(group.expect, namespace, purpose, provenance);
                        if decided != expected {
                            wrong.push(format!(
                                "{}: `{text}` in {namespace} for {purpose} by {provenance:?}: {decided:?}, not {expected:?}",
                                group.what
                            ));
                        }
                    }
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{} of {tried}:\n{}", wrong.len(), wrong.join("\n"));
    assert!(tried > 1000, "only {tried} were tried");
}
