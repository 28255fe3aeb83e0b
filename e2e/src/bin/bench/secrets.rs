//! 20,000 TLS Secrets in 20 namespaces with a monitor in each: how long the first sync takes beside a bare list, what it
//! costs, and that nothing is written afterwards. Once with lists that are streamed, once with pages.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use certmon_e2e::{Authority, Leaf, Operator, Validity};
use futures::TryStreamExt as _;
use http_body_util::BodyExt as _;
use k8s_openapi::api::core::v1::Secret;
use kube::client::Body;
use serde_json::{Value, json};

use crate::measure::{cpu, list, memory, percentile};
use crate::report::{Report, Table};
use crate::stage::{Stage, USER, is_ready};

const NAMESPACES: usize = 20;
const SECRETS: usize = 20_000;
const ROUNDS: usize = 5;
/// Monitors, and Secrets of type `kubernetes.io/tls`.
const WATCHES: u64 = 2;
/// Until what the first sync left behind has settled.
const SETTLED: Duration = Duration::from_secs(10);
/// How long writes are counted; nothing that the operator does by time alone comes less often than its watches end.
const QUIET: Duration = Duration::from_secs(150);

pub(crate) async fn measure(report: &mut Report) -> Result<()> {
    one_way(report, "streamed", &[]).await?;
    one_way(report, "in pages", &["--feature-gates=WatchList=false"]).await
}

struct Round {
    ready: Duration,
    listed: Duration,
    streamed: Option<Duration>,
    cpu: Duration,
}

async fn one_way(report: &mut Report, way: &str, flags: &[&str]) -> Result<()> {
    report.note(&format!("secrets, {way}: making {SECRETS} Secrets"));
    let stage = Stage::set(flags).await?;
    populate(&stage).await?;
    let mut rounds = Vec::new();
    let mut last = None;
    for round in 1..=ROUNDS {
        report.note(&format!("secrets, {way}: round {round} of {ROUNDS}"));
        drop(last.take());
        let (taken, operator) = sync(&stage).await?;
        rounds.push(taken);
        last = Some(operator);
    }
    let operator = last.context("there is a round")?;
    let settled = memory(operator.id())?;
    report.note(&format!("secrets, {way}: counting writes for {} s", QUIET.as_secs()));
    let mark = stage.cluster.audit()?.mark()?;
    let before = cpu(operator.id())?;
    tokio::time::sleep(QUIET).await;
    let quiet_cpu = cpu(operator.id())? - before;
    let writes = stage
        .cluster
        .audit()?
        .since(mark, |event| event.user.username == USER && event.is_write())?;

    // Only now: an answer about 20,000 certificates takes memory too.
    let lists = counter(&operator.metrics().await?, "certmon_watch_restarts_total")?;
    let scraped = memory(operator.id())?;

    let of = |take: fn(&Round) -> Duration| rounds.iter().map(take).collect::<Vec<_>>();
    let (ready, listed, spent) = (of(|r| r.ready), of(|r| r.listed), of(|r| r.cpu));
    let median = |samples: &[Duration]| percentile(samples, 0.5).as_secs_f64();
    let title = format!("{SECRETS} TLS Secrets (leaf and intermediate), {NAMESPACES} monitors, {way}");
    let mut table = Table::new(title);
    table.fact("start → all monitors Ready, each round", list(&ready));
    table.fact("bare paged list, each round", list(&listed));
    let streamed: Vec<Duration> = rounds.iter().filter_map(|round| round.streamed).collect();
    if !streamed.is_empty() {
        table.fact("bare streamed list, each round", list(&streamed));
    }
    let pairs = rounds
        .iter()
        .map(|round| round.ready.as_secs_f64() / round.listed.as_secs_f64());
    let pairs: Vec<String> = pairs.map(|ratio| format!("{ratio:.1}")).collect();
    table.fact("ratio, each round", pairs.join(", "));
    table.at_most("ratio of the medians", median(&ready) / median(&listed), 2.0, "");
    table.at_most("CPU until settled, median", median(&spent), 1.0, "s");
    table.at_most("RSS after", settled.rss, 40.0, "MiB");
    table.fact("of that, allocated", format!("{:.1} MiB", settled.anonymous));
    table.at_most("peak", settled.peak, 80.0, "MiB");
    #[expect(clippy::cast_precision_loss, reason = "a count of writes")]
    let per_hour = writes.len() as f64 * 3600.0 / QUIET.as_secs_f64();
    table.at_most("writes per hour when quiet", per_hour, 0.0, "");
    table.fact("lists begun in all", format!("{lists}, by {WATCHES} watches"));
    table.fact("RSS after /metrics was read", format!("{:.1} MiB", scraped.rss));
    table.fact(
        &format!("CPU in {} s when quiet", QUIET.as_secs()),
        format!("{} ms", quiet_cpu.as_millis()),
    );
    report.add(&table)
}

/// A counter's value.
fn counter(metrics: &str, name: &str) -> Result<u64> {
    let value = metrics
        .lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    Ok(value.with_context(|| format!("no {name}"))?.parse()?)
}

fn namespace(number: usize) -> String {
    format!("team-{:02}", number % NAMESPACES)
}

async fn populate(stage: &Stage) -> Result<()> {
    stage.namespaces((0..NAMESPACES).map(namespace)).await?;
    let root = Authority::new("Bench Root")?;
    let authority = root.intermediate("Bench CA", Validity::ending_in(Duration::from_secs(3 * 365 * 86_400)))?;
    let secrets = (0..SECRETS).map(|number| -> Result<Secret> {
        let host = format!("service-{number:05}.{}.example.com", namespace(number));
        // Dates all differ, as those of real ones do.
        let age = Duration::from_secs(60 * 86_400 + 97 * number as u64);
        let leaf = authority.issue(&Leaf::for_names([host.as_str()]).expires_in(age))?;
        let mut secret = leaf.secret(&format!("service-{number:05}-tls"));
        secret.metadata.namespace = Some(namespace(number));
        Ok(secret)
    });
    stage.secrets(secrets).await
}

/// New monitors, a fresh operator: until all are ready, with a bare list before.
async fn sync(stage: &Stage) -> Result<(Round, Operator)> {
    for number in 0..NAMESPACES {
        stage.forget(&namespace(number)).await?;
    }
    for number in 0..NAMESPACES {
        let spec = json!({ "sources": [{ "name": "tls", "secrets": {} }] });
        stage.monitor(&namespace(number), "all", &spec).await?;
    }
    let listed = bare_list(stage).await?;
    let streamed = bare_stream(stage).await?;
    let begun = Instant::now();
    let operator = stage.operator([])?;
    let mut ready = HashSet::new();
    stage
        .watch_monitors(|monitor| {
            if is_ready(monitor) {
                ready.insert(monitor.metadata.namespace.clone());
            }
            ready.len() == NAMESPACES
        })
        .await?;
    let took = begun.elapsed();
    tokio::time::sleep(SETTLED).await;
    let round = Round {
        ready: took,
        listed,
        streamed,
        cpu: cpu(operator.id())?,
    };
    Ok((round, operator))
}

/// The same Secrets in pages of 500 with the operator's rights, and nothing done with them: not even parsed.
async fn bare_list(stage: &Stage) -> Result<Duration> {
    let client = stage.as_operator().await?;
    let begun = Instant::now();
    let mut next = String::new();
    loop {
        let path = format!(
            "/api/v1/secrets?fieldSelector=type%3Dkubernetes.io%2Ftls&limit=500{}",
            if next.is_empty() {
                String::new()
            } else {
                format!("&continue={next}")
            }
        );
        let request = http::Request::get(path).body(Vec::new())?;
        let body = client.request_text(request).await?;
        // The list's metadata stands before its items.
        let (head, _items) = body.split_once(r#","items":["#).context("a list has items")?;
        let head: Value = serde_json::from_str(&format!("{head}}}"))?;
        match head["metadata"]["continue"].as_str() {
            Some(token) if !token.is_empty() => token.clone_into(&mut next),
            _ => return Ok(begun.elapsed()),
        }
    }
}

/// The same Secrets as one streamed list, with nothing done with them; `None` where the server doesn't stream lists.
async fn bare_stream(stage: &Stage) -> Result<Option<Duration>> {
    const END: &[u8] = b"k8s.io/initial-events-end";
    /// More than the bookmark's line has.
    const LAST_LINE: usize = 1024;
    let client = stage.as_operator().await?;
    let begun = Instant::now();
    let path = "/api/v1/secrets?fieldSelector=type%3Dkubernetes.io%2Ftls&watch=true&allowWatchBookmarks=true\
                &sendInitialEvents=true&resourceVersionMatch=NotOlderThan&timeoutSeconds=60";
    let response = client.send(http::Request::get(path).body(Body::empty())?).await?;
    if !response.status().is_success() {
        return Ok(None);
    }
    let mut parts = response.into_body().into_data_stream();
    // Only the bookmark that ends the list has the mark, and it may lie across two parts.
    let mut tail = Vec::new();
    while let Some(part) = parts.try_next().await? {
        tail.extend_from_slice(&part);
        tail.drain(..tail.len().saturating_sub(LAST_LINE));
        if tail.windows(END.len()).any(|window| window == END) {
            return Ok(Some(begun.elapsed()));
        }
    }
    anyhow::bail!("the stream ended before its list did")
}
