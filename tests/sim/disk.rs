//! The disks of a simulated world: each instance's task folders, which lose what was not flushed when their owner dies, and fail
//! when the fates say so.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use tidemill::base::ids::TaskId;
use tidemill::store::memory::MemoryBackend;
use tidemill::store::{Backend, BackendNumbers, Backends, Batch, Error, Visit};

use super::fates::{Fates, Fault};

/// One instance's folders.
#[derive(Clone, Debug)]
pub(crate) struct Disk {
    fates: Fates,
    folders: Arc<Mutex<BTreeMap<String, Folder>>>,
}

#[derive(Debug)]
struct Folder {
    task: TaskId,
    space: MemoryBackend,
    /// Held by whoever has it open.
    lock: Weak<()>,
}

impl Disk {
    pub(crate) fn new(fates: &Fates) -> Self {
        Self { fates: fates.clone(), folders: Arc::default() }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Folder>> {
        self.folders.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The owner has died: of what was not flushed, a part from the front is there.
    pub(crate) fn crash(&self) {
        for folder in self.lock().values() {
            let kept = self.fates.below(folder.space.unflushed_writes() as u64 + 1);
            folder.space.crash(kept as usize);
        }
    }

    /// Everything is gone.
    pub(crate) fn lose(&self) {
        self.lock().clear();
    }

    /// What is at rest, by task.
    pub(crate) fn at_rest(&self) -> Vec<(TaskId, MemoryBackend)> {
        self.lock().values().map(|folder| (folder.task.clone(), folder.space.clone())).collect()
    }
}

impl Backends for Disk {
    fn open(&self, folder: &str) -> Result<Box<dyn Backend>, Error> {
        self.fates.moment("open a folder");
        if self.fates.disks_are_bad() && self.fates.strikes(Fault::Disk, 1, 3) {
            return Err(Error::Io { message: "the disk fails".to_owned() });
        }
        let mut folders = self.lock();
        let (sub_topology, partition) = folder.rsplit_once('_').expect("a task's folder");
        let task = TaskId::new(sub_topology, partition.parse().expect("a partition"));
        let folder = folders.entry(folder.to_owned()).or_insert_with(|| Folder {
            task: task.clone(),
            space: MemoryBackend::new(),
            lock: Weak::new(),
        });
        if folder.lock.upgrade().is_some() {
            return Err(Error::Locked { path: task.to_string() });
        }
        let held = Arc::new(());
        folder.lock = Arc::downgrade(&held);
        Ok(Box::new(OpenFolder { fates: self.fates.clone(), space: folder.space.clone(), _held: held }))
    }
}

/// A folder that somebody has open.
#[derive(Debug)]
struct OpenFolder {
    fates: Fates,
    space: MemoryBackend,
    _held: Arc<()>,
}

impl OpenFolder {
    fn fails(&self) -> Result<(), Error> {
        if self.fates.disks_are_bad() && self.fates.strikes(Fault::Disk, 1, 4) {
            return Err(Error::Io { message: "the disk fails".to_owned() });
        }
        Ok(())
    }
}

impl Backend for OpenFolder {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, Error> {
        self.fails()?;
        self.space.get(key)
    }

    fn scan(&self, from: &[u8], to: Option<&[u8]>, visit: &mut Visit<'_>) -> Result<(), Error> {
        self.fails()?;
        self.space.scan(from, to, visit)
    }

    fn scan_reverse(&self, from: &[u8], to: Option<&[u8]>, visit: &mut Visit<'_>) -> Result<(), Error> {
        self.fails()?;
        self.space.scan_reverse(from, to, visit)
    }

    fn get_meta(&self, key: &[u8]) -> Result<Option<Vec<u8>>, Error> {
        self.space.get_meta(key)
    }

    fn scan_meta(&self, prefix: &[u8], visit: &mut Visit<'_>) -> Result<(), Error> {
        self.space.scan_meta(prefix, visit)
    }

    fn write(&mut self, batch: &Batch) -> Result<(), Error> {
        self.fates.moment("before a write");
        self.fails()?;
        self.space.write(batch)?;
        self.fates.moment("after a write");
        Ok(())
    }

    fn flush(&mut self) -> Result<(), Error> {
        self.fates.moment("before a flush");
        self.fails()?;
        self.space.flush()
    }

    fn check(&mut self) -> Result<(), Error> {
        self.space.check()
    }

    fn size_bytes(&self) -> u64 {
        self.space.size_bytes()
    }

    fn numbers(&self) -> BackendNumbers {
        self.space.numbers()
    }
}
