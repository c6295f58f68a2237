//! Ids equal those that llama.cpp's source lists for the texts beside its vocabularies.

mod support;

use std::fs;
use std::path::Path;

use model::tokenizer::{EncodeOptions, Tokenizer};

const SEPARATOR: &str = "\n__ggml_vocab_test__\n";

/// Vocabularies with texts and ids.
const PAIRS: [&str; 15] = [
    "bert-bge",
    "command-r",
    "deepseek-coder",
    "deepseek-llm",
    "falcon",
    "gemma-4",
    "gpt-2",
    "llama-bpe",
    "llama-spm",
    "mpt",
    "phi-3",
    "qwen2",
    "qwen35",
    "refact",
    "starcoder",
];

#[test]
fn ids_are_those_beside_the_vocabularies() {
    let folder = support::llama_cpp_models();
    let mut wrong = Vec::new();
    for name in PAIRS {
        check(&folder, name, &mut wrong);
    }
    assert!(wrong.is_empty(), "{} texts:\n{}", wrong.len(), wrong.join("\n"));

    let files = fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let names = files.filter_map(|file| file.strip_prefix("ggml-vocab-")?.strip_suffix(".gguf.inp").map(str::to_owned));
    let mut names: Vec<String> = names.collect();
    names.sort();
    assert_eq!(names, PAIRS);
}

fn check(folder: &Path, name: &str, wrong: &mut Vec<String>) {
    let path = folder.join(format!("ggml-vocab-{name}.gguf"));
    let read = |end: &str| fs::read_to_string(format!("{}.{end}", path.display())).unwrap();
    let (texts, ids) = (read("inp"), read("out"));
    let texts: Vec<&str> = texts.strip_suffix(SEPARATOR).unwrap_or(&texts).split(SEPARATOR).collect();
    let mut ids: Vec<&str> = ids.split('\n').collect();
    ids.pop();
    assert_eq!(texts.len(), ids.len(), "{name}");
    assert!(texts.len() > 40, "{name}");

    let tokenizer = match Tokenizer::open(&path) {
        Ok(tokenizer) => tokenizer,
        Err(error) => return wrong.push(format!("{name}: {error}")),
    };
    for (text, ids) in texts.into_iter().zip(ids) {
        let expected: Vec<u32> = ids.split_whitespace().map(|id| id.parse().unwrap()).collect();
        let found = tokenizer.encode(text, EncodeOptions { add_special: false, parse_special: false });
        if found != expected {
            wrong.push(format!("{name}: {text:?}: expected {expected:?}, found {found:?}"));
        }
    }
}
