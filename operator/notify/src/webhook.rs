//! A webhook: the Native body, signed as Standard Webhooks 1.0.0 says.

use crate::{
    config::WebhookConfig,
    door::Door,
    http::{self, Request},
    words,
};
use ::http::{HeaderMap, HeaderName, HeaderValue, header};
use base64::{Engine, engine::general_purpose::STANDARD};
use certmon_core::{
    delivery::{Failure, FailureClass, Outcome, Rung},
    message::Message,
};
use chrono::{DateTime, Utc};
use hmac::{Hmac, KeyInit, Mac};
use secrecy::{ExposeSecret, SecretSlice};
use sha2::Sha256;
use std::collections::BTreeMap;
use tokio::time::Instant;

/// The most alerts of a body.
const MOST_ALERTS: usize = 500;
/// The most bytes of a body.
const MOST_BYTES: usize = 256 * 1024;

/// The Native body: the message's JSON. What it leaves out is counted in `truncated`.
pub(crate) fn body(message: &Message, rung: Rung) -> Vec<u8> {
    let listed = match rung {
        Rung::All => words::first(message, MOST_ALERTS),
        Rung::Worst20 => words::worst(message, words::WORST),
        Rung::Counts | Rung::Text => words::first(message, 0),
    };
    let mut shown = Message {
        truncated: listed.omitted,
        alerts: listed.alerts.into_iter().cloned().collect(),
        ..Message {
            alerts: Vec::new(),
            ..message.clone()
        }
    };
    loop {
        let body = serde_json::to_vec(&shown).expect("a message has nothing that JSON can't say");
        if body.len() <= MOST_BYTES || shown.alerts.is_empty() {
            return body;
        }
        let keep = shown.alerts.len() * 3 / 4;
        shown.truncated += u32::try_from(shown.alerts.len() - keep).unwrap_or(u32::MAX);
        shown.alerts.truncate(keep);
    }
}

/// The headers of an attempt at `at`: `v1` signatures, one for each key.
fn headers(config: &WebhookConfig, id: &str, body: &[u8], at: DateTime<Utc>) -> Option<HeaderMap> {
    let mut headers = HeaderMap::new();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(HeaderName::from_static("webhook-id"), HeaderValue::from_str(id).ok()?);
    headers.insert(
        HeaderName::from_static("idempotency-key"),
        HeaderValue::from_str(id).ok()?,
    );
    headers.insert(
        HeaderName::from_static("webhook-timestamp"),
        HeaderValue::from(at.timestamp()),
    );
    if !config.signing_keys.is_empty() {
        let signatures: Vec<_> = config.signing_keys.iter().map(|key| sign(key, id, at, body)).collect();
        let value = HeaderValue::from_str(&signatures.join(" ")).ok()?;
        headers.insert(HeaderName::from_static("webhook-signature"), value);
    }
    if let Some(authorization) = &config.authorization {
        let mut value = HeaderValue::from_str(authorization.expose_secret()).ok()?;
        value.set_sensitive(true);
        headers.insert(header::AUTHORIZATION, value);
    }
    Some(headers)
}

/// HMAC-SHA256 over `{id}.{timestamp}.{body}`.
fn sign(key: &SecretSlice<u8>, id: &str, at: DateTime<Utc>, body: &[u8]) -> String {
    let mut mac = Hmac::<Sha256>::new_from_slice(key.expose_secret()).expect("HMAC takes keys of any length");
    mac.update(format!("{id}.{}.", at.timestamp()).as_bytes());
    mac.update(body);
    format!("v1,{}", STANDARD.encode(mac.finalize().into_bytes()))
}

/// Delivers, once.
pub(crate) async fn deliver(
    door: &Door,
    config: &WebhookConfig,
    delivery: &crate::Delivery,
    now: DateTime<Utc>,
) -> Result<Outcome, Failure> {
    let deadline = Instant::now() + http::total(delivery.attempt);
    let body = body(&delivery.message, delivery.rung);
    let headers =
        headers(config, &delivery.message.id, &body, now).ok_or_else(|| http::clear(FailureClass::PayloadRejected))?;
    let request = Request {
        namespace: &delivery.namespace,
        url: &config.url,
        tls: door.tls(&config.roots),
        headers,
        body: body.into(),
        reads: false,
    };
    let reply = http::post(door, request, deadline, now).await?;
    match reply.status {
        200..=299 => Ok(Outcome::Delivered {
            thread: BTreeMap::new(),
            rejected_recipients: 0,
        }),
        status => Err(http::failure(status, reply.retry_after)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_signature_is_that_of_the_published_vector() {
        let key = STANDARD
            .decode("C2FVsBQIhrscChlQIMV+b5sSYspob7oD")
            .expect("the vector's key");
        let at = DateTime::from_timestamp(1_649_367_553, 0).expect("the vector's time");
        let body = br#"{"email":"test@example.com","username":"test_user"}"#;
        assert_eq!(
            sign(&key.into(), "msg_27UH4WbU6Z5A5EzD8u03UvzRbpk", at, body),
            "v1,tZ1I4/hDygAJgO5TYxiSd6Sd0kDW6hPenDe+bTa3Kkw="
        );
    }
}
