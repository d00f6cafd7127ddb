//! What is reported of a registry's refusal, in the words of upstream's registry client: they end in a run's message (T-263).

use reqwest::Url;
use serde::Deserialize;
use serde_json::Value;

use crate::repository::Fetched;

/// Of a refusal that is no registry's (a proxy's page, say), so many characters are repeated.
const PAGE: usize = 1024;
/// Parameters of URLs that hold no secret; others are signatures and tokens as often as not.
const SHOWN: [&str; 4] = ["scope", "service", "digest", "n"];

#[derive(Default, Deserialize)]
#[serde(default)]
struct Envelope {
    errors: Vec<Diagnostic>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Diagnostic {
    code: String,
    message: String,
    detail: Value,
}

/// `GET <url>: CODE: message; detail`.
pub(crate) fn text(fetched: &Fetched) -> String {
    let envelope: Envelope = serde_json::from_slice(&fetched.body).unwrap_or_default();
    let mut errors: Vec<String> = envelope.errors.iter().map(diagnostic).collect();
    let said = match errors.len() {
        0 => {
            let page = String::from_utf8_lossy(&fetched.body);
            let page: String = page.trim().chars().take(PAGE).collect();
            let status = format!("unexpected status code {}", fetched.status);
            match page.as_str() {
                "" => status,
                page => format!("{status}: {page}"),
            }
        }
        1 => errors.remove(0),
        _ => format!("multiple errors returned: {}", errors.join("; ")),
    };
    format!("GET {}: {said}", redacted(&fetched.url))
}

fn diagnostic(error: &Diagnostic) -> String {
    let text = format!("{}: {}", error.code, error.message);
    match &error.detail {
        Value::Null => text,
        detail => format!("{text}; {}", go(detail)),
    }
}

fn redacted(url: &Url) -> String {
    let mut shown = url.clone();
    if url.query().is_some() {
        let pairs = url.query_pairs().map(|(name, value)| {
            let value = match SHOWN.contains(&name.as_ref()) {
                true => value,
                false => "REDACTED".into(),
            };
            (name, value)
        });
        shown.query_pairs_mut().clear().extend_pairs(pairs);
    }
    // A user in a URL is a login; neither call fails on URLs that have a host.
    let _ = shown.set_username("");
    let _ = shown.set_password(None);
    shown.to_string()
}

/// As Go's `%v` writes what was read from JSON.
fn go(value: &Value) -> String {
    match value {
        Value::Null => "<nil>".into(),
        Value::Bool(value) => value.to_string(),
        Value::Number(value) => value.to_string(),
        Value::String(value) => value.clone(),
        Value::Array(items) => {
            let items: Vec<String> = items.iter().map(go).collect();
            format!("[{}]", items.join(" "))
        }
        Value::Object(members) => {
            let mut members: Vec<String> = members
                .iter()
                .map(|(key, value)| format!("{key}:{}", go(value)))
                .collect();
            members.sort();
            format!("map[{}]", members.join(" "))
        }
    }
}

#[cfg(test)]
mod tests {
    use http::{HeaderMap, StatusCode};

    use super::*;

    #[test]
    fn a_refusal_reads_as_upstreams_client_writes_it() {
        // T-263
        let at = "https://r.example/v2/a/manifests/1";
        let page = "p".repeat(PAGE + 1);
        let cut = format!(
            "unexpected status code 502 Bad Gateway: {}",
            "p".repeat(PAGE)
        );
        for (status, url, body, expected) in [
            (
                404,
                at,
                r#"{"errors":[{"code":"MANIFEST_UNKNOWN","message":"manifest unknown","detail":{"Tag":"1"}}]}"#,
                "MANIFEST_UNKNOWN: manifest unknown; map[Tag:1]",
            ),
            (
                401,
                at,
                r#"{"errors":[{"code":"UNAUTHORIZED","message":"authentication required","detail":[{"Type":"repository","Name":"a","n":null}]}]}"#,
                "UNAUTHORIZED: authentication required; [map[Name:a Type:repository n:<nil>]]",
            ),
            (
                403,
                at,
                r#"{"errors":[{"code":"A","message":"b"},{"code":"C","message":"d"}]}"#,
                "multiple errors returned: A: b; C: d",
            ),
            (
                503,
                at,
                "",
                "unexpected status code 503 Service Unavailable",
            ),
            (
                500,
                at,
                "{}",
                "unexpected status code 500 Internal Server Error: {}",
            ),
            (502, at, page.as_str(), cut.as_str()),
        ] {
            let fetched = Fetched {
                status: StatusCode::from_u16(status).unwrap(),
                headers: HeaderMap::new(),
                body: body.to_owned().into(),
                url: url.parse().unwrap(),
            };
            assert_eq!(text(&fetched), format!("GET {url}: {expected}"));
        }
    }

    #[test]
    fn secrets_in_urls_are_not_repeated() {
        for (url, expected) in [
            (
                "https://u:p@s3.example/x?Signature=abc&n=1",
                "https://s3.example/x?Signature=REDACTED&n=1",
            ),
            (
                "https://a.example/token?service=r&scope=repository%3Aa%3Apull",
                "https://a.example/token?service=r&scope=repository%3Aa%3Apull",
            ),
        ] {
            assert_eq!(redacted(&url.parse().unwrap()), expected);
        }
    }
}
