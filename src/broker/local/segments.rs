//! A partition's files: append-only segments of batches, with a sparse index in memory.
//!
//! Format: `docs/formats.md`, "Local broker". Invariants: a segment's batches are in order and checksummed; only the last
//! one grows; a torn end of the last one is cut off when it is opened, and anything else that does not fit is an error.
//! What the batches mean (transactions, visibility) is not decided here.

use std::fs::{self, File, OpenOptions};
use std::io::{self, IoSlice, Write as _};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;

use crate::broker::Error;
use crate::broker::local::batch::{Batch, HEADER_BYTES};
use crate::limits;

/// Bytes before a segment's first batch.
pub(super) const SEGMENT_HEADER_BYTES: u64 = 32;
const MAGIC: [u8; 8] = *b"TIDESEG\0";
const VERSION: u32 = 1;
/// Slices per system call: Linux' `IOV_MAX`.
const SLICES_MAX: usize = 1024;

/// The files of one partition.
#[derive(Debug)]
pub(super) struct Segments {
    directory: PathBuf,
    partition: i32,
    list: Vec<Segment>,
    /// A file was created since the disk was last asked to keep the directory.
    unsynced_names: bool,
}

/// One file.
#[derive(Debug)]
pub(super) struct Segment {
    path: PathBuf,
    base: i64,
    /// Offset behind everything that the file stands for.
    end: i64,
    file: Arc<File>,
    bytes: u64,
    /// Offset and place of a batch every [`limits::LOCAL_INDEX_BYTES`] or so.
    index: Vec<(i64, u64)>,
    form: Form,
    /// Something was written since the disk was last asked to keep it.
    unsynced: bool,
}

/// Reads the old files and writes what is to stay.
pub(super) type Rewrite<'a> = &'a mut dyn FnMut(&[Segment], &mut SegmentWriter) -> Result<(), Error>;

/// How a segment came to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// As it was appended.
    Plain,
    /// Compaction wrote it: committed records only, offsets may be missing.
    Compacted,
}

/// Where a read begins.
#[derive(Debug)]
pub(super) struct Place {
    pub(super) file: Arc<File>,
    pub(super) at: u64,
    pub(super) available_bytes: u64,
    pub(super) segment_end: i64,
}

impl Segments {
    /// Names the files of a partition that has none yet.
    pub(super) fn empty(directory: &Path, partition: i32) -> Self {
        Self { directory: directory.to_owned(), partition, list: Vec::new(), unsynced_names: false }
    }

    /// Opens a partition's files, checks every batch and shows it to `visit`.
    pub(super) fn open(directory: &Path, partition: i32, visit: &mut dyn FnMut(&Batch)) -> Result<Self, Error> {
        let mut segments = Self::empty(directory, partition);
        let names = segments.names().map_err(|error| unreadable(directory, &error))?;
        for (index, (base, form_end, path)) in names.iter().enumerate() {
            let last = index + 1 == names.len();
            let opened = Segment::open(path, *base, *form_end, last, visit)?;
            segments.list.extend(opened);
        }
        Ok(segments)
    }

    /// Finds the files by name, in order, and removes those that a compacted one replaces.
    fn names(&self) -> io::Result<Vec<(i64, Option<i64>, PathBuf)>> {
        let entries = match fs::read_dir(&self.directory) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(error),
        };
        let mut names = Vec::new();
        for entry in entries {
            let path = entry?.path();
            let Some(name) = path.file_name().and_then(|name| name.to_str()) else { continue };
            if let Some((base, end)) = parse_name(name, self.partition) {
                names.push((base, end, path));
            }
        }
        let replaced = |base: i64, end: Option<i64>| {
            names.iter().any(|(by_base, by_end, _)| {
                by_end.is_some_and(|by_end| *by_base <= base && base < by_end && end.unwrap_or(i64::MIN) < by_end)
            })
        };
        let (gone, mut kept): (Vec<_>, Vec<_>) =
            names.iter().cloned().partition(|(base, end, _)| replaced(*base, *end));
        for (_, _, path) in gone {
            fs::remove_file(path)?;
        }
        kept.sort();
        Ok(kept)
    }

    /// Returns the offset behind the last batch; 0 when there is none.
    pub(super) fn end(&self) -> i64 {
        self.list.last().map_or(0, |segment| segment.end)
    }

    /// Returns the bytes in all files, and those of them that compaction has not seen.
    pub(super) fn bytes(&self) -> (u64, u64) {
        let dirty = self.list.iter().filter(|segment| segment.form == Form::Plain).map(|segment| segment.bytes).sum();
        (self.list.iter().map(|segment| segment.bytes).sum(), dirty)
    }

    pub(super) fn list(&self) -> &[Segment] {
        &self.list
    }

    /// Appends batches with as few system calls as may be. After an error the files are as before.
    pub(super) fn append(&mut self, batches: &[&Batch]) -> io::Result<()> {
        let Some(first) = batches.first() else { return Ok(()) };
        if self
            .list
            .last()
            .is_none_or(|last| last.form == Form::Compacted || last.bytes >= limits::LOCAL_SEGMENT_BYTES_MAX)
        {
            fs::create_dir_all(&self.directory)?;
            let segment = Segment::create(&self.directory, self.partition, first.base)?;
            self.list.push(segment);
            self.unsynced_names = true;
        }
        let active = self.list.last_mut().expect("a segment was added when there was none");
        for part in batches.chunks(SLICES_MAX) {
            let mut slices: Vec<IoSlice<'_>> = part.iter().map(|batch| IoSlice::new(&batch.bytes)).collect();
            if let Err(error) = write_all(&active.file, &mut slices) {
                // What half arrived would stand in front of what is written next.
                active.file.set_len(active.bytes)?;
                return Err(error);
            }
            for batch in part {
                active.note(batch, active.bytes);
                active.bytes += batch.bytes.len() as u64;
            }
            active.unsynced = true;
        }
        Ok(())
    }

    /// Asks the disk to keep what was appended.
    pub(super) fn sync(&mut self) -> io::Result<()> {
        for segment in self.list.iter_mut().filter(|segment| segment.unsynced) {
            segment.file.sync_data()?;
            segment.unsynced = false;
            if self.unsynced_names {
                sync_directory(&self.directory)?;
                self.unsynced_names = false;
            }
        }
        Ok(())
    }

    /// Finds the segment and the place in it from where `offset`, or the next one after it, is reached soon.
    pub(super) fn find(&self, offset: i64) -> Option<Place> {
        let segment = self.list.iter().find(|segment| offset < segment.end)?;
        let before = segment.index.partition_point(|(base, _)| *base <= offset).saturating_sub(1);
        let at = segment.index.get(before).map_or(SEGMENT_HEADER_BYTES, |(_, at)| *at);
        Some(Place {
            file: Arc::clone(&segment.file),
            at,
            available_bytes: segment.bytes - at,
            segment_end: segment.end,
        })
    }

    /// Removes the files that hold nothing at or after `offset`, except the one that grows.
    pub(super) fn delete_before(&mut self, offset: i64) -> io::Result<()> {
        while self.list.len() > 1 && self.list[0].end <= offset {
            fs::remove_file(&self.list[0].path)?;
            self.list.remove(0);
        }
        Ok(())
    }

    /// Puts `batches` in the place of all files, which stand for the offsets up to `end`. Atomic: a crash leaves the old
    /// files or the new one.
    pub(super) fn replace(&mut self, base: i64, end: i64, write: Rewrite<'_>) -> Result<(), Error> {
        let draft = self.directory.join(format!("{}.draft", self.partition));
        let failed = |error: io::Error| unwritable(&draft, &error);
        let mut writer = SegmentWriter::create(&draft, base, end).map_err(failed)?;
        write(&self.list, &mut writer)?;
        let mut segment = writer.finish().map_err(failed)?;
        segment.path = self.directory.join(format!("{}-{base:020}-{end:020}.compacted", self.partition));
        fs::rename(&draft, &segment.path).and_then(|()| sync_directory(&self.directory)).map_err(failed)?;
        for old in self.list.drain(..).filter(|old| old.path != segment.path) {
            fs::remove_file(&old.path).map_err(|error| unwritable(&old.path, &error))?;
        }
        self.list.push(segment);
        Ok(())
    }
}

/// Writes the file that compaction makes.
#[derive(Debug)]
pub(super) struct SegmentWriter {
    segment: Segment,
    buffer: Vec<u8>,
}

impl SegmentWriter {
    fn create(path: &Path, base: i64, end: i64) -> io::Result<Self> {
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(true).open(path)?;
        let segment = Segment {
            path: path.to_owned(),
            base,
            end,
            file: Arc::new(file),
            bytes: SEGMENT_HEADER_BYTES,
            index: Vec::new(),
            form: Form::Compacted,
            unsynced: false,
        };
        Ok(Self { segment, buffer: segment_header(base, end).to_vec() })
    }

    /// Adds a batch.
    pub(super) fn add(&mut self, batch: &Batch) -> Result<(), Error> {
        let end = self.segment.end;
        self.segment.note(batch, self.segment.bytes);
        self.segment.end = end;
        self.segment.bytes += batch.bytes.len() as u64;
        self.buffer.extend_from_slice(&batch.bytes);
        if self.buffer.len() >= limits::LOCAL_CHUNK_BYTES {
            let written = (&*self.segment.file).write_all(&self.buffer);
            written.map_err(|error| unwritable(&self.segment.path, &error))?;
            self.buffer.clear();
        }
        Ok(())
    }

    fn finish(self) -> io::Result<Segment> {
        (&*self.segment.file).write_all(&self.buffer)?;
        self.segment.file.sync_all()?;
        Ok(self.segment)
    }
}

impl Segment {
    fn create(directory: &Path, partition: i32, base: i64) -> io::Result<Self> {
        let path = directory.join(format!("{partition}-{base:020}.segment"));
        let file = OpenOptions::new().read(true).append(true).create(true).open(&path)?;
        file.set_len(0)?;
        (&file).write_all(&segment_header(base, 0))?;
        let bytes = SEGMENT_HEADER_BYTES;
        let (file, index) = (Arc::new(file), Vec::new());
        Ok(Self { path, base, end: base, file, bytes, index, form: Form::Plain, unsynced: true })
    }

    /// Opens a file and checks it; none when nothing had arrived in it.
    fn open(
        path: &Path,
        base: i64,
        compacted_end: Option<i64>,
        last: bool,
        visit: &mut dyn FnMut(&Batch),
    ) -> Result<Option<Self>, Error> {
        let failed = |error: io::Error| unreadable(path, &error);
        let file = OpenOptions::new().read(true).append(true).open(path).map_err(failed)?;
        let length = file.metadata().map_err(failed)?.len();
        if last && compacted_end.is_none() && length <= SEGMENT_HEADER_BYTES {
            fs::remove_file(path).map_err(failed)?;
            return Ok(None);
        }
        let mut header = [0; SEGMENT_HEADER_BYTES as usize];
        file.read_exact_at(&mut header, 0).map_err(failed)?;
        if header != segment_header(base, compacted_end.unwrap_or(0)) {
            let message = format!("`{}` is not a segment file of format {VERSION}", path.display());
            return Err(Error::Storage { message });
        }
        let form = if compacted_end.is_some() { Form::Compacted } else { Form::Plain };
        let (file, index) = (Arc::new(file), Vec::new());
        // A process that was killed may have left the newest of it to the operating system.
        let (bytes, unsynced) = (SEGMENT_HEADER_BYTES, last);
        let mut segment = Self { path: path.to_owned(), base, end: base, file, bytes, index, form, unsynced };
        let file = Arc::clone(&segment.file);
        let end = scan(&file, length, &mut |batch, at| {
            segment.note(&batch, at);
            visit(&batch);
            Ok(())
        });
        segment.bytes = match end.map_err(|broken| broken.into_error(path))? {
            ScanEnd::Clean => length,
            ScanEnd::Torn { at } if last && form == Form::Plain => {
                file.set_len(at).map_err(failed)?;
                at
            }
            ScanEnd::Torn { at } => return Err(Broken::Corrupt { at }.into_error(path)),
        };
        segment.end = compacted_end.unwrap_or(segment.end);
        Ok(Some(segment))
    }

    /// Returns the offset that the file begins at.
    pub(super) fn base(&self) -> i64 {
        self.base
    }

    /// Tells how the file came to be.
    pub(super) fn form(&self) -> Form {
        self.form
    }

    /// Reads all batches in order.
    pub(super) fn for_each(&self, visit: &mut dyn FnMut(Batch) -> Result<(), Error>) -> Result<(), Error> {
        match scan(&self.file, self.bytes, &mut |batch, _| visit(batch)) {
            Ok(ScanEnd::Clean) => Ok(()),
            Ok(ScanEnd::Torn { at }) => Err(Broken::Corrupt { at }.into_error(&self.path)),
            Err(broken) => Err(broken.into_error(&self.path)),
        }
    }

    /// Returns when the file was last written to, where the file system tells.
    pub(super) fn written_at(&self) -> Option<std::time::SystemTime> {
        self.file.metadata().and_then(|metadata| metadata.modified()).ok()
    }

    fn note(&mut self, batch: &Batch, at: u64) {
        self.end = batch.last + 1;
        if self.index.last().is_none_or(|(_, before)| at - before >= limits::LOCAL_INDEX_BYTES) {
            self.index.push((batch.base, at));
        }
    }
}

fn segment_header(base: i64, end: i64) -> [u8; SEGMENT_HEADER_BYTES as usize] {
    let mut header = [0; SEGMENT_HEADER_BYTES as usize];
    header[..8].copy_from_slice(&MAGIC);
    header[8..12].copy_from_slice(&VERSION.to_le_bytes());
    header[16..24].copy_from_slice(&base.to_le_bytes());
    header[24..32].copy_from_slice(&end.to_le_bytes());
    header
}

/// Reads `3-00000000000000000042.segment` or `3-…-….compacted`: the base, and the end of a compacted one.
fn parse_name(name: &str, partition: i32) -> Option<(i64, Option<i64>)> {
    let rest = name.strip_prefix(&format!("{partition}-"))?;
    if let Some(base) = rest.strip_suffix(".segment") {
        return Some((base.parse().ok()?, None));
    }
    let (base, end) = rest.strip_suffix(".compacted")?.split_once('-')?;
    Some((base.parse().ok()?, Some(end.parse().ok()?)))
}

fn write_all(mut file: &File, mut slices: &mut [IoSlice<'_>]) -> io::Result<()> {
    while !slices.is_empty() {
        match file.write_vectored(slices) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(written) => IoSlice::advance_slices(&mut slices, written),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Makes a file's name as durable as its content.
pub(super) fn sync_directory(directory: &Path) -> io::Result<()> {
    File::open(directory)?.sync_all()
}

/// What stands at a place of a file.
#[derive(Debug)]
pub(super) enum Parsed {
    Batch(Batch),
    /// It goes on beyond the bytes given; this many are needed.
    Incomplete {
        needed_bytes: usize,
    },
    /// Not a header.
    Garbage,
    /// A header whose records are not what was written; so many bytes.
    Damaged {
        total_bytes: usize,
    },
}

/// Reads the batch at `at`, checking it.
pub(super) fn parse(bytes: &Bytes, at: usize) -> Parsed {
    let rest = &bytes[at..];
    if rest.len() < HEADER_BYTES {
        return Parsed::Incomplete { needed_bytes: HEADER_BYTES };
    }
    let Some(header) = Batch::read_header(rest) else { return Parsed::Garbage };
    let total_bytes = header.total_bytes();
    match rest.get(HEADER_BYTES..total_bytes) {
        None => Parsed::Incomplete { needed_bytes: total_bytes },
        Some(body) if header.matches(body) => Parsed::Batch(header.with(bytes.slice(at..at + total_bytes))),
        Some(_) => Parsed::Damaged { total_bytes },
    }
}

/// How the batches of a file end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ScanEnd {
    Clean,
    /// The last write did not arrive whole; everything before `at` did.
    Torn {
        at: u64,
    },
}

#[derive(Debug)]
enum Broken {
    Io(io::Error),
    Corrupt { at: u64 },
    Visitor(Error),
}

impl Broken {
    fn into_error(self, path: &Path) -> Error {
        match self {
            Self::Io(error) => unreadable(path, &error),
            Self::Corrupt { at } => corrupt(&path.display().to_string(), at),
            Self::Visitor(error) => error,
        }
    }
}

/// Shows every batch of a file of `length` bytes to `visit`, with its place.
fn scan(file: &File, length: u64, visit: &mut dyn FnMut(Batch, u64) -> Result<(), Error>) -> Result<ScanEnd, Broken> {
    let (mut at, mut want) = (SEGMENT_HEADER_BYTES, limits::LOCAL_CHUNK_BYTES);
    while at < length {
        let bytes = read_at(file, at, want.min((length - at) as usize)).map_err(Broken::Io)?;
        let mut used = 0;
        want = limits::LOCAL_CHUNK_BYTES;
        while used < bytes.len() {
            match parse(&bytes, used) {
                Parsed::Batch(batch) => {
                    let total = batch.bytes.len();
                    visit(batch, at + used as u64).map_err(Broken::Visitor)?;
                    used += total;
                }
                Parsed::Incomplete { needed_bytes } => {
                    if at + (used + needed_bytes) as u64 > length {
                        return Ok(ScanEnd::Torn { at: at + used as u64 });
                    }
                    want = want.max(needed_bytes);
                    break;
                }
                // After a loss of power a file may be long enough and yet empty at its end.
                Parsed::Garbage if bytes[used..].iter().all(|byte| *byte == 0) => {
                    return Ok(ScanEnd::Torn { at: at + used as u64 });
                }
                Parsed::Damaged { total_bytes } if at + (used + total_bytes) as u64 == length => {
                    return Ok(ScanEnd::Torn { at: at + used as u64 });
                }
                Parsed::Garbage | Parsed::Damaged { .. } => return Err(Broken::Corrupt { at: at + used as u64 }),
            }
        }
        at += used as u64;
    }
    Ok(ScanEnd::Clean)
}

/// Reads `length` bytes at a place of a file.
pub(super) fn read_at(file: &File, at: u64, length: usize) -> io::Result<Bytes> {
    let mut buffer = vec![0; length];
    file.read_exact_at(&mut buffer, at)?;
    Ok(Bytes::from(buffer))
}

pub(super) fn corrupt(what: &str, at: u64) -> Error {
    Error::Storage { message: format!("{what} is damaged at byte {at}") }
}

pub(super) fn unreadable(path: &Path, error: &io::Error) -> Error {
    Error::Storage { message: format!("cannot read `{}`: {error}", path.display()) }
}

pub(super) fn unwritable(path: &Path, error: &io::Error) -> Error {
    Error::Unavailable { message: format!("cannot write `{}`: {error}", path.display()) }
}
