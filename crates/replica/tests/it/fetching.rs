//! The fetcher's planning in conversation (`tests/transcripts/fetcher`).

use std::collections::BTreeMap;
use std::time::Duration;

use milena_base::{Epoch, ErrorCode, Instant, Offset, TopicIdPartition, Uuid};
use milena_replica::Divergence;
use milena_replica::fetcher::{
    Fetched, Fetcher, Found, Order, Settled, Standing, Told, Verdict, Which,
};
use milena_testkit::Command;

/// Partitions are numbers of one topic.
pub struct Machine {
    fetcher: Fetcher,
    logs: BTreeMap<i32, Standing>,
    asked: Vec<(TopicIdPartition, Epoch, Which)>,
    mono: u64,
}

fn id(partition: i32) -> TopicIdPartition {
    TopicIdPartition::new(Uuid([7; 16]), partition)
}

impl Machine {
    pub fn new() -> Machine {
        Machine {
            fetcher: Fetcher::new(Duration::from_millis(1000)),
            logs: BTreeMap::new(),
            asked: Vec::new(),
            mono: 0,
        }
    }

    pub fn answer(&mut self, line: &str) -> String {
        let command = Command::parse(line);
        let now = Instant::from_millis(self.mono);
        match command.name() {
            "log" => self.log(&command),
            "follow" => {
                let epoch = Epoch(command.get("epoch"));
                self.fetcher.follow(id(command.word(0)), epoch);
            }
            "unfollow" => self.fetcher.unfollow(id(command.word(0))),
            "tick" => self.mono += command.millis(&command.word::<String>(0)),
            "next" => return self.next(now),
            "deadline" => {
                let at = self.fetcher.deadline();
                return match at {
                    Instant::NEVER => "never".into(),
                    at => format!("{}ms", at.as_millis()),
                };
            }
            "answered" => {
                let session_id = command.get("session");
                self.fetcher.fetched(Fetched::Answered { session_id }, now);
            }
            "refused" => {
                let code = ErrorCode::from_code(command.word(0)).unwrap();
                self.fetcher.fetched(Fetched::Refused(code), now);
            }
            "lost" => self.fetcher.fetched(Fetched::Lost, now),
            "told" => return self.told(&command, now),
            "done" => self.settled(
                &command,
                Settled::Done {
                    lag: command.get("lag"),
                },
                now,
            ),
            "again" => self.settled(&command, Settled::Again, now),
            "failed" => self.settled(&command, Settled::Failed, now),
            "offset" => return self.offset(&command, now),
            "offsets_lost" => self.fetcher.offsets_answered(false, now),
            other => panic!("no command {other:?}"),
        }
        String::new()
    }

    fn log(&mut self, command: &Command) {
        let standing = Standing {
            log_end: Offset(command.get("end")),
            log_start: Offset(command.find("start").unwrap_or(0)),
            last_epoch: command.find("epoch").map(Epoch),
            throttled: command.find("throttled").unwrap_or(false),
        };
        self.logs.insert(command.word(0), standing);
    }

    fn next(&mut self, now: Instant) -> String {
        let logs = &self.logs;
        match self
            .fetcher
            .next(now, |id| logs.get(&id.partition).copied())
        {
            None => "nothing".into(),
            Some(Order::Fetch(order)) => {
                let wanted = order.wanted.iter().map(|(id, ask)| {
                    let epoch = ask.last_epoch.map_or(-1, |epoch| epoch.0);
                    let (at, start) = (ask.offset, ask.log_start);
                    format!(
                        " {}@{at}(start={start} epoch={} last={epoch})",
                        id.partition, ask.leader_epoch
                    )
                });
                let forgotten = order.forgotten.iter();
                let forgotten = forgotten.map(|id| format!(" forget {}", id.partition));
                let rest: String = wanted.chain(forgotten).collect();
                format!(
                    "fetch session={}/{}{rest}",
                    order.session_id, order.session_epoch
                )
            }
            Some(Order::Offsets(asked)) => {
                let text = asked
                    .iter()
                    .map(|(id, _, which)| format!(" {}:{which:?}", id.partition));
                let text = format!("offsets{}", text.collect::<String>());
                self.asked = asked;
                text
            }
        }
    }

    fn told(&mut self, command: &Command, now: Instant) -> String {
        let diverges: Option<i32> = command.find("diverges");
        let told = Told {
            error: ErrorCode::from_code(command.find("error").unwrap_or(0)).unwrap(),
            divergence: diverges.map(|epoch| Divergence {
                epoch: Epoch(epoch),
                end_offset: Offset(command.get("end")),
            }),
        };
        match self.fetcher.judge(id(command.word(0)), told, now) {
            Verdict::Nothing => String::new(),
            Verdict::Append {
                leader_epoch,
                fetched_from,
            } => format!("append at {fetched_from} epoch={leader_epoch}"),
            Verdict::Truncate { leader_epoch, told } => format!(
                "truncate by {}:{} epoch={leader_epoch}",
                told.epoch, told.end_offset
            ),
        }
    }

    fn settled(&mut self, command: &Command, settled: Settled, now: Instant) {
        let epoch = Epoch(command.get("epoch"));
        self.fetcher
            .settled(id(command.word(0)), epoch, settled, now);
    }

    fn offset(&mut self, command: &Command, now: Instant) -> String {
        self.fetcher.offsets_answered(true, now);
        let partition: i32 = command.word(0);
        let (id, epoch, which) = *self
            .asked
            .iter()
            .find(|(id, ..)| id.partition == partition)
            .expect("it was asked for");
        let answer = match command.find::<i16>("error") {
            Some(code) => Err(ErrorCode::from_code(code).unwrap()),
            None => Ok(Offset(command.get("is"))),
        };
        let log_end = self.logs[&partition].log_end;
        match self
            .fetcher
            .judge_offset(id, (epoch, which), answer, log_end, now)
        {
            Found::Nothing => String::new(),
            Found::TruncateTo { offset, .. } => format!("truncate to {offset}"),
            Found::RestartAt { offset, .. } => format!("restart at {offset}"),
        }
    }
}
