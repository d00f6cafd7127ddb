//! Whether this machine can run containers, and what it lacks.

/// What the machine permits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Capabilities {
    /// Whether this process is root (else containers run in a user namespace).
    pub root: bool,
    /// What will not work as usual, each a sentence for one warning.
    pub degraded: Vec<String>,
}

/// Why the machine cannot run containers at all.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("this machine cannot run containers: {}", what.join("; "))]
pub struct Missing {
    /// What is missing, each a sentence.
    pub what: Vec<String>,
}

/// Finds out whether containers can run here, without making one.
///
/// # Errors
/// What is missing, if they cannot.
pub fn preflight() -> Result<Capabilities, Missing> {
    Ok(Capabilities {
        root: nix::unistd::geteuid().is_root(),
        degraded: Vec::new(),
    })
}
