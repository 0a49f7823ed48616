//! Seeded cases: many in a run, one when it has to be looked at (`SEED=n`).

use milena_base::Prng;

/// Runs `case` with seeds `0..count`, or with the environment's `SEED` alone. A failing case says its seed.
pub fn for_each_seed(count: u64, mut case: impl FnMut(u64)) {
    let one = std::env::var("SEED").ok();
    let one: Option<u64> = one.map(|seed| seed.parse().expect("SEED is a number"));
    let seeds = one.map_or(0..count, |seed| seed..seed + 1);
    for seed in seeds {
        let guard = SaySeed(seed);
        case(seed);
        std::mem::forget(guard);
    }
}

struct SaySeed(u64);

impl Drop for SaySeed {
    fn drop(&mut self) {
        eprintln!("failed with SEED={}", self.0);
    }
}

/// Random values that tests of codecs and logs need.
pub trait Arbitrary {
    /// `0..=len_max` random bytes; every second time they repeat, so that they compress.
    fn bytes(&mut self, len_max: usize) -> Vec<u8>;
    /// Text of up to `chars_max` characters, among them some of two, three and four bytes.
    fn text(&mut self, chars_max: usize) -> String;
    /// One of the items.
    fn pick<'a, T>(&mut self, items: &'a [T]) -> &'a T;
}

impl Arbitrary for Prng {
    fn bytes(&mut self, len_max: usize) -> Vec<u8> {
        let mut bytes = vec![0; self.below(len_max as u64 + 1) as usize];
        match self.chance(1, 2) {
            true => self.fill(&mut bytes),
            false => bytes.fill(self.next_u64() as u8),
        }
        bytes
    }

    fn text(&mut self, chars_max: usize) -> String {
        let chars = self.below(chars_max as u64 + 1);
        let alphabet: Vec<char> = "abcxyz-._019 äßÉ日本語🦀".chars().collect();
        (0..chars).map(|_| *self.pick(&alphabet)).collect()
    }

    fn pick<'a, T>(&mut self, items: &'a [T]) -> &'a T {
        &items[self.below(items.len() as u64) as usize]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_has_characters_of_every_width() {
        let mut prng = Prng::new(1);
        let all: String = (0..100).map(|_| prng.text(20)).collect();
        let widths: std::collections::BTreeSet<_> = all.chars().map(char::len_utf8).collect();
        assert_eq!(widths.len(), 4);
    }
}
