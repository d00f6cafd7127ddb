//! `tekton.dev/v1beta1`: the kinds whose stored version it is.

mod customrun;
mod stepaction;

pub use customrun::{
    CustomRun, CustomRunResult, CustomRunSpec, CustomRunStatus, EmbeddedCustomRunSpec,
};
pub use stepaction::{StepAction, StepActionSpec};
