//! The hosts of Ingresses: what is stored for them, and where they are served.

use super::{Found, StoredBeside, Trouble, Watched};
use crate::{
    cluster::Key,
    controller::spec::IngressChoice,
    world::{Ingress, MOST_NAMED_OF_NAMESPACE, StoredSecret, WatchId},
};
use certmon_core::{
    assess::{MissingSecret, NamedBy},
    place::{Host, Place, Via},
    target::Provenance,
    text::PeerText,
};
use kube::core::SelectorExt;
use std::collections::BTreeSet;

/// The type of the Secrets that Ingresses name by rights.
const TLS: &str = "kubernetes.io/tls";
/// The most addresses of an Ingress's status that are dialled.
const MOST_ADDRESSES: usize = 16;

impl Found<'_> {
    pub(super) fn ingresses(&mut self, choice: &IngressChoice) {
        let world = self.world;
        let complete = self.watch(&WatchId::Ingresses, "Ingresses");
        let tls = WatchId::Secrets { type_: TLS.into() };
        let secrets_complete = self.watch(&tls, &format!("Secrets of type {TLS}"));
        let mut plain = 0;
        for ingress in world.ingresses(self.namespace) {
            if !choice.selector.selector.matches(&ingress.labels) {
                continue;
            }
            plain += usize::from(ingress.tls.is_empty());
            for entry in &ingress.tls {
                let beside = self.stored_beside(ingress, entry.secret.as_deref(), choice.stored, secrets_complete);
                let hosts = if entry.hosts.is_empty() {
                    &ingress.rule_hosts
                } else {
                    &entry.hosts
                };
                for host in hosts.iter().filter_map(|host| Host::parse(host).ok()) {
                    self.ingress_host(ingress, host, choice, &beside);
                }
            }
        }
        if complete && self.places.is_empty() {
            let all = world.ingresses(self.namespace).count();
            let namespace = self.namespace;
            self.hint = Some(match (all, plain) {
                (0, _) => format!("no Ingress exists in namespace {namespace}"),
                (1, 0) => format!(
                    "the 1 Ingress in namespace {namespace} does not match {}",
                    choice.selector.text
                ),
                (_, 0) => format!(
                    "none of the {all} Ingresses in namespace {namespace} matches {}",
                    choice.selector.text
                ),
                (_, 1) => format!("1 Ingress in namespace {namespace} is selected, but has no `spec.tls`"),
                _ => format!("{plain} Ingresses in namespace {namespace} are selected, but have no `spec.tls`"),
            });
        }
    }

    /// The Secret of a TLS entry, which becomes a place of its own where stored certificates are asked for.
    fn stored_beside(
        &mut self,
        ingress: &Ingress,
        name: Option<&str>,
        stored: bool,
        secrets_complete: bool,
    ) -> StoredBeside {
        let Some(name) = name else { return StoredBeside::None };
        let secret = self.world.secret(self.namespace, name);
        let value = secret.and_then(|secret| secret.values.iter().find(|(key, _)| &**key == "tls.crt"));
        let value = value.map(|(_, value)| value.clone());
        let by_name = WatchId::Secret(Key::new(self.namespace, name));
        let read = secret.is_some() || (secrets_complete && self.world.listed(&by_name, self.namespace).1);
        self.complete &= read;
        if !read && secrets_complete && self.world.leaves_out(&by_name) {
            let trouble = format!(
                "Secret {name} of Ingress {} is not looked at: of Secrets that are missing or not of type kubernetes.io/tls, \
                 {MOST_NAMED_OF_NAMESPACE} are watched in one namespace",
                ingress.key.name
            );
            self.trouble = self.trouble.take().or(Some(Trouble::Unavailable(trouble)));
        }
        if stored && read {
            let watched = match &value {
                Some(value) => Watched::Stored {
                    value: value.clone(),
                    with_anchors: true,
                },
                None => Watched::Missing {
                    missing: secret.map_or(MissingSecret::Absent, without_key),
                    named_by: NamedBy::Ingress(ingress.key.name.clone()),
                },
            };
            let place = self.secret_place(name, "tls.crt");
            self.places.entry(place).or_insert(watched);
        }
        value.map_or(StoredBeside::Missing, StoredBeside::Value)
    }

    fn ingress_host(&mut self, ingress: &Ingress, host: Host, choice: &IngressChoice, beside: &StoredBeside) {
        let dialled = choice.served && !host.is_wildcard();
        // Without a look and without a stored certificate there is nothing to judge.
        let stored = choice.stored && matches!(beside, StoredBeside::Value(_));
        if !dialled && !stored {
            return;
        }
        let place = Place::Ingress {
            namespace: self.namespace.into(),
            name: ingress.key.name.clone(),
            host: host.clone(),
            port: choice.port,
            via: choice.via,
        };
        let without_address = ingress.addresses.is_empty() && choice.via == Via::Status;
        let watched = Watched::Served {
            target: dialled.then(|| self.target(dialled_hosts(ingress, &host, choice), &host)),
            server_name: host,
            secret: beside.clone(),
            from_object: true,
            without_address,
        };
        self.places.insert(place, watched);
    }
}

/// A Secret of another type than [`TLS`] may hold a certificate too; where it doesn't, the type says why.
fn without_key(secret: &StoredSecret) -> MissingSecret {
    let other = (&*secret.type_ != TLS).then(|| PeerText::sanitise(&secret.type_));
    MissingSecret::WithoutKey(other)
}

/// The addresses of an Ingress's status; what DNS says of the host while there is none.
fn dialled_hosts(ingress: &Ingress, host: &Host, choice: &IngressChoice) -> Vec<(Host, u16, Provenance)> {
    if choice.via == Via::Dns || ingress.addresses.is_empty() {
        return vec![(host.clone(), choice.port, Provenance::FreeText)];
    }
    let addresses = ingress.addresses.iter().map(|address| {
        // One port per address: 443 where the status names it, else the first that it names.
        let named = address
            .ports
            .iter()
            .find(|&&named| named == 443)
            .or(address.ports.first());
        match named {
            Some(&named) => (address.host.clone(), named, Provenance::ObjectStatusPort),
            None => (address.host.clone(), choice.port, Provenance::ObjectStatus),
        }
    });
    addresses
        .collect::<BTreeSet<_>>()
        .into_iter()
        .take(MOST_ADDRESSES)
        .collect()
}
