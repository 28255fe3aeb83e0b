use super::*;
use crate::place::Host;
use std::{collections::BTreeSet, path::PathBuf};

fn page_path() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../docs/reference/reasons.md")
}

#[test]
fn the_page_of_reasons_is_what_is_committed() {
    let committed = std::fs::read_to_string(page_path()).unwrap_or_default();
    assert!(
        committed == page(),
        "docs/reference/reasons.md is not what the code says: cargo test -p certmon-core -- --ignored write_the_page"
    );
}

#[test]
#[ignore = "writes docs/reference/reasons.md"]
fn write_the_page_of_reasons() {
    std::fs::create_dir_all(page_path().parent().unwrap()).unwrap();
    std::fs::write(page_path(), page()).unwrap();
}

#[test]
fn every_reason_says_what_it_means_what_leads_to_it_and_what_to_do() {
    let mut meanings = BTreeSet::new();
    for reason in Reason::iter() {
        assert!(meanings.insert(reason.meaning()), "{reason}: another's meaning");
        for text in [reason.meaning(), reason.cause(), reason.next_step()] {
            assert!(
                text.len() > 3 && !text.contains("  ") && !text.contains('\n'),
                "{reason}: {text:?}"
            );
        }
        assert!(explain(reason).starts_with(reason.name()));
    }
}

#[test]
fn every_finding_is_a_reason_of_the_same_name() {
    for finding in Finding::iter() {
        let reason = Reason::from(finding);
        assert_eq!(reason.name(), finding.to_string());
        assert_eq!(reason.group(), ReasonGroup::Finding);
        assert!(reason.next_step().len() > 30, "{reason}: no next step");
    }
    let findings = Reason::iter().filter(|reason| reason.group() == ReasonGroup::Finding);
    assert_eq!(findings.count(), Finding::iter().count());
}

#[test]
fn a_name_is_found_whatever_its_case_and_its_runbook_is_an_anchor() {
    assert_eq!("expiringsoon".parse(), Ok(Reason::ExpiringSoon));
    assert!(
        Reason::ExpiringSoon
            .runbook()
            .ends_with("docs/reference/reasons.md#expiringsoon")
    );
}

#[test]
fn what_is_served_is_looked_at_where_it_is_served() {
    let host = Host::parse("a.example").unwrap();
    let endpoint = Place::Endpoint {
        host: host.clone(),
        port: 443,
        server_name: host,
    };
    for reason in Reason::iter().filter(|reason| reason.group() == ReasonGroup::Finding) {
        let text = reason.next_step_at(&endpoint).replace("NAMESPACE", "");
        assert!(
            !text.contains("NAME")
                || matches!(
                    reason,
                    Reason::SecretMissing | Reason::BadCertificateData | Reason::PlaceholderCertificate
                ),
            "{reason}: an endpoint has no object: {text}"
        );
    }
}
