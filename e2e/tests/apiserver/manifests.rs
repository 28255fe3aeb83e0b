//! `crd/tests/manifests`: what the API server must refuse, with which words, and what it must take.

use anyhow::{Context as _, Result};
use certmon_e2e::{Cluster, Namespace, repository};
use serde::Deserialize;
use serde_json::Value;

/// One case. `bad.yaml` and `good.yaml` are lists of these.
#[derive(Debug, Deserialize)]
struct Case {
    name: String,
    /// What the refusal says, without the API server's prefix (it differs between releases). Only in `bad.yaml`.
    #[serde(default)]
    expect: String,
    /// The object, as YAML text or as an object.
    manifest: Value,
}

impl Case {
    fn text(&self) -> Result<String> {
        match &self.manifest {
            Value::String(yaml) => Ok(yaml.clone()),
            object => Ok(serde_json::to_string(object)?),
        }
    }
}

fn cases(file: &str) -> Result<Vec<Case>> {
    let path = repository().join("crd/tests/manifests").join(file);
    let text = std::fs::read_to_string(&path).with_context(|| path.display().to_string())?;
    serde_saphyr::from_str(&text).with_context(|| path.display().to_string())
}

/// kubectl's own check of the schema off: what is tested is the API server's word.
async fn apply(ns: &Namespace, case: &Case) -> Result<certmon_e2e::Output> {
    ns.kubectl()
        .output(["apply", "--validate=false", "-f", "-"], &case.text()?)
        .await
}

#[tokio::test]
async fn wrong_manifests_are_refused_with_their_message() -> Result<()> {
    let cluster = Cluster::shared().await?;
    cluster.crds().await?;
    let ns = cluster.namespace("bad").await?;
    let cases = cases("bad.yaml")?;
    let mut faults = Vec::new();
    for case in &cases {
        let answer = apply(&ns, case).await?;
        if answer.success {
            faults.push(format!("{}: accepted", case.name));
        } else if !answer.stderr.contains(&case.expect) {
            faults.push(format!(
                "{}: expected {:?}, the API server said {:?}",
                case.name, case.expect, answer.stderr
            ));
        }
    }
    assert!(
        faults.is_empty(),
        "{} of {}:\n{}",
        faults.len(),
        cases.len(),
        faults.join("\n")
    );
    assert!(cases.len() >= 25, "only {} wrong manifests", cases.len());
    Ok(())
}

#[tokio::test]
async fn right_manifests_are_taken_without_a_warning() -> Result<()> {
    let cluster = Cluster::shared().await?;
    cluster.crds().await?;
    let ns = cluster.namespace("good").await?;
    let cases = cases("good.yaml")?;
    assert!(!cases.is_empty());
    let mut faults = Vec::new();
    for case in &cases {
        let answer = apply(&ns, case).await?;
        if !answer.success || !answer.stderr.is_empty() {
            faults.push(format!("{}: {}{}", case.name, answer.stdout, answer.stderr));
        }
    }
    assert!(
        faults.is_empty(),
        "{} of {}:\n{}",
        faults.len(),
        cases.len(),
        faults.join("\n")
    );
    Ok(())
}
