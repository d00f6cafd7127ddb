//! What can go wrong with images, and what it means to whoever asked.

use std::io;
use std::path::PathBuf;

/// The error's text with those of its causes that it does not repeat: those of a connection say more than its own.
pub fn with_causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let more = cause.to_string();
        if !text.contains(&more) {
            text.push_str(": ");
            text.push_str(&more);
        }
        next = cause.source();
    }
    text
}

/// Why an image could not be loaded, found or pulled.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The name is no image reference; Kubernetes calls this `InvalidImageName`.
    #[error("couldn't parse image name {reference:?}: {reason}")]
    InvalidReference {
        /// The name as given.
        reference: String,
        /// Which rule it breaks.
        reason: &'static str,
    },
    /// Neither the store nor, if asked, the registry has it.
    #[error("image {reference:?} not found: {reason}")]
    NotFound {
        /// The normalised name.
        reference: String,
        /// Where it was looked for.
        reason: String,
    },
    /// The policy forbids pulling and the store does not have it (`ErrImageNeverPull`).
    #[error("Container image {reference:?} is not present with pull policy of Never")]
    NeverPull {
        /// The normalised name.
        reference: String,
    },
    /// The registry wants other credentials.
    #[error("pulling {reference:?}: not authorized: {message}")]
    Unauthorized {
        /// The normalised name.
        reference: String,
        /// What the registry said.
        message: String,
    },
    /// The registry could not be reached or answered with an error.
    #[error("pulling {reference:?}: {message}")]
    Registry {
        /// The normalised name.
        reference: String,
        /// What happened.
        message: String,
    },
    /// The archive or the image breaks its format.
    #[error("{what}: {reason}")]
    Malformed {
        /// The archive or part of it.
        what: String,
        /// What is wrong.
        reason: String,
    },
    /// An archive tried to write or link outside its root.
    #[error("refused entry {entry:?}: {reason}")]
    HostileArchive {
        /// The entry's name.
        entry: String,
        /// What it tried.
        reason: &'static str,
    },
    /// Bytes do not have the digest that names them.
    #[error("{what}: digest is {actual}, expected {expected}")]
    DigestMismatch {
        /// The blob.
        what: String,
        /// What its name promises.
        expected: String,
        /// What was read.
        actual: String,
    },
    /// `images.yaml` cannot be read as a mapping.
    #[error("{path}: {reason}", path = path.display())]
    Mapping {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// The file system refused.
    #[error("{what}: {source}")]
    Io {
        /// What was being done, with the path.
        what: String,
        /// The system's answer.
        source: io::Error,
    },
}

impl Error {
    pub(crate) fn malformed(what: impl Into<String>, reason: impl Into<String>) -> Self {
        Error::Malformed {
            what: what.into(),
            reason: reason.into(),
        }
    }
}

/// Says what was being done when the system refused.
pub(crate) trait Doing<T> {
    fn doing(self, what: impl FnOnce() -> String) -> Result<T, Error>;
}

impl<T, E: Into<io::Error>> Doing<T> for Result<T, E> {
    fn doing(self, what: impl FnOnce() -> String) -> Result<T, Error> {
        self.map_err(|error| Error::Io {
            what: what(),
            source: error.into(),
        })
    }
}
