"""Small random models for the tests of quantizing; quantize_hashes.py makes them.

They are made from integers, in steps without rounding, so that the tests make the same ones
(crates/pipeline/tests/quantize/models.rs).
"""

from pathlib import Path

import gguf
import numpy as np

F16, BF16, F32 = gguf.GGMLQuantizationType.F16, gguf.GGMLQuantizationType.BF16, gguf.GGMLQuantizationType.F32


def mixed(seed: int, count: int) -> np.ndarray:
    """SplitMix64: uint64 [count]."""
    with np.errstate(over="ignore"):
        z = np.uint64(seed) + np.uint64(0x9E3779B97F4A7C15) * np.arange(1, count + 1, dtype=np.uint64)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return z ^ (z >> np.uint64(31))


def values(seed: int, rows: int, cols: int) -> np.ndarray:
    """float32 [rows, cols] of about 0.01, and every now and then a row of another kind."""
    parts = mixed(seed, rows * cols).view("<i2").reshape(rows, cols, 4).astype(np.int32)
    x = parts.sum(axis=2).astype(np.float32) * np.float32(2.0**-22)
    for row in range(rows):
        match (seed + row) % 16:
            case 0:
                x[row] = 0
            case 1:
                x[row] = x[row, 0]
            case 2:
                x[row] *= np.float32(2.0**20)
            case 3:
                x[row] *= np.float32(2.0**-18)
            case 4:
                x[row, 7] *= np.float32(2.0**10)
            case 5:
                x[row] = np.abs(x[row])
            case 6:
                x[row] = -np.abs(x[row])
            case 7:
                x[row, np.arange(cols) % 8 != 0] = -0.0
    return x


def stored(x: np.ndarray, kind: gguf.GGMLQuantizationType) -> np.ndarray:
    """The values in a type, rounded to nearest even."""
    if kind == F16:
        return x.astype(np.float16)
    if kind == BF16:
        bits = x.view(np.uint32)
        return ((bits + np.uint32(0x7FFF) + ((bits >> np.uint32(16)) & np.uint32(1))) >> np.uint32(16)).astype(np.uint16).view(np.uint8)
    return x


# Name: architecture, width, width of the feed-forward part, layers, rows of k and v, rows of the embeddings, experts, width
# of the shared one, whether the output matrix is a tensor of its own, and the types of layers in turn (attention,
# feed-forward).
MODELS = {
    "dense": ("llama", 256, 512, 5, 128, 320, 0, 0, True, [(F16, F16), (F32, BF16)]),
    "deep": ("llama", 256, 256, 16, 128, 64, 0, 0, True, [(F16, F16)]),
    "narrow": ("llama", 96, 72, 2, 96, 64, 0, 0, False, [(F32, F32)]),
    "experts": ("llama", 256, 256, 2, 256, 64, 8, 0, True, [(F16, F16)]),
    "shared": ("granitemoe", 256, 256, 5, 128, 64, 3, 512, False, [(BF16, BF16)]),
}


def write(name: str, path: Path) -> None:
    arch, hidden, ffn, layers, kv, vocab, experts, shared, untied, kinds = MODELS[name]
    writer = gguf.GGUFWriter(path, arch)
    writer.add_uint32(f"{arch}.block_count", layers)
    writer.add_uint32(f"{arch}.context_length", 64)
    writer.add_uint32(f"{arch}.embedding_length", hidden)
    writer.add_uint32(f"{arch}.feed_forward_length", ffn)
    writer.add_uint32(f"{arch}.attention.head_count", 4)
    writer.add_uint32(f"{arch}.attention.head_count_kv", 4 * kv // hidden)
    writer.add_float32(f"{arch}.attention.layer_norm_rms_epsilon", 1e-5)
    if experts:
        writer.add_uint32(f"{arch}.expert_count", experts)
        writer.add_uint32(f"{arch}.expert_used_count", 2)
    if shared:
        writer.add_uint32(f"{arch}.expert_shared_feed_forward_length", shared)
        writer.add_float32(f"{arch}.logit_scale", 2.0)
    writer.add_string("tokenizer.ggml.model", "none")
    writer.add_uint32(f"{arch}.vocab_size", vocab)
    seed = 0

    def add(tensor: str, kind: gguf.GGMLQuantizationType, *shape: int) -> None:
        nonlocal seed
        seed += 1
        x = values(seed, int(np.prod(shape[:-1])), shape[-1])
        writer.add_tensor(tensor, stored(x, kind).reshape(*shape[:-1], -1), raw_dtype=kind)

    add("token_embd.weight", kinds[0][0], vocab, hidden)
    for layer in range(layers):
        attention, feed_forward = kinds[layer % len(kinds)]
        blk = f"blk.{layer}."
        add(blk + "attn_norm.weight", F32, hidden)
        add(blk + "attn_q.weight", attention, hidden, hidden)
        add(blk + "attn_k.weight", attention, kv, hidden)
        add(blk + "attn_v.weight", attention, kv, hidden)
        add(blk + "attn_output.weight", attention, hidden, hidden)
        add(blk + "ffn_norm.weight", F32, hidden)
        if experts:
            add(blk + "ffn_gate_inp.weight", F32, experts, hidden)
        stack, tail = ((experts,), "_exps.weight") if experts else ((), ".weight")
        add(blk + "ffn_gate" + tail, feed_forward, *stack, ffn, hidden)
        add(blk + "ffn_up" + tail, feed_forward, *stack, ffn, hidden)
        add(blk + "ffn_down" + tail, feed_forward, *stack, hidden, ffn)
        if shared:
            add(blk + "ffn_gate_shexp.weight", feed_forward, shared, hidden)
            add(blk + "ffn_up_shexp.weight", feed_forward, shared, hidden)
            add(blk + "ffn_down_shexp.weight", feed_forward, hidden, shared)
    add("output_norm.weight", F32, hidden)
    if untied:
        add("output.weight", kinds[0][0], vocab, hidden)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
