//! Where kube-apiserver, etcd, kubectl and Helm come from.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail};

use crate::repository;

/// A set of binaries that `e2e/tools/build.sh` can build.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Release {
    /// The default.
    Newest,
    /// The oldest supported.
    Oldest,
}

impl Release {
    /// What `CERTMON_E2E_K8S` asks for (`1.37` or `1.33`; `make test K8S=…` sets it), else [`Release::Newest`].
    ///
    /// # Errors
    /// When it asks for another.
    pub fn from_environment() -> Result<Self> {
        match std::env::var("CERTMON_E2E_K8S").as_deref() {
            Err(_) | Ok("" | "1.37") => Ok(Self::Newest),
            Ok("1.33") => Ok(Self::Oldest),
            Ok(other) => bail!("CERTMON_E2E_K8S={other}: there are 1.37 and 1.33"),
        }
    }

    /// `1.37` or `1.33`.
    pub fn minor(self) -> &'static str {
        match self {
            Self::Newest => "1.37",
            Self::Oldest => "1.33",
        }
    }

    fn go_mod(self) -> PathBuf {
        let tools = repository().join("e2e/tools");
        match self {
            Self::Newest => tools.join("go.mod"),
            Self::Oldest => tools.join("k8s-1.33/go.mod"),
        }
    }

    /// The version that its go.mod pins for `module`, as `v1.37.1`.
    ///
    /// # Errors
    /// When the module isn't there.
    pub fn pinned(self, module: &str) -> Result<String> {
        let text = std::fs::read_to_string(self.go_mod())?;
        text.lines()
            .filter_map(|line| line.trim().strip_prefix(module)?.strip_prefix(' '))
            .find_map(|rest| {
                rest.split_whitespace()
                    .next()
                    .filter(|version| version.starts_with('v'))
            })
            .map(str::to_owned)
            .with_context(|| format!("{module} is not in {}", self.go_mod().display()))
    }
}

/// The binaries of a control plane: those in `KUBEBUILDER_ASSETS` where that is set, else built.
#[derive(Debug, Clone)]
pub struct Binaries {
    release: Release,
    assets: Option<PathBuf>,
}

impl Binaries {
    /// Looks at the environment. What must be built is built when its path is asked for.
    pub fn new(release: Release) -> Self {
        let assets = std::env::var_os("KUBEBUILDER_ASSETS")
            .filter(|folder| !folder.is_empty())
            .map(PathBuf::from);
        Self { release, assets }
    }

    /// The release that is built, unless the binaries are [given](Self::given).
    pub fn release(&self) -> Release {
        self.release
    }

    /// Whether `KUBEBUILDER_ASSETS` names the binaries.
    pub fn given(&self) -> bool {
        self.assets.is_some()
    }

    /// The path of one binary. Blocks, for minutes when it has to be built; the build's progress goes to stderr.
    ///
    /// envtest's folders hold neither a controller manager nor Helm: those are built then.
    ///
    /// # Errors
    /// When it can't be built, or `KUBEBUILDER_ASSETS` is set and lacks it.
    pub fn path(&self, name: &str) -> Result<PathBuf> {
        let buildable = matches!(name, "kube-controller-manager" | "helm");
        if let Some(assets) = &self.assets {
            let path = assets.join(name);
            if path.is_file() {
                return Ok(path);
            }
            if !buildable {
                bail!("KUBEBUILDER_ASSETS={} has no {name}", assets.display());
            }
        }
        // Helm has no set of its own for old releases: one Helm serves them all.
        let release = if name == "helm" { Release::Newest } else { self.release };
        Ok(build(release, name)?.join(name))
    }
}

fn build(release: Release, name: &str) -> Result<PathBuf> {
    let script = repository().join("e2e/tools/build.sh");
    let output = Command::new("sh")
        .arg(&script)
        .args([release.minor(), name])
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()
        .with_context(|| format!("can't run {}", script.display()))?;
    if !output.status.success() {
        bail!("{} {} {name}: {}", script.display(), release.minor(), output.status);
    }
    let folder = String::from_utf8(output.stdout).context("the folder's name")?;
    Ok(Path::new(folder.trim_end()).to_owned())
}
