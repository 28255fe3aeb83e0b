//! Secrets, leanly: only wanted keys of namespaces that have monitors are looked at, everything else is skipped while
//! decoding, and what stays are parsed facts. A private key is read only where a monitor compares it, and wiped.

use super::{
    decode::{Metadata, SharedLabels},
    stream::Decode,
};
use crate::world::{KeyFilter, Seen, StoredSecret, Wanted, WatchId};
use base64::{Engine, engine::general_purpose::STANDARD};
use certmon_core::{
    bundle,
    certificate::{Certificate, Fingerprint},
    observation::{Content, DataFault, StoredValue},
};
use memchr::memmem;
use serde::{
    Deserialize, Deserializer,
    de::{DeserializeSeed, IgnoredAny, MapAccess, Visitor},
};
use serde_json::value::RawValue;
use sha2::{Digest, Sha256};
use std::{
    borrow::{Borrow, Cow},
    collections::{HashMap, HashSet},
    fmt,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, Mutex, PoisonError, Weak},
};
use tokio::sync::watch;
use zeroize::Zeroize;

/// The key of a `kubernetes.io/tls` Secret's private key.
const PRIVATE_KEY: &str = "tls.key";

/// So many texts are shared before those that nobody uses are dropped.
const MOST_TEXTS: usize = 4096;

/// The first bytes of a SHA-256. They are enough: who could make two Secrets of one hash would own both.
type Hash = [u8; 12];

/// A value that was read before, by the hash of what it was read from. One is kept of every Secret, so it is small.
struct KnownValue {
    hash: Hash,
    /// Which of the chosen values it stood at.
    at: u8,
    value: Weak<StoredValue>,
}

impl Borrow<Hash> for KnownValue {
    fn borrow(&self) -> &Hash {
        &self.hash
    }
}

impl std::hash::Hash for KnownValue {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.hash.hash(state);
    }
}

impl PartialEq for KnownValue {
    fn eq(&self, other: &Self) -> bool {
        self.hash == other.hash
    }
}

impl Eq for KnownValue {}

/// Decodes Secrets by what is wanted at that moment.
pub(super) struct SecretDecode {
    _wanted: watch::Receiver<Arc<Wanted>>,
    labels: SharedLabels,
    /// Types, namespaces and keys: thousands of Secrets have the same few.
    texts: Mutex<HashSet<Arc<str>>>,
    /// Values that are known, by the hash of their bytes: copies of one certificate share their facts.
    known: Mutex<HashSet<KnownValue>>,
    /// Intermediates and anchors that are known, with their bytes or without.
    issuers: Mutex<HashMap<(Fingerprint, bool), Weak<Certificate>>>,
}

impl SecretDecode {
    pub(super) fn new(wanted: watch::Receiver<Arc<Wanted>>) -> Self {
        Self {
            _wanted: wanted,
            labels: SharedLabels::default(),
            texts: Mutex::default(),
            known: Mutex::default(),
            issuers: Mutex::default(),
        }
    }

    fn shared_text(&self, text: &str) -> Arc<str> {
        let mut texts = self.texts.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = texts.get(text) {
            return known.clone();
        }
        if texts.len() >= MOST_TEXTS {
            texts.retain(|known| Arc::strong_count(known) > 1);
        }
        let text: Arc<str> = text.into();
        texts.insert(text.clone());
        text
    }

    fn issuer(&self, fingerprint: Fingerprint, with_der: bool) -> Option<Arc<Certificate>> {
        let issuers = self.issuers.lock().unwrap_or_else(PoisonError::into_inner);
        issuers.get(&(fingerprint, with_der)).and_then(Weak::upgrade)
    }

    /// The value with issuers that other values have too: thousands of leaves have the same few.
    fn shared(&self, mut value: StoredValue) -> StoredValue {
        let mut issuers = self.issuers.lock().unwrap_or_else(PoisonError::into_inner);
        let mut share = |one: &mut Arc<Certificate>| {
            let id = (one.fingerprint, one.der.is_some());
            match issuers.get(&id).and_then(Weak::upgrade) {
                Some(known) => *one = known,
                None => {
                    issuers.insert(id, Arc::downgrade(one));
                    if issuers.len().is_power_of_two() {
                        issuers.retain(|_, known| known.strong_count() > 0);
                    }
                }
            }
        };
        if let Content::Chain(chain) = &mut value.content {
            chain.intermediates.iter_mut().for_each(&mut share);
            let by = |leaf: &Certificate| chain.intermediates.iter().find(|one| one.name == leaf.issuer);
            if let Some(issuer) = by(&chain.leaf).map(|issuer| issuer.name.clone())
                && let Some(leaf) = Arc::get_mut(&mut chain.leaf)
            {
                leaf.issuer = issuer;
            }
            chain.intermediates.shrink_to_fit();
        }
        value.anchors.iter_mut().for_each(share);
        value.anchors.shrink_to_fit();
        value
    }

    /// Reads the values, or finds that the same bytes were read before.
    fn read(&self, type_: &str, data: &[(Box<str>, Value)], filter: &KeyFilter) -> Vec<(Arc<str>, Arc<StoredValue>)> {
        let chosen = |key: &str| filter.keys.iter().any(|glob| certmon_core::silence::glob(glob, key));
        let mut sha = Sha256::new();
        sha.update([u8::from(filter.keep_der), u8::from(filter.private_key)]);
        sha.update(type_);
        for (key, value) in data {
            sha.update([u8::from(chosen(key))]);
            sha.update((key.len() as u64).to_be_bytes());
            sha.update(key.as_bytes());
            sha.update((value.0.len() as u64).to_be_bytes());
            sha.update(value.0.as_slice());
        }
        let mut hash = Hash::default();
        hash.iter_mut().zip(sha.finalize()).for_each(|(to, from)| *to = from);
        let private_key = data
            .iter()
            .find(|(key, _)| &**key == PRIVATE_KEY)
            .map(|(_, value)| value.0.as_slice());
        // Where it is asked for and isn't there, that is a verdict too.
        let private_key = filter.private_key.then(|| private_key.unwrap_or_default());
        let values: Vec<(&str, &[u8])> = data
            .iter()
            .filter(|(key, _)| chosen(key))
            .map(|(key, value)| (&**key, value.0.as_slice()))
            .collect();
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = known.get(&hash)
            && let Some((key, _)) = values.get(usize::from(known.at))
            && let Some(value) = known.value.upgrade()
        {
            return vec![(self.shared_text(key), value)];
        }
        let read = catch_unwind(AssertUnwindSafe(|| {
            bundle::read_secret_knowing(type_, &values, private_key, filter.keep_der, &|fingerprint| {
                self.issuer(fingerprint, filter.keep_der)
            })
        }));
        let read: Vec<(Arc<str>, Arc<StoredValue>)> = match read {
            Ok(read) => {
                let mut values = Vec::with_capacity(read.len());
                values.extend(
                    read.into_iter()
                        .map(|(key, value)| (self.shared_text(&key), Arc::new(self.shared(value)))),
                );
                values
            }
            Err(_) => {
                tracing::error!("reading a certificate panicked; this is a fault of certmon's, please report it");
                let broken = StoredValue {
                    fault: Some(DataFault::NoCertificate),
                    ..StoredValue::default()
                };
                values
                    .iter()
                    .map(|(key, _)| ((*key).into(), Arc::new(broken.clone())))
                    .collect()
            }
        };
        // Most Secrets have one value; sharing pays for those.
        if let [(key, value)] = read.as_slice()
            && let Some(at) = values.iter().position(|(other, _)| *other == &**key)
            && let Ok(at) = u8::try_from(at)
        {
            known.replace(KnownValue {
                hash,
                at,
                value: Arc::downgrade(value),
            });
            if known.len().is_power_of_two() {
                known.retain(|known| known.value.strong_count() > 0);
            }
        }
        read
    }
}

impl Decode for SecretDecode {
    fn object(&self, json: &[u8], wanted: &Wanted) -> Option<Seen> {
        #[derive(Deserialize)]
        struct Head<'a> {
            metadata: Metadata,
            #[serde(rename = "type", default)]
            type_: Box<str>,
            /// Left as it is until it is known which keys are wanted.
            #[serde(borrow)]
            data: Option<&'a RawValue>,
        }
        let head: Head<'_> = serde_json::from_slice(json).ok()?;
        let mut key = head.metadata.key();
        key.namespace = self.shared_text(&key.namespace);
        let named = wanted.named_secrets.contains(&key);
        let by_type = wanted.secrets.get(&head.type_).and_then(|by| by.get(&*key.namespace));
        let filter = match (by_type, named) {
            (Some(filter), _) => filter.clone(),
            // One that an Ingress names, of a type that nobody selects.
            (None, true) => KeyFilter {
                keys: ["tls.crt".into()].into(),
                ..KeyFilter::default()
            },
            (None, false) => return None,
        };
        let mut data = Vec::new();
        if let Some(values) = head.data {
            let seed = ValuesSeed {
                filter: &filter,
                data: &mut data,
            };
            seed.deserialize(&mut serde_json::Deserializer::from_str(values.get()))
                .ok()?;
        }
        let values = self.read(&head.type_, &data, &filter).into();
        Some(Seen::Secret(StoredSecret {
            labels: self.labels.share(head.metadata.labels.clone()),
            type_: self.shared_text(&head.type_),
            values,
            key,
        }))
    }

    fn grown(&self, id: &WatchId, before: &Wanted, now: &Wanted) -> Vec<Box<str>> {
        let WatchId::Secrets { type_ } = id else { return vec![] };
        let (before, now) = (before.secrets.get(&**type_), now.secrets.get(&**type_));
        let filters = now.into_iter().flatten();
        filters
            .filter(|(namespace, filter)| {
                let old = before.and_then(|before| before.get(*namespace));
                !old.is_some_and(|old| old.covers(filter))
            })
            .map(|(namespace, _)| namespace.clone())
            .collect()
    }
}

/// A value while it is read. Wiped, but where it is plainly nothing but certificates.
struct Value(Vec<u8>);

impl Drop for Value {
    fn drop(&mut self) {
        let is_public =
            self.0.starts_with(b"-----BEGIN CERTIFICATE-----") && memmem::find(&self.0, b"PRIVATE KEY").is_none();
        if !is_public {
            self.0.zeroize();
        }
    }
}

/// Reads the wanted values of `data`.
struct ValuesSeed<'a> {
    filter: &'a KeyFilter,
    data: &'a mut Vec<(Box<str>, Value)>,
}

impl<'de> DeserializeSeed<'de> for ValuesSeed<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for ValuesSeed<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a Secret's data")
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(key) = map.next_key::<Cow<'de, str>>()? {
            let wanted = self
                .filter
                .keys
                .iter()
                .any(|glob| certmon_core::silence::glob(glob, &key))
                || (self.filter.private_key && key == PRIVATE_KEY);
            if wanted {
                let text = map.next_value::<Cow<'de, str>>()?;
                let bytes = STANDARD.decode(text.as_bytes()).unwrap_or_default();
                self.data.push((key.as_ref().into(), Value(bytes)));
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
    use std::collections::BTreeMap;

    type Ca = CertifiedIssuer<'static, KeyPair>;

    fn ca() -> Ca {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
    }

    /// A leaf and its issuer.
    fn chain(name: &str, ca: &Ca) -> String {
        let params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        let leaf = params.signed_by(&KeyPair::generate().unwrap(), ca).unwrap();
        format!("{}{}", leaf.pem(), ca.pem())
    }

    fn wanted() -> Wanted {
        let keys = ["tls.crt".into(), "ca.crt".into()].into();
        let lean = KeyFilter {
            keys,
            ..KeyFilter::default()
        };
        let whole = KeyFilter {
            keep_der: true,
            ..lean.clone()
        };
        let namespaces = [("shop", lean.clone()), ("pay", lean), ("trusting", whole)];
        let namespaces: BTreeMap<Box<str>, KeyFilter> = namespaces
            .into_iter()
            .map(|(name, filter)| (name.into(), filter))
            .collect();
        Wanted {
            secrets: BTreeMap::from([("kubernetes.io/tls".into(), namespaces)]),
            ..Wanted::default()
        }
    }

    /// What is kept of a Secret with this certificate and this private key.
    fn kept(decode: &SecretDecode, namespace: &str, name: &str, certificate: &str, key: &str) -> StoredSecret {
        let json = serde_json::json!({
            "metadata": { "namespace": namespace, "name": name, "uid": name },
            "type": "kubernetes.io/tls",
            "data": { "tls.crt": STANDARD.encode(certificate), "tls.key": STANDARD.encode(key) },
        });
        match decode.object(json.to_string().as_bytes(), &wanted()) {
            Some(Seen::Secret(secret)) => secret,
            other => panic!("{other:?}"),
        }
    }

    fn only(secret: &StoredSecret) -> &Arc<StoredValue> {
        match &*secret.values {
            [(key, value)] if &**key == "tls.crt" => value,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn copies_of_a_certificate_share_their_facts_and_leaves_their_issuer() {
        let decode = SecretDecode::new(watch::channel(Arc::default()).1);
        let ca = ca();
        let (shop, other) = (chain("shop.example", &ca), chain("other.example", &ca));
        let first = kept(&decode, "shop", "shop-tls", &shop, "one key");
        // The private key isn't looked at, so that another one makes no difference.
        let copy = kept(&decode, "pay", "copy-tls", &shop, "another key");
        assert!(Arc::ptr_eq(only(&first), only(&copy)));
        let different = kept(&decode, "shop", "other-tls", &other, "one key");
        assert!(!Arc::ptr_eq(only(&first), only(&different)));
        let issuer = |secret: &StoredSecret| match &only(secret).content {
            Content::Chain(chain) => chain.intermediates[0].clone(),
            content => panic!("{content:?}"),
        };
        assert!(Arc::ptr_eq(&issuer(&first), &issuer(&different)));
        assert!(Arc::ptr_eq(&first.type_, &different.type_));
        assert!(Arc::ptr_eq(&first.key.namespace, &different.key.namespace));
        // Where paths are judged the bytes stay: that is another value.
        let whole = kept(&decode, "trusting", "shop-tls", &shop, "one key");
        assert!(!Arc::ptr_eq(only(&first), only(&whole)));
        let has_bytes = |secret: &StoredSecret| only(secret).content.leaf().is_some_and(|leaf| leaf.der.is_some());
        assert_eq!((has_bytes(&first), has_bytes(&whole)), (false, true));
    }

    #[test]
    fn of_a_secret_neither_the_key_nor_what_nobody_chose_is_kept() {
        let decode = SecretDecode::new(watch::channel(Arc::default()).1);
        let certificate = format!("canary before\n{}canary behind\n", chain("shop.example", &ca()));
        for key in ["canary of a key", &KeyPair::generate().unwrap().serialize_pem()] {
            let secret = kept(&decode, "trusting", "shop-tls", &certificate, key);
            let text = format!("{secret:?}");
            assert!(!text.contains("canary") && !text.contains("PRIVATE"), "{text}");
            assert_eq!(secret.values.len(), 1, "{text}");
        }
    }

    #[test]
    fn facts_go_with_the_last_secret_that_has_them() {
        let decode = SecretDecode::new(watch::channel(Arc::default()).1);
        let shop = chain("shop.example", &ca());
        let first = kept(&decode, "shop", "shop-tls", &shop, "");
        let copy = kept(&decode, "pay", "copy-tls", &shop, "");
        let facts = Arc::downgrade(only(&first));
        drop(first);
        assert!(facts.upgrade().is_some(), "the copy still has them");
        drop(copy);
        assert!(facts.upgrade().is_none(), "nobody has them");
        let again = kept(&decode, "shop", "shop-tls", &shop, "");
        assert!(only(&again).content.leaf().is_some());
    }
}
