//! Starting one container: image, environment, specification, launcher.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Container, Pod};

use super::prepare::{Prepared, fetch, image_mount, pull_policy, pull_secrets};
use super::record::Record;
use crate::container_spec::{self, Input};
use crate::environment;
use crate::images::{ImageError, ImageRequest, ResolvedImage, RootFilesystem};
use crate::launcher::protocol::{Root, RunRequest};
use crate::shared::{Shared, container_id};
use crate::users::{self, Accounts};

/// Why a container did not start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum StartFailure {
    /// No image (K-272, K-273).
    Image(ImageError),
    /// `CreateContainerConfigError` (K-274).
    Config(String),
    /// `CreateContainerError`.
    Create(String),
    /// The launcher died meanwhile.
    NoLauncher,
    /// The program cannot be run: terminated with `StartError` (K-276).
    Start { message: String, record: Record },
}

/// A container that runs.
#[derive(Clone)]
pub(crate) struct Started {
    pub record: Record,
    /// Kept while it runs, so that nobody removes its layers.
    pub image: ResolvedImage,
}

/// Creates and starts an instance of a container.
pub(crate) async fn start(
    shared: Arc<Shared>,
    pod: Arc<Pod>,
    container: Container,
    attempt: u32,
    prepared: Prepared,
) -> Result<Started, StartFailure> {
    let uid = pod.metadata.uid.clone().unwrap_or_default();
    let namespace = pod.metadata.namespace.clone().unwrap_or_default();
    let reference = container.image.clone().unwrap_or_default();
    let request = ImageRequest {
        policy: pull_policy(container.image_pull_policy.as_deref(), &reference),
        pull_secrets: pull_secrets(&shared, &pod).await,
        reference,
    };
    let image_name = request.reference.clone();
    let image = shared
        .images
        .resolve(request)
        .await
        .map_err(StartFailure::Image)?;
    let objects = fetch(&shared.client, &namespace, &environment::needs(&container))
        .await
        .map_err(StartFailure::Config)?;
    let variables = environment::environment(&pod, &container, &objects, &prepared.facts)
        .map_err(StartFailure::Config)?;
    let (line, environment) = environment::process(
        &container,
        &image.config,
        &variables,
        &prepared.facts.hostname,
    )
    .map_err(StartFailure::Config)?;
    let identity = users::identity(&pod, &container, &image.config.user, || {
        Accounts::read(&image.root)
    })
    .map_err(StartFailure::Config)?;
    let instance = shared.layout.instance(&uid, &container.name, attempt);
    let made = fs::create_dir_all(instance.root()).and_then(|()| {
        // K-283: empty, writable by whoever the container runs as.
        fs::write(instance.message(), "")?;
        fs::set_permissions(instance.message(), fs::Permissions::from_mode(0o666))
    });
    made.map_err(|error| {
        StartFailure::Create(format!("cannot make the container's directory: {error}"))
    })?;
    let launcher = shared.launcher();
    let greeting = launcher.greeting();
    let privileged = container
        .security_context
        .as_ref()
        .and_then(|context| context.privileged)
        == Some(true);
    let devices = if privileged && !greeting.rootless {
        container_spec::devices(Path::new("/dev"))
    } else {
        Vec::new()
    };
    let made = container_spec::make(&Input {
        pod: &pod,
        container: &container,
        line,
        environment,
        identity: &identity,
        image_working_dir: &image.config.working_dir,
        places: &prepared.places,
        etc: &prepared.etc,
        shm: &prepared.shm,
        termination: &instance.message(),
        rootless: greeting.rootless,
        single_user: greeting.single_user,
        own_network: prepared.own_network,
        permitted: shared.permitted,
        devices: &devices,
    })
    .map_err(StartFailure::Config)?;
    let layers = |root: &RootFilesystem| match root {
        RootFilesystem::Host => Vec::new(),
        RootFilesystem::Layers(layers) => layers.clone(),
    };
    let mounted: Vec<&str> = container
        .volume_mounts
        .iter()
        .flatten()
        .map(|mount| mount.name.as_str())
        .collect();
    let images: Vec<_> = prepared
        .images
        .iter()
        .filter(|(name, _)| mounted.contains(&name.as_str()))
        .filter_map(|(name, image)| {
            let layers = layers(&image.root);
            (layers.len() != 1).then(|| (image_mount(&uid, name), layers))
        })
        .collect();
    let mut record = Record {
        image: image_name,
        image_id: image.id.clone(),
        started: now_nanos(),
        stop_signal: stop_signal(&image.config.stop_signal),
    };
    record.write(&instance).map_err(|error| {
        StartFailure::Create(format!("cannot write the container's record: {error}"))
    })?;
    let run = RunRequest {
        container: container_id(&uid, &container.name, attempt),
        pod: uid,
        spec: made.spec,
        root: Root {
            lowers: layers(&image.root),
            writable: instance.writable(),
            images,
        },
        log: instance.log(),
        exit_file: instance.exit(),
        pid_file: instance.pid(),
        limits: made.limits,
        sub_paths: made.sub_paths,
    };
    match launcher.run(run).await {
        Ok((_, warnings)) => {
            for warning in warnings {
                shared.warn_once(&warning);
            }
            Ok(Started { record, image })
        }
        Err(failure) if failure.message.contains(" subPath ") => {
            Err(StartFailure::Config(failure.message))
        }
        Err(failure)
            if failure
                .message
                .starts_with("unable to start container process") =>
        {
            record.started = 0;
            let message = format!(
                "failed to create task for container: failed to start container: {}",
                failure.message
            );
            Err(StartFailure::Start { message, record })
        }
        Err(_) if launcher.is_gone() => Err(StartFailure::NoLauncher),
        Err(failure) => Err(StartFailure::Create(failure.message)),
    }
}

pub(crate) fn now_nanos() -> i64 {
    i64::try_from(Timestamp::now().as_nanosecond()).unwrap_or(i64::MAX)
}

/// Number of a signal by name or number; SIGTERM for what is unknown.
fn stop_signal(text: &str) -> i32 {
    let name = text.trim().to_uppercase();
    if let Ok(number) = name.parse() {
        return number;
    }
    let name = if name.starts_with("SIG") {
        name
    } else {
        format!("SIG{name}")
    };
    name.parse::<nix::sys::signal::Signal>()
        .map_or(15, |signal| signal as i32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stop_signals_are_read_by_name_and_number() {
        for (text, expected) in [
            ("", 15),
            ("SIGINT", 2),
            ("quit", 3),
            ("9", 9),
            ("nonsense", 15),
        ] {
            assert_eq!(stop_signal(text), expected, "{text}");
        }
    }
}
