//! A control plane to play with: starts one as the tests do, says how to reach it, and ends with Ctrl-C.
//!
//! `cargo run -p certmon-e2e --example control-plane -- [FLAG OF kube-apiserver]…`

use anyhow::Result;
use certmon_e2e::{Cluster, Options};

#[tokio::main]
#[expect(clippy::print_stdout, reason = "a command that people start")]
async fn main() -> Result<()> {
    let mut options = Options::from_environment()?;
    options.api_server_flags.extend(std::env::args().skip(1));
    let cluster = Cluster::start(&options).await?;
    let binaries = cluster.binaries().path("kubectl")?;
    println!("export KUBECONFIG={}", cluster.kubeconfig().display());
    println!("export PATH={}:$PATH", binaries.parent().unwrap_or(&binaries).display());
    println!(
        "Logs and the audit log lie in {}; Ctrl-C ends it.",
        cluster.folder().display()
    );
    tokio::signal::ctrl_c().await?;
    Ok(())
}
