//! The part of CEL that makes sense without variables: literals, operators and functions of strings (T-296).
//!
//! The whole language would make this program several times larger; what is left out is an error, never a guess.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

/// A value of an expression.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Value {
    Bool(bool),
    Int(i64),
    Double(f64),
    String(String),
    List(Vec<Value>),
    Null,
}

pub(crate) fn evaluate(expression: &str) -> Result<Value, String> {
    let mut parser = Parser {
        rest: expression,
        depth: 0,
    };
    let value = parser.conditional().and_then(|value| {
        parser.blank();
        if parser.rest.is_empty() {
            Ok(value)
        } else {
            Err(parser.unexpected())
        }
    });
    value.map_err(|message| format!("CEL expression {expression:?}: {message}"))
}

struct Parser<'a> {
    rest: &'a str,
    depth: usize,
}

type Evaluated = Result<Value, String>;

/// Deeper nesting than anybody writes would exhaust the stack.
const MAX_DEPTH: usize = 64;

impl<'a> Parser<'a> {
    fn blank(&mut self) {
        self.rest = self.rest.trim_start();
    }

    fn unexpected(&self) -> String {
        match self.rest.chars().next() {
            Some(c) => format!("unexpected {c:?}, or a part of the language that steps cannot use"),
            None => "unexpected end".into(),
        }
    }

    fn take(&mut self, token: &str) -> bool {
        self.blank();
        match self.rest.strip_prefix(token) {
            Some(rest) => {
                self.rest = rest;
                true
            }
            None => false,
        }
    }

    fn expect(&mut self, token: &str) -> Result<(), String> {
        if self.take(token) {
            Ok(())
        } else {
            Err(self.unexpected())
        }
    }

    fn conditional(&mut self) -> Evaluated {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return Err("nested too deeply".into());
        }
        let condition = self.or()?;
        let value = if self.take("?") {
            let yes = self.conditional();
            self.expect(":")?;
            let no = self.conditional();
            if truth(&condition)? { yes } else { no }
        } else {
            Ok(condition)
        };
        self.depth -= 1;
        value
    }

    fn or(&mut self) -> Evaluated {
        let mut left = self.and()?;
        while self.take("||") {
            let right = self.and()?;
            left = Value::Bool(truth(&left)? | truth(&right)?);
        }
        Ok(left)
    }

    fn and(&mut self) -> Evaluated {
        let mut left = self.relation()?;
        while self.take("&&") {
            let right = self.relation()?;
            left = Value::Bool(truth(&left)? & truth(&right)?);
        }
        Ok(left)
    }

    fn relation(&mut self) -> Evaluated {
        let mut left = self.sum()?;
        loop {
            // Longer operators before those they begin with.
            let operator = ["==", "!=", "<=", ">=", "<", ">"]
                .into_iter()
                .find(|operator| self.take(operator));
            let operator = match operator {
                Some(operator) => operator,
                None if self.word("in") => "in",
                None => return Ok(left),
            };
            let right = self.sum()?;
            left = Value::Bool(relate(operator, &left, &right)?);
        }
    }

    fn sum(&mut self) -> Evaluated {
        let mut left = self.product()?;
        loop {
            let plus = self.take("+");
            if !plus && !self.take("-") {
                return Ok(left);
            }
            let right = self.product()?;
            left = arithmetic(if plus { '+' } else { '-' }, left, right)?;
        }
    }

    fn product(&mut self) -> Evaluated {
        let mut left = self.unary()?;
        loop {
            let Some(operator) = ['*', '/', '%']
                .into_iter()
                .find(|op| self.take(op.encode_utf8(&mut [0; 4])))
            else {
                return Ok(left);
            };
            let right = self.unary()?;
            left = arithmetic(operator, left, right)?;
        }
    }

    fn unary(&mut self) -> Evaluated {
        self.blank();
        let digits = self
            .rest
            .strip_prefix('-')
            .is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()));
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return Err("nested too deeply".into());
        }
        let value = if !self.rest.starts_with("!=") && self.take("!") {
            let value = self.unary()?;
            Ok(Value::Bool(!truth(&value)?))
        } else if !digits && self.take("-") {
            let value = self.unary()?;
            arithmetic('-', zero_of(&value), value)
        } else {
            self.member()
        };
        self.depth -= 1;
        value
    }

    fn member(&mut self) -> Evaluated {
        let mut value = self.primary()?;
        loop {
            if self.take(".") {
                let name = self.name().ok_or_else(|| self.unexpected())?;
                self.expect("(")?;
                let arguments = self.list(")")?;
                value = method(&value, name, &arguments)?;
            } else if self.take("[") {
                let index = self.conditional()?;
                self.expect("]")?;
                value = match (&value, &index) {
                    (Value::List(list), Value::Int(at)) => usize::try_from(*at)
                        .ok()
                        .and_then(|at| list.get(at).cloned())
                        .ok_or("index out of range")?,
                    _ => return Err("only lists have an index".into()),
                };
            } else {
                return Ok(value);
            }
        }
    }

    fn list(&mut self, end: &str) -> Result<Vec<Value>, String> {
        let mut items = Vec::new();
        while !self.take(end) {
            items.push(self.conditional()?);
            if !self.take(",") {
                self.expect(end)?;
                break;
            }
        }
        Ok(items)
    }

    fn name(&mut self) -> Option<&'a str> {
        self.blank();
        let end = self
            .rest
            .find(|c: char| !c.is_ascii_alphanumeric() && c != '_')
            .unwrap_or(self.rest.len());
        let (name, rest) = self.rest.split_at(end);
        if name.is_empty() || name.starts_with(|c: char| c.is_ascii_digit()) {
            return None;
        }
        self.rest = rest;
        Some(name)
    }

    fn word(&mut self, word: &str) -> bool {
        let before = self.rest;
        if self.name() == Some(word) {
            return true;
        }
        self.rest = before;
        false
    }

    fn primary(&mut self) -> Evaluated {
        self.blank();
        if self.take("(") {
            let value = self.conditional()?;
            self.expect(")")?;
            return Ok(value);
        }
        if self.take("[") {
            return self.list("]").map(Value::List);
        }
        match self.rest.chars().next() {
            Some('"' | '\'') => self.string(false),
            Some('r' | 'R') if self.rest[1..].starts_with(['"', '\'']) => {
                self.rest = &self.rest[1..];
                self.string(true)
            }
            Some(c) if c.is_ascii_digit() || c == '-' => self.number(),
            _ => {
                let name = self.name().ok_or_else(|| self.unexpected())?;
                match name {
                    "true" => Ok(Value::Bool(true)),
                    "false" => Ok(Value::Bool(false)),
                    "null" => Ok(Value::Null),
                    _ if self.take("(") => {
                        let arguments = self.list(")")?;
                        function(name, &arguments)
                    }
                    _ => Err(format!("undeclared reference to '{name}'")),
                }
            }
        }
    }

    fn number(&mut self) -> Evaluated {
        let end = self.rest[1..]
            .find(|c: char| !c.is_ascii_alphanumeric() && c != '.')
            .map_or(self.rest.len(), |at| at + 1);
        let (text, rest) = self.rest.split_at(end);
        self.rest = rest;
        if let Ok(int) = text.parse() {
            return Ok(Value::Int(int));
        }
        let hex = text
            .strip_prefix("0x")
            .and_then(|hex| i64::from_str_radix(hex, 16).ok());
        match (hex, text.parse()) {
            (Some(int), _) => Ok(Value::Int(int)),
            (None, Ok(double)) => Ok(Value::Double(double)),
            _ => Err(format!("cannot read number {text}")),
        }
    }

    fn string(&mut self, raw: bool) -> Evaluated {
        let quote = if self.rest.starts_with("\"\"\"") || self.rest.starts_with("'''") {
            3
        } else {
            1
        };
        let (quote, mut rest) = self.rest.split_at(quote);
        let mut out = String::new();
        loop {
            if let Some(after) = rest.strip_prefix(quote) {
                self.rest = after;
                return Ok(Value::String(out));
            }
            let mut chars = rest.chars();
            match chars.next().ok_or("a string without an end")? {
                '\\' if !raw => {
                    let escaped = match chars.next().ok_or("a string without an end")? {
                        'n' => '\n',
                        't' => '\t',
                        'r' => '\r',
                        'x' => hex(&mut chars, 2)?,
                        'u' => hex(&mut chars, 4)?,
                        c @ ('\\' | '\'' | '"' | '`' | '?') => c,
                        c => return Err(format!("unknown escape \\{c}")),
                    };
                    out.push(escaped);
                }
                '\n' if quote.len() == 1 => return Err("a string without an end".into()),
                c => out.push(c),
            }
            rest = chars.as_str();
        }
    }
}

fn hex(chars: &mut core::str::Chars<'_>, digits: usize) -> Result<char, String> {
    let text: String = chars.by_ref().take(digits).collect();
    u32::from_str_radix(&text, 16)
        .ok()
        .and_then(char::from_u32)
        .ok_or_else(|| format!("unknown escape {text}"))
}

fn truth(value: &Value) -> Result<bool, String> {
    match value {
        Value::Bool(bool) => Ok(*bool),
        _ => Err("no such overload: a boolean is needed".into()),
    }
}

fn zero_of(value: &Value) -> Value {
    if matches!(value, Value::Double(_)) {
        Value::Double(0.0)
    } else {
        Value::Int(0)
    }
}

fn relate(operator: &str, left: &Value, right: &Value) -> Result<bool, String> {
    use core::cmp::Ordering;
    let order = match (left, right) {
        (Value::Int(a), Value::Int(b)) => a.partial_cmp(b),
        (Value::Double(a), Value::Double(b)) => a.partial_cmp(b),
        (Value::Int(a), Value::Double(b)) => (*a as f64).partial_cmp(b),
        (Value::Double(a), Value::Int(b)) => a.partial_cmp(&(*b as f64)),
        (Value::String(a), Value::String(b)) => Some(a.cmp(b)),
        (Value::Bool(a), Value::Bool(b)) => Some(a.cmp(b)),
        _ => None,
    };
    let equal = order == Some(Ordering::Equal) || left == right;
    match (operator, order) {
        ("==", _) => Ok(equal),
        ("!=", _) => Ok(!equal),
        ("in", _) => match right {
            Value::List(list) => Ok(list.contains(left)),
            _ => Err("no such overload: 'in' needs a list".into()),
        },
        ("<", Some(order)) => Ok(order.is_lt()),
        ("<=", Some(order)) => Ok(order.is_le()),
        (">", Some(order)) => Ok(order.is_gt()),
        (">=", Some(order)) => Ok(order.is_ge()),
        _ => Err(format!("no such overload for {operator}")),
    }
}

fn arithmetic(operator: char, left: Value, right: Value) -> Evaluated {
    let value = match (operator, left, right) {
        ('+', Value::String(a), Value::String(b)) => Some(Value::String(a + &b)),
        ('+', Value::List(a), Value::List(b)) => Some(Value::List([a, b].concat())),
        (_, Value::Int(a), Value::Int(b)) => match operator {
            '+' => a.checked_add(b),
            '-' => a.checked_sub(b),
            '*' => a.checked_mul(b),
            '/' => a.checked_div(b),
            _ => a.checked_rem(b),
        }
        .map(Value::Int),
        ('+', Value::Double(a), Value::Double(b)) => Some(Value::Double(a + b)),
        ('-', Value::Double(a), Value::Double(b)) => Some(Value::Double(a - b)),
        ('*', Value::Double(a), Value::Double(b)) => Some(Value::Double(a * b)),
        ('/', Value::Double(a), Value::Double(b)) => Some(Value::Double(a / b)),
        _ => None,
    };
    value.ok_or_else(|| format!("no such overload or out of range: {operator}"))
}

fn method(value: &Value, name: &str, arguments: &[Value]) -> Evaluated {
    match (value, name, arguments) {
        (Value::String(text), "startsWith", [Value::String(part)]) => {
            Ok(Value::Bool(text.starts_with(part)))
        }
        (Value::String(text), "endsWith", [Value::String(part)]) => {
            Ok(Value::Bool(text.ends_with(part)))
        }
        (Value::String(text), "contains", [Value::String(part)]) => {
            Ok(Value::Bool(text.contains(part)))
        }
        (_, "size", []) => function("size", core::slice::from_ref(value)),
        _ => Err(format!("'{name}' is no function that steps can use here")),
    }
}

fn function(name: &str, arguments: &[Value]) -> Evaluated {
    let failed = || format!("'{name}' is no function that steps can use here");
    Ok(match (name, arguments) {
        ("size", [Value::String(text)]) => Value::Int(text.chars().count() as i64),
        ("size", [Value::List(list)]) => Value::Int(list.len() as i64),
        ("int", [Value::String(text)]) => Value::Int(text.parse().map_err(|_| failed())?),
        ("int", [Value::Int(int)]) => Value::Int(*int),
        ("int", [Value::Double(double)]) => Value::Int(*double as i64),
        ("double", [Value::String(text)]) => Value::Double(text.parse().map_err(|_| failed())?),
        ("double", [Value::Int(int)]) => Value::Double(*int as f64),
        ("string", [Value::Int(int)]) => Value::String(int.to_string()),
        ("string", [Value::Bool(bool)]) => Value::String(bool.to_string()),
        ("string", [Value::String(text)]) => Value::String(text.clone()),
        ("bool", [Value::String(text)]) => Value::Bool(text.parse().map_err(|_| failed())?),
        _ => return Err(failed()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn expressions_without_variables_are_evaluated() {
        // T-296
        let cases = [
            ("true", true),
            ("!false && (1 < 2 || false)", true),
            ("'a' == \"a\"", true),
            ("'release-1'.startsWith('release')", true),
            ("'x' in ['a', 'b']", false),
            ("size('abc') == 3 ? 1 + 2 * 3 == 7 : false", true),
            ("-2 - -3 == 1 && 7 % 3 == 1", true),
            ("int('42') >= 42 && 1.5 > 1", true),
            ("r'\\d' == '\\\\d' && '\\u0041' == 'A'", true),
            ("[1, 2][1] == 2", true),
            ("'a' != 'b' && 'input' == 'input'", true),
        ];
        for (expression, expected) in cases {
            assert_eq!(
                evaluate(expression),
                Ok(Value::Bool(expected)),
                "{expression}"
            );
        }
    }

    #[test]
    fn what_is_wrong_or_left_out_is_an_error() {
        let deep = "(".repeat(10_000);
        let negated = "!".repeat(100_000);
        for expression in [
            "",
            "a",
            "1 +",
            "'a",
            "1 + 'a'",
            "'a' < 1",
            "1 / 0",
            "9223372036854775807 + 1",
            "'a'.matches('b')",
            "[1].exists(x, x > 0)",
            "true true",
            &deep,
            &negated,
        ] {
            assert!(evaluate(expression).is_err(), "{expression}");
        }
    }
}
