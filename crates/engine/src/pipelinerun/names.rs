//! Names of a run's children, claims and assistants.

use tektite_api::v1::{ChildStatusReference, WorkspaceBinding};

use super::task::Kind;
use crate::child_name::{LONGEST, child_name, cut, sha256_hex};

/// Names that the children of a pipeline task have or will have: those recorded before (P-264), else new ones.
pub(super) fn children(
    recorded: &[ChildStatusReference],
    kind: Kind,
    run: &str,
    task: &str,
    number: usize,
) -> Vec<String> {
    let names: Vec<String> = recorded
        .iter()
        .filter(|child| child.kind == kind.name() && child.pipeline_task_name == task)
        .map(|child| child.name.clone())
        .collect();
    if names.is_empty() {
        new_children(run, task, number)
    } else {
        names
    }
}

fn new_children(run: &str, task: &str, number: usize) -> Vec<String> {
    if number == 1 {
        return vec![child_name(run, &format!("-{task}"))];
    }
    // P-262, P-263
    let numbered = |i: usize| {
        let ending = format!("-{i}");
        let name = child_name(run, &format!("-{task}{ending}"));
        if name.ends_with(&ending) {
            return name;
        }
        let whole = child_name(run, &format!("-{task}"));
        format!(
            "{}{ending}",
            cut(&whole, LONGEST - format!("-{number}").len())
        )
    };
    (0..number).map(numbered).collect()
}

/// Name of the claim made of a workspace's template (P-239).
pub(super) fn claim(binding: &WorkspaceBinding, run_uid: &str) -> String {
    let template = binding.volume_claim_template.as_ref();
    let prefix = template
        .and_then(|claim| claim.metadata.name.as_deref())
        .filter(|name| !name.is_empty());
    format!(
        "{}-{}",
        prefix.unwrap_or("pvc"),
        sha256_hex(&format!("{}{run_uid}", binding.name), 10)
    )
}

/// Name of the affinity assistant of a workspace, or with an empty `workspace` of the whole run (P-246).
pub(super) fn assistant(workspace: &str, run: &str) -> String {
    format!(
        "affinity-assistant-{}",
        sha256_hex(&format!("{workspace}{run}"), 10)
    )
}

/// A name that fits a volume's (P-250).
pub(super) fn volume(name: &str) -> String {
    if name.len() <= LONGEST {
        return name.to_owned();
    }
    format!("{}-{}", cut(name, LONGEST - 11), sha256_hex(name, 10))
}

/// Name of the claim that a run's one assistant makes of a workspace's template (P-250).
pub(super) fn claim_of_assistant(binding: &WorkspaceBinding, run: &str, run_uid: &str) -> String {
    format!(
        "{}-{}-0",
        volume(&claim(binding, run_uid)),
        assistant("", run)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn child(kind: &str, task: &str, name: &str) -> ChildStatusReference {
        ChildStatusReference {
            kind: kind.into(),
            pipeline_task_name: task.into(),
            name: name.into(),
            ..ChildStatusReference::default()
        }
    }

    #[test]
    fn names_recorded_for_a_task_are_used_again() {
        // P-264, P-121
        let recorded = [
            child("TaskRun", "t", "x-1"),
            child("CustomRun", "t", "c"),
            child("TaskRun", "u", "y"),
            child("TaskRun", "t", "x-0"),
        ];
        assert_eq!(
            children(&recorded, Kind::Task, "run", "t", 3),
            ["x-1", "x-0"]
        );
        assert_eq!(children(&recorded, Kind::Task, "run", "v", 1), ["run-v"]);
    }

    #[test]
    fn one_child_has_no_number_and_others_count_from_zero() {
        // P-262
        assert_eq!(new_children("run", "t", 1), ["run-t"]);
        assert_eq!(new_children("run", "t", 2), ["run-t-0", "run-t-1"]);
        assert_eq!(new_children("run", "t", 0), Vec::<String>::new());
    }

    #[test]
    fn a_number_that_hashing_swallowed_is_put_back() {
        // P-263
        let task = "t".repeat(70);
        let names = new_children("run", &task, 10);
        let whole = child_name("run", &format!("-{task}"));
        assert_eq!(names[3], format!("{}-3", &whole[..60]));
        assert!(names.iter().all(|name| name.len() <= 63));
    }

    #[test]
    fn claims_and_assistants_are_named_by_hashes() {
        // P-239, P-246, P-250
        let binding: WorkspaceBinding = serde_json::from_value(
            serde_json::json!({"name": "ws", "volumeClaimTemplate": {"spec": {}}}),
        )
        .unwrap();
        let hash = |text: &str| sha256_hex(text, 10);
        assert_eq!(claim(&binding, "uid"), format!("pvc-{}", hash("wsuid")));
        assert_eq!(
            assistant("ws", "run"),
            format!("affinity-assistant-{}", hash("wsrun"))
        );
        assert_eq!(
            claim_of_assistant(&binding, "run", "uid"),
            format!("pvc-{}-affinity-assistant-{}-0", hash("wsuid"), hash("run"))
        );
        let long = "n".repeat(64);
        assert_eq!(volume(&long), format!("{}-{}", "n".repeat(52), hash(&long)));
    }
}
