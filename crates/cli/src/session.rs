//! A loaded model that is talked to.

use std::time::Instant;

use anyhow::Result;
use engine::{Engine, EngineOptions};
use hub::Missing;
use model::sampler::SamplingParams;
use model::tokenizer::{EncodeOptions, TokenKind, Tokenizer};

use crate::chat::Message;
use crate::context::{Context, Keep, Numbers};
use crate::generation::{Answer, generate};
use crate::prompt::ChatPrompt;
use crate::settings::Settings;
use crate::ui::error::Hinted;

/// Positions that one step of the engine computes at most: enough to keep every core busy, few enough to look out for
/// Ctrl-C between steps.
const BATCH: usize = 512;

/// Takes text as it becomes certain.
pub type Sink<'a> = &'a mut dyn FnMut(&str) -> Result<()>;

pub struct LoadOptions {
    /// The context that the user asked for.
    pub positions: Option<usize>,
    pub numbers: Numbers,
    /// Use no chat template.
    pub raw: bool,
}

/// Answers one request at a time. What one request has computed, the next can start from.
pub struct Session {
    /// What the model is called.
    pub name: String,
    /// The model's own settings.
    pub sampling: SamplingParams,
    engine: Engine,
    tokenizer: Tokenizer,
    /// `None` where text is continued as it is.
    prompt: Option<ChatPrompt>,
    stop_tokens: Vec<u32>,
    load_s: f64,
    /// The last answer to a chat: what later prompts begin with.
    said: Option<Said>,
}

/// A rendered prompt with the answer to it, as text and as the tokens that the model saw and chose.
struct Said {
    text: String,
    tokens: Vec<u32>,
}

impl Session {
    /// Loads a model, which is pulled if it is not there.
    ///
    /// # Errors
    /// There is no such model, or it cannot be run.
    pub fn load(context: &Context, model: &str, options: LoadOptions) -> Result<Self> {
        let location = context.locate(model, Missing::Pull)?;
        let start = Instant::now();
        let loaded = context.load_from(&location.path, options.numbers, Keep::Image)?;
        let made_for = loaded.config.context;
        if let Some(asked) = options.positions.filter(|&asked| asked > made_for) {
            context.ui.warn(&format!("--context {asked}: the model was made for {made_for} positions"));
        }
        let positions = options.positions.unwrap_or(made_for);
        let limits = EngineOptions { context: positions, max_batch_tokens: BATCH, max_sequences: 1 };
        let prompt = if options.raw { None } else { ChatPrompt::new(&loaded.templates, &loaded.tokenizer)? };
        Ok(Self {
            name: location.name,
            sampling: loaded.sampling,
            engine: Engine::new(loaded.program, limits)?,
            prompt,
            tokenizer: loaded.tokenizer,
            stop_tokens: loaded.stop_tokens,
            load_s: start.elapsed().as_secs_f64(),
            said: None,
        })
    }

    /// Positions of the context.
    pub fn context(&self) -> usize {
        self.engine.options().context
    }

    /// Whether there is a chat template to be used.
    pub fn can_chat(&self) -> bool {
        self.prompt.is_some()
    }

    /// Continues `text` as it is.
    ///
    /// # Errors
    /// As [`generate`].
    pub fn complete(&mut self, text: &str, settings: &Settings, sink: Sink) -> Result<Answer> {
        let tokens = self.tokenizer.encode(text, EncodeOptions { add_special: true, parse_special: true });
        self.generate(tokens, settings, sink)
    }

    /// Answers the last of `messages`.
    ///
    /// # Errors
    /// A model without a chat template, messages that its template refuses, or as [`generate`].
    pub fn chat(&mut self, messages: &[Message], settings: &Settings, sink: Sink) -> Result<Answer> {
        let Some(prompt) = &self.prompt else {
            return Err(Hinted::new("the model has no chat template", "--raw continues a PROMPT as it is").into());
        };
        let text = prompt.render(messages)?;
        let tokens = self.chat_tokens(&text);
        let answer = self.generate(tokens.clone(), settings, sink)?;
        // Where a stop string cut the answer, the tokens say more than the text.
        let same = self.tokenizer.decode(&answer.ids, false) == answer.text;
        self.said = same.then(|| Said { text: text + &answer.text, tokens: [tokens, answer.ids.clone()].concat() });
        Ok(answer)
    }

    /// The tokens of a rendered conversation. Where it goes on from the last answer, they go on from the tokens that the
    /// model chose: encoding its text again may give others, and all after them would have to be computed again.
    fn chat_tokens(&self, text: &str) -> Vec<u32> {
        if let Some(said) = &self.said
            && let Some(rest) = text.strip_prefix(&said.text)
        {
            let new = self.tokenizer.encode(rest, EncodeOptions::TEMPLATE);
            // Only where a control token stands between them do the parts not depend on each other.
            if new.first().is_some_and(|&token| self.tokenizer.token_kind(token) == Some(TokenKind::Control)) {
                return [&said.tokens[..], &new].concat();
            }
        }
        self.tokenizer.encode(text, EncodeOptions::TEMPLATE)
    }

    fn generate(&mut self, prompt: Vec<u32>, settings: &Settings, sink: Sink) -> Result<Answer> {
        let mut answer = generate(&mut self.engine, &self.tokenizer, prompt, &self.stop_tokens, settings, sink)?;
        answer.timings.load_s = self.load_s;
        Ok(answer)
    }
}
