//! References in podTemplates (T-189).

use serde_json::{Map, Value};
use tektite_api::v1::PodTemplate;

use super::Replacements;

impl Replacements {
    /// Replaces in every text of the template, and in the keys of label maps.
    ///
    /// Nearly all of a template's text may hold references, so it is walked as JSON; a template without any is left
    /// alone, and so is one that would no longer be a template.
    pub fn apply_pod_template(&self, template: &mut PodTemplate) {
        let Ok(mut value) = serde_json::to_value(&*template) else {
            return;
        };
        if holds_reference(&value) {
            self.apply_json(&mut value);
            if let Ok(replaced) = serde_json::from_value(value) {
                *template = replaced;
            }
        }
    }

    fn apply_json(&self, value: &mut Value) {
        match value {
            Value::String(text) => self.apply(text),
            Value::Array(items) => items.iter_mut().for_each(|item| self.apply_json(item)),
            Value::Object(pairs) => {
                for (key, inner) in pairs.iter_mut() {
                    self.apply_json(inner);
                    if matches!(key.as_str(), "nodeSelector" | "matchLabels")
                        && let Value::Object(labels) = inner
                    {
                        let replaced: Map<_, _> = std::mem::take(labels)
                            .into_iter()
                            .map(|(k, v)| (self.text(&k), v))
                            .collect();
                        *labels = replaced;
                    }
                }
            }
            _ => {}
        }
    }
}

fn holds_reference(value: &Value) -> bool {
    match value {
        Value::String(text) => text.contains("$("),
        Value::Array(items) => items.iter().any(holds_reference),
        Value::Object(pairs) => pairs
            .iter()
            .any(|(k, v)| k.contains("$(") || holds_reference(v)),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn all_text_of_a_pod_template_is_replaced() {
        // T-189
        let r = Replacements::of_strings([("params.p", "V")]);
        let template = |v: &str| -> PodTemplate {
            serde_json::from_value(json!({
                "nodeSelector": {v: v}, "tolerations": [{"key": v, "operator": v, "effect": v, "value": v}],
                "affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [
                    {"matchExpressions": [{"key": v, "operator": "In", "values": [v]}]}]}}},
                "securityContext": {"runAsUser": 7, "seLinuxOptions": {"level": v}},
                "runtimeClassName": v, "schedulerName": v, "priorityClassName": v, "imagePullSecrets": [{"name": v}],
                "hostAliases": [{"ip": v, "hostnames": [v]}], "dnsPolicy": v, "dnsConfig": {"nameservers": [v]},
                "topologySpreadConstraints": [{"maxSkew": 1, "topologyKey": v, "whenUnsatisfiable": "DoNotSchedule",
                    "labelSelector": {"matchLabels": {v: v}}}],
                "volumes": [{"name": v, "emptyDir": {}}],
                "env": [{"name": v, "value": v}, {"name": "s", "valueFrom": {"secretKeyRef": {"name": v, "key": v}}}],
            }))
            .unwrap()
        };
        let mut replaced = template("$(params.p)");
        r.apply_pod_template(&mut replaced);
        assert_eq!(replaced, template("V"));
    }
}
