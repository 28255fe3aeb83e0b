//! Slack on loopback: both doors, threads, and its way of saying no with 200.

mod support;

use certmon_core::{
    delivery::{FailureClass, Rung},
    message::MessageReason,
};
use certmon_notify::{Delivery, Sink};
use serde_json::{Value, json};
use std::{collections::BTreeMap, time::Duration};
use support::{
    Pki, assert_failed, delivery, failed,
    http::{Answer, Server, json, status},
    message, out_of_patience, sinks, slack, thread,
};

fn webhook(server: &Server, pki: &Pki) -> Delivery {
    delivery(
        slack("#ignored"),
        &[("url", &server.url("/services/T/B/x")), ("ca.crt", &pki.ca_pem)],
    )
}

fn bot(server: &Server, pki: &Pki, reason: MessageReason, thread: &BTreeMap<String, String>) -> Delivery {
    let values = [
        ("token", "xoxb-1"),
        ("apiURL", &*server.url("/api/")),
        ("ca.crt", &pki.ca_pem),
    ];
    let mut delivery = delivery(slack("#shop"), &values);
    delivery.message = message(reason);
    delivery.thread = thread.clone();
    delivery
}

fn ok(ts: &str, thread_ts: Option<&str>) -> Answer {
    let mut message = json!({"type": "message", "ts": ts});
    if let Some(root) = thread_ts {
        message["thread_ts"] = root.into();
    }
    json(&json!({"ok": true, "channel": "C0123", "ts": ts, "message": message}))
}

fn no(error: &str) -> Answer {
    json(&json!({"ok": false, "error": error}))
}

fn root(ts: &str) -> BTreeMap<String, String> {
    [("channel", "C0123"), ("ts", ts), ("asked", "#shop")]
        .map(|(k, v)| (k.to_owned(), v.to_owned()))
        .into()
}

/// The method and the body of each request, in order.
fn calls(server: &Server) -> Vec<(String, Value)> {
    let method = |head: &str| head.split([' ', '\r']).nth(1).unwrap_or_default().to_owned();
    server
        .asked()
        .iter()
        .map(|asked| (method(&asked.head), asked.json()))
        .collect()
}

#[tokio::test]
async fn an_incoming_webhook_gets_blocks_and_no_channel() {
    let pki = Pki::new();
    let server = Server::start(&pki, [status(200, "", "ok")]).await;
    let outcome = sinks(&[server.address]).deliver(webhook(&server, &pki)).await;
    assert_eq!(thread(&outcome), BTreeMap::new(), "there is nothing to refer to");
    let calls = calls(&server);
    let [(path, body)] = calls.as_slice() else {
        panic!("{calls:?}")
    };
    assert_eq!(path, "/services/T/B/x");
    assert!(body.get("channel").is_none(), "{body}");
    assert_eq!(body["blocks"][0]["type"], "header");
    assert_eq!(body["link_names"], false);
}

#[tokio::test]
async fn the_first_message_of_a_bot_is_the_root_of_what_follows() {
    let pki = Pki::new();
    let server = Server::start(&pki, [ok("1.1", None), ok("1.1", None), ok("1.2", Some("1.1"))]).await;
    let sinks = sinks(&[server.address]);
    let first = sinks
        .deliver(bot(&server, &pki, MessageReason::First, &root("0.9")))
        .await;
    assert_eq!(
        thread(&first),
        root("1.1"),
        "a first message begins a period, whatever was before"
    );
    let asked = server.asked();
    assert_eq!(asked[0].header("authorization"), Some("Bearer xoxb-1"));
    assert_eq!(asked[0].json()["channel"], "#shop");

    let later = sinks
        .deliver(bot(&server, &pki, MessageReason::Escalated, &thread(&first)))
        .await;
    assert_eq!(thread(&later), root("1.1"));
    let calls = calls(&server);
    let [(update, changed), (post, reply)] = calls.as_slice() else {
        panic!("{calls:?}")
    };
    assert_eq!(
        (update.as_str(), post.as_str()),
        ("/api/chat.update", "/api/chat.postMessage")
    );
    assert_eq!((&changed["channel"], &changed["ts"]), (&json!("C0123"), &json!("1.1")));
    assert_eq!(
        (&reply["thread_ts"], &reply["reply_broadcast"]),
        (&json!("1.1"), &json!(true))
    );
}

#[tokio::test]
async fn the_end_of_a_period_leaves_nothing_to_refer_to_and_a_test_touches_nothing() {
    let pki = Pki::new();
    let server = Server::start(&pki, [ok("1.1", None), ok("1.2", Some("1.1")), ok("2.1", None)]).await;
    let sinks = sinks(&[server.address]);
    let end = sinks
        .deliver(bot(&server, &pki, MessageReason::ResolvedAll, &root("1.1")))
        .await;
    assert_eq!(thread(&end), BTreeMap::new());
    assert_eq!(calls(&server).len(), 2);
    let test = sinks
        .deliver(bot(&server, &pki, MessageReason::Test, &root("1.1")))
        .await;
    assert_eq!(thread(&test), root("1.1"));
    assert_eq!(calls(&server)[0].0, "/api/chat.postMessage");
}

#[tokio::test]
async fn a_root_that_is_gone_makes_way_for_a_new_one() {
    let pki = Pki::new();
    for word in ["message_not_found", "cant_update_message", "edit_window_closed"] {
        let server = Server::start(&pki, [no(word), ok("2.1", None)]).await;
        let outcome = sinks(&[server.address])
            .deliver(bot(&server, &pki, MessageReason::Reminder, &root("1.1")))
            .await;
        assert_eq!(thread(&outcome), root("2.1"), "{word}");
        let calls = calls(&server);
        assert!(calls[1].1.get("thread_ts").is_none(), "{word}: {calls:?}");
    }
    // Deleted between the two calls: Slack posts the reply beside it.
    let server = Server::start(&pki, [ok("1.1", None), ok("2.2", None)]).await;
    let outcome = sinks(&[server.address])
        .deliver(bot(&server, &pki, MessageReason::New, &root("1.1")))
        .await;
    assert_eq!(thread(&outcome), root("2.2"));
}

#[tokio::test]
async fn another_channel_gets_a_root_of_its_own() {
    let pki = Pki::new();
    let server = Server::start(&pki, [ok("5.1", None)]).await;
    let mut moved = root("1.1");
    moved.insert("asked".to_owned(), "#before".to_owned());
    let outcome = sinks(&[server.address])
        .deliver(bot(&server, &pki, MessageReason::Reminder, &moved))
        .await;
    assert_eq!(thread(&outcome), root("5.1"));
    assert_eq!(calls(&server).len(), 1);
}

#[tokio::test]
async fn slack_says_no_with_200_and_is_understood() {
    let pki = Pki::new();
    use FailureClass::*;
    for (answer, class, pause) in [
        (no("invalid_auth"), CredentialsRejected, None),
        (no("token_revoked"), CredentialsRejected, None),
        (no("account_inactive"), CredentialsRejected, None),
        (no("channel_not_found"), DestinationRejected, None),
        (no("not_in_channel"), DestinationRejected, None),
        (no("is_archived"), DestinationRejected, None),
        (no("msg_too_long"), PayloadRejected, None),
        (no("invalid_blocks"), PayloadRejected, None),
        (no("fatal_error"), ServerError, None),
        (no("rate_limited"), RateLimited, None),
        (
            json(&json!({"ok": false, "error": "ratelimited", "retry_after": 30})),
            RateLimited,
            Some(30),
        ),
        (
            json(&json!({"ok": false, "error": "rate_limited", "retry_after": 1e300})),
            RateLimited,
            Some(21_600),
        ),
        (
            json(&json!({"ok": false, "error": "rate_limited", "retry_after": -1})),
            RateLimited,
            Some(0),
        ),
        (no("something_new"), Rejected, None),
        (json(&json!({"ok": false})), Rejected, None),
        (status(200, "", "<html>a proxy</html>"), Rejected, None),
        (status(200, "", ""), Rejected, None),
        (
            json(&json!({"ok": true, "filler": "x".repeat(70_000)})),
            Ambiguous,
            None,
        ),
    ] {
        let server = Server::start(&pki, [answer]).await;
        let outcome = sinks(&[server.address])
            .deliver(bot(&server, &pki, MessageReason::First, &BTreeMap::new()))
            .await;
        assert_failed(&outcome, class, Some(200));
        assert_eq!(
            failed(&outcome).retry_after,
            pause.map(Duration::from_secs),
            "{outcome:?}"
        );
    }
}

#[tokio::test]
async fn the_words_of_an_incoming_webhook_are_understood() {
    let pki = Pki::new();
    use FailureClass::*;
    for (code, body, class, pause) in [
        (400, "invalid_payload", PayloadRejected, None),
        (400, "user_not_found", DestinationRejected, None),
        (403, "invalid_token", CredentialsRejected, None),
        (403, "action_prohibited", DestinationRejected, None),
        (404, "no_service", DestinationRejected, None),
        (410, "channel_is_archived", DestinationRejected, None),
        (500, "rollup_error", ServerError, None),
        (
            429,
            r#"{"retry_after":1,"ok":false,"error":"rate_limited"}"#,
            RateLimited,
            Some(1),
        ),
        (403, "a page of a proxy", CredentialsRejected, None),
        (502, "invalid_payload", Ambiguous, None),
        (302, "no_service", Redirected, None),
    ] {
        let server = Server::start(&pki, [status(code, "", body)]).await;
        let outcome = sinks(&[server.address]).deliver(webhook(&server, &pki)).await;
        assert_failed(&outcome, class, Some(code));
        assert_eq!(failed(&outcome).retry_after, pause.map(Duration::from_secs), "{body}");
    }
}

#[tokio::test]
async fn silence_at_any_of_the_calls_is_ambiguous_within_the_one_deadline() {
    let pki = Pki::new();
    for before in [vec![], vec![ok("1.1", None)]] {
        let server = Server::start(&pki, before.into_iter().chain([Answer::Silent])).await;
        let delivery = bot(&server, &pki, MessageReason::Reminder, &root("1.1"));
        let outcome = out_of_patience(sinks(&[server.address]), delivery, server.silent()).await;
        assert_failed(&outcome, FailureClass::Ambiguous, None);
    }
}

#[tokio::test]
async fn the_last_rung_is_one_line_of_text() {
    let pki = Pki::new();
    let server = Server::start(&pki, [status(200, "", "ok")]).await;
    let outcome = sinks(&[server.address])
        .deliver(Delivery {
            rung: Rung::Text,
            ..webhook(&server, &pki)
        })
        .await;
    thread(&outcome);
    let calls = calls(&server);
    assert!(
        calls[0].1.get("blocks").is_none() && !calls[0].1["text"].as_str().expect("text").contains('\n'),
        "{calls:?}"
    );
}
