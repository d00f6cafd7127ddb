//! Names of child objects: parent's name and a suffix, hashed where the two do not fit a DNS label together.

use md5::{Digest, Md5};
use sha2::Sha256;
use std::fmt::Write;

/// Longest name a child object may have.
pub const LONGEST: usize = 63;
const HASH: usize = 32;
const HEAD: usize = LONGEST - HASH;

/// The child's name as knative's `kmeta.ChildName` builds it (P-261).
///
/// Names are cut at bytes in Go; here at the nearest character boundary below, which is the same for the ASCII names
/// that Kubernetes admits.
#[must_use]
pub fn child_name(parent: &str, suffix: &str) -> String {
    if parent.len() + suffix.len() <= LONGEST {
        return format!("{parent}{suffix}");
    }
    if suffix.len() >= HEAD {
        let mut name = format!(
            "{}{}",
            cut(parent, HEAD),
            md5_hex(&format!("{parent}{suffix}"))
        );
        name.push_str(cut(suffix, LONGEST.saturating_sub(name.len())));
        let valid = name
            .trim_end_matches(|c: char| !c.is_ascii_alphanumeric())
            .len();
        name.truncate(valid);
        return name;
    }
    format!(
        "{}{}{suffix}",
        cut(parent, HEAD - suffix.len()),
        md5_hex(parent)
    )
}

/// Lower-case hexadecimal SHA-256 of `text`, cut to its first `length` digits.
#[must_use]
pub fn sha256_hex(text: &str, length: usize) -> String {
    let mut hex = hex(&Sha256::digest(text.as_bytes()));
    hex.truncate(length);
    hex
}

/// The first `length` bytes of `text`, or fewer where that would split a character.
#[must_use]
pub fn cut(text: &str, length: usize) -> &str {
    if text.len() <= length {
        return text;
    }
    let mut end = length;
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

fn md5_hex(text: &str) -> String {
    hex(&Md5::digest(text.as_bytes()))
}

fn hex(bytes: &[u8]) -> String {
    bytes
        .iter()
        .fold(String::with_capacity(bytes.len() * 2), |mut out, byte| {
            // Writing to a String cannot fail.
            let _ = write!(out, "{byte:02x}");
            out
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_fits_is_the_parent_and_the_suffix() {
        // P-261
        assert_eq!(child_name("run", "-task"), "run-task");
        let parent = "p".repeat(58);
        assert_eq!(child_name(&parent, "-task"), format!("{parent}-task"));
    }

    #[test]
    fn a_long_parent_is_cut_and_hashed_before_the_suffix() {
        // P-261: 31 - 5 characters of the parent, the parent's MD5, the suffix.
        let parent = "p".repeat(59);
        let name = child_name(&parent, "-task");
        assert_eq!(name, format!("{}{}-task", "p".repeat(26), md5_hex(&parent)));
        assert_eq!(name.len(), 63);
    }

    #[test]
    fn a_long_suffix_is_hashed_together_with_the_parent_and_padded() {
        // P-261
        let suffix = format!("-{}", "s".repeat(69));
        let name = child_name("run", &suffix);
        assert_eq!(
            name,
            format!("run{}{}", md5_hex(&format!("run{suffix}")), &suffix[..28])
        );
        assert_eq!(name.len(), 63);
        // What is cut behind a hyphen loses the hyphen.
        let suffix = format!("-{}-{}", "s".repeat(26), "t".repeat(40));
        let name = child_name("run", &suffix);
        assert!(name.ends_with('s'), "{name}");
        assert_eq!(name.len(), 62);
    }

    #[test]
    fn md5_is_the_well_known_one() {
        assert_eq!(md5_hex("abc"), "900150983cd24fb0d6963f7d28e17f72");
        assert_eq!(sha256_hex("abc", 10), "ba7816bf8f");
    }
}
