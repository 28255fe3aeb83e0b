//! What a sink's Secret and spec amount to: each kind its own type, complete or refused.

use crate::{
    SinkFault, SinkSecret,
    secret::{HttpsUrl, Parsed, Reader},
    tls::Roots,
};
use base64::{
    Engine,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};
use certmon_core::{
    delivery::Misconfigured,
    place::Host,
    sink::{SinkKind, WebhookTarget},
};
use lettre::{Address, message::Mailbox};
use secrecy::{SecretSlice, SecretString};

/// Where Slack's Web API is, unless the Secret says otherwise.
const SLACK_API: &str = "https://slack.com/api/";
/// How long a signing key may be, in bytes (Standard Webhooks 1.0.0).
const SIGNING_KEY_BYTES: std::ops::RangeInclusive<usize> = 24..=64;
const SIGNING_KEY: &str =
    "isn't one `whsec_…` key, or two separated by a space; a key is whsec_ and the base64 of 24 to 64 random bytes";

/// Any of the sinks.
pub(crate) enum Config {
    Slack(SlackConfig),
    Smtp(SmtpConfig),
    Webhook(WebhookConfig),
}

/// Slack.
pub(crate) struct SlackConfig {
    pub(crate) target: SlackTarget,
    pub(crate) roots: Roots,
}

/// Which of Slack's two doors.
pub(crate) enum SlackTarget {
    /// Its channel is fixed; messages can't be changed or answered.
    IncomingWebhook(HttpsUrl),
    /// `chat.postMessage` and its like.
    Bot {
        api: HttpsUrl,
        token: SecretString,
        channel: String,
    },
}

/// A mail server, and who is told.
pub(crate) struct SmtpConfig {
    pub(crate) host: Host,
    pub(crate) port: u16,
    pub(crate) tls: SmtpTls,
    /// AUTH happens only with it.
    pub(crate) login: Option<Login>,
    pub(crate) from: Mailbox,
    pub(crate) to: Vec<Address>,
    pub(crate) roots: Roots,
}

/// When a mail connection is encrypted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum SmtpTls {
    /// After STARTTLS, and not at all where the server doesn't offer it.
    StartTls,
    /// From the first byte.
    Implicit,
    /// Never.
    None,
}

/// Who sends mail.
pub(crate) struct Login {
    pub(crate) username: String,
    pub(crate) password: SecretString,
}

/// A receiver of the Native body.
pub(crate) struct WebhookConfig {
    pub(crate) url: HttpsUrl,
    /// One, or two while rotating; none: not signed.
    pub(crate) signing_keys: Vec<SecretSlice<u8>>,
    pub(crate) authorization: Option<SecretString>,
    pub(crate) roots: Roots,
}

impl Config {
    /// Reads a sink's Secret and spec.
    ///
    /// # Errors
    /// What is wrong, and what to do.
    pub(crate) fn parse(
        namespace: &str,
        kind: &SinkKind,
        secret: Option<&SinkSecret>,
    ) -> Result<Parsed<Self>, SinkFault> {
        match kind {
            SinkKind::Webhook(WebhookTarget::Url(url)) => webhook_of_spec(url),
            SinkKind::Webhook(WebhookTarget::Secret(_)) => webhook(Reader::open(namespace, kind, secret)?),
            SinkKind::Slack { channel, .. } => slack(Reader::open(namespace, kind, secret)?, channel.as_deref()),
            SinkKind::Email { to, .. } => smtp(Reader::open(namespace, kind, secret)?, to),
        }
    }

    /// Where it dials.
    pub(crate) fn address(&self) -> (&Host, u16) {
        match self {
            Self::Slack(slack) => {
                let (SlackTarget::IncomingWebhook(url) | SlackTarget::Bot { api: url, .. }) = &slack.target;
                (url.host(), url.port())
            }
            Self::Smtp(smtp) => (&smtp.host, smtp.port),
            Self::Webhook(webhook) => (webhook.url.host(), webhook.url.port()),
        }
    }
}

fn slack(secret: Reader<'_>, channel: Option<&str>) -> Result<Parsed<Config>, SinkFault> {
    let (url, token, api) = (secret.url("url")?, secret.header("token")?, secret.url("apiURL")?);
    let roots = secret.roots()?;
    let target = match (url, token) {
        (Some(_), Some(_)) => {
            let rest = "has both `url` and `token`; keep `token` for a bot or `url` for an incoming webhook";
            return Err(secret.fault(Misconfigured::Conflict, rest));
        }
        (None, None) => return Err(secret.missing("`token` or `url`")),
        (Some(url), None) => {
            if channel.is_some() {
                secret.remark("has an incoming webhook, which has its channel: the sink's `slack.channel` is ignored");
            }
            if api.is_some() {
                secret.remark("has an incoming webhook: the key `apiURL` is ignored");
            }
            SlackTarget::IncomingWebhook(url)
        }
        (None, Some(token)) => {
            let Some(channel) = channel.filter(|channel| !channel.trim().is_empty()) else {
                let rest = "has a `token`, which needs a channel; set `slack.channel` of the sink";
                return Err(secret.fault(Misconfigured::KeyMissing, rest));
            };
            let default = || HttpsUrl::parse(SLACK_API).expect("a URL that is written here");
            let api = api.unwrap_or_else(default);
            SlackTarget::Bot {
                api,
                token: token.to_owned().into(),
                channel: channel.to_owned(),
            }
        }
    };
    Ok(secret.done(Config::Slack(SlackConfig { target, roots })))
}

fn smtp(secret: Reader<'_>, to: &[String]) -> Result<Parsed<Config>, SinkFault> {
    let host = mail_host(&secret)?;
    let (tls, port) = match secret.text("tls")? {
        None | Some("StartTLS") => (SmtpTls::StartTls, 587),
        Some("Implicit") => (SmtpTls::Implicit, 465),
        Some("None") => (SmtpTls::None, 25),
        Some(_) => return Err(secret.bad("tls", "is none of StartTLS, Implicit, None; write one of these")),
    };
    let port = match secret.text("port")? {
        None => port,
        Some(text) => text
            .parse()
            .ok()
            .filter(|port| *port != 0)
            .ok_or_else(|| secret.bad("port", "isn't a number from 1 to 65535"))?,
    };
    let login = match (secret.text("username")?, secret.text("password")?) {
        (Some(_), _) if tls == SmtpTls::None => {
            let rest = "has a `username` with `tls: None`, which would send the password in the clear; use StartTLS or Implicit, or take `username` and `password` out";
            return Err(secret.fault(Misconfigured::PlainCredentials, rest));
        }
        (Some(_), None) => return Err(secret.missing("`password` beside `username`")),
        (Some(username), Some(password)) => Some(Login {
            username: username.to_owned(),
            password: password.to_owned().into(),
        }),
        (None, password) => {
            if password.is_some() {
                secret.remark("has no key `username`: the key `password` is ignored, and nobody is logged in");
            }
            None
        }
    };
    let from: Mailbox = secret.needed("from")?.parse().map_err(|_| {
        secret.bad(
            "from",
            "isn't a mail address; write certmon@example.com or Certmon <certmon@example.com>",
        )
    })?;
    let to = to
        .iter()
        .enumerate()
        .map(|(at, address)| recipient(at, address))
        .collect::<Result<Vec<_>, _>>()?;
    if to.is_empty() {
        return Err(SinkFault {
            class: Misconfigured::KeyMissing,
            text: "the sink's `email.to` is empty; name at least one address".to_owned(),
        });
    }
    let roots = secret.roots()?;
    Ok(secret.done(Config::Smtp(SmtpConfig {
        host,
        port,
        tls,
        login,
        from,
        to,
        roots,
    })))
}

fn mail_host(secret: &Reader<'_>) -> Result<Host, SinkFault> {
    match Host::parse(secret.needed("host")?) {
        Ok(host) if !host.is_wildcard() => Ok(host),
        _ => Err(secret.bad(
            "host",
            "isn't a host name or an address; write one like mail.example.com, the port under `port`",
        )),
    }
}

fn recipient(at: usize, address: &str) -> Result<Address, SinkFault> {
    address.parse().map_err(|_| SinkFault {
        class: Misconfigured::BadValue,
        text: format!("the sink's `email.to[{at}]` isn't a mail address; write one like team@example.com"),
    })
}

fn webhook(secret: Reader<'_>) -> Result<Parsed<Config>, SinkFault> {
    let url = secret.url("url")?.ok_or_else(|| secret.missing("`url`"))?;
    let signing_keys = match secret.text("signingKey")? {
        None => Vec::new(),
        Some(text) => signing_keys(text).ok_or_else(|| secret.bad("signingKey", SIGNING_KEY))?,
    };
    let authorization = secret.header("authorization")?.map(|value| value.to_owned().into());
    let roots = secret.roots()?;
    Ok(secret.done(Config::Webhook(WebhookConfig {
        url,
        signing_keys,
        authorization,
        roots,
    })))
}

/// A URL of the spec is known to whoever reads the monitor: it gets no credential.
fn webhook_of_spec(url: &str) -> Result<Parsed<Config>, SinkFault> {
    let url = HttpsUrl::parse(url).map_err(|(class, rest)| SinkFault {
        class,
        text: format!("the sink's `webhook.url` {rest}"),
    })?;
    let config = WebhookConfig {
        url,
        signing_keys: Vec::new(),
        authorization: None,
        roots: Roots::System,
    };
    Ok(Parsed {
        config: Config::Webhook(config),
        remarks: Vec::new(),
    })
}

fn signing_keys(text: &str) -> Option<Vec<SecretSlice<u8>>> {
    let lenient = GeneralPurpose::new(
        &base64::alphabet::STANDARD,
        GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
    );
    let keys: Vec<SecretSlice<u8>> = text
        .split_ascii_whitespace()
        .map(|key| {
            let bytes = lenient.decode(key.strip_prefix("whsec_")?).ok()?;
            SIGNING_KEY_BYTES.contains(&bytes.len()).then(|| bytes.into())
        })
        .collect::<Option<_>>()?;
    (1..=2).contains(&keys.len()).then_some(keys)
}

#[cfg(test)]
#[path = "config_tests.rs"]
mod tests;
