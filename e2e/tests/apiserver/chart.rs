//! The chart, installed by Helm on a real API server.

use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, ensure};
use certmon_e2e::{Cluster, Helm, HelmRelease, Kubectl, Options, wait_for};

const SOON: Duration = Duration::from_secs(30);

/// Smallest that the CRD takes.
const MONITOR: &str = "\
apiVersion: certmon.dev/v1alpha1
kind: CertificateMonitor
metadata: {name: tls}
spec: {sources: [{name: tls, secrets: {}}]}
";

const LEDGER: &str = "\
apiVersion: certmon.dev/v1alpha1
kind: AlertLedger
metadata: {name: forged}
";

/// A change of status that the schema takes.
const STATUS: &str = r#"{"status": {"observedGeneration": 1}}"#;

/// What `kubectl auth can-i` answers for a ServiceAccount.
async fn may(kubectl: &Kubectl, account: &str, question: &[&str]) -> Result<bool> {
    let output = kubectl
        .output([&["auth", "can-i", "--as", account], question].concat(), "")
        .await?;
    match output.stdout.trim() {
        "yes" => Ok(true),
        "no" => Ok(false),
        _ => Err(anyhow!("{question:?}: {}{}", output.stdout, output.stderr)),
    }
}

fn account(namespace: &str, name: &str) -> String {
    format!("system:serviceaccount:{namespace}:{name}")
}

#[tokio::test]
async fn it_installs_under_restricted_pod_security_and_leaves_monitors_behind() -> Result<()> {
    let mut options = Options::from_environment()?;
    options.controllers = ["deployment-controller", "replicaset-controller"]
        .map(str::to_owned)
        .into();
    let cluster = Cluster::start(&options).await?;
    let (helm, chart) = (cluster.helm()?, Helm::chart());
    let kubectl = cluster.kubectl()?.in_namespace("certmon");
    kubectl
        .apply(
            "{apiVersion: v1, kind: Namespace, metadata: {name: certmon, labels: \
             {pod-security.kubernetes.io/enforce: restricted}}}",
        )
        .await?;
    let everywhere = HelmRelease {
        name: "certmon",
        namespace: "certmon",
        values: &[],
    };
    helm.install(&chart, &everywhere).await?;

    wait_for("the Pod to be admitted", SOON, async || {
        let pods = kubectl.run(["get", "pods", "-o", "name"]).await?;
        let events = kubectl.run(["get", "events"]).await?;
        ensure!(pods.contains("pod/certmon-"), "Pods: {pods:?}\n{events}");
        Ok(())
    })
    .await?;
    let careless = "{apiVersion: v1, kind: Pod, metadata: {name: careless}, spec: {containers: [{name: a, image: a}]}}";
    let refusal = kubectl.refusal(careless).await?;
    assert!(refusal.contains("violates PodSecurity"), "{refusal}");

    // What the notes say to apply is what the CRD takes.
    let notes = helm.run(&["get", "notes", "certmon", "--namespace", "certmon"]).await?;
    let manifest = notes
        .split_once("<<'EOF'\n")
        .and_then(|(_, rest)| rest.split_once("\nEOF\n"))
        .with_context(|| format!("no manifest in {notes}"))?
        .0;
    cluster.kubectl()?.apply(manifest).await?;

    let chosen = HelmRelease {
        values: &["scope=Namespaces", "namespaces={default}"],
        ..everywhere.clone()
    };
    helm.install(&chart, &chosen).await?;
    let cluster_wide = ["get", "clusterroles,clusterrolebindings", "-o", "name"];
    let left = kubectl.run(cluster_wide).await?;
    let ours: Vec<&str> = left.lines().filter(|line| line.contains("certmon")).collect();
    assert_eq!(
        ours,
        [
            "clusterrole.rbac.authorization.k8s.io/certmon-edit",
            "clusterrole.rbac.authorization.k8s.io/certmon-view"
        ]
    );

    helm.uninstall(&chosen).await?;
    let left = kubectl.run(cluster_wide).await?;
    assert!(!left.contains("certmon"), "{left}");
    cluster.kubectl()?.run(["get", "certmon", "certificates"]).await?;
    // The CRDs that were kept are taken up again, not fought over.
    helm.install(&chart, &everywhere).await?;
    cluster.kubectl()?.run(["get", "certmon", "certificates"]).await?;
    Ok(())
}

#[tokio::test]
async fn with_chosen_namespaces_the_operator_may_do_nothing_elsewhere() -> Result<()> {
    let cluster = Cluster::shared().await?;
    cluster.crds().await?;
    let (inside, outside) = (cluster.namespace("inside").await?, cluster.namespace("outside").await?);
    let release = HelmRelease {
        name: inside.name(),
        namespace: inside.name(),
        values: &[
            "crds.enabled=false",
            "rbac.aggregate=false",
            "serviceAccount.name=certmon",
            "scope=Namespaces",
            &format!("namespaces={{{}}}", inside.name()),
        ],
    };
    cluster.helm()?.install(&Helm::chart(), &release).await?;
    let operator = account(inside.name(), "certmon");

    for right in [
        &["list", "certificatemonitors.certmon.dev"][..],
        &["patch", "certificatemonitors.certmon.dev", "--subresource=status"],
        &["update", "alertledgers.certmon.dev"],
        &["get", "secrets"],
        &["watch", "configmaps"],
        &["create", "events.events.k8s.io"],
    ] {
        wait_for("the Role to come into force", SOON, async || {
            ensure!(may(inside.kubectl(), &operator, right).await?, "{right:?} is refused");
            Ok(())
        })
        .await?;
        assert!(
            !may(outside.kubectl(), &operator, right).await?,
            "{right:?} in another namespace"
        );
        let everywhere = [right, &["--all-namespaces"]].concat();
        assert!(
            !may(inside.kubectl(), &operator, &everywhere).await?,
            "{right:?} everywhere"
        );
    }
    for wrong in [
        &["get", "certificatemonitors.certmon.dev"][..],
        &["patch", "certificatemonitors.certmon.dev"],
        &["delete", "alertledgers.certmon.dev"],
        &["create", "secrets"],
        &["update", "secrets"],
        &["get", "pods"],
        &["create", "serviceaccounts", "--subresource=token"],
    ] {
        assert!(!may(inside.kubectl(), &operator, wrong).await?, "{wrong:?}");
    }
    cluster.helm()?.uninstall(&release).await?;
    Ok(())
}

#[tokio::test]
async fn viewers_read_and_editors_write_monitors_and_neither_writes_what_the_operator_says() -> Result<()> {
    let cluster = Cluster::shared().await?;
    cluster.crds().await?;
    let ns = cluster.namespace("roles").await?;
    let release = HelmRelease {
        name: ns.name(),
        namespace: ns.name(),
        values: &["crds.enabled=false", "rbac.create=false"],
    };
    cluster.helm()?.install(&Helm::chart(), &release).await?;
    for role in ["view", "edit"] {
        ns.kubectl().run(["create", "serviceaccount", role]).await?;
        let binding = [
            "create",
            "rolebinding",
            role,
            "--clusterrole",
            role,
            "--serviceaccount",
            &format!("{}:{role}", ns.name()),
        ];
        ns.kubectl().run(binding).await?;
    }
    let viewer = ns
        .kubectl()
        .with_kubeconfig(&cluster.service_account(ns.name(), "view").await?);
    let editor = ns
        .kubectl()
        .with_kubeconfig(&cluster.service_account(ns.name(), "edit").await?);

    // Positive controls: what each may do, after aggregation.
    wait_for("an editor's right to write monitors", SOON, async || {
        editor.apply(MONITOR).await
    })
    .await?;
    for kubectl in [&viewer, &editor] {
        wait_for("the right to read monitors and ledgers", SOON, async || {
            kubectl.run(["get", "certmon,alertledgers"]).await
        })
        .await?;
    }
    let status = [
        "patch",
        "certmon",
        "tls",
        "--subresource=status",
        "--type=merge",
        "-p",
        STATUS,
    ];
    let admin = ns.kubectl().output(status, "").await?;
    assert!(admin.success, "{}", admin.stderr);
    ns.kubectl()
        .run(["create", "secret", "generic", "credential", "--from-literal=token=x"])
        .await?;

    let forbidden = |output: certmon_e2e::Output, what: &str| {
        assert!(
            !output.success && output.stderr.contains("forbidden"),
            "{what}: {}{}",
            output.stdout,
            output.stderr
        );
    };
    for (kubectl, who) in [(&viewer, "a viewer"), (&editor, "an editor")] {
        forbidden(kubectl.output(status, "").await?, &format!("{who} writes status"));
        forbidden(
            kubectl.output(["create", "-f", "-"], LEDGER).await?,
            &format!("{who} writes a ledger"),
        );
    }
    forbidden(
        viewer
            .output(["create", "-f", "-"], &MONITOR.replace("name: tls}", "name: other}"))
            .await?,
        "a viewer writes a monitor",
    );
    forbidden(
        viewer.output(["delete", "certmon", "tls"], "").await?,
        "a viewer deletes a monitor",
    );
    forbidden(
        viewer.output(["get", "secret", "credential"], "").await?,
        "a viewer reads a Secret",
    );

    cluster.helm()?.uninstall(&release).await?;
    Ok(())
}
