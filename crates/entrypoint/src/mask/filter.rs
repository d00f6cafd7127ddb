//! Where in a text a short pattern may begin, many places at a time.
//!
//! The first three bytes of each pattern are entered into tables by their halves; a shuffle of the tables by the text's
//! halves tells for 16 or 32 places at once which of eight groups of patterns may begin there (Teddy, after Hyperscan).

use alloc::vec;
use alloc::vec::Vec;

/// Bytes of a pattern that the filter knows.
const KNOWN: usize = 3;

/// For each of the known bytes, by its low and its high half: the groups with such a pattern.
type Halves = [[[u8; 16]; 2]; KNOWN];

#[derive(Debug)]
pub(super) struct Filter {
    halves: Halves,
    /// The first two bytes of all, a bit for each: for machines without the shuffle, and for the text's end.
    pairs: Vec<u64>,
    width: Width,
    empty: bool,
}

impl Filter {
    /// For patterns that have at least four bytes each.
    pub(super) fn new<'a>(patterns: impl Iterator<Item = &'a [u8]>) -> Filter {
        let mut filter = Filter {
            halves: [[[0; 16]; 2]; KNOWN],
            pairs: vec![0; 1 << 10],
            width: Width::of_this_machine(),
            empty: true,
        };
        // Neighbours in order share beginnings, so they share a group.
        let mut group = 0;
        let mut before: Option<&[u8]> = None;
        for pattern in patterns {
            let beginning = &pattern[..KNOWN];
            if before.is_some_and(|before| before != beginning) {
                group = (group + 1) % 8;
            }
            before = Some(beginning);
            filter.empty = false;
            for (tables, byte) in filter.halves.iter_mut().zip(beginning) {
                tables[0][usize::from(byte & 15)] |= 1 << group;
                tables[1][usize::from(byte >> 4)] |= 1 << group;
            }
            let pair = usize::from(u16::from_le_bytes([pattern[0], pattern[1]]));
            filter.pairs[pair / 64] |= 1 << (pair % 64);
        }
        filter
    }

    /// Calls `each` with every place where a pattern may begin, in order, except for the last three bytes.
    pub(super) fn places(&self, text: &[u8], mut each: impl FnMut(usize)) {
        if self.empty {
            return;
        }
        let mut at = 0;
        loop {
            let (place, mut found) = self.width.next(&self.halves, text, at);
            at = place;
            if found == 0 {
                break;
            }
            while found != 0 {
                each(at + found.trailing_zeros() as usize);
                found &= found - 1;
            }
            at += self.width.places();
        }
        while at + KNOWN < text.len() {
            let pair = usize::from(u16::from_le_bytes([text[at], text[at + 1]]));
            if self.pairs[pair / 64] >> (pair % 64) & 1 == 1 {
                each(at);
            }
            at += 1;
        }
    }
}

/// How many places the processor can look at together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Width {
    One,
    #[cfg(target_arch = "x86_64")]
    Sixteen,
    #[cfg(target_arch = "x86_64")]
    ThirtyTwo,
}

#[cfg(not(target_arch = "x86_64"))]
impl Width {
    fn of_this_machine() -> Width {
        Width::One
    }

    fn places(self) -> usize {
        1
    }

    fn next(self, _: &Halves, _: &[u8], at: usize) -> (usize, u32) {
        (at, 0)
    }
}

#[cfg(target_arch = "x86_64")]
#[allow(unsafe_code)] // instructions that not every processor has; each use states why this one has them
impl Width {
    /// Asked of the processor itself: `std` would, but is not there.
    fn of_this_machine() -> Width {
        use core::arch::x86_64::{__cpuid, __cpuid_count, _xgetbv};
        let bit = |word: u32, bit: u32| word >> bit & 1 == 1;
        let (most, features) = (__cpuid(0).eax, __cpuid(1).ecx);
        let (ssse3, osxsave, avx) = (bit(features, 9), bit(features, 27), bit(features, 28));
        // SAFETY: OSXSAVE says that the instruction is there and allowed; bits 1 and 2 that the system saves registers.
        let saved = osxsave && unsafe { _xgetbv(0) } & 6 == 6;
        if saved && avx && most >= 7 && bit(__cpuid_count(7, 0).ebx, 5) {
            Width::ThirtyTwo
        } else if ssse3 {
            Width::Sixteen
        } else {
            Width::One
        }
    }

    fn places(self) -> usize {
        match self {
            Width::One => 1,
            Width::Sixteen => 16,
            Width::ThirtyTwo => 32,
        }
    }

    /// The next places, from `at` on, of which one may be a pattern's beginning, and a bit for each that may. No bit: so
    /// far everything has been looked at.
    fn next(self, halves: &Halves, text: &[u8], at: usize) -> (usize, u32) {
        match self {
            Width::One => (at, 0),
            // SAFETY: the width is the machine's.
            Width::Sixteen => unsafe { next_sixteen(halves, text, at) },
            // SAFETY: as above.
            Width::ThirtyTwo => unsafe { next_thirty_two(halves, text, at) },
        }
    }
}

/// # Safety
/// The processor has SSSE3.
#[cfg(target_arch = "x86_64")]
#[allow(unsafe_code)]
#[target_feature(enable = "ssse3")]
unsafe fn next_sixteen(halves: &Halves, text: &[u8], mut at: usize) -> (usize, u32) {
    use core::arch::x86_64::{
        _mm_and_si128, _mm_cmpeq_epi8, _mm_loadu_si128, _mm_movemask_epi8, _mm_set1_epi8,
        _mm_setzero_si128, _mm_shuffle_epi8, _mm_srli_epi16,
    };
    // SAFETY: tables have sixteen bytes.
    let tables = halves.map(|tables| tables.map(|t| unsafe { _mm_loadu_si128(t.as_ptr().cast()) }));
    let low = _mm_set1_epi8(15);
    while at + 16 + KNOWN <= text.len() {
        let mut groups = _mm_set1_epi8(-1);
        for (further, [by_low, by_high]) in tables.iter().enumerate() {
            // SAFETY: sixteen bytes from here, and from the next two places, are in the text.
            let bytes = unsafe { _mm_loadu_si128(text.as_ptr().add(at + further).cast()) };
            let of_low = _mm_shuffle_epi8(*by_low, _mm_and_si128(bytes, low));
            let high = _mm_and_si128(_mm_srli_epi16(bytes, 4), low);
            let of_high = _mm_shuffle_epi8(*by_high, high);
            groups = _mm_and_si128(groups, _mm_and_si128(of_low, of_high));
        }
        let none = _mm_movemask_epi8(_mm_cmpeq_epi8(groups, _mm_setzero_si128())) as u32;
        if none != 0xffff {
            return (at, !none & 0xffff);
        }
        at += 16;
    }
    (at, 0)
}

/// # Safety
/// The processor and the system have AVX2.
#[cfg(target_arch = "x86_64")]
#[allow(unsafe_code)]
#[target_feature(enable = "avx2")]
unsafe fn next_thirty_two(halves: &Halves, text: &[u8], mut at: usize) -> (usize, u32) {
    use core::arch::x86_64::{
        _mm_loadu_si128, _mm256_and_si256, _mm256_broadcastsi128_si256, _mm256_cmpeq_epi8,
        _mm256_loadu_si256, _mm256_movemask_epi8, _mm256_set1_epi8, _mm256_setzero_si256,
        _mm256_shuffle_epi8, _mm256_srli_epi16,
    };
    let tables = halves.map(|tables| {
        // SAFETY: tables have sixteen bytes.
        tables.map(|t| _mm256_broadcastsi128_si256(unsafe { _mm_loadu_si128(t.as_ptr().cast()) }))
    });
    let low = _mm256_set1_epi8(15);
    while at + 32 + KNOWN <= text.len() {
        let mut groups = _mm256_set1_epi8(-1);
        for (further, [by_low, by_high]) in tables.iter().enumerate() {
            // SAFETY: 32 bytes from here, and from the next two places, are in the text.
            let bytes = unsafe { _mm256_loadu_si256(text.as_ptr().add(at + further).cast()) };
            let of_low = _mm256_shuffle_epi8(*by_low, _mm256_and_si256(bytes, low));
            let high = _mm256_and_si256(_mm256_srli_epi16(bytes, 4), low);
            let of_high = _mm256_shuffle_epi8(*by_high, high);
            groups = _mm256_and_si256(groups, _mm256_and_si256(of_low, of_high));
        }
        let none = _mm256_movemask_epi8(_mm256_cmpeq_epi8(groups, _mm256_setzero_si256())) as u32;
        if none != u32::MAX {
            return (at, !none);
        }
        at += 32;
    }
    (at, 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_place_is_missed_at_any_width() {
        let patterns = [&b"abcd"[..], b"abce", b"\xff\x00\x80\x7f", b"zzzz"];
        let mut text = vec![b'.'; 200];
        for (at, pattern) in [(0, 0), (15, 1), (31, 2), (60, 3), (61, 3), (196, 0)] {
            text[at..at + 4].copy_from_slice(patterns[pattern]);
        }
        let mut widths = vec![Width::One, Width::of_this_machine()];
        #[cfg(target_arch = "x86_64")]
        if Width::of_this_machine() == Width::ThirtyTwo {
            widths.push(Width::Sixteen);
        }
        for width in widths {
            let mut filter = Filter::new(patterns.into_iter());
            filter.width = width;
            let mut places = Vec::new();
            filter.places(&text, |at| places.push(at));
            assert!(places.is_sorted() && places.len() < 12, "{places:?}");
            for at in [0, 15, 31, 61, 196] {
                assert!(places.contains(&at), "{at} {width:?}");
            }
        }
    }
}
