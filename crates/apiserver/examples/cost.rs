//! What a create and a patch cost in process, and what many finished objects weigh. Run with `--release`.

use std::time::Instant;

use http_body_util::Full;
use serde_json::json;
use tektite_apiserver::{ApiServer, ClientService, Identity, Options, Store};
use tower::ServiceExt as _;

async fn send(
    service: &ClientService,
    method: &str,
    uri: &str,
    media: &str,
    body: String,
) -> http::StatusCode {
    let request = http::Request::builder()
        .method(method)
        .uri(uri)
        .header("content-type", media)
        .body(Full::from(body));
    match (request, service.clone()) {
        (Ok(request), service) => {
            let Ok(response) = service.oneshot(request).await;
            response.status()
        }
        (Err(_), _) => http::StatusCode::BAD_REQUEST,
    }
}

fn resident() -> u64 {
    let text = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    text.split(' ')
        .nth(1)
        .and_then(|pages| pages.parse::<u64>().ok())
        .unwrap_or(0)
        * 4
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let start = Instant::now();
    let store = std::env::args()
        .nth(1)
        .map_or(Store::Memory, |directory| Store::Durable(directory.into()));
    let server = ApiServer::start(Options {
        store,
        ..Options::default()
    })
    .await?;
    println!("start: {:?}, resident {} KiB", start.elapsed(), resident());
    let service = server.client_service(Identity::admin());
    let step = |index: usize| {
        json!({
            "name": format!("step-{index}"), "image": "busybox:1", "command": ["/tekton/bin/entrypoint"],
            "args": ["-wait_file", "/tekton/run/0/out", "-post_file", "/tekton/run/1/out", "-termination_path", "/tekton/termination",
                "-step_metadata_dir", "/tekton/run/0/status", "-entrypoint", "/bin/sh", "--", "-c", "echo hello"],
            "volumeMounts": [{"name": "bin", "mountPath": "/tekton/bin"}, {"name": "run", "mountPath": "/tekton/run"}],
        })
    };
    let pod = json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"generateName": "run-", "labels": {"app": "x", "run": "y"}},
        "spec": {"restartPolicy": "Never", "containers": [step(0), step(1)], "volumes": [{"name": "bin"}, {"name": "run"}]},
    })
    .to_string();
    let count = 2000u32;
    let pods = "/api/v1/namespaces/default/pods";
    let began = Instant::now();
    for _ in 0..count {
        let code = send(&service, "POST", pods, "application/json", pod.clone()).await;
        assert_eq!(code, http::StatusCode::CREATED);
    }
    println!("create of a pod: {:?}", began.elapsed() / count);
    send(
        &service,
        "POST",
        pods,
        "application/json",
        pod.replace("\"generateName\":\"run-\"", "\"name\":\"p\""),
    )
    .await;
    let began = Instant::now();
    for number in 0..count {
        let patch = json!({"metadata": {"annotations": {"n": number.to_string()}}}).to_string();
        send(
            &service,
            "PATCH",
            &format!("{pods}/p"),
            "application/merge-patch+json",
            patch,
        )
        .await;
    }
    println!("merge patch of a pod: {:?}", began.elapsed() / count);
    println!("resident with {count} pods: {} KiB", resident());
    Ok(())
}
