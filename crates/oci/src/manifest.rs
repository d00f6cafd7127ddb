//! Image manifests, indexes and configurations: the parts of the OCI and Docker formats the store needs.

use std::collections::BTreeMap;
use std::fmt;

use serde::Deserialize;

use crate::digest::Digest;
use crate::{Error, ImageConfig};

pub(crate) const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";
pub(crate) const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
pub(crate) const DOCKER_LIST: &str = "application/vnd.docker.distribution.manifest.list.v2+json";
pub(crate) const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";

/// Where a blob is and what it is for.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Descriptor {
    #[serde(default)]
    pub(crate) media_type: String,
    pub(crate) digest: Digest,
    #[serde(default)]
    pub(crate) size: u64,
    #[serde(default)]
    pub(crate) platform: Option<Platform>,
    #[serde(default)]
    pub(crate) annotations: BTreeMap<String, String>,
}

/// An operating system and architecture in Go's names.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
pub(crate) struct Platform {
    #[serde(default)]
    pub(crate) os: String,
    #[serde(default)]
    pub(crate) architecture: String,
    #[serde(default)]
    pub(crate) variant: String,
    #[serde(default, rename = "os.version")]
    pub(crate) os_version: String,
}

/// As registry clients write the platforms of an index: `os/arch[/variant][:os.version]`, nothing without a system.
impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.os.is_empty() {
            return Ok(());
        }
        f.write_str(&self.os)?;
        for part in [&self.architecture, &self.variant] {
            if !part.is_empty() {
                write!(f, "/{part}")?;
            }
        }
        if !self.os_version.is_empty() {
            write!(f, ":{}", self.os_version)?;
        }
        Ok(())
    }
}

impl Platform {
    /// The platform this program runs on.
    pub(crate) fn current() -> Platform {
        let architecture = match std::env::consts::ARCH {
            "x86_64" => "amd64",
            "aarch64" => "arm64",
            "x86" => "386",
            "powerpc64" => "ppc64le",
            other => other,
        };
        Platform {
            os: std::env::consts::OS.to_owned(),
            architecture: architecture.to_owned(),
            ..Platform::default()
        }
    }
}

/// Either kind of document a reference may lead to.
#[derive(Debug)]
pub(crate) enum Document {
    Index(Vec<Descriptor>),
    Manifest(Manifest),
}

/// One image for one platform.
#[derive(Debug, Deserialize)]
pub(crate) struct Manifest {
    pub(crate) config: Descriptor,
    pub(crate) layers: Vec<Descriptor>,
}

impl Document {
    pub(crate) fn parse(bytes: &[u8]) -> Result<Document, Error> {
        #[derive(Deserialize)]
        struct Either {
            manifests: Option<Vec<Descriptor>>,
            config: Option<Descriptor>,
            layers: Option<Vec<Descriptor>>,
        }
        let either: Either = serde_json::from_slice(bytes)
            .map_err(|error| Error::malformed("image manifest", error.to_string()))?;
        match either {
            Either {
                manifests: Some(manifests),
                ..
            } => Ok(Document::Index(manifests)),
            Either {
                config: Some(config),
                layers: Some(layers),
                ..
            } => Ok(Document::Manifest(Manifest { config, layers })),
            _ => Err(Error::malformed(
                "image manifest",
                "neither an index nor a manifest",
            )),
        }
    }
}

/// The entry of an index for this platform; entries without a platform are taken if nothing names it (K-325).
pub(crate) fn choose<'a>(index: &'a [Descriptor], wanted: &Platform) -> Option<&'a Descriptor> {
    let fits = |descriptor: &&Descriptor| {
        descriptor
            .platform
            .as_ref()
            .is_some_and(|it| it.os == wanted.os && it.architecture == wanted.architecture)
    };
    index.iter().find(fits).or_else(|| {
        index
            .iter()
            .find(|descriptor| descriptor.platform.is_none())
    })
}

/// An image configuration: how to run it and which layers, uncompressed, it is made of.
#[derive(Debug)]
pub(crate) struct Configuration {
    pub(crate) config: ImageConfig,
    pub(crate) platform: Platform,
    pub(crate) diff_ids: Vec<Digest>,
}

impl Configuration {
    pub(crate) fn parse(bytes: &[u8]) -> Result<Configuration, Error> {
        #[derive(Deserialize)]
        struct File {
            #[serde(flatten)]
            platform: Platform,
            #[serde(default)]
            config: Option<ImageConfig>,
            #[serde(default)]
            rootfs: RootFs,
        }
        #[derive(Default, Deserialize)]
        struct RootFs {
            #[serde(default)]
            diff_ids: Option<Vec<Digest>>,
        }
        let file: File = serde_json::from_slice(bytes)
            .map_err(|error| Error::malformed("image configuration", error.to_string()))?;
        Ok(Configuration {
            config: file.config.unwrap_or_default(),
            platform: file.platform,
            diff_ids: file.rootfs.diff_ids.unwrap_or_default(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn descriptor(fill: char, platform: Option<(&str, &str)>) -> Descriptor {
        Descriptor {
            media_type: OCI_MANIFEST.into(),
            digest: Digest::parse(&format!("sha256:{}", fill.to_string().repeat(64))).unwrap(),
            size: 0,
            platform: platform.map(|(os, architecture)| Platform {
                os: os.into(),
                architecture: architecture.into(),
                ..Platform::default()
            }),
            annotations: BTreeMap::new(),
        }
    }

    #[test]
    fn an_index_yields_the_entry_of_the_platform() {
        // K-325
        let wanted = Platform {
            os: "linux".into(),
            architecture: "arm64".into(),
            ..Platform::default()
        };
        let index = [
            descriptor('a', Some(("linux", "amd64"))),
            descriptor('b', Some(("linux", "arm64"))),
            descriptor('c', Some(("unknown", "unknown"))),
        ];
        assert_eq!(choose(&index, &wanted).unwrap().digest, index[1].digest);
        assert!(choose(&index[..1], &wanted).is_none());
        assert!(choose(&index[2..], &wanted).is_none());
        assert!(choose(&[descriptor('d', None)], &wanted).is_some());
    }

    #[test]
    fn a_configuration_with_nulls_reads_as_empty() {
        let bytes = br#"{"architecture":"amd64","os":"linux","config":{"Cmd":null,"Env":["A=b"],"ExposedPorts":{"80/tcp":{}}},"rootfs":{"type":"layers","diff_ids":null}}"#;
        let read = Configuration::parse(bytes).unwrap();
        assert_eq!(
            (
                read.config.cmd.len(),
                read.config.env,
                read.config.exposed_ports
            ),
            (0, vec!["A=b".into()], vec!["80/tcp".into()])
        );
        assert!(read.diff_ids.is_empty());
    }
}
