//! Building the pod of a TaskRun.

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
}

/// How the entrypoint binary, the scripts and the working directories get into a pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EntrypointDelivery {
    /// One init container `prepare` of this image does it all.
    InitContainer {
        /// The entrypoint image, in which the binary is `/ko-app/entrypoint`.
        image: String,
    },
    /// The image, with the binary at `/entrypoint`, is a volume; there is no init container, and each step's
    /// entrypoint writes its own script.
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
        }
    }
}
