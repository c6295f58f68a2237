#!/usr/bin/env python3
"""The first inputs of the corpora, from the test data of the repository. Needs: pip install torch

usage: seeds.py            writes to corpus/ beside it; what fuzzing found there stays
"""

import io
import json
import random
import struct
import tarfile
import zipfile
from collections import OrderedDict
from hashlib import sha256
from pathlib import Path

import torch

HERE = Path(__file__).parent
REPO = HERE.parent


def put(target: str, name: str, content: bytes | str) -> None:
    folder = HERE / "corpus" / target
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(content.encode() if isinstance(content, str) else content)


def gguf() -> None:
    for path in sorted((REPO / "crates/formats/tests/data").glob("*.gguf")):
        put("gguf", path.stem, path.read_bytes())
    small = (REPO / "crates/formats/tests/data/small.gguf").read_bytes()
    put("gguf", "version-2", small[:4] + struct.pack("<I", 2) + small[8:])
    put("gguf", "big-endian", small[:4] + struct.pack(">I", 3) + small[8:])
    put("gguf", "counts", small[:8] + struct.pack("<QQ", 1 << 40, 1 << 60))
    put("gguf", "empty", small[:8] + bytes(24))


def imatrix() -> None:
    gguf, legacy = ((REPO / f"tests/data/imatrix/llama.{form}").read_bytes() for form in ("gguf", "dat"))
    put("imatrix", "gguf", gguf)
    put("imatrix", "legacy", legacy)
    # Without the number of pieces and the text's name, and with half of a name.
    end = len(legacy) - 4 - 4 - len("text.txt")
    put("imatrix", "legacy-old", legacy[:end])
    put("imatrix", "legacy-cut", legacy[: end + 11])
    entry = struct.pack("<i", 5) + b"blk.0" + struct.pack("<ii4f", 3, 4, 1, 2, 3, 4)
    put("imatrix", "legacy-twice", struct.pack("<i", 2) + entry + entry)
    put("imatrix", "legacy-numbers", struct.pack("<i", 1) + struct.pack("<i", 1) + b"a" + struct.pack("<ii2f", -1, 2, float("nan"), -1.0))
    for name, number in {"negative": -1, "huge": 2**31 - 1, "zero": 0}.items():
        put("imatrix", f"legacy-count-{name}", struct.pack("<i", number) + entry)
        put("imatrix", f"legacy-name-{name}", struct.pack("<ii", 1, number) + entry)
        put("imatrix", f"legacy-values-{name}", struct.pack("<i", 1) + entry[:13] + struct.pack("<i", number) + entry[17:])
    # One of a pair under another name, a pair of another type.
    put("imatrix", "gguf-alone", gguf.replace(b".counts", b".county", 1))
    put("imatrix", "gguf-model", gguf.replace(b"imatrix", b"modelix", 1))


def quant_blocks() -> None:
    # A type's place among all, and bytes for a few of its blocks. The affine ones come last, nine for each number of bits.
    for kind in [*range(29), *range(29, 29 + 54, 9)]:
        put("quant_blocks", f"type-{kind}", bytes([kind]) + random.Random(kind).randbytes(700))


def safetensors() -> None:
    data = REPO / "crates/formats/tests/data"
    put("safetensors", "single", (data / "hf-single/model.safetensors").read_bytes())
    put("safetensors", "shard", (data / "hf-sharded/model-00001-of-00002.safetensors").read_bytes())
    # A real header without its data: every tensor lies outside the file.
    whole = (REPO / "tests/data/checkpoints/qwen3/model.safetensors").read_bytes()
    put("safetensors", "cut", whole[: 8 + struct.unpack_from("<Q", whole)[0]])
    for name, header in {
        "overflow": {"a": {"dtype": "U8", "shape": [2**63, 4], "data_offsets": [2**64 - 2, 2**64 - 1]}},
        "reversed": {"a": {"dtype": "U8", "shape": [4], "data_offsets": [8, 4]}},
        "scalar": {"__metadata__": {"format": "pt"}, "a": {"dtype": "I64", "shape": [], "data_offsets": [0, 8]}},
    }.items():
        text = json.dumps(header).encode()
        put("safetensors", name, struct.pack("<Q", len(text)) + text + bytes(8))


def shrink(path: Path) -> bytes:
    """A tokenizer with a small part of its vocabulary, which still agrees with itself."""
    file = json.loads(path.read_bytes())
    model = file["model"]
    if isinstance(model["vocab"], list):
        model["vocab"] = model["vocab"][:60]
    else:
        merges = model["merges"][:12]
        halves = [m.split(" ") if isinstance(m, str) else m for m in merges]
        needed = {part for pair in halves for part in (*pair, "".join(pair))}
        tokens = [t for t in model["vocab"] if len(t) <= 1 or t in needed]
        kept = sorted(tokens, key=model["vocab"].get)
        kept = [t for at, t in enumerate(kept) if t in needed or at < 60]
        model["vocab"] = {t: id for id, t in enumerate(kept)}
        model["merges"] = merges
    size = len(model["vocab"])
    for token in file["added_tokens"]:
        if token["content"] in model["vocab"]:
            token["id"] = model["vocab"][token["content"]]
        else:
            token["id"], size = size, size + 1
    ids = {token["content"]: token["id"] for token in file["added_tokens"]}
    for text, special in ((file.get("post_processor") or {}).get("special_tokens") or {}).items():
        special["ids"] = [ids.get(text, 0)]
    return json.dumps(file, ensure_ascii=False, separators=(",", ":")).encode()


def tokenizer_json() -> None:
    text = "\0 Straße  naïve 12345\n\n<|im_start|>x".encode()
    for path in sorted((REPO / "crates/model/tests/data/tokenizer/small").glob("*.json")):
        if not path.name.endswith(".gguf.json"):
            put("tokenizer_json", path.stem, shrink(path) + text)
    put("tokenizer_json", "whole", (REPO / "tests/data/checkpoints/llama/tokenizer.json").read_bytes())


def chat_template() -> None:
    features = (REPO / "crates/model/tests/data/template/features.jinja").read_text()
    put("chat_template", "features", features)
    config = json.loads((REPO / "tests/data/checkpoints/llama/tokenizer_config.json").read_text())
    put("chat_template", "roles", config["chat_template"])
    for name, source in {
        "loops": "{% for a in range(99) %}{% for b in range(a) recursive %}{{ loop.index ~ loop(range(0)) }}{% endfor %}{% endfor %}",
        "blocks": "{% block a %}{{ self.a is defined }}{% endblock %}{% set x %}a{{ x }}{% endset %}{% filter upper %}{{ x }}{% endfilter %}",
        "calls": "{% macro m(a, b=[1]) %}{{ caller(a) }}{% endmacro %}{% call(x) m('s') %}{{ x }}{% endcall %}{% with y = 2 %}{{ y }}{% endwith %}",
        "filters": "{{ messages | groupby('role') | list }}{{ [3, 1] | sort(reverse=true) | batch(2, 'x') | list }}{{ {'a': 1} | dictsort }}{{ 'a b' | title | indent(2) | urlencode }}{{ '%5.1f' | format(2.5) }}",
        "methods": "{{ 'a,b'.split(',', 1) }}{{ 'ab'.replace('a', 'b') }}{{ ' x '.center(9).strip() }}{{ {'k': 1}.items() | list }}{{ 'x'.join(['a', 'b']) }}{{ 'abc'.find('c') }}{{ '{:>4}'.format(7) }}",
    }.items():
        put("chat_template", name, source)


def pytorch() -> None:
    for path in sorted((REPO / "tests/data/pytorch/hostile").glob("*.bin")):
        put("pytorch", path.stem, path.read_bytes())
    state = OrderedDict(a=torch.ones(2, 3), b=torch.zeros(4, dtype=torch.bfloat16), c=torch.tensor(1.0).half())
    state["d"] = torch.nn.Parameter(state["a"])
    state._metadata = OrderedDict({"": {"version": 1}})
    saved = io.BytesIO()
    torch.save(state, saved)
    put("pytorch", "state-dict", saved.getvalue())
    with zipfile.ZipFile(saved) as archive:
        name = next(name for name in archive.namelist() if name.endswith("/data.pkl"))
        put("pytorch", "pickle", archive.read(name))


def npz() -> None:
    def array(descr: str, shape: str, data: int) -> bytes:
        header = f"{{'descr': '{descr}', 'fortran_order': False, 'shape': {shape}, }}\n".encode()
        return b"\x93NUMPY\x01\0" + struct.pack("<H", len(header)) + header + bytes(data)

    put("npz", "matrix", array("<f2", "(2, 3)", 12))
    put("npz", "vector", array("<u4", "(4,)", 16))
    put("npz", "overflow", array("<f4", f"({2**63}, {2**63})", 8))
    put("npz", "version-2", b"\x93NUMPY\x02\0" + struct.pack("<I", 2**31) + b"{}")
    saved = io.BytesIO()
    with zipfile.ZipFile(saved, "w") as archive:
        archive.writestr("a.weight.npy", array("<u4", "(1, 4)", 16))
        archive.writestr("a.scales.npy", array("<f2", "(1, 1)", 2))
    put("npz", "archive", saved.getvalue())


def bundle() -> None:
    layer = b"GGUF" + bytes(60)
    kind = "application/vnd.oci.image"

    def blob(media: str, digest: str, size: int, **annotations: str) -> dict:
        return {"mediaType": media, "digest": digest, "size": size, "annotations": annotations}

    config = json.dumps({"descriptor": {"name": "tiny"}, "config": {"format": "gguf"}, "modelfs": {"type": "layers"}})
    path = {"org.cncf.model.filepath": "tiny.gguf"}
    manifest = {
        "schemaVersion": 2,
        "mediaType": f"{kind}.manifest.v1+json",
        "artifactType": "application/vnd.cncf.model.manifest.v1+json",
        "config": blob("application/vnd.cncf.model.config.v1+json", "@2", len(config)),
        "layers": [blob("application/vnd.cncf.model.weight.v1.raw", "@3", len(layer), **path)],
    }

    def index(digest: str, size: int) -> str:
        name = {"org.opencontainers.image.ref.name": "tiny:q8_0"}
        return json.dumps({"schemaVersion": 2, "manifests": [blob(manifest["mediaType"], digest, size, **name)]})

    def documents(manifest: dict) -> bytes:
        # The layer has no zero bytes here, as these stand between the documents.
        text = json.dumps(manifest)
        size = len(text.replace("@2", "sha256:" + 64 * "0").replace("@3", "sha256:" + 64 * "0"))
        return b"\0".join([index("@1", size).encode(), text.encode(), config.encode(), layer.replace(b"\0", b".")])

    put("bundle", "documents", documents(manifest))
    for name, file in {"escaping": "../../m", "absolute": "/m", "nested": "a/b/c.txt", "device": "aux"}.items():
        other = json.loads(json.dumps(manifest))
        other["layers"] *= 2
        other["layers"].append(other["layers"][0] | {"annotations": {"org.cncf.model.filepath": file}})
        put("bundle", name, documents(other))

    def archive(members: dict[str, bytes]) -> bytes:
        out = io.BytesIO()
        with tarfile.open(fileobj=out, mode="w") as tar:
            for member, content in members.items():
                info = tarfile.TarInfo(member)
                info.size = len(content)
                tar.addfile(info, io.BytesIO(content))
        # One block of zeros less than half of Python's padding is still an end.
        return out.getvalue().rstrip(b"\0") + bytes(1024)

    digest = lambda content: "sha256:" + sha256(content).hexdigest()
    text = json.dumps(manifest).replace("@2", digest(config.encode())).replace("@3", digest(layer)).encode()
    blobs = {"blobs/sha256/" + digest(b)[7:]: b for b in (text, config.encode(), layer)}
    head = {"oci-layout": b'{"imageLayoutVersion":"1.0.0"}', "index.json": index(digest(text), len(text)).encode()}
    put("bundle", "archive", archive(head | blobs))
    put("bundle", "outside", archive(head | {"../evil": b"x"}))
    put("bundle", "links", archive(head)[:-1024] + link() + bytes(1024))


def link() -> bytes:
    info = tarfile.TarInfo("blobs/sha256/" + 64 * "0")
    info.type, info.linkname = tarfile.SYMTYPE, "/etc/passwd"
    return info.tobuf()


if __name__ == "__main__":
    for make in (gguf, imatrix, quant_blocks, safetensors, tokenizer_json, chat_template, pytorch, npz, bundle):
        make()
