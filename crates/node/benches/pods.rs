//! How long pods take from their creation in the API to their last status, on a fake API.

#[path = "../tests/support/mod.rs"]
#[allow(dead_code)]
mod support;

use std::time::{Duration, Instant};

use serde_json::json;
use support::{World, sh};

fn main() {
    let rounds: usize = std::env::args()
        .filter_map(|argument| argument.parse().ok())
        .next()
        .unwrap_or(30);
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    runtime.block_on(async {
        let begun = Instant::now();
        let world = World::start().await;
        println!("node start {:>8.2} ms", millis(begun.elapsed()));
        let mut times = Vec::new();
        for round in 0..rounds {
            let begun = Instant::now();
            let path = world.pod(
                &format!("one-{round}"),
                json!({"containers": [sh("c", ":")]}),
            );
            world.phase(&path, "Succeeded").await;
            times.push(begun.elapsed());
        }
        report("one container", &mut times);
        let mut times = Vec::new();
        for round in 0..rounds.div_ceil(4) {
            let begun = Instant::now();
            let paths: Vec<String> = (0..8)
                .map(|number| {
                    world.pod(
                        &format!("eight-{round}-{number}"),
                        json!({"containers": [sh("c", ":")]}),
                    )
                })
                .collect();
            for path in &paths {
                world.phase(path, "Succeeded").await;
            }
            times.push(begun.elapsed());
        }
        report("eight pods", &mut times);
        let mut times = Vec::new();
        for round in 0..rounds.div_ceil(4) {
            let containers: Vec<_> = (0..3)
                .map(|number| sh(&format!("c{number}"), ":"))
                .collect();
            let begun = Instant::now();
            let path = world.pod(&format!("three-{round}"), json!({"containers": containers}));
            world.phase(&path, "Succeeded").await;
            times.push(begun.elapsed());
        }
        report("three containers", &mut times);
        let begun = Instant::now();
        world.end().await;
        println!("node end   {:>8.2} ms", millis(begun.elapsed()));
    });
}

fn millis(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1000.0
}

fn report(what: &str, times: &mut [Duration]) {
    times.sort();
    let at = |part: f64| {
        times
            .get(((times.len() - 1) as f64 * part) as usize)
            .copied()
            .unwrap_or_default()
    };
    println!(
        "{what:<17} median {:>7.2} ms, best {:>7.2} ms, p90 {:>7.2} ms",
        millis(at(0.5)),
        millis(at(0.0)),
        millis(at(0.9))
    );
}
