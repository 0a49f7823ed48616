//! WriteTxnMarkers: the end of transactions, from their coordinators. v2: the transaction's protocol (KIP-890).

use std::sync::Arc;

use milena_base::TopicPartition;
use milena_coordinator::{Marker, Producer};
use milena_protocol::write_txn_markers_request::WritableTxnMarker;
use milena_protocol::{WriteTxnMarkersRequest, WriteTxnMarkersResponse};

use crate::broker::Broker;
use crate::ctx::{Ctx, Outbox, Reply};
use crate::markers::{MarkerAsker, MarkersGather};

pub(super) fn handle(
    broker: &Broker,
    ctx: &Ctx,
    request: WriteTxnMarkersRequest,
    out: &mut Outbox,
) -> Reply {
    let ids = request.markers.iter().map(|m| m.producer_id).collect();
    let topics = request.markers.iter().flat_map(|marker| &marker.topics);
    let missing: usize = topics.map(|topic| topic.partition_indexes.len()).sum();
    if missing == 0 {
        return ctx.now_frame(&WriteTxnMarkersResponse::default());
    }
    let gather = Arc::new(MarkersGather::new(ctx.to, ids, missing));
    for (index, entry) in request.markers.iter().enumerate() {
        let marker = marker(entry);
        for topic in &entry.topics {
            for &partition in &topic.partition_indexes {
                let asker = MarkerAsker::Request {
                    gather: gather.clone(),
                    marker: index,
                    topic: topic.name.clone(),
                    partition,
                };
                let named = TopicPartition::new(topic.name.as_str(), partition);
                broker.write_marker(&named, &marker, asker, ctx.now, out);
            }
        }
    }
    Reply::Parked
}

fn marker(entry: &WritableTxnMarker) -> Marker {
    Marker {
        producer: Producer {
            id: entry.producer_id,
            epoch: entry.producer_epoch,
        },
        coordinator_epoch: entry.coordinator_epoch,
        committed: entry.transaction_result,
        transaction_version: i16::from(entry.transaction_version),
    }
}
