//! Text from generated tokens, cut at stop strings, with a real tokenizer.

use std::path::Path;

use model::TextStream;
use model::tokenizer::{EncodeOptions, Tokenizer};

const TEXT: &str = "Ein Größenvergleich: 日本語 🙂‍↔️ STOP und mehr";

/// What a reader sees of the tokens of `TEXT`, and after how many of them the text had ended.
fn read(stops: &[&str]) -> (String, Option<usize>) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/data/checkpoints/llama");
    let tokenizer = Tokenizer::open(&folder).unwrap();
    let tokens = tokenizer.encode(TEXT, EncodeOptions { add_special: false, parse_special: false });
    assert!(tokens.len() > TEXT.chars().count(), "characters must be split over tokens");
    let mut stream = TextStream::new(stops.iter().map(|s| (*s).to_owned()).collect(), true).unwrap();
    let mut text = String::new();
    for (i, token) in tokens.iter().enumerate() {
        text.push_str(&stream.push(&tokenizer, *token));
        assert!(TEXT.starts_with(&text));
        if stream.stopped() {
            return (text, Some(i + 1));
        }
    }
    (text + &stream.finish(), None)
}

#[test]
fn all_text_comes_out_in_whole_characters() {
    assert_eq!(read(&[]), (TEXT.to_owned(), None));
    assert_eq!(read(&["mehr als"]), (TEXT.to_owned(), None));
}

#[test]
fn nothing_comes_out_from_a_stop_string_on() {
    for stop in ["STOP", "🙂", "語 "] {
        let (text, after) = read(&[stop, "nowhere"]);
        assert_eq!(text, TEXT[..TEXT.find(stop).unwrap()]);
        assert!(after.is_some());
    }
}
