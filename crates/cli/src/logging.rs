//! What goes on inside, on standard error: only with `-v` or `TEKTITE_LOG`.

use tracing_subscriber::EnvFilter;

use crate::terminal::Terminal;

/// Turns logging on if it was asked for. `TEKTITE_LOG` takes the filters of `tracing-subscriber`.
pub fn start(verbose: u8) {
    let wanted = std::env::var("TEKTITE_LOG")
        .ok()
        .filter(|value| !value.is_empty());
    let filter = match (wanted, verbose) {
        (Some(filter), _) => filter,
        (None, 0) => return,
        (None, 1) => "warn,tektite=info,tektite_controller=info,tektite_node=info,tektite_cluster=info,tektite_apiserver=info".to_owned(),
        (None, _) => "info,tektite=debug,tektite_controller=debug,tektite_node=debug,tektite_cluster=debug,tektite_apiserver=debug".to_owned(),
    };
    tracing_subscriber::fmt()
        .with_env_filter(EnvFilter::new(filter))
        .with_writer(std::io::stderr)
        .with_ansi(Terminal::stderr().colours)
        .init();
}
