//! What people see: the operator as the chart's ServiceAccount, the real kubectl, the real API server.

mod secrets;

use anyhow::{Context as _, Result, bail};
use certmon_e2e::{Cluster, Helm, HelmRelease, Namespace, Operator, OperatorBuilder, wait_for};
use std::time::Duration;

/// A condition of the operator's own making comes within this, or not at all.
pub(crate) const SOON: Duration = Duration::from_secs(20);

/// A namespace with an operator that watches it alone, under the rights that the chart grants there.
pub(crate) struct Stage {
    pub(crate) namespace: Namespace,
    pub(crate) operator: Operator,
}

impl Stage {
    /// The operator with the flags that the chart gives it, and `with` more.
    pub(crate) async fn set(hint: &str, with: impl FnOnce(OperatorBuilder) -> OperatorBuilder) -> Result<Self> {
        let cluster = Cluster::shared().await?;
        cluster.crds().await?;
        let namespace = cluster.namespace(hint).await?;
        let own = namespace.name().to_owned();
        let watched = format!("namespaces={{{own}}}");
        let release = HelmRelease {
            name: &own,
            namespace: &own,
            values: &[
                "scope=Namespaces",
                &watched,
                "crds.enabled=false",
                "rbac.aggregate=false",
            ],
        };
        let rendered = cluster.helm()?.template(&Helm::chart(), &release).await?;
        // Nothing runs Pods here: what is needed of the chart are the account and its rights.
        let wanted = ["kind: ServiceAccount", "kind: Role\n", "kind: RoleBinding"];
        let documents: Vec<&str> = rendered
            .split("\n---")
            .filter(|document| wanted.iter().any(|kind| document.contains(kind)))
            .collect();
        namespace.kubectl().apply(&documents.join("\n---\n")).await?;
        let account = documents
            .iter()
            .find(|document| document.contains("kind: ServiceAccount"))
            .and_then(|document| document.lines().find_map(|line| line.strip_prefix("  name: ")))
            .context("the chart has no ServiceAccount")?;
        let kubeconfig = cluster.service_account(&own, account).await?;
        let builder = OperatorBuilder::new(&kubeconfig).watch_namespace(&own);
        let operator = with(builder).start()?;
        operator.ready().await?;
        Ok(Self { namespace, operator })
    }

    /// Waits until a command's output holds every one of `parts`, and returns it.
    pub(crate) async fn shows(&self, command: &[&str], parts: &[&str]) -> Result<String> {
        let what = format!("`kubectl {}` to show {parts:?}", command.join(" "));
        wait_for(&what, SOON, async || {
            let shown = self.namespace.kubectl().run(command).await?;
            match parts.iter().find(|part| !shown.contains(**part)) {
                None => Ok(shown),
                Some(part) => bail!(
                    "{part:?} is missing in:\n{shown}\nthe operator's log:\n{}",
                    self.operator.log()
                ),
            }
        })
        .await
    }
}
