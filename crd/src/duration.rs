//! One number and one unit, `30d 36h 90m 45s`: neither Go's grammar nor ISO 8601's.

use std::borrow::Cow;
use std::fmt;
use std::time::Duration;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

use crate::rules;

pub(crate) const PATTERN: &str = "^[1-9][0-9]{0,4}(d|h|m|s)$";
pub(crate) const REPEAT_PATTERN: &str = "^([1-9][0-9]{0,4}(d|h|m|s)|Never)$";
const NEVER: &str = "Never";
const MAX_DIGITS: usize = 5;
/// More than any duration has: what is a little too long gets the words of the format, not those of the length.
const MAX_LENGTH: usize = 32;

/// A duration exactly as somebody wrote it; it is never rewritten (`60m` stays `60m`).
///
/// Any string can be read, since an older schema may have let it in; [`WireDuration::to_std`] says
/// whether it is a duration.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct WireDuration(String);

impl WireDuration {
    /// The text as written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// From 1 s to 99,999 d, in whole seconds; `None` if the text isn't a duration.
    #[must_use]
    pub fn to_std(&self) -> Option<Duration> {
        parse(&self.0)
    }
}

/// When a reminder is due, exactly as somebody wrote it: a duration or `Never`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct RepeatInterval(String);

/// What a [`RepeatInterval`] says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Repeat {
    /// No reminders.
    Never,
    /// One whenever so much time has passed since the last message.
    Every(Duration),
}

impl RepeatInterval {
    /// The text as written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// `None` if the text is neither a duration nor `Never`.
    #[must_use]
    pub fn repeat(&self) -> Option<Repeat> {
        if self.0 == NEVER {
            Some(Repeat::Never)
        } else {
            parse(&self.0).map(Repeat::Every)
        }
    }
}

/// Same language as [`PATTERN`].
fn parse(text: &str) -> Option<Duration> {
    let (number, seconds_per_unit) = [("d", 86_400), ("h", 3_600), ("m", 60), ("s", 1)]
        .into_iter()
        .find_map(|(unit, seconds)| Some((text.strip_suffix(unit)?, seconds)))?;
    let digits_only = number.bytes().all(|byte| byte.is_ascii_digit());
    if number.is_empty() || number.len() > MAX_DIGITS || number.starts_with('0') || !digits_only {
        return None;
    }
    let number: u64 = number.parse().ok()?;
    Some(Duration::from_secs(number * seconds_per_unit))
}

macro_rules! wire_text {
    ($name:ident, $pattern:expr, $rule:expr) => {
        impl From<&str> for $name {
            fn from(text: &str) -> Self {
                Self(text.to_owned())
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl JsonSchema for $name {
            fn inline_schema() -> bool {
                true
            }

            fn schema_name() -> Cow<'static, str> {
                stringify!($name).into()
            }

            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                json_schema!({
                    "type": "string",
                    "pattern": $pattern,
                    "maxLength": MAX_LENGTH,
                    // The pattern is for tools that know no CEL; the rule says the same in words.
                    "x-kubernetes-validations": $rule,
                })
            }
        }
    };
}

wire_text!(WireDuration, PATTERN, rules::duration());
wire_text!(RepeatInterval, REPEAT_PATTERN, rules::repeat_interval());

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_number_and_one_unit_is_a_duration() {
        for (text, seconds) in [
            ("1s", 1),
            ("45s", 45),
            ("90m", 5_400),
            ("36h", 129_600),
            ("30d", 2_592_000),
            ("99999d", 8_639_913_600),
        ] {
            let duration = WireDuration::from(text);
            assert_eq!(duration.to_std(), Some(Duration::from_secs(seconds)), "{text}");
            assert_eq!(serde_json::to_string(&duration).unwrap(), format!("\"{text}\""));
        }
    }

    #[test]
    fn nothing_else_is() {
        for text in [
            "", "d", "0s", "01d", "1", "1w", "1.5h", "-1d", "+1d", "1h30m", "100000s", "1 d", " 1d", "1d\n", "1D",
            "١d", "é", "Never", "P1D",
        ] {
            assert_eq!(WireDuration::from(text).to_std(), None, "{text:?}");
        }
    }

    #[test]
    fn a_repeat_interval_is_a_duration_or_never() {
        let every = Repeat::Every(Duration::from_secs(604_800));
        assert_eq!(RepeatInterval::from("7d").repeat(), Some(every));
        assert_eq!(RepeatInterval::from("Never").repeat(), Some(Repeat::Never));
        assert_eq!(RepeatInterval::from("never").repeat(), None);
    }
}
