//! What the leader of a group decides, as text; and what a producer sends to a broker that answers by a script.

mod producing;

use std::collections::{BTreeMap, BTreeSet};

use milena_client::consumer::{Assignor, Member, Place};
use milena_protocol::Str;
use milena_testkit::{Command, check};

fn name(text: &str) -> Str {
    text.to_string().into()
}

fn place(text: &str) -> Place {
    let (topic, partition) = text.split_once(':').unwrap();
    (name(topic), partition.parse().unwrap())
}

#[derive(Default)]
struct World {
    topics: BTreeMap<Str, i32>,
    members: BTreeMap<Str, Member>,
}

impl World {
    fn say(&mut self, line: &str) -> String {
        let command = Command::parse(line);
        match command.name() {
            "topic" => {
                let topic = name(&command.word::<String>(0));
                self.topics.insert(topic, command.get("partitions"));
                String::new()
            }
            "member" => {
                let topics: Vec<String> = command.list("topics");
                let owned: Vec<String> = command.list("owned");
                let member = Member {
                    instance_id: command.find::<String>("instance").map(Str::from),
                    topics: topics.iter().map(|topic| name(topic)).collect(),
                    owned: owned.iter().map(|text| place(text)).collect(),
                    generation: command.find("generation").unwrap_or(-1),
                };
                self.members
                    .insert(name(&command.word::<String>(0)), member);
                String::new()
            }
            "gone" => {
                self.members.remove(&*command.word::<String>(0));
                String::new()
            }
            assignor => self.assign(Assignor::from_name(assignor).unwrap()),
        }
    }

    /// Assigns, and lets every member own what it got.
    fn assign(&mut self, assignor: Assignor) -> String {
        let assignment = assignor.assign(&self.members, &self.topics);
        let mut seen: BTreeSet<&Place> = BTreeSet::new();
        for (id, places) in &assignment {
            let member = &self.members[id];
            assert!(places.iter().all(|place| seen.insert(place)), "given twice");
            assert!(places.iter().all(|place| member.topics.contains(&place.0)));
        }
        let line = |(id, places): (&Str, &BTreeSet<Place>)| {
            let places: Vec<String> = places.iter().map(|(t, p)| format!("{t}:{p}")).collect();
            format!("{id}: {}\n", places.join(" "))
        };
        let text = assignment.iter().map(line).collect();
        for (id, places) in assignment {
            let member = self.members.get_mut(&id).unwrap();
            member.owned = places;
            member.generation += 1;
        }
        text
    }
}

#[test]
fn assignors_share_partitions_out() {
    for file in ["range.txt", "cooperative_sticky.txt"] {
        let mut world = World::default();
        check(file, |line| world.say(line));
    }
}
