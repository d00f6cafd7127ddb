//! Builds the entrypoint as a static binary of its own, for `include_bytes!`.
//!
//! It is linked without libc and started by its own first instruction, so it has one address to run at and nothing to
//! resolve; `tests/entrypoint.rs` holds it to that.

use std::env;
use std::path::PathBuf;
use std::process::Command;

/// One fixed place in memory, and nothing linked that the crate does not bring.
const FLAGS: &str = "-C target-feature=+crt-static -C relocation-model=static \
    -C link-arg=-nostartfiles -C link-arg=-nostdlib -C link-arg=-static -C link-arg=-no-pie";

fn main() {
    println!("cargo::rerun-if-changed=../../Cargo.lock");
    println!("cargo::rerun-if-changed=../entrypoint/src");
    println!("cargo::rerun-if-changed=../entrypoint/Cargo.toml");
    let variable = |name: &str| env::var(name).unwrap_or_else(|_| panic!("cargo sets {name}"));
    let out = PathBuf::from(variable("OUT_DIR"));
    let target = variable("TARGET");
    let directory = out.join("entrypoint-target");
    let status = Command::new(variable("CARGO"))
        .args([
            "build",
            "--package",
            "tektite-entrypoint",
            "--profile",
            "entrypoint",
            "--features",
            "freestanding",
            "--target",
            &target,
        ])
        .arg("--target-dir")
        .arg(&directory)
        // A target directory of its own: the outer build holds the lock of the usual one.
        .env_remove("CARGO_TARGET_DIR")
        .env_remove("CARGO_ENCODED_RUSTFLAGS")
        .env_remove("RUSTC_WORKSPACE_WRAPPER")
        .env("RUSTFLAGS", FLAGS)
        .status()
        .expect("cargo starts");
    assert!(status.success(), "the entrypoint does not build");
    let binary = directory.join(&target).join("entrypoint/entrypoint");
    // What lld can do and other linkers cannot: the same code, compiled for many types, is kept once.
    if target == "x86_64-unknown-linux-gnu" && variable("PROFILE") == "release" {
        println!("cargo::rustc-link-arg-bins=-Wl,--icf=all");
    }
    println!("cargo::rustc-env=TEKTITE_ENTRYPOINT={}", binary.display());
}
