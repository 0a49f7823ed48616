//! The five actions.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use milena_client::{Client, Error};
use milena_image::ConfigResource;
use tokio::time::{Instant, sleep};

use super::Failure;
use super::moves::{self, AllOngoing, Move};
use super::placement::{self, Candidate, Start};
use super::plan::{self, Assignment, Place, Plan, Replica, joined, named, named_replica, plural};
use super::{cluster, states};
use crate::configs::resources;
use crate::say::out;

const LEADER_RATE: &str = "leader.replication.throttled.rate";
const FOLLOWER_RATE: &str = "follower.replication.throttled.rate";
const DIR_RATE: &str = "replica.alter.log.dirs.io.max.bytes.per.second";
const LEADER_REPLICAS: &str = "leader.replication.throttled.replicas";
const FOLLOWER_REPLICAS: &str = "follower.replication.throttled.replicas";

const BUSY: &str = "Cannot execute because there is an existing partition assignment.  Use --additional to override this and create a new partition assignment in addition to the existing one. The --additional flag can also be used to change the throttle by resubmitting the current reassignment.";
const VERIFY_LATER: &str = "Warning: You must run --verify periodically, until the reassignment completes, to ensure the throttle is removed.";

/// Pause before a move between directories is tried again.
const PAUSE: Duration = Duration::from_millis(100);

/// What `--execute` is told beside the plan; throttles in bytes a second, below 0 for none.
pub struct Execution {
    pub additional: bool,
    pub throttle: i64,
    pub dir_throttle: i64,
    pub timeout_ms: i64,
    pub allow_factor_change: bool,
}

/// At work in a cluster.
pub struct At {
    pub client: Client,
}

type Done = Result<(), Failure>;

impl At {
    pub async fn list(&mut self) -> Done {
        let all = cluster::ongoing(&mut self.client, None).await?;
        out(states::ongoing(&all) + "\n");
        Ok(())
    }

    pub async fn generate(&mut self, topics: &str, brokers: &str, racks: bool) -> Done {
        let allowed: BTreeSet<i32> = plan::brokers(brokers)?.into_iter().collect();
        let topics = plan::topics(topics)?;
        let names = topics.iter().map(String::as_str).collect();
        let current = cluster::replicas(&mut self.client, &names, false).await?;
        let live = cluster::brokers(&mut self.client).await?;
        let candidates = candidates(&live, &allowed, racks)?;
        let count = candidates.len().max(1) as u64;
        let random = self.client.random();
        let proposed = placement::propose(&current, &candidates, || Start {
            first: random.below(count) as usize,
            shift: random.below(count) as usize,
        })?;
        let dirs = self.dirs_of(&current, &live).await?;
        out(format_args!(
            "Current partition replica assignment\n{}\n\nProposed partition reassignment configuration\n{}\n",
            plan::json(&current, &dirs),
            plan::json(&proposed, &BTreeMap::new())
        ));
        Ok(())
    }

    /// Where the replicas lie on brokers that are alive.
    async fn dirs_of(
        &mut self,
        of: &Assignment,
        live: &[Candidate],
    ) -> Result<BTreeMap<Replica, String>, Error> {
        let named: BTreeSet<i32> = of.values().flatten().copied().collect();
        let live = live.iter().map(|(id, _)| *id);
        let asked = live.filter(|id| named.contains(id)).collect();
        let found = cluster::dirs(&mut self.client, &asked).await?;
        let current = found
            .into_iter()
            .filter_map(|(replica, (dir, _))| Some((replica, dir?)));
        Ok(current.collect())
    }

    pub async fn execute(&mut self, plan: &Plan, execution: &Execution) -> Done {
        let ongoing = cluster::ongoing(&mut self.client, None).await?;
        if !execution.additional && !ongoing.is_empty() {
            return Err(Failure::Terse(BUSY.into()));
        }
        let proposed = plan.assignment();
        let live = cluster::brokers(&mut self.client).await?;
        let known = |id: &i32| live.iter().any(|(live, _)| live == id);
        if let Some(id) = proposed.values().flatten().find(|id| !known(id)) {
            return Err(Failure::Command(format!("Unknown broker id {id}")));
        }
        let current = self.current(&proposed).await?;
        let dirs = self.dirs_of(&current, &live).await?;
        out(format_args!(
            "Current partition replica assignment\n\n{}\n\nSave this to use as the --reassignment-json-file option during rollback\n",
            plan::json(&current, &dirs)
        ));
        self.throttle(plan, execution, &ongoing, &proposed, &current)
            .await?;
        let targets = proposed.into_iter().map(|(place, to)| (place, Some(to)));
        let targets: BTreeMap<Place, Option<Vec<i32>>> = targets.collect();
        let allow = execution.allow_factor_change;
        let refused = cluster::reassign(&mut self.client, &targets, allow).await?;
        if !refused.is_empty() {
            let text = format!("Error reassigning partition(s):\n{}", lines(&refused));
            return Err(Failure::Terse(text));
        }
        out(format_args!(
            "Successfully started partition reassignment{} for {}\n",
            plural(targets.len()),
            joined(targets.keys().map(named))
        ));
        self.move_dirs(plan.dirs.clone(), execution.timeout_ms)
            .await
    }

    /// The replicas of these partitions, all of which have to exist.
    async fn current(&mut self, of: &Assignment) -> Result<Assignment, Error> {
        let topics = of.keys().map(|(topic, _)| topic.as_str()).collect();
        let mut found = cluster::replicas(&mut self.client, &topics, false).await?;
        found.retain(|place, _| of.contains_key(place));
        let mut missing = of.keys().filter(|p| !found.contains_key(*p)).peekable();
        match missing.peek().is_some() {
            true => Err(cluster::unknown(missing)),
            false => Ok(found),
        }
    }

    async fn throttle(
        &mut self,
        plan: &Plan,
        execution: &Execution,
        ongoing: &AllOngoing,
        proposed: &Assignment,
        current: &Assignment,
    ) -> Done {
        let (between, within) = (execution.throttle, execution.dir_throttle);
        if between < 0 && within < 0 {
            return Ok(());
        }
        out(format_args!("{VERIFY_LATER}\n"));
        if between >= 0 {
            let moves = moves::moves(ongoing, proposed, current);
            let gives: fn(&Move) -> &BTreeSet<i32> = |m| &m.sources;
            let leaders = moves::throttled(&moves, gives);
            let followers = moves::throttled(&moves, |m| &m.destinations);
            for (topic, leaders) in &leaders {
                let followers = followers.get(topic).map_or("", String::as_str);
                let set = [
                    (LEADER_REPLICAS, leaders.as_str()),
                    (FOLLOWER_REPLICAS, followers),
                ];
                self.set(ConfigResource::TOPIC, topic, &set).await?;
            }
            let rate = between.to_string();
            let set = [(LEADER_RATE, rate.as_str()), (FOLLOWER_RATE, rate.as_str())];
            for broker in moves::brokers(&moves) {
                let broker = broker.to_string();
                self.set(ConfigResource::BROKER, &broker, &set).await?;
            }
            out(format_args!(
                "The inter-broker throttle limit was set to {between} B/s\n"
            ));
        }
        if within >= 0 {
            let brokers: BTreeSet<i32> = plan.dirs.keys().map(|(broker, ..)| *broker).collect();
            let rate = within.to_string();
            for broker in brokers {
                let (broker, set) = (broker.to_string(), [(DIR_RATE, rate.as_str())]);
                self.set(ConfigResource::BROKER, &broker, &set).await?;
            }
            out(format_args!(
                "The replica-alter-dir throttle limit was set to {within} B/s\n"
            ));
        }
        Ok(())
    }

    async fn set(&mut self, kind: i8, name: &str, set: &[(&str, &str)]) -> Result<(), Error> {
        let set = set.iter().copied();
        resources::alter(&mut self.client, kind, name, set, []).await
    }

    async fn clear(&mut self, kind: i8, name: &str, keys: &[&str]) -> Result<(), Error> {
        let keys = keys.iter().copied();
        resources::alter(&mut self.client, kind, name, [], keys).await
    }

    /// Tries until every replica is on its way, or the time is over.
    async fn move_dirs(&mut self, mut pending: BTreeMap<Replica, String>, timeout_ms: i64) -> Done {
        let timeout = Duration::from_millis(timeout_ms.max(0) as u64);
        let until = Instant::now() + timeout;
        while !pending.is_empty() {
            for replica in cluster::move_dirs(&mut self.client, &pending).await? {
                let Some(dir) = pending.remove(&replica) else {
                    continue;
                };
                let (broker, topic, partition) = replica;
                out(format_args!(
                    "Successfully started moving log directory to {dir} for replica {topic}-{partition} with broker {broker} \n"
                ));
            }
            if pending.is_empty() {
                break;
            }
            if Instant::now() >= until {
                return Err(Failure::Terse(format!(
                    "Timed out before log directory move{} could be started for: {}",
                    plural(pending.len()),
                    joined(pending.keys().map(named_replica))
                )));
            }
            sleep(PAUSE).await;
        }
        Ok(())
    }

    async fn dirs_of_plan(&mut self, plan: &Plan) -> Result<states::Dirs, Error> {
        let brokers = plan.dirs.keys().map(|(broker, ..)| *broker).collect();
        cluster::dirs(&mut self.client, &brokers).await
    }

    pub async fn verify(&mut self, plan: &Plan, preserve: bool) -> Done {
        let ongoing = cluster::ongoing(&mut self.client, None).await?;
        let settled = plan.targets.iter().map(|(place, _)| place);
        let settled = settled.filter(|place| !ongoing.contains_key(*place));
        let topics = settled.map(|(topic, _)| topic.as_str()).collect();
        let current = cluster::replicas(&mut self.client, &topics, true).await?;
        out(states::partitions(&plan.targets, &ongoing, &current) + "\n");
        let found = self.dirs_of_plan(plan).await?;
        out(states::dirs(&plan.dirs, &found) + "\n");
        let moving = states::any_moving(&plan.dirs, &found);
        if ongoing.is_empty() && !moving && !preserve {
            self.clear_throttles(plan).await?;
        }
        Ok(())
    }

    pub async fn cancel(&mut self, plan: &Plan, preserve: bool, timeout_ms: i64) -> Done {
        let places: Vec<Place> = plan
            .targets
            .iter()
            .map(|(place, _)| place.clone())
            .collect();
        let ongoing = cluster::ongoing(&mut self.client, Some(&places)).await?;
        let targets: BTreeMap<Place, Option<Vec<i32>>> =
            ongoing.into_keys().map(|place| (place, None)).collect();
        if targets.is_empty() {
            out("None of the specified partition reassignments are active.\n");
        } else {
            let refused = cluster::reassign(&mut self.client, &targets, true).await?;
            if !refused.is_empty() {
                return Err(Failure::Terse(format!(
                    "Error cancelling partition reassignment{} for:\n{}",
                    plural(refused.len()),
                    lines(&refused)
                )));
            }
            out(format_args!(
                "Successfully cancelled partition reassignment{} for: {}\n",
                plural(targets.len()),
                joined(targets.keys().map(named))
            ));
        }
        let found = self.dirs_of_plan(plan).await?;
        let back: BTreeMap<Replica, String> = found
            .into_iter()
            .filter(|(replica, (_, future))| plan.dirs.contains_key(replica) && future.is_some())
            .filter_map(|(replica, (current, _))| Some((replica, current?)))
            .collect();
        match back.is_empty() {
            // Kafka's tool ends no line here.
            true => out("None of the specified partition moves are active."),
            false => self.move_dirs(back, timeout_ms).await?,
        }
        if !preserve {
            self.clear_throttles(plan).await?;
        }
        Ok(())
    }

    /// All of them: which brokers gave replicas is not known any more.
    async fn clear_throttles(&mut self, plan: &Plan) -> Result<(), Error> {
        let live = cluster::brokers(&mut self.client).await?;
        let mut brokers: BTreeSet<i32> = live.into_iter().map(|(id, _)| id).collect();
        brokers.extend(plan.targets.iter().flat_map(|(_, replicas)| replicas));
        out(format_args!(
            "Clearing broker-level throttles on broker{} {}\n",
            plural(brokers.len()),
            joined(&brokers)
        ));
        let keys = [LEADER_RATE, FOLLOWER_RATE, DIR_RATE];
        for broker in brokers {
            let broker = broker.to_string();
            self.clear(ConfigResource::BROKER, &broker, &keys).await?;
        }
        let topics: BTreeSet<&str> = plan.targets.iter().map(|((t, _), _)| t.as_str()).collect();
        out(format_args!(
            "Clearing topic-level throttles on topic{} {}\n",
            plural(topics.len()),
            joined(&topics)
        ));
        let keys = [LEADER_REPLICAS, FOLLOWER_REPLICAS];
        for topic in topics {
            self.clear(ConfigResource::TOPIC, topic, &keys).await?;
        }
        Ok(())
    }
}

fn lines(refused: &BTreeMap<Place, String>) -> String {
    let line = |(place, why): (&Place, &String)| format!("{}: {why}", named(place));
    refused.iter().map(line).collect::<Vec<_>>().join("\n")
}

/// Brokers that may be used; racks count only where all have one.
fn candidates(
    live: &[Candidate],
    allowed: &BTreeSet<i32>,
    racks: bool,
) -> Result<Vec<Candidate>, Failure> {
    let usable = live.iter().filter(|(id, _)| allowed.contains(id));
    let usable: Vec<Candidate> = usable
        .map(|(id, rack)| (*id, rack.clone().filter(|_| racks)))
        .collect();
    let with_rack = usable.iter().filter(|(_, rack)| rack.is_some()).count();
    match with_rack == 0 || with_rack == usable.len() {
        true => Ok(usable),
        false => Err(Failure::Operation(
            "Not all brokers have rack information. Add --disable-rack-aware in command line to make replica assignment without rack information."
                .into(),
        )),
    }
}
