//! Conversion between the served versions of a kind, on JSON (T-095 to T-104, P-082 to P-092).

mod annotation;
mod deprecation;
mod pipeline;
mod resolution;
mod task;

use serde_json::Value;

use crate::{admission, config::Config, shape};

/// Why an object cannot be converted, in upstream's words.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct ConvertError(pub String);

/// Which way.
#[derive(Clone, Copy, PartialEq)]
enum Way {
    /// From v1beta1 to v1.
    Up,
    /// From v1 to v1beta1.
    Down,
}

/// The object in another version, with that version's defaults, as the conversion webhook answers.
///
/// ```
/// use serde_json::json;
/// use tektite_api::{config::Config, convert::convert};
/// let beta = json!({"apiVersion": "tekton.dev/v1beta1", "kind": "TaskRun", "metadata": {"name": "r"},
///     "spec": {"taskRef": {"name": "t"}, "stepOverrides": [{"name": "s", "resources": {"limits": {"cpu": "1"}}}]}});
/// let v1 = convert(beta, "tekton.dev/v1", &Config::default()).unwrap();
/// assert_eq!(v1["spec"]["stepSpecs"][0]["computeResources"]["limits"]["cpu"], "1");
/// ```
///
/// # Errors
/// A kind or version that is not served, or an object that the other version cannot hold.
pub fn convert(
    mut object: Value,
    to_api_version: &str,
    config: &Config,
) -> Result<Value, ConvertError> {
    let text = |field: &str| object[field].as_str().unwrap_or_default().to_owned();
    let (api_version, kind) = (text("apiVersion"), text("kind"));
    let Some((group, from)) = api_version.split_once('/') else {
        return Err(ConvertError(format!(
            "invalid GroupVersionKind {api_version}, Kind={kind}"
        )));
    };
    let Some((_, to)) = to_api_version
        .split_once('/')
        .filter(|(g, v)| !g.is_empty() && !v.is_empty())
    else {
        return Err(ConvertError(format!(
            "desired API version {to_api_version:?} is not valid"
        )));
    };
    let served: &[&str] = match (group, kind.as_str()) {
        ("tekton.dev", "Task" | "TaskRun" | "Pipeline" | "PipelineRun") => &["v1beta1", "v1"],
        ("tekton.dev", "StepAction") => &["v1alpha1", "v1beta1"],
        ("resolution.tekton.dev", "ResolutionRequest") => &["v1alpha1", "v1beta1"],
        _ => {
            return Err(ConvertError(format!(
                "no conversion support for type [kind={kind} group={group}]"
            )));
        }
    };
    if let Some(version) = [from, to].into_iter().find(|v| !served.contains(v)) {
        let message = format!(
            "conversion not supported for type [kind={kind} group={group} version={version}]"
        );
        return Err(ConvertError(message));
    }
    let object_of = |version: &str, object: &Value| {
        let request = admission::Request::create(object);
        let request = admission::Request {
            group,
            version,
            kind: &kind,
            ..request
        };
        admission::shape_of(&request).unwrap_or_default()
    };
    let unreadable = |cause| ConvertError(format!("unable to unmarshal input: {cause}"));
    let metadata = object["metadata"].take();
    shape::decode("meta.ObjectMeta", &metadata, false).map_err(unreadable)?;
    let decoded = shape::decode(object_of(from, &object), &object, false).map_err(unreadable)?;
    object = decoded.value;
    object["metadata"] = metadata;
    if from != to {
        let failed = |cause: ConvertError| {
            let of = format!("[kind={kind} group={group} version={from}]");
            ConvertError(format!(
                "conversion failed to version {to} for type {of} -  {}",
                cause.0
            ))
        };
        change(
            &kind,
            if to == "v1" { Way::Up } else { Way::Down },
            to,
            &mut object,
        )
        .map_err(failed)?;
    }
    object["apiVersion"] = to_api_version.into();
    let metadata = object["metadata"].take();
    let shape = object_of(to, &object);
    let write = |object: &Value| {
        shape::decode(shape, object, false)
            .map(|d| d.value)
            .map_err(ConvertError)
    };
    object = write(&object)?;
    object["metadata"] = metadata;
    let seen = object.clone();
    let request = admission::Request::create(&seen);
    let request = admission::Request {
        operation: admission::Operation::Update,
        ..request
    };
    admission::set_defaults(&request, config, &mut object);
    let metadata = object["metadata"].take();
    object = write(&object)?;
    object["metadata"] = metadata;
    Ok(object)
}

fn change(kind: &str, way: Way, to: &str, object: &mut Value) -> Result<(), ConvertError> {
    match kind {
        "Task" => task::task(way, object),
        "TaskRun" => task::task_run(way, object),
        "Pipeline" => pipeline::pipeline(way, object),
        "PipelineRun" => pipeline::pipeline_run(way, object),
        "ResolutionRequest" => resolution::request(to, object),
        _ => Ok(()),
    }
}

/// Renames a field, if it is there.
fn rename(of: &mut Value, from: &str, to: &str) {
    if let Some(fields) = of.as_object_mut()
        && let Some(value) = fields.remove(from)
    {
        fields.insert(to.to_owned(), value);
    }
}

/// Renames a field of v1beta1 to that of v1, or back.
fn renamed(way: Way, of: &mut Value, beta: &str, v1: &str) {
    match way {
        Way::Up => rename(of, beta, v1),
        Way::Down => rename(of, v1, beta),
    }
}

/// Drops fields that are not carried over.
fn lose(of: &mut Value, fields: &[&str]) {
    if let Some(of) = of.as_object_mut() {
        of.retain(|name, _| !fields.contains(&name.as_str()));
    }
}

/// The items of a list, which may not be there.
fn items<'a>(of: &'a mut Value, list: &str) -> impl Iterator<Item = &'a mut Value> {
    of.get_mut(list)
        .and_then(Value::as_array_mut)
        .into_iter()
        .flatten()
}

/// The object under a field, if there is one.
fn inner<'a>(of: &'a mut Value, field: &str) -> Option<&'a mut Value> {
    of.get_mut(field).filter(|value| value.is_object())
}

fn name_of(object: &Value) -> String {
    object["metadata"]["name"]
        .as_str()
        .unwrap_or_default()
        .to_owned()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn both_ways(beta: &Value) -> (Value, Value) {
        let config = Config::default();
        let v1 = convert(beta.clone(), "tekton.dev/v1", &config).unwrap();
        let back = convert(v1.clone(), "tekton.dev/v1beta1", &config).unwrap();
        (v1, back)
    }

    /// T-095, T-096, T-098
    #[test]
    fn what_v1_does_not_know_of_a_task_comes_back_from_annotations() {
        let beta = json!({"apiVersion": "tekton.dev/v1beta1", "kind": "Task", "metadata": {"name": "t"}, "spec": {
            "resources": {"inputs": [{"name": "i", "type": "git"}]},
            "stepTemplate": {"name": "x", "resources": {}},
            "steps": [{"name": "a", "image": "i", "tty": true, "resources": {"limits": {"cpu": "1"}}}]}});
        let (v1, back) = both_ways(&beta);
        assert_eq!(
            v1["spec"]["steps"],
            json!([{"name": "a", "image": "i", "computeResources": {"limits": {"cpu": "1"}}}])
        );
        assert_eq!(v1["spec"]["stepTemplate"], json!({"computeResources": {}}));
        let annotations = &v1["metadata"]["annotations"];
        assert!(
            annotations["tekton.dev/v1beta1.task-deprecations"]
                .as_str()
                .unwrap()
                .contains(r#""tty":true"#)
        );
        assert!(
            annotations["tekton.dev/v1beta1Resources"]
                .as_str()
                .unwrap()
                .contains(r#""git""#)
        );
        assert_eq!(back, beta);
    }

    /// T-097
    #[test]
    fn deprecated_step_fields_need_the_same_number_of_steps() {
        let beta = json!({"apiVersion": "tekton.dev/v1beta1", "kind": "Task", "metadata": {"name": "t"},
            "spec": {"steps": [{"image": "i", "stdin": true}]}});
        let (mut v1, _) = both_ways(&beta);
        v1["spec"]["steps"] = json!([{"image": "i"}, {"image": "j"}]);
        let error = convert(v1, "tekton.dev/v1beta1", &Config::default()).unwrap_err();
        assert!(
            error
                .0
                .ends_with("length of deserialized steps mismatch the length of target steps"),
            "{error}"
        );
    }

    /// T-095, T-098 to T-101
    #[test]
    fn a_taskrun_keeps_what_both_versions_know() {
        let beta = json!({"apiVersion": "tekton.dev/v1beta1", "kind": "TaskRun", "metadata": {"name": "r"},
            "spec": {"managedBy": "x", "taskSpec": {"params": [{"name": "p"}]}, "serviceAccountName": "a", "timeout": "1m0s"},
            "status": {"podName": "", "taskResults": [{"name": "n", "value": "v"}], "spanContext": {"a": "b"},
                "cloudEvents": [{"target": "t", "status": {"retryCount": 1}}],
                "steps": [{"terminated": {"exitCode": 1, "reason": "Error"}, "outputs": [{"name": "o", "buildOutput": true}]}]}});
        let (v1, back) = both_ways(&beta);
        assert_eq!(v1["spec"].get("managedBy"), None);
        assert_eq!(v1["spec"]["taskSpec"]["params"][0]["type"], "string");
        assert_eq!(
            v1["status"]["results"],
            json!([{"name": "n", "value": "v"}])
        );
        assert_eq!(v1["status"]["steps"][0]["terminationReason"], "Error");
        assert_eq!(v1["status"]["steps"][0]["outputs"], json!([{"name": "o"}]));
        assert_eq!(v1["status"].get("spanContext"), None);
        assert_eq!(back["status"]["cloudEvents"][0]["target"], "t");
        assert_eq!(back["status"]["taskResults"], beta["status"]["taskResults"]);
        assert_eq!(back["status"]["steps"][0].get("terminationReason"), None);
    }

    /// T-104
    #[test]
    fn a_step_action_is_the_same_in_both_versions() {
        let alpha = json!({"apiVersion": "tekton.dev/v1alpha1", "kind": "StepAction", "metadata": {"name": "a"},
            "spec": {"image": "i", "command": ["c"], "args": ["a"], "env": [{"name": "n", "value": "v"}], "workingDir": "/w",
                "params": [{"name": "p", "type": "string"}], "results": [{"name": "r", "type": "string"}],
                "securityContext": {"runAsUser": 1}, "volumeMounts": [{"name": "v", "mountPath": "/v"}]}});
        let config = Config::default();
        let beta = convert(alpha.clone(), "tekton.dev/v1beta1", &config).unwrap();
        assert_eq!(beta["spec"], alpha["spec"]);
        assert_eq!(beta["apiVersion"], "tekton.dev/v1beta1");
        assert_eq!(
            convert(beta, "tekton.dev/v1alpha1", &config).unwrap(),
            alpha
        );
    }

    /// P-083 to P-087
    #[test]
    fn a_pipelinerun_moves_its_fields_and_loses_what_upstream_loses() {
        let beta = json!({"apiVersion": "tekton.dev/v1beta1", "kind": "PipelineRun", "metadata": {"name": "r"},
            "spec": {"serviceAccountName": "a", "podTemplate": {"hostNetwork": true}, "timeout": "5m0s", "managedBy": "x",
                "pipelineRef": {"name": "p", "bundle": "b"},
                "taskRunSpecs": [{"pipelineTaskName": "t", "taskServiceAccountName": "s",
                    "metadata": {"labels": {"l": "1"}, "annotations": {"n": "2"}}}]},
            "status": {"pipelineResults": [{"name": "n", "value": "v"}], "taskRuns": {}}});
        let (v1, back) = both_ways(&beta);
        assert_eq!(
            v1["spec"],
            json!({"pipelineRef": {"name": "p"}, "timeouts": {"pipeline": "5m0s"},
            "taskRunTemplate": {"serviceAccountName": "a", "podTemplate": {"hostNetwork": true}},
            "taskRunSpecs": [{"pipelineTaskName": "t", "serviceAccountName": "s",
                "metadata": {"labels": {"l": "1"}, "annotations": {"n": "2"}}}]})
        );
        assert_eq!(
            v1["status"],
            json!({"results": [{"name": "n", "value": "v"}]})
        );
        assert_eq!(back["spec"]["timeouts"], json!({"pipeline": "5m0s"}));
        assert_eq!(back["spec"].get("timeout"), None);
        assert_eq!(
            back["spec"]["taskRunSpecs"][0]["metadata"],
            json!({"labels": {"l": "1"}, "annotations": {"l": "1"}})
        );
    }

    /// P-082: v1 is the version that the other goes through, and there is none above it.
    #[test]
    fn pipelines_and_their_runs_are_converted_up_to_v1_and_back() {
        let config = Config::default();
        for (kind, spec) in [
            (
                "Pipeline",
                json!({"tasks": [{"name": "a", "taskRef": {"name": "t", "kind": "Task"}}]}),
            ),
            (
                "PipelineRun",
                json!({"pipelineRef": {"name": "p"}, "serviceAccountName": "s", "timeouts": {"pipeline": "5m0s"}}),
            ),
        ] {
            let beta = json!({"apiVersion": "tekton.dev/v1beta1", "kind": kind, "metadata": {"name": "n"}, "spec": spec});
            let (v1, back) = both_ways(&beta);
            assert_eq!(v1["apiVersion"], "tekton.dev/v1");
            assert_eq!(
                (&back["apiVersion"], &back["spec"]),
                (&beta["apiVersion"], &spec)
            );
            assert_eq!(convert(v1.clone(), "tekton.dev/v1", &config).unwrap(), v1);
            let error = convert(v1, "tekton.dev/v2", &config).unwrap_err();
            assert_eq!(
                error.0,
                format!(
                    "conversion not supported for type [kind={kind} group=tekton.dev version=v2]"
                )
            );
        }
    }

    /// P-086
    #[test]
    fn pipelines_in_pipelines_are_lost_in_conversion() {
        let beta = json!({"apiVersion": "tekton.dev/v1beta1", "kind": "Pipeline", "metadata": {"name": "p"},
            "spec": {"tasks": [{"name": "a", "pipelineRef": {"name": "x"}, "matrix": {}}]}});
        let (v1, _) = both_ways(&beta);
        assert_eq!(v1["spec"]["tasks"], json!([{"name": "a"}]));
    }

    /// P-092
    #[test]
    fn a_resolution_request_with_lists_has_no_v1alpha1() {
        let config = Config::default();
        let request = |value: Value| {
            json!({"apiVersion": "resolution.tekton.dev/v1beta1", "kind": "ResolutionRequest",
            "metadata": {"name": "r"}, "spec": {"params": [{"name": "p", "value": value}]}})
        };
        let alpha = convert(
            request(json!("v")),
            "resolution.tekton.dev/v1alpha1",
            &config,
        )
        .unwrap();
        assert_eq!(alpha["spec"]["params"], json!({"p": "v"}));
        let back = convert(alpha, "resolution.tekton.dev/v1beta1", &config).unwrap();
        assert_eq!(back["spec"]["params"], json!([{"name": "p", "value": "v"}]));
        let error = convert(
            request(json!(["v"])),
            "resolution.tekton.dev/v1alpha1",
            &config,
        )
        .unwrap_err();
        assert!(
            error.0.ends_with(
                "cannot convert v1beta1 to v1alpha, non-string type parameter(s) found: p"
            ),
            "{error}"
        );
    }

    #[test]
    fn what_is_not_served_is_refused() {
        let config = Config::default();
        for (api_version, kind, to, message) in [
            (
                "tekton.dev/v1",
                "Pod",
                "tekton.dev/v1beta1",
                "no conversion support for type [kind=Pod group=tekton.dev]",
            ),
            (
                "tekton.dev/v1",
                "Task",
                "v1",
                "desired API version \"v1\" is not valid",
            ),
            (
                "tekton.dev/v1",
                "Task",
                "tekton.dev/v2",
                "conversion not supported for type [kind=Task group=tekton.dev version=v2]",
            ),
        ] {
            let error = convert(
                json!({"apiVersion": api_version, "kind": kind}),
                to,
                &config,
            )
            .unwrap_err();
            assert_eq!(error.0, message);
        }
    }
}
