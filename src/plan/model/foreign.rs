//! Joins by foreign key: what the left table's task and the right one's tell each other.
//!
//! ```text
//! left table ─► Subscribe ─► <join>_subscriptions ─► Subscriptions ─► <join>_responses ─► ForeignJoin ─► table of results
//!      └────────────────────── looked up ───────────────────┼──────────────────────────────────┘
//!                                          right table ─────┘
//! ```

use super::{Expression, JoinKind, JoinSide, KeyFormat, LayoutId, StoreRef};
use crate::base::value::Text;

/// The fields of a subscription, whose key is that of the right row: the left row's key and partition, the digest of the left row (null
/// when it is gone), and what to do ([`SubscriptionAction`]).
pub const SUBSCRIPTION_FIELDS: [&str; 4] = ["key", "partition", "digest", "action"];

/// Fields in front of a response's own, which are the right row's; its key is the left row's. Where to send it, what the left row's
/// digest was, and whether there is a right row.
pub const RESPONSE_FIELDS: [&str; 3] = ["partition", "digest", "there"];

/// What a subscription does. Numbers stand in topics: none is ever used again for something else.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SubscriptionAction {
    /// Keep it, and answer with the right row or that there is none.
    Subscribe = 1,
    /// Forget it.
    Unsubscribe = 2,
    /// Forget it, and answer that there is no right row.
    UnsubscribeAndAnswer = 3,
}

impl SubscriptionAction {
    /// Returns the action of a number.
    pub fn of(number: i64) -> Option<Self> {
        [Self::Subscribe, Self::Unsubscribe, Self::UnsubscribeAndAnswer]
            .into_iter()
            .find(|action| *action as i64 == number)
    }
}

/// Tells the task that has the right row which left row refers to it.
#[derive(Debug)]
pub struct Subscribe {
    pub kind: JoinKind,
    /// The right row's key, over the left row; null refers to none.
    pub refers_to: Expression,
    /// Of the right rows' keys.
    pub format: KeyFormat,
    /// Names of the left row's fields, in the order of its slots: what its digest is made of beside the values.
    pub left_fields: Vec<Text>,
    pub layout: LayoutId,
}

/// Keeps who refers to which right row, and answers them all when it changes.
#[derive(Debug)]
pub struct Subscriptions {
    pub store: StoreRef,
    pub right: JoinSide,
    /// Of the response.
    pub layout: LayoutId,
}

/// Joins left rows with the responses to their subscriptions.
#[derive(Debug)]
pub struct ForeignJoin {
    pub kind: JoinKind,
    pub left: JoinSide,
    pub refers_to: Expression,
    pub left_fields: Vec<Text>,
    /// Slots of a response: its digest, whether there is a right row, and how many there are.
    pub digest: usize,
    pub there: usize,
    pub response_slots: usize,
    /// `ROW` is the left row, `OTHER` the response.
    pub fields: Vec<Expression>,
    pub layout: LayoutId,
}
