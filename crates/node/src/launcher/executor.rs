//! The last step before a container's program runs: find it, and replace the process by it.

use std::ffi::CString;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use libcontainer::oci_spec::runtime::Spec;
use libcontainer::workload::{Executor, ExecutorError, ExecutorValidationError};

/// What precedes the reason in the error of a container whose program cannot be started (K-276).
const PREFIX: &str = "unable to start container process: ";

/// Starts the program of `process.args` as execvp does, reporting before the start what is wrong with it.
#[derive(Clone)]
pub(super) struct Program {
    /// Whether it is killed when the launcher dies, so that nobody has to find it.
    pub bound: bool,
}

impl Executor for Program {
    fn validate(&self, spec: &Spec) -> Result<(), ExecutorValidationError> {
        find(spec)
            .map(drop)
            .map_err(ExecutorValidationError::ArgValidationError)
    }

    fn exec(&self, spec: &Spec) -> Result<(), ExecutorError> {
        let path = find(spec).map_err(ExecutorError::Other)?;
        let arguments: Vec<CString> = arguments(spec)
            .iter()
            .map(|argument| CString::new(argument.as_bytes()))
            .collect::<Result<_, _>>()
            .map_err(|_| ExecutorError::InvalidArg)?;
        let path =
            CString::new(path.as_os_str().as_bytes()).map_err(|_| ExecutorError::InvalidArg)?;
        if self.bound {
            // Kept through execve; the launcher, whose one thread is the parent, may die without a word.
            let _ = nix::sys::prctl::set_pdeathsig(nix::sys::signal::Signal::SIGKILL);
        }
        let Err(errno) = nix::unistd::execv(&path, &arguments);
        // Too late for the launcher to hear of it: the container's log is where a person looks.
        eprintln!("exec {}: {}", path.to_string_lossy(), errno.desc());
        std::process::exit(128)
    }
}

fn arguments(spec: &Spec) -> &[String] {
    spec.process()
        .as_ref()
        .and_then(|process| process.args().as_deref())
        .unwrap_or_default()
}

fn find(spec: &Spec) -> Result<PathBuf, String> {
    let name = arguments(spec)
        .first()
        .ok_or_else(|| format!("{PREFIX}no command specified"))?;
    let environment = spec
        .process()
        .as_ref()
        .and_then(|process| process.env().as_deref())
        .unwrap_or_default();
    let path = environment
        .iter()
        .rev()
        .find_map(|entry| entry.strip_prefix("PATH="))
        .unwrap_or("/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin");
    locate(name, path)
        .map_err(|reason| format!("{PREFIX}error during container init: exec: {reason}"))
}

/// Where execvp would find `name`, or its complaint in runc's words.
fn locate(name: &str, path: &str) -> Result<PathBuf, String> {
    if name.contains('/') {
        return match std::fs::metadata(name) {
            Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied => {
                Err(format!("{name:?}: permission denied"))
            }
            Err(_) => Err(format!("{name:?}: stat {name}: no such file or directory")),
            Ok(found) if found.is_dir() => Err(format!("{name:?}: is a directory")),
            Ok(found) if found.permissions().mode() & 0o111 == 0 => {
                Err(format!("{name:?}: permission denied"))
            }
            Ok(_) => Ok(PathBuf::from(name)),
        };
    }
    path.split(':')
        .map(|directory| {
            PathBuf::from(if directory.is_empty() { "." } else { directory }).join(name)
        })
        .find(|candidate| {
            std::fs::metadata(candidate)
                .is_ok_and(|found| found.is_file() && found.permissions().mode() & 0o111 != 0)
        })
        .ok_or_else(|| format!("{name:?}: executable file not found in $PATH"))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// K-276: what is wrong with a program is known before it is started.
    #[test]
    fn a_program_is_found_as_execvp_finds_it_or_refused_with_runcs_words() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let plain = directory.path().join("plain");
        let tool = directory.path().join("tool");
        std::fs::write(&plain, "").expect("written");
        std::fs::write(&tool, "").expect("written");
        std::fs::set_permissions(&tool, std::fs::Permissions::from_mode(0o755)).expect("changed");
        let path = format!("/nowhere:{}", directory.path().display());
        let absolute = |name: &str| directory.path().join(name).display().to_string();
        let cases = [
            ("tool".to_string(), Ok(tool.clone())),
            (absolute("tool"), Ok(tool.clone())),
            (
                "plain".into(),
                Err("\"plain\": executable file not found in $PATH".into()),
            ),
            (
                absolute("plain"),
                Err(format!("{plain:?}: permission denied")),
            ),
            (
                "/none".into(),
                Err("\"/none\": stat /none: no such file or directory".to_string()),
            ),
            ("/".into(), Err("\"/\": is a directory".into())),
        ];
        for (name, expected) in cases {
            assert_eq!(locate(&name, &path), expected, "{name}");
        }
    }
}
