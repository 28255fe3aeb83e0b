//! Good and bad manifests against the generated schema and its CEL rules, and the samples.

mod admission;
mod support;

use std::fs;

use admission::Admission;
use certmon_crd::{CertificateMonitor, SLACK_SECRET_TYPE, SMTP_SECRET_TYPE, SinkKind, WEBHOOK_SECRET_TYPE};
use kube::ResourceExt;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use support::{read, repository};

#[derive(Deserialize)]
struct Good {
    name: String,
    manifest: Value,
}

#[derive(Deserialize)]
struct Bad {
    name: String,
    by: By,
    expect: String,
    #[serde(default)]
    never: Vec<String>,
    manifest: Value,
}

#[derive(Deserialize, PartialEq, Debug)]
#[serde(rename_all = "lowercase")]
enum By {
    Rule,
    Schema,
    Both,
}

fn good() -> Vec<Good> {
    cases("good.yaml")
}

fn bad() -> Vec<Bad> {
    cases("bad.yaml")
}

fn cases<T: DeserializeOwned>(file: &str) -> Vec<T> {
    let path = repository("crd/tests/manifests").join(file);
    serde_saphyr::from_str(&read(&path)).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Every part of `part` stands unchanged in `whole`.
fn contains(whole: &Value, part: &Value) -> bool {
    match (whole, part) {
        (Value::Object(whole), Value::Object(part)) => part
            .iter()
            .all(|(name, part)| whole.get(name).is_some_and(|whole| contains(whole, part))),
        (Value::Array(whole), Value::Array(part)) => {
            whole.len() == part.len() && whole.iter().zip(part).all(|(whole, part)| contains(whole, part))
        }
        _ => whole == part,
    }
}

#[test]
fn good_manifests_are_accepted() {
    let admission = Admission::of("CertificateMonitor");
    for Good { name, manifest } in good() {
        let faults = admission.schema_faults(&manifest);
        assert!(faults.is_empty(), "{name}: {faults:#?}");
        let broken = admission.broken_rules(&manifest);
        assert!(broken.is_empty(), "{name}: {broken:#?}");
    }
}

#[test]
fn bad_manifests_are_refused_with_their_message() {
    let admission = Admission::of("CertificateMonitor");
    let cases = bad();
    for Bad {
        name,
        by,
        expect,
        never,
        manifest,
    } in &cases
    {
        let schema = admission.schema_faults(manifest);
        let texts = match by {
            By::Schema => schema,
            By::Rule => {
                assert!(
                    schema.is_empty(),
                    "{name}: the schema refuses it first, so no rule is asked: {schema:#?}"
                );
                admission.broken_rules(manifest)
            }
            By::Both => {
                assert!(!schema.is_empty(), "{name}: the schema says nothing");
                admission.broken_rules(manifest)
            }
        };
        assert!(
            texts.iter().any(|text| text.contains(expect.as_str())),
            "{name}: {expect:?} is not in {texts:#?}"
        );
        let misleads = |text: &&String| never.iter().any(|never| text.contains(never));
        assert!(!texts.iter().any(|text| misleads(&text)), "{name}: {texts:#?}");
    }
    assert!(
        cases.iter().filter(|case| case.by == By::Rule).count() >= 30,
        "too few for the rules"
    );
}

#[test]
fn every_rule_has_a_bad_manifest() {
    fn messages(schema: &Value, into: &mut Vec<String>) {
        match schema {
            Value::Object(object) => {
                for (name, value) in object {
                    if name == "x-kubernetes-validations" {
                        let rules = value.as_array().unwrap();
                        into.extend(rules.iter().map(|rule| rule["message"].as_str().unwrap().to_owned()));
                    } else {
                        messages(value, into);
                    }
                }
            }
            Value::Array(items) => items.iter().for_each(|item| messages(item, into)),
            _ => {}
        }
    }
    let mut all = Vec::new();
    messages(&support::schema_of("CertificateMonitor"), &mut all);
    assert!(all.len() >= 20, "{all:#?}");
    let cases = bad();
    for message in all {
        assert!(
            cases
                .iter()
                .any(|case| case.by != By::Schema && message.contains(&case.expect)),
            "no bad manifest for {message:?}"
        );
    }
}

#[test]
fn names_of_cases_are_unique() {
    let mut names: Vec<String> = good().into_iter().map(|case| case.name).collect();
    names.extend(bad().into_iter().map(|case| case.name));
    let count = names.len();
    names.sort();
    names.dedup();
    assert_eq!(names.len(), count);
}

#[test]
fn reading_and_writing_adds_the_schemas_defaults_and_nothing_else() {
    let admission = Admission::of("CertificateMonitor");
    for Good { name, manifest } in good() {
        let stored = admission.defaulted(&manifest);
        let monitor: CertificateMonitor =
            serde_json::from_value(stored.clone()).unwrap_or_else(|error| panic!("{name}: {error}"));
        // Written by a person with an offset; the operator never writes a spec.
        let mut written = serde_json::to_value(&monitor).unwrap();
        for (index, silence) in stored["spec"]["silences"].as_array().into_iter().flatten().enumerate() {
            written["spec"]["silences"][index]["until"] = silence["until"].clone();
        }
        // An empty list and no list are one thing to whoever reads.
        let mut expected = stored;
        if expected["spec"]["trust"]["caCertificateRefs"] == Value::Array(Vec::new()) {
            expected["spec"]["trust"]
                .as_object_mut()
                .unwrap()
                .remove("caCertificateRefs");
        }
        assert_eq!(written, expected, "{name}");

        // What the API server would have filled in is there without it too.
        let mut pruned = manifest.clone();
        pruned["spec"]
            .as_object_mut()
            .unwrap()
            .retain(|_, value| !value.is_null());
        if let Ok(undefaulted) = serde_json::from_value::<CertificateMonitor>(pruned) {
            assert_eq!(undefaulted.spec, monitor.spec, "{name}");
        } else {
            assert_eq!(
                name, "null means the default",
                "can't be read without the server's defaults"
            );
        }
    }
}

#[test]
fn what_an_older_schema_let_in_can_still_be_read() {
    let monitor: CertificateMonitor = serde_json::from_value(serde_json::json!({
        "apiVersion": "certmon.dev/v1alpha1",
        "kind": "CertificateMonitor",
        "metadata": {"name": "old"},
        "spec": {
            "sources": [
                {"name": "none"},
                {"name": "two", "secrets": {}, "endpoints": []},
                {"name": "later", "gateways": {}},
            ],
            "probe": {"interval": "1h30m", "jitter": "5m"},
            "sinks": [{"name": "later", "pagerDuty": {}, "repeatInterval": {"critical": "soon"}}],
        },
    }))
    .unwrap();
    assert!(monitor.spec.sources.iter().all(|source| source.kind().is_none()));
    assert_eq!(monitor.spec.probe.interval.to_std(), None);
    assert_eq!(monitor.spec.sinks[0].kind(), None);
    assert_eq!(monitor.spec.sinks[0].repeat_interval.critical.repeat(), None);
}

/// All documents of all samples, with the sample's name.
fn samples() -> Vec<(String, Vec<Value>)> {
    let folder = repository("samples");
    let mut files: Vec<_> = fs::read_dir(&folder)
        .unwrap_or_else(|error| panic!("{}: {error}", folder.display()))
        .map(|entry| entry.expect("an entry of the folder").path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "yaml"))
        .collect();
    files.sort();
    files
        .into_iter()
        .map(|path| {
            let documents =
                serde_saphyr::from_multiple(&read(&path)).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
            (
                path.file_name().expect("a file's path").to_string_lossy().into_owned(),
                documents,
            )
        })
        .collect()
}

#[test]
fn samples_are_accepted_and_read_unchanged() {
    let admission = Admission::of("CertificateMonitor");
    let samples = samples();
    assert!(samples.len() >= 6, "one for each kind of user");
    for (name, documents) in samples {
        let monitors: Vec<&Value> = documents
            .iter()
            .filter(|document| document["kind"] == "CertificateMonitor")
            .collect();
        assert!(!monitors.is_empty(), "{name} has no monitor");
        for manifest in monitors {
            let faults = admission.schema_faults(manifest);
            assert!(faults.is_empty(), "{name}: {faults:#?}");
            let broken = admission.broken_rules(manifest);
            assert!(broken.is_empty(), "{name}: {broken:#?}");

            let monitor: CertificateMonitor =
                serde_json::from_value(manifest.clone()).unwrap_or_else(|error| panic!("{name}: {error}"));
            let written = serde_json::to_value(&monitor).unwrap();
            assert!(contains(&written, manifest), "{name}: {written:#} is not {manifest:#}");
            assert_eq!(written, admission.defaulted(&written), "{name}: a default is missing");
        }
    }
}

#[test]
fn samples_bring_the_secrets_that_their_sinks_name() {
    for (name, documents) in samples() {
        for manifest in documents
            .iter()
            .filter(|document| document["kind"] == "CertificateMonitor")
        {
            let monitor: CertificateMonitor = serde_json::from_value(manifest.clone()).unwrap();
            for sink in &monitor.spec.sinks {
                let (secret, secret_type) = match sink.kind().unwrap() {
                    SinkKind::Slack(slack) => (Some(&slack.secret_ref), SLACK_SECRET_TYPE),
                    SinkKind::Email(email) => (Some(&email.secret_ref), SMTP_SECRET_TYPE),
                    SinkKind::Webhook(webhook) => (webhook.secret_ref.as_ref(), WEBHOOK_SECRET_TYPE),
                };
                let Some(secret) = secret else { continue };
                assert!(
                    documents.iter().any(|document| document["kind"] == "Secret"
                        && document["type"] == secret_type
                        && document["metadata"]["name"] == secret.name.as_str()
                        && document["metadata"]["namespace"].as_str() == monitor.namespace().as_deref()),
                    "{name}: no Secret {} of type {secret_type} beside {}",
                    secret.name,
                    monitor.name_any()
                );
            }
        }
    }
}
