//! `.docker/config.json` from the account's registry Secrets (T-278).

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use serde::Deserialize;

use crate::credentials::{Secret, write_private};
use crate::{base64_text, json};

/// In the order of the flags.
#[derive(Debug, Default)]
pub(crate) struct Docker {
    cfgs: Vec<String>,
    configs: Vec<String>,
    basic: BTreeMap<String, Entry>,
}

#[derive(Clone, Debug, Default, Deserialize)]
struct Entry {
    #[serde(default)]
    username: String,
    #[serde(default)]
    password: String,
    #[serde(default)]
    auth: String,
    #[serde(default)]
    email: String,
}

#[derive(Deserialize)]
struct Config {
    #[serde(default)]
    auths: BTreeMap<String, Entry>,
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
            auths.extend(
                serde_json::from_str::<BTreeMap<String, Entry>>(&text)
                    .map_err(|error| error.to_string())?,
            );
        }
        for name in &self.configs {
            let text = Secret::new(root, name).read(".dockerconfigjson")?;
            auths.extend(
                serde_json::from_str::<Config>(&text)
                    .map_err(|error| error.to_string())?
                    .auths,
            );
        }
        auths.extend(self.basic.clone());
        if auths.is_empty() {
            return Ok(());
        }
        let dir = creds.join(".docker");
        fs::create_dir_all(&dir).map_err(|error| format!("mkdir {}: {error}", dir.display()))?;
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
