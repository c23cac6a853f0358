//! Travel in time: an entity's state at any version or moment, and which event set which field. By seek in the entity's own
//! history, never by scanning a topic; committed rows only.

use std::ops::ControlFlow;

use crate::base::time::{DateTime, Timestamp};
use crate::base::value::Value;
use crate::plan::{Entity, HISTORY_SYSTEM_FIELDS};
use crate::store::{self, StoreIndex, TaskStores, keys};

/// One version of an entity.
#[derive(Clone, Debug, PartialEq)]
pub struct Version {
    pub version: u64,
    /// Timestamp of the event that made it.
    pub timestamp: Timestamp,
    /// The event's coordinates, in the order of [`HISTORY_SYSTEM_FIELDS`]; empty where no history is kept.
    pub event: Vec<Value>,
    /// The state's fields.
    pub state: Vec<Value>,
}

impl Version {
    fn from_history(version: u64, row: &store::Row) -> Self {
        let (event, state) = row.fields.split_at(HISTORY_SYSTEM_FIELDS.len().min(row.fields.len()));
        Self { version, timestamp: row.timestamp, event: event.to_vec(), state: state.to_vec() }
    }

    /// When it was recorded; none where no history is kept.
    pub fn recorded(&self) -> Option<DateTime> {
        match self.event.get(6) {
            Some(Value::DateTime(at)) => Some(*at),
            _ => None,
        }
    }
}

/// Returns the newest version.
///
/// # Errors
/// The store's.
pub fn current(node: &Entity, key: &[u8], stores: &TaskStores) -> Result<Option<Version>, store::Error> {
    let Some(row) = stores.get_committed(StoreIndex(node.store.0), key)? else { return Ok(None) };
    let version = row.fields[0].as_int().unwrap_or(0).unsigned_abs();
    if let Some(kept) = version_number(node, key, version, stores)? {
        return Ok(Some(kept));
    }
    Ok(Some(Version { version, timestamp: row.timestamp, event: Vec::new(), state: row.fields[1..].to_vec() }))
}

/// Returns version `n`; none when it was never made, or is no longer kept.
///
/// # Errors
/// The store's.
pub fn version_number(
    node: &Entity,
    key: &[u8],
    version: u64,
    stores: &TaskStores,
) -> Result<Option<Version>, store::Error> {
    let Some(history) = &node.history else { return Ok(None) };
    let row = stores.get_committed(StoreIndex(history.store.0), &keys::history(key, version))?;
    Ok(row.map(|row| Version::from_history(version, &row)))
}

/// Returns the version after everything recorded up to `moment`: a binary search over the versions, which are recorded in
/// their order. None when nothing was recorded by then, or it is no longer kept.
///
/// # Errors
/// The store's.
pub fn version_as_of(
    node: &Entity,
    key: &[u8],
    moment: DateTime,
    stores: &TaskStores,
) -> Result<Option<Version>, store::Error> {
    let Some(newest) = current(node, key, stores)? else { return Ok(None) };
    let recorded_by = |version: &Version| version.recorded().is_some_and(|at| at <= moment);
    if recorded_by(&newest) {
        return Ok(Some(newest));
    }
    let (mut low, mut high) = (0, newest.version);
    let mut found = None;
    // Versions up to `low` are recorded by `moment` or trimmed; `high` is recorded later.
    while high - low > 1 {
        let middle = low + (high - low) / 2;
        match version_number(node, key, middle, stores)? {
            Some(version) if !recorded_by(&version) => high = middle,
            kept => {
                found = kept;
                low = middle;
            }
        }
    }
    Ok(found)
}

/// Returns up to `limit` versions from `first` on, oldest first.
///
/// # Errors
/// The store's.
pub fn history(
    node: &Entity,
    key: &[u8],
    first: u64,
    limit: usize,
    stores: &TaskStores,
) -> Result<Vec<Version>, store::Error> {
    let Some(history) = &node.history else { return Ok(Vec::new()) };
    let mut versions = Vec::new();
    let (from, to) = (keys::history(key, first), keys::history(key, u64::MAX));
    stores.range_committed(StoreIndex(history.store.0), &from, Some(&to), &mut |store_key, row| {
        if versions.len() == limit {
            return ControlFlow::Break(());
        }
        if let Ok((_, version)) = keys::split_history(store_key) {
            versions.push(Version::from_history(version, row));
        }
        ControlFlow::Continue(())
    })?;
    Ok(versions)
}

/// Returns, for each of the state's fields, the version that gave it its present value: the newest at which it changed, or
/// the oldest one kept. Looks at `versions_max` versions at most and says nothing of fields that did not change within them.
///
/// # Errors
/// The store's.
pub fn blame(
    node: &Entity,
    key: &[u8],
    versions_max: usize,
    stores: &TaskStores,
) -> Result<Option<Vec<Option<Version>>>, store::Error> {
    let Some(mut later) = current(node, key, stores)? else { return Ok(None) };
    let mut blamed: Vec<Option<Version>> = vec![None; later.state.len()];
    for _ in 0..versions_max {
        let earlier = match later.version {
            0 | 1 => None,
            version => version_number(node, key, version - 1, stores)?,
        };
        for (field, by) in blamed.iter_mut().enumerate() {
            let changed = earlier.as_ref().is_none_or(|earlier| earlier.state.get(field) != later.state.get(field));
            // Before the first event a field holds its initial value: nothing set it.
            let initial = earlier.is_none() && later.version == 1 && node.initial.get(field) == later.state.get(field);
            if by.is_none() && changed && !initial {
                *by = Some(later.clone());
            }
        }
        match earlier {
            Some(earlier) if blamed.iter().any(Option::is_none) => later = earlier,
            _ => break,
        }
    }
    Ok(Some(blamed))
}
