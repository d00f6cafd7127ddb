//! PipelineRuns driven through the engine, rule by rule.

mod cache;
mod children;
mod concurrency;
mod endings;
mod faults;
mod finally;
mod matrix;
mod rerun;
mod results;
mod rows;
mod scheduling;
mod trusted;
mod workspaces;
mod world;
