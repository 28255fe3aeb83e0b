//! The way to the API server: which kubeconfig leads there, where it is, and saying so in words when it can't be had.

mod reach;

use anyhow::{Context, anyhow};
use certmon_egress::OwnAddresses;
use http::{
    Response, Uri,
    header::{CONTENT_TYPE, RETRY_AFTER, USER_AGENT},
};
use http_body_util::{BodyExt, Full};
use kube::{
    Client, Config,
    client::{ClientBuilder, DynBody},
    config::{KubeConfigOptions, Kubeconfig, KubeconfigError},
};
use reach::{Listening, Reach};
use serde_json::json;
use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};
use tower::{layer::layer_fn, util::MapResponseLayer};

/// How long opening a connection may take.
const CONNECT: Duration = Duration::from_secs(10);
/// With these a pause is asked for.
const THROTTLED: [u16; 2] = [429, 503];

/// How to reach the API server: by these files, merged as kubectl does, else as a Pod.
///
/// # Errors
/// A file can't be read or used, by its name; or there is none, and this is no Pod.
pub async fn config(files: &[PathBuf]) -> anyhow::Result<Config> {
    let mut config = if files.is_empty() {
        Config::incluster().map_err(|error| {
            anyhow!(
                "neither a kubeconfig (--kubeconfig, KUBECONFIG, ~/.kube/config) nor a Pod's ServiceAccount was found: {error}"
            )
        })?
    } else {
        let names: Vec<_> = files.iter().map(|file| file.display().to_string()).collect();
        let mut merged = Kubeconfig::default();
        for file in files {
            let read = Kubeconfig::read_from(file).map_err(|error| anyhow!(unreadable(file, &error)))?;
            merged = merged
                .merge(read)
                .map_err(|error| anyhow!("the kubeconfigs {} don't go together: {error}", names.join(", ")))?;
        }
        Config::from_custom_kubeconfig(merged, &KubeConfigOptions::default())
            .await
            .map_err(|error| anyhow!("the kubeconfig {} can't be used: {error}", names.join(", ")))?
    };
    // The engine knows when to try again, and whether it is still wanted.
    config.default_retry = false;
    config.connect_timeout = Some(CONNECT);
    let agent = concat!("certmon/", env!("CARGO_PKG_VERSION"));
    let agent = agent.parse().context("the version is no header value")?;
    config.headers.push((USER_AGENT, agent));
    Ok(config)
}

/// What is wrong with a kubeconfig. Of what doesn't parse, the place is told and nothing quoted: it may be a token.
fn unreadable(file: &Path, error: &KubeconfigError) -> String {
    let file = file.display();
    match error {
        KubeconfigError::ReadConfig(error, _) => format!("the kubeconfig {file} can't be read: {error}"),
        KubeconfigError::Parse(error) => {
            let at = error.location();
            let at = at.map_or_else(String::new, |at| {
                format!(" (line {}, column {})", at.line(), at.column())
            });
            format!("the kubeconfig {file} is no kubeconfig in YAML{at}")
        }
        error => format!("the kubeconfig {file} can't be used: {error}"),
    }
}

/// Scheme, host and port of a URL; a user or a path that it may have is left out.
#[must_use]
pub fn origin(url: &Uri) -> String {
    let scheme = url.scheme_str().unwrap_or("https");
    format!("{scheme}://{}:{}", url.host().unwrap_or_default(), port(url))
}

fn port(url: &Uri) -> u16 {
    let default = if url.scheme_str() == Some("http") { 80 } else { 443 };
    url.port_u16().unwrap_or(default)
}

/// A client of this API server. Where the server is too busy it says so in a line of text and the pause in a header, which
/// the client's errors don't have: here that becomes the `Status` that other refusals are. How calls end is listened to, so
/// that a server that can't be had is said once.
///
/// # Errors
/// When the client can't be made.
pub fn connect(config: Config) -> Result<Client, kube::Error> {
    let reach = Arc::new(Reach::new(origin(&config.cluster_url)));
    let builder = ClientBuilder::try_from(config)?;
    Ok(builder
        .with_layer(&MapResponseLayer::new(with_pause))
        .with_layer(&layer_fn(|inner| Listening::new(inner, Arc::clone(&reach))))
        .build())
}

fn with_pause(response: Response<Box<DynBody>>) -> Response<Box<DynBody>> {
    let (head, body) = response.into_parts();
    let is_json = head
        .headers
        .get(CONTENT_TYPE)
        .is_some_and(|type_| type_.as_bytes().starts_with(b"application/json"));
    let pause = head.headers.get(RETRY_AFTER).and_then(|value| value.to_str().ok());
    let seconds: Option<u32> = pause.and_then(|value| value.parse().ok());
    match seconds {
        Some(seconds) if !is_json && THROTTLED.contains(&head.status.as_u16()) => {
            let status = json!({
                "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
                "code": head.status.as_u16(), "message": "", "reason": "",
                "details": { "retryAfterSeconds": seconds },
            });
            let own = Full::from(status.to_string()).map_err(|never| match never {});
            Response::from_parts(head, Box::new(own))
        }
        _ => Response::from_parts(head, body),
    }
}

/// Says which Kubernetes answers. Where none does, that is said by who listens to the client's calls.
pub async fn greet(client: Client) {
    if let Ok(version) = client.apiserver_version().await {
        let version: String = version
            .git_version
            .chars()
            .filter(char::is_ascii_graphic)
            .take(64)
            .collect();
        tracing::info!(kubernetes = version, "the API server answers");
    }
}

/// Where the operator itself and the API server listen: neither may be dialled on a tenant's word.
pub async fn own_addresses(bound: SocketAddr, api_server: &Uri) -> OwnAddresses {
    let host = api_server
        .host()
        .unwrap_or_default()
        .trim_matches(['[', ']'])
        .to_owned();
    let mut servers: Vec<SocketAddr> = tokio::net::lookup_host((host, port(api_server)))
        .await
        .map(Iterator::collect)
        .unwrap_or_default();
    // Inside a cluster the Service has a name too.
    servers.extend(
        tokio::net::lookup_host(("kubernetes.default.svc", 443))
            .await
            .into_iter()
            .flatten(),
    );
    let mut own = vec![bound];
    // The address that packets leave by is the Pod's.
    for (any, target) in [
        ("0.0.0.0:0", servers.iter().find(|addr| addr.is_ipv4())),
        ("[::]:0", servers.iter().find(|addr| addr.is_ipv6())),
    ] {
        let Some(target) = target.filter(|target| !target.ip().is_loopback()) else {
            continue;
        };
        if let Ok(socket) = tokio::net::UdpSocket::bind(any).await
            && socket.connect(target).await.is_ok()
            && let Ok(local) = socket.local_addr()
        {
            own.push(SocketAddr::new(local.ip(), bound.port()));
        }
    }
    OwnAddresses {
        operator: own,
        api_server: servers,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_origin_has_no_user_and_no_path() {
        for (url, expected) in [
            ("https://10.0.0.1:6443/", "https://10.0.0.1:6443"),
            (
                "https://user:secret@api.example.com/k8s/clusters/a",
                "https://api.example.com:443",
            ),
            ("http://[::1]:8080", "http://[::1]:8080"),
            ("http://localhost", "http://localhost:80"),
        ] {
            assert_eq!(origin(&url.parse().expect("a URL")), expected);
        }
    }
}
