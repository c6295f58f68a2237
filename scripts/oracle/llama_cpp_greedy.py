#!/usr/bin/env python3
"""Greedy answers of SmolLM2-135M-Instruct (F16) from llama.cpp to ten prompts, as token ids.

usage: llama_cpp_greedy.py smollm2-135m-f16.gguf OUT.json

Each prompt is one user message in the file's own chat template, which brings the default system message; no token is added
to the template's text. Up to 32 tokens are generated, each the argmax of the logits, one at a time after the prompt in one
batch; an end-of-generation token is kept as the last. Beside the ids stand:
- `text`: the bytes of the generated tokens, special tokens included;
- `margins`: for each generated token, its logit less the next best one. Implementations that round otherwise may part where
  a margin is small;
- `tokens_f32_kv`: what llama.cpp itself generates with a float32 KV cache and unfused attention, if that differs.
"""

import sys
from pathlib import Path

import jinja2
import numpy as np

from llama_cpp_model import Model
from llama_cpp_perplexity import COMMIT, dump

LIMIT = 32
PROMPTS = [
    "Why is the sky blue?",
    "Write a short poem about the sea.",
    "What is the capital of France, and what is it known for?",
    "Explain photosynthesis to a ten-year-old child.",
    "Write a Python function that returns the sum of a list of numbers.",
    "List three healthy breakfast ideas.",
    "Translate into French: Good morning, how are you?",
    "What is 17 + 25?",
    "Who wrote Romeo and Juliet, and when?",
    "Summarize in one sentence: The quick brown fox jumps over the lazy dog, and the dog sleeps on.",
]


def generate(model: Model, prompt: list[int]) -> tuple[list[int], list[float]]:
    """Generated ids, and by how much each one's logit exceeds the second best."""
    model.clear()
    tokens, margins, fed = [], [], prompt
    while len(tokens) < LIMIT and not (tokens and model.ends_generation(tokens[-1])):
        logits = model.append(fed)[-1]
        second, best = np.partition(logits, -2)[-2:]
        tokens.append(int(logits.argmax()))
        margins.append(round(float(best - second), 4))
        fed = tokens[-1:]
    return tokens, margins


def main() -> None:
    path, out = Path(sys.argv[1]), Path(sys.argv[2])
    usual, exact = Model(path, context=512), Model(path, context=512, kv="f32")
    template = jinja2.Environment().from_string(usual.metadata("tokenizer.chat_template"))
    answers = []
    for prompt in PROMPTS:
        text = template.render(messages=[{"role": "user", "content": prompt}], add_generation_prompt=True)
        ids = usual.tokenize(text)
        tokens, margins = generate(usual, ids)
        answer = {
            "prompt": prompt,
            "templated": text,
            "prompt_tokens": ids,
            "tokens": tokens,
            "text": b"".join(map(usual.piece, tokens)).decode(errors="replace"),
            "margins": margins,
        }
        tokens_f32, _ = generate(exact, ids)
        if tokens_f32 != tokens:
            answer["tokens_f32_kv"] = tokens_f32
        answers.append(answer)
        print(f"{prompt!r}: smallest margin {min(margins)}, same with f32 KV: {tokens == tokens_f32}")
    head = {"tool": "llama.cpp", "commit": COMMIT, "model": "SmolLM2-135M-Instruct F16", "max_tokens": LIMIT}
    out.write_text(dump(head | {"answers": answers}))


if __name__ == "__main__":
    main()
