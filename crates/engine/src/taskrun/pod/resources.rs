//! Compute resources of a pod's containers: task-level totals, installation defaults, LimitRanges (T-336 to T-343).

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{
    Container, LimitRange, LimitRangeItem, Pod, ResourceRequirements,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use tektite_api::v1::Step;

use super::quantity::{is_zero, larger, less, share};
use crate::taskrun::failure::is_step;

type List = BTreeMap<String, Quantity>;

/// Spreads the task's resources over its steps (T-337, T-338).
pub(crate) fn apply_task_level(steps: &mut [Step], task: &ResourceRequirements) {
    if task.requests.is_none() && task.limits.is_none() {
        return;
    }
    let parts = steps.len();
    let shares = |list: &Option<List>| {
        let list = list.as_ref().filter(|l| !l.is_empty())?;
        Some(
            list.iter()
                .map(|(name, q)| (name.clone(), share(name, q, parts)))
                .collect::<List>(),
        )
    };
    let (requests, limits) = (shares(&task.requests), shares(&task.limits));
    for step in steps {
        let own = &mut step.compute_resources;
        own.requests = if own.requests.is_none() && task.requests.is_none() {
            limits.clone()
        } else {
            requests.clone()
        };
        own.limits.clone_from(&task.limits);
    }
}

fn says_nothing(resources: &ResourceRequirements) -> bool {
    let empty = |list: &Option<List>| list.as_ref().is_none_or(BTreeMap::is_empty);
    empty(&resources.requests)
        && empty(&resources.limits)
        && resources.claims.as_ref().is_none_or(Vec::is_empty)
}

/// Whether the container is Tekton's own (T-343).
fn is_internal(name: &str) -> bool {
    matches!(
        name,
        "prepare" | "place-scripts" | "working-dir-initializer" | "sidecar-tekton-log-results"
    )
}

/// Gives containers without resources the installation's: by name, by prefix, else the default (T-342, T-343).
pub(crate) fn apply_defaults(pod: &mut Pod, defaults: &BTreeMap<String, ResourceRequirements>) {
    let by_name = |container: &Container| {
        let exact = defaults
            .get(&container.name)
            .filter(|_| container.name != "default");
        let by_prefix = || {
            defaults.iter().find_map(|(key, value)| {
                let prefix = key.strip_prefix("prefix-")?;
                let matches = container
                    .name
                    .strip_prefix(prefix)
                    .is_some_and(|rest| rest.starts_with('-'));
                (matches && !says_nothing(value)).then_some(value)
            })
        };
        let found = exact.filter(|v| !says_nothing(v)).or_else(by_prefix);
        found
            .or_else(|| defaults.get("default").filter(|v| !says_nothing(v)))
            .cloned()
    };
    let Some(spec) = &mut pod.spec else { return };
    for container in spec
        .init_containers
        .iter_mut()
        .flatten()
        .chain(&mut spec.containers)
    {
        let bare = container.resources.as_ref().is_none_or(says_nothing);
        if (bare || is_internal(&container.name))
            && let Some(resources) = by_name(container)
        {
            container.resources = Some(resources);
        }
    }
}

const NAMES: [&str; 3] = ["cpu", "memory", "ephemeral-storage"];

fn amount(list: Option<&List>, name: &str) -> Quantity {
    list.and_then(|l| l.get(name))
        .cloned()
        .unwrap_or_else(|| Quantity("0".into()))
}

/// Fills the requests that steps lack from the namespace's LimitRanges (T-339, T-340).
pub(crate) fn apply_limit_ranges(pod: &mut Pod, ranges: &[LimitRange]) {
    let Some(spec) = &mut pod.spec else { return };
    let steps = spec.containers.iter().filter(|c| is_step(&c.name)).count();
    let mut requests = List::new();
    for item in fold(ranges) {
        for name in NAMES {
            let part = share(name, &amount(item.default_request.as_ref(), name), steps);
            let known = amount(Some(&requests), name);
            let most = larger(larger(known, part), amount(item.min.as_ref(), name));
            if !is_zero(&most) {
                requests.insert(name.to_owned(), most);
            }
        }
    }
    if requests.is_empty() {
        return;
    }
    for container in spec.containers.iter_mut().filter(|c| is_step(&c.name)) {
        let own = container
            .resources
            .get_or_insert_default()
            .requests
            .get_or_insert_default();
        for (name, quantity) in &requests {
            if own.get(name).is_none_or(is_zero) {
                own.insert(name.clone(), quantity.clone());
            }
        }
    }
}

/// The `Container` items of all ranges as one: largest minimum, smaller default request of each pair (T-341).
fn fold(ranges: &[LimitRange]) -> Vec<LimitRangeItem> {
    let items = || {
        ranges
            .iter()
            .filter_map(|r| r.spec.as_ref())
            .flat_map(|s| &s.limits)
            .filter(|i| i.type_ == "Container")
    };
    if ranges.len() < 2 {
        return items().cloned().collect();
    }
    let (mut min, mut default) = (List::new(), List::new());
    for item in items() {
        for name in NAMES {
            let known = amount(Some(&min), name);
            min.insert(
                name.to_owned(),
                larger(known, amount(item.min.as_ref(), name)),
            );
            let (known, new) = (
                amount(Some(&default), name),
                amount(item.default_request.as_ref(), name),
            );
            let smaller = if is_zero(&known) || less(&new, &known) {
                new
            } else {
                known
            };
            default.insert(name.to_owned(), smaller);
        }
    }
    vec![LimitRangeItem {
        type_: "Container".into(),
        min: Some(min),
        default_request: Some(default),
        ..LimitRangeItem::default()
    }]
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn pod(containers: serde_json::Value) -> Pod {
        serde_json::from_value(json!({"spec": {"containers": containers}})).unwrap()
    }

    fn ranges(items: serde_json::Value) -> Vec<LimitRange> {
        let wrap = |item: &serde_json::Value| {
            serde_json::from_value(json!({"spec": {"limits": [item]}})).unwrap()
        };
        items.as_array().unwrap().iter().map(wrap).collect()
    }

    fn resources_of(pod: &Pod) -> serde_json::Value {
        let containers = &pod.spec.as_ref().unwrap().containers;
        containers
            .iter()
            .map(|c| serde_json::to_value(&c.resources).unwrap())
            .collect()
    }

    #[test]
    fn task_level_resources_are_spread_over_steps() {
        // T-337, T-338
        let steps = || -> Vec<Step> {
            serde_json::from_value(json!([{"name": "a"}, {"name": "b", "computeResources": {"requests": {"cpu": "7"}}}])).unwrap()
        };
        for (task, expected) in [
            (
                json!({"requests": {"cpu": "1"}, "limits": {"cpu": "4"}}),
                json!([{"requests": {"cpu": "500m"}, "limits": {"cpu": "4"}}, {"requests": {"cpu": "500m"}, "limits": {"cpu": "4"}}]),
            ),
            (
                json!({"limits": {"cpu": "4"}}),
                json!([{"requests": {"cpu": "2"}, "limits": {"cpu": "4"}}, {"limits": {"cpu": "4"}}]),
            ),
        ] {
            let mut steps = steps();
            apply_task_level(&mut steps, &serde_json::from_value(task).unwrap());
            let got: serde_json::Value = steps
                .iter()
                .map(|s| serde_json::to_value(&s.compute_resources).unwrap())
                .collect();
            assert_eq!(got, expected);
        }
    }

    #[test]
    fn limit_ranges_fill_missing_requests_of_steps_only() {
        // T-339, T-340
        let mut pod = pod(
            json!([{"name": "step-a"}, {"name": "step-b", "resources": {"requests": {"cpu": "10m", "memory": "0"}}},
                                 {"name": "sidecar-c"}]),
        );
        apply_limit_ranges(
            &mut pod,
            &ranges(
                json!([{"type": "Container", "defaultRequest": {"cpu": "100m", "memory": "64Mi"}, "min": {"cpu": "60m"}},]),
            ),
        );
        assert_eq!(
            resources_of(&pod),
            json!([{"requests": {"cpu": "60m", "memory": "32Mi"}}, {"requests": {"cpu": "10m", "memory": "32Mi"}}, null])
        );
    }

    #[test]
    fn several_limit_ranges_are_folded_in_order() {
        // T-341
        for (items, expected) in [
            (
                json!([{"type": "Container", "defaultRequest": {"cpu": "4"}}, {"type": "Container", "defaultRequest": {"cpu": "2"}, "min": {"cpu": "1"}}]),
                json!([{"requests": {"cpu": "2"}}]),
            ),
            (
                json!([{"type": "Container", "defaultRequest": {"cpu": "4"}}, {"type": "Container", "min": {"cpu": "1"}}]),
                json!([{"requests": {"cpu": "1"}}]),
            ),
            (
                json!([{"type": "Container", "min": {"cpu": "1"}}, {"type": "Container", "defaultRequest": {"cpu": "4"}}]),
                json!([{"requests": {"cpu": "4"}}]),
            ),
            (json!([{"type": "Pod", "min": {"cpu": "9"}}]), json!([null])),
        ] {
            let mut pod = pod(json!([{"name": "step-a"}]));
            apply_limit_ranges(&mut pod, &ranges(items.clone()));
            assert_eq!(resources_of(&pod), expected, "{items}");
        }
    }

    #[test]
    fn default_resources_go_by_name_then_prefix_then_default() {
        // T-342, T-343
        let defaults: BTreeMap<String, ResourceRequirements> = serde_json::from_value(json!({
            "step-a": {"limits": {"cpu": "1"}}, "prefix-step": {"limits": {"cpu": "2"}}, "default": {"limits": {"cpu": "3"}},
        }))
        .unwrap();
        let own = json!({"limits": {"cpu": "9"}});
        let mut pod = pod(
            json!([{"name": "step-a"}, {"name": "step-b"}, {"name": "sidecar-c"}, {"name": "step-d", "resources": own},
                                 {"name": "sidecar-tekton-log-results", "resources": own}]),
        );
        apply_defaults(&mut pod, &defaults);
        let cpu = |n: &str| json!({"limits": {"cpu": n}});
        assert_eq!(
            resources_of(&pod),
            json!([cpu("1"), cpu("2"), cpu("3"), cpu("9"), cpu("3")])
        );
    }
}
