//! The Secrets of one namespace in the order of their names, each name once in memory: the name that a Secret has anyway.

use super::{Held, StoredSecret};
use std::{borrow::Borrow, cmp::Ordering, collections::BTreeSet};

/// Boxed, since the nodes of a tree that grows at its end stay half empty.
#[derive(Debug)]
struct ByName(Box<Held<StoredSecret>>);

impl Borrow<str> for ByName {
    fn borrow(&self) -> &str {
        &self.0.object.key.name
    }
}

impl Ord for ByName {
    fn cmp(&self, other: &Self) -> Ordering {
        Borrow::<str>::borrow(self).cmp(other.borrow())
    }
}

impl PartialOrd for ByName {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for ByName {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for ByName {}

/// The Secrets of one namespace that are held.
#[derive(Debug, Default)]
pub(super) struct SecretsByName(BTreeSet<ByName>);

impl SecretsByName {
    pub(super) fn get(&self, name: &str) -> Option<&Held<StoredSecret>> {
        self.0.get(name).map(|held| &*held.0)
    }

    /// Puts one in; gives back the one of this name that was there.
    pub(super) fn insert(&mut self, held: Held<StoredSecret>) -> Option<Box<Held<StoredSecret>>> {
        self.0.replace(ByName(Box::new(held))).map(|old| old.0)
    }

    pub(super) fn remove(&mut self, name: &str) {
        self.0.remove(name);
    }

    pub(super) fn retain(&mut self, keep: impl Fn(&Held<StoredSecret>) -> bool) {
        self.0.retain(|held| keep(&held.0));
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// By name.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Held<StoredSecret>> {
        self.0.iter().map(|held| &*held.0)
    }
}
