//! PipelineRuns driven through the engine, rule by rule.

mod children;
mod endings;
mod faults;
mod finally;
mod matrix;
mod properties;
mod results;
mod scheduling;
mod workspaces;
mod world;
