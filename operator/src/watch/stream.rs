//! One watch of one collection: a list, streamed where the server can and in pages that stay small where it can't, then its
//! changes, for ever.
//!
//! kube's own watcher isn't used for three reasons: what is kept of a Secret depends on what monitors ask for at that moment,
//! so decoding takes an argument; a server without streaming lists answers 422, for which it has no way back; and a body that
//! can't be decoded must never be logged, since it may hold a Secret.

use super::wire::{self, End, Line, Meta, Page, read_line};
use crate::{
    cluster::Key,
    world::{Seen, Wanted, WatchId, WatchState, WorldEvent},
};
use futures::{FutureExt, future::OptionFuture};
use kube::{
    Client,
    core::{
        Request,
        params::{ListParams, WatchParams},
    },
};
use rand::Rng;
use std::{sync::Arc, time::Duration};
use tokio::{
    sync::{mpsc, watch},
    time::{sleep, timeout},
};

/// The server ends a watch after this; a watch that says nothing for a little longer is dead.
const WATCH_SECONDS: u32 = 120;
const SILENCE: Duration = Duration::from_secs(WATCH_SECONDS as u64 + 5);
/// A page may grow to this many objects while it stays below [`SMALL_PAGE`] bytes.
const LARGEST_PAGE: u32 = 500;
const FIRST_PAGE: u32 = 20;
const SMALL_PAGE: usize = 512 * 1024;
/// So many objects are told together: each telling wakes the engine.
const TOGETHER: usize = 64;
/// Failures in a row that are not yet told.
const BLIPS: u32 = 2;

/// What is watched.
#[derive(Clone)]
pub(super) struct Collection {
    pub(super) id: WatchId,
    /// `v1`, or `group/version`.
    pub(super) group: &'static str,
    pub(super) plural: &'static str,
    pub(super) namespace: Option<Box<str>>,
    pub(super) field_selector: Option<String>,
    /// Only metadata is asked for.
    pub(super) metadata: bool,
}

impl Collection {
    fn request(&self, namespace: Option<&str>) -> Request {
        let root = if self.group == "v1" { "/api" } else { "/apis" };
        Request::new(match namespace {
            Some(namespace) => format!("{root}/{}/namespaces/{namespace}/{}", self.group, self.plural),
            None => format!("{root}/{}/{}", self.group, self.plural),
        })
    }
}

/// Turns one object's JSON into what is kept of it.
pub(super) trait Decode: Send + Sync + 'static {
    /// `None` where the object is of no interest. Never fails on an object's content: that is for the object's monitor to say.
    fn object(&self, json: &[u8], wanted: &Wanted) -> Option<Seen>;

    /// Namespaces whose objects must be listed again, because more is asked of them than before.
    fn grown(&self, _id: &WatchId, _before: &Wanted, _now: &Wanted) -> Vec<Box<str>> {
        vec![]
    }
}

/// Follows a collection until the receiver of `events` is gone.
pub(super) async fn follow<D: Decode>(
    client: Client,
    collection: Collection,
    decode: D,
    wanted: watch::Receiver<Arc<Wanted>>,
    events: mpsc::Sender<WorldEvent>,
    restarted: impl Fn(),
) {
    let mut watcher = Watcher {
        client,
        collection,
        decode,
        wanted,
        events,
        untold: Vec::with_capacity(TOGETHER),
        version: String::new(),
        streaming: true,
        asked: Arc::default(),
        worked: false,
    };
    let mut failures = 0u32;
    loop {
        if watcher.version.is_empty() {
            restarted();
        }
        let end = watcher.step().await;
        if watcher.tell_all().await.is_err() {
            return;
        }
        if std::mem::take(&mut watcher.worked) {
            failures = 0;
        }
        let (state, pause) = match end {
            End::Stopped => return,
            End::Again => {
                failures = 0;
                continue;
            }
            End::Relist => {
                watcher.version.clear();
                failures = 0;
                continue;
            }
            End::NoStreaming => {
                watcher.streaming = false;
                continue;
            }
            // Rights are granted by people, and each of our tries is an audit line: no need to hurry.
            End::Forbidden => (WatchState::Forbidden, Duration::from_secs(5)),
            End::Unavailable(after) => (WatchState::Unavailable, after.unwrap_or(Duration::from_millis(250))),
        };
        // A connection that broke once or twice is nobody's news; what was seen stays as it was anyway.
        if state == WatchState::Forbidden || failures >= BLIPS {
            let event = WorldEvent::State(watcher.collection.id.clone(), state);
            if watcher.tell(event).await.is_err() {
                return;
            }
        }
        let growing = pause.saturating_mul(1 << failures.min(6)).min(Duration::from_secs(30));
        failures += 1;
        let jittered = growing.mul_f64(rand::rng().random_range(0.5..1.0));
        sleep(jittered.max(if state == WatchState::Unavailable {
            pause
        } else {
            Duration::ZERO
        }))
        .await;
    }
}

struct Watcher<D> {
    client: Client,
    collection: Collection,
    decode: D,
    wanted: watch::Receiver<Arc<Wanted>>,
    events: mpsc::Sender<WorldEvent>,
    /// What was seen and not told yet.
    untold: Vec<WorldEvent>,
    /// Where the watch goes on; empty before the first list.
    version: String,
    streaming: bool,
    /// What the lists so far were asked for.
    asked: Arc<Wanted>,
    /// The server answered since the last failure.
    worked: bool,
}

impl<D: Decode> Watcher<D> {
    async fn step(&mut self) -> End {
        if self.version.is_empty() && !self.streaming {
            self.asked = self.wanted.borrow_and_update().clone();
            if let Err(end) = self.pages(None).await {
                return end;
            }
        }
        self.watch().await
    }

    /// The namespace that a list is of: the one that is listed again, else the watch's own.
    fn within(&self, namespace: Option<&str>) -> Option<Box<str>> {
        namespace.map(Into::into).or_else(|| self.collection.namespace.clone())
    }

    /// Lists everything, or one namespace again, in pages.
    async fn pages(&mut self, namespace: Option<&str>) -> Result<(), End> {
        let asked = self.asked.clone();
        self.tell(WorldEvent::ListBegan(
            self.collection.id.clone(),
            self.within(namespace),
        ))
        .await?;
        let request = self
            .collection
            .request(namespace.or(self.collection.namespace.as_deref()));
        let (client, collection) = (self.client.clone(), self.collection.clone());
        let page_of = |limit, token| {
            let params = ListParams {
                field_selector: collection.field_selector.clone(),
                limit: Some(limit),
                continue_token: token,
                ..ListParams::default()
            };
            let request = if collection.metadata {
                request.list_metadata(&params)
            } else {
                request.list(&params)
            };
            let (client, id) = (&client, &collection.id);
            async move { wire::body(client, id, request.map_err(|_| End::Relist)?).await }
        };
        let mut limit = FIRST_PAGE;
        let mut body = page_of(limit, None).await?;
        let mut version = String::new();
        loop {
            let page: Page<'_> = serde_json::from_slice(&body).map_err(|_| End::Unavailable(None))?;
            version = if version.is_empty() {
                page.metadata.resource_version
            } else {
                version
            };
            if body.len() < SMALL_PAGE {
                limit = (limit * 2).min(LARGEST_PAGE);
            } else if body.len() > 4 * SMALL_PAGE {
                limit = (limit / 2).max(1);
            }
            // The server makes the next page while this one is decoded.
            let token = page.metadata.next.filter(|token| !token.is_empty());
            let following = OptionFuture::from(token.map(|token| page_of(limit, Some(token))));
            let decoding = async {
                for item in page.items.iter().flatten() {
                    self.applied(item.get().as_bytes()).await?;
                }
                self.tell_all().await
            };
            let (following, decoded) = futures::join!(following, decoding);
            decoded?;
            match following {
                Some(next) => body = next?,
                None => break,
            }
        }
        if namespace.is_none() {
            self.version = version;
        }
        self.tell(WorldEvent::ListEnded(
            self.collection.id.clone(),
            self.within(namespace),
            asked,
        ))
        .await
    }

    /// Watches from the last version; without one, the server streams everything first.
    async fn watch(&mut self) -> End {
        let mut listing = self.version.is_empty();
        if listing {
            self.asked = self.wanted.borrow_and_update().clone();
            if let Err(end) = self
                .tell(WorldEvent::ListBegan(self.collection.id.clone(), self.within(None)))
                .await
            {
                return end;
            }
        }
        let params = WatchParams {
            field_selector: self.collection.field_selector.clone(),
            timeout: Some(WATCH_SECONDS),
            bookmarks: true,
            send_initial_events: listing,
            ..WatchParams::default()
        };
        let request = self.collection.request(self.collection.namespace.as_deref());
        let version = self.version.clone();
        let request = if self.collection.metadata {
            request.watch_metadata(&params, &version)
        } else {
            request.watch(&params, &version)
        };
        let Ok(request) = request else { return End::Relist };
        let mut lines = match wire::open(&self.client, &self.collection.id, request).await {
            Ok(lines) => {
                self.worked = true;
                lines
            }
            Err(End::Relist) if listing => return End::NoStreaming,
            Err(end) => return end,
        };
        if !listing {
            let state = WorldEvent::State(self.collection.id.clone(), WatchState::Working);
            if let Err(end) = self.tell(state).await {
                return end;
            }
            if let Err(end) = self.grown().await {
                return end;
            }
        }
        let mut line = Vec::new();
        loop {
            // What is at hand is read before what was seen is told.
            let at_hand = if listing || !self.wanted.has_changed().unwrap_or(true) {
                read_line(&mut lines, &mut line).now_or_never()
            } else {
                None
            };
            let read = match at_hand {
                Some(read) => Ok(read),
                None => {
                    if let Err(end) = self.tell_all().await {
                        return end;
                    }
                    let mut wanted = self.wanted.clone();
                    tokio::select! {
                        read = timeout(SILENCE, read_line(&mut lines, &mut line)) => read,
                        changed = wanted.changed(), if !listing => {
                            // What was read of a line so far stays in `line`.
                            match changed {
                                Ok(()) => match self.grown().await {
                                    Ok(()) => continue,
                                    Err(end) => return end,
                                },
                                Err(_) => return End::Stopped,
                            }
                        }
                    }
                }
            };
            match read {
                Ok(Ok(true)) => {}
                Ok(Ok(false) | Err(_)) | Err(_) if listing => return End::Unavailable(None),
                Ok(Ok(false)) => return End::Again,
                // A connection that broke or fell silent: a moment's pause, then on from the last version.
                Ok(Err(_)) | Err(_) => return End::Unavailable(None),
            }
            let step = self.line(&line, &mut listing).await;
            line.clear();
            line.shrink_to(64 * 1024);
            if let Err(end) = step {
                return end;
            }
        }
    }

    async fn line(&mut self, line: &[u8], listing: &mut bool) -> Result<(), End> {
        if line.iter().all(u8::is_ascii_whitespace) {
            return Ok(());
        }
        // A line cut short, or not JSON: the connection is of no more use. Nothing of it is logged.
        let parsed: Line<'_> = serde_json::from_slice(line).map_err(|_| End::Unavailable(None))?;
        let json = parsed.object.get().as_bytes();
        let added = matches!(parsed.kind, "ADDED" | "MODIFIED");
        if added && *listing {
            // While the server streams everything, an object's version is no place to go on from: nobody reads it.
            return self.applied(json).await;
        }
        let meta = serde_json::from_slice::<Meta>(json);
        match (parsed.kind, meta) {
            ("ADDED" | "MODIFIED", Ok(meta)) => {
                self.applied(json).await?;
                self.version = meta.metadata.resource_version;
            }
            ("DELETED", Ok(meta)) => {
                let key = Key {
                    namespace: meta.metadata.namespace.clone(),
                    name: meta.metadata.name.clone(),
                };
                self.tell(WorldEvent::Deleted(self.collection.id.clone(), key)).await?;
                if !*listing {
                    self.version = meta.metadata.resource_version;
                }
            }
            ("BOOKMARK", Ok(meta)) => {
                let end = meta.metadata.annotations.as_ref().is_some_and(|all| all.end.is_some());
                self.version.clone_from(&meta.metadata.resource_version);
                if *listing && end {
                    *listing = false;
                    let ended =
                        WorldEvent::ListEnded(self.collection.id.clone(), self.within(None), self.asked.clone());
                    self.tell(ended).await?;
                    self.grown().await?;
                }
            }
            (
                "ERROR",
                Ok(Meta {
                    code: Some(429 | 500..=599),
                    ..
                }),
            ) => return Err(End::Unavailable(None)),
            ("ERROR", _) => return Err(End::Relist),
            _ => {}
        }
        Ok(())
    }

    /// Lists again the namespaces of which more is asked than before.
    async fn grown(&mut self) -> Result<(), End> {
        let now = self.wanted.borrow_and_update().clone();
        let before = std::mem::replace(&mut self.asked, now.clone());
        for namespace in self.decode.grown(&self.collection.id, &before, &now) {
            if self.collection.namespace.as_ref().is_none_or(|own| *own == namespace)
                && let Err(end) = self.pages(Some(&namespace)).await
            {
                // The next watch asks again for all of it.
                self.asked = before;
                return Err(end);
            }
        }
        Ok(())
    }

    async fn applied(&mut self, json: &[u8]) -> Result<(), End> {
        match self.decode.object(json, &self.asked) {
            Some(seen) => self.tell(WorldEvent::Applied(self.collection.id.clone(), seen)).await,
            None => Ok(()),
        }
    }

    /// Objects are told together, when there are some or nothing more is at hand; anything else at once.
    async fn tell(&mut self, event: WorldEvent) -> Result<(), End> {
        let waits = matches!(event, WorldEvent::Applied(..));
        self.untold.push(event);
        if waits && self.untold.len() < TOGETHER {
            return Ok(());
        }
        self.tell_all().await
    }

    async fn tell_all(&mut self) -> Result<(), End> {
        if self.untold.is_empty() {
            return Ok(());
        }
        let permits = self.events.reserve_many(self.untold.len()).await;
        for (permit, event) in permits.map_err(|_| End::Stopped)?.zip(self.untold.drain(..)) {
            permit.send(event);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
