//! Runs the benchmark of the whole, on a release build.

use std::process::{Command, ExitCode};

use anyhow::Context;

#[derive(clap::Args)]
pub struct Options {
    /// Passed on to the benchmark (`--help` lists what it takes).
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    arguments: Vec<String>,
}

pub fn run(options: &Options) -> anyhow::Result<ExitCode> {
    let status = Command::new("cargo")
        .args([
            "bench",
            "--locked",
            "-p",
            "tektite-cli",
            "--bench",
            "figures",
            "--",
        ])
        .args(&options.arguments)
        .current_dir(crate::workspace_root())
        .status()
        .context("cargo bench")?;
    Ok(if status.success() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}
