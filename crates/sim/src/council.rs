//! What has been promised about the quorum and its metadata, over all nodes and lives.
//!
//! Numbers in brackets are those of the project's list of invariants.

use std::collections::BTreeMap;

use bytes::Bytes;
use milena_base::{Digest, Offset};
use milena_image::Image;
use milena_raft::{Raft, walk};

use crate::atlas::{Check, broken};
use crate::node::Node;
use crate::plan::{MILLI, Time};

/// `controller.quorum.fetch.timeout.ms` of every node.
pub const FETCH_TIMEOUT: Time = 1500 * MILLI;
/// How much later than 1.5 fetch timeouts a leader may notice that it is alone: a fetch counts until it is answered,
/// half a second later, and clocks are slow.
const NOTICES_WITHIN: Time = 1000 * MILLI;
const READ_BYTES: usize = 1 << 20;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Committed {
    last: i64,
    epoch: i32,
    digest: u64,
}

#[derive(Clone, Copy, Debug)]
struct Replica {
    life: u32,
    high_watermark: Offset,
    /// The epoch that it leads.
    leads: Option<i32>,
    image_at: Offset,
}

/// See the module's words.
#[derive(Debug, Default)]
pub struct Council {
    batches: BTreeMap<i64, Committed>,
    committed: i64,
    leaders: BTreeMap<i32, usize>,
    replicas: BTreeMap<usize, Replica>,
    /// The image at each offset, as the first node published it.
    images: BTreeMap<i64, Image>,
    /// Where each voter's log ended when it was last looked at.
    ends: BTreeMap<usize, Offset>,
    /// When each voter last fetched from a node: (node, voter).
    fetched: BTreeMap<(usize, usize), Time>,
    /// Since when a node leads.
    leads_since: BTreeMap<usize, Time>,
    pub elections: u64,
    pub images_compared: u64,
}

impl Council {
    /// A voter's fetch reached a node.
    pub fn fetch_arrived(&mut self, node: usize, voter: usize, now: Time) {
        self.fetched.insert((node, voter), now);
    }

    /// Looks at a node. `idle`: its quorum has nothing to do now, so what it should have noticed, it has.
    pub fn look(&mut self, node: &Node, nodes: &[Node], idle: bool, now: Time) -> Check {
        let Some(live) = &node.live else {
            return Ok(());
        };
        let raft = live.quorum().raft();
        let leads = (raft.role_name() == "leader").then(|| raft.leader_and_epoch().epoch.0);
        let image = live.broker.image();
        self.ends.insert(node.index, raft.log().end_offset());
        let before = self.replicas.get(&node.index).copied();
        let before = before.filter(|replica| replica.life == node.life);
        let image_at = image.provenance.offset;
        let known = before.map_or(Offset::ZERO, |b| b.high_watermark);
        // A new leader does not know it until a record of its own is committed.
        let high_watermark = raft.high_watermark().unwrap_or(known);
        let after = Replica {
            life: node.life,
            high_watermark,
            leads,
            image_at,
        };
        self.replicas.insert(node.index, after);
        if high_watermark < known {
            return broken(
                "quorum-watermark-goes-on",
                format!("n{}: {high_watermark} after {known}", node.id()),
            );
        }
        if let Some(epoch) = leads.filter(|_| before.is_none_or(|b| b.leads != leads)) {
            self.leads_since.insert(node.index, now);
            self.elected(node, raft, epoch)?;
        }
        if high_watermark > known {
            self.compare(node, raft, known, high_watermark)?;
            if leads.is_some() && high_watermark.0 > self.committed {
                self.held_by_majority(node, nodes, raft, high_watermark)?;
            }
            self.committed = self.committed.max(high_watermark.0);
        }
        if before.is_none_or(|b| b.image_at != image_at) {
            self.published(node, &image)?;
        }
        if leads.is_some() && idle {
            self.is_followed(node, nodes, now)?;
        }
        Ok(())
    }

    /// [21], and that a leader has all that was committed.
    fn elected(&mut self, node: &Node, raft: &Raft, epoch: i32) -> Check {
        self.elections += 1;
        if let Some(other) = self.leaders.insert(epoch, node.index)
            && other != node.index
        {
            return broken(
                "one-leader-an-epoch-of-the-quorum",
                format!("n{} and n{} in epoch {epoch}", other + 1, node.id()),
            );
        }
        let end = raft.log().end_offset();
        if end.0 < self.committed {
            return broken(
                "quorum-leader-is-complete",
                format!(
                    "n{} leads epoch {epoch} and ends at {end}, {} is committed",
                    node.id(),
                    self.committed
                ),
            );
        }
        let from = raft.log().start_offset();
        self.compare(node, raft, from, Offset(self.committed))
    }

    /// [22]: committed metadata never changes.
    fn compare(&mut self, node: &Node, raft: &Raft, from: Offset, upto: Offset) -> Check {
        let mut at = from.max(raft.log().start_offset());
        while at < upto {
            let bytes = match raft.log().read(at, READ_BYTES) {
                Ok(bytes) => bytes,
                Err(fault) => return broken("quorum-log-is-readable", fault.to_string()),
            };
            let before = at;
            at = self.compare_batches(node, bytes, at, upto)?;
            if at == before {
                return broken(
                    "quorum-log-is-readable",
                    format!("n{}: nothing at {at} below {upto}", node.id()),
                );
            }
        }
        Ok(())
    }

    fn compare_batches(
        &mut self,
        node: &Node,
        bytes: Bytes,
        from: Offset,
        upto: Offset,
    ) -> Result<Offset, crate::atlas::Broken> {
        let mut at = from;
        for batch in walk(bytes) {
            let batch = match batch {
                Ok(batch) => batch,
                Err(fault) => return broken("quorum-log-is-readable", fault.to_string()),
            };
            if batch.last_offset >= upto {
                return Ok(upto.max(at));
            }
            at = batch.last_offset + 1;
            let mut digest = Digest::default();
            batch.values.iter().for_each(|value| digest.bytes(value));
            let found = Committed {
                last: batch.last_offset.0,
                epoch: batch.epoch.0,
                digest: digest.value(),
            };
            let known = self.batches.entry(batch.base_offset.0).or_insert(found);
            if *known != found {
                return broken(
                    "committed-metadata-is-for-good",
                    format!(
                        "n{}: {found:?} at {}, where {known:?} was committed",
                        node.id(),
                        batch.base_offset
                    ),
                );
            }
        }
        Ok(at)
    }

    /// [22]: each committed record is on a majority of the voters.
    fn held_by_majority(&self, node: &Node, nodes: &[Node], raft: &Raft, upto: Offset) -> Check {
        let voters = raft.voters();
        let is_voter = |n: &&Node| voters.iter().any(|v| v.key.id.0 == n.id());
        let holds = |n: &&Node| self.ends.get(&n.index).is_some_and(|end| *end >= upto);
        let held = nodes.iter().filter(is_voter).filter(holds).count();
        match held * 2 > voters.len() {
            true => Ok(()),
            false => broken(
                "held-by-majority",
                format!(
                    "n{} committed {upto}, held by {held} of {}",
                    node.id(),
                    voters.len()
                ),
            ),
        }
    }

    /// [23] and [26]: metadata at one offset is the same on every node, and committed.
    fn published(&mut self, node: &Node, image: &Image) -> Check {
        let at = image.provenance.offset.0;
        if at >= self.committed {
            return broken(
                "published-is-committed",
                format!(
                    "n{} shows metadata at {at}, {} is committed",
                    node.id(),
                    self.committed
                ),
            );
        }
        match self.images.get(&at) {
            None => drop(self.images.insert(at, image.clone())),
            Some(first) if first == image => self.images_compared += 1,
            Some(first) => {
                return broken(
                    "metadata-is-the-same",
                    format!("n{} at {at}: {image:?} instead of {first:?}", node.id()),
                );
            }
        }
        Ok(())
    }

    /// [25]: a leader that no majority has fetched from for 1.5 fetch timeouts resigns.
    fn is_followed(&self, node: &Node, nodes: &[Node], now: Time) -> Check {
        let live = node.live.as_ref().expect("it leads");
        let voters = live.quorum().raft().voters();
        let since = self.leads_since.get(&node.index).copied().unwrap_or(now);
        let late = now.saturating_sub(FETCH_TIMEOUT * 3 / 2 + NOTICES_WITHIN);
        let is_voter = |n: &&Node| voters.iter().any(|v| v.key.id.0 == n.id());
        let recent = |n: &&Node| {
            let fetched = self.fetched.get(&(node.index, n.index)).copied();
            n.index == node.index || fetched.unwrap_or(0).max(since) >= late
        };
        let followed = nodes.iter().filter(is_voter).filter(recent).count();
        match followed * 2 > voters.len() {
            true => Ok(()),
            false => broken(
                "a-leader-is-followed",
                format!(
                    "n{} still leads the quorum, and {followed} of {} know: leads since {since}, fetched from at {:?}",
                    node.id(),
                    voters.len(),
                    self.fetched
                ),
            ),
        }
    }

    /// Images of before are needed only by nodes that lag.
    pub fn forget_images_below(&mut self, offset: i64) {
        self.images = self.images.split_off(&offset);
    }
}
