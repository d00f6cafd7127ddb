//! The kinds the server has without any CustomResourceDefinition.

pub mod conform;
pub mod defaults;
pub mod events;
pub mod kinds;
pub mod pods;
pub mod prepare;
pub mod shape;
#[rustfmt::skip]
mod shapes;
pub mod validate;
