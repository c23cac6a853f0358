//! Versioned rows over an `Ordered` store: what a key's row was at a time, within the history that is kept.
//!
//! The meaning is that of Kafka Streams' versioned store (`RocksDBVersionedStore`): a write older than the store's time less the
//! history is not put; a look-up that far back sees the latest version or nothing; a deletion is a version without a row; the
//! version that was valid at the edge of the history stays. Its trimming works on whole segments; here it is exact.
//!
//! The store's time (the largest `valid_from` it was given) is the caller's to keep, with the rest of an operator's time.

use std::ops::ControlFlow;
use std::sync::Arc;

use crate::base::time::{SpanMs, Timestamp};
use crate::base::value::Value;
use crate::limits::VERSIONS_TRIMMED_MAX;
use crate::store::{Error, Row, StoreIndex, TaskStores, keys};

/// A store of versions and how much history it keeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Versioned {
    pub index: StoreIndex,
    pub history: SpanMs,
}

/// What became of a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Put {
    /// It is the key's newest version.
    Latest,
    /// A newer version was there already.
    OutOfOrder { valid_to: Timestamp },
    /// It is older than the history; nothing was written.
    Expired,
}

impl Versioned {
    /// Writes a version; without fields, that the key has no row from then on. `store_time` must not be below `valid_from`
    /// unless the write is out of order: the caller raises it first.
    ///
    /// # Errors
    /// As [`TaskStores::put`].
    pub fn put(
        &self,
        stores: &mut TaskStores,
        key: &[u8],
        valid_from: Timestamp,
        fields: Option<Arc<[Value]>>,
        store_time: Timestamp,
    ) -> Result<Put, Error> {
        let edge = store_time.saturating_sub(self.history);
        if valid_from < edge {
            return Ok(Put::Expired);
        }
        let row = Row { timestamp: valid_from, fields: fields.unwrap_or_else(|| Arc::from([])) };
        stores.put(self.index, &keys::timed(key, valid_from), Some(row))?;
        self.trim_key(stores, key, edge)?;
        let next = self.version_after(stores, key, valid_from)?;
        Ok(next.map_or(Put::Latest, |valid_to| Put::OutOfOrder { valid_to }))
    }

    /// Returns the row that was valid at `at`.
    ///
    /// # Errors
    /// As [`TaskStores::range`].
    pub fn as_of(
        &self,
        stores: &mut TaskStores,
        key: &[u8],
        at: Timestamp,
        store_time: Timestamp,
    ) -> Result<Option<Row>, Error> {
        let reach = if at < store_time.saturating_sub(self.history) { Timestamp(i64::MAX) } else { at };
        let newest = self.newest_until(stores, key, reach)?;
        Ok(newest.filter(|row| row.timestamp <= at && !row.fields.is_empty()))
    }

    /// Returns the key's row as it is.
    ///
    /// # Errors
    /// As [`TaskStores::range`].
    pub fn latest(&self, stores: &mut TaskStores, key: &[u8]) -> Result<Option<Row>, Error> {
        let newest = self.newest_until(stores, key, Timestamp(i64::MAX))?;
        Ok(newest.filter(|row| !row.fields.is_empty()))
    }

    /// Looks at up to `rows_max` versions after the cursor, in key order, and deletes those that no look-up can see any more.
    /// Returns the cursor to go on from; none at the end. For the keys that are not written any more.
    ///
    /// # Errors
    /// As [`TaskStores::range`].
    pub fn sweep(
        &self,
        stores: &mut TaskStores,
        store_time: Timestamp,
        cursor: Option<Vec<u8>>,
        rows_max: usize,
    ) -> Result<Option<Vec<u8>>, Error> {
        let edge = store_time.saturating_sub(self.history);
        let from_start = cursor.is_none();
        let (mut seen, mut unseen_again) = (Vec::new(), None);
        stores.range(self.index, &cursor.unwrap_or_default(), None, &mut |joined, row| {
            // One more than the last that is judged: a version is judged by its follower. Two at least, to get on.
            if seen.len() > rows_max.max(1) {
                unseen_again = seen.last().map(|(joined, ..): &(Vec<u8>, _, _)| joined.clone());
                return ControlFlow::Break(());
            }
            seen.push((joined.to_vec(), row.timestamp, row.fields.is_empty()));
            ControlFlow::Continue(())
        })?;
        for (place, (joined, valid_from, deleted)) in seen.iter().enumerate() {
            if unseen_again.as_ref() == Some(joined) || *valid_from > edge {
                continue;
            }
            let head = joined.len().saturating_sub(8);
            let follower = seen.get(place + 1).filter(|(next, ..)| next.get(..head) == joined.get(..head));
            // What stands before the cursor was judged by an earlier edge: a deletion may still hide it. It is of the first key seen.
            let first_head = seen.first().and_then(|(first, ..)| first.get(..first.len().saturating_sub(8)));
            let nothing_before = from_start || joined.get(..head) != first_head;
            if (*deleted && nothing_before) || follower.is_some_and(|(_, next, _)| *next <= edge) {
                stores.put(self.index, joined, None)?;
            }
        }
        Ok(unseen_again)
    }

    fn newest_until(&self, stores: &mut TaskStores, key: &[u8], until: Timestamp) -> Result<Option<Row>, Error> {
        let (from, to) = (keys::key_prefix(key), just_after(key, until));
        let mut newest = None;
        stores.range_reverse(self.index, &from, Some(&to), &mut |_, row| {
            newest = Some(row.clone());
            ControlFlow::Break(())
        })?;
        Ok(newest)
    }

    fn version_after(&self, stores: &mut TaskStores, key: &[u8], at: Timestamp) -> Result<Option<Timestamp>, Error> {
        let (from, to) = (just_after(key, at), keys::prefix_end(&keys::key_prefix(key)));
        let mut next = None;
        stores.range(self.index, &from, to.as_deref(), &mut |_, row| {
            next = Some(row.timestamp);
            ControlFlow::Break(())
        })?;
        Ok(next)
    }

    /// Deletes a key's versions before the one that is valid at the edge; that one too when it is a deletion.
    fn trim_key(&self, stores: &mut TaskStores, key: &[u8], edge: Timestamp) -> Result<(), Error> {
        let (from, to) = (keys::key_prefix(key), just_after(key, edge));
        let (mut gone, mut at_edge) = (Vec::new(), None);
        stores.range_reverse(self.index, &from, Some(&to), &mut |joined, row| {
            if at_edge.is_none() {
                at_edge = Some((joined.to_vec(), row.fields.is_empty()));
                return ControlFlow::Continue(());
            }
            gone.push(joined.to_vec());
            if gone.len() < VERSIONS_TRIMMED_MAX { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
        })?;
        // A deletion at the edge may go only when nothing is left that it hides.
        if let Some((joined, true)) = at_edge
            && gone.len() < VERSIONS_TRIMMED_MAX
        {
            gone.push(joined);
        }
        gone.iter().try_for_each(|joined| stores.put(self.index, joined, None))
    }
}

/// Returns the end of the range that has the version of exactly `at` as its last.
fn just_after(key: &[u8], at: Timestamp) -> Vec<u8> {
    let mut joined = keys::timed(key, at);
    joined.push(0);
    joined
}
