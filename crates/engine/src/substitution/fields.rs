//! Which fields of a task are searched for references (T-186 to T-188).

use k8s_openapi::api::core::v1::{EnvFromSource, EnvVar, KeyToPath, Volume, VolumeMount};
use tektite_api::v1::{Sidecar, Step, StepTemplate, TaskSpec, WorkspaceBinding};

use super::Replacements;

impl Replacements {
    /// Replaces in every field of a task's spec that may hold references.
    pub fn apply_task_spec(&self, spec: &mut TaskSpec) {
        if self.is_empty() {
            return;
        }
        for step in &mut spec.steps {
            self.apply_params(&mut step.params);
            self.apply_step(step);
        }
        if let Some(template) = &mut spec.step_template {
            self.apply_step_template(template);
        }
        spec.volumes.iter_mut().for_each(|v| self.apply_volume(v));
        spec.workspaces
            .iter_mut()
            .for_each(|w| self.apply(&mut w.mount_path));
        spec.sidecars.iter_mut().for_each(|s| self.apply_sidecar(s));
    }

    /// Replaces in a step, except in the params it passes to a StepAction.
    pub fn apply_step(&self, step: &mut Step) {
        for text in [
            &mut step.script,
            &mut step.on_error,
            &mut step.name,
            &mut step.image,
            &mut step.image_pull_policy,
            &mut step.working_dir,
        ] {
            self.apply(text);
        }
        for config in [&mut step.stdout_config, &mut step.stderr_config]
            .into_iter()
            .flatten()
        {
            self.apply(&mut config.path);
        }
        self.apply_when(&mut step.when);
        self.apply_list(&mut step.args);
        self.apply_list(&mut step.command);
        self.apply_env(&mut step.env);
        self.apply_env_from(&mut step.env_from);
        self.apply_mounts(&mut step.volume_mounts);
    }

    fn apply_step_template(&self, template: &mut StepTemplate) {
        for text in [
            &mut template.image,
            &mut template.image_pull_policy,
            &mut template.working_dir,
        ] {
            self.apply(text);
        }
        self.apply_list(&mut template.args);
        self.apply_list(&mut template.command);
        self.apply_env(&mut template.env);
        self.apply_env_from(&mut template.env_from);
        self.apply_mounts(&mut template.volume_mounts);
    }

    /// Replaces in a sidecar.
    pub fn apply_sidecar(&self, sidecar: &mut Sidecar) {
        for text in [
            &mut sidecar.script,
            &mut sidecar.name,
            &mut sidecar.image,
            &mut sidecar.image_pull_policy,
            &mut sidecar.working_dir,
        ] {
            self.apply(text);
        }
        self.apply_list(&mut sidecar.args);
        self.apply_list(&mut sidecar.command);
        self.apply_env(&mut sidecar.env);
        self.apply_env_from(&mut sidecar.env_from);
        self.apply_mounts(&mut sidecar.volume_mounts);
    }

    fn apply_env(&self, env: &mut [EnvVar]) {
        for var in env {
            self.apply_opt(&mut var.value);
            let Some(source) = &mut var.value_from else {
                continue;
            };
            if let Some(secret) = &mut source.secret_key_ref {
                self.apply(&mut secret.name);
                self.apply(&mut secret.key);
            }
            if let Some(config_map) = &mut source.config_map_key_ref {
                self.apply(&mut config_map.name);
                self.apply(&mut config_map.key);
            }
        }
    }

    fn apply_env_from(&self, sources: &mut [EnvFromSource]) {
        for source in sources {
            self.apply_opt(&mut source.prefix);
            if let Some(config_map) = &mut source.config_map_ref {
                self.apply(&mut config_map.name);
            }
            if let Some(secret) = &mut source.secret_ref {
                self.apply(&mut secret.name);
            }
        }
    }

    fn apply_mounts(&self, mounts: &mut [VolumeMount]) {
        for mount in mounts {
            self.apply(&mut mount.name);
            self.apply(&mut mount.mount_path);
            self.apply_opt(&mut mount.sub_path);
        }
    }

    fn apply_items(&self, items: &mut Option<Vec<KeyToPath>>) {
        for item in items.iter_mut().flatten() {
            self.apply(&mut item.key);
            self.apply(&mut item.path);
        }
    }

    fn apply_volume(&self, volume: &mut Volume) {
        self.apply(&mut volume.name);
        if let Some(config_map) = &mut volume.config_map {
            self.apply(&mut config_map.name);
            self.apply_items(&mut config_map.items);
        }
        if let Some(secret) = &mut volume.secret {
            self.apply_opt(&mut secret.secret_name);
            self.apply_items(&mut secret.items);
        }
        if let Some(claim) = &mut volume.persistent_volume_claim {
            self.apply(&mut claim.claim_name);
        }
        for source in volume
            .projected
            .iter_mut()
            .flat_map(|p| p.sources.iter_mut().flatten())
        {
            if let Some(config_map) = &mut source.config_map {
                self.apply(&mut config_map.name);
            }
            if let Some(secret) = &mut source.secret {
                self.apply(&mut secret.name);
            }
            if let Some(token) = &mut source.service_account_token {
                self.apply_opt(&mut token.audience);
            }
        }
        if let Some(csi) = &mut volume.csi {
            if let Some(secret) = &mut csi.node_publish_secret_ref {
                self.apply(&mut secret.name);
            }
            csi.volume_attributes
                .iter_mut()
                .flat_map(|a| a.values_mut())
                .for_each(|text| self.apply(text));
        }
    }

    /// Replaces in what a workspace is bound to (T-188).
    pub fn apply_workspace_binding(&self, binding: &mut WorkspaceBinding) {
        self.apply(&mut binding.sub_path);
        if let Some(claim) = &mut binding.persistent_volume_claim {
            self.apply(&mut claim.claim_name);
        }
        if let Some(config_map) = &mut binding.config_map {
            self.apply(&mut config_map.name);
            self.apply_items(&mut config_map.items);
        }
        if let Some(secret) = &mut binding.secret {
            self.apply_opt(&mut secret.secret_name);
            self.apply_items(&mut secret.items);
        }
        for source in binding
            .projected
            .iter_mut()
            .flat_map(|p| p.sources.iter_mut().flatten())
        {
            if let Some(config_map) = &mut source.config_map {
                self.apply(&mut config_map.name);
                self.apply_items(&mut config_map.items);
            }
            if let Some(secret) = &mut source.secret {
                self.apply(&mut secret.name);
                self.apply_items(&mut secret.items);
            }
        }
        if let Some(csi) = &mut binding.csi {
            self.apply(&mut csi.driver);
            if let Some(secret) = &mut csi.node_publish_secret_ref {
                self.apply(&mut secret.name);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// Every text below becomes `V` exactly where upstream searches for references.
    #[test]
    fn references_are_replaced_in_the_fields_upstream_searches_and_in_no_others() {
        // T-186, T-187
        let r = Replacements::of_strings([("params.p", "V")]);
        let p = "$(params.p)";
        let container = |value: &str, kept: &str| {
            json!({
                "name": value, "image": value, "imagePullPolicy": value, "args": [value], "command": [value],
                "workingDir": value,
                "env": [{"name": kept, "value": value},
                        {"name": "s", "valueFrom": {"secretKeyRef": {"name": value, "key": value}}},
                        {"name": "c", "valueFrom": {"configMapKeyRef": {"name": value, "key": value}}},
                        {"name": "f", "valueFrom": {"fieldRef": {"fieldPath": kept}}}],
                "envFrom": [{"prefix": value, "configMapRef": {"name": value}}, {"secretRef": {"name": value}}],
                "volumeMounts": [{"name": value, "mountPath": value, "subPath": value, "subPathExpr": kept}],
            })
        };
        let spec = |value: &str| {
            let mut step = container(value, p);
            for (key, extra) in json!({
                "script": value, "onError": value, "stdoutConfig": {"path": value}, "stderrConfig": {"path": value},
                "when": [{"input": value, "operator": p, "values": [value], "cel": value}],
                "params": [{"name": p, "value": value}], "displayName": p,
            })
            .as_object()
            .unwrap()
            {
                step[key] = extra.clone();
            }
            let mut sidecar = container(value, p);
            sidecar["script"] = value.into();
            let mut template = container(value, p);
            template.as_object_mut().unwrap().remove("name");
            json!({
                "steps": [step], "sidecars": [sidecar], "stepTemplate": template, "description": p,
                "workspaces": [{"name": p, "mountPath": value}],
                "volumes": [
                    {"name": value, "configMap": {"name": value, "items": [{"key": value, "path": value}]}},
                    {"name": value, "secret": {"secretName": value, "items": [{"key": value, "path": value}]}},
                    {"name": value, "persistentVolumeClaim": {"claimName": value}},
                    {"name": value, "projected": {"sources": [
                        {"configMap": {"name": value, "items": [{"key": p, "path": p}]}}, {"secret": {"name": value}},
                        {"serviceAccountToken": {"audience": value, "path": p}}]}},
                    {"name": value, "csi": {"driver": p, "nodePublishSecretRef": {"name": value}, "volumeAttributes": {"a": value}}},
                    {"name": value, "hostPath": {"path": p}},
                ],
            })
        };
        let mut replaced: TaskSpec = serde_json::from_value(spec(p)).unwrap();
        r.apply_task_spec(&mut replaced);
        let expected: TaskSpec = serde_json::from_value(spec("V")).unwrap();
        assert_eq!(replaced, expected);
    }

    #[test]
    fn references_are_replaced_in_workspace_bindings() {
        // T-188
        let r = Replacements::of_strings([("params.p", "V")]);
        let bindings = |v: &str| -> Vec<WorkspaceBinding> {
            serde_json::from_value(json!([
                {"name": "$(params.p)", "subPath": v, "persistentVolumeClaim": {"claimName": v}},
                {"name": "c", "configMap": {"name": v, "items": [{"key": v, "path": v}]}},
                {"name": "s", "secret": {"secretName": v, "items": [{"key": v, "path": v}]}},
                {"name": "p", "projected": {"sources": [{"configMap": {"name": v, "items": [{"key": v, "path": v}]}},
                                                         {"secret": {"name": v, "items": [{"key": v, "path": v}]}}]}},
                {"name": "x", "csi": {"driver": v, "nodePublishSecretRef": {"name": v}}},
            ]))
            .unwrap()
        };
        let mut replaced = bindings("$(params.p)");
        replaced
            .iter_mut()
            .for_each(|b| r.apply_workspace_binding(b));
        assert_eq!(replaced, bindings("V"));
    }
}
