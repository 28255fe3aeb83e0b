//! `crd/tests/manifests`: what the API server must refuse, with which words, and what it must take.

use anyhow::{Context as _, Result, bail};
use certmon_e2e::{Cluster, Namespace, repository};
use hyper::Request;
use serde::Deserialize;
use serde_json::Value;

/// One case. `bad.yaml` and `good.yaml` are lists of these.
#[derive(Debug, Deserialize)]
struct Case {
    name: String,
    /// What the refusal says, without the API server's prefix (it differs between releases). Only in `bad.yaml`.
    #[serde(default)]
    expect: String,
    /// What the refusal must not say.
    #[serde(default)]
    never: Vec<String>,
    manifest: Value,
}

fn cases(file: &str) -> Result<Vec<Case>> {
    let path = repository().join("crd/tests/manifests").join(file);
    let text = std::fs::read_to_string(&path).with_context(|| path.display().to_string())?;
    serde_saphyr::from_str(&text).with_context(|| path.display().to_string())
}

/// Asks the API server to create the object, strictly as kubectl does (an unknown field is a fault), but to keep
/// nothing. Its refusal, if it does.
async fn refusal(ns: &Namespace, case: &Case) -> Result<Option<String>> {
    let plural = match case.manifest["kind"].as_str() {
        Some("CertificateMonitor") => "certificatemonitors",
        Some("AlertLedger") => "alertledgers",
        other => bail!("{}: no kind of ours: {other:?}", case.name),
    };
    let path = format!("/apis/certmon.dev/v1alpha1/namespaces/{}/{plural}", ns.name());
    let request = Request::post(format!("{path}?fieldValidation=Strict&dryRun=All"))
        .header("content-type", "application/json")
        .body(serde_json::to_vec(&case.manifest)?)?;
    match ns.client().request::<Value>(request).await {
        Ok(_created) => Ok(None),
        Err(kube::Error::Api(status)) => Ok(Some(status.message)),
        Err(error) => Err(error.into()),
    }
}

#[tokio::test]
async fn wrong_manifests_are_refused_with_their_message() -> Result<()> {
    let cluster = Cluster::shared().await?;
    cluster.crds().await?;
    let ns = cluster.namespace("bad").await?;
    let cases = cases("bad.yaml")?;
    let mut faults = Vec::new();
    for case in &cases {
        match refusal(&ns, case).await? {
            None => faults.push(format!("{}: accepted", case.name)),
            Some(said) if said.contains(&case.expect) && !case.never.iter().any(|never| said.contains(never)) => {}
            Some(said) => {
                faults.push(format!(
                    "{}: expected {:?} and none of {:?}, the API server said {said:?}",
                    case.name, case.expect, case.never
                ));
            }
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

/// With the real kubectl, which shows warnings.
#[tokio::test]
async fn right_manifests_are_taken_without_a_warning() -> Result<()> {
    let cluster = Cluster::shared().await?;
    cluster.crds().await?;
    let ns = cluster.namespace("good").await?;
    let cases = cases("good.yaml")?;
    assert!(!cases.is_empty());
    let mut faults = Vec::new();
    for case in &cases {
        let manifest = serde_json::to_string(&case.manifest)?;
        let answer = ns.kubectl().output(["apply", "-f", "-"], &manifest).await?;
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
