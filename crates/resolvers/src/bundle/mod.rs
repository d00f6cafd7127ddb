//! The resolver `bundles`: an object out of an image of objects (P-353 to P-357).

mod registry;

use std::collections::BTreeMap;
use std::io::Read as _;
use std::time::Duration;

use futures::future::BoxFuture;
use k8s_openapi::api::core::v1::{Secret, ServiceAccount};
use kube::Api;
use serde_json::Value;
use tektite_api::v1::RefSource;
use tektite_oci::{Credentials, Reference};

use self::registry::{Refusal, Repository};
use crate::framework::{
    Backoff, Caching, Identity, Request, ResolveError, Resolved, Resolver, Surroundings,
    with_retries,
};
use crate::params::Params;
use crate::secrets::api_error;
use crate::settings::Map;

/// Objects in a bundle.
const OBJECTS: usize = 20;
/// The longest object.
const OBJECT: u64 = 4 * 1024 * 1024;

const API_VERSION: &str = "dev.tekton.image.apiVersion";
const NAME: &str = "dev.tekton.image.name";
const KIND: &str = "dev.tekton.image.kind";

pub(crate) struct Bundles;

impl Resolver for Bundles {
    fn identity(&self) -> &'static Identity {
        &Identity {
            label: "bundles",
            title: "bundleresolver",
            config_map: "bundleresolver-config",
            flag: "enable-bundles-resolver",
        }
    }

    fn validate(&self, request: &Request) -> Result<(), String> {
        plan(&request.params, &request.config).map(drop)
    }

    fn caching(&self, params: &Params) -> Caching {
        let bundle = params.get("bundle").unwrap_or_default();
        Caching::Immutable(bundle.contains("@sha256:"))
    }

    fn resolve<'a>(
        &'a self,
        request: &'a Request,
        with: &'a Surroundings,
    ) -> BoxFuture<'a, Result<Resolved, ResolveError>> {
        Box::pin(async move {
            let plan = plan(&request.params, &request.config)?;
            let credentials = credentials(&request.namespace, &plan, with).await?;
            fetch(&plan, &credentials, &backoff(&request.config), with).await
        })
    }
}

/// What is wanted, and as whom.
#[derive(Debug, PartialEq, Eq)]
struct Plan {
    bundle: String,
    reference: Reference,
    name: String,
    kind: String,
    service_account: String,
    secret: Option<String>,
}

fn plan(params: &Params, config: &Map) -> Result<Plan, String> {
    let given = |param: &str, key: &str, what: &str| match params.filled(param) {
        Some(value) => Ok(value.to_owned()),
        None => config.get(key).cloned().ok_or_else(|| {
            format!("default {what} was not set during installation of the bundle resolver")
        }),
    };
    let required = |param: &str| {
        params
            .filled(param)
            .ok_or_else(|| format!("parameter {param:?} required"))
    };
    let service_account = given(
        "serviceAccount",
        "default-service-account",
        "Service Account",
    )?;
    let bundle = required("bundle")?;
    let reference = bundle.parse().map_err(|error| {
        format!("invalid bundle reference: could not parse reference: {bundle}: {error}")
    })?;
    let name = required("name")?;
    let kind = given("kind", "default-kind", "resource Kind")?;
    Ok(Plan {
        bundle: bundle.to_owned(),
        reference,
        name: name.to_owned(),
        kind,
        service_account,
        secret: params.filled("secret").map(str::to_owned),
    })
}

/// How often a registry is asked again; if a value is none, as upstream's registry library does by itself (P-356).
fn backoff(config: &Map) -> Backoff {
    let mut backoff = Backoff::default();
    for (key, value) in config {
        if let Err(error) = backoff.set(key, value) {
            tracing::warn!(key, value, %error, "not a value for the bundle resolver's backoff; the registry client's own counts");
            return Backoff {
                duration: Duration::from_secs(1),
                factor: 3.0,
                jitter: 0.1,
                steps: 3,
                cap: Duration::MAX,
            };
        }
    }
    backoff
}

/// The pull secrets of the service account, and the one that is named; what is not there is left out, as a kubelet does.
async fn credentials(
    namespace: &str,
    plan: &Plan,
    with: &Surroundings,
) -> Result<Credentials, ResolveError> {
    let accounts: Api<ServiceAccount> = Api::namespaced(with.client.clone(), namespace);
    let secrets: Api<Secret> = Api::namespaced(with.client.clone(), namespace);
    let account = accounts
        .get_opt(&plan.service_account)
        .await
        .map_err(|error| api_error(&error))?;
    let of_account = account
        .and_then(|account| account.image_pull_secrets)
        .into_iter()
        .flatten()
        .map(|secret| secret.name);
    let names: Vec<String> = plan.secret.iter().cloned().chain(of_account).collect();
    let mut credentials = Credentials::none();
    for name in names {
        let found = secrets
            .get_opt(&name)
            .await
            .map_err(|error| api_error(&error))?;
        let Some(data) = found.and_then(|secret| secret.data) else {
            continue;
        };
        let added = match (data.get(".dockerconfigjson"), data.get(".dockercfg")) {
            (Some(json), _) => credentials.add_docker_config_json(&json.0),
            (None, Some(json)) => credentials.add_docker_cfg(&json.0),
            (None, None) => Ok(()),
        };
        if let Err(error) = added {
            tracing::warn!(namespace, secret = name, %error, "a pull secret is no Docker configuration and is left out");
        }
    }
    Ok(credentials)
}

async fn fetch(
    plan: &Plan,
    credentials: &Credentials,
    backoff: &Backoff,
    with: &Surroundings,
) -> Result<Resolved, ResolveError> {
    let fetcher = &with.fetcher;
    let retrieving = "cannot retrieve the oci image";
    let attempt = || async {
        let repository = Repository::open(fetcher, &plan.reference, credentials).await?;
        let manifest = repository.manifest().await?;
        Ok::<_, Refusal>((repository, manifest))
    };
    let (repository, manifest) = with_retries(backoff, |refusal| refusal.passing, attempt)
        .await
        .map_err(|refusal: Refusal| refusal.error.doing(retrieving))?;
    let layers = layers(&manifest.content)
        .map_err(|error| format!("invalid tekton bundle {}, error: {error}", plan.bundle))?;
    let wanted = layers
        .iter()
        .find(|layer| layer.kind.eq_ignore_ascii_case(&plan.kind) && layer.name == plan.name)
        .ok_or_else(|| {
            format!(
                "could not find object in image with kind: {} and name: {}",
                plan.kind, plan.name
            )
        })?;
    let blob = with_retries(
        backoff,
        |refusal: &Refusal| refusal.passing,
        || repository.blob(wanted.digest),
    )
    .await
    .map_err(|refusal| refusal.error.doing("failed to read image layer"))?;
    let data = read_layer(&blob).map_err(|error| format!("failed to read image layer: {error}"))?;
    let annotation =
        |key: &str, value: &str| (format!("resolution.tekton.dev/{key}"), value.to_owned());
    let (algorithm, digest) = manifest
        .digest
        .split_once(':')
        .unwrap_or(("sha256", &manifest.digest));
    Ok(Resolved {
        data,
        annotations: BTreeMap::from([
            annotation(KIND, wanted.kind),
            annotation(NAME, wanted.name),
            annotation(API_VERSION, wanted.api_version),
        ]),
        source: RefSource {
            uri: plan.reference.upstream_name(),
            digest: BTreeMap::from([(algorithm.to_owned(), digest.to_owned())]),
            entry_point: plan.name.clone(),
        },
    })
}

/// One object of a bundle.
#[derive(Debug, PartialEq, Eq)]
struct Layer<'m> {
    digest: &'m str,
    api_version: &'m str,
    name: &'m str,
    kind: &'m str,
}

/// Checks a manifest against the contract of bundles (P-354, P-355).
fn layers(manifest: &Value) -> Result<Vec<Layer<'_>>, String> {
    let layers = manifest["layers"].as_array().map_or(&[][..], Vec::as_slice);
    if layers.len() > OBJECTS {
        return Err(format!(
            "contained more than the maximum {OBJECTS} allow objects"
        ));
    }
    layers
        .iter()
        .enumerate()
        .map(|(index, layer)| {
            let annotation = |key: &str| {
                layer["annotations"][key]
                    .as_str()
                    .ok_or_else(|| format!("the layer {index} does not contain a {key} annotation"))
            };
            let api_version = annotation(API_VERSION)?;
            let name = annotation(NAME)?;
            let kind = annotation(KIND)?;
            if kind.to_lowercase() != kind || kind.ends_with('s') {
                return Err(format!(
                    "the layer {index} the annotation {KIND} must be lowercased and singular, found {kind}"
                ));
            }
            Ok(Layer {
                digest: layer["digest"].as_str().unwrap_or_default(),
                api_version,
                name,
                kind,
            })
        })
        .collect()
}

/// The object in a layer: the first file of an archive, else the bytes as they are.
fn read_layer(blob: &[u8]) -> Result<Vec<u8>, String> {
    let plain = match blob {
        [0x1f, 0x8b, ..] => limited(flate2::read::MultiGzDecoder::new(blob))?,
        _ => blob.to_vec(),
    };
    let mut archive = tar::Archive::new(plain.as_slice());
    let first = archive
        .entries()
        .ok()
        .and_then(|mut entries| entries.next());
    match first {
        Some(Ok(file)) => limited(file),
        _ => Ok(plain),
    }
}

fn limited(reader: impl std::io::Read) -> Result<Vec<u8>, String> {
    let mut content = Vec::new();
    reader
        .take(OBJECT + 1)
        .read_to_end(&mut content)
        .map_err(|error| error.to_string())?;
    if content.len() as u64 > OBJECT {
        return Err(format!("larger than {OBJECT} bytes"));
    }
    Ok(content)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::settings::Settings;

    /// P-353
    #[test]
    fn params_are_completed_and_checked_with_upstreams_texts() {
        let config = Settings::default().map("bundleresolver-config");
        let (bundle, name) = (("bundle", "ghcr.io/o/b:1"), ("name", "t"));
        let planned = plan(&Params::from([bundle, name]), &config).unwrap();
        assert_eq!(
            (planned.kind.as_str(), planned.service_account.as_str()),
            ("task", "default")
        );
        assert_eq!(planned.reference.upstream_name(), "ghcr.io/o/b");
        for (params, expected) in [
            (Params::from([name]), "parameter \"bundle\" required"),
            (Params::from([bundle]), "parameter \"name\" required"),
            (
                Params::from([("bundle", "No:Such:Thing"), name]),
                "invalid bundle reference: could not parse reference: No:Such:Thing",
            ),
        ] {
            let error = plan(&params, &config).unwrap_err();
            assert!(error.starts_with(expected), "{error}");
        }
        assert_eq!(
            plan(&Params::from([bundle, name]), &Map::new()).unwrap_err(),
            "default Service Account was not set during installation of the bundle resolver"
        );
        let hub = plan(&Params::from([("bundle", "busybox"), name]), &config).unwrap();
        assert_eq!(
            hub.reference.upstream_name(),
            "index.docker.io/library/busybox"
        );
    }

    /// P-354, P-355
    #[test]
    fn manifests_are_held_to_the_contract() {
        let layer = |kind: &str| json!({"digest": "sha256:1", "annotations": {API_VERSION: "v1", NAME: "n", KIND: kind}});
        let check = |list: Vec<Value>| layers(&json!({"layers": list})).map(|found| found.len());
        assert_eq!(check(vec![layer("task"); 20]), Ok(20));
        for (list, expected) in [
            (
                vec![layer("task"); 21],
                "contained more than the maximum 20 allow objects",
            ),
            (
                vec![layer("Task")],
                "the layer 0 the annotation dev.tekton.image.kind must be lowercased and singular, found Task",
            ),
            (
                vec![layer("task"), layer("tasks")],
                "the layer 1 the annotation dev.tekton.image.kind must be lowercased and singular, found tasks",
            ),
            (
                vec![json!({"digest": "x"})],
                "the layer 0 does not contain a dev.tekton.image.apiVersion annotation",
            ),
        ] {
            assert_eq!(check(list), Err(expected.to_owned()));
        }
    }

    /// P-356
    #[test]
    fn one_bad_value_undoes_the_whole_backoff() {
        let map = |value: &str| {
            Map::from([
                ("backoff-steps".into(), value.into()),
                ("backoff-cap".into(), "1s".into()),
            ])
        };
        assert_eq!(backoff(&map("7")).steps, 7);
        assert_eq!(
            (backoff(&map("x")).steps, backoff(&map("x")).factor),
            (3, 3.0)
        );
    }

    /// P-355
    #[test]
    fn a_layer_is_an_archive_or_the_object_itself() {
        use std::io::Write as _;
        let mut archive = tar::Builder::new(Vec::new());
        let mut header = tar::Header::new_gnu();
        header.set_size(3);
        header.set_mode(0o644);
        header.set_cksum();
        archive
            .append_data(&mut header, "task", &b"abc"[..])
            .unwrap();
        let archive = archive.into_inner().unwrap();
        let zipped = |bytes: &[u8]| {
            let mut out = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
            out.write_all(bytes).unwrap();
            out.finish().unwrap()
        };
        for layer in [
            archive.clone(),
            zipped(&archive),
            b"abc".to_vec(),
            zipped(b"abc"),
        ] {
            assert_eq!(read_layer(&layer).unwrap(), b"abc");
        }
        let bomb = zipped(&vec![0; 5 << 20]);
        assert_eq!(read_layer(&bomb).unwrap_err(), "larger than 4194304 bytes");
    }
}
