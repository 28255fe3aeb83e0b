//! Decoding of everything but watched Secrets. An object that can't be read is one object's trouble, never its kind's.

use super::stream::Decode;
use crate::{
    cluster::Key,
    world::{Ingress, IngressAddress, IngressTls, Labels, Monitor, Seen, SinkSecretVersion, TrustObject, Wanted},
};
use certmon_core::{place::Host, trust::Anchors};
use serde::Deserialize;
use serde_json::value::RawValue;
use std::{
    collections::BTreeMap,
    panic::catch_unwind,
    sync::{Arc, Mutex, PoisonError},
};
use zeroize::Zeroizing;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Metadata {
    pub(super) namespace: Option<Arc<str>>,
    pub(super) name: Arc<str>,
    pub(super) uid: Box<str>,
    #[serde(default)]
    pub(super) labels: Option<BTreeMap<String, String>>,
    #[serde(default)]
    generation: i64,
    #[serde(default)]
    resource_version: Box<str>,
    #[serde(default)]
    annotations: Option<Requests>,
}

#[derive(Deserialize)]
struct Requests {
    #[serde(rename = "certmon.dev/check-requested-at")]
    check: Option<String>,
    #[serde(rename = "certmon.dev/test-requested-at")]
    test: Option<String>,
}

impl Metadata {
    pub(super) fn key(&self) -> Key {
        Key {
            namespace: self.namespace.clone().unwrap_or_default(),
            name: self.name.clone(),
        }
    }
}

/// Shares equal label sets: thousands of Secrets have the same few.
#[derive(Default)]
pub(super) struct SharedLabels(Mutex<Option<Labels>>);

impl SharedLabels {
    pub(super) fn share(&self, labels: Option<BTreeMap<String, String>>) -> Labels {
        let labels = labels.unwrap_or_default();
        let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match &*last {
            Some(known) if **known == labels => known.clone(),
            _ => last.insert(Arc::new(labels)).clone(),
        }
    }
}

/// CertificateMonitors.
pub(super) struct MonitorDecode;

impl Decode for MonitorDecode {
    fn object(&self, json: &[u8], _wanted: &Wanted) -> Option<Seen> {
        #[derive(Deserialize)]
        struct Parts<'a> {
            metadata: Metadata,
            #[serde(borrow)]
            spec: Option<&'a RawValue>,
            #[serde(borrow)]
            status: Option<&'a RawValue>,
        }
        let parts: Parts<'_> = serde_json::from_slice(json).ok()?;
        let spec = parts.spec.map_or("{}", RawValue::get);
        let token = |value: Option<String>| value.as_deref().map(certmon_core::text::token);
        let (check, test) = parts
            .metadata
            .annotations
            .as_ref()
            .map_or((None, None), |all| (all.check.clone(), all.test.clone()));
        Some(Seen::Monitor(Box::new(Monitor {
            key: parts.metadata.key(),
            uid: parts.metadata.uid.clone(),
            generation: parts.metadata.generation,
            spec: serde_json::from_str(spec)
                .map(Arc::new)
                .map_err(|error| error.to_string()),
            check_requested: token(check),
            test_requested: token(test),
            status: parts.status.and_then(|status| serde_json::from_str(status.get()).ok()),
        })))
    }
}

/// Ingresses.
#[derive(Default)]
pub(super) struct IngressDecode(SharedLabels);

#[derive(Deserialize)]
struct IngressObject {
    metadata: Metadata,
    #[serde(default)]
    spec: IngressSpec,
    #[serde(default)]
    status: IngressStatus,
}

#[derive(Default, Deserialize)]
struct IngressSpec {
    #[serde(default)]
    tls: Vec<TlsEntry>,
    #[serde(default)]
    rules: Vec<IngressRule>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct TlsEntry {
    #[serde(default)]
    hosts: Vec<Box<str>>,
    secret_name: Option<Box<str>>,
}

#[derive(Deserialize)]
struct IngressRule {
    host: Option<Box<str>>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct IngressStatus {
    load_balancer: LoadBalancer,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct LoadBalancer {
    ingress: Vec<LoadBalancerAddress>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct LoadBalancerAddress {
    ip: Option<String>,
    hostname: Option<String>,
    ports: Vec<PortStatus>,
}

#[derive(Deserialize)]
struct PortStatus {
    /// The API server takes any number; one that is no port is none, and the rest of the object counts.
    port: i64,
}

impl Decode for IngressDecode {
    fn object(&self, json: &[u8], wanted: &Wanted) -> Option<Seen> {
        let object: IngressObject = serde_json::from_slice(json).ok()?;
        let key = object.metadata.key();
        wanted.ingresses.contains(&*key.namespace).then(|| {
            let addresses = object.status.load_balancer.ingress.iter();
            let named = |text: &Option<String>| {
                text.as_deref()
                    .filter(|text| !text.is_empty())
                    .and_then(|text| Host::parse(text).ok())
            };
            Seen::Ingress(Ingress {
                uid: object.metadata.uid.clone(),
                labels: self.0.share(object.metadata.labels.clone()),
                tls: object
                    .spec
                    .tls
                    .into_iter()
                    .map(|entry| IngressTls {
                        hosts: entry.hosts,
                        secret: entry.secret_name.filter(|name| !name.is_empty()),
                    })
                    .collect(),
                rule_hosts: object
                    .spec
                    .rules
                    .into_iter()
                    .filter_map(|rule| rule.host)
                    .filter(|host| !host.is_empty())
                    .collect(),
                addresses: addresses
                    .filter_map(|address| {
                        let host = named(&address.ip).or_else(|| named(&address.hostname))?;
                        Some(IngressAddress {
                            host,
                            ports: address
                                .ports
                                .iter()
                                .filter_map(|port| u16::try_from(port.port).ok())
                                .collect(),
                        })
                    })
                    .collect(),
                key,
            })
        })
    }

    fn grown(&self, _id: &crate::world::WatchId, before: &Wanted, now: &Wanted) -> Vec<Box<str>> {
        now.ingresses.difference(&before.ingresses).cloned().collect()
    }
}

/// Objects of trust references.
pub(super) enum TrustDecode {
    ConfigMap,
    Secret,
}

impl Decode for TrustDecode {
    fn object(&self, json: &[u8], _wanted: &Wanted) -> Option<Seen> {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Object {
            metadata: Metadata,
            #[serde(default)]
            data: Option<BTreeMap<Box<str>, String>>,
            #[serde(default)]
            binary_data: Option<BTreeMap<Box<str>, String>>,
        }
        let object: Object = serde_json::from_slice(json).ok()?;
        let decode = |text: &str| {
            use base64::Engine;
            base64::engine::general_purpose::STANDARD
                .decode(text)
                .unwrap_or_default()
        };
        let plain = object
            .data
            .unwrap_or_default()
            .into_iter()
            .map(|(key, text)| match self {
                Self::ConfigMap => (key, text.into_bytes()),
                Self::Secret => (key, decode(&text)),
            });
        let binary = object
            .binary_data
            .unwrap_or_default()
            .into_iter()
            .map(|(key, text)| (key, decode(&text)));
        // A private key beside a CA, or behind it, doesn't stay: only certificates are kept. A panic of a parser leaves none.
        let anchors = |bytes: &Zeroizing<Vec<u8>>| {
            catch_unwind(|| Anchors::from_pem(bytes)).unwrap_or_else(|_| {
                tracing::error!("reading a certificate panicked; this is a fault of certmon's, please report it");
                Anchors::default()
            })
        };
        let values = plain
            .chain(binary)
            .map(|(key, bytes)| (key, Arc::new(anchors(&Zeroizing::new(bytes)))))
            .collect();
        Some(Seen::Trust(TrustObject {
            key: object.metadata.key(),
            values,
        }))
    }
}

/// Metadata of sinks' Secrets.
pub(super) struct SinkSecretDecode;

impl Decode for SinkSecretDecode {
    fn object(&self, json: &[u8], _wanted: &Wanted) -> Option<Seen> {
        #[derive(Deserialize)]
        struct Object {
            metadata: Metadata,
        }
        let Object { metadata } = serde_json::from_slice(json).ok()?;
        let version = format!("{}/{}", metadata.uid, metadata.resource_version).into();
        Some(Seen::SinkSecret(SinkSecretVersion {
            key: metadata.key(),
            version,
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use base64::Engine;

    #[test]
    fn a_port_that_is_none_hides_nothing_else_of_an_ingress() {
        let json = serde_json::json!({
            "metadata": { "namespace": "shop", "name": "web", "uid": "u" },
            "spec": { "tls": [{ "hosts": ["shop.example.com"], "secretName": "shop-tls" }] },
            "status": { "loadBalancer": { "ingress": [{ "ip": "192.0.2.1", "ports": [
                { "port": 70000, "protocol": "TCP" }, { "port": -1, "protocol": "TCP" }, { "port": 8443, "protocol": "TCP" },
            ]}]}},
        });
        let wanted = Wanted {
            ingresses: ["shop".into()].into(),
            ..Wanted::default()
        };
        let seen = IngressDecode::default().object(json.to_string().as_bytes(), &wanted);
        let Some(Seen::Ingress(ingress)) = seen else {
            panic!("{seen:?}")
        };
        assert_eq!(ingress.addresses.len(), 1);
        assert_eq!(*ingress.addresses[0].ports, [8443]);
        assert_eq!(ingress.tls.len(), 1);
    }

    #[test]
    fn of_a_secret_that_is_trusted_only_certificates_are_kept() {
        let ca = rcgen::generate_simple_self_signed(["ca.example".to_owned()]).unwrap();
        let both = format!("{}{}", ca.cert.pem(), ca.signing_key.serialize_pem());
        let base64 = |text: &str| base64::engine::general_purpose::STANDARD.encode(text);
        let json = serde_json::json!({
            "metadata": { "namespace": "shop", "name": "ca", "uid": "u" },
            "data": { "ca.crt": base64(&both), "tls.key": base64(&ca.signing_key.serialize_pem()), "token": base64("canary") },
        });
        let seen = TrustDecode::Secret.object(json.to_string().as_bytes(), &Wanted::default());
        let Some(Seen::Trust(object)) = seen else {
            panic!("{seen:?}")
        };
        let held: Vec<(&str, bool)> = object
            .values
            .iter()
            .map(|(key, value)| (&**key, value.is_empty()))
            .collect();
        assert_eq!(held, [("ca.crt", false), ("tls.key", true), ("token", true)]);
        let text = format!("{object:?}");
        assert!(
            !text.contains("canary") && !text.contains(&format!("{:?}", ca.signing_key.serialize_der())),
            "{text}"
        );
    }
}
