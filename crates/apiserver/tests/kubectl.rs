//! kubectl itself against a server on a socket: every command a user of `up` needs.

mod support;

use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::future::BoxFuture;
use futures::stream::{self, BoxStream, StreamExt as _};
use serde_json::json;
use support::https::{Served, kubectl_missing, serve};
use support::{client, pod, post, send, widgets};
use tektite_apiserver::{Kubelet, LogError, LogOptions};
use tokio::io::{AsyncBufReadExt as _, BufReader};

async fn with_widgets() -> Served {
    let served = serve().await;
    let text = widgets(json!({"strategy": "None"})).to_string();
    assert_eq!(
        served.ok(&["create", "-f", "-"], &text).await,
        "customresourcedefinition.apiextensions.k8s.io/widgets.example.com created"
    );
    served
}

const WIDGET: &str = "
apiVersion: example.com/v1
kind: Widget
metadata: {name: w, labels: {app: x}}
spec: {size: 1}
";
const MAP: &str = "
apiVersion: v1
kind: ConfigMap
metadata: {name: m}
data: {a: '1', b: '2'}
";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn manifests_are_applied_changed_and_left_alone() {
    // K-015, K-016, K-029, K-030, K-031, K-033
    if kubectl_missing("manifests_are_applied_changed_and_left_alone") {
        return;
    }
    let served = with_widgets().await;
    for (text, name) in [(WIDGET, "widget.example.com/w"), (MAP, "configmap/m")] {
        assert_eq!(
            served.ok(&["apply", "-f", "-"], text).await,
            format!("{name} created")
        );
        assert_eq!(
            served.ok(&["apply", "-f", "-"], text).await,
            format!("{name} unchanged")
        );
        assert_eq!(served.ok(&["diff", "-f", "-"], text).await, "");
    }
    let changed = WIDGET.replace("size: 1", "size: 2");
    assert_eq!(
        served.ok(&["apply", "-f", "-"], &changed).await,
        "widget.example.com/w configured"
    );
    assert_eq!(
        served
            .ok(&["get", "widget", "w", "-o", "jsonpath={.spec.size}"], "")
            .await,
        "2"
    );
    // A key that left the manifest leaves the object: kubectl found the merge rules.
    served
        .ok(&["apply", "-f", "-"], &MAP.replace(", b: '2'", ""))
        .await;
    assert_eq!(
        served
            .ok(&["get", "cm", "m", "-o", "jsonpath={.data}"], "")
            .await,
        "{\"a\":\"1\"}"
    );
    let dry = served
        .ok(
            &["apply", "--dry-run=server", "-f", "-"],
            &MAP.replace("'1'", "'9'"),
        )
        .await;
    assert_eq!(dry, "configmap/m configured (server dry run)");
    let diff = served
        .run(&["diff", "-f", "-"], &MAP.replace("'1'", "'9'"))
        .await;
    assert!(String::from_utf8_lossy(&diff.stdout).contains("+  a: \"9\""));
    let unknown = served
        .fails(
            &["apply", "-f", "-"],
            &WIDGET.replace("size: 1", "size: 1, nope: 2"),
        )
        .await;
    assert!(
        unknown.contains("strict decoding error: unknown field \"spec.nope\""),
        "{unknown}"
    );
    let pod_text = pod("p").to_string();
    served.ok(&["apply", "-f", "-"], &pod_text).await;
    assert_eq!(
        served.ok(&["apply", "-f", "-"], &pod_text).await,
        "pod/p unchanged"
    );
    let image = pod_text.replace("busybox:1", "busybox:2");
    assert_eq!(
        served.ok(&["apply", "-f", "-"], &image).await,
        "pod/p configured"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn server_side_apply_works_alone_and_after_client_side_apply() {
    // K-032, K-113, K-114, K-115
    if kubectl_missing("server_side_apply_works_alone_and_after_client_side_apply") {
        return;
    }
    let served = with_widgets().await;
    let ssa = ["apply", "--server-side", "-f", "-"];
    assert_eq!(
        served.ok(&ssa, WIDGET).await,
        "widget.example.com/w serverside-applied"
    );
    let other = ["apply", "--server-side", "--field-manager=other", "-f", "-"];
    let conflict = served
        .fails(&other, &WIDGET.replace("size: 1", "size: 2"))
        .await;
    assert!(
        conflict.contains("conflict with \"kubectl\": .spec.size"),
        "{conflict}"
    );
    served.ok(&["apply", "-f", "-"], MAP).await;
    assert_eq!(served.ok(&ssa, MAP).await, "configmap/m serverside-applied");
    served.ok(&ssa, &MAP.replace(", b: '2'", "")).await;
    assert_eq!(
        served
            .ok(&["get", "cm", "m", "-o", "jsonpath={.data}"], "")
            .await,
        "{\"a\":\"1\"}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn objects_are_shown_in_every_form() {
    // K-005, K-007, K-008, K-025, K-026, K-044, K-045, K-145, K-147, K-152, K-160, K-168
    if kubectl_missing("objects_are_shown_in_every_form") {
        return;
    }
    let served = with_widgets().await;
    served.ok(&["create", "-f", "-"], WIDGET).await;
    served
        .ok(&["create", "-f", "-"], &pod("p").to_string())
        .await;
    assert_eq!(served.ok(&["get", "wd"], "").await, "NAME   SIZE\nw      1");
    assert_eq!(
        served
            .ok(
                &["get", "widgets.example.com", "-l", "app=x", "-o", "name"],
                ""
            )
            .await,
        "widget.example.com/w"
    );
    assert_eq!(served.ok(&["get", "wd", "-l", "app=y"], "").await, "");
    let all = served.ok(&["get", "wd", "-A"], "").await;
    assert!(
        all.contains("NAMESPACE   NAME   SIZE\ndefault     w      1"),
        "{all}"
    );
    let row = served.ok(&["get", "pods", "--no-headers"], "").await;
    let cells: Vec<&str> = row.split_whitespace().collect();
    assert_eq!(&cells[..4], ["p", "0/1", "Pending", "0"]);
    let yaml = served.ok(&["get", "wd", "w", "-o", "yaml"], "").await;
    assert!(
        yaml.contains("kind: Widget") && yaml.contains("  color: red"),
        "{yaml}"
    );
    let list: serde_json::Value =
        serde_json::from_str(&served.ok(&["get", "cm", "-o", "json"], "").await).unwrap();
    assert_eq!(list["items"][0]["metadata"]["name"], "kube-root-ca.crt");
    let all = served.ok(&["get", "all"], "").await;
    assert!(
        all.contains("pod/p") && all.contains("widget.example.com/w"),
        "{all}"
    );
    for kind in [
        "ns", "secrets", "sa", "pvc", "events", "nodes", "crd", "sts", "deploy", "leases", "roles",
    ] {
        served.ok(&["get", kind], "").await;
    }
    let resources = served
        .ok(&["api-resources", "--api-group=example.com"], "")
        .await;
    assert!(
        resources.contains("widgets   wd           example.com/v1   true         Widget"),
        "{resources}"
    );
    let missing = served.fails(&["get", "pod", "none"], "").await;
    assert_eq!(
        missing,
        "Error from server (NotFound): pods \"none\" not found"
    );
    let unknown = served.fails(&["get", "nothings"], "").await;
    assert_eq!(
        unknown,
        "error: the server doesn't have a resource type \"nothings\""
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kinds_are_explained() {
    // K-013, K-017, K-018
    if kubectl_missing("kinds_are_explained") {
        return;
    }
    let served = with_widgets().await;
    let text = served.ok(&["explain", "widget.spec"], "").await;
    assert!(
        text.contains("size\t<integer> -required-") && text.contains("color\t<string>"),
        "{text}"
    );
    let text = served.ok(&["explain", "pod.spec.containers"], "").await;
    assert!(text.contains("image\t<string>"), "{text}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn objects_are_described_labelled_annotated_patched_scaled_and_deleted() {
    // K-028, K-034, K-035, K-043, K-083
    if kubectl_missing("objects_are_described_labelled_annotated_patched_scaled_and_deleted") {
        return;
    }
    let served = with_widgets().await;
    served.ok(&["create", "-f", "-"], WIDGET).await;
    served
        .ok(&["create", "-f", "-"], &pod("p").to_string())
        .await;
    for (arguments, expected) in [
        (
            &["label", "wd", "w", "tier=gold"][..],
            "widget.example.com/w labeled",
        ),
        (&["annotate", "pod", "p", "note=yes"][..], "pod/p annotated"),
        (
            &[
                "patch",
                "wd",
                "w",
                "--type=merge",
                "-p",
                "{\"spec\":{\"size\":7}}",
            ][..],
            "widget.example.com/w patched",
        ),
        (
            &[
                "patch",
                "pod",
                "p",
                "-p",
                "{\"metadata\":{\"labels\":{\"q\":\"r\"}}}",
            ][..],
            "pod/p patched",
        ),
        (
            &["create", "configmap", "c", "--from-literal=a=b"][..],
            "configmap/c created",
        ),
        (
            &["create", "secret", "generic", "s", "--from-literal=a=b"][..],
            "secret/s created",
        ),
        (
            &["create", "namespace", "other"][..],
            "namespace/other created",
        ),
        (
            &["create", "deployment", "d", "--image=busybox:1"][..],
            "deployment.apps/d created",
        ),
        (
            &["scale", "deployment", "d", "--replicas=3"][..],
            "deployment.apps/d scaled",
        ),
        (
            &["delete", "wd", "w"][..],
            "widget.example.com \"w\" deleted",
        ),
        (&["delete", "pod", "p"][..], "pod \"p\" deleted"),
        (&["delete", "cm", "c"][..], "configmap \"c\" deleted"),
    ] {
        let found = served.ok(arguments, "").await;
        assert!(found.starts_with(expected), "{arguments:?}: {found}");
    }
    assert_eq!(
        served
            .ok(
                &["get", "deploy", "d", "-o", "jsonpath={.spec.replicas}"],
                ""
            )
            .await,
        "3"
    );
    let client = client(&served.server);
    post(&client, "/api/v1/namespaces/default/pods", pod("q")).await;
    let (_, found) = support::get(&client, "/api/v1/namespaces/default/pods/q").await;
    let event = json!({
        "metadata": {"name": "q.1"}, "reason": "Pulled", "message": "got it", "type": "Normal",
        "involvedObject": {"kind": "Pod", "name": "q", "namespace": "default", "uid": found["metadata"]["uid"]},
    });
    post(&client, "/api/v1/namespaces/default/events", event).await;
    let text = served.ok(&["describe", "pod", "q"], "").await;
    assert!(
        text.contains("busybox:1") && text.contains("got it"),
        "{text}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn waits_and_watches_see_changes() {
    // K-027, K-037, K-141, K-163
    if kubectl_missing("waits_and_watches_see_changes") {
        return;
    }
    let served = with_widgets().await;
    let crd = "crd/widgets.example.com";
    let text = served
        .ok(
            &["wait", "--for=condition=Established", crd, "--timeout=20s"],
            "",
        )
        .await;
    assert_eq!(
        text,
        "customresourcedefinition.apiextensions.k8s.io/widgets.example.com condition met"
    );
    served.ok(&["create", "-f", "-"], WIDGET).await;
    let mut watching = served.spawn(&["get", "wd", "-w", "--no-headers"]);
    let mut lines = BufReader::new(watching.stdout.take().unwrap()).lines();
    assert_eq!(
        lines
            .next_line()
            .await
            .unwrap()
            .unwrap()
            .split_whitespace()
            .collect::<Vec<_>>(),
        ["w", "1"]
    );
    let client = client(&served.server);
    let uri = "/apis/example.com/v1/namespaces/default/widgets/w";
    let merge = "application/merge-patch+json";
    let waiting = served.ok(
        &[
            "wait",
            "--for=jsonpath={.status.phase}=Done",
            "wd/w",
            "--timeout=20s",
        ],
        "",
    );
    let later = async {
        tokio::time::sleep(Duration::from_millis(500)).await;
        send(&client, "PATCH", uri, merge, json!({"spec": {"size": 5}})).await;
        send(
            &client,
            "PATCH",
            &format!("{uri}/status"),
            merge,
            json!({"status": {"phase": "Done"}}),
        )
        .await;
    };
    let (text, ()) = tokio::join!(waiting, later);
    assert_eq!(text, "widget.example.com/w condition met");
    let next = tokio::time::timeout(Duration::from_secs(20), lines.next_line())
        .await
        .unwrap()
        .unwrap()
        .unwrap();
    assert_eq!(next.split_whitespace().collect::<Vec<_>>(), ["w", "5"]);
}

/// Says which container was asked for, then, when following, one more line a moment later.
struct Echo;

impl Kubelet for Echo {
    fn logs<'a>(
        &'a self,
        _: &'a str,
        pod: &'a str,
        _: &'a str,
        container: &'a str,
        options: LogOptions,
    ) -> BoxFuture<'a, Result<BoxStream<'static, io::Result<Bytes>>, LogError>> {
        let first = Bytes::from(format!("{pod}/{container} {:?}\n", options.tail_lines));
        let waiting = LogError::Waiting {
            pod: pod.into(),
            container: container.into(),
            reason: "ContainerCreating".into(),
        };
        let result = if pod == "slow" {
            Err(waiting)
        } else {
            let mut chunks = vec![first];
            if options.follow {
                chunks.push(Bytes::from_static(b"later\n"));
            }
            let stream = stream::iter(chunks).then(|chunk| async move {
                tokio::time::sleep(Duration::from_millis(50)).await;
                Ok(chunk)
            });
            Ok(stream.boxed())
        };
        Box::pin(async move { result })
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn logs_come_from_the_kubelet() {
    // K-038, K-326, K-327, K-328, K-329, K-331
    if kubectl_missing("logs_come_from_the_kubelet") {
        return;
    }
    let served = serve().await;
    served.server.set_kubelet(Arc::new(Echo));
    let client = client(&served.server);
    for name in ["p", "slow"] {
        let mut body = pod(name);
        body["spec"]["containers"] =
            json!([{"name": "a", "image": "i:1"}, {"name": "b", "image": "i:1"}]);
        body["spec"]["nodeName"] = json!("n");
        post(&client, "/api/v1/namespaces/default/pods", body).await;
    }
    assert_eq!(
        served.ok(&["logs", "p", "-c", "a", "--tail=3"], "").await,
        "p/a Some(3)"
    );
    assert_eq!(
        served.ok(&["logs", "-f", "p", "-c", "b"], "").await,
        "p/b None\nlater"
    );
    let error = served.fails(&["logs", "slow", "-c", "a"], "").await;
    assert!(
        error.ends_with("container \"a\" in pod \"slow\" is waiting to start: ContainerCreating"),
        "{error}"
    );
    let uri = "/api/v1/namespaces/default/pods/p/log";
    for (query, code, text) in [
        (
            "",
            400,
            "a container name must be specified for pod p, choose one of: [a b]",
        ),
        ("?container=c", 400, "container c is not valid for pod p"),
        (
            "?container=a&tailLines=-1",
            422,
            "PodLogOptions \"\" is invalid: tailLines: Invalid value: -1: must be greater than or equal to 0",
        ),
        (
            "?container=a&stream=All",
            422,
            "PodLogOptions \"\" is invalid: stream: Forbidden: may not be specified",
        ),
    ] {
        let (found, status) = support::get(&client, &format!("{uri}{query}")).await;
        assert_eq!(
            (found, status["message"].as_str()),
            (code, Some(text)),
            "{query}"
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn access_is_reviewed_and_limited() {
    // K-042, K-089, K-090, K-209, K-212, K-215, K-218, K-220, K-221, K-222
    if kubectl_missing("access_is_reviewed_and_limited") {
        return;
    }
    let served = serve().await;
    assert_eq!(
        served.ok(&["auth", "can-i", "delete", "pods"], "").await,
        "yes"
    );
    let who = served
        .ok(
            &[
                "auth",
                "whoami",
                "-o",
                "jsonpath={.status.userInfo.username}",
            ],
            "",
        )
        .await;
    assert_eq!(who, "admin");
    let account = "system:serviceaccount:default:default";
    let denied = served
        .run(&["auth", "can-i", "list", "pods", "--as", account], "")
        .await;
    assert_eq!(String::from_utf8_lossy(&denied.stdout).trim(), "no");
    let error = served.fails(&["get", "pods", "--as", account], "").await;
    assert_eq!(
        error,
        "Error from server (Forbidden): pods is forbidden: User \"system:serviceaccount:default:default\" cannot list \
         resource \"pods\" in API group \"\" in the namespace \"default\""
    );
    served
        .ok(
            &[
                "create",
                "rolebinding",
                "v",
                "--clusterrole=view",
                "--serviceaccount=default:default",
            ],
            "",
        )
        .await;
    served.ok(&["get", "pods", "--as", account], "").await;
    served.fails(&["get", "secrets", "--as", account], "").await;
    let token = served.ok(&["create", "token", "default"], "").await;
    let server = format!("--server=https://127.0.0.1:{}", served.port);
    let ca = served.directory.path().join("ca.crt");
    std::fs::write(&ca, &served.ca).unwrap();
    let authority = format!("--certificate-authority={}", ca.display());
    let bearer = format!("--token={token}");
    let plain = [
        "--kubeconfig=/dev/null",
        server.as_str(),
        authority.as_str(),
    ];
    let with = |more: &[&'static str], token: &str| -> Vec<String> {
        plain
            .iter()
            .map(|text| (*text).to_owned())
            .chain([token.to_owned()])
            .chain(more.iter().map(|text| (*text).to_owned()))
            .collect()
    };
    let arguments = with(&["get", "pods"], &bearer);
    served
        .ok(
            &arguments.iter().map(String::as_str).collect::<Vec<_>>(),
            "",
        )
        .await;
    let arguments = with(&["get", "pods"], "--token=wrong");
    let error = served
        .fails(
            &arguments.iter().map(String::as_str).collect::<Vec<_>>(),
            "",
        )
        .await;
    assert!(
        error.contains("Unauthorized") || error.contains("You must be logged in"),
        "{error}"
    );
}
