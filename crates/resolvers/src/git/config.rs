//! ConfigMap `git-resolver-config`, which may hold several configurations (P-340, P-341).

use crate::framework::Backoff;
use crate::params::Params;
use crate::settings::Map;

/// One configuration.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct ScmConfig {
    pub(super) timeout: String,
    pub(super) url: String,
    pub(super) revision: String,
    pub(super) org: String,
    pub(super) server_url: String,
    pub(super) scm_type: String,
    pub(super) secret_name: String,
    pub(super) secret_key: String,
    pub(super) secret_namespace: String,
    /// Ours: where repositories are that `file://` URLs may name.
    pub(super) local_repositories: String,
}

impl ScmConfig {
    fn field(&mut self, key: &str) -> Option<&mut String> {
        Some(match key {
            "fetch-timeout" => &mut self.timeout,
            "default-url" => &mut self.url,
            "default-revision" => &mut self.revision,
            "default-org" => &mut self.org,
            "server-url" => &mut self.server_url,
            "scm-type" => &mut self.scm_type,
            "api-token-secret-name" => &mut self.secret_name,
            "api-token-secret-key" => &mut self.secret_key,
            "api-token-secret-namespace" => &mut self.secret_namespace,
            "local-repositories" => &mut self.local_repositories,
            _ => return None,
        })
    }
}

/// The configuration that the params ask for: by id, or the one without.
///
/// # Errors
/// If there is none of that id, or a key of the map is none.
pub(super) fn chosen(map: &Map, params: &Params) -> Result<ScmConfig, String> {
    let wanted = params.get("configKey");
    let mut chosen = None;
    for (key, value) in map {
        let (id, field) = match key.split('.').collect::<Vec<_>>()[..] {
            [field] => ("default", field),
            [id, field] => (id, field),
            _ => {
                return Err(format!(
                    "key {key} passed in git resolver configmap is invalid"
                ));
            }
        };
        if id == wanted.unwrap_or("default") {
            let config = chosen.get_or_insert_with(ScmConfig::default);
            if let Some(field) = config.field(field) {
                value.clone_into(field);
            }
        }
    }
    match (chosen, wanted) {
        (Some(config), _) => Ok(config),
        (None, None) => Ok(ScmConfig::default()),
        (None, Some(id)) => Err(format!(
            "no git resolver configuration found for configKey {id}"
        )),
    }
}

/// How failed fetches are repeated; a value that is none counts as not given.
pub(super) fn backoff(map: &Map) -> Backoff {
    let mut backoff = Backoff::default();
    for (key, value) in map {
        if let Err(error) = backoff.set(key, value) {
            tracing::warn!(key, value, %error, "not a value for the git resolver's backoff; the default counts");
        }
    }
    backoff
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(entries: &[(&str, &str)]) -> Map {
        entries
            .iter()
            .map(|(key, value)| ((*key).into(), (*value).into()))
            .collect()
    }

    /// P-340
    #[test]
    fn configurations_are_chosen_by_id_and_inherit_nothing() {
        let several = map(&[
            ("default-revision", "main"),
            ("server-url", "https://one.example"),
            ("default.default-org", "org"),
            ("test.server-url", "https://two.example"),
            ("unknown", "x"),
        ]);
        let config = chosen(&several, &Params::from([])).unwrap();
        assert_eq!(
            (
                config.revision.as_str(),
                config.org.as_str(),
                config.server_url.as_str()
            ),
            ("main", "org", "https://one.example")
        );
        let config = chosen(&several, &Params::from([("configKey", "test")])).unwrap();
        assert_eq!(
            (config.revision.as_str(), config.server_url.as_str()),
            ("", "https://two.example")
        );
        assert_eq!(
            chosen(&several, &Params::from([("configKey", "none")])).unwrap_err(),
            "no git resolver configuration found for configKey none"
        );
        assert_eq!(
            chosen(&map(&[("a.b.c", "x")]), &Params::from([])).unwrap_err(),
            "key a.b.c passed in git resolver configmap is invalid"
        );
    }

    /// P-341
    #[test]
    fn a_bad_value_of_the_backoff_counts_as_not_given() {
        let read = backoff(&map(&[
            ("backoff-duration", "5s"),
            ("backoff-steps", "0"),
            ("backoff-factor", "-1"),
            ("backoff-cap", "soon"),
            ("backoff-jitter", "0"),
            ("default-revision", "main"),
        ]));
        let expected = Backoff {
            duration: std::time::Duration::from_secs(5),
            jitter: 0.0,
            ..Backoff::default()
        };
        assert_eq!(read, expected);
    }
}
