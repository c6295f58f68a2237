#!/usr/bin/env python3
"""OpenVINO GenAI's speed on a GGUF file, by llama-bench's arguments and in its JSON: a peer for `edgeling bench --against`.

usage: openvino_bench.py -m FILE -p TOKENS -n TOKENS -t THREADS [-r RUNS] [-o json]

A prompt's rate counts the time to the first token; a generation's the time of each further one, behind a prompt of 16 tokens.
Needs `pip install openvino-genai`.
"""

import argparse
import json
import random
from statistics import mean

import numpy as np
import openvino
import openvino_genai


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("-m", dest="model", required=True)
    parser.add_argument("-p", dest="prompt", type=int, default=512)
    parser.add_argument("-n", dest="generate", type=int, default=128)
    parser.add_argument("-t", dest="threads", type=int, default=1)
    parser.add_argument("-r", dest="runs", type=int, default=1)
    parser.add_argument("-o", dest="output", choices=["json"], default="json")
    args = parser.parse_args()
    pipeline = openvino_genai.LLMPipeline(args.model, "CPU", INFERENCE_NUM_THREADS=args.threads)
    config = openvino_genai.GenerationConfig(ignore_eos=True, do_sample=False, apply_chat_template=False)

    def run(prompt: int, generate: int) -> openvino_genai.PerfMetrics:
        config.max_new_tokens = config.min_new_tokens = generate
        # Another prompt each time, so that no cache of prefixes helps.
        ids = np.array([[random.randrange(100, 10000) for _ in range(prompt)]], dtype=np.int64)
        return pipeline.generate(openvino.Tensor(ids), config).perf_metrics

    rows = []
    if args.prompt:
        run(args.prompt, 1)
        rates = [args.prompt / run(args.prompt, 1).get_ttft().mean * 1000 for _ in range(args.runs)]
        rows.append({"n_prompt": args.prompt, "n_gen": 0, "avg_ts": mean(rates)})
    if args.generate:
        run(16, 8)
        rates = [1000 / run(16, args.generate).get_tpot().mean for _ in range(args.runs)]
        rows.append({"n_prompt": 0, "n_gen": args.generate, "avg_ts": mean(rates)})
    version = openvino_genai.get_version()
    print(json.dumps([row | {"build_commit": version} for row in rows]))


main()
