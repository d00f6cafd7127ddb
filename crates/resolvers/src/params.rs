//! The params of a request as resolvers read them: strings (P-320).

use std::collections::BTreeMap;

use tektite_api::v1::{Param, ParamValue};

/// Params by name; arrays and objects read as the empty string.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Params(BTreeMap<String, String>);

impl Params {
    pub(crate) fn read(params: &[Param]) -> Self {
        let text = |value: &ParamValue| match value {
            ParamValue::String(text) => text.clone(),
            _ => String::new(),
        };
        Self(
            params
                .iter()
                .map(|param| (param.name.clone(), text(&param.value)))
                .collect(),
        )
    }

    /// The value, if the param is given at all.
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }

    /// The value, if there is something in it.
    pub(crate) fn filled(&self, name: &str) -> Option<&str> {
        self.get(name).filter(|value| !value.is_empty())
    }
}

#[cfg(test)]
impl<const N: usize> From<[(&str, &str); N]> for Params {
    fn from(params: [(&str, &str); N]) -> Self {
        Self(
            params
                .iter()
                .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
                .collect(),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// P-320
    #[test]
    fn lists_and_objects_read_as_nothing() {
        let given: Vec<Param> = serde_json::from_str(
            r#"[{"name": "s", "value": "x"}, {"name": "l", "value": ["x"]}, {"name": "o", "value": {"k": "x"}}]"#,
        )
        .expect("params");
        let params = Params::read(&given);
        assert_eq!(params.get("s"), Some("x"));
        for name in ["l", "o"] {
            assert_eq!((params.get(name), params.filled(name)), (Some(""), None));
        }
        assert_eq!(params.get("none"), None);
    }
}
