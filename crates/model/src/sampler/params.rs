//! What a request may ask of the sampler.

/// How the next token is chosen.
#[derive(Clone, Debug, PartialEq)]
pub struct SamplingParams {
    /// Divides the logits; 0 takes the most likely token.
    pub temperature: f32,
    /// Keeps this many of the most likely tokens; 0 keeps all.
    pub top_k: usize,
    /// Keeps the most likely tokens up to this much probability; 1 keeps all.
    pub top_p: f32,
    /// Keeps tokens at least this likely relative to the most likely one; 0 keeps all.
    pub min_p: f32,
    /// Divides positive and multiplies negative logits of recent tokens; 1 changes nothing.
    pub repetition_penalty: f32,
    /// Subtracted once from the logit of each recent token.
    pub presence_penalty: f32,
    /// Subtracted from the logit of a recent token for each time it occurs.
    pub frequency_penalty: f32,
    /// How many of the sequence's last tokens, the prompt's included, count as recent for the three penalties.
    pub penalty_window: usize,
    /// Key of the random draws.
    pub seed: u64,
    /// Which of several answers to one request this is; part of the key.
    pub choice: u32,
}

impl Default for SamplingParams {
    fn default() -> Self {
        Self {
            temperature: 0.8,
            top_k: 40,
            top_p: 0.95,
            min_p: 0.05,
            repetition_penalty: 1.0,
            presence_penalty: 0.0,
            frequency_penalty: 0.0,
            penalty_window: 64,
            seed: 0,
            choice: 0,
        }
    }
}

/// A parameter outside its range, or logits that give no distribution.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum SamplingError {
    #[error("{name} must be {expected}, not {found}")]
    Parameter { name: &'static str, expected: &'static str, found: f32 },
    #[error("the model gave {value} as the logit of token {token}; a finite number or -inf was expected")]
    Logit { token: usize, value: f32 },
    #[error("the model ruled out all {0} tokens of its vocabulary")]
    Nothing(usize),
}

impl SamplingParams {
    /// The most likely token at every position, the lowest id of equals.
    pub fn greedy() -> Self {
        Self { temperature: 0.0, top_k: 0, top_p: 1.0, min_p: 0.0, ..Self::default() }
    }

    /// Says which parameter is outside its range.
    ///
    /// # Errors
    /// [`SamplingError::Parameter`], with the range.
    pub fn validate(&self) -> Result<(), SamplingError> {
        let finite = |v: f32| v.is_finite();
        let check = |name, expected, found, ok: bool| {
            if ok { Ok(()) } else { Err(SamplingError::Parameter { name, expected, found }) }
        };
        let t = self.temperature;
        check("temperature", "0 or more", t, finite(t) && t >= 0.0)?;
        check("top_p", "over 0 and at most 1", self.top_p, self.top_p > 0.0 && self.top_p <= 1.0)?;
        check("min_p", "from 0 to 1", self.min_p, (0.0..=1.0).contains(&self.min_p))?;
        let r = self.repetition_penalty;
        check("repetition_penalty", "over 0", r, finite(r) && r > 0.0)?;
        check("presence_penalty", "a finite number", self.presence_penalty, finite(self.presence_penalty))?;
        check("frequency_penalty", "a finite number", self.frequency_penalty, finite(self.frequency_penalty))
    }

    /// Whether recent tokens change the logits.
    pub(super) fn penalizes(&self) -> bool {
        self.penalty_window > 0
            && (self.repetition_penalty != 1.0 || self.presence_penalty != 0.0 || self.frequency_penalty != 0.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_checked_and_named() {
        assert_eq!(SamplingParams::default().validate(), Ok(()));
        assert_eq!(SamplingParams::greedy().validate(), Ok(()));
        type Case = (&'static str, fn(&mut SamplingParams));
        let cases: [Case; 10] = [
            ("temperature", |p| p.temperature = -0.1),
            ("temperature", |p| p.temperature = f32::NAN),
            ("temperature", |p| p.temperature = f32::INFINITY),
            ("top_p", |p| p.top_p = 0.0),
            ("top_p", |p| p.top_p = 1.01),
            ("min_p", |p| p.min_p = -0.5),
            ("min_p", |p| p.min_p = f32::NAN),
            ("repetition_penalty", |p| p.repetition_penalty = 0.0),
            ("presence_penalty", |p| p.presence_penalty = f32::INFINITY),
            ("frequency_penalty", |p| p.frequency_penalty = f32::NAN),
        ];
        for (name, change) in cases {
            let mut params = SamplingParams::default();
            change(&mut params);
            let error = params.validate().unwrap_err().to_string();
            assert!(error.starts_with(&format!("{name} must be")), "{error}");
        }
    }
}
