//! Whatever a TLS server serves is captured as it is, unjudged.

#![allow(clippy::unwrap_used, reason = "a test may")]

#[path = "../../egress/tests/dns/mod.rs"]
mod dns;
mod servers;

use certmon_core::target::{Addresses, Look, ProbeFailure, ServedBytes};
use certmon_egress::Resolver;
use certmon_probe::Probe;
use dns::{Answer, Dns};
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use servers::{Authority, Identity, Manner, Visit, leaf_params, loopback, no_resolver, probe, serve, target};
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(10);

fn expired(mut params: rcgen::CertificateParams) -> rcgen::CertificateParams {
    params.not_before = rcgen::date_time_ymd(2019, 1, 1);
    params.not_after = rcgen::date_time_ymd(2020, 1, 1);
    params
}

fn only(look: &Look) -> &Result<ServedBytes, ProbeFailure> {
    assert_eq!((look.addresses.len(), look.refused), (1, 0), "{look:?}");
    &look.addresses[0].2
}

/// What one look at a server of this manner captures, and what the server saw.
async fn captured(manner: Manner, authority: &Authority, identity: &Identity, name: &str) -> (Vec<Vec<u8>>, Visit) {
    let (address, mut visits) = serve(loopback(1, 0), manner.of(authority, identity)).await;
    let probe = probe(&[address.port()], no_resolver());
    let look = probe
        .look(target(&[("127.0.0.1", address.port())], name, PATIENCE))
        .await;
    assert_eq!(look.addresses[0].0, address.ip());
    let chain = only(&look).clone().map(|served| served.chain);
    (
        chain.unwrap_or_else(|failure| panic!("{failure:?}")),
        visits.recv().await.unwrap(),
    )
}

#[tokio::test]
async fn a_chain_is_captured_whatever_is_wrong_with_it() {
    let authority = Authority::new();
    let good = leaf_params("shop.example");
    let mut alone = authority.issue(&good);
    alone.chain.truncate(1);
    let key = rcgen::KeyPair::generate().unwrap();
    let self_signed = Identity {
        chain: vec![good.self_signed(&key).unwrap().der().clone()],
        key,
    };
    let mut shuffled = authority.issue(&good);
    let twice = shuffled.chain[1].clone();
    shuffled.chain.push(twice);
    for (what, identity) in [
        ("valid", authority.issue(&good)),
        ("expired", authority.issue(&expired(leaf_params("shop.example")))),
        ("another name", authority.issue(&leaf_params("other.example"))),
        ("self-signed", self_signed),
        ("without its intermediate", alone),
        ("an intermediate twice", shuffled),
    ] {
        let (chain, visit) = captured(Manner::default(), &authority, &identity, "shop.example").await;
        assert_eq!(chain, identity.ders(), "{what}");
        let polite = Visit {
            server_name: Ok(Some("shop.example".to_owned())),
            end: Ok(0),
        };
        assert_eq!(visit, polite, "{what}");
    }
}

#[tokio::test]
async fn every_kind_of_key_is_captured_in_both_versions() {
    let authority = Authority::new();
    let params = leaf_params("shop.example");
    for (what, algorithm) in [
        ("P-256", &rcgen::PKCS_ECDSA_P256_SHA256),
        ("P-384", &rcgen::PKCS_ECDSA_P384_SHA384),
        ("P-521", &rcgen::PKCS_ECDSA_P521_SHA512),
        ("Ed25519", &rcgen::PKCS_ED25519),
        ("RSA", &rcgen::PKCS_RSA_SHA256),
    ] {
        let identity = authority.issue_for(&params, algorithm);
        for version in rustls::ALL_VERSIONS {
            let manner = Manner {
                versions: std::slice::from_ref(version),
                ..Manner::default()
            };
            let (chain, _) = captured(manner, &authority, &identity, "shop.example").await;
            assert_eq!(chain, identity.ders(), "{what} over {:?}", version.version);
        }
    }
}

#[tokio::test]
async fn a_server_that_demands_a_client_certificate_is_read() {
    let authority = Authority::new();
    let identity = authority.issue(&leaf_params("shop.example"));
    for version in rustls::ALL_VERSIONS {
        let manner = Manner {
            versions: std::slice::from_ref(version),
            demands_certificate: true,
            ..Manner::default()
        };
        let (chain, visit) = captured(manner, &authority, &identity, "shop.example").await;
        assert_eq!(chain, identity.ders(), "{:?}", version.version);
        assert_eq!(visit.server_name, Err(()), "no certificate was sent to it");
    }
}

#[tokio::test]
async fn a_server_that_insists_on_another_group_is_read() {
    let authority = Authority::new();
    let identity = authority.issue(&leaf_params("shop.example"));
    for group in [
        aws_lc_rs::kx_group::X25519MLKEM768,
        aws_lc_rs::kx_group::SECP384R1,
        aws_lc_rs::kx_group::SECP256R1,
    ] {
        let manner = Manner {
            provider: CryptoProvider {
                kx_groups: vec![group],
                ..aws_lc_rs::default_provider()
            },
            ..Manner::default()
        };
        let (chain, _) = captured(manner, &authority, &identity, "shop.example").await;
        assert_eq!(chain, identity.ders(), "{:?}", group.name());
    }
}

#[tokio::test]
async fn no_server_name_is_sent_for_an_address() {
    let authority = Authority::new();
    let identity = authority.issue(&leaf_params("127.0.0.1"));
    for name in ["127.0.0.1", "*.shop.example"] {
        let (chain, visit) = captured(Manner::default(), &authority, &identity, name).await;
        assert_eq!(chain, identity.ders());
        assert_eq!(visit.server_name, Ok(None), "{name}");
    }
}

#[tokio::test]
async fn a_chain_below_64_kib_is_captured_and_one_above_is_too_large() {
    let authority = Authority::new();
    for (bytes, fits) in [(60_000, true), (70_000, false)] {
        let mut identity = authority.issue(&leaf_params("shop.example"));
        let intermediate = identity.chain[1].clone();
        while identity
            .chain
            .iter()
            .map(|certificate| certificate.len())
            .sum::<usize>()
            < bytes
        {
            identity.chain.push(intermediate.clone());
        }
        for version in rustls::ALL_VERSIONS {
            let manner = Manner {
                versions: std::slice::from_ref(version),
                ..Manner::default()
            };
            let (address, _visits) = serve(loopback(1, 0), manner.of(&authority, &identity)).await;
            let look = probe(&[address.port()], no_resolver())
                .look(target(&[("127.0.0.1", address.port())], "shop.example", PATIENCE))
                .await;
            let expected = if fits {
                Ok(ServedBytes { chain: identity.ders() })
            } else {
                Err(ProbeFailure::TooLarge)
            };
            assert!(only(&look) == &expected, "{bytes} bytes over {:?}", version.version);
        }
    }
}

#[tokio::test]
async fn every_address_is_looked_at_and_one_that_is_refused_is_counted_but_not_named() {
    let authority = Authority::new();
    let params = leaf_params("shop.example");
    let (old, new) = (authority.issue(&params), authority.issue(&params));
    let (first, _old_visits) = serve(loopback(2, 0), Manner::default().of(&authority, &old)).await;
    let port = first.port();
    let (_, _new_visits) = serve(loopback(3, port), Manner::default().of(&authority, &new)).await;
    let dns = Dns::start(|name, _| match name {
        "shop.example." => Answer::Addresses(vec![
            [127, 0, 0, 2].into(),
            [127, 0, 0, 3].into(),
            [127, 0, 0, 4].into(),
            [169, 254, 169, 254].into(),
            [10, 0, 0, 1].into(),
        ]),
        _ => Answer::NxDomain,
    })
    .await;
    let probe = probe(&[port], Resolver::server(dns.address).unwrap());
    let mut target = target(
        &[("shop.example", port), ("gone.example", port)],
        "shop.example",
        PATIENCE,
    );
    let look = probe.look(target.clone()).await;
    let expected = [
        (loopback(2, port), Ok(ServedBytes { chain: old.ders() })),
        (loopback(3, port), Ok(ServedBytes { chain: new.ders() })),
        (loopback(4, port), Err(ProbeFailure::Refused)),
    ]
    .map(|(address, outcome)| (address.ip(), address.port(), outcome));
    assert_eq!(look.addresses, expected);
    assert_eq!(look.refused, 2);
    assert_eq!(look.unresolved, [(target.hosts[1].0.clone(), ProbeFailure::NoRecord)]);

    target.addresses = Addresses::First;
    let look = probe.look(target).await;
    assert_eq!(look.addresses, expected[..1]);
}

#[tokio::test]
async fn a_renewed_certificate_is_seen_at_the_next_look() {
    let authority = Authority::new();
    let params = leaf_params("shop.example");
    let identity = authority.issue(&params);
    let (address, mut visits) = serve(loopback(1, 0), Manner::default().of(&authority, &identity)).await;
    let probe = probe(&[address.port()], no_resolver());
    let target = target(&[("127.0.0.1", address.port())], "shop.example", PATIENCE);
    for _ in 0..3 {
        // Every time the chain itself: nothing is resumed.
        let look = probe.look(target.clone()).await;
        assert_eq!(only(&look), &Ok(ServedBytes { chain: identity.ders() }));
        assert_eq!(visits.recv().await.unwrap().end, Ok(0));
    }
}

#[test]
fn no_proxy_of_the_environment_is_asked() {
    servers::proxies::again_with_proxies("a_chain_is_captured_whatever_is_wrong_with_it");
}
