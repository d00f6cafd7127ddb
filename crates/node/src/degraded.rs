//! What a machine may lack and still run containers.

use serde::{Deserialize, Serialize};

/// Something that does not work as usual on this machine: said to a person once, whoever finds it out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Degraded {
    /// What is lacking: two with the same are about the same thing.
    pub lack: Lack,
    /// What follows from it and why, as a clause for a warning.
    pub text: String,
}

/// Kinds of what may be lacking.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Lack {
    /// Users of their own for containers.
    Users,
    /// Networks of their own for pods, or the way out of them.
    Network,
    /// Limits on memory and CPU.
    Limits,
    /// A file system that overlayfs can keep writable layers on.
    Layers,
}

impl Degraded {
    pub(crate) fn new(lack: Lack, text: impl Into<String>) -> Self {
        Self {
            lack,
            text: text.into(),
        }
    }
}
