//! What controllers do through `kube::Client`, without a socket.

mod support;

use futures::{StreamExt, TryStreamExt};
use k8s_openapi::api::core::v1::{ConfigMap, Event, Namespace, Pod, Secret, ServiceAccount};
use kube::api::{
    Api, DeleteParams, ListParams, Patch, PatchParams, PostParams, PropagationPolicy, WatchEvent,
    WatchParams,
};
use kube::runtime::watcher;
use serde_json::{Value, json};
use support::{WIDGETS, client, get, pod, post, resource, send, server, widget, with_widgets};

fn typed<T: serde::de::DeserializeOwned>(value: Value) -> T {
    serde_json::from_value(value).unwrap()
}

fn map(name: &str, data: Value) -> ConfigMap {
    typed(json!({"metadata": {"name": name}, "data": data}))
}

#[tokio::test]
async fn objects_are_created_read_updated_patched_and_deleted() {
    // K-047, K-048, K-055, K-056, K-059, K-065, K-087
    let server = server().await;
    let maps: Api<ConfigMap> = Api::namespaced(client(&server), "default");
    let created = maps
        .create(&PostParams::default(), &map("a", json!({"k": "v"})))
        .await
        .unwrap();
    assert!(created.metadata.uid.is_some() && created.metadata.creation_timestamp.is_some());
    let kube::Error::Api(again) = maps
        .create(&PostParams::default(), &map("a", json!({})))
        .await
        .unwrap_err()
    else {
        panic!()
    };
    assert_eq!((again.code, again.reason.as_str()), (409, "AlreadyExists"));
    assert_eq!(again.message, "configmaps \"a\" already exists");
    let merge = Patch::Merge(
        json!({"data": {"k": null, "n": "1"}, "metadata": {"uid": created.metadata.uid}}),
    );
    let patched = maps
        .patch("a", &PatchParams::default(), &merge)
        .await
        .unwrap();
    assert_eq!(
        serde_json::to_value(&patched.data).unwrap(),
        json!({"n": "1"})
    );
    assert!(
        maps.delete("a", &DeleteParams::default())
            .await
            .unwrap()
            .right()
            .is_some()
    );
    assert!(maps.get_opt("a").await.unwrap().is_none());
}

#[tokio::test]
async fn stale_updates_conflict_and_unchanged_ones_write_nothing() {
    // K-048, K-056, K-059
    let server = server().await;
    let maps: Api<ConfigMap> = Api::namespaced(client(&server), "default");
    let first = maps
        .create(&PostParams::default(), &map("a", json!({"k": "v"})))
        .await
        .unwrap();
    let same = maps
        .replace("a", &PostParams::default(), &first)
        .await
        .unwrap();
    assert_eq!(
        same.metadata.resource_version,
        first.metadata.resource_version
    );
    let mut changed = first.clone();
    changed
        .data
        .get_or_insert_default()
        .insert("k".into(), "w".into());
    let second = maps
        .replace("a", &PostParams::default(), &changed)
        .await
        .unwrap();
    let number = |map: &ConfigMap| {
        map.metadata
            .resource_version
            .as_ref()
            .unwrap()
            .parse::<u64>()
            .unwrap()
    };
    assert!(number(&second) > number(&first));
    let kube::Error::Api(stale) = maps
        .replace("a", &PostParams::default(), &changed)
        .await
        .unwrap_err()
    else {
        panic!()
    };
    assert_eq!((stale.code, stale.reason.as_str()), (409, "Conflict"));
    assert!(stale.message.contains(
        "Operation cannot be fulfilled on configmaps \"a\": the object has been modified"
    ));
}

#[tokio::test]
async fn errors_carry_reason_and_text_of_kubernetes() {
    // K-021, K-053, K-054, K-078, K-080, K-087, K-088
    let server = server().await;
    let client = client(&server);
    let maps = "/api/v1/namespaces/default/configmaps";
    for (method, uri, body, code, reason, text) in [
        (
            "GET",
            "/api/v1/namespaces/default/pods/x",
            Value::Null,
            404,
            "NotFound",
            "pods \"x\" not found",
        ),
        (
            "GET",
            "/api/v1/nothings",
            Value::Null,
            404,
            "NotFound",
            "the server could not find the requested resource",
        ),
        (
            "POST",
            "/api/v1/namespaces/none/configmaps",
            json!({"metadata": {"name": "x"}}),
            404,
            "NotFound",
            "namespaces \"none\" not found",
        ),
        (
            "POST",
            maps,
            json!({"metadata": {"name": "x", "namespace": "y"}}),
            400,
            "BadRequest",
            "the namespace of the provided object does not match the namespace sent on the request",
        ),
        (
            "POST",
            maps,
            json!({"metadata": {}}),
            422,
            "Invalid",
            "ConfigMap \"\" is invalid: metadata.name: Required value: name or generateName is required",
        ),
        (
            "POST",
            maps,
            json!({"apiVersion": "v2", "metadata": {"name": "x"}}),
            400,
            "BadRequest",
            "the API version in the data (v2) does not match the expected API version (v1)",
        ),
        (
            "POST",
            "/api/v1/namespaces/default/configmaps/x",
            json!({}),
            405,
            "MethodNotAllowed",
            "the server does not allow this method on the requested resource",
        ),
    ] {
        let (found, status) = send(&client, method, uri, "application/json", body).await;
        assert_eq!(
            (
                found,
                status["reason"].as_str().unwrap(),
                status["message"].as_str().unwrap()
            ),
            (code, reason, text),
            "{uri}"
        );
        assert_eq!(status["kind"], "Status");
    }
}

#[tokio::test]
async fn names_are_generated_from_a_prefix() {
    // K-050
    let server = server().await;
    let client = client(&server);
    let (code, made) = post(
        &client,
        "/api/v1/namespaces/default/configmaps",
        json!({"metadata": {"generateName": "run-"}}),
    )
    .await;
    assert_eq!(code, 201);
    let name = made["metadata"]["name"].as_str().unwrap();
    assert!(name.starts_with("run-") && name.len() == 9, "{name}");
    assert_eq!(made["metadata"]["generateName"], "run-");
}

#[tokio::test]
async fn finalizers_hold_an_object_until_they_are_gone() {
    // K-064, K-067, K-069
    let (_server, client) = with_widgets().await;
    let mut body = widget("w", 1);
    body["metadata"]["finalizers"] = json!(["example.com/hold"]);
    post(&client, WIDGETS, body).await;
    let uri = format!("{WIDGETS}/w");
    let (code, marked) = send(
        &client,
        "DELETE",
        &uri,
        "application/json",
        json!({"propagationPolicy": "Foreground"}),
    )
    .await;
    assert_eq!(code, 200);
    assert!(marked["metadata"]["deletionTimestamp"].is_string());
    assert_eq!(marked["metadata"]["generation"], 2);
    assert_eq!(
        marked["metadata"]["finalizers"],
        json!(["example.com/hold", "foregroundDeletion"])
    );
    let add = json!([{"op": "add", "path": "/metadata/finalizers/-", "value": "example.com/more"}]);
    let (code, refused) = send(&client, "PATCH", &uri, "application/json-patch+json", add).await;
    assert_eq!(
        (code, refused["details"]["causes"][0]["field"].as_str()),
        (422, Some("metadata.finalizers"))
    );
    let clear = json!({"metadata": {"finalizers": null}});
    assert_eq!(
        send(
            &client,
            "PATCH",
            &uri,
            "application/merge-patch+json",
            clear
        )
        .await
        .0,
        200
    );
    assert_eq!(get(&client, &uri).await.0, 404);
}

#[tokio::test]
async fn deletions_answer_with_a_status_or_the_object_and_check_preconditions() {
    // K-065, K-066
    let server = server().await;
    let client = client(&server);
    let maps: Api<ConfigMap> = Api::namespaced(client.clone(), "default");
    maps.create(&PostParams::default(), &map("a", json!({})))
        .await
        .unwrap();
    let uri = "/api/v1/namespaces/default/configmaps/a";
    let (code, refused) = send(
        &client,
        "DELETE",
        uri,
        "application/json",
        json!({"preconditions": {"uid": "other"}}),
    )
    .await;
    assert_eq!((code, refused["reason"].as_str()), (409, Some("Conflict")));
    let (code, gone) = send(&client, "DELETE", uri, "", Value::Null).await;
    assert_eq!(
        (
            code,
            gone["status"].as_str(),
            gone["details"]["name"].as_str()
        ),
        (200, Some("Success"), Some("a"))
    );
    let accounts: Api<ServiceAccount> = Api::namespaced(client.clone(), "default");
    accounts
        .create(
            &PostParams::default(),
            &typed(json!({"metadata": {"name": "s"}})),
        )
        .await
        .unwrap();
    let deleted = accounts
        .delete("s", &DeleteParams::default())
        .await
        .unwrap();
    assert!(deleted.left().is_some());
}

#[tokio::test]
async fn pods_are_defaulted_and_admitted() {
    // K-200, K-201, K-207, K-260, K-261, K-262
    let server = server().await;
    let pods: Api<Pod> = Api::namespaced(client(&server), "default");
    let made = pods
        .create(&PostParams::default(), &typed(pod("p")))
        .await
        .unwrap();
    let value = serde_json::to_value(&made).unwrap();
    for (pointer, expected) in [
        ("/spec/restartPolicy", json!("Always")),
        ("/spec/dnsPolicy", json!("ClusterFirst")),
        ("/spec/terminationGracePeriodSeconds", json!(30)),
        ("/spec/schedulerName", json!("default-scheduler")),
        ("/spec/securityContext", json!({})),
        ("/spec/enableServiceLinks", json!(true)),
        ("/spec/serviceAccountName", json!("default")),
        ("/spec/serviceAccount", json!("default")),
        (
            "/spec/containers/0/terminationMessagePath",
            json!("/dev/termination-log"),
        ),
        ("/spec/containers/0/imagePullPolicy", json!("IfNotPresent")),
        (
            "/spec/containers/0/volumeMounts/0/mountPath",
            json!("/var/run/secrets/kubernetes.io/serviceaccount"),
        ),
        (
            "/spec/tolerations/0/key",
            json!("node.kubernetes.io/not-ready"),
        ),
        ("/status/phase", json!("Pending")),
        ("/status/qosClass", json!("BestEffort")),
        ("/metadata/generation", json!(1)),
    ] {
        assert_eq!(value.pointer(pointer), Some(&expected), "{pointer}");
    }
    let mut unknown = pod("q");
    unknown["spec"]["serviceAccountName"] = json!("nobody");
    let kube::Error::Api(error) = pods
        .create(&PostParams::default(), &typed(unknown))
        .await
        .unwrap_err()
    else {
        panic!()
    };
    assert_eq!(error.code, 403);
    assert!(error.message.ends_with(
        "error looking up service account default/nobody: serviceaccount \"nobody\" not found"
    ));
}

#[tokio::test]
async fn pod_specs_change_in_their_images_only() {
    // K-098, K-101, K-264
    let server = server().await;
    let client = client(&server);
    post(&client, "/api/v1/namespaces/default/pods", pod("p")).await;
    let uri = "/api/v1/namespaces/default/pods/p";
    let patch = json!([
        {"op": "replace", "path": "/spec/containers/0/image", "value": "nop:1"},
        {"op": "replace", "path": "/metadata/labels", "value": {"a": "b"}},
    ]);
    let (code, patched) = send(&client, "PATCH", uri, "application/json-patch+json", patch).await;
    assert_eq!(
        (code, patched["spec"]["containers"][0]["image"].as_str()),
        (200, Some("nop:1"))
    );
    let patch = json!({"spec": {"restartPolicy": "Never"}});
    let (code, refused) = send(
        &client,
        "PATCH",
        uri,
        "application/strategic-merge-patch+json",
        patch,
    )
    .await;
    assert_eq!(code, 422);
    assert!(
        refused["message"]
            .as_str()
            .unwrap()
            .contains("spec: Forbidden: pod updates may not change fields other than")
    );
}

#[tokio::test]
async fn bad_pods_are_refused_with_the_field() {
    // K-088, K-263
    let server = server().await;
    let client = client(&server);
    for (patch, field) in [
        (json!({"containers": []}), "spec.containers"),
        (
            json!({"containers": [{"name": "a", "image": "i"}, {"name": "a", "image": "i"}]}),
            "spec.containers[1].name",
        ),
        (
            json!({"containers": [{"name": "a", "image": "i", "volumeMounts": [{"name": "v", "mountPath": "/x"}]}]}),
            "spec.containers[0].volumeMounts[0].name",
        ),
        (
            json!({"activeDeadlineSeconds": 0}),
            "spec.activeDeadlineSeconds",
        ),
        (json!({"restartPolicy": "Sometimes"}), "spec.restartPolicy"),
    ] {
        let mut body = pod("p");
        for (key, value) in patch.as_object().unwrap() {
            body["spec"][key] = value.clone();
        }
        let (code, refused) = post(&client, "/api/v1/namespaces/default/pods", body).await;
        assert_eq!(
            (code, refused["details"]["causes"][0]["field"].as_str()),
            (422, Some(field)),
            "{refused}"
        );
    }
}

#[tokio::test]
async fn secrets_and_configmaps_keep_their_rules() {
    // K-228, K-229, K-230
    let server = server().await;
    let client = client(&server);
    let secrets: Api<Secret> = Api::namespaced(client.clone(), "default");
    let made = secrets
        .create(
            &PostParams::default(),
            &typed(json!({"metadata": {"name": "s"}, "stringData": {"a": "b"}})),
        )
        .await
        .unwrap();
    assert_eq!(made.data.unwrap()["a"].0, b"b");
    assert_eq!(
        (made.type_.as_deref(), made.string_data),
        (Some("Opaque"), None)
    );
    let (code, refused) = post(
        &client,
        "/api/v1/namespaces/default/secrets",
        json!({"metadata": {"name": "t"}, "type": "kubernetes.io/ssh-auth"}),
    )
    .await;
    assert_eq!(
        (code, refused["details"]["causes"][0]["field"].as_str()),
        (422, Some("data[ssh-privatekey]"))
    );
    post(
        &client,
        "/api/v1/namespaces/default/configmaps",
        json!({"metadata": {"name": "i"}, "immutable": true, "data": {"a": "1"}}),
    )
    .await;
    let (code, refused) = send(
        &client,
        "PATCH",
        "/api/v1/namespaces/default/configmaps/i",
        "application/merge-patch+json",
        json!({"data": {"a": "2"}}),
    )
    .await;
    assert_eq!(code, 422);
    assert!(
        refused["message"]
            .as_str()
            .unwrap()
            .contains("field is immutable when `immutable` is set")
    );
}

#[tokio::test]
async fn namespaces_are_furnished_and_leave_when_finalized() {
    // K-199, K-224, K-225, K-226
    let server = server().await;
    let client = client(&server);
    for name in ["default", "kube-system", "kube-public", "kube-node-lease"] {
        assert_eq!(
            get(&client, &format!("/api/v1/namespaces/{name}")).await.0,
            200
        );
    }
    let (_, made) = post(
        &client,
        "/api/v1/namespaces",
        json!({"metadata": {"name": "n"}}),
    )
    .await;
    assert_eq!(
        made["metadata"]["labels"]["kubernetes.io/metadata.name"],
        "n"
    );
    assert_eq!(
        (
            made["spec"]["finalizers"][0].as_str(),
            made["status"]["phase"].as_str()
        ),
        (Some("kubernetes"), Some("Active"))
    );
    assert_eq!(
        get(&client, "/api/v1/namespaces/n/serviceaccounts/default")
            .await
            .0,
        200
    );
    assert_eq!(
        get(&client, "/api/v1/namespaces/n/configmaps/kube-root-ca.crt")
            .await
            .1["data"]["ca.crt"],
        "PEM"
    );
    let (code, marked) = send(&client, "DELETE", "/api/v1/namespaces/n", "", Value::Null).await;
    assert_eq!(
        (code, marked["status"]["phase"].as_str()),
        (200, Some("Terminating"))
    );
    let (code, refused) = post(
        &client,
        "/api/v1/namespaces/n/configmaps",
        json!({"metadata": {"name": "x"}}),
    )
    .await;
    assert_eq!(code, 403);
    assert_eq!(
        refused["details"]["causes"][0]["reason"],
        "NamespaceTerminating"
    );
    let mut finalized = marked;
    finalized["spec"]["finalizers"] = json!([]);
    assert_eq!(
        send(
            &client,
            "PUT",
            "/api/v1/namespaces/n/finalize",
            "application/json",
            finalized
        )
        .await
        .0,
        200
    );
    assert_eq!(get(&client, "/api/v1/namespaces/n").await.0, 404);
    let (code, refused) = send(
        &client,
        "DELETE",
        "/api/v1/namespaces/default",
        "",
        Value::Null,
    )
    .await;
    assert_eq!(
        (code, refused["message"].as_str()),
        (
            403,
            Some("namespaces \"default\" is forbidden: this namespace may not be deleted")
        )
    );
}

#[tokio::test]
async fn lists_are_selected_and_paged_from_one_snapshot() {
    // K-119, K-120, K-121, K-122, K-123, K-124, K-125, K-126
    let server = server().await;
    let client = client(&server);
    post(
        &client,
        "/api/v1/namespaces",
        json!({"metadata": {"name": "l"}}),
    )
    .await;
    let uri = "/api/v1/namespaces/l/secrets";
    for index in 0..5 {
        let label = if index % 2 == 0 { "even" } else { "odd" };
        post(
            &client,
            uri,
            json!({"metadata": {"name": format!("s{index}"), "labels": {"is": label}}}),
        )
        .await;
    }
    let names = |list: &Value| -> Vec<String> {
        list["items"]
            .as_array()
            .unwrap()
            .iter()
            .map(|item| item["metadata"]["name"].as_str().unwrap().into())
            .collect()
    };
    assert_eq!(
        names(
            &get(&client, &format!("{uri}?labelSelector=is%3Deven"))
                .await
                .1
        ),
        ["s0", "s2", "s4"]
    );
    assert_eq!(
        names(
            &get(&client, &format!("{uri}?labelSelector=is%20notin%20(even)"))
                .await
                .1
        ),
        ["s1", "s3"]
    );
    assert_eq!(
        names(
            &get(
                &client,
                &format!("{uri}?fieldSelector=metadata.name%3Ds3,type%3DOpaque")
            )
            .await
            .1
        ),
        ["s3"]
    );
    let (code, refused) = get(&client, &format!("{uri}?fieldSelector=spec.x%3D1")).await;
    assert_eq!(
        (code, refused["message"].as_str()),
        (400, Some("field label not supported: spec.x"))
    );
    let (_, first) = get(&client, &format!("{uri}?limit=2")).await;
    assert_eq!(
        (
            names(&first),
            first["metadata"]["remainingItemCount"].as_i64()
        ),
        (vec!["s0".into(), "s1".into()], Some(3))
    );
    send(&client, "DELETE", &format!("{uri}/s2"), "", Value::Null).await;
    post(&client, uri, json!({"metadata": {"name": "s1a"}})).await;
    let token = first["metadata"]["continue"].as_str().unwrap();
    let (_, rest) = get(&client, &format!("{uri}?limit=10&continue={token}")).await;
    assert_eq!(names(&rest), ["s2", "s3", "s4"]);
    assert_eq!(
        rest["metadata"]["resourceVersion"],
        first["metadata"]["resourceVersion"]
    );
    for (query, code, reason) in [
        ("continue=nonsense", 400, "BadRequest"),
        ("resourceVersion=999999", 504, "Timeout"),
        ("resourceVersion=x", 400, "BadRequest"),
        ("resourceVersionMatch=Exact", 422, "Invalid"),
        (
            "resourceVersionMatch=Exact&resourceVersion=0",
            422,
            "Invalid",
        ),
        ("sendInitialEvents=true", 422, "Invalid"),
    ] {
        let (found, status) = get(&client, &format!("{uri}?{query}")).await;
        assert_eq!(
            (found, status["reason"].as_str()),
            (code, Some(reason)),
            "{query}"
        );
    }
}

/// The next events of a watch, as type and name.
async fn events(
    stream: &mut (impl futures::Stream<Item = kube::Result<WatchEvent<ConfigMap>>> + Unpin),
    count: usize,
) -> Vec<String> {
    let mut out = Vec::new();
    while out.len() < count {
        let event = tokio::time::timeout(std::time::Duration::from_secs(20), stream.try_next())
            .await
            .unwrap()
            .unwrap()
            .unwrap();
        out.push(match event {
            WatchEvent::Added(map) => format!("ADDED {}", map.metadata.name.unwrap()),
            WatchEvent::Modified(map) => format!("MODIFIED {}", map.metadata.name.unwrap()),
            WatchEvent::Deleted(map) => format!("DELETED {}", map.metadata.name.unwrap()),
            WatchEvent::Bookmark(bookmark) => {
                format!("BOOKMARK {}", bookmark.metadata.annotations.len())
            }
            WatchEvent::Error(status) => format!("ERROR {}", status.code),
        });
    }
    out
}

#[tokio::test]
async fn watches_see_every_change_in_order_through_their_selectors() {
    // K-130, K-131, K-132, K-136, K-137
    let server = server().await;
    let client = client(&server);
    post(
        &client,
        "/api/v1/namespaces",
        json!({"metadata": {"name": "w"}}),
    )
    .await;
    let maps: Api<ConfigMap> = Api::namespaced(client.clone(), "w");
    let params = WatchParams::default().labels("on=yes").disable_bookmarks();
    let start = maps
        .list(&ListParams::default())
        .await
        .unwrap()
        .metadata
        .resource_version
        .unwrap();
    let mut stream = maps.watch(&params, &start).await.unwrap().boxed();
    let label = |value: &str| Patch::Merge(json!({"metadata": {"labels": {"on": value}}}));
    maps.create(&PostParams::default(), &map("a", json!({})))
        .await
        .unwrap();
    maps.patch("a", &PatchParams::default(), &label("yes"))
        .await
        .unwrap();
    maps.patch(
        "a",
        &PatchParams::default(),
        &Patch::Merge(json!({"data": {"x": "1"}})),
    )
    .await
    .unwrap();
    maps.patch("a", &PatchParams::default(), &label("no"))
        .await
        .unwrap();
    maps.patch("a", &PatchParams::default(), &label("yes"))
        .await
        .unwrap();
    maps.delete("a", &DeleteParams::default()).await.unwrap();
    let seen = events(&mut stream, 5).await;
    assert_eq!(
        seen,
        ["ADDED a", "MODIFIED a", "DELETED a", "ADDED a", "DELETED a"]
    );
    maps.create(&PostParams::default(), &map("b", json!({})))
        .await
        .unwrap();
    let all = WatchParams::default()
        .disable_bookmarks()
        .fields("metadata.name=b");
    let mut stream = maps.watch(&all, "0").await.unwrap().boxed();
    assert_eq!(events(&mut stream, 1).await, ["ADDED b"]);
    let mut stream = maps
        .watch(&WatchParams::default(), "0")
        .await
        .unwrap()
        .boxed();
    // `kube-root-ca.crt` and `b`, then the bookmark that ends them (K-132).
    assert_eq!(
        events(&mut stream, 3).await,
        ["ADDED b", "ADDED kube-root-ca.crt", "BOOKMARK 1"]
    );
}

#[tokio::test]
async fn streaming_lists_end_with_a_bookmark_even_when_empty() {
    // K-133, K-135
    let server = server().await;
    let maps: Api<ConfigMap> = Api::namespaced(client(&server), "kube-system");
    let params = WatchParams::default().initial_events().labels("none=such");
    let mut stream = maps.watch(&params, "").await.unwrap().boxed();
    assert_eq!(events(&mut stream, 1).await, ["BOOKMARK 1"]);
    let (code, _) = get(
        &client(&server),
        "/api/v1/configmaps?watch=true&sendInitialEvents=true",
    )
    .await;
    assert_eq!(code, 422);
}

#[tokio::test]
async fn kube_runtime_watchers_work_in_both_modes() {
    // K-131, K-133
    let server = server().await;
    for config in [
        watcher::Config::default(),
        watcher::Config::default().streaming_lists(),
    ] {
        let maps: Api<ConfigMap> = Api::namespaced(client(&server), "kube-public");
        let mut stream = watcher(maps.clone(), config).boxed();
        let mut names = Vec::new();
        loop {
            match stream.try_next().await.unwrap().unwrap() {
                watcher::Event::InitApply(map) => names.push(map.metadata.name.unwrap()),
                watcher::Event::InitDone => break,
                _ => {}
            }
        }
        assert_eq!(names, ["kube-root-ca.crt"]);
        maps.create(&PostParams::default(), &map("late", json!({})))
            .await
            .unwrap();
        let Some(watcher::Event::Apply(late)) = stream.try_next().await.unwrap() else {
            panic!()
        };
        assert_eq!(late.metadata.name.as_deref(), Some("late"));
        maps.delete("late", &DeleteParams::default()).await.unwrap();
    }
}

#[tokio::test]
async fn dry_runs_answer_and_store_nothing() {
    // K-075
    let server = server().await;
    let client = client(&server);
    let maps = "/api/v1/namespaces/default/configmaps";
    let (code, made) = post(
        &client,
        &format!("{maps}?dryRun=All"),
        json!({"metadata": {"name": "d"}}),
    )
    .await;
    assert_eq!((code, made["metadata"]["name"].as_str()), (201, Some("d")));
    assert_eq!(get(&client, &format!("{maps}/d")).await.0, 404);
    assert_eq!(
        post(
            &client,
            &format!("{maps}?dryRun=Some"),
            json!({"metadata": {"name": "d"}})
        )
        .await
        .0,
        422
    );
}

#[tokio::test]
async fn unknown_and_duplicate_fields_are_refused_warned_of_or_dropped() {
    // K-076, K-077
    let server = server().await;
    let client = client(&server);
    let maps = "/api/v1/namespaces/default/configmaps";
    let body = json!({"metadata": {"name": "u"}, "dat": {}});
    let (code, refused) = post(
        &client,
        &format!("{maps}?fieldValidation=Strict"),
        body.clone(),
    )
    .await;
    assert_eq!(code, 400);
    let expected = "ConfigMap in version \"v1\" cannot be handled as a ConfigMap: strict decoding error: unknown field \"dat\"";
    assert_eq!(refused["message"], expected);
    let (code, made) = post(&client, &format!("{maps}?fieldValidation=Ignore"), body).await;
    assert_eq!((code, made.get("dat")), (201, None));
    let (code, refused) = post(
        &client,
        maps,
        json!({"metadata": {"name": "v"}, "data": {"a": 1}}),
    )
    .await;
    assert_eq!(code, 400);
    assert!(
        refused["message"]
            .as_str()
            .unwrap()
            .contains("json: cannot unmarshal number into Go struct field")
    );
}

#[tokio::test]
async fn custom_resources_are_validated_pruned_and_defaulted() {
    // K-057, K-060, K-061, K-163, K-169, K-172, K-174
    let (_server, client) = with_widgets().await;
    let (_, definition) = get(
        &client,
        "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/widgets.example.com",
    )
    .await;
    assert_eq!(definition["status"]["conditions"][1]["type"], "Established");
    assert_eq!(definition["status"]["storedVersions"], json!(["v1"]));
    let mut body = widget("w", 2);
    body["spec"]["unknown"] = json!(1);
    body["spec"]["free"] = json!({"any": {"thing": 1}});
    body["status"] = json!({"ignored": true});
    let (code, made) = post(&client, WIDGETS, body).await;
    assert_eq!(code, 201, "{made}");
    assert_eq!(
        made["spec"],
        json!({"size": 2, "color": "red", "free": {"any": {"thing": 1}}})
    );
    assert_eq!(
        (made.get("status"), made["metadata"]["generation"].as_i64()),
        (None, Some(1))
    );
    let (code, refused) = post(&client, WIDGETS, widget("bad", 0)).await;
    assert_eq!(code, 422);
    let expected = "Widget.example.com \"bad\" is invalid: spec.size: Invalid value: 0: spec.size in body should be greater than or equal to 1";
    assert_eq!(refused["message"], expected);
    let uri = format!("{WIDGETS}/w");
    let status = json!({"metadata": {"labels": {"no": "way"}}, "spec": {"size": 9}, "status": {"ready": true}});
    let (code, updated) = send(
        &client,
        "PATCH",
        &format!("{uri}/status"),
        "application/merge-patch+json",
        status,
    )
    .await;
    assert_eq!(code, 200, "{updated}");
    assert_eq!(
        (
            updated["spec"]["size"].as_i64(),
            updated["metadata"]["labels"].as_object()
        ),
        (Some(2), None)
    );
    assert_eq!(
        (
            updated["status"]["ready"].as_bool(),
            updated["metadata"]["generation"].as_i64()
        ),
        (Some(true), Some(1))
    );
    let spec = json!({"spec": {"size": 3}, "status": {"ready": false}});
    let (_, updated) = send(&client, "PATCH", &uri, "application/merge-patch+json", spec).await;
    assert_eq!(
        (
            updated["status"]["ready"].as_bool(),
            updated["metadata"]["generation"].as_i64()
        ),
        (Some(true), Some(2))
    );
    let (code, _) = send(
        &client,
        "PATCH",
        &uri,
        "application/strategic-merge-patch+json",
        json!({}),
    )
    .await;
    assert_eq!(code, 415);
    let (code, refused) = send(&client, "PUT", &uri, "application/json", widget("w", 4)).await;
    assert_eq!(
        (code, refused["details"]["causes"][0]["field"].as_str()),
        (422, Some("metadata.resourceVersion"))
    );
}

#[tokio::test]
async fn every_version_is_served_discovered_and_gone_with_its_definition() {
    // K-005, K-006, K-011, K-012, K-166, K-167, K-168, K-175, K-181
    let (_server, client) = with_widgets().await;
    post(&client, WIDGETS, widget("w", 1)).await;
    let (_, old) = get(
        &client,
        "/apis/example.com/v1beta1/namespaces/default/widgets/w",
    )
    .await;
    assert_eq!(old["apiVersion"], "example.com/v1beta1");
    assert_eq!(get(&client, "/apis/example.com/v2/widgets").await.0, 404);
    let (_, group) = get(&client, "/apis/example.com").await;
    assert_eq!(group["preferredVersion"]["version"], "v1");
    let (_, list) = get(&client, "/apis/example.com/v1").await;
    assert_eq!(
        (
            list["resources"][0]["shortNames"][0].as_str(),
            list["resources"][1]["name"].as_str()
        ),
        (Some("wd"), Some("widgets/status"))
    );
    let (code, _) = send(
        &client,
        "DELETE",
        "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/widgets.example.com",
        "",
        Value::Null,
    )
    .await;
    assert_eq!(code, 200);
    for _ in 0..200 {
        if get(&client, "/apis/example.com").await.0 == 404 {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    panic!("the definition is still there");
}

#[tokio::test]
async fn events_are_one_object_in_two_groups() {
    // K-128, K-232, K-233
    let server = server().await;
    let client = client(&server);
    let events: Api<Event> = Api::namespaced(client.clone(), "default");
    let event = json!({
        "metadata": {"name": "e"}, "involvedObject": {"kind": "Pod", "name": "p", "namespace": "default", "uid": "u"},
        "reason": "Started", "message": "hello", "type": "Normal", "count": 1,
    });
    events
        .create(&PostParams::default(), &typed(event.clone()))
        .await
        .unwrap();
    let (_, view) = get(
        &client,
        "/apis/events.k8s.io/v1/namespaces/default/events/e",
    )
    .await;
    assert_eq!(
        (view["regarding"]["name"].as_str(), view["note"].as_str()),
        (Some("p"), Some("hello"))
    );
    assert_eq!(view["apiVersion"], "events.k8s.io/v1");
    let found = events
        .list(&ListParams::default().fields("involvedObject.name=p,involvedObject.uid=u"))
        .await
        .unwrap();
    assert_eq!(found.items.len(), 1);
    let mut elsewhere = event;
    elsewhere["metadata"]["name"] = json!("f");
    elsewhere["involvedObject"]["namespace"] = json!("other");
    assert_eq!(
        post(&client, "/api/v1/namespaces/default/events", elsewhere)
            .await
            .0,
        422
    );
}

#[tokio::test]
async fn pods_wait_for_their_node_to_be_deleted() {
    // K-036, K-065, K-340
    let server = server().await;
    let client = client(&server);
    let uri = "/api/v1/namespaces/default/pods";
    post(&client, uri, pod("p")).await;
    let binding = json!({"apiVersion": "v1", "kind": "Binding", "metadata": {"name": "p"}, "target": {"name": "n1"}});
    assert_eq!(
        post(&client, &format!("{uri}/p/binding"), binding.clone())
            .await
            .0,
        201
    );
    assert_eq!(
        post(&client, &format!("{uri}/p/binding"), binding).await.0,
        409
    );
    let found = get(&client, "/api/v1/pods?fieldSelector=spec.nodeName%3Dn1")
        .await
        .1;
    assert_eq!(found["items"].as_array().unwrap().len(), 1);
    let pods: Api<Pod> = Api::namespaced(client.clone(), "default");
    let marked = pods
        .delete("p", &DeleteParams::default())
        .await
        .unwrap()
        .left()
        .unwrap();
    assert_eq!(marked.metadata.deletion_grace_period_seconds, Some(30));
    pods.delete("p", &DeleteParams::default().grace_period(0))
        .await
        .unwrap();
    assert!(pods.get_opt("p").await.unwrap().is_none());
}

#[tokio::test]
async fn server_side_apply_owns_conflicts_and_removes() {
    // K-104, K-113, K-114, K-115, K-116
    let (_server, client) = with_widgets().await;
    let widgets = resource("example.com", "v1", "Widget", "widgets");
    let api: Api<kube::api::DynamicObject> =
        Api::namespaced_with(client.clone(), "default", &widgets);
    let apply = |spec: Value| {
        Patch::Apply(json!({"apiVersion": "example.com/v1", "kind": "Widget", "spec": spec}))
    };
    let mut first = widget("w", 1);
    first["spec"]["color"] = json!("blue");
    let one = api
        .patch(
            "w",
            &PatchParams::apply("one"),
            &Patch::Apply(first.clone()),
        )
        .await
        .unwrap();
    let again = api
        .patch("w", &PatchParams::apply("one"), &Patch::Apply(first))
        .await
        .unwrap();
    assert_eq!(
        one.metadata.resource_version,
        again.metadata.resource_version
    );
    let kube::Error::Api(conflict) = api
        .patch("w", &PatchParams::apply("two"), &apply(json!({"size": 5})))
        .await
        .unwrap_err()
    else {
        panic!()
    };
    assert_eq!((conflict.code, conflict.reason.as_str()), (409, "Conflict"));
    assert_eq!(
        conflict.message,
        "Apply failed with 1 conflict: conflict with \"one\": .spec.size"
    );
    let forced = api
        .patch(
            "w",
            &PatchParams::apply("two").force(),
            &apply(json!({"size": 5})),
        )
        .await
        .unwrap();
    assert_eq!(forced.data["spec"], json!({"size": 5, "color": "blue"}));
    let dropped = api
        .patch("w", &PatchParams::apply("one"), &apply(json!({})))
        .await
        .unwrap();
    // `color` was owned by `one` alone: it falls back to the default.
    assert_eq!(dropped.data["spec"], json!({"size": 5, "color": "red"}));
    let pods = "/api/v1/namespaces/default/pods/p";
    let media = "application/apply-patch+yaml";
    assert_eq!(
        send(
            &client,
            "PATCH",
            &format!("{pods}?fieldManager=m"),
            media,
            pod("p")
        )
        .await
        .0,
        201
    );
    let label =
        json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p", "labels": {"a": "b"}}});
    let (code, labelled) = send(
        &client,
        "PATCH",
        &format!("{pods}?fieldManager=n"),
        media,
        label,
    )
    .await;
    assert_eq!(
        (code, labelled["spec"]["containers"][0]["image"].as_str()),
        (200, Some("busybox:1"))
    );
    assert_eq!(send(&client, "PATCH", pods, media, pod("p")).await.0, 422);
}

#[tokio::test]
async fn collections_are_deleted_by_selector() {
    // K-074
    let server = server().await;
    let client = client(&server);
    let maps: Api<ConfigMap> = Api::namespaced(client.clone(), "kube-system");
    for (name, label) in [("a", "x"), ("b", "x"), ("c", "y")] {
        let made = typed(json!({"metadata": {"name": name, "labels": {"l": label}}}));
        maps.create(&PostParams::default(), &made).await.unwrap();
    }
    maps.delete_collection(
        &DeleteParams::default(),
        &ListParams::default().labels("l=x"),
    )
    .await
    .unwrap();
    let left: Vec<_> = maps
        .list(&ListParams::default())
        .await
        .unwrap()
        .items
        .into_iter()
        .filter_map(|m| m.metadata.name)
        .collect();
    assert_eq!(left, ["c", "kube-root-ca.crt"]);
    let orphan = DeleteParams {
        propagation_policy: Some(PropagationPolicy::Orphan),
        ..DeleteParams::default()
    };
    let kept = maps.delete("c", &orphan).await.unwrap().left().unwrap();
    assert_eq!(kept.metadata.finalizers, Some(vec!["orphan".to_owned()]));
}

#[tokio::test]
async fn namespaces_can_be_listed_by_phase() {
    // K-129
    let server = server().await;
    let namespaces: Api<Namespace> = Api::all(client(&server));
    let active = namespaces
        .list(&ListParams::default().fields("status.phase=Active"))
        .await
        .unwrap();
    assert_eq!(active.items.len(), 4);
}
