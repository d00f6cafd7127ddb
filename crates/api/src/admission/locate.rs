//! From upstream's notation of a path to the field it means.

use serde_json::Value;

use super::{FieldError, field_error::quote};

#[derive(Clone, Debug, PartialEq)]
enum Token<'a> {
    Name(&'a str),
    Index(usize),
    Key(&'a str),
}

impl FieldError {
    /// The real path (`spec.steps[0].image`) of the field in `object` that the finding's first path means, or of the
    /// nearest one around it. Upstream writes some paths in another case, names list items by name, leaves out the
    /// inline spec that they are in, or repeats a prefix.
    ///
    /// ```
    /// use serde_json::json;
    /// use tektite_api::admission::{Request, validate};
    /// let task = json!({"apiVersion": "tekton.dev/v1", "kind": "Task", "metadata": {"name": "t"},
    ///     "spec": {"steps": [{"image": "i", "env": [{"name": "E", "value": "$(params.nope)"}]}]}});
    /// let refusal = validate(&Request::create(&task), &Default::default()).unwrap_err();
    /// assert_eq!(refusal.errors[0].paths, ["spec.steps[0].env[E]"]);
    /// assert_eq!(refusal.errors[0].locate(&task), "spec.steps[0].env[0].value");
    /// ```
    pub fn locate(&self, object: &Value) -> String {
        let tokens = self
            .paths
            .first()
            .map(|path| tokens(path))
            .unwrap_or_default();
        let Some((Token::Name("spec"), rest)) = tokens
            .split_first()
            .map(|(first, rest)| (first.clone(), rest))
        else {
            return walk(object, String::new(), &tokens).path;
        };
        let spec = &object["spec"];
        let mut tries = vec![walk(spec, "spec".to_owned(), rest)];
        for (inner, path) in inner_specs(spec, "spec".to_owned()) {
            tries.push(walk(inner, path, rest));
        }
        // The text that the message quotes tells which of several places is meant.
        for found in &mut tries {
            found.quoted = found.value.is_some_and(|value| self.quotes(value));
        }
        let best = tries.into_iter().reduce(|best, next| {
            if next.rank() > best.rank() {
                next
            } else {
                best
            }
        });
        best.map(|found| self.deepest(found)).unwrap_or_default()
    }

    fn quotes(&self, value: &Value) -> bool {
        match value {
            Value::String(text) => !text.is_empty() && self.message.contains(&quote(text)),
            Value::Object(fields) => fields.get("value").is_some_and(|value| self.quotes(value)),
            _ => false,
        }
    }

    /// A finding on a named value is about its `value`, where that is what it quotes.
    fn deepest(&self, found: Found<'_>) -> String {
        match found.value.and_then(|value| value.get("value")) {
            Some(value) if self.quotes(value) => format!("{}.value", found.path),
            _ => found.path,
        }
    }
}

struct Found<'a> {
    path: String,
    value: Option<&'a Value>,
    /// How many tokens had a meaning.
    steps: usize,
    complete: bool,
    quoted: bool,
}

impl Found<'_> {
    fn rank(&self) -> (bool, bool, usize) {
        (self.quoted, self.complete, self.steps)
    }
}

/// Every spec given inline below `spec`.
fn inner_specs(spec: &Value, path: String) -> Vec<(&Value, String)> {
    let mut found = Vec::new();
    for field in ["taskSpec", "pipelineSpec"] {
        if let Some(inner) = spec.get(field).filter(|inner| inner.is_object()) {
            let path = format!("{path}.{field}");
            found.push((inner, path.clone()));
            found.extend(inner_specs(inner, path));
        }
    }
    for list in ["tasks", "finally"] {
        for (index, task) in spec[list].as_array().into_iter().flatten().enumerate() {
            let path = format!("{path}.{list}[{index}]");
            found.push((task, path.clone()));
            found.extend(inner_specs(task, path));
        }
    }
    found
}

fn tokens(path: &str) -> Vec<Token<'_>> {
    let mut tokens = Vec::new();
    let mut rest = path;
    while !rest.is_empty() {
        rest = rest.strip_prefix('.').unwrap_or(rest);
        if let Some((inside, after)) = rest.strip_prefix('[').and_then(|r| r.split_once(']')) {
            tokens.push(inside.parse().map_or(Token::Key(inside), Token::Index));
            rest = after;
            continue;
        }
        let end = rest
            .find(['.', '['])
            .filter(|end| *end > 0)
            .unwrap_or(rest.len());
        tokens.push(Token::Name(&rest[..end]));
        rest = &rest[end..];
    }
    tokens
}

fn walk<'a>(start: &'a Value, path: String, tokens: &[Token<'_>]) -> Found<'a> {
    let mut found = Found {
        path,
        value: Some(start),
        steps: 0,
        complete: false,
        quoted: false,
    };
    let mut list: Option<(&Value, String)> = None;
    let mut tokens = tokens.to_vec();
    // `steps.results[0][1]` is upstream's for `steps[0].results[1]`.
    if let [
        Token::Name("steps"),
        Token::Name("results"),
        Token::Index(_),
        ..,
    ] = tokens.as_slice()
    {
        tokens.swap(1, 2);
    }
    for token in &tokens {
        let Some(at) = found.value else { break };
        let repeats = matches!(token, Token::Name("steps")) && at.get("steps").is_none();
        if let (true, Some((steps, path))) = (repeats, &list) {
            // A repeated prefix: the last one counts.
            (found.value, found.path) = (Some(*steps), path.clone());
            found.steps += 1;
            continue;
        }
        let Some((value, suffix)) = step(at, token) else {
            return found;
        };
        found.path.push_str(&suffix);
        found.value = Some(value);
        found.steps += 1;
        if matches!(token, Token::Name("steps")) {
            list = Some((value, found.path.clone()));
        }
    }
    found.complete = true;
    found
}

/// One step down, and what it adds to the path.
fn step<'a>(at: &'a Value, token: &Token<'_>) -> Option<(&'a Value, String)> {
    match (at, token) {
        (Value::Array(items), Token::Index(index)) => {
            Some((items.get(*index)?, format!("[{index}]")))
        }
        (Value::Array(items), Token::Key(name) | Token::Name(name)) => {
            let index = items.iter().position(|item| item["name"] == *name)?;
            Some((&items[index], format!("[{index}]")))
        }
        (Value::Object(fields), Token::Name(name) | Token::Key(name)) => {
            let name = match *name {
                "volumeMount" => "volumeMounts",
                "negative timeout" => "timeout",
                "resources" if !fields.contains_key("resources") => "computeResources",
                name => name,
            };
            let same = |key: &&String| key.as_str() == name;
            let alike = |key: &&String| key.eq_ignore_ascii_case(name);
            if let Some(key) = fields
                .keys()
                .find(same)
                .or_else(|| fields.keys().find(alike))
            {
                return Some((&fields[key], format!(".{key}")));
            }
            // `spec.NAME.properties` is upstream's for a param of that name.
            ["params", "results"].into_iter().find_map(|list| {
                let (value, suffix) = step(fields.get(list)?, &Token::Key(name))?;
                Some((value, format!(".{list}{suffix}")))
            })
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// T-030, T-034, T-046, T-050, T-052, T-055, T-062, T-066, T-069, T-077
    #[test]
    fn odd_paths_lead_to_real_fields() {
        let steps = json!([
            {"image": "a", "timeout": "-1s", "volumeMounts": [{"mountPath": "/x"}], "results": [{"name": "r"}, {"name": ""}]},
            {"script": "$(params.z)", "env": [{"name": "E", "value": "v"}]}
        ]);
        let params = json!([{"name": "p", "type": "x"}, {"name": "a.b"}]);
        let task = json!({"spec": {"steps": steps, "params": params, "workspaces": [{"configMap": {}}], "managedBy": "m"}});
        let run =
            json!({"spec": {"params": [{"name": "q", "value": "v"}], "taskSpec": task["spec"]}});
        let pipeline_run = json!({"spec": {"pipelineSpec": {"tasks": [
            {"name": "one", "taskSpec": {"steps": [{"script": "fine"}]}},
            {"name": "two", "taskSpec": {"steps": [{"script": "$(params.z)"}]}}
        ]}}});
        for (object, path, message, expected) in [
            (&task, "spec.steps[1].Image", "", "spec.steps[1]"),
            (&task, "spec.steps[0].Image", "", "spec.steps[0].image"),
            (
                &task,
                "spec.steps[0].negative timeout",
                "",
                "spec.steps[0].timeout",
            ),
            (
                &task,
                "spec.steps[0].volumeMount[0].MountPath",
                "",
                "spec.steps[0].volumeMounts[0].mountPath",
            ),
            (&task, "spec.steps[1].env[E]", "", "spec.steps[1].env[0]"),
            (
                &task,
                "spec.steps[1].env[E]",
                "in \"v\"",
                "spec.steps[1].env[0].value",
            ),
            (&task, "spec.params.p.type", "", "spec.params[0].type"),
            (&task, "spec.params[p]", "", "spec.params[0]"),
            (&task, "spec.p.properties", "", "spec.params[0]"),
            (
                &task,
                "spec.steps[1].steps[0].image",
                "",
                "spec.steps[0].image",
            ),
            (
                &task,
                "spec.steps.results[0][1].name",
                "",
                "spec.steps[0].results[1].name",
            ),
            (
                &task,
                "spec.workspaces[0].configmap.name",
                "",
                "spec.workspaces[0].configMap",
            ),
            (&task, "spec.taskRef", "", "spec"),
            (
                &run,
                "spec.steps[1].script",
                "in \"$(params.z)\"",
                "spec.taskSpec.steps[1].script",
            ),
            (&run, "spec.params[q].name", "", "spec.params[0].name"),
            (
                &pipeline_run,
                "spec.steps[0].script",
                "in \"$(params.z)\"",
                "spec.pipelineSpec.tasks[1].taskSpec.steps[0].script",
            ),
            (&task, "metadata.name", "", ""),
        ] {
            let error = FieldError::generic(message, [path]);
            assert_eq!(error.locate(object), expected, "{path}");
        }
    }
}
