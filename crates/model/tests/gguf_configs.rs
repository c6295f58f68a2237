//! Settings in GGUF metadata: what is read, what is left out by many files, what must be refused.

use formats::Checkpoint;
use formats::gguf::MetadataBuilder;
use kernels::plan::{RopeStyle, RouterScore};
use model::arch::{ARCHITECTURES, Architecture, Biases, DecoderConfig, Experts, MixerType, Presence, RopeScaling};

#[derive(Clone, Copy)]
enum Value {
    U32(u32),
    F32(f32),
    Bool(bool),
    Str(&'static str),
    /// A vocabulary of this many empty strings.
    Tokens(u64),
    Ints(&'static [i32]),
    Bools(&'static [bool]),
}
use Value::{Bool, Bools, F32, Ints, Str, Tokens, U32};

/// A list of a GGUF file: the type of its values, their number, and they.
fn list(kind: u32, count: usize, values: impl Iterator<Item = u8>) -> (u32, Vec<u8>) {
    let mut bytes = kind.to_le_bytes().to_vec();
    bytes.extend((count as u64).to_le_bytes());
    bytes.extend(values);
    (9, bytes)
}

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
            Ints(v) => list(5, v.len(), v.iter().flat_map(|v| v.to_le_bytes())),
            Bools(v) => list(7, v.len(), v.iter().map(|v| u8::from(*v))),
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
    read_as("llama", changes)
}

/// Likewise of another architecture, with its keys as if it were a llama.
fn read_as(architecture: &str, changes: &[(&'static str, Option<Value>)]) -> Result<DecoderConfig, String> {
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
    let own = |key: &str| key.replace("llama.", &format!("{architecture}."));
    let own: Vec<_> = keys.iter().map(|(key, value)| (own(key), *value)).collect();
    let mut keys: Vec<_> = own.iter().map(|(key, value)| (key.as_str(), *value)).collect();
    if let Some(known) = ["lfm2", "qwen35"].into_iter().find(|known| *known == architecture) {
        keys[0].1 = Str(known);
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

#[test]
fn layers_without_key_and_value_heads_are_convolutions() {
    let read = |heads: &'static [i32], taps: Option<Value>| {
        read_as("lfm2", &[("llama.attention.head_count_kv", Some(Ints(heads))), ("llama.shortconv.l_cache", taps)])
    };
    let config = read(&[0, 2], Some(U32(3))).unwrap();
    let mixers: Vec<_> = config.layer_types.iter().map(|layer| layer.mixer).collect();
    assert_eq!((config.kv_heads, &mixers[..]), (2, &[MixerType::ShortConv { taps: 3 }, MixerType::Attention][..]));
    for (heads, taps, expected) in [
        (&[0][..], Some(U32(3)), "expected lfm2.attention.head_count_kv of 2 layers, 0 or the same number, found [0]"),
        (&[1, 2], Some(U32(3)), "0 or the same number, found [1, 2]"),
        (&[0, 0], Some(U32(3)), "expected a key and value head count from 1"),
        (&[0, 3], Some(U32(3)), "multiple of the 3 key and value heads, found 4"),
        (&[0, 2], None, "no key lfm2.shortconv.l_cache"),
    ] {
        let found = read(heads, taps).unwrap_err();
        assert!(found.contains(expected), "{heads:?}: {found}");
    }
}

#[test]
fn linear_attention_has_sizes_that_agree() {
    let complete = |changes: &[(&'static str, Option<Value>)]| {
        let mut keys = vec![
            ("llama.block_count", Some(U32(5))),
            ("llama.ssm.conv_kernel", Some(U32(4))),
            ("llama.ssm.state_size", Some(U32(16))),
            ("llama.ssm.group_count", Some(U32(2))),
            ("llama.ssm.time_step_rank", Some(U32(4))),
            ("llama.ssm.inner_size", Some(U32(128))),
        ];
        keys.extend(changes);
        read_as("qwen35", &keys)
    };
    let linear = |config: &DecoderConfig| -> Vec<bool> {
        config.layer_types.iter().map(|layer| layer.mixer == MixerType::DeltaNet).collect()
    };
    let config = complete(&[]).unwrap();
    let net = config.delta_net.unwrap();
    assert_eq!((net.key_heads, net.value_heads, net.key_dim, net.value_dim, net.taps), (2, 4, 16, 32, 4));
    assert_eq!(linear(&config), [true, true, true, false, true]);
    let every_other = complete(&[("llama.full_attention_interval", Some(U32(2)))]).unwrap();
    assert_eq!(linear(&every_other), [true, false, true, false, true]);
    let listed = complete(&[
        ("llama.attention.recurrent_layers", Some(Bools(&[false, true, true, true, false]))),
        ("llama.nextn_predict_layers", Some(U32(1))),
    ]);
    let listed = listed.unwrap();
    assert_eq!((linear(&listed), listed.guessing_layers), (vec![false, true, true, true], 1));
    assert!(listed.is_guessing("blk.4.attn_q.weight") && !listed.is_guessing("blk.3.attn_q.weight"));
    for (key, value, expected) in [
        ("llama.ssm.group_count", U32(0), "expected a linear attention key head count from 1"),
        ("llama.ssm.group_count", U32(3), "a value head count that is a multiple of the 3 key heads, found 4"),
        ("llama.ssm.inner_size", U32(126), "qwen35.ssm.inner_size is 126; supported is 124"),
        ("llama.ssm.time_step_rank", U32(0), "qwen35.ssm.inner_size is 128; supported is 0"),
        ("llama.ssm.conv_kernel", U32(0), "expected a convolution size from 1"),
        ("llama.ssm.state_size", U32(1 << 31), "expected a linear attention key head size from 1"),
        ("llama.nextn_predict_layers", U32(9), "expected a layer count from 1"),
    ] {
        let found = complete(&[(key, Some(value))]).unwrap_err();
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
