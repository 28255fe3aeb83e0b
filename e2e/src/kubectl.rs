//! The real kubectl.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, bail};
use serde::Serialize;
use tokio::io::AsyncWriteExt as _;
use tokio::process::Command;
use tokio::time::timeout;

/// No call of a test takes longer.
const LONGEST: Duration = Duration::from_secs(120);

/// What a program said.
#[derive(Debug, Clone)]
pub struct Output {
    /// Whether it exited with 0.
    pub success: bool,
    /// Its standard output.
    pub stdout: String,
    /// Its standard error.
    pub stderr: String,
}

/// Runs to the end within two minutes; killed when the caller gives up.
pub(crate) async fn run(command: &mut Command, stdin: &str) -> Result<Output> {
    let name = format!("{:?}", command.as_std());
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .with_context(|| format!("can't start {name}"))?;
    let mut pipe = child.stdin.take().context("stdin was asked for as a pipe")?;
    let text = stdin.to_owned();
    let feed = async move {
        // A program that doesn't read its input closes the pipe: that is its right.
        let _fed = pipe.write_all(text.as_bytes()).await;
    };
    let both = async { tokio::join!(feed, child.wait_with_output()).1 };
    let output = timeout(LONGEST, both)
        .await
        .map_err(|_elapsed| anyhow!("{name} ran for {LONGEST:?}"))??;
    Ok(Output {
        success: output.status.success(),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    })
}

/// kubectl with one kubeconfig, in one namespace.
#[derive(Debug, Clone)]
pub struct Kubectl {
    program: PathBuf,
    kubeconfig: PathBuf,
    cache: PathBuf,
    namespace: Option<String>,
}

impl Kubectl {
    pub(crate) fn new(program: PathBuf, kubeconfig: PathBuf, cache: PathBuf) -> Self {
        Self {
            program,
            kubeconfig,
            cache,
            namespace: None,
        }
    }

    /// The same in another namespace.
    #[must_use]
    pub fn in_namespace(&self, namespace: &str) -> Self {
        Self {
            namespace: Some(namespace.to_owned()),
            ..self.clone()
        }
    }

    /// The same as somebody else, as a ServiceAccount of [`Cluster::service_account`](crate::Cluster::service_account).
    #[must_use]
    pub fn with_kubeconfig(&self, kubeconfig: &Path) -> Self {
        Self {
            kubeconfig: kubeconfig.to_owned(),
            ..self.clone()
        }
    }

    pub(crate) fn std_command<S: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = S>) -> std::process::Command {
        let mut command = std::process::Command::new(&self.program);
        command
            .env("KUBECONFIG", &self.kubeconfig)
            .env("KUBECACHEDIR", &self.cache)
            // A user's ~/.kube/kuberc must not change what tests see.
            .env("KUBECTL_KUBERC", "false")
            .env("HOME", &self.cache)
            .args(args);
        if let Some(namespace) = &self.namespace {
            command.args(["--namespace", namespace]);
        }
        command
    }

    /// Runs kubectl and returns what it said, whether it succeeded or not.
    ///
    /// # Errors
    /// When it can't be started or doesn't end.
    pub async fn output<S: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = S>, stdin: &str) -> Result<Output> {
        run(&mut Command::from(self.std_command(args)), stdin).await
    }

    /// Runs kubectl and returns its standard output.
    ///
    /// # Errors
    /// When it fails: with what it said.
    pub async fn run<S: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = S>) -> Result<String> {
        let args: Vec<S> = args.into_iter().collect();
        let shown = args
            .iter()
            .map(|arg| arg.as_ref().to_string_lossy())
            .collect::<Vec<_>>()
            .join(" ");
        let output = self.output(&args, "").await?;
        if !output.success {
            bail!("kubectl {shown}: {}{}", output.stderr, output.stdout);
        }
        Ok(output.stdout)
    }

    /// `kubectl apply -f -` with manifests as YAML; returns what it printed, warnings included.
    ///
    /// # Errors
    /// When the API server refuses one: with its message.
    pub async fn apply(&self, manifests: &str) -> Result<String> {
        let output = self.output(["apply", "-f", "-"], manifests).await?;
        if !output.success {
            bail!("kubectl apply: {}{}", output.stderr, output.stdout);
        }
        Ok(output.stdout + &output.stderr)
    }

    /// [`apply`](Self::apply) of an object.
    ///
    /// # Errors
    /// As there.
    pub async fn apply_object(&self, object: &(impl Serialize + Sync)) -> Result<String> {
        self.apply(&serde_json::to_string(object)?).await
    }

    /// The message with which the API server refuses a manifest.
    ///
    /// # Errors
    /// When it doesn't refuse it.
    pub async fn refusal(&self, manifest: &str) -> Result<String> {
        let output = self.output(["apply", "-f", "-"], manifest).await?;
        if output.success {
            bail!("accepted, not refused: {}", output.stdout);
        }
        Ok(output.stderr)
    }
}
