//! A message as a mail: text and HTML, headers that thread, and nothing in it that differs between attempts. Pure.

use super::html::Html;
use crate::words::{self, Severity, Told};
use certmon_core::{
    delivery::Rung,
    finding::Finding,
    message::{AlertStatus, Message, MessageReason},
};
use lettre::{
    Address,
    message::{
        Mailbox, MultiPart, MultiPartKind, SinglePart,
        header::{HeaderName, HeaderValue},
    },
};
use std::time::SystemTime;

/// The most alerts of a mail.
const MOST_ALERTS: usize = 200;
/// The most characters of a name in the subject.
const MOST_SUBJECT: usize = 200;

/// A mail, ready to be sent, and how later ones refer to it.
pub(crate) struct Rendered {
    pub(crate) bytes: Vec<u8>,
    pub(crate) message_id: String,
}

/// Renders a mail. `root` is the `Message-ID` of the first mail of the period, if there was one.
///
/// # Errors
/// lettre's, where the mail has no sender or recipient: the configuration has both.
pub(crate) fn mail(
    message: &Message,
    rung: Rung,
    from: &Mailbox,
    to: &[Address],
    root: Option<&str>,
) -> Result<Rendered, lettre::error::Error> {
    let id = words::token(&message.id);
    let domain = words::token(from.email.domain());
    let message_id = format!("<{id}@{domain}>");
    let mut builder = lettre::Message::builder()
        .date(SystemTime::from(message.as_of).max(SystemTime::UNIX_EPOCH))
        .from(from.clone())
        .subject(subject(message))
        .message_id(Some(message_id.clone()));
    for address in to {
        builder = builder.to(Mailbox::new(None, address.clone()));
    }
    if let Some(root) = root {
        builder = builder.in_reply_to(root.to_owned()).references(root.to_owned());
    }
    for (name, value) in headers(message, &domain) {
        builder = builder.raw_header(HeaderValue::new(HeaderName::new_from_ascii_str(name), value));
    }
    let text = SinglePart::plain(text(message, rung));
    let mail = if rung == Rung::Text {
        builder.singlepart(text)?
    } else {
        // lettre would draw the boundary by lot, and the same message must be the same bytes.
        let parts = MultiPart::builder()
            .kind(MultiPartKind::Alternative)
            .boundary(format!("certmon-{id}"));
        builder.multipart(parts.singlepart(text).singlepart(SinglePart::html(html(message, rung))))?
    };
    Ok(Rendered {
        bytes: mail.formatted(),
        message_id,
    })
}

/// Constant within a severity, so that reminders and the end stay in one conversation; a new severity opens another.
pub(crate) fn subject(message: &Message) -> String {
    let monitor = words::cut(&words::monitor(message), MOST_SUBJECT);
    if message.reason == MessageReason::Test {
        return format!("[certmon][TEST] {monitor}: this is a test");
    }
    let severity = match words::severity(message) {
        Some(Severity::Critical) => "CRITICAL",
        Some(Severity::Warning) | None => "WARNING",
    };
    let again = match message.reason {
        MessageReason::Reminder | MessageReason::ResolvedSome | MessageReason::ResolvedAll => "Re: ",
        _ => "",
    };
    format!("{again}[certmon][{severity}] {monitor}: certificates need attention")
}

fn headers(message: &Message, domain: &str) -> Vec<(&'static str, String)> {
    let list = format!(
        "<{}.{}.certmon.{domain}>",
        words::token(&message.monitor),
        words::token(&message.namespace)
    );
    let mut headers = vec![
        ("Auto-Submitted", "auto-generated".to_owned()),
        ("List-Id", list),
        ("X-Certmon-Id", words::token(&message.id)),
        ("X-Certmon-Namespace", words::token(&message.namespace)),
        ("X-Certmon-Monitor", words::token(&message.monitor)),
        ("X-Certmon-Sink", words::token(&message.sink)),
        ("X-Certmon-Reason", message.reason.to_string()),
    ];
    if let Some(severity) = words::severity(message) {
        headers.push(("X-Certmon-Severity", severity.to_string()));
    }
    let expired = |alert: &certmon_core::message::MessageAlert| {
        alert.finding == Finding::Expired && alert.status == AlertStatus::Firing
    };
    if message.alerts.iter().any(expired) {
        headers.push(("Importance", "high".to_owned()));
    }
    headers
}

/// Whether a text has the form of a `Message-ID` of ours: the thread's root comes out of the ledger.
pub(crate) fn is_message_id(text: &str) -> bool {
    let inner = text.strip_prefix('<').and_then(|rest| rest.strip_suffix('>'));
    inner
        .and_then(|inner| inner.split_once('@'))
        .is_some_and(|(id, domain)| {
            text.len() <= 600
                && !id.is_empty()
                && !domain.is_empty()
                && words::token(id) == id
                && words::token(domain) == domain
        })
}

fn told(message: &Message, rung: Rung) -> (Vec<Told>, u32) {
    let listed = match rung {
        Rung::All => words::first(message, MOST_ALERTS),
        Rung::Worst20 => words::worst(message, words::WORST),
        Rung::Counts | Rung::Text => words::first(message, 0),
    };
    (listed.alerts.into_iter().map(words::told).collect(), listed.omitted)
}

/// The plain text.
pub(crate) fn text(message: &Message, rung: Rung) -> String {
    if rung == Rung::Text {
        return format!("{}\n", words::one_line(message));
    }
    let (alerts, omitted) = told(message, rung);
    let mut text = format!("{}\nMonitor {}\n", words::headline(message), words::monitor(message));
    for told in &alerts {
        text.push_str(&format!(
            "\n{}  {}\n{}{}\n",
            told.label, told.finding, told.title, told.rest
        ));
        if let Some(next) = &told.next_step {
            text.push_str(&format!("Next step: {next}\n"));
        }
        if let Some(runbook) = &told.runbook {
            text.push_str(&format!("More: {runbook}\n"));
        }
    }
    text.push_str(&format!("\n{}\n", words::notes(message, omitted).join("\n")));
    text
}

/// The HTML: no image, no script, no link but to our own runbooks.
pub(crate) fn html(message: &Message, rung: Rung) -> String {
    let (alerts, omitted) = told(message, rung);
    let mut html = Html::default();
    html.markup("<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"></head>\n")
        .markup("<body style=\"font-family:sans-serif;font-size:14px;color:#222;max-width:48em\">\n")
        .markup("<h2 style=\"margin:0 0 .2em\">")
        .text(&words::headline(message))
        .markup("</h2>\n<p style=\"margin:0 0 1em;color:#666\">Monitor ")
        .text(&words::monitor(message))
        .markup("</p>\n");
    for told in &alerts {
        alert(&mut html, told);
    }
    html.markup("<p style=\"color:#666\">");
    for (at, note) in words::notes(message, omitted).iter().enumerate() {
        html.markup(if at == 0 { "" } else { "<br>" }).text(note);
    }
    html.markup("</p>\n</body></html>\n");
    html.into_string()
}

fn alert(html: &mut Html, told: &Told) {
    let edge = match told.sign {
        "🔴" => "<div style=\"border-left:4px solid #c62828;padding-left:.8em;margin-bottom:1em\">",
        "🟡" => "<div style=\"border-left:4px solid #f9a825;padding-left:.8em;margin-bottom:1em\">",
        _ => "<div style=\"border-left:4px solid #2e7d32;padding-left:.8em;margin-bottom:1em\">",
    };
    html.markup(edge)
        .markup("<b>")
        .text(&told.label)
        .markup("</b> &nbsp;")
        .text(&told.finding);
    html.markup("<br><b>").text(&told.title).markup("</b>").text(&told.rest);
    if let Some(next) = &told.next_step {
        html.markup("<br>Next step: ").text(next);
    }
    if let Some(runbook) = &told.runbook {
        html.markup("<br><a href=\"")
            .text(runbook)
            .markup("\">What it means and what to do</a>");
    }
    html.markup("</div>\n");
}
