//! The Events that are about a sink and no message of it.

use super::{Engine, telling::describe};
use crate::{cluster::Key, controller::spec};
use certmon_core::reason::Reason;

impl Engine {
    /// The Events of a check: that a sink can't be used, once, even with nothing to send; and that it can be again. After a
    /// start, what the stored status says already was told.
    pub(super) fn publish_check(&mut self, key: &Key, sink: &str) {
        let Some(state) = self.monitors.get_mut(key) else {
            return;
        };
        let Ok(parsed) = state.parsed.clone() else { return };
        let Some(spec) = parsed.sinks.iter().find(|spec| &*spec.manners.name == sink) else {
            return;
        };
        if parsed.suspended {
            return;
        }
        let stored = state.status.iter().flat_map(|status| &status.sinks);
        let stored = stored
            .filter(|known| known.name == sink && known.result == certmon_crd::SinkResult::Failing)
            .find_map(|known| known.problem.clone());
        let book = state.sinks.entry(sink.to_owned()).or_default();
        let to = format!("sink {sink} ({})", describe(spec));
        let misconfigured = Reason::SinkMisconfigured;
        let told = book.told_failure == Some(misconfigured);
        match &book.fault {
            Some(fault) => {
                let text = fault.text.clone();
                let known = told || (book.told_failure.is_none() && stored.as_ref() == Some(&text));
                book.told_failure = Some(misconfigured);
                if !known {
                    let secret = spec.kind.secret().map(|name| ("Secret", name.to_owned()));
                    self.publish(key, true, misconfigured, "Notify", &format!("{to}: {text}"), secret);
                }
            }
            None if told => {
                book.told_failure = None;
                let note = format!("{to} can be used again");
                self.publish(key, false, Reason::NotificationRecovered, "Notify", &note, None);
            }
            None => {}
        }
    }

    /// The Event of a test that a misconfigured sink can't be sent.
    pub(super) fn publish_untestable(&mut self, key: &Key, sink: &spec::Sink) {
        let name = &sink.manners.name;
        let book = self.monitors.get(key).and_then(|state| state.sinks.get::<str>(name));
        let text = book
            .and_then(|book| book.fault.as_ref())
            .map(|fault| fault.text.clone());
        let text = text.unwrap_or_else(|| "it can't be used".to_owned());
        let note = format!(
            "A test message to sink {name} ({}) was not sent: {text}",
            describe(sink)
        );
        let secret = sink.kind.secret().map(|name| ("Secret", name.to_owned()));
        self.publish(key, true, Reason::TestNotificationFailed, "Notify", &note, secret);
    }
}
