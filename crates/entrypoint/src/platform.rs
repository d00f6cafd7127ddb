//! The image's own command, chosen for this platform from what the controller looked up (T-264).

use std::collections::HashMap;
use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt;

const VARIABLE: &str = "TEKTON_PLATFORM_COMMANDS";

pub(crate) fn command(environment: &[(OsString, OsString)]) -> Result<Vec<OsString>, String> {
    let text = environment
        .iter()
        .find(|(key, _)| key == VARIABLE)
        .map(|(_, value)| value.as_bytes())
        .unwrap_or_default();
    if text.is_empty() {
        return Err("unexpected end of JSON input".into());
    }
    let mut commands: HashMap<String, Vec<String>> =
        serde_json::from_slice(text).map_err(|error| error.to_string())?;
    let platform = current();
    let without_variant = platform
        .rsplit_once('/')
        .map(|(rest, _)| rest.to_owned())
        .unwrap_or_default();
    let found = commands
        .remove(&platform)
        .or_else(|| commands.remove(&without_variant));
    let found = found.ok_or_else(|| format!("could not find command for platform {platform:?}"))?;
    Ok(found.into_iter().map(OsString::from).collect())
}

/// `os/arch[/variant]` in Go's names.
fn current() -> String {
    let os = std::env::consts::OS;
    match std::env::consts::ARCH {
        "x86_64" => format!("{os}/amd64"),
        "aarch64" => format!("{os}/arm64/v8"),
        "x86" => format!("{os}/386"),
        other => format!("{os}/{other}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_of_this_platform_is_found_with_or_without_its_variant() {
        // T-264
        let run = |json: &str| command(&[(VARIABLE.into(), json.into())]);
        let here = current();
        assert_eq!(
            run(&format!(r#"{{"{here}":["a","b"]}}"#)).unwrap(),
            ["a", "b"]
        );
        let error = run(r#"{"plan9/mips":["a"]}"#).unwrap_err();
        assert_eq!(
            error,
            format!("could not find command for platform {here:?}")
        );
        assert!(command(&[]).is_err());
    }
}
