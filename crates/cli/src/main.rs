//! The `tektite` binary.
#![forbid(unsafe_code)]

mod diagnostic;
mod manifest;

fn main() {}
