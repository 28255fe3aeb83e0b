//! The admin's file: what is wrong is said with file, line and cause.
#![allow(clippy::unwrap_used, reason = "a test may")]

use certmon_egress::{Limits, Policy};

#[test]
fn a_file_without_entries_is_the_default() {
    for text in ["{}", "# nothing yet\n{}\n", "allow: []\ndeny: []\n"] {
        assert_eq!(
            Policy::parse(text, "egress.yaml").unwrap(),
            Policy::default(),
            "{text:?}"
        );
    }
    let limits = Policy::default().limits();
    assert_eq!(
        [
            limits.concurrent,
            limits.concurrent_per_namespace,
            limits.concurrent_per_address
        ]
        .map(std::num::NonZero::get),
        [512, 32, 4]
    );
}

#[test]
fn an_empty_file_is_none() {
    for text in ["", " \n", "# nothing yet\n", "---\n", "null\n", "~"] {
        let error = Policy::parse(text, "egress.yaml").unwrap_err().to_string();
        assert_eq!(
            error, "egress.yaml: the file is empty; write `{}` where the built-in rules are all that is wanted",
            "{text:?}"
        );
    }
}

#[test]
fn a_whole_file_is_read() {
    let text = "
allow:
  - namespaces: [shop, blog]
    cidrs: [10.20.0.0/16, 'fd00:1::/64']
    ports: [443, 5432]
deny:
  - namespaces: ['*']
    cidrs: [10.20.30.0/24]
ports:
  sinks: [443]
  endpoints: [443, 10250]
limits:
  concurrent: 64
  concurrentPerNamespace: 16
  concurrentPerAddress: 2
  perSecond: 50
  perSecondPerNamespace: 5
  burstPerNamespace: 20
";
    let limits = Policy::parse(text, "egress.yaml").unwrap().limits();
    assert_ne!(limits, Limits::default());
    assert_eq!(limits.burst_per_namespace.get(), 20);
}

/// What the page shows is read, and its limits, which it calls the defaults, are.
#[test]
fn the_whole_file_of_the_documentation_is_read() {
    let page = include_str!("../../../docs/egress-policy.md");
    let (_, rest) = page.split_once("```yaml\n").unwrap();
    let (file, _) = rest.split_once("```").unwrap();
    let policy = Policy::parse(file, "egress.yaml").unwrap();
    assert_ne!(policy, Policy::default());
    assert_eq!(policy.limits(), Limits::default());
}

#[test]
fn what_is_wrong_is_said_with_file_line_and_cause() {
    for (text, line, cause) in [
        (
            "allow:\n  - namespaces: [a]\n    cidrs: [10.0.0.0/33]\n",
            3,
            "not a CIDR",
        ),
        (
            "allow:\n  - namespaces: [a]\n    cidrs: [10.0.0.1]\n",
            3,
            "write `10.0.0.1/32`",
        ),
        (
            "allow:\n  - namespaces: [a]\n    cidrs: [10.0.0.1/8]\n",
            3,
            "write `10.0.0.0/8`",
        ),
        (
            "allow:\n  - namespaces: [a]\n    cidrs: ['::ffff:10.0.0.0/104']\n",
            3,
            "write the IPv4 CIDR",
        ),
        ("allow:\n  - namespaces: [a]\n    cidrs: []\n", 3, "the list is empty"),
        (
            "allow:\n  - namespaces: [a]\n    cidrs: [10.0.0.0/8]\n    ports: [0]\n",
            4,
            "0 is no port",
        ),
        ("ports:\n  sinks:\n  - 443\n  - 65536\n", 4, "65536 is no port"),
        ("ports:\n  sink: [443]\n", 2, "unknown"),
        ("allow:\n  - namespaces: [a]\n    cidr: [10.0.0.0/8]\n", 3, "unknown"),
        (
            "allow:\n  - namespaces: ['team-*']\n    cidrs: [10.0.0.0/8]\n",
            2,
            "there are no other patterns",
        ),
        ("deny:\n  - cidrs: [10.0.0.0/8]\n", 2, "missing field"),
        ("limits:\n  concurrent: 0\n", 2, "0 is no limit"),
        ("limits:\n  concurrent: 10\n  concurrent: 20\n", 3, "duplicate"),
        ("allowed: []\n", 1, "unknown"),
        ("allow: [\n", 1, "unclosed"),
    ] {
        let error = Policy::parse(text, "egress.yaml").unwrap_err();
        assert_eq!(error.file, "egress.yaml");
        assert_eq!(error.line, Some(line), "{text}{error}");
        assert!(
            error.cause.to_lowercase().contains(&cause.to_lowercase()),
            "{text}{error}"
        );
        assert!(
            error.to_string().starts_with(&format!("egress.yaml:{line}: ")),
            "{error}"
        );
        assert!(!error.to_string().contains('\n'), "{error}");
    }
}

#[test]
fn an_address_that_no_entry_can_open_is_an_error() {
    let text = "allow:\n  - namespaces: ['*']\n    cidrs: [169.254.169.254/32]\n";
    let error = Policy::parse(text, "egress.yaml").unwrap_err().to_string();
    assert!(
        error.contains("169.254.169.254/32") && error.contains("never dialled"),
        "{error}"
    );
}
