"""The byte-level BPE vocabulary of the tiny checkpoints: 256 bytes, four merges, four special tokens."""

import json
from pathlib import Path


def byte_alphabet() -> list[str]:
    """GPT-2's printable stand-in for each byte value 0..=255."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = iter(range(0x100, 0x200))
    return [chr(b) if b in printable else chr(next(others)) for b in range(256)]


MERGES = [("t", "h"), ("th", "e"), ("Ġ", "the"), ("i", "n")]
SPECIAL = ["<|bos|>", "<|eos|>", "<|user|>", "<|assistant|>"]
TOKENS = byte_alphabet() + [a + b for a, b in MERGES] + SPECIAL
VOCAB_SIZE = len(TOKENS)
BOS = TOKENS.index("<|bos|>")
EOS = TOKENS.index("<|eos|>")
CHAT_TEMPLATE = (
    "{% for m in messages %}<|{{ m['role'] }}|>{{ m['content'] }}{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)


def write_tokenizer(folder: Path) -> None:
    """tokenizer.json and tokenizer_config.json, as transformers writes them for a GPT-2 style tokenizer."""
    byte_level = dict(type="ByteLevel", add_prefix_space=False, trim_offsets=True, use_regex=True)
    flags = dict(single_word=False, lstrip=False, rstrip=False, normalized=False, special=True)
    tokenizer = {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [dict(id=TOKENS.index(t), content=t, **flags) for t in SPECIAL],
        "normalizer": None,
        "pre_tokenizer": byte_level,
        "post_processor": None,
        "decoder": byte_level,
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": None,
            "continuing_subword_prefix": None,
            "end_of_word_suffix": None,
            "fuse_unk": False,
            "byte_fallback": False,
            "ignore_merges": False,
            "vocab": {t: i for i, t in enumerate(TOKENS) if t not in SPECIAL},
            "merges": [list(m) for m in MERGES],
        },
    }
    config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": TOKENS[BOS],
        "eos_token": TOKENS[EOS],
        "model_max_length": 256,
        "clean_up_tokenization_spaces": False,
        "chat_template": CHAT_TEMPLATE,
    }
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer, ensure_ascii=False) + "\n")
    (folder / "tokenizer_config.json").write_text(json.dumps(config, indent=2) + "\n")
