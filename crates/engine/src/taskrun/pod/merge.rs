//! Merging what steps share, and what runs override, into steps and sidecars (T-251, T-252, T-336).

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{EnvVar, ResourceRequirements, SecurityContext, VolumeMount};
use serde_json::Value;
use tektite_api::v1::{Step, StepTemplate};

/// The step with what the template has and the step has not.
pub(crate) fn step_with_template(mut step: Step, template: &StepTemplate) -> Step {
    let text = |own: &mut String, shared: &String| {
        if own.is_empty() {
            own.clone_from(shared);
        }
    };
    text(&mut step.image, &template.image);
    text(&mut step.working_dir, &template.working_dir);
    text(&mut step.image_pull_policy, &template.image_pull_policy);
    if step.command.is_empty() {
        step.command.clone_from(&template.command);
    }
    if step.args.is_empty() {
        step.args.clone_from(&template.args);
    }
    if step.env_from.is_empty() {
        step.env_from.clone_from(&template.env_from);
    }
    step.env = keyed(&template.env, step.env, |e| e.name.as_str(), merge_env);
    step.volume_mounts = keyed(
        &template.volume_mounts,
        step.volume_mounts,
        |m| m.mount_path.as_str(),
        merge_mount,
    );
    step.volume_devices = keyed(
        &template.volume_devices,
        step.volume_devices,
        |d| d.device_path.as_str(),
        |_, own| own,
    );
    step.compute_resources = resources(&template.compute_resources, &step.compute_resources);
    step.security_context =
        security_context(template.security_context.as_ref(), step.security_context);
    step
}

/// A strategic merge of two lists with a key: entries of both are merged, the step's keep their order, and the
/// template's others go before the first of the step's that follows them in the template.
fn keyed<T: Clone>(
    shared: &[T],
    own: Vec<T>,
    key: impl Fn(&T) -> &str,
    merge: impl Fn(&T, T) -> T,
) -> Vec<T> {
    let place = |k: &str| shared.iter().position(|s| key(s) == k);
    let mut rest = shared
        .iter()
        .enumerate()
        .filter(|(_, s)| !own.iter().any(|o| key(o) == key(s)))
        .collect::<Vec<_>>()
        .into_iter()
        .peekable();
    let mut merged = Vec::with_capacity(shared.len() + own.len());
    for item in own {
        match place(key(&item)) {
            Some(at) => {
                while let Some((_, before)) = rest.next_if(|(i, _)| *i < at) {
                    merged.push(before.clone());
                }
                merged.push(merge(&shared[at], item));
            }
            None => merged.push(item),
        }
    }
    merged.extend(rest.map(|(_, s)| s.clone()));
    merged
}

/// The step's value or source replaces the template's (T-252); a bare name takes what the template has.
fn merge_env(shared: &EnvVar, own: EnvVar) -> EnvVar {
    let bare = own.value.as_deref().unwrap_or_default().is_empty() && own.value_from.is_none();
    if bare { shared.clone() } else { own }
}

fn merge_mount(shared: &VolumeMount, own: VolumeMount) -> VolumeMount {
    VolumeMount {
        mount_path: own.mount_path,
        mount_propagation: own
            .mount_propagation
            .or_else(|| shared.mount_propagation.clone()),
        name: if own.name.is_empty() {
            shared.name.clone()
        } else {
            own.name
        },
        read_only: own.read_only.or(shared.read_only),
        recursive_read_only: own
            .recursive_read_only
            .or_else(|| shared.recursive_read_only.clone()),
        sub_path: own.sub_path.or_else(|| shared.sub_path.clone()),
        sub_path_expr: own.sub_path_expr.or_else(|| shared.sub_path_expr.clone()),
    }
}

/// Resources with `over` winning by name, in requests and limits (T-336).
pub(crate) fn resources(
    under: &ResourceRequirements,
    over: &ResourceRequirements,
) -> ResourceRequirements {
    fn merge<V: Clone>(
        under: &Option<BTreeMap<String, V>>,
        over: &Option<BTreeMap<String, V>>,
    ) -> Option<BTreeMap<String, V>> {
        let mut merged = under.clone().unwrap_or_default();
        merged.extend(over.clone().unwrap_or_default());
        (under.is_some() || over.is_some()).then_some(merged)
    }
    ResourceRequirements {
        claims: over.claims.clone().or_else(|| under.claims.clone()),
        limits: merge(&under.limits, &over.limits),
        requests: merge(&under.requests, &over.requests),
    }
}

fn security_context(
    shared: Option<&SecurityContext>,
    own: Option<SecurityContext>,
) -> Option<SecurityContext> {
    let (Some(shared), Some(own)) = (shared, &own) else {
        return own.or_else(|| shared.cloned());
    };
    let (Ok(mut merged), Ok(over)) = (serde_json::to_value(shared), serde_json::to_value(own))
    else {
        return Some(own.clone());
    };
    overlay(&mut merged, over);
    // Both halves were of this type, and so is their union.
    serde_json::from_value(merged)
        .ok()
        .or_else(|| Some(own.clone()))
}

fn overlay(under: &mut Value, over: Value) {
    match (under, over) {
        (Value::Object(under), Value::Object(over)) => {
            for (key, value) in over {
                overlay(under.entry(key).or_insert(Value::Null), value);
            }
        }
        (under, over) => *under = over,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn merged(template: Value, step: Value) -> Value {
        let template: StepTemplate = serde_json::from_value(template).unwrap();
        let step: Step = serde_json::from_value(step).unwrap();
        serde_json::to_value(step_with_template(step, &template)).unwrap()
    }

    #[test]
    fn the_step_wins_and_lists_without_keys_are_replaced_whole() {
        // T-251
        let got = merged(
            json!({"image": "t", "command": ["t"], "args": ["t"], "workingDir": "/t", "imagePullPolicy": "Always",
                   "envFrom": [{"prefix": "t"}],
                   "computeResources": {"requests": {"cpu": "1", "memory": "1Gi"}, "limits": {"cpu": "2"}},
                   "securityContext": {"runAsUser": 1, "capabilities": {"drop": ["ALL"]}}}),
            json!({"name": "s", "command": ["s"], "workingDir": "/s", "script": "x", "onError": "continue",
                   "computeResources": {"requests": {"cpu": "3"}}, "securityContext": {"runAsUser": 2}}),
        );
        assert_eq!(
            got,
            json!({"name": "s", "image": "t", "command": ["s"], "args": ["t"], "workingDir": "/s", "imagePullPolicy": "Always",
                   "envFrom": [{"prefix": "t"}], "script": "x", "onError": "continue",
                   "computeResources": {"requests": {"cpu": "3", "memory": "1Gi"}, "limits": {"cpu": "2"}},
                   "securityContext": {"runAsUser": 2, "capabilities": {"drop": ["ALL"]}}})
        );
    }

    #[test]
    fn env_merges_by_name_and_a_source_never_meets_a_value() {
        // T-251, T-252
        let source = json!({"secretKeyRef": {"name": "s", "key": "k"}});
        for (template, step, expected) in [
            (
                json!([{"name": "F", "value": "1"}, {"name": "B", "value": "2"}]),
                json!([{"name": "B", "value": "3"}, {"name": "Z", "value": "4"}]),
                json!([{"name": "F", "value": "1"}, {"name": "B", "value": "3"}, {"name": "Z", "value": "4"}]),
            ),
            (
                json!([{"name": "A", "value": "1"}]),
                json!([{"name": "X", "value": "2"}]),
                json!([{"name": "X", "value": "2"}, {"name": "A", "value": "1"}]),
            ),
            (
                json!([{"name": "A", "valueFrom": source.clone()}]),
                json!([{"name": "A", "value": "2"}]),
                json!([{"name": "A", "value": "2"}]),
            ),
            (
                json!([{"name": "A", "value": "2"}]),
                json!([{"name": "A", "valueFrom": source.clone()}]),
                json!([{"name": "A", "valueFrom": source.clone()}]),
            ),
            (
                json!([{"name": "A", "value": "2"}]),
                json!([{"name": "A"}]),
                json!([{"name": "A", "value": "2"}]),
            ),
        ] {
            assert_eq!(
                merged(json!({"env": template}), json!({"env": step}))["env"],
                expected
            );
        }
    }

    #[test]
    fn mounts_merge_by_path() {
        // T-251
        let got = merged(
            json!({"volumeMounts": [{"name": "t", "mountPath": "/a", "readOnly": true}, {"name": "u", "mountPath": "/b"}]}),
            json!({"volumeMounts": [{"name": "s", "mountPath": "/a"}]}),
        );
        assert_eq!(
            got["volumeMounts"],
            json!([{"name": "s", "mountPath": "/a", "readOnly": true}, {"name": "u", "mountPath": "/b"}])
        );
    }
}
