use super::*;
use crate::{
    finding::{Facts, Finding, Severity},
    hash::ShortHash,
    ledger::{Ended, LEDGER_BYTES, Said, alert_id},
    message::{AlertStatus, Message, MessageCounts, MessageReason, ResolvedAs},
    place::{Place, Role},
};
use proptest::prelude::*;
use std::collections::BTreeMap;

pub(crate) fn at(seconds: i64) -> DateTime<Utc> {
    DateTime::from_timestamp(1_800_000_000 + seconds, 0).unwrap()
}

pub(crate) fn manners() -> SinkManners {
    SinkManners {
        name: "team".into(),
        min_severity: Severity::Warning,
        send_resolved: true,
        repeat_warning: Some(TimeDelta::days(7)),
        repeat_critical: Some(TimeDelta::days(1)),
        longest_attempt: TimeDelta::seconds(60),
    }
}

pub(crate) fn context(manners: &SinkManners) -> SinkContext<'_> {
    SinkContext {
        namespace: "shop",
        monitor: "web",
        cluster: None,
        manners,
        silenced: &|_| false,
        ready: true,
        suspended: false,
        misconfigured: false,
        holder: "pod-a",
        ledger_uid: "uid",
        resource_version: "1",
        test_token: None,
        try_now: false,
    }
}

/// An intent that tells of one alert.
pub(crate) fn intent_telling(alert: ShortHash) -> Intent {
    Intent {
        id: "id".into(),
        reason: MessageReason::First,
        as_of: at(0),
        told: BTreeMap::from([(alert, Said::Warning)]),
        token: None,
        holder: "pod-a".into(),
        deadline: at(65),
        attempt: 0,
        rung: Rung::All,
        message: Message {
            version: 1,
            id: "id".into(),
            reason: MessageReason::First,
            cluster: None,
            namespace: "shop".into(),
            monitor: "web".into(),
            sink: "team".into(),
            as_of: at(0),
            counts: MessageCounts::default(),
            truncated: 0,
            alerts: Vec::new(),
        },
    }
}

pub(crate) fn delivered() -> Outcome {
    Outcome::Delivered {
        thread: BTreeMap::from([("ts".into(), "17".into())]),
        rejected_recipients: 0,
    }
}

pub(crate) fn failed(class: FailureClass) -> Outcome {
    Outcome::Failed(Failure {
        class,
        code: None,
        retry_after: None,
    })
}

pub(crate) fn open(ledger: &mut Ledger, name: &str, finding: Finding, severity: Severity, now: i64) -> ShortHash {
    let place = Place::Secret {
        namespace: "shop".into(),
        name: name.into(),
        key: "tls.crt".into(),
    };
    let id = alert_id("shop", "web", &place, Role::Leaf, finding.kind());
    let facts = ledger.intern(&Facts {
        message: format!("{finding} of {name}"),
        ..Facts::default()
    });
    let alert = Alert {
        place,
        role: Role::Leaf,
        finding,
        severity,
        since: at(now),
        raised: None,
        facts,
        ended: None,
    };
    ledger.alerts.insert(id, alert);
    id
}

pub(crate) fn end(ledger: &mut Ledger, id: ShortHash, now: i64) {
    if let Some(alert) = ledger.alerts.get_mut(&id) {
        alert.ended = Some(Ended {
            at: at(now),
            as_: ResolvedAs::Resolved,
            message: "is fine".into(),
        });
    }
    ledger.forget_the_heard();
}

/// One sink, driven without faults.
struct World {
    ledger: Ledger,
    manners: SinkManners,
}

impl World {
    fn new() -> Self {
        Self {
            ledger: Ledger::default(),
            manners: manners(),
        }
    }

    fn sink(&mut self) -> &mut SinkLedger {
        self.ledger.sinks.entry("team".into()).or_default()
    }

    fn decide(&self, now: i64) -> Decision {
        decide(&self.ledger, &context(&self.manners), at(now))
    }

    fn attempt(&mut self, outcome: &Outcome, now: i64) -> Intent {
        let intent = match self.decide(now) {
            Decision::Begin(intent) | Decision::Resume(intent) => intent,
            other => panic!("nothing to send at {now}: {other:?}"),
        };
        self.ledger = begin(&self.ledger, "team", &intent);
        *self.sink() = record(&self.sink().clone(), &intent, outcome, 7, at(now));
        self.ledger.forget_the_heard();
        intent
    }

    fn send(&mut self, now: i64) -> Message {
        self.attempt(&delivered(), now).message
    }

    /// Writes what needs no message.
    fn absorb(&mut self, now: i64) -> Option<DateTime<Utc>> {
        match self.decide(now) {
            Decision::Nothing { absorbed, next } => {
                if let Some(sink) = absorbed {
                    *self.sink() = sink;
                    self.ledger.forget_the_heard();
                }
                next
            }
            other => panic!("something at {now}: {other:?}"),
        }
    }
}

#[test]
fn the_first_message_leaves_once_ready_and_says_all() {
    let mut world = World::new();
    open(&mut world.ledger, "a", Finding::ExpiringSoon, Severity::Warning, 0);
    open(&mut world.ledger, "b", Finding::Expired, Severity::Critical, 0);
    let unready = SinkContext {
        ready: false,
        ..context(&world.manners)
    };
    assert_eq!(decide(&world.ledger, &unready, at(0)), Decision::Blocked);
    let message = world.send(0);
    assert_eq!(message.reason, MessageReason::First);
    assert_eq!((message.counts.critical, message.counts.warning), (1, 1));
    assert_eq!(message.alerts[0].finding, Finding::Expired, "worst first");
    assert_eq!(world.absorb(1), Some(at(DAY)), "the reminder of the worst");
}

const DAY: i64 = 86_400;

#[test]
fn a_new_warning_waits_for_the_interval_and_a_critical_for_a_minute() {
    for (finding, severity, leaves) in [
        (Finding::ExpiringSoon, Severity::Warning, 300),
        (Finding::HostnameMismatch, Severity::Critical, 60),
        (Finding::Expired, Severity::Critical, 60),
    ] {
        let mut world = World::new();
        open(&mut world.ledger, "a", Finding::WeakCrypto, Severity::Warning, 0);
        world.send(0);
        open(&mut world.ledger, "b", finding, severity, 10);
        assert_eq!(world.decide(10), Decision::Wait(at(leaves)), "{finding}");
        assert_eq!(world.send(leaves).reason, MessageReason::New);
    }
}

#[test]
fn a_crossing_with_no_message_in_the_last_interval_leaves_at_once() {
    let mut world = World::new();
    open(&mut world.ledger, "a", Finding::WeakCrypto, Severity::Warning, 0);
    world.send(0);
    open(&mut world.ledger, "b", Finding::ExpiringSoon, Severity::Warning, 1000);
    assert!(matches!(world.decide(1000), Decision::Begin(_)));
}

#[test]
fn expired_after_expiry_critical_is_news() {
    let mut world = World::new();
    open(&mut world.ledger, "a", Finding::ExpiryCritical, Severity::Critical, 0);
    world.send(0);
    open(&mut world.ledger, "a", Finding::Expired, Severity::Critical, 0);
    let message = world.send(60);
    assert_eq!(message.reason, MessageReason::Escalated);
    assert_eq!(message.alerts[0].previous_severity, Some(Severity::Critical));
}

#[test]
fn an_end_waits_a_minute_at_most_and_is_told_once() {
    let mut world = World::new();
    let a = open(&mut world.ledger, "a", Finding::WeakCrypto, Severity::Warning, 0);
    open(&mut world.ledger, "b", Finding::WeakCrypto, Severity::Warning, 0);
    world.send(0);
    end(&mut world.ledger, a, 10);
    assert_eq!(world.decide(10), Decision::Wait(at(60)));
    let message = world.send(60);
    assert_eq!(message.reason, MessageReason::ResolvedSome);
    assert_eq!(
        message.alerts.iter().map(|alert| alert.status).collect::<Vec<_>>(),
        [AlertStatus::Resolved, AlertStatus::Firing]
    );
    assert_eq!(message.alerts[0].resolved_as, Some(ResolvedAs::Resolved));
    world.absorb(1000);
    assert_eq!(world.ledger.alerts.len(), 1, "heard, so forgotten");
}

#[test]
fn the_last_end_is_resolved_all_and_ends_the_thread() {
    let mut world = World::new();
    let a = open(&mut world.ledger, "a", Finding::WeakCrypto, Severity::Warning, 0);
    world.send(0);
    assert!(!world.sink().thread.is_empty());
    end(&mut world.ledger, a, 100);
    assert_eq!(world.send(100).reason, MessageReason::ResolvedAll);
    assert!(world.sink().thread.is_empty());
    assert_eq!(world.absorb(101), None);
}

#[test]
fn what_a_sink_was_never_told_ends_in_silence() {
    let mut world = World::new();
    let a = open(&mut world.ledger, "a", Finding::WeakCrypto, Severity::Warning, 0);
    end(&mut world.ledger, a, 1);
    assert_eq!(world.absorb(1), None);
}

#[test]
fn an_end_that_is_not_sent_still_clears_what_was_told() {
    let mut world = World::new();
    world.manners.send_resolved = false;
    let a = open(&mut world.ledger, "a", Finding::WeakCrypto, Severity::Warning, 0);
    world.send(0);
    end(&mut world.ledger, a, 10);
    world.absorb(10);
    assert!(world.sink().told.is_empty());
    assert!(world.ledger.alerts.is_empty());
    open(&mut world.ledger, "a", Finding::WeakCrypto, Severity::Warning, 500);
    assert_eq!(world.send(500).reason, MessageReason::First);
}

#[test]
fn a_fall_in_severity_sends_nothing_and_the_next_message_says_it() {
    let mut world = World::new();
    open(&mut world.ledger, "a", Finding::ExpiryCritical, Severity::Critical, 0);
    world.send(0);
    open(&mut world.ledger, "a", Finding::ExpiringSoon, Severity::Warning, 0);
    assert_eq!(world.absorb(1000), Some(at(7 * DAY)), "a warning's reminder");
    open(&mut world.ledger, "a", Finding::ExpiryCritical, Severity::Critical, 0);
    world.absorb(1500);
    open(&mut world.ledger, "a", Finding::ExpiringSoon, Severity::Warning, 0);
    open(&mut world.ledger, "b", Finding::WeakCrypto, Severity::Warning, 2000);
    let message = world.send(2000);
    let fallen = &message.alerts[1];
    assert_eq!(
        (fallen.severity, fallen.previous_severity),
        (Severity::Warning, Some(Severity::Critical))
    );
    open(&mut world.ledger, "a", Finding::ExpiryCritical, Severity::Critical, 0);
    assert_eq!(
        world.send(3000).reason,
        MessageReason::Escalated,
        "the fall was said, so the rise is news"
    );
}

#[test]
fn what_is_below_min_severity_is_not_said_and_a_fall_below_it_is_not_an_end() {
    let mut world = World::new();
    world.manners.min_severity = Severity::Critical;
    open(&mut world.ledger, "w", Finding::WeakCrypto, Severity::Warning, 0);
    assert_eq!(world.absorb(0), None);
    let a = open(&mut world.ledger, "a", Finding::ExpiryCritical, Severity::Critical, 0);
    assert_eq!(world.send(0).alerts.len(), 1);
    open(&mut world.ledger, "a", Finding::ExpiringSoon, Severity::Warning, 0);
    assert_eq!(world.absorb(1000), None, "nothing to repeat either");
    end(&mut world.ledger, a, 2000);
    let message = world.send(2000);
    assert_eq!((message.reason, message.alerts.len()), (MessageReason::ResolvedAll, 1));
}

#[test]
fn a_silence_holds_what_is_new_and_never_an_end() {
    let mut world = World::new();
    let a = open(&mut world.ledger, "a", Finding::ExpiringSoon, Severity::Warning, 0);
    world.send(0);
    open(&mut world.ledger, "b", Finding::WeakCrypto, Severity::Warning, 10);
    open(&mut world.ledger, "a", Finding::ExpiryCritical, Severity::Critical, 10);
    let manners = world.manners.clone();
    let silenced = SinkContext {
        silenced: &|_| true,
        ..context(&manners)
    };
    for now in [1000, 8 * DAY] {
        let decision = decide(&world.ledger, &silenced, at(now));
        let nothing = Decision::Nothing {
            absorbed: None,
            next: None,
        };
        assert_eq!(decision, nothing, "neither new, nor worse, nor repeated, nor ended");
    }
    end(&mut world.ledger, a, 8 * DAY);
    let Decision::Begin(intent) = decide(&world.ledger, &silenced, at(8 * DAY)) else {
        panic!("the end is held")
    };
    assert_eq!(intent.message.counts.silenced, 1);
    assert_eq!(intent.message.alerts.len(), 1);
    assert!(
        matches!(world.decide(8 * DAY), Decision::Begin(_)),
        "the silence's end tells the rest"
    );
}

#[test]
fn reminders_follow_the_worst_open_severity_and_the_last_message() {
    let mut world = World::new();
    open(&mut world.ledger, "a", Finding::ExpiryCritical, Severity::Critical, 0);
    world.send(0);
    let message = world.send(DAY);
    assert_eq!((message.reason, message.alerts.len()), (MessageReason::Reminder, 1));
    assert_eq!(world.absorb(DAY + 1), Some(at(2 * DAY)));
    world.manners.repeat_critical = None;
    assert_eq!(world.absorb(400 * DAY), None);
}

#[test]
fn a_suspended_monitor_says_nothing_and_the_difference_on_resume() {
    let mut world = World::new();
    open(&mut world.ledger, "a", Finding::Expired, Severity::Critical, 0);
    let manners = world.manners.clone();
    let suspended = SinkContext {
        suspended: true,
        test_token: Some("t"),
        ..context(&manners)
    };
    assert!(matches!(
        decide(&world.ledger, &suspended, at(0)),
        Decision::Nothing {
            absorbed: None,
            next: None
        }
    ));
    world.send(1000);
}

#[test]
fn a_clear_failure_clears_the_intent_and_the_truth_of_then_goes_out() {
    let mut world = World::new();
    let a = open(&mut world.ledger, "a", Finding::WeakCrypto, Severity::Warning, 0);
    let first = world.attempt(&failed(FailureClass::Connect), 0);
    assert_eq!(world.sink().intent, None);
    assert_eq!(world.decide(1), Decision::Wait(at(8)), "1 + 7 % 10 s");
    open(&mut world.ledger, "b", Finding::Expired, Severity::Critical, 2);
    end(&mut world.ledger, a, 2);
    let second = world.attempt(&delivered(), 8);
    assert_ne!(first.id, second.id);
    assert_eq!(second.message.alerts.len(), 1, "what came and went is never mentioned");
    assert_eq!(world.sink().retry, None);
}

#[test]
fn an_ambiguous_outcome_keeps_the_message_as_it_was() {
    let mut world = World::new();
    open(&mut world.ledger, "a", Finding::WeakCrypto, Severity::Warning, 0);
    let first = world.attempt(&failed(FailureClass::Ambiguous), 0);
    open(&mut world.ledger, "b", Finding::Expired, Severity::Critical, 2);
    let again = world.attempt(&failed(FailureClass::Connect), 8);
    assert_eq!(
        (&again.id, &again.message, again.attempt),
        (&first.id, &first.message, 1)
    );
    assert!(world.sink().intent.is_some(), "it may have arrived the first time");
    let last = world.attempt(&delivered(), 100);
    assert_eq!(last.message, first.message);
    assert_eq!(world.send(160).reason, MessageReason::New);
}

#[test]
fn a_crash_after_the_intent_sends_the_same_message_again() {
    let mut world = World::new();
    let a = open(&mut world.ledger, "a", Finding::WeakCrypto, Severity::Warning, 0);
    let Decision::Begin(intent) = world.decide(0) else {
        panic!()
    };
    world.ledger = begin(&world.ledger, "team", &intent);
    end(&mut world.ledger, a, 5);
    let message = world.send(5);
    assert_eq!(message, intent.message);
    assert_eq!(
        world.send(65).reason,
        MessageReason::ResolvedAll,
        "it was told, so its end is"
    );
}

#[test]
fn another_process_waits_for_the_claim_and_then_sends_the_same() {
    let mut world = World::new();
    open(&mut world.ledger, "a", Finding::WeakCrypto, Severity::Warning, 0);
    let Decision::Begin(intent) = world.decide(0) else {
        panic!()
    };
    assert_eq!(intent.deadline, at(65));
    world.ledger = begin(&world.ledger, "team", &intent);
    let manners = world.manners.clone();
    let other = SinkContext {
        holder: "pod-b",
        ..context(&manners)
    };
    assert_eq!(decide(&world.ledger, &other, at(1)), Decision::Held(at(65)));
    let Decision::Resume(taken) = decide(&world.ledger, &other, at(65)) else {
        panic!()
    };
    assert_eq!((taken.id, taken.message), (intent.id, intent.message));
    assert_eq!(
        (taken.holder.as_str(), taken.deadline, taken.attempt),
        ("pod-b", at(130), 1)
    );
    assert!(
        matches!(decide(&world.ledger, &other, at(-DAY)), Decision::Resume(_)),
        "a clock that was ahead"
    );
}

#[test]
fn a_record_of_another_intent_changes_nothing() {
    let mut world = World::new();
    open(&mut world.ledger, "a", Finding::WeakCrypto, Severity::Warning, 0);
    let first = world.attempt(&delivered(), 0);
    world.sink().intent = Some(Intent {
        id: "another".into(),
        ..first.clone()
    });
    let sink = world.sink().clone();
    assert_eq!(record(&sink, &first, &delivered(), 1, at(9)), sink);
    assert_eq!(release(&sink, &first, at(9)), sink);
    assert_eq!(record(&sink, &first, &failed(FailureClass::Connect), 1, at(9)), sink);
}

#[test]
fn a_shutdown_frees_the_claim_and_keeps_the_message() {
    let mut world = World::new();
    open(&mut world.ledger, "a", Finding::WeakCrypto, Severity::Warning, 0);
    let Decision::Begin(intent) = world.decide(0) else {
        panic!()
    };
    world.ledger = begin(&world.ledger, "team", &intent);
    *world.sink() = release(&world.sink().clone(), &intent, at(3));
    let manners = world.manners.clone();
    let other = SinkContext {
        holder: "pod-b",
        ..context(&manners)
    };
    let Decision::Resume(taken) = decide(&world.ledger, &other, at(3)) else {
        panic!()
    };
    assert_eq!((taken.id, taken.message), (intent.id, intent.message));
}

#[test]
fn pauses_after_failures() {
    let fast = [10, 20, 40, 80, 160, 320, 640, 900, 900];
    let slow = [300, 600, 1200, 2400, 3600, 3600, 3600, 3600, 3600];
    for (class, bounds, exact) in [
        (FailureClass::Connect, fast, false),
        (FailureClass::ServerError, fast, false),
        (FailureClass::RateLimited, fast, false),
        (FailureClass::CredentialsRejected, slow, true),
        (FailureClass::DestinationRejected, slow, true),
        (FailureClass::RecipientsRejected, slow, true),
        (FailureClass::TlsUntrusted, slow, true),
        (
            FailureClass::Misconfigured(Misconfigured::NotPermitted),
            [3600; 9],
            true,
        ),
    ] {
        let intent = intent_telling(ShortHash::of(&[b"a"]));
        let mut sink = SinkLedger::default();
        for (n, bound) in bounds.into_iter().enumerate() {
            sink.intent = Some(intent.clone());
            // One less than a multiple of every bound: the longest pause.
            sink = record(
                &sink,
                &intent,
                &failed(class),
                10 * 2 * 2 * 2 * 2 * 2 * 2 * 90 - 1,
                at(0),
            );
            let pause = (sink.retry.as_ref().unwrap().at - at(0)).num_seconds();
            assert!(
                pause == bound || !exact && (1..=bound).contains(&pause),
                "{class:?} {n}: {pause} of {bound}"
            );
        }
        assert_eq!(sink.retry.unwrap().since, at(0));
    }
}

#[test]
fn a_server_s_wish_is_the_floor_up_to_six_hours() {
    for (asked, pause) in [(120, 120), (1_000_000, 6 * 3600)] {
        let intent = intent_telling(ShortHash::of(&[b"a"]));
        let sink = SinkLedger {
            intent: Some(intent.clone()),
            ..SinkLedger::default()
        };
        let outcome = Outcome::Failed(Failure {
            class: FailureClass::RateLimited,
            code: Some(429),
            retry_after: Some(Duration::from_secs(asked)),
        });
        assert_eq!(record(&sink, &intent, &outcome, 0, at(0)).retry.unwrap().at, at(pause));
        // An instant within a second: rounded up, never down, so that the pause is not cut short.
        let within = at(0) + TimeDelta::milliseconds(600);
        let again = record(&sink, &intent, &outcome, 0, within).retry.unwrap().at;
        assert!(
            again >= within + TimeDelta::seconds(asked.min(21_600).cast_signed()),
            "{again}"
        );
    }
}

#[test]
fn a_pause_of_six_hours_or_more_is_kept_within_a_second_too() {
    for asked in [21_600, 86_400, u64::MAX] {
        let mut ledger = Ledger::default();
        let alert = open(&mut ledger, "a", Finding::Expired, Severity::Critical, 0);
        let intent = intent_telling(alert);
        let sink = SinkLedger {
            intent: Some(intent.clone()),
            ..SinkLedger::default()
        };
        let outcome = Outcome::Failed(Failure {
            class: FailureClass::ServerError,
            code: Some(503),
            retry_after: Some(Duration::from_secs(asked)),
        });
        let within = at(0) + TimeDelta::milliseconds(600);
        let after = record(&sink, &intent, &outcome, 0, within);
        let manners = manners();
        ledger.sinks.insert(manners.name.to_string(), after);
        for later in [1, 300] {
            let decided = decide(&ledger, &context(&manners), within + TimeDelta::milliseconds(later));
            assert!(matches!(decided, Decision::Wait(_)), "asked for {asked} s: {decided:?}");
        }
    }
}

#[test]
fn a_refused_payload_steps_down_to_one_line_of_text_at_once() {
    let mut world = World::new();
    for n in 0..30 {
        open(
            &mut world.ledger,
            &format!("a{n}"),
            Finding::WeakCrypto,
            Severity::Warning,
            0,
        );
    }
    let mut said = Vec::new();
    for _ in 0..4 {
        let intent = world.attempt(&failed(FailureClass::PayloadRejected), 0);
        said.push((intent.rung, intent.message.alerts.len(), intent.message.truncated));
    }
    assert_eq!(
        said,
        [
            (Rung::All, 30, 0),
            (Rung::Worst20, 20, 10),
            (Rung::Counts, 0, 30),
            (Rung::Text, 0, 30)
        ]
    );
    assert!(matches!(world.decide(1), Decision::Wait(_)));
    let intent = world.attempt(&delivered(), 4000);
    assert_eq!(
        (intent.rung, intent.told.len()),
        (Rung::Text, 30),
        "a count tells of all"
    );
}

#[test]
fn a_misconfigured_sink_waits_for_a_change_and_a_change_is_tried_at_once() {
    let mut world = World::new();
    open(&mut world.ledger, "a", Finding::WeakCrypto, Severity::Warning, 0);
    let manners = world.manners.clone();
    let wrong = SinkContext {
        misconfigured: true,
        ..context(&manners)
    };
    assert_eq!(decide(&world.ledger, &wrong, at(10 * DAY)), Decision::Blocked);
    assert_eq!(sink_state(&world.ledger, &wrong).result, SinkResult::Failing);
    world.attempt(&failed(FailureClass::CredentialsRejected), 0);
    assert_eq!(world.decide(10), Decision::Wait(at(300)));
    let changed = SinkContext {
        try_now: true,
        ..context(&manners)
    };
    assert!(matches!(decide(&world.ledger, &changed, at(10)), Decision::Begin(_)));
}

#[test]
fn a_failure_is_forgotten_with_its_difference() {
    let mut world = World::new();
    let a = open(&mut world.ledger, "a", Finding::WeakCrypto, Severity::Warning, 0);
    world.attempt(&failed(FailureClass::Connect), 0);
    end(&mut world.ledger, a, 1);
    world.absorb(1);
    assert_eq!(world.sink().retry, None);
}

#[test]
fn a_test_is_sent_once_and_leaves_what_was_told() {
    for outcome in [
        delivered(),
        failed(FailureClass::Ambiguous),
        failed(FailureClass::Connect),
    ] {
        let mut world = World::new();
        open(&mut world.ledger, "a", Finding::WeakCrypto, Severity::Warning, 0);
        world.send(0);
        let before = world.sink().clone();
        let manners = world.manners.clone();
        let asked = SinkContext {
            test_token: Some("now"),
            ready: false,
            ..context(&manners)
        };
        let Decision::Begin(intent) = decide(&world.ledger, &asked, at(1)) else {
            panic!()
        };
        assert_eq!((intent.reason, intent.message.alerts.len()), (MessageReason::Test, 0));
        assert_eq!(intent.message.counts.warning, 1);
        world.ledger = begin(&world.ledger, "team", &intent);
        let after = record(&world.sink().clone(), &intent, &outcome, 1, at(2));
        assert_eq!(
            after,
            SinkLedger {
                tested: Some("now".into()),
                ..before
            }
        );
        *world.sink() = after;
        assert!(matches!(
            decide(&world.ledger, &SinkContext { ready: true, ..asked }, at(3)),
            Decision::Nothing { absorbed: None, .. }
        ));
    }
}

#[test]
fn a_test_of_a_misconfigured_sink_has_its_outcome_at_once() {
    let manners = manners();
    let asked = SinkContext {
        test_token: Some("now"),
        misconfigured: true,
        ..context(&manners)
    };
    let Decision::Nothing {
        absorbed: Some(sink), ..
    } = decide(&Ledger::default(), &asked, at(1))
    else {
        panic!()
    };
    assert_eq!(sink.tested.as_deref(), Some("now"));
}

#[test]
fn a_clock_set_back_sends_nothing_by_itself_and_holds_no_news() {
    let mut world = World::new();
    open(&mut world.ledger, "a", Finding::ExpiryCritical, Severity::Critical, 0);
    world.send(0);
    assert_eq!(
        world.absorb(-1000 * DAY),
        Some(at(-999 * DAY)),
        "the reminder counts from the new now"
    );
    assert_eq!(world.absorb(-1000 * DAY + 1), Some(at(-999 * DAY)));
    world.sink().last_sent = Some(at(0));
    open(&mut world.ledger, "b", Finding::WeakCrypto, Severity::Warning, 0);
    assert!(matches!(world.decide(-10), Decision::Begin(_)));
    world.sink().retry = Some(crate::ledger::Retry {
        at: at(0),
        attempt: 1,
        class: FailureClass::Connect,
        since: at(0),
        rung: Rung::All,
    });
    assert!(matches!(world.decide(-DAY), Decision::Begin(_)));
}

#[test]
fn states_of_a_sink() {
    let mut world = World::new();
    let state = |world: &World| {
        let state = sink_state(&world.ledger, &context(&world.manners));
        (state.result, state.pending)
    };
    assert_eq!(state(&world), (SinkResult::Idle, 0));
    open(&mut world.ledger, "a", Finding::WeakCrypto, Severity::Warning, 0);
    assert_eq!(state(&world), (SinkResult::Pending, 1));
    world.attempt(&failed(FailureClass::Connect), 0);
    assert_eq!(state(&world), (SinkResult::Failing, 1));
    world.send(100);
    assert_eq!(state(&world), (SinkResult::Delivered, 0));
}

#[test]
fn ids_differ_by_sink_and_by_what_was_decided_on() {
    let mut world = World::new();
    open(&mut world.ledger, "a", Finding::WeakCrypto, Severity::Warning, 0);
    let other = SinkManners {
        name: "other".into(),
        ..manners()
    };
    let id = |context: &SinkContext<'_>| match decide(&world.ledger, context, at(0)) {
        Decision::Begin(intent) => intent.id,
        other => panic!("{other:?}"),
    };
    let base = context(&world.manners);
    assert_eq!(id(&base), id(&base));
    assert_eq!(id(&base).len(), 26);
    assert_ne!(id(&base), id(&context(&other)));
    assert_ne!(
        id(&base),
        id(&SinkContext {
            resource_version: "2",
            ..base
        })
    );
    assert_ne!(
        id(&base),
        id(&SinkContext {
            ledger_uid: "other",
            ..base
        })
    );
}

#[test]
fn many_alerts_for_many_sinks_fit_into_one_ledger() {
    let mut ledger = Ledger::default();
    for n in 0..600 {
        open(
            &mut ledger,
            &format!("{n}-{}", "x".repeat(100)),
            Finding::WeakCrypto,
            Severity::Warning,
            0,
        );
    }
    let all: Vec<SinkManners> = (0..8)
        .map(|n| SinkManners {
            name: format!("sink-{n}").into(),
            ..manners()
        })
        .collect();
    for manners in &all {
        ledger.sinks.insert(manners.name.to_string(), SinkLedger::default());
    }
    assert_eq!(ledger.fit(), 0);
    for manners in &all {
        let Decision::Begin(intent) = decide(&ledger, &context(manners), at(0)) else {
            panic!()
        };
        assert_eq!(intent.told.len(), 600);
        ledger = begin(&ledger, &manners.name, &intent);
        let bytes = serde_json::to_vec(&ledger).unwrap().len();
        assert!(bytes <= LEDGER_BYTES, "{}: {bytes}", manners.name);
    }
    assert_eq!(ledger.fit(), 0, "what was let in stays while messages are on their way");
}

proptest! {
    /// Alerts of two places open, rise and end at any pace; the sink is asked every 10 s.
    #[test]
    fn messages_keep_their_distance_and_every_told_alert_ends_once(
        changes in prop::collection::vec((0..3_i64, 0..2_usize, 0..4_u8), 1..60)
    ) {
        let mut world = World::new();
        let mut ids = [None; 2];
        let mut sent: Vec<(i64, Message)> = Vec::new();
        let mut now = 0;
        let quiet = std::iter::repeat_n((40_i64, 0, 9), 2);
        for (pause, which, change) in changes.into_iter().chain([(0, 0, 0), (0, 1, 0)]).chain(quiet) {
            for _ in 0..=pause {
                match world.decide(now) {
                    Decision::Begin(_) => sent.push((now, world.send(now))),
                    Decision::Nothing { .. } => { world.absorb(now); }
                    Decision::Wait(until) => prop_assert!(until > at(now)),
                    other => prop_assert!(false, "{other:?}"),
                }
                now += 10;
            }
            let (finding, severity) = match change {
                1 => (Finding::ExpiringSoon, Severity::Warning),
                2 => (Finding::ExpiryCritical, Severity::Critical),
                3 => (Finding::Expired, Severity::Critical),
                0 => {
                    if let Some(id) = ids[which] { end(&mut world.ledger, id, now); }
                    continue;
                }
                _ => continue,
            };
            ids[which] = Some(open(&mut world.ledger, ["a", "b"][which], finding, severity, now));
        }
        let mut told: BTreeMap<ShortHash, ()> = BTreeMap::new();
        let mut before: Option<i64> = None;
        for (when, message) in &sent {
            if let Some(before) = before {
                prop_assert!(when - before >= 60);
                let quick = message.alerts.iter().any(|a| a.status == AlertStatus::Resolved || a.severity == Severity::Critical);
                prop_assert!(quick || when - before >= 300);
            }
            before = Some(*when);
            for alert in &message.alerts {
                match alert.status {
                    AlertStatus::Firing => { told.insert(alert.id, ()); }
                    AlertStatus::Resolved => prop_assert!(told.remove(&alert.id).is_some(), "never told, or twice"),
                }
            }
        }
        prop_assert!(told.is_empty(), "not ended: {:?}", told);
        prop_assert!(world.ledger.alerts.is_empty());
    }

    #[test]
    fn no_clock_makes_it_panic_or_say_the_same_twice(
        steps in prop::collection::vec((-4_000_000_000_i64..4_000_000_000, 0..5_u8), 1..40)
    ) {
        let mut world = World::new();
        world.manners.repeat_warning = None;
        world.manners.repeat_critical = None;
        open(&mut world.ledger, "a", Finding::Expired, Severity::Critical, 0);
        let mut ids = std::collections::BTreeSet::new();
        for (now, outcome) in steps {
            let decision = world.decide(now);
            if let Decision::Begin(intent) | Decision::Resume(intent) = &decision {
                ids.insert(intent.id.clone());
                let outcome = match outcome {
                    0 => delivered(),
                    1 => failed(FailureClass::Ambiguous),
                    _ => failed(FailureClass::Connect),
                };
                world.attempt(&outcome, now);
                if outcome == delivered() {
                    // Nothing changes any more: whatever the clock does, there is nothing to say.
                    for now in [now, now - 1_000_000, now + 1_000_000] {
                        world.absorb(now);
                    }
                    break;
                }
            }
        }
    }
}
