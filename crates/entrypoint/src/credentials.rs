//! Credentials of the service account's Secrets, put where git, ssh and docker look for them (T-274, T-279).

use std::ffi::OsString;
use std::fs::{self, DirBuilder, File};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use crate::docker_credentials::Docker;
use crate::flags::Flags;
use crate::git_credentials::{Basic, Ssh};
use crate::log::log;

/// What the command line asked for.
#[derive(Debug, Default)]
pub(crate) struct Wanted {
    docker: Docker,
    basic: Basic,
    ssh: Ssh,
}

impl Wanted {
    /// Reads one flag's value, and the Secret it names.
    pub(crate) fn add(&mut self, root: &Path, kind: &str, value: &str) -> Result<(), String> {
        match kind {
            "docker-config" => self.docker.add_config(value),
            "docker-cfg" => self.docker.add_cfg(value),
            _ => {
                let (secret, url) = pair(value)?;
                let secret = Secret::new(root, secret);
                match kind {
                    "basic-docker" => return self.docker.add_basic(&secret, url),
                    "basic-git" => return self.basic.add(&secret, url),
                    _ => return self.ssh.add(&secret, url),
                }
            }
        }
        Ok(())
    }
}

/// `secret=url` with exactly one `=` (T-280).
fn pair(value: &str) -> Result<(&str, &str), String> {
    match value.split_once('=') {
        Some((secret, url)) if !url.contains('=') => Ok((secret, url)),
        _ => Err(format!(
            "expect entries of the form secret=url, got: {value}"
        )),
    }
}

/// A Secret mounted below `creds-secrets`.
#[derive(Debug)]
pub(crate) struct Secret<'a> {
    pub(crate) name: &'a str,
    dir: PathBuf,
}

impl<'a> Secret<'a> {
    pub(crate) fn new(root: &Path, name: &'a str) -> Self {
        Secret {
            name,
            dir: root.join("creds-secrets").join(name),
        }
    }

    pub(crate) fn read(&self, key: &str) -> Result<String, String> {
        let path = self.dir.join(key);
        match fs::read(&path) {
            Ok(bytes) => Ok(String::from_utf8_lossy(&bytes).into_owned()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Err(format!(
                "open {}: no such file or directory",
                path.display()
            )),
            Err(error) => Err(format!("open {}: {error}", path.display())),
        }
    }
}

const COPIED: [&str; 4] = [".docker", ".gitconfig", ".git-credentials", ".ssh"];

/// Writes credentials and copies them to the user's home; problems are told, and the step goes on (T-274).
pub(crate) fn set_up(flags: &Flags, environment: &[(OsString, OsString)]) {
    let creds = flags.root.join("creds");
    let written = flags
        .credentials
        .docker
        .write(&flags.root, &creds)
        .map_err(|error| log(&format!("Error initializing credentials: {error}")));
    let git = flags
        .credentials
        .basic
        .write(&creds)
        .and_then(|()| flags.credentials.ssh.write(&creds));
    if let (_, Err(error)) = (written, git) {
        log(&format!("Error initializing credentials: {error}"));
    }
    if !creds.is_dir() {
        return;
    }
    let home = environment
        .iter()
        .find(|(key, _)| key == "HOME")
        .map(|(_, value)| PathBuf::from(value));
    let Some(home) = home.filter(|home| !home.as_os_str().is_empty()) else {
        if COPIED.iter().any(|name| creds.join(name).exists()) {
            log(
                "non-fatal error copying credentials: \"error getting the user's home directory: $HOME is not defined\"",
            );
        }
        return;
    };
    for name in COPIED {
        if let Err(error) = copy(&creds.join(name), &home.join(name)) {
            log(&format!(
                "warning: unsuccessful cred copy: {name:?} from {creds:?} to {home:?}: {error}"
            ));
        }
    }
}

fn copy(from: &Path, to: &Path) -> io::Result<()> {
    let meta = match fs::symlink_metadata(from) {
        Ok(meta) => meta,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => {
            return Err(io::Error::other(format!(
                "unable to read source file info: {error}"
            )));
        }
    };
    if meta.is_dir() {
        let made = DirBuilder::new().recursive(true).mode(0o700).create(to);
        made.map_err(|error| {
            io::Error::other(format!("unable to create destination directory: {error}"))
        })?;
        for entry in fs::read_dir(from)? {
            let entry = entry?;
            copy(&entry.path(), &to.join(entry.file_name()))?;
        }
        return Ok(());
    }
    let mut source = File::open(from)
        .map_err(|error| io::Error::other(format!("unable to open source: {error}")))?;
    let target = File::options()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(to);
    let mut target =
        target.map_err(|error| io::Error::other(format!("unable to open destination: {error}")))?;
    io::copy(&mut source, &mut target)?;
    Ok(())
}

/// Writes a file that only its owner may read.
pub(crate) fn write_private(path: &Path, content: &[u8], append: bool) -> Result<(), String> {
    let open = File::options()
        .write(true)
        .create(true)
        .truncate(!append)
        .append(append)
        .mode(0o600)
        .open(path);
    open.and_then(|mut file| file.write_all(content))
        .map_err(|error| format!("open {}: {error}", path.display()))
}
