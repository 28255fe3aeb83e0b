//! The chart by Helm, and the operator as the chart would run it.
//!
//! There is no kubelet: the Deployment is made, no Pod runs. The demo plays the kubelet. It takes the arguments from the
//! Deployment, the egress policy from the ConfigMap and the token of the ServiceAccount, and starts the process.

use std::path::Path;
use std::time::Instant;

use anyhow::{Context as _, Result};
use certmon_e2e::{Cluster, Helm, HelmRelease, Kubectl, Operator, OperatorBuilder};
use serde_json::Value;

use crate::screen::Screen;

const NAMESPACE: &str = "certmon-system";

/// What the harness gives the process in the place of the Pod's own: no port is known before, and no folder mounted.
const OF_THE_POD: [&str; 2] = ["--listen=", "--egress-policy="];

/// Installs the chart; what it allows tenants to dial are these ports of loopback.
pub(crate) async fn install(screen: &mut Screen, cluster: &Cluster, ports: &[u16]) -> Result<Operator> {
    screen.step("Install the chart and run the operator");
    let begun = Instant::now();
    let allowed: Vec<String> = ports.iter().map(u16::to_string).collect();
    let values = [
        r"egressPolicy.allow[0].namespaces={*}".to_owned(),
        "egressPolicy.allow[0].cidrs={127.0.0.0/8}".to_owned(),
        format!("egressPolicy.allow[0].ports={{{}}}", allowed.join(",")),
        "clusterName=demo".to_owned(),
    ];
    let values: Vec<&str> = values.iter().map(String::as_str).collect();
    let release = HelmRelease {
        name: "certmon",
        namespace: NAMESPACE,
        values: &values,
    };
    screen.command("helm install certmon charts/certmon -n certmon-system --create-namespace --set …");
    cluster.helm()?.install(&Helm::chart(), &release).await?;
    let kubectl = cluster.kubectl()?.in_namespace(NAMESPACE);
    kubectl
        .run(["wait", "--for=condition=Established", "--timeout=30s", "crd", "--all"])
        .await?;
    screen.done(
        "installed; the egress policy allows loopback, on the demo's ports alone",
        begun.elapsed(),
    );

    let begun = Instant::now();
    let deployment = object(&kubectl, "deployment/certmon").await?;
    let pod = &deployment["spec"]["template"]["spec"];
    let account = pod["serviceAccountName"]
        .as_str()
        .context("the Deployment has no ServiceAccount")?;
    let args: Vec<&str> = pod["containers"][0]["args"]
        .as_array()
        .context("the Deployment has no arguments")?
        .iter()
        .filter_map(Value::as_str)
        .collect();
    let kubeconfig = cluster.service_account(NAMESPACE, account).await?;
    let operator = operator(&kubectl, &kubeconfig, &args).await?;
    operator.ready().await?;
    screen.command(&format!("certmon {}", args.join(" ")));
    screen.done(
        &format!("the operator is ready, as system:serviceaccount:{NAMESPACE}:{account}"),
        begun.elapsed(),
    );
    Ok(operator)
}

async fn operator(kubectl: &Kubectl, kubeconfig: &Path, args: &[&str]) -> Result<Operator> {
    let policy = object(kubectl, "configmap/certmon-egress").await?;
    let policy = policy["data"]["egress.yaml"]
        .as_str()
        .context("the ConfigMap holds no egress policy")?;
    let mut builder = OperatorBuilder::new(kubeconfig).egress_policy(policy);
    for arg in args.iter().skip(1) {
        if OF_THE_POD.iter().any(|own| arg.starts_with(own)) || *arg == "--log-format=json" {
            // The harness says these itself: `--log-format=json` too.
            continue;
        }
        let (flag, value) = arg.split_once('=').with_context(|| format!("{arg} has no value"))?;
        builder = builder.arg(flag, value);
    }
    builder.start()
}

async fn object(kubectl: &Kubectl, name: &str) -> Result<Value> {
    Ok(serde_json::from_str(&kubectl.run(["get", name, "-o", "json"]).await?)?)
}
