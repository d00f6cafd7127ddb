//! What is printed when runs have ended: tasks, outcome, durations; for failures the step, exit code, log and advice.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::style::{Style, duration};
use super::table;
use crate::view::{RunView, State, TaskView, advice};

/// The last lines of each step's log, by task label and step.
pub type LastLines = BTreeMap<(String, String), Vec<String>>;

/// The summary of all runs.
pub fn render(runs: &[RunView], logs: &LastLines, style: Style) -> String {
    let mut out = String::new();
    for run in runs {
        let _ = writeln!(out, "\n{}", headline(run, style));
        out.push_str(&table::render(&rows(run, style), 2));
        for task in run.tasks.iter().filter(|task| task.state == State::Failed) {
            failure(&mut out, task, logs, style);
        }
        if run.state == State::Failed && !run.tasks.iter().any(|task| task.state == State::Failed) {
            let _ = writeln!(
                out,
                "\n  {} {}",
                style.state(State::Failed, "reason:"),
                run.reason
            );
        }
        if !run.results.is_empty() {
            let _ = writeln!(out, "\n  {}", style.bold("Results"));
            let rows: Vec<Vec<String>> = run
                .results
                .iter()
                .map(|(name, value)| vec![name.clone(), one_line(value)])
                .collect();
            out.push_str(&table::render(&rows, 2));
        }
    }
    out
}

fn headline(run: &RunView, style: Style) -> String {
    let mut text = format!(
        "{} {} {}",
        style.sign(run.state, 0),
        run.kind,
        style.bold(&run.name)
    );
    let _ = write!(text, " {}", style.state(run.state, run.state.word()));
    if let Some(elapsed) = run.elapsed {
        let _ = write!(text, " in {}", duration(elapsed));
    }
    if run.state != State::Succeeded && !run.message.is_empty() {
        let _ = write!(text, ": {}", one_line(&run.message));
    }
    text
}

fn rows(run: &RunView, style: Style) -> Vec<Vec<String>> {
    let mut rows = vec![
        ["TASK", "OUTCOME", "DURATION", ""]
            .map(|title| style.dim(title))
            .to_vec(),
    ];
    rows.extend(run.tasks.iter().map(|task| {
        let mut note = match task.state {
            State::Skipped => task.reason.clone(),
            State::Failed if task.reason != "Failed" => task.reason.clone(),
            State::Succeeded => task.taken_over.to_owned(),
            _ => String::new(),
        };
        if task.retries > 0 {
            let _ = write!(
                note,
                "{}{} retries",
                if note.is_empty() { "" } else { ", " },
                task.retries
            );
        }
        vec![
            task.label.clone(),
            style.state(task.state, task.state.word()),
            task.elapsed.map(duration).unwrap_or_else(|| "-".to_owned()),
            style.dim(&note),
        ]
    }));
    rows
}

fn failure(out: &mut String, task: &TaskView, logs: &LastLines, style: Style) {
    let step = task.failed_step();
    let mut title = format!("task {} failed", style.bold(&task.label));
    if let Some(step) = step {
        let _ = write!(title, " at step {}", style.bold(&step.name));
        if let Some(code) = step.exit_code {
            let _ = write!(title, " with exit code {code}");
        }
    }
    let _ = writeln!(out, "\n  {} {title}", style.sign(State::Failed, 0));
    let _ = writeln!(
        out,
        "    {} {}: {}",
        style.dim("reason:"),
        task.reason,
        one_line(&task.message)
    );
    if let Some(step) = step
        && let Some(lines) = logs
            .get(&(task.label.clone(), step.name.clone()))
            .filter(|lines| !lines.is_empty())
    {
        let _ = writeln!(out, "    {}", style.dim("last lines of its log:"));
        for line in lines {
            let _ = writeln!(out, "      {line}");
        }
    }
    if let Some(advice) = advice(task) {
        let _ = writeln!(out, "    {} {advice}", style.dim("what to do:"));
    }
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}
