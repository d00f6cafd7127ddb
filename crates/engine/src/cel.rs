//! CEL in when expressions: no variables, a boolean comes out, anything else is the author's fault.

mod cost;

use std::cell::RefCell;
use std::collections::HashMap;

use cel::{Context, Value};
use thiserror::Error;

/// Why an expression has no truth value.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum CelError {
    /// It does not parse, or names something that does not exist.
    #[error("{0}")]
    Compile(String),
    /// It compiles but cannot be computed.
    #[error("{0}")]
    Evaluate(String),
    /// It has a value, but no truth value (P-163).
    #[error("The CEL expression {0} is not evaluated to a boolean")]
    NotBoolean(String),
    /// Computing it might take too long.
    #[error(
        "The CEL expression {0} may take more than {most} steps; use fewer macros in each other or shorter lists",
        most = cost::MOST
    )]
    TooCostly(String),
}

/// How many answers each thread remembers.
const REMEMBERED: usize = 256;

thread_local! {
    /// Parsing takes most of a small reconcile's time, and every reconcile of a run asks for the same expressions (P-164);
    /// the answer follows from the text alone.
    static ANSWERS: RefCell<HashMap<String, Result<bool, CelError>>> = RefCell::default();
}

/// The truth value of `expression`, in which all of Tekton's variables have been substituted already.
///
/// # Errors
/// The expression does not compile in an environment without variables, fails, or is not boolean (P-163, P-164).
pub fn evaluate(expression: &str) -> Result<bool, CelError> {
    ANSWERS.with_borrow_mut(|answers| {
        if let Some(known) = answers.get(expression) {
            return known.clone();
        }
        if answers.len() >= REMEMBERED {
            answers.clear();
        }
        let answer = compute(expression);
        answers.insert(expression.to_owned(), answer.clone());
        answer
    })
}

fn compute(expression: &str) -> Result<bool, CelError> {
    let program = tektite_api::cel::compile(expression).map_err(CelError::Compile)?;
    if cost::of(program.expression()) > cost::MOST {
        return Err(CelError::TooCostly(expression.to_owned()));
    }
    match program.execute(&Context::default()) {
        Ok(Value::Bool(truth)) => Ok(truth),
        Ok(_) => Err(CelError::NotBoolean(expression.to_owned())),
        Err(error) => Err(CelError::Evaluate(error.to_string())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_expression_is_true_or_false_by_the_standard_functions() {
        // P-163
        for (expression, expected) in [
            ("'foo' == 'foo'", true),
            ("'foo' == 'bar'", false),
            ("'release/v1'.startsWith('release/')", true),
            ("'abc'.matches('^a.c$')", true),
            ("'x' in ['x', 'y'] && 1 + 2 > 2", true),
            ("size('abc') == 2", false),
            ("[1, 2].exists(x, x > 1)", true),
        ] {
            assert_eq!(evaluate(expression), Ok(expected), "{expression}");
        }
    }

    #[test]
    fn what_is_not_boolean_or_names_a_variable_is_an_error() {
        // P-163, P-164
        assert_eq!(
            evaluate("'a' + 'b'").unwrap_err().to_string(),
            "The CEL expression 'a' + 'b' is not evaluated to a boolean"
        );
        for expression in [
            "$(tasks.a.results.r) == 'x'",
            "'a' ==",
            "",
            "unknown == 'x'",
        ] {
            assert!(
                matches!(evaluate(expression), Err(CelError::Compile(_))),
                "{expression}"
            );
        }
        assert!(matches!(evaluate("1 / 0 == 1"), Err(CelError::Evaluate(_))));
    }

    #[test]
    fn what_would_keep_a_controller_busy_is_an_error() {
        let nested = (0..9).fold("true".to_owned(), |inner, at| {
            format!("[0, 1, 2, 3, 4, 5, 6, 7, 8, 9].all(x{at}, {inner})")
        });
        assert_eq!(
            evaluate(&nested).unwrap_err().to_string(),
            format!(
                "The CEL expression {nested} may take more than 1000000 steps; use fewer macros in each other or shorter lists"
            )
        );
    }
}
