//! Slack-shaped and webhook receivers over TLS.

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow};
use chrono::{DateTime, Utc};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;

use super::signature::SigningKey;
use super::{Moment, Observer};
use crate::tls::{ANY_PORT, Task, accept, acceptor_for, listen};
use crate::{Authority, Leaf, wait_for};

/// No message is larger.
const LARGEST_BODY: usize = 4 << 20;

/// What a receiver answers.
#[derive(Debug, Clone)]
pub struct Answer {
    status: u16,
    headers: Vec<(&'static str, String)>,
    body: Option<String>,
    delay: Duration,
    hangs_up: bool,
}

impl Answer {
    /// This status, with the body that the receiver would send by itself.
    pub fn status(status: u16) -> Self {
        Self {
            status,
            headers: Vec::new(),
            body: None,
            delay: Duration::ZERO,
            hangs_up: false,
        }
    }

    /// 200, as if all was well.
    pub fn accept() -> Self {
        Self::status(200)
    }

    /// No answer at all: the connection is closed once the message is recorded.
    pub fn hang_up() -> Self {
        Self {
            hangs_up: true,
            ..Self::accept()
        }
    }

    /// After a while; the message is recorded before it.
    #[must_use]
    pub fn after(mut self, delay: Duration) -> Self {
        self.delay = delay;
        self
    }

    /// With a header, as `retry-after`.
    #[must_use]
    pub fn header(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    /// With another body.
    #[must_use]
    pub fn body(mut self, body: impl Into<String>) -> Self {
        self.body = Some(body.into());
        self
    }
}

/// A message as it arrived.
#[derive(Debug, Clone)]
pub struct Received {
    /// When.
    pub at: DateTime<Utc>,
    /// Its path with the query.
    pub path: String,
    /// Its headers by lower-case name.
    pub headers: BTreeMap<String, String>,
    /// Its body.
    pub body: Vec<u8>,
    /// Why its signature is wrong; `None` if it is right, or the receiver has no key.
    pub signature_fault: Option<String>,
}

impl Received {
    /// The body as JSON.
    ///
    /// # Errors
    /// When it isn't.
    pub fn json(&self) -> Result<Value> {
        serde_json::from_slice(&self.body).with_context(|| String::from_utf8_lossy(&self.body).into_owned())
    }
}

#[derive(Debug)]
enum Kind {
    Slack,
    Webhook(Vec<SigningKey>),
}

#[derive(Debug)]
struct State {
    received: Vec<Received>,
    next: VecDeque<Answer>,
    standing: Answer,
}

#[derive(Debug)]
struct Receiver {
    kind: Kind,
    state: Mutex<State>,
    observer: Observer,
}

impl Receiver {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Records the message and says what to answer, and as which number it came.
    fn record(&self, message: Received) -> (Answer, usize) {
        let fault = message.signature_fault.is_some();
        let mut state = self.state();
        state.received.push(message);
        let number = state.received.len();
        let standing = state.standing.clone();
        let answer = state.next.pop_front().unwrap_or(standing);
        (if fault { Answer::status(401) } else { answer }, number)
    }

    fn default_body(&self, status: u16, path: &str, number: usize) -> String {
        match self.kind {
            Kind::Slack if path.starts_with("/api/") => {
                if status == 200 {
                    json!({ "ok": true, "channel": "C0000000001", "ts": format!("1700000000.{number:06}") }).to_string()
                } else {
                    json!({ "ok": false, "error": "test_error" }).to_string()
                }
            }
            Kind::Slack if status == 200 => "ok".to_owned(),
            _ => String::new(),
        }
    }
}

/// An HTTP/1.1 receiver over TLS on a free port of 127.0.0.1, with a certificate for `localhost` and `127.0.0.1`.
#[derive(Debug)]
pub struct HttpSink {
    address: SocketAddr,
    authority: Authority,
    receiver: Arc<Receiver>,
    _task: Task,
}

impl HttpSink {
    /// Shaped like Slack: answers `ok` to an incoming webhook, and under `/api/` what the Web API does.
    ///
    /// # Errors
    /// When it can't listen.
    pub async fn slack() -> Result<Self> {
        Self::start(Kind::Slack).await
    }

    /// A webhook's owner, who knows these signing keys (any may have been used) and answers 401 to a message whose
    /// Standard Webhooks signature is wrong. Without keys nothing is checked.
    ///
    /// # Errors
    /// When it can't listen.
    pub async fn webhook(keys: Vec<SigningKey>) -> Result<Self> {
        Self::start(Kind::Webhook(keys)).await
    }

    async fn start(kind: Kind) -> Result<Self> {
        let authority = Authority::new("certmon-e2e receivers")?;
        let acceptor = acceptor_for(&authority.issue(&Leaf::for_names(["localhost", "127.0.0.1"]))?)?;
        let (listener, address) = listen(ANY_PORT).await?;
        let state = State {
            received: Vec::new(),
            next: VecDeque::new(),
            standing: Answer::accept(),
        };
        let receiver = Arc::new(Receiver {
            kind,
            state: Mutex::new(state),
            observer: Observer::default(),
        });
        let shared = Arc::clone(&receiver);
        let task = accept(listener, move |stream| {
            serve(stream, acceptor.clone(), Arc::clone(&shared))
        });
        Ok(Self {
            address,
            authority,
            receiver,
            _task: task,
        })
    }

    /// The port.
    pub fn port(&self) -> u16 {
        self.address.port()
    }

    /// `https://127.0.0.1:PORT` and a path that starts with a slash.
    pub fn url(&self, path: &str) -> String {
        format!("https://{}{path}", self.address)
    }

    /// Who signed its certificate, for `ca.crt`.
    pub fn ca_pem(&self) -> String {
        self.authority.pem()
    }

    /// Answers so from now on, where no queued answer comes first.
    pub fn answer_always(&self, answer: Answer) {
        self.receiver.state().standing = answer;
    }

    /// Answers the next message so that has no queued answer yet.
    pub fn answer_next(&self, answer: Answer) {
        self.receiver.state().next.push_back(answer);
    }

    /// Calls this at each of these moments.
    pub fn observe(&self, observer: impl Fn(Moment) + Send + Sync + 'static) {
        self.receiver.observer.set(observer);
    }

    /// What arrived so far, oldest first.
    pub fn received(&self) -> Vec<Received> {
        self.receiver.state().received.clone()
    }

    /// Waits until at least `count` messages have arrived, and returns them.
    ///
    /// # Errors
    /// At the deadline, with the bodies that did arrive.
    pub async fn wait_for_messages(&self, count: usize, deadline: Duration) -> Result<Vec<Received>> {
        wait_for(&format!("{count} messages"), deadline, async || {
            let received = self.received();
            if received.len() >= count {
                return Ok(received);
            }
            let bodies: Vec<_> = received
                .iter()
                .map(|message| String::from_utf8_lossy(&message.body))
                .collect();
            Err(anyhow!("{} arrived: {bodies:?}", received.len()))
        })
        .await
    }
}

async fn serve(stream: TcpStream, acceptor: TlsAcceptor, receiver: Arc<Receiver>) {
    receiver.observer.see(Moment::Accepted);
    let Ok(session) = acceptor.accept(stream).await else {
        return;
    };
    let service = service_fn(move |request| answer(request, Arc::clone(&receiver)));
    // It ends when the client leaves, or with a deliberate hang-up.
    let _ended = hyper::server::conn::http1::Builder::new()
        .serve_connection(TokioIo::new(session), service)
        .await;
}

async fn answer(request: Request<Incoming>, receiver: Arc<Receiver>) -> Result<Response<Full<Bytes>>> {
    let (head, body) = request.into_parts();
    let body = Limited::new(body, LARGEST_BODY)
        .collect()
        .await
        .map_err(|error| anyhow!(error))?
        .to_bytes()
        .to_vec();
    let text = |value: &hyper::header::HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
    let headers: BTreeMap<String, String> = head
        .headers
        .iter()
        .map(|(name, value)| (name.as_str().to_owned(), text(value)))
        .collect();
    let now = Utc::now();
    let signature_fault = match &receiver.kind {
        Kind::Webhook(keys) if !keys.is_empty() => SigningKey::check(keys, &headers, &body, now).err(),
        _ => None,
    };
    let path = head.uri.to_string();
    let message = Received {
        at: now,
        path: path.clone(),
        headers,
        body,
        signature_fault,
    };
    let (answer, number) = receiver.record(message);
    receiver.observer.see(Moment::Received);
    tokio::time::sleep(answer.delay).await;
    if answer.hangs_up {
        return Err(anyhow!("hangs up, as told"));
    }
    let body = answer
        .body
        .unwrap_or_else(|| receiver.default_body(answer.status, &path, number));
    let mut response = Response::builder().status(answer.status);
    for (name, value) in answer.headers {
        response = response.header(name, value);
    }
    Ok(response.body(Full::from(body))?)
}

#[cfg(test)]
mod tests {
    use rustls::pki_types::pem::PemObject as _;
    use rustls::pki_types::{CertificateDer, ServerName};
    use rustls::{ClientConfig, RootCertStore};
    use tokio_rustls::TlsConnector;

    use super::*;

    const SOON: Duration = Duration::from_secs(5);

    /// Posts a body with headers over verified TLS; the status and the body of the answer.
    async fn post(sink: &HttpSink, path: &str, headers: &[(&str, String)], body: &str) -> Result<(u16, String)> {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(sink.ca_pem().as_bytes())?)?;
        let config = ClientConfig::builder()
            .with_root_certificates(roots)
            .with_no_client_auth();
        let stream = TcpStream::connect(("127.0.0.1", sink.port())).await?;
        let session = TlsConnector::from(Arc::new(config))
            .connect(ServerName::try_from("127.0.0.1")?, stream)
            .await?;
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(session)).await?;
        let _connection = Task::spawn(async { drop(connection.await) });
        let mut request = Request::post(path).header("host", "127.0.0.1");
        for (name, value) in headers {
            request = request.header(*name, value);
        }
        let response = sender
            .send_request(request.body(Full::new(Bytes::from(body.to_owned())))?)
            .await?;
        let status = response.status().as_u16();
        let body = response.into_body().collect().await?.to_bytes();
        Ok((status, String::from_utf8(body.to_vec())?))
    }

    #[tokio::test]
    async fn slack_answers_as_told_and_then_as_slack_does() -> Result<()> {
        let sink = HttpSink::slack().await?;
        sink.answer_next(Answer::status(429).header("retry-after", "30"));
        sink.answer_next(Answer::hang_up());
        assert_eq!(post(&sink, "/services/T/B/x", &[], "{}").await?, (429, String::new()));
        assert!(post(&sink, "/services/T/B/x", &[], "{}").await.is_err());
        assert_eq!(
            post(&sink, "/services/T/B/x", &[], r#"{"text":"hi"}"#).await?,
            (200, "ok".to_owned())
        );
        let (_, answer) = post(&sink, "/api/chat.postMessage", &[], "{}").await?;
        assert_eq!(serde_json::from_str::<Value>(&answer)?["ts"], "1700000000.000004");
        let received = sink.wait_for_messages(4, SOON).await?;
        assert_eq!(received[2].json()?["text"], "hi");
        Ok(())
    }

    #[tokio::test]
    async fn a_message_is_recorded_before_it_is_answered() -> Result<()> {
        let sink = HttpSink::slack().await?;
        sink.answer_always(Answer::accept().after(Duration::from_secs(600)));
        let sending = post(&sink, "/", &[], "{}");
        tokio::select! {
            answered = sending => panic!("answered too early: {answered:?}"),
            received = sink.wait_for_messages(1, SOON) => assert_eq!(received?.len(), 1),
        }
        Ok(())
    }

    #[tokio::test]
    async fn a_webhook_refuses_what_is_not_signed() -> Result<()> {
        let key = SigningKey::parse("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")?;
        let sink = HttpSink::webhook(vec![key.clone()]).await?;
        let now = Utc::now().timestamp();
        let signed = [
            ("webhook-id", "msg_1".to_owned()),
            ("webhook-timestamp", now.to_string()),
            ("webhook-signature", key.sign("msg_1", now, b"{}")),
        ];
        assert_eq!(post(&sink, "/hook", &signed, "{}").await?.0, 200);
        assert_eq!(post(&sink, "/hook", &signed, "{ }").await?.0, 401);
        assert_eq!(post(&sink, "/hook", &[], "{}").await?.0, 401);
        let faults: Vec<_> = sink
            .received()
            .into_iter()
            .map(|message| message.signature_fault)
            .collect();
        assert_eq!(
            faults,
            [
                None,
                Some("no signature of a known key".to_owned()),
                Some("no webhook-id header".to_owned())
            ]
        );
        Ok(())
    }
}
