//! Declared params: types, names, defaults and enums (T-050 to T-058).

use std::collections::BTreeMap;

use super::{scope::Scope, variable::Names};
use crate::{
    admission::{FieldError, FieldErrors},
    v1::{Param, ParamSpec, ParamType, ParamValue, PropertySpec},
};

pub(super) fn type_of(type_: &Option<ParamType>) -> &str {
    type_.as_ref().map_or("", ParamType::as_str)
}

/// Names of params by how they may be used.
pub(super) struct Sorted<'a> {
    pub strings: Names,
    pub arrays: Names,
    pub objects: Vec<&'a ParamSpec>,
}

pub(super) fn sorted(params: &[ParamSpec]) -> Sorted<'_> {
    let mut sorted = Sorted {
        strings: Names::new(),
        arrays: Names::new(),
        objects: Vec::new(),
    };
    for param in params {
        match &param.type_ {
            Some(ParamType::Array) => drop(sorted.arrays.insert(param.name.clone())),
            Some(ParamType::Object) => sorted.objects.push(param),
            _ => drop(sorted.strings.insert(param.name.clone())),
        }
    }
    sorted
}

pub(super) fn names(params: &[ParamSpec]) -> Names {
    params.iter().map(|p| p.name.clone()).collect()
}

/// T-050 to T-052
pub(super) fn types(params: &[ParamSpec]) -> FieldErrors {
    let mut errors = FieldErrors::new();
    for param in params {
        errors.add(type_error(param));
    }
    errors
}

fn type_error(param: &ParamSpec) -> Option<FieldError> {
    let (name, type_) = (&param.name, type_of(&param.type_));
    if !matches!(
        param.type_,
        Some(ParamType::String | ParamType::Array | ParamType::Object)
    ) {
        return Some(FieldError::invalid_value(type_, &format!("{name}.type")));
    }
    if let Some(default) = &param.default
        && Some(default.type_()) != param.type_
    {
        let message = format!(
            "\"{type_}\" type does not match default value's type: \"{}\"",
            default.type_()
        );
        let paths = [format!("{name}.type"), format!("{name}.default.type")];
        return Some(FieldError::generic(
            message,
            paths.iter().map(String::as_str),
        ));
    }
    let keys = invalid_properties(&param.properties)?;
    let message = format!("The value type specified for these keys {keys} is invalid");
    Some(FieldError::generic(
        message,
        [format!("{name}.properties").as_str()],
    ))
}

/// Keys whose type is not string, as Go prints a list.
pub(super) fn invalid_properties(properties: &BTreeMap<String, PropertySpec>) -> Option<String> {
    let invalid = |(_, spec): &(&String, &PropertySpec)| spec.type_ != Some(ParamType::String);
    let keys: Vec<_> = properties
        .iter()
        .filter(invalid)
        .map(|(key, _)| key.as_str())
        .collect();
    (!keys.is_empty()).then(|| format!("[{}]", keys.join(" ")))
}

/// Object params must name their keys.
pub(super) fn objects_have_properties(params: &[ParamSpec]) -> FieldErrors {
    let mut errors = FieldErrors::new();
    for param in params
        .iter()
        .filter(|p| p.type_ == Some(ParamType::Object) && p.properties.is_empty())
    {
        errors.add(FieldError::missing(&format!("{}.properties", param.name)));
    }
    errors
}

fn duplicates<'a>(names: impl Iterator<Item = &'a str>) -> Names {
    let (mut seen, mut repeated) = (Names::new(), Names::new());
    for name in names {
        if !seen.insert(name.to_owned()) {
            repeated.insert(name.to_owned());
        }
    }
    repeated
}

/// T-054
pub(super) fn declared_once(params: &[ParamSpec]) -> FieldErrors {
    let mut errors = FieldErrors::new();
    for name in duplicates(params.iter().map(|p| p.name.as_str())) {
        let error = FieldErrors::from(FieldError::generic(
            "parameter appears more than once",
            [""],
        ));
        errors.add(error.via_field_key("params", &name));
    }
    errors
}

/// T-058
pub(super) fn enums(params: &[ParamSpec], scope: Scope<'_>) -> FieldErrors {
    let mut errors = FieldErrors::new();
    for param in params.iter().filter(|p| !p.enum_.is_empty()) {
        let mut say = |message: String| {
            errors.add(FieldErrors::from(FieldError::generic(message, [""])).via_key(&param.name));
        };
        if !scope.config.feature_flags.enable_param_enum {
            say("feature flag `enable-param-enum` should be set to true to use Enum".to_owned());
        }
        if param.type_ != Some(ParamType::String) {
            say("enum can only be set with string type param".to_owned());
        }
        for value in duplicates(param.enum_.iter().map(String::as_str)) {
            say(format!(
                "parameter enum value {value} appears more than once"
            ));
        }
        if let Some(ParamValue::String(default)) = &param.default
            && !default.is_empty()
            && !param.enum_.contains(default)
        {
            say(format!(
                "param default value {default} not in the enum list"
            ));
        }
    }
    errors
}

fn is_name(text: &str, dots: bool) -> bool {
    let first = |b: u8| b.is_ascii_alphabetic() || b == b'_';
    let inner = |b: u8| b.is_ascii_alphanumeric() || b == b'_' || b == b'-' || (dots && b == b'.');
    text.bytes().next().is_some_and(first) && text.bytes().all(inner)
}

/// T-053
pub(super) fn name_format(sorted: &Sorted<'_>) -> FieldErrors {
    let mut errors = FieldErrors::new();
    let flat: Names = sorted.strings.union(&sorted.arrays).cloned().collect();
    let invalid: Vec<_> = flat
        .iter()
        .filter(|n| !is_name(n, true))
        .map(String::as_str)
        .collect();
    if !invalid.is_empty() {
        let message = format!(
            "The format of following array and string variable names is invalid: [{}]",
            invalid.join(" ")
        );
        errors.add(FieldError::generic(message, ["params"]).details(
            "String/Array Names: \nMust only contain alphanumeric characters, hyphens (-), underscores (_), and dots \
             (.)\nMust begin with a letter or an underscore (_)",
        ));
    }
    let mut invalid: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for object in &sorted.objects {
        let keys: Vec<_> = object
            .properties
            .keys()
            .filter(|k| !is_name(k, false))
            .map(String::as_str)
            .collect();
        if !is_name(&object.name, false) || !keys.is_empty() {
            invalid.insert(&object.name, keys);
        }
    }
    if !invalid.is_empty() {
        let shown: Vec<_> = invalid
            .iter()
            .map(|(name, keys)| format!("{name}:[{}]", keys.join(" ")))
            .collect();
        let message = format!(
            "Object param name and key name format is invalid: map[{}]",
            shown.join(" ")
        );
        errors.add(FieldError::generic(message, ["params"]).details(
            "Object Names: \nMust only contain alphanumeric characters, hyphens (-), underscores (_) \nMust begin with \
             a letter or an underscore (_)",
        ));
    }
    errors
}

/// Names of passed params must differ, also in more than case (T-065).
pub(super) fn passed_once(params: &[Param]) -> FieldErrors {
    distinct(params.iter().map(|p| p.name.as_str()), false)
}

/// The finding of every name that has been there before, ignoring case.
pub(super) fn distinct<'a>(names: impl Iterator<Item = &'a str>, by_index: bool) -> FieldErrors {
    let (mut seen, mut errors) = (Names::new(), FieldErrors::new());
    for (index, name) in names.enumerate() {
        if !seen.insert(name.to_lowercase()) {
            let error = FieldErrors::from(FieldError::multiple_one_of(&["name"]));
            errors.add(if by_index {
                error.via_index(index)
            } else {
                error.via_key(name)
            });
        }
    }
    errors
}

/// Params that a run supplies, taken with those its inline spec declares (T-066, T-067).
#[derive(Default)]
pub(super) struct Supplied(BTreeMap<String, ParamSpec>);

impl Supplied {
    pub(super) fn by(params: &[Param]) -> Self {
        let mut supplied = Supplied::default();
        for param in params {
            supplied.supply(param);
        }
        supplied
    }

    fn supply(&mut self, param: &Param) {
        let string = PropertySpec {
            type_: Some(ParamType::String),
        };
        let keys = param.value.as_object().into_iter().flat_map(BTreeMap::keys);
        let spec = ParamSpec {
            name: param.name.clone(),
            type_: Some(param.value.type_()),
            properties: keys.map(|key| (key.clone(), string.clone())).collect(),
            default: Some(param.value.clone()),
            ..ParamSpec::default()
        };
        self.0.insert(param.name.clone(), spec);
    }

    /// Adds a declared param; what the run supplies keeps its type, but takes over the declared keys.
    pub(super) fn declare(&mut self, declared: &ParamSpec) -> Option<FieldError> {
        let Some(supplied) = self.0.get_mut(&declared.name) else {
            self.0.insert(declared.name.clone(), declared.clone());
            return None;
        };
        let object_default = matches!(declared.default, Some(ParamValue::Object(_)));
        let object = supplied.type_ == Some(ParamType::Object);
        if (object_default || object) && declared.properties.is_empty() {
            return Some(FieldError::missing(&format!(
                "{}.properties",
                declared.name
            )));
        }
        if object {
            supplied.properties.clone_from(&declared.properties);
        }
        None
    }

    /// Adds what a pipeline task passes on. An object passed on under the name of what is none is an error; upstream's
    /// webhook panics there.
    pub(super) fn pass_on(&mut self, params: &[Param]) -> FieldErrors {
        let mut errors = FieldErrors::new();
        for param in params {
            match (self.0.get_mut(&param.name), &param.value) {
                (Some(known), ParamValue::Object(pairs)) if !pairs.is_empty() => {
                    if !matches!(known.default, Some(ParamValue::Object(_)))
                        || known.properties.is_empty()
                    {
                        let name = &param.name;
                        let message =
                            format!("param {name:?} is passed on as an object, but is not one");
                        errors.add(FieldError::invalid_value(
                            message,
                            &format!("params[{name}].value"),
                        ));
                        continue;
                    }
                    let string = PropertySpec {
                        type_: Some(ParamType::String),
                    };
                    known
                        .properties
                        .extend(pairs.keys().map(|key| (key.clone(), string.clone())));
                }
                (Some(_), _) => {}
                (None, _) => self.supply(param),
            }
        }
        errors
    }

    pub(super) fn specs(&self) -> Vec<ParamSpec> {
        self.0.values().cloned().collect()
    }
}
