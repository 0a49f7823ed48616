use milena_base::{ErrorCode, Offset, Timestamp};

use super::*;

const PARTITION: &str = "t-0";

fn batch(producer_epoch: i16, base_sequence: i32, base_offset: i64) -> ProducerBatch {
    ProducerBatch {
        producer_id: 7,
        producer_epoch,
        base_sequence,
        last_sequence: base_sequence,
        base_offset: Offset(base_offset),
        last_offset: Offset(base_offset),
        max_timestamp: Timestamp(1000),
        transactional: false,
        marker: None,
    }
}

fn transactional(base_sequence: i32, base_offset: i64) -> ProducerBatch {
    ProducerBatch {
        transactional: true,
        ..batch(0, base_sequence, base_offset)
    }
}

fn marker(producer_epoch: i16, base_offset: i64, abort: bool) -> ProducerBatch {
    ProducerBatch {
        transactional: true,
        marker: Some(EndMarker {
            abort,
            coordinator_epoch: 5,
            transaction_version: None,
        }),
        ..batch(producer_epoch, -1, base_offset)
    }
}

fn check(state: &ProducerState, batch: &ProducerBatch) -> Result<Verdict, ErrorCode> {
    state
        .check(batch, AppendOrigin::Client, &PARTITION)
        .map_err(|(code, _)| code)
}

#[test]
fn sequences_follow_each_other() {
    let mut state = ProducerState::default();
    assert_eq!(
        check(&state, &batch(0, 5, 0)),
        Ok(Verdict::Append),
        "unknown producer"
    );
    state.apply(&batch(0, 5, 0));
    assert_eq!(check(&state, &batch(0, 6, 1)), Ok(Verdict::Append));
    for wrong in [4, 7, 0] {
        let refused = Err(ErrorCode::OutOfOrderSequenceNumber);
        assert_eq!(check(&state, &batch(0, wrong, 1)), refused, "{wrong}");
    }
    let last = BatchMetadata {
        last_sequence: 5,
        last_offset: Offset(0),
        offset_delta: 0,
        timestamp: Timestamp(1000),
    };
    assert_eq!(check(&state, &batch(0, 5, 1)), Ok(Verdict::Duplicate(last)));
}

#[test]
fn a_sequence_wraps_to_zero() {
    let mut state = ProducerState::default();
    state.apply(&batch(0, i32::MAX, 0));
    assert_eq!(check(&state, &batch(0, 0, 1)), Ok(Verdict::Append));
}

#[test]
fn a_new_epoch_starts_at_zero_and_fences_the_old() {
    let mut state = ProducerState::default();
    state.apply(&batch(3, 0, 0));
    assert_eq!(check(&state, &batch(4, 0, 1)), Ok(Verdict::Append));
    let refused = Err(ErrorCode::OutOfOrderSequenceNumber);
    assert_eq!(check(&state, &batch(4, 1, 1)), refused);
    assert_eq!(
        check(&state, &batch(2, 1, 1)),
        Err(ErrorCode::InvalidProducerEpoch)
    );
}

#[test]
fn replicated_batches_are_taken_as_they_are() {
    let mut state = ProducerState::default();
    state.apply(&batch(3, 0, 0));
    let verdict = state.check(&batch(2, 9, 1), AppendOrigin::Replication, &PARTITION);
    assert_eq!(verdict, Ok(Verdict::Append));
}

#[test]
fn an_open_transaction_holds_the_stable_offset_until_its_marker_is_replicated() {
    let mut state = ProducerState::default();
    state.apply(&transactional(0, 10));
    assert_eq!(state.first_unstable_offset(), Some(Offset(10)));
    assert_eq!(
        check(&state, &batch(0, 1, 11)),
        Err(ErrorCode::InvalidTxnState)
    );
    let ended = state
        .apply(&marker(0, 12, true))
        .expect("the transaction was open");
    assert_eq!(
        (ended.first_offset, ended.last_offset),
        (Offset(10), Offset(12))
    );
    assert!(ended.aborted);
    assert_eq!(state.last_stable_offset(&ended), Offset(13));
    state.complete(&ended);
    assert_eq!(state.first_unstable_offset(), Some(Offset(10)));
    assert!(!state.forget_replicated(Offset(12)));
    assert!(state.forget_replicated(Offset(13)));
    assert_eq!(state.first_unstable_offset(), None);
    assert_eq!(state.apply(&marker(0, 14, true)), None, "nothing was open");
}

#[test]
fn markers_of_old_epochs_and_coordinators_are_refused() {
    let mut state = ProducerState::default();
    state.apply(&transactional(0, 10));
    state.apply(&marker(4, 11, false));
    let code = |batch: &ProducerBatch| {
        let verdict = state.check(batch, AppendOrigin::Coordinator, &PARTITION);
        verdict.map_err(|(code, _)| code)
    };
    assert_eq!(
        code(&marker(3, 12, false)),
        Err(ErrorCode::InvalidProducerEpoch)
    );
    let mut zombie = marker(4, 12, false);
    zombie.marker = zombie.marker.map(|marker| EndMarker {
        coordinator_epoch: 4,
        ..marker
    });
    assert_eq!(code(&zombie), Err(ErrorCode::TransactionCoordinatorFenced));
    let mut retry = marker(4, 12, false);
    retry.marker = retry.marker.map(|marker| EndMarker {
        transaction_version: Some(2),
        ..marker
    });
    assert_eq!(
        code(&retry),
        Ok(Verdict::Append),
        "a repeated marker changes nothing"
    );
}

#[test]
fn a_snapshot_gives_the_state_back_but_for_the_expired() {
    let mut state = ProducerState::default();
    state.apply(&transactional(0, 10));
    let mut other = batch(0, 0, 11);
    other.producer_id = 8;
    state.apply(&other);
    let bytes = format_snapshot(state.entries());
    let entries = parse_snapshot(&bytes).expect("own bytes");
    let loaded = ProducerState::from_snapshot(entries.clone(), Offset(12), Timestamp(1500), 1000);
    assert_eq!(loaded.entries().len(), 2);
    assert_eq!(loaded.first_unstable_offset(), Some(Offset(10)));
    let loaded = ProducerState::from_snapshot(entries, Offset(12), Timestamp(2000), 1000);
    let left: Vec<i64> = loaded.entries().map(|entry| entry.producer_id).collect();
    assert_eq!(left, [7], "an open transaction never expires");
}
