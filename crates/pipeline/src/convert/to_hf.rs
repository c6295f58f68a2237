//! A checkpoint as a folder in Hugging Face layout, or in that of MLX, which differs in how matrices may be quantized.

use std::collections::BTreeMap;
use std::path::Path;

use formats::gguf::NewTensor;
use formats::mlx::{Layout, Quantization};
use formats::safetensors::SafetensorsWriter;
use formats::{ChatTemplates, Checkpoint, Config, GenerationDefaults, NewFolder};
use kernels::DType;
use kernels::quant::GroupAffine;
use kernels::simd::Tier;
use model::arch::{
    Architecture, Assembly, DecoderConfig, HfNames, Presence, ROPE_FREQS, ROPE_LONG, ROPE_SHORT, mlx_has_eight_bits,
    name_for_hf,
};
use model::tokenizer::{GgufVocabulary, Tokenizer};
use serde_json::{Map, Value, json};

use super::folder_tensors::{Folder, Target};
use super::older_keys;
use super::plan::{Part, Step, To, Types, change_of, is_conv, is_router, is_shared_gate, orders_of, shape_of};
use super::stream::{Change, is_exact, stream_all};
use super::{ConvertError, ConvertOptions, Converted, Observer, probe};

/// What the hub and its tools expect of one file.
const SHARD_BYTES: u64 = 5_000_000_000;
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

/// Writes the checkpoint as the folder `target`, which appears when it is whole and replaces what stood there.
///
/// # Errors
/// The model is not supported, or `config.json` and `tokenizer.json` cannot express it; it is quantized and no type is
/// given; the disk is full; the observer said to stop.
pub fn to_hf(
    source: &Checkpoint,
    target: &Path,
    options: ConvertOptions,
    observer: &mut Observer,
) -> Result<Converted, ConvertError> {
    to_folder(source, target, To::HuggingFace, options, observer)
}

/// As [`to_hf`], for MLX: what is quantized stays so where MLX has the type, or gets the layout that is asked for.
///
/// # Errors
/// As [`to_hf`]; a layout that MLX does not have.
pub fn to_mlx(
    source: &Checkpoint,
    target: &Path,
    options: ConvertOptions,
    observer: &mut Observer,
) -> Result<Converted, ConvertError> {
    to_folder(source, target, To::Mlx, options, observer)
}

fn to_folder(
    source: &Checkpoint,
    target: &Path,
    to: To,
    options: ConvertOptions,
    observer: &mut Observer,
) -> Result<Converted, ConvertError> {
    let tier = Tier::detect()?;
    let architecture = Architecture::of(source)?;
    let config = architecture.config(source)?;
    // Checks every tensor's presence and shape.
    model::build_plan(source)?;
    let types = Types::new(source, to, options)?;
    let (mut json, plus_one) = match source.config() {
        Config::Gguf(_) => {
            let settings = settings(source, architecture, &config)?;
            (settings.json, settings.read.norms.plus_one)
        }
        Config::HuggingFace(hf) => {
            let mut json = hf.value().as_object().cloned().unwrap_or_default();
            if Quantization::of(hf)?.is_some() {
                Quantization::erase(&mut json);
            }
            (json, false)
        }
    };
    match to {
        To::Mlx => {
            older_keys::add(&mut json);
            architecture.name_for_mlx(&config, &mut json);
        }
        _ => name_for_hf(&mut json),
    }
    let model_type = json.get("model_type").and_then(Value::as_str).unwrap_or_default();
    let steps = steps(source, architecture, &config, &types, (plus_one, model_type), tier)?;
    let folder = NewFolder::create(target)?;
    set_dtype(&mut json, float_type(&steps));
    if let Some(quantization) = quantization(&steps, options) {
        quantization.write(&mut json);
    }
    match source.config() {
        Config::Gguf(metadata) => write_settings(source, json, &config, &GgufVocabulary::of(metadata)?, &folder)?,
        Config::HuggingFace(_) => {
            folder.write("config.json", &pretty(&Value::Object(json)))?;
            copy_settings(source.path(), &folder)?;
        }
    }

    let tensors: Vec<NewTensor> = steps.iter().map(|step| step.target.clone()).collect();
    let framework = if to == To::Mlx { "mlx" } else { "pt" };
    let mut writer = SafetensorsWriter::create(folder.path(), &tensors, SHARD_BYTES, framework)?;
    let mut write = |name: &str, bytes: &[u8]| writer.write(name, bytes);
    let written = stream_all(source, &steps, tier, &mut write, observer)?;
    writer.finish()?;
    verify(source, folder.path())?;
    folder.finish()?;
    Ok(Converted { tensors: tensors.len(), bytes: written })
}

/// Opens what was written: its settings ask for the tensors that it has, and its tokenizer gives the same ids.
fn verify(source: &Checkpoint, folder: &Path) -> Result<(), ConvertError> {
    let result = Checkpoint::open(folder)?;
    model::build_plan(&result)?;
    if matches!(source.config(), Config::Gguf(_)) {
        let open = |checkpoint: &Checkpoint| -> Result<Tokenizer, ConvertError> {
            Ok(Tokenizer::from_files(&checkpoint.tokenizer_files()?)?)
        };
        probe::same_tokens(&open(source)?, &open(&result)?)?;
    }
    Ok(())
}

/// Vectors and routers, which are F32 in GGUF files, get the matrices' type where that loses nothing, or where it was asked for.
fn steps(
    source: &Checkpoint,
    architecture: &'static Architecture,
    config: &DecoderConfig,
    types: &Types,
    (plus_one, model_type): (bool, &str),
    tier: Tier,
) -> Result<Vec<Step>, ConvertError> {
    let from_gguf = matches!(source.config(), Config::Gguf(_));
    let (names, to) = (HfNames::of(source), types.to);
    let folder = Folder { source, architecture, config, to };
    let eight_bits = |canonical: &str| mlx_has_eight_bits(model_type, canonical);
    let untransformed = to == To::HuggingFace && architecture.is_transformed(source, config);
    let mut steps = Vec::new();
    for info in source.tensors() {
        let plain = if from_gguf { Some(info.name.clone()) } else { names.plain(&info.name) };
        let Some(plain) = plain.or_else(|| (to == To::HuggingFace).then(|| info.name.clone())) else {
            // mlx-lm's folders have the language model alone.
            continue;
        };
        let follows = [ROPE_FREQS, ROPE_LONG, ROPE_SHORT].contains(&info.name.as_str())
            || info.name.ends_with(".rotary_emb.inv_freq");
        let guesses = from_gguf && config.is_guessing(&info.name);
        if follows || guesses || (config.tied && plain == "lm_head.weight") {
            continue;
        }
        let found = source.tensor(&info.name)?.dtype;
        if let Some(targets) = folder.targets(info) {
            for Target { canonical, assembly: Assembly { name, shape, pieces } } in targets {
                let cols = shape.last().copied().unwrap_or(1);
                let (dtype, float) = types.matrix(found, cols, eight_bits(&canonical));
                let target = NewTensor { name, dtype, shape };
                steps.push(Step { float, ..Step::plain(Part::of(pieces), target) });
            }
            continue;
        }
        let known = if from_gguf { Some(info.name.clone()) } else { architecture.to_canonical(&plain) };
        let name = match from_gguf {
            true => architecture.to_hf(&info.name),
            false => Some(names.plain(&info.name).map_or_else(|| info.name.clone(), |plain| folder.nested(&plain))),
        };
        let name =
            name.ok_or_else(|| ConvertError::Unknown { tensor: info.name.clone(), architecture: architecture.name })?;
        let row = from_gguf && is_shared_gate(&info.name) && info.shape.len() == 1;
        let mut shape: Vec<usize> = row.then_some(1).into_iter().chain(info.shape.iter().copied()).collect();
        let (mut change, mut orders) = (Change::None, (None, None));
        if let Some(canonical) = known.as_deref().filter(|_| from_gguf || untransformed) {
            change = change_of(plus_one || untransformed, canonical, To::HuggingFace);
            shape = shape_of(canonical, &shape, To::HuggingFace);
            if from_gguf {
                orders = orders_of(architecture, config, canonical, To::HuggingFace);
            } else if change == Change::Logarithm {
                change = Change::None;
            }
        }
        let matrix = known.filter(|name| shape.len() == 2 && name.ends_with(".weight"));
        let (dtype, float) = match matrix {
            Some(canonical) => types.matrix(found, shape[1], eight_bits(&canonical)),
            None => (types.kept(found), None),
        };
        let (target, (rows, columns)) = (NewTensor { name, dtype, shape }, orders);
        steps.push(Step { rows, columns, change, float, ..Step::plain(Part::whole(&info.name), target) });
    }
    let main = float_type(&steps);
    if types.dtype.is_none() && from_gguf {
        for step in &mut steps {
            // What is put together is a matrix.
            let [Part { tensor, rows: None }] = &step.parts[..] else { continue };
            let narrow = step.target.shape.len() < 2 || is_router(tensor) || is_conv(tensor);
            if !narrow || !is_exact(&source.tensor(tensor)?, step.change, main, tier) {
                continue;
            }
            (step.target.dtype, step.float) = match step.float {
                Some(_) => types.matrix(main, step.target.shape[1], eight_bits(tensor)),
                None => (main, None),
            };
        }
    }
    Ok(steps)
}

/// `config.json`, as far as it describes the decoder.
struct Settings {
    json: Map<String, Value>,
    /// The decoder that it describes.
    read: DecoderConfig,
}

/// What the settings of a GGUF file amount to.
fn settings(
    source: &Checkpoint,
    architecture: &Architecture,
    config: &DecoderConfig,
) -> Result<Settings, ConvertError> {
    let has = |name: &str| source.tensor_info(name).is_some();
    let mut config = config.clone();
    config.tied = !has("output.weight");
    let decide = |presence: Presence, name: &str| match presence {
        Presence::Optional => Presence::when(has(name)),
        decided => decided,
    };
    config.biases.qkv = decide(config.biases.qkv, "blk.0.attn_q.bias");
    config.biases.attention_output = decide(config.biases.attention_output, "blk.0.attn_output.bias");
    config.biases.mlp = decide(config.biases.mlp, "blk.0.ffn_gate.bias");
    config.layer_scale = decide(config.layer_scale, "blk.0.layer_output_scale.weight");
    if let Some(experts) = &mut config.experts {
        let sparse = experts.layers.iter().position(|sparse| *sparse).unwrap_or(0);
        experts.choice_bias = decide(experts.choice_bias, &format!("blk.{sparse}.exp_probs_b.bias"));
    }
    for (i, layer) in config.layer_types.iter_mut().enumerate().filter(|(_, layer)| layer.reads.is_none()) {
        layer.values = decide(layer.values, &format!("blk.{i}.attn_v.weight"));
    }
    let divisors = if has(ROPE_FREQS) { Some(source.tensor(ROPE_FREQS)?.to_f32()) } else { None };
    let (json, read) = architecture.hf_config(&config, divisors.as_deref(), source.path())?;
    Ok(Settings { json, read })
}

/// The type of most values that are not quantized, or were not before, or of most scales; of vectors where no matrix has one.
fn float_type(steps: &[Step]) -> DType {
    let float = |step: &Step| {
        let scales = GroupAffine::of(step.target.dtype).map(|affine| affine.scales);
        step.float.or(scales).or(Some(step.target.dtype).filter(|dtype| dtype.is_float()))
    };
    let is_matrix = |step: &Step| step.target.shape.len() > 1;
    let vectors_too = !steps.iter().any(|step| is_matrix(step) && float(step).is_some());
    let of = |dtype: DType| -> usize {
        let counted = steps.iter().filter(|step| (vectors_too || is_matrix(step)) && float(step) == Some(dtype));
        counted.map(|step| step.target.shape.iter().product::<usize>()).sum()
    };
    [DType::F32, DType::F16, DType::BF16].into_iter().max_by_key(|dtype| of(*dtype)).unwrap_or(DType::F32)
}

/// What `config.json` says of matrices that are quantized: the layout that was asked for, or that most of them have, and those
/// of the others.
fn quantization(steps: &[Step], options: ConvertOptions) -> Option<Quantization> {
    let layout =
        |step: &Step| Some((step.target.name.strip_suffix(".weight")?.to_owned(), Layout::of(step.target.dtype)?));
    let found: BTreeMap<String, Layout> = steps.iter().filter_map(layout).collect();
    let count = |layout: &Layout| found.values().filter(|other| *other == layout).count();
    let most = || found.values().max_by_key(|layout| count(layout)).copied();
    let all = options.layout.filter(|_| !found.is_empty()).or_else(most)?;
    Some(Quantization { all, by_name: found.into_iter().filter(|(_, layout)| *layout != all).collect() })
}

/// The JSON files that GGUF metadata amounts to.
fn write_settings(
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
fn set_dtype(config: &mut Map<String, Value>, dtype: DType) {
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

fn copy_settings(from: &Path, folder: &NewFolder) -> Result<(), ConvertError> {
    for name in SETTINGS {
        let path = from.join(name);
        if path.is_file() {
            let content = std::fs::read(&path).map_err(|source| formats::FormatError::Io { path, source })?;
            folder.write(name, &content)?;
        }
    }
    Ok(())
}

fn pretty(value: &Value) -> Vec<u8> {
    format!("{value:#}\n").into_bytes()
}
