//! The stories.

mod bounds;
mod crashes;
mod delivery;
mod dialled;
mod edits;
mod ingress;
mod lives;
mod panics;
mod trust;

/// A sink without a Secret, and one source: every TLS Secret of the namespace.
pub(crate) const SECRETS: &str = "
sources:
- name: tls
  secrets: {}
sinks:
- name: hook
  webhook: {url: https://hooks.example/one}
";

/// One endpoint, looked at every hour.
pub(crate) const ENDPOINT: &str = "
sources:
- name: public
  endpoints:
  - host: www.example.com
sinks:
- name: hook
  webhook: {url: https://hooks.example/one}
";

/// What must be told, by the names that the stories have.
const NAMED: [(&str, &str); 19] = [
    ("a certificate lives for 90 days", "ninety_days"),
    ("and one for 24 hours", "twenty_four_hours"),
    ("a renewal", "renewal"),
    ("a renewal to one that is still short", "renewal_to_a_short_one"),
    ("unreachable, then expired", "unreachable_then_expired"),
    ("a fresh Ingress whose address and Secret come later", "fresh_ingress"),
    ("a reload that takes 45 s", "reload_of_45_seconds"),
    ("a flapping server", "flapping_server"),
    ("a threshold is edited", "threshold_edited"),
    ("a silence begins and ends", "silence_begins_and_ends"),
    ("a sink is added while an alert fires", "sink_added_while_firing"),
    ("a sink is down for a day", "sink_down_for_a_day"),
    ("a Secret is deleted and back", "secret_deleted_and_back"),
    ("a monitor is suspended", "suspended_and_resumed"),
    ("the clock is set back", "clock_set_back"),
    (
        "unreachable at a restart, then expired",
        "unreachable_at_restart_then_expired",
    ),
    (
        "sent, killed before it was recorded, renewed meanwhile",
        "sent_killed_renewed",
    ),
    ("sendResolved: false", "ends_that_are_not_told"),
    ("a monitor is deleted and made again", "monitor_deleted_and_made_again"),
];

#[test]
fn every_story_that_must_be_told_has_its_timeline() {
    let golden = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/timelapse/golden");
    let sources = concat!(
        include_str!("crashes.rs"),
        include_str!("delivery.rs"),
        include_str!("dialled.rs"),
        include_str!("edits.rs"),
        include_str!("ingress.rs"),
        include_str!("lives.rs"),
    );
    for (what, name) in NAMED {
        assert!(
            golden.join(format!("{name}.snap")).is_file(),
            "{what}: no golden timeline {name}"
        );
        assert!(
            sources.contains(&format!("#[test]\nfn {name}() {{\n    Story::new(\n        \"{name}\"")),
            "{what}"
        );
    }
    // One alone may end the same by another way.
    assert_eq!(sources.matches(".by_its_end()").count(), 1);
}
