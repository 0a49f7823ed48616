//! What a check takes: nothing for each record, and for a bomb no more than for any batch. (What zstd allocates in C
//! is not counted; its window is at most 128 MiB.)

use bytes::Bytes;
use milena_base::Prng;
use milena_records::{BatchBuilder, CheckOptions, Compression, Limits, check};
use milena_testkit::peak_memory;

use crate::{NOW, plain, sample};

fn checked(bytes: &Bytes, options: &CheckOptions) -> (milena_testkit::Peak, bool) {
    let bytes = bytes.clone();
    let mut passed = false;
    let peak = peak_memory(|| passed = check(bytes, options, NOW).is_ok());
    (peak, passed)
}

#[test]
fn records_cost_no_allocation() {
    let options = CheckOptions {
        message_bytes_max: 1 << 24,
        ..Default::default()
    };
    for compression in Compression::ALL {
        let counts = [100, 5000].map(|count| {
            let batch = sample(compression, count, &mut Prng::new(1)).to_bytes();
            let (peak, passed) = checked(&batch, &options);
            assert!(passed);
            assert!(peak.bytes < 400 * 1024, "{compression}: {peak:?}");
            peak.allocations
        });
        assert!(counts[1] < counts[0] + 20, "{compression}: {counts:?}");
        if compression == Compression::None {
            assert_eq!(counts, [0, 0]);
        }
    }
}

#[test]
fn a_bomb_costs_a_window() {
    let zeros = vec![0; 64 << 20];
    for compression in [Compression::Gzip, Compression::Lz4, Compression::Zstd] {
        let mut builder = BatchBuilder::new(compression);
        builder.append(plain(&zeros)).unwrap();
        let bomb = builder.build().to_bytes();
        let options = CheckOptions::default();
        let (peak, passed) = checked(&bomb, &options);
        assert!(passed, "{compression}: Kafka takes it, too");
        assert!(peak.bytes < 256 * 1024, "{compression}: {peak:?}");
        let limited = CheckOptions {
            limits: Limits {
                batch_bytes_max: 32 << 20,
                ..Default::default()
            },
            ..Default::default()
        };
        let (peak, passed) = checked(&bomb, &limited);
        assert!(
            !passed && peak.bytes < 256 * 1024,
            "{compression}: {peak:?}"
        );
    }
}
