//! The live tree: runs, their tasks, state and elapsed time. Pure: views in, lines out.

use unicode_width::{UnicodeWidthChar as _, UnicodeWidthStr as _};

use super::style::{Style, duration};
use crate::view::{RunView, State, TaskView};

/// The tree as lines no wider than `width` and no more than `height`; `frame` turns the spinners.
pub fn lines(
    runs: &[RunView],
    style: Style,
    width: usize,
    height: usize,
    frame: usize,
) -> Vec<String> {
    let mut lines = Vec::new();
    for run in runs {
        let elapsed = run.elapsed.map(duration).unwrap_or_default();
        lines.push(format!(
            "{} {} {}",
            style.sign(run.state, frame),
            style.bold(&clip(&run.name, width.saturating_sub(20))),
            style.dim(&format!("{} {elapsed}", run.state.word()))
        ));
        let column = run
            .tasks
            .iter()
            .map(|task| task.label.width())
            .max()
            .unwrap_or_default()
            .min(width / 2);
        let room = (height.saturating_sub(runs.len()) / runs.len().max(1)).max(1);
        let (shown, hidden) = select(&run.tasks, room);
        for (position, task) in shown.iter().enumerate() {
            let last = position + 1 == shown.len() && hidden == 0;
            lines.push(line(task, style, column, width, frame, last));
        }
        if hidden > 0 {
            lines.push(style.dim(&format!("{} {hidden} more", branch(style, true))));
        }
    }
    lines.truncate(height.max(1));
    lines
}

/// The tasks that fit: all, or those under way first, then failed, waiting and ended ones, in their order.
fn select(tasks: &[TaskView], room: usize) -> (Vec<&TaskView>, usize) {
    if tasks.len() <= room {
        return (tasks.iter().collect(), 0);
    }
    let keep = room.saturating_sub(1).max(1);
    let rank = |task: &TaskView| match task.state {
        State::Running => 0,
        State::Failed | State::Cancelled => 1,
        State::Waiting => 2,
        State::Succeeded | State::Skipped => 3,
    };
    let mut order: Vec<usize> = (0..tasks.len()).collect();
    order.sort_by_key(|index| rank(&tasks[*index]));
    order.truncate(keep);
    order.sort_unstable();
    (
        order.into_iter().map(|index| &tasks[index]).collect(),
        tasks.len() - keep,
    )
}

fn branch(style: Style, last: bool) -> &'static str {
    match (style.fancy, last) {
        (true, false) => "├─",
        (true, true) => "└─",
        (false, _) => " ",
    }
}

fn line(
    task: &TaskView,
    style: Style,
    column: usize,
    width: usize,
    frame: usize,
    last: bool,
) -> String {
    let label = clip(&task.label, column);
    let padding = " ".repeat(column.saturating_sub(label.width()));
    let time = task.elapsed.map(duration).unwrap_or_default();
    let mut note = match task.state {
        State::Running => task
            .running_step()
            .map(|step| step.name.clone())
            .unwrap_or_default(),
        State::Failed | State::Skipped => task.reason.clone(),
        State::Succeeded => task.taken_over.to_owned(),
        State::Waiting | State::Cancelled => String::new(),
    };
    if task.retries > 0 {
        note = format!("{note} (retry {})", task.retries);
    }
    let room = width.saturating_sub(column + 17);
    let text = format!(
        "{} {} {label}{padding}  {time:>8}  {}",
        style.dim(branch(style, last)),
        style.sign(task.state, frame),
        style.dim(&clip(&note, room)),
    );
    text.trim_end().to_owned()
}

/// `text` cut to `width` columns.
pub fn clip(text: &str, width: usize) -> String {
    if text.width() <= width {
        return text.to_owned();
    }
    let mut used = 1;
    let kept = text.chars().take_while(|c| {
        used += c.width().unwrap_or(0);
        used <= width
    });
    kept.collect::<String>() + "…"
}
