//! How deep an expression may nest, told before it is parsed: the parser's stack grows with it.

use std::iter::Peekable;
use std::str::CharIndices;

/// Upper bound of how deep the parts of `expression` lie in each other: brackets, and chains of operators and
/// selections, which nest to the left.
pub(super) fn depth(expression: &str) -> usize {
    let mut levels = vec![Level::default()];
    let mut deepest = 0;
    let mut tokens = Tokens::new(expression);
    while let Some(token) = tokens.next() {
        let level = levels.len() - 1;
        match token {
            '(' | '[' | '{' => {
                levels[level].chain += 1;
                levels.push(Level::default());
            }
            ')' | ']' | '}' if level > 0 => {
                levels.pop();
            }
            ',' => levels[level] = Level::default(),
            // Of these the parser makes lists, not chains.
            '&' | '|' => levels[level].chain = 0,
            '?' => {
                levels[level].choices += 1;
                levels[level].chain = 0;
            }
            _ => levels[level].chain += 1,
        }
        deepest = deepest.max(
            levels
                .iter()
                .map(|level| 1 + level.chain + level.choices)
                .sum(),
        );
        if deepest > super::DEEPEST {
            break;
        }
    }
    deepest
}

#[derive(Default)]
struct Level {
    chain: usize,
    choices: usize,
}

/// What is neither space, name, number, text nor comment, character by character.
struct Tokens<'a> {
    source: &'a str,
    rest: Peekable<CharIndices<'a>>,
}

impl<'a> Tokens<'a> {
    fn new(source: &'a str) -> Self {
        Self {
            source,
            rest: source.char_indices().peekable(),
        }
    }

    fn next(&mut self) -> Option<char> {
        loop {
            let (at, character) = self.rest.next()?;
            if is_name(character) {
                let end = self.skip_while(is_name);
                let name = &self.source[at..end];
                if name.len() <= 2 && name.chars().all(|c| "rRbB".contains(c)) {
                    self.skip_text(end, name.contains(['r', 'R']));
                }
            } else if matches!(character, '"' | '\'') {
                self.skip_text(at, false);
            } else if self.source[at..].starts_with("//") {
                self.skip_while(|c| c != '\n');
            } else if !character.is_whitespace() {
                return Some(character);
            }
        }
    }

    /// Goes on to the first character that does not pass; where that is.
    fn skip_while(&mut self, passes: impl Fn(char) -> bool) -> usize {
        while self
            .rest
            .next_if(|(_, character)| passes(*character))
            .is_some()
        {}
        self.rest.peek().map_or(self.source.len(), |(at, _)| *at)
    }

    /// Goes on behind the text that begins with a quote at `at`. Without an end it is no text, and what follows the
    /// quote counts.
    fn skip_text(&mut self, at: usize, raw: bool) {
        let text = &self.source[at..];
        let length = ["\"\"\"", "'''", "\"", "'"]
            .iter()
            .find_map(|quote| length_of_text(text, quote, raw));
        if let Some(length) = length {
            let end = at + length;
            while self.rest.next_if(|(at, _)| *at < end).is_some() {}
        }
    }
}

fn is_name(character: char) -> bool {
    character.is_ascii_alphanumeric() || character == '_'
}

/// How long the text is that `source` begins with, if it is one in these quotes.
fn length_of_text(source: &str, quote: &str, raw: bool) -> Option<usize> {
    let inner = source.strip_prefix(quote)?;
    let mut characters = inner.char_indices();
    while let Some((at, character)) = characters.next() {
        if inner[at..].starts_with(quote) {
            return Some(quote.len() + at + quote.len());
        }
        match character {
            '\\' if !raw => {
                characters.next();
            }
            '\n' | '\r' if quote.len() == 1 => return None,
            _ => {}
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn brackets_and_chains_add_up_and_alternatives_do_not() {
        for (expression, expected) in [
            ("", 0),
            ("a", 0),
            ("a.b", 2),
            ("a.b.c + 1", 4),
            ("f(a.b)", 4),
            ("[1.5, 2.5, 3.5]", 4),
            ("!a && !b && !c || !d", 2),
            ("a ? b : c ? d : e", 4),
            ("'a.b.c.d' + \"((((\"", 2),
            ("r'\\' + '....' + 1", 3),
            ("'''a'b''' + '\\'...'", 2),
            ("// a 'comment\n1 + 1", 2),
            ("'no end.a.b", 3),
        ] {
            assert_eq!(depth(expression), expected, "{expression}");
        }
    }
}
