//! Every decision: substitution, DAG, results, pod building, the run state machines. Pure.

#![forbid(unsafe_code)]

pub mod child_name;
