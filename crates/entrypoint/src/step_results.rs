//! `$(steps.<step>.results.<result>)`, filled in from what earlier steps wrote (T-293, T-294).

use alloc::borrow::ToOwned;
use alloc::format;
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;

use crate::param_value::ParamValue;
use crate::path::Path;
use crate::system::fs;
use crate::when::When;

/// Replaces references everywhere; what was replaced before an error stays replaced.
pub(crate) fn apply(
    steps: &Path,
    environment: &mut [(Vec<u8>, Vec<u8>)],
    when: &mut [When],
    command: &mut Vec<Vec<u8>>,
) -> Result<(), String> {
    for (_, value) in environment {
        // A whole array has no text.
        *value = replace(steps, value)?;
    }
    for when in when {
        let mut values = Vec::new();
        for value in &when.values {
            values.extend(expand(steps, value.as_bytes())?.into_iter().map(lossy));
        }
        when.values = values;
        when.input = lossy(replace(steps, when.input.as_bytes())?);
        when.cel = lossy(replace(steps, when.cel.as_bytes())?);
    }
    let mut expanded = Vec::new();
    for argument in command.iter() {
        let replaced = expand(steps, argument).map_err(|error| match error.as_str() {
            MIXED => error,
            _ => format!(
                "failed to find replacement for a step result in {}",
                String::from_utf8_lossy(argument)
            ),
        })?;
        expanded.extend(replaced);
    }
    *command = expanded;
    Ok(())
}

const MIXED: &str = "value must be in \"$(steps.<step-name>.results.<result-name>[*])\" format, when using array results";

fn lossy(bytes: Vec<u8>) -> String {
    String::from_utf8_lossy(&bytes).into_owned()
}

/// The text with references replaced, or the elements of the array that it is a reference to.
fn expand(steps: &Path, text: &[u8]) -> Result<Vec<Vec<u8>>, String> {
    let mut out = text.to_vec();
    for reference in references(text) {
        match look_up(steps, reference)? {
            Found::Array(array) if !array.is_empty() => {
                if text != reference {
                    return Err(MIXED.into());
                }
                return Ok(array.into_iter().map(String::into_bytes).collect());
            }
            found => out = replace_all(&out, reference, found.text().as_bytes()),
        }
    }
    Ok(vec![out])
}

fn replace(steps: &Path, text: &[u8]) -> Result<Vec<u8>, String> {
    let mut out = text.to_vec();
    for reference in references(text) {
        out = replace_all(
            &out,
            reference,
            look_up(steps, reference)?.text().as_bytes(),
        );
    }
    Ok(out)
}

/// The shortest texts from `$(steps.` over `.results.` to `)` on one line.
fn references(text: &[u8]) -> Vec<&[u8]> {
    const START: &[u8] = b"$(steps.";
    const MIDDLE: &[u8] = b".results.";
    let mut found = Vec::new();
    let mut at = 0;
    while let Some(start) = find(&text[at..], START).map(|start| at + start) {
        let line = text[start..]
            .iter()
            .position(|&byte| byte == b'\n')
            .map_or(text.len(), |end| start + end);
        let middle = find(&text[start + START.len()..line], MIDDLE)
            .map(|middle| start + START.len() + middle);
        let end = middle.and_then(|middle| {
            let after = middle + MIDDLE.len();
            text[after..line]
                .iter()
                .position(|&byte| byte == b')')
                .map(|end| after + end + 1)
        });
        match end {
            Some(end) => {
                found.push(&text[start..end]);
                at = end;
            }
            None => at = start + START.len(),
        }
    }
    found
}

pub(crate) fn find(text: &[u8], part: &[u8]) -> Option<usize> {
    text.windows(part.len()).position(|window| window == part)
}

pub(crate) fn replace_all(text: &[u8], from: &[u8], to: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = find(rest, from) {
        out.extend_from_slice(&rest[..at]);
        out.extend_from_slice(to);
        rest = &rest[at + from.len()..];
    }
    out.extend_from_slice(rest);
    out
}

enum Found {
    Text(String),
    Array(Vec<String>),
}

impl Found {
    fn text(&self) -> &str {
        match self {
            Found::Text(text) => text,
            Found::Array(_) => "",
        }
    }
}

/// Reads the value a reference names. A form that does not fit the value's type gives empty text.
fn look_up(steps: &Path, reference: &[u8]) -> Result<Found, String> {
    let reference = String::from_utf8_lossy(reference);
    let inner = reference
        .strip_prefix("$(")
        .and_then(|inner| inner.strip_suffix(')'))
        .unwrap_or(&reference);
    let parts: Vec<&str> = inner.split('.').collect();
    let (step, name, key) = match parts[..] {
        ["steps", step, "results", name] => (step, name, None),
        ["steps", step, "results", name, key] => (step, name, Some(key)),
        _ => {
            return Err(format!(
                "{reference} must be of the form steps.<stepName>.results.<resultName>[.<key>]"
            ));
        }
    };
    let (name, index) = if key.is_some() {
        (name.to_owned(), None)
    } else {
        split_index(name)
    };
    let file = steps
        .join(format!("step-{step}"))
        .join("results")
        .join(&name);
    let value = fs::read(&file).map_err(|error| format!("open {file}: {error}"))?;
    let value = ParamValue::parse(&value);
    Ok(match (value, index.as_deref(), key) {
        (ParamValue::Object(object), _, Some(key)) => {
            Found::Text(object.get(key).cloned().unwrap_or_default())
        }
        (ParamValue::Array(array), Some("*"), None) => Found::Array(array),
        (_, Some("*"), None) => Found::Array(Vec::new()),
        (ParamValue::Array(array), Some(index), None) => {
            let element = index
                .parse::<usize>()
                .ok()
                .and_then(|index| array.get(index).cloned());
            Found::Text(
                element.ok_or_else(|| {
                    format!("{reference}: the array has {} elements", array.len())
                })?,
            )
        }
        (ParamValue::String(text), None, None) => Found::Text(text),
        _ => Found::Text(String::new()),
    })
}

/// `name[3]` and `name[*]` apart.
fn split_index(name: &str) -> (String, Option<String>) {
    for (open, _) in name.match_indices('[') {
        let Some(close) = name[open..].find(']').map(|at| open + at) else {
            break;
        };
        let inner = &name[open + 1..close];
        if inner
            .strip_suffix('*')
            .unwrap_or(inner)
            .bytes()
            .all(|byte| byte.is_ascii_digit())
            && !inner.is_empty()
        {
            return (
                format!("{}{}", &name[..open], &name[close + 1..]),
                Some(inner.to_owned()),
            );
        }
    }
    (name.to_owned(), None)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn steps() -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        let results = dir.path().join("step-a/results");
        fs::create_dir_all(&results).unwrap();
        for (name, value) in [
            ("s", "text"),
            ("l", r#"["x","y z"]"#),
            ("o", r#"{"k":"v"}"#),
            ("e", "[]"),
        ] {
            fs::write(results.join(name), value).unwrap();
        }
        dir
    }

    fn root(dir: &tempfile::TempDir) -> Path {
        Path::new(dir.path().as_os_str().as_encoded_bytes())
    }

    #[test]
    fn references_are_replaced_by_string_element_array_or_key() {
        // T-293, T-294
        let dir = steps();
        let cases: [(&str, &[&str]); 8] = [
            ("$(steps.a.results.s)!", &["text!"]),
            ("$(steps.a.results.l[1])", &["y z"]),
            ("$(steps.a.results.l[*])", &["x", "y z"]),
            ("$(steps.a.results.o.k)-$(steps.a.results.s)", &["v-text"]),
            ("$(steps.a.results.l)", &[""]),
            ("$(steps.a.results.e[*])", &[""]),
            (
                "$(steps.a.other) $(params.x)",
                &["$(steps.a.other) $(params.x)"],
            ),
            ("$(steps.a\n.results.s)", &["$(steps.a\n.results.s)"]),
        ];
        for (text, expected) in cases {
            let mut command = vec![text.as_bytes().to_vec()];
            apply(&root(&dir), &mut [], &mut [], &mut command).unwrap();
            let expected: Vec<_> = expected.iter().map(|text| text.as_bytes()).collect();
            assert_eq!(command, expected, "{text}");
        }
    }

    #[test]
    fn a_missing_result_or_a_mixed_array_is_an_error_and_leaves_the_text() {
        // T-293, T-294
        let dir = steps();
        for text in [
            "$(steps.a.results.missing)",
            "$(steps.b.results.s)",
            "a $(steps.a.results.l[*])",
            "$(steps.a.results.l[7])",
        ] {
            let mut command = vec![text.as_bytes().to_vec()];
            assert!(
                apply(&root(&dir), &mut [], &mut [], &mut command).is_err(),
                "{text}"
            );
            assert_eq!(command, [text.as_bytes()]);
        }
    }

    #[test]
    fn environment_and_when_are_replaced_too() {
        // T-293, T-294
        let dir = steps();
        let mut environment = vec![
            ("A".into(), "<$(steps.a.results.s)>".into()),
            ("B".into(), "$(steps.a.results.l[*])".into()),
        ];
        let mut when = vec![When {
            input: "$(steps.a.results.s)".into(),
            values: vec!["$(steps.a.results.l[*])".into()],
            ..When::default()
        }];
        apply(&root(&dir), &mut environment, &mut when, &mut Vec::new()).unwrap();
        assert_eq!(
            environment,
            [("A".into(), b"<text>".to_vec()), ("B".into(), "".into())]
        );
        assert_eq!(
            (when[0].input.as_str(), &when[0].values[..]),
            ("text", &["x".to_owned(), "y z".to_owned()][..])
        );
    }
}
