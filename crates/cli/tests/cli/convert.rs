//! `convert`: round trips of the tiny checkpoints, and outputs that appear whole or not at all.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use formats::Checkpoint;
use model::arch::{Architecture, HfNames};
use serde_json::Value;

use crate::support::{Edgeling, checkpoint};

const TEXT: &str = "The thin theory in the inn: café 你好 12 🙂 <|user|>hi<|eos|>\n  end";

/// Goes to GGUF alone.
const TERNARY: [&str; 2] = ["bitnet-online", "bitnet-packed"];
/// Has a layer without experts, as GGUF files of its family have not.
const PARTLY_DENSE: &str = "qwen3moe-stacked";
/// Whose tensors come back as published files have them.
const RENAMED: [&str; 2] = ["granitemoe-stacked", "granite4"];

/// Every tiny checkpoint that can be converted.
fn cases() -> Vec<String> {
    let folders = fs::read_dir(checkpoint("")).unwrap();
    let mut names: Vec<_> = folders.map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    names.retain(|name| !TERNARY.contains(&name.as_str()) && name != PARTLY_DENSE);
    names.sort();
    names
}

fn path(path: &Path) -> &str {
    path.to_str().unwrap()
}

type Tensors = BTreeMap<String, (String, Vec<usize>, Vec<u8>)>;

/// Every tensor's type, shape and bytes, without what a model has beside its language model.
fn tensors(path: &Path) -> Tensors {
    let checkpoint = Checkpoint::open(path).unwrap();
    let config = Architecture::of(&checkpoint).and_then(|a| a.config(&checkpoint)).unwrap();
    let tensor = |name: &str| {
        let tensor = checkpoint.tensor(name).unwrap();
        (tensor.dtype.to_string(), tensor.shape.clone(), tensor.data.to_vec())
    };
    let names = HfNames::of(&checkpoint);
    let own = checkpoint.tensors().filter(|info| !config.is_guessing(&info.name));
    own.filter_map(|info| Some((names.plain(&info.name)?, tensor(&info.name)))).collect()
}

/// Whether two files have the same tensors, but for the last bit of exponentials, which others compute otherwise.
fn same_but_for_exponentials(a: &Tensors, b: &Tensors) -> bool {
    let bits = |bytes: &[u8]| bytes.as_chunks().0.iter().map(|b| u32::from_le_bytes(*b)).collect::<Vec<_>>();
    let near = |a: &[u8], b: &[u8]| bits(a).into_iter().zip(bits(b)).all(|(a, b)| a.abs_diff(b) <= 1);
    let same = |name: &str, a: &(String, Vec<usize>, Vec<u8>), b: &(String, Vec<usize>, Vec<u8>)| match name
        .ends_with(".ssm_a")
    {
        true => (&a.0, &a.1) == (&b.0, &b.1) && near(&a.2, &b.2),
        false => a == b,
    };
    a.len() == b.len() && a.iter().all(|(name, a)| b.get(name).is_some_and(|b| same(name, a, b)))
}

impl Edgeling {
    fn out(&self, name: &str) -> PathBuf {
        self.home.path().join(name)
    }

    fn convert(&self, source: &Path, to: &str, name: &str) -> PathBuf {
        let out = self.out(name);
        let value = self.json(&["convert", path(source), "--to", to, "--out", path(&out), "--json"]);
        assert_eq!(value["out"], path(&out));
        assert!(value["tensors"].as_u64() > Some(0) && value["bytes"].as_u64() > Some(0));
        out
    }

    fn tokens(&self, model: &Path) -> Value {
        self.json(&["tokenize", path(model), TEXT, "--json"])["tokens"].clone()
    }

    fn logits(&self, model: &Path, tokens: &str) -> Vec<f32> {
        let out = self.out("logits.npy");
        self.run(&["logits", path(model), "--tokens", tokens, "--kv", "f32", "--out", path(&out)]).success();
        read_npy(&out)
    }

    /// Names in the home folder, hidden ones too.
    fn left(&self) -> Vec<String> {
        let entries = fs::read_dir(self.home.path()).unwrap();
        entries.map(|e| e.unwrap().file_name().into_string().unwrap()).filter(|name| name != "home").collect()
    }
}

/// The values of a float32 NumPy file of format version 1.
fn read_npy(path: &Path) -> Vec<f32> {
    let bytes = fs::read(path).unwrap();
    let header = u16::from_le_bytes([bytes[8], bytes[9]]) as usize;
    bytes[10 + header..].as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b)).collect()
}

#[test]
fn folder_to_file_and_back_changes_nothing() {
    for case in cases() {
        let edgeling = Edgeling::new();
        let source = checkpoint(&case);
        let file = edgeling.convert(&source, "gguf", "model.gguf");
        let back = edgeling.convert(&file, "hf", "back");
        if RENAMED.contains(&case.as_str()) {
            let again = edgeling.convert(&back, "gguf", "again.gguf");
            assert!(tensors(&file) == tensors(&again), "{case}");
        } else {
            assert!(tensors(&source) == tensors(&back), "{case}");
        }
        let tokens = edgeling.tokens(&source);
        assert_eq!((&tokens, &tokens), (&edgeling.tokens(&file), &edgeling.tokens(&back)), "{case}");
    }
}

#[test]
fn a_layer_without_experts_is_refused() {
    let edgeling = Edgeling::new();
    let (source, out) = (checkpoint(PARTLY_DENSE), edgeling.out("model.gguf"));
    let run = edgeling.run(&["convert", path(&source), "--to", "gguf", "--out", path(&out)]);
    run.failed(1, &["layers with experts is [0, 2]; supported is [0, 1, 2] in GGUF files of qwen3moe"]);
    assert!(edgeling.left().is_empty());
}

#[test]
fn file_to_folder_and_back_changes_nothing() {
    for case in cases() {
        let edgeling = Edgeling::new();
        let source = checkpoint(&case).join("model.gguf");
        if !source.exists() {
            continue;
        }
        let folder = edgeling.convert(&source, "hf", "folder");
        let back = edgeling.convert(&folder, "gguf", "model.gguf");
        assert!(same_but_for_exponentials(&tensors(&source), &tensors(&back)), "{case}");
        let tokens = edgeling.tokens(&source);
        assert_eq!((&tokens, &tokens), (&edgeling.tokens(&folder), &edgeling.tokens(&back)), "{case}");
        let template = |model: &Path| Checkpoint::open(model).unwrap().chat_templates().unwrap();
        assert_eq!(template(&source), template(&back), "{case}");
    }
}

#[test]
fn what_is_written_computes_the_same() {
    for case in cases() {
        let edgeling = Edgeling::new();
        let source = checkpoint(&case);
        let expected = read_npy(&source.join("logits.npy"));
        let tokens: Vec<u32> = serde_json::from_slice(&fs::read(source.join("tokens.json")).unwrap()).unwrap();
        let tokens: Vec<String> = tokens.iter().map(u32::to_string).collect();
        let file = edgeling.convert(&source, "gguf", "model.gguf");
        let folder = edgeling.convert(&file, "hf", "folder");
        for model in [file, folder] {
            let found = edgeling.logits(&model, &tokens.join(","));
            assert_eq!(found.len(), expected.len());
            let worst = found.iter().zip(&expected).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
            assert!(worst <= 2e-3, "{case}: {worst}");
        }
    }
}

#[test]
fn pytorch_weights_give_the_same_file() {
    let edgeling = Edgeling::new();
    let source = checkpoint("llama3-rope");
    let expected = tensors(&edgeling.convert(&source, "gguf", "expected.gguf"));
    for form in ["single", "sharded"] {
        let folder = edgeling.out(form);
        fs::create_dir(&folder).unwrap();
        let weights = checkpoint("../pytorch").join(form);
        for from in [weights.as_path(), &source] {
            for entry in fs::read_dir(from).unwrap().map(|e| e.unwrap().path()) {
                let name = entry.file_name().unwrap().to_str().unwrap();
                if name.starts_with("pytorch") || (name.ends_with(".json") && !name.contains("safetensors")) {
                    fs::copy(&entry, folder.join(name)).unwrap();
                }
            }
        }
        assert!(tensors(&edgeling.convert(&folder, "gguf", &format!("{form}.gguf"))) == expected, "{form}");
        let safe = edgeling.convert(&folder, "hf", &format!("{form}-safe"));
        assert!(tensors(&safe) == tensors(&source), "{form}");
        assert!(safe.join("model.safetensors").exists() && safe.join("tokenizer.json").exists());
    }
}

#[test]
fn types_are_what_was_asked_for() {
    let edgeling = Edgeling::new();
    for (name, expected) in [("f32", "F32"), ("F16", "F16"), ("bf16", "BF16")] {
        let (file, folder) = (edgeling.out("m.gguf"), edgeling.out("m"));
        let model = checkpoint("qwen3");
        let args = ["convert", path(&model), "--dtype", name, "--force", "--out"];
        edgeling.run(&[&args[..], &[path(&file), "--to", "gguf"]].concat()).success();
        edgeling.run(&[&args[..], &[path(&folder), "--to", "hf"]].concat()).success();
        for (tensor, (dtype, shape, _)) in tensors(&file) {
            assert_eq!(dtype, if shape.len() > 1 { expected } else { "F32" }, "{tensor}");
        }
        assert!(tensors(&folder).values().all(|(dtype, ..)| dtype == expected));
    }
}

#[test]
fn an_output_that_exists_is_kept_unless_forced() {
    let edgeling = Edgeling::new();
    let source = checkpoint("llama");
    let (file, folder) = (edgeling.out("m.gguf"), edgeling.out("m"));
    fs::write(&file, "mine").unwrap();
    fs::create_dir(&folder).unwrap();
    fs::write(folder.join("notes.txt"), "mine").unwrap();
    for (to, out) in [("gguf", &file), ("hf", &folder)] {
        let args = ["convert", path(&source), "--to", to, "--out", path(out)];
        edgeling.run(&args).failed(1, &["exists", "--force"]);
        assert!(fs::read(&file).unwrap() == b"mine" || to == "hf");
        assert!(folder.join("notes.txt").exists());
        edgeling.run(&[&args[..], &["--force"]].concat()).success();
        Checkpoint::open(out).unwrap();
    }
    assert!(!folder.join("notes.txt").exists());
    let model = path(&file);
    edgeling.run(&["convert", model, "--to", "hf", "--out", model, "--force"]).failed(1, &["is the source itself"]);
    edgeling.run(&["convert", model, "--to", "gguf", "--out", path(&folder)]).failed(1, &["found a folder"]);
    let mut left = edgeling.left();
    left.sort_unstable();
    assert_eq!(left, ["m", "m.gguf"]);
}

#[test]
fn failures_leave_nothing() {
    let edgeling = Edgeling::new();
    let out = edgeling.out("result");
    let gguf = checkpoint("llama").join("model.gguf");
    let args = |source: &str, to: &str| -> Vec<String> {
        ["convert", source, "--to", to, "--out", path(&out)].map(str::to_owned).to_vec()
    };
    edgeling.run(&args(path(&gguf), "gguf")).failed(1, &["found a GGUF file", "edgeling quantize"]);
    edgeling.run(&args("no/such/model", "hf")).failed(1, &["no/such/model"]);
    let no_folder = ["convert", path(&gguf), "--to", "hf", "--out", "no/such/folder"];
    edgeling.run(&no_folder).failed(1, &["no/such"]);

    // A value that F16 cannot hold.
    let broken = edgeling.out("broken");
    fs::create_dir(&broken).unwrap();
    for entry in fs::read_dir(checkpoint("qwen2")).unwrap().map(|e| e.unwrap().path()) {
        fs::copy(&entry, broken.join(entry.file_name().unwrap())).unwrap();
    }
    let weights = broken.join("model.safetensors");
    let mut bytes = fs::read(&weights).unwrap();
    // The first value of the first tensor, the embedding.
    let start = 8 + u64::from_le_bytes(*bytes.first_chunk().unwrap()) as usize;
    bytes[start..start + 4].copy_from_slice(&1e30f32.to_le_bytes());
    fs::write(&weights, bytes).unwrap();
    for to in ["gguf", "hf"] {
        let dtype = ["--dtype".to_owned(), "f16".to_owned()];
        let done = edgeling.run(&[&args(path(&broken), to)[..], &dtype].concat());
        done.failed(1, &["too large for F16", "--dtype bf16"]);
        assert!(!out.exists());
    }
    assert!(edgeling.left().iter().all(|name| !name.starts_with('.')), "{:?}", edgeling.left());
}

#[test]
fn ternary_files_give_the_logits_of_their_folders() {
    for case in TERNARY {
        let edgeling = Edgeling::new();
        let source = checkpoint(case);
        let tokens: Vec<u32> = serde_json::from_slice(&fs::read(source.join("tokens.json")).unwrap()).unwrap();
        let tokens = tokens.iter().map(u32::to_string).collect::<Vec<_>>().join(",");
        let file = edgeling.convert(&source, "gguf", "model.gguf");
        assert!(edgeling.logits(&source, &tokens) == edgeling.logits(&file, &tokens), "{case}");
        let tensors = tensors(&file);
        assert_eq!(tensors["blk.1.attn_q.weight"].0, "Q4_0");
        assert_eq!((&tensors["blk.1.attn_q.scale"].0[..], &tensors["blk.1.attn_q.scale"].1[..]), ("F32", &[1][..]));
        let folder = edgeling.convert(&file, "hf", "folder");
        assert!(edgeling.logits(&source, &tokens) == edgeling.logits(&folder, &tokens), "{case}");
        let config: serde_json::Value = serde_json::from_slice(&fs::read(folder.join("config.json")).unwrap()).unwrap();
        assert_eq!(config["quantization_config"]["quant_method"], "bitnet");
    }
}

#[test]
fn mlx_folders_are_written_shown_and_run() {
    let edgeling = Edgeling::new();
    let (source, out) = (checkpoint("llama"), edgeling.out("mlx"));
    let args = ["convert", path(&source), "--to", "mlx", "--out", path(&out), "--force"];
    let sixteen = "1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16";
    let expected = edgeling.logits(&source, sixteen);
    for (options, dtype, bits, bound) in [
        (&[][..], "F16", 16.0..17.0, 1e-5),
        (&["--bits", "8"], "AFFINE8_G64_F16", 8.5..10.0, 0.2),
        (&["--mode", "affine", "--bits", "6", "--group", "32"], "AFFINE6_G32_F16", 7.0..7.5, 1.0),
        (&["--mode", "mxfp8", "--dtype", "bf16"], "MXFP8", 8.25..8.7, 1.0),
    ] {
        edgeling.run(&[&args[..], options].concat()).success();
        let facts = edgeling.json(&["inspect", path(&out), "--json"]);
        assert_eq!(facts["format"], if options.is_empty() { "hf" } else { "mlx" });
        assert!(facts["types"].as_object().unwrap().keys().any(|name| name == dtype), "{facts}");
        assert!(bits.contains(&facts["bits_per_weight"].as_f64().unwrap()), "{facts}");
        let found = edgeling.logits(&out, sixteen);
        let worst = found.iter().zip(&expected).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        assert!(found.len() == expected.len() && worst < bound, "{options:?}: {worst}");
        assert_eq!(edgeling.tokens(&out), edgeling.tokens(&source));
    }

    let to = |to: &str, options: &[&str]| {
        let target = edgeling.out("other");
        edgeling.run(&[&["convert", path(&out), "--to", to, "--out", path(&target)], options].concat())
    };
    to("gguf", &[]).failed(1, &["expected a type of GGUF files", "found MXFP8", "--dtype f16", "edgeling quantize"]);
    to("hf", &[]).failed(1, &["expected a type of Hugging Face folders", "found MXFP8", "--dtype f16", "--bits 4"]);
    to("hf", &["--bits", "4"]).failed(1, &["--mode, --bits and --group are for --to mlx"]);
    to("mlx", &["--bits", "7"]).failed(1, &["found affine with 7 bits in groups of 64", "2, 3, 4, 5, 6 or 8 bits"]);
    to("mlx", &["--mode", "nvfp4", "--group", "32"]).failed(1, &["found nvfp4 with 4 bits in groups of 32"]);
}
