//! The command line, and the only reader of the environment.

use clap::{Args, Parser, Subcommand, ValueEnum};
use std::{net::SocketAddr, path::PathBuf};

/// Watches certificates in Kubernetes and tells people once, on time.
#[derive(Debug, Parser)]
#[command(name = "certmon", version, arg_required_else_help = true, max_term_width = 100)]
pub struct Cli {
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Runs the operator, in a cluster or from a laptop.
    #[command(
        after_help = "The egress policy's format, default ports and limits: docs/egress-policy.md in the repository."
    )]
    Run(Box<Run>),
    /// Prints the CustomResourceDefinitions as YAML: `certmon crds | kubectl apply --server-side -f -`.
    Crds,
    /// Says what a reason means, what leads to it, and what to do. Without one, lists all reasons.
    Explain {
        /// A reason as it stands in a condition, an Event or a message, such as ExpiringSoon.
        reason: Option<String>,
    },
    /// Prints the version.
    Version,
}

/// Everything that `certmon run` takes. Each flag may be given as an environment variable instead.
#[derive(Debug, Args)]
pub struct Run {
    /// The kubeconfig file. Default: the files that KUBECONFIG names, else ~/.kube/config, else the Pod's ServiceAccount.
    #[arg(long, value_name = "FILE", env = "CERTMON_KUBECONFIG")]
    pub kubeconfig: Option<PathBuf>,

    /// Watches this namespace only; may be given several times. Without it, all namespaces.
    #[arg(
        long = "watch-namespace",
        value_name = "NS",
        env = "CERTMON_WATCH_NAMESPACE",
        value_delimiter = ',',
        value_parser = namespace
    )]
    pub watch_namespaces: Vec<String>,

    /// The admin's egress policy (YAML): which private addresses and ports may be dialled, and for whom. Read again when it
    /// changes; while it is broken, empty or gone, the last good one holds. At the start it must be good: an empty file is
    /// refused, `{}` is the built-in rules alone, as without this flag.
    #[arg(long, value_name = "FILE", env = "CERTMON_EGRESS_POLICY")]
    pub egress_policy: Option<PathBuf>,

    /// The DNS server that names of endpoints and sinks are resolved with. Default: the system's.
    #[arg(long, value_name = "IP:PORT", env = "CERTMON_DNS_SERVER")]
    pub dns_server: Option<SocketAddr>,

    /// Where /metrics, /healthz and /readyz are served. `:8080` is port 8080 of every address; port 0 is a free one.
    #[arg(long, value_name = "ADDR", env = "CERTMON_LISTEN", default_value = "127.0.0.1:8080", value_parser = listen)]
    pub listen: SocketAddr,

    /// How log lines are written.
    #[arg(long, value_name = "FORMAT", env = "CERTMON_LOG_FORMAT", default_value = "text")]
    pub log_format: LogFormat,

    /// The least level that is logged: error, warn, info, debug or trace.
    #[arg(long, value_name = "LEVEL", env = "CERTMON_LOG_LEVEL", default_value = "info")]
    pub log_level: LogLevel,

    /// The cluster's name in messages.
    #[arg(long, value_name = "NAME", env = "CERTMON_CLUSTER_NAME")]
    pub cluster_name: Option<String>,

    /// Who holds the claims on messages that are being sent: the Pod's uid. Default: random.
    #[arg(long, value_name = "ID", env = "CERTMON_IDENTITY")]
    pub identity: Option<String>,

    /// The name that is given to mail servers in EHLO. Default: the socket's address literal.
    #[arg(long, value_name = "NAME", env = "CERTMON_SMTP_HELO")]
    pub smtp_helo: Option<String>,
}

impl Run {
    /// The kubeconfig files: `--kubeconfig`, else those that KUBECONFIG names, else the one in the home folder if it is
    /// there. None: as a Pod.
    #[expect(clippy::disallowed_methods, reason = "the one place that may")]
    pub fn kubeconfigs(&self) -> Vec<PathBuf> {
        if let Some(file) = &self.kubeconfig {
            return vec![file.clone()];
        }
        let variable = std::env::var_os("KUBECONFIG").unwrap_or_default();
        let named: Vec<_> = std::env::split_paths(&variable)
            .filter(|path| !path.as_os_str().is_empty())
            .collect();
        if !named.is_empty() {
            return named;
        }
        let home = std::env::home_dir().map(|home| home.join(".kube/config"));
        home.filter(|file| file.exists()).into_iter().collect()
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LogLevel {
    Error,
    Warn,
    Info,
    Debug,
    Trace,
}

/// A namespace's name is a DNS label (RFC 1123); nothing else may come into a request's path.
fn namespace(text: &str) -> Result<String, String> {
    let is_end = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_alphanumeric);
    let bytes = text.as_bytes();
    let plain = |byte: &u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || *byte == b'-';
    let is_label = bytes.len() <= 63 && bytes.iter().all(plain) && is_end(bytes.first()) && is_end(bytes.last());
    is_label.then(|| text.to_owned()).ok_or_else(|| {
        "must be the name of a namespace: a-z, 0-9 and -, such as shop; without the flag, all are watched".to_owned()
    })
}

/// `:8080` listens on every address, IPv6 and IPv4.
fn listen(text: &str) -> Result<SocketAddr, String> {
    let full = text
        .strip_prefix(':')
        .map_or_else(|| text.to_owned(), |port| format!("[::]:{port}"));
    full.parse()
        .map_err(|_| "must be ADDRESS:PORT or :PORT, such as 127.0.0.1:8080".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_alone_is_every_address() {
        assert_eq!(listen(":8080").map(|addr| addr.to_string()), Ok("[::]:8080".to_owned()));
        assert!(listen("8080").is_err());
    }
}
