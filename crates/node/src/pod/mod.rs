//! One pod: a worker that hears what happens, decides, and acts.

pub(crate) mod events;
pub(crate) mod prepare;
pub(crate) mod probe;
pub(crate) mod record;
pub(crate) mod start;
pub(crate) mod worker;
