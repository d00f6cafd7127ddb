//! The trace that a run belongs to, and its part of it (T-424, P-301).
//!
//! Identifiers come from the run's uid, so that whoever decides again decides the same: a run that begins a trace gives it its
//! uid as name, and the latter half of a run's uid names its span.

use std::collections::BTreeMap;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use sha2::{Digest, Sha256};
use tektite_api::config::Tracing;
use tektite_api::names::label;
use tektite_api::v1::{
    Condition, PipelineRun, PipelineRunStatus, StepState, TaskRun, TaskRunStatus,
};

/// Key of W3C's trace context in `status.spanContext`.
const TRACEPARENT: &str = "traceparent";

/// Takes over the trace that the creator of a run gave by the annotation `key`, once. What is no JSON map means none.
/// Without one the run begins a trace if any are sent.
pub(crate) fn adopt(
    context: &mut BTreeMap<String, String>,
    metadata: &ObjectMeta,
    key: &str,
    tracing: &Tracing,
) {
    if !context.is_empty() {
        return;
    }
    let annotations = metadata.annotations.as_ref();
    let given = annotations.and_then(|all| all.get(key));
    if let Some(given) = given.filter(|given| !given.is_empty()) {
        *context = serde_json::from_str(given).unwrap_or_default();
    } else if let Some(uid) = uid(metadata).filter(|_| tracing.enabled) {
        let begun = format!("00-{uid}-{}-01", span_of(&uid));
        context.insert(TRACEPARENT.to_owned(), begun);
    }
}

/// One stretch of time in a trace, as OpenTelemetry has it.
#[derive(Clone, Debug, PartialEq)]
pub struct Span {
    /// 32 hexadecimal digits.
    pub trace: String,
    /// 16 hexadecimal digits.
    pub id: String,
    /// The span it is part of; `None` for the trace's first.
    pub parent: Option<String>,
    /// What it is about.
    pub name: String,
    /// When it began.
    pub start: Timestamp,
    /// When it ended, not before `start`.
    pub end: Timestamp,
    /// Where to find it.
    pub attributes: Vec<(&'static str, String)>,
    /// Why it failed, if it did.
    pub error: Option<String>,
}

/// The span of a PipelineRun that has ended with `status`; none without a trace or a start.
pub fn pipeline_run_span(run: &PipelineRun, status: &PipelineRunStatus) -> Option<Span> {
    run_span(
        "PipelineRun",
        &run.metadata,
        &status.span_context,
        [&status.start_time, &status.completion_time],
        &status.conditions,
    )
}

/// The spans of a TaskRun that has ended with `status`, and of its steps.
pub fn task_run_spans(run: &TaskRun, status: &TaskRunStatus) -> Vec<Span> {
    let whole = run_span(
        "TaskRun",
        &run.metadata,
        &status.span_context,
        [&status.start_time, &status.completion_time],
        &status.conditions,
    );
    let Some(whole) = whole else {
        return Vec::new();
    };
    let steps = status.steps.iter();
    let steps: Vec<Span> = steps.filter_map(|step| step_span(&whole, step)).collect();
    [whole].into_iter().chain(steps).collect()
}

fn run_span(
    kind: &str,
    metadata: &ObjectMeta,
    context: &BTreeMap<String, String>,
    [start, end]: [&Option<Time>; 2],
    conditions: &[Condition],
) -> Option<Span> {
    let (trace, given) = read(context.get(TRACEPARENT)?)?;
    let id = span_of(&uid(metadata)?);
    let start = start.as_ref()?.0;
    let end = end.as_ref()?.0.max(start);
    let (namespace, name) = (metadata.namespace.as_deref(), metadata.name.as_deref());
    let mut attributes = vec![
        ("namespace", namespace.unwrap_or_default().to_owned()),
        ("name", name.unwrap_or_default().to_owned()),
    ];
    let labels = metadata.labels.iter().flatten();
    attributes.extend(labels.filter_map(|(key, value)| {
        let key = match key.as_str() {
            label::PIPELINE => "pipeline",
            label::PIPELINE_RUN => "pipelineRun",
            label::PIPELINE_TASK => "pipelineTask",
            label::TASK => "task",
            _ => return None,
        };
        Some((key, value.clone()))
    }));
    let condition = Condition::succeeded(conditions)?;
    attributes.push(("reason", condition.reason.clone()));
    Some(Span {
        trace: trace.to_owned(),
        parent: (given != id).then(|| given.to_owned()),
        id,
        name: format!("{kind} {}", name.unwrap_or_default()),
        start,
        end,
        attributes,
        error: (condition.status == "False").then(|| condition.message.clone()),
    })
}

fn step_span(run: &Span, step: &StepState) -> Option<Span> {
    let ended = step.terminated.as_ref()?;
    let start = ended.started_at.as_ref()?.0;
    let end = ended.finished_at.as_ref()?.0.max(start);
    let digest = Sha256::digest(format!("{}/{}", run.id, step.name));
    let id: String = digest[..8]
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    Some(Span {
        trace: run.trace.clone(),
        id,
        parent: Some(run.id.clone()),
        name: format!("step {}", step.name),
        start,
        end,
        attributes: vec![
            ("step", step.name.clone()),
            ("exitCode", ended.exit_code.to_string()),
        ],
        error: (ended.exit_code != 0).then(|| ended.reason.clone().unwrap_or_default()),
    })
}

/// The uid as 32 hexadecimal digits, if it is a UUID.
fn uid(metadata: &ObjectMeta) -> Option<String> {
    let digits = metadata.uid.as_deref()?.replace('-', "").to_lowercase();
    is_hex(&digits, 32).then_some(digits)
}

/// The latter half of a uid, all random but for two bits of it.
fn span_of(uid: &str) -> String {
    uid[16..].to_owned()
}

/// Trace and span of a `traceparent`.
fn read(traceparent: &str) -> Option<(&str, &str)> {
    let mut parts = traceparent.splitn(4, '-');
    let (_version, trace, span) = (parts.next()?, parts.next()?, parts.next()?);
    (is_hex(trace, 32) && is_hex(span, 16)).then_some((trace, span))
}

fn is_hex(text: &str, digits: usize) -> bool {
    text.len() == digits && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    const UID: &str = "0af76519-16cd-43dd-8448-eb211c80319c";

    fn ended(context: Value, uid: &str) -> TaskRun {
        serde_json::from_value(json!({
            "metadata": {"name": "r", "namespace": "ns", "uid": uid, "labels": {"tekton.dev/pipelineTask": "build", "x": "y"}},
            "spec": {},
            "status": {
                "spanContext": context,
                "startTime": "2026-01-01T00:00:00Z", "completionTime": "2026-01-01T00:00:05Z",
                "conditions": [{"type": "Succeeded", "status": "False", "reason": "Failed", "message": "no"}],
                "steps": [
                    {"name": "a", "terminated": {"exitCode": 0, "reason": "Completed", "startedAt": "2026-01-01T00:00:01Z", "finishedAt": "2026-01-01T00:00:02Z"}},
                    {"name": "b", "terminated": {"exitCode": 3, "reason": "Error", "startedAt": "2026-01-01T00:00:02Z", "finishedAt": "2026-01-01T00:00:01Z"}},
                    {"name": "c", "running": {}},
                ],
            },
        }))
        .expect("a run")
    }

    fn spans(run: &TaskRun) -> Vec<Span> {
        task_run_spans(run, &run.status)
    }

    /// T-424
    #[test]
    fn a_run_that_begins_a_trace_is_its_first_span_and_its_steps_are_below_it() {
        let mut context = BTreeMap::new();
        let metadata = ended(json!({}), UID).metadata;
        let on = Tracing {
            enabled: true,
            ..Tracing::default()
        };
        adopt(&mut context, &metadata, "key", &Tracing::default());
        assert!(context.is_empty());
        adopt(&mut context, &metadata, "key", &on);
        let begun = "00-0af7651916cd43dd8448eb211c80319c-8448eb211c80319c-01";
        assert_eq!(context[TRACEPARENT], begun);
        let spans = spans(&ended(json!(context), UID));
        let shown: Vec<_> = spans
            .iter()
            .map(|span| {
                (
                    span.name.as_str(),
                    span.parent.as_deref(),
                    span.error.as_deref(),
                )
            })
            .collect();
        let own = "8448eb211c80319c";
        assert_eq!(
            shown,
            [
                ("TaskRun r", None, Some("no")),
                ("step a", Some(own), None),
                ("step b", Some(own), Some("Error")),
            ]
        );
        assert_eq!(spans[0].id, own);
        assert!(
            spans
                .iter()
                .all(|span| span.start <= span.end && span.trace == UID.replace('-', ""))
        );
        assert_ne!(spans[1].id, spans[2].id);
        assert_eq!(
            spans[0].attributes[2..],
            [
                ("pipelineTask", "build".to_owned()),
                ("reason", "Failed".to_owned())
            ]
        );
    }

    /// T-424, P-301
    #[test]
    fn a_run_within_a_trace_is_part_of_the_span_that_was_given() {
        let given =
            json!({"traceparent": "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"});
        let spans = spans(&ended(given, UID));
        assert_eq!(spans[0].trace, "4bf92f3577b34da6a3ce929d0e0e4736");
        assert_eq!(spans[0].parent.as_deref(), Some("00f067aa0ba902b7"));
    }

    #[test]
    fn what_names_no_trace_has_no_spans() {
        for context in [
            json!({}),
            json!({"traceparent": "00-aa-bb-01"}),
            json!({"traceparent": "é"}),
        ] {
            assert_eq!(spans(&ended(context, UID)), []);
        }
        let given =
            json!({"traceparent": "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"});
        assert_eq!(spans(&ended(given, "not-a-uuid")), []);
    }
}
