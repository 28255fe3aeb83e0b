//! The chart as Helm renders it: values, rights, the Pod, the CRDs. No API server: what it makes of them is tested in
//! `apiserver/chart.rs`.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::LazyLock;

use certmon_e2e::{Binaries, Helm, OperatorBuilder, Release, repository};
use serde_json::{Value, json};

static CHART: LazyLock<PathBuf> = LazyLock::new(Helm::chart);

static HELM: LazyLock<PathBuf> = LazyLock::new(|| {
    Binaries::new(Release::Newest)
        .path("helm")
        .expect("Helm is there or can be built")
});

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn read(path: impl AsRef<Path>) -> String {
    let path = path.as_ref();
    std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn yaml(text: &str) -> Value {
    serde_saphyr::from_str(text).unwrap_or_else(|error| panic!("{error}\n{text}"))
}

/// The YAML files of a folder, by name.
fn files(folder: impl AsRef<Path>) -> Vec<PathBuf> {
    let folder = folder.as_ref();
    let mut paths: Vec<PathBuf> = std::fs::read_dir(folder)
        .unwrap_or_else(|error| panic!("{}: {error}", folder.display()))
        .map(|entry| entry.expect("a folder can be read").path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "yaml"))
        .collect();
    paths.sort();
    paths
}

fn helm(arguments: &[&str]) -> Output {
    Command::new(&*HELM)
        .args(arguments)
        .output()
        .unwrap_or_else(|error| panic!("{}: {error}", HELM.display()))
}

fn template(arguments: &[&str]) -> Output {
    let chart = CHART.to_str().expect("the path is UTF-8");
    helm(
        &[
            &["template", "certmon", chart, "--namespace", "certmon-system"],
            arguments,
        ]
        .concat(),
    )
}

fn rendered_text(arguments: &[&str]) -> String {
    let output = template(arguments);
    assert!(output.status.success(), "{arguments:?}: {}", stderr(&output));
    String::from_utf8(output.stdout).expect("Helm prints UTF-8")
}

fn rendered(arguments: &[&str]) -> Vec<Value> {
    let text = rendered_text(arguments);
    serde_saphyr::from_multiple(&text).unwrap_or_else(|error| panic!("{error}\n{text}"))
}

fn of_kind<'a>(objects: &'a [Value], kind: &str) -> Vec<&'a Value> {
    objects.iter().filter(|object| object["kind"] == kind).collect()
}

fn only<'a>(objects: &'a [Value], kind: &str) -> &'a Value {
    let found = of_kind(objects, kind);
    assert_eq!(found.len(), 1, "{kind}: {found:#?}");
    found[0]
}

fn fixture(name: &str) -> String {
    CHART
        .join("tests/good")
        .join(name)
        .to_str()
        .expect("the path is UTF-8")
        .to_owned()
}

const TWO_NAMESPACES: [&str; 4] = ["--set", "scope=Namespaces", "--set", "namespaces={shop,billing}"];

#[test]
fn good_values_lint_and_render() {
    let chart = CHART.to_str().expect("the path is UTF-8");
    let good = files(CHART.join("tests/good"));
    assert!(good.len() >= 4, "{good:?}");
    for file in good {
        let file = file.to_str().expect("the path is UTF-8");
        let lint = helm(&["lint", "--strict", chart, "--values", file]);
        assert!(
            lint.status.success(),
            "{file}: {}{}",
            String::from_utf8_lossy(&lint.stdout),
            stderr(&lint)
        );
        assert!(!rendered(&["--values", file]).is_empty(), "{file} renders nothing");
    }
}

/// The first line of each says what Helm's answer must hold.
#[test]
fn bad_values_are_refused_with_the_reason() {
    let bad = files(CHART.join("tests/bad"));
    assert!(bad.len() >= 20, "{bad:?}");
    for file in bad {
        let text = read(&file);
        let reason = text
            .lines()
            .next()
            .and_then(|line| line.strip_prefix("# refused: "))
            .unwrap_or_else(|| panic!("{}: the first line is `# refused: …`", file.display()));
        let output = template(&["--values", file.to_str().expect("the path is UTF-8")]);
        let answer = stderr(&output);
        assert!(!output.status.success(), "{} was accepted", file.display());
        assert!(
            answer.contains(reason),
            "{}: expected {reason:?} in: {answer}",
            file.display()
        );
    }
}

#[test]
fn rights_in_the_whole_cluster() {
    insta::assert_snapshot!(rendered_text(&["--show-only", "templates/rbac.yaml"]));
}

#[test]
fn rights_in_chosen_namespaces() {
    let arguments = [&TWO_NAMESPACES[..], &["--show-only", "templates/rbac.yaml"]].concat();
    insta::assert_snapshot!(rendered_text(&arguments));
}

#[test]
fn rights_of_viewers_and_editors() {
    insta::assert_snapshot!(rendered_text(&["--show-only", "templates/aggregated-roles.yaml"]));
}

#[test]
fn chosen_namespaces_get_the_same_rules_and_nothing_reaches_further() {
    let cluster = rendered(&["--show-only", "templates/rbac.yaml"]);
    let rules = &only(&cluster, "ClusterRole")["rules"];

    let chosen = rendered(&TWO_NAMESPACES);
    let roles = of_kind(&chosen, "Role");
    let namespaces: Vec<&Value> = roles.iter().map(|role| &role["metadata"]["namespace"]).collect();
    assert_eq!(namespaces, ["shop", "billing"]);
    assert_eq!(of_kind(&chosen, "RoleBinding").len(), 2);
    assert!(roles.iter().all(|role| role["rules"] == *rules), "{roles:#?}");
    assert!(of_kind(&chosen, "ClusterRoleBinding").is_empty());

    // What is left cluster-wide binds nobody: it adds to the roles of people.
    for role in of_kind(&chosen, "ClusterRole") {
        let labels = role["metadata"]["labels"].as_object().expect("labels");
        assert!(
            labels
                .keys()
                .any(|label| label.starts_with("rbac.authorization.k8s.io/aggregate-to-")),
            "{role:#}"
        );
    }
}

#[test]
fn no_rule_is_a_wildcard_or_writes_what_is_a_tenants() {
    let objects = rendered(&[]);
    let role = of_kind(&objects, "ClusterRole")
        .into_iter()
        .find(|role| role["metadata"]["name"] == "certmon")
        .expect("the operator's role");
    let mut writable = BTreeSet::new();
    for rule in role["rules"].as_array().expect("rules") {
        assert!(!rule.to_string().contains('*'), "{rule}");
        let writes = ["create", "update", "patch", "delete", "deletecollection"];
        if rule["verbs"]
            .as_array()
            .expect("verbs")
            .iter()
            .any(|verb| writes.iter().any(|write| verb == write))
        {
            let resources = rule["resources"].as_array().expect("resources");
            writable.extend(
                resources
                    .iter()
                    .map(|resource| resource.as_str().expect("a name").to_owned()),
            );
        }
    }
    assert_eq!(
        writable,
        ["alertledgers", "certificatemonitors/status", "events"]
            .map(str::to_owned)
            .into()
    );
}

#[test]
fn the_pod_is_restricted() {
    let objects = rendered(&[]);
    let deployment = only(&objects, "Deployment");
    assert_eq!(deployment["spec"]["strategy"], json!({"type": "Recreate"}));
    assert_eq!(deployment["spec"]["replicas"], 1);

    let pod = &deployment["spec"]["template"]["spec"];
    assert_eq!(
        pod["securityContext"],
        json!({
            "runAsNonRoot": true, "runAsUser": 65534, "runAsGroup": 65534,
            "seccompProfile": {"type": "RuntimeDefault"},
        })
    );
    assert_eq!(pod["enableServiceLinks"], false);
    assert_eq!(pod["automountServiceAccountToken"], false);
    for forbidden in ["hostNetwork", "hostPID", "hostIPC", "initContainers"] {
        assert!(pod[forbidden].is_null(), "{forbidden}");
    }

    let containers = pod["containers"].as_array().expect("containers");
    assert_eq!(containers.len(), 1);
    assert_eq!(
        containers[0]["securityContext"],
        json!({
            "allowPrivilegeEscalation": false, "readOnlyRootFilesystem": true, "capabilities": {"drop": ["ALL"]},
        })
    );
    assert_eq!(
        containers[0]["resources"],
        json!({
            "requests": {"cpu": "50m", "memory": "64Mi"}, "limits": {"memory": "256Mi"},
        }),
        "no CPU limit"
    );
    let mounts = containers[0]["volumeMounts"].as_array().expect("mounts");
    assert!(
        mounts
            .iter()
            .all(|mount| mount["readOnly"] == true && mount["subPath"].is_null()),
        "{mounts:#?}"
    );
}

#[test]
fn the_identity_is_the_pods_uid() {
    let objects = rendered(&[]);
    let env = &only(&objects, "Deployment")["spec"]["template"]["spec"]["containers"][0]["env"];
    assert_eq!(
        *env,
        json!([{"name": "CERTMON_IDENTITY", "valueFrom": {"fieldRef": {"fieldPath": "metadata.uid"}}}])
    );
}

fn arguments(objects: &[Value]) -> Vec<String> {
    let container = &only(objects, "Deployment")["spec"]["template"]["spec"]["containers"][0];
    serde_json::from_value(container["args"].clone()).expect("arguments are strings")
}

#[test]
fn flags_follow_the_values() {
    let fixed = ["run", "--listen=:8080", "--egress-policy=/etc/certmon/egress.yaml"];
    assert_eq!(
        arguments(&rendered(&[])),
        [&fixed[..], &["--log-format=json", "--log-level=info"]].concat()
    );
    assert_eq!(
        arguments(&rendered(&TWO_NAMESPACES))[5..],
        ["--watch-namespace=shop", "--watch-namespace=billing"]
    );
    assert_eq!(
        arguments(&rendered(&["--values", &fixture("everything.yaml")]))[3..],
        [
            "--log-format=text",
            "--log-level=debug",
            "--cluster-name=arn:aws:eks:eu-central-1:111122223333:cluster/prod",
            "--smtp-helo=certmon.example.com",
            "--dns-server=[fd00::a]:53",
            "--kubeconfig=/etc/other/kubeconfig",
        ]
    );
}

#[test]
fn labels_of_the_values_never_take_the_pod_from_its_deployment() {
    for values in ["defaults.yaml", "everything.yaml"] {
        let objects = rendered(&["--values", &fixture(values)]);
        let deployment = only(&objects, "Deployment");
        let labels = &deployment["spec"]["template"]["metadata"]["labels"];
        for (label, value) in deployment["spec"]["selector"]["matchLabels"]
            .as_object()
            .expect("a selector")
        {
            assert_eq!(labels[label], *value, "{values}");
        }
    }
    let objects = rendered(&[]);
    let labels = &only(&objects, "Deployment")["spec"]["template"]["metadata"]["labels"];
    assert_eq!(labels["sidecar.istio.io/inject"], "false");
}

#[test]
fn the_image_is_tag_and_digest() {
    let image = |arguments: &[&str]| {
        let objects = rendered(arguments);
        only(&objects, "Deployment")["spec"]["template"]["spec"]["containers"][0]["image"].clone()
    };
    assert_eq!(
        image(&[]),
        concat!("ghcr.io/certmon/certmon:", env!("CARGO_PKG_VERSION"))
    );
    assert_eq!(
        image(&["--values", &fixture("everything.yaml")]),
        "registry.example:5000/mirror/certmon:v0.1.0-rc.1@sha256:\
         0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
    );
    assert_eq!(image(&["--set", "image.registry=,image.tag=x"]), "certmon/certmon:x");
}

#[test]
fn the_policy_file_says_what_the_values_say() {
    let policy = |arguments: &[&str]| {
        let objects = rendered(arguments);
        yaml(
            only(&objects, "ConfigMap")["data"]["egress.yaml"]
                .as_str()
                .expect("a file"),
        )
    };
    assert_eq!(policy(&[]), json!({"allow": [], "deny": []}));
    let values = yaml(&read(CHART.join("tests/good/everything.yaml")));
    assert_eq!(
        policy(&["--values", &fixture("everything.yaml")]),
        values["egressPolicy"]
    );
}

/// The program reads its flags and the policy before it looks for a cluster: one that misses nothing but its kubeconfig
/// has taken both.
#[tokio::test]
async fn the_program_takes_the_flags_and_the_policy_of_good_values() {
    let without_cluster = async |policy: &str, arguments: &[String]| {
        let mut builder = OperatorBuilder::new(Path::new("/no/such/kubeconfig")).egress_policy(policy);
        for argument in arguments {
            let (flag, value) = argument.split_once('=').expect("a flag has a value");
            // What the harness says itself.
            if !["--listen", "--egress-policy", "--log-format", "--kubeconfig"].contains(&flag) {
                builder = builder.arg(flag, value);
            }
        }
        let mut operator = builder.start().expect("a binary: cargo build -p certmon");
        let ended = operator.exit().await.expect("it ends without a cluster");
        assert!(!ended.success());
        operator.log()
    };
    for file in files(CHART.join("tests/good")) {
        let objects = rendered(&["--values", file.to_str().expect("the path is UTF-8")]);
        let policy = only(&objects, "ConfigMap")["data"]["egress.yaml"]
            .as_str()
            .expect("a file");
        let said = without_cluster(policy, &arguments(&objects)[1..]).await;
        assert!(
            said.contains("the kubeconfig /no/such/kubeconfig can't be read"),
            "{}: {said}",
            file.display()
        );
    }
    let said = without_cluster("limits: {probes: 64}", &[]).await;
    assert!(said.contains("unknown field `probes`"), "{said}");
}

#[test]
fn an_account_of_somebody_else_is_used_and_not_made() {
    let objects = rendered(&["--values", &fixture("foreign-service-account.yaml")]);
    let kinds: BTreeSet<&str> = objects.iter().filter_map(|object| object["kind"].as_str()).collect();
    assert_eq!(kinds, BTreeSet::from(["ConfigMap", "Deployment", "Service"]));
    let pod = &only(&objects, "Deployment")["spec"]["template"]["spec"];
    assert_eq!(pod["serviceAccountName"], "granted-elsewhere");
}

#[test]
fn the_bound_account_is_the_pods() {
    for extra in [&[][..], &TWO_NAMESPACES[..], &["--set", "serviceAccount.name=watcher"]] {
        let objects = rendered(extra);
        let account = only(&objects, "ServiceAccount");
        assert_eq!(account["automountServiceAccountToken"], false);
        let name = &account["metadata"]["name"];
        assert_eq!(
            only(&objects, "Deployment")["spec"]["template"]["spec"]["serviceAccountName"],
            *name
        );
        let subject = json!([{"kind": "ServiceAccount", "name": name, "namespace": "certmon-system"}]);
        let bindings = [
            of_kind(&objects, "ClusterRoleBinding"),
            of_kind(&objects, "RoleBinding"),
        ]
        .concat();
        assert!(!bindings.is_empty());
        assert!(
            bindings.iter().all(|binding| binding["subjects"] == subject),
            "{bindings:#?}"
        );
    }
}

#[test]
fn the_metrics_service_finds_the_pod() {
    let objects = rendered(&[]);
    let service = only(&objects, "Service");
    let template = &only(&objects, "Deployment")["spec"]["template"];
    for (label, value) in service["spec"]["selector"].as_object().expect("a selector") {
        assert_eq!(template["metadata"]["labels"][label], *value);
    }
    assert_eq!(
        service["spec"]["ports"][0]["targetPort"],
        template["spec"]["containers"][0]["ports"][0]["name"]
    );
    assert!(of_kind(&rendered(&["--set", "metrics.service.enabled=false"]), "Service").is_empty());
}

/// Whole numbers without a fraction: `1.0` and `1` are one number, but two values of serde_json.
fn plain(value: &Value) -> Value {
    match value {
        Value::Number(number) => match number.as_f64().filter(|float| number.is_f64() && float.fract() == 0.0) {
            Some(float) => serde_json::from_str(&format!("{float:.0}")).expect("a whole number is JSON"),
            None => value.clone(),
        },
        Value::Array(items) => items.iter().map(plain).collect(),
        Value::Object(map) => map.iter().map(|(key, value)| (key.clone(), plain(value))).collect(),
        other => other.clone(),
    }
}

#[test]
fn the_crds_are_what_was_generated() {
    let check = Command::new("sh")
        .arg(CHART.join("sync-crds.sh"))
        .arg("--check")
        .output()
        .expect("sh runs");
    assert!(check.status.success(), "{}", stderr(&check));

    let keep = "helm.sh/resource-policy";
    for (arguments, kept) in [(&[][..], json!("keep")), (&["--set", "crds.keep=false"], Value::Null)] {
        let objects = rendered(arguments);
        let crds = of_kind(&objects, "CustomResourceDefinition");
        let generated: Vec<Value> = files(repository().join("crd/generated"))
            .iter()
            .map(|file| yaml(&read(file)))
            .collect();
        assert_eq!(crds.len(), generated.len());
        for expected in &generated {
            let crd = crds
                .iter()
                .find(|crd| crd["metadata"]["name"] == expected["metadata"]["name"])
                .unwrap_or_else(|| panic!("{} is not in the chart", expected["metadata"]["name"]));
            assert_eq!(crd["metadata"]["annotations"][keep], kept);
            assert_eq!(
                plain(&crd["spec"]),
                plain(&expected["spec"]),
                "printing it anew must not change it"
            );
        }
    }
    assert!(of_kind(&rendered(&["--set", "crds.enabled=false"]), "CustomResourceDefinition").is_empty());
}

#[test]
fn kubernetes_is_1_33_or_newer() {
    let old = template(&["--kube-version", "1.32.9"]);
    assert!(!old.status.success());
    assert!(
        stderr(&old).contains("chart requires kubeVersion: >=1.33.0-0"),
        "{}",
        stderr(&old)
    );
    // What managed clusters put behind the version must not count as a pre-release.
    for version in ["1.33.0", "1.33.4-gke.1134000", "1.37.1"] {
        let output = template(&["--kube-version", version]);
        assert!(output.status.success(), "{version}: {}", stderr(&output));
    }
}

/// The leaves of values.yaml as paths; an empty map is a leaf, for its keys are the user's.
fn leaves(value: &Value, path: &str, found: &mut BTreeSet<String>) {
    match value.as_object() {
        Some(map) if !map.is_empty() => {
            for (key, value) in map {
                let path = if path.is_empty() {
                    key.clone()
                } else {
                    format!("{path}.{key}")
                };
                leaves(value, &path, found);
            }
        }
        _ => {
            found.insert(path.to_owned());
        }
    }
}

#[test]
fn the_readme_lists_every_value_and_no_other() {
    let mut values = BTreeSet::new();
    leaves(&yaml(&read(CHART.join("values.yaml"))), "", &mut values);
    let listed: BTreeSet<String> = read(CHART.join("README.md"))
        .lines()
        .filter_map(|line| Some(line.strip_prefix("| `")?.split_once('`')?.0.to_owned()))
        .collect();
    assert_eq!(listed, values);
}

#[test]
fn the_schema_knows_every_value_and_closes_every_object_of_ours() {
    let schema: Value = serde_json::from_str(&read(CHART.join("values.schema.json"))).expect("JSON");
    let values = yaml(&read(CHART.join("values.yaml")));
    let mut known: BTreeSet<&String> = schema["properties"].as_object().expect("properties").keys().collect();
    let global = "global".to_owned();
    assert!(known.remove(&global), "Helm hands it to every sub-chart");
    assert_eq!(known, values.as_object().expect("a map").keys().collect());

    fn check(schema: &Value, path: &str) {
        if let Some(properties) = schema["properties"].as_object().filter(|_| schema["type"] == "object") {
            assert_eq!(schema["additionalProperties"], false, "{path}");
            for (key, schema) in properties {
                check(schema, &format!("{path}.{key}"));
            }
        }
    }
    check(&schema, "");
    for (name, definition) in schema["$defs"].as_object().expect("definitions") {
        check(definition, name);
    }
}

#[test]
fn one_version_everywhere() {
    let chart = yaml(&read(CHART.join("Chart.yaml")));
    assert_eq!(chart["version"], env!("CARGO_PKG_VERSION"));
    assert_eq!(chart["appVersion"], env!("CARGO_PKG_VERSION"));

    let toolchain = read(repository().join("rust-toolchain.toml"));
    let rust = toolchain
        .lines()
        .find_map(|line| line.strip_prefix("channel = \"")?.strip_suffix('"'))
        .expect("a pinned toolchain");
    let dockerfile = read(repository().join("Dockerfile"));
    assert!(dockerfile.contains(&format!("FROM rust:{rust}-")), "{rust}");
    assert!(dockerfile.contains(&format!("RUSTUP_TOOLCHAIN={rust}\n")), "{rust}");
}

/// The manifest between the markers of the here-document, as somebody would paste it.
fn first_manifest(arguments: &[&str]) -> Value {
    let chart = CHART.to_str().expect("the path is UTF-8");
    let output = helm(&[&["install", "certmon", chart, "--dry-run=client"], arguments].concat());
    assert!(output.status.success(), "{}", stderr(&output));
    let text = String::from_utf8(output.stdout).expect("Helm prints UTF-8");
    let (_, notes) = text
        .split_once("\nNOTES:\n")
        .unwrap_or_else(|| panic!("no notes in {text}"));
    assert!(notes.contains("kubectl get certmon -A"), "{notes}");
    let (_, rest) = notes
        .split_once("<<'EOF'\n")
        .unwrap_or_else(|| panic!("no manifest in {notes}"));
    let (manifest, _) = rest
        .split_once("\nEOF\n")
        .unwrap_or_else(|| panic!("no end in {notes}"));
    yaml(manifest)
}

#[test]
fn the_notes_show_the_first_manifest() {
    for (arguments, namespace) in [(&[][..], "default"), (&TWO_NAMESPACES[..], "shop")] {
        let manifest = first_manifest(arguments);
        assert_eq!(manifest["apiVersion"], "certmon.dev/v1alpha1");
        assert_eq!(manifest["kind"], "CertificateMonitor");
        assert_eq!(manifest["metadata"]["namespace"], namespace);
        assert!(
            manifest["spec"]["sources"]
                .as_array()
                .is_some_and(|sources| !sources.is_empty())
        );
    }
}
