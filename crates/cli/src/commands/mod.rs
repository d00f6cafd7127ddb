//! One module per command.

mod lint;

use crate::arguments::{Arguments, Command};
use crate::exit::Outcome;

/// Does what the arguments say.
pub fn dispatch(arguments: Arguments) -> Outcome {
    match arguments.command {
        Command::Lint(arguments) => lint::run(&arguments),
        other => Err(crate::exit::Failure::new(
            crate::exit::Exit::Failed,
            format!("not built yet: {other:?}"),
        )),
    }
}
