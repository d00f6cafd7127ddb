//! The resolver `git`: a file of a repository, by Git's protocol or by a provider's API (P-330 to P-342).

mod clone;
mod config;
mod object;
mod packet;
mod path;
mod protocol;
mod scm;

use std::collections::BTreeMap;
use std::time::Duration;

use futures::future::BoxFuture;
use tektite_api::names::RESOLVERS_NAMESPACE;
use tektite_api::v1::RefSource;

use self::config::ScmConfig;
use crate::framework::{
    Caching, Identity, Request, ResolveError, Resolved, Resolver, Surroundings, TIMEOUT,
    with_retries,
};
use crate::params::Params;
use crate::secrets::{SecretKey, read_secret};
use crate::settings::parse_duration;

pub(crate) struct Git;

impl Resolver for Git {
    fn identity(&self) -> &'static Identity {
        &Identity {
            label: "git",
            title: "Git",
            config_map: "git-resolver-config",
            flag: "enable-git-resolver",
        }
    }

    fn parallel(&self) -> usize {
        // Each may hold a whole revision in memory.
        8
    }

    fn timeout(&self, request: &Request) -> Result<Duration, String> {
        let config = config::chosen(&request.config, &request.params)?;
        match config.timeout.as_str() {
            "" => Ok(TIMEOUT),
            text => parse_duration(text),
        }
    }

    fn validate(&self, request: &Request) -> Result<(), String> {
        plan(request).map(drop)
    }

    fn caching(&self, params: &Params) -> Caching {
        let revision = params.get("revision").unwrap_or_default();
        Caching::Immutable(is_commit(revision))
    }

    fn resolve<'a>(
        &'a self,
        request: &'a Request,
        with: &'a Surroundings,
    ) -> BoxFuture<'a, Result<Resolved, ResolveError>> {
        Box::pin(async move {
            let plan = plan(request)?;
            let backoff = config::backoff(&request.config);
            with_retries(
                &backoff,
                |_| true,
                || async {
                    match &plan.source {
                        Source::Clone { url, token } => {
                            clone(&plan, url, token.as_ref(), with).await
                        }
                        Source::Api(api) => from_api(&plan, api, with).await,
                    }
                },
            )
            .await
        })
    }
}

/// Whether a revision is the whole name of a commit (P-325).
fn is_commit(revision: &str) -> bool {
    matches!(revision.len(), 40 | 64) && revision.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// What the params ask for, checked and completed.
#[derive(Debug, PartialEq)]
struct Plan {
    source: Source,
    revision: String,
    path: String,
    local_root: Option<String>,
}

#[derive(Debug, PartialEq)]
enum Source {
    /// By Git's protocol.
    Clone {
        url: String,
        token: Option<SecretKey>,
    },
    /// By a provider's API.
    Api(Api),
}

#[derive(Debug, PartialEq)]
struct Api {
    scm_type: String,
    server_url: String,
    org: String,
    repo: String,
    /// What goes wrong before anything is asked is told as of the fetch, as upstream does.
    token: Result<SecretKey, String>,
}

fn plan(request: &Request) -> Result<Plan, String> {
    let params = &request.params;
    let config = config::chosen(&request.config, params)?;
    let mut missing = Vec::new();
    let default = |text: &String| Some(text.clone()).filter(|text| !text.is_empty());
    let revision = params
        .get("revision")
        .map(str::to_owned)
        .or_else(|| default(&config.revision));
    if revision.is_none() {
        missing.push("revision");
    }
    let path = params.get("pathInRepo");
    if path.is_none() {
        missing.push("pathInRepo");
    }
    let (url, repo) = (params.filled("url"), params.filled("repo"));
    let url = match (url, repo) {
        (Some(_), Some(_)) => return Err("cannot specify both 'url' and 'repo'".into()),
        (Some(url), None) => Some(url.to_owned()),
        (None, None) => Some(
            default(&config.url).ok_or_else(|| "must specify one of 'url' or 'repo'".to_owned())?,
        ),
        (None, Some(_)) => None,
    };
    let org = match (repo, params.get("org")) {
        (Some(_), None) => default(&config.org)
            .ok_or_else(|| "'org' is required when 'repo' is specified".to_owned())?,
        (_, org) => org.unwrap_or_default().to_owned(),
    };
    let (Some(revision), Some(path)) = (revision, path) else {
        return Err(format!(
            "missing required git resolver params: {}",
            missing.join(", ")
        ));
    };
    if revision.starts_with('-') {
        return Err(format!(
            "invalid revision {revision:?}: must not begin with '-'"
        ));
    }
    if revision.chars().any(char::is_control) {
        return Err(format!(
            "invalid revision {revision:?}: must not contain control characters"
        ));
    }
    let local_root = default(&config.local_repositories);
    if let Some(url) = &url
        && org.is_empty()
        && !is_repository_url(url, local_root.is_some())
    {
        return Err(format!("invalid git repository url: {url}"));
    }
    let path = path.trim_start_matches('/');
    let mut names = vec![("path", path)];
    if let Some(repo) = repo {
        // They become parts of paths of the provider's API, which must stay those of the repository.
        names.extend([
            ("org", org.as_str()),
            ("repo", repo),
            ("revision", &revision),
        ]);
    }
    for (what, text) in names {
        if text.split('/').any(|part| part == "..") {
            return Err(format!(
                "invalid {what} {text:?}: must not contain '..' components"
            ));
        }
    }
    let source = match (url, repo) {
        (Some(url), _) => Source::Clone {
            url,
            token: params
                .filled("gitToken")
                .map(|name| of_request(request, name, "gitTokenKey")),
        },
        (None, repo) => Source::Api(api_plan(
            request,
            &config,
            org,
            repo.unwrap_or_default().to_owned(),
        )),
    };
    Ok(Plan {
        source,
        revision,
        path: path.to_owned(),
        local_root,
    })
}

/// A secret of the request's namespace.
fn of_request(request: &Request, name: &str, key_param: &str) -> SecretKey {
    SecretKey {
        namespace: request.namespace.clone(),
        name: name.to_owned(),
        key: request
            .params
            .filled(key_param)
            .unwrap_or("token")
            .to_owned(),
    }
}

/// What upstream's expression takes: `user@host:…`, or one of these schemes (P-332).
fn is_repository_url(url: &str, local: bool) -> bool {
    let scheme = [
        "git://", "ssh://", "ftp://", "ftps://", "http://", "https://",
    ]
    .iter()
    .any(|scheme| url.starts_with(scheme));
    let scp = url
        .split_once('@')
        .is_some_and(|(user, rest)| !user.is_empty() && !rest.is_empty() && !rest.starts_with(':'));
    scheme || scp || local && url.starts_with("file://")
}

fn api_plan(request: &Request, config: &ScmConfig, org: String, repo: String) -> Api {
    let params = &request.params;
    let given = |param: &str, default: &str| params.filled(param).unwrap_or(default).to_owned();
    Api {
        scm_type: given("scmType", &config.scm_type),
        server_url: given("serverURL", &config.server_url),
        org,
        repo,
        token: api_token(request, config),
    }
}

/// Where the token is: a secret of the request, else the installation's (P-337, P-338).
fn api_token(request: &Request, config: &ScmConfig) -> Result<SecretKey, String> {
    let params = &request.params;
    if let Some(name) = params.filled("token") {
        return Ok(of_request(request, name, "tokenKey"));
    }
    if let Some(server) = params.filled("serverURL")
        && server != config.server_url
    {
        return Err(format!(
            "custom serverURL {server:?} requires a token parameter; the system token cannot be sent to a non-default server URL"
        ));
    }
    for (value, key) in [
        (&config.secret_name, "api-token-secret-name"),
        (&config.secret_key, "api-token-secret-key"),
    ] {
        if value.is_empty() {
            return Err(format!(
                "cannot get API token, required when specifying 'repo' param, '{key}' not specified in config"
            ));
        }
    }
    let namespace = match config.secret_namespace.as_str() {
        "" => RESOLVERS_NAMESPACE,
        namespace => namespace,
    };
    Ok(SecretKey {
        namespace: namespace.to_owned(),
        name: config.secret_name.clone(),
        key: config.secret_key.clone(),
    })
}

async fn token(wanted: &SecretKey, with: &Surroundings) -> Result<String, ResolveError> {
    let bytes = read_secret(with, wanted).await?;
    // A newline at the end is an editor's, not the token's; a header cannot hold it anyway.
    Ok(String::from_utf8_lossy(&bytes).trim_end().to_owned())
}

async fn clone(
    plan: &Plan,
    url: &str,
    secret: Option<&SecretKey>,
    with: &Surroundings,
) -> Result<Resolved, ResolveError> {
    let token = match secret {
        Some(secret) => Some(token(secret, with).await?),
        None => None,
    };
    let wanted = clone::Wanted {
        url,
        revision: &plan.revision,
        path: &plan.path,
        token: token.as_deref(),
        local_root: plan.local_root.as_deref(),
    };
    let found = clone::fetch_file(&wanted, &with.fetcher).await?;
    Ok(resolved(found.content, url, &found.commit, &plan.path))
}

async fn from_api(plan: &Plan, api: &Api, with: &Surroundings) -> Result<Resolved, ResolveError> {
    let token = token(api.token.as_ref().map_err(Clone::clone)?, with).await?;
    let found = scm::fetch_file(api, plan, &token, &with.fetcher).await?;
    let mut resolved = resolved(found.content, &found.clone_url, &found.commit, &found.path);
    for (name, value) in [("org", &api.org), ("repo", &api.repo)] {
        if !value.is_empty() {
            resolved.annotations.insert(annotation(name), value.clone());
        }
    }
    Ok(resolved)
}

fn annotation(name: &str) -> String {
    format!("resolution.tekton.dev/{name}")
}

/// What is told about a file (P-342).
fn resolved(data: Vec<u8>, url: &str, commit: &str, path: &str) -> Resolved {
    Resolved {
        data,
        annotations: BTreeMap::from([
            (annotation("revision"), commit.to_owned()),
            (annotation("path"), path.to_owned()),
            (annotation("url"), url.to_owned()),
            (annotation("content-type"), "application/x-yaml".to_owned()),
        ]),
        source: RefSource {
            uri: format!("git+{url}"),
            digest: BTreeMap::from([("sha1".to_owned(), commit.to_owned())]),
            entry_point: path.to_owned(),
        },
    }
}

#[cfg(test)]
mod tests;
