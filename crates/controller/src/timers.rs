//! What an active controller does by itself, each at its own interval (Kafka's periodic tasks).

use std::time::Duration;

use milena_base::{Instant, Now};
use milena_protocol::NoOpRecord;

use crate::Controller;
use crate::decision::{Decision, Records};

/// A task that has more to do comes again after this time.
const AGAIN: Duration = Duration::from_millis(10);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Task {
    /// Keeps the log moving, so that lag can be told from silence.
    WriteNoOp,
    FenceStaleBroker,
    ElectPreferred,
    ElectUnclean,
}

/// When each task is due. Empty while the controller is not active.
#[derive(Clone, Debug, Default)]
pub(crate) struct Timers(Vec<(Task, Duration, Instant)>);

impl Timers {
    pub fn start(controller: &Controller, now: Instant) -> Timers {
        let config = controller.layers.fixed();
        let millis = |key| Duration::from_millis(config.long(key).max(0) as u64);
        let idle = Duration::from_millis(config.int("metadata.max.idle.interval.ms").max(0) as u64);
        let fence = (controller.session_timeout() / 8).max(Duration::from_millis(1));
        let balance = config
            .long("leader.imbalance.check.interval.seconds")
            .max(0) as u64;
        let balance = Duration::from_secs(balance);
        let intervals = [
            (Task::WriteNoOp, (idle > Duration::ZERO).then_some(idle)),
            (Task::FenceStaleBroker, Some(fence)),
            (
                Task::ElectPreferred,
                config
                    .boolean("auto.leader.rebalance.enable")
                    .then_some(balance),
            ),
            (
                Task::ElectUnclean,
                Some(millis("unclean.leader.election.interval.ms")),
            ),
        ];
        let task = |(task, interval): (Task, Option<Duration>)| {
            interval.map(|interval| (task, interval, now + interval))
        };
        Timers(intervals.into_iter().filter_map(task).collect())
    }

    /// Stale brokers are looked for at once.
    pub fn hasten_fencing(&mut self, now: Instant) {
        for (task, _, due) in &mut self.0 {
            if *task == Task::FenceStaleBroker {
                *due = now;
            }
        }
    }

    pub fn next_deadline(&self) -> Instant {
        let due = self.0.iter().map(|(_, _, due)| *due);
        due.min().unwrap_or(Instant::NEVER)
    }
}

impl Controller {
    /// Brokers that were not heard of for a third of their session. Whoever knows that the process of one is gone says
    /// so ([`Controller::presume_gone`]).
    pub fn silent_brokers(&self, now: Now) -> Vec<i32> {
        self.heartbeats.silent(now.mono).collect()
    }

    /// Nobody listens where this broker did: its session ends now, if it is silent still. It is fenced as it would be when
    /// the session's time is up; a broker that lives on registers anew. Whether there was a session to end.
    pub fn presume_gone(&mut self, broker: i32, now: Now) -> bool {
        let ended = self.heartbeats.presume_gone(broker, now.mono);
        if ended {
            self.timers.hasten_fencing(now.mono);
        }
        ended
    }

    /// Runs the tasks that are due until one of them decides something. To be called again until it says `None`.
    pub fn tick(&mut self, now: Now) -> Option<Decision> {
        let now = now.mono;
        loop {
            let due = self.timers.0.iter().position(|(_, _, due)| *due <= now)?;
            let (task, interval, _) = self.timers.0[due];
            let (records, more) = self.run(task, now);
            let wait = if more { AGAIN } else { interval };
            self.timers.0[due].2 = now + wait;
            if records.len() > 0 {
                return Some(Decision::records(records));
            }
        }
    }

    fn run(&mut self, task: Task, now: Instant) -> (Records, bool) {
        match task {
            Task::WriteNoOp => {
                let mut records = Records::default();
                records.push(NoOpRecord::default(), 0);
                (records, false)
            }
            Task::FenceStaleBroker => match self.fence_one_stale_broker(now) {
                Some(records) => (records, true),
                None => (Records::default(), false),
            },
            Task::ElectPreferred => self.balance_leaders(),
            Task::ElectUnclean => self.elect_unclean_leaders(),
        }
    }
}
