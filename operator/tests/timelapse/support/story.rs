//! Stories: how they are written, and how they are played.

use super::{
    clock::label,
    receivers::Arrival,
    stage::{Stage, monitor_key, paused},
    telling_rules::{gist, heard, known_in_the_end},
};
use certmon_crd::CertificateMonitorStatus;
use chrono::{DateTime, TimeDelta, Utc};
use futures::{FutureExt, future::BoxFuture};
use std::collections::{BTreeMap, BTreeSet};
use tokio::time::sleep_until;

/// After a step, this long until the rules are looked at.
const SETTLE: TimeDelta = TimeDelta::milliseconds(900);

/// How much later, or earlier, a restart may make a message: a held finding's grace begins anew (10 min), the first look at
/// what was open comes within 15 min, and what is confirmed by a second look needs that look again (30 s, 2 min).
const ONE_ROUND: TimeDelta = TimeDelta::minutes(28);

type Act = Box<dyn for<'a> Fn(&'a mut Stage) -> BoxFuture<'a, ()>>;

enum What {
    /// Something happens.
    Act(Act),
    /// From here on nothing is written.
    QuietBegins,
    /// Up to here nothing was written.
    QuietEnds,
}

struct Step {
    at: TimeDelta,
    text: String,
    what: What,
}

/// What must be the same when a story is played with restarts.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Compared {
    /// The messages to each sink, in their order.
    Messages,
    /// Where it all ends: a restart begins counting anew, and what comes and goes is never counted to the end.
    End,
}

/// A story.
pub(crate) struct Story {
    name: &'static str,
    about: &'static str,
    steps: Vec<Step>,
    processes: &'static [&'static str],
    compared: Compared,
}

/// When the operator is restarted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Restarts {
    Never,
    /// At every step, before anything happens: the step happens while nobody watches.
    BeforeEach,
    /// At every step, in the midst of what the operator does about it.
    AfterEach,
    /// At one step, before anything happens.
    Before(usize),
}

/// A story that was played.
struct Played {
    timeline: String,
    arrivals: Vec<Arrival>,
    status: Option<CertificateMonitorStatus>,
    alerts: Vec<String>,
}

pub(crate) fn day(days: i64) -> TimeDelta {
    TimeDelta::days(days)
}

pub(crate) fn hours(hours: i64) -> TimeDelta {
    TimeDelta::hours(hours)
}

pub(crate) fn minutes(minutes: i64) -> TimeDelta {
    TimeDelta::minutes(minutes)
}

pub(crate) fn seconds(seconds: i64) -> TimeDelta {
    TimeDelta::seconds(seconds)
}

impl Story {
    /// A story, and in a few sentences what it shows.
    pub(crate) fn new(name: &'static str, about: &'static str) -> Self {
        Self {
            name,
            about,
            steps: Vec::new(),
            processes: &["pod-a"],
            compared: Compared::Messages,
        }
    }

    /// Something happens.
    pub(crate) fn at(self, at: TimeDelta, text: &str, act: impl Fn(&mut Stage) + Clone + 'static) -> Self {
        self.step(at, text, move |stage| {
            act(stage);
            async {}.boxed()
        })
    }

    /// Something happens that takes its time.
    pub(crate) fn step(
        mut self,
        at: TimeDelta,
        text: &str,
        act: impl for<'a> Fn(&'a mut Stage) -> BoxFuture<'a, ()> + 'static,
    ) -> Self {
        self.push(at, text, What::Act(Box::new(act)));
        self
    }

    /// Between these two instants nothing is written: neither status nor ledger, and no Event.
    pub(crate) fn quiet(mut self, from: TimeDelta, until: TimeDelta) -> Self {
        self.push(from, "(a quiet stretch begins)", What::QuietBegins);
        self.push(until, "(it ends)", What::QuietEnds);
        self
    }

    /// The story ends here.
    pub(crate) fn end(self, at: TimeDelta) -> Self {
        self.at(at, "the end", |_| {})
    }

    /// These processes run side by side.
    pub(crate) fn by(mut self, processes: &'static [&'static str]) -> Self {
        self.processes = processes;
        self
    }

    /// With restarts, only the end is compared.
    pub(crate) fn by_its_end(mut self) -> Self {
        self.compared = Compared::End;
        self
    }

    fn push(&mut self, at: TimeDelta, text: &str, what: What) {
        let before = self.steps.last().map_or(TimeDelta::zero(), |step| step.at);
        assert!(at >= before, "{text} comes too early");
        let text = text.to_owned();
        self.steps.push(Step { at, text, what });
    }

    /// Plays the story as it is, compares the timeline with the golden one, and plays it again with restarts.
    pub(crate) fn tell(&self) {
        let first = self.play(Restarts::Never);
        let text = format!("{}\n\n{}", self.about, first.timeline);
        insta::with_settings!({
            snapshot_path => "../golden",
            prepend_module_to_snapshot => false,
            omit_expression => true,
        }, {
            insta::assert_snapshot!(self.name, text);
        });
        let single = (1..self.steps.len()).map(Restarts::Before);
        for restarts in [Restarts::BeforeEach, Restarts::AfterEach].into_iter().chain(single) {
            let again = self.play(restarts);
            self.compare(&first, &again, restarts);
        }
    }

    fn compare(&self, first: &Played, again: &Played, restarts: Restarts) {
        let at = match restarts {
            Restarts::Before(step) => format!("{restarts:?}: {}", self.steps[step].text),
            _ => format!("{restarts:?}"),
        };
        let complain = |problem: String| {
            panic!(
                "{}, restarted {at}: {problem}\n\n=== without restarts\n{}\n\n=== with\n{}",
                self.name, first.timeline, again.timeline
            )
        };
        assert_eq!(
            first.alerts, again.alerts,
            "{}, restarted {at}: what is open\n{}",
            self.name, again.timeline
        );
        let facts = |played: &Played| {
            let status = played.status.as_ref()?;
            let problems: Vec<String> = status.problems.iter().map(|problem| problem.finding.clone()).collect();
            let conditions: Vec<(String, String, String)> = status
                .conditions
                .iter()
                .map(|one| (one.type_.clone(), one.status.clone(), one.reason.clone()))
                .collect();
            Some((conditions, problems, status.certificates, status.next_expiry.clone()))
        };
        assert_eq!(
            facts(first),
            facts(again),
            "{}, restarted {at}: the status\n{}",
            self.name,
            again.timeline
        );
        let (one, other) = (heard(&first.arrivals), heard(&again.arrivals));
        let knows = |heard: &BTreeMap<String, Vec<Arrival>>| -> BTreeMap<String, BTreeSet<String>> {
            heard
                .iter()
                .map(|(sink, arrivals)| (sink.clone(), known_in_the_end(arrivals)))
                .collect()
        };
        if knows(&one) != knows(&other) {
            complain("the sinks know something else in the end".to_owned());
        }
        if self.compared == Compared::End {
            return;
        }
        let gists = |heard: &BTreeMap<String, Vec<Arrival>>| -> BTreeMap<String, Vec<String>> {
            let of = |arrivals: &Vec<Arrival>| arrivals.iter().map(|arrival| gist(&arrival.message)).collect();
            heard
                .iter()
                .map(|(sink, arrivals)| (sink.clone(), of(arrivals)))
                .collect()
        };
        if gists(&one) != gists(&other) {
            complain("the sinks were told something else".to_owned());
        }
        for (before, after) in one.values().flatten().zip(other.values().flatten()) {
            let later = after.at - before.at;
            if later.abs() > ONE_ROUND {
                complain(format!(
                    "{} came {} s later",
                    gist(&before.message),
                    later.num_seconds()
                ));
            }
        }
    }

    fn play(&self, restarts: Restarts) -> Played {
        paused(self.played(restarts))
    }

    async fn played(&self, restarts: Restarts) -> Played {
        let mut stage = Stage::new();
        for identity in self.processes {
            stage.start(identity);
        }
        let (mut calls, mut looks) = (stage.api.calls(), 0);
        for (number, step) in self.steps.iter().enumerate() {
            sleep_until(stage.clock.instant(step.at)).await;
            if matches!(step.what, What::QuietEnds) {
                let (now, looks_now) = (stage.api.calls(), stage.servers.looks());
                assert_eq!(
                    now,
                    calls,
                    "{} ({restarts:?}): the stretch that ends at {} was not quiet\n{}",
                    self.name,
                    label(self.wall(&stage)),
                    stage.timeline.text()
                );
                stage.timeline.quiet(&format!(
                    "since then: no write, no Event, no message; {} looks",
                    looks_now - looks
                ));
            } else {
                stage.timeline.step(&step.text);
            }
            let before = restarts == Restarts::BeforeEach || restarts == Restarts::Before(number);
            let identities = if before { stage.kill().await } else { vec![] };
            match &step.what {
                What::Act(act) => act(&mut stage).await,
                What::QuietBegins => (calls, looks) = (stage.api.calls(), stage.servers.looks()),
                What::QuietEnds => {}
            }
            if stage.is_down() {
                for identity in identities {
                    stage.start(&identity);
                }
            }
            if restarts == Restarts::AfterEach {
                sleep_until(stage.clock.instant(step.at + TimeDelta::milliseconds(33))).await;
                stage.restart().await;
            }
            sleep_until(stage.clock.instant(step.at + SETTLE)).await;
            let broken = stage.broken();
            assert!(
                broken.is_empty(),
                "{} ({restarts:?}), after \"{}\":\n{}\n{}",
                self.name,
                step.text,
                broken.join("\n"),
                stage.timeline.text()
            );
        }
        let open = stage.api.ledger(&monitor_key()).unwrap_or_default();
        Played {
            timeline: stage.timeline.text(),
            arrivals: stage.sinks.arrivals(),
            status: stage.api.status(&monitor_key()),
            alerts: open
                .alerts
                .values()
                .map(|alert| format!("{} {} {} {:?}", alert.place, alert.finding, alert.severity, alert.ended))
                .collect(),
        }
    }

    fn wall(&self, stage: &Stage) -> DateTime<Utc> {
        stage.timeline.now()
    }
}
