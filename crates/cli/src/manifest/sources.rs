//! Where manifests come from: files, directories (as `kubectl -f` reads them: not recursively) and `-`.

use std::fs;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::node::{Content, Node, Span};
use super::{Document, parse};
use crate::diagnostic::{Diagnostic, Source};

/// The file that maps image names; it lies beside manifests and is not one itself.
const IMAGE_MAP: &str = "images.yaml";

/// What was read.
#[derive(Debug, Default)]
pub struct Loaded {
    /// Every object, in the order read.
    pub documents: Vec<Document>,
    /// What could not be read.
    pub diagnostics: Vec<Diagnostic>,
    /// The `images.yaml` files that lie beside the manifests.
    pub image_maps: Vec<PathBuf>,
}

/// Reads all manifests under the given paths.
pub fn load(paths: &[PathBuf]) -> Loaded {
    let mut loaded = Loaded::default();
    for path in paths {
        if path.as_os_str() == "-" {
            let mut text = Vec::new();
            match std::io::stdin().lock().read_to_end(&mut text) {
                Ok(_) => loaded.text("<stdin>".to_owned(), text),
                Err(error) => loaded.diagnostics.push(Diagnostic::error(format!(
                    "cannot read standard input: {error}"
                ))),
            }
        } else if path.is_dir() {
            loaded.directory(path);
        } else {
            loaded.image_map_in(path.parent().unwrap_or(Path::new("")));
            loaded.file(path);
        }
    }
    if loaded.documents.is_empty() && loaded.diagnostics.is_empty() {
        let hint = "give files or directories that hold Tekton objects as YAML or JSON, or - for standard input";
        loaded
            .diagnostics
            .push(Diagnostic::error("no manifests found").hint(hint));
    }
    loaded
}

impl Loaded {
    fn directory(&mut self, directory: &Path) {
        let entries = match fs::read_dir(directory) {
            Ok(entries) => entries,
            Err(error) => return self.unreadable(directory, &error),
        };
        let mut files: Vec<PathBuf> = entries
            .filter_map(|entry| Some(entry.ok()?.path()))
            .filter(|path| {
                path.extension()
                    .is_some_and(|e| e == "yaml" || e == "yml" || e == "json")
            })
            .filter(|path| path.file_name().is_none_or(|name| name != IMAGE_MAP) && path.is_file())
            .collect();
        files.sort();
        self.image_map_in(directory);
        for file in files {
            self.file(&file);
        }
    }

    fn image_map_in(&mut self, directory: &Path) {
        let map = directory.join(IMAGE_MAP);
        if map.is_file() && !self.image_maps.contains(&map) {
            self.image_maps.push(map);
        }
    }

    fn file(&mut self, path: &Path) {
        match fs::read(path) {
            Ok(bytes) => self.text(path.display().to_string(), bytes),
            Err(error) => self.unreadable(path, &error),
        }
    }

    fn unreadable(&mut self, path: &Path, error: &std::io::Error) {
        let hint = match error.kind() {
            std::io::ErrorKind::NotFound => {
                "check the path; it is taken relative to the current directory"
            }
            _ => "check that it is a file or directory you may read",
        };
        let message = format!("cannot read {}: {error}", path.display());
        self.diagnostics.push(Diagnostic::error(message).hint(hint));
    }

    pub(super) fn text(&mut self, name: String, bytes: Vec<u8>) {
        let mut text = match String::from_utf8(bytes) {
            Ok(text) => text,
            Err(error) => {
                let at = error.utf8_error().valid_up_to();
                let text = String::from_utf8_lossy(error.as_bytes()).into_owned();
                let source = Arc::new(Source { name, text });
                let span = Span { start: at, end: at };
                let diagnostic = Diagnostic::error("not UTF-8 text").hint("save the file as UTF-8");
                return self.diagnostics.push(diagnostic.at(&source, span));
            }
        };
        if !text.ends_with('\n') {
            // As kubectl does: a block scalar at the very end, such as a script, keeps its last line's end.
            text.push('\n');
        }
        let source = Arc::new(Source { name, text });
        for (start, end) in split(&source.text) {
            let (node, problems) = parse::document(&source.text[start..end], start);
            for problem in problems {
                let mut diagnostic = Diagnostic::error(problem.message)
                    .hint(problem.hint)
                    .at(&source, problem.span);
                if let Some((span, label)) = problem.related {
                    diagnostic = diagnostic.related(span, label);
                }
                self.diagnostics.push(diagnostic);
            }
            if let Some(node) = node {
                self.object(&source, node);
            }
        }
    }

    fn object(&mut self, source: &Arc<Source>, root: Node) {
        if let Content::Scalar(serde_json::Value::Null) = root.content {
            return;
        }
        let start = root
            .entries()
            .first()
            .map_or(root.span, |entry| entry.key_span);
        let Content::Mapping(_) = &root.content else {
            let diagnostic = Diagnostic::error("not a Kubernetes object")
                .hint("a manifest is an object with apiVersion, kind and metadata")
                .at(source, start);
            return self.diagnostics.push(diagnostic);
        };
        let text = |key: &str| {
            root.get(key)
                .and_then(Node::as_str)
                .filter(|text| !text.is_empty())
                .map(str::to_owned)
        };
        match (text("apiVersion"), text("kind")) {
            (Some(api_version), Some(kind)) if kind == "List" && api_version == "v1" => {
                for item in root.get("items").map(Node::items).unwrap_or_default() {
                    self.object(source, item.clone());
                }
            }
            (Some(api_version), Some(kind)) => {
                self.documents.push(Document {
                    source: Arc::clone(source),
                    root,
                    api_version,
                    kind,
                });
            }
            (api_version, _) => {
                let (field, hint) = match api_version {
                    None => (
                        "apiVersion",
                        "Tekton's objects have `apiVersion: tekton.dev/v1`",
                    ),
                    Some(_) => ("kind", "such as Task, Pipeline, TaskRun or PipelineRun"),
                };
                let diagnostic =
                    Diagnostic::error(format!("{field} is missing or not a string")).hint(hint);
                let span = root.entry(field).map_or(start, |entry| entry.key_span);
                self.diagnostics.push(diagnostic.at(source, span));
            }
        }
    }
}

/// The byte ranges between lines that start with `---`, as kubectl splits them, so that one broken document does not
/// hide the others.
fn split(text: &str) -> Vec<(usize, usize)> {
    let text_start = if text.starts_with('\u{feff}') {
        '\u{feff}'.len_utf8()
    } else {
        0
    };
    let mut parts = Vec::new();
    let mut start = text_start;
    let mut line_start = text_start;
    for line in text[text_start..].split_inclusive('\n') {
        let next = line_start + line.len();
        let separator = line
            .strip_prefix("---")
            .is_some_and(|rest| rest.trim_start().is_empty() || rest.starts_with([' ', '\t']));
        if separator {
            parts.push((start, line_start));
            // `--- {a: b}` and `--- # comment`: what follows the dashes belongs to the next document.
            start = line_start + 3;
        }
        line_start = next;
    }
    parts.push((start, text.len()));
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    fn loaded(text: &str) -> Loaded {
        let mut loaded = Loaded::default();
        loaded.text("file.yaml".to_owned(), text.as_bytes().to_vec());
        loaded
    }

    #[test]
    fn documents_are_split_and_lists_unfolded() {
        let text = "---\napiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\n--- # two\napiVersion: v1\nkind: List\nitems:\n- apiVersion: v1\n  kind: Secret\n  metadata: {name: b}\n---\n";
        let found = loaded(text);
        assert!(found.diagnostics.is_empty(), "{:?}", found.diagnostics);
        let titles: Vec<_> = found.documents.iter().map(Document::title).collect();
        assert_eq!(titles, ["ConfigMap a", "Secret b"]);
    }

    #[test]
    fn a_broken_document_does_not_hide_the_others() {
        let found = loaded(
            "apiVersion: v1\nkind: [\n---\napiVersion: v1\nkind: Secret\n---\nkind: Task\n---\n- x\n",
        );
        assert_eq!(found.documents.len(), 1);
        let lines: Vec<_> = found
            .diagnostics
            .iter()
            .filter_map(Diagnostic::location)
            .map(|(_, line, _)| line)
            .collect();
        assert_eq!(lines, [3, 7, 9]);
    }

    #[test]
    fn text_that_is_not_utf8_is_refused_at_its_place() {
        let mut found = Loaded::default();
        found.text("f".to_owned(), b"a: b\nc: \xff\n".to_vec());
        assert_eq!(
            found.diagnostics[0].location(),
            Some(("f".to_owned(), 2, 4))
        );
    }
}
