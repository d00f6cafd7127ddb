//! Runs from creation to their end, on a fake API.

mod fake;

use fake::FakeApi;
use fake::cluster::{
    CONFIG_MAPS, EVENTS, PIPELINE_RUNS, PODS, Running, TASK_RUNS, condition, ended, eventually,
    inline_task, node, one_step, pipeline_run, pod_of, pod_status, quiet, run_pod,
};
use http::Method;
use serde_json::{Value, json};
use std::time::Duration;
use tektite_controller::{Acting, Controller, ControllerOptions, LeaderElection, StatefulSet};
use tokio_util::sync::CancellationToken;

fn options() -> ControllerOptions {
    ControllerOptions::default()
}

#[tokio::test]
async fn a_one_step_task_run_succeeds_with_few_requests() {
    let api = FakeApi::new();
    let controller = Running::start(&api, options());
    quiet(&api).await;
    let before = api.requests().len();
    api.create(TASK_RUNS, one_step("hello"));
    let pod = pod_of(&api, "hello").await;
    quiet(&api).await;
    let running = json!({"running": {"startedAt": "2026-01-01T00:00:01Z"}});
    api.merge(
        PODS,
        "ns",
        pod["metadata"]["name"].as_str().unwrap(),
        &pod_status(&pod, "Running", &running),
    );
    quiet(&api).await;
    run_pod(&api, &pod, 0);
    let run = ended(&api, TASK_RUNS, "hello").await;
    assert_eq!(condition(&run), ("True".into(), "Succeeded".into()));
    quiet(&api).await;
    let requests = api.requests()[before..].to_vec();
    let (events, others): (Vec<_>, Vec<_>) = requests
        .iter()
        .partition(|request| request.contains("/events"));
    println!("{others:#?}\n{events:#?}");
    assert!(others.len() <= 6, "{others:#?}");
    controller.stop().await;
}

#[tokio::test]
async fn events_name_each_change_of_the_condition_once() {
    // T-398, T-399
    let api = FakeApi::new();
    let controller = Running::start(&api, options());
    api.create(TASK_RUNS, one_step("hello"));
    let pod = pod_of(&api, "hello").await;
    quiet(&api).await;
    let running = json!({"running": {"startedAt": "2026-01-01T00:00:01Z"}});
    let name = pod["metadata"]["name"].as_str().unwrap();
    api.merge(PODS, "ns", name, &pod_status(&pod, "Running", &running));
    quiet(&api).await;
    run_pod(&api, &pod, 1);
    ended(&api, TASK_RUNS, "hello").await;
    controller.stop().await;
    let events: Vec<String> = api
        .list(EVENTS)
        .iter()
        .map(|event| {
            format!(
                "{} {}",
                event["type"].as_str().unwrap(),
                event["reason"].as_str().unwrap()
            )
        })
        .collect();
    assert_eq!(
        events,
        [
            "Normal Started",
            "Normal Pending",
            "Normal Running",
            "Warning Failed"
        ]
    );
    let first = &api.list(EVENTS)[0];
    assert_eq!(first["message"], "");
    assert_eq!(
        first["involvedObject"]["uid"],
        api.get(TASK_RUNS, "ns", "hello").unwrap()["metadata"]["uid"]
    );
}

#[tokio::test]
async fn a_controller_killed_at_any_request_is_followed_by_one_that_makes_nothing_twice() {
    let tasks = || json!([inline_task("a", &[]), inline_task("b", &["a"])]);
    for kill_after in (1..24).step_by(3) {
        let api = FakeApi::new();
        let node = node(&api);
        let first = Running::start(&api, options());
        quiet(&api).await;
        let base = api.requests().len();
        api.create(PIPELINE_RUNS, pipeline_run("p", tasks()));
        let probe = api.clone();
        eventually(&api, "the moment to kill", || {
            let over = probe
                .get(PIPELINE_RUNS, "ns", "p")
                .is_some_and(|run| condition(&run).0 == "True");
            (over || probe.requests().len() >= base + kill_after).then_some(())
        })
        .await;
        first.kill().await;
        let second = Running::start(&api, options());
        let run = ended(&api, PIPELINE_RUNS, "p").await;
        assert_eq!(condition(&run).0, "True", "killed after {kill_after}");
        assert_eq!(
            (api.list(TASK_RUNS).len(), api.list(PODS).len()),
            (2, 2),
            "killed after {kill_after}"
        );
        node.abort();
        second.stop().await;
    }
}

#[tokio::test]
async fn a_pod_that_a_quota_refuses_is_tried_again_and_the_run_goes_on() {
    let api = FakeApi::new();
    api.refuse(
        Method::POST,
        "/pods",
        1,
        403,
        "Forbidden",
        "pods \"x\" is forbidden: exceeded quota: q",
    );
    let controller = Running::start(&api, options());
    api.create(TASK_RUNS, one_step("hello"));
    let waiting = eventually(&api, "the reason", || {
        api.get(TASK_RUNS, "ns", "hello")
            .filter(|run| condition(run).1 == "ExceededResourceQuota")
    })
    .await;
    assert_eq!(condition(&waiting).0, "Unknown");
    controller.stop().await;
}

#[tokio::test]
async fn a_server_that_is_busy_or_answers_with_conflicts_is_asked_again() {
    for (method, path, code, reason) in [
        (Method::POST, "/pods", 503, "ServiceUnavailable"),
        (Method::POST, "/pods", 429, "TooManyRequests"),
        (Method::PATCH, "/status", 409, "Conflict"),
        (Method::PATCH, "/status", 500, "InternalError"),
        (Method::PATCH, "/taskruns/hello", 504, "Timeout"),
        (Method::GET, "/taskruns", 500, "InternalError"),
    ] {
        let api = FakeApi::new();
        api.refuse(method, path, 3, code, reason, "not now");
        let node = node(&api);
        let controller = Running::start(&api, options());
        api.create(TASK_RUNS, one_step("hello"));
        let run = ended(&api, TASK_RUNS, "hello").await;
        assert_eq!(condition(&run).0, "True", "{path} {code}");
        assert_eq!(api.list(PODS).len(), 1, "{path} {code}");
        node.abort();
        controller.stop().await;
    }
}

#[tokio::test]
async fn a_run_goes_on_when_every_watch_has_ended() {
    let api = FakeApi::new();
    let controller = Running::start(&api, options());
    api.create(TASK_RUNS, one_step("hello"));
    let pod = pod_of(&api, "hello").await;
    api.end_watches();
    run_pod(&api, &pod, 0);
    assert_eq!(condition(&ended(&api, TASK_RUNS, "hello").await).0, "True");
    controller.stop().await;
}

#[tokio::test]
async fn a_run_of_another_manager_is_left_alone() {
    // T-146
    let api = FakeApi::new();
    let controller = Running::start(&api, options());
    let mut run = one_step("theirs");
    run["spec"]["managedBy"] = json!("somebody.example/else");
    api.create(TASK_RUNS, run);
    quiet(&api).await;
    assert_eq!(
        api.get(TASK_RUNS, "ns", "theirs").unwrap().get("status"),
        None
    );
    assert_eq!(api.list(PODS).len(), 0);
    controller.stop().await;
}

#[tokio::test]
async fn a_run_ends_when_its_time_is_up_although_nothing_happens() {
    // T-153: the wake, not an event, ends it.
    let api = FakeApi::new();
    let controller = Running::start(&api, options());
    let mut run = one_step("slow");
    run["spec"]["timeout"] = json!("2s");
    api.create(TASK_RUNS, run);
    let run = ended(&api, TASK_RUNS, "slow").await;
    assert_eq!(condition(&run), ("False".into(), "TaskRunTimeout".into()));
    controller.stop().await;
}

#[tokio::test]
async fn configuration_is_read_before_the_first_run_and_again_when_it_changes() {
    // T-145; what does not parse leaves the old values in force (P-376).
    let api = FakeApi::new();
    let map = |data: Value| {
        json!({"apiVersion": "v1", "kind": "ConfigMap",
            "metadata": {"namespace": "tekton-pipelines", "name": "feature-flags"}, "data": data})
    };
    api.create(CONFIG_MAPS, map(json!({"enable-api-fields": "alpha"})));
    let options = options();
    let config = options.config.clone();
    let controller = Running::start(&api, options);
    let level = || config.current().feature_flags.enable_api_fields.clone();
    let becomes =
        async |wanted: &str| eventually(&api, wanted, || (level() == wanted).then_some(())).await;
    becomes("alpha").await;
    api.merge(
        CONFIG_MAPS,
        "tekton-pipelines",
        "feature-flags",
        &json!({"data": {"enable-api-fields": "stable"}}),
    );
    becomes("stable").await;
    api.merge(
        CONFIG_MAPS,
        "tekton-pipelines",
        "feature-flags",
        &json!({"data": {"enable-api-fields": "gamma"}}),
    );
    quiet(&api).await;
    assert_eq!(level(), "stable");
    api.remove(CONFIG_MAPS, "tekton-pipelines", "feature-flags");
    becomes("beta").await;
    controller.stop().await;
}

#[tokio::test]
async fn a_finished_run_is_not_written_again_whatever_happens_to_its_pod() {
    let api = FakeApi::new();
    let controller = Running::start(&api, options());
    let node = node(&api);
    api.create(TASK_RUNS, one_step("hello"));
    let run = ended(&api, TASK_RUNS, "hello").await;
    node.abort();
    quiet(&api).await;
    let before = api.requests().len();
    let pod = api.list(PODS).remove(0);
    api.merge(
        PODS,
        "ns",
        pod["metadata"]["name"].as_str().unwrap(),
        &json!({"metadata": {"annotations": {"a": "b"}}}),
    );
    quiet(&api).await;
    api.remove(PODS, "ns", pod["metadata"]["name"].as_str().unwrap());
    quiet(&api).await;
    assert_eq!(api.requests()[before..], Vec::<String>::new());
    assert_eq!(api.get(TASK_RUNS, "ns", "hello"), Some(run));
    controller.stop().await;
}

#[tokio::test]
async fn of_two_controllers_one_acts_and_the_other_takes_over_when_it_ends() {
    // P-392, P-394
    let api = FakeApi::new();
    let election = |identity: &str| ControllerOptions {
        acting: Acting::Elected(LeaderElection {
            lease_duration: Duration::from_secs(2),
            renew_deadline: Duration::from_secs(1),
            retry_period: Duration::from_millis(50),
            ..LeaderElection::new(identity)
        }),
        ..options()
    };
    let node = node(&api);
    let leases = "/apis/coordination.k8s.io/v1/leases";
    let first = Running::start(&api, election("first"));
    eventually(&api, "the first leader", || {
        (api.list(leases).len() == 3).then_some(())
    })
    .await;
    let second = Running::start(&api, election("second"));
    api.create(TASK_RUNS, one_step("one"));
    ended(&api, TASK_RUNS, "one").await;
    let holders = || {
        api.list(leases)
            .iter()
            .map(|lease| lease["spec"]["holderIdentity"].clone())
            .collect::<Vec<_>>()
    };
    assert_eq!(holders(), ["first", "first", "first"]);
    // Killed, not stopped: the lease has to lapse.
    first.kill().await;
    api.create(TASK_RUNS, one_step("two"));
    ended(&api, TASK_RUNS, "two").await;
    eventually(&api, "the second leader", || {
        (holders() == ["second", "second", "second"]).then_some(())
    })
    .await;
    assert_eq!(api.list(PODS).len(), 2);
    node.abort();
    second.stop().await;
    assert_eq!(holders(), ["", "", ""]);
}

#[tokio::test]
async fn creating_a_child_waits_for_slow_admission_if_it_is_told_to() {
    // T-224, P-377
    let api = FakeApi::new();
    let map = |name: &str, data: Value| {
        api.create(
            CONFIG_MAPS,
            json!({"apiVersion": "v1", "kind": "ConfigMap", "data": data,
                "metadata": {"namespace": "tekton-pipelines", "name": name}}),
        );
    };
    map(
        "feature-flags",
        json!({"enable-wait-exponential-backoff": "true"}),
    );
    map(
        "config-wait-exponential-backoff",
        json!({"duration": "1ms", "steps": "3"}),
    );
    let slow = "failed calling webhook: context deadline exceeded: timeout";
    // Three attempts of the first reconcile, then two of the second.
    api.refuse(Method::POST, "/taskruns", 4, 500, "InternalError", slow);
    api.refuse(Method::POST, "/pods", 2, 500, "InternalError", slow);
    let node = node(&api);
    let controller = Running::start(&api, options());
    api.create(
        PIPELINE_RUNS,
        pipeline_run("run", json!([inline_task("a", &[])])),
    );
    let run = ended(&api, PIPELINE_RUNS, "run").await;
    assert_eq!(condition(&run).0, "True");
    let posts = |api: &FakeApi| {
        let requests = api.requests();
        requests
            .iter()
            .filter(|request| request.ends_with("POST /apis/tekton.dev/v1/namespaces/ns/taskruns"))
            .count()
    };
    assert_eq!(posts(&api), 5, "{:#?}", api.requests());
    node.abort();
    controller.stop().await;
}

#[tokio::test]
async fn two_controllers_share_the_buckets_of_a_stateful_set() {
    // P-393, P-394, P-395
    let api = FakeApi::new();
    api.create(
        CONFIG_MAPS,
        json!({"apiVersion": "v1", "kind": "ConfigMap", "data": {"buckets": "2"},
            "metadata": {"namespace": "tekton-pipelines", "name": "config-leader-election-controller"}}),
    );
    let pod = |name: &str| ControllerOptions {
        acting: Acting::Assigned(StatefulSet::of_pod(name, "controllers").expect("a pod's name")),
        ..options()
    };
    let node = node(&api);
    let names: Vec<String> = (0..12).map(|n| format!("run-{n}")).collect();
    let done = || {
        let runs = names.iter().map(|name| api.get(TASK_RUNS, "ns", name));
        runs.flatten()
            .filter(|run| condition(run).0 == "True")
            .count()
    };
    let first = Running::start(&api, pod("controller-0"));
    for name in &names {
        api.create(TASK_RUNS, one_step(name));
    }
    eventually(&api, "the runs of the first", || (done() > 0).then_some(())).await;
    quiet(&api).await;
    let of_first = done();
    assert!(of_first > 0 && of_first < names.len(), "{of_first}");
    let second = Running::start(&api, pod("controller-1"));
    eventually(&api, "the others", || (done() == names.len()).then_some(())).await;
    assert_eq!(
        api.list("/apis/coordination.k8s.io/v1/leases"),
        Vec::<Value>::new()
    );
    let third = Controller::run(api.client(), pod("controller-2"), CancellationToken::new()).await;
    assert_eq!(
        third.map_err(|error| error.to_string()),
        Err("ordinal 2 is out of range [0, 2): raise `buckets` in ConfigMap config-leader-election-controller".into())
    );
    node.abort();
    first.stop().await;
    second.stop().await;
}

#[tokio::test]
async fn with_several_buckets_there_is_a_lease_for_each() {
    // P-393, P-394
    let api = FakeApi::new();
    api.create(
        CONFIG_MAPS,
        json!({"apiVersion": "v1", "kind": "ConfigMap", "data": {"buckets": "3", "lease-duration": "7s", "retry-period": "50ms"},
            "metadata": {"namespace": "tekton-pipelines", "name": "config-leader-election-controller"}}),
    );
    let options = ControllerOptions {
        acting: Acting::Elected(LeaderElection::new("me")),
        ..options()
    };
    let node = node(&api);
    let controller = Running::start(&api, options);
    for n in 0..6 {
        api.create(TASK_RUNS, one_step(&format!("run-{n}")));
    }
    for n in 0..6 {
        ended(&api, TASK_RUNS, &format!("run-{n}")).await;
    }
    let leases = api.list("/apis/coordination.k8s.io/v1/leases");
    assert_eq!(leases.len(), 9);
    for lease in &leases {
        assert_eq!(lease["spec"]["leaseDurationSeconds"], 7);
    }
    let name = "tekton-pipelines-controller.github.com.tektoncd.pipeline.pkg.reconciler.taskrun.reconciler.02-of-03";
    assert!(leases.iter().any(|lease| lease["metadata"]["name"] == name));
    node.abort();
    controller.stop().await;
}

#[tokio::test]
async fn labels_that_admission_refuses_do_not_hold_up_the_status() {
    // T-151, T-152
    let api = FakeApi::new();
    api.refuse(
        Method::PATCH,
        "/taskruns/hello",
        1000,
        400,
        "BadRequest",
        "no updates are allowed",
    );
    let node = node(&api);
    let controller = Running::start(&api, options());
    api.create(TASK_RUNS, one_step("hello"));
    assert_eq!(condition(&ended(&api, TASK_RUNS, "hello").await).0, "True");
    eventually(&api, "the event", || {
        api.list(EVENTS).into_iter().find(|event| {
            event["reason"] == "Error" && event["message"] == "no updates are allowed"
        })
    })
    .await;
    node.abort();
    controller.stop().await;
}
