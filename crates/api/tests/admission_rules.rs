//! What admission says, rule by rule: a manifest's spec and the whole text of the refusal.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use tektite_api::{
    admission::{Operation, Request, admit, default, validate},
    config::Config,
};

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

fn object(kind: &str, version: &str, spec: Value) -> Value {
    json!({"apiVersion": format!("tekton.dev/{version}"), "kind": kind, "metadata": {"name": "n"}, "spec": spec})
}

/// The refusal's text without its common beginning; empty when admitted.
fn said(kind: &str, version: &str, spec: Value, config: &Config) -> String {
    match admit(&object(kind, version, spec), config) {
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
        assert_eq!(said(kind, "v1", spec.clone(), config), *expected, "{spec}");
    }
}

fn step(fields: Value) -> Value {
    let mut step = json!({"image": "i"});
    step.as_object_mut()
        .unwrap()
        .extend(fields.as_object().unwrap().clone());
    json!({"steps": [step]})
}

fn with_params(params: Value, step_fields: Value) -> Value {
    let mut spec = step(step_fields);
    spec["params"] = params;
    spec
}

/// T-022, T-024 to T-028, T-043
#[test]
fn a_tasks_parts_fit_together() {
    check(
        "Task",
        &Config::default(),
        &[
            (json!({}), "missing field(s): spec.steps"),
            (
                json!({"steps": [{"image": "i"}], "volumes": [{"name": "v"}, {"name": "v"}]}),
                r#"multiple volumes with same name "v": spec.volumes[1].name"#,
            ),
            (
                json!({"steps": [{"image": "i"}], "workspaces": [{"name": "w"}, {"name": "w", "mountPath": "/x"}]}),
                r#"workspace name "w" must be unique: spec.workspaces[1].name"#,
            ),
            (
                json!({"steps": [{"image": "i", "volumeMounts": [{"name": "v", "mountPath": "/m/"}]}], "workspaces": [{"name": "w", "mountPath": "/m"}]}),
                r#"workspace mount path "/m" must be unique: spec.workspaces[0].mountpath"#,
            ),
            (
                step(json!({"workspaces": [{"name": "w", "mountPath": "/x"}]})),
                r#"undefined workspace "w": spec.steps[0].workspaces[0].name"#,
            ),
            (
                json!({"stepTemplate": {"image": "i"}, "steps": [{"script": "x"}]}),
                "",
            ),
            (
                json!({"stepTemplate": {"image": "i"}, "steps": [{"ref": {"name": "a"}}]}),
                "",
            ),
            (
                json!({"steps": [{"image": "i"}], "sidecars": [{"name": "tekton-log-results", "script": "x", "command": ["c"]}]}),
                "Invalid: cannot use reserved sidecar name tekton-log-results : spec.sidecars.name\nmissing field(s): spec.sidecars.image\nscript cannot be used with command: spec.sidecars.script",
            ),
        ],
    );
    let stable = config(&[("enable-api-fields", "stable")], &[]);
    check(
        "Task",
        &stable,
        &[(
            json!({"workspaces": [{"name": "w"}], "steps": [{"image": "i", "workspaces": [{"name": "w"}]}]}),
            r#"step workspaces requires "enable-api-fields" feature gate to be "alpha" or "beta" but it is "stable": "#,
        )],
    );
}

/// T-029 to T-036, T-038 to T-042
#[test]
fn steps_are_checked_field_by_field() {
    let dns = "Task step name must be a valid DNS Label, For more info refer to https://kubernetes.io/docs/concepts/overview/working-with-objects/names/#names";
    check(
        "Task",
        &Config::default(),
        &[
            (
                json!({"steps": [{"image": "i", "name": "a"}, {"image": "i", "name": "a"}]}),
                "expected exactly one, got both: spec.steps[1].name",
            ),
            (
                step(json!({"name": "A_b"})),
                &format!("invalid value \"A_b\": spec.steps[0].name\n{dns}"),
            ),
            (
                json!({"steps": [{"name": "a"}]}),
                "missing field(s): spec.steps[0].Image",
            ),
            (
                step(json!({"script": "x", "command": ["c"]})),
                "script cannot be used with command: spec.steps[0].script",
            ),
            (step(json!({"script": "x", "args": ["a"]})), ""),
            (
                step(json!({"ref": {"name": "r"}, "workingDir": "/", "results": [{"name": "r"}]})),
                "image cannot be used with Ref: spec.steps[0].image\nresults cannot be used with Ref: spec.steps[0].results\nworking dir cannot be used with Ref: spec.steps[0].workingDir",
            ),
            (
                step(json!({"params": [{"name": "p", "value": "v"}]})),
                "params cannot be used without Ref: spec.steps[0].params",
            ),
            (
                json!({"steps": [{"name": "A", "timeout": "-1s"}]}),
                "invalid value: -1s: spec.steps[0].negative timeout",
            ),
            (
                step(
                    json!({"volumeMounts": [{"name": "tekton-internal-x", "mountPath": "/tekton/results"}]}),
                ),
                "volumeMount cannot be mounted under /tekton/ (volumeMount \"tekton-internal-x\" mounted at \"/tekton/results\"): spec.steps[0].volumeMounts[0].mountPath\nvolumeMount name \"tekton-internal-x\" cannot start with \"tekton-internal-\": spec.steps[0].volumeMounts[0].name",
            ),
            (
                step(json!({"volumeMounts": [{"name": "h", "mountPath": "/tekton/home/x"}]})),
                "",
            ),
            (
                step(json!({"onError": "go on"})),
                "invalid value: \"go on\": spec.steps[0].onError\nTask step onError must be either \"continue\" or \"stopAndFail\"",
            ),
            (
                step(
                    json!({"script": "$(steps.a.exitCode.path) $(step.results.r.path)", "results": [{"name": "r"}]}),
                ),
                "stepResult substitutions are only allowed in env, command and args. Found usage in: spec.steps[0].script",
            ),
            (step(json!({"args": ["$(steps.a.results.b)"]})), ""),
            (
                step(json!({"args": ["$(steps.a.outputs.b)"], "name": "A"})),
                "feature flag enable-artifacts should be set to true to use artifacts feature.: spec.steps[0]",
            ),
            (
                step(
                    json!({"when": [{"input": "a", "operator": "like", "values": ["a"]}, {"input": "a", "operator": "in"}, {}]}),
                ),
                "invalid value: expecting non-empty values field: spec.steps[0].when[1]\ninvalid value: operator \"like\" is not recognized. valid operators: in,notin: spec.steps[0].when[0]\nmissing field(s): spec.steps[0].when[2]",
            ),
            (
                step(json!({"when": [{"cel": "true"}]})),
                "feature flag enable-cel-in-whenexpression should be set to true to use CEL: true in WhenExpression: spec.steps[0].when[0]",
            ),
        ],
    );
    let on = config(
        &[
            ("enable-artifacts", "true"),
            ("enable-cel-in-whenexpression", "true"),
        ],
        &[],
    );
    check(
        "Task",
        &on,
        &[
            (step(json!({"args": ["$(steps.a.outputs.b)"]})), ""),
            (
                step(json!({"workingDir": "$(steps.a.outputs.b)"})),
                "stepArtifact substitutions are only allowed in env, command, args and script. Found usage in: spec.steps[0].workingDir",
            ),
            (
                step(json!({"when": [{"cel": "true", "input": "a"}]})),
                "cel and input+operator+values cannot be set in one WhenExpression: &{a  [] true}: ",
            ),
            (step(json!({"when": [{"cel": "'$(params.a)' == 'b'"}]})), ""),
            (
                step(json!({"when": [{"cel": "params == 'b'"}]})),
                "invalid cel expression: %s with err: %s: spec.steps[0].when[0].ERROR: <input>:1:1: undeclared reference to 'params' (in container '')\n | params == 'b'\n | ^, spec.steps[0].when[0].params == 'b'",
            ),
        ],
    );
}

/// T-037
#[test]
fn alpha_features_of_steps_need_alpha() {
    let spec = step(
        json!({"stdoutConfig": {"path": "/x"}, "stderrConfig": {"path": "/y"}, "script": "#!win x"}),
    );
    let gate = r#"requires "enable-api-fields" feature gate to be "alpha" but it is "beta": "#;
    let expected = format!(
        "step stderr stream support {gate}\nstep stdout stream support {gate}\nwindows script support {gate}"
    );
    assert_eq!(
        said("Task", "v1", spec.clone(), &Config::default()),
        expected
    );
    assert_eq!(
        said(
            "Task",
            "v1",
            spec,
            &config(&[("enable-api-fields", "alpha")], &[])
        ),
        ""
    );
}

/// T-044 to T-049
#[test]
fn references_in_steps_must_lead_somewhere() {
    check(
        "Task",
        &Config::default(),
        &[
            (
                step(json!({"script": "$(context.taskRun.node)"})),
                r#"non-existent variable in "$(context.taskRun.node)": spec.steps[0].script"#,
            ),
            (
                step(json!({"script": "$(context.task.retry-count) $(context.taskRun.uid)"})),
                "",
            ),
            (
                step(json!({"script": "$(results.r.path)"})),
                r#"non-existent variable in "$(results.r.path)": spec.steps[0].script"#,
            ),
            (
                step(json!({"script": "$(step.results.x.path)", "results": [{"name": "r"}]})),
                r#"non-existent variable in "$(step.results.x.path)": spec.steps[0].script"#,
            ),
            (
                step(
                    json!({"image": "$(params.a)", "env": [{"name": "E", "value": "$(params.b)"}], "volumeMounts": [{"name": "v", "mountPath": "/$(params.c)"}]}),
                ),
                "non-existent variable in \"$(params.a)\": spec.steps[0].image\nnon-existent variable in \"$(params.b)\": spec.steps[0].env[E]\nnon-existent variable in \"/$(params.c)\": spec.steps[0].volumeMount[0].MountPath",
            ),
            (
                json!({"steps": [{"ref": {"name": "a b"}}]}),
                "invalid value: name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]'): spec.steps[0].name",
            ),
            (
                json!({"steps": [{"ref": {"name": "a", "params": [{"name": "p", "value": "v"}]}}]}),
                "expected exactly one, got both: spec.steps[0].name, spec.steps[0].params\nmissing field(s): spec.steps[0].resolver",
            ),
            (
                json!({"steps": [{"ref": {"resolver": "git", "params": [{"name": "p", "value": "v"}, {"name": "P", "value": "v"}]}}]}),
                "expected exactly one, got both: spec.steps[0][P].name",
            ),
            (
                json!({"steps": [{"ref": {}}]}),
                "missing field(s): spec.steps[0].name",
            ),
            (
                json!({"steps": [{"ref": {"name": "https://x"}}]}),
                "feature flag enable-concise-resolver-syntax should be set to true to use concise resolver syntax: spec.steps[0]\nmissing field(s): spec.steps[0].resolver",
            ),
            (
                json!({"steps": [{"ref": {"name": "x", "resolver": "git"}}]}),
                "invalid value: invalid URI for request: spec.steps[0].name",
            ),
        ],
    );
    check(
        "Task",
        &config(&[("enable-api-fields", "stable")], &[]),
        &[(
            json!({"steps": [{"ref": {"resolver": "git"}}]}),
            r#"resolver requires "enable-api-fields" feature gate to be "alpha" or "beta" but it is "stable": "#,
        )],
    );
}

/// T-050 to T-058
#[test]
fn params_are_declared_and_used_by_their_type() {
    check(
        "Task",
        &Config::default(),
        &[
            (
                with_params(json!([{"name": "p", "type": "list"}]), json!({})),
                "invalid value: list: spec.params.p.type",
            ),
            (
                with_params(
                    json!([{"name": "p", "type": "array", "default": "x"}]),
                    json!({}),
                ),
                "\"array\" type does not match default value's type: \"string\": spec.params.p.default.type, spec.params.p.type",
            ),
            (
                with_params(
                    json!([{"name": "p", "properties": {"k": {"type": "array"}}}]),
                    json!({}),
                ),
                "The value type specified for these keys [k] is invalid: spec.params.p.properties",
            ),
            (
                with_params(json!([{"name": "p", "type": "object"}]), json!({})),
                "missing field(s): spec.p.properties",
            ),
            (
                with_params(json!([{"name": "1a"}, {"name": "2"}]), json!({})),
                "The format of following array and string variable names is invalid: [1a 2]: spec.params\nString/Array Names: \nMust only contain alphanumeric characters, hyphens (-), underscores (_), and dots (.)\nMust begin with a letter or an underscore (_)",
            ),
            (
                with_params(
                    json!([{"name": "a.b", "properties": {"k.1": {}}}]),
                    json!({}),
                ),
                "Object param name and key name format is invalid: map[a.b:[k.1]]: spec.params\nObject Names: \nMust only contain alphanumeric characters, hyphens (-), underscores (_) \nMust begin with a letter or an underscore (_)",
            ),
            (
                with_params(
                    json!([{"name": "p"}, {"name": "p"}, {"name": "P"}]),
                    json!({}),
                ),
                "parameter appears more than once: spec.params[p]",
            ),
            (
                with_params(
                    json!([{"name": "p", "type": "array"}]),
                    json!({"args": ["a$(params.p[*])"]}),
                ),
                "variable is not properly isolated in \"a$(params.p[*])\": spec.steps[0].args[0]",
            ),
            (
                with_params(
                    json!([{"name": "p", "type": "array"}]),
                    json!({"script": "$(params.p)"}),
                ),
                "variable type invalid in \"$(params.p)\": spec.steps[0].script",
            ),
            (
                with_params(
                    json!([{"name": "p", "type": "array"}]),
                    json!({"script": "$(params.p[0])", "args": ["$(params.p[*])"]}),
                ),
                "",
            ),
            (
                json!({"params": [{"name": "p", "type": "array"}], "steps": [{"image": "i", "script": "$(params.p)"}, {"image": "i"}, {"image": "i"}]}),
                "variable type invalid in \"$(params.p)\": spec.steps[2].steps[1].steps[0].script",
            ),
            (
                with_params(
                    json!([{"name": "p", "properties": {"k": {}}}]),
                    json!({"script": "$(params.p[*])"}),
                ),
                "variable type invalid in \"$(params.p[*])\": spec.steps[0].script",
            ),
            (
                with_params(
                    json!([{"name": "p", "properties": {"k": {}}}]),
                    json!({"script": "$(params.p.x)"}),
                ),
                "non-existent variable in \"$(params.p.x)\": spec.steps[0].script",
            ),
            (
                with_params(
                    json!([{"name": "a.b.c"}]),
                    json!({"script": "$(params['a.b.c'])"}),
                ),
                "",
            ),
            (
                with_params(
                    json!([{"name": "a.b.c"}]),
                    json!({"script": "$(params.a.b.c)"}),
                ),
                "Invalid referencing of parameters in \"$(params.a.b.c)\"! Only two dot-separated components after the prefix \"params\" are allowed.: spec.steps[0].script",
            ),
            (
                with_params(json!([{"name": "p", "enum": ["a"]}]), json!({})),
                "feature flag `enable-param-enum` should be set to true to use Enum: spec.params[p]",
            ),
        ],
    );
    check(
        "Task",
        &config(&[("enable-param-enum", "true")], &[]),
        &[
            (
                with_params(
                    json!([{"name": "p", "enum": ["a", "a"], "default": "b"}]),
                    json!({}),
                ),
                "param default value b not in the enum list: spec.params[p]\nparameter enum value a appears more than once: spec.params[p]",
            ),
            (
                with_params(
                    json!([{"name": "p", "type": "array", "enum": ["a"]}]),
                    json!({}),
                ),
                "enum can only be set with string type param: spec.params[p]",
            ),
        ],
    );
}

/// T-059 to T-062
#[test]
fn results_are_named_and_typed() {
    let rule = "must consist of alphanumeric characters, '-', '_', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my-name',  or 'my_name', regex used for validation is '^([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]$')";
    let results = |results: Value| json!({"steps": [{"image": "i"}], "results": results});
    check(
        "Task",
        &Config::default(),
        &[
            (
                results(json!([{"name": "-a", "type": "x"}])),
                &format!("invalid key name \"-a\": spec.results[0].name\nName {rule}"),
            ),
            (
                results(json!([{"name": "a", "type": "x"}])),
                "invalid value: x: spec.results[0].type\ntype must be string",
            ),
            (
                results(json!([{"name": "a", "type": "object"}])),
                "missing field(s): spec.results[0].a.properties",
            ),
            (
                results(json!([{"name": "a", "value": ["x"]}])),
                "Invalid Type. Wanted string but got: \"array\": spec.results[0].a.type",
            ),
            (
                results(json!([{"name": "a", "value": "x"}])),
                "Could not extract step name and result name. Expected value to look like $(steps.<stepName>.results.<resultName>) but got \"x\": spec.results[0].a.value",
            ),
            (
                results(json!([{"name": "a", "value": "$(steps.A.results.r)"}])),
                "invalid extracted step name \"A\": spec.results[0].a.value\nstepName in $(steps.<stepName>.results.<resultName>) must be a valid DNS Label, For more info refer to https://kubernetes.io/docs/concepts/overview/working-with-objects/names/#names",
            ),
            (
                step(json!({"results": [{"name": "ok"}, {"name": "b", "type": "x"}]})),
                "invalid value: x: spec.steps.results[0][1].type\ninvalid type x",
            ),
        ],
    );
}

/// T-063 to T-073, T-075, T-076
#[test]
fn taskruns_say_what_to_run_and_with_what() {
    let run = |fields: Value| {
        let mut spec = json!({"taskRef": {"name": "t"}});
        spec.as_object_mut()
            .unwrap()
            .extend(fields.as_object().unwrap().clone());
        spec
    };
    let sources = "spec.workspaces[0].configmap, spec.workspaces[0].emptydir, spec.workspaces[0].persistentvolumeclaim, spec.workspaces[0].secret, spec.workspaces[0].volumeclaimtemplate";
    let inline = |params: Value, spec: Value| json!({"params": params, "taskSpec": spec});
    check(
        "TaskRun",
        &Config::default(),
        &[
            (
                json!({}),
                "expected exactly one, got neither: spec.taskRef, spec.taskSpec",
            ),
            (
                run(json!({"taskSpec": step(json!({}))})),
                "expected exactly one, got both: spec.taskRef, spec.taskSpec",
            ),
            (
                run(json!({"params": [{"name": "a", "value": "1"}, {"name": "A", "value": "2"}]})),
                "expected exactly one, got both: spec.params[A].name",
            ),
            (
                inline(json!([]), step(json!({"script": "$(params.x)"}))),
                "non-existent variable in \"$(params.x)\": spec.steps[0].script",
            ),
            (
                inline(
                    json!([{"name": "x", "value": "1"}]),
                    step(json!({"script": "$(params.x)"})),
                ),
                "",
            ),
            (
                inline(
                    json!([]),
                    with_params(
                        json!([{"name": "p", "type": "array"}]),
                        json!({"script": "$(params.p)"}),
                    ),
                ),
                "variable type invalid in \"$(params.p)\": spec.steps[0].script, spec.taskSpec.steps[0].script",
            ),
            (
                inline(
                    json!([{"name": "o", "value": {"k": "v"}}]),
                    with_params(json!([{"name": "o", "type": "object"}]), json!({})),
                ),
                "missing field(s): spec.o.properties",
            ),
            (
                run(
                    json!({"workspaces": [{"name": "w", "emptyDir": {}}, {"name": "W", "emptyDir": {}}]}),
                ),
                "expected exactly one, got both: spec.workspaces[1].name",
            ),
            (
                run(json!({"workspaces": [{"name": "w"}]})),
                &format!("expected exactly one, got neither: {sources}"),
            ),
            (
                run(json!({"workspaces": [{"name": "w", "emptyDir": {}, "csi": {"driver": "d"}}]})),
                &format!("expected exactly one, got both: {sources}"),
            ),
            (
                run(json!({"workspaces": [{"name": "w", "persistentVolumeClaim": {}}]})),
                "missing field(s): spec.workspaces[0].persistentvolumeclaim.claimname",
            ),
            (
                run(
                    json!({"workspaces": [{"name": "w", "secret": {}}, {"name": "x", "projected": {}}, {"name": "y", "csi": {}}, {"name": "z", "configMap": {}}]}),
                ),
                "missing field(s): spec.workspaces[0].secret.secretName, spec.workspaces[1].projected.sources, spec.workspaces[2].csi.driver, spec.workspaces[3].configmap.name",
            ),
            (
                run(json!({"stepSpecs": [{}, {"name": "a"}, {"name": "a"}]})),
                "expected exactly one, got both: spec.stepSpecs[1].name\nmissing field(s): spec.stepSpecs[0].name",
            ),
            (
                run(
                    json!({"computeResources": {}, "stepSpecs": [{"name": "a", "computeResources": {"limits": {"cpu": "1"}}}]}),
                ),
                "expected exactly one, got both: spec.computeResources, spec.stepSpecs.resources",
            ),
            (
                run(json!({"status": "Stop"})),
                "invalid value: Stop should be TaskRunCancelled or TaskRunPending: spec.status",
            ),
            (
                run(json!({"statusMessage": "why"})),
                "invalid value: statusMessage should not be set if status is not set, but it is currently set to why: spec.statusMessage",
            ),
            (
                run(json!({"retries": -1, "timeout": "-1m"})),
                "invalid value: -1 should be >= 0: spec.retries\ninvalid value: -1m0s should be >= 0: spec.timeout",
            ),
            (
                run(json!({"debug": {}})),
                "debug requires \"enable-api-fields\" feature gate to be \"alpha\" but it is \"beta\": ",
            ),
        ],
    );
    let strict = config(
        &[
            ("enable-api-fields", "alpha"),
            ("disable-inline-spec", "pipeline,taskrun"),
        ],
        &[("default-forbidden-env", "X")],
    );
    check(
        "TaskRun",
        &strict,
        &[
            (
                json!({"taskSpec": step(json!({}))}),
                "must not set the field(s): spec.taskSpec",
            ),
            (
                run(json!({"podTemplate": {"env": [{"name": "X"}]}})),
                "invalid value: PodTemplate cannot update a forbidden env: X: spec.PodTemplate.Env",
            ),
            (
                run(json!({"debug": {"breakpoints": {"beforeSteps": ["a", "a"]}}})),
                "before step must be unique, the same step: a is defined multiple times at: spec.debug.breakpoints.beforeSteps[1]\ninvalid value: onFailure breakpoint is empty, it is only allowed to be set as enabled: spec.debug.breakpoints.onFailure",
            ),
            (
                run(json!({"debug": {"breakpoints": {"onFailure": "enabled"}}})),
                "",
            ),
        ],
    );
    // T-075: v1beta1 does not look at retries.
    assert_eq!(
        said(
            "TaskRun",
            "v1beta1",
            run(json!({"retries": -1})),
            &Config::default()
        ),
        ""
    );
}

/// The text of the validating webhook's refusal of an update; empty when it has none.
fn update(kind: &str, old: &Value, new: &Value, config: &Config) -> String {
    let request = Request {
        operation: Operation::Update,
        old_object: Some(old),
        ..Request::create(new)
    };
    assert_eq!(request.kind, kind);
    let refusal = validate(&request, config).err();
    refusal.map_or(String::new(), |r| {
        r.message.replace("validation failed: ", "")
    })
}

fn changed(object: &Value, pointer: &str, value: Value) -> Value {
    let mut object = object.clone();
    let (parent, field) = pointer.rsplit_once('/').unwrap();
    object.pointer_mut(parent).unwrap()[field] = value;
    object
}

/// T-021, T-074, T-077 to T-079, P-015, P-070, P-079 to P-081
#[test]
fn a_run_changes_little_once_it_is_there() {
    let config = Config::default();
    for (kind, reference, pending, free) in [
        (
            "TaskRun",
            "taskRef",
            "TaskRunPending",
            "status and statusMessage",
        ),
        ("PipelineRun", "pipelineRef", "PipelineRunPending", "status"),
    ] {
        let bare = object(kind, "v1", json!({reference: {"name": "t"}}));
        let run = default(&Request::create(&bare), &config).unwrap();
        let done = changed(
            &run,
            "/status",
            json!({"conditions": [{"type": "Succeeded", "status": "True"}]}),
        );
        let cancelled = if kind == "TaskRun" {
            "TaskRunCancelled"
        } else {
            "Cancelled"
        };
        assert_eq!(
            update(
                kind,
                &run,
                &changed(&run, "/spec/status", json!(cancelled)),
                &config
            ),
            ""
        );
        assert_eq!(
            update(
                kind,
                &run,
                &changed(&run, "/metadata/labels", json!({"a": "b"})),
                &config
            ),
            ""
        );
        let other = json!({"name": "other"});
        assert_eq!(
            update(
                kind,
                &run,
                &changed(&run, &format!("/spec/{reference}"), other.clone()),
                &config
            ),
            format!(
                "invalid value: Once the {kind} has started, only {free} updates are allowed: spec"
            )
        );
        assert_eq!(
            update(
                kind,
                &run,
                &changed(&run, "/spec/managedBy", json!("x")),
                &config
            ),
            "invalid value: managedBy is immutable: spec.spec.managedBy"
        );
        assert_eq!(
            update(
                kind,
                &done,
                &changed(&done, &format!("/spec/{reference}"), other),
                &config
            ),
            format!("invalid value: Once the {kind} is complete, no updates are allowed: spec")
        );
        // What defaulting adds to a finished run is no change.
        let mut undefaulted = done.clone();
        undefaulted["spec"] = bare["spec"].clone();
        assert_eq!(update(kind, &undefaulted, &done, &config), "");
        let mut held = changed(
            &run,
            "/status",
            json!({"startTime": "2026-01-01T00:00:00Z"}),
        );
        held["spec"]["status"] = pending.into();
        assert_eq!(
            update(kind, &held, &held, &config),
            format!("invalid value: {kind} cannot be Pending after it is started: spec.status")
        );
        let broken = object(kind, "v1", json!({}));
        let delete = Request {
            operation: Operation::Delete,
            ..Request::create(&broken)
        };
        assert!(validate(&delete, &config).unwrap().is_empty());
    }
}

/// P-018: defaults are filled in on updates too, and what is compared is the stored object as it is.
#[test]
fn a_default_that_came_later_keeps_a_run_under_way_from_being_changed() {
    let later = config(
        &[],
        &[("default-pod-template", "nodeSelector: {disk: ssd}")],
    );
    let bare = object("PipelineRun", "v1", json!({"pipelineRef": {"name": "p"}}));
    let run = default(&Request::create(&bare), &Config::default()).unwrap();
    let ended = json!({"conditions": [{"type": "Succeeded", "status": "True"}]});
    for (stored, said) in [
        (
            &run,
            "invalid value: Once the PipelineRun has started, only status updates are allowed: spec",
        ),
        (&changed(&run, "/status", ended), ""),
    ] {
        let labelled = changed(stored, "/metadata/labels", json!({"a": "b"}));
        let request = Request {
            operation: Operation::Update,
            old_object: Some(stored),
            ..Request::create(&labelled)
        };
        assert_eq!(
            update("PipelineRun", stored, &labelled, &Config::default()),
            ""
        );
        let defaulted = default(&request, &later).unwrap();
        assert_eq!(
            defaulted["spec"]["taskRunTemplate"]["podTemplate"]["nodeSelector"],
            json!({"disk": "ssd"})
        );
        assert_eq!(update("PipelineRun", stored, &defaulted, &later), said);
    }
}

/// P-020, T-023
#[test]
fn names_fit_into_labels() {
    let config = Config::default();
    let key = json!({"name": "k", "key": {"data": "d"}});
    for (kind, version, spec) in [
        ("Task", "v1", json!({"steps": [{"image": "i"}]})),
        ("TaskRun", "v1", json!({"taskRef": {"name": "t"}})),
        ("StepAction", "v1beta1", json!({"image": "i"})),
        (
            "Pipeline",
            "v1",
            json!({"tasks": [{"name": "a", "taskRef": {"name": "t"}}]}),
        ),
        ("PipelineRun", "v1", json!({"pipelineRef": {"name": "p"}})),
        (
            "CustomRun",
            "v1beta1",
            json!({"customRef": {"apiVersion": "example.dev/v1", "kind": "Wait"}}),
        ),
        (
            "VerificationPolicy",
            "v1alpha1",
            json!({"resources": [{"pattern": ".*"}], "authorities": [key]}),
        ),
    ] {
        let named = |name: &str| {
            changed(
                &object(kind, version, spec.clone()),
                "/metadata/name",
                name.into(),
            )
        };
        let webhook = |name: &str| {
            let object = named(name);
            let refusal = validate(&Request::create(&object), &config).err();
            refusal.map_or(String::new(), |it| it.message)
        };
        assert_eq!(webhook(&"n".repeat(63)), "", "{kind}");
        assert_eq!(
            webhook(&"n".repeat(64)),
            "validation failed: Invalid resource name: length must be no more than 63 characters: metadata.name"
        );
        assert_eq!(
            webhook("A_b"),
            "validation failed: invalid resource name \"A_b\": must be a valid DNS label: metadata.name"
        );
        // The API server looks first.
        assert_eq!(admit(&named("A_b"), &config).unwrap_err().code, 422);
    }
}

/// T-080 to T-085
#[test]
fn stepactions_stand_by_themselves() {
    let action = |fields: Value| {
        let mut spec = json!({"image": "i"});
        spec.as_object_mut()
            .unwrap()
            .extend(fields.as_object().unwrap().clone());
        spec
    };
    let circle = action(
        json!({"params": [{"name": "a", "default": "$(params.b)"}, {"name": "b", "default": "$(params.a)"}, {"name": "c", "default": "$(params.d)"}]}),
    );
    for (version, spec, expected) in [
        (
            "v1beta1",
            json!({"script": "x", "command": ["c"]}),
            "missing field(s): spec.Image\nscript cannot be used with command: spec.script",
        ),
        (
            "v1beta1",
            action(json!({"script": "$(params.a)", "params": [{"name": "a"}]})),
            "param substitution in scripts is not allowed.: spec.script",
        ),
        (
            "v1beta1",
            action(
                json!({"args": ["$(params.a)"], "env": [{"name": "E", "value": "$(params.b)"}]}),
            ),
            "non-existent variable in \"$(params.a)\": spec.args[0]\nnon-existent variable in \"$(params.b)\": spec.env[E]",
        ),
        (
            "v1beta1",
            action(json!({"volumeMounts": [{"name": "v", "mountPath": "/x"}]})),
            "invalid value: v: spec.volumeMounts[0].name\nexpect the Name to be a single param reference",
        ),
        (
            "v1beta1",
            action(
                json!({"params": [{"name": "v"}], "volumeMounts": [{"name": "$(params.v)", "mountPath": "/x"}]}),
            ),
            "",
        ),
        (
            "v1beta1",
            action(
                json!({"script": "$(results.r.path) $(step.results.s.path)", "results": [{"name": "r"}]}),
            ),
            "non-existent variable in \"$(results.r.path) $(step.results.s.path)\": spec.script",
        ),
        ("v1beta1", circle.clone(), ""),
        (
            "v1alpha1",
            circle,
            "param \"a\" default value has a circular dependency: spec.params\nparam \"b\" default value has a circular dependency: spec.params\nparam \"c\" default value references param \"d\" which is not defined: spec.params",
        ),
    ] {
        assert_eq!(
            said("StepAction", version, spec.clone(), &Config::default()),
            expected,
            "{spec}"
        );
    }
}

/// T-102, T-103, P-089 to P-091
#[test]
fn v1beta1_words_some_findings_differently() {
    let config = Config::default();
    for (kind, spec, expected) in [
        (
            "Task",
            json!({"steps": [{"image": "i", "name": "a"}, {"image": "i", "name": "a"}]}),
            "invalid value: a: spec.steps[1].name",
        ),
        (
            "Task",
            json!({"steps": [{"image": "i"}], "sidecars": [{"name": "tekton-log-results"}]}),
            "Invalid: cannot use reserved sidecar name tekton-log-results : spec.sidecars",
        ),
        (
            "Task",
            step(json!({"script": "$(params.x) y"})),
            "non-existent variable `x` in \"$(params.x) y\": spec.steps[0].script",
        ),
        (
            "Task",
            json!({"steps": [{"image": "i"}], "resources": {}}),
            "must not set the field(s): spec.resources",
        ),
        (
            "TaskRun",
            json!({"taskRef": {"name": "t", "bundle": "b"}}),
            "must not set the field(s): spec.taskRef.bundle",
        ),
        (
            "PipelineRun",
            json!({"pipelineRef": {"name": "t", "bundle": "b"}, "timeout": "-1s"}),
            "invalid value: -1s should be >= 0: spec.timeout\nmust not set the field(s): spec.pipelineRef.bundle",
        ),
        (
            "PipelineRun",
            json!({"pipelineRef": {"name": "t"}, "timeout": "1s", "timeouts": {"pipeline": "1s"}}),
            "must not set the field(s): spec.timeout, spec.timeouts",
        ),
        (
            "PipelineRun",
            json!({"pipelineSpec": {"tasks": [{"name": "a", "taskRef": {"name": "t"}, "workspaces": [{"name": "w", "workspace": "x"}]}]}}),
            "invalid value: pipeline task \"a\" expects workspace with name \"x\" but none exists in pipeline spec: spec[0].workspaces[0]",
        ),
    ] {
        assert_eq!(
            said(kind, "v1beta1", spec.clone(), &config),
            expected,
            "{spec}"
        );
    }
    let alpha = self::config(&[("enable-api-fields", "alpha")], &[]);
    let nested = json!({"tasks": [{"name": "a", "pipelineRef": {}}]});
    assert_eq!(said("Pipeline", "v1beta1", nested.clone(), &alpha), "");
    assert_eq!(
        said("Pipeline", "v1", nested, &alpha),
        "missing field(s): spec.tasks[0].pipelineRef.name"
    );
}
