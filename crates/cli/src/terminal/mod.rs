//! What the terminal can show, and how to write to it.

pub mod screen;
pub mod style;
pub mod summary;
pub mod table;
pub mod tree;

use std::io::{self, IsTerminal as _, Write};

use crate::diagnostic::Look;

/// A stream and what it can show.
#[derive(Debug, Clone, Copy)]
pub struct Terminal {
    /// Whether a person looks at it, who can see lines change.
    pub interactive: bool,
    /// Whether it shows colours.
    pub colours: bool,
    /// Columns.
    pub width: usize,
    /// Rows.
    pub height: usize,
}

impl Terminal {
    /// Standard output.
    pub fn stdout() -> Self {
        Self::of(
            io::stdout().is_terminal(),
            terminal_size::terminal_size_of(io::stdout()),
        )
    }

    /// Standard error.
    pub fn stderr() -> Self {
        Self::of(
            io::stderr().is_terminal(),
            terminal_size::terminal_size_of(io::stderr()),
        )
    }

    fn of(terminal: bool, size: Option<(terminal_size::Width, terminal_size::Height)>) -> Self {
        let no_colour = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        let dumb = std::env::var_os("TERM").is_some_and(|value| value == "dumb");
        let (width, height) = size.map_or((100, 30), |(width, height)| {
            (usize::from(width.0), usize::from(height.0))
        });
        let interactive = terminal && !no_colour && !dumb;
        Self {
            interactive,
            colours: interactive,
            width: width.max(20),
            height: height.max(5),
        }
    }

    /// How diagnostics look on it.
    pub fn look(self) -> Look {
        Look {
            fancy: self.colours,
            width: self.width,
        }
    }
}

/// Writes to standard output; a reader that went away is no error.
pub fn print(text: &str) {
    let mut out = io::stdout().lock();
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}

/// Writes to standard error.
pub fn print_error(text: &str) {
    let mut out = io::stderr().lock();
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}
