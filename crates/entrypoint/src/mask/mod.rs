//! Secret values that a step writes become `***` before they leave its container.
//!
//! [`secrets`] reads the values where the step sees them, [`forms`] says how each may look in a log, [`search`] finds all of
//! them at the speed at which pipes run, [`masker`] does so in a stream whose writes may end anywhere.

use alloc::rc::Rc;
use alloc::string::String;

mod filter;
mod forms;
mod masker;
mod search;
mod secrets;
#[cfg(test)]
mod tests;

pub(crate) use masker::Masker;
pub(crate) use search::Search;
pub(crate) use secrets::Sources;

/// What stands in the log in place of a value.
pub(crate) const STARS: &[u8] = b"***";

/// The text with stars in it.
pub(crate) fn text(secrets: &Rc<Search>, text: &str) -> String {
    let mut masker = Masker::new(Rc::clone(secrets));
    let mut masked = String::new();
    let mut rest = text.as_bytes();
    loop {
        match rest.is_empty() {
            true => masker.flush(),
            false => {
                let room = masker.room();
                let length = room.len().min(rest.len());
                room[..length].copy_from_slice(&rest[..length]);
                masker.read(length);
                rest = &rest[length..];
            }
        }
        let leaving = masker.leaving();
        if leaving.is_empty() && rest.is_empty() {
            return masked;
        }
        masked.push_str(&String::from_utf8_lossy(leaving));
        let length = leaving.len();
        masker.left(length);
    }
}
