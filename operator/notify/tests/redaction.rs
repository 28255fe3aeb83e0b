//! Canaries: a string of its own in every credential, URL, answer, header, banner, realm and Location. None of them in
//! any outcome, fault or remark, nor in a log line at TRACE.

mod support;

use certmon_core::{delivery::Outcome, message::MessageReason};
use certmon_notify::{Delivery, Sink};
use std::{
    io::Write,
    sync::{Arc, Mutex},
};
use support::{
    Pki, delivery, hook,
    http::{self, Answer},
    mail, message, sinks, slack,
    smtp::{self, Reply, Script},
};

/// What every canary has in it. Upper case, since a server's words may be brought into it.
const CANARY: &str = "CANARY7F3A";

#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().expect("no panic holds it").extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl Log {
    fn text(&self) -> String {
        String::from_utf8_lossy(&self.0.lock().expect("no panic holds it")).into_owned()
    }
}

/// Of each text: the canary isn't in it, nor its base64 in any of the three alignments.
#[track_caller]
fn assert_clean(what: &str, text: &str) {
    use base64::{Engine, engine::general_purpose::STANDARD};
    let upper = text.to_ascii_uppercase();
    assert!(!upper.contains(CANARY), "{what}: {text}");
    for shift in 0..3_usize {
        let padded = [vec![b'x'; shift], CANARY.as_bytes().to_vec()].concat();
        let encoded = STANDARD.encode(padded);
        // The characters that depend on the canary alone.
        let core = &encoded[[0, 2, 3][shift]..encoded.trim_end_matches('=').len() - 2];
        assert!(!text.contains(core), "{what}: base64 in {text}");
    }
}

fn answers() -> Vec<Answer> {
    let headers = format!(
        "Location: https://127.0.0.1/{CANARY}\r\nWWW-Authenticate: Basic realm=\"{CANARY}\"\r\nX-Echo: {CANARY}\r\nRetry-After: {CANARY}\r\nSet-Cookie: a={CANARY}\r\n"
    );
    let json = format!(r#"{{"ok":false,"error":"{CANARY}","channel":"{CANARY}","ts":"{CANARY}"}}"#);
    let good = format!(r#"{{"ok":true,"channel":"<{CANARY}>","ts":"{CANARY} 1"}}"#);
    let mut answers: Vec<_> = [200, 204, 302, 400, 401, 403, 404, 407, 410, 413, 429, 500, 502, 503]
        .iter()
        .map(|code| http::status(*code, &headers, if *code == 204 { "" } else { &json }))
        .collect();
    answers.push(http::status(200, &headers, &good));
    answers.push(Answer::Say(format!(
        "HTTP/1.1 500 {CANARY}\r\nContent-Length: 0\r\n\r\n"
    )));
    answers.push(Answer::Say(format!("{CANARY} 220 garbage\r\n\r\n")));
    answers.push(Answer::Drop);
    answers.push(Answer::Close);
    answers
}

macro_rules! says {
    ($step:literal, $reply:expr) => {{
        fn script(step: &str, encrypted: bool) -> Reply {
            if step.starts_with($step) {
                Reply::Say($reply)
            } else {
                chatty(step, encrypted)
            }
        }
        script as Script
    }};
}

fn chatty(step: &str, encrypted: bool) -> Reply {
    Reply::Say(match step.split([' ', ':']).next().unwrap_or_default() {
        "CONNECT" => "220 CANARY7F3A ESMTP",
        "EHLO" if encrypted => "250-CANARY7F3A\r\n250-X-CANARY7F3A\r\n250 AUTH CANARY7F3A PLAIN",
        "EHLO" => "250-CANARY7F3A\r\n250 STARTTLS",
        "STARTTLS" => "220 CANARY7F3A",
        "TLS" => "",
        "AUTH" => "235 CANARY7F3A",
        "DATA" => "354 CANARY7F3A",
        _ => "250 CANARY7F3A",
    })
}

fn scripts() -> Vec<Script> {
    vec![
        chatty,
        says!("CONNECT", "554 CANARY7F3A"),
        says!("CONNECT", "CANARY7F3A"),
        says!("EHLO", "500 CANARY7F3A"),
        says!("STARTTLS", "454 CANARY7F3A"),
        says!("STARTTLS", "220 CANARY7F3A\r\n250 CANARY7F3A"),
        says!("AUTH", "535 5.7.8 CANARY7F3A"),
        says!("AUTH", "334 Q0FOQVJZN0YzQQ=="),
        says!("MAIL", "553 CANARY7F3A"),
        says!("RCPT", "550 5.1.1 CANARY7F3A"),
        says!("DATA", "554 CANARY7F3A"),
        says!(".", "554 CANARY7F3A"),
        says!(".", "2CANARY7F3A"),
    ]
}

/// Secrets that are wrong in every way that quotes could come of.
fn faulty() -> Vec<Delivery> {
    let canary = |text: &str| text.replace('*', CANARY);
    let of = |kind: &dyn Fn() -> certmon_core::sink::SinkKind, values: &[(&str, &str)]| {
        let values: Vec<_> = values.iter().map(|(key, value)| (*key, canary(value))).collect();
        let values: Vec<_> = values.iter().map(|(key, value)| (*key, value.as_str())).collect();
        delivery(kind(), &values)
    };
    let slack = || slack("#shop");
    let mail = || mail(&["a@example.com"]);
    let smtp = [("host", "127.0.0.1"), ("from", "c@example.com")];
    let smtp = |more: (&'static str, &'static str)| of(&mail, &[smtp[0], smtp[1], more]);
    vec![
        of(&hook, &[("url", "http://*.example/*")]),
        of(&hook, &[("url", "https://*:*@h.example/*")]),
        of(&hook, &[("url", "*")]),
        of(&hook, &[("url", "https://h.example/"), ("signingKey", "whsec_*")]),
        of(&hook, &[("url", "https://h.example/"), ("authorization", "*\n*")]),
        of(
            &hook,
            &[
                ("url", "https://h.example/"),
                ("ca.crt", "-----BEGIN CERTIFICATE-----\n*\n-----END CERTIFICATE-----"),
            ],
        ),
        of(&hook, &[("authorization", "*")]),
        of(&slack, &[("url", "https://h.example/*"), ("token", "*")]),
        of(&slack, &[("token", "*\u{7f}")]),
        of(&mail, &[("host", "* *"), ("from", "c@example.com")]),
        of(&mail, &[("host", "127.0.0.1"), ("from", "*")]),
        smtp(("username", "*")),
        smtp(("port", "*")),
        smtp(("tls", "*")),
        smtp(("password", "*")),
    ]
}

#[tokio::test]
async fn no_canary_leaves_by_any_way_but_its_own() {
    let log = Log::default();
    let writer = log.clone();
    tracing_subscriber::fmt()
        .with_max_level(tracing_subscriber::filter::LevelFilter::TRACE)
        .with_ansi(false)
        .with_writer(move || writer.clone())
        .init();
    let (pki, other) = (Pki::new(), Pki::new());
    let mut seen = 0;
    let mut assert_outcome = |what: &str, outcome: &Outcome| {
        seen += 1;
        assert_clean(what, &format!("{outcome:?}"));
    };

    for (at, answer) in answers().into_iter().enumerate() {
        for ca in [&pki.ca_pem, &other.ca_pem] {
            let server = http::Server::start(&pki, [answer.clone()]).await;
            let url = server.url(&format!("/{CANARY}?q={CANARY}"));
            let authorization = format!("Bearer {CANARY}");
            let token = format!("xoxb-{CANARY}");
            let key = format!("whsec_{CANARY}{CANARY}{CANARY}xx");
            let values = [
                ("url", &*url),
                ("authorization", &*authorization),
                ("signingKey", &key),
                ("ca.crt", ca),
            ];
            let bot = [("token", &*token), ("apiURL", &*url), ("ca.crt", ca)];
            let mut reminder = delivery(slack("#shop"), &bot);
            reminder.message = message(MessageReason::Reminder);
            reminder.thread = [("channel", "C1"), ("ts", "1.1"), ("asked", "#shop")]
                .map(|(key, value)| (key.to_owned(), value.to_owned()))
                .into();
            for delivery in [
                delivery(hook(), &values),
                delivery(slack("#shop"), &[("url", &*url), ("ca.crt", ca)]),
                delivery(slack("#shop"), &bot),
                reminder,
            ] {
                let sinks = sinks(&[server.address]);
                let checked = sinks
                    .check(&delivery.namespace, &delivery.kind, delivery.secret.as_ref())
                    .await;
                assert_clean("a check", &format!("{checked:?}"));
                assert_outcome(&format!("answer {at}"), &sinks.deliver(delivery).await);
            }
        }
    }

    for (at, script) in scripts().into_iter().enumerate() {
        for ca in [&pki.ca_pem, &other.ca_pem] {
            let server = smtp::Server::start(&pki, false, script).await;
            let port = server.address.port().to_string();
            let values = [
                ("host", "127.0.0.1"),
                ("port", &*port),
                ("from", "c@example.com"),
                ("username", CANARY),
                ("password", CANARY),
                ("ca.crt", ca),
            ];
            let outcome = sinks(&[server.address])
                .deliver(delivery(mail(&["a@example.com"]), &values))
                .await;
            assert_outcome(&format!("script {at}"), &outcome);
        }
    }

    for delivery in faulty() {
        let sinks = sinks(&[]);
        match sinks
            .check(&delivery.namespace, &delivery.kind, delivery.secret.as_ref())
            .await
        {
            Ok(remarks) => assert_clean("remarks", &remarks.join("\n")),
            Err(fault) => assert_clean("a fault", &format!("{fault:?}")),
        }
        assert_outcome("a fault", &sinks.deliver(delivery).await);
    }

    assert!(seen > 150, "{seen} outcomes");
    let log = log.text();
    assert!(log.lines().count() > 100, "the log is on: {log}");
    for line in log.lines() {
        assert_clean("a log line", line);
    }
}
