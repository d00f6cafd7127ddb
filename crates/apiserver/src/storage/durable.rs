//! The database file: writes are queued in revision order and committed in groups, one sync for all that wait.

use std::fs;
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread::JoinHandle;

use redb::{Database, ReadableDatabase, ReadableTable, TableDefinition};
use tokio::sync::watch;

use super::object::Stored;

/// `resource \0 namespace \0 name` to a [`Stored::record`].
const OBJECTS: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("objects");
/// `revision` to the highest revision ever committed.
const META: TableDefinition<'_, &str, u64> = TableDefinition::new("meta");
/// Revisions may have been shown to watchers, though never acknowledged, before a crash: a restart skips them.
const RESTART_GAP: u64 = 100_000;
/// Memory the database may use for its own cache; everything hot is ours.
const CACHE_BYTES: usize = 2 << 20;

struct Write {
    key: String,
    record: Option<Arc<[u8]>>,
    revision: u64,
}

#[derive(Default)]
struct Queue {
    writes: Vec<Write>,
    closed: bool,
}

struct Shared {
    queue: Mutex<Queue>,
    filled: Condvar,
}

/// What has reached the disk, or why nothing more will.
#[derive(Clone, Debug)]
enum Progress {
    Synced(u64),
    Failed(Arc<str>),
}

/// The writing side of the database.
pub(super) struct Disk {
    shared: Arc<Shared>,
    progress: watch::Receiver<Progress>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

type Loaded = Vec<(Arc<str>, Stored)>;

impl Disk {
    /// Opens or creates `directory/objects.redb`; returns all objects and the revision to go on from.
    pub(super) fn open(directory: &Path) -> Result<(Self, Loaded, u64), String> {
        fs::create_dir_all(directory)
            .map_err(|error| format!("{}: {error}", directory.display()))?;
        let path = directory.join("objects.redb");
        let database = Database::builder()
            .set_cache_size(CACHE_BYTES)
            .create(&path)
            .map_err(|error| format!("{}: {error}", path.display()))?;
        let (objects, revision) =
            load(&database).map_err(|error| format!("{}: {error}", path.display()))?;
        let shared = Arc::new(Shared {
            queue: Mutex::default(),
            filled: Condvar::new(),
        });
        let (sender, progress) = watch::channel(Progress::Synced(revision));
        let worker = Arc::clone(&shared);
        let thread = std::thread::Builder::new()
            .name("store".into())
            .spawn(move || work(&database, &worker, &sender))
            .map_err(|error| error.to_string())?;
        Ok((
            Self {
                shared,
                progress,
                thread: Mutex::new(Some(thread)),
            },
            objects,
            revision,
        ))
    }

    /// Queues a write (`None` removes). Called under the store's lock, hence in revision order.
    pub(super) fn enqueue(
        &self,
        resource: &str,
        key: &str,
        object: Option<&Stored>,
        revision: u64,
    ) {
        let write = Write {
            key: format!("{resource}\0{key}"),
            record: object.map(|object| object.record().into()),
            revision,
        };
        self.shared.lock().writes.push(write);
        self.shared.filled.notify_one();
    }

    pub(super) async fn durable(&self, revision: u64) -> Result<(), String> {
        let mut progress = self.progress.clone();
        loop {
            match &*progress.borrow_and_update() {
                Progress::Synced(synced) if *synced >= revision => return Ok(()),
                Progress::Failed(why) => return Err(why.to_string()),
                Progress::Synced(_) => {}
            }
            if progress.changed().await.is_err() {
                return Err("the object store is closed".into());
            }
        }
    }

    pub(super) async fn close(&self) {
        self.shared.lock().closed = true;
        self.shared.filled.notify_one();
        let thread = self
            .thread
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner())
            .take();
        if let Some(thread) = thread {
            let _ = tokio::task::spawn_blocking(move || thread.join()).await;
        }
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        self.shared.lock().closed = true;
        self.shared.filled.notify_one();
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

fn load(database: &Database) -> Result<(Loaded, u64), redb::Error> {
    let begin = database.begin_write()?;
    begin.open_table(OBJECTS)?;
    begin.open_table(META)?;
    begin.commit()?;
    let read = database.begin_read()?;
    let revision = read
        .open_table(META)?
        .get("revision")?
        .map_or(0, |value| value.value());
    let mut objects = Vec::new();
    for entry in read.open_table(OBJECTS)?.iter()? {
        let (key, value) = entry?;
        let resource = key.value().split('\0').next().unwrap_or_default();
        let Some(object) = Stored::from_record(value.value()) else {
            return Err(redb::Error::Corrupted(format!(
                "object {:?} is unreadable",
                key.value()
            )));
        };
        objects.push((Arc::from(resource), object));
    }
    Ok((
        objects,
        if revision == 0 {
            1
        } else {
            revision + RESTART_GAP
        },
    ))
}

fn work(database: &Database, shared: &Shared, progress: &watch::Sender<Progress>) {
    loop {
        let writes = {
            let mut queue = shared.lock();
            while queue.writes.is_empty() && !queue.closed {
                queue = shared
                    .filled
                    .wait(queue)
                    .unwrap_or_else(|poisoned| poisoned.into_inner());
            }
            std::mem::take(&mut queue.writes)
        };
        let Some(last) = writes.last().map(|write| write.revision) else {
            return;
        };
        match commit(database, &writes, last) {
            Ok(()) => progress.send_replace(Progress::Synced(last)),
            Err(error) => {
                tracing::error!(%error, "the object store cannot be written; refusing further writes");
                progress.send_replace(Progress::Failed(error.to_string().into()))
            }
        };
    }
}

fn commit(database: &Database, writes: &[Write], revision: u64) -> Result<(), redb::Error> {
    let transaction = database.begin_write()?;
    {
        let mut objects = transaction.open_table(OBJECTS)?;
        for write in writes {
            match &write.record {
                Some(record) => objects.insert(write.key.as_str(), &**record)?,
                None => objects.remove(write.key.as_str())?,
            };
        }
        transaction.open_table(META)?.insert("revision", revision)?;
    }
    transaction.commit()?;
    Ok(())
}
