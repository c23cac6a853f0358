//! The broker's directory: its lock, its journal, and where each topic's files are.
//!
//! Invariant: one process has a directory open. What the journal's entries mean is not decided here.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use crate::base::ids::Topic;
use crate::broker::Error;
use crate::broker::local::Durability;
use crate::broker::local::journal::{self, Entry};
use crate::broker::local::segments::{sync_directory, unreadable, unwritable};
use crate::limits;

const LOCK: &str = "lock";
const JOURNAL: &str = "journal.log";
const TOPICS: &str = "topics";

/// An opened directory.
#[derive(Debug)]
pub(super) struct Disk {
    pub(super) directory: PathBuf,
    pub(super) durability: Durability,
    broker_id: u64,
    journal: File,
    journal_bytes: u64,
    _lock: Lock,
}

/// The lock file, locked. The operating system unlocks it when the process ends, however it ends.
#[derive(Debug)]
struct Lock(File);

impl Drop for Lock {
    /// Closing alone is not enough: a process that is just being started beside may hold the same file open for a moment.
    fn drop(&mut self) {
        self.0.unlock().unwrap_or_default();
    }
}

/// A directory that is locked, and what its journal says.
#[derive(Debug)]
pub(super) struct Locked {
    lock: Lock,
    /// None: there is no journal yet.
    pub(super) journal: Option<(u64, Vec<Entry>)>,
}

impl Locked {
    /// Takes the directory for this process and reads its journal.
    pub(super) fn open(directory: &Path) -> Result<Self, Error> {
        fs::create_dir_all(directory).map_err(|error| unwritable(directory, &error))?;
        let path = directory.join(LOCK);
        let lock = OpenOptions::new().write(true).create(true).truncate(false).open(&path);
        let lock = lock.map_err(|error| unwritable(&path, &error))?;
        match lock.try_lock() {
            Ok(()) => Ok(Self { lock: Lock(lock), journal: read_journal(&directory.join(JOURNAL))? }),
            Err(TryLockError::WouldBlock) => {
                let message = format!("the local broker in `{}` is in use by another process", directory.display());
                Err(Error::Unavailable { message })
            }
            Err(TryLockError::Error(error)) => Err(unwritable(&path, &error)),
        }
    }

    /// Begins to write the directory; the journal is the one of `entries` from here on.
    pub(super) fn begin(
        self,
        directory: &Path,
        durability: Durability,
        broker_id: u64,
        entries: &[Entry],
    ) -> Result<Disk, Error> {
        let (journal, journal_bytes) = write_journal(directory, broker_id, entries)?;
        let directory = directory.to_owned();
        Ok(Disk { directory, durability, broker_id, journal, journal_bytes, _lock: self.lock })
    }
}

impl Disk {
    /// Appends a decision to the journal. After an error the journal is as before.
    pub(super) fn record(&mut self, entry: &Entry) -> Result<(), Error> {
        let mut bytes = Vec::new();
        journal::write(entry, &mut bytes);
        let written = self
            .journal
            .write_all(&bytes)
            .and_then(|()| if self.durability.reaches_disk() { self.journal.sync_data() } else { Ok(()) });
        let Err(error) = written else {
            self.journal_bytes += bytes.len() as u64;
            return Ok(());
        };
        let path = self.directory.join(JOURNAL);
        // What half arrived would hide the entries behind it.
        self.journal.set_len(self.journal_bytes).map_err(|error| unwritable(&path, &error))?;
        Err(unwritable(&path, &error))
    }

    /// Tells whether the journal should be replaced by what it comes to.
    pub(super) fn journal_is_long(&self) -> bool {
        self.journal_bytes > limits::LOCAL_JOURNAL_BYTES_MAX
    }

    /// Replaces the journal. Atomic.
    pub(super) fn replace_journal(&mut self, entries: &[Entry]) -> Result<(), Error> {
        (self.journal, self.journal_bytes) = write_journal(&self.directory, self.broker_id, entries)?;
        Ok(())
    }

    /// Names the directory of one incarnation of a topic.
    pub(super) fn topic_directory(&self, incarnation: u64, topic: &Topic) -> PathBuf {
        topic_directory(&self.directory, incarnation, topic)
    }

    /// Removes a topic's files.
    pub(super) fn remove_topic(&self, incarnation: u64, topic: &Topic) -> Result<(), Error> {
        remove_directory(&self.topic_directory(incarnation, topic))
    }
}

/// Names the directory of one incarnation of a topic. A topic's name is a legal file name.
pub(super) fn topic_directory(directory: &Path, incarnation: u64, topic: &Topic) -> PathBuf {
    directory.join(TOPICS).join(format!("{incarnation}-{topic}"))
}

/// Removes what topics left behind that were deleted just before a crash.
pub(super) fn remove_other_topics(directory: &Path, kept: &[PathBuf]) -> Result<(), Error> {
    let topics = directory.join(TOPICS);
    let entries = match fs::read_dir(&topics) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(unreadable(&topics, &error)),
    };
    for entry in entries {
        let path = entry.map_err(|error| unreadable(&topics, &error))?.path();
        if !kept.contains(&path) {
            remove_directory(&path)?;
        }
    }
    Ok(())
}

fn remove_directory(path: &Path) -> Result<(), Error> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(unwritable(path, &error)),
        Ok(()) | Err(_) => Ok(()),
    }
}

fn read_journal(path: &Path) -> Result<Option<(u64, Vec<Entry>)>, Error> {
    let bytes = match fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(unreadable(path, &error)),
    };
    let damaged = |what: String| Error::Storage { message: format!("`{}` {what}", path.display()) };
    let broker_id =
        journal::read_header(&bytes).ok_or_else(|| damaged("is not a journal that this version reads".to_owned()))?;
    let entries = journal::read(&bytes).map_err(|at| damaged(format!("is damaged at byte {at}")))?;
    Ok(Some((broker_id, entries)))
}

/// Writes a new journal beside the old one and puts it in its place.
fn write_journal(directory: &Path, broker_id: u64, entries: &[Entry]) -> Result<(File, u64), Error> {
    let (path, draft) = (directory.join(JOURNAL), directory.join(format!("{JOURNAL}.draft")));
    let mut bytes = journal::header(broker_id).to_vec();
    entries.iter().for_each(|entry| journal::write(entry, &mut bytes));
    let write = || {
        fs::write(&draft, &bytes)?;
        let file = OpenOptions::new().append(true).open(&draft)?;
        file.sync_all()?;
        fs::rename(&draft, &path)?;
        sync_directory(directory)?;
        Ok(file)
    };
    let file = write().map_err(|error| unwritable(&path, &error))?;
    Ok((file, bytes.len() as u64))
}
