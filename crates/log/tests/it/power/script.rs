//! A seeded life of a partition, the same up to the call at which it is cut off.

use milena_base::{Epoch, Now, Offset, Prng};
use milena_disk::{Disk, SimDisk};
use milena_log::AppendOrigin;

use super::node::{Done, Node, build, marker};
use super::root;
use super::truth::Truth;

const STEPS: u64 = 60;
const PRODUCERS: u64 = 3;

/// What is known of a producer: its next sequence, and whether it is in a transaction.
#[derive(Clone, Copy, Debug, Default)]
struct Producer {
    next_sequence: i32,
    in_transaction: bool,
}

pub struct Script {
    prng: Prng,
    disk: SimDisk,
    truth: Truth,
    producers: [Producer; PRODUCERS as usize],
}

/// How far a script came.
pub struct Run {
    pub disk: SimDisk,
    pub truth: Truth,
    /// Changes of the disk from the first start on.
    pub changes: u64,
}

impl Script {
    pub fn new(seed: u64) -> Script {
        let disk = SimDisk::new(seed);
        // Within a page, or over many.
        let scale = if seed.is_multiple_of(2) { 1 } else { 25 };
        // The data directory itself is there: whoever formats it has seen to that.
        disk.create_dir_all(root()).expect("a fresh disk");
        disk.sync_dir(root().parent().expect("it is below /"))
            .expect("a fresh disk");
        Script {
            prng: Prng::new(seed),
            disk,
            truth: Truth::new(Now::from_millis(0, 1_700_000_000_000), scale),
            producers: Default::default(),
        }
    }

    /// Runs to the end, or up to the crash at the change of that number.
    pub fn run(mut self, crash_at: Option<u64>) -> Run {
        let before = self.disk.mutations();
        if let Some(nth) = crash_at {
            self.disk.crash_at(nth);
        }
        let lived = self.live();
        let crashed = self.disk.crashed();
        assert_eq!(
            lived.is_err(),
            crashed.is_some(),
            "only the crash fails: {lived:?}"
        );
        assert_eq!(crash_at.is_some(), crashed.is_some());
        Run {
            changes: self.disk.mutations() - before,
            disk: self.disk,
            truth: self.truth,
        }
    }

    fn live(&mut self) -> Done {
        let mut node = Node::start(&self.disk, &self.truth)?;
        node.assign_id(&mut self.truth)?;
        for _ in 0..STEPS {
            let passed = self.prng.below(50);
            self.truth.now.wall.0 += passed as i64;
            self.truth.now.mono += std::time::Duration::from_millis(passed);
            node = self.step(node)?;
        }
        node.stop_cleanly(&mut self.truth)
    }

    fn step(&mut self, mut node: Node) -> Result<Node, super::node::Trouble> {
        let truth = &mut self.truth;
        match self.prng.below(100) {
            0..24 => node.append_plain(truth, self.prng.below(200) as usize)?,
            24..30 => node.append_replicated(truth, self.prng.below(100) as usize)?,
            30..55 => self.append_of_producer(&mut node)?,
            55..62 => self.end_transaction(&mut node)?,
            62..71 => node.flush(truth)?,
            71..75 => {
                let rolled = node.log.roll(truth.now)?;
                node.owed.extend(rolled);
            }
            75..80 => node.pay(truth)?,
            80..86 => node.checkpoint()?,
            86..88 => self.delete_records(&mut node)?,
            88..91 => self.retain(&mut node)?,
            91..93 => self.truncate(&mut node)?,
            93..96 => node.epoch = Epoch(node.epoch.0 + 1),
            _ => {
                node.stop_cleanly(truth)?;
                return Node::start(&self.disk, truth);
            }
        }
        Ok(node)
    }

    /// The next batch of a producer, sometimes one that was appended before, sometimes in a transaction.
    fn append_of_producer(&mut self, node: &mut Node) -> Done {
        let which = self.prng.below(PRODUCERS);
        let producer = &mut self.producers[which as usize];
        // Producer 0 is only idempotent.
        let transactional = which > 0;
        let count = 1 + self.prng.below(3) as usize;
        let bytes = self.prng.below(150) as usize * self.truth.scale;
        let identity = (which as i64, 0, producer.next_sequence, transactional);
        let batch = build(self.truth.now.wall, Some(identity), bytes, count);
        producer.next_sequence += count as i32;
        producer.in_transaction |= transactional;
        let again = self.prng.chance(1, 5).then(|| batch.clone());
        node.append(&mut self.truth, batch, AppendOrigin::Client)?;
        match again {
            Some(batch) => node.append(&mut self.truth, batch, AppendOrigin::Client),
            None => Ok(()),
        }
    }

    fn end_transaction(&mut self, node: &mut Node) -> Done {
        let open = (0..PRODUCERS).find(|which| self.producers[*which as usize].in_transaction);
        let Some(which) = open else { return Ok(()) };
        self.producers[which as usize].in_transaction = false;
        let end = marker(self.truth.now.wall, which as i64, 0, self.prng.chance(1, 2));
        node.append(&mut self.truth, end, AppendOrigin::Coordinator)
    }

    fn delete_records(&mut self, node: &mut Node) -> Done {
        let (start, end) = (node.log.log_start(), node.log.log_end());
        let offset = start + self.prng.below((end - start) as u64 + 1) as i64;
        // Records that are deleted are below the high watermark: flushed, as far as this node alone can tell.
        node.flush(&mut self.truth)?;
        self.truth.start = self.truth.start.max(offset);
        node.log.advance_log_start(offset);
        node.checkpoint_start(&mut self.truth)
    }

    fn retain(&mut self, node: &mut Node) -> Done {
        let end = node.log.log_end();
        self.truth.start = end;
        let retained = node.log.retention(self.truth.now, end)?;
        self.truth.start = node.log.log_start();
        node.owed.extend(retained.rolled);
        let later = self.truth.now.mono + std::time::Duration::from_secs(3600);
        for path in node.log.take_due_deletions(later) {
            self.disk.remove_file(&path)?;
        }
        Ok(())
    }

    /// A follower's cut, at a batch; its producers are told to begin again.
    fn truncate(&mut self, node: &mut Node) -> Done {
        let candidates: Vec<Offset> = self.truth.batches.iter().map(|batch| batch.base).collect();
        let within = candidates
            .into_iter()
            .filter(|base| *base > node.log.log_start());
        let within: Vec<Offset> = within.collect();
        if within.is_empty() {
            return Ok(());
        }
        let at = within[self.prng.below(within.len() as u64) as usize];
        node.truncate(&mut self.truth, at)?;
        for (which, producer) in self.producers.iter_mut().enumerate() {
            let entry = node
                .log
                .active_producers()
                .find(|entry| entry.producer_id == which as i64);
            producer.next_sequence = entry.map_or(0, |entry| entry.last_sequence() + 1);
            producer.in_transaction = entry.is_some_and(|entry| entry.txn_first_offset.is_some());
        }
        node.epoch = Epoch(node.epoch.0 + 1);
        Ok(())
    }
}
