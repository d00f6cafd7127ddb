//! Builds the entrypoint as a static binary of its own, for `include_bytes!`.

use std::env;
use std::path::PathBuf;
use std::process::Command;

fn main() {
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
            "--target",
            &target,
        ])
        .arg("--target-dir")
        .arg(&directory)
        // A target directory of its own: the outer build holds the lock of the usual one.
        .env_remove("CARGO_TARGET_DIR")
        .env_remove("CARGO_ENCODED_RUSTFLAGS")
        .env_remove("RUSTC_WORKSPACE_WRAPPER")
        .env("RUSTFLAGS", "-C target-feature=+crt-static")
        .status()
        .expect("cargo starts");
    assert!(status.success(), "the entrypoint does not build");
    let binary = directory.join(&target).join("entrypoint/entrypoint");
    println!("cargo::rustc-env=TEKTITE_ENTRYPOINT={}", binary.display());
}
