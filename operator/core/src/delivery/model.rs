//! Every interleaving of a small world: one sink, one or two processes, at most two crashes at any point, one failed
//! attempt, a claim that runs out; an alert that is there, ends, and another that opens. Nothing is lost, and what
//! comes twice has the same id and the same content.

use super::{
    tests::{at, context, delivered, end, failed, manners, open},
    *,
};
use crate::{
    finding::{Finding, Severity},
    hash::ShortHash,
    message::{AlertStatus, Message},
};
use std::{
    collections::{BTreeMap, BTreeSet, HashSet},
    rc::Rc,
};

const HOLDERS: [&str; 2] = ["pod-a", "pod-b"];

/// Where a process stands.
#[derive(Clone, Debug)]
enum At {
    Idle,
    /// It has decided on what it read at a resourceVersion.
    Decided(Rc<Intent>, u32),
    /// Something needs no message.
    Absorbing(Rc<SinkLedger>, u32),
    /// The intent is written.
    Claimed(Rc<Intent>),
    /// The attempt is over and not recorded.
    Sent(Rc<Intent>, Rc<Outcome>),
}

#[derive(Clone)]
struct State {
    ledger: Ledger,
    version: u32,
    now: i64,
    processes: Vec<At>,
    /// What arrived, in order.
    received: Vec<Rc<Message>>,
    /// What the world has done.
    world: u8,
    crashes: u8,
    failures: u8,
    ticks: u8,
}

impl State {
    fn new(processes: usize) -> Self {
        let mut ledger = Ledger::default();
        ledger.sinks.insert("team".into(), SinkLedger::default());
        open(&mut ledger, "a", Finding::WeakCrypto, Severity::Warning, 0);
        Self {
            ledger,
            version: 1,
            now: 0,
            processes: vec![At::Idle; processes],
            received: Vec::new(),
            world: 0,
            crashes: 2,
            failures: 1,
            ticks: 2,
        }
    }

    /// Everything that tells two states apart, short.
    fn key(&self) -> String {
        use std::fmt::Write;
        let mut key = format!(
            "{} {} {} {} {} {}",
            self.version, self.now, self.world, self.crashes, self.failures, self.ticks
        );
        let sink = self.sink();
        let ended: Vec<bool> = self.ledger.alerts.values().map(|alert| alert.ended.is_some()).collect();
        let retry = sink.retry.as_ref().map(|retry| (retry.at, retry.attempt));
        write!(key, "{ended:?}{:?}{:?}{retry:?}", sink.told, sink.last_sent).unwrap();
        if let Some(intent) = &sink.intent {
            write!(
                key,
                "{} {} {} {}",
                intent.id, intent.holder, intent.deadline, intent.attempt
            )
            .unwrap();
        }
        for process in &self.processes {
            match process {
                At::Idle => key.push('i'),
                At::Decided(intent, version) => {
                    write!(key, "d{}{}{}{version}", intent.id, intent.deadline, intent.attempt).unwrap();
                }
                At::Absorbing(sink, version) => write!(key, "a{:?}{version}", sink.told).unwrap(),
                At::Claimed(intent) => write!(key, "c{}", intent.id).unwrap(),
                At::Sent(intent, outcome) => write!(key, "s{}{outcome:?}", intent.id).unwrap(),
            }
        }
        for message in &self.received {
            key.push_str(&message.id);
        }
        key
    }

    fn sink(&self) -> &SinkLedger {
        &self.ledger.sinks["team"]
    }

    fn write(&mut self, change: impl FnOnce(&mut Ledger)) {
        let before = self.ledger.clone();
        change(&mut self.ledger);
        self.ledger.forget_the_heard();
        self.version += u32::from(self.ledger != before);
    }

    /// What a process can do next; nothing where it waits.
    fn steps_of(&self, process: usize, failing: bool) -> Vec<Self> {
        let mut next = self.clone();
        match &self.processes[process] {
            At::Idle => {
                let manners = manners();
                let version = self.version.to_string();
                let context = SinkContext {
                    holder: HOLDERS[process],
                    resource_version: &version,
                    ..context(&manners)
                };
                next.processes[process] = match decide(&self.ledger, &context, at(self.now)) {
                    Decision::Begin(intent) | Decision::Resume(intent) => At::Decided(Rc::new(intent), self.version),
                    Decision::Nothing {
                        absorbed: Some(sink), ..
                    } => At::Absorbing(Rc::new(sink), self.version),
                    _ => return Vec::new(),
                };
            }
            At::Decided(intent, version) => {
                next.processes[process] = At::Idle;
                if *version == self.version {
                    next.write(|ledger| *ledger = begin(ledger, "team", intent));
                    next.processes[process] = At::Claimed(Rc::clone(intent));
                }
            }
            At::Absorbing(sink, version) => {
                next.processes[process] = At::Idle;
                if *version == self.version {
                    next.write(|ledger| {
                        ledger.sinks.insert("team".into(), (**sink).clone());
                    });
                }
            }
            At::Claimed(intent) => {
                let mut outcomes = vec![(delivered(), true, 0)];
                if failing && self.failures > 0 {
                    outcomes.push((failed(FailureClass::Ambiguous), true, 1));
                    outcomes.push((failed(FailureClass::Ambiguous), false, 1));
                    outcomes.push((failed(FailureClass::Connect), false, 1));
                }
                return outcomes
                    .into_iter()
                    .map(|(outcome, arrives, failures)| {
                        let mut next = self.clone();
                        next.failures -= failures;
                        next.processes[process] = At::Sent(Rc::clone(intent), Rc::new(outcome));
                        if arrives {
                            next.received.push(Rc::new(intent.message.clone()));
                        }
                        next
                    })
                    .collect();
            }
            At::Sent(intent, outcome) => {
                let sink = record(self.sink(), intent, outcome, 3, at(self.now));
                next.write(|ledger| {
                    ledger.sinks.insert("team".into(), sink);
                });
                next.processes[process] = At::Idle;
            }
        }
        vec![next]
    }

    fn steps(&self) -> Vec<Self> {
        let mut all = Vec::new();
        for (process, stands) in self.processes.iter().enumerate() {
            all.extend(self.steps_of(process, true));
            if self.crashes > 0 && !matches!(stands, At::Idle) {
                let mut next = self.clone();
                next.crashes -= 1;
                next.processes[process] = At::Idle;
                all.push(next);
            }
        }
        if self.world < 2 {
            let mut next = self.clone();
            next.world += 1;
            let first = *next.ledger.alerts.keys().next().unwrap_or(&ShortHash::of(&[]));
            next.write(|ledger| match self.world {
                0 => end(ledger, first, self.now),
                _ => {
                    open(ledger, "b", Finding::Expired, Severity::Critical, self.now);
                }
            });
            all.push(next);
        }
        if self.ticks > 0 {
            let mut next = self.clone();
            next.ticks -= 1;
            next.now += 70;
            all.push(next);
        }
        all
    }

    /// Lets everything come to rest without further faults, and looks at what the receiver got.
    fn check(mut self) {
        for _ in 0..12 {
            for process in 0..self.processes.len() {
                while let Some(next) = self.steps_of(process, false).pop() {
                    self = next;
                }
            }
            self.now += 70;
        }
        let mut by_id: BTreeMap<&str, &Message> = BTreeMap::new();
        let mut told = BTreeSet::new();
        for message in &self.received {
            if let Some(first) = by_id.insert(&message.id, message) {
                assert_eq!(first, message.as_ref(), "one id, two contents");
                continue;
            }
            for alert in &message.alerts {
                match alert.status {
                    AlertStatus::Firing => {
                        told.insert(alert.id);
                    }
                    AlertStatus::Resolved => assert!(told.remove(&alert.id), "ended without being told: {message:?}"),
                }
            }
        }
        let open: BTreeSet<_> = self
            .ledger
            .alerts
            .iter()
            .filter(|(_, alert)| alert.ended.is_none())
            .map(|(id, _)| *id)
            .collect();
        assert_eq!(told, open, "received: {:#?}", self.received);
        assert_eq!(self.sink().intent, None);
    }
}

fn explore(start: State) -> (usize, usize) {
    let mut seen = HashSet::new();
    let mut ends = 0;
    let mut todo = vec![start];
    while let Some(state) = todo.pop() {
        if !seen.insert(state.key()) {
            continue;
        }
        let next = state.steps();
        if next.is_empty() {
            ends += 1;
            state.check();
        } else {
            todo.extend(next);
        }
    }
    (seen.len(), ends)
}

#[test]
fn one_process_that_crashes_twice_loses_nothing_and_repeats_only_what_it_said() {
    let (states, ends) = explore(State::new(1));
    assert!(states > 10_000 && ends > 1_000, "{states} states, {ends} ends");
}

#[test]
fn two_processes_that_crash_twice_lose_nothing_and_repeat_only_what_they_said() {
    let (states, ends) = explore(State {
        ticks: 1,
        ..State::new(2)
    });
    assert!(states > 20_000 && ends > 500, "{states} states, {ends} ends");
}

#[test]
fn a_process_that_stalls_past_two_messages_of_another_undoes_nothing() {
    let (states, ends) = explore(State {
        crashes: 0,
        failures: 0,
        ..State::new(2)
    });
    assert!(states > 1_000 && ends > 10, "{states} states, {ends} ends");
}

#[test]
fn without_faults_one_process_sends_each_message_once() {
    let mut state = State::new(1);
    state.crashes = 0;
    state.failures = 0;
    let mut todo = vec![state];
    while let Some(state) = todo.pop() {
        let next = state.steps();
        if next.is_empty() {
            let ids: BTreeSet<_> = state.received.iter().map(|message| &message.id).collect();
            assert_eq!(ids.len(), state.received.len());
        }
        todo.extend(next);
    }
}
