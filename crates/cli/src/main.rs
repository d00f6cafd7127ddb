//! The `tektite` binary.
fn main() {}
