//! The node as a whole: starting it, watching pods, reading logs, stopping it.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::future::BoxFuture;
use futures::{StreamExt, TryStreamExt};
use k8s_openapi::api::core::v1::{Node as NodeObject, Pod};
use kube::api::{Patch, PatchParams};
use kube::runtime::watcher;
use kube::{Api, ResourceExt};
use serde_json::json;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;

use crate::environment::Facts;
use crate::launcher::{self, Ended, Launch, Launcher};
use crate::log_files::LogWatch;
use crate::logs::{self, LogError, LogOptions, LogStream};
use crate::memory;
use crate::network::Network;
use crate::options::{Disposition, Lifetime, NodeOptions, RemoveError, StartError};
use crate::pod::worker::{End, Event, Sender, Worker, delete_now};
use crate::shared::{Layout, Parts, Shared, parse_container_id};

/// A running node; clones share it. Dropping the last one does not stop it: call [`Node::shutdown`].
#[derive(Clone)]
pub struct Node {
    inner: Arc<Inner>,
}

struct Inner {
    shared: Arc<Shared>,
    pods: Pods,
    tasks: Mutex<Vec<JoinHandle<()>>>,
    /// Number of workers, to wait for their end.
    busy: watch::Receiver<usize>,
}

/// Workers by the UID of their pod; `None` for pods that have ended.
type Pods = Arc<Mutex<HashMap<String, Entry>>>;

struct Entry {
    namespace: String,
    name: String,
    worker: Option<Sender>,
    /// The API has no such pod any more; its worker is clearing up.
    gone: bool,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Node {
    /// Starts the launcher, takes over what an earlier node on this directory left, registers the Node object and
    /// begins to run pods.
    ///
    /// # Errors
    /// If the directory cannot be used, the launcher does not start or the API refuses the Node object.
    //
    // Boxed, so that it is compiled here and not by whoever awaits it.
    pub fn start(options: NodeOptions) -> BoxFuture<'static, Result<Self, StartError>> {
        Box::pin(Self::begin(options))
    }

    async fn begin(options: NodeOptions) -> Result<Self, StartError> {
        let layout = lay_out(&options.data_dir)?;
        let program = options
            .launcher
            .clone()
            .unwrap_or_else(|| PathBuf::from("/proc/self/exe"));
        let mut hidden = options.hidden.clone();
        hidden.push(absolute(&options.data_dir));
        hidden.push(layout.memory_root().to_path_buf());
        let mut scrap = options.scrap.clone();
        if options.lifetime == Lifetime::Private {
            scrap.push(layout.memory_root().to_path_buf());
        }
        let again = Again {
            directory: layout.launcher(),
            program,
            bound: options.lifetime == Lifetime::Private,
            scrap,
            hidden,
        };
        let registered = register(&options);
        let (launcher, registered) = tokio::join!(Launcher::connect(again.launch()), registered);
        let (launcher, ends) = launcher.map_err(|error| {
            // Nothing has been put there unless an earlier node did.
            let _ = fs::remove_file(layout.memory_root().join(memory::OWNER))
                .and_then(|()| fs::remove_dir(layout.memory_root()));
            StartError::Launcher(error)
        })?;
        if let Err(error) = registered {
            if options.lifetime == Lifetime::Private {
                launcher.end().await;
            }
            return Err(StartError::Register(error));
        }
        let warnings = launcher.greeting().warnings.clone();
        reap_orphans(&layout, &launcher);
        let logs = LogWatch::start().map_err(|source| StartError::DataDir {
            path: options.data_dir.clone(),
            source,
        })?;
        let bridge = format!("tektite{:08x}", hash(&layout.pods()) as u32);
        let network = Network::start(options.network, &launcher, &bridge).await;
        let (network, network_warning) = (network.network, network.warning);
        let shared = Arc::new(Shared::new(Parts {
            name: options.name.clone(),
            client: options.client.clone(),
            images: options.images.clone(),
            launcher,
            facts: Facts {
                api: options.api_address.clone(),
                host_ip: host_address(),
                cpus: cpus(),
                memory: memory(),
                ..Facts::default()
            },
            layout,
            network,
            logs,
            hears: options.hears.clone(),
        }));
        for warning in warnings.iter().chain(&network_warning) {
            shared.warn_once(warning);
        }
        let pods = Pods::default();
        let (count, busy) = watch::channel(0);
        let registry = Registry {
            shared: shared.clone(),
            pods: pods.clone(),
            strays: Arc::default(),
            count: Arc::new(count),
        };
        let tasks = vec![
            tokio::spawn(registry.clone().hear_ends(ends, again)),
            tokio::spawn(registry.watch_pods()),
        ];
        Ok(Self {
            inner: Arc::new(Inner {
                shared,
                pods,
                tasks: Mutex::new(tasks),
                busy,
            }),
        })
    }

    /// Name of the Node object.
    pub fn name(&self) -> &str {
        &self.inner.shared.name
    }

    /// Whether pods share this machine's network instead of having their own.
    pub fn shares_network(&self) -> bool {
        self.inner.shared.network.is_none()
    }

    /// Removes directories of ended pods' volumes, whose files may belong to other ids than this process'.
    ///
    /// # Errors
    /// If some of it stays.
    pub async fn remove(&self, directories: Vec<PathBuf>) -> Result<(), RemoveError> {
        self.inner
            .shared
            .remove(directories)
            .await
            .map_err(RemoveError)
    }

    /// The log of one container; with `follow` it ends when that instance of the container ends (K-328).
    ///
    /// # Errors
    /// If the container has not started, or is not known (any more).
    pub async fn logs(
        &self,
        pod_uid: &str,
        container: &str,
        options: LogOptions,
    ) -> Result<LogStream, LogError> {
        let shared = &self.inner.shared;
        let unknown = || {
            LogError::NotFound(format!(
                "container {container} of pod {pod_uid} is not known to this node"
            ))
        };
        let pod = lock(&self.inner.pods)
            .get(pod_uid)
            .map(|entry| entry.name.clone())
            .ok_or_else(unknown)?;
        let plain = |text: &str| !text.is_empty() && !text.contains('/') && !text.starts_with('.');
        if !plain(container) || !plain(pod_uid) {
            return Err(unknown());
        }
        let newest = shared.layout.newest(pod_uid, container);
        let started = |attempt: u32| {
            shared
                .layout
                .instance(pod_uid, container, attempt)
                .record()
                .exists()
        };
        // An instance whose start is still on its way has no log of its own yet.
        let newest = match newest {
            Some(attempt) if started(attempt) => Some(attempt),
            Some(attempt) => attempt.checked_sub(1).filter(|_| options.previous),
            None => None,
        };
        let attempt = match (newest, options.previous) {
            (Some(attempt), false) => attempt,
            (Some(attempt), true) if attempt > 0 => attempt - 1,
            (_, true) => {
                return Err(LogError::NoPrevious {
                    pod,
                    container: container.to_string(),
                });
            }
            (None, false) => {
                let reason = "ContainerCreating".to_string();
                return Err(LogError::Waiting {
                    pod,
                    container: container.to_string(),
                    reason,
                });
            }
        };
        let log = shared.layout.instance(pod_uid, container, attempt).log();
        logs::read(&log, shared.logs.find(&log), options)
            .map_err(|error| LogError::Failed(error.to_string()))
    }

    /// Stops running pods. With [`Disposition::KillAll`] it returns when no container is left.
    pub async fn shutdown(&self, disposition: Disposition) {
        for task in lock(&self.inner.tasks).drain(..) {
            task.abort();
        }
        for entry in lock(&self.inner.pods).values_mut() {
            if let Some(worker) = entry.worker.take() {
                let _ = worker.send(Event::Abandon);
            }
        }
        let mut busy = self.inner.busy.clone();
        let _ =
            tokio::time::timeout(Duration::from_secs(5), busy.wait_for(|count| *count == 0)).await;
        if disposition == Disposition::KillAll {
            self.inner.shared.launcher().end().await;
            let memory = self.inner.shared.layout.memory_root();
            let _ = fs::remove_dir_all(memory);
        }
    }
}

/// How the launcher is started, and started again.
struct Again {
    directory: PathBuf,
    program: PathBuf,
    bound: bool,
    scrap: Vec<PathBuf>,
    hidden: Vec<PathBuf>,
}

impl Again {
    fn launch(&self) -> Launch<'_> {
        Launch {
            directory: &self.directory,
            program: &self.program,
            bound: self.bound,
            scrap: self.scrap.clone(),
            hidden: self.hidden.clone(),
        }
    }
}

/// Finds the worker of a pod, or makes one.
#[derive(Clone)]
struct Registry {
    shared: Arc<Shared>,
    pods: Pods,
    /// UIDs of pods that the API had forgotten before this node began, and whose containers are being killed.
    strays: Arc<Mutex<HashSet<String>>>,
    count: Arc<watch::Sender<usize>>,
}

impl Registry {
    async fn hear_ends(self, mut ends: mpsc::UnboundedReceiver<Ended>, again: Again) {
        loop {
            while let Some((id, exit)) = ends.recv().await {
                let Some((uid, container, attempt)) = parse_container_id(&id) else {
                    continue;
                };
                let worker = lock(&self.pods)
                    .get(uid)
                    .and_then(|entry| entry.worker.clone());
                if let Some(worker) = worker {
                    let _ = worker.send(Event::Ended {
                        container: container.to_string(),
                        attempt,
                        exit,
                    });
                } else if lock(&self.strays).contains(uid) {
                    self.forget(uid);
                }
            }
            tracing::error!(
                "the container launcher died: running containers are lost; starting another"
            );
            match Launcher::connect(again.launch()).await {
                Ok((launcher, receiver)) => {
                    reap_orphans(&self.shared.layout, &launcher);
                    self.shared.replace_launcher(launcher);
                    ends = receiver;
                }
                Err(error) => {
                    tracing::error!(%error, "no launcher: containers cannot be started any more");
                    return;
                }
            }
            for entry in lock(&self.pods).values() {
                if let Some(worker) = &entry.worker {
                    let _ = worker.send(Event::Lost);
                }
            }
        }
    }

    async fn watch_pods(self) {
        let pods: Api<Pod> = Api::all(self.shared.client.clone());
        let mut stream = watcher(pods, watcher::Config::default()).boxed();
        let mut listed: Option<HashSet<String>> = None;
        loop {
            match stream.try_next().await {
                Ok(Some(watcher::Event::Init)) => listed = Some(HashSet::new()),
                Ok(Some(watcher::Event::InitApply(pod))) => {
                    if let (Some(listed), Some(uid)) = (&mut listed, pod.uid()) {
                        listed.insert(uid);
                    }
                    self.apply(pod);
                }
                Ok(Some(watcher::Event::InitDone)) => {
                    if let Some(listed) = listed.take() {
                        self.reconcile(&listed);
                    }
                }
                Ok(Some(watcher::Event::Apply(pod))) => self.apply(pod),
                Ok(Some(watcher::Event::Delete(pod))) => {
                    self.delete(&pod.uid().unwrap_or_default())
                }
                Ok(None) => return,
                Err(error) => {
                    tracing::warn!(%error, "watching pods");
                    tokio::time::sleep(Duration::from_millis(200)).await;
                }
            }
        }
    }

    fn apply(&self, pod: Pod) {
        let Some(uid) = pod.uid() else { return };
        let node = pod
            .spec
            .as_ref()
            .and_then(|spec| spec.node_name.as_deref())
            .unwrap_or_default();
        if !node.is_empty() && node != self.shared.name {
            return;
        }
        // Directories are named by it.
        if uid.is_empty() || uid.contains(['/', '.', '\0']) {
            return;
        }
        let mut pods = lock(&self.pods);
        if let Some(entry) = pods.get(&uid) {
            match &entry.worker {
                Some(worker) => drop(worker.send(Event::Updated(Box::new(pod)))),
                None => self.changed_after_its_end(&pod),
            }
            return;
        }
        let phase = pod
            .status
            .as_ref()
            .and_then(|status| status.phase.as_deref())
            .unwrap_or("Pending");
        let over = matches!(phase, "Succeeded" | "Failed");
        let gated = pod.spec.as_ref().is_some_and(|spec| {
            spec.scheduling_gates
                .as_ref()
                .is_some_and(|gates| !gates.is_empty())
        });
        if gated || (node.is_empty() && pod.metadata.deletion_timestamp.is_some()) {
            return;
        }
        let mut entry = Entry {
            namespace: pod.namespace().unwrap_or_default(),
            name: pod.name_any(),
            worker: None,
            gone: false,
        };
        if over {
            self.changed_after_its_end(&pod);
            self.clear_up_after_the_end(&uid);
            pods.insert(uid, entry);
            return;
        }
        let (sender, events) = mpsc::unbounded_channel();
        entry.worker = Some(sender.clone());
        pods.insert(uid.clone(), entry);
        drop(pods);
        let worker = Worker::new(self.shared.clone(), pod, events, sender);
        self.count.send_modify(|count| *count += 1);
        let own = self.clone();
        tokio::spawn(async move {
            let end = worker.run().await;
            own.worker_ended(&uid, end);
            own.count.send_modify(|count| *count -= 1);
        });
    }

    /// Takes over from a worker, with what it came too late to hear: events are sent under the lock that is held here.
    fn worker_ended(&self, uid: &str, end: End) {
        let mut pods = lock(&self.pods);
        let Some(entry) = pods.get_mut(uid) else {
            return;
        };
        entry.worker = None;
        if entry.gone {
            pods.remove(uid);
        }
        let End::Over(mut late) = end else { return };
        while let Ok(event) = late.try_recv() {
            match event {
                Event::Updated(pod) => self.changed_after_its_end(&pod),
                Event::Removed => self.forget(uid),
                _ => {}
            }
        }
    }

    /// K-286: nobody else removes the object of a pod that has ended.
    fn changed_after_its_end(&self, pod: &Pod) {
        if pod.metadata.deletion_timestamp.is_some() {
            delete_now(&self.shared, pod);
        }
    }

    /// Does what the worker of an ended pod would have done, had its process lived.
    fn clear_up_after_the_end(&self, uid: &str) {
        let has_sandbox = self
            .shared
            .launcher()
            .greeting()
            .sandboxes
            .contains_key(uid);
        let left = self.shared.layout.left_at_end(uid);
        if !has_sandbox && !left.iter().any(|path| path.exists()) {
            return;
        }
        let (shared, uid) = (self.shared.clone(), uid.to_owned());
        tokio::spawn(async move {
            if has_sandbox {
                shared.remove_sandbox(&uid).await;
            }
            shared.clear_away(left).await;
        });
    }

    fn delete(&self, uid: &str) {
        let mut pods = lock(&self.pods);
        let Some(entry) = pods.get_mut(uid) else {
            return;
        };
        tracing::debug!(namespace = %entry.namespace, pod = %entry.name, "pod is gone");
        entry.gone = true;
        match &entry.worker {
            // It stays known until its containers have ended, which its worker has to hear.
            Some(worker) => drop(worker.send(Event::Removed)),
            None => {
                pods.remove(uid);
                self.forget(uid);
            }
        }
    }

    /// Removes what is left of an ended pod.
    fn forget(&self, uid: &str) {
        let (pod, memory) = (
            self.shared.layout.pod(uid),
            self.shared.layout.pod_memory(uid),
        );
        let shared = self.shared.clone();
        tokio::spawn(async move { shared.clear_away(vec![pod, memory]).await });
    }

    /// After a full list: whatever is here and not in the API goes.
    fn reconcile(&self, listed: &HashSet<String>) {
        let known: Vec<String> = lock(&self.pods)
            .keys()
            .filter(|uid| !listed.contains(*uid))
            .cloned()
            .collect();
        for uid in known {
            self.delete(&uid);
        }
        let launcher = self.shared.launcher();
        let gone = |uid: &str| !listed.contains(uid);
        let stray: Vec<String> = launcher
            .greeting()
            .containers
            .keys()
            .filter(|id| parse_container_id(id).is_none_or(|(uid, ..)| gone(uid)))
            .cloned()
            .collect();
        let sandboxes: Vec<String> = launcher
            .greeting()
            .sandboxes
            .keys()
            .filter(|uid| gone(uid))
            .cloned()
            .collect();
        let directories: Vec<String> = names(&self.shared.layout.pods())
            .chain(names(self.shared.layout.memory_root()).filter(|name| name != memory::OWNER))
            .filter(|uid| gone(uid))
            .collect();
        if stray.is_empty() && sandboxes.is_empty() && directories.is_empty() {
            return;
        }
        // What a killed container leaves as it ends is removed when that is heard of.
        lock(&self.strays).extend(directories.iter().cloned());
        let own = self.clone();
        tokio::spawn(async move {
            for id in stray {
                let _ = launcher.signal(&id, 9).await;
            }
            for uid in sandboxes {
                own.shared.remove_sandbox(&uid).await;
            }
            for uid in directories {
                own.forget(&uid);
            }
        });
    }
}

/// Makes the directories of a node.
fn lay_out(data_dir: &Path) -> Result<Layout, StartError> {
    let data_dir = &absolute(data_dir);
    let layout = Layout::new(
        data_dir.clone(),
        memory::directory(data_dir, hash(data_dir)),
    );
    let private = |path: &Path| {
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(path)
    };
    for path in [
        &layout.launcher(),
        &layout.pods(),
        &layout.memory_root().to_path_buf(),
    ] {
        private(path).map_err(|source| StartError::DataDir {
            path: path.clone(),
            source,
        })?;
    }
    Ok(layout)
}

fn absolute(path: &Path) -> PathBuf {
    fs::create_dir_all(path)
        .and_then(|()| path.canonicalize())
        .unwrap_or_else(|_| path.to_path_buf())
}

/// A name for what belongs to a directory, stable across restarts.
fn hash(path: &Path) -> u64 {
    let bytes = path.to_string_lossy();
    bytes.bytes().fold(0xcbf2_9ce4_8422_2325u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3)
    })
}

fn names(directory: &Path) -> impl Iterator<Item = String> + use<> {
    fs::read_dir(directory)
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| entry.file_name().into_string().ok())
}

/// Kills containers whose launcher died: nobody would ever hear of their ends.
fn reap_orphans(layout: &Layout, launcher: &Launcher) {
    for uid in names(&layout.pods()) {
        for (container, attempt) in layout.newest_of_all(&uid) {
            let instance = layout.instance(&uid, &container, attempt);
            let id = crate::shared::container_id(&uid, &container, attempt);
            if launcher.greeting().containers.contains_key(&id) || instance.exit().exists() {
                continue;
            }
            if let Some(pid) = fs::read_to_string(instance.pid())
                .ok()
                .and_then(|identity| launcher::lives(&identity))
            {
                tracing::warn!(container = %id, pid, "killing a container whose launcher is gone");
                let _ = nix::sys::signal::kill(
                    nix::unistd::Pid::from_raw(pid),
                    nix::sys::signal::Signal::SIGKILL,
                );
            }
        }
    }
}

async fn register(options: &NodeOptions) -> Result<(), kube::Error> {
    let nodes: Api<NodeObject> = Api::all(options.client.clone());
    let memory = format!("{}Ki", memory() / 1024);
    let capacity = json!({"cpu": cpus().to_string(), "memory": memory, "pods": "250"});
    let now = jiff::Timestamp::now();
    let object = json!({
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": options.name, "labels": {
            "kubernetes.io/hostname": options.name, "kubernetes.io/os": "linux", "kubernetes.io/arch": architecture()}},
        "spec": {},
    });
    let status = json!({"status": {
        "capacity": capacity, "allocatable": capacity,
        "conditions": [{"type": "Ready", "status": "True", "reason": "KubeletReady", "message": "node is ready",
            "lastHeartbeatTime": now, "lastTransitionTime": now}],
        "addresses": [{"type": "InternalIP", "address": host_address()}, {"type": "Hostname", "address": options.name}],
        "nodeInfo": {"architecture": architecture(), "operatingSystem": "linux",
            "kubeletVersion": format!("v{}-tektite", env!("CARGO_PKG_VERSION")), "containerRuntimeVersion": "tektite://0.1",
            "kubeProxyVersion": "", "machineID": "", "systemUUID": "", "bootID": "", "osImage": "", "kernelVersion": ""},
    }});
    let object: NodeObject = serde_json::from_value(object).map_err(kube::Error::SerdeError)?;
    match nodes.create(&Default::default(), &object).await {
        Ok(_) => {}
        Err(kube::Error::Api(status)) if status.code == 409 => {}
        Err(error) => return Err(error),
    }
    nodes
        .patch_status(
            &options.name,
            &PatchParams::default(),
            &Patch::Merge(status),
        )
        .await
        .map(drop)
}

fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

fn cpus() -> u64 {
    std::thread::available_parallelism().map_or(1, |count| count.get() as u64)
}

/// The machine's memory in bytes.
fn memory() -> u64 {
    let text = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:"));
    line.and_then(|rest| rest.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok())
        .map_or(0, |kib| kib * 1024)
}

/// The address this machine uses towards others.
fn host_address() -> String {
    // Connecting a datagram socket sends nothing; it only chooses a source address.
    let chosen = std::net::UdpSocket::bind("0.0.0.0:0").and_then(|socket| {
        socket.connect("198.51.100.1:9")?;
        socket.local_addr()
    });
    chosen.map_or_else(
        |_| "127.0.0.1".to_string(),
        |address| address.ip().to_string(),
    )
}
