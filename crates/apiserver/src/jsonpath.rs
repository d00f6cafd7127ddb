//! The JSONPath of printer columns: fields, indices, wildcards and equality filters.

use serde_json::Value;

/// A parsed path such as `.status.conditions[?(@.type=="Succeeded")].status`.
#[derive(Debug)]
pub struct JsonPath(Vec<Step>);

#[derive(Debug)]
enum Step {
    Field(String),
    Index(i64),
    All,
    /// `[?(@.path == value)]`; `None` asks for existence.
    Filter(Vec<String>, Option<(bool, Value)>),
}

impl JsonPath {
    /// Parses a path; `None` if it has a form this does not know.
    pub fn parse(text: &str) -> Option<Self> {
        let text = text.trim();
        let text = text
            .strip_prefix('{')
            .and_then(|text| text.strip_suffix('}'))
            .unwrap_or(text);
        let mut rest = text.strip_prefix('$').unwrap_or(text);
        let mut steps = Vec::new();
        while !rest.is_empty() {
            if let Some(tail) = rest.strip_prefix('.') {
                let (name, tail) = field(tail);
                if name == "*" {
                    steps.push(Step::All);
                } else if !name.is_empty() {
                    steps.push(Step::Field(name));
                }
                rest = tail;
            } else if let Some(tail) = rest.strip_prefix("[?(") {
                let (filter, tail) = tail.split_once(")]")?;
                steps.push(parse_filter(filter)?);
                rest = tail;
            } else if let Some(tail) = rest.strip_prefix('[') {
                let (inside, tail) = tail.split_once(']')?;
                steps.push(match inside.trim() {
                    "*" => Step::All,
                    quoted if quoted.starts_with(['\'', '"']) => {
                        Step::Field(quoted.get(1..quoted.len() - 1)?.to_owned())
                    }
                    number => Step::Index(number.parse().ok()?),
                });
                rest = tail;
            } else {
                let (name, tail) = field(rest);
                if name.is_empty() {
                    return None;
                }
                steps.push(Step::Field(name));
                rest = tail;
            }
        }
        Some(Self(steps))
    }

    /// The first value the path leads to.
    pub fn first<'a>(&self, value: &'a Value) -> Option<&'a Value> {
        find(value, &self.0)
    }
}

/// A field name up to the next separator; a backslash takes the next character as it is.
fn field(text: &str) -> (String, &str) {
    let mut name = String::new();
    let mut escaped = false;
    for (index, c) in text.char_indices() {
        if escaped {
            name.push(c);
            escaped = false;
        } else if c == '\\' {
            escaped = true;
        } else if c == '.' || c == '[' {
            return (name, &text[index..]);
        } else {
            name.push(c);
        }
    }
    (name, "")
}

fn parse_filter(text: &str) -> Option<Step> {
    let text = text.trim().strip_prefix('@')?;
    let (path, test) = match (text.split_once("=="), text.split_once("!=")) {
        (Some((path, value)), _) => (path, Some((true, literal(value)?))),
        (None, Some((path, value))) => (path, Some((false, literal(value)?))),
        (None, None) => (text, None),
    };
    let path = path
        .trim()
        .split('.')
        .filter(|part| !part.is_empty())
        .map(str::to_owned)
        .collect();
    Some(Step::Filter(path, test))
}

fn literal(text: &str) -> Option<Value> {
    let text = text.trim();
    match text
        .strip_prefix('\'')
        .and_then(|text| text.strip_suffix('\''))
    {
        Some(inner) => Some(inner.into()),
        None => serde_json::from_str(text).ok(),
    }
}

fn find<'a>(value: &'a Value, steps: &[Step]) -> Option<&'a Value> {
    let Some((step, rest)) = steps.split_first() else {
        return Some(value);
    };
    match step {
        Step::Field(name) => find(value.get(name)?, rest),
        Step::Index(index) => {
            let list = value.as_array()?;
            let index = if *index < 0 {
                *index + list.len() as i64
            } else {
                *index
            };
            find(list.get(usize::try_from(index).ok()?)?, rest)
        }
        Step::All => match value {
            Value::Array(list) => list.iter().find_map(|item| find(item, rest)),
            Value::Object(map) => map.values().find_map(|item| find(item, rest)),
            _ => None,
        },
        Step::Filter(path, test) => value.as_array()?.iter().find_map(|item| {
            let found = path.iter().try_fold(item, |at, key| at.get(key));
            let hit = match (found, test) {
                (Some(found), Some((equal, wanted))) => (found == wanted) == *equal,
                (Some(_), None) => true,
                (None, _) => false,
            };
            if hit { find(item, rest) } else { None }
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn printer_column_paths_find_the_first_match() {
        // K-160
        let object = json!({
            "metadata": {"annotations": {"a.b/c": "x"}},
            "status": {"conditions": [{"type": "Ready", "status": "False"}, {"type": "Succeeded", "status": "True", "n": 1}]},
        });
        for (path, expected) in [
            (
                ".status.conditions[?(@.type==\"Succeeded\")].status",
                Some(json!("True")),
            ),
            (".status.conditions[?(@.type=='None')].status", None),
            (".status.conditions[0].status", Some(json!("False"))),
            (".status.conditions[-1].n", Some(json!(1))),
            (".status.conditions[*].n", Some(json!(1))),
            (".metadata.annotations.a\\.b/c", Some(json!("x"))),
            (".missing.path", None),
            ("['metadata']['annotations']['a.b/c']", Some(json!("x"))),
        ] {
            let path_value = JsonPath::parse(path).unwrap();
            assert_eq!(path_value.first(&object).cloned(), expected, "{path}");
        }
    }

    #[test]
    fn unknown_forms_are_no_path() {
        for text in ["[']", "[x]", ".a[?(@.b", "[?(b)]", "[0"] {
            assert!(JsonPath::parse(text).is_none(), "{text}");
        }
    }
}
