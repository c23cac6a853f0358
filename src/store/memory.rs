//! A backend in memory, for tests and simulation: it can lose what was not flushed, as a killed process does.
//!
//! Clones share one space, so a test can crash the backend that a [`TaskStores`](crate::store::TaskStores) owns and open it again.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::store::backend::Visit;
use crate::store::{Backend, BackendNumbers, Backends, Batch, BatchOp, Error};

/// An ordered byte space in memory.
#[derive(Clone, Debug, Default)]
pub struct MemoryBackend {
    spaces: Arc<Mutex<Spaces>>,
}

/// Gives each task an empty space whenever it is opened: nothing outlives its owner.
#[derive(Clone, Copy, Debug, Default)]
pub struct MemoryBackends;

impl Backends for MemoryBackends {
    fn open(&self, _folder: &str) -> Result<Box<dyn Backend>, Error> {
        Ok(Box::new(MemoryBackend::new()))
    }
}

type Space = BTreeMap<Vec<u8>, Vec<u8>>;

#[derive(Debug, Default)]
struct Spaces {
    data: Space,
    meta: Space,
    /// Per write since the last flush: what to put back, in order of change.
    unflushed: Vec<Vec<Undo>>,
}

#[derive(Debug)]
enum Undo {
    Data(Vec<u8>, Option<Vec<u8>>),
    Meta(Vec<u8>, Option<Vec<u8>>),
}

impl MemoryBackend {
    /// Makes an empty space.
    pub fn new() -> Self {
        Self::default()
    }

    /// Loses the writes since the last flush except the first `kept`, as a crash may.
    pub fn crash(&self, kept: usize) {
        let mut spaces = self.lock();
        while spaces.unflushed.len() > kept {
            for undo in spaces.unflushed.pop().into_iter().flatten().rev() {
                match undo {
                    Undo::Data(key, before) => set(&mut spaces.data, &key, before),
                    Undo::Meta(key, before) => set(&mut spaces.meta, &key, before),
                };
            }
        }
        spaces.unflushed.clear();
    }

    /// Returns the number of writes since the last flush.
    pub fn unflushed_writes(&self) -> usize {
        self.lock().unflushed.len()
    }

    fn lock(&self) -> MutexGuard<'_, Spaces> {
        self.spaces.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Backend for MemoryBackend {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, Error> {
        Ok(self.lock().data.get(key).cloned())
    }

    fn scan(&self, from: &[u8], to: Option<&[u8]>, visit: &mut Visit<'_>) -> Result<(), Error> {
        let spaces = self.lock();
        run(range(&spaces.data, from, to), visit);
        Ok(())
    }

    fn scan_reverse(&self, from: &[u8], to: Option<&[u8]>, visit: &mut Visit<'_>) -> Result<(), Error> {
        let spaces = self.lock();
        run(range(&spaces.data, from, to).rev(), visit);
        Ok(())
    }

    fn get_meta(&self, key: &[u8]) -> Result<Option<Vec<u8>>, Error> {
        Ok(self.lock().meta.get(key).cloned())
    }

    fn scan_meta(&self, prefix: &[u8], visit: &mut Visit<'_>) -> Result<(), Error> {
        let spaces = self.lock();
        run(range(&spaces.meta, prefix, None).take_while(|(key, _)| key.starts_with(prefix)), visit);
        Ok(())
    }

    fn write(&mut self, batch: &Batch) -> Result<(), Error> {
        let mut spaces = self.lock();
        let mut undo = Vec::with_capacity(batch.len());
        for op in batch.iter() {
            match op {
                BatchOp::Put { key, value } => {
                    undo.push(Undo::Data(key.to_vec(), set(&mut spaces.data, key, Some(value.to_vec()))));
                }
                BatchOp::Delete { key } => undo.push(Undo::Data(key.to_vec(), set(&mut spaces.data, key, None))),
                BatchOp::DeleteRange { from, to } => {
                    let keys: Vec<Vec<u8>> = range(&spaces.data, from, Some(to)).map(|(key, _)| key.clone()).collect();
                    for key in keys {
                        let before = set(&mut spaces.data, &key, None);
                        undo.push(Undo::Data(key, before));
                    }
                }
                BatchOp::PutMeta { key, value } => {
                    undo.push(Undo::Meta(key.to_vec(), set(&mut spaces.meta, key, Some(value.to_vec()))));
                }
                BatchOp::DeleteMeta { key } => undo.push(Undo::Meta(key.to_vec(), set(&mut spaces.meta, key, None))),
            }
        }
        spaces.unflushed.push(undo);
        Ok(())
    }

    fn flush(&mut self) -> Result<(), Error> {
        self.lock().unflushed.clear();
        Ok(())
    }

    fn size_bytes(&self) -> u64 {
        self.lock().data.iter().map(|(key, value)| (key.len() + value.len()) as u64).sum()
    }

    fn check(&mut self) -> Result<(), Error> {
        Ok(())
    }

    fn numbers(&self) -> BackendNumbers {
        BackendNumbers { keys_estimate: self.lock().data.len() as u64, ..BackendNumbers::default() }
    }
}

fn set(space: &mut Space, key: &[u8], value: Option<Vec<u8>>) -> Option<Vec<u8>> {
    match value {
        Some(value) => space.insert(key.to_vec(), value),
        None => space.remove(key),
    }
}

fn range<'a>(
    space: &'a Space,
    from: &[u8],
    to: Option<&[u8]>,
) -> impl DoubleEndedIterator<Item = (&'a Vec<u8>, &'a Vec<u8>)> {
    // An interval that ends before it begins is empty here; BTreeMap would panic.
    let end = to.map_or(Bound::Unbounded, |to| Bound::Excluded(to.max(from)));
    space.range::<[u8], _>((Bound::Included(from), end))
}

fn run<'a>(entries: impl Iterator<Item = (&'a Vec<u8>, &'a Vec<u8>)>, visit: &mut Visit<'_>) {
    for (key, value) in entries {
        if visit(key, value).is_break() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_crash_keeps_a_prefix_of_the_writes_since_the_flush() {
        let mut backend = MemoryBackend::new();
        for number in 0..4_u8 {
            let mut batch = Batch::default();
            batch.put(&[b"key"], &[number]);
            batch.put_meta(b"at", &[number]);
            backend.write(&batch).unwrap();
            if number == 1 {
                backend.flush().unwrap();
            }
        }
        assert_eq!(backend.unflushed_writes(), 2);
        backend.crash(1);
        assert_eq!(backend.get(b"key").unwrap(), Some(vec![2]));
        assert_eq!(backend.get_meta(b"at").unwrap(), Some(vec![2]));
        let mut batch = Batch::default();
        batch.delete_range(b"a", b"z");
        backend.write(&batch).unwrap();
        backend.crash(0);
        assert_eq!(backend.get(b"key").unwrap(), Some(vec![2]));
    }
}
