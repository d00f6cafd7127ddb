//! CEL without variables, for a step's own `when` (T-296): literals, operators, functions of strings, lists and maps.
//!
//! Left out, and an error, never a guess: bytes, unsigned numbers, durations and timestamps. A mistake in the expression is an
//! error wherever it stands, as upstream's check before the evaluation finds it; what fails by its values alone (a division
//! by zero, an index out of range) is [`Value::Failed`], and matters only if the outcome depends on it.

mod regex;
mod value;

use alloc::borrow::ToOwned;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

pub(crate) use value::Value;
use value::{arithmetic, decided, function, method, relate};

pub(crate) fn evaluate(expression: &str) -> Result<Value, String> {
    let mut parser = Parser {
        rest: expression,
        depth: 0,
        bound: Vec::new(),
        evaluated: 0,
    };
    let value = parser.conditional().and_then(|value| {
        parser.blank();
        match value {
            _ if !parser.rest.is_empty() => Err(parser.unexpected()),
            Value::Failed(message) => Err(message),
            value => Ok(value),
        }
    });
    value.map_err(|message| format!("CEL expression {expression:?}: {message}"))
}

struct Parser<'a> {
    rest: &'a str,
    depth: usize,
    /// Names that macros have given to members of lists, the innermost last.
    bound: Vec<(&'a str, Value)>,
    /// How many expressions have been evaluated: macros inside macros do so again and again.
    evaluated: usize,
}

/// What is evaluated once for each member.
const MACROS: [&str; 5] = ["all", "exists", "exists_one", "map", "filter"];

type Evaluated = Result<Value, String>;

/// Deeper nesting than anybody writes would exhaust the stack.
const MAX_DEPTH: usize = 64;
/// More would keep the step from starting.
const MAX_EVALUATED: usize = 100_000;

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
        self.evaluated += 1;
        if self.evaluated > MAX_EVALUATED {
            return Err("too much to evaluate".into());
        }
        let condition = self.or()?;
        let value = if self.take("?") {
            let yes = self.conditional()?;
            self.expect(":")?;
            let no = self.conditional()?;
            match condition {
                Value::Bool(true) => yes,
                Value::Bool(false) => no,
                Value::Failed(_) => condition,
                _ => return Err("no such overload: a boolean is needed".into()),
            }
        } else {
            condition
        };
        self.depth -= 1;
        Ok(value)
    }

    fn or(&mut self) -> Evaluated {
        let mut left = self.and()?;
        while self.take("||") {
            left = decided(true, left, self.and()?)?;
        }
        Ok(left)
    }

    fn and(&mut self) -> Evaluated {
        let mut left = self.relation()?;
        while self.take("&&") {
            left = decided(false, left, self.relation()?)?;
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
            left = relate(operator, left, right)?;
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
            match self.unary()? {
                Value::Bool(value) => Ok(Value::Bool(!value)),
                failed @ Value::Failed(_) => Ok(failed),
                _ => Err("no such overload: a boolean is needed".into()),
            }
        } else if !digits && self.take("-") {
            let value = self.unary()?;
            let zero = match value {
                Value::Double(_) => Value::Double(0.0),
                _ => Value::Int(0),
            };
            arithmetic('-', zero, value)
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
                if !self.take("(") {
                    value = value.member(Value::String(name.into()))?;
                } else if MACROS.contains(&name) {
                    value = self.each(value, name)?;
                } else {
                    let arguments = self.list(")")?;
                    value = method(value, name, arguments)?;
                }
            } else if self.take("[") {
                let index = self.conditional()?;
                self.expect("]")?;
                value = value.member(index)?;
            } else {
                return Ok(value);
            }
        }
    }

    /// The macros over a list's members or a map's keys: the same text is evaluated for each of them.
    fn each(&mut self, over: Value, name: &str) -> Evaluated {
        let variable = self.name().ok_or_else(|| self.unexpected())?;
        self.expect(",")?;
        let body = self.rest;
        let (mut members, failed) = match over {
            Value::List(members) => (members, None),
            Value::Map(entries) => (entries.into_iter().map(|(key, _)| key).collect(), None),
            failed @ Value::Failed(_) => (Vec::new(), Some(failed)),
            _ => return Err(format!("'{name}' is for lists and maps")),
        };
        let none = members.is_empty();
        if none {
            // The text has to be read all the same.
            members.push(Value::Failed("no member".to_owned()));
        }
        let (mut found, mut count) = (Vec::new(), 0);
        let mut outcome = Value::Bool(name == "all");
        for member in members {
            self.rest = body;
            self.bound.push((variable, member.clone()));
            let mut value = self.conditional()?;
            let mut wanted = Value::Bool(true);
            if name == "map" && self.take(",") {
                wanted = core::mem::replace(&mut value, self.conditional()?);
            } else if name == "filter" {
                wanted = core::mem::replace(&mut value, member);
            }
            self.expect(")")?;
            self.bound.pop();
            if none {
                break;
            }
            match name {
                "all" => outcome = decided(false, outcome, value)?,
                "exists" => outcome = decided(true, outcome, value)?,
                "exists_one" => match value {
                    Value::Bool(holds) => count += usize::from(holds),
                    failed @ Value::Failed(_) => return Ok(failed),
                    _ => return Err("no such overload: a boolean is needed".into()),
                },
                _ => match (wanted, value) {
                    (failed @ Value::Failed(_), _)
                    | (Value::Bool(true), failed @ Value::Failed(_)) => {
                        outcome = failed;
                    }
                    (Value::Bool(true), value) => found.push(value),
                    (Value::Bool(false), _) => {}
                    _ => return Err("no such overload: a boolean is needed".into()),
                },
            }
        }
        Ok(match (failed, name) {
            (Some(failed), _) => failed,
            (None, "exists_one") => Value::Bool(count == 1),
            (None, "map" | "filter") => match outcome {
                failed @ Value::Failed(_) => failed,
                _ => Value::List(found),
            },
            _ => outcome,
        })
    }

    fn map(&mut self) -> Evaluated {
        let mut entries: Vec<(Value, Value)> = Vec::new();
        while !self.take("}") {
            let key = self.conditional()?;
            if !matches!(key, Value::String(_) | Value::Int(_) | Value::Bool(_)) {
                return Err("unsupported key type".into());
            }
            self.expect(":")?;
            let value = self.conditional()?;
            if entries.iter().any(|(known, _)| *known == key) {
                return Err("a key of a map stands there twice".into());
            }
            entries.push((key, value));
            if !self.take(",") {
                self.expect("}")?;
                break;
            }
        }
        let failed = entries
            .iter()
            .find(|(_, value)| matches!(value, Value::Failed(_)));
        Ok(match failed {
            Some((_, failed)) => failed.clone(),
            None => Value::Map(entries),
        })
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
            let members = self.list("]")?;
            let failed = members
                .iter()
                .find(|member| matches!(member, Value::Failed(_)));
            return Ok(failed.cloned().unwrap_or(Value::List(members)));
        }
        if self.take("{") {
            return self.map();
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
                        function(name, arguments)
                    }
                    _ => {
                        let bound = self.bound.iter().rfind(|(bound, _)| *bound == name);
                        let value = bound.map(|(_, value)| value.clone());
                        value.ok_or_else(|| format!("undeclared reference to '{name}'"))
                    }
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
            ("'release-7'.matches('^release-[0-9]+$')", true),
            ("matches('main', '^release')", false),
            ("['a', 'b'].exists(x, x == 'b')", true),
            ("['a', 'b'].all(x, x.size() == 1)", true),
            ("[].all(x, x == 'a') && ![].exists(x, x == 'a')", true),
            ("['a', 'ab'].exists_one(s, s.startsWith('a'))", false),
            ("[1, 2, 3].filter(n, n > 1).map(n, n * 2) == [4, 6]", true),
            ("[1, 2, 3].map(n, n > 2, n * 2) == [6]", true),
            ("[[1], [2]].exists(x, x.exists(y, y == 2))", true),
            ("{'a': 1, 'b': 2}.b == 2 && 'a' in {'a': 1}", true),
            ("{'a': 1}['a'] == 1 && {'a': 1}.all(k, k == 'a')", true),
            (
                "{'a': 1, 'b': 2} == {'b': 2, 'a': 1} && size({}) == 0",
                true,
            ),
            ("has({'a': 1}.a) && !has({'a': 1}.b)", true),
            // What fails by its value matters only if the outcome depends on it.
            ("true || 1 / 0 > 0", true),
            ("1 / 0 > 0 || true", true),
            ("false && [1][5] == 1", false),
            ("true ? true : int('x') == 1", true),
            ("[0, 1].exists(n, 2 / n == 2)", true),
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
        let much = format!(
            "{}true{}",
            "[1,2,3,4,5,6,7,8,9].all(x, ".repeat(20),
            ")".repeat(20)
        );
        for expression in [
            "",
            "a",
            "1 +",
            "'a",
            "1 + 'a'",
            "'a' < 1",
            "1 / 0",
            "9223372036854775807 + 1",
            "'a'.matches('(')",
            "'a' == 1",
            "true || 'a'",
            "true || 1 + 'a' == 2",
            "true ? true : nothing",
            "false || 1 / 0 > 0",
            "[1].exists(x, x > 0) && x > 0",
            "[].all(x, nothing)",
            "[1].exists(n, 1 / 0 == n)",
            "{'a': 1, 'a': 2} == {}",
            "{'a': 1}.b == 1",
            "b'a' == b'a'",
            "duration('1s') == duration('1s')",
            "true true",
            &deep,
            &negated,
            &much,
        ] {
            assert!(evaluate(expression).is_err(), "{expression}");
        }
    }
}
