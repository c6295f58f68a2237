//! A `tokenizer.json` or a `tekken.json`, and texts through the tokenizer that it describes. What follows a zero byte, which no JSON has, is
//! one more text.

use model::tokenizer::{EncodeOptions, SpecialNames, Tokenizer};

/// Scripts, runs of spaces, digits, a character of four bytes, a token that many vocabularies have.
const TEXT: &str = "Hello,  World's\n\n\t 1234567 été 日本語 🙂🙂 <|im_end|>▁a  b</s> ";

pub fn run(input: &[u8]) {
    let end = input.iter().position(|&byte| byte == 0).unwrap_or(input.len());
    let (json, text) = input.split_at(end);
    let names = SpecialNames { bos: Some("<s>"), eos: Some("</s>"), eot: None };
    let tokenizer = Tokenizer::from_tokenizer_json(json, names).or_else(|_| Tokenizer::from_tekken_json(json));
    let Ok(tokenizer) = tokenizer else { return };
    for text in [TEXT, &String::from_utf8_lossy(text)] {
        for options in [EncodeOptions::TEXT, EncodeOptions::TEMPLATE] {
            let ids = tokenizer.encode(text, options);
            assert!(ids.iter().all(|&id| (id as usize) < tokenizer.vocab_size()), "{ids:?}");
            let _ = tokenizer.decode(&ids, true);
        }
    }
}
