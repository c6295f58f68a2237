//! Perplexity of a text, and the divergence from a base model, scored as llama-perplexity does.
//!
//! The text is cut into windows of `context` tokens that follow one another; a rest is left out. Each window is a sequence
//! of its own, its first token replaced by BOS where the vocabulary adds one. In its second half, positions `context / 2`
//! to `context - 2`, each position's prediction of the next token is scored: so every scored token has at least half a
//! window before it.
//!
//! [`evaluate`] runs a model and its base side by side. For several models of one base, the base runs once: [`Kept`] holds
//! its logits of as many windows as have room, and each model's [`Tally`] grows by those.

mod kept;
mod windows;

use std::io;
use std::ops::{ControlFlow, Range};
use std::time::Instant;

use kernels::backend::{BackendError, Logits, Program};
use serde::Serialize;

use crate::cache::chunks;
use crate::scores::{Score, score};
pub use kept::Kept;
use windows::{Reader, Windows};

/// With fewer tokens in a window, its half would hold no prediction worth the name.
const MIN_CONTEXT: usize = 8;
/// Values of one batch's logits, 64 MiB: enough positions at once to compute at full speed, whatever the vocabulary.
pub(crate) const LOGITS_AT_ONCE: usize = 16 << 20;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EvaluateOptions {
    /// Tokens of a window; at least 8.
    pub context: usize,
    /// Replaces the first token of each window.
    pub bos: Option<u32>,
    /// Threads that score logits; at least 1.
    pub threads: usize,
}

#[derive(Debug, thiserror::Error)]
pub enum EvaluateError {
    #[error("the text has {tokens} tokens, at least one window of {context} was expected")]
    ShortText { tokens: usize, context: usize },
    #[error("a window of {0} tokens was asked for, at least {MIN_CONTEXT} were expected")]
    ShortContext(usize),
    #[error("the model has a vocabulary of {model} tokens, its base of {base}; equal ones were expected")]
    Vocabulary { model: usize, base: usize },
    #[error("token {token} at position {position} is outside the vocabulary of {vocab}")]
    UnknownToken { token: u32, position: usize, vocab: usize },
    #[error("the logits after position {position} of the text are not numbers")]
    NotANumber { position: usize },
    #[error("cannot keep the base model's logits in {folder}: {error}")]
    Keep { folder: String, error: io::Error },
    #[error("interrupted")]
    Interrupted,
    #[error(transparent)]
    Backend(#[from] BackendError),
}

/// How far an evaluation is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Progress {
    /// Windows done, and all.
    pub windows: (usize, usize),
    /// Over the windows done.
    pub perplexity: f64,
}

/// The divergences are absent without a base model.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Evaluation {
    /// Exponential of the mean negative log-likelihood per scored token.
    pub perplexity: f64,
    /// Standard error of the perplexity.
    pub perplexity_error: f64,
    /// Scored tokens.
    pub tokens: usize,
    /// Mean Kullback-Leibler divergence from the base model per scored position, in nats.
    pub kl_mean: Option<f64>,
    /// 99th percentile of the divergence.
    pub kl_p99: Option<f64>,
    pub kl_max: Option<f64>,
    /// Share of the positions where both models find the same token most likely.
    pub top1_agreement: Option<f64>,
    /// Wall time.
    pub seconds: f64,
}

/// Evaluates `program` on `tokens`, against `base` where there is one. `progress` may break off the work.
///
/// # Errors
/// A text shorter than a window, vocabularies that differ, tokens outside them, logits that are not numbers, or the
/// backend's.
pub fn evaluate(
    program: &mut dyn Program,
    base: Option<&mut dyn Program>,
    tokens: &[u32],
    options: &EvaluateOptions,
    progress: &mut dyn FnMut(Progress) -> ControlFlow<()>,
) -> Result<Evaluation, EvaluateError> {
    let start = Instant::now();
    check(program.vocab(), base.as_deref().map(Program::vocab), tokens, options)?;
    let base = base.map_or(Ok(Base::None), |base| Reader::new(base, options.context).map(Base::Live))?;
    let mut tally = Tally::default();
    tally.score(program, base, Windows::new(tokens, options), options.threads, progress)?;
    tally.seconds = start.elapsed().as_secs_f64();
    Ok(tally.finish())
}

/// What a model's logits are compared with.
enum Base<'a> {
    None,
    Live(Reader<'a>),
    Kept(&'a Kept),
}

impl Base<'_> {
    /// The base's logits `[positions, vocab]` in a window, whose positions before have been asked for; none where none are
    /// wanted, or there is no base.
    fn logits(
        &mut self,
        windows: &Windows,
        window: usize,
        positions: Range<usize>,
        wanted: Logits,
    ) -> Result<Option<Vec<f32>>, EvaluateError> {
        Ok(match (self, wanted) {
            (Base::Live(reader), _) => Some(reader.compute(&windows.inputs(window), positions, wanted)?),
            (Base::Kept(kept), Logits::All) => Some(kept.logits(windows, window, positions)?),
            _ => None,
        })
    }
}

/// How a model did on the windows so far.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    scores: Vec<Score>,
    seconds: f64,
}

impl Tally {
    /// Adds the windows that `kept` holds, of the same tokens and with the same options. `progress` may break off the work.
    ///
    /// # Errors
    /// As [`evaluate`], or the logits cannot be read back.
    pub fn add(
        &mut self,
        program: &mut dyn Program,
        kept: &Kept,
        tokens: &[u32],
        options: &EvaluateOptions,
        progress: &mut dyn FnMut(Progress) -> ControlFlow<()>,
    ) -> Result<(), EvaluateError> {
        let start = Instant::now();
        check(program.vocab(), Some(kept.vocab()), tokens, options)?;
        let windows = Windows { range: kept.windows(), ..Windows::new(tokens, options) };
        self.score(program, Base::Kept(kept), windows, options.threads, progress)?;
        self.seconds += start.elapsed().as_secs_f64();
        Ok(())
    }

    fn score(
        &mut self,
        program: &mut dyn Program,
        mut base: Base,
        windows: Windows,
        threads: usize,
        progress: &mut dyn FnMut(Progress) -> ControlFlow<()>,
    ) -> Result<(), EvaluateError> {
        let at_once = LOGITS_AT_ONCE / program.vocab().max(1);
        let mut own = Reader::new(program, windows.context)?;
        let scored = windows.scored();
        for window in windows.range.clone() {
            let inputs = windows.inputs(window);
            own.compute(&inputs, 0..scored.start, Logits::None)?;
            base.logits(&windows, window, 0..scored.start, Logits::None)?;
            for positions in chunks(scored.clone(), at_once) {
                let logits = own.compute(&inputs, positions.clone(), Logits::All)?;
                let other = base.logits(&windows, window, positions.clone(), Logits::All)?;
                let following = &windows.tokens(window)[positions.start + 1..positions.end + 1];
                let new = score_rows(&logits, other.as_deref(), following, threads);
                if let Some(row) =
                    new.iter().position(|s| s.nll.is_nan() || s.divergence.is_some_and(|d| d.kl.is_nan()))
                {
                    let position = window * windows.context + positions.start + row;
                    return Err(EvaluateError::NotANumber { position });
                }
                self.scores.extend(new);
            }
            let perplexity = perplexity(&self.scores).0;
            if progress(Progress { windows: (window + 1, windows.all()), perplexity }).is_break() {
                return Err(EvaluateError::Interrupted);
            }
        }
        Ok(())
    }

    /// The figures over all windows; those of the base are absent if there was none.
    pub fn finish(&self) -> Evaluation {
        summary(&self.scores, self.seconds)
    }
}

fn check(
    vocab: usize,
    base_vocab: Option<usize>,
    tokens: &[u32],
    options: &EvaluateOptions,
) -> Result<(), EvaluateError> {
    let context = options.context;
    if context < MIN_CONTEXT {
        return Err(EvaluateError::ShortContext(context));
    }
    if tokens.len() < context {
        return Err(EvaluateError::ShortText { tokens: tokens.len(), context });
    }
    if let Some(base) = base_vocab.filter(|base| *base != vocab) {
        return Err(EvaluateError::Vocabulary { model: vocab, base });
    }
    match tokens.iter().position(|t| *t as usize >= vocab) {
        Some(position) => Err(EvaluateError::UnknownToken { token: tokens[position], position, vocab }),
        None => Ok(()),
    }
}

/// Scores logits `[tokens, vocab]` on several threads; each row's score is computed by one of them alone.
pub(crate) fn score_rows(logits: &[f32], base: Option<&[f32]>, tokens: &[u32], threads: usize) -> Vec<Score> {
    let vocab = logits.len() / tokens.len();
    let per_thread = tokens.len().div_ceil(threads.max(1));
    let mut scores = vec![Score::default(); tokens.len()];
    std::thread::scope(|scope| {
        for (part, out) in scores.chunks_mut(per_thread).enumerate() {
            scope.spawn(move || {
                for (i, out) in out.iter_mut().enumerate() {
                    let row = part * per_thread + i;
                    let range = row * vocab..(row + 1) * vocab;
                    *out = score(&logits[range.clone()], base.map(|b| &b[range]), tokens[row]);
                }
            });
        }
    });
    scores
}

/// The perplexity and its standard error.
fn perplexity(scores: &[Score]) -> (f64, f64) {
    let n = scores.len() as f64;
    let mean = scores.iter().map(|s| s.nll).sum::<f64>() / n;
    let variance = scores.iter().map(|s| s.nll * s.nll).sum::<f64>() / n - mean * mean;
    let perplexity = mean.exp();
    (perplexity, perplexity * (variance.max(0.0) / (n - 1.0)).sqrt())
}

fn summary(scores: &[Score], seconds: f64) -> Evaluation {
    let (perplexity, perplexity_error) = perplexity(scores);
    let divergences: Vec<_> = scores.iter().filter_map(|s| s.divergence).collect();
    let n = divergences.len() as f64;
    let mut kl: Vec<f64> = divergences.iter().map(|d| d.kl).collect();
    kl.sort_unstable_by(f64::total_cmp);
    let some = |value: f64| (!divergences.is_empty()).then_some(value);
    Evaluation {
        perplexity,
        perplexity_error,
        tokens: scores.len(),
        kl_mean: some(kl.iter().sum::<f64>() / n),
        kl_p99: percentile(&kl, 0.99),
        kl_max: kl.last().copied(),
        top1_agreement: some(divergences.iter().filter(|d| d.same_top).count() as f64 / n),
        seconds,
    }
}

/// The value at a share of the sorted values, interpolated between neighbours; `None` of none.
fn percentile(sorted: &[f64], share: f64) -> Option<f64> {
    let at = share * sorted.len().checked_sub(1)? as f64;
    let (low, high) = (sorted[at.floor() as usize], sorted[at.ceil() as usize]);
    Some(low + (high - low) * at.fract())
}

#[cfg(test)]
mod tests;
