//! Decodes JSON into a shape as Go's `encoding/json` does, and writes it back as Go would (T-009, T-017).

use serde_json::{Map, Value};

use super::{Struct, Type, go_json, quantity, shapes};
use crate::{Duration, v1::ParamValue};

/// What Go makes of a document.
#[derive(Debug)]
pub(crate) struct Decoded {
    /// As Go would write it back.
    pub value: Value,
    /// A param value that was never given, which Go cannot write (T-012): its Go type and where it is.
    pub missing: Option<(&'static str, String)>,
}

/// What a field holds after decoding: nothing, or what Go writes for it.
enum Slot {
    Zero,
    Set(Value),
}

struct Decoder {
    strict: bool,
    /// Whether empty lists and maps that were given stay, although Go leaves them out.
    keep_empty: bool,
    /// Whether names must match in case, as they must for Kubernetes' own decoder.
    exact: bool,
    /// The first finding; Go goes on after it, but reports only that.
    saved: Option<String>,
    /// Name of the innermost struct, for messages.
    struct_: Option<&'static str>,
    /// Names of the fields on the way, for messages.
    stack: Vec<String>,
    /// Where we are in the document, with indexes.
    path: Vec<String>,
    missing: Option<(&'static str, String)>,
}

/// Stops decoding at once: an error of a type with its own decoder.
struct Abort(String);

/// Decodes `value` into the struct `root` of the table; `strict` refuses unknown fields.
///
/// # Errors
/// Go's words for the first thing that does not fit.
pub(crate) fn decode(root: &str, value: &Value, strict: bool) -> Result<Decoded, String> {
    run(
        root,
        value,
        Mode {
            strict,
            ..Mode::default()
        },
    )
}

/// Decodes as the API server itself does: names match exactly, unknown ones are let through.
///
/// # Errors
/// As [`decode`].
pub(crate) fn decode_exactly(root: &str, value: &Value) -> Result<Decoded, String> {
    run(
        root,
        value,
        Mode {
            exact: true,
            ..Mode::default()
        },
    )
}

#[derive(Default)]
struct Mode {
    strict: bool,
    keep_empty: bool,
    exact: bool,
}

/// Decodes strictly, but lets empty lists and maps that were given stay, since defaulting tells them from none.
///
/// # Errors
/// As [`decode`].
pub(crate) fn decode_keeping_empty(root: &str, value: &Value) -> Result<Decoded, String> {
    run(
        root,
        value,
        Mode {
            strict: true,
            keep_empty: true,
            exact: false,
        },
    )
}

fn run(root: &str, value: &Value, mode: Mode) -> Result<Decoded, String> {
    let id = shapes()
        .id(root)
        .ok_or_else(|| format!("no shape named {root}"))?;
    let root = &Type::Ref(id);
    let mut decoder = Decoder {
        strict: mode.strict,
        keep_empty: mode.keep_empty,
        exact: mode.exact,
        saved: None,
        struct_: None,
        stack: vec![],
        path: vec![],
        missing: None,
    };
    let slot = decoder
        .decode(root, value)
        .map_err(|Abort(message)| message)?;
    if let Some(message) = decoder.saved {
        return Err(message);
    }
    let value = match slot {
        Slot::Set(value) => value,
        Slot::Zero => decoder.zero(root),
    };
    Ok(Decoded {
        value,
        missing: decoder.missing,
    })
}

fn kind_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "bool",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

impl Decoder {
    fn save(&mut self, message: String) {
        self.saved.get_or_insert(message);
    }

    fn mismatch(&mut self, what: &str, type_: &Type) -> Slot {
        let message = self.mismatch_text(what, &shapes().go_name(type_));
        self.save(message);
        Slot::Zero
    }

    fn mismatch_text(&self, what: &str, type_: &str) -> String {
        match self.struct_ {
            Some(name) => {
                let path = self.stack.join(".");
                format!(
                    "json: cannot unmarshal {what} into Go struct field {name}.{path} of type {type_}"
                )
            }
            None => format!("json: cannot unmarshal {what} into Go value of type {type_}"),
        }
    }

    fn decode(&mut self, type_: &Type, value: &Value) -> Result<Slot, Abort> {
        let table = shapes();
        if let Some(of) = table.as_struct(type_) {
            return match value {
                Value::Object(pairs) => self.object(of, pairs).map(Slot::Set),
                Value::Null => Ok(Slot::Zero),
                other => Ok(self.mismatch(kind_of(other), type_)),
            };
        }
        Ok(match (table.underlying(type_), value) {
            (Type::Pointer(_), Value::Null) => Slot::Zero,
            (Type::Pointer(of), _) => match self.decode(of, value)? {
                Slot::Zero => Slot::Set(self.zero(of)),
                set => set,
            },
            (Type::Param(_), _) => Slot::Set(
                serde_json::to_value(ParamValue::from_value(value.clone())).unwrap_or_default(),
            ),
            (Type::Raw, Value::Null) => Slot::Zero,
            (Type::Raw, other) => Slot::Set(other.clone()),
            (Type::Quantity, Value::Null) => Slot::Zero,
            (Type::Quantity, other) => {
                let text = other.as_str().map_or_else(|| go_json(other), str::to_owned);
                let canonical = quantity::canonical(text.trim());
                Slot::Set(canonical.map_err(|m| Abort(m.to_owned()))?.into())
            }
            (Type::IntOrString, Value::String(_)) => Slot::Set(value.clone()),
            (Type::IntOrString, Value::Null) => Slot::Zero,
            (Type::IntOrString, other) => {
                match other.as_i64().filter(|n| i32::try_from(*n).is_ok()) {
                    Some(number) => Slot::Set(number.into()),
                    None => {
                        let what = if other.is_number() {
                            format!("number {}", go_json(other))
                        } else {
                            kind_of(other).into()
                        };
                        return Err(Abort(self.mismatch_text(&what, "int32")));
                    }
                }
            }
            (Type::Duration, Value::String(text)) => {
                let duration: Duration = text.parse().map_err(|e| Abort(format!("{e}")))?;
                Slot::Set(duration.to_string().into())
            }
            (Type::Time, Value::Null) => Slot::Zero,
            (Type::Time, Value::String(text)) => {
                let time: Result<jiff::Timestamp, _> = text.parse();
                let time = time.map_err(|_| {
                    Abort(format!("parsing time {text:?} as \"2006-01-02T15:04:05Z07:00\": cannot parse {text:?} as \"2006\""))
                })?;
                Slot::Set(time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string().into())
            }
            (Type::Duration | Type::Time, other) => {
                let what = kind_of(other);
                return Err(Abort(self.mismatch_text(what, "string")));
            }
            (_, Value::Null) => Slot::Zero,
            (Type::String, Value::String(_)) | (Type::Bool, Value::Bool(_)) => {
                Slot::Set(value.clone())
            }
            (Type::Int(width), Value::Number(number)) => {
                let fits = |n: &i64| *width != "int32" || i32::try_from(*n).is_ok();
                match number
                    .as_i64()
                    .or_else(|| go_json(value).parse().ok())
                    .filter(fits)
                {
                    Some(number) => Slot::Set(number.into()),
                    None => self.mismatch(&format!("number {}", go_json(value)), type_),
                }
            }
            (Type::List(of), Value::Array(items)) => {
                let mut list = Vec::with_capacity(items.len());
                for (index, item) in items.iter().enumerate() {
                    self.path.push(format!("[{index}]"));
                    let slot = self.decode(of, item)?;
                    list.push(match slot {
                        Slot::Set(value) => value,
                        Slot::Zero => self.zero(of),
                    });
                    self.path.pop();
                }
                Slot::Set(list.into())
            }
            (Type::Map(_, of), Value::Object(pairs)) => {
                let mut map = Map::new();
                for (key, item) in sorted(pairs) {
                    self.path.push(format!("[{key}]"));
                    let slot = self.decode(of, item)?;
                    let value = match slot {
                        Slot::Set(value) => value,
                        Slot::Zero => self.zero(of),
                    };
                    map.insert(key.clone(), value);
                    self.path.pop();
                }
                Slot::Set(map.into())
            }
            (_, other) => self.mismatch(kind_of(other), type_),
        })
    }

    fn place(&self) -> String {
        let mut place = String::new();
        for part in &self.path {
            if !place.is_empty() && !part.starts_with('[') {
                place.push('.');
            }
            place.push_str(part);
        }
        place
    }

    fn object(&mut self, of: &'static Struct, pairs: &Map<String, Value>) -> Result<Value, Abort> {
        let mut given: Map<String, Value> = Map::new();
        for (key, value) in sorted(pairs) {
            let Some(found) = shapes().field(of, key, self.exact) else {
                if self.strict {
                    self.save(format!("json: unknown field {key:?}"));
                }
                continue;
            };
            let depth = self.stack.len();
            let outer = self
                .struct_
                .replace(of.id.split_once('.').map_or(of.id, |(_, name)| name));
            self.stack
                .extend(found.through.iter().map(|name| (*name).to_owned()));
            self.stack.push(found.field.name.to_owned());
            self.path.push(found.field.name.to_owned());
            if let Slot::Set(value) = self.decode(&found.field.type_, value)? {
                given.insert(found.field.name.to_owned(), value);
            }
            self.path.pop();
            self.stack.truncate(depth);
            self.struct_ = outer;
        }
        let mut out = Map::new();
        self.write(of, &mut given, &mut out);
        Ok(Value::Object(out))
    }

    /// Writes the fields of `of` as Go does: what is empty and may be left out is left out.
    fn write(
        &mut self,
        of: &'static Struct,
        given: &mut Map<String, Value>,
        out: &mut Map<String, Value>,
    ) {
        for field in &of.fields {
            if field.embedded {
                if let Some(inner) = shapes().as_struct(&field.type_) {
                    self.write(inner, given, out);
                }
                continue;
            }
            let value = given.remove(field.name);
            let given_empty = self.keep_empty
                && value
                    .as_ref()
                    .is_some_and(|v| v.is_array() || v.is_object());
            if field.omit_empty
                && !given_empty
                && is_empty(&field.type_, value.as_ref(), field.flags.contains(&"zero"))
            {
                continue;
            }
            let value = match value {
                Some(value) => value,
                None => {
                    self.path.push(field.name.to_owned());
                    let zero = self.zero(&field.type_);
                    self.path.pop();
                    zero
                }
            };
            out.insert(field.name.to_owned(), value);
        }
    }

    /// What Go writes for a zero value.
    fn zero(&mut self, type_: &Type) -> Value {
        if let Some(of) = shapes().as_struct(type_) {
            let mut out = Map::new();
            self.write(of, &mut Map::new(), &mut out);
            return Value::Object(out);
        }
        match shapes().underlying(type_) {
            Type::String => "".into(),
            Type::Int(_) | Type::IntOrString => 0.into(),
            Type::Bool => false.into(),
            Type::Duration => "0s".into(),
            Type::Quantity => "0".into(),
            Type::Param(name) => {
                let place = self.place();
                self.missing.get_or_insert((name, place));
                Value::Null
            }
            _ => Value::Null,
        }
    }
}

/// Whether Go's `omitempty` (or, with `zero`, `omitzero`) leaves the field out.
fn is_empty(type_: &Type, value: Option<&Value>, zero: bool) -> bool {
    match (shapes().underlying(type_), value) {
        (Type::Pointer(_), value) => value.is_none(),
        (Type::String, value) => value.is_none_or(|v| v.as_str() == Some("")),
        (Type::Int(_), value) => value.is_none_or(|v| v.as_i64() == Some(0)),
        (Type::Bool, value) => value.is_none_or(|v| v.as_bool() == Some(false)),
        (Type::List(_), value) => value.and_then(Value::as_array).is_none_or(Vec::is_empty),
        (Type::Map(..), value) => value.and_then(Value::as_object).is_none_or(Map::is_empty),
        (_, value) => zero && value.is_none(),
    }
}

fn sorted(pairs: &Map<String, Value>) -> Vec<(&String, &Value)> {
    let mut pairs: Vec<_> = pairs.iter().collect();
    pairs.sort_by_key(|(key, _)| key.as_str());
    pairs
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// T-009: what Go writes although it is empty, and what it leaves out.
    #[test]
    fn a_task_is_written_back_as_go_does() {
        let task = json!({"spec": {"steps": [{"image": "a", "args": [], "Script": "x", "timeout": "90s",
            "computeResources": {"limits": {"cpu": 0.5, "memory": "1024Mi"}}}], "params": null}});
        let decoded = decode("v1.Task", &task, true).unwrap();
        assert_eq!(
            decoded.value,
            json!({"metadata": {}, "spec": {"steps": [{"name": "", "image": "a", "script": "x", "timeout": "1m30s",
                "computeResources": {"limits": {"cpu": "500m", "memory": "1Gi"}}}]}})
        );
        let run = decode(
            "v1.PipelineRun",
            &json!({"spec": {"pipelineSpec": {"tasks": [{"taskSpec": {}}]}}}),
            true,
        );
        assert_eq!(
            run.unwrap().value["spec"],
            json!({"pipelineSpec": {"tasks": [{"taskSpec": {"metadata": {}, "spec": null}}]}, "taskRunTemplate": {}})
        );
    }

    /// T-017: the texts of Go's decoder.
    #[test]
    fn what_does_not_fit_is_refused_in_gos_words() {
        for (root, value, message) in [
            (
                "v1.Task",
                json!({"spec": {"steps": "x"}}),
                "json: cannot unmarshal string into Go struct field TaskSpec.spec.steps of type []v1.Step",
            ),
            (
                "v1.Task",
                json!({"spec": {"steps": ["x"]}}),
                "json: cannot unmarshal string into Go struct field TaskSpec.spec.steps of type v1.Step",
            ),
            (
                "v1.Task",
                json!({"spec": {"stepz": []}}),
                r#"json: unknown field "stepz""#,
            ),
            (
                "v1.TaskRun",
                json!({"spec": {"taskRef": {"params": [1]}}}),
                "json: cannot unmarshal number into Go struct field TaskRef.spec.taskRef.ResolverRef.params of type v1.Param",
            ),
            (
                "v1.TaskRun",
                json!({"spec": {"retries": 1.5}}),
                "json: cannot unmarshal number 1.5 into Go struct field TaskRunSpec.spec.retries of type int",
            ),
            (
                "v1.TaskRun",
                json!({"spec": {"timeout": 5}}),
                "json: cannot unmarshal number into Go struct field TaskRunSpec.spec.timeout of type string",
            ),
            (
                "v1.TaskRun",
                json!({"spec": {"timeout": "5"}}),
                r#"time: missing unit in duration "5""#,
            ),
        ] {
            assert_eq!(decode(root, &value, true).unwrap_err(), message);
        }
    }

    /// T-012
    #[test]
    fn a_param_without_a_value_is_noticed() {
        let run = json!({"spec": {"params": [{"name": "a", "value": null}, {"name": "b"}]}});
        let decoded = decode("v1.TaskRun", &run, true).unwrap();
        assert_eq!(
            decoded.missing,
            Some(("v1.ParamValue", "spec.params[1].value".to_owned()))
        );
    }
}
