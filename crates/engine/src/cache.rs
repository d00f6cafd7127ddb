//! The task cache, as PipelineRuns and TaskRuns see it: what a task declares of its workspaces, keys, and who stands in.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use tektite_api::v1::TaskRun;

use crate::annotations;
use crate::child_name::sha256_hex;

/// Digits of a key: a label's value has at most 63.
const DIGITS: usize = 40;

/// What a task's outcome follows from, hashed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Key(pub String);

impl Key {
    /// Of everything that the outcome follows from, as text.
    pub fn of(inputs: &str) -> Self {
        Self(sha256_hex(inputs, DIGITS))
    }

    /// The key with the contents of the workspaces, which are known only in the pod.
    pub fn with_contents(&self, digest: &str) -> Self {
        Self::of(&format!("{} {digest}", self.0))
    }

    /// Whether what `run` came to may stand for whatever has this key.
    pub fn is_met_by(&self, run: &TaskRun) -> bool {
        run.succeeded().is_some_and(|it| it.status == "True") && self.labels(&run.metadata)
    }

    /// Whether the object bears it.
    pub fn labels(&self, metadata: &ObjectMeta) -> bool {
        let labels = metadata.labels.as_ref();
        labels.and_then(|all| all.get(annotations::CACHE_KEY)) == Some(&self.0)
    }
}

/// A part of a workspace that the outcome follows from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Contents {
    pub workspace: String,
    /// A file or directory in it; the whole if empty.
    pub path: String,
}

impl Contents {
    /// Reads a list of `<workspace>` and `<workspace>/<path>`, separated by commas or space.
    pub fn parse(text: &str) -> Result<Vec<Self>, String> {
        text.split(|it: char| it == ',' || it.is_whitespace())
            .filter(|item| !item.is_empty())
            .map(|item| {
                let (workspace, path) = item.split_once('/').unwrap_or((item, ""));
                let parts = path.split('/').filter(|part| !matches!(*part, "" | "."));
                let parts: Vec<&str> = parts.collect();
                if matches!(workspace, "" | "." | "..") || parts.contains(&"..") {
                    return Err(format!(
                        "{item:?} is no workspace nor a path in one, such as source or source/go.sum"
                    ));
                }
                Ok(Self {
                    workspace: workspace.to_owned(),
                    path: parts.join("/"),
                })
            })
            .collect()
    }
}

/// What a TaskRun was told by its PipelineRun: its outcome follows from `basis` and these contents.
pub(crate) fn told(run: &TaskRun) -> Option<(Key, Vec<Contents>)> {
    let annotations = run.metadata.annotations.as_ref()?;
    let basis = annotations.get(annotations::CACHE_BASIS)?;
    let contents = annotations.get(annotations::CACHE_WORKSPACES)?;
    let contents = Contents::parse(contents).ok()?;
    Some((Key(basis.clone()), contents))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn contents_are_workspaces_and_paths_within_them() {
        let read = |text: &str| {
            let all = Contents::parse(text)?;
            let pairs = all.into_iter().map(|it| (it.workspace, it.path));
            Ok::<_, String>(pairs.collect::<Vec<_>>())
        };
        let of = |pairs: &[(&str, &str)]| {
            let pairs = pairs
                .iter()
                .map(|(a, b)| ((*a).to_owned(), (*b).to_owned()));
            Ok(pairs.collect::<Vec<_>>())
        };
        assert_eq!(read(""), of(&[]));
        assert_eq!(
            read(" source/go.sum,\n source//./src/  cache "),
            of(&[("source", "go.sum"), ("source", "src"), ("cache", "")])
        );
        for bad in ["source/../x", "/x", "a ../b", "./b", ".."] {
            let error = read(bad).unwrap_err();
            assert!(
                error.contains("is no workspace nor a path in one"),
                "{error}"
            );
        }
    }
}
