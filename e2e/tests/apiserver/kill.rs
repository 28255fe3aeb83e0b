//! `kill -9` between each two steps of the delivery, in the real process, for each kind of sink: nothing is lost, and what
//! comes twice has the same id and the same content. The proxy and the receivers see each step, and kill there.
//!
//! Each kill has a monitor and a receiver of its own: two messages to one sink are a minute apart. What opens is killed one
//! by one, so that what may come twice is known exactly; what ends is killed as it comes.

mod receivers;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, ensure};
use certmon_e2e::proxy::{Proxy, Request, Step, Verdict};
use certmon_e2e::sinks::Moment;
use certmon_e2e::{Authority, Cluster, KillSwitch, egress_policy, wait_for};
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio::time::timeout;

use crate::stories::{SOON, Stage, monitor, ninety_days};
use receivers::{Arrival, Kind, Receiver};

/// What ends is said a minute after the last message.
const ENDED: Duration = Duration::from_secs(150);

/// Between each two steps of a delivery.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Point {
    BeforeTheIntent,
    IntentWrittenAndNotAnswered,
    Connected,
    ReceivedAndNotAnswered,
    AnsweredAndNotRecorded,
    Recorded,
}

const POINTS: [Point; 6] = [
    Point::BeforeTheIntent,
    Point::IntentWrittenAndNotAnswered,
    Point::Connected,
    Point::ReceivedAndNotAnswered,
    Point::AnsweredAndNotRecorded,
    Point::Recorded,
];

/// Monitors for each sink: each point twice, for what opens and again for what ends.
const MONITORS: usize = 2 * POINTS.len();

impl Point {
    /// How often a message arrives when the operator is killed here, once.
    fn arrivals(self) -> usize {
        match self {
            Self::ReceivedAndNotAnswered | Self::AnsweredAndNotRecorded => 2,
            _ => 1,
        }
    }
}

/// Kills the operator where it is armed.
struct Trap {
    armed: Mutex<BTreeMap<String, Point>>,
    /// Monitors whose stored ledger has an intent.
    intents: Mutex<BTreeSet<String>>,
    switch: OnceLock<KillSwitch>,
    sprung: mpsc::UnboundedSender<String>,
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Trap {
    /// Whether it killed.
    fn reached(&self, monitor: &str, point: Point) -> bool {
        let mut armed = lock(&self.armed);
        let Some(switch) = self.switch.get().filter(|_| armed.get(monitor) == Some(&point)) else {
            return false;
        };
        armed.remove(monitor);
        switch.kill().expect("a process of ours can be killed");
        // Nobody listens any more where the test has failed.
        let _told = self.sprung.send(monitor.to_owned());
        true
    }

    /// The steps that the API server has a part in.
    fn sees(&self, request: &Request, step: Step) -> Option<Verdict> {
        if request.resource != "alertledgers" || !matches!(request.verb, "create" | "update") {
            return None;
        }
        let ledger = request.json();
        let monitor = ledger["metadata"]["name"].as_str()?.to_owned();
        let has_intent = ledger["state"]["sinks"]["team"]["intent"].is_object();
        let had_intent = lock(&self.intents).contains(&monitor);
        let point = match (step, has_intent, had_intent) {
            (Step::Request, true, _) => Point::BeforeTheIntent,
            (Step::Answer(200 | 201), true, _) => {
                lock(&self.intents).insert(monitor.clone());
                Point::IntentWrittenAndNotAnswered
            }
            (Step::Request, false, true) => Point::AnsweredAndNotRecorded,
            (Step::Answer(200), false, true) => {
                lock(&self.intents).remove(&monitor);
                Point::Recorded
            }
            _ => return None,
        };
        self.reached(&monitor, point).then_some(Verdict::HangUp)
    }
}

/// One kind of sink: its operator behind a proxy of its own, and as many monitors as kills.
struct Loop {
    stage: Stage,
    trap: Arc<Trap>,
    sprung: mpsc::UnboundedReceiver<String>,
    receivers: BTreeMap<String, Receiver>,
    authority: Authority,
    proxy: Proxy,
}

impl Loop {
    async fn set(kind: Kind) -> Result<Self> {
        let (sender, sprung) = mpsc::unbounded_channel();
        let trap = Arc::new(Trap {
            armed: Mutex::default(),
            intents: Mutex::default(),
            switch: OnceLock::new(),
            sprung: sender,
        });
        let mut receivers = BTreeMap::new();
        for number in 0..MONITORS {
            let name = format!("shop-{number}");
            let receiver = Receiver::start(kind).await?;
            let (seen, of) = (Arc::clone(&trap), name.clone());
            receiver.observe(move |moment| {
                let point = match moment {
                    Moment::Accepted => Point::Connected,
                    Moment::Received => Point::ReceivedAndNotAnswered,
                };
                seen.reached(&of, point);
            });
            receivers.insert(name, receiver);
        }
        let proxy = Proxy::start(Cluster::shared().await?.access()).await?;
        let seen = Arc::clone(&trap);
        proxy.rule(move |request, step| seen.sees(request, step));
        let ports: Vec<u16> = receivers.values().map(Receiver::port).collect();
        let stage = Stage::set(kind.hint(), |operator| {
            let through = proxy.kubeconfig(operator.kubeconfig()).expect("the harness wrote it");
            operator
                .with_kubeconfig(&through)
                .egress_policy(egress_policy(ports))
                .arg("--identity", "the-same")
        })
        .await?;
        trap.switch.set(stage.operator.kill_switch()).expect("it is set once");
        Ok(Self {
            stage,
            trap,
            sprung,
            receivers,
            authority: Authority::new("Kill CA")?,
            proxy,
        })
    }

    /// The certificate of each monitor, with so many days left.
    fn certificates(&self, left: i64) -> Result<Vec<Value>> {
        let names = self.receivers.keys();
        names
            .map(|name| {
                ninety_days(
                    &self.authority,
                    &format!("{name}-tls"),
                    &format!("{name}.example.com"),
                    left,
                )
            })
            .collect()
    }

    fn restart(&mut self) -> Result<()> {
        self.stage.operator.restart()
    }

    async fn ledger(&self, monitor: &str) -> Result<Value> {
        let namespace = self.stage.namespace.name();
        let path = format!("/apis/certmon.dev/v1alpha1/namespaces/{namespace}/alertledgers/{monitor}");
        let request = hyper::Request::get(path).body(Vec::new())?;
        let object: Value = self.stage.namespace.client().request(request).await?;
        Ok(object["state"].clone())
    }

    /// Waits for the next kill, and starts the operator again.
    async fn killed(&mut self, within: Duration) -> Result<()> {
        let sprung = timeout(within, self.sprung.recv()).await;
        sprung.map_err(|_elapsed| {
            let armed = lock(&self.trap.armed);
            let log = self.stage.operator.log();
            anyhow!("no kill in {within:?}; armed: {armed:?}\n{:#?}\n{log}", self.proxy)
        })?;
        self.restart()
    }

    /// What opens: one monitor after the other, each killed at its point.
    async fn opens(&mut self) -> Result<()> {
        let mut objects = self.certificates(3)?;
        objects.extend(
            self.receivers
                .values()
                .zip(self.receivers.keys())
                .map(|(to, name)| to.secret(name)),
        );
        self.stage.apply(&objects).await?;
        let names: Vec<String> = self.receivers.keys().cloned().collect();
        for (name, point) in names.iter().zip(POINTS.into_iter().cycle()) {
            lock(&self.trap.armed).insert(name.clone(), point);
            let sink = self.receivers[name].sink(name);
            let sources = json!([{ "name": "tls", "secrets": { "names": [format!("{name}-tls")] } }]);
            self.create(&monitor(name, &json!({ "sources": sources, "sinks": [sink] })))
                .await?;
            self.killed(SOON).await.with_context(|| format!("{name}, {point:?}"))?;
            self.recorded(name)
                .await
                .with_context(|| format!("{name}, {point:?}"))?;
            let arrivals = self.receivers[name].arrivals();
            ensure!(
                arrivals.len() == point.arrivals(),
                "{name}, killed at {point:?}: {} messages: {arrivals:#?}",
                arrivals.len()
            );
            same(&arrivals, 1).with_context(|| format!("{name}, killed at {point:?}"))?;
            ensure!(arrivals[0].says("ExpiryCritical"), "{:?}", arrivals[0]);
        }
        Ok(())
    }

    async fn create(&self, monitor: &Value) -> Result<()> {
        let namespace = self.stage.namespace.name();
        let path = format!("/apis/certmon.dev/v1alpha1/namespaces/{namespace}/certificatemonitors");
        let request = hyper::Request::post(path)
            .header("content-type", "application/json")
            .body(serde_json::to_vec(monitor)?)?;
        let _created: Value = self.stage.namespace.client().request(request).await?;
        Ok(())
    }

    /// Waits until the ledger says that the message was told.
    async fn recorded(&self, name: &str) -> Result<()> {
        wait_for("the message to be recorded", SOON, async || {
            let ledger = self.ledger(name).await?;
            let sink = &ledger["sinks"]["team"];
            ensure!(
                sink["told"].is_object() && sink["intent"].is_null(),
                "{ledger:#}\n{}",
                self.stage.operator.log()
            );
            Ok(())
        })
        .await
    }

    /// What ends: all at once, each killed at another point than when it opened.
    async fn ends(&mut self, kind: Kind) -> Result<()> {
        let before: BTreeMap<String, usize> = self
            .receivers
            .iter()
            .map(|(name, receiver)| (name.clone(), receiver.arrivals().len()))
            .collect();
        let points = POINTS.into_iter().cycle().skip(3);
        *lock(&self.trap.armed) = self.receivers.keys().cloned().zip(points).collect();
        self.stage.apply(&self.certificates(90)?).await?;
        for _ in 0..MONITORS {
            self.killed(ENDED).await?;
        }
        for name in self.receivers.keys() {
            wait_for(&format!("the end of {name} to be recorded"), ENDED, async || {
                let ledger = self.ledger(name).await?;
                let sink = &ledger["sinks"]["team"];
                ensure!(
                    ledger["alerts"].is_null() && sink["told"].is_null() && sink["intent"].is_null(),
                    "{ledger:#}\n{}",
                    self.stage.operator.log()
                );
                Ok(())
            })
            .await?;
            let arrivals = self.receivers[name].arrivals().split_off(before[name]);
            same(&arrivals, kind.requests_of_an_end()).with_context(|| name.clone())?;
            ensure!(
                arrivals.iter().any(|one| one.says("new certificate")),
                "{name}: {arrivals:#?}"
            );
        }
        Ok(())
    }
}

/// At least one message came, and all that came are the same, in so many requests each.
fn same(arrivals: &[Arrival], requests: usize) -> Result<()> {
    let contents: BTreeSet<&str> = arrivals.iter().map(|arrival| &*arrival.content).collect();
    let ids: BTreeSet<&Option<String>> = arrivals.iter().map(|arrival| &arrival.id).collect();
    ensure!(
        contents.len() == requests && ids.len() == 1,
        "not one message, whole and the same each time: {arrivals:#?}"
    );
    Ok(())
}

async fn loop_of(kind: Kind) -> Result<()> {
    let story = async {
        let mut it = Loop::set(kind).await?;
        it.opens().await?;
        it.ends(kind).await
    };
    story.await.with_context(|| format!("{kind:?}"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_kill_between_any_two_steps_loses_nothing_and_what_comes_twice_is_the_same() -> Result<()> {
    Cluster::shared().await?.crds().await?;
    tokio::try_join!(
        loop_of(Kind::SlackWebhook),
        loop_of(Kind::SlackBot),
        loop_of(Kind::Email),
        loop_of(Kind::Webhook),
    )?;
    Ok(())
}
