//! What nodes and schedulers say of pods that do not start (K-296, K-306): such a run goes on until its timeout, so a
//! person should hear of it before.

use std::collections::BTreeMap;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Event;
use tektite_api::v1::TaskRun;

/// Reasons of events about pods that wait and will be tried again.
const WAITING: [&str; 4] = [
    "FailedMount",
    "FailedAttachVolume",
    "FailedScheduling",
    "FailedCreatePodSandBox",
];

/// Messages by pod, each once, in the order they were heard.
#[derive(Debug, Clone, Default)]
pub struct Obstacles {
    by_pod: BTreeMap<String, Vec<Obstacle>>,
}

#[derive(Debug, Clone)]
struct Obstacle {
    message: String,
    last: Option<Timestamp>,
    told: bool,
}

impl Obstacles {
    /// Takes in an event; most are not about waiting pods.
    pub fn hear(&mut self, event: Event) {
        let object = event.involved_object;
        let reason = event.reason.unwrap_or_default();
        if object.kind.as_deref() != Some("Pod") || !WAITING.contains(&reason.as_str()) {
            return;
        }
        let message = event.message.unwrap_or_default();
        let last = event
            .last_timestamp
            .map(|time| time.0)
            .or(event.event_time.map(|time| time.0));
        let of_pod = self
            .by_pod
            .entry(object.name.unwrap_or_default())
            .or_default();
        match of_pod.iter_mut().find(|known| known.message == message) {
            Some(known) => known.last = last,
            None => of_pod.push(Obstacle {
                message,
                last,
                told: false,
            }),
        }
    }

    /// The last thing that was said of this run's pod. Events outlive their pods, so older ones are about another.
    pub fn of(&self, run: &TaskRun) -> Option<&str> {
        let of_pod = self.by_pod.get(&run.status.pod_name)?;
        of_pod
            .iter()
            .rfind(|one| one.concerns(run))
            .map(|one| one.message.as_str())
    }

    /// What nobody was told of yet about this run's pod.
    pub fn news(&mut self, run: &TaskRun) -> Vec<String> {
        let of_pod = self.by_pod.get_mut(&run.status.pod_name);
        of_pod
            .into_iter()
            .flatten()
            .filter(|one| one.concerns(run) && !one.told)
            .map(|one| {
                one.told = true;
                one.message.clone()
            })
            .collect()
    }
}

impl Obstacle {
    fn concerns(&self, run: &TaskRun) -> bool {
        let created = run.metadata.creation_timestamp.as_ref().map(|time| time.0);
        match (self.last, created) {
            (Some(last), Some(created)) => last >= created,
            _ => true,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn event(reason: &str, message: &str, at: &str) -> Event {
        serde_json::from_value(json!({
            "metadata": {}, "involvedObject": {"kind": "Pod", "name": "p"}, "reason": reason, "message": message,
            "type": "Warning", "lastTimestamp": at,
        }))
        .expect("an event")
    }

    #[test]
    fn what_keeps_a_pod_waiting_is_told_once_and_only_about_this_pod() {
        let run = |pod: &str| -> TaskRun {
            serde_json::from_value(json!({
                "metadata": {"name": "r", "creationTimestamp": "2026-01-01T00:00:10Z"}, "spec": {}, "status": {"podName": pod},
            }))
            .expect("a TaskRun")
        };
        let mut obstacles = Obstacles::default();
        obstacles.hear(event("FailedMount", "old", "2026-01-01T00:00:09Z"));
        obstacles.hear(event("Pulled", "irrelevant", "2026-01-01T00:00:11Z"));
        obstacles.hear(event("FailedMount", "a", "2026-01-01T00:00:10Z"));
        obstacles.hear(event("FailedMount", "b", "2026-01-01T00:00:12Z"));
        obstacles.hear(event("FailedMount", "a", "2026-01-01T00:00:14Z"));
        assert_eq!(obstacles.news(&run("p")), ["a", "b"]);
        assert_eq!(obstacles.news(&run("p")), Vec::<String>::new());
        assert_eq!(obstacles.of(&run("p")), Some("b"));
        assert_eq!(obstacles.of(&run("q")), None);
    }
}
