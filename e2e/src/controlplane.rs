//! etcd, kube-apiserver and kube-controller-manager as processes on loopback.

use std::collections::BTreeSet;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow};
use k8s_openapi::api::core::v1::ServiceAccount;
use kube::Api;

use crate::audit::{AuditLevel, AuditLog};
use crate::kubeconfig::{Access, client, write_kubeconfig};
use crate::lifeline::{self, Process};
use crate::{Authority, Binaries, Leaf, Release, ports, wait_for};

/// From nothing to ready takes about 3 s; a loaded machine gets more.
const READY: Duration = Duration::from_secs(90);

/// A port that was free may be taken before the server binds it: then the whole start is tried again.
const STARTS: usize = 3;

/// The controllers without which namespaces stay, owned objects are kept, aggregated roles are empty and namespaces
/// have neither a default ServiceAccount nor the API server's CA.
const CONTROLLERS: [&str; 5] = [
    "namespace-controller",
    "garbage-collector-controller",
    "clusterrole-aggregation-controller",
    "serviceaccount-controller",
    "root-ca-certificate-publisher-controller",
];

/// How to start a control plane.
#[derive(Debug, Clone)]
pub struct Options {
    /// Which binaries, where the environment gives none.
    pub release: Release,
    /// How much the audit log holds.
    pub audit: AuditLevel,
    /// Further flags of kube-apiserver, as `--feature-gates=WatchList=false`.
    pub api_server_flags: Vec<String>,
    /// Further controllers, as `deployment-controller`.
    pub controllers: Vec<String>,
}

impl Options {
    /// The release that the environment asks for, the audit log with bodies, nothing further.
    ///
    /// # Errors
    /// When the environment asks for a release that there isn't.
    pub fn from_environment() -> Result<Self> {
        Ok(Self {
            release: Release::from_environment()?,
            audit: AuditLevel::RequestResponse,
            api_server_flags: Vec::new(),
            controllers: Vec::new(),
        })
    }
}

/// A running control plane; killed when dropped, and with the run at the latest.
#[derive(Debug)]
pub struct ControlPlane {
    folder: PathBuf,
    access: Access,
    audit: AuditLog,
    /// The clients before the servers, so that they are killed in this order.
    processes: Vec<Process>,
}

impl ControlPlane {
    /// Starts one and waits until it is ready. Builds the binaries first where that is needed.
    ///
    /// # Errors
    /// When a binary is missing, or the control plane isn't ready in time: with the end of its logs.
    pub async fn start(binaries: &Binaries, options: &Options) -> Result<Self> {
        let programs = {
            let binaries = binaries.clone();
            tokio::task::spawn_blocking(move || Programs::find(&binaries)).await??
        };
        let mut last = anyhow!("never tried");
        for _ in 0..STARTS {
            match Self::try_start(&programs, options).await {
                Ok(plane) => return Ok(plane),
                Err(error) if format!("{error:#}").contains("address already in use") => last = error,
                Err(error) => return Err(error),
            }
        }
        Err(last.context(format!("no free ports in {STARTS} attempts")))
    }

    async fn try_start(programs: &Programs, options: &Options) -> Result<Self> {
        let folder = lifeline::folder("certmon-e2e-")?;
        let authority = Authority::new("certmon-e2e")?;
        let ports = Ports::free()?;
        let access = Access {
            server: format!("https://127.0.0.1:{}", ports.api_server),
            ca_pem: Some(authority.pem()),
        };
        write_credentials(&folder, &authority, &access, options)?;
        let mut plane = Self {
            audit: AuditLog::new(folder.join("audit.log")),
            folder,
            access,
            processes: Vec::new(),
        };
        plane.spawn(&programs.etcd, &etcd_flags(&plane.folder, &ports))?;
        plane.spawn(&programs.api_server, &api_server_flags(&plane.folder, &ports, options))?;
        plane.spawn(
            &programs.controller_manager,
            &controller_manager_flags(&plane.folder, options),
        )?;
        plane.ready().await?;
        Ok(plane)
    }

    fn spawn(&mut self, program: &Path, flags: &[String]) -> Result<()> {
        let name = program.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let log = File::create(self.folder.join(format!("{name}.log")))?;
        let mut command = Command::new(program);
        command
            .args(flags)
            .current_dir(&self.folder)
            .stdout(log.try_clone()?)
            .stderr(log);
        self.processes.insert(0, Process::start(&mut command)?);
        Ok(())
    }

    /// Ready: the API server says so, and the controller manager has made the first default ServiceAccount.
    async fn ready(&mut self) -> Result<()> {
        let client = client(&self.admin_kubeconfig()).await?;
        let accounts: Api<ServiceAccount> = Api::namespaced(client, "default");
        let folder = self.folder.clone();
        let processes = std::sync::Mutex::new(&mut self.processes);
        let dead = || -> Result<bool> {
            let mut processes = processes.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            processes
                .iter_mut()
                .try_fold(false, |dead, process| Ok(dead || process.ended()?.is_some()))
        };
        let waited = wait_for("the control plane to be ready", READY, async || {
            if dead()? {
                return Ok(false);
            }
            accounts.get("default").await.map(|_account| true).map_err(Into::into)
        })
        .await;
        match waited {
            Ok(true) => Ok(()),
            Ok(false) => Err(anyhow!("a part of the control plane has ended:\n{}", log_ends(&folder))),
            Err(error) => Err(error.context(log_ends(&folder))),
        }
    }

    /// How to reach it.
    pub fn access(&self) -> &Access {
        &self.access
    }

    /// Its folder: data, logs, credentials. Removed with the run.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// A kubeconfig of the group `system:masters`.
    pub fn admin_kubeconfig(&self) -> PathBuf {
        self.folder.join("admin.kubeconfig")
    }

    /// Its audit log.
    pub fn audit(&self) -> &AuditLog {
        &self.audit
    }
}

#[derive(Debug)]
struct Programs {
    etcd: PathBuf,
    api_server: PathBuf,
    controller_manager: PathBuf,
}

impl Programs {
    fn find(binaries: &Binaries) -> Result<Self> {
        Ok(Self {
            etcd: binaries.path("etcd")?,
            api_server: binaries.path("kube-apiserver")?,
            controller_manager: binaries.path("kube-controller-manager")?,
        })
    }
}

struct Ports {
    etcd: u16,
    etcd_peer: u16,
    api_server: u16,
}

impl Ports {
    fn free() -> Result<Self> {
        let held = [ports::free()?, ports::free()?, ports::free()?];
        let [(_, etcd), (_, etcd_peer), (_, api_server)] = held;
        Ok(Self {
            etcd,
            etcd_peer,
            api_server,
        })
    }
}

/// Everything that the three programs read from files.
fn write_credentials(folder: &Path, authority: &Authority, access: &Access, options: &Options) -> Result<()> {
    let write = |name: &str, text: &str| std::fs::write(folder.join(name), text).with_context(|| name.to_owned());
    let names = ["127.0.0.1", "localhost", "kubernetes.default.svc"];
    let serving = authority.issue(&Leaf::for_names(names))?;
    let accounts = Leaf::for_names(["service-accounts"]).self_signed()?;
    let (admin, manager) = (token()?, token()?);
    write("ca.crt", &authority.pem())?;
    write("serving.crt", &serving.chain_pem())?;
    write("serving.key", &serving.key_pem())?;
    write("accounts.key", &accounts.key_pem())?;
    write("accounts.pub", &accounts.public_key_pem())?;
    write("audit.json", &options.audit.policy().to_string())?;
    // The log must exist before anybody asks for its end.
    write("audit.log", "")?;
    write(
        "tokens.csv",
        &format!(
            "{admin},admin,admin,system:masters\n{manager},system:kube-controller-manager,manager,system:masters\n"
        ),
    )?;
    write_kubeconfig(&folder.join("admin.kubeconfig"), access, &admin, "default")?;
    write_kubeconfig(&folder.join("manager.kubeconfig"), access, &manager, "default")?;
    Ok(())
}

/// 256 bits that nobody else on this machine can guess: the digest of a fresh private key.
fn token() -> Result<String> {
    Ok(Leaf::for_names(["token"]).self_signed()?.fingerprint())
}

fn etcd_flags(folder: &Path, ports: &Ports) -> Vec<String> {
    let client = format!("http://127.0.0.1:{}", ports.etcd);
    let peer = format!("http://127.0.0.1:{}", ports.etcd_peer);
    vec![
        "--name=default".to_owned(),
        format!("--data-dir={}", folder.join("etcd").display()),
        format!("--listen-client-urls={client}"),
        format!("--advertise-client-urls={client}"),
        format!("--listen-peer-urls={peer}"),
        format!("--initial-advertise-peer-urls={peer}"),
        format!("--initial-cluster=default={peer}"),
        // Nobody reads this data after a crash.
        "--unsafe-no-fsync".to_owned(),
        "--log-level=warn".to_owned(),
    ]
}

fn api_server_flags(folder: &Path, ports: &Ports, options: &Options) -> Vec<String> {
    let file = |name: &str| folder.join(name).display().to_string();
    let own = [
        format!("--etcd-servers=http://127.0.0.1:{}", ports.etcd),
        "--bind-address=127.0.0.1".to_owned(),
        "--advertise-address=127.0.0.1".to_owned(),
        format!("--secure-port={}", ports.api_server),
        format!("--cert-dir={}", file("apiserver-certs")),
        format!("--tls-cert-file={}", file("serving.crt")),
        format!("--tls-private-key-file={}", file("serving.key")),
        format!("--token-auth-file={}", file("tokens.csv")),
        "--service-account-issuer=https://kubernetes.default.svc".to_owned(),
        format!("--service-account-key-file={}", file("accounts.pub")),
        format!("--service-account-signing-key-file={}", file("accounts.key")),
        "--service-cluster-ip-range=10.0.0.0/24".to_owned(),
        "--authorization-mode=RBAC".to_owned(),
        // An EndpointSlice refuses loopback addresses, so the Service `kubernetes` has none here.
        "--endpoint-reconciler-type=none".to_owned(),
        format!("--audit-policy-file={}", file("audit.json")),
        format!("--audit-log-path={}", file("audit.log")),
        // One file for the whole run: a rotated log would lose what a test looks for. In megabytes.
        "--audit-log-maxsize=8192".to_owned(),
        "--v=1".to_owned(),
    ];
    own.into_iter()
        .chain(options.api_server_flags.iter().cloned())
        .collect()
}

fn controller_manager_flags(folder: &Path, options: &Options) -> Vec<String> {
    let file = |name: &str| folder.join(name).display().to_string();
    let controllers: BTreeSet<&str> = CONTROLLERS
        .into_iter()
        .chain(options.controllers.iter().map(String::as_str))
        .collect();
    vec![
        format!("--kubeconfig={}", file("manager.kubeconfig")),
        format!("--root-ca-file={}", file("ca.crt")),
        format!(
            "--controllers={}",
            controllers.into_iter().collect::<Vec<_>>().join(",")
        ),
        "--leader-elect=false".to_owned(),
        "--secure-port=0".to_owned(),
        "--kube-api-qps=200".to_owned(),
        "--kube-api-burst=400".to_owned(),
    ]
}

/// The last lines of each log in a folder.
fn log_ends(folder: &Path) -> String {
    let tail = |name: &str| {
        let text = std::fs::read(folder.join(name)).unwrap_or_default();
        let text = String::from_utf8_lossy(&text).into_owned();
        let lines: Vec<&str> = text.lines().collect();
        format!("--- {name}\n{}\n", lines[lines.len().saturating_sub(8)..].join("\n"))
    };
    ["etcd.log", "kube-apiserver.log", "kube-controller-manager.log"]
        .map(tail)
        .concat()
}
