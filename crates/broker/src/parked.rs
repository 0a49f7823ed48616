//! Requests that wait, and how each is completed: a fetch for data, a produce for its replicas.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use milena_base::{Epoch, ErrorCode, Now, Offset, TopicIdPartition};
use milena_protocol::ProduceResponse;

use crate::api::fetch::ParkedFetch;
use crate::broker::Broker;
use crate::ctx::{Outbox, Reply, ReplyTo};
use crate::mailbox::Post;
use crate::markers::ParkedMarker;
use crate::waiters::WaiterId;

/// One parked request.
pub enum Waiter {
    Fetch(ParkedFetch),
    Produce(ParkedProduce),
    Marker(ParkedMarker),
}

/// A partition that a produce waits for.
#[derive(Clone, Copy, Debug)]
pub struct Pending {
    pub partition: TopicIdPartition,
    pub index: i32,
    /// The leader epoch of the append: under another one the offset means something else.
    pub epoch: Epoch,
    /// The high watermark that completes it.
    pub until: Offset,
}

/// A produce with acks=all.
pub struct ParkedProduce {
    to: ReplyTo,
    state: Mutex<(ProduceResponse, Vec<Pending>)>,
}

impl ParkedProduce {
    pub fn new(to: ReplyTo, response: ProduceResponse, pending: Vec<Pending>) -> ParkedProduce {
        ParkedProduce {
            to,
            state: Mutex::new((response, pending)),
        }
    }

    fn partitions(&self) -> Vec<TopicIdPartition> {
        let state = self.state.lock().expect("no panic while held");
        state.1.iter().map(|pending| pending.partition).collect()
    }

    /// Settles what can be settled; true when nothing is left to wait for.
    fn settle(&self, broker: &Broker, expired: bool) -> bool {
        let mut state = self.state.lock().expect("no panic while held");
        let (response, pending) = &mut *state;
        pending.retain(|waiting| {
            let settled = match broker.hosted(waiting.partition) {
                None => Some(ErrorCode::NotLeaderOrFollower),
                Some(hosted) => match hosted.partition.replicated(waiting.until, waiting.epoch) {
                    Some(Ok(())) => Some(ErrorCode::None),
                    Some(Err(code)) => Some(code),
                    None => expired.then_some(ErrorCode::RequestTimedOut),
                },
            };
            if let Some(code) = settled.filter(|code| !code.is_none()) {
                refuse(broker, response, waiting, code);
            }
            settled.is_none()
        });
        pending.is_empty()
    }

    fn answer(&self, out: &mut Outbox) {
        let state = self.state.lock().expect("no panic while held");
        out.reply(self.to, &state.0);
    }
}

fn refuse(broker: &Broker, response: &mut ProduceResponse, waiting: &Pending, code: ErrorCode) {
    let id = waiting.partition.topic_id;
    let name = broker.topic_name(id);
    for topic in &mut response.responses {
        let same = topic.topic_id == id || name.as_deref() == Some(topic.name.as_str());
        let partitions = topic.partition_responses.iter_mut();
        for partition in partitions.filter(|p| same && p.index == waiting.index) {
            partition.error_code = code.code();
            partition.base_offset = -1;
            partition.log_start_offset = -1;
        }
    }
}

impl Waiter {
    fn partitions(&self) -> Vec<TopicIdPartition> {
        match self {
            Waiter::Fetch(fetch) => fetch.partitions(),
            Waiter::Produce(produce) => produce.partitions(),
            Waiter::Marker(marker) => vec![marker.partition],
        }
    }
}

impl Broker {
    /// Parks a request, and looks once more: what it waits for may have come between the look and the parking.
    pub(crate) fn park(
        &self,
        waiter: Waiter,
        now: Now,
        timeout: Duration,
        out: &mut Outbox,
    ) -> Reply {
        let waiter = Arc::new(waiter);
        let partitions = waiter.partitions();
        let deadline = now.mono + timeout;
        let (id, too_late) = self.waiters.park(waiter.clone(), partitions, deadline);
        if too_late {
            out.post(Post::WaiterDeadline);
        }
        self.look_again(id, &waiter, false, out);
        Reply::Parked
    }

    /// Completes what an append, a new watermark or a new role of this partition completes.
    pub fn wake(&self, partition: TopicIdPartition, out: &mut Outbox) {
        for (id, waiter) in self.waiters.on_partition(partition) {
            self.look_again(id, &waiter, false, out);
        }
    }

    /// Answers everything whose time has come.
    pub fn expire_waiters(&self, now: Now, out: &mut Outbox) {
        for (id, waiter) in self.waiters.expired(now.mono) {
            self.look_again(id, &waiter, true, out);
        }
    }

    /// When to call [`Broker::expire_waiters`]; asked again after each call and each [`Post::WaiterDeadline`].
    pub fn waiter_deadline(&self) -> Option<milena_base::Instant> {
        self.waiters.watch()
    }

    fn look_again(&self, id: WaiterId, waiter: &Waiter, expired: bool, out: &mut Outbox) {
        match waiter {
            Waiter::Fetch(fetch) => {
                if let Some(attempt) = fetch.complete(self, expired, out)
                    && self.waiters.take(id)
                {
                    fetch.answer(attempt, out);
                }
            }
            Waiter::Marker(marker) => {
                if let Some(error) = marker.outcome(self, expired)
                    && self.waiters.take(id)
                {
                    marker.tell(error, out);
                }
            }
            Waiter::Produce(produce) => {
                if produce.settle(self, expired) && self.waiters.take(id) {
                    produce.answer(out);
                }
            }
        }
    }
}
