//! The four ways to patch an object (section 5 and 6).

pub mod apply;
pub mod json;
pub mod merge;
mod ownership;
pub mod strategic;
