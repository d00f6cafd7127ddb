//! The validating webhook.

mod artifact;
mod beta;
mod graph;
mod matrix;
mod metadata;
mod other;
mod param;
mod pipeline;
mod pipeline_params;
mod pipeline_task;
mod pipelinerun;
mod reference;
mod result;
mod scope;
mod step;
mod step_usage;
mod stepaction;
mod task;
mod task_result_ref;
mod taskrun;
mod update;
mod variable;
mod when;
mod workspace;

use scope::Scope;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::{
    FieldErrors, Operation, Refusal, Request, Warning, defaulting::decode_object, shape_of,
};
use crate::{config::Config, v1::TaskSpec};

/// Whether the object may be stored, and what its author should know nevertheless.
///
/// # Errors
/// Why it may not, in upstream's words.
pub fn validate(request: &Request<'_>, config: &Config) -> Result<Vec<Warning>, Refusal> {
    if request.operation == Operation::Delete {
        return Ok(vec![]);
    }
    let Some(shape) = shape_of(request) else {
        let gvk = format!(
            "{}/{}, Kind={}",
            request.group, request.version, request.kind
        );
        return Err(Refusal::bad_request(format!(
            "decoding request failed: unhandled kind: {gvk}"
        )));
    };
    let object = decode_object(shape, request.object)
        .map_err(|m| {
            Refusal::bad_request(format!(
                "decoding request failed: cannot decode incoming new object: {m}"
            ))
        })?
        .value;
    let errors = findings(request, shape, &object, config)?;
    if errors.is_empty() {
        return Ok(vec![]);
    }
    Err(Refusal {
        code: 400,
        message: format!("validation failed: {errors}"),
        errors: errors.merged(),
    })
}

/// What is wrong with a task's spec that has been resolved and substituted, before a pod is built of it (T-202).
pub fn resolved_task(spec: &TaskSpec, config: &Config) -> FieldErrors {
    task::resolved(
        spec,
        Scope {
            config,
            beta: false,
        },
    )
}

/// Everything that is wrong with the decoded object.
fn findings(
    request: &Request<'_>,
    shape: &str,
    object: &Value,
    config: &Config,
) -> Result<FieldErrors, Refusal> {
    let beta = request.version == "v1beta1";
    let scope = Scope { config, beta };
    let mut errors = FieldErrors::new();
    if request.kind == "ResolutionRequest" {
        return Ok(other::resolution_request(request.object));
    }
    let named = metadata::validate(&request.object["metadata"]).via("metadata");
    if request.kind == "CustomRun" && !named.is_empty() {
        return Ok(named);
    }
    errors.add(named);
    if matches!(request.kind, "TaskRun" | "PipelineRun") {
        errors.add(update::pending(request, object));
        if request.operation == Operation::Update && request.subresource.is_empty() {
            errors.add(update::validate(request, shape, object, config));
        }
    }
    let mut object = object.clone();
    if beta {
        errors.add(beta::disallowed(
            request.kind,
            &object,
            request.operation == Operation::Create,
        ));
        beta::as_v1(request.kind, &mut object);
    }
    let spec = object["spec"].take();
    errors.add(match request.kind {
        "Task" => task::task(&typed(spec)?, scope),
        "TaskRun" => taskrun::validate(&typed(spec)?, scope).via("spec"),
        "Pipeline" => pipeline::pipeline(&typed(spec)?, scope),
        "PipelineRun" => {
            let timeout = spec
                .get("timeout")
                .and_then(Value::as_str)
                .and_then(|text| text.parse().ok());
            pipelinerun::validate(&typed(spec)?, timeout, scope).via("spec")
        }
        "StepAction" => {
            stepaction::validate(&typed(spec)?, request.version == "v1alpha1", scope).via("spec")
        }
        "CustomRun" => other::custom_run(&typed(spec)?),
        "VerificationPolicy" => other::verification_policy(&typed(spec)?),
        _ => FieldErrors::new(),
    });
    Ok(errors)
}

/// The spec as a type. What Go's types admit ours do too, but for odd values in Kubernetes' own parts.
fn typed<T: DeserializeOwned>(spec: Value) -> Result<T, Refusal> {
    serde_json::from_value(spec)
        .map_err(|cause| Refusal::bad_request(format!("validation failed: {cause}: spec")))
}
