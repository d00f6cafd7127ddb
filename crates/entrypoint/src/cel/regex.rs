//! Regular expressions as RE2 has them, for CEL's `matches`: whether one fits somewhere in a text, in linear time.
//!
//! Left out, and an error: classes of Unicode properties (`\p`).

use alloc::boxed::Box;
use alloc::format;
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;

/// More would take too long to follow.
const LONGEST: usize = 20_000;
const MAX_REPEAT: usize = 1000;
const MAX_DEPTH: usize = 64;

/// Whether `pattern` fits somewhere in `text`.
pub(super) fn matches(pattern: &str, text: &str) -> Result<bool, String> {
    let mut parser = Parser {
        rest: pattern,
        flags: Flags::default(),
        depth: 0,
    };
    let failed = |message: String| format!("error parsing regexp: {message}: `{pattern}`");
    let node = parser.alternatives().map_err(failed)?;
    if !parser.rest.is_empty() {
        return Err(failed("unexpected )".into()));
    }
    let mut program = Program(Vec::new());
    program.add(&node).map_err(failed)?;
    program.0.push(Step::Fits);
    Ok(program.fits(text))
}

type Ranges = Vec<(char, char)>;

#[derive(Clone, Debug)]
enum Node {
    Empty,
    /// One of these, or none of them.
    One(Ranges, bool),
    Assert(Assertion),
    All(Vec<Node>),
    Any(Vec<Node>),
    Repeat(Box<Node>, usize, Option<usize>),
}

#[derive(Clone, Copy, Debug)]
enum Assertion {
    Begin,
    End,
    LineBegin,
    LineEnd,
    Word(bool),
}

#[derive(Clone, Copy, Debug, Default)]
struct Flags {
    any_case: bool,
    lines: bool,
    dot_is_all: bool,
}

struct Parser<'a> {
    rest: &'a str,
    flags: Flags,
    depth: usize,
}

impl Parser<'_> {
    fn next(&mut self) -> Option<char> {
        let mut chars = self.rest.chars();
        let next = chars.next();
        self.rest = chars.as_str();
        next
    }

    fn take(&mut self, text: &str) -> bool {
        let after = self.rest.strip_prefix(text);
        self.rest = after.unwrap_or(self.rest);
        after.is_some()
    }

    fn alternatives(&mut self) -> Result<Node, String> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return Err("expression nests too deeply".into());
        }
        let mut all = vec![self.sequence()?];
        while self.take("|") {
            all.push(self.sequence()?);
        }
        self.depth -= 1;
        Ok(Node::Any(all))
    }

    fn sequence(&mut self) -> Result<Node, String> {
        let mut all = Vec::new();
        while !self.rest.is_empty() && !self.rest.starts_with(['|', ')']) {
            if self.rest.starts_with(['*', '+', '?']) {
                return Err("missing argument to repetition operator".into());
            }
            let one = self.one()?;
            all.push(self.repeated(one)?);
        }
        Ok(Node::All(all))
    }

    fn repeated(&mut self, one: Node) -> Result<Node, String> {
        let (least, most) = if self.take("*") {
            (0, None)
        } else if self.take("+") {
            (1, None)
        } else if self.take("?") {
            (0, Some(1))
        } else if let Some(counts) = self.counts() {
            counts
        } else {
            return Ok(one);
        };
        // Whether it prefers few makes no difference to whether it fits.
        self.take("?");
        if self.rest.starts_with(['*', '+', '?']) {
            return Err("invalid nested repetition operator".into());
        }
        if least.max(most.unwrap_or(0)) > MAX_REPEAT || most.is_some_and(|most| most < least) {
            return Err("invalid repeat count".into());
        }
        Ok(Node::Repeat(Box::new(one), least, most))
    }

    /// `{2}`, `{2,}` or `{2,3}`; anything else in braces stands for itself.
    fn counts(&mut self) -> Option<(usize, Option<usize>)> {
        let (inside, rest) = self.rest.strip_prefix('{')?.split_once('}')?;
        let counts = match inside.split_once(',') {
            None => {
                let count = inside.parse().ok()?;
                (count, Some(count))
            }
            Some((least, "")) => (least.parse().ok()?, None),
            Some((least, most)) => (least.parse().ok()?, Some(most.parse().ok()?)),
        };
        self.rest = rest;
        Some(counts)
    }

    fn one(&mut self) -> Result<Node, String> {
        let next = self.next().ok_or("unexpected end")?;
        Ok(match next {
            '(' => return self.group(),
            '[' => return self.class(),
            '.' if self.flags.dot_is_all => Node::One(Vec::new(), true),
            '.' => Node::One(vec![('\n', '\n')], true),
            '^' if self.flags.lines => Node::Assert(Assertion::LineBegin),
            '^' => Node::Assert(Assertion::Begin),
            '$' if self.flags.lines => Node::Assert(Assertion::LineEnd),
            '$' => Node::Assert(Assertion::End),
            '\\' => match self
                .next()
                .ok_or("trailing backslash at end of expression")?
            {
                'A' => Node::Assert(Assertion::Begin),
                'z' => Node::Assert(Assertion::End),
                'b' => Node::Assert(Assertion::Word(true)),
                'B' => Node::Assert(Assertion::Word(false)),
                c => {
                    let (ranges, negated) = self.escaped(c)?;
                    self.cased(ranges, negated)
                }
            },
            c => self.cased(vec![(c, c)], false),
        })
    }

    fn group(&mut self) -> Result<Node, String> {
        let before = self.flags;
        if self.take("?P<") || self.take("?<") {
            let (name, rest) = self.rest.split_once('>').ok_or("invalid named capture")?;
            if name.is_empty() || !name.chars().all(is_word) {
                return Err("invalid named capture".into());
            }
            self.rest = rest;
        } else if self.take("?") {
            let mut on = true;
            loop {
                match self.next().ok_or("missing closing )")? {
                    'i' => self.flags.any_case = on,
                    'm' => self.flags.lines = on,
                    's' => self.flags.dot_is_all = on,
                    'U' => {}
                    '-' => on = false,
                    ':' => break,
                    // For the rest of the group it stands in.
                    ')' => return Ok(Node::Empty),
                    _ => return Err("invalid or unsupported Perl syntax".into()),
                }
            }
        }
        let inside = self.alternatives()?;
        if !self.take(")") {
            return Err("missing closing )".into());
        }
        self.flags = before;
        Ok(inside)
    }

    fn class(&mut self) -> Result<Node, String> {
        let negated = self.take("^");
        let mut ranges = Vec::new();
        let mut first = true;
        loop {
            if !first && self.take("]") {
                return Ok(self.cased(ranges, negated));
            }
            first = false;
            if let Some((name, rest)) = self
                .rest
                .strip_prefix("[:")
                .and_then(|r| r.split_once(":]"))
            {
                ranges.extend_from_slice(posix(name)?);
                self.rest = rest;
                continue;
            }
            let from = match self.class_member()? {
                Ok(c) => c,
                Err(class) => {
                    ranges.extend(class);
                    continue;
                }
            };
            let mut to = from;
            if self.rest.starts_with('-') && !self.rest.starts_with("-]") {
                self.take("-");
                to = self
                    .class_member()?
                    .map_err(|_| "invalid character class range")?;
            }
            if to < from {
                return Err("invalid character class range".into());
            }
            ranges.push((from, to));
        }
    }

    /// A character, or what an escape like `\d` stands for.
    fn class_member(&mut self) -> Result<Result<char, Ranges>, String> {
        match self.next().ok_or("missing closing ]")? {
            '\\' => {
                let c = self.next().ok_or("missing closing ]")?;
                let (ranges, negated) = self.escaped(c)?;
                Ok(match ranges.as_slice() {
                    [(from, to)] if from == to && !negated => Ok(*from),
                    _ if negated => Err(complement(ranges)),
                    _ => Err(ranges),
                })
            }
            c => Ok(Ok(c)),
        }
    }

    fn escaped(&mut self, c: char) -> Result<(Ranges, bool), String> {
        let one = |c: char| (vec![(c, c)], false);
        Ok(match c {
            'd' | 'D' => (posix("digit")?.to_vec(), c == 'D'),
            'w' | 'W' => (posix("word")?.to_vec(), c == 'W'),
            's' | 'S' => (vec![('\t', '\n'), ('\u{c}', '\r'), (' ', ' ')], c == 'S'),
            'n' => one('\n'),
            't' => one('\t'),
            'r' => one('\r'),
            'f' => one('\u{c}'),
            'v' => one('\u{b}'),
            'a' => one('\u{7}'),
            'x' => {
                let digits = match self.rest.strip_prefix('{').and_then(|r| r.split_once('}')) {
                    Some((digits, rest)) => {
                        self.rest = rest;
                        digits
                    }
                    None => {
                        let digits = self.rest.get(..2).ok_or("invalid escape sequence")?;
                        self.rest = &self.rest[2..];
                        digits
                    }
                };
                let code = u32::from_str_radix(digits, 16)
                    .ok()
                    .and_then(char::from_u32);
                one(code.ok_or("invalid escape sequence")?)
            }
            c if c.is_ascii_punctuation() => one(c),
            c => return Err(format!("invalid escape sequence \\{c}")),
        })
    }

    fn cased(&self, mut ranges: Ranges, negated: bool) -> Node {
        if self.flags.any_case {
            let both = ranges.clone();
            for (from, to) in both {
                for (first, last, other) in [('a', 'z', 'A'), ('A', 'Z', 'a')] {
                    let (from, to) = (from.max(first), to.min(last));
                    let turned = |c: char| (c as u8 - first as u8 + other as u8) as char;
                    if from <= to {
                        ranges.push((turned(from), turned(to)));
                    }
                }
            }
        }
        Node::One(ranges, negated)
    }
}

fn posix(name: &str) -> Result<&'static [(char, char)], String> {
    Ok(match name {
        "digit" => &[('0', '9')],
        "alpha" => &[('a', 'z'), ('A', 'Z')],
        "alnum" => &[('0', '9'), ('a', 'z'), ('A', 'Z')],
        "word" => &[('0', '9'), ('a', 'z'), ('A', 'Z'), ('_', '_')],
        "lower" => &[('a', 'z')],
        "upper" => &[('A', 'Z')],
        "space" => &[('\t', '\r'), (' ', ' ')],
        "blank" => &[('\t', '\t'), (' ', ' ')],
        "punct" => &[('!', '/'), (':', '@'), ('[', '`'), ('{', '~')],
        "xdigit" => &[('0', '9'), ('a', 'f'), ('A', 'F')],
        _ => return Err("invalid character class range".into()),
    })
}

fn complement(mut ranges: Ranges) -> Ranges {
    ranges.sort_unstable();
    let mut out = Vec::new();
    let mut next = '\0';
    for (from, to) in ranges {
        // ASCII only, so there are neighbours.
        if from > next {
            out.push((next, (from as u8 - 1) as char));
        }
        next = (to as u8 + 1) as char;
    }
    out.push((next, char::MAX));
    out
}

fn is_word(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_'
}

#[derive(Debug)]
enum Step {
    One(Ranges, bool),
    Assert(Assertion),
    /// Goes on here and there.
    Split(usize, usize),
    Fits,
}

struct Program(Vec<Step>);

impl Program {
    fn add(&mut self, node: &Node) -> Result<(), String> {
        if self.0.len() > LONGEST {
            return Err("expression too large".into());
        }
        match node {
            Node::Empty => {}
            Node::One(ranges, negated) => self.0.push(Step::One(ranges.clone(), *negated)),
            Node::Assert(assertion) => self.0.push(Step::Assert(*assertion)),
            Node::All(nodes) => nodes.iter().try_for_each(|node| self.add(node))?,
            Node::Any(nodes) => {
                let mut ends = Vec::new();
                for (at, node) in nodes.iter().enumerate() {
                    let last = at + 1 == nodes.len();
                    let split = self.0.len();
                    if !last {
                        self.0.push(Step::Split(split + 1, split + 1));
                    }
                    self.add(node)?;
                    if !last {
                        ends.push(self.0.len());
                        self.0.push(Step::Split(0, 0));
                        self.0[split] = Step::Split(split + 1, self.0.len());
                    }
                }
                let end = self.0.len();
                ends.into_iter()
                    .for_each(|at| self.0[at] = Step::Split(end, end));
            }
            Node::Repeat(node, least, most) => {
                for _ in 0..*least {
                    let before = self.0.len();
                    self.add(node)?;
                    if self.0.len() == before {
                        // Nothing, however often.
                        return Ok(());
                    }
                }
                let Some(most) = most else {
                    let split = self.0.len();
                    self.0.push(Step::Fits);
                    self.add(node)?;
                    self.0.push(Step::Split(split, split));
                    self.0[split] = Step::Split(split + 1, self.0.len());
                    return Ok(());
                };
                let mut splits = Vec::new();
                for _ in *least..*most {
                    splits.push(self.0.len());
                    self.0.push(Step::Fits);
                    self.add(node)?;
                }
                let end = self.0.len();
                splits
                    .into_iter()
                    .for_each(|at| self.0[at] = Step::Split(at + 1, end));
            }
        }
        Ok(())
    }

    /// All ways through the program at once, letter by letter.
    fn fits(&self, text: &str) -> bool {
        let mut now = vec![false; self.0.len()];
        let mut before = None;
        let mut chars = text.chars();
        loop {
            let next = chars.clone().next();
            let mut open: Vec<usize> = (0..now.len()).filter(|at| now[*at]).collect();
            // It may begin anywhere.
            open.push(0);
            now.fill(false);
            while let Some(at) = open.pop() {
                if core::mem::replace(&mut now[at], true) {
                    continue;
                }
                match &self.0[at] {
                    Step::Fits => return true,
                    Step::Split(here, there) => open.extend([*here, *there]),
                    Step::Assert(assertion) if holds(*assertion, before, next) => open.push(at + 1),
                    Step::Assert(_) | Step::One(..) => {}
                }
            }
            let Some(c) = chars.next() else {
                return false;
            };
            let mut then = vec![false; now.len()];
            for (at, step) in self.0.iter().enumerate().filter(|(at, _)| now[*at]) {
                if let Step::One(ranges, negated) = step
                    && ranges.iter().any(|(from, to)| (from..=to).contains(&&c)) != *negated
                {
                    then[at + 1] = true;
                }
            }
            now = then;
            before = Some(c);
        }
    }
}

fn holds(assertion: Assertion, before: Option<char>, next: Option<char>) -> bool {
    match assertion {
        Assertion::Begin => before.is_none(),
        Assertion::End => next.is_none(),
        Assertion::LineBegin => before.is_none_or(|c| c == '\n'),
        Assertion::LineEnd => next.is_none_or(|c| c == '\n'),
        Assertion::Word(wanted) => {
            (before.is_some_and(is_word) != next.is_some_and(is_word)) == wanted
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_fit_as_in_re2() {
        for (pattern, text, expected) in [
            ("", "", true),
            ("b", "abc", true),
            ("^b", "abc", false),
            ("^release-[0-9]+$", "release-12", true),
            ("^release-[0-9]+$", "release-x", false),
            (r"^v\d+\.\d+(\.\d+)?$", "v1.20", true),
            (r"^v\d+\.\d+(\.\d+)?$", "v1.20.", false),
            ("^(main|release/.*)$", "release/1", true),
            ("^(main|release/.*)$", "maint", false),
            ("(?i)^HELLO$", "hello", true),
            ("(?i:A)b", "aB", false),
            ("^a.c$", "a\nc", false),
            ("(?s)^a.c$", "a\nc", true),
            ("(?m)^b$", "a\nb\nc", true),
            ("^a{2,3}$", "aaaa", false),
            ("^a{2,}?$", "aaaa", true),
            ("^(ab){2}$", "abab", true),
            ("^a{,2}$", "a{,2}", true),
            (r"\bcat\b", "a cat!", true),
            (r"\bcat\b", "concat", false),
            (r"^[^\s,]+$", "a b", false),
            (r"^[\w-]+$", "a-b_c", true),
            (r"^[\D]$", "é", true),
            ("^[[:alpha:]]+$", "abcX", true),
            ("^[]a]+$", "]a", true),
            (r"^\x41\x{1F600}$", "A😀", true),
            ("^é+$", "éé", true),
            ("(a*)*b", "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaac", false),
            ("^(?P<year>[0-9]{4})-(?:0[1-9]|1[0-2])$", "2026-11", true),
            ("(|a)+$", "b", true),
        ] {
            assert_eq!(matches(pattern, text), Ok(expected), "{pattern} {text}");
        }
    }

    #[test]
    fn what_is_no_pattern_is_an_error() {
        let deep = "(".repeat(1000);
        for pattern in [
            "(",
            ")",
            "[",
            "[b-a]",
            "*",
            "a**",
            r"\",
            r"\pL",
            "(?=a)",
            "a{1001}",
            "a{3,2}",
            "(((a{1000}){1000}){1000})",
            "[[:nope:]]",
            r"\xZZ",
            &deep,
        ] {
            let error = matches(pattern, "").unwrap_err();
            assert!(error.starts_with("error parsing regexp: "), "{error}");
        }
    }
}
