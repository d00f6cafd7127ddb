//! References in a pipeline task to results of other tasks, and the dependencies that come of them.

use std::collections::BTreeSet;

use tektite_api::v1::{Param, PipelineTask, Sidecar, Step, WhenExpression};

/// A reference to a task's result: `tasks.<task>.results.<result>`, with `[3]`, `[*]` or `.<key>` behind it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ResultRef {
    /// The pipeline task that gives the result.
    pub task: String,
    /// The result's name.
    pub result: String,
    /// The element wanted of an array.
    pub index: Option<usize>,
    /// The key wanted of an object; empty if none.
    pub key: String,
}

impl ResultRef {
    /// Reads what stands between `$(` and `)`; `None` if that is no reference to a result (P-113).
    #[must_use]
    pub fn parse(expression: &str) -> Option<Self> {
        if !looks_like_result(expression) {
            return None;
        }
        let parts: Vec<&str> = expression.split('.').collect();
        match parts[..] {
            [_, task, _, result] => {
                let (result, index) = split_index(result);
                let index = match index {
                    "" | "*" => None,
                    digits => Some(digits.parse().unwrap_or(0)),
                };
                Some(Self {
                    task: task.to_owned(),
                    result,
                    index,
                    key: String::new(),
                })
            }
            [_, task, _, result, key] => Some(Self {
                task: task.to_owned(),
                result: result.to_owned(),
                index: None,
                key: key.to_owned(),
            }),
            _ => None,
        }
    }
}

/// Whether what stands between `$(` and `)` speaks of a result, well-formed or not.
#[must_use]
pub fn looks_like_result(expression: &str) -> bool {
    let mut parts = expression.split('.');
    matches!(parts.next(), Some("tasks" | "finally"))
        && parts.next().is_some()
        && parts.next() == Some("results")
        && parts.next().is_some()
}

/// A result's name without its `[i]` or `[*]`, and what stood between the brackets.
#[must_use]
pub fn split_index(result: &str) -> (String, &str) {
    let index = result.find('[').and_then(|open| {
        let close = open + result[open..].find(']')?;
        let inside = &result[open + 1..close];
        let digits = inside.strip_suffix('*').unwrap_or(inside);
        digits
            .bytes()
            .all(|byte| byte.is_ascii_digit())
            .then_some((open, close))
    });
    match index {
        Some((open, close)) => (
            format!("{}{}", &result[..open], &result[close + 1..]),
            &result[open + 1..close],
        ),
        None => (result.to_owned(), ""),
    }
}

/// Every variable in `text` in dotted spelling, with its index but without `$(` and `)` (P-112).
#[must_use]
pub fn variables(text: &str) -> Vec<&str> {
    let mut found = Vec::new();
    let mut rest = text;
    while let Some(start) = rest.find("$(") {
        rest = &rest[start + 2..];
        if let Some(length) = variable_length(rest) {
            found.push(&rest[..length]);
            rest = &rest[length + 1..];
        }
    }
    found
}

/// Length of the variable that `text` begins with and that a `)` follows.
fn variable_length(text: &str) -> Option<usize> {
    let bytes = text.as_bytes();
    let is_name = |byte: &&u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'-');
    let mut length = bytes.iter().take_while(is_name).count();
    if length == 0 {
        return None;
    }
    if bytes.get(length) == Some(&b'[') {
        let index = &bytes[length + 1..];
        let digits = index
            .iter()
            .take_while(|byte| byte.is_ascii_digit())
            .count();
        let inside = if digits > 0 {
            digits
        } else {
            usize::from(index.first() == Some(&b'*'))
        };
        if inside == 0 || index.get(inside) != Some(&b']') {
            return None;
        }
        length += inside + 2;
    }
    (bytes.get(length) == Some(&b')')).then_some(length)
}

/// Variables in a param's value.
pub(crate) fn param_variables(param: &Param) -> Vec<&str> {
    param
        .value
        .texts()
        .into_iter()
        .flat_map(variables)
        .collect()
}

/// Variables in a when expression: input, then CEL, then values.
pub(crate) fn when_variables(when: &WhenExpression) -> Vec<&str> {
    [&when.input, &when.cel]
        .into_iter()
        .chain(&when.values)
        .flat_map(|text| variables(text))
        .collect()
}

/// Params of a task and of its matrix.
pub(crate) fn all_params(task: &PipelineTask) -> impl Iterator<Item = &Param> {
    let matrix = task.matrix.as_ref();
    let include = matrix
        .into_iter()
        .flat_map(|matrix| matrix.include.iter().flat_map(|include| &include.params));
    task.params
        .iter()
        .chain(matrix.into_iter().flat_map(|matrix| &matrix.params))
        .chain(include)
}

/// Every reference to a result in the places where one makes a dependency (P-111).
#[must_use]
pub fn result_refs(task: &PipelineTask) -> Vec<ResultRef> {
    let mut expressions: Vec<&str> = all_params(task).flat_map(param_variables).collect();
    expressions.extend(task.when.iter().flat_map(when_variables));
    if let Some(embedded) = &task.task_spec {
        expressions.extend(
            embedded
                .task
                .steps
                .iter()
                .flat_map(step_texts)
                .flat_map(variables),
        );
        expressions.extend(
            embedded
                .task
                .sidecars
                .iter()
                .flat_map(sidecar_texts)
                .flat_map(variables),
        );
    }
    expressions
        .into_iter()
        .filter_map(ResultRef::parse)
        .collect()
}

/// What `task` waits for: `runAfter` and the tasks whose results it uses, sorted.
#[must_use]
pub fn dependencies(task: &PipelineTask) -> Vec<String> {
    let mut on: BTreeSet<String> = result_refs(task)
        .into_iter()
        .map(|reference| reference.task)
        .collect();
    on.extend(task.run_after.iter().cloned());
    on.into_iter().collect()
}

fn step_texts(step: &Step) -> Vec<&str> {
    let mut texts: Vec<&str> = vec![
        &step.name,
        &step.image,
        &step.image_pull_policy,
        &step.script,
        &step.working_dir,
    ];
    texts.extend(step.command.iter().chain(&step.args).map(String::as_str));
    texts.extend(step.env.iter().flat_map(env_texts));
    texts
}

fn sidecar_texts(sidecar: &Sidecar) -> Vec<&str> {
    let mut texts: Vec<&str> = vec![
        &sidecar.name,
        &sidecar.image,
        &sidecar.image_pull_policy,
        &sidecar.script,
        &sidecar.working_dir,
    ];
    texts.extend(
        sidecar
            .command
            .iter()
            .chain(&sidecar.args)
            .map(String::as_str),
    );
    texts.extend(sidecar.env.iter().flat_map(env_texts));
    texts
}

fn env_texts(env: &k8s_openapi::api::core::v1::EnvVar) -> Vec<&str> {
    let mut texts: Vec<&str> = env.value.as_deref().into_iter().collect();
    if let Some(from) = &env.value_from {
        texts.extend(
            from.secret_key_ref
                .iter()
                .flat_map(|key| [key.key.as_str(), key.name.as_str()]),
        );
        texts.extend(
            from.config_map_key_ref
                .iter()
                .flat_map(|key| [key.key.as_str(), key.name.as_str()]),
        );
    }
    texts
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn only_dotted_variables_are_found_in_a_text() {
        // P-112
        for (text, expected) in [
            (
                "$(tasks.a.results.r) $(tasks.b.results.s[3])",
                vec!["tasks.a.results.r", "tasks.b.results.s[3]"],
            ),
            ("$(tasks.a.results.r[*])", vec!["tasks.a.results.r[*]"]),
            ("$(tasks.a.results['r'])", vec![]),
            ("$(tasks.a.results.r[x])$(date)", vec!["date"]),
            ("$($(a.b)) $(a b) $()", vec!["a.b"]),
            ("$(a[1", vec![]),
        ] {
            assert_eq!(variables(text), expected, "{text}");
        }
    }

    #[test]
    fn a_result_reference_has_four_parts_or_five() {
        // P-113
        let reference = |task: &str, result: &str, index, key: &str| {
            Some(ResultRef {
                task: task.into(),
                result: result.into(),
                index,
                key: key.into(),
            })
        };
        for (expression, expected) in [
            ("tasks.a.results.r", reference("a", "r", None, "")),
            ("finally.a.results.r", reference("a", "r", None, "")),
            ("tasks.a.results.r[2]", reference("a", "r", Some(2), "")),
            ("tasks.a.results.r[*]", reference("a", "r", None, "")),
            ("tasks.a.results.r.k", reference("a", "r", None, "k")),
            ("tasks.a.results.r.k.more", None),
            ("tasks.a.status", None),
            ("params.a.results.r", None),
        ] {
            assert_eq!(ResultRef::parse(expression), expected, "{expression}");
        }
        assert!(looks_like_result("tasks.a.results.r.k.more"));
    }

    #[test]
    fn dependencies_come_from_the_places_where_results_are_used_and_from_run_after() {
        // P-111
        let task: PipelineTask = serde_json::from_value(json!({
            "name": "t",
            "displayName": "$(tasks.no1.results.r)",
            "runAfter": ["z", "p"],
            "taskRef": {"resolver": "git", "params": [{"name": "x", "value": "$(tasks.no2.results.r)"}]},
            "workspaces": [{"name": "w", "subPath": "$(tasks.no3.results.r)"}],
            "params": [
                {"name": "a", "value": "$(tasks.p.results.r)"},
                {"name": "b", "value": ["$(tasks.q.results.r[*])"]},
                {"name": "c", "value": {"k": "$(tasks.o.results.r.k)"}}
            ],
            "matrix": {
                "params": [{"name": "m", "value": ["$(tasks.m.results.r)"]}],
                "include": [{"params": [{"name": "i", "value": "$(tasks.i.results.r)"}]}]
            },
            "when": [
                {"input": "$(tasks.w1.results.r)", "operator": "in", "values": ["$(tasks.w2.results.r)"]},
                {"cel": "'$(tasks.w3.results.r)' == ''"}
            ],
            "taskSpec": {
                "steps": [{
                    "image": "$(tasks.s1.results.r)", "script": "$(tasks.s2.results.r)", "args": ["$(tasks.s3.results.r)"],
                    "env": [{"name": "E", "value": "$(tasks.s4.results.r)"}]
                }],
                "sidecars": [{"name": "s", "image": "i", "command": ["$(tasks.s5.results.r)"]}]
            }
        }))
        .unwrap();
        assert_eq!(
            dependencies(&task),
            [
                "i", "m", "o", "p", "q", "s1", "s2", "s3", "s4", "s5", "w1", "w2", "w3", "z"
            ]
        );
    }
}
