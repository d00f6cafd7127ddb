//! The store on disk: writes are queued in revision order and reach a journal in groups, one sync for all that wait. Now and
//! then the newest of them move from the journal into the database, which takes several times the work a write.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread::JoinHandle;
use std::time::Duration;

use redb::{Database, ReadableDatabase, ReadableTable, TableDefinition};
use tokio::sync::watch;

use super::journal::{self, Entry, Journal, Place};
use super::object::Stored;

/// `resource \0 namespace \0 name` to a [`Stored::record`].
const OBJECTS: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("objects");
/// `revision` to the highest revision ever committed.
const META: TableDefinition<'_, &str, u64> = TableDefinition::new("meta");
/// Revisions may have been shown to watchers, though never acknowledged, before a crash: a restart skips them.
const RESTART_GAP: u64 = 100_000;
/// Memory the database may use for its own cache; everything hot is ours.
const CACHE_BYTES: usize = 2 << 20;
/// A journal of this size moves into the database at once, at the cost of the writes that wait meanwhile.
const JOURNAL_FULL: u64 = 16 << 20;
/// One of this size moves as soon as nothing has been written for [`QUIET`]; a smaller one may stay.
const JOURNAL_WORTH_MOVING: u64 = 256 << 10;
const QUIET: Duration = Duration::from_secs(1);

struct Write {
    key: String,
    /// `None` removes.
    object: Option<Arc<Stored>>,
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
    /// Opens or creates `directory/objects.redb` and `directory/journal`; returns all objects and the revision to go on
    /// from.
    pub(super) fn open(directory: &Path) -> Result<(Self, Loaded, u64), String> {
        fs::create_dir_all(directory)
            .map_err(|error| format!("{}: {error}", directory.display()))?;
        let path = directory.join("objects.redb");
        let database = Database::builder()
            .set_cache_size(CACHE_BYTES)
            .create(&path)
            .map_err(|error| format!("{}: {error}", path.display()))?;
        let mut revision =
            prepare(&database).map_err(|error| format!("{}: {error}", path.display()))?;
        let journal = directory.join("journal");
        let journal = recover(&database, &journal, &mut revision)
            .map_err(|error| format!("{}: {error}", journal.display()))?;
        let objects = load(&database).map_err(|error| format!("{}: {error}", path.display()))?;
        let revision = match revision {
            0 => 1,
            highest => highest + RESTART_GAP,
        };
        let shared = Arc::new(Shared {
            queue: Mutex::default(),
            filled: Condvar::new(),
        });
        let (sender, progress) = watch::channel(Progress::Synced(revision));
        let worker = Arc::clone(&shared);
        let writer = Writer {
            database,
            journal,
            moving: BTreeMap::new(),
            last: revision,
        };
        let thread = std::thread::Builder::new()
            .name("store".into())
            .spawn(move || work(writer, &worker, &sender))
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
        object: Option<&Arc<Stored>>,
        revision: u64,
    ) {
        let write = Write {
            key: format!("{resource}\0{key}"),
            object: object.map(Arc::clone),
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

/// Creates the tables; returns the highest revision in the database.
fn prepare(database: &Database) -> Result<u64, redb::Error> {
    let begin = database.begin_write()?;
    begin.open_table(OBJECTS)?;
    let revision = begin
        .open_table(META)?
        .get("revision")?
        .map_or(0, |value| value.value());
    begin.commit()?;
    Ok(revision)
}

/// Moves what the journal has beyond `revision` into the database and sets `revision` to the last of it.
fn recover(
    database: &Database,
    path: &Path,
    revision: &mut u64,
) -> Result<Journal, Box<dyn std::error::Error>> {
    let (mut journal, content) = Journal::open(path)?;
    let newer: Vec<Entry<'_>> = journal::entries(&content)
        .map(|(_, entry)| entry)
        .filter(|entry| entry.revision > *revision)
        .collect();
    if let Some(last) = newer.last() {
        *revision = last.revision;
        commit(database, *revision, |objects| {
            for entry in &newer {
                match entry.record {
                    [] => objects.remove(entry.key)?,
                    record => objects.insert(entry.key, record)?,
                };
            }
            Ok(())
        })?;
    }
    journal.clear()?;
    Ok(journal)
}

fn load(database: &Database) -> Result<Loaded, redb::Error> {
    let read = database.begin_read()?;
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
    Ok(objects)
}

/// What the writing thread owns.
struct Writer {
    database: Database,
    journal: Journal,
    /// What the database does not hold yet: the newest write of each key, `None` for a removal.
    moving: BTreeMap<String, Option<Place>>,
    /// The revision of the last write.
    last: u64,
}

type WriteError = Box<dyn std::error::Error>;

impl Writer {
    /// Makes `writes` safe.
    fn append(&mut self, writes: Vec<Write>) -> Result<(), WriteError> {
        for write in writes {
            let record = write.object.map(|object| object.record());
            let place = self.journal.push(Entry {
                revision: write.revision,
                key: &write.key,
                record: record.as_deref().unwrap_or_default(),
            });
            self.moving.insert(write.key, record.map(|_| place));
            self.last = write.revision;
        }
        self.journal.sync()?;
        Ok(())
    }

    /// Empties the journal into the database.
    fn migrate(&mut self) -> Result<(), WriteError> {
        let (journal, moving) = (&self.journal, &self.moving);
        commit(&self.database, self.last, |objects| {
            for (key, place) in moving {
                match place {
                    Some(place) => {
                        let record = journal.record(*place).map_err(redb::StorageError::Io)?;
                        objects.insert(key.as_str(), &*record)?
                    }
                    None => objects.remove(key.as_str())?,
                };
            }
            Ok(())
        })?;
        self.moving.clear();
        self.journal.clear()?;
        Ok(())
    }
}

/// What the queue holds, or that it is time for something else.
enum Next {
    Writes(Vec<Write>),
    Quiet,
    Closed,
}

impl Shared {
    /// Waits for writes, for `quiet` at most if that is given.
    fn next(&self, quiet: Option<Duration>) -> Next {
        let mut queue = self.lock();
        loop {
            if !queue.writes.is_empty() {
                return Next::Writes(std::mem::take(&mut queue.writes));
            }
            if queue.closed {
                return Next::Closed;
            }
            queue = match quiet {
                None => self
                    .filled
                    .wait(queue)
                    .unwrap_or_else(|poisoned| poisoned.into_inner()),
                Some(quiet) => {
                    let (queue, waited) = self
                        .filled
                        .wait_timeout(queue, quiet)
                        .unwrap_or_else(|poisoned| poisoned.into_inner());
                    if waited.timed_out() && queue.writes.is_empty() {
                        return Next::Quiet;
                    }
                    queue
                }
            };
        }
    }
}

fn work(mut writer: Writer, shared: &Shared, progress: &watch::Sender<Progress>) {
    loop {
        let length = writer.journal.len();
        let quiet = (length >= JOURNAL_WORTH_MOVING).then_some(QUIET);
        let done = match shared.next(quiet) {
            Next::Writes(writes) => writer.append(writes).and_then(|()| {
                progress.send_replace(Progress::Synced(writer.last));
                match writer.journal.len() >= JOURNAL_FULL {
                    true => writer.migrate(),
                    false => Ok(()),
                }
            }),
            Next::Quiet => writer.migrate(),
            Next::Closed => {
                if let Err(error) = writer.migrate() {
                    // The journal still has it all.
                    tracing::warn!(%error, "the object store could not be tidied up");
                }
                return;
            }
        };
        if let Err(error) = done {
            tracing::error!(%error, "the object store cannot be written; refusing further writes");
            progress.send_replace(Progress::Failed(error.to_string().into()));
            // What comes now is refused by whoever waits for it.
            while !matches!(shared.next(None), Next::Closed) {}
            return;
        }
    }
}

fn commit(
    database: &Database,
    revision: u64,
    change: impl FnOnce(&mut redb::Table<'_, &str, &[u8]>) -> Result<(), redb::Error>,
) -> Result<(), redb::Error> {
    let transaction = database.begin_write()?;
    change(&mut transaction.open_table(OBJECTS)?)?;
    transaction.open_table(META)?.insert("revision", revision)?;
    transaction.commit()?;
    Ok(())
}
