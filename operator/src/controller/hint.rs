//! Why a source selects nothing, and what is near: a selector that matches nothing is never silent.

use super::spec::SecretChoice;
use crate::world::{StoredSecret, World};
use std::collections::{BTreeMap, BTreeSet};

/// Why a source selects nothing: the label that nobody has, and the value that others have.
#[must_use]
pub fn no_secret(namespace: &str, choice: &SecretChoice, world: &World) -> String {
    let types = any_of(&choice.types);
    let of_type = |secret: &&StoredSecret| choice.types.contains(&*secret.type_);
    let held: Vec<&StoredSecret> = world.secrets(namespace).filter(of_type).collect();
    let number = count(held.len(), "Secret");
    if held.is_empty() {
        return format!("no Secret of type {types} exists in namespace {namespace}");
    }
    let Some(matcher) = choice.selector.as_ref().filter(|matcher| !matcher.text.is_empty()) else {
        return match held.len() {
            1 => format!("1 Secret of type {types} exists in namespace {namespace}, but has no chosen key"),
            _ => format!("{number} of type {types} exist in namespace {namespace}, but none has a chosen key"),
        };
    };
    for (label, value) in &matcher.equal {
        if held.iter().any(|secret| secret.labels.get(label) == Some(value)) {
            continue;
        }
        let mut values: BTreeMap<&str, usize> = BTreeMap::new();
        for other in held.iter().filter_map(|secret| secret.labels.get(label)) {
            *values.entry(other).or_default() += 1;
        }
        let near = values
            .iter()
            .max_by_key(|(other, number)| (common_prefix(other, value), **number));
        let near = near.map_or_else(
            || match held.len() {
                1 => format!("the 1 Secret of type {types} does not have that label"),
                _ => format!("none of {number} of type {types} has that label"),
            },
            |(other, of)| {
                let have = if *of == 1 { "has" } else { "have" };
                format!("{of} of {number} of type {types} {have} {label}={other}")
            },
        );
        return format!("label {label}={value} matches no Secret in namespace {namespace}; {near}");
    }
    format!(
        "no Secret of type {types} in namespace {namespace} matches {}",
        matcher.text
    )
}

/// "kubernetes.io/tls or Opaque".
#[must_use]
pub fn any_of(types: &BTreeSet<Box<str>>) -> String {
    types.iter().map(|type_| &**type_).collect::<Vec<_>>().join(" or ")
}

fn common_prefix(a: &str, b: &str) -> usize {
    a.chars().zip(b.chars()).take_while(|(a, b)| a == b).count()
}

/// "1 Secret", "2 Secrets".
#[must_use]
pub fn count(number: usize, noun: &str) -> String {
    if number == 1 {
        format!("1 {noun}")
    } else {
        format!("{number} {noun}s")
    }
}
