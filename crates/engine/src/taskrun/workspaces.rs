//! Workspaces of a TaskRun: the volumes they are bound to and where those are mounted (T-203 to T-210).

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::core::v1::{
    PersistentVolumeClaim, PersistentVolumeClaimVolumeSource, Volume, VolumeMount,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use tektite_api::v1::{Sidecar, TaskSpec, WorkspaceBinding, WorkspaceDeclaration, WorkspaceUsage};

use crate::child_name::sha256_hex;
use crate::substitution::Replacements;

/// `<prefix>-` and the first digits of the FNV-1a hash of `name`, padded with `0` (T-203, T-268).
pub(crate) fn hashed_name(prefix: &str, name: &str, digits: usize) -> String {
    let hash = name.bytes().fold(0x811c_9dc5_u32, |hash, byte| {
        (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193)
    });
    let hex = format!("{hash:x}");
    let head = &hex[..hex.len().min(digits)];
    format!("{prefix}-{head:0<digits$}")
}

/// Volume of each binding by workspace name. Bindings of one claim share the first one's volume (T-204).
pub(crate) fn volumes(bindings: &[WorkspaceBinding]) -> BTreeMap<String, Volume> {
    let mut volumes = BTreeMap::new();
    let mut claims: BTreeMap<&str, Volume> = BTreeMap::new();
    let mut used = BTreeSet::new();
    for binding in bindings {
        let mut name = hashed_name("ws", &binding.name, 5);
        while !used.insert(name.clone()) {
            name = hashed_name("ws", &format!("{name}$"), 5);
        }
        let mut volume = Volume {
            name,
            ..Volume::default()
        };
        if let Some(claim) = &binding.persistent_volume_claim {
            volume.persistent_volume_claim = Some(claim.clone());
            volume = claims.entry(&claim.claim_name).or_insert(volume).clone();
        } else if binding.empty_dir.is_some() {
            volume.empty_dir = binding.empty_dir.clone();
        } else if binding.config_map.is_some() {
            volume.config_map = binding.config_map.clone();
        } else if binding.secret.is_some() {
            volume.secret = binding.secret.clone();
        } else if binding.projected.is_some() {
            volume.projected = binding.projected.clone();
        } else if binding.csi.is_some() {
            volume.csi = binding.csi.clone();
        } else {
            continue;
        }
        volumes.insert(binding.name.clone(), volume);
    }
    volumes
}

/// Name of the claim made from a binding's template, unique by workspace and owner (T-208).
pub fn claim_name(
    binding: &WorkspaceBinding,
    template: &PersistentVolumeClaim,
    owner_uid: &str,
) -> String {
    let given = template
        .metadata
        .name
        .as_deref()
        .filter(|n| !n.is_empty())
        .unwrap_or("pvc");
    format!(
        "{given}-{}",
        sha256_hex(&format!("{}{owner_uid}", binding.name), 10)
    )
}

/// The claim of a binding with a template.
pub fn claim(
    binding: &WorkspaceBinding,
    namespace: &str,
    owner: &OwnerReference,
) -> Option<PersistentVolumeClaim> {
    let template = binding.volume_claim_template.as_ref()?;
    let mut claim = template.clone();
    claim.metadata.name = Some(claim_name(binding, template, &owner.uid));
    claim.metadata.namespace = Some(namespace.to_owned());
    claim.metadata.owner_references = Some(vec![owner.clone()]);
    claim.status = None;
    Some(claim)
}

/// The binding with its template replaced by the claim made of it.
pub(crate) fn with_claim(binding: &WorkspaceBinding, owner_uid: &str) -> WorkspaceBinding {
    let Some(template) = &binding.volume_claim_template else {
        return binding.clone();
    };
    WorkspaceBinding {
        name: binding.name.clone(),
        sub_path: binding.sub_path.clone(),
        persistent_volume_claim: Some(PersistentVolumeClaimVolumeSource {
            claim_name: claim_name(binding, template, owner_uid),
            read_only: None,
        }),
        ..WorkspaceBinding::default()
    }
}

/// Bindings with the default one for each required workspace that is unbound (T-210).
pub(crate) fn with_default(
    bindings: Vec<WorkspaceBinding>,
    declared: &[WorkspaceDeclaration],
    default: &WorkspaceBinding,
) -> Vec<WorkspaceBinding> {
    let mut all = bindings;
    for workspace in declared.iter().filter(|w| !w.optional) {
        if all.iter().any(|b| b.name == workspace.name) {
            continue;
        }
        // Projected and CSI sources are not copied.
        all.push(WorkspaceBinding {
            name: workspace.name.clone(),
            projected: None,
            csi: None,
            ..default.clone()
        });
    }
    all
}

/// The installation's default binding, which is kept as YAML text; `None` if it is no binding.
pub(crate) fn parse_binding(yaml: &str) -> Option<WorkspaceBinding> {
    serde_yaml_ng::from_str(yaml).ok()
}

/// Declares the bound workspaces that the task does not.
pub(crate) fn declare_bound(spec: &mut TaskSpec, bindings: &[WorkspaceBinding]) {
    for binding in bindings {
        if !spec.workspaces.iter().any(|w| w.name == binding.name) {
            spec.workspaces.push(WorkspaceDeclaration {
                name: binding.name.clone(),
                ..WorkspaceDeclaration::default()
            });
        }
    }
}

/// Replaces `$(workspaces.w.path|bound|volume|claim)` (T-184, T-185).
pub(crate) fn substitute(
    spec: &mut TaskSpec,
    bindings: &[WorkspaceBinding],
    volumes: &BTreeMap<String, Volume>,
) {
    let mut known = Replacements::default();
    for workspace in spec.workspaces.clone() {
        let variable = |what: &str| format!("workspaces.{}.{what}", workspace.name);
        let bound = bindings.iter().any(|b| b.name == workspace.name);
        known.strings.insert(
            variable("bound"),
            (bound || !workspace.optional).to_string(),
        );
        if !bound && workspace.optional {
            known.strings.insert(variable("path"), String::new());
            continue;
        }
        let own = |usages: &[WorkspaceUsage]| {
            let usage = usages
                .iter()
                .find(|u| u.name == workspace.name && !u.mount_path.is_empty())?;
            Some(Replacements::of_strings([(
                variable("path"),
                usage.mount_path.clone(),
            )]))
        };
        for step in &mut spec.steps {
            if let Some(path) = own(&step.workspaces) {
                path.apply_step(step);
            }
        }
        for sidecar in &mut spec.sidecars {
            if let Some(path) = own(&sidecar.workspaces) {
                path.apply_sidecar(sidecar);
            }
        }
        Replacements::of_strings([(variable("path"), workspace.mount_path())])
            .apply_task_spec(spec);
    }
    known.strings.extend(
        volumes
            .iter()
            .map(|(name, v)| (format!("workspaces.{name}.volume"), v.name.clone())),
    );
    known.strings.extend(bindings.iter().map(|b| {
        let claim = b
            .persistent_volume_claim
            .as_ref()
            .map(|c| c.claim_name.clone());
        (
            format!("workspaces.{}.claim", b.name),
            claim.unwrap_or_default(),
        )
    }));
    known.apply_task_spec(spec);
}

/// Adds volumes and mounts of bound workspaces to the spec that a pod is built from (T-205 to T-207).
pub(crate) fn mount(
    spec: &mut TaskSpec,
    bindings: &[WorkspaceBinding],
    volumes: &BTreeMap<String, Volume>,
) {
    let lists = |usages: &[WorkspaceUsage], name: &str| usages.iter().any(|u| u.name == name);
    declare_bound(spec, bindings);
    let mut added = BTreeSet::new();
    for binding in bindings {
        let Some(declared) = spec.workspaces.iter().find(|w| w.name == binding.name) else {
            continue;
        };
        let Some(volume) = volumes.get(&binding.name) else {
            continue;
        };
        let mount = volume_mount(declared, binding, volume);
        let isolated = spec
            .steps
            .iter()
            .any(|s| lists(&s.workspaces, &binding.name))
            || spec
                .sidecars
                .iter()
                .any(|s| lists(&s.workspaces, &binding.name));
        if isolated {
            for step in &mut spec.steps {
                step.volume_mounts
                    .extend(own_mount(&step.workspaces, &binding.name, &mount));
            }
            for sidecar in &mut spec.sidecars {
                sidecar
                    .volume_mounts
                    .extend(own_mount(&sidecar.workspaces, &binding.name, &mount));
            }
        } else {
            for sidecar in &mut spec.sidecars {
                add_unless_mounted(sidecar, &mount);
            }
            spec.step_template
                .get_or_insert_default()
                .volume_mounts
                .push(mount);
        }
        if added.insert(volume.name.clone()) {
            spec.volumes.push(volume.clone());
        }
    }
}

/// Where a bound workspace is, unless a step says otherwise.
pub(crate) fn volume_mount(
    declared: &WorkspaceDeclaration,
    binding: &WorkspaceBinding,
    volume: &Volume,
) -> VolumeMount {
    VolumeMount {
        name: volume.name.clone(),
        mount_path: declared.mount_path(),
        sub_path: (!binding.sub_path.is_empty()).then(|| binding.sub_path.clone()),
        read_only: declared.read_only.then_some(true),
        ..VolumeMount::default()
    }
}

/// The mount where only those have it that list it, at the path they list.
fn own_mount(
    usages: &[WorkspaceUsage],
    workspace: &str,
    mount: &VolumeMount,
) -> Option<VolumeMount> {
    let usage = usages.iter().find(|u| u.name == workspace)?;
    let mut own = mount.clone();
    if !usage.mount_path.is_empty() {
        own.mount_path.clone_from(&usage.mount_path);
    }
    Some(own)
}

fn add_unless_mounted(sidecar: &mut Sidecar, mount: &VolumeMount) {
    if !sidecar
        .volume_mounts
        .iter()
        .any(|m| m.mount_path == mount.mount_path)
    {
        sidecar.volume_mounts.push(mount.clone());
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn bindings(value: serde_json::Value) -> Vec<WorkspaceBinding> {
        serde_json::from_value(value).unwrap()
    }

    fn spec(value: serde_json::Value) -> TaskSpec {
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn volumes_are_named_by_a_hash_of_the_workspace() {
        // T-203, T-268
        assert_eq!(hashed_name("ws", "source", 5), "ws-1bcf2");
        assert_eq!(
            hashed_name("tekton-creds", "multi-creds", 8),
            "tekton-creds-8e736f4e"
        );
    }

    #[test]
    fn bindings_of_one_claim_share_the_first_ones_volume() {
        // T-204
        let bound = bindings(json!([
            {"name": "a", "persistentVolumeClaim": {"claimName": "c", "readOnly": true}},
            {"name": "b", "persistentVolumeClaim": {"claimName": "c"}}, {"name": "e", "emptyDir": {}},
        ]));
        let volumes = volumes(&bound);
        assert_eq!(volumes["a"], volumes["b"]);
        assert_eq!(
            volumes["a"]
                .persistent_volume_claim
                .as_ref()
                .unwrap()
                .read_only,
            Some(true)
        );
        assert_ne!(volumes["a"].name, volumes["e"].name);
    }

    #[test]
    fn a_claim_is_named_after_its_template_the_workspace_and_the_owner() {
        // T-208
        let bound = bindings(json!([
            {"name": "w", "volumeClaimTemplate": {"metadata": {"name": "mine"}, "spec": {}}},
            {"name": "w", "subPath": "s", "volumeClaimTemplate": {"spec": {}}},
        ]));
        let owner = OwnerReference {
            uid: "u".into(),
            ..OwnerReference::default()
        };
        let digest = sha256_hex("wu", 10);
        let made = claim(&bound[0], "ns", &owner).unwrap();
        assert_eq!(made.metadata.name, Some(format!("mine-{digest}")));
        assert_eq!(made.metadata.owner_references, Some(vec![owner]));
        let replaced = with_claim(&bound[1], "u");
        assert_eq!(
            replaced.persistent_volume_claim.unwrap().claim_name,
            format!("pvc-{digest}")
        );
        assert_eq!(replaced.sub_path, "s");
        assert_eq!(replaced.volume_claim_template, None);
    }

    #[test]
    fn the_default_binding_fills_required_workspaces_only() {
        // T-210
        let declared = spec(
            json!({"workspaces": [{"name": "a"}, {"name": "b"}, {"name": "o", "optional": true}]}),
        )
        .workspaces;
        let given = bindings(json!([{"name": "b", "emptyDir": {}}]));
        let default = bindings(
            json!([{"name": "", "subPath": "s", "configMap": {"name": "c"}, "csi": {"driver": "d"}}]),
        );
        let all = with_default(given, &declared, &default[0]);
        assert_eq!(
            serde_json::to_value(all).unwrap(),
            json!([{"name": "b", "emptyDir": {}}, {"name": "a", "subPath": "s", "configMap": {"name": "c"}}])
        );
    }

    #[test]
    fn workspace_variables_are_filled_in() {
        // T-184, T-185
        let bound = bindings(
            json!([{"name": "a", "persistentVolumeClaim": {"claimName": "c"}}, {"name": "b", "emptyDir": {}}]),
        );
        let text = "$(workspaces.a.path) $(workspaces.a.bound) $(workspaces.a.claim) $(workspaces.b.path) [$(workspaces.b.claim)] \
                    [$(workspaces.o.path)] $(workspaces.o.bound) $(workspaces.o.volume)";
        let mut task = spec(json!({
            "workspaces": [{"name": "a"}, {"name": "b", "mountPath": "/b"}, {"name": "o", "optional": true}],
            "steps": [{"name": "s", "script": text}, {"name": "own", "script": "$(workspaces.a.path)",
                       "workspaces": [{"name": "a", "mountPath": "/own"}]}],
            "sidecars": [{"name": "c", "script": "$(workspaces.b.volume)"}],
        }));
        let volumes = volumes(&bound);
        substitute(&mut task, &bound, &volumes);
        assert_eq!(
            task.steps[0].script,
            "/workspace/a true c /b [] [] false $(workspaces.o.volume)"
        );
        assert_eq!(task.steps[1].script, "/own");
        assert_eq!(task.sidecars[0].script, volumes["b"].name);
    }

    #[test]
    fn a_shared_workspace_is_mounted_everywhere_and_an_isolated_one_where_it_is_listed() {
        // T-205, T-206, T-207
        let bound = bindings(json!([
            {"name": "shared", "subPath": "p", "emptyDir": {}}, {"name": "alone", "emptyDir": {}},
        ]));
        let mut task = spec(json!({
            "workspaces": [{"name": "shared", "readOnly": true}, {"name": "alone"}],
            "steps": [{"name": "s", "workspaces": [{"name": "alone", "mountPath": "/x"}]}, {"name": "t"}],
            "sidecars": [{"name": "c"}, {"name": "d", "volumeMounts": [{"name": "v", "mountPath": "/workspace/shared"}]}],
        }));
        let volumes = volumes(&bound);
        mount(&mut task, &bound, &volumes);
        let names = |mounts: &[VolumeMount]| {
            mounts
                .iter()
                .map(|m| m.mount_path.clone())
                .collect::<Vec<_>>()
        };
        let template = task.step_template.unwrap();
        assert_eq!(names(&template.volume_mounts), ["/workspace/shared"]);
        assert_eq!(template.volume_mounts[0].read_only, Some(true));
        assert_eq!(template.volume_mounts[0].sub_path.as_deref(), Some("p"));
        assert_eq!(names(&task.steps[0].volume_mounts), ["/x"]);
        assert!(task.steps[1].volume_mounts.is_empty());
        assert_eq!(
            names(&task.sidecars[0].volume_mounts),
            ["/workspace/shared"]
        );
        assert_eq!(task.sidecars[1].volume_mounts[0].name, "v");
        assert_eq!(task.sidecars[1].volume_mounts.len(), 1);
        assert_eq!(task.volumes.len(), 2);
    }
}
