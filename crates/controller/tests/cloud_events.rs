//! CloudEvents to a sink that really listens (T-402 to T-408, P-382 to P-386).

mod fake;

use fake::FakeApi;
use fake::cluster::{EVENTS, Running, TASK_RUNS, config_map, eventually, node, one_step, quiet};
use fake::sink::Sink;
use serde_json::{Value, json};
use tektite_controller::{Acting, ControllerOptions};

/// The types of the events that `sink` heard of.
fn types(sink: &Sink) -> Vec<String> {
    let heard = sink.heard.lock().unwrap();
    heard
        .iter()
        .map(|one| one.header("ce-type").to_owned())
        .collect()
}

const CUSTOM_RUNS: &str = "/apis/tekton.dev/v1beta1/customruns";

fn events_of(api: &FakeApi, reason: &str) -> Vec<Value> {
    let mut events = api.list(EVENTS);
    events.retain(|event| event["reason"] == reason);
    events
}

#[tokio::test]
async fn a_sink_hears_of_a_runs_life_in_cloudevents_binary_form() {
    // T-402, T-404, T-405, T-406, T-408, P-382, P-383, P-385, P-386
    let api = FakeApi::new();
    let sink = Sink::default();
    let url = sink.listen().await;
    config_map(&api, "config-events", json!({"sink": url}));
    let node = node(&api);
    let controller = Running::start(&api, ControllerOptions::default());
    api.create(TASK_RUNS, one_step("hello"));
    eventually(&api, "the last event", || {
        types(&sink)
            .iter()
            .any(|type_| type_ == "dev.tekton.event.taskrun.successful.v1")
            .then_some(())
    })
    .await;
    quiet(&api).await;
    let types = types(&sink);
    assert!(
        types.contains(&"dev.tekton.event.taskrun.queued.v1".to_owned()),
        "{types:?}"
    );
    for type_ in ["queued", "started", "running", "successful", "failed"] {
        let type_ = format!("dev.tekton.event.taskrun.{type_}.v1");
        let times = types.iter().filter(|known| **known == type_).count();
        assert!(times <= 1, "{type_}: {types:?}");
    }
    let heard = sink.heard.lock().unwrap().clone();
    let mut ids: Vec<&str> = heard.iter().map(|one| one.header("ce-id")).collect();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), heard.len(), "every event has an id of its own");
    for one in &heard {
        assert_eq!(one.target, "/in?a=b");
        assert_eq!(one.header("content-type"), "application/json");
        assert_eq!(one.header("connection"), "close");
        assert_eq!(one.header("ce-specversion"), "1.0");
        assert_eq!(one.header("ce-subject"), "hello");
        assert_eq!(
            one.header("ce-source"),
            "/apis/tekton.dev/v1/namespaces/ns/TaskRun/hello"
        );
        assert!(one.header("ce-time").ends_with('Z'), "{one:?}");
        assert_eq!(one.data["taskRun"]["metadata"]["name"], "hello");
        assert_eq!(one.data.as_object().map(serde_json::Map::len), Some(1));
    }
    let sent = events_of(&api, "CloudEventSent");
    assert_eq!(sent.len(), heard.len());
    assert!(
        sent.iter().any(|event| event["type"] == "Normal"
            && event["source"]["component"] == "TaskRunEvents"
            && event["involvedObject"]["name"] == "hello"
            && event["message"] == "Sent dev.tekton.event.taskrun.successful.v1"),
        "{sent:#?}"
    );
    node.abort();
    controller.stop().await;
}

#[tokio::test]
async fn what_others_manage_is_told_of_too_and_a_switch_silences_custom_runs_alone() {
    // P-382, P-384, T-403: the sink of config-defaults counts where config-events has none
    let api = FakeApi::new();
    let sink = Sink::default();
    let url = sink.listen().await;
    config_map(
        &api,
        "config-defaults",
        json!({"default-cloud-events-sink": url}),
    );
    let controller = Running::start(&api, ControllerOptions::default());
    let custom = |name: &str| {
        json!({"apiVersion": "tekton.dev/v1beta1", "kind": "CustomRun", "metadata": {"namespace": "ns", "name": name},
            "spec": {"customRef": {"apiVersion": "example.dev/v1", "kind": "Wait"}}})
    };
    let mut managed = one_step("theirs");
    managed["spec"]["managedBy"] = "somebody.dev/else".into();
    api.create(TASK_RUNS, managed);
    api.create(CUSTOM_RUNS, custom("wait"));
    eventually(&api, "both events", || {
        let types = types(&sink);
        (types.contains(&"dev.tekton.event.taskrun.queued.v1".to_owned())
            && types.contains(&"dev.tekton.event.customrun.started.v1".to_owned()))
        .then_some(())
    })
    .await;
    config_map(
        &api,
        "feature-flags",
        json!({"send-cloudevents-for-runs": "false"}),
    );
    quiet(&api).await;
    api.create(CUSTOM_RUNS, custom("silent"));
    let mut managed = one_step("theirs-too");
    managed["spec"]["managedBy"] = "somebody.dev/else".into();
    api.create(TASK_RUNS, managed);
    eventually(&api, "the other TaskRun's event", || {
        (types(&sink).len() >= 3).then_some(())
    })
    .await;
    quiet(&api).await;
    let heard = sink.heard.lock().unwrap().clone();
    assert!(
        heard.iter().all(|one| one.header("ce-subject") != "silent"),
        "{heard:?}"
    );
    controller.stop().await;
}

#[tokio::test]
async fn a_sink_that_fails_at_first_is_asked_again_and_one_that_refuses_is_told_of() {
    // T-408, P-386
    let api = FakeApi::new();
    let sink = Sink::default();
    let url = sink.listen().await;
    config_map(&api, "config-events", json!({"sink": url}));
    let controller = Running::start(&api, ControllerOptions::default());
    let theirs = |name: &str| {
        let mut run = one_step(name);
        run["spec"]["managedBy"] = "somebody.dev/else".into();
        run
    };
    *sink.answers.lock().unwrap() = vec![429, 503];
    api.create(TASK_RUNS, theirs("late"));
    eventually(&api, "the event that it was sent", || {
        events_of(&api, "CloudEventSent").pop()
    })
    .await;
    let heard = sink.heard.lock().unwrap().clone();
    assert_eq!(heard.len(), 3);
    let ids: Vec<&str> = heard.iter().map(|one| one.header("ce-id")).collect();
    assert!(
        ids.iter().all(|id| *id == ids[0]),
        "it is one event: {ids:?}"
    );
    *sink.answers.lock().unwrap() = vec![400];
    api.create(TASK_RUNS, theirs("refused"));
    let failed = eventually(&api, "the event that it was not", || {
        events_of(&api, "CloudEventFailed").pop()
    })
    .await;
    assert_eq!(failed["type"], "Warning");
    assert_eq!(failed["message"], "400: ");
    assert_eq!(sink.heard.lock().unwrap().len(), 4);
    controller.stop().await;
}

#[tokio::test]
async fn without_a_sink_or_the_lead_nothing_is_sent() {
    // T-403, P-394
    for (data, acting) in [
        (json!({}), Acting::Always),
        (json!({"sink": ""}), Acting::Never),
    ] {
        let api = FakeApi::new();
        let sink = Sink::default();
        let url = sink.listen().await;
        let mut data = data;
        if acting == Acting::Never {
            data["sink"] = url.into();
        }
        config_map(&api, "config-events", data);
        let controller = Running::start(
            &api,
            ControllerOptions {
                acting,
                ..ControllerOptions::default()
            },
        );
        quiet(&api).await;
        api.create(TASK_RUNS, one_step("hello"));
        quiet(&api).await;
        assert_eq!(types(&sink), Vec::<String>::new());
        controller.stop().await;
    }
}
