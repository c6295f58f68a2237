#!/usr/bin/env python3
"""What `edgeling convert` writes, against transformers, the tokenizers library and llama.cpp's converter.

usage: convert_check.py EDGELING CHECKPOINTS_FOLDER LLAMA_CPP [CASE | MODEL.gguf …]

For each tiny checkpoint, or for those that are named: the GGUF file has the tensors and the keys that llama.cpp's converter gives (extra keys are
listed); the round trip gives the same tensors; transformers loads the folder made from the GGUF file and computes the
logits in logits.npy, and so does llama.cpp from the GGUF file; the tokenizers library gives the ids that edgeling gives for the source. For each further GGUF file
in F32, F16 or BF16: the same of the folder made from it, its logits compared with edgeling's for the file itself.
"""

import json
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import torch
from gguf import GGUFReader, GGUFValueType, GGUFWriter
from safetensors.torch import load_file
from tokenizers import Tokenizer
from transformers import AutoModelForCausalLM, AutoTokenizer
from transformers.integrations.bitnet import WeightQuant, unpack_weights

from llama_cpp_convert import reference_gguf
from llama_cpp_model import Model

TEXTS = [
    "Hello, world! It's 12345.67 o'clock; WE'LL see.",
    "  leading and   inner spaces\n\n \t tabs  ",
    "你好，世界。日本語のテキスト नमस्ते १२३ مرحبا สวัสดี 👩‍👩‍👧‍👦 café cafe\u0301",
    "def f(x):\n    return x**2  # 100%\n",
    "<|im_start|>user\nhi<|im_end|> <|bos|> <s> </s>",
]
# Keys that only one of the converters writes, or writes otherwise, and that change nothing.
IGNORED = {"general.name", "general.file_type", "general.basename", "general.finetune"}
# llama.cpp knows no windows in its llama, no scalar of queries but the head size in its gemma3, and no bounds in its olmoe.
UNKNOWN_TO_LLAMA_CPP = {"mistral", "ministral", "gemma3-vision", "bitnet", "olmoe-clip"}
# GGUF files have no keys for it.
REFUSED = {"qwen3moe-stacked"}
# llama.cpp knows them under another name, and in floats.
TERNARY = {"bitnet-online", "bitnet-packed"}
# Their experts, or their gates and ups, come back under the names and in the tensors of published files, or their ternary
# weights packed.
RENAMED = {"granitemoe-stacked", "granite4", "bitnet-online"}
# What the reference's converter does not know, or describes as if there were layers of Mamba.
WITHOUT_REFERENCE = TERNARY | {"gemma4-unified", "qwen2", "ministral", "bitnet", "olmoe-clip", "granitemoe-stacked", "granite4", "granite4-nope", "granite4-experts"}
good = True


def check(label: str, passed: bool, note: object = "") -> None:
    global good
    good &= passed
    print(f"{'ok  ' if passed else 'FAIL'} {label} {note}")


def edgeling(*args: object) -> str:
    return subprocess.run([sys.argv[1], *map(str, args)], check=True, capture_output=True, text=True).stdout


def tensors(folder: Path) -> dict[str, torch.Tensor]:
    return {k: v for f in sorted(folder.glob("*.safetensors")) for k, v in load_file(f).items()}


def language_model(tensors: dict) -> dict:
    """The tensors of the language model alone, without the prefix that they have beside others."""
    for prefix in ["model.language_model.", "language_model.model."]:
        if nested := {"model." + k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}:
            return nested | {"lm_head.weight": v for k, v in tensors.items() if k.endswith("lm_head.weight")}
    return tensors


def same_tensors(a: dict, b: dict) -> bool:
    return a.keys() == b.keys() and all(a[k].dtype == b[k].dtype and torch.equal(a[k], b[k]) for k in a)


def gguf(path: Path) -> tuple[dict, dict]:
    reader = GGUFReader(path)
    keys = {k: f.contents() for k, f in reader.fields.items() if not k.startswith("GGUF.")}
    return keys, {t.name: (t.tensor_type.name, t.shape.tolist(), t.data.tobytes()) for t in reader.tensors}


def near(a: tuple, b: tuple) -> bool:
    """Whether two tensors are equal but for the last bit, by which exponentials differ."""
    bits = [np.frombuffer(t[2], np.int32).astype(np.int64) for t in (a, b)]
    return a[:2] == b[:2] == ("F32", b[1]) and abs(bits[0] - bits[1]).max() <= 1


def transformers_logits(folder: Path, ids: list[int]) -> np.ndarray:
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager").eval()
    torch.nn.Module.float(model)  # Quantized layers keep their type otherwise.
    with torch.no_grad():
        return model(torch.tensor([ids])).logits[0].numpy()


def edgeling_logits(model: Path, ids: list[int], tmp: Path) -> np.ndarray:
    out = tmp / "logits.npy"
    edgeling("logits", model, "--tokens", ",".join(map(str, ids)), "--kv", "f32", "--out", out)
    return np.load(out)


def check_tokenizer(label: str, folder: Path, source: Path) -> None:
    """Ids by the tokenizers library, and by transformers, whose classes for some families replace parts of the file: so
    those are compared with what it makes of the source, where that is a folder which it reads by the same class. It has
    one for qwen3_5, but none for qwen3_5_text."""
    plain, auto = Tokenizer.from_file(str(folder / "tokenizer.json")), AutoTokenizer.from_pretrained(folder)
    source_auto = AutoTokenizer.from_pretrained(source) if source.is_dir() else None
    by_source = type(source_auto) is type(auto)
    for text in TEXTS:
        ids = json.loads(edgeling("tokenize", source, text, "--json"))["tokens"]
        expected = source_auto(text)["input_ids"] if by_source else ids
        check(f"{label}: ids of {text[:12]!r}", plain.encode(text).ids == ids and auto(text)["input_ids"] == expected)


def check_llama_cpp(name: str, case: Path, ids: list[int], expected: np.ndarray, tmp: Path) -> None:
    """llama.cpp on the file that edgeling makes, widened to F32, since llama.cpp rounds activations to the weights' type."""
    if name in UNKNOWN_TO_LLAMA_CPP | TERNARY:
        return
    widened = tmp / f"{name}.f32.gguf"
    edgeling("convert", case, "--to", "gguf", "--dtype", "f32", "--out", widened)
    delta = float(np.abs(Model(widened, context=128, kv="f32").append(ids) - expected).max())
    check(f"{name}: llama.cpp on the file", delta <= 2e-2, f"max |Δ| {delta:.1e}")


def check_tiny(case: Path, llama_cpp: Path, tmp: Path) -> None:
    name, original = case.name, tensors(case)
    out, back = tmp / f"{name}.gguf", tmp / f"{name}.hf"
    edgeling("convert", case, "--to", "gguf", "--out", out)
    edgeling("convert", out, "--to", "hf", "--out", back)
    if name not in RENAMED:
        check(f"{name}: folder, file, folder", same_tensors(language_model(original), tensors(back)))
    again = tmp / f"{name}.again.gguf"
    edgeling("convert", back, "--to", "gguf", "--out", again)
    if name not in TERNARY:  # The gguf package lacks a type that they have.
        check(f"{name}: file, folder, file", gguf(out)[1] == gguf(again)[1])
    ids, expected = json.loads((case / "tokens.json").read_text()), np.load(case / "logits.npy")
    delta = float(np.abs(transformers_logits(back, ids) - expected).max())
    check(f"{name}: transformers on the folder", delta <= (1e-5 if name in RENAMED else 0.0), f"max |Δ| {delta:.1e}")
    delta = float(np.abs(edgeling_logits(out, ids, tmp) - expected).max())
    check(f"{name}: edgeling on the file", delta <= 2e-3, f"max |Δ| {delta:.1e}")
    check_tokenizer(name, back, case)
    check_llama_cpp(name, case, ids, expected, tmp)
    if case.name in WITHOUT_REFERENCE or not (case / "model.safetensors").exists():
        return  # The reference's class for qwen2 asks for files that the tiny tokenizer has not; it knows no ministral, and no bitnet with squared ReLU.
    reference = tmp / f"{name}.reference.gguf"
    reference_gguf(llama_cpp, case, reference, guessing=False)
    (keys, data), (own_keys, own_data) = gguf(reference), gguf(out)
    check(f"{name}: tensors of llama.cpp's converter", data.keys() == own_data.keys() and all(
        data[n] == own_data[n] or n.endswith(".ssm_a") and near(data[n], own_data[n]) for n in data))
    wrong = {k: (v, own_keys.get(k)) for k, v in keys.items() if k not in IGNORED and own_keys.get(k) != v}
    check(f"{name}: keys of llama.cpp's converter", not wrong, f"{wrong or ''} more: {sorted(own_keys.keys() - keys.keys())}")


def renamed(path: Path, architecture: str, out: Path) -> Path:
    """The file under the name of another architecture."""
    reader = GGUFReader(path)
    own = reader.fields["general.architecture"].contents()
    writer = GGUFWriter(out, architecture)
    for key, field in reader.fields.items():
        if not key.startswith("GGUF.") and key != "general.architecture":
            sub_type = field.types[-1] if field.types[0] == GGUFValueType.ARRAY else None
            writer.add_key_value(key.replace(f"{own}.", f"{architecture}."), field.contents(), field.types[0], sub_type=sub_type)
    for tensor in reader.tensors:
        writer.add_tensor(tensor.name, tensor.data, raw_dtype=tensor.tensor_type)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return out


def check_ternary(case: Path, tmp: Path) -> None:
    """Beside what all cases give: the file gives the folder's logits bit for bit, and so does the folder made of it, whose
    weights are as transformers rounds them. llama.cpp knows the family by the name of the one before it, whose activation is
    SiLU: so what it computes of the file under that name, and transformers of a folder made of it, is compared with edgeling's."""
    name, out, back = case.name, tmp / f"{case.name}.gguf", tmp / f"{case.name}.hf"
    ids = json.loads((case / "tokens.json").read_text())
    found = edgeling_logits(out, ids, tmp)
    for source, folder in [("folder", case), ("folder made of it", back)]:
        check(f"{name}: edgeling, file and {source}", np.array_equal(edgeling_logits(folder, ids, tmp), found))
    made, original = tensors(back), tensors(case)
    if "weight_scale" not in " ".join(original):
        for key, packed in ((k, v) for k, v in made.items() if v.dtype == torch.uint8):
            rounded, own = WeightQuant.apply(original[key].float()), unpack_weights(packed, torch.float32) * made[key + "_scale"]
            good_values = torch.equal(rounded.sign(), own.sign()) and torch.allclose(rounded, own, rtol=1e-6, atol=0)
            check(f"{name}: {key} as transformers rounds it", good_values)
    floats = tmp / f"{name}.f32.gguf"
    edgeling("convert", case, "--to", "gguf", "--dtype", "f32", "--out", floats)
    # In floats nothing is rounded; else llama.cpp rounds activations by 32 values, and not by whole rows.
    older = renamed(floats, "bitnet", tmp / f"{name}.older.gguf")
    own = edgeling_logits(older, ids, tmp)
    delta = float(np.abs(Model(older, context=128, kv="f32").append(ids) - own).max())
    check(f"{name}: llama.cpp on the file in F32", delta <= 2e-2, f"max |Δ| {delta:.1e}")
    folder = tmp / f"{name}.older.hf"
    edgeling("convert", older, "--to", "hf", "--out", folder)
    delta = float(np.abs(transformers_logits(folder, ids) - own).max())
    check(f"{name}: transformers on the older model's folder", delta <= 2e-3, f"max |Δ| {delta:.1e}")


def check_model(path: Path, tmp: Path) -> None:
    name, folder, back = path.stem, tmp / path.stem, tmp / f"{path.stem}.gguf"
    edgeling("convert", path, "--to", "hf", "--out", folder)
    edgeling("convert", folder, "--to", "gguf", "--out", back)
    check(f"{name}: file, folder, file", gguf(path)[1] == gguf(back)[1])
    check_tokenizer(name, folder, path)
    check_tokenizer(f"{name} and back", folder, back)
    ids = json.loads(edgeling("tokenize", path, "The quick brown fox jumps over the lazy dog. " * 4, "--json"))["tokens"]
    own, theirs = edgeling_logits(path, ids, tmp), transformers_logits(folder, ids)
    # Equal but for the order of sums within a head.
    delta = float(np.abs(own - edgeling_logits(folder, ids, tmp)).max())
    check(f"{name}: edgeling, folder and file", delta <= 1e-4 * np.abs(own).max(), f"max |Δ| {delta:.1e}")
    delta = float(np.abs(own - theirs).max())
    check(f"{name}: transformers on the folder", delta <= 2e-3 * np.abs(own).max(), f"max |Δ| {delta:.1e} of {np.abs(own).max():.1f}")


def main() -> None:
    checkpoints, llama_cpp = Path(sys.argv[2]), Path(sys.argv[3])
    with tempfile.TemporaryDirectory() as tmp:
        models = [argument for argument in sys.argv[4:] if argument.endswith(".gguf")]
        wanted = set(sys.argv[4:]) - set(models)
        for case in sorted(p.parent for p in checkpoints.glob("*/config.json") if p.parent.name not in REFUSED):
            if not wanted or case.name in wanted:
                check_tiny(case, llama_cpp.resolve(), Path(tmp))
                if case.name in TERNARY:
                    check_ternary(case, Path(tmp))
        for model in models:
            check_model(Path(model), Path(tmp))
    sys.exit(not good)


if __name__ == "__main__":
    main()
