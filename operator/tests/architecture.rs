//! The walls of `docs/architecture.md`, kept by a machine. Each rule is a pure function over what it is given, and has a
//! case that shows it rejecting.

#![allow(clippy::unwrap_used, reason = "a test that can't read what it tests has failed")]

#[path = "architecture/sources.rs"]
mod sources;

use certmon_core::{finding::Finding, reason::Reason};
use serde_json::{Value, json};
use sources::{Source, modules_used, product_code, repository, sources};
use std::collections::{BTreeMap, BTreeSet};
use strum::IntoEnumIterator;

/// What a rule found: one line each, empty where all is well.
type Faults = Vec<String>;

#[track_caller]
fn holds(rule: &str, faults: &Faults) {
    assert!(faults.is_empty(), "{rule}:\n  {}", faults.join("\n  "));
}

#[track_caller]
fn rejects(faults: &Faults, because: &str) {
    assert!(
        faults.iter().any(|fault| fault.contains(because)),
        "nothing about {because:?} in {faults:?}"
    );
}

// ---- Crates ----

/// Which of ours a crate may import.
const MAY_IMPORT: [(&str, &[&str]); 7] = [
    ("certmon-core", &[]),
    ("certmon-crd", &[]),
    ("certmon-egress", &["certmon-core"]),
    ("certmon-probe", &["certmon-core", "certmon-egress"]),
    ("certmon-notify", &["certmon-core", "certmon-egress"]),
    (
        "certmon",
        &[
            "certmon-core",
            "certmon-crd",
            "certmon-egress",
            "certmon-notify",
            "certmon-probe",
        ],
    ),
    ("certmon-e2e", &["certmon-crd"]),
];

const KUBERNETES: [&str; 5] = ["kube", "kube-client", "kube-core", "kube-runtime", "k8s-openapi"];

/// What a crate may not even reach: async, IO and Kubernetes from the core, Kubernetes from the edges.
fn unreachable_from(name: &str) -> Vec<&'static str> {
    match name {
        "certmon-core" => [&KUBERNETES[..], &["tokio", "rustls", "reqwest", "hyper", "tracing"]].concat(),
        "certmon-egress" | "certmon-probe" | "certmon-notify" => KUBERNETES.to_vec(),
        _ => Vec::new(),
    }
}

/// `cargo metadata`: the packages of the workspace by name, and whom each depends on in a product build.
struct Crates {
    normal: BTreeMap<String, Vec<String>>,
    names: BTreeMap<String, String>,
    ours: BTreeSet<String>,
}

impl Crates {
    fn read(metadata: &Value) -> Self {
        let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let names = list(&metadata["packages"])
            .iter()
            .map(|package| (text(&package["id"]), text(&package["name"])))
            .collect();
        let normal = list(&metadata["resolve"]["nodes"])
            .iter()
            .map(|node| {
                let is_normal = |dep: &Value| list(&dep["dep_kinds"]).iter().any(|kind| kind["kind"].is_null());
                let deps = list(&node["deps"]);
                let deps = deps.iter().filter(|dep| is_normal(dep)).map(|dep| text(&dep["pkg"]));
                (text(&node["id"]), deps.collect())
            })
            .collect();
        let ours = list(&metadata["workspace_members"]).iter().map(text).collect();
        Self { normal, names, ours }
    }

    fn name<'a>(&'a self, id: &'a str) -> &'a str {
        self.names.get(id).map_or(id, String::as_str)
    }

    fn direct(&self, id: &str) -> &[String] {
        self.normal.get(id).map_or(&[], Vec::as_slice)
    }

    fn reachable<'a>(&'a self, from: &'a str) -> BTreeSet<&'a str> {
        let mut seen = BTreeSet::new();
        let mut left = vec![from];
        while let Some(id) = left.pop() {
            for dep in self.direct(id) {
                if seen.insert(dep.as_str()) {
                    left.push(dep);
                }
            }
        }
        seen.into_iter().map(|id| self.name(id)).collect()
    }
}

fn forbidden_crates(metadata: &Value) -> Faults {
    let crates = Crates::read(metadata);
    let mut faults = Faults::new();
    for id in &crates.ours {
        let name = crates.name(id);
        let Some((_, allowed)) = MAY_IMPORT.iter().find(|(known, _)| *known == name) else {
            faults.push(format!("{name} has no place in the list of who may import whom"));
            continue;
        };
        for dep in crates.direct(id).iter().filter(|dep| crates.ours.contains(*dep)) {
            let dep = crates.name(dep);
            if !allowed.contains(&dep) {
                faults.push(format!("{name} imports {dep}"));
            }
        }
        let reachable = crates.reachable(id);
        for banned in unreachable_from(name) {
            if reachable.contains(banned) {
                faults.push(format!("{name} reaches {banned}"));
            }
        }
    }
    faults
}

/// The wire types use the derive of kube, never its client. Features are unified over the workspace in what cargo
/// resolves, so what the crate itself asks for is looked at.
fn client_in_wire_types(metadata: &Value) -> Faults {
    let packages = metadata["packages"].as_array().cloned().unwrap_or_default();
    let Some(crd) = packages.iter().find(|package| package["name"] == "certmon-crd") else {
        return vec!["there is no certmon-crd".to_owned()];
    };
    let mut faults = Faults::new();
    let deps = crd["dependencies"].as_array().into_iter().flatten();
    for dep in deps.filter(|dep| dep["kind"].is_null()) {
        let name = dep["name"].as_str().unwrap_or_default();
        if ["kube-client", "kube-runtime", "tokio", "hyper"].contains(&name) {
            faults.push(format!("certmon-crd depends on {name}"));
        }
        if name == "kube" && (dep["uses_default_features"] != false || dep["features"] != json!(["derive"])) {
            faults.push(format!(
                "certmon-crd uses more of kube than its derive: {}",
                dep["features"]
            ));
        }
    }
    faults
}

fn cargo_metadata() -> Value {
    let output = std::process::Command::new(env!("CARGO"))
        .args(["metadata", "--format-version", "1", "--locked", "--manifest-path"])
        .arg(repository().join("Cargo.toml"))
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

#[test]
fn a_crate_imports_only_whom_it_may() {
    let metadata = cargo_metadata();
    holds("crates", &forbidden_crates(&metadata));
    holds("wire types", &client_in_wire_types(&metadata));
}

#[test]
fn the_rules_of_crates_reject() {
    let edge = |to: &str, kind: Value| json!({ "pkg": to, "dep_kinds": [{ "kind": kind }] });
    let names = [
        "certmon-core",
        "certmon-probe",
        "certmon-notify",
        "certmon-new",
        "x",
        "tokio",
        "kube-client",
    ];
    let metadata = json!({
        "packages": names.map(|name| json!({ "id": name, "name": name })),
        "workspace_members": ["certmon-core", "certmon-probe", "certmon-notify", "certmon-new"],
        "resolve": { "nodes": [
            { "id": "certmon-core", "deps": [edge("x", Value::Null), edge("kube-client", json!("dev"))] },
            { "id": "x", "deps": [edge("tokio", Value::Null)] },
            { "id": "certmon-probe", "deps": [edge("certmon-notify", Value::Null), edge("kube-client", Value::Null)] },
            { "id": "certmon-notify", "deps": [] },
            { "id": "certmon-new", "deps": [] },
        ] },
    });
    let faults = forbidden_crates(&metadata);
    rejects(&faults, "certmon-core reaches tokio");
    rejects(&faults, "certmon-probe imports certmon-notify");
    rejects(&faults, "certmon-probe reaches kube-client");
    rejects(&faults, "certmon-new has no place");
    assert_eq!(faults.len(), 4, "what only tests use is free: {faults:?}");

    let crd = |deps: Value| json!({ "packages": [{ "name": "certmon-crd", "dependencies": deps }] });
    let kube = json!({ "name": "kube", "kind": null, "uses_default_features": false, "features": ["client"] });
    rejects(&client_in_wire_types(&crd(json!([kube]))), "more of kube");
    let tokio = json!([{ "name": "tokio", "kind": null }]);
    rejects(&client_in_wire_types(&crd(tokio)), "depends on tokio");
}

// ---- Modules of the operator ----

/// The modules of `operator/src` from the ground up: each may use what stands in a line above its own. A child that isn't
/// named belongs to its parent.
const RANKS: [&[&str]; 10] = [
    &["args", "clock", "cluster", "explain"],
    &["telemetry", "apiserver", "kubernetes", "world", "controller/spec"],
    &["controller/hint"],
    &["watch", "egress_policy", "controller/resolve", "controller/trust"],
    &["controller/status"],
    &["controller/judge"],
    &["metrics"],
    &["admin", "engine"],
    &["app"],
    &["lib", "main"],
];

/// The rank of a module and the room that it belongs to.
fn rank(module: &str) -> Option<(usize, &'static str)> {
    let belongs = |room: &str| module == room || module.strip_prefix(room).is_some_and(|rest| rest.starts_with('/'));
    RANKS
        .iter()
        .enumerate()
        .find_map(|(rank, rooms)| rooms.iter().find(|room| belongs(room)).map(|room| (rank, *room)))
}

/// Modules that use one of their own rank or above, and those that have none.
fn climbs(sources: &[Source]) -> Faults {
    let mut faults = Faults::new();
    // The parent of ranked modules only names them.
    for source in sources.iter().filter(|source| source.module() != "controller") {
        let Some((own, room)) = rank(&source.module()) else {
            faults.push(format!("{} has no rank", source.path));
            continue;
        };
        for used in modules_used(source) {
            match rank(&used) {
                Some((_, theirs)) if theirs == room => {}
                Some((other, _)) if other < own => {}
                Some((_, theirs)) => faults.push(format!("{} uses {theirs}, which isn't below it", source.path)),
                // An item of the crate's root, or a module whose own file is reported.
                None => {}
            }
        }
    }
    faults
}

#[test]
fn a_module_uses_only_what_stands_below_it() {
    holds("ranks", &climbs(&sources("operator/src")));
}

#[test]
fn the_rule_of_ranks_rejects() {
    let faults = climbs(&[
        Source::new("operator/src/world.rs", "use crate::{clock, engine::{Engine, pass}};"),
        Source::new("operator/src/controller/spec.rs", "fn f(x: &super::judge::Judged) {}"),
        Source::new(
            "operator/src/controller/status/text.rs",
            "use crate::controller::resolve::count;",
        ),
        Source::new("operator/src/novelty.rs", ""),
    ]);
    rejects(&faults, "world.rs uses engine");
    rejects(&faults, "spec.rs uses controller/judge");
    rejects(&faults, "novelty.rs has no rank");
    let about_status = faults.iter().filter(|fault| fault.contains("status/text.rs")).count();
    assert_eq!(about_status, 0, "{faults:?}");
}

// ---- Purity ----

/// Neither time, nor tasks, nor sockets, nor files, nor a client.
const IMPURE: [&str; 12] = [
    "tokio::",
    "kube::Client",
    "kube::Api",
    "Api<",
    "::now()",
    "crate::clock",
    "SystemTime",
    "Instant::",
    "std::net::Tcp",
    "std::fs",
    "std::env",
    "std::thread",
];

fn impurities(sources: &[Source]) -> Faults {
    let mut faults = Faults::new();
    for source in sources {
        for (number, line) in product_code(&source.text).lines().enumerate() {
            for word in IMPURE.iter().filter(|word| line.contains(**word)) {
                faults.push(format!("{}:{}: {word}", source.path, number + 1));
            }
        }
    }
    faults
}

#[test]
fn decisions_are_pure() {
    let mut pure = sources("operator/core/src");
    pure.extend(sources("operator/src/controller"));
    assert!(pure.len() > 20, "{} files", pure.len());
    holds("purity", &impurities(&pure));
}

#[test]
fn the_rule_of_purity_rejects() {
    let text =
        "use tokio::time;\nlet a = Utc::now(); // Api<\nlet b: Api<Secret>;\n\n#[cfg(test)]\nmod tests {\nstd::fs\n}";
    let faults = impurities(&[Source::new("a.rs", text)]);
    assert_eq!(faults, ["a.rs:1: tokio::", "a.rs:2: ::now()", "a.rs:3: Api<"]);
}

// ---- The one door ----

/// What opens a socket, or asks the system for an address.
const SOCKETS: [&str; 8] = [
    "TcpStream",
    "TcpSocket",
    "UdpSocket",
    "UnixStream",
    "UnixDatagram",
    "lookup_host",
    "ToSocketAddrs",
    "to_socket_addrs",
];

/// The way to the API server, which finds its addresses and the operator's own.
const MAY_OPEN_SOCKETS: [&str; 1] = ["operator/src/apiserver.rs"];

fn back_doors(sources: &[Source]) -> Faults {
    let mut faults = Faults::new();
    for source in sources
        .iter()
        .filter(|source| !MAY_OPEN_SOCKETS.contains(&source.path.as_str()))
    {
        for (number, line) in product_code(&source.text).lines().enumerate() {
            let words = SOCKETS.iter().filter(|word| line.contains(**word));
            faults.extend(words.map(|word| format!("{}:{}: {word}", source.path, number + 1)));
        }
    }
    faults
}

#[test]
fn nothing_dials_but_the_egress_crate() {
    let others = [
        "operator/core/src",
        "operator/notify/src",
        "operator/probe/src",
        "operator/src",
    ];
    let others: Vec<Source> = others.into_iter().flat_map(sources).collect();
    holds("the one door", &back_doors(&others));
}

#[test]
fn the_rule_of_the_one_door_rejects() {
    let text = "use tokio::net::TcpStream;\n\n#[cfg(test)]\nmod tests {\nUdpSocket\n}";
    let faults = back_doors(&[
        Source::new("a.rs", text),
        Source::new("operator/src/apiserver.rs", text),
    ]);
    assert_eq!(faults, ["a.rs:1: TcpStream"]);
}

// ---- Files ----

const LONGEST: usize = 500;

/// Longer than anybody reads in one go, its tests not counted.
fn too_long(sources: &[Source]) -> Faults {
    let long = sources.iter().filter(|source| source.product_lines() > LONGEST);
    long.map(|source| format!("{} has {} lines", source.path, source.product_lines()))
        .collect()
}

/// A path that climbs twice hides where it leads.
fn climbing_paths(sources: &[Source]) -> Faults {
    let climbing = sources
        .iter()
        .filter(|source| source.text.contains(concat!("super::", "super")));
    climbing.map(|source| format!("{} climbs twice", source.path)).collect()
}

fn everything() -> Vec<Source> {
    [
        "crd/src",
        "e2e/src",
        "operator/core/src",
        "operator/egress/src",
        "operator/notify/src",
        "operator/probe/src",
        "operator/src",
    ]
    .into_iter()
    .flat_map(sources)
    .collect()
}

#[test]
fn files_are_short_enough_to_read() {
    holds("length", &too_long(&everything()));
}

#[test]
fn no_path_climbs_twice() {
    holds("paths", &climbing_paths(&everything()));
}

/// Pages that somebody should read whole, and how long they may be.
const PAGES: [(&str, usize); 2] = [("README.md", 200), ("docs/architecture.md", 250)];

fn long_pages(pages: &[(&str, usize, String)]) -> Faults {
    let long = pages.iter().filter(|(_, most, text)| text.lines().count() > *most);
    long.map(|(page, most, _)| format!("{page} has more than {most} lines"))
        .collect()
}

#[test]
fn pages_are_short_enough_to_read() {
    let pages = PAGES.map(|(page, most)| (page, most, std::fs::read_to_string(repository().join(page)).unwrap()));
    holds("pages", &long_pages(&pages));
}

/// Rooms that the map doesn't name: the modules of the core, and those of the operator that have a rank.
fn unmapped(map: &str, core: &[Source], ranks: &[&[&str]]) -> Faults {
    let of_core = core.iter().map(Source::module).filter(|module| !module.contains('/'));
    let ranked = ranks
        .iter()
        .flat_map(|rooms| rooms.iter().map(|room| (*room).to_owned()));
    of_core
        .chain(ranked)
        .filter(|module| !["lib", "main"].contains(&module.as_str()) && !map.contains(&format!("`{module}`")))
        .collect()
}

#[test]
fn the_map_names_every_module() {
    let map = std::fs::read_to_string(repository().join("docs/architecture.md")).unwrap();
    holds("not on the map", &unmapped(&map, &sources("operator/core/src"), &RANKS));
}

#[test]
fn the_rule_of_the_map_rejects() {
    let core = ["lib.rs", "alert.rs", "alert/words.rs", "dial.rs"]
        .map(|name| Source::new(&format!("operator/core/src/{name}"), ""));
    let ranks: [&[&str]; 2] = [&["engine", "world"], &["main"]];
    // A word that merely occurs is no entry, and what belongs to a room stands with it.
    let faults = unmapped("`alert` and `world`; dial, the engine", &core, &ranks);
    assert_eq!(faults, ["dial", "engine"]);
}

#[test]
fn the_rules_of_files_reject() {
    rejects(
        &long_pages(&[("a.md", 1, "a\nb\n".to_owned())]),
        "a.md has more than 1 lines",
    );
    let long = "fn f() {}\n".repeat(501);
    rejects(&too_long(&[Source::new("a.rs", &long)]), "a.rs has 501 lines");
    let tested = format!("fn f() {{}}\n\n#[cfg(test)]\nmod tests {{\n{long}}}\n");
    holds("length", &too_long(&[Source::new("a.rs", &tested)]));
    let path = concat!("use super::", "super::x;");
    rejects(&climbing_paths(&[Source::new("a.rs", path)]), "a.rs");
}

// ---- Names ----

/// Names that one list has and the other hasn't, or has in another order.
fn names_differ(ours: &[&str], theirs: &[&str]) -> Faults {
    if ours == theirs {
        return Faults::new();
    }
    let only = |a: &[&str], b: &[&str]| {
        let missing: Vec<&str> = a.iter().filter(|name| !b.contains(name)).copied().collect();
        missing.join(" ")
    };
    vec![format!(
        "only here: [{}], only there: [{}], or the order differs",
        only(ours, theirs),
        only(theirs, ours)
    )]
}

#[test]
fn a_finding_has_one_name_everywhere() {
    let findings: Vec<&str> = Finding::iter().map(<&str>::from).collect();
    let reasons: Vec<&str> = Reason::iter().map(Reason::name).take(findings.len()).collect();
    holds(
        "what a silence may name, and findings",
        &names_differ(certmon_crd::SILENCEABLE_FINDINGS, &findings),
    );
    holds("reasons, and findings", &names_differ(&reasons, &findings));
}

#[test]
fn the_rule_of_names_rejects() {
    rejects(
        &names_differ(&["A", "B"], &["A", "C"]),
        "only here: [B], only there: [C]",
    );
    rejects(&names_differ(&["A", "B"], &["B", "A"]), "order");
}
