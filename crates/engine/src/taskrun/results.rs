//! Results: which entries of a message are results of what type, and whether the declared ones came as declared.

use std::collections::{BTreeMap, BTreeSet};

use tektite_api::v1::{
    Artifact, ArtifactValue, Artifacts, ParamType, ParamValue, StepResult, TaskResult,
    TaskRunResult,
};

use super::step_container_name;
use super::termination::{Entry, Kind};

/// What the entries of one step come to.
#[derive(Debug, Default)]
pub(crate) struct Sorted {
    /// Results of the task.
    pub task: Vec<TaskRunResult>,
    /// Results of the step.
    pub step: Vec<TaskRunResult>,
    /// Everything a reader of the status may see (T-313).
    pub shown: Vec<Entry>,
}

/// Sorts entries by kind; a result declared as string is never parsed (T-308).
pub(crate) fn sort(
    entries: &[Entry],
    declared: &[&TaskResult],
    declared_by_step: &[StepResult],
) -> Sorted {
    // A later declaration of the same name wins.
    let of_task: BTreeMap<&str, &Option<ParamType>> = declared
        .iter()
        .map(|r| (r.name.as_str(), &r.type_))
        .collect();
    let of_step: BTreeMap<&str, &Option<ParamType>> = declared_by_step
        .iter()
        .map(|r| (r.name.as_str(), &r.type_))
        .collect();
    let mut sorted = Sorted::default();
    for entry in entries {
        match entry.kind {
            Kind::Internal => continue,
            Kind::TaskResult => sorted.task.push(result(entry, &of_task)),
            Kind::StepResult => sorted.step.push(result(entry, &of_step)),
            _ => {}
        }
        sorted.shown.push(entry.clone());
    }
    sorted
}

fn result(entry: &Entry, types: &BTreeMap<&str, &Option<ParamType>>) -> TaskRunResult {
    let is_text = matches!(types.get(entry.key.as_str()), Some(Some(ParamType::String)));
    let value = if is_text {
        ParamValue::String(entry.value.clone())
    } else {
        ParamValue::from_json_text(&entry.value)
    };
    TaskRunResult {
        name: entry.key.clone(),
        type_: Some(value.type_()),
        value,
    }
}

/// Task results that are taken from results of this step (T-310).
pub(crate) fn taken_from_step(
    container: &str,
    step: &[TaskRunResult],
    declared: &[&TaskResult],
) -> Vec<TaskRunResult> {
    let wanted: BTreeMap<&str, &str> = declared
        .iter()
        .filter_map(|r| {
            let (from, result) = step_result_reference(r.value.as_ref()?.as_str()?)?;
            (format!("step-{from}") == container).then_some((result, r.name.as_str()))
        })
        .collect();
    step.iter()
        .filter_map(|r| {
            Some(TaskRunResult {
                name: (*wanted.get(r.name.as_str())?).to_owned(),
                ..r.clone()
            })
        })
        .collect()
}

/// Step and result of `$(steps.<step>.results.<result>)`.
pub(crate) fn step_result_reference(text: &str) -> Option<(&str, &str)> {
    let inner = text.strip_prefix("$(steps.")?.strip_suffix(')')?;
    let (step, result) = inner.split_once(".results.")?;
    Some((step, result))
}

/// Later values win, positions stay by first appearance (T-307).
pub(crate) fn without_duplicates(results: Vec<TaskRunResult>) -> Vec<TaskRunResult> {
    let mut unique: Vec<TaskRunResult> = Vec::with_capacity(results.len());
    for result in results {
        match unique.iter_mut().find(|r| r.name == result.name) {
            Some(first) => *first = result,
            None => unique.push(result),
        }
    }
    unique
}

/// Removes results of the wrong type, and says what is wrong with them or with the rest (T-311, T-312).
pub(crate) fn check(
    results: &mut Vec<TaskRunResult>,
    declared: &[&TaskResult],
) -> Result<(), String> {
    let types: BTreeMap<&str, &str> = declared
        .iter()
        .map(|r| {
            (
                r.name.as_str(),
                r.type_.as_ref().map_or("", ParamType::as_str),
            )
        })
        .collect();
    let mut wrong = BTreeSet::new();
    results.retain(|r| {
        let is = r.type_.as_ref().map_or("", ParamType::as_str);
        let Some(wanted) = types.get(r.name.as_str()).filter(|wanted| **wanted != is) else { return true };
        wrong.insert(format!(
            " {}: task result is expected to be \"{wanted}\" type but was initialized to a different type \"{is}\"",
            format_args!("\"{}\"", r.name)
        ));
        false
    });
    if !wrong.is_empty() {
        let wrong: Vec<_> = wrong.into_iter().collect();
        return Err(format!(
            "[User error] Provided results don't match declared results; may be invalid JSON or missing result declaration: {}",
            wrong.join(",")
        ));
    }
    let mut missing = BTreeMap::new();
    for result in declared
        .iter()
        .filter(|r| r.type_ == Some(ParamType::Object))
    {
        let Some(given) = results
            .iter()
            .find(|r| r.name == result.name)
            .and_then(|r| r.value.as_object())
        else {
            continue;
        };
        let keys: Vec<&str> = result
            .properties
            .keys()
            .filter(|k| !given.contains_key(*k))
            .map(String::as_str)
            .collect();
        if !keys.is_empty() {
            missing.insert(result.name.as_str(), keys);
        }
    }
    if missing.is_empty() {
        return Ok(());
    }
    Err(format!(
        "[User error] missing keys for these results which are required in TaskResult's properties {}",
        go_map(&missing)
    ))
}

/// A map of lists as Go prints it.
pub(crate) fn go_map(map: &BTreeMap<&str, Vec<&str>>) -> String {
    let pairs: Vec<String> = map
        .iter()
        .map(|(k, v)| format!("{k}:[{}]", v.join(" ")))
        .collect();
    format!("map[{}]", pairs.join(" "))
}

/// Adds artifacts by name, each value once (T-300).
pub(crate) fn merge_artifacts(into: &mut Artifacts, other: &Artifacts) {
    merge_artifact_list(&mut into.inputs, &other.inputs);
    merge_artifact_list(&mut into.outputs, &other.outputs);
    into.inputs.iter_mut().for_each(|a| a.build_output = false);
}

fn merge_artifact_list(into: &mut Vec<Artifact>, other: &[Artifact]) {
    for artifact in other {
        let at = into
            .iter()
            .position(|a| a.name == artifact.name)
            .unwrap_or_else(|| {
                into.push(Artifact {
                    name: artifact.name.clone(),
                    ..Artifact::default()
                });
                into.len() - 1
            });
        let known = &mut into[at];
        known.build_output |= artifact.build_output;
        let new: Vec<ArtifactValue> = artifact
            .values
            .iter()
            .filter(|v| !known.values.contains(v))
            .cloned()
            .collect();
        known.values.extend(new);
    }
}

/// Whether some step mentions the file in which it would leave artifacts (T-314).
pub(crate) fn artifacts_referenced(steps: &[tektite_api::v1::Step]) -> bool {
    steps.iter().any(artifacts_referenced_in)
}

/// Whether this step does.
pub(crate) fn artifacts_referenced_in(step: &tektite_api::v1::Step) -> bool {
    let path = format!(
        "/tekton/steps/{}/artifacts/provenance.json",
        step_container_name_of_named(&step.name)
    );
    let mentions = |text: &str| text.contains(&path) || text.contains("$(step.artifacts.path)");
    mentions(&step.script)
        || step.args.iter().chain(&step.command).any(|t| mentions(t))
        || step
            .env
            .iter()
            .any(|e| e.value.as_deref().is_some_and(mentions))
}

/// Upstream looks for the path of a named step only; an unnamed one is looked for as `step-`.
fn step_container_name_of_named(name: &str) -> String {
    if name.is_empty() {
        "step-".to_owned()
    } else {
        step_container_name(name, 0)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn declared(value: serde_json::Value) -> Vec<TaskResult> {
        serde_json::from_value(value).unwrap()
    }

    fn entry(key: &str, value: &str, kind: Kind) -> Entry {
        Entry {
            key: key.into(),
            value: value.into(),
            kind,
        }
    }

    fn results(value: serde_json::Value) -> Vec<TaskRunResult> {
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn a_string_result_is_not_parsed_and_others_take_the_type_of_their_content() {
        // T-308
        let declared = declared(
            json!([{"name": "s", "type": "string"}, {"name": "a", "type": "array"}, {"name": "o", "type": "object"}]),
        );
        let entries = [
            entry("s", r#"["x"]"#, Kind::TaskResult),
            entry("a", r#"["x"]"#, Kind::TaskResult),
            entry("o", r#"{"k":"v"}"#, Kind::TaskResult),
            entry("undeclared", "text", Kind::TaskResult),
        ];
        let sorted = sort(&entries, &declared.iter().collect::<Vec<_>>(), &[]);
        assert_eq!(
            serde_json::to_value(sorted.task).unwrap(),
            json!([
                {"name": "s", "type": "string", "value": "[\"x\"]"}, {"name": "a", "type": "array", "value": ["x"]},
                {"name": "o", "type": "object", "value": {"k": "v"}}, {"name": "undeclared", "type": "string", "value": "text"},
            ])
        );
    }

    #[test]
    fn internal_notes_are_not_shown() {
        // T-313
        let entries = [
            entry("StartedAt", "x", Kind::Internal),
            entry("r", "v", Kind::StepResult),
        ];
        let sorted = sort(&entries, &[], &[]);
        assert_eq!(sorted.shown, entries[1..]);
        assert_eq!(sorted.step.len(), 1);
        assert!(sorted.task.is_empty());
    }

    #[test]
    fn a_task_result_is_taken_from_the_step_it_names() {
        // T-310
        let declared =
            declared(json!([{"name": "t", "type": "string", "value": "$(steps.a.results.r)"}]));
        let declared: Vec<_> = declared.iter().collect();
        let step = results(
            json!([{"name": "r", "type": "string", "value": "v"}, {"name": "q", "type": "string", "value": "w"}]),
        );
        assert_eq!(
            serde_json::to_value(taken_from_step("step-a", &step, &declared)).unwrap(),
            json!([{"name": "t", "type": "string", "value": "v"}])
        );
        assert!(taken_from_step("step-b", &step, &declared).is_empty());
    }

    #[test]
    fn later_results_override_earlier_ones_in_place() {
        // T-307
        let all = results(
            json!([{"name": "a", "value": "1"}, {"name": "b", "value": "2"}, {"name": "a", "value": "3"}]),
        );
        assert_eq!(
            serde_json::to_value(without_duplicates(all)).unwrap(),
            json!([{"name": "a", "value": "3"}, {"name": "b", "value": "2"}])
        );
    }

    #[test]
    fn a_result_of_the_wrong_type_is_removed_and_named() {
        // T-311
        let declared =
            declared(json!([{"name": "a", "type": "array"}, {"name": "s", "type": "string"}]));
        let mut given = results(
            json!([{"name": "a", "type": "string", "value": "x"}, {"name": "s", "type": "string", "value": "y"}]),
        );
        let error = check(&mut given, &declared.iter().collect::<Vec<_>>()).unwrap_err();
        assert_eq!(
            error,
            "[User error] Provided results don't match declared results; may be invalid JSON or missing result \
             declaration:  \"a\": task result is expected to be \"array\" type but was initialized to a different type \"string\""
        );
        assert_eq!(given.len(), 1);
    }

    #[test]
    fn an_object_result_must_have_its_keys_but_need_not_be_there() {
        // T-312
        let declared = declared(json!([
            {"name": "o", "type": "object", "properties": {"k": {"type": "string"}, "l": {"type": "string"}}},
            {"name": "absent", "type": "object", "properties": {"k": {"type": "string"}}},
        ]));
        let mut given = results(json!([{"name": "o", "type": "object", "value": {"l": "v"}}]));
        assert_eq!(
            check(&mut given, &declared.iter().collect::<Vec<_>>()).unwrap_err(),
            "[User error] missing keys for these results which are required in TaskResult's properties map[o:[k]]"
        );
    }

    #[test]
    fn artifacts_are_read_and_written_in_upstreams_form() {
        // T-299
        let form = json!({
            "inputs": [{"name": "s", "values": [{"uri": "g", "digest": {"sha1": "95588b8f34c31eb7d62c92aaa4e6506639b06ef2"}}]}],
            "outputs": [{"name": "i", "buildOutput": true, "values": [{"uri": "u"}]}],
        });
        let artifacts: Artifacts = serde_json::from_value(form.clone()).unwrap();
        assert_eq!(artifacts.inputs[0].values[0].uri, "g");
        assert!(artifacts.outputs[0].build_output);
        assert_eq!(json!(artifacts), form);
    }

    #[test]
    fn artifacts_merge_by_name_and_value() {
        // T-300
        let artifacts = |v| serde_json::from_value::<Artifacts>(v).unwrap();
        let mut all = artifacts(json!({"outputs": [{"name": "i", "values": [{"uri": "a"}]}]}));
        merge_artifacts(
            &mut all,
            &artifacts(json!({"inputs": [{"name": "s", "values": [{"uri": "g"}]}],
                "outputs": [{"name": "i", "buildOutput": true, "values": [{"uri": "a"}, {"uri": "b"}]}]})),
        );
        assert_eq!(
            all,
            artifacts(json!({"inputs": [{"name": "s", "values": [{"uri": "g"}]}],
                "outputs": [{"name": "i", "buildOutput": true, "values": [{"uri": "a"}, {"uri": "b"}]}]}))
        );
    }
}
