//! The graph of a pipeline's tasks: who waits for whom, and who may start now.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use thiserror::Error;

/// Why a list of tasks is no graph. The texts are Tekton's (P-114).
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum InvalidGraph {
    /// Two tasks have one name.
    #[error("task {0} is already present in Graph, can't add it again: duplicate pipeline task")]
    Duplicate(String),
    /// Tasks wait for each other.
    #[error("cycle detected; task {task:?} depends on {}", quoted(.on))]
    Cycle {
        /// The alphabetically first task of those that can never start.
        task: String,
        /// What it waits for, sorted.
        on: Vec<String>,
    },
    /// A task waits for one that does not exist.
    #[error(
        "couldn't add link between {task} and {on}: task {task} depends on {on} but {on} wasn't present in Pipeline"
    )]
    Unknown {
        /// The task that waits.
        task: String,
        /// What it waits for.
        on: String,
    },
}

/// Tasks are recorded as done although what they wait for is not (P-118).
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error(
    "invalid list of done tasks; some tasks were indicated completed without ancestors being done: [{}]",
    .0.join(" ")
)]
pub struct DoneTooEarly(pub Vec<String>);

/// A directed acyclic graph over named tasks, numbered in the order in which they were given.
#[derive(Clone, Debug, Default)]
pub struct Graph {
    nodes: Vec<Node>,
    by_name: HashMap<String, usize>,
}

#[derive(Clone, Debug)]
struct Node {
    name: String,
    parents: Vec<usize>,
    children: Vec<usize>,
}

impl Graph {
    /// Builds the graph of `tasks`: each with its name and the sorted names of what it waits for.
    ///
    /// # Errors
    /// The first fault found, looking for duplicates, then for cycles, then for unknown tasks (P-114, P-115).
    pub fn build(tasks: &[(&str, Vec<String>)]) -> Result<Self, InvalidGraph> {
        let mut graph = Self::default();
        for (name, _) in tasks {
            if graph
                .by_name
                .insert((*name).to_owned(), graph.nodes.len())
                .is_some()
            {
                return Err(InvalidGraph::Duplicate((*name).to_owned()));
            }
            graph.nodes.push(Node {
                name: (*name).to_owned(),
                parents: Vec::new(),
                children: Vec::new(),
            });
        }
        refuse_cycles(tasks)?;
        for (task, (name, dependencies)) in tasks.iter().enumerate() {
            for on in dependencies {
                let Some(&parent) = graph.by_name.get(on) else {
                    return Err(InvalidGraph::Unknown {
                        task: (*name).to_owned(),
                        on: on.clone(),
                    });
                };
                graph.nodes[task].parents.push(parent);
                graph.nodes[parent].children.push(task);
            }
        }
        Ok(graph)
    }

    /// Whether a task of this name is in the graph.
    #[must_use]
    pub fn contains(&self, name: &str) -> bool {
        self.by_name.contains_key(name)
    }

    /// Whether the graph has no tasks.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }

    /// The names of what `name` waits for; none if it is not in the graph.
    pub fn parents<'a>(&'a self, name: &str) -> impl Iterator<Item = &'a str> + use<'a> {
        let parents: &[usize] = self
            .by_name
            .get(name)
            .map_or(&[], |&node| &self.nodes[node].parents);
        parents
            .iter()
            .map(|&parent| self.nodes[parent].name.as_str())
    }

    /// The tasks that may start now: not done themselves, with every parent done (P-117); and the fault if some of `done`
    /// cannot be reached from the roots through other done tasks (P-118).
    #[must_use]
    pub fn candidates(&self, done: &[&str]) -> (BTreeSet<&str>, Option<DoneTooEarly>) {
        let mut is_done = vec![false; self.nodes.len()];
        for name in done {
            if let Some(&node) = self.by_name.get(*name) {
                is_done[node] = true;
            }
        }
        let mut visited = vec![false; self.nodes.len()];
        let mut candidates = BTreeSet::new();
        let mut next: Vec<usize> = (0..self.nodes.len())
            .filter(|&node| self.nodes[node].parents.is_empty())
            .collect();
        while let Some(node) = next.pop() {
            if std::mem::replace(&mut visited[node], true) {
                continue;
            }
            if is_done[node] {
                next.extend(&self.nodes[node].children);
            } else if self.nodes[node]
                .parents
                .iter()
                .all(|&parent| is_done[parent])
            {
                candidates.insert(self.nodes[node].name.as_str());
            }
        }
        let early: Vec<String> = done
            .iter()
            .filter(|name| self.by_name.get(**name).is_none_or(|&node| !visited[node]))
            .map(|name| (*name).to_owned())
            .collect();
        (
            candidates,
            (!early.is_empty()).then_some(DoneTooEarly(early)),
        )
    }
}

/// Kahn's elimination over the dependencies alone, so that a cycle is found before an unknown task (P-115).
fn refuse_cycles(tasks: &[(&str, Vec<String>)]) -> Result<(), InvalidGraph> {
    let mut waiting: BTreeMap<&str, BTreeSet<&str>> = tasks
        .iter()
        .filter(|(_, on)| !on.is_empty())
        .map(|(name, on)| (*name, on.iter().map(String::as_str).collect()))
        .collect();
    let mut children: HashMap<&str, Vec<&str>> = HashMap::new();
    for (&name, on) in &waiting {
        for &parent in on {
            children.entry(parent).or_default().push(name);
        }
    }
    let mut free: Vec<&str> = children
        .keys()
        .copied()
        .filter(|name| !waiting.contains_key(name))
        .collect();
    while let Some(parent) = free.pop() {
        for child in children.get(parent).into_iter().flatten() {
            let Some(on) = waiting.get_mut(child) else {
                continue;
            };
            on.remove(parent);
            if on.is_empty() {
                waiting.remove(child);
                free.push(child);
            }
        }
    }
    match waiting.pop_first() {
        None => Ok(()),
        Some((task, on)) => Err(InvalidGraph::Cycle {
            task: task.to_owned(),
            on: on.into_iter().map(str::to_owned).collect(),
        }),
    }
}

fn quoted(names: &[String]) -> String {
    names
        .iter()
        .map(|name| format!("{name:?}"))
        .collect::<Vec<_>>()
        .join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    type Tasks<'a> = &'a [(&'a str, &'a [&'a str])];

    fn graph(tasks: Tasks<'_>) -> Result<Graph, InvalidGraph> {
        let tasks: Vec<(&str, Vec<String>)> = tasks
            .iter()
            .map(|(name, on)| (*name, on.iter().map(|on| (*on).to_owned()).collect()))
            .collect();
        Graph::build(&tasks)
    }

    #[test]
    fn faults_of_a_graph_have_tektons_words_and_a_cycle_comes_before_an_unknown_task() {
        // P-114, P-115
        let cases: &[(Tasks<'_>, &str)] = &[
            (
                &[("a", &[]), ("a", &[])],
                "task a is already present in Graph, can't add it again: duplicate pipeline task",
            ),
            (
                &[("a", &["a"])],
                r#"cycle detected; task "a" depends on "a""#,
            ),
            (
                &[("c", &["b", "a", "gone"]), ("b", &["c"]), ("a", &[])],
                r#"cycle detected; task "b" depends on "c""#,
            ),
            (
                &[("x", &["z", "y"]), ("y", &["x"]), ("z", &["x"])],
                r#"cycle detected; task "x" depends on "y", "z""#,
            ),
            (
                &[("a", &["gone"])],
                "couldn't add link between a and gone: task a depends on gone but gone wasn't present in Pipeline",
            ),
        ];
        for (tasks, expected) in cases {
            assert_eq!(graph(tasks).unwrap_err().to_string(), *expected);
        }
    }

    #[test]
    fn a_task_may_start_once_all_its_parents_are_done() {
        // P-117
        let graph = graph(&[
            ("a", &[]),
            ("b", &[]),
            ("c", &["a", "b"]),
            ("d", &["a"]),
            ("e", &["c"]),
        ])
        .unwrap();
        let cases: &[(&[&str], &[&str])] = &[
            (&[], &["a", "b"]),
            (&["a"], &["b", "d"]),
            (&["a", "b"], &["c", "d"]),
            (&["a", "b", "c", "d"], &["e"]),
            (&["a", "b", "c", "d", "e"], &[]),
        ];
        for (done, expected) in cases {
            assert_eq!(
                graph.candidates(done).0,
                expected.iter().copied().collect(),
                "after {done:?}"
            );
        }
    }

    #[test]
    fn a_task_done_before_all_its_ancestors_is_an_error_unless_a_done_parent_leads_to_it() {
        // P-118
        let graph = graph(&[("a", &[]), ("b", &[]), ("c", &["a"]), ("d", &["a", "b"])]).unwrap();
        assert_eq!(
            graph.candidates(&["c", "d"]).1.unwrap().to_string(),
            "invalid list of done tasks; some tasks were indicated completed without ancestors being done: [c d]"
        );
        assert_eq!(graph.candidates(&["b", "d"]), (BTreeSet::from(["a"]), None));
    }
}
