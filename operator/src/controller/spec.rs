//! Parses a monitor's spec into the domain's types, once per generation. What makes the spec unreadable (an older schema let it
//! in) is an error here, and `Stalled=True InvalidSpec` in the status; what is wrong with one endpoint stays that endpoint's.
//! A pattern with more `*` than today's schema takes is used as it is: matching costs no more than both lengths multiplied.

use certmon_core::{
    finding::Severity,
    place::{Host, Via},
    policy::{Checks, FailureThreshold, Intermediates, Level, Limit, Policy, Silence, SinkManners, Thresholds},
    silence::NameGlob,
    sink::{SinkKind, WebhookTarget},
    target::Addresses,
    text::PeerText,
};
use certmon_crd as crd;
use chrono::TimeDelta;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use kube::core::Selector;
use std::{collections::BTreeSet, time::Duration};

/// Why a spec can't be used: the field's path and what is wrong.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{path}` {problem}")]
pub struct InvalidSpec {
    /// As in `kubectl explain`.
    pub path: String,
    /// The rest of the sentence.
    pub problem: String,
}

/// A spec that can be used.
#[derive(Clone, Debug)]
pub struct Parsed {
    /// Nothing is checked or told.
    pub suspended: bool,
    /// Whom the monitor trusts, if it says.
    pub trust: Option<Trust>,
    /// What is judged, and how.
    pub policy: Policy,
    /// How dialled places are looked at.
    pub probe: Probe,
    /// What is watched.
    pub sources: Vec<Source>,
    /// Whom to tell.
    pub sinks: Vec<Sink>,
    /// Places beyond this are counted and not checked.
    pub max_certificates: usize,
}

/// Whom a monitor trusts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trust {
    /// The system's roots too.
    pub system: bool,
    /// ConfigMaps and Secrets of the namespace: kind, name, key.
    pub references: Vec<(crd::TrustRefKind, Box<str>, Box<str>)>,
}

/// How dialled places are looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Probe {
    /// Between looks, 1 min – 168 h.
    pub interval: Duration,
    /// For one address, 1–30 s.
    pub timeout: Duration,
    /// Which addresses of a name.
    pub addresses: Addresses,
}

/// One source.
#[derive(Clone, Debug)]
pub struct Source {
    /// Its name.
    pub name: Box<str>,
    /// Fewer places that hold a certificate are a finding.
    pub min_certificates: Option<u32>,
    /// What it selects.
    pub kind: SourceKind,
}

/// What a source selects.
#[derive(Clone, Debug)]
pub enum SourceKind {
    /// Secrets.
    Secrets(SecretChoice),
    /// Ingresses.
    Ingresses(IngressChoice),
    /// Hosts and ports.
    Endpoints(Vec<Endpoint>),
}

/// One endpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Endpoint {
    /// One that can be dialled.
    Dialled {
        /// What is dialled.
        host: Host,
        /// The TCP port.
        port: u16,
        /// The name that is asked for; the host where nothing else is said.
        server_name: Host,
    },
    /// What stands there is no host, or no server name: that is this endpoint's trouble alone.
    NoHost {
        /// The host, as it was written.
        host: PeerText,
        /// The TCP port.
        port: u16,
        /// The server name, as it was written; the host where nothing else is said.
        server_name: PeerText,
    },
}

/// Which Secrets, and which of their keys.
#[derive(Clone, Debug)]
pub struct SecretChoice {
    /// By name.
    pub names: BTreeSet<Box<str>>,
    /// By label; `None` selects none by label.
    pub selector: Option<Matcher>,
    /// Only of these types.
    pub types: BTreeSet<Box<str>>,
    /// Names and globs of keys.
    pub keys: Vec<Box<str>>,
}

/// Which Ingresses, and what of them.
#[derive(Clone, Debug)]
pub struct IngressChoice {
    /// By label.
    pub selector: Matcher,
    /// The stored certificates.
    pub stored: bool,
    /// What is served.
    pub served: bool,
    /// How the address is found.
    pub via: Via,
    /// The port, unless the status names one.
    pub port: u16,
}

/// A label selector, and the text that it is quoted as.
#[derive(Clone, Debug)]
pub struct Matcher {
    /// What matches.
    pub selector: Selector,
    /// As `kubectl -l` writes it; empty selects everything.
    pub text: String,
    /// The labels that must have one value, for hints about near misses.
    pub equal: Vec<(String, String)>,
}

impl Matcher {
    fn everything() -> Self {
        Self {
            selector: Selector::default(),
            text: String::new(),
            equal: vec![],
        }
    }

    fn parse(path: &str, wire: &LabelSelector) -> Result<Self, InvalidSpec> {
        let selector =
            Selector::try_from(wire.clone()).map_err(|_| invalid(path, "is not a label selector that can be used"))?;
        let equal = wire
            .match_labels
            .iter()
            .flatten()
            .map(|(key, value)| (key.clone(), value.clone()))
            .collect();
        Ok(Self {
            text: selector.to_string(),
            selector,
            equal,
        })
    }
}

/// A sink.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sink {
    /// Destination.
    pub kind: SinkKind,
    /// Manners, without the length of an attempt, which the sink knows.
    pub manners: SinkManners,
}

fn invalid(path: impl Into<String>, problem: impl Into<String>) -> InvalidSpec {
    InvalidSpec {
        path: path.into(),
        problem: problem.into(),
    }
}

/// Parses a spec.
///
/// # Errors
/// The first field that can't be used.
pub fn parse(spec: &crd::CertificateMonitorSpec) -> Result<Parsed, InvalidSpec> {
    fn each<W, T>(wire: &[W], parse: impl Fn(usize, &W) -> Result<T, InvalidSpec>) -> Result<Vec<T>, InvalidSpec> {
        wire.iter().enumerate().map(|(at, wire)| parse(at, wire)).collect()
    }
    let policy = Policy {
        thresholds: thresholds(&spec.thresholds)?,
        checks: checks(&spec.checks),
        silences: each(&spec.silences, silence)?,
        trust_is_set: spec.trust.is_some(),
        failure_threshold: FailureThreshold(spec.probe.failure_threshold.clamp(1, 10)),
    };
    Ok(Parsed {
        suspended: spec.suspend,
        trust: spec.trust.as_ref().map(trust),
        policy,
        probe: probe(&spec.probe)?,
        sources: each(&spec.sources, source)?,
        sinks: each(&spec.sinks, sink)?,
        max_certificates: spec.limits.max_certificates as usize,
    })
}

fn duration(path: &str, wire: &crd::WireDuration) -> Result<TimeDelta, InvalidSpec> {
    wire.to_std()
        .and_then(|std| TimeDelta::from_std(std).ok())
        .ok_or_else(|| invalid(path, "must be one number and one unit: 30d, 36h, 90m or 45s"))
}

fn thresholds(wire: &crd::Thresholds) -> Result<Thresholds, InvalidSpec> {
    let level = |path: &str, level: &crd::ThresholdLevel| {
        let remaining = level
            .remaining
            .as_ref()
            .map(|text| duration(&format!("{path}.remaining"), text))
            .transpose()?;
        if remaining.is_none() && level.remaining_percent.is_none() {
            return Err(invalid(path, "must set `remaining`, `remainingPercent` or both"));
        }
        Ok(Limit {
            remaining,
            remaining_percent: level.remaining_percent,
        })
    };
    Ok(Thresholds {
        warning: level("spec.thresholds.warning", &wire.warning)?,
        critical: level("spec.thresholds.critical", &wire.critical)?,
    })
}

fn checks(wire: &crd::Checks) -> Checks {
    let level = |level: crd::CheckLevel| -> Level {
        match level {
            crd::CheckLevel::Ignore => None,
            crd::CheckLevel::Warning => Some(Severity::Warning),
            crd::CheckLevel::Critical => Some(Severity::Critical),
        }
    };
    Checks {
        not_yet_valid: level(wire.not_yet_valid),
        hostname: level(wire.hostname),
        chain: level(wire.chain),
        intermediates: match wire.intermediates {
            crd::IntermediatesLevel::AsLeaf => Intermediates::AsLeaf,
            crd::IntermediatesLevel::Ignore => Intermediates::Level(None),
            crd::IntermediatesLevel::Warning => Intermediates::Level(Some(Severity::Warning)),
            crd::IntermediatesLevel::Critical => Intermediates::Level(Some(Severity::Critical)),
        },
        key_match: level(wire.key_match),
        weak_crypto: level(wire.weak_crypto),
        placeholder: level(wire.placeholder),
        served: level(wire.served),
        unreachable: level(wire.unreachable),
        secret_missing: level(wire.secret_missing),
        parse: level(wire.parse),
    }
}

fn trust(wire: &crd::Trust) -> Trust {
    Trust {
        system: match wire.well_known_ca_certificates {
            crd::WellKnownCaCertificates::System => true,
            crd::WellKnownCaCertificates::None => false,
        },
        references: wire
            .ca_certificate_refs
            .iter()
            .map(|reference| {
                (
                    reference.kind,
                    reference.name.as_str().into(),
                    reference.key.as_str().into(),
                )
            })
            .collect(),
    }
}

fn probe(wire: &crd::Probe) -> Result<Probe, InvalidSpec> {
    let interval = duration("spec.probe.interval", &wire.interval)?;
    let timeout = duration("spec.probe.timeout", &wire.timeout)?;
    if !(TimeDelta::minutes(1)..=TimeDelta::hours(168)).contains(&interval) {
        return Err(invalid("spec.probe.interval", "must be between 1m and 168h"));
    }
    if !(TimeDelta::seconds(1)..=TimeDelta::seconds(30)).contains(&timeout) {
        return Err(invalid("spec.probe.timeout", "must be between 1s and 30s"));
    }
    Ok(Probe {
        interval: interval.to_std().unwrap_or(Duration::from_secs(3600)),
        timeout: timeout.to_std().unwrap_or(Duration::from_secs(10)),
        addresses: match wire.addresses {
            crd::AddressChoice::All => Addresses::All,
            crd::AddressChoice::First => Addresses::First,
        },
    })
}

fn source(at: usize, wire: &crd::Source) -> Result<Source, InvalidSpec> {
    let path = format!("spec.sources[{at}]");
    let kind = wire
        .kind()
        .ok_or_else(|| invalid(&path, "must have exactly one of `secrets`, `ingresses`, `endpoints`"))?;
    let kind = match kind {
        crd::SourceKind::Secrets(secrets) => SourceKind::Secrets(SecretChoice {
            names: secrets.names.iter().map(|name| name.as_str().into()).collect(),
            selector: match &secrets.selector {
                Some(selector) => Some(Matcher::parse(&format!("{path}.secrets.selector"), selector)?),
                None => secrets.names.is_empty().then(Matcher::everything),
            },
            types: secrets.types.iter().map(|type_| type_.as_str().into()).collect(),
            keys: secrets.keys.iter().map(|key| key.as_str().into()).collect(),
        }),
        crd::SourceKind::Ingresses(ingresses) => SourceKind::Ingresses(IngressChoice {
            selector: match &ingresses.selector {
                Some(selector) => Matcher::parse(&format!("{path}.ingresses.selector"), selector)?,
                None => Matcher::everything(),
            },
            stored: ingresses.targets.contains(&crd::TargetKind::Secret),
            served: ingresses.targets.contains(&crd::TargetKind::Endpoint),
            via: match ingresses.connect {
                crd::ConnectVia::Status => Via::Status,
                crd::ConnectVia::DNS => Via::Dns,
            },
            port: ingresses.port,
        }),
        crd::SourceKind::Endpoints(endpoints) => SourceKind::Endpoints(endpoints.iter().map(endpoint).collect()),
    };
    Ok(Source {
        name: wire.name.as_str().into(),
        min_certificates: wire.min_certificates,
        kind,
    })
}

fn endpoint(wire: &crd::Endpoint) -> Endpoint {
    let host = |text: &str| Host::parse(text).ok().filter(|host| !host.is_wildcard());
    let name = match wire.server_name.as_str() {
        "" => &wire.host,
        name => name,
    };
    match (host(&wire.host), host(name)) {
        (Some(host), Some(server_name)) => Endpoint::Dialled {
            host,
            port: wire.port,
            server_name,
        },
        _ => Endpoint::NoHost {
            host: PeerText::sanitise(&wire.host),
            port: wire.port,
            server_name: PeerText::sanitise(name),
        },
    }
}

fn sink(at: usize, wire: &crd::Sink) -> Result<Sink, InvalidSpec> {
    let path = format!("spec.sinks[{at}]");
    let kind = wire
        .kind()
        .ok_or_else(|| invalid(&path, "must have exactly one of `slack`, `email`, `webhook`"))?;
    let kind = match kind {
        crd::SinkKind::Slack(slack) => SinkKind::Slack {
            channel: slack.channel.clone(),
            secret: slack.secret_ref.name.clone(),
        },
        crd::SinkKind::Email(email) => SinkKind::Email {
            to: email.to.clone(),
            secret: email.secret_ref.name.clone(),
        },
        crd::SinkKind::Webhook(webhook) => SinkKind::Webhook(match (&webhook.url, &webhook.secret_ref) {
            (None, Some(secret)) => WebhookTarget::Secret(secret.name.clone()),
            (Some(url), None) => WebhookTarget::Url(url.clone()),
            _ => {
                return Err(invalid(
                    format!("{path}.webhook"),
                    "must have exactly one of `url` or `secretRef`",
                ));
            }
        }),
    };
    let repeat = |field: &str, wire: &crd::RepeatInterval| match wire.repeat() {
        Some(crd::Repeat::Never) => Ok(None),
        Some(crd::Repeat::Every(every)) => Ok(TimeDelta::from_std(every).ok()),
        None => Err(invalid(
            format!("{path}.repeatInterval.{field}"),
            "must be a duration such as 7d, or Never",
        )),
    };
    let manners = SinkManners {
        name: wire.name.as_str().into(),
        min_severity: match wire.min_severity {
            crd::Severity::Warning => Severity::Warning,
            crd::Severity::Critical => Severity::Critical,
        },
        send_resolved: wire.send_resolved,
        repeat_warning: repeat("warning", &wire.repeat_interval.warning)?,
        repeat_critical: repeat("critical", &wire.repeat_interval.critical)?,
        longest_attempt: TimeDelta::zero(),
    };
    Ok(Sink { kind, manners })
}

fn silence(at: usize, wire: &crd::Silence) -> Result<Silence, InvalidSpec> {
    let finding = |name: &String| {
        name.parse()
            .map_err(|_| invalid(format!("spec.silences[{at}].findings"), "must be names of findings"))
    };
    Ok(Silence {
        name: wire.name.as_str().into(),
        certificates: wire.certificates.iter().map(|glob| NameGlob::new(glob)).collect(),
        findings: wire.findings.iter().map(finding).collect::<Result<_, _>>()?,
        until: wire.until,
    })
}

#[cfg(test)]
mod tests;
