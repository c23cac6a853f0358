//! Nodes that hold rows until a time comes, or that time brings to the rows of a table.

use std::fmt::{self, Write};

use super::{Out, written};
use crate::plan::model::{NodeKind, SubTopology, SuppressBounds, SuppressUntil, WhenFull};

impl Out {
    /// What a node holds until a time comes.
    pub(super) fn holding(&mut self, sub: &SubTopology, kind: &NodeKind) -> fmt::Result {
        if let NodeKind::Suppress(suppress) = kind {
            let until = match suppress.until {
                SuppressUntil::WindowClose(_) => "its window closes".to_owned(),
                SuppressUntil::Time(span) => format!("{span} after its first change"),
            };
            let SuppressBounds { records_max, bytes_max, when_full } = suppress.bounds;
            let rows = records_max.map_or_else(String::new, |most| format!(", {most} rows at most"));
            let bytes = bytes_max.map_or_else(String::new, |most| format!(", {most} bytes at most"));
            let stop = if when_full == WhenFull::Stop { ", or stops" } else { "" };
            writeln!(self.text, ": a row until {until}{rows}{bytes}{stop}, #{}", suppress.layout.0)?;
        }
        if let NodeKind::Dedupe(dedupe) = kind {
            writeln!(self.text, ": ids within {}", dedupe.within)?;
            self.per_layout(sub, &dedupe.id, |out, id| write!(out.text, "id {}", written(id)))?;
        }
        if let NodeKind::Punctuate(punctuate) = kind {
            let store = &sub.stores[usize::from(punctuate.table.store.0)].name;
            let (every, clock) = (punctuate.every, punctuate.clock.name());
            writeln!(self.text, ": through store {store} every {every} of {clock}, #{}", punctuate.layout.0)?;
            if let Some(filter) = &punctuate.filter {
                writeln!(self.text, "    where {}", written(filter))?;
            }
            self.joined(sub, &punctuate.fields, punctuate.layout)?;
        }
        if let NodeKind::Timer(timer) = kind {
            writeln!(self.text, ": after {} of {}, #{}", timer.after, timer.clock.name(), timer.layout.0)?;
            self.fields(sub, &timer.fields, timer.layout)?;
        }
        Ok(())
    }
}
