//! Closed sets of words. Their schema is a plain `enum` without a description, so that the
//! description of the field that holds one is what `kubectl explain` shows.

use std::borrow::Cow;
use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

macro_rules! wire_enum {
    ($(#[$meta:meta])* $name:ident { $($(#[$variant_meta:meta])* $variant:ident),+ $(,)? }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
        pub enum $name {
            $($(#[$variant_meta])* $variant),+
        }

        impl $name {
            /// Every value, in the schema's order.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];

            /// The word as it stands in a manifest.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$variant => stringify!($variant)),+
                }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.as_str())
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
                let words: Vec<&str> = Self::ALL.iter().map(|value| value.as_str()).collect();
                json_schema!({"type": "string", "enum": words})
            }
        }
    };
}

wire_enum! {
    /// How bad a finding is.
    Severity {
        /// Somebody should look at it.
        Warning,
        /// Somebody must look at it now.
        Critical,
    }
}

wire_enum! {
    /// What a check's finding amounts to.
    CheckLevel {
        /// Not a finding.
        Ignore,
        /// A finding of severity Warning.
        Warning,
        /// A finding of severity Critical.
        Critical,
    }
}

wire_enum! {
    /// What an intermediate's coming expiry amounts to.
    IntermediatesLevel {
        /// Rises with the leaf's thresholds.
        AsLeaf,
        /// Not a finding.
        Ignore,
        /// A finding of severity Warning.
        Warning,
        /// A finding of severity Critical.
        Critical,
    }
}

wire_enum! {
    /// Which view of an object's certificate is watched.
    TargetKind {
        /// The stored certificate.
        Secret,
        /// What a client of the host gets.
        Endpoint,
    }
}

wire_enum! {
    /// Where the address of an Ingress's host comes from.
    ConnectVia {
        /// The Ingress's status; while that has no address, DNS.
        Status,
        /// What DNS says.
        DNS,
    }
}

wire_enum! {
    /// Which addresses of a name are dialled.
    AddressChoice {
        /// Every one, at most 16; the worst counts.
        All,
        /// The first.
        First,
    }
}

wire_enum! {
    /// Whether the system's roots are trusted.
    WellKnownCaCertificates {
        /// They are.
        System,
        /// Only what `caCertificateRefs` names is.
        None,
    }
}

wire_enum! {
    /// Kinds that can hold certificates to trust.
    TrustRefKind {
        /// A ConfigMap.
        ConfigMap,
        /// A Secret.
        Secret,
    }
}

wire_enum! {
    /// Body of a webhook's request.
    WebhookFormat {
        /// certmon's own JSON.
        Native,
    }
}

wire_enum! {
    /// What became of a sink's last message.
    SinkResult {
        /// Nothing was sent and nothing waits.
        Idle,
        /// A first message waits.
        Pending,
        /// The last message was accepted.
        Delivered,
        /// The last attempt failed, or the sink can't be used.
        Failing,
    }
}
