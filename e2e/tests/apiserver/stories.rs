//! What people see: the operator as the chart's ServiceAccount, the real kubectl, the real API server.

mod bounds;
mod endpoints;
mod hostile;
mod ingresses;
mod process;
mod redaction;
mod rights;
mod samples;
mod secrets;
mod seen;
mod sink_faults;
pub(crate) mod sinks;
mod trust;

use anyhow::{Context as _, Result, anyhow, bail, ensure};
use certmon_e2e::{
    Authority, Cluster, Helm, HelmRelease, Leaf, Namespace, Operator, OperatorBuilder, Validity, wait_for,
};
use k8s_openapi::api::core::v1::Secret;
use serde_json::{Value, json};
use std::time::Duration;

/// A condition of the operator's own making comes within this, or not at all.
pub(crate) const SOON: Duration = Duration::from_secs(30);

/// A DNS server that never answers: no story asks one outside.
const NO_DNS: &str = "127.0.0.1:9";

/// A namespace with an operator that watches it alone, under the rights that the chart grants there.
pub(crate) struct Stage {
    pub(crate) namespace: Namespace,
    pub(crate) operator: Operator,
    /// Its user name at the API server.
    pub(crate) account: String,
}

impl Stage {
    /// The operator with the flags that the chart gives it, and `with` more.
    pub(crate) async fn set(hint: &str, with: impl FnOnce(OperatorBuilder) -> OperatorBuilder) -> Result<Self> {
        let cluster = Cluster::shared().await?;
        cluster.crds().await?;
        Self::on(cluster, hint, |_rules| {}, with).await
    }

    /// The same on any cluster that has the CRDs, with other rules than the chart's.
    pub(crate) async fn on(
        cluster: &Cluster,
        hint: &str,
        rights: impl FnOnce(&mut Vec<Value>),
        with: impl FnOnce(OperatorBuilder) -> OperatorBuilder,
    ) -> Result<Self> {
        let namespace = cluster.namespace(hint).await?;
        let own = namespace.name().to_owned();
        let mut objects = chart(cluster, &own).await?;
        let role = objects.iter_mut().find(|object| object["kind"] == "Role");
        let rules = role.and_then(|role| role["rules"].as_array_mut());
        rights(rules.context("the chart has no Role")?);
        let account = objects.iter().find(|object| object["kind"] == "ServiceAccount");
        let account = account.and_then(|account| account["metadata"]["name"].as_str());
        let account = account.context("the chart has no ServiceAccount")?.to_owned();
        apply(&namespace, &objects).await?;
        let kubeconfig = cluster.service_account(&own, &account).await?;
        let itself = namespace.kubectl().with_kubeconfig(&kubeconfig);
        wait_for("the Role to come into force", SOON, async || {
            itself.run(["get", "certmon"]).await
        })
        .await?;
        let builder = OperatorBuilder::new(&kubeconfig)
            .watch_namespace(&own)
            .arg("--dns-server", NO_DNS);
        let operator = with(builder).start()?;
        operator.ready().await?;
        let account = format!("system:serviceaccount:{own}:{account}");
        Ok(Self {
            namespace,
            operator,
            account,
        })
    }

    /// An operator with an admin's rights that watches all namespaces.
    pub(crate) async fn everywhere(cluster: &Cluster, hint: &str) -> Result<Self> {
        let namespace = cluster.namespace(hint).await?;
        let operator = OperatorBuilder::new(cluster.kubeconfig())
            .arg("--dns-server", NO_DNS)
            .start()?;
        operator.ready().await?;
        let account = "admin".to_owned();
        Ok(Self {
            namespace,
            operator,
            account,
        })
    }

    /// `kubectl apply` of these objects.
    pub(crate) async fn apply(&self, objects: &[Value]) -> Result<()> {
        apply(&self.namespace, objects).await
    }

    /// kubectl in the namespace.
    pub(crate) async fn kubectl(&self, args: &[&str]) -> Result<String> {
        self.namespace.kubectl().run(args).await
    }

    /// Sets an annotation of a monitor.
    pub(crate) async fn annotate(&self, monitor: &str, annotation: &str) -> Result<()> {
        self.kubectl(&["annotate", "--overwrite", "certmon", monitor, annotation])
            .await
            .map(drop)
    }

    /// A monitor as it is stored.
    pub(crate) async fn monitor(&self, name: &str) -> Result<Monitor> {
        let path = format!(
            "/apis/certmon.dev/v1alpha1/namespaces/{}/certificatemonitors/{name}",
            self.namespace.name()
        );
        let request = hyper::Request::get(path).body(Vec::new())?;
        Ok(Monitor(self.namespace.client().request(request).await?))
    }

    /// Waits until a monitor is as `wanted`, and returns it.
    pub(crate) async fn until(&self, name: &str, what: &str, wanted: impl Fn(&Monitor) -> bool) -> Result<Monitor> {
        wait_for(&format!("{name} to say {what}"), SOON, async || {
            let monitor = self.monitor(name).await?;
            if wanted(&monitor) {
                return Ok(monitor);
            }
            Err(anyhow!(
                "{:#}\nthe operator's log:\n{}",
                monitor.0["status"],
                self.operator.log()
            ))
        })
        .await
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

    /// Waits until the operator has logged this.
    pub(crate) async fn shows_in_log(&self, part: &str) -> Result<String> {
        wait_for(&format!("{part:?} in the operator's log"), SOON, async || {
            let log = self.operator.log();
            ensure!(log.contains(part), "{log}");
            Ok(log)
        })
        .await
    }

    /// Waits for the Events about the namespace's monitors with these reasons, and returns all of them.
    pub(crate) async fn events(&self, reasons: &[&str]) -> Result<String> {
        let command = [
            "events",
            "--no-headers",
            "-o",
            "jsonpath={range .items[*]}{.reason}{\": \"}{.message}{\"\\n\"}{end}",
        ];
        let parts: Vec<String> = reasons.iter().map(|reason| format!("{reason}: ")).collect();
        self.shows(&command, &parts.iter().map(String::as_str).collect::<Vec<_>>())
            .await
    }
}

async fn apply(namespace: &Namespace, objects: &[Value]) -> Result<()> {
    let list = json!({ "apiVersion": "v1", "kind": "List", "items": objects });
    let said = namespace.kubectl().apply_object(&list).await?;
    // Of a key that isn't the certificate's the API server itself warns.
    let warns = |line: &str| line.starts_with("Warning") && !line.contains("private key does not match");
    ensure!(!said.lines().any(warns), "{said}");
    Ok(())
}

/// What the chart makes for an operator that watches its own namespace alone. Nothing runs Pods here: what is needed of it
/// are the account and its rights.
async fn chart(cluster: &Cluster, namespace: &str) -> Result<Vec<Value>> {
    let watched = format!("namespaces={{{namespace}}}");
    let release = HelmRelease {
        name: namespace,
        namespace,
        values: &[
            "scope=Namespaces",
            &watched,
            "crds.enabled=false",
            "rbac.aggregate=false",
        ],
    };
    let rendered = cluster.helm()?.template(&Helm::chart(), &release).await?;
    let documents = rendered.split("\n---").map(serde_saphyr::from_str::<Value>);
    let wanted = ["ServiceAccount", "Role", "RoleBinding"];
    let objects: Vec<Value> = documents.collect::<Result<_, _>>()?;
    Ok(objects
        .into_iter()
        .filter(|object| wanted.iter().any(|kind| object["kind"] == *kind))
        .collect())
}

/// A CertificateMonitor as the API server has it.
#[derive(Debug, Clone)]
pub(crate) struct Monitor(pub(crate) Value);

impl Monitor {
    /// Whether a condition has this status and reason.
    pub(crate) fn says(&self, condition: &str, status: &str, reason: &str) -> bool {
        let found = self.condition(condition);
        found["status"] == status && found["reason"] == reason
    }

    /// A condition; null if it isn't there.
    pub(crate) fn condition(&self, name: &str) -> &Value {
        let conditions = self.0["status"]["conditions"].as_array();
        let mut found = conditions.into_iter().flatten();
        found
            .find(|condition| condition["type"] == name)
            .unwrap_or(&Value::Null)
    }

    /// A condition's message.
    pub(crate) fn message(&self, condition: &str) -> &str {
        self.condition(condition)["message"].as_str().unwrap_or_default()
    }

    /// `CERTIFICATE: FINDING: TEXT` of each problem.
    pub(crate) fn problems(&self) -> Vec<String> {
        let problems = self.0["status"]["problems"].as_array();
        let text = |problem: &Value| {
            let part = |name: &str| problem[name].as_str().unwrap_or_default().to_owned();
            format!("{}: {}", part("certificate"), part("finding"))
        };
        problems.into_iter().flatten().map(text).collect()
    }

    /// Whether a problem holds all of these parts.
    pub(crate) fn has_problem(&self, parts: &[&str]) -> bool {
        let has_all = |problem: &String| parts.iter().all(|part| problem.contains(part));
        self.problems().iter().any(has_all)
    }

    /// The state of a sink; null if it isn't there.
    pub(crate) fn sink(&self, name: &str) -> &Value {
        let sinks = self.0["status"]["sinks"].as_array();
        let mut found = sinks.into_iter().flatten();
        found.find(|sink| sink["name"] == name).unwrap_or(&Value::Null)
    }

    /// A number of `status.certificates`; what isn't written is 0.
    pub(crate) fn count(&self, name: &str) -> u64 {
        self.0["status"]["certificates"][name].as_u64().unwrap_or_default()
    }
}

/// A monitor of this spec.
pub(crate) fn monitor(name: &str, spec: &Value) -> Value {
    json!({
        "apiVersion": "certmon.dev/v1alpha1",
        "kind": "CertificateMonitor",
        "metadata": { "name": name },
        "spec": spec,
    })
}

/// A Secret of any type with texts in it.
pub(crate) fn text_secret(name: &str, type_: &str, values: &Value) -> Value {
    json!({ "apiVersion": "v1", "kind": "Secret", "metadata": { "name": name }, "type": type_, "stringData": values })
}

/// A ConfigMap whose `ca.crt` is this.
pub(crate) fn ca_config_map(name: &str, pem: &str) -> Value {
    json!({ "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "name": name }, "data": { "ca.crt": pem } })
}

/// A Secret of type `kubernetes.io/tls` as it is applied.
pub(crate) fn tls_secret(secret: &Secret) -> Value {
    let mut object = serde_json::to_value(secret).expect("a Secret is JSON");
    object["apiVersion"] = "v1".into();
    object["kind"] = "Secret".into();
    object
}

/// A Secret with a certificate of 90 days for a name, with so many days left; fewer than none if it has expired.
pub(crate) fn ninety_days(authority: &Authority, secret: &str, name: &str, left: i64) -> Result<Value> {
    let leaf = Leaf::for_names([name]).valid(of_ninety_days(left));
    Ok(tls_secret(&authority.issue(&leaf)?.secret(secret)))
}

/// 90 days with so many left.
pub(crate) fn of_ninety_days(left: i64) -> Validity {
    let not_after = chrono::Utc::now() + chrono::TimeDelta::days(left);
    Validity {
        not_before: not_after - chrono::TimeDelta::days(90),
        not_after,
    }
}
