//! Rust sources as far as the rules need to read them: without comments and tests, and with the modules that they use.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// A file by its path in the repository.
#[derive(Debug)]
pub(crate) struct Source {
    pub(crate) path: String,
    pub(crate) text: String,
}

impl Source {
    pub(crate) fn new(path: &str, text: &str) -> Self {
        Self {
            path: path.to_owned(),
            text: text.to_owned(),
        }
    }

    /// Its module below `src`: `controller/status/text`.
    pub(crate) fn module(&self) -> String {
        let below = self
            .path
            .rsplit_once("src/")
            .map_or(self.path.as_str(), |(_, rest)| rest);
        let stem = below.strip_suffix(".rs").unwrap_or(below);
        stem.strip_suffix("/mod").unwrap_or(stem).to_owned()
    }

    /// Its lines up to the tests at its end, comments and all.
    pub(crate) fn product_lines(&self) -> usize {
        self.text[..inline_tests(&self.text)].lines().count()
    }
}

/// The root of the clone.
pub(crate) fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

/// Every file of a folder that is part of the product: those that only tests compile are left out.
pub(crate) fn sources(folder: &str) -> Vec<Source> {
    let mut found = Vec::new();
    read(&repository().join(folder), &mut found);
    let gated: BTreeSet<String> = found.iter().flat_map(test_modules).collect();
    found.retain(|source| {
        let below = |gate: &String| {
            source
                .path
                .strip_suffix(".rs")
                .is_some_and(|stem| stem == gate || stem.starts_with(&format!("{gate}/")))
        };
        !gated.iter().any(below)
    });
    assert!(!found.is_empty(), "{folder} holds no sources");
    found
}

fn read(folder: &Path, found: &mut Vec<Source>) {
    let mut entries: Vec<PathBuf> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    entries.sort();
    for path in entries {
        if path.is_dir() {
            read(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let name = path.strip_prefix(repository()).unwrap().display().to_string();
            found.push(Source::new(&name, &std::fs::read_to_string(&path).unwrap()));
        }
    }
}

/// The modules that a file declares under `#[cfg(test)]`, as paths without `.rs`.
fn test_modules(source: &Source) -> Vec<String> {
    let stem = source.path.strip_suffix(".rs").unwrap_or(&source.path);
    let folder = match stem.rsplit_once('/') {
        Some((folder, "lib" | "main" | "mod")) => folder,
        _ => stem,
    };
    let after_gate = source.text.split("#[cfg(test)]").skip(1);
    after_gate
        .filter_map(|rest| rest.split_once(';')?.0.rsplit_once("mod "))
        .filter(|(before, name)| !before.contains('{') && !name.contains(char::is_whitespace))
        .map(|(_, name)| format!("{folder}/{name}"))
        .collect()
}

/// Where the tests at a file's end begin.
fn inline_tests(text: &str) -> usize {
    text.find("\n#[cfg(test)]\nmod tests {").map_or(text.len(), |at| at + 1)
}

/// What is compiled into the product: without comments and without the tests at the end. Lines keep their numbers.
pub(crate) fn product_code(text: &str) -> String {
    let lines = text[..inline_tests(text)].lines();
    let without_comment = lines.map(|line| match line.find("//") {
        Some(at) if !line[..at].ends_with(':') => &line[..at],
        _ => line,
    });
    without_comment.collect::<Vec<_>>().join("\n")
}

/// The modules of the crate that a file names by a path from `crate::` or `super::`.
pub(crate) fn modules_used(source: &Source) -> BTreeSet<String> {
    let code = product_code(&source.text);
    let module = source.module();
    let parent = module.rsplit_once('/').map_or("", |(parent, _)| parent);
    let mut used = BTreeSet::new();
    for (root, base) in [("crate::", ""), ("super::", parent)] {
        for (at, _) in code.match_indices(root) {
            let starts_a_word = !code[..at].ends_with(|before: char| before.is_alphanumeric() || "_:".contains(before));
            if starts_a_word {
                tree(&code[at + root.len()..], base, &mut used);
            }
        }
    }
    used
}

/// Reads one use tree (`a::{b, c::D}`), adds its modules, and returns what stands behind it.
fn tree<'a>(text: &'a str, base: &str, used: &mut BTreeSet<String>) -> &'a str {
    let mut rest = text.trim_start();
    if let Some(group) = rest.strip_prefix('{') {
        rest = group;
        while !rest.is_empty() && !rest.starts_with('}') {
            let after = tree(rest, base, used);
            // Commas and stars name no module.
            let skipped = rest.chars().next().map_or(0, char::len_utf8);
            rest = if after.len() < rest.len() {
                after
            } else {
                &rest[skipped..]
            };
        }
        return rest.strip_prefix('}').unwrap_or(rest);
    }
    let end = rest
        .find(|c: char| !(c.is_alphanumeric() || c == '_'))
        .unwrap_or(rest.len());
    let (name, after) = rest.split_at(end);
    if name.is_empty() || name.starts_with(char::is_uppercase) {
        return after;
    }
    let path = if base.is_empty() {
        name.to_owned()
    } else {
        format!("{base}/{name}")
    };
    match after.strip_prefix("::") {
        Some(deeper) => {
            used.insert(path.clone());
            tree(deeper, &path, used)
        }
        None => {
            used.insert(path);
            after
        }
    }
}
