//! Receivers of messages on loopback: what Slack, a webhook's owner and a mail relay would be.
//!
//! Each records what arrives and can be told what to answer: per message by a queue of answers, and once that is
//! empty by a standing one. A message is recorded before it is answered, so a test may kill the sender in between: an
//! observer sees each [`Moment`].

mod http;
mod quoted;
mod signature;
mod smtp;

pub use http::{Answer, HttpSink, Received};
pub use quoted::quoted_printable;
pub use signature::SigningKey;
pub use smtp::{Mail, SmtpScript, SmtpSecurity, SmtpSink, Stage};

use std::fmt;
use std::sync::{Arc, PoisonError, RwLock};

/// What a receiver sees of a delivery, before it does anything more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Moment {
    /// A connection was accepted, and nothing read of it.
    Accepted,
    /// A message has come whole and is recorded, and nothing of an answer was said.
    Received,
}

type Observe = Arc<dyn Fn(Moment) + Send + Sync>;

/// Who is called at each moment.
#[derive(Default)]
struct Observer(RwLock<Option<Observe>>);

impl Observer {
    fn set(&self, observer: impl Fn(Moment) + Send + Sync + 'static) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Some(Arc::new(observer));
    }

    fn see(&self, moment: Moment) {
        let observer = self.0.read().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some(observer) = observer {
            observer(moment);
        }
    }
}

impl fmt::Debug for Observer {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Observer")
    }
}
