//! Shapes that schemars can't derive the way the API server wants them.

use schemars::{Schema, SchemaGenerator, json_schema, transform::transform_subschemas};
use serde_json::{Map, Value};

use crate::rules;

/// Bring a derived schema into the form that stands in the definition:
///
/// * No `null`: the API server then prunes a null and applies the default, as it does for its own
///   kinds, and a rule's `has()` means what it says.
/// * Integer formats that the API server knows (it warns at every apply of the others).
/// * A description is running text; blank lines stay.
pub(crate) fn structural(schema: &mut Schema) {
    transform_subschemas(&mut structural, schema);
    let Some(object) = schema.as_object_mut() else {
        return;
    };
    unwrap_option(object);
    if let Some(Value::Array(types)) = object.get_mut("type") {
        types.retain(|word| word != "null");
        if let [only] = types.as_slice() {
            let only = only.clone();
            object.insert("type".to_owned(), only);
        }
    }
    if let Some(Value::Array(values)) = object.get_mut("enum") {
        values.retain(|value| !value.is_null());
    }
    if let Some(Value::String(format)) = object.get_mut("format") {
        match format.as_str() {
            "uint8" | "uint16" | "uint32" => "int32".clone_into(format),
            "uint64" => "int64".clone_into(format),
            _ => {}
        }
    }
    if let Some(Value::String(description)) = object.get_mut("description") {
        *description = running_text(description);
    }
}

/// `anyOf: [T, null]` is how an optional value with constraints of its own is derived.
fn unwrap_option(object: &mut Map<String, Value>) {
    let Some(Value::Array(alternatives)) = object.get("anyOf") else {
        return;
    };
    let [Value::Object(inner), null] = alternatives.as_slice() else {
        return;
    };
    if null.get("type").and_then(Value::as_str) != Some("null") {
        return;
    }
    let inner = inner.clone();
    object.remove("anyOf");
    for (key, value) in inner {
        object.entry(key).or_insert(value);
    }
}

fn running_text(text: &str) -> String {
    let paragraphs: Vec<String> = text
        .split("\n\n")
        .map(|paragraph| paragraph.split_whitespace().collect::<Vec<_>>().join(" "))
        .collect();
    paragraphs.join("\n\n")
}

/// A label selector with bounds, and with the checks that the API server makes of its own kinds.
pub(crate) fn label_selector(_: &mut SchemaGenerator) -> Schema {
    let label_value = json_schema!({
        "type": "string",
        "maxLength": 63,
        "pattern": "^([a-zA-Z0-9]([-._a-zA-Z0-9]*[a-zA-Z0-9])?)?$",
    });
    let mut values = json_schema!({
        "type": "array",
        "description": "Values that the label is compared with. Allowed: 1 to 16 with the operators `In` and `NotIn`, none with the others. Example: `[shop, checkout]`.",
        "maxItems": 16,
        "x-kubernetes-list-type": "atomic",
    });
    values.insert("items".to_owned(), label_value.clone().to_value());
    json_schema!({
        "type": "object",
        "x-kubernetes-map-type": "atomic",
        "properties": {
            "matchLabels": {
                "type": "object",
                "description": "Labels that an object must have, all of them. Allowed: at most 16. Example: `{app.kubernetes.io/part-of: shop}`.",
                "maxProperties": 16,
                "additionalProperties": label_value,
            },
            "matchExpressions": {
                "type": "array",
                "description": "Requirements that an object's labels must meet, all of them. Allowed: at most 16. Example: `[{key: tier, operator: In, values: [web]}]`.",
                "maxItems": 16,
                "x-kubernetes-list-type": "atomic",
                "items": {
                    "type": "object",
                    "required": ["key", "operator"],
                    "x-kubernetes-validations": rules::selector_requirement(),
                    "properties": {
                        "key": {
                            "type": "string",
                            "description": "The label. Allowed: a label's name of at most 317 characters. Example: `app.kubernetes.io/part-of`.",
                            "maxLength": 317,
                            "pattern": "^([a-z0-9]([-a-z0-9.]*[a-z0-9])?/)?[a-zA-Z0-9]([-._a-zA-Z0-9]*[a-zA-Z0-9])?$",
                        },
                        "operator": {
                            "type": "string",
                            "description": "How the label is compared. Allowed: `In`, `NotIn`, `Exists`, `DoesNotExist`. Example: `In`.",
                            "enum": ["In", "NotIn", "Exists", "DoesNotExist"],
                        },
                        "values": values,
                    },
                },
            },
        },
    })
}

/// `metav1.Condition`, a map by type.
pub(crate) fn conditions(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "array",
        "maxItems": 16,
        "x-kubernetes-list-type": "map",
        "x-kubernetes-list-map-keys": ["type"],
        "items": {
            "type": "object",
            "required": ["lastTransitionTime", "message", "reason", "status", "type"],
            "properties": {
                "lastTransitionTime": {
                    "type": "string",
                    "format": "date-time",
                    "description": "When the status last changed.",
                },
                "message": {
                    "type": "string",
                    "maxLength": 32768,
                    "description": "For people: the whole cause, and the next step.",
                },
                "observedGeneration": {
                    "type": "integer",
                    "format": "int64",
                    "minimum": 0,
                    "description": "The generation of the spec that this was judged by.",
                },
                "reason": {
                    "type": "string",
                    "minLength": 1,
                    "maxLength": 1024,
                    "pattern": "^[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?$",
                    "description": "For machines: one word, which `certmon explain` explains.",
                },
                "status": {
                    "type": "string",
                    "enum": ["True", "False", "Unknown"],
                    "description": "True, False or Unknown.",
                },
                "type": {
                    "type": "string",
                    "maxLength": 316,
                    "pattern": "^([a-z0-9]([-a-z0-9.]*[a-z0-9])?/)?[A-Za-z0-9]([-._A-Za-z0-9]*[A-Za-z0-9])?$",
                    "description": "`Ready`: the monitor works. `Healthy`: the certificates are fine. `Notified`: the sinks have been told. `Reconciling` and `Stalled` stand here only while they are true.",
                },
            },
        },
    })
}
