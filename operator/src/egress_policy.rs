//! The file of the admin's egress policy: read at the start, and followed while it changes.

use crate::world::WorldEvent;
use anyhow::Context;
use certmon_egress::{Egress, Policy};
use prometheus_client::metrics::gauge::Gauge;
use std::{path::PathBuf, time::Duration};
use tokio::sync::mpsc;

/// How often the file is looked at.
const EVERY: Duration = Duration::from_secs(2);

/// The file, and the policy that it held last.
pub struct File {
    path: PathBuf,
    text: Option<String>,
    policy: Policy,
}

/// What a look at the file found.
#[derive(Debug, PartialEq)]
enum Found {
    Same,
    Good(Policy),
    /// Why the last good one holds.
    Bad(String),
}

impl File {
    /// Reads the file.
    ///
    /// # Errors
    /// It isn't there, can't be read, is empty or is wrong: with file, line and cause.
    pub fn read(path: PathBuf) -> anyhow::Result<Self> {
        let name = path.display().to_string();
        let text = std::fs::read_to_string(&path).with_context(|| format!("--egress-policy {name} can't be read"))?;
        let policy = Policy::parse(&text, &name)?;
        Ok(Self {
            path,
            text: Some(text),
            policy,
        })
    }

    /// The policy that it held last.
    #[must_use]
    pub fn policy(&self) -> Policy {
        self.policy.clone()
    }

    /// The file's name as it was given.
    #[must_use]
    pub fn name(&self) -> String {
        self.path.display().to_string()
    }

    /// Takes a changed policy over; keeps the last good one while the file is broken, empty (as one is that is just being
    /// written) or gone, says so once, and sets `reloaded` to 0 as long.
    pub async fn follow(mut self, egress: Egress, events: mpsc::Sender<WorldEvent>, reloaded: Gauge) {
        let mut every = tokio::time::interval(EVERY);
        loop {
            every.tick().await;
            let text = tokio::fs::read_to_string(&self.path).await.ok();
            match self.found(text) {
                Found::Same => {}
                Found::Good(policy) => {
                    egress.replace_policy(policy);
                    reloaded.set(1);
                    tracing::info!(file = self.name(), "the egress policy was taken over");
                    if events.send(WorldEvent::EgressPolicy).await.is_err() {
                        return;
                    }
                }
                Found::Bad(error) => {
                    reloaded.set(0);
                    tracing::error!(error, "the egress policy can't be used; the last good one holds");
                }
            }
        }
    }

    fn found(&mut self, text: Option<String>) -> Found {
        if text == self.text {
            return Found::Same;
        }
        self.text = text;
        let name = self.name();
        match self.text.as_ref().map(|text| Policy::parse(text, &name)) {
            Some(Ok(policy)) => {
                self.policy = policy.clone();
                Found::Good(policy)
            }
            Some(Err(error)) => Found::Bad(error.to_string()),
            None => Found::Bad(format!("{name} is gone, or can't be read")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_is_empty_broken_or_gone_leaves_the_last_good_policy() {
        let parse = |text: &str| Policy::parse(text, "egress.yaml").expect("a policy");
        let good = "deny: [{namespaces: ['*'], cidrs: [10.0.0.0/8]}]";
        let mut file = File {
            path: "egress.yaml".into(),
            text: Some(good.to_owned()),
            policy: parse(good),
        };
        for (text, cause) in [
            (Some(""), "egress.yaml: the file is empty"),
            (Some(" \n\t\n"), "egress.yaml"),
            (Some("# all of it is to come\n---\n"), "egress.yaml: the file is empty"),
            (Some("deny:"), "egress.yaml:1: "),
            (Some("deny: [{namespaces: ['*'], cid"), "egress.yaml:1: "),
            (None, "egress.yaml is gone"),
        ] {
            let Found::Bad(error) = file.found(text.map(str::to_owned)) else {
                panic!("taken over: {text:?}")
            };
            assert!(error.starts_with(cause), "{text:?}: {error}");
            assert_eq!(file.policy(), parse(good), "{text:?}");
            assert_eq!(file.found(text.map(str::to_owned)), Found::Same, "it is said once");
        }
        assert_eq!(file.found(Some(good.to_owned())), Found::Good(parse(good)));
        assert_eq!(file.found(Some("{}".to_owned())), Found::Good(Policy::default()));
    }
}
