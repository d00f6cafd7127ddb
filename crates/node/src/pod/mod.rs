//! One pod: a worker that hears what happens, decides, and acts.

pub(crate) mod events;
mod mount_retry;
pub(crate) mod prepare;
pub(crate) mod probe;
pub(crate) mod record;
pub(crate) mod start;
pub(crate) mod worker;
