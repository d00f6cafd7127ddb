//! References to artifacts (T-039, T-040).

const FLAG: &str = "feature flag enable-artifacts should be set to true to use artifacts feature.";

/// What is said when they are used without their flag.
pub(super) fn flag_needed() -> &'static str {
    FLAG
}

/// `$(steps.S.inputs.A)`, `$(steps.S.outputs.A)` or the path of the step's artifacts file.
pub(super) fn mentions_step_artifact(text: &str) -> bool {
    usage(text, "$(steps.") || text.contains("$(step.artifacts.path)")
}

/// `$(tasks.T.inputs.A)` or `$(tasks.T.outputs.A)`.
pub(super) fn mentions_task_usage(text: &str) -> bool {
    usage(text, "$(tasks.")
}

/// As [`mentions_task_usage`], or the path of the task's artifacts file.
pub(super) fn mentions_task_artifact(text: &str) -> bool {
    mentions_task_usage(text) || text.contains("$(artifacts.path)")
}

fn usage(text: &str, open: &str) -> bool {
    text.match_indices(open).any(|(at, _)| {
        let rest = &text[at + open.len()..];
        let Some((name, rest)) = rest.split_once('.') else {
            return false;
        };
        let Some(rest) = rest
            .strip_prefix("inputs.")
            .or_else(|| rest.strip_prefix("outputs."))
        else {
            return false;
        };
        let end = rest.find(['.', ')']).unwrap_or(rest.len());
        !name.is_empty() && end > 0 && rest[end..].starts_with(')')
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// T-040
    #[test]
    fn artifact_references_are_recognised() {
        for (text, step, task) in [
            ("$(steps.a.inputs.b)", true, false),
            ("$(steps.a.outputs.b)x", true, false),
            ("$(tasks.a.outputs.b)", false, true),
            ("$(step.artifacts.path)", true, false),
            ("$(artifacts.path)", false, true),
            ("$(steps.a.results.b)", false, false),
            ("$(steps.a.outputs.b.c)", false, false),
            ("$(steps..outputs.b)", false, false),
        ] {
            assert_eq!(
                (mentions_step_artifact(text), mentions_task_artifact(text)),
                (step, task),
                "{text}"
            );
        }
    }
}
