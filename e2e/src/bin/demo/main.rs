//! `make demo`: certmon on a real API server, told as a story whose every claim is checked.
//!
//! Everything runs on loopback and ends with this process. `KEEP=1` leaves it running until Ctrl-C.

mod install;
mod keep;
mod messages;
mod samples;
mod screen;
mod world;

use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use certmon_e2e::sinks::Received;
use certmon_e2e::{AuditLevel, Cluster, Kubectl, Options, wait_for};
use serde_json::Value;

use crate::screen::Screen;
use crate::world::World;

/// What the operator does without waiting for anybody.
const SOON: Duration = Duration::from_secs(30);

/// A resolve may be held back for a minute, so that the renewal of many makes one message.
const RESOLVED: Duration = Duration::from_secs(75);

/// What `kubectl get certmon -A` must show: namespace, monitor, the reason of `Healthy`, how many of each level.
const EXPECTED: [(&str, &str, &str, u64, u64); 6] = [
    ("archive", "with-silences", "AllValid", 0, 0),
    ("cmdb", "hooked", "ExpiringSoon", 1, 0),
    ("integrations", "partners", "Expired", 1, 2),
    ("payments", "mesh-identities", "AllValid", 0, 0),
    ("shop", "shop", "ExpiryCritical", 0, 1),
    ("warehouse", "secrets", "AllValid", 0, 0),
];

#[tokio::main]
async fn main() -> ExitCode {
    let mut screen = Screen::new();
    match demo(&mut screen).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            screen.failed(&error);
            ExitCode::FAILURE
        }
    }
}

async fn demo(screen: &mut Screen) -> Result<()> {
    let begun = Instant::now();
    screen.title("certmon on a real Kubernetes API server. It takes about a minute and stays on loopback.");
    let cluster = control_plane(screen).await?;
    let world = set_the_stage(screen).await?;
    let mut operator = install::install(screen, &cluster, &world.ports()).await?;
    let kubectl = cluster.kubectl()?;
    apply_the_samples(screen, &kubectl, &world).await?;
    what_kubectl_says(screen, &kubectl).await?;
    what_was_told(screen, &kubectl, &world).await?;
    renewal(screen, &kubectl, &world).await?;

    if std::env::var_os("KEEP").is_some_and(|keep| !keep.is_empty() && keep != "0") {
        keep::until_told_to_stop(screen, &cluster, &operator, &world).await?;
    }
    screen.step("Clean up");
    let asked = Instant::now();
    let status = operator.terminate().await?;
    screen.check(
        status.success() && asked.elapsed() < Duration::from_secs(20),
        &format!(
            "asked with SIGTERM, the operator ended properly within {:.1} s",
            asked.elapsed().as_secs_f32()
        ),
    )?;
    drop(cluster);
    screen.note("The control plane and its folder are gone; the binaries stay cached for the next run.");
    screen.end(begun.elapsed());
    Ok(())
}

async fn control_plane(screen: &mut Screen) -> Result<Cluster> {
    screen.step("Start a control plane");
    let begun = Instant::now();
    let mut options = Options::from_environment()?;
    options.audit = AuditLevel::Metadata;
    // The demo never touches a cluster that it didn't start.
    let cluster = Cluster::start(&options).await?;
    let version = cluster.kubectl()?.run(["version", "-o", "json"]).await?;
    let version: Value = serde_json::from_str(&version)?;
    let server = version["serverVersion"]["gitVersion"]
        .as_str()
        .context("the server has no version")?;
    screen.done(
        &format!("etcd, kube-apiserver {server} and kube-controller-manager are ready"),
        begun.elapsed(),
    );
    Ok(cluster)
}

async fn set_the_stage(screen: &mut Screen) -> Result<World> {
    screen.step("Start five TLS servers, and those who want to be told");
    let world = World::start().await?;
    for (name, address, state) in world.servers() {
        screen.note(&format!("{name:<20}  {address:<15}  {state}"));
    }
    for (name, address, state) in world.receivers() {
        screen.note(&format!("{name:<20}  {address:<15}  {state}"));
    }
    Ok(world)
}

async fn apply_the_samples(screen: &mut Screen, kubectl: &Kubectl, world: &World) -> Result<()> {
    screen.step("Be six tenants: apply the samples, with the demo's addresses in the place of yours");
    for tenant in samples::tenants(world)? {
        let namespace = serde_json::json!({
            "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": tenant.namespace },
        });
        kubectl.apply(&namespace.to_string()).await?;
        let own = kubectl.in_namespace(tenant.namespace);
        for object in world.objects(tenant.namespace)? {
            own.apply(&object.to_string()).await?;
        }
        world.publish(tenant.namespace, &own).await?;
        own.apply(&tenant.manifest).await?;
        screen.command(&format!(
            "kubectl apply -n {} -f samples/{}",
            tenant.namespace, tenant.file
        ));
    }
    Ok(())
}

/// Every monitor as the API server has it.
async fn monitors(kubectl: &Kubectl) -> Result<Vec<Value>> {
    let list: Value = serde_json::from_str(&kubectl.run(["get", "certmon", "-A", "-o", "json"]).await?)?;
    Ok(list["items"].as_array().context("no list of monitors")?.clone())
}

/// The reason of a monitor's condition.
fn reason<'a>(monitor: &'a Value, condition: &str) -> &'a str {
    let conditions = monitor["status"]["conditions"].as_array();
    let found = conditions.and_then(|all| all.iter().find(|one| one["type"] == condition));
    found.and_then(|one| one["reason"].as_str()).unwrap_or_default()
}

/// A monitor as [`EXPECTED`] has it.
fn verdict(monitor: &Value) -> (&str, &str, &str, u64, u64) {
    let name = |field: &str| monitor["metadata"][field].as_str().unwrap_or_default();
    let count = |level: &str| monitor["status"]["certificates"][level].as_u64().unwrap_or_default();
    (
        name("namespace"),
        name("name"),
        reason(monitor, "Healthy"),
        count("warning"),
        count("critical"),
    )
}

async fn what_kubectl_says(screen: &mut Screen, kubectl: &Kubectl) -> Result<()> {
    screen.step("See what is wrong");
    let begun = Instant::now();
    wait_for("every monitor to say what is wrong", SOON, async || {
        let seen = monitors(kubectl).await?;
        let said: Vec<_> = seen.iter().map(verdict).collect();
        ensure!(said == EXPECTED, "{said:?}");
        Ok(())
    })
    .await?;
    let took = begun.elapsed();
    screen.command("kubectl get certmon -A");
    screen.output(&kubectl.run(["get", "certmon", "-A"]).await?);
    screen.done("six monitors say what is true of their certificates", took);

    let partners = kubectl.in_namespace("integrations");
    let expected = [
        "cannot be checked: timed out",
        "HostnameMismatch",
        "Expired",
        "NotificationSent",
    ];
    let described = wait_for("describe to tell the whole story", SOON, async || {
        let described = partners.run(["describe", "certmon", "partners"]).await?;
        let end = described
            .split_once("  Summary:")
            .map(|(_, end)| format!("  Summary:{end}"))
            .with_context(|| described.clone())?;
        match expected.iter().find(|part| !end.contains(**part)) {
            None => Ok(end),
            Some(missing) => bail!("{missing} is not in\n{end}"),
        }
    })
    .await?;
    screen.command("kubectl describe certmon partners -n integrations        # its last lines");
    screen.output(&described);
    screen.done(
        "an expired certificate, a wrong name and a silent server are three findings",
        begun.elapsed(),
    );
    Ok(())
}

async fn what_was_told(screen: &mut Screen, kubectl: &Kubectl, world: &World) -> Result<()> {
    screen.step("Read what was sent");
    let slack = last(world.slack.wait_for_messages(1, SOON).await?)?;
    screen.block("Slack, channel #shop-alerts", &messages::slack(&slack)?);
    let said = String::from_utf8_lossy(&slack.body).into_owned();
    screen.check(
        said.contains("ExpiryCritical") && said.contains("checkout.example.com"),
        "Slack was told of the certificate that is about to expire",
    )?;

    let mail = world.mail.wait_for_mails(1, SOON).await?.pop().context("no mail")?;
    let text = messages::mail(&mail)?;
    screen.block(&format!("Mail to {}", mail.to.join(", ")), &text);
    screen.check(
        mail.over_tls && mail.user.is_some() && text.contains("Expired") && text.contains("HostnameMismatch"),
        "the mail came over TLS, authenticated, and names what has expired and what has the wrong name",
    )?;

    let hook = last(world.hook.wait_for_messages(1, SOON).await?)?;
    screen.block("Webhook POST /hooks/certmon", &messages::webhook(&hook)?);
    screen.check(
        hook.signature_fault.is_none() && hook.headers.contains_key("webhook-signature"),
        "the receiver has checked the signature",
    )?;

    let begun = Instant::now();
    wait_for("the status to say what was delivered", SOON, async || {
        let seen = monitors(kubectl).await?;
        let said: Vec<_> = seen.iter().map(|monitor| reason(monitor, "Notified")).collect();
        let delivered = said.iter().filter(|reason| **reason == "Delivered").count();
        ensure!(delivered == 3, "{said:?}");
        Ok(())
    })
    .await?;
    screen.done("their monitors say that it was delivered", begun.elapsed());
    let sent = (
        world.slack.received().len(),
        world.mail.mails().len(),
        world.hook.received().len(),
    );
    screen.check(
        sent == (1, 1, 1),
        "nobody was told twice, and nobody of what is fine or silenced",
    )
}

async fn renewal(screen: &mut Screen, kubectl: &Kubectl, world: &World) -> Result<()> {
    screen.step("Renew checkout.example.com: a new Secret, and the server reloads");
    let before = world.slack.received().len();
    let renewed = Instant::now();
    let shop = kubectl.in_namespace("shop");
    shop.apply(&world.renew()?.to_string()).await?;
    wait_for("the shop's monitor to be fine", SOON, async || {
        let seen = monitors(kubectl).await?;
        let said: Vec<_> = seen.iter().map(verdict).collect();
        ensure!(said.contains(&("shop", "shop", "AllValid", 0, 0)), "{said:?}");
        Ok(())
    })
    .await?;
    let took = renewed.elapsed();
    screen.command("kubectl get certmon -n shop");
    screen.output(&shop.run(["get", "certmon"]).await?);
    screen.done("the status says so", took);
    screen.wait("A resolve waits up to a minute, so that the renewal of many makes one message …");
    let told = last(world.slack.wait_for_messages(before + 1, RESOLVED).await?)?;
    screen.block("Slack, channel #shop-alerts", &messages::slack(&told)?);
    let said = String::from_utf8_lossy(&told.body).to_lowercase();
    screen.check(
        said.contains("resolved") && said.contains("checkout.example.com"),
        &format!(
            "Slack was told of the renewal {:.0} s after it",
            renewed.elapsed().as_secs_f32()
        ),
    )
}

fn last(mut messages: Vec<Received>) -> Result<Received> {
    messages.pop().context("no message")
}
