//! Chat templates: the Jinja text that turns a conversation into a prompt, rendered as Jinja2 does where transformers
//! sets it up.
//!
//! Templates come with models, from anyone. They run with a bounded number of steps and a bounded output, and reach
//! nothing but their inputs.

mod clock;
mod limited;
mod python;

use std::error::Error as _;
use std::panic::{AssertUnwindSafe, catch_unwind};

use minijinja::syntax::SyntaxConfig;
use minijinja::value::Serde;
use minijinja::{AutoEscape, Environment, Error, ErrorKind, Value, context};

use limited::LimitedWriter;

/// Steps of a rendering. A message takes some hundred, so this is enough for conversations of ten thousand.
const MAX_STEPS: u64 = 4_000_000;

/// Bytes of a prompt beyond those of its inputs.
const MAX_EXTRA_OUTPUT: usize = 64 << 20;

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
    /// The template writes too much.
    #[error("chat template {name}: expected at most {limit} bytes of output, found more")]
    TooLong { name: String, limit: usize },
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

/// A compiled chat template.
#[derive(Debug)]
pub struct ChatTemplate {
    name: String,
    /// Has one template, named `name`.
    environment: Environment<'static>,
}

/// The message of a template's `raise_exception`.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Raised(String);

impl ChatTemplate {
    /// Compiles a template. `name` stands in errors.
    ///
    /// # Errors
    /// When `source` is no valid Jinja.
    pub fn new(name: &str, source: &str) -> Result<Self, TemplateError> {
        let mut environment = Environment::new();
        let syntax = SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build();
        environment.set_syntax(syntax.map_err(|error| failed(name, &error))?);
        environment.set_fuel(Some(MAX_STEPS));
        environment.set_auto_escape_callback(|_| AutoEscape::None);
        environment.set_unknown_method_callback(minijinja_contrib::pycompat::unknown_method_callback);
        environment.set_formatter(|out, _, value| out.write_str(&python::str(value)?).map_err(Error::from));
        environment.add_filter("tojson", python::tojson);
        environment.add_filter("string", |value: Value| python::str(&value));
        // As in Jinja2, what is undefined has no items, and none cannot be iterated.
        environment.add_filter("items", |value: Value| match value.is_undefined() {
            true => Ok(Value::from(Vec::<Value>::new())),
            false => minijinja::filters::items(&value),
        });
        environment.add_test("iterable", |value: Value| !value.is_none() && value.try_iter().is_ok());
        environment.add_function("raise_exception", |message: Value| -> Result<Value, Error> {
            let raised = Raised(message.to_string());
            Err(Error::new(ErrorKind::InvalidOperation, raised.0.clone()).with_source(raised))
        });
        let added = environment.add_template_owned(name.to_owned(), without_generation_tags(source));
        added.map_err(|error| failed(name, &error))?;
        Ok(Self { name: name.to_owned(), environment })
    }

    /// The prompt of a conversation.
    ///
    /// # Errors
    /// When the template fails on it, refuses it, or passes its limits.
    pub fn render(&self, input: &ChatInput) -> Result<String, TemplateError> {
        let template = self.environment.get_template(&self.name).map_err(|error| failed(&self.name, &error))?;
        let limit = MAX_EXTRA_OUTPUT + json_size(input.messages) + input.tools.map_or(0, json_size);
        let mut out = LimitedWriter::new(limit);
        // Nothing that the closure touches is used after a panic but `out`, whose state is whole after every write.
        let render = || template.render_captured_to(variables(input), &mut out).map(drop);
        let Ok(rendered) = catch_unwind(AssertUnwindSafe(render)) else {
            let message = "the template engine failed".to_owned();
            return Err(TemplateError::Failed { name: self.name.clone(), line: 0, message });
        };
        match rendered {
            Ok(()) => Ok(out.into_text()),
            Err(_) if out.is_full() => Err(TemplateError::TooLong { name: self.name.clone(), limit }),
            Err(error) => Err(self.explain(&error)),
        }
    }

    fn explain(&self, error: &Error) -> TemplateError {
        let name = self.name.clone();
        let mut cause: Option<&dyn std::error::Error> = Some(error);
        while let Some(current) = cause {
            if let Some(Raised(message)) = current.downcast_ref() {
                return TemplateError::Refused { name, message: message.clone() };
            }
            if current.downcast_ref::<Error>().is_some_and(|error| error.kind() == ErrorKind::OutOfFuel) {
                return TemplateError::TooManySteps { name, limit: MAX_STEPS };
            }
            cause = current.source();
        }
        failed(&self.name, error)
    }
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
