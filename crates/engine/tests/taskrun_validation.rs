//! Whether a run fits its task, checked before there is a pod.

mod world;

use serde_json::json;
use world::*;

#[test]
fn a_run_that_does_not_fit_its_task_fails_with_upstreams_words() {
    // T-191, T-192, T-193, T-194, T-195, T-196, T-198, T-199, T-200, T-201
    let args = |arg: &str| json!([{"name": "s", "image": "i", "command": ["c"], "args": [arg]}]);
    let requests =
        json!([{"name": "s", "image": "i", "computeResources": {"requests": {"cpu": "2"}}}]);
    for (spec, task_spec, message) in [
        (
            json!({}),
            json!({"params": [{"name": "a"}, {"name": "b"}, {"name": "c", "default": "x"}]}),
            "[User error] invalid input params for task t: missing values for these params which have no default values: [a b]",
        ),
        (
            json!({"params": [{"name": "a", "value": "x"}, {"name": "extra", "value": "y"}]}),
            json!({"params": [{"name": "a", "type": "array"}]}),
            "[User error] invalid input params for task t: param types don't match the user-specified type: [a]",
        ),
        (
            json!({"params": [{"name": "o", "value": {"x": "1"}}]}),
            json!({"params": [{"name": "o", "type": "object", "properties": {"x": {}, "k": {}, "d": {}}, "default": {"d": "1"}}]}),
            "[User error] invalid input params for task t: missing keys for these params which are required in ParamSpec's properties map[o:[k]]",
        ),
        (
            json!({"params": [{"name": "x", "value": ["0", "1"]}]}),
            json!({"params": [{"name": "x", "type": "array"}], "steps": args("$(params.x[1]) $(params['x'][2])")}),
            "[User error] non-existent param references:[$(params['x'][2])]",
        ),
        (
            json!({}),
            json!({"steps": requests, "stepTemplate": {"computeResources": {"limits": {"cpu": "1500m"}}}}),
            "[User error] invalid request resource value: 2 must be less or equal to limit 1500m",
        ),
        (
            json!({}),
            json!({"workspaces": [{"name": "o", "optional": true}, {"name": "w"}]}),
            "[User error] declared workspace \"w\" is required but has not been bound",
        ),
        (
            json!({"workspaces": [{"name": "w", "emptyDir": {}}]}),
            json!({}),
            "[User error] workspace binding \"w\" does not match any declared workspace",
        ),
        (
            json!({"workspaces": [{"name": "v", "persistentVolumeClaim": {"claimName": "a"}}, {"name": "w", "volumeClaimTemplate": {"spec": {}}}]}),
            json!({"workspaces": [{"name": "v"}, {"name": "w"}]}),
            "[User error] more than one PersistentVolumeClaim is bound",
        ),
        (
            json!({"stepSpecs": [{"name": "x"}], "sidecarSpecs": [{"name": "y"}]}),
            json!({}),
            "[User error] invalid StepOverride: No Step named x\n[User error] invalid SidecarOverride: No Sidecar named y",
        ),
    ] {
        let decision = checked(spec, task_spec).decide();
        assert_eq!(
            condition(&decision.status),
            ("False", "TaskRunValidationFailed", message)
        );
        assert!(decision.effects.is_empty());
    }
}

#[test]
fn a_run_that_fits_its_task_is_run() {
    // T-194, T-196, T-199
    for (spec, task_spec) in [
        (
            json!({"params": [{"name": "extra", "value": "y"}]}),
            json!({}),
        ),
        (
            json!({"params": [{"name": "a", "value": "$(tasks.x.results.y[*])"}]}),
            json!({"params": [{"name": "a", "type": "array"}]}),
        ),
        (
            json!({"workspaces": [{"name": "v", "persistentVolumeClaim": {"claimName": "a"}}, {"name": "w", "persistentVolumeClaim": {"claimName": "a"}}]}),
            json!({"workspaces": [{"name": "v"}, {"name": "w"}]}),
        ),
    ] {
        let decision = checked(spec, task_spec).decide();
        assert_eq!(
            condition(&decision.status).0,
            "Unknown",
            "{:?}",
            decision.status.conditions
        );
    }
    let inline =
        json!({"taskSpec": {"steps": step()}, "workspaces": [{"name": "w", "emptyDir": {}}]});
    let decision = World::new(run(inline)).decide();
    assert_eq!(condition(&decision.status).0, "Unknown");
    assert_eq!(
        json!(decision.status.task_spec)["workspaces"],
        json!([{"name": "w"}])
    );
}

#[test]
fn an_enum_limits_a_param() {
    // T-197, T-382
    for (value, expected) in [
        ("a", ("Unknown", "Pending", "Pending")),
        ("", ("Unknown", "Pending", "Pending")),
        (
            "c",
            (
                "False",
                "InvalidParamValue",
                "[User error] param `p` value: c is not in the enum list",
            ),
        ),
    ] {
        let mut world = checked(
            json!({"params": [{"name": "p", "value": value}]}),
            json!({"params": [{"name": "p", "enum": ["a", "b"]}]}),
        );
        world.config.feature_flags.enable_param_enum = true;
        assert_eq!(condition(&world.decide().status), expected);
    }
}

#[test]
fn the_default_binding_of_the_installation_is_used() {
    // T-210
    let mut world = checked(json!({}), json!({"workspaces": [{"name": "w"}]}));
    world.config.defaults.task_run_workspace_binding = "emptyDir: {}".into();
    let decision = world.decide();
    assert_eq!(condition(&decision.status).0, "Unknown");
}

#[test]
fn the_substituted_spec_is_validated_once_more_before_the_pod() {
    // T-202
    for (steps, message) in [
        (
            json!([{"name": "s", "image": "i", "command": ["$(params.gone)"]}]),
            "non-existent variable in \"$(params.gone)\": steps[0].command[0]",
        ),
        (
            json!([{"name": "$(params.n)", "image": "i", "command": ["c"]}]),
            "invalid value \"Not A Label\": steps[0].name",
        ),
    ] {
        let spec = json!({"params": [{"name": "n", "default": "Not A Label"}], "steps": steps});
        let decision = World::new(run(json!({"taskSpec": spec}))).decide();
        let (status, reason, said) = condition(&decision.status);
        assert_eq!((status, reason), ("False", "PodCreationFailed"));
        assert!(
            said.starts_with(&format!("failed to create task run pod \"tr\": {message}")),
            "{said}"
        );
        assert!(
            said.ends_with(". Maybe invalid TaskSpec") && decision.effects.is_empty(),
            "{said}"
        );
    }
}
