//! Finding any of many patterns, at gigabytes a second.
//!
//! Long patterns are found by samples: of every sixteen bytes of the text eight are looked up, and a pattern of 23 bytes or
//! more cannot lie in the text without one of its own being among them. So their number costs nothing. Short ones are
//! found by a filter of their beginnings.

use alloc::collections::BTreeMap;
use alloc::vec;
use alloc::vec::Vec;
use core::ops::Range;

use super::filter::Filter;
use super::forms::{self, Patterns, SHORTEST};

/// Distance between two samples of the text.
const STRIDE: usize = 16;
/// Bytes of a sample.
const SAMPLE: usize = 8;
/// Any pattern of this length covers a whole sample, wherever it lies.
const LONG: usize = STRIDE + SAMPLE - 1;

#[derive(Debug)]
pub(crate) struct Search {
    /// In order, so that those with one beginning are neighbours.
    patterns: Vec<Vec<u8>>,
    longest: usize,
    short: Filter,
    /// The beginnings of all patterns.
    beginnings: Bits,
    samples: Bits,
    /// Where a sample lies: in which patterns, at what offset.
    sampled: BTreeMap<u64, Vec<(usize, usize)>>,
}

/// The end of a text that may be the beginning of a pattern.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Cut {
    pub(super) at: usize,
    /// How long the pattern is.
    pub(super) length: usize,
}

impl Search {
    /// Looks for what tells any of the values.
    pub(crate) fn of_values<'a>(values: impl IntoIterator<Item = &'a [u8]>) -> Search {
        let mut patterns = Patterns::new();
        values
            .into_iter()
            .for_each(|value| forms::add(&mut patterns, value));
        Search::new(patterns)
    }

    pub(super) fn new(patterns: Patterns) -> Search {
        let patterns: Vec<Vec<u8>> = patterns.into_iter().collect();
        let mut beginnings = Bits::new(patterns.len());
        let mut sampled: BTreeMap<u64, Vec<(usize, usize)>> = BTreeMap::new();
        for (index, pattern) in patterns.iter().enumerate() {
            beginnings.add(beginning(pattern));
            if pattern.len() < LONG {
                continue;
            }
            for offset in 0..STRIDE {
                let sample = sample(&pattern[offset..]);
                sampled.entry(sample).or_default().push((index, offset));
            }
        }
        let mut samples = Bits::new(sampled.len());
        sampled.keys().for_each(|sample| samples.add(*sample));
        let short = patterns.iter().filter(|pattern| pattern.len() < LONG);
        Search {
            longest: patterns.iter().map(Vec::len).max().unwrap_or_default(),
            short: Filter::new(short.map(Vec::as_slice)),
            beginnings,
            samples,
            sampled,
            patterns,
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.patterns.is_empty()
    }

    /// Where patterns lie, in no order; they may overlap.
    pub(super) fn find(&self, text: &[u8], found: &mut Vec<Range<usize>>) {
        self.short.places(text, |at| {
            let text = &text[at..];
            if text.len() < SHORTEST || !self.beginnings.has(beginning(text)) {
                return;
            }
            let longest = self
                .that_begin_as(&text[..SHORTEST])
                .filter(|pattern| pattern.len() < LONG && text.starts_with(pattern))
                .map(Vec::len)
                .max();
            found.extend(longest.map(|length| at..at + length));
        });
        if self.sampled.is_empty() {
            return;
        }
        let mut at = 0;
        while let Some(eight) = text.get(at..at + SAMPLE) {
            let sample = sample(eight);
            if self.samples.has(sample)
                && let Some(places) = self.sampled.get(&sample)
            {
                for (index, offset) in places {
                    let pattern = &self.patterns[*index];
                    if let Some(start) = at.checked_sub(*offset)
                        && text[start..].starts_with(pattern)
                    {
                        found.push(start..start + pattern.len());
                    }
                }
            }
            at += STRIDE;
        }
    }

    /// The first place from which the text goes on like a pattern up to its end.
    pub(super) fn cut(&self, text: &[u8]) -> Option<Cut> {
        let first = text.len().saturating_sub(self.longest.saturating_sub(1));
        (first..text.len()).find_map(|at| {
            let end = &text[at..];
            if end.len() >= SHORTEST && !self.beginnings.has(beginning(end)) {
                return None;
            }
            let after = self
                .patterns
                .partition_point(|pattern| pattern.as_slice() <= end);
            let pattern = self.patterns.get(after)?;
            pattern.starts_with(end).then_some(Cut {
                at,
                length: pattern.len(),
            })
        })
    }

    fn that_begin_as<'a>(&'a self, beginning: &'a [u8]) -> impl Iterator<Item = &'a Vec<u8>> {
        let first = self
            .patterns
            .partition_point(|pattern| pattern.as_slice() < beginning);
        let rest = self.patterns[first..].iter();
        rest.take_while(move |pattern| pattern.starts_with(beginning))
    }
}

fn beginning(text: &[u8]) -> u64 {
    u64::from(u32::from_le_bytes([text[0], text[1], text[2], text[3]]))
}

fn sample(text: &[u8]) -> u64 {
    let mut bytes = [0; SAMPLE];
    bytes.copy_from_slice(&text[..SAMPLE]);
    u64::from_le_bytes(bytes)
}

/// A set that may hold a little more than was put in.
#[derive(Debug)]
struct Bits {
    words: Vec<u64>,
    shift: u32,
}

impl Bits {
    /// For so many members: few of the others shall be taken for one.
    fn new(members: usize) -> Bits {
        let bits = (members * 64).next_power_of_two().clamp(1 << 10, 1 << 24);
        Bits {
            words: vec![0; bits / 64],
            shift: 64 - bits.trailing_zeros(),
        }
    }

    #[inline(always)]
    fn place(&self, member: u64) -> (usize, u32) {
        let hash = member.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> self.shift;
        ((hash / 64) as usize, (hash % 64) as u32)
    }

    fn add(&mut self, member: u64) {
        let (word, bit) = self.place(member);
        self.words[word] |= 1 << bit;
    }

    #[inline(always)]
    fn has(&self, member: u64) -> bool {
        let (word, bit) = self.place(member);
        self.words[word] >> bit & 1 == 1
    }
}
