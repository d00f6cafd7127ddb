//! CloudEvents: which one the state of a run is worth, and whether it was sent before (T-402 to T-407, P-382 to P-386).

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::Duration;

use jiff::Timestamp;
use serde_json::{Value, json};
use tektite_api::config::Config;
use tektite_api::convert::convert;
use thiserror::Error;

/// The kinds that events are sent of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Subject {
    /// `tekton.dev/v1` TaskRun.
    TaskRun,
    /// `tekton.dev/v1` PipelineRun.
    PipelineRun,
    /// `tekton.dev/v1beta1` CustomRun.
    CustomRun,
}

impl Subject {
    /// Version of the API group in which it is looked at.
    #[must_use]
    pub fn api_version(self) -> &'static str {
        match self {
            Subject::TaskRun | Subject::PipelineRun => "tekton.dev/v1",
            Subject::CustomRun => "tekton.dev/v1beta1",
        }
    }

    /// The kind's name.
    #[must_use]
    pub fn kind(self) -> &'static str {
        match self {
            Subject::TaskRun => "TaskRun",
            Subject::PipelineRun => "PipelineRun",
            Subject::CustomRun => "CustomRun",
        }
    }

    /// Its name in an event's type.
    fn word(self) -> &'static str {
        match self {
            Subject::TaskRun => "taskrun",
            Subject::PipelineRun => "pipelinerun",
            Subject::CustomRun => "customrun",
        }
    }

    /// Its name in an event's data.
    fn field(self) -> &'static str {
        match self {
            Subject::TaskRun => "taskRun",
            Subject::PipelineRun => "pipelineRun",
            Subject::CustomRun => "customRun",
        }
    }
}

/// An event to be sent; its id and its time are the sender's.
#[derive(Clone, Debug, PartialEq)]
pub struct CloudEvent {
    /// Such as `dev.tekton.event.taskrun.started.v1`.
    pub type_: String,
    /// Path of the run in the API.
    pub source: String,
    /// Name of the run.
    pub subject: String,
    /// The run, by the name of its kind, as v1beta1.
    pub data: Value,
}

/// Why a run's state cannot be told.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum CloudEventError {
    /// The status of the Succeeded condition is none.
    #[error("unknown condition for in {kind}.Status {status}")]
    Condition {
        /// The run's kind.
        kind: &'static str,
        /// What stands there.
        status: String,
    },
    /// It has no form in v1beta1.
    #[error("{0}")]
    Convert(#[from] tektite_api::convert::ConvertError),
}

/// The sink's URL; none if no events are wanted (T-403).
#[must_use]
pub fn sink(config: &Config) -> Option<&str> {
    [&config.events.sink, &config.defaults.cloud_events_sink]
        .into_iter()
        .find(|sink| !sink.is_empty())
        .map(String::as_str)
}

/// What has been sent, for two hours after it was last thought of (T-407). One process' memory, as upstream.
#[derive(Clone, Debug, Default)]
pub struct History {
    /// Hashes of what was sent, and when it last came up.
    known: HashMap<u64, Timestamp>,
    /// How many there may be before the expired ones are looked for.
    limit: usize,
}

/// How long something that was sent is not sent again.
const WINDOW: Duration = Duration::from_secs(2 * 60 * 60);
/// How many entries are kept without looking for expired ones.
const LEAST: usize = 4096;

impl History {
    /// Notes `what`; whether it is new.
    fn add(&mut self, what: impl Hash, now: Timestamp) -> bool {
        let mut hasher = DefaultHasher::new();
        what.hash(&mut hasher);
        let before = self.known.insert(hasher.finish(), now);
        if self.known.len() > self.limit.max(LEAST) {
            self.known.retain(|_, at| is_recent(*at, now));
            self.limit = self.known.len() * 2;
        }
        !before.is_some_and(|at| is_recent(at, now))
    }

    /// How many entries there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.known.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.known.is_empty()
    }
}

fn is_recent(at: Timestamp, now: Timestamp) -> bool {
    now.duration_since(at) < WINDOW.try_into().unwrap_or(jiff::SignedDuration::MAX)
}

/// The event that a run in this state is worth, if it is worth one and that was not sent before.
///
/// # Errors
/// The state cannot be told of.
pub fn decide(
    subject: Subject,
    run: Value,
    history: &mut History,
    config: &Config,
    now: Timestamp,
) -> Result<Option<CloudEvent>, CloudEventError> {
    // The switch is for CustomRuns alone: their own controllers may send events (P-382).
    let unwanted =
        subject == Subject::CustomRun && !config.feature_flags.send_cloud_events_for_runs;
    let deleted = !run["metadata"]["deletionTimestamp"].is_null();
    if sink(config).is_none() || unwanted || deleted {
        return Ok(None);
    }
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let namespace = text(&run["metadata"]["namespace"]);
    let name = text(&run["metadata"]["name"]);
    let condition = succeeded(&run);
    let of = |field: &str| condition.map_or(String::new(), |condition| text(&condition[field]));
    let state = (of("status"), of("reason"), of("message"));
    if !history.add((&state, subject, &namespace, &name), now) {
        return Ok(None);
    }
    let happened = happened(subject, condition.is_some().then_some((&state.0, &state.1)))?;
    let type_ = format!("dev.tekton.event.{}.{happened}.v1", subject.word());
    if happened != "unknown" && !history.add((&type_, subject, &namespace, &name), now) {
        return Ok(None);
    }
    let source = match run["metadata"]["selfLink"].as_str() {
        Some(link) if !link.is_empty() => link.to_owned(),
        _ => format!(
            "/apis/{}/namespaces/{namespace}/{}/{name}",
            subject.api_version(),
            subject.kind()
        ),
    };
    Ok(Some(CloudEvent {
        type_,
        source,
        subject: name,
        data: json!({subject.field(): as_beta(subject, run, config)?}),
    }))
}

fn succeeded(run: &Value) -> Option<&Value> {
    let conditions = run["status"]["conditions"].as_array()?;
    conditions
        .iter()
        .find(|condition| condition["type"] == "Succeeded")
}

/// What has become of the run, by status and reason of its condition (T-404, P-384).
fn happened(
    subject: Subject,
    condition: Option<(&String, &String)>,
) -> Result<&'static str, CloudEventError> {
    let custom = subject == Subject::CustomRun;
    let Some((status, reason)) = condition else {
        return Ok(if custom { "started" } else { "queued" });
    };
    Ok(match (status.as_str(), reason.as_str()) {
        ("True", _) => "successful",
        ("False", _) => "failed",
        // Its controllers name their reasons as they like.
        ("Unknown", _) if custom => "running",
        ("Unknown", "Started") => "started",
        ("Unknown", "Running") => "running",
        ("Unknown", _) => "unknown",
        (status, _) => {
            return Err(CloudEventError::Condition {
                kind: subject.kind(),
                status: status.to_owned(),
            });
        }
    })
}

/// The run as v1beta1, without the type that upstream's conversion leaves out (T-406).
fn as_beta(subject: Subject, run: Value, config: &Config) -> Result<Value, CloudEventError> {
    if subject == Subject::CustomRun {
        return Ok(run);
    }
    let mut run = run;
    // Items of lists do not say what they are.
    run["apiVersion"] = subject.api_version().into();
    run["kind"] = subject.kind().into();
    let mut converted = convert(run, "tekton.dev/v1beta1", config)?;
    if let Some(fields) = converted.as_object_mut() {
        fields.remove("apiVersion");
        fields.remove("kind");
    }
    Ok(converted)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config() -> Config {
        let mut config = Config::default();
        config.events.sink = "http://sink".into();
        config
    }

    fn run(name: &str, condition: Value) -> Value {
        let mut run = json!({"metadata": {"namespace": "ns", "name": name}, "spec": {"taskRef": {"name": "t"},
            "stepSpecs": [{"name": "s", "computeResources": {"limits": {"cpu": "1"}}}]}});
        if !condition.is_null() {
            run["status"] = json!({"conditions": [condition]});
        }
        run
    }

    fn condition(status: &str, reason: &str) -> Value {
        json!({"type": "Succeeded", "status": status, "reason": reason, "message": "m"})
    }

    fn type_of(subject: Subject, condition: Value) -> String {
        let mut history = History::default();
        decide(
            subject,
            run("r", condition),
            &mut history,
            &config(),
            Timestamp::UNIX_EPOCH,
        )
        .unwrap()
        .unwrap()
        .type_
    }

    /// T-404, P-383, P-384
    #[test]
    fn the_condition_makes_the_type() {
        use Subject::{CustomRun, PipelineRun, TaskRun};
        for (condition, of_run, of_custom_run) in [
            (Value::Null, "queued", "started"),
            (condition("Unknown", "Started"), "started", "running"),
            (condition("Unknown", "Running"), "running", "running"),
            (condition("Unknown", "Pending"), "unknown", "running"),
            (condition("True", "Succeeded"), "successful", "successful"),
            (condition("False", "Failed"), "failed", "failed"),
        ] {
            for (subject, word, expected) in [
                (TaskRun, "taskrun", of_run),
                (PipelineRun, "pipelinerun", of_run),
                (CustomRun, "customrun", of_custom_run),
            ] {
                assert_eq!(
                    type_of(subject, condition.clone()),
                    format!("dev.tekton.event.{word}.{expected}.v1")
                );
            }
        }
        let odd = run("r", condition("Perhaps", ""));
        let error = decide(
            TaskRun,
            odd,
            &mut History::default(),
            &config(),
            Timestamp::UNIX_EPOCH,
        );
        assert_eq!(
            error.unwrap_err().to_string(),
            "unknown condition for in TaskRun.Status Perhaps"
        );
    }

    /// T-403, P-382
    #[test]
    fn without_a_sink_there_is_no_event_and_config_events_wins() {
        let mut config = Config::default();
        assert_eq!(sink(&config), None);
        let mut history = History::default();
        let mut sent = |config: &Config, subject| {
            decide(
                subject,
                run("r", Value::Null),
                &mut history,
                config,
                Timestamp::UNIX_EPOCH,
            )
            .unwrap()
            .is_some()
        };
        assert!(!sent(&config, Subject::TaskRun));
        config.defaults.cloud_events_sink = "http://old".into();
        assert_eq!(sink(&config), Some("http://old"));
        config.events.sink = "http://new".into();
        assert_eq!(sink(&config), Some("http://new"));
        assert!(sent(&config, Subject::TaskRun));
        config.feature_flags.send_cloud_events_for_runs = false;
        assert!(sent(&config, Subject::PipelineRun));
        assert!(!sent(&config, Subject::CustomRun));
        config.feature_flags.send_cloud_events_for_runs = true;
        assert!(sent(&config, Subject::CustomRun));
    }

    /// T-405, T-406, P-385
    #[test]
    fn an_event_tells_where_the_run_is_and_carries_it_as_v1beta1() {
        let mut history = History::default();
        let now = Timestamp::UNIX_EPOCH;
        let event = decide(
            Subject::TaskRun,
            run("r", Value::Null),
            &mut history,
            &config(),
            now,
        )
        .unwrap()
        .unwrap();
        assert_eq!(event.source, "/apis/tekton.dev/v1/namespaces/ns/TaskRun/r");
        assert_eq!(event.subject, "r");
        let told = &event.data["taskRun"];
        assert_eq!(told["metadata"]["name"], "r");
        assert_eq!(
            told["spec"]["stepOverrides"][0]["resources"]["limits"]["cpu"],
            "1"
        );
        assert_eq!(
            (&told["apiVersion"], &told["kind"]),
            (&Value::Null, &Value::Null)
        );
        let mut linked = run("l", Value::Null);
        linked["metadata"]["selfLink"] = "/somewhere/l".into();
        let event = decide(Subject::CustomRun, linked, &mut history, &config(), now)
            .unwrap()
            .unwrap();
        assert_eq!(event.source, "/somewhere/l");
        assert_eq!(event.data["customRun"]["metadata"]["name"], "l");
    }

    /// T-407, P-386
    #[test]
    fn what_was_sent_is_not_sent_again_for_two_hours() {
        let mut history = History::default();
        let start = Timestamp::UNIX_EPOCH;
        let minutes = |n: i64| start + jiff::SignedDuration::from_mins(n);
        let mut sent = |name: &str, status: &str, reason: &str, message: &str, now| {
            let mut condition = condition(status, reason);
            condition["message"] = message.into();
            decide(
                Subject::TaskRun,
                run(name, condition),
                &mut history,
                &config(),
                now,
            )
            .unwrap()
            .is_some()
        };
        assert!(sent("a", "Unknown", "Running", "1", start));
        // The same state, and another message of the same type.
        assert!(!sent("a", "Unknown", "Running", "1", start));
        assert!(!sent("a", "Unknown", "Running", "2", start));
        // Unknown ones whenever something changed.
        assert!(sent("a", "Unknown", "Pending", "1", start));
        assert!(sent("a", "Unknown", "Pending", "2", start));
        assert!(!sent("a", "Unknown", "Pending", "2", start));
        // Another run, and the same name again.
        assert!(sent("b", "True", "Succeeded", "", start));
        assert!(!sent("b", "True", "Completed", "", minutes(119)));
        // Thought of at 119 minutes, it is remembered from then on.
        assert!(!sent("b", "True", "Succeeded", "", minutes(121)));
        assert!(sent("c", "True", "Succeeded", "", start));
        assert!(sent("c", "True", "Succeeded", "", minutes(120)));
    }

    #[test]
    fn the_history_forgets_what_has_expired() {
        let mut history = History::default();
        let later = Timestamp::UNIX_EPOCH + jiff::SignedDuration::from_hours(3);
        for (now, range) in [
            (Timestamp::UNIX_EPOCH, 0..LEAST),
            (later, LEAST..LEAST + 100),
        ] {
            for number in range {
                history.add(number, now);
            }
        }
        assert!(history.len() <= 100, "{}", history.len());
    }

    #[test]
    fn what_is_being_deleted_is_not_told() {
        let mut deleted = run("d", Value::Null);
        deleted["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z".into();
        let mut history = History::default();
        let told = decide(
            Subject::TaskRun,
            deleted,
            &mut history,
            &config(),
            Timestamp::UNIX_EPOCH,
        );
        assert_eq!(told, Ok(None));
    }
}
