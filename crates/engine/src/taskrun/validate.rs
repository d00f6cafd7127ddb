//! Checks of a run against its resolved task, before there is a pod (T-191 to T-201).

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use tektite_api::config::Config;
use tektite_api::names::task_run_reason as reason;
use tektite_api::v1::{
    Param, ParamSpec, ParamType, ParamValue, TaskRun, TaskSpec, WorkspaceBinding,
    WorkspaceDeclaration,
};

use super::pod::quantity;
use super::results::go_map;
use crate::substitution::array_references;

/// Why a run cannot be run: the condition's reason and message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Invalid {
    pub reason: &'static str,
    pub message: String,
}

fn invalid(message: String) -> Invalid {
    Invalid {
        reason: reason::FAILED_VALIDATION,
        message: format!("[User error] {message}"),
    }
}

/// Checks params and resources, in upstream's order.
pub(crate) fn params_and_resources(
    run: &TaskRun,
    spec: &TaskSpec,
    task: &str,
    config: &Config,
) -> Result<(), Invalid> {
    requests_within_limits(spec)?;
    params(&run.spec.params, &spec.params)
        .map_err(|error| invalid(format!("invalid input params for task {task}: {error}")))?;
    if config.feature_flags.enable_param_enum {
        enums(&run.spec.params, &spec.params)?;
    }
    array_indices(spec, &run.spec.params)
}

/// Checks workspaces and overrides; `bindings` include the installation's default (T-210).
pub(crate) fn workspaces_and_overrides(
    run: &TaskRun,
    spec: &TaskSpec,
    bindings: &[WorkspaceBinding],
    config: &Config,
) -> Result<(), Invalid> {
    workspace_bindings(run, &spec.workspaces, bindings)?;
    if config.feature_flags.coschedule == "workspaces" {
        one_claim(bindings)?;
    }
    overrides(run, spec)
}

/// T-192
fn requests_within_limits(spec: &TaskSpec) -> Result<(), Invalid> {
    let template = spec
        .step_template
        .as_ref()
        .and_then(|t| t.compute_resources.limits.as_ref());
    for step in &spec.steps {
        let limits = step.compute_resources.limits.as_ref();
        for (name, request) in step.compute_resources.requests.iter().flatten() {
            let limit = limits
                .and_then(|l| l.get(name))
                .or_else(|| template?.get(name));
            if let Some(limit) = limit.filter(|limit| quantity::less(limit, request)) {
                let (Quantity(request), Quantity(limit)) = (request, limit);
                return Err(invalid(format!(
                    "invalid request resource value: {request} must be less or equal to limit {limit}"
                )));
            }
        }
    }
    Ok(())
}

/// Params a run passes against those a task declares (T-193 to T-196); the text is without the task's name.
pub fn params(given: &[Param], declared: &[ParamSpec]) -> Result<(), String> {
    let missing: Vec<&str> = declared
        .iter()
        .filter(|p| p.default.is_none() && !given.iter().any(|g| g.name == p.name))
        .map(|p| p.name.as_str())
        .collect();
    if !missing.is_empty() {
        return Err(format!(
            "missing values for these params which have no default values: [{}]",
            missing.join(" ")
        ));
    }
    let wrong: Vec<&str> = given
        .iter()
        .filter(|g| has_wrong_type(g, declared))
        .map(|g| g.name.as_str())
        .collect();
    if !wrong.is_empty() {
        return Err(format!(
            "param types don't match the user-specified type: [{}]",
            wrong.join(" ")
        ));
    }
    let missing = missing_keys(given, declared);
    if !missing.is_empty() {
        return Err(format!(
            "missing keys for these params which are required in ParamSpec's properties {}",
            go_map(&missing)
        ));
    }
    Ok(())
}

fn has_wrong_type(given: &Param, declared: &[ParamSpec]) -> bool {
    let Some(spec) = declared.iter().rfind(|p| p.name == given.name) else {
        return false;
    };
    let wanted = spec.type_.clone().unwrap_or(ParamType::String);
    if given.value.as_str().is_some_and(|text| text.contains("$(")) && wanted != ParamType::String {
        return false;
    }
    given.value.type_() != wanted
}

/// Keys that neither default nor run supply, of objects that one of them supplies (T-195).
fn missing_keys<'a>(
    given: &'a [Param],
    declared: &'a [ParamSpec],
) -> BTreeMap<&'a str, Vec<&'a str>> {
    let mut missing = BTreeMap::new();
    for spec in declared
        .iter()
        .filter(|p| p.type_ == Some(ParamType::Object))
    {
        let of_run = given
            .iter()
            .filter(|g| g.name == spec.name)
            .map(|g| &g.value);
        let objects: Vec<_> = spec
            .default
            .iter()
            .chain(of_run)
            .filter_map(ParamValue::as_object)
            .collect();
        let has = |key: &str| objects.iter().any(|o| o.contains_key(key));
        let keys: Vec<&str> = spec
            .properties
            .keys()
            .filter(|k| !has(k))
            .map(String::as_str)
            .collect();
        if objects.iter().any(|o| !o.is_empty()) && !keys.is_empty() {
            missing.insert(spec.name.as_str(), keys);
        }
    }
    missing
}

/// T-197
fn enums(given: &[Param], declared: &[ParamSpec]) -> Result<(), Invalid> {
    for param in given {
        let Some(text) = param.value.as_str().filter(|t| !t.is_empty()) else {
            continue;
        };
        let allowed = declared
            .iter()
            .rfind(|p| p.name == param.name && !p.enum_.is_empty());
        if allowed.is_some_and(|p| !p.enum_.iter().any(|v| v == text)) {
            return Err(Invalid {
                reason: reason::INVALID_PARAM_VALUE,
                message: format!(
                    "[User error] param `{}` value: {text} is not in the enum list",
                    param.name
                ),
            });
        }
    }
    Ok(())
}

/// References to array elements that are not there (T-198).
fn array_indices(spec: &TaskSpec, given: &[Param]) -> Result<(), Invalid> {
    let mut lengths: BTreeMap<&str, usize> = BTreeMap::new();
    let defaults = spec
        .params
        .iter()
        .filter_map(|p| Some((p.name.as_str(), p.default.as_ref()?)));
    for (name, value) in defaults.chain(given.iter().map(|p| (p.name.as_str(), &p.value))) {
        if let Some(items) = value.as_array() {
            lengths.insert(name, items.len());
        }
    }
    if lengths.is_empty() {
        return Ok(());
    }
    // Searching the whole spec as JSON looks into a few fields more than upstream does; nothing is substituted there.
    let searched = TaskSpec {
        params: Vec::new(),
        results: Vec::new(),
        description: String::new(),
        ..spec.clone()
    };
    let mut beyond = BTreeSet::new();
    collect_beyond(
        &serde_json::to_value(searched).unwrap_or_default(),
        &lengths,
        &mut beyond,
    );
    if beyond.is_empty() {
        return Ok(());
    }
    let beyond: Vec<_> = beyond.into_iter().collect();
    Err(invalid(format!(
        "non-existent param references:[{}]",
        beyond.join(" ")
    )))
}

fn collect_beyond(
    value: &serde_json::Value,
    lengths: &BTreeMap<&str, usize>,
    beyond: &mut BTreeSet<String>,
) {
    match value {
        serde_json::Value::String(text) => beyond.extend(
            array_references(text)
                .filter(|r| is_beyond(r, lengths))
                .map(str::to_owned),
        ),
        serde_json::Value::Array(items) => items
            .iter()
            .for_each(|v| collect_beyond(v, lengths, beyond)),
        serde_json::Value::Object(pairs) => pairs
            .values()
            .for_each(|v| collect_beyond(v, lengths, beyond)),
        _ => {}
    }
}

/// Whether `$(params.x[i])` points past the end of a known array.
fn is_beyond(reference: &str, lengths: &BTreeMap<&str, usize>) -> bool {
    let inner = reference
        .trim_start_matches("$(params")
        .trim_end_matches("])");
    let Some((name, index)) = inner.rsplit_once('[') else {
        return false;
    };
    let name = name
        .trim_start_matches('.')
        .trim_start_matches(['[', '\'', '"'])
        .trim_end_matches([']', '\'', '"']);
    let Some(length) = lengths.get(name) else {
        return false;
    };
    index.parse::<usize>().map_or(true, |i| i >= *length)
}

/// T-199
fn workspace_bindings(
    run: &TaskRun,
    declared: &[WorkspaceDeclaration],
    bindings: &[WorkspaceBinding],
) -> Result<(), Invalid> {
    for workspace in declared.iter().filter(|w| !w.optional) {
        if !bindings.iter().any(|b| b.name == workspace.name) {
            return Err(invalid(format!(
                "declared workspace {:?} is required but has not been bound",
                workspace.name
            )));
        }
    }
    if run.spec.task_spec.is_none() {
        for binding in bindings {
            if !declared.iter().any(|w| w.name == binding.name) {
                return Err(invalid(format!(
                    "workspace binding {:?} does not match any declared workspace",
                    binding.name
                )));
            }
        }
    }
    Ok(())
}

/// T-200
fn one_claim(bindings: &[WorkspaceBinding]) -> Result<(), Invalid> {
    let claims: BTreeSet<&str> = bindings
        .iter()
        .filter_map(
            |b| match (&b.persistent_volume_claim, &b.volume_claim_template) {
                (Some(claim), _) => Some(claim.claim_name.as_str()),
                (None, Some(_)) => Some(b.name.as_str()),
                (None, None) => None,
            },
        )
        .collect();
    if claims.len() > 1 {
        Err(invalid(
            "more than one PersistentVolumeClaim is bound".to_owned(),
        ))
    } else {
        Ok(())
    }
}

/// T-201
fn overrides(run: &TaskRun, spec: &TaskSpec) -> Result<(), Invalid> {
    let steps = run
        .spec
        .step_specs
        .iter()
        .filter(|o| !spec.steps.iter().any(|s| s.name == o.name));
    let sidecars = run
        .spec
        .sidecar_specs
        .iter()
        .filter(|o| !spec.sidecars.iter().any(|s| s.name == o.name));
    let errors: Vec<String> = steps
        .map(|o| {
            format!(
                "[User error] invalid StepOverride: No Step named {}",
                o.name
            )
        })
        .chain(sidecars.map(|o| {
            format!(
                "[User error] invalid SidecarOverride: No Sidecar named {}",
                o.name
            )
        }))
        .collect();
    if errors.is_empty() {
        return Ok(());
    }
    Err(Invalid {
        reason: reason::FAILED_VALIDATION,
        message: errors.join("\n"),
    })
}
