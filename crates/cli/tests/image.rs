//! `tektite image`: archives in, names out.

mod support;

use std::fs;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use serde_json::json;
use sha2::{Digest as _, Sha256};
use support::{BINARY, text};

fn image(directory: &Path, arguments: &[&str]) -> Output {
    Command::new(BINARY)
        .arg("image")
        .args(arguments)
        .env("TEKTITE_DATA_DIR", directory)
        .stdin(Stdio::null())
        .output()
        .expect("the binary starts")
}

fn hex(bytes: &[u8]) -> String {
    Sha256::digest(bytes)
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

/// An OCI layout with one image whose only file says hello.
fn layout(at: &Path, name: &str) {
    let blobs = at.join("blobs/sha256");
    fs::create_dir_all(&blobs).expect("a directory");
    let put = |bytes: &[u8]| {
        fs::write(blobs.join(hex(bytes)), bytes).expect("a blob");
        (format!("sha256:{}", hex(bytes)), bytes.len())
    };
    let mut layer = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_gnu();
    header.set_size(6);
    header.set_mode(0o644);
    layer
        .append_data(&mut header, "hello.txt", &b"hello\n"[..])
        .expect("a file");
    let layer = layer.into_inner().expect("a layer");
    let (layer_digest, layer_size) = put(&layer);
    let config = json!({"architecture": "amd64", "os": "linux", "config": {"Cmd": ["/hello"]},
        "rootfs": {"type": "layers", "diff_ids": [layer_digest]}});
    let (config_digest, config_size) = put(config.to_string().as_bytes());
    let manifest = json!({"schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": {"mediaType": "application/vnd.oci.image.config.v1+json", "digest": config_digest, "size": config_size},
        "layers": [{"mediaType": "application/vnd.oci.image.layer.v1.tar", "digest": layer_digest, "size": layer_size}]});
    let (digest, size) = put(manifest.to_string().as_bytes());
    let index = json!({"schemaVersion": 2, "manifests": [{"mediaType": "application/vnd.oci.image.manifest.v1+json",
        "digest": digest, "size": size, "annotations": {"org.opencontainers.image.ref.name": name}}]});
    fs::write(at.join("index.json"), index.to_string()).expect("an index");
    fs::write(at.join("oci-layout"), r#"{"imageLayoutVersion": "1.0.0"}"#).expect("a marker");
}

#[test]
fn images_are_loaded_listed_and_removed() {
    let data = tempfile::tempdir().expect("a directory");
    let archive = tempfile::tempdir().expect("a directory");
    layout(archive.path(), "example.com/greeter:1");
    let loaded = image(
        data.path(),
        &["load", archive.path().to_str().expect("a path")],
    );
    assert_eq!(loaded.status.code(), Some(0), "{}", text(&loaded));
    assert!(
        text(&loaded).contains("loaded example.com/greeter:1"),
        "{}",
        text(&loaded)
    );
    let listed = image(data.path(), &["list"]);
    assert!(
        text(&listed).contains("example.com/greeter:1"),
        "{}",
        text(&listed)
    );
    let removed = image(data.path(), &["rm", "example.com/greeter:1"]);
    assert_eq!(removed.status.code(), Some(0), "{}", text(&removed));
    assert!(!text(&image(data.path(), &["list"])).contains("greeter"));
    let again = image(data.path(), &["rm", "example.com/greeter:1"]);
    assert_eq!(again.status.code(), Some(1), "{}", text(&again));
}

#[test]
fn what_is_no_image_is_refused_with_a_hint() {
    let data = tempfile::tempdir().expect("a directory");
    let file = data.path().join("notes.txt");
    fs::write(&file, "not an image").expect("a file");
    let refused = image(data.path(), &["load", file.to_str().expect("a path")]);
    assert_eq!(refused.status.code(), Some(2), "{}", text(&refused));
    assert!(text(&refused).contains("help: "), "{}", text(&refused));
}
