//! What the API server does with a manifest, as far as the generated schema says it: prune nulls and
//! apply defaults, refuse unknown fields, validate, check keys of lists, evaluate the CEL rules. The
//! texts are the API server's own where a test can tell them apart; the end-to-end tests run the same
//! manifests against a real one.

use std::collections::HashSet;

use jsonschema::Validator;
use jsonschema::error::ValidationErrorKind;
use serde_json::{Map, Value};

use crate::support::schema_of;

/// Judges manifests of one kind.
pub(crate) struct Admission {
    schema: Value,
    validator: Validator,
}

impl Admission {
    pub(crate) fn of(kind: &str) -> Self {
        let schema = schema_of(kind);
        let validator = jsonschema::options()
            .should_validate_formats(true)
            .build(&schema)
            .expect("the generated schema is a JSON schema");
        Self { schema, validator }
    }

    /// The manifest as it would be stored.
    pub(crate) fn defaulted(&self, manifest: &Value) -> Value {
        let mut pruned = manifest.clone();
        prune_nulls(&mut pruned);
        kube_cel::apply_defaults(&self.schema, &pruned)
    }

    /// Why the schema refuses it: empty if it doesn't.
    pub(crate) fn schema_faults(&self, manifest: &Value) -> Vec<String> {
        let object = self.defaulted(manifest);
        let mut faults = Vec::new();
        walk(&self.schema, &object, "", &mut faults);
        faults.extend(self.validator.iter_errors(&object).map(|error| {
            let path = dotted(error.instance_path().as_str());
            match error.kind() {
                ValidationErrorKind::Required {
                    property: Value::String(name),
                } => format!("{path}.{name}: Required value"),
                ValidationErrorKind::Enum { .. } => {
                    format!("{path}: Unsupported value: {}", error.instance())
                }
                ValidationErrorKind::MaxItems { limit } => {
                    let count = error.instance().as_array().map_or(0, Vec::len);
                    format!("{path}: Too many: {count}: must have at most {limit} items")
                }
                _ => format!("{path}: Invalid value: {error}"),
            }
        }));
        faults
    }

    /// The messages of the CEL rules that it breaks.
    pub(crate) fn broken_rules(&self, manifest: &Value) -> Vec<String> {
        let object = self.defaulted(manifest);
        match kube_cel::Validator::new().validate(&self.schema, &object, None) {
            Ok(()) => Vec::new(),
            Err(errors) => errors.into_vec().into_iter().map(|error| error.to_string()).collect(),
        }
    }
}

/// No field of ours is nullable, so a null is as good as nothing.
fn prune_nulls(value: &mut Value) {
    match value {
        Value::Object(object) => {
            object.retain(|_, value| !value.is_null());
            object.values_mut().for_each(prune_nulls);
        }
        Value::Array(items) => items.iter_mut().for_each(prune_nulls),
        _ => {}
    }
}

/// Unknown fields, and items of a list that have one key.
fn walk(schema: &Value, value: &Value, path: &str, faults: &mut Vec<String>) {
    if schema["x-kubernetes-preserve-unknown-fields"] == true {
        return;
    }
    match value {
        Value::Object(object) => {
            for (name, value) in object {
                let path = if path.is_empty() {
                    name.clone()
                } else {
                    format!("{path}.{name}")
                };
                let by_the_server = matches!(path.as_str(), "apiVersion" | "kind" | "metadata");
                if let Some(property) = schema["properties"].get(name) {
                    walk(property, value, &path, faults);
                } else if !by_the_server && !schema["additionalProperties"].is_object() {
                    faults.push(format!("unknown field \"{path}\""));
                }
            }
        }
        Value::Array(items) => {
            let mut seen = HashSet::new();
            for (index, item) in items.iter().enumerate() {
                let path = format!("{path}[{index}]");
                if key(schema, item).is_some_and(|key| !seen.insert(key)) {
                    faults.push(format!("{path}: Duplicate value"));
                }
                walk(&schema["items"], item, &path, faults);
            }
        }
        _ => {}
    }
}

fn key(list: &Value, item: &Value) -> Option<String> {
    match list["x-kubernetes-list-type"].as_str()? {
        "set" => Some(item.to_string()),
        "map" => {
            let names = list["x-kubernetes-list-map-keys"].as_array()?;
            let key: Map<String, Value> = names
                .iter()
                .filter_map(Value::as_str)
                .map(|name| (name.to_owned(), item[name].clone()))
                .collect();
            Some(Value::Object(key).to_string())
        }
        _ => None,
    }
}

/// `/spec/sources/0/name` as `spec.sources[0].name`.
fn dotted(pointer: &str) -> String {
    pointer.split('/').skip(1).fold(String::new(), |path, part| {
        let is_index = part.bytes().all(|byte| byte.is_ascii_digit());
        match (is_index, path.is_empty()) {
            (true, _) => format!("{path}[{part}]"),
            (false, true) => part.to_owned(),
            (false, false) => format!("{path}.{part}"),
        }
    })
}
