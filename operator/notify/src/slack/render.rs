//! A message as Slack's Block Kit. Pure.
//!
//! Whatever comes from outside stands in `plain_text`, where neither markup nor mentions are read, and is escaped too.

use crate::words::{self, Told};
use certmon_core::{
    delivery::Rung,
    message::{Message, MessageReason},
};
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// The most characters of a text in a block (Slack: 3,000).
const MOST_TEXT: usize = 2900;
/// The most characters of a header (Slack: 150).
const MOST_HEADER: usize = 150;
/// The most runbooks that are linked.
const MOST_RUNBOOKS: usize = 8;

/// The parts of a message that every method of Slack takes: `text`, and `blocks` unless it is one line of plain text.
pub(crate) fn content(message: &Message, rung: Rung) -> Value {
    let listed = match rung {
        Rung::All => words::first(message, words::WORST),
        Rung::Worst20 => words::worst(message, words::WORST),
        Rung::Counts => words::first(message, 0),
        Rung::Text => return json!({"text": escape(&words::one_line(message), MOST_TEXT), "mrkdwn": false}),
    };
    let head = format!("{} {}", sign(message), words::headline(message));
    let mut blocks = vec![
        json!({
            "type": "header",
            "block_id": format!("certmon-{}", words::token(&message.id)),
            "text": plain(&head, MOST_HEADER),
        }),
        json!({"type": "context", "elements": [plain(&format!("Monitor {}", words::monitor(message)), MOST_TEXT)]}),
    ];
    let alerts: Vec<_> = listed.alerts.into_iter().map(words::told).collect();
    blocks.extend(alerts.iter().map(section));
    let mut feet = vec![plain(&words::notes(message, listed.omitted).join(" "), MOST_TEXT)];
    feet.extend(runbooks(&alerts));
    blocks.push(json!({"type": "context", "elements": feet}));
    json!({"text": escape(&words::one_line(message), MOST_TEXT), "blocks": blocks})
}

/// What keeps Slack from reading more into a text than stands there.
pub(crate) fn inert() -> Value {
    json!({"mrkdwn": false, "parse": "none", "link_names": false, "unfurl_links": false, "unfurl_media": false})
}

fn section(told: &Told) -> Value {
    let mut text = format!(
        "{} {} · {}\n{}{}",
        told.sign, told.label, told.finding, told.title, told.rest
    );
    if let Some(next) = &told.next_step {
        text.push_str(&format!("\n→ {next}"));
    }
    json!({"type": "section", "text": plain(&text, MOST_TEXT)})
}

/// One link for each finding; both the name and the address are our own.
fn runbooks(alerts: &[Told]) -> Option<Value> {
    let links: BTreeMap<_, _> = alerts
        .iter()
        .filter_map(|told| Some((&told.finding, told.runbook.as_ref()?)))
        .collect();
    let links: Vec<_> = links
        .into_iter()
        .take(MOST_RUNBOOKS)
        .map(|(finding, url)| format!("<{}|{finding}>", escape(&url.replace('|', "%7C"), MOST_TEXT)))
        .collect();
    let text = || format!("What it means and what to do: {}", links.join(" · "));
    (!links.is_empty()).then(|| json!({"type": "mrkdwn", "text": text()}))
}

fn sign(message: &Message) -> &'static str {
    match (message.reason, words::severity(message)) {
        (MessageReason::Test, _) => "🧪",
        (MessageReason::ResolvedAll, _) => "✅",
        (_, Some(words::Severity::Critical)) => "🔴",
        (_, Some(words::Severity::Warning)) => "🟡",
        (_, None) => "✅",
    }
}

fn plain(text: &str, most: usize) -> Value {
    json!({"type": "plain_text", "text": escape(text, most), "emoji": false})
}

/// Escapes Slack's three characters, and cuts where an escape isn't torn. Line breaks are the caller's own: what comes
/// from outside is clean of them.
fn escape(text: &str, most: usize) -> String {
    let mut out = String::with_capacity(text.len());
    let mut count = 0;
    for c in text.chars() {
        let escaped = match c {
            '&' => "&amp;",
            '<' => "&lt;",
            '>' => "&gt;",
            _ => "",
        };
        count += escaped.len().max(1);
        if count >= most {
            out.push('…');
            break;
        }
        if escaped.is_empty() {
            out.push(c);
        } else {
            out.push_str(escaped);
        }
    }
    out
}
