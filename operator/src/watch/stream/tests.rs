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
