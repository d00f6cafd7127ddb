//! What images run, looked up in Debian's docker-registry. It holds no layer of any of them: whoever wanted one would fail.

mod docker_registry;

use docker_registry::{DockerRegistry, LOGIN, described};
use serde_json::{Value, json};
use tektite_oci::{Credentials, Lookups, PlatformCommands, Reference};

/// The media types of one generation of images.
struct Generation {
    index: &'static str,
    manifest: &'static str,
    config: &'static str,
    layer: &'static str,
}

const OCI: Generation = Generation {
    index: "application/vnd.oci.image.index.v1+json",
    manifest: "application/vnd.oci.image.manifest.v1+json",
    config: "application/vnd.oci.image.config.v1+json",
    layer: "application/vnd.oci.image.layer.v1.tar+gzip",
};
const DOCKER: Generation = Generation {
    index: "application/vnd.docker.distribution.manifest.list.v2+json",
    manifest: "application/vnd.docker.distribution.manifest.v2+json",
    config: "application/vnd.docker.container.image.v1+json",
    layer: "application/vnd.docker.image.rootfs.diff.tar.gzip",
};
const REPOSITORY: &str = "team/app";

impl Generation {
    /// An image whose layer is nowhere.
    fn image(&self, registry: &DockerRegistry, tag: Option<&str>, config: &Value) -> Value {
        let config = registry.blob(REPOSITORY, self.config, config.to_string().as_bytes());
        let layers = [described(self.layer, b"nowhere")];
        let manifest = json!({"schemaVersion": 2, "mediaType": self.manifest, "config": config, "layers": layers});
        registry.manifest(REPOSITORY, tag, &manifest)
    }

    /// An index of such images and their platforms; gives its digest.
    fn index(&self, registry: &DockerRegistry, tag: &str, images: &[(Value, Value)]) -> String {
        let entries: Vec<Value> = images
            .iter()
            .map(|(image, platform)| {
                let mut entry = image.clone();
                entry["platform"] = platform.clone();
                entry
            })
            .collect();
        let index = json!({"schemaVersion": 2, "mediaType": self.index, "manifests": entries});
        text(&registry.manifest(REPOSITORY, Some(tag), &index)["digest"])
    }
}

fn text(value: &Value) -> String {
    value.as_str().expect("text").to_owned()
}

fn config(os: &str, architecture: &str, entrypoint: &[&str], cmd: &[&str]) -> Value {
    let config = json!({"Entrypoint": entrypoint, "Cmd": cmd});
    json!({"os": os, "architecture": architecture, "variant": "v9", "config": config, "rootfs": {"type": "layers", "diff_ids": []}})
}

fn linux(architecture: &str) -> Value {
    json!({"os": "linux", "architecture": architecture})
}

fn named(registry: &DockerRegistry, version: &str) -> Reference {
    let name = format!("{}/{REPOSITORY}{version}", registry.address);
    name.parse().expect("a name")
}

/// Entrypoint and Cmd by platform, in one text each.
fn shown(found: &PlatformCommands) -> Vec<(&str, String)> {
    let commands = found.commands.iter();
    let line = |it: &tektite_oci::ImageCommand| {
        format!("{} | {}", it.entrypoint.join(" "), it.cmd.join(" "))
    };
    commands
        .map(|(platform, command)| (platform.as_str(), line(command)))
        .collect()
}

/// T-258, T-259, T-260
#[tokio::test]
async fn an_index_gives_each_platforms_command_and_a_single_image_its_own() {
    const TEST: &str = "an_index_gives_each_platforms_command_and_a_single_image_its_own";
    let Some(registry) = DockerRegistry::start(TEST, None) else {
        return;
    };
    for generation in [OCI, DOCKER] {
        let amd64 = config("linux", "amd64", &["/tool"], &["help"]);
        let amd64 = generation.image(&registry, None, &amd64);
        let arm64 = config("linux", "arm64", &[], &["/other"]);
        let arm64 = generation.image(&registry, None, &arm64);
        let windows = config("windows", "amd64", &["tool.exe"], &[]);
        let windows = generation.image(&registry, None, &windows);
        let nowhere = described(generation.manifest, b"no manifest");
        let digest = generation.index(
            &registry,
            "many",
            &[
                (amd64.clone(), linux("amd64")),
                (
                    arm64,
                    json!({"os": "linux", "architecture": "arm64", "variant": "v8"}),
                ),
                (
                    windows,
                    json!({"os": "windows", "architecture": "amd64", "os.version": "10.0.1"}),
                ),
                (amd64, linux("amd64")),
                (nowhere, json!({"os": "unknown", "architecture": "unknown"})),
            ],
        );
        let single = config("linux", "arm64", &["/tool"], &[]);
        let single = generation.image(&registry, Some("single"), &single);

        let lookups = Lookups::default();
        let none = Credentials::none();
        let many = lookups.look_up(&named(&registry, ":many"), &none).await;
        let many = many.expect("an index");
        assert_eq!(many.digest, digest);
        assert_eq!(
            shown(&many),
            [
                ("linux/amd64", "/tool | help".to_owned()),
                ("linux/arm64/v8", " | /other".into()),
                ("windows/amd64:10.0.1", "tool.exe | ".into()),
            ]
        );
        let found = lookups.look_up(&named(&registry, ":single"), &none).await;
        let found = found.expect("an image");
        assert_eq!(found.digest, text(&single["digest"]));
        assert_eq!(shown(&found), [("linux/arm64", "/tool | ".to_owned())]);
    }
}

/// T-261, T-263
#[tokio::test]
async fn what_cannot_be_used_is_refused_in_upstreams_words() {
    const TEST: &str = "what_cannot_be_used_is_refused_in_upstreams_words";
    let Some(registry) = DockerRegistry::start(TEST, None) else {
        return;
    };
    let image = |entrypoint| {
        let config = config("linux", "amd64", &[entrypoint], &[]);
        OCI.image(&registry, None, &config)
    };
    let (one, other) = (image("one"), image("other"));
    let (first, second) = (text(&one["digest"]), text(&other["digest"]));
    OCI.index(
        &registry,
        "twice",
        &[(one, linux("amd64")), (other, linux("amd64"))],
    );
    let address = &registry.address;
    let missing = format!("sha256:{}", "0".repeat(64));
    for (version, expected) in [
        (
            ":twice".to_owned(),
            format!(
                "duplicate unique image found for platform: linux/amd64: found {first} and {second}"
            ),
        ),
        (
            ":gone".into(),
            format!(
                "GET http://{address}/v2/{REPOSITORY}/manifests/gone: MANIFEST_UNKNOWN: manifest unknown; map[Tag:gone]"
            ),
        ),
        (
            format!("@{missing}"),
            format!(
                "GET http://{address}/v2/{REPOSITORY}/manifests/{missing}: MANIFEST_UNKNOWN: manifest unknown; map[Name:{REPOSITORY} Revision:{missing}]"
            ),
        ),
    ] {
        let error = Lookups::default()
            .look_up(&named(&registry, &version), &Credentials::none())
            .await
            .expect_err(&version);
        assert_eq!(error.to_string(), expected);
    }
}

/// T-262: a digest that was seen needs no registry, whatever it was asked by then; a tag does.
#[tokio::test]
async fn what_a_digest_names_is_remembered_and_what_a_tag_names_is_not() {
    const TEST: &str = "what_a_digest_names_is_remembered_and_what_a_tag_names_is_not";
    let Some(mut registry) = DockerRegistry::start(TEST, None) else {
        return;
    };
    let none = Credentials::none();
    let lookups = Lookups::default();
    let mut digests = Vec::new();
    for entrypoint in ["before", "after"] {
        let config = config("linux", "amd64", &[entrypoint], &[]);
        OCI.image(&registry, Some("moving"), &config);
        let found = lookups.look_up(&named(&registry, ":moving"), &none).await;
        let found = found.expect("an image");
        assert_eq!(
            shown(&found),
            [("linux/amd64", format!("{entrypoint} | "))],
            "the tag is resolved again"
        );
        digests.push(found.digest.clone());
    }
    registry.end();
    for digest in digests {
        for version in [format!("@{digest}"), format!(":any@{digest}")] {
            let reference = named(&registry, &version);
            let found = lookups.look_up(&reference, &none).await.expect(&version);
            assert_eq!(found.digest, digest);
        }
        let elsewhere = format!("{}/team/other@{digest}", registry.address);
        let elsewhere = elsewhere.parse().expect("a name");
        assert!(lookups.known(&elsewhere).is_none());
    }
    let gone = lookups.look_up(&named(&registry, ":moving"), &none).await;
    assert!(
        gone.expect_err("nobody answers")
            .to_string()
            .contains("Connection refused")
    );
}

/// T-257, T-263: of the credentials that fit the first that the registry knows is used, those of the run before the
/// controller's own.
#[tokio::test]
async fn a_closed_registry_is_opened_by_the_first_login_it_knows() {
    const TEST: &str = "a_closed_registry_is_opened_by_the_first_login_it_knows";
    let Some(registry) = DockerRegistry::start(TEST, Some(LOGIN)) else {
        return;
    };
    OCI.image(
        &registry,
        Some("1"),
        &config("linux", "amd64", &["/tool"], &[]),
    );
    let address = &registry.address;
    let logins = |given: &[(&str, &str)]| {
        let mut credentials = Credentials::none();
        for (place, password) in given {
            credentials.add_basic(place, "user", password);
        }
        credentials
    };
    let team = format!("{address}/team");
    for (of_run, own, opens) in [
        (logins(&[(address, "pass")]), logins(&[]), true),
        (
            logins(&[(address, "pass"), (&team, "no")]),
            logins(&[]),
            true,
        ),
        (
            logins(&[("other.example", "no")]),
            logins(&[(address, "pass")]),
            true,
        ),
        (logins(&[(address, "no")]), logins(&[(&team, "pass")]), true),
        (logins(&[(address, "no")]), logins(&[]), false),
        (logins(&[]), logins(&[]), false),
    ] {
        let credentials = of_run.before(own);
        let found = Lookups::default()
            .look_up(&named(&registry, ":1"), &credentials)
            .await;
        match found {
            Ok(_) => assert!(opens, "{credentials:?}"),
            Err(error) => {
                let said = format!(
                    "GET http://{address}/v2/{REPOSITORY}/manifests/1: UNAUTHORIZED: authentication required; "
                );
                assert!(!opens && error.to_string().starts_with(&said), "{error}");
            }
        }
    }
}
