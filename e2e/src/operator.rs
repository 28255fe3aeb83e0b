//! The operator as a process.

use std::collections::BTreeMap;
use std::fs::OpenOptions;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, bail};
use serde_json::{Value, json};

use crate::lifeline::{self, Process};
use crate::{get, ports, wait_for};

/// Caches are synced long before.
const READY: Duration = Duration::from_secs(30);

/// The egress policy's file, in the process's folder.
const POLICY: &str = "egress-policy.yaml";

/// What SIGTERM may take, and a little more, so that a test can tell late from never.
const EXIT: Duration = Duration::from_secs(25);

/// An egress policy file's text that lets everybody's sinks and endpoints reach these ports of 127.0.0.0/8, by the
/// rule that holds for any admin.
pub fn egress_policy(ports: impl IntoIterator<Item = u16>) -> String {
    let ports: Vec<u16> = ports.into_iter().collect();
    if ports.is_empty() {
        return "{}".to_owned();
    }
    json!({ "allow": [{ "namespaces": ["*"], "cidrs": ["127.0.0.0/8"], "ports": ports }] }).to_string()
}

/// How to run the operator.
#[derive(Debug, Clone)]
pub struct OperatorBuilder {
    kubeconfig: PathBuf,
    /// Each with its value.
    flags: Vec<(String, String)>,
    dns_server: Option<String>,
    by_environment: bool,
    environment: Vec<(String, String)>,
    egress_policy: Option<String>,
    binary: Option<PathBuf>,
}

impl OperatorBuilder {
    /// `certmon run` with a kubeconfig, JSON logs, and a free port for metrics and health.
    pub fn new(kubeconfig: &Path) -> Self {
        Self {
            kubeconfig: kubeconfig.to_owned(),
            flags: Vec::new(),
            dns_server: None,
            by_environment: false,
            environment: Vec::new(),
            egress_policy: None,
            binary: None,
        }
    }

    /// The kubeconfig that it would run with.
    pub fn kubeconfig(&self) -> &Path {
        &self.kubeconfig
    }

    /// Another kubeconfig, as one that goes through a [`Proxy`](crate::proxy::Proxy).
    #[must_use]
    pub fn with_kubeconfig(mut self, kubeconfig: &Path) -> Self {
        kubeconfig.clone_into(&mut self.kubeconfig);
        self
    }

    /// `--watch-namespace`; may be said several times.
    #[must_use]
    pub fn watch_namespace(self, namespace: &str) -> Self {
        self.arg("--watch-namespace", namespace)
    }

    /// `--egress-policy` with a file of this text, as from [`egress_policy`].
    #[must_use]
    pub fn egress_policy(mut self, text: impl Into<String>) -> Self {
        self.egress_policy = Some(text.into());
        self
    }

    /// Any other flag with its value.
    #[must_use]
    pub fn arg(mut self, flag: &str, value: &str) -> Self {
        self.flags.push((flag.to_owned(), value.to_owned()));
        self
    }

    /// `--dns-server`; the last word counts.
    #[must_use]
    pub fn dns_server(mut self, address: impl Into<String>) -> Self {
        self.dns_server = Some(address.into());
        self
    }

    /// Not a single flag: what they would say stands in the environment, the kubeconfig in `KUBECONFIG`.
    #[must_use]
    pub fn by_environment(mut self) -> Self {
        self.by_environment = true;
        self
    }

    /// A variable of its environment.
    #[must_use]
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Another binary than the one of `CERTMON_BIN`, or that cargo built beside this test.
    #[must_use]
    pub fn binary(mut self, path: &Path) -> Self {
        self.binary = Some(path.to_owned());
        self
    }

    /// Starts the process; wait for [`Operator::ready`] before relying on it.
    ///
    /// # Errors
    /// When there is no binary, or it can't be started.
    pub fn start(self) -> Result<Operator> {
        let binary = self.binary.clone().map_or_else(built_binary, Ok)?;
        let folder = lifeline::folder("certmon-operator-")?;
        if let Some(text) = &self.egress_policy {
            std::fs::write(folder.join(POLICY), text)?;
        }
        let listen = free_address()?;
        let process = self.spawn(&binary, &folder, listen)?;
        Ok(Operator {
            builder: self,
            binary,
            folder,
            listen,
            process: Arc::new(Mutex::new(process)),
        })
    }

    fn spawn(&self, binary: &Path, folder: &Path, listen: SocketAddr) -> Result<Process> {
        // Appended to: a story with restarts reads one log.
        let log = OpenOptions::new()
            .create(true)
            .append(true)
            .open(folder.join("log.jsonl"))?;
        let mut command = Command::new(binary);
        command
            .arg("run")
            .envs(self.environment.iter().map(|(name, value)| (name, value)))
            .stdout(log.try_clone()?)
            .stderr(log);
        let flags = self.all_flags(folder, listen);
        if self.by_environment {
            command.envs(as_environment(flags));
        } else {
            command.args(flags.into_iter().flat_map(|(flag, value)| [flag, value]));
        }
        Process::start(&mut command)
    }

    fn all_flags(&self, folder: &Path, listen: SocketAddr) -> Vec<(String, String)> {
        let flag = |flag: &str, value: String| (flag.to_owned(), value);
        let mut flags = vec![
            flag("--kubeconfig", self.kubeconfig.display().to_string()),
            flag("--listen", listen.to_string()),
            flag("--log-format", "json".to_owned()),
        ];
        flags.extend(self.flags.iter().cloned());
        flags.extend(
            self.dns_server
                .iter()
                .map(|server| flag("--dns-server", server.clone())),
        );
        if self.egress_policy.is_some() {
            flags.push(flag("--egress-policy", folder.join(POLICY).display().to_string()));
        }
        flags
    }
}

/// What the same flags are in the environment. One that is said several times becomes a list.
fn as_environment(flags: Vec<(String, String)>) -> BTreeMap<String, String> {
    let mut environment: BTreeMap<String, String> = BTreeMap::new();
    for (flag, value) in flags {
        let name = match flag.as_str() {
            "--kubeconfig" => "KUBECONFIG".to_owned(),
            flag => format!(
                "CERTMON_{}",
                flag.trim_start_matches('-').replace('-', "_").to_uppercase()
            ),
        };
        let entry = environment.entry(name).or_default();
        if !entry.is_empty() {
            entry.push(',');
        }
        entry.push_str(&value);
    }
    environment
}

/// A running operator; killed when dropped.
#[derive(Debug)]
pub struct Operator {
    builder: OperatorBuilder,
    binary: PathBuf,
    folder: PathBuf,
    listen: SocketAddr,
    process: Arc<Mutex<Process>>,
}

/// Kills an operator from wherever it is seen doing something.
#[derive(Debug, Clone)]
pub struct KillSwitch(Arc<Mutex<Process>>);

impl KillSwitch {
    /// `kill -9` of its present life, and waits for its end.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn kill(&self) -> Result<()> {
        lock(&self.0).kill().map(|_status| ())
    }
}

fn lock(process: &Mutex<Process>) -> MutexGuard<'_, Process> {
    process.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Operator {
    /// Waits for `/readyz`: its caches are synced.
    ///
    /// # Errors
    /// When it isn't ready in 30 s: with the end of its log.
    pub async fn ready(&self) -> Result<()> {
        let waited = wait_for("the operator to be ready", READY, async || {
            match get(self.listen, "/readyz").await? {
                (200, _) => Ok(()),
                (status, body) => Err(anyhow!("/readyz says {status} {body}")),
            }
        })
        .await;
        waited.with_context(|| format!("the end of its log:\n{}", self.log_end()))
    }

    /// `/metrics`.
    ///
    /// # Errors
    /// When it doesn't answer with 200.
    pub async fn metrics(&self) -> Result<String> {
        match get(self.listen, "/metrics").await? {
            (200, body) => Ok(body),
            (status, body) => Err(anyhow!("/metrics says {status} {body}")),
        }
    }

    /// Where metrics and health are served.
    pub fn address(&self) -> SocketAddr {
        self.listen
    }

    /// The process id, for measurements.
    pub fn id(&self) -> u32 {
        lock(&self.process).id()
    }

    /// All that it logged, of all its lives.
    pub fn log(&self) -> String {
        let bytes = std::fs::read(self.folder.join("log.jsonl")).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// The lines of the log that are JSON.
    pub fn log_lines(&self) -> Vec<Value> {
        self.log()
            .lines()
            .filter_map(|line| serde_json::from_str(line).ok())
            .collect()
    }

    fn log_end(&self) -> String {
        let log = self.log();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(15)..].join("\n")
    }

    /// Writes another text into its egress policy file, by renaming a new file into its place.
    ///
    /// # Errors
    /// When it was started without one.
    pub fn replace_egress_policy(&self, text: &str) -> Result<()> {
        if self.builder.egress_policy.is_none() {
            bail!("the operator was started without an egress policy");
        }
        let new = self.folder.join("egress-policy.new");
        std::fs::write(&new, text)?;
        Ok(std::fs::rename(new, self.folder.join(POLICY))?)
    }

    /// Takes its egress policy file away.
    ///
    /// # Errors
    /// When there is none.
    pub fn remove_egress_policy(&self) -> Result<()> {
        Ok(std::fs::remove_file(self.folder.join(POLICY))?)
    }

    /// Whether it has ended, and how.
    ///
    /// # Errors
    /// When the kernel refuses to tell.
    pub fn ended(&mut self) -> Result<Option<ExitStatus>> {
        lock(&self.process).ended()
    }

    /// SIGTERM, and waits for the end.
    ///
    /// # Errors
    /// When it hasn't ended after 25 s: with the end of its log.
    pub async fn terminate(&mut self) -> Result<ExitStatus> {
        lock(&self.process).terminate()?;
        self.exit().await
    }

    /// Waits until it ends by itself, as after a flag that it can't use.
    ///
    /// # Errors
    /// When it hasn't ended after 25 s: with the end of its log.
    pub async fn exit(&mut self) -> Result<ExitStatus> {
        let ended = wait_for("the operator to exit", EXIT, async || {
            lock(&self.process).ended()?.ok_or_else(|| anyhow!("still running"))
        })
        .await;
        ended.with_context(|| format!("the end of its log:\n{}", self.log_end()))
    }

    /// `kill -9`.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn kill(&mut self) -> Result<()> {
        lock(&self.process).kill().map(|_status| ())
    }

    /// Starts it again with the same arguments and address, and on the same log; kills it first if it runs.
    ///
    /// # Errors
    /// When it can't be started.
    pub fn restart(&mut self) -> Result<()> {
        let mut process = lock(&self.process);
        process.kill()?;
        *process = self.builder.spawn(&self.binary, &self.folder, self.listen)?;
        Ok(())
    }

    /// Kills it from elsewhere, this life or a later one.
    pub fn kill_switch(&self) -> KillSwitch {
        KillSwitch(Arc::clone(&self.process))
    }
}

/// `CERTMON_BIN`, else the binary that cargo built beside this test.
fn built_binary() -> Result<PathBuf> {
    if let Some(path) = std::env::var_os("CERTMON_BIN").filter(|path| !path.is_empty()) {
        return Ok(path.into());
    }
    let this = std::env::current_exe()?;
    // target/PROFILE/deps/TEST, or target/PROFILE/BINARY.
    let folders = this.ancestors().skip(1).take(2);
    let found = folders.map(|folder| folder.join("certmon")).find(|path| path.is_file());
    found.context("no certmon binary beside this test: `cargo build -p certmon` first, or name one in CERTMON_BIN")
}

fn free_address() -> Result<SocketAddr> {
    let (listener, _) = ports::free()?;
    Ok(listener.local_addr()?)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    /// Says what it was called with, and ends politely when asked to.
    const STAND_IN: &str = r#"#!/bin/sh
trap 'echo "{\"said\":\"bye\"}"; exit 0' TERM
echo "{\"args\":\"$*\",\"colour\":\"$COLOUR\"}"
while :; do sleep 0.01; done
"#;

    async fn lines(operator: &Operator, count: usize) -> Result<Vec<Value>> {
        wait_for(&format!("{count} log lines"), EXIT, async || {
            let lines = operator.log_lines();
            if lines.len() == count {
                Ok(lines)
            } else {
                Err(anyhow!("{lines:?}"))
            }
        })
        .await
    }

    #[tokio::test]
    async fn a_process_can_be_asked_to_end_killed_and_started_again() -> Result<()> {
        let folder = tempfile::tempdir()?;
        let binary = folder.path().join("stand-in");
        std::fs::write(&binary, STAND_IN)?;
        std::fs::set_permissions(&binary, std::fs::Permissions::from_mode(0o755))?;
        let builder = OperatorBuilder::new(Path::new("/some.kubeconfig"))
            .binary(&binary)
            .watch_namespace("a");
        let mut operator = builder
            .egress_policy(egress_policy([443]))
            .env("COLOUR", "green")
            .start()?;
        let first = lines(&operator, 1).await?.remove(0);
        let args = first["args"].as_str().context("args")?;
        let expected = format!(
            "run --kubeconfig /some.kubeconfig --listen {} --log-format json",
            operator.address()
        );
        assert!(args.starts_with(&expected), "{args}");
        assert!(args.contains("--watch-namespace a --egress-policy "), "{args}");
        assert_eq!(first["colour"], "green");
        operator.kill()?;
        operator.restart()?;
        assert_eq!(
            lines(&operator, 2).await?[1],
            first,
            "the same arguments, on the same log"
        );
        assert!(operator.terminate().await?.success());
        assert_eq!(lines(&operator, 3).await?[2]["said"], "bye");
        assert!(operator.terminate().await.is_err(), "it has ended");
        Ok(())
    }
}
