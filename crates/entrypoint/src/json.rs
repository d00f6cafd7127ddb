//! JSON text as Go writes it: its escapes count towards the limit of the termination message (T-304).

use alloc::string::String;
use core::fmt::Write as _;

/// Appends a JSON string; bytes that are no UTF-8 become escaped replacement characters, one each.
pub(crate) fn string(out: &mut String, bytes: &[u8]) {
    out.push('"');
    for chunk in bytes.utf8_chunks() {
        for c in chunk.valid().chars() {
            match c {
                '"' => out.push_str("\\\""),
                '\\' => out.push_str("\\\\"),
                '\n' => out.push_str("\\n"),
                '\r' => out.push_str("\\r"),
                '\t' => out.push_str("\\t"),
                '\u{8}' => out.push_str("\\b"),
                '\u{c}' => out.push_str("\\f"),
                '<' | '>' | '&' | '\u{2028}' | '\u{2029}' | '\0'..='\u{1f}' => {
                    let _ = write!(out, "\\u{:04x}", u32::from(c)); // writing to a String cannot fail
                }
                _ => out.push(c),
            }
        }
        chunk.invalid().iter().for_each(|_| out.push_str("\\ufffd"));
    }
    out.push('"');
}

/// Appends `["a","b"]` or `{"k":"v"}` contents separated by commas.
pub(crate) fn joined<T>(
    out: &mut String,
    items: impl IntoIterator<Item = T>,
    mut one: impl FnMut(&mut String, T),
) {
    for (at, item) in items.into_iter().enumerate() {
        if at > 0 {
            out.push(',');
        }
        one(out, item);
    }
}

#[cfg(test)]
mod tests {
    use alloc::string::String;

    #[test]
    fn strings_are_escaped_as_go_escapes_them() {
        let cases: [(&[u8], &str); 4] = [
            (b"a\"b\\c\n\t", r#""a\"b\\c\n\t""#),
            (
                b"<a href=x>&</a>",
                r#""\u003ca href=x\u003e\u0026\u003c/a\u003e""#,
            ),
            (b"\x01\x08\x7f", "\"\\u0001\\b\x7f\""),
            (b"\xff\xfeok\xe2\x82", r#""\ufffd\ufffdok\ufffd\ufffd""#),
        ];
        for (bytes, expected) in cases {
            let mut out = String::new();
            super::string(&mut out, bytes);
            assert_eq!(out, expected);
        }
    }
}
