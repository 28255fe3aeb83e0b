//! Faults of the operator's own, and a ledger that it can't read: what panics costs the object over which it panics, for a
//! while, and nobody else.

use super::{ENDPOINT, SECRETS};
use crate::support::{
    certificates::days,
    receivers::{Answer, Panics},
    servers::Serves,
    stage::{Stage, monitor_key, paused},
    story::{Story, day, hours, minutes, seconds},
};
use certmon::cluster::Key;
use chrono::TimeDelta;
use std::collections::BTreeSet;
use tokio::time::sleep_until;

/// The story's monitor in trouble, and another one that goes on.
struct Trouble(Stage);

impl Trouble {
    fn begin() -> Self {
        let mut stage = Stage::new();
        stage.start("pod-a");
        stage.another(&calm(), &SECRETS.replace("name: hook", "name: calm"));
        Self(stage)
    }

    async fn until(&self, at: TimeDelta) {
        sleep_until(self.0.clock.instant(at)).await;
        let broken = self.0.broken();
        assert!(broken.is_empty(), "{}\n{}", broken.join("\n"), self.0.timeline.text());
    }

    /// The other monitor finds and tells something at this instant.
    async fn the_calm_one_goes_on(&self, at: TimeDelta) {
        self.until(at).await;
        let stage = &self.0;
        let before = self.heard("calm").len();
        let name = format!("calm-{}.example.com", at.num_seconds());
        let key = Key::new("calm", &name);
        stage.secret_of(&key, &[("tls.crt", &days(&name, -88, 2).pem)]);
        self.until(at + minutes(2)).await;
        assert_eq!(self.heard("calm").len(), before + 1, "{}", stage.timeline.text());
    }

    /// Ids of the messages that arrived at a sink.
    fn heard(&self, sink: &str) -> BTreeSet<String> {
        let arrivals = self.0.sinks.arrivals();
        let of_sink = arrivals.into_iter().filter(|arrival| arrival.message.sink == sink);
        of_sink.map(|arrival| arrival.message.id).collect()
    }

    fn panics(&self) -> usize {
        let text = self.0.metrics().encode().expect("text");
        let count = text.lines().find_map(|line| line.strip_prefix("certmon_panics_total "));
        count.and_then(|count| count.parse().ok()).expect("a count")
    }

    /// A condition of the story's monitor: its status and its reason.
    fn condition(&self, type_: &str) -> (String, String) {
        let status = self.0.api.status(&monitor_key()).unwrap_or_default();
        let found = status.conditions.iter().find(|one| one.type_ == type_);
        found
            .map(|one| (one.status.clone(), one.reason.clone()))
            .unwrap_or_default()
    }

    #[track_caller]
    fn is(&self, type_: &str, expected: [&str; 2]) {
        let (status, reason) = self.condition(type_);
        assert_eq!(
            [status.as_str(), reason.as_str()],
            expected,
            "{type_}\n{}",
            self.0.timeline.text()
        );
    }

    #[track_caller]
    fn says(&self, text: &str) {
        let timeline = self.0.timeline.text();
        assert!(timeline.contains(text), "nobody says {text:?}\n{timeline}");
    }
}

fn calm() -> Key {
    Key::new("calm", "calm")
}

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
fn a_look_that_panics_is_taken_again_and_costs_no_other_place() {
    paused(async {
        let trouble = Trouble::begin();
        let stage = &trouble.0;
        for (name, address) in [("www.example.com", "192.0.2.10"), ("api.example.com", "192.0.2.11")] {
            stage.servers.resolve(name, &[address]);
        }
        stage.servers.set("192.0.2.10", Serves::Panics);
        stage.servers.serve("192.0.2.11", &days("api.example.com", -80, 10));
        stage.monitor(&ENDPOINT.replace(
            "- host: www.example.com",
            "- host: www.example.com\n  - host: api.example.com",
        ));
        trouble.the_calm_one_goes_on(minutes(1)).await;
        assert!(trouble.panics() >= 1, "{}", stage.timeline.text());
        trouble.says("Warning Probe InternalError");
        // The other place of the same monitor was judged and told.
        trouble.is("Healthy", ["False", "ExpiringSoon"]);
        assert_eq!(trouble.heard("hook").len(), 1, "{}", stage.timeline.text());
        // It goes on panicking: it is looked at again and again, and not in a circle.
        trouble.until(hours(3)).await;
        let panics = trouble.panics();
        assert!((2..=20).contains(&panics), "{panics} panics in three hours");
        trouble.the_calm_one_goes_on(hours(3)).await;
        // It works.
        stage.servers.serve("192.0.2.10", &days("www.example.com", 0, 90));
        stage.servers.serve("192.0.2.11", &days("api.example.com", 0, 90));
        trouble.until(hours(5)).await;
        trouble.is("Healthy", ["True", "AllValid"]);
        assert_eq!(trouble.heard("hook").len(), 2, "{}", stage.timeline.text());
    });
}

#[test]
fn a_delivery_that_panics_is_made_again_with_the_same_id() {
    paused(async {
        let trouble = Trouble::begin();
        let stage = &trouble.0;
        stage.sinks.set("hook", Answer::Panics);
        stage.secret("shop-tls", &days("shop.example.com", -80, 10));
        stage.monitor(SECRETS);
        trouble.the_calm_one_goes_on(minutes(1)).await;
        trouble.says("Warning Evaluate InternalError: Sending to sink hook failed inside certmon");
        trouble.until(hours(2)).await;
        let panics = trouble.panics();
        assert!((2..=60).contains(&panics), "{panics} panics in two hours");
        trouble.is("Notified", ["False", "DeliveryFailed"]);
        trouble.is("Healthy", ["False", "ExpiringSoon"]);
        trouble.the_calm_one_goes_on(hours(2)).await;
        stage.sinks.set("hook", Answer::Accepts);
        trouble.until(hours(4)).await;
        trouble.is("Notified", ["True", "Delivered"]);
        // However often it was on the wire, it is one message.
        assert_eq!(trouble.heard("hook").len(), 1, "{}", stage.timeline.text());
        assert!(stage.sinks.arrivals().len() > panics, "{}", stage.timeline.text());
    });
}

#[test]
fn a_sink_whose_check_panics_says_so_and_another_version_is_checked() {
    paused(async {
        let trouble = Trouble::begin();
        let stage = &trouble.0;
        stage.sinks.panic_over("slack-hook", Some(Panics::Check));
        stage.slack_secret("slack-hook");
        stage.secret("shop-tls", &days("shop.example.com", -80, 10));
        stage.monitor(SLACK);
        trouble.the_calm_one_goes_on(minutes(1)).await;
        trouble.is("Notified", ["False", "SinkMisconfigured"]);
        trouble.is("Healthy", ["False", "ExpiringSoon"]);
        trouble.says("Warning Evaluate InternalError: Checking sink team failed inside certmon");
        assert_eq!(trouble.panics(), 1);
        stage.sinks.panic_over("slack-hook", None);
        stage.slack_secret("slack-hook");
        trouble.until(minutes(30)).await;
        trouble.is("Notified", ["True", "Delivered"]);
        assert_eq!(trouble.heard("team").len(), 1, "{}", stage.timeline.text());
    });
}

#[test]
fn a_monitor_over_which_the_operator_panics_is_left_alone_for_ten_minutes() {
    paused(async {
        let trouble = Trouble::begin();
        let stage = &trouble.0;
        stage.sinks.panic_over("slack-hook", Some(Panics::Pass));
        stage.slack_secret("slack-hook");
        stage.secret("shop-tls", &days("shop.example.com", -80, 10));
        stage.monitor(SLACK);
        trouble.the_calm_one_goes_on(minutes(1)).await;
        trouble.is("Stalled", ["True", "InternalError"]);
        trouble.says("Warning Evaluate InternalError: Going over this monitor failed inside certmon");
        // What happens to it meanwhile doesn't make it panic again.
        for minute in 4..9 {
            trouble.until(minutes(minute)).await;
            stage.secret("more-tls", &days("more.example.com", 0, 80 + minute));
        }
        trouble.until(minutes(10) - seconds(1)).await;
        assert_eq!(trouble.panics(), 1, "{}", stage.timeline.text());
        trouble.the_calm_one_goes_on(minutes(30)).await;
        assert!((2..=4).contains(&trouble.panics()), "{}", stage.timeline.text());
        trouble.is("Stalled", ["True", "InternalError"]);
        // It is mended: by itself within ten minutes.
        stage.sinks.panic_over("slack-hook", None);
        trouble.until(minutes(43)).await;
        assert_eq!(trouble.condition("Stalled").0, "", "{}", stage.timeline.text());
        trouble.is("Healthy", ["False", "ExpiringSoon"]);
        trouble.is("Notified", ["True", "Delivered"]);
        assert_eq!(trouble.heard("team").len(), 1, "{}", stage.timeline.text());
    });
}

#[test]
fn an_edited_monitor_is_gone_over_though_it_was_left_alone() {
    paused(async {
        let trouble = Trouble::begin();
        let stage = &trouble.0;
        stage.sinks.panic_over("slack-hook", Some(Panics::Pass));
        stage.slack_secret("slack-hook");
        stage.secret("shop-tls", &days("shop.example.com", -80, 10));
        stage.monitor(SLACK);
        trouble.until(minutes(1)).await;
        trouble.is("Stalled", ["True", "InternalError"]);
        stage.monitor(SECRETS);
        trouble.until(minutes(2)).await;
        assert_eq!(trouble.condition("Stalled").0, "", "{}", stage.timeline.text());
        assert_eq!(trouble.heard("hook").len(), 1, "{}", stage.timeline.text());
    });
}

#[test]
fn ledger_of_a_newer_version() {
    Story::new(
        "ledger_of_a_newer_version",
        "The ledger was written by a newer version of the operator, which was rolled back. It is neither read nor
overwritten, and nothing is sent, since nobody knows what the sinks were told: that is said, with the next step. When
somebody deletes the ledger, what is true is told.",
    )
    .at(
        minutes(0),
        "a newer ledger, a monitor and a Secret that ends on day 10",
        |stage| {
            stage.api.newer_ledger(&monitor_key());
            stage.secret("shop-tls", &days("shop.example.com", -80, 10));
            stage.monitor(SECRETS);
        },
    )
    .at(hours(20), "nobody does anything about it", |_| {})
    .at(day(1), "the ledger is deleted", |stage| {
        stage.api.delete_ledger(&monitor_key());
    })
    .at(day(1) + hours(2), "the certificate is renewed", |stage| {
        stage.secret("shop-tls", &days("shop.example.com", 1, 91));
    })
    .quiet(day(1) + hours(3), day(20))
    .tell();
}

/// What `/healthz` asks: an engine with nothing to do turns too, and one that is gone doesn't.
#[test]
fn an_idle_engine_turns_every_ten_minutes_and_a_dead_one_does_not() {
    paused(async {
        let mut stage = Stage::new();
        stage.start("pod-a");
        let metrics = stage.metrics();
        let standstill = || metrics.standstill().expect("it has turned");
        for minute in 1..300 {
            sleep_until(stage.clock.instant(minutes(minute))).await;
            let silent = standstill();
            assert!(silent <= 601, "minute {minute}: no turn for {silent} s");
        }
        stage.kill().await;
        sleep_until(stage.clock.instant(hours(6))).await;
        assert!(standstill() > 3000, "{} s", standstill());
    });
}
