//! Starts the program: by `std` where it is built for tests, by itself where it is built to be shipped (see `start`).
#![cfg_attr(all(feature = "freestanding", panic = "abort"), no_std, no_main)]

#[cfg(all(feature = "freestanding", panic = "abort"))]
extern crate alloc;
#[cfg(all(feature = "freestanding", panic = "abort"))]
mod memory;
#[cfg(all(feature = "freestanding", panic = "abort"))]
mod start;

#[cfg(not(all(feature = "freestanding", panic = "abort")))]
fn main() -> std::process::ExitCode {
    use std::os::unix::ffi::OsStringExt;

    let arguments = std::env::args_os().map(OsStringExt::into_vec).collect();
    let environment = std::env::vars_os()
        .map(|(key, value)| (key.into_vec(), value.into_vec()))
        .collect();
    tektite_entrypoint::main(arguments, environment).into()
}
