//! Where a group is to go on: the strategies of `--reset-offsets`, and what a plan looks like.

pub mod csv;
pub mod times;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use milena_base::ErrorCode;
use milena_client::consumer::Place;
use milena_client::{Client, Error};
use milena_protocol::Str;

use crate::offsets::{self, EARLIEST, LATEST};
use crate::options::Options;
use crate::say::{self, out};

/// New offsets by partition.
pub type Plan = BTreeMap<Place, i64>;

/// The flags that say where to, in the order of Kafka's help. One of them is given.
pub const STRATEGIES: [&str; 8] = [
    "to-offset",
    "shift-by",
    "to-datetime",
    "by-duration",
    "to-earliest",
    "to-latest",
    "to-current",
    "from-file",
];

/// Where to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Strategy {
    Offset(i64),
    Shift(i64),
    /// The first record of at least this time, in milliseconds since 1970; otherwise the end.
    Time(i64),
    Earliest,
    Latest,
    /// Where the group is, or the end.
    Current,
    /// The offsets of a file: of each group.
    File(BTreeMap<String, Plan>),
}

/// Why there is no plan.
#[derive(Clone, Debug)]
pub enum Failure {
    /// The command line is wrong: said with the flags.
    Usage(String),
    /// Said as it is; beside it what Kafka's tool throws.
    Said { message: String, thrown: String },
}

impl From<Error> for Failure {
    fn from(error: Error) -> Failure {
        Failure::Said {
            message: format!("{error}{}", say::because(&error)),
            thrown: say::with_exception(&error),
        }
    }
}

fn thrown(class: &str, message: String) -> Failure {
    let thrown = format!("{class}: {message}");
    Failure::Said { message, thrown }
}

impl Strategy {
    /// From the flags; `None` where none of them is given. `single` is the one group that is asked for.
    pub fn of(options: &Options, single: Option<&str>) -> Result<Option<Strategy>, Failure> {
        let given = STRATEGIES.iter().find(|flag| options.has(flag));
        let Some(flag) = given else { return Ok(None) };
        let wrong = |text| thrown("joptsimple.OptionArgumentConversionException", text);
        let number = || Ok::<_, Failure>(options.number(flag).map_err(wrong)?.unwrap_or_default());
        let text = || Ok::<_, Failure>(options.value(flag).map_err(wrong)?.unwrap_or_default());
        Ok(Some(match *flag {
            "to-offset" => Strategy::Offset(number()?),
            "shift-by" => Strategy::Shift(number()?),
            "to-datetime" => {
                let time = times::datetime(text()?).map_err(|why| {
                    let message = format!("java.text.ParseException: {why}");
                    thrown("java.lang.RuntimeException", message)
                });
                Strategy::Time(time?)
            }
            "by-duration" => {
                let class = "java.time.format.DateTimeParseException";
                let ago = times::duration(text()?).map_err(|why| thrown(class, why))?;
                Strategy::Time(say::now_millis().saturating_sub(ago))
            }
            "to-earliest" => Strategy::Earliest,
            "to-latest" => Strategy::Latest,
            "to-current" => Strategy::Current,
            _ => {
                let path = text()?;
                let text = std::fs::read_to_string(path).map_err(|error| {
                    thrown("java.lang.RuntimeException", format!("{path}: {error}"))
                });
                let plans = csv::parse(&text?, single);
                Strategy::File(plans.map_err(|why| thrown("java.lang.RuntimeException", why))?)
            }
        }))
    }

    /// The new offsets of these partitions. `committed` is where the group is.
    pub async fn plan(
        &self,
        client: &mut Client,
        group: &str,
        places: &BTreeSet<Place>,
        committed: &Plan,
    ) -> Result<Plan, Failure> {
        exist(client, places).await?;
        let all = |offset: i64| places.iter().map(|place| (place.clone(), offset)).collect();
        match self {
            Strategy::Offset(offset) => within(client, all(*offset)).await,
            Strategy::Earliest => look_up(client, places, EARLIEST).await,
            Strategy::Latest => look_up(client, places, LATEST).await,
            Strategy::Shift(by) => within(client, shifted(places, committed, *by)?).await,
            Strategy::Time(time) => at(client, places, *time).await,
            Strategy::Current => {
                let here = |place: &&Place| committed.contains_key(*place);
                let (here, new): (Vec<_>, Vec<_>) = places.iter().partition(here);
                let mut plan = look_up(client, &new.into_iter().cloned().collect(), LATEST).await?;
                plan.extend(
                    here.into_iter()
                        .map(|place| (place.clone(), committed[place])),
                );
                Ok(plan)
            }
            Strategy::File(plans) => match plans.get(group) {
                Some(plan) => within(client, plan.clone()).await,
                None => {
                    out(format_args!(
                        "\nError: No reset plan for group {group} found\n"
                    ));
                    Ok(Plan::new())
                }
            },
        }
    }
}

fn shifted(places: &BTreeSet<Place>, committed: &Plan, by: i64) -> Result<Plan, Failure> {
    let shift = |place: &Place| match committed.get(place) {
        Some(offset) => Ok((place.clone(), offset.saturating_add(by))),
        None => Err(Failure::Usage(format!(
            "Cannot shift offset for partition {}-{} since there is no current committed offset",
            place.0, place.1
        ))),
    };
    places.iter().map(shift).collect()
}

/// Offsets at a time; a partition without one, or whose answer is an error, fails all.
async fn look_up(
    client: &mut Client,
    places: &BTreeSet<Place>,
    time: i64,
) -> Result<Plan, Failure> {
    let asked = places.iter().map(|place| (place.clone(), time)).collect();
    let found = offsets::look_up(client, &asked).await?;
    let found: Result<Plan, Error> = found
        .into_iter()
        .map(|(place, offset)| Ok((place, offset?)))
        .collect();
    Ok(found?)
}

/// Offsets of the first records of at least a time; the end where there is none.
async fn at(client: &mut Client, places: &BTreeSet<Place>, time: i64) -> Result<Plan, Failure> {
    let mut plan = look_up(client, places, time).await?;
    let none: BTreeSet<Place> = plan
        .iter()
        .filter(|(_, offset)| **offset < 0)
        .map(|(place, _)| place.clone())
        .collect();
    for (topic, partition) in &none {
        out(format_args!(
            "\nWarn: Partition {partition} from topic {topic} is empty. Falling back to latest known offset.\n"
        ));
    }
    plan.extend(look_up(client, &none, LATEST).await?);
    Ok(plan)
}

/// Offsets moved into what the logs hold.
async fn within(client: &mut Client, plan: Plan) -> Result<Plan, Failure> {
    let places: BTreeSet<Place> = plan.keys().cloned().collect();
    let starts = look_up(client, &places, EARLIEST).await?;
    let ends = look_up(client, &places, LATEST).await?;
    let moved = plan.into_iter().map(|(place, offset)| {
        let (start, end) = (starts[&place], ends[&place]);
        let (bound, how) = match offset {
            _ if offset > end => (end, "higher than latest"),
            _ if offset < start => (start, "lower than earliest"),
            _ => return (place, offset),
        };
        let text = format!(
            "New offset ({offset}) is {how} offset for topic partition {}-{}. Value will be set to {bound}",
            place.0, place.1
        );
        say::log("WARN", text, "org.apache.kafka.tools.OffsetsUtils");
        (place, bound)
    });
    Ok(moved.collect())
}

/// The partitions of these topics that the cluster has; an error of a topic fails all.
pub async fn of_topics(client: &mut Client, topics: &[Str]) -> Result<BTreeSet<Place>, Error> {
    let mut places = BTreeSet::new();
    if topics.is_empty() {
        return Ok(places);
    }
    client.metadata("describeTopics", Some(topics)).await?;
    for name in topics {
        let topic = client.topic(name).cloned().unwrap_or_default();
        Error::check(topic.error, None)?;
        places.extend(topic.partitions.keys().map(|index| (name.clone(), *index)));
    }
    Ok(places)
}

/// Fails where a partition is not there, or has no leader.
async fn exist(client: &mut Client, places: &BTreeSet<Place>) -> Result<(), Error> {
    let mut topics: Vec<Str> = places.iter().map(|place| place.0.clone()).collect();
    topics.dedup();
    if topics.is_empty() {
        return Ok(());
    }
    client.metadata("describeTopics", Some(&topics)).await?;
    let leader = |place: &&Place| {
        let topic = client.topic(&place.0);
        topic
            .and_then(|topic| topic.partitions.get(&place.1))
            .map(|leader| leader.node)
    };
    let named = |places: Vec<&Place>| {
        let names = places
            .iter()
            .map(|place| format!("{}-{}", place.0, place.1));
        names.collect::<Vec<_>>().join(",")
    };
    let missing: Vec<&Place> = places
        .iter()
        .filter(|place| leader(place).is_none())
        .collect();
    if !missing.is_empty() {
        let message = format!("The partitions \"{}\" do not exist", named(missing));
        return Err(Error::refused(
            ErrorCode::UnknownTopicOrPartition,
            Some(&message),
        ));
    }
    let idle: Vec<&Place> = places
        .iter()
        .filter(|place| leader(place) < Some(0))
        .collect();
    if !idle.is_empty() {
        let message = format!("The partitions \"{}\" have no leader", named(idle));
        return Err(Error::refused(
            ErrorCode::LeaderNotAvailable,
            Some(&message),
        ));
    }
    Ok(())
}

/// `topic:0,1,2` as partitions; the error is what Kafka's tool says.
pub fn partitions(argument: &str) -> Result<Vec<Place>, String> {
    let wrong = || format!("Invalid topic arg '{argument}', expected topic name and partitions");
    let (topic, list) = argument.split_once(':').ok_or_else(wrong)?;
    if list.is_empty() || list.contains(':') {
        return Err(wrong());
    }
    let partition = |text: &str| match text.parse() {
        Ok(partition) => Ok((Str::copy(topic), partition)),
        Err(_) => Err(format!(
            "Invalid partition '{text}' specified in topic arg '{argument}''"
        )),
    };
    list.split(',').map(partition).collect()
}

/// The table of plans by group.
pub fn table(plans: &BTreeMap<String, Plan>) -> String {
    if plans.is_empty() {
        return "\n".into();
    }
    let groups = plans.keys().map(String::len).fold(15, usize::max);
    let places = plans.values().flat_map(BTreeMap::keys);
    let topics = places.map(|place| place.0.len()).fold(15, usize::max);
    let mut text = String::new();
    let mut row = |cells: [&str; 4]| {
        let [group, topic, partition, offset] = cells;
        let _ = write!(
            text,
            "\n{group:<groups$} {topic:<topics$} {partition:<10} {offset}"
        );
    };
    row(["GROUP", "TOPIC", "PARTITION", "NEW-OFFSET"]);
    for (group, plan) in plans {
        for ((topic, partition), offset) in plan {
            row([group, topic, &partition.to_string(), &offset.to_string()]);
        }
    }
    text.push('\n');
    text
}
