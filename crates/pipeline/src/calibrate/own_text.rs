//! A text to calibrate on where none is given: what the model itself writes.

use std::ops::ControlFlow;

use kernels::backend::{Logits, Program, Span, run};
use model::sampler::{Sampler, SamplingParams, uniform};

use super::CalibrateError;
use crate::cache::Cache;

/// Texts that are written side by side: enough for weights to be read for many tokens.
const TEXTS: usize = 32;
/// Tokens of each.
pub const OWN_CONTEXT: usize = 256;

/// Texts of [`OWN_CONTEXT`] tokens, one behind the other. Each begins with `bos`, where there is one, and a token by lot; the
/// others are drawn as the model has them, but for the least likely ones. The same tokens on every machine. `progress` is
/// told tokens done of each text, and may break off the work.
///
/// # Errors
/// A model whose logits are no numbers, what `progress` broke off, or the backend's.
pub fn own_text(
    program: &mut dyn Program,
    bos: Option<u32>,
    progress: &mut dyn FnMut(usize) -> ControlFlow<()>,
) -> Result<Vec<u32>, CalibrateError> {
    let vocab = program.vocab();
    let cache = Cache::new(program, TEXTS, OWN_CONTEXT)?;
    let sampler = |choice| {
        let params =
            SamplingParams { temperature: 1.0, top_k: 0, top_p: 0.95, min_p: 0.0, choice, ..Default::default() };
        Sampler::new(params)
    };
    let mut samplers = (0..TEXTS as u32).map(sampler).collect::<Result<Vec<_>, _>>()?;
    let by_lot = |text: u32| (uniform(0, text, 0) * vocab as f64) as u32;
    let mut texts: Vec<Vec<u32>> =
        (0..TEXTS as u32).map(|text| bos.into_iter().chain([by_lot(text)]).collect()).collect();
    let mut done = 0;
    while texts[0].len() < OWN_CONTEXT {
        let span = |(sequence, text)| {
            let text: &Vec<u32> = text;
            Span {
                tokens: &text[done..],
                position: done,
                reserved: OWN_CONTEXT,
                pages: cache.pages(sequence),
                states: cache.states(sequence),
                logits: Logits::Last,
            }
        };
        let spans: Vec<Span> = texts.iter().enumerate().map(span).collect();
        let logits = run(program, &spans)?.logits;
        done = texts[0].len();
        for ((text, sampler), logits) in texts.iter_mut().zip(&mut samplers).zip(logits.chunks_exact(vocab)) {
            let token = sampler.sample(logits, text, done as u64)?;
            text.push(token);
        }
        if progress(done).is_break() {
            return Err(CalibrateError::Interrupted);
        }
    }
    Ok(texts.concat())
}
