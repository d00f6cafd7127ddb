//! The resolver `hub`: a file of a catalog on an Artifact Hub or a Tekton Hub (P-347 to P-352).

mod version;

use std::collections::BTreeMap;
use std::time::Duration;

use futures::future::BoxFuture;
use reqwest::{Method, StatusCode, Url};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use sha2::{Digest as _, Sha256};
use tektite_api::v1::RefSource;

use self::version::{Constraint, Version};
use crate::fetch::Fetcher;
use crate::framework::{
    Identity, Request, ResolveError, Resolved, Resolver, Surroundings, TIMEOUT, hex,
};
use crate::settings::Map;

/// The longest answer: a list of all versions with their texts.
const ANSWER: u64 = 16 * 1024 * 1024;

/// Where hubs are unless a request or the ConfigMap says otherwise.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HubUrls {
    /// `ARTIFACT_HUB_API`.
    pub artifact: String,
    /// `TEKTON_HUB_API`; there is none that everybody may use.
    pub tekton: Option<String>,
}

impl Default for HubUrls {
    fn default() -> Self {
        Self {
            artifact: "https://artifacthub.io".into(),
            tekton: None,
        }
    }
}

pub(crate) struct Hub(pub(crate) HubUrls);

impl Resolver for Hub {
    fn identity(&self) -> &'static Identity {
        &Identity {
            label: "hub",
            title: "Hub",
            config_map: "hubresolver-config",
            flag: "enable-hub-resolver",
        }
    }

    fn validate(&self, request: &Request) -> Result<(), String> {
        plan(request, &self.0).map(drop)
    }

    fn resolve<'a>(
        &'a self,
        request: &'a Request,
        with: &'a Surroundings,
    ) -> BoxFuture<'a, Result<Resolved, ResolveError>> {
        Box::pin(async move {
            let plan = plan(request, &self.0)?;
            resolve(plan, &with.fetcher).await
        })
    }
}

/// The two kinds of hubs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Type {
    Artifact,
    Tekton,
}

impl Type {
    fn title(self) -> &'static str {
        match self {
            Self::Artifact => "Artifact",
            Self::Tekton => "Tekton",
        }
    }
}

/// What is wanted, and from where.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Plan {
    type_: Type,
    kind: String,
    catalog: String,
    name: String,
    version: String,
    /// In the order in which they are asked.
    hubs: Vec<String>,
}

impl Plan {
    /// Where all versions are listed.
    fn list(&self, hub: &str) -> String {
        let Self {
            kind,
            catalog,
            name,
            ..
        } = self;
        match self.type_ {
            Type::Artifact => format!("{hub}/api/v1/packages/tekton-{kind}/{catalog}/{name}"),
            Type::Tekton => format!("{hub}/v1/resource/{catalog}/{kind}/{name}"),
        }
    }

    /// Where one version is.
    fn file(&self, hub: &str) -> String {
        let version = written(self.type_, &self.version);
        match self.type_ {
            Type::Artifact => format!("{}/{version}", self.list(hub)),
            Type::Tekton => format!("{}/{version}/yaml", self.list(hub)),
        }
    }
}

/// A version in the form of its hub (P-351).
fn written(type_: Type, version: &str) -> String {
    let parts: Vec<&str> = version.split('.').collect();
    match type_ {
        Type::Artifact if parts.len() == 2 => format!("{version}.0"),
        Type::Tekton if parts.len() > 2 => parts[..2].join("."),
        _ => version.to_owned(),
    }
}

fn plan(request: &Request, urls: &HubUrls) -> Result<Plan, String> {
    let params = &request.params;
    let config = &request.config;
    let (type_, kind, catalog) =
        defaults(request).map_err(|error| format!("failed to populate default params: {error}"))?;
    let invalid = |error: &str| format!("failed to validate params: {error}");
    let mut missing = Vec::new();
    let (name, version) = (params.get("name"), params.get("version"));
    for (param, value) in [("name", name), ("version", version)] {
        if value.is_none() {
            missing.push(param);
        }
    }
    if !["task", "pipeline", "stepaction"].contains(&kind.as_str()) {
        return Err(invalid(
            "kind param must be one of: task, pipeline, stepaction",
        ));
    }
    let given = params.filled("url");
    if let Some(url) = given {
        check_hub(url).map_err(|error| invalid(&format!("invalid url param: {error}")))?;
    }
    let (type_, key, fallback) = match type_.as_str() {
        "artifact" => (Type::Artifact, "artifact-hub-urls", Some(&urls.artifact)),
        "tekton" => (Type::Tekton, "tekton-hub-urls", urls.tekton.as_ref()),
        _ => return Err(invalid("type param must be artifact or tekton")),
    };
    let hubs = match given {
        Some(url) => vec![url.trim_end_matches('/').to_owned()],
        None => hubs(config, key, fallback),
    };
    if hubs.is_empty() {
        return Err(invalid(
            "please configure TEKTON_HUB_API env variable to use tekton type",
        ));
    }
    let (Some(name), Some(version)) = (name, version) else {
        let missing = missing.join(", ");
        return Err(invalid(&format!(
            "missing required hub resolver params: {missing}"
        )));
    };
    for (param, value) in [
        ("catalog", catalog.as_str()),
        ("name", name),
        ("version", version),
    ] {
        // They become segments of a path, and must stay ones.
        if value.contains(['/', '\\', '?', '#', '%']) || matches!(value, "." | "..") {
            return Err(invalid(&format!(
                "{param} {value:?} is no name on a hub: it must not contain /, \\, ?, # or %"
            )));
        }
    }
    Ok(Plan {
        type_,
        kind,
        catalog,
        name: name.to_owned(),
        version: version.to_owned(),
        hubs,
    })
}

/// Type, kind and catalog (P-347, P-352).
fn defaults(request: &Request) -> Result<(String, String, String), String> {
    let (params, config) = (&request.params, &request.config);
    let installed = |key: &str, what: &str| {
        config.get(key).cloned().ok_or_else(|| {
            format!("default {what} was not set during installation of the hub resolver")
        })
    };
    let given = |param: &str, key: &str, what: &str| match params.get(param) {
        Some(value) => Ok(value.to_owned()),
        None => installed(key, what),
    };
    let type_ = given("type", "default-type", "type")?;
    let kind = given("kind", "default-kind", "resource kind")?;
    let tekton = installed("default-tekton-hub-catalog", "Tekton Hub catalog")?;
    let tasks = installed(
        "default-artifact-hub-task-catalog",
        "Artifact Hub task catalog",
    )?;
    let pipelines = installed(
        "default-artifact-hub-pipeline-catalog",
        "Artifact Hub pipeline catalog",
    )?;
    let catalog = match (params.get("catalog"), type_.as_str(), kind.as_str()) {
        (Some(catalog), ..) => catalog.to_owned(),
        (None, "artifact", "task") => tasks,
        (None, "artifact", "pipeline") => pipelines,
        (None, "artifact", kind) => {
            return Err(format!("failed to resolve catalog name with kind: {kind}"));
        }
        (None, "tekton", _) => tekton,
        (None, other, _) => {
            return Err(format!("failed to resolve catalog name with type: {other}"));
        }
    };
    Ok((type_, kind, catalog))
}

/// The hubs of the ConfigMap, else the one of the environment (P-348).
fn hubs(config: &Map, key: &str, fallback: Option<&String>) -> Vec<String> {
    let listed = config.get(key).filter(|list| !list.trim().is_empty());
    if let Some(list) = listed {
        match read_list(list) {
            Ok(hubs) if !hubs.is_empty() => return hubs,
            Ok(_) => {}
            Err(error) => {
                tracing::warn!(key, %error, "not a list of hubs; the environment's is asked");
            }
        }
    }
    fallback
        .map(|url| url.trim_end_matches('/').to_owned())
        .into_iter()
        .collect()
}

fn read_list(list: &str) -> Result<Vec<String>, String> {
    let urls: Vec<String> = serde_yaml_ng::from_str(list)
        .map_err(|error| format!("failed to parse URL list: {error}"))?;
    urls.iter()
        .map(|url| {
            let url = url.trim().trim_end_matches('/');
            check_hub(url).map(|()| url.to_owned())
        })
        .collect()
}

fn check_hub(url: &str) -> Result<(), String> {
    let parsed = Url::parse(url)
        .ok()
        .filter(|parsed| parsed.host_str().is_some_and(|host| !host.is_empty()))
        .ok_or_else(|| format!("url must be a valid absolute URL: {url}"))?;
    if !matches!(parsed.scheme(), "http" | "https") {
        return Err(format!("url must use http or https scheme: {url}"));
    }
    Ok(())
}

async fn resolve(mut plan: Plan, fetcher: &Fetcher) -> Result<Resolved, ResolveError> {
    // A hub that hangs must leave time for the next.
    let share = TIMEOUT.div_f64(1.1) / u32::try_from(plan.hubs.len()).unwrap_or(u32::MAX);
    if let Some(constraint) = Constraint::parse(&plan.version) {
        let (version, hub) = choose(&plan, &constraint, fetcher, share).await?;
        plan.version = version.to_string();
        plan.hubs = vec![hub];
    }
    let mut errors = Vec::new();
    for hub in &plan.hubs {
        match fetch_file(&plan, hub, fetcher, share).await {
            Ok(resolved) => return Ok(resolved),
            Err(error) => errors.push(error),
        }
    }
    Err(joined(
        errors,
        "failed to fetch resource from any configured hub URL",
    ))
}

/// The errors of all hubs; if one is alone, as it is.
fn joined(mut errors: Vec<ResolveError>, what: &str) -> ResolveError {
    if errors.len() == 1 {
        return errors.remove(0);
    }
    let transient = errors
        .iter()
        .any(|error| matches!(error, ResolveError::Transient(_)));
    let texts: Vec<String> = errors
        .into_iter()
        .map(|error| match error {
            ResolveError::Failed(text) | ResolveError::Transient(text) => text,
        })
        .collect();
    let text = format!("{what}: {}", texts.join("\n"));
    if transient {
        ResolveError::Transient(text)
    } else {
        ResolveError::Failed(text)
    }
}

/// The highest version that the constraint allows, on the first hub that answers.
async fn choose(
    plan: &Plan,
    constraint: &Constraint,
    fetcher: &Fetcher,
    share: Duration,
) -> Result<(Version, String), ResolveError> {
    let mut errors = Vec::new();
    for hub in &plan.hubs {
        match versions(plan, hub, fetcher, share).await {
            Ok(versions) => {
                return highest(versions, constraint)
                    .map(|version| (version, hub.clone()))
                    .ok_or_else(|| {
                        ResolveError::Failed(format!(
                            "no version found for constraint {}",
                            plan.version
                        ))
                    });
            }
            Err(error) => errors.push(error),
        }
    }
    Err(joined(
        errors,
        "failed to resolve version constraint from any configured hub URL",
    ))
}

fn highest(versions: Vec<Version>, constraint: &Constraint) -> Option<Version> {
    versions
        .into_iter()
        .filter(|version| constraint.allows(version))
        .max_by(Version::compare)
}

async fn versions(
    plan: &Plan,
    hub: &str,
    fetcher: &Fetcher,
    share: Duration,
) -> Result<Vec<Version>, ResolveError> {
    #[derive(Default, Deserialize)]
    #[serde(default)]
    struct Listed {
        version: String,
        prerelease: bool,
    }
    #[derive(Default, Deserialize)]
    #[serde(default)]
    struct Artifact {
        available_versions: Vec<Listed>,
    }
    #[derive(Default, Deserialize)]
    #[serde(default)]
    struct Tekton {
        data: TektonData,
    }
    #[derive(Default, Deserialize)]
    #[serde(default)]
    struct TektonData {
        versions: Vec<Listed>,
    }
    let url = plan.list(hub);
    let (listed, type_) = match plan.type_ {
        Type::Artifact => {
            let answer: Artifact = fetch_json(plan.type_, &url, fetcher, share).await?;
            let mut listed = answer.available_versions;
            listed.retain(|version| !version.prerelease);
            (listed, "artifact")
        }
        Type::Tekton => {
            let answer: Tekton = fetch_json(plan.type_, &url, fetcher, share).await?;
            (answer.data.versions, "tekton")
        }
    };
    listed
        .into_iter()
        .map(|listed| {
            Version::parse(&listed.version).ok_or_else(|| {
                let version = &listed.version;
                ResolveError::Failed(format!(
                    "fail to parse version {type_} from {version}: Malformed version: {version}"
                ))
            })
        })
        .collect()
}

async fn fetch_file(
    plan: &Plan,
    hub: &str,
    fetcher: &Fetcher,
    share: Duration,
) -> Result<Resolved, ResolveError> {
    #[derive(Default, Deserialize)]
    #[serde(default)]
    struct Answer {
        data: Texts,
    }
    #[derive(Default, Deserialize)]
    #[serde(default, rename_all = "camelCase")]
    struct Texts {
        manifest_raw: String,
        yaml: String,
    }
    let url = plan.file(hub);
    let answer: Answer = fetch_json(plan.type_, &url, fetcher, share).await?;
    let data = match plan.type_ {
        Type::Artifact => answer.data.manifest_raw,
        Type::Tekton => answer.data.yaml,
    };
    Ok(Resolved {
        source: RefSource {
            uri: url,
            digest: BTreeMap::from([("sha256".to_owned(), hex(&Sha256::digest(&data)))]),
            entry_point: String::new(),
        },
        data: data.into_bytes(),
        ..Resolved::default()
    })
}

async fn fetch_json<T: DeserializeOwned>(
    type_: Type,
    url: &str,
    fetcher: &Fetcher,
    share: Duration,
) -> Result<T, ResolveError> {
    let what = format!("fail to fetch {} Hub resource", type_.title());
    let fetched = async {
        let call = fetcher.request(Method::GET, url)?.timeout(share);
        fetcher.send(call, ANSWER).await
    };
    let fetched = fetched.await.map_err(|error| {
        ResolveError::from(error)
            .doing("requesting resource from Hub")
            .doing(&what)
    })?;
    if fetched.status != StatusCode::OK {
        return Err(ResolveError::Failed(format!(
            "{what}: requested resource '{url}' not found on hub"
        )));
    }
    serde_json::from_slice(&fetched.body).map_err(|error| {
        ResolveError::Failed(format!(
            "{what}: error unmarshalling json response: {error}"
        ))
    })
}

#[cfg(test)]
mod tests;
