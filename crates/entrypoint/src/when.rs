//! A step's own conditions (T-295, T-296).

use serde::Deserialize;

use crate::cel;

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct When {
    pub(crate) input: String,
    pub(crate) operator: String,
    #[serde(deserialize_with = "null_as_empty")]
    pub(crate) values: Vec<String>,
    pub(crate) cel: String,
}

fn null_as_empty<'de, D: serde::Deserializer<'de>>(from: D) -> Result<Vec<String>, D::Error> {
    Ok(Option::deserialize(from)?.unwrap_or_default())
}

pub(crate) fn parse(json: &str) -> Result<Vec<When>, String> {
    if json.is_empty() {
        return Ok(Vec::new());
    }
    serde_json::from_str(json).map_err(|error| error.to_string())
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
                Err("the CEL expression 'a' is not evaluated to a boolean".to_owned()),
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
