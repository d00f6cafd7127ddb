//! The `tektite` binary: dispatches the launcher before any thread exists, reads arguments, prints failures.
#![forbid(unsafe_code)]

mod apply;
mod arguments;
mod commands;
mod connect;
mod data_dir;
mod diagnostic;
mod docker_config;
mod exit;
mod follow;
mod image_configs;
mod lint;
mod local;
mod logging;
mod manifest;
mod objects;
mod probes;
mod report;
mod resolving;
mod start;
mod terminal;
mod throttle;
mod tls;
mod up_record;
mod view;
mod warnings;
mod webhook_certificate;

use std::process::ExitCode;

use clap::Parser as _;

/// Objects are trees of small allocations, made and dropped by the thousand: a third of the control plane's time with the
/// system's allocator, a tenth with this one, which also gives freed pages back.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    if std::env::args_os()
        .nth(1)
        .is_some_and(|argument| argument == tektite_node::LAUNCH_ARGUMENT)
    {
        tektite_node::launcher_main();
    }
    let words = arguments::two_dashes(std::env::args_os());
    let arguments = arguments::Arguments::parse_from(words);
    match commands::dispatch(arguments) {
        Ok(exit) => exit.into(),
        Err(failure) => {
            let look = terminal::Terminal::stderr().look();
            terminal::print_error(&diagnostic::render(&failure.diagnostics, look));
            failure.exit.into()
        }
    }
}
