//! A result's text as Tekton types it: the first byte decides what is tried.

use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::vec::Vec;

use crate::json_value::Value;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum ParamValue {
    String(String),
    Array(Vec<String>),
    Object(BTreeMap<String, String>),
}

impl ParamValue {
    pub(crate) fn parse(bytes: &[u8]) -> ParamValue {
        let whole = Value::parse(bytes);
        let typed = match (bytes.first(), &whole) {
            (Some(b'['), Ok(value)) => value.clone().into_texts().map(ParamValue::Array),
            (Some(b'{'), Ok(value)) => texts_by_key(value.clone()).map(ParamValue::Object),
            _ => Err(String::new()),
        };
        typed.unwrap_or_else(|_| {
            let text = whole.and_then(Value::into_text);
            ParamValue::String(text.unwrap_or_else(|_| String::from_utf8_lossy(bytes).into_owned()))
        })
    }
}

fn texts_by_key(value: Value) -> Result<BTreeMap<String, String>, String> {
    let members = value.into_members()?.into_iter();
    members
        .map(|(key, value)| Ok((key, value.into_text()?)))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::ParamValue;
    use alloc::vec;

    #[test]
    fn the_first_byte_decides_the_type() {
        // T-012
        let string = |text: &str| ParamValue::String(text.into());
        let cases = [
            ("", string("")),
            ("plain\n", string("plain\n")),
            ("\"quoted\"", string("quoted")),
            ("[1]", string("[1]")),
            (
                "[\"a\",\"b\"]",
                ParamValue::Array(vec!["a".into(), "b".into()]),
            ),
            (" [\"a\"]", string(" [\"a\"]")),
            (
                "{\"a\":\"b\"}",
                ParamValue::Object([("a".into(), "b".into())].into()),
            ),
            ("{\"a\":1}", string("{\"a\":1}")),
            ("null", string("")),
        ];
        for (text, expected) in cases {
            assert_eq!(ParamValue::parse(text.as_bytes()), expected, "{text}");
        }
    }
}
