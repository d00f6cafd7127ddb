//! `when` expressions (T-041, T-042).

use super::scope::Scope;
use crate::{
    admission::{FieldError, FieldErrors, field_error::quote},
    v1::WhenExpression,
};

pub(super) fn validate(expressions: &[WhenExpression], scope: Scope<'_>) -> FieldErrors {
    let mut errors = FieldErrors::new();
    for (index, expression) in expressions.iter().enumerate() {
        errors.add(FieldErrors::from(one(expression, scope)).via_index(index));
    }
    errors.via("when")
}

fn one(when: &WhenExpression, scope: Scope<'_>) -> Option<FieldError> {
    if !when.cel.is_empty() {
        if !scope.config.feature_flags.enable_cel_in_when_expression {
            let message = format!(
                "feature flag enable-cel-in-whenexpression should be set to true to use CEL: {} in WhenExpression",
                when.cel
            );
            return Some(FieldError::generic(message, [""]));
        }
        if !when.input.is_empty() || !when.operator.is_empty() || !when.values.is_empty() {
            let shown = format!(
                "&{{{} {} [{}] {}}}",
                when.input,
                when.operator,
                when.values.join(" "),
                when.cel
            );
            let message = format!(
                "cel and input+operator+values cannot be set in one WhenExpression: {shown}"
            );
            return Some(FieldError::generic(message, []));
        }
        // Upstream leaves the message unfilled and puts expression and cause where the paths go.
        return crate::cel::compile(&when.cel).err().map(|cause| {
            let message = "invalid cel expression: %s with err: %s";
            FieldError::generic(message, [when.cel.as_str(), &cause])
        });
    }
    if *when == WhenExpression::default() {
        return Some(FieldError::missing(""));
    }
    if when.operator != "in" && when.operator != "notin" {
        let message = format!(
            "operator {} is not recognized. valid operators: in,notin",
            quote(&when.operator)
        );
        return Some(FieldError::invalid_value(message, ""));
    }
    when.values
        .is_empty()
        .then(|| FieldError::invalid_value("expecting non-empty values field", ""))
}
