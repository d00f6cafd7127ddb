//! JSON as Go writes it: keys in order, whole floats without a fraction.

use serde_json::Value;

/// `value` as compact JSON with sorted keys, the form in which Kubernetes hands objects to webhooks.
pub(crate) fn go_json(value: &Value) -> String {
    let mut out = String::new();
    write(value, &mut out);
    out
}

fn write(value: &Value, out: &mut String) {
    match value {
        Value::Array(items) => {
            out.push('[');
            for (i, item) in items.iter().enumerate() {
                if i > 0 {
                    out.push(',');
                }
                write(item, out);
            }
            out.push(']');
        }
        Value::Object(pairs) => {
            let mut keys: Vec<_> = pairs.iter().collect();
            keys.sort_by_key(|(k, _)| k.as_str());
            out.push('{');
            for (i, (key, item)) in keys.into_iter().enumerate() {
                if i > 0 {
                    out.push(',');
                }
                out.push_str(&Value::from(key.as_str()).to_string());
                out.push(':');
                write(item, out);
            }
            out.push('}');
        }
        Value::Number(number) => out.push_str(&go_number(number)),
        other => out.push_str(&other.to_string()),
    }
}

/// A number in Go's form: `1.0` is `1`, `1e21` keeps its exponent.
pub(crate) fn go_number(number: &serde_json::Number) -> String {
    if let (false, Some(float)) = (number.is_i64() || number.is_u64(), number.as_f64()) {
        if float.fract() == 0.0 && float.abs() < 1e21 {
            return format!("{float:.0}");
        }
        if float.abs() < 1e-6 || float.abs() >= 1e21 {
            let text = format!("{float:e}");
            return match text.split_once('e') {
                Some((mantissa, exponent)) if exponent.starts_with('-') => {
                    format!("{mantissa}e{exponent}")
                }
                Some((mantissa, exponent)) => format!("{mantissa}e+{exponent}"),
                None => text,
            };
        }
        return format!("{float}");
    }
    number.to_string()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// T-012: what is kept as text looks as Kubernetes wrote it.
    #[test]
    fn json_is_written_with_sorted_keys_and_gos_numbers() {
        let value = json!({"b": [1, 1.0, 2.5, 1e21, 1e-7, true, null], "a": "x"});
        assert_eq!(
            go_json(&value),
            r#"{"a":"x","b":[1,1,2.5,1e+21,1e-7,true,null]}"#
        );
    }
}
