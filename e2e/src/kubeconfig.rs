//! Kubeconfig files.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, anyhow};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use kube::config::{KubeConfigOptions, Kubeconfig};
use serde_json::json;

/// How to reach an API server: what every kubeconfig of one cluster shares.
#[derive(Debug, Clone)]
pub struct Access {
    /// `https://HOST:PORT`.
    pub server: String,
    /// Who signed the server's certificate, as PEM; `None` for the system's roots.
    pub ca_pem: Option<String>,
}

impl Access {
    /// What the current context of a kubeconfig says.
    ///
    /// # Errors
    /// When the file can't be read, or names no cluster.
    pub fn of(kubeconfig: &Path) -> Result<Self> {
        let read = Kubeconfig::read_from(kubeconfig).with_context(|| kubeconfig.display().to_string())?;
        let current = read
            .current_context
            .as_deref()
            .context("the kubeconfig has no current context")?;
        let context = read
            .contexts
            .iter()
            .find(|named| named.name == current)
            .and_then(|named| named.context.as_ref());
        let name = &context.context("the current context is not in the kubeconfig")?.cluster;
        let cluster = read
            .clusters
            .iter()
            .find(|named| &named.name == name)
            .and_then(|named| named.cluster.as_ref());
        let cluster = cluster.ok_or_else(|| anyhow!("the kubeconfig has no cluster {name}"))?;
        let ca_pem = match (&cluster.certificate_authority_data, &cluster.certificate_authority) {
            (Some(data), _) => Some(String::from_utf8(STANDARD.decode(data)?)?),
            (None, Some(path)) => Some(std::fs::read_to_string(path).with_context(|| path.clone())?),
            (None, None) => None,
        };
        let server = cluster
            .server
            .clone()
            .context("the kubeconfig's cluster has no server")?;
        Ok(Self { server, ca_pem })
    }
}

/// Writes a kubeconfig (as JSON, which is YAML) with a bearer token; `namespace` is the context's.
///
/// # Errors
/// When the file can't be written.
pub fn write_kubeconfig(path: &Path, access: &Access, token: &str, namespace: &str) -> Result<PathBuf> {
    let mut cluster = json!({ "server": access.server });
    if let Some(ca) = &access.ca_pem {
        cluster["certificate-authority-data"] = STANDARD.encode(ca).into();
    }
    let text = json!({
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "test",
        "clusters": [{ "name": "test", "cluster": cluster }],
        "users": [{ "name": "test", "user": { "token": token } }],
        "contexts": [{ "name": "test", "context": { "cluster": "test", "user": "test", "namespace": namespace } }],
    });
    std::fs::write(path, serde_json::to_string_pretty(&text)?).with_context(|| path.display().to_string())?;
    Ok(path.to_owned())
}

/// A client with the current context of a kubeconfig. It belongs to the runtime that it was made on.
pub(crate) async fn client(kubeconfig: &Path) -> Result<kube::Client> {
    crate::install_crypto();
    let read = Kubeconfig::read_from(kubeconfig).with_context(|| kubeconfig.display().to_string())?;
    let config = kube::Config::from_custom_kubeconfig(read, &KubeConfigOptions::default()).await?;
    Ok(kube::Client::try_from(config)?)
}
