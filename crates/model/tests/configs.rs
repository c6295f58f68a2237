//! Settings of published models, in every spelling, and settings that must be refused.

use std::path::Path;

use formats::Checkpoint;
use formats::hf::HfConfig;
use kernels::plan::{Activation, HeadOrder, NormKind, QueryGrowth, RopeStyle, RouterScore, Scales};
use model::ModelError;
use model::arch::{
    ARCHITECTURES, Architecture, Biases, DecoderConfig, Experts, LayerType, MixerType, Norms, Presence, QkNorm,
    RopeScaling, RopeSettings, Ternary,
};
use serde_json::{Value, json};

fn read(config: &Value) -> DecoderConfig {
    try_read(config).unwrap()
}

fn try_read(config: &Value) -> Result<DecoderConfig, ModelError> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("config.json");
    std::fs::write(&path, config.to_string()).unwrap();
    read_file(&HfConfig::open(&path).unwrap())
}

/// By the row of its type; of two, that of mixtures where the file has experts.
fn read_file(config: &HfConfig) -> Result<DecoderConfig, ModelError> {
    let has_type = |a: &&&Architecture| a.hf.iter().any(|names| names.0 == config.model_type().unwrap());
    let sparse = config.get::<usize>("num_local_experts").unwrap().is_some_and(|n| n > 0);
    let rows: Vec<_> = ARCHITECTURES.iter().filter(has_type).collect();
    let row = rows.iter().find(|a| rows.len() == 1 || a.has_experts() == sparse).unwrap();
    (row.from_hf)(config)
}

fn half(dim: usize, theta: f64, scaling: RopeScaling) -> RopeSettings {
    let divisors = Presence::Absent;
    RopeSettings { style: RopeStyle::Half, dim, theta, scaling, divisors, attention_factor: 1.0 }
}

#[test]
fn smollm2_135m() {
    let config = json!({
        "architectures": ["LlamaForCausalLM"], "attention_bias": false, "attention_dropout": 0.0, "bos_token_id": 1,
        "eos_token_id": 2, "hidden_act": "silu", "hidden_size": 576, "intermediate_size": 1536, "is_llama_config": true,
        "max_position_embeddings": 8192, "mlp_bias": false, "model_type": "llama", "num_attention_heads": 9,
        "num_hidden_layers": 30, "num_key_value_heads": 3, "pretraining_tp": 1, "rms_norm_eps": 1e-05,
        "rope_interleaved": false, "rope_scaling": null, "rope_theta": 100000, "tie_word_embeddings": true,
        "torch_dtype": "bfloat16", "use_cache": true, "vocab_size": 49152
    });
    let expected = DecoderConfig {
        hidden: 576,
        layers: 30,
        heads: 9,
        kv_heads: 3,
        head_dim: 64,
        intermediate: 1536,
        experts: None,
        vocab: 49152,
        context: 8192,
        norm: NormKind::Rms,
        norm_eps: 1e-5,
        norms: Norms::PLAIN,
        activation: Activation::Silu,
        scales: Scales::default(),
        attention_scale: 0.125,
        attention_softcap: None,
        attention_gate: false,
        delta_net: None,
        guessing_layers: 0,
        window: None,
        layer_types: vec![LayerType::PLAIN; 30],
        rope: half(64, 100_000.0, RopeScaling::None),
        sliding_rope: None,
        tied: true,
        biases: Biases::NONE,
        qk_norm: QkNorm::None,
        v_norm: false,
        clip_qkv: None,
        query_growth: None,
        layer_input: None,
        layer_scale: Presence::Absent,
        ternary: None,
    };
    assert_eq!(read(&config), expected);
}

#[test]
fn llama_3_2_1b_in_both_spellings() {
    let scaling = json!({
        "factor": 32.0, "high_freq_factor": 4.0, "low_freq_factor": 1.0, "original_max_position_embeddings": 8192,
        "rope_type": "llama3"
    });
    let mut old = json!({
        "architectures": ["LlamaForCausalLM"], "attention_bias": false, "head_dim": 64, "hidden_act": "silu",
        "hidden_size": 2048, "intermediate_size": 8192, "max_position_embeddings": 131072, "mlp_bias": false,
        "model_type": "llama", "num_attention_heads": 32, "num_hidden_layers": 16, "num_key_value_heads": 8,
        "rms_norm_eps": 1e-05, "rope_scaling": scaling, "rope_theta": 500000.0, "tie_word_embeddings": true,
        "vocab_size": 128256
    });
    let read_old = read(&old);
    let factors =
        RopeScaling::Llama3 { factor: 32.0, low_freq_factor: 1.0, high_freq_factor: 4.0, original_context: 8192 };
    assert_eq!(read_old.rope, half(64, 500_000.0, factors));
    assert_eq!((read_old.heads, read_old.kv_heads, read_old.context), (32, 8, 131_072));

    let mut parameters = scaling;
    parameters["rope_theta"] = json!(500000.0);
    let keys = old.as_object_mut().unwrap();
    keys.remove("rope_scaling");
    keys.remove("rope_theta");
    keys.insert("rope_parameters".into(), parameters);
    assert_eq!(read(&old), read_old);
}

#[test]
fn qwen2_5_0_5b_has_a_window_that_is_off() {
    let config = read(&json!({
        "architectures": ["Qwen2ForCausalLM"], "hidden_act": "silu", "hidden_size": 896, "intermediate_size": 4864,
        "max_position_embeddings": 32768, "max_window_layers": 21, "model_type": "qwen2", "num_attention_heads": 14,
        "num_hidden_layers": 24, "num_key_value_heads": 2, "rms_norm_eps": 1e-06, "rope_theta": 1000000.0,
        "sliding_window": 16384, "tie_word_embeddings": true, "use_sliding_window": false, "vocab_size": 151936
    }));
    assert_eq!(config.biases, Biases { qkv: Presence::Required, ..Biases::NONE });
    assert_eq!((config.head_dim, config.tied, config.norm_eps), (64, true, 1e-6));
}

#[test]
fn qwen3_0_6b_has_heads_wider_than_its_share_of_the_hidden_size() {
    let config = read(&json!({
        "architectures": ["Qwen3ForCausalLM"], "attention_bias": false, "head_dim": 128, "hidden_act": "silu",
        "hidden_size": 1024, "intermediate_size": 3072, "max_position_embeddings": 40960, "max_window_layers": 28,
        "model_type": "qwen3", "num_attention_heads": 16, "num_hidden_layers": 28, "num_key_value_heads": 8,
        "rms_norm_eps": 1e-06, "rope_scaling": null, "rope_theta": 1000000, "sliding_window": null,
        "tie_word_embeddings": true, "use_sliding_window": false, "vocab_size": 151936
    }));
    assert_eq!((config.head_dim, config.qk_norm, config.biases), (128, QkNorm::Heads, Biases::NONE));
    assert_eq!(config.attention_scale, (1.0 / 128f64.sqrt()) as f32);
}

/// The file leaves out what is as in the class's defaults.
#[test]
fn gemma_3_4b_nests_its_text() {
    let config = read(&json!({
        "architectures": ["Gemma3ForConditionalGeneration"], "model_type": "gemma3", "mm_tokens_per_image": 256,
        "text_config": {
            "hidden_size": 2560, "intermediate_size": 10240, "model_type": "gemma3_text", "num_hidden_layers": 34,
            "rope_scaling": {"factor": 8.0, "rope_type": "linear"}, "sliding_window": 1024
        },
        "torch_dtype": "bfloat16", "vision_config": {"hidden_size": 1152, "model_type": "siglip_vision_model"}
    }));
    assert_eq!((config.layers, config.heads, config.kv_heads, config.head_dim), (34, 8, 4, 256));
    assert_eq!((config.vocab, config.context, config.tied), (262_208, 131_072, true));
    assert_eq!(config.rope, half(256, 1_000_000.0, RopeScaling::Linear { factor: 8.0 }));
    assert_eq!(config.sliding_rope, Some(half(256, 10_000.0, RopeScaling::None)));
    let sliding = |i: usize| LayerType { sliding: i % 6 != 5, ..LayerType::PLAIN };
    assert_eq!(config.layer_types, (0..34).map(sliding).collect::<Vec<_>>());
    assert_eq!((config.window, config.attention_scale), (Some(1024), 0.0625));
    assert_eq!((config.activation, config.scales.embedding), (Activation::GeluTanh, 2560f32.sqrt()));
    assert!(config.norms.plus_one && config.norms.after);
}

#[test]
fn phi_4_mini_has_factors_for_each_frequency() {
    let (short, long) = (vec![1.0; 48], vec![2.5; 48]);
    let config = read(&json!({
        "architectures": ["Phi3ForCausalLM"], "attention_bias": false, "hidden_act": "silu", "hidden_size": 3072,
        "intermediate_size": 8192, "max_position_embeddings": 131072, "model_type": "phi3", "num_attention_heads": 24,
        "num_hidden_layers": 32, "num_key_value_heads": 8, "original_max_position_embeddings": 4096,
        "partial_rotary_factor": 0.75, "rms_norm_eps": 1e-05,
        "rope_scaling": {"long_factor": long, "short_factor": short, "type": "longrope"}, "rope_theta": 10000.0,
        "sliding_window": 262144, "tie_word_embeddings": true, "vocab_size": 200064
    }));
    assert_eq!((config.head_dim, config.rope.dim, config.tied), (128, 96, true));
    // sqrt(1 + ln(32) / ln(4096))
    assert_eq!(config.rope.attention_factor, 1.190_238_1);
    let long = config.rope.long().unwrap();
    assert_eq!((long.above, long.inv_freq[0], config.rope.inv_freq()[0]), (4096, 0.4, 1.0));
}

/// The file asks for a feed-forward width that is adjusted, and has other names for some settings.
#[test]
fn lfm2_1_2b_is_mostly_convolutions() {
    let config = read(&json!({
        "architectures": ["Lfm2ForCausalLM"], "block_auto_adjust_ff_dim": true, "block_dim": 2048,
        "block_ff_dim": 12288, "block_ffn_dim_multiplier": 1.0, "block_multiple_of": 256, "block_norm_eps": 1e-05,
        "conv_L_cache": 3, "conv_bias": false, "conv_dim": 2048, "full_attn_idxs": [2, 5, 8, 10, 12, 14],
        "hidden_size": 2048, "max_position_embeddings": 128000, "model_type": "lfm2", "norm_eps": 1e-05,
        "num_attention_heads": 32, "num_heads": 32, "num_hidden_layers": 16, "num_key_value_heads": 8,
        "rope_theta": 1000000.0, "torch_dtype": "bfloat16", "use_pos_enc": true, "vocab_size": 65536
    }));
    assert_eq!((config.intermediate, config.head_dim, config.kv_heads, config.tied), (8192, 64, 8, true));
    assert_eq!((config.norm_eps, config.qk_norm), (1e-5, QkNorm::Heads));
    let attends = config.layer_types.iter().enumerate().filter(|(_, l)| l.mixer == MixerType::Attention);
    assert_eq!(attends.map(|(i, _)| i).collect::<Vec<_>>(), [2, 5, 8, 10, 12, 14]);
    assert_eq!(config.layer_types[0].mixer, MixerType::ShortConv { taps: 3 });
}

#[test]
fn qwen3_5_4b_nests_linear_attention() {
    let config = json!({
        "architectures": ["Qwen3_5ForConditionalGeneration"], "image_token_id": 248056, "model_type": "qwen3_5",
        "text_config": {
            "attention_bias": false, "attn_output_gate": true, "full_attention_interval": 4, "head_dim": 256,
            "hidden_act": "silu", "hidden_size": 2560, "intermediate_size": 9216, "linear_conv_kernel_dim": 4,
            "linear_key_head_dim": 128, "linear_num_key_heads": 16, "linear_num_value_heads": 32,
            "linear_value_head_dim": 128, "max_position_embeddings": 262144, "model_type": "qwen3_5_text",
            "mtp_num_hidden_layers": 1, "num_attention_heads": 16, "num_hidden_layers": 32, "num_key_value_heads": 4,
            "rms_norm_eps": 1e-06, "vocab_size": 248320,
            "rope_parameters": {
                "mrope_interleaved": true, "mrope_section": [11, 11, 10], "partial_rotary_factor": 0.25,
                "rope_theta": 10000000, "rope_type": "default"
            }
        },
        "tie_word_embeddings": true, "vision_config": {"model_type": "qwen3_5"}
    });
    let config = read(&config);
    assert_eq!((config.head_dim, config.rope.dim, config.rope.theta, config.tied), (256, 64, 1e7, true));
    assert!(config.attention_gate && config.norms.plus_one && !config.norms.after);
    let net = config.delta_net.unwrap();
    assert_eq!((net.key_heads, net.value_heads, net.key_dim, net.value_dim, net.taps), (16, 32, 128, 128, 4));
    assert_eq!(net.order, HeadOrder::Grouped);
    let mixer = |i: usize| if i % 4 == 3 { MixerType::Attention } else { MixerType::DeltaNet };
    let expected: Vec<_> = (0..32).map(|i| LayerType { mixer: mixer(i), ..LayerType::PLAIN }).collect();
    assert_eq!(config.layer_types, expected);
}

#[test]
fn bitnet_is_ternary_exactly_when_the_file_says_so() {
    let mut config = json!({
        "architectures": ["BitNetForCausalLM"], "hidden_act": "relu2", "hidden_size": 2560, "intermediate_size": 6912,
        "max_position_embeddings": 4096, "model_type": "bitnet", "num_attention_heads": 20, "num_hidden_layers": 30,
        "num_key_value_heads": 5, "rms_norm_eps": 1e-05, "rope_theta": 500000.0, "tie_word_embeddings": true,
        "vocab_size": 128256
    });
    assert_eq!((read(&config).ternary, read(&config).activation), (None, Activation::SquaredRelu));
    for (class, mode, expected) in [
        ("autobitlinear", "offline", Ternary::Packed { divides: false }),
        ("autobitlinear", "online", Ternary::Online),
        ("bitlinear", "offline", Ternary::Packed { divides: true }),
    ] {
        config["quantization_config"] =
            json!({"quant_method": "bitnet", "linear_class": class, "quantization_mode": mode});
        assert_eq!(read(&config).ternary, Some(expected), "{class} {mode}");
    }
    // The head is never ternary; what else stays as it is would be rounded.
    config["quantization_config"]["modules_to_not_convert"] = json!(["lm_head"]);
    assert_eq!(read(&config).ternary, Some(Ternary::Packed { divides: true }));
    config["quantization_config"]["modules_to_not_convert"] = json!(["lm_head", "model.layers.0.mlp"]);
    let refused = try_read(&config).unwrap_err().to_string();
    assert!(refused.contains("modules_to_not_convert") && refused.contains("model.layers.0.mlp"), "{refused}");
}

const SOFTMAX: Experts = Experts {
    count: 0,
    used: 0,
    intermediate: 0,
    score: RouterScore::Softmax,
    normalized: true,
    scale: 1.0,
    shared: None,
    shared_gate: false,
    choice_bias: Presence::Absent,
    layers: Vec::new(),
};

#[test]
fn qwen3_30b_a3b() {
    let mut config = json!({
        "architectures": ["Qwen3MoeForCausalLM"], "attention_bias": false, "attention_dropout": 0.0,
        "decoder_sparse_step": 1, "eos_token_id": 151645, "head_dim": 128, "hidden_act": "silu", "hidden_size": 2048,
        "intermediate_size": 6144, "max_position_embeddings": 40960, "max_window_layers": 48, "mlp_only_layers": [],
        "model_type": "qwen3_moe", "moe_intermediate_size": 768, "norm_topk_prob": true, "num_attention_heads": 32,
        "num_experts": 128, "num_experts_per_tok": 8, "num_hidden_layers": 48, "num_key_value_heads": 4,
        "output_router_logits": false, "rms_norm_eps": 1e-06, "rope_scaling": null, "rope_theta": 1000000.0,
        "sliding_window": null, "tie_word_embeddings": false, "use_sliding_window": false, "vocab_size": 151936
    });
    let experts = Experts { count: 128, used: 8, intermediate: 768, layers: vec![true; 48], ..SOFTMAX };
    assert_eq!(read(&config).experts, Some(experts.clone()));
    assert_eq!((read(&config).qk_norm, read(&config).head_dim), (QkNorm::Heads, 128));

    config["norm_topk_prob"] = json!(false);
    config["decoder_sparse_step"] = json!(2);
    config["mlp_only_layers"] = json!([3, 46]);
    let layers = (0..48).map(|layer| layer % 2 == 1 && layer != 3).collect();
    assert_eq!(read(&config).experts, Some(Experts { normalized: false, layers, ..experts }));
}

#[test]
fn granite_with_experts() {
    let mut config = json!({
        "architectures": ["GraniteMoeForCausalLM"], "attention_bias": false, "attention_multiplier": 0.015625,
        "embedding_multiplier": 12.0, "hidden_act": "silu", "hidden_size": 1536, "intermediate_size": 512,
        "logits_scaling": 6.0, "max_position_embeddings": 131072, "model_type": "granitemoe",
        "num_attention_heads": 24, "num_experts_per_tok": 8, "num_hidden_layers": 32, "num_key_value_heads": 8,
        "num_local_experts": 40, "residual_multiplier": 0.22, "rms_norm_eps": 1e-06, "rope_scaling": null,
        "rope_theta": 10000000.0, "tie_word_embeddings": true, "vocab_size": 49155
    });
    let experts = Experts { count: 40, used: 8, intermediate: 512, layers: vec![true; 32], ..SOFTMAX };
    assert_eq!(read(&config).experts, Some(experts.clone()));
    assert_eq!((read(&config).scales.logits, read(&config).attention_scale), (1.0 / 6.0, 0.015625));

    config["model_type"] = json!("granitemoeshared");
    config["shared_intermediate_size"] = json!(1024);
    assert_eq!(read(&config).experts, Some(Experts { shared: Some(1024), ..experts }));
}

#[test]
fn granite_4_runs_where_all_layers_are_attention() {
    let mut config = json!({
        "architectures": ["GraniteMoeHybridForCausalLM"], "attention_bias": false, "attention_multiplier": 0.015625,
        "embedding_multiplier": 12, "hidden_act": "silu", "hidden_size": 2560, "intermediate_size": 8192,
        "layer_types": vec!["attention"; 40], "logits_scaling": 10, "mamba_n_heads": 128,
        "max_position_embeddings": 131072, "model_type": "granitemoehybrid", "num_attention_heads": 40,
        "num_experts_per_tok": 0, "num_hidden_layers": 40, "num_key_value_heads": 8, "num_local_experts": 0,
        "position_embedding_type": "rope", "residual_multiplier": 0.22, "rms_norm_eps": 1e-05, "rope_scaling": null,
        "rope_theta": 10000000, "shared_intermediate_size": 8192, "tie_word_embeddings": true, "vocab_size": 100352
    });
    assert_eq!((read(&config).experts, read(&config).intermediate), (None, 8192));
    assert_eq!(read(&config).layer_types, vec![LayerType::PLAIN; 40]);
    config["position_embedding_type"] = json!("nope");
    assert!(read(&config).layer_types.iter().all(|layer| !layer.rope));

    config["num_local_experts"] = json!(64);
    config["num_experts_per_tok"] = json!(6);
    let experts = read(&config).experts.unwrap();
    assert_eq!((experts.count, experts.used, experts.shared), (64, 6, Some(8192)));

    for types in [json!(["attention", "mamba"].repeat(20)), json!(vec!["linear_attention"; 40]), Value::Null] {
        config["layer_types"] = types;
        let error = read_file(&HfConfig::new(Path::new("DIR"), config.clone())).unwrap_err().to_string();
        assert!(error.ends_with("supported is attention in every layer; layers of Mamba do not run"), "{error}");
    }
}

#[test]
fn linear_scaling_divides_frequencies() {
    let plain = half(64, 10_000.0, RopeScaling::None).inv_freq();
    let scaled = half(64, 10_000.0, RopeScaling::Linear { factor: 4.0 }).inv_freq();
    assert_eq!(plain.len(), 32);
    assert_eq!(plain[0], 1.0);
    assert!(plain.iter().zip(scaled).all(|(p, s)| s == p / 4.0));
}

/// The `llama` case with keys of its `config.json` replaced; null removes one.
fn load_changed(changes: &Value) -> String {
    load_changed_case("llama", changes)
}

fn load_changed_case(case: &str, changes: &Value) -> String {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/data/checkpoints").join(case);
    let folder = tempfile::tempdir().unwrap();
    std::fs::copy(source.join("model.safetensors"), folder.path().join("model.safetensors")).unwrap();
    let mut config: Value = serde_json::from_slice(&std::fs::read(source.join("config.json")).unwrap()).unwrap();
    for (key, value) in changes.as_object().unwrap() {
        config[key] = value.clone();
    }
    std::fs::write(folder.path().join("config.json"), config.to_string()).unwrap();
    match model::build_plan(&Checkpoint::open(folder.path()).unwrap()) {
        Ok(_) => "loaded".to_owned(),
        Err(error) => error.to_string().replace(&folder.path().display().to_string(), "DIR"),
    }
}

#[test]
fn the_embedding_can_be_tied_although_there_is_an_output_matrix() {
    assert_eq!(load_changed(&json!({"tie_word_embeddings": true})), "loaded");
}

#[test]
fn what_the_decoder_lacks_is_refused_with_its_place() {
    let names = |which: fn(&(&'static str, &'static str)) -> &'static str| {
        let mut names: Vec<&str> = Vec::new();
        for name in ARCHITECTURES.iter().flat_map(|a| a.hf).map(which) {
            if !names.contains(&name) {
                names.push(name);
            }
        }
        names.join(", ")
    };
    let (types, classes) = (names(|names| names.0), names(|names| names.1));
    let cases = [
        (json!({}), "loaded"),
        (json!({"model_type": "gpt2"}), &format!("DIR: architecture gpt2 is not supported; supported are {types}")),
        (
            json!({"architectures": ["LlamaForSequenceClassification"]}),
            &format!("DIR: architecture LlamaForSequenceClassification is not supported; supported are {classes}"),
        ),
        (
            json!({"hidden_act": "gelu"}),
            "DIR/config.json: hidden_act is gelu; supported is silu, swish, gelu_pytorch_tanh, gelu_new, relu2",
        ),
        (
            json!({"rope_parameters": {"rope_type": "dynamic", "factor": 4.0}}),
            "DIR/config.json: rope_type is dynamic; supported is default, linear, llama3, yarn, longrope or proportional",
        ),
        (
            json!({"rope_parameters": {"rope_type": "linear"}}),
            "DIR/config.json: expected factor for RoPE scaling of type linear, found none",
        ),
        (
            json!({"rope_parameters": {"rope_type": "linear", "factor": 0}}),
            "DIR: expected a positive RoPE scaling factor, found 0",
        ),
        (json!({"partial_rotary_factor": 0.5}), "DIR/config.json: partial_rotary_factor is 0.5; supported is 1"),
        (
            json!({"sliding_window": 128}),
            "DIR/config.json: sliding_window is 128; supported is attention to the whole context",
        ),
        (
            json!({"layer_types": ["full_attention", "sliding_attention"]}),
            "DIR/config.json: layer_types is sliding_attention; supported is full_attention",
        ),
        (
            json!({"quantization_config": {"quant_method": "gptq", "bits": 4}}),
            "DIR/config.json: quantization_config is \"gptq\"; supported is weights that are not quantized, in F32, F16 \
             or BF16",
        ),
        (
            json!({"num_hidden_layers": 4000000000u32}),
            "DIR/config.json: expected a layer count from 1 to 65536, found 4000000000",
        ),
        (json!({"num_local_experts": 8}), "DIR/config.json: num_local_experts is 8; supported is 0"),
        (json!({"num_experts": 8}), "DIR/config.json: num_experts is 8; supported is 0"),
        (json!({"num_hidden_layers": 0}), "DIR: expected a layer count from 1 to 65536, found 0"),
        (
            json!({"num_attention_heads": 0, "head_dim": null}),
            "DIR: expected a head count from 1 to 2147483647, found 0",
        ),
        (
            json!({"num_key_value_heads": 3}),
            "DIR: expected a head count that is a multiple of the 3 key and value heads, found 4",
        ),
        (
            json!({"num_attention_heads": 2000000000, "num_key_value_heads": 1, "head_dim": 2000000000}),
            "DIR: expected heads of at most 2147483647 values together, found 2000000000 of 2000000000",
        ),
        (json!({"rms_norm_eps": -1.0}), "DIR: expected a positive norm epsilon, found -1"),
    ];
    for (changes, expected) in cases {
        assert_eq!(load_changed(&changes), expected, "{changes}");
    }
}

#[test]
fn tensors_must_fit_the_settings() {
    let cases = [
        (
            json!({"hidden_size": 96}),
            "DIR: tensor model.embed_tokens.weight: expected shape [264, 96], found shape [264, 64]",
        ),
        (json!({"num_hidden_layers": 3}), "no tensor model.layers.2.input_layernorm.weight"),
        (json!({"attention_bias": true}), "no tensor model.layers.0.self_attn.q_proj.bias"),
        (
            json!({"num_hidden_layers": 1}),
            "expected no such tensor in a model of architecture llama, found one of shape",
        ),
        (
            json!({"architectures": ["Qwen3ForCausalLM"], "model_type": "qwen3"}),
            "no tensor model.layers.0.self_attn.q_norm.weight",
        ),
    ];
    for (changes, expected) in cases {
        let found = load_changed(&changes);
        assert!(found.contains(expected), "{changes}: {found}");
    }
}

/// The sizes of the smallest one as published, in the older of the spellings of what layers have of their own.
#[test]
fn gemma_4_e2b_shares_keys_and_has_inputs() {
    let types: Vec<_> = (0..35).map(|i| if i % 5 == 4 { "full_attention" } else { "sliding_attention" }).collect();
    let mut file = json!({
        "architectures": ["Gemma4ForConditionalGeneration"], "model_type": "gemma4",
        "text_config": {
            "attention_k_eq_v": false, "final_logit_softcapping": 30.0, "global_head_dim": 512, "head_dim": 256,
            "hidden_size": 1536, "hidden_size_per_layer_input": 256, "intermediate_size": 6144, "layer_types": types,
            "model_type": "gemma4_text", "num_attention_heads": 8, "num_global_key_value_heads": null,
            "num_hidden_layers": 35, "num_key_value_heads": 1, "num_kv_shared_layers": 20, "sliding_window": 512,
            "use_double_wide_mlp": true, "vocab_size": 262144, "vocab_size_per_layer_input": 262144
        }
    });
    let config = read(&file);
    assert_eq!((config.layers, config.heads, config.kv_heads, config.head_dim), (35, 8, 1, 512));
    assert_eq!((config.attention_scale, config.v_norm, config.layer_input), (1.0, true, Some(256)));
    assert_eq!(config.rope, half(512, 1_000_000.0, RopeScaling::Proportional { pairs: 64 }));
    assert_eq!(config.sliding_rope, Some(half(256, 10_000.0, RopeScaling::None)));
    let own = LayerType { head_dim: Some(256), ..LayerType::SLIDING };
    assert_eq!((config.layer_types[0], config.layer_types[14]), (own, LayerType::PLAIN));
    let wide = Some(12_288);
    assert_eq!(config.layer_types[15], LayerType { reads: Some(13), intermediate: wide, ..own });
    assert_eq!(config.layer_types[34], LayerType { reads: Some(14), intermediate: wide, ..LayerType::PLAIN });

    // As the large ones: keys are values, and nothing is given to layers.
    let text = &mut file["text_config"];
    (text["attention_k_eq_v"], text["num_kv_shared_layers"]) = (json!(true), json!(0));
    (text["num_global_key_value_heads"], text["num_key_value_heads"]) = (json!(4), json!(8));
    (text["hidden_size_per_layer_input"], text["use_double_wide_mlp"]) = (Value::Null, json!(false));
    let config = read(&file);
    assert_eq!((config.kv_heads, config.kv_heads_of(0), config.layer_input), (4, 8, None));
    assert_eq!((config.layer_types[0].values, config.layer_types[4].values), (Presence::Required, Presence::Absent));
}

#[test]
fn ministral_3_has_queries_that_grow() {
    let config = read(&json!({
        "architectures": ["Mistral3ForConditionalGeneration"], "model_type": "mistral3",
        "text_config": {
            "hidden_size": 3072, "intermediate_size": 9216, "model_type": "ministral3", "num_hidden_layers": 26,
            "tie_word_embeddings": true
        }
    }));
    assert_eq!((config.layers, config.heads, config.kv_heads, config.head_dim, config.tied), (26, 32, 8, 128, true));
    assert_eq!(config.query_growth, Some(QueryGrowth { beta: 0.1, every: 16_384 }));
    assert_eq!(config.rope.attention_factor, 1.0);
    let steps = |position| config.query_growth.unwrap().factor(position);
    assert_eq!((steps(16_383), steps(16_384)), (1.0, 1.0 + 0.1 * 2f32.ln()));
}

#[test]
fn variants_of_gemma_4_and_mistral_are_refused_with_the_reason() {
    let gemma4 = |key: &str, value: Value| {
        let mut file = json!({"architectures": ["Gemma4ForCausalLM"], "model_type": "gemma4_text"});
        file[key] = value;
        file
    };
    let mistral4 = json!({"model_type": "mistral3", "text_config": {"model_type": "mistral4"}});
    let shared = "expected keys and values for layer 0 among the first 0, found none";
    let cases = [
        (gemma4("enable_moe_block", json!(true)), "enable_moe_block is true; supported is false"),
        (gemma4("attention_bias", json!(true)), "attention_bias is true; supported is false"),
        (gemma4("use_bidirectional_attention", json!("all")), "supported is null or vision"),
        (gemma4("vocab_size_per_layer_input", json!(1000)), "vocab_size_per_layer_input is 1000; supported is 262144"),
        (gemma4("num_kv_shared_layers", json!(30)), shared),
        (gemma4("per_layer_config", json!({"5": {"head_dim": 64}, "11": {"head_dim": 32}})), "one size for all"),
        (mistral4, "text_config.model_type is mistral4; supported is ministral3 or mistral"),
    ];
    for (file, expected) in cases {
        let found = try_read(&file).unwrap_err().to_string();
        assert!(found.contains(expected), "{found}");
    }
}

#[test]
fn experts_must_fit_the_settings() {
    let cases = [
        ("qwen3moe", json!({}), "loaded"),
        (
            "qwen3moe",
            json!({"num_local_experts": 8}),
            "tensor model.layers.0.mlp.gate.weight: expected shape [8, 32], found shape [7, 32]",
        ),
        (
            "qwen3moe",
            json!({"moe_intermediate_size": 32}),
            "tensor model.layers.0.mlp.experts.0.gate_proj.weight: expected shape [32, 32], found shape [24, 32]",
        ),
        ("qwen3moe", json!({"mlp_only_layers": [0]}), "no tensor model.layers.0.mlp.gate_proj.weight"),
        ("qwen3moe", json!({"num_experts_per_tok": 8}), "expected from 1 to 7 experts a position, found 8"),
        ("qwen3moe-stacked", json!({"mlp_only_layers": []}), "no tensor model.layers.1.mlp.gate.weight"),
        (
            "qwen3moe-stacked",
            json!({"moe_intermediate_size": 25}),
            "tensor model.layers.0.mlp.experts.gate_up_proj: expected shape [7, 50, 32], found shape [7, 48, 32]",
        ),
        (
            "granitemoe",
            json!({"intermediate_size": 40}),
            "tensor model.layers.0.block_sparse_moe.input_linear.weight: expected shape [5, 80, 32], found shape [5, 96, 32]",
        ),
        (
            "granitemoe",
            json!({"model_type": "granitemoeshared", "architectures": null, "shared_intermediate_size": 40}),
            "no tensor model.layers.0.shared_mlp.input_linear.weight",
        ),
        (
            "granitemoeshared",
            json!({"shared_intermediate_size": 0}),
            "expected no such tensor in a model of architecture granitemoe, found one of shape [80, 32]",
        ),
        ("olmoe", json!({"clip_qkv": -8.0}), "expected a positive bound of queries, keys and values, found -8"),
    ];
    for (case, changes, expected) in cases {
        let found = load_changed_case(case, &changes);
        assert!(found.contains(expected), "{case} {changes}: {found}");
    }
}
