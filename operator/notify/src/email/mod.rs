//! Mail over SMTP.

mod html;
pub(crate) mod render;
mod session;
mod wire;

use crate::{Delivery, config::SmtpConfig, door::Door, http::clear};
use certmon_core::{
    delivery::{Failure, FailureClass, Outcome},
    message::MessageReason,
    place::Host,
};
use std::{collections::BTreeMap, time::Duration};

/// The name in `thread` of the first mail's `Message-ID`.
const ROOT: &str = "root";

/// The longest that a delivery takes; attempts don't change it.
pub(crate) const LONGEST: Duration = session::UP_TO_DATA
    .saturating_add(session::FINAL_REPLY)
    .saturating_add(session::QUIT);

/// Delivers, once.
pub(crate) async fn deliver(
    door: &Door,
    config: &SmtpConfig,
    helo: Option<&Host>,
    delivery: &Delivery,
) -> Result<Outcome, Failure> {
    let reason = delivery.message.reason;
    let of_period = !matches!(reason, MessageReason::First | MessageReason::Test);
    let root = delivery
        .thread
        .get(ROOT)
        .filter(|id| of_period && render::is_message_id(id));
    let mail = render::mail(
        &delivery.message,
        delivery.rung,
        &config.from,
        &config.to,
        root.map(String::as_str),
    )
    .map_err(|_| clear(FailureClass::PayloadRejected))?;
    let rejected_recipients = session::send(door, &delivery.namespace, config, helo, &mail.bytes).await?;
    let thread = match reason {
        MessageReason::Test => delivery.thread.clone(),
        MessageReason::ResolvedAll => BTreeMap::new(),
        _ => [(ROOT.to_owned(), root.cloned().unwrap_or(mail.message_id))].into(),
    };
    Ok(Outcome::Delivered {
        thread,
        rejected_recipients,
    })
}
