//! Reruns, concurrency and the task cache, in real containers on a local cluster: what docs/rerun.md, docs/concurrency.md
//! and docs/cache.md show, with the examples they name.

mod support;

use std::process::Output;
use std::time::Duration;

use serde_json::Value;
use support::{Up, eventually, root, text};

fn out(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Runs an example on the cluster; says how it ended and what was printed.
fn run(up: &Up, example: &str) -> (Option<i32>, String) {
    let path = root().join("examples").join(example);
    let output = up.tektite(&["run", path.to_str().expect("a path")]);
    (output.status.code(), text(&output))
}

/// What was printed, however its lines were broken.
fn words(output: &Output) -> String {
    let text = text(output);
    let words = text.split_whitespace().filter(|word| *word != "|");
    words.collect::<Vec<_>>().join(" ")
}

fn pipeline_runs(up: &Up) -> Vec<Value> {
    let listed = up.tektite(&["list", "pipelineruns", "-o", "json"]);
    let list: Value = serde_json::from_slice(&listed.stdout).expect("JSON");
    list["items"].as_array().cloned().unwrap_or_default()
}

fn name(run: &Value) -> &str {
    run["metadata"]["name"].as_str().unwrap_or_default()
}

#[test]
fn a_rerun_takes_over_the_build_and_deploys_again() {
    let up = Up::start(&[]);
    let (code, printed) = run(&up, "rerun-failing/ship.yaml");
    assert_eq!(code, Some(1), "{printed}");
    let failed = name(&pipeline_runs(&up)[0]).to_owned();
    let refused = up.tektite(&["rerun", &failed, "--from", "nothing"]);
    assert_eq!(refused.status.code(), Some(2), "{}", text(&refused));
    assert!(words(&refused).contains("the pipeline has no task \"nothing\" to start from"));
    // The repaired pipeline comes with a run of its own.
    let (code, printed) = run(&up, "rerun-repaired/ship.yaml");
    assert_eq!(code, Some(0), "{printed}");
    let rerun = up.tektite(&["rerun", &failed]);
    assert_eq!(rerun.status.code(), Some(0), "{}", text(&rerun));
    assert!(
        out(&rerun).contains(&format!("takes over build from {failed} and runs deploy")),
        "{}",
        text(&rerun)
    );
    let new = out(&rerun);
    let new = new
        .trim_start_matches("pipelinerun/")
        .split(' ')
        .next()
        .expect("a name");
    let described = eventually("the rerun ends", Duration::from_secs(60), || {
        let described = out(&up.tektite(&["describe", new]));
        described
            .contains(&format!("{new} succeeded"))
            .then_some(described)
    });
    let build = described
        .lines()
        .find(|line| line.trim_start().starts_with("build"))
        .unwrap_or_default();
    assert!(
        build.contains("succeeded") && build.contains("inherited"),
        "{described}"
    );
    let nothing_left = up.tektite(&["rerun", new]);
    assert_eq!(
        nothing_left.status.code(),
        Some(2),
        "{}",
        text(&nothing_left)
    );
    assert!(
        words(&nothing_left).contains("has nothing that failed"),
        "{}",
        text(&nothing_left)
    );
}

#[test]
fn runs_of_one_key_do_not_overlap() {
    let up = Up::start(&[]);
    let (code, printed) = run(&up, "concurrency");
    assert_eq!(code, Some(0), "{printed}");
    let mut times: Vec<(String, String)> = pipeline_runs(&up)
        .iter()
        .map(|run| {
            let time = |field: &str| run["status"][field].as_str().unwrap_or_default().to_owned();
            (time("startTime"), time("completionTime"))
        })
        .collect();
    times.sort();
    assert_eq!(times.len(), 3);
    assert!(
        times.windows(2).all(|two| two[0].1 <= two[1].0),
        "{times:?}"
    );
}

#[test]
fn a_cached_task_is_not_run_again_and_its_result_is_there() {
    let up = Up::start(&[]);
    let (code, first) = run(&up, "cache");
    assert_eq!(code, Some(0), "{first}");
    assert!(first.contains("compiling"), "{first}");
    let (code, second) = run(&up, "cache");
    assert_eq!(code, Some(0), "{second}");
    assert!(!second.contains("compiling"), "{second}");
    assert!(
        second.contains("cached") && second.contains("using app-1.0"),
        "{second}"
    );
}

#[test]
fn a_task_cached_by_its_files_runs_again_only_when_they_change() {
    let up = Up::start(&[]);
    let example = root().join("examples/cache-files/build.yaml");
    let example = std::fs::read_to_string(example).expect("the example");
    let other = tempfile::NamedTempFile::with_suffix(".yaml").expect("a file");
    for (words, compiles) in [
        ("hello", true),
        ("hello", false),
        ("goodbye", true),
        ("hello", false),
    ] {
        let manifest = example.replace("value: hello", &format!("value: {words}"));
        std::fs::write(other.path(), manifest).expect("written");
        let output = up.tektite(&["run", other.path().to_str().expect("a path")]);
        let printed = text(&output);
        assert_eq!(output.status.code(), Some(0), "{printed}");
        assert_eq!(
            printed.contains("compiling"),
            compiles,
            "{words}: {printed}"
        );
        assert_eq!(printed.contains("cached"), !compiles, "{words}: {printed}");
        let used = format!("using app of {words}");
        assert!(printed.contains(&used), "{words}: {printed}");
    }
    // The log of a TaskRun that did not run is that of the one that did.
    let listed = up.tektite(&["list", "taskruns", "-o", "json"]);
    let runs: Value = serde_json::from_slice(&listed.stdout).expect("JSON");
    let restored: Vec<&Value> = runs["items"]
        .as_array()
        .expect("items")
        .iter()
        .filter(|run| run["status"]["annotations"]["tektite.dev/cached-from"].is_string())
        .collect();
    assert_eq!(restored.len(), 2);
    for run in restored {
        let name = name(run);
        let logs = text(&up.tektite(&["logs", &format!("taskrun/{name}")]));
        assert!(logs.contains("compiling"), "the earlier run's log: {logs}");
    }
}
