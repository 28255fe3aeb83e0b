//! Certificates' lives: thresholds, renewals, ends.

use super::SECRETS;
use crate::support::{
    certificates::{days, leaf},
    story::{Story, day, hours, minutes},
};

#[test]
fn ninety_days() {
    Story::new(
        "ninety_days",
        "A certificate lives for 90 days and nobody renews it. A level has two limits and is entered at the later
moment: the warning comes 21 days before the end (25 % of its life would be day 67 and a half), the critical level 7
days before (10 % would be day 81). Reminders follow: a warning's every 7 days, a critical one's every day.",
    )
    .at(minutes(0), "a monitor and a Secret are applied", |stage| {
        stage.secret("shop-tls", &days("shop.example.com", 0, 90));
        stage.monitor(SECRETS);
    })
    .quiet(minutes(5), day(69))
    .quiet(day(70), day(75))
    .end(day(91) + hours(1))
    .tell();
}

#[test]
fn twenty_four_hours() {
    Story::new(
        "twenty_four_hours",
        "A certificate lives for 24 hours. Days say nothing about it, so the thresholds are percentages of its life:
25 % is 6 hours, 10 % is 2 hours and 24 minutes. It is renewed in time, and then once too late.",
    )
    .at(minutes(0), "a monitor and a Secret are applied", |stage| {
        stage.secret("mesh", &leaf("mesh.example.com", hours(0), hours(24)));
        stage.monitor(
            "
sources:
- name: identities
  secrets: {}
thresholds:
  warning: {remainingPercent: 25}
  critical: {remainingPercent: 10}
sinks:
- name: hook
  webhook: {url: https://hooks.example/one}
",
        );
    })
    .quiet(minutes(5), hours(16))
    .at(hours(16), "it is renewed in time", |stage| {
        stage.secret("mesh", &leaf("mesh.example.com", hours(16), hours(40)));
    })
    .quiet(hours(17), hours(33))
    .at(hours(38), "it is renewed late", |stage| {
        stage.secret("mesh", &leaf("mesh.example.com", hours(38), hours(62)));
    })
    .quiet(hours(39), hours(55))
    .end(hours(55))
    .tell();
}

#[test]
fn renewal() {
    Story::new(
        "renewal",
        "Two certificates are about to expire. One is renewed, then the other: two resolves, and each names the new
certificate. A renewal that comes in time is told to nobody.",
    )
    .at(minutes(0), "a monitor and two Secrets are applied", |stage| {
        stage.secret("shop-tls", &days("shop.example.com", -80, 10));
        stage.secret("api-tls", &days("api.example.com", -70, 20));
        stage.monitor(SECRETS);
    })
    .at(hours(5), "one is renewed", |stage| {
        stage.secret("shop-tls", &days("shop.example.com", 0, 90));
    })
    .at(hours(9), "and the other", |stage| {
        stage.secret("api-tls", &days("api.example.com", 0, 90));
    })
    .quiet(hours(10), day(30))
    .at(day(30), "both are renewed in time", |stage| {
        stage.secret("shop-tls", &days("shop.example.com", 30, 120));
        stage.secret("api-tls", &days("api.example.com", 30, 120));
    })
    .quiet(day(31), day(60))
    .tell();
}

#[test]
fn renewal_to_a_short_one() {
    Story::new(
        "renewal_to_a_short_one",
        "A certificate that is critical is replaced by one that is still too short: the level falls, the episode goes
on, and nobody is told that anything is fine. The next replacement ends it.",
    )
    .at(minutes(0), "a monitor and a Secret are applied", |stage| {
        stage.secret("shop-tls", &days("shop.example.com", -85, 5));
        stage.monitor(SECRETS);
    })
    .at(hours(5), "the new certificate lasts for 12 days", |stage| {
        stage.secret("shop-tls", &days("shop.example.com", -78, 12));
    })
    .quiet(hours(6), day(5))
    .at(day(6) + hours(1), "this one lasts", |stage| {
        stage.secret("shop-tls", &days("shop.example.com", 6, 96));
    })
    .quiet(day(7), day(70))
    .tell();
}

#[test]
fn secret_deleted_and_back() {
    Story::new(
        "secret_deleted_and_back",
        "A Secret that the monitor names is deleted while its certificate is about to expire. That it is missing is
held back for ten minutes (somebody may be at work) and then told; the alert about its certificate ends with it, and
doesn't say that anything was mended.",
    )
    .at(minutes(0), "a monitor that names a Secret", |stage| {
        stage.secret("shop-tls", &days("shop.example.com", -80, 10));
        stage.monitor(
            "
sources:
- name: shop
  secrets: {names: [shop-tls]}
sinks:
- name: hook
  webhook: {url: https://hooks.example/one}
",
        );
    })
    .at(hours(2), "the Secret is deleted", |stage| {
        stage.delete_secret("shop-tls");
    })
    .at(hours(4), "it is back, with a new certificate", |stage| {
        stage.secret("shop-tls", &days("shop.example.com", 0, 90));
    })
    .at(hours(6), "it is deleted, and back within the ten minutes", |stage| {
        stage.delete_secret("shop-tls");
    })
    .at(hours(6) + minutes(5), "back", |stage| {
        stage.secret("shop-tls", &days("shop.example.com", 0, 90));
    })
    .quiet(hours(7), day(60))
    .tell();
}

#[test]
fn clock_set_back() {
    Story::new(
        "clock_set_back",
        "The wall clock is set back by half an hour, right after the warning was told. Nothing is taken back and nothing
is said twice; what comes next comes by the new clock.",
    )
    .at(minutes(0), "a monitor, and a certificate that enters its warning in an hour", |stage| {
        stage.secret("shop-tls", &leaf("shop.example.com", hours(1) - day(69), day(21) + hours(1)));
        stage.monitor(SECRETS);
    })
    .at(hours(1) + minutes(10), "the clock is set back by 30 minutes", |stage| {
        stage.clock.jump(minutes(-30));
    })
    .quiet(hours(1) + minutes(50), day(6))
    .at(day(10), "the certificate is renewed", |stage| {
        stage.secret("shop-tls", &days("shop.example.com", 10, 100));
    })
    .end(day(11))
    .tell();
}
