//! `.gitconfig`, `.git-credentials` and `.ssh` from the account's git Secrets (T-275 to T-277).

use alloc::borrow::ToOwned;
use alloc::format;
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;
use core::fmt::Write as _;

use crate::credentials::{Secret, write_private};
use crate::path::Path;
use crate::system::fs;

/// Users with passwords, in the order of the flags.
#[derive(Debug, Default)]
pub(crate) struct Basic {
    entries: Vec<BasicEntry>,
}

#[derive(Debug)]
struct BasicEntry {
    url: String,
    username: String,
    password: String,
}

impl Basic {
    pub(crate) fn add(&mut self, secret: &Secret<'_>, url: &str) -> Result<(), String> {
        if self.entries.iter().any(|entry| entry.url == url) {
            return Err(format!("multiple entries for url: {url}"));
        }
        let (username, password) = (secret.read("username")?, secret.read("password")?);
        self.entries.push(BasicEntry {
            url: url.to_owned(),
            username,
            password,
        });
        Ok(())
    }

    pub(crate) fn write(&self, creds: &Path) -> Result<(), String> {
        if self.entries.is_empty() {
            return Ok(());
        }
        let mut config = String::from("[credential]\n\thelper = store\n");
        for entry in &self.entries {
            let username = entry.username.replace('\\', "\\\\");
            // Writing to a String cannot fail.
            let _ = writeln!(
                config,
                "[credential {:?}]\n\tusername = {username}",
                entry.url
            );
            if has_path(&entry.url) {
                config.push_str("\tuseHttpPath = true\n");
            }
        }
        write_private(&creds.join(".gitconfig"), config.as_bytes(), false)?;
        // Entries for a whole host are fallbacks and come first.
        let mut order: Vec<&BasicEntry> = self.entries.iter().collect();
        order.sort_by_key(|entry| has_path(&entry.url));
        let lines: String = order.iter().map(|entry| with_user(entry) + "\n").collect();
        write_private(&creds.join(".git-credentials"), lines.as_bytes(), false)
    }
}

/// The URL's parts: scheme with `://`, authority, rest.
fn parts(url: &str) -> (&str, &str, &str) {
    let (scheme, rest) = match url.find("://") {
        Some(at) => url.split_at(at + 3),
        None => ("", url),
    };
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    (scheme, &rest[..end], &rest[end..])
}

fn has_path(url: &str) -> bool {
    let (scheme, authority, rest) = parts(url);
    match scheme {
        // Without a scheme all of it is a path.
        "" => !authority.is_empty() && url != "/",
        _ => {
            rest.starts_with('/')
                && rest.len() > 1
                && !rest.starts_with("/?")
                && !rest.starts_with("/#")
        }
    }
}

fn with_user(entry: &BasicEntry) -> String {
    let (scheme, authority, rest) = parts(&entry.url);
    let host = authority
        .rsplit_once('@')
        .map_or(authority, |(_, host)| host);
    let scheme = if scheme.is_empty() { "//" } else { scheme };
    format!(
        "{scheme}{}:{}@{host}{rest}",
        escape(&entry.username),
        escape(&entry.password)
    )
}

/// Percent-encodes what may not stand in a URL's user information.
fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' => out.push(byte as char),
            b'-' | b'_' | b'.' | b'~' | b'$' | b'&' | b'+' | b',' | b';' | b'=' => {
                out.push(byte as char)
            }
            _ => {
                let _ = write!(out, "%{byte:02X}"); // writing to a String cannot fail
            }
        }
    }
    out
}

/// Keys by URL, in the order of the flags.
#[derive(Debug, Default)]
pub(crate) struct Ssh {
    hosts: Vec<(String, Vec<Key>)>,
}

#[derive(Debug)]
struct Key {
    secret: String,
    private: String,
    known_hosts: Option<String>,
}

impl Key {
    fn path(&self, dir: &Path) -> Path {
        dir.join(format!("id_{}", self.secret))
    }
}

impl Ssh {
    pub(crate) fn add(&mut self, secret: &Secret<'_>, url: &str) -> Result<(), String> {
        let key = Key {
            secret: secret.name.to_owned(),
            private: secret.read("ssh-privatekey")?,
            known_hosts: secret
                .read("known_hosts")
                .ok()
                .filter(|text| !text.is_empty()),
        };
        match self.hosts.iter_mut().find(|(known, _)| known == url) {
            Some((_, keys)) => keys.push(key),
            None => self.hosts.push((url.to_owned(), vec![key])),
        }
        Ok(())
    }

    pub(crate) fn write(&self, creds: &Path) -> Result<(), String> {
        if self.hosts.is_empty() {
            return Ok(());
        }
        let dir = creds.join(".ssh");
        fs::create_dir_all(&dir).map_err(|error| format!("mkdir {dir}: {error}"))?;
        let mut hosts: Vec<_> = self
            .hosts
            .iter()
            .map(|(url, keys)| (Address::parse(url), keys))
            .collect();
        hosts.sort_by_key(|(address, _)| !address.path.is_empty());
        let (mut config, mut known_hosts, mut git_config) =
            (String::new(), Vec::new(), String::new());
        for (address, keys) in &hosts {
            let Address { host, port, path } = address;
            let alias = if path.is_empty() {
                (*host).to_owned()
            } else {
                address.alias()
            };
            git_config.push_str(&address.instead_of(&alias));
            // Writing to a String cannot fail.
            let _ = writeln!(config, "Host {alias}\n    HostName {host}\n    Port {port}");
            for key in *keys {
                write_private(&key.path(&dir), key.private.as_bytes(), false)?;
                let _ = writeln!(config, "    IdentityFile {}", key.path(&dir));
                known_hosts.extend(key.known_hosts.as_deref());
            }
        }
        write_private(&dir.join("config"), config.as_bytes(), false)?;
        if !known_hosts.is_empty() {
            write_private(
                &dir.join("known_hosts"),
                known_hosts.join("\n").as_bytes(),
                false,
            )?;
        }
        if git_config.is_empty() {
            return Ok(());
        }
        write_private(&creds.join(".gitconfig"), git_config.as_bytes(), true)
    }
}

/// `host[:port][/path]`.
struct Address<'a> {
    host: &'a str,
    port: &'a str,
    path: &'a str,
}

impl<'a> Address<'a> {
    fn parse(url: &'a str) -> Self {
        let (authority, path) = url.split_once('/').unwrap_or((url, ""));
        let (host, port) = match authority.rsplit_once(':') {
            Some((host, port)) if !host.contains(':') => (host, port),
            Some((host, port)) if host.starts_with('[') && host.ends_with(']') => {
                (&host[1..host.len() - 1], port)
            }
            _ => (authority, "22"),
        };
        Address { host, port, path }
    }

    /// A name of its own, so that each repository is reached with its own key (T-277).
    fn alias(&self) -> String {
        format!("{}--{}", self.host, self.path.replace('/', "--"))
    }

    fn instead_of(&self, alias: &str) -> String {
        let Address { host, port, path } = self;
        if path.is_empty() {
            return String::new();
        }
        let port = if *port == "22" {
            String::new()
        } else {
            format!(":{port}")
        };
        format!(
            "[url \"git@{alias}:{path}.git\"]\n\tinsteadOf = git@{host}:{path}.git\n\
             [url \"ssh://{alias}/{path}.git\"]\n\tinsteadOf = ssh://{host}{port}/{path}.git\n"
        )
    }
}
