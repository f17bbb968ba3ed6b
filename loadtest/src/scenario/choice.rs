//! What is drawn by lot: which target, which key, how many bytes. Pure, the same for the same seed.

use odeum_runtime::config::ByteSize;
use rand::rngs::StdRng;
use rand::{RngExt as _, distr::Distribution as _};
use rand_distr::Zipf;

use super::spec::Keys;

/// Draws keys.
#[derive(Debug, Clone)]
pub(crate) enum KeyLots {
    Uniform { of: usize },
    Zipfian(Zipf<f64>),
    Hot { of: usize, hot: usize, load: f64 },
}

impl KeyLots {
    /// Of so many keys.
    pub(crate) fn new(keys: Keys, of: usize) -> Self {
        let of = of.max(1);
        match keys {
            Keys::Uniform => Self::Uniform { of },
            // A power that is no number was refused when the scenario was read.
            Keys::Zipfian(power) => {
                Zipf::new(of as f64, power).map_or(Self::Uniform { of }, Self::Zipfian)
            }
            Keys::Hot { share, load } => {
                let hot = ((of as f64 * share).round() as usize).clamp(1, of);
                Self::Hot { of, hot, load }
            }
        }
    }

    /// The next one.
    pub(crate) fn draw(&self, random: &mut StdRng) -> usize {
        match self {
            Self::Uniform { of } => random.random_range(0..*of),
            // From 1 on.
            Self::Zipfian(zipf) => (zipf.sample(random) as usize).saturating_sub(1),
            Self::Hot { of, hot, load } => {
                if hot == of || random.random_bool(*load) {
                    random.random_range(0..*hot)
                } else {
                    random.random_range(*hot..*of)
                }
            }
        }
    }
}

/// Draws sizes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sizes {
    from: usize,
    to: usize,
}

impl Sizes {
    /// Between two, or one.
    pub(crate) fn new(from: ByteSize, to: Option<ByteSize>) -> Self {
        let bytes = |size: ByteSize| usize::try_from(size.0).unwrap_or(usize::MAX);
        let from = bytes(from);
        Self { from, to: to.map_or(from, bytes).max(from) }
    }

    /// The next one, in bytes.
    pub(crate) fn draw(self, random: &mut StdRng) -> usize {
        random.random_range(self.from..=self.to)
    }
}

/// Draws targets by their weights.
#[derive(Debug, Clone)]
pub(crate) struct Mix {
    /// The sums of weights up to each.
    up_to: Vec<u64>,
}

impl Mix {
    /// Of weights, by place.
    pub(crate) fn new(weights: impl IntoIterator<Item = u32>) -> Self {
        let mut sum = 0;
        let up_to = weights.into_iter().map(|weight| {
            sum += u64::from(weight);
            sum
        });
        Self { up_to: up_to.collect() }
    }

    /// The place of the next one.
    pub(crate) fn draw(&self, random: &mut StdRng) -> usize {
        let all = self.up_to.last().copied().unwrap_or_default().max(1);
        let lot = random.random_range(0..all);
        self.up_to.partition_point(|sum| *sum <= lot)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rand::SeedableRng as _;

    use super::*;

    fn counts(keys: Keys, of: usize) -> Vec<usize> {
        let (lots, mut random) = (KeyLots::new(keys, of), StdRng::seed_from_u64(7));
        let mut counts = vec![0; of];
        for _ in 0..20_000 {
            counts[lots.draw(&mut random)] += 1;
        }
        counts
    }

    proptest! {
        #[test]
        fn a_key_is_one_of_those_there_are(of in 1_usize..2_000, power in 0.0..3.0, share in 0.001..1.0, load in 0.0..1.0, seed: u64) {
            let mut random = StdRng::seed_from_u64(seed);
            for keys in [Keys::Uniform, Keys::Zipfian(power), Keys::Hot { share, load }] {
                let lots = KeyLots::new(keys, of);
                for _ in 0..50 {
                    prop_assert!(lots.draw(&mut random) < of);
                }
            }
        }

        #[test]
        fn what_has_no_weight_is_never_drawn(weights in prop::collection::vec(0_u32..5, 1..8), seed: u64) {
            prop_assume!(weights.iter().any(|weight| *weight > 0));
            let (mix, mut random) = (Mix::new(weights.clone()), StdRng::seed_from_u64(seed));
            for _ in 0..100 {
                prop_assert!(weights[mix.draw(&mut random)] > 0);
            }
        }
    }

    #[test]
    fn keys_are_drawn_as_often_as_their_distribution_says() {
        let uniform = counts(Keys::Uniform, 10);
        assert!(uniform.iter().all(|count| (1_800..2_200).contains(count)), "{uniform:?}");
        let zipfian = counts(Keys::Zipfian(1.0), 10);
        // The first one in proportion to 1, the second to 1/2, of a sum of 2.929.
        assert!((6_600..7_050).contains(&zipfian[0]), "{zipfian:?}");
        assert!((3_250..3_600).contains(&zipfian[1]), "{zipfian:?}");
        let hot = counts(Keys::Hot { share: 0.1, load: 0.9 }, 10);
        assert!((17_800..18_200).contains(&hot[0]), "{hot:?}");
    }

    #[test]
    fn targets_are_drawn_by_their_weights() {
        let (mix, mut random) = (Mix::new([1, 0, 3]), StdRng::seed_from_u64(1));
        let mut counts = [0; 3];
        for _ in 0..10_000 {
            counts[mix.draw(&mut random)] += 1;
        }
        assert!(counts[1] == 0 && (2_300..2_700).contains(&counts[0]), "{counts:?}");
    }

    #[test]
    fn sizes_are_between_their_bounds() {
        let mut random = StdRng::seed_from_u64(1);
        let sizes = Sizes::new(ByteSize(10), Some(ByteSize(12)));
        let drawn: std::collections::BTreeSet<_> =
            (0..100).map(|_| sizes.draw(&mut random)).collect();
        assert_eq!(drawn.into_iter().collect::<Vec<_>>(), [10, 11, 12]);
        assert_eq!(Sizes::new(ByteSize(5), None).draw(&mut random), 5);
    }
}
