//! The figures the design promises, measured on the release binary as a user would see them.
//!
//! `cargo xtask bench [-- NAME...]` prints one line a figure: median, range, budget. Nothing is asserted: a missed
//! budget is printed as missed. Real containers need what `tektite run` needs.

use std::collections::HashMap;
use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use futures::{StreamExt, TryStreamExt};
use kube::api::{Api, DynamicObject, Patch, PatchParams, PostParams, WatchEvent, WatchParams};
use kube::core::{ApiResource, GroupVersionKind};
use serde_json::{Value, json};

const BINARY: &str = env!("CARGO_BIN_EXE_tektite");

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let wanted: Vec<String> = std::env::args()
        .skip(1)
        .filter(|a| !a.starts_with("--"))
        .collect();
    let wants = |name: &str| wanted.is_empty() || wanted.iter().any(|w| w == name);
    println!(
        "{:<46} {:>10} {:>21} {:>10}",
        "figure", "median", "range", "budget"
    );
    if wants("size") {
        let mebibytes = fs::metadata(BINARY)?.len() as f64 / 1_048_576.0;
        report("binary, stripped (MiB)", &[mebibytes], 40.0);
    }
    if wants("floor") {
        floor()?;
    }
    if wants("hello") {
        hello()?;
    }
    if wants("up") {
        up().await?;
    }
    if wants("warm") {
        warm().await?;
    }
    if wants("anatomy") {
        anatomy().await?;
    }
    if wants("faked") {
        faked().await?;
    }
    if wants("masking") {
        masking()?;
    }
    Ok(())
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn report(name: &str, samples: &[f64], budget: f64) {
    let mut sorted = samples.to_vec();
    sorted.sort_by(f64::total_cmp);
    let (Some(low), Some(high)) = (sorted.first(), sorted.last()) else {
        println!("{name:<44} no sample");
        return;
    };
    let median = sorted[sorted.len() / 2];
    let line = format!("{name:<46} {median:>10.2} {low:>10.2}..{high:<9.2}");
    match budget.is_finite() {
        false => println!("{line}"),
        true if median <= budget => println!("{line} {budget:>10.1}"),
        true => println!("{line} {budget:>10.1}  missed"),
    }
}

/// What starting a process in fresh namespaces costs on this machine, to read the other figures against.
fn floor() -> anyhow::Result<()> {
    let mut samples = Vec::new();
    for _ in 0..20 {
        let start = Instant::now();
        let status = Command::new("unshare")
            .args(["--mount", "--pid", "--net", "--fork", "true"])
            .status();
        let Ok(status) = status else {
            println!("skipped: floor: no `unshare` on this machine");
            return Ok(());
        };
        if !status.success() {
            println!("skipped: floor: `unshare` is not permitted here");
            return Ok(());
        }
        samples.push(start.elapsed().as_secs_f64() * 1e3);
    }
    report("floor: unshare and exec true (ms)", &samples, f64::INFINITY);
    Ok(())
}

/// What masking costs a step that writes 1 GiB: its entrypoint alone, with secrets to look for against without.
fn masking() -> anyhow::Result<()> {
    let producers = [
        (
            "masking: `head -c` writes 1 GiB (% more)",
            5.0,
            ["head", "-c", "1073741824", "/dev/zero"],
        ),
        // It does nothing but write, and so is as fast as the file system.
        (
            "masking: `dd` writes 1 GiB (% more)",
            f64::INFINITY,
            ["dd", "if=/dev/zero", "bs=64k", "count=16384"],
        ),
    ];
    let directory = tempfile::tempdir()?;
    let secrets = directory.path().join("secrets");
    fs::create_dir(&secrets)?;
    // As they come: a password, a token, a key of many lines.
    let letters = |count: usize, seed: usize| -> String {
        let letter =
            |i: usize| char::from(b"ABCDEFGHIJKLMNOPabcdefghijklmnop"[(i * i + i * seed) % 31]);
        (0..count).map(letter).collect()
    };
    fs::write(secrets.join("password"), letters(16, 3))?;
    fs::write(secrets.join("token"), letters(900, 5))?;
    let lines: Vec<String> = (0..26).map(|line| letters(64, 7 + line)).collect();
    fs::write(secrets.join("key"), lines.join("\n"))?;
    for (name, budget, command) in producers {
        let mut samples = Vec::new();
        for round in 0..6 {
            let plain = write_much(directory.path(), None, &command)?;
            let masked = write_much(directory.path(), Some(&secrets), &command)?;
            let (Some(plain), Some(masked)) = (plain, masked) else {
                println!("skipped: masking: no `busybox` on this machine");
                return Ok(());
            };
            if round > 0 {
                samples.push((masked / plain - 1.0) * 100.0);
            }
        }
        report(name, &samples, budget);
    }
    Ok(())
}

/// Seconds that a step takes to write its log; nothing where there is no busybox.
fn write_much(
    directory: &Path,
    secrets: Option<&Path>,
    command: &[&str],
) -> anyhow::Result<Option<f64>> {
    let log = directory.join("log");
    let file = fs::File::create(&log)?;
    let mut step = Command::new(env!("TEKTITE_ENTRYPOINT"));
    step.arg("-tekton_root").arg(directory);
    step.arg("-termination_path")
        .arg(directory.join("termination"));
    step.arg("-step_metadata_dir").arg(directory.join("step"));
    if let Some(secrets) = secrets {
        step.arg("-mask_file").arg(secrets);
    }
    step.args(["-entrypoint", "busybox", "--"]).args(command);
    let start = Instant::now();
    let status = step
        .stdin(Stdio::null())
        .stdout(file.try_clone()?)
        .stderr(file)
        .status()?;
    let seconds = start.elapsed().as_secs_f64();
    let length = fs::metadata(&log)?.len();
    fs::remove_file(&log)?;
    let _ = fs::remove_file(directory.join("termination"));
    Ok((status.success() && length >= 1 << 30).then_some(seconds))
}

fn hello() -> anyhow::Result<()> {
    let mut samples = Vec::new();
    for round in 0..16 {
        let start = Instant::now();
        let output = Command::new(BINARY)
            .args(["run", "examples/hello"])
            .current_dir(root())
            .stdin(Stdio::null())
            .output()?;
        ensure!(
            output.status.success(),
            "run examples/hello: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        if round > 0 {
            samples.push(start.elapsed().as_secs_f64() * 1e3);
        }
    }
    report("from nothing to the end of hello (ms)", &samples, 150.0);
    Ok(())
}

/// A cluster started for the bench, killed when dropped.
struct Up {
    child: Child,
    directory: tempfile::TempDir,
    ready: Duration,
}

impl Up {
    async fn start(arguments: &[&str]) -> anyhow::Result<Self> {
        let directory = tempfile::tempdir()?;
        let start = Instant::now();
        let mut child = Command::new(BINARY)
            .arg("up")
            .arg("--data-dir")
            .arg(directory.path())
            .args(["--listen", "127.0.0.1:0"])
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()?;
        let mut line = String::new();
        let output = child.stdout.take().context("its output is piped")?;
        BufReader::new(output).read_line(&mut line)?;
        ensure!(line.contains("ready"), "`tektite up` said {line:?}");
        Ok(Self {
            child,
            directory,
            ready: start.elapsed(),
        })
    }

    async fn client(&self) -> anyhow::Result<kube::Client> {
        let kubeconfig =
            kube::config::Kubeconfig::read_from(self.directory.path().join("kubeconfig"))?;
        let config = kube::Config::from_custom_kubeconfig(kubeconfig, &Default::default()).await?;
        Ok(kube::Client::try_from(config)?)
    }
}

impl Drop for Up {
    fn drop(&mut self) {
        let _ = Command::new(BINARY)
            .args(["down", "--data-dir"])
            .arg(self.directory.path())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status();
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

async fn up() -> anyhow::Result<()> {
    let mut ready = Vec::new();
    for _ in 0..7 {
        let up = Up::start(&[]).await?;
        ready.push(up.ready.as_secs_f64() * 1e3);
    }
    report("up: ready (ms)", &ready, 200.0);
    let up = Up::start(&[]).await?;
    tokio::time::sleep(Duration::from_secs(5)).await;
    let members = family(up.child.id());
    let shared_once: f64 = members.iter().copied().map(resident_mebibytes).sum();
    report(
        "up: resident idle, with its helpers (MiB)",
        &[shared_once],
        25.0,
    );
    let each: f64 = members
        .iter()
        .map(|pid| memory_mebibytes(*pid, "status", "VmRSS:").unwrap_or(0.0))
        .sum();
    report(
        "  pages shared by its processes counted twice",
        &[each],
        f64::INFINITY,
    );
    let started = cpu_milliseconds(up.child.id())?;
    tokio::time::sleep(Duration::from_secs(5)).await;
    let idle = cpu_milliseconds(up.child.id())? - started;
    report("up: CPU idle (ms per s)", &[idle / 5.0], 1.0);
    Ok(())
}

/// A process and its descendants.
fn family(root: u32) -> Vec<u32> {
    let mut members = vec![root];
    let parents: Vec<(u32, u32)> = fs::read_dir("/proc")
        .into_iter()
        .flatten()
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter_map(|pid: u32| {
            let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
            let parent = stat
                .rsplit_once(')')?
                .1
                .split_whitespace()
                .nth(1)?
                .parse()
                .ok()?;
            Some((pid, parent))
        })
        .collect();
    let mut next = 0;
    while next < members.len() {
        let parent = members[next];
        members.extend(
            parents
                .iter()
                .filter(|(_, p)| *p == parent)
                .map(|(pid, _)| *pid),
        );
        next += 1;
    }
    members
}

/// Resident memory, a page that processes share counted once in all (PSS where the kernel tells).
fn resident_mebibytes(pid: u32) -> f64 {
    memory_mebibytes(pid, "smaps_rollup", "Pss:")
        .or_else(|| memory_mebibytes(pid, "status", "VmRSS:"))
        .unwrap_or(0.0)
}

fn memory_mebibytes(pid: u32, file: &str, key: &str) -> Option<f64> {
    let text = fs::read_to_string(format!("/proc/{pid}/{file}")).ok()?;
    let line = text.lines().find(|line| line.starts_with(key))?;
    let kibibytes: f64 = line.split_whitespace().nth(1)?.parse().ok()?;
    Some(kibibytes / 1024.0)
}

fn kind(name: &str, plural: &str) -> ApiResource {
    ApiResource::from_gvk_with_plural(&GroupVersionKind::gvk("tekton.dev", "v1", name), plural)
}

fn steps(image: &str) -> Value {
    json!([{"name": "s", "image": image, "command": ["/bin/true"]}])
}

fn task_run(name: &str) -> Value {
    json!({"apiVersion": "tekton.dev/v1", "kind": "TaskRun", "metadata": {"name": name},
           "spec": {"taskSpec": {"steps": steps("host")}}})
}

fn pipeline_run(name: &str, tasks: &[(String, Vec<String>)]) -> Value {
    let tasks: Vec<Value> = tasks
        .iter()
        .map(|(task, after)| json!({"name": task, "runAfter": after, "taskSpec": {"steps": steps("host")}}))
        .collect();
    json!({"apiVersion": "tekton.dev/v1", "kind": "PipelineRun", "metadata": {"name": name},
           "spec": {"pipelineSpec": {"tasks": tasks}}})
}

fn chain() -> Vec<(String, Vec<String>)> {
    vec![
        ("a".into(), vec![]),
        ("b".into(), vec!["a".into()]),
        ("c".into(), vec!["b".into()]),
    ]
}

fn fan_out() -> Vec<(String, Vec<String>)> {
    let middle: Vec<String> = (0..8).map(|i| format!("m{i}")).collect();
    let mut tasks = vec![("first".to_owned(), vec![])];
    tasks.extend(
        middle
            .iter()
            .map(|name| (name.clone(), vec!["first".to_owned()])),
    );
    tasks.push(("last".to_owned(), middle));
    tasks
}

async fn warm() -> anyhow::Result<()> {
    let up = Up::start(&[]).await?;
    let client = up.client().await?;
    let task_runs: Api<DynamicObject> =
        Api::namespaced_with(client.clone(), "default", &kind("TaskRun", "taskruns"));
    let pipeline_runs: Api<DynamicObject> =
        Api::namespaced_with(client, "default", &kind("PipelineRun", "pipelineruns"));
    let single = rounds(&task_runs, 40, |i| task_run(&format!("one-{i}"))).await?;
    report("warm: one-step TaskRun (ms)", &single, 60.0);
    let three = rounds(&pipeline_runs, 15, |i| {
        pipeline_run(&format!("chain-{i}"), &chain())
    })
    .await?;
    report("warm: chain of three (ms)", &three, 180.0);
    let fan = rounds(&pipeline_runs, 10, |i| {
        pipeline_run(&format!("fan-{i}"), &fan_out())
    })
    .await?;
    report("warm: fan-out of eight (ms)", &fan, 300.0);
    Ok(())
}

/// Creates runs one after the other; milliseconds from the request to create to the event that says Succeeded.
async fn rounds(
    api: &Api<DynamicObject>,
    count: usize,
    make: impl Fn(usize) -> Value,
) -> anyhow::Result<Vec<f64>> {
    let list = api.list(&Default::default()).await?;
    let version = list.metadata.resource_version.unwrap_or_default();
    let mut events = api
        .watch(&WatchParams::default().timeout(290), &version)
        .await?
        .boxed();
    let mut samples = Vec::new();
    for i in 0..count {
        let object: DynamicObject = serde_json::from_value(make(i))?;
        let name = object.metadata.name.clone();
        let start = Instant::now();
        api.create(&PostParams::default(), &object).await?;
        loop {
            let event = tokio::time::timeout(Duration::from_secs(30), events.try_next()).await;
            let Some(event) = event.context("no end within 30 s")?? else {
                bail!("the watch ended")
            };
            let (WatchEvent::Added(seen) | WatchEvent::Modified(seen)) = event else {
                continue;
            };
            if seen.metadata.name != name {
                continue;
            }
            match outcome(&seen.data) {
                Some(true) => break,
                Some(false) => bail!("{name:?} failed: {}", seen.data["status"]["conditions"]),
                None => {}
            }
        }
        if i > 0 {
            samples.push(start.elapsed().as_secs_f64() * 1e3);
        }
    }
    Ok(samples)
}

/// Where the time of a one-step TaskRun goes, as somebody sees it who watches its objects.
async fn anatomy() -> anyhow::Result<()> {
    const ROUNDS: usize = 30;
    let up = Up::start(&[]).await?;
    let client = up.client().await?;
    let task_runs: Api<DynamicObject> =
        Api::namespaced_with(client.clone(), "default", &kind("TaskRun", "taskruns"));
    let resource =
        ApiResource::from_gvk_with_plural(&GroupVersionKind::gvk("", "v1", "Pod"), "pods");
    let pods: Api<DynamicObject> = Api::namespaced_with(client, "default", &resource);
    let watch = WatchParams::default().timeout(290);
    let runs = task_runs.watch(&watch, "0").await?.boxed();
    let mut events = futures::stream::select(runs, pods.watch(&watch, "0").await?.boxed());
    let mut seen: Vec<(&str, Vec<f64>)> = Vec::new();
    let mut note = |what: &'static str, start: Instant, done: &mut HashMap<&'static str, ()>| {
        if done.insert(what, ()).is_none() {
            let elapsed = start.elapsed().as_secs_f64() * 1e3;
            match seen.iter_mut().find(|(name, _)| *name == what) {
                Some((_, samples)) => samples.push(elapsed),
                None => seen.push((what, vec![elapsed])),
            }
        }
    };
    for round in 0..ROUNDS {
        let name = format!("anatomy-{round}");
        let object: DynamicObject = serde_json::from_value(task_run(&name))?;
        let mut done = HashMap::new();
        let start = Instant::now();
        let parameters = PostParams::default();
        let create = task_runs.create(&parameters, &object);
        let mut create = std::pin::pin!(create);
        let mut acknowledged = false;
        while !acknowledged || !done.contains_key("TaskRun: Succeeded") {
            tokio::select! {
                created = &mut create, if !acknowledged => {
                    created?;
                    acknowledged = true;
                    note("create acknowledged (on disk)", start, &mut done);
                }
                event = events.try_next() => {
                    let Some(WatchEvent::Added(object) | WatchEvent::Modified(object)) = event? else {
                        continue;
                    };
                    let of = object.metadata.name.as_deref().unwrap_or_default();
                    if of.strip_suffix("-pod").unwrap_or(of) == name {
                        milestones(&object.data, of != name).into_iter().for_each(|what| note(what, start, &mut done));
                    }
                }
            }
        }
    }
    seen.sort_by(|a, b| middle(&a.1).total_cmp(&middle(&b.1)));
    println!("a one-step TaskRun from create on, as its watcher sees it");
    for (what, samples) in &seen {
        report(&format!("  {what} (ms)"), samples, f64::INFINITY);
    }
    Ok(())
}

fn middle(samples: &[f64]) -> f64 {
    let mut sorted = samples.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted[sorted.len() / 2]
}

/// What this state of a TaskRun or its pod says has happened.
fn milestones(object: &Value, is_pod: bool) -> Vec<&'static str> {
    if !is_pod {
        let mut reached = vec!["TaskRun: seen"];
        reached.extend((!object["status"]["startTime"].is_null()).then_some("TaskRun: started"));
        reached.extend((outcome(object) == Some(true)).then_some("TaskRun: Succeeded"));
        return reached;
    }
    let mut reached = vec!["pod: seen"];
    reached.extend((!object["spec"]["nodeName"].is_null()).then_some("pod: bound"));
    let status = &object["status"];
    let container = &status["containerStatuses"][0]["state"];
    let began = !container["running"].is_null() || !container["terminated"].is_null();
    reached.extend(began.then_some("pod: container started"));
    reached.extend((!container["terminated"].is_null()).then_some("pod: container ended"));
    reached.extend((status["phase"] == "Succeeded").then_some("pod: Succeeded"));
    reached
}

fn outcome(run: &Value) -> Option<bool> {
    let conditions = run["status"]["conditions"].as_array()?;
    let succeeded = conditions.iter().find(|c| c["type"] == "Succeeded")?;
    match succeeded["status"].as_str()? {
        "True" => Some(true),
        "False" => Some(false),
        _ => None,
    }
}

/// The control plane alone: `up --no-node`, and pods that end as soon as they are seen.
async fn faked() -> anyhow::Result<()> {
    const RUNS: usize = 1000;
    let up = Up::start(&["--no-node"]).await?;
    let client = up.client().await?;
    let kubelet = tokio::spawn(fake_kubelet(client.clone()));
    let api: Api<DynamicObject> =
        Api::namespaced_with(client, "default", &kind("TaskRun", "taskruns"));
    finish(&api, 50, "warm-up").await?;
    let before = cpu_milliseconds(up.child.id())?;
    let start = Instant::now();
    finish(&api, RUNS, "load").await?;
    let wall = start.elapsed().as_secs_f64();
    let spent = cpu_milliseconds(up.child.id())? - before;
    kubelet.abort();
    report(
        "control plane CPU per TaskRun, pods faked (ms)",
        &[spent / RUNS as f64],
        1.0,
    );
    println!(
        "{:<46} {:>10.0}",
        "TaskRuns per second, pods faked",
        RUNS as f64 / wall
    );
    report(
        "resident with 1000 finished runs (MiB)",
        &[resident_mebibytes(up.child.id())],
        150.0,
    );
    Ok(())
}

async fn finish(api: &Api<DynamicObject>, count: usize, prefix: &str) -> anyhow::Result<()> {
    let version = api
        .list(&Default::default())
        .await?
        .metadata
        .resource_version
        .unwrap_or_default();
    let mut events = api
        .watch(&WatchParams::default().timeout(290), &version)
        .await?
        .boxed();
    let creations = futures::stream::iter(0..count).map(|i| {
        let object = serde_json::from_value::<DynamicObject>(task_run(&format!("{prefix}-{i}")));
        async move {
            anyhow::Ok(
                api.create(&PostParams::default(), &object?)
                    .await
                    .map(drop)?,
            )
        }
    });
    let create = creations.buffer_unordered(16).try_collect::<()>();
    let watch = async {
        let mut open: HashMap<String, ()> =
            (0..count).map(|i| (format!("{prefix}-{i}"), ())).collect();
        while !open.is_empty() {
            let event = tokio::time::timeout(Duration::from_secs(60), events.try_next()).await;
            let Some(event) = event.context("no progress within 60 s")?? else {
                bail!("the watch ended")
            };
            if let WatchEvent::Modified(seen) = event
                && outcome(&seen.data).is_some()
            {
                open.remove(seen.metadata.name.as_deref().unwrap_or_default());
            }
        }
        anyhow::Ok(())
    };
    futures::try_join!(create, watch)?;
    Ok(())
}

/// User and system time of the whole process, in milliseconds.
fn cpu_milliseconds(pid: u32) -> anyhow::Result<f64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let fields = stat.rsplit_once(')').context("an unreadable stat line")?.1;
    let ticks: f64 = fields
        .split_whitespace()
        .skip(11)
        .take(2)
        .filter_map(|field| field.parse::<f64>().ok())
        .sum();
    Ok(ticks * 10.0)
}

/// Marks each pod Running, then Succeeded, as a kubelet would, without running anything.
async fn fake_kubelet(client: kube::Client) -> anyhow::Result<()> {
    let resource =
        ApiResource::from_gvk_with_plural(&GroupVersionKind::gvk("", "v1", "Pod"), "pods");
    let pods: Api<DynamicObject> = Api::all_with(client.clone(), &resource);
    let mut events = pods
        .watch(&WatchParams::default().timeout(290), "0")
        .await?
        .boxed();
    let mut seen = std::collections::HashSet::new();
    while let Some(event) = events.try_next().await? {
        let (WatchEvent::Added(pod) | WatchEvent::Modified(pod)) = event else {
            continue;
        };
        let name = pod.metadata.name.clone().unwrap_or_default();
        if !seen.insert(name.clone()) {
            continue;
        }
        let namespace = pod.metadata.namespace.clone().unwrap_or_default();
        let api: Api<DynamicObject> = Api::namespaced_with(client.clone(), &namespace, &resource);
        tokio::spawn(async move {
            let now = jiff::Timestamp::now()
                .strftime("%Y-%m-%dT%H:%M:%SZ")
                .to_string();
            let (running, done) = (statuses(&pod, &now, false), statuses(&pod, &now, true));
            let running = json!({"status": {"phase": "Running", "startTime": now, "podIP": "10.0.0.1",
                "conditions": [{"type": "Ready", "status": "True"}], "containerStatuses": running}});
            let done = json!({"status": {"phase": "Succeeded", "containerStatuses": done}});
            for patch in [running, done] {
                if api
                    .patch_status(&name, &PatchParams::default(), &Patch::Merge(&patch))
                    .await
                    .is_err()
                {
                    return;
                }
            }
        });
    }
    Ok(())
}

fn statuses(pod: &DynamicObject, now: &str, done: bool) -> Vec<Value> {
    let containers = pod.data["spec"]["containers"]
        .as_array()
        .cloned()
        .unwrap_or_default();
    let message = json!([{"key": "StartedAt", "value": now, "type": 3}]).to_string();
    let state = if done {
        json!({"terminated": {"exitCode": 0, "reason": "Completed", "startedAt": now, "finishedAt": now, "message": message}})
    } else {
        json!({"running": {"startedAt": now}})
    };
    containers
        .iter()
        .map(|c| {
            json!({"name": c["name"], "image": c["image"], "imageID": "sha256:0", "containerID": "fake://c",
                   "ready": !done, "started": !done, "restartCount": 0, "state": state})
        })
        .collect()
}
