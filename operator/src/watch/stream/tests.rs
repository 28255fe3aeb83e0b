//! Silence takes two minutes, so here time is lapsed: no socket, and a client whose server is a function.

use super::*;
use crate::watch::decode::SinkSecretDecode;
use kube::client::Body;
use std::convert::Infallible;
use tokio::time::Instant;

/// The end of a streamed list.
const LISTED: &str = r#"{"type":"BOOKMARK","object":{"metadata":{"resourceVersion":"7","annotations":{"k8s.io/initial-events-end":"true"}}}}"#;

fn collection() -> Collection {
    Collection {
        id: WatchId::SinkSecrets {
            type_: "certmon.dev/slack".into(),
        },
        group: "v1",
        plural: "secrets",
        namespace: None,
        field_selector: None,
        metadata: true,
    }
}

fn answer(code: u16, body: String) -> http::Response<axum::body::Body> {
    let mut answer = http::Response::new(axum::body::Body::from(body));
    *answer.status_mut() = http::StatusCode::from_u16(code).expect("a status");
    answer
}

#[tokio::test(start_paused = true)]
async fn a_watch_that_falls_silent_is_opened_again_from_where_it_was() {
    let (asked, mut requests) = mpsc::unbounded_channel();
    let server = tower::service_fn(move |request: http::Request<Body>| {
        let query = request.uri().query().unwrap_or_default().to_owned();
        asked.send((Instant::now(), query)).expect("the test listens");
        let line = futures::stream::iter([Ok::<_, Infallible>(format!("{LISTED}\n"))]);
        let says_no_more = futures::StreamExt::chain(line, futures::stream::pending());
        async { Ok::<_, Infallible>(http::Response::new(axum::body::Body::from_stream(says_no_more))) }
    });
    let (_wanted, asks) = watch::channel(Arc::default());
    let (events, _received) = mpsc::channel(64);
    let client = Client::new(server, "default");
    let following = tokio::spawn(follow(client, collection(), SinkSecretDecode, asks, events, || {}));
    let (opened, first) = requests.recv().await.expect("a watch is opened");
    assert!(first.contains("sendInitialEvents=true"), "{first}");
    let (again, second) = requests.recv().await.expect("it is opened again");
    let silent = again - opened;
    assert!(
        silent >= SILENCE && silent < SILENCE + Duration::from_secs(1),
        "{silent:?}"
    );
    assert!(
        second.contains("resourceVersion=7") && !second.contains("sendInitialEvents"),
        "{second}"
    );
    following.abort();
}

/// A page with one object, and a token for the next one where there is one.
fn page(name: &str, next: &str) -> String {
    format!(
        r#"{{"metadata":{{"resourceVersion":"7","continue":"{next}"}},"items":[{{"metadata":{{"name":"{name}","namespace":"team","uid":"1"}}}}]}}"#
    )
}

#[tokio::test(start_paused = true)]
async fn pages_are_told_in_their_order_and_whole() {
    let server = tower::service_fn(|request: http::Request<Body>| async move {
        let query = request.uri().query().unwrap_or_default();
        let body = if query.contains("continue=two") {
            page("second", "")
        } else if query.contains("limit=") {
            page("first", "two")
        } else {
            return Ok::<_, Infallible>(answer(422, String::new()));
        };
        Ok(answer(200, body))
    });
    let (_wanted, asks) = watch::channel(Arc::default());
    let (events, mut received) = mpsc::channel(64);
    let client = Client::new(server, "default");
    let following = tokio::spawn(follow(client, collection(), SinkSecretDecode, asks, events, || {}));
    let mut told = Vec::new();
    loop {
        match received.recv().await.expect("the watch goes on") {
            WorldEvent::ListBegan(..) => told.push("began".to_owned()),
            WorldEvent::Applied(_, seen) => told.push(seen.key().name.to_string()),
            WorldEvent::ListEnded(..) => break,
            other => panic!("{other:?} after {told:?}"),
        }
    }
    // The stream that was refused had begun, too.
    assert_eq!(told, ["began", "began", "first", "second"]);
    following.abort();
}

/// A page of one object that is about so long; a last one has no successor.
fn page_of(bytes: usize, number: usize, last: bool) -> String {
    let next = if last { String::new() } else { format!("page-{number}") };
    serde_json::json!({
        "metadata": { "resourceVersion": "7", "continue": next },
        "items": [{ "metadata": {
            "namespace": "shop",
            "name": format!("hook-{number}"),
            "uid": "u",
            "resourceVersion": "7",
            "annotations": { "padding": "x".repeat(bytes) },
        } }],
    })
    .to_string()
}

#[tokio::test(start_paused = true)]
async fn pages_grow_while_they_stay_small_and_shrink_where_objects_are_large() {
    const MIB: usize = 1024 * 1024;
    let sizes = [vec![100; 7], vec![3 * MIB, MIB], vec![3 * MIB; 8]].concat();
    let pages = sizes.len();
    let (asked, mut requests) = mpsc::unbounded_channel();
    let count = std::sync::atomic::AtomicUsize::new(0);
    let server = tower::service_fn(move |request: http::Request<Body>| {
        let query = request.uri().query().unwrap_or_default().to_owned();
        let value = |name: &str| {
            let mut pairs = query.split('&').filter_map(|pair| pair.split_once('='));
            pairs.find(|(key, _)| *key == name).map(|(_, value)| value.to_owned())
        };
        let streams = query.contains("watch=true") || query.contains("sendInitialEvents");
        let (status, body) = if streams {
            // An older server: it knows no streamed lists, and the watch after them ends at once.
            let known = value("sendInitialEvents").is_none();
            (if known { 200 } else { 422 }, String::new())
        } else {
            let number = count.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            let limit: u32 = value("limit").expect("a limit").parse().expect("a number");
            asked.send((limit, value("continue"))).expect("the test listens");
            (200, page_of(sizes[number], number, number + 1 == sizes.len()))
        };
        let response = http::Response::builder()
            .status(status)
            .body(axum::body::Body::from(body));
        async { Ok::<_, Infallible>(response.expect("a response")) }
    });
    let (_wanted, asks) = watch::channel(Arc::default());
    let (events, mut received) = mpsc::channel(64);
    let client = Client::new(server, "default");
    let following = tokio::spawn(follow(client, collection(), SinkSecretDecode, asks, events, || {}));
    let mut limits = Vec::new();
    for number in 0..pages {
        let (limit, token) = requests.recv().await.expect("the next page");
        assert_eq!(
            token,
            number.checked_sub(1).map(|before| format!("page-{before}")),
            "page {number}"
        );
        limits.push(limit);
    }
    let (grows, shrinks) = (
        [20, 40, 80, 160, 320, 500, 500, 500],
        [250, 250, 125, 62, 31, 15, 7, 3, 1],
    );
    assert_eq!(limits, [&grows[..], &shrinks[..]].concat());
    let mut seen = 0;
    loop {
        match received.recv().await.expect("the list ends") {
            WorldEvent::Applied(..) => seen += 1,
            WorldEvent::ListEnded(..) => break,
            _ => {}
        }
    }
    assert_eq!(seen, pages, "an object of each page");
    following.abort();
}
