//! A terminal with a live region at its bottom: lines go above it, the region is drawn anew.

use std::io::{self, Write};

/// The region and what it is drawn on.
#[derive(Debug)]
pub struct Screen<W: Write> {
    out: W,
    drawn: usize,
}

impl<W: Write> Screen<W> {
    /// An empty region.
    pub fn new(out: W) -> Self {
        Self { out, drawn: 0 }
    }

    /// Writes `above` for good and draws `region` below it, in one write so that nothing flickers.
    pub fn draw(&mut self, above: &str, region: &[String]) -> io::Result<()> {
        let mut text = String::from("\x1b[?2026h");
        if self.drawn > 0 {
            text.push_str(&format!("\x1b[{}F\x1b[0J", self.drawn));
        }
        text.push_str(above);
        for line in region {
            text.push_str(line);
            text.push('\n');
        }
        text.push_str("\x1b[?2026l");
        self.drawn = region.len();
        self.out.write_all(text.as_bytes())?;
        self.out.flush()
    }
}

/// A log line without what would move the cursor: colours stay, a carriage return begins the line anew.
pub fn tame(line: &str) -> String {
    let line = line.trim_end_matches('\r');
    let line = line.rsplit('\r').next().unwrap_or_default();
    let mut kept = String::with_capacity(line.len());
    let mut rest = line.chars().peekable();
    while let Some(c) = rest.next() {
        if c == '\x1b' {
            if rest.peek() != Some(&'[') {
                rest.next();
                continue;
            }
            rest.next();
            let mut sequence = String::new();
            for c in rest.by_ref() {
                sequence.push(c);
                if ('@'..='~').contains(&c) {
                    break;
                }
            }
            if sequence.ends_with('m') {
                kept.push_str("\x1b[");
                kept.push_str(&sequence);
            }
        } else if c == '\t' || !c.is_control() {
            kept.push(c);
        }
    }
    if kept.contains('\x1b') {
        kept.push_str("\x1b[0m");
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn log_lines_cannot_move_the_cursor() {
        let cases = [
            ("plain", "plain"),
            ("10%\r50%\r100%", "100%"),
            ("line\r", "line"),
            ("\x1b[2Jgone\x1b[3A", "gone"),
            ("\x1b[31mred", "\x1b[31mred\x1b[0m"),
            ("\x1b]0;title\x07x", "0;titlex"),
        ];
        for (line, expected) in cases {
            assert_eq!(tame(line), expected, "{line:?}");
        }
    }

    #[test]
    fn the_region_is_wiped_before_lines_are_added() {
        let mut out = Vec::new();
        let mut screen = Screen::new(&mut out);
        screen
            .draw("one\n", &["a".to_owned(), "b".to_owned()])
            .expect("writes to memory");
        screen.draw("two\n", &[]).expect("writes to memory");
        let text = String::from_utf8(out).expect("text");
        assert!(
            text.contains("one\na\nb\n") && text.contains("\x1b[2F\x1b[0Jtwo\n"),
            "{text:?}"
        );
    }
}
