//! Webhooks over HTTPS on loopback: what is sent, what every answer means, and what is never done.

mod support;

use base64::{Engine, engine::general_purpose::STANDARD};
use certmon_core::{
    delivery::{FailureClass, Misconfigured, Outcome},
    message::Message,
    sink::{SinkKind, WebhookTarget},
};
use certmon_notify::Sink;
use hmac::{Hmac, KeyInit, Mac};
use std::time::Duration;
use support::{
    Pki, assert_failed, delivery, failed, hook,
    http::{Answer, Server, status},
    now, out_of_patience, sinks, slack,
};

#[tokio::test]
async fn the_native_body_arrives_signed_with_both_keys() {
    let pki = Pki::new();
    let server = Server::start(&pki, [status(204, "", "")]).await;
    let keys = [[7_u8; 24], [9; 24]];
    let signing = keys.map(|key| format!("whsec_{}", STANDARD.encode(key))).join(" ");
    let url = server.url("/in?token=x");
    let values = [
        ("url", &*url),
        ("ca.crt", &pki.ca_pem),
        ("signingKey", &signing),
        ("authorization", "Bearer t0k\n"),
    ];
    let delivery = delivery(hook(), &values);
    let outcome = sinks(&[server.address]).deliver(delivery.clone()).await;
    assert!(
        matches!(
            outcome,
            Outcome::Delivered {
                rejected_recipients: 0,
                ..
            }
        ),
        "{outcome:?}"
    );

    let asked = server.asked();
    let [asked] = asked.as_slice() else {
        panic!("{} requests", asked.len())
    };
    assert!(
        asked.head.starts_with("POST /in?token=x HTTP/1.1\r\n"),
        "{}",
        asked.head
    );
    assert_eq!(asked.header("host"), Some(server.address.to_string().as_str()));
    assert_eq!(
        asked.header("user-agent"),
        Some(concat!("certmon/", env!("CARGO_PKG_VERSION")))
    );
    assert_eq!(asked.header("content-type"), Some("application/json"));
    assert_eq!(asked.header("authorization"), Some("Bearer t0k"));
    assert_eq!(asked.header("webhook-id"), Some("MESSAGEID0001"));
    assert_eq!(asked.header("idempotency-key"), Some("MESSAGEID0001"));
    let at = now().timestamp().to_string();
    assert_eq!(asked.header("webhook-timestamp"), Some(at.as_str()));
    let signatures: Vec<_> = asked.header("webhook-signature").expect("signed").split(' ').collect();
    for (key, signature) in keys.iter().zip(&signatures) {
        let mut mac = Hmac::<sha2::Sha256>::new_from_slice(key).expect("any length");
        mac.update(format!("MESSAGEID0001.{at}.").as_bytes());
        mac.update(&asked.body);
        assert_eq!(
            *signature,
            format!("v1,{}", STANDARD.encode(mac.finalize().into_bytes()))
        );
    }
    assert_eq!(signatures.len(), 2);
    let body: Message = serde_json::from_slice(&asked.body).expect("the body is a message");
    assert_eq!(body, delivery.message);
}

#[tokio::test]
async fn every_status_means_what_the_table_says() {
    let pki = Pki::new();
    use FailureClass::*;
    for (code, headers, class, pause) in [
        (301, "Location: https://127.0.0.1/\r\n", Redirected, None),
        (400, "", PayloadRejected, None),
        (401, "", CredentialsRejected, None),
        (403, "", CredentialsRejected, None),
        (404, "", DestinationRejected, None),
        (410, "", DestinationRejected, None),
        (413, "", PayloadRejected, None),
        (418, "", Rejected, None),
        (429, "Retry-After: 120\r\n", RateLimited, Some(120)),
        (
            429,
            "Retry-After: Wed, 25 Nov 2026 17:54:30 GMT\r\n",
            RateLimited,
            Some(90),
        ),
        (429, "Retry-After: 99999999999\r\n", RateLimited, Some(21_600)),
        (429, "Retry-After: tomorrow\r\n", RateLimited, None),
        (500, "", ServerError, None),
        (501, "", Rejected, None),
        (502, "", Ambiguous, None),
        (503, "Retry-After: 7\r\n", ServerError, Some(7)),
        (504, "", Ambiguous, None),
    ] {
        let server = Server::start(&pki, [status(code, headers, "no")]).await;
        let outcome = sinks(&[server.address])
            .deliver(delivery(hook(), &[("url", &server.url("/")), ("ca.crt", &pki.ca_pem)]))
            .await;
        assert_failed(&outcome, class, Some(code));
        assert_eq!(
            failed(&outcome).retry_after,
            pause.map(Duration::from_secs),
            "{code} {headers}"
        );
    }
}

#[tokio::test]
async fn a_redirect_is_not_followed() {
    let pki = Pki::new();
    let other = Server::start(&pki, [status(204, "", "")]).await;
    for code in [301, 302, 303, 307, 308] {
        let server = Server::start(&pki, [status(code, &format!("Location: {}\r\n", other.url("/")), "")]).await;
        let outcome = sinks(&[server.address, other.address])
            .deliver(delivery(hook(), &[("url", &server.url("/")), ("ca.crt", &pki.ca_pem)]))
            .await;
        assert_failed(&outcome, FailureClass::Redirected, Some(code));
        assert_eq!((server.asked().len(), other.asked().len()), (1, 0), "{code}");
    }
}

#[tokio::test]
async fn an_endless_answer_is_read_no_further_than_its_cap() {
    let pki = Pki::new();
    let endless = format!("HTTP/1.1 200 OK\r\n\r\n{}", "x".repeat(4 * 1024 * 1024));
    let heads = format!("HTTP/1.1 200 OK\r\nX: {}\r\n\r\n", "x".repeat(4 * 1024 * 1024));
    for (answer, delivered) in [(endless, true), (heads, false)] {
        let server = Server::start(&pki, [Answer::Say(answer)]).await;
        let outcome = sinks(&[server.address])
            .deliver(delivery(hook(), &[("url", &server.url("/")), ("ca.crt", &pki.ca_pem)]))
            .await;
        // A head that is too long tells no status: the receiver may have accepted.
        if delivered {
            assert!(matches!(outcome, Outcome::Delivered { .. }), "{outcome:?}");
        } else {
            assert_failed(&outcome, FailureClass::Ambiguous, None);
        }
    }
}

#[tokio::test]
async fn answers_that_announce_another_for_ever_end_the_delivery_long_before_its_deadline() {
    let pki = Pki::new();
    for (forever, class) in [
        ("HTTP/1.1 100 Continue\r\n\r\n".to_owned(), FailureClass::Ambiguous),
        (
            format!("HTTP/1.1 103 Early Hints\r\nLink: {}\r\n\r\n", "x".repeat(8000)),
            FailureClass::Ambiguous,
        ),
    ] {
        let server = Server::start(&pki, [Answer::Forever(forever)]).await;
        let sinks = sinks(&[server.address]);
        let values = [("url", &*server.url("/")), ("ca.crt", &pki.ca_pem)];
        let mut delivery = delivery(hook(), &values);
        // A minute is its deadline.
        delivery.attempt = 2;
        let outcome = tokio::time::timeout(Duration::from_secs(20), sinks.deliver(delivery)).await;
        assert_failed(&outcome.expect("it isn't read for ever"), class, None);
    }
    // A few are what proxies do.
    let few = "HTTP/1.1 103 Early Hints\r\nLink: <x>\r\n\r\n".repeat(8);
    let server = Server::start(&pki, [Answer::Say(format!("{few}HTTP/1.1 204 No Content\r\n\r\n"))]).await;
    let values = [("url", &*server.url("/")), ("ca.crt", &pki.ca_pem)];
    let outcome = sinks(&[server.address]).deliver(delivery(hook(), &values)).await;
    assert!(matches!(outcome, Outcome::Delivered { .. }), "{outcome:?}");
}

#[tokio::test]
async fn an_answer_without_end_is_as_good_as_its_status() {
    let pki = Pki::new();
    let begin = || Answer::Begin("HTTP/1.1 202 Accepted\r\nContent-Length: 9\r\n\r\nx".to_owned());
    let server = Server::start(&pki, [begin()]).await;
    let values = [("url", &*server.url("/")), ("ca.crt", &pki.ca_pem)];
    let outcome = sinks(&[server.address]).deliver(delivery(hook(), &values)).await;
    assert!(matches!(outcome, Outcome::Delivered { .. }), "{outcome:?}");
    // Slack's answer is in the body.
    let server = Server::start(&pki, [begin()]).await;
    let bot = [
        ("token", "xoxb-1"),
        ("apiURL", &*server.url("/")),
        ("ca.crt", &pki.ca_pem),
    ];
    let outcome = out_of_patience(sinks(&[server.address]), delivery(slack("#a"), &bot), server.silent()).await;
    assert_eq!(failed(&outcome).class, FailureClass::Ambiguous);
}

#[tokio::test]
async fn what_failed_before_the_request_is_clear_and_after_it_ambiguous() {
    let pki = Pki::new();
    for (answer, class) in [
        (Answer::Drop, FailureClass::Connect),
        (Answer::Mute, FailureClass::Connect),
        (Answer::Silent, FailureClass::Ambiguous),
        (Answer::Close, FailureClass::Ambiguous),
        (Answer::Say("garbage\r\n\r\n".to_owned()), FailureClass::Ambiguous),
    ] {
        let silent = matches!(answer, Answer::Mute | Answer::Silent);
        let server = Server::start(&pki, [answer]).await;
        for attempt in 0..3 {
            let mut delivery = delivery(hook(), &[("url", &server.url("/")), ("ca.crt", &pki.ca_pem)]);
            delivery.attempt = attempt;
            let sinks = sinks(&[server.address]);
            let outcome = if silent {
                out_of_patience(sinks, delivery, server.silent()).await
            } else {
                sinks.deliver(delivery).await
            };
            assert_failed(&outcome, class, None);
        }
    }
    // A port where nobody listens: taken and given back.
    let free = tokio::net::TcpListener::bind("127.0.0.1:0")
        .await
        .expect("a port")
        .local_addr()
        .expect("an address");
    let outcome = sinks(&[free])
        .deliver(delivery(hook(), &[("url", &format!("https://{free}/"))]))
        .await;
    assert_failed(&outcome, FailureClass::Connect, None);
}

#[tokio::test]
async fn patience_grows_with_ambiguous_attempts() {
    let sinks = sinks(&[]);
    assert_eq!(
        [0, 1, 2, 9].map(|n| sinks.longest_attempt(&hook(), n).as_secs()),
        [16, 31, 61, 61]
    );
    assert_eq!(
        [0, 1, 2, 9].map(|n| sinks.longest_attempt(&support::mail(&["a@b.c"]), n).as_secs()),
        [661; 4]
    );
}

#[tokio::test]
async fn only_who_the_roots_vouch_for_is_told() {
    let (pki, other) = (Pki::new(), Pki::new());
    let server = Server::start(&pki, [status(204, "", "")]).await;
    let url = server.url("/");
    for values in [vec![("url", &*url)], vec![("url", &*url), ("ca.crt", &*other.ca_pem)]] {
        let outcome = sinks(&[server.address]).deliver(delivery(hook(), &values)).await;
        assert_failed(&outcome, FailureClass::TlsUntrusted, None);
    }
    assert!(server.asked().is_empty(), "nothing was sent");
}

#[tokio::test]
async fn an_address_without_permission_is_refused_alike_whatever_is_behind_it() {
    let pki = Pki::new();
    let server = Server::start(&pki, [status(204, "", "")]).await;
    let sinks = sinks(&[]);
    let mut texts = Vec::new();
    for url in [
        server.url("/"),
        "https://127.0.0.1:1/".to_owned(),
        format!("https://2130706433:{}/", server.address.port()),
        format!("https://[::ffff:127.0.0.1]:{}/", server.address.port()),
        "https://169.254.169.254/".to_owned(),
        "https://10.0.0.1/".to_owned(),
    ] {
        let delivery = delivery(hook(), &[("url", &url), ("ca.crt", &pki.ca_pem)]);
        let fault = sinks
            .check(support::NAMESPACE, &delivery.kind, delivery.secret.as_ref())
            .await
            .expect_err(&url);
        assert_eq!(fault.class, Misconfigured::NotPermitted, "{url}");
        texts.push(fault.text);
        let outcome = sinks.deliver(delivery).await;
        assert_failed(&outcome, FailureClass::Misconfigured(Misconfigured::NotPermitted), None);
    }
    texts.dedup();
    assert_eq!(texts.len(), 1, "{texts:?}");
    assert!(server.asked().is_empty());
}

#[tokio::test]
async fn a_check_tells_faults_and_remarks_and_dials_nothing() {
    let pki = Pki::new();
    let server = Server::start(&pki, [Answer::Drop]).await;
    let sinks = sinks(&[server.address]);
    let url = server.url("/");
    let good = delivery(hook(), &[("url", &url), ("URL", "x")]);
    let remarks = sinks.check(support::NAMESPACE, &good.kind, good.secret.as_ref()).await;
    assert_eq!(
        remarks,
        Ok(vec!["Secret shop/hook: unknown key `URL` is ignored".to_owned()])
    );
    let spec = SinkKind::Webhook(WebhookTarget::Url(url));
    assert_eq!(sinks.check(support::NAMESPACE, &spec, None).await, Ok(Vec::new()));
    let missing = sinks
        .check(support::NAMESPACE, &hook(), None)
        .await
        .expect_err("no Secret");
    assert_eq!(missing.class, Misconfigured::SecretMissing);
    assert!(server.asked().is_empty());
}

#[tokio::test]
async fn a_url_of_the_spec_is_posted_to_without_any_credential() {
    // The system's roots don't know the test's CA, so this ends at trust: that the request would hold no credential is
    // shown where the configuration is parsed.
    let pki = Pki::new();
    let server = Server::start(&pki, [status(204, "", "")]).await;
    let mut delivery = delivery(SinkKind::Webhook(WebhookTarget::Url(server.url("/"))), &[]);
    delivery.secret = None;
    assert_failed(
        &sinks(&[server.address]).deliver(delivery).await,
        FailureClass::TlsUntrusted,
        None,
    );
}

#[test]
fn no_proxy_of_the_environment_is_asked() {
    support::proxies::again_with_proxies("the_native_body_arrives_signed_with_both_keys");
}
