//! What a pod lacks, read from the words of the node that cannot start it. Kubelets use the same words (K-274, K-306).

use std::fmt;

use tektite_api::v1::TaskRun;

/// Kinds as messages call them, and as manifests do.
const KINDS: [(&str, &str); 4] = [
    ("secret", "Secret"),
    ("configmap", "ConfigMap"),
    ("persistentvolumeclaim", "PersistentVolumeClaim"),
    ("serviceaccount", "ServiceAccount"),
];

/// An object of the run's namespace, or a key in one, that does not exist.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lacking {
    kind: &'static str,
    /// Messages about volumes name the key only.
    name: Option<String>,
    key: Option<String>,
    namespace: String,
}

impl Lacking {
    /// What `message` says is missing for this run, if it says so.
    pub fn read(message: &str, run: &TaskRun) -> Option<Self> {
        let namespace = run.metadata.namespace.clone();
        // Messages quoted in messages.
        let message = message.replace("\\\"", "\"");
        let mut found = key(&message).or_else(|| object(&message))?;
        found.namespace = namespace.unwrap_or_else(|| "default".to_owned());
        if let (None, Some(key)) = (&found.name, &found.key) {
            found.name = object_with_key(run, found.kind, key);
        }
        Some(found)
    }
}

impl fmt::Display for Lacking {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (kind, namespace) = (self.kind, &self.namespace);
        match (&self.name, &self.key) {
            (Some(name), Some(key)) => write!(
                f,
                "{kind} `{name}` in namespace `{namespace}` has no key `{key}`: add the key, or correct the reference to it"
            ),
            (None, Some(key)) => write!(
                f,
                "no key `{key}` in a {kind} of namespace `{namespace}` that a volume shows: add the key, or correct the \
                 volume's `items`"
            ),
            (name, None) => write!(
                f,
                "{kind} `{}` not found in namespace `{namespace}`: create it or add it to the manifests",
                name.as_deref().unwrap_or_default()
            ),
        }
    }
}

/// `secret "x" not found`
fn object(message: &str) -> Option<Lacking> {
    KINDS.iter().find_map(|(word, kind)| {
        let name = message
            .match_indices(&format!("{word} \""))
            .find_map(|(at, opening)| {
                let (name, rest) = message[at + opening.len()..].split_once('"')?;
                rest.starts_with(" not found").then_some(name)
            })?;
        Some(lacking(kind, Some(name), None))
    })
}

/// `couldn't find key k in Secret ns/x`, `secret references non-existent secret key: k`
fn key(message: &str) -> Option<Lacking> {
    if let Some((_, rest)) = message.split_once("couldn't find key ") {
        let (key, rest) = rest.split_once(" in ")?;
        let (kind, rest) = rest.split_once(' ')?;
        let kind = KINDS.iter().find(|(_, known)| *known == kind)?.1;
        let path = rest.split([' ', '"']).next()?.trim_end_matches('.');
        let name = path.split_once('/').map_or(path, |(_, name)| name);
        return Some(lacking(kind, Some(name), Some(key)));
    }
    [("secret key: ", "Secret"), ("config key: ", "ConfigMap")]
        .into_iter()
        .find_map(|(words, kind)| {
            let (_, rest) = message.split_once(&format!("references non-existent {words}"))?;
            let key = rest.split([' ', '"']).next()?;
            Some(lacking(kind, None, Some(key)))
        })
}

fn lacking(kind: &'static str, name: Option<&str>, key: Option<&str>) -> Lacking {
    Lacking {
        kind,
        name: name.map(str::to_owned),
        key: key.map(str::to_owned),
        namespace: String::new(),
    }
}

/// Name of the object whose `items` ask for this key, in the task's volumes or the run's workspaces.
fn object_with_key(run: &TaskRun, kind: &str, key: &str) -> Option<String> {
    let spec = run
        .status
        .task_spec
        .as_ref()
        .or(run.spec.task_spec.as_ref());
    let volumes = spec
        .and_then(|spec| serde_json::to_value(&spec.volumes).ok())
        .unwrap_or_default();
    let workspaces = serde_json::to_value(&run.spec.workspaces).unwrap_or_default();
    let source = if kind == "Secret" {
        "secret"
    } else {
        "configMap"
    };
    let direct = volumes
        .as_array()
        .into_iter()
        .chain(workspaces.as_array())
        .flatten();
    let projected = direct.clone().flat_map(|one| {
        one.pointer("/projected/sources")
            .and_then(|sources| sources.as_array())
            .into_iter()
            .flatten()
    });
    let mut sources = direct.chain(projected).filter_map(|one| one.get(source));
    let source = sources.find(|source| {
        let items = source.get("items").and_then(|items| items.as_array());
        items.into_iter().flatten().any(|item| item["key"] == key)
    })?;
    let name = source.get("secretName").or_else(|| source.get("name"))?;
    name.as_str().map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// K-274, K-306: the node's words, alone and inside Tekton's.
    #[test]
    fn what_is_missing_is_read_from_the_nodes_words() {
        let run: TaskRun = serde_json::from_value(serde_json::json!({
            "metadata": {"name": "r", "namespace": "team"},
            "spec": {
                "workspaces": [{"name": "w", "configMap": {"name": "settings", "items": [{"key": "mode", "path": "m"}]}}],
                "taskSpec": {"volumes": [
                    {"name": "a", "secret": {"secretName": "other", "items": [{"key": "x", "path": "x"}]}},
                    {"name": "b", "projected": {"sources": [{"secret": {"name": "part", "items": [{"key": "y", "path": "y"}]}}]}},
                ]},
            },
        }))
        .expect("a TaskRun");
        let cases = [
            (
                r#"secret "registry" not found"#,
                "Secret `registry` not found in namespace `team`: create it or add it to the manifests",
            ),
            (
                r#"the step "go" in TaskRun "r" failed to start. The pod errored with the message: "configmap "cfg" not found.""#,
                "ConfigMap `cfg` not found",
            ),
            (
                r#"MountVolume.SetUp failed for volume "secret" : persistentvolumeclaim "data" not found"#,
                "PersistentVolumeClaim `data` not found",
            ),
            (
                r#"pods "p" is forbidden: error looking up service account team/bot: serviceaccount "bot" not found"#,
                "ServiceAccount `bot` not found",
            ),
            (
                "couldn't find key password in Secret team/registry",
                "Secret `registry` in namespace `team` has no key `password`: add the key",
            ),
            (
                r#"The pod errored with the message: "couldn't find key k in ConfigMap team/cfg.""#,
                "ConfigMap `cfg` in namespace `team` has no key `k`",
            ),
            (
                r#"build step "step-go" is pending with reason "secret \"x\" not found""#,
                "Secret `x` not found",
            ),
            (
                r#"MountVolume.SetUp failed for volume "v" : secret references non-existent secret key: x"#,
                "Secret `other` in namespace `team` has no key `x`",
            ),
            (
                "references non-existent secret key: y",
                "Secret `part` in namespace `team` has no key `y`",
            ),
            (
                "configmap references non-existent config key: mode",
                "ConfigMap `settings` in namespace `team` has no key `mode`",
            ),
            (
                "references non-existent config key: z",
                "no key `z` in a ConfigMap of namespace `team`",
            ),
        ];
        for (message, expected) in cases {
            let said = Lacking::read(message, &run).map(|lacking| lacking.to_string());
            assert!(
                said.as_deref()
                    .is_some_and(|said| said.starts_with(expected)),
                "{message}: {said:?}"
            );
        }
        for message in [
            "",
            "secret \"x\" is forbidden",
            "couldn't find key",
            "manifest not found",
        ] {
            assert_eq!(Lacking::read(message, &run), None, "{message}");
        }
    }
}
