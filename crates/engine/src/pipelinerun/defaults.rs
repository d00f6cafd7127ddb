//! Defaults that the reconciler fills in again on each pass, in memory only (P-027).

use tektite_api::config::Config;
use tektite_api::v1::{ParamSpec, ParamType, PipelineRun, PipelineSpec, PipelineTask, TaskSpec};

use super::timeouts::default_timeout;

/// Of a run: the timeout of the pipeline (P-022).
pub(super) fn run(run: &mut PipelineRun, config: &Config) {
    let timeouts = run.spec.timeouts.get_or_insert_default();
    timeouts
        .pipeline
        .get_or_insert_with(|| default_timeout(config));
}

/// Of a pipeline: types of params (P-025), kinds of references (P-026).
pub(super) fn pipeline(spec: &mut PipelineSpec) {
    spec.params.iter_mut().for_each(param);
    spec.tasks
        .iter_mut()
        .chain(&mut spec.finally)
        .for_each(pipeline_task);
}

fn pipeline_task(pipeline_task: &mut PipelineTask) {
    if let Some(reference) = &mut pipeline_task.task_ref
        && reference.kind.is_empty()
        && reference.resolver.is_empty()
    {
        "Task".clone_into(&mut reference.kind);
    }
    if let Some(embedded) = &mut pipeline_task.task_spec {
        task(&mut embedded.task);
    }
}

/// Of a task: types of params and results.
pub(super) fn task(spec: &mut TaskSpec) {
    spec.params.iter_mut().for_each(param);
    for result in &mut spec.results {
        let type_ = if result.properties.is_empty() {
            ParamType::String
        } else {
            ParamType::Object
        };
        result.type_.get_or_insert(type_);
        for property in result.properties.values_mut() {
            property.type_.get_or_insert(ParamType::String);
        }
    }
}

fn param(spec: &mut ParamSpec) {
    let by_default = || {
        spec.default
            .as_ref()
            .map_or(ParamType::String, |value| value.type_())
    };
    let type_ = if spec.properties.is_empty() {
        by_default()
    } else {
        ParamType::Object
    };
    spec.type_.get_or_insert(type_);
    for property in spec.properties.values_mut() {
        property.type_.get_or_insert(ParamType::String);
    }
}
