//! Merging pod templates: the narrower one wins field by field.

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::{EnvVar, Volume};
use tektite_api::v1::{AffinityAssistantTemplate, PodTemplate};

/// `own` over `wider`; variables and volumes are merged by name, the own ones first (P-257).
pub(super) fn merge(own: Option<PodTemplate>, wider: Option<PodTemplate>) -> Option<PodTemplate> {
    let (mut own, wider) = match (own, wider) {
        (None, other) | (other, None) => return other,
        (Some(own), Some(wider)) => (own, wider),
    };
    fill(&mut own.node_selector, wider.node_selector);
    own.env = by_name(own.env, wider.env, |var: &EnvVar| &var.name);
    fill(&mut own.tolerations, wider.tolerations);
    fill(&mut own.affinity, wider.affinity);
    fill(&mut own.security_context, wider.security_context);
    own.volumes = by_name(own.volumes, wider.volumes, |volume: &Volume| &volume.name);
    fill(&mut own.runtime_class_name, wider.runtime_class_name);
    fill(
        &mut own.automount_service_account_token,
        wider.automount_service_account_token,
    );
    fill(&mut own.dns_policy, wider.dns_policy);
    fill(&mut own.dns_config, wider.dns_config);
    fill(&mut own.enable_service_links, wider.enable_service_links);
    fill(&mut own.priority_class_name, wider.priority_class_name);
    fill(&mut own.scheduler_name, wider.scheduler_name);
    fill(&mut own.image_pull_secrets, wider.image_pull_secrets);
    fill(&mut own.host_aliases, wider.host_aliases);
    fill(&mut own.host_network, wider.host_network);
    fill(&mut own.host_users, wider.host_users);
    fill(
        &mut own.topology_spread_constraints,
        wider.topology_spread_constraints,
    );
    Some(own)
}

/// What an affinity assistant takes of a pod template, over the installation's template for assistants (P-252).
pub(super) fn for_assistant(
    template: Option<&PodTemplate>,
    wider: Option<&AffinityAssistantTemplate>,
) -> AffinityAssistantTemplate {
    let mut own = template.map_or_else(AffinityAssistantTemplate::default, |template| {
        AffinityAssistantTemplate {
            node_selector: template.node_selector.clone(),
            tolerations: template.tolerations.clone(),
            image_pull_secrets: template.image_pull_secrets.clone(),
            security_context: template.security_context.clone(),
            priority_class_name: template.priority_class_name.clone(),
            service_account_name: String::new(),
        }
    });
    if let Some(wider) = wider.cloned() {
        fill(&mut own.node_selector, wider.node_selector);
        fill(&mut own.tolerations, wider.tolerations);
        fill(&mut own.image_pull_secrets, wider.image_pull_secrets);
        fill(&mut own.security_context, wider.security_context);
        fill(&mut own.priority_class_name, wider.priority_class_name);
        fill(&mut own.service_account_name, wider.service_account_name);
    }
    own
}

fn fill<T: Default + PartialEq>(own: &mut T, wider: T) {
    if *own == T::default() {
        *own = wider;
    }
}

fn by_name<T>(own: Vec<T>, wider: Vec<T>, name: impl Fn(&T) -> &String) -> Vec<T> {
    if own.is_empty() {
        return wider;
    }
    let mut seen = BTreeSet::new();
    let is_named = |item: &T| !name(item).is_empty();
    let mut merged: Vec<T> = own.into_iter().filter(is_named).collect();
    seen.extend(merged.iter().map(|item| name(item).clone()));
    merged.extend(
        wider
            .into_iter()
            .filter(|item| is_named(item) && !seen.contains(name(item))),
    );
    merged
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_own_template_wins_and_named_lists_are_merged() {
        // P-257
        let template = |value| serde_json::from_value::<PodTemplate>(value).unwrap();
        let own = template(
            json!({"schedulerName": "own", "env": [{"name": "A", "value": "1"}, {"name": "B", "value": "2"}]}),
        );
        let wider = template(json!({
            "schedulerName": "wider", "nodeSelector": {"a": "b"}, "hostNetwork": true,
            "env": [{"name": "B", "value": "x"}, {"name": "C", "value": "3"}]
        }));
        let merged = merge(Some(own.clone()), Some(wider.clone())).unwrap();
        let expected = template(json!({
            "schedulerName": "own", "nodeSelector": {"a": "b"}, "hostNetwork": true,
            "env": [{"name": "A", "value": "1"}, {"name": "B", "value": "2"}, {"name": "C", "value": "3"}]
        }));
        assert_eq!(merged, expected);
        assert_eq!(merge(None, Some(wider.clone())), Some(wider));
        assert_eq!(merge(Some(own.clone()), None), Some(own));
    }
}
