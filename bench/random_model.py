#!/usr/bin/env python3
"""A full-size GGUF model in F16 with random weights, for measuring speed.

usage: random_model.py qwen3-0.6b|qwen3-4b TOKENIZER_FOLDER OUT.gguf
"""

import json
import sys
from pathlib import Path

import numpy as np
from gguf import GGUFWriter, TokenType

SHAPES = {
    "qwen3-0.6b": dict(hidden=1024, layers=28, heads=16, kv_heads=8, head=128, ffn=3072, vocab=151936),
    "qwen3-4b": dict(hidden=2560, layers=36, heads=32, kv_heads=8, head=128, ffn=9728, vocab=151936),
}
ROWS_AT_ONCE = 4096


def tensors(s: dict):
    q, kv = s["heads"] * s["head"], s["kv_heads"] * s["head"]
    yield "token_embd", (s["vocab"], s["hidden"])
    yield "output_norm", (s["hidden"],)
    for layer in range(s["layers"]):
        of_layer = {
            "attn_norm": (s["hidden"],),
            "attn_q": (q, s["hidden"]),
            "attn_k": (kv, s["hidden"]),
            "attn_v": (kv, s["hidden"]),
            "attn_q_norm": (s["head"],),
            "attn_k_norm": (s["head"],),
            "attn_output": (s["hidden"], q),
            "ffn_norm": (s["hidden"],),
            "ffn_gate": (s["ffn"], s["hidden"]),
            "ffn_up": (s["ffn"], s["hidden"]),
            "ffn_down": (s["hidden"], s["ffn"]),
        }
        yield from ((f"blk.{layer}.{name}", shape) for name, shape in of_layer.items())


def add_tokenizer(writer: GGUFWriter, folder: Path, vocab: int) -> None:
    tokenizer = json.loads((folder / "tokenizer.json").read_text())
    tokens = [f"[PAD{i}]" for i in range(vocab)]
    kinds = [TokenType.UNUSED] * vocab
    for token, i in tokenizer["model"]["vocab"].items():
        tokens[i], kinds[i] = token, TokenType.NORMAL
    for added in tokenizer["added_tokens"]:
        kind = TokenType.CONTROL if added["special"] else TokenType.USER_DEFINED
        tokens[added["id"]], kinds[added["id"]] = added["content"], kind
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("qwen2")
    writer.add_token_list(tokens)
    writer.add_token_types(kinds)
    writer.add_token_merges([m if isinstance(m, str) else " ".join(m) for m in tokenizer["model"]["merges"]])
    writer.add_eos_token_id(151645)
    writer.add_add_bos_token(False)


def main() -> None:
    name, folder, out = sys.argv[1], Path(sys.argv[2]), sys.argv[3]
    shape = SHAPES[name]
    writer = GGUFWriter(out, "qwen3")
    writer.add_name(f"{name}-random")
    writer.add_context_length(40960)
    writer.add_embedding_length(shape["hidden"])
    writer.add_block_count(shape["layers"])
    writer.add_feed_forward_length(shape["ffn"])
    writer.add_head_count(shape["heads"])
    writer.add_head_count_kv(shape["kv_heads"])
    writer.add_key_length(shape["head"])
    writer.add_value_length(shape["head"])
    writer.add_rope_freq_base(1e6)
    writer.add_layer_norm_rms_eps(1e-6)
    writer.add_file_type(1)
    add_tokenizer(writer, folder, shape["vocab"])
    all_tensors = [(f"{name}.weight", dims) for name, dims in tensors(shape)]
    for tensor, dims in all_tensors:
        dtype = np.dtype(np.float32 if len(dims) == 1 else np.float16)
        writer.add_tensor_info(tensor, dims, dtype, int(np.prod(dims)) * dtype.itemsize)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    random = np.random.Generator(np.random.SFC64(1))
    for _, dims in all_tensors:
        if len(dims) == 1:
            writer.write_tensor_data(np.ones(dims, np.float32))
            continue
        data = np.empty(dims, np.float16)
        for start in range(0, dims[0], ROWS_AT_ONCE):
            part = data[start : start + ROWS_AT_ONCE]
            part[:] = random.standard_normal(part.shape, dtype=np.float32) * 0.02
        writer.write_tensor_data(data)
    writer.close()


main()
