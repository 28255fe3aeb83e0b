//! Whom a monitor trusts: its references, read and made into anchors.

use super::spec::Parsed;
use crate::{
    cluster::Key,
    world::{TrustKind, WatchId, WatchState, World},
};
use certmon_core::{hash::ShortHash, trust::Anchors};
use certmon_crd::TrustRefKind;
use std::sync::Arc;

/// Whom a monitor trusts, as anchors.
#[derive(Default)]
pub struct TrustBook {
    /// The references' values that the anchors were made of, and whether the system's roots are among them.
    made_of: Option<(bool, Vec<Arc<Anchors>>)>,
    pub(super) anchors: Option<Arc<Anchors>>,
    /// What is wrong with the references, with the next step.
    pub problem: Option<String>,
    /// Every reference was read, or is known to be missing.
    pub complete: bool,
}

impl TrustBook {
    /// The anchors' identity: it changes when somebody else is trusted.
    #[must_use]
    pub fn id(&self) -> Option<ShortHash> {
        self.anchors.as_ref().map(|anchors| anchors.id())
    }

    /// Reads the references afresh. Anchors are made again only where a value changed.
    pub fn refresh(&mut self, namespace: &str, parsed: &Parsed, world: &World, system: &Arc<Anchors>) {
        (self.problem, self.complete) = (None, true);
        let Some(trust) = &parsed.trust else {
            (self.made_of, self.anchors) = (None, None);
            return;
        };
        let mut values = Vec::new();
        for (kind, name, key) in &trust.references {
            match reference(namespace, *kind, name, key, world) {
                Ok(value) => values.push(value),
                Err(Reference::Pending) => self.complete = false,
                Err(Reference::Problem(problem)) => self.problem = self.problem.take().or(Some(problem)),
            }
        }
        let same = |made: &(bool, Vec<Arc<Anchors>>)| made.0 == trust.system && made.1 == values;
        if self.made_of.as_ref().is_some_and(same) {
            // An empty value is a problem as long as it is empty.
            self.problem = self
                .problem
                .take()
                .or_else(|| self.empty(trust.system, trust.references.is_empty()));
            return;
        }
        let own = values.iter().fold(None::<Anchors>, |all, more| {
            Some(all.map_or_else(|| Anchors::clone(more), |all| all.union(more)))
        });
        let all = match (own, trust.system) {
            (Some(own), true) => Arc::new(system.union(&own)),
            (Some(own), false) => Arc::new(own),
            (None, true) => system.clone(),
            (None, false) => Arc::new(Anchors::from_der(Vec::<Vec<u8>>::new())),
        };
        self.anchors = Some(all);
        self.made_of = Some((trust.system, values));
        self.problem = self
            .problem
            .take()
            .or_else(|| self.empty(trust.system, trust.references.is_empty()));
    }

    fn empty(&self, system: bool, no_references: bool) -> Option<String> {
        let values = self
            .made_of
            .as_ref()
            .map(|(_, values)| values.as_slice())
            .unwrap_or_default();
        let without = values.iter().any(|value| value.is_empty());
        (without || (!system && no_references))
            .then(|| "a reference of `trust` holds no certificate; put the CA's PEM into it".to_owned())
    }
}

enum Reference {
    Pending,
    Problem(String),
}

fn reference(
    namespace: &str,
    kind: TrustRefKind,
    name: &str,
    key: &str,
    world: &World,
) -> Result<Arc<Anchors>, Reference> {
    let trust_kind = match kind {
        TrustRefKind::ConfigMap => TrustKind::ConfigMap,
        TrustRefKind::Secret => TrustKind::Secret,
    };
    let id = WatchId::Trust(trust_kind, Key::new(namespace, name));
    let what = format!("{kind} {namespace}/{name}, which `trust` names,");
    let problem = |text: String| Err(Reference::Problem(text));
    let (state, listed) = world.listed(&id, namespace);
    match world.trust(&id) {
        Some(object) => object.values.get(key).cloned().ok_or_else(|| {
            let keys: Vec<&str> = object.values.keys().take(8).map(|key| &**key).collect();
            Reference::Problem(format!("{what} has no key {key}; keys: {}", keys.join(", ")))
        }),
        None if state == WatchState::Forbidden => {
            problem(format!("{what} can't be read: grant certmon `list` and `watch`"))
        }
        None if !listed => Err(Reference::Pending),
        None => problem(format!("{what} does not exist")),
    }
}
