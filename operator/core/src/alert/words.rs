//! What is said of an alert's end.

use crate::{
    finding::{AlertKind, Facts, Finding},
    text::PeerText,
};

/// "has a new certificate, serial 1f (was 1e), valid until …".
pub(super) fn renewal(old: Option<&PeerText>, new: &Facts) -> String {
    let short = |text: &PeerText| text.as_str().chars().take(64).collect::<String>();
    let mut text = "has a new certificate".to_owned();
    if let Some(serial) = &new.serial {
        text.push_str(&format!(", serial {}", short(serial)));
        if let Some(old) = old {
            text.push_str(&format!(" (was {})", short(old)));
        }
    }
    if let Some(end) = new.not_after {
        text.push_str(&format!(", valid until {}", end.format("%Y-%m-%dT%H:%M:%SZ")));
    }
    if let Some(issuer) = &new.issuer {
        text.push_str(&format!(", issued by {issuer}"));
    }
    text
}

/// How a finding ended by itself.
pub(super) fn resolution(finding: Finding) -> String {
    match finding.kind() {
        AlertKind::Reach => "answers again".to_owned(),
        AlertKind::SecretMissing => "is there, with a certificate".to_owned(),
        AlertKind::BadCertificateData => "can be read again".to_owned(),
        AlertKind::ServedCertificateDiffers => "serves the certificate of its Secret now".to_owned(),
        AlertKind::InconsistentServers => "serves one certificate from all addresses now".to_owned(),
        AlertKind::TargetNotPermitted => "is permitted now".to_owned(),
        AlertKind::TooFewCertificates => "has enough certificates again".to_owned(),
        AlertKind::LimitExceeded => "is within its limit again".to_owned(),
        AlertKind::LedgerOverflow => "has no more open findings than its ledger holds".to_owned(),
        _ => format!("{finding} is not true any more"),
    }
}

/// Whether thresholds, checks or trust decide about it. The others end by what they say, whoever brought that about.
pub(super) fn is_by_policy(kind: AlertKind) -> bool {
    !matches!(
        kind,
        AlertKind::TargetNotPermitted
            | AlertKind::TooFewCertificates
            | AlertKind::LimitExceeded
            | AlertKind::LedgerOverflow
    )
}
