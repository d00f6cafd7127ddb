//! Stand-ins for the images that upstream's examples name, made of this machine's own programs.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::json;
use sha2::{Digest as _, Sha256};
use tar::{EntryType, Header};

use crate::support::{BINARY, text};

/// Names in the examples and the image that stands in for them; the machine's root filesystem for all others.
/// The host of these names is this machine, where no registry listens: what is loaded is used.
const IMAGES_YAML: &str = "\
mirror.gcr.io/alpine: localhost:1/alpine:1
mirror.gcr.io/busybox: localhost:1/busybox:1
cgr.dev/chainguard/busybox: localhost:1/busybox:1
mirror.gcr.io/bash: localhost:1/bash:1
mirror.gcr.io/alpine/git: localhost:1/git:1
ghcr.io/tektoncd/plumbing/alpine-git-nonroot: localhost:1/git:1
'*': host
";

/// What the entrypoint of the `bash` image does: options and what is no program go to bash, programs run.
const BASH_ENTRYPOINT: &str = "#!/bin/bash
case \"$1\" in -*) exec bash \"$@\" ;; esac
command -v -- \"$1\" >/dev/null || exec bash \"$@\"
exec \"$@\"
";

/// What the `git` image has besides busybox: both ends of a connection by ssh.
const SSH: [&str; 3] = ["/usr/bin/ssh", "/usr/bin/ssh-keygen", "/usr/sbin/sshd"];

/// A program that the stand-ins of the images in a manifest are made of and that the machine lacks.
pub fn missing(manifest: &str) -> Option<&'static str> {
    let mut programs = Vec::new();
    if ["busybox", "bash", "alpine"]
        .iter()
        .any(|image| manifest.contains(&format!("mirror.gcr.io/{image}")))
    {
        programs.extend(SHELLS);
    }
    if manifest.contains("alpine/git") {
        programs.extend(SSH);
    }
    lacking(&programs)
}

const SHELLS: [&str; 3] = ["/bin/busybox", "/bin/bash", "/bin/dash"];

fn lacking(programs: &[&'static str]) -> Option<&'static str> {
    let mut programs = programs.iter().copied();
    programs.find(|path| !Path::new(path).exists())
}

/// Where git is: not everywhere where packages put it.
fn git() -> Option<PathBuf> {
    let directories = std::env::var_os("PATH")?;
    std::env::split_paths(&directories)
        .map(|directory| directory.join("git"))
        .find(|git| git.is_file())
}

/// Writes `images.yaml` into a data directory and loads the images it names.
pub fn prepare(data: &Path) {
    fs::write(data.join("images.yaml"), IMAGES_YAML).expect("an image map");
    if lacking(&SHELLS).is_some() {
        return;
    }
    let archives = tempfile::tempdir().expect("a temporary directory");
    // The shell of the recordings' stand-ins is Debian's: it knows no `[[`, and examples fail by that.
    let mut alpine = Layer::new();
    alpine.program("/bin/dash");
    alpine.link("bin/sh", "/bin/dash");
    // Busybox's own `env sh` runs its own shell.
    alpine.program("/usr/bin/env");
    alpine.applets();
    let mut bash = alpine.clone();
    bash.program("/bin/bash");
    bash.link("usr/local/bin/bash", "/bin/bash");
    bash.file(
        "usr/local/bin/docker-entrypoint.sh",
        BASH_ENTRYPOINT.as_bytes(),
    );
    let mut busybox = Layer::new();
    busybox.applets();
    let git_and_ssh = git_and_ssh().unwrap_or_default();
    let shell = json!({"Cmd": ["sh"], "Env": [PATH]});
    let entrypoint =
        json!({"Entrypoint": ["docker-entrypoint.sh"], "Cmd": ["bash"], "Env": [PATH]});
    let images = [
        ("alpine", alpine, &shell),
        ("bash", bash, &entrypoint),
        ("busybox", busybox, &shell),
        ("git", git_and_ssh, &shell),
    ];
    for (name, layer, config) in images {
        let archive = archives.path().join(name);
        layer.save(&archive, &format!("localhost:1/{name}:1"), config);
        let loaded = Command::new(BINARY)
            .args(["image", "load"])
            .arg(&archive)
            .env("TEKTITE_DATA_DIR", data)
            .stdin(Stdio::null())
            .output()
            .expect("the binary starts");
        assert!(loaded.status.success(), "{}", text(&loaded));
    }
}

/// Git, a client and a server of ssh, and the accounts and directories that they look for.
fn git_and_ssh() -> Option<Layer> {
    let git = git().filter(|_| lacking(&SSH).is_none())?;
    let git = git.to_str().expect("a path of ASCII");
    let mut layer = Layer::default();
    layer.entry("root", EntryType::Directory, 0o700, &[], None);
    // The second account's, which no entry of a layer here could be given to.
    layer.entry("home/nonroot", EntryType::Directory, 0o777, &[], None);
    for (directory, mode) in [
        ("etc/ssh", 0o755),
        ("run/sshd", 0o755),
        ("tmp", 0o1777),
        ("var/log", 0o755),
    ] {
        layer.entry(directory, EntryType::Directory, mode, &[], None);
    }
    layer.file(
        "etc/passwd",
        b"root:x:0:0:root:/root:/bin/sh\nsshd:x:22:22:sshd:/run/sshd:/bin/false\nnonroot:x:1000:1000::/home/nonroot:/bin/sh\n",
    );
    layer.entry(
        "etc/shadow",
        EntryType::Regular,
        0o600,
        b"root:!::0:::::\n",
        None,
    );
    layer.file("etc/ssh/sshd_config", b"");
    for program in SSH.iter().copied().chain([git]) {
        layer.program(program);
    }
    for name in ["git-upload-pack", "git-receive-pack"] {
        layer.link(&format!("usr/bin/{name}"), git);
    }
    layer.applets();
    Some(layer)
}

const PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// One layer of an image, as it grows.
#[derive(Clone, Default)]
struct Layer {
    tar: Vec<u8>,
    paths: BTreeSet<String>,
}

impl Layer {
    fn new() -> Self {
        let mut layer = Self::default();
        for (directory, mode) in [("root", 0o700), ("tmp", 0o1777), ("var/tmp", 0o1777)] {
            layer.entry(directory, EntryType::Directory, mode, &[], None);
        }
        layer.file("etc/passwd", b"root:x:0:0:root:/root:/bin/sh\n");
        layer
    }

    /// Busybox, under the names of all its applets that are still free.
    fn applets(&mut self) {
        self.program("/bin/busybox");
        let applets = Command::new("/bin/busybox")
            .arg("--list-full")
            .output()
            .expect("busybox starts");
        for applet in String::from_utf8_lossy(&applets.stdout).lines() {
            // As a program it would teach the Debian shell `[[`.
            if !applet.ends_with("/busybox") && !applet.ends_with("/[[") {
                self.link(applet, "/bin/busybox");
            }
        }
    }

    fn entry(
        &mut self,
        path: &str,
        kind: EntryType,
        mode: u32,
        content: &[u8],
        link: Option<&str>,
    ) {
        if !self.paths.insert(path.to_owned()) {
            return;
        }
        let mut header = Header::new_gnu();
        header.set_entry_type(kind);
        header.set_mode(mode);
        header.set_size(content.len() as u64);
        let mut tar = tar::Builder::new(&mut self.tar);
        match link {
            Some(to) => tar.append_link(&mut header, path, to),
            None => tar.append_data(&mut header, path, content),
        }
        .expect("an entry");
        tar.finish().expect("an archive in memory");
        drop(tar);
        // The end of the archive, two empty blocks, comes when the layer is saved.
        self.tar.truncate(self.tar.len() - 1024);
    }

    fn file(&mut self, path: &str, content: &[u8]) {
        self.entry(path, EntryType::Regular, 0o755, content, None);
    }

    fn link(&mut self, path: &str, to: &str) {
        self.entry(path, EntryType::Symlink, 0o777, &[], Some(to));
    }

    /// A program of this machine, with the libraries it is linked to.
    fn program(&mut self, path: &str) {
        let listed = Command::new("ldd")
            .arg(path)
            .output()
            .map(|o| o.stdout)
            .unwrap_or_default();
        let listed = String::from_utf8_lossy(&listed).into_owned();
        let libraries = listed.split_whitespace().filter(|w| w.starts_with('/'));
        for file in libraries
            .map(|l| l.trim_end_matches(':'))
            .chain([path])
            .collect::<BTreeSet<_>>()
        {
            let content = fs::read(file).expect("a program or library");
            self.file(file.trim_start_matches('/'), &content);
        }
    }

    /// Writes a directory as `docker save` fills its archives.
    fn save(mut self, at: &Path, name: &str, config: &serde_json::Value) {
        self.tar.extend_from_slice(&[0; 1024]);
        let hex: String = Sha256::digest(&self.tar)
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        let architecture = match std::env::consts::ARCH {
            "x86_64" => "amd64",
            "aarch64" => "arm64",
            other => other,
        };
        let document = json!({"architecture": architecture, "os": "linux", "config": config,
            "rootfs": {"type": "layers", "diff_ids": [format!("sha256:{hex}")]}});
        let manifest =
            json!([{"Config": "config.json", "RepoTags": [name], "Layers": ["layer.tar"]}]);
        fs::create_dir_all(at).expect("a directory");
        fs::write(at.join("layer.tar"), &self.tar).expect("a layer");
        fs::write(at.join("config.json"), document.to_string()).expect("a configuration");
        fs::write(at.join("manifest.json"), manifest.to_string()).expect("a manifest");
    }
}
