//! How far moves are, in Kafka's words.

use std::collections::BTreeMap;

use super::moves::AllOngoing;
use super::plan::{Assignment, Place, Replica, joined, named, named_replica};

/// Of replicas and their directories: where each lies, and where it is being moved to.
pub type Dirs = BTreeMap<Replica, (Option<String>, Option<String>)>;

/// One line for each partition of a plan; `current` holds those that are not being reassigned.
pub fn partitions(
    targets: &[(Place, Vec<i32>)],
    ongoing: &AllOngoing,
    current: &Assignment,
) -> String {
    let mut lines = vec!["Status of partition reassignment:".to_owned()];
    let sorted: BTreeMap<_, _> = targets.iter().map(|(place, to)| (place, to)).collect();
    for (place, target) in sorted {
        let name = named(place);
        let nothing = Vec::new();
        let replicas = current.get(place).unwrap_or(&nothing);
        lines.push(if ongoing.contains_key(place) {
            format!("Reassignment of partition {name} is still in progress.")
        } else if replicas == target {
            format!("Reassignment of partition {name} is completed.")
        } else {
            format!(
                "There is no active reassignment of partition {name}, but replica set is {} rather than {}.",
                joined(replicas),
                joined(target)
            )
        });
    }
    lines.join("\n")
}

/// One line for each replica that a plan gives a directory.
pub fn dirs(targets: &BTreeMap<Replica, String>, found: &Dirs) -> String {
    let line = |(replica, target): (&Replica, &String)| {
        let (broker, topic, partition) = replica;
        let name = named_replica(replica);
        match found.get(replica) {
            None => format!(
                "Partition {topic}-{partition} cannot be found in any live log directory on broker {broker}."
            ),
            Some((None, _)) => format!(
                "Partition {topic}-{partition} is not found in any live log dir on broker {broker}. There is likely an offline log directory on the broker."
            ),
            Some((_, Some(future))) if future == target => {
                format!("Reassignment of replica {name} is still in progress.")
            }
            Some((_, Some(future))) => format!(
                "Partition {topic}-{partition} on broker {broker} is being moved to log dir {future} instead of {target}."
            ),
            Some((Some(dir), None)) if dir == target => {
                format!("Reassignment of replica {name} completed successfully.")
            }
            Some((Some(dir), None)) => format!(
                "Partition {topic}-{partition} on broker {broker} is not being moved from log dir {dir} to {target}."
            ),
        }
    };
    targets.iter().map(line).collect::<Vec<_>>().join("\n")
}

/// Whether any replica's move to a directory goes on.
pub fn any_moving(targets: &BTreeMap<Replica, String>, found: &Dirs) -> bool {
    let moving = |replica| {
        found
            .get(replica)
            .is_some_and(|(_, future)| future.is_some())
    };
    targets.keys().any(moving)
}

/// What is under way in the cluster.
pub fn ongoing(all: &AllOngoing) -> String {
    if all.is_empty() {
        return "No partition reassignments found.".to_owned();
    }
    let mut text = "Current partition reassignments:".to_owned();
    for (place, one) in all {
        text += &format!("\n{}: replicas: {}.", named(place), joined(&one.replicas));
        for (what, ids) in [("adding", &one.adding), ("removing", &one.removing)] {
            if !ids.is_empty() {
                text += &format!(" {what}: {}.", joined(ids));
            }
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::super::moves::Ongoing;
    use super::*;

    #[test]
    fn states_have_kafkas_words() {
        let place = |p| ("t".to_owned(), p);
        let one = Ongoing {
            replicas: vec![1, 2, 3],
            adding: vec![3],
            removing: vec![1],
        };
        let all = AllOngoing::from([(place(0), one)]);
        let text =
            "Current partition reassignments:\nt-0: replicas: 1,2,3. adding: 3. removing: 1.";
        assert_eq!(ongoing(&all), text);
        let targets = [
            (place(0), vec![2, 3]),
            (place(1), vec![1]),
            (place(2), vec![1]),
        ];
        let current = Assignment::from([(place(1), vec![1]), (place(2), vec![2, 1])]);
        let lines = partitions(&targets, &all, &current);
        let lines: Vec<&str> = lines.lines().skip(1).collect();
        assert_eq!(
            lines[0],
            "Reassignment of partition t-0 is still in progress."
        );
        assert_eq!(lines[1], "Reassignment of partition t-1 is completed.");
        let third = "There is no active reassignment of partition t-2, but replica set is 2,1 rather than 1.";
        assert_eq!(lines[2], third);
        let replica = (1, "t".to_owned(), 0);
        let targets = BTreeMap::from([(replica.clone(), "/b".to_owned())]);
        let found = |dir: &str, future: Option<&str>| {
            let at = (Some(dir.to_owned()), future.map(str::to_owned));
            Dirs::from([(replica.clone(), at)])
        };
        let done = "Reassignment of replica t-0-1 completed successfully.";
        assert_eq!(dirs(&targets, &found("/b", None)), done);
        let moving = found("/a", Some("/b"));
        assert!(any_moving(&targets, &moving));
        let text = "Reassignment of replica t-0-1 is still in progress.";
        assert_eq!(dirs(&targets, &moving), text);
        let lost = "Partition t-0 cannot be found in any live log directory on broker 1.";
        assert_eq!(dirs(&targets, &Dirs::new()), lost);
    }
}
