use std::borrow::Cow;

use chrono::{DateTime, SubsecRound, Utc};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

/// An instant in status, in whole seconds: fractions would make two writes of one fact differ.
///
/// Not Kubernetes' `Time`: a notAfter of 9999-12-31T23:59:59Z (RFC 5280, no expiry) overflows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(from = "DateTime<Utc>", into = "DateTime<Utc>")]
pub struct Timestamp(DateTime<Utc>);

impl Timestamp {
    /// The instant.
    #[must_use]
    pub const fn instant(self) -> DateTime<Utc> {
        self.0
    }
}

impl From<DateTime<Utc>> for Timestamp {
    fn from(instant: DateTime<Utc>) -> Self {
        Self(instant.trunc_subsecs(0))
    }
}

impl From<Timestamp> for DateTime<Utc> {
    fn from(timestamp: Timestamp) -> Self {
        timestamp.0
    }
}

impl JsonSchema for Timestamp {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Timestamp".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"type": "string", "format": "date-time"})
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fractions_are_cut_and_the_end_of_time_survives() {
        let with_fraction: DateTime<Utc> = "2026-11-27T02:15:38.987654321Z".parse().unwrap();
        let json = serde_json::to_string(&Timestamp::from(with_fraction)).unwrap();
        assert_eq!(json, "\"2026-11-27T02:15:38Z\"");

        let end: Timestamp = serde_json::from_str("\"9999-12-31T23:59:59Z\"").unwrap();
        assert_eq!(serde_json::to_string(&end).unwrap(), "\"9999-12-31T23:59:59Z\"");
    }
}
