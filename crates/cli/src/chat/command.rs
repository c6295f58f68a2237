//! The commands of a chat: lines that start with a slash.

use std::path::PathBuf;

/// What a line of a chat asks for.
#[derive(Debug, PartialEq, Eq)]
pub enum Line {
    /// A message to the model.
    Message(String),
    Command(Command),
    /// A slash command that cannot be understood, and why.
    Mistake(String),
    Empty,
}

#[derive(Debug, PartialEq, Eq)]
pub enum Command {
    Set { name: String, value: String },
    Settings,
    Show,
    Save(PathBuf),
    Load(PathBuf),
    Clear,
    Help,
    Bye,
}

/// Every command with its argument and what it does, in the order of `/help`.
pub const COMMANDS: [(&str, &str, &str); 7] = [
    ("/set", "NAME VALUE", "change a setting; without a name, list them"),
    ("/show", "", "the model, the conversation's length, the last answer's speed"),
    ("/save", "FILE", "write the conversation as JSON; an existing file is replaced"),
    ("/load", "FILE", "go on with a saved conversation"),
    ("/clear", "", "forget the conversation"),
    ("/help", "", "this list"),
    ("/bye", "", "leave; so does Ctrl-D"),
];

/// Understands what was typed. A message within triple quotes may start with a slash.
pub fn parse(input: &str) -> Line {
    let text = input.trim();
    if let Some(block) = block(text) {
        return if block.trim().is_empty() { Line::Empty } else { Line::Message(block.to_owned()) };
    }
    if !text.starts_with('/') {
        let message = text.replace("\\\n", "\n");
        return if message.trim().is_empty() { Line::Empty } else { Line::Message(message) };
    }
    let (name, argument) = text.split_once(char::is_whitespace).unwrap_or((text, ""));
    let argument = argument.trim();
    let command = match name {
        "/set" if argument.is_empty() => Command::Settings,
        "/set" => match argument.split_once(char::is_whitespace) {
            Some((name, value)) => {
                let value = value.trim();
                Command::Set { name: name.to_owned(), value: block(value).unwrap_or(value).to_owned() }
            }
            None => return Line::Mistake(format!("/set {argument} needs a value")),
        },
        "/save" | "/load" if argument.is_empty() => return Line::Mistake(format!("{name} needs a file")),
        "/save" => Command::Save(argument.into()),
        "/load" => Command::Load(argument.into()),
        _ if !argument.is_empty() && COMMANDS.iter().any(|(known, ..)| *known == name) => {
            return Line::Mistake(format!("{name} takes no argument, found {argument:?}"));
        }
        "/show" => Command::Show,
        "/clear" => Command::Clear,
        "/help" | "/?" => Command::Help,
        "/bye" | "/exit" | "/quit" => Command::Bye,
        _ => return Line::Mistake(format!("no command {name}; /help lists them")),
    };
    Line::Command(command)
}

/// Whether more lines belong to `input`: an open `"""`, or a backslash at the end.
pub fn is_incomplete(input: &str) -> bool {
    let text = input.trim_start();
    let value = text.strip_prefix("/set").and_then(|set| set.trim_start().split_once(char::is_whitespace));
    let start = value.map_or(text, |(_, value)| value.trim_start());
    match start.strip_prefix(QUOTES) {
        Some(rest) => !rest.trim_end().ends_with(QUOTES),
        None => input.ends_with('\\'),
    }
}

const QUOTES: &str = "\"\"\"";

/// The text between triple quotes, without the line breaks right inside them.
fn block(text: &str) -> Option<&str> {
    let inner = text.strip_prefix(QUOTES)?.strip_suffix(QUOTES)?;
    let inner = inner.strip_prefix('\n').unwrap_or(inner);
    Some(inner.strip_suffix('\n').unwrap_or(inner))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(text: &str) -> Line {
        Line::Message(text.to_owned())
    }

    #[test]
    fn plain_lines_are_messages() {
        assert_eq!(parse("  hello there "), message("hello there"));
        assert_eq!(parse("one\\\ntwo"), message("one\ntwo"));
        assert_eq!(parse("   "), Line::Empty);
    }

    #[test]
    fn triple_quotes_keep_lines_and_slashes() {
        assert_eq!(parse("\"\"\"\n/etc is\n  a folder\n\"\"\""), message("/etc is\n  a folder"));
        assert_eq!(parse("\"\"\" \"\"\""), Line::Empty);
    }

    #[test]
    fn commands_carry_their_arguments() {
        let set = |name: &str, value: &str| Line::Command(Command::Set { name: name.into(), value: value.into() });
        assert_eq!(parse("/set temperature 0.5"), set("temperature", "0.5"));
        assert_eq!(parse("/set system  Be brief. "), set("system", "Be brief."));
        assert_eq!(parse("/set system \"\"\"\nBe\nbrief.\n\"\"\""), set("system", "Be\nbrief."));
        assert_eq!(parse("/set"), Line::Command(Command::Settings));
        assert_eq!(parse("/save my chat.json"), Line::Command(Command::Save("my chat.json".into())));
        assert_eq!(parse("/bye"), Line::Command(Command::Bye));
    }

    #[test]
    fn mistakes_are_explained() {
        for line in ["/set seed", "/save", "/load ", "/nope", "/bye now"] {
            assert!(matches!(parse(line), Line::Mistake(_)), "{line}");
        }
    }

    #[test]
    fn every_listed_command_is_known() {
        for (name, argument, _) in COMMANDS {
            let line = parse(&format!("{name} {}", argument.to_ascii_lowercase()));
            assert!(matches!(line, Line::Command(_)), "{name}");
        }
    }

    #[test]
    fn open_input_waits_for_more() {
        assert!(is_incomplete("\"\"\"\nhello"));
        assert!(is_incomplete("\"\"\""));
        assert!(is_incomplete("/set system \"\"\"be"));
        assert!(is_incomplete("hello \\"));
        assert!(!is_incomplete("\"\"\"\nhello\n\"\"\""));
        assert!(!is_incomplete("hello"));
        assert!(!is_incomplete("/set system say \"\"\" twice"));
        assert!(!is_incomplete("say \"\"\" to me"));
    }
}
