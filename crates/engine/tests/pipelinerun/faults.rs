//! Runs that cannot be run, and what is said of them.

use serde_json::{Value, json};
use tektite_engine::decision::{Answer, FailureKind};

use crate::world::{World, failed};

fn step() -> Value {
    json!({"steps": [{"name": "s", "image": "i"}]})
}

fn refused(run: Value, reason: &str, message: &str) {
    let mut world = World::of_run(run);
    world.reconcile();
    world.assert_outcome("False", reason, message);
    assert!(world.made.is_empty());
    assert!(world.run.status.completion_time.is_some());
    assert_eq!(
        world.event_reasons(),
        ["Started", "Failed", "InternalError"]
    );
}

#[test]
fn a_run_that_does_not_fit_its_pipeline_fails_with_the_first_fault() {
    // P-101, P-122 to P-126, P-232, P-258, P-286, P-287, P-288
    let spec = json!({
        "params": [
            {"name": "need", "type": "string"}, {"name": "list", "type": "array", "default": ["x"]},
            {"name": "o", "type": "object", "properties": {"a": {}, "b": {}, "c": {}}, "default": {"a": "1"}}
        ],
        "workspaces": [{"name": "w"}],
        "tasks": [{"name": "t", "taskSpec": step(), "params": [{"name": "x", "value": "$(params.list[3])"}]}]
    });
    let given = |params: Value| json!({"params": params, "pipelineSpec": spec});
    refused(
        given(json!([])),
        "ParameterMissing",
        "[User error] PipelineRun ns/run is missing some parameters required by Pipeline ns/run: pipelineRun missing \
         parameters: [need]",
    );
    refused(
        given(json!([{"name": "need", "value": ["a"]}, {"name": "list", "value": "b"}])),
        "ParameterTypeMismatch",
        "[User error] PipelineRun ns/run parameters have mismatching types with Pipeline ns/run's parameters: parameters \
         have inconsistent types : [need list]",
    );
    refused(
        given(json!([{"name": "need", "value": "a"}, {"name": "o", "value": {"b": "2"}}])),
        "ObjectParameterMissKeys",
        "[User error] PipelineRun ns/run parameters is missing object keys required by Pipeline ns/run's parameters: \
         pipelineRun missing object keys for parameters: map[o:[c]]",
    );
    let complete =
        json!([{"name": "need", "value": "a"}, {"name": "o", "value": {"b": "2", "c": "3"}}]);
    refused(
        given(complete.clone()),
        "ParamArrayIndexingInvalid",
        "[User error] PipelineRun ns/run failed validation: failed to validate Pipeline ns/run's parameter which has an \
         invalid index while referring to an array: non-existent param references:[$(params.list[3])]",
    );
    let mut longer = complete.as_array().unwrap().clone();
    longer.push(json!({"name": "list", "value": ["1", "2", "3", "4"]}));
    refused(
        given(json!(longer)),
        "InvalidWorkspaceBindings",
        "[User error] PipelineRun ns/run doesn't bind Pipeline ns/run's Workspaces correctly: pipeline requires workspace \
         with name \"w\" be provided by pipelinerun",
    );
    let mut run = given(json!(longer));
    run["workspaces"] = json!([{"name": "w", "emptyDir": {}}, {"name": "more", "emptyDir": {}}]);
    run["taskRunSpecs"] = json!([{"pipelineTaskName": "other"}]);
    refused(
        run,
        "InvalidTaskRunSpecs",
        "[User error] PipelineRun ns/run doesn't define taskRunSpecs correctly: pipelineRun's taskrunSpecs defined wrong \
         taskName: \"other\", does not exist in Pipeline",
    );
}

#[test]
fn a_graph_that_is_none_is_refused() {
    // P-114, P-291
    let task =
        |name: &str, after: &[&str]| json!({"name": name, "runAfter": after, "taskSpec": step()});
    refused(
        json!({"pipelineSpec": {"tasks": [task("a", &["b"]), task("b", &["a"])]}}),
        "PipelineInvalidGraph",
        "[User error] PipelineRun ns/run's Pipeline DAG is invalid: cycle detected; task \"a\" depends on \"b\"",
    );
    refused(
        json!({"pipelineSpec": {"tasks": [task("a", &[])], "finally": [task("f", &[]), task("f", &[])]}}),
        "PipelineInvalidGraph",
        "[User error] PipelineRun ns/run's Pipeline DAG is invalid for finally clause: task f is already present in Graph, \
         can't add it again: duplicate pipeline task",
    );
}

#[test]
fn defaults_that_cannot_be_resolved_are_refused() {
    // P-131
    let fault = |params: Value, error: &str| {
        refused(
            json!({"pipelineSpec": {"params": params, "tasks": [{"name": "a", "taskSpec": step()}]}}),
            "PipelineValidationFailed",
            &format!(
                "[User error] Failed to apply parameters to Pipeline ns/run: parameter resolution failed: {error}"
            ),
        );
    };
    fault(
        json!([{"name": "a", "default": "$(params.b)"}, {"name": "b", "default": "$(params.a)"}]),
        "circular dependency detected in param \"params.a\"",
    );
    fault(
        json!([{"name": "a", "default": "$(params.gone)"}]),
        "param \"params.a\" references undefined param \"params.gone\"",
    );
    let chain: Vec<Value> = (0..12)
        .map(|i| json!({"name": format!("p{i}"), "default": if i == 11 { "x".into() } else { format!("$(params.p{})", i + 1) }}))
        .collect();
    fault(
        json!(chain),
        "maximum recursion depth (10) exceeded for param \"params.p11\"",
    );
}

#[test]
fn what_a_task_is_passed_must_fit_it() {
    // P-141
    let task = json!({"params": [{"name": "need"}, {"name": "list", "type": "array", "default": []}], "steps": []});
    for (params, error) in [
        (
            json!([]),
            "missing values for these params which have no default values: [need]",
        ),
        (
            json!([{"name": "need", "value": "a"}, {"name": "list", "value": "b"}]),
            "param types don't match the user-specified type: [list]",
        ),
    ] {
        let pipeline =
            json!({"tasks": [{"name": "a", "taskRef": {"name": "t"}, "params": params}]});
        let mut world = World::of_pipeline(pipeline).task("t", task.clone());
        world.reconcile();
        world.assert_outcome(
            "False",
            "PipelineValidationFailed",
            &format!("[User error] Validation failed for pipelinerun run with error invalid input params for task t: {error}"),
        );
    }
}

#[test]
fn an_on_error_that_a_param_made_wrong_is_refused() {
    // P-058
    refused(
        json!({
            "params": [{"name": "x", "value": "maybe"}],
            "pipelineSpec": {"params": [{"name": "x"}], "tasks": [{"name": "a", "onError": "$(params.x)", "taskSpec": step()}]}
        }),
        "PipelineValidationFailed",
        "[User error] Pipeline /run can't be Run; it has an invalid spec: invalid value: maybe: OnError\nPipelineTask \
         OnError must be either \"continue\" or \"stopAndFail\""
            .replace("Pipeline /run", "Pipeline ns/run")
            .as_str(),
    );
}

#[test]
fn pipelines_and_tasks_that_do_not_exist_are_named() {
    // P-290, P-292, P-217
    let mut world = World::of_run(json!({"pipelineRef": {"name": "p"}}));
    world.reconcile();
    world.assert_outcome(
        "False",
        "CouldntGetPipeline",
        "Error retrieving pipeline for pipelinerun ns/run: error when getting Pipeline for PipelineRun run: tekton client \
         cannot get pipeline p from local cluster: \"p\" not found",
    );
    let mut world = World::of_run(json!({"pipelineRef": {"name": "p"}})).pipeline(
        "p",
        json!({"tasks": [{"name": "a", "taskRef": {"name": "gone"}}]}),
    );
    world.reconcile();
    world.assert_outcome(
        "False",
        "CouldntGetTask",
        "Pipeline ns/p can't be Run; it contains Tasks that don't exist: Couldn't retrieve Task \"gone\": \"gone\" not found",
    );
    let mut world =
        World::of_pipeline(json!({"tasks": [{"name": "a", "pipelineRef": {"name": "gone"}}]}));
    world.reconcile();
    assert_eq!(world.outcome().1, "CouldntGetPipeline");
    assert!(world.outcome().2.starts_with(
        "Pipeline ns/run can't be Run; it contains child Pipelines that don't exist: Couldn't retrieve Pipeline \"gone\": "
    ));
}

#[test]
fn a_reference_that_a_resolver_works_on_is_waited_for() {
    // P-289, P-104
    let mut world = World::of_run(
        json!({"pipelineRef": {"resolver": "git", "params": [{"name": "url", "value": "u"}]}}),
    );
    world.answers.insert("git".into(), Answer::Pending);
    world.reconcile();
    world.assert_outcome(
        "Unknown",
        "ResolvingPipelineRef",
        "PipelineRun ns/run awaiting remote resource",
    );
    assert_eq!(
        world.wake,
        Some(world.now + jiff::SignedDuration::from_secs(1))
    );
    let mut world = World::of_pipeline(json!({"tasks": [
        {"name": "a", "taskSpec": step()}, {"name": "b", "taskRef": {"resolver": "git"}}]}));
    world.answers.insert("git".into(), Answer::Pending);
    world.reconcile();
    world.assert_outcome(
        "Unknown",
        "ResolvingTaskRef",
        "PipelineRun ns/run awaiting remote resource",
    );
    assert!(world.made.is_empty());
}

#[test]
fn what_a_resolver_cannot_bring_fails_the_run() {
    // P-290, P-291, P-292, P-311
    let of_pipeline = |kind, text: &str| {
        let mut world = World::of_run(json!({"pipelineRef": {"resolver": "git"}}));
        world.answers.insert("git".into(), failed(kind, text));
        world.reconcile();
        world.outcome()
    };
    assert_eq!(
        of_pipeline(FailureKind::Resolution, "error requesting remote resource: no"),
        (
            "False".into(),
            "CouldntGetPipeline".into(),
            "Error retrieving pipeline for pipelinerun ns/run: resolver failed to get Pipeline : error requesting remote \
             resource: no"
                .into()
        )
    );
    assert_eq!(
        of_pipeline(FailureKind::Validation, "validation failed for referenced object p: bad"),
        (
            "False".into(),
            "PipelineValidationFailed".into(),
            "[User error] Failed dryRunValidation for PipelineRun run: failed to read runtime object as Pipeline: \
             validation failed for referenced object p: bad"
                .into()
        )
    );
    assert_eq!(
        of_pipeline(FailureKind::Verification, "bad key").1,
        "ResourceVerificationFailed"
    );
    let reference = json!({"resolver": "git", "params": [{"name": "name", "value": "n"}, {"name": "url", "value": "u"}]});
    let mut world = World::of_pipeline(json!({"tasks": [{"name": "a", "taskRef": reference}]}));
    world.answers.insert(
        "git".into(),
        failed(
            FailureKind::Resolution,
            "error requesting remote resource: no",
        ),
    );
    world.reconcile();
    world.assert_outcome(
        "False",
        "CouldntGetTask",
        "Pipeline ns/run can't be Run; it contains Tasks that don't exist: Couldn't retrieve Task \"resolver type git\\nname \
         = n\\nurl = u\\n\": error requesting remote resource: no",
    );
}

#[test]
fn a_child_that_the_api_refuses_for_good_ends_the_run_and_others_are_tried_again() {
    // P-293, P-288
    let pipeline =
        json!({"tasks": [{"name": "a", "taskSpec": step()}, {"name": "b", "taskSpec": step()}]});
    let mut world = World::of_pipeline(pipeline.clone());
    world
        .refuse
        .push(("\"run-b\"".into(), 400, "admission webhook: 50%2Fx".into()));
    world.reconcile();
    world.assert_outcome(
        "False",
        "CreateRunFailed",
        "admission webhook: 50%!F(MISSING)x",
    );
    // What was made before is not recorded.
    assert_eq!(world.made(), ["run-a"]);
    assert!(world.run.status.child_references.is_empty());
    assert!(world.event_reasons().contains(&"TaskRunsCreationFailed"));
    let mut world = World::of_pipeline(pipeline);
    world.refuse.push(("\"run-b\"".into(), 500, "away".into()));
    world.reconcile();
    assert_eq!(world.outcome().0, "Unknown");
    assert!(world.event_reasons().contains(&"TaskRunsCreationFailed") && world.wake.is_some());
    world.refuse.clear();
    world.reconcile();
    assert_eq!(world.made(), ["run-a", "run-b"]);
    assert_eq!(world.run.status.child_references.len(), 2);
}

#[test]
fn reasons_are_spelled_as_tools_know_them() {
    // P-294
    let task = |more: Value| {
        let mut task = json!({"name": "a", "taskSpec": {"params": [{"name": "m", "default": ""}],
            "results": [{"name": "r"}], "workspaces": [{"name": "w"}], "steps": [{"name": "s", "image": "i"}]},
            "workspaces": [{"name": "w", "workspace": "w"}]});
        task.as_object_mut()
            .unwrap()
            .extend(more.as_object().unwrap().clone());
        task
    };
    let pipeline = |more: Value, optional: bool, result: Value| {
        json!({"workspaces": [{"name": "w", "emptyDir": {}}], "params": [{"name": "text", "value": "x"}],
            "pipelineSpec": {"params": [{"name": "text"}], "workspaces": [{"name": "w", "optional": optional}],
                "tasks": [task(more)], "results": result}})
    };
    let none = || json!([]);
    let result = |value: &str| json!([{"name": "out", "value": value}]);
    let pending = json!({"status": "PipelineRunPending", "pipelineRef": {"name": "p"}});
    for (spec, status, reason) in [
        (pending, "Unknown", "PipelineRunPending"),
        (
            pipeline(json!({"when": [{"cel": "1"}]}), false, none()),
            "False",
            "CELEvaluationFailed",
        ),
        (
            pipeline(json!({}), true, none()),
            "False",
            "RequiredWorkspaceMarkedOptional",
        ),
        (
            pipeline(
                json!({"matrix": {"params": [{"name": "m", "value": "$(params.text)"}]}}),
                false,
                none(),
            ),
            "False",
            "InvalidMatrixParameterTypes",
        ),
        (
            pipeline(
                json!({"params": [{"name": "m", "value": "$(tasks.gone.results.r)"}]}),
                false,
                none(),
            ),
            "False",
            // An unknown task is no task to wait for either.
            "PipelineInvalidGraph",
        ),
        (
            pipeline(json!({}), false, result("$(tasks.a.results.gone)")),
            "False",
            "InvalidPipelineResultReference",
        ),
    ] {
        let mut world = World::of_run(spec);
        world.reconcile();
        let (is, why, _) = world.outcome();
        assert_eq!((is.as_str(), why.as_str()), (status, reason));
    }
    // InvalidTaskResultReference, CouldntGetPipelineResult: see results.rs; ResourceVerificationFailed: trusted.rs.
}

#[test]
fn the_first_thing_that_applies_decides() {
    // P-099: overdue, ended, begun and labelled, cancelled, pending, and only then what the run refers to.
    let limits = json!({"pipeline": "1h"});
    let late = |world: &mut World| {
        world.reconcile();
        world.after(7201);
        world.run.status.skipped_tasks =
            serde_json::from_value(json!([{"name": "x", "reason": "None"}])).unwrap();
    };
    for (name, spec, reason) in [
        ("gone", "Cancelled", "Cancelled"),
        ("gone", "PipelineRunPending", "PipelineRunPending"),
        ("gone", "", "CouldntGetPipeline"),
        ("p", "", "Running"),
    ] {
        let spec = json!({"pipelineRef": {"name": name}, "status": spec, "timeouts": limits});
        let mut world = World::of_run(spec)
            .pipeline("p", json!({"tasks": [{"name": "a", "taskSpec": step()}]}));
        world.reconcile();
        assert_eq!(world.outcome().1, reason);
        let labels = world.run.metadata.labels.as_ref().expect("there are some");
        assert_eq!(labels["tekton.dev/pipeline"], name);
        assert_eq!(
            world.run.status.start_time.is_some(),
            reason != "PipelineRunPending"
        );
        // Whatever has ended stays as it is.
        let ended = world.run.is_done();
        late(&mut world);
        world.run.spec.status = "Cancelled".into();
        let before = world.outcome();
        world.reconcile();
        match reason {
            "Running" => {
                assert_eq!(world.outcome().1, "PipelineRunTimeout");
                // An end in the middle leaves the later parts of the status as they were.
                assert_eq!(world.skipped(), [("x", "None")]);
            }
            "PipelineRunPending" => assert_eq!(world.outcome().1, "Cancelled"),
            _ => assert!(ended && world.outcome() == before),
        }
    }
}

#[test]
fn an_eviction_that_the_api_will_not_confirm_fails_the_run() {
    // P-107
    let mut world = World::of_pipeline(json!({"tasks": [{"name": "a", "taskSpec": step()}]}));
    world.reconcile();
    let mut seen = world.observed();
    seen.unconfirmed.insert("run-a".into(), "no".into());
    world.run.status = world.decide(&mut seen).status;
    world.assert_outcome(
        "False",
        "PipelineValidationFailed",
        "[User error] PipelineRun ns/run can't be Run; couldn't resolve all references: error retrieving TaskRun run-a: \
         cannot verify TaskRun run-a failure status against API server: no",
    );
}

#[test]
fn enums_are_checked_where_the_flag_asks_for_it() {
    // P-126, P-127, P-128
    let run = |value: &str, of_pipeline: Value| {
        json!({
            "params": [{"name": "p", "value": value}],
            "pipelineSpec": {
                "params": [{"name": "p", "enum": of_pipeline}],
                "tasks": [{"name": "a", "taskSpec": {"params": [{"name": "x", "enum": ["v1", "v2"]}], "steps": []},
                    "params": [{"name": "x", "value": "$(params.p)"}]}]
            }
        })
    };
    let outcome = |spec: Value, flag: bool| {
        let mut world = World::of_run(spec);
        world.config.feature_flags.enable_param_enum = flag;
        world.reconcile();
        world.outcome()
    };
    assert_eq!(outcome(run("v9", json!(["v1"])), false).1, "Running");
    assert_eq!(
        outcome(run("v9", json!(["v1"])), true),
        (
            "False".into(),
            "InvalidParamValue".into(),
            "[User error] PipelineRun ns/run parameters have invalid value: param `p` value: v9 is not in the enum list"
                .into()
        )
    );
    assert!(outcome(run("v3", json!(["v1", "v3"])), true).2.ends_with(
        "pipeline param \"p\" enum: [v1 v3] is not a subset of the referenced in \"\" task param enum: [v1 v2]"
    ));
    assert!(outcome(run("v1", json!([])), true).2.ends_with(
        "pipeline param \"p\" has no enum, but referenced in \"\" task has enums: [v1 v2]"
    ));
    assert_eq!(outcome(run("v1", json!(["v1"])), true).1, "Running");
}
