//! The type of every tensor of real models, from their shapes alone.

use std::collections::HashMap;

use kernels::DType;
use pipeline::quantize::{FILE_TYPES, ModelFacts, TensorFacts, TypeOptions, choose_types, file_order};
use serde_json::Value;

use crate::json;

struct Model {
    facts: ModelFacts,
    tensors: Vec<(String, Vec<usize>)>,
}

impl Model {
    /// From the shape that a snapshot states. The width of a head, where heads are wider than hidden / heads, changes no
    /// choice: widths are multiples of 256 either way.
    fn new(name: &str, shape: &Value) -> Self {
        let n = |key: &str| shape[key].as_u64().unwrap() as usize;
        let architecture = match name {
            _ if name.starts_with("qwen3") => "qwen3",
            _ if name.starts_with("gemma-3") => "gemma3",
            _ => "llama",
        };
        let (hidden, ffn, vocab, layers) = (n("embd"), n("ff"), n("vocab"), n("layer"));
        let head = if architecture == "llama" { hidden / n("head") } else { 256 };
        let (q, kv) = (head * n("head"), head * n("head_kv"));
        let mut tensors = vec![("token_embd.weight".to_owned(), vec![vocab, hidden])];
        tensors.push(("output_norm.weight".to_owned(), vec![hidden]));
        if architecture != "gemma3" {
            tensors.push(("output.weight".to_owned(), vec![vocab, hidden]));
        }
        for layer in 0..layers {
            for (part, shape) in [
                ("attn_norm", vec![hidden]),
                ("attn_q", vec![q, hidden]),
                ("attn_k", vec![kv, hidden]),
                ("attn_v", vec![kv, hidden]),
                ("attn_q_norm", vec![head]),
                ("attn_output", vec![hidden, q]),
                ("ffn_norm", vec![hidden]),
                ("ffn_gate", vec![ffn, hidden]),
                ("ffn_up", vec![ffn, hidden]),
                ("ffn_down", vec![hidden, ffn]),
            ] {
                tensors.push((format!("blk.{layer}.{part}.weight"), shape));
            }
        }
        tensors.sort_by(|a, b| file_order(&a.0, &b.0));
        let facts = ModelFacts {
            architecture: architecture.to_owned(),
            layers: layers as u32,
            experts: 0,
            heads: n("head") as u32,
            kv_heads: n("head_kv") as u32,
        };
        Self { facts, tensors }
    }

    fn choose(&self, options: &TypeOptions) -> HashMap<&str, DType> {
        let dtype = |shape: &[usize]| if shape.len() == 1 { DType::F32 } else { DType::BF16 };
        let tensors: Vec<_> =
            self.tensors.iter().map(|(name, shape)| TensorFacts { name, shape, dtype: dtype(shape) }).collect();
        let types = choose_types(&self.facts, &tensors, options).unwrap();
        self.tensors.iter().map(|(name, _)| name.as_str()).zip(types).collect()
    }
}

#[test]
fn mixes_are_those_of_the_snapshots() {
    let snapshots = json("types.json");
    assert_eq!(snapshots.as_object().unwrap().len(), 4);
    for (name, snapshot) in snapshots.as_object().unwrap() {
        let model = Model::new(name, &snapshot["shape"]);
        for file_type in &FILE_TYPES {
            let mut expected = HashMap::new();
            // The snapshots are older than these two.
            let Some(types) = snapshot["types"].get(file_type.name) else {
                assert!(matches!(file_type.name, "Q1_0" | "Q2_0"), "{}", file_type.name);
                continue;
            };
            for (dtype, kinds) in types.as_object().unwrap() {
                let dtype = DType::from_name(dtype).unwrap();
                for (kind, layers) in kinds.as_object().unwrap() {
                    match layers.as_array().unwrap() {
                        layers if layers.is_empty() => drop(expected.insert(kind.clone(), dtype)),
                        layers => expected.extend(layers.iter().map(|l| (format!("blk.{l}.{kind}"), dtype))),
                    }
                }
            }
            for (tensor, found) in model.choose(&TypeOptions::new(file_type)) {
                let vector = tensor.contains("norm");
                let default = if vector { DType::F32 } else { file_type.dtype };
                let expected = expected.remove(tensor).unwrap_or(default);
                assert_eq!(found, expected, "{name} as {}: {tensor}", file_type.name);
            }
            assert!(expected.is_empty(), "{name} as {}: no tensors {expected:?}", file_type.name);
        }
    }
}

#[test]
fn an_override_does_not_move_the_layers_after_it() {
    let snapshots = json("types.json");
    let model = Model::new("qwen3-0.6b", &snapshots["qwen3-0.6b"]["shape"]);
    let mut options = TypeOptions::new(pipeline::quantize::FileType::from_name("Q4_K_M").unwrap());
    for text in [r"blk\.3\.attn_q=q8_0", "attn_q=Q5_0", "attn_q_norm=F16"] {
        options.add_tensor_type(text).unwrap();
    }
    options.embedding = Some(DType::Q5_1);
    options.output = Some(DType::F16);
    let plain = model.choose(&TypeOptions::new(options.file_type));
    for (name, found) in model.choose(&options) {
        let expected = match name {
            "token_embd.weight" => DType::Q5_1,
            "output.weight" => DType::F16,
            "blk.3.attn_q.weight" => DType::Q8_0,
            _ if name.contains("attn_q.") => DType::Q5_0,
            _ => plain[name],
        };
        assert_eq!(found, expected, "{name}");
    }
}

#[test]
fn a_tensor_type_says_what_is_wrong_with_it() {
    let mut options = TypeOptions::new(&FILE_TYPES[0]);
    for (text, found) in [("attn_q", "no ="), ("(=Q8_0", "unclosed group"), ("a=Q3_X", "none of F32, F16, BF16, Q1_0")]
    {
        let error = options.add_tensor_type(text).unwrap_err().to_string();
        assert!(error.starts_with(&format!("{text:?}: expected")) && error.contains(found), "{error}");
    }
    assert!(options.tensors.is_empty());
}
