//! Silence takes two minutes, so here time is lapsed: no socket, and a client whose server is a function.

use super::*;
use crate::watch::decode::SinkSecretDecode;
use std::convert::Infallible;
use tokio::time::Instant;

/// The end of a streamed list.
const LISTED: &str = r#"{"type":"BOOKMARK","object":{"metadata":{"resourceVersion":"7","annotations":{"k8s.io/initial-events-end":"true"}}}}"#;

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
    let collection = Collection {
        id: WatchId::SinkSecrets {
            type_: "certmon.dev/slack".into(),
        },
        group: "v1",
        plural: "secrets",
        namespace: None,
        field_selector: None,
        metadata: true,
    };
    let (_wanted, asks) = watch::channel(Arc::default());
    let (events, _received) = mpsc::channel(64);
    let client = Client::new(server, "default");
    let following = tokio::spawn(follow(client, collection, SinkSecretDecode, asks, events, || {}));
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
