//! The committed CRDs on a real API server.

use anyhow::Result;
use certmon_e2e::{Cluster, repository};

#[tokio::test]
async fn the_committed_crds_are_established_and_served() -> Result<()> {
    let cluster = Cluster::shared().await?;
    cluster.crds().await?;
    let kubectl = cluster.kubectl()?;
    let kinds = kubectl
        .run(["api-resources", "--api-group=certmon.dev", "--no-headers"])
        .await?;
    assert!(
        kinds
            .lines()
            .any(|line| line.starts_with("certificatemonitors ") && line.contains(" certmon ")),
        "{kinds}"
    );
    assert!(kinds.lines().any(|line| line.starts_with("alertledgers ")), "{kinds}");
    Ok(())
}

/// A second apply changes nothing: the API server has no other idea of what was meant. A warning would stand in the
/// output too, as of an unknown format.
#[tokio::test]
async fn applying_the_crds_again_changes_and_warns_of_nothing() -> Result<()> {
    let cluster = Cluster::shared().await?;
    cluster.crds().await?;
    let folder = repository().join("crd/generated").display().to_string();
    let kubectl = cluster.kubectl()?;
    let versions = ["get", "crds", "-o", "jsonpath={.items[*].metadata.resourceVersion}"];
    let before = kubectl.run(versions).await?;
    let again = kubectl.output(["apply", "--server-side", "-f", &folder], "").await?;
    assert!(again.success, "{}", again.stderr);
    assert_eq!(again.stderr, "");
    assert_eq!(kubectl.run(versions).await?, before);
    Ok(())
}
