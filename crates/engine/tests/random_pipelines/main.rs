//! Random pipelines with random outcomes, watched through caches that lag, with lost writes and restarts.
//!
//! `SEED=<n> cargo test -p tektite-engine --test random_pipelines` replays one case and prints its pipeline;
//! `CASES=<n>` sets how many there are (`cargo xtask test` asks for more, optimised), and `FROM=<n>` which is the first. Every
//! case follows from its number alone.
//!
//! The model of the world: every child has a history of versions, and a cache has seen some beginning of it, each child's
//! apart from the others'. So observations come late, in any order between children, several at once, or again, but never
//! an earlier version of a child after a later one. A status is only written over the version it was made from; a
//! controller may die between any two effects or before it writes the status, and sees everything when it starts again.
//! What the status names and no cache holds is looked up, as `Observed` demands.

mod dice;
mod draw;
mod life;
mod promises;
mod story;

use std::collections::{BTreeMap, BTreeSet};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use tektite_api::config::Config;

use dice::Dice;
use story::Story;

/// Cases of an ordinary test run.
const CASES: u64 = 200;
/// From this many cases on everything in [`EXPECTED`] must have come up.
const ENOUGH: u64 = 20_000;

/// What the drawn cases must have shown, or they test less than they claim.
const EXPECTED: [&str; 28] = [
    "a child is made again and is there already",
    "a controller dies before it writes the status",
    "a controller dies between two effects",
    "a custom task runs",
    "a finally task runs although the run was cancelled",
    "a finally task runs",
    "a pipeline has more than 40 tasks",
    "a pipeline has results",
    "a run ends Cancelled",
    "a run ends Completed",
    "a run ends Failed",
    "a run ends PipelineRunTimeout",
    "a run ends PipelineValidationFailed",
    "a run ends Succeeded",
    "a status is refused as it was made from an old one",
    "a task fans out over a result",
    "a task fans out",
    "a task has its own timeout",
    "a task is retried",
    "a task is skipped: Matrix Parameters have an empty array",
    "a task is skipped: Parent Tasks were skipped",
    "a task is skipped: PipelineRun Tasks timeout has been reached",
    "a task is skipped: PipelineRun timeout has been reached",
    "a task is skipped: PipelineRun was gracefully cancelled",
    "a task is skipped: PipelineRun was gracefully stopped",
    "a task is skipped: PipelineRun was stopping",
    "a task is skipped: Results were missing",
    "a task is skipped: When Expressions evaluated to false",
];

/// Numbers of the cases in which something came up.
type CameUp = BTreeMap<String, u64>;

#[test]
fn random_pipelines_keep_their_promises() {
    // P-117, P-118, P-120, P-169, P-175, P-264, P-285
    if let Some(seed) = number("SEED") {
        let dice = &mut Dice(seed);
        let calm = dice.chance(50);
        println!("{}", draw::run_spec(dice, calm));
        let (faults, came_up) = case(seed, &Arc::default());
        println!("{came_up:?}");
        assert!(faults.is_empty(), "seed {seed}: {}", faults.join("\n"));
        return;
    }
    let cases = number("CASES").unwrap_or(CASES);
    let first = number("FROM").unwrap_or(0);
    let (next, failed) = (AtomicU64::new(first), AtomicU64::new(u64::MAX));
    let all = Mutex::new(CameUp::new());
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(|| {
                let came_up = work(first.saturating_add(cases), &next, &failed);
                let mut all = all.lock().expect("no thread panics with the lock");
                for (what, times) in came_up {
                    *all.entry(what).or_default() += times;
                }
            });
        }
    });
    let seed = failed.into_inner();
    if seed != u64::MAX {
        let replay = format!("SEED={seed} cargo test -p tektite-engine --test random_pipelines");
        let faults = catch_unwind(|| case(seed, &Arc::default()).0)
            .unwrap_or_else(|_| vec!["it panicked".to_owned()]);
        panic!("seed {seed}: {}\nreplay: {replay}", faults.join("\n"));
    }
    let came_up = all.into_inner().expect("no thread panics with the lock");
    for (what, times) in &came_up {
        println!("{times:>7} {what}");
    }
    let missing = EXPECTED.iter().find(|it| !came_up.contains_key(**it));
    assert!(
        cases < ENOUGH || missing.is_none(),
        "in {cases} cases it never came up that {missing:?}"
    );
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

/// Plays cases until the next is `end` or one has failed.
fn work(end: u64, next: &AtomicU64, failed: &AtomicU64) -> CameUp {
    let config = Arc::default();
    let mut all = CameUp::new();
    while failed.load(Ordering::Relaxed) == u64::MAX {
        let seed = next.fetch_add(1, Ordering::Relaxed);
        if seed >= end {
            break;
        }
        match catch_unwind(AssertUnwindSafe(|| case(seed, &config))) {
            Ok((faults, came_up)) if faults.is_empty() => {
                for what in came_up {
                    *all.entry(what).or_default() += 1;
                }
            }
            _ => {
                failed.fetch_min(seed, Ordering::Relaxed);
            }
        }
    }
    all
}

/// Plays one case: what is wrong with it, and what came up in it.
fn case(seed: u64, config: &Arc<Config>) -> (Vec<String>, BTreeSet<String>) {
    let mut dice = Dice(seed);
    // In calm cases no failure stops a pipeline, so the order of events must not matter.
    let calm = dice.chance(50);
    let spec = draw::run_spec(&mut dice, calm);
    let mut story = Story::new(seed, calm, &spec, config);
    story.chaos(&mut dice);
    story.peace();
    let mut faults = story.broken_promises();
    if calm {
        let mut orderly = Story::new(seed, calm, &spec, config);
        orderly.peace();
        faults.append(&mut orderly.faults);
        if let Some(difference) = story.end_state().difference(&orderly.end_state()) {
            faults.push(format!(
                "the end depends on the order of observation: {difference}; it made {}, else {}",
                story.names().join(" "),
                orderly.names().join(" ")
            ));
        }
    }
    (faults, story.what_came_up())
}
