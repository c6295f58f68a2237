//! A stream of text taken apart into thoughts, answer and tool calls.

use serde_json::{Map, Value};

use super::body::{Tools, is_between};
use super::json::JsonEnd;
use super::{Body, ChatFormat, ToolFormat};

/// Bytes that the name of a tool may have, with what else stands before its arguments.
const MAX_NAME: usize = 512;

/// A part of what a model wrote.
#[derive(Debug, Clone, PartialEq)]
pub enum ChatEvent {
    /// More of the thoughts.
    Reasoning(String),
    /// More of the answer.
    Content(String),
    ToolCall(ToolCall),
}

/// A call that is complete.
#[derive(Debug, Clone, PartialEq)]
pub struct ToolCall {
    pub name: String,
    pub arguments: Map<String, Value>,
}

/// Takes text piece by piece and gives what is certain. How the text is cut into pieces changes nothing but where texts are
/// cut. White space goes around markers and around thoughts; the rest of the text comes out unchanged, and a call that
/// cannot be read is part of the answer.
#[derive(Debug, Clone)]
pub struct ChatStream {
    format: ChatFormat,
    tools: Tools,
    state: State,
    /// Text that nothing was decided about.
    held: String,
    /// Whether white space goes until other text comes.
    trims: bool,
    /// Whether thoughts may begin here: before any answer, and behind a call.
    may_think: bool,
    /// Whether nothing of an answer has come, so that it may begin with a call without a marker.
    fresh: bool,
}

#[derive(Debug, Clone)]
enum State {
    Content,
    Reasoning,
    Call(Call),
}

/// How far a call in `held` has been read; its opening marker is not there any more.
#[derive(Debug, Clone)]
struct Call {
    format: &'static ToolFormat,
    /// Bytes of `held` that need not be looked at again.
    seen: usize,
    phase: Phase,
}

#[derive(Debug, Clone)]
enum Phase {
    /// Before the text that separates a name from JSON.
    Name,
    /// Between JSON values, of which there have been some.
    Between(usize),
    /// In one, and how many came before.
    Json(JsonEnd, usize),
    /// Before the closing marker.
    Text,
}

/// What is known of a call.
enum Progress {
    More,
    /// It is `held[..body]`, and with its marker `held[..end]`.
    Whole {
        body: usize,
        end: usize,
    },
    /// It is none, as `held[..end]` shows.
    Broken {
        end: usize,
    },
}

impl ChatStream {
    /// For a model with these formats that was told of `tools`, a list in the form of OpenAI's API; without tools, what looks
    /// like a call is part of the answer. `in_reasoning` says that the prompt ended inside thoughts.
    pub fn new(format: ChatFormat, tools: Option<&Value>, in_reasoning: bool) -> Self {
        let tools = tools.map(Tools::new).unwrap_or_default();
        let in_reasoning = in_reasoning && format.reasoning.is_some();
        let format = ChatFormat { tools: format.tools.filter(|_| !tools.is_empty()), ..format };
        Self {
            format,
            tools,
            state: if in_reasoning { State::Reasoning } else { State::Content },
            held: String::new(),
            trims: in_reasoning,
            may_think: format.reasoning.is_some() && !in_reasoning,
            fresh: true,
        }
    }

    /// What is certain with this text.
    pub fn push(&mut self, text: &str) -> Vec<ChatEvent> {
        self.held.push_str(text);
        let mut events = Vec::new();
        while self.step(&mut events) {}
        events
    }

    /// What is left at the end.
    pub fn finish(mut self) -> Vec<ChatEvent> {
        let mut events = Vec::new();
        let held = std::mem::take(&mut self.held);
        match std::mem::replace(&mut self.state, State::Content) {
            State::Reasoning => emit(&mut events, ChatEvent::Reasoning, held.trim_end()),
            State::Content => emit(&mut events, ChatEvent::Content, if self.trims { held.trim() } else { &held }),
            // The end of the text stands for the closing marker.
            State::Call(call) => match call.format.body.parse(&held, &self.tools) {
                Some(calls) => self.take_calls(calls, &mut events),
                None => self.give_back(call.format, &held, &mut events),
            },
        }
        events
    }

    /// Decides about some of `held`; `false` where more text must come first.
    fn step(&mut self, events: &mut Vec<ChatEvent>) -> bool {
        if self.trims {
            let space = self.held.len() - self.held.trim_start().len();
            self.held.drain(..space);
            if self.held.is_empty() {
                return false;
            }
        }
        match &mut self.state {
            State::Content => self.content(events),
            State::Reasoning => self.reasoning(events),
            State::Call(call) => {
                let progress = call.read(&self.held);
                let format = call.format;
                self.call(format, progress, events)
            }
        }
    }

    fn reasoning(&mut self, events: &mut Vec<ChatEvent>) -> bool {
        let Some(format) = self.format.reasoning else { return false };
        if let Some(at) = self.held.find(format.close) {
            emit(events, ChatEvent::Reasoning, self.held[..at].trim_end());
            self.held.drain(..at + format.close.len());
            self.state = State::Content;
            self.trims = true;
            return true;
        }
        let certain = certain(&self.held, [format.close].into_iter());
        self.release(certain, ChatEvent::Reasoning, events);
        false
    }

    fn content(&mut self, events: &mut Vec<ChatEvent>) -> bool {
        let begin = self.held.trim_start();
        if let Some(format) = self.format.reasoning.filter(|_| self.may_think) {
            if let Some(rest) = begin.strip_prefix(format.open) {
                self.held = rest.to_owned();
                self.state = State::Reasoning;
                (self.may_think, self.trims) = (false, true);
                return true;
            }
            if format.open.starts_with(begin) {
                return false;
            }
        }
        if let Some(format) = self.format.tools.filter(|format| format.open.is_empty() && self.fresh) {
            if begin.is_empty() {
                return false;
            }
            if begin.starts_with('{') {
                self.held.drain(..self.held.len() - begin.len());
                return self.open(format);
            }
        }
        let format = self.format;
        let answer = format.reasoning.map(|format| format.answer).unwrap_or_default();
        let (open, frame) = format.tools.map_or(("", &[][..]), |format| (format.open, format.frame));
        let markers = || [open].into_iter().chain(frame.iter().copied()).chain(answer.iter().copied());
        let found = markers()
            .filter(|marker| !marker.is_empty())
            .filter_map(|marker| Some((self.held.find(marker)?, std::cmp::Reverse(marker.len()), marker)));
        if let Some((at, _, marker)) = found.min() {
            let before = self.held[..at].trim_end().to_owned();
            self.took(before.is_empty());
            emit(events, ChatEvent::Content, &before);
            self.held.drain(..at + marker.len());
            self.trims = true;
            if let Some(format) = format.tools.filter(|format| format.open == marker) {
                return self.open(format);
            }
            return true;
        }
        let certain = certain(&self.held, markers());
        self.took(self.held[..certain].trim_start().is_empty());
        self.release(certain, ChatEvent::Content, events);
        false
    }

    fn open(&mut self, format: &'static ToolFormat) -> bool {
        let phase = match format.body {
            Body::Json | Body::JsonByName => Phase::Between(0),
            Body::NameAndJson { .. } => Phase::Name,
            Body::Tags(_) | Body::Python | Body::Braces => Phase::Text,
        };
        self.trims = false;
        self.state = State::Call(Call { format, seen: 0, phase });
        true
    }

    /// Notes that text of an answer came, unless it was none.
    fn took(&mut self, nothing: bool) {
        if !nothing {
            (self.fresh, self.may_think, self.trims) = (false, false, false);
        }
    }

    /// Emits the first bytes of `held`.
    fn release(&mut self, bytes: usize, kind: fn(String) -> ChatEvent, events: &mut Vec<ChatEvent>) {
        if bytes > 0 {
            self.trims = false;
            let rest = self.held.split_off(bytes);
            emit(events, kind, &std::mem::replace(&mut self.held, rest));
        }
    }

    fn call(&mut self, format: &'static ToolFormat, progress: Progress, events: &mut Vec<ChatEvent>) -> bool {
        let (body, end) = match progress {
            Progress::More => return false,
            Progress::Whole { body, end } => (Some(body), end),
            Progress::Broken { end } => (None, end),
        };
        let rest = self.held.split_off(end);
        let held = std::mem::replace(&mut self.held, rest);
        let calls = body.and_then(|body| format.body.parse(&held[..body], &self.tools));
        // Without a marker, only a call of a known tool is one.
        let calls =
            calls.filter(|calls| !format.open.is_empty() || calls.iter().all(|call| self.tools.has(&call.name)));
        match calls {
            Some(calls) => self.take_calls(calls, events),
            None => self.give_back(format, &held, events),
        }
        self.state = State::Content;
        true
    }

    fn take_calls(&mut self, calls: Vec<ToolCall>, events: &mut Vec<ChatEvent>) {
        events.extend(calls.into_iter().map(ChatEvent::ToolCall));
        (self.trims, self.fresh, self.may_think) = (true, true, self.format.reasoning.is_some());
    }

    /// The text of a call that is none, with its marker.
    fn give_back(&mut self, format: &ToolFormat, text: &str, events: &mut Vec<ChatEvent>) {
        emit(events, ChatEvent::Content, format.open);
        emit(events, ChatEvent::Content, text);
        self.took(false);
    }
}

impl Call {
    /// Reads on in `held`.
    fn read(&mut self, held: &str) -> Progress {
        let close = self.format.close;
        loop {
            let rest = &held[self.seen..];
            match &mut self.phase {
                Phase::Text => {
                    if let Some(at) = rest.find(close) {
                        let body = self.seen + at;
                        return Progress::Whole { body, end: body + close.len() };
                    }
                    self.seen += certain(rest, [close].into_iter());
                    return Progress::More;
                }
                Phase::Name => {
                    let Body::NameAndJson { separator, .. } = self.format.body else {
                        return Progress::Broken { end: 0 };
                    };
                    match held.find(separator).filter(|&at| at <= MAX_NAME) {
                        Some(at) => {
                            self.seen = at + separator.len();
                            self.phase = Phase::Between(0);
                        }
                        None if held.len() > MAX_NAME + separator.len() => {
                            let boundary = (0..=MAX_NAME).rev().find(|&at| held.is_char_boundary(at));
                            return Progress::Broken { end: boundary.unwrap_or(0) };
                        }
                        None => return Progress::More,
                    }
                }
                Phase::Between(values) => {
                    let text = rest.trim_start_matches(is_between);
                    let at = held.len() - text.len();
                    let enough = *values > 0;
                    if enough && text.starts_with(close) {
                        return Progress::Whole { body: at, end: at + close.len() };
                    }
                    if text.is_empty() || (enough && close.starts_with(text)) {
                        return Progress::More;
                    }
                    let single = matches!(self.format.body, Body::NameAndJson { .. });
                    if !text.starts_with(['{', '[']) || (enough && single) {
                        return Progress::Broken { end: at };
                    }
                    self.seen = at;
                    self.phase = Phase::Json(JsonEnd::default(), *values);
                }
                Phase::Json(json, values) => match rest.bytes().position(|byte| json.ends_with(byte)) {
                    None => {
                        self.seen = held.len();
                        return Progress::More;
                    }
                    Some(last) => {
                        self.seen += last + 1;
                        if close.is_empty() {
                            return Progress::Whole { body: self.seen, end: self.seen };
                        }
                        self.phase = Phase::Between(*values + 1);
                    }
                },
            }
        }
    }
}

fn emit(events: &mut Vec<ChatEvent>, kind: fn(String) -> ChatEvent, text: &str) {
    if !text.is_empty() {
        events.push(kind(text.to_owned()));
    }
}

/// Bytes of `text` before what may become a marker, and before the white space before that.
fn certain(text: &str, markers: impl Iterator<Item = &'static str>) -> usize {
    let begins = |marker: &str| {
        let longest = text.len().min(marker.len().saturating_sub(1));
        let fits = |bytes: &usize| marker.as_bytes().starts_with(&text.as_bytes()[text.len() - bytes..]);
        (1..=longest).rev().find(fits).unwrap_or(0)
    };
    let held = markers.map(begins).max().unwrap_or(0);
    text[..text.len() - held].trim_end().len()
}
