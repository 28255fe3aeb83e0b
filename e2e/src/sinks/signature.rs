//! Standard Webhooks signatures, as a receiver checks them.
//!
//! Source: <https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md>. Written apart
//! from the operator's own code on purpose: it is the other side.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use chrono::{DateTime, Utc};
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;

/// A receiver refuses messages that are older or newer, in seconds.
const TOLERANCE: u64 = 300;

/// A symmetric key, `whsec_` and base64.
#[derive(Clone)]
pub struct SigningKey(Vec<u8>);

impl std::fmt::Debug for SigningKey {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("SigningKey")
    }
}

impl SigningKey {
    /// A key from its text.
    ///
    /// # Errors
    /// When it doesn't start with `whsec_`, or isn't base64.
    pub fn parse(text: &str) -> Result<Self> {
        let encoded = text
            .strip_prefix("whsec_")
            .context("a signing key starts with whsec_")?;
        Ok(Self(STANDARD.decode(encoded)?))
    }

    fn mac(&self, id: &str, timestamp: &str, body: &[u8]) -> Hmac<Sha256> {
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.0).expect("HMAC takes keys of any length");
        mac.update(format!("{id}.{timestamp}.").as_bytes());
        mac.update(body);
        mac
    }

    /// The signature of a message, as its header has it: for tests of the receiver.
    #[cfg(test)]
    pub(super) fn sign(&self, id: &str, timestamp: i64, body: &[u8]) -> String {
        let mac = self.mac(id, &timestamp.to_string(), body);
        format!("v1,{}", STANDARD.encode(mac.finalize().into_bytes()))
    }

    /// Whether one of the `keys` made one of the signatures; else what is wrong.
    pub(super) fn check(
        keys: &[Self],
        headers: &BTreeMap<String, String>,
        body: &[u8],
        now: DateTime<Utc>,
    ) -> Result<(), String> {
        let header = |name: &str| headers.get(name).ok_or_else(|| format!("no {name} header"));
        let (id, timestamp) = (header("webhook-id")?, header("webhook-timestamp")?);
        let signatures = header("webhook-signature")?;
        let sent: i64 = timestamp
            .parse()
            .map_err(|_| format!("webhook-timestamp {timestamp} is no number"))?;
        if sent.abs_diff(now.timestamp()) > TOLERANCE {
            return Err(format!("webhook-timestamp {timestamp} is more than {TOLERANCE} s away"));
        }
        let verified = |signature: &str| {
            let Some(bytes) = signature
                .strip_prefix("v1,")
                .and_then(|text| STANDARD.decode(text).ok())
            else {
                return false;
            };
            keys.iter()
                .any(|key| key.mac(id, timestamp, body).verify_slice(&bytes).is_ok())
        };
        if signatures.split(' ').any(verified) {
            return Ok(());
        }
        Err("no signature of a known key".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of the specification's reference libraries.
    const KEY: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
    const BODY: &[u8] = br#"{"test": 2432232314}"#;
    const SIGNATURE: &str = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=";

    fn headers(signature: &str) -> BTreeMap<String, String> {
        [
            ("webhook-id", "msg_p5jXN8AQM9LWM0D4loKWxJek"),
            ("webhook-timestamp", "1614265330"),
            ("webhook-signature", signature),
        ]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .into()
    }

    fn check(headers: &BTreeMap<String, String>, body: &[u8], at: i64) -> Result<(), String> {
        let now = DateTime::from_timestamp(at, 0).unwrap();
        SigningKey::check(&[SigningKey::parse(KEY).unwrap()], headers, body, now)
    }

    #[test]
    fn the_published_vector_verifies_and_a_changed_body_does_not() {
        assert_eq!(check(&headers(SIGNATURE), BODY, 1_614_265_330), Ok(()));
        assert_eq!(
            check(&headers(&format!("v1,AAAA {SIGNATURE}")), BODY, 1_614_265_330),
            Ok(())
        );
        assert!(check(&headers(SIGNATURE), b"{}", 1_614_265_330).is_err());
        assert!(check(&headers(SIGNATURE), BODY, 1_614_265_330 + 301).is_err());
        assert!(check(&BTreeMap::new(), BODY, 1_614_265_330).is_err());
    }
}
