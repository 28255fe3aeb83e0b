//! What the documentation tells people to apply is what the API server takes.

use anyhow::{Context as _, Result};
use certmon_e2e::{Cluster, repository};

#[tokio::test]
async fn the_first_monitor_of_the_readme_is_taken_without_a_warning() -> Result<()> {
    let text = std::fs::read_to_string(repository().join("README.md"))?;
    let manifest = text
        .split_once("```yaml\n")
        .and_then(|(_, rest)| rest.split_once("```"))
        .context("the README shows no manifest")?
        .0;
    let cluster = Cluster::shared().await?;
    cluster.crds().await?;
    let ns = cluster.namespace("readme").await?;
    let manifest = manifest.replace("namespace: shop", &format!("namespace: {}", ns.name()));
    let answer = ns.kubectl().output(["apply", "-f", "-"], &manifest).await?;
    assert!(answer.success && answer.stderr.is_empty(), "{answer:?}");
    assert_eq!(answer.stdout.lines().count(), 2, "{answer:?}");
    Ok(())
}
