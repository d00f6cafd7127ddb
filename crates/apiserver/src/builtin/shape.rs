//! The form of a built-in kind: which fields it has, of which type, and how its lists merge.

/// The type of a value.
#[derive(Clone, Copy, Debug)]
pub enum Shape {
    Any,
    String,
    /// Base64 text.
    Bytes,
    Int32,
    Int64,
    Number,
    Bool,
    /// RFC 3339 with second precision.
    Time,
    /// RFC 3339 with six decimals.
    MicroTime,
    Quantity,
    IntOrString,
    Object(&'static Object),
    Map(&'static MapOf),
    List(&'static List),
}

/// A map with free keys.
#[derive(Debug)]
pub struct MapOf {
    pub values: Shape,
    /// Server-side apply treats it as one value.
    pub atomic: bool,
}

/// A list.
#[derive(Debug)]
pub struct List {
    pub items: Shape,
    pub apply: ListType,
    pub patch: Merge,
}

/// How server-side apply merges a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ListType {
    Atomic,
    Set,
    Map(&'static [&'static str]),
}

/// How a strategic merge patch merges a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Merge {
    Replace,
    Set,
    Key(&'static str),
}

/// A structure with known fields, sorted by name.
#[derive(Debug)]
pub struct Object {
    /// The OpenAPI definition's name.
    pub name: &'static str,
    pub atomic: bool,
    pub fields: &'static [Field],
}

/// One field of an [`Object`].
#[derive(Debug)]
pub struct Field {
    pub name: &'static str,
    pub shape: Shape,
    pub required: bool,
}

impl Object {
    /// The field of this name.
    pub fn field(&self, name: &str) -> Option<&'static Field> {
        let fields = self.fields;
        fields
            .binary_search_by(|field| field.name.cmp(name))
            .ok()
            .map(|index| &fields[index])
    }
}

/// The definition with this full name, such as `io.k8s.api.core.v1.Pod`.
pub fn definition(name: &str) -> Option<&'static Object> {
    super::shapes::OBJECTS
        .binary_search_by(|object| object.name.cmp(name))
        .ok()
        .map(|index| &super::shapes::OBJECTS[index])
}
