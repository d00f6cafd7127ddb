//! What is counted of a queue's work (T-417), by the lane a key is of.

use std::time::Duration;

/// Keys of several sorts share a queue; what is counted is counted for each sort.
pub(crate) trait Lane {
    /// How many sorts there are.
    const LANES: usize;

    /// Which sort it is of, below [`Lane::LANES`].
    fn lane(&self) -> usize;
}

/// Upper bounds of the histograms, in seconds.
pub(crate) const BOUNDS: [f64; 14] = [
    0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0,
];

/// How long things took.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Durations {
    /// How many took at most so long, by [`BOUNDS`]; each counts for all longer bounds too.
    pub(crate) within: [u64; BOUNDS.len()],
    /// How many there were.
    pub(crate) count: u64,
    /// How many seconds they took together.
    pub(crate) sum: f64,
}

impl Durations {
    pub(super) fn add(&mut self, time: Duration) {
        let seconds = time.as_secs_f64();
        self.count += 1;
        self.sum += seconds;
        for (count, bound) in self.within.iter_mut().zip(BOUNDS) {
            *count += u64::from(seconds <= bound);
        }
    }
}

/// What was counted of one sort of keys since the queue began.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Record {
    /// Keys that came into the queue.
    pub(crate) adds: u64,
    /// Keys that are to come again later.
    pub(crate) retries: u64,
    /// How long keys waited for their work to begin.
    pub(crate) waited: Durations,
    /// How long the work on them took.
    pub(crate) worked: Durations,
}

/// A [`Record`], and how things stand.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Standing {
    /// What was counted so far.
    pub(crate) record: Record,
    /// Keys that wait.
    pub(crate) depth: usize,
    /// How long all the work under way has taken so far.
    pub(crate) unfinished: Duration,
    /// How long the longest work under way has taken so far.
    pub(crate) longest: Duration,
}
