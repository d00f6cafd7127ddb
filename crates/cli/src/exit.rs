//! How the program ends: the exit codes that scripts rely on.

use std::process::ExitCode;

use crate::diagnostic::Diagnostic;

/// What became of a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// All went well; all runs succeeded.
    Success,
    /// A run failed, or the command could not do its work.
    Failed,
    /// The input was refused; nothing was started.
    Refused,
    /// This machine cannot run containers.
    CannotRun,
    /// Interrupted by the user.
    Interrupted,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        ExitCode::from(match exit {
            Exit::Success => 0,
            Exit::Failed => 1,
            Exit::Refused => 2,
            Exit::CannotRun => 3,
            Exit::Interrupted => 130,
        })
    }
}

/// Why a command ended early.
#[derive(Debug)]
pub struct Failure {
    /// The exit code.
    pub exit: Exit,
    /// What to print.
    pub diagnostics: Vec<Diagnostic>,
}

impl Failure {
    /// One error with the given exit code.
    pub fn new(exit: Exit, message: impl Into<String>) -> Self {
        Self {
            exit,
            diagnostics: vec![Diagnostic::error(message)],
        }
    }

    /// Adds what to do to the last error.
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        if let Some(last) = self.diagnostics.pop() {
            self.diagnostics.push(last.hint(hint));
        }
        self
    }

    /// The input was refused.
    pub fn refused(diagnostics: Vec<Diagnostic>) -> Self {
        Self {
            exit: Exit::Refused,
            diagnostics,
        }
    }
}

impl From<Diagnostic> for Failure {
    fn from(diagnostic: Diagnostic) -> Self {
        Self {
            exit: Exit::Failed,
            diagnostics: vec![diagnostic],
        }
    }
}

/// What commands return.
pub type Outcome = Result<Exit, Failure>;
