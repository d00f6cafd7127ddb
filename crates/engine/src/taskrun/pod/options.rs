//! What a controller decides once about all the pods it builds.

use k8s_openapi::api::core::v1::{Capabilities, SeccompProfile, SecurityContext};
use tektite_api::config::Config;

/// What a controller decides once about all pods it builds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PodOptions {
    /// How the entrypoint binary gets into the pod.
    pub entrypoint: EntrypointDelivery,
    /// An image whose program exits at once; running sidecars are switched to it (T-324).
    pub nop_image: String,
    /// The image of the results sidecar (T-314).
    pub sidecar_log_results_image: String,
    /// Value of annotation `pipeline.tekton.dev/release` (T-148, T-214).
    pub release: String,
    /// Minor version of the Kubernetes API (native sidecars need 29, T-122).
    pub kubernetes_minor: u32,
    /// Whether secrets are masked in step logs where `feature-flags` does not say (`enable-secret-masking`).
    pub masks_secrets: bool,
}

/// How the entrypoint binary gets into a pod. Scripts travel with the steps in both cases.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EntrypointDelivery {
    /// An init container `prepare` of this image copies it and makes working directories.
    InitContainer {
        /// The entrypoint image, in which the binary is `/ko-app/entrypoint`.
        image: String,
    },
    /// The image, with the binary at `/entrypoint`, is a volume mounted at `/tekton/bin`; there is no init container,
    /// and a working directory that is missing is made by the container runtime.
    /// Each step's entrypoint gets `-step_names <container>,…` and makes the links `/tekton/steps/<container>` and
    /// `/tekton/steps/<index>` to `/tekton/run/<index>/status` in its own view of `/tekton/steps`.
    ImageVolume {
        /// The entrypoint image.
        image: String,
    },
}

impl Default for PodOptions {
    fn default() -> Self {
        Self {
            entrypoint: EntrypointDelivery::ImageVolume {
                image: "tektite/entrypoint".into(),
            },
            nop_image: "tektite/entrypoint".into(),
            sidecar_log_results_image: "tektite/entrypoint".into(),
            release: "unknown".into(),
            kubernetes_minor: 36,
            masks_secrets: false,
        }
    }
}

/// Security context of Tekton's own containers (T-228).
pub(crate) fn security_context(config: &Config) -> Option<SecurityContext> {
    let flags = &config.feature_flags;
    flags.set_security_context.then(|| SecurityContext {
        allow_privilege_escalation: Some(false),
        capabilities: Some(Capabilities {
            drop: Some(vec!["ALL".into()]),
            add: None,
        }),
        run_as_non_root: Some(true),
        seccomp_profile: Some(SeccompProfile {
            type_: "RuntimeDefault".into(),
            localhost_profile: None,
        }),
        read_only_root_filesystem: flags
            .set_security_context_read_only_root_filesystem
            .then_some(true),
        ..SecurityContext::default()
    })
}
