//! The shape of every Go type on Tekton's wire: field names, types, what is left out when empty, what the schema says.
//!
//! One table serves three readers: strict decoding with Go's error texts ([`decode`]), writing back as Go writes
//! ([`decode`] too, T-009), and the CRD schemas (`crate::crd`). The table is `shapes.txt`:
//!
//! ```text
//! package.Struct                      a struct; its fields follow, indented
//!  field type flags…                  `!` no omitempty; `zero` omitzero; `req` required in the schema;
//!                                     `open` keeps unknown fields; `schemaless` says nothing about what is below;
//!                                     `list=`, `keys=`, `mapt=`, `default=`: the schema's annotations
//!  + type GoName                      an embedded struct
//!  @flag…                             flags of the struct itself
//! package.Name = type flags…          a named type
//! ```
//! Types: `string`, `int`, `int32`, `int64`, `bool`, `time`, `duration`, `quantity`, `intstr`, `rawext`, …, `*T`
//! pointer, `[]T` list, `{}T` map from string, `{}<K>T` map from a named string.

#[cfg(test)]
pub(crate) mod arbitrary;
mod decode;
mod number;
mod quantity;
mod table;

pub(crate) use decode::{Decoded, decode, decode_exactly, decode_keeping_empty};
pub(crate) use number::{go_json, go_number};
pub(crate) use table::{Field, Shape, Struct, Type, shapes};
