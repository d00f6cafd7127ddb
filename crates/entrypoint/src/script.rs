//! Scripts that travel in the environment of the step that runs them, so that no other container need place them.

use alloc::borrow::ToOwned;
use alloc::format;
use alloc::vec::Vec;

use crate::base64_text;
use crate::path::Path;
use crate::system::process::Environment;
use crate::system::{Error, Result, fs};

/// Holds the script in base64. One variable may not exceed 128 KiB, so longer scripts go on in `…_1`, `…_2`, ….
const VARIABLE: &str = "TEKTON_INTERNAL_SCRIPT";

/// Writes the script to `path`, executable, and takes it out of the environment.
pub(crate) fn place(path: &Path, environment: &mut Environment) -> Result<()> {
    let mut encoded = Vec::new();
    let mut part = 0;
    loop {
        let name = if part == 0 {
            VARIABLE.to_owned()
        } else {
            format!("{VARIABLE}_{part}")
        };
        let Some(at) = environment
            .iter()
            .position(|(key, _)| key == name.as_bytes())
        else {
            break;
        };
        encoded.extend_from_slice(&environment.swap_remove(at).1);
        part += 1;
    }
    if part == 0 {
        return Err(Error::other(format!("{VARIABLE} is not set")));
    }
    let script = base64_text::decode(&encoded).map_err(Error::other)?;
    if let Some(parent) = path.parent() {
        fs::create_dir_all(&parent)?;
    }
    write_executable(path, &script)
}

pub(crate) fn write_executable(path: &Path, content: &[u8]) -> Result<()> {
    // A restarted container finds its own file, which may be running in another.
    match fs::remove_file(path) {
        Err(error) if !error.is_not_found() => return Err(error),
        _ => {}
    }
    fs::write(path, content)?;
    fs::set_mode(path, 0o755)
}
