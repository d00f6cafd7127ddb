//! Label and field selectors (K-124, K-125).

use crate::storage::Stored;

/// A conjunction of requirements on labels.
#[derive(Clone, Debug, Default)]
pub struct Labels(Vec<Requirement>);

#[derive(Clone, Debug)]
struct Requirement {
    key: String,
    test: Test,
}

#[derive(Clone, Debug)]
enum Test {
    Exists,
    Absent,
    In(Vec<String>),
    /// Also matches objects without the key.
    NotIn(Vec<String>),
    Greater(i64),
    Less(i64),
}

impl Labels {
    /// Parses `a=b,c!=d,e in (f,g),h notin (i),j,!k`.
    pub fn parse(text: &str) -> Result<Self, String> {
        let fail = |what: &str| format!("unable to parse requirement: {what}");
        let mut requirements = Vec::new();
        let mut rest = text.trim();
        while !rest.is_empty() {
            let (requirement, tail) = parse_requirement(rest).map_err(|what| fail(&what))?;
            requirements.push(requirement);
            rest = tail.trim_start();
            if let Some(tail) = rest.strip_prefix(',') {
                rest = tail.trim_start();
                if rest.is_empty() {
                    return Err(fail("found '', expected: identifier after ','"));
                }
            } else if !rest.is_empty() {
                return Err(fail(&format!(
                    "found '{rest}', expected: ',' or end of string"
                )));
            }
        }
        Ok(Self(requirements))
    }

    /// A `metav1.LabelSelector` object.
    pub fn from_object(selector: &serde_json::Value) -> Self {
        let mut requirements = Vec::new();
        if let Some(labels) = selector
            .get("matchLabels")
            .and_then(|value| value.as_object())
        {
            for (key, value) in labels {
                let value = value.as_str().unwrap_or_default().to_owned();
                requirements.push(Requirement {
                    key: key.clone(),
                    test: Test::In(vec![value]),
                });
            }
        }
        for expression in selector
            .get("matchExpressions")
            .and_then(|value| value.as_array())
            .into_iter()
            .flatten()
        {
            let key = expression["key"].as_str().unwrap_or_default().to_owned();
            let values = expression["values"].as_array().into_iter().flatten();
            let values = values
                .filter_map(|value| value.as_str().map(str::to_owned))
                .collect();
            let test = match expression["operator"].as_str().unwrap_or_default() {
                "In" => Test::In(values),
                "NotIn" => Test::NotIn(values),
                "Exists" => Test::Exists,
                _ => Test::Absent,
            };
            requirements.push(Requirement { key, test });
        }
        Self(requirements)
    }

    /// Whether everything matches.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether the labels that `get` looks up satisfy all requirements.
    pub fn matches<'a>(&self, get: impl Fn(&str) -> Option<&'a str>) -> bool {
        self.0.iter().all(|requirement| {
            let value = get(&requirement.key);
            match &requirement.test {
                Test::Exists => value.is_some(),
                Test::Absent => value.is_none(),
                Test::In(allowed) => {
                    value.is_some_and(|value| allowed.iter().any(|item| item == value))
                }
                Test::NotIn(denied) => {
                    value.is_none_or(|value| denied.iter().all(|item| item != value))
                }
                Test::Greater(bound) => value
                    .and_then(|v| v.parse::<i64>().ok())
                    .is_some_and(|v| v > *bound),
                Test::Less(bound) => value
                    .and_then(|v| v.parse::<i64>().ok())
                    .is_some_and(|v| v < *bound),
            }
        })
    }

    /// Whether the labels of a JSON object match.
    pub fn matches_value(&self, object: &serde_json::Value) -> bool {
        let labels = object
            .get("metadata")
            .and_then(|metadata| metadata.get("labels"));
        self.matches(|key| {
            labels
                .and_then(|labels| labels.get(key))
                .and_then(|value| value.as_str())
        })
    }
}

fn identifier(text: &str) -> (&str, &str) {
    let end = text
        .find(|c: char| c.is_whitespace() || "=!<>(),".contains(c))
        .unwrap_or(text.len());
    text.split_at(end)
}

fn parse_requirement(text: &str) -> Result<(Requirement, &str), String> {
    if let Some(rest) = text.strip_prefix('!') {
        let (key, rest) = identifier(rest.trim_start());
        check_key(key)?;
        return Ok((
            Requirement {
                key: key.into(),
                test: Test::Absent,
            },
            rest,
        ));
    }
    let (key, rest) = identifier(text);
    check_key(key)?;
    let rest = rest.trim_start();
    let make = |test| Requirement {
        key: key.into(),
        test,
    };
    for (operator, negated) in [("==", false), ("=", false), ("!=", true)] {
        if let Some(tail) = rest.strip_prefix(operator) {
            let (value, tail) = identifier(tail.trim_start());
            check_value(value)?;
            let values = vec![value.to_owned()];
            return Ok((
                make(if negated {
                    Test::NotIn(values)
                } else {
                    Test::In(values)
                }),
                tail,
            ));
        }
    }
    for (operator, greater) in [(">", true), ("<", false)] {
        if let Some(tail) = rest.strip_prefix(operator) {
            let (value, tail) = identifier(tail.trim_start());
            let bound = value.parse().map_err(|_| {
                format!("for 'Gt', 'Lt' operators, the value must be an integer: {value}")
            })?;
            return Ok((
                make(if greater {
                    Test::Greater(bound)
                } else {
                    Test::Less(bound)
                }),
                tail,
            ));
        }
    }
    let (word, tail) = identifier(rest);
    if word == "in" || word == "notin" {
        let list = tail.trim_start().strip_prefix('(').ok_or("expected: '('")?;
        let (list, tail) = list.split_once(')').ok_or("expected: ',' or ')'")?;
        let values: Vec<String> = list
            .split(',')
            .map(|value| value.trim().to_owned())
            .collect();
        for value in &values {
            check_value(value)?;
        }
        return Ok((
            make(if word == "in" {
                Test::In(values)
            } else {
                Test::NotIn(values)
            }),
            tail,
        ));
    }
    if rest.is_empty() || rest.starts_with(',') {
        return Ok((make(Test::Exists), rest));
    }
    Err(format!(
        "found '{rest}', expected: in, notin, =, ==, !=, gt, lt"
    ))
}

fn check_key(key: &str) -> Result<(), String> {
    let name = key.rsplit_once('/').map_or(key, |(_, name)| name);
    let ok = !name.is_empty()
        && name.len() <= 63
        && name
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c));
    if ok {
        Ok(())
    } else {
        Err(format!(
            "<nil>: Invalid value: \"{key}\": name part must consist of alphanumeric characters, '-', '_' or '.'"
        ))
    }
}

fn check_value(value: &str) -> Result<(), String> {
    let ok = value.len() <= 63
        && value
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c));
    if ok {
        Ok(())
    } else {
        Err(format!(
            "values[0][key]: Invalid value: \"{value}\": a valid label must consist of alphanumeric characters, '-', '_' or '.'"
        ))
    }
}

/// A conjunction of field comparisons.
#[derive(Clone, Debug, Default)]
pub struct Fields(Vec<(String, bool, String)>);

impl Fields {
    /// Parses `metadata.name=x,status.phase!=Running`.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut terms = Vec::new();
        for term in split_unescaped(text) {
            if term.is_empty() {
                continue;
            }
            let (field, equal, value) = if let Some((field, value)) = term.split_once("!=") {
                (field, false, value)
            } else if let Some((field, value)) = term.split_once("==") {
                (field, true, value)
            } else if let Some((field, value)) = term.split_once('=') {
                (field, true, value)
            } else {
                return Err(format!(
                    "invalid selector: '{text}'; can't understand '{term}'"
                ));
            };
            terms.push((field.to_owned(), equal, unescape(value)));
        }
        Ok(Self(terms))
    }

    /// Whether everything matches.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The fields it names.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(|(field, ..)| field.as_str())
    }

    /// The name asked for by `metadata.name=<name>`.
    pub fn exact_name(&self) -> Option<&str> {
        self.0
            .iter()
            .find(|(field, equal, _)| field == "metadata.name" && *equal)
            .map(|(.., value)| value.as_str())
    }

    /// The same selector with field names replaced.
    pub fn renamed(mut self, rename: impl Fn(&str) -> Option<&'static str>) -> Self {
        for (field, ..) in &mut self.0 {
            if let Some(new) = rename(field) {
                *field = new.to_owned();
            }
        }
        self
    }

    /// Whether the object's fields satisfy all comparisons.
    pub fn matches(&self, object: &Stored) -> bool {
        self.0.iter().all(|(field, equal, value)| {
            (object.field(field).unwrap_or_default() == value) == *equal
        })
    }
}

fn split_unescaped(text: &str) -> Vec<&str> {
    let mut parts = Vec::new();
    let (mut start, mut escaped) = (0, false);
    for (index, c) in text.char_indices() {
        if escaped {
            escaped = false;
        } else if c == '\\' {
            escaped = true;
        } else if c == ',' {
            parts.push(&text[start..index]);
            start = index + 1;
        }
    }
    parts.push(&text[start..]);
    parts
}

fn unescape(value: &str) -> String {
    let mut out = String::with_capacity(value.len());
    let mut escaped = false;
    for c in value.chars() {
        if c == '\\' && !escaped {
            escaped = true;
        } else {
            out.push(c);
            escaped = false;
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn label_selectors_follow_kubernetes_rules() {
        // K-124
        let labels = [("a", "1"), ("b", "two")];
        let get = |key: &str| {
            labels
                .iter()
                .find(|(name, _)| *name == key)
                .map(|(_, value)| *value)
        };
        for (selector, expected) in [
            ("", true),
            ("a=1", true),
            ("a==1,b=two", true),
            ("a!=1", false),
            ("c!=1", true),
            ("a in (1, 2)", true),
            ("a notin (1,2)", false),
            ("c notin (1)", true),
            ("a", true),
            ("!a", false),
            ("!c", true),
            ("a in (2),b", false),
            ("a>0", true),
        ] {
            assert_eq!(
                Labels::parse(selector).unwrap().matches(get),
                expected,
                "{selector}"
            );
        }
        for bad in ["a=1,", "a in 1", "=x", "a ~ b", "a=b=c"] {
            assert!(Labels::parse(bad).is_err(), "{bad}");
        }
    }
}
