//! Choices within a budget of bytes: one of each tensor's, with little loss in all.

use std::cmp::Ordering;
use std::collections::BinaryHeap;

/// One way to store a tensor.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Choice {
    pub bytes: usize,
    pub loss: f64,
}

/// Which choice each tensor takes, so that all bytes together are at most `budget`; `None` if the smallest are more.
///
/// Greedy along the lower convex hulls: from the smallest choices on, the step that takes away the most loss for its bytes
/// comes first, and a step that no longer fits ends its tensor's way. What is left of the budget goes, again and again, to
/// the choice of any tensor that takes away the most loss and fits. Among equals, the first tensor comes first.
pub fn choose(tensors: &[Vec<Choice>], budget: usize) -> Option<Vec<usize>> {
    let hulls: Vec<_> = tensors.iter().map(|choices| hull(choices)).collect();
    let mut at: Vec<usize> = hulls.iter().map(|hull| hull.first().copied()).collect::<Option<_>>()?;
    let mut left = budget.checked_sub(at.iter().zip(tensors).map(|(&c, choices)| choices[c].bytes).sum())?;

    let step = |tensor: usize, place: usize| {
        let (from, to) = (hulls[tensor].get(place)?, hulls[tensor].get(place + 1)?);
        let (from, to) = (tensors[tensor][*from], tensors[tensor][*to]);
        let bytes = to.bytes - from.bytes;
        Some(Step { gain: (from.loss - to.loss) / bytes as f64, bytes, tensor, place })
    };
    let mut steps: BinaryHeap<_> = (0..tensors.len()).filter_map(|tensor| step(tensor, 0)).collect();
    while let Some(Step { bytes, tensor, place, .. }) = steps.pop() {
        if bytes <= left {
            left -= bytes;
            at[tensor] = hulls[tensor][place + 1];
            steps.extend(step(tensor, place + 1));
        }
    }
    while let Some((tensor, choice)) = best_fill(tensors, &at, left) {
        left -= tensors[tensor][choice].bytes - tensors[tensor][at[tensor]].bytes;
        at[tensor] = choice;
    }
    Some(at)
}

/// The choice of more bytes that takes away the most loss, of those that fit.
fn best_fill(tensors: &[Vec<Choice>], at: &[usize], left: usize) -> Option<(usize, usize)> {
    let mut best = None;
    let mut most = 0.0;
    for (tensor, (choices, &now)) in tensors.iter().zip(at).enumerate() {
        let now = choices[now];
        for (i, choice) in choices.iter().enumerate() {
            let fits = choice.bytes > now.bytes && choice.bytes - now.bytes <= left;
            if fits && now.loss - choice.loss > most {
                (best, most) = (Some((tensor, i)), now.loss - choice.loss);
            }
        }
    }
    best
}

/// The choices of the lower convex hull, by bytes: each has less loss than the one before, and steps gain less and less.
fn hull(choices: &[Choice]) -> Vec<usize> {
    let mut order: Vec<usize> = (0..choices.len()).collect();
    order.sort_by(|&a, &b| {
        let (a, b) = (choices[a], choices[b]);
        a.bytes.cmp(&b.bytes).then(a.loss.total_cmp(&b.loss))
    });
    let gain = |a: usize, b: usize| (choices[a].loss - choices[b].loss) / (choices[b].bytes - choices[a].bytes) as f64;
    let mut hull: Vec<usize> = Vec::new();
    for next in order {
        if hull.last().is_some_and(|&last| choices[next].loss >= choices[last].loss) {
            continue;
        }
        while let [.., before, last] = hull[..] {
            if gain(last, next) < gain(before, last) {
                break;
            }
            hull.pop();
        }
        hull.push(next);
    }
    hull
}

/// From one choice of a hull to the next.
struct Step {
    /// Loss per byte.
    gain: f64,
    bytes: usize,
    tensor: usize,
    place: usize,
}

impl Ord for Step {
    fn cmp(&self, other: &Self) -> Ordering {
        self.gain.total_cmp(&other.gain).then(other.tensor.cmp(&self.tensor))
    }
}

impl PartialOrd for Step {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Step {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Step {}

#[cfg(test)]
mod tests {
    use super::*;

    /// Choices of two, four and eight bytes and one in between that no hull has.
    fn tensor(sensitivity: f64) -> Vec<Choice> {
        [(8, 1.0), (2, 64.0), (4, 16.0), (5, 15.0)]
            .map(|(bytes, loss)| Choice { bytes, loss: loss * sensitivity })
            .to_vec()
    }

    fn totals(tensors: &[Vec<Choice>], chosen: &[usize]) -> (usize, f64) {
        let of = chosen.iter().zip(tensors).map(|(&c, choices)| choices[c]);
        of.fold((0, 0.0), |(bytes, loss), c| (bytes + c.bytes, loss + c.loss))
    }

    /// The least loss of all combinations.
    fn exhaustive(tensors: &[Vec<Choice>], budget: usize) -> f64 {
        match tensors.split_first() {
            None => 0.0,
            Some((first, rest)) => {
                let fitting = first.iter().filter(|c| c.bytes <= budget);
                fitting.map(|c| c.loss + exhaustive(rest, budget - c.bytes)).fold(f64::INFINITY, f64::min)
            }
        }
    }

    #[test]
    fn the_budget_holds_and_the_loss_is_near_the_least() {
        let tensors: Vec<_> = [3.0, 0.1, 1.0, 10.0, 0.5].map(tensor).to_vec();
        for budget in 0..45 {
            let Some(chosen) = choose(&tensors, budget) else {
                assert!(budget < 10, "{budget}");
                continue;
            };
            let (bytes, loss) = totals(&tensors, &chosen);
            let least = exhaustive(&tensors, budget);
            assert!(bytes <= budget, "{bytes} of {budget}");
            assert!(loss <= least * 1.5, "{budget}: {loss} where {least} can be had");
        }
        assert_eq!(choose(&tensors, 40), Some(vec![0; 5]));
    }

    #[test]
    fn more_sensitive_tensors_get_more_bytes() {
        let tensors = [tensor(1.0), tensor(100.0)];
        assert_eq!(choose(&tensors, 10), Some(vec![1, 0]));
        assert_eq!(choose(&[tensor(1.0), tensor(1.0)], 6), Some(vec![2, 1]));
    }

    #[test]
    fn what_is_left_is_filled() {
        assert_eq!(choose(&[tensor(1.0)], 7), Some(vec![3]));
        assert_eq!(choose(&[vec![]], 7), None);
        assert_eq!(choose(&[], 7), Some(vec![]));
    }
}
