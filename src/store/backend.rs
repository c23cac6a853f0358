//! The key-value engine below a task's stores: one ordered space of rows and a small one of facts about them, written together.
//!
//! A write is atomic; only a flush makes it durable, and a crash keeps some whole prefix of the writes since the last one.

use std::fmt;
use std::ops::{ControlFlow, Range};

use crate::store::Error;

/// What is called with each entry of a scan; it may end the scan.
pub type Visit<'a> = dyn FnMut(&[u8], &[u8]) -> ControlFlow<()> + 'a;

/// An ordered byte space that outlives the process.
pub trait Backend: Send + fmt::Debug {
    /// Returns the value of a key.
    ///
    /// # Errors
    /// The engine cannot read, or what it read is damaged.
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, Error>;

    /// Visits the entries of `from..to` upwards; without `to`, to the end.
    ///
    /// # Errors
    /// The engine cannot read, or what it read is damaged.
    fn scan(&self, from: &[u8], to: Option<&[u8]>, visit: &mut Visit<'_>) -> Result<(), Error>;

    /// Visits the entries of `from..to` downwards; without `to`, from the end.
    ///
    /// # Errors
    /// The engine cannot read, or what it read is damaged.
    fn scan_reverse(&self, from: &[u8], to: Option<&[u8]>, visit: &mut Visit<'_>) -> Result<(), Error>;

    /// Returns a fact.
    ///
    /// # Errors
    /// The engine cannot read, or what it read is damaged.
    fn get_meta(&self, key: &[u8]) -> Result<Option<Vec<u8>>, Error>;

    /// Visits the facts whose key begins with `prefix`, upwards.
    ///
    /// # Errors
    /// The engine cannot read, or what it read is damaged.
    fn scan_meta(&self, prefix: &[u8], visit: &mut Visit<'_>) -> Result<(), Error>;

    /// Applies a batch: all of it or nothing.
    ///
    /// # Errors
    /// The engine cannot write.
    fn write(&mut self, batch: &Batch) -> Result<(), Error>;

    /// Makes everything written so far survive a crash.
    ///
    /// # Errors
    /// The engine cannot write.
    fn flush(&mut self) -> Result<(), Error>;

    /// Begins to make everything written so far survive a crash, without waiting where the engine can do it beside the caller.
    ///
    /// # Errors
    /// The engine cannot write.
    fn start_flush(&mut self) -> Result<(), Error> {
        self.flush()
    }

    /// Says that much is going to be written and nothing read, or that this is over. Until then an engine may show what was there before, put
    /// off what reads gain from alone, and have a crash keep rows without the facts that were written with them: whoever goes on from what
    /// the facts say writes the same rows again.
    ///
    /// # Errors
    /// The engine cannot write.
    fn load_in_bulk(&mut self, _on: bool) -> Result<(), Error> {
        Ok(())
    }

    /// Finds out whether what runs in the background has failed: nobody waits for it.
    ///
    /// # Errors
    /// What made it fail, while it lasts.
    fn check(&mut self) -> Result<(), Error>;

    /// Returns the bytes at rest, roughly.
    fn size_bytes(&self) -> u64;

    /// Returns what the engine tells about itself.
    fn numbers(&self) -> BackendNumbers;
}

/// Where the backends of a process's tasks come from.
pub trait Backends: Send + Sync + fmt::Debug {
    /// Opens the backend of a folder, a task's or that of the global tables, or makes it.
    ///
    /// # Errors
    /// [`Error::Locked`] while somebody else has it open; the engine cannot read or write.
    fn open(&self, folder: &str) -> Result<Box<dyn Backend>, Error>;

    /// Returns the bytes of all of them in memory: caches of what is at rest, and what is not flushed.
    fn memory_bytes(&self) -> (usize, usize) {
        (0, 0)
    }
}

/// An engine's figures, for metrics; zero where it has none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BackendNumbers {
    /// Bytes of live files.
    pub live_files_bytes: u64,
    /// Bytes written but not yet flushed, in memory.
    pub memtable_bytes: u64,
    /// Bytes of the shared block cache in use (by all tasks of the process).
    pub block_cache_bytes: u64,
    /// Rows, roughly.
    pub keys_estimate: u64,
    /// Bytes that compaction still has to rewrite.
    pub pending_compaction_bytes: u64,
    /// Compactions that are running.
    pub running_compactions: u64,
    /// Writes are refused until compaction catches up.
    pub write_stopped: bool,
    /// Errors of flushes and compactions since the start.
    pub background_errors: u64,
}

/// Changes that are applied together. One arena holds all bytes.
#[derive(Debug, Default)]
pub struct Batch {
    arena: Vec<u8>,
    ops: Vec<Op>,
}

/// One change of a [`Batch`].
#[derive(Debug, PartialEq, Eq)]
pub enum BatchOp<'a> {
    Put { key: &'a [u8], value: &'a [u8] },
    Delete { key: &'a [u8] },
    DeleteRange { from: &'a [u8], to: &'a [u8] },
    PutMeta { key: &'a [u8], value: &'a [u8] },
    DeleteMeta { key: &'a [u8] },
}

#[derive(Debug)]
struct Op {
    shape: Shape,
    first: Range<usize>,
    second: Range<usize>,
}

#[derive(Clone, Copy, Debug)]
enum Shape {
    Put,
    Delete,
    DeleteRange,
    PutMeta,
    DeleteMeta,
}

impl Batch {
    /// Writes a row; the key is the joined parts.
    pub fn put(&mut self, key: &[&[u8]], value: &[u8]) {
        self.push(Shape::Put, key, value);
    }

    /// Deletes a row; the key is the joined parts.
    pub fn delete(&mut self, key: &[&[u8]]) {
        self.push(Shape::Delete, key, &[]);
    }

    /// Deletes the rows of `from..to`.
    pub fn delete_range(&mut self, from: &[u8], to: &[u8]) {
        self.push(Shape::DeleteRange, &[from], to);
    }

    /// Writes a fact.
    pub fn put_meta(&mut self, key: &[u8], value: &[u8]) {
        self.push(Shape::PutMeta, &[key], value);
    }

    /// Deletes a fact.
    pub fn delete_meta(&mut self, key: &[u8]) {
        self.push(Shape::DeleteMeta, &[key], &[]);
    }

    /// Returns the changes in the order in which they were added.
    pub fn iter(&self) -> impl Iterator<Item = BatchOp<'_>> {
        self.ops.iter().map(|op| {
            let (first, second) = (&self.arena[op.first.clone()], &self.arena[op.second.clone()]);
            match op.shape {
                Shape::Put => BatchOp::Put { key: first, value: second },
                Shape::Delete => BatchOp::Delete { key: first },
                Shape::DeleteRange => BatchOp::DeleteRange { from: first, to: second },
                Shape::PutMeta => BatchOp::PutMeta { key: first, value: second },
                Shape::DeleteMeta => BatchOp::DeleteMeta { key: first },
            }
        })
    }

    /// Returns the number of changes.
    pub fn len(&self) -> usize {
        self.ops.len()
    }

    /// Tells whether there are none.
    pub fn is_empty(&self) -> bool {
        self.ops.is_empty()
    }

    /// Returns the bytes of all keys and values.
    pub fn size_bytes(&self) -> usize {
        self.arena.len()
    }

    fn push(&mut self, shape: Shape, first: &[&[u8]], second: &[u8]) {
        let start = self.arena.len();
        for part in first {
            self.arena.extend_from_slice(part);
        }
        let middle = self.arena.len();
        self.arena.extend_from_slice(second);
        self.ops.push(Op { shape, first: start..middle, second: middle..self.arena.len() });
    }
}
