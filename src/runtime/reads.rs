//! Where a read is answered: by the thread here that runs the task, else by the instance that does, which is asked for it. A scan is
//! gathered from all that have a part of it.
//!
//! Invariant: who is asked on behalf of another instance answers from what it has, or not at all; so a read goes one step far at most.
//! What an answer says is decided in `query`.

use std::collections::BTreeMap;
use std::sync::mpsc::{RecvTimeoutError, Sender, sync_channel};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use serde_json::{Value as Json, json};

use crate::base::ids::{Partition, TaskId};
use crate::error::codes;
use crate::limits;
use crate::plan::KeyFormat;
use crate::runtime::clock;
use crate::runtime::key_text::{cursor_of, key_of_shown};
use crate::runtime::peers::{Peer, Peers};
use crate::runtime::query::{Ask, Concerns, Reply, Request, answer, answer_global, concerns, partition_of_key};
use crate::runtime::service::{Reach, Read, ReadError, ReadKind};
use crate::runtime::shared::Shared;

/// Answers reads for a daemon.
pub(super) struct Reads {
    shared: Arc<Shared>,
    /// By stream thread.
    pub(super) asks: Vec<Sender<Request>>,
    peers: OnceLock<Arc<dyn Peers>>,
}

/// Who has a task.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Holder {
    Here,
    Peer(Peer),
}

impl Reads {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self { shared, asks: Vec::new(), peers: OnceLock::new() }
    }

    /// Gives the way to the other instances; the first one stays.
    pub(super) fn asks_others_by(&self, peers: Arc<dyn Peers>) {
        drop(self.peers.set(peers));
    }

    pub(super) fn read(&self, read: &Read, wait: Duration) -> Result<Json, ReadError> {
        let here = &self.shared.options.instance_id;
        if let Reach::Here { instance, .. } = &read.reach
            && instance != here
        {
            return Err(ReadError::Unavailable {
                code: codes::OWNER_UNKNOWN,
                detail: format!(
                    "`{instance}` was asked, and this is instance `{here}`: does `http.advertised` say who is who?"
                ),
            });
        }
        match concerns(&self.shared.plan, &read.what)? {
            Concerns::All { sub_topology } => self.gather(sub_topology, read, wait),
            Concerns::Key { sub_topology, key } => {
                let partition = partition_of_key(&key, self.shared.cluster.tasks_of(sub_topology));
                self.of_task(&self.shared.task_id(sub_topology, partition), read, wait)
            }
            Concerns::Global { table, key } => self.of_global(table, &key, read, wait),
        }
    }

    /// Reads from a task, wherever it is.
    pub(super) fn of_task(&self, task: &TaskId, read: &Read, wait: Duration) -> Result<Json, ReadError> {
        let answered = self.holder(task, &read.reach).and_then(|holder| match holder {
            Holder::Here => self.ask(task, read, wait),
            Holder::Peer(peer) => self.ask_peer(&peer, None, read, wait),
        });
        self.or_standby(task, read, wait, answered)
    }

    /// Has a standby answer in place of who cannot, where the read may be stale: the one here, else the one that is the least behind.
    fn or_standby(
        &self,
        task: &TaskId,
        read: &Read,
        wait: Duration,
        answered: Result<Json, ReadError>,
    ) -> Result<Json, ReadError> {
        let Err(ReadError::Unavailable { .. }) = &answered else { return answered };
        if !read.stale {
            return answered;
        }
        let sub = &self.shared.plan.sub_topologies[self.shared.sub_topology_of(task)];
        let here = self.shared.standbys.with(task, |stores| answer(&self.shared.plan, sub, stores, read));
        if let Ok(Some(answer)) = here {
            let behind = self.shared.standbys.shown().get(task).and_then(|standby| standby.behind);
            return answer.map(|answer| marked(answer, behind));
        }
        if let (Reach::Anywhere, Some(roster)) = (&read.reach, self.shared.instances.roster()) {
            for said in roster.standbys(task) {
                let Some(http) = said.http.clone().filter(|_| said.instance != self.shared.options.instance_id) else {
                    continue;
                };
                let peer = Peer { instance: said.instance.clone(), http };
                let of_standby = self.ask_peer(&peer, Some(vec![task.partition]), read, wait);
                if of_standby.is_ok() {
                    return of_standby;
                }
            }
        }
        answered
    }

    /// Finds who has a task, as far as the read may go.
    pub(super) fn holder(&self, task: &TaskId, reach: &Reach) -> Result<Holder, ReadError> {
        let unknown = |detail: String| ReadError::Unavailable { code: codes::OWNER_UNKNOWN, detail };
        if self.shared.owners.of(task).is_some() {
            return Ok(Holder::Here);
        }
        let here = self.shared.options.instance_id.as_str();
        if let Reach::Here { .. } = reach {
            return Err(unknown(format!("task `{task}` is not on instance `{here}`: it has moved, or is about to")));
        }
        let roster = self.shared.instances.roster();
        let roster = roster
            .ok_or_else(|| unknown(format!("task `{task}` is not here, and the other instances are not known yet")))?;
        match roster.owner(task).map(|entry| &entry.said) {
            None => Err(unknown(format!("no instance says that it runs task `{task}`: it is being moved"))),
            Some(said) if said.instance == here => {
                Err(unknown(format!("task `{task}` is leaving this instance, or not here yet")))
            }
            Some(said) => match &said.http {
                None => {
                    let instance = &said.instance;
                    Err(unknown(format!(
                        "instance `{instance}` runs task `{task}` and does not say where it answers: set its `http.advertised`"
                    )))
                }
                Some(http) => Ok(Holder::Peer(Peer { instance: said.instance.clone(), http: http.clone() })),
            },
        }
    }

    /// Has another instance answer; of a scan the part that these partitions have.
    fn ask_peer(
        &self,
        peer: &Peer,
        partitions: Option<Vec<Partition>>,
        read: &Read,
        wait: Duration,
    ) -> Result<Json, ReadError> {
        let Some(peers) = self.peers.get() else {
            let detail = format!("instance `{}` would know, and this process asks no others", peer.instance);
            return Err(ReadError::Unavailable { code: codes::OWNER_UNREACHABLE, detail });
        };
        let reach = Reach::Here { instance: peer.instance.clone(), partitions };
        let mut read = Read { reach, ..read.clone() };
        if let ReadKind::Keys { limit, .. } = &mut read.what {
            // It says itself whether there are more.
            *limit = (*limit).min(limits::HTTP_PAGE_ROWS_MAX);
        }
        peers.read(peer, &read, wait)
    }

    /// Asks the thread that runs the task.
    fn ask(&self, task: &TaskId, read: &Read, wait: Duration) -> Result<Json, ReadError> {
        let unavailable = |detail: String| ReadError::Unavailable { code: codes::READ_UNAVAILABLE, detail };
        let watch = clock::Stopwatch::start();
        loop {
            let Some(thread) = self.shared.owners.of(task) else {
                return Err(unavailable(format!("task `{task}` is not on this instance any more")));
            };
            let (reply, answer) = sync_channel(1);
            let ask = Ask { task: task.clone(), read: read.clone(), reply };
            self.asks[thread]
                .send(Request::Read(ask))
                .map_err(|_| unavailable("the stream thread has ended".to_owned()))?;
            match answer.recv_timeout(wait.saturating_sub(watch.elapsed())) {
                Ok(Reply::Answer(json)) => return Ok(json),
                Ok(Reply::Failed(error)) => return Err(error),
                Ok(Reply::NotYet) if watch.elapsed() < wait => std::thread::park_timeout(Duration::from_millis(2)),
                Ok(Reply::NotYet) => {
                    return Err(unavailable("the inputs of `wait_for` are not in yet".to_owned()));
                }
                Err(RecvTimeoutError::Timeout) => return Err(unavailable("no answer in time".to_owned())),
                Err(RecvTimeoutError::Disconnected) => {
                    return Err(unavailable("the stream thread is joining the group anew".to_owned()));
                }
            }
        }
    }

    /// Answers from a global table, which is here whole.
    fn of_global(&self, table: usize, key: &[u8], read: &Read, wait: Duration) -> Result<Json, ReadError> {
        let unavailable =
            |detail: &str| ReadError::Unavailable { code: codes::READ_UNAVAILABLE, detail: detail.to_owned() };
        if !self.shared.globals_ready.load(std::sync::atomic::Ordering::Acquire) {
            return Err(unavailable("the global tables are being read"));
        }
        let watch = clock::Stopwatch::start();
        loop {
            match answer_global(&self.shared, table, key, read)? {
                Some(answer) => return Ok(answer),
                None if watch.elapsed() < wait => std::thread::park_timeout(Duration::from_millis(2)),
                None => return Err(unavailable("the inputs of `wait_for` are not in yet")),
            }
        }
    }

    /// A page of a store's keys, gathered from all that have a part of it; all of them, or no answer.
    fn gather(&self, sub_topology: usize, read: &Read, wait: Duration) -> Result<Json, ReadError> {
        let ReadKind::Keys { store, prefix, limit, cursor } = &read.what else { return Ok(Json::Null) };
        let watch = clock::Stopwatch::start();
        let partitions: Vec<Partition> = match &read.reach {
            Reach::Here { partitions: Some(partitions), .. } => partitions.clone(),
            Reach::Here { partitions: None, .. } | Reach::Anywhere => {
                (0..self.shared.cluster.tasks_of(sub_topology)).map(|number| Partition(number as i32)).collect()
            }
        };
        // One more than is wanted tells that there is more.
        let what =
            ReadKind::Keys { store: store.clone(), prefix: prefix.clone(), limit: limit + 1, cursor: cursor.clone() };
        let of_one = Read { what, ..read.clone() };
        let mut page = Page::default();
        let mut elsewhere: BTreeMap<String, (Peer, Vec<Partition>)> = BTreeMap::new();
        for partition in partitions {
            let task = self.shared.task_id(sub_topology, partition);
            match self.holder(&task, &read.reach) {
                Ok(Holder::Peer(peer)) => {
                    elsewhere.entry(peer.instance.clone()).or_insert_with(|| (peer, Vec::new())).1.push(partition);
                }
                Ok(Holder::Here) | Err(_) => {
                    page.add(self.of_task(&task, &of_one, wait.saturating_sub(watch.elapsed()))?)
                }
            }
        }
        for (peer, partitions) in elsewhere.into_values() {
            let left = wait.saturating_sub(watch.elapsed());
            match self.ask_peer(&peer, Some(partitions.clone()), read, left) {
                Err(ReadError::Unavailable { code, detail }) if read.stale => {
                    for partition in partitions {
                        let task = self.shared.task_id(sub_topology, partition);
                        let failed = Err(ReadError::Unavailable { code, detail: detail.clone() });
                        page.add(self.or_standby(&task, &of_one, left, failed)?);
                    }
                }
                answered => page.add(answered?),
            }
        }
        let stores = &self.shared.plan.sub_topologies[sub_topology].stores;
        let Some(known) = stores.iter().find(|known| known.name == *store) else { return Ok(Json::Null) };
        Ok(page.finish(*limit, &known.key))
    }
}

/// Parts of a page of keys.
#[derive(Debug, Default)]
struct Page {
    rows: Vec<Json>,
    /// A part says that it has more.
    more: bool,
    /// A part is a standby's; how far those are behind, as far as they know.
    stale: Option<Option<u64>>,
}

impl Page {
    fn add(&mut self, mut part: Json) {
        self.more |= part.get("cursor").is_some();
        if part.get("stale").is_some() {
            let behind = |all: Option<u64>| Some(all? + part["behind"].as_u64()?);
            self.stale = Some(behind(self.stale.unwrap_or(Some(0))));
        }
        if let Some(Json::Array(rows)) = part.get_mut("keys") {
            self.rows.append(rows);
        }
    }

    fn finish(mut self, limit: usize, format: &KeyFormat) -> Json {
        // By the keys' bytes, as each task has them: a page goes on behind the key that it ended with.
        self.rows.sort_by_cached_key(|row| {
            (key_of_shown(&row["key"], format), row["key"].to_string(), row["window"]["start"].to_string())
        });
        let more = self.more || self.rows.len() > limit;
        self.rows.truncate(limit);
        let cursor = self.rows.last().filter(|_| more).map(|row| cursor_of(&row["key"]));
        let mut answer = json!({ "keys": self.rows });
        if let (Some(cursor), Some(answer)) = (cursor, answer.as_object_mut()) {
            answer.insert("cursor".to_owned(), Json::String(cursor));
        }
        match self.stale {
            Some(behind) => marked(answer, behind),
            None => answer,
        }
    }
}

/// Marks an answer as a standby's, which is so many offsets behind.
fn marked(mut answer: Json, behind: Option<u64>) -> Json {
    if let Some(fields) = answer.as_object_mut() {
        fields.insert("stale".to_owned(), Json::Bool(true));
        fields.insert("behind".to_owned(), json!(behind));
    }
    answer
}

impl std::fmt::Debug for Reads {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Reads").field("threads", &self.asks.len()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(parts: &[(&[&str], bool)], limit: usize) -> (Vec<String>, Option<String>) {
        let mut page = Page::default();
        for (keys, more) in parts {
            let rows: Vec<Json> = keys.iter().map(|key| json!({ "key": key })).collect();
            let mut part = json!({ "keys": rows });
            if *more {
                part["cursor"] = json!(keys.last());
            }
            page.add(part);
        }
        let answer = page.finish(limit, &KeyFormat::String);
        let keys = answer["keys"].as_array().unwrap().iter().map(|row| row["key"].as_str().unwrap().to_owned());
        (keys.collect(), answer.get("cursor").map(|cursor| cursor.as_str().unwrap().to_owned()))
    }

    #[test]
    fn a_page_of_parts_is_in_order_and_says_when_there_is_more() {
        let (keys, cursor) = page(&[(&["b", "d"], false), (&[], false), (&["a", "c"], false)], 3);
        assert_eq!((keys, cursor.as_deref()), (vec!["a".into(), "b".into(), "c".into()], Some("c")));
        let (keys, cursor) = page(&[(&["b"], false), (&["a"], false)], 2);
        assert_eq!((keys.len(), cursor), (2, None));
        // A part that was cut off by another instance says so itself.
        let (keys, cursor) = page(&[(&["a", "b"], true), (&[], false)], 2);
        assert_eq!((keys.len(), cursor.as_deref()), (2, Some("b")));
    }
}
