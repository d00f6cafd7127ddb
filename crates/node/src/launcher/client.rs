//! The node's side of the launcher: starting or finding it, asking, hearing of ends.

use std::collections::HashMap;
use std::fs::OpenOptions;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::{mpsc, oneshot, watch};

use super::protocol::{
    Call, ExecRequest, Exit, Failure, Greeting, Message, Reply, Request, RunRequest,
    SandboxRequest, Uplink, VERSION,
};
use super::reactor::SOCKET;
use crate::degraded::Degraded;

/// A container that has ended, and how.
pub(crate) type Ended = (String, Exit);

type Pending = Arc<Mutex<HashMap<u64, oneshot::Sender<Result<Reply, Failure>>>>>;

/// A connected launcher; clones share the connection.
#[derive(Clone)]
pub(crate) struct Launcher {
    writer: Arc<tokio::sync::Mutex<OwnedWriteHalf>>,
    pending: Pending,
    next: Arc<AtomicU64>,
    greeting: Arc<Greeting>,
    gone: watch::Receiver<bool>,
}

/// How to find or start a launcher.
pub(crate) struct Launch<'a> {
    pub directory: &'a Path,
    pub program: &'a Path,
    /// Whether it ends with this process.
    pub bound: bool,
    /// Directories that a bound launcher removes when it ends.
    pub scrap: Vec<PathBuf>,
    /// Directories that `host` containers must not see.
    pub hidden: Vec<PathBuf>,
}

impl Launcher {
    /// Connects to the launcher that lives in the directory, else starts one. Ends of containers arrive at the receiver;
    /// it is closed when the launcher is gone.
    pub async fn connect(
        launch: Launch<'_>,
    ) -> Result<(Self, mpsc::UnboundedReceiver<Ended>), String> {
        // One that does not answer is ending, because it had nothing left to do; the next one waits for that.
        if let Ok(stream) = find(launch.directory).await
            && let Ok((launcher, mut ends)) = Self::greet(stream, &launch).await
        {
            if launcher.greeting.version == VERSION {
                return Ok((launcher, ends));
            }
            // Of another version: it is ending; its containers with it.
            while ends.recv().await.is_some() {}
        }
        let stream = start(&launch).map_err(|error| error.to_string())?;
        match Self::greet(stream, &launch).await {
            Ok(greeted) => Ok(greeted),
            Err(error) => {
                let log = std::fs::read_to_string(launch.directory.join(LOG)).unwrap_or_default();
                Err(log.lines().last().map_or(error, str::to_string))
            }
        }
    }

    async fn greet(
        stream: UnixStream,
        launch: &Launch<'_>,
    ) -> Result<(Self, mpsc::UnboundedReceiver<Ended>), String> {
        let (reader, writer) = stream.into_split();
        let pending = Pending::default();
        let (ends, receiver) = mpsc::unbounded_channel();
        let (lost, gone) = watch::channel(false);
        let heard = pending.clone();
        tokio::spawn(async move {
            listen(reader, &heard, ends).await;
            let _ = lost.send(true);
            lock(&heard).clear();
        });
        let mut launcher = Self {
            writer: Arc::new(tokio::sync::Mutex::new(writer)),
            pending,
            next: Arc::new(AtomicU64::new(1)),
            greeting: Arc::new(Greeting::default()),
            gone,
        };
        let hello = Request::Hello {
            version: VERSION,
            bound: launch.bound,
        };
        match launcher.ask(hello).await {
            Ok(Reply::Hello(greeting)) => {
                launcher.greeting = Arc::new(greeting);
                Ok((launcher, receiver))
            }
            Ok(_) => Err("the launcher gave no greeting".to_string()),
            Err(failure) => Err(failure.message),
        }
    }

    /// Whether it has ended, which is then why a request failed.
    pub fn is_gone(&self) -> bool {
        *self.gone.borrow()
    }

    /// What the launcher said of itself when connected.
    pub fn greeting(&self) -> &Greeting {
        &self.greeting
    }

    /// The bridge of the pods.
    pub async fn network(&self, name: &str) -> Result<Uplink, Failure> {
        match self
            .ask(Request::Network {
                name: name.to_string(),
            })
            .await?
        {
            Reply::Network(uplink) => Ok(uplink),
            _ => Err(Failure::new("unexpected answer of the launcher")),
        }
    }

    pub async fn sandbox(&self, request: SandboxRequest) -> Result<(), Failure> {
        self.ask(Request::Sandbox(request)).await.map(drop)
    }

    pub async fn remove_sandbox(&self, pod: &str) -> Result<(), Failure> {
        self.ask(Request::RemoveSandbox {
            pod: pod.to_string(),
        })
        .await
        .map(drop)
    }

    /// Creates and starts a container; answers with its process id and warnings.
    pub async fn run(&self, request: RunRequest) -> Result<(i32, Vec<Degraded>), Failure> {
        match self.ask(Request::Run(Box::new(request))).await? {
            Reply::Started { pid, warnings } => Ok((pid, warnings)),
            _ => Err(Failure::new("unexpected answer of the launcher")),
        }
    }

    /// Removes directories whose files may belong to other ids than this process'.
    pub async fn remove(&self, paths: Vec<PathBuf>) -> Result<(), Failure> {
        self.ask(Request::Remove { paths }).await.map(drop)
    }

    pub async fn signal(&self, container: &str, signal: i32) -> Result<(), Failure> {
        self.ask(Request::Signal {
            container: container.to_string(),
            signal,
        })
        .await
        .map(drop)
    }

    /// Runs a process in a container; answers with its exit code, `None` if it took too long.
    pub async fn exec(&self, request: ExecRequest) -> Result<Option<i32>, Failure> {
        match self.ask(Request::Exec(request)).await? {
            Reply::ExecEnded { code, timed_out } => Ok((!timed_out).then_some(code)),
            _ => Err(Failure::new("unexpected answer of the launcher")),
        }
    }

    /// Kills all containers and ends the launcher; returns when it is gone.
    pub async fn end(&self) {
        // The connection may close before the answer is read; either means that it heard.
        let _ = self.ask(Request::Shutdown).await;
        let mut gone = self.gone.clone();
        // By then every container has been waited for, and the launcher has no memory left. The kernel takes a while longer
        // to undo the process' mount namespace, which is nothing to wait for.
        let _ = tokio::time::timeout(Duration::from_secs(10), gone.wait_for(|gone| *gone)).await;
    }

    async fn ask(&self, request: Request) -> Result<Reply, Failure> {
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let mut line = serde_json::to_vec(&Call { id, request }).map_err(Failure::new)?;
        line.push(b'\n');
        let (sender, answer) = oneshot::channel();
        lock(&self.pending).insert(id, sender);
        if let Err(error) = self.writer.lock().await.write_all(&line).await {
            lock(&self.pending).remove(&id);
            let _ = self.gone.clone().wait_for(|gone| *gone).await;
            return Err(Failure::new(format!("the launcher is gone: {error}")));
        }
        answer
            .await
            .unwrap_or_else(|_| Err(Failure::new("the launcher is gone")))
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn listen(reader: OwnedReadHalf, pending: &Pending, ends: mpsc::UnboundedSender<Ended>) {
    let mut lines = BufReader::new(reader).lines();
    while let Ok(Some(line)) = lines.next_line().await {
        match serde_json::from_str(&line) {
            Ok(Message::Reply { id, result }) => {
                if let Some(waiting) = lock(pending).remove(&id) {
                    let _ = waiting.send(result);
                }
            }
            Ok(Message::Exited { container, exit }) => drop(ends.send((container, exit))),
            Err(error) => tracing::error!(%error, "unreadable line from the launcher"),
        }
    }
}

const LOG: &str = "launcher.log";

async fn find(directory: &Path) -> std::io::Result<UnixStream> {
    // Socket addresses hold 108 bytes; the way through the descriptor is always short enough.
    let held = std::fs::File::open(directory)?;
    UnixStream::connect(format!("/proc/self/fd/{}/{SOCKET}", held.as_raw_fd())).await
}

fn start(launch: &Launch<'_>) -> std::io::Result<UnixStream> {
    let (ours, theirs) = std::os::unix::net::UnixStream::pair()?;
    ours.set_nonblocking(true)?;
    let log = OpenOptions::new()
        .create(true)
        .append(true)
        .open(launch.directory.join(LOG))?;
    let mut child = Command::new(launch.program)
        .arg(super::LAUNCH_ARGUMENT)
        .arg(launch.directory)
        .args(launch.bound.then_some(super::BOUND_ARGUMENT))
        .args(
            launch
                .scrap
                .iter()
                .flat_map(|path| [super::SCRAP_ARGUMENT.as_ref(), path.as_os_str()]),
        )
        .args(&launch.hidden)
        .stdin(Stdio::from(OwnedFd::from(theirs)))
        .stdout(Stdio::null())
        .stderr(Stdio::from(log))
        .spawn()?;
    // Whoever started it has to wait for it, or a zombie stays.
    std::thread::Builder::new()
        .name("launcher".into())
        .stack_size(64 * 1024)
        .spawn(move || child.wait())?;
    UnixStream::from_std(ours)
}
