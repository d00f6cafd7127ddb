//! `.docker/config.json` from the account's registry Secrets (T-278).

use alloc::borrow::ToOwned;
use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use crate::credentials::{Secret, write_private};
use crate::json_value::{Value, take_text};
use crate::path::Path;
use crate::system::fs;
use crate::{base64_text, json};

/// In the order of the flags.
#[derive(Debug, Default)]
pub(crate) struct Docker {
    cfgs: Vec<String>,
    configs: Vec<String>,
    basic: BTreeMap<String, Entry>,
}

#[derive(Clone, Debug, Default)]
struct Entry {
    username: String,
    password: String,
    auth: String,
    email: String,
}

fn entries(value: Value) -> Result<BTreeMap<String, Entry>, String> {
    let one = |(url, value): (String, Value)| {
        let mut members = value.into_members()?;
        let mut text = |name| take_text(&mut members, name);
        let entry = Entry {
            username: text("username")?,
            password: text("password")?,
            auth: text("auth")?,
            email: text("email")?,
        };
        Ok((url, entry))
    };
    value.into_members()?.into_iter().map(one).collect()
}

impl Docker {
    pub(crate) fn add_config(&mut self, secret: &str) {
        self.configs.push(secret.to_owned());
    }

    pub(crate) fn add_cfg(&mut self, secret: &str) {
        self.cfgs.push(secret.to_owned());
    }

    pub(crate) fn add_basic(&mut self, secret: &Secret<'_>, url: &str) -> Result<(), String> {
        if self.basic.contains_key(url) {
            return Err(format!("multiple entries for url: {url}"));
        }
        let (username, password) = (secret.read("username")?, secret.read("password")?);
        let auth = base64_text::encode(format!("{username}:{password}").as_bytes());
        self.basic.insert(
            url.to_owned(),
            Entry {
                username,
                password,
                auth,
                email: "not@val.id".into(),
            },
        );
        Ok(())
    }

    /// Later sources win: dockercfg, dockerconfigjson, basic.
    pub(crate) fn write(&self, root: &Path, creds: &Path) -> Result<(), String> {
        let mut auths = BTreeMap::new();
        for name in &self.cfgs {
            let text = Secret::new(root, name).read(".dockercfg")?;
            auths.extend(entries(Value::parse(text.as_bytes())?)?);
        }
        for name in &self.configs {
            let text = Secret::new(root, name).read(".dockerconfigjson")?;
            let mut config = Value::parse(text.as_bytes())?.into_members()?;
            auths.extend(entries(config.remove("auths").unwrap_or_default())?);
        }
        auths.extend(self.basic.clone());
        if auths.is_empty() {
            return Ok(());
        }
        let dir = creds.join(".docker");
        fs::create_dir_all(&dir).map_err(|error| format!("mkdir {dir}: {error}"))?;
        write_private(&dir.join("config.json"), encode(&auths).as_bytes(), false)
    }
}

fn encode(auths: &BTreeMap<String, Entry>) -> String {
    let mut out = String::from("{\"auths\":{");
    json::joined(&mut out, auths, |out, (url, entry)| {
        json::string(out, url.as_bytes());
        out.push_str(":{");
        let fields = [
            ("username", &entry.username),
            ("password", &entry.password),
            ("auth", &entry.auth),
            ("email", &entry.email),
        ];
        let present = fields
            .into_iter()
            .filter(|(name, value)| *name == "auth" || !value.is_empty());
        json::joined(out, present, |out, (name, value)| {
            json::string(out, name.as_bytes());
            out.push(':');
            json::string(out, value.as_bytes());
        });
        out.push('}');
    });
    out.push_str("}}");
    out
}
