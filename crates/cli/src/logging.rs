//! What goes on inside, on standard error: with `-v` or `TEKTITE_LOG`, and what must be known of what runs for long.

use tracing_subscriber::EnvFilter;

use crate::terminal::Terminal;

/// What a command logs without being asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Quiet {
    /// Nothing.
    Silent,
    /// What is wrong.
    Warnings,
    /// What `-v` shows.
    Progress,
}

/// Turns logging on as far as it was asked for. `TEKTITE_LOG` takes the filters of `tracing-subscriber`.
pub fn start(verbose: u8, quiet: Quiet) {
    let wanted = std::env::var("TEKTITE_LOG")
        .ok()
        .filter(|value| !value.is_empty());
    // kube_client calls every failed attempt an error; whoever made it tells what it meant.
    let filter = match (wanted, verbose, quiet) {
        (Some(filter), _, _) => filter,
        (None, 0, Quiet::Silent) => return,
        (None, 0, Quiet::Warnings) => "warn,kube_client=off".to_owned(),
        (None, 0, Quiet::Progress) | (None, 1, _) => "warn,kube_client=off,tektite=info,tektite_controller=info,tektite_node=info,tektite_cluster=info,tektite_apiserver=info".to_owned(),
        (None, _, _) => "info,tektite=debug,tektite_controller=debug,tektite_node=debug,tektite_cluster=debug,tektite_apiserver=debug".to_owned(),
    };
    tracing_subscriber::fmt()
        .with_env_filter(EnvFilter::new(filter))
        .with_writer(std::io::stderr)
        .with_ansi(Terminal::stderr().colours)
        .init();
}
