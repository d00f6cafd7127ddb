//! Repositories made by the real program, served by its real HTTP backend.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use axum::Router;
use axum::body::{Body, Bytes, to_bytes};
use axum::extract::Request;
use axum::http::request::Parts;
use axum::http::{Response, StatusCode};
use tokio::io::AsyncWriteExt as _;

/// The program's own HTTP server, if it is installed.
pub fn backend() -> Option<PathBuf> {
    let output = Command::new("git").arg("--exec-path").output().ok()?;
    let path = String::from_utf8(output.stdout).ok()?;
    let backend = Path::new(path.trim()).join("git-http-backend");
    backend.is_file().then_some(backend)
}

/// Runs git in `directory`, without anybody's configuration.
pub fn git(directory: &Path, arguments: &[&str]) -> String {
    let output = Command::new("git")
        .args(["-c", "user.name=t", "-c", "user.email=t@example.com"])
        .args([
            "-c",
            "init.defaultBranch=main",
            "-c",
            "protocol.file.allow=always",
        ])
        .args(arguments)
        .current_dir(directory)
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .output()
        .expect("git starts");
    assert!(
        output.status.success(),
        "git {arguments:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

/// How a server answers.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Serving {
    /// As it is today, leaving file contents out when asked to.
    Lazily,
    /// As it is today, without that.
    Whole,
    /// As it was before protocol version 2.
    AsOfOld,
}

/// Serves the repositories below `root` by Git's own backend.
pub async fn serve(root: &Path, serving: Serving, login: Option<&'static str>) -> SocketAddr {
    let backend = backend().expect("git-http-backend");
    let root = root.to_owned();
    let answer = move |request: Request| {
        let (backend, root) = (backend.clone(), root.clone());
        async move {
            let (parts, body) = request.into_parts();
            let body = to_bytes(body, 1 << 20).await.expect("a body");
            let authorization = parts.headers.get("authorization");
            if login.is_some() && authorization.and_then(|value| value.to_str().ok()) != login {
                return refusal(StatusCode::UNAUTHORIZED);
            }
            cgi(&backend, &root, serving, parts, body).await
        }
    };
    crate::support::serve(Router::new().fallback(answer)).await
}

fn refusal(status: StatusCode) -> Response<Body> {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = status;
    response
}

async fn cgi(
    backend: &Path,
    root: &Path,
    serving: Serving,
    request: Parts,
    body: Bytes,
) -> Response<Body> {
    let header = |name: &str| {
        let value = request.headers.get(name);
        value
            .and_then(|value| value.to_str().ok())
            .unwrap_or_default()
            .to_owned()
    };
    let protocol = match serving {
        Serving::AsOfOld => String::new(),
        _ => header("git-protocol"),
    };
    let filter = if serving == Serving::Lazily {
        "true"
    } else {
        "false"
    };
    let mut child = tokio::process::Command::new(backend)
        .env_clear()
        .envs(std::env::var_os("PATH").map(|path| ("PATH", path)))
        .envs(HashMap::from([
            ("GIT_PROJECT_ROOT", root.display().to_string()),
            ("GIT_HTTP_EXPORT_ALL", "1".to_owned()),
            ("GIT_CONFIG_NOSYSTEM", "1".to_owned()),
            ("GIT_CONFIG_GLOBAL", "/dev/null".to_owned()),
            ("GIT_CONFIG_COUNT", "2".to_owned()),
            ("GIT_CONFIG_KEY_0", "safe.directory".to_owned()),
            ("GIT_CONFIG_VALUE_0", "*".to_owned()),
            ("GIT_CONFIG_KEY_1", "uploadpack.allowFilter".to_owned()),
            ("GIT_CONFIG_VALUE_1", filter.to_owned()),
            ("GIT_PROTOCOL", protocol),
            ("REQUEST_METHOD", request.method.to_string()),
            ("PATH_INFO", request.uri.path().to_owned()),
            (
                "QUERY_STRING",
                request.uri.query().unwrap_or_default().to_owned(),
            ),
            ("CONTENT_TYPE", header("content-type")),
            ("REMOTE_ADDR", "127.0.0.1".to_owned()),
        ]))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("the backend starts");
    let mut input = child.stdin.take().expect("a pipe");
    let _ = input.write_all(&body).await;
    drop(input);
    let output = child.wait_with_output().await.expect("the backend ends");
    let end = output
        .stdout
        .windows(4)
        .position(|bytes| bytes == b"\r\n\r\n")
        .unwrap_or(0);
    let mut response = Response::new(Body::from(
        output.stdout[(end + 4).min(output.stdout.len())..].to_vec(),
    ));
    for line in String::from_utf8_lossy(&output.stdout[..end]).lines() {
        match line.split_once(": ") {
            Some(("Status", status)) => {
                let code = status.split(' ').next().and_then(|code| code.parse().ok());
                *response.status_mut() = code.expect("a status");
            }
            Some((name, value)) => {
                let name: axum::http::HeaderName = name.parse().expect("a name");
                response
                    .headers_mut()
                    .insert(name, value.parse().expect("a value"));
            }
            None => {}
        }
    }
    response
}
