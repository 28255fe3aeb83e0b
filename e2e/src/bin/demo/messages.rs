//! Messages as their readers see them.

use anyhow::{Context as _, Result};
use certmon_e2e::sinks::{Mail, Received, quoted_printable};
use serde_json::Value;

/// The text of a Slack message's blocks, top to bottom.
pub(crate) fn slack(message: &Received) -> Result<String> {
    let body = message.json()?;
    let blocks = body["blocks"].as_array().context("a Slack message without blocks")?;
    let mut lines = Vec::new();
    for block in blocks {
        if let Some(text) = block["text"]["text"].as_str() {
            lines.extend(text.lines().map(str::to_owned));
        }
        let elements = block["elements"].as_array().into_iter().flatten();
        // The links to the runbooks are for Slack to draw.
        lines.extend(
            elements
                .filter(|element| element["type"] == "plain_text")
                .filter_map(|element| Some(element["text"].as_str()?.to_owned())),
        );
    }
    // Slack shows these three as what they stand for.
    Ok(lines
        .join("\n")
        .replace("&lt;", "<")
        .replace("&gt;", ">")
        .replace("&amp;", "&"))
}

/// A mail's subject and the lines of its text part.
pub(crate) fn mail(mail: &Mail) -> Result<String> {
    let data = mail.data.replace("\r\n", "\n");
    let (head, body) = data.split_once("\n\n").context("a mail without a body")?;
    let head = head.replace("\n ", " ");
    let header = |name: &str| head.lines().find(|line| line.starts_with(name)).map(str::to_owned);
    let part = body
        .split_once("Content-Type: text/plain")
        .and_then(|(_, rest)| rest.split_once("\n\n"))
        .and_then(|(_, rest)| rest.split_once("\n--"))
        .context("a mail without a text part")?
        .0;
    let shown = [header("From:"), header("Subject:"), Some(String::new())];
    let text = quoted_printable(part);
    let lines = text
        .lines()
        .filter(|line| !line.starts_with("More: "))
        .map(str::to_owned);
    Ok(shown.into_iter().flatten().chain(lines).collect::<Vec<_>>().join("\n"))
}

/// The headers that a receiver checks, and of the body what it acts on.
pub(crate) fn webhook(message: &Received) -> Result<String> {
    let body = message.json()?;
    let header = |name: &str| message.headers.get(name).map_or("–", String::as_str);
    let mut lines = vec![
        format!("webhook-id: {}", header("webhook-id")),
        format!("webhook-signature: {}", header("webhook-signature")),
    ];
    for alert in body["alerts"].as_array().context("a body without alerts")? {
        let kept = ["status", "finding", "severity", "place", "message", "since"];
        let fields = kept.map(|field| (field.to_owned(), alert[field].clone()));
        let excerpt: serde_json::Map<String, Value> = fields.into_iter().collect();
        lines.extend(serde_json::to_string_pretty(&excerpt)?.lines().map(str::to_owned));
    }
    lines.push(format!("reason: {}, counts: {}", body["reason"], body["counts"]));
    Ok(lines.join("\n"))
}
