#!/usr/bin/env python3
"""A full-size GGUF model in F16 with random weights, for measuring speed.

usage: random_model.py FAMILY TOKENIZER_FOLDER OUT.gguf      FAMILY: a key of FAMILIES
"""

import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from gguf import GGUFWriter, TokenType

ROWS_AT_ONCE = 4096
DEVIATION = 0.02


@dataclass
class Family:
    """Sizes as in the published configuration, and what a family has beyond the plain decoder."""

    architecture: str
    hidden: int
    layers: int
    heads: int
    kv_heads: int
    head: int
    ffn: int
    vocab: int
    context: int
    eps: float
    theta: float
    # Keys that follow the architecture's name.
    more: dict[str, int | float] = field(default_factory=dict)
    # Norms of a layer beside those of its two inputs, with what they are as wide as.
    norms: dict[str, str] = field(default_factory=dict)
    fused: bool = False
    ternary: bool = False
    # One-dimensional tensors of no layer.
    vectors: dict[str, np.ndarray] = field(default_factory=dict)

    def width(self, name: str) -> int:
        return {"hidden": self.hidden, "head": self.head, "heads": self.heads * self.head, "ffn": self.ffn}[name]

    def matrices(self) -> dict[str, tuple[int, int]]:
        q, kv = self.heads * self.head, self.kv_heads * self.head
        attention = dict(attn_q=q, attn_k=kv, attn_v=kv)
        inputs = dict(attn_qkv=q + 2 * kv) if self.fused else attention
        gated = dict(ffn_up=2 * self.ffn) if self.fused else dict(ffn_gate=self.ffn, ffn_up=self.ffn)
        shapes = {name: (rows, self.hidden) for name, rows in (inputs | gated).items()}
        return shapes | dict(attn_output=(self.hidden, q), ffn_down=(self.hidden, self.ffn))

    def tensors(self) -> Iterator[tuple[str, tuple[int, ...]]]:
        yield "token_embd", (self.vocab, self.hidden)
        yield "output_norm", (self.hidden,)
        yield from ((name, vector.shape) for name, vector in self.vectors.items())
        norms = dict(attn_norm="hidden", ffn_norm="hidden") | self.norms
        for layer in range(self.layers):
            shapes = self.matrices() | {name: (self.width(width),) for name, width in norms.items()}
            yield from ((f"blk.{layer}.{name}", shape) for name, shape in shapes.items())


QK_NORMS = dict(attn_q_norm="head", attn_k_norm="head")
QWEN3 = dict(
    architecture="qwen3", head=128, kv_heads=8, vocab=151936, context=40960, eps=1e-6, theta=1e6, norms=QK_NORMS
)
BITNET = dict(
    hidden=2560, layers=30, heads=20, kv_heads=5, head=128, ffn=6912, vocab=128256, context=4096, eps=1e-5, theta=5e5,
    more={"vocab_size": 128256, "rope.dimension_count": 128}, ternary=True,
    norms=dict(attn_sub_norm="heads", ffn_sub_norm="ffn"),
)  # fmt: skip
FAMILIES = {
    "qwen3-0.6b": Family(hidden=1024, layers=28, heads=16, ffn=3072, **QWEN3),
    "qwen3-4b": Family(hidden=2560, layers=36, heads=32, ffn=9728, **QWEN3),
    "gemma3-1b": Family(
        "gemma3", hidden=1152, layers=26, heads=4, kv_heads=1, head=256, ffn=6912, vocab=262144, context=32768,
        eps=1e-6, theta=1e6, more={"attention.sliding_window": 512},
        norms=QK_NORMS | dict(post_attention_norm="hidden", post_ffw_norm="hidden"),
    ),
    "phi4-mini": Family(
        "phi3", hidden=3072, layers=32, heads=24, kv_heads=8, head=128, ffn=8192, vocab=200064, context=131072,
        eps=1e-5, theta=1e4, fused=True,
        more={
            "rope.dimension_count": 96, "rope.scaling.original_context_length": 4096,
            "rope.scaling.attn_factor": (1 + np.log(131072 / 4096) / np.log(4096)) ** 0.5,
            "attention.sliding_window": 262144,
        },
        vectors=dict(rope_factors_short=np.ones(48), rope_factors_long=np.geomspace(1, 64, 48)),
    ),
    "bitnet-2b4t": Family("bitnet-b1.58", **BITNET),
    # The same but for the activation, under the one name of the two that llama.cpp loads.
    "bitnet-2b4t-silu": Family("bitnet", **BITNET),
}  # fmt: skip


def add_tokenizer(writer: GGUFWriter, folder: Path, vocab: int) -> None:
    """As much of the tokenizer as fits, and padding."""
    tokenizer = json.loads((folder / "tokenizer.json").read_text())
    added = tokenizer["added_tokens"]
    plain = sorted(tokenizer["model"]["vocab"], key=tokenizer["model"]["vocab"].get)[: vocab - len(added)]
    special = {token["content"]: TokenType.CONTROL if token["special"] else TokenType.USER_DEFINED for token in added}
    tokens = plain + list(special)
    padding = [f"[PAD{i}]" for i in range(len(tokens), vocab)]
    kinds = [TokenType.NORMAL] * len(plain) + list(special.values()) + [TokenType.UNUSED] * len(padding)
    merges = [m.split(" ") if isinstance(m, str) else m for m in tokenizer["model"]["merges"]]
    known = set(plain)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("qwen2")
    writer.add_token_list(tokens + padding)
    writer.add_token_types(kinds)
    writer.add_token_merges([f"{left} {right}" for left, right in merges if left + right in known])
    writer.add_eos_token_id(tokens.index("<|im_end|>"))
    writer.add_add_bos_token(False)


def add_settings(writer: GGUFWriter, family: Family) -> None:
    writer.add_context_length(family.context)
    writer.add_embedding_length(family.hidden)
    writer.add_block_count(family.layers)
    writer.add_feed_forward_length(family.ffn)
    writer.add_head_count(family.heads)
    writer.add_head_count_kv(family.kv_heads)
    writer.add_key_length(family.head)
    writer.add_value_length(family.head)
    writer.add_rope_freq_base(family.theta)
    writer.add_layer_norm_rms_eps(family.eps)
    writer.add_file_type(1)
    for key, value in family.more.items():
        add = writer.add_uint32 if isinstance(value, int) else writer.add_float32
        add(f"{family.architecture}.{key}", value)


def random_matrix(random: np.random.Generator, shape: tuple[int, int], ternary: bool) -> np.ndarray:
    data = np.empty(shape, np.float16)
    for start in range(0, shape[0], ROWS_AT_ONCE):
        part = data[start : start + ROWS_AT_ONCE]
        if ternary:
            part[:] = random.integers(-1, 2, part.shape, dtype=np.int8) * np.float16(DEVIATION)
        else:
            part[:] = random.standard_normal(part.shape, dtype=np.float32) * DEVIATION
    return data


def main() -> None:
    name, folder, out = sys.argv[1], Path(sys.argv[2]), sys.argv[3]
    family = FAMILIES[name]
    writer = GGUFWriter(out, family.architecture)
    writer.add_name(f"{name}-random")
    add_settings(writer, family)
    add_tokenizer(writer, folder, family.vocab)
    for tensor, dims in family.tensors():
        dtype = np.dtype(np.float32 if len(dims) == 1 else np.float16)
        writer.add_tensor_info(f"{tensor}.weight", dims, dtype, int(np.prod(dims)) * dtype.itemsize)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    random = np.random.Generator(np.random.SFC64(1))
    for tensor, dims in family.tensors():
        if len(dims) == 1:
            writer.write_tensor_data(family.vectors.get(tensor, np.ones(dims)).astype(np.float32))
        else:
            writer.write_tensor_data(random_matrix(random, dims, family.ternary and tensor != "token_embd"))
    writer.close()


main()
