//! Whom a monitor trusts: its references, read and made into anchors.

use super::spec::Parsed;
use crate::{
    cluster::Key,
    world::{TrustKind, WatchId, WatchState, World},
};
use certmon_core::{
    certificate::Fingerprint,
    hash::ShortHash,
    observation::{Content, PathVerdict, StoredValue},
    place::Place,
    trust::{self, Anchors},
};
use certmon_crd::TrustRefKind;
use chrono::{DateTime, Utc};
use std::{collections::HashMap, sync::Arc};

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

/// What a stored value's path was judged as, and by what.
pub type Paths = HashMap<Place, Path>;

/// A verdict about a stored chain, what it is about, and until when it holds.
pub struct Path {
    of: Arc<StoredValue>,
    by: ShortHash,
    judged_at: DateTime<Utc>,
    /// An anchor begins or ends then.
    until: Option<DateTime<Utc>>,
    verdict: PathVerdict,
    dispensable: Vec<Fingerprint>,
}

/// The path of a stored chain, where the monitor says whom it trusts. Verdicts are kept as long as value and trust last.
pub(super) fn stored_path(
    book: &TrustBook,
    paths: &mut Paths,
    place: &Place,
    value: &Arc<StoredValue>,
    now: DateTime<Utc>,
) -> Option<(PathVerdict, Vec<Fingerprint>)> {
    let anchors = book.anchors.as_ref()?;
    if book.problem.is_some() || !book.complete {
        return Some((PathVerdict::NotJudged, vec![]));
    }
    let Content::Chain(chain) = &value.content else {
        return None;
    };
    if let Some(known) = paths.get(place)
        && Arc::ptr_eq(&known.of, value)
        && known.by == anchors.id()
        && known.judged_at <= now
        && known.until.is_none_or(|until| now < until)
    {
        return Some((known.verdict, known.dispensable.clone()));
    }
    let mut judge = |chain: &_| trust::judge(chain, anchors, &[], now);
    let verdict = judge(chain);
    let dispensable = if verdict == PathVerdict::Trusted {
        trust::dispensable(chain, &mut judge)
    } else {
        vec![]
    };
    let path = Path {
        of: value.clone(),
        by: anchors.id(),
        judged_at: now,
        until: anchors.next_change(now),
        verdict,
        dispensable: dispensable.clone(),
    };
    paths.insert(place.clone(), path);
    Some((verdict, dispensable))
}
