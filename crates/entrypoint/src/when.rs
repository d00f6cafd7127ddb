//! A step's own conditions (T-295, T-296).

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use crate::cel;
use crate::json_value::{Value, take_text};

#[derive(Clone, Debug, Default)]
pub(crate) struct When {
    pub(crate) input: String,
    pub(crate) operator: String,
    pub(crate) values: Vec<String>,
    pub(crate) cel: String,
}

pub(crate) fn parse(json: &str) -> Result<Vec<When>, String> {
    if json.is_empty() {
        return Ok(Vec::new());
    }
    let one = |value: Value| {
        let mut members = value.into_members()?;
        Ok(When {
            input: take_text(&mut members, "input")?,
            operator: take_text(&mut members, "operator")?,
            values: members.remove("values").unwrap_or_default().into_texts()?,
            cel: take_text(&mut members, "cel")?,
        })
    };
    Value::parse(json.as_bytes())?
        .into_items()?
        .into_iter()
        .map(one)
        .collect()
}

/// Whether the step may run: CEL expressions are asked first.
pub(crate) fn allow(when: &[When]) -> Result<bool, String> {
    for expression in when
        .iter()
        .map(|when| &when.cel)
        .filter(|expression| !expression.is_empty())
    {
        match cel::evaluate(expression)? {
            cel::Value::Bool(true) => {}
            cel::Value::Bool(false) => return Ok(false),
            _ => {
                return Err(format!(
                    "the CEL expression {expression} is not evaluated to a boolean"
                ));
            }
        }
    }
    // An entry of CEL only has no operator, and an input that is in no values.
    Ok(when
        .iter()
        .all(|when| (when.operator == "in") == when.values.contains(&when.input)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_conditions_must_hold() {
        // T-295, T-296
        let cases = [
            ("", Ok(true)),
            (
                r#"[{"input":"a","operator":"in","values":["a","b"]}]"#,
                Ok(true),
            ),
            (
                r#"[{"input":"a","operator":"in","values":["b"]}]"#,
                Ok(false),
            ),
            (
                r#"[{"input":"a","operator":"notin","values":["b"]}]"#,
                Ok(true),
            ),
            (
                r#"[{"input":"a","operator":"notin","values":["a"]}]"#,
                Ok(false),
            ),
            (
                r#"[{"input":"a","operator":"in","values":["a"]},{"cel":"'a' == 'b'"}]"#,
                Ok(false),
            ),
            (r#"[{"cel":"'a' == 'a'"}]"#, Ok(true)),
            (
                r#"[{"cel":"'a'"}]"#,
                Err("the CEL expression 'a' is not evaluated to a boolean".into()),
            ),
        ];
        for (json, expected) in cases {
            assert_eq!(
                parse(json).and_then(|when| allow(&when)),
                expected,
                "{json}"
            );
        }
    }
}
