//! A conversation on the terminal.

mod command;
mod input;
mod transcript;

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use anyhow::Result;

use self::command::{COMMANDS, Command, Line};
use self::input::{Input, LineEditor};
use self::transcript::Transcript;
pub use self::transcript::{Message, Role};
use crate::context::Context;
use crate::generation::{Answer, Finish};
use crate::interrupt::Watch;
use crate::session::Session;
use crate::settings::{SETTINGS, Settings};
use crate::ui::error::{Hinted, print};
use crate::ui::table::fields;

/// In the home folder.
const HISTORY_FILE: &str = "chat_history";

struct Chat<'a> {
    session: &'a mut Session,
    settings: Settings,
    context: &'a Context,
    /// Without the system message, which is a setting.
    messages: Vec<Message>,
    last: Option<Answer>,
}

/// Talks until the user leaves.
///
/// # Errors
/// The terminal fails. What goes wrong with an answer or a command is shown, and the chat goes on.
pub fn run(session: &mut Session, settings: Settings, context: &Context) -> Result<()> {
    if !session.can_chat() {
        return Err(Hinted::new("the model has no chat template and cannot chat", "give a PROMPT to continue").into());
    }
    // Ctrl-C belongs to answers and to the line editor; between them it must not end the chat.
    let _watch = Watch::new();
    let mut editor = LineEditor::new(history_file(context), context.ui.out)?;
    let style = context.ui.err;
    let name = Path::new(&session.name).file_name().map_or(session.name.clone().into(), OsStr::to_string_lossy);
    eprintln!("{} {}", style.heading(&name), style.dim("· /help lists the commands, /bye or Ctrl-D leaves"));
    let mut chat = Chat { session, settings, context, messages: Vec::new(), last: None };
    loop {
        let line = match editor.read()? {
            Input::End => return Ok(()),
            Input::Interrupted => {
                eprintln!("{}", style.dim("/bye or Ctrl-D leaves"));
                continue;
            }
            Input::Text(text) => command::parse(&text),
        };
        let done = match line {
            Line::Empty => Ok(()),
            Line::Mistake(problem) => Err(anyhow::anyhow!(problem)),
            Line::Command(Command::Bye) => return Ok(()),
            Line::Command(command) => chat.obey(command),
            Line::Message(text) => chat.answer(text),
        };
        if let Err(error) = done {
            print(&error);
        }
    }
}

impl Chat<'_> {
    fn answer(&mut self, text: String) -> Result<()> {
        self.messages.push(Message::new(Role::User, text));
        let ui = &self.context.ui;
        let mut sink = |piece: &str| Ok(ui.print_foreign(piece)?);
        let answered = self.session.chat(&self.conversation(), &self.settings, &mut sink);
        let answer = match answered {
            Ok(answer) => answer,
            Err(error) => {
                // The question stays in the editor's history; without an answer it has no place in the conversation.
                self.messages.pop();
                return Err(error);
            }
        };
        ui.print(if answer.text.ends_with('\n') { "\n" } else { "\n\n" })?;
        match answer.finish_reason {
            Finish::Stop => {}
            Finish::Length => ui.note(&format!("stopped at max-tokens {}", answer.tokens)),
            Finish::Context => ui.note(&format!(
                "the context of {} tokens is full; /clear starts a new conversation",
                self.session.context()
            )),
            Finish::Interrupted => ui.note("stopped"),
        }
        self.messages.push(Message::new(Role::Assistant, answer.text.clone()));
        self.last = Some(answer);
        Ok(())
    }

    /// The messages that the model is to see.
    fn conversation(&self) -> Vec<Message> {
        let system = self.settings.system.iter().map(|text| Message::new(Role::System, text.clone()));
        system.chain(self.messages.iter().cloned()).collect()
    }

    fn obey(&mut self, command: Command) -> Result<()> {
        match command {
            Command::Set { name, value } => self.settings.set(&name, &value).map_err(anyhow::Error::msg)?,
            Command::Settings => self.list_settings(),
            Command::Show => self.show(),
            Command::Save(path) => self.save(&path)?,
            Command::Load(path) => self.load(&path)?,
            Command::Clear => {
                self.messages.clear();
                self.last = None;
            }
            Command::Help => self.help(),
            Command::Bye => {}
        }
        Ok(())
    }

    fn save(&self, path: &Path) -> Result<()> {
        let transcript = Transcript { model: self.session.name.clone(), messages: self.conversation() };
        transcript.save(path)?;
        self.context.ui.note(&format!("saved {} messages to {}", transcript.messages.len(), path.display()));
        Ok(())
    }

    fn load(&mut self, path: &Path) -> Result<()> {
        let mut messages = Transcript::load(path)?.messages;
        // An unanswered question at the end would be asked together with the next.
        messages.pop_if(|last| last.role == Role::User);
        let count = messages.len();
        self.settings.system = match messages.first() {
            Some(first) if first.role == Role::System => Some(messages.remove(0).content),
            _ => None,
        };
        self.messages = messages;
        self.last = None;
        self.context.ui.note(&format!("{count} messages from {}", path.display()));
        Ok(())
    }

    fn help(&self) {
        let style = self.context.ui.err;
        let rows: Vec<_> = COMMANDS.iter().map(|&(name, argument, _)| format!("{name} {argument}")).collect();
        let rows: Vec<_> = rows.iter().zip(COMMANDS).map(|(row, (.., help))| (row.as_str(), help.to_owned())).collect();
        eprint!("{}", fields(&rows, style));
        eprintln!(
            "{}",
            style.dim("\"\"\" begins and ends a message of several lines; so does a \\ at a line's end. Ctrl-C stops an answer.")
        );
    }

    fn list_settings(&self) {
        let values = self.settings.list().zip(&SETTINGS);
        let rows: Vec<_> =
            values.map(|((name, value), setting)| (name, format!("{value:<12}  {}", setting.help))).collect();
        eprint!("{}", fields(&rows, self.context.ui.err));
    }

    fn show(&self) {
        let per_second = |rate: Option<f64>| rate.map_or("–".to_owned(), |rate| format!("{rate:.1} tokens/s"));
        let mut rows = vec![
            ("model", self.session.name.clone()),
            ("context", format!("{} tokens", self.session.context())),
            ("messages", self.messages.len().to_string()),
        ];
        if let Some(last) = &self.last {
            rows.extend([
                ("used", format!("{} tokens", last.prompt_tokens + last.tokens)),
                ("last prompt", format!("{} tokens, {} of them known", last.prompt_tokens, last.reused)),
                ("last answer", format!("{} tokens", last.tokens)),
                ("prefill", per_second(last.timings.prefill_tps)),
                ("decode", per_second(last.timings.decode_tps)),
            ]);
        }
        eprint!("{}", fields(&rows, self.context.ui.err));
    }
}

/// The history's file in the home folder, which is made if it is not there; `None` where that cannot be: a chat without a
/// memory of inputs is better than none.
fn history_file(context: &Context) -> Option<PathBuf> {
    let home = context.home().ok()?;
    std::fs::create_dir_all(&home).ok()?;
    Some(home.join(HISTORY_FILE))
}
