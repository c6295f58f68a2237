//! One answer from the engine: text as it comes, then how it ended and what it took.

use std::time::Instant;

use anyhow::{Result, anyhow};
use engine::{AdmissionError, Engine, Event, FinishReason, Request};
use model::TextStream;
use model::tokenizer::Tokenizer;
use serde::Serialize;

use crate::interrupt::Watch;
use crate::settings::Settings;
use crate::ui::error::Hinted;

#[derive(Debug, Serialize)]
pub struct Answer {
    pub text: String,
    /// Tokens generated.
    pub tokens: usize,
    pub finish_reason: Finish,
    pub prompt_tokens: usize,
    pub seed: u64,
    pub timings: Timings,
    /// The ids of the generated tokens.
    #[serde(skip)]
    pub ids: Vec<u32>,
    /// Tokens of the prompt that an earlier answer had computed.
    #[serde(skip)]
    pub reused: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Finish {
    /// The model ended its turn, or a stop string came.
    Stop,
    /// As many tokens as were asked for.
    Length,
    /// The context is full.
    Context,
    /// Ctrl-C.
    Interrupted,
}

#[derive(Clone, Debug, Serialize)]
pub struct Timings {
    /// From the start of loading until the model was ready.
    pub load_s: f64,
    /// Tokens of the prompt that were computed, by the time until the first token.
    pub prefill_tps: Option<f64>,
    /// Tokens after the first, by the time that they took.
    pub decode_tps: Option<f64>,
    /// From the request until its first token.
    pub first_token_s: Option<f64>,
}

/// When things happened.
struct Clock {
    start: Instant,
    first: Option<Instant>,
    last: Option<Instant>,
}

impl Clock {
    fn token(&mut self) {
        let now = Instant::now();
        self.first.get_or_insert(now);
        self.last = Some(now);
    }

    fn timings(&self, load_s: f64, computed: usize, generated: usize) -> Timings {
        let first_token_s = self.first.map(|first| (first - self.start).as_secs_f64());
        let decoding = self.first.zip(self.last).map(|(first, last)| (last - first).as_secs_f64());
        let rate = |tokens: usize, seconds: f64| (tokens > 0 && seconds > 0.0).then(|| tokens as f64 / seconds);
        Timings {
            load_s,
            prefill_tps: first_token_s.and_then(|seconds| rate(computed, seconds)),
            decode_tps: decoding.and_then(|seconds| rate(generated.saturating_sub(1), seconds)),
            first_token_s,
        }
    }
}

/// Continues `prompt`; gives text to `sink` as soon as it is certain. Ctrl-C ends the answer, not the process.
///
/// # Errors
/// A prompt that does not fit the context, a setting outside its range, or the backend's, the model's or the sink's error.
pub fn generate(
    engine: &mut Engine,
    tokenizer: &Tokenizer,
    prompt: Vec<u32>,
    stop_tokens: &[u32],
    settings: &Settings,
    sink: &mut dyn FnMut(&str) -> Result<()>,
) -> Result<Answer> {
    let watch = Watch::new();
    let mut clock = Clock { start: Instant::now(), first: None, last: None };
    let prompt_tokens = prompt.len();
    let mut stream = TextStream::new(settings.stop.clone(), true)?;
    let id = engine.submit(request(prompt, stop_tokens, settings)).map_err(admission)?;

    let (mut text, mut ids, mut reused) = (String::new(), Vec::new(), 0);
    let mut emit = |piece: &str| {
        text.push_str(piece);
        if piece.is_empty() { Ok(()) } else { sink(piece) }
    };
    let finish_reason = 'answer: loop {
        if watch.pressed() {
            engine.cancel(id);
            break Finish::Interrupted;
        }
        // An answer that was cancelled before may still have something to tell.
        for event in engine.step()?.into_iter().filter(|event| event.id() == id) {
            match event {
                Event::Started { reused: found, .. } => reused = found,
                Event::Token { token, .. } => {
                    clock.token();
                    ids.push(token);
                    emit(&stream.push(tokenizer, token))?;
                    if stream.stopped() {
                        engine.cancel(id);
                        break 'answer Finish::Stop;
                    }
                }
                Event::Finished { reason, .. } => {
                    break 'answer match reason {
                        FinishReason::Stop => Finish::Stop,
                        FinishReason::Length => Finish::Length,
                        FinishReason::Context => Finish::Context,
                        FinishReason::Cancelled => Finish::Interrupted,
                    };
                }
                Event::Failed { error, .. } => return Err(error.into()),
            }
        }
    };
    emit(&stream.finish())?;
    let timings = clock.timings(0.0, prompt_tokens - reused, ids.len());
    Ok(Answer {
        text,
        tokens: ids.len(),
        finish_reason,
        prompt_tokens,
        seed: settings.sampling.seed,
        timings,
        ids,
        reused,
    })
}

fn request(tokens: Vec<u32>, stop_tokens: &[u32], settings: &Settings) -> Request {
    Request {
        tokens,
        params: settings.sampling.clone(),
        max_tokens: settings.max_tokens.unwrap_or(usize::MAX),
        stop_tokens: stop_tokens.to_vec(),
    }
}

fn admission(error: AdmissionError) -> anyhow::Error {
    match error {
        AdmissionError::PromptTooLong { .. } => Hinted::new(
            error.to_string(),
            "shorten the prompt, or give a larger --context; in a chat, /clear starts anew",
        )
        .into(),
        _ => anyhow!(error),
    }
}
