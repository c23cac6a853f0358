//! Transactions: who may write under a transactional id, what is open, and how one ends.
//!
//! A commit has two steps, as in Kafka: `stage_commit` adds the offsets (checked against the group's generation), which holds
//! back readers of committed offsets; `commit` decides. In between the transaction is open, and may still be aborted by a
//! newer producer. Invariant: records are written before the decision is journalled, the decision before it is seen.

use std::collections::{BTreeMap, BTreeSet};

use crate::base::ids::{Offset, TopicPartition};
use crate::broker::Error;
use crate::broker::local::batch::BatchKind;
use crate::broker::local::groups::Membership;
use crate::broker::local::journal::Entry;
use crate::broker::local::state::State;

/// A producer under a transactional id. A newer one under the same id has another number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Session {
    pub(super) transactional_id: String,
    number: u64,
}

/// Sessions and open transactions.
#[derive(Debug, Default)]
pub(super) struct Transactions {
    sessions: BTreeMap<String, u64>,
    sessions_made: u64,
    /// Transactions begun so far: the last number given out.
    pub(super) begun: u64,
    open: BTreeMap<u64, Open>,
}

#[derive(Debug)]
struct Open {
    session: u64,
    /// Partitions written to, with their topic's incarnation.
    partitions: BTreeSet<(TopicPartition, u64)>,
    staged: Option<(String, Vec<(TopicPartition, Offset)>)>,
}

impl State {
    /// Makes a session, which fences the one before and aborts what it left open.
    pub(super) fn open_session(&mut self, transactional_id: &str) -> Result<Session, Error> {
        self.transactions.sessions_made += 1;
        let number = self.transactions.sessions_made;
        let before = self.transactions.sessions.insert(transactional_id.to_owned(), number);
        let left: Vec<u64> =
            self.transactions.open.iter().filter(|(_, open)| Some(open.session) == before).map(|(n, _)| *n).collect();
        for transaction in left {
            self.abort(transaction)?;
        }
        Ok(Session { transactional_id: transactional_id.to_owned(), number })
    }

    /// Checks that no newer session exists.
    pub(super) fn check_session(&self, session: &Session) -> Result<(), Error> {
        if self.transactions.sessions.get(&session.transactional_id) == Some(&session.number) {
            return Ok(());
        }
        let message = format!("a newer producer uses the transactional id `{}`", session.transactional_id);
        Err(Error::Fenced { message })
    }

    /// Opens a transaction and returns its number.
    pub(super) fn begin(&mut self, session: &Session) -> Result<u64, Error> {
        self.check_session(session)?;
        self.transactions.begun += 1;
        let open = Open { session: session.number, partitions: BTreeSet::new(), staged: None };
        self.transactions.open.insert(self.transactions.begun, open);
        Ok(self.transactions.begun)
    }

    /// Notes that a transaction has records in a partition.
    pub(super) fn note_written(&mut self, transaction: u64, place: &TopicPartition, incarnation: u64) {
        if let Some(open) = self.transactions.open.get_mut(&transaction) {
            open.partitions.insert((place.clone(), incarnation));
        }
    }

    /// Adds the offsets that are committed with the transaction.
    pub(super) fn stage_commit(
        &mut self,
        transaction: u64,
        membership: Option<&Membership>,
        offsets: Vec<(TopicPartition, Offset)>,
    ) -> Result<(), Error> {
        if offsets.is_empty() {
            return Ok(());
        }
        let Some(membership) = membership else {
            return Err(Error::Invalid { message: "offsets are committed for a group, and none was given".to_owned() });
        };
        self.check_membership(membership).map_err(|message| Error::Aborted { message })?;
        let group_id = membership.group_id.clone();
        self.with_group(&group_id, |group, _| group.pending.insert(transaction, offsets.clone()));
        if let Some(open) = self.transactions.open.get_mut(&transaction) {
            open.staged = Some((group_id, offsets));
        }
        Ok(())
    }

    /// Makes the transaction's records visible and its offsets committed, all at once. After an error it is still open.
    pub(super) fn commit(&mut self, transaction: u64) -> Result<(), Error> {
        let Some(open) = self.transactions.open.get(&transaction) else {
            return Err(Error::Aborted { message: "the transaction is not open any more".to_owned() });
        };
        let (partitions, staged) = (open.partitions.clone(), open.staged.clone());
        if let Some((place, _)) = partitions.iter().find(|(place, incarnation)| !self.is_there(place, *incarnation)) {
            return Err(Error::Aborted { message: format!("topic `{}` was deleted", place.topic) });
        }
        for (place, _) in &partitions {
            self.write(place)?;
        }
        if let Some((_, offsets)) = &staged {
            self.write_read_positions(offsets)?;
        }
        if !partitions.is_empty() || staged.is_some() {
            self.decide(&Entry::TransactionCommitted { transaction, offsets: staged.clone() })?;
        }
        self.transactions.open.remove(&transaction);
        for (place, _) in &partitions {
            self.log_mut(place)?.end_transaction(transaction, BatchKind::CommitMarker);
        }
        if let Some((group_id, offsets)) = staged {
            self.with_group(&group_id, |group, _| {
                group.pending.remove(&transaction);
                group.offsets.extend(offsets);
            });
        }
        Ok(())
    }

    /// Ends a transaction so that nothing of it is ever seen; one that is not open is no error.
    pub(super) fn abort(&mut self, transaction: u64) -> Result<(), Error> {
        let Some(open) = self.transactions.open.remove(&transaction) else { return Ok(()) };
        if let Some((group_id, _)) = &open.staged {
            self.with_group(group_id, |group, _| group.pending.remove(&transaction));
        }
        let there: Vec<TopicPartition> = open
            .partitions
            .into_iter()
            .filter(|(place, incarnation)| self.is_there(place, *incarnation))
            .map(|(place, _)| place)
            .collect();
        for place in &there {
            self.log_mut(place)?.end_transaction(transaction, BatchKind::AbortMarker);
        }
        // A reader may step over the marker; the offset behind it must still exist after a crash.
        there.iter().try_for_each(|place| self.write(place))
    }

    fn is_there(&self, place: &TopicPartition, incarnation: u64) -> bool {
        self.topics.get(&place.topic).is_some_and(|topic| topic.incarnation == incarnation)
    }
}
