#!/usr/bin/env python3
"""The GGUF counterparts of the tiny Hugging Face checkpoints: the same weights, bit for bit, under GGUF's names.

usage: tiny_gguf.py CHECKPOINTS_FOLDER LLAMA_CPP [CASE …]     (writes CASE/model.gguf beside each CASE/model.safetensors)

The first cases are written here; those of families that differ more, by llama.cpp's converter, unless GGUF files of that
kind mean something else to llama.cpp. Matrices keep the type of the safetensors file (F16, BF16 or F32); vectors are F32, as everywhere in GGUF. Two things are
stored otherwise than in the Hugging Face layout:
- the llama family's q and k rows are interleaved within each head, since GGUF's llama rotates neighbouring pairs;
- Llama 3's RoPE scaling is a tensor `rope_freqs.weight` [head_dim / 2], by which each frequency is divided.
"""

import json
import math
import sys
from pathlib import Path

import gguf
import numpy as np
import torch
from safetensors.torch import load_file

from llama_cpp_convert import reference_gguf
from tiny_tokenizer import BOS, CHAT_TEMPLATE, EOS, MERGES, SPECIAL, TOKENS

PLAIN = ["llama", "llama3-rope", "qwen2", "qwen3"]
# Its converter knows the unified Gemma 4 only with what sees. No windows in llama.cpp's llama, no scalar of queries in its gemma3, and another bitnet. Its converter makes layers of
# Granite 4 rotate, knows no layers without experts beside others, no experts of Granite as they are in memory,
# and no bounds in OLMoE.
WITHOUT = [
    "gemma4-unified", "mistral", "ministral", "gemma3-vision", "bitnet", "bitnet-online", "bitnet-packed", "granite4-nope", "qwen3moe-stacked",
    "granitemoe-stacked", "olmoe-clip",
]  # fmt: skip
LAYER_NAMES = {
    "input_layernorm": "attn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "self_attn.q_norm": "attn_q_norm",
    "self_attn.k_norm": "attn_k_norm",
    "post_attention_layernorm": "ffn_norm",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}
GLOBAL_NAMES = {"embed_tokens": "token_embd", "norm": "output_norm", "lm_head": "output"}
MATRIX_TYPES = {
    torch.float32: (gguf.GGMLQuantizationType.F32, gguf.LlamaFileType.ALL_F32),
    torch.float16: (gguf.GGMLQuantizationType.F16, gguf.LlamaFileType.MOSTLY_F16),
    torch.bfloat16: (gguf.GGMLQuantizationType.BF16, gguf.LlamaFileType.MOSTLY_BF16),
}


def gguf_name(name: str) -> str:
    """`model.layers.0.self_attn.q_proj.weight` -> `blk.0.attn_q.weight`."""
    stem, suffix = name.removeprefix("model.").rsplit(".", 1)
    if stem in GLOBAL_NAMES:
        return f"{GLOBAL_NAMES[stem]}.{suffix}"
    _, layer, rest = stem.split(".", 2)
    return f"blk.{layer}.{LAYER_NAMES[rest]}.{suffix}"


def interleave_rotary_rows(weight: np.ndarray, heads: int) -> np.ndarray:
    """Rows of each head from (half, pair) order to (pair, half): [first..., second...] -> [first 0, second 0, first 1, …]."""
    rows, cols = weight.shape
    return weight.reshape(heads, 2, rows // heads // 2, cols).swapaxes(1, 2).reshape(rows, cols)


def llama3_divisors(rope: dict, head_dim: int) -> np.ndarray:
    """What Llama 3.1's scaling divides each RoPE frequency by, [head_dim / 2]."""
    low, high, factor = rope["low_freq_factor"], rope["high_freq_factor"], rope["factor"]
    divisors = []
    for i in range(head_dim // 2):
        wavelength = 2 * math.pi * rope["rope_theta"] ** (2 * i / head_dim)
        turns = rope["original_max_position_embeddings"] / wavelength
        kept = min(max((turns - low) / (high - low), 0.0), 1.0)
        divisors.append(1.0 / ((1.0 - kept) / factor + kept))
    return np.array(divisors, np.float32)


def add_metadata(w: gguf.GGUFWriter, config: dict, head_dim: int, file_type: gguf.LlamaFileType) -> None:
    w.add_name(f"tiny random {config['model_type']}")
    w.add_file_type(file_type)
    w.add_vocab_size(config["vocab_size"])
    w.add_context_length(config["max_position_embeddings"])
    w.add_embedding_length(config["hidden_size"])
    w.add_block_count(config["num_hidden_layers"])
    w.add_feed_forward_length(config["intermediate_size"])
    w.add_head_count(config["num_attention_heads"])
    w.add_head_count_kv(config["num_key_value_heads"])
    w.add_key_length(head_dim)
    w.add_value_length(head_dim)
    w.add_rope_dimension_count(head_dim)
    w.add_rope_freq_base(config["rope_parameters"]["rope_theta"])
    w.add_layer_norm_rms_eps(config["rms_norm_eps"])

    types = [gguf.TokenType.CONTROL if t in SPECIAL else gguf.TokenType.NORMAL for t in TOKENS]
    w.add_tokenizer_model("gpt2")
    w.add_tokenizer_pre("gpt-2")
    w.add_token_list(TOKENS)
    w.add_token_types(types)
    w.add_token_merges([f"{a} {b}" for a, b in MERGES])
    w.add_bos_token_id(BOS)
    w.add_eos_token_id(EOS)
    w.add_add_bos_token(False)
    w.add_chat_template(CHAT_TEMPLATE)


def convert(folder: Path, out: Path, widen: bool = False) -> None:
    """Write the checkpoint in `folder` to the file `out`, with all matrices in F32 if `widen`."""
    config = json.loads((folder / "config.json").read_text())
    tensors = load_file(folder / "model.safetensors")
    heads, kv_heads = config["num_attention_heads"], config["num_key_value_heads"]
    head_dim = config.get("head_dim") or config["hidden_size"] // heads
    matrix_type, file_type = MATRIX_TYPES[torch.float32 if widen else tensors["model.embed_tokens.weight"].dtype]

    w = gguf.GGUFWriter(out, config["model_type"])
    add_metadata(w, config, head_dim, file_type)
    if config["rope_parameters"]["rope_type"] == "llama3":
        w.add_tensor("rope_freqs.weight", llama3_divisors(config["rope_parameters"], head_dim))
    for name, tensor in tensors.items():
        # Widening to float32 and narrowing again to the type it came from is exact.
        data = tensor.to(torch.float32).numpy()
        if config["model_type"] == "llama" and name.endswith(("q_proj.weight", "k_proj.weight")):
            data = interleave_rotary_rows(data, heads if ".q_proj" in name else kv_heads)
        kind = matrix_type if data.ndim == 2 else gguf.GGMLQuantizationType.F32
        w.add_tensor(gguf_name(name), gguf.quants.quantize(data, kind), raw_dtype=kind)
    w.write_header_to_file()
    w.write_kv_data_to_file()
    w.write_tensors_to_file()
    w.close()


def main() -> None:
    for weights in sorted(Path(sys.argv[1]).glob("*/model.safetensors")):
        if sys.argv[3:] and weights.parent.name not in sys.argv[3:]:
            continue
        out = weights.with_name("model.gguf")
        if sys.argv[3:] and weights.parent.name not in sys.argv[3:]:
            continue
        if weights.parent.name in PLAIN:
            convert(weights.parent, out)
        elif weights.parent.name not in WITHOUT:
            reference_gguf(Path(sys.argv[2]).resolve(), weights.parent, out)
        else:
            continue
        print(f"{out}: {out.stat().st_size} bytes")


if __name__ == "__main__":
    main()
