//! Range scans over all levels in key order: uncommitted rows over committed ones over the backend. The topmost level that knows a
//! key decides; a deletion there hides the levels below.

use std::cmp::Ordering;
use std::iter::Peekable;
use std::ops::ControlFlow;

use crate::store::committed::{Encoded, bounds, within};
use crate::store::format::RowCodec;
use crate::store::keys::KeyKind;
use crate::store::stores::{Change, Store, prefixed};
use crate::store::{Access, Backend, Error, Row, StoreIndex, TaskStores};

/// What is called with each row of a scan; it may end the scan.
pub type VisitRow<'a> = dyn FnMut(&[u8], &Row) -> ControlFlow<()> + 'a;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Direction {
    Up,
    Down,
}

/// What a level above the backend knows of a key.
#[derive(Debug)]
enum Cell<'a> {
    Row(&'a Row),
    Bytes(&'a [u8]),
    Deleted,
}

impl<'a> Cell<'a> {
    fn of(encoded: &'a Encoded) -> Self {
        encoded.as_deref().map_or(Self::Deleted, Self::Bytes)
    }
}

type Entry<'a> = (&'a [u8], Cell<'a>);
type Entries<'a> = Box<dyn DoubleEndedIterator<Item = Entry<'a>> + 'a>;
type Directed<'a> = Box<dyn Iterator<Item = Entry<'a>> + 'a>;

#[derive(Clone, Copy, Debug)]
struct Span<'a> {
    from: &'a [u8],
    to: Option<&'a [u8]>,
    direction: Direction,
}

impl TaskStores {
    /// Visits the rows of `from..to` upwards, own uncommitted writes included; without `to`, to the end.
    ///
    /// # Errors
    /// As [`TaskStores::get`]; rows before the failing one were visited.
    pub fn range(
        &mut self,
        index: StoreIndex,
        from: &[u8],
        to: Option<&[u8]>,
        visit: &mut VisitRow<'_>,
    ) -> Result<(), Error> {
        self.scan(index, Span { from, to, direction: Direction::Up }, visit)
    }

    /// Visits the rows of `from..to` downwards, own uncommitted writes included; without `to`, from the end.
    ///
    /// # Errors
    /// As [`TaskStores::get`]; rows after the failing one were visited.
    pub fn range_reverse(
        &mut self,
        index: StoreIndex,
        from: &[u8],
        to: Option<&[u8]>,
        visit: &mut VisitRow<'_>,
    ) -> Result<(), Error> {
        self.scan(index, Span { from, to, direction: Direction::Down }, visit)
    }

    /// Visits the committed rows of `from..to` upwards: for queries.
    ///
    /// # Errors
    /// As [`TaskStores::get`].
    pub fn range_committed(
        &self,
        index: StoreIndex,
        from: &[u8],
        to: Option<&[u8]>,
        visit: &mut VisitRow<'_>,
    ) -> Result<(), Error> {
        let (store, span) = (&self.stores[index.index()], Span { from, to, direction: Direction::Up });
        merge(store, &*self.backend, vec![store.committed_entries(span)], span, visit)
    }

    /// Visits the committed rows of `from..to` downwards: for queries.
    ///
    /// # Errors
    /// As [`TaskStores::get`].
    pub fn range_committed_reverse(
        &self,
        index: StoreIndex,
        from: &[u8],
        to: Option<&[u8]>,
        visit: &mut VisitRow<'_>,
    ) -> Result<(), Error> {
        let (store, span) = (&self.stores[index.index()], Span { from, to, direction: Direction::Down });
        merge(store, &*self.backend, vec![store.committed_entries(span)], span, visit)
    }

    fn scan(&self, index: StoreIndex, span: Span<'_>, visit: &mut VisitRow<'_>) -> Result<(), Error> {
        let store = &self.stores[index.index()];
        let mut levels: Vec<Entries<'_>> = Vec::with_capacity(3);
        match store.spec.access {
            Access::Append => {
                for level in [&store.appended, &store.appended_sealed] {
                    let rows = level.range::<[u8], _>(bounds(span.from, span.to));
                    levels.push(Box::new(rows.map(|(key, encoded)| (&**key, Cell::of(encoded)))));
                }
            }
            Access::Ordered => {
                let rows = store.uncommitted.range::<[u8], _>(bounds(span.from, span.to));
                levels.push(Box::new(rows.map(|(key, slot)| (&**key, self.slot_cell(*slot)))));
            }
            Access::Cached => levels.push(self.collected(index, span)),
        }
        levels.push(store.committed_entries(span));
        merge(store, &*self.backend, levels, span, visit)
    }

    /// Returns the uncommitted rows of a store that keeps no index of them.
    fn collected(&self, index: StoreIndex, span: Span<'_>) -> Entries<'_> {
        let open = self.open.iter().filter_map(|change| match change {
            Change::Entry(slot) => Some(*slot),
            Change::Append { .. } => None,
        });
        let sealed = self.sealed.iter().flatten().filter_map(|write| write.slot);
        let mut slots: Vec<u32> = open
            .chain(sealed)
            .filter(|slot| {
                let slot = self.cache.slot(*slot);
                slot.store == index.0 && within(&slot.key, span.from, span.to)
            })
            .collect();
        slots.sort_unstable_by(|a, b| self.cache.slot(*a).key.cmp(&self.cache.slot(*b).key));
        slots.dedup();
        Box::new(slots.into_iter().map(|slot| (&*self.cache.slot(slot).key, self.slot_cell(slot))))
    }

    fn slot_cell(&self, slot: u32) -> Cell<'_> {
        self.cache.slot(slot).row.as_ref().map_or(Cell::Deleted, Cell::Row)
    }
}

impl Store {
    fn committed_entries(&self, span: Span<'_>) -> Entries<'_> {
        Box::new(self.committed.range(span.from, span.to).map(|(key, encoded)| (key, Cell::of(encoded))))
    }
}

/// The levels above the backend as one sequence without doubles.
struct Upper<'a> {
    levels: Vec<Peekable<Directed<'a>>>,
    direction: Direction,
}

impl<'a> Upper<'a> {
    fn new(levels: Vec<Entries<'a>>, direction: Direction) -> Self {
        let levels = levels.into_iter().map(|level| {
            let directed: Directed<'a> = match direction {
                Direction::Up => level,
                Direction::Down => Box::new(level.rev()),
            };
            directed.peekable()
        });
        Self { levels: levels.collect(), direction }
    }

    fn next_key(&mut self) -> Option<&'a [u8]> {
        let direction = self.direction;
        let keys = self.levels.iter_mut().filter_map(|level| level.peek().map(|(key, _)| *key));
        keys.reduce(|first, other| if direction.order(other, first) == Ordering::Less { other } else { first })
    }

    /// Takes the entry of a key, the topmost level's, off all levels.
    fn take(&mut self, key: &[u8]) -> Option<Cell<'a>> {
        let mut topmost = None;
        for level in &mut self.levels {
            if let Some((_, cell)) = level.next_if(|(next, _)| *next == key) {
                topmost = topmost.or(Some(cell));
            }
        }
        topmost
    }
}

impl Direction {
    fn order(self, a: &[u8], b: &[u8]) -> Ordering {
        match self {
            Self::Up => a.cmp(b),
            Self::Down => b.cmp(a),
        }
    }
}

fn merge(
    store: &Store,
    backend: &dyn Backend,
    levels: Vec<Entries<'_>>,
    span: Span<'_>,
    visit: &mut VisitRow<'_>,
) -> Result<(), Error> {
    let mut upper = Upper::new(levels, span.direction);
    let mut outcome: Result<ControlFlow<()>, Error> = Ok(ControlFlow::Continue(()));
    let head = store.row_prefix();
    let from = store.at_rest(span.from);
    let to = match span.to {
        Some(to) => store.at_rest(to.max(span.from)),
        None => prefixed(store.facts.prefix, KeyKind::Schema).to_vec(),
    };
    let mut at_backend = |key: &[u8], value: &[u8]| {
        let key = &key[head.len()..];
        outcome = before_and_at(&mut upper, key, value, &store.codec, visit);
        if matches!(outcome, Ok(ControlFlow::Continue(()))) {
            ControlFlow::Continue(())
        } else {
            ControlFlow::Break(())
        }
    };
    match span.direction {
        Direction::Up => backend.scan(&from, Some(&to), &mut at_backend)?,
        Direction::Down => backend.scan_reverse(&from, Some(&to), &mut at_backend)?,
    }
    if outcome?.is_break() {
        return Ok(());
    }
    while let Some(key) = upper.next_key() {
        if show(upper.take(key), key, &store.codec, visit)?.is_break() {
            break;
        }
    }
    Ok(())
}

/// Shows what the upper levels have before a row of the backend, then that row unless they know better.
fn before_and_at(
    upper: &mut Upper<'_>,
    key: &[u8],
    value: &[u8],
    codec: &RowCodec,
    visit: &mut VisitRow<'_>,
) -> Result<ControlFlow<()>, Error> {
    while let Some(next) = upper.next_key() {
        match upper.direction.order(next, key) {
            Ordering::Less => {
                if show(upper.take(next), next, codec, visit)?.is_break() {
                    return Ok(ControlFlow::Break(()));
                }
            }
            Ordering::Equal => return show(upper.take(next), next, codec, visit),
            Ordering::Greater => break,
        }
    }
    show(Some(Cell::Bytes(value)), key, codec, visit)
}

fn show(
    cell: Option<Cell<'_>>,
    key: &[u8],
    codec: &RowCodec,
    visit: &mut VisitRow<'_>,
) -> Result<ControlFlow<()>, Error> {
    match cell {
        Some(Cell::Row(row)) => Ok(visit(key, row)),
        Some(Cell::Bytes(bytes)) => Ok(visit(key, &codec.decode(bytes)?)),
        Some(Cell::Deleted) | None => Ok(ControlFlow::Continue(())),
    }
}
