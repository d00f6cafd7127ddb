//! The durable store: restarts, and crashes at any moment.

mod support;

use std::collections::BTreeSet;
use std::io::{Read as _, Write as _};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::{Value, json};
use support::{WIDGETS, client, get, post, widget, widgets};
use tektite_apiserver::{ApiServer, Options, Store};

async fn open(directory: &Path) -> ApiServer {
    let options = Options {
        store: Store::Durable(directory.into()),
        ..Options::default()
    };
    ApiServer::start(options).await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restart_keeps_objects_definitions_and_the_order_of_revisions() {
    // K-048
    let directory = tempfile::tempdir().unwrap();
    let server = open(directory.path()).await;
    let first = client(&server);
    post(
        &first,
        "/apis/apiextensions.k8s.io/v1/customresourcedefinitions",
        widgets(json!({"strategy": "None"})),
    )
    .await;
    let (_, made) = post(&first, WIDGETS, widget("w", 4)).await;
    support::send(
        &first,
        "DELETE",
        "/api/v1/namespaces/kube-public",
        "",
        Value::Null,
    )
    .await;
    server.shutdown().await;
    drop((server, first));
    let server = open(directory.path()).await;
    let second = client(&server);
    let (code, found) = get(&second, &format!("{WIDGETS}/w")).await;
    assert_eq!((code, &found), (200, &made));
    let (_, later) = post(&second, WIDGETS, widget("x", 1)).await;
    let revision = |value: &Value| {
        value["metadata"]["resourceVersion"]
            .as_str()
            .unwrap()
            .parse::<u64>()
            .unwrap()
    };
    assert!(revision(&later) > revision(&made));
    // History does not survive: a watch from before the restart must list again (K-137).
    let (code, event) = get(
        &second,
        &format!("{WIDGETS}?watch=true&resourceVersion={}", revision(&made)),
    )
    .await;
    assert_eq!(
        (
            code,
            event["type"].as_str(),
            event["object"]["code"].as_i64()
        ),
        (200, Some("ERROR"), Some(410))
    );
    server.shutdown().await;
}

const CRASH_DIRECTORY: &str = "APISERVER_CRASH_TEST_DIRECTORY";

/// The child of the crash test: writes until it is killed and prints the names of acknowledged objects.
async fn write_for_ever(directory: &Path) {
    let server = open(directory).await;
    let client = client(&server);
    let stamp = std::process::id();
    let writers = (0..8).map(|writer| {
        let client = client.clone();
        tokio::spawn(async move {
            for number in 0u64.. {
                let name = format!("m-{stamp}-{writer}-{number}");
                let body = json!({"metadata": {"name": name}, "data": {"n": "x"}});
                if post(&client, "/api/v1/namespaces/default/configmaps", body)
                    .await
                    .0
                    == 201
                {
                    let mut out = std::io::stdout().lock();
                    let _ = writeln!(out, "{name}").and_then(|()| out.flush());
                }
            }
        })
    });
    futures::future::join_all(writers).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn acknowledged_writes_survive_a_kill_at_any_moment() {
    if let Some(directory) = std::env::var_os(CRASH_DIRECTORY) {
        return write_for_ever(Path::new(&directory)).await;
    }
    let directory = tempfile::tempdir().unwrap();
    let mut acknowledged = BTreeSet::new();
    for round in 0..4u64 {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args([
                "--exact",
                "acknowledged_writes_survive_a_kill_at_any_moment",
                "--nocapture",
            ])
            .env(CRASH_DIRECTORY, directory.path())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut stdout = child.stdout.take().unwrap();
        let reader = std::thread::spawn(move || {
            let mut text = String::new();
            let _ = stdout.read_to_string(&mut text);
            text
        });
        tokio::time::sleep(Duration::from_millis(500 + 137 * round)).await;
        child.kill().unwrap();
        child.wait().unwrap();
        let text = reader.join().unwrap();
        let complete = text.rsplit_once('\n').map_or("", |(complete, _)| complete);
        acknowledged.extend(
            complete
                .lines()
                .filter(|line| line.starts_with("m-"))
                .map(str::to_owned),
        );
    }
    assert!(!acknowledged.is_empty());
    let server = open(directory.path()).await;
    let (_, list) = get(&client(&server), "/api/v1/namespaces/default/configmaps").await;
    let stored: BTreeSet<String> = list["items"]
        .as_array()
        .unwrap()
        .iter()
        .map(|item| item["metadata"]["name"].as_str().unwrap().to_owned())
        .collect();
    let lost: Vec<&String> = acknowledged.difference(&stored).collect();
    assert!(
        lost.is_empty(),
        "{} of {} acknowledged writes are lost",
        lost.len(),
        acknowledged.len()
    );
    server.shutdown().await;
}
