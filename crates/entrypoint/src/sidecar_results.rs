//! Results through a sidecar's log: waits for the steps and prints what they left (T-314 to T-317).

use alloc::borrow::ToOwned;
use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::time::Duration;

use crate::json_value::Value;
use crate::path::Path;
use crate::system::process::variable;
use crate::system::{clock, fs, stdout, write_all};
use crate::{duration, json, log::log, prepare};

#[derive(Debug)]
struct Options {
    root: Path,
    results: Path,
    result_names: Vec<String>,
    step_results: BTreeMap<String, Vec<String>>,
    step_names: Vec<String>,
    stay: bool,
}

pub(crate) fn main(arguments: &[Vec<u8>], environment: &[(Vec<u8>, Vec<u8>)]) -> u8 {
    let result = parse(arguments).and_then(|options| {
        wait_for_steps(&options.root.join("run"), environment)?;
        let mut out = Vec::new();
        print(&options, &mut out)?;
        write_all(stdout(), &out).map_err(|error| format!("error writing results: {error}"))?;
        if options.stay {
            // A native sidecar ends when the kubelet tells it to (T-329).
            prepare::until_stopped().map_err(|error| error.to_string())?;
        }
        Ok(())
    });
    match result {
        Ok(()) => 0,
        Err(message) => {
            log(&message);
            1
        }
    }
}

fn parse(arguments: &[Vec<u8>]) -> Result<Options, String> {
    let mut options = Options {
        root: "/tekton".into(),
        results: "/tekton/results".into(),
        result_names: Vec::new(),
        step_results: BTreeMap::new(),
        step_names: Vec::new(),
        stay: false,
    };
    let mut arguments = arguments
        .iter()
        .map(|argument| String::from_utf8_lossy(argument));
    while let Some(argument) = arguments.next() {
        let flag = argument.trim_start_matches('-');
        let (name, value) = match flag.split_once('=') {
            Some((name, value)) => (name.to_owned(), value.to_owned()),
            None => {
                let value = arguments
                    .next()
                    .ok_or_else(|| format!("flag needs an argument: -{flag}"))?;
                (flag.to_owned(), value.into_owned())
            }
        };
        let list = |value: &str| {
            value
                .split(',')
                .filter(|name| !name.is_empty())
                .map(str::to_owned)
                .collect()
        };
        match name.as_str() {
            "tekton_root" => options.root = Path::new(value),
            "results-dir" => options.results = Path::new(value),
            "result-names" => options.result_names = list(&value),
            "step-names" => options.step_names = list(&value),
            "step-results" => {
                options.step_results = Value::parse(value.as_bytes())?
                    .into_members()?
                    .into_iter()
                    .map(|(step, names)| Ok((step, names.into_texts()?)))
                    .collect::<Result<_, String>>()?
            }
            "kubernetes-sidecar-mode" => options.stay = value == "true",
            _ => return Err(format!("flag provided but not defined: -{name}")),
        }
    }
    Ok(options)
}

/// Until every step is done, or one has failed: then the later ones never start.
fn wait_for_steps(run: &Path, environment: &[(Vec<u8>, Vec<u8>)]) -> Result<(), String> {
    let interval = variable(environment, "SIDECAR_LOG_POLLING_INTERVAL")
        .and_then(|text| duration::parse(core::str::from_utf8(text).ok()?))
        .map_or(Duration::from_millis(100), |(_, it)| it);
    let entries =
        fs::read_dir(run).map_err(|error| format!("error parsing the run dir  {error}"))?;
    let mut waiting: Vec<Path> = entries
        .into_iter()
        .map(|name| run.join(name).join("out"))
        .collect();
    loop {
        waiting.retain(|file| !fs::is_file(file));
        if waiting.is_empty() || waiting.iter().any(|file| fs::is_file(&file.with(".err"))) {
            return Ok(());
        }
        clock::sleep(interval.max(Duration::from_millis(1)));
    }
}

fn print(options: &Options, out: &mut Vec<u8>) -> Result<(), String> {
    for name in &options.result_names {
        line(out, name, &options.results.join(name), "task")?;
    }
    let steps = options.root.join("steps");
    for (step, names) in &options.step_results {
        for name in names {
            line(
                out,
                &format!("{step}.{name}"),
                &steps.join(step).join("results").join(name),
                "step",
            )?;
        }
    }
    for step in &options.step_names {
        line(
            out,
            step,
            &steps.join(step).join("artifacts/provenance.json"),
            "stepArtifact",
        )?;
    }
    Ok(())
}

/// One `{"name","value","type"}`; nothing for a file that does not exist.
fn line(out: &mut Vec<u8>, name: &str, file: &Path, kind: &str) -> Result<(), String> {
    let value = match fs::read(file) {
        Ok(value) => value,
        Err(error) if error.is_not_found() => return Ok(()),
        Err(error) => return Err(format!("error reading the results file {error}")),
    };
    let mut text = String::from("{\"name\":");
    json::string(&mut text, name.as_bytes());
    text.push_str(",\"value\":");
    json::string(&mut text, &value);
    text.push_str(",\"type\":");
    json::string(&mut text, kind.as_bytes());
    text.push_str("}\n");
    out.extend_from_slice(text.as_bytes());
    Ok(())
}
