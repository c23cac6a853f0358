//! Range scans over all levels in key order: uncommitted rows over committed ones over the backend. The topmost level that knows a
//! key decides; a deletion there hides the levels below.

use std::cmp::Ordering;
use std::collections::btree_map;
use std::ops::ControlFlow;

use crate::store::cache::Cache;
use crate::store::committed::{self, Encoded, Key, bounds, within};
use crate::store::keys::KeyKind;
use crate::store::stores::{Change, Store, prefixed};
use crate::store::{Access, Backend, Error, Row, StoreIndex, TaskStores};

/// What is called with each row of a scan; it may end the scan.
pub type VisitRow<'a> = dyn FnMut(&[u8], &Row) -> ControlFlow<()> + 'a;

/// What is called with the key of each row of a scan; it may end the scan.
pub type VisitKey<'a> = dyn FnMut(&[u8]) -> ControlFlow<()> + 'a;

type VisitCell<'a> = dyn FnMut(&[u8], Cell<'_>) -> Result<ControlFlow<()>, Error> + 'a;

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

    fn of_slot(cache: &'a Cache, slot: u32) -> Self {
        cache.slot(slot).row.as_ref().map_or(Self::Deleted, Self::Row)
    }
}

type Entry<'a> = (&'a [u8], Cell<'a>);

/// The entries of a level within a span.
#[derive(Debug)]
enum Entries<'a> {
    Encoded(committed::Range<'a>),
    Slots(btree_map::Range<'a, Key, u32>, &'a Cache),
    Collected(std::vec::IntoIter<Entry<'a>>),
}

impl<'a> Entries<'a> {
    fn step(&mut self, direction: Direction) -> Option<Entry<'a>> {
        match self {
            Self::Encoded(rows) => direction.step(rows).map(|(key, encoded)| (key, Cell::of(encoded))),
            Self::Slots(rows, cache) => direction.step(rows).map(|(key, slot)| (&**key, Cell::of_slot(cache, *slot))),
            Self::Collected(rows) => direction.step(rows),
        }
    }
}

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
        self.scan(index, Span { from, to, direction: Direction::Up }, &mut self.decoded(index, visit))
    }

    /// Visits the keys of the rows of `from..to` upwards, own uncommitted writes included; without `to`, to the end. Decodes nothing.
    ///
    /// # Errors
    /// [`Error::Io`]; keys before it were visited.
    pub fn range_keys(
        &mut self,
        index: StoreIndex,
        from: &[u8],
        to: Option<&[u8]>,
        visit: &mut VisitKey<'_>,
    ) -> Result<(), Error> {
        self.scan(index, Span { from, to, direction: Direction::Up }, &mut |key, _| Ok(visit(key)))
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
        self.scan(index, Span { from, to, direction: Direction::Down }, &mut self.decoded(index, visit))
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
        merge(store, &*self.backend, [None, None], span, &mut self.decoded(index, visit))
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
        merge(store, &*self.backend, [None, None], span, &mut self.decoded(index, visit))
    }

    /// Has each row decoded before it is visited.
    fn decoded<'a>(
        &'a self,
        index: StoreIndex,
        visit: &'a mut VisitRow<'_>,
    ) -> impl FnMut(&[u8], Cell<'_>) -> Result<ControlFlow<()>, Error> + 'a {
        let codec = &self.stores[index.index()].codec;
        move |key, cell| match cell {
            Cell::Row(row) => Ok(visit(key, row)),
            Cell::Bytes(bytes) => Ok(visit(key, &codec.decode(bytes)?)),
            Cell::Deleted => Ok(ControlFlow::Continue(())),
        }
    }

    fn scan(&self, index: StoreIndex, span: Span<'_>, visit: &mut VisitCell<'_>) -> Result<(), Error> {
        let store = &self.stores[index.index()];
        let (from, to) = (span.from, span.to);
        let uncommitted = match store.spec.access {
            Access::Append => [&store.appended, &store.appended_sealed].map(|level| {
                let rows = level.range::<[u8], _>(bounds(from, to));
                Some(Entries::Encoded(committed::Range::Sorted(rows)))
            }),
            Access::Ordered => {
                let rows = store.uncommitted.range::<[u8], _>(bounds(from, to));
                [Some(Entries::Slots(rows, &self.cache)), None]
            }
            Access::Cached => [Some(self.collected(index, span)), None],
        };
        merge(store, &*self.backend, uncommitted, span, visit)
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
        let entry = |slot| (&*self.cache.slot(slot).key, Cell::of_slot(&self.cache, slot));
        Entries::Collected(slots.into_iter().map(entry).collect::<Vec<_>>().into_iter())
    }
}

/// A level above the backend, and the entry that it is at.
struct Level<'a> {
    entries: Entries<'a>,
    head: Option<Entry<'a>>,
}

/// The levels above the backend, topmost first, as one sequence without doubles.
struct Upper<'a> {
    levels: [Option<Level<'a>>; 3],
    direction: Direction,
    /// The first key of all levels: looked at once for each row of the backend.
    next: Option<&'a [u8]>,
}

impl<'a> Upper<'a> {
    fn new(entries: [Option<Entries<'a>>; 3], direction: Direction) -> Self {
        let levels = entries.map(|entries| {
            let mut entries = entries?;
            let head = entries.step(direction);
            Some(Level { entries, head })
        });
        let mut upper = Self { levels, direction, next: None };
        upper.look();
        upper
    }

    fn look(&mut self) {
        let direction = self.direction;
        let keys = self.levels.iter().flatten().filter_map(|level| level.head.as_ref().map(|(key, _)| *key));
        self.next =
            keys.reduce(|first, other| if direction.order(other, first) == Ordering::Less { other } else { first });
    }

    /// Takes the entry of a key, the topmost level's, off all levels.
    fn take(&mut self, key: &[u8]) -> Option<Cell<'a>> {
        let mut topmost = None;
        for level in self.levels.iter_mut().flatten() {
            if let Some((_, cell)) = level.head.take_if(|(head, _)| *head == key) {
                topmost = topmost.or(Some(cell));
                level.head = level.entries.step(self.direction);
            }
        }
        self.look();
        topmost
    }
}

impl Direction {
    fn step<I: DoubleEndedIterator>(self, entries: &mut I) -> Option<I::Item> {
        match self {
            Self::Up => entries.next(),
            Self::Down => entries.next_back(),
        }
    }

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
    uncommitted: [Option<Entries<'_>>; 2],
    span: Span<'_>,
    visit: &mut VisitCell<'_>,
) -> Result<(), Error> {
    let committed = Entries::Encoded(store.committed.range(span.from, span.to));
    let [open, sealed] = uncommitted;
    let mut upper = Upper::new([open, sealed, Some(committed)], span.direction);
    let mut outcome: Result<ControlFlow<()>, Error> = Ok(ControlFlow::Continue(()));
    let head = store.row_prefix();
    let from = store.at_rest(span.from);
    let to = match span.to {
        Some(to) => store.at_rest(to.max(span.from)),
        None => prefixed(store.facts.prefix, KeyKind::Schema).to_vec(),
    };
    let mut at_backend = |key: &[u8], value: &[u8]| {
        let key = &key[head.len()..];
        outcome = before_and_at(&mut upper, key, value, visit);
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
    while let Some(key) = upper.next {
        if show(upper.take(key), key, visit)?.is_break() {
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
    visit: &mut VisitCell<'_>,
) -> Result<ControlFlow<()>, Error> {
    while let Some(next) = upper.next {
        match upper.direction.order(next, key) {
            Ordering::Less => {
                if show(upper.take(next), next, visit)?.is_break() {
                    return Ok(ControlFlow::Break(()));
                }
            }
            Ordering::Equal => return show(upper.take(next), next, visit),
            Ordering::Greater => break,
        }
    }
    visit(key, Cell::Bytes(value))
}

/// Shows a row that there is.
fn show(cell: Option<Cell<'_>>, key: &[u8], visit: &mut VisitCell<'_>) -> Result<ControlFlow<()>, Error> {
    match cell {
        Some(Cell::Deleted) | None => Ok(ControlFlow::Continue(())),
        Some(cell) => visit(key, cell),
    }
}
