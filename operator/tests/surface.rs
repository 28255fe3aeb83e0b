//! What people type and scrape: the command line, the reasons and the metrics' names, as committed.

#![allow(clippy::unwrap_used, reason = "a test that can't read what it tests has failed")]

use certmon::{cluster::Key, metrics::Metrics};
use certmon_core::{
    delivery::{Failure, FailureClass, Outcome},
    reason::Reason,
};
use chrono::DateTime;
use std::{
    collections::BTreeMap,
    process::{Command, Output},
};
use strum::IntoEnumIterator;

/// The program with an environment of its own: a variable of ours would show in `--help`.
fn certmon(args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_certmon"));
    command.args(args).env_clear().output().unwrap()
}

#[track_caller]
fn says(args: &[&str]) -> String {
    let output = certmon(args);
    assert!(output.status.success(), "{args:?}: {output:?}");
    assert!(output.stderr.is_empty(), "{args:?}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn help_is_as_committed() {
    insta::assert_snapshot!("help", says(&["--help"]));
    insta::assert_snapshot!("help_run", says(&["run", "--help"]));
}

#[test]
fn every_flag_has_an_environment_variable_that_help_shows() {
    let help = says(&["run", "--help"]);
    let flags: Vec<&str> = help
        .lines()
        .filter_map(|line| line.trim_start().strip_prefix("--")?.split_whitespace().next())
        .collect();
    assert!(flags.len() >= 10, "{flags:?}");
    for flag in flags {
        let variable = format!("[env: CERTMON_{}=", flag.to_uppercase().replace('-', "_"));
        assert!(help.contains(&variable), "--{flag}: no {variable} in\n{help}");
    }
}

#[test]
fn every_reason_is_listed_and_explained() {
    let list = says(&["explain"]);
    let entries = list.lines().filter_map(|line| line.strip_prefix("  "));
    let listed: Vec<&str> = entries.filter_map(|line| line.split_whitespace().next()).collect();
    let all: Vec<&str> = Reason::iter().map(Reason::name).collect();
    assert_eq!(listed, all);
    for reason in Reason::iter() {
        let text = says(&["explain", reason.name()]);
        assert!(text.starts_with(reason.name()), "{text}");
        assert!(text.contains(reason.meaning()), "{text}");
    }
    let headings: Vec<&str> = list
        .lines()
        .filter(|line| !line.starts_with(' '))
        .filter_map(|line| line.split_once(": ").map(|(heading, _)| heading))
        .collect();
    assert_eq!(headings, ["Findings", "Conditions", "Sinks", "Events"]);
    insta::assert_snapshot!("explain_expiring_soon", says(&["explain", "ExpiringSoon"]));
}

#[test]
fn a_reason_that_is_none_gets_a_hint() {
    for (asked, hint) in [
        ("Expir", "Did you mean ExpiringSoon or ExpiryCritical or Expired?"),
        ("Unreachabel", "Did you mean Unreachable?"),
        ("xyzzy", "is no reason that certmon gives. `certmon explain`"),
    ] {
        let output = certmon(&["explain", asked]);
        assert_eq!(output.status.code(), Some(2), "{output:?}");
        assert!(output.stdout.is_empty(), "{output:?}");
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(said.contains(hint), "{asked}: {said}");
        assert!(said.contains("`certmon explain` lists all of them"), "{asked}: {said}");
    }
}

#[test]
fn the_crds_are_those_that_are_committed() {
    let generated = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../crd/generated");
    let mut committed: Vec<_> = std::fs::read_dir(generated)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    committed.sort();
    let printed = says(&["crds"]);
    let texts = committed.iter().map(|path| std::fs::read_to_string(path).unwrap());
    let without_marks = |text: &str| {
        let kept: Vec<&str> = text
            .lines()
            .filter(|line| *line != "---" && !line.starts_with('#'))
            .collect();
        kept.join("\n")
    };
    let mut documents: Vec<String> = printed
        .split("---\n")
        .map(without_marks)
        .filter(|text| !text.is_empty())
        .collect();
    documents.sort();
    let mut expected: Vec<String> = texts.map(|text| without_marks(&text)).collect();
    expected.sort();
    assert_eq!(documents, expected, "make crds");
}

#[test]
fn the_version_is_the_crate_s() {
    assert_eq!(says(&["version"]), format!("certmon {}\n", env!("CARGO_PKG_VERSION")));
    assert_eq!(says(&["--version"]), format!("certmon {}\n", env!("CARGO_PKG_VERSION")));
}

#[test]
fn a_flag_that_is_none_is_refused_with_the_way_out() {
    let output = certmon(&["run", "--watch-namespaces", "shop"]);
    assert!(!output.status.success());
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains("--watch-namespace"), "{said}");
}

#[test]
fn what_is_no_namespace_is_refused() {
    for name in ["", "Not_A_Name", "a/../b", " shop", "-a", "a-", "a,,b", &"a".repeat(64)] {
        let output = certmon(&["run", &format!("--watch-namespace={name}")]);
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(!output.status.success(), "{name:?}: {said}");
        assert!(said.contains("must be the name of a namespace"), "{name:?}: {said}");
    }
}

#[test]
fn the_metrics_have_the_names_that_are_committed() {
    let metrics = Metrics::new();
    // A family with labels shows when it has something to count.
    metrics.source_failed("Secret", Reason::SourceForbidden);
    let delivered = Outcome::Delivered {
        thread: BTreeMap::new(),
        rejected_recipients: 0,
    };
    let refused = Outcome::Failed(Failure {
        class: FailureClass::Connect,
        code: None,
        retry_after: None,
    });
    let (key, now) = (Key::new("shop", "shop"), DateTime::UNIX_EPOCH);
    metrics.delivered("slack", &delivered, &key, "team", now);
    metrics.delivered("webhook", &refused, &key, "hook", now);
    let text = metrics.encode().unwrap();
    for line in [
        "certmon_source_errors_total{source_kind=\"Secret\",reason=\"SourceForbidden\"} 1",
        "certmon_notifications_total{sink_type=\"slack\",result=\"delivered\"} 1",
        "certmon_notifications_total{sink_type=\"webhook\",result=\"DeliveryFailed\"} 1",
    ] {
        assert!(text.lines().any(|known| known == line), "no {line} in\n{text}");
    }
    let named: Vec<&str> = text.lines().filter(|line| line.starts_with('#')).collect();
    insta::assert_snapshot!("metrics", named.join("\n"));
}
