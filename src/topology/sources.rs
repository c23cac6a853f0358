//! The texts that a topology is made of: its TOML files and the schemas they name. Nothing here reads a disk.

use crate::base::diag::{FileId, Span};

/// A topology's files and schemas, in memory.
#[derive(Clone, Debug, Default)]
pub struct Sources {
    /// The `*.toml` files, tests left out.
    pub files: Vec<SourceFile>,
    /// The schemas that the files name and that were found.
    pub schemas: Vec<SchemaFile>,
    /// Names of further schema files that lie where schemas are looked for: what a name that is not found may have meant.
    pub beside: Vec<String>,
}

/// A TOML file.
#[derive(Clone, Debug)]
pub struct SourceFile {
    /// As messages show it.
    pub path: String,
    pub text: String,
}

/// A schema file.
#[derive(Clone, Debug)]
pub struct SchemaFile {
    /// As the topology names it, `FlightDeparted.avsc`.
    pub name: String,
    /// As messages show it.
    pub path: String,
    pub text: String,
}

impl Sources {
    /// Adds a TOML file.
    #[must_use]
    pub fn with_file(mut self, path: &str, text: &str) -> Self {
        self.files.push(SourceFile { path: path.to_owned(), text: text.to_owned() });
        self
    }

    /// Adds a schema that topologies name by `name`.
    #[must_use]
    pub fn with_schema(mut self, name: &str, text: &str) -> Self {
        self.schemas.push(SchemaFile { name: name.to_owned(), path: name.to_owned(), text: text.to_owned() });
        self
    }

    /// Returns the path and text of a file that a diagnostic points into: TOML files first, then schemas.
    pub fn file(&self, id: FileId) -> Option<(&str, &str)> {
        match self.files.get(id.0) {
            Some(file) => Some((&file.path, &file.text)),
            None => self.schemas.get(id.0 - self.files.len()).map(|file| (file.path.as_str(), file.text.as_str())),
        }
    }

    /// Returns the file number of the schema at `index`.
    pub(super) fn schema_id(&self, index: usize) -> FileId {
        FileId(self.files.len() + index)
    }
}

/// A place in one of the files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    pub file: FileId,
    pub span: Span,
}

/// Something and where it stands.
#[derive(Clone, Debug)]
pub(super) struct Located<T> {
    pub value: T,
    pub place: Place,
}
