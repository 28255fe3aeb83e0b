//! `KEEP=1`: the demo stays, and shows what arrives.

use std::time::Duration;

use anyhow::Result;
use certmon_e2e::{Cluster, Operator};
use tokio::signal::unix::{SignalKind, signal};

use crate::messages;
use crate::screen::Screen;
use crate::world::World;

/// How often the receivers are looked at.
const LOOK: Duration = Duration::from_millis(500);

/// Says how to talk to it and how to stop it; shows each message until Ctrl-C or SIGTERM.
pub(crate) async fn until_told_to_stop(
    screen: &mut Screen,
    cluster: &Cluster,
    operator: &Operator,
    world: &World,
) -> Result<()> {
    let kubectl = cluster.binaries().path("kubectl")?;
    screen.step("KEEP: it goes on running. In another terminal:");
    screen.note(&format!("export KUBECONFIG={}", cluster.kubeconfig().display()));
    if let Some(folder) = kubectl.parent() {
        screen.note(&format!("export PATH={}:$PATH", folder.display()));
    }
    screen.note("kubectl get certmon -A");
    screen.note(r#"kubectl annotate certmon hooked -n cmdb --overwrite certmon.dev/test-requested-at="$(date +%s)""#);
    screen.note(&format!("curl -s http://{}/metrics", operator.address()));
    screen.note("Messages appear here as they arrive. The operator's token lasts two hours.");
    screen.note(&format!("To stop it: Ctrl-C here, or `kill {}`.", std::process::id()));

    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut shown = Shown::now(world);
    loop {
        tokio::select! {
            _asked = interrupt.recv() => return Ok(()),
            _asked = terminate.recv() => return Ok(()),
            () = tokio::time::sleep(LOOK) => shown.rest(screen, world)?,
        }
    }
}

/// How many messages of each receiver the reader has seen.
struct Shown {
    slack: usize,
    mail: usize,
    hook: usize,
}

impl Shown {
    fn now(world: &World) -> Self {
        Self {
            slack: world.slack.received().len(),
            mail: world.mail.mails().len(),
            hook: world.hook.received().len(),
        }
    }

    fn rest(&mut self, screen: &Screen, world: &World) -> Result<()> {
        for message in world.slack.received().iter().skip(self.slack) {
            screen.block("Slack", &messages::slack(message)?);
        }
        for mail in world.mail.mails().iter().skip(self.mail) {
            screen.block(&format!("Mail to {}", mail.to.join(", ")), &messages::mail(mail)?);
        }
        for message in world.hook.received().iter().skip(self.hook) {
            screen.block("Webhook", &messages::webhook(message)?);
        }
        *self = Self::now(world);
        Ok(())
    }
}
