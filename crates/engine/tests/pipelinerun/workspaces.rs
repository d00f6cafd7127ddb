//! Workspaces, claims and affinity assistants.

use std::sync::Arc;

use serde_json::{Value, json};
use tektite_engine::child_name::sha256_hex;
use tektite_engine::decision::{Answer, Effect, Found};

use crate::world::World;

fn using(workspaces: Value) -> Value {
    json!({"name": "a", "taskSpec": {"workspaces": [{"name": "in"}, {"name": "maybe", "optional": true}],
        "steps": [{"name": "s", "image": "i"}]}, "workspaces": workspaces})
}

fn world(mode: &str, bindings: Value, workspaces: Value) -> World {
    let mut world = World::of_run(json!({
        "workspaces": bindings, "params": [{"name": "dir", "value": "d"}],
        "pipelineSpec": {"workspaces": [{"name": "w"}], "tasks": [using(workspaces)]}
    }));
    mode.clone_into(&mut world.config.feature_flags.coschedule);
    world
}

fn bindings(world: &World) -> Value {
    serde_json::to_value(&world.task_runs["run-a"].spec.workspaces).unwrap()
}

fn made(world: &World) -> Vec<String> {
    let name = |name: &Option<String>| name.clone().unwrap();
    world
        .log
        .iter()
        .map(|effect| match effect {
            Effect::CreatePvc(claim) => format!("+claim {}", name(&claim.metadata.name)),
            Effect::CreateStatefulSet(set) => format!("+set {}", name(&set.metadata.name)),
            Effect::CreateTaskRun(run) => format!("+run {}", name(&run.metadata.name)),
            Effect::DeleteStatefulSet { name } => format!("-set {name}"),
            Effect::DeletePvc { name } => format!("-claim {name}"),
            Effect::PatchPvc { name, .. } => format!("patch claim {name}"),
            other => format!("{other:?}"),
        })
        .collect()
}

fn assistant(of: &str) -> String {
    format!("affinity-assistant-{}", sha256_hex(&format!("{of}run"), 10))
}

#[test]
fn a_claim_is_made_of_a_template_once_and_the_task_refers_to_it() {
    // P-237, P-239, P-240, P-241, P-245, P-246, P-253, P-256
    let template = json!([{"name": "w", "volumeClaimTemplate": {"metadata": {"labels": {"a": "b"}}, "spec": {}}}]);
    let mut world = world(
        "workspaces",
        template,
        json!([{"name": "in", "workspace": "w", "subPath": "x"}]),
    );
    world.reconcile();
    let claim = format!("pvc-{}", sha256_hex("wuid", 10));
    let set = assistant("w");
    assert_eq!(
        made(&world),
        [
            format!("+claim {claim}"),
            format!("+set {set}"),
            "+run run-a".into()
        ]
    );
    let Effect::CreatePvc(made_claim) = &world.log[0] else {
        panic!()
    };
    assert_eq!(made_claim.metadata.labels.as_ref().unwrap()["a"], "b");
    assert_eq!(
        made_claim.metadata.owner_references.as_ref().unwrap()[0].uid,
        "uid"
    );
    assert_eq!(
        bindings(&world),
        json!([{"name": "in", "subPath": "x", "persistentVolumeClaim": {"claimName": claim}}])
    );
    let annotations = world.task_runs["run-a"]
        .metadata
        .annotations
        .clone()
        .unwrap();
    assert_eq!(annotations["pipeline.tekton.dev/affinity-assistant"], set);
    world.reconcile().succeed("run-a", json!({}));
    // Only the assistant goes.
    assert_eq!(made(&world)[3..], [format!("-set {set}")]);
}

#[test]
fn claims_are_deleted_at_the_end_if_the_run_asks_for_it() {
    // P-243, P-244
    for (mode, annotated, finalizers, expected) in [
        (
            "workspaces",
            true,
            json!(["kubernetes.io/pvc-protection", "mine"]),
            vec!["-claim", "patch claim"],
        ),
        ("workspaces", true, json!([]), vec!["-claim"]),
        ("workspaces", false, json!([]), vec![]),
        ("disabled", true, json!([]), vec![]),
    ] {
        let template = json!([{"name": "w", "volumeClaimTemplate": {"spec": {}}}]);
        let mut world = world(mode, template, json!([{"name": "in", "workspace": "w"}]));
        if annotated {
            world.run.metadata.annotations =
                Some([("tekton.dev/auto-cleanup-pvc".into(), "true".into())].into());
        }
        let claim = format!("pvc-{}", sha256_hex("wuid", 10));
        let object =
            serde_json::from_value(json!({"metadata": {"name": claim, "finalizers": finalizers}}))
                .unwrap();
        world
            .answers
            .insert(claim.clone(), Answer::Found(Found::Pvc(Arc::new(object))));
        world.reconcile().succeed("run-a", json!({}));
        let done: Vec<String> = made(&world)
            .into_iter()
            .filter(|it| it.contains("claim") && !it.starts_with('+'))
            .collect();
        let expected: Vec<String> = expected
            .iter()
            .map(|what| format!("{what} {claim}"))
            .collect();
        assert_eq!(done, expected, "{mode} {annotated}");
    }
}

#[test]
fn the_per_run_modes_have_one_assistant_that_makes_the_claims() {
    // P-245, P-249, P-250, P-251, P-253
    let sources = json!([
        {"name": "w", "volumeClaimTemplate": {"spec": {}}}, {"name": "own", "persistentVolumeClaim": {"claimName": "c"}}]);
    let mut world = world(
        "isolate-pipelinerun",
        sources,
        json!([{"name": "in", "workspace": "w"}]),
    );
    world.reconcile();
    let set = assistant("");
    assert_eq!(made(&world), [format!("+set {set}"), "+run run-a".into()]);
    let claim = format!("pvc-{}", sha256_hex("wuid", 10));
    assert_eq!(
        bindings(&world),
        json!([{"name": "in", "persistentVolumeClaim": {"claimName": format!("{claim}-{set}-0")}}])
    );
    let Effect::CreateStatefulSet(object) = &world.log[0] else {
        panic!()
    };
    let object = serde_json::to_value(object).unwrap();
    assert_eq!(
        object["spec"]["volumeClaimTemplates"][0]["metadata"]["name"],
        json!(claim)
    );
    let pod = &object["spec"]["template"]["spec"];
    assert_eq!(
        pod["containers"][0]["volumeMounts"],
        json!([{"name": claim, "mountPath": claim}])
    );
    assert_eq!(
        pod["volumes"],
        json!([{"name": "workspace-0", "persistentVolumeClaim": {"claimName": "c"}}])
    );
    let anti =
        &pod["affinity"]["podAntiAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"][0];
    assert_eq!(anti["topologyKey"], "kubernetes.io/hostname");
    let annotations = world.task_runs["run-a"]
        .metadata
        .annotations
        .clone()
        .unwrap();
    assert_eq!(annotations["pipeline.tekton.dev/affinity-assistant"], set);
}

#[test]
fn an_assistant_looks_as_tekton_makes_it() {
    // P-247, P-248, P-249, P-251, P-252
    let mut world = world(
        "workspaces",
        json!([{"name": "w", "persistentVolumeClaim": {"claimName": "c"}}]),
        json!([{"name": "in", "workspace": "w"}]),
    );
    world.run.metadata.labels = Some([("team".to_owned(), "x".to_owned())].into());
    world.run.spec.task_run_template = serde_json::from_value(json!({
        "serviceAccountName": "robot", "podTemplate": {"nodeSelector": {"disk": "ssd"}, "schedulerName": "not taken"}}))
    .unwrap();
    world.reconcile();
    let Effect::CreateStatefulSet(object) = &world.log[0] else {
        panic!()
    };
    let object = serde_json::to_value(object).unwrap();
    let labels = json!({
        "team": "x", "tekton.dev/pipeline": "run", "tekton.dev/pipelineRun": "run",
        "app.kubernetes.io/instance": assistant("w"), "app.kubernetes.io/component": "affinity-assistant"
    });
    for path in [
        "/metadata/labels",
        "/spec/selector/matchLabels",
        "/spec/template/metadata/labels",
    ] {
        assert_eq!(object.pointer(path), Some(&labels), "{path}");
    }
    assert_eq!(
        object["spec"]["template"]["spec"],
        json!({
            "containers": [{"name": "affinity-assistant", "image": "nop", "args": ["tekton_run_indefinitely"],
                "resources": {"requests": {"cpu": "50m", "memory": "100Mi"}, "limits": {"cpu": "50m", "memory": "100Mi"}}}],
            "nodeSelector": {"disk": "ssd"}, "serviceAccountName": "robot",
            "affinity": {"podAntiAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": [{"weight": 100,
                "podAffinityTerm": {"topologyKey": "kubernetes.io/hostname", "labelSelector": {"matchLabels": {
                    "app.kubernetes.io/component": "affinity-assistant"}}}}]}},
            "volumes": [{"name": "workspace-0", "persistentVolumeClaim": {"claimName": "c"}}]
        })
    );
}

#[test]
fn an_assistant_is_restricted_only_if_the_installation_says_so() {
    // P-248
    let mut world = world(
        "workspaces",
        json!([{"name": "w", "persistentVolumeClaim": {"claimName": "c"}}]),
        json!([{"name": "in", "workspace": "w"}]),
    );
    world.config.feature_flags.set_security_context = true;
    world.reconcile();
    let Effect::CreateStatefulSet(object) = &world.log[0] else {
        panic!("{:?}", world.log)
    };
    let object = serde_json::to_value(object).unwrap();
    let context = &object["spec"]["template"]["spec"]["containers"][0]["securityContext"];
    assert_eq!(context["runAsNonRoot"], true, "{object}");
}

#[test]
fn the_terms_of_assistants_reach_the_task_runs_made_with_them_if_the_run_has_an_affinity() {
    // P-251
    let mut world = World::of_run(json!({
        "workspaces": [{"name": "v", "persistentVolumeClaim": {"claimName": "c"}}, {"name": "w", "persistentVolumeClaim": {"claimName": "d"}}],
        "taskRunTemplate": {"podTemplate": {"affinity": {"podAntiAffinity": {}}}},
        "pipelineSpec": {"workspaces": [{"name": "v"}, {"name": "w"}], "tasks": [
            {"name": "a", "taskSpec": {"steps": [{"image": "i"}]}},
            {"name": "b", "runAfter": ["a"], "taskSpec": {"steps": [{"image": "i"}]}}]}
    }));
    world.reconcile();
    world.succeed("run-a", json!({}));
    let terms = |name: &str| {
        let run = serde_json::to_value(&world.task_runs[name]).unwrap();
        let path = "/spec/podTemplate/affinity/podAntiAffinity/preferredDuringSchedulingIgnoredDuringExecution";
        run.pointer(path)
            .and_then(Value::as_array)
            .map_or(0, Vec::len)
    };
    assert_eq!((terms("run-a"), terms("run-b")), (2, 0));
}

#[test]
fn of_several_workspaces_with_one_claim_only_the_last_has_an_assistant() {
    // P-245
    let claim = |name: &str| json!({"name": name, "persistentVolumeClaim": {"claimName": "c"}});
    let mut world = world(
        "workspaces",
        json!([claim("w"), claim("v")]),
        json!([{"name": "in", "workspace": "w"}]),
    );
    world.reconcile();
    assert_eq!(
        made(&world),
        [format!("+set {}", assistant("v")), "+run run-a".into()]
    );
    let annotations = world.task_runs["run-a"]
        .metadata
        .annotations
        .clone()
        .unwrap();
    assert_eq!(
        annotations["pipeline.tekton.dev/affinity-assistant"],
        assistant("w")
    );
}

#[test]
fn a_claim_or_assistant_that_cannot_be_made_is_told() {
    // P-242, P-255
    let attempt = |part: &str, code: u16, message: &str| {
        let template = json!([{"name": "w", "volumeClaimTemplate": {"spec": {}}}]);
        let mut world = world(
            "workspaces",
            template,
            json!([{"name": "in", "workspace": "w"}]),
        );
        world.refuse.push((part.into(), code, message.into()));
        world.reconcile();
        assert!(world.made.is_empty());
        (world.outcome(), world.wake.is_some())
    };
    let claim = format!("pvc-{}", sha256_hex("wuid", 10));
    let text = |status: &str, reason: &str, message: String| {
        (status.to_owned(), reason.to_owned(), message)
    };
    assert_eq!(
        attempt("CreatePvc", 403, "exceeded quota: small"),
        (
            text(
                "Unknown",
                "PipelineRunPending",
                format!(
                    "Waiting for PVC creation to succeed: PVC creation error, retryable for {claim}: exceeded quota: small"
                )
            ),
            true
        )
    );
    assert_eq!(
        attempt("CreatePvc", 403, "not allowed"),
        (
            text(
                "False",
                "CouldntCreateWorkspacePVC",
                format!(
                    "Failed to create PVC for PipelineRun ns/run correctly: PVC creation error for {claim}: not allowed"
                )
            ),
            false
        )
    );
    let ((status, reason, message), _) = attempt("CreateStatefulSet", 403, "no");
    assert_eq!(
        (status.as_str(), reason.as_str()),
        (
            "False",
            "ReasonCouldntCreateOrUpdateAffinityAssistantStatefulSet"
        )
    );
    assert_eq!(
        message,
        format!(
            "Failed to create StatefulSet for PipelineRun ns/run correctly: Affinity Assistant creation error: [failed to \
             create StatefulSet {}: no]",
            assistant("w")
        )
    );
}

#[test]
fn sources_are_copied_under_the_tasks_name_with_params_and_results_filled_in() {
    // P-140, P-148, P-234, P-236
    let mut world = World::of_run(json!({
        "params": [{"name": "dir", "value": "d"}],
        "workspaces": [{"name": "w", "subPath": "$(params.dir)/", "configMap": {"name": "$(tasks.p.results.cm)"}}],
        "pipelineSpec": {"workspaces": [{"name": "w"}], "tasks": [
            {"name": "p", "taskSpec": crate::world::giving(&["cm"])},
            {"name": "a", "runAfter": ["p"], "taskRef": {"name": "t"},
                "workspaces": [{"name": "in", "workspace": "w", "subPath": "$(context.pipelineRun.name)/../e"}, {"name": "maybe"}]}
        ]}
    }))
    .task("t", json!({"workspaces": [{"name": "in"}, {"name": "maybe", "optional": true}], "steps": []}));
    world
        .reconcile()
        .succeed("run-p", json!({"cm": "settings"}));
    assert_eq!(
        bindings(&world),
        json!([{"name": "in", "subPath": "d/e", "configMap": {"name": "settings"}}])
    );
}

#[test]
fn a_workspace_that_is_needed_and_not_bound_ends_the_run() {
    // P-234
    let mut world = world(
        "workspaces",
        json!([{"name": "w", "emptyDir": {}}]),
        json!([{"name": "in", "workspace": "none"}]),
    );
    world.reconcile();
    world.assert_outcome(
        "False",
        "CreateRunFailed",
        "expected workspace \"none\" to be provided by pipelinerun for pipeline task \"a\"",
    );
}

#[test]
fn runs_that_share_a_claim_are_not_kept_apart() {
    // P-238: only steps and sidecars can have a workspace to themselves, which is for the TaskRun to see to.
    let task = json!({"name": "a", "workspaces": [{"name": "w"}], "taskSpec": {"workspaces": [{"name": "w"}],
        "steps": [{"name": "s", "image": "i", "workspaces": [{"name": "w", "mountPath": "/alone"}]}, {"name": "t", "image": "i"}]}});
    let spec = json!({"workspaces": [{"name": "w", "persistentVolumeClaim": {"claimName": "shared"}}],
        "pipelineSpec": {"workspaces": [{"name": "w"}], "tasks": [task]}});
    let mut one = World::of_run(spec.clone());
    one.reconcile();
    let mut other = World::of_run(spec);
    other.run.metadata.name = Some("other".into());
    other.rivals.push(one.run.clone().into());
    other.reconcile();
    for run in [&one.task_runs["run-a"], &other.task_runs["other-a"]] {
        let spec = serde_json::to_value(&run.spec).unwrap();
        assert_eq!(
            spec["workspaces"],
            json!([{"name": "w", "persistentVolumeClaim": {"claimName": "shared"}}])
        );
        let steps = &spec["taskSpec"]["steps"];
        assert_eq!(
            (&steps[0]["workspaces"], &steps[1]["workspaces"]),
            (&json!([{"name": "w", "mountPath": "/alone"}]), &Value::Null)
        );
    }
}

#[test]
fn an_optional_workspace_cannot_serve_a_task_that_needs_it() {
    // P-233
    let mut world = World::of_pipeline(json!({
        "workspaces": [{"name": "w", "optional": true}], "tasks": [using(json!([{"name": "in", "workspace": "w"}]))]
    }));
    world.reconcile();
    world.assert_outcome(
        "False",
        "RequiredWorkspaceMarkedOptional",
        "[User error] Optional workspace not supported by task: pipeline workspace \"w\" is marked optional but pipeline \
         task \"a\" requires it be provided",
    );
}

#[test]
fn workspaces_that_an_inline_task_speaks_of_are_bound_without_being_passed() {
    // P-235
    let mut world = World::of_run(json!({
        "workspaces": [{"name": "w", "emptyDir": {}}],
        "pipelineSpec": {"tasks": [{"name": "a", "taskSpec": {"steps": [
            {"name": "s", "image": "i", "script": "ls $(workspaces.w.path)"}]}}]}
    }));
    world.reconcile();
    assert_eq!(bindings(&world), json!([{"name": "w", "emptyDir": {}}]));
}
