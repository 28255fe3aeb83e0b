//! Sinks and API servers that don't do what they should.

use super::{ENDPOINT, SECRETS};
use crate::support::{
    certificates::days,
    cluster::{Fault, unavailable},
    receivers::Answer,
    servers::Serves,
    stage::monitor_key,
    story::{Story, day, hours, minutes},
};
use certmon::cluster::{ApiFailure, Key};
use certmon_core::{delivery::FailureClass, target::ProbeFailure};
use std::time::Duration;

const SLACK: &str = "
sources:
- name: tls
  secrets: {}
sinks:
- name: team
  slack:
    secretRef: {name: slack-hook}
";

#[test]
fn sink_down_for_a_day() {
    Story::new(
        "sink_down_for_a_day",
        "A sink is down for a day. It is tried again and again, at most every 15 minutes, and never given up; what went
wrong stands in status, once. A certificate is renewed meanwhile: when the sink is back, it is told what is true then,
and not what was true yesterday.",
    )
    .at(
        minutes(0),
        "the sink is down; a monitor and two Secrets that end soon",
        |stage| {
            stage.sinks.set("hook", Answer::Refuses(FailureClass::Connect));
            stage.secret("shop-tls", &days("shop.example.com", -80, 10));
            stage.secret("api-tls", &days("api.example.com", -80, 10));
            stage.monitor(SECRETS);
        },
    )
    .at(hours(12), "one certificate is renewed", |stage| {
        stage.secret("api-tls", &days("api.example.com", 0, 90));
    })
    .at(day(1), "the sink is back", |stage| {
        stage.sinks.set("hook", Answer::Accepts);
    })
    .quiet(day(1) + hours(1), day(3))
    .end(day(4))
    .tell();
}

#[test]
fn answers_that_never_come() {
    Story::new(
        "answers_that_never_come",
        "Messages arrive, and the connection breaks before the answer. The same message goes out again, with the same id
and the same content, until it is answered, even though the certificate was renewed meanwhile; only then the next one.",
    )
    .at(minutes(0), "the sink's answers are lost; a monitor and a Secret that ends on day 10", |stage| {
        stage.sinks.set("hook", Answer::BreaksOff);
        stage.secret("shop-tls", &days("shop.example.com", -80, 10));
        stage.monitor(SECRETS);
    })
    .at(minutes(2), "the certificate is renewed", |stage| {
        stage.secret("shop-tls", &days("shop.example.com", 0, 90));
    })
    .at(minutes(4), "answers come again", |stage| stage.sinks.set("hook", Answer::Accepts))
    .quiet(hours(2), day(30))
    .tell();
}

#[test]
fn secret_of_a_sink_missing() {
    Story::new(
        "secret_of_a_sink_missing",
        "The Secret of a sink is missing. That is said at once, with nothing to send; when there is something to say, it
waits; when the Secret comes, it is delivered at once.",
    )
    .at(minutes(0), "a monitor whose sink has no Secret; a certificate that is fine", |stage| {
        stage.secret("shop-tls", &days("shop.example.com", 0, 90));
        stage.monitor(SLACK);
    })
    .quiet(minutes(5), hours(20))
    .at(day(1), "the certificate is replaced by a short one", |stage| {
        stage.secret("shop-tls", &days("shop.example.com", -80, 10));
    })
    .quiet(day(1) + minutes(5), day(2))
    .at(day(2), "the sink's Secret is made", |stage| stage.slack_secret("slack-hook"))
    .at(day(3), "it is deleted", |stage| stage.api.delete_secret(&Key::new("shop", "slack-hook")))
    .at(day(3) + hours(2), "and made again", |stage| stage.slack_secret("slack-hook"))
    .quiet(day(3) + hours(3), day(4))
    .tell();
}

#[test]
fn api_server_away() {
    Story::new(
        "api_server_away",
        "The API server is away for ten minutes. Meanwhile one certificate enters its critical level, by time alone, and
another is renewed, which nobody can see. Nothing can be written, so nothing is sent. On its return one message tells the
truth of then, and nothing is said twice.",
    )
    .at(minutes(0), "a monitor and two Secrets; one enters its critical level in an hour", |stage| {
        stage.secret(
            "shop-tls",
            &crate::support::certificates::leaf("shop.example.com", hours(1) - day(83), day(7) + hours(1)),
        );
        stage.secret("api-tls", &days("api.example.com", -80, 10));
        stage.monitor(SECRETS);
    })
    .at(minutes(55), "the API server goes away", |stage| stage.api.go_away())
    .at(minutes(58), "a certificate is renewed, which is not seen", |stage| {
        stage.secret("api-tls", &days("api.example.com", 0, 90));
    })
    .at(minutes(65), "it is back", |stage| stage.api.come_back())
    .quiet(hours(3), hours(20))
    .end(hours(20))
    .tell();
}

#[test]
fn api_server_away_while_a_server_dies() {
    Story::new(
        "api_server_away_while_a_server_dies",
        "The API server is away for half an hour. Probing goes on: an endpoint stops answering meanwhile, and on the API
server's return that is told at once, for it has been confirmed by then.",
    )
    .at(minutes(0), "a monitor of an endpoint that is fine", |stage| {
        stage.servers.resolve("www.example.com", &["192.0.2.10"]);
        stage.servers.serve("192.0.2.10", &days("www.example.com", 0, 90));
        stage.monitor(&format!("{ENDPOINT}probe: {{interval: 2m, timeout: 10s}}\n"));
    })
    .at(hours(5), "the API server goes away", |stage| stage.api.go_away())
    .at(hours(5) + minutes(5), "the endpoint is silent", |stage| {
        stage.servers.set("192.0.2.10", Serves::Fails(ProbeFailure::Refused));
    })
    .at(hours(5) + minutes(30), "the API server is back", |stage| stage.api.come_back())
    .end(hours(6))
    .tell();
}

#[test]
fn api_server_in_trouble() {
    Story::new(
        "api_server_in_trouble",
        "Writes of the ledger fail: a conflict, a 429 with a pause that is kept, an answer that is lost after the write was
done. Each message leaves once.",
    )
    .at(minutes(0), "a monitor and a Secret that ends on day 10; the first write is a conflict", |stage| {
        stage.api.fail_next_put(Fault::Fails(ApiFailure::Conflict));
        stage.secret("shop-tls", &days("shop.example.com", -80, 10));
        stage.monitor(SECRETS);
    })
    .at(hours(1), "the next is answered by a 429, and the certificate is renewed", |stage| {
        stage.api.fail_next_put(Fault::Fails(ApiFailure::Unavailable {
            reason: "HTTP 429".to_owned(),
            retry_after: Some(Duration::from_secs(20)),
        }));
        stage.secret("shop-tls", &days("shop.example.com", 0, 90));
    })
    .at(hours(2), "the answers to two writes are lost, and a short certificate comes", |stage| {
        stage.api.fail_next_put(Fault::AnswerLost);
        stage.api.fail_next_put(Fault::AnswerLost);
        stage.secret("shop-tls", &days("shop.example.com", -80, 10));
    })
    .at(hours(3), "one write fails for good, and the certificate is renewed", |stage| {
        stage.api.fail_next_put(Fault::Fails(unavailable()));
        stage.secret("shop-tls", &days("shop.example.com", 0, 90));
    })
    .quiet(hours(4), day(30))
    .tell();
}

#[test]
fn test_requested() {
    Story::new(
        "test_requested",
        "Somebody asks for a test message by annotation: it is sent through the real path, marked as a test, once for each
value of the annotation, and echoed in status. It leaves no trace in what the sink was told.",
    )
    .at(minutes(0), "a monitor and a certificate that is fine", |stage| {
        stage.secret("shop-tls", &days("shop.example.com", 0, 90));
        stage.monitor(SECRETS);
    })
    .at(hours(1), "a test is asked for", |stage| stage.api.ask_for_test(&monitor_key(), "monday"))
    .quiet(hours(2), hours(20))
    .at(day(1), "a short certificate comes", |stage| {
        stage.secret("shop-tls", &days("shop.example.com", -80, 10));
    })
    .at(day(1) + hours(1), "another test is asked for, and nobody is there", |stage| {
        stage.sinks.set("hook", Answer::Refuses(FailureClass::Connect));
        stage.api.ask_for_test(&monitor_key(), "tuesday");
    })
    .at(day(1) + hours(2), "and a check", |stage| {
        stage.sinks.set("hook", Answer::Accepts);
        stage.api.ask_for_check(&monitor_key(), "tuesday");
    })
    .quiet(day(1) + hours(3), day(2))
    .tell();
}

#[test]
fn tests_in_a_row() {
    Story::new(
        "tests_in_a_row",
        "Somebody asks for a test and, 20 seconds later, for another: a monitor sends one a minute, so the second waits for
the rest of the minute.",
    )
    .at(minutes(0), "a monitor and a certificate that is fine", |stage| {
        stage.secret("shop-tls", &days("shop.example.com", 0, 90));
        stage.monitor(SECRETS);
    })
    .at(hours(1), "a test is asked for", |stage| stage.api.ask_for_test(&monitor_key(), "one"))
    .at(hours(1) + chrono::TimeDelta::seconds(20), "and another", |stage| {
        stage.api.ask_for_test(&monitor_key(), "two");
    })
    .quiet(hours(2), hours(20))
    .tell();
}
