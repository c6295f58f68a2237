//! `run`: one answer, or a chat.

use std::io::{IsTerminal, stdin, stdout};
use std::time::Duration;

use anyhow::Result;
use model::sampler::SamplingParams;

use crate::chat::{self, Message, Role};
use crate::context::{Context, MODEL_HELP, NumbersArg};
use crate::generation::Finish;
use crate::input;
use crate::session::{LoadOptions, Session};
use crate::settings::{Settings, random_seed};
use crate::ui::error::{Interrupted, Usage};

/// How long a pipe beside a PROMPT may stay silent.
const PATIENCE: Duration = Duration::from_secs(3);

/// Run a model: one answer, or a chat
///
/// Pulls the model if it is not there. With a PROMPT or piped input it prints the answer and ends, else it chats.
/// Input piped to it is the prompt, or follows PROMPT after an empty line; a pipe that stays silent for three seconds
/// beside a PROMPT is left unread, with a warning.
///
/// What is not given comes from the model's own settings, else: temperature 0.8, top-k 40, top-p 0.95, min-p 0.05.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  edgeling run smollm2 \"Why is the sky blue?\"
  edgeling run smollm2
  git diff | edgeling run smollm2 \"Write a commit message for this change:\" --temperature 0
  edgeling run model.gguf --raw \"Once upon a time\" --max-tokens 50 --seed 7 --json

With --json: {text, tokens, finish_reason, prompt_tokens, seed, timings{load_s, prefill_tps, decode_tps, \
first_token_s}}, where tokens counts those generated, finish_reason is stop, length (--max-tokens) or context (it is \
full), and first_token_s counts from the end of loading.")]
pub struct Args {
    #[arg(help = MODEL_HELP)]
    model: String,
    /// What to answer
    prompt: Option<String>,
    /// Continue the prompt as it is, without a chat template; special tokens in it are read as such
    #[arg(long)]
    raw: bool,
    /// Positions of the context; the model's own unless given
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    context: Option<u32>,
    #[command(flatten)]
    numbers: NumbersArg,
    #[command(flatten)]
    generation: GenerationArgs,
}

/// What shapes an answer.
#[derive(clap::Args)]
#[command(next_help_heading = "Generation")]
struct GenerationArgs {
    /// Tokens of the answer at most; the rest of the context unless given
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    max_tokens: Option<u32>,
    /// How freely to choose; 0 takes the most likely token
    #[arg(long, value_name = "T")]
    temperature: Option<f32>,
    /// Choose among this many of the most likely tokens; 0 for all
    #[arg(long, value_name = "K")]
    top_k: Option<usize>,
    /// Choose among the most likely tokens up to this probability; 1 for all
    #[arg(long, value_name = "P")]
    top_p: Option<f32>,
    /// Drop tokens less likely than this share of the likeliest; 0 for none
    #[arg(long, value_name = "P")]
    min_p: Option<f32>,
    /// Key of the random draws; random unless given
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// Instructions that stand before the conversation
    #[arg(long, value_name = "TEXT", conflicts_with = "raw")]
    system: Option<String>,
    /// Text that ends the answer; may be given several times
    #[arg(long, value_name = "TEXT", value_parser = clap::builder::NonEmptyStringValueParser::new())]
    stop: Vec<String>,
    /// Divides the logits of recent tokens; 1 changes nothing
    #[arg(long, value_name = "X")]
    repeat_penalty: Option<f32>,
    /// Subtracted from the logit of each recent token; 0 changes nothing
    #[arg(long, value_name = "X", allow_negative_numbers = true)]
    presence_penalty: Option<f32>,
    /// The same for each time that it occurred; 0 changes nothing
    #[arg(long, value_name = "X", allow_negative_numbers = true)]
    frequency_penalty: Option<f32>,
}

impl GenerationArgs {
    /// These settings over the model's own.
    ///
    /// # Errors
    /// One is outside its range.
    fn over(&self, mut sampling: SamplingParams) -> Result<Settings> {
        fn put<T: Copy>(place: &mut T, given: Option<T>) {
            *place = given.unwrap_or(*place);
        }
        put(&mut sampling.temperature, self.temperature);
        put(&mut sampling.top_k, self.top_k);
        put(&mut sampling.top_p, self.top_p);
        put(&mut sampling.min_p, self.min_p);
        put(&mut sampling.repetition_penalty, self.repeat_penalty);
        put(&mut sampling.presence_penalty, self.presence_penalty);
        put(&mut sampling.frequency_penalty, self.frequency_penalty);
        sampling.seed = self.seed.unwrap_or_else(random_seed);
        sampling.validate().map_err(|error| Usage(error.to_string()))?;
        Ok(Settings {
            sampling,
            max_tokens: self.max_tokens.map(|n| n as usize),
            stop: self.stop.clone(),
            system: self.system.clone(),
        })
    }
}

pub fn run(args: Args, context: &Context) -> Result<()> {
    // Wrong values are told before anything is loaded.
    args.generation.over(SamplingParams::default())?;
    let prompt = prompt(&args, context)?;
    if prompt.is_none() {
        check_chat(&args, context)?;
    }
    let options =
        LoadOptions { positions: args.context.map(|n| n as usize), numbers: args.numbers.into(), raw: args.raw };
    let mut session = Session::load(context, &args.model, options)?;
    let settings = args.generation.over(session.sampling.clone())?;
    match prompt {
        Some(prompt) => one_shot(&mut session, prompt, &settings, args.raw, context),
        None => chat::run(&mut session, settings, context),
    }
}

/// PROMPT and piped input as one text; `None` for a chat.
fn prompt(args: &Args, context: &Context) -> Result<Option<String>> {
    let Some(prompt) = &args.prompt else {
        if stdin().is_terminal() {
            return Ok(None);
        }
        let piped = without_last_break(input::required("a PROMPT")?);
        if piped.is_empty() {
            return Err(Usage("expected a PROMPT or text piped to standard input, which is empty".to_owned()).into());
        }
        return Ok(Some(piped));
    };
    let abandoned = || context.ui.warn("standard input is open but silent: only PROMPT is answered");
    Ok(Some(match input::beside(PATIENCE, abandoned)?.map(without_last_break) {
        Some(piped) if !piped.is_empty() => format!("{prompt}\n\n{piped}"),
        _ => prompt.clone(),
    }))
}

/// The line break that `echo` and editors put at the end is no part of what was meant.
fn without_last_break(mut text: String) -> String {
    if text.ends_with('\n') {
        text.pop();
    }
    if text.ends_with('\r') {
        text.pop();
    }
    text
}

fn check_chat(args: &Args, context: &Context) -> Result<()> {
    let instead =
        |problem: &str| Err(Usage(format!("{problem}: give a PROMPT, or pipe text to standard input")).into());
    if context.ui.json {
        return instead("a chat cannot be one JSON value");
    }
    if args.raw {
        return instead("--raw continues one text and cannot chat");
    }
    if !stdout().is_terminal() {
        return instead("a chat needs a terminal on standard output");
    }
    Ok(())
}

fn one_shot(session: &mut Session, prompt: String, settings: &Settings, raw: bool, context: &Context) -> Result<()> {
    let ui = &context.ui;
    let mut sink = |piece: &str| if ui.json { Ok(()) } else { Ok(ui.print_foreign(piece)?) };
    // Without a template there is but one thing to do with a prompt, unless there are instructions to heed.
    let plain = !session.can_chat() && settings.system.is_none();
    if plain && !raw {
        ui.warn("the model has no chat template: the prompt is continued as it is, as with --raw");
    }
    let answer = if plain {
        session.complete(&prompt, settings, &mut sink)?
    } else {
        let system = settings.system.iter().map(|text| Message::new(Role::System, text.clone()));
        let messages: Vec<_> = system.chain([Message::new(Role::User, prompt)]).collect();
        session.chat(&messages, settings, &mut sink)?
    };
    if answer.finish_reason == Finish::Interrupted {
        return Err(Interrupted.into());
    }
    if ui.json {
        ui.print_json(&answer)?;
    } else if !answer.text.ends_with('\n') {
        ui.print("\n")?;
    }
    if answer.finish_reason == Finish::Context {
        ui.warn(&format!("the answer ends where the context of {} tokens is full", session.context()));
    }
    Ok(())
}
