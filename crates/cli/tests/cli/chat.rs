//! A chat on a pseudo-terminal, typed as a person would.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Child;
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use rustix::fs::{Mode, OFlags};
use rustix::process::{Pid, Signal, kill_process};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{Winsize, tcsetwinsize};
use serde_json::Value;

use crate::support::{Edgeling, tiny};

const PROMPT: &str = ">>> ";
/// The editor turns bracketed paste off when it has taken a line.
const ACCEPTED: &str = "[?2004l\r\n";
/// Far longer than anything here takes.
const PATIENCE: Duration = Duration::from_secs(60);

/// A chat with a tiny model, seen from the terminal's other end.
struct Terminal {
    child: Child,
    keyboard: File,
    screen: Receiver<Vec<u8>>,
    /// What was shown and not yet waited for.
    seen: String,
}

impl Terminal {
    fn chat(edgeling: &Edgeling, extra: &[&str]) -> Self {
        let near = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
        grantpt(&near).unwrap();
        unlockpt(&near).unwrap();
        tcsetwinsize(&near, Winsize { ws_row: 40, ws_col: 120, ws_xpixel: 0, ws_ypixel: 0 }).unwrap();
        let path = ptsname(&near, Vec::new()).unwrap();
        let far = File::from(rustix::fs::open(path, OFlags::RDWR | OFlags::NOCTTY, Mode::empty()).unwrap());

        let model = tiny();
        let mut command = edgeling.command(&[&["run", &model, "--temperature", "0"][..], extra].concat());
        command.env("TERM", "xterm").env("NO_COLOR", "1");
        command.stdin(far.try_clone().unwrap()).stdout(far.try_clone().unwrap()).stderr(far);
        let child = command.spawn().unwrap();
        // The command holds the far end open as long as it lives.
        drop(command);

        let keyboard = File::from(near);
        let mut display = keyboard.try_clone().unwrap();
        let (sender, screen) = channel();
        std::thread::spawn(move || {
            let mut bytes = [0; 4096];
            // The read fails when the last process has closed the far end.
            while let Ok(n) = display.read(&mut bytes) {
                if n == 0 || sender.send(bytes[..n].to_vec()).is_err() {
                    break;
                }
            }
        });
        let mut terminal = Self { child, keyboard, screen, seen: String::new() };
        terminal.until(PROMPT);
        terminal
    }

    /// Waits until `text` is shown, and gives all up to its end.
    #[track_caller]
    fn until(&mut self, text: &str) -> String {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(at) = self.seen.find(text) {
                let rest = self.seen.split_off(at + text.len());
                return std::mem::replace(&mut self.seen, rest);
            }
            let left = deadline.saturating_duration_since(Instant::now());
            match self.screen.recv_timeout(left) {
                Ok(bytes) => self.seen.push_str(&String::from_utf8_lossy(&bytes)),
                Err(_) => panic!("{text:?} was never shown, but: {:?}", self.seen),
            }
        }
    }

    /// Types a line at the prompt, waits for `answer` and the next prompt, and gives all that was shown.
    #[track_caller]
    fn line(&mut self, text: &str, answer: &str) -> String {
        self.keys(text);
        self.keys("\r");
        let shown = self.until(answer);
        shown + &self.until(PROMPT)
    }

    /// Waits until something more is shown.
    fn more(&mut self) {
        if self.seen.is_empty() {
            let bytes = self.screen.recv_timeout(PATIENCE).unwrap();
            self.seen.push_str(&String::from_utf8_lossy(&bytes));
        }
    }

    fn keys(&mut self, keys: &str) {
        self.keyboard.write_all(keys.as_bytes()).unwrap();
    }

    fn signal(&self) {
        kill_process(Pid::from_child(&self.child), Signal::INT).unwrap();
    }

    fn ends_with(mut self, status: i32) {
        assert_eq!(self.child.wait().unwrap().code(), Some(status));
    }
}

fn saved(path: &Path) -> Value {
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

#[test]
fn a_conversation_is_held_saved_and_taken_up_again() {
    let edgeling = Edgeling::new();
    let file = edgeling.home.path().join("chat.json");
    let mut chat = Terminal::chat(&edgeling, &["--max-tokens", "4", "--system", "Be brief."]);
    chat.line("/help", "/load FILE");
    chat.line("hello", "stopped at max-tokens 4");
    chat.line("\"\"\"\r/two\rlines\r\"\"\"", "stopped at max-tokens 4");
    chat.line("one \\\rmore", "stopped at max-tokens 4");
    let shown = chat.line("/show", "last answer  4 tokens");
    assert!(shown.contains("messages     6"), "{shown}");
    chat.line(&format!("/save {}", file.display()), "saved 7 messages");

    let messages = saved(&file)["messages"].clone();
    assert_eq!(messages[0], serde_json::json!({ "role": "system", "content": "Be brief." }));
    let contents: Vec<_> = [1, 3, 5].map(|at| messages[at]["content"].as_str().unwrap()).to_vec();
    assert_eq!(contents, ["hello", "/two\nlines", "one \nmore"]);

    chat.line("/clear", ACCEPTED);
    let shown = chat.line("/show", "messages");
    assert!(shown.contains("messages  0"), "{shown}");
    chat.line(&format!("/load {}", file.display()), "7 messages from");
    chat.line(&format!("/save {}", file.display()), "saved 7 messages");
    assert_eq!(saved(&file)["messages"], messages);
    chat.keys("/bye\r");
    chat.ends_with(0);
}

#[test]
fn later_turns_compute_only_what_is_new() {
    let edgeling = Edgeling::new();
    let mut chat = Terminal::chat(&edgeling, &["--max-tokens", "8"]);
    chat.line("hello", "stopped at max-tokens 8");
    let shown = chat.line("/show", "known");
    assert!(shown.contains(", 0 of them known"), "{shown}");
    let used: usize = number_before(&shown, " tokens\r\nlast prompt");
    chat.line("and more", "stopped at max-tokens 8");
    let shown = chat.line("/show", "known");
    // The last token of an answer was chosen and never computed.
    assert!(number_before(&shown, " of them known") == used - 1, "{shown}");
    chat.keys("\x04");
    chat.ends_with(0);
}

/// The number that stands before `text`.
fn number_before(shown: &str, text: &str) -> usize {
    let before = &shown[..shown.find(text).unwrap()];
    before.rsplit(|c: char| !c.is_ascii_digit()).next().unwrap().parse().unwrap()
}

#[test]
fn ctrl_c_stops_an_answer_and_the_chat_goes_on() {
    let edgeling = Edgeling::new();
    let mut chat = Terminal::chat(&edgeling, &["--context", "1000000"]);
    chat.keys("hello\r");
    chat.until(ACCEPTED);
    chat.more();
    chat.signal();
    chat.until("note: stopped");
    chat.until(PROMPT);
    chat.keys("half a line\x03");
    chat.until("Ctrl-D leaves");
    chat.line("/show", "messages");
    chat.keys("\x04");
    chat.ends_with(0);
}

#[test]
fn settings_change_and_mistakes_are_explained() {
    let edgeling = Edgeling::new();
    let mut chat = Terminal::chat(&edgeling, &["--context", "24"]);
    chat.line("/set max-tokens 2", ACCEPTED);
    chat.line("hi", "stopped at max-tokens 2");
    let settings = chat.line("/set", "frequency-penalty");
    assert!(settings.contains("max-tokens         2 "), "{settings}");
    chat.line("/set top-p 7", "top_p must be over 0 and at most 1, not 7");
    chat.line("/set warmth 7", "no setting \"warmth\"");
    chat.line("/nope", "no command /nope");
    chat.line("/load nowhere.json", "cannot read nowhere.json");
    chat.line("a question that is far too long for so small a context", "holds 24");
    chat.line("/clear", ACCEPTED);
    chat.line("hi", "stopped at max-tokens 2");
    chat.keys("/bye\r");
    chat.ends_with(0);
}

#[test]
fn lines_typed_ahead_are_all_taken() {
    let edgeling = Edgeling::new();
    let mut chat = Terminal::chat(&edgeling, &["--max-tokens", "1"]);
    chat.keys("/set seed 7\r/nope\rhi\r/set\r/bye\r");
    chat.until("no command /nope");
    chat.until("stopped at max-tokens 1");
    chat.until("seed               7 ");
    chat.ends_with(0);
}

#[test]
fn the_history_is_kept_for_its_owner_alone() {
    let edgeling = Edgeling::new();
    let mut chat = Terminal::chat(&edgeling, &["--max-tokens", "1"]);
    chat.line("remember me", "stopped at max-tokens 1");
    chat.line(" not me", "stopped at max-tokens 1");
    chat.keys("/bye\r");
    chat.ends_with(0);
    let file = edgeling.home.path().join("home/chat_history");
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    let history = fs::read_to_string(&file).unwrap();
    assert!(history.contains("remember me") && !history.contains("not me"), "{history}");

    let mut chat = Terminal::chat(&edgeling, &["--max-tokens", "1"]);
    chat.keys("\x1b[A\x1b[A");
    chat.line("", "stopped at max-tokens 1");
    chat.keys("/bye\r");
    chat.ends_with(0);
}
