#!/usr/bin/env python3
"""Tiny random Hugging Face checkpoints with the logits that transformers computes for them in float32.

usage: tiny_checkpoints.py [--wide TIMES] OUT_FOLDER [CASE …]       (tests/data/checkpoints in the repository)

Each case becomes OUT_FOLDER/CASE/ with config.json, generation_config.json, tokenizer.json, tokenizer_config.json,
model.safetensors, tokens.json (48 or 96 token ids) and logits.npy (float32 [tokens, vocab], row i after tokens 0..=i).
The logits are those of the *saved* files: each checkpoint is loaded again with dtype=float32, so that rounded weights are
part of the reference while the RoPE frequencies stay float32.

The same seed gives the same bytes with the versions in requirements.txt. With --wide, hidden sizes, widths and numbers of
heads are TIMES those of the cases, for what takes rows of several groups.
"""

import json
import math
import sys
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file
import transformers as t
from transformers.integrations.bitnet import pack_weights
from transformers import AutoModelForCausalLM, LlamaConfig, PreTrainedModel, Qwen2Config, Qwen3Config

from tiny_tokenizer import BOS, EOS, VOCAB_SIZE, write_tokenizer

POSITIONS = 48
# Of cases with a window, or with an original context: three times those.
LONG = 96
WINDOW = 32


@dataclass
class Case:
    """One checkpoint: `config` is a transformers configuration, `dtype` that of the saved weights."""

    name: str
    seed: int
    config: object
    dtype: torch.dtype
    # Configuration keys to replace in config.json: the spelling before transformers 5.
    old_spelling: dict = field(default_factory=dict)
    # Split the weights into files of at most this many bytes, with an index.
    shard_bytes: int | None = None
    positions: int = POSITIONS
    # Whether experts are saved as transformers keeps them in memory, all in one tensor.
    in_memory: bool = False
    # `quantization_config` of ternary weights: written as quantized, with four rows in a byte unless rounded online.
    ternary: dict = field(default_factory=dict)


COMMON = dict(vocab_size=VOCAB_SIZE, bos_token_id=BOS, eos_token_id=EOS, pad_token_id=None)

# RoPE of Llama 3.1 with the original context scaled down to 64, so that of the 16 frequencies (wavelengths 6.3, 11.2,
# 19.9, 35.3, 62.8, 112, … positions) two are kept, three are interpolated and the rest are divided by 8.
LLAMA3_ROPE = dict(
    rope_type="llama3",
    factor=8.0,
    low_freq_factor=1.0,
    high_freq_factor=4.0,
    original_max_position_embeddings=64,
)


def llama3_rope_config() -> LlamaConfig:
    return LlamaConfig(
        hidden_size=32, intermediate_size=96, num_hidden_layers=2, num_attention_heads=2, num_key_value_heads=1,
        head_dim=32, max_position_embeddings=512, rms_norm_eps=1e-5, tie_word_embeddings=True,
        rope_parameters=dict(LLAMA3_ROPE, rope_theta=10000.0), **COMMON,
    )  # fmt: skip


def cases() -> list[Case]:
    llama = LlamaConfig(
        hidden_size=64, intermediate_size=96, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2,
        head_dim=16, max_position_embeddings=256, rms_norm_eps=1e-5, tie_word_embeddings=False,
        rope_parameters=dict(rope_type="default", rope_theta=10000.0), **COMMON,
    )  # fmt: skip
    qwen2 = Qwen2Config(
        hidden_size=32, intermediate_size=96, num_hidden_layers=2, num_attention_heads=2, num_key_value_heads=1,
        max_position_embeddings=256, rms_norm_eps=1e-6, tie_word_embeddings=True, use_sliding_window=False,
        rope_parameters=dict(rope_type="default", rope_theta=1000000.0), **COMMON,
    )  # fmt: skip
    qwen3 = Qwen3Config(
        hidden_size=32, intermediate_size=96, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2,
        head_dim=16, max_position_embeddings=256, rms_norm_eps=1e-6, tie_word_embeddings=True,
        use_sliding_window=False, rope_parameters=dict(rope_type="default", rope_theta=1000000.0), **COMMON,
    )  # fmt: skip
    old = dict(
        rope_parameters=None, rope_theta=10000.0, rope_scaling=LLAMA3_ROPE,
        dtype=None, torch_dtype="bfloat16", transformers_version="4.46.0",
    )  # fmt: skip
    return [
        *gemma4_and_ministral3(),
        Case("llama", 1, llama, torch.float16),
        Case("llama3-rope", 2, llama3_rope_config(), torch.bfloat16),
        # The same weights as above, in two files.
        Case("llama3-rope-old", 2, llama3_rope_config(), torch.bfloat16, old_spelling=old, shard_bytes=40_000),
        Case("qwen2", 3, qwen2, torch.float32),
        Case("qwen3", 4, qwen3, torch.float32),
        Case("bitnet", 40, bitnet(), torch.bfloat16, positions=LONG),
        Case("bitnet-online", 40, bitnet(), torch.bfloat16, positions=LONG, ternary=TERNARY | dict(quantization_mode="online")),
        Case("bitnet-packed", 40, bitnet(), torch.bfloat16, positions=LONG, ternary=TERNARY | dict(quantization_mode="offline")),
        *[Case(name, 50 + i, config, torch.bfloat16, positions=LONG) for i, (name, config) in enumerate(with_states().items())],
        *[
            # Published as transformers keeps them in memory, the first alone.
            Case(name, 70 + i, config, torch.bfloat16, positions=LONG, in_memory=name == "qwen35moe")
            for i, (name, config) in enumerate(mixtures_with_states().items())
        ],
        *[Case(name, 10 + i, config, torch.bfloat16, positions=LONG) for i, (name, config) in enumerate(families().items())],
        *[
            Case(name, 50 + i, config, torch.bfloat16, positions=LONG, in_memory=name.endswith("-stacked"), old_spelling=spelling)
            for i, (name, (config, spelling)) in enumerate(mixtures().items())
        ],
    ]


def with_states() -> dict[str, object]:
    """Families with layers that keep states."""
    plain = dict(hidden_size=32, intermediate_size=48, num_attention_heads=2, num_key_value_heads=1, max_position_embeddings=256, **COMMON)
    rope = dict(rope_type="default", rope_theta=10000.0, partial_rotary_factor=0.25, mrope_interleaved=True, mrope_section=[2, 1, 1])
    linear = dict(linear_key_head_dim=16, linear_value_head_dim=16, linear_num_key_heads=2, linear_conv_kernel_dim=4)
    qwen = dict(plain, num_hidden_layers=4, head_dim=32, rope_parameters=rope, **linear)
    return {
        "lfm2": t.Lfm2Config(
            **plain, num_hidden_layers=4, layer_types=["conv", "full_attention", "conv", "conv"], block_multiple_of=16,
            tie_word_embeddings=True, rope_parameters=dict(rope_type="default", rope_theta=10000.0),
        ),
        # Value heads that share key heads.
        "qwen35": t.Qwen3_5TextConfig(**qwen, linear_num_value_heads=4, tie_word_embeddings=True),
        # The text part of a model that sees; its checkpoint has a layer that guesses further tokens, too.
        "qwen35-vision": t.Qwen3_5Config(
            text_config=dict(qwen, num_hidden_layers=2, layer_types=["full_attention", "linear_attention"], linear_num_value_heads=2),
            vision_config=dict(
                hidden_size=16, intermediate_size=16, depth=1, num_heads=1, out_hidden_size=32, patch_size=4,
                spatial_merge_size=1, num_position_embeddings=16,
            ),
            image_token_id=0, video_token_id=1, vision_start_token_id=2, vision_end_token_id=3,
        ),
    }  # fmt: skip


def mixtures_with_states() -> dict[str, object]:
    """Families with layers that keep states, and mixtures of experts."""
    plain = dict(hidden_size=32, num_attention_heads=2, num_key_value_heads=1, max_position_embeddings=256, **COMMON)
    rope = dict(rope_type="default", rope_theta=10000.0, partial_rotary_factor=0.25, mrope_interleaved=True, mrope_section=[2, 1, 1])
    experts = dict(num_experts=7, num_experts_per_tok=3, moe_intermediate_size=24)
    return {
        "qwen35moe": t.Qwen3_5MoeTextConfig(
            **plain, **experts, num_hidden_layers=4, head_dim=32, rope_parameters=rope, shared_expert_intermediate_size=40,
            linear_key_head_dim=16, linear_value_head_dim=16, linear_num_key_heads=2, linear_num_value_heads=4,
            linear_conv_kernel_dim=4, tie_word_embeddings=False,
        ),
        # A dense layer first, and biases for the choice.
        "lfm2moe": t.Lfm2MoeConfig(
            **plain, **experts, intermediate_size=48, num_hidden_layers=4, num_dense_layers=1,
            layer_types=["conv", "full_attention", "conv", "full_attention"], tie_word_embeddings=True,
            rope_parameters=dict(rope_type="default", rope_theta=10000.0),
        ),
    }  # fmt: skip


TERNARY = dict(quant_method="bitnet", linear_class="autobitlinear", modules_to_not_convert=["lm_head"])


def bitnet() -> object:
    return t.BitNetConfig(
        hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=2, num_key_value_heads=1,
        max_position_embeddings=256, tie_word_embeddings=True,
        rope_parameters=dict(rope_type="default", rope_theta=10000.0), **COMMON,
    )  # fmt: skip


def make_ternary(folder: Path, config: dict) -> None:
    """Rewrite a saved checkpoint as one with this quantization_config."""
    respell(folder / "config.json", dict(quantization_config=config))
    if config["quantization_mode"] == "online":
        return
    packed = {}
    for name, weight in load_file(folder / "model.safetensors").items():
        if not name.endswith("_proj.weight"):
            packed[name] = weight
            continue
        scale = weight.float().abs().mean()
        packed[name] = pack_weights((weight.float() / scale).round().clamp(-1, 1))
        packed[name + "_scale"] = scale.to(weight.dtype).reshape(1)
    save_file(packed, folder / "model.safetensors", metadata=dict(format="pt"))


def add_guessing_layer(folder: Path) -> None:
    """A layer that guesses the token after the next, as checkpoints of Qwen3.5 have it: transformers does not load it."""
    tensors = load_file(folder / "model.safetensors")
    layer, norm = "model.language_model.layers.0.", tensors["model.language_model.norm.weight"]
    more = {"mtp.layers.0." + k.removeprefix(layer): v * 0.5 for k, v in tensors.items() if k.startswith(layer)}
    hidden = len(norm)
    more["mtp.fc.weight"] = torch.eye(hidden, 2 * hidden, dtype=norm.dtype)
    more |= {f"mtp.{name}.weight": norm * 0.5 for name in ["norm", "pre_fc_norm_embedding", "pre_fc_norm_hidden"]}
    save_file(tensors | more, folder / "model.safetensors", metadata=dict(format="pt"))
    (folder / "model.safetensors").chmod(0o644)
    config = json.loads((folder / "config.json").read_text())
    respell(folder / "config.json", dict(text_config=config["text_config"] | dict(mtp_num_hidden_layers=1)))


def families() -> dict[str, object]:
    """A case for each way in which a family differs from the plain decoder, with windows and contexts of tens of positions."""
    heads = dict(num_attention_heads=2, num_key_value_heads=1)
    plain = dict(hidden_size=32, intermediate_size=48, max_position_embeddings=256, **heads, **COMMON)
    rope = dict(rope_parameters=dict(rope_type="default", rope_theta=10000.0))
    gemma3 = dict(
        plain, num_hidden_layers=6, head_dim=16, sliding_window=WINDOW, query_pre_attn_scalar=16,
        rope_parameters=dict(
            full_attention=dict(rope_type="linear", factor=8.0, rope_theta=1000000.0),
            sliding_attention=dict(rope_type="default", rope_theta=10000.0),
        ),
    )  # fmt: skip

    def longrope(pairs: int, original: int, **more: float) -> dict:
        short, long = [1.0 + 0.05 * i for i in range(pairs)], [1.0 + 0.7 * i for i in range(pairs)]
        parameters = dict(rope_type="longrope", rope_theta=10000.0, short_factor=short, long_factor=long, **more)
        return dict(rope_parameters=dict(parameters, original_max_position_embeddings=original))

    return {
        "gemma2": t.Gemma2Config(
            **dict(plain, num_hidden_layers=2, head_dim=16, sliding_window=WINDOW, query_pre_attn_scalar=16, **rope),
            attn_logit_softcapping=4.0, final_logit_softcapping=5.0,
        ),
        "gemma3": t.Gemma3TextConfig(**gemma3),
        # The text part of a model that sees.
        "gemma3-vision": t.Gemma3Config(
            text_config=dict(gemma3, num_hidden_layers=2, layer_types=["sliding_attention", "full_attention"], query_pre_attn_scalar=32),
            vision_config=dict(hidden_size=16, intermediate_size=16, num_hidden_layers=1, num_attention_heads=1, image_size=28, patch_size=14),
            mm_tokens_per_image=1, boi_token_index=0, eoi_token_index=1, image_token_index=2,
        ),
        # Phi-3, longer than its original context. llama.cpp expects more of a vocabulary where a name has "phi" in it.
        "longrope": t.Phi3Config(**plain, num_hidden_layers=2, tie_word_embeddings=False, **longrope(8, 32)),
        # Phi-4-mini, within its original context.
        "longrope-partial": t.Phi3Config(
            **plain, num_hidden_layers=2, tie_word_embeddings=True, **longrope(6, 128, partial_rotary_factor=0.75),
        ),
        "mistral": t.MistralConfig(**plain, num_hidden_layers=2, head_dim=16, sliding_window=WINDOW, **rope),
        "ministral": t.MinistralConfig(
            **plain, num_hidden_layers=2, head_dim=16, sliding_window=WINDOW,
            layer_types=["full_attention", "sliding_attention"], **rope,
        ),
        "smollm3": t.SmolLM3Config(**plain, num_hidden_layers=4, **rope),
        "granite": t.GraniteConfig(
            **plain, num_hidden_layers=2, attention_multiplier=0.2, embedding_multiplier=3.0, residual_multiplier=0.4,
            logits_scaling=0.75, tie_word_embeddings=True, **rope,
        ),
        "olmo": t.OlmoConfig(**plain, num_hidden_layers=2, tie_word_embeddings=False, **rope),
        "olmo2": t.Olmo2Config(**plain, num_hidden_layers=2, tie_word_embeddings=False, **rope),
        "olmo3": t.Olmo3Config(
            **plain, num_hidden_layers=4, sliding_window=WINDOW, tie_word_embeddings=False,
            rope_parameters=dict(
                full_attention=dict(rope_type="yarn", rope_theta=10000.0, factor=4.0, original_max_position_embeddings=64),
                sliding_attention=dict(rope_type="default", rope_theta=10000.0),
            ),
        ),
    }  # fmt: skip


def mixtures() -> dict[str, tuple[object, dict]]:
    """Mixtures of experts: a configuration, and what to spell as published files do."""
    heads = dict(num_attention_heads=2, num_key_value_heads=1)
    rope = dict(rope_parameters=dict(rope_type="default", rope_theta=10000.0))
    plain = dict(hidden_size=32, intermediate_size=48, num_hidden_layers=2, max_position_embeddings=256, **heads, **rope, **COMMON)
    qwen = dict(plain, num_experts=7, num_experts_per_tok=3, moe_intermediate_size=24)
    granite = dict(
        plain, num_local_experts=5, num_experts_per_tok=2, attention_multiplier=0.2, embedding_multiplier=3.0,
        residual_multiplier=0.4, logits_scaling=0.75,
    )  # fmt: skip
    mamba = dict(layer_types=["full_attention"] * 2, mamba_n_heads=2, mamba_d_head=32)
    published = dict(layer_types=["attention"] * 2, time_step_limit=None)
    return {
        "qwen3moe": (t.Qwen3MoeConfig(**qwen, head_dim=16, norm_topk_prob=True, tie_word_embeddings=False), {}),
        # Weights that are not normalized, and a layer without experts.
        "qwen3moe-stacked": (
            t.Qwen3MoeConfig(**dict(qwen, num_hidden_layers=3), head_dim=16, norm_topk_prob=False, mlp_only_layers=[1], tie_word_embeddings=True),
            {},
        ),
        "qwen2moe": (t.Qwen2MoeConfig(**qwen, shared_expert_intermediate_size=40, tie_word_embeddings=False), {}),
        "olmoe": (t.OlmoeConfig(**dict(plain, num_key_value_heads=2), num_experts=6, num_experts_per_tok=2, tie_word_embeddings=False), {}),
        "granitemoe": (t.GraniteMoeConfig(**granite, tie_word_embeddings=True), {}),
        "granitemoe-stacked": (t.GraniteMoeConfig(**granite, tie_word_embeddings=True), {}),
        "granitemoeshared": (t.GraniteMoeSharedConfig(**granite, shared_intermediate_size=40, tie_word_embeddings=True), {}),
        "granite4": (
            t.GraniteMoeHybridConfig(
                **dict(granite, num_local_experts=0, num_experts_per_tok=0), **mamba, shared_intermediate_size=48,
                position_embedding_type="rope", tie_word_embeddings=True,
            ),
            published,
        ),
        "granite4-nope": (
            t.GraniteMoeHybridConfig(
                **dict(granite, num_local_experts=0, num_experts_per_tok=0), **mamba, shared_intermediate_size=48,
                position_embedding_type="nope", tie_word_embeddings=True,
            ),
            published,
        ),
        "granite4-experts": (
            t.GraniteMoeHybridConfig(
                **granite, **mamba, shared_intermediate_size=40, position_embedding_type="rope", tie_word_embeddings=True,
            ),
            published,
        ),
        "olmoe-clip": (
            t.OlmoeConfig(**dict(plain, num_key_value_heads=2), num_experts=6, num_experts_per_tok=2, tie_word_embeddings=False, clip_qkv=0.8), {},
        ),
    }  # fmt: skip
def gemma4_and_ministral3() -> list[Case]:
    """Layers with heads of their own size, keys of others and inputs of the token; queries that grow; YaRN; clipping."""
    plain = dict(hidden_size=32, intermediate_size=48, max_position_embeddings=256, num_attention_heads=2, num_key_value_heads=1, **COMMON)
    gemma4 = dict(
        plain, head_dim=16, global_head_dim=32, sliding_window=WINDOW, final_logit_softcapping=5.0, vocab_size_per_layer_input=VOCAB_SIZE,
        rope_parameters=dict(
            full_attention=dict(rope_type="proportional", partial_rotary_factor=0.25, rope_theta=1000000.0),
            sliding_attention=dict(rope_type="default", rope_theta=10000.0),
        ),
    )  # fmt: skip
    both = ["sliding_attention", "full_attention"]
    # Past the original context twice, where queries have grown by two steps.
    yarn = dict(rope_type="yarn", rope_theta=10000.0, factor=4.0, original_max_position_embeddings=WINDOW, beta_fast=32.0, beta_slow=1.0)
    ministral3 = dict(plain, num_hidden_layers=2, head_dim=16, rope_parameters=dict(yarn, mscale=1.0, mscale_all_dim=1.0, llama_4_scaling_beta=0.4))
    pixtral = dict(hidden_size=16, intermediate_size=16, num_hidden_layers=1, num_attention_heads=1, image_size=28, patch_size=14)
    siglip = dict(hidden_size=16, intermediate_size=16, num_hidden_layers=1, num_attention_heads=1, num_key_value_heads=1, head_dim=16, global_head_dim=16, position_embedding_size=4)
    configs = {
        # As the small ones: an input for each layer, and the last two read the keys of the two before them.
        "gemma4": t.Gemma4TextConfig(
            **gemma4, num_hidden_layers=6, layer_types=both * 3, num_kv_shared_layers=2, use_double_wide_mlp=True, hidden_size_per_layer_input=16,
        ),
        # As the large one: keys are values in layers that see the whole context, which have fewer; the text part of a model that sees.
        "gemma4-vision": t.Gemma4Config(
            text_config=dict(
                gemma4, num_hidden_layers=2, layer_types=both, hidden_size_per_layer_input=0, attention_k_eq_v=True,
                num_attention_heads=4, num_key_value_heads=2, num_global_key_value_heads=1, pad_token_id=0,
            ),
            vision_config=siglip, audio_config=None,
        ),
        # As both, under the name of the models without encoders.
        "gemma4-unified": t.Gemma4UnifiedTextConfig(
            **{k: v for k, v in gemma4.items() if k != "vocab_size_per_layer_input"}, num_hidden_layers=4, layer_types=both * 2, num_kv_shared_layers=2, attention_k_eq_v=True,
        ),
        "ministral3": t.Ministral3Config(**ministral3, tie_word_embeddings=False),
        "ministral3-vision": t.Mistral3Config(
            text_config=t.Ministral3Config(**dict(ministral3, pad_token_id=None), tie_word_embeddings=True), vision_config=t.PixtralVisionConfig(**pixtral), tie_word_embeddings=True,
        ),
        "qwen3-yarn": t.Qwen3Config(**dict(plain, intermediate_size=64), num_hidden_layers=2, head_dim=16, tie_word_embeddings=True, rope_parameters=yarn),
        "olmo-clip": t.OlmoConfig(
            **plain, num_hidden_layers=2, tie_word_embeddings=False, clip_qkv=0.8, rope_parameters=dict(rope_type="default", rope_theta=10000.0),
        ),
    }  # fmt: skip
    return [Case(name, 60 + len(name), config, torch.bfloat16, positions=LONG) for name, config in configs.items()]


def randomize(model: PreTrainedModel, rng: torch.Generator) -> None:
    """Weights such that every part counts: logits of standard deviation about 1.5, attention neither uniform nor one-hot."""
    lacks_one = model.config.model_type.startswith(("gemma2", "gemma3", "qwen3_5"))
    for name, b in model.named_buffers():
        if name.endswith("layer_scalar"):
            b.uniform_(0.7, 1.3, generator=rng)
        elif name.endswith("expert_bias"):
            b.uniform_(-0.3, 0.3, generator=rng)
    for name, p in model.named_parameters():
        with torch.no_grad():
            if name.endswith("A_log"):
                p.uniform_(-4.0, 0.0, generator=rng)
            elif "conv" in name and p.dim() == 3:
                p.normal_(0.0, 1.0 / math.sqrt(p.shape[2]), generator=rng)
            elif "norm" in name and lacks_one and "linear_attn.norm" not in name:
                p.uniform_(-0.5, 0.5, generator=rng)
            elif name.endswith(("q_norm.weight", "k_norm.weight")) and model.config.model_type.startswith("gemma4"):
                p.uniform_(0.2, 0.7, generator=rng)  # Their product is not divided by the root of the head size.
            elif "norm" in name:
                p.uniform_(0.5, 1.5, generator=rng)
            elif name.endswith("bias"):
                p.normal_(0.0, 0.5, generator=rng)
            elif name.endswith(("mlp.gate.weight", "feed_forward.gate.weight", "router.weight")):
                # Experts of clearly different scores.
                p.normal_(0.0, 3.0 / math.sqrt(p.shape[1]), generator=rng)
            elif p.ndim == 3:
                p.normal_(0.0, 1.0 / math.sqrt(p.shape[2]), generator=rng)
            elif name.endswith(("q_proj.weight", "k_proj.weight", "qkv_proj.weight")):
                p.normal_(0.0, 1.0 / math.sqrt(p.shape[1]), generator=rng)
            elif "embed_tokens" in name or "lm_head" in name:
                p.normal_(0.0, 1.5 / math.sqrt(p.shape[1]), generator=rng)
            else:
                p.normal_(0.0, 1.0 / math.sqrt(p.shape[-1]), generator=rng)


WIDTHS = [
    "hidden_size", "intermediate_size", "moe_intermediate_size", "shared_intermediate_size", "shared_expert_intermediate_size",
    "num_attention_heads", "num_key_value_heads", "num_global_key_value_heads", "linear_num_key_heads", "linear_num_value_heads",
    "mamba_n_heads", "hidden_size_per_layer_input",
]  # fmt: skip


def widen(config: object, times: int) -> None:
    """Heads keep their size, so that RoPE stays as it is."""
    for part in (config, getattr(config, "text_config", None)):
        for key in WIDTHS:
            if isinstance(size := getattr(part, key, None), int):
                setattr(part, key, size * times)


def respell(path: Path, changes: dict) -> None:
    """Replace keys of a config.json; None removes one."""
    config = json.loads(path.read_text()) | changes
    path.write_text(json.dumps({k: v for k, v in config.items() if k not in changes or v is not None}, indent=2) + "\n")


def auto_class(model_type: str) -> type:
    """Models that see are no causal language models to transformers, or leave out what sees, but for some."""
    return t.AutoModelForImageTextToText if model_type in ["mistral3", "qwen3_5"] else AutoModelForCausalLM


def logits(folder: Path, tokens: list[int]) -> np.ndarray:
    """Logits [len(tokens), vocab] of a saved checkpoint, all arithmetic in float32."""
    model_type = json.loads((folder / "config.json").read_text())["model_type"]
    model = auto_class(model_type).from_pretrained(folder, dtype=torch.float32, attn_implementation="eager").eval()
    torch.nn.Module.float(model)  # Quantized layers keep their type otherwise.
    with torch.no_grad():
        return model(torch.tensor([tokens])).logits[0].numpy()


def build(case: Case, out: Path) -> np.ndarray:
    folder = out / case.name
    folder.mkdir(parents=True, exist_ok=True)
    for stale in folder.glob("*.safetensors*"):
        stale.unlink()
    rng = torch.Generator().manual_seed(case.seed)
    model = auto_class(case.config.model_type).from_config(case.config, dtype=torch.float32)
    randomize(model, rng)
    tokens = torch.randint(0, VOCAB_SIZE, (case.positions,), generator=rng).tolist()

    shards = {} if case.shard_bytes is None else {"max_shard_size": case.shard_bytes}
    model.to(case.dtype).save_pretrained(folder, save_original_format=not case.in_memory, **shards)
    for file in folder.glob("*.safetensors"):
        file.chmod(0o644)
    if case.ternary:
        make_ternary(folder, case.ternary)
    if case.name == "qwen35-vision":
        add_guessing_layer(folder)
    write_tokenizer(folder)
    if case.old_spelling:
        respell(folder / "config.json", case.old_spelling)
    (folder / "tokens.json").write_text(json.dumps(tokens) + "\n")
    result = logits(folder, tokens)
    np.save(folder / "logits.npy", result)
    return result


def main() -> None:
    times = int(sys.argv[2]) if sys.argv[1] == "--wide" else 1
    out, *names = sys.argv[1:] if times == 1 else sys.argv[3:]
    out = Path(out)
    results = {}
    for case in (case for case in cases() if case.name in (names or [case.name])):
        if times > 1:
            if case.name == "gemma4-vision":
                continue  # Its sizes are by layer.
            widen(case.config, times)
        r = results[case.name] = build(case, out)
        files = sorted((out / case.name).glob("*.safetensors"))
        dtypes = {str(t.dtype) for f in files for t in load_file(f).values()}
        size = sum(f.stat().st_size for f in files)
        print(f"{case.name}: logits std {r.std():.2f} max {abs(r).max():.2f}, {dtypes}, {len(files)} file(s), {size} bytes")
    if {"llama3-rope", "llama3-rope-old"} <= results.keys():
        assert np.array_equal(results["llama3-rope"], results["llama3-rope-old"])


if __name__ == "__main__":
    main()
