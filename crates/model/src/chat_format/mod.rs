//! How models write their thoughts and their tool calls, and how to take both out of a stream of text.
//!
//! The formats are rows of two tables. Which of them a model has follows from the text of its chat template and from its
//! special tokens, never from its name. Text must come with special tokens written out, since many markers are such; tokens
//! that end a generation must not be in it.

mod body;
mod json;
mod notation;
mod stream;
mod table;

pub use stream::{ChatEvent, ChatStream, ToolCall};
use table::{REASONING_FORMATS, TOOL_FORMATS};

/// How thoughts are set apart from the answer.
#[derive(Debug, PartialEq, Eq)]
pub struct ReasoningFormat {
    pub name: &'static str,
    /// Texts that are in a template of this format: all of one group.
    marks: &'static [&'static [&'static str]],
    pub open: &'static str,
    pub close: &'static str,
    /// Markers around the answer.
    answer: &'static [&'static str],
}

/// How a tool call is written.
#[derive(Debug, PartialEq, Eq)]
pub struct ToolFormat {
    pub name: &'static str,
    /// Texts that are in a template of this format: all of one group.
    marks: &'static [&'static [&'static str]],
    /// Or else special tokens that a model of this format has, all of them.
    tokens: &'static [&'static str],
    /// What begins a call, or several. Empty: a `{` that begins the answer.
    pub open: &'static str,
    /// What ends them. Empty: the end of the JSON.
    pub close: &'static str,
    /// Markers around all calls.
    frame: &'static [&'static str],
    body: Body,
}

/// What stands between `open` and `close`.
#[derive(Debug, PartialEq, Eq)]
enum Body {
    /// JSON objects with a name and arguments: one, a list, or one after the other.
    Json,
    /// The same with the name as the only key and the arguments as its value.
    JsonByName,
    /// A name, `separator`, and the arguments as a JSON object. The name ends at `name_end`, if that is there.
    NameAndJson { separator: &'static str, name_end: &'static str },
    /// A name and arguments between tags, each argument as text or as JSON.
    Tags(Tags),
    /// Calls as Python writes them, in a list.
    Python,
    /// `call:NAME{key:value}`, with strings between `<|"|>`.
    Braces,
}

/// What stands before and after each part; several calls follow each other.
#[derive(Debug, PartialEq, Eq)]
struct Tags {
    /// The first empty: there is one call, which begins with the name. Both empty: the name ends with the first key.
    name: [&'static str; 2],
    key: [&'static str; 2],
    value: [&'static str; 2],
}

/// The formats of one model.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ChatFormat {
    pub reasoning: Option<&'static ReasoningFormat>,
    pub tools: Option<&'static ToolFormat>,
}

impl ChatFormat {
    /// The formats that a chat template speaks of, or that the model's special tokens are for.
    pub fn detect(template: &str, has_token: impl Fn(&str) -> bool) -> Self {
        let speaks_of = |marks: &[&[&str]]| marks.iter().any(|group| group.iter().all(|mark| template.contains(mark)));
        let by_tokens = |row: &&ToolFormat| !row.tokens.is_empty() && row.tokens.iter().all(|token| has_token(token));
        Self {
            reasoning: REASONING_FORMATS.iter().find(|row| speaks_of(row.marks)),
            tools: TOOL_FORMATS.iter().find(|row| speaks_of(row.marks)).or_else(|| TOOL_FORMATS.iter().find(by_tokens)),
        }
    }

    /// Whether a prompt ends inside the model's thoughts, as those of some templates do.
    pub fn prompt_opens_reasoning(&self, prompt: &str) -> bool {
        self.reasoning.is_some_and(|format| prompt.trim_end().ends_with(format.open.trim_end()))
    }
}
