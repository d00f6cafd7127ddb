//! What a pod needs before its containers: sandbox, volumes, files in `/etc`; all at the same time.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use futures::future::{join, join_all};
use k8s_openapi::api::authentication::v1::{TokenRequest, TokenRequestSpec};
use k8s_openapi::api::core::v1::{
    ConfigMap, PersistentVolume, PersistentVolumeClaim, Pod, Secret, ServiceAccount,
};
use kube::Api;
use kube::api::PostParams;

use crate::container_spec::Place;
use crate::environment::{Facts, Names, Objects};
use crate::images::{ImageRequest, PullPolicy, ResolvedImage, RootFilesystem};
use crate::launcher::protocol::{Interface, SandboxRequest};
use crate::shared::Shared;
use crate::volume_files;
use crate::volumes::{self, Plan, VolumeAnswers};

/// A pod that containers may be started in.
#[derive(Clone)]
pub(crate) struct Prepared {
    /// The pod as its volumes show it.
    pub pod: Arc<Pod>,
    pub facts: Facts,
    pub places: BTreeMap<String, Place>,
    pub answers: Arc<VolumeAnswers>,
    /// Image volumes: name and layers, bottom first.
    pub images: BTreeMap<String, ResolvedImage>,
    pub etc: PathBuf,
    pub shm: PathBuf,
    pub own_network: bool,
}

/// Prepares a pod.
///
/// # Errors
/// What to say in an event; to be tried again.
pub(crate) async fn prepare(
    shared: &Arc<Shared>,
    pod: &Arc<Pod>,
    has_sandbox: bool,
    interface: Option<Interface>,
) -> Result<Prepared, String> {
    let uid = pod.metadata.uid.clone().unwrap_or_default();
    let spec = pod.spec.as_ref().ok_or("the pod has no spec")?;
    let mut facts = shared.facts.clone();
    facts.hostname = hostname(pod);
    facts.node_name = shared.name.clone();
    facts.pod_ip = interface.as_ref().map_or_else(
        || facts.host_ip.clone(),
        |interface| interface.address.to_string(),
    );
    let etc = shared.layout.etc(&uid);
    let shm = shared.layout.pod_memory(&uid).join("shm");
    write_etc(&etc, pod, &facts)
        .map_err(|error| format!("cannot write the pod's /etc files: {error}"))?;
    volume_files::directory(&shm, 0o1777, None)
        .map_err(|error| format!("cannot make the pod's /dev/shm: {error}"))?;
    let tmpfs = limited_memory(shared, pod, &uid);
    let sandbox = async {
        if has_sandbox {
            return Ok(());
        }
        let request = SandboxRequest {
            pod: uid.clone(),
            hostname: facts.hostname.clone(),
            network: interface.clone(),
            host_ipc: spec.host_ipc == Some(true),
            tmpfs,
        };
        shared
            .launcher()
            .sandbox(request)
            .await
            .map_err(|failure| failure.message)
    };
    // Both to their ends, even if one fails: a sandbox on its way must not be asked for again.
    let (sandbox, volumes) = join(sandbox, set_up_volumes(shared, pod, &facts)).await;
    sandbox?;
    let (places, answers, images) = volumes?;
    Ok(Prepared {
        pod: pod.clone(),
        facts,
        places,
        answers: Arc::new(answers),
        images,
        etc,
        shm,
        own_network: interface.is_some(),
    })
}

/// Hostname of a pod (K-323).
pub(crate) fn hostname(pod: &Pod) -> String {
    let own = pod
        .spec
        .as_ref()
        .and_then(|spec| spec.hostname.clone())
        .filter(|name| !name.is_empty());
    let name = own
        .or_else(|| pod.metadata.name.clone())
        .unwrap_or_default();
    let cut: String = name.chars().take(63).collect();
    cut.trim_end_matches(['-', '.']).to_string()
}

/// K-321, K-322: hosts as Kubernetes writes it; the machine's resolver.
fn write_etc(etc: &std::path::Path, pod: &Pod, facts: &Facts) -> io::Result<()> {
    fs::create_dir_all(etc)?;
    fs::write(etc.join("hosts"), hosts(pod, facts))?;
    fs::write(etc.join("hostname"), format!("{}\n", facts.hostname))?;
    let resolver = fs::read("/etc/resolv.conf").unwrap_or_default();
    fs::write(etc.join("resolv.conf"), resolver)
}

fn hosts(pod: &Pod, facts: &Facts) -> String {
    let mut text = String::from(
        "# Kubernetes-managed hosts file.\n127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\nfe00::0\tip6-localnet\nfe00::0\tip6-mcastprefix\nfe00::1\tip6-allnodes\nfe00::2\tip6-allrouters\n",
    );
    if !facts.pod_ip.is_empty() {
        text.push_str(&format!("{}\t{}\n", facts.pod_ip, facts.hostname));
    }
    let aliases: Vec<_> = pod
        .spec
        .iter()
        .flat_map(|spec| spec.host_aliases.iter().flatten())
        .collect();
    if !aliases.is_empty() {
        text.push_str("\n# Entries added by HostAliases.\n");
        for alias in aliases {
            text.push_str(&format!(
                "{}\t{}\n",
                alias.ip,
                alias.hostnames.clone().unwrap_or_default().join("\t")
            ));
        }
    }
    text
}

/// Memory volumes with a limit are file systems of their own, which the launcher mounts.
fn limited_memory(shared: &Shared, pod: &Pod, uid: &str) -> Vec<(PathBuf, u64)> {
    let Some(spec) = &pod.spec else {
        return Vec::new();
    };
    let none = VolumeAnswers::default();
    let planned = volumes::mounted(spec)
        .filter(|volume| volume.empty_dir.is_some())
        .filter_map(
            |volume| match volumes::plan(pod, volume, &none, &Facts::default()) {
                Ok(Plan::Memory(Some(limit))) => {
                    let path = shared
                        .layout
                        .pod_memory(uid)
                        .join("volumes")
                        .join(&volume.name);
                    volume_files::directory(&path, 0o1777, None).ok()?;
                    Some((path, limit))
                }
                _ => None,
            },
        );
    planned.collect()
}

async fn set_up_volumes(
    shared: &Arc<Shared>,
    pod: &Pod,
    facts: &Facts,
) -> Result<
    (
        BTreeMap<String, Place>,
        VolumeAnswers,
        BTreeMap<String, ResolvedImage>,
    ),
    String,
> {
    let spec = pod.spec.as_ref().ok_or("the pod has no spec")?;
    let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
    let needs = volumes::needs(spec);
    let objects = async { fetch(&shared.client, namespace, &needs.names).await };
    let claims = async { fetch_claims(&shared.client, namespace, &needs.claims).await };
    let tokens = async { fetch_tokens(&shared.client, pod, &needs.tokens).await };
    let (objects, claims, tokens) = futures::future::try_join3(objects, claims, tokens).await?;
    let mut images = BTreeMap::new();
    for (volume, (reference, policy)) in &needs.images {
        let policy = pull_policy(policy.as_deref(), reference);
        let request = ImageRequest {
            reference: reference.clone(),
            policy,
            pull_secrets: pull_secrets(shared, pod).await,
        };
        let image = shared
            .images
            .resolve(request)
            .await
            .map_err(|error| error.to_string())?;
        images.insert(volume.clone(), image);
    }
    let answers = VolumeAnswers {
        objects,
        claims,
        tokens,
    };
    let places = write_volumes(shared, pod, &answers, facts, &images)?;
    Ok((places, answers, images))
}

/// Makes or updates the volumes of a pod from what is known.
pub(crate) fn write_volumes(
    shared: &Shared,
    pod: &Pod,
    answers: &VolumeAnswers,
    facts: &Facts,
    images: &BTreeMap<String, ResolvedImage>,
) -> Result<BTreeMap<String, Place>, String> {
    let spec = pod.spec.as_ref().ok_or("the pod has no spec")?;
    let uid = pod.metadata.uid.as_deref().unwrap_or_default();
    let group = spec
        .security_context
        .as_ref()
        .and_then(|context| context.fs_group)
        .and_then(|group| u32::try_from(group).ok())
        .filter(|_| !shared.launcher().greeting().rootless);
    let mut places = BTreeMap::new();
    for volume in volumes::mounted(spec) {
        let failed = |reason: String| {
            format!(
                "MountVolume.SetUp failed for volume \"{}\" : {reason}",
                volume.name
            )
        };
        let on_disk = shared.layout.pod(uid).join("volumes").join(&volume.name);
        let in_memory = shared
            .layout
            .pod_memory(uid)
            .join("volumes")
            .join(&volume.name);
        let made = |result: io::Result<()>| result.map_err(|error| failed(error.to_string()));
        let place = match volumes::plan(pod, volume, answers, facts).map_err(failed)? {
            Plan::Empty => {
                made(volume_files::directory(&on_disk, 0o777, group))?;
                Place {
                    path: on_disk,
                    read_only: false,
                }
            }
            Plan::Memory(_) => {
                made(volume_files::directory(&in_memory, 0o1777, group))?;
                Place {
                    path: in_memory,
                    read_only: false,
                }
            }
            Plan::Files {
                files,
                in_memory: secret,
            } => {
                let path = if secret { in_memory } else { on_disk };
                made(volume_files::swap(&path, &files, group).map(drop))?;
                Place {
                    path,
                    read_only: true,
                }
            }
            Plan::Existing {
                path,
                read_only,
                check,
            } => {
                volume_files::check_host_path(&path, check).map_err(failed)?;
                Place { path, read_only }
            }
            Plan::Image => {
                let image = images
                    .get(&volume.name)
                    .ok_or_else(|| failed("the image is not present".into()))?;
                match &image.root {
                    // One layer needs no mount of its own.
                    RootFilesystem::Layers(layers) if layers.len() == 1 => Place {
                        path: layers[0].clone(),
                        read_only: true,
                    },
                    _ => Place {
                        path: shared
                            .launcher()
                            .greeting()
                            .scratch
                            .join(image_mount(uid, &volume.name)),
                        read_only: true,
                    },
                }
            }
        };
        places.insert(volume.name.clone(), place);
    }
    Ok(places)
}

/// Name of the mount point of an image volume below the launcher's scratch directory.
pub(crate) fn image_mount(uid: &str, volume: &str) -> String {
    format!("{uid}-{volume}")
}

/// `imagePullPolicy`, or its default (K-261).
pub(crate) fn pull_policy(policy: Option<&str>, reference: &str) -> PullPolicy {
    match policy {
        Some("Always") => PullPolicy::Always,
        Some("Never") => PullPolicy::Never,
        Some("IfNotPresent") => PullPolicy::IfNotPresent,
        _ => {
            let (name, digest) = reference
                .split_once('@')
                .map_or((reference, None), |(name, digest)| (name, Some(digest)));
            let tag = name
                .rsplit('/')
                .next()
                .and_then(|last| last.split_once(':'))
                .map(|(_, tag)| tag);
            if tag == Some("latest") || (tag.is_none() && digest.is_none()) {
                PullPolicy::Always
            } else {
                PullPolicy::IfNotPresent
            }
        }
    }
}

/// Contents of the pod's pull secrets; missing ones are ignored (K-324).
pub(crate) async fn pull_secrets(shared: &Shared, pod: &Pod) -> Vec<Vec<u8>> {
    let names = pod
        .spec
        .iter()
        .flat_map(|spec| spec.image_pull_secrets.iter().flatten())
        .map(|reference| reference.name.clone());
    let names = Names {
        secrets: names.collect(),
        ..Names::default()
    };
    if names.secrets.is_empty() {
        return Vec::new();
    }
    let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
    let Ok(objects) = fetch(&shared.client, namespace, &names).await else {
        return Vec::new();
    };
    let data = objects
        .secrets
        .into_values()
        .flatten()
        .filter_map(|secret| {
            let mut data = secret.data?;
            data.remove(".dockerconfigjson")
                .or_else(|| data.remove(".dockercfg"))
                .map(|bytes| bytes.0)
        });
    data.collect()
}

/// Reads objects of a namespace.
///
/// # Errors
/// If the API fails; what does not exist is `None`.
pub(crate) async fn fetch(
    client: &kube::Client,
    namespace: &str,
    names: &Names,
) -> Result<Objects, String> {
    let config_maps: Api<ConfigMap> = Api::namespaced(client.clone(), namespace);
    let secrets: Api<Secret> = Api::namespaced(client.clone(), namespace);
    let config_maps = join_all(
        names
            .config_maps
            .iter()
            .map(|name| async { (name.clone(), config_maps.get_opt(name).await) }),
    );
    let secrets = join_all(
        names
            .secrets
            .iter()
            .map(|name| async { (name.clone(), secrets.get_opt(name).await) }),
    );
    let (config_maps, secrets) = futures::future::join(config_maps, secrets).await;
    let mut objects = Objects::default();
    for (name, found) in config_maps {
        objects
            .config_maps
            .insert(name, found.map_err(|error| error.to_string())?);
    }
    for (name, found) in secrets {
        objects
            .secrets
            .insert(name, found.map_err(|error| error.to_string())?);
    }
    Ok(objects)
}

type Claims = BTreeMap<String, Option<(PersistentVolumeClaim, Option<PersistentVolume>)>>;

async fn fetch_claims(
    client: &kube::Client,
    namespace: &str,
    names: &[String],
) -> Result<Claims, String> {
    let claims: Api<PersistentVolumeClaim> = Api::namespaced(client.clone(), namespace);
    let volumes: Api<PersistentVolume> = Api::all(client.clone());
    let mut found = Claims::new();
    for name in names {
        let claim = claims
            .get_opt(name)
            .await
            .map_err(|error| error.to_string())?;
        let with_volume = match claim {
            None => None,
            Some(claim) => {
                let bound = claim
                    .spec
                    .as_ref()
                    .and_then(|spec| spec.volume_name.clone())
                    .filter(|name| !name.is_empty());
                let volume = match bound {
                    Some(volume) => volumes
                        .get_opt(&volume)
                        .await
                        .map_err(|error| error.to_string())?,
                    None => None,
                };
                Some((claim, volume))
            }
        };
        found.insert(name.clone(), with_volume);
    }
    Ok(found)
}

async fn fetch_tokens(
    client: &kube::Client,
    pod: &Pod,
    wanted: &[(String, i64)],
) -> Result<BTreeMap<(String, i64), String>, String> {
    let mut tokens = BTreeMap::new();
    if wanted.is_empty() {
        return Ok(tokens);
    }
    let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
    let accounts: Api<ServiceAccount> = Api::namespaced(client.clone(), namespace);
    let account = pod
        .spec
        .as_ref()
        .and_then(|spec| spec.service_account_name.as_deref())
        .unwrap_or("default");
    for (audience, seconds) in wanted {
        let request = TokenRequest {
            spec: Some(TokenRequestSpec {
                audiences: (!audience.is_empty()).then(|| vec![audience.clone()]),
                expiration_seconds: Some(*seconds),
                bound_object_ref: Some(
                    k8s_openapi::api::authentication::v1::BoundObjectReference {
                        api_version: Some("v1".into()),
                        kind: Some("Pod".into()),
                        name: pod.metadata.name.clone(),
                        uid: pod.metadata.uid.clone(),
                    },
                ),
            }),
            ..TokenRequest::default()
        };
        let answer = accounts
            .create_token_request(account, &PostParams::default(), &request)
            .await;
        let token = answer
            .map_err(|error| format!("failed to fetch token: {error}"))?
            .status
            .and_then(|status| status.token)
            .ok_or("failed to fetch token: the answer has none")?;
        tokens.insert((audience.clone(), *seconds), token);
    }
    Ok(tokens)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    // K-261
    #[test]
    fn latest_and_untagged_images_are_asked_for_always() {
        let cases = [
            ("a", PullPolicy::Always),
            ("a:latest", PullPolicy::Always),
            ("a:latest@sha256:1", PullPolicy::Always),
            ("r:5000/a", PullPolicy::Always),
            ("a:1", PullPolicy::IfNotPresent),
            ("a@sha256:1", PullPolicy::IfNotPresent),
        ];
        for (reference, expected) in cases {
            assert_eq!(pull_policy(None, reference), expected, "{reference}");
        }
        assert_eq!(pull_policy(Some("Never"), "a"), PullPolicy::Never);
    }

    // K-321, K-323
    #[test]
    fn hosts_and_hostname_are_kubernetes_own() {
        let pod: Pod = serde_json::from_value(json!({
            "metadata": {"name": format!("{}-x", "n".repeat(62))},
            "spec": {"containers": [], "hostAliases": [{"ip": "1.2.3.4", "hostnames": ["a", "b"]}]}
        }))
        .expect("a pod");
        assert_eq!(hostname(&pod), "n".repeat(62));
        let text = hosts(
            &pod,
            &Facts {
                pod_ip: "10.0.0.2".into(),
                hostname: "h".into(),
                ..Facts::default()
            },
        );
        assert!(text.starts_with("# Kubernetes-managed hosts file.\n127.0.0.1\tlocalhost\n"));
        assert!(text.ends_with("10.0.0.2\th\n\n# Entries added by HostAliases.\n1.2.3.4\ta\tb\n"));
    }
}
