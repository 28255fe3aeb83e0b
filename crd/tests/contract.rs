//! The definitions themselves: generated = committed, and what must hold for every field.

mod support;

use certmon_crd::{
    CHECK_REQUESTED_AT, CertificateMonitor, CertificateMonitorStatus, GROUP, SLACK_SECRET_TYPE, SMTP_SECRET_TYPE,
    TEST_REQUESTED_AT, Timestamp, VERSION, WEBHOOK_SECRET_TYPE, crd_yaml, crds, crds_yaml,
};
use serde_json::{Value, json};
use support::{read, repository, schema_of};

const KINDS: [&str; 2] = ["CertificateMonitor", "AlertLedger"];

/// Calls `visit` with the path and the schema of every node below a schema.
fn each(schema: &Value, path: &str, visit: &mut impl FnMut(&str, &Value)) {
    visit(path, schema);
    for (name, property) in schema["properties"].as_object().into_iter().flatten() {
        each(property, &format!("{path}.{name}"), visit);
    }
    if schema["items"].is_object() {
        each(&schema["items"], &format!("{path}[]"), visit);
    }
    if schema["additionalProperties"].is_object() {
        each(&schema["additionalProperties"], &format!("{path}{{}}"), visit);
    }
}

fn every_node(mut visit: impl FnMut(&str, &Value)) {
    for kind in KINDS {
        each(&schema_of(kind), kind, &mut visit);
    }
}

/// Every named field of the spec, and not the items of a list.
fn every_spec_field(mut visit: impl FnMut(&str, &Value)) {
    each(
        &schema_of("CertificateMonitor")["properties"]["spec"],
        "spec",
        &mut |path, schema| {
            if path != "spec" && !path.ends_with("[]") && !path.ends_with("{}") {
                visit(path, schema);
            }
        },
    );
}

fn description(schema: &Value) -> &str {
    schema["description"].as_str().unwrap_or_default()
}

#[test]
fn generated_is_committed() {
    for crd in crds() {
        let path = repository("crd/generated").join(format!("{}.yaml", crd.spec.names.plural));
        assert!(
            read(&path) == crd_yaml(&crd),
            "{} is not what the types say: run `make crds`",
            path.display()
        );
    }
}

#[test]
fn the_yaml_stream_reads_back_as_the_definitions() {
    let read_back: Vec<Value> = serde_saphyr::from_multiple(&crds_yaml()).unwrap();
    let definitions: Vec<Value> = crds().iter().map(|crd| serde_json::to_value(crd).unwrap()).collect();
    // An integral bound is written as a float: 1 and 1.0 are one number to whoever reads.
    assert_eq!(read_back.len(), definitions.len());
    for (read_back, definition) in read_back.iter().zip(&definitions) {
        assert_eq!(read_back, definition);
    }
}

#[test]
fn group_and_version_stand_in_every_name() {
    for crd in crds() {
        assert_eq!(crd.spec.group, GROUP);
        assert_eq!(crd.spec.versions[0].name, VERSION);
        assert_eq!(crd.spec.scope, "Namespaced");
        assert_eq!(
            crd.spec.names.categories, None,
            "a category of the short name breaks `kubectl get certmon NAME`"
        );
    }
    for name in [
        CHECK_REQUESTED_AT,
        TEST_REQUESTED_AT,
        SLACK_SECRET_TYPE,
        SMTP_SECRET_TYPE,
        WEBHOOK_SECRET_TYPE,
    ] {
        assert!(
            name.strip_prefix(GROUP).is_some_and(|rest| rest.starts_with('/')),
            "{name}"
        );
    }
}

#[test]
fn columns_and_selectable_fields() {
    let [monitor, ledger] = crds().try_into().unwrap();
    let version = &monitor.spec.versions[0];
    let columns: Vec<(String, String, String, Option<i32>)> = version
        .additional_printer_columns
        .iter()
        .flatten()
        .map(|column| {
            (
                column.name.clone(),
                column.type_.clone(),
                column.json_path.clone(),
                column.priority,
            )
        })
        .collect();
    let column = |name: &str, type_: &str, path: &str, priority| (name.into(), type_.into(), path.into(), priority);
    assert_eq!(
        columns,
        [
            column(
                "Ready",
                "string",
                ".status.conditions[?(@.type==\"Ready\")].status",
                None
            ),
            column(
                "Status",
                "string",
                ".status.conditions[?(@.type==\"Healthy\")].reason",
                None
            ),
            column(
                "Notified",
                "string",
                ".status.conditions[?(@.type==\"Notified\")].status",
                None
            ),
            column("Certs", "integer", ".status.certificates.total", None),
            column("Warn", "integer", ".status.certificates.warning", None),
            column("Crit", "integer", ".status.certificates.critical", None),
            column("Next Expiry", "string", ".status.nextExpiry.time", None),
            column("Age", "date", ".metadata.creationTimestamp", None),
            column("Suspended", "boolean", ".spec.suspend", Some(1)),
            column(
                "Message",
                "string",
                ".status.conditions[?(@.type==\"Healthy\")].message",
                Some(1)
            ),
        ]
    );
    let selectable: Vec<&str> = version
        .selectable_fields
        .iter()
        .flatten()
        .map(|field| field.json_path.as_str())
        .collect();
    assert_eq!(selectable, [".spec.suspend"]);
    assert_eq!(
        monitor.spec.names.short_names.as_deref(),
        Some(["certmon".to_owned()].as_slice())
    );
    assert!(
        version
            .subresources
            .as_ref()
            .is_some_and(|subresources| subresources.status.is_some())
    );
    assert_eq!(ledger.spec.names.short_names, None);
    assert_eq!(ledger.spec.versions[0].subresources, None);
}

#[test]
fn every_list_is_bounded_and_says_how_it_merges() {
    every_node(|path, schema| {
        if schema["type"] != "array" {
            return;
        }
        assert!(schema["maxItems"].is_u64(), "{path} has no maxItems");
        let list_type = schema["x-kubernetes-list-type"].as_str();
        assert!(
            matches!(list_type, Some("map" | "set" | "atomic")),
            "{path}: {list_type:?}"
        );
        for key in schema["x-kubernetes-list-map-keys"].as_array().into_iter().flatten() {
            let key = key.as_str().unwrap();
            let required = schema["items"]["required"]
                .as_array()
                .is_some_and(|names| names.contains(&json!(key)));
            let has_default = !schema["items"]["properties"][key]["default"].is_null();
            assert!(required || has_default, "{path}: the key {key} may be missing");
        }
    });
}

#[test]
fn every_string_is_bounded() {
    every_node(|path, schema| {
        if schema["type"] == "string" {
            let bounded = schema["maxLength"].is_u64() || schema["enum"].is_array() || schema["format"] == "date-time";
            assert!(bounded, "{path} has neither maxLength nor enum");
        }
    });
}

#[test]
fn every_integer_has_a_format_that_the_api_server_knows_and_a_bound() {
    every_node(|path, schema| {
        if schema["type"] == "integer" {
            assert!(
                schema["format"] == "int32" || schema["format"] == "int64",
                "{path}: {}",
                schema["format"]
            );
            assert!(schema["minimum"].is_number(), "{path} has no minimum");
            assert!(
                schema["maximum"].is_number() || path.contains(".status"),
                "{path} has no maximum"
            );
        }
    });
}

#[test]
fn nothing_is_nullable_and_every_object_is_closed() {
    every_node(|path, schema| {
        assert!(
            schema["nullable"] != true || path == "CertificateMonitor.status",
            "{path} is nullable"
        );
        assert!(
            !schema["enum"]
                .as_array()
                .is_some_and(|values| values.contains(&Value::Null)),
            "{path}: null"
        );
        assert!(schema["type"].is_string(), "{path} has no type");
        let open = schema["x-kubernetes-preserve-unknown-fields"] == true;
        assert_eq!(open, path == "AlertLedger.state", "{path}");
    });
}

#[test]
fn every_field_is_described() {
    every_node(|path, schema| {
        if !path.ends_with("[]") && !path.ends_with("{}") {
            assert!(!description(schema).is_empty(), "{path}");
            assert!(!description(schema).contains("Auto-generated"), "{path}");
        }
    });
}

#[test]
fn every_description_of_the_spec_says_default_allowed_values_and_an_example() {
    let mut fields = 0;
    every_spec_field(|path, schema| {
        fields += 1;
        let text = description(schema);
        let in_selector = path.contains(".selector.");
        assert!(text.contains("Allowed: "), "{path}: {text}");
        assert!(text.contains("Example: `"), "{path}: {text}");
        assert!(
            in_selector || text.contains("Default: ") || text.contains("Required."),
            "{path}: {text}"
        );
        for word in schema["enum"].as_array().into_iter().flatten() {
            assert!(
                text.contains(&format!("`{}`", word.as_str().unwrap())),
                "{path} doesn't name {word}: {text}"
            );
        }
        for word in schema["items"]["enum"].as_array().into_iter().flatten() {
            assert!(
                text.contains(&format!("`{}`", word.as_str().unwrap())),
                "{path} doesn't name {word}: {text}"
            );
        }
    });
    assert!(fields > 70, "only {fields} fields were looked at");
}

/// A default as descriptions write it: YAML in one line.
fn in_one_line(value: &Value) -> Value {
    serde_saphyr::from_str(&value.to_string()).expect("JSON is YAML")
}

#[test]
fn every_default_stands_in_its_description_as_it_is() {
    every_spec_field(|path, schema| {
        let text = description(schema);
        let default = &schema["default"];
        if default.is_null() {
            let says_none = ["Default: none", "Required.", "Default: each"]
                .iter()
                .any(|word| text.contains(word));
            assert!(
                says_none || path.contains(".selector."),
                "{path} promises a default: {text}"
            );
            return;
        }
        if path == "spec.checks" {
            return; // each check says its own
        }
        let (_, rest) = text
            .split_once("Default: `")
            .unwrap_or_else(|| panic!("{path} names no default: {text}"));
        let (said, _) = rest.split_once('`').unwrap();
        let said: Value = serde_saphyr::from_str(said).unwrap_or_else(|error| panic!("{path}: {said}: {error}"));
        assert_eq!(said, in_one_line(default), "{path}");
    });
}

#[test]
fn every_bound_of_a_number_stands_in_its_description() {
    every_spec_field(|path, schema| {
        if schema["type"] == "integer" {
            let bounds = format!("{} to {}", schema["minimum"], schema["maximum"]).replace(".0", "");
            assert!(
                description(schema).contains(&bounds),
                "{path} doesn't say {bounds}: {}",
                description(schema)
            );
        }
    });
}

#[test]
fn an_empty_status_is_written_as_nothing() {
    let status = CertificateMonitorStatus::default();
    assert_eq!(serde_json::to_value(&status).unwrap(), json!({}));
    let read: CertificateMonitorStatus = serde_json::from_value(json!({"laterField": 1})).unwrap();
    assert_eq!(read, status);
}

#[test]
fn summary_is_the_last_field_of_status() {
    let schema = schema_of("CertificateMonitor");
    let names = schema["properties"]["status"]["properties"].as_object().unwrap();
    assert_eq!(names.keys().max().map(String::as_str), Some("summary"));
}

#[test]
fn an_expiry_at_the_end_of_time_can_be_stored() {
    let json = json!({"certificate": "Secret/forever tls.crt", "time": "9999-12-31T23:59:59Z"});
    let expiry: certmon_crd::NextExpiry = serde_json::from_value(json.clone()).unwrap();
    assert_eq!(serde_json::to_value(&expiry).unwrap(), json);
    let _: Timestamp = expiry.time;
}

#[test]
fn a_monitor_of_defaults_has_the_thresholds_of_the_documentation() {
    let monitor: CertificateMonitor = serde_json::from_value(json!({
        "apiVersion": "certmon.dev/v1alpha1",
        "kind": "CertificateMonitor",
        "metadata": {"name": "tls"},
        "spec": {"sources": [{"name": "tls", "secrets": {}}], "thresholds": {"warning": {"remaining": "30d"}}},
    }))
    .unwrap();
    let thresholds = monitor.spec.thresholds;
    assert_eq!(
        thresholds.warning.remaining_percent, None,
        "a level that sets one limit has only that one"
    );
    assert_eq!(thresholds.critical.remaining, Some("7d".into()));
    assert_eq!(thresholds.critical.remaining_percent, Some(10));
}
