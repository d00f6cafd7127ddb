//! Scripts that travel in the environment of the step that runs them, so that no other container need place them.

use std::ffi::OsString;
use std::fs::{self, Permissions};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use crate::base64_text;

/// Holds the script in base64. One variable may not exceed 128 KiB, so longer scripts go on in `…_1`, `…_2`, ….
const VARIABLE: &str = "TEKTON_INTERNAL_SCRIPT";

/// Writes the script to `path`, executable, and takes it out of the environment.
pub(crate) fn place(path: &Path, environment: &mut Vec<(OsString, OsString)>) -> io::Result<()> {
    let mut encoded = Vec::new();
    let mut part = 0;
    loop {
        let name = if part == 0 {
            VARIABLE.to_owned()
        } else {
            format!("{VARIABLE}_{part}")
        };
        let Some(at) = environment.iter().position(|(key, _)| *key == *name) else {
            break;
        };
        encoded.extend_from_slice(environment.swap_remove(at).1.as_bytes());
        part += 1;
    }
    if part == 0 {
        return Err(io::Error::other(format!("{VARIABLE} is not set")));
    }
    let script = base64_text::decode(&encoded).map_err(io::Error::other)?;
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent)?;
    }
    write_executable(path, &script)
}

pub(crate) fn write_executable(path: &Path, content: &[u8]) -> io::Result<()> {
    // A restarted container finds its own file, which may be running in another.
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    fs::write(path, content)?;
    fs::set_permissions(path, Permissions::from_mode(0o755))
}
