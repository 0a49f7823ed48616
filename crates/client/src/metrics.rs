//! Figures of a client by Kafka's names, since its start.

/// A figure: its group and name, and the value.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Metric {
    pub group: &'static str,
    pub name: &'static str,
    pub value: f64,
}

/// Mean and maximum of what was seen.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Seen {
    count: u64,
    sum: f64,
    max: f64,
}

impl Seen {
    pub(crate) fn add(&mut self, value: f64) {
        self.count += 1;
        self.sum += value;
        self.max = self.max.max(value);
    }

    /// NaN where nothing was seen, as in Kafka.
    pub(crate) fn mean(&self) -> f64 {
        self.sum / self.count as f64
    }

    pub(crate) fn max(&self) -> f64 {
        match self.count {
            0 => f64::NAN,
            _ => self.max,
        }
    }

    pub(crate) fn count(&self) -> f64 {
        self.count as f64
    }

    pub(crate) fn sum(&self) -> f64 {
        self.sum
    }
}
