//! The dependency rules of DESIGN.md, checked against what Cargo resolved.

use std::collections::{BTreeMap, BTreeSet};
use std::process::{Command, ExitCode};

use anyhow::{Context, ensure};
use serde::Deserialize;

/// What each crate of ours may depend on, directly, outside its tests.
const ALLOWED: &[(&str, &[&str])] = &[
    ("tektite-api", &[]),
    ("tektite-engine", &["tektite-api"]),
    ("tektite-controller", &["tektite-api", "tektite-engine"]),
    ("tektite-resolvers", &["tektite-api", "tektite-oci"]),
    ("tektite-entrypoint", &[]),
    ("tektite-oci", &[]),
    ("tektite-apiserver", &[]),
    ("tektite-node", &["tektite-oci"]),
    (
        "tektite-cluster",
        &["tektite-apiserver", "tektite-node", "tektite-oci"],
    ),
];

/// Crates that must build without an async runtime and without a Kubernetes client.
const PURE: &[&str] = &["tektite-api", "tektite-engine"];
const IMPURE: &[&str] = &["tokio", "kube-client", "kube-runtime", "hyper", "reqwest"];

#[derive(Deserialize)]
struct Metadata {
    packages: Vec<Package>,
    resolve: Resolve,
}

#[derive(Deserialize)]
struct Package {
    id: String,
    name: String,
}

#[derive(Deserialize)]
struct Resolve {
    nodes: Vec<Node>,
}

#[derive(Deserialize)]
struct Node {
    id: String,
    deps: Vec<Dependency>,
}

#[derive(Deserialize)]
struct Dependency {
    pkg: String,
    dep_kinds: Vec<DependencyKind>,
}

#[derive(Deserialize)]
struct DependencyKind {
    kind: Option<String>,
}

/// Prints each broken rule; succeeds if there is none.
pub fn check() -> anyhow::Result<ExitCode> {
    let output = Command::new("cargo")
        .args(["metadata", "--format-version", "1", "--locked"])
        .current_dir(crate::workspace_root())
        .output()
        .context("cargo metadata")?;
    ensure!(
        output.status.success(),
        "cargo metadata: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    let metadata: Metadata = serde_json::from_slice(&output.stdout)?;
    let broken = broken_rules(&metadata);
    for rule in &broken {
        println!("architecture: {rule}");
    }
    if broken.is_empty() {
        println!(
            "architecture: {} crates keep to the design's boundaries",
            ALLOWED.len()
        );
        return Ok(ExitCode::SUCCESS);
    }
    Ok(ExitCode::FAILURE)
}

fn broken_rules(metadata: &Metadata) -> Vec<String> {
    let names: BTreeMap<&str, &str> = metadata
        .packages
        .iter()
        .map(|p| (p.id.as_str(), p.name.as_str()))
        .collect();
    let normal: BTreeMap<&str, Vec<&str>> = metadata
        .resolve
        .nodes
        .iter()
        .map(|node| {
            let deps = node
                .deps
                .iter()
                .filter(|d| d.dep_kinds.iter().any(|k| k.kind.is_none()));
            (
                names[node.id.as_str()],
                deps.map(|d| names[d.pkg.as_str()]).collect(),
            )
        })
        .collect();
    let mut broken = Vec::new();
    for (krate, allowed) in ALLOWED {
        for dependency in normal.get(krate).into_iter().flatten() {
            if dependency.starts_with("tektite-") && !allowed.contains(dependency) {
                broken.push(format!("{krate} must not depend on {dependency}"));
            }
        }
    }
    for krate in PURE {
        let reached = reachable(krate, &normal);
        for impure in IMPURE.iter().filter(|impure| reached.contains(**impure)) {
            broken.push(format!("{krate} must stay pure but reaches {impure}"));
        }
    }
    broken
}

fn reachable<'a>(from: &'a str, edges: &BTreeMap<&'a str, Vec<&'a str>>) -> BTreeSet<&'a str> {
    let mut seen = BTreeSet::new();
    let mut open = vec![from];
    while let Some(name) = open.pop() {
        for next in edges.get(name).into_iter().flatten() {
            if seen.insert(*next) {
                open.push(next);
            }
        }
    }
    seen
}

#[cfg(test)]
mod tests {
    use super::*;

    fn metadata(edges: &[(&str, &str)]) -> Metadata {
        let names: BTreeSet<&str> = edges.iter().flat_map(|(a, b)| [*a, *b]).collect();
        let packages = names
            .iter()
            .map(|n| Package {
                id: (*n).into(),
                name: (*n).into(),
            })
            .collect();
        let nodes = names
            .iter()
            .map(|n| Node {
                id: (*n).into(),
                deps: edges
                    .iter()
                    .filter(|(from, _)| from == n)
                    .map(|(_, to)| Dependency {
                        pkg: (*to).into(),
                        dep_kinds: vec![DependencyKind { kind: None }],
                    })
                    .collect(),
            })
            .collect();
        Metadata {
            packages,
            resolve: Resolve { nodes },
        }
    }

    #[test]
    fn a_dependency_the_design_does_not_list_is_named() {
        let broken = broken_rules(&metadata(&[("tektite-apiserver", "tektite-api")]));
        assert_eq!(broken, ["tektite-apiserver must not depend on tektite-api"]);
    }

    #[test]
    fn a_pure_crate_may_not_reach_a_runtime_through_others() {
        let broken = broken_rules(&metadata(&[("tektite-api", "middle"), ("middle", "tokio")]));
        assert_eq!(broken, ["tektite-api must stay pure but reaches tokio"]);
    }
}
