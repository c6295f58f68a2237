//! Settings in GGUF metadata: what is read, what is left out by many files, what must be refused.

use formats::Checkpoint;
use formats::gguf::MetadataBuilder;
use kernels::plan::{RopeStyle, RouterScore};
use model::arch::{ARCHITECTURES, Architecture, Biases, DecoderConfig, Experts, Presence, RopeScaling};

#[derive(Clone, Copy)]
enum Value {
    U32(u32),
    F32(f32),
    Bool(bool),
    Str(&'static str),
    /// A vocabulary of this many empty strings.
    Tokens(u64),
}
use Value::{Bool, F32, Str, Tokens, U32};

fn string(out: &mut Vec<u8>, text: &str) {
    out.extend((text.len() as u64).to_le_bytes());
    out.extend(text.as_bytes());
}

/// A GGUF file of version 3 with these keys and no tensors.
fn gguf(keys: &[(&str, Value)]) -> Vec<u8> {
    let mut out = b"GGUF".to_vec();
    out.extend(3u32.to_le_bytes());
    out.extend(0u64.to_le_bytes());
    out.extend((keys.len() as u64).to_le_bytes());
    for (key, value) in keys {
        string(&mut out, key);
        let (kind, bytes): (u32, Vec<u8>) = match value {
            U32(v) => (4, v.to_le_bytes().to_vec()),
            F32(v) => (6, v.to_le_bytes().to_vec()),
            Bool(v) => (7, vec![u8::from(*v)]),
            Str(v) => {
                let mut bytes = Vec::new();
                string(&mut bytes, v);
                (8, bytes)
            }
            Tokens(n) => {
                let mut bytes = 8u32.to_le_bytes().to_vec();
                bytes.extend(n.to_le_bytes());
                bytes.resize(bytes.len() + 8 * *n as usize, 0);
                (9, bytes)
            }
        };
        out.extend(kind.to_le_bytes());
        out.extend(bytes);
    }
    out
}

/// A complete llama with some keys replaced, added, or (with `None`) removed.
fn read(changes: &[(&'static str, Option<Value>)]) -> Result<DecoderConfig, String> {
    let mut keys = vec![
        ("general.architecture", Str("llama")),
        ("llama.embedding_length", U32(64)),
        ("llama.block_count", U32(2)),
        ("llama.attention.head_count", U32(4)),
        ("llama.feed_forward_length", U32(96)),
        ("llama.context_length", U32(256)),
        ("llama.attention.layer_norm_rms_epsilon", F32(1e-5)),
        ("tokenizer.ggml.tokens", Tokens(11)),
    ];
    for (key, value) in changes {
        keys.retain(|(k, _)| k != key);
        keys.extend(value.map(|value| (*key, value)));
    }
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), gguf(&keys)).unwrap();
    let checkpoint = Checkpoint::open(file.path()).unwrap();
    let config = Architecture::of(&checkpoint).and_then(|a| a.config(&checkpoint));
    config.map_err(|error| error.to_string())
}

#[test]
fn keys_that_many_files_leave_out_have_the_values_they_stand_for() {
    let config = read(&[]).unwrap();
    assert_eq!((config.kv_heads, config.head_dim, config.vocab, config.rope.dim), (4, 16, 11, 16));
    assert_eq!(
        (config.rope.theta, &config.rope.scaling, config.rope.style),
        (1e4, &RopeScaling::None, RopeStyle::Interleaved)
    );
    assert_eq!((config.attention_scale, config.rope.attention_factor), (0.25, 1.0));
    assert_eq!((config.biases, config.rope.divisors), (Biases::all(Presence::Optional), Presence::Optional));
}

#[test]
fn keys_that_are_there_count() {
    let config = read(&[
        ("llama.attention.head_count_kv", Some(U32(2))),
        ("llama.attention.key_length", Some(U32(24))),
        ("llama.attention.value_length", Some(U32(24))),
        ("llama.vocab_size", Some(U32(12))),
        ("llama.rope.freq_base", Some(F32(5e5))),
        ("llama.rope.dimension_count", Some(U32(8))),
        ("llama.rope.scaling.type", Some(Str("linear"))),
        ("llama.rope.scaling.factor", Some(F32(4.0))),
        ("llama.attention.scale", Some(F32(0.5))),
        ("llama.attention.sliding_window", Some(U32(256))),
    ])
    .unwrap();
    assert_eq!((config.kv_heads, config.head_dim, config.vocab, config.rope.dim), (2, 24, 12, 8));
    assert_eq!((config.rope.theta, config.rope.scaling), (5e5, RopeScaling::Linear { factor: 4.0 }));
    assert_eq!(config.attention_scale, 0.5);
}

#[test]
fn what_the_decoder_lacks_is_refused() {
    let cases: [(&'static str, Option<Value>, &str); 13] = [
        (
            "general.architecture",
            Some(Str("gpt2")),
            "architecture gpt2 is not supported; supported are llama, qwen2, qwen3, ",
        ),
        ("general.architecture", None, "no key general.architecture"),
        ("llama.block_count", None, "no key llama.block_count"),
        ("llama.block_count", Some(Str("two")), "key llama.block_count: expected an integer"),
        ("llama.expert_count", Some(U32(8)), "llama.expert_count is 8; supported is 0"),
        (
            "llama.rope.scaling.type",
            Some(Str("dynamic")),
            "llama.rope.scaling.type is dynamic; supported is none, linear, yarn or longrope",
        ),
        ("llama.attention.value_length", Some(U32(8)), "llama.attention.value_length is 8; supported is 16"),
        ("llama.attention.causal", Some(Bool(false)), "llama.attention.causal is false; supported is true"),
        ("llama.logit_scale", Some(F32(0.5)), "llama.logit_scale is 0.5; supported is 1"),
        ("llama.attention.head_count", Some(U32(0)), "expected a head count from 1"),
        ("llama.attention.head_count_kv", Some(U32(3)), "multiple of the 3 key and value heads, found 4"),
        (
            "llama.rope.dimension_count",
            Some(U32(7)),
            "expected an even number of rotating values in each head of 16, found 7",
        ),
        ("llama.rope.freq_base", Some(F32(-1.0)), "expected a positive RoPE base, found -1"),
    ];
    for (key, value, expected) in cases {
        let found = read(&[(key, value)]).unwrap_err();
        assert!(found.contains(expected), "{key}: {found}");
    }
}

/// The experts of a Qwen3-MoE file with these keys beside the necessary ones.
fn experts(set: impl FnOnce(&mut MetadataBuilder)) -> Result<Experts, String> {
    let mut keys = MetadataBuilder::new();
    for (key, value) in [
        ("embedding_length", 64u32),
        ("attention.head_count", 4),
        ("context_length", 256),
        ("feed_forward_length", 96),
        ("block_count", 2),
        ("vocab_size", 11),
        ("expert_count", 8),
        ("expert_used_count", 3),
    ] {
        keys.set(&format!("qwen3moe.{key}"), &value);
    }
    keys.set("qwen3moe.attention.layer_norm_rms_epsilon", &1e-6f32);
    set(&mut keys);
    let row = ARCHITECTURES.iter().find(|a| a.name == "qwen3moe").unwrap();
    let path = std::path::Path::new("FILE");
    let config = (row.from_gguf)(&keys.read_back(path).unwrap()).and_then(|config| {
        config.validate(path)?;
        Ok(config)
    });
    config.map(|config| config.experts.unwrap()).map_err(|error| error.to_string())
}

#[test]
fn experts_are_as_the_keys_say() {
    let plain = experts(|_| ()).unwrap();
    assert_eq!((plain.count, plain.used, plain.intermediate, plain.normalized), (8, 3, 32, true));
    assert_eq!(
        (plain.score, plain.scale, plain.shared, &plain.layers[..]),
        (RouterScore::Softmax, 1.0, None, &[true; 2][..])
    );
    let told = experts(|keys| {
        keys.set("qwen3moe.expert_feed_forward_length", &40u32);
        keys.set("qwen3moe.expert_weights_norm", &false);
        keys.set("qwen3moe.expert_weights_scale", &2.5f32);
        keys.set("qwen3moe.expert_gating_func", &2u32);
        keys.set("qwen3moe.expert_shared_feed_forward_length", &16u32);
    });
    let expected = Experts {
        intermediate: 40,
        normalized: false,
        scale: 2.5,
        score: RouterScore::Sigmoid,
        shared: Some(16),
        ..plain
    };
    assert_eq!(told.unwrap(), expected);
    let wrong = |key: &str, value: u32| experts(|keys| keys.set(&format!("qwen3moe.{key}"), &value)).unwrap_err();
    for (key, value, expected) in [
        ("expert_count", 0, "expected an expert count from 1 to 65536, found 0"),
        ("expert_count", 2, "expected from 1 to 2 experts a position, found 3"),
        ("expert_count", 1 << 17, "expected an expert count from 1 to 65536, found 131072"),
        ("expert_used_count", 0, "expected from 1 to 8 experts a position, found 0"),
        ("expert_feed_forward_length", 0, "expected an expert's size from 1 to 268435455, found 0"),
        ("expert_gating_func", 3, "qwen3moe.expert_gating_func is 3; supported is 1 (softmax) or 2 (sigmoid)"),
        ("expert_group_count", 4, "qwen3moe.expert_group_count is 4; supported is 1"),
    ] {
        let found = wrong(key, value);
        assert!(found.contains(expected), "{key}: {found}");
    }
}
