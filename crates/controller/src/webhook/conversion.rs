//! ConversionReview: objects of our kinds from one version to another.

use serde::Deserialize;
use serde_json::{Value, json};
use tektite_api::config::Config;
use tektite_api::convert::{ConvertError, convert};

#[derive(Deserialize)]
struct Review {
    request: Asked,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Asked {
    uid: String,
    #[serde(rename = "desiredAPIVersion")]
    desired_api_version: String,
    #[serde(default)]
    objects: Vec<Value>,
}

/// Answers a ConversionReview; the first object that cannot be converted fails them all.
///
/// # Errors
/// The body is not a ConversionReview.
pub(super) fn review(body: &[u8], config: &Config) -> Result<Value, serde_json::Error> {
    let Review { request } = serde_json::from_slice(body)?;
    let converted: Result<Vec<Value>, ConvertError> = request
        .objects
        .into_iter()
        .map(|object| convert(object, &request.desired_api_version, config))
        .collect();
    let response = match converted {
        Ok(objects) => {
            json!({"uid": request.uid, "result": {"status": "Success"}, "convertedObjects": objects})
        }
        Err(ConvertError(message)) => {
            json!({"uid": request.uid, "result": {"status": "Failure", "message": message}})
        }
    };
    Ok(
        json!({"apiVersion": "apiextensions.k8s.io/v1", "kind": "ConversionReview", "response": response}),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_object_that_cannot_be_converted_fails_the_review() {
        let good = json!({"apiVersion": "tekton.dev/v1", "kind": "Task", "metadata": {"name": "t"}, "spec": {"steps": []}});
        for (objects, status) in [
            (json!([good]), "Success"),
            (json!([]), "Success"),
            (
                json!([good, {"apiVersion": "other.example/v1", "kind": "Thing"}]),
                "Failure",
            ),
        ] {
            let body = json!({"request": {"uid": "u", "desiredAPIVersion": "tekton.dev/v1", "objects": objects}});
            let answer = review(body.to_string().as_bytes(), &Config::default()).unwrap();
            assert_eq!(answer["response"]["result"]["status"], status, "{objects}");
            assert_eq!(answer["response"]["uid"], "u");
        }
    }
}
