//! Processes that die in the wrong moment, and two where one should be.

use super::SECRETS;
use crate::support::{
    certificates::days,
    receivers::Answer,
    story::{Story, day, hours, minutes, seconds},
};

#[test]
fn sent_killed_renewed() {
    Story::new(
        "sent_killed_renewed",
        "A message is sent, and the operator is killed before it has written that down; the certificate is renewed while
nobody watches. The new process finds the intent, sends the same message again with the same id and the same content,
and only then the resolve: a receiver that drops repetitions sees one of each.",
    )
    .at(minutes(0), "the sink takes the message and doesn't answer; a Secret that ends on day 10", |stage| {
        stage.sinks.set("hook", Answer::Hangs);
        stage.secret("shop-tls", &days("shop.example.com", -80, 10));
        stage.monitor(SECRETS);
    })
    .step(seconds(5), "the operator is killed, the certificate renewed, the operator started", |stage| {
        Box::pin(async {
            let identities = stage.kill().await;
            stage.secret("shop-tls", &days("shop.example.com", 0, 90));
            stage.sinks.set("hook", Answer::Accepts);
            for identity in identities {
                stage.start(&identity);
            }
        })
    })
    .quiet(hours(1), day(30))
    .tell();
}

#[test]
fn stopped_in_order() {
    Story::new(
        "stopped_in_order",
        "The operator is asked to stop while a message is on the wire: it waits for the answer and writes it down. What
starts next, by another name, has nothing to repeat.",
    )
    .at(minutes(0), "a Secret that ends on day 10", |stage| {
        stage.secret("shop-tls", &days("shop.example.com", -80, 10));
        stage.monitor(SECRETS);
    })
    .step(
        hours(1),
        "the certificate is renewed, and the operator stopped",
        |stage| {
            Box::pin(async {
                stage.secret("shop-tls", &days("shop.example.com", 0, 90));
                tokio::time::sleep(std::time::Duration::from_millis(30)).await;
                stage.stop().await;
                stage.start("pod-b");
            })
        },
    )
    .quiet(hours(2), day(30))
    .tell();
}

#[test]
fn two_operators() {
    Story::new(
        "two_operators",
        "Two operators run at once, by mistake. They compete for each write of the ledger, and whoever loses reads it
again: nothing is lost, and what comes twice has the same id.",
    )
    .by(&["pod-a", "pod-b"])
    .at(minutes(0), "a Secret that ends on day 10", |stage| {
        stage.secret("shop-tls", &days("shop.example.com", -80, 10));
        stage.secret("api-tls", &days("api.example.com", 0, 90));
        stage.monitor(SECRETS);
    })
    .at(hours(5), "a second one", |stage| {
        stage.secret("api-tls", &days("api.example.com", -79, 11));
    })
    .at(hours(10), "both are renewed", |stage| {
        stage.secret("shop-tls", &days("shop.example.com", 0, 90));
        stage.secret("api-tls", &days("api.example.com", 0, 90));
    })
    .quiet(hours(12), day(30))
    .tell();
}
