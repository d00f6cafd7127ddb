//! Where the registry logins of whoever runs this process may be: what `docker login` and `podman login` write (T-257).

use std::path::PathBuf;

/// The first of these that exists counts.
pub fn places() -> Vec<PathBuf> {
    places_by(|variable| std::env::var_os(variable).map(PathBuf::from))
}

fn places_by(variable: impl Fn(&str) -> Option<PathBuf>) -> Vec<PathBuf> {
    let directory = |name: &str| variable(name).filter(|path| !path.as_os_str().is_empty());
    let below_home = |path: &str| directory("HOME").map(|home| home.join(path));
    let docker = directory("DOCKER_CONFIG").or_else(|| below_home(".docker"));
    let podman = |directory: PathBuf| directory.join("containers/auth.json");
    let config = directory("XDG_CONFIG_HOME").or_else(|| below_home(".config"));
    let places = [
        docker.map(|directory| directory.join("config.json")),
        directory("REGISTRY_AUTH_FILE"),
        directory("XDG_RUNTIME_DIR").map(podman),
        config.map(podman),
    ];
    places.into_iter().flatten().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_variables_of_docker_and_podman_say_where_logins_are() {
        // T-257
        let home = ("HOME", "/h");
        for (variables, expected) in [
            (&[][..], &[][..]),
            (
                &[home],
                &["/h/.docker/config.json", "/h/.config/containers/auth.json"],
            ),
            (
                &[
                    home,
                    ("DOCKER_CONFIG", "/d"),
                    ("REGISTRY_AUTH_FILE", "/a"),
                    ("XDG_RUNTIME_DIR", "/r"),
                    ("XDG_CONFIG_HOME", "/c"),
                ],
                &[
                    "/d/config.json",
                    "/a",
                    "/r/containers/auth.json",
                    "/c/containers/auth.json",
                ],
            ),
            (&[("DOCKER_CONFIG", "")], &[]),
        ] {
            let places = places_by(|wanted| {
                let found = variables.iter().find(|(name, _)| *name == wanted);
                found.map(|(_, value)| PathBuf::from(value))
            });
            let expected: Vec<PathBuf> = expected.iter().map(PathBuf::from).collect();
            assert_eq!(places, expected, "{variables:?}");
        }
    }
}
