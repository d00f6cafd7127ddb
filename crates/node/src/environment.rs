//! The environment and command line of a container: sources, order, `$(VAR)` (K-297 to K-301).

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::core::v1::{
    ConfigMap, Container, EnvVar, ObjectFieldSelector, Pod, ResourceFieldSelector, Secret,
};

use crate::images::ImageConfig;
use crate::options::ServiceAddress;
use crate::quantity;

/// Objects of the pod's namespace that its containers or volumes refer to; `None` for what does not exist.
#[derive(Clone, Debug, Default)]
pub(crate) struct Objects {
    pub config_maps: BTreeMap<String, Option<ConfigMap>>,
    pub secrets: BTreeMap<String, Option<Secret>>,
}

/// Names of such objects.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Names {
    pub config_maps: BTreeSet<String>,
    pub secrets: BTreeSet<String>,
}

impl Objects {
    /// Value of a key, as text.
    fn config_value(&self, name: &str, key: &str) -> Result<Option<String>, String> {
        let Some(Some(map)) = self.config_maps.get(name) else {
            return Err(format!("configmap \"{name}\" not found"));
        };
        Ok(map.data.as_ref().and_then(|data| data.get(key)).cloned())
    }

    fn secret_value(&self, name: &str, key: &str) -> Result<Option<String>, String> {
        let Some(Some(secret)) = self.secrets.get(name) else {
            return Err(format!("secret \"{name}\" not found"));
        };
        let value = secret.data.as_ref().and_then(|data| data.get(key));
        Ok(value.map(|bytes| String::from_utf8_lossy(&bytes.0).into_owned()))
    }
}

/// What the node knows of a pod and the API does not say.
#[derive(Clone, Debug, Default)]
pub(crate) struct Facts {
    pub pod_ip: String,
    pub host_ip: String,
    pub node_name: String,
    pub hostname: String,
    pub api: Option<ServiceAddress>,
    /// Allocatable of the node, which stands for limits that are not set.
    pub cpus: u64,
    pub memory: u64,
}

/// Which objects the environment of a container needs.
pub(crate) fn needs(container: &Container) -> Names {
    let mut names = Names::default();
    for source in container.env_from.iter().flatten() {
        names.config_maps.extend(
            source
                .config_map_ref
                .as_ref()
                .map(|reference| reference.name.clone()),
        );
        names.secrets.extend(
            source
                .secret_ref
                .as_ref()
                .map(|reference| reference.name.clone()),
        );
    }
    for source in container
        .env
        .iter()
        .flatten()
        .filter_map(|entry| entry.value_from.as_ref())
    {
        names.config_maps.extend(
            source
                .config_map_key_ref
                .as_ref()
                .map(|reference| reference.name.clone()),
        );
        names.secrets.extend(
            source
                .secret_key_ref
                .as_ref()
                .map(|reference| reference.name.clone()),
        );
    }
    names
}

/// The environment of a container below which the image's lies: service address, `envFrom`, `env`, in that order.
///
/// # Errors
/// The message of a `CreateContainerConfigError` (K-274).
pub(crate) fn environment(
    pod: &Pod,
    container: &Container,
    objects: &Objects,
    facts: &Facts,
) -> Result<Vec<(String, String)>, String> {
    let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
    let mut made = Ordered::default();
    if let Some(api) = &facts.api {
        made.set("KUBERNETES_SERVICE_HOST", api.host.clone());
        made.set("KUBERNETES_SERVICE_PORT", api.port.to_string());
        made.set("KUBERNETES_SERVICE_PORT_HTTPS", api.port.to_string());
    }
    for source in container.env_from.iter().flatten() {
        let prefix = source.prefix.as_deref().unwrap_or_default();
        if let Some(reference) = &source.config_map_ref {
            match objects.config_maps.get(&reference.name) {
                Some(Some(map)) => {
                    for (key, value) in map.data.iter().flatten() {
                        made.set(&format!("{prefix}{key}"), value.clone());
                    }
                }
                _ if reference.optional == Some(true) => {}
                _ => return Err(format!("configmap \"{}\" not found", reference.name)),
            }
        }
        if let Some(reference) = &source.secret_ref {
            match objects.secrets.get(&reference.name) {
                Some(Some(secret)) => {
                    for (key, value) in secret.data.iter().flatten() {
                        made.set(
                            &format!("{prefix}{key}"),
                            String::from_utf8_lossy(&value.0).into_owned(),
                        );
                    }
                }
                _ if reference.optional == Some(true) => {}
                _ => return Err(format!("secret \"{}\" not found", reference.name)),
            }
        }
    }
    for entry in container.env.iter().flatten() {
        if let Some(value) = value(entry, pod, container, objects, facts, namespace, &made)? {
            made.set(&entry.name, value);
        }
    }
    Ok(made.entries)
}

fn value(
    entry: &EnvVar,
    pod: &Pod,
    container: &Container,
    objects: &Objects,
    facts: &Facts,
    namespace: &str,
    made: &Ordered,
) -> Result<Option<String>, String> {
    let Some(source) = &entry.value_from else {
        let text = entry.value.as_deref().unwrap_or_default();
        return Ok(Some(expand(text, |name| made.get(name))));
    };
    if let Some(reference) = &source.config_map_key_ref {
        let optional = reference.optional == Some(true);
        return match objects.config_value(&reference.name, &reference.key) {
            Ok(Some(value)) => Ok(Some(value)),
            _ if optional => Ok(None),
            Ok(None) => Err(format!(
                "couldn't find key {} in ConfigMap {namespace}/{}",
                reference.key, reference.name
            )),
            Err(message) => Err(message),
        };
    }
    if let Some(reference) = &source.secret_key_ref {
        let optional = reference.optional == Some(true);
        return match objects.secret_value(&reference.name, &reference.key) {
            Ok(Some(value)) => Ok(Some(value)),
            _ if optional => Ok(None),
            Ok(None) => Err(format!(
                "couldn't find key {} in Secret {namespace}/{}",
                reference.key, reference.name
            )),
            Err(message) => Err(message),
        };
    }
    if let Some(reference) = &source.field_ref {
        return field(reference, pod, facts).map(Some);
    }
    if let Some(reference) = &source.resource_field_ref {
        return resource(reference, pod, Some(container), facts).map(Some);
    }
    Ok(Some(String::new()))
}

/// Value of a `fieldRef` (K-298).
pub(crate) fn field(
    reference: &ObjectFieldSelector,
    pod: &Pod,
    facts: &Facts,
) -> Result<String, String> {
    let metadata = &pod.metadata;
    let spec = pod.spec.as_ref();
    let text = |value: Option<&String>| value.cloned().unwrap_or_default();
    let path = reference.field_path.as_str();
    if let Some((map, key)) = subscript(path) {
        let values = match map {
            "metadata.labels" => metadata.labels.as_ref(),
            "metadata.annotations" => metadata.annotations.as_ref(),
            _ => return Err(format!("unsupported fieldPath: {path}")),
        };
        return Ok(text(values.and_then(|values| values.get(key))));
    }
    Ok(match path {
        "metadata.name" => text(metadata.name.as_ref()),
        "metadata.namespace" => text(metadata.namespace.as_ref()),
        "metadata.uid" => text(metadata.uid.as_ref()),
        "metadata.labels" => lines(metadata.labels.as_ref()),
        "metadata.annotations" => lines(metadata.annotations.as_ref()),
        "spec.nodeName" => facts.node_name.clone(),
        "spec.serviceAccountName" => text(spec.and_then(|spec| spec.service_account_name.as_ref())),
        "status.podIP" | "status.podIPs" => facts.pod_ip.clone(),
        "status.hostIP" | "status.hostIPs" => facts.host_ip.clone(),
        _ => return Err(format!("unsupported fieldPath: {path}")),
    })
}

/// `metadata.labels['key']` as map and key.
fn subscript(path: &str) -> Option<(&str, &str)> {
    let (map, rest) = path.split_once('[')?;
    let key = rest.strip_suffix(']')?;
    let key = key
        .strip_prefix('\'')
        .and_then(|key| key.strip_suffix('\''))
        .or_else(|| key.strip_prefix('"').and_then(|key| key.strip_suffix('"')))?;
    Some((map, key))
}

/// Labels or annotations as a downward API file shows them (K-304).
fn lines(values: Option<&BTreeMap<String, String>>) -> String {
    let lines: Vec<String> = values
        .into_iter()
        .flatten()
        .map(|(key, value)| format!("{key}={}", quoted(value)))
        .collect();
    lines.join("\n")
}

/// Go's `%q` for what annotations hold.
fn quoted(value: &str) -> String {
    let mut out = String::from("\"");
    for character in value.chars() {
        match character {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            other if (other as u32) < 0x20 || other == '\x7f' => {
                out.push_str(&format!("\\x{:02x}", other as u32))
            }
            other => out.push(other),
        }
    }
    out.push('"');
    out
}

/// Value of a `resourceFieldRef`: rounded up in units of the divisor; an unset limit is the node's allocatable (K-298).
pub(crate) fn resource(
    reference: &ResourceFieldSelector,
    pod: &Pod,
    container: Option<&Container>,
    facts: &Facts,
) -> Result<String, String> {
    let named = reference
        .container_name
        .as_deref()
        .filter(|name| !name.is_empty());
    let spec = pod.spec.as_ref();
    let container = match named {
        Some(name) => spec
            .into_iter()
            .flat_map(|spec| {
                spec.containers
                    .iter()
                    .chain(spec.init_containers.iter().flatten())
            })
            .find(|container| container.name == name),
        None => container,
    };
    let container =
        container.ok_or_else(|| format!("container {} not found", named.unwrap_or_default()))?;
    let (kind, resource) = reference
        .resource
        .split_once('.')
        .ok_or_else(|| format!("unsupported container resource : {}", reference.resource))?;
    let resources = container.resources.as_ref();
    let list = match kind {
        "limits" => resources.and_then(|resources| resources.limits.as_ref()),
        "requests" => resources.and_then(|resources| resources.requests.as_ref()),
        _ => {
            return Err(format!(
                "unsupported container resource : {}",
                reference.resource
            ));
        }
    };
    let set = list
        .and_then(|list| list.get(resource))
        .and_then(|value| quantity::nanos(&value.0));
    let fallback = match (kind, resource) {
        ("limits", "cpu") => i128::from(facts.cpus) * quantity::ONE,
        ("limits", "memory") => i128::from(facts.memory) * quantity::ONE,
        _ => 0,
    };
    let divisor = reference
        .divisor
        .as_ref()
        .and_then(|divisor| quantity::nanos(&divisor.0))
        .filter(|divisor| *divisor > 0);
    let (value, divisor) = (set.unwrap_or(fallback), divisor.unwrap_or(quantity::ONE));
    Ok(((value + divisor - 1) / divisor).to_string())
}

/// Kubernetes' `$(VAR)`: unknown names stay, `$$` is a dollar.
pub(crate) fn expand<'a>(text: &str, lookup: impl Fn(&str) -> Option<&'a str>) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        out.push_str(&rest[..at]);
        let after = &rest[at + 1..];
        if let Some(remaining) = after.strip_prefix('$') {
            out.push('$');
            rest = remaining;
        } else if let Some(body) = after.strip_prefix('(') {
            match body.find(')') {
                Some(end) => {
                    match lookup(&body[..end]) {
                        Some(value) => out.push_str(value),
                        None => out.push_str(&rest[at..at + 3 + end]),
                    }
                    rest = &body[end + 1..];
                }
                None => {
                    out.push_str("$(");
                    rest = body;
                }
            }
        } else {
            out.push('$');
            rest = after;
        }
    }
    out.push_str(rest);
    out
}

/// A container's command line and whole environment, image and pod together (K-300).
///
/// # Errors
/// If there is nothing to run.
pub(crate) fn process(
    container: &Container,
    image: &ImageConfig,
    environment: &[(String, String)],
    hostname: &str,
) -> Result<(Vec<String>, Vec<String>), String> {
    let mut all = Ordered::default();
    for entry in &image.env {
        if let Some((name, value)) = entry.split_once('=') {
            all.set(name, value.to_string());
        }
    }
    all.set("HOSTNAME", hostname.to_string());
    for (name, value) in environment {
        all.set(name, value.clone());
    }
    if all.get("PATH").is_none() {
        all.set(
            "PATH",
            "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin".to_string(),
        );
    }
    let pod_only: BTreeMap<&str, &str> = environment
        .iter()
        .map(|(name, value)| (name.as_str(), value.as_str()))
        .collect();
    let expanded = |words: &Option<Vec<String>>| -> Vec<String> {
        words
            .iter()
            .flatten()
            .map(|word| expand(word, |name| pod_only.get(name).copied()))
            .collect()
    };
    let (command, args) = (expanded(&container.command), expanded(&container.args));
    let mut line = match (command.is_empty(), args.is_empty()) {
        (false, _) => command,
        (true, _) => image.entrypoint.clone(),
    };
    let own_command = container
        .command
        .as_ref()
        .is_some_and(|command| !command.is_empty());
    match args.is_empty() {
        false => line.extend(args),
        true if own_command => {}
        true => line.extend(image.cmd.iter().cloned()),
    }
    if line.is_empty() {
        return Err("no command specified".to_string());
    }
    let variables = all
        .entries
        .into_iter()
        .map(|(name, value)| format!("{name}={value}"))
        .collect();
    Ok((line, variables))
}

/// Variables in the order they were first set; the last value counts.
#[derive(Default)]
struct Ordered {
    entries: Vec<(String, String)>,
}

impl Ordered {
    fn set(&mut self, name: &str, value: String) {
        match self
            .entries
            .iter_mut()
            .find(|(existing, _)| existing == name)
        {
            Some(entry) => entry.1 = value,
            None => self.entries.push((name.to_string(), value)),
        }
    }

    fn get(&self, name: &str) -> Option<&str> {
        self.entries
            .iter()
            .find(|(existing, _)| existing == name)
            .map(|(_, value)| value.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn pod() -> Pod {
        serde_json::from_value(json!({
            "metadata": {"name": "p", "namespace": "ns", "uid": "u", "labels": {"b": "2", "a": "x \"y\"\n"}},
            "spec": {"containers": [{"name": "c", "resources": {"limits": {"cpu": "1500m"}}}]}
        }))
        .expect("a pod")
    }

    // K-297
    #[test]
    fn variables_expand_and_unknown_ones_stay() {
        let lookup = |name: &str| (name == "A").then_some("1");
        let cases = [
            ("$(A)", "1"),
            ("x$(A)y$(A)", "x1y1"),
            ("$(B)", "$(B)"),
            ("$$(A)", "$(A)"),
            ("$$$(A)", "$1"),
            ("$A", "$A"),
            ("$(A", "$(A"),
            ("$", "$"),
            ("$$", "$"),
            ("", ""),
        ];
        for (text, expected) in cases {
            assert_eq!(expand(text, lookup), expected, "{text}");
        }
    }

    // K-297, K-298, K-299, K-301
    #[test]
    fn env_follows_env_from_and_sees_only_earlier_names() {
        let container: Container = serde_json::from_value(json!({
            "name": "c",
            "envFrom": [
                {"prefix": "P_", "configMapRef": {"name": "m"}},
                {"secretRef": {"name": "absent", "optional": true}},
                {"secretRef": {"name": "s"}}],
            "env": [
                {"name": "LATE", "value": "$(EARLY)"},
                {"name": "EARLY", "value": "$(P_k)-$(token)"},
                {"name": "AFTER", "value": "$(EARLY)"},
                {"name": "token", "value": "mine"},
                {"name": "NAME", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
                {"name": "LABEL", "valueFrom": {"fieldRef": {"fieldPath": "metadata.labels['b']"}}},
                {"name": "CPU", "valueFrom": {"resourceFieldRef": {"resource": "limits.cpu", "containerName": "c"}}},
                {"name": "MILLI", "valueFrom": {"resourceFieldRef": {"resource": "limits.cpu", "containerName": "c", "divisor": "1m"}}},
                {"name": "NONE", "valueFrom": {"configMapKeyRef": {"name": "m", "key": "no", "optional": true}}}]
        }))
        .expect("a container");
        let objects = Objects {
            config_maps: [(
                "m".to_string(),
                serde_json::from_value(json!({"data": {"k": "v"}})).ok(),
            )]
            .into(),
            secrets: [(
                "s".to_string(),
                serde_json::from_value(json!({"data": {"token": "dG9r"}})).ok(),
            )]
            .into(),
        };
        let facts = Facts {
            api: Some(ServiceAddress {
                host: "h".into(),
                port: 1,
            }),
            ..Facts::default()
        };
        let made = environment(&pod(), &container, &objects, &facts).expect("an environment");
        let shown: Vec<String> = made
            .iter()
            .map(|(name, value)| format!("{name}={value}"))
            .collect();
        assert_eq!(
            shown,
            [
                "KUBERNETES_SERVICE_HOST=h",
                "KUBERNETES_SERVICE_PORT=1",
                "KUBERNETES_SERVICE_PORT_HTTPS=1",
                "P_k=v",
                "token=mine",
                "LATE=$(EARLY)",
                "EARLY=v-tok",
                "AFTER=v-tok",
                "NAME=p",
                "LABEL=2",
                "CPU=2",
                "MILLI=1500",
            ]
        );
        let names = needs(&container);
        assert!(names.config_maps.contains("m") && names.secrets.contains("absent"));
    }

    // K-274
    #[test]
    fn missing_objects_and_keys_are_named_as_the_kubelet_names_them() {
        let cases = [
            (
                json!({"configMapKeyRef": {"name": "x", "key": "k"}}),
                "configmap \"x\" not found",
            ),
            (
                json!({"secretKeyRef": {"name": "x", "key": "k"}}),
                "secret \"x\" not found",
            ),
            (
                json!({"configMapKeyRef": {"name": "m", "key": "k"}}),
                "couldn't find key k in ConfigMap ns/m",
            ),
            (
                json!({"secretKeyRef": {"name": "s", "key": "k"}}),
                "couldn't find key k in Secret ns/s",
            ),
        ];
        let objects = Objects {
            config_maps: [("m".to_string(), Some(ConfigMap::default()))].into(),
            secrets: [("s".to_string(), Some(Secret::default()))].into(),
        };
        for (source, expected) in cases {
            let container: Container = serde_json::from_value(
                json!({"name": "c", "env": [{"name": "E", "valueFrom": source}]}),
            )
            .expect("a container");
            let result = environment(&pod(), &container, &objects, &Facts::default());
            assert_eq!(result, Err(expected.to_string()));
        }
    }

    // K-300
    #[test]
    fn command_and_args_replace_the_images_as_kubernetes_has_it() {
        let image = ImageConfig {
            entrypoint: vec!["ep".into()],
            cmd: vec!["cmd".into()],
            env: vec!["PATH=/p".into(), "A=image".into()],
            ..ImageConfig::default()
        };
        let words = |list: &[&str]| {
            list.iter()
                .map(|word| (*word).to_string())
                .collect::<Vec<_>>()
        };
        let cases = [
            (None, None, words(&["ep", "cmd"])),
            (Some(words(&["c"])), None, words(&["c"])),
            (None, Some(words(&["$(A)"])), words(&["ep", "pod"])),
            (
                Some(words(&["c"])),
                Some(words(&["$(PATH)"])),
                words(&["c", "$(PATH)"]),
            ),
        ];
        for (command, args, expected) in cases {
            let container = Container {
                command,
                args,
                ..Container::default()
            };
            let (line, variables) =
                process(&container, &image, &[("A".into(), "pod".into())], "h").expect("a process");
            assert_eq!(line, expected);
            assert_eq!(variables, ["PATH=/p", "A=pod", "HOSTNAME=h"]);
        }
        assert!(process(&Container::default(), &ImageConfig::default(), &[], "h").is_err());
    }

    // K-304
    #[test]
    fn a_downward_file_lists_labels_sorted_and_quoted() {
        let reference = ObjectFieldSelector {
            field_path: "metadata.labels".into(),
            ..ObjectFieldSelector::default()
        };
        assert_eq!(
            field(&reference, &pod(), &Facts::default()).as_deref(),
            Ok("a=\"x \\\"y\\\"\\n\"\nb=\"2\"")
        );
    }
}
