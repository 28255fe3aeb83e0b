//! The harness itself: what every other test relies on.

use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, ensure};
use certmon_e2e::{Authority, Cluster, Leaf, Options, wait_for};
use k8s_openapi::api::core::v1::{ConfigMap, Namespace, Secret};
use kube::api::{DeleteParams, ListParams, ObjectMeta, PostParams, WatchEvent, WatchParams};
use kube::{Api, ResourceExt as _};

const SOON: Duration = Duration::from_secs(30);

#[tokio::test]
async fn the_control_plane_says_which_version_it_is() -> Result<()> {
    let cluster = Cluster::shared().await?;
    let version = cluster.client().await?.apiserver_version().await?;
    if cluster.is_own() && !cluster.binaries().given() {
        let release = cluster.binaries().release();
        let pinned = release.pinned("k8s.io/kubernetes")?;
        assert_eq!(version.git_version, pinned);
        assert_eq!(format!("{}.{}", version.major, version.minor), release.minor());
        let said = cluster.kubectl()?.run(["version"]).await?;
        assert_eq!(said.matches(pinned.as_str()).count(), 2, "client and server: {said}");
    }
    Ok(())
}

#[tokio::test]
async fn helm_says_which_version_it_is() -> Result<()> {
    let cluster = Cluster::shared().await?;
    if !cluster.binaries().given() {
        let pinned = certmon_e2e::Release::Newest.pinned("helm.sh/helm/v4")?;
        let said = cluster.helm()?.run(&["version", "--short"]).await?;
        assert!(said.starts_with(&pinned), "{said}");
    }
    Ok(())
}

#[tokio::test]
async fn a_tls_secret_is_stored_as_applied() -> Result<()> {
    let cluster = Cluster::shared().await?;
    let ns = cluster.namespace("harness").await?;
    let identity = Authority::new("Harness CA")?.issue(&Leaf::for_names(["shop.test"]))?;
    ns.kubectl().apply_object(&identity.secret("shop-tls")).await?;
    let stored = Api::<Secret>::namespaced(ns.client(), ns.name())
        .get("shop-tls")
        .await?;
    assert_eq!(stored.data, identity.secret("shop-tls").data);
    Ok(())
}

#[tokio::test]
async fn a_namespace_is_finalised_when_deleted() -> Result<()> {
    let cluster = Cluster::shared().await?;
    let ns = cluster.namespace("harness").await?;
    let namespaces: Api<Namespace> = Api::all(ns.client());
    namespaces.delete(ns.name(), &DeleteParams::default()).await?;
    wait_for("the namespace to go", SOON, async || {
        match namespaces.get_opt(ns.name()).await? {
            None => Ok(()),
            Some(left) => Err(anyhow!("{:?}", left.status)),
        }
    })
    .await
}

#[tokio::test]
async fn an_owned_object_is_collected_with_its_owner() -> Result<()> {
    let cluster = Cluster::shared().await?;
    let ns = cluster.namespace("harness").await?;
    let maps: Api<ConfigMap> = Api::namespaced(ns.client(), ns.name());
    let named = |name: &str| ObjectMeta {
        name: Some(name.to_owned()),
        ..ObjectMeta::default()
    };
    let owner = ConfigMap {
        metadata: named("owner"),
        ..ConfigMap::default()
    };
    let owner = maps.create(&PostParams::default(), &owner).await?;
    let reference = kube::Resource::owner_ref(&owner, &()).context("a created object has a uid")?;
    let metadata = ObjectMeta {
        owner_references: Some(vec![reference]),
        ..named("owned")
    };
    maps.create(
        &PostParams::default(),
        &ConfigMap {
            metadata,
            ..ConfigMap::default()
        },
    )
    .await?;
    maps.delete("owner", &DeleteParams::default()).await?;
    wait_for("the owned object to go", SOON, async || {
        match maps.get_opt("owned").await? {
            None => Ok(()),
            Some(left) => Err(anyhow!("still there: {:?}", left.metadata)),
        }
    })
    .await
}

#[tokio::test]
async fn a_service_account_may_do_what_its_rbac_says_and_no_more() -> Result<()> {
    let cluster = Cluster::shared().await?;
    let ns = cluster.namespace("harness").await?;
    let name = ns.name();
    let kubectl = ns.kubectl();
    kubectl.run(["create", "serviceaccount", "reader"]).await?;
    kubectl
        .run(["create", "role", "reader", "--verb=get,list", "--resource=secrets"])
        .await?;
    kubectl
        .run([
            "create",
            "rolebinding",
            "reader",
            "--role=reader",
            &format!("--serviceaccount={name}:reader"),
        ])
        .await?;
    let client = cluster
        .client_as(&cluster.service_account(name, "reader").await?)
        .await?;
    let secrets: Api<Secret> = Api::namespaced(client.clone(), name);
    wait_for("the right to come into force", SOON, async || {
        Ok(secrets.list(&ListParams::default()).await?)
    })
    .await?;
    let maps: Api<ConfigMap> = Api::namespaced(client, name);
    let refused = maps
        .list(&ListParams::default())
        .await
        .expect_err("the role says nothing of ConfigMaps");
    assert!(
        matches!(&refused, kube::Error::Api(status) if status.is_forbidden()),
        "{refused}"
    );
    Ok(())
}

#[tokio::test]
async fn the_aggregated_role_view_has_rules() -> Result<()> {
    let cluster = Cluster::shared().await?;
    let kubectl = cluster.kubectl()?;
    wait_for("the controller manager to fill the role view", SOON, async || {
        let rules = kubectl
            .run(["get", "clusterrole", "view", "-o", "jsonpath={.rules}"])
            .await?;
        if rules.contains("configmaps") {
            Ok(())
        } else {
            Err(anyhow!("rules: {rules:?}"))
        }
    })
    .await
}

#[tokio::test]
async fn the_audit_log_tells_who_asked_for_what_with_bodies() -> Result<()> {
    let cluster = Cluster::audited().await?;
    let audit = cluster.audit()?;
    let mark = audit.mark()?;
    let ns = cluster.namespace("harness").await?;
    ns.kubectl()
        .run(["create", "configmap", "audited", "--from-literal=colour=green"])
        .await?;
    let event = wait_for("the creation in the audit log", SOON, async || {
        let of_map = |event: &certmon_e2e::AuditEvent| {
            let object = event.object_ref.clone().unwrap_or_default();
            object.resource == "configmaps" && object.name == "audited" && object.namespace == ns.name()
        };
        audit.since(mark, of_map)?.pop().context("nothing yet")
    })
    .await?;
    assert_eq!(
        (event.verb.as_str(), event.code(), event.user.username.as_str()),
        ("create", 201, "admin")
    );
    assert!(event.is_write());
    let body = event.request_object.context("bodies are logged")?;
    assert_eq!(body["data"]["colour"], "green");
    if !cluster.binaries().given() {
        let pinned = cluster.binaries().release().pinned("k8s.io/kubernetes")?;
        assert!(
            event.user_agent.starts_with(&format!("kubectl/{pinned} ")),
            "{}",
            event.user_agent
        );
    }
    Ok(())
}

/// Lists by a watch that begins with what there is; `Err` is the API server's refusal.
async fn streamed_list(client: kube::Client) -> Result<Vec<String>> {
    use futures::TryStreamExt as _;
    let namespaces: Api<Namespace> = Api::all(client);
    let stream = namespaces.watch(&WatchParams::default().initial_events(), "0").await?;
    futures::pin_mut!(stream);
    let mut names = Vec::new();
    loop {
        let event = tokio::time::timeout(SOON, stream.try_next())
            .await
            .context("the stream fell silent")??;
        match event.context("the stream ended before the bookmark")? {
            WatchEvent::Added(namespace) => names.push(namespace.name_any()),
            WatchEvent::Bookmark(_end_of_list) => return Ok(names),
            WatchEvent::Error(status) => return Err(anyhow!("{}", status.message)),
            WatchEvent::Modified(_) | WatchEvent::Deleted(_) => {}
        }
    }
}

#[tokio::test]
async fn streaming_lists_can_be_switched_on_and_off() -> Result<()> {
    for on in [true, false] {
        let mut options = Options::from_environment()?;
        options.api_server_flags.push(format!("--feature-gates=WatchList={on}"));
        let cluster = Cluster::start(&options).await?;
        let listed = streamed_list(cluster.client().await?).await;
        if on {
            let names = listed?;
            ensure!(names.iter().any(|name| name == "kube-system"), "{names:?}");
        } else {
            let refusal = format!("{:#}", listed.expect_err("the gate is off"));
            ensure!(refusal.contains("sendInitialEvents is forbidden"), "{refusal}");
        }
    }
    Ok(())
}
