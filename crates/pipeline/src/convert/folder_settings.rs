//! The JSON files of a folder beside its weights.

use std::path::Path;

use formats::{ChatTemplates, Checkpoint, GenerationDefaults, NewFolder};
use kernels::DType;
use model::arch::DecoderConfig;
use model::tokenizer::GgufVocabulary;
use serde_json::{Map, Value, json};

use super::ConvertError;

/// Files beside the weights that go from folder to folder as they are.
const SETTINGS: [&str; 13] = [
    "generation_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "tokenizer.model",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "merges.txt",
    "chat_template.jinja",
    "README.md",
    "LICENSE",
    "LICENSE.txt",
    "NOTICE",
];

/// The JSON files that GGUF metadata amounts to.
pub(super) fn write_settings(
    source: &Checkpoint,
    mut settings: Map<String, Value>,
    config: &DecoderConfig,
    tokenizer: &GgufVocabulary,
    folder: &NewFolder,
) -> Result<(), ConvertError> {
    let generation = source.generation_defaults()?;
    add_token_ids(&generation, &mut settings);
    folder.write("config.json", &pretty(&Value::Object(settings)))?;
    folder.write("generation_config.json", &pretty(&generation_config(&generation)))?;
    folder.write("tokenizer.json", tokenizer.to_tokenizer_json()?.to_string().as_bytes())?;
    let tokenizer_config = tokenizer_config(source, tokenizer, config)?;
    folder.write("tokenizer_config.json", &pretty(&tokenizer_config))?;
    // A licence of several lines would be more than one key of the card's front matter.
    if let Some(licence) = source.licence()?.filter(|licence| !licence.contains(['\n', '\r'])) {
        folder.write("README.md", format!("---\nlicense: {licence}\n---\n").as_bytes())?;
    }
    Ok(())
}

/// In both spellings: transformers 5 reads `dtype`, those before `torch_dtype`.
pub(super) fn set_dtype(config: &mut Map<String, Value>, dtype: DType) {
    let names = [(DType::F16, "float16"), (DType::BF16, "bfloat16")];
    let name = names.iter().find(|(known, _)| *known == dtype).map_or("float32", |(_, name)| name);
    config.insert("dtype".to_owned(), json!(name));
    config.insert("torch_dtype".to_owned(), json!(name));
}

fn add_token_ids(generation: &GenerationDefaults, out: &mut Map<String, Value>) {
    let eos = match generation.eos_token_ids[..] {
        [] => Value::Null,
        [id] => json!(id),
        ref ids => json!(ids),
    };
    out.insert("bos_token_id".to_owned(), json!(generation.bos_token_id));
    out.insert("eos_token_id".to_owned(), eos);
    out.insert("pad_token_id".to_owned(), json!(generation.pad_token_id));
}

fn generation_config(generation: &GenerationDefaults) -> Value {
    let mut out = Map::new();
    add_token_ids(generation, &mut out);
    let float = |value: f32| json!(value.to_string().parse::<f64>().unwrap_or(value.into()));
    let sampling = [
        ("temperature", generation.temperature.map(float)),
        ("top_k", generation.top_k.map(|k| json!(k))),
        ("top_p", generation.top_p.map(float)),
        ("min_p", generation.min_p.map(float)),
        ("repetition_penalty", generation.repetition_penalty.map(float)),
    ];
    // Temperature 0 stands for the most likely token, which is said otherwise here.
    let greedy = generation.temperature == Some(0.0);
    for (key, value) in sampling {
        if let Some(value) = value.filter(|_| !greedy) {
            out.insert(key.to_owned(), value);
            out.insert("do_sample".to_owned(), json!(true));
        }
    }
    if greedy {
        out.insert("do_sample".to_owned(), json!(false));
    }
    Value::Object(out)
}

fn tokenizer_config(
    source: &Checkpoint,
    tokenizer: &GgufVocabulary,
    config: &DecoderConfig,
) -> Result<Value, ConvertError> {
    let mut out = Map::new();
    out.insert("tokenizer_class".to_owned(), json!("PreTrainedTokenizerFast"));
    let pad = source.generation_defaults()?.pad_token_id;
    let roles = [
        ("bos_token", tokenizer.bos_token_id),
        ("eos_token", tokenizer.eos_token_id),
        ("unk_token", tokenizer.unknown_token_id),
        ("pad_token", pad),
    ];
    for (role, id) in roles {
        let text = id.and_then(|id| tokenizer.tokens.get(id as usize)).and_then(|t| std::str::from_utf8(t).ok());
        if let Some(text) = text {
            out.insert(role.to_owned(), json!(text));
        }
    }
    out.insert("model_max_length".to_owned(), json!(config.context));
    out.insert("clean_up_tokenization_spaces".to_owned(), json!(false));
    let templates: Vec<(String, String)> =
        source.chat_templates()?.iter().map(|(name, text)| (name.to_owned(), text.to_owned())).collect();
    match &templates[..] {
        [] => {}
        [(name, text)] if name == ChatTemplates::DEFAULT => {
            out.insert("chat_template".to_owned(), json!(text));
        }
        several => {
            let list = several.iter().map(|(name, text)| json!({ "name": name, "template": text })).collect();
            out.insert("chat_template".to_owned(), Value::Array(list));
        }
    }
    Ok(Value::Object(out))
}

/// Copies them from folder to folder.
pub(super) fn copy_settings(from: &Path, folder: &NewFolder) -> Result<(), ConvertError> {
    for name in SETTINGS {
        let path = from.join(name);
        if path.is_file() {
            let content = std::fs::read(&path).map_err(|source| formats::FormatError::Io { path, source })?;
            folder.write(name, &content)?;
        }
    }
    Ok(())
}

/// As people read it.
pub(super) fn pretty(value: &Value) -> Vec<u8> {
    format!("{value:#}\n").into_bytes()
}
