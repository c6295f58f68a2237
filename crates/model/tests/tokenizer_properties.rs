//! What holds for any text and any ids.

mod support;

use std::fs;
use std::sync::LazyLock;

use model::tokenizer::{DetokenizeStream, EncodeOptions, SpecialNames, TokenKind, Tokenizer};
use proptest::prelude::*;

/// One vocabulary of each kind.
static TOKENIZERS: LazyLock<Vec<Tokenizer>> = LazyLock::new(|| {
    let names = ["byte_level_gpt2", "byte_level_llama3", "bpe_llama2", "bpe_metaspace", "unigram_bytes"];
    let open = |name: &str| {
        let json = fs::read(support::data("tokenizer/small").join(format!("{name}.json"))).unwrap();
        Tokenizer::from_tokenizer_json(&json, SpecialNames::default()).unwrap()
    };
    names.map(open).into()
});

/// Any characters, and the text of tokens among them.
fn text() -> impl Strategy<Value = String> {
    let part = prop_oneof![
        any::<String>(),
        "[ \\t\\r\\n]{1,4}",
        "[a-z ']{1,12}",
        proptest::sample::select(vec!["<s>", "</s>", "<|im_end|>", "<think>", "<left>", "<0x41>", "▁", "\u{301}"])
            .prop_map(str::to_owned),
    ];
    proptest::collection::vec(part, 0..6).prop_map(|parts| parts.concat())
}

proptest! {
    #[test]
    fn byte_level_text_comes_back(text in text()) {
        for tokenizer in &TOKENIZERS[..2] {
            // Tokens that strip take the space before them.
            let plain = text.replace("<left>", "");
            let ids = tokenizer.encode(&plain, EncodeOptions::TEXT);
            prop_assert_eq!(tokenizer.decode(&ids, true), plain.as_str());
        }
    }

    #[test]
    fn plain_text_holds_no_structure(text in text()) {
        for tokenizer in TOKENIZERS.iter() {
            let ids = tokenizer.encode(&text, EncodeOptions { add_special: false, parse_special: false });
            prop_assert!(ids.iter().all(|&id| tokenizer.token_kind(id).is_some_and(|kind| kind != TokenKind::Control)));
        }
    }

    #[test]
    fn a_stream_gives_the_text_of_all_ids(ids in proptest::collection::vec(0u32..1200, 0..40), skip in any::<bool>()) {
        for tokenizer in TOKENIZERS.iter() {
            let mut stream = DetokenizeStream::new(skip);
            let mut streamed: String = ids.iter().map(|&id| stream.push(tokenizer, id)).collect();
            streamed.push_str(&stream.finish());
            prop_assert_eq!(streamed, tokenizer.decode(&ids, skip));
        }
    }
}

/// Half a megabyte without a cut would take hours, if each merge looked at the whole word.
#[test]
fn words_may_be_long() {
    for tokenizer in TOKENIZERS.iter() {
        let word = "abcdefghijklmnopqrstuvwxyz".repeat(20_000);
        let ids = tokenizer.encode(&word, EncodeOptions { add_special: false, parse_special: false });
        assert_eq!(tokenizer.decode(&ids, true).trim_start(), word);
    }
}
