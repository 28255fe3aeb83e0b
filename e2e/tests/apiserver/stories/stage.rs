//! Where a story plays: namespaces of its own, and an operator under the rights that the chart grants.

use super::{Monitor, SOON};
use anyhow::{Context as _, Result, anyhow, bail, ensure};
use certmon_e2e::{Cluster, Helm, HelmRelease, Namespace, Operator, OperatorBuilder, Options, wait_for};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::time::Duration;
use tokio::sync::{Mutex, MutexGuard, OnceCell};

/// A DNS server that never answers: no story asks one outside.
const NO_DNS: &str = "127.0.0.1:9";

/// How an API server lists: whole and streamed where that is asked for, or in pages alone, as the older ones do.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Listing {
    Streamed,
    InPages,
}

/// A cluster of the run's own, for operators that watch all of it, and whose turn it is.
struct Own {
    cluster: OnceCell<Result<Cluster, String>>,
    turn: Mutex<()>,
}

impl Own {
    const fn new() -> Self {
        Self {
            cluster: OnceCell::const_new(),
            turn: Mutex::const_new(()),
        }
    }
}

static STREAMED: Own = Own::new();
static IN_PAGES: Own = Own::new();

/// Nothing runs Pods here: what is needed of the chart are the account and its rights.
const WANTED: [&str; 5] = [
    "ServiceAccount",
    "Role",
    "RoleBinding",
    "ClusterRole",
    "ClusterRoleBinding",
];

/// An operator, and the namespace that its story plays in.
pub(crate) struct Stage {
    pub(crate) namespace: Namespace,
    /// Further namespaces that it watches.
    pub(crate) others: Vec<Namespace>,
    pub(crate) operator: Operator,
    /// Its user name at the API server.
    pub(crate) account: String,
}

/// One namespace of a story, as its tenant sees it.
#[derive(Clone, Copy)]
pub(crate) struct Tenant<'a> {
    pub(crate) namespace: &'a Namespace,
    operator: &'a Operator,
}

/// A cluster with an audit log that nobody else uses while the turn is held.
pub(crate) async fn alone(listing: Listing) -> Result<(&'static Cluster, MutexGuard<'static, ()>)> {
    let own = match listing {
        Listing::Streamed => &STREAMED,
        Listing::InPages => &IN_PAGES,
    };
    let turn = own.turn.lock().await;
    let first = async || -> Result<Cluster> {
        let mut options = Options::from_environment()?;
        if let Listing::InPages = listing {
            let off = "--feature-gates=WatchList=false";
            options.api_server_flags.push(off.to_owned());
        }
        let cluster = Cluster::start(&options).await?;
        cluster.crds().await?;
        Ok(cluster)
    };
    let cluster = own
        .cluster
        .get_or_init(async || first().await.map_err(|error| format!("{error:#}")))
        .await;
    let cluster = cluster.as_ref().map_err(|error| anyhow!(error.clone()))?;
    nobody_is_left(cluster).await?;
    Ok((cluster, turn))
}

/// Waits until the monitors of earlier stories went with their namespaces: where one is on its way out, nothing can be
/// written, and that would look like a right that is missing.
pub(crate) async fn nobody_is_left(cluster: &Cluster) -> Result<()> {
    let kubectl = cluster.kubectl()?;
    wait_for("the monitors of earlier stories to be gone", SOON, async || {
        let left = kubectl.run(["get", "certmon", "-A", "-o", "name"]).await?;
        ensure!(left.is_empty(), "{left}");
        Ok(())
    })
    .await
}

impl Stage {
    /// An operator that watches one namespace alone, with the flags that the chart gives it, and `with` more.
    pub(crate) async fn set(hint: &str, with: impl FnOnce(OperatorBuilder) -> OperatorBuilder) -> Result<Self> {
        let cluster = Cluster::shared().await?;
        cluster.crds().await?;
        Self::on(cluster, hint, |_rules| {}, with).await
    }

    /// The same on any cluster that has the CRDs, with other rules than the chart's.
    pub(crate) async fn on(
        cluster: &Cluster,
        hint: &str,
        rights: impl FnMut(&mut Vec<Value>),
        with: impl FnOnce(OperatorBuilder) -> OperatorBuilder,
    ) -> Result<Self> {
        let namespace = cluster.namespace(hint).await?;
        Self::of(cluster, vec![namespace], rights, with).await
    }

    /// An operator that watches these namespaces alone; the first is its own.
    pub(crate) async fn of(
        cluster: &Cluster,
        mut namespaces: Vec<Namespace>,
        rights: impl FnMut(&mut Vec<Value>),
        with: impl FnOnce(OperatorBuilder) -> OperatorBuilder,
    ) -> Result<Self> {
        let names: Vec<&str> = namespaces.iter().map(Namespace::name).collect();
        let scope = format!("namespaces={{{}}}", names.join(","));
        let values = ["scope=Namespaces", &*scope];
        let (account, builder) = install(cluster, &namespaces, &values, rights).await?;
        let builder = names
            .iter()
            .fold(builder, |builder, name| builder.watch_namespace(name));
        let operator = start(with(builder)).await?;
        let others = namespaces.split_off(1);
        let namespace = namespaces.pop().context("a story has a namespace")?;
        Ok(Self {
            namespace,
            others,
            operator,
            account,
        })
    }

    /// An operator that watches all namespaces of a cluster that nobody else uses.
    pub(crate) async fn everywhere(
        cluster: &Cluster,
        hint: &str,
        rights: impl FnMut(&mut Vec<Value>),
        with: impl FnOnce(OperatorBuilder) -> OperatorBuilder,
    ) -> Result<Self> {
        let namespaces = [cluster.namespace(hint).await?];
        let (account, builder) = install(cluster, &namespaces, &["scope=Cluster"], rights).await?;
        let operator = start(with(builder)).await?;
        let [namespace] = namespaces;
        Ok(Self {
            namespace,
            others: Vec::new(),
            operator,
            account,
        })
    }

    /// Another namespace of the operator's.
    pub(crate) fn tenant<'a>(&'a self, namespace: &'a Namespace) -> Tenant<'a> {
        Tenant {
            namespace,
            operator: &self.operator,
        }
    }

    fn own(&self) -> Tenant<'_> {
        self.tenant(&self.namespace)
    }

    /// `kubectl apply` of these objects.
    pub(crate) async fn apply(&self, objects: &[Value]) -> Result<()> {
        self.own().apply(objects).await
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
        self.own().monitor(name).await
    }

    /// Waits until a monitor is as `wanted`, and returns it.
    pub(crate) async fn until(&self, name: &str, what: &str, wanted: impl Fn(&Monitor) -> bool) -> Result<Monitor> {
        self.own().until(name, what, SOON, wanted).await
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

impl Tenant<'_> {
    /// `kubectl apply` of these objects.
    pub(crate) async fn apply(&self, objects: &[Value]) -> Result<()> {
        let list = json!({ "apiVersion": "v1", "kind": "List", "items": objects });
        let said = self.namespace.kubectl().apply_object(&list).await?;
        // Of a key that isn't the certificate's the API server itself warns.
        let warns = |line: &str| line.starts_with("Warning") && !line.contains("private key does not match");
        ensure!(!said.lines().any(warns), "{said}");
        Ok(())
    }

    /// Creates an object that is too large for what kubectl writes into its annotation.
    pub(crate) async fn create(&self, plural: &str, object: &Value) -> Result<()> {
        let root = match object["apiVersion"].as_str() {
            Some("v1") => "/api/v1".to_owned(),
            group => format!("/apis/{}", group.context("an object has a version")?),
        };
        let path = format!("{root}/namespaces/{}/{plural}", self.namespace.name());
        let request = hyper::Request::post(path)
            .header("content-type", "application/json")
            .body(serde_json::to_vec(object)?)?;
        let created: Result<Value, _> = self.namespace.client().request(request).await;
        created
            .with_context(|| object["metadata"]["name"].to_string())
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
    pub(crate) async fn until(
        &self,
        name: &str,
        what: &str,
        within: Duration,
        wanted: impl Fn(&Monitor) -> bool,
    ) -> Result<Monitor> {
        wait_for(&format!("{name} to say {what}"), within, async || {
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
}

/// The chart's account and its rights, in force. The first namespace is the account's.
async fn install(
    cluster: &Cluster,
    namespaces: &[Namespace],
    values: &[&str],
    mut rights: impl FnMut(&mut Vec<Value>),
) -> Result<(String, OperatorBuilder)> {
    let own = namespaces.first().context("a story has a namespace")?;
    let mut objects = chart(cluster, own.name(), values).await?;
    let is_role = |object: &Value| object["kind"] == "Role" || object["kind"] == "ClusterRole";
    for role in objects.iter_mut().filter(|object| is_role(object)) {
        rights(role["rules"].as_array_mut().context("a role has rules")?);
    }
    let account = objects.iter().find(|object| object["kind"] == "ServiceAccount");
    let account = account.and_then(|account| account["metadata"]["name"].as_str());
    let account = account.context("the chart has no ServiceAccount")?.to_owned();
    // What belongs to no namespace goes with the story's own: the cluster may be somebody else's.
    let uid = own
        .kubectl()
        .run(["get", "namespace", own.name(), "-o", "jsonpath={.metadata.uid}"])
        .await?;
    let mut by_namespace: BTreeMap<String, Vec<Value>> = BTreeMap::new();
    for mut object in objects {
        let namespace = object["metadata"]["namespace"]
            .as_str()
            .unwrap_or(own.name())
            .to_owned();
        if object["kind"].as_str().is_some_and(|kind| kind.starts_with("Cluster")) {
            object["metadata"]["ownerReferences"] =
                json!([{ "apiVersion": "v1", "kind": "Namespace", "name": own.name(), "uid": uid }]);
        }
        by_namespace.entry(namespace).or_default().push(object);
    }
    for (namespace, objects) in by_namespace {
        let list = json!({ "apiVersion": "v1", "kind": "List", "items": objects });
        own.kubectl().in_namespace(&namespace).apply_object(&list).await?;
    }
    let kubeconfig = cluster.service_account(own.name(), &account).await?;
    for namespace in namespaces {
        let itself = namespace.kubectl().with_kubeconfig(&kubeconfig);
        wait_for("the operator's rights to come into force", SOON, async || {
            itself.run(["get", "certmon"]).await
        })
        .await?;
    }
    let account = format!("system:serviceaccount:{}:{account}", own.name());
    Ok((account, OperatorBuilder::new(&kubeconfig).dns_server(NO_DNS)))
}

async fn start(builder: OperatorBuilder) -> Result<Operator> {
    let operator = builder.start()?;
    operator.ready().await?;
    Ok(operator)
}

async fn chart(cluster: &Cluster, namespace: &str, values: &[&str]) -> Result<Vec<Value>> {
    let values = [values, &["crds.enabled=false", "rbac.aggregate=false"]].concat();
    let release = HelmRelease {
        name: namespace,
        namespace,
        values: &values,
    };
    let rendered = cluster.helm()?.template(&Helm::chart(), &release).await?;
    let documents = rendered.split("\n---").map(serde_saphyr::from_str::<Value>);
    let objects: Vec<Value> = documents.collect::<Result<_, _>>()?;
    Ok(objects
        .into_iter()
        .filter(|object| WANTED.iter().any(|kind| object["kind"] == *kind))
        .collect())
}
