//! A checkpoint as a folder in Hugging Face layout, or in that of MLX, which differs in how matrices may be quantized.

use std::collections::BTreeMap;
use std::path::Path;

use formats::gguf::NewTensor;
use formats::mlx::{Layout, Quantization};
use formats::safetensors::{FolderTensor, SafetensorsWriter};
use formats::{Checkpoint, Config, NewFolder};
use kernels::DType;
use kernels::quant::GroupAffine;
use kernels::simd::Tier;
use model::arch::{
    Architecture, Assembly, DecoderConfig, HfNames, Presence, ROPE_FREQS, ROPE_LONG, ROPE_SHORT, mlx_does_not_cast,
    mlx_has_eight_bits, name_for_hf,
};
use model::tokenizer::{GgufVocabulary, Tokenizer};
use serde_json::{Map, Value};

use super::folder_settings::{copy_settings, pretty, set_dtype, write_settings};
use super::folder_tensors::{Folder, Target};
use super::older_keys;
use super::plan::{Part, Step, To, Types, change_of, is_conv, is_router, is_shared_gate, orders_of, shape_of};
use super::stream::{Change, is_exact, stream_all};
use super::ternary::ForFolder;
use super::{ConvertError, ConvertOptions, Converted, Observer, probe};

/// What the hub and its tools expect of one file.
const SHARD_BYTES: u64 = 5_000_000_000;

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
    let plan = model::shape_plan(source)?;
    let ternary = ForFolder::new(source, &config, architecture.is_bitnet(), &plan, options, tier)?;
    let types = Types::new(source, to, options, |tensor| ternary.keeps(tensor))?;
    let (mut json, plus_one) = match source.config() {
        Config::Gguf(_) => {
            let config = DecoderConfig { ternary: ternary.kind(), ..config.clone() };
            let settings = settings(source, architecture, &config)?;
            (settings.json, settings.read.norms.plus_one)
        }
        Config::HuggingFace(hf) => {
            let mut json = hf.value().as_object().cloned().unwrap_or_default();
            if Quantization::of(hf)?.is_some() || ternary.decodes() {
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
    let (steps, left_out) = steps(source, architecture, &config, &types, &ternary, (plus_one, model_type), tier)?;
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

    let tensors: Vec<FolderTensor> = steps.iter().flat_map(Step::in_folder).collect();
    let framework = if to == To::Mlx { "mlx" } else { "pt" };
    let mut writer = SafetensorsWriter::create(folder.path(), &tensors, SHARD_BYTES, framework)?;
    let mut write = |name: &str, bytes: &[u8]| writer.write(name, bytes);
    let written = stream_all(source, &steps, tier, &mut write, observer)?;
    writer.finish()?;
    verify(source, folder.path())?;
    folder.finish()?;
    Ok(Converted { tensors: tensors.len(), bytes: written, left_out })
}

/// Opens what was written: its settings ask for the tensors that it has, and its tokenizer gives the same ids.
fn verify(source: &Checkpoint, folder: &Path) -> Result<(), ConvertError> {
    let result = Checkpoint::open(folder)?;
    model::shape_plan(&result)?;
    if matches!(source.config(), Config::Gguf(_)) {
        let open = |checkpoint: &Checkpoint| -> Result<Tokenizer, ConvertError> {
            Ok(Tokenizer::from_files(&checkpoint.tokenizer_files()?)?)
        };
        probe::same_tokens(&open(source)?, &open(&result)?)?;
    }
    Ok(())
}

/// Vectors and routers, which are F32 in GGUF files, get the matrices' type where that loses nothing, or where it was asked for.
/// Beside the steps, the tensors that are left out.
fn steps(
    source: &Checkpoint,
    architecture: &'static Architecture,
    config: &DecoderConfig,
    types: &Types,
    ternary: &ForFolder,
    (plus_one, model_type): (bool, &str),
    tier: Tier,
) -> Result<(Vec<Step>, Vec<String>), ConvertError> {
    let from_gguf = matches!(source.config(), Config::Gguf(_));
    let (names, to) = (HfNames::of(source), types.to);
    let folder = Folder { source, architecture, config, to };
    let eight_bits = |canonical: &str| mlx_has_eight_bits(model_type, canonical);
    let stays = |canonical: &str| to == To::Mlx && mlx_does_not_cast(model_type, canonical);
    let untransformed = to == To::HuggingFace && architecture.is_transformed(source, config);
    let (mut steps, mut left_out) = (Vec::new(), Vec::new());
    for info in source.tensors().filter(|info| !ternary.of.factors.contains(&info.name)) {
        let plain = if from_gguf { Some(info.name.clone()) } else { names.plain(&info.name) };
        let Some(plain) = plain.or_else(|| (to == To::HuggingFace).then(|| info.name.clone())) else {
            // mlx-lm's folders have the language model alone.
            left_out.push(info.name.clone());
            continue;
        };
        let follows = [ROPE_FREQS, ROPE_LONG, ROPE_SHORT].contains(&info.name.as_str())
            || info.name.ends_with(".rotary_emb.inv_freq");
        if from_gguf && config.is_guessing(&info.name) {
            left_out.push(info.name.clone());
            continue;
        }
        if follows || (config.tied && plain == "lm_head.weight") {
            continue;
        }
        let known = if from_gguf { Some(info.name.clone()) } else { architecture.to_canonical(&plain) };
        let name = || {
            let name = match from_gguf {
                true => architecture.to_hf(&info.name),
                false => Some(names.plain(&info.name).map_or_else(|| info.name.clone(), |plain| folder.nested(&plain))),
            };
            name.ok_or_else(|| ConvertError::Unknown { tensor: info.name.clone(), architecture: architecture.name })
        };
        if let Some(matrix) = ternary.of.matrices.get(&info.name) {
            let orders = match from_gguf {
                true => orders_of(architecture, config, &info.name, To::HuggingFace),
                false => (None, None),
            };
            let types = |found, cols| types.matrix(found, cols, known.as_deref().is_some_and(eight_bits));
            steps.push(ternary.step(&info.name, *matrix, name()?, orders, types));
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
        let name = name()?;
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
        let matrix = known.as_deref().filter(|name| shape.len() == 2 && name.ends_with(".weight"));
        let (dtype, float) = match matrix {
            Some(canonical) => types.matrix(found, shape[1], eight_bits(canonical)),
            None if known.as_deref().is_some_and(stays) => (found, None),
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
    Ok((steps, left_out))
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
