//! Orders and supervises the steps inside a pod.
fn main() {}
