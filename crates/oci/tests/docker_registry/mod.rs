//! Debian's docker-registry on a directory that tests fill by themselves: nothing is pushed, and images need not be whole.
//!
//! Other crates' tests include this file by its path.
#![allow(dead_code)] // each test binary uses its part

use std::fs;
use std::io::Write as _;
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

/// `user:pass`, as `htpasswd -B` writes it.
pub const LOGIN: &str = "user:$2y$05$abcdefghijklmnopqrstuuZFBUbfXoM8LFiPx8LYlO/sXZB/Cwk3K\n";

/// A registry with a directory of its own, ended when dropped.
pub struct DockerRegistry {
    child: Child,
    /// Host and port; it speaks plain HTTP.
    pub address: String,
    directory: tempfile::TempDir,
}

impl Drop for DockerRegistry {
    fn drop(&mut self) {
        self.end();
    }
}

impl DockerRegistry {
    /// Starts one for `test`; `login` is a line of an htpasswd file. Says so and gives nothing where the program is missing.
    pub fn start(test: &str, login: Option<&str>) -> Option<Self> {
        let path = std::env::var_os("PATH").unwrap_or_default();
        if !std::env::split_paths(&path).any(|dir| dir.join("docker-registry").is_file()) {
            // Past the harness's capture, where the closing count finds it.
            let _ = writeln!(
                std::io::stderr(),
                "skipped: {test}: docker-registry is missing"
            );
            return None;
        }
        let port = TcpListener::bind("127.0.0.1:0")
            .and_then(|listener| listener.local_addr())
            .expect("a port")
            .port();
        let address = format!("127.0.0.1:{port}");
        let directory = tempfile::tempdir().expect("a directory");
        let at = |name: &str| directory.path().join(name);
        let mut config = format!(
            "version: 0.1\nlog: {{level: error}}\nstorage:\n  filesystem: {{rootdirectory: {}}}\nhttp: {{addr: '{address}'}}\n",
            at("data").display()
        );
        if let Some(line) = login {
            fs::write(at("htpasswd"), line).expect("a file");
            config.push_str(&format!(
                "auth: {{htpasswd: {{realm: closed, path: {}}}}}\n",
                at("htpasswd").display()
            ));
        }
        fs::write(at("config.yml"), config).expect("a file");
        let child = Command::new("docker-registry")
            .arg("serve")
            .arg(at("config.yml"))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("the registry starts");
        for _ in 0..600 {
            if TcpStream::connect(&address).is_ok() {
                break;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        Some(Self {
            child,
            address,
            directory,
        })
    }

    /// Ends it: from now on nobody answers.
    pub fn end(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Puts a blob into a repository and gives its descriptor.
    pub fn blob(&self, repository: &str, media_type: &str, content: &[u8]) -> Value {
        let digest = self.store(content);
        self.link(repository, &format!("_layers/{}", place(&digest)), &digest);
        described(media_type, content)
    }

    /// Puts a manifest or index into a repository, under a tag if there is one, and gives its descriptor.
    pub fn manifest(&self, repository: &str, tag: Option<&str>, manifest: &Value) -> Value {
        let content = manifest.to_string();
        let digest = self.store(content.as_bytes());
        let revision = format!("_manifests/revisions/{}", place(&digest));
        self.link(repository, &revision, &digest);
        if let Some(tag) = tag {
            self.link(
                repository,
                &format!("_manifests/tags/{tag}/current"),
                &digest,
            );
        }
        let media_type = manifest["mediaType"].as_str().expect("a media type");
        described(media_type, content.as_bytes())
    }

    fn store(&self, content: &[u8]) -> String {
        let digest = digest(content);
        let hex = digest.trim_start_matches("sha256:");
        let blob = self.path(&format!("blobs/sha256/{}/{hex}", &hex[..2]));
        fs::create_dir_all(&blob).expect("a directory");
        fs::write(blob.join("data"), content).expect("a file");
        digest
    }

    fn link(&self, repository: &str, place: &str, digest: &str) {
        let link = self.path(&format!("repositories/{repository}/{place}"));
        fs::create_dir_all(&link).expect("a directory");
        fs::write(link.join("link"), digest).expect("a file");
    }

    fn path(&self, below: &str) -> PathBuf {
        let data = self.directory.path().join("data/docker/registry/v2");
        data.join(below)
    }
}

fn place(digest: &str) -> String {
    digest.replace(':', "/")
}

/// The descriptor of something that need not be there.
pub fn described(media_type: &str, content: &[u8]) -> Value {
    json!({"mediaType": media_type, "digest": digest(content), "size": content.len()})
}

/// `sha256:…`
pub fn digest(content: &[u8]) -> String {
    let hex: String = Sha256::digest(content)
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    format!("sha256:{hex}")
}
