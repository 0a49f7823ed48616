//! The tables of `kafka-consumer-groups`, letter for letter.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use milena_client::consumer::Place;
use milena_protocol::Str;

use super::collect::{Group, Listed, Member};

/// What is said of one group: a notice (on stderr, or as an error on stdout), then a table.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Table {
    pub notice: Option<String>,
    pub is_error: bool,
    pub text: String,
}

/// `--list`: names alone, or with columns.
pub fn listing(groups: &[Listed], with_type: bool, with_state: bool) -> String {
    let mut text = String::new();
    if !with_type && !with_state {
        groups.iter().for_each(|group| {
            let _ = writeln!(text, "{}", group.id);
        });
        return text;
    }
    let width = groups
        .iter()
        .map(|group| group.id.len())
        .fold(15, usize::max)
        + 10;
    let mut row = |id: &str, group_type: &str, state: &str| {
        let _ = write!(text, "{id:<width$}");
        if with_type {
            let _ = write!(text, " {group_type:<20}");
        }
        if with_state {
            let _ = write!(text, " {state:<20}");
        }
        text.push('\n');
    };
    row("GROUP", "TYPE", "STATE");
    for group in groups {
        row(&group.id, &group.group_type, &group.state);
    }
    text
}

/// The notice of a group's state, and whether a table with `rows` rows is shown.
fn begin(group: &Group, rows: usize) -> (Table, bool) {
    let id = &group.id;
    let mut table = Table::default();
    match &group.state[..] {
        "Dead" => {
            table.notice = Some(format!("Consumer group '{id}' does not exist."));
            table.is_error = true;
        }
        "Empty" => table.notice = Some(format!("Consumer group '{id}' has no active members.")),
        "PreparingRebalance" | "CompletingRebalance" | "Assigning" | "Reconciling" => {
            table.notice = Some(format!("Warning: Consumer group '{id}' is rebalancing."));
        }
        _ => {}
    }
    let shown = !table.is_error && rows > 0;
    (table, shown)
}

/// A row of `--offsets`.
struct Row<'a> {
    place: Option<&'a Place>,
    consumer: &'a str,
    host: &'a str,
    client: &'a str,
}

/// Members with the most partitions first, then what is committed and nobody's.
fn rows(group: &Group) -> Vec<Row<'_>> {
    let mut members: Vec<&Member> = group
        .members
        .iter()
        .filter(|member| !member.assigned.is_empty())
        .collect();
    members.sort_by_key(|member| std::cmp::Reverse(member.assigned.len()));
    let mut rows = Vec::new();
    let mut taken = BTreeSet::new();
    for member in members {
        for place in &member.assigned {
            taken.insert(place);
            rows.push(Row {
                place: Some(place),
                consumer: &member.id,
                host: &member.host,
                client: &member.client_id,
            });
        }
    }
    let free = group
        .committed
        .keys()
        .filter(|place| !taken.contains(place));
    rows.extend(free.map(|place| Row {
        place: Some(place),
        consumer: "-",
        host: "-",
        client: "-",
    }));
    rows
}

fn offset_cells(group: &Group, row: &Row) -> [String; 10] {
    let committed = row.place.and_then(|place| group.committed.get(place));
    let current = committed.map(|(offset, _)| *offset);
    let epoch = committed
        .map(|(_, epoch)| *epoch)
        .filter(|epoch| *epoch >= 0);
    let end = row.place.and_then(|place| group.ends.get(place)).copied();
    let lag = current.zip(end).map(|(current, end)| end - current);
    let number = |value: Option<i64>| value.map_or("-".to_string(), |value| value.to_string());
    [
        group.id.clone(),
        row.place
            .map_or("-".to_string(), |place| place.0.to_string()),
        number(row.place.map(|place| place.1.into())),
        number(epoch.map(i64::from)),
        number(current),
        number(end),
        number(lag),
        row.consumer.to_string(),
        row.host.to_string(),
        row.client.to_string(),
    ]
}

/// `--describe --offsets`.
pub fn offsets(group: &Group, verbose: bool) -> Table {
    let rows = rows(group);
    let (mut table, shown) = begin(group, rows.len());
    if !shown {
        return table;
    }
    let widest = |of: &dyn Fn(&Row) -> usize| rows.iter().map(of).fold(15, usize::max);
    let group_width = group.id.len().max(15);
    let topic_width = widest(&|row| row.place.map_or(1, |place| place.0.len()));
    let consumer_width = widest(&|row| row.consumer.len());
    let host_width = widest(&|row| row.host.len());
    let text = &mut table.text;
    let mut line = |cells: [&str; 10]| {
        let [
            id,
            topic,
            partition,
            epoch,
            current,
            end,
            lag,
            consumer,
            host,
            client,
        ] = cells;
        let _ = write!(
            text,
            "\n{id:<group_width$} {topic:<topic_width$} {partition:<10} "
        );
        if verbose {
            let _ = write!(text, "{epoch:<15} ");
        }
        let _ = write!(text, "{current:<15} {end:<15} {lag:<15} ");
        let _ = write!(
            text,
            "{consumer:<consumer_width$} {host:<host_width$} {client}"
        );
    };
    line([
        "GROUP",
        "TOPIC",
        "PARTITION",
        "LEADER-EPOCH",
        "CURRENT-OFFSET",
        "LOG-END-OFFSET",
        "LAG",
        "CONSUMER-ID",
        "HOST",
        "CLIENT-ID",
    ]);
    for row in &rows {
        let cells = offset_cells(group, row);
        line(cells.each_ref().map(String::as_str));
    }
    table.text.push('\n');
    table
}

/// `topic:0,1,2;other:0`.
fn assignment(places: &BTreeSet<Place>) -> String {
    let mut topics: BTreeMap<&Str, Vec<String>> = BTreeMap::new();
    for (topic, partition) in places {
        topics.entry(topic).or_default().push(partition.to_string());
    }
    let topics = topics
        .iter()
        .map(|(topic, list)| format!("{topic}:{}", list.join(",")));
    match places.is_empty() {
        true => "-".to_string(),
        false => topics.collect::<Vec<_>>().join(";"),
    }
}

fn member_cells(group: &Group, member: &Member) -> [String; 10] {
    let epoch = member.epoch.map(|epoch| epoch.to_string());
    let target = member
        .epoch
        .and(group.epochs)
        .map(|(_, target)| target.to_string());
    let or_none = |text: Option<String>| text.unwrap_or_else(|| "-".to_string());
    [
        group.id.clone(),
        member.id.clone(),
        member.instance_id.clone().unwrap_or_default(),
        member.host.clone(),
        member.client_id.clone(),
        member.assigned.len().to_string(),
        or_none(epoch),
        assignment(&member.assigned),
        or_none(target),
        assignment(&member.target),
    ]
}

/// `--describe --members`; the head stands also over no members.
pub fn members(group: &Group, verbose: bool) -> Table {
    let (mut table, _) = begin(group, group.members.len());
    if table.is_error {
        return table;
    }
    let widest = |least: usize, of: &dyn Fn(&Member) -> usize| {
        group.members.iter().map(of).fold(least, usize::max)
    };
    let group_width = group
        .members
        .iter()
        .map(|_| group.id.len())
        .fold(15, usize::max);
    let id_width = widest(15, &|m| m.id.len());
    let instance_width = widest(17, &|m| m.instance_id.as_ref().map_or(0, String::len));
    let host_width = widest(15, &|m| m.host.len());
    let client_width = widest(15, &|m| m.client_id.len());
    let current_width = widest(20, &|m| assignment(&m.assigned).len());
    let target_width = widest(20, &|m| assignment(&m.target).len());
    let with_instances = group.members.iter().any(|m| m.instance_id.is_some());
    let text = &mut table.text;
    let mut line = |cells: [&str; 10]| {
        let [
            id,
            member,
            instance,
            host,
            client,
            count,
            epoch,
            current,
            target_epoch,
            target,
        ] = cells;
        let _ = write!(text, "{id:<group_width$} {member:<id_width$} ");
        if with_instances {
            let _ = write!(text, "{instance:<instance_width$} ");
        }
        let _ = write!(
            text,
            "{host:<host_width$} {client:<client_width$} {count:<15} "
        );
        if verbose {
            let _ = write!(text, "{epoch:<15} {current:<current_width$} ");
            let _ = write!(text, "{target_epoch:<15} {target:<target_width$}");
        }
        text.push('\n');
    };
    line([
        "GROUP",
        "CONSUMER-ID",
        "GROUP-INSTANCE-ID",
        "HOST",
        "CLIENT-ID",
        "#PARTITIONS",
        "CURRENT-EPOCH",
        "CURRENT-ASSIGNMENT",
        "TARGET-EPOCH",
        "TARGET-ASSIGNMENT",
    ]);
    for member in &group.members {
        let cells = member_cells(group, member);
        line(cells.each_ref().map(String::as_str));
    }
    table.text.insert(0, '\n');
    table
}

/// `--describe --state`.
pub fn state(group: &Group, verbose: bool) -> Table {
    let (mut table, shown) = begin(group, 1);
    if !shown {
        return table;
    }
    let (host, port, id) = &group.coordinator;
    let coordinator = format!("{host}:{port}  ({id})");
    let (group_width, coordinator_width) = (group.id.len().max(15), coordinator.len().max(25));
    let text = &mut table.text;
    let mut line = |cells: [&str; 7]| {
        let [id, coordinator, strategy, state, epoch, target, members] = cells;
        let _ = write!(
            text,
            "\n{id:<group_width$} {coordinator:<coordinator_width$} "
        );
        let _ = write!(text, "{strategy:<20} {state:<20} ");
        if verbose {
            let _ = write!(text, "{epoch:<15} {target:<25} ");
        }
        text.push_str(members);
    };
    line([
        "GROUP",
        "COORDINATOR (ID)",
        "ASSIGNMENT-STRATEGY",
        "STATE",
        "GROUP-EPOCH",
        "TARGET-ASSIGNMENT-EPOCH",
        "#MEMBERS",
    ]);
    let epoch = |epoch: Option<i32>| epoch.map_or("-".to_string(), |epoch| epoch.to_string());
    line([
        &group.id,
        &coordinator,
        if group.assignor.is_empty() {
            "-"
        } else {
            &group.assignor
        },
        &group.state,
        &epoch(group.epochs.map(|(epoch, _)| epoch)),
        &epoch(group.epochs.map(|(_, target)| target)),
        &group.members.len().to_string(),
    ]);
    table.text.push('\n');
    table
}
