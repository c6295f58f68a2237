"""Small models as mlx-lm writes them, quantized in every way, and the logits that it computes in float32.

usage: mlx_folders.py tests/data/checkpoints tests/data/mlx WIDE      (what tiny_checkpoints.py --wide 2 makes of MIXTURES)
"""

import json
import shutil
import sys
import tempfile
from pathlib import Path

import mlx.core as mx
import mlx.nn as nn
import numpy as np
from mlx.utils import tree_flatten, tree_map
from mlx_lm import convert
from mlx_lm.models import llama, qwen3
from mlx_lm.utils import load_model, save_config, save_model

mx.set_default_device(mx.cpu)
TOKENS = [104, 40, 155, 110, 56, 43, 228, 60, 84, 90, 192, 53, 134, 67, 128, 2]

CONFIG = {
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "rms_norm_eps": 1e-5,
    "vocab_size": 264,
    "max_position_embeddings": 256,
    "rope_theta": 10000.0,
    "bos_token_id": 260,
    "eos_token_id": 261,
    "tie_word_embeddings": False,
}


def affine(bits: int, group: int) -> dict:
    return {"group_size": group, "bits": bits, "mode": "affine"}


MXFP4 = {"group_size": 32, "bits": 4, "mode": "mxfp4"}
MXFP8 = {"group_size": 32, "bits": 8, "mode": "mxfp8"}
NVFP4 = {"group_size": 16, "bits": 4, "mode": "nvfp4"}
PARTS = [f"self_attn.{part}_proj" for part in "qkvo"] + [f"mlp.{part}_proj" for part in ("gate", "up", "down")]


def by_layer(*layers: list) -> dict:
    """The layouts of matrices by name; None leaves a matrix as it is."""
    return {f"model.layers.{i}.{part}": layout for i, layer in enumerate(layers) for part, layout in zip(PARTS, layer)}


# Name: module, model type and class, type of what is not quantized, layout of all, and of some by name.
CASES = {
    "llama-f16": (
        llama, "llama", "LlamaForCausalLM", mx.float16, affine(4, 64),
        by_layer(
            [affine(2, 32), affine(3, 32), affine(4, 32), affine(5, 32), affine(6, 32), affine(8, 32), affine(4, 128)],
            [affine(2, 64), affine(3, 64), affine(8, 64), affine(5, 64), affine(6, 64), None, affine(8, 128)],
        ),
    ),
    "qwen3-bf16": (
        qwen3, "qwen3", "Qwen3ForCausalLM", mx.bfloat16, affine(8, 64),
        {
            **by_layer(
                [MXFP4, MXFP8, NVFP4, MXFP4, affine(3, 64), affine(4, 32), affine(2, 128)],
                [affine(4, 64), affine(5, 64), affine(6, 64), None, NVFP4, MXFP8, affine(6, 128)],
            ),
            "lm_head": MXFP8,
        },
    ),
    # As the first folders were: one archive, one layout.
    "llama-npz": (llama, "llama", "LlamaForCausalLM", mx.float16, affine(4, 32), {}),
}


# Name: checkpoint, mode and bits and group, and what to spell as mlx-lm knows it.
MIXTURES = {
    "lfm2moe-affine4": ("lfm2moe", ("affine", 4, 32), {}),
    "qwen35moe-mxfp4": ("qwen35moe", ("mxfp4", 4, 32), {"model_type": "qwen3_5_moe", "architectures": ["Qwen3_5MoeForConditionalGeneration"]}),
}


def copy_tokenizer(tokenizers: Path, folder: Path) -> None:
    for file in ("tokenizer.json", "tokenizer_config.json", "generation_config.json"):
        shutil.copy(tokenizers / "llama" / file, folder)


def convert_mixture(name: str, wide: Path, tokenizers: Path, folder: Path) -> None:
    case, (mode, bits, group), spelling = MIXTURES[name]
    shutil.rmtree(folder, ignore_errors=True)
    with tempfile.TemporaryDirectory() as copy:
        copy = Path(copy) / case
        shutil.copytree(wide / case, copy)
        config = json.loads((copy / "config.json").read_text())
        (copy / "config.json").write_text(json.dumps(config | spelling))
        convert(str(copy), str(folder), quantize=True, q_mode=mode, q_bits=bits, q_group_size=group)
    (folder / "README.md").unlink(missing_ok=True)
    (folder / "chat_template.jinja").unlink(missing_ok=True)
    copy_tokenizer(tokenizers, folder)
    model, _ = load_model(folder)
    compute(name, model, folder)


def compute(name: str, model: nn.Module, folder: Path) -> None:
    wide = lambda v: v.astype(mx.float32) if mx.issubdtype(v.dtype, mx.floating) else v
    model.update(tree_map(wide, model.parameters()))
    (folder / "tokens.json").write_text(json.dumps(TOKENS))
    logits = model(mx.array([TOKENS]))[0].astype(mx.float32)
    np.save(folder / "logits.npy", np.array(logits))
    print(name, f"logits from {logits.min().item():.2f} to {logits.max().item():.2f}")


def make(name: str, tokenizers: Path, folder: Path) -> None:
    module, model_type, architecture, dtype, layout, layouts = CASES[name]
    mx.random.seed(7)
    config = {**CONFIG, "model_type": model_type, "architectures": [architecture]}
    if name.endswith("npz"):
        config |= {"num_hidden_layers": 1, "tie_word_embeddings": True}
    model = module.Model(module.ModelArgs.from_dict(config))

    def noise(v: mx.array) -> mx.array:
        normal = mx.random.normal(v.shape)
        return (1 + 0.2 * normal if v.ndim == 1 else normal * v.shape[-1] ** -0.5).astype(dtype)

    model.update(tree_map(noise, model.parameters()))

    config["quantization"] = dict(layout)
    def chosen(path: str, part: nn.Module):
        if not hasattr(part, "to_quantized"):
            return False
        own = layouts.get(path, layout)
        if own is None:
            return False
        if own != layout:
            config["quantization"][path] = own
        return own
    nn.quantize(model, class_predicate=chosen)

    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    copy_tokenizer(tokenizers, folder)
    if name.endswith("npz"):
        mx.savez(str(folder / "weights.npz"), **dict(tree_flatten(model.parameters())))
    else:
        save_model(folder, model)
    config["torch_dtype"] = str(dtype).removeprefix("mlx.core.")
    save_config(config, folder / "config.json")
    if name.endswith("npz"):
        # The copy came later.
        settings = json.loads((folder / "config.json").read_text())
        del settings["quantization_config"]
        del settings["quantization"]["mode"]
        (folder / "config.json").write_text(json.dumps(settings, indent=4))
    else:
        model, _ = load_model(folder)

    compute(name, model, folder)


for case in CASES:
    make(case, Path(sys.argv[1]), Path(sys.argv[2]) / case)
for case in MIXTURES:
    convert_mixture(case, Path(sys.argv[3]), Path(sys.argv[1]), Path(sys.argv[2]) / case)
