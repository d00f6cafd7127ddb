//! Substitution of params and variables in any text.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tektite_api::v1::{Param, ParamValue};
use tektite_engine::references::{self, ResultRef};
use tektite_engine::substitution::{Replacements, array_references, expressions};

fuzz_target!(|data: &[u8]| {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    let (name, text) = text.split_once('\n').unwrap_or(("a", text));
    let (value, text) = text.split_once('\n').unwrap_or(("$(params.a)", text));
    let values = [
        (name.to_owned(), ParamValue::String(value.to_owned())),
        (
            "list".into(),
            ParamValue::Array(vec![value.to_owned(), String::new()]),
        ),
        (
            "map".into(),
            ParamValue::Object([(name.to_owned(), value.to_owned())].into()),
        ),
    ];
    let replacements =
        Replacements::of_values(values.iter().map(|(name, value)| (name.as_str(), value)));
    let replaced = replacements.text(text);
    if !text.contains("$(") {
        assert_eq!(replaced, text, "there is nothing to replace");
    }
    let mut list = vec![text.to_owned(), "$(params.list[*])".to_owned()];
    replacements.apply_list(&mut list);
    let mut given = [Param::new(name, text)];
    replacements.apply_params(&mut given);
    for expression in expressions(text).chain(array_references(text)) {
        let _ = ResultRef::parse(expression);
        let _ = references::looks_like_result(expression);
    }
    let _ = references::split_index(text);
    for variable in references::variables(text) {
        let _ = ResultRef::parse(variable);
    }
});
