//! Whom to tell, parsed from the spec. Destination and credential stand in a typed Secret, never here.

/// A sink of a monitor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SinkKind {
    /// Slack, by bot token or incoming webhook.
    Slack {
        /// Needed with a token; ignored with a webhook URL.
        channel: Option<String>,
        /// A Secret of type `certmon.dev/slack`.
        secret: String,
    },
    /// Mail over SMTP.
    Email {
        /// 1–16 addresses.
        to: Vec<String>,
        /// A Secret of type `certmon.dev/smtp`.
        secret: String,
    },
    /// An HTTPS receiver of the Native body.
    Webhook(WebhookTarget),
}

/// Where a webhook goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WebhookTarget {
    /// A Secret of type `certmon.dev/webhook` has the URL, and possibly a signing key.
    Secret(String),
    /// A URL of the spec: it never gets a credential.
    Url(String),
}

impl SinkKind {
    /// The name of the Secret that is read, if there is one.
    #[must_use]
    pub fn secret(&self) -> Option<&str> {
        match self {
            Self::Slack { secret, .. } | Self::Email { secret, .. } | Self::Webhook(WebhookTarget::Secret(secret)) => {
                Some(secret)
            }
            Self::Webhook(WebhookTarget::Url(_)) => None,
        }
    }

    /// The type that the Secret must have.
    #[must_use]
    pub fn secret_type(&self) -> &'static str {
        match self {
            Self::Slack { .. } => "certmon.dev/slack",
            Self::Email { .. } => "certmon.dev/smtp",
            Self::Webhook(_) => "certmon.dev/webhook",
        }
    }

    /// The name of the kind in metrics and texts.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Slack { .. } => "slack",
            Self::Email { .. } => "email",
            Self::Webhook(_) => "webhook",
        }
    }
}
