//! One HTTPS request through the one door: no redirect, no proxy, no retry, nothing kept of the answer but its status,
//! its pause and what the caller reads from at most 64 KiB.
//!
//! hyper over the stream that `egress` dialled, not reqwest: reqwest opens its own sockets, past the door's bounds
//! on dials, and can't tell whether the request was on the wire when it failed. That decides between a clear failure
//! and an ambiguous one.

use crate::{door::Door, secret::HttpsUrl, tls};
use certmon_core::delivery::{Failure, FailureClass, Misconfigured};
use chrono::{DateTime, Utc};
use futures::future::{Either, select};
use http::{HeaderMap, Method, header};
use http_body_util::{BodyExt, Full};
use hyper::body::{Body, Bytes, Incoming};
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use std::{
    pin::{Pin, pin},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    task::{Context, Poll, ready},
    time::Duration,
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::{Instant, timeout_at},
};

/// How much of an answer is read.
pub(crate) const BODY_CAP: usize = 64 * 1024;
/// How much is read of one answer with all that surrounds it: what goes before it (1xx), its head, its chunks' frames.
const ANSWER_CAP: usize = 4 * BODY_CAP;
/// How many 1xx answers may go before the one that counts. hyper passes over them without end.
const MOST_INFORMATIONAL: u32 = 16;
/// How long a connection with nothing left to say may take to close.
const CLOSE: Duration = Duration::from_secs(1);
/// The longest pause that a server's wish is taken for.
const LONGEST_PAUSE: Duration = Duration::from_secs(6 * 3600);

/// How long a whole delivery over HTTP may take: 15 s, then 30 s, then 60 s as attempts stay ambiguous.
pub(crate) fn total(attempt: u32) -> Duration {
    Duration::from_secs(15 << attempt.min(2))
}

/// What is asked, and of whom.
pub(crate) struct Request<'a> {
    pub(crate) namespace: &'a str,
    pub(crate) url: &'a HttpsUrl,
    pub(crate) tls: Arc<ClientConfig>,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
    /// Whether the answer's body says something that its status doesn't.
    pub(crate) reads: bool,
}

/// What came back.
pub(crate) struct Reply {
    pub(crate) status: u16,
    /// `Retry-After`, at most 6 h.
    pub(crate) retry_after: Option<Duration>,
    /// At most [`BODY_CAP`] bytes; `None`: it was longer, or cut off, or not to be read.
    pub(crate) body: Option<Bytes>,
}

/// Sends one POST.
///
/// # Errors
/// No status came back. Whether the request may have been accepted is exact: [`FailureClass::Ambiguous`] from the first
/// byte of it that was handed to TLS.
pub(crate) async fn post(
    door: &Door,
    request: Request<'_>,
    deadline: Instant,
    now: DateTime<Utc>,
) -> Result<Reply, Failure> {
    let connect = async {
        let host = request.url.host();
        let name = tls::server_name(host).ok_or(FailureClass::Misconfigured(Misconfigured::BadValue))?;
        let stream = door.dial(request.namespace, host, request.url.port(), deadline).await?;
        let connector = tokio_rustls::TlsConnector::from(Arc::clone(&request.tls));
        connector
            .connect(name, stream)
            .await
            .map_err(|error| tls::handshake_failure(&error))
    };
    let stream = timeout_at(deadline, connect)
        .await
        .unwrap_or(Err(FailureClass::Connect))
        .map_err(clear)?;
    let course = Arc::new(Course::default());
    let stream = Watched {
        stream,
        course: Arc::clone(&course),
        left: ANSWER_CAP,
    };
    match exchange(stream, request, &course, deadline, now).await {
        Some(reply) => Ok(reply),
        None if course.written.load(Ordering::Relaxed) => Err(clear(FailureClass::Ambiguous)),
        None => Err(clear(FailureClass::Connect)),
    }
}

/// A failure that no status came with.
pub(crate) fn clear(class: FailureClass) -> Failure {
    Failure {
        class,
        code: None,
        retry_after: None,
    }
}

/// `None`: no status was there by the deadline, or when the connection ended.
async fn exchange<S>(
    stream: S,
    request: Request<'_>,
    course: &Arc<Course>,
    deadline: Instant,
    now: DateTime<Utc>,
) -> Option<Reply>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let (mut sender, connection) = hyper::client::conn::http1::Builder::new()
        .max_buf_size(BODY_CAP)
        .handshake::<_, Full<Bytes>>(TokioIo::new(stream))
        .await
        .ok()?;
    let reads = request.reads;
    let mut outgoing = outgoing(request)?;
    let counted = Arc::clone(course);
    hyper::ext::on_informational(&mut outgoing, move |_| {
        counted.informational.fetch_add(1, Ordering::Relaxed);
    });
    let asked = pin!(async move {
        let answer = timeout_at(deadline, sender.send_request(outgoing)).await.ok()?.ok()?;
        let status = answer.status().as_u16();
        let retry_after = answer
            .headers()
            .get(header::RETRY_AFTER)
            .and_then(|value| pause(value.as_bytes(), now));
        let body = if reads {
            timeout_at(deadline, read(answer.into_body())).await.ok().flatten()
        } else {
            None
        };
        Some(Reply {
            status,
            retry_after,
            body,
        })
    });
    // The connection moves the bytes of both ways; once it ends, what it has read is still there to be taken.
    match select(asked, pin!(connection)).await {
        Either::Left((reply, connection)) => {
            if reply.is_some() {
                // Closed in order, the receiver's log has no reset in it. Nothing depends on it.
                let _ = tokio::time::timeout(CLOSE, connection).await;
            }
            reply
        }
        Either::Right((_, asked)) => asked.await,
    }
}

fn outgoing(request: Request<'_>) -> Option<http::Request<Full<Bytes>>> {
    let mut outgoing = http::Request::builder()
        .method(Method::POST)
        .uri(request.url.path_and_query().as_str())
        .header(header::HOST, request.url.authority())
        .header(header::CONNECTION, "close")
        .header(header::USER_AGENT, concat!("certmon/", env!("CARGO_PKG_VERSION")))
        .body(Full::new(request.body))
        .ok()?;
    outgoing.headers_mut().extend(request.headers);
    Some(outgoing)
}

async fn read(mut body: Incoming) -> Option<Bytes> {
    if body.size_hint().lower() > BODY_CAP as u64 {
        return None;
    }
    let mut read = Vec::new();
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame.ok()?.into_data() else { continue };
        if read.len() + data.len() > BODY_CAP {
            return None;
        }
        read.extend_from_slice(&data);
    }
    Some(read.into())
}

/// The pause that a server asks for: seconds, or a date in one of HTTP's three forms (RFC 9110 §10.2.3). A past date
/// and what can't be read are none; more than 6 h is 6 h.
pub(crate) fn pause(value: &[u8], now: DateTime<Utc>) -> Option<Duration> {
    let text = std::str::from_utf8(value).ok()?.trim();
    if !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit()) {
        return Some(
            text.parse()
                .map_or(LONGEST_PAUSE, Duration::from_secs)
                .min(LONGEST_PAUSE),
        );
    }
    let at = DateTime::<Utc>::from(httpdate::parse_http_date(text).ok()?);
    (at - now).to_std().ok().map(|pause| pause.min(LONGEST_PAUSE))
}

/// What a status other than 2xx means. 502 and 504 come from something between us and a receiver that may have
/// accepted.
pub(crate) fn failure(status: u16, retry_after: Option<Duration>) -> Failure {
    let class = match status {
        300..=399 => FailureClass::Redirected,
        400 | 413 | 415 | 422 => FailureClass::PayloadRejected,
        401 | 403 => FailureClass::CredentialsRejected,
        404 | 405 | 410 => FailureClass::DestinationRejected,
        429 => FailureClass::RateLimited,
        502 | 504 => FailureClass::Ambiguous,
        501 | 505 => FailureClass::Rejected,
        408 | 425 | 500..=599 => FailureClass::ServerError,
        _ => FailureClass::Rejected,
    };
    Failure {
        class,
        code: Some(status),
        retry_after,
    }
}

/// What is known of an exchange while it goes on.
#[derive(Default)]
struct Course {
    /// Something was handed to TLS.
    written: AtomicBool,
    /// So many 1xx answers came.
    informational: AtomicU32,
}

/// A stream that remembers whether anything was written to it, and reads no more than an answer needs.
struct Watched<S> {
    stream: S,
    course: Arc<Course>,
    /// How many bytes may still be read.
    left: usize,
}

impl<S: AsyncRead + Unpin> AsyncRead for Watched<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<std::io::Result<()>> {
        if self.left == 0 || self.course.informational.load(Ordering::Relaxed) > MOST_INFORMATIONAL {
            return Poll::Ready(Err(std::io::ErrorKind::InvalidData.into()));
        }
        let before = buf.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(cx, buf))?;
        self.left = self.left.saturating_sub(buf.filled().len() - before);
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Watched<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<std::io::Result<usize>> {
        self.course.written.store(true, Ordering::Relaxed);
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pause_is_read_in_all_its_forms_and_bounded() {
        let now = DateTime::from_timestamp(784_111_757, 0).expect("1994-11-06T08:49:17Z");
        let secs = |n| Some(Duration::from_secs(n));
        for (value, pause_) in [
            ("20", secs(20)),
            (" 0 ", secs(0)),
            ("99999999999999999999999", secs(21_600)),
            ("90000", secs(21_600)),
            ("Sun, 06 Nov 1994 08:49:37 GMT", secs(20)),
            ("Sunday, 06-Nov-94 08:49:37 GMT", secs(20)),
            ("Sun Nov  6 08:49:37 1994", secs(20)),
            ("Sat, 06 Nov 2094 08:49:37 GMT", secs(21_600)),
            ("Sun, 06 Nov 1994 08:49:07 GMT", None),
            ("-5", None),
            ("1.5", None),
            ("", None),
            ("soon", None),
        ] {
            assert_eq!(pause(value.as_bytes(), now), pause_, "{value:?}");
        }
        assert_eq!(pause(b"\xff", now), None);
    }

    #[test]
    fn every_status_has_its_class() {
        use FailureClass::*;
        for (status, class) in [
            (101, Rejected),
            (301, Redirected),
            (302, Redirected),
            (307, Redirected),
            (308, Redirected),
            (400, PayloadRejected),
            (401, CredentialsRejected),
            (403, CredentialsRejected),
            (404, DestinationRejected),
            (405, DestinationRejected),
            (407, Rejected),
            (408, ServerError),
            (410, DestinationRejected),
            (413, PayloadRejected),
            (418, Rejected),
            (422, PayloadRejected),
            (425, ServerError),
            (429, RateLimited),
            (500, ServerError),
            (501, Rejected),
            (502, Ambiguous),
            (503, ServerError),
            (504, Ambiguous),
            (505, Rejected),
            (599, ServerError),
            (600, Rejected),
        ] {
            assert_eq!(failure(status, None).class, class, "{status}");
        }
    }

    #[test]
    fn patience_grows_and_is_bounded() {
        assert_eq!([0, 1, 2, 3, u32::MAX].map(|n| total(n).as_secs()), [15, 30, 60, 60, 60]);
    }
}
