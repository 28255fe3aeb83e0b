//! The sinks: what arrives at each, and how it answers.

use super::timeline::Timeline;
use certmon_core::{
    delivery::{Failure, FailureClass, Misconfigured, Outcome},
    message::Message,
    sink::SinkKind,
};
use certmon_notify::{Delivery, Sink, SinkFault, SinkSecret};
use chrono::TimeDelta;
use futures::{FutureExt, future::BoxFuture};
use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

/// From the message on the wire to the answer.
const ANSWER: Duration = Duration::from_millis(40);
/// The longest that an attempt takes.
const LONGEST: Duration = Duration::from_secs(16);

/// How a sink answers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Answer {
    /// It accepts.
    #[default]
    Accepts,
    /// It refuses, or nobody is there: nothing arrives.
    Refuses(FailureClass),
    /// The message arrives, and the connection breaks before the answer.
    BreaksOff,
    /// The message arrives, and no answer ever comes.
    Hangs,
    /// The message arrives, and whoever delivers it panics.
    Panics,
}

/// A message that arrived.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Arrival {
    /// Paused time since the story began.
    pub(crate) at: TimeDelta,
    pub(crate) message: Message,
}

#[derive(Default)]
struct State {
    answers: BTreeMap<String, Answer>,
    arrivals: Vec<Arrival>,
    refused: BTreeMap<String, u32>,
    /// Secrets of sinks over which a check panics, and those over which going over a monitor does.
    panics: BTreeMap<String, Panics>,
}

/// What panics over a sink.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Panics {
    /// Its check, beside the engine.
    Check,
    /// What the engine asks of it while it goes over a monitor.
    Pass,
}

/// All sinks of a story.
pub(crate) struct Receivers {
    state: Mutex<State>,
    timeline: Arc<Timeline>,
}

impl Receivers {
    pub(crate) fn new(timeline: Arc<Timeline>) -> Self {
        Self {
            state: Mutex::default(),
            timeline,
        }
    }

    fn with<T>(&self, with: impl FnOnce(&mut State) -> T) -> T {
        with(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// A sink answers so from now on.
    pub(crate) fn set(&self, sink: &str, answer: Answer) {
        self.with(|state| state.answers.insert(sink.to_owned(), answer));
    }

    /// Something panics over the sink that has this Secret, from now on, or nothing.
    pub(crate) fn panic_over(&self, secret: &str, panics: Option<Panics>) {
        self.with(|state| match panics {
            Some(panics) => state.panics.insert(secret.to_owned(), panics),
            None => state.panics.remove(secret),
        });
    }

    fn panic_if(&self, kind: &SinkKind, panics: Panics) {
        let secret = kind.secret().unwrap_or_default();
        let due = self.with(|state| state.panics.get(secret) == Some(&panics));
        assert!(!due, "{panics:?} of {secret} panics");
    }

    /// Everything that arrived, in order.
    pub(crate) fn arrivals(&self) -> Vec<Arrival> {
        self.with(|state| state.arrivals.clone())
    }

    fn arrive(&self, message: &Message, answer: Answer) {
        let at = self.timeline.clock().elapsed();
        let refused = self.with(|state| {
            if matches!(answer, Answer::Refuses(_)) {
                let refused = state.refused.entry(message.sink.clone()).or_default();
                *refused += 1;
                return *refused;
            }
            state.arrivals.push(Arrival {
                at,
                message: message.clone(),
            });
            match answer {
                Answer::Accepts => state.refused.remove(&message.sink).unwrap_or(0),
                _ => 0,
            }
        });
        self.timeline.message(message, answer, refused);
    }
}

impl Sink for Receivers {
    fn check<'a>(
        &'a self,
        namespace: &'a str,
        kind: &'a SinkKind,
        secret: Option<&'a SinkSecret>,
    ) -> BoxFuture<'a, Result<Vec<String>, SinkFault>> {
        let fault = |class: Misconfigured| {
            let name = kind.secret().unwrap_or_default();
            Err(SinkFault {
                class,
                text: format!("Secret {namespace}/{name}: {}", class.text()),
            })
        };
        let checked = match (kind.secret(), secret) {
            (None, _) => Ok(vec![]),
            (Some(_), None) => fault(Misconfigured::SecretMissing),
            (Some(_), Some(secret)) if secret.type_ != kind.secret_type() => fault(Misconfigured::WrongType),
            (Some(_), Some(_)) => Ok(vec![]),
        };
        async move {
            self.panic_if(kind, Panics::Check);
            checked
        }
        .boxed()
    }

    fn deliver(&self, delivery: Delivery) -> BoxFuture<'_, Outcome> {
        async move {
            let message = delivery.message;
            let answer = self.with(|state| state.answers.get(&message.sink).copied().unwrap_or_default());
            self.arrive(&message, answer);
            let failed = |class| {
                Outcome::Failed(Failure {
                    class,
                    code: None,
                    retry_after: None,
                })
            };
            tokio::time::sleep(ANSWER).await;
            match answer {
                Answer::Accepts => Outcome::Delivered {
                    thread: BTreeMap::new(),
                    rejected_recipients: 0,
                },
                Answer::Refuses(class) => failed(class),
                Answer::BreaksOff => failed(FailureClass::Ambiguous),
                Answer::Panics => panic!("a delivery to {} panics", message.sink),
                Answer::Hangs => {
                    tokio::time::sleep(LONGEST - ANSWER).await;
                    failed(FailureClass::Ambiguous)
                }
            }
        }
        .boxed()
    }

    fn longest_attempt(&self, kind: &SinkKind, _attempt: u32) -> Duration {
        self.panic_if(kind, Panics::Pass);
        LONGEST
    }
}
