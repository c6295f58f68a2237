//! A Hugging Face folder as a GGUF file.

use std::path::Path;

use formats::gguf::{GgufWriter, MetadataBuilder, NewTensor};
use formats::hf::HfConfig;
use formats::{ChatTemplates, Checkpoint, Config, GenerationDefaults, TokenizerFiles};
use kernels::DType;
use kernels::simd::Tier;
use model::arch::{Architecture, Assembly, DecoderConfig, HfNames};
use model::tokenizer::Tokenizer;

use super::plan::{Part, Step, To, Types, change_of, is_conv, is_router, main_type, orders_of, shape_of};
use super::stream::stream_all;
use super::ternary::Matrices;
use super::{ConvertError, ConvertOptions, Converted, Observer, probe};
use crate::quantize::FILE_TYPES;

/// The version of the block layouts, a constant since 2023.
const QUANTIZATION_VERSION: u32 = 2;
/// The file type of types that have none of their own.
const UNNAMED: u32 = 1024;

/// Writes the checkpoint as the GGUF file `target`, which appears when it is whole.
///
/// # Errors
/// The source is no Hugging Face folder, or one of a model that is not supported; GGUF cannot express it; the disk is full;
/// the observer said to stop.
pub fn to_gguf(
    source: &Checkpoint,
    target: &Path,
    options: ConvertOptions,
    observer: &mut Observer,
) -> Result<Converted, ConvertError> {
    let Config::HuggingFace(hf) = source.config() else { return Err(ConvertError::AlreadyGguf) };
    let tier = Tier::detect()?;
    let architecture = Architecture::of(source)?;
    let mut config = architecture.config(source)?;
    // Checks every tensor's presence and shape.
    let plan = model::shape_plan(source)?;
    let ternary = config.ternary.map(|kind| Matrices::of(kind, &plan)).unwrap_or_default();
    let (steps, left_out) =
        steps(source, architecture, &config, &Types::new(source, To::Gguf, options, |_| false)?, &ternary)?;
    // In floats, they are as any other weights.
    config.ternary = config.ternary.filter(|_| steps.iter().any(|step| step.factor.is_some()));
    let rope = config.rope.tensors();
    let metadata = metadata(source, hf, architecture, &config, &steps)?;

    let derived = rope.iter().map(|(name, values)| NewTensor {
        name: (*name).to_owned(),
        dtype: DType::F32,
        shape: vec![values.len()],
    });
    let of_step =
        |step: &Step| [Some(step.target.clone()), step.factor.clone()].into_iter().flatten().collect::<Vec<_>>();
    let tensors: Vec<NewTensor> = derived.chain(steps.iter().flat_map(of_step)).collect();
    let mut writer = GgufWriter::create(target, &metadata, &tensors)?;
    for (name, values) in &rope {
        let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        writer.write(name, &bytes)?;
    }
    let mut write = |name: &str, bytes: &[u8]| writer.write(name, bytes);
    let written = stream_all(source, &steps, tier, &mut write, observer)?;
    writer.finish()?;
    Ok(Converted { tensors: tensors.len(), bytes: written, left_out })
}

/// Beside the steps, the tensors that are left out.
fn steps(
    source: &Checkpoint,
    architecture: &'static Architecture,
    config: &DecoderConfig,
    types: &Types,
    ternary: &Matrices,
) -> Result<(Vec<Step>, Vec<String>), ConvertError> {
    let (mut steps, mut left_out) = (Vec::new(), Vec::new());
    let names = HfNames::of(source);
    for info in source.tensors().filter(|info| !ternary.factors.contains(&info.name)) {
        // What else the model has beside its language model.
        let Some(plain) = names.plain(&info.name) else {
            left_out.push(info.name.clone());
            continue;
        };
        // Early checkpoints store the frequencies, which follow from the settings; tied ones may store the embedding twice.
        let follows = plain.ends_with(".rotary_emb.inv_freq") || (config.tied && plain == "lm_head.weight");
        if follows {
            continue;
        }
        let canonical = architecture.to_canonical(&plain);
        if let (Some(matrix), Some(name)) = (ternary.matrices.get(&info.name), &canonical) {
            steps.push(Matrices::gguf_step(
                &info.name,
                *matrix,
                name,
                orders_of(architecture, config, name, To::Gguf),
                types,
            ));
            continue;
        }
        let found = source.tensor(&info.name)?.dtype;
        if let Some(assemblies) = architecture.unpacked(source, config, &plain) {
            for Assembly { name, shape, pieces } in assemblies {
                let dtype = if is_router(&name) { DType::F32 } else { types.kept(found) };
                let target = NewTensor { name, dtype, shape };
                steps.push(Step::plain(Part::of(pieces), target));
            }
            continue;
        }
        let name = canonical
            .ok_or_else(|| ConvertError::Unknown { tensor: info.name.clone(), architecture: architecture.name })?;
        let matrix = info.shape.len() > 1 && !is_router(&name) && !is_conv(&name);
        let dtype = if matrix { types.kept(found) } else { DType::F32 };
        let (rows, columns) = orders_of(architecture, config, &name, To::Gguf);
        let change = change_of(config.norms.plus_one, &name, To::Gguf);
        let shape = shape_of(&name, &info.shape, To::Gguf);
        let target = NewTensor { name, dtype, shape };
        steps.push(Step { rows, columns, change, ..Step::plain(Part::whole(&info.name), target) });
    }
    Ok((steps, left_out))
}

fn metadata(
    source: &Checkpoint,
    hf: &HfConfig,
    architecture: &Architecture,
    config: &DecoderConfig,
    steps: &[Step],
) -> Result<MetadataBuilder, ConvertError> {
    let generation = source.generation_defaults()?;
    let mut out = MetadataBuilder::new();
    out.set("general.architecture", architecture.name);
    out.set("general.type", "model");
    write_sampling(&generation, &mut out);
    let folder = source.path().canonicalize().unwrap_or_else(|_| source.path().to_owned());
    if let Some(name) = folder.file_name() {
        out.set("general.name", name.to_string_lossy().as_ref());
    }
    // Of a mixture, the parameters with one expert a layer.
    let experts = config.experts.as_ref().map(|experts| experts.count);
    let parameters = |step: &Step| {
        let all: usize = step.target.shape.iter().product();
        if step.target.name.contains("_exps.") { all / experts.unwrap_or(1) } else { all }
    };
    let label = size_label(steps.iter().map(parameters).sum());
    out.set("general.size_label", &experts.map_or(label.clone(), |count| format!("{count}x{label}")));
    if let Some(licence) = source.licence()? {
        out.set("general.license", &licence);
    }
    architecture.gguf_keys(config, &mut out, hf.path())?;
    let main = main_type(steps);
    let file_type = FILE_TYPES.iter().find(|t| t.dtype == main).map_or(UNNAMED, |t| t.id);
    out.set("general.file_type", &file_type);
    out.set("general.quantization_version", &QUANTIZATION_VERSION);
    write_tokenizer(source, hf, config, &generation, &mut out)?;
    Ok(out)
}

fn write_sampling(generation: &GenerationDefaults, out: &mut MetadataBuilder) {
    if generation.do_sample == Some(false) {
        out.set("general.sampling.temp", &0f32);
        return;
    }
    if let Some(top_k) = generation.top_k {
        out.set("general.sampling.top_k", &(top_k as i32));
    }
    let floats = [
        ("top_p", generation.top_p),
        ("min_p", generation.min_p),
        ("temp", generation.temperature),
        ("penalty_repeat", generation.repetition_penalty),
    ];
    for (key, value) in floats {
        if let Some(value) = value {
            out.set(&format!("general.sampling.{key}"), &value);
        }
    }
}

fn write_tokenizer(
    source: &Checkpoint,
    hf: &HfConfig,
    config: &DecoderConfig,
    generation: &GenerationDefaults,
    out: &mut MetadataBuilder,
) -> Result<(), ConvertError> {
    let files = source.tokenizer_files()?;
    // Lists of several ids, and -1 for none, name no single token.
    let text = hf.text(&[]);
    let config_id = |role: &str| {
        let key = format!("{role}_token_id");
        let from_config = hf.find(&key).or_else(|| text.find(&key)).and_then(|v| v.as_u64()?.try_into().ok());
        let first_end = || (role == "eos").then(|| generation.eos_token_ids.first().copied()).flatten();
        from_config.or_else(first_end)
    };
    match &files {
        TokenizerFiles::Gguf(_) => return Err(ConvertError::AlreadyGguf),
        TokenizerFiles::HuggingFace(tokenizer) => {
            model::tokenizer::write_gguf(tokenizer, config.vocab, &config_id, out)?;
        }
        TokenizerFiles::Tekken(tokenizer) => model::tokenizer::write_tekken_gguf(&tokenizer.json, config.vocab, out)?,
    }
    write_templates(&source.chat_templates()?, out);
    let result = TokenizerFiles::Gguf(out.read_back(source.path())?);
    probe::same_tokens(&Tokenizer::from_files(&files)?, &Tokenizer::from_files(&result)?)
}

/// The default template under the plain key, others by name.
fn write_templates(templates: &ChatTemplates, out: &mut MetadataBuilder) {
    let mut names = Vec::new();
    for (name, text) in templates.iter() {
        if name == ChatTemplates::DEFAULT {
            out.set("tokenizer.chat_template", text);
        } else {
            out.set(&format!("tokenizer.chat_template.{name}"), text);
            names.push(name);
        }
    }
    if !names.is_empty() {
        out.set("tokenizer.chat_templates", &names);
    }
}

/// Parameters as people say them, with at least two digits: `135M`, `1.5B`, `39K`.
fn size_label(parameters: usize) -> String {
    let scales = [(1e12, 'T'), (1e9, 'B'), (1e6, 'M')];
    let count = parameters as f64;
    let (scale, unit) = scales.into_iter().find(|(scale, _)| count > *scale).unwrap_or((1e3, 'K'));
    let scaled = count / scale;
    let whole_digits = scaled.round().to_string().trim_start_matches('0').len();
    format!("{scaled:.*}{unit}", 2usize.saturating_sub(whole_digits))
}

#[cfg(test)]
mod tests {
    use super::size_label;

    #[test]
    fn sizes_read_as_people_say_them() {
        let cases = [
            (38_688, "39K"),
            (134_515_008, "135M"),
            (596_049_920, "596M"),
            (1_235_814_400, "1.2B"),
            (8_030_261_248, "8.0B"),
            (70_553_706_496, "71B"),
            (400, "0.40K"),
        ];
        for (parameters, label) in cases {
            assert_eq!(size_label(parameters), label);
        }
    }
}
