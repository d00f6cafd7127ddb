//! Replays what Tekton itself made of the upstream examples: the pods it built and the statuses it wrote.

mod golden;

use golden::{Recording, differences, pods, recordings, replay};
use serde_json::{Value, json};
use tektite_api::v1::TaskRun;

/// A recording's TaskRuns, with the pod of each; nothing (`null`) for a run that never had one.
fn runs(recording: &Recording) -> Vec<(TaskRun, Value)> {
    let all = recording.objects("TaskRun");
    let pods = recording.objects("Pod");
    all.into_iter()
        .map(|run| {
            let name = &run["metadata"]["name"];
            let pod = pods
                .iter()
                .find(|p| p["metadata"]["ownerReferences"][0]["name"] == *name);
            (recording.run(&run), pod.cloned().unwrap_or_default())
        })
        .collect()
}

#[test]
fn pods_are_built_as_tekton_built_them() {
    // T-213, T-214, T-216, T-217, T-219, T-220, T-225, T-229, T-230, T-231, T-232, T-233, T-234, T-235, T-237, T-238,
    // T-239, T-240, T-242, T-243, T-244, T-248, T-253, T-255, T-258, T-260
    let Some(recordings) = recordings() else {
        return;
    };
    let mut failures = Vec::new();
    let mut compared = 0;
    for recording in &recordings {
        for (mut run, recorded) in runs(recording)
            .into_iter()
            .filter(|(_, pod)| !pod.is_null())
        {
            run.status = Default::default();
            let ours = match replay::create(recording, &run, &recorded) {
                Ok(pod) => pod,
                Err(error) => {
                    failures.push(format!("{}: {error}", recording.name));
                    continue;
                }
            };
            compared += 1;
            let (expected, got) = (pods::recorded(&recorded), pods::ours(&ours, &recorded));
            let found = differences(&expected, &got);
            if !found.is_empty() {
                failures.push(format!(
                    "{} {}:\n  {}",
                    recording.name,
                    run.metadata.name.unwrap_or_default(),
                    found.join("\n  ")
                ));
            }
        }
    }
    assert!(
        failures.is_empty(),
        "{} of {compared} differ:\n{}",
        failures.len(),
        failures.join("\n")
    );
    assert!(compared > 40, "only {compared} pods compared");
}

#[test]
fn statuses_are_written_as_tekton_wrote_them() {
    // T-307, T-308, T-309, T-310, T-313, T-344, T-345, T-346, T-347, T-348, T-350, T-361, T-362, T-391
    let Some(recordings) = recordings() else {
        return;
    };
    let mut failures = Vec::new();
    let mut compared = 0;
    for recording in &recordings {
        for (run, pod) in runs(recording) {
            if !run.status.retries_status.is_empty() {
                continue;
            }
            let expected = golden::without_times(json!(run.status));
            let got = match replay::finish(recording, &run, &pod) {
                Ok((status, events)) => {
                    // T-398, T-399, T-400
                    let unheard = events.into_iter().filter(|e| !recording.saw_event(e));
                    failures.extend(
                        unheard.map(|e| format!("{}: unexpected event {e}", recording.name)),
                    );
                    golden::without_times(json!(status))
                }
                Err(error) => {
                    failures.push(format!("{}: {error}", recording.name));
                    continue;
                }
            };
            compared += 1;
            let found = differences(&expected, &got);
            if !found.is_empty() {
                failures.push(format!(
                    "{} {}:\n  {}",
                    recording.name,
                    run.metadata.name.unwrap_or_default(),
                    found.join("\n  ")
                ));
            }
        }
    }
    assert!(
        failures.is_empty(),
        "{} of {compared} differ:\n{}",
        failures.len(),
        failures.join("\n")
    );
    assert!(compared > 40, "only {compared} statuses compared");
}
