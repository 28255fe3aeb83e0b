//! Ingresses: what is stored, what is served, and the moments in between.

use crate::support::{
    certificates::days,
    stage::Stage,
    story::{Story, day, hours, minutes, seconds},
};

const ADDRESS: &str = "192.0.2.20";

const INGRESSES: &str = "
sources:
- name: web
  ingresses: {}
sinks:
- name: hook
  webhook: {url: https://hooks.example/one}
";

fn serves(stage: &Stage, from: i64, until: i64) {
    stage.servers.serve(ADDRESS, &days("shop.example.com", from, until));
}

#[test]
fn fresh_ingress() {
    Story::new(
        "fresh_ingress",
        "An Ingress is applied; its address comes three minutes later, its certificate five. In between, the Secret is
missing, and there is no address: that stands in status at once, and is told to nobody, since it is somebody's work in
progress. Later another Ingress is applied for good without a Secret: that is told.",
    )
    .at(minutes(0), "a monitor of Ingresses; there is none", |stage| {
        stage.monitor(INGRESSES);
    })
    .quiet(minutes(15), hours(1))
    .at(hours(1), "an Ingress is applied", |stage| {
        stage.ingress("shop", "shop.example.com", "shop-tls", None);
    })
    .at(
        hours(1) + minutes(3),
        "it gets its address; the controller serves nothing yet",
        |stage| {
            stage.ingress("shop", "shop.example.com", "shop-tls", Some(ADDRESS));
        },
    )
    .at(
        hours(1) + minutes(5),
        "the certificate is issued, and served",
        |stage| {
            stage.secret("shop-tls", &days("shop.example.com", 0, 90));
            serves(stage, 0, 90);
        },
    )
    .quiet(hours(2), day(3))
    .at(day(3), "another Ingress comes, and its Secret never", |stage| {
        stage.ingress("forgotten", "forgotten.example.com", "forgotten-tls", Some(ADDRESS));
    })
    .end(day(4))
    .tell();
}

#[test]
fn reload_of_45_seconds() {
    Story::new(
        "reload_of_45_seconds",
        "A certificate is renewed, and the server serves the old one for 45 seconds more. The look that the changed Secret
brings sees the difference; it is gone at the next, and nobody is told.",
    )
    .at(minutes(0), "a monitor, an Ingress and its certificate", |stage| {
        stage.secret("shop-tls", &days("shop.example.com", -60, 30));
        stage.ingress("shop", "shop.example.com", "shop-tls", Some(ADDRESS));
        serves(stage, -60, 30);
        stage.monitor(INGRESSES);
    })
    .quiet(minutes(15), day(5))
    .at(day(5), "the Secret is renewed", |stage| {
        stage.secret("shop-tls", &days("shop.example.com", 5, 95));
    })
    .at(day(5) + seconds(45), "the server serves it", |stage| serves(stage, 5, 95))
    .quiet(day(5) + hours(1), day(9))
    .tell();
}

#[test]
fn renewed_and_not_reloaded() {
    Story::new(
        "renewed_and_not_reloaded",
        "A certificate is renewed in time, and the server goes on serving the old one: after a second sight and ten
minutes that is told, three weeks before the old one's threshold. When the server is restarted, it is resolved.",
    )
    .at(minutes(0), "a monitor, an Ingress and its certificate", |stage| {
        stage.secret("shop-tls", &days("shop.example.com", -45, 45));
        stage.ingress("shop", "shop.example.com", "shop-tls", Some(ADDRESS));
        serves(stage, -45, 45);
        stage.monitor(INGRESSES);
    })
    .at(day(2), "the Secret is renewed", |stage| {
        stage.secret("shop-tls", &days("shop.example.com", 2, 92));
    })
    .at(day(4), "the server is restarted", |stage| serves(stage, 2, 92))
    .quiet(day(4) + hours(1), day(9))
    .tell();
}
