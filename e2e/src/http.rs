//! One GET in clear, for the operator's metrics and health.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow};
use http_body_util::{BodyExt as _, Empty};
use hyper::Request;
use hyper::body::Bytes;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::time::timeout;

/// The status and the body of `GET path` over HTTP/1.1, within five seconds.
///
/// # Errors
/// When nobody answers in time, or not in HTTP.
pub async fn get(address: SocketAddr, path: &str) -> Result<(u16, String)> {
    timeout(Duration::from_secs(5), request(address, path))
        .await
        .map_err(|_elapsed| anyhow!("no answer to GET {path} in 5 s"))?
        .with_context(|| format!("GET http://{address}{path}"))
}

async fn request(address: SocketAddr, path: &str) -> Result<(u16, String)> {
    let stream = TcpStream::connect(address).await?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    let request = Request::get(path)
        .header("host", address.to_string())
        .body(Empty::<Bytes>::new())?;
    let exchange = async {
        let response = sender.send_request(request).await?;
        let status = response.status().as_u16();
        let body = response.into_body().collect().await?.to_bytes();
        Ok::<_, anyhow::Error>((status, String::from_utf8_lossy(&body).into_owned()))
    };
    tokio::pin!(connection);
    tokio::select! {
        answer = exchange => answer,
        ended = &mut connection => Err(anyhow!("the connection ended before an answer: {ended:?}")),
    }
}
