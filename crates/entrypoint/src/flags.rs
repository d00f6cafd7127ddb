//! The command line, read as Go's flag package reads it: one or two dashes, `=` or the next argument for values.

use alloc::borrow::ToOwned;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::time::Duration;

use crate::credentials::Wanted;
use crate::duration;
use crate::mask::Sources;
use crate::path::Path;

/// Everything the program was told.
#[derive(Debug)]
pub(crate) struct Flags {
    pub(crate) entrypoint: Option<Vec<u8>>,
    pub(crate) wait_files: Vec<Path>,
    pub(crate) wait_file_content: bool,
    pub(crate) post_file: Option<Path>,
    pub(crate) termination_path: Path,
    pub(crate) step_metadata_dir: Path,
    pub(crate) results: Vec<String>,
    pub(crate) step_results: Vec<String>,
    pub(crate) when_expressions: String,
    /// Whether it is negative, and its length.
    pub(crate) timeout: Option<(bool, Duration)>,
    pub(crate) stdout_path: Option<Path>,
    pub(crate) stderr_path: Option<Path>,
    pub(crate) breakpoint_on_failure: bool,
    pub(crate) debug_before_step: bool,
    pub(crate) on_error: String,
    pub(crate) result_from: String,
    pub(crate) compress: bool,
    pub(crate) credentials: Wanted,
    /// Where Tekton's directories are, `/tekton` but in tests.
    pub(crate) root: Path,
    /// Ours: the script in the environment is written here first.
    pub(crate) script_file: Option<Path>,
    /// Ours: containers of the steps in order, to be linked under `steps`.
    pub(crate) step_names: Vec<String>,
    /// Ours: working directories that `init` makes.
    pub(crate) working_dirs: Vec<Path>,
    /// Ours: become the command at once.
    pub(crate) exec: bool,
    /// Ours: write the debug scripts for so many steps.
    pub(crate) debug_scripts: Option<usize>,
    /// Ours: where the step sees secrets; each may be given several times.
    pub(crate) secrets: Sources,
    /// What is left: a subcommand and its arguments.
    pub(crate) rest: Vec<Vec<u8>>,
}

impl Default for Flags {
    fn default() -> Self {
        Flags {
            entrypoint: None,
            wait_files: Vec::new(),
            wait_file_content: false,
            post_file: None,
            termination_path: "/tekton/termination".into(),
            step_metadata_dir: Path::default(),
            results: Vec::new(),
            step_results: Vec::new(),
            when_expressions: String::new(),
            timeout: None,
            stdout_path: None,
            stderr_path: None,
            breakpoint_on_failure: false,
            debug_before_step: false,
            on_error: String::new(),
            result_from: TERMINATION_MESSAGE.into(),
            compress: false,
            credentials: Wanted::default(),
            root: "/tekton".into(),
            script_file: None,
            step_names: Vec::new(),
            working_dirs: Vec::new(),
            exec: false,
            debug_scripts: None,
            secrets: Sources::default(),
            rest: Vec::new(),
        }
    }
}

/// The value of `-result_from` that puts results into the termination message.
pub(crate) const TERMINATION_MESSAGE: &str = "termination-message";

/// Why the program ends before it starts.
#[derive(Debug)]
pub(crate) struct Stop {
    pub(crate) message: String,
    pub(crate) code: u8,
}

impl Flags {
    pub(crate) fn parse(arguments: &[Vec<u8>]) -> Result<Flags, Stop> {
        let mut flags = Flags::default();
        let mut credentials = Vec::new();
        let mut rest = arguments.iter();
        while let Some(argument) = rest.next() {
            let Some(flag) = argument.strip_prefix(b"-").filter(|flag| !flag.is_empty()) else {
                flags.rest = core::iter::once(argument).chain(rest).cloned().collect();
                break;
            };
            let flag = flag.strip_prefix(b"-").unwrap_or(flag);
            if flag.is_empty() || flag[0] == b'-' || flag[0] == b'=' {
                return Err(stop(format!("bad flag syntax: {}", text(argument.clone()))));
            }
            let (name, value) = match flag.iter().position(|&byte| byte == b'=') {
                Some(at) => (&flag[..at], Some(flag[at + 1..].to_vec())),
                None => (flag, None),
            };
            let name = String::from_utf8_lossy(name).into_owned();
            if let Some(target) = flags.switch(&name) {
                *target = match &value {
                    None => true,
                    Some(value) => boolean(value).ok_or_else(|| {
                        stop(format!(
                            "invalid boolean value {:?} for -{name}: parse error",
                            text(value.clone())
                        ))
                    })?,
                };
                continue;
            }
            let mut value = || match &value {
                Some(value) => Ok(value.clone()),
                None => rest
                    .next()
                    .cloned()
                    .ok_or_else(|| stop(format!("flag needs an argument: -{name}"))),
            };
            match name.as_str() {
                "h" | "help" => {
                    return Err(Stop {
                        message: USAGE.into(),
                        code: 0,
                    });
                }
                "basic-git" | "basic-docker" | "ssh-git" | "docker-config" | "docker-cfg" => {
                    credentials.push((name.clone(), text(value()?)));
                }
                "timeout" => {
                    let value = text(value()?);
                    flags.timeout = Some(duration::parse(&value).ok_or_else(|| {
                        stop(format!(
                            "invalid value {value:?} for flag -timeout: parse error"
                        ))
                    })?);
                }
                "debug_scripts" => {
                    let value = text(value()?);
                    let count = value.parse();
                    flags.debug_scripts = Some(count.map_err(|_| {
                        stop(format!("invalid value {value:?} for flag -debug_scripts"))
                    })?);
                }
                _ => {
                    if !flags.known(&name) {
                        return Err(stop(format!("flag provided but not defined: -{name}")));
                    }
                    let value = value()?;
                    flags.set(&name, value);
                }
            }
        }
        // The place of the secrets is known only now.
        for (kind, value) in credentials {
            let read = flags.credentials.add(&flags.root, &kind, &value);
            read.map_err(|message| {
                stop(format!(
                    "invalid value {value:?} for flag -{kind}: {message}"
                ))
            })?;
        }
        Ok(flags)
    }

    fn switch(&mut self, name: &str) -> Option<&mut bool> {
        Some(match name {
            "wait_file_content" => &mut self.wait_file_content,
            "breakpoint_on_failure" => &mut self.breakpoint_on_failure,
            "debug_before_step" => &mut self.debug_before_step,
            "compress_termination_message" => &mut self.compress,
            "exec" => &mut self.exec,
            _ => return None,
        })
    }

    fn known(&self, name: &str) -> bool {
        const KNOWN: [&str; 18] = [
            "entrypoint",
            "wait_file",
            "post_file",
            "termination_path",
            "step_metadata_dir",
            "results",
            "step_results",
            "when_expressions",
            "stdout_path",
            "stderr_path",
            "on_error",
            "result_from",
            "tekton_root",
            "script_file",
            "step_names",
            "working_dirs",
            "mask_env",
            "mask_file",
        ];
        KNOWN.contains(&name)
    }

    fn set(&mut self, name: &str, value: Vec<u8>) {
        let path = |value: Vec<u8>| Some(Path::new(value)).filter(|path| !path.is_empty());
        match name {
            "entrypoint" => self.entrypoint = Some(value).filter(|value| !value.is_empty()),
            "wait_file" => self.wait_files = paths(value),
            "post_file" => self.post_file = path(value),
            "termination_path" => self.termination_path = Path::new(value),
            "step_metadata_dir" => self.step_metadata_dir = Path::new(value),
            "results" => self.results = list(value),
            "step_results" => self.step_results = list(value),
            "when_expressions" => self.when_expressions = text(value),
            "stdout_path" => self.stdout_path = path(value),
            "stderr_path" => self.stderr_path = path(value),
            "on_error" => self.on_error = text(value),
            "result_from" => self.result_from = text(value),
            "tekton_root" => self.root = Path::new(value),
            "script_file" => self.script_file = path(value),
            "step_names" => self.step_names = list(value),
            "working_dirs" => self.working_dirs = paths(value),
            "mask_env" => self.secrets.variables.push(value),
            "mask_file" => self.secrets.files.push(Path::new(value)),
            _ => {}
        }
    }
}

const USAGE: &str = "Usage: entrypoint [-wait_file F,...] [-post_file F] [-entrypoint COMMAND] [FLAGS] -- [ARGS...]";

fn stop(message: String) -> Stop {
    Stop {
        message: format!("{message}\n{USAGE}"),
        code: 2,
    }
}

fn text(value: Vec<u8>) -> String {
    String::from_utf8_lossy(&value).into_owned()
}

fn list(value: Vec<u8>) -> Vec<String> {
    text(value)
        .split(',')
        .filter(|item| !item.is_empty())
        .map(str::to_owned)
        .collect()
}

fn paths(value: Vec<u8>) -> Vec<Path> {
    let items = value
        .split(|&byte| byte == b',')
        .filter(|item| !item.is_empty());
    items.map(Path::new).collect()
}

fn boolean(value: &[u8]) -> Option<bool> {
    match value {
        b"1" | b"t" | b"T" | b"true" | b"TRUE" | b"True" => Some(true),
        b"0" | b"f" | b"F" | b"false" | b"FALSE" | b"False" => Some(false),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(arguments: &[&str]) -> Result<Flags, Stop> {
        Flags::parse(
            &arguments
                .iter()
                .map(|text| text.as_bytes().to_vec())
                .collect::<Vec<_>>(),
        )
    }

    #[test]
    fn flags_are_read_as_go_reads_them() {
        // T-273
        let flags = parse(&[
            "-wait_file",
            "a,b",
            "--wait_file_content=true",
            "-results=",
            "-on_error",
            "continue",
            "init",
            "-x",
        ]);
        let flags = flags.unwrap();
        assert_eq!(flags.wait_files, [Path::from("a"), Path::from("b")]);
        assert!(flags.wait_file_content && flags.results.is_empty());
        assert_eq!((flags.on_error.as_str(), flags.rest.len()), ("continue", 2));
        let defaults = parse(&[]).unwrap();
        assert_eq!(defaults.termination_path, Path::from("/tekton/termination"));
        assert_eq!(defaults.result_from, "termination-message");
    }

    #[test]
    fn what_go_refuses_is_refused_with_code_two() {
        for arguments in [
            &["-nope"][..],
            &["-timeout", "x"],
            &["-wait_file"],
            &["---a"],
            &["-wait_file_content=maybe"],
        ] {
            assert_eq!(parse(arguments).unwrap_err().code, 2, "{arguments:?}");
        }
    }
}
