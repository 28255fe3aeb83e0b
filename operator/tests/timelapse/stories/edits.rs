//! What people change: thresholds, silences, sinks, and the monitor itself.

use super::SECRETS;
use crate::support::{
    certificates::days,
    stage::monitor_key,
    story::{Story, day, hours, minutes},
};

#[test]
fn threshold_edited() {
    Story::new(
        "threshold_edited",
        "A certificate is 30 days before its end. The warning is moved to 40 days, and the alert is there at once; it is
moved back, and the alert ends for that reason, with the same certificate.",
    )
    .at(minutes(0), "a monitor and a Secret that ends on day 30", |stage| {
        stage.secret("shop-tls", &days("shop.example.com", -60, 30));
        stage.monitor(SECRETS);
    })
    .quiet(minutes(5), hours(4))
    .at(hours(5), "the warning is 40 days from now on", |stage| {
        stage.monitor(&format!("{SECRETS}thresholds:\n  warning: {{remaining: 40d}}\n"));
    })
    .at(hours(8), "and 20 days", |stage| {
        stage.monitor(&format!("{SECRETS}thresholds:\n  warning: {{remaining: 20d}}\n"));
    })
    .quiet(hours(9), day(10))
    .end(day(10) + hours(1))
    .tell();
}

#[test]
fn silence_begins_and_ends() {
    Story::new(
        "silence_begins_and_ends",
        "An alert is silenced until day 2: it is no reason for Healthy=False any more. When the silence ends, it is a reason
again; the sink knows of it already and is told nothing.",
    )
    .at(minutes(0), "a monitor and a Secret that ends on day 10", |stage| {
        stage.secret("shop-tls", &days("shop.example.com", -80, 10));
        stage.secret("api-tls", &days("api.example.com", 0, 90));
        stage.monitor(SECRETS);
    })
    .at(hours(5), "it is silenced until day 2", |stage| {
        stage.monitor(&format!(
            "{SECRETS}silences:\n- name: known\n  certificates: [shop-tls]\n  until: 2027-01-03T00:00:00Z\n"
        ));
    })
    .at(
        day(1),
        "the Secret gets another certificate, just as short: that is silenced too",
        |stage| {
            stage.secret("shop-tls", &days("shop.example.com", -81, 10));
        },
    )
    .quiet(day(1) + hours(1), day(2))
    .end(day(2) + hours(12))
    .tell();
}

#[test]
fn silenced_from_the_start() {
    Story::new(
        "silenced_from_the_start",
        "What is silenced when it begins is told when the silence ends, if it is still true by then; what was renewed
meanwhile is never spoken of.",
    )
    .at(
        minutes(0),
        "a monitor with a silence until day 2, and two Secrets that end soon",
        |stage| {
            stage.secret("shop-tls", &days("shop.example.com", -80, 10));
            stage.secret("api-tls", &days("api.example.com", -80, 10));
            stage.monitor(&format!(
                "{SECRETS}silences:\n- name: move\n  until: 2027-01-03T00:00:00Z\n"
            ));
        },
    )
    .at(day(1), "one is renewed", |stage| {
        stage.secret("api-tls", &days("api.example.com", 1, 91));
    })
    .end(day(2) + hours(3))
    .tell();
}

#[test]
fn sink_added_while_firing() {
    Story::new(
        "sink_added_while_firing",
        "A second sink is added while an alert is open: it is told at once what is open, and the first one isn't told
again. When it is taken out again, it isn't told of the end.",
    )
    .at(minutes(0), "a monitor and a Secret that ends on day 10", |stage| {
        stage.secret("shop-tls", &days("shop.example.com", -80, 10));
        stage.secret("api-tls", &days("api.example.com", -79, 11));
        stage.monitor(SECRETS);
    })
    .at(hours(5), "a second sink", |stage| {
        stage.monitor(&format!(
            "{SECRETS}- name: ops\n  webhook: {{url: https://hooks.example/two}}\n"
        ));
    })
    .at(hours(8), "one certificate is renewed", |stage| {
        stage.secret("shop-tls", &days("shop.example.com", 0, 90));
    })
    .at(hours(12), "the second sink is taken out", |stage| {
        stage.monitor(SECRETS);
    })
    .at(hours(15), "the other certificate is renewed", |stage| {
        stage.secret("api-tls", &days("api.example.com", 0, 90));
    })
    .quiet(hours(16), day(60))
    .tell();
}

#[test]
fn suspended_and_resumed() {
    Story::new(
        "suspended_and_resumed",
        "A monitor is suspended. One certificate is renewed meanwhile, another one becomes critical: nothing is written or
told. On resume, one message tells the difference.",
    )
    .at(minutes(0), "a monitor and two Secrets that end soon", |stage| {
        stage.secret("shop-tls", &days("shop.example.com", -80, 10));
        stage.secret("api-tls", &days("api.example.com", -81, 9));
        stage.monitor(SECRETS);
    })
    .at(hours(5), "it is suspended", |stage| stage.monitor(&format!("suspend: true\n{SECRETS}")))
    .at(day(1), "one certificate is renewed", |stage| {
        stage.secret("shop-tls", &days("shop.example.com", 1, 91));
    })
    .quiet(day(1) + hours(1), day(4))
    .at(day(4), "it is resumed", |stage| stage.monitor(SECRETS))
    .end(day(4) + hours(2))
    .tell();
}

#[test]
fn ends_that_are_not_told() {
    Story::new(
        "ends_that_are_not_told",
        "A sink with sendResolved: false is never told of an end; what ended is forgotten, so that a new episode is told
again. Beside it, a sink that asks for critical alerts alone.",
    )
    .at(minutes(0), "a monitor with two sinks, and a Secret in its warning", |stage| {
        stage.secret("shop-tls", &days("shop.example.com", -80, 10));
        stage.monitor(
            "
sources:
- name: tls
  secrets: {}
sinks:
- name: quiet
  webhook: {url: https://hooks.example/quiet}
  sendResolved: false
- name: pager
  webhook: {url: https://hooks.example/pager}
  minSeverity: Critical
",
        );
    })
    .at(hours(5), "it is renewed", |stage| stage.secret("shop-tls", &days("shop.example.com", 0, 90)))
    .quiet(hours(6), day(1))
    .at(day(1), "a critical one is put there by mistake", |stage| {
        stage.secret("shop-tls", &days("shop.example.com", -87, 3));
    })
    .at(day(1) + hours(5), "and replaced", |stage| {
        stage.secret("shop-tls", &days("shop.example.com", 0, 90));
    })
    .quiet(day(2), day(30))
    .tell();
}

#[test]
fn monitor_deleted_and_made_again() {
    Story::new(
        "monitor_deleted_and_made_again",
        "A monitor is deleted while an alert is open: nobody is told. It is made again before the garbage collector has
come: the ledger is taken over with what was told, so that the sink isn't told again, and hears of the end.",
    )
    .at(minutes(0), "a monitor and a Secret that ends on day 10", |stage| {
        stage.secret("shop-tls", &days("shop.example.com", -80, 10));
        stage.monitor(SECRETS);
    })
    .at(hours(5), "the monitor is deleted", |stage| {
        stage.api.delete_monitor(&monitor_key());
    })
    .quiet(hours(5) + minutes(10), hours(6))
    .at(hours(6), "it is made again", |stage| stage.monitor(SECRETS))
    .at(hours(9), "the certificate is renewed", |stage| {
        stage.secret("shop-tls", &days("shop.example.com", 0, 90));
    })
    .quiet(hours(10), day(30))
    .tell();
}

#[test]
fn right_withdrawn_and_granted() {
    Story::new(
        "right_withdrawn_and_granted",
        "The right to list Secrets is withdrawn while an alert is open. That is said; nothing is resolved, and what was open
stays in status, even where the operator is restarted. When the right is granted again, what happened meanwhile is told.",
    )
    .at(minutes(0), "a monitor and a Secret that ends on day 10", |stage| {
        stage.secret("shop-tls", &days("shop.example.com", -80, 10));
        stage.monitor(SECRETS);
    })
    .at(hours(5), "the right is withdrawn", |stage| stage.api.forbid_secrets(true))
    .quiet(hours(6), hours(20))
    .at(day(1), "the certificate is renewed, which is not seen", |stage| {
        stage.secret("shop-tls", &days("shop.example.com", 0, 90));
    })
    .at(day(2), "the right is granted", |stage| stage.api.forbid_secrets(false))
    .quiet(day(2) + hours(1), day(30))
    .tell();
}

#[test]
fn spec_that_cannot_be_read() {
    Story::new(
        "spec_that_cannot_be_read",
        "A spec that an older schema let in: the monitor stalls, says so once in an Event and in words, and what was known
stays. Nothing is told meanwhile. Then it is mended.",
    )
    .at(minutes(0), "a monitor and a Secret that ends on day 30", |stage| {
        stage.secret("shop-tls", &days("shop.example.com", -60, 30));
        stage.monitor(SECRETS);
    })
    .at(hours(5), "an interval that is no duration", |stage| {
        stage.monitor(&format!("{SECRETS}probe: {{interval: often}}\n"));
    })
    .quiet(hours(6), day(12))
    .at(day(12), "it is mended", |stage| stage.monitor(SECRETS))
    .quiet(day(12) + hours(1), day(14))
    .tell();
}
