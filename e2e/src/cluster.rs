//! The cluster that tests talk to: a control plane of the run, or one that somebody names.

use std::fmt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow};
use k8s_openapi::api::authentication::v1::{TokenRequest, TokenRequestSpec};
use k8s_openapi::api::core::v1::{Namespace as NamespaceObject, ServiceAccount};
use kube::Api;
use kube::api::{ObjectMeta, PostParams};
use tokio::sync::OnceCell;

use crate::kubeconfig::{Access, client, write_kubeconfig};
use crate::{AuditLog, Binaries, ControlPlane, Helm, Kubectl, Options, lifeline, repository, wait_for};

static SHARED: OnceCell<Result<Cluster, String>> = OnceCell::const_new();

/// Only where the shared one is somebody else's.
static OWN: OnceCell<Result<Cluster, String>> = OnceCell::const_new();

/// Distinguishes the namespaces and files of one run.
static COUNTER: AtomicU32 = AtomicU32::new(0);

/// A real API server and how to get at it.
#[derive(Debug)]
pub struct Cluster {
    binaries: Binaries,
    kubeconfig: PathBuf,
    access: Access,
    /// For kubeconfigs, caches and logs of the tests.
    folder: PathBuf,
    plane: Option<ControlPlane>,
    crds: OnceCell<()>,
}

impl Cluster {
    /// The cluster of this run: the one in `CERTMON_E2E_KUBECONFIG` if that is set, else a control plane that the first
    /// caller starts, all share, and the end of the run kills.
    ///
    /// # Errors
    /// When it can't be had; every caller gets the same error, and nobody tries again.
    pub async fn shared() -> Result<&'static Self> {
        let first = async || Self::from_environment().await.map_err(|error| format!("{error:#}"));
        SHARED
            .get_or_init(first)
            .await
            .as_ref()
            .map_err(|error| anyhow!(error.clone()))
    }

    /// A cluster with an audit log: the shared one, unless that is somebody else's; then one more, shared in turn.
    ///
    /// # Errors
    /// As for [`shared`](Self::shared).
    pub async fn audited() -> Result<&'static Self> {
        let shared = Self::shared().await?;
        if shared.is_own() {
            return Ok(shared);
        }
        let first = async || match Options::from_environment() {
            Ok(options) => Self::start(&options).await.map_err(|error| format!("{error:#}")),
            Err(error) => Err(format!("{error:#}")),
        };
        OWN.get_or_init(first)
            .await
            .as_ref()
            .map_err(|error| anyhow!(error.clone()))
    }

    async fn from_environment() -> Result<Self> {
        let options = Options::from_environment()?;
        match std::env::var_os("CERTMON_E2E_KUBECONFIG").filter(|path| !path.is_empty()) {
            Some(path) => Self::existing(Path::new(&path), Binaries::new(options.release)),
            None => Self::start(&options).await,
        }
    }

    fn existing(kubeconfig: &Path, binaries: Binaries) -> Result<Self> {
        let kubeconfig = std::fs::canonicalize(kubeconfig)
            .with_context(|| format!("CERTMON_E2E_KUBECONFIG={}", kubeconfig.display()))?;
        let access = Access::of(&kubeconfig)?;
        Ok(Self {
            binaries,
            kubeconfig,
            access,
            folder: lifeline::folder("certmon-e2e-")?,
            plane: None,
            crds: OnceCell::new(),
        })
    }

    /// A control plane for one test alone, with its own flags; killed when dropped.
    ///
    /// # Errors
    /// When it can't be built or doesn't become ready.
    pub async fn start(options: &Options) -> Result<Self> {
        let binaries = Binaries::new(options.release);
        let plane = ControlPlane::start(&binaries, options).await?;
        Ok(Self {
            binaries,
            kubeconfig: plane.admin_kubeconfig(),
            access: plane.access().clone(),
            folder: plane.folder().to_owned(),
            plane: Some(plane),
            crds: OnceCell::new(),
        })
    }

    /// An admin's kubeconfig.
    pub fn kubeconfig(&self) -> &Path {
        &self.kubeconfig
    }

    /// Where the API server is and who signed its certificate: for a proxy before it.
    pub fn access(&self) -> &Access {
        &self.access
    }

    /// The binaries that it runs with.
    pub fn binaries(&self) -> &Binaries {
        &self.binaries
    }

    /// A folder for files of this run.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// An admin's client. Make one per test: a client ends with the runtime that it was made on.
    ///
    /// # Errors
    /// When the kubeconfig is unusable.
    pub async fn client(&self) -> Result<kube::Client> {
        client(&self.kubeconfig).await
    }

    /// A client with another kubeconfig, as one of [`service_account`](Self::service_account).
    ///
    /// # Errors
    /// When the kubeconfig is unusable.
    pub async fn client_as(&self, kubeconfig: &Path) -> Result<kube::Client> {
        client(kubeconfig).await
    }

    /// The audit log.
    ///
    /// # Errors
    /// When the cluster is not the run's own: ask [`audited`](Self::audited) for one.
    pub fn audit(&self) -> Result<&AuditLog> {
        self.plane
            .as_ref()
            .map(ControlPlane::audit)
            .context("the cluster of CERTMON_E2E_KUBECONFIG has no audit log here")
    }

    /// Whether the run started it itself, so that its audit log can be read and its version is the pinned one.
    pub fn is_own(&self) -> bool {
        self.plane.is_some()
    }

    /// kubectl as an admin, in the namespace `default`.
    ///
    /// # Errors
    /// When there is no kubectl.
    pub fn kubectl(&self) -> Result<Kubectl> {
        Ok(Kubectl::new(
            self.binaries.path("kubectl")?,
            self.kubeconfig.clone(),
            self.folder.join("kubectl-cache"),
        ))
    }

    /// Helm as an admin.
    ///
    /// # Errors
    /// When there is no Helm, and it can't be built.
    pub fn helm(&self) -> Result<Helm> {
        Ok(Helm::new(
            self.binaries.path("helm")?,
            self.kubeconfig.clone(),
            self.folder.join("helm"),
        ))
    }

    /// Applies `crd/generated`, once, and waits until its kinds are served. Where the chart is what is tested, Helm
    /// installs them instead.
    ///
    /// # Errors
    /// When the API server refuses one, or doesn't serve it in 30 s.
    pub async fn crds(&self) -> Result<()> {
        self.crds
            .get_or_try_init(async || self.apply_crds().await)
            .await
            .copied()
    }

    async fn apply_crds(&self) -> Result<()> {
        let folder = repository().join("crd/generated").display().to_string();
        let kubectl = self.kubectl()?;
        kubectl.run(["apply", "--server-side", "-f", &folder]).await?;
        kubectl
            .run(["wait", "--for=condition=Established", "--timeout=30s", "-f", &folder])
            .await?;
        // Established comes a moment before the first request is served.
        wait_for("certmon.dev to be served", Duration::from_secs(30), async || {
            let served = kubectl
                .run([
                    "api-resources",
                    "--api-group=certmon.dev",
                    "--output=name",
                    "--cached=false",
                ])
                .await?;
            if served.contains("certificatemonitors") {
                Ok(())
            } else {
                Err(anyhow!("served: {served:?}"))
            }
        })
        .await
    }

    /// A new namespace `HINT-…` with its default ServiceAccount, deleted when dropped.
    ///
    /// # Errors
    /// When the API server refuses it.
    pub async fn namespace(&self, hint: &str) -> Result<Namespace> {
        let client = self.client().await?;
        // The process id too: a cluster that isn't ours sees several runs.
        let name = format!(
            "{hint}-{}-{}",
            std::process::id(),
            COUNTER.fetch_add(1, Ordering::Relaxed)
        );
        let metadata = ObjectMeta {
            name: Some(name.clone()),
            ..ObjectMeta::default()
        };
        let object = NamespaceObject {
            metadata,
            ..NamespaceObject::default()
        };
        Api::all(client.clone()).create(&PostParams::default(), &object).await?;
        let kubectl = self.kubectl()?.in_namespace(&name);
        let namespace = Namespace { name, client, kubectl };
        let accounts: Api<ServiceAccount> = Api::namespaced(namespace.client(), namespace.name());
        wait_for("the default ServiceAccount", Duration::from_secs(30), async || {
            Ok(accounts.get("default").await?)
        })
        .await?;
        Ok(namespace)
    }

    /// A token of a ServiceAccount, by TokenRequest, good for two hours.
    ///
    /// # Errors
    /// When there is no such ServiceAccount.
    pub async fn token(&self, namespace: &str, name: &str) -> Result<String> {
        let accounts: Api<ServiceAccount> = Api::namespaced(self.client().await?, namespace);
        let spec = TokenRequestSpec {
            expiration_seconds: Some(7200),
            ..TokenRequestSpec::default()
        };
        let request = TokenRequest {
            spec,
            ..TokenRequest::default()
        };
        let answer = accounts
            .create_token_request(name, &PostParams::default(), &request)
            .await
            .with_context(|| format!("a token of the ServiceAccount {namespace}/{name}"))?;
        Ok(answer.status.context("a TokenRequest without status")?.token)
    }

    /// A kubeconfig of a ServiceAccount that exists, as the chart makes one; its context's namespace is the account's.
    ///
    /// # Errors
    /// When there is no such ServiceAccount.
    pub async fn service_account(&self, namespace: &str, name: &str) -> Result<PathBuf> {
        let token = self.token(namespace, name).await?;
        let number = COUNTER.fetch_add(1, Ordering::Relaxed);
        let path = self.folder.join(format!("{namespace}-{name}-{number}.kubeconfig"));
        write_kubeconfig(&path, &self.access, &token, namespace)
    }
}

/// A namespace of one test; deleted, without waiting for it, when dropped.
pub struct Namespace {
    name: String,
    client: kube::Client,
    kubectl: Kubectl,
}

impl Namespace {
    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// An admin's client.
    pub fn client(&self) -> kube::Client {
        self.client.clone()
    }

    /// kubectl as an admin, in this namespace.
    pub fn kubectl(&self) -> &Kubectl {
        &self.kubectl
    }
}

impl fmt::Debug for Namespace {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_tuple("Namespace").field(&self.name).finish()
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        let mut delete = self
            .kubectl
            .std_command(["delete", "namespace", &self.name, "--wait=false"]);
        delete
            .arg("--request-timeout=5s")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        // Only the request is waited for. If it fails, an own cluster dies with the run anyway.
        let _asked = delete.status();
    }
}
