//! Recorded pods and ours in the same terms. What is changed here besides the API server's defaults is the list of our
//! intended differences.

use std::sync::LazyLock;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use k8s_openapi::api::core::v1::Pod;
use regex::Regex;
use serde_json::{Value, json};

static SCRIPT: LazyLock<Regex> =
    LazyLock::new(|| Regex::new(r"(script-\d+)-[0-9a-f]{5}\b").expect("a pattern"));
static CLAIM: LazyLock<Regex> =
    LazyLock::new(|| Regex::new(r"\bpvc-[0-9a-f]{10}\b").expect("a pattern"));
static PLACED: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new("scriptfile=\"([^\"]+)\"\n[^\n]*\n[^\n]*\n([^\n]*)\n_EOF_").expect("a pattern")
});

/// The recorded pod without defaults of the API server and without the containers that we do not need.
pub fn recorded(pod: &Value) -> Value {
    let mut pod = pod.clone();
    pod.as_object_mut().expect("an object").remove("status");
    // Intended: one init container; scripts travel with the steps.
    let init = pod["spec"]["initContainers"]
        .as_array()
        .cloned()
        .unwrap_or_default();
    let dirs = init
        .iter()
        .find(|c| c["name"] == "working-dir-initializer")
        .map(|c| c["args"].clone());
    let kept: Vec<Value> = init
        .into_iter()
        .filter(|c| c["name"] != "place-scripts" && c["name"] != "working-dir-initializer")
        .collect();
    pod["spec"]["initContainers"] = Value::Array(kept);
    if let Some(dirs) = dirs {
        pod["working-dirs"] = dirs;
    }
    without_defaults(&mut pod);
    pod
}

/// Our pod, with its intended differences taken back.
pub fn ours(pod: &Pod, recorded: &Value) -> Value {
    let text = json!(pod).to_string();
    let text = SCRIPT.replace_all(&text, "$1-<RAND>");
    let text = CLAIM.replace_all(&text, "pvc-<HASH>");
    let mut pod: Value = serde_json::from_str(&text).expect("JSON");
    let metadata = pod["metadata"].as_object_mut().expect("an object");
    metadata.remove("namespace");
    metadata["annotations"]
        .as_object_mut()
        .expect("an object")
        .remove("pipeline.tekton.dev/release");
    // The recorder reads the pod after the controller has set it, and leaves out the owner's uid.
    metadata["annotations"]["tekton.dev/ready"] = "READY".into();
    metadata["ownerReferences"][0]
        .as_object_mut()
        .expect("an object")
        .remove("uid");
    if hash_hides_name(&pod) {
        pod["metadata"]["name"] = recorded["metadata"]["name"].clone();
    }
    let placed = placed_scripts(recorded);
    for (i, container) in pod["spec"]["containers"]
        .as_array_mut()
        .expect("a list")
        .iter_mut()
        .enumerate()
    {
        take_script_back(container, &placed);
        // The recorder looked after the controller had stopped the sidecars.
        if recorded["spec"]["containers"][i]["image"] == "nop:1" {
            container["image"] = "nop:1".into();
        }
    }
    let prepare = &mut pod["spec"]["initContainers"][0];
    let dirs = prepare["command"]
        .as_array()
        .and_then(|c| (c[1] == "-working_dirs").then(|| c[2].clone()));
    if let Some(dirs) = dirs {
        prepare["command"]
            .as_array_mut()
            .expect("a list")
            .drain(1..3);
        prepare["workingDir"] = "/".into();
        prepare["volumeMounts"]
            .as_array_mut()
            .expect("a list")
            .pop();
        pod["working-dirs"] = dirs
            .as_str()
            .expect("text")
            .split(',')
            .map(Value::from)
            .collect();
    }
    without_defaults(&mut pod);
    pod
}

/// Whether the pod's name holds a hash of a name of which the recorder has only the beginning.
fn hash_hides_name(pod: &Value) -> bool {
    let run = pod["metadata"]["ownerReferences"][0]["name"]
        .as_str()
        .expect("a name");
    run.contains("<RAND>") && run.len() + "-pod".len() >= 63
}

/// The text that upstream's init container puts into each file.
fn placed_scripts(pod: &Value) -> Vec<(String, String)> {
    let init = pod["spec"]["initContainers"]
        .as_array()
        .into_iter()
        .flatten();
    let Some(place) = init.into_iter().find(|c| c["name"] == "place-scripts") else {
        return Vec::new();
    };
    let text = place["args"][1].as_str().expect("a script");
    PLACED
        .captures_iter(text)
        .map(|c| (c[1].to_owned(), c[2].to_owned()))
        .collect()
}

/// Whether our script is the recorded one, in which the recorder could not see what differs by nature.
fn same_script(ours: &str, recorded: &str) -> bool {
    if ours == recorded {
        return true;
    }
    let pattern = regex::escape(ours)
        .replace("<UID>", "[0-9a-f-]{36}")
        .replace("<NS>", "ex-[0-9a-f]{10}")
        .replace("<HASH>", "[0-9a-f]{10}")
        .replace("<RAND>", "[a-z0-9]{5}");
    Regex::new(&format!("^{pattern}$"))
        .expect("a pattern")
        .is_match(recorded)
}

/// Puts the container in the form it has upstream, if its script is the one upstream places.
fn take_script_back(container: &mut Value, placed: &[(String, String)]) {
    let args: Vec<String> = serde_json::from_value(container["args"].clone()).unwrap_or_default();
    let Some(at) = args.iter().position(|a| a == "-script_file") else {
        return;
    };
    let path = args[at + 1].clone();
    let env = container["env"]
        .as_array_mut()
        .expect("the script is in the environment");
    let script = env
        .iter()
        .position(|e| e["name"] == "TEKTON_INTERNAL_SCRIPT")
        .expect("the script");
    let encoded = env.remove(script)["value"].clone();
    if env.is_empty() {
        container.as_object_mut().expect("an object").remove("env");
    }
    let expected = placed
        .iter()
        .find(|(file, _)| *file == path)
        .map(|(_, text)| text.as_str())
        .unwrap_or_default();
    let decode =
        |text: &str| String::from_utf8(STANDARD.decode(text).expect("base64")).expect("text");
    let (script, expected) = (decode(encoded.as_str().expect("text")), decode(expected));
    if !same_script(&script, &expected) {
        container["script"] = json!({"ours": script, "recorded": expected});
    }
    if args[0] == "-exec" {
        let end = args
            .iter()
            .position(|a| a == "--")
            .expect("the end of flags");
        container["command"] = json!([path]);
        container["args"] = json!(args[end + 1..]);
        let mounts = container["volumeMounts"].as_array_mut().expect("mounts");
        mounts.retain(|m| m["mountPath"] != "/tekton/bin");
    } else {
        container["args"] = args
            .iter()
            .enumerate()
            .filter(|(i, _)| *i != at && *i != at + 1)
            .map(|(_, a)| json!(a))
            .collect();
    }
    for mount in container["volumeMounts"].as_array_mut().expect("mounts") {
        if mount["mountPath"] == "/tekton/scripts" {
            mount["readOnly"] = true.into();
        }
    }
}

/// Takes out what the API server fills in, and empty things.
fn without_defaults(value: &mut Value) {
    match value {
        Value::Array(items) => items.iter_mut().for_each(without_defaults),
        Value::Object(pairs) => {
            for (key, default) in [
                ("terminationMessagePolicy", json!("File")),
                ("terminationMessagePath", json!("/dev/termination-log")),
                ("defaultMode", json!(420)),
                ("apiVersion", json!("v1")),
                ("protocol", json!("TCP")),
                ("scheme", json!("HTTP")),
                ("timeoutSeconds", json!(1)),
                ("periodSeconds", json!(10)),
                ("successThreshold", json!(1)),
                ("failureThreshold", json!(3)),
                ("imagePullPolicy", json!("IfNotPresent")),
                ("imagePullPolicy", json!("Always")),
            ] {
                if pairs.get(key) == Some(&default) {
                    pairs.remove(key);
                }
            }
            // Containers of a v1 pod, not the pod itself.
            pairs.values_mut().for_each(without_defaults);
            pairs.retain(|key, v| {
                let empty = v.as_object().is_some_and(serde_json::Map::is_empty)
                    || v.as_array().is_some_and(Vec::is_empty);
                !(empty && key != "emptyDir")
            });
        }
        _ => {}
    }
}
