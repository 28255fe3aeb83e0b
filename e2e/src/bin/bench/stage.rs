//! The real control plane, the chart by Helm, and the release binary as the chart's ServiceAccount.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use certmon_crd::CertificateMonitor;
use certmon_e2e::{AuditLevel, Cluster, Helm, HelmRelease, Operator, OperatorBuilder, egress_policy, repository};
use futures::{StreamExt as _, TryStreamExt as _};
use k8s_openapi::api::core::v1::{Namespace, Secret};
use kube::Api;
use kube::api::{DeleteParams, ListParams, PostParams, WatchEvent, WatchParams};
use serde_json::{Value, json};

pub(crate) const NAMESPACE: &str = "certmon-system";
const ACCOUNT: &str = "certmon";

/// How the operator is named in the audit log.
pub(crate) const USER: &str = "system:serviceaccount:certmon-system:certmon";

/// Requests of ours that run at once.
const AT_ONCE: usize = 32;

pub(crate) struct Stage {
    pub(crate) cluster: Cluster,
    pub(crate) client: kube::Client,
    kubeconfig: PathBuf,
}

impl Stage {
    /// A fresh control plane with the chart in it and no operator running. `flags` are kube-apiserver's.
    pub(crate) async fn set(flags: &[&str]) -> Result<Self> {
        let options = certmon_e2e::Options {
            audit: AuditLevel::Metadata,
            api_server_flags: flags.iter().map(|flag| (*flag).to_owned()).collect(),
            ..certmon_e2e::Options::from_environment()?
        };
        let cluster = Cluster::start(&options).await?;
        let release = HelmRelease {
            name: "certmon",
            namespace: NAMESPACE,
            values: &[],
        };
        cluster.helm()?.install(&Helm::chart(), &release).await?;
        let kubectl = cluster.kubectl()?;
        kubectl
            .run(["wait", "--for=condition=Established", "--timeout=30s", "crd", "--all"])
            .await?;
        let kubeconfig = cluster.service_account(NAMESPACE, ACCOUNT).await?;
        let client = cluster.client().await?;
        Ok(Self {
            cluster,
            client,
            kubeconfig,
        })
    }

    /// A client with the operator's own rights: only those are queued as the operator's requests are.
    pub(crate) async fn as_operator(&self) -> Result<kube::Client> {
        self.cluster.client_as(&self.kubeconfig).await
    }

    /// Starts the operator; it may dial these ports of loopback.
    pub(crate) fn operator(&self, ports: impl IntoIterator<Item = u16>) -> Result<Operator> {
        OperatorBuilder::new(&self.kubeconfig)
            .binary(&binary()?)
            .egress_policy(egress_policy(ports))
            .start()
    }

    pub(crate) fn monitors(&self, namespace: &str) -> Api<CertificateMonitor> {
        Api::namespaced(self.client.clone(), namespace)
    }

    pub(crate) async fn namespaces(&self, names: impl IntoIterator<Item = String>) -> Result<()> {
        let api: Api<Namespace> = Api::all(self.client.clone());
        for name in names {
            let namespace = serde_json::from_value(json!({ "metadata": { "name": name } }))?;
            api.create(&PostParams::default(), &namespace).await?;
        }
        Ok(())
    }

    /// Creates Secrets, many at once; each says its namespace.
    pub(crate) async fn secrets(&self, secrets: impl IntoIterator<Item = Result<Secret>>) -> Result<()> {
        let creating = futures::stream::iter(secrets).map(async |secret| -> Result<()> {
            let secret = secret?;
            let namespace = secret.metadata.namespace.clone().unwrap_or_default();
            let api: Api<Secret> = Api::namespaced(self.client.clone(), &namespace);
            api.create(&PostParams::default(), &secret).await?;
            Ok(())
        });
        creating.buffer_unordered(AT_ONCE).try_collect().await
    }

    /// Creates a monitor of this spec.
    pub(crate) async fn monitor(&self, namespace: &str, name: &str, spec: &Value) -> Result<()> {
        let monitor = json!({
            "apiVersion": "certmon.dev/v1alpha1", "kind": "CertificateMonitor",
            "metadata": { "name": name, "namespace": namespace }, "spec": spec,
        });
        self.monitors(namespace)
            .create(&PostParams::default(), &serde_json::from_value(monitor)?)
            .await?;
        Ok(())
    }

    /// Deletes all monitors of a namespace.
    pub(crate) async fn forget(&self, namespace: &str) -> Result<()> {
        self.monitors(namespace)
            .delete_collection(&DeleteParams::default(), &ListParams::default())
            .await?;
        Ok(())
    }

    /// Calls `seen` for each state of each monitor, now and later, until it says that this was enough.
    pub(crate) async fn watch_monitors(&self, seen: impl FnMut(&CertificateMonitor) -> bool) -> Result<()> {
        follow(Api::all(self.client.clone()), None, seen).await
    }

    /// The same for one monitor.
    pub(crate) async fn watch_monitor(
        &self,
        namespace: &str,
        name: &str,
        seen: impl FnMut(&CertificateMonitor) -> bool,
    ) -> Result<()> {
        follow(self.monitors(namespace), Some(format!("metadata.name={name}")), seen).await
    }
}

async fn follow(
    api: Api<CertificateMonitor>,
    fields: Option<String>,
    mut seen: impl FnMut(&CertificateMonitor) -> bool,
) -> Result<()> {
    let (mut listed, mut watched) = (ListParams::default(), WatchParams::default().timeout(290));
    listed.field_selector.clone_from(&fields);
    watched.field_selector = fields;
    let list = api.list(&listed).await?;
    for monitor in &list.items {
        if seen(monitor) {
            return Ok(());
        }
    }
    let version = list.metadata.resource_version.unwrap_or_default();
    let events = api.watch(&watched, &version).await?;
    let mut events = std::pin::pin!(events);
    while let Some(event) = events.try_next().await? {
        if let WatchEvent::Added(monitor) | WatchEvent::Modified(monitor) = event
            && seen(&monitor)
        {
            return Ok(());
        }
    }
    anyhow::bail!("the monitors did not come to what was waited for in 290 s")
}

/// Whether the condition `Ready` is True.
pub(crate) fn is_ready(monitor: &CertificateMonitor) -> bool {
    let conditions = monitor.status.iter().flat_map(|status| &status.conditions);
    conditions
        .into_iter()
        .any(|condition| condition.type_ == "Ready" && condition.status == "True")
}

/// The release binary: `CERTMON_BIN`, or what `make bench` has built.
pub(crate) fn binary() -> Result<PathBuf> {
    let built = match std::env::var_os("CERTMON_BIN").filter(|path| !path.is_empty()) {
        Some(path) => PathBuf::from(path),
        None => release("certmon"),
    };
    ensure!(built.exists(), "{} is missing: `make bench` builds it", built.display());
    Ok(built)
}

/// A file that a release build leaves.
pub(crate) fn release(file: &str) -> PathBuf {
    let target = std::env::var_os("CARGO_TARGET_DIR").filter(|path| !path.is_empty());
    target
        .map_or_else(|| repository().join("target"), PathBuf::from)
        .join("release")
        .join(file)
}

/// Its size in MiB.
pub(crate) fn size(path: &Path) -> Result<f64> {
    let bytes = std::fs::metadata(path)
        .with_context(|| path.display().to_string())?
        .len();
    #[expect(clippy::cast_precision_loss, reason = "a file of some megabytes")]
    Ok(bytes as f64 / 1_048_576.0)
}
