//! The API server's words in lists and watches, as far as they matter.

use crate::world::WatchId;
use futures::{AsyncBufRead, AsyncBufReadExt, TryStreamExt};
use http_body_util::BodyExt;
use kube::{Client, client::Body};
use serde::Deserialize;
use std::{sync::Arc, time::Duration};
use tokio::time::timeout;

/// Any answer but a watch's lines must have begun, and each part of it come, within this.
const ANSWER: Duration = Duration::from_secs(30);
/// One object is at most about 1.5 MiB in etcd; base64 and managed fields may add to that. A line past this is cut off.
const LONGEST_LINE: usize = 8 * 1024 * 1024;
/// A page of objects.
const LARGEST_BODY: usize = 256 * 1024 * 1024;

/// Why a list or a watch ended.
pub(super) enum End {
    /// As it should, or the connection broke: go on from the last version.
    Again,
    /// The version is too old, or the server lost its place: list afresh.
    Relist,
    /// The server has no streaming lists.
    NoStreaming,
    /// 403 or 401.
    Forbidden,
    /// 404, 5xx, no connection. With the pause that the server asked for.
    Unavailable(Option<Duration>),
    /// Nobody listens any more.
    Stopped,
}

#[derive(Deserialize)]
pub(super) struct Line<'a> {
    #[serde(rename = "type")]
    pub(super) kind: &'a str,
    #[serde(borrow)]
    pub(super) object: &'a serde_json::value::RawValue,
}

#[derive(Deserialize)]
pub(super) struct Page<'a> {
    pub(super) metadata: PageMeta,
    /// `null` where a list of metadata alone is empty.
    #[serde(borrow)]
    pub(super) items: Option<Vec<&'a serde_json::value::RawValue>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct PageMeta {
    #[serde(default)]
    pub(super) resource_version: String,
    #[serde(default, rename = "continue")]
    pub(super) next: Option<String>,
}

#[derive(Deserialize)]
pub(super) struct Meta {
    pub(super) metadata: ObjectMeta,
    pub(super) code: Option<u16>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct ObjectMeta {
    pub(super) namespace: Arc<str>,
    pub(super) name: Arc<str>,
    pub(super) resource_version: String,
    pub(super) annotations: Option<InitialEventsEnd>,
}

#[derive(Deserialize)]
pub(super) struct InitialEventsEnd {
    #[serde(rename = "k8s.io/initial-events-end")]
    pub(super) end: Option<String>,
}

/// Sends a request, and gives back the body of a good answer as it comes.
pub(super) async fn open(
    client: &Client,
    id: &WatchId,
    request: http::Request<Vec<u8>>,
) -> Result<impl AsyncBufRead + Unpin + use<>, End> {
    let sent = timeout(ANSWER, client.send(request.map(Body::from))).await;
    let response = sent.map_err(|_| End::Unavailable(None))?.map_err(|error| {
        tracing::debug!(watch = ?id, "no answer from the API server: {}", short(&error));
        End::Unavailable(None)
    })?;
    let retry_after = response
        .headers()
        .get(http::header::RETRY_AFTER)
        .and_then(|value| value.to_str().ok()?.parse().ok())
        .map(|seconds: u64| Duration::from_secs(seconds.min(60)));
    match response.status().as_u16() {
        200..=299 => Ok(response
            .into_body()
            .into_data_stream()
            .map_err(std::io::Error::other)
            .into_async_read()),
        401 | 403 => Err(End::Forbidden),
        // 410: the version or the page's token is too old. 400 and 422: the parameters aren't known.
        400 | 410 | 422 => Err(End::Relist),
        _ => Err(End::Unavailable(retry_after)),
    }
}

/// The whole body of a good answer.
pub(super) async fn body(client: &Client, id: &WatchId, request: http::Request<Vec<u8>>) -> Result<Vec<u8>, End> {
    let mut stream = open(client, id, request).await?;
    let mut body = Vec::new();
    loop {
        let read = timeout(ANSWER, stream.fill_buf()).await;
        let part = read
            .map_err(|_| End::Unavailable(None))?
            .map_err(|_| End::Unavailable(None))?;
        if part.is_empty() {
            return Ok(body);
        }
        body.extend_from_slice(part);
        let taken = part.len();
        stream.consume_unpin(taken);
        if body.len() > LARGEST_BODY {
            return Err(End::Unavailable(None));
        }
    }
}

/// Reads on to the next line feed; `false` at the end of the stream. What was read stays in `line` when this is cancelled.
pub(super) async fn read_line(lines: &mut (impl AsyncBufRead + Unpin), line: &mut Vec<u8>) -> std::io::Result<bool> {
    loop {
        let buffer = lines.fill_buf().await?;
        if buffer.is_empty() {
            return Ok(!line.is_empty());
        }
        let (part, done) = match memchr::memchr(b'\n', buffer) {
            Some(at) => (buffer.get(..=at).unwrap_or(buffer), true),
            None => (buffer, false),
        };
        line.extend_from_slice(part);
        let take = part.len();
        lines.consume_unpin(take);
        if done {
            return Ok(true);
        }
        if line.len() > LONGEST_LINE {
            return Err(std::io::ErrorKind::InvalidData.into());
        }
    }
}

/// The kind of a client's error, without the texts below it, which may quote.
fn short(error: &kube::Error) -> &'static str {
    match error {
        kube::Error::Api(_) => "refused",
        kube::Error::HyperError(_) => "connection broke",
        kube::Error::Service(_) => "no connection",
        kube::Error::Auth(_) => "credentials",
        _ => "other",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_list_of_metadata_has_null_in_the_place_of_its_items() {
        let page = r#"{"kind":"PartialObjectMetadataList","metadata":{"resourceVersion":"7"},"items":null}"#;
        let page: Page<'_> = serde_json::from_str(page).expect("a page");
        assert!(page.items.is_none() && page.metadata.resource_version == "7");
    }
}
