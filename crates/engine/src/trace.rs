//! The trace that a run belongs to (T-424, P-301).

use std::collections::BTreeMap;

/// Takes over the trace that the creator of a run gave by the annotation `key`, once. What is no JSON map means none.
pub(crate) fn adopt(
    context: &mut BTreeMap<String, String>,
    annotations: Option<&BTreeMap<String, String>>,
    key: &str,
) {
    let given = annotations.and_then(|all| all.get(key));
    if context.is_empty()
        && let Some(given) = given.filter(|given| !given.is_empty())
    {
        *context = serde_json::from_str(given).unwrap_or_default();
    }
}
