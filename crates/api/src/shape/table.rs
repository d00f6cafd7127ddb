//! Reads `shapes.txt` into a table, once.

use std::{collections::HashMap, sync::OnceLock};

/// Index of a shape in the table.
pub(crate) type Id = usize;

/// A Go type as far as JSON is concerned.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Type {
    String,
    /// `int`, `int32` or `int64`, by that name.
    Int(&'static str),
    Bool,
    Time,
    Duration,
    Quantity,
    IntOrString,
    /// JSON that is kept as it is.
    Raw,
    /// A param value; the name is Go's, for messages.
    Param(&'static str),
    Pointer(Box<Type>),
    List(Box<Type>),
    /// A map from text; the key's type matters only to messages.
    Map(Option<Box<Type>>, Box<Type>),
    Ref(Id),
}

#[derive(Clone, Debug)]
pub(crate) struct Field {
    /// Name in JSON; for an embedded struct its Go name.
    pub name: &'static str,
    pub type_: Type,
    pub embedded: bool,
    /// Left out when empty.
    pub omit_empty: bool,
    pub flags: Vec<&'static str>,
}

#[derive(Clone, Debug)]
pub(crate) struct Struct {
    /// `package.Name` in the table.
    pub id: &'static str,
    pub fields: Vec<Field>,
    pub flags: Vec<&'static str>,
}

#[derive(Clone, Debug)]
pub(crate) struct Named {
    pub id: &'static str,
    pub of: Type,
    pub flags: Vec<&'static str>,
}

#[derive(Clone, Debug)]
pub(crate) enum Shape {
    Struct(Struct),
    Named(Named),
}

/// A field reached by name, with the embedded structs on the way to it.
pub(crate) struct Found<'a> {
    pub field: &'a Field,
    /// Go names of the embedded structs, outermost first.
    pub through: Vec<&'static str>,
}

pub(crate) struct Shapes {
    shapes: Vec<Shape>,
    ids: HashMap<&'static str, Id>,
}

/// The table.
pub(crate) fn shapes() -> &'static Shapes {
    static TABLE: OnceLock<Shapes> = OnceLock::new();
    TABLE.get_or_init(|| Shapes::parse(include_str!("shapes.txt")))
}

impl Shapes {
    fn parse(text: &'static str) -> Shapes {
        let heads = text
            .lines()
            .filter(|l| !l.starts_with(' ') && !l.is_empty());
        let ids: HashMap<_, _> = heads
            .enumerate()
            .map(|(i, l)| (l.split(' ').next().unwrap_or_default(), i))
            .collect();
        let mut shapes: Vec<Shape> = Vec::with_capacity(ids.len());
        for line in text.lines() {
            let mut words = line.trim_start().split(' ');
            let first = words.next().unwrap_or_default();
            if !line.starts_with(' ') {
                shapes.push(match words.next() {
                    None => Shape::Struct(Struct {
                        id: first,
                        fields: vec![],
                        flags: vec![],
                    }),
                    Some(_) => Shape::Named(Named {
                        id: first,
                        of: parse_type(words.next().unwrap_or_default(), &ids),
                        flags: words.collect(),
                    }),
                });
                continue;
            }
            let Some(Shape::Struct(open)) = shapes.last_mut() else {
                continue;
            };
            if let Some(flag) = first.strip_prefix('@') {
                open.flags.push(flag);
            } else if first == "+" {
                let type_ = parse_type(words.next().unwrap_or_default(), &ids);
                let name = words.next().unwrap_or_default();
                open.fields.push(Field {
                    name,
                    type_,
                    embedded: true,
                    omit_empty: false,
                    flags: vec![],
                });
            } else {
                let type_ = parse_type(words.next().unwrap_or_default(), &ids);
                let flags: Vec<_> = words.collect();
                let omit_empty = !flags.contains(&"!");
                open.fields.push(Field {
                    name: first,
                    type_,
                    embedded: false,
                    omit_empty,
                    flags,
                });
            }
        }
        Shapes { shapes, ids }
    }

    /// The shape of this id.
    pub(crate) fn get(&self, id: Id) -> &Shape {
        &self.shapes[id]
    }

    /// The id of `package.Name`.
    pub(crate) fn id(&self, name: &str) -> Option<Id> {
        self.ids.get(name).copied()
    }

    /// What a named type stands for in the end; structs stay as they are.
    pub(crate) fn underlying<'a>(&'a self, type_: &'a Type) -> &'a Type {
        match type_ {
            Type::Ref(id) => match self.get(*id) {
                Shape::Named(named) => self.underlying(&named.of),
                Shape::Struct(_) => type_,
            },
            other => other,
        }
    }

    /// The struct that `type_` is, if it is one.
    pub(crate) fn as_struct(&self, type_: &Type) -> Option<&Struct> {
        match self.underlying(type_) {
            Type::Ref(id) => match self.get(*id) {
                Shape::Struct(found) => Some(found),
                Shape::Named(_) => None,
            },
            _ => None,
        }
    }

    /// The field that Go's decoder takes for `key`: the exact name first, else (unless `exact`)
    /// any that differs only in case.
    pub(crate) fn field<'a>(&'a self, of: &'a Struct, key: &str, exact: bool) -> Option<Found<'a>> {
        let found = self.search(of, &|name| name == key, &mut Vec::new());
        if found.is_some() || exact {
            return found;
        }
        self.search(of, &|name| name.eq_ignore_ascii_case(key), &mut Vec::new())
    }

    /// Shallow names win over embedded ones, as in Go.
    fn search<'a>(
        &'a self,
        of: &'a Struct,
        matches: &dyn Fn(&str) -> bool,
        through: &mut Vec<&'static str>,
    ) -> Option<Found<'a>> {
        if let Some(field) = of.fields.iter().find(|f| !f.embedded && matches(f.name)) {
            return Some(Found {
                field,
                through: through.clone(),
            });
        }
        for embedded in of.fields.iter().filter(|f| f.embedded) {
            through.push(embedded.name);
            let inner = self.as_struct(&embedded.type_)?;
            if let Some(found) = self.search(inner, matches, through) {
                return Some(found);
            }
            through.pop();
        }
        None
    }

    /// As Go's reflection prints it: `[]v1.Step`, `map[string]string`.
    pub(crate) fn go_name(&self, type_: &Type) -> String {
        match type_ {
            Type::String => "string".into(),
            Type::Int(name) => (*name).into(),
            Type::Bool => "bool".into(),
            Type::Time => "v1.Time".into(),
            Type::Duration => "v1.Duration".into(),
            Type::Quantity => "resource.Quantity".into(),
            Type::IntOrString => "intstr.IntOrString".into(),
            Type::Raw => "runtime.RawExtension".into(),
            Type::Param(name) => (*name).into(),
            Type::Pointer(of) => format!("*{}", self.go_name(of)),
            Type::List(of) => format!("[]{}", self.go_name(of)),
            Type::Map(key, of) => {
                let key = key.as_ref().map_or("string".into(), |k| self.go_name(k));
                format!("map[{key}]{}", self.go_name(of))
            }
            Type::Ref(id) => {
                let id = match self.get(*id) {
                    Shape::Struct(s) => s.id,
                    Shape::Named(n) => n.id,
                };
                let (package, name) = id.split_once('.').unwrap_or(("", id));
                let package = match package {
                    "core" | "meta" | "duck" => "v1",
                    "run" | "res1" => "v1beta1",
                    "res0" | "resource" => "v1alpha1",
                    other => other,
                };
                format!("{package}.{name}")
            }
        }
    }
}

fn parse_type(text: &'static str, ids: &HashMap<&'static str, Id>) -> Type {
    if let Some(of) = text.strip_prefix('*') {
        return Type::Pointer(Box::new(parse_type(of, ids)));
    }
    if let Some(of) = text.strip_prefix("[]") {
        return Type::List(Box::new(parse_type(of, ids)));
    }
    if let Some(of) = text.strip_prefix("{}") {
        if let Some((key, of)) = of.strip_prefix('<').and_then(|t| t.split_once('>')) {
            return Type::Map(
                Some(Box::new(parse_type(key, ids))),
                Box::new(parse_type(of, ids)),
            );
        }
        return Type::Map(None, Box::new(parse_type(of, ids)));
    }
    match text {
        "string" => Type::String,
        "int" | "int32" | "int64" => Type::Int(text),
        "bool" => Type::Bool,
        "time" => Type::Time,
        "duration" => Type::Duration,
        "quantity" => Type::Quantity,
        "intstr" => Type::IntOrString,
        "v1.ParamValue" | "v1beta1.ParamValue" => Type::Param(text),
        _ => ids.get(text).map_or(Type::Raw, |id| Type::Ref(*id)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_type_in_the_table_is_known() {
        for line in include_str!("shapes.txt").lines() {
            let mut words = line.trim_start().split(' ');
            let first = words.next().unwrap();
            if first.starts_with('@') || (!line.starts_with(' ') && !line.contains(" = ")) {
                continue;
            }
            let named = words.next().unwrap();
            let type_ = if named == "=" {
                words.next().unwrap()
            } else {
                named
            };
            let leaf = type_.rsplit(['*', ']', '}', '>']).next().unwrap();
            if parse_type(leaf, &shapes().ids) == Type::Raw {
                assert!(["raw", "rawext"].contains(&leaf), "{line}");
            }
        }
    }
}
