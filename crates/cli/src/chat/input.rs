//! The line editor of a chat.

use std::borrow::Cow;
use std::path::PathBuf;

use anyhow::Result;
use rustyline::completion::{Completer, FilenameCompleter, Pair};
use rustyline::error::ReadlineError;
use rustyline::highlight::Highlighter;
use rustyline::hint::Hinter;
use rustyline::history::FileHistory;
use rustyline::validate::{ValidationContext, ValidationResult, Validator};
use rustyline::{CompletionType, Config, Context, Editor, Helper};

use super::command::{self, COMMANDS};
use crate::settings::SETTINGS;
use crate::ui::style::Style;

const PROMPT: &str = ">>> ";

/// Inputs that the history keeps.
const HISTORY: usize = 1000;

/// What the editor gives back.
pub enum Input {
    Text(String),
    /// Ctrl-C: the line was thrown away.
    Interrupted,
    /// Ctrl-D on an empty line, or the terminal is gone.
    End,
}

/// Edits lines on the terminal; remembers them in a file that only its owner can read.
pub struct LineEditor {
    editor: Editor<Assistant, FileHistory>,
    history: Option<PathBuf>,
}

impl LineEditor {
    /// An editor whose history lives in `history`; without a file it lives as long as the chat.
    pub fn new(history: Option<PathBuf>, style: Style) -> Result<Self> {
        let config = Config::builder()
            .max_history_size(HISTORY)?
            .history_ignore_space(true)
            .completion_type(CompletionType::List)
            .build();
        let mut editor = Editor::with_config(config)?;
        editor.set_helper(Some(Assistant { style, files: FilenameCompleter::new() }));
        if let Some(file) = &history
            && file.exists()
        {
            editor.load_history(file)?;
        }
        Ok(Self { editor, history })
    }

    /// Reads one input, which may span lines.
    pub fn read(&mut self) -> Result<Input> {
        match self.editor.readline(PROMPT) {
            Ok(text) => {
                self.remember(&text)?;
                Ok(Input::Text(text))
            }
            Err(ReadlineError::Interrupted) => Ok(Input::Interrupted),
            Err(ReadlineError::Eof) => Ok(Input::End),
            Err(error) => Err(error.into()),
        }
    }

    fn remember(&mut self, text: &str) -> Result<()> {
        if !text.trim().is_empty()
            && self.editor.add_history_entry(text)?
            && let Some(file) = &self.history
        {
            // The editor creates the file for its owner alone.
            self.editor.append_history(file)?;
        }
        Ok(())
    }
}

/// Helps while typing: completes commands, settings and files, and waits for all lines of a long input.
struct Assistant {
    style: Style,
    files: FilenameCompleter,
}

impl Validator for Assistant {
    fn validate(&self, context: &mut ValidationContext) -> rustyline::Result<ValidationResult> {
        Ok(match command::is_incomplete(context.input()) {
            true => ValidationResult::Incomplete,
            false => ValidationResult::Valid(None),
        })
    }
}

impl Completer for Assistant {
    type Candidate = Pair;

    fn complete(&self, line: &str, pos: usize, _: &Context) -> rustyline::Result<(usize, Vec<Pair>)> {
        let typed = &line[..pos];
        if typed.starts_with("/save ") || typed.starts_with("/load ") {
            return self.files.complete_path(line, pos);
        }
        if let Some(name) = typed.strip_prefix("/set ") {
            return Ok((pos - name.len(), candidates(SETTINGS.iter().map(|s| s.name), name)));
        }
        match typed.starts_with('/') {
            true => Ok((0, candidates(COMMANDS.iter().map(|(name, ..)| *name), typed))),
            false => Ok((pos, Vec::new())),
        }
    }
}

impl Highlighter for Assistant {
    fn highlight_prompt<'b, 's: 'b, 'p: 'b>(&'s self, prompt: &'p str, _: bool) -> Cow<'b, str> {
        self.style.accent(prompt).into()
    }
}

impl Hinter for Assistant {
    type Hint = String;

    /// What a command takes, shown behind it until it is typed.
    fn hint(&self, line: &str, pos: usize, _: &Context) -> Option<String> {
        let (name, argument, _) = COMMANDS.iter().find(|(name, ..)| *name == line.trim_end())?;
        let space = if line.len() == name.len() { " " } else { "" };
        (pos == line.len() && !argument.is_empty()).then(|| format!("{space}{argument}"))
    }
}

impl Helper for Assistant {}

fn candidates<'a>(words: impl Iterator<Item = &'a str>, typed: &str) -> Vec<Pair> {
    let matching = words.filter(|word| word.starts_with(typed));
    matching.map(|word| Pair { display: word.to_owned(), replacement: format!("{word} ") }).collect()
}
