//! ResolutionRequests: a map of params in v1alpha1, a list in v1beta1 (P-092).

use serde_json::{Map, Value, json};

use super::{ConvertError, lose};

pub(super) fn request(to: &str, object: &mut Value) -> Result<(), ConvertError> {
    let params = object["spec"]
        .as_object_mut()
        .and_then(|spec| spec.remove("params"));
    match to {
        "v1beta1" => {
            if let Some(Value::Object(pairs)) = params {
                object["spec"]["params"] = pairs
                    .into_iter()
                    .map(|(name, value)| json!({"name": name, "value": value}))
                    .collect();
            }
        }
        _ => {
            let mut map = Map::new();
            let mut odd = Vec::new();
            for param in params
                .as_ref()
                .and_then(Value::as_array)
                .into_iter()
                .flatten()
            {
                let name = param["name"].as_str().unwrap_or_default().to_owned();
                if param["value"].is_string() {
                    map.insert(name, param["value"].clone());
                } else {
                    odd.push(name);
                }
            }
            if !odd.is_empty() {
                let names = odd.join(", ");
                return Err(ConvertError(format!(
                    "cannot convert v1beta1 to v1alpha, non-string type parameter(s) found: {names}"
                )));
            }
            if !map.is_empty() {
                object["spec"]["params"] = map.into();
            }
            if object["status"]["refSource"].is_null() && object["status"]["source"].is_object() {
                object["status"]["refSource"] = object["status"]["source"].take();
            }
            lose(&mut object["status"], &["source"]);
        }
    }
    // Conditions are not carried over.
    lose(
        &mut object["status"],
        &["conditions", "observedGeneration", "annotations"],
    );
    Ok(())
}
