//! The real Helm.

use std::path::{Path, PathBuf};

use anyhow::{Result, bail};
use tokio::process::Command;

use crate::kubectl::{Output, run};
use crate::repository;

/// Helm with one kubeconfig and folders of its own.
#[derive(Debug, Clone)]
pub struct Helm {
    program: PathBuf,
    kubeconfig: PathBuf,
    folder: PathBuf,
}

/// A chart's release: its name, its namespace and its values (`--set KEY=VALUE`).
#[derive(Debug, Clone)]
pub struct HelmRelease<'a> {
    /// The release's name.
    pub name: &'a str,
    /// The namespace it goes to; made if it is missing.
    pub namespace: &'a str,
    /// Each as `--set` takes it: `scope=Namespaces`.
    pub values: &'a [&'a str],
}

impl Helm {
    pub(crate) fn new(program: PathBuf, kubeconfig: PathBuf, folder: PathBuf) -> Self {
        Self {
            program,
            kubeconfig,
            folder,
        }
    }

    /// The chart `charts/certmon` of this clone.
    pub fn chart() -> PathBuf {
        repository().join("charts/certmon")
    }

    /// Runs Helm and returns what it said, whether it succeeded or not.
    ///
    /// # Errors
    /// When it can't be started or doesn't end.
    pub async fn output(&self, args: &[&str]) -> Result<Output> {
        let mut command = Command::new(&self.program);
        command
            .env("KUBECONFIG", &self.kubeconfig)
            .env("HELM_CACHE_HOME", self.folder.join("cache"))
            .env("HELM_CONFIG_HOME", self.folder.join("config"))
            .env("HELM_DATA_HOME", self.folder.join("data"))
            .args(args);
        run(&mut command, "").await
    }

    /// Runs Helm and returns its standard output.
    ///
    /// # Errors
    /// When it fails: with what it said.
    pub async fn run(&self, args: &[&str]) -> Result<String> {
        let output = self.output(args).await?;
        if !output.success {
            bail!("helm {}: {}{}", args.join(" "), output.stderr, output.stdout);
        }
        Ok(output.stdout)
    }

    /// The manifests that a chart renders to, CRDs included.
    ///
    /// # Errors
    /// When the values don't fit the chart's schema.
    pub async fn template(&self, chart: &Path, release: &HelmRelease<'_>) -> Result<String> {
        self.chart_command(&["template", "--include-crds"], chart, release)
            .await
    }

    /// Installs a chart, or upgrades it.
    ///
    /// # Errors
    /// When the values don't fit, or the API server refuses something.
    pub async fn install(&self, chart: &Path, release: &HelmRelease<'_>) -> Result<String> {
        self.chart_command(&["upgrade", "--install", "--create-namespace"], chart, release)
            .await
    }

    /// Uninstalls a release.
    ///
    /// # Errors
    /// When there is none.
    pub async fn uninstall(&self, release: &HelmRelease<'_>) -> Result<String> {
        self.run(&["uninstall", release.name, "--namespace", release.namespace])
            .await
    }

    async fn chart_command(&self, verb: &[&str], chart: &Path, release: &HelmRelease<'_>) -> Result<String> {
        let chart = chart.display().to_string();
        let mut args = verb.to_vec();
        args.extend([release.name, chart.as_str(), "--namespace", release.namespace]);
        args.extend(release.values.iter().flat_map(|value| ["--set", value]));
        self.run(&args).await
    }
}
