//! The runtime with a toy shard: a table of numbers.

mod toy;

use milena_base::{Epoch, ErrorCode, Instant, Now, Offset, Prng};
use milena_coordinator::{
    Effect, Event, KeyValue, LoadedRecord, LogEnd, Options, Payload, Runtime, Token, build_batch,
    read_batches,
};
use milena_records::{Codec, Compression, Limits};
use std::time::Duration;
use toy::{Answer, Ask, Toy};

const SHARD: i32 = 3;

struct Bench {
    runtime: Runtime<Toy>,
    tokens: u64,
    now_ms: u64,
}

impl Bench {
    fn new() -> Bench {
        let options = Options {
            commit_timeout: Duration::from_millis(5000),
            batch_bytes_max: 110,
        };
        Bench {
            runtime: Runtime::new(options, Prng::new(1), |_| Toy::default()),
            tokens: 0,
            now_ms: 0,
        }
    }

    /// Elected and loaded, with an empty log.
    fn active() -> Bench {
        let mut bench = Bench::new();
        bench.step(elected(1));
        bench.step(loaded(1, 0, 0));
        bench
    }

    fn step(&mut self, event: Event) -> Vec<Effect<Answer>> {
        let mut out = Vec::new();
        let now = Now::from_millis(self.now_ms, self.now_ms as i64);
        self.runtime.step(event, now, &mut out);
        out
    }

    fn ask(&mut self, ask: Ask) -> (Token, Vec<Effect<Answer>>) {
        self.tokens += 1;
        let token = Token(self.tokens);
        let mut out = Vec::new();
        let now = Now::from_millis(self.now_ms, self.now_ms as i64);
        self.runtime.request(SHARD, token, ask, now, &mut out);
        (token, out)
    }

    fn appended(&mut self, base: i64) -> Vec<Effect<Answer>> {
        self.step(Event::Appended {
            shard: SHARD,
            result: Ok(Offset(base)),
        })
    }

    fn committed(&mut self, offset: i64) -> Vec<Effect<Answer>> {
        self.step(Event::HighWatermark {
            shard: SHARD,
            offset: Offset(offset),
        })
    }
}

fn elected(epoch: i32) -> Event {
    Event::Elected {
        shard: SHARD,
        epoch: Epoch(epoch),
    }
}

fn loaded(epoch: i32, log_end: i64, high_watermark: i64) -> Event {
    let end = LogEnd {
        log_end: Offset(log_end),
        high_watermark: Offset(high_watermark),
    };
    Event::Loaded {
        shard: SHARD,
        epoch: Epoch(epoch),
        result: Ok(end),
    }
}

fn reply(token: Token, response: Answer) -> Effect<Answer> {
    Effect::Reply { token, response }
}

fn puts(epoch: i32, pairs: &[(&str, i64)]) -> Effect<Answer> {
    let records = pairs.iter().map(|(key, value)| toy::record(key, *value));
    Effect::Append {
        shard: SHARD,
        epoch: Epoch(epoch),
        records: records.collect(),
    }
}

fn at(offset: i64, key: &str, value: i64) -> LoadedRecord {
    LoadedRecord {
        offset: Offset(offset),
        producer_id: -1,
        payload: Payload::Data(toy::record(key, value)),
    }
}

#[test]
fn an_answer_waits_for_the_high_watermark_and_reads_see_what_is_below_it() {
    let mut bench = Bench::active();
    let (put, out) = bench.ask(Ask::Put("a", 1));
    assert_eq!(out, [puts(1, &[("a", 1)])]);
    assert_eq!(bench.appended(0), []);
    let (get, out) = bench.ask(Ask::Get("a"));
    assert_eq!(out, [reply(get, Answer::Value(None))]);
    // A write without records waits for those before it.
    let (newest, out) = bench.ask(Ask::Newest("a"));
    assert_eq!(out, []);
    assert_eq!(bench.committed(0), []);
    let out = bench.committed(1);
    assert_eq!(
        out,
        [
            reply(put, Answer::Done),
            reply(newest, Answer::Value(Some(1)))
        ]
    );
    let (get, out) = bench.ask(Ask::Get("a"));
    assert_eq!(out, [reply(get, Answer::Value(Some(1)))]);
}

#[test]
fn what_comes_during_an_append_waits_its_turn() {
    let mut bench = Bench::active();
    let (first, _) = bench.ask(Ask::Put("a", 1));
    let (second, out) = bench.ask(Ask::Add("a", 5));
    assert_eq!(out, []);
    let (get, out) = bench.ask(Ask::Get("a"));
    assert_eq!(out, []);
    // The second decides against what the first wrote.
    assert_eq!(bench.appended(0), [puts(1, &[("a", 6)])]);
    assert_eq!(bench.committed(1), [reply(first, Answer::Done)]);
    assert_eq!(bench.appended(1), [reply(get, Answer::Value(Some(1)))]);
    assert_eq!(bench.committed(2), [reply(second, Answer::Done)]);
}

#[test]
fn a_refused_append_changes_nothing() {
    let mut bench = Bench::active();
    let (put, _) = bench.ask(Ask::Put("a", 1));
    let (get, _) = bench.ask(Ask::Newest("a"));
    let result = Err(ErrorCode::NotLeaderOrFollower);
    let out = bench.step(Event::Appended {
        shard: SHARD,
        result,
    });
    let failed = Answer::Failed(ErrorCode::NotLeaderOrFollower);
    assert_eq!(out, [reply(put, failed), reply(get, Answer::Value(None))]);
    // A report that nobody waits for is passed over.
    assert_eq!(bench.appended(7), []);
    let (put, out) = bench.ask(Ask::Unwritable);
    assert_eq!(
        out,
        [reply(put, Answer::Failed(ErrorCode::UnknownServerError))]
    );
}

#[test]
fn records_that_need_not_stay_together_are_divided() {
    let mut bench = Bench::active();
    let pairs = [
        ("aaaaaaaaaaaaaaaaaaaa", 1),
        ("bbbbbbbbbbbbbbbbbbbb", 2),
        ("c", 3),
    ];
    let (together, out) = bench.ask(Ask::PutAll(pairs.to_vec(), false));
    assert_eq!(out, [puts(1, &pairs)]);
    bench.appended(0);
    assert_eq!(bench.committed(3), [reply(together, Answer::Done)]);
    let (apart, out) = bench.ask(Ask::PutAll(pairs.to_vec(), true));
    assert_eq!(out, [puts(1, &pairs[..1])]);
    assert_eq!(bench.appended(3), [puts(1, &pairs[1..])]);
    assert_eq!(bench.committed(4), []);
    assert_eq!(bench.appended(4), []);
    assert_eq!(bench.committed(6), [reply(apart, Answer::Done)]);
}

#[test]
fn afterwards_comes_before_the_next_question() {
    let mut bench = Bench::active();
    let (put, _) = bench.ask(Ask::PutThenAdd("a", 1));
    bench.appended(0);
    let (add, _) = bench.ask(Ask::Put("b", 1));
    bench.appended(1);
    let out = bench.committed(2);
    assert_eq!(
        out,
        [
            reply(put, Answer::Done),
            reply(add, Answer::Done),
            puts(1, &[("a", 2)])
        ]
    );
    assert_eq!(bench.appended(2), []);
    // It is told of failures too, and of those alone that it can do something about.
    bench.ask(Ask::PutThenAdd("a", 1));
    let result = Err(ErrorCode::KafkaStorageError);
    let out = bench.step(Event::Appended {
        shard: SHARD,
        result,
    });
    assert_eq!(out.len(), 1);
    assert_eq!(
        bench.runtime.peek(SHARD).unwrap().0.failures,
        [ErrorCode::KafkaStorageError]
    );
}

#[test]
fn time_runs_out_for_answers_and_timers_decide() {
    let mut bench = Bench::active();
    let (put, _) = bench.ask(Ask::Put("a", 1));
    bench.appended(0);
    let (_, out) = bench.ask(Ask::Alarm(7000));
    assert_eq!(out, []);
    assert_eq!(
        bench.runtime.next_deadline(),
        Some(Instant::from_millis(5000))
    );
    bench.now_ms = 4999;
    assert_eq!(bench.step(Event::Tick), []);
    bench.now_ms = 5000;
    let late = Answer::Failed(ErrorCode::RequestTimedOut);
    assert_eq!(bench.step(Event::Tick), [reply(put, late)]);
    assert_eq!(
        bench.runtime.next_deadline(),
        Some(Instant::from_millis(7000))
    );
    // A timer waits for the append that is under way.
    bench.now_ms = 7000;
    bench.ask(Ask::Put("b", 1));
    assert_eq!(bench.step(Event::Tick), []);
    assert_eq!(bench.appended(1), [puts(1, &[("alarm", 1)])]);
    assert_eq!(bench.appended(2), []);
    // The timed-out record is committed all the same.
    bench.committed(3);
    let (get, out) = bench.ask(Ask::Get("a"));
    assert_eq!(out, [reply(get, Answer::Value(Some(1)))]);
}

#[test]
fn all_are_answered_when_the_shard_goes() {
    let mut bench = Bench::active();
    let (parked, _) = bench.ask(Ask::Put("a", 1));
    bench.appended(0);
    let (kept, _) = bench.ask(Ask::Keep);
    let (appending, _) = bench.ask(Ask::Put("b", 1));
    let (queued, _) = bench.ask(Ask::Get("a"));
    // The news of an older epoch is no news.
    let out = bench.step(Event::Resigned {
        shard: SHARD,
        epoch: Some(Epoch(1)),
    });
    assert_eq!(out, []);
    let out = bench.step(Event::Resigned {
        shard: SHARD,
        epoch: Some(Epoch(2)),
    });
    let gone = || Answer::Failed(ErrorCode::NotCoordinator);
    assert_eq!(
        out,
        [
            reply(parked, gone()),
            reply(appending, gone()),
            reply(queued, gone()),
            reply(kept, gone())
        ]
    );
    assert_eq!(bench.appended(1), []);
    assert_eq!(bench.committed(2), []);
    let (late, out) = bench.ask(Ask::Get("a"));
    assert_eq!(out, [reply(late, gone())]);
    assert_eq!(bench.runtime.next_deadline(), None);
}

#[test]
fn a_shard_is_loaded_once_and_by_its_own_epoch() {
    let mut bench = Bench::new();
    let load = |epoch| Effect::Load {
        shard: SHARD,
        epoch: Epoch(epoch),
    };
    assert_eq!(bench.step(elected(4)), [load(4)]);
    assert_eq!(bench.step(elected(4)), []);
    let (early, out) = bench.ask(Ask::Get("a"));
    let loading = Answer::Failed(ErrorCode::CoordinatorLoadInProgress);
    assert_eq!(out, [reply(early, loading)]);
    // A newer election begins anew: what is read for the older one is not taken in.
    assert_eq!(bench.step(elected(5)), [load(5)]);
    let records = |epoch, records: Vec<LoadedRecord>| Event::Records {
        shard: SHARD,
        epoch: Epoch(epoch),
        records,
        high_watermark: Offset(2),
    };
    bench.step(records(4, vec![at(0, "stale", 1)]));
    bench.step(loaded(4, 1, 1));
    bench.step(records(5, vec![at(0, "a", 1), at(1, "b", 1)]));
    bench.step(records(5, vec![at(2, "a", 9), at(3, "c", 9)]));
    bench.step(loaded(5, 4, 2));
    for (key, value) in [("a", Some(1)), ("b", Some(1)), ("c", None), ("stale", None)] {
        let (get, out) = bench.ask(Ask::Get(key));
        assert_eq!(out, [reply(get, Answer::Value(value))], "{key}");
    }
    let (newest, out) = bench.ask(Ask::Newest("a"));
    assert_eq!(out, []);
    assert_eq!(bench.committed(4), [reply(newest, Answer::Value(Some(9)))]);
    // Leading on in a new epoch changes the epoch of appends alone.
    assert_eq!(bench.step(elected(6)), []);
    let (_, out) = bench.ask(Ask::Put("a", 1));
    assert_eq!(out, [puts(6, &[("a", 1)])]);
}

#[test]
fn what_cannot_be_loaded_is_not_served() {
    let mut bench = Bench::new();
    bench.step(elected(1));
    let broken = KeyValue {
        key: vec![0xff].into(),
        value: None,
    };
    let record = LoadedRecord {
        payload: Payload::Data(broken),
        ..at(0, "a", 1)
    };
    bench.step(Event::Records {
        shard: SHARD,
        epoch: Epoch(1),
        records: vec![record],
        high_watermark: Offset(1),
    });
    bench.step(loaded(1, 1, 1));
    let (get, out) = bench.ask(Ask::Get("a"));
    assert_eq!(out, [reply(get, Answer::Failed(ErrorCode::NotCoordinator))]);
    // The next election tries again.
    assert_eq!(bench.step(elected(2)).len(), 1);
    let result = Err("a disk error".to_string());
    bench.step(Event::Loaded {
        shard: SHARD,
        epoch: Epoch(2),
        result,
    });
    assert_eq!(
        bench.runtime.availability(SHARD),
        Err(ErrorCode::NotCoordinator)
    );
}

#[test]
fn batches_come_back_as_the_records_that_went_in() {
    let records = [
        toy::record("a", 1),
        KeyValue {
            key: "gone".into(),
            value: None,
        },
    ];
    for compression in [Compression::None, Compression::Lz4] {
        let batch = build_batch(&records, Codec::of(compression), milena_base::Timestamp(5));
        let bytes = batch.unwrap().to_bytes();
        let read = read_batches(bytes.clone(), Limits::default()).unwrap();
        let payloads: Vec<Payload> = read.iter().map(|record| record.payload.clone()).collect();
        assert_eq!(payloads, records.clone().map(Payload::Data));
        assert_eq!(read[1].offset, Offset(1));
        assert!(read.iter().all(|record| record.producer_id == -1));
        assert!(read_batches(bytes.slice(..70), Limits::default()).is_ok_and(|r| r.is_empty()));
        let mut torn = bytes.to_vec();
        torn[16] = 1;
        assert!(read_batches(torn.into(), Limits::default()).is_err());
    }
}
