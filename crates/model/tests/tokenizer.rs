//! Ids and texts equal those of the Python libraries `tokenizers` and `sentencepiece`, line by line on mixed text.
//!
//! `scripts/oracle/tokenizer_ids.py` makes the text, the small vocabularies and what is expected.

mod support;

use std::fs;
use std::path::Path;

use model::tokenizer::{DetokenizeStream, EncodeOptions, GgufVocabulary, SpecialNames, Tokenizer};
use serde_json::Value;

const STRUCTURE: EncodeOptions = EncodeOptions { add_special: true, parse_special: true };

/// Compares every `step`th line of the text with what the file `expected` says of it; `ids` in the script describes it.
fn check(tokenizer: &Tokenizer, expected: &Path, step: usize) {
    let corpus = fs::read_to_string(support::data("tokenizer/corpus.jsonl")).unwrap();
    let lines: Vec<String> = corpus.lines().step_by(step).map(|line| serde_json::from_str(line).unwrap()).collect();
    let expected = fs::read_to_string(expected).unwrap();
    let expected: Vec<&str> = expected.lines().collect();
    assert_eq!(lines.len(), expected.len());
    assert!(lines.len() > 2000 / step);

    let mut wrong = Vec::new();
    for (number, (line, expected)) in (1..).zip(lines.iter().zip(expected)) {
        let [structured, plain, text] = expected.split(' ').collect::<Vec<_>>()[..] else {
            panic!("comparison {number}")
        };
        let plain = if plain == "=" { structured } else { plain };
        let plain_ids = tokenizer.encode(line, EncodeOptions::TEXT);
        let mut differs = Vec::new();
        if structured != "-" && fingerprint(&tokenizer.encode(line, STRUCTURE)) != structured {
            differs.push("ids with structure");
        }
        if plain != "-" && fingerprint(&plain_ids) != plain {
            differs.push("ids of plain text");
        }
        let decoded = tokenizer.decode(&plain_ids, true);
        let is_text = match text {
            "-" => true,
            "=" => decoded == *line,
            crc => format!("{:08x}", support::crc32(decoded.as_bytes())) == crc,
        };
        if !is_text {
            differs.push("text");
        }
        if stream(tokenizer, &plain_ids) != decoded {
            differs.push("stream");
        }
        if !differs.is_empty() {
            let shown: String = line.chars().take(80).collect();
            wrong.push(format!(
                "comparison {number}: {} of {shown:?}: {plain_ids:.60?} {decoded:.80?}",
                differs.join(", ")
            ));
        }
    }
    assert!(wrong.is_empty(), "{} of {} lines:\n{}", wrong.len(), lines.len(), wrong[..wrong.len().min(20)].join("\n"));
}

fn fingerprint(ids: &[u32]) -> String {
    let bytes: Vec<u8> = ids.iter().flat_map(|id| id.to_le_bytes()).collect();
    format!("{}:{:08x}", ids.len(), support::crc32(&bytes))
}

fn stream(tokenizer: &Tokenizer, ids: &[u32]) -> String {
    let mut stream = DetokenizeStream::new(true);
    let mut text: String = ids.iter().map(|&id| stream.push(tokenizer, id)).collect();
    text.push_str(&stream.finish());
    text
}

/// A small vocabulary of `tests/data/tokenizer/small`: `NAME.json` or `NAME.gguf.json`, with `NAME.ids`.
fn check_small(name: &str) {
    let folder = support::data("tokenizer/small");
    let tokenizer = match fs::read(folder.join(format!("{name}.json"))) {
        Ok(json) => Tokenizer::from_tokenizer_json(&json, SpecialNames::default()).unwrap(),
        Err(_) => {
            let text = fs::read_to_string(folder.join(format!("{name}.gguf.json"))).unwrap();
            let metadata: Value = serde_json::from_str(&text).unwrap();
            Tokenizer::from_gguf(&gguf_vocabulary(&metadata)).unwrap()
        }
    };
    check(&tokenizer, &folder.join(format!("{name}.ids")), 3);
}

fn gguf_vocabulary(metadata: &Value) -> GgufVocabulary<'_> {
    let list = |key: &str| metadata[key].as_array().map(Vec::as_slice).unwrap_or_default();
    let texts = |key: &str| list(key).iter().map(|text| text.as_str().unwrap().as_bytes()).collect();
    let id = |key: &str| metadata[key].as_u64().map(|id| id as u32);
    GgufVocabulary {
        model: metadata["model"].as_str().unwrap(),
        pre: metadata["pre"].as_str(),
        tokens: texts("tokens"),
        token_type: list("token_type").iter().map(|kind| kind.as_i64().unwrap() as i32).collect(),
        scores: list("scores").iter().map(|score| score.as_f64().unwrap() as f32).collect(),
        merges: texts("merges"),
        bos_token_id: id("bos_token_id"),
        eos_token_id: id("eos_token_id"),
        unknown_token_id: id("unknown_token_id"),
        remove_extra_whitespaces: metadata["remove_extra_whitespaces"].as_bool(),
        ..GgufVocabulary::default()
    }
}

macro_rules! small {
    ($($name:ident)*) => {$(
        #[test]
        fn $name() {
            check_small(stringify!($name));
        }
    )*};
}

small! {
    byte_level_gpt2 byte_level_llama3 byte_level_qwen2 byte_level_smollm byte_level_default
    bpe_llama2 bpe_metaspace bpe_unknown unigram_plain unigram_bytes sentencepiece_bpe sentencepiece_unigram
}

#[test]
fn qwen3() {
    let json = fs::read(support::npm_tokenizer("qwen3").join("tokenizer.json")).unwrap();
    let names = SpecialNames { eos: Some("<|im_end|>"), ..SpecialNames::default() };
    let tokenizer = Tokenizer::from_tokenizer_json(&json, names).unwrap();
    check(&tokenizer, &support::data("tokenizer/qwen3.ids"), 1);
    assert_eq!((tokenizer.bos(), tokenizer.eos(), tokenizer.eot()), (None, Some(151_645), Some(151_645)));
    assert_eq!(tokenizer.end_of_generation(), [151_643, 151_645]);
    assert_eq!((tokenizer.vocab_size(), tokenizer.token_id("<think>")), (151_669, Some(151_667)));
}

#[test]
fn llama3() {
    let json = fs::read(support::npm_tokenizer("llama3").join("tokenizer.json")).unwrap();
    let tokenizer = Tokenizer::from_tokenizer_json(&json, SpecialNames::default()).unwrap();
    check(&tokenizer, &support::data("tokenizer/llama3.ids"), 1);
    assert_eq!(tokenizer.eot(), Some(128_009));
    assert_eq!(tokenizer.end_of_generation(), [128_001, 128_009]);
}

#[test]
fn gemma3() {
    let json = fs::read(support::npm_tokenizer("gemma3").join("tokenizer.json")).unwrap();
    let names = SpecialNames { bos: Some("<bos>"), eos: Some("<eos>"), ..SpecialNames::default() };
    let tokenizer = Tokenizer::from_tokenizer_json(&json, names).unwrap();
    check(&tokenizer, &support::data("tokenizer/gemma3.ids"), 1);
    assert_eq!((tokenizer.bos(), tokenizer.eos(), tokenizer.eot()), (Some(2), Some(1), Some(106)));
    assert_eq!(tokenizer.encode("", EncodeOptions::TEXT), [2]);
}

#[test]
fn gpt4o() {
    let tokenizer = Tokenizer::open(&support::npm_tokenizer("gpt4o")).unwrap();
    check(&tokenizer, &support::data("tokenizer/gpt4o.ids"), 1);
    assert_eq!(tokenizer.token_id("<|endoftext|>"), Some(199_999));
}

/// Its pattern has no scanner.
#[test]
fn deepseek_v3() {
    let json = fs::read(support::npm_tokenizer("deepseek_v3").join("tokenizer.json")).unwrap();
    let tokenizer = Tokenizer::from_tokenizer_json(&json, SpecialNames::default()).unwrap();
    check(&tokenizer, &support::data("tokenizer/deepseek_v3.ids"), 1);
}

/// From `tekken.json`, and from a GGUF file's keys made of it.
#[test]
fn tekken() {
    let folder = support::tekken();
    let tokenizer = Tokenizer::open(&folder).unwrap();
    check(&tokenizer, &support::data("tokenizer/tekken.ids"), 1);
    assert_eq!((tokenizer.bos(), tokenizer.eos(), tokenizer.vocab_size()), (Some(1), Some(2), 131_072));
    assert_eq!(tokenizer.token_id("[TOOL_CALLS]"), Some(9));

    let mut out = formats::gguf::MetadataBuilder::default();
    let json = fs::read(folder.join("tekken.json")).unwrap();
    model::tokenizer::write_tekken_gguf(&json, 131_072, &mut out).unwrap();
    let metadata = out.read_back(&folder).unwrap();
    let tokenizer = Tokenizer::from_gguf(&GgufVocabulary::of(&metadata).unwrap()).unwrap();
    check(&tokenizer, &support::data("tokenizer/tekken.ids"), 1);
}

/// XLM-RoBERTa's vocabulary of unigrams, whose table replaces characters.
#[test]
fn nomic_bert_moe() {
    let tokenizer = Tokenizer::open(&support::llama_cpp_models().join("ggml-vocab-nomic-bert-moe.gguf")).unwrap();
    check(&tokenizer, &support::data("tokenizer/nomic_bert_moe.ids"), 1);
}

/// BERT's words.
#[test]
fn bert_bge() {
    let tokenizer = Tokenizer::open(&support::llama_cpp_models().join("ggml-vocab-bert-bge.gguf")).unwrap();
    check(&tokenizer, &support::data("tokenizer/bert_bge.ids"), 1);
}

/// A folder opens with what its `tokenizer_config.json` names.
#[test]
fn folders_open() {
    let tokenizer = Tokenizer::open(&support::npm_tokenizer("qwen3")).unwrap();
    assert_eq!((tokenizer.bos(), tokenizer.eos()), (None, Some(151_645)));
    assert_eq!(tokenizer.encode("Hello<|im_end|>", STRUCTURE), [9707, 151_645]);
    assert!(Tokenizer::open(&support::data("tokenizer")).is_err());
}

#[test]
fn smollm2() {
    let tokenizer = Tokenizer::open(&support::smollm2()).unwrap();
    check(&tokenizer, &support::data("tokenizer/smollm2.ids"), 1);
    assert_eq!((tokenizer.bos(), tokenizer.eos(), tokenizer.eot()), (Some(1), Some(2), Some(2)));
    assert_eq!(tokenizer.end_of_generation(), [0, 2]);
    assert_eq!(tokenizer.vocab_size(), 49_152);
}
