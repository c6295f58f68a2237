"""Makes the files of this folder with the field's own writers. Needs: pip install gguf==0.19.0 safetensors==0.8.0 numpy

`values.f32` holds what each file's tensors decode to by these libraries: float32, little-endian, in the order in which
`tensors.json` lists them.
"""

import json
import shutil
from pathlib import Path

import gguf
import numpy as np
import safetensors
from gguf import GGMLQuantizationType as T

HERE = Path(__file__).parent
rng = np.random.default_rng(7)
listed = {}
values = []


def keep(file, name, kind, shape, decoded):
    listed.setdefault(file, []).append({"name": name, "type": kind, "shape": list(shape)})
    values.append(np.ascontiguousarray(decoded, dtype="<f4").tobytes())


def random(*shape):
    return rng.standard_normal(shape, dtype=np.float32)


def q4_k(rows):
    """Random blocks with sane scales: 256 values in 144 bytes, the first four of them two f16 scales."""
    blocks = rng.integers(0, 256, (rows, 144), dtype=np.uint8)
    blocks[:, :4] = np.array([0.01, 0.02], dtype="<f2").view(np.uint8)
    return blocks


def small():
    writer = gguf.GGUFWriter(HERE / "small.gguf", "llama")
    writer.add_uint8("test.u8", 200)
    writer.add_int8("test.i8", -100)
    writer.add_uint16("test.u16", 60_000)
    writer.add_int16("test.i16", -30_000)
    writer.add_uint32("test.u32", 4_000_000_000)
    writer.add_int32("test.i32", -2_000_000_000)
    writer.add_uint64("test.u64", 2**64 - 1)
    writer.add_int64("test.i64", -(2**63))
    writer.add_float32("test.f32", 0.1)
    writer.add_float64("test.f64", 0.1)
    writer.add_bool("test.bool", True)
    writer.add_string("test.string", "naïve 日本")
    writer.add_array("test.nested", [[1, 2], [3]])
    writer.add_custom_alignment(64)
    writer.add_token_list(["<s>", "</s>", "a", "b", "▁c", "日"])
    writer.add_token_scores([0.0, 0.0, -1.0, -2.5, -3.0, -4.0])
    writer.add_token_types([3, 3, 1, 1, 1, 1])
    writer.add_bos_token_id(0)
    writer.add_eos_token_id(1)
    writer.add_eot_token_id(3)
    writer.add_chat_template([{"name": "default", "template": "{{ messages }}"}, {"name": "tool_use", "template": "tools"}])

    for name, kind, shape in [
        ("token_embd.weight", T.F32, (6, 32)),
        ("blk.0.attn_q.weight", T.F16, (3, 32)),
        ("blk.0.attn_k.weight", T.BF16, (2, 5)),
        ("blk.0.attn_v.weight", T.Q8_0, (3, 64)),
        ("blk.0.ffn_up.weight", T.Q4_0, (2, 32)),
        ("blk.0.ffn_gate.weight", T.Q5_1, (2, 2, 32)),
        ("blk.0.attn_norm.weight", T.F32, (33,)),
    ]:
        data = gguf.quants.quantize(random(*shape), kind)
        writer.add_tensor(name, data, raw_dtype=None if kind in (T.F32, T.F16) else kind)
        keep("small.gguf", name, kind.name, shape, gguf.quants.dequantize(data, kind))
    data = q4_k(2)
    writer.add_tensor("blk.0.ffn_down.weight", data, raw_dtype=T.Q4_K)
    keep("small.gguf", "blk.0.ffn_down.weight", "Q4_K", (2, 256), gguf.quants.dequantize(data, T.Q4_K))
    writer.add_tensor("test.integers", np.arange(4, dtype=np.int32))
    write(writer)


def split():
    writer = gguf.GGUFWriter(HERE / "split.gguf", "qwen3", split_max_tensors=2)
    writer.add_block_count(5)
    for i in range(5):
        data = random(2, 8)
        writer.add_tensor(f"blk.{i}.weight", data)
        keep("split-00001-of-00003.gguf", f"blk.{i}.weight", "F32", data.shape, data)
    write(writer)


def write(writer):
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def tensor(file, name, kind, shape):
    """A tensor's type and data for `save`, and its share of `values.f32`."""
    data = random(*shape)
    if kind == "F16":
        data = data.astype(np.float16)
        keep(file, name, kind, shape, data)
        return "float16", data
    if kind == "BF16":
        stored = (data.view(np.uint32) >> 16).astype(np.uint16)
        keep(file, name, kind, shape, (stored.astype(np.uint32) << 16).view(np.float32))
        return "bfloat16", stored
    keep(file, name, kind, shape, data)
    return "float32", data


def save(path, tensors):
    specs = {
        name: safetensors.TensorSpec(dtype=kind, shape=data.shape, data_ptr=data.ctypes.data, data_len=data.nbytes)
        for name, (kind, data) in tensors.items()
    }
    path.write_bytes(safetensors.serialize(specs, {"format": "pt"}))


def folders():
    single = HERE / "hf-single"
    single.mkdir()
    tensors = {
        name: tensor("hf-single", name, kind, shape)
        for name, kind, shape in [
            ("model.embed_tokens.weight", "F32", (6, 8)),
            ("model.layers.0.self_attn.q_proj.weight", "F16", (3, 8)),
            ("model.layers.0.self_attn.k_proj.weight", "BF16", (2, 5)),
        ]
    }
    tensors["test.integers"] = ("int64", np.arange(2))
    save(single / "model.safetensors", tensors)
    (single / "config.json").write_text(json.dumps({"model_type": "llama", "eos_token_id": 1}))

    sharded = HERE / "hf-sharded"
    sharded.mkdir()
    weight_map = {}
    for no in (1, 2):
        file = f"model-{no:05}-of-00002.safetensors"
        tensors = {f"layers.{no}.{x}": tensor("hf-sharded", f"layers.{no}.{x}", "F32", (2, 3)) for x in "ab"}
        save(sharded / file, tensors)
        weight_map.update(dict.fromkeys(tensors, file))
    index = {"metadata": {"total_size": 96}, "weight_map": weight_map}
    (sharded / "model.safetensors.index.json").write_text(json.dumps(index))
    (sharded / "config.json").write_text(json.dumps({"model_type": "qwen3"}))


for old in [*HERE.glob("*.gguf"), *HERE.glob("hf-*")]:
    shutil.rmtree(old) if old.is_dir() else old.unlink()
small()
split()
folders()
(HERE / "tensors.json").write_text(json.dumps(listed, indent=1) + "\n")
(HERE / "values.f32").write_bytes(b"".join(values))
