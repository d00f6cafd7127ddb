//! Finds `$(prefix.name)` references and judges them (T-038, T-045 to T-057).

use std::collections::BTreeSet;

use crate::admission::{FieldError, field_error::quote};

/// Names that may, or may not, be referred to.
pub(super) type Names = BTreeSet<String>;

/// What comes before the dot of a reference.
#[derive(Clone, Copy)]
pub(super) struct Prefix<'a> {
    /// As in YAML.
    text: &'a str,
    /// Whether a dot in it stands for any character, as it does for upstream's `step.results`.
    loose: bool,
}

impl<'a> Prefix<'a> {
    pub(super) const PARAMS: Prefix<'static> = Prefix {
        text: "params",
        loose: false,
    };
    pub(super) const RESULTS: Prefix<'static> = Prefix {
        text: "results",
        loose: false,
    };
    pub(super) const STEP_RESULTS: Prefix<'static> = Prefix {
        text: "step.results",
        loose: true,
    };

    pub(super) fn new(text: &'a str) -> Self {
        Prefix { text, loose: false }
    }

    /// As upstream prints it in a message.
    fn shown(self) -> String {
        if self.loose {
            self.text.to_owned()
        } else {
            self.text.replace('.', "\\.")
        }
    }

    fn strip(self, text: &str) -> Option<&str> {
        if !self.loose {
            return text.strip_prefix(self.text);
        }
        let mut rest = text.chars();
        for expected in self.text.chars() {
            let found = rest.next()?;
            if found != expected && (expected != '.' || found == '\n') {
                return None;
            }
        }
        Some(rest.as_str())
    }
}

/// One reference in a text.
struct Reference<'a> {
    /// From `$(` to `)`.
    whole: &'a str,
    /// What stands after the dot or between quotes, index included.
    name: &'a str,
    dotted: bool,
}

fn references<'a>(text: &'a str, prefix: Prefix<'_>) -> Vec<Reference<'a>> {
    let mut found = Vec::new();
    let mut at = 0;
    while let Some(start) = text[at..].find("$(").map(|i| at + i) {
        match reference_at(&text[start..], prefix) {
            Some(reference) => {
                at = start + reference.whole.len();
                found.push(reference);
            }
            None => at = start + 1,
        }
    }
    found
}

fn reference_at<'a>(text: &'a str, prefix: Prefix<'_>) -> Option<Reference<'a>> {
    let rest = prefix.strip(text.strip_prefix("$(")?)?;
    let forms = [
        (".", ")", true),
        ("[\"", "\"])", false),
        ("['", "'])", false),
    ];
    let (open, close, dotted) = forms
        .into_iter()
        .find(|(open, ..)| rest.starts_with(open))?;
    let body = &rest[open.len()..];
    let line = body.split('\n').next().unwrap_or_default();
    let name = &line[..line.find(close)?];
    let length = text.len() - body.len() + name.len() + close.len();
    Some(Reference {
        whole: &text[..length],
        name,
        dotted,
    })
}

/// Every whole reference in `text`.
pub(super) fn expressions<'a>(text: &'a str, prefix: Prefix<'_>) -> Vec<&'a str> {
    references(text, prefix)
        .into_iter()
        .map(|r| r.whole)
        .collect()
}

/// The names referred to: of a dotted one its first part. Too many parts are an error (T-057).
fn names<'a>(text: &'a str, prefix: Prefix<'_>) -> Result<Vec<&'a str>, FieldError> {
    let mut names = Vec::new();
    for reference in references(text, prefix) {
        let parts = reference.name.split('.').count();
        if !reference.dotted || parts == 1 {
            names.push(reference.name);
        } else if parts == 2 {
            names.push(reference.name.split('.').next().unwrap_or_default());
        } else {
            let message = format!(
                "Invalid referencing of parameters in \"{text}\"! Only two dot-separated components after the prefix \
                 \"{}\" are allowed.",
                prefix.shown()
            );
            return Err(FieldError::generic(message, [""]));
        }
    }
    Ok(names)
}

/// Whether there is any reference, well formed or not.
pub(super) fn mentions(text: &str, prefix: Prefix<'_>) -> bool {
    !references(text, prefix).is_empty()
}

/// Without `[0]`, `[*]` and `[]`.
fn without_index(name: &str) -> String {
    let mut out = String::with_capacity(name.len());
    let mut rest = name;
    while let Some(open) = rest.find('[') {
        let after = rest[open + 1..].trim_start_matches(|c: char| c.is_ascii_digit());
        let after = after.strip_prefix('*').unwrap_or(after);
        out.push_str(&rest[..open]);
        match after.strip_prefix(']') {
            Some(after) => rest = after,
            None => {
                out.push('[');
                rest = &rest[open + 1..];
            }
        }
    }
    out.push_str(rest);
    out
}

fn without_star(name: &str) -> &str {
    name.strip_suffix("[*]").unwrap_or(name)
}

/// Finds a reference to what is not among `known`; `detail` names it in the message.
pub(super) fn unknown(
    text: &str,
    prefix: Prefix<'_>,
    known: &Names,
    detail: bool,
) -> Option<FieldError> {
    let names = match names(text, prefix) {
        Ok(names) => names,
        Err(error) => return Some(error),
    };
    let name = names
        .into_iter()
        .map(without_index)
        .find(|name| !known.contains(name))?;
    let what = if detail {
        format!(" `{name}`")
    } else {
        String::new()
    };
    Some(FieldError::generic(
        format!("non-existent variable{what} in {}", quote(text)),
        [""],
    ))
}

/// Finds a reference to one of `prohibited`, by itself or with `[*]`.
pub(super) fn prohibited(text: &str, prefix: Prefix<'_>, prohibited: &Names) -> Option<FieldError> {
    let names = match names(text, prefix) {
        Ok(names) => names,
        Err(error) => return Some(error),
    };
    names
        .into_iter()
        .any(|name| prohibited.contains(without_star(name)))
        .then(|| type_invalid(text))
}

/// Finds a reference to the whole of one of `prohibited`; a reference to a part of it is fine.
pub(super) fn whole_prohibited(
    text: &str,
    prefix: Prefix<'_>,
    prohibited: &Names,
) -> Option<FieldError> {
    let whole = |r: &Reference<'_>| prohibited.contains(without_star(r.name));
    references(text, prefix)
        .iter()
        .any(whole)
        .then(|| type_invalid(text))
}

fn type_invalid(text: &str) -> FieldError {
    FieldError::generic(format!("variable type invalid in {}", quote(text)), [""])
}

/// Finds a reference to one of `arrays` that is not the whole text.
pub(super) fn not_isolated(text: &str, prefix: Prefix<'_>, arrays: &Names) -> Option<FieldError> {
    let names = match names(text, prefix) {
        Ok(names) => names,
        Err(error) => return Some(error),
    };
    let first = references(text, prefix)
        .first()
        .map_or(0, |r| r.whole.len());
    let mixed = names
        .into_iter()
        .any(|name| arrays.contains(without_star(name)))
        && text.len() != first;
    mixed.then(|| {
        FieldError::generic(
            format!("variable is not properly isolated in {}", quote(text)),
            [""],
        )
    })
}

/// Whether the text is nothing but `$(prefix.name[*])`.
pub(super) fn is_whole_star(text: &str, prefix: Prefix<'_>) -> bool {
    let name_byte = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-');
    reference_at(text, prefix).is_some_and(|r| {
        let name = r.name.strip_suffix("[*]").unwrap_or_default();
        r.whole.len() == text.len() && !name.is_empty() && name.bytes().all(name_byte)
    })
}

/// What stands inside every `$(…)` that looks like a variable: letters, digits, `_.-` and at most one index.
pub(super) fn substitutions(text: &str) -> Vec<&str> {
    let mut found = Vec::new();
    let mut rest = text;
    while let Some(start) = rest.find("$(") {
        let body = &rest[start + 2..];
        let name = body
            .bytes()
            .take_while(|b| b.is_ascii_alphanumeric() || b"_.-".contains(b))
            .count();
        let end = name + index_length(&body[name..]);
        if name > 0 && body[end..].starts_with(')') {
            found.push(&body[..end]);
            rest = &body[end + 1..];
        } else {
            rest = body;
        }
    }
    found
}

/// Length of `[0]` or `[*]` at the start of `text`, zero if there is none.
fn index_length(text: &str) -> usize {
    let Some(body) = text.strip_prefix('[') else {
        return 0;
    };
    let digits = body.bytes().take_while(u8::is_ascii_digit).count();
    match &body[digits..] {
        after if digits > 0 && after.starts_with(']') => digits + 2,
        _ if body.starts_with("*]") => 3,
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(names: &[&str]) -> Names {
        names.iter().map(|n| (*n).to_owned()).collect()
    }

    /// T-045 to T-047, T-057
    #[test]
    fn references_to_unknown_names_are_found() {
        let known = set(&["a", "b.c"]);
        for (text, found) in [
            ("$(params.a)", false),
            ("$(params.a[0]) $(params.a[*])", false),
            ("$(params['b.c'])", false),
            ("$(params[\"b.c\"])", false),
            ("$(params.a.key)", false),
            ("$(params.x)", true),
            ("$(params.)", true),
            ("$(params.x", false),
            ("$(params.a\n)", false),
            ("$(params.a.b.c)", true),
            ("$(parameters.x)", false),
            ("$$(params.x)", true),
        ] {
            assert_eq!(
                unknown(text, Prefix::PARAMS, &known, false).is_some(),
                found,
                "{text}"
            );
        }
        let error = unknown("$(params.a.b.c)", Prefix::PARAMS, &known, false).unwrap();
        assert!(
            error
                .message
                .starts_with("Invalid referencing of parameters in \"$(params.a.b.c)\"!")
        );
    }

    /// T-055, T-056
    #[test]
    fn arrays_must_stand_alone_and_objects_be_taken_apart() {
        let names = set(&["x"]);
        for (text, mixed, whole, any) in [
            ("$(params.x[*])", false, true, true),
            ("$(params.x)", false, true, true),
            ("a$(params.x[*])", true, true, true),
            ("$(params.x[0])b", false, false, false),
            ("$(params.x.key)", false, false, true),
            ("a$(params.y[*])", false, false, false),
        ] {
            assert_eq!(
                not_isolated(text, Prefix::PARAMS, &names).is_some(),
                mixed,
                "{text}"
            );
            assert_eq!(
                whole_prohibited(text, Prefix::PARAMS, &names).is_some(),
                whole,
                "{text}"
            );
            assert_eq!(
                prohibited(text, Prefix::PARAMS, &names).is_some(),
                any,
                "{text}"
            );
        }
    }

    #[test]
    fn substitutions_are_what_looks_like_a_variable() {
        for (text, expected) in [
            ("$(tasks.a.results.b)", vec!["tasks.a.results.b"]),
            ("x$(a.b[0])y$(c[*])", vec!["a.b[0]", "c[*]"]),
            ("$(a b) $(c", vec![]),
            ("$($(a))", vec!["a"]),
            ("$(a[x])", vec![]),
        ] {
            assert_eq!(substitutions(text), expected, "{text}");
        }
    }
}
