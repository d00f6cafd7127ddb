//! The components that a cluster runs as Deployments, started as upstream's are, beside an API server that is not theirs.

mod support;

use std::io::{Read as _, Write as _};
use std::net::TcpStream;

use support::component::{Component, LIMIT};
use support::{Up, eventually, has, skip, text};

/// The whole answer to a GET over plain HTTP.
fn get(port: u16, path: &str) -> String {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).expect("somebody listens");
    let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).expect("sent");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer");
    answer
}

const OBSERVABILITY: &str = "
apiVersion: v1
kind: ConfigMap
metadata: {name: config-observability, namespace: tekton-pipelines}
data: {metrics-protocol: prometheus}
";

/// Nobody fetches this, though it could be refused at once.
const REQUEST: &str = "
apiVersion: resolution.tekton.dev/v1beta1
kind: ResolutionRequest
metadata: {name: wanted, labels: {resolution.tekton.dev/type: git}}
spec: {params: []}
";

const RUN: &str = "
apiVersion: tekton.dev/v1
kind: TaskRun
metadata: {name: hello}
spec: {taskSpec: {steps: [{name: say, image: host, script: echo from the step}]}}
";

/// T-418, T-419, T-421, T-425, P-391, P-397: the arguments and variables of upstream's Deployment; the log of the run is
/// its pod's.
#[test]
fn the_controller_runs_as_upstreams_deployment_starts_it() {
    const TEST: &str = "the_controller_runs_as_upstreams_deployment_starts_it";
    if !has("kubectl") {
        return skip(
            TEST,
            "no kubectl on this machine (Debian: kubernetes-client)",
        );
    }
    let up = Up::start(&["--no-controller"]);
    up.kubectl_with(&["create", "-f", "-"], OBSERVABILITY);
    let arguments = [
        "controller",
        "-entrypoint-image",
        "tektite/entrypoint",
        "-nop-image",
        "tektite/entrypoint",
        "-sidecarlogresults-image",
        "tektite/entrypoint",
        "-workingdirinit-image",
        "other/workingdirinit",
        "-shell-image",
        "other/shell",
        "-shell-image-win",
        "other/shell",
        "-disable-ha=true",
        "-no-resolvers",
        "-namespace",
        "default",
    ];
    let environment = [
        ("PROBES_PORT", "0"),
        ("METRICS_PROMETHEUS_PORT", "0"),
        ("METRICS_PROMETHEUS_HOST", "127.0.0.1"),
        ("THREADS_PER_CONTROLLER", "1"),
        ("KUBE_API_QPS", "50"),
        ("KUBE_API_BURST", "50"),
    ];
    let controller = Component::start(&up, &arguments, &environment);
    let probes = controller.number_after("answering probes port=");
    for path in ["/", "/health", "/readiness"] {
        assert!(get(probes, path).starts_with("HTTP/1.1 200"), "{path}");
    }
    up.kubectl_with(&["create", "-f", "-"], REQUEST);
    up.kubectl_with(&["create", "-f", "-"], RUN);
    up.kubectl(&[
        "wait",
        "tr/hello",
        "--for=condition=Succeeded",
        "--timeout=60s",
    ]);
    let log = up.kubectl(&["logs", "hello-pod", "-c", "step-say"]);
    assert_eq!(log, "from the step\n");
    let metrics = controller.number_after("serving metrics address=127.0.0.1:");
    let page = get(metrics, "/metrics");
    let counted = "tekton_pipelines_controller_taskrun_total{status=\"success\",";
    assert!(page.contains(counted), "{page}");
    let reason = "jsonpath={.status.conditions[0].reason}";
    let reason = up.kubectl(&["get", "resolutionrequest", "wanted", "-o", reason]);
    assert_ne!(reason, "ResolutionFailed", "its resolvers are left off");
    let said = controller.said();
    for flag in [
        "--shell-image",
        "--shell-image-win",
        "--workingdirinit-image",
    ] {
        assert!(said.contains(&format!("flag=\"{flag}\"")), "{flag}: {said}");
    }
}

/// Leads the Service `outside` to `port` of this machine.
fn service(port: u16) -> String {
    format!(
        "
apiVersion: v1
kind: Service
metadata: {{name: outside, namespace: tekton-pipelines}}
spec: {{ports: [{{name: https-webhook, port: 443, targetPort: {port}}}]}}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {{name: outside, namespace: tekton-pipelines, labels: {{kubernetes.io/service-name: outside}}}}
addressType: IPv4
ports: [{{name: https-webhook, port: {port}}}]
endpoints: [{{addresses: [127.0.0.1], conditions: {{ready: true}}}}]
"
    )
}

const OLD_TASK: &str = "
apiVersion: tekton.dev/v1beta1
kind: Task
metadata: {name: old}
spec: {steps: [{image: host, script: 'true', resources: {limits: {cpu: 1}}}]}
";

const BAD_TASK: &str = "
apiVersion: tekton.dev/v1
kind: Task
metadata: {name: bad}
spec: {steps: []}
";

const BAD_CONFIG: &str = "
apiVersion: v1
kind: ConfigMap
metadata: {name: flags, namespace: tekton-pipelines, labels: {app.kubernetes.io/part-of: tekton-pipelines}}
data: {enable-api-fields: gamma}
";

/// P-011, T-422: the API server reaches a process of its own by TLS, with certificates from the Secret that are
/// made anew when they are gone; without that process nothing is admitted.
#[test]
fn webhooks_answer_from_a_process_of_their_own() {
    const TEST: &str = "webhooks_answer_from_a_process_of_their_own";
    if !has("kubectl") {
        return skip(
            TEST,
            "no kubectl on this machine (Debian: kubernetes-client)",
        );
    }
    let up = Up::start(&[]);
    let environment = [
        ("PROBES_PORT", "0"),
        ("WEBHOOK_PORT", "0"),
        ("WEBHOOK_SERVICE_NAME", "outside"),
        ("WEBHOOK_SECRET_NAME", "certificates"),
        ("CONFIG_FEATURE_FLAGS_NAME", "flags"),
    ];
    let mut webhook = Component::start(&up, &["webhook"], &environment);
    let port = webhook.number_after("webhooks answering on port ");
    up.kubectl_with(&["create", "-f", "-"], &service(port));
    eventually("the API server is told", LIMIT, || {
        webhook
            .said()
            .contains("the API server knows")
            .then_some(())
    });
    let probes = webhook.number_after("answering probes port=");
    assert!(get(probes, "/readiness").starts_with("HTTP/1.1 200"));

    up.kubectl_with(&["create", "-f", "-"], OLD_TASK);
    let limits = "jsonpath={.spec.steps[0].computeResources.limits.cpu}";
    assert_eq!(
        up.kubectl(&["get", "tasks.v1.tekton.dev", "old", "-o", limits]),
        "1"
    );
    let refused = up.kubectl_input(&["create", "-f", "-"], BAD_TASK);
    let denied = "admission webhook \"validation.webhook.pipeline.tekton.dev\" denied the request";
    assert!(text(&refused).contains(denied), "{}", text(&refused));
    let refused = up.kubectl_input(&["create", "-f", "-"], BAD_CONFIG);
    let denied = "invalid value for feature flag \"enable-api-fields\": \"gamma\"";
    assert!(text(&refused).contains(denied), "{}", text(&refused));

    let secret = ["-n", "tekton-pipelines", "secret", "certificates"];
    let authority = || {
        let mut get = up.kubectl_command(&["get"]);
        get.args(secret)
            .args(["-o", "jsonpath={.data.ca-cert\\.pem}"]);
        let output = get.output().expect("kubectl starts");
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    let before = authority();
    up.kubectl(&[&["delete"][..], &secret[..]].concat());
    let bundle = "jsonpath={.webhooks[0].clientConfig.caBundle}";
    let configuration = [
        "get",
        "mutatingwebhookconfiguration",
        "webhook.pipeline.tekton.dev",
        "-o",
        bundle,
    ];
    eventually("new certificates are made and known", LIMIT, || {
        let now = authority();
        (!now.is_empty() && now != before && up.kubectl(&configuration) == now).then_some(())
    });
    up.kubectl_with(&["create", "-f", "-"], RUN);

    webhook.end();
    let refused = up.kubectl_input(&["create", "-f", "-"], BAD_TASK);
    let failed = "failed calling webhook \"webhook.pipeline.tekton.dev\"";
    assert!(text(&refused).contains(failed), "{}", text(&refused));
}
