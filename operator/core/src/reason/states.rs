//! What is said of the states of conditions, and of what happened.

use super::{Reason, Texts, findings};
use crate::finding::Finding;

pub(super) fn texts(reason: Reason) -> Texts {
    let (meaning, cause, next_step) = match reason {
        Reason::Monitoring => (
            "The monitor works: every source can be read.",
            "Nothing is wrong.",
            "Nothing. Whether the certificates are fine is said by the condition Healthy.",
        ),
        Reason::AllValid => (
            "All certificates are valid, outside their thresholds, and pass the checks. Silenced findings \
             don't count; the message says how many there are.",
            "Nothing is wrong.",
            "Nothing.",
        ),
        Reason::NoCertificates => (
            "The monitor selects no certificate at all: nothing is watched.",
            "The selector matches nothing, often by a typing error in a label; or what it selects isn't there \
             yet.",
            "kubectl -n NAMESPACE describe certmon MONITOR names the label that almost matches; compare with \
             kubectl -n NAMESPACE get secret,ingress --show-labels.",
        ),
        Reason::Pending => (
            "Not known yet: something was not looked at since the monitor or the operator started, or a first \
             message waits.",
            "The first round isn't over.",
            "Wait a minute. If it stays: kubectl -n NAMESPACE describe certmon MONITOR, and the operator's \
             log.",
        ),
        Reason::Suspended => (
            "spec.suspend is true: nothing is checked or told, and status keeps its last values.",
            "Somebody set it.",
            "kubectl -n NAMESPACE patch certmon MONITOR --type=merge -p '{\"spec\":{\"suspend\":false}}' \
             resumes; what changed meanwhile is told once.",
        ),
        Reason::SourceForbidden => (
            "The operator may not read a source. What was last seen of it keeps counting.",
            "Its ServiceAccount lacks the right to list and watch the kind in this namespace.",
            "The admin grants it (chart: scope, namespaces); check with kubectl auth can-i list secrets -n \
             NAMESPACE --as=system:serviceaccount:OPERATOR-NAMESPACE:certmon. It heals by itself.",
        ),
        Reason::SourceUnavailable => (
            "A source can't be read now. What was last seen of it keeps counting.",
            "Its kind isn't installed in the cluster, or the API server doesn't answer.",
            "kubectl api-resources shows whether the kind is there. It heals by itself.",
        ),
        Reason::ReferenceNotFound => (
            "Something that the spec names isn't there.",
            "A Secret under names is missing or has a type that isn't in types; or a ConfigMap or Secret \
             under trust is missing, lacks the key, or holds no certificate. The message says which.",
            "kubectl -n NAMESPACE describe certmon MONITOR names it; make it, or correct its name. It is read \
             at once.",
        ),
        Reason::Delivered => (
            "Every sink accepted its last message, and nothing waits.",
            "Nothing is wrong.",
            "Nothing.",
        ),
        Reason::NothingToSend => (
            "No sink has ever had to be told anything.",
            "Nothing is wrong.",
            "To see that the way works: kubectl -n NAMESPACE annotate certmon MONITOR \
             certmon.dev/test-requested-at=\"$(date +%s)\" --overwrite",
        ),
        Reason::NoSinks => (
            "The monitor has no sinks: findings are in status, Events and metrics only.",
            "spec.sinks is empty.",
            "Add a sink, if somebody should be told: kubectl explain certmon.spec.sinks",
        ),
        Reason::SinkMisconfigured => (
            "A sink can't be used as it is configured. What is to be said waits, and goes out once it is \
             mended.",
            "Its Secret is missing, of another type, lacks a key, has a value that isn't what the key wants; \
             or the URL is http:, or its address isn't permitted.",
            "The condition's message names the Secret and the key: kubectl -n NAMESPACE describe certmon \
             MONITOR. A change is seen at once.",
        ),
        Reason::CredentialsRejected => (
            "A sink's server refused the credential. What is to be said waits.",
            "The token, password or signing key is wrong, expired or was withdrawn, or lacks a right.",
            "Put a valid one into the sink's Secret; it is tried at once, else after 5 minutes, rising to an \
             hour.",
        ),
        Reason::RateLimited => (
            "A sink's server asks for a pause, and gets it (up to 6 hours). What is to be said waits.",
            "Too many messages reach it, not necessarily from here.",
            "Nothing, if it passes. Else send less to it: minSeverity, repeatInterval, fewer monitors with \
             this sink.",
        ),
        Reason::DeliveryFailed => (
            "A sink didn't accept a message. It is tried again without end while there is something to say.",
            "It isn't reachable, its certificate isn't trusted, the channel or path doesn't exist, every \
             recipient was refused, or the server failed; the condition's message says which.",
            "Mend what the message names. To try at once: kubectl -n NAMESPACE annotate certmon MONITOR \
             certmon.dev/test-requested-at=\"$(date +%s)\" --overwrite",
        ),
        Reason::LedgerUnreadable => (
            "The monitor's AlertLedger was written by a newer certmon: what was told isn't known, so nothing is \
             told. Status and Events go on.",
            "certmon was rolled back to an older version.",
            "Install the newer version again. Or delete the ledger (kubectl -n NAMESPACE delete alertledger \
             MONITOR): within ten minutes all that is open is told once more.",
        ),
        Reason::NewGeneration => (
            "The spec has changed and isn't taken up yet.",
            "Somebody edited the monitor.",
            "Wait a moment.",
        ),
        Reason::Discovering => (
            "What the sources select is being read.",
            "The monitor is new, or the operator has just started.",
            "Wait a moment; a large namespace takes seconds.",
        ),
        Reason::InvalidSpec => (
            "The spec can't be read; nothing of this monitor is checked or told, and what status says of its \
             certificates is as it was. Other monitors go on.",
            "It was stored under an older, looser schema, or one without rules, and today's refuses it: a field of \
             another kind, a duration that is none, a source or sink of no kind or two. (A host that is none is \
             TargetNotPermitted at its endpoint, and stops nothing else.) An Event with this reason and no such \
             condition: the API server doesn't even take a status for the object as it is stored.",
            "The message names the field: kubectl -n NAMESPACE edit certmon MONITOR. What is allowed there: kubectl \
             explain certmon.spec. It is read again at once.",
        ),
        Reason::InternalError => (
            "Judging this monitor failed by a fault in certmon. Other monitors go on.",
            "A bug, most likely set off by an unusual certificate.",
            "Please report it with the operator's log and, if you may, the certificate: \
             https://github.com/certmon/certmon/issues",
        ),
        Reason::MonitoringStarted => (
            "The first round is over: every source was read.",
            "A new monitor.",
            "Nothing.",
        ),
        Reason::SelectionChanged => (
            "A source selects other objects than before.",
            "Objects were made, deleted or labelled, or the selector changed.",
            "Nothing, if it was meant.",
        ),
        Reason::Resumed => (
            "The monitor isn't suspended any more.",
            "Somebody set spec.suspend to false.",
            "Nothing; what changed meanwhile is told once.",
        ),
        Reason::Renewed => (
            "A finding ended because another certificate is there.",
            "A renewal.",
            "Nothing.",
        ),
        Reason::Resolved => (
            "A finding ended otherwise: it isn't true any more, its threshold or check changed, or its place \
             isn't monitored any more; the note says which.",
            "See the note.",
            "Nothing.",
        ),
        Reason::NotificationSent => (
            "A sink accepted a message that began, worsened or ended something.",
            "A finding.",
            "Nothing.",
        ),
        Reason::NotificationRecovered => (
            "A sink that failed accepts messages again, and was sent what is true now; or one that couldn't be used \
             can be again.",
            "Its fault was mended.",
            "Nothing.",
        ),
        Reason::RecipientRejected => (
            "The mail server refused some of several recipients; the others got the message.",
            "An address has a typing error, or its mailbox is gone.",
            "Correct spec.sinks[].email.to: kubectl -n NAMESPACE edit certmon MONITOR.",
        ),
        Reason::TestNotificationSent => (
            "A sink accepted the test that was asked for.",
            "The annotation certmon.dev/test-requested-at changed. A monitor sends one test a minute: a change within \
             a minute of the last test waits for the end of that minute.",
            "Look whether it arrived.",
        ),
        Reason::TestNotificationFailed => (
            "A sink didn't accept the test that was asked for. Tests aren't repeated.",
            "The annotation certmon.dev/test-requested-at changed, and the sink is misconfigured or doesn't answer.",
            "The note and the condition Notified say why: kubectl -n NAMESPACE describe certmon MONITOR. Then ask for a \
             test again.",
        ),
        Reason::ExpiringSoon => return findings::texts(Finding::ExpiringSoon),
        Reason::ExpiryCritical => return findings::texts(Finding::ExpiryCritical),
        Reason::Expired => return findings::texts(Finding::Expired),
        Reason::NotYetValid => return findings::texts(Finding::NotYetValid),
        Reason::HostnameMismatch => return findings::texts(Finding::HostnameMismatch),
        Reason::UntrustedIssuer => return findings::texts(Finding::UntrustedIssuer),
        Reason::IncompleteChain => return findings::texts(Finding::IncompleteChain),
        Reason::IntermediateExpiring => return findings::texts(Finding::IntermediateExpiring),
        Reason::KeyMismatch => return findings::texts(Finding::KeyMismatch),
        Reason::WeakCrypto => return findings::texts(Finding::WeakCrypto),
        Reason::PlaceholderCertificate => return findings::texts(Finding::PlaceholderCertificate),
        Reason::ServedCertificateDiffers => return findings::texts(Finding::ServedCertificateDiffers),
        Reason::InconsistentServers => return findings::texts(Finding::InconsistentServers),
        Reason::Unreachable => return findings::texts(Finding::Unreachable),
        Reason::NoAddress => return findings::texts(Finding::NoAddress),
        Reason::SecretMissing => return findings::texts(Finding::SecretMissing),
        Reason::TargetNotPermitted => return findings::texts(Finding::TargetNotPermitted),
        Reason::BadCertificateData => return findings::texts(Finding::BadCertificateData),
        Reason::TooFewCertificates => return findings::texts(Finding::TooFewCertificates),
        Reason::LimitExceeded => return findings::texts(Finding::LimitExceeded),
        Reason::LedgerOverflow => return findings::texts(Finding::LedgerOverflow),
    };
    Texts {
        meaning,
        cause,
        next_step,
    }
}
