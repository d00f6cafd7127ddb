//! Fuzz targets on stable Rust: libFuzzer, with LLVM's coverage pass asked for by flags that stable takes.

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use clap::Args;
use serde_json::Value;

use crate::test::step;

/// Which target, for how long, from which seeds.
#[derive(Args)]
pub struct Options {
    /// Name of a file in fuzz/targets; all of them, one after the other, if none is given
    target: Option<String>,
    /// How much processor time each gets, in seconds: on a busy machine it takes longer, not less
    #[arg(long, default_value_t = 600)]
    seconds: u32,
    /// Files or directories to begin with, such as manifests; of a .jsonl file, every line's `manifest` or the line
    #[arg(long = "seeds", value_name = "PATH")]
    seeds: Vec<PathBuf>,
    /// Only build
    #[arg(long)]
    build: bool,
}

/// Has the compiler count which branches are taken and what is compared.
const FLAGS: [&str; 7] = [
    "--cfg=fuzzing",
    "-Cpasses=sancov-module",
    "-Cllvm-args=-sanitizer-coverage-level=4",
    "-Cllvm-args=-sanitizer-coverage-inline-8bit-counters",
    "-Cllvm-args=-sanitizer-coverage-pc-table",
    "-Cllvm-args=-sanitizer-coverage-trace-compares",
    "-Cforce-frame-pointers=yes",
];
/// Longer inputs find little that shorter do not, and slow everything down.
const LONGEST: usize = 64 * 1024;
/// An input that takes this many seconds is a finding; on a busy machine a few of them are nothing.
const PATIENCE: u32 = 60;

pub fn run(options: &Options) -> Result<ExitCode> {
    let directory = crate::workspace_root().join("fuzz");
    let targets = match &options.target {
        Some(target) => vec![target.clone()],
        None => all(&directory)?,
    };
    let triple = host()?;
    build(&directory, &triple, &targets)?;
    if options.build {
        return Ok(ExitCode::SUCCESS);
    }
    for target in &targets {
        println!("fuzz {target}: {} s of CPU", options.seconds);
        fuzz(&directory, &triple, target, options)?;
    }
    println!(
        "{} targets ran {} s of CPU each without a finding",
        targets.len(),
        options.seconds
    );
    Ok(ExitCode::SUCCESS)
}

/// The names of all targets.
fn all(directory: &Path) -> Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in std::fs::read_dir(directory.join("targets"))? {
        let path = entry?.path();
        names.extend(
            path.file_stem()
                .map(|stem| stem.to_string_lossy().into_owned()),
        );
    }
    names.sort();
    Ok(names)
}

/// Cargo leaves build scripts alone, for which the flags are not meant, only if the target is named.
fn host() -> Result<String> {
    let said = Command::new("rustc")
        .arg("-vV")
        .output()
        .context("cannot run rustc")?;
    let said = String::from_utf8_lossy(&said.stdout).into_owned();
    let host = said.lines().find_map(|line| line.strip_prefix("host: "));
    host.map(str::to_owned).context("rustc -vV names no host")
}

/// Formatting and lints of the targets, whose workspace is their own. Nothing is linked, so no fuzzer is built for it.
pub fn check(failures: &mut Vec<String>) -> Result<()> {
    const MANIFEST: &str = "fuzz/Cargo.toml";
    let format = ["fmt", "--manifest-path", MANIFEST, "--check"];
    step("cargo fmt, fuzz targets", &format, &[], failures)?;
    let shared = crate::workspace_root().join("target");
    let shared = std::env::var_os("CARGO_TARGET_DIR").map_or(shared, PathBuf::from);
    let shared = shared.to_string_lossy();
    let lints = [
        "clippy",
        "--manifest-path",
        MANIFEST,
        "--bins",
        "--locked",
        "--target-dir",
        &shared,
        "--",
        "-D",
        "warnings",
    ];
    let no_fuzzer = [("CUSTOM_LIBFUZZER_PATH", "/nowhere/libfuzzer.a")];
    step("cargo clippy, fuzz targets", &lints, &no_fuzzer, failures)
}

/// Not the workspace's: what is built here is of use to nothing else. `FUZZ_TARGET_DIR` says where, if not in `fuzz`.
fn target_directory(directory: &Path) -> PathBuf {
    match std::env::var_os("FUZZ_TARGET_DIR") {
        Some(chosen) => chosen.into(),
        None => directory.join("target"),
    }
}

fn build(directory: &Path, triple: &str, targets: &[String]) -> Result<()> {
    let mut cargo = Command::new("cargo");
    cargo
        .current_dir(directory)
        .args(["build", "--release", "--target", triple, "--target-dir"])
        .arg(target_directory(directory))
        .env("CARGO_ENCODED_RUSTFLAGS", FLAGS.join("\u{1f}"));
    for target in targets {
        cargo.args(["--bin", target]);
    }
    ensure!(
        cargo.status().context("cannot run cargo")?.success(),
        "the targets do not build"
    );
    Ok(())
}

fn fuzz(directory: &Path, triple: &str, target: &str, options: &Options) -> Result<()> {
    let corpus = directory.join("corpus").join(target);
    let findings = directory.join("findings").join(target);
    for made in [&corpus, &findings] {
        std::fs::create_dir_all(made).with_context(|| format!("cannot make {}", made.display()))?;
    }
    let mut seeds = Seeds {
        into: corpus.clone(),
        count: 0,
    };
    // What reads manifests has the examples to begin with.
    let own = Some(directory.join("seeds").join(target)).filter(|own| own.is_dir());
    let own = own.unwrap_or_else(|| crate::workspace_root().join("examples"));
    for seed in std::iter::once(&own).chain(&options.seeds) {
        seeds
            .add(seed)
            .with_context(|| format!("seeds {}", seed.display()))?;
    }
    let binary = target_directory(directory)
        .join(triple)
        .join("release")
        .join(target);
    let mut child = Command::new(binary)
        .current_dir(directory)
        .arg(format!("-max_len={LONGEST}"))
        .arg(format!("-timeout={PATIENCE}"))
        .arg("-print_final_stats=1")
        .arg(format!("-artifact_prefix={}/", findings.display()))
        .arg(&corpus)
        .spawn()
        .with_context(|| format!("cannot run the target {target}"))?;
    let mut asked = false;
    let status = loop {
        if let Some(status) = child.try_wait()? {
            break status;
        }
        if !asked && cpu_seconds(child.id())? >= f64::from(options.seconds) {
            ask_to_end(child.id())?;
            asked = true;
        }
        std::thread::sleep(Duration::from_millis(200));
    };
    ensure!(
        status.success(),
        "{target} has a finding: see {}",
        findings.display()
    );
    Ok(())
}

/// Processor time that a process has used, all of its threads, in seconds (proc(5), `stat`: fields 14 and 15).
fn cpu_seconds(pid: u32) -> Result<f64> {
    /// `USER_HZ`, the same on every Linux that Rust runs on.
    const TICKS: f64 = 100.0;
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
    // The second field, a name in parentheses, may hold anything.
    let (_, fields) = stat.rsplit_once(')').context("no name in stat")?;
    let ticks = fields.split_whitespace().skip(11).take(2);
    let ticks: Vec<f64> = ticks.map(str::parse).collect::<Result<_, _>>()?;
    Ok(ticks.iter().sum::<f64>() / TICKS)
}

/// libFuzzer ends at this signal, with its figures and without a finding.
fn ask_to_end(pid: u32) -> Result<()> {
    let sent = Command::new("kill")
        .args(["-USR1", &pid.to_string()])
        .status()?;
    ensure!(sent.success(), "cannot tell process {pid} to end");
    Ok(())
}

/// Copies inputs to where the fuzzer takes them from, one file for each.
struct Seeds {
    into: PathBuf,
    count: usize,
}

impl Seeds {
    fn add(&mut self, path: &Path) -> Result<()> {
        if path.is_dir() {
            for entry in std::fs::read_dir(path)? {
                self.add(&entry?.path())?;
            }
            return Ok(());
        }
        let content = std::fs::read(path)?;
        if path
            .extension()
            .is_none_or(|extension| extension != "jsonl")
        {
            return self.put(&content);
        }
        for line in content.split(|byte| *byte == b'\n') {
            let manifest = serde_json::from_slice::<Value>(line)
                .ok()
                .and_then(|mut line| Some(line.get_mut("manifest")?.take()));
            match manifest {
                Some(Value::String(text)) => self.put(text.as_bytes())?,
                Some(object) => self.put(object.to_string().as_bytes())?,
                None => self.put(line)?,
            }
        }
        Ok(())
    }

    fn put(&mut self, content: &[u8]) -> Result<()> {
        if (1..=LONGEST).contains(&content.len()) {
            std::fs::write(self.into.join(format!("seed-{}", self.count)), content)?;
            self.count += 1;
        }
        Ok(())
    }
}
