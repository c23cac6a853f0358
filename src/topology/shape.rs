//! What a table of the language may hold, noted by the getters that read it: the reader is run over a table that has nothing in
//! it, and each key that it asks for is noted with what it wants. So there is no second list of keys.
//!
//! A key may matter to what else is asked for (`topic` or `from`), so the reader is run several times: with no key there, and with
//! each of those that it asks for, and with each word of the choices within. [`super::json_schema`] makes a JSON Schema of the notes.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::parse;
use super::reader::{File, TableReader};
use super::spec::Spec;
use crate::base::diag::{FileId, Span};

/// The notes of one table.
#[derive(Debug, Default)]
pub(super) struct Shape {
    /// In the order in which they were first asked for.
    pub keys: RefCell<Vec<(&'static str, Holds)>>,
    /// Keys that were only looked for.
    looked_for: RefCell<Vec<&'static str>>,
    /// What stands under names that the user gives.
    pub named: RefCell<Option<Rc<Shape>>>,
    /// Under names that the user gives stand expressions.
    pub named_expressions: Cell<bool>,
    /// Keys one of which must be there, with the help for who left them out.
    pub missing: RefCell<BTreeMap<Vec<String>, String>>,
    /// Keys of which no two may be there.
    pub exclusive: RefCell<Vec<Vec<&'static str>>>,
}

/// What a key holds.
#[derive(Clone, Debug)]
pub(super) enum Holds {
    Text,
    Integer,
    Duration,
    Expression,
    /// One of these words.
    Choice(Vec<String>),
    TextOrFalse,
    Texts,
    /// Expressions by the names of fields.
    Expressions,
    Table(Rc<Shape>),
    Tables(Rc<Shape>),
}

/// Which keys are there while a reader is asked.
#[derive(Clone, Debug)]
enum There {
    All,
    /// Tables only, so that what must be in them is asked for.
    Tables,
    These(Vec<&'static str>),
}

/// Takes notes for one table while its reader is asked.
#[derive(Clone, Debug)]
pub(super) struct Notes<'a> {
    shape: Rc<Shape>,
    /// For this table and those within, level by level; the last one goes on.
    there: Rc<[There]>,
    level: usize,
    /// Which of its words a choice is.
    pick: usize,
    /// A table with nothing in it.
    pub sample: &'a Spanned<DeValue<'a>>,
}

impl<'a> Notes<'a> {
    /// Notes what a key holds, once.
    pub(super) fn note(&self, key: &'static str, holds: impl FnOnce() -> Holds) {
        let mut keys = self.shape.keys.borrow_mut();
        if keys.iter().all(|(known, _)| *known != key) {
            keys.push((key, holds()));
        }
    }

    /// Drops what was noted of a key that may not be there.
    pub(super) fn refused(&self, key: &str) {
        self.shape.keys.borrow_mut().retain(|(known, _)| *known != key);
    }

    /// Notes that a key was looked for; tells whether it is there this time.
    pub(super) fn look(&self, key: &'static str) -> bool {
        self.shape.looked_for.borrow_mut().push(key);
        self.has(key)
    }

    pub(super) fn has(&self, key: &str) -> bool {
        match self.there() {
            There::All => true,
            There::Tables => false,
            There::These(keys) => keys.contains(&key),
        }
    }

    /// Picks the word that a choice is this time.
    pub(super) fn pick<T: Clone>(&self, choices: &[(&str, T)]) -> Option<T> {
        choices.get(self.pick % choices.len().max(1)).map(|(_, choice)| choice.clone())
    }

    fn there(&self) -> &There {
        &self.there[self.level.min(self.there.len() - 1)]
    }

    /// Notes that one of these keys must be there: "topic` or `from".
    pub(super) fn missing(&self, keys: &str, help: &str) {
        let keys = keys.split(['`', ' ', ',']).filter(|part| !matches!(*part, "" | "or")).map(str::to_owned).collect();
        self.shape.missing.borrow_mut().entry(keys).or_insert_with(|| help.to_owned());
    }

    /// Notes that no two of these keys may be there.
    pub(super) fn exclusive(&self, keys: &[&'static str]) {
        let mut exclusive = self.shape.exclusive.borrow_mut();
        if !exclusive.iter().any(|known| known == keys) {
            exclusive.push(keys.to_vec());
        }
    }

    /// Notes a table; returns the notes to be taken of it when it is there this time.
    pub(super) fn table(&self, key: &'static str, holds: fn(Rc<Shape>) -> Holds) -> Option<Self> {
        self.note(key, || holds(Rc::default()));
        let shape = self
            .shape
            .keys
            .borrow()
            .iter()
            .find_map(|(known, holds)| holds.shape().filter(|_| *known == key).cloned())?;
        let is_there = self.has(key) || matches!(self.there(), There::Tables);
        is_there.then(|| self.within(shape))
    }

    /// Notes that expressions stand under names that the user gives.
    pub(super) fn named_expressions(&self) {
        self.shape.named_expressions.set(true);
    }

    /// Returns the notes of what stands under a name that the user gives.
    pub(super) fn named(&self) -> Self {
        let shape = Rc::clone(self.shape.named.borrow_mut().get_or_insert_default());
        self.within(shape)
    }

    fn within(&self, shape: Rc<Shape>) -> Self {
        Self { shape, there: Rc::clone(&self.there), level: self.level + 1, ..self.clone() }
    }
}

impl Holds {
    /// Returns the notes of the table or tables that a key holds.
    pub(super) fn shape(&self) -> Option<&Rc<Shape>> {
        match self {
            Self::Table(shape) | Self::Tables(shape) => Some(shape),
            Self::Text
            | Self::Integer
            | Self::Duration
            | Self::Expression
            | Self::Choice(_)
            | Self::TextOrFalse
            | Self::Texts
            | Self::Expressions => None,
        }
    }
}

impl Shape {
    fn names(&self) -> Vec<&'static str> {
        self.keys.borrow().iter().map(|(key, _)| *key).collect()
    }

    /// Drops what need not be there when a choice is another word; a key that makes a variant has no help, and stays.
    fn keep_what_is_missing(&self, choice: &str, with: &Self) {
        let keys = self.keys.borrow();
        if keys.iter().any(|(key, holds)| *key == choice && matches!(holds, Holds::Choice(_))) {
            let there = with.missing.borrow();
            self.missing.borrow_mut().retain(|keys, help| {
                help.is_empty() || keys.iter().any(|key| key == choice) || there.contains_key(keys)
            });
        }
    }

    /// Takes over the keys that other notes of the same table have; with `whole` what they say of each other, too.
    fn absorb(&self, other: &Self, whole: bool) {
        for (key, holds) in &*other.keys.borrow() {
            let known = self.keys.borrow().iter().find(|(known, _)| known == key).map(|(_, holds)| holds.clone());
            match known {
                Some(known) => {
                    if let Some((mine, theirs)) = known.shape().zip(holds.shape()) {
                        mine.absorb(theirs, true);
                    }
                }
                None => self.keys.borrow_mut().push((*key, holds.clone())),
            }
        }
        if let Some(theirs) = &*other.named.borrow() {
            let mine = Rc::clone(self.named.borrow_mut().get_or_insert_default());
            mine.absorb(theirs, true);
        }
        self.named_expressions.set(self.named_expressions.get() || other.named_expressions.get());
        if whole {
            for (keys, help) in &*other.missing.borrow() {
                self.missing.borrow_mut().entry(keys.clone()).or_insert_with(|| help.clone());
            }
            let mut exclusive = self.exclusive.borrow_mut();
            for keys in &*other.exclusive.borrow() {
                if !exclusive.contains(keys) {
                    exclusive.push(keys.clone());
                }
            }
        }
    }
}

/// A top-level table of the language, or a node's.
#[derive(Debug)]
pub(super) struct Described {
    /// What it may hold; where a key decides what else there may be, once for each such key.
    pub variants: Vec<(Option<&'static str>, Rc<Shape>)>,
}

/// Asks the language's own reader what a top-level table (`topology`, `defaults`) or a node of a kind may hold.
pub(super) fn describe(table: &'static str) -> Described {
    let plain = noted(table, &[], There::Tables, 0);
    let base = plain.names();
    let mut candidates = base.clone();
    candidates.extend(plain.looked_for.borrow().iter());
    let mut deciding: Vec<&'static str> = Vec::new();
    for key in candidates {
        let adds = || noted(table, &[key], There::All, 0).names().iter().any(|name| !base.contains(name));
        if !deciding.contains(&key) && adds() {
            deciding.push(key);
        }
    }
    let begun = if deciding.is_empty() { vec![None] } else { deciding.into_iter().map(Some).collect() };
    let variants = begun.into_iter().map(|first| {
        let shape = noted(table, first.as_slice(), There::Tables, 0);
        if let Some(first) = first {
            shape.missing.borrow_mut().entry(vec![first.to_owned()]).or_default();
        }
        for key in shape.names() {
            let keys: Vec<&'static str> = first.into_iter().chain([key]).collect();
            shape.absorb(&noted(table, &keys, There::Tables, 0), false);
            for pick in 0..CHOICES {
                let with = noted(table, &keys, There::All, pick);
                shape.absorb(&with, false);
                shape.keep_what_is_missing(key, &with);
            }
        }
        (first, shape)
    });
    Described { variants: variants.collect() }
}

/// What else there may be can depend on the word that a choice is: as many words as a choice in a table within may have.
const CHOICES: usize = 6;

/// Runs the reader once, with these keys there.
fn noted(table: &'static str, keys: &[&'static str], within: There, pick: usize) -> Rc<Shape> {
    let text = "sample = {}";
    let (root, _) = DeTable::parse_recoverable(text);
    let sample = root.get_ref().iter().map(|(_, value)| value).next();
    let Some((sample, empty)) = sample.and_then(|sample| Some((sample, sample.get_ref().as_table()?))) else {
        return Rc::default();
    };
    let findings = RefCell::default();
    let file = File { id: FileId(0), text, findings: &findings };
    let these = There::These(keys.to_vec());
    let is_kind = parse::KINDS.contains(&table);
    let there = if is_kind { vec![There::All, these, within] } else { vec![these, within] };
    let top: Rc<Shape> = Rc::default();
    let notes = Notes { shape: Rc::clone(&top), there: there.into(), level: 0, pick, sample };
    let reader = TableReader::new(file, empty, Span::default(), "").noting(notes);
    parse::read_table(table, reader, &mut Spec::default());
    if is_kind { top.named.take().unwrap_or_default() } else { top }
}
