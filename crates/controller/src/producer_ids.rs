//! AllocateProducerIds: blocks of ids, each handed out once.

use milena_base::ErrorCode;
use milena_protocol::{AllocateProducerIdsRequest, AllocateProducerIdsResponse, ProducerIdsRecord};

use crate::decision::{Decision, Records};
use crate::{Controller, Refusal};

const BLOCK_SIZE: i32 = 1000;

impl Controller {
    pub(crate) fn allocate_producer_ids(
        &self,
        request: &AllocateProducerIdsRequest,
    ) -> Result<Decision, Refusal> {
        self.check_broker_epoch(request.broker_id, request.broker_epoch)?;
        let first = self.state.image.next_producer_id.unwrap_or(0);
        let next_producer_id = first
            .checked_add(i64::from(BLOCK_SIZE))
            .ok_or_else(|| Refusal::bare(ErrorCode::UnknownServerError))?;
        let record = ProducerIdsRecord {
            broker_id: request.broker_id,
            broker_epoch: request.broker_epoch,
            next_producer_id,
        };
        let mut records = Records::default();
        records.push(record, 0);
        let answer = AllocateProducerIdsResponse {
            producer_id_start: first,
            producer_id_len: BLOCK_SIZE,
            ..AllocateProducerIdsResponse::default()
        };
        Ok(Decision::records(records).with_answer(answer))
    }
}
