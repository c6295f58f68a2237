//! What the next batch holds: a pure function of the running sequences and the budget.

use std::ops::Range;

/// What one running sequence needs, in the order of admission.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Demand {
    /// Positions stored in the cache.
    pub stored: usize,
    /// Tokens that the sequence has; more than are stored.
    pub tokens: usize,
}

impl Demand {
    /// Whether the next token follows from a single position.
    fn decodes(self) -> bool {
        self.tokens - self.stored == 1
    }
}

/// Positions that one sequence computes in a batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Work {
    /// Which of the demands this serves.
    pub sequence: usize,
    pub positions: Range<usize>,
    /// Whether the positions end where the sequence does, so that its next token can be drawn.
    pub draws: bool,
}

/// Divides `budget` positions among the sequences: one to each that decodes, so that none waits for another's prompt; the
/// rest to prompts in the order of admission, each as far as the budget goes. The result is in the order of `demands`.
pub fn plan(demands: &[Demand], budget: usize) -> Vec<Work> {
    let mut grants = vec![0; demands.len()];
    let mut left = budget;
    for decoding in [true, false] {
        for (grant, demand) in grants.iter_mut().zip(demands).filter(|(_, d)| d.decodes() == decoding) {
            *grant = (demand.tokens - demand.stored).min(left);
            left -= *grant;
        }
    }
    let granted = demands.iter().zip(grants).enumerate().filter(|(_, (_, grant))| *grant > 0);
    granted
        .map(|(sequence, (demand, grant))| {
            let end = demand.stored + grant;
            Work { sequence, positions: demand.stored..end, draws: end == demand.tokens }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn demands(pairs: &[(usize, usize)]) -> Vec<Demand> {
        pairs.iter().map(|&(stored, tokens)| Demand { stored, tokens }).collect()
    }

    #[test]
    fn decodes_go_first_and_prompts_share_the_rest_in_order() {
        let work = plan(&demands(&[(0, 10), (5, 6), (0, 4), (9, 10)]), 8);
        assert_eq!(
            work,
            [
                Work { sequence: 0, positions: 0..6, draws: false },
                Work { sequence: 1, positions: 5..6, draws: true },
                Work { sequence: 3, positions: 9..10, draws: true },
            ]
        );
        let work = plan(&demands(&[(6, 10), (0, 4)]), 8);
        assert_eq!(work[0], Work { sequence: 0, positions: 6..10, draws: true });
        assert_eq!(work[1], Work { sequence: 1, positions: 0..4, draws: true });
    }

    proptest! {
        #[test]
        fn a_plan_keeps_the_budget_and_starves_no_decode(
            pairs in prop::collection::vec((0usize..50, 1usize..50), 0..12), budget in 12usize..64,
        ) {
            let demands: Vec<_> = pairs.iter().map(|&(stored, n)| Demand { stored, tokens: stored + n }).collect();
            let work = plan(&demands, budget);
            let total: usize = work.iter().map(|w| w.positions.len()).sum();
            let wanted: usize = pairs.iter().map(|p| p.1).sum();
            prop_assert_eq!(total, budget.min(wanted));
            prop_assert!(work.windows(2).all(|w| w[0].sequence < w[1].sequence));
            for w in &work {
                let d = demands[w.sequence];
                prop_assert!(!w.positions.is_empty() && w.positions.start == d.stored && w.positions.end <= d.tokens);
                prop_assert_eq!(w.draws, w.positions.end == d.tokens);
            }
            for (i, d) in demands.iter().enumerate() {
                prop_assert!(!d.decodes() || work.iter().any(|w| w.sequence == i));
            }
        }
    }
}
