//! How much memory a piece of code takes at its peak: decoders must not take more than their input justifies.

/// What `peak_memory` saw.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Peak {
    /// The most bytes that were allocated at one moment, beyond those allocated before.
    pub bytes: u64,
    /// Allocations in all.
    pub allocations: u64,
}

/// Runs `work` and tells what this thread allocated in it (other threads don't count).
pub fn peak_memory(work: impl FnOnce()) -> Peak {
    let info = allocation_counter::measure(work);
    Peak {
        bytes: info.bytes_max,
        allocations: info.count_total,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_peak_counts_what_is_freed_again() {
        let peak = peak_memory(|| {
            drop(Vec::<u8>::with_capacity(1000));
            drop(Vec::<u8>::with_capacity(3000));
        });
        assert_eq!((peak.bytes, peak.allocations), (3000, 2));
    }
}
