//! Golden renderings: what people see of every reason and at every step down, and what a hostile certificate gets.

use crate::{email::render as mail, slack, webhook};
use certmon_core::{
    delivery::Rung,
    finding::{Finding, Severity},
    hash::ShortHash,
    message::{
        AlertStatus, MESSAGE_VERSION, Message, MessageAlert, MessageCertificate, MessageCounts, MessageObject,
        MessageReason, ResolvedAs,
    },
    text::{PeerText, is_unsafe},
};
use chrono::{DateTime, TimeDelta, Utc};

fn as_of() -> DateTime<Utc> {
    "2026-11-25T17:53:00Z".parse().expect("a date")
}

fn alert(name: &str, finding: Finding, severity: Severity) -> MessageAlert {
    let not_after = as_of() + TimeDelta::days(3);
    MessageAlert {
        id: ShortHash::of(&[name.as_bytes()]),
        episode: ShortHash::of(&[name.as_bytes(), b"1"]),
        status: AlertStatus::Firing,
        finding,
        severity,
        previous_severity: None,
        place: format!("secret/shop/{name}#tls.crt"),
        title: format!("Secret/{name} tls.crt"),
        object: Some(MessageObject {
            kind: "Secret".to_owned(),
            name: name.to_owned(),
            key: Some("tls.crt".to_owned()),
        }),
        host: None,
        port: None,
        certificate: Some(MessageCertificate {
            name: PeerText::sanitise(&format!("{name}.example.com")),
            issuer: Some(PeerText::sanitise("Example CA")),
            serial: None,
            fingerprint: None,
            dns_names: vec![PeerText::sanitise(&format!("{name}.example.com"))],
            not_before: Some(as_of() - TimeDelta::days(87)),
            not_after: Some(not_after),
        }),
        since: as_of() - TimeDelta::hours(2),
        resolved_as: None,
        message: format!("Secret/{name} tls.crt ({name}.example.com) expires 2026-11-28T17:53:00Z"),
        next_step: "Renew the certificate, or find out why its renewal fails.".to_owned(),
        runbook: format!("https://certmon.dev/runbooks/{finding}"),
    }
}

fn message(reason: MessageReason, alerts: Vec<MessageAlert>) -> Message {
    let open = |severity| {
        let firing = |a: &&MessageAlert| a.status == AlertStatus::Firing && a.severity == severity;
        u32::try_from(alerts.iter().filter(firing).count()).expect("few alerts")
    };
    let resolved = alerts.iter().filter(|a| a.status == AlertStatus::Resolved).count();
    Message {
        version: MESSAGE_VERSION,
        id: "ABCDEFGHIJKLMNOPQRSTUVWXYZ".to_owned(),
        reason,
        cluster: Some("prod-eu".to_owned()),
        namespace: "shop".to_owned(),
        monitor: "edge".to_owned(),
        sink: "team".to_owned(),
        as_of: as_of(),
        counts: MessageCounts {
            critical: open(Severity::Critical),
            warning: open(Severity::Warning),
            resolved: u32::try_from(resolved).expect("few alerts"),
            silenced: 0,
        },
        truncated: 0,
        alerts,
    }
}

fn lasting(alert: MessageAlert) -> MessageAlert {
    MessageAlert {
        previous_severity: Some(alert.severity),
        ..alert
    }
}

fn resolved(alert: MessageAlert, how: ResolvedAs) -> MessageAlert {
    MessageAlert {
        status: AlertStatus::Resolved,
        resolved_as: Some(how),
        ..lasting(alert)
    }
}

fn of(reason: MessageReason) -> Message {
    let api = || alert("api", Finding::ExpiryCritical, Severity::Critical);
    let shop = || alert("shop", Finding::ExpiringSoon, Severity::Warning);
    match reason {
        MessageReason::First => {
            let mut first = message(reason, vec![api(), shop()]);
            first.counts.silenced = 1;
            first
        }
        MessageReason::New => message(reason, vec![shop(), lasting(api())]),
        MessageReason::Escalated => message(
            reason,
            vec![
                MessageAlert {
                    previous_severity: Some(Severity::Warning),
                    ..api()
                },
                lasting(shop()),
            ],
        ),
        MessageReason::ResolvedSome => message(reason, vec![resolved(api(), ResolvedAs::Renewed), lasting(shop())]),
        MessageReason::ResolvedAll => message(
            reason,
            vec![
                resolved(api(), ResolvedAs::Renewed),
                resolved(shop(), ResolvedAs::NoLongerMonitored),
            ],
        ),
        MessageReason::Reminder => message(reason, vec![lasting(api()), lasting(shop())]),
        MessageReason::Test => Message {
            cluster: None,
            ..message(reason, vec![lasting(shop())])
        },
    }
}

fn from() -> lettre::message::Mailbox {
    "Certmon <certmon@example.com>".parse().expect("an address")
}

fn rendered(message: &Message, rung: Rung, root: Option<&str>) -> String {
    let to = ["a@example.com", "b@example.com"].map(|to| to.parse().expect("an address"));
    let mail = mail::mail(message, rung, &from(), &to, root).expect("has sender and recipients");
    String::from_utf8(mail.bytes).expect("ASCII").replace("\r\n", "\n")
}

const REASONS: [MessageReason; 7] = [
    MessageReason::First,
    MessageReason::New,
    MessageReason::Escalated,
    MessageReason::ResolvedSome,
    MessageReason::ResolvedAll,
    MessageReason::Reminder,
    MessageReason::Test,
];
const RUNGS: [Rung; 4] = [Rung::All, Rung::Worst20, Rung::Counts, Rung::Text];

#[test]
fn every_reason_has_its_words() {
    for reason in REASONS {
        let message = of(reason);
        insta::assert_json_snapshot!(format!("slack_{reason}"), slack::content(&message, Rung::All));
        let mail = format!(
            "Subject: {}\n\n{}",
            mail::subject(&message),
            mail::text(&message, Rung::All)
        );
        insta::assert_snapshot!(format!("mail_{reason}"), mail);
        let native: serde_json::Value = serde_json::from_slice(&webhook::body(&message, Rung::All)).expect("JSON");
        insta::assert_json_snapshot!(format!("native_{reason}"), native);
    }
}

#[test]
fn a_mail_is_the_same_bytes_whenever_it_is_rendered() {
    let first = of(MessageReason::First);
    insta::assert_snapshot!("mail_whole_first", rendered(&first, Rung::All, None));
    assert_eq!(rendered(&first, Rung::All, None), rendered(&first, Rung::All, None));
    let reminder = rendered(&of(MessageReason::Reminder), Rung::Text, Some("<first@example.com>"));
    insta::assert_snapshot!("mail_whole_reminder_as_text", reminder);
}

fn many() -> Message {
    let alerts = (0..3000).map(|n| {
        let severity = if n % 100 == 99 {
            Severity::Critical
        } else {
            Severity::Warning
        };
        let finding = if n % 100 == 99 {
            Finding::Expired
        } else {
            Finding::ExpiringSoon
        };
        lasting(alert(&format!("cert-{n:04}"), finding, severity))
    });
    Message {
        truncated: 7,
        ..message(MessageReason::Reminder, alerts.collect())
    }
}

#[test]
fn three_thousand_alerts_fit_every_sink_and_the_rest_is_counted() {
    let many = many();
    for rung in RUNGS {
        let slack = slack::content(&many, rung);
        let blocks = slack["blocks"].as_array().map_or(0, Vec::len);
        assert!(blocks <= 50, "{rung:?}: {blocks} blocks");
        assert_texts(&slack, &|text| {
            assert!(text.chars().count() <= 3000, "{rung:?}: {text}");
        });
        let shown: Message = serde_json::from_slice(&webhook::body(&many, rung)).expect("the body is a message");
        assert_eq!(shown.truncated as usize + shown.alerts.len(), 3007, "{rung:?}");
        assert!(webhook::body(&many, rung).len() <= 256 * 1024, "{rung:?}");
        let mail = rendered(&many, rung, None);
        assert!(mail.len() < 400_000, "{rung:?}: {}", mail.len());
    }
    let worst: Message = serde_json::from_slice(&webhook::body(&many, Rung::Worst20)).expect("the body is a message");
    assert!(
        worst.alerts.iter().all(|a| a.finding == Finding::Expired),
        "the worst are those that are listed"
    );
    insta::assert_json_snapshot!("slack_counts", slack::content(&many, Rung::Counts));
    insta::assert_json_snapshot!("slack_text", slack::content(&many, Rung::Text));
    insta::assert_snapshot!("mail_counts", mail::text(&many, Rung::Counts));
    insta::assert_snapshot!("mail_text", mail::text(&many, Rung::Text));
}

fn assert_texts(value: &serde_json::Value, check: &dyn Fn(&str)) {
    match value {
        serde_json::Value::String(text) => check(text),
        serde_json::Value::Array(items) => items.iter().for_each(|item| assert_texts(item, check)),
        serde_json::Value::Object(fields) => fields.values().for_each(|field| assert_texts(field, check)),
        _ => {}
    }
}

/// A certificate's names reach texts through `PeerText`; here even that is left out.
fn hostile() -> Message {
    let name =
        "<!channel> <https://evil|click> *x*\r\nBcc: victim@example.com\r\n\r\n<script>alert(1)</script>\u{202e}gpj\0";
    let mut hostile = alert("api", Finding::Expired, Severity::Critical);
    hostile.title = name.to_owned();
    hostile.message = format!("{name}: {}", "&<>".repeat(2000));
    hostile.next_step = name.to_owned();
    hostile.runbook = "javascript:alert(1)".to_owned();
    let mut message = message(MessageReason::First, vec![hostile]);
    message.cluster = Some(name.to_owned());
    message.monitor = name.to_owned();
    message.id = "x>\r\nBcc: victim@example.com".to_owned();
    message
}

#[test]
fn hostile_names_stay_text() {
    let hostile = hostile();
    for rung in RUNGS {
        let slack = slack::content(&hostile, rung);
        assert_texts(&slack, &|text| {
            assert!(!text.contains(['<', '>']), "{rung:?}: {text}");
            assert!(text.chars().all(|c| c == '\n' || !is_unsafe(c)), "{rung:?}: {text:?}");
            assert!(text.chars().count() <= 3000, "{rung:?}");
            for (at, _) in text.match_indices('&') {
                let rest = &text[at..];
                assert!(
                    ["&amp;", "&lt;", "&gt;"].iter().any(|e| rest.starts_with(e)),
                    "{rung:?}: torn escape {rest}"
                );
            }
        });
        let html = mail::html(&hostile, rung);
        assert!(!html.contains("<script") && !html.contains("javascript:"), "{html}");
        let raw = rendered(&hostile, rung, None);
        let head = raw.split("\n\n").next().expect("a mail has a head");
        assert!(
            !head.lines().any(|line| line.to_ascii_lowercase().starts_with("bcc")),
            "{head}"
        );
        assert!(raw.is_ascii());
        let known = [
            "Date",
            "From",
            "To",
            "Subject",
            "Message-ID",
            "Auto-Submitted",
            "List-Id",
            "Importance",
            "MIME-Version",
            "Content-Type",
            "Content-Transfer-Encoding",
        ];
        for line in head.lines().filter(|line| !line.starts_with([' ', '\t'])) {
            let name = line.split(':').next().expect("a header has a name");
            assert!(name.starts_with("X-Certmon-") || known.contains(&name), "{line}");
        }
    }
    insta::assert_json_snapshot!("slack_hostile", slack::content(&hostile, Rung::Worst20));
    insta::assert_snapshot!("mail_hostile_subject", mail::subject(&hostile));
}

#[test]
fn only_a_message_id_of_ours_is_referred_to() {
    assert!(mail::is_message_id("<ABC-1_2.3@example.com>"));
    for wrong in [
        "",
        "<>",
        "<a>",
        "<a@b",
        "a@b",
        "<a@b>\r\nBcc: x",
        "<a@b c>",
        "<@b>",
        "<a@>",
        "<a@b>>",
    ] {
        assert!(!mail::is_message_id(wrong), "{wrong:?}");
    }
}
