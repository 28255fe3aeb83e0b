//! Receivers of messages on loopback: what Slack, a webhook's owner and a mail relay would be.
//!
//! Each records what arrives and can be told what to answer: per message by a queue of answers, and once that is
//! empty by a standing one. A message is recorded before it is answered, so a test may kill the sender in between.

mod http;
mod signature;
mod smtp;

pub use http::{Answer, HttpSink, Received};
pub use signature::SigningKey;
pub use smtp::{Mail, SmtpScript, SmtpSecurity, SmtpSink, Stage};
