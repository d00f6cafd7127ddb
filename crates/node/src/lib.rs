//! Runs pods as OCI containers on this machine.
