//! Whom to tell.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::duration::RepeatInterval;
use crate::enums::{Severity, WebhookFormat};
use crate::rules;

/// Somebody who is told.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = rules::sink()))]
pub struct Sink {
    /// Name of the sink, unique in the monitor; what the sink was told is remembered by it.
    /// Required.
    /// Allowed: a DNS label of at most 63 characters.
    /// Example: `team`.
    #[schemars(length(min = 1, max = 63), regex(pattern = rules::LABEL))]
    pub name: String,

    /// Messages to Slack.
    /// Default: none; exactly one of `slack`, `email` and `webhook` must be set.
    /// Allowed: an object with `secretRef`, and `channel` where the Secret holds a bot's token.
    /// Example: `{channel: "#shop-alerts", secretRef: {name: slack-bot}}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub slack: Option<SlackSink>,

    /// Messages by mail.
    /// Default: none; exactly one of `slack`, `email` and `webhook` must be set.
    /// Allowed: an object with `to` and `secretRef`.
    /// Example: `{to: [oncall@example.com], secretRef: {name: smtp}}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub email: Option<EmailSink>,

    /// Messages to an HTTPS endpoint of yours.
    /// Default: none; exactly one of `slack`, `email` and `webhook` must be set.
    /// Allowed: an object with `url` or `secretRef`, and `format`.
    /// Example: `{secretRef: {name: cmdb-hook}}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub webhook: Option<WebhookSink>,

    /// Findings below this severity aren't told to this sink.
    /// Default: `Warning`.
    /// Allowed: `Warning`, `Critical`.
    /// Example: `Critical`.
    #[serde(default = "default_min_severity")]
    pub min_severity: Severity,

    /// Whether the sink is told that a finding it was told of is over.
    /// Default: `true`.
    /// Allowed: `true`, `false`.
    /// Example: `false`.
    #[serde(default = "default_send_resolved")]
    pub send_resolved: bool,

    /// How often the sink is reminded of what is still open, by the worst severity.
    /// Default: `{warning: 7d, critical: 1d}`.
    /// Allowed: an object with `warning` and `critical`, each a duration from 1h or `Never`.
    /// Example: `{critical: 4h}`.
    #[serde(default)]
    pub repeat_interval: RepeatIntervals,
}

/// The one kind of sink that is set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SinkKind<'a> {
    /// `slack`.
    Slack(&'a SlackSink),
    /// `email`.
    Email(&'a EmailSink),
    /// `webhook`.
    Webhook(&'a WebhookSink),
}

impl Sink {
    /// `None` where not exactly one kind is set: the schema refuses that, an older one may not have.
    #[must_use]
    pub fn kind(&self) -> Option<SinkKind<'_>> {
        match (&self.slack, &self.email, &self.webhook) {
            (Some(slack), None, None) => Some(SinkKind::Slack(slack)),
            (None, Some(email), None) => Some(SinkKind::Email(email)),
            (None, None, Some(webhook)) => Some(SinkKind::Webhook(webhook)),
            _ => None,
        }
    }
}

const fn default_min_severity() -> Severity {
    Severity::Warning
}

const fn default_send_resolved() -> bool {
    true
}

/// Slack, by a bot or an incoming webhook.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SlackSink {
    /// Channel that a bot posts to; an incoming webhook has its own, and this is ignored.
    /// Default: none; needed where the Secret holds a `token`.
    /// Allowed: a channel's name or id of at most 81 characters.
    /// Example: `"#shop-alerts"`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 81), regex(pattern = r"^#?[^\s#@<>&:,]+$"))]
    pub channel: Option<String>,

    /// Secret of type `certmon.dev/slack` in the monitor's namespace, with `token` (a bot's) or `url`
    /// (an incoming webhook's); `apiURL` and `ca.crt` where you need them.
    /// Required.
    /// Allowed: an object with the Secret's name.
    /// Example: `{name: slack-bot}`.
    pub secret_ref: SecretRef,
}

/// Mail, over your relay.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = rules::email()))]
pub struct EmailSink {
    /// Who gets the mail; a recipient that is refused doesn't stop the others.
    /// Required.
    /// Allowed: 1 to 16 mail addresses without display names.
    /// Example: `[oncall@example.com]`.
    #[schemars(
        length(min = 1, max = 16),
        inner(length(min = 3, max = 320)),
        extend("x-kubernetes-list-type" = "set")
    )]
    pub to: Vec<String>,

    /// Secret of type `certmon.dev/smtp` in the monitor's namespace, with `host` and `from`, and
    /// `port`, `tls` (`StartTLS`, `Implicit` or `None`), `username`, `password` and `ca.crt` where you
    /// need them.
    /// Required.
    /// Allowed: an object with the Secret's name.
    /// Example: `{name: smtp}`.
    pub secret_ref: SecretRef,
}

/// An HTTPS endpoint that takes a POST.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = rules::webhook()))]
pub struct WebhookSink {
    /// Where the message is posted; a URL from the spec is sent no credential and no signature.
    /// Default: none; exactly one of `url` and `secretRef` must be set.
    /// Allowed: an https URL of at most 2048 characters, without user or password.
    /// Example: `https://cmdb.example.com/hook`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 9, max = 2048), regex(pattern = r"^[!-~]+$"))]
    pub url: Option<String>,

    /// Secret of type `certmon.dev/webhook` in the monitor's namespace, with `url`, and `signingKey`
    /// (Standard Webhooks), `authorization` and `ca.crt` where you need them.
    /// Default: none; exactly one of `url` and `secretRef` must be set.
    /// Allowed: an object with the Secret's name.
    /// Example: `{name: cmdb-hook}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_ref: Option<SecretRef>,

    /// Body of the request.
    /// Default: `Native`, certmon's own JSON.
    /// Allowed: `Native`.
    /// Example: `Native`.
    #[serde(default = "default_format")]
    pub format: WebhookFormat,
}

const fn default_format() -> WebhookFormat {
    WebhookFormat::Native
}

/// A Secret in the monitor's namespace.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SecretRef {
    /// Name of the Secret.
    /// Required.
    /// Allowed: the name of a Secret in the monitor's namespace, at most 253 characters.
    /// Example: `slack-bot`.
    #[schemars(length(min = 1, max = 253), regex(pattern = rules::OBJECT_NAME))]
    pub name: String,
}

/// Time between reminders, by severity.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = rules::repeat_intervals()))]
pub struct RepeatIntervals {
    /// Time between reminders while the worst open finding is a Warning.
    /// Default: `7d`.
    /// Allowed: a duration from 1h, one number and one unit (`d`, `h`, `m`, `s`), or `Never`.
    /// Example: `30d`.
    #[serde(default = "default_repeat_warning")]
    pub warning: RepeatInterval,

    /// Time between reminders while a Critical finding is open.
    /// Default: `1d`.
    /// Allowed: a duration from 1h, one number and one unit (`d`, `h`, `m`, `s`), or `Never`.
    /// Example: `4h`.
    #[serde(default = "default_repeat_critical")]
    pub critical: RepeatInterval,
}

impl Default for RepeatIntervals {
    fn default() -> Self {
        Self {
            warning: default_repeat_warning(),
            critical: default_repeat_critical(),
        }
    }
}

fn default_repeat_warning() -> RepeatInterval {
    "7d".into()
}

fn default_repeat_critical() -> RepeatInterval {
    "1d".into()
}
