//! What all monitors together ask to be watched.

use super::{TrustKind, WatchId};
use crate::cluster::Key;
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

/// The most Secret types that are watched at a time.
pub const MOST_TYPES: usize = 16;
/// The most Secrets of one namespace that are watched by name at a time: each is a connection to the API server.
pub const MOST_NAMED_OF_NAMESPACE: usize = 64;
/// And the most of all namespaces.
const MOST_NAMED: usize = 512;

/// What is kept of the Secrets of one type in one namespace.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KeyFilter {
    /// Names and globs of keys.
    pub keys: BTreeSet<Box<str>>,
    /// Private keys are compared (and wiped).
    pub private_key: bool,
    /// Certificates keep their bytes, because some monitor there judges paths.
    pub keep_der: bool,
}

impl KeyFilter {
    /// Everything that `other` asks for is asked for here too.
    #[must_use]
    pub fn covers(&self, other: &Self) -> bool {
        self.keys.is_superset(&other.keys)
            && (self.private_key || !other.private_key)
            && (self.keep_der || !other.keep_der)
    }

    /// Asks for what `other` asks for too.
    pub fn extend(&mut self, other: &Self) {
        self.keys.extend(other.keys.iter().cloned());
        self.private_key |= other.private_key;
        self.keep_der |= other.keep_der;
    }
}

/// What all monitors together ask to be watched.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wanted {
    /// Secrets: by type, then by namespace.
    pub secrets: BTreeMap<Box<str>, BTreeMap<Box<str>, KeyFilter>>,
    /// Single Secrets, whatever their type.
    pub named_secrets: BTreeSet<Key>,
    /// Namespaces whose Ingresses are asked for.
    pub ingresses: BTreeSet<Box<str>>,
    /// Objects of trust references.
    pub trust: BTreeSet<(TrustKind, Key)>,
    /// Types of sinks' Secrets, and the namespaces that have such sinks.
    pub sink_secrets: BTreeMap<Box<str>, BTreeSet<Box<str>>>,
}

impl Wanted {
    /// Leaves out the Secret types past [`MOST_TYPES`], each of which is a watch, and the single Secrets past their bounds:
    /// whoever may create a monitor may name any.
    pub fn limit(&mut self) {
        for type_ in self.by_turn().into_iter().skip(MOST_TYPES) {
            self.secrets.remove(&type_);
        }
        let mut of_namespace: BTreeMap<Arc<str>, usize> = BTreeMap::new();
        let mut all = 0;
        self.named_secrets.retain(|key| {
            let count = of_namespace.entry(key.namespace.clone()).or_default();
            let fits = *count < MOST_NAMED_OF_NAMESPACE && all < MOST_NAMED;
            *count += usize::from(fits);
            all += usize::from(fits);
            fits
        });
    }

    /// The types, in the order in which namespaces would name them in turn, one at a time: a namespace that names many takes
    /// nothing from one that names few. `kubernetes.io/tls` is everybody's.
    fn by_turn(&self) -> Vec<Box<str>> {
        let usual = |type_: &str| type_ != "kubernetes.io/tls";
        let mut named: BTreeMap<&str, usize> = BTreeMap::new();
        let mut types = Vec::with_capacity(self.secrets.len());
        for (type_, namespaces) in &self.secrets {
            let mut turn = usize::MAX;
            for namespace in namespaces.keys() {
                let so_far = named.entry(namespace).or_default();
                turn = turn.min(*so_far);
                *so_far += usize::from(usual(type_));
            }
            types.push((usual(type_), turn, type_.clone()));
        }
        types.sort();
        types.into_iter().map(|(_, _, type_)| type_).collect()
    }

    /// Whether [`Self::limit`] leaves a single Secret out.
    #[must_use]
    pub fn leaves_out_named(&self, key: &Key) -> bool {
        let of_namespace = self.named_secrets.iter().filter(|one| one.namespace == key.namespace);
        !self.named_secrets.contains(key)
            && (self.named_secrets.len() >= MOST_NAMED || of_namespace.count() >= MOST_NAMED_OF_NAMESPACE)
    }

    /// The watches that this takes; monitors are always watched.
    #[must_use]
    pub fn watches(&self) -> BTreeSet<WatchId> {
        let mut watches = BTreeSet::from([WatchId::Monitors]);
        watches.extend(self.secrets.keys().map(|type_| WatchId::Secrets {
            type_: (&**type_).into(),
        }));
        watches.extend(self.named_secrets.iter().cloned().map(WatchId::Secret));
        watches.extend((!self.ingresses.is_empty()).then_some(WatchId::Ingresses));
        watches.extend(self.trust.iter().cloned().map(|(kind, key)| WatchId::Trust(kind, key)));
        watches.extend(
            self.sink_secrets
                .keys()
                .map(|type_| WatchId::SinkSecrets { type_: type_.clone() }),
        );
        watches
    }

    /// `id`'s part for `namespace` asks for nothing that `self` doesn't.
    pub(super) fn covers(&self, other: &Self, id: &WatchId, namespace: &str) -> bool {
        match id {
            WatchId::Monitors | WatchId::Secret(_) | WatchId::Trust(..) => true,
            WatchId::Secrets { type_ } => {
                let asked = other.secrets.get(&**type_).and_then(|by| by.get(namespace));
                let given = self.secrets.get(&**type_).and_then(|by| by.get(namespace));
                asked.is_none_or(|asked| given.is_some_and(|given| given.covers(asked)))
            }
            WatchId::Ingresses => !other.ingresses.contains(namespace) || self.ingresses.contains(namespace),
            WatchId::SinkSecrets { type_ } => {
                let has = |wanted: &Self| wanted.sink_secrets.get(type_).is_some_and(|by| by.contains(namespace));
                !has(other) || has(self)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_namespace_that_names_many_types_takes_none_from_one_that_names_few() {
        let mut wanted = Wanted::default();
        let mut want = |namespace: &str, type_: &str| {
            let of_type = wanted.secrets.entry(type_.into()).or_default();
            of_type.insert(namespace.into(), KeyFilter::default());
        };
        for number in 0..24 {
            want("greedy", &format!("A{number:02}"));
        }
        want("greedy", "kubernetes.io/tls");
        want("shop", "Opaque");
        want("pay", "zz.example/last");
        wanted.limit();
        let kept: Vec<&str> = wanted.secrets.keys().map(|type_| &**type_).collect();
        assert_eq!(kept.len(), MOST_TYPES);
        for type_ in ["kubernetes.io/tls", "Opaque", "zz.example/last", "A00"] {
            assert!(kept.contains(&type_), "{type_} of {kept:?}");
        }
        assert!(!kept.contains(&"A23"), "{kept:?}");
    }

    #[test]
    fn secrets_that_are_watched_by_name_are_bounded_for_each_namespace_and_for_all() {
        let mut wanted = Wanted::default();
        for namespace in 0..20 {
            let of = |number| Key::new(&format!("team-{namespace:02}"), &format!("s{number:03}"));
            wanted.named_secrets.extend((0..200).map(of));
        }
        let all = wanted.named_secrets.clone();
        wanted.limit();
        assert_eq!(wanted.named_secrets.len(), MOST_NAMED);
        let of_first = wanted.named_secrets.iter().filter(|key| &*key.namespace == "team-00");
        assert_eq!(of_first.count(), MOST_NAMED_OF_NAMESPACE);
        for key in all {
            assert_eq!(
                wanted.leaves_out_named(&key),
                !wanted.named_secrets.contains(&key),
                "{key}"
            );
        }
        let few = Wanted {
            named_secrets: [Key::new("shop", "a")].into(),
            ..Wanted::default()
        };
        assert!(!few.leaves_out_named(&Key::new("shop", "b")), "it may be asked for");
    }
}
