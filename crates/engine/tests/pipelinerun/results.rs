//! Results between tasks and of the pipeline; params.

use serde_json::{Value, json};

use crate::world::{World, giving};

fn taking(params: Value) -> Value {
    json!({"params": params, "steps": [{"name": "s", "image": "i"}]})
}

#[test]
fn results_reach_their_consumers_in_every_shape_and_spelling() {
    // P-134, P-144, P-146, P-155
    let producer = json!({
        "results": [
            {"name": "s", "type": "string"}, {"name": "l", "type": "array"},
            {"name": "o", "type": "object", "properties": {"k": {"type": "string"}}}
        ],
        "steps": [{"name": "s", "image": "i"}]
    });
    let consumer = taking(json!([
        {"name": "text", "type": "string"}, {"name": "list", "type": "array"}, {"name": "spliced", "type": "array"},
        {"name": "object", "type": "object", "properties": {"k": {"type": "string"}}},
        {"name": "element", "type": "string"}, {"name": "key", "type": "string"}, {"name": "bracket", "type": "string"}
    ]));
    let mut world = World::of_pipeline(json!({
        "tasks": [
            {"name": "p", "taskSpec": producer},
            {"name": "c", "displayName": "for $(tasks.p.results.s)", "taskSpec": consumer, "params": [
                {"name": "text", "value": "<$(tasks.p.results.s)>"},
                {"name": "list", "value": "$(tasks.p.results.l[*])"},
                {"name": "spliced", "value": ["0", "$(tasks.p.results.l[*])"]},
                {"name": "object", "value": "$(tasks.p.results.o[*])"},
                {"name": "element", "value": "$(tasks.p.results.l[1])"},
                {"name": "key", "value": "$(tasks.p.results.o.k)"},
                {"name": "bracket", "value": "$(tasks.p.results['s'])"}
            ]}
        ],
        "results": [
            {"name": "first", "value": "$(tasks.p.results.l)"},
            {"name": "whole", "value": "$(tasks.p.results.l[*])"},
            {"name": "mixed", "value": "$(tasks.p.results.s)-$(tasks.p.results.l[1])-$(tasks.p.results.o.k)"},
            {"name": "object", "value": "$(tasks.p.results.o)"}
        ]
    }));
    world
        .reconcile()
        .succeed("run-p", json!({"s": "S", "l": ["x", "y"], "o": {"k": "v"}}));
    assert_eq!(
        world.params("run-c"),
        json!({
            "text": "<S>", "list": ["x", "y"], "spliced": ["0", "x", "y"], "object": {"k": "v"}, "element": "y",
            "key": "v", "bracket": "S"
        })
    );
    assert_eq!(world.run.status.child_references[1].display_name, "for S");
    world.succeed("run-c", json!({}));
    let results: Value = serde_json::to_value(&world.run.status.results).unwrap();
    assert_eq!(
        results,
        json!([
            {"name": "first", "value": "x"}, {"name": "whole", "value": ["x", "y"]}, {"name": "mixed", "value": "S-y-v"},
            {"name": "object", "value": {"k": "v"}}
        ])
    );
}

#[test]
fn a_producer_without_the_result_makes_the_run_fail_validation() {
    // P-149, P-150, P-282
    let mut world = World::of_pipeline(json!({
        "tasks": [
            {"name": "p", "taskSpec": giving(&["r"])},
            {"name": "c", "taskSpec": taking(json!([{"name": "x"}])),
                "params": [{"name": "x", "value": "$(tasks.p.results.r)"}]},
            {"name": "d", "runAfter": ["p"], "taskSpec": taking(json!([]))}
        ],
        "finally": [{"name": "f", "taskSpec": taking(json!([]))}]
    }));
    world.reconcile().succeed("run-p", json!({}));
    let error = "task \"p\" completed successfully but did not emit the result \"r\", which is referenced by task \"c\"";
    // Nothing else of the tasks starts, but finally does.
    assert_eq!(world.made(), ["run-p", "run-f"]);
    let warning = world
        .events
        .iter()
        .find(|event| event.reason == "ResultValidationFailed")
        .unwrap();
    assert_eq!(
        warning.message,
        format!("Task \"c\" failed result validation: {error}")
    );
    world.succeed("run-f", json!({}));
    world.assert_outcome(
        "False",
        "PipelineValidationFailed",
        &format!("Tasks Completed: 2 (Failed: 0, Cancelled 0), Skipped: 1, Failed Validation: 1 ({error})"),
    );
    assert_eq!(world.skipped(), [("d", "PipelineRun was stopping")]);
}

#[test]
fn what_is_said_of_a_missing_result_depends_on_how_the_producer_ended() {
    // P-149
    let consumer = json!({"name": "c", "taskSpec": taking(json!([{"name": "x"}])),
        "params": [{"name": "x", "value": "$(tasks.p.results.r)"}]});
    let with_when = |producer: Value, operator: &str| {
        let mut consumer = consumer.clone();
        consumer["when"] = json!([{"input": "a", "operator": operator, "values": ["b"]}]);
        json!({"tasks": [producer, consumer]})
    };
    let failing = json!({"name": "p", "onError": "continue", "taskSpec": giving(&["r"])});
    let mut world = World::of_pipeline(with_when(failing, "notin"));
    world.reconcile().fail("run-p");
    world.assert_outcome(
        "False",
        "PipelineValidationFailed",
        "Tasks Completed: 1 (Failed: 1 (Ignored: 1), Cancelled 0), Skipped: 0, Failed Validation: 1 (Invalid task \
         result reference: Could not find result with name r for pipeline task p)",
    );
}

#[test]
fn a_custom_task_that_lacks_results_says_nothing_about_other_custom_tasks() {
    // P-151
    let custom = |name: &str, params: Value| json!({"name": name, "params": params, "taskRef": {"apiVersion": "example.dev/v1", "kind": "Wait"}});
    let mut world = World::of_pipeline(json!({
        "tasks": [
            {"name": "p", "taskSpec": giving(&["r"])}, custom("running", json!([])),
            custom("c", json!([{"name": "x", "value": "$(tasks.p.results.r)"}]))
        ],
        "finally": [{"name": "f", "taskSpec": giving(&[])}]
    }));
    world.reconcile().succeed("run-p", json!({}));
    assert_eq!(world.outcome().0, "Unknown");
    assert_eq!(world.made(), ["run-p", "run-running"]);
    world.succeed("run-running", json!({}));
    assert_eq!(world.made(), ["run-p", "run-running", "run-f"]);
    world.succeed("run-f", json!({}));
    let (_, reason, message) = world.outcome();
    assert_eq!(reason, "PipelineValidationFailed");
    assert!(message.contains("Failed Validation: 1 "), "{message}");
}

#[test]
fn a_result_of_a_skipped_producer_skips_its_consumer_or_meets_its_when_as_literal_text() {
    // P-165, P-171
    let pipeline = |when: Value| {
        json!({"tasks": [
            {"name": "p", "taskSpec": giving(&["r"]), "when": [{"input": "a", "operator": "in", "values": ["b"]}]},
            {"name": "c", "when": when, "taskSpec": taking(json!([{"name": "x"}])),
                "params": [{"name": "x", "value": "$(tasks.p.results.r)"}]}
        ]})
    };
    let on_result = |operator: &str| json!([{"input": "$(tasks.p.results.r)", "operator": operator, "values": ["v"]}]);
    for (when, reason) in [
        (json!([]), "Results were missing"),
        (on_result("in"), "When Expressions evaluated to false"),
        (on_result("notin"), "Results were missing"),
    ] {
        let mut world = World::of_pipeline(pipeline(when));
        world.reconcile();
        assert_eq!(
            world.skipped(),
            [("p", "When Expressions evaluated to false"), ("c", reason)]
        );
        world.assert_outcome(
            "True",
            "Completed",
            "Tasks Completed: 0 (Failed: 0, Cancelled 0), Skipped: 2",
        );
    }
}

#[test]
fn a_consumer_that_continues_on_error_is_skipped_when_its_producer_gave_nothing() {
    // P-171
    let mut world = World::of_pipeline(json!({"tasks": [
        {"name": "p", "taskSpec": giving(&["r"])},
        {"name": "c", "onError": "continue", "taskSpec": taking(json!([{"name": "x"}])),
            "params": [{"name": "x", "value": "$(tasks.p.results.r)"}]}
    ]}));
    world.reconcile().succeed("run-p", json!({}));
    assert_eq!(world.skipped(), [("c", "Results were missing")]);
    assert_eq!(world.outcome().1, "Completed");
}

#[test]
fn references_only_in_an_inline_task_are_validated_rather_than_skipped() {
    // P-172
    let mut world = World::of_pipeline(json!({"tasks": [
        {"name": "p", "taskSpec": giving(&["r"]), "when": [{"input": "a", "operator": "in", "values": ["b"]}]},
        {"name": "c", "taskSpec": {"steps": [{"name": "s", "image": "i", "script": "echo $(tasks.p.results.r)"}]}}
    ]}));
    world.reconcile();
    assert_eq!(world.outcome().1, "PipelineValidationFailed");
    assert!(world.outcome().2.ends_with(
        "Failed Validation: 1 (Result reference error: Internal result ref \"p\" has zero-length TaskRuns)"
    ));
}

#[test]
fn results_of_failed_tasks_are_used_too() {
    // P-143
    let mut world = World::of_pipeline(json!({"tasks": [
        {"name": "p", "onError": "continue", "taskSpec": giving(&["r"])},
        {"name": "c", "taskSpec": taking(json!([{"name": "x"}])),
            "params": [{"name": "x", "value": "$(tasks.p.results.r)"}]}
    ]}));
    world
        .reconcile()
        .end_badly("run-p", "Failed", json!({"r": "half"}));
    assert_eq!(world.params("run-c"), json!({"x": "half"}));
}

#[test]
fn an_index_beyond_a_produced_array_fails_the_run_as_soon_as_it_is_known() {
    // P-145
    let mut world = World::of_pipeline(json!({
        "tasks": [{"name": "p", "taskSpec": giving(&["l[]"])}],
        "finally": [{"name": "f", "taskSpec": taking(json!([{"name": "x"}])),
            "params": [{"name": "x", "value": "$(tasks.p.results.l[2])"}]}]
    }));
    world.reconcile().succeed("run-p", json!({"l": ["a"]}));
    world.assert_outcome(
        "False",
        "PipelineValidationFailed",
        "[User error] PipelineRun ns/run can't be Run; couldn't resolve all references: array Result Index 2 for Task p \
         Result l is out of bound of size 1",
    );
    assert_eq!(world.made(), ["run-p"]);
}

#[test]
fn results_are_filled_into_inline_tasks_without_being_declared() {
    // P-147
    let mut world = World::of_pipeline(json!({"tasks": [
        {"name": "p", "taskSpec": giving(&["r", "l[]"])},
        {"name": "c", "taskSpec": {"steps": [{"name": "s", "image": "i", "script": "echo $(tasks.p.results.r)",
            "args": ["$(tasks.p.results.l[*])", "$(tasks.p.results.l[0])"]}]}}
    ]}));
    world
        .reconcile()
        .succeed("run-p", json!({"r": "R", "l": ["x", "y"]}));
    let step = &world.task_runs["run-c"]
        .spec
        .task_spec
        .as_ref()
        .unwrap()
        .steps[0];
    assert_eq!(step.script, "echo R");
    assert_eq!(step.args, ["x", "y", "$(tasks.p.results.l[0])"]);
}

#[test]
fn pipeline_results_of_what_did_not_run_are_left_out_and_of_what_lacks_them_fail_the_run() {
    // P-156, P-157
    let pipeline = json!({
        "tasks": [
            {"name": "p", "taskSpec": giving(&["r"])},
            {"name": "q", "taskSpec": giving(&["r"]), "when": [{"input": "a", "operator": "in", "values": ["b"]}]}
        ],
        "results": [
            {"name": "given", "value": "$(tasks.p.results.r)"}, {"name": "skipped", "value": "$(tasks.q.results.r)"}
        ]
    });
    let mut world = World::of_pipeline(pipeline.clone());
    world.reconcile().succeed("run-p", json!({"r": "R"}));
    assert_eq!(world.outcome().1, "Completed");
    assert_eq!(
        serde_json::to_value(&world.run.status.results).unwrap(),
        json!([{"name": "given", "value": "R"}])
    );
    let mut world = World::of_pipeline(pipeline);
    world.reconcile().succeed("run-p", json!({}));
    world.assert_outcome(
        "False",
        "CouldntGetPipelineResult",
        "Failed to get PipelineResult from TaskRun Results for PipelineRun run: invalid pipelineresults [given], the \
         referenced results don't exist",
    );
}

#[test]
fn references_to_results_nobody_declares_are_refused_before_anything_starts() {
    // P-142, P-158
    let consumer = |reference: &str| {
        json!({"tasks": [
            {"name": "p", "taskSpec": giving(&["r"])},
            {"name": "c", "taskSpec": taking(json!([{"name": "x"}])), "params": [{"name": "x", "value": reference}]}
        ]})
    };
    let mut world = World::of_pipeline(consumer("$(tasks.p.results.gone)"));
    world.reconcile();
    world.assert_outcome(
        "False",
        "InvalidTaskResultReference",
        "invalid result reference in pipeline task \"c\": \"gone\" is not a named result returned by pipeline task \"p\"",
    );
    let mut pipeline = consumer("$(tasks.p.results.r)");
    pipeline["results"] = json!([{"name": "out", "value": "$(tasks.none.results.r)"}]);
    let mut world = World::of_pipeline(pipeline);
    world.reconcile();
    world.assert_outcome(
        "False",
        "InvalidPipelineResultReference",
        "Failed to resolve pipeline result reference for \"run\" with error invalid pipeline result \"out\": referenced \
         pipeline task \"none\" does not exist",
    );
    assert!(world.made.is_empty());
}

#[test]
fn results_of_custom_tasks_are_texts_or_lists_and_feed_pipeline_results_as_texts() {
    // P-152, P-159, P-224
    let mut world = World::of_pipeline(json!({
        "tasks": [
            {"name": "p", "taskRef": {"apiVersion": "example.dev/v1", "kind": "Custom", "name": "x"}},
            {"name": "c", "taskSpec": taking(json!([{"name": "l", "type": "array"}, {"name": "s"}])), "params": [
                {"name": "l", "value": "$(tasks.p.results.list[*])"}, {"name": "s", "value": "$(tasks.p.results.text)"}]}
        ],
        "results": [{"name": "out", "value": "$(tasks.p.results.list)"}]
    }));
    world
        .reconcile()
        .succeed("run-p", json!({"list": "[\"a\",\"b\"]", "text": "[]"}));
    assert_eq!(world.params("run-c"), json!({"l": ["a", "b"], "s": "[]"}));
    world.succeed("run-c", json!({}));
    let results = serde_json::to_value(&world.run.status.results).unwrap();
    assert_eq!(results, json!([{"name": "out", "value": "[\"a\",\"b\"]"}]));
}

#[test]
fn defaults_refer_to_each_other_in_any_order_and_the_stored_pipeline_shows_the_values() {
    // P-130, P-297
    let mut world = World::of_run(json!({
        "params": [{"name": "repo", "value": "app"}],
        "pipelineSpec": {
            "params": [
                {"name": "image", "default": "$(params.registry)/$(params.repo)"},
                {"name": "registry", "default": "local"},
                {"name": "repo", "type": "string"},
                {"name": "bracket", "default": "$(params[\"registry\"])"},
                {"name": "all", "type": "array", "default": ["$(params.image)", "b"]},
                {"name": "object", "type": "object", "properties": {"k": {"type": "string"}},
                    "default": {"k": "$(params.all[0])"}}
            ],
            "tasks": [{"name": "a", "taskSpec": taking(json!([
                {"name": "i"}, {"name": "b"}, {"name": "e"}, {"name": "k"}, {"name": "bk"}])), "params": [
                {"name": "i", "value": "$(params.image)"}, {"name": "b", "value": "$(params.bracket)"},
                {"name": "e", "value": "$(params['all'][1])"}, {"name": "k", "value": "$(params.object.k)"},
                {"name": "bk", "value": "$(params[\"object\"].k)"}]}]
        }
    }));
    world.reconcile();
    let expected = json!({"i": "local/app", "b": "$(params[\"registry\"])", "e": "b", "k": "local/app", "bk": "local/app"});
    assert_eq!(world.params("run-a"), expected);
    let stored = world.run.status.pipeline_spec.as_ref().unwrap();
    assert_eq!(stored.tasks[0].params[0].value.as_str(), Some("local/app"));
    assert_eq!(
        stored.params[0].default.as_ref().unwrap().as_str(),
        Some("$(params.registry)/$(params.repo)")
    );
}

#[test]
fn params_reach_inline_tasks_and_what_the_task_is_passed_shadows_them() {
    // P-136, P-137
    let script =
        json!({"steps": [{"name": "s", "image": "i", "script": "$(params.a) $(params.b)"}]});
    let mut world = World::of_run(json!({
        "params": [{"name": "a", "value": "outer"}, {"name": "b", "value": "b"}],
        "pipelineSpec": {"tasks": [
            {"name": "t", "taskSpec": script, "params": [{"name": "a", "value": "inner"}]},
            {"name": "u", "taskRef": {"name": "referenced"}}
        ]}
    }))
    .task("referenced", script.clone());
    world.reconcile();
    let spec = world.task_runs["run-t"].spec.task_spec.clone().unwrap();
    assert_eq!(spec.steps[0].script, "inner b");
    assert!(world.task_runs["run-u"].spec.task_spec.is_none());
    assert!(world.task_runs["run-u"].spec.params.is_empty());
}

#[test]
fn passes_follow_one_another_so_a_param_may_hold_a_context_variable() {
    // P-133, P-138, P-139
    let mut world = World::of_run(json!({
        "params": [{"name": "p", "value": "$(context.pipelineRun.name) $(workspaces.w.bound) $(params.p)"}],
        "workspaces": [{"name": "w", "emptyDir": {}}],
        "pipelineSpec": {
            "params": [{"name": "p"}], "workspaces": [{"name": "v", "optional": true}],
            "tasks": [{"name": "a", "retries": 3, "taskSpec": taking(json!([{"name": "x"}, {"name": "y"}])), "params": [
                {"name": "x", "value": "$(params.p)"},
                {"name": "y", "value": "$(workspaces.v.bound) $(context.pipelineTask.retries) $(context.pipeline.name)"}]}]
        }
    }));
    world.reconcile();
    assert_eq!(
        world.params("run-a"),
        json!({"x": "run true $(params.p)", "y": "false 3 run"})
    );
}
