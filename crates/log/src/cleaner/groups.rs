//! Which segments become one: as many as fit into `segment.bytes` and `segment.index.bytes`, over at most 2³¹ offsets.
//! By their sizes before cleaning, as Kafka does it (`Cleaner.groupSegmentsBySize`).

use std::ops::Range;
use std::sync::Arc;

use milena_base::Offset;

use crate::options::LogOptions;
use crate::segment::Segment;

/// The groups of `segments`, which are followed by the offset `end`.
pub(super) fn group(
    segments: &[Arc<Segment>],
    options: &LogOptions,
    end: Offset,
) -> Vec<Range<usize>> {
    let mut groups = Vec::new();
    let mut from = 0;
    while from < segments.len() {
        let mut sizes = Sizes::of(&segments[from]);
        let mut to = from + 1;
        while to < segments.len() {
            let next = segments.get(to + 1).map_or(end, |next| next.base());
            let spans = next - 1 - segments[from].base();
            let together = sizes.plus(&segments[to]);
            // One without batches may lie as far away as it likes.
            let is_near = segments[to].size() == 0 || spans <= i64::from(i32::MAX);
            if !together.fit(options) || !is_near {
                break;
            }
            sizes = together;
            to += 1;
        }
        groups.push(from..to);
        from = to;
    }
    groups
}

#[derive(Clone, Copy)]
struct Sizes {
    log: u64,
    offsets: u64,
    times: u64,
}

impl Sizes {
    fn of(segment: &Segment) -> Sizes {
        let (offsets, times) = segment.index_bytes();
        Sizes {
            log: u64::from(segment.size()),
            offsets,
            times,
        }
    }

    fn plus(self, segment: &Segment) -> Sizes {
        let other = Sizes::of(segment);
        Sizes {
            log: self.log + other.log,
            offsets: self.offsets + other.offsets,
            times: self.times + other.times,
        }
    }

    fn fit(self, options: &LogOptions) -> bool {
        self.log <= u64::from(options.segment_bytes)
            && self.offsets <= u64::from(options.segment_index_bytes)
            && self.times <= u64::from(options.segment_index_bytes)
    }
}
