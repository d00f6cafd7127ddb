//! The git resolver against Git itself: repositories made by the program, served by its HTTP backend, its daemon and from
//! disk, and a provider's API.

#[path = "support/git.rs"]
mod git_server;
mod support;

use std::os::unix::fs::symlink;
use std::path::Path;

use axum::Router;
use axum::extract::Path as UrlPath;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::get;
use git_server::{Serving, backend, git, serve};
use serde_json::{Value, json};
use support::{Local, TASK, data, failure};

/// Says that a test could not run, where the closing count finds it.
fn skip(test: &str) {
    use std::io::Write as _;
    let _ = writeln!(
        std::io::stderr(),
        "skipped: {test}: git-http-backend is missing"
    );
}

/// The same Task under another name.
fn named(name: &str) -> String {
    TASK.replace("name: remote", &format!("name: {name}"))
}

/// A repository with a branch, tags, links within and out, and something in it that packs as a delta.
fn repository(root: &Path) -> [String; 2] {
    let work = root.join("work");
    std::fs::create_dir_all(work.join("tasks/deep")).expect("directories");
    git(&work, &["init", "--quiet"]);
    let write = |path: &str, text: &str| std::fs::write(work.join(path), text).expect("a file");
    write("tasks/one.yaml", TASK);
    write("tasks/deep/two.yaml", &named("two"));
    let long: String = (0..200).map(|n| format!("# line {n}\n")).collect();
    write("tasks/large.yaml", &format!("{TASK}{long}"));
    write("tasks/larger.yaml", &format!("{TASK}{long}# one more\n"));
    symlink("../tasks/deep/../one.yaml", work.join("tasks/link.yaml")).expect("a link");
    symlink("deep", work.join("tasks/dir")).expect("a link");
    symlink("/etc/passwd", work.join("tasks/absolute")).expect("a link");
    symlink("../../../../../../etc/passwd", work.join("tasks/relative")).expect("a link");
    symlink("circle", work.join("tasks/circle")).expect("a link");
    git(&work, &["add", "."]);
    git(&work, &["commit", "--quiet", "-m", "first"]);
    git(&work, &["tag", "-a", "v1", "-m", "annotated"]);
    let first = git(&work, &["rev-parse", "HEAD"]);
    write("tasks/one.yaml", &named("changed"));
    git(&work, &["commit", "--quiet", "-a", "-m", "second"]);
    let second = git(&work, &["rev-parse", "HEAD"]);
    git(root, &["clone", "--quiet", "--bare", "work", "repo.git"]);
    git(&root.join("repo.git"), &["repack", "-adq"]);
    [first, second]
}

async fn fast(local: &Local, extra: Value) {
    let mut map =
        json!({"fetch-timeout": "1m", "default-revision": "main", "backoff-duration": "10ms"});
    for (key, value) in extra.as_object().into_iter().flatten() {
        map[key] = value.clone();
    }
    local.configure("git-resolver-config", map).await;
}

/// P-330, P-333, P-335, P-342
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn files_of_branches_tags_and_commits_are_fetched_from_every_kind_of_server() {
    if backend().is_none() {
        return skip("files_of_branches_tags_and_commits_are_fetched_from_every_kind_of_server");
    }
    let root = tempfile::tempdir().expect("a directory");
    let [first, second] = repository(root.path());
    let local = Local::start().await;
    fast(&local, json!({"local-repositories": root.path()})).await;
    let mut urls = vec![(
        "file".to_owned(),
        format!("file://{}/repo.git", root.path().display()),
    )];
    for serving in [Serving::Lazily, Serving::Whole, Serving::AsOfOld] {
        let address = serve(root.path(), serving, None).await;
        let name = format!("{serving:?}").to_lowercase();
        urls.push((name, format!("http://{address}/repo.git")));
    }
    for (server, url) in urls {
        let ask = async |name: &str, revision: &str, path: &str| {
            let params =
                json!({"url": url, "revision": revision, "pathInRepo": path, "cache": "never"});
            local
                .resolve(&format!("{server}-{name}"), "git", params)
                .await
        };
        for (name, revision, path, expected, commit) in [
            (
                "branch",
                "main",
                "tasks/one.yaml",
                named("changed"),
                &second,
            ),
            ("head", "HEAD", "/tasks/one.yaml", named("changed"), &second),
            (
                "full",
                "refs/heads/main",
                "tasks/deep/two.yaml",
                named("two"),
                &second,
            ),
            ("tag", "v1", "tasks/one.yaml", TASK.to_owned(), &first),
            (
                "commit",
                second.as_str(),
                "tasks/one.yaml",
                named("changed"),
                &second,
            ),
            ("link", "main", "tasks/link.yaml", named("changed"), &second),
            ("dir", "main", "tasks/dir/two.yaml", named("two"), &second),
        ] {
            let status = ask(name, revision, path).await;
            assert_eq!(data(&status), expected, "{server} {name}");
            let path = path.trim_start_matches('/');
            assert_eq!(
                status["refSource"],
                json!({"uri": format!("git+{url}"), "digest": {"sha1": commit}, "entryPoint": path}),
                "{server} {name}"
            );
            assert_eq!(
                status["annotations"],
                json!({
                    "resolution.tekton.dev/revision": commit, "resolution.tekton.dev/path": path,
                    "resolution.tekton.dev/url": url, "resolution.tekton.dev/content-type": "application/x-yaml",
                })
            );
        }
        for path in ["tasks/large.yaml", "tasks/larger.yaml"] {
            let name = path.replace(['/', '.'], "-");
            assert!(data(&ask(&name, "main", path).await).contains("# line 199"));
        }
        let key = |name: &str| format!("error getting \"Git\" \"default/{server}-{name}\": ");
        for (name, path, expected) in [
            ("absent", "tasks/none.yaml", "file does not exist"),
            ("through-file", "tasks/one.yaml/x", "file does not exist"),
            ("directory", "tasks", "read tasks: is a directory"),
            ("circle", "tasks/circle", "too many links"),
            (
                "absolute",
                "tasks/absolute",
                "path \"tasks/absolute\" attempts to escape the repository directory (possible path traversal attack)",
            ),
            (
                "relative",
                "tasks/relative",
                "path \"tasks/relative\" attempts to escape the repository directory (possible path traversal attack)",
            ),
        ] {
            let status = ask(name, "main", path).await;
            assert_eq!(
                failure(&status).1,
                format!("{}error opening file {path:?}: {expected}", key(name))
            );
        }
        let status = ask("noref", "nope", "x").await;
        assert_eq!(
            failure(&status).1,
            format!(
                "{}git fetch error: fatal: couldn't find remote ref nope: exit status 128",
                key("noref")
            )
        );
        let status = ask("nocommit", &"1".repeat(40), "x").await;
        assert!(
            failure(&status)
                .1
                .starts_with(&format!("{}git fetch error: fatal: ", key("nocommit"))),
            "{status:#}"
        );
    }
}

/// P-334, P-335, P-337
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_opens_a_closed_server_and_goes_nowhere_else() {
    if backend().is_none() {
        return skip("a_token_opens_a_closed_server_and_goes_nowhere_else");
    }
    let root = tempfile::tempdir().expect("a directory");
    repository(root.path());
    // git:s3cret
    let closed = serve(root.path(), Serving::Lazily, Some("Basic Z2l0OnMzY3JldA==")).await;
    let local = Local::start().await;
    fast(&local, json!({})).await;
    local
        .create(
            "default",
            "Secret",
            "s",
            json!({"stringData": {"token": "s3cret\n", "bad": "x"}}),
        )
        .await;
    let ask = async |name: &str, path: &str, token: Value| {
        let mut params =
            json!({"url": format!("http://{closed}/{path}"), "pathInRepo": "tasks/one.yaml"});
        for (key, value) in token.as_object().into_iter().flatten() {
            params[key] = value.clone();
        }
        local.resolve(name, "git", params).await
    };
    let status = ask("right", "repo.git", json!({"gitToken": "s"})).await;
    assert_eq!(data(&status), named("changed"));
    let error =
        |name: &str, text: &str| format!("error getting \"Git\" \"default/{name}\": {text}");
    for (name, path, token, expected) in [
        (
            "none",
            "repo.git",
            json!({}),
            "error resolving repository: clone error: authentication required".to_owned(),
        ),
        (
            "wrong",
            "repo.git",
            json!({"gitToken": "s", "gitTokenKey": "bad"}),
            format!(
                "error resolving repository: git clone error: fatal: Authentication failed for 'http://{closed}/repo.git/': exit status 128"
            ),
        ),
        (
            "nosecret",
            "repo.git",
            json!({"gitToken": "t"}),
            "cannot get API token, secret t not found in namespace default".to_owned(),
        ),
        (
            "nokey",
            "repo.git",
            json!({"gitToken": "s", "gitTokenKey": "k"}),
            "cannot get API token, key k not found in secret s in namespace default".to_owned(),
        ),
        (
            "norepo",
            "absent.git",
            json!({"gitToken": "s"}),
            format!(
                "error resolving repository: git clone error: fatal: repository 'http://{closed}/absent.git/' not found: exit status 128"
            ),
        ),
    ] {
        let status = ask(name, path, token).await;
        assert_eq!(failure(&status).1, error(name, &expected));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn local_repositories_are_read_below_their_root_only() {
    let root = tempfile::tempdir().expect("a directory");
    let inside = root.path().join("inside");
    std::fs::create_dir(&inside).expect("a directory");
    let outside = root.path().join("outside");
    std::fs::create_dir(&outside).expect("a directory");
    repository(&inside);
    repository(&outside);
    symlink(&outside, inside.join("way-out")).expect("a link");
    let local = Local::start().await;
    fast(&local, json!({"local-repositories": inside})).await;
    let inside = inside.display();
    let ask = async |name: &str, url: String| {
        local
            .resolve(
                name,
                "git",
                json!({"url": url, "pathInRepo": "tasks/one.yaml"}),
            )
            .await
    };
    assert_eq!(
        data(&ask("inside", format!("file://{inside}/repo.git")).await),
        named("changed")
    );
    for (name, url) in [
        ("dots", format!("file://{inside}/../outside/repo.git")),
        ("link", format!("file://{inside}/way-out/repo.git")),
        ("other", format!("file://{}/repo.git", outside.display())),
        ("host", "file://server/etc".to_owned()),
    ] {
        let status = ask(name, url).await;
        assert!(
            failure(&status).1.contains("not a repository below"),
            "{name}: {status:#}"
        );
    }
    let status = ask("none", format!("file://{inside}")).await;
    assert!(
        failure(&status)
            .1
            .contains("does not appear to be a git repository"),
        "{status:#}"
    );
}

/// P-321, P-340: what hangs is given up, and the request ends by its own deadline.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn servers_that_hang_or_are_none_do_no_harm() {
    let local = Local::start().await;
    local
        .create(
            "tekton-pipelines",
            "ConfigMap",
            "config-defaults",
            json!({"data": {"default-maximum-resolution-timeout": "1s"}}),
        )
        .await;
    fast(&local, json!({"fetch-timeout": "200ms"})).await;
    let hangs = Router::new().fallback(|| async { std::future::pending::<&str>().await });
    let hangs = support::serve(hangs).await;
    // Accepts, and says nothing.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let silent = (silent.local_addr().expect("an address"), silent);
    for (name, url) in [
        ("http", format!("http://{hangs}/repo.git")),
        ("tcp", format!("git://{}/repo.git", silent.0)),
    ] {
        let status = local
            .resolve(name, "git", json!({"url": url, "pathInRepo": "x"}))
            .await;
        assert_eq!(failure(&status).0, "ResolutionTimedOut", "{name}");
    }
    let page = support::serve(Router::new().fallback(|| async { "<html>hello</html>" })).await;
    for (name, url, expected) in [
        (
            "page",
            format!("http://{page}/repo.git"),
            "protocol error: bad line length character: <htm",
        ),
        (
            "ssh",
            "git@example.com:org/repo.git".to_owned(),
            "only http, https and git URLs are fetched",
        ),
        (
            "metadata",
            "http://169.254.169.254/repo.git".to_owned(),
            "forbidden by the address policy",
        ),
        (
            "metadata-git",
            "git://169.254.169.254/repo.git".to_owned(),
            "forbidden by the address policy",
        ),
    ] {
        let status = local
            .resolve(name, "git", json!({"url": url, "pathInRepo": "x"}))
            .await;
        assert!(failure(&status).1.contains(expected), "{name}: {status:#}");
    }
}

/// P-336, P-337, P-338, P-339, P-342
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn files_are_read_through_a_providers_api_with_its_token() {
    use base64::Engine as _;
    let content = base64::engine::general_purpose::STANDARD.encode(TASK);
    let known =
        |headers: &HeaderMap| match headers.get("authorization").and_then(|v| v.to_str().ok()) {
            Some("token t0ken") => Ok(()),
            _ => Err((
                StatusCode::UNAUTHORIZED,
                axum::Json(json!({"message": "user does not exist"})),
            )),
        };
    let file = move |headers: HeaderMap, UrlPath(path): UrlPath<String>| {
        let content = content.clone();
        async move {
            known(&headers)?;
            match path.as_str() {
                "tasks/t.yaml" => Ok(axum::Json(json!({"content": content}))),
                "empty.yaml" => Ok(axum::Json(json!({"content": ""}))),
                _ => Err((StatusCode::NOT_FOUND, axum::Json(json!({})))),
            }
        }
    };
    let commit = |UrlPath(revision): UrlPath<String>| async move {
        match revision.as_str() {
            "main" => Ok(axum::Json(json!({"sha": "c0ffee"}))),
            _ => Err(StatusCode::INTERNAL_SERVER_ERROR),
        }
    };
    let provider = Router::new()
        .route("/api/v1/repos/o/r/contents/{*path}", get(file))
        .route("/api/v1/repos/o/r/git/commits/{*revision}", get(commit))
        .route(
            "/api/v1/repos/o/r",
            get(|| async { axum::Json(json!({"clone_url": "https://scm.example/o/r.git"})) }),
        );
    let server = format!("http://{}", support::serve(provider).await);
    let local = Local::start().await;
    fast(
        &local,
        json!({"scm-type": "gitea", "server-url": server, "default-org": "o",
            "api-token-secret-name": "s", "api-token-secret-key": "k", "api-token-secret-namespace": "default"}),
    )
    .await;
    let secret = json!({"stringData": {"k": "t0ken", "bad": "x"}});
    local.create("default", "Secret", "s", secret).await;
    let ask = async |name: &str, path: &str, extra: Value| {
        let mut params = json!({"repo": "r", "pathInRepo": path});
        for (key, value) in extra.as_object().into_iter().flatten() {
            params[key] = value.clone();
        }
        local.resolve(name, "git", params).await
    };
    let status = ask("file", "tasks/t.yaml", json!({})).await;
    assert_eq!(data(&status), TASK);
    assert_eq!(
        status["refSource"],
        json!({"uri": "git+https://scm.example/o/r.git", "digest": {"sha1": "c0ffee"}, "entryPoint": "tasks/t.yaml"})
    );
    assert_eq!(status["annotations"]["resolution.tekton.dev/org"], "o");
    assert_eq!(status["annotations"]["resolution.tekton.dev/repo"], "r");
    for (name, path, extra, expected) in [
        ("absent", "none.yaml", json!({}), "couldn't fetch resource content: Not Found".to_owned()),
        ("empty", "empty.yaml", json!({}), "no content for resource in o/r empty.yaml".to_owned()),
        (
            "nocommit",
            "tasks/t.yaml",
            json!({"revision": "other"}),
            "couldn't fetch the commit sha for the ref other in the repo: 500 Internal Server Error".to_owned(),
        ),
        (
            "mine",
            "tasks/t.yaml",
            json!({"token": "s", "tokenKey": "bad"}),
            "couldn't fetch resource content: user does not exist".to_owned(),
        ),
        (
            "elsewhere",
            "tasks/t.yaml",
            json!({"serverURL": "http://127.0.0.1:1"}),
            "custom serverURL \"http://127.0.0.1:1\" requires a token parameter; the system token cannot be sent to a non-default server URL".to_owned(),
        ),
    ] {
        let status = ask(name, path, extra).await;
        assert_eq!(
            failure(&status).1,
            format!("error getting \"Git\" \"default/{name}\": {expected}")
        );
    }
}
