//! What the pod of a TaskRun looks like, where no recording of Tekton shows it.

mod world;

use std::sync::Arc;

use serde_json::{Value, json};
use tektite_engine::taskrun::pod::{EntrypointDelivery, PodOptions};
use world::*;

fn task_spec(spec: Value) -> World {
    World::new(run(json!({"taskSpec": spec})))
}

fn init_container(world: &mut World) {
    let entrypoint = EntrypointDelivery::InitContainer { image: "e".into() };
    world.seen.pod_options = Arc::new(PodOptions {
        entrypoint,
        ..PodOptions::default()
    });
}

fn args(pod: &Value, container: usize) -> Vec<String> {
    serde_json::from_value(pod["spec"]["containers"][container]["args"].clone()).expect("arguments")
}

/// What follows `flag` on a command line, up to `count` words.
fn after<'a>(args: &'a [String], flag: &str, count: usize) -> Option<&'a [String]> {
    let at = args.iter().position(|a| a == flag)?;
    args.get(at..at + count)
}

fn names(list: &Value) -> Vec<&str> {
    list.as_array()
        .into_iter()
        .flatten()
        .filter_map(|v| v["name"].as_str())
        .collect()
}

fn mount<'a>(container: &'a Value, path: &str) -> Option<&'a Value> {
    container["volumeMounts"]
        .as_array()?
        .iter()
        .find(|m| m["mountPath"] == path)
}

#[test]
fn with_an_image_volume_there_is_no_init_container() {
    // T-229, T-232, T-237, T-240
    let mut world = task_spec(
        json!({"steps": [{"name": "a", "image": "i", "command": ["x", "y"], "args": ["z"]}, {"image": "i", "script": "echo"}]}),
    );
    let pod = world.pod();
    assert_eq!(pod["spec"]["initContainers"], Value::Null);
    let bin = pod["spec"]["volumes"]
        .as_array()
        .unwrap()
        .iter()
        .find(|v| v["name"] == "tekton-internal-bin")
        .unwrap();
    assert_eq!(
        *bin,
        json!({"name": "tekton-internal-bin", "image": {"reference": "tektite/entrypoint"}})
    );
    let container = &pod["spec"]["containers"][1];
    assert_eq!(mount(container, "/tekton/bin").unwrap()["readOnly"], true);
    // Its own part of the directory in which its entrypoint links the steps.
    assert_eq!(
        *mount(container, "/tekton/steps").unwrap(),
        json!({"name": "tekton-internal-steps", "mountPath": "/tekton/steps", "subPath": "1"})
    );
    let first = args(&pod, 0);
    assert_eq!(
        first,
        [
            "-wait_file",
            "/tekton/downward/ready",
            "-wait_file_content",
            "-post_file",
            "/tekton/run/0/out",
            "-termination_path",
            "/tekton/termination",
            "-step_metadata_dir",
            "/tekton/run/0/status",
            "-step_names",
            "step-a,step-unnamed-1",
            "-entrypoint",
            "x",
            "--",
            "y",
            "z"
        ]
    );
    let second = args(&pod, 1);
    assert_eq!(
        after(&second, "-wait_file", 2).unwrap(),
        ["-wait_file", "/tekton/run/0/out"]
    );
    let script = &after(&second, "-script_file", 2).unwrap()[1];
    assert_eq!(
        after(&second, "-entrypoint", 3).unwrap(),
        ["-entrypoint", script.as_str(), "--"]
    );
    assert_eq!(container["env"][0]["name"], "TEKTON_INTERNAL_SCRIPT");
}

#[test]
fn scripts_have_the_same_path_each_time_and_another_in_each_run() {
    // T-253
    let mut world = task_spec(json!({"steps": [{"image": "i", "script": "a"}]}));
    let path =
        |world: &mut World| after(&args(&world.pod(), 0), "-script_file", 2).unwrap()[1].clone();
    let first = path(&mut world);
    assert_eq!(path(&mut world), first);
    world.run.metadata.uid = Some("other".into());
    assert_ne!(path(&mut world), first);
}

#[test]
fn a_pod_need_not_wait_where_nothing_is_injected() {
    // T-109, T-215, T-234, T-240
    let sidecar = json!({"steps": [{"image": "i", "command": ["c"]}], "sidecars": [{"name": "c", "image": "i"}]});
    for (injected, await_ready, with_sidecar, waits) in [
        (true, true, false, true),
        (false, true, false, false),
        (false, true, true, true),
        (true, false, true, false),
    ] {
        let mut world = if with_sidecar {
            task_spec(sidecar.clone())
        } else {
            World::new(one_step())
        };
        world
            .config
            .feature_flags
            .running_in_env_with_injected_sidecars = injected;
        world.config.feature_flags.await_sidecar_readiness = await_ready;
        let pod = world.pod();
        let ready = pod["metadata"]["annotations"]
            .get("tekton.dev/ready")
            .is_some();
        let volume = names(&pod["spec"]["volumes"]).contains(&"tekton-internal-downward");
        let flag = args(&pod, 0).contains(&"-wait_file_content".to_owned());
        assert_eq!(
            (!ready, volume, flag),
            (waits, waits, waits),
            "{injected} {await_ready} {with_sidecar}"
        );
    }
}

#[test]
fn a_pod_kept_on_cancel_shows_the_annotation_to_every_step() {
    // T-234, T-235
    let mut world = task_spec(
        json!({"steps": [{"image": "i", "command": ["c"]}, {"image": "i", "command": ["c"]}]}),
    );
    let downward =
        |pod: &Value, i: usize| mount(&pod["spec"]["containers"][i], "/tekton/downward").is_some();
    let pod = world.pod();
    assert!(downward(&pod, 0) && !downward(&pod, 1));
    world.config.feature_flags.enable_keep_pod_on_cancel = true;
    let pod = world.pod();
    assert!(downward(&pod, 0) && downward(&pod, 1));
    let volume = pod["spec"]["volumes"]
        .as_array()
        .unwrap()
        .iter()
        .find(|v| v["name"] == "tekton-internal-downward")
        .unwrap();
    let paths: Vec<_> = volume["downwardAPI"]["items"]
        .as_array()
        .unwrap()
        .iter()
        .map(|i| i["path"].as_str().unwrap())
        .collect();
    assert_eq!(paths, ["ready", "cancel"]);
}

#[test]
fn flags_of_a_step_stand_in_upstreams_order() {
    // T-239, T-241, T-242, T-243
    let step = json!({"name": "s", "image": "i", "command": ["c"], "onError": "continue", "timeout": "1m", "stdoutConfig": {"path": "/o"},
        "stderrConfig": {"path": "/e"}, "results": [{"name": "a"}, {"name": "b"}], "when": [{"input": "<x>", "operator": "in", "values": ["y"]}]});
    let mut world = task_spec(
        json!({"steps": [step], "results": [{"name": "r"}, {"name": "taken", "value": "$(steps.s.results.a)"}]}),
    );
    world.config.feature_flags.enable_api_fields = "alpha".into();
    world
        .config
        .feature_flags
        .enable_termination_message_compression = true;
    let args = args(&world.pod(), 0);
    let from = args
        .iter()
        .position(|a| a == "-compress_termination_message=true")
        .unwrap();
    assert_eq!(
        args[from..],
        [
            "-compress_termination_message=true",
            "-on_error",
            "continue",
            "-timeout",
            "1m0s",
            "-stdout_path",
            "/o",
            "-stderr_path",
            "/e",
            "-step_results",
            "a,b",
            "--when_expressions",
            r#"[{"input":"\u003cx\u003e","operator":"in","values":["y"]}]"#,
            "-results",
            "r",
            "-entrypoint",
            "c",
            "--"
        ]
    );
}

#[test]
fn a_bad_on_error_fails_pod_building() {
    // T-241
    let spec = json!({"params": [{"name": "p", "default": "sometimes"}], "steps": [{"image": "i", "command": ["c"], "onError": "$(params.p)"}]});
    let decision = task_spec(spec).decide();
    assert_eq!(condition(&decision.status).1, "PodCreationFailed");
    let message = condition(&decision.status).2;
    assert!(
        message.contains("Task step onError must be either \"continue\" or \"stopAndFail\""),
        "{message}"
    );
}

#[test]
fn a_step_without_a_command_runs_its_images() {
    // T-257, T-258, T-259, T-260, T-248
    let step = json!({"name": "s", "image": "reg/i:1", "env": [{"name": "A", "value": "1"}]});
    let mut world = task_spec(json!({"steps": [step, {"image": "reg/i:1", "command": ["c"]}]}));
    let pod = world.pod();
    let container = &pod["spec"]["containers"][0];
    assert_eq!(container["image"], "reg/i:1@sha256:0");
    assert_eq!(
        container["env"],
        json!([{"name": "A", "value": "1"}, {"name": "TEKTON_PLATFORM_COMMANDS", "value": r#"{"linux/amd64":["entry","cmd"]}"#}])
    );
    assert_eq!(args(&pod, 0).last().unwrap(), "--");
    assert!(!args(&pod, 0).contains(&"-entrypoint".to_owned()));
    assert_eq!(pod["spec"]["containers"][1]["image"], "reg/i:1");
}

#[test]
fn the_pod_template_supplies_what_it_may() {
    // T-189, T-218, T-248, T-249
    let template = json!({"nodeSelector": {"n": "$(params.p)"}, "tolerations": [{"key": "k"}], "securityContext": {"runAsUser": 3},
        "runtimeClassName": "r", "automountServiceAccountToken": false, "schedulerName": "s", "hostNetwork": true, "hostUsers": false,
        "dnsPolicy": "None", "dnsConfig": {"nameservers": ["1.1.1.1"]}, "enableServiceLinks": true, "priorityClassName": "p",
        "imagePullSecrets": [{"name": "x"}], "hostAliases": [{"ip": "1.2.3.4"}], "volumes": [{"name": "extra", "emptyDir": {}}],
        "topologySpreadConstraints": [{"maxSkew": 1, "topologyKey": "z", "whenUnsatisfiable": "DoNotSchedule"}],
        "env": [{"name": "A", "value": "template"}, {"name": "NO", "value": "x"}]});
    let spec = json!({"steps": [{"image": "i", "command": ["c"], "env": [{"name": "A", "value": "step"}]}], "sidecars": [{"name": "c", "image": "i"}]});
    let mut world = World::new(run(
        json!({"taskSpec": spec, "podTemplate": template, "params": [{"name": "p", "value": "V"}]}),
    ));
    world.config.defaults.forbidden_env = vec!["NO".into()];
    let pod = world.pod();
    let mut expected = template.clone();
    expected["nodeSelector"]["n"] = "V".into();
    for key in template
        .as_object()
        .unwrap()
        .keys()
        .filter(|k| *k != "env" && *k != "volumes")
    {
        assert_eq!(pod["spec"][key], expected[key], "{key}");
    }
    assert_eq!(names(&pod["spec"]["volumes"]).last(), Some(&"extra"));
    assert_eq!(
        pod["spec"]["containers"][0]["env"],
        json!([{"name": "A", "value": "step"}, {"name": "A", "value": "template"}])
    );
    assert_eq!(pod["spec"]["containers"][1]["env"], Value::Null);
}

#[test]
fn the_deadline_is_half_as_long_again_as_the_timeout() {
    // T-217
    for (timeout, deadline) in [(None, 5400), (Some("3s"), 4), (Some("0s"), 2_147_483_647)] {
        let mut world = World::new(one_step());
        world.run.spec.timeout = timeout.map(|t| t.parse().unwrap());
        assert_eq!(world.pod()["spec"]["activeDeadlineSeconds"], deadline);
    }
}

#[test]
fn names_are_cut_to_what_kubernetes_admits() {
    // T-211, T-220
    let long = "a".repeat(63);
    let mut world = task_spec(
        json!({"steps": [{"name": long, "image": "i", "command": ["c"]}], "sidecars": [{"image": "i"}]}),
    );
    world.run.metadata.name = Some("r".repeat(60));
    let pod = world.pod();
    let containers = names(&pod["spec"]["containers"]);
    assert_eq!(containers[0], format!("step-{}", "a".repeat(58)));
    assert_eq!(containers[1], "sidecar");
    let name = pod["metadata"]["name"].as_str().unwrap();
    assert_eq!(name.len(), 63);
    assert!(name.starts_with(&"r".repeat(27)) && name.ends_with("-pod"));
}

#[test]
fn an_affinity_assistant_draws_the_pod_to_its_node() {
    // T-221, T-401
    let mut world = World::new(one_step());
    let template = json!({"affinity": {"podAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [{"topologyKey": "own"}]}}});
    world.run.spec.pod_template = Some(serde_json::from_value(template).unwrap());
    let annotations = world.run.metadata.annotations.get_or_insert_default();
    annotations.insert("pipeline.tekton.dev/affinity-assistant".into(), "aa".into());
    let pod = world.pod();
    let terms =
        &pod["spec"]["affinity"]["podAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"];
    assert_eq!(terms[0]["topologyKey"], "own");
    assert_eq!(
        terms[1],
        json!({"topologyKey": "kubernetes.io/hostname", "labelSelector": {"matchLabels": {
            "app.kubernetes.io/instance": "aa", "app.kubernetes.io/component": "affinity-assistant"}}})
    );
    let told = "! PodAffinityOverwrite: Pod template affinity is overwritten by affinity assistant for pod \"tr-pod\"";
    assert!(events(&world.decide()).contains(&told.to_owned()));
}

#[test]
fn two_volumes_of_one_name_fail_pod_building() {
    // T-223
    let spec = json!({"steps": [{"image": "i", "command": ["c"]}], "volumes": [{"name": "tekton-internal-home", "emptyDir": {}}]});
    let decision = task_spec(spec).decide();
    assert_eq!(condition(&decision.status).1, "PodCreationFailed");
    assert!(
        condition(&decision.status)
            .2
            .contains("multiple volumes with same name \"tekton-internal-home\"")
    );
}

#[test]
fn the_init_container_brings_the_entrypoint_and_makes_directories() {
    // T-225, T-227, T-228
    let steps = json!([{"name": "a", "image": "i", "command": ["c"], "workingDir": "rel/../x"}, {"image": "i", "command": ["c"], "workingDir": "/workspace/w"},
                       {"image": "i", "command": ["c"], "workingDir": "/elsewhere"}]);
    let mut world = task_spec(json!({"steps": steps}));
    init_container(&mut world);
    world.config.feature_flags.set_security_context = true;
    let pod = world.pod();
    assert_eq!(names(&pod["spec"]["initContainers"]), ["prepare"]);
    let prepare = &pod["spec"]["initContainers"][0];
    assert_eq!(
        prepare["command"],
        json!([
            "/ko-app/entrypoint",
            "-working_dirs",
            "/workspace/w,x",
            "init",
            "/ko-app/entrypoint",
            "/tekton/bin/entrypoint",
            "step-a",
            "step-unnamed-1",
            "step-unnamed-2"
        ])
    );
    assert_eq!(prepare["workingDir"], "/workspace");
    assert_eq!(
        prepare["securityContext"],
        json!({"allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]}, "runAsNonRoot": true, "seccompProfile": {"type": "RuntimeDefault"}})
    );
    assert_eq!(pod["spec"]["containers"][0]["securityContext"], Value::Null);
}

#[test]
fn hermetic_runs_and_breakpoints_need_alpha() {
    // T-250, T-330, T-332, T-334
    let mut world = task_spec(
        json!({"steps": [{"name": "a", "image": "i", "command": ["c"]}, {"name": "b", "image": "i", "command": ["c"]}]}),
    );
    let annotations = world.run.metadata.annotations.get_or_insert_default();
    annotations.insert(
        "experimental.tekton.dev/execution-mode".into(),
        "hermetic".into(),
    );
    let debug = json!({"breakpoints": {"onFailure": "enabled", "beforeSteps": ["b"]}});
    world.run.spec.debug = Some(serde_json::from_value(debug).unwrap());
    let pod = world.pod();
    assert_eq!(pod["spec"]["containers"][0]["env"], Value::Null);
    assert!(
        !args(&pod, 1)
            .iter()
            .any(|a| a.contains("debug") || a.contains("breakpoint"))
    );
    world.config.feature_flags.enable_api_fields = "alpha".into();
    let pod = world.pod();
    assert_eq!(
        pod["spec"]["containers"][0]["env"],
        json!([{"name": "TEKTON_HERMETIC", "value": "1"}])
    );
    let has = |i: usize, flag: &str| args(&pod, i).contains(&flag.to_owned());
    assert!(has(0, "-breakpoint_on_failure") && has(1, "-breakpoint_on_failure"));
    assert!(!has(0, "-debug_before_step") && has(1, "-debug_before_step"));
    assert!(mount(&pod["spec"]["containers"][1], "/tekton/debug/info/1").is_some());
    let volumes = names(&pod["spec"]["volumes"]);
    assert!(
        volumes.contains(&"tekton-internal-debug-scripts")
            && volumes.contains(&"tekton-internal-debug-info")
    );
}

#[test]
fn results_can_come_through_a_sidecars_log() {
    // T-245, T-314, T-315, T-316
    let spec = json!({"results": [{"name": "r"}], "steps": [{"name": "s", "image": "i", "command": ["c"], "results": [{"name": "q"}]}]});
    let mut world = task_spec(spec);
    world.config.feature_flags.result_extraction_method = "sidecar-logs".into();
    let pod = world.pod();
    assert_eq!(
        names(&pod["spec"]["containers"]),
        ["step-s", "sidecar-tekton-log-results"]
    );
    let sidecar = &pod["spec"]["containers"][1];
    assert_eq!(
        sidecar["command"],
        json!([
            "/ko-app/sidecarlogresults",
            "-results-dir",
            "/tekton/results",
            "-result-names",
            "r",
            "-step-names",
            "",
            "-step-results",
            r#"{"step-s":["q"]}"#
        ])
    );
    assert_eq!(
        sidecar["env"],
        json!([{"name": "SIDECAR_LOG_POLLING_INTERVAL", "value": "100ms"}])
    );
    assert_eq!(mount(sidecar, "/tekton/run/0").unwrap()["readOnly"], true);
    assert_eq!(
        after(&args(&pod, 0), "-result_from", 2).unwrap(),
        ["-result_from", "sidecar-logs"]
    );
}

#[test]
fn native_sidecars_are_init_containers_that_stay() {
    // T-122, T-329
    let spec = json!({"steps": [{"image": "i", "command": ["c"]}], "sidecars": [{"name": "c", "image": "i"}]});
    let mut world = task_spec(spec);
    init_container(&mut world);
    world.config.feature_flags.enable_kubernetes_sidecar = true;
    let pod = world.pod();
    assert_eq!(
        names(&pod["spec"]["initContainers"]),
        ["prepare", "sidecar-c"]
    );
    assert_eq!(pod["spec"]["initContainers"][1]["restartPolicy"], "Always");
    let old = PodOptions {
        kubernetes_minor: 28,
        ..PodOptions::clone(&world.seen.pod_options)
    };
    world.seen.pod_options = Arc::new(old);
    assert_eq!(
        names(&world.pod()["spec"]["containers"]),
        ["step-unnamed-0", "sidecar-c"]
    );
}

#[test]
fn a_sidecar_with_a_script_becomes_the_script() {
    // T-236, T-253
    let spec = json!({"steps": [{"image": "i", "command": ["c"]}], "sidecars": [{"name": "c", "image": "i", "script": "sleep 1", "args": ["a"]}]});
    let pod = task_spec(spec).pod();
    let sidecar = &pod["spec"]["containers"][1];
    let args = args(&pod, 1);
    let path = args[2].clone();
    assert!(
        path.starts_with("/tekton/scripts/sidecar-script-0-"),
        "{path}"
    );
    assert_eq!(
        args,
        [
            "-exec",
            "-script_file",
            &path,
            "-entrypoint",
            &path,
            "--",
            "a"
        ]
    );
    assert_eq!(sidecar["command"], json!(["/tekton/bin/entrypoint"]));
    assert_eq!(sidecar["volumeMounts"].as_array().unwrap().len(), 2);
}

#[test]
fn overrides_of_the_run_reach_the_containers() {
    // T-336
    let spec = json!({"steps": [{"name": "s", "image": "i", "command": ["c"], "computeResources": {"requests": {"cpu": "1", "memory": "1Gi"}}}],
                      "sidecars": [{"name": "c", "image": "i", "computeResources": {"limits": {"cpu": "1"}}}]});
    let mut world = World::new(run(
        json!({"taskSpec": spec, "stepSpecs": [{"name": "s", "computeResources": {"requests": {"cpu": "2"}}}],
        "sidecarSpecs": [{"name": "c", "computeResources": {"limits": {"cpu": "3"}}}]}),
    ));
    let pod = world.pod();
    assert_eq!(
        pod["spec"]["containers"][0]["resources"],
        json!({"requests": {"cpu": "2", "memory": "1Gi"}})
    );
    assert_eq!(
        pod["spec"]["containers"][1]["resources"],
        json!({"limits": {"cpu": "3"}})
    );
}

#[test]
fn limit_ranges_of_the_namespace_count() {
    // T-222, T-340
    let range = json!({"kind": "LimitRange", "metadata": {"name": "r"}, "spec": {"limits": [{"type": "Container", "defaultRequest": {"cpu": "100m"}}]}});
    let pod = World::new(one_step()).with(range).pod();
    assert_eq!(
        pod["spec"]["containers"][0]["resources"],
        json!({"requests": {"cpu": "100m"}})
    );
}

#[test]
fn artifact_paths_and_no_environment_of_its_own_reach_a_step() {
    // T-183, T-247
    let mut world = task_spec(
        json!({"steps": [{"name": "s", "image": "i", "command": ["$(step.artifacts.path)", "$(artifacts.path)"]}]}),
    );
    world.config.feature_flags.enable_artifacts = true;
    let pod = world.pod();
    let args = args(&pod, 0);
    assert_eq!(
        args[args.len() - 3..],
        [
            "/tekton/steps/step-s/artifacts/provenance.json",
            "--",
            "/tekton/artifacts/provenance.json"
        ]
    );
    let container = &pod["spec"]["containers"][0];
    assert_eq!(
        (&container["env"], &container["workingDir"]),
        (&Value::Null, &Value::Null)
    );
}
