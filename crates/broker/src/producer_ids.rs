//! Producer ids: blocks of them come from the controller, single ones go to idempotent producers.

use std::collections::VecDeque;
use std::sync::Arc;

use milena_base::ErrorCode;
use milena_protocol::{
    AllocateProducerIdsRequest, AllocateProducerIdsResponse, InitProducerIdResponse,
};

use crate::ask::Origin;
use crate::broker::Broker;
use crate::ctx::{Outbox, ReplyTo};
use crate::transactions::TxnEvent;

/// Producers that may wait for the next block.
const WAITING_MAX: usize = 10_000;

/// The block in use, and who waits for the next.
#[derive(Debug, Default)]
pub struct ProducerIds {
    next: i64,
    end: i64,
    asked: bool,
    waiting: VecDeque<ReplyTo>,
    /// The transaction coordinator waits for the next block.
    coordinator_waits: bool,
}

/// The ids that the transaction coordinator gives out.
pub(crate) struct CoordinatorIds(pub(crate) Arc<Broker>);

impl milena_txn::ProducerIds for CoordinatorIds {
    fn take(&self) -> Option<i64> {
        let mut ids = self.0.producer_ids.lock().expect("no panic while held");
        let id = ids.next;
        (id < ids.end).then(|| {
            ids.next += 1;
            id
        })
    }
}

/// Whether the transaction coordinator finds an id. Where it does not, [`TxnEvent::ProducerIds`] follows when there
/// are, or when there are to be none.
pub(crate) fn are_at_hand(broker: &Broker, out: &mut Outbox) -> bool {
    let mut ids = broker.producer_ids.lock().expect("no panic while held");
    if ids.next < ids.end {
        return true;
    }
    ids.coordinator_waits = true;
    if !std::mem::replace(&mut ids.asked, true) {
        ask(broker, out);
    }
    false
}

/// Answers with a fresh id, now or when the controller has granted a block.
pub(crate) fn answer_with_fresh(broker: &Broker, to: ReplyTo, out: &mut Outbox) {
    let mut ids = broker.producer_ids.lock().expect("no panic while held");
    if ids.next < ids.end {
        let id = ids.next;
        ids.next += 1;
        return out.reply(to, &granted(id));
    }
    if ids.waiting.len() >= WAITING_MAX {
        return out.reply(to, &refused(ErrorCode::CoordinatorLoadInProgress));
    }
    ids.waiting.push_back(to);
    if !std::mem::replace(&mut ids.asked, true) {
        ask(broker, out);
    }
}

fn ask(broker: &Broker, out: &mut Outbox) {
    let request = AllocateProducerIdsRequest {
        broker_id: broker.node().0,
        broker_epoch: broker.broker_epoch(),
    };
    broker.ask_controller(Origin::ProducerIds, request, out);
}

/// A block came, or was refused.
pub(crate) fn on_block(broker: &Broker, block: &AllocateProducerIdsResponse, out: &mut Outbox) {
    let mut ids = broker.producer_ids.lock().expect("no panic while held");
    ids.asked = false;
    if std::mem::take(&mut ids.coordinator_waits) {
        out.post(TxnEvent::ProducerIds);
    }
    if block.error_code != 0 {
        for to in std::mem::take(&mut ids.waiting) {
            // Retriable: the client comes back, by when the broker may be registered.
            out.reply(to, &refused(ErrorCode::CoordinatorLoadInProgress));
        }
        return;
    }
    ids.next = block.producer_id_start;
    ids.end = block.producer_id_start + i64::from(block.producer_id_len);
    while ids.next < ids.end {
        let Some(to) = ids.waiting.pop_front() else {
            return;
        };
        out.reply(to, &granted(ids.next));
        ids.next += 1;
    }
    if !ids.waiting.is_empty() {
        ids.asked = true;
        ask(broker, out);
    }
}

fn granted(producer_id: i64) -> InitProducerIdResponse {
    InitProducerIdResponse {
        producer_id,
        producer_epoch: 0,
        ..InitProducerIdResponse::default()
    }
}

pub(crate) fn refused(code: ErrorCode) -> InitProducerIdResponse {
    InitProducerIdResponse {
        error_code: code.code(),
        producer_id: -1,
        producer_epoch: -1,
        ..InitProducerIdResponse::default()
    }
}
