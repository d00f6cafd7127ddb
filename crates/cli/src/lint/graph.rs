//! The order of a pipeline's tasks: `runAfter` and result references to tasks that do not exist, and cycles.

use std::collections::{BTreeMap, BTreeSet};

use super::suggest;
use crate::diagnostic::Diagnostic;
use crate::manifest::{Content, Document, Node, Span};

/// A place that makes one task wait for another.
struct Edge<'n> {
    to: &'n str,
    span: Span,
    reference: bool,
}

/// Checks the pipeline spec `spec` of `document`.
pub fn check(document: &Document, spec: &Node) -> Vec<Diagnostic> {
    let tasks = spec.get("tasks").map(Node::items).unwrap_or_default();
    let finally = spec.get("finally").map(Node::items).unwrap_or_default();
    let name = |task: &'_ Node| task.get("name").and_then(Node::as_str).map(str::to_owned);
    let names: BTreeSet<String> = tasks.iter().filter_map(name).collect();
    let final_names: BTreeSet<String> = finally.iter().filter_map(name).collect();
    let mut diagnostics = Vec::new();
    let mut graph: BTreeMap<String, Vec<Edge<'_>>> = BTreeMap::new();
    for task in tasks {
        let edges = edges(task);
        for edge in edges.iter().filter(|edge| !names.contains(edge.to)) {
            let (message, hint) = if final_names.contains(edge.to) {
                (
                    format!(
                        "task `{}` runs in `finally`: no other task can wait for it",
                        edge.to
                    ),
                    "tasks under `finally` run when all others have ended".to_owned(),
                )
            } else {
                (
                    format!("no task `{}` in this pipeline", edge.to),
                    suggest::did_you_mean(edge.to, "tasks", names.iter().map(String::as_str)),
                )
            };
            diagnostics.push(
                Diagnostic::error(message)
                    .hint(hint)
                    .at(&document.source, edge.span),
            );
        }
        if let Some(name) = name(task) {
            graph.insert(name, edges);
        }
    }
    for task in finally {
        for edge in edges(task)
            .iter()
            .filter(|edge| edge.reference && !names.contains(edge.to))
        {
            let hint = suggest::did_you_mean(edge.to, "tasks", names.iter().map(String::as_str));
            let message = format!("no task `{}` among the pipeline's tasks", edge.to);
            diagnostics.push(
                Diagnostic::error(message)
                    .hint(hint)
                    .at(&document.source, edge.span),
            );
        }
    }
    if let Some(cycle) = cycle(&graph) {
        let closing = &graph[&cycle[cycle.len() - 1]];
        let span = closing
            .iter()
            .find(|edge| edge.to == cycle[0])
            .map_or(spec.span, |edge| edge.span);
        let mut path = cycle.clone();
        path.push(cycle[0].clone());
        diagnostics.push(
            Diagnostic::error(format!("tasks wait for each other: {}", path.join(" → ")))
                .hint("remove one of the `runAfter` entries or result references that close the circle")
                .at(&document.source, span),
        );
    }
    diagnostics
}

fn edges(task: &Node) -> Vec<Edge<'_>> {
    let mut edges: Vec<Edge<'_>> = task
        .get("runAfter")
        .map(Node::items)
        .unwrap_or_default()
        .iter()
        .filter_map(|node| {
            Some(Edge {
                to: node.as_str()?,
                span: node.span,
                reference: false,
            })
        })
        .collect();
    for field in ["params", "matrix", "when"] {
        if let Some(node) = task.get(field) {
            references(node, &mut |text, span| {
                edges.push(Edge {
                    to: text.task,
                    span,
                    reference: true,
                })
            });
        }
    }
    // P-111: the inline spec's steps too, where results reach by propagation.
    for list in ["steps", "sidecars"] {
        if let Some(node) = task.get("taskSpec").and_then(|spec| spec.get(list)) {
            references(node, &mut |text, span| {
                edges.push(Edge {
                    to: text.task,
                    span,
                    reference: true,
                })
            });
        }
    }
    edges
}

/// A reference to a result of a task.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ResultReference<'t> {
    /// The pipeline task.
    pub task: &'t str,
    /// The result, without an index or key.
    pub result: &'t str,
}

/// Calls `visit` for every `$(tasks.T.results.R)` in the strings under `node`.
pub fn references<'n>(node: &'n Node, visit: &mut dyn FnMut(ResultReference<'n>, Span)) {
    match &node.content {
        Content::Scalar(_) => {
            for reference in node.as_str().map(in_text).unwrap_or_default() {
                visit(reference, node.span);
            }
        }
        Content::Sequence(items) => items.iter().for_each(|item| references(item, visit)),
        Content::Mapping(entries) => entries
            .iter()
            .for_each(|entry| references(&entry.node, visit)),
    }
}

fn in_text(text: &str) -> Vec<ResultReference<'_>> {
    let mut found = Vec::new();
    for part in text.split("$(tasks.").skip(1) {
        let Some(inside) = part
            .split(')')
            .next()
            .filter(|inside| inside.len() < part.len())
        else {
            continue;
        };
        let Some((task, rest)) = inside.split_once('.') else {
            continue;
        };
        let Some(result) = rest
            .strip_prefix("results.")
            .or_else(|| rest.strip_prefix("results"))
        else {
            continue;
        };
        let result = match result.strip_prefix('[') {
            // $(tasks.T.results['a.b'][0])
            Some(quoted) => quoted
                .split(']')
                .next()
                .unwrap_or_default()
                .trim_matches(['\'', '"']),
            None => result.split(['[', '.']).next().unwrap_or_default(),
        };
        if !result.is_empty() {
            found.push(ResultReference { task, result });
        }
    }
    found
}

/// The tasks of one cycle in order, if there is one.
fn cycle(graph: &BTreeMap<String, Vec<Edge<'_>>>) -> Option<Vec<String>> {
    let mut done: BTreeSet<&str> = BTreeSet::new();
    for start in graph.keys() {
        // Depth first without recursion: the path holds each task with the number of its edges already followed.
        let mut path: Vec<(&str, usize)> = vec![(start, 0)];
        while let Some((task, followed)) = path.last_mut() {
            let next = graph.get(*task).and_then(|edges| edges.get(*followed));
            *followed += 1;
            match next {
                None => {
                    done.insert(task);
                    path.pop();
                }
                Some(edge) if done.contains(edge.to) || !graph.contains_key(edge.to) => {}
                Some(edge) => {
                    if let Some(at) = path.iter().position(|(task, _)| *task == edge.to) {
                        return Some(
                            path[at..]
                                .iter()
                                .map(|(task, _)| (*task).to_owned())
                                .collect(),
                        );
                    }
                    path.push((edge.to, 0));
                }
            }
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn result_references_are_read_in_every_notation() {
        let text = "a $(tasks.build.results.sha) $(tasks.x.results.list[*]) $(tasks.y.results['a.b'][0]) $(tasks.z.status) $(tasks.w.results.obj.key)";
        let found: Vec<_> = in_text(text).iter().map(|r| (r.task, r.result)).collect();
        assert_eq!(
            found,
            [("build", "sha"), ("x", "list"), ("y", "a.b"), ("w", "obj")]
        );
    }
}
