//! Slack: an incoming webhook, or a bot whose root message is kept up to date with the history in its thread.

mod answer;
mod render;

use crate::{
    Delivery,
    config::{SlackConfig, SlackTarget},
    door::Door,
    http::{self, Request},
    secret::HttpsUrl,
};
use ::http::{HeaderMap, HeaderValue, header};
use answer::{Answer, Refusal};
use certmon_core::{
    delivery::{Failure, FailureClass, Outcome},
    message::MessageReason,
};
use chrono::{DateTime, Utc};
use secrecy::{ExposeSecret, SecretString};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use tokio::time::Instant;

pub(crate) use render::content;

/// The names in `thread`: the channel's id as Slack gave it, the root message, and the channel that was asked for.
const CHANNEL: &str = "channel";
const ROOT: &str = "ts";
const ASKED: &str = "asked";
/// The longest id of Slack's that is kept.
const LONGEST_ID: usize = 64;

/// Delivers, once. All requests of a delivery share its one deadline.
pub(crate) async fn deliver(
    door: &Door,
    config: &SlackConfig,
    delivery: &Delivery,
    now: DateTime<Utc>,
) -> Result<Outcome, Failure> {
    let deadline = Instant::now() + http::total(delivery.attempt);
    let mut body = content(&delivery.message, delivery.rung);
    merge(&mut body, render::inert());
    let caller = Caller {
        door,
        config,
        delivery,
        deadline,
        now,
    };
    let thread = match &config.target {
        SlackTarget::IncomingWebhook(url) => {
            answer::of_webhook(&caller.post(url, None, &body).await?)?;
            BTreeMap::new()
        }
        SlackTarget::Bot { api, token, channel } => {
            Bot {
                caller,
                api,
                token,
                channel,
            }
            .deliver(body)
            .await?
        }
    };
    Ok(Outcome::Delivered {
        thread,
        rejected_recipients: 0,
    })
}

struct Caller<'a> {
    door: &'a Door,
    config: &'a SlackConfig,
    delivery: &'a Delivery,
    deadline: Instant,
    now: DateTime<Utc>,
}

impl Caller<'_> {
    async fn post(&self, url: &HttpsUrl, token: Option<&SecretString>, body: &Value) -> Result<http::Reply, Failure> {
        let mut headers = HeaderMap::new();
        headers.insert(
            header::CONTENT_TYPE,
            HeaderValue::from_static("application/json; charset=utf-8"),
        );
        if let Some(token) = token {
            let bearer = zeroize::Zeroizing::new(format!("Bearer {}", token.expose_secret()));
            let mut value =
                HeaderValue::from_str(&bearer).map_err(|_| http::clear(FailureClass::CredentialsRejected))?;
            value.set_sensitive(true);
            headers.insert(header::AUTHORIZATION, value);
        }
        let request = Request {
            namespace: &self.delivery.namespace,
            url,
            tls: self.door.tls(&self.config.roots),
            headers,
            body: serde_json::to_vec(body).expect("a JSON value is JSON").into(),
            reads: true,
        };
        http::post(self.door, request, self.deadline, self.now).await
    }
}

/// A message of ours in Slack.
struct Root {
    channel: String,
    ts: String,
}

struct Bot<'a> {
    caller: Caller<'a>,
    api: &'a HttpsUrl,
    token: &'a SecretString,
    channel: &'a str,
}

impl Bot<'_> {
    /// A first message makes the root of a period. Later ones bring the root up to date and say in its thread what
    /// changed; the last one leaves nothing to refer to. Where the root is gone, the message is a new one.
    async fn deliver(&self, body: Value) -> Result<BTreeMap<String, String>, Failure> {
        let delivery = self.caller.delivery;
        let reason = delivery.message.reason;
        if reason == MessageReason::Test {
            self.post(body).await.map_err(failed)?;
            return Ok(delivery.thread.clone());
        }
        let root = match self.root().filter(|_| reason != MessageReason::First) {
            Some(root) => self.follow(root, &body).await?,
            None => None,
        };
        let root = match root {
            Some(root) => Some(root),
            None => self.post(body).await.map_err(failed)?,
        };
        if reason == MessageReason::ResolvedAll {
            return Ok(BTreeMap::new());
        }
        let keep = |root: Root| {
            [
                (CHANNEL, root.channel),
                (ROOT, root.ts),
                (ASKED, self.channel.to_owned()),
            ]
            .map(|(name, value)| (name.to_owned(), value))
            .into()
        };
        Ok(root.map(keep).unwrap_or_default())
    }

    /// The root that earlier messages left, unless the sink has another channel since.
    fn root(&self) -> Option<Root> {
        let thread = &self.caller.delivery.thread;
        let (channel, ts) = (thread.get(CHANNEL)?.clone(), thread.get(ROOT)?.clone());
        (thread.get(ASKED).map(String::as_str) == Some(self.channel)).then_some(Root { channel, ts })
    }

    /// Changes the root and answers in its thread; `None`: it can't be referred to any more.
    async fn follow(&self, root: Root, body: &Value) -> Result<Option<Root>, Failure> {
        let mut update = body.clone();
        merge(&mut update, json!({"channel": root.channel, "ts": root.ts}));
        match self.call("chat.update", &update).await {
            Ok(_) => {}
            Err(Refusal::RootGone) => return Ok(None),
            Err(Refusal::Failed(failure)) => return Err(failure),
        }
        let mut reply = body.clone();
        let loud = self.caller.delivery.message.reason == MessageReason::Escalated;
        merge(
            &mut reply,
            json!({"channel": root.channel, "thread_ts": root.ts, "reply_broadcast": loud}),
        );
        match self.call("chat.postMessage", &reply).await {
            Ok(answer) => {
                // Slack posts an answer to a deleted message beside it, without a word: that one is the root from now.
                match &answer.landed {
                    Some(thread) if thread.as_deref() != Some(root.ts.as_str()) => Ok(posted(&answer)),
                    _ => Ok(Some(root)),
                }
            }
            Err(Refusal::RootGone) => Ok(None),
            Err(Refusal::Failed(failure)) => Err(failure),
        }
    }

    async fn post(&self, mut body: Value) -> Result<Option<Root>, Refusal> {
        merge(&mut body, json!({"channel": self.channel}));
        Ok(posted(&self.call("chat.postMessage", &body).await?))
    }

    async fn call(&self, method: &str, body: &Value) -> Result<Answer, Refusal> {
        answer::of_method(
            &self
                .caller
                .post(&self.api.method(method), Some(self.token), body)
                .await?,
        )
    }
}

/// What can be referred to later, if it is of the form that Slack's ids have.
fn posted(answer: &Answer) -> Option<Root> {
    let id = |text: &Option<String>| {
        let fits = |id: &&String| {
            (1..=LONGEST_ID).contains(&id.len()) && id.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'.')
        };
        text.as_ref().filter(fits).cloned()
    };
    Some(Root {
        channel: id(&answer.channel)?,
        ts: id(&answer.ts)?,
    })
}

fn failed(refusal: Refusal) -> Failure {
    match refusal {
        Refusal::Failed(failure) => failure,
        // Only of a message that refers to another, which none of these does.
        Refusal::RootGone => Failure {
            class: FailureClass::Rejected,
            code: Some(200),
            retry_after: None,
        },
    }
}

fn merge(into: &mut Value, from: Value) {
    if let (Value::Object(into), Value::Object(from)) = (into, from) {
        into.extend(from);
    }
}
