//! The admission that needs no webhook, and the tokens of service accounts.

mod support;

use kube::Client;
use serde_json::{Value, json};
use support::{client, get, pod, post, send, server};
use tektite_apiserver::Identity;

const PODS: &str = "/api/v1/namespaces/default/pods";

async fn start() -> (tektite_apiserver::ApiServer, Client) {
    let server = server().await;
    let client = client(&server);
    (server, client)
}

fn message(status: &Value) -> &str {
    status["message"].as_str().unwrap_or_default()
}

#[tokio::test]
async fn limit_ranges_fill_in_and_refuse() {
    // K-095, K-202
    let (_server, client) = start().await;
    let limits = json!({"metadata": {"name": "l"}, "spec": {"limits": [
        {"type": "Container", "max": {"cpu": "1"}, "defaultRequest": {"memory": "64Mi"}},
        {"type": "PersistentVolumeClaim", "max": {"storage": "1Gi"}},
    ]}});
    let (_, made) = post(&client, "/api/v1/namespaces/default/limitranges", limits).await;
    assert_eq!(made["spec"]["limits"][0]["default"], json!({"cpu": "1"}));
    let (_, made) = post(&client, PODS, pod("a")).await;
    let resources = &made["spec"]["containers"][0]["resources"];
    assert_eq!(
        resources,
        &json!({"limits": {"cpu": "1"}, "requests": {"cpu": "1", "memory": "64Mi"}})
    );
    let note = made["metadata"]["annotations"]["kubernetes.io/limit-ranger"]
        .as_str()
        .unwrap();
    assert_eq!(
        note,
        "LimitRanger plugin set: cpu, memory request for container main; cpu limit for container main"
    );
    let mut big = pod("b");
    big["spec"]["containers"][0]["resources"] =
        json!({"limits": {"cpu": "2"}, "requests": {"cpu": "500m"}});
    let (code, refused) = post(&client, PODS, big).await;
    let expected = "pods \"b\" is forbidden: maximum cpu usage per Container is 1, but limit is 2";
    assert_eq!((code, message(&refused)), (403, expected));
    let claim = json!({"metadata": {"name": "c"}, "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "2Gi"}}}});
    let (code, refused) = post(
        &client,
        "/api/v1/namespaces/default/persistentvolumeclaims",
        claim,
    )
    .await;
    assert_eq!(code, 403);
    assert!(
        message(&refused).ends_with(
            "maximum storage usage per PersistentVolumeClaim is 1Gi, but request is 2Gi"
        )
    );
}

#[tokio::test]
async fn quotas_count_and_refuse() {
    // K-095, K-203, K-204
    let (_server, client) = start().await;
    let quota = json!({"metadata": {"name": "q"}, "spec": {"hard": {"pods": "1", "count/configmaps": "2"}}});
    post(&client, "/api/v1/namespaces/default/resourcequotas", quota).await;
    assert_eq!(post(&client, PODS, pod("a")).await.0, 201);
    let (code, refused) = post(&client, PODS, pod("b")).await;
    let expected = "pods \"b\" is forbidden: exceeded quota: q, requested: pods=1, used: pods=1, limited: pods=1";
    assert_eq!((code, message(&refused)), (403, expected));
    let maps = "/api/v1/namespaces/default/configmaps";
    assert_eq!(
        post(&client, maps, json!({"metadata": {"name": "a"}}))
            .await
            .0,
        201
    );
    assert_eq!(
        post(&client, maps, json!({"metadata": {"name": "b"}}))
            .await
            .0,
        403
    );
}

#[tokio::test]
async fn pod_security_levels_are_enforced_where_a_namespace_asks() {
    // K-095, K-205, K-318
    let (_server, client) = start().await;
    let mut privileged = pod("a");
    privileged["spec"]["containers"][0]["securityContext"] = json!({"privileged": true});
    assert_eq!(post(&client, PODS, privileged.clone()).await.0, 201);
    let namespace = json!({"metadata": {"name": "safe", "labels": {"pod-security.kubernetes.io/enforce": "restricted"}}});
    post(&client, "/api/v1/namespaces", namespace).await;
    let uri = "/api/v1/namespaces/safe/pods";
    let (code, refused) = post(&client, uri, privileged).await;
    assert_eq!(code, 403);
    assert!(
        message(&refused)
            .contains("violates PodSecurity \"restricted:latest\": privileged (container \"main\""),
        "{refused}"
    );
    let mut good = pod("b");
    good["spec"]["securityContext"] =
        json!({"runAsNonRoot": true, "seccompProfile": {"type": "RuntimeDefault"}});
    good["spec"]["containers"][0]["securityContext"] =
        json!({"allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]}});
    assert_eq!(post(&client, uri, good).await.0, 201);
}

#[tokio::test]
async fn claims_and_pods_get_what_their_classes_say() {
    // K-206, K-207, K-208, K-250, K-256
    let (_server, client) = start().await;
    let class = json!({
        "metadata": {"name": "local", "annotations": {"storageclass.kubernetes.io/is-default-class": "true"}},
        "provisioner": "example.com/local",
    });
    post(&client, "/apis/storage.k8s.io/v1/storageclasses", class).await;
    let claim = |name: &str, spec: Value| {
        let mut claim = json!({"metadata": {"name": name}, "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1024Mi"}}}});
        for (key, value) in spec.as_object().unwrap() {
            claim["spec"][key] = value.clone();
        }
        claim
    };
    let claims = "/api/v1/namespaces/default/persistentvolumeclaims";
    let (_, made) = post(&client, claims, claim("a", json!({}))).await;
    assert_eq!(
        (
            made["spec"]["storageClassName"].as_str(),
            made["status"]["phase"].as_str()
        ),
        (Some("local"), Some("Pending"))
    );
    assert_eq!(
        made["metadata"]["finalizers"],
        json!(["kubernetes.io/pvc-protection"])
    );
    // K-082
    assert_eq!(made["spec"]["resources"]["requests"]["storage"], "1Gi");
    let (_, made) = post(&client, claims, claim("b", json!({"storageClassName": ""}))).await;
    assert_eq!(made["spec"]["storageClassName"], "");
    let merge = "application/merge-patch+json";
    let (code, _) = send(
        &client,
        "PATCH",
        &format!("{claims}/a"),
        merge,
        json!({"spec": {"accessModes": ["ReadWriteMany"]}}),
    )
    .await;
    assert_eq!(code, 422);
    let mut unknown = pod("p");
    unknown["spec"]["priorityClassName"] = json!("none");
    let (code, refused) = post(&client, PODS, unknown).await;
    assert_eq!(
        (code, message(&refused)),
        (
            403,
            "pods \"p\" is forbidden: no PriorityClass with name none was found"
        )
    );
    let mut critical = pod("p");
    critical["spec"]["priorityClassName"] = json!("system-cluster-critical");
    assert_eq!(
        post(&client, PODS, critical).await.1["spec"]["priority"],
        2_000_000_000
    );
    let mut runtime = pod("q");
    runtime["spec"]["runtimeClassName"] = json!("gvisor");
    assert_eq!(post(&client, PODS, runtime).await.0, 403);
}

#[tokio::test]
async fn services_are_defaulted_and_keep_their_address() {
    // K-059, K-237
    let (_server, client) = start().await;
    let service = json!({"metadata": {"name": "s"}, "spec": {"ports": [{"port": 80}], "selector": {"a": "b"}}});
    let uri = "/api/v1/namespaces/default/services";
    let (_, made) = post(&client, uri, service.clone()).await;
    assert_eq!(
        made["spec"]["ports"],
        json!([{"port": 80, "protocol": "TCP", "targetPort": 80}])
    );
    assert_eq!(made["spec"]["clusterIPs"][0], made["spec"]["clusterIP"]);
    assert!(
        made["spec"]["clusterIP"]
            .as_str()
            .unwrap()
            .starts_with("10.96.")
    );
    let (code, again) = send(
        &client,
        "PUT",
        &format!("{uri}/s"),
        "application/json",
        service,
    )
    .await;
    assert_eq!((code, &again), (200, &made));
    let two = json!({"metadata": {"name": "t"}, "spec": {"ports": [{"port": 80}, {"port": 81, "name": "x"}]}});
    let (code, refused) = post(&client, uri, two).await;
    assert_eq!(
        (code, refused["details"]["causes"][0]["field"].as_str()),
        (422, Some("spec.ports[0].name"))
    );
}

#[tokio::test]
async fn tokens_stand_for_their_account_while_it_and_its_pod_exist() {
    // K-211, K-212, K-213
    let (_server, client) = start().await;
    post(&client, PODS, pod("p")).await;
    let token = |spec: Value| {
        let client = client.clone();
        async move {
            post(
                &client,
                "/api/v1/namespaces/default/serviceaccounts/default/token",
                json!({"spec": spec}),
            )
            .await
        }
    };
    let review = |text: String, audiences: Value| {
        let client = client.clone();
        async move {
            let body = json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview", "spec": {"token": text, "audiences": audiences}});
            post(&client, "/apis/authentication.k8s.io/v1/tokenreviews", body)
                .await
                .1["status"]
                .clone()
        }
    };
    let text = |answer: &Value| answer["status"]["token"].as_str().unwrap().to_owned();
    let (code, made) = token(json!({"boundObjectRef": {"kind": "Pod", "name": "p"}})).await;
    assert_eq!(code, 201);
    let status = review(text(&made), json!([])).await;
    assert_eq!(
        status["user"]["username"],
        "system:serviceaccount:default:default"
    );
    let groups = json!([
        "system:serviceaccounts",
        "system:serviceaccounts:default",
        "system:authenticated"
    ]);
    assert_eq!(
        (&status["authenticated"], &status["user"]["groups"]),
        (&json!(true), &groups)
    );
    let (_, other) = token(json!({"audiences": ["vault"], "expirationSeconds": 600})).await;
    assert_eq!(
        review(text(&other), json!([])).await["authenticated"],
        Value::Null
    );
    assert_eq!(
        review(text(&other), json!(["vault"])).await["audiences"],
        json!(["vault"])
    );
    send(&client, "DELETE", &format!("{PODS}/p"), "", Value::Null).await;
    assert_eq!(
        review(text(&made), json!([])).await["authenticated"],
        Value::Null
    );
    let mut forged = text(&other);
    forged.replace_range(..1, "x");
    assert!(review(forged, json!(["vault"])).await["error"].is_string());
    assert_eq!(token(json!({"expirationSeconds": 60})).await.0, 422);
    assert_eq!(
        token(json!({"boundObjectRef": {"kind": "Pod", "name": "gone"}}))
            .await
            .0,
        404
    );
}

#[tokio::test]
async fn identities_in_process_are_limited_by_rbac() {
    // K-215, K-217, K-218
    let (server, client) = start().await;
    let own = Client::new(
        server.client_service(Identity::service_account("default", "builder")),
        "default",
    );
    assert_eq!(get(&own, PODS).await.0, 403);
    let group = "/apis/rbac.authorization.k8s.io/v1";
    let role = json!({"metadata": {"name": "r"}, "rules": [{"apiGroups": [""], "resources": ["pods"], "verbs": ["get"], "resourceNames": ["p"]}]});
    post(&client, &format!("{group}/namespaces/default/roles"), role).await;
    let subjects = json!([{"kind": "ServiceAccount", "name": "builder", "namespace": "default"}]);
    let binding = |name: &str, kind: &str, role: &str| json!({"metadata": {"name": name}, "roleRef": {"kind": kind, "name": role, "apiGroup": "rbac.authorization.k8s.io"}, "subjects": subjects});
    let bindings = format!("{group}/namespaces/default/rolebindings");
    post(&client, &bindings, binding("b", "Role", "r")).await;
    post(&client, PODS, pod("p")).await;
    assert_eq!(
        (
            get(&own, &format!("{PODS}/p")).await.0,
            get(&own, PODS).await.0
        ),
        (200, 403)
    );
    post(&client, &bindings, binding("e", "ClusterRole", "edit")).await;
    assert_eq!(post(&own, PODS, pod("q")).await.0, 201);
    assert_eq!(
        get(&own, "/api/v1/namespaces/kube-system/pods").await.0,
        403
    );
    // Tekton's manifests add to `edit` by label.
    let widgets = json!({
        "metadata": {"name": "more", "labels": {"rbac.authorization.k8s.io/aggregate-to-edit": "true"}},
        "rules": [{"apiGroups": ["coordination.k8s.io"], "resources": ["leases"], "verbs": ["*"]}],
    });
    post(&client, &format!("{group}/clusterroles"), widgets).await;
    assert_eq!(
        get(
            &own,
            "/apis/coordination.k8s.io/v1/namespaces/default/leases"
        )
        .await
        .0,
        200
    );
    let fixed = json!({"roleRef": {"kind": "ClusterRole", "name": "view", "apiGroup": "rbac.authorization.k8s.io"}});
    let (code, refused) = send(
        &client,
        "PATCH",
        &format!("{bindings}/b"),
        "application/merge-patch+json",
        fixed,
    )
    .await;
    assert_eq!(code, 422);
    assert!(message(&refused).contains("cannot change roleRef"));
}

#[tokio::test]
async fn leases_keep_microseconds_and_conflict() {
    // K-057, K-081, K-236
    let (_server, client) = start().await;
    let uri = "/apis/coordination.k8s.io/v1/namespaces/default/leases";
    let lease = json!({"metadata": {"name": "l"}, "spec": {"holderIdentity": "a", "renewTime": "2024-01-02T03:04:05.123456Z", "acquireTime": "2024-01-02T03:04:05Z"}});
    let (_, made) = post(&client, uri, lease).await;
    assert_eq!(made["spec"]["renewTime"], "2024-01-02T03:04:05.123456Z");
    assert_eq!(made["spec"]["acquireTime"], "2024-01-02T03:04:05.000000Z");
    let mut taken = made.clone();
    taken["spec"]["holderIdentity"] = json!("b");
    let first = send(
        &client,
        "PUT",
        &format!("{uri}/l"),
        "application/json",
        taken.clone(),
    )
    .await;
    let second = send(
        &client,
        "PUT",
        &format!("{uri}/l"),
        "application/json",
        taken,
    )
    .await;
    assert_eq!(
        (first.0, second.0, second.1["reason"].as_str()),
        (200, 409, Some("Conflict"))
    );
}
