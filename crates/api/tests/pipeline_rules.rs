//! What admission says of pipelines and their runs, rule by rule.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use tektite_api::{admission::admit, config::Config};

fn config(flags: &[(&str, &str)], defaults: &[(&str, &str)]) -> Config {
    let data = |pairs: &[(&str, &str)]| -> BTreeMap<String, String> {
        pairs
            .iter()
            .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
            .collect()
    };
    let mut config = Config::default();
    config.update("feature-flags", &data(flags)).unwrap();
    config.update("config-defaults", &data(defaults)).unwrap();
    config
}

fn said(api_version: &str, kind: &str, spec: &Value, config: &Config) -> String {
    let object =
        json!({"apiVersion": api_version, "kind": kind, "metadata": {"name": "n"}, "spec": spec});
    match admit(&object, config) {
        Ok(_) => String::new(),
        Err(refusal) => refusal
            .message
            .strip_prefix("validation failed: ")
            .unwrap_or(&refusal.message)
            .to_owned(),
    }
}

fn check(kind: &str, config: &Config, cases: &[(Value, &str)]) {
    for (spec, expected) in cases {
        assert_eq!(
            said("tekton.dev/v1", kind, spec, config),
            *expected,
            "{spec}"
        );
    }
}

/// A pipeline of one task `a` with these fields.
fn one(fields: Value) -> Value {
    let mut task = json!({"name": "a", "taskRef": {"name": "t"}});
    task.as_object_mut()
        .unwrap()
        .extend(fields.as_object().unwrap().clone());
    json!({"tasks": [task]})
}

fn and(mut spec: Value, fields: Value) -> Value {
    spec.as_object_mut()
        .unwrap()
        .extend(fields.as_object().unwrap().clone());
    spec
}

fn passes(value: &str) -> Value {
    json!({"params": [{"name": "p", "value": value}]})
}

/// P-030 to P-033, P-045
#[test]
fn a_pipeline_has_tasks_in_an_order_that_ends() {
    let dns = "Pipeline Task name must be a valid DNS Label.For more info refer to https://kubernetes.io/docs/concepts/overview/working-with-objects/names/#names";
    let task = |name: &str, after: &[&str]| json!({"name": name, "taskRef": {"name": "t"}, "runAfter": after});
    check(
        "Pipeline",
        &Config::default(),
        &[
            (
                json!({}),
                "expected at least one, got none: spec.description, spec.params, spec.resources, spec.tasks, spec.workspaces",
            ),
            (json!({"description": "d"}), ""),
            (
                json!({"finally": [task("f", &[])]}),
                "invalid value: spec.tasks is empty but spec.finally has 1 tasks: spec.finally",
            ),
            (
                json!({"tasks": [task("A", &[])]}),
                &format!("invalid value \"A\": spec.tasks[0].name\n{dns}"),
            ),
            (
                json!({"tasks": [task("a", &[])], "finally": [task("a", &[])]}),
                "expected exactly one, got both: spec.finally[0].name",
            ),
            (
                json!({"tasks": [task("a", &["b"]), task("b", &["a"])]}),
                "invalid value: cycle detected; task \"a\" depends on \"b\": spec.tasks",
            ),
            (
                json!({"tasks": [task("a", &["x"])]}),
                "invalid value: couldn't add link between a and x: task a depends on x but x wasn't present in Pipeline: spec.tasks",
            ),
            (
                json!({"tasks": [task("a", &[]), task("a", &[])]}),
                "expected exactly one, got both: spec.tasks[1].name\ninvalid value: task a is already present in Graph, can't add it again: duplicate pipeline task: spec.tasks",
            ),
            (
                json!({"tasks": [task("a", &[])], "finally": [task("f", &["a"])]}),
                "invalid value: no runAfter allowed under spec.finally, final task f has runAfter specified: spec.finally[0]",
            ),
        ],
    );
}

/// P-034 to P-039, P-064
#[test]
fn params_of_a_pipeline_are_declared_and_fit() {
    let array = json!({"params": [{"name": "l", "type": "array"}]});
    check(
        "Pipeline",
        &Config::default(),
        &[
            (
                one(passes("$(params.x)")),
                "non-existent variable in \"$(params.x)\": spec.tasks[0].params[p]",
            ),
            (
                and(one(passes("a$(params.l[*])")), array.clone()),
                "variable type invalid in \"a$(params.l[*])\": spec.tasks[0].params[p]",
            ),
            (and(one(passes("$(params.l[*])")), array.clone()), ""),
            (
                and(
                    one(json!({"params": [{"name": "p", "value": ["a$(params.l[*])"]}]})),
                    array.clone(),
                ),
                "variable is not properly isolated in \"a$(params.l[*])\": spec.tasks[0].params[p].value[0]",
            ),
            (
                one(passes("$(params.a.b.c)")),
                "Invalid referencing of parameters in \"$(params.a.b.c)\"! Only two dot-separated components after the prefix \"params\" are allowed.: spec.tasks[0].params[p]",
            ),
            (
                and(
                    one(json!({})),
                    json!({"params": [{"name": "x"}, {"name": "x"}]}),
                ),
                "parameter appears more than once: spec.finally.params[x], spec.tasks.params[x]",
            ),
            (
                and(
                    one(json!({})),
                    json!({"params": [{"name": "x", "type": "y"}]}),
                ),
                "invalid value: y: spec.finally.params.x.type, spec.tasks.params.x.type",
            ),
            (
                and(
                    one(json!({})),
                    json!({"params": [{"name": "x", "enum": ["y"]}]}),
                ),
                "feature flag `enable-param-enum` should be set to true to use Enum: spec.finally.params[x], spec.tasks.params[x]",
            ),
            (
                one(json!({"params": [{"name": "p", "value": "1"}, {"name": "p", "value": "2"}]})),
                "parameter names must be unique, the parameter \"p\" is also defined at: spec.tasks[0].params[1].name",
            ),
            (
                json!({"tasks": [{"name": "a", "taskSpec": {"steps": [{"image": "i", "script": "$(params.x)"}]}}]}),
                "non-existent variable in \"$(params.x)\": spec.tasks[0].steps[0].script",
            ),
            (
                and(
                    one(
                        json!({"when": [{"input": "$(params.x)", "operator": "in", "values": ["$(params.l[*])"]}]}),
                    ),
                    array,
                ),
                "non-existent variable in \"$(params.x)\": spec.tasks[0].when[0].input",
            ),
        ],
    );
    // An inline pipeline may rely on what the run supplies.
    let inline = json!({"params": [{"name": "x", "value": "v"}], "pipelineSpec": one(passes("$(params.x)"))});
    check("PipelineRun", &Config::default(), &[(inline, "")]);
}

/// P-040, P-041
#[test]
fn workspaces_of_a_pipeline_are_named_and_found() {
    check(
        "Pipeline",
        &Config::default(),
        &[
            (
                and(
                    one(json!({})),
                    json!({"workspaces": [{"name": ""}, {"name": "w"}, {"name": "w"}]}),
                ),
                "invalid value: workspace 0 has empty name: spec.workspaces[0]\ninvalid value: workspace with name \"w\" appears more than once: spec.workspaces[2]",
            ),
            (
                one(json!({"workspaces": [{"name": "w"}]})),
                "invalid value: pipeline task \"a\" expects workspace with name \"w\" but none exists in pipeline spec: spec.tasks[0].workspaces[0]",
            ),
            (
                and(
                    one(json!({"workspaces": [{"name": "w"}, {"name": "w"}]})),
                    json!({"workspaces": [{"name": "w"}]}),
                ),
                "workspace name \"w\" must be unique: spec.tasks[0].workspaces[1]",
            ),
        ],
    );
}

/// P-042 to P-044, P-046, P-048
#[test]
fn variables_are_used_where_they_have_a_meaning() {
    let finally = |fields: Value| {
        and(
            one(json!({})),
            json!({"finally": [and(json!({"name": "f", "taskRef": {"name": "t"}}), fields)]}),
        )
    };
    let status = "invalid value: pipeline tasks can not refer to execution status of any other pipeline task or aggregate status of tasks";
    check(
        "Pipeline",
        &Config::default(),
        &[
            (
                one(passes("$(context.pipelineRun.node)")),
                "non-existent variable in \"$(context.pipelineRun.node)\": spec.tasks.value",
            ),
            (
                one(passes(
                    "$(context.pipelineTask.retries) $(context.pipeline.name)",
                )),
                "",
            ),
            (
                one(passes("$(tasks.status)")),
                &format!("{status}: spec.tasks[0].params[p].value"),
            ),
            (
                one(
                    json!({"when": [{"input": "$(tasks.a.reason)", "operator": "in", "values": ["x"]}]}),
                ),
                &format!("{status}: spec.tasks[0].when[0]"),
            ),
            (finally(passes("$(tasks.a.status) $(tasks.status)")), ""),
            (
                finally(passes("$(tasks.b.status)")),
                "invalid value: pipeline task b is not defined in the pipeline: spec.finally[0].params[p].value",
            ),
            (
                finally(passes("$(tasks.f.results.r)")),
                "invalid value: invalid task result reference, final task has task result reference from a final task f: spec.finally[0].params[p].value",
            ),
            (
                finally(passes("$(tasks.x.results.r)")),
                "invalid value: invalid task result reference, final task has task result reference from a task x which is not defined in the pipeline: spec.finally[0].params[p].value",
            ),
            (
                one(passes("$(date)")),
                "invalid value: invalid variable reference \"$(date)\", must start with a valid prefix: params, tasks, finally, context, workspaces, or results; if you meant a shell variable, use ${VAR} instead: spec.tasks[0].params[p].value",
            ),
        ],
    );
}

/// P-047
#[test]
fn results_of_a_pipeline_come_from_its_tasks() {
    let result = |value: &str| {
        and(
            one(json!({})),
            json!({"results": [{"name": "r", "value": value}]}),
        )
    };
    let at = "spec.results[0].value";
    check(
        "Pipeline",
        &Config::default(),
        &[
            (result("$(tasks.a.results.r)"), ""),
            (
                result("x"),
                &format!(
                    "invalid value: expected pipeline results to be task result expressions but an invalid expressions was found: {at}\ninvalid value: expected pipeline results to be task result expressions but no expressions were found: {at}\ninvalid value: referencing a nonexistent task: {at}"
                ),
            ),
            (
                result("$(tasks.b.results.r)"),
                &format!("invalid value: referencing a nonexistent task: {at}"),
            ),
            (
                result("x$(tasks.a.results.r)"),
                &format!("invalid value: referencing a nonexistent task: {at}"),
            ),
            (result("$(tasks.a.results.r)-$(tasks.a.results.s)"), ""),
        ],
    );
}

/// P-049 to P-052
#[test]
fn gated_features_of_pipelines_need_their_gates() {
    check(
        "Pipeline",
        &Config::default(),
        &[(
            one(passes("$(tasks.b.outputs.x)")),
            "feature flag enable-artifacts should be set to true to use artifacts feature.: spec.tasks[0].params",
        )],
    );
    let remote =
        one(json!({"taskRef": {"resolver": "git", "params": [{"name": "p", "value": "v"}]}}));
    let gate = "requires \"enable-api-fields\" feature gate to be \"alpha\" or \"beta\" but it is \"stable\": ";
    let expected = format!(
        "resolver params {gate}\nresolver {gate}\ntaskref.params {gate}\ntaskref.resolver {gate}"
    );
    check(
        "Pipeline",
        &config(&[("enable-api-fields", "stable")], &[]),
        &[(remote, &expected)],
    );
    let nested = json!({"tasks": [{"name": "a", "pipelineRef": {"name": "p"}}, {"name": "b", "taskRef": {"name": "t"}, "params": [{"name": "p", "value": "$(tasks.a.results.r)"}]}]});
    check(
        "Pipeline",
        &config(&[("enable-api-fields", "alpha")], &[]),
        &[(
            nested,
            "invalid value: result reference to pipelineTask \"a\" is not supported: referenced task uses pipelineRef or pipelineSpec and result propagation from child Pipelines is not yet implemented: spec.tasks[1]",
        )],
    );
}

/// P-199, P-201, P-210
#[test]
fn matrices_are_gated_named_once_and_consumed_as_a_whole() {
    let matrix = |params: Value, include: Value| {
        one(json!({"matrix": {"params": params, "include": include}}))
    };
    let list = |name: &str| json!({"name": name, "value": ["x", "y"]});
    let text = |name: &str| json!({"name": name, "value": "z"});
    check(
        "Pipeline",
        &config(&[("enable-api-fields", "stable")], &[]),
        &[(
            matrix(json!([list("a")]), json!([])),
            "matrix requires \"enable-api-fields\" feature gate to be \"alpha\" or \"beta\" but it is \"stable\": ",
        )],
    );
    let again = "parameter names must be unique, the parameter \"a\" is also defined at: spec.tasks[0].matrix";
    let both = and(
        one(json!({"params": [text("a"), text("b"), text("c")],
            "matrix": {"params": [list("a")], "include": [{"params": [text("b")]}]}})),
        json!({}),
    );
    check(
        "Pipeline",
        &Config::default(),
        &[
            (
                matrix(
                    json!([list("a"), list("b")]),
                    json!([{"params": [text("a")]}, {"params": [text("a")]}]),
                ),
                "",
            ),
            (
                matrix(json!([list("a"), list("a")]), json!([])),
                &format!("{again}.params[1].name"),
            ),
            (
                matrix(
                    json!([]),
                    json!([{"params": [text("b"), text("a"), text("a")]}]),
                ),
                &format!("{again}.include[0].params[2].name"),
            ),
            (
                both,
                "expected exactly one, got both: spec.tasks[0].matrix[a], spec.tasks[0].matrix[b], spec.tasks[0].params[a], \
                 spec.tasks[0].params[b]",
            ),
        ],
    );
    let consumed = |type_: &str, value: Value, more: Value| {
        let results = json!([{"name": "r", "type": type_}]);
        json!({"tasks": [
            {"name": "a", "matrix": {"params": [list("m")]},
                "taskSpec": {"params": [{"name": "m"}], "results": results, "steps": [{"image": "i"}]}},
            and(json!({"name": "b", "taskRef": {"name": "t"}, "params": [{"name": "p", "value": value}]}), more)
        ]})
    };
    let whole = json!("$(tasks.a.results.r[*])");
    let part = "$(tasks.a.results.r)";
    let when = json!({"when": [{"input": part, "operator": "in", "values": ["v"]}]});
    check(
        "Pipeline",
        &Config::default(),
        &[
            (consumed("string", whole.clone(), json!({})), ""),
            // Only params are looked at.
            (consumed("string", whole.clone(), when), ""),
            (
                consumed("string", json!(part), json!({})),
                "A matrixed pipelineTask can only be consumed in aggregate using [*] notation, but is currently set to \
                 tasks.a.results.r: ",
            ),
            (
                consumed("array", whole, json!({})),
                "invalid value: Matrixed PipelineTasks emitting results must have an underlying type string, but result r has \
                 type array in pipelineTask: spec.tasks",
            ),
        ],
    );
}

/// P-053 to P-057, P-059 to P-063
#[test]
fn pipeline_tasks_say_what_to_run() {
    let task = |fields: Value| json!({"tasks": [and(json!({"name": "a"}), fields)]});
    let steps = json!([{"image": "i"}]);
    check(
        "Pipeline",
        &Config::default(),
        &[
            (
                task(json!({})),
                "expected exactly one, got neither: spec.tasks[0].taskRef, spec.tasks[0].taskSpec",
            ),
            (
                task(json!({"taskRef": {"name": "t"}, "pipelineRef": {"name": "p"}})),
                "expected exactly one, got multiple: spec.tasks[0].pipelineRef, spec.tasks[0].taskRef\npipelineRef requires \"enable-api-fields\" feature gate to be \"alpha\" but it is \"beta\": ",
            ),
            (
                task(json!({"taskSpec": {"apiVersion": "g/v", "kind": "K", "steps": steps}})),
                "taskSpec.apiVersion cannot be specified when using taskSpec.steps: spec.tasks[0].taskSpec.apiVersion\ntaskSpec.kind cannot be specified when using taskSpec.steps: spec.tasks[0].taskSpec.kind",
            ),
            (
                task(json!({"taskRef": {"kind": "K"}})),
                "invalid value: custom task ref must specify apiVersion: spec.tasks[0].taskRef.apiVersion",
            ),
            (
                task(json!({"taskSpec": {"apiVersion": "v"}})),
                "invalid value: custom task spec must specify kind: spec.tasks[0].taskSpec.kind\ninvalid value: invalid apiVersion format \"v\", must be in the format \"group/version\": spec.tasks[0].taskSpec.apiVersion",
            ),
            (
                one(json!({"onError": "x"})),
                "invalid value: x: spec.tasks[0].OnError\nPipelineTask OnError must be either \"continue\" or \"stopAndFail\"",
            ),
            (
                one(json!({"onError": "continue", "retries": 1})),
                "PipelineTask OnError cannot be set to \"continue\" when Retries is greater than 0: ",
            ),
            (
                task(json!({"taskRef": {}})),
                "missing field(s): spec.tasks[0].taskRef.name",
            ),
            (
                task(
                    json!({"taskRef": {"resolver": "git", "params": [{"name": "a", "value": "1"}, {"name": "A", "value": "1"}]}}),
                ),
                "expected exactly one, got both: spec.tasks[0].taskRef[A].name",
            ),
            (
                task(json!({"taskRef": {"resolver": "git", "name": "x"}})),
                "invalid value: invalid URI for request: spec.tasks[0].taskRef.name",
            ),
            (
                task(json!({"taskRef": {"name": "git://x"}})),
                "feature flag enable-concise-resolver-syntax should be set to true to use concise resolver syntax: spec.tasks[0].taskRef\nmissing field(s): spec.tasks[0].taskRef.resolver",
            ),
            (
                one(json!({"when": [{"input": "a", "operator": "in"}]})),
                "invalid value: expecting non-empty values field: spec.tasks[0].when[0]",
            ),
            (
                one(json!({"when": [{"cel": "x"}]})),
                "feature flag enable-cel-in-whenexpression should be set to true to use CEL: x in WhenExpression: spec.tasks[0].when[0]",
            ),
        ],
    );
    let compiled = |expression: &str, cause: &str| {
        let said = format!(
            "invalid cel expression: %s with err: %s: spec.tasks[0].when[0].{cause}, spec.tasks[0].when[0].{expression}"
        );
        (one(json!({"when": [{"cel": expression}]})), said)
    };
    let (refused, said) = compiled(
        "foo == 'a'",
        "ERROR: <input>:1:1: undeclared reference to 'foo' (in container '')\n | foo == 'a'\n | ^",
    );
    check(
        "Pipeline",
        &config(&[("enable-cel-in-whenexpression", "true")], &[]),
        &[
            (refused, &said),
            (
                one(json!({"when": [{"cel": "'$(params.foo)' == 'a'"}]})),
                "",
            ),
        ],
    );
    check(
        "Pipeline",
        &config(&[("disable-inline-spec", "pipeline")], &[]),
        &[(
            task(json!({"taskSpec": {"steps": steps}})),
            "must not set the field(s): spec.tasks[0].taskSpec",
        )],
    );
}

/// P-066 to P-069, P-071 to P-078
#[test]
fn pipelineruns_say_what_to_run_and_with_what() {
    let run = |fields: Value| and(json!({"pipelineRef": {"name": "p"}}), fields);
    let timeouts = |pipeline: &str, tasks: &str, finally: &str| {
        let mut fields = json!({"pipeline": pipeline});
        for (field, value) in [("tasks", tasks), ("finally", finally)] {
            if !value.is_empty() {
                fields[field] = value.into();
            }
        }
        run(json!({"timeouts": fields}))
    };
    let inline = |task: Value| json!({"pipelineSpec": {"tasks": [task]}});
    check(
        "PipelineRun",
        &Config::default(),
        &[
            (
                json!({}),
                "expected exactly one, got neither: spec.pipelineRef, spec.pipelineSpec",
            ),
            (
                run(json!({"pipelineSpec": one(json!({}))})),
                "expected exactly one, got both: spec.pipelineRef, spec.pipelineSpec",
            ),
            (
                run(json!({"params": [{"name": "a", "value": "1"}, {"name": "A", "value": "1"}]})),
                "expected exactly one, got both: spec.params[A].name",
            ),
            (
                run(json!({"params": [{"name": "a", "value": "$(tasks.t.results.r)"}]})),
                "invalid value: cannot use result expressions in [tasks.t.results.r] as PipelineRun parameter values: spec.params[a].value",
            ),
            (
                inline(
                    json!({"name": "a", "taskSpec": {"steps": [{"image": "i", "script": "$(params.x)"}]}}),
                ),
                "non-existent variable in \"$(params.x)\": spec.steps[0].script",
            ),
            (
                run(json!({"status": "Stop"})),
                "invalid value: Stop should be Cancelled, CancelledRunFinally, StoppedRunFinally or PipelineRunPending: spec.status",
            ),
            (
                timeouts("-1h", "", ""),
                "invalid value: -1h0m0s should be >= 0: spec.timeouts.pipeline",
            ),
            (
                timeouts("1h", "2h", ""),
                "invalid value: 2h0m0s should be <= pipeline duration: spec.timeouts.tasks",
            ),
            (
                timeouts("1h", "", "0"),
                "invalid value: 0s (no timeout) should be <= pipeline duration: spec.timeouts.finally",
            ),
            (
                timeouts("1h", "40m", "30m"),
                "invalid value: 40m0s + 30m0s should be <= pipeline duration: spec.timeouts.finally, spec.timeouts.tasks",
            ),
            (
                timeouts("0", "40m", "30m"),
                "invalid value: 40m0s + 30m0s should be <= pipeline duration: spec.timeouts.finally, spec.timeouts.tasks",
            ),
            (timeouts("0", "40m", ""), ""),
            (
                run(json!({"timeouts": {"tasks": "1m"}, "taskRunSpecs": [{"timeout": "2m"}]})),
                "invalid value: 2m0s should be <= pipeline tasks duration 1m0s: spec.taskRunSpecs[0].timeout",
            ),
            (
                run(json!({"taskRunSpecs": [{"timeout": "2h"}]})),
                "invalid value: 2h0m0s should be <= pipeline duration 1h0m0s: spec.taskRunSpecs[0].timeout",
            ),
            (
                run(json!({"taskRunSpecs": [{"stepSpecs": [{}], "computeResources": {}}]})),
                "missing field(s): spec.taskRunSpecs[0].stepSpecs[0].name",
            ),
            (
                run(
                    json!({"workspaces": [{"name": "w", "emptyDir": {}}, {"name": "w", "secret": {}}]}),
                ),
                "missing field(s): spec.workspaces[1].secret.secretName\nworkspace \"w\" provided by pipelinerun more than once, at index 0 and 1: spec.workspaces[1].name",
            ),
        ],
    );
    let strict = config(
        &[("disable-inline-spec", "pipelinerun")],
        &[("default-forbidden-env", "X")],
    );
    check(
        "PipelineRun",
        &strict,
        &[
            (
                json!({"pipelineSpec": one(json!({}))}),
                "must not set the field(s): spec.pipelineSpec",
            ),
            (
                run(
                    json!({"taskRunTemplate": {"podTemplate": {"env": [{"name": "X"}]}}, "taskRunSpecs": [{"podTemplate": {"env": [{"name": "X"}]}}]}),
                ),
                "invalid value: PodTemplate cannot update a forbidden env: X: spec.taskRunSpecs[0].PodTemplate.Env, spec.taskRunTemplate.PodTemplate.Env",
            ),
        ],
    );
}

/// Upstream's webhook panics here; ours names the field.
#[test]
fn an_object_passed_on_in_place_of_text_is_refused() {
    let run = json!({"params": [{"name": "repo", "value": {"commit": "sha", "retries": 3}}], "pipelineSpec": {"tasks": [
        {"name": "a", "params": [{"name": "repo", "value": {"commit": "x"}}], "taskRef": {"name": "t"}}]}});
    assert_eq!(
        said("tekton.dev/v1", "PipelineRun", &run, &Config::default()),
        "invalid value: param \"repo\" is passed on as an object, but is not one: spec.params[repo].value"
    );
}

/// P-093 to P-096
#[test]
fn the_other_kinds_are_checked_too() {
    let policy = |key: Value| json!({"resources": [{"pattern": ".*"}], "authorities": [{"name": "a", "key": key}]});
    for (api_version, kind, spec, expected) in [
        (
            "tekton.dev/v1beta1",
            "CustomRun",
            json!({}),
            "expected exactly one, got neither: spec.customRef, spec.customSpec",
        ),
        (
            "tekton.dev/v1beta1",
            "CustomRun",
            json!({"customRef": {"kind": "K"}}),
            "missing field(s): spec.customRef.apiVersion",
        ),
        (
            "tekton.dev/v1beta1",
            "CustomRun",
            json!({"customSpec": {"apiVersion": "g/v"}}),
            "missing field(s): spec.customSpec.kind",
        ),
        (
            "tekton.dev/v1beta1",
            "CustomRun",
            json!({"customRef": {"apiVersion": "g/v", "kind": "K"}, "statusMessage": "m"}),
            "invalid value: statusMessage should not be set if status is not set, but it is currently set to m: statusMessage",
        ),
        (
            "resolution.tekton.dev/v1beta1",
            "ResolutionRequest",
            json!({}),
            "missing field(s): meta.labels.resolution.tekton.dev/type",
        ),
        (
            "tekton.dev/v1alpha1",
            "VerificationPolicy",
            json!({"resources": [], "authorities": [], "mode": "x"}),
            "invalid value: available values are: enforce, warn, but got: x: mode\nmissing field(s): authorities, resources",
        ),
        (
            "tekton.dev/v1alpha1",
            "VerificationPolicy",
            policy(json!({"data": "d", "kms": "k", "hashAlgorithm": "md5"})),
            "expected exactly one, got both: key[0].data, key[0].kms, key[0].secretref\ninvalid value: md5: key[0].HashAlgorithm",
        ),
        (
            "tekton.dev/v1alpha1",
            "VerificationPolicy",
            policy(json!({"data": "d", "hashAlgorithm": "SHA256"})),
            "",
        ),
    ] {
        assert_eq!(
            said(api_version, kind, &spec, &Config::default()),
            expected,
            "{kind} {spec}"
        );
    }
}
