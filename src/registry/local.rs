//! A registry in this process: in memory, or kept in a file. What `tidemill dev` and tests use where no registry runs.
//!
//! Decides ids (from 1, one per distinct schema, whatever its subject) and versions (from 1 within a subject). Two schemas are the
//! same when their JSON is, whatever its spaces and the order of its attributes. Invariant: what `register` returned is in the file
//! and synced; a file whose last line was cut off by a crash opens without it. Not here: when a schema can read another's data (the
//! caller brings that rule), serving other processes (the file is locked).
//!
//! ```text
//! {"registry":"tidemill","format":1}                              the first line
//! {"subject":"flights-value","version":1,"id":1,"schema":"…"}     one line for each version
//! ```

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::base::ids::SchemaId;
use crate::registry::{Error, Registry, SubjectVersion, Verdict};

/// The format that this version writes and reads.
const FORMAT: u32 = 1;

/// Every reason why a reader's schema cannot take what a writer's schema wrote; none when it can. Both are schemas' JSON texts.
pub type CanRead = fn(reader: &str, writer: &str) -> Vec<String>;

/// What a new version of a subject must be able to do.
#[derive(Clone, Copy, Debug)]
pub enum Compatibility {
    /// Anything goes.
    None,
    /// Read what the newest version wrote.
    Backward(CanRead),
}

/// A registry of this process.
pub struct LocalRegistry {
    compatibility: Compatibility,
    inner: Mutex<Inner>,
}

struct Inner {
    book: Book,
    file: Option<Journal>,
}

/// What is registered. Pure.
#[derive(Default)]
struct Book {
    /// Schema `id` is at `id - 1`.
    schemas: Vec<String>,
    /// Ids by the schemas' normal form.
    ids: HashMap<String, SchemaId>,
    /// Ids of each subject's versions; version `n` is at `n - 1`.
    subjects: BTreeMap<String, Vec<SchemaId>>,
}

struct Journal {
    path: PathBuf,
    file: File,
}

#[derive(Serialize, Deserialize)]
struct Head {
    registry: String,
    format: u32,
}

#[derive(Serialize, Deserialize)]
struct Line {
    subject: String,
    version: u32,
    id: u32,
    schema: String,
}

impl LocalRegistry {
    /// Makes an empty registry that is gone with the process.
    pub fn in_memory() -> Self {
        let inner = Inner { book: Book::default(), file: None };
        Self { compatibility: Compatibility::None, inner: Mutex::new(inner) }
    }

    /// Opens the registry kept in a file, which is made when it does not exist, and locks it for this process.
    ///
    /// # Errors
    /// [`Error::Storage`]: the file cannot be read or written, is in use, is no registry, or one of a newer format.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, Error> {
        let (journal, book) = Journal::open(path.as_ref())?;
        let inner = Inner { book, file: Some(journal) };
        Ok(Self { compatibility: Compatibility::None, inner: Mutex::new(inner) })
    }

    /// Has new versions checked.
    #[must_use]
    pub fn with_compatibility(self, compatibility: Compatibility) -> Self {
        Self { compatibility, ..self }
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What breaks when the schema becomes the subject's newest version.
    fn breaks(&self, book: &Book, subject: &str, schema: &str) -> Vec<String> {
        match (self.compatibility, book.latest(subject)) {
            (Compatibility::Backward(can_read), Some(latest)) => can_read(schema, &latest.schema),
            (Compatibility::Backward(_), None) | (Compatibility::None, _) => Vec::new(),
        }
    }
}

impl fmt::Debug for LocalRegistry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let inner = self.inner();
        let path = inner.file.as_ref().map(|journal| &journal.path);
        f.debug_struct("LocalRegistry").field("path", &path).field("schemas", &inner.book.schemas.len()).finish()
    }
}

impl Registry for LocalRegistry {
    fn schema(&self, id: SchemaId, _wait: Duration) -> Result<String, Error> {
        self.inner().book.schema(id).map(str::to_owned).ok_or(Error::UnknownId { id })
    }

    fn register(&self, subject: &str, schema: &str, _wait: Duration) -> Result<SchemaId, Error> {
        let normal = normal_form(schema)?;
        let inner = &mut *self.inner();
        if let Some(id) = inner.book.find(subject, &normal) {
            return Ok(id);
        }
        let breaks = self.breaks(&inner.book, subject, schema);
        if !breaks.is_empty() {
            return Err(Error::Incompatible { subject: subject.to_owned(), message: breaks.join("; ") });
        }
        let line = inner.book.draft(subject, schema, &normal);
        if let Some(journal) = &mut inner.file {
            journal.append(&line)?;
        }
        let id = SchemaId(line.id);
        inner.book.add(line, normal);
        Ok(id)
    }

    fn lookup(&self, subject: &str, schema: &str, _wait: Duration) -> Result<Option<SchemaId>, Error> {
        let normal = normal_form(schema)?;
        Ok(self.inner().book.find(subject, &normal))
    }

    fn latest(&self, subject: &str, _wait: Duration) -> Result<Option<SubjectVersion>, Error> {
        Ok(self.inner().book.latest(subject))
    }

    fn versions(&self, subject: &str, _wait: Duration) -> Result<Vec<SubjectVersion>, Error> {
        Ok(self.inner().book.versions(subject))
    }

    fn subjects(&self, _wait: Duration) -> Result<Vec<String>, Error> {
        Ok(self.inner().book.subjects.keys().cloned().collect())
    }

    fn level(&self, _subject: &str, _wait: Duration) -> Result<String, Error> {
        Ok(match self.compatibility {
            Compatibility::None => "NONE",
            Compatibility::Backward(_) => "BACKWARD",
        }
        .to_owned())
    }

    fn compatible(&self, subject: &str, schema: &str, _wait: Duration) -> Result<Verdict, Error> {
        normal_form(schema)?;
        let messages = self.breaks(&self.inner().book, subject, schema);
        Ok(Verdict { compatible: messages.is_empty(), messages })
    }
}

impl Book {
    fn schema(&self, id: SchemaId) -> Option<&str> {
        let index = usize::try_from(id.0).ok()?.checked_sub(1)?;
        self.schemas.get(index).map(String::as_str)
    }

    /// Returns the id of a schema under a subject.
    fn find(&self, subject: &str, normal: &str) -> Option<SchemaId> {
        let id = self.ids.get(normal)?;
        self.subjects.get(subject)?.contains(id).then_some(*id)
    }

    fn versions(&self, subject: &str) -> Vec<SubjectVersion> {
        let ids = self.subjects.get(subject).map_or(&[][..], Vec::as_slice);
        let version = |(version, id): (u32, &SchemaId)| SubjectVersion {
            subject: subject.to_owned(),
            version,
            id: *id,
            schema: self.schema(*id).unwrap_or_default().to_owned(),
        };
        (1..).zip(ids).map(version).collect()
    }

    fn latest(&self, subject: &str) -> Option<SubjectVersion> {
        self.versions(subject).pop()
    }

    /// The line that registering a schema adds.
    fn draft(&self, subject: &str, schema: &str, normal: &str) -> Line {
        let next = u32::try_from(self.schemas.len() + 1).expect("fewer than 2^32 schemas fit into memory");
        let versions = self.subjects.get(subject).map_or(0, Vec::len);
        Line {
            subject: subject.to_owned(),
            version: u32::try_from(versions + 1).expect("fewer than 2^32 versions fit into memory"),
            id: self.ids.get(normal).map_or(next, |id| id.0),
            schema: schema.to_owned(),
        }
    }

    fn add(&mut self, line: Line, normal: String) {
        let id = SchemaId(line.id);
        if self.ids.insert(normal, id).is_none() {
            self.schemas.push(line.schema);
        }
        self.subjects.entry(line.subject).or_default().push(id);
    }
}

impl Journal {
    fn open(path: &Path) -> Result<(Self, Book), Error> {
        let storage = |error: std::io::Error| Error::Storage { message: format!("`{}`: {error}", path.display()) };
        let mut file =
            OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path).map_err(storage)?;
        file.try_lock()
            .map_err(|error| Error::Storage { message: format!("`{}` is in use: {error}", path.display()) })?;
        let mut text = Vec::new();
        file.read_to_end(&mut text).map_err(storage)?;
        // A line without its end was being written when the process died: nobody was told that it is there.
        let whole = text.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
        file.set_len(whole as u64).map_err(storage)?;
        file.seek(SeekFrom::End(0)).map_err(storage)?;
        let book = read_book(path, &text[..whole])?;
        let mut journal = Self { path: path.to_owned(), file };
        if whole == 0 {
            journal.append(&Head { registry: "tidemill".to_owned(), format: FORMAT })?;
            // The file's own entry in its folder must last, too.
            if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
                File::open(folder).and_then(|folder| folder.sync_all()).map_err(storage)?;
            }
        }
        Ok((journal, book))
    }

    fn append(&mut self, line: &impl Serialize) -> Result<(), Error> {
        let storage = |message: String| Error::Storage { message: format!("`{}`: {message}", self.path.display()) };
        let mut text = serde_json::to_vec(line).map_err(|error| storage(error.to_string()))?;
        text.push(b'\n');
        let written = self.file.stream_position().map_err(|error| storage(error.to_string()))?;
        let outcome = self.file.write_all(&text).and_then(|()| self.file.sync_data());
        if outcome.is_err() {
            // What got through of the line must not stand before the next one.
            self.file
                .set_len(written)
                .and_then(|()| self.file.seek(SeekFrom::Start(written)))
                .map_err(|error| storage(error.to_string()))?;
        }
        outcome.map_err(|error| storage(error.to_string()))
    }
}

fn read_book(path: &Path, text: &[u8]) -> Result<Book, Error> {
    let wrong = |number: usize, what: String| Error::Storage {
        message: format!("`{}`, line {number}: {what}", path.display()),
    };
    let mut book = Book::default();
    for (number, line) in (1..).zip(text.split_inclusive(|byte| *byte == b'\n')) {
        if number == 1 {
            let head: Head = serde_json::from_slice(line).map_err(|error| wrong(number, error.to_string()))?;
            if head.registry != "tidemill" || head.format > FORMAT {
                return Err(wrong(number, format!("format {} is not known here", head.format)));
            }
            continue;
        }
        let line: Line = serde_json::from_slice(line).map_err(|error| wrong(number, error.to_string()))?;
        let normal = normal_form(&line.schema).map_err(|error| wrong(number, error.to_string()))?;
        let expected = book.draft(&line.subject, &line.schema, &normal);
        if (line.id, line.version) != (expected.id, expected.version) {
            let what = format!("id {} and version {} are not next", line.id, line.version);
            return Err(wrong(number, what));
        }
        book.add(line, normal);
    }
    Ok(book)
}

/// Returns the JSON without spaces and with attributes in order of their names.
fn normal_form(schema: &str) -> Result<String, Error> {
    let value: Value = serde_json::from_str(schema)
        .map_err(|error| Error::Refused { message: format!("the schema is not JSON: {error}") })?;
    Ok(sorted(value).to_string())
}

fn sorted(value: Value) -> Value {
    match value {
        Value::Array(items) => Value::Array(items.into_iter().map(sorted).collect()),
        Value::Object(fields) => {
            let fields: BTreeMap<String, Value> =
                fields.into_iter().map(|(name, value)| (name, sorted(value))).collect();
            Value::Object(fields.into_iter().collect())
        }
        other @ (Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_)) => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WAIT: Duration = Duration::from_secs(1);
    const A: &str = r#"{"type":"record","name":"A","fields":[]}"#;
    const A_SPACED: &str = r#"{ "name": "A", "type": "record", "fields": [] }"#;

    #[test]
    fn a_file_opens_with_all_that_was_registered() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("schemas.jsonl");
        let registry = LocalRegistry::open(&path).unwrap();
        assert_eq!(registry.register("a", A, WAIT).unwrap(), SchemaId(1));
        assert_eq!(registry.register("a", r#""string""#, WAIT).unwrap(), SchemaId(2));
        assert_eq!(registry.register("b", A_SPACED, WAIT).unwrap(), SchemaId(1));
        let before = (registry.versions("a", WAIT).unwrap(), registry.versions("b", WAIT).unwrap());
        drop(registry);
        let registry = LocalRegistry::open(&path).unwrap();
        assert_eq!((registry.versions("a", WAIT).unwrap(), registry.versions("b", WAIT).unwrap()), before);
        assert_eq!(registry.register("b", r#""long""#, WAIT).unwrap(), SchemaId(3));
    }

    #[test]
    fn a_file_cut_anywhere_in_its_last_line_opens_without_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("schemas.jsonl");
        let registry = LocalRegistry::open(&path).unwrap();
        registry.register("a", A, WAIT).unwrap();
        drop(registry);
        let whole = std::fs::read(&path).unwrap();
        let head = whole.iter().position(|byte| *byte == b'\n').unwrap() + 1;
        for cut in 0..whole.len() {
            std::fs::write(&path, &whole[..cut]).unwrap();
            let registry = LocalRegistry::open(&path).unwrap();
            assert_eq!(registry.subjects(WAIT).unwrap(), Vec::<String>::new(), "cut at {cut}, head {head}");
            assert_eq!(registry.register("b", A, WAIT).unwrap(), SchemaId(1));
            drop(registry);
            assert_eq!(LocalRegistry::open(&path).unwrap().subjects(WAIT).unwrap(), ["b"]);
        }
    }

    #[test]
    fn a_damaged_line_and_a_newer_format_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("schemas.jsonl");
        let head = r#"{"registry":"tidemill","format":1}"#;
        for text in [
            format!("{head}\nnot json\n"),
            format!("{head}\n{{\"subject\":\"a\",\"version\":2,\"id\":1,\"schema\":\"{{}}\"}}\n"),
            "{\"registry\":\"tidemill\",\"format\":2}\n".to_owned(),
            "{\"hello\":1}\n".to_owned(),
        ] {
            std::fs::write(&path, &text).unwrap();
            assert!(matches!(LocalRegistry::open(&path), Err(Error::Storage { .. })), "{text}");
            assert_eq!(std::fs::read_to_string(&path).unwrap(), text, "left as it was");
        }
    }

    #[test]
    fn a_file_is_open_once() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("schemas.jsonl");
        let first = LocalRegistry::open(&path).unwrap();
        assert!(matches!(LocalRegistry::open(&path), Err(Error::Storage { .. })));
        drop(first);
        assert!(LocalRegistry::open(&path).is_ok());
    }

    #[test]
    fn a_version_that_breaks_readers_is_refused_and_leaves_nothing() {
        let can_read: CanRead =
            |reader, writer| if reader.len() < writer.len() { vec!["shorter".to_owned()] } else { Vec::new() };
        let registry = LocalRegistry::in_memory().with_compatibility(Compatibility::Backward(can_read));
        registry.register("a", A, WAIT).unwrap();
        let verdict = registry.compatible("a", r#""long""#, WAIT).unwrap();
        assert_eq!(verdict, Verdict { compatible: false, messages: vec!["shorter".to_owned()] });
        let refused = registry.register("a", r#""long""#, WAIT);
        assert!(matches!(refused, Err(Error::Incompatible { .. })), "{refused:?}");
        assert_eq!(registry.versions("a", WAIT).unwrap().len(), 1);
        assert_eq!(registry.register("b", r#""long""#, WAIT).unwrap(), SchemaId(2));
    }
}
