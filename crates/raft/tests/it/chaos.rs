//! Seeded trouble: links cut and healed, nodes killed, power cut, fsyncs held back, snapshots taken and logs trimmed. The
//! world checks at every step that an epoch has one leader, that high watermarks never go back and that committed batches
//! never change; in a dynamic quorum voters come and go meanwhile; in the end everything is healed, and one leader has to make everybody agree.

use milena_base::Prng;

use crate::world::World;

const STEPS: usize = 60;

struct Chaos {
    world: World,
    prng: Prng,
    ids: Vec<i32>,
    dynamic: bool,
    said: Vec<String>,
}

impl Chaos {
    fn say(&mut self, line: String) {
        self.world.command(&line);
        self.said.push(line);
    }

    fn pick(&mut self) -> i32 {
        self.ids[self.prng.below(self.ids.len() as u64) as usize]
    }

    fn step(&mut self) {
        let (a, b) = (self.pick(), self.pick());
        match self.prng.below(16) {
            0 | 1 if a != b => self.say(format!("cut {a} {b}")),
            2 | 3 if a != b => self.say(format!("heal {a} {b}")),
            4 if self.world.is_up(a) => self.say(format!("power-cut {a}")),
            5 if self.world.is_up(a) => self.say(format!("kill {a}")),
            4..=6 if !self.world.is_up(a) => self.say(format!("start {a}")),
            7 => self.say(format!("hold-flush {a}")),
            8 => self.say(format!("flush {a}")),
            9 if self.world.is_up(a) => {
                self.say(format!("snapshot {a}"));
                self.say(format!("clean {a}"));
            }
            10 if self.dynamic => {
                for (leader, _) in self.world.active() {
                    self.say(format!("add-voter {leader} {a}"));
                }
            }
            11 if self.dynamic => {
                for (leader, _) in self.world.active() {
                    self.say(format!("remove-voter {leader} {a}"));
                }
            }
            _ => {
                for (leader, _) in self.world.active() {
                    let count = 1 + self.prng.below(3);
                    self.say(format!("append {leader} {count}"));
                }
            }
        }
        let millis = match self.prng.below(4) {
            0 => self.prng.below(5000),
            _ => self.prng.below(300),
        };
        self.say(format!("run {millis}ms"));
    }

    fn heal(&mut self) {
        for a in self.ids.clone() {
            if !self.world.is_up(a) {
                self.say(format!("start {a}"));
            }
            self.say(format!("flush {a}"));
            for b in self.ids.clone() {
                if a < b {
                    self.say(format!("heal {a} {b}"));
                }
            }
        }
        self.say("run 30s".to_owned());
        for (leader, _) in self.world.active() {
            self.say(format!("append {leader} 1"));
        }
        self.say("run 3s".to_owned());
    }
}

fn play(seed: u64) {
    let mut prng = Prng::new(seed);
    let count = [1, 2, 3, 3, 5][prng.below(5) as usize];
    let dynamic = seed.is_multiple_of(2);
    // In a dynamic quorum two more wait to be voters.
    let voters: Vec<String> = (1..=count).map(|id| id.to_string()).collect();
    let count = if dynamic { count + 2 } else { count };
    let ids: Vec<i32> = (1..=count).collect();
    let mut chaos = Chaos {
        world: World::new(),
        prng,
        ids: ids.clone(),
        dynamic,
        said: Vec::new(),
    };
    let servers: Vec<String> = ids.iter().map(i32::to_string).collect();
    chaos.say(format!(
        "voters ids={} servers={} dynamic={dynamic}",
        voters.join(","),
        servers.join(",")
    ));
    for id in &ids {
        chaos.say(format!("start {id}"));
    }
    for _ in 0..STEPS {
        chaos.step();
    }
    chaos.heal();
    let ends = chaos.world.ends();
    let agree = ends.windows(2).all(|pair| {
        let (short, long) = if pair[0].1.len() < pair[1].1.len() {
            (&pair[0], &pair[1])
        } else {
            (&pair[1], &pair[0])
        };
        short.0 == long.0 && long.1.ends_with(&short.1)
    });
    let active = chaos.world.active();
    assert!(
        active.len() == 1 && agree,
        "seed {seed}: active {active:?}, ends {ends:?}\n{}",
        chaos.said.join("\n")
    );
}

#[test]
fn the_quorum_survives() {
    let asked = std::env::var("MILENA_SEEDS").ok();
    let seeds = asked.and_then(|asked| asked.parse().ok()).unwrap_or(60);
    for seed in 0..seeds {
        play(seed);
    }
}
