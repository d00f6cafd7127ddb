//! Tables of pod statuses.

use super::*;
use serde_json::{Value, json};

fn pod(spec: Value) -> Pod {
    serde_json::from_value(json!({"metadata": {"name": "p"}, "spec": spec})).expect("a pod")
}

fn view(role: Role, state: State) -> View {
    View {
        role,
        state,
        last: None,
        restarts: 0,
        image_id: "i@sha256:1".into(),
        container_id: "tektite://1".into(),
        image: None,
    }
}

fn running(ready: bool) -> State {
    State::Running {
        since: Timestamp::UNIX_EPOCH,
        started: true,
        ready,
    }
}

fn ended(code: i32, message: &str) -> State {
    let reason = if code == 0 { "Completed" } else { "Error" };
    State::Ended(Ended {
        code,
        reason: reason.into(),
        message: message.into(),
        started: Some(Timestamp::UNIX_EPOCH),
        finished: Some(Timestamp::UNIX_EPOCH),
        container_id: "tektite://1".into(),
    })
}

fn waiting(reason: &str) -> State {
    State::Waiting {
        reason: reason.into(),
        message: String::new(),
    }
}

fn two() -> Value {
    json!({"initContainers": [{"name": "i"}], "containers": [{"name": "b"}, {"name": "a"}]})
}

// K-265, K-266, K-281
#[test]
fn the_phase_follows_the_regular_containers() {
    type Case = (&'static str, Vec<(&'static str, View)>, bool, &'static str);
    let cases: Vec<Case> = vec![
        ("nothing known", vec![], false, "Pending"),
        (
            "init running",
            vec![("i", view(Role::Init, running(false)))],
            false,
            "Pending",
        ),
        (
            "one not started",
            vec![
                ("i", view(Role::Init, ended(0, ""))),
                ("a", view(Role::Regular, running(true))),
            ],
            false,
            "Pending",
        ),
        (
            "both begun",
            vec![
                ("i", view(Role::Init, ended(0, ""))),
                ("a", view(Role::Regular, running(true))),
                ("b", view(Role::Regular, ended(1, ""))),
            ],
            false,
            "Running",
        ),
        (
            "ended but not all stopped yet",
            vec![
                ("i", view(Role::Init, ended(0, ""))),
                ("a", view(Role::Regular, ended(0, ""))),
                ("b", view(Role::Regular, ended(0, ""))),
            ],
            false,
            "Running",
        ),
        (
            "all well",
            vec![
                ("i", view(Role::Init, ended(0, ""))),
                ("a", view(Role::Regular, ended(0, ""))),
                ("b", view(Role::Regular, ended(0, ""))),
            ],
            true,
            "Succeeded",
        ),
        (
            "one failed",
            vec![
                ("i", view(Role::Init, ended(0, ""))),
                ("a", view(Role::Regular, ended(0, ""))),
                ("b", view(Role::Regular, ended(3, ""))),
            ],
            true,
            "Failed",
        ),
        (
            "init failed",
            vec![("i", view(Role::Init, ended(1, "")))],
            true,
            "Failed",
        ),
    ];
    for (name, views, finished, expected) in cases {
        let views = views
            .into_iter()
            .map(|(name, view)| (name.to_string(), view))
            .collect();
        let about = PodView {
            finished,
            ..PodView::default()
        };
        let status = compute(&pod(two()), &about, &views, None, Timestamp::UNIX_EPOCH);
        assert_eq!(status.phase.as_deref(), Some(expected), "{name}");
    }
}

fn conditions(status: &PodStatus) -> Vec<String> {
    let list = status.conditions.iter().flatten();
    list.map(|one| {
        format!(
            "{}={} {} {}",
            one.type_,
            one.status,
            one.reason.as_deref().unwrap_or("-"),
            one.message.as_deref().unwrap_or("-")
        )
    })
    .collect()
}

// K-268
#[test]
fn conditions_say_what_is_missing_and_what_completed() {
    let about = |finished| PodView {
        finished,
        sandbox: true,
        ..PodView::default()
    };
    let status = compute(
        &pod(two()),
        &about(false),
        &BTreeMap::new(),
        None,
        Timestamp::UNIX_EPOCH,
    );
    assert_eq!(
        conditions(&status),
        [
            "PodReadyToStartContainers=True - -",
            "Initialized=False ContainersNotInitialized containers with incomplete status: [i]",
            "Ready=False ContainersNotReady containers with unready status: [b a]",
            "ContainersReady=False ContainersNotReady containers with unready status: [b a]",
            "PodScheduled=True - -",
        ]
    );
    let one = json!({"containers": [{"name": "c"}]});
    for (code, reason) in [(0, "PodCompleted"), (1, "PodFailed")] {
        let views = [("c".to_string(), view(Role::Regular, ended(code, "")))].into();
        let status = compute(
            &pod(one.clone()),
            &about(true),
            &views,
            None,
            Timestamp::UNIX_EPOCH,
        );
        let initialized = if code == 0 {
            "Initialized=True PodCompleted -"
        } else {
            "Initialized=True - -"
        };
        assert_eq!(
            conditions(&status),
            [
                "PodReadyToStartContainers=False - -".to_string(),
                initialized.to_string(),
                format!("Ready=False {reason} -"),
                format!("ContainersReady=False {reason} -"),
                "PodScheduled=True - -".to_string(),
            ]
        );
    }
}

#[test]
fn a_condition_keeps_its_time_until_it_changes() {
    let one = json!({"containers": [{"name": "c"}]});
    let (early, late) = (
        Timestamp::from_second(1).expect("a time"),
        Timestamp::from_second(9).expect("a time"),
    );
    let about = PodView::default();
    let first = compute(&pod(one.clone()), &about, &BTreeMap::new(), None, early);
    let views = [("c".to_string(), view(Role::Regular, running(true)))].into();
    let second = compute(&pod(one), &about, &views, Some(&first), late);
    let time = |kind: &str| {
        second
            .conditions
            .iter()
            .flatten()
            .find(|one| one.type_ == kind)
            .and_then(|one| one.last_transition_time.clone())
            .map(|time| time.0)
    };
    assert_eq!(
        (time("Ready"), time("PodScheduled")),
        (Some(late), Some(early))
    );
}

// K-269, K-270, K-271, K-275, K-279
#[test]
fn every_container_has_an_entry_with_its_state() {
    let views = [
        ("i".to_string(), view(Role::Init, ended(0, ""))),
        ("b".to_string(), view(Role::Regular, ended(1, "msg"))),
    ]
    .into();
    let status = compute(
        &pod(two()),
        &PodView::default(),
        &views,
        None,
        Timestamp::UNIX_EPOCH,
    );
    let names: Vec<String> = status
        .container_statuses
        .iter()
        .flatten()
        .map(|one| one.name.clone())
        .collect();
    assert_eq!(names, ["a", "b"]);
    let init = &status
        .init_container_statuses
        .as_ref()
        .expect("init statuses")[0];
    assert!(init.ready);
    let regular = status.container_statuses.as_ref().expect("statuses");
    let state = serde_json::to_value(regular[0].state.as_ref()).expect("a state");
    assert_eq!(state, json!({"waiting": {"reason": "PodInitializing"}}));
    let state = serde_json::to_value(regular[1].state.as_ref()).expect("a state");
    assert_eq!(
        state,
        json!({"terminated": {"exitCode": 1, "reason": "Error", "message": "msg", "containerID": "tektite://1",
               "startedAt": "1970-01-01T00:00:00Z", "finishedAt": "1970-01-01T00:00:00Z"}})
    );
    let plain = compute(
        &pod(json!({"containers": [{"name": "c"}]})),
        &PodView::default(),
        &BTreeMap::new(),
        None,
        Timestamp::UNIX_EPOCH,
    );
    let state = serde_json::to_value(
        plain.container_statuses.as_ref().expect("statuses")[0]
            .state
            .as_ref(),
    )
    .expect("a state");
    assert_eq!(state, json!({"waiting": {"reason": "ContainerCreating"}}));
}

// K-284
#[test]
fn messages_share_twelve_kibibytes_among_the_containers() {
    let long = "é".repeat(6000);
    let names: Vec<Value> = (0..5)
        .map(|number| json!({"name": format!("c{number}")}))
        .collect();
    let views = [("c0".to_string(), view(Role::Regular, ended(0, &long)))].into();
    let status = compute(
        &pod(json!({"containers": names})),
        &PodView::default(),
        &views,
        None,
        Timestamp::UNIX_EPOCH,
    );
    let state = status.container_statuses.expect("statuses")[0]
        .state
        .clone()
        .expect("a state");
    let message = state
        .terminated
        .and_then(|ended| ended.message)
        .expect("a message");
    assert_eq!(
        message.len(),
        12_288 / 5 - 1,
        "2457 bytes, cut at a character of two"
    );
}

// K-288
#[test]
fn a_terminating_pod_is_not_ready() {
    let mut deleted = pod(json!({"containers": [{"name": "c"}]}));
    deleted.metadata.deletion_timestamp = Some(Time(Timestamp::UNIX_EPOCH));
    let views = [("c".to_string(), view(Role::Regular, running(true)))].into();
    let status = compute(
        &deleted,
        &PodView::default(),
        &views,
        None,
        Timestamp::UNIX_EPOCH,
    );
    assert!(!status.container_statuses.expect("statuses")[0].ready);
}

// K-289
#[test]
fn a_pod_past_its_deadline_failed_whatever_its_containers_say() {
    let views = [("c".to_string(), view(Role::Regular, ended(0, "")))].into();
    let about = PodView {
        finished: true,
        reason: Some((
            "DeadlineExceeded".into(),
            "Pod was active on the node longer than the specified deadline".into(),
        )),
        ..PodView::default()
    };
    let status = compute(
        &pod(json!({"containers": [{"name": "c"}]})),
        &about,
        &views,
        None,
        Timestamp::UNIX_EPOCH,
    );
    assert_eq!(status.phase.as_deref(), Some("Failed"));
    assert_eq!(status.reason.as_deref(), Some("DeadlineExceeded"));
}

// K-281
#[test]
fn a_native_sidecar_counts_as_initialized_once_started_and_its_readiness_counts() {
    let spec = json!({"initContainers": [{"name": "s", "restartPolicy": "Always"}], "containers": [{"name": "c"}]});
    let views = [
        ("s".to_string(), view(Role::Sidecar, running(false))),
        ("c".to_string(), view(Role::Regular, running(true))),
    ]
    .into();
    let status = compute(
        &pod(spec),
        &PodView {
            sandbox: true,
            ..PodView::default()
        },
        &views,
        None,
        Timestamp::UNIX_EPOCH,
    );
    assert_eq!(status.phase.as_deref(), Some("Running"));
    assert!(conditions(&status).contains(
        &"Ready=False ContainersNotReady containers with unready status: [s]".to_string()
    ));
    assert!(conditions(&status).contains(&"Initialized=True - -".to_string()));
}

// K-262
#[test]
fn the_quality_of_service_follows_requests_and_limits() {
    let cases = [
        (json!({}), "BestEffort"),
        (json!({"requests": {"cpu": "1"}}), "Burstable"),
        (
            json!({"limits": {"cpu": "1", "memory": "1Gi"}}),
            "Guaranteed",
        ),
        (
            json!({"limits": {"cpu": "1", "memory": "1Gi"}, "requests": {"cpu": "1000m", "memory": "1Gi"}}),
            "Guaranteed",
        ),
        (
            json!({"limits": {"cpu": "1", "memory": "1Gi"}, "requests": {"cpu": "1", "memory": "1Mi"}}),
            "Burstable",
        ),
    ];
    for (resources, expected) in cases {
        let spec: PodSpec =
            serde_json::from_value(json!({"containers": [{"name": "c", "resources": resources}]}))
                .expect("a spec");
        assert_eq!(qos_class(&spec), expected);
    }
}

#[test]
fn waiting_reasons_are_shown_as_given() {
    let views = [(
        "c".to_string(),
        view(Role::Regular, waiting("ErrImagePull")),
    )]
    .into();
    let status = compute(
        &pod(json!({"containers": [{"name": "c"}]})),
        &PodView::default(),
        &views,
        None,
        Timestamp::UNIX_EPOCH,
    );
    let state = serde_json::to_value(
        status.container_statuses.expect("statuses")[0]
            .state
            .as_ref(),
    )
    .expect("a state");
    assert_eq!(state, json!({"waiting": {"reason": "ErrImagePull"}}));
    assert_eq!(status.phase.as_deref(), Some("Pending"));
}

#[test]
fn a_sent_status_is_recognised_by_what_it_says_whatever_others_added() {
    let sent = compute(
        &pod(json!({"containers": [{"name": "c"}]})),
        &PodView {
            start: Some(Timestamp::UNIX_EPOCH),
            ..PodView::default()
        },
        &[("c".to_string(), view(Role::Regular, running(true)))].into(),
        None,
        Timestamp::UNIX_EPOCH,
    );
    let sent = serde_json::to_value(sent).expect("a status");
    let seen = |change: fn(&mut serde_json::Value)| {
        let mut object = json!({"metadata": {"name": "p"}, "status": sent});
        change(&mut object["status"]);
        shows(&serde_json::from_value(object).expect("a pod"), &sent)
    };
    assert!(seen(|_| ()));
    assert!(seen(|status| status["nominatedNodeName"] = json!("n")));
    assert!(!seen(|status| status["phase"] = json!("Pending")));
    assert!(!seen(|status| status["containerStatuses"] = json!([])));
    assert!(!shows(&pod(json!({"containers": []})), &sent));
}
