//! The image's own command, chosen for this platform from what the controller looked up (T-264).

use alloc::borrow::ToOwned;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use crate::json_value::Value;
use crate::system::process::variable;

const VARIABLE: &str = "TEKTON_PLATFORM_COMMANDS";

pub(crate) fn command(environment: &[(Vec<u8>, Vec<u8>)]) -> Result<Vec<Vec<u8>>, String> {
    let text = variable(environment, VARIABLE).unwrap_or_default();
    let mut commands = Value::parse(text)?.into_members()?;
    let platform = current();
    let without_variant = platform
        .rsplit_once('/')
        .map(|(rest, _)| rest.to_owned())
        .unwrap_or_default();
    let found = commands
        .remove(&platform)
        .or_else(|| commands.remove(&without_variant));
    let found = found.ok_or_else(|| format!("could not find command for platform {platform:?}"))?;
    Ok(found
        .into_texts()?
        .into_iter()
        .map(String::into_bytes)
        .collect())
}

/// `os/arch[/variant]` in Go's names.
fn current() -> String {
    let architecture = if cfg!(target_arch = "aarch64") {
        "arm64/v8"
    } else {
        "amd64"
    };
    format!("linux/{architecture}")
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
            [b"a", b"b"]
        );
        let error = run(r#"{"plan9/mips":["a"]}"#).unwrap_err();
        assert_eq!(
            error,
            format!("could not find command for platform {here:?}")
        );
        assert_eq!(command(&[]).unwrap_err(), "unexpected end of JSON input");
    }
}
