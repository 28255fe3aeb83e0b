//! Every reason that certmon gives: one closed list for conditions, Events, metrics, messages, docs and
//! `certmon explain`.

use crate::{delivery::FailureClass, finding::Finding, place::Place};
use strum::IntoEnumIterator;

mod findings;
mod states;

/// Where the page of [`page`] is published; a reason's entry is at `#` and its name in lower case.
pub const RUNBOOKS: &str = "https://github.com/certmon/certmon/blob/main/docs/reference/reasons.md";

/// A reason, in the order of `certmon explain`: findings, conditions, sinks, Events.
#[derive(
    Clone,
    Copy,
    Debug,
    PartialEq,
    Eq,
    Hash,
    PartialOrd,
    Ord,
    serde::Serialize,
    serde::Deserialize,
    strum::Display,
    strum::EnumIter,
    strum::EnumString,
    strum::IntoStaticStr,
)]
#[strum(ascii_case_insensitive)]
#[allow(missing_docs)] // each has its texts
pub enum Reason {
    ExpiringSoon,
    ExpiryCritical,
    Expired,
    NotYetValid,
    HostnameMismatch,
    UntrustedIssuer,
    IncompleteChain,
    IntermediateExpiring,
    KeyMismatch,
    WeakCrypto,
    PlaceholderCertificate,
    ServedCertificateDiffers,
    InconsistentServers,
    Unreachable,
    NoAddress,
    SecretMissing,
    TargetNotPermitted,
    BadCertificateData,
    TooFewCertificates,
    LimitExceeded,
    LedgerOverflow,

    Monitoring,
    AllValid,
    NoCertificates,
    Pending,
    Suspended,
    SourceForbidden,
    SourceUnavailable,
    ReferenceNotFound,
    NewGeneration,
    Discovering,
    InvalidSpec,
    InternalError,

    Delivered,
    NothingToSend,
    NoSinks,
    SinkMisconfigured,
    CredentialsRejected,
    RateLimited,
    DeliveryFailed,
    LedgerUnreadable,

    MonitoringStarted,
    SelectionChanged,
    Resumed,
    Renewed,
    Resolved,
    NotificationSent,
    NotificationRecovered,
    RecipientRejected,
    TestNotificationSent,
    TestNotificationFailed,
}

/// What is said of a reason.
struct Texts {
    meaning: &'static str,
    cause: &'static str,
    next_step: &'static str,
}

/// What a reason is given for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, strum::Display, strum::EnumIter)]
pub enum ReasonGroup {
    /// Something is wrong with a certificate or a place; also a reason of `Healthy` and of an Event.
    Finding,
    /// The state of a condition; those that tell of a fault are Events too.
    Condition,
    /// How the sinks stand, in the condition `Notified`; those that tell of a fault are Events too.
    Sink,
    /// Something happened.
    Event,
}

impl ReasonGroup {
    /// Its heading.
    #[must_use]
    pub fn title(self) -> &'static str {
        match self {
            Self::Finding => "Findings",
            Self::Condition => "Conditions",
            Self::Sink => "Sinks",
            Self::Event => "Events",
        }
    }

    /// What stands under its heading.
    #[must_use]
    pub fn about(self) -> &'static str {
        match self {
            Self::Finding => "What is wrong with a certificate or a place. The worst one is the reason of `Healthy`.",
            Self::Condition => {
                "Reasons of `Ready`, `Healthy`, `Reconciling`, `Stalled`; `Pending` and `Suspended` also of `Notified`."
            }
            Self::Sink => "Reasons of `Notified`: whether those who are to be told have been.",
            Self::Event => "What happened. Findings and faults are Events too, by their own names.",
        }
    }
}

impl Reason {
    /// Its name, as it stands everywhere.
    #[must_use]
    pub fn name(self) -> &'static str {
        self.into()
    }

    /// What it is given for.
    #[must_use]
    pub fn group(self) -> ReasonGroup {
        if self <= Self::LedgerOverflow {
            ReasonGroup::Finding
        } else if self <= Self::InternalError {
            ReasonGroup::Condition
        } else if self <= Self::LedgerUnreadable {
            ReasonGroup::Sink
        } else {
            ReasonGroup::Event
        }
    }

    /// What it means, in a sentence or two.
    #[must_use]
    pub fn meaning(self) -> &'static str {
        self.texts().meaning
    }

    /// What leads to it.
    #[must_use]
    pub fn cause(self) -> &'static str {
        self.texts().cause
    }

    /// What to do about it. `NAMESPACE`, `MONITOR`, `NAME`, `HOST` and `PORT` stand for the reader's own.
    #[must_use]
    pub fn next_step(self) -> &'static str {
        self.texts().next_step
    }

    /// [`Self::next_step`] for a place: what is dialled is looked at in another way than what is stored.
    #[must_use]
    pub fn next_step_at(self, place: &Place) -> &'static str {
        findings::next_step_at(self, place).unwrap_or_else(|| self.next_step())
    }

    fn texts(self) -> Texts {
        states::texts(self)
    }

    /// Where it is described.
    #[must_use]
    pub fn runbook(self) -> String {
        format!("{RUNBOOKS}#{}", self.name().to_ascii_lowercase())
    }
}

impl From<Finding> for Reason {
    fn from(finding: Finding) -> Self {
        match finding {
            Finding::ExpiringSoon => Self::ExpiringSoon,
            Finding::ExpiryCritical => Self::ExpiryCritical,
            Finding::Expired => Self::Expired,
            Finding::NotYetValid => Self::NotYetValid,
            Finding::HostnameMismatch => Self::HostnameMismatch,
            Finding::UntrustedIssuer => Self::UntrustedIssuer,
            Finding::IncompleteChain => Self::IncompleteChain,
            Finding::IntermediateExpiring => Self::IntermediateExpiring,
            Finding::KeyMismatch => Self::KeyMismatch,
            Finding::WeakCrypto => Self::WeakCrypto,
            Finding::PlaceholderCertificate => Self::PlaceholderCertificate,
            Finding::ServedCertificateDiffers => Self::ServedCertificateDiffers,
            Finding::InconsistentServers => Self::InconsistentServers,
            Finding::Unreachable => Self::Unreachable,
            Finding::NoAddress => Self::NoAddress,
            Finding::SecretMissing => Self::SecretMissing,
            Finding::TargetNotPermitted => Self::TargetNotPermitted,
            Finding::BadCertificateData => Self::BadCertificateData,
            Finding::TooFewCertificates => Self::TooFewCertificates,
            Finding::LimitExceeded => Self::LimitExceeded,
            Finding::LedgerOverflow => Self::LedgerOverflow,
        }
    }
}

impl From<FailureClass> for Reason {
    fn from(class: FailureClass) -> Self {
        match class {
            FailureClass::Misconfigured(_) => Self::SinkMisconfigured,
            FailureClass::CredentialsRejected => Self::CredentialsRejected,
            FailureClass::RateLimited => Self::RateLimited,
            FailureClass::DestinationRejected
            | FailureClass::RecipientsRejected
            | FailureClass::PayloadRejected
            | FailureClass::Redirected
            | FailureClass::NoRecord
            | FailureClass::ResolverFailed
            | FailureClass::Connect
            | FailureClass::TlsUntrusted
            | FailureClass::ServerError
            | FailureClass::Rejected
            | FailureClass::Ambiguous => Self::DeliveryFailed,
        }
    }
}

/// What `certmon explain` prints of one reason.
#[must_use]
pub fn explain(reason: Reason) -> String {
    format!(
        "{}\n\n{}\n\nWhat leads to it: {}\n\nWhat to do: {}\n\n{}\n",
        reason.name(),
        reason.meaning(),
        reason.cause(),
        reason.next_step(),
        reason.runbook()
    )
}

/// The page `docs/reference/reasons.md`, whole.
#[must_use]
pub fn page() -> String {
    let mut page = String::from(
        "# Reasons\n\nGenerated from the code; `certmon explain REASON` prints the same. One name stands in status, \
         conditions, Events, metrics and messages.\n",
    );
    for group in ReasonGroup::iter() {
        page.push_str(&format!("\n## {}\n\n{}\n", group.title(), group.about()));
        for reason in Reason::iter().filter(|reason| reason.group() == group) {
            page.push_str(&format!(
                "\n### {}\n\n{}\n\n**What leads to it:** {}\n\n**What to do:** {}\n",
                reason.name(),
                reason.meaning(),
                reason.cause(),
                reason.next_step()
            ));
        }
    }
    page
}

#[cfg(test)]
mod tests;
