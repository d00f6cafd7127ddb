//! Credentials of the service account's Secrets, put where git, ssh and docker look for them (T-274, T-279).

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use crate::docker_credentials::Docker;
use crate::flags::Flags;
use crate::git_credentials::{Basic, Ssh};
use crate::log::log;
use crate::path::Path;
use crate::system::fs::{self, File};
use crate::system::process::variable;
use crate::system::{Error, Result as IoResult};

/// What the command line asked for.
#[derive(Debug, Default)]
pub(crate) struct Wanted {
    pub(crate) docker: Docker,
    pub(crate) basic: Basic,
    pub(crate) ssh: Ssh,
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
    dir: Path,
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
            Err(error) => Err(format!("open {path}: {error}")),
        }
    }
}

const COPIED: [&str; 4] = [".docker", ".gitconfig", ".git-credentials", ".ssh"];

/// Writes credentials and copies them to the user's home; problems are told, and the step goes on (T-274).
pub(crate) fn set_up(flags: &Flags, environment: &[(Vec<u8>, Vec<u8>)]) {
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
    if !fs::is_dir(&creds) {
        return;
    }
    let home = variable(environment, "HOME").filter(|home| !home.is_empty());
    let Some(home) = home.map(Path::new) else {
        if COPIED.iter().any(|name| fs::exists(&creds.join(name))) {
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

fn copy(from: &Path, to: &Path) -> IoResult<()> {
    let meta = match fs::symlink_metadata(from) {
        Ok(meta) => meta,
        Err(error) if error.is_not_found() => return Ok(()),
        Err(error) => {
            return Err(Error::other(format!(
                "unable to read source file info: {error}"
            )));
        }
    };
    if meta.is_dir {
        let made = fs::create_dir_all_with_mode(to, 0o700);
        made.map_err(|error| {
            Error::other(format!("unable to create destination directory: {error}"))
        })?;
        for name in fs::read_dir(from)? {
            copy(&from.join(&name), &to.join(&name))?;
        }
        return Ok(());
    }
    let source = File::open(from)
        .map_err(|error| Error::other(format!("unable to open source: {error}")))?;
    let target = File::create(to, 0o600)
        .map_err(|error| Error::other(format!("unable to open destination: {error}")))?;
    fs::copy(&source, &target)
}

/// Writes a file that only its owner may read.
pub(crate) fn write_private(path: &Path, content: &[u8], append: bool) -> Result<(), String> {
    let open = if append {
        File::append(path, 0o600)
    } else {
        File::create(path, 0o600)
    };
    open.and_then(|file| file.write_all(content))
        .map_err(|error| format!("open {path}: {error}"))
}
