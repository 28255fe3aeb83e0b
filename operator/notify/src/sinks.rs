//! All sinks behind the one seam.

use crate::{Delivery, Sink, SinkFault, SinkSecret, config::Config, door::Door, email, http, slack, webhook};
use certmon_core::{
    delivery::{Failure, FailureClass, Misconfigured, Outcome},
    place::Host,
    sink::SinkKind,
};
use certmon_egress::{Denied, Egress};
use chrono::{DateTime, Utc};
use futures::{FutureExt, future::BoxFuture};
use std::{panic::AssertUnwindSafe, sync::Arc, time::Duration};

/// What says what time it is: signatures carry it, and dates in `Retry-After` are compared with it.
pub type Now = Arc<dyn Fn() -> DateTime<Utc> + Send + Sync>;

/// Slack, mail and webhooks, through the one door.
pub struct Sinks {
    door: Door,
    now: Now,
    helo: Option<Host>,
}

impl Sinks {
    /// Sinks that leave by `egress`. `helo` is the name in SMTP's EHLO; without it the address of the socket stands there.
    #[must_use]
    pub fn new(egress: Egress, now: Now, helo: Option<Host>) -> Self {
        Self {
            door: Door::new(egress),
            now,
            helo,
        }
    }

    async fn checked(
        &self,
        namespace: &str,
        kind: &SinkKind,
        secret: Option<&SinkSecret>,
    ) -> Result<Vec<String>, SinkFault> {
        let parsed = Config::parse(namespace, kind, secret)?;
        let mut remarks = parsed.remarks;
        let (host, port) = parsed.config.address();
        let place = match kind.secret() {
            Some(name) => format!("Secret {namespace}/{name}"),
            None => "the sink's `webhook.url`".to_owned(),
        };
        match self.door.permitted(namespace, host, port).await {
            Err(Denied::NotPermitted) => Err(SinkFault {
                class: Misconfigured::NotPermitted,
                text: format!(
                    "{place} names an address or port that the egress policy doesn't permit; name another, or ask an admin to allow it"
                ),
            }),
            Err(Denied::NoRecord) => {
                remarks.push(format!("{place} names a host that has no address record now"));
                Ok(remarks)
            }
            // The resolver's trouble is not the sink's fault, and passes.
            Err(Denied::ResolverFailed) | Ok(()) => Ok(remarks),
        }
    }

    async fn attempt(&self, delivery: &Delivery) -> Result<Outcome, Failure> {
        let parsed = Config::parse(&delivery.namespace, &delivery.kind, delivery.secret.as_ref())
            .map_err(|fault| http::clear(FailureClass::Misconfigured(fault.class)))?;
        match &parsed.config {
            Config::Slack(config) => slack::deliver(&self.door, config, delivery, (self.now)()).await,
            Config::Smtp(config) => email::deliver(&self.door, config, self.helo.as_ref(), delivery).await,
            Config::Webhook(config) => webhook::deliver(&self.door, config, delivery, (self.now)()).await,
        }
    }
}

impl Sink for Sinks {
    fn check<'a>(
        &'a self,
        namespace: &'a str,
        kind: &'a SinkKind,
        secret: Option<&'a SinkSecret>,
    ) -> BoxFuture<'a, Result<Vec<String>, SinkFault>> {
        self.checked(namespace, kind, secret).boxed()
    }

    fn deliver(&self, delivery: Delivery) -> BoxFuture<'_, Outcome> {
        async move {
            // A panic would be a fault of ours or of a library, set off by a peer; where it struck isn't known, so the
            // message may have been accepted. It stays this one sink's matter.
            let attempt = AssertUnwindSafe(self.attempt(&delivery)).catch_unwind().await;
            let outcome = attempt.unwrap_or_else(|_| Err(http::clear(FailureClass::Ambiguous)));
            outcome.unwrap_or_else(Outcome::Failed)
        }
        .boxed()
    }

    fn longest_attempt(&self, kind: &SinkKind, attempt: u32) -> Duration {
        match kind {
            SinkKind::Email { .. } => email::LONGEST,
            // The last second is for closing the connection.
            SinkKind::Slack { .. } | SinkKind::Webhook(_) => http::total(attempt) + Duration::from_secs(1),
        }
    }
}
