//! Development tasks: `cargo xtask test`, `bench`, `fuzz` and `parity`.
#![forbid(unsafe_code)]

mod architecture;
mod bench;
mod fuzz;
mod parity;
mod test;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(name = "cargo xtask", about = "Development tasks of Tektite")]
struct Arguments {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Format check, lints, architecture rules, then every test; prints the counts at the end.
    Test(test::Options),
    /// Measures the figures that the design promises, on a release build.
    Bench(bench::Options),
    /// Lists the rows of the compatibility contract and the tests that hold them.
    Parity(parity::Options),
    /// Feeds every decoder with what it does not expect.
    Fuzz(fuzz::Options),
    /// Checks that crates depend only on what the design lets them.
    Architecture,
}

fn main() -> ExitCode {
    let outcome = match Arguments::parse().task {
        Task::Test(options) => test::run(&options),
        Task::Bench(options) => bench::run(&options),
        Task::Parity(options) => parity::run(&options),
        Task::Fuzz(options) => fuzz::run(&options),
        Task::Architecture => architecture::check(),
    };
    match outcome {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// The root of the workspace, wherever the task was started from.
fn workspace_root() -> PathBuf {
    let manifest = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    manifest.parent().map_or(manifest.clone(), PathBuf::from)
}
