//! Archives and layouts made for tests.
#![allow(dead_code)]

use std::fs::{self, File};
use std::io::Write;
use std::path::Path;

use flate2::Compression;
use flate2::write::GzEncoder;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

#[derive(Clone, Copy)]
pub enum Entry<'a> {
    Dir(&'a str, u32),
    File(&'a str, u32, &'a [u8]),
    Symlink(&'a str, &'a str),
    Hardlink(&'a str, &'a str),
}

pub struct Layer {
    pub tar: Vec<u8>,
}

impl Layer {
    pub fn new(entries: &[Entry<'_>]) -> Layer {
        let mut tar = tar::Builder::new(Vec::new());
        for entry in entries {
            let (path, kind, mode, content, link) = match *entry {
                Entry::Dir(path, mode) => (path, tar::EntryType::Directory, mode, &b""[..], None),
                Entry::File(path, mode, content) => {
                    (path, tar::EntryType::Regular, mode, content, None)
                }
                Entry::Symlink(path, to) => {
                    (path, tar::EntryType::Symlink, 0o777, &b""[..], Some(to))
                }
                Entry::Hardlink(path, to) => {
                    (path, tar::EntryType::Link, 0o644, &b""[..], Some(to))
                }
            };
            let mut header = tar::Header::new_gnu();
            header.set_entry_type(kind);
            header.set_mode(mode);
            header.set_size(content.len() as u64);
            // The builder refuses what these tests are about, so names are put in by hand.
            header.as_gnu_mut().unwrap().name[..path.len()].copy_from_slice(path.as_bytes());
            if let Some(to) = link {
                header.as_gnu_mut().unwrap().linkname[..to.len()].copy_from_slice(to.as_bytes());
            }
            header.set_cksum();
            tar.append(&header, content).unwrap();
        }
        Layer {
            tar: tar.into_inner().unwrap(),
        }
    }
}

pub fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

pub fn digest(bytes: &[u8]) -> String {
    let hex: String = Sha256::digest(bytes)
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    format!("sha256:{hex}")
}

pub fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

pub fn configuration(layers: &[Layer], architecture: &str) -> Vec<u8> {
    let diff_ids: Vec<String> = layers.iter().map(|layer| digest(&layer.tar)).collect();
    json!({
        "architecture": architecture, "os": "linux",
        "config": {"Entrypoint": ["/bin/tool"], "Cmd": null, "Env": ["A=b"], "WorkingDir": "/var"},
        "rootfs": {"type": "layers", "diff_ids": diff_ids},
    })
    .to_string()
    .into_bytes()
}

pub fn docker_archive(path: &Path, names: &[&str], layers: &[Layer], compressed: bool) {
    let mut tar = tar::Builder::new(Vec::new());
    let mut add = |name: &str, content: &[u8]| {
        let mut header = tar::Header::new_gnu();
        header.set_size(content.len() as u64);
        header.set_mode(0o644);
        tar.append_data(&mut header, name, content).unwrap();
    };
    let paths: Vec<String> = (0..layers.len())
        .map(|at| format!("{at}/layer.tar"))
        .collect();
    add(
        "manifest.json",
        json!([{"Config": "config.json", "RepoTags": names, "Layers": paths}])
            .to_string()
            .as_bytes(),
    );
    add("config.json", &configuration(layers, architecture()));
    for (path, layer) in paths.iter().zip(layers) {
        add(path, &layer.tar);
    }
    let bytes = tar.into_inner().unwrap();
    fs::write(path, if compressed { gzip(&bytes) } else { bytes }).unwrap();
}

/// Blobs of an image for two platforms under an index: (digest of the index, blobs).
pub fn image_blobs(layers: &[Layer]) -> (String, Vec<(String, Vec<u8>)>) {
    let mut blobs = Vec::new();
    let mut descriptor = |media_type: &str, bytes: Vec<u8>| -> Value {
        let digest = digest(&bytes);
        let value = json!({"mediaType": media_type, "digest": digest, "size": bytes.len()});
        blobs.push((digest, bytes));
        value
    };
    let mut manifests = Vec::new();
    for other in ["s390x", architecture()] {
        let config = descriptor(
            "application/vnd.oci.image.config.v1+json",
            configuration(layers, other),
        );
        let layers: Vec<Value> = layers
            .iter()
            .map(|layer| {
                descriptor(
                    "application/vnd.oci.image.layer.v1.tar+gzip",
                    gzip(&layer.tar),
                )
            })
            .collect();
        let media_type = "application/vnd.oci.image.manifest.v1+json";
        let manifest = json!({"schemaVersion": 2, "mediaType": media_type, "config": config, "layers": layers});
        let mut entry = descriptor(media_type, manifest.to_string().into_bytes());
        entry["platform"] = json!({"os": "linux", "architecture": other});
        manifests.push(entry);
    }
    let media_type = "application/vnd.oci.image.index.v1+json";
    let index = json!({"schemaVersion": 2, "mediaType": media_type, "manifests": manifests});
    let index = descriptor(media_type, index.to_string().into_bytes());
    (index["digest"].as_str().unwrap().to_owned(), blobs)
}

pub fn oci_layout(dir: &Path, layers: &[Layer]) {
    let (index, blobs) = image_blobs(layers);
    fs::create_dir_all(dir.join("blobs/sha256")).unwrap();
    for (digest, bytes) in &blobs {
        fs::write(dir.join("blobs").join(digest.replace(':', "/")), bytes).unwrap();
    }
    let entry = json!({
        "mediaType": "application/vnd.oci.image.index.v1+json", "digest": index, "size": 1,
        "annotations": {"org.opencontainers.image.ref.name": "1.0"},
    });
    fs::write(
        dir.join("index.json"),
        json!({"schemaVersion": 2, "manifests": [entry]}).to_string(),
    )
    .unwrap();
    fs::write(dir.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#).unwrap();
}

pub fn tar_dir(dir: &Path, to: &Path) {
    let mut tar = tar::Builder::new(GzEncoder::new(
        File::create(to).unwrap(),
        Compression::fast(),
    ));
    tar.append_dir_all(".", dir).unwrap();
    tar.into_inner().unwrap().finish().unwrap();
}
