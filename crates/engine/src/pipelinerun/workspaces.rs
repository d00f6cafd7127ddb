//! Workspaces of a run, bound to the workspaces of its children.

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::PersistentVolumeClaimVolumeSource;
use tektite_api::v1::{
    ParamValue, PipelineTask, TaskSpec, WorkspaceBinding, WorkspacePipelineTaskBinding,
};

use super::affinity::Coschedule;
use super::children::Unmakeable;
use super::task::Resolved;
use super::work::Work;
use super::{names, substitute};

/// Bindings of a TaskRun or CustomRun, and the last workspace of the run among them that a claim stands behind
/// (P-234, P-237, P-253).
pub(super) fn for_task(
    work: &Work<'_>,
    resolved: &mut Resolved,
) -> Result<(Vec<WorkspaceBinding>, Option<String>), Unmakeable> {
    if let Some(embedded) = &resolved.task.task_spec {
        // P-235
        for name in mentioned(&embedded.task)? {
            if !resolved
                .task
                .workspaces
                .iter()
                .any(|workspace| workspace.name == name)
            {
                resolved.task.workspaces.push(WorkspacePipelineTaskBinding {
                    name,
                    ..Default::default()
                });
            }
        }
    }
    let mut bindings = Vec::new();
    let mut claim_workspace = None;
    for workspace in &resolved.task.workspaces {
        let outer = outer_name(workspace);
        let Some(binding) = bound(work, outer) else {
            let declared = resolved
                .task_spec()
                .into_iter()
                .flat_map(|spec| &spec.workspaces);
            let mut optional =
                declared.filter(|declared| declared.name == workspace.name && declared.optional);
            if optional.next().is_some() {
                continue;
            }
            return Err(format!(
                "expected workspace {outer:?} to be provided by pipelinerun for pipeline task {:?}",
                resolved.task.name
            ));
        };
        if binding.persistent_volume_claim.is_some() || binding.volume_claim_template.is_some() {
            claim_workspace = Some(outer.to_owned());
        }
        bindings.push(bind(work, binding, workspace));
    }
    // P-236: the pipeline's name is what the reference says.
    let pipeline = work
        .run
        .spec
        .pipeline_ref
        .as_ref()
        .map_or("", |reference| &reference.name);
    let contexts = substitute::contexts(pipeline, &work.run);
    bindings
        .iter_mut()
        .for_each(|binding| contexts.apply(&mut binding.sub_path));
    Ok((bindings, claim_workspace))
}

/// Bindings of a child PipelineRun; what the run does not bind is left out (P-218).
pub(super) fn for_child_pipeline(work: &Work<'_>, task: &PipelineTask) -> Vec<WorkspaceBinding> {
    let bind_one = |workspace| {
        bound(work, outer_name(workspace)).map(|binding| bind(work, binding, workspace))
    };
    task.workspaces.iter().filter_map(bind_one).collect()
}

fn outer_name(workspace: &WorkspacePipelineTaskBinding) -> &str {
    if workspace.workspace.is_empty() {
        &workspace.name
    } else {
        &workspace.workspace
    }
}

fn bound<'w>(work: &'w Work<'_>, name: &str) -> Option<&'w WorkspaceBinding> {
    work.run
        .spec
        .workspaces
        .iter()
        .rev()
        .find(|binding| binding.name == name)
}

/// The run's binding under the task's name; a claim made of a template is referred to by its name (P-237).
fn bind(
    work: &Work<'_>,
    binding: &WorkspaceBinding,
    workspace: &WorkspacePipelineTaskBinding,
) -> WorkspaceBinding {
    let sub_path = joined(&binding.sub_path, &workspace.sub_path);
    if binding.volume_claim_template.is_none() {
        return WorkspaceBinding {
            name: workspace.name.clone(),
            sub_path,
            ..binding.clone()
        };
    }
    let claim_name = match Coschedule::of(work.config) {
        Coschedule::Workspaces | Coschedule::Disabled => names::claim(binding, work.uid()),
        Coschedule::Run | Coschedule::IsolatedRun => {
            names::claim_of_assistant(binding, work.name(), work.uid())
        }
    };
    WorkspaceBinding {
        name: workspace.name.clone(),
        sub_path,
        persistent_volume_claim: Some(PersistentVolumeClaimVolumeSource {
            claim_name,
            read_only: None,
        }),
        ..WorkspaceBinding::default()
    }
}

/// Two paths joined and cleaned, or the one that is not empty as it is (P-236).
fn joined(outer: &str, inner: &str) -> String {
    if outer.is_empty() || inner.is_empty() {
        return format!("{outer}{inner}");
    }
    let whole = format!("{outer}/{inner}");
    let rooted = whole.starts_with('/');
    let mut parts: Vec<&str> = Vec::new();
    for part in whole.split('/') {
        match part {
            "" | "." => {}
            ".." if parts.last().is_some_and(|last| *last != "..") => {
                parts.pop();
            }
            ".." if rooted => {}
            other => parts.push(other),
        }
    }
    match (rooted, parts.is_empty()) {
        (true, _) => format!("/{}", parts.join("/")),
        (false, true) => ".".to_owned(),
        (false, false) => parts.join("/"),
    }
}

/// Workspaces that an inline task speaks of, sorted (P-235).
fn mentioned(spec: &TaskSpec) -> Result<BTreeSet<String>, Unmakeable> {
    let mut texts: Vec<&str> = Vec::new();
    for step in &spec.steps {
        texts.extend([step.script.as_str(), &step.working_dir]);
        texts.extend(step.args.iter().chain(&step.command).map(String::as_str));
        texts.extend(step.env.iter().filter_map(|var| var.value.as_deref()));
        texts.extend(
            step.params
                .iter()
                .flat_map(|param| ParamValue::texts(&param.value)),
        );
    }
    for sidecar in &spec.sidecars {
        texts.extend([sidecar.script.as_str(), &sidecar.working_dir]);
        texts.extend(
            sidecar
                .args
                .iter()
                .chain(&sidecar.command)
                .map(String::as_str),
        );
        texts.extend(sidecar.env.iter().filter_map(|var| var.value.as_deref()));
    }
    if let Some(template) = &spec.step_template {
        texts.push(&template.working_dir);
        texts.extend(
            template
                .args
                .iter()
                .chain(&template.command)
                .map(String::as_str),
        );
        texts.extend(template.env.iter().filter_map(|var| var.value.as_deref()));
    }
    let mut names = BTreeSet::new();
    for text in texts {
        for variable in text
            .split("$(workspaces.")
            .skip(1)
            .filter_map(|rest| rest.split_once(')'))
        {
            let mut parts = variable.0.split('.');
            if parts.clone().count() > 2 {
                return Err(format!(
                    "Error while extracting workspace: Invalid referencing of parameters in \"{text}\"! Only two \
                     dot-separated components after the prefix \"workspaces\" are allowed."
                ));
            }
            names.extend(parts.next().map(str::to_owned));
        }
    }
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sub_paths_are_joined_and_cleaned() {
        // P-236
        for (outer, inner, expected) in [
            ("", "", ""),
            ("a/", "", "a/"),
            ("", "./b", "./b"),
            ("a", "b", "a/b"),
            ("a/", "/b/../c", "a/c"),
            ("a", "../..", ".."),
            ("a", "..", "."),
            ("/a", "../..", "/"),
        ] {
            assert_eq!(joined(outer, inner), expected, "{outer} + {inner}");
        }
    }

    #[test]
    fn workspaces_an_inline_task_speaks_of_are_found() {
        // P-235
        let spec: TaskSpec = serde_json::from_value(serde_json::json!({
            "steps": [{
                "script": "$(workspaces.a.path) $(params.x)", "args": ["$(workspaces.b.bound)"],
                "env": [{"name": "E", "value": "$(workspaces.c.path)"}], "image": "$(workspaces.no.path)",
                "params": [{"name": "p", "value": ["$(workspaces.d.path)"]}]
            }],
            "sidecars": [{"name": "s", "workingDir": "$(workspaces.e.path)"}],
            "stepTemplate": {"command": ["$(workspaces.f.path)"]}
        }))
        .unwrap();
        let expected: BTreeSet<String> = ["a", "b", "c", "d", "e", "f"].map(str::to_owned).into();
        assert_eq!(mentioned(&spec), Ok(expected));
        let spec: TaskSpec = serde_json::from_value(
            serde_json::json!({"steps": [{"script": "$(workspaces.a.b.c)"}]}),
        )
        .unwrap();
        assert!(
            mentioned(&spec)
                .unwrap_err()
                .starts_with("Error while extracting workspace: ")
        );
    }
}
