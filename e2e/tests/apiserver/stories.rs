//! What people see: the operator as the chart's ServiceAccount, the real kubectl, the real API server.

mod bounds;
mod endpoints;
mod hostile;
mod ingresses;
mod limits;
mod neighbours;
mod process;
mod redaction;
mod rights;
mod samples;
mod secrets;
mod seen;
mod sink_faults;
pub(crate) mod sinks;
mod stage;
mod trust;
mod watching;

pub(crate) use stage::Stage;

use anyhow::Result;
use certmon_e2e::{Authority, Leaf, Validity};
use k8s_openapi::api::core::v1::Secret;
use serde_json::{Value, json};
use std::time::Duration;

/// A condition of the operator's own making comes within this, or not at all.
pub(crate) const SOON: Duration = Duration::from_secs(30);

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
