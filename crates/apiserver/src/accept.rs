//! Content negotiation: in which form an answer is wanted (K-002, K-003, K-007, K-145).

use http::HeaderMap;
use http::header::{ACCEPT, CONTENT_TYPE};

use crate::error::ApiError;

/// The form of an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Form {
    Json,
    Yaml,
    /// `as=Table`.
    Table,
    /// `as=PartialObjectMetadata` or its list.
    Partial,
    /// `as=APIGroupDiscoveryList` of `apidiscovery.k8s.io/v2`.
    Aggregated,
}

/// What the request accepts, first producible type first.
pub fn negotiate(headers: &HeaderMap) -> Result<Form, ApiError> {
    let mut seen = false;
    for header in headers.get_all(ACCEPT) {
        for media in header.to_str().unwrap_or_default().split(',') {
            seen = true;
            if let Some(form) = parse(media) {
                return Ok(form);
            }
        }
    }
    if seen {
        Err(ApiError::not_acceptable(
            "application/json, application/yaml",
        ))
    } else {
        Ok(Form::Json)
    }
}

fn parse(media: &str) -> Option<Form> {
    let mut parts = media.split(';').map(str::trim);
    let essence = parts.next()?;
    let parameters: Vec<(&str, &str)> = parts.filter_map(|part| part.split_once('=')).collect();
    let get = |key: &str| {
        parameters
            .iter()
            .find(|(name, _)| *name == key)
            .map(|(_, value)| *value)
    };
    match essence {
        "application/json" | "application/*" | "*/*" | "" => {
            match (get("as"), get("g"), get("v")) {
                (None, ..) => Some(Form::Json),
                (Some("Table"), Some("meta.k8s.io"), Some("v1" | "v1beta1")) => Some(Form::Table),
                (
                    Some("PartialObjectMetadata" | "PartialObjectMetadataList"),
                    Some("meta.k8s.io"),
                    Some("v1" | "v1beta1"),
                ) => Some(Form::Partial),
                (Some("APIGroupDiscoveryList"), Some("apidiscovery.k8s.io"), Some("v2")) => {
                    Some(Form::Aggregated)
                }
                _ => None,
            }
        }
        "application/yaml" | "application/x-yaml" if get("as").is_none() => Some(Form::Yaml),
        _ => None,
    }
}

/// The media type of a request body without parameters.
pub fn content_type(headers: &HeaderMap) -> &str {
    let value = headers
        .get(CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default();
    value.split(';').next().unwrap_or_default().trim()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_producible_type_wins() {
        // K-002, K-003, K-007, K-145
        let table = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json";
        for (accept, expected) in [
            ("*/*", Some(Form::Json)),
            (
                "application/vnd.kubernetes.protobuf,application/json",
                Some(Form::Json),
            ),
            ("application/vnd.kubernetes.protobuf", None),
            ("application/yaml", Some(Form::Yaml)),
            (table, Some(Form::Table)),
            (
                "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList,application/json",
                Some(Form::Aggregated),
            ),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(ACCEPT, accept.parse().unwrap());
            assert_eq!(negotiate(&headers).ok(), expected, "{accept}");
        }
    }
}
