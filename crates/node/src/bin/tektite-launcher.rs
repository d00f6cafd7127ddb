//! The launcher alone, for the tests and benches of this crate, whose own binaries cannot be it.
#![forbid(unsafe_code)]

fn main() {
    tektite_node::launcher_main()
}
