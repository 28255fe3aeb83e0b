//! CEL rules of the schema and the patterns they share. Every list and string under a rule is
//! bounded, or the API server refuses the definition for the rule's estimated cost.

use serde_json::{Value, json};

use crate::duration;

/// Name of a source, sink or silence: a DNS label (RFC 1123).
pub(crate) const LABEL: &str = "^[a-z0-9]([-a-z0-9]*[a-z0-9])?$";

/// Name of a Secret or ConfigMap: a DNS subdomain (RFC 1123).
pub(crate) const OBJECT_NAME: &str = "^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$";

/// Key of a Secret or ConfigMap.
pub(crate) const DATA_KEY: &str = "^[-._a-zA-Z0-9]+$";

/// Key of a Secret, or a pattern of keys.
pub(crate) const DATA_KEY_GLOB: &str = "^[-._a-zA-Z0-9*]+$";

/// Type of a Secret.
pub(crate) const SECRET_TYPE: &str = "^[a-zA-Z0-9]([-._/a-zA-Z0-9]*[a-zA-Z0-9])?$";

/// RFC 3339, with the ranges that the `date-time` format alone leaves open.
pub(crate) const INSTANT: &str = "^[0-9]{4}-(0[1-9]|1[0-2])-(0[1-9]|[12][0-9]|3[01])T([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](\\.[0-9]{1,9})?(Z|[+-](0[0-9]|1[0-4]):[0-5][0-9])$";

/// A host's name, case and trailing dot as somebody wrote them.
const DNS_NAME: &str =
    "([a-zA-Z0-9_]([-a-zA-Z0-9_]{0,61}[a-zA-Z0-9_])?\\\\.)*[a-zA-Z0-9_]([-a-zA-Z0-9_]{0,61}[a-zA-Z0-9_])?\\\\.?";

/// A name whose last label is a number, in any base that inet_aton(3) reads: no DNS name (WHATWG URL, "ends in a
/// number"; RFC 3696 §2 has no such top-level domain), and an address only in the one form of [`IPV4`].
const ENDS_IN_A_NUMBER: &str = "^([^:]*\\\\.)?([0-9]+|0[xX][^.:]*)\\\\.?$";

/// Four decimal numbers without leading zeros.
const IPV4: &str =
    "^((25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9]?[0-9])\\\\.){3}(25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9]?[0-9])$";

/// Coarse on purpose: whether it is an address, and a permitted one, is judged where it is dialled.
const IPV6: &str = "[0-9a-fA-F]*:[0-9a-fA-F]*:[0-9a-fA-F:.]*";

const MAIL_ADDRESS: &str = "^[^@\\\\s<>(),;:\"]{1,64}@[a-zA-Z0-9]([-.a-zA-Z0-9]*[a-zA-Z0-9])?$";

fn rules<const N: usize>(rules: [(String, String); N]) -> Value {
    rules
        .into_iter()
        .map(|(rule, message)| json!({"rule": rule, "message": message}))
        .collect()
}

fn rule(rule: impl Into<String>, message: impl Into<String>) -> (String, String) {
    (rule.into(), message.into())
}

/// `field` is a duration, or the rule says nothing: what is wrong is said by the field's own rule.
fn if_durations(fields: &[&str], rule: &str) -> String {
    let mut guarded = String::new();
    for field in fields {
        guarded.push_str(&format!("!{field}.matches('{}') || ", duration::PATTERN));
    }
    guarded + "(" + rule + ")"
}

/// A duration's length in seconds, as CEL: `duration()` knows no days.
fn seconds(field: &str) -> String {
    format!("int({field}.find('^[0-9]+')) * {{'s': 1, 'm': 60, 'h': 3600, 'd': 86400}}[{field}.find('[smhd]$')]")
}

fn exactly_one_of(members: &[&str]) -> (String, String) {
    let set: Vec<String> = members.iter().map(|member| format!("has(self.{member})")).collect();
    let named: Vec<String> = members.iter().map(|member| format!("`{member}`")).collect();
    rule(
        format!("[{}].filter(x, x).size() == 1", set.join(", ")),
        format!("exactly one of {} must be set", named.join(", ")),
    )
}

pub(crate) fn duration() -> Value {
    rules([rule(
        format!("self.matches('{}')", duration::PATTERN),
        "must be one number and one unit, such as 30d, 36h, 90m or 45s",
    )])
}

pub(crate) fn repeat_interval() -> Value {
    rules([rule(
        format!("self.matches('{}')", duration::REPEAT_PATTERN),
        "must be 'Never', or one number and one unit, such as 7d or 4h",
    )])
}

/// The most `*` of one pattern: what matching it costs is bounded, and nobody needs more.
const MOST_STARS: usize = 8;

fn few_stars(field: &str) -> (String, String) {
    rule(
        format!("!has(self.{field}) || self.{field}.all(glob, glob.matches('^[^*]*([*][^*]*){{0,{MOST_STARS}}}$'))"),
        format!("each entry of `{field}` may have at most {MOST_STARS} `*`"),
    )
}

pub(crate) fn secret_source() -> Value {
    rules([few_stars("keys")])
}

pub(crate) fn silence() -> Value {
    rules([few_stars("certificates")])
}

pub(crate) fn source() -> Value {
    rules([exactly_one_of(&["secrets", "ingresses", "endpoints"])])
}

pub(crate) fn sink() -> Value {
    rules([exactly_one_of(&["slack", "email", "webhook"])])
}

fn no_number(field: &str) -> (String, String) {
    rule(
        format!("!self.{field}.matches('{ENDS_IN_A_NUMBER}') || self.{field}.matches('{IPV4}')"),
        format!(
            "`{field}` ends in a number, so it can only be an IPv4 address: write it as four decimal numbers, such as \
             192.0.2.7"
        ),
    )
}

pub(crate) fn endpoint() -> Value {
    rules([
        rule(
            format!("self.host.matches('^({DNS_NAME}|{IPV6})$')"),
            "`host` must be a DNS name or an IP address, without scheme, port or path: set `port` for the port",
        ),
        rule(
            format!("self.serverName == '' || self.serverName.matches('^{DNS_NAME}$')"),
            "`serverName` must be a DNS name, or be left out to use `host`",
        ),
        no_number("host"),
        no_number("serverName"),
    ])
}

pub(crate) fn webhook() -> Value {
    rules([
        rule(
            "has(self.url) != has(self.secretRef)",
            "exactly one of `url` or `secretRef` must be set",
        ),
        rule(
            "!has(self.url) || self.url.startsWith('https://')",
            "`url` must start with 'https://'",
        ),
        rule(
            "!has(self.url) || !self.url.matches('^[^:]*://[^/?#]*@')",
            "`url` may not hold a user or a password: put the URL into a Secret of type 'certmon.dev/webhook' and name it in `secretRef`",
        ),
    ])
}

pub(crate) fn email() -> Value {
    rules([rule(
        format!("self.to.all(address, address.matches('{MAIL_ADDRESS}'))"),
        "each entry of `to` must be a mail address such as 'oncall@example.com', without a display name",
    )])
}

pub(crate) fn repeat_intervals() -> Value {
    let at_least_an_hour = |field: &str| {
        let path = format!("self.{field}");
        rule(
            if_durations(&[&path], &format!("{} >= 3600", seconds(&path))),
            format!("`{field}` must be 'Never' or greater than or equal to 1h"),
        )
    };
    rules([at_least_an_hour("warning"), at_least_an_hour("critical")])
}

pub(crate) fn threshold_level() -> Value {
    let remaining = seconds("self.remaining");
    rules([
        rule(
            "has(self.remaining) || has(self.remainingPercent)",
            "at least one of `remaining` or `remainingPercent` must be set",
        ),
        rule(
            "!has(self.remaining) || ".to_owned()
                + &if_durations(
                    &["self.remaining"],
                    &format!("{remaining} >= 60 && {remaining} <= 315360000"),
                ),
            "`remaining` must be between 1m and 3650d",
        ),
    ])
}

pub(crate) fn thresholds() -> Value {
    let both = |member: &str| format!("!has(self.warning.{member}) || !has(self.critical.{member})");
    rules([
        rule(
            both("remaining")
                + " || "
                + &if_durations(
                    &["self.critical.remaining", "self.warning.remaining"],
                    &format!(
                        "{} <= {}",
                        seconds("self.critical.remaining"),
                        seconds("self.warning.remaining")
                    ),
                ),
            "`critical.remaining` (7d by default) must be less than or equal to `warning.remaining` (21d by default)",
        ),
        rule(
            format!(
                "{} || self.critical.remainingPercent <= self.warning.remainingPercent",
                both("remainingPercent")
            ),
            "`critical.remainingPercent` (10 by default) must be less than or equal to `warning.remainingPercent` \
             (25 by default)",
        ),
    ])
}

pub(crate) fn trust() -> Value {
    rules([rule(
        "self.wellKnownCACertificates != 'None' || (has(self.caCertificateRefs) && self.caCertificateRefs.size() > 0)",
        "`caCertificateRefs` may not be empty when `wellKnownCACertificates` is 'None'",
    )])
}

pub(crate) fn probe() -> Value {
    let interval = seconds("self.interval");
    let timeout = seconds("self.timeout");
    rules([
        rule(
            if_durations(&["self.interval"], &format!("{interval} >= 60 && {interval} <= 604800")),
            "`interval` must be between 1m and 168h",
        ),
        rule(
            if_durations(&["self.timeout"], &format!("{timeout} <= 30")),
            "`timeout` must be between 1s and 30s",
        ),
        rule(
            if_durations(&["self.timeout", "self.interval"], &format!("{timeout} < {interval}")),
            "`timeout` (10s by default) must be less than `interval` (1h by default)",
        ),
    ])
}

pub(crate) fn selector_requirement() -> Value {
    rules([rule(
        "self.operator in ['In', 'NotIn'] ? has(self.values) && self.values.size() > 0 : !has(self.values) || self.values.size() == 0",
        "`values` must be set for the operators 'In' and 'NotIn', and be left out for 'Exists' and 'DoesNotExist'",
    )])
}
