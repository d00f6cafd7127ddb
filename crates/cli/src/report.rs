//! Telling a person how runs go: log lines as they come, a live tree where the terminal can show one, a summary.

use std::borrow::Cow;
use std::collections::{BTreeMap, VecDeque};
use std::io::{self, Write};
use std::time::{Duration, Instant};

use tektite_node::Degraded;

use crate::follow::{Event, Follower};
use crate::terminal::screen::{Screen, tame};
use crate::terminal::style::Style;
use crate::terminal::summary::{self, LastLines};
use crate::terminal::{Terminal, tree};
use crate::view::{Board, Root, State};
use crate::warnings::{self, Warnings};

/// Lines of each log kept for the failure summary.
const KEPT_LINES: usize = 12;
/// How often the tree moves.
const FRAME: Duration = Duration::from_millis(100);
/// How long to wait, after the last sign of life, for logs and objects that lag behind a run's end.
const PATIENCE: Duration = Duration::from_secs(3);

/// Where the report goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Destination {
    /// Standard output.
    Stdout,
    /// Standard error: standard output carries objects.
    Stderr,
}

/// The report of some runs.
pub struct Report {
    board: Board,
    start: Instant,
    destination: Destination,
    terminal: Terminal,
    style: Style,
    screen: Option<Screen<io::BufWriter<Box<dyn Write + Send>>>>,
    pending: String,
    last: BTreeMap<(String, String), VecDeque<String>>,
    frame: usize,
    warnings: Option<Warnings>,
}

impl Report {
    /// An empty report; `live` asks for a tree where the terminal can show one.
    pub fn new(roots: Vec<Root>, destination: Destination, live: bool) -> Self {
        let (terminal, out): (Terminal, Box<dyn Write + Send>) = match destination {
            Destination::Stdout => (Terminal::stdout(), Box::new(io::stdout())),
            Destination::Stderr => (Terminal::stderr(), Box::new(io::stderr())),
        };
        Self {
            board: Board::new(roots),
            start: Instant::now(),
            destination,
            terminal,
            style: Style {
                fancy: terminal.colours,
            },
            screen: (live && terminal.interactive).then(|| Screen::new(io::BufWriter::new(out))),
            pending: String::new(),
            last: BTreeMap::new(),
            frame: 0,
            warnings: None,
        }
    }

    /// Also tells, on standard error, what is found to be lacking meanwhile.
    pub fn with_warnings(mut self, warnings: Option<Warnings>) -> Self {
        self.warnings = warnings;
        self
    }

    /// How far each run is.
    pub fn states(&self) -> Vec<State> {
        self.board
            .views(self.start.elapsed())
            .iter()
            .map(|view| view.state)
            .collect()
    }

    /// Follows until all runs have ended and their logs are read. Safe to cancel and call again.
    pub async fn until_done(&mut self, follower: &mut Follower) {
        let mut frames = tokio::time::interval(FRAME);
        let mut quiet_since: Option<Instant> = None;
        loop {
            if self.board.is_done() {
                let since = *quiet_since.get_or_insert_with(Instant::now);
                if (self.board.is_settled() && follower.open_logs() == 0)
                    || since.elapsed() > PATIENCE
                {
                    break;
                }
            }
            tokio::select! {
                biased;
                event = follower.next() => {
                    quiet_since = quiet_since.map(|_| Instant::now());
                    self.take(event);
                    self.flush_if_idle();
                    // However much a step writes, whoever waits for an interrupt gets a look.
                    tokio::task::yield_now().await;
                }
                degraded = next_warning(&mut self.warnings) => {
                    self.clear();
                    warnings::say(&[degraded]);
                    self.draw();
                }
                _ = frames.tick() => {
                    self.frame += 1;
                    self.draw();
                }
            }
        }
        self.draw();
    }

    /// Reads logs that do not grow any more, or those of a run that nobody waits for.
    pub async fn until_read(&mut self, follower: &mut Follower) {
        let mut idle = 0;
        while idle < 2 {
            match tokio::time::timeout(Duration::from_millis(300), follower.next()).await {
                Ok(event) => {
                    idle = 0;
                    self.take(event);
                }
                Err(_) if follower.open_logs() == 0 => idle += 1,
                Err(_) => {}
            }
            if self.board.is_settled() && self.board.is_done() && follower.open_logs() == 0 {
                break;
            }
        }
        self.draw();
    }

    fn take(&mut self, event: Event) {
        let now = self.start.elapsed();
        match event {
            Event::PipelineRun(run) => self.board.see_pipeline_run(*run, now),
            Event::TaskRun(run) => self.board.see_task_run(*run, now),
            Event::Deleted(name) => self.board.forget(&name),
            Event::Lines {
                task_run,
                step,
                lines,
            } => self.lines(&task_run, &step, &lines),
            Event::Pod(event) => self.board.hear(*event),
            Event::LogEnded => {}
        }
        for (task, obstacle) in self.board.news() {
            let text = self.style.bold(&format!("task {task} waits: {obstacle}"));
            self.pending.push_str(&format!("{text}\n"));
        }
    }

    fn lines(&mut self, task_run: &str, step: &str, lines: &str) {
        let task = self.board.label(task_run);
        let prefix = self.style.prefix(&task, step);
        let kept = self.last.entry((task, step.to_owned())).or_default();
        for line in lines.split('\n') {
            let text = if self.terminal.interactive {
                Cow::Owned(tame(line))
            } else {
                Cow::Borrowed(line.trim_end_matches('\r'))
            };
            self.pending.extend([prefix.as_str(), " ", &text, "\n"]);
            if kept.len() == KEPT_LINES {
                kept.pop_front();
            }
            kept.push_back(text.into_owned());
        }
    }

    /// Lines go out at once; the tree need not follow every one of them.
    fn flush_if_idle(&mut self) {
        if self.screen.is_none() || !self.pending.is_empty() {
            self.draw();
        }
    }

    fn draw(&mut self) {
        let pending = std::mem::take(&mut self.pending);
        let Some(screen) = &mut self.screen else {
            if !pending.is_empty() {
                self.print(&pending);
            }
            return;
        };
        let views = self.board.views(self.start.elapsed());
        let height = self.terminal.height.saturating_sub(2);
        let lines = tree::lines(
            &views,
            self.style,
            self.terminal.width - 1,
            height,
            self.frame,
        );
        // A terminal that went away is no reason to stop the run.
        let _ = screen.draw(&pending, &lines);
    }

    /// Takes the tree away and prints the summary.
    pub fn finish(&mut self) {
        self.clear();
        if let Some(warnings) = &mut self.warnings {
            warnings.say_rest();
        }
        let last: LastLines = self
            .last
            .iter()
            .map(|(key, lines)| (key.clone(), lines.iter().cloned().collect()))
            .collect();
        let views = self.board.views(self.start.elapsed());
        self.print(&summary::render(&views, &last, self.style));
    }

    /// Takes the tree away.
    fn clear(&mut self) {
        if let Some(screen) = &mut self.screen {
            let _ = screen.draw(&std::mem::take(&mut self.pending), &[]);
        }
    }

    /// A line of our own, such as "cancelling".
    pub fn say(&mut self, text: &str) {
        self.pending
            .push_str(&format!("{}\n", self.style.bold(text)));
        self.draw();
    }

    fn print(&self, text: &str) {
        match self.destination {
            Destination::Stdout => crate::terminal::print(text),
            Destination::Stderr => crate::terminal::print_error(text),
        }
    }
}

async fn next_warning(warnings: &mut Option<Warnings>) -> Degraded {
    match warnings {
        Some(warnings) => warnings.next().await,
        None => std::future::pending().await,
    }
}
