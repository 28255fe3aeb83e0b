//! What is dialled: servers that fail, come back, and come and go.

use super::ENDPOINT;
use crate::support::{
    certificates::{days, leaf},
    servers::Serves,
    stage::Stage,
    story::{Story, day, hours, minutes},
};
use certmon_core::target::ProbeFailure;

const WWW: &str = "192.0.2.10";

fn up(stage: &Stage, from: i64, until: i64) {
    stage.servers.resolve("www.example.com", &[WWW]);
    stage.servers.serve(WWW, &days("www.example.com", from, until));
}

#[test]
fn quiet_server() {
    Story::new(
        "quiet_server",
        "A server that is fine is looked at once an hour, and nothing is written. A restart in the midst of it changes
nothing: what was seen stands in the ledger, and nothing is dialled early.",
    )
    .at(minutes(0), "a monitor of one endpoint", |stage| {
        up(stage, 0, 90);
        stage.monitor(ENDPOINT);
    })
    .quiet(minutes(5), day(2))
    .quiet(day(2) + minutes(30), day(8))
    .at(day(8), "the server is renewed", |stage| up(stage, 8, 98))
    .quiet(day(9), day(20))
    .tell();
}

/// Thresholds of three days and one.
fn short_thresholds() -> String {
    format!("{ENDPOINT}thresholds:\n  warning: {{remaining: 3d}}\n  critical: {{remaining: 1d}}\n")
}

#[test]
fn unreachable_then_expired() {
    Story::new(
        "unreachable_then_expired",
        "A server stops answering two days before its certificate ends. That is a finding of its own; it hides nothing:
the certificate that was seen last expires on time, in the server's absence. Then it answers again, with a new one.",
    )
    .at(
        minutes(0),
        "a monitor of one endpoint whose certificate ends on day 6; thresholds of 3 days and 1",
        |stage| {
            up(stage, -84, 6);
            stage.monitor(&short_thresholds());
        },
    )
    .quiet(minutes(5), day(3))
    .at(day(4), "connections are refused", |stage| {
        stage.servers.set(WWW, Serves::Fails(ProbeFailure::Refused));
    })
    .at(day(7), "it answers again, with a new certificate", |stage| {
        up(stage, 7, 97);
    })
    .quiet(day(7) + hours(6), day(12))
    .tell();
}

#[test]
fn unreachable_at_restart_then_expired() {
    Story::new(
        "unreachable_at_restart_then_expired",
        "A server is unreachable when the operator is restarted, and its certificate expires before it answers again.
The new process has never seen that certificate; the ledger has.",
    )
    .at(
        minutes(0),
        "a monitor of one endpoint whose certificate ends on day 6; thresholds of 3 days and 1",
        |stage| {
            up(stage, -84, 6);
            stage.monitor(&short_thresholds());
        },
    )
    .at(day(2), "connections time out", |stage| {
        stage.servers.set(WWW, Serves::Fails(ProbeFailure::TimedOut));
    })
    .step(day(2) + hours(5), "the operator is killed and started again", |stage| {
        Box::pin(async { stage.restart().await })
    })
    .end(day(6) + hours(12))
    .tell();
}

#[test]
fn wrong_name_over_a_restart() {
    Story::new(
        "wrong_name_over_a_restart",
        "A server has a certificate of another name. After a restart the ledger remembers the certificate, and not every
verdict on it: what is open stays open, in status too, until the next look says otherwise.",
    )
    .at(minutes(0), "a monitor of one endpoint that serves another's certificate", |stage| {
        stage.servers.resolve("www.example.com", &[WWW]);
        stage.servers.serve(WWW, &days("other.example.com", 0, 90));
        stage.monitor(ENDPOINT);
    })
    .quiet(hours(1), hours(20))
    .step(hours(30), "the operator is killed and started again", |stage| {
        Box::pin(async { stage.restart().await })
    })
    .at(hours(40), "the server gets its own certificate", |stage| up(stage, 1, 91))
    .quiet(hours(50), day(10))
    .tell();
}

#[test]
fn flapping_server() {
    Story::new(
        "flapping_server",
        "A server answers at one look and not at the next. Three failures in a row are asked for, so nothing is told. In the
end it stays away, and that is told.",
    )
    .at(minutes(0), "a monitor of one endpoint", |stage| {
        up(stage, 0, 90);
        stage.monitor(ENDPOINT);
    })
    .at(hours(1) + minutes(20), "the server flaps", |stage| {
        let chain = vec![days("www.example.com", 0, 90).der];
        stage.servers.set(WWW, Serves::Flaps(chain, ProbeFailure::Closed));
    })
    .at(hours(12), "it stays away", |stage| {
        stage.servers.set(WWW, Serves::Fails(ProbeFailure::Closed));
    })
    .end(hours(20))
    .by_its_end()
    .tell();
}

#[test]
fn one_address_of_two() {
    Story::new(
        "one_address_of_two",
        "A name has two addresses. One of them is left out when the certificate is renewed: the worst counts, and what
ends on one address goes on on the other. That they differ is told after a second sight and ten minutes.",
    )
    .at(minutes(0), "a monitor of one endpoint with two addresses", |stage| {
        stage.servers.resolve("www.example.com", &[WWW, "192.0.2.11"]);
        let certificate = days("www.example.com", -75, 15);
        stage.servers.serve(WWW, &certificate);
        stage.servers.serve("192.0.2.11", &certificate);
        stage.monitor(ENDPOINT);
    })
    .at(hours(10), "one address gets the new certificate", |stage| {
        stage.servers.serve(WWW, &days("www.example.com", 0, 90));
    })
    .at(hours(20), "the other one too", |stage| {
        stage.servers.serve("192.0.2.11", &days("www.example.com", 0, 90));
    })
    .quiet(hours(30), day(10))
    .tell();
}

#[test]
fn short_lived_server() {
    Story::new(
        "short_lived_server",
        "A server's certificate lives for six days: with less than 20 hours left, looks come more often than hourly, so
that a late renewal is seen soon.",
    )
    .at(minutes(0), "a monitor of one endpoint", |stage| {
        stage.servers.resolve("www.example.com", &[WWW]);
        stage.servers.serve(WWW, &leaf("www.example.com", hours(0), day(6)));
        stage.monitor(
            "
sources:
- name: public
  endpoints:
  - host: www.example.com
thresholds:
  warning: {remainingPercent: 25}
  critical: {remainingPercent: 10}
sinks:
- name: hook
  webhook: {url: https://hooks.example/one}
",
        );
    })
    .quiet(minutes(5), day(4) + hours(12))
    .at(
        day(5) + hours(20),
        "the server is renewed, four hours before the end",
        |stage| {
            stage
                .servers
                .serve(WWW, &leaf("www.example.com", day(5) + hours(20), day(11) + hours(20)));
        },
    )
    .quiet(day(5) + hours(21), day(9))
    .tell();
}

#[test]
fn refused_then_permitted() {
    Story::new(
        "refused_then_permitted",
        "An endpoint's address is refused by the egress policy: that is told at once. Then the admin permits it. The first
look that dials ends that, whatever it comes to; refusals were no attempts, so that a server that is a minute late is not
called unreachable.",
    )
    .at(minutes(0), "a monitor of one endpoint, which the policy refuses", |stage| {
        stage.servers.resolve("www.example.com", &[WWW]);
        stage.servers.set(WWW, Serves::NotPermitted);
        stage.monitor(ENDPOINT);
    })
    .quiet(minutes(5), hours(20))
    .at(day(1), "the admin permits it; nobody listens there yet", |stage| {
        stage.servers.set(WWW, Serves::Fails(ProbeFailure::Refused));
        stage.api.policy_changed();
    })
    .at(day(1) + minutes(1), "the server is started", |stage| up(stage, 0, 90))
    .quiet(day(1) + hours(1), day(10))
    .at(day(10), "the admin takes it back", |stage| {
        stage.servers.set(WWW, Serves::NotPermitted);
        stage.api.policy_changed();
    })
    .end(day(10) + hours(2))
    .tell();
}

#[test]
fn never_reached() {
    Story::new(
        "never_reached",
        "Nobody has ever listened at an endpoint. That may be somebody's work in progress: it stands in status soon, and is
told when it has lasted for ten minutes and one more look has found it so. Then it is looked at in its turn, and no more often.",
    )
    .at(minutes(0), "a monitor of one endpoint", |stage| {
        stage.servers.resolve("www.example.com", &[WWW]);
        stage.monitor(ENDPOINT);
    })
    .quiet(hours(1), hours(20))
    .at(day(1), "the server is started", |stage| up(stage, 0, 90))
    .quiet(day(1) + hours(1), day(5))
    .tell();
}

#[test]
fn never_resolved() {
    Story::new("never_resolved", "As never_reached, of a name that has no record.")
        .at(minutes(0), "a monitor of one endpoint", |stage| stage.monitor(ENDPOINT))
        .quiet(hours(1), hours(20))
        .at(day(1), "the name gets its record", |stage| up(stage, 0, 90))
        .quiet(day(1) + hours(1), day(5))
        .tell();
}

#[test]
fn endpoint_that_is_no_host() {
    Story::new(
        "endpoint_that_is_no_host",
        "An older schema let `127.1` in beside a good endpoint. That is that endpoint's trouble alone, in the words of any
target that isn't permitted; nothing is dialled for it, and the other one is watched as ever. It ends when the spec is
mended.",
    )
    .at(minutes(0), "a monitor of two endpoints, one of which is none", |stage| {
        up(stage, 0, 90);
        stage.monitor(&ENDPOINT.replace("sinks:", "  - {host: \"127.1\"}\nsinks:"));
    })
    .quiet(minutes(5), day(2))
    .at(day(2), "the spec is mended", |stage| stage.monitor(ENDPOINT))
    .quiet(day(2) + hours(1), day(4))
    .tell();
}
