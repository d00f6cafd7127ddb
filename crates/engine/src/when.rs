//! When expressions: whether a task may run.

use std::collections::HashMap;

use tektite_api::v1::WhenExpression;

use crate::cel::{self, CelError};

/// Truth values of CEL expressions by their text.
pub type Evaluated = HashMap<String, bool>;

/// Computes every CEL expression among `expressions`.
///
/// # Errors
/// The first that has no truth value (P-163).
pub fn evaluate(expressions: &[WhenExpression]) -> Result<Evaluated, CelError> {
    let mut evaluated = Evaluated::new();
    for expression in expressions
        .iter()
        .map(|when| &when.cel)
        .filter(|cel| !cel.is_empty())
    {
        if !evaluated.contains_key(expression) {
            evaluated.insert(expression.clone(), cel::evaluate(expression)?);
        }
    }
    Ok(evaluated)
}

/// Whether all of `expressions` hold (P-161). A CEL expression that was not evaluated does not.
#[must_use]
pub fn allow(expressions: &[WhenExpression], evaluated: &Evaluated) -> bool {
    expressions.iter().all(|when| {
        let contained = when.values.contains(&when.input);
        let compared = if when.operator == "in" {
            contained
        } else {
            !contained
        };
        compared && (when.cel.is_empty() || evaluated.get(&when.cel) == Some(&true))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn all_expressions_must_hold_and_texts_are_compared_exactly() {
        // P-161
        for (expressions, expected) in [
            (json!([]), true),
            (
                json!([{"input": "a", "operator": "in", "values": ["b", "a"]}]),
                true,
            ),
            (
                json!([{"input": "a", "operator": "in", "values": ["A"]}]),
                false,
            ),
            (
                json!([{"input": "a", "operator": "notin", "values": ["A"]}]),
                true,
            ),
            (
                json!([{"input": "a", "operator": "notin", "values": ["a"]}]),
                false,
            ),
            (
                json!([{"input": "a", "operator": "in", "values": ["a"]}, {"input": "a", "operator": "in", "values": []}]),
                false,
            ),
            (json!([{"cel": "'a' == 'a'"}]), true),
            (json!([{"cel": "'a' == 'a'"}, {"cel": "'a' == 'b'"}]), false),
        ] {
            let when: Vec<WhenExpression> = serde_json::from_value(expressions.clone()).unwrap();
            assert_eq!(
                allow(&when, &evaluate(&when).unwrap()),
                expected,
                "{expressions}"
            );
        }
    }
}
