//! What is kept of the rounds: the median and the spread.

/// The median of some values, with their extremes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Spread {
    /// The middle value, or the mean of the two in the middle.
    pub median: f64,
    /// The least value.
    pub min: f64,
    /// The greatest value.
    pub max: f64,
    /// The lower quartile: a quarter of the values are at most this.
    pub lower: f64,
}

impl Spread {
    /// The spread of `values`; `None` if there are none. Values that are not numbers are left out.
    pub fn of(values: impl IntoIterator<Item = f64>) -> Option<Spread> {
        let mut values: Vec<f64> = values.into_iter().filter(|value| !value.is_nan()).collect();
        values.sort_by(f64::total_cmp);
        let (&min, &max) = (values.first()?, values.last()?);
        let middle = values.len() / 2;
        let median = if values.len() % 2 == 1 {
            values[middle]
        } else {
            f64::midpoint(values[middle - 1], values[middle])
        };
        Some(Spread { median, min, max, lower: values[(values.len() - 1) / 4] })
    }

    /// The spread of `over / under`, each pair taken from one round.
    ///
    /// A ratio of two samples of the same round is what a slow drift of the machine (its clock, a
    /// neighbour) cannot change much; a ratio of two medians is not.
    pub fn of_ratios(over: &[f64], under: &[f64]) -> Option<Spread> {
        Spread::of(over.iter().zip(under).map(|(over, under)| over / under))
    }
}

/// A generator of pseudo-random numbers (splitmix64), the same at each run, so that two runs read
/// in one order.
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    /// A generator that starts at `seed`.
    pub const fn new(seed: u64) -> Self {
        Random(seed)
    }

    /// The next number.
    pub fn next_u64(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Puts `items` into a random order.
    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for last in (1..items.len()).rev() {
            let at = (self.next_u64() % (last as u64 + 1)) as usize;
            items.swap(last, at);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_of_an_even_count_lies_between_the_middle_two() {
        let spread = Spread::of([4.0, 1.0, 3.0, 2.0]).unwrap();
        assert_eq!(spread, Spread { median: 2.5, min: 1.0, max: 4.0, lower: 1.0 });
    }

    #[test]
    fn nothing_has_no_spread() {
        assert_eq!(Spread::of([]), None);
        assert_eq!(Spread::of([f64::NAN]), None);
    }

    #[test]
    fn ratios_are_taken_within_a_round() {
        // Both double in the second round: the ratio does not move.
        let spread = Spread::of_ratios(&[1.0, 2.0, 1.0], &[2.0, 4.0, 2.0]).unwrap();
        assert_eq!((spread.median, spread.min, spread.max), (0.5, 0.5, 0.5));
    }

    #[test]
    fn a_shuffle_keeps_every_item() {
        let mut items: Vec<u32> = (0..100).collect();
        Random::new(1).shuffle(&mut items);
        assert_ne!(items, (0..100).collect::<Vec<_>>());
        items.sort_unstable();
        assert_eq!(items, (0..100).collect::<Vec<_>>());
    }
}
