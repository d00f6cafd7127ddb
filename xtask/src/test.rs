//! One command that passes or fails everything, and counts it.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Write};
use std::path::PathBuf;
use std::process::{Command, ExitCode, Stdio};
use std::sync::mpsc;
use std::thread;

use anyhow::Context;

#[derive(clap::Args)]
pub struct Options {
    /// Only formatting, lints, architecture and the tests below the binary.
    #[arg(long)]
    fast: bool,
    /// Skip formatting, lints and architecture.
    #[arg(long)]
    tests_only: bool,
}

/// What a test run printed, added up over all test binaries.
#[derive(Debug, Default, PartialEq)]
struct Counts {
    passed: usize,
    failed: usize,
    ignored: usize,
    /// `test: reason`, from lines that tests write as `skipped: test: reason`.
    skipped: BTreeSet<String>,
}

impl Counts {
    fn read(&mut self, line: &str) {
        if let Some(rest) = line.trim().strip_prefix("skipped: ") {
            self.skipped.insert(rest.to_owned());
        }
        let Some(rest) = line.trim().strip_prefix("test result: ") else {
            return;
        };
        for part in rest.split([';', '.']) {
            let words: Vec<&str> = part.split_whitespace().collect();
            let [number, kind, ..] = words.as_slice() else {
                continue;
            };
            let Ok(number) = number.parse::<usize>() else {
                continue;
            };
            match *kind {
                "passed" => self.passed += number,
                "failed" => self.failed += number,
                "ignored" => self.ignored += number,
                _ => {}
            }
        }
    }
}

pub fn run(options: &Options) -> anyhow::Result<ExitCode> {
    let mut failures = Vec::new();
    if !options.tests_only {
        step(
            "cargo fmt",
            &["fmt", "--all", "--check"],
            &[],
            &mut failures,
        )?;
        let lints = [
            "clippy",
            "--workspace",
            "--all-targets",
            "--locked",
            "--",
            "-D",
            "warnings",
        ];
        step("cargo clippy", &lints, &[], &mut failures)?;
        crate::fuzz::check(&mut failures)?;
        if crate::architecture::check()? != ExitCode::SUCCESS {
            failures.push("architecture".to_owned());
        }
        if has_cargo_deny() {
            step(
                "cargo deny",
                &["deny", "--offline", "check", "bans", "licenses", "sources"],
                &[],
                &mut failures,
            )?;
        } else {
            println!("skipped: cargo deny: not installed (`cargo install cargo-deny`)");
        }
    }
    let mut counts = Counts::default();
    let mut arguments = vec!["test", "--workspace", "--locked", "--no-fail-fast"];
    if options.fast {
        arguments.extend(["--lib", "--bins"]);
    }
    if !cargo_test(&arguments, &[], &mut counts)? {
        failures.push("cargo test".to_owned());
    }
    if !options.fast {
        let cases = std::env::var("CASES").unwrap_or_else(|_| RANDOM_PIPELINES.to_owned());
        if !cargo_test(&OPTIMISED, &[("CASES", &cases)], &mut counts)? {
            failures.push(format!("{cases} random pipelines"));
        }
    }
    report(&counts, &failures);
    Ok(if failures.is_empty() && counts.failed == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// How many random pipelines the engine has to get right each time: some four minutes on two cores; `CASES` sets another number.
const RANDOM_PIPELINES: &str = "100000";

/// The property test of the engine once more, optimised. Only the engine is, and the features are the workspace's, so
/// that its dependencies are those of the other tests.
const OPTIMISED: [&str; 9] = [
    "test",
    "--workspace",
    "--locked",
    "--config",
    "profile.dev.package.tektite-engine.opt-level=2",
    "--test",
    "random_pipelines",
    "--",
    "--nocapture",
];

/// Runs tests, shows what they print and counts them; says whether all passed.
fn cargo_test(
    arguments: &[&str],
    environment: &[(&str, &str)],
    counts: &mut Counts,
) -> anyhow::Result<bool> {
    println!("== cargo {}", arguments.join(" "));
    let mut child = Command::new("cargo")
        .args(arguments)
        .envs(environment.iter().copied())
        .current_dir(crate::workspace_root())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .context("cargo test")?;
    let (send, receive) = mpsc::channel();
    let streams: [Option<Box<dyn std::io::Read + Send>>; 2] = [
        child.stdout.take().map(|s| Box::new(s) as _),
        child.stderr.take().map(|s| Box::new(s) as _),
    ];
    let readers: Vec<_> = streams
        .into_iter()
        .flatten()
        .map(|stream| {
            let send = send.clone();
            thread::spawn(move || {
                let mut reader = BufReader::new(stream);
                let mut line = Vec::new();
                while reader.read_until(b'\n', &mut line).is_ok_and(|n| n > 0) {
                    let _ = send.send(String::from_utf8_lossy(&line).into_owned());
                    line.clear();
                }
            })
        })
        .collect();
    drop(send);
    let mut out = std::io::stdout();
    for line in receive {
        counts.read(&line);
        out.write_all(line.as_bytes())?;
    }
    for reader in readers {
        let _ = reader.join();
    }
    Ok(child.wait()?.success())
}

fn report(counts: &Counts, failures: &[String]) {
    println!();
    for skipped in &counts.skipped {
        println!("skipped: {skipped}");
    }
    for failure in failures {
        println!("failed: {failure}");
    }
    println!(
        "{} passed, {} failed, {} skipped",
        counts.passed.saturating_sub(counts.skipped.len()),
        counts.failed.max(usize::from(!failures.is_empty())),
        counts.skipped.len() + counts.ignored
    );
}

/// Runs cargo and remembers by `name` if it fails.
pub(crate) fn step(
    name: &str,
    arguments: &[&str],
    environment: &[(&str, &str)],
    failures: &mut Vec<String>,
) -> anyhow::Result<()> {
    println!("== {name}");
    let status = Command::new("cargo")
        .args(arguments)
        .envs(environment.iter().copied())
        .current_dir(crate::workspace_root())
        .status()
        .with_context(|| name.to_owned())?;
    if !status.success() {
        failures.push(name.to_owned());
    }
    Ok(())
}

fn has_cargo_deny() -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .map(|dir: PathBuf| dir.join("cargo-deny"))
        .any(|file| file.exists())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_add_up_over_test_binaries() {
        let mut counts = Counts::default();
        counts.read("test result: ok. 3 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.01s");
        counts.read("test result: FAILED. 2 passed; 1 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.01s");
        counts.read("skipped: pulls_from_a_registry: no docker-registry on this machine");
        counts.read("test something ... ok");
        assert_eq!((counts.passed, counts.failed, counts.ignored), (5, 1, 1));
        assert_eq!(counts.skipped.len(), 1);
    }
}
