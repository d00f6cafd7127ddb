//! Request bodies: JSON or YAML to a `Value` in one pass, duplicate fields noticed on the way (K-076).

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

/// A decoded body.
#[derive(Debug)]
pub struct Decoded {
    pub value: Value,
    /// Paths of fields that occur twice; the last one counts.
    pub duplicates: Vec<String>,
}

/// Decodes JSON.
pub fn json(bytes: &[u8]) -> Result<Decoded, String> {
    let mut duplicates = Vec::new();
    let mut deserializer = serde_json::Deserializer::from_slice(bytes);
    let value = Seed(&mut duplicates)
        .deserialize(&mut deserializer)
        .map_err(|error| error.to_string())?;
    deserializer.end().map_err(|error| error.to_string())?;
    Ok(Decoded { value, duplicates })
}

/// Decodes YAML; JSON is a part of it.
pub fn yaml(bytes: &[u8]) -> Result<Decoded, String> {
    let first = bytes.iter().find(|byte| !byte.is_ascii_whitespace());
    if first == Some(&b'{')
        && let Ok(decoded) = json(bytes)
    {
        return Ok(decoded);
    }
    let mut duplicates = Vec::new();
    let deserializer = serde_yaml_ng::Deserializer::from_slice(bytes);
    let value = Seed(&mut duplicates)
        .deserialize(deserializer)
        .map_err(|error| format!("error converting YAML to JSON: {error}"))?;
    Ok(Decoded { value, duplicates })
}

struct Seed<'a>(&'a mut Vec<String>);

impl<'de> DeserializeSeed<'de> for Seed<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Seed<'_> {
    type Value = Value;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_none<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(number(value))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> Result<Value, A::Error> {
        let mut items = Vec::new();
        loop {
            let before = self.0.len();
            let Some(item) = access.next_element_seed(Seed(&mut *self.0))? else {
                break;
            };
            for path in &mut self.0[before..] {
                let separator = if path.starts_with('[') { "" } else { "." };
                *path = format!("[{}]{separator}{path}", items.len());
            }
            items.push(item);
        }
        Ok(Value::Array(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Value, A::Error> {
        let mut map = Map::new();
        while let Some(key) = access.next_key_seed(Key)? {
            let before = self.0.len();
            let value = access.next_value_seed(Seed(&mut *self.0))?;
            for path in &mut self.0[before..] {
                let separator = if path.starts_with('[') { "" } else { "." };
                *path = format!("{key}{separator}{path}");
            }
            if map.contains_key(&key) {
                self.0.push(key.clone());
            }
            map.insert(key, value);
        }
        Ok(Value::Object(map))
    }
}

/// Whole floating-point numbers come back as integers, as through Go's decoder (K-183).
fn number(value: f64) -> Value {
    if value.fract() == 0.0 && value.abs() < 9e15 {
        return Value::from(value as i64);
    }
    Number::from_f64(value).map_or(Value::Null, Value::Number)
}

/// Keys are strings; YAML's other scalars are taken as they are written.
struct Key;

impl<'de> DeserializeSeed<'de> for Key {
    type Value = String;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<String, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl Visitor<'_> for Key {
    type Value = String;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a key")
    }

    fn visit_str<E>(self, value: &str) -> Result<String, E> {
        Ok(value.to_owned())
    }

    fn visit_string<E>(self, value: String) -> Result<String, E> {
        Ok(value)
    }

    fn visit_bool<E>(self, value: bool) -> Result<String, E> {
        Ok(value.to_string())
    }

    fn visit_i64<E>(self, value: i64) -> Result<String, E> {
        Ok(value.to_string())
    }

    fn visit_u64<E>(self, value: u64) -> Result<String, E> {
        Ok(value.to_string())
    }

    fn visit_f64<E>(self, value: f64) -> Result<String, E> {
        Ok(value.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn duplicate_fields_are_named_by_path_and_the_last_one_counts() {
        // K-076
        let decoded = json(br#"{"spec":{"a":1,"list":[{"x":1,"x":2}],"a":3}}"#).unwrap();
        assert_eq!(decoded.duplicates, ["spec.list[0].x", "spec.a"]);
        assert_eq!(decoded.value["spec"]["a"], 3);
    }

    #[test]
    fn whole_floats_become_integers_and_big_integers_stay_exact() {
        // K-183
        let decoded = json(br#"[1.0, 1.50, 1e3, 9223372036854775807]"#).unwrap();
        assert_eq!(
            decoded.value.to_string(),
            "[1,1.5,1000,9223372036854775807]"
        );
    }
}
