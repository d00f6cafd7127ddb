//! The base64 forms in use.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD};

pub(crate) fn encode(bytes: &[u8]) -> String {
    STANDARD.encode(bytes)
}

pub(crate) fn encode_unpadded(bytes: &[u8]) -> String {
    STANDARD_NO_PAD.encode(bytes)
}

pub(crate) fn decode_unpadded(text: &[u8]) -> Result<Vec<u8>, String> {
    STANDARD_NO_PAD
        .decode(text)
        .map_err(|error| error.to_string())
}

/// Line breaks are ignored, as Go's decoder does.
pub(crate) fn decode(text: &[u8]) -> Result<Vec<u8>, String> {
    let text: Vec<u8> = text
        .iter()
        .copied()
        .filter(|byte| !matches!(byte, b'\n' | b'\r'))
        .collect();
    STANDARD.decode(text).map_err(|error| error.to_string())
}
