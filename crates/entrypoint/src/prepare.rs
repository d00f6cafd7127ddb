//! What init containers are for: the program's copy, links to the steps, scripts, working directories.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Component, Path, PathBuf};
use std::process::ExitCode;

use rustix::event::{PollFd, PollFlags, poll};

use crate::flags::Flags;
use crate::log::log;
use crate::supervise::Signals;
use crate::{base64_text, debug, script};

/// Holds `{"<path>": "<base64>"}`: the scripts that `init` places.
const SCRIPTS: &str = "TEKTON_INTERNAL_SCRIPTS";

/// Runs the subcommand, if the arguments are one with the right number of its own (T-271).
pub(crate) fn subcommand(flags: &Flags) -> Option<ExitCode> {
    let (name, arguments) = flags.rest.split_first()?;
    let (done, result) = match (name.to_str()?, arguments) {
        ("init", [from, to, steps @ ..]) => (
            "Entrypoint initialization".to_owned(),
            init(flags, from, to, steps),
        ),
        ("cp", [from, to]) => (
            format!("Copied {} to {}", from.display(), to.display()),
            copy(from.as_ref(), to.as_ref()),
        ),
        ("decode-script", [file]) => (
            format!("Decoded script {}", file.display()),
            decode_script(file.as_ref()),
        ),
        ("step-init", steps) => (
            "Setup /step directories".to_owned(),
            link_steps(&flags.root, &names(steps)),
        ),
        _ => return None,
    };
    Some(match result {
        Ok(()) => {
            log(&done);
            ExitCode::SUCCESS
        }
        Err(error) => {
            log(&format!("{} error: {error}", name.display()));
            ExitCode::FAILURE
        }
    })
}

/// Everything a pod needs before its first step, in one container (T-225 to T-227, T-270).
fn init(flags: &Flags, from: &OsString, to: &OsString, steps: &[OsString]) -> io::Result<()> {
    copy(from.as_ref(), to.as_ref())?;
    link_steps(&flags.root, &names(steps))?;
    if let Some(scripts) = std::env::var_os(SCRIPTS) {
        let scripts: BTreeMap<PathBuf, String> =
            serde_json::from_slice(scripts.as_encoded_bytes()).map_err(io::Error::other)?;
        for (path, encoded) in scripts {
            let content = base64_text::decode(encoded.as_bytes()).map_err(io::Error::other)?;
            script::write_executable(&path, &content)?;
        }
    }
    if let Some(steps) = flags.debug_scripts {
        debug::place_scripts(flags, steps)?;
    }
    flags
        .working_dirs
        .iter()
        .try_for_each(|dir| make_working_dir(dir))
}

fn names(steps: &[OsString]) -> Vec<String> {
    steps
        .iter()
        .map(|step| step.to_string_lossy().into_owned())
        .collect()
}

/// The copy may be run by anyone and read by nobody but its owner's group of tools: mode 0311 (T-270).
fn copy(from: &Path, to: &Path) -> io::Result<()> {
    let mut source = File::open(from)?;
    let mut target = File::options()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o311)
        .open(to)?;
    io::copy(&mut source, &mut target)?;
    Ok(())
}

fn decode_script(file: &Path) -> io::Result<()> {
    let failed =
        |error: String| io::Error::other(format!("error decoding script file {file:?}: {error}"));
    let encoded = fs::read(file).map_err(|error| failed(error.to_string()))?;
    let mode = fs::metadata(file)
        .map_err(|error| failed(error.to_string()))?
        .permissions()
        .mode();
    let decoded = base64_text::decode(&encoded).map_err(failed)?;
    fs::write(file, decoded)?;
    fs::set_permissions(file, fs::Permissions::from_mode(mode & 0o777))
}

/// Links `steps/<container>` and `steps/<index>` to where each step keeps its data (T-270).
pub(crate) fn link_steps(root: &Path, steps: &[String]) -> io::Result<()> {
    let dir = root.join("steps");
    fs::create_dir_all(&dir)?;
    for (index, step) in steps.iter().enumerate() {
        let run = root.join("run").join(index.to_string()).join("status");
        for link in [dir.join(step), dir.join(index.to_string())] {
            match std::os::unix::fs::symlink(&run, link) {
                // From an earlier start of this container.
                Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
                _ => {}
            }
        }
    }
    Ok(())
}

/// `workingdirinit`: makes the directories that are relative or below `/workspace` (T-227).
pub(crate) fn make_working_dirs(dirs: &[OsString]) -> ExitCode {
    for dir in dirs {
        if let Err(error) = make_working_dir(Path::new(dir)) {
            log(&format!("Failed to mkdir {dir:?}: {error}"));
            return ExitCode::FAILURE;
        }
    }
    ExitCode::SUCCESS
}

fn make_working_dir(dir: &Path) -> io::Result<()> {
    let dir = clean(dir);
    let workspace = Path::new("/workspace");
    if dir.is_absolute() && (dir == workspace || !dir.starts_with(workspace)) {
        return Ok(());
    }
    fs::DirBuilder::new().recursive(true).create(&dir)
}

/// Without `.` and `..` where that can be told from the text alone.
fn clean(path: &Path) -> PathBuf {
    let mut clean = PathBuf::new();
    for component in path.components() {
        match component {
            Component::CurDir => {}
            Component::ParentDir
                if matches!(clean.components().next_back(), Some(Component::Normal(_))) =>
            {
                clean.pop();
            }
            Component::ParentDir if clean.has_root() => {}
            other => clean.push(other),
        }
    }
    clean
}

/// `nop`: ends at once, or when told to (T-328).
pub(crate) fn nop(arguments: &[OsString]) -> ExitCode {
    if arguments
        .first()
        .is_some_and(|first| first == "tekton_run_indefinitely")
    {
        log("Waiting indefinitely...");
        match until_stopped() {
            Ok(signal) => log(&format!("received signal: {signal}")),
            Err(error) => log(&format!("waiting for signals: {error}")),
        }
    }
    log("Exiting...");
    ExitCode::SUCCESS
}

/// Blocks until SIGINT or SIGTERM.
pub(crate) fn until_stopped() -> io::Result<&'static str> {
    let signals = Signals::block()?;
    loop {
        match signals.next() {
            Some(libc::SIGINT) => return Ok("interrupt"),
            Some(libc::SIGTERM) => return Ok("terminated"),
            Some(_) => continue,
            None => {}
        }
        match poll(&mut [PollFd::new(&signals, PollFlags::IN)], None) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_cleaned_as_go_cleans_them() {
        for (path, expected) in [
            ("/workspace/./a/../b", "/workspace/b"),
            ("a//b/", "a/b"),
            ("/../a", "/a"),
            ("../a", "../a"),
            ("a/..", ""),
        ] {
            assert_eq!(clean(Path::new(path)), Path::new(expected), "{path}");
        }
    }

    #[test]
    fn steps_are_linked_by_name_and_index_and_again_after_a_restart() {
        // T-270
        let dir = tempfile::tempdir().unwrap();
        for _ in 0..2 {
            link_steps(dir.path(), &["step-a".into(), "step-b".into()]).unwrap();
        }
        for (link, index) in [("step-a", "0"), ("0", "0"), ("step-b", "1"), ("1", "1")] {
            let target = fs::read_link(dir.path().join("steps").join(link)).unwrap();
            assert_eq!(target, dir.path().join("run").join(index).join("status"));
        }
    }
}
