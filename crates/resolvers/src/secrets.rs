//! Values of secrets that requests name.

use k8s_openapi::api::core::v1::Secret;
use kube::Api;

use crate::framework::{ResolveError, Surroundings};

/// A key of a secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SecretKey {
    pub(crate) namespace: String,
    pub(crate) name: String,
    pub(crate) key: String,
}

/// What a secret holds under a key (P-337, P-344).
pub(crate) async fn read_secret(
    with: &Surroundings,
    wanted: &SecretKey,
) -> Result<Vec<u8>, ResolveError> {
    let SecretKey {
        namespace,
        name,
        key,
    } = wanted;
    let api: Api<Secret> = Api::namespaced(with.client.clone(), namespace);
    let secret = match api.get_opt(name).await {
        Ok(Some(secret)) => secret,
        Ok(None) => {
            return Err(ResolveError::Failed(format!(
                "cannot get API token, secret {name} not found in namespace {namespace}"
            )));
        }
        Err(error) => {
            return Err(api_error(&error).doing(&format!(
                "error reading API token from secret {name} in namespace {namespace}"
            )));
        }
    };
    let value = secret.data.and_then(|mut data| data.remove(key));
    value.map(|value| value.0).ok_or_else(|| {
        ResolveError::Failed(format!(
            "cannot get API token, key {key} not found in secret {name} in namespace {namespace}"
        ))
    })
}

/// What the API's refusal means to a request: these may pass, others will not (P-321).
pub(crate) fn api_error(error: &kube::Error) -> ResolveError {
    match error {
        kube::Error::Api(status) => {
            let passing = matches!(status.code, 408 | 429 | 504)
                || matches!(
                    status.reason.as_str(),
                    "Conflict" | "Timeout" | "ServerTimeout" | "TooManyRequests"
                )
                || status.message.contains("etcdserver: leader changed");
            if passing {
                ResolveError::Transient(status.message.clone())
            } else {
                ResolveError::Failed(status.message.clone())
            }
        }
        // The API did not answer at all: nothing can be said about the request.
        other => ResolveError::Transient(other.to_string()),
    }
}
