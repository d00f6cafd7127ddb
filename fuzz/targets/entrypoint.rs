//! What the entrypoint reads: its flags, termination messages, results, when expressions, credentials of git and docker.
#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use tempfile::TempDir;

/// Stands for `/tekton`.
static ROOT: LazyLock<TempDir> = LazyLock::new(|| {
    let root = tempfile::tempdir().expect("a directory");
    std::fs::create_dir_all(root.path().join("creds-secrets/s")).expect("made");
    std::fs::create_dir_all(root.path().join("creds")).expect("made");
    root
});

fuzz_target!(|data: &[u8]| {
    for key in [
        ".dockerconfigjson",
        ".dockercfg",
        "username",
        "password",
        "ssh-privatekey",
        "known_hosts",
    ] {
        std::fs::write(ROOT.path().join("creds-secrets/s").join(key), data).expect("written");
    }
    let root = ROOT.path().to_str().expect("a name in UTF-8");
    tektite_entrypoint::fuzz(data, root);
});
