//! Findings about fields: message, paths and details, printed as Knative prints them (T-018 to T-020).

use std::{borrow::Cow, collections::BTreeMap, fmt};

/// One finding.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FieldError {
    /// What is wrong.
    pub message: String,
    /// Where, in upstream's notation; some of its paths name no real field (see [`FieldError::locate`]).
    pub paths: Vec<String>,
    /// More about it; may be empty.
    pub details: String,
}

impl FieldError {
    /// A finding without a message of the standard ones.
    pub(crate) fn generic<'a>(
        message: impl Into<String>,
        paths: impl IntoIterator<Item = &'a str>,
    ) -> Self {
        let paths = paths.into_iter().map(str::to_owned).collect();
        FieldError {
            message: message.into(),
            paths,
            details: String::new(),
        }
    }

    pub(crate) fn missing(path: &str) -> Self {
        Self::generic("missing field(s)", [path])
    }

    pub(crate) fn disallowed(path: &str) -> Self {
        Self::generic("must not set the field(s)", [path])
    }

    pub(crate) fn invalid_value(value: impl fmt::Display, path: &str) -> Self {
        Self::generic(format!("invalid value: {value}"), [path])
    }

    pub(crate) fn invalid_key_name(name: &str, path: &str) -> Self {
        Self::generic(format!("invalid key name {}", quote(name)), [path])
    }

    pub(crate) fn missing_one_of(paths: &[&str]) -> Self {
        Self::generic("expected exactly one, got neither", paths.iter().copied())
    }

    pub(crate) fn multiple_one_of(paths: &[&str]) -> Self {
        Self::generic("expected exactly one, got both", paths.iter().copied())
    }

    pub(crate) fn details(mut self, details: impl Into<String>) -> Self {
        self.details = details.into();
        self
    }
}

impl fmt::Display for FieldError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.message, self.paths.join(", "))?;
        if self.details.is_empty() {
            Ok(())
        } else {
            write!(f, "\n{}", self.details)
        }
    }
}

/// Findings in the order they were made.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FieldErrors(Vec<FieldError>);

impl FieldErrors {
    pub(crate) fn new() -> Self {
        Self::default()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn add(&mut self, more: impl Into<FieldErrors>) {
        self.0.extend(more.into().0);
    }

    /// Puts `prefix` before every path. Parts in brackets attach without a dot, empty parts vanish.
    pub(crate) fn via(mut self, prefix: &str) -> Self {
        for path in self.0.iter_mut().flat_map(|error| &mut error.paths) {
            *path = flatten(prefix, path);
        }
        self
    }

    pub(crate) fn via_index(self, index: usize) -> Self {
        self.via(&format!("[{index}]"))
    }

    pub(crate) fn via_key(self, key: &str) -> Self {
        self.via(&format!("[{key}]"))
    }

    pub(crate) fn via_field_index(self, field: &str, index: usize) -> Self {
        self.via_index(index).via(field)
    }

    pub(crate) fn via_field_key(self, field: &str, key: &str) -> Self {
        self.via_key(key).via(field)
    }

    /// The findings as they are printed: equal ones merged, paths and findings sorted (T-019).
    pub fn merged(&self) -> Vec<FieldError> {
        let mut merged: BTreeMap<(&str, &str), Vec<String>> = BTreeMap::new();
        for error in self.0.iter().filter(|error| !error.message.is_empty()) {
            let paths = merged.entry((&error.message, &error.details)).or_default();
            for path in &error.paths {
                if !paths.contains(path) {
                    paths.push(path.clone());
                }
            }
        }
        let finish = |((message, details), mut paths): ((&str, &str), Vec<String>)| {
            paths.sort();
            FieldError {
                message: message.to_owned(),
                paths,
                details: details.to_owned(),
            }
        };
        merged.into_iter().map(finish).collect()
    }
}

impl From<FieldError> for FieldErrors {
    fn from(error: FieldError) -> Self {
        FieldErrors(vec![error])
    }
}

impl From<Option<FieldError>> for FieldErrors {
    fn from(error: Option<FieldError>) -> Self {
        FieldErrors(error.into_iter().collect())
    }
}

impl fmt::Display for FieldErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, error) in self.merged().iter().enumerate() {
            if i > 0 {
                f.write_str("\n")?;
            }
            error.fmt(f)?;
        }
        Ok(())
    }
}

fn flatten(prefix: &str, path: &str) -> String {
    let mut out: Vec<Cow<'_, str>> = Vec::new();
    for part in prefix
        .split('.')
        .chain(path.split('.'))
        .filter(|part| !part.is_empty())
    {
        match out.last_mut() {
            Some(last) if part.starts_with('[') && part.ends_with(']') => {
                last.to_mut().push_str(part)
            }
            _ => out.push(part.into()),
        }
    }
    out.join(".")
}

/// Text in double quotes with Go's escapes (`%q`).
pub(crate) fn quote(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\t' => out.push_str("\\t"),
            '\r' => out.push_str("\\r"),
            '\u{7}' => out.push_str("\\a"),
            '\u{8}' => out.push_str("\\b"),
            '\u{c}' => out.push_str("\\f"),
            '\u{b}' => out.push_str("\\v"),
            c if (c as u32) < 0x20 || c as u32 == 0x7f => {
                out.push_str(&format!("\\x{:02x}", c as u32))
            }
            '\u{ad}'
            | '\u{200b}'..='\u{200f}'
            | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}'
            | '\u{feff}'
            | '\u{a0}' => {
                out.push_str(&format!("\\u{:04x}", c as u32));
            }
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    /// T-018, T-019
    #[test]
    fn equal_findings_are_merged_and_everything_is_sorted() {
        let mut errors = FieldErrors::new();
        errors.add(
            FieldErrors::from(FieldError::missing("image"))
                .via_index(1)
                .via("steps"),
        );
        errors.add(FieldError::invalid_value("x", "").details("why"));
        errors.add(FieldErrors::from(FieldError::missing("name")).via_field_index("steps", 0));
        errors.add(FieldErrors::from(FieldError::missing("name")).via_field_index("steps", 0));
        let errors = errors.via("spec");
        assert_eq!(
            errors.to_string(),
            "invalid value: x: spec\nwhy\nmissing field(s): spec.steps[0].name, spec.steps[1].image"
        );
    }

    /// T-020
    #[test]
    fn findings_have_knatives_texts() {
        for (error, text) in [
            (FieldError::missing("a"), "missing field(s): a"),
            (FieldError::disallowed("a"), "must not set the field(s): a"),
            (FieldError::invalid_value("v", "a"), "invalid value: v: a"),
            (
                FieldError::invalid_key_name("k", "a"),
                "invalid key name \"k\": a",
            ),
            (
                FieldError::multiple_one_of(&["a", "b"]),
                "expected exactly one, got both: a, b",
            ),
            (
                FieldError::missing_one_of(&["a", "b"]),
                "expected exactly one, got neither: a, b",
            ),
        ] {
            assert_eq!(FieldErrors::from(error).to_string(), text);
        }
    }

    #[test]
    fn keys_with_dots_fall_apart_as_they_do_upstream() {
        let errors = FieldErrors::from(FieldError::missing(""))
            .via_field_key("params", "a.b")
            .via("spec");
        assert_eq!(errors.to_string(), "missing field(s): spec.params.[a.b]");
    }
}
