//! Go's ways of printing lists and maps, which Tekton's messages show.

use std::collections::BTreeMap;

/// `[a b]`, as `%v` prints a list of strings.
pub(super) fn list<T: AsRef<str>>(items: &[T]) -> String {
    let items: Vec<&str> = items.iter().map(AsRef::as_ref).collect();
    format!("[{}]", items.join(" "))
}

/// `map[k:[a b]]`, as `%v` prints a map of lists.
pub(super) fn map_of_lists(map: &BTreeMap<String, Vec<String>>) -> String {
    let entries: Vec<String> = map
        .iter()
        .map(|(key, items)| format!("{key}:{}", list(items)))
        .collect();
    format!("map[{}]", entries.join(" "))
}

/// What Go makes of a text that is used as a format without arguments: `%2F` becomes `%!F(MISSING)` (P-288).
pub(super) fn used_as_format(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(start) = rest.find('%') {
        out.push_str(&rest[..start]);
        let directive = &rest[start + 1..];
        let verb = directive.find(|c: char| {
            !matches!(c, '+' | '-' | '#' | ' ' | '0'..='9' | '.' | '*' | '[' | ']')
        });
        let Some(verb) = verb else {
            out.push_str("%!(NOVERB)");
            return out;
        };
        let verb_char = directive[verb..].chars().next().unwrap_or_default();
        if verb_char == '%' {
            out.push('%');
        } else {
            out.push_str("%!");
            out.push(verb_char);
            out.push_str("(MISSING)");
        }
        rest = &directive[verb + verb_char.len_utf8()..];
    }
    out.push_str(rest);
    out
}

/// The label that Tekton puts before messages the user is to blame for (P-288).
pub(super) const USER_ERROR: &str = "[User error] ";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_percent_sign_in_a_text_used_as_format_is_mangled_as_go_does() {
        // P-288
        for (text, expected) in [
            ("plain", "plain"),
            ("a%2Fb", "a%!F(MISSING)b"),
            ("100%% sure", "100% sure"),
            ("50%", "50%!(NOVERB)"),
            ("%s and %q", "%!s(MISSING) and %!q(MISSING)"),
        ] {
            assert_eq!(used_as_format(text), expected);
        }
    }
}
