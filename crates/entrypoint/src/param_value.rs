//! A result's text as Tekton types it: the first byte decides what is tried.

use std::collections::BTreeMap;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum ParamValue {
    String(String),
    Array(Vec<String>),
    Object(BTreeMap<String, String>),
}

impl ParamValue {
    pub(crate) fn parse(bytes: &[u8]) -> ParamValue {
        // Go reads null as the empty string wherever a string is due.
        type Text = Option<String>;
        let text = |text: Text| text.unwrap_or_default();
        match bytes.first() {
            Some(b'[') => {
                if let Ok(array) = serde_json::from_slice::<Vec<Text>>(bytes) {
                    return ParamValue::Array(array.into_iter().map(text).collect());
                }
            }
            Some(b'{') => {
                if let Ok(object) = serde_json::from_slice::<BTreeMap<String, Text>>(bytes) {
                    return ParamValue::Object(
                        object
                            .into_iter()
                            .map(|(key, value)| (key, text(value)))
                            .collect(),
                    );
                }
            }
            _ => {}
        }
        match serde_json::from_slice::<Text>(bytes) {
            Ok(value) => ParamValue::String(text(value)),
            Err(_) => ParamValue::String(String::from_utf8_lossy(bytes).into_owned()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::ParamValue;

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
