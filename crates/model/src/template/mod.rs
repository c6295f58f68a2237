//! Chat templates: the Jinja text that turns a conversation into a prompt, rendered as Jinja2 does where transformers
//! sets it up.
//!
//! Templates come with models, from anyone. They run with a bounded number of steps, in bounded time and memory, and reach
//! nothing but their inputs.

mod budget;
mod clock;
mod program;
mod python;

use std::error::Error as _;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use minijinja::value::{Kwargs, Rest, Serde, ValueOrKwargs};
use minijinja::{AutoEscape, Environment, Error, ErrorKind, State, Value, context, filters};

use budget::{Budget, Exceeded};
use program::Program;

/// What a rendering may use: some for itself, and more for each byte of its input, up to a largest input. Some templates
/// take steps for each pair of messages, or add every message to a text, so that it is much more.
struct Limit {
    base: u64,
    per_byte: u64,
}

const STEPS: Limit = Limit { base: 1_000_000, per_byte: 1024 };
/// Bytes of texts and values.
const BYTES: Limit = Limit { base: 16 << 20, per_byte: 4096 };
/// Values that are looked at when variables take them.
const VISITS: Limit = Limit { base: 1_000_000, per_byte: 128 };
const LARGEST_INPUT: u64 = 128 << 10;

impl Limit {
    /// For an input of `size` bytes, of which a rendering may at least make some copies.
    fn of(&self, size: usize) -> u64 {
        self.base + self.per_byte * (size as u64).min(LARGEST_INPUT) + 16 * size as u64
    }
}

/// Bytes of a template: the largest that are known have 20,000.
const MAX_SOURCE: usize = 1 << 18;

/// Why a prompt could not be made.
#[derive(Debug, thiserror::Error)]
pub enum TemplateError {
    /// The template is no valid Jinja, or fails on this conversation. The line is 0 where it is not known.
    #[error("chat template {name}, line {line}: {message}")]
    Failed { name: String, line: usize, message: String },
    /// The template refuses the conversation, in its own words.
    #[error("chat template {name} refuses the conversation: {message}")]
    Refused { name: String, message: String },
    /// The template runs too long.
    #[error("chat template {name}: expected at most {limit} steps, found more")]
    TooManySteps { name: String, limit: u64 },
    /// The template makes too much text, or too many values.
    #[error("chat template {name}: expected at most {limit} bytes of text and values, found more")]
    TooLong { name: String, limit: u64 },
    /// The template takes too much time for its steps.
    #[error("chat template {name}: expected an answer in seconds, found none")]
    TooSlow { name: String },
}

/// What a template is rendered with.
#[derive(Debug, Clone, Copy)]
pub struct ChatInput<'a> {
    /// A list of objects with `role` and `content`, and what else the template knows.
    pub messages: &'a serde_json::Value,
    /// A list of tools in the form of OpenAI's API.
    pub tools: Option<&'a serde_json::Value>,
    /// Whether to open the assistant's turn.
    pub add_generation_prompt: bool,
    pub bos_token: Option<&'a str>,
    pub eos_token: Option<&'a str>,
    /// Further variables, such as `enable_thinking`.
    pub extra: Option<&'a serde_json::Map<String, serde_json::Value>>,
    /// What `strftime_now` takes for now: seconds since 1970-01-01 00:00 in the user's time zone.
    pub now: i64,
}

/// A chat template that is known to compile.
#[derive(Debug)]
pub struct ChatTemplate {
    name: String,
    /// As [`program::prepare`] gives it.
    source: String,
}

/// The message of a template's `raise_exception`.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Raised(String);

impl ChatTemplate {
    /// Compiles a template. `name` stands in errors.
    ///
    /// # Errors
    /// When `source` is no valid Jinja, or too long.
    pub fn new(name: &str, source: &str) -> Result<Self, TemplateError> {
        if source.len() > MAX_SOURCE {
            let message = format!("expected at most {MAX_SOURCE} bytes, found {}", source.len());
            return Err(TemplateError::Failed { name: name.to_owned(), line: 0, message });
        }
        let compile = || {
            let source = program::prepare(&without_generation_tags(source))?;
            Program::compile(name, &source)?;
            Ok(source)
        };
        let source = guarded(name, compile)?.map_err(|error: Error| failed(name, &error))?;
        Ok(Self { name: name.to_owned(), source })
    }

    /// The prompt of a conversation.
    ///
    /// # Errors
    /// When the template fails on it, refuses it, or passes its limits.
    pub fn render(&self, input: &ChatInput) -> Result<String, TemplateError> {
        let size = json_size(input.messages) + input.tools.map_or(0, json_size);
        let budget = Arc::new(Budget::new(BYTES.of(size) as usize, VISITS.of(size)));
        let mut environment = environment(&budget);
        environment.set_fuel(Some(STEPS.of(size)));
        let render = || Program::compile(&self.name, &self.source)?.run(&environment, variables(input));
        guarded(&self.name, render)?.map_err(|error| self.explain(&error, size))
    }

    fn explain(&self, error: &Error, size: usize) -> TemplateError {
        let name = self.name.clone();
        let mut cause: Option<&dyn std::error::Error> = Some(error);
        while let Some(current) = cause {
            if let Some(Raised(message)) = current.downcast_ref() {
                return TemplateError::Refused { name, message: message.clone() };
            }
            match current.downcast_ref() {
                Some(Exceeded::Bytes) => return TemplateError::TooLong { name, limit: BYTES.of(size) },
                Some(Exceeded::Time) => return TemplateError::TooSlow { name },
                None => {}
            }
            if current.downcast_ref::<Error>().is_some_and(|error| error.kind() == ErrorKind::OutOfFuel) {
                return TemplateError::TooManySteps { name, limit: STEPS.of(size) };
            }
            cause = current.source();
        }
        failed(&self.name, error)
    }
}

/// Runs what may panic inside the engine. Nothing that it touches is used after a panic.
fn guarded<T>(name: &str, run: impl FnOnce() -> T) -> Result<T, TemplateError> {
    catch_unwind(AssertUnwindSafe(run)).map_err(|_| TemplateError::Failed {
        name: name.to_owned(),
        line: 0,
        message: "the template engine failed".to_owned(),
    })
}

/// What templates may call, with what they may use.
fn environment(budget: &Arc<Budget>) -> Environment<'static> {
    let mut environment = Environment::new();
    environment.set_auto_escape_callback(|_| AutoEscape::None);
    // It would show everything that the engine holds.
    environment.remove_global("debug");

    let of = |budget: &Arc<Budget>| budget.clone();
    let counted = of(budget);
    environment.set_formatter(move |out, _, value| {
        let text = python::str(value, counted.limit())?;
        counted.charge(text.len())?;
        out.write_str(&text).map_err(Error::from)
    });
    let counted = of(budget);
    environment.set_unknown_method_callback(move |state, value, method, arguments| {
        counted.call(method, value, arguments)?;
        minijinja_contrib::pycompat::unknown_method_callback(state, value, method, arguments)
    });
    environment.add_filter("<replace>", filters::replace);
    environment.add_filter("<join>", filters::join);
    environment.add_filter("<format>", filters::format);
    environment.add_filter("<indent>", python::indent);
    environment.add_filter("<batch>", filters::batch);
    environment.add_filter("<slice>", filters::slice);
    for (name, inner) in [
        ("replace", "<replace>"),
        ("join", "<join>"),
        ("format", "<format>"),
        ("indent", "<indent>"),
        ("batch", "<batch>"),
        ("slice", "<slice>"),
    ] {
        let counted = of(budget);
        environment.add_filter(name, move |state: &mut State, arguments: Rest<ValueOrKwargs>| {
            let arguments: Vec<Value> = arguments.into_values();
            if let Some((value, rest)) = arguments.split_first() {
                counted.call(name, value, rest)?;
            }
            state.apply_filter(inner, &arguments)
        });
    }
    let counted = of(budget);
    environment
        .add_filter("tojson", move |value: Value, keywords: Kwargs| python::tojson(&value, keywords, counted.limit()));
    let counted = of(budget);
    environment.add_filter("string", move |value: Value| python::str(&value, counted.limit()));
    // As in Jinja2, what is undefined has no items, and none cannot be iterated.
    environment.add_filter("items", |value: Value| match value.is_undefined() {
        true => Ok(Value::from(Vec::<Value>::new())),
        false => filters::items(&value),
    });
    environment.add_test("iterable", |value: Value| !value.is_none() && value.try_iter().is_ok());
    environment.add_function("raise_exception", |message: Value| -> Result<Value, Error> {
        let raised = Raised(message.to_string());
        Err(Error::new(ErrorKind::InvalidOperation, raised.0.clone()).with_source(raised))
    });

    environment.add_filter(program::VALUE, |value: Value| value);
    let counted = of(budget);
    environment.add_filter(program::MADE, move |value: Value| counted.made(&value).map(|()| value));
    let counted = of(budget);
    environment.add_filter(program::KEPT, move |value: Value| counted.kept(&value, false).map(|()| value));
    let counted = of(budget);
    environment.add_filter(program::KEPT_INSIDE, move |value: Value| counted.kept(&value, true).map(|()| value));
    let counted = of(budget);
    environment.add_filter(program::CONCATENATE, move |a: Value, b: Value| counted.concatenate(&a, &b));
    let counted = of(budget);
    environment.add_filter(program::ADD, move |a: Value, b: Value| counted.add(&a, &b));
    let counted = of(budget);
    environment.add_filter(program::SLICE, |value: Value, start: Value, stop: Value, step: Value| {
        python::slice(&value, &start, &stop, &step)
    });
    environment.add_filter(program::WALKED, |value: Value| match value.is_none() {
        true => Err(Error::new(ErrorKind::InvalidOperation, "none cannot be walked")),
        false => Ok(value),
    });
    environment.add_filter(program::MULTIPLY, move |a: Value, b: Value| counted.multiply(&a, &b));
    environment
}

fn variables(input: &ChatInput) -> Value {
    let now = input.now;
    let strftime_now = move |format: String| {
        clock::strftime(&format, now).map_err(|directive| {
            Error::new(ErrorKind::InvalidOperation, format!("strftime_now: directive {directive} is not known"))
        })
    };
    let fixed = context! {
        messages => Value::from(Serde(input.messages)),
        tools => Value::from(Serde(input.tools)),
        documents => (),
        add_generation_prompt => input.add_generation_prompt,
        strftime_now => Value::from_function(strftime_now),
    };
    // Absent tokens are undefined, not none: templates ask `is defined`.
    let tokens = [("bos_token", input.bos_token), ("eos_token", input.eos_token)];
    let tokens = Value::from_pairs(tokens.into_iter().filter_map(|(key, token)| Some((key, token?))));
    let extra = input.extra.map_or_else(|| context! {}, |extra| Value::from(Serde(extra)));
    context! { ..extra, ..fixed, ..tokens }
}

/// The template's name, the line where it is known, and everything the error says.
fn failed(name: &str, error: &Error) -> TemplateError {
    let mut message = error.detail().map_or_else(|| error.kind().to_string(), str::to_owned);
    let mut cause = error.source();
    while let Some(current) = cause {
        message = format!("{message}: {current}");
        cause = current.source();
    }
    TemplateError::Failed { name: name.to_owned(), line: error.line().unwrap_or(0), message }
}

/// At least the bytes of all strings in `value`.
fn json_size(value: &serde_json::Value) -> usize {
    match value {
        serde_json::Value::String(text) => text.len(),
        serde_json::Value::Array(items) => items.iter().map(json_size).sum(),
        serde_json::Value::Object(items) => items.iter().map(|(key, item)| key.len() + json_size(item)).sum(),
        _ => 24,
    }
}

/// `{% generation %}` marks what the assistant wrote, for training. Here it is a block that always applies.
fn without_generation_tags(source: &str) -> String {
    let mut out = String::with_capacity(source.len());
    let mut rest = source;
    while let Some(start) = rest.find("{%") {
        let (before, after) = (&rest[..start], &rest[start + 2..]);
        let Some(length) = after.find("%}") else { break };
        let tag = &after[..length];
        let word = tag.trim_start_matches(['-', '+']).trim_end_matches(['-', '+']).trim();
        out.push_str(before);
        out.push_str("{%");
        out.push_str(&match word {
            "generation" => tag.replace(word, "if true"),
            "endgeneration" => tag.replace(word, "endif"),
            _ => tag.to_owned(),
        });
        out.push_str("%}");
        rest = &after[length + 2..];
    }
    out.push_str(rest);
    out
}
