//! Counting and its lines, as `ProducerPerformance` prints them.

use std::time::{Duration, Instant};

/// Latencies that are kept for the percentiles.
const SAMPLES_MAX: u64 = 500_000;

/// What was sent since `start`, and in the current window.
#[derive(Clone, Debug)]
pub struct Stats {
    start: Instant,
    window_start: Instant,
    interval: Duration,
    sampling: u64,
    latencies_ms: Vec<u32>,
    steady: bool,
    quiet: bool,
    total: Sum,
    window: Sum,
}

#[derive(Clone, Copy, Debug, Default)]
struct Sum {
    count: u64,
    bytes: u64,
    latency_ms: u64,
    latency_ms_max: u64,
}

impl Sum {
    fn add(&mut self, latency_ms: u64, bytes: u64) {
        self.count += 1;
        self.bytes += bytes;
        self.latency_ms += latency_ms;
        self.latency_ms_max = self.latency_ms_max.max(latency_ms);
    }

    /// Records and MB a second, and the average latency.
    fn rates(&self, elapsed: Duration) -> (f64, f64, f64) {
        let elapsed_ms = elapsed.as_millis().max(1) as f64;
        let a_second = 1000.0 * self.count as f64 / elapsed_ms;
        let mb = 1000.0 * self.bytes as f64 / elapsed_ms / (1024.0 * 1024.0);
        (a_second, mb, self.latency_ms as f64 / self.count as f64)
    }
}

impl Stats {
    pub fn new(records: u64, interval: Duration, steady: bool, now: Instant) -> Stats {
        Stats {
            start: now,
            window_start: now,
            interval,
            sampling: (records / SAMPLES_MAX).max(1),
            latencies_ms: Vec::new(),
            steady,
            quiet: false,
            total: Sum::default(),
            window: Sum::default(),
        }
    }

    /// From now on no windows are shown.
    pub fn silence(&mut self) {
        self.quiet = true;
    }

    /// Takes in a record that was acknowledged; the line of a window that is over.
    pub fn record(&mut self, latency: Duration, bytes: u64, now: Instant) -> Option<String> {
        let latency_ms = latency.as_millis() as u64;
        if self.total.count.is_multiple_of(self.sampling) {
            self.latencies_ms
                .push(latency_ms.min(u64::from(u32::MAX)) as u32);
        }
        self.total.add(latency_ms, bytes);
        self.window.add(latency_ms, bytes);
        let elapsed = now.duration_since(self.window_start);
        if elapsed < self.interval {
            return None;
        }
        let (a_second, mb, average) = self.window.rates(elapsed);
        let first = if self.steady && self.window.count == self.total.count {
            "In steady state.\n"
        } else {
            ""
        };
        let line = format!(
            "{first}{} records sent, {a_second:.1} records/sec ({mb:.2} MB/sec), {average:.1} ms avg latency, {:.1} ms max latency.\n",
            self.window.count, self.window.latency_ms_max as f64
        );
        self.window = Sum::default();
        self.window_start = now;
        (!self.quiet).then_some(line)
    }

    /// The last line.
    pub fn summary(&mut self, now: Instant) -> String {
        let (a_second, mb, average) = self.total.rates(now.duration_since(self.start));
        self.latencies_ms.sort_unstable();
        let average = match self.total.count {
            0 => "NaN".to_owned(),
            _ => format!("{average:.2}"),
        };
        format!(
            "{}{} records sent, {a_second:.6} records/sec ({mb:.2} MB/sec), {average} ms avg latency, {:.2} ms max latency, {} ms 50th, {} ms 95th, {} ms 99th, {} ms 99.9th.\n",
            self.total.count,
            if self.steady { " steady state" } else { "" },
            self.total.latency_ms_max as f64,
            percentile(&self.latencies_ms, 0.5),
            percentile(&self.latencies_ms, 0.95),
            percentile(&self.latencies_ms, 0.99),
            percentile(&self.latencies_ms, 0.999),
        )
    }
}

/// Of sorted numbers; 0 where there are none.
pub fn percentile(sorted: &[u32], part: f64) -> u32 {
    let at = (part * sorted.len() as f64) as usize;
    sorted.get(at).or(sorted.last()).copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_and_the_summary_have_kafkas_form() {
        let start = Instant::now();
        let ms = Duration::from_millis;
        let mut stats = Stats::new(3, ms(1000), false, start);
        assert_eq!(stats.record(ms(10), 1 << 20, start + ms(10)), None);
        assert_eq!(stats.record(ms(20), 1 << 20, start + ms(20)), None);
        assert_eq!(
            stats.record(ms(30), 1 << 20, start + ms(1000)).unwrap(),
            "3 records sent, 3.0 records/sec (3.00 MB/sec), 20.0 ms avg latency, 30.0 ms max latency.\n"
        );
        assert_eq!(
            stats.summary(start + ms(2000)),
            "3 records sent, 1.500000 records/sec (1.50 MB/sec), 20.00 ms avg latency, 30.00 ms max latency, 20 ms 50th, 30 ms 95th, 30 ms 99th, 30 ms 99.9th.\n"
        );
        let mut none = Stats::new(0, ms(1000), true, start);
        assert!(none.summary(start + ms(5)).starts_with(
            "0 steady state records sent, 0.000000 records/sec (0.00 MB/sec), NaN ms"
        ));
    }
}
