//! What has been promised about partitions, over all nodes and lives: the invariants of the log and of replication,
//! looked at after every event of a node. It knows no fault and no plan.
//!
//! Numbers in brackets are those of the project's list of invariants.

use std::collections::BTreeMap;

use bytes::Bytes;
use milena_base::{Digest, Epoch, Offset, TopicIdPartition};
use milena_broker::{Broker, Hosted};
use milena_records::{Batch, Limits, batches};
use milena_replica::Offsets;

use crate::node::Node;

/// A promise that was broken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Broken {
    /// A short name: a shrunk plan breaks the same one.
    pub promise: &'static str,
    pub how: String,
}

pub type Check = Result<(), Broken>;

pub fn broken<T>(promise: &'static str, how: impl Into<String>) -> Result<T, Broken> {
    Err(Broken {
        promise,
        how: how.into(),
    })
}

/// A batch that was below a high watermark.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Committed {
    last: i64,
    epoch: i32,
    digest: u64,
}

/// What is known of a partition for good.
#[derive(Debug, Default)]
pub struct Known {
    pub name: String,
    batches: BTreeMap<i64, Committed>,
    /// Values of the records, by offset.
    pub values: BTreeMap<i64, u64>,
    /// The largest high watermark that any replica has shown.
    pub exposed: i64,
    /// The same of the leader of each epoch.
    exposed_in: BTreeMap<i32, i64>,
    leaders: BTreeMap<i32, usize>,
}

impl Known {
    /// What a leader of this epoch has to hold.
    fn exposed_before(&self, epoch: Epoch) -> i64 {
        let before = self.exposed_in.range(..epoch.0);
        before.map(|(_, exposed)| *exposed).max().unwrap_or(0)
    }
}

/// One replica in one life of its node.
#[derive(Clone, Copy, Debug)]
struct Replica {
    life: u32,
    epoch: Epoch,
    leads: bool,
    high_watermark: Offset,
    log_start: Offset,
    /// Below it the log was compared with what is known.
    verified: Offset,
}

/// See the module's words.
#[derive(Debug, Default)]
pub struct Atlas {
    pub partitions: BTreeMap<TopicIdPartition, Known>,
    replicas: BTreeMap<(usize, TopicIdPartition), Replica>,
    /// Where each value was committed.
    places: BTreeMap<u64, (TopicIdPartition, i64)>,
    pub epochs_led: u64,
}

impl Atlas {
    /// Looks at every partition of a node.
    pub fn look(&mut self, node: &Node, nodes: &[Node]) -> Check {
        let Some(live) = &node.live else {
            return Ok(());
        };
        for (id, hosted) in live.broker.all_hosted() {
            let role = hosted.partition.role();
            if !role.offline {
                // Before its registration is known nobody can reach it: what it leads then, it leads for nobody.
                let leads = role.is_leader && live.unfenced;
                self.look_at(node, nodes, &live.broker, id, &hosted, leads)?;
            }
        }
        Ok(())
    }

    fn look_at(
        &mut self,
        node: &Node,
        nodes: &[Node],
        broker: &Broker,
        id: TopicIdPartition,
        hosted: &Hosted,
        leads_here: bool,
    ) -> Check {
        let partition = &hosted.partition;
        let (role, at) = (partition.role(), partition.offsets());
        let who = || format!("{} on n{}", partition.name, node.id());
        // [3]
        let ordered = at.log_start <= at.last_stable
            && at.last_stable <= at.high_watermark
            && at.high_watermark <= at.log_end;
        if !ordered {
            return broken("offsets-ordered", format!("{}: {at:?}", who()));
        }
        let before = self.replicas.get(&(node.index, id)).copied();
        let before = before.filter(|replica| replica.life == node.life);
        if let Some(before) = before {
            goes_on(&before, &at, who)?;
            let same = before.high_watermark == at.high_watermark
                && before.epoch == role.leader_epoch
                && before.leads == leads_here;
            if same {
                return Ok(());
            }
        }
        let mut replica = Replica {
            life: node.life,
            epoch: role.leader_epoch,
            leads: leads_here,
            high_watermark: at.high_watermark,
            log_start: at.log_start,
            verified: before.map_or(at.log_start, |before| before.verified),
        };
        let begins = leads_here && before.is_none_or(|b| !b.leads || b.epoch != role.leader_epoch);
        let known = self.partitions.entry(id).or_insert_with(|| Known {
            name: partition.name.to_string(),
            ..Known::default()
        });
        if begins {
            self.epochs_led += 1;
            leads(known, node, broker, id, hosted)?;
        }
        let upto = match begins {
            true => Offset(known.exposed_before(role.leader_epoch)).max(at.high_watermark),
            false => at.high_watermark,
        };
        let from = if begins {
            at.log_start
        } else {
            replica.verified
        };
        compare(known, &mut self.places, id, hosted, from, upto, &who())?;
        replica.verified = at.high_watermark;
        if leads_here && at.high_watermark.0 > known.exposed {
            held_by_in_sync(hosted, node, nodes, id, at.high_watermark)?;
        }
        known.exposed = known.exposed.max(at.high_watermark.0);
        if leads_here {
            known
                .exposed_in
                .insert(role.leader_epoch.0, at.high_watermark.0);
        }
        self.replicas.insert((node.index, id), replica);
        Ok(())
    }

    /// A producer was told that these values are stored from `base` on.
    pub fn acknowledged(&self, id: TopicIdPartition, base: i64, values: &[u64]) -> Check {
        let Some(known) = self.partitions.get(&id) else {
            return broken("acked-is-committed", "a partition that nobody has");
        };
        for (offset, value) in (base..).zip(values) {
            let found = known.values.get(&offset);
            if found != Some(value) {
                return broken(
                    "acked-is-committed",
                    format!(
                        "{}: {value} was acked at {offset}, where {found:?} is committed",
                        known.name
                    ),
                );
            }
        }
        Ok(())
    }

    /// A consumer read a value.
    pub fn read(&self, id: TopicIdPartition, offset: i64, value: u64) -> Check {
        let known = self.partitions.get(&id);
        let found = known.and_then(|known| known.values.get(&offset));
        match found == Some(&value) {
            true => Ok(()),
            false => broken(
                "reads-agree",
                format!("{value} was read at {offset}, where {found:?} is committed"),
            ),
        }
    }

    /// Where a value was committed.
    pub fn place(&self, value: u64) -> Option<(TopicIdPartition, i64)> {
        self.places.get(&value).copied()
    }

    pub fn committed_records(&self) -> usize {
        self.places.len()
    }

    /// [13]: after convergence all replicas are equal, byte for byte.
    pub fn all_equal(&self, nodes: &[Node]) -> Check {
        for (id, known) in &self.partitions {
            let mut first: Option<(usize, u64)> = None;
            for node in nodes {
                let Some(hosted) = node.live.as_ref().and_then(|live| live.broker.hosted(*id))
                else {
                    continue;
                };
                let reader = hosted.partition.reader();
                let mut digest = Digest::default();
                walk(&hosted, reader.log_start(), reader.log_end(), |batch| {
                    digest.bytes(batch.bytes());
                    Ok(())
                })?;
                match first {
                    None => first = Some((node.index, digest.value())),
                    Some((_, value)) if value == digest.value() => {}
                    Some((other, _)) => {
                        return broken(
                            "replicas-are-equal",
                            format!("{} on n{} and n{}", known.name, other + 1, node.id()),
                        );
                    }
                }
            }
        }
        Ok(())
    }
}

/// [4], and [14]: no topic here is elected uncleanly.
fn goes_on(before: &Replica, at: &Offsets, who: impl Fn() -> String) -> Check {
    match at.high_watermark < before.high_watermark || at.log_start < before.log_start {
        false => Ok(()),
        true => broken(
            "high-watermark-goes-on",
            format!("{}: {at:?} after {before:?}", who()),
        ),
    }
}

/// [10] and [11]: who begins to lead is named by committed metadata, alone in its epoch, and holds all that was exposed.
fn leads(
    known: &mut Known,
    node: &Node,
    broker: &Broker,
    id: TopicIdPartition,
    hosted: &Hosted,
) -> Check {
    let role = hosted.partition.role();
    let epoch = role.leader_epoch.0;
    let name = &hosted.partition.name;
    if let Some(other) = known.leaders.insert(epoch, node.index)
        && other != node.index
    {
        return broken(
            "one-leader-an-epoch",
            format!("{name}: n{} and n{} in epoch {epoch}", other + 1, node.id()),
        );
    }
    let image = broker.image();
    if let Some(said) = image.topics.partition(id.topic_id, id.partition)
        && (said.leader_epoch < epoch || said.leader_epoch == epoch && said.leader != node.id())
    {
        return broken(
            "leads-by-metadata",
            format!("{name}: n{} leads epoch {epoch}, {said:?}", node.id()),
        );
    }
    let end = hosted.partition.reader().log_end();
    let exposed = known.exposed_before(role.leader_epoch);
    if end.0 < exposed {
        return broken(
            "leader-is-complete",
            format!(
                "{name}: n{} leads epoch {epoch} and ends at {end}, {} was exposed",
                node.id(),
                exposed
            ),
        );
    }
    Ok(())
}

/// [1], [2] and [13]: what lies below a high watermark is the same everywhere and for good.
fn compare(
    known: &mut Known,
    places: &mut BTreeMap<u64, (TopicIdPartition, i64)>,
    id: TopicIdPartition,
    hosted: &Hosted,
    from: Offset,
    upto: Offset,
    who: &str,
) -> Check {
    let mut epoch = i32::MIN;
    walk(hosted, from, upto, |batch| {
        let header = batch.header();
        let (base, last) = (header.base_offset().0, header.last_offset().0);
        if batch.check_crc().is_err() || header.leader_epoch().0 < epoch {
            return broken("batches-are-valid", format!("{who}: the batch at {base}"));
        }
        epoch = header.leader_epoch().0;
        let mut digest = Digest::default();
        digest.bytes(batch.bytes());
        let found = Committed {
            last,
            epoch,
            digest: digest.value(),
        };
        match known.batches.get(&base) {
            Some(committed) if *committed == found => return Ok(()),
            Some(committed) => {
                return broken(
                    "committed-is-for-good",
                    format!("{who}: {found:?} at {base}, where {committed:?} was committed"),
                );
            }
            None => {}
        }
        let end = known
            .batches
            .last_key_value()
            .map(|(_, batch)| batch.last + 1);
        if end.is_some_and(|end| end != base) {
            return broken(
                "committed-is-for-good",
                format!("{who}: a batch at {base}, where {end:?} was the end"),
            );
        }
        known.batches.insert(base, found);
        note_values(known, places, id, batch)
    })
}

/// A workload's value: eight bytes. `None` for records of coordinators and for markers.
pub fn value_of(bytes: Option<&Bytes>) -> Option<u64> {
    Some(u64::from_be_bytes(bytes?.as_ref().try_into().ok()?))
}

fn note_values(
    known: &mut Known,
    places: &mut BTreeMap<u64, (TopicIdPartition, i64)>,
    id: TopicIdPartition,
    batch: &Batch,
) -> Check {
    if batch.header().is_control() || known.name.starts_with("__") {
        return Ok(());
    }
    for record in batch.records(Limits::default()) {
        let Ok(record) = record else {
            return broken(
                "batches-are-valid",
                format!("{}: a record can't be read", known.name),
            );
        };
        let Some(value) = value_of(record.value.as_ref()) else {
            continue;
        };
        known.values.insert(record.offset.0, value);
        if let Some(other) = places.insert(value, (id, record.offset.0)) {
            return broken(
                "no-duplicates",
                format!(
                    "{}: {value} at {} and at {}",
                    known.name, other.1, record.offset
                ),
            );
        }
    }
    Ok(())
}

/// [8] and [9]: a high watermark is exposed only where enough replicas are in sync, and those hold it. What a replica
/// lost with its power is not held against it.
fn held_by_in_sync(
    hosted: &Hosted,
    leader: &Node,
    nodes: &[Node],
    id: TopicIdPartition,
    high_watermark: Offset,
) -> Check {
    let name = &hosted.partition.name;
    let in_sync = |node: &&Node| {
        hosted
            .partition
            .is_in_sync(milena_base::BrokerId(node.id()))
    };
    let members: Vec<&Node> = nodes.iter().filter(in_sync).collect();
    if members.len() < MIN_IN_SYNC {
        return broken(
            "enough-in-sync",
            format!(
                "{name}: {high_watermark} was exposed by n{} with {} in sync",
                leader.id(),
                members.len()
            ),
        );
    }
    for member in members {
        let Some(replica) = member.live.as_ref().and_then(|live| live.broker.hosted(id)) else {
            continue;
        };
        let end = replica.partition.reader().log_end();
        if end < high_watermark && !member.unrecovered && !replica.partition.role().offline {
            return broken(
                "held-by-in-sync",
                format!(
                    "{name}: {high_watermark} was exposed by n{}, n{} ends at {end}",
                    leader.id(),
                    member.id()
                ),
            );
        }
    }
    Ok(())
}

/// `min.insync.replicas` of every topic.
pub const MIN_IN_SYNC: usize = 2;

const READ_BYTES: u32 = 1 << 20;

/// Every whole batch that begins at or after `from` and ends before `upto`, as stored.
fn walk(
    hosted: &Hosted,
    from: Offset,
    upto: Offset,
    mut body: impl FnMut(&Batch) -> Check,
) -> Check {
    let reader = hosted.partition.reader();
    let mut at = from;
    while at < upto {
        let unread = |why: String| {
            broken(
                "log-is-readable",
                format!("{}: {why}", hosted.partition.name),
            )
        };
        let slice = match reader.read(at, READ_BYTES, upto, true) {
            Ok(slice) => slice,
            Err(why) => return unread(format!("{why:?}")),
        };
        let Some(file) = slice.file else {
            return unread(format!("nothing at {at} below {upto}"));
        };
        let bytes = match file.read() {
            Ok(bytes) => bytes,
            Err(why) => return unread(why.to_string()),
        };
        let before = at;
        for batch in batches(Bytes::from(bytes)) {
            let batch = match batch {
                Ok(batch) => batch,
                Err(why) => return unread(format!("{why:?}")),
            };
            let (base, last) = (batch.header().base_offset(), batch.header().last_offset());
            if last >= upto {
                return Ok(());
            }
            at = last + 1;
            if base >= from {
                body(&batch)?;
            }
        }
        if at == before {
            return unread(format!("no batch at {at}"));
        }
    }
    Ok(())
}
