//! How long records took from their own time to the commit that made their effects visible, counted at sinks.
//!
//! A record sent waits as a node and a time until its generation is committed; an aborted generation counts nothing.

use crate::base::time::Timestamp;
use crate::plan::NodeIndex;

/// Upper bounds of the latencies counted, in seconds; what is beyond the last is counted too.
pub const LATENCY_BOUNDS_SECONDS: &[f64] =
    &[0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 60.0, 600.0, 3600.0];

/// A sink's latencies: counts by upper bound, the last for everything beyond.
#[derive(Clone, Debug)]
pub struct Latency {
    pub counts: Vec<u64>,
    pub sum_seconds: f64,
}

/// The latencies of a task's sinks.
#[derive(Debug)]
pub(super) struct Latencies {
    /// By node; empty counts for nodes that never sent.
    nodes: Vec<Latency>,
    open: Vec<(NodeIndex, Timestamp)>,
    sealed: Vec<(NodeIndex, Timestamp)>,
}

impl Latencies {
    pub(super) fn new(nodes: usize) -> Self {
        let none = Latency { counts: Vec::new(), sum_seconds: 0.0 };
        Self { nodes: vec![none; nodes], open: Vec::new(), sealed: Vec::new() }
    }

    /// A sink has sent a record of this time.
    pub(super) fn sent(&mut self, node: NodeIndex, timestamp: Timestamp) {
        self.open.push((node, timestamp));
    }

    /// Returns how many sends the open generation has: what [`Latencies::truncate`] goes back to.
    pub(super) fn pending(&self) -> usize {
        self.open.len()
    }

    pub(super) fn truncate(&mut self, kept: usize) {
        self.open.truncate(kept);
    }

    pub(super) fn seal(&mut self) {
        debug_assert!(self.sealed.is_empty(), "at most one generation waits for its commit");
        std::mem::swap(&mut self.open, &mut self.sealed);
    }

    /// The sealed generation became visible at `now`.
    pub(super) fn committed(&mut self, now: Timestamp) {
        for (node, timestamp) in self.sealed.drain(..) {
            let latency = &mut self.nodes[usize::from(node.0)];
            latency.counts.resize(LATENCY_BOUNDS_SECONDS.len() + 1, 0);
            let seconds = (now.0 - timestamp.0).max(0) as f64 / 1000.0;
            let bucket = LATENCY_BOUNDS_SECONDS.iter().position(|bound| seconds <= *bound);
            latency.counts[bucket.unwrap_or(LATENCY_BOUNDS_SECONDS.len())] += 1;
            latency.sum_seconds += seconds;
        }
    }

    /// Nothing that was sent since the last commit became visible.
    pub(super) fn abort(&mut self) {
        self.open.clear();
        self.sealed.clear();
    }

    /// Returns the nodes that have sent, with their latencies.
    pub(super) fn iter(&self) -> impl Iterator<Item = (usize, &Latency)> {
        self.nodes.iter().enumerate().filter(|(_, latency)| !latency.counts.is_empty())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_became_visible_is_counted() {
        let mut latencies = Latencies::new(2);
        latencies.sent(NodeIndex(1), Timestamp(1000));
        let kept = latencies.pending();
        latencies.sent(NodeIndex(1), Timestamp(1000));
        latencies.truncate(kept);
        latencies.seal();
        latencies.sent(NodeIndex(1), Timestamp(2000));
        latencies.committed(Timestamp(1030));
        latencies.abort();
        latencies.committed(Timestamp(9_999_999));
        let counted: Vec<_> = latencies.iter().collect();
        assert_eq!(counted.len(), 1);
        let (node, latency) = counted[0];
        assert_eq!((node, latency.counts.iter().sum::<u64>()), (1, 1));
        assert_eq!(latency.counts[3], 1, "30 ms are at most 50");
        assert!((latency.sum_seconds - 0.03).abs() < 1e-9);
    }
}
