//! Workspaces that tasks declare and runs bind (T-025 to T-027, T-068, T-069).

use super::{param, scope::Scope, variable::Names};
use crate::{
    admission::{FieldError, FieldErrors, field_error::quote},
    v1::{Step, StepTemplate, TaskSpec, WorkspaceBinding, WorkspaceDeclaration, WorkspaceUsage},
};

/// The path without `.`, `..` and doubled slashes, as Go's `filepath.Clean`.
pub(super) fn clean(path: &str) -> String {
    let rooted = path.starts_with('/');
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." if parts.last().is_some_and(|p| *p != "..") => drop(parts.pop()),
            ".." if rooted => {}
            part => parts.push(part),
        }
    }
    match (rooted, parts.is_empty()) {
        (true, _) => format!("/{}", parts.join("/")),
        (false, true) => ".".to_owned(),
        (false, false) => parts.join("/"),
    }
}

pub(super) fn declarations(
    workspaces: &[WorkspaceDeclaration],
    steps: &[Step],
    template: Option<&StepTemplate>,
) -> FieldErrors {
    let mounts = steps
        .iter()
        .map(|s| &s.volume_mounts)
        .chain(template.map(|t| &t.volume_mounts));
    let mut paths: Names = mounts
        .flatten()
        .map(|mount| clean(&mount.mount_path))
        .collect();
    let (mut names, mut errors) = (Names::new(), FieldErrors::new());
    for (index, workspace) in workspaces.iter().enumerate() {
        let mut say = |message: String, path: &str| {
            errors.add(FieldErrors::from(FieldError::generic(message, [path])).via_index(index));
        };
        if !names.insert(workspace.name.clone()) {
            say(
                format!("workspace name {} must be unique", quote(&workspace.name)),
                "name",
            );
        }
        let path = clean(&workspace.mount_path());
        if !paths.insert(path.clone()) {
            say(
                format!("workspace mount path {} must be unique", quote(&path)),
                "mountpath",
            );
        }
    }
    errors
}

/// Workspaces that only single steps or sidecars use.
pub(super) fn usages(task: &TaskSpec, scope: Scope<'_>) -> FieldErrors {
    let declared: Names = task.workspaces.iter().map(|w| w.name.clone()).collect();
    let mut errors = FieldErrors::new();
    let mut check = |usages: &[WorkspaceUsage], index: usize, feature: &str, field: &str| {
        if !usages.is_empty() {
            errors.add(scope.needs_beta(feature).via_field_index(field, index));
        }
        for (at, usage) in usages
            .iter()
            .enumerate()
            .filter(|(_, usage)| !declared.contains(&usage.name))
        {
            let error = FieldError::generic(
                format!("undefined workspace {}", quote(&usage.name)),
                ["name"],
            );
            errors.add(
                FieldErrors::from(error)
                    .via_field_index("workspaces", at)
                    .via_field_index(field, index),
            );
        }
    };
    for (index, step) in task.steps.iter().enumerate() {
        check(&step.workspaces, index, "step workspaces", "steps");
    }
    for (index, sidecar) in task.sidecars.iter().enumerate() {
        check(&sidecar.workspaces, index, "sidecar workspaces", "sidecars");
    }
    errors
}

pub(super) fn bindings(bindings: &[WorkspaceBinding]) -> FieldErrors {
    let mut errors = FieldErrors::new();
    for (index, one) in bindings.iter().enumerate() {
        errors.add(FieldErrors::from(binding(one)).via_index(index));
    }
    errors.add(param::distinct(
        bindings.iter().map(|b| b.name.as_str()),
        true,
    ));
    errors
}

pub(super) fn binding(of: &WorkspaceBinding) -> Option<FieldError> {
    if *of == WorkspaceBinding::default() {
        return Some(FieldError::missing(""));
    }
    let sources = [
        of.volume_claim_template.is_some(),
        of.persistent_volume_claim.is_some(),
        of.empty_dir.is_some(),
        of.config_map.is_some(),
        of.secret.is_some(),
        of.projected.is_some(),
        of.csi.is_some(),
    ];
    let named = [
        "persistentvolumeclaim",
        "volumeclaimtemplate",
        "emptydir",
        "configmap",
        "secret",
    ];
    match sources.into_iter().filter(|set| *set).count() {
        0 => return Some(FieldError::missing_one_of(&named)),
        1 => {}
        _ => return Some(FieldError::multiple_one_of(&named)),
    }
    let empty = |text: &str| text.is_empty();
    if of
        .persistent_volume_claim
        .as_ref()
        .is_some_and(|s| empty(&s.claim_name))
    {
        return Some(FieldError::missing("persistentvolumeclaim.claimname"));
    }
    if of.config_map.as_ref().is_some_and(|s| empty(&s.name)) {
        return Some(FieldError::missing("configmap.name"));
    }
    if of
        .secret
        .as_ref()
        .is_some_and(|s| s.secret_name.as_deref().is_none_or(empty))
    {
        return Some(FieldError::missing("secret.secretName"));
    }
    if of
        .projected
        .as_ref()
        .is_some_and(|s| s.sources.as_ref().is_none_or(Vec::is_empty))
    {
        return Some(FieldError::missing("projected.sources"));
    }
    of.csi
        .as_ref()
        .is_some_and(|s| empty(&s.driver))
        .then(|| FieldError::missing("csi.driver"))
}

#[cfg(test)]
mod tests {
    /// T-026
    #[test]
    fn paths_are_cleaned_as_go_does() {
        for (path, cleaned) in [
            ("/a//b/", "/a/b"),
            ("/a/../b", "/b"),
            ("/..", "/"),
            ("", "."),
            ("a/./b/..", "a"),
            ("../a", "../a"),
        ] {
            assert_eq!(super::clean(path), cleaned, "{path}");
        }
    }
}
