"""llama.cpp's converter as a function from a Hugging Face folder to a GGUF file.

The tiny vocabulary is none that the converter knows: it is told the pre-tokenizer, and that every family's vocabulary is
byte-level BPE.
"""

import json
import subprocess
import sys
from pathlib import Path

PATCH = """
import json, sys, transformers; sys.path[:0] = sys.argv[1:3]
import conversion, conversion.base as b, convert_hf_to_gguf as c
b.TextModel.get_vocab_base_pre = lambda self, tokenizer: 'gpt-2'
original = conversion.get_model_class
def model_class(*args, **more):
    found = original(*args, **more)
    found.set_vocab = lambda self: self._set_vocab_gpt2()
    return found
c.get_model_class = conversion.get_model_class = model_class
if json.load(open(sys.argv[3] + '/config.json'))['model_type'] in ['qwen3_5', 'qwen3_5_moe_text']:
    # The family's own class adds tokens to the vocabulary.
    transformers.AutoTokenizer.from_pretrained = transformers.PreTrainedTokenizerFast.from_pretrained
sys.argv = ['convert'] + sys.argv[3:]
c.main()
"""


def reference_gguf(llama_cpp: Path, folder: Path, out: Path, guessing: bool = True) -> None:
    """`llama_cpp` is the source of llama.cpp; matrices keep their type. Layers that guess further tokens go along, if there
    are any and `guessing`."""
    config = json.loads((folder / "config.json").read_text())
    dtype = config.get("dtype") or config["text_config"]["dtype"]
    kind = {"float32": "f32", "float16": "f16", "bfloat16": "bf16"}[dtype]
    knows = config["model_type"].startswith("qwen3_5")
    guessing = guessing and "mtp_num_hidden_layers" in config.get("text_config", {})
    more = ["--no-mtp"] if knows and not guessing else []
    args = [llama_cpp, llama_cpp / "gguf-py", folder, "--outfile", out, "--outtype", kind]
    done = subprocess.run([sys.executable, "-c", PATCH, *map(str, args), *more], capture_output=True, text=True)
    if done.returncode != 0:
        raise SystemExit(f"{folder}: {done.stderr}")
