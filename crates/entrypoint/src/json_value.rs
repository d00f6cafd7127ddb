//! JSON text read into values, as strictly as Go reads it.

use alloc::borrow::ToOwned;
use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) enum Value {
    #[default]
    Null,
    Bool(bool),
    /// As written: nobody here counts.
    Number(String),
    String(String),
    Array(Vec<Value>),
    Object(BTreeMap<String, Value>),
}

/// Deeper nesting than anybody writes would exhaust the stack.
const MAX_DEPTH: usize = 128;

impl Value {
    pub(crate) fn parse(text: &[u8]) -> Result<Value, String> {
        let text = core::str::from_utf8(text).map_err(|_| "invalid UTF-8 in JSON".to_owned())?;
        let mut reader = Reader { text, at: 0 };
        let value = reader.value(0)?;
        reader.blank();
        match reader.peek() {
            None => Ok(value),
            Some(_) => Err(reader.unexpected("after top-level value")),
        }
    }

    pub(crate) fn get(&self, key: &str) -> Option<&Value> {
        self.as_object()?.get(key)
    }

    pub(crate) fn as_str(&self) -> Option<&str> {
        match self {
            Value::String(text) => Some(text),
            _ => None,
        }
    }

    pub(crate) fn as_array(&self) -> Option<&[Value]> {
        match self {
            Value::Array(items) => Some(items),
            _ => None,
        }
    }

    pub(crate) fn as_object(&self) -> Option<&BTreeMap<String, Value>> {
        match self {
            Value::Object(members) => Some(members),
            _ => None,
        }
    }

    /// Where Go wants a string: null is the empty one.
    pub(crate) fn into_text(self) -> Result<String, String> {
        match self {
            Value::String(text) => Ok(text),
            Value::Null => Ok(String::new()),
            other => Err(other.misplaced("string")),
        }
    }

    /// Where Go wants a list of strings.
    pub(crate) fn into_texts(self) -> Result<Vec<String>, String> {
        self.into_items()?
            .into_iter()
            .map(Value::into_text)
            .collect()
    }

    /// Where Go wants a list.
    pub(crate) fn into_items(self) -> Result<Vec<Value>, String> {
        match self {
            Value::Array(items) => Ok(items),
            Value::Null => Ok(Vec::new()),
            other => Err(other.misplaced("list")),
        }
    }

    /// Where Go wants a map or a structure.
    pub(crate) fn into_members(self) -> Result<BTreeMap<String, Value>, String> {
        match self {
            Value::Object(members) => Ok(members),
            Value::Null => Ok(BTreeMap::new()),
            other => Err(other.misplaced("object")),
        }
    }

    fn misplaced(&self, wanted: &str) -> String {
        let found = match self {
            Value::Null => "null",
            Value::Bool(_) => "bool",
            Value::Number(_) => "number",
            Value::String(_) => "string",
            Value::Array(_) => "array",
            Value::Object(_) => "object",
        };
        format!("json: cannot unmarshal {found} into a {wanted}")
    }
}

/// Takes a string member out; an absent one is empty.
pub(crate) fn take_text(
    members: &mut BTreeMap<String, Value>,
    name: &str,
) -> Result<String, String> {
    members.remove(name).unwrap_or_default().into_text()
}

struct Reader<'a> {
    text: &'a str,
    at: usize,
}

impl Reader<'_> {
    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn blank(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.at += 1;
        }
    }

    fn unexpected(&self, place: &str) -> String {
        match self.text[self.at..].chars().next() {
            Some(c) => format!("invalid character {c:?} {place}"),
            None => "unexpected end of JSON input".into(),
        }
    }

    fn take(&mut self, token: &str) -> bool {
        let found = self.text.as_bytes()[self.at..].starts_with(token.as_bytes());
        if found {
            self.at += token.len();
        }
        found
    }

    fn value(&mut self, depth: usize) -> Result<Value, String> {
        if depth > MAX_DEPTH {
            return Err("exceeded max depth".into());
        }
        self.blank();
        match self.peek() {
            Some(b'"') => self.string().map(Value::String),
            Some(b'[') => self.array(depth),
            Some(b'{') => self.object(depth),
            Some(b'-' | b'0'..=b'9') => self.number(),
            _ if self.take("null") => Ok(Value::Null),
            _ if self.take("true") => Ok(Value::Bool(true)),
            _ if self.take("false") => Ok(Value::Bool(false)),
            _ => Err(self.unexpected("looking for beginning of value")),
        }
    }

    fn array(&mut self, depth: usize) -> Result<Value, String> {
        self.at += 1;
        let mut items = Vec::new();
        self.blank();
        if self.take("]") {
            return Ok(Value::Array(items));
        }
        loop {
            items.push(self.value(depth + 1)?);
            self.blank();
            if self.take("]") {
                return Ok(Value::Array(items));
            }
            if !self.take(",") {
                return Err(self.unexpected("after array element"));
            }
        }
    }

    fn object(&mut self, depth: usize) -> Result<Value, String> {
        self.at += 1;
        let mut members = BTreeMap::new();
        self.blank();
        if self.take("}") {
            return Ok(Value::Object(members));
        }
        loop {
            self.blank();
            if self.peek() != Some(b'"') {
                return Err(self.unexpected("looking for beginning of object key string"));
            }
            let key = self.string()?;
            self.blank();
            if !self.take(":") {
                return Err(self.unexpected("after object key"));
            }
            members.insert(key, self.value(depth + 1)?);
            self.blank();
            if self.take("}") {
                return Ok(Value::Object(members));
            }
            if !self.take(",") {
                return Err(self.unexpected("after object key:value pair"));
            }
        }
    }

    fn number(&mut self) -> Result<Value, String> {
        let start = self.at;
        self.take("-");
        if !self.take("0") {
            self.digits()?;
        }
        if self.take(".") {
            self.digits()?;
        }
        if matches!(self.peek(), Some(b'e' | b'E')) {
            self.at += 1;
            let _ = self.take("+") || self.take("-");
            self.digits()?;
        }
        Ok(Value::Number(self.text[start..self.at].to_owned()))
    }

    fn digits(&mut self) -> Result<(), String> {
        if !self.peek().is_some_and(|byte| byte.is_ascii_digit()) {
            return Err(self.unexpected("in numeric literal"));
        }
        while self.peek().is_some_and(|byte| byte.is_ascii_digit()) {
            self.at += 1;
        }
        Ok(())
    }

    fn string(&mut self) -> Result<String, String> {
        self.at += 1;
        let mut out = String::new();
        loop {
            let start = self.at;
            // What stops this is ASCII, so both ends lie between characters.
            while self
                .peek()
                .is_some_and(|byte| !matches!(byte, b'"' | b'\\' | 0..=0x1f))
            {
                self.at += 1;
            }
            out.push_str(&self.text[start..self.at]);
            match self.peek() {
                Some(b'"') => {
                    self.at += 1;
                    return Ok(out);
                }
                Some(b'\\') => {
                    self.at += 1;
                    out.push(self.escape()?);
                }
                _ => return Err(self.unexpected("in string literal")),
            }
        }
    }

    fn escape(&mut self) -> Result<char, String> {
        let Some(letter) = self.peek() else {
            return Err(self.unexpected(""));
        };
        let plain = match letter {
            b'"' | b'\\' | b'/' => letter as char,
            b'b' => '\u{8}',
            b'f' => '\u{c}',
            b'n' => '\n',
            b'r' => '\r',
            b't' => '\t',
            b'u' => {
                self.at += 1;
                return self.unicode();
            }
            _ => return Err(self.unexpected("in string escape code")),
        };
        self.at += 1;
        Ok(plain)
    }

    /// Four hexadecimal digits, or two times four. Half of a pair is replaced, as Go does.
    fn unicode(&mut self) -> Result<char, String> {
        let first = self.hex()?;
        if (0xd800..0xdc00).contains(&first) {
            let after_first = self.at;
            if self.take("\\u") {
                let second = self.hex()?;
                if (0xdc00..0xe000).contains(&second) {
                    let pair = 0x10000 + ((first - 0xd800) << 10) + (second - 0xdc00);
                    return Ok(char::from_u32(pair).unwrap_or(char::REPLACEMENT_CHARACTER));
                }
                self.at = after_first;
            }
        }
        Ok(char::from_u32(first).unwrap_or(char::REPLACEMENT_CHARACTER))
    }

    fn hex(&mut self) -> Result<u32, String> {
        let mut number = 0;
        for _ in 0..4 {
            let digit = self.peek().and_then(|byte| (byte as char).to_digit(16));
            let Some(digit) = digit else {
                return Err(self.unexpected("in \\u hexadecimal character escape"));
            };
            number = number << 4 | digit;
            self.at += 1;
        }
        Ok(number)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Value, String> {
        Value::parse(text.as_bytes())
    }

    fn string(text: &str) -> Value {
        Value::String(text.into())
    }

    #[test]
    fn values_of_every_kind_are_read() {
        let object = [
            (
                "a".into(),
                Value::Array(Vec::from([Value::Number("-1.5e+3".into()), Value::Null])),
            ),
            (
                "b".into(),
                Value::Object([("".into(), Value::Bool(true))].into()),
            ),
        ];
        let cases = [
            (" null ", Value::Null),
            ("false", Value::Bool(false)),
            ("0", Value::Number("0".into())),
            ("[ ]", Value::Array(Vec::new())),
            ("{ }", Value::Object(BTreeMap::new())),
            (
                r#"{"a" : [-1.5e+3, null], "b":{"":true}}"#,
                Value::Object(object.into()),
            ),
            (
                r#"{"a":1,"a":2}"#,
                Value::Object([("a".into(), Value::Number("2".into()))].into()),
            ),
            (
                r#""\"\\\/\b\f\n\r\t\u0041µ""#,
                string("\"\\/\u{8}\u{c}\n\r\tAµ"),
            ),
            (
                r#""\ud83d\ude00 \ud83d \ude00 \ud83d\u0041""#,
                string("😀 \u{fffd} \u{fffd} \u{fffd}A"),
            ),
        ];
        for (text, expected) in cases {
            assert_eq!(parse(text), Ok(expected), "{text}");
        }
    }

    #[test]
    fn what_is_no_json_is_refused() {
        let deep = "[".repeat(100_000);
        for text in [
            "",
            " ",
            "nul",
            "nulll",
            "01",
            "1.",
            "-",
            "1e",
            "+1",
            "[1,]",
            "[1 2]",
            "[",
            "{",
            "{a:1}",
            "{\"a\" 1}",
            "{\"a\":1,}",
            "{\"a\"}",
            "\"",
            "\"\\",
            "\"\\x\"",
            "\"\\u12\"",
            "\"\\u12é4\"",
            "\"a\nb\"",
            "'a'",
            "é",
            "1 1",
            &deep,
        ] {
            assert!(parse(text).is_err(), "{text}");
        }
        assert!(Value::parse(b"\"\xff\"").is_err());
        assert_eq!(parse(""), Err("unexpected end of JSON input".into()));
    }

    #[test]
    fn null_is_empty_wherever_go_has_it_so() {
        assert_eq!(parse("null").unwrap().into_text(), Ok(String::new()));
        assert_eq!(
            parse(r#"["a",null]"#).unwrap().into_texts(),
            Ok(Vec::from(["a".into(), String::new()]))
        );
        assert!(parse("[1]").unwrap().into_texts().is_err());
        assert!(parse("\"a\"").unwrap().into_members().is_err());
    }
}
