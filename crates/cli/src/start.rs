//! Starting what manifests only define: a run of the one Pipeline or Task, with params and workspaces from the command
//! line.

use std::path::{Path, PathBuf};

use serde_json::{Map, Value, json};

use crate::arguments;
use crate::diagnostic::Diagnostic;
use crate::exit::Failure;
use crate::lint::{named, suggest};
use crate::manifest::{Content, Document, Node, parse_node};

/// A run to create, and the directories that it mounts.
#[derive(Debug, Default)]
pub struct Start {
    /// The TaskRun or PipelineRun.
    pub run: Value,
    /// Directories of this machine that become claims, by claim name.
    pub directories: Vec<(String, PathBuf)>,
}

/// Whether a document is a run that starts by itself.
pub fn is_run(document: &Document) -> bool {
    document.is_tekton("TaskRun") || document.is_tekton("PipelineRun")
}

/// What to start besides the runs among the documents: nothing if there are any.
pub fn start(documents: &[Document], arguments: &arguments::Run) -> Result<Option<Start>, Failure> {
    if documents.iter().any(is_run) {
        let given = [
            !arguments.params.is_empty(),
            !arguments.workspaces.is_empty(),
            arguments.serviceaccount.is_some(),
        ];
        if given.contains(&true) {
            return Err(refused(
                "--param, --workspace and --serviceaccount are for manifests without runs; these hold a run of their own",
                "change the run in the manifest, or leave it out and let `tektite run` make one",
            ));
        }
        return Ok(None);
    }
    let of_kind = |kind: &str| {
        documents
            .iter()
            .filter(|document| document.is_tekton(kind))
            .collect::<Vec<_>>()
    };
    let (kind, definition) = match (of_kind("Pipeline").as_slice(), of_kind("Task").as_slice()) {
        ([pipeline], _) => ("Pipeline", *pipeline),
        ([], [task]) => ("Task", *task),
        ([], []) => {
            return Err(refused(
                "nothing to run: no TaskRun, PipelineRun, Pipeline or Task among these manifests",
                "`tektite lint` only checks manifests; kubectl applies them to a cluster",
            ));
        }
        (pipelines, tasks) => {
            let candidates = if pipelines.is_empty() {
                tasks
            } else {
                pipelines
            };
            let names: Vec<&str> = candidates.iter().map(|document| document.name()).collect();
            return Err(refused(
                &format!("which of these should run? {}", names.join(", ")),
                "add a PipelineRun or TaskRun, or give only the files of one",
            ));
        }
    };
    Builder {
        definition,
        kind,
        arguments,
        diagnostics: Vec::new(),
        directories: Vec::new(),
    }
    .build()
    .map(Some)
}

fn refused(message: &str, hint: &str) -> Failure {
    Failure::refused(vec![Diagnostic::error(message).hint(hint)])
}

struct Builder<'b> {
    definition: &'b Document,
    kind: &'static str,
    arguments: &'b arguments::Run,
    diagnostics: Vec<Diagnostic>,
    directories: Vec<(String, PathBuf)>,
}

impl Builder<'_> {
    fn build(mut self) -> Result<Start, Failure> {
        let spec = self.definition.root.get("spec");
        let params = self.params(spec);
        let workspaces = self.workspaces(spec);
        if !self.diagnostics.is_empty() {
            return Err(Failure::refused(self.diagnostics));
        }
        let name = self.definition.name();
        let mut run_spec = Map::new();
        let reference = if self.kind == "Pipeline" {
            "pipelineRef"
        } else {
            "taskRef"
        };
        run_spec.insert(reference.to_owned(), json!({"name": name}));
        if !params.is_empty() {
            run_spec.insert("params".to_owned(), Value::Array(params));
        }
        if !workspaces.is_empty() {
            run_spec.insert("workspaces".to_owned(), Value::Array(workspaces));
        }
        if let Some(account) = &self.arguments.serviceaccount {
            match self.kind {
                "Pipeline" => run_spec.insert(
                    "taskRunTemplate".to_owned(),
                    json!({"serviceAccountName": account}),
                ),
                _ => run_spec.insert("serviceAccountName".to_owned(), json!(account)),
            };
        }
        let run = json!({
            "apiVersion": "tekton.dev/v1",
            "kind": format!("{}Run", self.kind),
            "metadata": {"generateName": format!("{name}-run-")},
            "spec": run_spec,
        });
        Ok(Start {
            run,
            directories: self.directories,
        })
    }

    fn params(&mut self, spec: Option<&Node>) -> Vec<Value> {
        let declared: Vec<(&str, &Node)> = spec
            .map(|spec| named(spec, "params").collect())
            .unwrap_or_default();
        let mut given: Vec<(String, Value)> = Vec::new();
        for argument in &self.arguments.params {
            let Some((name, text)) = argument.split_once('=') else {
                self.complain(
                    format!("--param {argument}: no `=`"),
                    "write --param name=value",
                );
                continue;
            };
            let Some((_, declaration)) = declared.iter().find(|(declared, _)| *declared == name)
            else {
                let hint = suggest::did_you_mean(
                    name,
                    "its params",
                    declared.iter().map(|(name, _)| *name),
                );
                self.complain(
                    format!(
                        "--param {name}: {} has no such param",
                        self.definition.title()
                    ),
                    &hint,
                );
                continue;
            };
            match value(text, declaration) {
                Ok(value) => {
                    given.retain(|(earlier, _)| earlier != name);
                    given.push((name.to_owned(), value));
                }
                Err(problem) => self.complain(
                    format!("--param {name}: {problem}"),
                    "arrays: a,b or [a, b]; objects: k:v,l:w or {k: v}",
                ),
            }
        }
        for (name, declaration) in &declared {
            if declaration.get("default").is_none() && !given.iter().any(|(given, _)| given == name)
            {
                let span = declaration
                    .get("name")
                    .map_or(declaration.span, |name| name.span);
                let diagnostic = Diagnostic::error(format!("param `{name}` has no value"))
                    .hint(format!("give it one with --param {name}=…"))
                    .at(&self.definition.source, span);
                self.diagnostics.push(diagnostic);
            }
        }
        given
            .into_iter()
            .map(|(name, value)| json!({"name": name, "value": value}))
            .collect()
    }

    fn workspaces(&mut self, spec: Option<&Node>) -> Vec<Value> {
        let declared: Vec<(&str, &Node)> = spec
            .map(|spec| named(spec, "workspaces").collect())
            .unwrap_or_default();
        let mut bound: Vec<(String, Value)> = Vec::new();
        for argument in &self.arguments.workspaces {
            let Some((name, source)) = argument.split_once('=') else {
                self.complain(format!("--workspace {argument}: no `=`"), WORKSPACE_FORMS);
                continue;
            };
            if !declared.iter().any(|(declared, _)| *declared == name) {
                let hint = suggest::did_you_mean(
                    name,
                    "its workspaces",
                    declared.iter().map(|(name, _)| *name),
                );
                self.complain(
                    format!(
                        "--workspace {name}: {} has no such workspace",
                        self.definition.title()
                    ),
                    &hint,
                );
                continue;
            }
            match self.binding(name, source) {
                Ok(binding) => bound.push((name.to_owned(), binding)),
                Err(problem) => self.complain(
                    format!("--workspace {argument}: {problem}"),
                    WORKSPACE_FORMS,
                ),
            }
        }
        for (name, declaration) in &declared {
            let optional = declaration
                .get("optional")
                .is_some_and(|node| node.to_json() == json!(true));
            if !optional && !bound.iter().any(|(bound, _)| bound == name) {
                let span = declaration
                    .get("name")
                    .map_or(declaration.span, |name| name.span);
                let diagnostic = Diagnostic::error(format!("workspace `{name}` is not bound"))
                    .hint(format!(
                        "bind it with --workspace {name}=emptyDir or --workspace {name}=dir=PATH"
                    ))
                    .at(&self.definition.source, span);
                self.diagnostics.push(diagnostic);
            }
        }
        bound.into_iter().map(|(_, binding)| binding).collect()
    }

    fn binding(&mut self, name: &str, source: &str) -> Result<Value, String> {
        let (kind, value) = source.split_once('=').unwrap_or((source, ""));
        if kind != "emptyDir" && value.is_empty() {
            return Err(format!("`{kind}` needs a value"));
        }
        Ok(match kind {
            "emptyDir" => json!({"name": name, "emptyDir": {}}),
            "claim" => json!({"name": name, "persistentVolumeClaim": {"claimName": value}}),
            "config" => json!({"name": name, "configMap": {"name": value}}),
            "secret" => json!({"name": name, "secret": {"secretName": value}}),
            "dir" if self.arguments.target.is_given() => {
                return Err(
                    "another cluster's nodes do not see this machine's directories".to_owned(),
                );
            }
            "dir" => {
                let path =
                    std::path::absolute(Path::new(value)).map_err(|error| error.to_string())?;
                if !path.is_dir() {
                    return Err(format!("{} is not a directory", path.display()));
                }
                let claim = format!("dir-{name}")
                    .to_lowercase()
                    .replace(|c: char| !c.is_ascii_alphanumeric(), "-");
                self.directories.push((claim.clone(), path));
                json!({"name": name, "persistentVolumeClaim": {"claimName": claim}})
            }
            other => return Err(format!("`{other}` is not a source")),
        })
    }

    fn complain(&mut self, message: String, hint: &str) {
        self.diagnostics.push(Diagnostic::error(message).hint(hint));
    }
}

const WORKSPACE_FORMS: &str =
    "write name=emptyDir, name=dir=PATH, name=claim=NAME, name=config=NAME or name=secret=NAME";

/// The value of a param by its declared type.
fn value(text: &str, declaration: &Node) -> Result<Value, String> {
    let declared = declaration.get("type").and_then(Node::as_str);
    let by_default = declaration
        .get("default")
        .map(|default| match default.to_json() {
            Value::Array(_) => "array",
            Value::Object(_) => "object",
            _ => "string",
        });
    let object = declaration.get("properties").map(|_| "object");
    match declared.or(object).or(by_default).unwrap_or("string") {
        "array" if text.starts_with('[') => match parse_node(text)?.map(|node| node.content) {
            Some(Content::Sequence(items)) => {
                Ok(items.iter().map(|item| as_text(item, text)).collect())
            }
            _ => Err("not a list".to_owned()),
        },
        "array" => Ok(text
            .split(',')
            .filter(|item| !item.is_empty())
            .map(|item| json!(item.trim()))
            .collect()),
        "object" if text.starts_with('{') => match parse_node(text)?.map(|node| node.content) {
            Some(Content::Mapping(entries)) => Ok(entries
                .into_iter()
                .map(|entry| (entry.key, as_text(&entry.node, text)))
                .collect::<Map<_, _>>()
                .into()),
            _ => Err("not an object".to_owned()),
        },
        "object" => {
            let pairs = text.split(',').map(|pair| {
                let (key, value) = pair
                    .split_once(':')
                    .ok_or_else(|| format!("`{pair}` is not key:value"))?;
                Ok((key.trim().to_owned(), json!(value.trim())))
            });
            Ok(Value::Object(pairs.collect::<Result<Map<_, _>, String>>()?))
        }
        _ => Ok(json!(text)),
    }
}

/// Params hold text only: what YAML would take for a number or a boolean stays as it was typed.
fn as_text(node: &Node, source: &str) -> Value {
    match node.as_str() {
        Some(text) => json!(text),
        None => json!(
            source
                .get(node.span.start..node.span.end)
                .unwrap_or_default()
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manifest::load_text;

    fn arguments(extra: &[&str]) -> arguments::Run {
        use clap::Parser as _;
        let line = ["tektite", "run", "x.yaml"].iter().chain(extra);
        match arguments::Arguments::parse_from(line).command {
            arguments::Command::Run(run) => run,
            other => unreachable!("{other:?}"),
        }
    }

    const TASK: &str = "apiVersion: tekton.dev/v1\nkind: Task\nmetadata: {name: t}\nspec:\n  params:\n  - name: s\n  - {name: a, type: array, default: []}\n  - {name: o, properties: {k: {type: string}}, default: {k: v}}\n  workspaces:\n  - name: w\n  - {name: x, optional: true}\n  steps: [{image: host, script: echo}]\n";

    #[test]
    fn params_are_typed_by_their_declaration_and_workspaces_by_their_source() {
        let run = arguments(&[
            "-p",
            "s=1",
            "-p",
            "a=[x, y, 010, 1.0, 'no']",
            "-p",
            "o={k: 2.50}",
            "-w",
            "w=secret=creds",
            "-s",
            "bot",
        ]);
        let start = start(&load_text(TASK), &run)
            .expect("a run")
            .expect("one is started");
        let spec = &start.run["spec"];
        assert_eq!(
            spec["params"],
            json!([{"name": "s", "value": "1"}, {"name": "a", "value": ["x", "y", "010", "1.0", "no"]}, {"name": "o", "value": {"k": "2.50"}}])
        );
        assert_eq!(
            spec["workspaces"],
            json!([{"name": "w", "secret": {"secretName": "creds"}}])
        );
        assert_eq!(spec["serviceAccountName"], "bot");
        assert_eq!(start.run["metadata"]["generateName"], "t-run-");
    }

    #[test]
    fn everything_missing_or_wrong_is_said_at_once() {
        let failure = start(
            &load_text(TASK),
            &arguments(&["-p", "z=1", "-p", "q", "-w", "x=dir=/no/such/place"]),
        )
        .expect_err("refused");
        let messages: Vec<_> = failure
            .diagnostics
            .iter()
            .map(|d| d.message.as_str())
            .collect();
        assert_eq!(
            messages,
            [
                "--param z: Task t has no such param",
                "--param q: no `=`",
                "param `s` has no value",
                "--workspace x=dir=/no/such/place: /no/such/place is not a directory",
                "workspace `w` is not bound",
            ]
        );
    }

    #[test]
    fn manifests_with_runs_start_those_and_nothing_else() {
        let text = format!(
            "{TASK}---\napiVersion: tekton.dev/v1\nkind: TaskRun\nmetadata: {{name: r}}\nspec: {{taskRef: {{name: t}}}}\n"
        );
        assert!(
            start(&load_text(&text), &arguments(&[]))
                .expect("fine")
                .is_none()
        );
        assert!(start(&load_text(&text), &arguments(&["-p", "s=1"])).is_err());
        assert!(
            start(
                &load_text(&format!(
                    "{TASK}---\n{}",
                    TASK.replace("name: t}", "name: u}")
                )),
                &arguments(&[])
            )
            .is_err()
        );
    }
}
