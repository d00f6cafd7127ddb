//! Who a container runs as: security contexts over the image's USER (K-300, K-315, K-316).

use std::fs;
use std::path::{Path, PathBuf};

use k8s_openapi::api::core::v1::{Container, Pod};

use crate::images::RootFilesystem;

/// Numeric identity of a container's first process.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Identity {
    pub uid: u32,
    pub gid: u32,
    pub groups: Vec<u32>,
}

/// Texts of an image's `/etc/passwd` and `/etc/group`.
#[derive(Clone, Debug, Default)]
pub(crate) struct Accounts {
    pub passwd: String,
    pub group: String,
}

impl Accounts {
    /// Reads them from an image without mounting it: the topmost layer that has the file decides.
    pub fn read(root: &RootFilesystem) -> Self {
        let host = [PathBuf::from("/")];
        let layers = match root {
            RootFilesystem::Host => &host[..],
            RootFilesystem::Layers(layers) => layers,
        };
        let read = |name: &str| {
            layers
                .iter()
                .rev()
                .find_map(|layer| plain_file(layer, name))
                .unwrap_or_default()
        };
        Self {
            passwd: read("passwd"),
            group: read("group"),
        }
    }

    fn user(&self, matches: impl Fn(&[&str]) -> bool) -> Option<(u32, u32, String)> {
        self.passwd.lines().find_map(|line| {
            let fields: Vec<&str> = line.split(':').collect();
            if fields.len() < 4 || !matches(&fields) {
                return None;
            }
            Some((
                fields[2].parse().ok()?,
                fields[3].parse().ok()?,
                fields[0].to_string(),
            ))
        })
    }

    fn group_id(&self, name: &str) -> Option<u32> {
        self.group.lines().find_map(|line| {
            let fields: Vec<&str> = line.split(':').collect();
            (fields.first() == Some(&name))
                .then(|| fields.get(2)?.parse().ok())
                .flatten()
        })
    }

    fn groups_of(&self, user: &str) -> Vec<u32> {
        let lines = self.group.lines().filter_map(|line| {
            let fields: Vec<&str> = line.split(':').collect();
            let member = fields.get(3)?.split(',').any(|member| member == user);
            if member {
                fields.get(2)?.parse().ok()
            } else {
                None
            }
        });
        lines.collect()
    }
}

/// Content of `/etc/<name>` in a layer, if it is a plain file in a plain directory: a link might lead out of the layer.
fn plain_file(layer: &Path, name: &str) -> Option<String> {
    let directory = layer.join("etc");
    let file = directory.join(name);
    let plain = fs::symlink_metadata(&directory).ok()?.is_dir()
        && fs::symlink_metadata(&file).ok()?.is_file();
    plain.then(|| fs::read_to_string(&file).ok()).flatten()
}

/// The identity of a container.
///
/// # Errors
/// The message of a `CreateContainerConfigError`.
pub(crate) fn identity(
    pod: &Pod,
    container: &Container,
    image_user: &str,
    accounts: impl FnOnce() -> Accounts,
) -> Result<Identity, String> {
    let pod_context = pod
        .spec
        .as_ref()
        .and_then(|spec| spec.security_context.as_ref());
    let own = container.security_context.as_ref();
    let run_as_user = own
        .and_then(|own| own.run_as_user)
        .or_else(|| pod_context.and_then(|pod| pod.run_as_user));
    let run_as_group = own
        .and_then(|own| own.run_as_group)
        .or_else(|| pod_context.and_then(|pod| pod.run_as_group));
    let non_root = own
        .and_then(|own| own.run_as_non_root)
        .or_else(|| pod_context.and_then(|pod| pod.run_as_non_root));
    let (image_name, image_group) = match image_user.split_once(':') {
        Some((user, group)) => (user, Some(group)),
        None => (image_user, None),
    };
    if non_root == Some(true) {
        let text = |value: Option<&String>| value.cloned().unwrap_or_default();
        let about = format!(
            "(pod: \"{}_{}({})\", container: {})",
            text(pod.metadata.name.as_ref()),
            text(pod.metadata.namespace.as_ref()),
            text(pod.metadata.uid.as_ref()),
            container.name
        );
        match run_as_user {
            Some(0) => {
                return Err(format!(
                    "container's runAsUser breaks non-root policy {about}"
                ));
            }
            Some(_) => {}
            None if image_name.is_empty() || image_name.parse() == Ok(0u32) => {
                return Err(format!(
                    "container has runAsNonRoot and image will run as root {about}"
                ));
            }
            None if image_name.parse::<u32>().is_err() => {
                return Err(format!(
                    "container has runAsNonRoot and image has non-numeric user ({image_name}), cannot verify user is non-root {about}"
                ));
            }
            None => {}
        }
    }
    let mut identity = Identity::default();
    let number = |id: i64| u32::try_from(id).map_err(|_| format!("invalid user or group id {id}"));
    let root = run_as_user.map_or(
        image_name.is_empty() || image_name == "0" || image_name == "root",
        |user| user == 0,
    );
    // The usual case needs no look at the image's files.
    if !root || image_group.is_some() {
        let accounts = accounts();
        let (uid, found) = match run_as_user {
            Some(user) => {
                let uid = number(user)?;
                (uid, accounts.user(|fields| fields[2] == uid.to_string()))
            }
            None => match image_name.parse::<u32>() {
                Ok(uid) => (uid, accounts.user(|fields| fields[2] == image_name)),
                Err(_) => {
                    let found = accounts
                        .user(|fields| fields[0] == image_name)
                        .ok_or_else(|| format!("unable to find user {image_name}: no matching entries in passwd file"))?;
                    (found.0, Some(found))
                }
            },
        };
        identity.uid = uid;
        if let Some((_, gid, name)) = found {
            identity.gid = gid;
            identity.groups = accounts.groups_of(&name);
        }
        if run_as_user.is_none()
            && let Some(group) = image_group
        {
            identity.gid = match group.parse() {
                Ok(gid) => gid,
                Err(_) => accounts.group_id(group).ok_or_else(|| {
                    format!("unable to find group {group}: no matching entries in group file")
                })?,
            };
        }
    }
    if let Some(group) = run_as_group {
        identity.gid = number(group)?;
    }
    let supplemental = pod_context
        .and_then(|context| context.supplemental_groups.clone())
        .unwrap_or_default();
    for group in supplemental
        .into_iter()
        .chain(pod_context.and_then(|context| context.fs_group))
    {
        identity.groups.push(number(group)?);
    }
    identity.groups.sort_unstable();
    identity.groups.dedup();
    Ok(identity)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    // K-300, K-315, K-316
    #[test]
    fn security_contexts_override_the_images_user() {
        let accounts = || Accounts {
            passwd: "root:x:0:0::/root:/bin/sh\nann:x:1000:1001::/:/bin/sh\n".into(),
            group: "root:x:0:\nstaff:x:50:bob,ann\n".into(),
        };
        let about = "(pod: \"p_ns(u)\", container: c)";
        let id = |uid, gid, groups: &[u32]| {
            Ok(Identity {
                uid,
                gid,
                groups: groups.to_vec(),
            })
        };
        let cases: Vec<(Value, Value, &str, Result<Identity, String>)> = vec![
            (json!({}), json!({}), "", id(0, 0, &[])),
            (json!({}), json!({}), "ann", id(1000, 1001, &[50])),
            (json!({}), json!({}), "1000:staff", id(1000, 50, &[50])),
            (json!({}), json!({}), "7", id(7, 0, &[])),
            (
                json!({"runAsUser": 1000}),
                json!({}),
                "",
                id(1000, 1001, &[50]),
            ),
            (
                json!({"runAsUser": 5, "fsGroup": 9, "supplementalGroups": [8, 9]}),
                json!({"runAsUser": 6, "runAsGroup": 7}),
                "",
                id(6, 7, &[8, 9]),
            ),
            (
                json!({}),
                json!({}),
                "eve",
                Err("unable to find user eve: no matching entries in passwd file".into()),
            ),
            (
                json!({"runAsNonRoot": true}),
                json!({}),
                "",
                Err(format!(
                    "container has runAsNonRoot and image will run as root {about}"
                )),
            ),
            (
                json!({"runAsNonRoot": true}),
                json!({}),
                "ann",
                Err(format!(
                    "container has runAsNonRoot and image has non-numeric user (ann), cannot verify user is non-root {about}"
                )),
            ),
            (
                json!({"runAsNonRoot": true}),
                json!({"runAsUser": 0}),
                "",
                Err(format!(
                    "container's runAsUser breaks non-root policy {about}"
                )),
            ),
            (
                json!({"runAsNonRoot": true}),
                json!({"runAsNonRoot": false}),
                "",
                id(0, 0, &[]),
            ),
        ];
        for (pod_context, own, image, expected) in cases {
            let pod: Pod = serde_json::from_value(json!({
                "metadata": {"name": "p", "namespace": "ns", "uid": "u"},
                "spec": {"securityContext": pod_context, "containers": [{"name": "c", "securityContext": own}]}
            }))
            .expect("a pod");
            let container = &pod.spec.as_ref().expect("a spec").containers[0];
            assert_eq!(
                identity(&pod, container, image, accounts),
                expected,
                "{image} {pod_context}"
            );
        }
    }

    #[test]
    fn a_link_in_a_layer_does_not_lead_to_the_machines_files() {
        let layer = tempfile::tempdir().expect("a directory");
        fs::create_dir(layer.path().join("etc")).expect("made");
        std::os::unix::fs::symlink("/etc/passwd", layer.path().join("etc/passwd")).expect("linked");
        assert_eq!(plain_file(layer.path(), "passwd"), None);
    }
}
