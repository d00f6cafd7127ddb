//! Values of CEL, and what operators and functions make of them.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::cmp::Ordering;

use super::{Evaluated, regex};

/// A value of an expression.
#[derive(Clone, Debug)]
pub(crate) enum Value {
    Bool(bool),
    Int(i64),
    Double(f64),
    String(String),
    List(Vec<Value>),
    /// In the order in which it was written; no key twice.
    Map(Vec<(Value, Value)>),
    Null,
    /// It could not be made of the values that were there.
    Failed(String),
}

impl PartialEq for Value {
    fn eq(&self, other: &Value) -> bool {
        match (self, other) {
            (Value::Bool(a), Value::Bool(b)) => a == b,
            (Value::Int(a), Value::Int(b)) => a == b,
            (Value::Double(a), Value::Double(b)) => a == b,
            (Value::Int(a), Value::Double(b)) | (Value::Double(b), Value::Int(a)) => {
                *a as f64 == *b
            }
            (Value::String(a), Value::String(b)) | (Value::Failed(a), Value::Failed(b)) => a == b,
            (Value::List(a), Value::List(b)) => a == b,
            (Value::Map(a), Value::Map(b)) => {
                a.len() == b.len() && a.iter().all(|entry| b.contains(entry))
            }
            (Value::Null, Value::Null) => true,
            _ => false,
        }
    }
}

impl Value {
    /// A list's by index, a map's by key.
    pub(super) fn member(self, index: Value) -> Evaluated {
        match (self, index) {
            (failed @ Value::Failed(_), _) | (_, failed @ Value::Failed(_)) => Ok(failed),
            (Value::List(list), Value::Int(at)) => {
                let member = usize::try_from(at)
                    .ok()
                    .and_then(|at| list.get(at).cloned());
                Ok(member.unwrap_or_else(|| Value::Failed(format!("index out of bounds: {at}"))))
            }
            (Value::Map(entries), key) => {
                let entry = entries.into_iter().find(|(known, _)| *known == key);
                Ok(entry.map_or_else(
                    || Value::Failed(format!("{NO_KEY}{key:?}")),
                    |(_, value)| value,
                ))
            }
            _ => Err("only lists and maps have members".into()),
        }
    }
}

const NO_KEY: &str = "no such key: ";

/// `||` if `true` decides, `&&` if `false` does: from whichever side, also where the other failed.
pub(super) fn decided(by: bool, left: Value, right: Value) -> Evaluated {
    match (left, right) {
        (Value::Bool(a), Value::Bool(b)) => Ok(Value::Bool(if by { a | b } else { a & b })),
        (Value::Bool(a), Value::Failed(_)) | (Value::Failed(_), Value::Bool(a)) if a == by => {
            Ok(Value::Bool(by))
        }
        (failed @ Value::Failed(_), Value::Bool(_) | Value::Failed(_))
        | (Value::Bool(_), failed @ Value::Failed(_)) => Ok(failed),
        _ => Err("no such overload: a boolean is needed".into()),
    }
}

pub(super) fn relate(operator: &str, left: Value, right: Value) -> Evaluated {
    let order = match (&left, &right) {
        (Value::Failed(_), _) => return Ok(left),
        (_, Value::Failed(_)) => return Ok(right),
        (Value::Int(a), Value::Int(b)) => a.partial_cmp(b),
        (Value::Double(a), Value::Double(b)) => a.partial_cmp(b),
        (Value::Int(a), Value::Double(b)) => (*a as f64).partial_cmp(b),
        (Value::Double(a), Value::Int(b)) => a.partial_cmp(&(*b as f64)),
        (Value::String(a), Value::String(b)) => Some(a.cmp(b)),
        (Value::Bool(a), Value::Bool(b)) => Some(a.cmp(b)),
        _ => None,
    };
    let number = |value: &Value| matches!(value, Value::Int(_) | Value::Double(_));
    let alike = core::mem::discriminant(&left) == core::mem::discriminant(&right)
        || (number(&left) && number(&right));
    let holds = match (operator, order, &right) {
        ("==", ..) if alike => left == right,
        ("!=", ..) if alike => left != right,
        ("in", _, Value::List(list)) => list.contains(&left),
        ("in", _, Value::Map(entries)) => entries.iter().any(|(key, _)| *key == left),
        ("<", Some(order), _) => order == Ordering::Less,
        ("<=", Some(order), _) => order != Ordering::Greater,
        (">", Some(order), _) => order == Ordering::Greater,
        (">=", Some(order), _) => order != Ordering::Less,
        _ => return Err(format!("no such overload for {operator}")),
    };
    Ok(Value::Bool(holds))
}

pub(super) fn arithmetic(operator: char, left: Value, right: Value) -> Evaluated {
    let failed = || Value::Failed(format!("division by zero or out of range: {operator}"));
    Ok(match (operator, left, right) {
        (_, failed @ Value::Failed(_), _) | (_, _, failed @ Value::Failed(_)) => failed,
        ('+', Value::String(a), Value::String(b)) => Value::String(a + &b),
        ('+', Value::List(a), Value::List(b)) => Value::List([a, b].concat()),
        (_, Value::Int(a), Value::Int(b)) => match operator {
            '+' => a.checked_add(b),
            '-' => a.checked_sub(b),
            '*' => a.checked_mul(b),
            '/' => a.checked_div(b),
            _ => a.checked_rem(b),
        }
        .map_or_else(failed, Value::Int),
        ('+', Value::Double(a), Value::Double(b)) => Value::Double(a + b),
        ('-', Value::Double(a), Value::Double(b)) => Value::Double(a - b),
        ('*', Value::Double(a), Value::Double(b)) => Value::Double(a * b),
        ('/', Value::Double(a), Value::Double(b)) => Value::Double(a / b),
        _ => return Err(format!("no such overload for {operator}")),
    })
}

pub(super) fn method(value: Value, name: &str, arguments: Vec<Value>) -> Evaluated {
    let mut all = Vec::with_capacity(1 + arguments.len());
    all.push(value);
    all.extend(arguments);
    if let Some(failed) = failed(&all) {
        return Ok(failed);
    }
    Ok(Value::Bool(match (name, &all[..]) {
        ("startsWith", [Value::String(text), Value::String(part)]) => {
            text.starts_with(part.as_str())
        }
        ("endsWith", [Value::String(text), Value::String(part)]) => text.ends_with(part.as_str()),
        ("contains", [Value::String(text), Value::String(part)]) => text.contains(part.as_str()),
        ("matches", [Value::String(text), Value::String(pattern)]) => {
            match regex::matches(pattern, text) {
                Ok(fits) => fits,
                Err(message) => return Ok(Value::Failed(message)),
            }
        }
        ("size", [_]) => return function("size", all),
        _ => return Err(unknown(name)),
    }))
}

pub(super) fn function(name: &str, arguments: Vec<Value>) -> Evaluated {
    if let ("has", [value]) = (name, &arguments[..]) {
        return Ok(match value {
            Value::Failed(message) if message.starts_with(NO_KEY) => Value::Bool(false),
            Value::Failed(_) => value.clone(),
            _ => Value::Bool(true),
        });
    }
    if let Some(failed) = failed(&arguments) {
        return Ok(failed);
    }
    let read = |value: Option<Value>, text: &str| {
        value.unwrap_or_else(|| Value::Failed(format!("{name}: cannot read {text:?}")))
    };
    let length = |length: usize| Value::Int(i64::try_from(length).unwrap_or(i64::MAX));
    Ok(match (name, &arguments[..]) {
        ("size", [Value::String(text)]) => length(text.chars().count()),
        ("size", [Value::List(list)]) => length(list.len()),
        ("size", [Value::Map(entries)]) => length(entries.len()),
        ("matches", [Value::String(_), Value::String(_)]) => return method_of(name, arguments),
        ("int", [Value::String(text)]) => read(text.parse().ok().map(Value::Int), text),
        ("int", [Value::Int(int)]) => Value::Int(*int),
        ("int", [Value::Double(double)]) => Value::Int(*double as i64),
        ("double", [Value::String(text)]) => read(text.parse().ok().map(Value::Double), text),
        ("double", [Value::Int(int)]) => Value::Double(*int as f64),
        ("double", [Value::Double(double)]) => Value::Double(*double),
        ("string", [Value::Int(int)]) => Value::String(int.to_string()),
        ("string", [Value::Bool(bool)]) => Value::String(bool.to_string()),
        ("string", [Value::String(text)]) => Value::String(text.clone()),
        ("bool", [Value::String(text)]) => read(text.parse().ok().map(Value::Bool), text),
        ("bool", [Value::Bool(bool)]) => Value::Bool(*bool),
        _ => return Err(unknown(name)),
    })
}

/// Written as a function, it is the first argument's method.
fn method_of(name: &str, mut arguments: Vec<Value>) -> Evaluated {
    let value = arguments.remove(0);
    method(value, name, arguments)
}

fn failed(values: &[Value]) -> Option<Value> {
    values
        .iter()
        .find(|value| matches!(value, Value::Failed(_)))
        .cloned()
}

fn unknown(name: &str) -> String {
    format!("'{name}' is no function that steps can use with these arguments")
}
