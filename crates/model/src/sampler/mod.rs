//! Choosing the next token from logits.
//!
//! The steps and their order are llama.cpp's: penalties, top-k, top-p, min-p, then temperature, then one draw. The three
//! cuts thus look at probabilities at temperature 1. Temperature 0 takes the most likely token after the penalties.
//! A draw depends on the seed, the choice, the position, the logits and the recent tokens, on nothing else: no state is
//! carried from token to token, so an answer can be replayed from any point.

mod params;
mod penalties;
mod philox;
mod truncate;

pub use params::{SamplingError, SamplingParams};
pub use philox::{philox4x32, uniform};
use truncate::Candidate;

/// Draws tokens under one set of parameters; keeps its buffers between draws.
#[derive(Debug)]
pub struct Sampler {
    params: SamplingParams,
    penalized: Vec<f32>,
    candidates: Vec<Candidate>,
    weights: Vec<f32>,
}

impl Sampler {
    /// # Errors
    /// A parameter outside its range.
    pub fn new(params: SamplingParams) -> Result<Self, SamplingError> {
        params.validate()?;
        Ok(Self { params, penalized: Vec::new(), candidates: Vec::new(), weights: Vec::new() })
    }

    pub fn params(&self) -> &SamplingParams {
        &self.params
    }

    /// The token at absolute position `position`: `logits` is `[vocab]` as computed at the position before, `history`
    /// the sequence's tokens so far (the last `penalty_window` of them are enough).
    ///
    /// # Errors
    /// A logit that is NaN or +inf, or none above -inf.
    pub fn sample(&mut self, logits: &[f32], history: &[u32], position: u64) -> Result<u32, SamplingError> {
        let mut max = check(logits)?;
        let mut logits = logits;
        if self.params.penalizes() {
            self.penalized.clear();
            self.penalized.extend_from_slice(logits);
            penalties::penalize(&mut self.penalized, history, &self.params);
            logits = &self.penalized;
            max = survey(logits).0;
        }
        if self.params.temperature == 0.0 {
            return Ok(argmax(logits));
        }
        truncate::truncate(logits, max, &self.params, &mut self.candidates);
        Ok(self.draw(uniform(self.params.seed, self.params.choice, position)))
    }

    /// The candidate at share `u` of the probability, walking them in their order.
    fn draw(&mut self, u: f64) -> u32 {
        let max = self.candidates.iter().map(|c| c.logit).fold(f32::NEG_INFINITY, f32::max);
        let weight = |c: &Candidate| libm::expf((c.logit - max) / self.params.temperature);
        self.weights.clear();
        self.weights.extend(self.candidates.iter().map(weight));
        let target = u * self.weights.iter().copied().map(f64::from).sum::<f64>();
        let mut sum = 0.0;
        let mut drawn = 0;
        for (candidate, &weight) in self.candidates.iter().zip(&self.weights) {
            if weight > 0.0 {
                sum += f64::from(weight);
                drawn = candidate.token;
                if sum > target {
                    break;
                }
            }
        }
        drawn
    }
}

/// The index of the largest logit, the lowest of equals; 0 for none.
pub fn argmax(logits: &[f32]) -> u32 {
    let mut best = (0, f32::NEG_INFINITY);
    for (token, &logit) in (0..).zip(logits) {
        if logit > best.1 {
            best = (token, logit);
        }
    }
    best.0
}

/// The largest of the logits, which give a distribution.
fn check(logits: &[f32]) -> Result<f32, SamplingError> {
    let wrong = |l: &f32| l.is_nan() || *l == f32::INFINITY;
    match survey(logits) {
        (_, true) => {
            let token = logits.iter().position(wrong).unwrap_or_default();
            Err(SamplingError::Logit { token, value: logits[token] })
        }
        (f32::NEG_INFINITY, _) => Err(SamplingError::Nothing(logits.len())),
        (max, _) => Ok(max),
    }
}

/// The largest logit, and whether any is NaN or +inf; in lanes, so that a compiler uses vectors.
fn survey(logits: &[f32]) -> (f32, bool) {
    const LANES: usize = 32;
    let (mut max, mut wrong) = ([f32::NEG_INFINITY; LANES], [false; LANES]);
    let (chunks, rest) = logits.as_chunks::<LANES>();
    let mut take = |lane: usize, logit: f32| {
        max[lane] = if logit > max[lane] { logit } else { max[lane] };
        // Not below +inf: NaN compares with nothing.
        wrong[lane] |= !matches!(logit.partial_cmp(&f32::INFINITY), Some(std::cmp::Ordering::Less));
    };
    for chunk in chunks {
        (0..LANES).for_each(|lane| take(lane, chunk[lane]));
    }
    rest.iter().enumerate().for_each(|(lane, logit)| take(lane, *logit));
    (max.into_iter().fold(f32::NEG_INFINITY, f32::max), wrong.contains(&true))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn sampler(change: fn(&mut SamplingParams)) -> Sampler {
        let mut params = SamplingParams { top_k: 0, top_p: 1.0, min_p: 0.0, temperature: 1.0, ..Default::default() };
        change(&mut params);
        Sampler::new(params).unwrap()
    }

    #[test]
    fn greedy_takes_the_lowest_of_equals() {
        let mut s = Sampler::new(SamplingParams::greedy()).unwrap();
        assert_eq!(s.sample(&[1.0, 5.0, 5.0, f32::NEG_INFINITY], &[], 0), Ok(1));
        assert_eq!(s.sample(&[-0.0, 0.0], &[], 0), Ok(0));
    }

    #[test]
    fn greedy_heeds_penalties() {
        let mut s = Sampler::new(SamplingParams { presence_penalty: 2.0, ..SamplingParams::greedy() }).unwrap();
        assert_eq!(s.sample(&[1.0, 2.0], &[1], 1), Ok(0));
        assert_eq!(s.sample(&[1.0, 2.0], &[], 1), Ok(1));
    }

    #[test]
    fn bad_logits_are_errors() {
        let mut s = sampler(|_| {});
        let error = s.sample(&[0.0, f32::NAN], &[], 0).unwrap_err();
        assert!(error.to_string().contains("token 1"), "{error}");
        assert!(s.sample(&[f32::INFINITY, 0.0], &[], 0).is_err());
        assert_eq!(s.sample(&[f32::NEG_INFINITY; 3], &[], 0), Err(SamplingError::Nothing(3)));
        assert_eq!(s.sample(&[], &[], 0), Err(SamplingError::Nothing(0)));
    }

    /// χ² of draws against softmax(logits / temperature): 3 degrees of freedom, p ≈ 10⁻⁵ at 25.
    #[test]
    fn draws_follow_the_distribution() {
        let logits = [0.5f32, -1.0, 2.0, 0.0];
        for (cut, temperature) in [(false, 1.0f32), (true, 1.0), (false, 2.5), (true, 0.7)] {
            let params = SamplingParams {
                temperature,
                top_k: if cut { 4 } else { 0 },
                top_p: if cut { 0.9999 } else { 1.0 },
                min_p: 0.0,
                ..SamplingParams::default()
            };
            let mut s = Sampler::new(params).unwrap();
            let mut counts = [0f64; 4];
            let n = 40_000;
            (0..n).for_each(|position| counts[s.sample(&logits, &[], position).unwrap() as usize] += 1.0);
            let weights = logits.map(|l| f64::from(l / temperature).exp());
            let total: f64 = weights.iter().sum();
            let chi2: f64 = (0..4)
                .map(|i| {
                    let expected = n as f64 * weights[i] / total;
                    (counts[i] - expected).powi(2) / expected
                })
                .sum();
            assert!(chi2 < 25.0, "cut {cut}, temperature {temperature}: {chi2} {counts:?}");
        }
    }

    proptest! {
        #[test]
        fn a_draw_depends_on_seed_choice_and_position_only(
            logits in prop::collection::vec(-5f32..5.0, 2..100), seed: u64, position: u64, choice: u32,
        ) {
            let params = SamplingParams { seed, choice, ..SamplingParams::default() };
            let mut used = Sampler::new(params.clone()).unwrap();
            for other in 0..5 {
                used.sample(&logits, &[1], other).unwrap();
            }
            let fresh = Sampler::new(params).unwrap().sample(&logits, &[], position).unwrap();
            prop_assert_eq!(used.sample(&logits, &[], position).unwrap(), fresh);
            prop_assert!((fresh as usize) < logits.len());
        }

        #[test]
        fn ruled_out_tokens_are_never_drawn(seed: u64, position: u64, temperature in 0.01f32..50.0) {
            let mut s = sampler(|_| {});
            s.params.seed = seed;
            s.params.temperature = temperature;
            let logits = [f32::NEG_INFINITY, 0.0, f32::NEG_INFINITY, -3.0, f32::NEG_INFINITY];
            prop_assert!([1, 3].contains(&s.sample(&logits, &[], position).unwrap()));
        }

        #[test]
        fn top_k_of_one_is_greedy(logits in prop::collection::vec(-5f32..5.0, 1..200), seed: u64) {
            let mut s = sampler(|p| p.top_k = 1);
            s.params.seed = seed;
            prop_assert_eq!(s.sample(&logits, &[], 3).unwrap(), argmax(&logits));
        }
    }
}
