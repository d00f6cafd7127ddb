//! Reading a file through the API of a Git provider (P-336, P-339).

use base64::Engine as _;
use reqwest::{Method, StatusCode, header};
use serde_json::Value;

use super::{Api, Plan};
use crate::fetch::Fetcher;
use crate::framework::ResolveError;

/// The longest answer.
const ANSWER: u64 = 8 * 1024 * 1024;

/// A file, as the provider has it.
pub(super) struct FoundFile {
    pub(super) content: Vec<u8>,
    pub(super) path: String,
    pub(super) commit: String,
    pub(super) clone_url: String,
}

/// A kind of provider.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Provider {
    GitHub,
    GitLab,
    Gitea,
    BitbucketServer,
    BitbucketCloud,
}

/// Whom to ask, and how to say who asks.
#[derive(Debug, PartialEq)]
struct Service {
    provider: Provider,
    base: String,
}

/// The three questions about one file.
#[derive(Debug, PartialEq)]
struct Questions {
    content: String,
    commit: String,
    repository: String,
}

impl Service {
    fn of(scm_type: &str, server: &str) -> Result<Self, String> {
        let server = server.trim_end_matches('/');
        let required = || {
            if server.is_empty() {
                return Err(
                    "failed to create SCM client: No git serverURL was specified".to_owned(),
                );
            }
            Ok(server.to_owned())
        };
        let or = |default: &str| match server {
            "" => default.to_owned(),
            server => server.to_owned(),
        };
        let hosted = |host: &str| {
            server == format!("https://{host}") || server.starts_with(&format!("https://{host}/"))
        };
        let (provider, base) = match scm_type {
            "" | "github" if server.is_empty() || hosted("github.com") => {
                (Provider::GitHub, "https://api.github.com".to_owned())
            }
            "" | "github" if server.contains("/api/") => (Provider::GitHub, server.to_owned()),
            "" | "github" => (Provider::GitHub, format!("{server}/api/v3")),
            "gitlab" => (Provider::GitLab, or("https://gitlab.com")),
            "gitea" => (Provider::Gitea, required()?),
            "bitbucketserver" | "stash" => (Provider::BitbucketServer, required()?),
            "bitbucketcloud" | "bitbucket" if hosted("bitbucket.org") => (
                Provider::BitbucketCloud,
                "https://api.bitbucket.org".to_owned(),
            ),
            "bitbucketcloud" | "bitbucket" => {
                (Provider::BitbucketCloud, or("https://api.bitbucket.org"))
            }
            other => {
                return Err(format!(
                    "failed to create SCM client: unsupported $GIT_KIND value: {other}"
                ));
            }
        };
        Ok(Self { provider, base })
    }

    fn authorization(&self, token: &str) -> (header::HeaderName, String) {
        match self.provider {
            Provider::GitLab => (
                header::HeaderName::from_static("private-token"),
                token.to_owned(),
            ),
            Provider::Gitea => (header::AUTHORIZATION, format!("token {token}")),
            Provider::GitHub | Provider::BitbucketServer | Provider::BitbucketCloud => {
                (header::AUTHORIZATION, format!("Bearer {token}"))
            }
        }
    }

    fn questions(&self, api: &Api, plan: &Plan) -> Questions {
        let base = &self.base;
        let (org, repo) = (segments(&api.org), segments(&api.repo));
        let (path, revision) = (&plan.path, &plan.revision);
        match self.provider {
            Provider::GitHub => {
                let repository = format!("{base}/repos/{org}/{repo}");
                Questions {
                    content: format!(
                        "{repository}/contents/{}?ref={}",
                        segments(path),
                        escape(revision)
                    ),
                    commit: format!("{repository}/commits/{}", segments(revision)),
                    repository,
                }
            }
            Provider::GitLab => {
                let repository = format!(
                    "{base}/api/v4/projects/{}",
                    escape(&format!("{}/{}", api.org, api.repo))
                );
                Questions {
                    content: format!(
                        "{repository}/repository/files/{}?ref={}",
                        escape(path),
                        escape(revision)
                    ),
                    commit: format!(
                        "{repository}/repository/commits/{}",
                        escape(without_ref(revision))
                    ),
                    repository,
                }
            }
            Provider::Gitea => {
                let repository = format!("{base}/api/v1/repos/{org}/{repo}");
                Questions {
                    content: format!(
                        "{repository}/contents/{}?ref={}",
                        segments(path),
                        escape(without_ref(revision))
                    ),
                    commit: format!("{repository}/git/commits/{}", segments(revision)),
                    repository,
                }
            }
            Provider::BitbucketServer => {
                let repository = format!("{base}/rest/api/1.0/projects/{org}/repos/{repo}");
                Questions {
                    content: format!(
                        "{repository}/raw/{}?at={}",
                        segments(path),
                        escape(revision)
                    ),
                    commit: format!("{repository}/commits/{}", escape(revision)),
                    repository,
                }
            }
            Provider::BitbucketCloud => {
                let repository = format!("{base}/2.0/repositories/{org}/{repo}");
                Questions {
                    content: format!("{repository}/src/{}/{}", escape(revision), segments(path)),
                    commit: format!("{repository}/commit/{}", escape(revision)),
                    repository,
                }
            }
        }
    }

    /// The file in the answer about it.
    fn content(&self, body: &[u8]) -> Vec<u8> {
        if matches!(
            self.provider,
            Provider::BitbucketServer | Provider::BitbucketCloud
        ) {
            return body.to_vec();
        }
        let answer: Value = serde_json::from_slice(body).unwrap_or_default();
        let mut encoded = answer["content"].as_str().unwrap_or_default().to_owned();
        // GitHub breaks lines; GitLab sometimes leaves the padding out.
        encoded.retain(|c| !c.is_ascii_whitespace() && c != '=');
        base64::engine::general_purpose::STANDARD_NO_PAD
            .decode(encoded)
            .unwrap_or_default()
    }

    /// The path in the answer about a file, where there is one.
    fn path(&self, body: &[u8], asked: &str) -> String {
        let field = match self.provider {
            Provider::GitHub => "path",
            Provider::GitLab => "file_path",
            _ => return asked.to_owned(),
        };
        let answer: Value = serde_json::from_slice(body).unwrap_or_default();
        answer[field].as_str().unwrap_or(asked).to_owned()
    }

    fn commit(&self, answer: &Value) -> Option<String> {
        let field = match self.provider {
            Provider::GitHub | Provider::Gitea => "sha",
            Provider::GitLab | Provider::BitbucketServer => "id",
            Provider::BitbucketCloud => "hash",
        };
        answer[field].as_str().map(str::to_owned)
    }

    fn clone_url(&self, answer: &Value) -> String {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        match self.provider {
            Provider::GitHub | Provider::Gitea => text(&answer["clone_url"]),
            Provider::GitLab => text(&answer["http_url_to_repo"]),
            Provider::BitbucketCloud => {
                format!("https://bitbucket.org/{}.git", text(&answer["full_name"]))
            }
            Provider::BitbucketServer => {
                let links = answer["links"]["clone"].as_array();
                let http = links
                    .into_iter()
                    .flatten()
                    .find(|link| link["name"] == "http");
                let link = http.map(|link| text(&link["href"])).unwrap_or_default();
                // The server names the user who asked.
                let Ok(mut url) = reqwest::Url::parse(&link) else {
                    return link;
                };
                match url.set_username("") {
                    Ok(()) => url.into(),
                    Err(()) => link,
                }
            }
        }
    }
}

/// Percent-encoded as one segment of a path or one value of a query.
fn escape(text: &str) -> String {
    let mut out = String::new();
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-_~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

/// Percent-encoded segment by segment.
fn segments(path: &str) -> String {
    let escaped = path
        .split('/')
        .map(|segment| escape(segment).replace("%2E", "."));
    escaped.collect::<Vec<_>>().join("/")
}

fn without_ref(revision: &str) -> &str {
    let plain = revision.strip_prefix("refs/heads/").unwrap_or(revision);
    plain.strip_prefix("refs/tags/").unwrap_or(plain)
}

/// Asks the provider.
pub(super) async fn fetch_file(
    api: &Api,
    plan: &Plan,
    token: &str,
    fetcher: &Fetcher,
) -> Result<FoundFile, ResolveError> {
    let service = Service::of(&api.scm_type, &api.server_url)?;
    let questions = service.questions(api, plan);
    let ask = |url: String| {
        let service = &service;
        async move {
            let (name, value) = service.authorization(token);
            let call = fetcher.request(Method::GET, &url)?.header(name, value);
            let fetched = fetcher.send(call, ANSWER).await?;
            match fetched.status {
                status if status.is_success() => Ok(fetched.body),
                StatusCode::NOT_FOUND => Err(ResolveError::Failed("Not Found".into())),
                status => Err(ResolveError::Failed(said(&fetched.body, status))),
            }
        }
    };
    let body = ask(questions.content)
        .await
        .map_err(|error| error.doing("couldn't fetch resource content"))?;
    let content = service.content(&body);
    if content.is_empty() {
        return Err(ResolveError::Failed(format!(
            "no content for resource in {}/{} {}",
            api.org, api.repo, plan.path
        )));
    }
    let path = service.path(&body, &plan.path);
    let json = |body: bytes::Bytes| serde_json::from_slice::<Value>(&body).unwrap_or_default();
    let doing = format!(
        "couldn't fetch the commit sha for the ref {} in the repo",
        plan.revision
    );
    let commit = ask(questions.commit)
        .await
        .and_then(|body| {
            let none = || ResolveError::Failed("the answer names no commit".into());
            service.commit(&json(body)).ok_or_else(none)
        })
        .map_err(|error| error.doing(&doing))?;
    let repository = ask(questions.repository)
        .await
        .map_err(|error| error.doing("couldn't fetch repository"))?;
    Ok(FoundFile {
        content,
        path,
        commit,
        clone_url: service.clone_url(&json(repository)),
    })
}

/// The message in a refusal, where there is one.
fn said(body: &[u8], status: StatusCode) -> String {
    let answer: Value = serde_json::from_slice(body).unwrap_or_default();
    let message = answer["message"]
        .as_str()
        .or_else(|| answer["error"]["message"].as_str());
    message.map_or_else(|| status.to_string(), str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::git::Source;
    use crate::secrets::SecretKey;

    fn plan_of(path: &str, revision: &str) -> (Api, Plan) {
        let api = || Api {
            scm_type: String::new(),
            server_url: String::new(),
            org: "my org".into(),
            repo: "r".into(),
            token: Ok(SecretKey {
                namespace: "n".into(),
                name: "s".into(),
                key: "k".into(),
            }),
        };
        let plan = Plan {
            source: Source::Api(api()),
            revision: revision.into(),
            path: path.into(),
            local_root: None,
        };
        (api(), plan)
    }

    /// P-336
    #[test]
    fn each_provider_is_asked_at_its_own_paths() {
        let (api, plan) = plan_of("a b/t.yaml", "refs/heads/x");
        for (kind, server, content, commit) in [
            (
                "github",
                "",
                "https://api.github.com/repos/my%20org/r/contents/a%20b/t.yaml?ref=refs%2Fheads%2Fx",
                "https://api.github.com/repos/my%20org/r/commits/refs/heads/x",
            ),
            (
                "",
                "https://ghe.example/",
                "https://ghe.example/api/v3/repos/my%20org/r/contents/a%20b/t.yaml?ref=refs%2Fheads%2Fx",
                "https://ghe.example/api/v3/repos/my%20org/r/commits/refs/heads/x",
            ),
            (
                "gitlab",
                "",
                "https://gitlab.com/api/v4/projects/my%20org%2Fr/repository/files/a%20b%2Ft%2Eyaml?ref=refs%2Fheads%2Fx",
                "https://gitlab.com/api/v4/projects/my%20org%2Fr/repository/commits/x",
            ),
            (
                "gitea",
                "http://t",
                "http://t/api/v1/repos/my%20org/r/contents/a%20b/t.yaml?ref=x",
                "http://t/api/v1/repos/my%20org/r/git/commits/refs/heads/x",
            ),
            (
                "bitbucketserver",
                "http://b",
                "http://b/rest/api/1.0/projects/my%20org/repos/r/raw/a%20b/t.yaml?at=refs%2Fheads%2Fx",
                "http://b/rest/api/1.0/projects/my%20org/repos/r/commits/refs%2Fheads%2Fx",
            ),
            (
                "bitbucketcloud",
                "https://bitbucket.org/x",
                "https://api.bitbucket.org/2.0/repositories/my%20org/r/src/refs%2Fheads%2Fx/a%20b/t.yaml",
                "https://api.bitbucket.org/2.0/repositories/my%20org/r/commit/refs%2Fheads%2Fx",
            ),
        ] {
            let asked = Service::of(kind, server).unwrap().questions(&api, &plan);
            assert_eq!(
                (asked.content.as_str(), asked.commit.as_str()),
                (content, commit)
            );
        }
        assert_eq!(
            Service::of("svn", "").unwrap_err(),
            "failed to create SCM client: unsupported $GIT_KIND value: svn"
        );
        assert_eq!(
            Service::of("gitea", "").unwrap_err(),
            "failed to create SCM client: No git serverURL was specified"
        );
        // A host that only begins like GitHub's gets no token meant for GitHub.
        assert_eq!(
            Service::of("github", "https://github.com.evil.example")
                .unwrap()
                .base,
            "https://github.com.evil.example/api/v3"
        );
    }
}
