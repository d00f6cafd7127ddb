//! Colours and signs, or neither.

use std::time::Duration;

use crate::view::State;

/// Whether text is coloured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Style {
    /// ANSI colours and box drawing; otherwise plain text.
    pub fancy: bool,
}

impl Style {
    fn wrap(self, code: &str, text: &str) -> String {
        if self.fancy && !text.is_empty() {
            format!("\x1b[{code}m{text}\x1b[0m")
        } else {
            text.to_owned()
        }
    }

    /// Important text.
    pub fn bold(self, text: &str) -> String {
        self.wrap("1", text)
    }

    /// Unimportant text.
    pub fn dim(self, text: &str) -> String {
        self.wrap("2", text)
    }

    /// Text in the colour of a state.
    pub fn state(self, state: State, text: &str) -> String {
        self.wrap(colour(state), text)
    }

    /// The sign of a state; `frame` turns the one of running things.
    pub fn sign(self, state: State, frame: usize) -> String {
        const SPINNER: [&str; 10] = ["⠋", "⠙", "⠹", "⠸", "⠼", "⠴", "⠦", "⠧", "⠇", "⠏"];
        let sign = match (self.fancy, state) {
            (true, State::Waiting) => "·",
            (true, State::Running) => SPINNER[frame % SPINNER.len()],
            (true, State::Succeeded) => "✓",
            (true, State::Failed) => "✗",
            (true, State::Cancelled) => "◼",
            (true, State::Skipped) => "–",
            (false, State::Waiting) => ".",
            (false, State::Running) => ">",
            (false, State::Succeeded) => "+",
            (false, State::Failed) => "x",
            (false, State::Cancelled) => "x",
            (false, State::Skipped) => "-",
        };
        self.state(state, sign)
    }

    /// The prefix of a log line: `[task : step]`, each task in a colour of its own.
    pub fn prefix(self, task: &str, step: &str) -> String {
        const COLOURS: [&str; 6] = ["36", "35", "34", "33", "32", "94"];
        let hash = task.bytes().fold(5381_usize, |hash, byte| {
            hash.wrapping_mul(33) ^ usize::from(byte)
        });
        self.wrap(COLOURS[hash % COLOURS.len()], &format!("[{task} : {step}]"))
    }
}

fn colour(state: State) -> &'static str {
    match state {
        State::Waiting | State::Skipped => "2",
        State::Running => "36",
        State::Succeeded => "32",
        State::Failed => "31",
        State::Cancelled => "33",
    }
}

/// A duration as people say it: `38 ms`, `1.2 s`, `3 m 05 s`, `2 h 07 m`.
pub fn duration(duration: Duration) -> String {
    let seconds = duration.as_secs();
    match seconds {
        0 => format!("{} ms", duration.as_millis()),
        1..60 => format!("{:.1} s", duration.as_secs_f64()),
        60..3600 => format!("{} m {:02} s", seconds / 60, seconds % 60),
        _ => format!("{} h {:02} m", seconds / 3600, seconds % 3600 / 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_short_and_exact_enough() {
        let cases = [
            (38, "38 ms"),
            (1234, "1.2 s"),
            (59_000, "59.0 s"),
            (185_000, "3 m 05 s"),
            (7_620_000, "2 h 07 m"),
        ];
        for (milliseconds, expected) in cases {
            assert_eq!(duration(Duration::from_millis(milliseconds)), expected);
        }
    }
}
