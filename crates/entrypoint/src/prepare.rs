//! What init containers are for: the program's copy, links to the steps, scripts, working directories.

use alloc::borrow::ToOwned;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use crate::flags::Flags;
use crate::json_value::Value;
use crate::log::log;
use crate::path::Path;
use crate::system::fs::{self, File};
use crate::system::process::{Signal, variable};
use crate::system::signals::Signals;
use crate::system::{AsFd, Error, Result, readable};
use crate::{base64_text, contents, debug, script};

/// Holds `{"<path>": "<base64>"}`: the scripts that `init` places.
const SCRIPTS: &str = "TEKTON_INTERNAL_SCRIPTS";

/// Runs the subcommand, if the arguments are one with the right number of its own (T-271).
pub(crate) fn subcommand(flags: &Flags, environment: &[(Vec<u8>, Vec<u8>)]) -> Option<u8> {
    let (name, arguments) = flags.rest.split_first()?;
    let name = core::str::from_utf8(name).ok()?;
    let path = |argument: &Vec<u8>| Path::new(&argument[..]);
    let (done, result) = match (name, arguments) {
        ("init", [from, to, steps @ ..]) => (
            "Entrypoint initialization".to_owned(),
            init(flags, environment, &path(from), &path(to), steps),
        ),
        ("cp", [from, to]) => (
            format!("Copied {} to {}", path(from), path(to)),
            copy(&path(from), &path(to)),
        ),
        ("decode-script", [file]) => (
            format!("Decoded script {}", path(file)),
            decode_script(&path(file)),
        ),
        ("step-init", steps) => (
            "Setup /step directories".to_owned(),
            link_steps(&flags.root, &names(steps)),
        ),
        ("contents", paths) => (
            "Contents told".to_owned(),
            contents::tell(paths, &flags.termination_path),
        ),
        _ => return None,
    };
    Some(match result {
        Ok(()) => {
            log(&done);
            0
        }
        Err(error) => {
            log(&format!("{name} error: {error}"));
            1
        }
    })
}

/// Everything a pod needs before its first step, in one container (T-225 to T-227, T-270).
fn init(
    flags: &Flags,
    environment: &[(Vec<u8>, Vec<u8>)],
    from: &Path,
    to: &Path,
    steps: &[Vec<u8>],
) -> Result<()> {
    copy(from, to)?;
    link_steps(&flags.root, &names(steps))?;
    if let Some(scripts) = variable(environment, SCRIPTS) {
        let scripts = Value::parse(scripts).and_then(Value::into_members);
        for (path, encoded) in scripts.map_err(Error::Other)? {
            let content = encoded
                .into_text()
                .and_then(|encoded| base64_text::decode(encoded.as_bytes()));
            script::write_executable(&Path::new(path), &content.map_err(Error::Other)?)?;
        }
    }
    if let Some(steps) = flags.debug_scripts {
        debug::place_scripts(flags, steps)?;
    }
    flags.working_dirs.iter().try_for_each(make_working_dir)
}

fn names(steps: &[Vec<u8>]) -> Vec<String> {
    steps
        .iter()
        .map(|step| String::from_utf8_lossy(step).into_owned())
        .collect()
}

/// The copy may be run by anyone and read by nobody but its owner's group of tools: mode 0311 (T-270).
fn copy(from: &Path, to: &Path) -> Result<()> {
    fs::copy(&File::open(from)?, &File::create(to, 0o311)?)
}

fn decode_script(file: &Path) -> Result<()> {
    let failed =
        |error: String| Error::other(format!("error decoding script file {file:?}: {error}"));
    let encoded = fs::read(file).map_err(|error| failed(error.to_string()))?;
    let mode = fs::metadata(file)
        .map_err(|error| failed(error.to_string()))?
        .mode;
    let decoded = base64_text::decode(&encoded).map_err(failed)?;
    fs::write(file, decoded)?;
    fs::set_mode(file, mode)
}

/// Links `steps/<container>` and `steps/<index>` to where each step keeps its data (T-270).
pub(crate) fn link_steps(root: &Path, steps: &[String]) -> Result<()> {
    let dir = root.join("steps");
    fs::create_dir_all(&dir)?;
    for (index, step) in steps.iter().enumerate() {
        let run = root.join("run").join(index.to_string()).join("status");
        for link in [dir.join(step), dir.join(index.to_string())] {
            match fs::symlink(&run, &link) {
                // From an earlier start of this container.
                Err(error) if !error.is_already_there() => return Err(error),
                _ => {}
            }
        }
    }
    Ok(())
}

/// `workingdirinit`: makes the directories that are relative or below `/workspace` (T-227).
pub(crate) fn make_working_dirs(dirs: &[Vec<u8>]) -> u8 {
    for dir in dirs {
        let dir = Path::new(&dir[..]);
        if let Err(error) = make_working_dir(&dir) {
            log(&format!("Failed to mkdir {dir:?}: {error}"));
            return 1;
        }
    }
    0
}

fn make_working_dir(dir: &Path) -> Result<()> {
    let dir = dir.clean();
    if dir.is_absolute() && !dir.as_bytes().starts_with(b"/workspace/") {
        return Ok(());
    }
    fs::create_dir_all(&dir)
}

/// `nop`: ends at once, or when told to (T-328).
pub(crate) fn nop(arguments: &[Vec<u8>]) -> u8 {
    if arguments
        .first()
        .is_some_and(|first| first == b"tekton_run_indefinitely")
    {
        log("Waiting indefinitely...");
        match until_stopped() {
            Ok(signal) => log(&format!("received signal: {signal}")),
            Err(error) => log(&format!("waiting for signals: {error}")),
        }
    }
    log("Exiting...");
    0
}

/// Blocks until SIGINT or SIGTERM.
pub(crate) fn until_stopped() -> Result<&'static str> {
    let signals = Signals::block()?;
    loop {
        match signals.next() {
            Some(signal) if signal == Signal::INT.as_raw() => return Ok("interrupt"),
            Some(signal) if signal == Signal::TERM.as_raw() => return Ok("terminated"),
            Some(_) => continue,
            None => {}
        }
        readable(&[signals.as_fd()], None)?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_are_linked_by_name_and_index_and_again_after_a_restart() {
        // T-270
        let dir = tempfile::tempdir().unwrap();
        for _ in 0..2 {
            let root = Path::new(dir.path().as_os_str().as_encoded_bytes());
            link_steps(&root, &["step-a".into(), "step-b".into()]).unwrap();
        }
        for (link, index) in [("step-a", "0"), ("0", "0"), ("step-b", "1"), ("1", "1")] {
            let target = std::fs::read_link(dir.path().join("steps").join(link)).unwrap();
            assert_eq!(target, dir.path().join("run").join(index).join("status"));
        }
    }
}
