//! `$(…)` references: what they stand for and how text, lists and values are rewritten.
//!
//! One [`Replacements`] is one stage (T-179). Within a stage text is scanned once from left to right, and what was put
//! in is not scanned again (T-175); references nobody knows stay as they are.

mod context;
mod fields;
mod params;
mod pod_template;

use std::collections::BTreeMap;

use tektite_api::v1::{Param, ParamValue, WhenExpression};

pub use context::{artifact_paths, context, exit_code_paths, result_paths};
pub(crate) use params::spellings;
pub use params::{array_references, expressions};

/// What references stand for in one stage. Keys are what stands between `$(` and `)`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Replacements {
    /// References that stand for text.
    pub strings: BTreeMap<String, String>,
    /// References that stand for a list (without `[*]`).
    pub arrays: BTreeMap<String, Vec<String>>,
    /// References that stand for a whole object.
    pub objects: BTreeMap<String, BTreeMap<String, String>>,
}

impl Replacements {
    /// A stage of text references only.
    pub fn of_strings<K: Into<String>, V: Into<String>>(
        strings: impl IntoIterator<Item = (K, V)>,
    ) -> Self {
        Self {
            strings: strings
                .into_iter()
                .map(|(k, v)| (k.into(), v.into()))
                .collect(),
            ..Self::default()
        }
    }

    /// Whether nothing would be replaced.
    pub fn is_empty(&self) -> bool {
        self.strings.is_empty() && self.arrays.is_empty() && self.objects.is_empty()
    }

    /// Replaces every known reference in `text`.
    pub fn text(&self, text: &str) -> String {
        let mut out = String::with_capacity(text.len());
        let mut rest = text;
        while let Some(start) = rest.find("$(") {
            let (before, from) = rest.split_at(start);
            out.push_str(before);
            let key = from[2..].find(')').map(|end| &from[2..2 + end]);
            if let Some((key, value)) = key.and_then(|k| Some((k, self.strings.get(k)?))) {
                out.push_str(value);
                rest = &from[key.len() + 3..];
            } else {
                out.push_str("$(");
                rest = &from[2..];
            }
        }
        out.push_str(rest);
        out
    }

    /// Replaces in place.
    pub fn apply(&self, text: &mut String) {
        if text.contains("$(") {
            *text = self.text(text);
        }
    }

    /// Replaces in place where there may be no text.
    pub fn apply_opt(&self, text: &mut Option<String>) {
        if let Some(text) = text {
            self.apply(text);
        }
    }

    /// The list that `text` as a whole stands for, as `$(x)` or `$(x[*])`.
    fn list(&self, text: &str) -> Option<&Vec<String>> {
        let key = text.strip_prefix("$(")?.strip_suffix(')')?;
        self.arrays
            .get(key)
            .or_else(|| self.arrays.get(key.strip_suffix("[*]")?))
    }

    /// Replaces in every element; one that is exactly an array reference becomes that many elements (T-176).
    pub fn apply_list(&self, items: &mut Vec<String>) {
        if items.iter().any(|item| item.contains("$(")) {
            *items = items
                .iter()
                .flat_map(|item| {
                    self.list(item)
                        .cloned()
                        .unwrap_or_else(|| vec![self.text(item)])
                })
                .collect();
        }
    }

    /// Replaces in a value; text that is exactly a reference to an array or an object takes that type.
    pub fn apply_value(&self, value: &mut ParamValue) {
        match value {
            ParamValue::Array(items) => self.apply_list(items),
            ParamValue::Object(pairs) => pairs.values_mut().for_each(|text| self.apply(text)),
            ParamValue::String(text) => {
                if let Some(replaced) = exact_reference(text).and_then(|key| self.whole(key)) {
                    *value = replaced;
                } else {
                    self.apply(text);
                }
            }
        }
    }

    /// The array or object that `key` stands for as a whole.
    fn whole(&self, key: &str) -> Option<ParamValue> {
        if let Some(pairs) = self.objects.get(key) {
            return Some(ParamValue::Object(pairs.clone()));
        }
        self.arrays.get(key).cloned().map(ParamValue::Array)
    }

    /// Replaces in the values of params.
    pub fn apply_params(&self, params: &mut [Param]) {
        params
            .iter_mut()
            .for_each(|p| self.apply_value(&mut p.value));
    }

    /// Replaces in `when` expressions; an array reference in `values` expands, in `input` it becomes JSON (T-190). Both
    /// must be written with `[*]`.
    pub fn apply_when(&self, when: &mut [WhenExpression]) {
        for expression in when {
            match self.starred(&expression.input) {
                Some(items) => {
                    expression.input = serde_json::Value::from(items.clone()).to_string()
                }
                None => self.apply(&mut expression.input),
            }
            self.apply(&mut expression.cel);
            if !expression.values.iter().any(|value| value.contains("$(")) {
                continue;
            }
            let values = std::mem::take(&mut expression.values).into_iter();
            let replaced = values.flat_map(|v| {
                self.starred(&v)
                    .cloned()
                    .unwrap_or_else(|| vec![self.text(&v)])
            });
            expression.values = replaced.collect();
        }
    }

    /// The list that `text` as a whole stands for, as `$(x[*])`.
    fn starred(&self, text: &str) -> Option<&Vec<String>> {
        self.list(text).filter(|_| text.ends_with("[*])"))
    }
}

/// What a text that is nothing but one reference refers to, without `[*]`.
fn exact_reference(text: &str) -> Option<&str> {
    let inner = text.strip_prefix("$(")?.strip_suffix(')')?;
    let name = inner.strip_suffix("[*]").unwrap_or(inner);
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-');
    (!name.is_empty() && name.chars().all(plain)).then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn replacements() -> Replacements {
        let mut r = Replacements::of_strings([
            ("params.a", "A"),
            ("params.b", "$(params.a)"),
            ("params.list[0]", "x"),
        ]);
        r.arrays
            .insert("params.list".into(), vec!["x".into(), "y".into()]);
        r.arrays.insert("params.none".into(), vec![]);
        r.objects.insert(
            "params.o".into(),
            BTreeMap::from([("k".into(), "v".into())]),
        );
        r
    }

    #[test]
    fn text_is_replaced_in_one_pass_and_unknown_references_stay() {
        // T-174, T-175
        for (text, expected) in [
            ("", ""),
            ("plain $( $ ( )", "plain $( $ ( )"),
            ("$(params.a)", "A"),
            ("<$(params.a)$(params.a)>", "<AA>"),
            ("$(params.b)", "$(params.a)"),
            ("$(params.unknown) $(params.a)", "$(params.unknown) A"),
            ("$(x$(params.a))", "$(xA)"),
            ("$($(params.a)", "$(A"),
            ("$(params.list[0])$(params.list[1])", "x$(params.list[1])"),
            ("$(params.list[*])", "$(params.list[*])"),
            ("ü$(params.a)ü", "üAü"),
        ] {
            assert_eq!(replacements().text(text), expected, "{text}");
        }
    }

    #[test]
    fn an_element_that_is_exactly_an_array_reference_expands() {
        // T-176
        for (items, expected) in [
            (
                vec!["-n", "$(params.list[*])", "z"],
                vec!["-n", "x", "y", "z"],
            ),
            (vec!["$(params.list)"], vec!["x", "y"]),
            (vec!["a", "$(params.none[*])"], vec!["a"]),
            (vec!["a$(params.list[*])"], vec!["a$(params.list[*])"]),
            (vec!["$(params.a)"], vec!["A"]),
        ] {
            let mut items: Vec<String> = items.into_iter().map(Into::into).collect();
            replacements().apply_list(&mut items);
            assert_eq!(items, expected);
        }
    }

    #[test]
    fn a_value_takes_the_type_of_the_one_reference_it_consists_of() {
        let array =
            |items: &[&str]| ParamValue::Array(items.iter().map(|s| (*s).to_owned()).collect());
        for (value, expected) in [
            (ParamValue::from("$(params.list[*])"), array(&["x", "y"])),
            (ParamValue::from("$(params.list)"), array(&["x", "y"])),
            (ParamValue::from("$(params.list[0])"), ParamValue::from("x")),
            (
                ParamValue::from("-$(params.list[*])"),
                ParamValue::from("-$(params.list[*])"),
            ),
            (
                ParamValue::from("$(params.o[*])"),
                ParamValue::Object(BTreeMap::from([("k".into(), "v".into())])),
            ),
            (ParamValue::from("$(params.a)"), ParamValue::from("A")),
            (
                array(&["$(params.list[*])", "$(params.a)"]),
                array(&["x", "y", "A"]),
            ),
        ] {
            let mut replaced = value.clone();
            replacements().apply_value(&mut replaced);
            assert_eq!(replaced, expected, "{value:?}");
        }
    }

    #[test]
    fn arrays_expand_in_when_values_and_become_json_in_when_input() {
        // T-190
        let mut when = vec![WhenExpression {
            input: "$(params.list[*])".into(),
            operator: "in".into(),
            values: vec![
                "$(params.list[*])".into(),
                "$(params.a)".into(),
                "$(params.list)".into(),
            ],
            cel: "'$(params.a)' == 'A'".into(),
        }];
        replacements().apply_when(&mut when);
        assert_eq!(when[0].input, r#"["x","y"]"#);
        assert_eq!(when[0].values, ["x", "y", "A", "$(params.list)"]);
        assert_eq!(when[0].cel, "'A' == 'A'");
    }
}
