//! Objects drawn from the table of shapes, for property tests.

use serde_json::{Map, Value, json};

use super::{Field, Type, shapes};

/// Bytes that decide what is drawn; when they run out, everything is as small as it can be.
pub(crate) struct Entropy<'a>(pub std::slice::Iter<'a, u8>);

impl Entropy<'_> {
    fn below(&mut self, limit: u8) -> u8 {
        self.0.next().map_or(0, |byte| byte % limit)
    }
}

/// An object of the struct `root` that Go's decoder takes.
pub(crate) fn draw(root: &str, entropy: &mut Entropy<'_>) -> Value {
    let id = shapes()
        .id(root)
        .unwrap_or_else(|| panic!("no shape named {root}"));
    value(&Type::Ref(id), entropy, 9)
}

/// Values that Go cannot write when they are missing, and lists that it would write as `null`, which ours are never.
fn must_be_given(field: &Field) -> bool {
    matches!(field.type_, Type::Param(_))
        || !field.omit_empty
            && matches!(field.type_, Type::List(_) | Type::Ref(_) | Type::Pointer(_))
}

fn value(type_: &Type, entropy: &mut Entropy<'_>, depth: u8) -> Value {
    if let Some(of) = shapes().as_struct(type_) {
        let mut fields = Map::new();
        for field in &of.fields {
            if field.embedded {
                if let Value::Object(inner) = value(&field.type_, entropy, depth) {
                    fields.extend(inner);
                }
            } else if depth > 0 && entropy.below(3) == 1 || must_be_given(field) {
                fields.insert(
                    field.name.to_owned(),
                    value(&field.type_, entropy, depth - depth.min(1)),
                );
            }
        }
        match of.id {
            // Embedded objects need not say what they are; our types do not keep it.
            "meta.TypeMeta" => fields.clear(),
            // Bundles are refused; no type of ours holds them.
            "v1beta1.TaskRef" => drop(fields.remove("bundle")),
            // Kept as raw JSON, which any object would do for.
            "meta.ManagedFieldsEntry" => drop(fields.remove("fieldsV1")),
            _ => {}
        }
        return fields.into();
    }
    let pick = |entropy: &mut Entropy<'_>, from: &[&str]| {
        from[usize::from(entropy.below(from.len() as u8))].to_owned()
    };
    match shapes().underlying(type_) {
        Type::String => pick(entropy, &["", "a", "$(params.x)", "two\nlines \"é\""]).into(),
        Type::Int(_) => [0, 1, -1, 3600][usize::from(entropy.below(4))].into(),
        Type::Bool => (entropy.below(2) == 1).into(),
        Type::Time => pick(
            entropy,
            &["2026-01-02T03:04:05Z", "2026-01-02T03:04:05+02:00"],
        )
        .into(),
        Type::Duration => pick(entropy, &["1m", "0s", "1h30m", "-1s", "1.5s"]).into(),
        Type::Quantity => pick(entropy, &["100m", "0.5", "1Gi", "1024Mi", "0"]).into(),
        Type::IntOrString => [json!(80), json!("http")][usize::from(entropy.below(2))].clone(),
        Type::Raw => [json!({"a": [1]}), json!(null)][usize::from(entropy.below(2))].clone(),
        Type::Param(_) => [json!("v"), json!(["a", "b"]), json!({"k": "v"}), json!(7)]
            [usize::from(entropy.below(4))]
        .clone(),
        Type::Pointer(of) => value(of, entropy, depth),
        Type::List(of) => (0..entropy.below(3))
            .map(|_| value(of, entropy, depth))
            .collect(),
        Type::Map(_, of) => (0..entropy.below(3))
            .map(|i| (format!("k{i}"), value(of, entropy, depth)))
            .collect::<Map<_, _>>()
            .into(),
        Type::Ref(_) => Value::Null,
    }
}
