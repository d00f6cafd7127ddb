//! Every decision: substitution, DAG, results, pod building, the run state machines. Pure.

#![forbid(unsafe_code)]

pub mod annotations;
mod cache;
pub mod cel;
pub mod child_name;
pub mod cloud_event;
pub mod dag;
pub mod decision;
pub mod matrix;
pub mod pipelinerun;
pub mod references;
pub mod substitution;
pub mod taskrun;
pub mod trace;
pub mod trusted;
pub mod when;
