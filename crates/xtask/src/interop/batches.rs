//! Record batches beside Kafka's: `interop/java/RecordBatches.java` appends what is made here to a real log and
//! compares verdict and stored bytes with those of `milena_records::check`; then it makes batches with every codec,
//! which are read here.

use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use bytes::{Buf, Bytes};
use milena_base::{Epoch, Offset, Prng, Timestamp};
use milena_records::{
    Batch, BatchBuilder, BatchHeader, CheckOptions, Codec, Compression, HEADER_BYTES, Limits,
    NewRecord, Record, TimestampType, check, compress, decompress,
};

use super::java;

/// Sets of options, and cases for each; `MILENA_INTEROP_INSTANCES` multiplies the cases.
const OPTIONS: u64 = 60;
const CASES: u64 = 100;
const NOW: Timestamp = Timestamp(1_700_000_000_000);
/// The leader epoch that the Java side appends with.
const LEADER_EPOCH: Epoch = Epoch(7);
const RECORD_BYTES_MAX: u32 = 5000;

pub fn run() -> Result<(), String> {
    checked()?;
    made()
}

// ---- what we check, checked by Kafka

fn checked() -> Result<(), String> {
    let mut child = java::start("RecordBatches", java::KAFKA, &["check"])?;
    let pipe = child.stdin.take().ok_or("no pipe to java")?;
    let sent = send(BufWriter::new(pipe)).map_err(|e| format!("to java: {e}"));
    let status = child.wait().map_err(|e| e.to_string())?;
    match status.success() {
        true => sent,
        false => Err("Kafka's log disagrees: see above".into()),
    }
}

fn send(mut out: impl Write) -> std::io::Result<()> {
    let factor = std::env::var("MILENA_INTEROP_INSTANCES")
        .ok()
        .and_then(|n| n.parse().ok())
        .unwrap_or(1);
    for set in 0..OPTIONS {
        let mut prng = Prng::new(set);
        let mut options = options(&mut prng);
        send_options(&mut out, &options)?;
        for case in 0..CASES * factor {
            let seed = set << 32 | case;
            let mut prng = Prng::new(seed);
            options.produce_version = 3 + prng.below(11) as i16;
            send_case(&mut out, seed, &options, case_bytes(&mut prng))?;
        }
    }
    out.write_all(&[0])?;
    out.flush()
}

fn options(prng: &mut Prng) -> CheckOptions {
    let codec = Compression::ALL[prng.below(5) as usize];
    let timestamp_type = match prng.chance(1, 3) {
        true => TimestampType::LogAppendTime,
        false => TimestampType::CreateTime,
    };
    let bound = |prng: &mut Prng| [i64::MAX, 1000, 100][prng.below(3) as usize];
    CheckOptions {
        compression: prng.chance(1, 2).then(|| Codec::of(codec)),
        compacted: prng.chance(1, 4),
        timestamp_type,
        timestamp_before_ms_max: bound(prng),
        timestamp_after_ms_max: bound(prng),
        message_bytes_max: [1_048_588, 1000][prng.below(2) as usize],
        limits: Limits {
            record_bytes_max: [Limits::default().record_bytes_max, RECORD_BYTES_MAX]
                [prng.below(2) as usize],
            ..Default::default()
        },
        ..Default::default()
    }
}

fn send_options(out: &mut impl Write, options: &CheckOptions) -> std::io::Result<()> {
    out.write_all(&[1])?;
    let codec = options.compression;
    let name = codec.map_or("producer", |codec| match codec.compression {
        Compression::None => "uncompressed",
        other => other.name(),
    });
    send_bytes(out, name.as_bytes())?;
    out.write_all(&codec.map_or(0, |codec| codec.level).to_be_bytes())?;
    out.write_all(&[options.compacted.into()])?;
    let append_time = options.timestamp_type == TimestampType::LogAppendTime;
    out.write_all(&[append_time.into()])?;
    out.write_all(&options.timestamp_before_ms_max.to_be_bytes())?;
    out.write_all(&options.timestamp_after_ms_max.to_be_bytes())?;
    out.write_all(&(options.message_bytes_max as i32).to_be_bytes())?;
    out.write_all(&options.limits.record_bytes_max.to_be_bytes())?;
    out.write_all(&NOW.0.to_be_bytes())
}

fn send_case(
    out: &mut impl Write,
    seed: u64,
    options: &CheckOptions,
    bytes: Bytes,
) -> std::io::Result<()> {
    out.write_all(&[2])?;
    out.write_all(&seed.to_be_bytes())?;
    out.write_all(&options.produce_version.to_be_bytes())?;
    send_bytes(out, &bytes)?;
    match check(bytes, options, NOW) {
        Ok(mut valid) => {
            let append_time = options.timestamp_type == TimestampType::LogAppendTime;
            valid.stamp(Offset(0), LEADER_EPOCH, append_time.then_some(NOW));
            out.write_all(&0i16.to_be_bytes())?;
            out.write_all(&0i32.to_be_bytes())?;
            send_bytes(out, &valid.to_bytes())
        }
        Err(rejected) => {
            out.write_all(&rejected.code.code().to_be_bytes())?;
            out.write_all(&(rejected.record_errors.len() as i32).to_be_bytes())?;
            for (index, _) in rejected.record_errors {
                out.write_all(&index.to_be_bytes())?;
            }
            send_bytes(out, &[])
        }
    }
}

fn send_bytes(out: &mut impl Write, bytes: &[u8]) -> std::io::Result<()> {
    out.write_all(&(bytes.len() as i32).to_be_bytes())?;
    out.write_all(bytes)
}

/// A batch, mostly with something wrong.
fn case_bytes(prng: &mut Prng) -> Bytes {
    let batch = sample(prng);
    match prng.below(4) {
        0 => batch,
        1 => damaged_header(batch.to_vec(), prng),
        2 => damaged_records(&batch, prng),
        _ => damaged_anywhere(batch.to_vec(), prng),
    }
}

fn sample(prng: &mut Prng) -> Bytes {
    let compression = Compression::ALL[prng.below(5) as usize];
    let mut builder = BatchBuilder::new(compression);
    if prng.chance(1, 3) {
        let sequence = if prng.chance(1, 4) {
            -1
        } else {
            prng.below(9) as i32
        };
        builder = builder
            .producer(prng.below(4) as i64, prng.below(3) as i16, sequence)
            .transactional(prng.chance(1, 4));
    }
    if prng.chance(1, 10) {
        builder = builder.log_append_time(Timestamp(NOW.0 - prng.below(200) as i64));
    }
    let keyless = prng.chance(1, 4);
    let late = [1, 90, 300][prng.below(3) as usize];
    for index in 0..1 + prng.below(20) as i64 {
        let length_max = if prng.chance(1, 30) { 20_000 } else { 60 };
        let value = vec![b'v'; prng.below(length_max) as usize];
        let key = index.to_be_bytes();
        let keyed = !keyless || prng.chance(1, 2);
        let timestamp = match prng.below(20) {
            0 => -1,
            1 => NOW.0 + late,
            _ => NOW.0 - prng.below(late as u64) as i64,
        };
        let headers: [(&[u8], Option<&[u8]>); 2] = [("h".as_bytes(), Some(b"x")), (b"", None)];
        let record = NewRecord {
            timestamp: Timestamp(timestamp),
            key: keyed.then_some(&key),
            value: prng.chance(9, 10).then_some(&value),
            headers: &headers[..prng.below(3) as usize],
        };
        builder.append(record).expect("a right record");
    }
    builder.build().to_bytes()
}

/// Fields of the header set to what they may not be.
fn damaged_header(mut bytes: Vec<u8>, prng: &mut Prng) -> Bytes {
    const FIELDS: [(usize, usize); 11] = [
        (0, 8),
        (12, 4),
        (16, 1),
        (21, 2),
        (23, 4),
        (27, 8),
        (35, 8),
        (43, 8),
        (51, 2),
        (53, 4),
        (57, 4),
    ];
    for _ in 0..=prng.below(2) {
        let (at, width) = FIELDS[prng.below(FIELDS.len() as u64) as usize];
        let extremes = [
            0,
            1,
            2,
            3,
            0x20,
            0x7fff_ffff,
            0xffff_ffff,
            u64::MAX,
            prng.next_u64(),
        ];
        let value = extremes[prng.below(extremes.len() as u64) as usize].to_be_bytes();
        bytes[at..at + width].copy_from_slice(&value[8 - width..]);
    }
    sealed(bytes)
}

/// The records changed inside their compression.
fn damaged_records(batch: &Bytes, prng: &mut Prng) -> Bytes {
    let header = BatchHeader::parse(batch).expect("a whole batch");
    let compression = header.compression().expect("a codec of ours");
    let records = decompress(compression, &batch[HEADER_BYTES..], 1 << 24);
    let mut records = records.expect("a right stream");
    mutate(&mut records, prng);
    let packed = compress(compression.into(), &records).expect("compression in memory");
    sealed([&batch[..HEADER_BYTES], &packed].concat())
}

fn damaged_anywhere(mut bytes: Vec<u8>, prng: &mut Prng) -> Bytes {
    let mut records = bytes.split_off(HEADER_BYTES);
    mutate(&mut records, prng);
    bytes.extend(records);
    match prng.below(4) {
        0 => bytes.into(),
        1 => {
            let tail = prng.below(bytes.len() as u64) as usize;
            let sealed = sealed(bytes);
            [&sealed[..], &sealed[..tail]].concat().into()
        }
        _ => sealed(bytes),
    }
}

fn mutate(bytes: &mut Vec<u8>, prng: &mut Prng) {
    let at = prng.below(bytes.len() as u64) as usize;
    match prng.below(5) {
        0 => bytes[at] ^= 1 << prng.below(8),
        1 => bytes[at] = prng.next_u64() as u8,
        2 => bytes.truncate(at),
        3 => bytes.insert(at, prng.next_u64() as u8),
        _ => bytes.extend_from_within(at..),
    }
}

/// With the right length and CRC.
fn sealed(mut bytes: Vec<u8>) -> Bytes {
    let length = (bytes.len() - 12) as i32;
    bytes[8..12].copy_from_slice(&length.to_be_bytes());
    let header = BatchHeader::parse(&bytes).expect("a header");
    let crc = header.computed_crc(&bytes[HEADER_BYTES..]);
    bytes[17..21].copy_from_slice(&crc.to_be_bytes());
    bytes.into()
}

// ---- what Kafka made, read by us

fn made() -> Result<(), String> {
    let file = made_file()?;
    let mut child = java::start(
        "RecordBatches",
        java::KAFKA,
        &["make", &file.to_string_lossy()],
    )?;
    drop(child.stdin.take());
    let status = child.wait().map_err(|e| e.to_string())?;
    if !status.success() {
        return Err("Kafka made no batches: see above".into());
    }
    let bytes = std::fs::read(&file).map_err(|e| format!("{}: {e}", file.display()));
    let _ = file.parent().map(std::fs::remove_dir_all); // a left-over does no harm
    let bytes = bytes?;
    let mut bytes = Bytes::from(bytes);
    let mut count = 0;
    while bytes.get_u8() != 0 {
        read_made(&mut bytes).map_err(|e| format!("batch {count} made by Kafka: {e}"))?;
        count += 1;
    }
    println!("read {count} batches made by Kafka");
    Ok(())
}

fn made_file() -> Result<PathBuf, String> {
    let dir = std::env::temp_dir().join(format!("milena-interop-{}", std::process::id()));
    std::fs::create_dir_all(&dir).map_err(|e| format!("{}: {e}", dir.display()))?;
    Ok(Path::new(&dir).join("batches"))
}

fn read_made(bytes: &mut Bytes) -> Result<(), String> {
    let batch = Batch::parse(take(bytes).ok_or("no bytes")?).map_err(|e| e.to_string())?;
    batch.check_crc().map_err(|e| e.to_string())?;
    if batch.header().last_sequence() != bytes.get_i32() {
        return Err("last sequence differs".into());
    }
    let count = bytes.get_i32();
    let records: Result<Vec<Record>, _> = batch.records(Limits::default()).collect();
    let records = records.map_err(|e| e.to_string())?;
    if records.len() as i32 != count {
        return Err(format!("{} records instead of {count}", records.len()));
    }
    for record in records {
        read_record(bytes, &record)?;
    }
    Ok(())
}

fn read_record(bytes: &mut Bytes, record: &Record) -> Result<(), String> {
    let place = (bytes.get_i64(), bytes.get_i64(), bytes.get_i32());
    let same = place == (record.offset.0, record.timestamp.0, record.sequence)
        && take(bytes) == record.key
        && take(bytes) == record.value
        && bytes.get_i32() as usize == record.headers.len();
    let headers = record
        .headers
        .iter()
        .all(|header| take(bytes).as_ref() == Some(&header.key) && take(bytes) == header.value);
    match same && headers {
        true => Ok(()),
        false => Err(format!("the record at offset {} differs", record.offset)),
    }
}

fn take(bytes: &mut Bytes) -> Option<Bytes> {
    let length = usize::try_from(bytes.get_i32()).ok()?;
    Some(bytes.split_to(length))
}
