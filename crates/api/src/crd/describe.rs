//! Short descriptions of fields, for `kubectl explain`.

use std::{collections::HashMap, sync::OnceLock};

/// What the field of the struct (`package.Struct`) is for; only Tekton's own structs are described.
pub(super) fn field(of: &str, name: &str) -> Option<&'static str> {
    static TEXTS: OnceLock<HashMap<&'static str, &'static str>> = OnceLock::new();
    let texts = TEXTS.get_or_init(|| {
        include_str!("descriptions.txt")
            .lines()
            .filter_map(|line| line.split_once(' '))
            .collect()
    });
    let (package, name_of) = of.split_once('.')?;
    if package == "core" {
        return None;
    }
    texts.get(format!("{name_of}.{name}").as_str()).copied()
}
