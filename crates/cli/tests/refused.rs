//! What is wrong with manifests: exit 2, one diagnostic each with file:line:column and a hint, nothing started.

use std::path::Path;
use std::process::{Command, Output};

fn tektite(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_tektite"))
        .args(arguments)
        .current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/refused"))
        .env_remove("KUBECONFIG")
        .env("NO_COLOR", "1")
        .output()
        .expect("the binary runs")
}

/// Every case of `tests/refused` with the whole of what is printed.
#[test]
fn every_mistake_is_one_diagnostic_with_place_and_hint() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/refused");
    let mut cases: Vec<String> = std::fs::read_dir(directory)
        .expect("the cases")
        .map(|entry| {
            entry
                .expect("an entry")
                .file_name()
                .to_string_lossy()
                .into_owned()
        })
        .collect();
    cases.sort();
    assert!(cases.len() >= 11);
    for case in cases {
        let output = tektite(&["lint", &case]);
        let errors = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{case}: {errors}");
        let reported = errors
            .lines()
            .filter(|line| line.ends_with(": error"))
            .count();
        assert_eq!(
            errors.matches("  help: ").count(),
            reported,
            "{case}: a hint each\n{errors}"
        );
        insta::assert_snapshot!(case.trim_end_matches(".yaml"), errors);
    }
}

/// `run` refuses for the same reasons before it starts anything.
#[test]
fn run_refuses_what_lint_refuses() {
    for case in [
        "syntax.yaml",
        "unknown-field.yaml",
        "params.yaml",
        "unknown-task.yaml",
        "cycle.yaml",
        "duplicate-name.yaml",
    ] {
        let lint = tektite(&["lint", case]);
        let run = tektite(&["run", case]);
        assert_eq!(run.status.code(), Some(2), "{case}");
        assert_eq!(
            String::from_utf8_lossy(&run.stderr),
            String::from_utf8_lossy(&lint.stderr),
            "{case}"
        );
        assert!(run.stdout.is_empty(), "{case}");
    }
}

#[test]
fn files_that_cannot_be_read_are_refused_with_a_hint() {
    let output = tektite(&["lint", "no-such-file.yaml"]);
    assert_eq!(output.status.code(), Some(2));
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(
        errors.contains("cannot read no-such-file.yaml") && errors.contains("help: "),
        "{errors}"
    );
}

#[test]
fn lenient_turns_what_tekton_accepts_into_warnings() {
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("extra.yaml");
    let manifest = "apiVersion: tekton.dev/v1\nkind: Task\nmetadata: {name: t}\nspec:\n  steps: [{image: host, script: echo}]\n---\n\
                    apiVersion: tekton.dev/v1\nkind: TaskRun\nmetadata: {name: r}\nspec:\n  taskRef: {name: t}\n  params: [{name: x, value: y}]\n";
    std::fs::write(&file, manifest).expect("a file");
    let path = file.to_string_lossy();
    assert_eq!(tektite(&["lint", &path]).status.code(), Some(2));
    let lenient = tektite(&["lint", "--lenient", &path]);
    assert_eq!(lenient.status.code(), Some(0));
    assert!(
        String::from_utf8_lossy(&lenient.stderr).contains(":12:19: warning"),
        "{:?}",
        lenient
    );
}

#[test]
fn the_examples_have_nothing_to_complain_about() {
    let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples");
    for entry in std::fs::read_dir(examples).expect("examples") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            let output = tektite(&["lint", &path.to_string_lossy()]);
            assert_eq!(
                output.status.code(),
                Some(0),
                "{}: {}",
                path.display(),
                String::from_utf8_lossy(&output.stderr)
            );
            assert!(output.stderr.is_empty(), "{}", path.display());
        }
    }
}

/// What such an annotation asks for would not happen, and nobody would say so.
#[test]
fn misspelt_annotations_of_ours_are_told() {
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("cached.yaml");
    let manifest = "apiVersion: tekton.dev/v1\nkind: PipelineRun\nmetadata:\n  name: r\n  annotations:\n    other.dev/cach: x\n    tektite.dev/concurency-key: x\nspec:\n  pipelineSpec:\n    tasks:\n      - name: t\n        taskSpec:\n          metadata:\n            annotations:\n              tektite.dev/cache: \"true\"\n              tektite.dev/cache-workspace: w\n          steps: [{image: host, script: echo}]\n";
    std::fs::write(&file, manifest).expect("a file");
    let output = tektite(&["lint", &file.to_string_lossy()]);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let errors = String::from_utf8_lossy(&output.stderr);
    let lines: Vec<&str> = errors.lines().collect();
    let told = |place: &str, name: &str, hint: &str| {
        let at = lines.iter().position(|line| line.contains(place));
        let at = at.unwrap_or_else(|| panic!("{place}: {errors}"));
        assert!(
            lines[at..].iter().any(|line| line.contains(name)),
            "{errors}"
        );
        assert!(errors.contains(hint), "{errors}");
    };
    told(
        ":7:5: warning",
        "unknown annotation `tektite.dev/concurency-key`",
        "did you mean `tektite.dev/concurrency-key`?",
    );
    told(
        ":16:15: warning",
        "unknown annotation `tektite.dev/cache-workspace`",
        "did you mean `tektite.dev/cache-workspaces`?",
    );
    assert_eq!(errors.matches(": warning").count(), 2, "{errors}");
}
