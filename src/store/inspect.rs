//! What a task's state folder holds, looked at from outside: for `plan`, which compares it with a topology to come.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;

use crate::avro::Schema;
use crate::store::format::{self, StoreFacts};
use crate::store::keys::KeyKind;
use crate::store::stores::prefixed;
use crate::store::{Backend, Error};

/// Returns, for each store by the name that it is kept under, the schemas that its rows have.
///
/// # Errors
/// [`Error::OtherApplication`], [`Error::NewerFormat`], [`Error::Corrupt`]; the backend's.
pub fn kept_rows(backend: &dyn Backend, application_id: &str) -> Result<BTreeMap<String, Vec<Schema>>, Error> {
    if let Some(stamp) = backend.get_meta(format::META_FORMAT)? {
        format::check_stamp(&stamp, application_id)?;
    }
    let mut stores = Vec::new();
    backend.scan_meta(format::META_STORE, &mut |key, value| {
        stores
            .push((String::from_utf8_lossy(&key[format::META_STORE.len()..]).into_owned(), StoreFacts::decode(value)));
        ControlFlow::Continue(())
    })?;
    let mut kept = BTreeMap::new();
    for (name, facts) in stores {
        let prefix = facts?.prefix;
        let (rows, schemas) = (prefixed(prefix, KeyKind::Row), prefixed(prefix, KeyKind::Schema));
        let mut numbers = BTreeSet::new();
        backend.scan(&rows, Some(&schemas), &mut |_, row| {
            numbers.extend(format::split_row(row).ok().map(|(_, number, _)| number));
            ControlFlow::Continue(())
        })?;
        let mut texts = Vec::new();
        backend.scan(&schemas, Some(&(prefix + 1).to_be_bytes()), &mut |key, value| {
            if format::read_u32(&key[schemas.len()..]).is_some_and(|number| numbers.contains(&number)) {
                texts.push(format::schema_text(value).map(str::to_owned));
            }
            ControlFlow::Continue(())
        })?;
        let mut parsed = Vec::new();
        for text in texts {
            let schema = Schema::parse(&text?);
            parsed.push(
                schema.map_err(|error| Error::Corrupt { message: format!("a row schema of `{name}`: {error}") })?,
            );
        }
        kept.insert(name, parsed);
    }
    Ok(kept)
}
