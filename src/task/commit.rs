//! The commit protocol of a stream thread as a state machine: what is done next, given what happened. All the thread's tasks
//! commit in one transaction; while it is under way the next generation is processed and nothing of it is sent.
//!
//! ```text
//! Open ──seal──► Sending ──all handed over──► Committing ──committed──► Open        (Confirm)
//!                   │                             ├──aborted───────────► Aborting ──aborted──► Open (Rewind)
//!                   │                             ├──unknown───────────► Settling ──settled──► Open (tasks were restored)
//!                   └──────────fenced─────────────┴──fenced────────────► Fenced    (Rejoin)
//! ```

use crate::base::time::{SpanMs, Timestamp};

/// Where the protocol stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// No generation is sealed; sends go out as they come.
    Open,
    /// A generation is sealed; its records are being handed to the producer.
    Sending,
    /// The producer is committing.
    Committing,
    /// The transaction is lost and must be ended before anything else.
    Aborting,
    /// Nobody knows whether the transaction was committed: a new producer finds out.
    Settling,
    /// Another instance has the transactional id or the group has moved on.
    Fenced,
}

/// What happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// A generation was sealed.
    Sealed,
    /// Every record of the sealed generation is with the producer.
    HandedOver,
    Committed,
    /// The broker says that the transaction must be aborted, or a send failed.
    Lost,
    /// The transaction was aborted.
    Aborted,
    Unknown,
    /// After `Unknown`: a new producer has fenced the old one, and every task reads what was committed from its changelogs.
    Settled,
    Fenced,
}

/// What to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CommitStep {
    /// Go on processing.
    Continue,
    /// Hand the sealed generation's records to the producer, then report `HandedOver`.
    Send,
    /// Ask the producer to commit, then poll for the outcome.
    Commit,
    /// The sealed generation is committed: its rows become the stores' committed rows.
    Confirm,
    /// End the transaction at the broker.
    Abort,
    /// Drop both generations and read again from the last commit.
    Rewind,
    /// Make a new producer, which fences the old one, and restore every task: its changelogs say what was committed.
    Settle,
    /// Drop all tasks and join the group anew.
    Rejoin,
}

/// The protocol of one stream thread.
#[derive(Debug)]
pub struct CommitCycle {
    state: State,
    interval: SpanMs,
    last: Timestamp,
}

impl CommitCycle {
    /// Starts with nothing sealed; the first commit is due `interval` after `now`.
    pub fn new(interval: SpanMs, now: Timestamp) -> Self {
        Self { state: State::Open, interval, last: now }
    }

    /// Tells whether a generation may be sealed and it is time to.
    pub fn is_due(&self, now: Timestamp) -> bool {
        // A clock that was put back must not hold commits up until it has caught up.
        self.may_seal() && (now < self.last || self.last.saturating_add(self.interval) <= now)
    }

    /// Returns when the next commit is due.
    pub fn next_due(&self) -> Timestamp {
        self.last.saturating_add(self.interval)
    }

    /// Tells whether a generation may be sealed: no other is on its way.
    pub fn may_seal(&self) -> bool {
        self.state == State::Open
    }

    /// Tells whether records of the open generation may be sent.
    pub fn may_send(&self) -> bool {
        self.state == State::Open
    }

    /// Tells whether only a new start of the thread leads on: it was fenced, or an unknown outcome could not be settled.
    pub fn must_rejoin(&self) -> bool {
        matches!(self.state, State::Fenced | State::Settling)
    }

    /// Tells whether an outcome is awaited from the producer.
    pub fn awaits_outcome(&self) -> bool {
        self.state == State::Committing
    }

    /// Tells whether sealed records are still to be handed over.
    pub fn is_sending(&self) -> bool {
        self.state == State::Sending
    }

    /// Moves on by what happened at `now` and says what to do. What cannot happen in a state changes nothing.
    pub fn handle(&mut self, outcome: Outcome, now: Timestamp) -> CommitStep {
        let (state, step) = match (self.state, outcome) {
            (State::Open, Outcome::Sealed) => (State::Sending, CommitStep::Send),
            (State::Sending, Outcome::HandedOver) => (State::Committing, CommitStep::Commit),
            (State::Committing, Outcome::Committed) => (State::Open, CommitStep::Confirm),
            (State::Open | State::Sending | State::Committing, Outcome::Lost) => (State::Aborting, CommitStep::Abort),
            (State::Aborting, Outcome::Aborted) => (State::Open, CommitStep::Rewind),
            (State::Committing | State::Aborting, Outcome::Unknown) => (State::Settling, CommitStep::Settle),
            (State::Settling, Outcome::Settled) => (State::Open, CommitStep::Continue),
            (_, Outcome::Fenced) => (State::Fenced, CommitStep::Rejoin),
            (state, _) => (state, CommitStep::Continue),
        };
        if state == State::Open && self.state != State::Open {
            self.last = now;
        }
        self.state = state;
        step
    }

    /// Nothing was worth committing: the next commit is due one interval later.
    pub fn skip(&mut self, now: Timestamp) {
        self.last = now;
    }

    /// Starts over after the thread has joined anew.
    pub fn restart(&mut self, now: Timestamp) {
        *self = Self::new(self.interval, now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cycle() -> CommitCycle {
        CommitCycle::new(SpanMs(100), Timestamp(0))
    }

    #[test]
    fn a_commit_goes_through_its_steps_in_order() {
        let mut cycle = cycle();
        assert!(!cycle.is_due(Timestamp(99)));
        assert!(cycle.is_due(Timestamp(100)));
        assert_eq!(cycle.handle(Outcome::Sealed, Timestamp(100)), CommitStep::Send);
        assert!(!cycle.may_send() && !cycle.may_seal());
        assert_eq!(cycle.handle(Outcome::HandedOver, Timestamp(101)), CommitStep::Commit);
        assert_eq!(cycle.handle(Outcome::Committed, Timestamp(150)), CommitStep::Confirm);
        assert!(!cycle.is_due(Timestamp(249)) && cycle.is_due(Timestamp(250)));
    }

    #[test]
    fn a_clock_that_was_put_back_holds_no_commit_up() {
        let mut cycle = CommitCycle::new(SpanMs(100), Timestamp(3_600_000));
        assert!(!cycle.is_due(Timestamp(3_600_050)));
        assert!(cycle.is_due(Timestamp(5)));
        cycle.skip(Timestamp(5));
        assert!(!cycle.is_due(Timestamp(50)) && cycle.is_due(Timestamp(105)));
    }

    #[test]
    fn a_lost_transaction_is_aborted_before_the_tasks_rewind() {
        for before in [&[][..], &[Outcome::Sealed], &[Outcome::Sealed, Outcome::HandedOver]] {
            let mut cycle = cycle();
            for outcome in before {
                cycle.handle(*outcome, Timestamp(0));
            }
            assert_eq!(cycle.handle(Outcome::Lost, Timestamp(0)), CommitStep::Abort);
            assert!(!cycle.may_send() && !cycle.may_seal());
            assert_eq!(cycle.handle(Outcome::Aborted, Timestamp(0)), CommitStep::Rewind);
            assert!(cycle.may_seal());
        }
    }

    #[test]
    fn an_unknown_outcome_is_settled_before_anything_else() {
        let mut cycle = cycle();
        cycle.handle(Outcome::Sealed, Timestamp(0));
        cycle.handle(Outcome::HandedOver, Timestamp(0));
        assert_eq!(cycle.handle(Outcome::Unknown, Timestamp(0)), CommitStep::Settle);
        assert_eq!(cycle.handle(Outcome::Committed, Timestamp(0)), CommitStep::Continue);
        assert!(!cycle.may_seal() && cycle.must_rejoin());
        cycle.handle(Outcome::Settled, Timestamp(0));
        assert!(cycle.may_seal() && !cycle.must_rejoin());
    }

    #[test]
    fn a_fenced_thread_does_nothing_until_it_has_joined_anew() {
        let mut cycle = cycle();
        assert_eq!(cycle.handle(Outcome::Fenced, Timestamp(0)), CommitStep::Rejoin);
        assert_eq!(cycle.handle(Outcome::Sealed, Timestamp(0)), CommitStep::Continue);
        assert_eq!(cycle.handle(Outcome::Lost, Timestamp(0)), CommitStep::Continue);
        assert!(cycle.must_rejoin());
        cycle.restart(Timestamp(5));
        assert!(cycle.may_seal());
    }
}
