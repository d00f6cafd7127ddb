//! The base64 forms in use: Go's standard encoding, with and without padding.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

pub(crate) fn encode(bytes: &[u8]) -> String {
    let mut out = encode_unpadded(bytes);
    while !out.len().is_multiple_of(4) {
        out.push('=');
    }
    out
}

pub(crate) fn encode_unpadded(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let bits = chunk
            .iter()
            .fold(0u32, |bits, &byte| bits << 8 | u32::from(byte))
            << (8 * (3 - chunk.len()));
        for digit in 0..=chunk.len() {
            out.push(ALPHABET[(bits >> (18 - 6 * digit) & 63) as usize] as char);
        }
    }
    out
}

pub(crate) fn decode_unpadded(text: &[u8]) -> Result<Vec<u8>, String> {
    let mut out = Vec::with_capacity(text.len() / 4 * 3 + 2);
    let (mut bits, mut count) = (0u32, 0usize);
    for (at, byte) in text.iter().enumerate() {
        // Line breaks are ignored, as Go's decoder does.
        if matches!(byte, b'\n' | b'\r') {
            continue;
        }
        bits = bits << 6 | u32::from(digit(*byte).ok_or_else(|| illegal(at))?);
        count += 1;
        if count.is_multiple_of(4) {
            out.extend_from_slice(&bits.to_be_bytes()[1..]);
            bits = 0;
        }
    }
    match count % 4 {
        0 => {}
        2 => out.push((bits >> 4) as u8),
        3 => out.extend_from_slice(&((bits >> 2) as u16).to_be_bytes()),
        _ => return Err(illegal(text.len())),
    }
    Ok(out)
}

pub(crate) fn decode(text: &[u8]) -> Result<Vec<u8>, String> {
    let letters = |text: &[u8]| {
        text.iter()
            .filter(|byte| !matches!(byte, b'\n' | b'\r'))
            .count()
    };
    if !letters(text).is_multiple_of(4) {
        return Err(illegal(text.len()));
    }
    let mut end = text;
    let mut padding = 0;
    while let [rest @ .., last @ (b'=' | b'\n' | b'\r')] = end {
        padding += usize::from(*last == b'=');
        end = rest;
    }
    if padding > 2 {
        return Err(illegal(end.len()));
    }
    decode_unpadded(end)
}

fn digit(byte: u8) -> Option<u8> {
    Some(match byte {
        b'A'..=b'Z' => byte - b'A',
        b'a'..=b'z' => byte - b'a' + 26,
        b'0'..=b'9' => byte - b'0' + 52,
        b'+' => 62,
        b'/' => 63,
        _ => return None,
    })
}

fn illegal(at: usize) -> String {
    format!("illegal base64 data at input byte {at}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_of_every_length_and_value_survive() {
        let bytes: Vec<u8> = (0..=255).collect();
        for length in 0..=bytes.len() {
            let bytes = &bytes[bytes.len() - length..];
            assert_eq!(decode(encode(bytes).as_bytes()).unwrap(), bytes);
            assert_eq!(
                decode_unpadded(encode_unpadded(bytes).as_bytes()).unwrap(),
                bytes
            );
        }
    }

    #[test]
    fn the_text_is_as_in_the_standard() {
        for (plain, text) in [
            ("", ""),
            ("f", "Zg=="),
            ("fo", "Zm8="),
            ("foo", "Zm9v"),
            ("foobar", "Zm9vYmFy"),
        ] {
            assert_eq!(encode(plain.as_bytes()), text);
            assert_eq!(
                encode_unpadded(plain.as_bytes()),
                text.trim_end_matches('=')
            );
        }
        assert_eq!(decode(b"Zm9v\r\nYmE=\n").unwrap(), b"fooba");
        assert_eq!(encode(b"\xfb\xff\xbe"), "+/++");
    }

    #[test]
    fn what_is_no_base64_is_refused() {
        for text in [
            "Z", "Zg", "Zg=", "Zg===", "Z===", "Z?==", "Zg==Zg==", "====",
        ] {
            assert!(decode(text.as_bytes()).is_err(), "{text}");
        }
        for text in ["Z", "Zg==", "Zm9vZ"] {
            assert!(decode_unpadded(text.as_bytes()).is_err(), "{text}");
        }
    }
}
