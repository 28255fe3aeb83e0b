//! One connection: from the client's bytes to the API server's and back.

use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use anyhow::{Context as _, Error, Result, anyhow, bail};
use http_body_util::{BodyExt as _, Full};
use hyper::body::{Body, Bytes, Frame, Incoming, SizeHint};
use hyper::header::{CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, HOST, RETRY_AFTER, TRANSFER_ENCODING};
use hyper::http::request::Parts;
use hyper::service::service_fn;
use hyper::{Response, Uri};
use hyper_util::rt::TokioIo;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use serde_json::json;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::{Request, Shared, Step, Verdict};
use crate::kubeconfig::Access;
use crate::tls::Task;

/// The API server.
pub(super) struct Upstream {
    authority: String,
    name: ServerName<'static>,
    connector: TlsConnector,
}

impl Upstream {
    pub(super) fn of(access: &Access) -> Result<Self> {
        crate::install_crypto();
        let uri: Uri = access.server.parse()?;
        let host = uri.host().context("the server has no host")?.to_owned();
        let mut roots = RootCertStore::empty();
        for certificate in CertificateDer::pem_slice_iter(access.ca_pem.as_deref().unwrap_or_default().as_bytes()) {
            roots.add(certificate?)?;
        }
        let config = ClientConfig::builder()
            .with_root_certificates(roots)
            .with_no_client_auth();
        Ok(Self {
            authority: format!("{host}:{}", uri.port_u16().unwrap_or(443)),
            name: ServerName::try_from(host)?,
            connector: TlsConnector::from(Arc::new(config)),
        })
    }

    /// Forwards a request over a connection of its own.
    async fn send(&self, head: &Parts, body: Bytes) -> Result<(Response<Incoming>, Task)> {
        let address: SocketAddr = tokio::net::lookup_host(&self.authority)
            .await?
            .next()
            .context("the API server has no address")?;
        let stream = TcpStream::connect(address).await?;
        let session = self.connector.connect(self.name.clone(), stream).await?;
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(session)).await?;
        let connection = Task::spawn(async { drop(connection.await) });
        let path = head.uri.path_and_query().map_or("/", |path| path.as_str());
        let mut request = hyper::Request::builder().method(head.method.clone()).uri(path);
        for (name, value) in &head.headers {
            if ![HOST, CONNECTION, CONTENT_LENGTH, TRANSFER_ENCODING].contains(name) {
                request = request.header(name, value);
            }
        }
        let request = request.header(HOST, &self.authority).body(Full::new(body))?;
        Ok((sender.send_request(request).await?, connection))
    }
}

/// A body of the API server's, whole or in part, or one of the proxy's own.
pub(super) enum Answered {
    Own(Full<Bytes>),
    Relayed {
        body: Incoming,
        /// The bytes that may still pass.
        left: usize,
        _connection: Task,
    },
}

impl Body for Answered {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        match self.get_mut() {
            Self::Own(body) => Pin::new(body).poll_frame(context).map_err(|never| match never {}),
            Self::Relayed { left: 0, .. } => Poll::Ready(Some(Err(anyhow!("cut short, as told")))),
            Self::Relayed { body, left, .. } => Pin::new(body).poll_frame(context).map(|frame| {
                let frame = frame?.map_err(Error::from);
                Some(frame.map(|frame| {
                    frame.map_data(|mut data| {
                        data.truncate(*left);
                        *left -= data.len();
                        data
                    })
                }))
            }),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Own(body) => body.is_end_stream(),
            Self::Relayed { body, left, .. } => *left > 0 && body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Own(body) => body.size_hint(),
            Self::Relayed { body, .. } => body.size_hint(),
        }
    }
}

pub(super) async fn serve(stream: TcpStream, shared: Arc<Shared>) {
    let Ok(session) = shared.acceptor.accept(stream).await else {
        return;
    };
    let service = service_fn(move |request| answer(request, Arc::clone(&shared)));
    // It ends when the client leaves, or with a deliberate hang-up.
    let _ended = hyper::server::conn::http1::Builder::new()
        .serve_connection(TokioIo::new(session), service)
        .await;
}

async fn answer(request: hyper::Request<Incoming>, shared: Arc<Shared>) -> Result<Response<Answered>> {
    let (head, body) = request.into_parts();
    let body = body.collect().await?.to_bytes();
    let asked = Request::of(&head, body.clone());
    let mut limit = usize::MAX;
    match shared.verdict(&asked, Step::Request) {
        Some(Verdict::CutShort(bytes)) => limit = bytes,
        Some(verdict) => {
            if let Some(own) = carry_out(verdict).await? {
                return Ok(own);
            }
        }
        None => {}
    }
    // What was forwarded is answered, and the answer is seen, though the client may have left: as it is without a proxy.
    let exchange = tokio::spawn(async move {
        let (response, connection) = shared.upstream.send(&head, body).await?;
        let verdict = shared.verdict(&asked, Step::Answer(response.status().as_u16()));
        Ok::<_, Error>((response, connection, verdict))
    });
    let (response, connection, verdict) = exchange.await??;
    if let Some(verdict) = verdict
        && let Some(own) = carry_out(verdict).await?
    {
        return Ok(own);
    }
    let (mut head, body) = response.into_parts();
    head.headers.remove(CONNECTION);
    head.headers.remove(TRANSFER_ENCODING);
    let relayed = Answered::Relayed {
        body,
        left: limit,
        _connection: connection,
    };
    Ok(Response::from_parts(head, relayed))
}

/// `None`: go on. An error closes the connection.
async fn carry_out(verdict: Verdict) -> Result<Option<Response<Answered>>> {
    let own = |status: u16, type_: &str, body: String| {
        let response = Response::builder().status(status).header(CONTENT_TYPE, type_);
        Ok::<_, Error>(response.body(Answered::Own(Full::from(body)))?)
    };
    match verdict {
        Verdict::Status(code) => {
            let status = json!({
                "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "code": code,
                "reason": reason(code), "message": "the proxy says so",
            });
            own(code, "application/json", status.to_string()).map(Some)
        }
        Verdict::TooManyRequests(seconds) => {
            let text = "Too many requests, please try again later.\n".to_owned();
            let mut response = own(429, "text/plain; charset=utf-8", text)?;
            response.headers_mut().insert(RETRY_AFTER, seconds.into());
            Ok(Some(response))
        }
        Verdict::Line(line) => own(200, "application/json", format!("{line}\n")).map(Some),
        Verdict::Delay(pause) => {
            tokio::time::sleep(pause).await;
            Ok(None)
        }
        Verdict::Silence => std::future::pending().await,
        Verdict::CutShort(_) => bail!("an answer that has begun can't be cut short"),
        Verdict::HangUp => Err(anyhow!("hangs up, as told")),
    }
}

fn reason(code: u16) -> &'static str {
    match code {
        409 => "Conflict",
        410 => "Expired",
        500 => "InternalError",
        503 => "ServiceUnavailable",
        504 => "Timeout",
        _ => "",
    }
}
