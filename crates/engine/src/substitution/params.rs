//! What references to params stand for: values of the run over defaults of the task.

use std::sync::LazyLock;

use regex::Regex;
use tektite_api::v1::{Param, ParamSpec, ParamValue};

use super::Replacements;

/// The spellings of a reference to param `name` (T-174); the last is a leftover of v1beta1.
pub(crate) fn spellings(name: &str) -> [String; 4] {
    [
        format!("params.{name}"),
        format!("params[\"{name}\"]"),
        format!("params['{name}']"),
        format!("inputs.params.{name}"),
    ]
}

static PARAM_EXPRESSION: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(r#"\$\(params(?:\..*?(?:\[\*\])?|\[".*?(?:\[\*\])?"\]|\['.*?(?:\[\*\])?'\])\)"#)
        .expect("a constant pattern")
});

static ARRAY_INDEX: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(r#"\$\(params(\.[_a-zA-Z0-9.-]+|\['[_a-zA-Z0-9./-]+'\]|\["[_a-zA-Z0-9./-]+"\])\[[0-9]+\]\)"#)
        .expect("a constant pattern")
});

/// Every `$(params…)` in `text`, as written.
pub fn expressions(text: &str) -> impl Iterator<Item = &str> {
    PARAM_EXPRESSION.find_iter(text).map(|m| m.as_str())
}

/// Every `$(params.x[i])` in `text`, as written.
pub fn array_references(text: &str) -> impl Iterator<Item = &str> {
    ARRAY_INDEX.find_iter(text).map(|m| m.as_str())
}

impl Replacements {
    /// What a run's params and a task's declarations make of references: run values win, objects merge by key (T-177).
    pub fn of_params(declared: &[ParamSpec], given: &[Param]) -> Self {
        let mut all = Self::of_defaults(declared);
        let given = Self::of_values(given.iter().map(|p| (p.name.as_str(), &p.value)));
        all.strings.extend(given.strings);
        all.arrays.extend(given.arrays);
        for (key, pairs) in given.objects {
            all.objects.entry(key).or_default().extend(pairs);
        }
        all
    }

    /// What plain values make of references.
    pub fn of_values<'a>(values: impl IntoIterator<Item = (&'a str, &'a ParamValue)>) -> Self {
        let mut all = Self::default();
        for (name, value) in values {
            all.add(name, value);
        }
        all
    }

    fn add(&mut self, name: &str, value: &ParamValue) {
        for key in spellings(name) {
            match value {
                ParamValue::String(text) => {
                    self.strings.insert(key, text.clone());
                }
                ParamValue::Array(items) => {
                    self.strings.extend(
                        items
                            .iter()
                            .enumerate()
                            .map(|(i, item)| (format!("{key}[{i}]"), item.clone())),
                    );
                    self.arrays.insert(key, items.clone());
                }
                ParamValue::Object(pairs) => {
                    self.objects.insert(key, pairs.clone());
                }
            }
        }
        if let ParamValue::Object(pairs) = value {
            self.strings.extend(
                pairs
                    .iter()
                    .map(|(k, v)| (format!("params.{name}.{k}"), v.clone())),
            );
        }
    }

    /// Defaults; one that refers to other params sees only defaults before it (T-178).
    pub fn of_defaults(declared: &[ParamSpec]) -> Self {
        let refers = |value: &ParamValue| {
            value
                .as_str()
                .is_some_and(|text| text.contains("$(params."))
        };
        let defaults = || {
            declared
                .iter()
                .filter_map(|p| Some((p.name.as_str(), p.default.as_ref()?)))
        };
        let mut all = Self::of_values(defaults().filter(|(_, value)| !refers(value)));
        for (name, value) in defaults() {
            let Some(text) = value.as_str().filter(|_| refers(value)) else {
                continue;
            };
            for expression in expressions(text) {
                let referred = expression
                    .trim_start_matches("$(params.")
                    .trim_end_matches(')');
                let known = spellings(referred)
                    .into_iter()
                    .find_map(|key| all.strings.get(&key).cloned());
                if let Some(known) = known {
                    // Each reference starts from the declared text again, so only the last one is filled in.
                    all.add(name, &ParamValue::String(text.replace(expression, &known)));
                }
            }
        }
        all
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn spec(name: &str, default: impl Into<ParamValue>) -> ParamSpec {
        ParamSpec {
            name: name.into(),
            default: Some(default.into()),
            ..ParamSpec::default()
        }
    }

    fn object(pairs: &[(&str, &str)]) -> ParamValue {
        ParamValue::Object(
            pairs
                .iter()
                .map(|(k, v)| ((*k).into(), (*v).into()))
                .collect(),
        )
    }

    #[test]
    fn every_spelling_of_a_param_is_known() {
        // T-174
        let r = Replacements::of_params(
            &[],
            &[
                Param::new("a.b", "1"),
                Param::new("l", vec!["x".to_owned(), "y".to_owned()]),
                Param::new("o", object(&[("k", "v")])),
            ],
        );
        for (text, expected) in [
            (r#"$(params["a.b"])"#, "1"),
            ("$(params['a.b'])", "1"),
            ("$(inputs.params.a.b)", "1"),
            ("$(params.l[1])", "y"),
            ("$(params['l'][0])", "x"),
            ("$(params.o.k)", "v"),
            ("$(params['o'].k)", "$(params['o'].k)"),
        ] {
            assert_eq!(r.text(text), expected, "{text}");
        }
    }

    #[test]
    fn run_values_override_defaults_and_objects_merge_by_key() {
        // T-177
        let declared = [
            spec("s", "default"),
            spec("o", object(&[("a", "1"), ("b", "2")])),
            spec("only", "kept"),
        ];
        let given = [
            Param::new("s", "run"),
            Param::new("o", object(&[("b", "3")])),
        ];
        let r = Replacements::of_params(&declared, &given);
        assert_eq!(
            r.text("$(params.s) $(params.o.a) $(params.o.b) $(params.only)"),
            "run 1 3 kept"
        );
        assert_eq!(
            r.objects["params.o"],
            BTreeMap::from([("a".into(), "1".into()), ("b".into(), "3".into())])
        );
    }

    #[test]
    fn a_default_that_refers_to_params_sees_only_earlier_defaults() {
        // T-178
        let no_default = ParamSpec {
            name: "bare".into(),
            ..ParamSpec::default()
        };
        let declared = [
            spec("base", "B"),
            spec("one", "$(params.base)/1"),
            spec("two", "$(params.one)/2"),
            spec("early", "$(params.late)"),
            spec("late", "$(params.base)"),
            spec("both", "$(params.base)+$(params.one)"),
            no_default,
            spec("lost", "$(params.bare)"),
        ];
        let r = Replacements::of_params(
            &declared,
            &[Param::new("base", "run"), Param::new("bare", "run")],
        );
        assert_eq!(r.text("$(params.one) $(params.two)"), "B/1 B/1/2");
        assert_eq!(
            r.text("$(params.early) $(params.late)"),
            "$(params.early) B"
        );
        assert_eq!(r.text("$(params.both)"), "$(params.base)+B/1");
        assert_eq!(r.text("$(params.lost)"), "$(params.lost)");
    }

    #[test]
    fn array_references_are_found_in_every_spelling() {
        let found: Vec<_> = array_references(
            r#"$(params.a[0]) $(params['a'][12]) $(params["a"][1]) $(params.a[*])"#,
        )
        .collect();
        assert_eq!(
            found,
            [
                "$(params.a[0])",
                "$(params['a'][12])",
                r#"$(params["a"][1])"#
            ]
        );
    }
}
