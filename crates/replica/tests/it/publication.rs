//! The order of publication: readers without a lock never see offsets out of order, nor more than was written, while
//! a writer appends, ends transactions and deletes records.

use std::sync::atomic::{AtomicBool, Ordering};

use milena_base::{BrokerId, Epoch, Now, Offset};
use milena_log::{AppendOrigin, LogOptions};
use milena_replica::{
    Assignment, Isolation, Offsets, Partition, ReadAnswer, ReadFrom, ReadRefused, Wanted,
};

use crate::machine::{partition, records};

const APPENDS: i64 = 3000;

#[test]
fn readers_see_offsets_in_order_while_a_writer_works() {
    let options = LogOptions {
        segment_bytes: 4096,
        ..Default::default()
    };
    let partition = partition(options);
    let alone = Assignment {
        leader: BrokerId(1),
        leader_epoch: Epoch(0),
        partition_epoch: 0,
        replicas: vec![BrokerId(1)],
        isr: vec![BrokerId(1)],
        recovering: false,
    };
    partition.lead(&alone, Now::from_millis(0, 0));
    let finished = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let readers: Vec<_> = (0..2)
            .map(|_| scope.spawn(|| observe(&partition, &finished)))
            .collect();
        write(&partition);
        finished.store(true, Ordering::Release);
        let seen: u64 = readers
            .into_iter()
            .map(|reader| reader.join().unwrap())
            .sum();
        assert!(seen > 0);
    });
}

/// Every fifth record a transaction begins that the second next one ends; now and then the start moves on.
fn write(partition: &Partition) {
    for step in 0..APPENDS {
        let now = Now::from_millis(step as u64, step);
        let (batch, origin) = match step % 5 {
            0 => (transactional(step).build(), AppendOrigin::Client),
            2 => (marker(step - 2), AppendOrigin::Coordinator),
            _ => (records(1, step).build(), AppendOrigin::Client),
        };
        let done = partition
            .append_as_leader(batch, true, origin, now)
            .unwrap();
        assert!(done.high_watermark_moved);
        if step % 97 == 0 {
            partition.delete_records(Offset(step / 2)).unwrap();
        }
    }
}

fn transactional(producer: i64) -> milena_records::BatchBuilder {
    records(1, producer)
        .producer(producer, 0, 0)
        .transactional(true)
}

fn marker(producer: i64) -> milena_records::ValidBatch {
    use milena_records::{BatchBuilder, Codec, ControlType, NewRecord, control_record_key};
    let mut builder = BatchBuilder::new(Codec::NONE)
        .producer(producer, 0, -1)
        .transactional(true)
        .control(true);
    let record = NewRecord {
        key: Some(&control_record_key(ControlType::Commit)),
        value: Some(&[0; 6]),
        ..Default::default()
    };
    builder.append(record).unwrap();
    builder.build()
}

/// Reads until the writer has finished; how many reads there were.
fn observe(partition: &Partition, finished: &AtomicBool) -> u64 {
    let mut before = partition.offsets();
    let mut seen = 0;
    loop {
        let last = finished.load(Ordering::Acquire);
        let offsets = partition.offsets();
        check(offsets);
        assert!(before.log_start <= offsets.log_start);
        assert!(before.last_stable <= offsets.last_stable);
        assert!(before.high_watermark <= offsets.high_watermark);
        before = offsets;
        read(partition, offsets);
        seen += 1;
        if last {
            assert_eq!(offsets.high_watermark, offsets.log_end);
            return seen;
        }
    }
}

fn check(offsets: Offsets) {
    assert!(offsets.log_start <= offsets.last_stable, "{offsets:?}");
    assert!(offsets.last_stable <= offsets.high_watermark, "{offsets:?}");
    assert!(offsets.high_watermark <= offsets.log_end, "{offsets:?}");
}

/// What lies below a watermark that was seen can be read, unless the start has passed it meanwhile.
fn read(partition: &Partition, offsets: Offsets) {
    let offset = Offset(offsets.last_stable.0.max(offsets.log_start.0 + 1) - 1);
    if offset >= offsets.last_stable {
        return;
    }
    let wanted = Wanted {
        offset,
        bytes_max: 1000,
        at_least_one: true,
        current_leader_epoch: 0,
        last_fetched_epoch: -1,
        from: ReadFrom::Consumer(Isolation::ReadCommitted),
    };
    match partition.read(wanted) {
        Ok(ReadAnswer { slice, .. }) => assert!(slice.is_some(), "{offset} of {offsets:?}"),
        Err(ReadRefused::Code(_)) => assert!(partition.reader().log_start() > offset),
        Err(ReadRefused::Fault(fault)) => panic!("{fault:?}"),
    }
}
