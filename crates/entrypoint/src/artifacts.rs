//! Provenance files: what steps used and made (T-297, T-298).

use alloc::format;
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;

use crate::flags::Flags;
use crate::json;
use crate::json_value::Value;
use crate::lifecycle::Failure;
use crate::path::Path;
use crate::script::write_executable;
use crate::step_results::replace_all;
use crate::system::process::{id, variable};
use crate::system::{Result as IoResult, fs};
use crate::termination::{Entry, STEP_ARTIFACTS, TASK_ARTIFACTS};

/// Replaces `$(steps.<step>.inputs|outputs.<name>)` in the script or command, then in the environment.
pub(crate) fn apply(
    root: &Path,
    environment: &mut [(Vec<u8>, Vec<u8>)],
    command: &mut Vec<Vec<u8>>,
) -> Result<(), String> {
    let steps = root.join("steps");
    match &command[..] {
        [script] if Path::new(&script[..]).parent() == Some(root.join("scripts")) => {
            let script = Path::new(&script[..]);
            let content = fs::read(&script).map_err(|error| format!("open {script}: {error}"))?;
            let replaced = replace(&steps, &content)?;
            if replaced != content {
                *command = vec![
                    rewrite(&replaced, environment)
                        .map_err(|error| format!("{script}: {error}"))?
                        .into_bytes(),
                ];
            }
        }
        _ => {
            let replaced: Result<Vec<_>, _> = command
                .iter()
                .map(|argument| replace(&steps, argument))
                .collect();
            *command = replaced?;
        }
    }
    for (_, value) in environment {
        *value = replace(&steps, value)?;
    }
    Ok(())
}

/// The scripts' volume is read-only, so a changed script runs from elsewhere.
fn rewrite(script: &[u8], environment: &[(Vec<u8>, Vec<u8>)]) -> IoResult<Path> {
    let dir = Path::new(variable(environment, "TMPDIR").unwrap_or(b"/tmp"));
    let path = dir.join(format!("script-{}", id()));
    write_executable(&path, script)?;
    Ok(path)
}

struct Reference<'a> {
    text: &'a [u8],
    step: &'a [u8],
    outputs: bool,
    name: &'a [u8],
}

fn replace(steps: &Path, text: &[u8]) -> Result<Vec<u8>, String> {
    let mut out = text.to_vec();
    let mut at = 0;
    while let Some(start) = text[at..]
        .iter()
        .position(|&byte| byte == b'$')
        .map(|start| at + start)
    {
        at = start + 1;
        if let Some(reference) = parse(&text[start..]) {
            out = replace_all(&out, reference.text, values(steps, &reference)?.as_bytes());
            at = start + reference.text.len();
        }
    }
    Ok(out)
}

/// `$(steps.<no dot>.inputs|outputs.<no dot or parenthesis>)` at the start of the text.
fn parse(text: &[u8]) -> Option<Reference<'_>> {
    let rest = text.strip_prefix(b"$(steps.")?;
    let (step, rest) = rest.split_at(rest.iter().position(|&byte| byte == b'.')?);
    let (outputs, rest) = match rest.strip_prefix(b".outputs.") {
        Some(rest) => (true, rest),
        None => (false, rest.strip_prefix(b".inputs.")?),
    };
    let (name, rest) = rest.split_at(rest.iter().position(|&byte| byte == b'.' || byte == b')')?);
    let length = text.len() - rest.strip_prefix(b")")?.len();
    (!step.is_empty() && !name.is_empty()).then(|| Reference {
        text: &text[..length],
        step,
        outputs,
        name,
    })
}

fn values(steps: &Path, reference: &Reference<'_>) -> Result<String, String> {
    let (step, name) = (
        String::from_utf8_lossy(reference.step),
        String::from_utf8_lossy(reference.name),
    );
    let file = steps.join(format!("step-{step}/artifacts/provenance.json"));
    let bytes = fs::read(&file).map_err(|error| format!("open {file}: {error}"))?;
    let artifacts = Value::parse(&bytes).map_err(|error| format!("{file}: {error}"))?;
    let list = artifacts
        .get(if reference.outputs {
            "outputs"
        } else {
            "inputs"
        })
        .and_then(Value::as_array);
    let found = list
        .into_iter()
        .flatten()
        .find(|artifact| artifact.get("name").and_then(Value::as_str) == Some(&*name));
    match found {
        Some(artifact) => Ok(encode(artifact.get("values"))),
        None => Err(format!(
            "values for template {} not found",
            String::from_utf8_lossy(reference.text)
        )),
    }
}

/// `[{"digest":{…},"uri":…}]`, as Go writes its own type.
fn encode(values: Option<&Value>) -> String {
    let Some(values) = values.and_then(Value::as_array) else {
        return "null".into();
    };
    let mut out = String::from("[");
    json::joined(&mut out, values, |out, value| {
        let mut fields: Vec<(&str, String)> = Vec::new();
        if let Some(digest) = value
            .get("digest")
            .and_then(Value::as_object)
            .filter(|digest| !digest.is_empty())
        {
            let mut text = String::from("{");
            json::joined(&mut text, digest, |out, (algorithm, hex)| {
                json::string(out, algorithm.as_bytes());
                out.push(':');
                json::string(out, hex.as_str().unwrap_or_default().as_bytes());
            });
            text.push('}');
            fields.push(("digest", text));
        }
        if let Some(uri) = value
            .get("uri")
            .and_then(Value::as_str)
            .filter(|uri| !uri.is_empty())
        {
            let mut text = String::new();
            json::string(&mut text, uri.as_bytes());
            fields.push(("uri", text));
        }
        out.push('{');
        json::joined(out, fields, |out, (name, text)| {
            json::string(out, name.as_bytes());
            out.push(':');
            out.push_str(&text);
        });
        out.push('}');
    });
    out.push(']');
    out
}

/// Adds the provenance files as they are, keyed by path (T-298).
pub(crate) fn report(flags: &Flags, message: &mut Vec<Entry>) -> Result<(), Failure> {
    let files = [
        (
            flags.step_metadata_dir.join("artifacts/provenance.json"),
            STEP_ARTIFACTS,
            "step",
        ),
        (
            flags.root.join("artifacts/provenance.json"),
            TASK_ARTIFACTS,
            "task",
        ),
    ];
    for (file, kind, whose) in files {
        match fs::read(&file) {
            Ok(value) => message.push(Entry {
                key: file.into_bytes(),
                value,
                kind,
            }),
            Err(error) if error.is_not_found() => {}
            Err(error) => {
                return Err(Failure::Fatal(format!(
                    "Error while handling {whose} artifacts: {error}"
                )));
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    const PROVENANCE: &str = r#"{"inputs":[{"name":"src","values":[{"uri":"git://a&b","digest":{"sha256":"12"}}]}],
        "outputs":[{"name":"img","buildOutput":true,"values":[{"uri":"x"}]}]}"#;

    #[test]
    fn references_become_the_values_of_the_artifact() {
        // T-297
        let dir = tempfile::tempdir().unwrap();
        let root = Path::new(dir.path().as_os_str().as_encoded_bytes());
        let artifacts = dir.path().join("steps/step-a/artifacts");
        fs::create_dir_all(&artifacts).unwrap();
        fs::write(artifacts.join("provenance.json"), PROVENANCE).unwrap();
        let scripts = dir.path().join("scripts");
        fs::create_dir_all(&scripts).unwrap();
        let script = scripts.join("script-0");
        fs::write(&script, "echo '$(steps.a.outputs.img)'").unwrap();

        let mut environment = [("A".into(), "$(steps.a.inputs.src)".into())];
        let mut command = vec![
            b"echo".to_vec(),
            b"$(steps.a.outputs.img) $(params.x)".to_vec(),
        ];
        apply(&root, &mut environment, &mut command).unwrap();
        assert_eq!(command[1], br#"[{"uri":"x"}] $(params.x)"#);
        assert_eq!(
            environment[0].1,
            br#"[{"digest":{"sha256":"12"},"uri":"git://a\u0026b"}]"#
        );

        let mut command = vec![script.as_os_str().as_encoded_bytes().to_vec()];
        apply(&root, &mut [], &mut command).unwrap();
        let changed = str::from_utf8(&command[0]).unwrap();
        assert_ne!(std::path::Path::new(changed), script);
        assert_eq!(
            fs::read_to_string(changed).unwrap(),
            r#"echo '[{"uri":"x"}]'"#
        );
        fs::remove_file(changed).unwrap();

        let mut command = vec![
            script.as_os_str().as_encoded_bytes().to_vec(),
            b"arg".to_vec(),
        ];
        apply(&root, &mut [], &mut command).unwrap();
        assert!(
            command[0].ends_with(b"scripts/script-0"),
            "a script with arguments is not searched"
        );
        let mut command = vec![b"$(steps.a.outputs.none)".to_vec()];
        assert!(
            apply(&root, &mut [], &mut command)
                .unwrap_err()
                .contains("not found")
        );
    }
}
