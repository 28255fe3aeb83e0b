//! Processes that die in the wrong moment, and two where one should be.

use super::SECRETS;
use crate::support::{
    certificates::days,
    receivers::{Answer, Arrival},
    stage::{Stage, paused},
    story::{Story, day, hours, minutes, seconds},
    telling_rules::{gist, heard},
};
use chrono::TimeDelta;
use tokio::time::sleep_until;

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

/// Plays a message and its end, kills the operator so long after each began, and renews the certificate between death and
/// start where `unseen`. Returns what the sink heard, repetitions aside, and how many there were.
fn killed(after: TimeDelta, unseen: bool) -> (Vec<Arrival>, usize) {
    paused(async {
        let mut stage = Stage::new();
        stage.start("pod-a");
        let kill_at = |began: TimeDelta| began + after;
        stage.secret("shop-tls", &days("shop.example.com", -80, 10));
        stage.monitor(SECRETS);
        sleep_until(stage.clock.instant(kill_at(TimeDelta::zero()))).await;
        let identities = stage.kill().await;
        if unseen {
            stage.secret("shop-tls", &days("shop.example.com", 0, 90));
        }
        identities.iter().for_each(|identity| stage.start(identity));
        sleep_until(stage.clock.instant(hours(1))).await;
        stage.secret("shop-tls", &days("shop.example.com", 0, 90));
        sleep_until(stage.clock.instant(kill_at(hours(1)))).await;
        stage.restart().await;
        sleep_until(stage.clock.instant(hours(2))).await;
        let broken = stage.broken();
        assert!(
            broken.is_empty(),
            "killed after {after}: {broken:#?}\n{}",
            stage.timeline.text()
        );
        let arrivals = stage.sinks.arrivals();
        let heard = heard(&arrivals).remove("hook").unwrap_or_default();
        let repeated = arrivals.len() - heard.len();
        (heard, repeated)
    })
}

#[test]
fn killed_at_any_millisecond_nothing_is_lost_and_what_comes_twice_is_the_same() {
    let gists = |heard: &[Arrival]| heard.iter().map(|arrival| gist(&arrival.message)).collect::<Vec<_>>();
    let undisturbed = gists(&killed(TimeDelta::seconds(30), false).0);
    assert_eq!(undisturbed.len(), 2, "{undisturbed:#?}");
    // From a Secret to the record of the message about it takes less than 150 ms.
    let mut repetitions = 0;
    for after in (0..150).map(TimeDelta::milliseconds) {
        let (heard, repeated) = killed(after, false);
        assert_eq!(gists(&heard), undisturbed, "killed after {after}");
        repetitions += repeated;
        // What was never sent needs no end; what was, or may have been, has one.
        let (heard, _) = killed(after, true);
        assert!(
            heard.is_empty() || gists(&heard) == undisturbed,
            "killed after {after}: {heard:#?}"
        );
    }
    assert!(
        repetitions > 10,
        "the message was on the wire only {repetitions} times when the operator was killed"
    );
}

#[test]
fn stopped_in_order() {
    Story::new(
        "stopped_in_order",
        "The operator is asked to stop while it claims a message, which isn't on the wire yet: it gives the claim back. What
starts next, by another name, sends it at once.",
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
