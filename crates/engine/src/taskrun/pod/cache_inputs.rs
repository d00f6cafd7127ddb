//! The container that tells what is in the workspaces that a cached task's outcome follows from.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Container, Volume, VolumeMount};
use tektite_api::v1::{TaskSpec, WorkspaceBinding, WorkspaceDeclaration};

use super::command_line::{ENTRYPOINT, TERMINATION};
use super::volumes;
use crate::cache::Contents;
use crate::taskrun::workspaces;

/// Its name.
pub(crate) const CACHE_INPUTS: &str = "cache-inputs";

/// What the container is to look at.
#[derive(Clone, Debug, PartialEq)]
pub struct CacheInputs {
    paths: Vec<String>,
    mounts: Vec<VolumeMount>,
}

impl CacheInputs {
    /// Where `contents` are, given what the workspaces of `spec` are bound to; one that is not bound has none.
    pub(crate) fn new(
        contents: &[Contents],
        spec: &TaskSpec,
        bindings: &[WorkspaceBinding],
        volumes: &BTreeMap<String, Volume>,
    ) -> Self {
        let mut paths = Vec::new();
        let mut mounts: Vec<VolumeMount> = Vec::new();
        for wanted in contents {
            let declared = spec
                .workspaces
                .iter()
                .find(|it| it.name == wanted.workspace)
                .cloned()
                .unwrap_or_else(|| WorkspaceDeclaration {
                    name: wanted.workspace.clone(),
                    ..WorkspaceDeclaration::default()
                });
            let path = declared.mount_path();
            paths.push(match wanted.path.as_str() {
                "" => path.clone(),
                below => format!("{path}/{below}"),
            });
            let binding = bindings.iter().find(|it| it.name == wanted.workspace);
            let (Some(binding), Some(volume)) = (binding, volumes.get(&wanted.workspace)) else {
                continue;
            };
            if !mounts.iter().any(|it| it.mount_path == path) {
                let mount = workspaces::volume_mount(&declared, binding, volume);
                mounts.push(VolumeMount {
                    read_only: Some(true),
                    ..mount
                });
            }
        }
        Self { paths, mounts }
    }

    /// An init container that sees the files as `step`, whose image and user it has.
    pub(super) fn container(self, step: &Container) -> Container {
        let mut command = [ENTRYPOINT, "-termination_path", TERMINATION, "contents"]
            .map(str::to_owned)
            .to_vec();
        command.extend(self.paths);
        let mut mounts = self.mounts;
        mounts.push(volumes::mount("tekton-internal-bin", "/tekton/bin", true));
        Container {
            name: CACHE_INPUTS.into(),
            image: step.image.clone(),
            image_pull_policy: step.image_pull_policy.clone(),
            command: Some(command),
            termination_message_path: Some(TERMINATION.into()),
            security_context: step.security_context.clone(),
            volume_mounts: Some(mounts),
            ..Container::default()
        }
    }
}
