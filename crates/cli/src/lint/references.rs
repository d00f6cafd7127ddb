//! Between documents: tasks, pipelines and step actions that are referred to, their params, workspaces and results.

use super::index::Index;
use super::{graph, suggest};
use crate::diagnostic::Diagnostic;
use crate::manifest::{Content, Document, Node, Span};

/// How strictly to look.
#[derive(Debug, Clone, Copy, Default)]
pub struct Strictness {
    /// What plain Tekton accepts, and what may exist elsewhere, is only warned about.
    pub lenient: bool,
    /// References are answered by a cluster, not by these documents.
    pub external: bool,
}

/// Checks every document against the others.
pub fn check(documents: &[Document], index: &Index<'_>, strictness: Strictness) -> Vec<Diagnostic> {
    let mut checker = Checker {
        index,
        strictness,
        diagnostics: Vec::new(),
    };
    for document in documents
        .iter()
        .filter(|document| document.group() == "tekton.dev")
    {
        let Some(spec) = document.root.get("spec") else {
            continue;
        };
        match document.kind.as_str() {
            "Task" => checker.steps(document, spec),
            "Pipeline" => checker.pipeline(document, spec),
            "TaskRun" => checker.task_run(document, spec),
            "PipelineRun" => checker.pipeline_run(document, spec),
            _ => {}
        }
    }
    checker.diagnostics
}

struct Checker<'c, 'd> {
    index: &'c Index<'d>,
    strictness: Strictness,
    diagnostics: Vec<Diagnostic>,
}

/// Who takes params and workspaces, and who gives them.
struct Call<'c> {
    document: &'c Document,
    /// The object that holds `params` and `workspaces`.
    caller: &'c Node,
    /// The spec that declares them.
    callee: &'c Node,
    /// What the callee is called in messages.
    title: String,
    /// Whether params that the callee does not declare make sense: inline specs see them by propagation.
    propagates: bool,
}

impl<'d> Checker<'_, 'd> {
    fn task_run(&mut self, document: &Document, spec: &Node) {
        if let Some(inline) = spec.get("taskSpec") {
            self.steps(document, inline);
            self.call(&Call {
                document,
                caller: spec,
                callee: inline,
                title: "the inline task".to_owned(),
                propagates: true,
            });
        } else if let Some(reference) = local_reference(spec, "taskRef", &["", "Task"]) {
            self.referred(document, spec, "Task", reference);
        }
    }

    fn pipeline_run(&mut self, document: &Document, spec: &Node) {
        if let Some(inline) = spec.get("pipelineSpec") {
            self.pipeline(document, inline);
            self.call(&Call {
                document,
                caller: spec,
                callee: inline,
                title: "the inline pipeline".to_owned(),
                propagates: true,
            });
        } else if let Some(reference) = local_reference(spec, "pipelineRef", &["", "Pipeline"]) {
            self.referred(document, spec, "Pipeline", reference);
        }
    }

    fn pipeline(&mut self, document: &Document, spec: &Node) {
        self.diagnostics.extend(graph::check(document, spec));
        let tasks = || {
            ["tasks", "finally"]
                .into_iter()
                .flat_map(|list| spec.get(list).map(Node::items).unwrap_or_default())
        };
        for task in tasks() {
            if let Some(inline) = task.get("taskSpec") {
                self.steps(document, inline);
            } else if let Some(inner) = task.get("pipelineSpec") {
                self.pipeline(document, inner);
            } else if let Some(reference) = local_reference(task, "taskRef", &["", "Task"]) {
                self.referred(document, task, "Task", reference);
            } else if let Some(reference) = local_reference(task, "pipelineRef", &["", "Pipeline"])
            {
                self.referred(document, task, "Pipeline", reference);
            }
        }
        self.results(document, spec);
    }

    /// References to results that their task does not declare.
    fn results(&mut self, document: &Document, spec: &Node) {
        let mut found = Vec::new();
        for part in ["tasks", "finally", "results"] {
            if let Some(node) = spec.get(part) {
                graph::references(node, &mut |reference, span| found.push((reference, span)));
            }
        }
        for (reference, span) in found {
            let task = ["tasks", "finally"]
                .into_iter()
                .flat_map(|list| spec.get(list).map(Node::items).unwrap_or_default())
                .find(|task| task.get("name").and_then(Node::as_str) == Some(reference.task));
            let Some(task) = task else { continue };
            let declared = match (
                task.get("taskSpec"),
                task.get("pipelineSpec"),
                local_reference(task, "taskRef", &["", "Task"]),
            ) {
                (Some(inline), _, _) if inline.get("apiVersion").is_none() => inline,
                (None, Some(inner), _) => inner,
                (None, None, Some((name, _))) => match self
                    .index
                    .find("Task", name, document)
                    .and_then(|d| d.root.get("spec"))
                {
                    Some(spec) => spec,
                    None => continue,
                },
                _ => continue,
            };
            let names: Vec<&str> = named(declared, "results").map(|(name, _)| name).collect();
            if names.contains(&reference.result) || from_steps(declared, reference.result) {
                continue;
            }
            let message = format!(
                "task `{}` has no result `{}`",
                reference.task, reference.result
            );
            let hint = suggest::did_you_mean(reference.result, "its results", names);
            self.diagnostics.push(
                Diagnostic::error(message)
                    .hint(hint)
                    .at(&document.source, span),
            );
        }
    }

    /// Steps that refer to StepActions.
    fn steps(&mut self, document: &Document, spec: &Node) {
        for step in spec.get("steps").map(Node::items).unwrap_or_default() {
            if let Some((name, span)) = local_reference(step, "ref", &[""])
                && let Some((title, callee)) = self.resolve(document, "StepAction", name, span)
            {
                self.params(&Call {
                    document,
                    caller: step,
                    callee,
                    title,
                    propagates: false,
                });
            }
        }
    }

    fn referred(
        &mut self,
        document: &Document,
        caller: &Node,
        kind: &str,
        (name, span): (&str, Span),
    ) {
        if let Some((title, callee)) = self.resolve(document, kind, name, span) {
            self.call(&Call {
                document,
                caller,
                callee,
                title,
                propagates: false,
            });
        }
    }

    fn resolve(
        &mut self,
        document: &Document,
        kind: &str,
        name: &str,
        span: Span,
    ) -> Option<(String, &'d Node)> {
        if let Some(found) = self.index.find(kind, name, document) {
            return found.root.get("spec").map(|spec| (found.title(), spec));
        }
        if self.strictness.external || name.contains("$(") {
            return None;
        }
        let hint = suggest::did_you_mean(name, &format!("{kind}s here"), self.index.names(kind));
        self.report(
            format!("no {kind} `{name}` among these manifests"),
            hint,
            document,
            span,
        );
        None
    }

    /// Reports what Tekton itself might accept.
    fn report(&mut self, message: String, hint: String, document: &Document, span: Span) {
        let diagnostic = if self.strictness.lenient {
            Diagnostic::warning(message)
        } else {
            Diagnostic::error(message)
        };
        self.diagnostics
            .push(diagnostic.hint(hint).at(&document.source, span));
    }

    fn call(&mut self, call: &Call<'_>) {
        self.params(call);
        self.workspaces(call);
    }

    fn params(&mut self, call: &Call<'_>) {
        let declared: Vec<(&str, &Node)> = named(call.callee, "params").collect();
        let mut given: Vec<(&str, &Node)> = named(call.caller, "params").collect();
        if let Some(matrix) = call.caller.get("matrix") {
            given.extend(named(matrix, "params"));
            for include in matrix.get("include").map(Node::items).unwrap_or_default() {
                given.extend(named(include, "params"));
            }
        }
        let place = name_span(call.caller);
        for (name, spec) in &declared {
            if spec.get("default").is_none() && !given.iter().any(|(given, _)| given == name) {
                let message = format!("param `{name}` of {} is missing", call.title);
                let hint = format!(
                    "add it under `params`, or give it a default in {}",
                    call.title
                );
                self.diagnostics.push(
                    Diagnostic::error(message)
                        .hint(hint)
                        .at(&call.document.source, place),
                );
            }
        }
        if call.propagates {
            return;
        }
        for (name, node) in given {
            if !declared.iter().any(|(declared, _)| *declared == name) {
                let names = declared.iter().map(|(name, _)| *name);
                let hint = suggest::did_you_mean(name, "declared params", names);
                let hint = format!("{hint} Tekton would ignore it: remove it, or pass --lenient");
                let span = node.get("name").map_or(node.span, |name| name.span);
                self.report(
                    format!("{} has no param `{name}`", call.title),
                    hint,
                    call.document,
                    span,
                );
            }
        }
    }

    fn workspaces(&mut self, call: &Call<'_>) {
        let given: Vec<&str> = named(call.caller, "workspaces")
            .map(|(name, _)| name)
            .collect();
        let optional = |spec: &Node| {
            matches!(
                spec.get("optional").map(|n| &n.content),
                Some(Content::Scalar(serde_json::Value::Bool(true)))
            )
        };
        for (name, spec) in named(call.callee, "workspaces") {
            // A pipeline's workspace of the same name reaches its tasks by propagation only in inline specs.
            if optional(spec) || given.contains(&name) {
                continue;
            }
            let message = format!("workspace `{name}` of {} is not bound", call.title);
            let hint = format!(
                "bind it under `workspaces`, or declare it `optional: true` in {}",
                call.title
            );
            let place = name_span(call.caller);
            self.report(message, hint, call.document, place);
        }
    }
}

/// The named items of a list field.
pub fn named<'n>(node: &'n Node, list: &str) -> impl Iterator<Item = (&'n str, &'n Node)> {
    let items = node.get(list).map(Node::items).unwrap_or_default();
    items
        .iter()
        .filter_map(|item| Some((item.get("name")?.as_str()?, item)))
}

/// Steps may declare results of their own that a task result or a reference takes up.
fn from_steps(spec: &Node, result: &str) -> bool {
    spec.get("tasks").is_none()
        && spec
            .get("steps")
            .map(Node::items)
            .unwrap_or_default()
            .iter()
            .any(|step| named(step, "results").any(|(name, _)| name == result))
}

/// A reference by name, without resolver, bundle or custom task.
fn local_reference<'n>(node: &'n Node, field: &str, kinds: &[&str]) -> Option<(&'n str, Span)> {
    let reference = node.get(field)?;
    if reference.get("resolver").is_some() || reference.get("bundle").is_some() {
        return None;
    }
    let kind = reference
        .get("kind")
        .and_then(Node::as_str)
        .unwrap_or_default();
    let api_version = reference
        .get("apiVersion")
        .and_then(Node::as_str)
        .unwrap_or_default();
    if !kinds.contains(&kind) || !(api_version.is_empty() || api_version.starts_with("tekton.dev/"))
    {
        return None;
    }
    let name = reference.get("name")?;
    Some((name.as_str()?, name.span))
}

/// Where to point when something is missing from an object: its name or its first key.
fn name_span(node: &Node) -> Span {
    ["taskRef", "pipelineRef", "ref", "name"]
        .into_iter()
        .find_map(|key| {
            let value = node.get(key)?;
            Some(value.get("name").unwrap_or(value).span)
        })
        .or_else(|| node.entries().first().map(|entry| entry.key_span))
        .unwrap_or(node.span)
}
