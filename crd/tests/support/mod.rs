//! Paths and schemas that more than one test looks at.

use std::fs;
use std::path::{Path, PathBuf};

use certmon_crd::crds;
use serde_json::Value;

/// A path in the repository.
pub(crate) fn repository(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(path)
}

/// A file's content; fails with its path.
pub(crate) fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The schema of a kind's only version.
pub(crate) fn schema_of(kind: &str) -> Value {
    let crd = crds()
        .into_iter()
        .find(|crd| crd.spec.names.kind == kind)
        .unwrap_or_else(|| panic!("no kind {kind}"));
    let [version] = crd.spec.versions.as_slice() else {
        panic!("{kind} has not one version")
    };
    let schema = version
        .schema
        .as_ref()
        .and_then(|schema| schema.open_api_v3_schema.as_ref());
    serde_json::to_value(schema.unwrap_or_else(|| panic!("{kind} has no schema"))).expect("a schema is JSON")
}
