//! certmon against a real API server: the harness of the tests and of the demo.
//!
//! A test gets the control plane of its run from [`Cluster::shared`], a namespace of its own from
//! [`Cluster::namespace`], and the operator as a process from [`OperatorBuilder`]. It acts through the real kubectl
//! ([`Kubectl`]), Helm ([`Helm`]) or a client ([`Cluster::client`]), plays the world with [`tls`] servers and
//! [`sinks`], bad days with a [`proxy`], and waits for conditions with [`wait_for`]. Nothing here sleeps for a fixed time, and whatever was
//! started dies with the run, however the run ends ([`lifeline`]).
//!
//! ```no_run
//! # async fn story() -> anyhow::Result<()> {
//! use std::time::Duration;
//! use certmon_e2e::{Authority, Cluster, Leaf, OperatorBuilder, wait_for};
//!
//! let cluster = Cluster::shared().await?;
//! let ns = cluster.namespace("expiry").await?;
//! let leaf = Authority::new("Story CA")?.issue(&Leaf::for_names(["shop.test"]).expires_in(Duration::from_secs(3 * 86_400)))?;
//! ns.kubectl().apply_object(&leaf.secret("shop-tls")).await?;
//! let operator = OperatorBuilder::new(cluster.kubeconfig()).watch_namespace(ns.name()).start()?;
//! operator.ready().await?;
//! wait_for("the monitor to say ExpiringSoon", Duration::from_secs(10), async || {
//!     let seen = ns.kubectl().run(["get", "certmon"]).await?;
//!     if seen.contains("ExpiringSoon") { Ok(()) } else { Err(anyhow::anyhow!(seen)) }
//! })
//! .await
//! # }
//! ```
//!
//! | variable | what it does |
//! |---|---|
//! | `CERTMON_E2E_KUBECONFIG` | the tests use this cluster, as its admin, instead of starting one |
//! | `KUBEBUILDER_ASSETS` | the folder of kube-apiserver, etcd and kubectl (what is missing of the rest is built) |
//! | `CERTMON_E2E_K8S` | which set is built otherwise: `1.37` (default) or `1.33` |
//! | `CERTMON_CACHE` | where it lies; default `${XDG_CACHE_HOME:-$HOME/.cache}/certmon` |
//! | `CERTMON_BIN` | the operator; default: what cargo built beside the test |
//! | `CERTMON_E2E_KEEP` | the run's folders stay: logs, audit log, kubeconfigs |

mod audit;
mod binaries;
mod certs;
mod cluster;
mod controlplane;
mod dns;
mod helm;
mod http;
mod kubeconfig;
mod kubectl;
pub mod lifeline;
mod operator;
mod ports;
pub mod proxy;
pub mod sinks;
pub mod tls;
mod wait;

pub use audit::{AuditEvent, AuditLevel, AuditLog};
pub use binaries::{Binaries, Release};
pub use certs::{Authority, Identity, Leaf, Validity};
pub use cluster::{Cluster, Namespace};
pub use controlplane::{ControlPlane, Options};
pub use dns::DnsServer;
pub use helm::{Helm, HelmRelease};
pub use http::get;
pub use kubeconfig::{Access, write_kubeconfig};
pub use kubectl::{Kubectl, Output};
pub use operator::{KillSwitch, Operator, OperatorBuilder, egress_policy};
pub use wait::wait_for;

use std::path::{Path, PathBuf};

/// The root of the clone.
pub fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("e2e lies in the repository")
        .to_owned()
}

/// Makes aws-lc-rs the process's crypto provider; harmless when it is already.
pub(crate) fn install_crypto() {
    let _already = rustls::crypto::aws_lc_rs::default_provider().install_default();
}
