//! The receivers of the kill loops, all seen as one kind of thing.

use anyhow::Result;
use certmon_e2e::sinks::{HttpSink, Moment, SigningKey, SmtpSecurity, SmtpSink};
use serde_json::{Value, json};

use crate::stories::{sinks::KEY, text_secret};

/// What a monitor tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    SlackWebhook,
    SlackBot,
    Email,
    Webhook,
}

impl Kind {
    /// For its namespace.
    pub(super) fn hint(self) -> &'static str {
        match self {
            Self::SlackWebhook => "kill-slack",
            Self::SlackBot => "kill-bot",
            Self::Email => "kill-email",
            Self::Webhook => "kill-webhook",
        }
    }

    /// A bot brings its first message up to date, and answers in its thread.
    pub(super) fn requests_of_an_end(self) -> usize {
        match self {
            Self::SlackBot => 2,
            _ => 1,
        }
    }
}

/// One message as it came.
#[derive(Debug)]
pub(super) struct Arrival {
    /// What a receiver tells duplicates by; Slack has nothing of the kind.
    pub(super) id: Option<String>,
    /// All that a person would see, and where it went.
    pub(super) content: String,
}

impl Arrival {
    /// Whether this stands in it, soft line breaks of mails aside.
    pub(super) fn says(&self, part: &str) -> bool {
        self.content.replace("=\r\n", "").contains(part)
    }
}

/// A receiver of one monitor's messages.
#[derive(Debug)]
pub(super) enum Receiver {
    Http(Kind, HttpSink),
    Mail(SmtpSink),
}

impl Receiver {
    pub(super) async fn start(kind: Kind) -> Result<Self> {
        Ok(match kind {
            Kind::SlackWebhook | Kind::SlackBot => Self::Http(kind, HttpSink::slack().await?),
            Kind::Webhook => Self::Http(kind, HttpSink::webhook(vec![SigningKey::parse(KEY)?]).await?),
            Kind::Email => Self::Mail(SmtpSink::start(SmtpSecurity::StartTls).await?),
        })
    }

    pub(super) fn port(&self) -> u16 {
        match self {
            Self::Http(_, sink) => sink.port(),
            Self::Mail(sink) => sink.port(),
        }
    }

    pub(super) fn observe(&self, observer: impl Fn(Moment) + Send + Sync + 'static) {
        match self {
            Self::Http(_, sink) => sink.observe(observer),
            Self::Mail(sink) => sink.observe(observer),
        }
    }

    /// The Secret of the sink.
    pub(super) fn secret(&self, name: &str) -> Value {
        match self {
            Self::Http(Kind::SlackBot, sink) => text_secret(
                name,
                "certmon.dev/slack",
                &json!({ "token": "xoxb-1", "apiURL": sink.url("/api/"), "ca.crt": sink.ca_pem() }),
            ),
            Self::Http(Kind::SlackWebhook, sink) => text_secret(
                name,
                "certmon.dev/slack",
                &json!({ "url": sink.url("/services/T0/B0/x"), "ca.crt": sink.ca_pem() }),
            ),
            Self::Http(_, sink) => text_secret(
                name,
                "certmon.dev/webhook",
                &json!({ "url": sink.url("/hook"), "signingKey": KEY, "ca.crt": sink.ca_pem() }),
            ),
            Self::Mail(sink) => text_secret(
                name,
                "certmon.dev/smtp",
                &json!({
                    "host": "127.0.0.1",
                    "port": sink.port().to_string(),
                    "from": "certmon@example.com",
                    "ca.crt": sink.ca_pem(),
                }),
            ),
        }
    }

    /// The sink as a monitor names it.
    pub(super) fn sink(&self, secret: &str) -> Value {
        let secret = json!({ "name": secret });
        match self {
            Self::Http(Kind::SlackBot, _) => {
                json!({ "name": "team", "slack": { "channel": "#certificates", "secretRef": secret } })
            }
            Self::Http(Kind::SlackWebhook, _) => json!({ "name": "team", "slack": { "secretRef": secret } }),
            Self::Http(..) => json!({ "name": "team", "webhook": { "secretRef": secret } }),
            Self::Mail(_) => {
                json!({ "name": "team", "email": { "to": ["oncall@example.com"], "secretRef": secret } })
            }
        }
    }

    /// What came so far, oldest first.
    pub(super) fn arrivals(&self) -> Vec<Arrival> {
        match self {
            Self::Http(_, sink) => {
                let received = sink.received().into_iter();
                received
                    .map(|message| Arrival {
                        id: message.headers.get("webhook-id").cloned(),
                        content: format!("{}\n{}", message.path, String::from_utf8_lossy(&message.body)),
                    })
                    .collect()
            }
            Self::Mail(sink) => {
                let mails = sink.mails().into_iter();
                mails
                    .map(|mail| Arrival {
                        id: mail
                            .data
                            .lines()
                            .find(|line| line.starts_with("Message-ID:"))
                            .map(str::to_owned),
                        content: format!("{:?}\n{}", mail.to, mail.data),
                    })
                    .collect()
            }
        }
    }
}
