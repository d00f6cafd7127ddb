//! What is printed when runs have ended: tasks, outcome, durations; for failures the step, exit code, log and advice.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::style::{Style, duration};
use super::table;
use crate::view::{Fate, RunView, State, TaskView, advice, run_advice};

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
        for task in run
            .tasks
            .iter()
            .filter(|task| task.state == State::Cancelled)
        {
            waited_for(&mut out, task, style);
        }
        if run.state == State::Failed && !run.tasks.iter().any(|task| task.state == State::Failed) {
            let _ = writeln!(
                out,
                "\n  {} {}",
                style.state(State::Failed, "reason:"),
                run.reason
            );
            if let Some(advice) = run_advice(run) {
                let _ = writeln!(out, "  {} {advice}", style.dim("what to do:"));
            }
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
            State::Cancelled => Fate::of(task)
                .step()
                .map(|step| format!("at step {}", step.name))
                .unwrap_or_default(),
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
    let fate = Fate::of(task);
    let _ = writeln!(
        out,
        "\n  {} {}",
        style.sign(State::Failed, 0),
        title(task, fate, style)
    );
    let _ = writeln!(
        out,
        "    {} {}: {}",
        style.dim("reason:"),
        task.reason,
        one_line(&task.message)
    );
    if let Some(obstacle) = &task.obstacle
        && !task.message.contains(obstacle)
    {
        let _ = writeln!(out, "    {} {}", style.dim("cause:"), one_line(obstacle));
    }
    let log = fate
        .step()
        .and_then(|step| logs.get(&(task.label.clone(), step.name.clone())))
        .filter(|lines| !lines.is_empty());
    if let Some(lines) = log {
        let _ = writeln!(out, "    {}", style.dim("last lines of its log:"));
        for line in lines {
            let _ = writeln!(out, "      {line}");
        }
    }
    let silent = || {
        let silent = matches!(fate, Fate::Exit(..)) && log.is_none();
        silent.then(|| {
            "the step wrote nothing: add `set -x` to its script to see what it did last".to_owned()
        })
    };
    if let Some(advice) = advice(task).or_else(silent) {
        let _ = writeln!(out, "    {} {advice}", style.dim("what to do:"));
    }
}

/// What happened, and where.
fn title(task: &TaskView, fate: Fate<'_>, style: Style) -> String {
    let label = style.bold(&task.label);
    let at = |words: &str| {
        fate.step().map_or_else(String::new, |step| {
            format!(" {words} {}", style.bold(&step.name))
        })
    };
    match fate {
        Fate::NoImage(step) => {
            let image = step.map(|step| step.image.as_str()).unwrap_or_default();
            let image = if image.is_empty() {
                String::new()
            } else {
                format!(" {}", style.bold(image))
            };
            format!(
                "task {label} failed: the image{image}{} could not be pulled",
                at("of step")
            )
        }
        Fate::NotStarted(_) => format!("task {label} failed before it could start{}", at("step")),
        Fate::OutOfMemory(_) => format!("task {label} ran out of memory{}", at("at step")),
        Fate::OutOfTime(_) if task.obstacle.is_some() => {
            format!(
                "task {label} ran out of time before it could start{}",
                at("step")
            )
        }
        Fate::OutOfTime(_) => format!("task {label} ran out of time{}", at("at step")),
        Fate::StepOutOfTime(_) => format!(
            "task {label} failed{}, which took longer than its timeout",
            at("at step")
        ),
        Fate::Exit(_, code) => {
            format!("task {label} failed{} with exit code {code}", at("at step"))
        }
        Fate::Other => format!("task {label} failed"),
    }
}

/// Why a task that was cancelled had not begun.
fn waited_for(out: &mut String, task: &TaskView, style: Style) {
    let Some(obstacle) = &task.obstacle else {
        return;
    };
    let label = style.bold(&task.label);
    let obstacle = one_line(obstacle);
    let _ = writeln!(out, "\n  task {label} could not start: {obstacle}");
    if let Some(lacking) = &task.lacking {
        let _ = writeln!(out, "    {} {lacking}", style.dim("what to do:"));
    }
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}
