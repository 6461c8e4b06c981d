//! The crates' ranks and the owners of heavy libraries, as `cargo metadata` has them.

use std::{collections::BTreeMap, process::Command};

use serde_json::Value;

/// A crate uses lower ranks only.
const RANKS: &[(&str, u32)] = &[
    ("messages", 0),
    ("topology", 0),
    ("broker", 1),
    ("store", 1),
    ("graphs", 1),
    ("hardware", 1),
    ("features", 1),
    ("predictors", 1),
    ("browsers", 1),
    ("planner", 2),
    ("runner", 2),
    ("pipeline", 3),
    ("dashboard", 3),
    ("cli", 4),
];

/// Uses within a rank, one way only: whoever is used and who uses it.
const BESIDE: &[(&str, &str)] = &[
    // Lanes are named after platforms and priorities.
    ("messages", "topology"),
    // A predictor is asked with a feature frame.
    ("features", "predictors"),
];

/// For tests only, so that it may use any rank.
const TESTKIT: &str = "testkit";

/// Libraries that are large, or whose types must not spread, with the one crate that knows each.
const OWNERS: &[(&str, &str)] = &[
    ("rmp-serde", "messages"),
    ("lapin", "broker"),
    ("duckdb", "store"),
    ("polars", "features"),
    ("xgboost-rs", "predictors"),
    ("ndarray", "predictors"),
    ("ciborium", "predictors"),
    ("runnt", "predictors"),
    ("ort", "runner"),
    ("axum", "dashboard"),
    ("nvml-wrapper", "hardware"),
    ("sysinfo", "hardware"),
    ("prost", "graphs"),
    ("clap", "cli"),
    ("config", "cli"),
    ("plotters", "cli"),
    ("anyhow", "cli"),
    ("thirtyfour", "browsers"),
];

/// Further users of a library with an owner: whoever it is and what it uses.
const GUESTS: &[(&str, &str)] = &[
    // Pages of the browser pool fetch models and report to a server of the pool's own, on 127.0.0.1.
    ("browsers", "axum"),
];

/// One line of a crate's manifest.
struct Dependency {
    crate_name: String,
    on: String,
    for_tests: bool,
}

fn dependencies() -> (Vec<String>, Vec<Dependency>) {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(cargo)
        .args(["metadata", "--no-deps", "--format-version", "1", "--offline"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .expect("cargo");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let metadata: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let text = |value: &Value| value.as_str().expect("text").to_owned();
    let (mut crates, mut dependencies) = (Vec::new(), Vec::new());
    for package in metadata["packages"].as_array().expect("packages") {
        crates.push(text(&package["name"]));
        for dependency in package["dependencies"].as_array().expect("dependencies") {
            dependencies.push(Dependency {
                crate_name: text(&package["name"]),
                on: text(&dependency["name"]),
                for_tests: dependency["kind"] == "dev",
            });
        }
    }
    (crates, dependencies)
}

#[test]
fn crates_use_lower_ranks_only() {
    let ranks: BTreeMap<_, _> = RANKS.iter().copied().collect();
    let (crates, dependencies) = dependencies();
    let unknown: Vec<_> = crates.iter().filter(|name| *name != TESTKIT && !ranks.contains_key(name.as_str())).collect();
    assert!(unknown.is_empty(), "{unknown:?} have no rank");
    for Dependency { crate_name, on, for_tests } in &dependencies {
        let (crate_name, on) = (crate_name.as_str(), on.as_str());
        if !crates.iter().any(|name| name == on) || crate_name == TESTKIT {
            continue;
        }
        let allowed = if on == TESTKIT {
            *for_tests
        } else {
            ranks[on] < ranks[crate_name] || BESIDE.contains(&(on, crate_name))
        };
        assert!(allowed, "`{crate_name}` must not use `{on}`");
    }
}

#[test]
fn each_heavy_library_has_one_owner() {
    let owners: BTreeMap<_, _> = OWNERS.iter().copied().collect();
    let (_, dependencies) = dependencies();
    for Dependency { crate_name, on, .. } in &dependencies {
        if let Some(owner) = owners.get(on.as_str()) {
            let is_guest = GUESTS.contains(&(crate_name.as_str(), on.as_str()));
            assert!(crate_name == owner || is_guest, "`{on}` belongs to `{owner}`, and `{crate_name}` uses it");
        }
    }
    let used = |library: &str| dependencies.iter().any(|dependency| dependency.on == library);
    assert!(["rmp-serde", "lapin", "duckdb", "polars", "xgboost-rs", "ort", "axum"].into_iter().all(used));
}

#[test]
fn no_crate_is_a_drawer_for_everything() {
    let (crates, _) = dependencies();
    for name in ["common", "utils", "util", "core", "helpers", "shared"] {
        assert!(!crates.iter().any(|known| known == name), "`{name}` says nothing about what is in it");
    }
}
