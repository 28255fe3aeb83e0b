//! What Slack's answers mean. Slack says no with 200, and with words for which a status is too coarse.

use crate::http::{self, Reply};
use certmon_core::delivery::{Failure, FailureClass};
use serde_json::{Map, Value};
use std::time::Duration;

/// The longest word that is looked up.
const LONGEST_WORD: usize = 64;

/// The fields of an answer that are read, each if it is what it should be; all else is dropped.
#[derive(Default)]
pub(crate) struct Answer {
    ok: bool,
    error: Option<String>,
    retry_after: Option<f64>,
    pub(crate) channel: Option<String>,
    pub(crate) ts: Option<String>,
    /// Of a posted message the thread that it landed in; `None`: nothing is said of the message.
    pub(crate) landed: Option<Option<String>>,
}

impl Answer {
    /// `None`: no object of JSON, so whatever answered isn't Slack's API.
    fn read(body: &[u8]) -> Option<Self> {
        let fields: Map<String, Value> = serde_json::from_slice(body).ok()?;
        let text = |of: &Map<String, Value>, name: &str| of.get(name).and_then(Value::as_str).map(str::to_owned);
        let message = fields.get("message").and_then(Value::as_object);
        Some(Self {
            ok: fields.get("ok") == Some(&Value::Bool(true)),
            error: text(&fields, "error"),
            retry_after: fields.get("retry_after").and_then(Value::as_f64),
            channel: text(&fields, "channel"),
            ts: text(&fields, "ts"),
            landed: message.map(|message| text(message, "thread_ts")),
        })
    }
}

/// Why Slack refused.
pub(crate) enum Refusal {
    /// The root message is gone, or can't be changed any more.
    RootGone,
    /// Any other.
    Failed(Failure),
}

impl From<Failure> for Refusal {
    fn from(failure: Failure) -> Self {
        Self::Failed(failure)
    }
}

/// Reads the answer of a method of the Web API.
///
/// # Errors
/// It isn't `ok`.
pub(crate) fn of_method(reply: &Reply) -> Result<Answer, Refusal> {
    let answer = reply.body.as_deref().and_then(Answer::read);
    match (reply.status, answer) {
        (200..=299, Some(answer)) if answer.ok => Ok(answer),
        (200..=299, Some(answer)) => {
            let word = answer.error.as_deref().unwrap_or_default();
            if matches!(
                word,
                "message_not_found" | "cant_update_message" | "edit_window_closed" | "thread_not_found"
            ) {
                return Err(Refusal::RootGone);
            }
            let class = class(word).unwrap_or(FailureClass::Rejected);
            Err(Failure {
                class,
                code: Some(reply.status),
                retry_after: wait(reply, &answer),
            }
            .into())
        }
        // Accepted, says the status, but what would tell was cut off.
        (200..=299, None) if reply.body.is_none() => Err(Failure {
            class: FailureClass::Ambiguous,
            code: Some(reply.status),
            retry_after: None,
        }
        .into()),
        // Whatever answered isn't Slack.
        (200..=299, None) => Err(Failure {
            class: FailureClass::Rejected,
            code: Some(reply.status),
            retry_after: None,
        }
        .into()),
        _ => Err(refused(reply).into()),
    }
}

/// Reads the answer of an incoming webhook, whose words are plain text.
///
/// # Errors
/// The status isn't 2xx.
pub(crate) fn of_webhook(reply: &Reply) -> Result<(), Failure> {
    match reply.status {
        // Some gateways answer a refusal with 200 and JSON, as the Web API does.
        200..=299 => match reply.body.as_deref().and_then(Answer::read) {
            Some(answer) if !answer.ok && answer.error.is_some() => {
                let word = answer.error.as_deref().unwrap_or_default();
                let class = class(word).unwrap_or(FailureClass::Rejected);
                Err(Failure {
                    class,
                    code: Some(reply.status),
                    retry_after: wait(reply, &answer),
                })
            }
            _ => Ok(()),
        },
        _ => Err(refused(reply)),
    }
}

/// What a status other than 2xx means, by its word if it has one that we know.
fn refused(reply: &Reply) -> Failure {
    let by_status = http::failure(reply.status, reply.retry_after);
    if by_status.class == FailureClass::Ambiguous || by_status.class == FailureClass::Redirected {
        return by_status;
    }
    let body = reply.body.as_deref().unwrap_or_default();
    let answer = Answer::read(body).unwrap_or_default();
    let word = answer
        .error
        .as_deref()
        .or_else(|| std::str::from_utf8(body).ok())
        .unwrap_or_default()
        .trim();
    let class = match by_status.class {
        FailureClass::RateLimited => FailureClass::RateLimited,
        other => class(word).unwrap_or(other),
    };
    Failure {
        class,
        retry_after: wait(reply, &answer),
        ..by_status
    }
}

fn wait(reply: &Reply, answer: &Answer) -> Option<Duration> {
    let of_body = || Duration::try_from_secs_f64(answer.retry_after?.clamp(0.0, 21_600.0)).ok();
    reply.retry_after.or_else(of_body)
}

/// Slack's words (api.slack.com/methods/chat.postMessage, /chat.update, /messaging/webhooks).
fn class(word: &str) -> Option<FailureClass> {
    if word.len() > LONGEST_WORD {
        return None;
    }
    Some(match word {
        "invalid_auth"
        | "not_authed"
        | "account_inactive"
        | "token_revoked"
        | "token_expired"
        | "invalid_token"
        | "no_permission"
        | "missing_scope"
        | "org_login_required"
        | "ekm_access_denied"
        | "access_denied"
        | "not_allowed_token_type"
        | "two_factor_setup_required"
        | "enterprise_is_restricted" => FailureClass::CredentialsRejected,
        "channel_not_found"
        | "not_in_channel"
        | "is_archived"
        | "channel_is_archived"
        | "no_service"
        | "no_team"
        | "team_disabled"
        | "user_not_found"
        | "action_prohibited"
        | "restricted_action"
        | "channel_type_not_supported"
        | "posting_to_general_channel_denied"
        | "restricted_action_read_only_channel"
        | "team_access_not_granted"
        | "restricted_action_non_threadable_channel"
        | "restricted_action_thread_only_channel" => FailureClass::DestinationRejected,
        "rate_limited" | "ratelimited" | "message_limit_exceeded" => FailureClass::RateLimited,
        "msg_too_long"
        | "msg_blocks_too_long"
        | "invalid_blocks"
        | "invalid_blocks_format"
        | "invalid_payload"
        | "no_text"
        | "too_many_attachments"
        | "invalid_attachments"
        | "attachment_payload_limit_exceeded"
        | "invalid_arguments"
        | "invalid_json"
        | "json_not_object"
        | "invalid_post_type"
        | "invalid_charset" => FailureClass::PayloadRejected,
        "fatal_error"
        | "internal_error"
        | "service_unavailable"
        | "request_timeout"
        | "rollup_error"
        | "team_added_to_org" => FailureClass::ServerError,
        _ => return None,
    })
}
